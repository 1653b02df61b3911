"""Whether finance has a month's invoices as we know them: missing, extra, different; and which it was paid for.

Belongs here: the comparison, and recording payments that finance knows of. Does not: sending (outbox.py).
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance.ledgers import Ledger
from arcadia_pipelines.storage import database, operations, outbox
from arcadia_pipelines.storage.acts import Author

Row = Mapping[str, Any]
Offender = dict[str, object]
FAULTS = ("missing", "extra", "different")
"""What can be wrong with an invoice there."""


@dataclass(frozen=True)
class Reconciled:
    """A month, compared."""

    month: BillingMonth
    ours: int
    """Invoices that finance has confirmed."""
    theirs: int
    """Invoices that it lists."""
    ours_cents: int
    theirs_cents: int
    offenders: list[Offender]
    """One per invoice and fault: `fault` is one of FAULTS, `what` says more."""
    paid: list[str] = field(default_factory=list)
    """Numbers of the invoices that finance was paid for, and that were not paid here."""


def reconcile(on: Engine, client: Ledger, month: BillingMonth, run_id: str = "", dry_run: bool = False) -> Reconciled:
    """Compare the month with what finance lists; record here the payments that it knows of, unless it is a dry run.

    An invoice of which something is still to be told is not compared. Raises client.FinanceError.
    """
    before = _told(on, month)
    theirs = list(client.invoices(month))
    summary = client.summary(month)
    after = _told(on, month)  # what was sent meanwhile is not extra, and what changed meanwhile not different
    compared = [row for row in before.values() if not row["is_open"] and row == after.get(row["invoice_id"])]
    offenders = [*_compare(compared, theirs, after.keys() | before.keys()), *_of_summary(summary, theirs, month)]
    paid = _paid(compared, theirs)
    if paid and not dry_run:
        _record(on, month, paid, run_id)
    return Reconciled(
        month,
        ours=len(compared),
        theirs=len(theirs),
        ours_cents=sum(row["total_cents"] for row in compared),
        theirs_cents=sum(_cents(item) for item in theirs),
        offenders=offenders,
        paid=[row["invoice_number"] for row, _ in paid],
    )


def _told(on: Engine, month: BillingMonth) -> dict[str, Row]:
    with database.transaction(on) as connection:
        return {row["invoice_id"]: row for row in outbox.told(connection, month)}


def _compare(ours: Sequence[Row], theirs: Sequence[Row], known: Collection[str]) -> list[Offender]:
    """The faults: first ours in order, then what finance has and we do not know."""
    listed: dict[str, list[Row]] = defaultdict(list)
    for item in theirs:
        listed[str(item.get("invoice_id"))].append(item)
    found: list[Offender] = []
    for row in ours:
        items = listed.pop(row["invoice_id"], [])
        named = {"invoice": row["invoice_number"], "tenant_id": row["tenant_id"]}
        if not items:
            found.append({"fault": "missing", **named, "what": "finance does not have it"})
        elif len(items) > 1:
            found.append({"fault": "different", **named, "what": f"finance has it {len(items)} times"})
        elif what := _differences(row, items[0]):
            found.append({"fault": "different", **named, "what": "; ".join(what)})
    for invoice, items in listed.items():
        if invoice not in known:
            number = items[0].get("number") or invoice
            found.append(
                {"fault": "extra", "invoice": number, "tenant_id": None, "what": "never sent, or withdrawn here"}
            )
    return found


def _differences(row: Row, item: Row) -> list[str]:
    found = []
    if item.get("total_cents") != row["total_cents"]:
        found.append(f"total_cents {item.get('total_cents')} there, {row['total_cents']} here")
    if item.get("content_sha256") != row["content_sha256"]:
        found.append("content_sha256")
    there, here = item.get("status"), row["status"]
    if (there == "void") != (here == "void") or (here == "paid" and there != "paid"):
        found.append(f"status {there} there, {here} here")
    return found


def _of_summary(summary: Row, theirs: Sequence[Row], month: BillingMonth) -> list[Offender]:
    """Where finance's own summary is not that of its list."""
    listed = {"count": len(theirs), "total_cents": sum(_cents(item) for item in theirs)}
    what = [
        f"{name} {summary[name]}, its list {value}"
        for name, value in listed.items()
        if summary.get(name, value) != value
    ]
    return [{"fault": "different", "invoice": f"summary of {month}", "tenant_id": None, "what": w} for w in what]


def _cents(item: Row) -> int:
    cents = item.get("total_cents")
    return cents if isinstance(cents, int) else 0


def _paid(ours: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[Row, dt.date | None]]:
    """The issued invoices that finance says are paid, and on which day, if it says so."""
    paid = {str(item.get("invoice_id")): item.get("paid_on") for item in theirs if item.get("status") == "paid"}
    return [
        (row, _day(paid[row["invoice_id"]])) for row in ours if row["status"] == "issued" and row["invoice_id"] in paid
    ]


def _day(text: object) -> dt.date | None:
    try:
        return dt.date.fromisoformat(str(text)[:10])
    except ValueError:
        return None


def _record(on: Engine, month: BillingMonth, paid: Sequence[tuple[Row, dt.date | None]], run_id: str) -> None:
    """Mark the invoices as paid; on the day of issue at the earliest, and now where no day is given."""
    author = Author(outbox.FINANCE, "paid, as finance says", run_id)
    by_day: dict[dt.date | None, list[UUID]] = defaultdict(list)
    for row, day in paid:
        by_day[max(day, row["issued_on"]) if day else None].append(UUID(row["invoice_id"]))
    for day, invoices in by_day.items():
        paid_at = dt.datetime.combine(day, dt.time(), dt.UTC) if day else None
        with database.month_transaction(on, month) as connection:
            standing = operations.issued(connection, invoices)  # an operator may have been first
            if standing:
                operations.change(connection, operations.PAY, dict.fromkeys(standing, month), author, paid_at)
