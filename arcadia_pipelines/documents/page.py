"""What a tax invoice says, as texts in the order of the page; invoice.typ lays them out, and computes nothing.

Belongs here: the words and the spelled numbers of a document. Does not: how it looks (invoice.typ), bytes (pdf.py).

The words follow the GST Act: s 29-70 for a tax invoice, s 29-75 for an adjustment note; GSTR 2013/1 and GSTR 2013/2.
Which word is there for which requirement is in docs/documents.md.
"""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

from arcadia_pipelines.billing import gst
from arcadia_pipelines.billing.money import plain
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents.content import Content, Kind, Line, State
from arcadia_pipelines.documents.spelling import amount, day, minus, month_of, one_line, price, spaced_abn, units

_ACCOUNT = "Your account as a whole"
_EARLIER = "Adjustments of earlier invoices"
_GRANTED = "Promotional credit"
_OF = {"plan_base": "the plan", "addon": "the addons", "overage": "the overage"}


@dataclass(frozen=True)
class Row:
    """A line as the page shows it; amounts are dollars before GST."""

    what: str
    details: list[str]
    """What it follows from, in small print."""
    quantity: str
    price: str
    amount: str
    is_part: bool
    """Whether it stands under the charge that it discounts."""


@dataclass(frozen=True)
class Group:
    """The lines of a deployment, or of the tenant's account."""

    name: str
    rows: list[Row]
    subtotal: str


@dataclass(frozen=True)
class Party:
    """Who sells, or who buys."""

    name: str
    abn: str | None
    lines: list[str]


@dataclass(frozen=True)
class Page:
    """A document in texts. Its JSON is all that invoice.typ is given."""

    title: str
    subtitle: str | None
    mark: str | None
    """Written across each page: it does not count."""
    notices: list[str]
    """What must be read first."""
    logo: str | None
    seller: Party
    buyer: Party
    facts: list[tuple[str, str]]
    owed: tuple[str, str, str]
    """What the total is, the total, and what to do about it."""
    payment: list[tuple[str, str]]
    """Where to pay; empty: there is nothing to pay."""
    charges: str
    """What the table of lines is called."""
    groups: list[Group]
    sums: list[tuple[str, str]]
    """The last is the total."""
    notes: list[str]
    footer: str


def page(content: Content) -> dict[str, Any]:
    """What the document of an invoice says, as JSON has it."""
    return asdict(
        Page(
            title=_title(content),
            subtitle=_subtitle(content),
            mark=None if content.state is State.ISSUED else content.state.upper(),
            notices=list(_notices(content)),
            logo=content.supplier.logo_svg,
            seller=_party(
                content.supplier.legal_name, content.supplier.abn, content.supplier.address, content.supplier.email
            ),
            buyer=_party(content.buyer.name, content.buyer.abn, content.buyer.address, content.buyer.email),
            facts=list(_facts(content)),
            owed=_owed(content),
            payment=_payment(content),
            charges=_charges(content),
            groups=list(_groups(content)),
            sums=_sums(content),
            notes=list(_notes(content)),
            footer=" · ".join(
                [one_line(content.supplier.legal_name), f"ABN {spaced_abn(content.supplier.abn)}", _name(content)]
            ),
        )
    )


def _name(content: Content) -> str:
    return content.number or "draft"


def _title(content: Content) -> str:
    name = "Adjustment note" if content.kind is Kind.ADJUSTMENT_NOTE else "Tax invoice"
    return f"Draft {name.lower()}" if content.state is State.DRAFT else name


def _subtitle(content: Content) -> str | None:
    """Which invoices it adjusts: a tax invoice that carries corrections is the adjustment note of these as well."""
    if content.cancels:
        return f"adjusts {_taken_back(content)}, which is cancelled"
    if not content.adjusts:
        return None
    named = ", ".join(content.adjusts)
    return f"for {named}" if content.kind is Kind.ADJUSTMENT_NOTE else f"and adjustment note for {named}"


def _taken_back(content: Content) -> str:
    """The document that an adjustment note takes back, by name: tax invoice INV-202604-00001."""
    return f"{'adjustment note' if content.total_cents > 0 else 'tax invoice'} {content.cancels}"


def _notices(content: Content) -> Iterator[str]:
    if content.state is State.DRAFT:
        yield "This is a draft and no tax invoice. It can still change: do not pay it."
    if content.state is State.VOID:
        yield "This document is void. Nothing is owed on it."
    if content.cancels:
        yield (
            f"The {_taken_back(content)} is cancelled, and this takes it back as a whole. The price of your supplies"
            f" {_changes(content.total_cents, content.gst_cents)}."
        )
    elif content.kind is Kind.ADJUSTMENT_NOTE and content.state is not State.VOID:
        yield (
            f"The credits of {month_of(content.month)} exceed its charges. The price of your supplies"
            f" {_changes(content.total_cents, content.gst_cents)}. Each credit below says what it is for."
        )


def _changes(price_cents: int, gst_cents: int) -> str:
    """By how much an adjustment event changes the price, which has the GST in it (s 9-75), and the GST."""
    changed = "increased" if price_cents > 0 else "reduced"
    gst_in_it = f"GST of {amount(abs(gst_cents))}" if gst_cents else "no GST"
    return f"is {changed} by {amount(abs(price_cents))}, which includes {gst_in_it}"


def _facts(content: Content) -> Iterator[tuple[str, str]]:
    yield "Number", _name(content)
    yield "Date of issue", day(content.issued_on) if content.issued_on else "not issued"
    if content.cancels:
        yield "Adjusts", content.cancels
    if content.due_on and content.total_cents > 0:
        yield "Due", day(content.due_on)
    last = content.month.end - dt.timedelta(days=1)
    yield "Period", f"1 to {day(last)} (UTC)"
    if content.revision > 1 and not content.cancels:
        yield "Revision", str(content.revision)


def _owed(content: Content) -> tuple[str, str, str]:
    total = amount(abs(content.total_cents))
    if content.state is State.DRAFT:
        return "Draft total", amount(content.total_cents), "not to be paid"
    if content.state is State.VOID:
        return "Void", amount(content.total_cents), "nothing is owed"
    if content.cancels and content.total_cents > 0:
        return "Credit taken back", total, f"of {_taken_back(content)}"
    if content.cancels:
        return "Credited to you", total, f"{_taken_back(content)} is not to be paid"
    if content.total_cents < 0:
        return "Credited to you", total, "there is nothing to pay"
    if content.total_cents == 0:
        return "Amount due", total, "there is nothing to pay"
    return "Amount due", total, f"by {day(content.due_on)}" if content.due_on else ""


def _charges(content: Content) -> str:
    if content.cancels:
        return "What is taken back"
    return "Charges and credits" if any(line.amount_cents < 0 for line in content.lines) else "Charges"


def _groups(content: Content) -> Iterator[Group]:
    """The lines by deployment, each discount under what it discounts; then those of the tenant's account."""
    mixed = len({line.is_taxable for line in content.lines}) > 1
    for (_, name), lines in groupby(content.lines, key=_group):
        ordered = list(_beside(list(lines)))
        rows = [_row(line, list(_small_print(line, mixed, content.cancels is not None))) for line in ordered]
        yield Group(one_line(name), rows, amount(sum(line.amount_cents for line in ordered)))


def _group(line: Line) -> tuple[str | None, str]:
    if line.deployment_id or line.deployment_name:
        return line.deployment_id, line.deployment_name or "A deployment that was deleted"
    return None, _EARLIER if line.adjusts else _GRANTED if "grant" in line.meta else _ACCOUNT


def _beside(lines: list[Line]) -> Iterator[Line]:
    """The lines of a deployment, with each discount behind the last charge of what it is off."""
    discounts = [line for line in lines if line.kind == "discount"]
    charges = [line for line in lines if line.kind != "discount"]
    last = {(line.kind, line.resource_kind): place for place, line in enumerate(charges)}
    for place, line in enumerate(charges):
        yield line
        for discount in list(discounts):
            if last.get((str(discount.meta.get("of")), discount.resource_kind)) == place:
                discounts.remove(discount)
                yield discount
    yield from discounts


def _small_print(line: Line, mixed: bool, is_taken_back: bool) -> Iterator[str]:
    """What the line follows from, unless it is taken back; and whether it is taxed, where others are not."""
    with suppress(ArithmeticError, KeyError, TypeError, ValueError):  # the meta of a line that another system wrote
        if not is_taken_back:
            yield from _details(line)
    if mixed:
        yield "GST applies" if line.is_taxable else "GST-free"


def _row(line: Line, details: list[str]) -> Row:
    single = line.unit is None and abs(line.qty) == 1
    return Row(
        what=one_line(line.description),
        details=details,
        quantity="" if single else f"{minus(plain(line.qty))} {units(line.unit or '', line.qty)}".rstrip(),
        price="" if single else price(line),
        amount=amount(line.amount_cents),
        is_part=line.kind == "discount",
    )


def _details(line: Line) -> Iterator[str]:
    """What the line follows from, by its meta."""
    meta = line.meta
    if line.kind == "overage":
        yield from _usage(line)
    if line.kind == "discount":
        off = f"{plain(Decimal(meta['percent']))}%" if "percent" in meta else amount(int(meta.get("amount_cents", 0)))
        yield f"{off} off {_OF.get(str(meta.get('of')), 'the charges')}"
    if line.kind == "commitment" and "minimum_cents" in meta:
        charged, least = (amount(int(meta[name])) for name in ("charges_cents", "minimum_cents"))
        part = f", for {meta['days']} days" if "days" in meta else ""
        yield f"{charged} charged; the minimum is {least}{part}"
    if meta.get("price_of") == "tenant":
        yield "at a price of your own"
    if line.adjusts:
        corrected = month_of(BillingMonth(dt.date.fromisoformat(str(meta["corrects"]))))
        yield (
            f"{corrected} came to another amount after {one_line(line.adjusts)} could no longer change: usage that"
            f" arrived late, or a change of prices or terms. Its price"
            f" {_changes(line.amount_cents + line.gst_cents, line.gst_cents)}"
        )
    if "grant" in meta and "left" in meta:
        yield f"{amount(int(meta['left']))} of this credit is left"


def _usage(line: Line) -> Iterator[str]:
    meta = line.meta
    if "used" in meta and "included" in meta:
        used, included = Decimal(str(meta["used"])), Decimal(str(meta["included"]))
        unit = re.sub(r"^package of [\d.]+ ", "", line.unit or "")
        unit = "" if unit in ("flat fee", "cap") else f" {units(unit, used)}"
        pooled = (
            f", {plain(Decimal(str(meta['pooled'])))} from your pool" if Decimal(str(meta.get("pooled", 0))) else ""
        )
        yield f"{plain(used)}{unit} used, {plain(included)} included{pooled}"
    if line.unit == "cap":
        yield "more was used: this is the most that is charged"
    elif "tier" in meta:
        yield f"{'all at the price of the tier' if meta.get('model') == 'volume' else 'the tier'} {meta['tier']}"


def _sums(content: Content) -> list[tuple[str, str]]:
    taxable = sum(line.amount_cents for line in content.lines if line.is_taxable)
    is_taxed = not content.gst_free_reason or any(line.is_taxable for line in content.lines)
    label = gst.DESCRIPTION if taxable == content.subtotal_cents else f"{gst.DESCRIPTION} of {amount(taxable)}"
    return [
        ("Subtotal before GST", amount(content.subtotal_cents)),
        (label if is_taxed else "GST-free", amount(content.gst_cents)),
        ("Total including GST" if is_taxed else "Total", amount(content.total_cents)),
    ]


def _notes(content: Content) -> Iterator[str]:
    yield "Prices and amounts are Australian dollars; those of the lines are before GST."
    if content.gst_free_reason:
        yield f"GST-free: {one_line(content.gst_free_reason)}"


def _payment(content: Content) -> list[tuple[str, str]]:
    if content.state is not State.ISSUED or content.cancels or content.total_cents <= 0:
        return []
    supplier = content.supplier
    return [
        ("Account name", one_line(supplier.bank_account_name)),
        ("BSB", supplier.bank_bsb),
        ("Account number", supplier.bank_account_number),
        ("Reference", _name(content)),
    ]


def _party(name: str, abn: str | None, address: str | None, email: str | None) -> Party:
    lines = [one_line(line) for line in (address or "").splitlines() if line.strip()]
    return Party(one_line(name), spaced_abn(abn) if abn else None, [*lines, *([one_line(email)] if email else [])])
