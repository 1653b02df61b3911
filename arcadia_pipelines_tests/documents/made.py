"""Contents of invoices made by hand, and the schema of UBL that holds their e-invoices."""

import datetime as dt
import functools
from dataclasses import replace
from decimal import Decimal
from importlib.metadata import distribution
from typing import Any
from uuid import UUID

from lxml import etree

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents.content import Buyer, Content, Line, State, cancelling
from arcadia_pipelines.storage.suppliers import Supplier

NAMES = (
    'O\'Brien & Söhne <GmbH> "Ltd" ]]> &amp; 50%',
    "株式会社アルカディア · Ελλάδα · Україна · ישראל · العربية · भारत · ไทย · 🦘",
    "e\u0301 = é, \u202eright to left, zero\u200bwidth, \ufeffmark, \u2028line",
    "\x00\x01\x08\x0b\x1f\x7f\x85\ufffe\uffff tab\tnew\nline\r",
    "#let x = 1; $x^2$ @here *bold* _it_ `raw` \\u{1F600} // --",
    " x ",
)
"""Every script, and what is special to XML, to typst, and to nobody but a control character."""


def line(
    description: str, amount_cents: int, qty: str = "1", price: str | None = None, per: str = "1", **other: Any
) -> Line:
    """A taxable line, at the price of its amount unless one is given (in cents); `other` are more of its fields."""
    fields: dict[str, Any] = {
        "line_no": 1, "kind": "plan_base", "resource_kind": None, "deployment_id": str(UUID(int=7)),
        "deployment_name": "web", "unit": "month", "gst_cents": 0, "is_taxable": True, "meta": {},
    }  # fmt: skip
    price_cents = Decimal(price) if price else Decimal(amount_cents)
    exact = {"qty": Decimal(qty), "unit_price_cents": price_cents, "price_per": Decimal(per)}
    return Line(**fields | exact | {"description": description, "amount_cents": amount_cents} | other)


def correction(invoice_number: str, amount_cents: int, **other: Any) -> Line:
    """A line that corrects an invoice of another month."""
    meta = {"corrects": "2026-04-01", "invoice_number": invoice_number}
    tenants = {"kind": "credit", "unit": None, "deployment_id": None, "deployment_name": None}
    return line(f"Credit: 2026-04, {invoice_number}", amount_cents, **tenants | {"meta": meta} | other)


def content(*lines: Line, gst_cents: int, **other: Any) -> Content:
    """The issued invoice INV-202605-00001 of these lines to the pilot; `other` are more of its fields."""
    numbered = tuple(replace(of, line_no=number) for number, of in enumerate(lines, 1))
    subtotal_cents = sum(of.amount_cents for of in lines)
    made = Content(
        invoice_id=str(UUID(int=1)),
        number="INV-202605-00001",
        tenant_id="pilot",
        revision=1,
        state=State.ISSUED,
        month=BillingMonth(dt.date(2026, 5, 1)),
        issued_on=dt.date(2026, 6, 1),
        due_on=dt.date(2026, 6, 15),
        supplier=Supplier(
            "Arcadia Cloud Pty Ltd",
            "19642100001",
            "Level 4, 18 Sample Street\nSydney NSW 2000\nAustralia",
            "accounts@arcadia.example",
            "Arcadia Cloud Pty Ltd",
            "062-000",
            "12345678",
            14,
        ),
        buyer=Buyer("Pilot Studio Pty Ltd", "71690944157", "1 Wharf Street\nPerth WA 6000", "accounts@pilot.example"),
        gst_free_reason=None,
        lines=numbered,
        subtotal_cents=subtotal_cents,
        gst_cents=gst_cents,
        total_cents=subtotal_cents + gst_cents,
    )
    return replace(made, **other)


def pilot(**other: Any) -> Content:
    """The worked example: 50.00 + 7.50 + 6.72 = 64.22, GST 6.42, 70.64."""
    hours = {"kind": "overage", "resource_kind": "droplet_hours", "unit": "hour"}
    made = content(
        line("Plan: studio", 5000),
        line("Addon: storage_50gb", 750, kind="addon"),
        line("Overage: droplet_hours", 672, "672", "1", **hours),
        gst_cents=642,
    )
    return replace(made, **other)


def owed_to_the_tenant() -> Content:
    """An adjustment note: 50.00 for May, and 89.36 less for two months before; GST -3.94, in all -43.30."""
    return content(
        line("Plan: studio", 5000),
        correction("INV-202603-00001", -4936),
        correction("INV-202604-00001", -4000),
        gst_cents=-394,
    )


def partly_taxable() -> Content:
    """Plan 50.00, taxable, and 20.00 less for an invoice that was GST-free: GST 5.00, in all 35.00."""
    return content(line("Plan: studio", 5000), correction("INV-202604-00001", -2000, is_taxable=False), gst_cents=500)


def gst_free() -> Content:
    """Plan 50.00 without GST."""
    reason = "Exported services, GST Act s 38-190"
    return content(line("Plan: studio", 5000, is_taxable=False), gst_cents=0, gst_free_reason=reason)


def odd_prices() -> Content:
    """Lines whose amount is rounded: 14 days of 30 at 50.00, hours below a cent, a discount, a line of nothing."""
    return content(
        line("Plan: flex", 2333, "14", "5000", "30", unit="day"),
        line("Addon: ip", 583, "7", "2500", "30", kind="addon", unit="day"),
        line("Overage: droplet_hours", 1, "0.84", "0.59523810", kind="overage", unit="hour"),
        line("Overage: egress_gb", 16001, "2.000125", "8000", kind="overage", unit="package of 100 GB"),
        line("Overage: egress_gb", 12345678901234, "123456789012.34", "100", kind="overage", unit="GB"),
        line("Discount: opening", -1000, kind="discount", unit=None),
        line("Addon: free", 0, kind="addon"),
        gst_cents=1234567891915,
    )


def named(*names: str) -> Content:
    """50.00, where all that people name has one of the names in turn."""
    name, other, third = (names[number % len(names)] for number in range(3))
    made = content(
        line(name, 5000, deployment_name=other, unit=third), correction(name, -1000, is_taxable=False), gst_cents=500
    )
    return replace(
        made,
        tenant_id=other,
        buyer=replace(made.buyer, name=third, address=f"{name}\n{other}\n{third}\n{name}\nPerth WA 6000", email=name),
        supplier=replace(made.supplier, legal_name=name, address=other, email=third, bank_account_name=name),
    )


def long(lines: int) -> Content:
    """That many lines of 0.01 and, for every tenth, -0.05."""
    charges = [line(f"Plan: {number}", -5 if number % 10 == 0 else 1) for number in range(1, lines + 1)]
    cents = sum(of.amount_cents for of in charges)
    return content(*charges, gst_cents=round(cents / 10))


def contents() -> dict[str, Content]:
    """What an e-invoice has to be able to say, by what it is."""
    made = {
        "pilot": pilot(),
        "owed to the tenant": owed_to_the_tenant(),
        "partly taxable": partly_taxable(),
        "GST-free": gst_free(),
        "odd prices": odd_prices(),
        "nothing": content(line("Plan: community", 0), gst_cents=0),
        "no address": replace(pilot(), buyer=Buyer("Pilot", "71 690 944 157", None, None)),
        "2,000 lines": long(2000),
        "taken back": cancelling(pilot(), dt.date(2026, 6, 20)),
        "partly taxable, taken back": cancelling(partly_taxable(), dt.date(2026, 6, 20)),
        "owed to the tenant, taken back": cancelling(owed_to_the_tenant(), dt.date(2026, 6, 20)),
    }
    return made | {f"named {name!r}": named(name) for name in NAMES}


@functools.cache
def _schema(document: str) -> Any:
    path = f"trytond/modules/edocument_ubl/tests/2.4/maindoc/UBL-{document}-2.4.xsd"
    return etree.XMLSchema(etree.parse(str(distribution("trytond-edocument-ubl").locate_file(path))))


def faults(document: bytes) -> list[str]:
    """What UBL's own schema says against the document."""
    root = etree.fromstring(document)
    schema = _schema(etree.QName(root).localname)
    return [] if schema.validate(root) else [str(error) for error in schema.error_log]
