"""What the UI shows: metadata, previews, pictures. The one place where money becomes a float, to be drawn.

Metadata is built inside the transaction that it reports: if it cannot be built, nothing is committed.
"""

import base64
import datetime as dt
import decimal
from collections.abc import Mapping

import altair as alt
import dagster as dg
import pandas as pd
import vl_convert

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.quote import Quotes
from arcadia_pipelines.billing.reconcile import ACTIONS
from arcadia_pipelines.storage.columns import Column
from arcadia_pipelines.storage.controls import MOST_SHOWN, Finding

Metadata = Mapping[str, dg.MetadataValue]

LARGEST_SHOWN = 10
_COLOURS = ["#30638e", "#edae49", "#00798c", "#d1495b", "#5f6b7a", "#8d6a9f", "#66a182", "#2e4057"]


def usage(counted: pd.DataFrame, cutoff: dt.datetime, changed: bool, columns: list[Column]) -> Metadata:
    """What the freezing of a month's usage did."""
    kinds = counted.groupby("resource_kind", as_index=False)[["quantity", "record_count"]].sum()
    return {
        "rows": dg.MetadataValue.int(len(counted)),
        "records": dg.MetadataValue.int(int(counted["record_count"].sum())),
        "usage_cutoff": dg.MetadataValue.timestamp(cutoff),
        "changed": dg.MetadataValue.bool(changed),
        "usage_by_kind": table(kinds),
        "dagster/column_schema": _table_schema(columns),
        "dagster/row_count": dg.MetadataValue.int(len(counted)),
    }


def quotes(quoted: Quotes, changed: bool, columns: list[Column]) -> Metadata:
    """What the quoting of a month found."""
    lines = quoted.lines
    subtotal = int(lines["amount_cents"].sum())
    kinds = lines.groupby("kind", as_index=False)["amount_cents"].agg(lines="count", amount="sum")
    return {
        "rows": dg.MetadataValue.int(len(lines)),
        "subscriptions": dg.MetadataValue.int(int(lines["subscription_id"].nunique())),
        "subtotal_cents": dg.MetadataValue.int(subtotal),
        "subtotal": dg.MetadataValue.text(f"${dollars(subtotal)} ex GST"),
        "unbilled_usage_rows": dg.MetadataValue.int(len(quoted.unbilled)),
        "tenants_held_back": dg.MetadataValue.int(int(quoted.faults["tenant_id"].nunique())),
        "changed": dg.MetadataValue.bool(changed),
        "amount_by_kind": table(kinds.assign(amount=kinds["amount"].map(dollars))),
        "dagster/column_schema": _table_schema(columns),
        "dagster/row_count": dg.MetadataValue.int(len(lines)),
    }


def invoice_lines(lines: int, revenue: pd.DataFrame, columns: list[Column]) -> Metadata:
    """The lines of a month as they stand; `revenue` has period_start, resource_kind, revenue_cents."""
    return {
        "rows": dg.MetadataValue.int(lines),
        "revenue_by_kind": dg.MetadataValue.md(picture(revenue_by_kind(revenue), "Revenue by kind")),
        "dagster/column_schema": _table_schema(columns),
        "dagster/row_count": dg.MetadataValue.int(lines),
    }


def invoices(plan: pd.DataFrame, standing: pd.DataFrame, revenue: pd.DataFrame, columns: list[Column]) -> Metadata:
    """The invoices of a month as they stand, and what this run changed.

    `plan` is reconcile.plan's; `standing` and `revenue` are as ledger.STANDING and ledger.REVENUE.
    """
    owed = standing[standing["status"] != "void"]
    sums = {column: int(owed[column].sum()) for column in ("subtotal_cents", "tax_cents", "total_cents")}
    actions = plan["action"].value_counts()
    changed = plan[~plan["action"].isin(["keep"])]
    largest = owed.sort_values(["total_cents", "tenant_id"], ascending=[False, True]).head(LARGEST_SHOWN)
    return {
        "rows": dg.MetadataValue.int(len(standing)),
        **{column: dg.MetadataValue.int(cents) for column, cents in sums.items()},
        "total": dg.MetadataValue.text(
            f"${dollars(sums['total_cents'])} = ${dollars(sums['subtotal_cents'])} + GST ${dollars(sums['tax_cents'])}"
        ),
        **{f"invoices_{name}": dg.MetadataValue.int(int(actions.get(name, 0))) for name in ACTIONS},
        "largest_invoices": table(_in_dollars(largest)),
        "changed_by_this_run": table(
            _in_dollars(changed[["tenant_id", "action", "standing_cents", "recomputed_cents", "difference_cents"]])
        ),
        "revenue_by_month": dg.MetadataValue.md(picture(revenue_by_month(revenue), "Revenue by month")),
        "dagster/column_schema": _table_schema(columns),
        "dagster/row_count": dg.MetadataValue.int(len(standing)),
    }


def finding(found: Finding, remedy: str) -> Metadata:
    """A check's offenders and what to do about them."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(found.count)}
    if found.count:
        metadata["what_to_do"] = dg.MetadataValue.text(remedy)
        metadata[f"first_{MOST_SHOWN}" if found.count > MOST_SHOWN else "all"] = table(pd.DataFrame(found.offenders))
    return metadata


def table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """The frame as an inline table; at most 20 rows."""
    rows = data.head(MOST_SHOWN).astype(object).where(data.head(MOST_SHOWN).notna(), None).to_dict("records")
    records = [dg.TableRecord({str(name): _cell(value) for name, value in row.items()}) for row in rows]
    schema = dg.TableSchema([dg.TableColumn(str(name), "string") for name in data.columns])
    return dg.MetadataValue.table(records, schema)


def revenue_by_month(revenue: pd.DataFrame) -> alt.Chart:
    """Stacked bars, a month each: plans, addons, overage, adjustments. Columns as view revenue_by_kind, summed."""
    parts = {
        "plan_base_cents": "plans",
        "addon_cents": "addons",
        "overage_cents": "overage",
        "adjustment_cents": "adjustments",
    }
    long = revenue.melt("period_start", list(parts), "part", "cents")
    drawn = _drawable(long.assign(part=long["part"].map(parts)), "period_start")
    drawn = drawn[drawn["part"].isin([*list(parts.values())[:3], *drawn[drawn["dollars"] != 0]["part"]])]
    chart: alt.Chart = (
        alt.Chart(drawn, title="Revenue by month, AUD ex GST")
        .mark_bar()
        .encode(
            x=alt.X("period_start:O", title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("sum(dollars):Q", title="dollars", axis=alt.Axis(format=",.0f")),
            color=alt.Color("part:N", title=None, scale=alt.Scale(range=_COLOURS), sort=list(parts.values())),
        )
        .properties(width=520, height=240)
    )
    return chart


def revenue_by_kind(revenue: pd.DataFrame) -> alt.Chart:
    """Bars, a kind each, largest first. Columns resource_kind and revenue_cents."""
    drawn = _drawable(revenue.rename(columns={"revenue_cents": "cents"}), "resource_kind")
    chart: alt.Chart = (
        alt.Chart(drawn, title="Revenue of the month by kind, AUD ex GST")
        .mark_bar(color=_COLOURS[0])
        .encode(
            y=alt.Y("resource_kind:N", title=None, sort="-x"),
            x=alt.X("dollars:Q", title="dollars", axis=alt.Axis(format=",.0f")),
        )
        .properties(width=520, height=alt.Step(24))
    )
    return chart


def picture(chart: alt.Chart, title: str) -> str:
    """The chart as Markdown that carries its own PNG."""
    png = vl_convert.vegalite_to_png(chart.to_dict(), scale=1.5)
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"


def _table_schema(columns: list[Column]) -> dg.TableSchemaMetadataValue:
    return dg.MetadataValue.table_schema(
        dg.TableSchema(
            [dg.TableColumn(c.name, c.type, c.comment, dg.TableColumnConstraints(nullable=c.nullable)) for c in columns]
        )
    )


def _drawable(data: pd.DataFrame, label: str) -> pd.DataFrame:
    return data.assign(
        dollars=data["cents"].astype("float64") / 100, **{label: data[label].astype(str).str.removesuffix("-01")}
    ).drop(columns="cents")


def _in_dollars(data: pd.DataFrame) -> pd.DataFrame:
    """`*_cents` columns as dollars for people, without the suffix."""
    money = [column for column in data.columns if column.endswith("_cents")]
    shown = data.assign(**{column: data[column].map(dollars, na_action="ignore") for column in money})
    return shown.rename(columns={column: column.removesuffix("_cents") for column in money})


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value.normalize():f}" if isinstance(value, decimal.Decimal) and value.is_finite() else str(value)


def frozen(differing: pd.DataFrame) -> Metadata:
    """The frozen invoices that would be billed differently now, and what to do; rows of reconcile.plan."""
    metadata: dict[str, dg.MetadataValue] = {"offenders": dg.MetadataValue.int(len(differing))}
    if len(differing):
        shown = differing[
            ["tenant_id", "invoice_number", "status", "standing_cents", "recomputed_cents", "difference_cents"]
        ]
        metadata["what_to_do"] = dg.MetadataValue.text(
            "These invoices are paid, void or with finance, and stand as they are: settle the difference."
        )
        metadata["differences"] = table(_in_dollars(shown))
        metadata["difference_cents"] = dg.MetadataValue.int(int(differing["difference_cents"].sum()))
    return metadata
