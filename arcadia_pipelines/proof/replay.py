"""Replay: the engine computes a month again from its frozen usage and the prices in effect, beside its invoices.

Belongs here: whether the engine still gives the same result. Does not: whether that is right, which plain SQL proves
(audit.py), and what follows from a difference (billing/reconcile.py). Reads, and writes nothing.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month import compute
from arcadia_pipelines.storage import catalogue, credits, ledger, operations, terms
from arcadia_pipelines.storage.database import refuse_partial_view

_IDENTITY = ("deployment_id", "kind", "resource_kind", "description")
_BILLED = (*_IDENTITY, "qty", "unit", "unit_price_cents", "price_per", "amount_cents", "meta")

Line = dict[str, Any]
"""A line's place and what it bills, by column name: `line_no` and _BILLED."""


@dataclass(frozen=True)
class Difference:
    """An invoice that replay makes differently, and its first line that differs.

    `standing` or `rebuilt` is None if that side lacks the line. Both are None if one side lacks the whole invoice, or
    if only the lines' GST status or the stored hash differs.
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
    """Paid or pushed invoices whose difference is in invoice_corrections, or is not a cent."""


def replay(connection: Connection, month: BillingMonth) -> Replay:
    """Compute the invoiced month again, and compare it by content_sha256. Raises StorageError."""
    refuse_partial_view(connection)
    carried, agreed = credits.carried_by(connection, month), terms.of(connection, month)
    on_hold, corrected = operations.on_hold(connection), ledger.corrected(connection, month)
    found: Counter[str] = Counter()
    first = None
    for quoted, (tenants, standing) in compute.month_quotes(connection, month, catalogue.TENANTS, ledger.STANDING):
        invoices, lines = compute.invoices(quoted.lines, carried, tenants, month, agreed)
        left_out = pd.concat([quoted.faults["tenant_id"].dropna(), on_hold[on_hold.isin(tenants["tenant_id"])]])
        both = standing.merge(invoices, on="tenant_id", how="outer", suffixes=("", "_new"))
        both = both.sort_values("tenant_id", ignore_index=True)
        is_void = (both["status"] == "void").fillna(False)
        compared = both[~is_void & ~both["tenant_id"].isin(left_out)]
        is_same = (compared["content_sha256"] == compared["content_sha256_new"]).fillna(False)
        is_even = compared["locked"].fillna(False) & (compared["total_cents"] == compared["total_cents_new"]).fillna(
            False
        )
        is_corrected = ~is_same & (compared["tenant_id"].isin(corrected) | is_even)
        differing = compared[~is_same & ~is_corrected]
        if first is None and len(differing):
            first = _difference(connection, month, differing.iloc[0], lines)
        found.update(
            identical=int(is_same.sum()),
            differing=len(differing),
            void=int(is_void.sum()),
            held_back=left_out.nunique(),
            corrected=int(is_corrected.sum()),
        )
    return Replay(month=month, first=first, **found)


def _difference(
    connection: Connection, month: BillingMonth, row: "pd.Series[Any]", rebuilt: pd.DataFrame
) -> Difference:
    """The row's invoice and its first line, in invoice order, that is not the same on both sides."""
    whole = row.astype(object).where(row.notna(), None)
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
