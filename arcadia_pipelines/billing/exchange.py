"""Rates of exchange as the Reserve Bank of Australia publishes them: a CSV of table F11, daily or monthly.

https://www.rba.gov.au/statistics/tables/ (exchange rates): some rows that describe the columns, among them Series ID,
then a row per date. The column is FXRUSD, "A$1=USD". A CSV with the columns month and usd_per_aud is read too.
"""

import csv
import datetime as dt
import io
import re
from dataclasses import dataclass
from decimal import Decimal

from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth

SERIES = "FXRUSD"
_TITLE = "A$1=USD"
_RATE = r"\d{1,2}(\.\d{1,6})?"
_LOWEST = Decimal("0.01")
_DATES = ("%d-%b-%Y", "%Y-%m-%d", "%d/%m/%Y")


class InvalidRates(ValueError):
    """It cannot be read as rates of exchange; the message says where."""


@dataclass(frozen=True)
class Rate:
    """What an Australian dollar was worth in US dollars in a month: the last rate that was published of it."""

    month: BillingMonth
    usd_per_aud: Decimal
    published_on: dt.date | None


def parse_rate(text: str) -> Decimal:
    """US dollars for an Australian one, from 0.01 to below 100, to 6 decimals. Raises InvalidRates."""
    if not re.fullmatch(_RATE, text, re.ASCII) or Decimal(text) < _LOWEST:
        raise InvalidRates(f"{text!r} is not a rate: write US dollars for one Australian dollar, like 0.6543")
    return Decimal(text)


def read_csv(document: bytes) -> list[Rate]:
    """Each month's rate, oldest first. Raises InvalidRates."""
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = document.decode("cp1252", errors="replace")  # as spreadsheets save it
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    except csv.Error as error:
        raise InvalidRates(f"it is not a CSV: {error}") from error
    if rows and [name.lower() for name in rows[0][:2]] == ["month", "usd_per_aud"]:
        return _by_month(rows[1:])
    column = next((row.index(name) for name in (SERIES, _TITLE) for row in rows if name in row), None)
    if column is None:
        raise InvalidRates(f"it has no series {SERIES} ({_TITLE}): give it the Reserve Bank's table F11 as a CSV")
    newest: dict[BillingMonth, Rate] = {}
    for number, row in enumerate(rows, 1):
        day = _date(row[0]) if row else None
        if day is None or len(row) <= column or not row[column]:
            continue
        month = BillingMonth(day.replace(day=1))
        if month not in newest or day > (newest[month].published_on or day):
            newest[month] = Rate(month, _in_row(row[column], number), day)
    if not newest:
        raise InvalidRates(f"its series {SERIES} has no rates")
    return [newest[month] for month in sorted(newest)]


def _by_month(rows: list[list[str]]) -> list[Rate]:
    found = {}
    for number, row in enumerate(rows, 2):
        if not any(row):
            continue
        try:
            month = BillingMonth.parse(row[0])
        except InvalidMonth as error:
            raise InvalidRates(f"row {number}: {error}") from error
        if month in found:
            raise InvalidRates(f"row {number}: {month} is there twice")
        found[month] = Rate(month, _in_row(row[1] if len(row) > 1 else "", number), None)
    return [found[month] for month in sorted(found)]


def _in_row(text: str, number: int) -> Decimal:
    try:
        return parse_rate(text)
    except InvalidRates as error:
        raise InvalidRates(f"row {number}: {error}") from error


def _date(text: str) -> dt.date | None:
    for spelling in _DATES:
        try:
            return dt.datetime.strptime(text, spelling).date()  # noqa: DTZ007  a date has no zone
        except ValueError:
            continue
    return None
