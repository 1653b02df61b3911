"""What becomes of each invoice of a month when the month is computed again.

Belongs here: the decision, per tenant. Does not: carrying it out (storage/publication.py).
"""

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from arcadia_pipelines.billing.money import CENTS, FLAG, TEXT, Series

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
    both = existing.merge(recomputed, on="tenant_id", how="outer", suffixes=("", "_new")).sort_values(
        "tenant_id", ignore_index=True
    )
    stands = both["id"].notna()
    owed = stands & (both["status"] != "void").fillna(False)
    frozen = stands & both["locked"].fillna(False)
    same, restores = _compared(both, owed, frozen, lost_lines)
    action = _actions(both, same, restores, frozen, held_back, on_hold)
    standing = both["total_cents"].where(owed, 0).where(stands)
    return pd.DataFrame(
        {
            "id": both["id"].fillna(both["id_new"]),
            "tenant_id": both["tenant_id"],
            "action": action,
            "replaces": action.isin(["revise", "issue"]) & ~same,
            "restores": action.isin(["revise", "issue"]) & restores,
            "status": both["status"],
            "invoice_number": both["invoice_number"],
            "standing_sha256": both["content_sha256"],
            "standing_cents": standing,
            "recomputed_cents": both["total_cents_new"],
            "difference_cents": both["total_cents_new"].fillna(0) - standing.fillna(0),
            "locked": frozen,
            "charges_cents": both["charges_cents"].fillna(0),
        }
    )


def _compared(both: pd.DataFrame, owed: Series, frozen: Series, lost_lines: Mapping[str, str]) -> tuple[Series, Series]:
    """Which invoices are as they would be computed now, and which of them get their lost lines back."""
    stands, computed = both["id"].notna(), both["id_new"].notna()
    content_is_same = (both["content_sha256"] == both["content_sha256_new"]).fillna(False)
    same = (owed & computed & content_is_same) | (stands & ~owed & ~computed)
    lost = pd.Series(map(lost_lines.get, both["tenant_id"]), index=both.index, dtype=pd.ArrowDtype(TEXT))
    has_lost = lost.notna() & owed & ~frozen
    restores = has_lost & same & (lost == both["lines_sha256"]).fillna(False)
    return same & (~has_lost | restores), restores


def _actions(
    both: pd.DataFrame, same: Series, restores: Series, frozen: Series, held_back: Series, on_hold: Series
) -> Series:
    """What becomes of each invoice, as ACTIONS."""
    stands, computed = both["id"].notna(), both["id_new"].notna()
    status, waits = both["status"].fillna(""), both["tenant_id"].isin(on_hold)
    issue = (status == "draft") & computed & ~waits & ~frozen
    rules = {  # the first that applies wins
        "held_back": both["tenant_id"].isin(held_back),
        "keep": same & ~issue & ~restores | both["voided_by_an_operator"].fillna(False),
        "frozen": frozen,
        "on_hold": (status == "issued") & waits & ~restores,
        "void": ~computed,
        "issue": issue,
        "draft": ~stands & waits,
        "add": ~stands,
    }
    action = pd.Series("revise", index=both.index, dtype=pd.ArrowDtype(TEXT))
    for name, applies in reversed(rules.items()):
        action = action.mask(applies, name)
    return action
