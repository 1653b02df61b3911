"""What the commands of `arcadia` share: the database, arguments, tables for people, JSON for programs."""

import datetime as dt
import json
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.money import dollars, plain, price
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database


class _Terminal(Console):
    """A console whose texts are shown as they are: none of them runs on the terminal, or becomes something else."""

    def render_str(self, text: str, **more: Any) -> Text:
        """The text of a sentence or a cell."""
        return super().render_str(shown(text), **more)


def shown(text: str) -> str:
    r"""The text with what a terminal obeys, or would not show, written out as in JSON: \u001b for an escape.

    A name may hold anything: colours, the window's title, a link, letters in another direction than they are read.
    """
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _in_one_line(name: str) -> str:
    """As shown; a line feed in it would make a line that is not ours."""
    return shown(name).replace("\n", r"\n")


_UNSHOWN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters but tab and line feed, marks of direction, separators of lines, halves of characters."""
OUT = _Terminal(highlight=False, markup=False, emoji=False)
ERR = _Terminal(stderr=True, highlight=False, markup=False, emoji=False)
_NARROWEST = 12
"""To how many characters a column of texts is folded, where a table has no room."""


class CommandError(ArcadiaError):
    """An error with a message for people."""


def engine() -> Engine:
    """An engine on the database of the settings; the embedded one is started. Raises SettingsError, EmbeddedError."""
    return database.engine(Settings.from_environment().url())


class Month(click.ParamType[BillingMonth]):
    """A month like 2026-04."""

    name = "YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> BillingMonth:
        """The month that the text names."""
        if isinstance(value, BillingMonth):
            return value
        try:
            return BillingMonth.parse(value)
        except InvalidMonth as error:
            self.fail(str(error))


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs: cents as integers.")


def print_invoice(invoice: dict[str, Any]) -> None:
    """An invoice as ledger.invoice_of gives it."""
    say(f"\nTax invoice {heading(invoice)}")
    print_lines(None, invoice)
    if "gst_free_reason" in invoice["meta"]:
        taxed = any(line["kind"] == "tax" for line in invoice["lines"])
        OUT.print(f"GST-free{' but for what it corrects' if taxed else ''}: {invoice['meta']['gst_free_reason']}")


def heading(invoice: dict[str, Any]) -> str:
    """Which invoice it is, in two lines."""
    meta = invoice["meta"]
    buyer = _in_one_line(meta.get("tenant_name", invoice["tenant_id"]))
    abn = f", ABN {meta['tenant_abn']}" if meta.get("tenant_abn") else ""
    issued = f"issued {invoice['issued_at']:%Y-%m-%d}, " if invoice["issued_at"] else ""
    return (
        f"{invoice['invoice_number'] or 'without a number'} for {buyer}{abn}\n"
        f"{invoice['period_start']:%B %Y} (UTC), {issued}revision {invoice['revision']}, status {invoice['status']}"
    )


def print_lines(title: str | None, document: dict[str, Any]) -> None:
    """The lines and the sums of an invoice or a quote, as a table."""
    rows = [
        (
            line["deployment_name"] or "",
            line["description"],
            f"{plain(line['qty'])} {line['unit'] or ''}".rstrip(),
            unit_price(line),
            dollars(line["amount_cents"]),
        )
        for line in document["lines"]
        if line["kind"] != "tax"  # it is among the sums
    ]
    tax = next((line["description"] for line in document["lines"] if line["kind"] == "tax"), "GST")
    if (taxable := taxable_cents(document)) != document["subtotal_cents"]:
        tax = f"{tax} of {dollars(taxable)}"
    sums = [
        ("", name, "", "", dollars(document[f"{sum_of}_cents"]))
        for name, sum_of in (("Subtotal", "subtotal"), (tax, "tax"), ("Total", "total"))
    ]
    numbers = ("quantity", "unit price", "amount, AUD")
    print_table(("deployment", "line", *numbers), rows, numbers=numbers, title=title, sums=sums)


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    title: str | None = None,
    sums: Sequence[Sequence[str]] = (),
    styles: Mapping[int, str] = {},
) -> None:
    """A table for people: texts fold where the terminal is narrow, columns of numbers never do, empty ones are dropped.

    Below the rows stand their `sums`, the last in bold; `styles` are of rows, by their place.
    """
    lines = [[_in_one_line(cell) for cell in line] for line in (*rows, *sums)]
    columns = dict(zip(headings, zip(*lines, strict=True), strict=True)) if lines else {}
    kept = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table(title=title, title_justify="left")
    least = 0
    for heading, cells in kept.items():
        longest = max(map(cell_len, (*cells, *heading.split())))
        if heading in numbers:
            table.add_column(heading, justify="right", width=longest)
        else:
            longest = min(longest, _NARROWEST)
            table.add_column(heading, overflow="fold", min_width=longest)
        least += longest
    if least + 3 * len(kept) + 1 > OUT.width:  # without lines between the columns it may fit; if not, it is wider
        table.box, table.pad_edge, table.padding = None, False, (0, 1, 0, 0)
        table.width = max(OUT.width, least + len(kept))
    for place, row in enumerate(zip(*kept.values(), strict=True)):
        if place == len(rows):
            table.add_section()
        table.add_row(*row, style="bold" if sums and place == len(rows) + len(sums) - 1 else styles.get(place))
    OUT.print(table, crop=False)


def unit_price(line: dict[str, Any]) -> str:
    """What a unit costs: $0.01, or $50.00 / 30 where the price is of a month's days."""
    per = "" if line["price_per"] in (None, 1) else f" / {plain(line['price_per'])}"
    return f"{price(line['unit_price_cents'])}{per}"


def taxable_cents(document: dict[str, Any]) -> int:
    """What the GST of an invoice or a quote is on, as its tax line says; an older one is on the subtotal."""
    metas = [line["meta"] for line in document["lines"] if line["kind"] == "tax"]
    subtotal: int = document["subtotal_cents"]
    return metas[0].get("taxable_cents", subtotal) if metas else subtotal


def say(text: str) -> None:
    """A sentence, however long, on one line."""
    OUT.print(text, soft_wrap=True)


def document(found: dict[str, Any]) -> dict[str, Any]:
    """The contract's JSON: the invoice's columns and its lines, without what is only for tables."""
    lines = ("kind", "resource_kind", "description", "qty", "unit", "unit_price_cents", "price_per", "amount_cents")
    shown = [{name: line[name] for name in (*lines, "deployment_id", "meta")} for line in found["lines"]]
    return {**found, "lines": shown}


def to_json(document: dict[str, Any]) -> str:
    """JSON with decimals as strings and instants in ISO 8601; what a terminal obeys is escaped, as JSON can."""

    def spell(value: object) -> str:
        if isinstance(value, Decimal):
            return f"{value:f}"
        return value.isoformat() if isinstance(value, dt.date | dt.datetime) else str(value)

    return shown(json.dumps(document, default=spell, indent=2, ensure_ascii=False))
