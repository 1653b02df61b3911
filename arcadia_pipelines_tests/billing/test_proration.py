"""Part months, column by column: what days of a month make of a plan, an addon, an allowance and a maximum."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines_tests.billing.columns import LAWS, Inputs, addon, rate, subscription, use

Bill = list[tuple[str, Decimal, str, Decimal, int]]


def bill(month: Inputs) -> Bill:
    """The lines as kind, qty, unit, price_per and cents."""
    quoted = month.quote()
    assert quoted.faults.empty, quoted.faults["detail"].tolist()
    columns = quoted.lines[["kind", "qty", "unit", "price_per", "amount_cents"]]
    return [tuple(row) for row in columns.astype(object).itertuples(index=False, name=None)]


def web(cents: int, first_day: int, last_day: int, days_in_month: int) -> Inputs:
    """One subscription of a daily plan."""
    days: dict[str, Any] = {"first_day": first_day, "last_day": last_day, "days_in_month": days_in_month}
    return Inputs(subscriptions=[subscription("web", base_price_cents=cents, daily=True, **days)])


def base(month: Inputs) -> list[tuple[str, int, int]]:
    return [(f"{qty:f} {unit}", int(per), cents) for kind, qty, unit, per, cents in bill(month) if kind == "plan_base"]


def test_from_8_january_50_dollars_are_24_days_of_31() -> None:
    """5,000 x 24 / 31 = 3,870.97, so 38.71."""
    assert base(web(5000, 8, 31, 31)) == [("24.000000 day", 31, 3871)]


def test_until_18_december_31_dollars_are_18_days_and_a_day_less_if_upgraded_on_it() -> None:
    assert base(web(3100, 1, 18, 31)) == [("18.000000 day", 31, 1800)]
    assert base(web(3100, 1, 17, 31)) == [("17.000000 day", 31, 1700)]


def test_whole_months_of_28_to_31_days_read_as_before() -> None:
    for days in (28, 29, 30, 31):
        assert base(web(5000, 1, days, days)) == [("1.000000 month", 1, 5000)]


def test_the_first_and_the_last_day_alone_are_a_day_each() -> None:
    """3,001 / 30 = 100.03, and 15 / 30 = 0.5, which is a cent."""
    assert base(web(3001, 1, 1, 30)) == base(web(3001, 30, 30, 30)) == [("1.000000 day", 30, 100)]
    assert base(web(15, 30, 30, 30)) == [("1.000000 day", 30, 1)]


def test_a_plan_changed_again_on_the_same_day_has_no_day_and_still_its_line() -> None:
    assert base(web(5000, 12, 11, 30)) == [("0.000000 day", 30, 0)]


def test_a_plan_that_does_not_prorate_costs_a_whole_month() -> None:
    month = Inputs(subscriptions=[subscription("web", first_day=30, last_day=30)])
    assert base(month) == [("1.000000 month", 1, 5000)]


def test_an_addon_costs_the_days_on_which_it_and_its_subscription_were_there() -> None:
    """From the 11th, the addon from the 16th: 15 days of 2 at 7.50 a month are 750 x 30 / 30 = 7.50."""
    month = web(5000, 11, 30, 30)._replace(addons=[addon("web", quantity=2, first_day=16)])
    assert bill(month) == [
        ("plan_base", Decimal(20), "day", Decimal(30), 3333),
        ("addon", Decimal(30), "day", Decimal(30), 750),
    ]


def test_an_addon_whose_quantity_changes_costs_each_for_its_days() -> None:
    """One until the 10th and three from the 11th, of a whole month: 10 and 60 days of 30 at 6.00."""
    addons = [
        addon("web", price_cents=600, last_day=10, subscription_addon_id="a"),
        addon("web", price_cents=600, first_day=11, quantity=3, subscription_addon_id="b"),
    ]
    found = [line for line in bill(web(5000, 1, 30, 30)._replace(addons=addons)) if line[0] == "addon"]
    assert found == [("addon", Decimal(10), "day", Decimal(30), 200), ("addon", Decimal(60), "day", Decimal(30), 1200)]


def test_half_of_february_has_half_the_allowance() -> None:
    """200.00 with 20 included and 2.50 beyond, from 15 February 2015, 12 used: 100.00, and 2 beyond 10 at 2.50."""
    month = web(20000, 15, 28, 28)._replace(
        rates=[rate("calls", "20", "250", unit="call")], usage=[use("web", "12", "calls")]
    )
    assert bill(month) == [
        ("plan_base", Decimal(14), "day", Decimal(28), 10000),
        ("overage", Decimal(2), "call", Decimal(1), 500),
    ]
    meta = month.quote().lines["meta"].tolist()
    assert meta[1] == (
        '{"days": "14 of 28", "used": "12.000000", "included": "10.000000", "effective_from": "2026-01-01"}'
    )


def test_an_allowance_is_scaled_to_six_decimals_half_up() -> None:
    """1 x 20 / 31 = 0.645161|29; 0.000001 x 15 / 30 is half of the last place, which counts as one."""
    for included, days, of, beyond in (("1", 20, 31, "0.354839"), ("0.000001", 15, 30, "0.999999")):
        month = web(0, 1, days, of)._replace(rates=[rate(included=included)], usage=[use("web", "1")])
        assert bill(month)[1][1] == Decimal(beyond)


def test_a_maximum_is_scaled_to_the_cent_half_up() -> None:
    """At most 10.01 a month, 15 of 30 days: 5.005, so 5.01; 600 hours at 1 c are 6.00."""
    rates = [rate(included="0", maximum_cents=1001)]
    month = web(0, 16, 30, 30)._replace(rates=rates, usage=[use("web", "600")])
    assert bill(month)[1] == ("overage", Decimal(1), "cap", Decimal(1), 501)


def test_a_quantity_times_days_that_no_line_can_hold_is_a_fault() -> None:
    month = web(5000, 11, 30, 30)._replace(addons=[addon("web", quantity=10**11)])
    assert month.quote().faults["fault"].tolist() == ["addon_quantity_out_of_range"]


def test_a_proration_that_nobody_knows_is_a_fault() -> None:
    found = Inputs(subscriptions=[subscription("web", daily=None)]).quote().faults
    assert found["detail"].tolist() == ["the proration of plan studio is neither none nor daily: correct it in plans"]


@LAWS
@given(cents=st.integers(0, 10**10 - 1), of=st.integers(28, 31), cut=st.integers(0, 31))
def test_the_parts_of_a_month_sum_to_the_whole_within_a_cent(cents: int, of: int, cut: int) -> None:
    cut = min(cut, of)
    parts = [base(web(cents, *days, of))[0][2] for days in ((1, cut), (cut + 1, of))]
    assert abs(sum(parts) - cents) <= 1
