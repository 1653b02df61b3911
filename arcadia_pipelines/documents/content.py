"""What a document of an invoice shows: who sells, who buys, the lines, the sums; all of it frozen with the invoice.

Belongs here: the content that every format is made of. Does not: a format (pdf.py, xml.py), or SQL.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.storage.suppliers import Supplier

VISIBLE = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
"""For str.translate(): visible characters for those that XML forbids, and for other control characters."""


class NoDocument(Refused):
    """There can be no document of the invoice; the message says what is missing, and what to do."""


class Kind(StrEnum):
    """What a document is under the GST Act."""

    TAX_INVOICE = "tax_invoice"
    ADJUSTMENT_NOTE = "adjustment_note"
    """The tenant is owed: its credits exceed its charges; or a delivered invoice is taken back (s 29-75)."""


class State(StrEnum):
    """Whether a document counts; the same whether it is paid."""

    DRAFT = "draft"
    ISSUED = "issued"
    VOID = "void"


@dataclass(frozen=True)
class Buyer:
    """Who buys, as on the day of the revision."""

    name: str
    abn: str | None
    address: str | None
    """In lines."""
    email: str | None


@dataclass(frozen=True)
class Line:
    """A line but the tax line, in cents AUD ex GST, and its GST, which sums to the invoice's."""

    line_no: int
    kind: str
    resource_kind: str | None
    description: str
    deployment_id: str | None
    deployment_name: str | None
    qty: Decimal
    unit: str | None
    unit_price_cents: Decimal
    price_per: Decimal
    amount_cents: int
    gst_cents: int
    is_taxable: bool
    meta: Mapping[str, Any]

    @property
    def adjusts(self) -> str | None:
        """The number of the invoice that it corrects, if it does."""
        return self.meta.get("invoice_number") if "corrects" in self.meta else None


@dataclass(frozen=True)
class Content:
    """One invoice, whole."""

    invoice_id: str
    number: str | None
    """None: a draft that never had one."""
    tenant_id: str
    revision: int
    state: State
    month: BillingMonth
    issued_on: dt.date | None
    """UTC; None: a draft."""
    due_on: dt.date | None
    supplier: Supplier
    buyer: Buyer
    gst_free_reason: str | None
    lines: tuple[Line, ...]
    subtotal_cents: int
    gst_cents: int
    total_cents: int
    cancels: str | None = None
    """The number of the invoice that it takes back: that was delivered, and is void now. None: it is an invoice."""

    @property
    def kind(self) -> Kind:
        """A tax invoice; or an adjustment note, if the tenant is owed or an invoice is taken back."""
        return Kind.ADJUSTMENT_NOTE if self.cancels or self.total_cents < 0 else Kind.TAX_INVOICE

    @property
    def adjusts(self) -> tuple[str, ...]:
        """The number of the invoice that it takes back, or those that its lines correct, each once, in order."""
        if self.cancels:
            return (self.cancels,)
        return tuple(dict.fromkeys(line.adjusts for line in self.lines if line.adjusts))


def content_of(row: Mapping[str, Any]) -> Content:
    """The content from a row of storage/documents.CONTENT.

    Of a void invoice that was delivered, it is the adjustment note that takes it back. Raises NoDocument if nobody was
    entered as its supplier.
    """
    month = BillingMonth(row["period_start"])
    name = row["invoice_number"] or f"the draft of {row['tenant_id']} in {month}"
    if row["supplier"] is None:
        raise NoDocument(f"{name} has no supplier: enter who sells from {month} on with `arcadia supplier set`")
    meta = row["meta"]
    invoice = Content(
        invoice_id=str(row["id"]),
        number=row["invoice_number"],
        tenant_id=row["tenant_id"],
        revision=row["revision"],
        state=State.ISSUED if row["status"] == "paid" else State(row["status"]),
        month=month,
        issued_on=row["issued_on"],
        due_on=row["due_on"],
        supplier=Supplier(**{field.name: row["supplier"][field.name] for field in fields(Supplier)}),
        buyer=Buyer(
            meta.get("tenant_name") or row["tenant_id"],
            meta.get("tenant_abn"),
            meta.get("billing_address"),
            meta.get("billing_email"),
        ),
        gst_free_reason=meta.get("gst_free_reason"),
        lines=tuple(_line(line) for line in row["lines"] or ()),
        subtotal_cents=row["subtotal_cents"],
        gst_cents=row["tax_cents"],
        total_cents=row["total_cents"],
    )
    is_taken_back = invoice.state is State.VOID and row["cancelled_on"]
    return cancelling(invoice, row["cancelled_on"]) if is_taken_back else invoice


def cancelling(invoice: Content, on: dt.date) -> Content:
    """The adjustment note of that day which takes the invoice back: each line, the GST and the total with another sign.

    Cancelling a supply is an adjustment event (GST Act 1999, s 19-10(1)(a)).
    """
    back = (
        replace(line, qty=-line.qty, amount_cents=-line.amount_cents, gst_cents=-line.gst_cents)
        for line in invoice.lines
    )
    return replace(
        invoice,
        number=f"{invoice.number}-ADJ",
        cancels=invoice.number,
        state=State.ISSUED,
        issued_on=on,
        due_on=None,
        lines=tuple(back),
        subtotal_cents=-invoice.subtotal_cents,
        gst_cents=-invoice.gst_cents,
        total_cents=-invoice.total_cents,
    )


def _line(row: Mapping[str, Any]) -> Line:
    decimals = {name: Decimal(row[name]) for name in ("qty", "unit_price_cents", "price_per")}
    return Line(**{field.name: row[field.name] for field in fields(Line)} | decimals)
