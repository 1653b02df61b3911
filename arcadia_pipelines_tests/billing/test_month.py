"""The billing month: what its name may look like, and where it ends."""

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines_tests.billing.columns import LAWS


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("2026-04", dt.date(2026, 4, 1), id="year and month"),
        pytest.param("2026-04-01", dt.date(2026, 4, 1), id="partition key"),
        pytest.param(" 2026-04", dt.date(2026, 4, 1), id="space before"),
        pytest.param("2026-04-01\n", dt.date(2026, 4, 1), id="newline after"),
        pytest.param("2026-01", dt.date(2026, 1, 1), id="January"),
        pytest.param("2026-12", dt.date(2026, 12, 1), id="December"),
        pytest.param("1900-01", dt.date(1900, 1, 1), id="first year"),
        pytest.param("9998-12", dt.date(9998, 12, 1), id="last year"),
    ],
)
def test_a_month_is_named_by_its_year_and_month_or_its_first_day(text: str, start: dt.date) -> None:
    """2026-04 and 2026-04-01 are both April 2026, which starts on 1 April."""
    assert BillingMonth.parse(text) == BillingMonth(start)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "2026",
        "2026-00",
        "2026-13",
        "2026-99",
        "2026-4",
        "26-04",
        "02026-04",
        "2026-04-02",
        "2026-04-1",
        "2026-04-01T00:00",
        "2026-04-01-01",
        "2026- 04",
        "2026/04",
        "202604",
        "-2026-04",
        "2026-04 UTC",
        "April 2026",
        "1899-12",
        "9999-01",
        "0000-01",
        "\uff12\uff10\uff12\uff16-04",
        "2026-\u0660\u0664",
    ],
)
def test_text_that_names_no_month_is_refused_and_the_message_shows_how(text: str) -> None:
    """There is no 13th month, no billing month that starts on the 2nd, and digits are ASCII digits."""
    with pytest.raises(InvalidMonth) as refused:
        BillingMonth.parse(text)
    assert str(refused.value) == f"{text!r} is not a month: write it like 2026-04"
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("month", "end", "hours"),
    [
        ("2026-01", dt.date(2026, 2, 1), 744),
        ("2026-04", dt.date(2026, 5, 1), 720),
        ("2026-11", dt.date(2026, 12, 1), 720),
        ("2026-12", dt.date(2027, 1, 1), 744),
        ("2024-02", dt.date(2024, 3, 1), 696),
        ("2026-02", dt.date(2026, 3, 1), 672),
        ("2000-02", dt.date(2000, 3, 1), 696),
        ("2100-02", dt.date(2100, 3, 1), 672),
        ("9998-12", dt.date(9999, 1, 1), 744),
    ],
)
def test_a_month_ends_where_the_next_one_starts(month: str, end: dt.date, hours: int) -> None:
    """31 x 24 = 744, 30 x 24 = 720, 29 x 24 = 696 in a leap February, 28 x 24 = 672 in any other."""
    period = BillingMonth.parse(month)
    assert period.end == end
    assert (period.end - period.start).days * 24 == hours


def test_a_month_has_a_partition_key_and_a_short_name() -> None:
    """April 2026 is the partition 2026-04-01, and people read 2026-04."""
    april = BillingMonth(dt.date(2026, 4, 1))
    assert (april.key, str(april)) == ("2026-04-01", "2026-04")
    assert BillingMonth.parse(april.key) == BillingMonth.parse(str(april)) == april


def test_months_sort_by_time() -> None:
    """December 2025 is before January 2026, which is before February."""
    december, january, february = (BillingMonth.parse(text) for text in ("2025-12", "2026-01", "2026-02"))
    assert sorted([february, december, january]) == [december, january, february]


def test_a_month_is_a_value() -> None:
    """April named in two ways is one key of a dictionary, with May beside it, and April cannot become another month."""
    april, may = BillingMonth.parse("2026-04"), BillingMonth.parse("2026-05")
    assert len({april, BillingMonth.parse("2026-04-01"), may}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        april.start = may.start  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "months"),
    [
        ("2026-04", ["2026-04-01"]),
        ("2026-04..2026-04", ["2026-04-01"]),
        ("2025-11..2026-02", ["2025-11-01", "2025-12-01", "2026-01-01", "2026-02-01"]),
    ],
)
def test_a_range_has_its_first_month_and_its_last(text: str, months: list[str]) -> None:
    assert [month.key for month in BillingMonth.parse_range(text)] == months


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-04..2026-03", "^2026-04..2026-03 ends before it begins$"),
        ("2026-04..2026-13", "'2026-13' is not a month"),
        ("..2026-04", "'' is not a month"),
        ("2026-01..2026-02..2026-03", "is not a month"),
    ],
)
def test_what_is_no_range_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidMonth, match=why):
        BillingMonth.parse_range(text)


@LAWS
@given(st.dates(dt.date(1900, 1, 1), dt.date(9998, 12, 31)))
def test_every_day_is_in_exactly_one_month(day: dt.date) -> None:
    """From its month's start to before its end, and the month that the day's year and month name is that one."""
    month = BillingMonth.parse(f"{day:%Y-%m}".rjust(7, "0"))
    assert month.start <= day < month.end
    assert BillingMonth(month.end).start == month.end
    assert BillingMonth.parse(month.key) == month
