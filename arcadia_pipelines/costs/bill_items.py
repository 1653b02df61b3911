"""The items of a bill, from texts as they were received to columns of instants, quantities and cents.

Belongs here: what a CSV and the API's answers have in common. Does not: where the texts come from (bill_csv.py,
bill_api.py), whether the items make the bill's total (bill.py).
"""

import datetime as dt
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import CENTS, COUNT, QUANTITY, TEXT, Column, to_pandas
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs.bill import INSTANT, ITEMS, InvalidBill

_LONGEST = pd.Timedelta(days=366)

RECEIVED = (
    "product", "category", "resource_id", "resource_uuid", "group_description", "description", "duration",
    "duration_unit", "start_time", "end_time", "project_name", "amount",
)  # fmt: skip
"""The columns of a CSV, and the fields of the API's items."""
TAX = r"(?i)\b(tax|taxes|gst|vat)\b"
CREDIT = r"(?i)\b(credits?|adjustments?|refunds?|discounts?|promotions?)\b"
_AMOUNT = r"^-?\$?-?(\d{1,3}(,\d{3}){0,3}|\d{1,12})(\.\d{1,2}0*)?$"
_DURATION = r"^-?\d{1,11}(\.\d+)?$"


def cents(amount: str, where: str) -> int:
    """An amount like $1,234.50 in cents. Raises InvalidBill, which says where."""
    try:
        [found] = _cents(pa.array([amount], TEXT)).to_pylist()
    except InvalidBill:
        raise InvalidBill(f"{where}: {amount!r} is not an amount of dollars and whole cents") from None
    return int(found)


def trimmed(texts: Sequence[str]) -> Column:
    """A column of the texts without the space around them."""
    return pc.utf8_trim_whitespace(pa.array(texts, TEXT))


def read_items(texts: Mapping[str, Column]) -> pa.Table:
    """What was received, columns of texts, as ITEMS; instants are null where it names none. Raises InvalidBill."""
    amount = _cents(texts["amount"])
    kind = pc.if_else(
        are_named(texts, TAX),
        "tax",
        pc.if_else(pc.or_(are_named(texts, CREDIT), pc.less(amount, 0)), "credit", "usage"),
    )
    refuse(texts["product"], pc.not_equal(texts["product"], ""), "product", "is empty")
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


def are_named(items: Mapping[str, Column] | pa.Table, pattern: str) -> Column:
    """Which items have a product or a category of that name."""
    category = pc.fill_null(items["category"], "")
    return pc.match_substring_regex(pc.binary_join_element_wise(items["product"], category, " "), pattern)


def _durations(texts: Column) -> Column:
    """Numbers with any decimals, rounded half up to 6. Raises InvalidBill."""
    given = _or_null(texts)
    refuse(texts, pc.match_substring_regex(given, _DURATION), "duration", "is not a number like 213.5")
    cut = pc.replace_substring_regex(given, r"(\.\d{7})\d*$", r"\1")  # on its side of a half
    return pc.round(cut.cast(pa.decimal128(18, 7)), 6, "half_towards_infinity").cast(QUANTITY)


def _cents(amounts: Column) -> Column:
    """Texts like $1,234.50, -3.45 or (3.45) as cents. Raises InvalidBill."""
    plain = pc.replace_substring_regex(pc.utf8_trim_whitespace(amounts), r"^\(([^-]*)\)$", r"-\1")
    good = pc.and_(pc.match_substring_regex(plain, _AMOUNT), pc.invert(pc.match_substring_regex(plain, "-.*-")))
    refuse(amounts, good, "amount", "is not an amount of dollars and whole cents")
    plain = pc.replace_substring_regex(plain, r"[$,]", "")
    whole = pc.replace_substring_regex(plain, r"(\.\d\d)0*$", r"\1").cast(pa.decimal128(18, 2))
    return pc.multiply(whole, pa.scalar(100, pa.decimal128(3, 0))).cast(pa.decimal128(38, 0), safe=False).cast(CENTS)


def _instants(texts: Column, name: str) -> Column:
    parsed = pd.to_datetime(
        pd.Series(_or_null(texts).to_pylist(), dtype=object), utc=True, format="ISO8601", errors="coerce"
    )
    instants = pa.array(parsed.dt.as_unit("us"), INSTANT)
    refuse(texts, pc.or_(instants.is_valid(), pc.equal(texts, "")), name, "is not an instant like 2026-04-01T00:00:00Z")
    return instants


def refuse(texts: Column, good: Column, name: str, what: str) -> None:
    """Raise InvalidBill for the first invalid text; null is valid."""
    bad = pc.invert(pc.fill_null(good, True))
    if pc.any(bad).as_py():
        row = pc.index(bad, True).as_py()
        raise InvalidBill(f"item {row + 1}: {name} {texts[row].as_py()!r} {what}")


def _or_null(texts: Column) -> Column:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, TEXT), texts)


def instant(day: dt.date) -> pa.Scalar:
    """When the day begins, UTC."""
    return pa.scalar(pd.Timestamp(day, tz="UTC").to_pydatetime(), INSTANT)


def with_dates(items: pa.Table, month: BillingMonth) -> pd.DataFrame:
    """The items with the month's bounds where they name no instants."""
    whole = items
    for name, day in (("started_at", month.start), ("ended_at", month.end)):
        filled = pc.fill_null(whole[name], instant(day))
        whole = whole.set_column(ITEMS.get_field_index(name), ITEMS.field(name), filled)
    for name, far, bound in (
        ("start_time", pc.less, pd.Timestamp(month.start, tz="UTC") - _LONGEST),
        ("end_time", pc.greater, pd.Timestamp(month.end, tz="UTC") + _LONGEST),
    ):
        instants = whole["started_at" if name == "start_time" else "ended_at"]
        away = far(instants, pa.scalar(bound.to_pydatetime(), INSTANT))
        refuse(instants.cast(TEXT), pc.invert(away), name, f"is more than a year from {month}")
    backwards = pc.less(whole["ended_at"], whole["started_at"])
    if pc.any(backwards).as_py():
        raise InvalidBill(f"item {pc.index(backwards, True).as_py() + 1} ends before it starts")
    return to_pandas(whole)
