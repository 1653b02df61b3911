"""Cells and lines of the sheets (CSV) that people open in a spreadsheet.

Belongs here: how text, money and instants are put so that a spreadsheet reads them as they are. Does not: what is in
them.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

MARK = "\ufeff"  # begins a sheet: it tells Excel that this is UTF-8
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  spreadsheets take these too


def lines(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """The rows as CSV, without a header: these columns of each."""
    written = io.StringIO()
    csv.DictWriter(written, columns, extrasaction="ignore").writerows(rows)
    return written.getvalue()


def header(columns: Sequence[str]) -> str:
    """How a sheet begins."""
    return MARK + lines(columns, [dict(zip(columns, columns, strict=True))])


def text(value: str | None) -> str:
    """Text that cannot be taken for a formula."""
    value = value or ""
    return f"'{value}" if value.lstrip(" \u00a0").startswith(_FORMULA) else value


def instant(value: str | None) -> str:
    """UTC without a zone, to the second: spreadsheets read no other."""
    return value[:19].replace("T", " ") if value else ""


def dollars(cents: int | None) -> str:
    """Cents as a spreadsheet reads them: 1234567 is 12345.67. Nothing for None."""
    if cents is None:
        return ""
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"
