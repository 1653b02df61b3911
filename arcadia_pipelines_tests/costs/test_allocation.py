"""Splitting a bill: largest remainders, in US cents and in Australian ones."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing.money import Row, frame
from arcadia_pipelines.costs.allocation import CLAIMS, Allocated, allocate

RATE = Decimal("0.66")


def claim(line: int, cents: int, deployment: str | None, weight: int = 1, split_by: str | None = None) -> Row:
    """A claim on an item."""
    by = "resource" if deployment else "nobody"
    return (line, cents, deployment, deployment and "tenant", by, split_by, Decimal(weight))


def split(*claims: Row, rate: Decimal | None = None) -> Allocated:
    return allocate(frame(CLAIMS, list(claims)), rate)


def usd(found: Allocated) -> list[tuple[int, str | None, int]]:
    """Item, deployment and US cents, in order; nobody is None."""
    rows = found.rows.astype(object).where(found.rows.notna(), None)
    return list(zip(rows["line_no"], rows["deployment_id"], rows["usd_cents"], strict=True))


def test_an_item_of_one_owner_is_its_whole() -> None:
    """12.86 to a."""
    assert usd(split(claim(1, 1286, "a"))) == [(1, "a", 1286)]


def test_what_is_left_of_a_third_goes_to_the_first_of_equal_remainders() -> None:
    """1.00 by three is 33 1/3 each: 34, 33, 33."""
    assert usd(split(*(claim(1, 100, name) for name in "cab"))) == [(1, "a", 34), (1, "b", 33), (1, "c", 33)]


def test_the_largest_remainder_gets_the_cent_whoever_comes_first() -> None:
    """10 cents by 1 and 2 are 3 1/3 and 6 2/3: 3 and 7."""
    assert usd(split(claim(1, 10, "a", 1), claim(1, 10, "b", 2))) == [(1, "a", 3), (1, "b", 7)]


def test_a_credit_is_split_like_a_charge() -> None:
    """-1.00 by three: -33 1/3 each is rounded down to -34, and the two cents left go to the first two."""
    assert [cents for _, _, cents in usd(split(*(claim(1, -100, name) for name in "abc")))] == [-33, -33, -34]


def test_nobodys_part_is_kept_and_comes_last() -> None:
    """Half of the month nobody's: 5.00 and 5.00."""
    assert usd(split(claim(1, 1000, None, 15), claim(1, 1000, "a", 15))) == [(1, "a", 500), (1, None, 500)]


def test_in_aud_the_rows_sum_to_the_bill_and_the_difference_is_recorded() -> None:
    """3 x 1.00 USD at 0.66 are 1.5151.. AUD each, 1.52 rounded; the bill of 4.5454.. is 4.55: 1.52, 1.52, 1.51."""
    found = split(*(claim(line, 100, "a") for line in (1, 2, 3)), rate=RATE)
    assert list(found.rows["aud_cents"]) == [152, 152, 151]
    assert (found.usd_cents, found.aud_cents, found.rounding_cents) == (300, 455, -1)


def test_the_bill_is_rounded_half_up_and_away_from_zero() -> None:
    """0.01 USD at 0.4 is 2.5 cents: 3; a credit of it is -3."""
    assert split(claim(1, 1, "a"), rate=Decimal("0.4")).aud_cents == 3
    assert split(claim(1, -1, "a"), rate=Decimal("0.4")).aud_cents == -3


def test_without_a_rate_there_is_no_amount_in_aud() -> None:
    """Never at 1.0."""
    found = split(claim(1, 100, "a"))
    assert found.rows["aud_cents"].isna().all()
    assert (found.aud_cents, found.rounding_cents) == (None, None)


def test_a_bill_without_items_comes_to_nothing() -> None:
    """No rows, 0."""
    found = split(rate=RATE)
    assert (len(found.rows), found.usd_cents, found.aud_cents, found.rounding_cents) == (0, 0, 0, 0)


def test_weights_past_64_bits_are_exact() -> None:
    """A month of microseconds by a share of a million, twice over: 1 to 2 of 3.00."""
    month = 2_592_000_000_000
    weight = month * 10**6 * month
    assert [cents for _, _, cents in usd(split(claim(1, 300, "a", weight), claim(1, 300, "b", 2 * weight)))] == [
        100,
        200,
    ]


@given(
    items=st.lists(
        st.tuples(
            st.integers(-(10**11), 10**11),
            st.lists(st.integers(1, 10**30), min_size=1, max_size=5),
        ),
        max_size=6,
    ),
    rate=st.decimals("0.000001", "99999", places=6),
    shuffle=st.randoms(use_true_random=False),
)
def test_parts_sum_to_their_item_and_rows_to_the_bill_in_any_order(
    items: list[tuple[int, list[int]]], rate: Decimal, shuffle: random.Random
) -> None:
    """The law of largest remainders: sums are exact, and nobody is a whole cent away from its fraction."""
    claims = [
        claim(line, cents, f"d{number}", weight)
        for line, (cents, weights) in enumerate(items, 1)
        for number, weight in enumerate(weights)
    ]
    found = split(*claims, rate=rate)
    rows = found.rows
    for line, (cents, weights) in enumerate(items, 1):
        parts = list(rows[rows["line_no"] == line]["usd_cents"])
        assert sum(parts) == cents
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - Fraction(cents * weight, sum(weights))) < 1
    total = sum(cents for cents, _ in items)
    assert found.usd_cents == total
    assert abs((found.aud_cents or 0) - Fraction(total) / Fraction(rate)) <= Fraction(1, 2)
    assert sum(rows["aud_cents"]) == found.aud_cents
    for part, aud in zip(rows["usd_cents"], rows["aud_cents"], strict=True):
        assert abs(aud - Fraction(part) / Fraction(rate)) < 1 + Fraction(1, 2)
    shuffle.shuffle(claims)
    assert split(*claims, rate=rate).rows.equals(rows)


@pytest.mark.parametrize("rate", ["0.6543", "1.0", "99999.999999"])
def test_a_rate_is_exact_to_its_last_digit(rate: str) -> None:
    """As many dollars as the rate says are one AUD."""
    cents = int(Decimal(rate) * 10**6 * 100)
    assert split(claim(1, cents, "a"), rate=Decimal(rate)).aud_cents == 10**8
