"""Discounts: what they take off which charges, in which order, and what their lines say; by hand."""

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing import invoice
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.money import Row, frame
from arcadia_pipelines_tests.billing.columns import (
    APRIL,
    LAWS,
    PILOT,
    Inputs,
    addon,
    discount,
    rate,
    rows,
    subscription,
    tenants,
    use,
)

ONE = Inputs([subscription("web", base_price_cents=4900)])


def lines(month: Inputs, *discounts: Row, to: Sequence[str] = ("pilot",)) -> list[tuple[Any, ...]]:
    """The invoice lines before tax: description, the metered kind, and cents."""
    quoted = month.quote().lines
    made = invoice.tenant_lines(quoted, invoice.Carried(), tenants(*to), APRIL, frame(DISCOUNTS, list(discounts)))
    return rows(made[made["kind"] != "tax"], "description", "resource_kind", "amount_cents")


def off(month: Inputs, *discounts: Row) -> list[int]:
    """What each discount line takes off, in order."""
    return [-cents for description, _, cents in lines(month, *discounts) if description.startswith("Discount")]


def web(*cents: int) -> Inputs:
    """A month of deployments a, b, c... whose plans cost so much."""
    names = "abcdefgh"[: len(cents)]
    return Inputs([subscription(name, base_price_cents=price) for name, price in zip(names, cents, strict=True)])


def test_a_percentage_of_each_sum_of_charges() -> None:
    """10 % of the pilot's 50.00, 7.50 and 6.72: 5.00, 0.75 and 0.672, so 0.67."""
    assert lines(PILOT, discount(percent="10")) == [
        ("Plan: studio", None, 5000),
        ("Addon: storage_50gb", None, 750),
        ("Overage: droplet_hours", "droplet_hours", 672),
        ("Discount: offer 1", None, -500),
        ("Discount: offer 1", None, -75),
        ("Discount: offer 1", "droplet_hours", -67),
    ]


def test_sixty_per_cent_twice_leaves_16_per_cent() -> None:
    """Of 49.00: 29.40 off, then 60 % of 19.60, which is 11.76; 7.84 is left."""
    assert off(ONE, discount("1", "60"), discount("2", "60")) == [2940, 1176]


def test_an_amount_of_more_than_is_charged_leaves_nothing() -> None:
    assert off(ONE, discount(amount_cents=10_000)) == [4900]


def test_an_amount_of_all_that_64_bits_hold_leaves_nothing_of_as_much() -> None:
    """Two deployments of 99,999,999.99 and one of a cent."""
    month = web(10**10 - 1, 10**10 - 1, 1)
    assert off(month, discount(amount_cents=2**63 - 1)) == [10**10 - 1, 10**10 - 1, 1]


def test_percentages_come_before_amounts_each_by_start_and_id() -> None:
    """Of 100.00: the half of March, then a tenth of what is left; then 10.00 of January, then 5.00 of February."""
    discounts = [
        discount("a", amount_cents=500, starts_on="2026-02-01"),
        discount("d", amount_cents=1000),
        discount("b", "10", starts_on="2026-03-01"),
        discount("A", "50", starts_on="2026-03-01"),
    ]
    found = lines(web(10000), *discounts)
    assert [line[::2] for line in found[1:]] == [
        ("Discount: offer A", -5000),
        ("Discount: offer b", -500),
        ("Discount: offer d", -1000),
        ("Discount: offer a", -500),
    ]


def test_a_percentage_is_rounded_once_for_each_sum_half_up() -> None:
    """Half of 0.01 is half a cent, which is let off; two overages of a cent in one sum are one cent off, not two."""
    assert off(web(1), discount(percent="50")) == [1]
    month = Inputs(
        [subscription("web", base_price_cents=0, subscription_id=name) for name in ("1", "2")],
        rates=[rate("gb", "0")],
        usage=[use("web", "1", "gb", subscription_id="1"), use("web", "1", "gb", subscription_id="2")],
    )
    assert lines(month, discount(percent="50"))[2:] == [
        ("Overage: gb", "gb", 1),
        ("Overage: gb", "gb", 1),
        ("Discount: offer 1", "gb", -1),
    ]


@pytest.mark.parametrize(
    ("charges", "amount", "shares"),
    [
        ((100, 100, 100), 100, [34, 33, 33]),  # 33.33 each: the cent over goes to the first in line order
        ((100, 100, 100), 200, [67, 67, 66]),  # two cents over
        ((1, 2, 4), 3, [1, 2]),  # 0.43, 0.86, 1.71 are 0, 0, 1, and two cents over: for .86 and .71; no line for 0
        ((5000, 0, 750), 575, [500, 75]),  # nothing of what costs nothing
        ((1, 1, 1), 1, [1]),  # the first of equals
        ((3, 3), 6, [3, 3]),
    ],
)
def test_an_amount_is_shared_by_largest_remainders(charges: tuple[int, ...], amount: int, shares: list[int]) -> None:
    assert off(web(*charges), discount(amount_cents=amount)) == shares


def test_shares_follow_the_lines_of_the_invoice_not_the_ids() -> None:
    """api comes before web on the invoice, whatever their ids: it has the cent that is left over."""
    month = Inputs(
        [
            subscription("1", deployment_name="web", base_price_cents=100),
            subscription("2", deployment_name="api", base_price_cents=100),
        ]
    )
    assert off(month, discount(amount_cents=1)) == [1]
    assert lines(month, discount(amount_cents=1))[1] == ("Discount: offer 1", None, -1)


TWO = Inputs(
    [subscription("api", base_price_cents=1000), subscription("web", base_price_cents=2000)],
    [addon("web", price_cents=300)],
    [rate("cpu", "0", "1"), rate("gb", "0", "1")],
    [use("api", "40", "cpu"), use("web", "50", "cpu"), use("web", "60", "gb")],
)
"""api: 10.00 and 0.40 of cpu. web: 20.00, an addon of 3.00, 0.50 of cpu and 0.60 of gb."""


@pytest.mark.parametrize(
    ("only", "taken"),
    [
        ({}, [100, 4, 200, 30, 5, 6]),
        ({"deployment_id": "id-api"}, [100, 4]),
        ({"line_kind": "plan_base"}, [100, 200]),
        ({"line_kind": "addon"}, [30]),
        ({"line_kind": "overage"}, [4, 5, 6]),
        ({"resource_kind": "cpu"}, [4, 5]),
        ({"deployment_id": "id-web", "line_kind": "overage", "resource_kind": "cpu"}, [5]),
        ({"line_kind": "addon", "resource_kind": "cpu"}, []),
        ({"deployment_id": "id-gone"}, []),
    ],
)
def test_a_discount_is_for_what_its_filters_name(only: dict[str, Any], taken: list[int]) -> None:
    """10 % of those sums."""
    assert off(TWO, discount(percent="10", **only)) == taken


def test_discount_lines_stand_behind_the_overage_of_their_deployment() -> None:
    """By discount, then as what they are off."""
    found = lines(TWO, discount("1", "50", line_kind="overage"), discount("2", "50", line_kind="overage"))
    assert [line[::2] for line in found] == [
        ("Plan: studio", 1000),
        ("Overage: cpu", 40),
        ("Discount: offer 1", -20),
        ("Discount: offer 2", -10),
        ("Plan: studio", 2000),
        ("Addon: storage_50gb", 300),
        ("Overage: cpu", 50),
        ("Overage: gb", 60),
        ("Discount: offer 1", -25),
        ("Discount: offer 1", -30),
        ("Discount: offer 2", -13),
        ("Discount: offer 2", -15),
    ]


def test_a_line_says_which_discount_of_how_much_it_is_and_of_what() -> None:
    made = invoice.tenant_lines(
        ONE.quote().lines,
        invoice.Carried(),
        tenants("pilot"),
        APRIL,
        frame(DISCOUNTS, [discount("1", "12.5"), discount("2", amount_cents=300)]),
    )
    percentage, amount = rows(
        made[made["kind"] == "discount"], "deployment_id", "qty", "unit", "unit_price_cents", "price_per", "meta"
    )
    assert percentage == (
        *("id-web", Decimal(1), None, Decimal("-613"), Decimal(1)),
        '{"of": "plan_base", "percent": "12.5", "discount": "1"}',
    )
    assert amount == (
        *("id-web", Decimal(1), None, Decimal("-300"), Decimal(1)),
        '{"of": "plan_base", "discount": "2", "amount_cents": 300}',
    )


def test_gst_is_on_what_is_left() -> None:
    """49.00 less 29.40 is 19.60: GST 1.96."""
    made = invoice.tenant_lines(
        ONE.quote().lines,
        invoice.Carried(),
        tenants("pilot"),
        APRIL,
        frame(DISCOUNTS, [discount(percent="60")]),
    )
    assert rows(invoice.totals(made, tenants("pilot"), APRIL), "subtotal_cents", "tax_cents", "charges_cents") == [
        (1960, 196, 1960)
    ]


def test_a_discount_is_of_its_tenant_alone() -> None:
    month = Inputs([subscription("a", "one"), subscription("b", "two")])
    assert lines(month, discount(percent="10", tenant="two"), to=["one", "two"])[1:] == [
        ("Plan: studio", None, 5000),
        ("Discount: offer 1", None, -500),
    ]


def test_who_has_fewer_discounts_than_another_tenant_has_those() -> None:
    """Of 50.00 each: 10 % of one; of two 10 %, and then 20 % of what is left; three has none."""
    month = Inputs([subscription(name, of) for name, of in (("a", "one"), ("b", "two"), ("c", "three"))])
    of_one, of_two = (
        discount("1", "10", tenant="one"),
        [discount(n, p, tenant="two") for n, p in (("2", "10"), ("3", "20"))],
    )
    assert lines(month, of_one, *of_two, to=["one", "two", "three"]) == [
        ("Plan: studio", None, 5000),
        ("Discount: offer 1", None, -500),
        ("Plan: studio", None, 5000),
        ("Plan: studio", None, 5000),
        ("Discount: offer 2", None, -500),
        ("Discount: offer 3", None, -900),
    ]


def test_a_discount_that_cannot_be_applied_holds_its_tenant_back() -> None:
    """With the row named; a tenant without a subscription is nobody to hold back."""
    wrong = [
        discount("7", percent=None, wrong="has both, or neither, of percent and amount_cents"),
        discount("8", "1", tenant="nobody", wrong="is there more than once"),
    ]
    quoted = ONE.quote(discounts=wrong)
    assert quoted.lines.empty
    assert rows(quoted.faults, "tenant_id", "fault", "detail") == [
        (
            "pilot",
            "discount_cannot_be_applied",
            "discount 7 of tenant pilot has both, or neither, of percent and amount_cents: correct it in discounts",
        )
    ]


charges = st.lists(st.integers(0, 10**4) | st.integers(0, 10**9), min_size=1, max_size=8)
percents = st.decimals(0, 100, places=4).map(str)


@LAWS
@given(charges, st.integers(0, 10**10))
def test_shares_sum_to_the_amount_and_each_is_within_a_cent_of_its_proportion(charges: list[int], amount: int) -> None:
    month = web(*charges)
    shares = dict.fromkeys("abcdefgh"[: len(charges)], 0)
    made = invoice.tenant_lines(
        month.quote().lines,
        invoice.Carried(),
        tenants("pilot"),
        APRIL,
        frame(DISCOUNTS, [discount(amount_cents=amount)]),
    )
    for name, cents in rows(made[made["kind"] == "discount"], "deployment_name", "amount_cents"):
        shares[name] = -cents
    taken = min(amount, sum(charges))
    assert sum(shares.values()) == taken
    for charge, share in zip(charges, shares.values(), strict=True):
        assert 0 <= share <= charge
        assert abs(share * sum(charges) - taken * charge) < max(sum(charges), 1)


@LAWS
@given(charges, st.lists(percents | st.integers(0, 10**9), max_size=5), st.randoms(use_true_random=False))
def test_nothing_goes_below_0_whatever_order_the_rows_come_in(
    charges: list[int], offers: list[str | int], chance: random.Random
) -> None:
    month = web(*charges)
    discounts = [
        discount(str(place), offer if isinstance(offer, str) else None, offer if isinstance(offer, int) else None)
        for place, offer in enumerate(offers)
    ]
    found = lines(month, *discounts)
    assert 0 <= sum(cents for _, _, cents in found) <= sum(charges)
    chance.shuffle(discounts)
    shuffled = Inputs(chance.sample(list(month.subscriptions), len(charges)))
    assert lines(shuffled, *discounts) == found
