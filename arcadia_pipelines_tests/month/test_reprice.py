"""Past months at other prices: what the engine makes of frozen usage, beside what it made."""

from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month.reprice import NotRepriced, reprice
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World, failures, run, uid

APRIL = BillingMonth.parse("2026-04")
PRICES: dict[str, list[dict[str, Any]]] = {
    "plans": [{"code": "studio", "proration": "none"}],
    "prices": [{"plan": "studio", "cents": 5000}, {"addon": "storage_50gb", "cents": 750}],
    "rates": [
        {
            "plan": "studio",
            "resource_kind": "droplet_hours",
            "included_quantity": "1488",
            "unit": "hour",
            "unit_price_cents": "1",
            "columns": {"charge_model": "per_unit", "pooled": False},
        }
    ],
    "tiers": [],
    "discounts": [],
    "commitments": [],
}
"""The pilot's."""


def publish_april(world: World) -> None:
    """As `april` says."""
    world.pilot()
    world.query(
        "insert into cloud.discounts (id, tenant_id, line_kind, percent, starts_on, description)"
        " values (%s, 'pilot', 'overage', 10, '2026-01-01', 'loyalty')",
        uid("loyalty"),
    )
    world.publish("2026-04")


@pytest.fixture
def april(world: World) -> World:
    """The pilot's April, with 10 % off its overage: 50.00 + 7.50 + 6.72 - 0.67 = 63.55, GST 6.36."""
    return world


BEGINNINGS = {"april": publish_april}


def amounts(world: World, **changed: Any) -> dict[str, tuple[int, int]]:
    """April's kinds of line, each before and after, at the pilot's prices with these changed."""
    discount = {"id": str(uid("loyalty")), "tenant_id": "pilot", "line_kind": "overage", "percent": "10"}
    stated = {"discounts": [discount | {"starts_on": "2026-01-01", "description": "loyalty"}]}
    before = world.query("select * from billing.tenant_invoices")
    with database.transaction(database.engine(world.url)) as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
        found = reprice(connection, APRIL, {**PRICES, **stated, **changed})
    assert found.faults.empty, found.faults["detail"].tolist()
    assert world.query("select * from billing.tenant_invoices") == before
    rows = found.amounts.astype(object).to_dict("records")
    assert {(row["tenant_id"], row["period_start"]) for row in rows} == {("pilot", "2026-04-01")}
    return {row["kind"]: (row["before_cents"], row["after_cents"]) for row in rows}


UNCHANGED = {"plan_base": 5000, "addon": 750, "overage": 672, "discount": -67, "tax": 636}


def test_at_the_prices_in_effect_nothing_differs(april: World) -> None:
    assert amounts(april) == {kind: (cents, cents) for kind, cents in UNCHANGED.items()}


def test_another_base_price_changes_the_plan_and_its_gst(april: World) -> None:
    """60.00 for 50.00: 73.55 before GST, so 7.36 (7.355 up)."""
    prices = [{"plan": "studio", "cents": 6000}, PRICES["prices"][1]]
    assert amounts(april, prices=prices) == {
        **{kind: (cents, cents) for kind, cents in UNCHANGED.items()},
        "plan_base": (5000, 6000),
        "tax": (636, 736),
    }


def test_tiers_own_prices_and_terms_of_the_file_count(april: World) -> None:
    """672 h up to 600 at 2 c, then 1 c: 12.72; base 10.00 of its own; no discount; at least 40.00: 9.78 more."""
    tiered = PRICES["rates"][0] | {"columns": {"charge_model": "graduated"}}
    tier = {"plan": "studio", "resource_kind": "droplet_hours", "flat_cents": 0}
    tiers = [tier | {"up_to": "600", "unit_price_cents": 2}, tier | {"unit_price_cents": 1}]
    own = {"tenant_id": "pilot", "plan": "studio", "cents": 1000}
    least = {"id": str(uid("least")), "tenant_id": "pilot", "minimum_cents": 4000, "starts_on": "2026-01-01"}
    changed = {"prices": [*PRICES["prices"], own], "rates": [tiered], "tiers": tiers, "discounts": []}
    assert amounts(april, **changed, commitments=[least]) == {
        "plan_base": (5000, 1000),
        "addon": (750, 750),
        "overage": (672, 1272),
        "discount": (-67, 0),
        "commitment": (0, 978),
        "tax": (636, 400),
    }


def test_whoever_cannot_be_priced_is_named_and_in_no_amount(april: World) -> None:
    with database.transaction(database.engine(april.url)) as connection:
        found = reprice(connection, APRIL, PRICES | {"prices": []})
    assert found.amounts.empty
    assert set(found.faults["fault"]) == {"plan_without_price", "addon_without_price"}


def test_a_month_that_was_not_quoted_cannot_be_priced_again(april: World) -> None:
    with (
        database.transaction(database.engine(april.url)) as connection,
        pytest.raises(NotRepriced, match="2026-05 is not quoted"),
    ):
        reprice(connection, BillingMonth.parse("2026-05"), PRICES)


def test_the_book_that_is_in_effect_makes_no_difference_and_another_one_is_shown_whole(
    april: World, arcadia: Call, tmp_path: Path
) -> None:
    """Exported and priced again: 0.00. At 60.00 a month: 10.00 more, of one tenant, in a table, JSON and two files."""
    book = tmp_path / "book.yaml"
    arcadia("prices", "export", "--month", "2026-04", "--out", str(book))
    same = arcadia("reprice", "--prices", str(book), "--months", "2026-04", "--json").json()
    assert [(row["before_cents"], row["difference_cents"]) for row in same["months"]] == [(6355, 0)]
    assert all(row["before_cents"] == row["after_cents"] for row in same["amounts"])
    book.write_text(book.read_text().replace("price_aud: '50.00'", "price_aud: '60.00'"))
    told = arcadia("reprice", "--prices", str(book), "--months", "2026-04..2026-04")
    assert "1 tenant would pay more, 0 tenants less." in told.out
    assert [line.split()[1:] for line in told.out.splitlines() if "plan_base" in line] == [
        ["plan_base", "│", "50.00", "│", "60.00", "│", "+10.00", "│"]
    ]
    files = [tmp_path / "amounts.parquet", tmp_path / "months.svg"]
    wanted = ("--months", "2026-04", "--out", str(files[0]), "--picture", str(files[1]), "--json")
    found = arcadia("reprice", "--prices", str(book), *wanted).json()
    assert (found["tenants"][0]["difference_cents"], found["months"][0]["margin_after_cents"]) == (1000, None)
    assert pyarrow.parquet.read_table(files[0]).to_pylist() == found["amounts"]
    assert files[1].read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--months", "2026-05"), "2026-05 is not quoted: only months that were materialised can be priced again"),
        (("--months", "2026-04..2026-03"), "2026-04..2026-03 ends before it begins"),
        (("--months", "april"), "'april' is not a month"),
        (("--months", "2026-04", "--out", "amounts.xls"), "amounts.xls must end with .parquet or .csv"),
    ],
)
def test_what_cannot_be_priced_again_is_said(
    april: World, arcadia: Call, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    book = tmp_path / "book.yaml"
    arcadia("prices", "export", "--month", "2026-04", "--out", str(book))
    assert said in arcadia("reprice", "--prices", str(book), *arguments).err


def test_a_book_with_a_tenant_that_the_platform_does_not_have_is_refused_with_its_line(
    april: World, arcadia: Call, tmp_path: Path
) -> None:
    """A mistyped id would make no difference, and look like a price that nobody pays."""
    book = tmp_path / "book.yaml"
    exported = arcadia("prices", "export", "--month", "2026-04").out
    book.write_text(exported.replace("pilot:", "pilto:"))
    line = 1 + next(number for number, text in enumerate(book.read_text().splitlines()) if "pilto:" in text)
    told = arcadia("reprice", "--prices", str(book), "--months", "2026-04")
    assert (told.code, told.out) == (1, "")
    assert f"book.yaml:{line}" in told.err
    assert "is no tenant of the platform" in told.err
    job = run(april, "reprice", run_config=of_reprice(book.read_text()))
    assert not job.success
    assert "is no tenant of the platform" in failures(job)[0]


def test_the_job_says_who_would_pay_how_much_more(april: World, arcadia: Call) -> None:
    """10.00 more at 60.00 a month; a book with a fault is refused with its line."""
    book = arcadia("prices", "export", "--month", "2026-04").out.replace("price_aud: '50.00'", "price_aud: '60.00'")
    done = run(april, "reprice", run_config=of_reprice(book))
    assert done.success
    [event] = [e for e in done.all_events if e.event_type_value == "STEP_OUTPUT"]
    told = event.step_output_data.metadata
    assert told["summary"].value == "$10.00 ex GST more in all; 1 tenant would pay more, 0 tenants less"
    assert "data:image/svg+xml" in str(told["picture"].value)
    wrong = run(april, "reprice", run_config=of_reprice(book.replace("'60.00'", "'-1'")))
    assert not wrong.success
    assert "-1 is below 0" in failures(wrong)[0]


def of_reprice(book: str) -> dict[str, Any]:
    """The run config that prices April at this book."""
    return {"ops": {"do_reprice": {"config": {"months": "2026-04", "price_book": book}}}}
