"""A bill as people download it: a CSV, of one invoice or of several.

Its columns have older names (hours, start, end, USD) or the API's.
Belongs here: reading the file, and which month it bills. Does not: what an item's texts mean (bill_items.py).
"""

import csv
import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import COUNT, Column, dollars
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.costs.bill import INSTANT, Bill, InvalidBill, checked, hash_of, total_of
from arcadia_pipelines.costs.bill_items import RECEIVED, cents, instant, read_items, refuse, trimmed, with_dates

_OLDER = {"usd": "amount", "hours": "duration", "start": "start_time", "end": "end_time"}
_NEEDED = {"product", "description", "amount"}


def read_csv(document: bytes, source: str, month: BillingMonth | None = None, total: int | None = None) -> Bill:
    """The bill that a CSV holds, of `month`, or else of the month that its items are in.

    `total` is the bill's own, in cents USD: the file states it only if it ends with a row of product Total. A month
    that was billed by several invoices is one file of their CSVs, one after the other. Raises InvalidBill.
    """
    columns, invoice = _columns(document)
    is_total = pc.equal(pc.utf8_lower(columns["product"]), "total")
    another = pc.match_substring_regex(columns["product"], r"(?i)^(sub|grand )?total\b")
    refuse(
        columns["product"], pc.or_(is_total, pc.invert(another)), "product", "is not a product: a total is named Total"
    )
    items = read_items({name: pc.filter(column, pc.invert(is_total)) for name, column in columns.items()})
    if not len(items):
        raise InvalidBill(f"{source} has no items")
    of_items = pc.filter(invoice, pc.invert(is_total))
    invoices = [items.filter(pc.equal(of_items, number)) for number in of_items.unique()]
    _refuse_twice(invoices, source)
    in_file = _stated(items["amount_cents"], columns["amount"], invoice, is_total, source)
    if in_file is not None and total is not None and total != in_file:
        raise InvalidBill(f"{source} states a total of {dollars(in_file)}, and you state {dollars(total)}")
    if in_file is not None:
        total_cents, total_from = in_file, "bill"
    elif total is not None:
        total_cents, total_from = total, "operator"
    else:
        total_cents, total_from = total_of(items["amount_cents"]), "sum"
    month = month or _month_of(items)
    dated = with_dates(items, month)
    for each in invoices:
        _refuse_another_month(each, month)
    return checked(Bill(month, None, total_cents, total_from, dated, document, "text/csv", source, hash_of(items)))


def _columns(document: bytes) -> tuple[dict[str, Column], Column]:
    """The CSV's columns as trimmed texts, under the API's names, and which of its invoices each row is on, from 0.

    Each invoice has its own header; a column that it does not name is empty. Raises InvalidBill.
    """
    invoices: list[tuple[list[str], list[list[str]]]] = []
    maybe_several = document.lower().count(b"product") > 1
    for number, line in _lines(document):
        if not invoices or (maybe_several and set(_names(line)) >= _NEEDED):
            invoices.append((_header(line), []))
        elif len(line) != len(invoices[-1][0]):
            raise InvalidBill(
                f"line {number} has {len(line)} values, and its header names {len(invoices[-1][0])} columns"
            )
        else:
            invoices[-1][1].append(line)
    if not invoices:
        _header([])
    each = [_given(header, lines) for header, lines in invoices]
    numbers = [number for number, (_, lines) in enumerate(invoices) for _ in lines]
    return {name: pa.concat_arrays([given[name] for given in each]) for name in RECEIVED}, pa.array(numbers, COUNT)


def _lines(document: bytes) -> list[tuple[int, list[str]]]:
    """The CSV's rows that are not empty, each with the line that it ends on. Raises InvalidBill."""
    try:
        text = document.decode("utf-8-sig")
        if "\0" in text:
            raise InvalidBill("it is not a text file")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, line) for line in reader if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidBill(f"it is not a CSV in UTF-8: {error}") from error


def _names(line: Sequence[str]) -> list[str]:
    """The cells of a header as columns; a file after another one may begin with a byte order mark."""
    names = (cell.strip("\ufeff \t").lower() for cell in line)
    return [_OLDER.get(name, name) for name in names]


def _header(line: Sequence[str]) -> list[str]:
    """The columns that an invoice's first row names. Raises InvalidBill."""
    names = _names(line)
    if missing := _NEEDED - set(names):
        raise InvalidBill(f"it lacks the columns {', '.join(sorted(missing))}: its first row must name them")
    if twice := {name for name in RECEIVED if names.count(name) > 1}:
        raise InvalidBill(f"it has more than one column {', '.join(sorted(twice))}: leave one")
    return names


def _given(header: list[str], lines: list[list[str]]) -> dict[str, Column]:
    """An invoice's rows as columns of trimmed texts."""
    given = dict(zip(header, zip(*lines, strict=True), strict=True)) if lines else {}
    columns = {name: trimmed(given.get(name, [""] * len(lines))) for name in RECEIVED}
    if "duration_unit" not in header:
        columns["duration_unit"] = pc.if_else(pc.equal(columns["duration"], ""), "", "hours")
    return columns


def _refuse_twice(invoices: list[pa.Table], source: str) -> None:
    """Raise InvalidBill if the file has one invoice twice."""
    hashes = [hash_of(items) for items in invoices] if len(invoices) > 1 else []
    for place, found in enumerate(hashes):
        if found in hashes[:place]:
            raise InvalidBill(f"{source} has one invoice twice, as number {hashes.index(found) + 1} and {place + 1}")


def _stated(amount_cents: Column, texts: Column, invoice: Column, is_total: Column, source: str) -> int | None:
    """The sum of the totals that the file's invoices state, in cents; None unless all state one. Raises InvalidBill."""
    numbers, of_items = pc.filter(invoice, is_total).to_pylist(), pc.filter(invoice, pc.invert(is_total))
    if len(set(numbers)) < len(numbers):
        raise InvalidBill(f"{source} has {len(numbers)} rows of product Total, more than one under a header")
    stated = [cents(text, "the row Total") for text in pc.filter(texts, is_total).to_pylist()]
    count = len(invoice.unique())
    for number, total in zip(numbers, stated, strict=True):
        found = total_of(pc.filter(amount_cents, pc.equal(of_items, number)))
        if count > 1 and found != total:  # a single invoice is compared as the bill
            raise InvalidBill(
                f"invoice {number + 1} of {source} does not add up: its items sum to {dollars(found)} USD, its total is"
                f" {dollars(total)}"
            )
    return sum(stated) if len(stated) == count else None


def _month_of(items: pa.Table) -> BillingMonth:
    """The one month that the items begin in. Raises InvalidBill."""
    months = sorted(set(pc.strftime(items["started_at"].drop_null(), "%Y-%m").to_pylist()))
    if len(months) != 1:
        found = f"its items begin in {', '.join(months)}" if months else "its items name no dates"
        raise InvalidBill(f"{found}: say which month it bills with --month")
    try:
        return BillingMonth.parse(months[0])
    except InvalidMonth as error:
        raise InvalidBill(str(error)) from error


def _refuse_another_month(items: pa.Table, month: BillingMonth) -> None:
    """Raise InvalidBill if most of what is used, or else of all items, lies outside the month.

    Credits and taxes are often of earlier months; an item without dates is of the month.
    """
    start, end = (instant(day).cast(COUNT) for day in (month.start, month.end))
    used = items.filter(pc.equal(items["kind"], "usage"))
    counted = used if len(used) else items
    started, last = counted["started_at"].cast(COUNT), pc.subtract(counted["ended_at"].cast(COUNT), 1)  # microseconds
    began, ended = pc.coalesce(started, last), pc.max_element_wise(started, last)
    outside = began.filter(pc.or_(pc.less(ended, start), pc.greater_equal(began, end)).fill_null(False))
    if 2 * len(outside) > len(counted):
        months = sorted(set(pc.strftime(outside.cast(INSTANT), "%Y-%m").to_pylist()))
        what = f"{len(outside)} of {len(counted)} items" + (" of usage" if len(used) else "") + " are"
        what = what if len(counted) > 1 else "its only item" + (" of usage" if len(used) else "") + " is"
        raise InvalidBill(f"{what} not of {month}, but of {', '.join(months[:3])}: give the month that it bills")
