"""Replay: the engine computes a month again from its frozen usage and the prices in effect, beside its invoices.

Belongs here: whether the engine still gives the same result, and whether invoices are as they were written: one that is
not is different, whatever it sums to. Does not: whether the result is right, which plain SQL proves (audit.py), and
what follows from a difference (billing/reconcile.py). Reads, and writes nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from arcadia_pipelines.again import intact
from arcadia_pipelines.billing import reconcile
from arcadia_pipelines.billing.money import TEXT, Column
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month import compute
from arcadia_pipelines.proof.audits.records import OTHER_CONTENT
from arcadia_pipelines.storage import catalogue, credits, ledger, operations, terms
from arcadia_pipelines.storage.database import refuse_partial_view

_IDENTITY = ("deployment_id", "kind", "resource_kind", "description")
_BILLED = (*_IDENTITY, "qty", "unit", "unit_price_cents", "price_per", "amount_cents", "meta")
_OTHER_CONTENT_OF_OURS = f"""
    select o.tenant_id from ({OTHER_CONTENT}) o
    join billing.tenant_invoices i on i.tenant_id = o.tenant_id and i.period_start = %(month)s
    where i.{ledger.OURS}
"""

Line = dict[str, Any]
"""A line's place and what it bills, by column name: `line_no` and _BILLED."""


@dataclass(frozen=True)
class Difference:
    """An invoice that replay makes differently, and its first line that differs.

    `standing` or `rebuilt` is None if that side lacks the line. Both are None if one side lacks the whole invoice, or
    if only the lines' GST status, the stored hash, or the newest event differs.
    """

    tenant_id: str
    invoice_number: str | None
    standing_sha256: str | None
    rebuilt_sha256: str | None
    standing: Line | None = None
    rebuilt: Line | None = None


@dataclass(frozen=True)
class Replay:
    """How many of the month's invoices are identical, differ or are on one side only, and how many are left out."""

    month: BillingMonth
    identical: int
    differing: int
    first: Difference | None
    void: int
    held_back: int
    """Tenants that are held back or on hold."""
    corrected: int
    """Locked invoices, as they were written, whose difference is in invoice_corrections, or is not a cent."""


def replay(connection: Connection, month: BillingMonth) -> Replay:
    """Compute the invoiced month again, and compare it by content_sha256. Raises StorageError."""
    refuse_partial_view(connection)
    changed = _changed(connection, month)
    carried, agreed = credits.carried_by(connection, month), terms.of(connection, month)
    on_hold, corrected = operations.on_hold(connection), ledger.corrected(connection, month)
    found: Counter[str] = Counter()
    first = None
    for quoted, (tenants, standing) in compute.month_quotes(connection, month, catalogue.TENANTS, ledger.STANDING):
        invoices, lines = compute.invoices(quoted.lines, carried, tenants, month, agreed)
        left_out = pd.concat([quoted.faults["tenant_id"].dropna(), on_hold[on_hold.isin(tenants["tenant_id"])]])
        both = reconcile.beside(standing, invoices)
        is_void = _true(pc.equal(both["status"], "void"))
        compared = both.filter(pc.invert(pc.or_(is_void, _is_of(both, left_out))))
        is_changed = _is_of(compared, changed)
        is_same = _true(pc.equal(compared["content_sha256"], compared["content_sha256_new"]))
        is_same = pc.and_not(is_same, is_changed)
        is_even = pc.and_(
            _true(compared["locked"]), _true(pc.equal(compared["total_cents"], compared["total_cents_new"]))
        )
        is_corrected = pc.and_not(pc.or_(_is_of(compared, corrected), is_even), pc.or_(is_same, is_changed))
        differing = compared.filter(pc.invert(pc.or_(is_same, is_corrected)))
        if first is None and len(differing):
            first = _difference(connection, month, differing.slice(0, 1).to_pylist()[0], lines)
        found.update(
            identical=int(pc.sum(is_same, min_count=0).as_py()),
            differing=len(differing),
            void=int(pc.sum(is_void, min_count=0).as_py()),
            held_back=left_out.nunique(),
            corrected=int(pc.sum(is_corrected, min_count=0).as_py()),
        )
    return Replay(month=month, first=first, **found)


def _true(condition: Column) -> Column:
    """Where the condition is true, and not null."""
    return pc.fill_null(condition, False)


def _is_of(both: pa.Table, tenants: Iterable[str]) -> Column:
    return pc.is_in(both["tenant_id"], pa.array(list(tenants), TEXT))


def _changed(connection: Connection, month: BillingMonth) -> list[str]:
    """The tenants whose invoice is not as it was written: its hashes are not of its lines, or its event is another.

    Not of an invoice that another system has put in: it was not written here.
    """
    others = connection.exec_driver_sql(_OTHER_CONTENT_OF_OURS, catalogue.bounds(month)).scalars()
    return [*others, *(invoice.tenant_id for invoice in intact.disagreeing(connection, month))]


def _difference(
    connection: Connection, month: BillingMonth, whole: Mapping[str, Any], rebuilt: pd.DataFrame
) -> Difference:
    """The first line of an invoice, a row of reconcile.beside(), that is not the same on both sides, in order."""
    difference = Difference(
        whole["tenant_id"], whole["invoice_number"], whole["content_sha256"], whole["content_sha256_new"]
    )
    if difference.standing_sha256 is None or difference.rebuilt_sha256 is None:
        return difference
    before = _numbered(ledger.invoice_of(connection, difference.tenant_id, month)["lines"])
    lines = rebuilt[rebuilt["invoice_id"] == whole["id_new"]]
    after = _numbered(lines.astype(object).where(lines.notna(), None).to_dict("records"))
    only_before, only_after = _without(before, after), _without(after, before)
    first = min([*only_before, *only_after], key=lambda line: line["line_no"], default=None)
    if first is None:
        return difference
    return replace(difference, standing=_like(first, only_before), rebuilt=_like(first, only_after))


def _numbered(lines: Any) -> list[Line]:
    """The lines, which are in order, with the same types on both sides."""
    return [
        {
            "line_no": number,
            **{name: line[name] for name in _BILLED},
            "deployment_id": line["deployment_id"] and str(line["deployment_id"]),
            "meta": json.loads(line["meta"]) if isinstance(line["meta"], str) else line["meta"],
        }
        for number, line in enumerate(lines, start=1)
    ]


def _without(lines: list[Line], others: list[Line]) -> list[Line]:
    """The lines that are left when each is struck out against an equal one of the others."""
    unmatched = [[line[name] for name in _BILLED] for line in others]
    left = []
    for line in lines:
        billed = [line[name] for name in _BILLED]
        if billed in unmatched:
            unmatched.remove(billed)
        else:
            left.append(line)
    return left


def _like(line: Line, lines: list[Line]) -> Line | None:
    """The first of the lines that bills the same thing."""
    return next((other for other in lines if all(other[name] == line[name] for name in _IDENTITY)), None)
