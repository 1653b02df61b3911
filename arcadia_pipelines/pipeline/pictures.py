"""The pictures in the UI: charts of revenue, cost and margin. The one place where money becomes a float, to be drawn.

The drawing library can abort its process, so it has a process of its own (renderer.py): instead of a picture that
cannot be drawn there is a line that says so. Draw after the transaction has committed.
"""

import atexit
import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from arcadia_pipelines.documents.content import VISIBLE
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.proof.control import MOST_SHOWN

if TYPE_CHECKING:  # loaded only by what draws: it cannot be without docstrings (python -OO)
    import altair as alt

SECONDS = 30.0
"""How long one picture may take: the first of a process takes half a second, the next a fiftieth of one."""
_PARTS = {
    "plan_base": "#30638e",
    "addon": "#edae49",
    "overage": "#00798c",
    "discount": "#8d96a3",
    "commitment": "#66a182",
    "adjustment": "#d1495b",
}
_ALWAYS = ("plan_base", "addon", "overage")
"""The parts that are in the legend though a month has none of them."""
_SIDE_COLOURS = {"revenue": "#30638e", "cost": "#d1495b"}
_LOOK = {
    "axis": {"labelFontSize": 12},
    "legend": {"labelFontSize": 12},
    "title": {"fontSize": 15},
    "view": {"stroke": None},
}


class NotDrawn(ArcadiaError):
    """The renderer did not draw; the message says why."""


def drawn(charts: Mapping[str, Callable[[], "alt.LayerChart"]]) -> Mapping[str, dg.MetadataValue]:
    """Each chart as Markdown that carries its own picture, which the UI shows behind a link; or why it is not drawn.

    Raises nothing: a month is complete without its pictures.
    """
    return {name: _drawn(chart) for name, chart in charts.items()}


def _drawn(make: Callable[[], "alt.LayerChart"]) -> dg.MetadataValue:
    try:
        chart = make()
        # To validate it takes longer than to draw it, and its shape is our own.
        svg = RENDERER.draw(_visible({**chart.to_dict(validate=False), "config": _LOOK}))
    except Exception as error:  # noqa: BLE001  what it shows is committed, and is right without a picture
        return dg.MetadataValue.text(f"not drawn: {error}")
    # SVG, because every event that the UI loads carries it: 25 KB where a PNG has 180.
    return dg.MetadataValue.md(f"![{chart.title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def _visible(part: Any) -> Any:
    """The chart with every text in it visible: on a character that XML forbids the renderer aborts."""
    if isinstance(part, dict):
        return {_visible(name): _visible(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_visible(value) for value in part]
    return part.translate(VISIBLE) if isinstance(part, str) else part


class Renderer:
    """The renderer's process: started for the first picture and kept for the next; ended, it is started again."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def draw(self, chart: Mapping[str, Any]) -> str:
        """The Vega-Lite chart as SVG. Raises NotDrawn."""
        with self._turn:
            try:
                answer = self._ask(json.dumps(chart).encode() + b"\n")
            except BaseException:  # a late answer would be taken for the answer to the next
                self.end()
                raise
            if not answer.endswith(b"\n"):
                raise NotDrawn(f"the renderer ended with code {self.end(patience=1)}")
        said = json.loads(answer)
        if "error" in said:
            raise NotDrawn(said["error"])
        return str(said["svg"])

    def _ask(self, line: bytes) -> bytes:
        """The line that it answers, or less if it ends, or is ended at the time-out."""
        process = self._process = self._process or _start()
        assert process.stdin
        assert process.stdout
        alarm = threading.Timer(SECONDS, process.kill)
        alarm.start()
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(line)
                process.stdin.flush()
            return process.stdout.readline()
        finally:
            alarm.cancel()

    def end(self, patience: float = 0) -> int | None:
        """End the process, if there is one and it has not ended by itself in `patience` seconds; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        process.kill()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with suppress(BrokenPipeError):  # it has not read all of its input
                pipe.close()
        return process.wait()


def _start() -> subprocess.Popen[bytes]:
    """It ends when its input closes, and so with us, however we end."""
    program = Path(__file__).with_name("renderer.py")
    return subprocess.Popen(
        [sys.executable, "-P", str(program)],  # -P: our folder's modules are not the program's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is for us
    )


RENDERER = Renderer()
atexit.register(RENDERER.end)


def revenue_by_month(revenue: pd.DataFrame) -> "alt.LayerChart":
    """Stacked bars, a month each, with its total. Columns as ledger.REVENUE."""
    import altair as alt

    columns = [f"{part}_cents" for part in _PARTS]
    months = revenue.groupby("period_start", as_index=False)[columns].sum()
    drawn = _drawable(months.melt("period_start", columns, "column", "cents"))
    drawn = drawn.assign(
        month=drawn["period_start"].astype(str).str[:7],
        part=drawn["column"].str.removesuffix("_cents"),
        rank=drawn["column"].map(columns.index),
    )
    there = drawn.loc[drawn["dollars"] != 0, "part"].unique()
    parts = [part for part in _PARTS if part in _ALWAYS or part in there]
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


def revenue_by_kind(revenue: pd.DataFrame) -> "alt.LayerChart":
    """Bars, a kind each, the largest first. Columns as ledger.REVENUE."""
    import altair as alt

    kinds = revenue.rename(columns={"revenue_cents": "cents"}).sort_values("cents", ascending=False, kind="stable")
    base = alt.Chart(_drawable(kinds[["resource_kind", "cents"]].head(MOST_SHOWN))).encode(
        x=alt.X("dollars:Q", title=None, axis=alt.Axis(format="$,.0f", tickCount=6)),
        y=alt.Y("resource_kind:N", title=None, sort=None),
    )
    bars = base.mark_bar(color=_PARTS["plan_base"])
    amounts = base.mark_text(align="left", dx=4).encode(text=alt.Text("dollars:Q", format="$,.2f"))
    chart: alt.LayerChart = (bars + amounts).properties(
        title=_of_most("Revenue of the month by kind, AUD ex GST", kinds), width=640, height=alt.Step(26)
    )
    return chart


def cost_vs_revenue_by_month(months: pd.DataFrame) -> "alt.LayerChart":
    """Two bars a month, and the margin as text. Columns as margins.MONTHS."""
    import altair as alt

    drawn = _sides(months.assign(month=months["period_start"].astype(str).str[:7]), "month")
    base = alt.Chart(drawn).encode(x=alt.X("month:O", title=None, axis=alt.Axis(labelAngle=0)))
    bars = base.mark_bar().encode(
        xOffset=alt.XOffset("side:N", sort=list(_SIDE_COLOURS)),
        y=alt.Y("dollars:Q", title=None, axis=alt.Axis(format="$,.0f")),
        color=_side(),
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


def cost_vs_revenue_by_kind(kinds: pd.DataFrame) -> "alt.LayerChart":
    """Two bars a kind, in the order given. Columns as margins.KINDS."""
    title = _of_most("Revenue and cost of the month by kind, AUD ex GST", kinds)
    return _two_bars(_sides(kinds.head(MOST_SHOWN), "resource_kind"), "resource_kind", title)


def repriced(months: pd.DataFrame) -> "alt.LayerChart":
    """Two bars a month, and the difference as text. Columns: month, cents before, cents after, difference_cents."""
    import altair as alt

    sides = {"before": "#8d99ae", "after": _PARTS["plan_base"]}
    melted = months.melt("month", [f"{side}_cents" for side in sides], "column", "cents")
    drawn = _drawable(melted).assign(side=melted["column"].str.removesuffix("_cents"))
    base = alt.Chart(drawn).encode(x=alt.X("month:O", title=None, axis=alt.Axis(labelAngle=0)))
    scale = alt.Scale(domain=list(sides), range=list(sides.values()))
    bars = base.mark_bar().encode(
        xOffset=alt.XOffset("side:N", sort=list(sides)),
        y=alt.Y("dollars:Q", title=None, axis=alt.Axis(format="$,.0f")),
        color=alt.Color("side:N", title=None, scale=scale, legend=alt.Legend(orient="top")),
    )
    top = months[["before_cents", "after_cents"]].max(axis=1) / 100
    more = _drawable(months.assign(cents=months["difference_cents"], top=top)[["month", "cents", "top"]])
    texts = alt.Chart(more).mark_text(baseline="bottom", dy=-3)
    differences = texts.encode(x="month:O", y="top:Q", text=alt.Text("dollars:Q", format="+$,.0f"))
    chart: alt.LayerChart = (bars + differences).properties(
        title="Revenue at the prices in effect and at the proposed ones, AUD ex GST", width=760, height=280
    )
    return chart


def lowest_margins(margins: pd.DataFrame) -> "alt.LayerChart":
    """Two bars a deployment, the lowest margin first. Columns as margins.DEPLOYMENTS."""
    name, tenant = margins["deployment_name"], margins["tenant_id"].fillna("no tenant")
    named = margins.assign(deployment=name.where(~name.duplicated(keep=False), name + ", " + tenant))
    return _two_bars(_sides(named, "deployment"), "deployment", "The lowest margins of the month, AUD ex GST")


def _two_bars(drawn: pd.DataFrame, by: str, title: str) -> "alt.LayerChart":
    import altair as alt

    base = alt.Chart(drawn).encode(
        x=alt.X("dollars:Q", title=None, axis=alt.Axis(format="$,.0f", tickCount=6)),
        y=alt.Y(f"{by}:N", title=None, sort=None),
        yOffset=alt.YOffset("side:N", sort=list(_SIDE_COLOURS)),
    )
    amounts = base.mark_text(align="left", dx=4).encode(text=alt.Text("dollars:Q", format="$,.2f"))
    chart: alt.LayerChart = (base.mark_bar().encode(color=_side()) + amounts).properties(
        title=title, width=640, height=alt.Step(14)
    )
    return chart


def _side() -> "alt.Color":
    import altair as alt

    return alt.Color(
        "side:N",
        title=None,
        scale=alt.Scale(domain=list(_SIDE_COLOURS), range=list(_SIDE_COLOURS.values())),
        legend=alt.Legend(orient="top"),
    )


def _sides(data: pd.DataFrame, by: str) -> pd.DataFrame:
    """A row for the revenue and one for the cost of each; none for a cost that is not known."""
    columns = {f"{side}_cents": side for side in _SIDE_COLOURS}
    melted = data.melt(by, list(columns), "column", "cents").dropna(subset=["cents"])
    return _drawable(melted).assign(side=melted["column"].map(columns)).drop(columns="column")


def _of_most(title: str, rows: pd.DataFrame) -> str:
    return f"{title}: the {MOST_SHOWN} largest" if len(rows) > MOST_SHOWN else title


def _drawable(data: pd.DataFrame) -> pd.DataFrame:
    return data.assign(dollars=data["cents"].astype("float64") / 100).drop(columns="cents")
