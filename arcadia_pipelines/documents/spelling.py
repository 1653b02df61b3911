"""Numbers, days and names as a document spells them.

Belongs here: how one value is written. Does not: which values a document has (page.py).
"""

import calendar
import datetime as dt
import re
from decimal import Decimal

from arcadia_pipelines.billing.money import dollars, exact_dollars, plain
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents.content import Line

_LONG_WORD = re.compile(r"[^\s-]{32}(?=[^\s-])")


def day(date: dt.date) -> str:
    """A day as people write it: 1 May 2026."""
    return f"{date.day} {calendar.month_name[date.month]} {date.year}"


def spaced_abn(abn: str) -> str:
    """An ABN as the Business Register writes it: 19 642 100 001."""
    digits = re.sub(r"\s", "", abn)
    return f"{digits[:2]} {digits[2:5]} {digits[5:8]} {digits[8:]}" if re.fullmatch(r"[0-9]{11}", digits) else abn


def price(line: Line) -> str:
    """The unit price in dollars, exact; of a part month, what the whole month's days cost: 50.00 for 30 days."""
    dollars_each = minus(exact_dollars(line.unit_price_cents))
    if line.price_per == 1:
        return dollars_each
    return f"{dollars_each} for {plain(line.price_per)} {units(line.unit or '', line.price_per)}".rstrip()


def units(unit: str, of: Decimal) -> str:
    """The unit in the plural, where it has one, unless there is 1 of it."""
    if abs(of) == 1:
        return unit
    if unit.startswith("package of "):
        return f"packages of {unit.removeprefix('package of ')}"
    return f"{unit}s" if re.search(r"(hour|day|month|request|address|seat|user|call)$", unit) else unit


def month_of(month: BillingMonth) -> str:
    """A month as people write it: April 2026."""
    return f"{calendar.month_name[month.start.month]} {month.start.year}"


def amount(cents: int) -> str:
    """Cents in dollars: 1,234.56."""
    return minus(dollars(cents))


def minus(number: str) -> str:
    """The number with a minus sign where it has a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


def one_line(text: str) -> str:
    """A name or a description in one line, whose longest words may break: a long one at its hyphens already does."""
    return _LONG_WORD.sub("\\g<0>\N{ZERO WIDTH SPACE}", " ".join(text.split()))
