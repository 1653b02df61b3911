"""Exact money: the column types and the one rounding function.

Amounts are whole cents AUD, unit prices are cents to 8 decimals, quantities have 6 decimals. Columns compute as Arrow
decimals: 18 + 18 digits multiply to 37, which decimal128 holds, so a product is exact until it is rounded.
"""

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pa.string()
COUNT = pa.int64()
FLAG = pa.bool_()
CENTS = pa.int64()
QUANTITY = pa.decimal128(18, 6)
UNIT_PRICE = pa.decimal128(18, 8)
QUANTITY_SUM = pa.decimal128(38, 6)
"""A sum of quantities, which may be too large to bill."""
WHOLE = pa.decimal128(38, 0)
"""A whole number of any size."""

DAYS = pa.decimal128(2, 0)

ONE = pa.scalar(Decimal(1), QUANTITY)

QUANTITY_LIMIT = Decimal(10**12)
UNIT_PRICE_LIMIT = 10**10
"""Cents; a price of 100 million dollars a unit, or more, does not fit numeric(18,8)."""
SUBTOTAL_LIMIT = Decimal(8 * 10**18)
"""Cents; with GST on top it still fits 64 bits."""

Row = tuple[object, ...]
Series: TypeAlias = "pd.Series[Any]"
"""An Arrow-typed column of a frame; pandas' stubs know no Arrow types."""
Column: TypeAlias = Any
"""A pyarrow.ChunkedArray or Array; pyarrow has no types for mypy."""


def frame(schema: pa.Schema, rows: list[Row] | None = None) -> pd.DataFrame:
    """A frame of the schema's columns, Arrow-typed.

    Raises pyarrow.ArrowInvalid, pyarrow.ArrowTypeError or OverflowError where a value does not fit its type.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [_exact(column, field) for column, field in zip(columns, schema, strict=True)]
    return to_pandas(pa.Table.from_arrays(arrays, schema=schema))


def _exact(column: Row, field: pa.Field) -> pa.Array:
    """The column as the field's type; Arrow itself would cut half a cent off without a word."""
    array = pa.array(column, field.type)
    if array.to_pylist() != list(column):
        raise pa.ArrowInvalid(f"{field.name}: {column} does not fit {field.type}")
    return array


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The table as Arrow-typed pandas columns; nothing is converted."""
    columns = zip(table.column_names, table.columns, strict=True)
    return pd.DataFrame({name: pd.arrays.ArrowExtensionArray(column) for name, column in columns}, copy=False)


def to_arrow(data: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The schema's columns of the frame, in its order. Raises pyarrow.ArrowInvalid where a value does not fit."""
    columns = [pa.array(data[field.name].array, field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def exact(column: Column, to: pa.DataType) -> Column:
    """The column as another Arrow type. Raises pyarrow.ArrowInvalid rather than lose a digit."""
    if pa.types.is_decimal(to):  # Arrow wants room for 19 digits of an integer before it looks at the values
        column = column.cast(pa.decimal128(38, to.scale))
    return column.cast(to)


def cast(column: Series, to: pa.DataType) -> Series:
    """A frame's column as another Arrow type, with its rows' labels; see exact()."""
    return pd.Series(pd.arrays.ArrowExtensionArray(exact(pa.array(column), to)), index=column.index)


def round_half_up(column: Column) -> Column:
    """Decimals rounded to whole numbers, half up (away from zero for negatives), still as decimals.

    The only rounding in the project: a line's amount (quantity x unit price / price_per), what a part month makes of an
    allowance or a limit, and an invoice's GST go through here.
    """
    return pc.round(column.cast(pa.decimal128(38, 14)), round_mode="half_towards_infinity").cast(WHOLE)


def divided(amounts: Column, days: Column) -> Column:
    """Amounts of at most 24 digits and 6 decimals divided by days of a month, cut off after 9 decimals.

    That is as good as the exact quotient to whoever rounds half up: it is at least a half if and only if that is.
    """
    return pc.divide(exact(amounts, pa.decimal128(30, 6)), exact(days, DAYS))


def millionths(quantities: Column) -> Column:
    """Quantities to 6 decimals as whole numbers of millionths."""
    return _array(quantities).view(pa.decimal128(quantities.type.precision, 0))


def of_millionths(whole: Column) -> Column:
    """Whole numbers of millionths as quantities."""
    return _array(exact(whole, pa.decimal128(18, 0))).view(QUANTITY)


def _array(column: Column) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def text(*parts: Column | str) -> Column:
    """The parts of each row after one another; null where one of them is null."""
    return pc.binary_join_element_wise(*parts, "")


def json_text(column: Column) -> Column:
    """Each text as JSON has it, quoted, spelled as PostgreSQL spells jsonb. For columns of few different texts."""
    encoded = column.combine_chunks().dictionary_encode()
    spelled = [json.dumps(value, ensure_ascii=False) for value in encoded.dictionary.to_pylist()]
    return pa.array(spelled, TEXT).take(encoded.indices)


def with_columns(rows: pa.Table, **columns: Column) -> pa.Table:
    """The rows with these columns more."""
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


def look_up(rows: pa.Table, table: pa.Table, keys: Iterable[Column], *columns: str) -> pa.Table:
    """The rows with these columns of the table's row that has their key; null where none has.

    `keys` are those of the rows and those of the table, which has one row for each.
    """
    found = table.select(columns).take(pc.index_in(*keys))
    return with_columns(rows, **{name: found[name] for name in columns})


def numbers_within(groups: Column) -> Column:
    """Each row's number within its group, from 1 in the order of the rows. A group is named by an integer."""
    before = pc.subtract(pc.rank(groups, tiebreaker="first"), pc.rank(groups, tiebreaker="min"))
    return pc.add(before, 1)


def repeat(value: object, to: pa.DataType, like: pd.DataFrame) -> Series:
    """The value once for each row of `like`."""
    return pd.Series(pa.repeat(pa.scalar(value, to), len(like)), index=like.index, dtype=pd.ArrowDtype(to))


def number_of(number: int, things: str) -> str:
    """How many of the things, which are named in the plural: 1 invoice, 2,000 invoices."""
    return f"{number:,} {things if number != 1 else re.sub('(?<=sh)es$|s$', '', things)}"


def dollars(cents: int) -> str:
    """Cents as people write them: 1234567 is 12,345.67."""
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole:,}.{rest:02d}"


def exact_dollars(cents: Decimal) -> str:
    """Cents and parts of them as dollars, nothing rounded: 5000 is 50.00, and 0.744 is 0.00744."""
    sign, digits, exponent = cents.as_tuple()
    whole, _, decimals = plain(Decimal((sign, digits, int(exponent) - 2))).partition(".")
    return f"{whole}.{decimals:0<2}"


def price(cents: Decimal) -> str:
    """A unit price as people read it, in dollars with all its decimals: 1 is $0.01, and 0.744 is $0.00744."""
    return f"{'-' if cents < 0 else ''}${exact_dollars(abs(cents))}"


def plain(number: Decimal) -> str:
    """A decimal as people write it, without trailing zeros: 1,488 or 0.744."""
    whole, _, decimals = f"{number:,f}".partition(".")
    return f"{whole}.{decimals.rstrip('0')}".rstrip(".")
