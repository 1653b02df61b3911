"""What a tax invoice as a PDF costs beside what typst alone takes for the same page: `make bench-documents [N=4000]`.

Makes N invoices of three to thirty lines, no two alike, each twice in turns: by pdf.render(), and by typst from the
same texts. The last line of output is JSON: milliseconds a document, megabytes, and `targets`, which says which of
TARGETS this run met. Memory is the process's, after a tenth of the documents and after all.
"""

import datetime as dt
import json
import sys
import time
from decimal import Decimal

import psutil
import typst

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import pdf
from arcadia_pipelines.documents.content import Buyer, Content, Line, State
from arcadia_pipelines.documents.page import page
from arcadia_pipelines.storage.suppliers import Supplier

TARGETS = {"time_over_typst": ("<=", 2.0), "memory_over_a_tenth": ("<=", 1.1)}
SUPPLIER = Supplier(
    "Arcadia Cloud Pty Ltd", "19642100001", "Sydney NSW 2000", "accounts@arcadia.example", "Arcadia", "000-000",
    "12345678", 14,
)  # fmt: skip


def main(count: int) -> None:
    """Measure with so many invoices."""
    seconds, early = {"ours": 0.0, "alone": 0.0}, 0.0
    compiler = typst.Compiler(root=pdf.TEMPLATE.parent, font_paths=[pdf.FONTS], ignore_system_fonts=True)
    for number in range(1, count + 1):
        content = _content(number)
        inputs = {"page": json.dumps(page(content), ensure_ascii=False), "attached": pdf.e_invoice(content)}
        made = {}
        for whose in ("ours", "alone")[:: 1 if number % 2 else -1]:  # the second finds what the first left in caches
            started = time.perf_counter()
            made[whose] = pdf.render(content) if whose == "ours" else _alone(compiler, inputs)
            seconds[whose] += time.perf_counter() - started
        if made["ours"] != made["alone"]:
            raise SystemExit(f"invoice {number}: typst alone makes another document")
        if number == max(1, count // 10):
            early = _megabytes()
    results = {
        "documents": count,
        "milliseconds": round(1000 * seconds["ours"] / count, 2),
        "typst_alone_milliseconds": round(1000 * seconds["alone"] / count, 2),
        "time_over_typst": round(seconds["ours"] / seconds["alone"], 2),
        "megabytes": round(_megabytes()),
        "memory_over_a_tenth": round(_megabytes() / early, 3),
    }
    met = {name: results[name] <= bound for name, (_, bound) in TARGETS.items()}
    print(json.dumps(results | {"targets": met}))


def _alone(compiler: typst.Compiler, inputs: dict[str, str]) -> object:
    return compiler.compile(
        input=pdf.TEMPLATE, format="pdf", sys_inputs=inputs, pdf_standards=["a-3a", "ua-1"], timestamp=1777593600
    )


def _megabytes() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def _content(number: int) -> Content:
    lines = tuple(line for place in range(1 + number % 10) for line in _deployment(number, place))
    subtotal = sum(line.amount_cents for line in lines)
    gst = (subtotal + 5) // 10
    buyer = Buyer(f"Tenant {number} Pty Ltd", "51824753556", f"{number} Wharf Street\nSydney NSW 2000", None)
    day = dt.date(2026, 5, 1)
    return Content(
        f"00000000-0000-0000-0000-{number:012}", f"INV-202604-{number:05}", f"tenant-{number}", 1, State.ISSUED,
        BillingMonth(dt.date(2026, 4, 1)), day, day + dt.timedelta(14), SUPPLIER, buyer, None, lines, subtotal, gst,
        subtotal + gst,
    )  # fmt: skip


def _deployment(number: int, place: int) -> tuple[Line, ...]:
    hours = 672 + number
    meta = {"used": str(1488 + hours), "included": "1488"}
    rows = (
        ("plan_base", None, "Plan: studio", Decimal(1), "month", Decimal(5000), 5000, {}),
        ("addon", None, "Addon: storage_50gb", Decimal(1), "month", Decimal(750), 750, {}),
        ("overage", "droplet_hours", "Overage: droplet_hours", Decimal(hours), "hour", Decimal(1), hours, meta),
    )
    name = f"web-{number}-{place}"
    return tuple(
        Line(3 * place + n, kind, of, what, name, name, qty, unit, price, Decimal(1), cents, cents // 10, True, said)
        for n, (kind, of, what, qty, unit, price, cents, said) in enumerate(rows, start=1)
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else 4000)
