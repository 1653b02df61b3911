"""What the UI shows: metadata and previews; pictures.py draws.

Metadata is built inside the transaction that it reports: if it cannot be built, nothing is committed. Pictures are
drawn after it has committed.
"""

import decimal
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import pandas as pd

from arcadia_pipelines.billing.money import WHOLE, Series, cast, dollars, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs.allocation import Allocated
from arcadia_pipelines.costs.bills import Standing, Stored
from arcadia_pipelines.documents.content import Content
from arcadia_pipelines.month.steps import Frozen
from arcadia_pipelines.proof.control import MOST_SHOWN, Finding
from arcadia_pipelines.storage.columns import Column
from arcadia_pipelines.storage.operations import Row
from arcadia_pipelines.storage.publication import Published
from arcadia_pipelines.storage.suppliers import Supplier

Metadata = Mapping[str, dg.MetadataValue]
"""In the order a person reads it. The keys stay the same from run to run: the UI plots each number, a point a month."""

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
    subtotal = _sum(kinds["amount_cents"])
    plans = kinds[kinds["kind"] == "plan_base"]["lines"]
    return {
        "subtotal": dg.MetadataValue.text(f"${dollars(subtotal)} ex GST"),
        "dagster/row_count": dg.MetadataValue.int(int(kinds["lines"].sum())),
        "subscriptions": dg.MetadataValue.int(int(plans.sum())),
        "unbilled_usage_rows": dg.MetadataValue.int(unbilled_rows),
        "tenants_held_back": dg.MetadataValue.int(int(faults["tenant_id"].nunique())),
        "changed": dg.MetadataValue.bool(changed),
        "amount_by_kind": table(_in_dollars(kinds)),
        "subtotal_cents": dg.MetadataValue.int(subtotal),
        "dagster/column_schema": table_schema(columns),
    }


def invoice_lines(lines: int, revenue: pd.DataFrame, columns: list[Column]) -> Metadata:
    """The lines of a month as they stand; `revenue` has the month's rows of ledger.REVENUE."""
    cents = _sum(revenue["revenue_cents"])
    kinds = revenue[["resource_kind", "revenue_cents"]].sort_values("revenue_cents", ascending=False)
    return {
        "revenue": dg.MetadataValue.text(f"${dollars(cents)} ex GST"),
        "dagster/row_count": dg.MetadataValue.int(lines),
        "revenue_by_kind": table(_in_dollars(kinds)),
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
        "largest_invoices": table(_in_dollars(largest)),
        "changed_by_this_run": table(
            _in_dollars(changed[["tenant_id", "action", "standing_cents", "recomputed_cents", "difference_cents"]])
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
        "products": table(_in_dollars(products)),
        **({"moved": table(_in_dollars(moved))} if moved is not None else {}),
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
        "lowest_margins": table(_in_dollars(margins)),
        "unallocated": table(_in_dollars(unallocated)),
        "cost_vs_revenue_by_kind": table(_in_dollars(kinds)),
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
        metadata["offenders_shown"] = table(_in_dollars(pd.DataFrame(found.offenders, dtype=object)))
        metadata["what_to_do"] = dg.MetadataValue.text(remedy)
    return metadata


def frozen(differing: pd.DataFrame) -> Metadata:
    """The locked invoices that would be billed differently now, and what to do; rows of reconcile.plan."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(len(differing))}
    if len(differing):
        shown = differing[
            ["tenant_id", "standing_cents", "recomputed_cents", "difference_cents", "status", "invoice_number"]
        ].sort_values("difference_cents", key=abs, ascending=False, kind="stable")
        metadata["differences"] = table(_in_dollars(shown))
        metadata["difference_cents"] = dg.MetadataValue.int(_sum(differing["difference_cents"]))
        metadata["what_to_do"] = dg.MetadataValue.text(FROZEN_REMEDY)
    return metadata


def operation(state: str, done: Sequence[Row], dry_run: bool, on_hold: Sequence[str] = ()) -> Metadata:
    """What an operator's job did to invoices (rows of operations.change), which are in this state now, or would be."""
    months = sorted({f"{row['period_start']:%Y-%m}" for row in done})
    total = sum(int(str(row["total_cents"])) for row in done)
    summary = f"{number_of(len(done), 'invoices')} {_now(state, dry_run)}"
    if done:
        summary += f", ${dollars(total)} with GST, of {', '.join(months)}"
    if on_hold:
        summary += f"; on hold, so left as drafts: {', '.join(on_hold)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "invoices_changed": dg.MetadataValue.int(len(done)),
        "changed": table(_in_dollars(pd.DataFrame(done, dtype=object))),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def delivered(first: Sequence[Content], of: int, dry_run: bool) -> Metadata:
    """What the delivery of so many invoices and adjustment notes did, the `first` of which had not been delivered."""
    invoices = [content for content in first if not content.cancels]
    total = sum(content.total_cents for content in invoices)
    summary = f"{number_of(len(invoices), 'invoices')} {_now('delivered', dry_run)}, ${dollars(total)} with GST"
    if notes := len(first) - len(invoices):
        summary += f"; {number_of(notes, 'adjustment notes')} {_now('delivered', dry_run)}"
    if of > len(first):
        summary += f"; {of - len(first):,} had been delivered before"
    rows = [{"invoice": content.number, "tenant_id": content.tenant_id} for content in first]
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "invoices_changed": dg.MetadataValue.int(len(first)),
        "changed": table(pd.DataFrame(rows, columns=["invoice", "tenant_id"], dtype=object)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def emails(
    month: BillingMonth, pending: int, outcomes: Mapping[str, int], without: Sequence[str], dry_run: bool
) -> Metadata:
    """What became of so many e-mails of the month's invoices, and which tenants have no address."""
    of = f"{number_of(pending, 'e-mails')} of {month}"
    became = ", ".join(f"{count:,} {state}" for state, count in sorted(outcomes.items())) or "none was to be sent"
    summary = f"{of} would be sent" if dry_run else f"{of}: {became}"
    if without:
        summary += f"; no billing_email: {', '.join(without)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        **{
            f"emails_{state}": dg.MetadataValue.int(outcomes.get(state, 0))
            for state in ("sent", "uncertain", "refused")
        },
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def decided(count: int, outcome: str, dry_run: bool) -> Metadata:
    """What an operator decided of so many e-mails."""
    summary = f"{number_of(count, 'e-mails')}: {outcome}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def hold(state: str, tenants: Sequence[str], drafts: Sequence[Row], dry_run: bool) -> Metadata:
    """What an operator's job did to tenants, which are in this state now, or would be; and the drafts they have."""
    months = sorted({f"{row['period_start']:%Y-%m}" for row in drafts})
    summary = f"{number_of(len(tenants), 'tenants')} {_now(state, dry_run)}: {', '.join(tenants)}"
    if drafts:
        summary += f"; {number_of(len(drafts), 'drafts')} of {', '.join(months)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "tenants_changed": dg.MetadataValue.int(len(tenants)),
        "drafts": table(_in_dollars(pd.DataFrame(drafts, dtype=object))),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def vanished(lost: pd.DataFrame, dry_run: bool) -> Metadata:
    """What was accepted as lost; columns as usage.VANISHED."""
    records = _sum(lost["frozen_records"]) - _sum(lost["remaining_records"])
    summary = f"{number_of(records, 'records')} {_would(dry_run)}accepted as lost, of {number_of(len(lost), 'meters')}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary if len(lost) else "no frozen usage has vanished", dry_run)),
        "records_lost": dg.MetadataValue.int(records),
        "vanished": table(lost),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def unbilled(accepted: pd.DataFrame, dry_run: bool) -> Metadata:
    """What nobody pays for, as accepted; columns as unbilled.UNBILLED."""
    at_stake, unknown = _sum(accepted["at_stake_cents"].fillna(0)), int(accepted["at_stake_cents"].isna().sum())
    rows = f"{number_of(len(accepted), 'rows')} of unbilled usage"
    summary = f"{rows} {_would(dry_run)}accepted, ${dollars(at_stake)} ex GST at stake"
    if unknown:
        summary += f", and {number_of(unknown, 'rows')} without a rate to price them"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary if len(accepted) else "no unbilled usage is open", dry_run)),
        "rows_accepted": dg.MetadataValue.int(len(accepted)),
        "at_stake_cents": dg.MetadataValue.int(at_stake),
        "accepted": table(_in_dollars(accepted)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def missing(gone: pd.DataFrame, dry_run: bool) -> Metadata:
    """Who was accepted as gone; columns as missing.MISSING."""
    summary = (
        f"{number_of(len(gone), 'tenants')} {_would(dry_run)}accepted as gone"
        if len(gone)
        else "no tenant that was invoiced is missing"
    )
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "tenants_missing": dg.MetadataValue.int(len(gone)),
        "missing": table(gone),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def manual_line(tenant: str, added: str, lines: Sequence[Row], dry_run: bool) -> Metadata:
    """The manual line of this id that was entered, and the tenant's others of its month; rows of entered.lines_of."""
    new = next(line for line in lines if line["manual_line"] == added)
    same_month = [line for line in lines if line["month"] == new["month"]]
    kind = "credit" if int(str(new["amount_cents"])) < 0 else "adjustment"
    amount = dollars(int(str(new["amount_cents"])))
    summary = f"1 {kind} {_would(dry_run)}entered: {tenant}, {new['month']}, {amount} ex GST, {new['invoice']}"
    if others := len(same_month) - 1:
        summary += f"; beside {number_of(others, 'lines')} entered for {tenant} and that month before"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "lines_entered": dg.MetadataValue.int(1),
        "lines_of_the_month": _entered(same_month, "description", "amount_cents", "invoice", "operator", "reason"),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def grant(tenant: str, added: str, grants: Sequence[Row], dry_run: bool) -> Metadata:
    """The grant of this id that was entered, and all of the tenant's; rows of entered.grants_of."""
    new = next(granted for granted in grants if granted["grant_id"] == added)
    until = f"for months that begin before {new['expires_on']}" if new["expires_on"] else "without an end"
    amount = dollars(int(str(new["amount_cents"])))
    summary = f"promotional credit of {amount} ex GST {_would(dry_run)}granted to {tenant}, {until}"
    if others := len(grants) - 1:
        left = sum(int(str(granted["left_cents"])) for granted in grants if granted is not new)
        summary += f"; beside {number_of(others, 'grants')} before, of which {dollars(left)} is left"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "grants_entered": dg.MetadataValue.int(1),
        "grants": _entered(grants, "description", "amount_cents", "left_cents", "expires_on", "operator", "reason"),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def supplier(entered: Supplier, month: BillingMonth, dry_run: bool) -> Metadata:
    """Who sells from that month on."""
    summary = f"{entered.legal_name} (ABN {entered.abn}) {_would(dry_run)}entered as the supplier from {month} on"
    rows = [(name, str(value)) for name, value in asdict(entered).items() if value is not None and name != "logo_svg"]
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "supplier": table(pd.DataFrame(rows, columns=["column", "value"])),
        "has_logo": dg.MetadataValue.bool(entered.logo_svg is not None),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def _entered(rows: Sequence[Row], *columns: str) -> dg.TableMetadataValue:
    return table(_in_dollars(pd.DataFrame([[row[name] for name in columns] for row in rows], columns=list(columns))))


def _now(state: str, dry_run: bool) -> str:
    return f"would be {state}" if dry_run else f"{state} now"


def _would(dry_run: bool) -> str:
    return "would be " if dry_run else ""


def _if_dry(summary: str, dry_run: bool) -> str:
    return f"dry run, nothing is written: {summary}" if dry_run else summary


def table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """The frame as an inline table; at most 20 rows."""
    columns = {str(name): _cells(list(data[name].head(MOST_SHOWN))) for name in data.columns}
    records = [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name, "string") for name in columns]))


def money_table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """As table(), with cents as dollars."""
    return table(_in_dollars(data))


def table_schema(columns: list[Column]) -> dg.TableSchemaMetadataValue:
    """The columns of a table or a view, as the catalogue shows them."""
    return dg.MetadataValue.table_schema(
        dg.TableSchema(
            [dg.TableColumn(c.name, c.type, c.comment, dg.TableColumnConstraints(nullable=c.nullable)) for c in columns]
        )
    )


def _sum(cents: Series) -> int:
    """The exact sum of a column of cents, also past 64 bits."""
    return int(cast(cents, WHOLE).sum())


def _in_dollars(data: pd.DataFrame) -> pd.DataFrame:
    """The rows to show, with `*_cents` columns as dollars for people, without the suffix."""
    shown = data.head(MOST_SHOWN)
    money = [column for column in shown.columns if column.endswith("_cents")]
    amounts = {name: ["" if pd.isna(cents) else dollars(int(cents)) for cents in shown[name]] for name in money}
    return shown.assign(**amounts).rename(columns={column: column.removesuffix("_cents") for column in money})


def _cells(values: list[object]) -> list[str]:
    """A column of a table as text; numbers are lined up on the right by spaces that the browser keeps."""
    cells = [_cell(value) for value in values]
    if not all(re.fullmatch(r"-?[\d,.]*", cell) for cell in cells):
        return cells
    width = max(map(len, cells), default=0)
    return [cell.rjust(width, "\N{NO-BREAK SPACE}") for cell in cells]


def _cell(value: object) -> str:
    if value is None or value is pd.NA:
        return ""
    return f"{value:,}" if isinstance(value, int | decimal.Decimal) else str(value)
