"""Part months: the days of the month that a plan which prorates bills, and what they make of prices and allowances.

Belongs here: what a part month costs, in columns. Does not: which days belong to which of a deployment's subscriptions
(storage/catalogue.py reads it). Rows have `daily` (whether their plan prorates), `first_day` and `last_day` (days of
the month; none if the last is before the first) and `days_in_month`.
"""

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import (
    COUNT,
    DAYS,
    ONE,
    QUANTITY,
    TEXT,
    WHOLE,
    Column,
    divided,
    exact,
    millionths,
    of_millionths,
    round_half_up,
    text,
)

_WHOLES = pa.decimal128(19, 0)


def days(rows: pa.Table) -> Column:
    """How many days are billed; null: the plan does not prorate, so a part month costs as much as a whole one."""
    counted = pc.max_element_wise(pc.add(pc.subtract(rows["last_day"], rows["first_day"]), 1), 0)
    return pc.if_else(rows["daily"], counted, pa.scalar(None, COUNT))


def days_in_common(rows: pa.Table, subscribed: pa.Table) -> Column:
    """As days(): those of the rows on which their subscription, in the same row of `subscribed`, is billed."""
    first = pc.max_element_wise(rows["first_day"], subscribed["first_day"])
    last = pc.min_element_wise(rows["last_day"], subscribed["last_day"])
    in_common = {"first_day": first, "last_day": last, "daily": subscribed["daily"]}
    return days(pa.table(in_common))


def is_part(rows: pa.Table) -> Column:
    """Whether fewer `days` than the month has are billed."""
    return pc.fill_null(pc.less(rows["days"], rows["days_in_month"]), False)


def of_month(rows: pa.Table, quantity: Column) -> dict[str, Column]:
    """The qty, unit and price_per of so many of what has a price by the month: of part months so many days."""
    part = is_part(rows)
    if not pc.any(part).as_py():
        return {"qty": exact(quantity, QUANTITY), "unit": pa.repeat("month", len(rows))}
    return {
        "qty": exact(pc.multiply(quantity, pc.if_else(part, rows["days"], 1)), QUANTITY),
        "unit": pc.if_else(part, "day", "month"),
        "price_per": pc.if_else(part, exact(rows["days_in_month"], QUANTITY), ONE),
    }


def scaled(whole: Column, rows: pa.Table) -> Column:
    """Whole cents or millionths x days / days of the month, half up, as decimals; as they are if not daily."""
    unscaled = exact(whole, _WHOLES)
    times = pc.multiply(unscaled, exact(rows["days"], DAYS))
    return pc.coalesce(round_half_up(divided(times, rows["days_in_month"])), exact(unscaled, WHOLE))


def scaled_quantity(quantity: Column, rows: pa.Table) -> Column:
    """As scaled(), of quantities, to 6 decimals."""
    return of_millionths(scaled(millionths(quantity), rows))


def days_of_days(rows: pa.Table) -> Column:
    """The days of part months in words, like 14 of 28; null for whole months."""
    part = is_part(rows)
    if not pc.any(part).as_py():
        return pa.nulls(len(rows), TEXT)
    words = text(rows["days"].cast(TEXT), " of ", rows["days_in_month"].cast(TEXT))
    return pc.if_else(part, words, pa.scalar(None, TEXT))
