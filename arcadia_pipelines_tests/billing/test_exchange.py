"""Rates of exchange out of the Reserve Bank's CSV."""

import datetime as dt
from decimal import Decimal

import pytest

from arcadia_pipelines.billing.exchange import InvalidRates, parse_rate, read_csv

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
    return [(str(rate.month), rate.usd_per_aud, rate.published_on) for rate in read_csv(text.encode())]


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


def test_a_table_of_months_is_read_too() -> None:
    """Two columns, and no more."""
    assert rates("month,usd_per_aud\n2026-05,0.6571\n\n2026-04,0.6612\n") == [
        ("2026-04", Decimal("0.6612"), None),
        ("2026-05", Decimal("0.6571"), None),
    ]


def test_what_a_spreadsheet_saved_is_read() -> None:
    """A byte order mark, and bytes that are no UTF-8."""
    assert len(read_csv(b"\xef\xbb\xbf" + DAILY.encode())) == 2
    assert len(read_csv(DAILY.replace("notes", "n\xf6tes").encode("cp1252"))) == 2


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
