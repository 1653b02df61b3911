"""The dashboard's charts as Vega-Lite, written with Altair, without data or height: the page binds rows to `rows`.

A row is {name, order, measure, dollars, label, href}: a bar is as long as `dollars` says, the one place of the
dashboard where money is a float, and is labelled with the exact text; a click on it goes to `href`.
Belongs here: what is drawn, and its colours by day and by night. Does not: the numbers, which
api/static/dashboard.js reads.
"""

from typing import Any

import altair as alt

_FONT = "system-ui, sans-serif"
_DAY = {"revenue": "#1f5f8b", "cost": "#c4641a", "gain": "#1d7a6b", "loss": "#c0364c", "before": "#8b98a5"}
_NIGHT = {"revenue": "#6fb1e0", "cost": "#eb9d55", "gain": "#56bfae", "loss": "#f07f90", "before": "#7d8a97"}
_TOOLTIP = [
    alt.Tooltip("name:N", title="of"),
    alt.Tooltip("measure:N", title="what"),
    alt.Tooltip("label:N", title="AUD"),
]
_UP = alt.Y("dollars:Q", title=None, stack=None, axis=alt.Axis(format="$,.0f", tickCount=5))
_ALONG = alt.X(
    "dollars:Q",
    title=None,
    stack=None,
    axis=alt.Axis(format="$,.0f", tickCount=5, labelOverlap=True, labelSeparation=8),
)
_MEASURE = alt.Color(
    "measure:N",
    title=None,
    scale=alt.Scale(domain=["Revenue", "Cost"]),
    legend=alt.Legend(orient="top", symbolType="square"),
)
_SIDE = alt.Color(
    "measure:N",
    title=None,
    scale=alt.Scale(domain=["Before", "After"], range="diverging"),
    legend=alt.Legend(orient="top", symbolType="square"),
)
_CHANGE = alt.Color("measure:N", scale=alt.Scale(domain=["More", "Less"], range="ordinal"), legend=None)
_SIGN = alt.Color("measure:N", scale=alt.Scale(domain=["Margin", "Loss"], range="ordinal"), legend=None)


def specifications() -> dict[str, Any]:
    """The charts by name, and the configurations `day` and `night`."""
    month = alt.X("name:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=8, ticks=False))
    name = alt.Y(
        "name:N",
        title=None,
        sort=alt.EncodingSortField("order", op="min"),
        axis=alt.Axis(labelLimit=150, ticks=False),
    )
    by_month = alt.Chart(alt.NamedData("rows")).encode(x=month, href=alt.Href("href:N"), tooltip=_TOOLTIP)
    by_name = alt.Chart(alt.NamedData("rows")).encode(x=_ALONG, y=name, href=alt.Href("href:N"), tooltip=_TOOLTIP)
    beside = by_month.encode(xOffset=alt.XOffset("measure:N", sort=["Revenue", "Cost"]))
    under = by_name.encode(yOffset=alt.YOffset("measure:N", sort=["Revenue", "Cost"]))
    sides = by_month.encode(xOffset=alt.XOffset("measure:N", sort=["Before", "After"]))
    charts = {
        "months": beside.mark_bar().encode(y=_UP, color=_MEASURE) + _gaps(beside),
        "month_margins": by_month.mark_bar().encode(y=_UP, color=_SIGN) + _gaps(by_month),
        "rows": under.mark_bar().encode(color=_MEASURE),
        "row_margins": by_name.mark_bar().encode(color=_SIGN),
        "repriced_months": sides.mark_bar().encode(y=_UP, color=_SIDE),
        "row_changes": by_name.mark_bar().encode(color=_CHANGE),
    }
    return {
        "charts": {name: chart.properties(width="container").to_dict() for name, chart in charts.items()},
        "config": {"day": _config(_DAY, "#1d2730", "#d5dbe1"), "night": _config(_NIGHT, "#e6ebf0", "#3a4753")},
    }


def _gaps(base: alt.Chart) -> alt.Chart:
    """Words where there is no amount yet."""
    missing: alt.Chart = base.transform_filter("datum.dollars === null")
    words: alt.Chart = missing.mark_text(angle=270, align="left", baseline="middle", dx=6).encode(
        y=alt.datum(0), text="label:N"
    )
    return words


def _config(colours: dict[str, str], ink: str, rule: str) -> dict[str, Any]:
    text = {"labelColor": ink, "labelFont": _FONT, "labelFontSize": 12}
    return {
        "background": "transparent",
        "aria": False,  # the page says what the chart shows, and has the numbers as a table
        "view": {"stroke": None},
        "axis": {**text, "domainColor": rule, "gridColor": rule, "tickColor": rule, "labelPadding": 6},
        "legend": text,
        "text": {"color": ink, "font": _FONT, "fontSize": 11},
        "range": {
            "category": [colours["revenue"], colours["cost"]],
            "ordinal": [colours["gain"], colours["loss"]],
            "diverging": [colours["before"], colours["revenue"]],
        },
    }
