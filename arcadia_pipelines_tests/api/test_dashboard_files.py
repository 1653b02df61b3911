"""The files of the dashboard and of /docs, which anybody may have: they hold no data, and ask nobody else for anything.

What the pages do with them is in ui/, for it takes a browser.
"""

import re

import httpx
import pytest

from arcadia_pipelines.api import charts

DASHBOARD = [
    "/dashboard",
    *(f"/dashboard/{name}" for name in ("dashboard.css", "dashboard.js", "vega.js", "charts.json")),
]
REFERENCE = ["/docs", "/docs/docs.js", "/docs/swagger-ui.js", "/docs/swagger-ui.css"]
OF_OTHERS = ("/dashboard/vega.js", "/docs/swagger-ui.js", "/docs/swagger-ui.css")


@pytest.mark.parametrize("file", DASHBOARD + REFERENCE)
def test_a_file_is_served_with_a_strict_policy_and_only_once(api: httpx.Client, file: str) -> None:
    """Script, style and data of this server only, no eval, no frame; 304 while it is the same; compressed if asked."""
    answer = api.get(file, headers={"Accept-Encoding": "identity"}).raise_for_status()
    policy = dict(one.strip().split(" ", 1) for one in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == ("public, max-age=86400" if file in OF_OTHERS else "no-cache")
    again = api.get(file, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    compressed = api.get(file, headers={"Accept-Encoding": "gzip"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.content == answer.content


def test_the_page_names_no_other_server_and_has_no_script_or_style_in_it(api: httpx.Client) -> None:
    page = api.get("/dashboard").text
    assert re.findall(r"https?://|//[a-z]", page) == []
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", page) == []
    for file in ("/dashboard.css", "/dashboard.js"):
        assert re.findall(r"https?://|@import|url\(|innerHTML|\beval\b\(", api.get(f"/dashboard{file}").text) == []


def test_the_reference_page_names_nothing_outside_this_server(api: httpx.Client) -> None:
    """The page, its start and its style; what the page names is served, and the document is where it looks."""
    page, start, style = (
        api.get(f"/docs{name}").raise_for_status().text for name in ("", "/docs.js", "/swagger-ui.css")
    )
    assert re.findall(r"https?:|//[a-z]", page + start) == []
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", page) == []
    assert re.findall(r"@import|url\((?!\"?data:)", style) == []
    assert sorted(re.findall(r'(?:src|href)="(/[^"]*)"', page)) == sorted(REFERENCE[1:])
    assert "SwaggerUIBundle" in api.get("/docs/swagger-ui.js").text
    [document] = re.findall(r'url: "([^"]*)"', start)
    assert api.get(document).json()["info"]["title"] == "Arcadia Pipelines: invoices"


def test_the_dashboard_is_not_in_the_document_and_takes_no_other_method(api: httpx.Client) -> None:
    assert not [
        path for path in api.get("/api/v1/openapi.json").json()["paths"] if "dashboard" in path or "docs" in path
    ]
    assert api.post("/dashboard").status_code == 405
    assert api.get("/dashboard/").status_code == api.get("/dashboard/../app.py").status_code == 404


def test_charts_have_neither_data_nor_addresses(api: httpx.Client) -> None:
    """The page binds the rows, by name."""
    served = api.get("/dashboard/charts.json").json()
    assert served == charts.specifications()
    wanted = {"months", "month_margins", "rows", "row_margins", "repriced_months", "row_changes"}
    assert set(served["charts"]) == wanted
    for chart in served["charts"].values():
        assert chart["data"] == {"name": "rows"}
        assert "datasets" not in chart


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("look", "card"), [("day", "#ffffff"), ("night", "#1a222a")])
def test_bars_stand_out_from_the_card_they_are_on(look: str, card: str) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1. axe does not look at pictures."""
    colours = charts.specifications()["config"][look]["range"]
    for colour in (*colours["category"], *colours["ordinal"]):
        lighter, darker = sorted((luminance(colour), luminance(card)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3
