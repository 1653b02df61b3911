"""Charge models: usage beyond the allowance, in each model, at its bounds."""

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing.money import Row
from arcadia_pipelines_tests.billing.columns import LAWS, Inputs, rate, rows, subscription, tiers, use

NO_BASE = [subscription("web", base_price_cents=0)]
STEPS = tiers((5, "0", 100), (10, "0", 50), (15, "5", 0), (None, "1", 0))
"""Up to 5 flat 1.00, up to 10 flat 0.50, up to 15 at 5 c each, then 1 c each."""
VOLUME = tiers((5, "0", 100), (10, "0", 150), (15, "10", 0), (None, "5", 0))


def overage(used: str, of_tiers: Sequence[Row] = (), **columns: Any) -> list[tuple[str, str, int, int]]:
    """The overage lines: quantity, unit, cents a unit, cents."""
    rated = rate(**{"included": "0", "unit_price_cents": "0", **columns})
    lines = Inputs(NO_BASE, [], [rated], [use("web", used)], of_tiers).quote().lines
    found = rows(lines[lines["kind"] == "overage"], "qty", "unit", "unit_price_cents", "amount_cents")
    return [(f"{qty:f}".rstrip("0").rstrip("."), unit, int(price), cents) for qty, unit, price, cents in found]


def cents(used: str, of_tiers: Sequence[Row] = (), **columns: Any) -> int:
    """What usage comes to beyond its allowance."""
    return sum(line[3] for line in overage(used, of_tiers, **columns))


def test_packages_are_whole_and_one_that_is_begun_counts() -> None:
    """Of 10 at 1.00: 121 units are 13 packages, 12 if 10 are included; 120 are 12, and a millionth more is 13."""
    package: dict[str, Any] = {"charge_model": "package", "package_size": Decimal(10), "unit_price_cents": "100"}
    assert overage("121", **package) == [("13", "package of 10 hour", 100, 1300)]
    assert overage("121", included="10", **package) == [("12", "package of 10 hour", 100, 1200)]
    assert [cents(used, **package) for used in ("120", "120.000001", "0.000001", "10")] == [1200, 1300, 100, 100]
    assert overage("10", included="10", **package) == []


def test_a_package_may_hold_a_part_of_a_unit() -> None:
    """Of 2.5 hours at 3 c: 6 hours are three packages."""
    lines = overage("6", charge_model="package", package_size=Decimal("2.5"), unit_price_cents="3")
    assert lines == [("3", "package of 2.5 hour", 3, 9)]


def test_graduated_usage_is_charged_tier_by_tier() -> None:
    """22 units by the steps: 1.00 + 0.50 + 5 x 5 c + 7 x 1 c = 1.82."""
    assert overage("22", STEPS, charge_model="graduated") == [
        ("1", "flat fee", 100, 100),
        ("1", "flat fee", 50, 50),
        ("5", "hour", 5, 25),
        ("7", "hour", 1, 7),
    ]


@pytest.mark.parametrize(
    ("used", "amount"),
    [("0.5", 100), ("5", 100), ("5.000001", 150), ("10", 150), ("11", 155), ("15", 175), ("16", 176)],
)
def test_a_bound_belongs_to_the_tier_below_it(used: str, amount: int) -> None:
    """Just at a bound and just above it; graduated by the steps."""
    assert cents(used, STEPS, charge_model="graduated") == amount


@pytest.mark.parametrize(("used", "amount"), [("5", 100), ("6", 150), ("14", 140), ("15", 150), ("16", 80)])
def test_by_volume_all_usage_has_the_price_of_the_tier_it_falls_into(used: str, amount: int) -> None:
    """14 units are 14 x 10 c, 16 are 16 x 5 c: more may cost less."""
    assert cents(used, VOLUME, charge_model="volume") == amount


def test_rates_of_every_model_are_billed_in_one_month_each_by_its_own() -> None:
    """20 units of each: 0.20 at 1 c; 1.00 by tens at 0.50; 0.80 at 5 c up to 10, then at 3 c; 0.60 all at 3 c."""
    graduated, volume = (tiers((10, "5", 0), (None, "3", 0), resource_kind=kind) for kind in ("gb", "requests"))
    rates = [
        rate("cpu", "0", "1"),
        rate("disk", "0", "50", charge_model="package", package_size=Decimal(10)),
        rate("gb", "0", "0", charge_model="graduated"),
        rate("requests", "0", "0", charge_model="volume"),
    ]
    usage = [use("web", "20", kind) for kind in ("cpu", "disk", "gb", "requests")]
    lines = Inputs(NO_BASE, [], rates, usage, [*graduated, *volume]).quote().lines
    assert rows(lines[lines["kind"] == "overage"], "resource_kind", "qty", "amount_cents") == [
        ("cpu", Decimal(20), 20),
        ("disk", Decimal(2), 100),
        ("gb", Decimal(10), 50),
        ("gb", Decimal(10), 30),
        ("requests", Decimal(20), 60),
    ]


def test_known_results_of_other_systems() -> None:
    """Up to 10 at 5, then at 3: 20 units are 80 graduated and 60 by volume; 25 in packages of 10 at 50 are 150."""
    two = tiers((10, "5", 0), (None, "3", 0))
    assert (cents("20", two, charge_model="graduated"), cents("20", two, charge_model="volume")) == (80, 60)
    assert cents("25", charge_model="package", package_size=Decimal(10), unit_price_cents="50") == 150


def test_a_tier_without_a_price_has_a_line_unless_it_has_a_fee() -> None:
    """The first 10 are free and say so; the next cost a fee once and nothing each."""
    free = tiers((10, "0", 0), (None, "0", 30))
    assert overage("12", free, charge_model="graduated") == [("10", "hour", 0, 0), ("1", "flat fee", 30, 30)]


def test_a_fee_of_a_cent_is_a_fee() -> None:
    assert overage("12", tiers((None, "0", 1)), charge_model="graduated") == [("1", "flat fee", 1, 1)]


def test_lines_that_sum_to_more_than_the_maximum_are_one_line() -> None:
    """1.82 by the steps is at most 1.80; 1.82 may be 1.82. So with 300 hours at 1 c and a maximum of 2.50."""
    assert overage("22", STEPS, charge_model="graduated", maximum_cents=180) == [("1", "cap", 180, 180)]
    assert cents("22", STEPS, charge_model="graduated", maximum_cents=182) == 182
    assert overage("300", unit_price_cents="1", maximum_cents=250) == [("1", "cap", 250, 250)]
    assert overage("250", unit_price_cents="1", maximum_cents=250) == [("250", "hour", 1, 250)]


def test_a_line_says_by_which_rule_it_is_charged() -> None:
    """Model, tier and package beside what was used and included; the old model says what it always said."""
    rated = rate(included="2", charge_model="graduated")
    quoted = Inputs(NO_BASE, [], [rated], [use("web", "14")], tiers((10, "5", 0), (None, "3", 0))).quote().lines
    assert rows(quoted[quoted["kind"] == "overage"], "meta") == [
        (
            '{"tier": "0 to 10", "used": "14.000000", "model": "graduated", "included": "2.000000",'
            ' "effective_from": "2026-01-01"}',
        ),
        (
            '{"tier": "over 10", "used": "14.000000", "model": "graduated", "included": "2.000000",'
            ' "effective_from": "2026-01-01"}',
        ),
    ]


def test_a_rate_that_cannot_be_charged_holds_its_tenant_back() -> None:
    """Whoever has not used it is quoted."""
    wrong = rate(charge_model="graduated", wrong="is graduated and has no tiers")
    quoted = Inputs([subscription("web"), subscription("db", "nova")], [], [wrong], [use("web", "1")]).quote()
    assert rows(quoted.faults, "tenant_id", "fault", "detail") == [
        (
            "pilot",
            "rate_cannot_be_charged",
            "the rate of plan studio for droplet_hours since 2026-01-01 is graduated and has no tiers: correct "
            "plan_rates or plan_rate_tiers",
        )
    ]
    assert rows(quoted.lines, "tenant_id") == [("nova",)]


@LAWS
@given(
    usage=st.lists(st.decimals(0, 60, places=6), min_size=2, max_size=6),
    model=st.sampled_from(["per_unit", "package", "graduated"]),
)
def test_more_usage_never_costs_less_but_by_volume(usage: list[Decimal], model: str) -> None:
    """For amounts before rounding this holds exactly; after it each line is within half a cent."""
    size = Decimal(7) if model == "package" else None
    steps = STEPS if model == "graduated" else ()
    rated: dict[str, Any] = {"charge_model": model, "package_size": size, "unit_price_cents": "3"}
    amounts = [cents(str(used), steps, **rated) for used in sorted(usage)]
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(amounts))
