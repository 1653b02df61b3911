"""The provider's bill: from what was received, a CSV or the API's answers, to its items, and whether they add up.

DigitalOcean's invoice, in USD. The API: https://docs.digitalocean.com/reference/api, "Billing"; the CSV: what people
download of an invoice, in its older spelling (hours, start, end, USD) and in the API's.
Belongs here: reading a bill and comparing two of them. Does not: fetching one (digitalocean.py), whose the items are
(allocation.py).
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import CENTS, COUNT, QUANTITY, TEXT, Column, dollars, to_arrow, to_pandas
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth

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
_TAX = r"(?i)\b(tax|taxes|gst|vat)\b"
_CREDIT = r"(?i)\b(credits?|adjustments?|refunds?|discounts?|promotions?)\b"
_AMOUNT = r"^-?\$?-?(\d{1,3}(,\d{3}){0,3}|\d{1,12})(\.\d{1,2}0*)?$"
_TOTAL_LIMIT = 10**15
"""Cents; at any rate of exchange it still fits 64 bits."""
_DURATION = r"^\d{1,12}(\.\d{1,6}0*)?$"


class InvalidBill(ValueError):
    """It cannot be read as a bill, or does not add up; the message says where."""


@dataclass(frozen=True)
class Bill:
    """A month's bill of the provider. Its items sum to its total."""

    month: BillingMonth
    invoice_uuid: str | None
    total_cents: int
    """USD."""
    total_from: str
    """Who says so: bill, operator, or sum, where nobody does."""
    items: pd.DataFrame
    """As ITEMS."""
    document: bytes
    """As received."""
    media_type: str
    source: str
    """The file's name, or the API's address."""

    @property
    def sha256(self) -> str:
        """The hash of what is billed, whatever order the items came in."""
        items = to_arrow(self.items, ITEMS)
        # No text holds the separator, and none is empty: that is null.
        texts = [pc.fill_null(items[name].cast(TEXT), "") for name in ITEMS.names if name != "line_no"]
        rows = pc.binary_join_element_wise(*texts, "\0")
        in_order = rows.take(pc.array_sort_indices(rows)).to_pylist()
        return hashlib.sha256("\n".join([str(self.month), str(self.total_cents), *in_order]).encode()).hexdigest()


def read_csv(document: bytes, source: str, month: BillingMonth | None = None, total: int | None = None) -> Bill:
    """The bill that a CSV holds, of `month`, or of the one that its items are in.

    `total` is the bill's own, in cents USD: the file states it only if it ends with a row of product Total. Raises
    InvalidBill.
    """
    columns = _columns(document)
    is_total = pc.equal(pc.utf8_lower(columns["product"]), "total")
    another = pc.match_substring_regex(columns["product"], r"(?i)^(sub|grand )?total\b")
    _refuse(
        columns["product"], pc.or_(is_total, pc.invert(another)), "product", "is no product: a total is named Total"
    )
    stated = pc.filter(columns["amount"], is_total).to_pylist()
    if len(stated) > 1:
        raise InvalidBill(f"{source} has {len(stated)} rows of product Total")
    items = _items({name: pc.filter(column, pc.invert(is_total)) for name, column in columns.items()})
    if not len(items):
        raise InvalidBill(f"{source} has no items")
    if stated:
        in_file = cents(stated[0], "the row Total")
        if total is not None and total != in_file:
            raise InvalidBill(f"{source} states a total of {dollars(in_file)}, and you of {dollars(total)}")
        total_cents, total_from = in_file, "bill"
    elif total is not None:
        total_cents, total_from = total, "operator"
    else:
        total_cents, total_from = _sum(items["amount_cents"]), "sum"
    month = month or _month_of(items)
    return _checked(Bill(month, None, total_cents, total_from, _dated(items, month), document, "text/csv", source))


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
    items = _items(_listed(received))
    kinds = set(items["kind"].to_pylist())
    used = _sum(pc.filter(items["amount_cents"], pc.equal(items["kind"], "usage")))
    missing: list[Mapping[str, object]] = []
    if used != _charged(summary, "product_charges") + (overages := _charged(summary, "overages")) and overages:
        missing.append(_summed(summary, "overages", "Overages"))
    if "tax" not in kinds and _charged(summary, "taxes"):
        missing.append(_summed(summary, "taxes", "Taxes"))
    if "credit" not in kinds and _charged(summary, "credits_and_adjustments"):
        missing.append(_summed(summary, "credits_and_adjustments", "Credits and adjustments"))
    if missing:
        items = _items(_listed([*received, *missing]))
    total = cents(_text(summary.get("amount")), "amount of the summary")
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


def _columns(document: bytes) -> dict[str, Column]:
    """The CSV's columns as trimmed texts, in the API's spelling; one that is not there is empty. Raises InvalidBill."""
    try:
        text = document.decode("utf-8-sig")
        if "\0" in text:
            raise InvalidBill("it is not a text file")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [_OLDER.get(name, name) for name in (name.strip().lower() for name in next(reader, []))]
        lines = [(reader.line_num, line) for line in reader if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidBill(f"it is not a CSV in UTF-8: {error}") from error
    if missing := {"product", "description", "amount"} - set(header):
        raise InvalidBill(f"it lacks the columns {', '.join(sorted(missing))}: its first row must name them")
    if twice := {name for name in RECEIVED if header.count(name) > 1}:
        raise InvalidBill(f"it has more than one column {', '.join(sorted(twice))}: leave one")
    for number, line in lines:
        if len(line) != len(header):
            raise InvalidBill(f"line {number} has {len(line)} values, and the first names {len(header)} columns")
    given = dict(zip(header, zip(*(line for _, line in lines), strict=True), strict=True)) if lines else {}
    columns = {name: _trimmed(given.get(name, [""] * len(lines))) for name in RECEIVED}
    if "duration_unit" not in header:
        columns["duration_unit"] = pc.if_else(pc.equal(columns["duration"], ""), "", "hours")
    return columns


def _listed(received: Sequence[Mapping[str, object]]) -> dict[str, Column]:
    """The API's items as columns of trimmed texts."""
    return {name: _trimmed([_text(item.get(name)) for item in received]) for name in RECEIVED}


def _trimmed(texts: Sequence[str]) -> Column:
    return pc.utf8_trim_whitespace(pa.array(texts, TEXT))


def _items(texts: Mapping[str, Column]) -> pa.Table:
    """What was received, columns of texts, as ITEMS; instants are null where it names none. Raises InvalidBill."""
    amount = _cents(texts["amount"])
    named = pc.binary_join_element_wise(texts["product"], texts["category"], " ")
    kind = pc.if_else(
        pc.match_substring_regex(named, _TAX),
        "tax",
        pc.if_else(pc.or_(pc.match_substring_regex(named, _CREDIT), pc.less(amount, 0)), "credit", "usage"),
    )
    duration = _or_null(texts["duration"])
    _refuse(
        texts["duration"], pc.match_substring_regex(duration, _DURATION), "duration", "is not a number of 6 decimals"
    )
    for name in ("product", "description"):
        _refuse(texts[name], pc.not_equal(texts[name], ""), name, "is empty")
    columns = {
        "line_no": pa.array(range(1, len(amount) + 1), COUNT),
        "kind": kind,
        **{name: _or_null(column) for name, column in texts.items()},
        "duration": pc.replace_substring_regex(duration, r"(\.\d{1,6})0*$", r"\1").cast(QUANTITY),
        "started_at": _instants(texts["start_time"], "start_time"),
        "ended_at": _instants(texts["end_time"], "end_time"),
        "amount_cents": amount,
    }
    return pa.table([columns[name] for name in ITEMS.names], schema=ITEMS)


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
    """Raise InvalidBill for the first text that is not good; null is good."""
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


def _dated(items: pa.Table, month: BillingMonth) -> pd.DataFrame:
    """The items with the month's bounds where they name no instants."""
    whole = items
    for name, day in (("started_at", month.start), ("ended_at", month.end)):
        bound = pa.scalar(pd.Timestamp(day, tz="UTC").to_pydatetime(), _INSTANT)
        whole = whole.set_column(ITEMS.get_field_index(name), ITEMS.field(name), pc.fill_null(whole[name], bound))
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
        raise InvalidBill(f"the bill of {bill.month} comes to {dollars(found)} USD, which no bill does")
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
        raise InvalidBill(f"{json.dumps(value)[:80]} stands where a text should")
    text = "" if value is None else str(value)
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise InvalidBill(f"{text[:80]!a} is no text")
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
    """Cents USD of a section of the summary; 0 where it is not there."""
    return cents(_text(_section(summary, name).get("amount")) or "0", f"{name} of the summary")


def _summed(summary: Mapping[str, object], name: str, product: str) -> dict[str, object]:
    """A section of the summary as an item."""
    section = _section(summary, name)
    return {"product": product, "description": section.get("name") or product, "amount": section.get("amount")}
