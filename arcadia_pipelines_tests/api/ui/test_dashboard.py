"""The dashboard as people use it: it shows what the database has, clicks lead where they say, outsiders see nothing."""

import csv
import io
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from arcadia_pipelines_tests.api.conftest import Serve, bill, token
from arcadia_pipelines_tests.api.ui.conftest import PHONE, Open, Visit
from arcadia_pipelines_tests.world import World

PAGES = ("months", "deployments", "tenants", "kinds")
VIEWS = dict(zip(PAGES, ("by_month", "by_deployment", "by_tenant", "by_kind"), strict=True))
APRIL = "?from=2026-04&to=2026-04"
FIRST_TWO = "?from=2026-01&to=2026-02"


def cents(shown: str) -> int | None:
    """The cents of an amount as the page writes it; None for words."""
    found = re.fullmatch(r"(\N{MINUS SIGN}?)(?:US)?\$([\d,]+)\.(\d\d)", shown)
    return found and int(f"{'-' if found[1] else ''}{found[2].replace(',', '')}{found[3]}")


def sums(world: World, view: str, condition: str = "true") -> list[int | None]:
    """Revenue, cost, margin of the view's rows, as the owner sees them."""
    [row] = world.query(
        "select sum(revenue_cents)::bigint, sum(cost_cents)::bigint, sum(margin_cents)::bigint"
        f" from billing.cost_vs_revenue_{view} where {condition}"
    )
    return list(row)


def columns(visit: Visit, *names: str) -> list[list[int | None]]:
    """These columns of the table, the foot's row last."""
    heads = visit.page.locator("thead th").all_inner_texts()
    places = [heads.index(name) for name in names]
    return [[cents(row[place]) for place in places] for row in visit.table()]


def serious(visit: Visit) -> list[str]:
    """What axe finds that is serious or critical."""
    found: list[dict[str, Any]] = Axe().run(visit.page).response["violations"]
    return [
        f"{one['id']}: {node['target']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


# Who sees what


@pytest.mark.parametrize("place", ["", "#/deployments?from=2026-01&tenant=pilot", "#/invoice/x"])
def test_a_signed_out_visitor_sees_a_form_and_nothing_else(visit: Open, costed: World, place: str) -> None:
    """No request for data is made at all, and none of the page's files holds any."""
    page = visit(place, with_token=None)
    expect(page.page.get_by_label("Token")).to_be_focused()
    assert page.page.locator("main").inner_text().split("\n")[0] == "Sign in"
    assert page.page.get_by_role("navigation").count() == 0
    assert page.page.locator("table, figure, #filters:visible").count() == 0
    assert [url for url in page.asked if "/api/" in url] == []
    names = [str(name) for (name,) in costed.query("select name from cloud.tenants union select id from cloud.tenants")]
    for file in ("", "/dashboard.js", "/dashboard.css", "/charts.json"):
        body = page.page.request.get(f"{page.base}/dashboard{file}").text()
        assert [name for name in names if f'"{name}"' in body] == []


@pytest.mark.parametrize(
    ("with_token", "told"),
    [
        (token("tenant", "pilot"), "This token may not see costs: sign in as a platform admin."),
        (token(exp=int(time.time()) - 60), "The token was not accepted: the token has expired: get a new one."),
        ("nonsense", "The token was not accepted: the token is not a JWT signed by the issuer."),
    ],
)
def test_a_token_that_will_not_do_is_told_so_and_kept_nowhere(visit: Open, with_token: str, told: str) -> None:
    page = visit(with_token=None)
    page.sign_in(with_token)
    expect(page.page.get_by_role("alert")).to_have_text(told)
    assert page.page.locator("table, figure, option").count() == 0
    assert page.page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
    expect(page.page.get_by_label("Token")).to_be_focused()
    expect(page.page.get_by_label("Token")).to_have_value("")
    page.noise.clear()  # the browser logs every 401 and 403


def test_signing_out_takes_everything_away(visit: Open) -> None:
    page = visit("#/tenants")
    page.page.get_by_role("button", name="Sign out").click()
    expect(page.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.page.locator("table, figure, option").count() == 0
    assert "Pilot" not in page.page.content()
    page.page.reload()
    expect(page.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.page.evaluate("sessionStorage.length") == 0


def test_a_token_that_expires_meanwhile_asks_again_and_goes_on_where_one_was(visit: Open) -> None:
    page = visit("#/tenants")
    page.page.evaluate("old => sessionStorage.setItem('arcadia.token', old)", token(exp=int(time.time()) - 60))
    page.page.get_by_role("link", name="Kinds").click()
    expect(page.page.get_by_role("alert")).to_contain_text("expired")
    assert page.page.locator("table, figure, option").count() == 0
    page.noise.clear()
    page.sign_in(token())
    page.settled("Kinds")


def test_the_token_is_in_no_address_and_survives_a_reload(visit: Open) -> None:
    mine = token()
    page = visit("#/months", with_token=mine)
    page.page.reload()
    page.settled("Months")
    page.page.get_by_role("link", name="2026-04").click()
    page.settled("Invoices behind this revenue")
    assert [url for url in [*page.asked, page.page.url] if mine in url] == []
    assert page.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


# The numbers


@pytest.mark.parametrize("of", PAGES)
def test_sums_and_rows_on_the_page_are_the_databases(visit: Open, costed: World, of: str) -> None:
    """Every row with the unallocated, and the sum below, in each view and choice of months."""
    page = visit(f"#/{of}")
    for place in ("", FIRST_TWO, APRIL, "?from=2026-03&to=2026-03"):
        page.show(f"#/{of}{place}{'&' if place else '?'}rows=500")
        compare(page, costed, of, place)


def compare(page: Visit, costed: World, of: str, place: str) -> None:
    """What the page shows of these months is what the view has."""
    [first, last] = re.findall(r"\d{4}-\d\d", place) or ["2026-01", "2026-05"]
    condition = f"period_start between '{first}-01' and '{last}-01'"
    *rows, foot = columns(page, "Revenue", "Cost", "Margin")
    assert foot == sums(costed, VIEWS[of], condition)
    for column in range(3):
        assert sum(row[column] or 0 for row in rows) == (foot[column] or 0)
    [(count,)] = costed.query(
        f"select count(distinct (to_jsonb(v) - '{{period_start,revenue_cents,cost_cents,margin_cents,margin_percent,"
        f"reconciled}}'::text[])) from billing.cost_vs_revenue_{VIEWS[of]} v where {condition}"
    )
    assert len(rows) == count
    tiles = page.page.locator(".tiles dd:nth-of-type(1)").all_inner_texts()
    assert [cents(text) for text in tiles[:3]] == foot


def test_the_months_say_what_is_unallocated_and_what_is_not_reconciled_and_why(visit: Open, costed: World) -> None:
    page = visit()
    expected = costed.query("select unallocated_cents from billing.cost_vs_revenue_by_month order by period_start")
    assert [row[0] for row in columns(page, "Unallocated")[:-1]] == [cents for (cents,) in expected]
    assert columns(page, "Unallocated")[-1] == [sum(cents or 0 for (cents,) in expected)]
    why = page.page.get_by_role("region", name="Not yet reconciled").get_by_role("listitem").all_inner_texts()
    assert why == [
        "2026-03: no rate of exchange (no margin yet)",
        "2026-04: 1 invoice is a draft",
        "2026-05: no bill of the provider's; no rate of exchange (no margin yet)",
    ]
    rows = {row[0]: row for row in page.table()}
    assert rows["2026-03"][2:5] == ["no cost yet", "no margin yet", ""]
    assert rows["2026-05"][2:5] == ["no cost yet", "no margin yet", ""]
    assert rows["2026-01"][-1] == "reconciled"


@pytest.mark.parametrize("of", ["deployments", "tenants", "kinds"])
def test_the_unallocated_is_a_row_and_a_bar_of_its_own(visit: Open, costed: World, of: str) -> None:
    page = visit(f"#/{of}{FIRST_TWO}")
    expected = sums(costed, "by_deployment", "deployment_name = 'unallocated' and period_start <= '2026-02-01'")
    [row] = [row for row in page.table() if row[0] == "unallocated"]
    assert [cents(cell) for cell in row if cents(cell) is not None] == expected
    bars = [bar for bar in page.bars() if bar["name"] == "unallocated"]
    assert [cents(bar["label"]) for bar in bars] == expected
    assert page.page.locator("tr.apart a").count() == 0


@pytest.mark.parametrize("of", PAGES)
def test_bars_are_the_tables_rows(visit: Open, of: str) -> None:
    """Revenue, cost and margin of each row that is drawn, as long as the amount says."""
    page = visit(f"#/{of}")
    *rows, _ = columns(page, "Revenue", "Cost", "Margin")
    bars = page.bars()
    paired = [cents(bar["label"]) or 0 for bar in bars if bar["measure"] in ("Revenue", "Cost")]
    assert sorted(paired) == sorted(amount for row in rows for amount in row[:2] if amount is not None)
    margins = [cents(bar["label"]) for bar in bars if bar["measure"] in ("Margin", "Loss")]
    assert margins == [row[2] for row in rows if row[2] is not None]
    assert all(round(bar["dollars"] * 100) == cents(bar["label"]) for bar in bars)


def test_the_ranking_is_in_the_order_that_is_chosen(visit: Open) -> None:
    page = visit(f"#/deployments{FIRST_TWO}&rows=500")
    for order, column, sign in (
        ("Lowest margin first", "Margin", 1),
        ("Highest margin first", "Margin", -1),
        ("Highest cost first", "Cost", -1),
        ("Highest revenue first", "Revenue", -1),
    ):
        page.page.get_by_label("Order").focus()
        page.page.get_by_label("Order").select_option(order)
        page.settled()
        expect(page.page.get_by_label("Order")).to_be_focused()
        amounts = [sign * (row[0] or 0) for row in columns(page, column)[:-2]]
        assert amounts == sorted(amounts)
        page.show(f"{page.page.evaluate('location.hash')}&rows=500")


def test_a_long_list_begins_with_fifteen_and_shows_more(visit: Open) -> None:
    """29 deployments: the sum is of all of them from the start."""
    page = visit("#/deployments")
    assert len(page.table()) == 15 + 2
    assert page.table()[-1][0] == "Sum of all 29"
    before = page.table()[-1][1:]
    page.page.get_by_role("link", name="Show 14 more").click()
    expect(page.page.locator("tbody tr")).to_have_count(30)
    assert page.table()[-1] == ["Sum", *before]
    assert page.page.get_by_role("link", name="more").count() == 0


# Where clicks lead


@pytest.mark.parametrize("of", PAGES)
def test_a_click_on_a_bar_leads_to_the_invoices_behind_it(visit: Open, of: str) -> None:
    """The largest bar with an address, of either chart: the list's sum is the revenue of its row."""
    page = visit(f"#/{of}{FIRST_TWO}&sort=highest_revenue")
    click_largest(page, 0)
    page.show(f"#/{of}{FIRST_TWO}&sort=highest_revenue")
    click_largest(page, 1)


def click_largest(page: Visit, chart: int) -> None:
    """Click it, and look where it led."""
    drawn = page.page.locator("figure").nth(chart).locator(".mark-rect.role-mark path")
    bars = [path.evaluate("path => ({...path.__data__.datum})") for path in drawn.all()]
    place = max((n for n, bar in enumerate(bars) if bar["href"]), key=lambda n: bars[n]["dollars"] or 0)
    row = next(row for row in page.table() if row[0] == bars[place]["name"])
    revenue = next(amount for amount in map(cents, row) if amount is not None)
    drawn.nth(place).click()
    page.settled("Invoices behind this revenue")
    assert page.page.evaluate("location.hash") == bars[place]["href"]
    *invoices, foot = columns(page, page.page.locator("thead th").last.inner_text())
    assert foot == [revenue]
    assert sum(amount or 0 for [amount] in invoices) == revenue


@pytest.mark.parametrize("of", PAGES)
def test_each_link_in_a_table_leads_to_invoices_that_sum_to_its_row(visit: Open, costed: World, of: str) -> None:
    """The first two links and the last of each view; and back to the same view."""
    page = visit(f"#/{of}{FIRST_TWO}")
    links = page.page.locator("tbody th a")
    for place in sorted({0, 1, links.count() - 1}):
        name, before = links.nth(place).inner_text(), page.page.url
        row = next(row for row in page.table() if row[0] == name)
        links.nth(place).click()
        page.settled("Invoices behind this revenue")
        revenue = next(amount for amount in map(cents, row) if amount is not None)
        facts = page.page.locator("dl.facts").inner_text()
        assert f"{row[next(n for n, cell in enumerate(row) if cents(cell) is not None)]} in " in facts
        if revenue:
            assert columns(page, page.page.locator("thead th").last.inner_text())[-1] == [revenue]
        page.page.get_by_role("link", name=re.compile("^Back to")).click()
        page.settled()
        assert page.page.url == before


def test_an_invoice_is_shown_line_by_line_with_what_was_counted(visit: Open, costed: World) -> None:
    """From the kind droplet_hours of April to the pilot's invoice: 50.00 + 7.50 + 6.72 = 64.22, GST 6.42, 70.64."""
    page = visit(f"#/kinds{APRIL}")
    page.page.get_by_role("link", name="droplet_hours").click()
    page.settled("Invoices behind this revenue")
    [pilots] = [row for row in page.table() if row[2] == "Pilot Studio Pty Ltd"]
    assert pilots[-1] == "$6.72"
    page.page.get_by_role("link", name=pilots[0]).click()
    page.settled(f"Invoice {pilots[0]}")
    assert page.table() == [
        ["1. Plan: studio", "pilot-web", "1 month", "$50.00", "$50.00", ""],
        ["2. Addon: storage_50gb", "pilot-web", "1 month", "$7.50", "$7.50", ""],
        ["3. Overage: droplet_hours", "pilot-web", "672 hour", "$0.01", "$6.72", "counted"],
        ["Subtotal ex GST", "", "", "", "$64.22", ""],
        ["GST 10%", "", "", "", "$6.42", ""],
        ["Total", "", "", "", "$70.64", ""],
    ]
    page.page.get_by_role("link", name="Back to the invoices").click()
    page.settled("Invoices behind this revenue")
    page.page.get_by_role("link", name="Back to Kinds").click()
    page.settled("Kinds")
    assert (
        page.page.get_by_label("From").input_value()
        == page.page.get_by_label("To", exact=True).input_value()
        == "2026-04"
    )


# Choosing


def test_months_are_chosen_and_stay_in_the_address(visit: Open, costed: World) -> None:
    page = visit()
    page.page.get_by_label("From").select_option("2026-04")
    expect(page.page.locator("tbody tr")).to_have_count(2)
    page.page.get_by_label("To", exact=True).focus()
    page.page.get_by_label("To", exact=True).select_option("2026-02")  # before From, which follows
    expect(page.page.locator("tbody th")).to_have_text(["2026-02"])
    assert page.page.get_by_label("From").input_value() == "2026-02"
    expect(page.page.get_by_label("To", exact=True)).to_be_focused()
    page.page.get_by_role("link", name="Tenants").click()
    page.settled("Tenants")
    page.page.reload()
    page.settled("Tenants")
    assert columns(page, "Revenue")[-1] == sums(costed, "by_month", "period_start = '2026-02-01'")[:1]


def test_tenants_are_found_added_and_removed(visit: Open, costed: World) -> None:
    page = visit(f"#/deployments{FIRST_TWO}")
    asked = page.page.get_by_label("Only tenant")
    asked.fill("pilot st")
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("button", name="Remove tenant pilot")).to_be_visible()
    expect(page.page.locator("tbody tr")).to_have_count(1)
    asked.fill("Wattle Press Pty Ltd")
    page.page.get_by_role("button", name="Add tenant").click()
    expect(page.page.locator("tbody tr")).to_have_count(3)
    condition = "tenant_id in ('pilot', 'wattle-press') and period_start <= '2026-02-01'"
    for name in ("Tenants", "Months"):
        page.page.get_by_role("link", name=name, exact=True).click()
        page.settled(name)
        assert columns(page, "Revenue", "Cost", "Margin")[-1] == sums(costed, "by_tenant", condition)
    page.page.get_by_role("button", name="Remove tenant pilot").click()
    page.page.get_by_role("button", name="Remove tenant wattle-press").click()
    expect(page.page.get_by_role("button", name=re.compile("Remove"))).to_have_count(0)
    page.settled()
    assert columns(page, "Revenue")[-1] == sums(costed, "by_month", "period_start <= '2026-02-01'")[:1]
    asked.fill("nobody at all")
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("status")).to_have_text("No tenant has nobody at all in its name or id.")
    asked.fill("Pty")
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("status")).to_contain_text("More than one tenant")


@pytest.mark.parametrize("of", [*PAGES, "invoices"])
def test_the_download_is_the_table(visit: Open, of: str, tmp_path: Path) -> None:
    page = visit(f"#/{of}?rows=500&tenant=pilot" if of != "kinds" else "#/kinds")
    with page.page.expect_download() as downloading:
        page.page.get_by_role("button", name="Download CSV").click()
    assert downloading.value.suggested_filename == f"costs-{of}.csv"
    downloading.value.save_as(tmp_path / "sheet.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "sheet.csv").read_text("utf-8-sig"))))
    names = ["Revenue"] if of == "invoices" else ["Revenue", "Cost", "Margin"]
    *shown, _ = columns(page, *names)
    told = [[cents(f"${row[name.lower()]}".replace("$-", "\N{MINUS SIGN}$")) for name in names] for row in rows]
    assert told == shown
    expect(page.page.get_by_role("status")).to_have_text(f"costs-{of}.csv is downloaded.")


def test_an_invoice_is_downloaded_as_a_pdf(visit: Open, costed: World, tmp_path: Path) -> None:
    [[invoice, number]] = costed.query(
        "select id, invoice_number from billing.tenant_invoices"
        " where tenant_id = 'pilot' and period_start = '2026-04-01'"
    )
    page = visit(f"#/invoice/{invoice}")
    with page.page.expect_download() as downloading:
        page.page.get_by_role("button", name="Download PDF").click()
    assert downloading.value.suggested_filename == f"{number}.pdf"
    downloading.value.save_as(tmp_path / "invoice.pdf")
    assert (tmp_path / "invoice.pdf").read_bytes().startswith(b"%PDF")
    expect(page.page.get_by_role("status")).to_have_text(f"{number}.pdf is downloaded.")


# For everybody


@pytest.mark.parametrize("look", [{}, {"color_scheme": "dark"}, {"viewport": PHONE}], ids=["day", "night", "phone"])
def test_axe_finds_nothing_serious_anywhere(visit: Open, look: dict[str, Any]) -> None:
    """The form with a refusal, each view, the invoices behind a bar, an invoice, and nothing to show."""
    page = visit(with_token=None, **look)
    assert serious(page) == []
    page.sign_in("nonsense")
    expect(page.page.get_by_role("alert")).to_be_visible()
    assert serious(page) == []
    page.noise.clear()
    page.sign_in(token())
    page.settled()
    for place in ("months", "deployments", "tenants", "kinds", "months?tenant=pilot", "invoices?kind=droplet_hours"):
        page.show(f"#/{place}")
        assert serious(page) == [], place
    page.page.locator("tbody a").first.click()
    page.page.get_by_role("link", name="Back to the invoices").wait_for()
    page.settled()
    assert serious(page) == []
    page.show("#/invoices?kind=nothing")
    expect(page.page.get_by_text("No issued or paid invoice")).to_be_visible()
    assert serious(page) == []


def test_by_keyboard_alone_from_the_form_to_an_invoice(visit: Open) -> None:
    """Tab and Enter; whatever has the focus shows it, and it is never lost."""
    page = visit("#/tenants", with_token=None)
    keys = page.page.keyboard

    def focused() -> str:
        name, outline = page.page.evaluate(
            "[document.activeElement.id || document.activeElement.innerText,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert outline == "solid", name
        return str(name).strip()

    def tab_to(wanted: str) -> list[str]:
        passed = []
        for _ in range(60):
            keys.press("Tab")
            passed.append(focused())
            if passed[-1] == wanted:
                return passed
        raise AssertionError(f"{wanted} is not reached: {passed}")

    page.page.get_by_label("Token").fill(token())
    tab_to("Sign in")
    keys.press("Enter")
    page.settled("Tenants")
    assert page.page.evaluate("document.activeElement.tagName") == "H1"
    page.page.reload()
    page.settled("Tenants")
    first = tab_to("sign-out")
    assert first == [
        "skip",
        "Months",
        "Deployments",
        "Tenants",
        "Kinds",
        "What if",
        "number",
        "find-number",
        "sign-out",
    ]
    assert tab_to("add-tenant") == ["from", "to", "tenant", "add-tenant"]
    tab_to("Pilot Studio Pty Ltd")
    keys.press("Enter")
    page.settled("Invoices behind this revenue")
    assert page.page.evaluate("document.activeElement.innerText") == "Invoices behind this revenue"
    tab_to("INV-202605-00011")
    keys.press("Enter")
    page.settled("Invoice INV-202605-00011")


def test_the_skip_link_leads_to_the_content_and_keeps_the_place(visit: Open) -> None:
    page = visit("#/kinds")
    page.page.reload()
    page.settled("Kinds")
    before = page.page.url
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.id") == "main"
    assert page.page.url == before


def test_tables_and_charts_say_what_they_are(visit: Open) -> None:
    """To a screen reader: named regions, a caption, heads with scopes, a text for each chart."""
    page = visit("#/deployments")
    for table in page.page.locator("table").all():
        assert table.locator("caption").inner_text()
        assert (
            table.locator("thead th:not([scope=col]), tbody th:not([scope=row]), tfoot th:not([scope=row])").count()
            == 0
        )
        assert table.locator("tbody tr > :first-child:not(th)").count() == 0
    region = page.page.locator(".scroll")
    assert region.get_attribute("tabindex") == "0"
    expect(page.page.get_by_role("region", name="AUD ex GST")).to_have_count(1)
    charts = page.page.locator("figure [role=img]")
    assert [chart.get_attribute("aria-label") for chart in charts.all()] == [
        "Revenue against cost by deployment, the first 15 of 29, AUD ex GST. The table below has the numbers.",
        "Margin by deployment. The table below has the numbers.",
    ]
    assert page.page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_page_scrolls_sideways_but_its_table_does(visit: Open, width: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    for place in ("months", "deployments", "tenants?tenant=pilot&tenant=coral-bay-exports", "kinds", "invoices"):
        page.show(f"#/{place}")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width, place
        for chart in page.page.locator("figure svg").all():
            box = chart.bounding_box()
            assert box
            assert box["x"] + box["width"] <= width
    page.show("#/months")
    wider = page.page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.scroll'))")
    assert wider == (width < 1000)
    caption, hint = (
        page.page.locator(".scroll"),
        "getComputedStyle(document.querySelector('caption span'), '::after').content",
    )
    assert ("more" in str(caption.get_attribute("class"))) == wider
    assert ("Scroll sideways" in page.page.evaluate(hint)) == wider
    page.page.evaluate("document.querySelector('.scroll').scrollLeft = 10_000")
    expect(caption).not_to_have_class("scroll more")


def test_an_invoices_number_finds_it_from_every_page(visit: Open) -> None:
    page = visit("#/kinds")
    page.page.get_by_label("Invoice number").fill(" INV-202604-00099 ")
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("status")).to_have_text("No invoice has the number INV-202604-00099.")
    page.page.get_by_label("Invoice number").fill("INV-202605-00011")
    page.page.get_by_role("button", name="Find").click()
    page.settled("Invoice INV-202605-00011")
    expect(page.page.get_by_label("Invoice number")).to_have_value("")


def test_a_price_below_a_cent_is_shown_to_its_last_digit(visit: Open, costed: World) -> None:
    """0.744 c an hour."""
    [[invoice, line], *_] = costed.query(
        "select invoice_id::text, line_no from billing.tenant_invoice_lines where unit_price_cents = 0.744"
    )
    page = visit(f"#/invoice/{invoice}")
    assert page.table()[line - 1][3] == "$0.00744"


def test_it_turns_dark_with_the_system_charts_too(visit: Open) -> None:
    page = visit("#/kinds")

    def colours() -> tuple[str, str]:
        page.settled()
        found: list[str] = page.page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " document.querySelector('.mark-rect.role-mark path').getAttribute('fill')]"
        )
        return found[0], found[1]

    day = colours()
    page.page.emulate_media(color_scheme="dark")
    expect(page.page.locator(".mark-rect.role-mark path").first).not_to_have_attribute("fill", day[1])
    night = colours()
    assert day == ("rgb(245, 247, 249)", "#1f5f8b")
    assert night == ("rgb(18, 24, 30)", "#6fb1e0")


# When something is the matter


def test_a_server_that_is_gone_is_told_and_asked_again(visit: Open) -> None:
    page = visit("#/kinds")
    page.page.context.set_offline(True)
    page.page.get_by_role("link", name="Tenants").click()
    expect(page.page.get_by_role("alert").last).to_have_text(
        "This cannot be shown: the server cannot be reached: try again"
    )
    assert page.page.locator("table").count() == 0
    page.page.context.set_offline(False)
    page.noise.clear()
    page.page.get_by_role("button", name="Try again").click()
    page.settled("Tenants")


def test_an_address_that_makes_no_sense_is_told(visit: Open) -> None:
    page = visit("#/months?from=2026-13", with_token=None)
    page.sign_in(token())
    expect(page.page.get_by_role("alert").last).to_contain_text("This cannot be shown: query.from")
    page.noise.clear()


@pytest.mark.parametrize("cut_off", ["%E0%A4%A", "%", "%zz", "a%C3"])
def test_an_address_that_is_cut_off_is_told_and_the_page_goes_on(visit: Open, cut_off: str) -> None:
    """As a mail program breaks it in the middle of a character. Signed out there is the form, not a blank page."""
    page = visit(f"#/invoice/{cut_off}", with_token=None)
    expect(page.page.get_by_label("Token")).to_be_focused()
    page.sign_in(token())
    expect(page.page.get_by_role("alert").last).to_contain_text("This cannot be shown: path.invoice_id")
    page.noise.clear()  # the browser logs the 422
    page.page.get_by_role("link", name="Kinds").click()
    page.settled("Kinds")


def test_too_many_tenants_are_told_in_words_and_can_be_taken_away(visit: Open) -> None:
    """101 in an address: a sentence, and the buttons to remove them; with 100 none can be added."""
    some = "".join(f"&tenant=t{number}" for number in range(99))
    page = visit(f"#/tenants?sort=lowest_margin{some}&tenant=pilot&tenant=nova", with_token=None)
    page.sign_in(token())
    expect(page.page.get_by_role("alert").last).to_have_text(
        "This cannot be shown: 101 tenants are chosen, and at most 100 can be shown at once: remove some of them."
    )
    page.page.get_by_role("button", name="Remove tenant nova").click()
    page.settled("Tenants")
    assert [row[0] for row in page.table()] == ["Pilot Studio Pty Ltd", "Sum"]
    page.page.get_by_label("Only tenant").fill("nova")
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("status")).to_have_text(
        "100 tenants are chosen, and at most 100 can be shown at once: remove one to add another."
    )
    page.page.get_by_role("link", name="Kinds").click()  # which are of all tenants
    page.settled("Kinds")


def test_a_platform_with_nothing_says_so(visit: Open, serve: Serve, world: World) -> None:
    page = visit(base=str(serve(world.url).base_url).rstrip("/"))
    expect(page.page.get_by_text("There is neither an invoice nor a provider's bill in these months.")).to_be_visible()
    page.show("#/deployments")
    expect(page.page.get_by_text("Nothing was invoiced or billed for these months and tenants.")).to_be_visible()


def test_names_are_text_whatever_they_say(visit: Open, serve: Serve, world: World) -> None:
    """Markup in a tenant's and in a deployment's name, which two deployments share."""
    world.pilot()
    evil = "<img src=x onerror=alert(1)>"
    world.deployment("pilot", "two", "studio")
    world.query("update cloud.tenants set name = %s", evil)
    world.query("update cloud.cloud_deployments set name = %s", evil)
    with ThreadPoolExecutor() as elsewhere:  # Playwright has an event loop here, Dagster wants one of its own
        elsewhere.submit(world.publish, "2026-04").result()
    bill(world, "2026-04", "0.65")
    page = visit("#/deployments", base=str(serve(world.url).base_url).rstrip("/"))
    assert [row[0] for row in page.table()] == [evil, evil, "unallocated", "Sum"]
    assert len([bar for bar in page.bars() if bar["measure"] in ("Margin", "Loss")]) == 3
    page.show("#/tenants")
    assert page.page.locator("img").count() == 0
    assert [row[0] for row in page.table()] == [evil, "unallocated", "Sum"]
