"""Rates of exchange out of the Reserve Bank's CSV."""

import datetime as dt
from decimal import Decimal

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import exchange
from arcadia_pipelines.costs.exchange import InvalidRates, Missing, parse_rate, read_csv

DAILY = """F11.1  EXCHANGE RATES ,,,
Title,A$1=USD,Trade-weighted Index May 1970 = 100,A$1=CNY
Description,AUD/USD Exchange Rate; see notes for further detail.,Australian Dollar Trade-weighted Index,AUD/CNY
Frequency,Daily,Daily,Daily
Type,Indicative,Indicative,Indicative
Units,USD,Index,CNY

Source,WM/Reuters,RBA,RBA
Publication date,01-Jun-2026,01-Jun-2026,01-Jun-2026
Series ID,FXRUSD,FXRTWI,FXRCRUSD
29-Apr-2026,0.6600,61.2,4.71
30-Apr-2026,0.6612,61.3,4.72
01-May-2026,0.6620,61.3,4.72
29-May-2026,0.6571,61.0,4.70
31-May-2026,,61.0,4.70
"""


def rates(text: str) -> list[tuple[str, Decimal, dt.date | None]]:
    return [(str(rate.month), rate.usd_per_aud, rate.published_on) for rate in read_csv(text.encode()).rates]


def test_a_months_rate_is_its_last_that_was_published() -> None:
    """30 April, and 29 May: the 31st was a Sunday."""
    assert rates(DAILY) == [
        ("2026-04", Decimal("0.6612"), dt.date(2026, 4, 30)),
        ("2026-05", Decimal("0.6571"), dt.date(2026, 5, 29)),
    ]


def test_whatever_order_and_column_it_is_in() -> None:
    """Newest first, another series before it, other spellings of a date."""
    text = "Series ID,FXRTWI,FXRUSD\n2026-04-30,61.3,0.6612\n29/04/2026,61.2,0.66\n"
    assert rates(text) == [("2026-04", Decimal("0.6612"), dt.date(2026, 4, 30))]


LATER = """Title,Trade-weighted Index,A$1=CNY,A$1=USD
Units,Index,CNY,USD
Series ID,FXRTWI,FXRCR,FXRUSD
29-Jun-2026,61.5,4.7,0.6590
30-Jun-2026,61.4,4.7,0.6598
"""


@pytest.mark.parametrize(
    "second",
    [
        LATER,
        LATER.replace("Series ID,FXRTWI,FXRCR,FXRUSD\n", ""),
        LATER.replace("Title,Trade-weighted Index,A$1=CNY,A$1=USD\nUnits,Index,CNY,USD\n", "\n,,,\n"),
        LATER.replace("Series ID", "date").replace("Title,Trade", "Name,Trade"),
        "Note,see the website\n" + LATER,
    ],
)
def test_a_file_that_was_put_together_has_its_columns_found_anew(second: str) -> None:
    """In the second part the dollar is last, where the first has nothing, and second comes the index."""
    assert rates(DAILY + second)[2:] == [("2026-06", Decimal("0.6598"), dt.date(2026, 6, 30))]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("A$1=USD", "US$1=A$", "row 2: Title of FXRUSD is 'US$1=A$'"),
        ("Units,USD", "Units,AUD", "row 6: Units of FXRUSD is 'AUD'"),
        ("Units,USD", "Unit,US cents", "row 6: Unit of FXRUSD is 'US cents'"),
        ("A$1=USD", "A$1=NZD", "row 2: Title of FXRUSD is 'A$1=NZD'"),
        ("FXRTWI", "FXRUSD", "more than one column FXRUSD"),
        ("29-May-2026,", "29-May-26,", "row 14: '29-May-26' beside '0.6571' is not a date"),
        ("29-May-2026,", "29 May 2026,", "row 14: '29 May 2026' beside '0.6571' is not a date"),
        ("29-May-2026,", "2026-05-29 00:00:00,", "row 14: '2026-05-29 00:00:00' beside '0.6571' is not a date"),
        ("29-May-2026,", ",", "row 14: '' beside '0.6571' is not a date"),
        ("29-May-2026,", "31-Apr-2026,", "row 14: '31-Apr-2026' beside '0.6571' is not a date"),
        ("29-May-2026,", "29-Mai-2026,", "row 14: '29-Mai-2026' beside '0.6571' is not a date"),
        ("29-May-2026,", "31-Dec-9999,", "row 14: '31-Dec-9999' beside '0.6571' is not a date"),
        ("29-May-2026,0.6571", "29-May-26,0.6571*", "row 14: '29-May-26' beside '0.6571*' is not a date"),
        ("29-May-2026,0.6571", "Average,0.6571", "row 14: 'Average' beside '0.6571' is not a date"),
        ("01-May-2026,0.6620", "30-Apr-2026,0.6613", "row 13: 30-Apr-2026 is there twice, with 0.6612 in row 12"),
        ("0.6620", '"0,6620"', "row 13: '0,6620' is not a rate"),
        ("0.6620", "-0.6620", "row 13: '-0.6620' is not a rate"),
        ("01-May-2026", "Series ID,FXRTWI,FXRCR\n01-May-2026", "row 14: no row above it names the series FXRUSD"),
    ],
)
def test_a_file_that_can_be_read_wrongly_is_refused_with_the_row(before: str, after: str, message: str) -> None:
    """Other money, another direction, a rate whose day is not known."""
    with pytest.raises(InvalidRates) as refused:
        read_csv(DAILY.replace(before, after).encode())
    assert message in str(refused.value)


def dated(*days: str) -> str:
    return "Series ID,FXRUSD\n" + "".join(f"{day},0.66{number:02d}\n" for number, day in enumerate(days))


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (("1/1/2026", "1/12/2026", "1/15/2026"), "row 4: '1/15/2026' beside '0.6602' is not a date"),
        (("1/1/2026", "1/2/2026", "1/5/2026"), "row 3: 1/2/2026 could have its month first"),
        (("4/30/2026",), "row 2: '4/30/2026' beside '0.6600' is not a date"),
        (("04/05/2026",), "row 2: 04/05/2026 could have its month first"),
        (("2/4/2026", "2/5/2026", "13/02/2026"), "row 4: 13/02/2026 is out of order"),
        (("2026-04-01", "2026-12-04", "13/04/2026"), "row 4: 13/04/2026 is out of order"),
    ],
)
def test_dates_whose_month_may_come_first_are_refused(days: tuple[str, ...], message: str) -> None:
    """Read day first they would fill other months."""
    with pytest.raises(InvalidRates) as refused:
        read_csv(dated(*days).encode())
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("days", "last"),
    [
        (("01/04/2026", "12/04/2026", "30/04/2026"), "2026-04-30"),
        (("30/04/2026", "29-Apr-2026", "01/04/2026"), "2026-04-30"),
        (("1/1/2026", "2/2/2026"), "2026-02-02"),
        (("2026-04-30", "2026-04-01", "2026-04-29"), "2026-04-30"),
    ],
)
def test_dates_that_are_read_one_way_only_are_taken(days: tuple[str, ...], last: str) -> None:
    """Day first, newest first, the same either way; spelled out, in whatever order."""
    assert str(rates(dated(*days))[-1][2]) == last


@pytest.mark.parametrize("cell", ["n.a.", "CLOSED", "0.6571*", "-", ""])
def test_a_cell_that_is_not_a_number_is_a_missing_day(cell: str) -> None:
    """The 29th, a Friday, has none: May's rate is of the 1st, and not its last; that 31 May is empty is a Sunday's."""
    found = read_csv(DAILY.replace("0.6571", cell).encode())
    assert [(rate.usd_per_aud, rate.is_final) for rate in found.rates] == [
        (Decimal("0.6612"), True),
        (Decimal("0.6620"), False),
    ]
    assert found.missing == [Missing(dt.date(2026, 5, 29), cell)]


@pytest.mark.parametrize(
    ("days", "is_final"),
    [
        ("28-Apr-2026 29-Apr-2026", False),
        ("29-Apr-2026 30-Apr-2026*", True),
        ("24-Apr-2026 30-Apr-2026*", False),
        ("30-Apr-2026", True),
        ("29-May-2026", True),
        ("28-May-2026", False),
        ("28-Mar-2024", False),
        ("28-Mar-2024 02-Apr-2024", True),
        ("12-Jun-2026 29-Jul-2026", False),
        ("31-May-2026", True),
    ],
)
def test_a_months_rate_is_final_if_the_file_goes_on_to_its_last_weekday(days: str, is_final: bool) -> None:
    """Or to the day after a holiday: Good Friday 2024 was 29 March. `*`: a day that is there without a number."""
    text = "".join(f"{day.strip('*')},{'n.a.' if '*' in day else '0.66'}\n" for day in days.split())
    assert read_csv(f"Series ID,FXRUSD\n{text}".encode()).rates[0].is_final is is_final


@pytest.mark.parametrize(
    ("rate", "before", "doubt"),
    [
        ("0.3", None, None),
        ("1.5", None, None),
        ("0.299999", None, "0.299999 is not between 0.3 and 1.5"),
        ("66.120000", "0.66", "66.12 is not between 0.3 and 1.5"),
        ("0.8", "0.64", None),
        ("0.48", "0.64", None),
        ("0.800001", "0.64", "0.800001 is more than 25 % from 0.64, the rate of 2026-02"),
        ("0.479999", "0.64", "0.479999 is more than 25 % from 0.64, the rate of 2026-02"),
    ],
)
def test_a_rate_is_held_against_what_can_be_and_the_month_before(rate: str, before: str, doubt: str | None) -> None:
    """A quarter of 0.64 is 0.16; March has no rate, so April's is held against February's, and not against June's."""
    february, april, june = (BillingMonth.parse(f"2026-{number}") for number in ("02", "04", "06"))
    known = {april: Decimal(rate), june: Decimal("1.1")} | ({february: Decimal(before)} if before else {})
    assert exchange.doubt(april, known) == doubt


def test_a_table_of_months_is_read_too() -> None:
    """Two columns, and no more."""
    assert rates("month,usd_per_aud\n2026-05,0.6571\n\n2026-04,0.6612\n") == [
        ("2026-04", Decimal("0.6612"), None),
        ("2026-05", Decimal("0.6571"), None),
    ]


def test_what_a_spreadsheet_saved_is_read() -> None:
    """A byte order mark, and bytes that are no UTF-8."""
    assert len(read_csv(b"\xef\xbb\xbf" + DAILY.encode()).rates) == 2
    assert len(read_csv(DAILY.replace("notes", "n\xf6tes").encode("cp1252")).rates) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no series FXRUSD"),
        ("Series ID,FXRCNY\n30-Apr-2026,4.7\n", "no series FXRUSD"),
        ("Series ID,FXRUSD\n", "has no rates"),
        ("Series ID,FXRUSD\n30-Apr-2026,about 0.66\n", "row 2: 'about 0.66' is not a rate"),
        ("month,usd_per_aud\n2026-13,0.66\n", "row 2: '2026-13' is not a month"),
        ("month,usd_per_aud\n2026-04,0.66\n2026-04,0.67\n", "row 3: 2026-04 is there twice"),
        ("month,usd_per_aud\n2026-04\n", "row 2: '' is not a rate"),
        ('month,usd_per_aud\n"2026-04', "not a CSV"),
    ],
)
def test_what_is_none_is_refused_with_its_row(text: str, message: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidRates) as refused:
        read_csv(text.encode())
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["0", "0.0", "-0.66", "0.1234567", "1e-1", "NaN", "", "0,66", "\u0660.\u0666"])
def test_a_rate_is_above_nothing_and_has_six_decimals(text: str) -> None:
    """Never a margin by a rate of 0."""
    with pytest.raises(InvalidRates):
        parse_rate(text)
