"""What the UI shows of assets and checks: metadata and previews; pictures.py draws.

Metadata is built inside the transaction that it reports: if it cannot be built, nothing is committed. Pictures are
drawn after it has committed.

Belongs here: what a run made of a month, and what a check found. Does not: what an operator's job did (act_reports.py),
how a table looks (tables.py).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.costs.allocation import Allocated
from arcadia_pipelines.costs.bills import Standing, Stored
from arcadia_pipelines.month.steps import Frozen
from arcadia_pipelines.pipeline.tables import Metadata, exact_sum, money_table, table, table_schema
from arcadia_pipelines.proof.control import Finding
from arcadia_pipelines.storage.columns import Column
from arcadia_pipelines.storage.publication import Published

FROZEN_REMEDY = (
    "Left as they are. What a paid, delivered or pushed one bills too little or too much, ex GST, is on the tenant's"
    " next invoice; a void one stays void until an operator reopens it."
)
CHAIN_HEAD = "head"
"""The key of the head of a month's chain of events: `arcadia audit --head` proves that nothing up to it changed."""
_SIDES = ("revenue", "cost", "margin", "unallocated")
_DONE = {
    "keep": "unchanged",
    "add": "added",
    "draft": "drafted",
    "revise": "revised",
    "issue": "issued from draft",
    "void": "voided",
    "on_hold": "on hold",
    "held_back": "held back",
}


def usage(
    kinds: pd.DataFrame, frozen: Frozen, columns: list[Column], counted_from: Mapping[str, Any] | None
) -> Metadata:
    """What the freezing of a month's usage did; `kinds` are as usage.KINDS, and `counted_from` is a source's pin."""
    elsewhere = {"counted_from": dg.MetadataValue.json(dict(counted_from))} if counted_from else {}
    return {
        "dagster/row_count": dg.MetadataValue.int(int(kinds["meters"].sum())),
        "records": dg.MetadataValue.int(int(kinds["record_count"].sum())),
        "usage_cutoff": dg.MetadataValue.timestamp(frozen.cutoff),
        "changed": dg.MetadataValue.bool(frozen.changed),
        "usage_by_kind": table(kinds[["resource_kind", "quantity", "record_count"]]),
        **elsewhere,
        "dagster/column_schema": table_schema(columns),
    }


def quotes(
    kinds: pd.DataFrame, unbilled_rows: int, faults: pd.DataFrame, changed: bool, columns: list[Column]
) -> Metadata:
    """What the quoting of a month found; `kinds` are as storage/quotes.KINDS. Each subscription has one plan_base."""
    subtotal = exact_sum(kinds["amount_cents"])
    plans = kinds[kinds["kind"] == "plan_base"]["lines"]
    return {
        "subtotal": dg.MetadataValue.text(f"${dollars(subtotal)} ex GST"),
        "dagster/row_count": dg.MetadataValue.int(int(kinds["lines"].sum())),
        "subscriptions": dg.MetadataValue.int(int(plans.sum())),
        "unbilled_usage_rows": dg.MetadataValue.int(unbilled_rows),
        "tenants_held_back": dg.MetadataValue.int(int(faults["tenant_id"].nunique())),
        "changed": dg.MetadataValue.bool(changed),
        "amount_by_kind": money_table(kinds),
        "subtotal_cents": dg.MetadataValue.int(subtotal),
        "dagster/column_schema": table_schema(columns),
    }


def invoice_lines(lines: int, revenue: pd.DataFrame, columns: list[Column]) -> Metadata:
    """The lines of a month as they stand; `revenue` has the month's rows of ledger.REVENUE."""
    cents = exact_sum(revenue["revenue_cents"])
    kinds = revenue[["resource_kind", "revenue_cents"]].sort_values("revenue_cents", ascending=False)
    return {
        "revenue": dg.MetadataValue.text(f"${dollars(cents)} ex GST"),
        "dagster/row_count": dg.MetadataValue.int(lines),
        "revenue_by_kind": money_table(kinds),
        "revenue_cents": dg.MetadataValue.int(cents),
        "dagster/column_schema": table_schema(columns),
    }


def invoices(
    published: Published, standing: pd.DataFrame, largest: pd.DataFrame, head: str | None, columns: list[Column]
) -> Metadata:
    """The invoices of a month as they stand, and what this run changed.

    `standing` and `largest` are as ledger.SUMS and LARGEST; `head` is that of the month's chain of events.
    """
    cents, counts, changed = sums(standing), published.actions, published.changed
    total, subtotal, tax = (dollars(cents[f"{name}_cents"]) for name in ("total", "subtotal", "tax"))
    return {
        "total": dg.MetadataValue.text(f"${total} = ${subtotal} + GST ${tax}"),
        "this_run": dg.MetadataValue.text(
            ", ".join(f"{count} {_DONE.get(action, action)}" for action, count in counts.items() if count)
            or "nothing to invoice"
        ),
        "dagster/row_count": dg.MetadataValue.int(int(standing["invoices"].iloc[0])),
        # Money before numbers: where the window is narrow, the UI cuts the right of a table off.
        "largest_invoices": money_table(largest),
        "changed_by_this_run": money_table(
            changed[["tenant_id", "action", "standing_cents", "recomputed_cents", "difference_cents"]]
        ),
        CHAIN_HEAD: dg.MetadataValue.text(head or ""),
        **{column: dg.MetadataValue.int(sum_of) for column, sum_of in cents.items()},
        **{f"invoices_{action}": dg.MetadataValue.int(count) for action, count in counts.items()},
        "dagster/column_schema": table_schema(columns),
    }


def sums(standing: pd.DataFrame) -> dict[str, int]:
    """The sums of ledger.SUMS, by column."""
    return {column: int(standing[column].iloc[0]) for column in ("subtotal_cents", "tax_cents", "total_cents")}


def bill(
    stored: Stored | None, how: str, standing: Standing, products: pd.DataFrame, columns: list[Column]
) -> Metadata:
    """A month's bill as it stands, how it was received (or why not), and what changed; `products`: bills.PRODUCTS."""
    moved = stored.moved if stored else None
    return {
        "total": dg.MetadataValue.text(f"{dollars(standing.total_cents)} USD, revision {standing.revision}"),
        "this_run": dg.MetadataValue.text(f"{how}: {stored.outcome}" if stored else how),
        "source": dg.MetadataValue.text(f"{standing.source}, {standing.received_at:%Y-%m-%d %H:%M} UTC"),
        "dagster/row_count": dg.MetadataValue.int(standing.item_count),
        "products": money_table(products),
        **({"moved": money_table(moved)} if moved is not None else {}),
        "total_usd_cents": dg.MetadataValue.int(standing.total_cents),
        "dagster/column_schema": table_schema(columns),
    }


def costs(
    allocated: Allocated,
    months: pd.DataFrame,
    kinds: pd.DataFrame,
    margins: pd.DataFrame,
    unallocated: pd.DataFrame,
    columns: list[Column],
) -> Metadata:
    """A month's bill allocated, beside its revenue.

    `months` (to this one), `kinds`, `margins`, `unallocated`: as costs.MONTHS, KINDS, DEPLOYMENTS and UNALLOCATED.
    """
    this = months.iloc[-1]
    known = allocated.aud_cents is not None
    parts = {name: "" if pd.isna(this[f"{name}_cents"]) else dollars(int(this[f"{name}_cents"])) for name in _SIDES}
    return {
        "margin": dg.MetadataValue.text(
            f"${parts['margin']} = revenue ${parts['revenue']} - cost ${parts['cost']}, AUD ex GST"
            if known
            else f"not known: {this['open_points']}"
        ),
        "reconciled": dg.MetadataValue.text(f"no: {this['open_points']}" if this["open_points"] else "yes"),
        "dagster/row_count": dg.MetadataValue.int(len(allocated.rows)),
        "lowest_margins": money_table(margins),
        "unallocated": money_table(unallocated),
        "cost_vs_revenue_by_kind": money_table(kinds),
        "bill_usd_cents": dg.MetadataValue.int(allocated.usd_cents),
        **{
            f"{name}_cents": dg.MetadataValue.int(int(this[f"{name}_cents"]))
            for name in _SIDES
            if not pd.isna(this[f"{name}_cents"])
        },
        "dagster/column_schema": table_schema(columns),
    }


def with_pictures(metadata: Metadata, drawn: Metadata, *names: str) -> Metadata:
    """The metadata with some of the pictures, after what it says first."""
    first = next(iter(metadata))
    return {first: metadata[first], **{name: drawn[name] for name in names}, **metadata}


def finding(found: Finding, remedy: str) -> Metadata:
    """A check's offenders, worst first, and what to do about them."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(found.count)}
    if found.count:
        metadata["offenders_shown"] = money_table(pd.DataFrame(found.offenders, dtype=object))
        metadata["what_to_do"] = dg.MetadataValue.text(remedy)
    return metadata


def frozen(differing: pd.DataFrame) -> Metadata:
    """The locked invoices that would be billed differently now, and what to do; rows of reconcile.plan."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(len(differing))}
    if len(differing):
        shown = differing[
            ["tenant_id", "standing_cents", "recomputed_cents", "difference_cents", "status", "invoice_number"]
        ].sort_values("difference_cents", key=abs, ascending=False, kind="stable")
        metadata["differences"] = money_table(shown)
        metadata["difference_cents"] = dg.MetadataValue.int(exact_sum(differing["difference_cents"]))
        metadata["what_to_do"] = dg.MetadataValue.text(FROZEN_REMEDY)
    return metadata
