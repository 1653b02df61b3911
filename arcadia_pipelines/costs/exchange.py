"""Rates of exchange as the Reserve Bank of Australia publishes them: a CSV of table F11, daily or monthly.

https://www.rba.gov.au/statistics/tables/ (exchange rates): some rows that describe the columns, among them Title, Units
and Series ID, then a row per date. The column is FXRUSD, "A$1=USD", in USD. Where more such rows follow, as in files
that were put together, the column is found anew. A CSV with the columns month and usd_per_aud is read too.

Belongs here: reading rates, and what makes one doubtful. Does not: entering them (fx_rates.py), converting a bill from
USD to AUD (allocation.py).
"""

import csv
import datetime as dt
import io
import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.errors import InvalidInput

SERIES = "FXRUSD"
_TITLE = "A$1=USD"
_TITLES = (_TITLE, "A$1=US$", "AUD1=USD", "1AUD=USD", "AUD/USD")  # without spaces
_UNITS = ("USD", "US$")
_RATE = r"\d{1,2}(\.\d{1,6}0*)?"
_NUMBER = r"[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?"
_LOWEST = Decimal("0.01")
_LEAST, _MOST = Decimal("0.3"), Decimal("1.5")
"""The range in which a rate needs no reason: since the Australian dollar floats it was worth 0.48 to 1.10."""
_NAMED = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_Rows = list[tuple[int, list[str]]]
"""Rows of the file with their numbers."""
_SATURDAY = 6
_GAP = dt.timedelta(days=5)
"""The longest time without a rate: over Easter, from Thursday to Tuesday."""


class InvalidRates(InvalidInput):
    """The text cannot be read as rates of exchange; the message says where."""


@dataclass(frozen=True)
class Rate:
    """A month's rate, in US dollars for an Australian one: the last that was published in the month."""

    month: BillingMonth
    usd_per_aud: Decimal
    published_on: dt.date | None
    is_final: bool = True
    """False where the file ends before the month does."""


@dataclass(frozen=True)
class Missing:
    """A day of the file whose rate is not a number."""

    day: dt.date
    text: str


@dataclass(frozen=True)
class Table:
    """What a file holds."""

    rates: list[Rate]
    """Each month's, oldest first."""
    missing: list[Missing]
    """The days without a number, in order, except weekends that are empty."""


@dataclass(frozen=True)
class _Day:
    row: int
    spelled: str
    day: dt.date
    text: str
    rate: Decimal | None


def parse_rate(text: str) -> Decimal:
    """US dollars for an Australian one, from 0.01 to below 100, to 6 decimals. Raises InvalidRates."""
    if not re.fullmatch(_RATE, text, re.ASCII) or Decimal(text) < _LOWEST:
        raise InvalidRates(f"{text!r} is not a rate: write US dollars for one Australian dollar, like 0.6543")
    return Decimal(text)


def doubt(
    month: BillingMonth, known: Mapping[BillingMonth, Decimal], later: Collection[BillingMonth] = ()
) -> str | None:
    """What looks wrong with a month's rate beside the last known one of an earlier month; None if nothing does.

    Without an earlier one it is compared with the first of `later`. The view rate_doubts says the same of stored ones.
    """
    rate = known[month]
    if not _LEAST <= rate <= _MOST:
        return f"{_plain(rate)} is not between {_LEAST} and {_MOST}"
    near = max((other for other in known if other < month), default=min(later, default=None))
    if near is None or abs(rate - known[near]) * 4 <= known[near]:
        return None
    return f"{_plain(rate)} is more than 25 % from {_plain(known[near])}, the rate of {near}"


def _plain(rate: Decimal) -> str:
    return f"{rate.normalize():f}"


def read_csv(document: bytes) -> Table:
    """The months' rates. Raises InvalidRates."""
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = document.decode("cp1252", errors="replace")  # as spreadsheets save it
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    except csv.Error as error:
        raise InvalidRates(f"it is not a CSV: {error}") from error
    if rows and [name.lower() for name in rows[0][:2]] == ["month", "usd_per_aud"]:
        return Table(_by_month(rows[1:]), [])
    if not any(SERIES in row or any(map(_is_title, row)) for row in rows):
        raise InvalidRates(f"it has no series {SERIES} ({_TITLE}): give it the Reserve Bank's table F11 as a CSV")
    return _table([day for headers, data in _blocks(rows) for day in _days(_column(headers, data), data)])


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


def _blocks(rows: list[list[str]]) -> Iterator[tuple[_Rows, _Rows]]:
    """The parts of the file that have rows of data: the rows above them that describe the columns, and those rows."""
    headers: _Rows = []
    data: _Rows = []
    for number, row in enumerate(rows, 1):
        if _is_header(row):
            if data:
                yield headers, data
                headers, data = [], []
            headers.append((number, row))
        elif row and (_date(row[0]) or any(row[1:])):
            data.append((number, row))
    if data:
        yield headers, data


def _is_header(row: list[str]) -> bool:
    """Whether it describes the columns: a word, and no numbers beside it."""
    if SERIES in row or any(map(_is_title, row)):
        return True
    if not row or not row[0] or re.search(r"\d", row[0]):
        return False
    return any(row[1:]) and not any(re.fullmatch(_NUMBER, cell, re.ASCII) for cell in row[1:])


def _is_title(cell: str) -> bool:
    return cell.replace(" ", "").upper() in _TITLES


def _column(headers: _Rows, data: _Rows) -> int:
    """Where the series is in a part of the file. Raises InvalidRates unless it is US dollars for an Australian one."""
    named = [row for _, row in headers if SERIES in row]
    named = named or [row for _, row in headers if any(map(_is_title, row))]
    if not named:
        raise InvalidRates(
            f"row {data[0][0]}: no row above it names the series {SERIES} ({_TITLE}): give it table F11 alone"
        )
    places = [place for place, cell in enumerate(named[0]) if cell == SERIES or _is_title(cell)]
    if len(places) > 1:
        raise InvalidRates(f"it has more than one column {SERIES}: leave one")
    for number, row in headers:
        cell = row[places[0]] if len(row) > places[0] else ""
        label = row[0].lower()
        wrong_title = label.startswith("title") and not _is_title(cell)
        if cell and (wrong_title or (label.startswith("unit") and cell.upper() not in _UNITS)):
            raise InvalidRates(
                f"row {number}: {row[0]} of {SERIES} is {cell!r}: what is needed is US dollars for one Australian"
                f" dollar, {_TITLE}, in USD"
            )
    return places[0]


def _days(column: int, data: _Rows) -> list[_Day]:
    """The days of a part of the file. Raises InvalidRates if a rate has no date that can be read."""
    days = []
    for number, row in data:
        text = row[column] if len(row) > column else ""
        day = _date(row[0])
        if day is None and re.search(r"\d", text):
            raise InvalidRates(
                f"row {number}: {row[0]!r} beside {text!r} is not a date: write it like 30-Apr-2026, or 30/04/2026"
            )
        if day is not None:
            is_number = re.fullmatch(_NUMBER, text, re.ASCII)
            days.append(_Day(number, row[0], day, text, _in_row(text, number) if is_number else None))
    _refuse_month_first(days)
    return days


def _refuse_month_first(days: list[_Day]) -> None:
    """Raise InvalidRates where dates like 04/05/2026 may have their month first: all could, or they are in no order."""
    slashed = [one for one in days if "/" in one.spelled]
    if not slashed:
        return
    either = [one for one in slashed if one.day.day != one.day.month]
    if either and all(one.day.day <= len(_NAMED) for one in slashed):
        raise InvalidRates(
            f"row {either[0].row}: {either[0].spelled} could have its month first, and so could all dates: write them"
            " like 30-Apr-2026"
        )
    rises = [(after, (after.day > before.day) - (after.day < before.day)) for before, after in itertools.pairwise(days)]
    turned = [one for one, rise in rises if rise and rise != next(first for _, first in rises if first)]
    if turned:
        raise InvalidRates(
            f"row {turned[0].row}: {turned[0].spelled} is out of order with the dates above it: write them all like"
            " 30-Apr-2026"
        )


def _table(days: list[_Day]) -> Table:
    """The last rate of each month. Raises InvalidRates if there are none, or a day has two."""
    known: dict[dt.date, _Day] = {}
    for one in days:
        other = known.setdefault(one.day, one)
        if other.rate is not None and one.rate is not None and other.rate != one.rate:
            raise InvalidRates(
                f"row {one.row}: {one.spelled} is there twice, with {other.text} in row {other.row} and with {one.text}"
            )
        if other.rate is None:
            known[one.day] = one
    in_order = [known[day] for day in sorted(known)]
    newest = {one.day.replace(day=1): (one.day, one.rate) for one in in_order if one.rate is not None}
    missing = [one for one in in_order if one.rate is None and (one.text or one.day.isoweekday() < _SATURDAY)]
    if not newest:
        found = f": row {missing[0].row}: {missing[0].text!r} is not a rate" if missing else ""
        raise InvalidRates(f"its series {SERIES} has no rates{found}")
    told = [one.day for one in in_order if one.text]
    rates = [
        Rate(BillingMonth(first), rate, day, _is_final(BillingMonth(first), day, told))
        for first, (day, rate) in newest.items()
    ]
    return Table(rates, [Missing(one.day, one.text) for one in missing])


def _is_final(month: BillingMonth, day: dt.date, told: list[dt.date]) -> bool:
    """Whether it is the month's last weekday, or the file goes on soon after it, on that weekday or later."""
    last = month.end - dt.timedelta(days=1)
    while last.isoweekday() >= _SATURDAY:
        last -= dt.timedelta(days=1)
    return day >= last or any(last <= later <= day + _GAP for later in told)


def _date(text: str) -> dt.date | None:
    """A date like 30-Apr-2026, 2026-04-30 or 30/04/2026."""
    parts: tuple[str, str, str] | None = None
    if found := re.fullmatch(r"(\d{1,2})-([a-z]{3})-(\d{4})", text.lower(), re.ASCII):
        number = _NAMED.index(found[2]) + 1 if found[2] in _NAMED else 0
        parts = found[3], str(number), found[1]
    elif found := re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text, re.ASCII):
        parts = found[1], found[2], found[3]
    elif found := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", text, re.ASCII):
        parts = found[3], found[2], found[1]
    try:
        return dt.date(*map(int, parts)) if parts and "1900" <= parts[0] <= "9998" else None
    except ValueError:
        return None
