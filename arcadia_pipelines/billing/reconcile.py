"""What becomes of each invoice of a month when the month is computed again.

Belongs here: the decision, per tenant. Does not: carrying it out (storage/publication.py).
"""

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.invoice import INVOICES
from arcadia_pipelines.billing.money import (
    CENTS,
    FLAG,
    TEXT,
    Column,
    Series,
    look_up,
    to_arrow,
    to_pandas,
)

EXISTING = pa.schema(
    [
        ("id", TEXT),
        ("tenant_id", TEXT),
        ("status", TEXT),
        ("locked", FLAG),  # paid, void, delivered, or with finance
        ("total_cents", CENTS),
        ("content_sha256", TEXT),
        ("invoice_number", TEXT),
        ("voided_by_an_operator", FLAG),
    ]
)
"""One row per invoice of the month as it stands."""

ACTIONS = ("keep", "add", "draft", "revise", "issue", "void", "frozen", "on_hold", "held_back")
"""What becomes of an invoice:

- keep: the content is the same, or an operator has voided it; the row is left alone
- add: there is no invoice yet, and it is issued
- draft: there is no invoice yet, and the tenant is on hold
- revise: an issued invoice, or the draft of a tenant on hold, is replaced, or gets its lines back
- issue: a draft of a tenant that is not on hold; replaced first if it differs
- void: a draft or issued invoice has nothing to bill any more
- frozen: a paid, void, delivered or pushed invoice differs from what would be billed now; left alone, reported
- on_hold: an issued invoice of a tenant on hold differs; left alone until the tenant is released
- held_back: the tenant has a fault; an invoice that stands is left alone
"""


def plan(
    existing: pd.DataFrame,
    recomputed: pd.DataFrame,
    held_back: Series,
    on_hold: Series,
    lost_lines: Mapping[str, str] = {},
) -> pd.DataFrame:
    """One row per tenant with an invoice, before or after, ordered by tenant: its `action` and both totals.

    `existing` has the columns of EXISTING, `recomputed` of invoice.INVOICES; `held_back` names tenants with a fault,
    `on_hold` those that an operator holds, `lost_lines` those whose invoice has other lines than it was given, with the
    lines_sha256 of these. Columns: id (the invoice's), tenant_id, action, replaces (the content is another, or its
    lines were lost and cannot be made again), restores (they can, and are written again), status, invoice_number,
    standing_sha256, standing_cents (null: no invoice), recomputed_cents (null: nothing to bill), difference_cents,
    locked, charges_cents (what is recomputed of charges alone; 0: nothing to bill).
    """
    both = beside(existing, recomputed)
    stands = pc.is_valid(both["id"])
    owed = pc.and_(stands, pc.fill_null(pc.not_equal(both["status"], "void"), False))
    frozen = pc.and_(stands, pc.fill_null(both["locked"], False))
    same, restores = _compared(both, owed, frozen, lost_lines)
    action = _actions(both, same, restores, frozen, *(_names(both, tenants) for tenants in (held_back, on_hold)))
    writes = pc.is_in(action, pa.array(["revise", "issue"]))
    standing = pc.if_else(owed, both["total_cents"], pc.if_else(stands, 0, pa.scalar(None, CENTS)))
    columns = {
        "id": pc.coalesce(both["id"], both["id_new"]),
        "tenant_id": both["tenant_id"],
        "action": action,
        "replaces": pc.and_not(writes, same),
        "restores": pc.and_(writes, restores),
        "status": both["status"],
        "invoice_number": both["invoice_number"],
        "standing_sha256": both["content_sha256"],
        "standing_cents": standing,
        "recomputed_cents": both["total_cents_new"],
        "difference_cents": pc.subtract(pc.fill_null(both["total_cents_new"], 0), pc.fill_null(standing, 0)),
        "locked": frozen,
        "charges_cents": pc.fill_null(both["charges_cents_new"], 0),
    }
    return to_pandas(pa.table(columns))


def beside(existing: pd.DataFrame, recomputed: pd.DataFrame) -> pa.Table:
    """A row for each tenant of either, in order: the columns of EXISTING, and those of INVOICES with `_new` behind."""
    standing, computed = to_arrow(existing, EXISTING), to_arrow(recomputed, INVOICES)
    tenants = pc.unique(pa.chunked_array([*standing["tenant_id"].chunks, *computed["tenant_id"].chunks], TEXT))
    tenants = tenants.take(pc.sort_indices(tenants))
    as_computed = computed.rename_columns([f"{name}_new" for name in computed.column_names])
    rows, others = pa.table({"tenant_id": tenants}), [name for name in EXISTING.names if name != "tenant_id"]
    rows = look_up(rows, standing, (tenants, standing["tenant_id"]), *others)
    return look_up(rows, as_computed, (tenants, computed["tenant_id"]), *as_computed.column_names)


def _names(both: pa.Table, tenants: Series) -> Column:
    """Which rows' tenants are among these."""
    return pc.is_in(both["tenant_id"], pa.array(tenants.array, TEXT, from_pandas=True))


def _compared(both: pa.Table, owed: Column, frozen: Column, lost_lines: Mapping[str, str]) -> tuple[Column, Column]:
    """Which invoices are as they would be computed now, and which of them get their lost lines back."""
    stands, computed = pc.is_valid(both["id"]), pc.is_valid(both["id_new"])
    content_is_same = pc.fill_null(pc.equal(both["content_sha256"], both["content_sha256_new"]), False)
    same = pc.or_(pc.and_(pc.and_(owed, computed), content_is_same), pc.and_not(pc.and_not(stands, owed), computed))
    lost = pa.array(list(map(lost_lines.get, both["tenant_id"].to_pylist())), TEXT)
    has_lost = pc.and_not(pc.and_(pc.is_valid(lost), owed), frozen)
    lines_are_same = pc.fill_null(pc.equal(lost, both["lines_sha256_new"]), False)
    restores = pc.and_(pc.and_(has_lost, same), lines_are_same)
    return pc.and_not(same, pc.and_not(has_lost, restores)), restores


def _actions(
    both: pa.Table, same: Column, restores: Column, frozen: Column, held_back: Column, waits: Column
) -> Column:
    """What becomes of each invoice, as ACTIONS."""
    stands, computed = pc.is_valid(both["id"]), pc.is_valid(both["id_new"])
    is_draft, is_issued = (pc.fill_null(pc.equal(both["status"], status), False) for status in ("draft", "issued"))
    issue = pc.and_not(pc.and_not(pc.and_(is_draft, computed), waits), frozen)
    by_an_operator = pc.fill_null(both["voided_by_an_operator"], False)
    rules = {  # the first that applies wins
        "held_back": held_back,
        "keep": pc.or_(pc.and_not(pc.and_not(same, issue), restores), by_an_operator),
        "frozen": frozen,
        "on_hold": pc.and_not(pc.and_(is_issued, waits), restores),
        "void": pc.invert(computed),
        "issue": issue,
        "draft": pc.and_not(waits, stands),
        "add": pc.invert(stands),
    }
    which = pc.make_struct(*rules.values(), field_names=list(rules))
    return pc.case_when(which, *(pa.scalar(name, TEXT) for name in [*rules, "revise"]))
