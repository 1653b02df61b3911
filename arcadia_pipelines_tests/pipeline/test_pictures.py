"""The pictures in the UI: whatever names there are, and whatever becomes of the renderer, the month stands."""

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from xml.etree import ElementTree

import dagster as dg
import pandas as pd
import psutil
import pytest

from arcadia_pipelines.billing.money import TEXT, WHOLE
from arcadia_pipelines.pipeline import pictures
from arcadia_pipelines.pipeline.pictures import NotDrawn, Renderer
from arcadia_pipelines_tests.world import World, item

FORBIDDEN = [*(chr(code) for code in range(1, 0x20)), "\x7f", "\ufffe", "\uffff"]
"""What XML forbids, and its neighbours; a text in PostgreSQL can have all of it."""


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    """A renderer of the test's own."""
    fresh = Renderer()
    yield fresh
    fresh.end()


def chart(title: str) -> dict[str, object]:
    """A point under a title."""
    return {"title": title, "data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a"}}}


def texts(metadata: dg.MetadataValue) -> str:
    """All that a picture says; it is well-formed XML."""
    assert isinstance(metadata, dg.MarkdownMetadataValue), metadata
    assert metadata.md_str
    svg = base64.b64decode(metadata.md_str.partition("base64,")[2].removesuffix(")"))
    return " ".join(ElementTree.fromstring(svg).itertext())


def kinds(*names: str) -> pd.DataFrame:
    """A cent of revenue for each kind, as far as the picture reads it."""
    return pd.DataFrame(
        {
            "resource_kind": pd.Series(names, dtype=pd.ArrowDtype(TEXT)),
            "revenue_cents": pd.Series([1] * len(names), dtype=pd.ArrowDtype(WHOLE)),
        }
    )


@pytest.mark.long
def test_no_character_in_a_name_stops_a_month_or_its_costs(world: World) -> None:
    """34 kinds of 1.00 and a plan of 10.00 are 44.00, GST 4.40. Plan, addon, tenant and deployment are odd too."""
    world.tenant("acme\x02")
    world.plan("small\x03", 1000, {f"kind{character}": (0, 100) for character in FORBIDDEN})
    world.addon("extra\ufffe", 0)
    world.deployment("acme\x02", "web\x01", "small\x03", ["extra\ufffe"])
    for character in FORBIDDEN:
        world.use("web\x01", f"kind{character}", 1)
    world.use("web\x01", "unrated\x1f", 1)
    result = world.month_end("2026-04")
    assert world.invoices("2026-04") == {"acme\x02": ("issued", 1, 4400, 440, 4840)}
    of_lines, of_invoices = result.asset_materializations_for_node("publish_invoices")
    assert "kind\N{SYMBOL FOR START OF HEADING} " in texts(of_lines.metadata["revenue_by_kind_picture"])
    assert " $45 $44 plan_base" in texts(of_invoices.metadata["revenue_by_month_picture"])
    world.owns("web\x01", "a-droplet")
    world.bill("2026-04", item("10.00", "a-droplet", product="Odd\x01 Product"))
    world.rate("2026-04", "0.5")
    costs = world.month_costs("2026-04")
    assert costs.success
    [of_costs] = costs.asset_materializations_for_node("cost_allocations")
    assert "web\N{SYMBOL FOR START OF HEADING} $44.00 $20.00" in texts(of_costs.metadata["lowest_margins_picture"])


@pytest.mark.long
def test_a_month_without_pictures_is_a_month(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The renderer cannot be started: 70.64 is owed, and a line stands where the picture would."""
    pictures.RENDERER.end()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    world.pilot()
    result = world.month_end("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    _, of_invoices = result.asset_materializations_for_node("publish_invoices")
    assert of_invoices.metadata["total"].value == "$70.64 = $64.22 + GST $6.42"
    assert "not drawn: " in str(of_invoices.metadata["revenue_by_month_picture"].value)


@pytest.mark.long
def test_a_renderer_that_died_is_started_again_for_the_next_picture(renderer: Renderer) -> None:
    """It aborts (signal 6) on what nobody has made visible; on a chart that is none it answers, and lives."""
    with pytest.raises(NotDrawn, match="the renderer ended with code -6"):
        renderer.draw(chart("a\x01b"))
    with pytest.raises(NotDrawn, match="conversion failed"):
        renderer.draw({"mark": "no such mark"})
    assert "drawn" in renderer.draw(chart("drawn"))


def test_a_picture_that_takes_too_long_is_given_up(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes half a second, and may take a hundredth; the next is not given the answer to it."""
    monkeypatch.setattr(pictures, "SECONDS", 0.01)
    with pytest.raises(NotDrawn, match="the renderer ended with code -9"):
        renderer.draw(chart("slow"))
    monkeypatch.setattr(pictures, "SECONDS", 30.0)
    assert "quick" in renderer.draw(chart("quick"))


@pytest.mark.long
def test_the_renderer_ends_with_its_program_however_that_ends() -> None:
    """A month end that is killed leaves no process behind."""
    program = (
        "import os\nfrom arcadia_pipelines.pipeline.pictures import RENDERER as r\n"
        "r.draw({'mark': 'point', 'data': {'values': []}})\nprint(r._process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    pid = int(ended.stdout)
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("the renderer lives on")


def test_of_many_kinds_the_largest_are_drawn() -> None:
    """6,000 are more than Altair takes, and a picture of them would be 156,000 points high."""
    shown = pictures.drawn({"picture": lambda: pictures.revenue_by_kind(kinds(*map("kind{}".format, range(6000))))})
    said = texts(shown["picture"])
    assert "by kind, AUD ex GST: the 20 largest" in said
    assert said.count("kind") == 21


def test_nothing_to_draw_is_drawn_empty() -> None:
    """A month without revenue."""
    shown = pictures.drawn({"picture": lambda: pictures.revenue_by_kind(kinds())})
    assert texts(shown["picture"]).strip().endswith("Revenue of the month by kind, AUD ex GST")
