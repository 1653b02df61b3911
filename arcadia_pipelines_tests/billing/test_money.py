"""Exact money: the one rounding, casts that lose nothing, columns that refuse what does not fit."""

from decimal import ROUND_HALF_UP, Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    QUANTITY,
    QUANTITY_SUM,
    TEXT,
    UNIT_PRICE,
    Series,
    cast,
    dollars,
    exact_dollars,
    frame,
    look_up,
    number_of,
    numbers_within,
    plain,
    repeat,
    round_half_up,
    text,
    to_arrow,
    to_pandas,
)
from arcadia_pipelines_tests.billing.columns import LAWS, rows, values

EXACT = pa.decimal128(38, 14)
WHOLE = pa.decimal128(38, 0)


def column(to: pa.DataType, *of: object) -> Series:
    """A column of this type."""
    data: Series = frame(pa.schema([("value", to)]), [(value,) for value in of])["value"]
    return data


def decimals(to: pa.DataType, *of: str | None) -> Series:
    """A column of these decimals."""
    return column(to, *(None if text is None else Decimal(text) for text in of))


def rounded_values(of: pa.DataType, *exact: Decimal | None) -> list[Decimal | None]:
    """These decimals, rounded."""
    return list(round_half_up(pa.array(exact, of)).to_pylist())


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        ("0", 0),
        ("0.5", 1),
        ("-0.5", -1),
        ("1.5", 2),
        ("2.5", 3),
        ("-2.5", -3),
        ("0.49999999999999", 0),
        ("-0.49999999999999", 0),
        ("0.50000000000001", 1),
        ("2.49999999999999", 2),
        ("0.4905", 0),
        ("1607.784", 1608),
        ("999999999999999999999999", 999999999999999999999999),
        ("999999999999999999999998.5", 999999999999999999999999),
        ("999999999999999999999998.49999999999999", 999999999999999999999998),
        ("-999999999999999999999998.5", -999999999999999999999999),
    ],
)
def test_half_a_cent_is_rounded_away_from_zero(exact: str, rounded: int) -> None:
    """0.5 is 1 and 2.5 is 3, where banker's rounding says 0 and 2; -0.5 is -1; a hair under half is nothing."""
    assert rounded_values(EXACT, Decimal(exact)) == [rounded]


def test_rounding_keeps_nulls_and_the_order_of_the_rows() -> None:
    """1.5, nothing, 0.4 are 2, nothing, 0, as decimals."""
    rounded = round_half_up(pa.array([Decimal("1.5"), None, Decimal("0.4")], pa.decimal128(5, 1)))
    assert (rounded.to_pylist(), rounded.type) == ([2, None, 0], WHOLE)


def test_rounding_an_empty_column_is_an_empty_column() -> None:
    """No rows in, no rows out, of the same type as ever."""
    rounded = round_half_up(pa.array([], EXACT))
    assert (len(rounded), rounded.type) == (0, WHOLE)


def test_the_largest_quantity_at_the_largest_price_is_still_exact() -> None:
    """(1e12 - 1e-6) x (1e10 - 1e-8) = 1e22 - 1e4 - 1e4 + 1e-14, which rounds to 9999999999999999980000."""
    quantity, price = Decimal("999999999999.999999"), Decimal("9999999999.99999999")
    product = pc.multiply(pa.array([quantity], QUANTITY), pa.array([price], UNIT_PRICE))
    assert product.to_pylist() == [Decimal("9999999999999999980000.00000000000001")]
    assert round_half_up(product).to_pylist() == [9999999999999999980000]


def test_rounding_refuses_what_has_more_digits_than_a_product_can_have() -> None:
    """Quantity has 6 decimals and price 8, a product 14: a 15th would have to be cut first."""
    with pytest.raises(pa.ArrowInvalid):
        rounded_values(pa.decimal128(38, 15), Decimal("0.499999999999995"))


@LAWS
@given(st.lists(st.none() | st.decimals(-(10**20), 10**20, places=14)))
def test_rounding_is_what_pythons_decimal_calls_half_up(exact: list[Decimal | None]) -> None:
    """The same answer from another implementation, for a column of any length, nulls included."""
    expected = [None if value is None else value.quantize(Decimal(1), ROUND_HALF_UP) for value in exact]
    assert rounded_values(EXACT, *exact) == expected


@pytest.mark.parametrize(
    ("data", "to", "expected"),
    [
        pytest.param(column(CENTS, 5000, None), UNIT_PRICE, [5000, None], id="cents to a unit price"),
        pytest.param(column(COUNT, 2147483647), QUANTITY, [2147483647], id="largest count to a quantity"),
        pytest.param(column(CENTS, 2**63 - 1, -(2**63)), WHOLE, [2**63 - 1, -(2**63)], id="64 bits to a decimal"),
        pytest.param(decimals(WHOLE, "9223372036854775807"), CENTS, [2**63 - 1], id="a decimal to 64 bits"),
        pytest.param(decimals(WHOLE, "9" * 38), WHOLE, [10**38 - 1], id="38 digits"),
        pytest.param(decimals(QUANTITY_SUM, "0.500000"), QUANTITY, [Decimal("0.5")], id="a sum to a quantity"),
        pytest.param(decimals(QUANTITY, "0.000001", "2160"), TEXT, ["0.000001", "2160.000000"], id="to text"),
        pytest.param(decimals(EXACT, "1.50000000000000"), pa.decimal128(2, 1), [Decimal("1.5")], id="zeros go"),
        pytest.param(column(CENTS), QUANTITY, [], id="empty"),
    ],
)
def test_a_cast_keeps_every_digit(data: Series, to: pa.DataType, expected: list[object]) -> None:
    """5000 cents are 5000.00000000 cents, and the largest 64-bit integer survives a decimal and back."""
    after = cast(data, to)
    assert values(after) == expected
    assert after.dtype == pd.ArrowDtype(to)


@pytest.mark.parametrize(
    ("data", "to"),
    [
        pytest.param(decimals(EXACT, "0.5"), CENTS, id="half a cent to cents"),
        pytest.param(decimals(EXACT, "0.5"), WHOLE, id="half a cent to a whole number"),
        pytest.param(decimals(pa.decimal128(20, 7), "0.0000001"), QUANTITY, id="a seventh decimal"),
        pytest.param(decimals(QUANTITY_SUM, "1000000000000"), QUANTITY, id="a quantity of 1e12"),
        pytest.param(column(CENTS, 10**10), UNIT_PRICE, id="a price of 1e10 cents"),
        pytest.param(decimals(WHOLE, "9223372036854775808"), CENTS, id="past 64 bits"),
    ],
)
def test_a_cast_refuses_to_lose_a_digit(data: Series, to: pa.DataType) -> None:
    """0.5 is no whole number of cents, and 2^63 = 9223372036854775808 is one more than 64 bits hold."""
    with pytest.raises(pa.ArrowInvalid):
        cast(data, to)


def test_a_cast_keeps_the_labels_of_its_rows() -> None:
    """Rows 4 and 2 stay rows 4 and 2, so that a column fits back into its frame."""
    assert list(cast(column(CENTS, 1, 2).set_axis([4, 2]), QUANTITY).index) == [4, 2]


@pytest.mark.parametrize(
    ("cents", "text"),
    [
        (0, "0.00"),
        (5, "0.05"),
        (-1, "-0.01"),
        (-5, "-0.05"),
        (50, "0.50"),
        (100, "1.00"),
        (-199, "-1.99"),
        (99999, "999.99"),
        (100000, "1,000.00"),
        (1234567, "12,345.67"),
        (-1234567, "-12,345.67"),
        (9223372036854775807, "92,233,720,368,547,758.07"),
    ],
)
def test_cents_are_written_as_dollars(cents: int, text: str) -> None:
    """5 cents are 0.05 dollars and 1,234,567 cents are 12,345.67, to the last cent of 64 bits."""
    assert dollars(cents) == text


SCHEMA = pa.schema([("name", TEXT), ("quantity", QUANTITY), ("price", UNIT_PRICE), ("cents", CENTS)])


def test_a_frame_has_the_columns_and_types_of_its_schema() -> None:
    """Two rows in, the same two rows out, typed; a null stays null."""
    given_rows = [("a", Decimal("0.000001"), Decimal("0.74400000"), 1), (None, None, None, None)]
    data = frame(SCHEMA, list(given_rows))
    assert rows(data) == given_rows
    assert to_arrow(data, SCHEMA).schema == SCHEMA
    assert [dtype.pyarrow_dtype for dtype in data.dtypes] == SCHEMA.types


@pytest.mark.parametrize("nothing", [None, []], ids=["none", "empty list"])
def test_a_frame_without_rows_still_has_its_columns_and_types(nothing: list[tuple[object, ...]] | None) -> None:
    """An empty month has the same columns as a full one."""
    data = frame(SCHEMA, nothing)
    assert len(data) == 0
    assert to_arrow(data, SCHEMA).schema == SCHEMA
    assert [dtype.pyarrow_dtype for dtype in data.dtypes] == SCHEMA.types


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(("a", Decimal("0.0000001"), Decimal(0), 0), id="a seventh decimal of a quantity"),
        pytest.param(("a", Decimal(10**12), Decimal(0), 0), id="a quantity of 1e12"),
        pytest.param(("a", Decimal(0), Decimal("0.000000001"), 0), id="a ninth decimal of a price"),
        pytest.param(("a", Decimal(0), Decimal(10**10), 0), id="a price of 1e10"),
        pytest.param(("a", Decimal(0), Decimal(0), Decimal("0.5")), id="half a cent"),
        pytest.param(("a", Decimal(0), Decimal(0), 0.5), id="half a cent as a binary float"),
        pytest.param(("a", 0.1, Decimal(0), 0), id="a binary float"),
        pytest.param(("a", Decimal("NaN"), Decimal(0), 0), id="not a number"),
        pytest.param((1, Decimal(0), Decimal(0), 0), id="a number for a text"),
    ],
)
def test_a_frame_refuses_a_value_that_does_not_fit(row: tuple[object, ...]) -> None:
    """12 digits before the point and 6 after is a quantity; 10 and 8 a price; cents are whole; no float is money."""
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        frame(SCHEMA, [row])


def test_a_frame_says_which_column_does_not_fit() -> None:
    """Half a cent among whole ones, which Arrow itself would cut off."""
    message = r"^cents: \(1, Decimal\('0\.5'\)\) does not fit int64$"
    with pytest.raises(pa.ArrowInvalid, match=message):
        frame(SCHEMA, [("a", Decimal(0), Decimal(0), 1), ("b", Decimal(0), Decimal(0), Decimal("0.5"))])


def test_a_frame_refuses_64_bits_too_many() -> None:
    """2^63 = 9223372036854775808 cents are one cent more than 64 bits hold."""
    with pytest.raises(OverflowError):
        frame(SCHEMA, [("a", Decimal(0), Decimal(0), 2**63)])


@pytest.mark.parametrize("row", [("a", Decimal(0), Decimal(0)), ("a", Decimal(0), Decimal(0), 0, 0)], ids=["3", "5"])
def test_a_frame_refuses_a_row_of_another_length(row: tuple[object, ...]) -> None:
    """The schema has four columns: three values leave one out, five have nowhere to go."""
    with pytest.raises(ValueError, match=r"zip\(\)"):
        frame(SCHEMA, [row])
    with pytest.raises(ValueError, match=r"zip\(\)"):
        frame(SCHEMA, [("a", Decimal(0), Decimal(0), 0), row])


def test_to_arrow_takes_the_schemas_columns_in_its_order_and_leaves_the_rest() -> None:
    """Of cents, colour and name, in rows 9 and 8, a schema of name and cents takes name and cents."""
    data = pd.DataFrame(
        {"cents": column(CENTS, 1, 2), "colour": column(TEXT, "red", "blue"), "name": column(TEXT, "a", "b")}
    ).set_axis([9, 8])
    table = to_arrow(data, pa.schema([("name", TEXT), ("cents", CENTS)]))
    assert table.to_pylist() == [{"name": "a", "cents": 1}, {"name": "b", "cents": 2}]


def test_to_arrow_refuses_what_does_not_fit() -> None:
    """Half a cent is not cents."""
    with pytest.raises(pa.ArrowInvalid):
        to_arrow(decimals(EXACT, "0.5").to_frame("cents"), pa.schema([("cents", CENTS)]))


def test_a_table_goes_to_pandas_and_back_unchanged() -> None:
    """Decimals stay decimals with all of their digits, nulls stay nulls."""
    table = pa.table({"quantity": pa.array([Decimal("0.000001"), None], QUANTITY), "name": ["é", None]})
    assert to_arrow(to_pandas(table), table.schema).equals(table)


def test_a_text_is_put_together_for_each_row() -> None:
    """Words stand on every row; a row without one of its parts has no text."""
    names, places = pa.chunked_array([["a"], ["b"]]), pa.array(["x", None])
    assert text("from ", names, " to ", places).to_pylist() == ["from a to x", None]


def test_a_look_up_puts_the_row_of_its_key_beside_each_row() -> None:
    """Of the keys 2, nothing, 9, 2 in a table of 1 and 2: the row 2, none, none, the row 2, and what was there."""
    rows_of = pa.table({"key": [2, None, 9, 2], "name": ["a", "b", "c", "d"]})
    of = pa.table({"key": [1, 2], "unit": ["hour", "gb"], "cents": [10, 20]})
    found = look_up(rows_of, of, (rows_of["key"], of["key"]), "cents", "unit")
    assert found.to_pydict() == {
        "key": [2, None, 9, 2],
        "name": ["a", "b", "c", "d"],
        "cents": [20, None, None, 20],
        "unit": ["gb", None, None, "gb"],
    }


def test_a_price_in_cents_is_told_in_dollars_to_the_last_digit() -> None:
    """Also where it has more digits than Decimal's context keeps."""
    prices = {"5000": "50.00", "0.744": "0.00744", "1.00000000": "0.01", "-100": "-1.00", "46.5": "0.465", "0": "0.00"}
    assert {cents: exact_dollars(Decimal(cents)) for cents in prices} == prices
    assert exact_dollars(Decimal("12345678901234567890123456789.25")) == "123,456,789,012,345,678,901,234,567.8925"


def test_rows_are_numbered_within_their_group() -> None:
    """Groups 7, 3, 7, 7, 3 in two pieces: the first, second and third 7, the first and second 3; of no rows none."""
    assert numbers_within(pa.chunked_array([[7, 3], [7, 7, 3]])).to_pylist() == [1, 1, 2, 3, 2]
    assert numbers_within(pa.chunked_array([], pa.int64())).to_pylist() == []


def test_a_value_is_repeated_for_each_row_of_a_frame() -> None:
    """Two rows labelled 3 and 1 get two ones, labelled 3 and 1."""
    ones = repeat(Decimal(1), QUANTITY, column(TEXT, "a", "b").set_axis([3, 1]).to_frame("name"))
    assert (values(ones), list(ones.index), ones.dtype) == ([1, 1], [3, 1], pd.ArrowDtype(QUANTITY))


@pytest.mark.parametrize(
    ("number", "things", "said"),
    [
        (0, "invoices", "0 invoices"),
        (1, "invoices", "1 invoice"),
        (2, "invoices", "2 invoices"),
        (1234, "usage records", "1,234 usage records"),
        (1, "usage records", "1 usage record"),
        (1, "hashes", "1 hash"),
        (1, "differences", "1 difference"),
        (1, "sums", "1 sum"),
    ],
)
def test_one_thing_is_named_in_the_singular(number: int, things: str, said: str) -> None:
    assert number_of(number, things) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [("1488", "1,488"), ("1200.50", "1,200.5"), ("0.744", "0.744"), ("-10.000", "-10"), ("100", "100")],
)
def test_a_decimal_is_said_without_zeros_behind_it(number: str, said: str) -> None:
    assert plain(Decimal(number)) == said
