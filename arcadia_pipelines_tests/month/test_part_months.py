"""Part months and pools from the platform's tables to invoices, by hand, each proved a second way."""

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof.controls import find
from arcadia_pipelines.proof.usage_controls import USAGE_IS_CONSERVED
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World, uid


@pytest.fixture
def daily(world: World) -> World:
    """Two plans that prorate, of 31.00 and 62.00, and one that does not; an addon of 3.10. October has 31 days."""
    world.tenant("pilot")
    world.plan("small", 3100, {"calls": (310, 1)})
    world.plan("large", 6200)
    world.plan("whole", 500)
    world.addon("storage", 310)
    world.query("update cloud.plans set proration = 'daily' where code <> 'whole'")
    return world


def october(world: World) -> list[tuple[str, str, int]]:
    """What October bills the pilot: each line's description, quantity with its unit, and cents; all of it proved."""
    world.publish("2026-10")
    assert world.disproved() == []
    before = world.query("select * from billing.tenant_invoice_lines")
    world.publish("2026-10")
    assert world.query("select * from billing.tenant_invoice_lines") == before
    return [
        (description, quantity, cents)
        for description, quantity, cents in world.query(
            "select description, trim_scale(qty) || ' ' || unit || case when price_per = 1 then '' else ' of '"
            " || trim_scale(price_per) end, amount_cents from billing.tenant_invoice_lines where kind <> 'tax'"
            " order by line_no"
        )
    ]


DAYS = [
    ("2026-10-01 00:00+00", None, "1 month", 3100),
    ("2026-10-01 23:59:59.999999+00", None, "1 month", 3100),
    ("2026-10-02 00:00+00", None, "30 day of 31", 3000),
    ("2026-10-31 23:59+00", None, "1 day of 31", 100),
    ("2026-01-01 00:00+00", "2026-10-18 00:00+00", "17 day of 31", 1700),
    ("2026-01-01 00:00+00", "2026-10-18 00:00:00.000001+00", "18 day of 31", 1800),
    ("2026-01-01 00:00+00", "2026-11-01 00:00+00", "1 month", 3100),
]
"""When a subscription starts and ends, and what of October it is billed."""


def test_a_day_counts_if_the_subscription_was_there_at_any_instant_of_it(daily: World) -> None:
    for number, (start, end, *_) in enumerate(DAYS):
        daily.deployment("pilot", f"web-{number}", "small", start=start, end=end)
    assert october(daily) == [("Plan: small", quantity, cents) for *_, quantity, cents in DAYS]


def test_a_day_belongs_to_the_subscription_that_started_last(daily: World) -> None:
    """Small until the 18th at noon, then whole for an hour, then large: 17 days, a month of whole, 14 days."""
    noon, later = "2026-10-18 12:00+00", "2026-10-18 13:00+00"
    daily.deployment("pilot", "web", "small", end=noon)
    daily.subscribe("web-2", "pilot", "web", "whole", start=noon, end=later)
    daily.subscribe("web-3", "pilot", "web", "large", start=later)
    assert sorted(october(daily)) == [
        ("Plan: large", "14 day of 31", 2800),
        ("Plan: small", "17 day of 31", 1700),
        ("Plan: whole", "1 month", 500),
    ]


def test_a_plan_changed_twice_on_one_day_has_a_line_of_no_days(daily: World) -> None:
    noon, later = "2026-10-18 12:00+00", "2026-10-18 13:00+00"
    daily.deployment("pilot", "web", "small", end=noon)
    daily.subscribe("web-2", "pilot", "web", "large", start=noon, end=later)
    daily.subscribe("web-3", "pilot", "web", "small", start=later)
    assert sorted(october(daily)) == [
        ("Plan: large", "0 day of 31", 0),
        ("Plan: small", "14 day of 31", 1400),
        ("Plan: small", "17 day of 31", 1700),
    ]


def test_what_goes_to_another_tenant_is_shared_by_days(daily: World) -> None:
    """The pilot until the 10th at noon, nova from then: 9 days and 22."""
    noon = "2026-10-10 12:00+00"
    daily.tenant("nova")
    daily.deployment("pilot", "web", "small", end=noon)
    daily.subscribe("web-2", "nova", "web", "small", start=noon)
    assert sorted(october(daily)) == [("Plan: small", "22 day of 31", 2200), ("Plan: small", "9 day of 31", 900)]


def test_an_addon_whose_quantity_changes_is_billed_by_its_days_and_not_beyond_its_subscription(daily: World) -> None:
    """From the 5th: one until the 10th, 6 days; three from the 11th until the last day, the 20th, 30 days."""
    daily.deployment("pilot", "web", "small", start="2026-10-05 00:00+00", end="2026-10-21 00:00+00")
    added = "insert into cloud.subscription_addons values (%s, %s, %s, %s, %s, %s)"
    for name, quantity, start, end in (
        ("a", 1, "2026-10-01 00:00+00", "2026-10-11 00:00+00"),
        ("b", 3, "2026-10-11 00:00+00", None),
        ("c", 1, "2026-10-21 00:00+00", None),
    ):
        daily.query(added, uid(name), uid("web"), uid("storage"), quantity, start, end)
    assert sorted(october(daily)) == [
        ("Addon: storage", "30 day of 31", 300),
        ("Addon: storage", "6 day of 31", 60),
        ("Plan: small", "16 day of 31", 1600),
    ]


def test_usage_beyond_a_part_of_the_allowance_is_billed_and_conserved(daily: World) -> None:
    """10 of 31 days include 100 calls: 150 are 50 beyond, 0.50."""
    daily.deployment("pilot", "web", "small", start="2026-10-22 00:00+00")
    daily.use("web", "calls", 150, "2026-10-24 12:00+00")
    assert october(daily) == [("Plan: small", "10 day of 31", 1000), ("Overage: calls", "50 hour", 50)]
    assert conserved(daily)


def test_a_pool_is_billed_to_who_used_it_and_conserved(daily: World) -> None:
    """310 + 100 of 31 x 10 days + 310 unused: 900 calls are 180 beyond 720, of 590 and 0 over: all to web."""
    daily.query("update cloud.plan_rates set pooled = true")
    daily.deployment("pilot", "web", "small")
    daily.deployment("pilot", "api", "small", start="2026-10-22 00:00+00")
    daily.deployment("pilot", "db", "small")
    daily.use("web", "calls", 900, "2026-10-24 12:00+00")
    assert ("Overage: calls", "180 hour", 180) in october(daily)
    assert conserved(daily)
    daily.tamper("update billing.deployment_quote_lines set qty = 179 where kind = 'overage'")
    assert not conserved(daily)


def conserved(world: World) -> bool:
    """Whether the gate's control finds the usage of October whole, the quick way and the long way."""
    with database.transaction(database.engine(world.url)) as connection:
        month = BillingMonth.parse("2026-10")
        found = find(connection, USAGE_IS_CONSERVED, month).count
        long_way = find(connection, type(USAGE_IS_CONSERVED)(**{**vars(USAGE_IS_CONSERVED), "unless": None}), month)
        assert bool(found) == bool(long_way.count)
        return not found


def test_a_day_too_many_is_found(daily: World) -> None:
    daily.deployment("pilot", "web", "small", start="2026-10-22 00:00+00")
    daily.publish("2026-10")
    daily.tamper("update billing.tenant_invoice_lines set qty = 11, amount_cents = 1100 where kind = 'plan_base'")
    assert daily.finds("lines_follow_from_usage_and_prices", "2026-10")


def test_a_part_month_and_a_pool_are_explained(daily: World, arcadia: Call) -> None:
    """Every sum agrees, to the price of a whole month and the allowance of ten days."""
    daily.query("update cloud.plan_rates set pooled = true")
    daily.deployment("pilot", "web", "small", start="2026-10-22 00:00+00")
    daily.deployment("pilot", "api", "small", start="2026-10-22 00:00+00")
    daily.use("web", "calls", 190, "2026-10-24 12:00+00")
    daily.use("api", "calls", 110, "2026-10-24 12:00+00")
    daily.publish("2026-10")
    code, out, _ = arcadia("explain", "INV-202610-00001")
    assert "10 day x 31.00 / 31 = 10.00" in out
    assert "price of plan small: 31.00 per 31 days, since 2026-01-01 (plan_prices)" in out
    assert "used 190 - included 100 (10 of 31 days) - 0 that other subscriptions left of theirs = 90 hour" in out
    assert "price of plan small: 0.01 per hour beyond 100, since 2026-01-01 (plan_rates)" in out
    assert (code, "Every sum agrees." in out) == (0, True)


def test_a_quote_of_a_start_prices_the_part_and_the_whole_month(daily: World, arcadia: Call) -> None:
    """From 22 October: 10 of 31 days of 31.00 + 2 x 3.10, and 50 calls beyond 100: 12.50. A month: 37.20."""
    wanted = ("--plan", "small", "--addon", "storage", "--addon", "storage", "--usage", "calls=150")
    quoted = arcadia("quote", *wanted, "--start", "2026-10-22", "--json").json()
    assert [quoted["subtotal_cents"], quoted["whole_month"]["subtotal_cents"]] == [1250, 3720]
    assert quoted["lines"][0]["price_per"] == "31.000000"
    assert "whole_month" not in arcadia("quote", *wanted, "--month", "2026-10", "--json").json()
    told = arcadia("quote", "--plan", "whole", "--start", "2026-10-22").out
    assert "Plan whole does not prorate: a part month costs as much as a whole one." in told
    refused = arcadia("quote", *wanted, "--start", "2026-10-22", "--month", "2026-09")
    assert "--start 2026-10-22 is not in 2026-09: give one of the two" in refused.err


def test_a_quote_of_what_was_used_is_the_invoice(daily: World, arcadia: Call) -> None:
    """The same lines to the cent, but for the deployment's name: of a part month too."""
    daily.deployment("pilot", "web", "small", ["storage"], start="2026-10-22 00:00+00")
    daily.use("web", "calls", 150, "2026-10-24 12:00+00")
    daily.publish("2026-10")
    invoiced = arcadia("show", "pilot", "2026-10", "--json").json()["lines"]
    wanted = ("--plan", "small", "--addon", "storage", "--usage", "calls=150", "--start", "2026-10-22")
    quoted = arcadia("quote", *wanted, "--json").json()["lines"]
    assert quoted == [{**line, "deployment_id": None} for line in invoiced]
