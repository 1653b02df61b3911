"""Cells and lines of CSV: what people open in a spreadsheet, and what other programs read.

Belongs here: writing text, money and instants so that a spreadsheet reads them as such. Does not: which columns and
rows there are.

Text is the danger. Somebody calls a tenant `Reef Labs;=1+2`, and a spreadsheet that splits at semicolons, or at tabs,
has one cell too many in the row, which runs as a formula. So every text is quoted, and a formula in it begins with an
apostrophe, wherever a cell could begin: some programs split what is quoted, too. Numbers and instants are not quoted.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

Cell = str | int | Decimal | dt.datetime | None

MARK = "\ufeff"  # begins a sheet: it tells Excel that this is UTF-8
_SPLITS = r"[;,|\u0009-\u000d\u001c-\u001e\u0085\u2028\u2029]"  # what a program may split a row or a file at
_UNSEEN = r'["\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]'
_FORMULA = r"[-=+@\uff0b\uff0d\uff1d\uff20]"  # its first character; spreadsheets take the wide ones too

BEFORE_FORMULA = rf"({_SPLITS})(?={_UNSEEN}*{_FORMULA})|(;)(?=[\u0009\u000a\u000d])"
"""What comes before a formula, in a text that a semicolon was put in front of; re and PostgreSQL read it alike.

The semicolon marks the text's own beginning, where a tab or a line break counts as a formula, too.
"""
WITH_APOSTROPHE = r"\1\2'"
"""What replaces it: the same, and an apostrophe."""

_BEFORE_FORMULA = re.compile(BEFORE_FORMULA)


def lines(columns: Sequence[str], rows: Iterable[Mapping[str, Cell]]) -> str:
    """The rows as CSV, without a header: these columns of each; a column that a row lacks is empty."""
    return "".join(",".join(_cell(row.get(name)) for name in columns) + "\r\n" for row in rows)


def header(columns: Sequence[str]) -> str:
    """The beginning of a sheet. Columns have names of ours, plain words that need no quotes."""
    return f"{MARK}{','.join(columns)}\r\n"


def instant(value: str | None) -> dt.datetime | None:
    """UTC without a zone, to the second, which is the only form that spreadsheets read."""
    return dt.datetime.fromisoformat(value[:19]) if value else None


def dollars(cents: int | None) -> Decimal | None:
    """Cents as a spreadsheet reads them: 1234567 is 12345.67."""
    return None if cents is None else Decimal(cents).scaleb(-2)


def _cell(value: Cell) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    harmless = _BEFORE_FORMULA.sub(WITH_APOSTROPHE, f";{value}")[1:]
    return '"' + harmless.replace('"', '""') + '"'
