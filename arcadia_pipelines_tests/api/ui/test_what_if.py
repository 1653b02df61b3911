"""The dashboard's what-if: a price book goes in, faults come back with their lines, or who would pay how much more."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from arcadia_pipelines_tests.api.ui.conftest import DESK, PHONE, Open, Visit
from arcadia_pipelines_tests.api.ui.test_dashboard import serious

ANSWERED = "2026-01 to 2026-02, at the book's prices"


def form(page: Visit) -> Locator:
    return page.page.locator("#what-if")


def priced(page: Visit, heading: str) -> None:
    """Press the button, and wait for what it says."""
    page.page.get_by_role("button", name="Reprice").click()
    page.page.get_by_role("heading", level=2, name=heading).wait_for()
    page.settled()


def rows_of(page: Visit, region: str) -> list[list[str]]:
    """The rows of the card with this heading, the foot's last."""
    card = page.page.get_by_role("region", name=region, exact=True)
    return [row.locator("th, td").all_inner_texts() for row in card.locator("tbody tr, tfoot tr").all()]


@pytest.fixture
def faulty(dearer: str) -> str:
    return dearer.replace("'60.00'", "'-1'")


@pytest.mark.parametrize(
    "look", [{"viewport": DESK, "color_scheme": "dark"}, {"viewport": PHONE}], ids=["night", "phone"]
)
def test_faults_are_shown_with_their_lines_then_the_book_is_priced(
    visit: Open, dearer: str, faulty: str, look: dict[str, Any]
) -> None:
    """A studio at -1 is refused; at 60.00 for 50.00, each of eleven tenants pays 10.00 more a month."""
    page = visit("#/reprice", **look)
    assert serious(page) == []
    form(page).get_by_label("To").select_option("2026-02")
    page.page.get_by_label("or as text").fill(faulty)
    priced(page, "Nothing was priced")
    page.noise.clear()  # the browser logs the 422
    fault = page.page.get_by_role("alert").get_by_role("listitem")
    number = faulty[: faulty.index("'-1'")].count("\n") + 1
    assert [" ".join(one.split()) for one in fault.all_inner_texts()] == [
        f"Line {number} plans.studio.price_aud: -1 is below 0"
    ]
    assert serious(page) == []
    page.page.get_by_role("button", name=f"Line {number}").click()
    marked = "(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.activeElement)"
    assert page.page.evaluate(marked) == "    price_aud: '-1'"
    page.page.get_by_label("or as text").fill(dearer)
    priced(page, ANSWERED)
    tiles = page.page.locator(".tiles dd:nth-of-type(1)").all_inner_texts()
    assert tiles[2:] == ["+$220.00", "11 tenants", "0 tenants"]
    assert rows_of(page, "Month by month")[0][:2] == ["2026-01", "+$110.00"]
    assert rows_of(page, "By plan")[0][:2] == ["studio", "+$220.00"]
    assert rows_of(page, "By kind of line")[0][:2] == ["plan_base", "+$220.00"]
    *payers, foot = rows_of(page, "Who would pay more or less")
    assert len(payers) == 11
    assert {row[1] for row in payers} == {"+$20.00"}
    assert foot[:2] == ["Sum", "+$220.00"]
    bars = [(bar["name"], bar["measure"]) for bar in page.bars()]
    assert bars[:4] == [(month, side) for month in ("2026-01", "2026-02") for side in ("Before", "After")]
    assert {measure for _, measure in bars[4:]} == {"More"}
    assert serious(page) == []
    width = look["viewport"]["width"]
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_file_is_priced_for_one_tenant_and_downloaded_and_kept_until_one_signs_out(
    visit: Open, dearer: str, tmp_path: Path
) -> None:
    (tmp_path / "prices.yaml").write_text(dearer)
    page = visit("#/reprice?from=2026-04&to=2026-04")
    page.page.get_by_label("Price book, as a file").set_input_files(tmp_path / "prices.yaml")
    expect(page.page.get_by_label("Its text, from prices.yaml")).to_have_value(dearer)
    form(page).get_by_label("Only tenant").fill("pilot")
    priced(page, "2026-04, pilot, at the book's prices")
    assert rows_of(page, "Who would pay more or less")[0] == ["pilot", "+$10.00", "$64.22", "$74.22"]
    with page.page.expect_download() as downloading:
        page.page.get_by_role("button", name="Download CSV").click()
    downloading.value.save_as(tmp_path / "reprice.csv")
    sheet = list(csv.DictReader(io.StringIO((tmp_path / "reprice.csv").read_text("utf-8-sig"))))
    assert [row["difference"] for row in sheet if row["kind"] == "plan_base"] == ["10.00"]
    page.page.get_by_role("link", name="pilot").click()
    page.settled("Invoices behind this revenue")
    page.page.get_by_role("link", name="Back to What if").click()
    page.settled("What if")
    expect(page.page.get_by_role("heading", name="2026-04, pilot, at the book's prices")).to_be_visible()
    page.page.get_by_role("button", name="Sign out").click()
    assert "price_aud" not in page.page.content()


def test_what_cannot_be_priced_is_told(visit: Open, book: str, tmp_path: Path) -> None:
    """A file that is not UTF-8, a tenant that is none, a book without a price; and one that changes nothing."""
    page = visit("#/reprice")
    (tmp_path / "latin.yaml").write_bytes("# Preisänderung".encode("latin-1"))
    page.page.get_by_label("Price book, as a file").set_input_files(tmp_path / "latin.yaml")
    expect(page.page.get_by_role("alert").get_by_role("listitem")).to_have_text(
        "latin.yaml is not UTF-8: save the file in that encoding"
    )
    page.page.get_by_label("or as text").fill("{}")
    form(page).get_by_label("Only tenant").fill("nobody")
    priced(page, "Nothing was priced")
    expect(page.page.get_by_role("alert").get_by_role("listitem")).to_contain_text("there is no tenant 'nobody'")
    page.noise.clear()
    form(page).get_by_label("Only tenant").fill("pilot")
    priced(page, "2026-01 to 2026-05, pilot, at the book's prices")
    expect(page.page.get_by_role("region", name="1 tenant cannot be priced")).to_contain_text(
        "pilot: plan studio has no"
    )
    page.page.get_by_label("or as text").fill(book)
    priced(page, "2026-01 to 2026-05, pilot, at the book's prices")
    expect(page.page.get_by_text("Nobody: at the book's prices each tenant pays what it pays.")).to_be_visible()
