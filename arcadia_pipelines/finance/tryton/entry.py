"""Our invoices as they are in Tryton.

Belongs here: how one is read, and what makes it one of ours. Does not: what it is written as (books.py).
"""

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

Document = Mapping[str, Any]
"""An invoice as docs/finance-openapi.yaml has it."""
FIELDS = [
    *("state", "reference", "description", "untaxed_amount", "tax_amount", "total_amount", "reconciled"),
    *("lines.amount", "taxes.base", "taxes.amount"),
]
"""What is read of one."""
POSTED, DRAFTS, CANCELLED = ("posted", "paid"), ("draft", "validated"), "cancelled"
"""Its states."""
_STATUS = {"posted": "open", "paid": "paid", CANCELLED: "void"}
_STAMP = re.compile(r"Arcadia (\d{4}-\d\d) ([0-9a-f-]{36}) r(\d+) ([0-9a-f]{64}) ([0-9a-f]{16})")


@dataclass(frozen=True)
class Stamp:
    """What a description in Tryton begins with: the invoice that it is, and what it was when it was written."""

    month: str
    invoice_id: str
    revision: int
    content_sha256: str
    figures: str
    """Hash of the amounts; see figures_of()."""

    @classmethod
    def of(cls, document: Document) -> Self:
        """The stamp of an invoice of ours."""
        amounts = [line["amount_cents"] for line in document["lines"]]
        return cls(
            document["period"]["start"][:7],
            document["invoice_id"],
            document["revision"],
            document["content_sha256"],
            figures_of(amounts, document["gst_cents"], document["total_cents"]),
        )

    @classmethod
    def read(cls, description: str | None) -> Self | None:
        """The stamp of an invoice in Tryton, if it has one."""
        found = _STAMP.match(description or "")
        return cls(found[1], found[2], int(found[3]), found[4], found[5]) if found else None

    def __str__(self) -> str:
        return f"Arcadia {self.month} {self.invoice_id} r{self.revision} {self.content_sha256} {self.figures}"


def figures_of(amounts_cents: Iterable[int], gst_cents: int, total_cents: int) -> str:
    """A hash by which a change of amounts is noticed: those of the lines in order, GST, total."""
    return hashlib.sha256(" ".join(map(str, (*amounts_cents, gst_cents, total_cents))).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """An invoice in Tryton that is one of ours, or says so."""

    id: int
    state: str
    reference: str
    stamp: Stamp | None
    amounts_cents: tuple[int, int, int]
    """Untaxed, tax, total."""
    lines_cents: tuple[int, ...]
    taxes: tuple[tuple[int, int, int], ...]
    """Id, base and amount of each of its tax lines."""
    paid_on: dt.date | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The invoice as Tryton lists it."""
        return cls(
            row["id"],
            row["state"],
            row["reference"] or "",
            Stamp.read(row["description"]),
            (_cents(row["untaxed_amount"]), _cents(row["tax_amount"]), _cents(row["total_amount"])),
            tuple(_cents(line["amount"]) for line in row["lines."]),
            tuple((tax["id"], _cents(tax["base"]), _cents(tax["amount"])) for tax in row["taxes."]),
            row["reconciled"],
        )

    @property
    def content_sha256(self) -> str:
        """Our hash of its content, as long as the amounts are those that it was written with."""
        if self.stamp and self.stamp.figures == figures_of(self.lines_cents, *self.amounts_cents[1:]):
            return self.stamp.content_sha256
        return "changed in Tryton"

    @property
    def etag(self) -> str:
        """A posted invoice never changes, so its id is its version."""
        return str(self.id)

    def has(self, document: Document) -> bool:
        """Whether it is this revision, or one of the same content."""
        content: str = document["content_sha256"]
        return self.content_sha256 == content and self.amounts_cents[2] == int(document["total_cents"])

    def as_listed(self) -> dict[str, Any]:
        """As the contract lists an invoice."""
        return {
            "invoice_id": self.stamp.invoice_id if self.stamp else "",
            "finance_invoice_id": str(self.id),
            "number": self.reference,
            "content_sha256": self.content_sha256,
            "total_cents": self.amounts_cents[2],
            "status": _STATUS.get(self.state, "open"),
            "paid_on": str(self.paid_on) if self.state == "paid" and self.paid_on else None,
            "etag": self.etag,
        }


def _cents(amount: Decimal) -> int:
    return int(amount.scaleb(2))
