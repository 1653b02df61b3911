"""The provider's bill: reads what was received, a CSV or the API's answers, into items, and checks that they add up.

DigitalOcean's invoice, in USD. The API: https://docs.digitalocean.com/reference/api, "Billing"; the CSV: an
invoice's download, with its older column names (hours, start, end, USD) or with the API's.
Belongs here: reading a bill and comparing two of them. Does not: fetching one (digitalocean.py), whose the items are
(claims.py).
"""

import csv
import datetime as dt
import hashlib
import io
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import CENTS, COUNT, QUANTITY, TEXT, Column, dollars, to_arrow, to_pandas
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.errors import InvalidInput

_INSTANT = pa.timestamp("us", "UTC")
_LONGEST = pd.Timedelta(days=366)

ITEMS = pa.schema(
    [
        ("line_no", COUNT),  # its place on the bill, from 1
        ("kind", TEXT),  # usage, credit or tax
        ("product", TEXT),
        ("category", TEXT),
        ("resource_id", TEXT),
        ("resource_uuid", TEXT),
        ("group_description", TEXT),
        ("description", TEXT),
        ("duration", QUANTITY),
        ("duration_unit", TEXT),
        ("started_at", _INSTANT),
        ("ended_at", _INSTANT),
        ("project_name", TEXT),
        ("amount_cents", CENTS),  # USD; credits are negative
    ]
)
"""One row per item of a bill, in its order."""

MOVED = pa.schema(
    [
        ("product", TEXT),
        ("resource", TEXT),  # its uuid, its id, or the item's description
        ("before_cents", CENTS),
        ("after_cents", CENTS),
        ("difference_cents", CENTS),
    ]
)
"""One row per product and resource that a restated bill bills differently, in cents USD, the largest first."""

RECEIVED = (
    "product", "category", "resource_id", "resource_uuid", "group_description", "description", "duration",
    "duration_unit", "start_time", "end_time", "project_name", "amount",
)  # fmt: skip
"""The columns of a CSV, and the fields of the API's items."""

_OLDER = {"usd": "amount", "hours": "duration", "start": "start_time", "end": "end_time"}
_NEEDED = {"product", "description", "amount"}
_SECTIONS = {"overages": "Overages", "taxes": "Taxes", "credits_and_adjustments": "Credits and adjustments"}
"""The sections of the API's summary beside product_charges, each with its name as an item."""
_TAX = r"(?i)\b(tax|taxes|gst|vat)\b"
_CREDIT = r"(?i)\b(credits?|adjustments?|refunds?|discounts?|promotions?)\b"
_AMOUNT = r"^-?\$?-?(\d{1,3}(,\d{3}){0,3}|\d{1,12})(\.\d{1,2}0*)?$"
_TOTAL_LIMIT = 10**15
"""Cents; at any rate of exchange it still fits 64 bits."""
_DURATION = r"^-?\d{1,11}(\.\d+)?$"


class InvalidBill(InvalidInput):
    """The text cannot be read as a bill, or does not add up; the message says where."""


@dataclass(frozen=True)
class Bill:
    """A month's bill of the provider. Its items sum to its total."""

    month: BillingMonth
    invoice_uuid: str | None
    total_cents: int
    """USD."""
    total_from: str
    """Who states the total: bill, operator, or sum if nobody does."""
    items: pd.DataFrame
    """As ITEMS."""
    document: bytes
    """As received."""
    media_type: str
    source: str
    """The file's name, or the API's address."""
    items_sha256: str | None = None
    """The hash of a CSV's items with the dates that it gives them and no others; null from the API, which says which
    month it bills."""

    @property
    def sha256(self) -> str:
        """The hash of what is billed, whatever order the items came in."""
        return _hash(to_arrow(self.items, ITEMS), str(self.month), str(self.total_cents))


def read_csv(document: bytes, source: str, month: BillingMonth | None = None, total: int | None = None) -> Bill:
    """The bill that a CSV holds, of `month`, or else of the month that its items are in.

    `total` is the bill's own, in cents USD: the file states it only if it ends with a row of product Total. A month
    that was billed by several invoices is one file of their CSVs, one after the other. Raises InvalidBill.
    """
    columns, invoice = _columns(document)
    is_total = pc.equal(pc.utf8_lower(columns["product"]), "total")
    another = pc.match_substring_regex(columns["product"], r"(?i)^(sub|grand )?total\b")
    _refuse(
        columns["product"], pc.or_(is_total, pc.invert(another)), "product", "is not a product: a total is named Total"
    )
    items = _items({name: pc.filter(column, pc.invert(is_total)) for name, column in columns.items()})
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
        total_cents, total_from = _sum(items["amount_cents"]), "sum"
    month = month or _month_of(items)
    dated = _dated(items, month)
    for each in invoices:
        _refuse_another_month(each, month)
    return _checked(Bill(month, None, total_cents, total_from, dated, document, "text/csv", source, _hash(items)))


def read_api(
    month: BillingMonth, summary: Mapping[str, object], pages: Sequence[Mapping[str, object]], url: str
) -> Bill:
    """The bill that the API's answers hold: a summary, and the pages of its items.

    The list of items has what was used; taxes, credits and overages that stand in the summary alone become items.
    Raises InvalidBill.
    """
    received = [item for page in pages for item in _list(page, "invoice_items")]
    of = _text(summary.get("billing_period") or summary.get("invoice_period"))
    if of != str(month):
        raise InvalidBill(f"the bill {summary.get('invoice_uuid')} is of {of or 'no month'}, not of {month}")
    items, total = _items(_listed(received)), cents(_text(summary.get("amount")), "amount of the summary")
    if missing := _unlisted(items, summary, total):
        items = _items(_listed([*received, *(_summed(summary, name) for name in missing)]))
    document = json.dumps([summary, *pages]).encode()
    uuid = _text(summary.get("invoice_uuid")) or None
    return _checked(Bill(month, uuid, total, "bill", _dated(items, month), document, "application/json", url))


def cents(amount: str, where: str) -> int:
    """An amount like $1,234.50 in cents. Raises InvalidBill, which says where."""
    try:
        [found] = _cents(pa.array([amount], TEXT)).to_pylist()
    except InvalidBill:
        raise InvalidBill(f"{where}: {amount!r} is not an amount of dollars and whole cents") from None
    return int(found)


def moved(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What a restated bill bills differently: MOVED, of two bills' ITEMS."""
    sums = []
    for items, name in ((before, "before_cents"), (after, "after_cents")):
        resource = items["resource_uuid"].fillna(items["resource_id"]).fillna(items["description"])
        keyed = items.assign(resource=resource)[["product", "resource", "amount_cents"]]
        sums.append(keyed.groupby(["product", "resource"], as_index=False).sum().rename(columns={"amount_cents": name}))
    both = sums[0].merge(sums[1], on=["product", "resource"], how="outer")
    both = both.fillna({"before_cents": 0, "after_cents": 0})
    both = both.assign(difference_cents=both["after_cents"] - both["before_cents"])
    both = both[both["difference_cents"] != 0]
    in_order = both.assign(size=both["difference_cents"].abs()).sort_values(
        ["size", "product", "resource"], ascending=[False, True, True], kind="stable"
    )
    return to_pandas(to_arrow(in_order, MOVED))


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
    columns = {name: _trimmed(given.get(name, [""] * len(lines))) for name in RECEIVED}
    if "duration_unit" not in header:
        columns["duration_unit"] = pc.if_else(pc.equal(columns["duration"], ""), "", "hours")
    return columns


def _refuse_twice(invoices: list[pa.Table], source: str) -> None:
    """Raise InvalidBill if the file has one invoice twice."""
    hashes = [_hash(items) for items in invoices] if len(invoices) > 1 else []
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
        found = _sum(pc.filter(amount_cents, pc.equal(of_items, number)))
        if count > 1 and found != total:  # a single invoice is compared as the bill
            raise InvalidBill(
                f"invoice {number + 1} of {source} does not add up: its items sum to {dollars(found)} USD, its total is"
                f" {dollars(total)}"
            )
    return sum(stated) if len(stated) == count else None


def _unlisted(items: pa.Table, summary: Mapping[str, object], total: int) -> list[str]:
    """The sections of the API's summary that are missing among the items: with them the items sum to the total.

    A tax or a credit of which an item has the very amount is not missing; one that cannot be any item is.
    """
    charged = {name: amount for name in _SECTIONS if (amount := _charged(summary, name))}
    is_tax, is_credit = _named(items, _TAX), pc.and_(_named(items, _CREDIT), pc.invert(_named(items, _TAX)))
    amounts, listed = items["amount_cents"], _sum(items["amount_cents"])

    def choices(name: str) -> list[bool]:
        """Whether the section may be missing, the likelier first."""
        if name == "overages":
            used = _sum(pc.filter(amounts, pc.invert(pc.or_(is_tax, is_credit))))
            return [False] if used == _charged(summary, "product_charges") + charged[name] else [True, False]
        named = pc.filter(amounts, is_tax if name == "taxes" else is_credit).to_pylist()
        if charged[name] in (sum(named), *named):
            return [False]
        maybe = bool(named) or (name != "taxes" and pc.any(pc.less(amounts, 0)).as_py())
        return [not named, bool(named)] if maybe else [True]

    for chosen in itertools.product(*map(choices, charged)):
        missing = [name for name, is_missing in zip(charged, chosen, strict=True) if is_missing]
        if listed + sum(charged[name] for name in missing) == total:
            return missing
    return [name for name in charged if choices(name)[0]]


def _hash(items: pa.Table, *heading: str) -> str:
    """SHA-256 of ITEMS, whatever their order, after the heading's lines."""
    # No text holds the separator, and none is empty: that is null.
    texts = [pc.fill_null(items[name].cast(TEXT), "") for name in ITEMS.names if name != "line_no"]
    rows = pc.binary_join_element_wise(*texts, "\0")
    in_order = rows.take(pc.array_sort_indices(rows)).to_pylist()
    return hashlib.sha256("\n".join([*heading, *in_order]).encode()).hexdigest()


def _listed(received: Sequence[Mapping[str, object]]) -> dict[str, Column]:
    """The API's items as columns of trimmed texts."""
    return {name: _trimmed([_text(item.get(name)) for item in received]) for name in RECEIVED}


def _trimmed(texts: Sequence[str]) -> Column:
    return pc.utf8_trim_whitespace(pa.array(texts, TEXT))


def _items(texts: Mapping[str, Column]) -> pa.Table:
    """What was received, columns of texts, as ITEMS; instants are null where it names none. Raises InvalidBill."""
    amount = _cents(texts["amount"])
    kind = pc.if_else(
        _named(texts, _TAX),
        "tax",
        pc.if_else(pc.or_(_named(texts, _CREDIT), pc.less(amount, 0)), "credit", "usage"),
    )
    _refuse(texts["product"], pc.not_equal(texts["product"], ""), "product", "is empty")
    columns = {
        "line_no": pa.array(range(1, len(amount) + 1), COUNT),
        "kind": kind,
        **{name: _or_null(column) for name, column in texts.items()},
        "description": pc.coalesce(_or_null(texts["description"]), texts["product"]),
        "duration": _durations(texts["duration"]),
        "started_at": _instants(texts["start_time"], "start_time"),
        "ended_at": _instants(texts["end_time"], "end_time"),
        "amount_cents": amount,
    }
    return pa.table([columns[name] for name in ITEMS.names], schema=ITEMS)


def _named(items: Mapping[str, Column] | pa.Table, pattern: str) -> Column:
    """Which items have a product or a category of that name."""
    category = pc.fill_null(items["category"], "")
    return pc.match_substring_regex(pc.binary_join_element_wise(items["product"], category, " "), pattern)


def _durations(texts: Column) -> Column:
    """Numbers with any decimals, rounded half up to 6. Raises InvalidBill."""
    given = _or_null(texts)
    _refuse(texts, pc.match_substring_regex(given, _DURATION), "duration", "is not a number like 213.5")
    cut = pc.replace_substring_regex(given, r"(\.\d{7})\d*$", r"\1")  # on its side of a half
    return pc.round(cut.cast(pa.decimal128(18, 7)), 6, "half_towards_infinity").cast(QUANTITY)


def _cents(amounts: Column) -> Column:
    """Texts like $1,234.50, -3.45 or (3.45) as cents. Raises InvalidBill."""
    plain = pc.replace_substring_regex(pc.utf8_trim_whitespace(amounts), r"^\(([^-]*)\)$", r"-\1")
    good = pc.and_(pc.match_substring_regex(plain, _AMOUNT), pc.invert(pc.match_substring_regex(plain, "-.*-")))
    _refuse(amounts, good, "amount", "is not an amount of dollars and whole cents")
    plain = pc.replace_substring_regex(plain, r"[$,]", "")
    whole = pc.replace_substring_regex(plain, r"(\.\d\d)0*$", r"\1").cast(pa.decimal128(18, 2))
    return pc.multiply(whole, pa.scalar(100, pa.decimal128(3, 0))).cast(pa.decimal128(38, 0), safe=False).cast(CENTS)


def _instants(texts: Column, name: str) -> Column:
    parsed = pd.to_datetime(
        pd.Series(_or_null(texts).to_pylist(), dtype=object), utc=True, format="ISO8601", errors="coerce"
    )
    instants = pa.array(parsed.dt.as_unit("us"), _INSTANT)
    _refuse(
        texts, pc.or_(instants.is_valid(), pc.equal(texts, "")), name, "is not an instant like 2026-04-01T00:00:00Z"
    )
    return instants


def _refuse(texts: Column, good: Column, name: str, what: str) -> None:
    """Raise InvalidBill for the first invalid text; null is valid."""
    bad = pc.invert(pc.fill_null(good, True))
    if pc.any(bad).as_py():
        row = pc.index(bad, True).as_py()
        raise InvalidBill(f"item {row + 1}: {name} {texts[row].as_py()!r} {what}")


def _or_null(texts: Column) -> Column:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, TEXT), texts)


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
    start, end = (_instant(day).cast(COUNT) for day in (month.start, month.end))
    used = items.filter(pc.equal(items["kind"], "usage"))
    counted = used if len(used) else items
    started, last = counted["started_at"].cast(COUNT), pc.subtract(counted["ended_at"].cast(COUNT), 1)  # microseconds
    began, ended = pc.coalesce(started, last), pc.max_element_wise(started, last)
    outside = began.filter(pc.or_(pc.less(ended, start), pc.greater_equal(began, end)).fill_null(False))
    if 2 * len(outside) > len(counted):
        months = sorted(set(pc.strftime(outside.cast(_INSTANT), "%Y-%m").to_pylist()))
        what = f"{len(outside)} of {len(counted)} items" + (" of usage" if len(used) else "") + " are"
        what = what if len(counted) > 1 else "its only item" + (" of usage" if len(used) else "") + " is"
        raise InvalidBill(f"{what} not of {month}, but of {', '.join(months[:3])}: give the month that it bills")


def _instant(day: dt.date) -> pa.Scalar:
    return pa.scalar(pd.Timestamp(day, tz="UTC").to_pydatetime(), _INSTANT)


def _dated(items: pa.Table, month: BillingMonth) -> pd.DataFrame:
    """The items with the month's bounds where they name no instants."""
    whole = items
    for name, day in (("started_at", month.start), ("ended_at", month.end)):
        filled = pc.fill_null(whole[name], _instant(day))
        whole = whole.set_column(ITEMS.get_field_index(name), ITEMS.field(name), filled)
    for name, far, bound in (
        ("start_time", pc.less, pd.Timestamp(month.start, tz="UTC") - _LONGEST),
        ("end_time", pc.greater, pd.Timestamp(month.end, tz="UTC") + _LONGEST),
    ):
        instants = whole["started_at" if name == "start_time" else "ended_at"]
        away = far(instants, pa.scalar(bound.to_pydatetime(), _INSTANT))
        _refuse(instants.cast(TEXT), pc.invert(away), name, f"is more than a year from {month}")
    backwards = pc.less(whole["ended_at"], whole["started_at"])
    if pc.any(backwards).as_py():
        raise InvalidBill(f"item {pc.index(backwards, True).as_py() + 1} ends before it starts")
    return to_pandas(whole)


def _checked(bill: Bill) -> Bill:
    """The bill. Raises InvalidBill if its items do not sum to its total."""
    found = _sum(pa.array(bill.items["amount_cents"]))
    if abs(found) >= _TOTAL_LIMIT:
        raise InvalidBill(f"the bill of {bill.month} comes to {dollars(found)} USD, which is beyond any bill")
    if found != bill.total_cents:
        raise InvalidBill(
            f"the bill of {bill.month} does not add up: its items sum to {dollars(found)} USD, its"
            f" total is {dollars(bill.total_cents)}, a difference of {dollars(bill.total_cents - found)}"
        )
    return bill


def _sum(amounts: Column) -> int:
    return int(pc.sum(amounts.cast(pa.decimal128(19, 0))).as_py() or 0)


def _text(value: object) -> str:
    """A text or a number of the API's as text; null is empty. Raises InvalidBill."""
    if not isinstance(value, str | int | float | None) or isinstance(value, bool):
        raise InvalidBill(f"{json.dumps(value)[:80]} is where a text should be")
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = f"{Decimal(text):f}"  # without an exponent
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise InvalidBill(f"{text[:80]!a} is not valid text")
    return text


def _list(page: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    found = page.get(name)
    if not isinstance(found, list):
        raise InvalidBill(f"an answer of the API has no {name}")
    return found


def _section(summary: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = summary.get(name)
    return found if isinstance(found, dict) else {}


def _charged(summary: Mapping[str, object], name: str) -> int:
    """Cents USD of a section of the summary; 0 if it is missing."""
    return cents(_text(_section(summary, name).get("amount")) or "0", f"{name} of the summary")


def _summed(summary: Mapping[str, object], name: str) -> dict[str, object]:
    """A section of the summary as an item."""
    section, product = _section(summary, name), _SECTIONS[name]
    return {"product": product, "description": section.get("name") or product, "amount": section.get("amount")}
