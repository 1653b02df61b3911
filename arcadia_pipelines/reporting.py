"""What the UI shows: metadata, previews, pictures. The one place where money becomes a float, to be drawn.

Metadata is built inside the transaction that it reports: if it cannot be built, nothing is committed.
"""

import base64
import datetime as dt
import decimal
import re
from collections.abc import Mapping, Sequence

import altair as alt
import dagster as dg
import pandas as pd
import vl_convert

from arcadia_pipelines.billing.allocation import Allocated
from arcadia_pipelines.billing.money import WHOLE, Series, cast, dollars
from arcadia_pipelines.storage.columns import Column
from arcadia_pipelines.storage.controls import MOST_SHOWN, Finding
from arcadia_pipelines.storage.costs import Standing, Stored
from arcadia_pipelines.storage.ledger import Published
from arcadia_pipelines.storage.operations import Row

Metadata = Mapping[str, dg.MetadataValue]
"""In the order a person reads it. The keys stay the same from run to run: the UI plots each number, a point a month."""

FROZEN_REMEDY = (
    "Left as they are. What a paid or pushed one bills too little or too much, ex GST, is on the tenant's next invoice;"
    " a void one stays void until an operator reopens it."
)
_PARTS = {"plan_base": "#30638e", "addon": "#edae49", "overage": "#00798c", "adjustment": "#d1495b"}
_SIDES = ("revenue", "cost", "margin", "unallocated")
_SIDE_COLOURS = {"revenue": "#30638e", "cost": "#d1495b"}
_SIDE = alt.Color(
    "side:N",
    title=None,
    scale=alt.Scale(domain=list(_SIDE_COLOURS), range=list(_SIDE_COLOURS.values())),
    legend=alt.Legend(orient="top"),
)
_LOOK = {
    "axis": {"labelFontSize": 12},
    "legend": {"labelFontSize": 12},
    "title": {"fontSize": 15},
    "view": {"stroke": None},
}
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


def usage(kinds: pd.DataFrame, cutoff: dt.datetime, changed: bool, columns: list[Column]) -> Metadata:
    """What the freezing of a month's usage did; `kinds` are as usage.KINDS."""
    return {
        "dagster/row_count": dg.MetadataValue.int(int(kinds["meters"].sum())),
        "records": dg.MetadataValue.int(int(kinds["record_count"].sum())),
        "usage_cutoff": dg.MetadataValue.timestamp(cutoff),
        "changed": dg.MetadataValue.bool(changed),
        "usage_by_kind": table(kinds[["resource_kind", "quantity", "record_count"]]),
        "dagster/column_schema": _table_schema(columns),
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
        "dagster/column_schema": _table_schema(columns),
    }


def invoice_lines(lines: int, revenue: pd.DataFrame, columns: list[Column]) -> Metadata:
    """The lines of a month as they stand; `revenue` has the month's rows of ledger.REVENUE."""
    cents = _sum(revenue["revenue_cents"])
    kinds = revenue[["resource_kind", "revenue_cents"]].sort_values("revenue_cents", ascending=False)
    return {
        "revenue": dg.MetadataValue.text(f"${dollars(cents)} ex GST"),
        "dagster/row_count": dg.MetadataValue.int(lines),
        "revenue_by_kind_picture": picture(revenue_by_kind(kinds)),
        "revenue_by_kind": table(_in_dollars(kinds)),
        "revenue_cents": dg.MetadataValue.int(cents),
        "dagster/column_schema": _table_schema(columns),
    }


def invoices(
    published: Published, standing: pd.DataFrame, largest: pd.DataFrame, revenue: pd.DataFrame, columns: list[Column]
) -> Metadata:
    """The invoices of a month as they stand, and what this run changed.

    `standing`, `largest` and `revenue` are as ledger.SUMS, LARGEST and REVENUE.
    """
    sums = {column: int(standing[column].iloc[0]) for column in ("subtotal_cents", "tax_cents", "total_cents")}
    counts, changed = published.actions, published.changed
    return {
        "total": dg.MetadataValue.text(
            f"${dollars(sums['total_cents'])} = ${dollars(sums['subtotal_cents'])} + GST ${dollars(sums['tax_cents'])}"
        ),
        "this_run": dg.MetadataValue.text(
            ", ".join(f"{count} {_DONE.get(action, action)}" for action, count in counts.items() if count)
            or "nothing to invoice"
        ),
        "dagster/row_count": dg.MetadataValue.int(int(standing["invoices"].iloc[0])),
        "revenue_by_month_picture": picture(revenue_by_month(revenue)),
        # Money before numbers: where the window is narrow, the UI cuts the right of a table off.
        "largest_invoices": table(_in_dollars(largest)),
        "changed_by_this_run": table(
            _in_dollars(changed[["tenant_id", "action", "standing_cents", "recomputed_cents", "difference_cents"]])
        ),
        **{column: dg.MetadataValue.int(cents) for column, cents in sums.items()},
        **{f"invoices_{action}": dg.MetadataValue.int(count) for action, count in counts.items()},
        "dagster/column_schema": _table_schema(columns),
    }


def bill(
    stored: Stored | None, instead: str, standing: Standing, products: pd.DataFrame, columns: list[Column]
) -> Metadata:
    """A month's bill as it stands, and what fetching it did, or why not; `products` are as costs.PRODUCTS."""
    moved = stored.moved if stored else None
    return {
        "total": dg.MetadataValue.text(f"{dollars(standing.total_cents)} USD, revision {standing.revision}"),
        "this_run": dg.MetadataValue.text(f"fetched: {stored.outcome}" if stored else f"nothing fetched: {instead}"),
        "source": dg.MetadataValue.text(f"{standing.source}, {standing.received_at:%Y-%m-%d %H:%M} UTC"),
        "dagster/row_count": dg.MetadataValue.int(standing.item_count),
        "products": table(_in_dollars(products)),
        **({"moved": table(_in_dollars(moved))} if moved is not None else {}),
        "total_usd_cents": dg.MetadataValue.int(standing.total_cents),
        "dagster/column_schema": _table_schema(columns),
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
        "cost_vs_revenue_by_month_picture": picture(cost_vs_revenue_by_month(months)),
        "cost_vs_revenue_by_kind_picture": picture(cost_vs_revenue_by_kind(kinds)),
        "lowest_margins_picture": picture(lowest_margins(margins)),
        "lowest_margins": table(_in_dollars(margins)),
        "unallocated": table(_in_dollars(unallocated)),
        "cost_vs_revenue_by_kind": table(_in_dollars(kinds)),
        "bill_usd_cents": dg.MetadataValue.int(allocated.usd_cents),
        **{
            f"{name}_cents": dg.MetadataValue.int(int(this[f"{name}_cents"]))
            for name in _SIDES
            if not pd.isna(this[f"{name}_cents"])
        },
        "dagster/column_schema": _table_schema(columns),
    }


def finding(found: Finding, remedy: str) -> Metadata:
    """A check's offenders, worst first, and what to do about them."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(found.count)}
    if found.count:
        metadata["offenders_shown"] = table(_in_dollars(pd.DataFrame(found.offenders, dtype=object)))
        metadata["what_to_do"] = dg.MetadataValue.text(remedy)
    return metadata


def frozen(differing: pd.DataFrame) -> Metadata:
    """The frozen invoices that would be billed differently now, and what to do; rows of reconcile.plan."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(len(differing))}
    if len(differing):
        shown = differing[
            ["tenant_id", "standing_cents", "recomputed_cents", "difference_cents", "status", "invoice_number"]
        ].sort_values("difference_cents", key=abs, ascending=False, kind="stable")
        metadata["differences"] = table(_in_dollars(shown))
        metadata["difference_cents"] = dg.MetadataValue.int(_sum(differing["difference_cents"]))
        metadata["what_to_do"] = dg.MetadataValue.text(FROZEN_REMEDY)
    return metadata


def operation(what: str, done: Sequence[Row], dry_run: bool, on_hold: Sequence[str] = ()) -> Metadata:
    """What an operator's job did to invoices (rows of operations.change)."""
    months = sorted({f"{row['period_start']:%Y-%m}" for row in done})
    total = sum(int(str(row["total_cents"])) for row in done)
    summary = f"{_count(len(done), 'invoice')} {what}"
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


def hold(what: str, tenants: Sequence[str], drafts: Sequence[Row], dry_run: bool) -> Metadata:
    """What an operator's job did to tenants, and the drafts that they have."""
    months = sorted({f"{row['period_start']:%Y-%m}" for row in drafts})
    summary = f"{_count(len(tenants), 'tenant')} {what}: {', '.join(tenants)}"
    if drafts:
        summary += f"; {_count(len(drafts), 'draft')} of {', '.join(months)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "tenants_changed": dg.MetadataValue.int(len(tenants)),
        "drafts": table(_in_dollars(pd.DataFrame(drafts, dtype=object))),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def vanished(lost: pd.DataFrame, dry_run: bool) -> Metadata:
    """What was accepted as lost; columns as usage.VANISHED."""
    records = _sum(lost["frozen_records"]) - _sum(lost["remaining_records"])
    summary = f"{_count(records, 'record')} accepted as lost, of {_count(len(lost), 'meter')}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary if len(lost) else "no frozen usage has vanished", dry_run)),
        "records_lost": dg.MetadataValue.int(records),
        "vanished": table(lost),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"


def _if_dry(summary: str, dry_run: bool) -> str:
    return f"dry run, nothing is written: {summary}" if dry_run else summary


def table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """The frame as an inline table; at most 20 rows."""
    columns = {str(name): _cells(list(data[name].head(MOST_SHOWN))) for name in data.columns}
    records = [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name, "string") for name in columns]))


def revenue_by_month(revenue: pd.DataFrame) -> alt.LayerChart:
    """Stacked bars, a month each, with its total. Columns as ledger.REVENUE."""
    columns = [f"{part}_cents" for part in _PARTS]
    months = revenue.groupby("period_start", as_index=False)[columns].sum()
    drawn = _drawable(months.melt("period_start", columns, "column", "cents"))
    drawn = drawn.assign(
        month=drawn["period_start"].astype(str).str[:7],
        part=drawn["column"].str.removesuffix("_cents"),
        rank=drawn["column"].map(columns.index),
    )
    adjusted = drawn.loc[drawn["part"] == "adjustment", "dollars"].ne(0).any()
    parts = [part for part in _PARTS if part != "adjustment" or adjusted]
    base = alt.Chart(drawn).encode(x=alt.X("month:O", title=None, axis=alt.Axis(labelAngle=0)))
    bars = base.mark_bar(size=36).encode(
        y=alt.Y("dollars:Q", title=None, axis=alt.Axis(format="$,.0f")),
        color=alt.Color(
            "part:N",
            title=None,
            scale=alt.Scale(domain=parts, range=[_PARTS[part] for part in parts]),
            legend=alt.Legend(orient="top"),
        ),
        order="rank:Q",
    )
    totals = (
        base.transform_calculate(above="max(datum.dollars, 0)")
        .transform_aggregate(total="sum(dollars)", top="sum(above)", groupby=["month"])
        .mark_text(baseline="bottom", dy=-3)
        .encode(y="top:Q", text=alt.Text("total:Q", format="$,.0f"))
    )
    chart: alt.LayerChart = (bars + totals).properties(title="Revenue by month, AUD ex GST", width=760, height=280)
    return chart


def revenue_by_kind(revenue: pd.DataFrame) -> alt.LayerChart:
    """Bars, a kind each, in the order given. Columns resource_kind and revenue_cents."""
    base = alt.Chart(_drawable(revenue.rename(columns={"revenue_cents": "cents"}))).encode(
        x=alt.X("dollars:Q", title=None, axis=alt.Axis(format="$,.0f", tickCount=6)),
        y=alt.Y("resource_kind:N", title=None, sort=None),
    )
    bars = base.mark_bar(color=_PARTS["plan_base"])
    amounts = base.mark_text(align="left", dx=4).encode(text=alt.Text("dollars:Q", format="$,.2f"))
    chart: alt.LayerChart = (bars + amounts).properties(
        title="Revenue of the month by kind, AUD ex GST", width=640, height=alt.Step(26)
    )
    return chart


def cost_vs_revenue_by_month(months: pd.DataFrame) -> alt.LayerChart:
    """Two bars a month, and what is left in words. Columns as costs.MONTHS."""
    drawn = _sides(months.assign(month=months["period_start"].astype(str).str[:7]), "month")
    base = alt.Chart(drawn).encode(x=alt.X("month:O", title=None, axis=alt.Axis(labelAngle=0)))
    bars = base.mark_bar().encode(
        xOffset=alt.XOffset("side:N", sort=list(_SIDE_COLOURS)),
        y=alt.Y("dollars:Q", title=None, axis=alt.Axis(format="$,.0f")),
        color=_SIDE,
    )
    left = (
        alt.Chart(_drawable(months.rename(columns={"margin_cents": "cents"}).dropna(subset=["cents"])))
        .transform_calculate(month="slice(datum.period_start, 0, 7)", top="datum.revenue_cents / 100")
        .mark_text(baseline="bottom", dy=-3)
        .encode(x="month:O", y="top:Q", text=alt.Text("dollars:Q", format="$,.0f"))
    )
    chart: alt.LayerChart = (bars + left).properties(
        title="Revenue, cost, and above them the margin, AUD ex GST", width=760, height=280
    )
    return chart


def cost_vs_revenue_by_kind(kinds: pd.DataFrame) -> alt.LayerChart:
    """Two bars a kind, in the order given. Columns as costs.KINDS."""
    return _two_bars(
        _sides(kinds, "resource_kind"), "resource_kind", "Revenue and cost of the month by kind, AUD ex GST"
    )


def lowest_margins(margins: pd.DataFrame) -> alt.LayerChart:
    """Two bars a deployment, the lowest margin first. Columns as costs.DEPLOYMENTS."""
    name, tenant = margins["deployment_name"], margins["tenant_id"].fillna("no tenant")
    named = margins.assign(deployment=name.where(~name.duplicated(keep=False), name + ", " + tenant))
    return _two_bars(_sides(named, "deployment"), "deployment", "The lowest margins of the month, AUD ex GST")


def _two_bars(drawn: pd.DataFrame, by: str, title: str) -> alt.LayerChart:
    base = alt.Chart(drawn).encode(
        x=alt.X("dollars:Q", title=None, axis=alt.Axis(format="$,.0f", tickCount=6)),
        y=alt.Y(f"{by}:N", title=None, sort=None),
        yOffset=alt.YOffset("side:N", sort=list(_SIDE_COLOURS)),
    )
    amounts = base.mark_text(align="left", dx=4).encode(text=alt.Text("dollars:Q", format="$,.2f"))
    chart: alt.LayerChart = (base.mark_bar().encode(color=_SIDE) + amounts).properties(
        title=title, width=640, height=alt.Step(14)
    )
    return chart


def _sides(data: pd.DataFrame, by: str) -> pd.DataFrame:
    """A row for the revenue and one for the cost of each; none for a cost that is not known."""
    columns = {f"{side}_cents": side for side in _SIDE_COLOURS}
    melted = data.melt(by, list(columns), "column", "cents").dropna(subset=["cents"])
    return _drawable(melted).assign(side=melted["column"].map(columns)).drop(columns="column")


def picture(chart: alt.LayerChart) -> dg.MarkdownMetadataValue:
    """The chart as Markdown that carries its own picture, which the UI shows behind a link.

    SVG, because every event that the UI loads carries it: 25 KB where a PNG has 180.
    """
    svg = vl_convert.vegalite_to_svg({**chart.to_dict(), "config": _LOOK})
    return dg.MetadataValue.md(f"![{chart.title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def _table_schema(columns: list[Column]) -> dg.TableSchemaMetadataValue:
    return dg.MetadataValue.table_schema(
        dg.TableSchema(
            [dg.TableColumn(c.name, c.type, c.comment, dg.TableColumnConstraints(nullable=c.nullable)) for c in columns]
        )
    )


def _sum(cents: Series) -> int:
    """The exact sum of a column of cents, also past 64 bits."""
    return int(cast(cents, WHOLE).sum())


def _drawable(data: pd.DataFrame) -> pd.DataFrame:
    return data.assign(dollars=data["cents"].astype("float64") / 100).drop(columns="cents")


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
