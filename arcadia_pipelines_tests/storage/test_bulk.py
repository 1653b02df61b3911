"""COPY in and out: what goes into PostgreSQL comes back as it was, to the last digit and the last blank."""

from collections.abc import Iterator
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import CENTS, COUNT, FLAG, QUANTITY, QUANTITY_SUM, TEXT, UNIT_PRICE, frame
from arcadia_pipelines.storage import bulk, database

SCHEMA = pa.schema(
    [
        ("place", COUNT),
        ("label", TEXT),
        ("flag", FLAG),
        ("cents", CENTS),
        ("quantity", QUANTITY),
        ("price", UNIT_PRICE),
        ("quantity_sum", QUANTITY_SUM),
        ("tax", pa.decimal128(27, 8)),
    ]
)
"""A column of every type that the pipeline moves."""

TABLE = """
    create temporary table bulk (
        place bigint, label text, flag boolean, cents bigint, quantity numeric(18, 6), price numeric(18, 8),
        quantity_sum numeric(38, 6), tax numeric(27, 8)
    ) on commit drop
"""


@pytest.fixture(scope="module")
def session(server_url: str) -> Iterator[Connection]:
    """A connection with a table of every type, which leaves nothing."""
    with database.transaction(database.engine(server_url)) as connection:
        connection.exec_driver_sql(TABLE)
        yield connection


@pytest.fixture
def connection(session: Connection) -> Iterator[Connection]:
    """The connection, with the table empty before and after."""
    savepoint = session.begin_nested()
    yield session
    savepoint.rollback()


def there_and_back(connection: Connection, data: pd.DataFrame, schema: pa.Schema = SCHEMA) -> pd.DataFrame:
    """Write the rows, read them in the order of the first column."""
    connection.exec_driver_sql("delete from pg_temp.bulk")
    rows = bulk.encode(data, schema, bulk.types_of(connection, "pg_temp.bulk"))
    bulk.copy(connection, "pg_temp.bulk", rows)
    return bulk.read(connection, f"select * from pg_temp.bulk order by {schema.names[0]} nulls first", schema, {})


TEXTS = [
    "",
    " ",
    "NULL",
    "null",
    "nan",
    "N/A",
    "-",
    "0012",
    "1e5",
    "true",
    "2026-04-01",
    "plan",
    " blanks around ",
    "a,b",
    ",",
    'say "hello"',
    '"',
    '""',
    "it's",
    "line\nbreak",
    "\n",
    "carriage\rreturn",
    "dos\r\nline",
    "\r\n",
    "tab\there",
    "\\",
    "\\N",
    "\\.",
    "\\.\n",
    "a\n\\.\nb",
    "back\\slash\\",
    "%s %(name)s %",
    "{}",
    '{"used": "2160.000000", "who": "O\'Brien & Söhne"}',
    "Söhne",
    "日本語",
    "👩‍🚀",
    "e\u0301 is not é",
    "\u200b",
    "\ufeff",
    "\x01\x1f\x7f",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", [None, *TEXTS], ids=lambda text: repr(text)[:20])
def test_a_text_comes_back_as_it_was(connection: Connection, text: str | None) -> None:
    """Empty is not null, and no quote, comma, newline or backslash is lost or added."""
    data = frame(SCHEMA, [(1, text, True, 0, Decimal(0), Decimal(0), Decimal(0), Decimal(0))])
    back = there_and_back(connection, data)
    assert pa.Table.from_pandas(back)["label"].to_pylist() == [text]
    assert connection.exec_driver_sql("select label, octet_length(label) from pg_temp.bulk").one() == (
        text,
        None if text is None else len(text.encode()),
    )


def test_all_texts_at_once_stay_in_their_rows(connection: Connection) -> None:
    """A newline in one row does not shift the next."""
    rows = [(n, text, None, n, None, None, None, None) for n, text in enumerate([None, *TEXTS])]
    back = there_and_back(connection, frame(SCHEMA, [*rows]))
    assert pa.Table.from_pandas(back)["label"].to_pylist() == [None, *TEXTS]


ROWS: list[tuple[object, ...]] = [
    (1, "ordinary", True, 5000, Decimal("2160"), Decimal("0.744"), Decimal("2160"), Decimal("642")),
    (2, "nothing", None, None, None, None, None, None),
    (3, None, False, 0, Decimal(0), Decimal(0), Decimal(0), Decimal(0)),
    (
        4,
        "the largest",
        True,
        2**63 - 1,
        Decimal("999999999999.999999"),
        Decimal("9999999999.99999999"),
        Decimal("99999999999999999999999999999999.999999"),
        Decimal("9999999999999999999.99999999"),
    ),
    (
        5,
        "the lowest",
        False,
        -(2**63),
        Decimal("-999999999999.999999"),
        Decimal("-9999999999.99999999"),
        Decimal("-99999999999999999999999999999999.999999"),
        Decimal("-9999999999999999999.99999999"),
    ),
    (
        6,
        "the smallest",
        True,
        1,
        Decimal("0.000001"),
        Decimal("0.00000001"),
        Decimal("0.000001"),
        Decimal("0.00000001"),
    ),
    (
        7,
        "just below zero",
        False,
        -1,
        Decimal("-0.000001"),
        Decimal("-0.00000001"),
        Decimal("-0.000001"),
        Decimal("-0.00000001"),
    ),
]


def test_every_type_comes_back_at_its_edges(connection: Connection) -> None:
    """Arrow spells 0.00000001 as 1E-8 and PostgreSQL does not; nothing is lost between them."""
    written = frame(SCHEMA, ROWS)
    back = there_and_back(connection, written)
    assert pa.Table.from_pandas(back, SCHEMA).equals(pa.Table.from_pandas(written, SCHEMA))
    stored = connection.exec_driver_sql("select * from pg_temp.bulk order by place")
    assert [tuple(row) for row in stored] == ROWS


def test_no_rows_come_back_as_typed_columns(connection: Connection) -> None:
    """An empty month has columns too."""
    back = there_and_back(connection, frame(SCHEMA))
    assert pa.Schema.from_pandas(back, preserve_index=False).equals(SCHEMA)
    assert len(back) == 0


@pytest.mark.parametrize("values", [[None], [None, "", "x"], [""], [None, None]], ids=repr)
def test_a_single_column_keeps_its_nulls(connection: Connection, values: list[str | None]) -> None:
    """A null is an empty line then, and an empty line is a row."""
    schema = pa.schema([("label", TEXT)])
    back = there_and_back(connection, frame(schema, [(value,) for value in values]), schema)
    assert pa.Table.from_pandas(back)["label"].to_pylist() == values


def test_more_rows_than_a_batch_come_back(connection: Connection) -> None:
    """100,001 rows go out in two batches: each once, with its own text."""
    count = 100_001
    labels = pa.array([f'row "{n}",\n' for n in range(count)])
    data = pd.DataFrame(
        {
            "place": pd.Series(pa.array(range(count)), dtype=pd.ArrowDtype(COUNT)),
            "label": pd.Series(labels, dtype=pd.ArrowDtype(TEXT)),
        }
    )
    schema = pa.schema([("place", COUNT), ("label", TEXT)])
    back = pa.Table.from_pandas(there_and_back(connection, data, schema), schema)
    assert back["place"].combine_chunks().equals(pa.array(range(count)))
    assert back["label"].combine_chunks().equals(labels)


def test_columns_go_by_name_whatever_order_they_are_in(connection: Connection) -> None:
    """The frame may have more columns, in another order, and so may the query."""
    data = frame(SCHEMA, ROWS[:1])[list(reversed(SCHEMA.names))].assign(more="x")
    assert there_and_back(connection, data)["cents"].tolist() == [5000]
    narrow = pa.schema([("quantity", QUANTITY), ("place", COUNT)])
    back = bulk.read(connection, "select * from pg_temp.bulk", narrow, {})
    assert pa.Table.from_pandas(back).to_pylist() == [{"quantity": Decimal("2160.000000"), "place": 1}]


def test_parameters_are_bound_not_pasted(connection: Connection) -> None:
    """A quote in a value is a quote in a value."""
    there_and_back(connection, frame(SCHEMA, [(1, "it's %s", None, 1, None, None, None, None)]))
    query = "select * from pg_temp.bulk where label = %(label)s and label like '%%''%%'"
    assert len(bulk.read(connection, query, SCHEMA, {"label": "it's %s"})) == 1
    assert len(bulk.read(connection, query, SCHEMA, {"label": "' or true --"})) == 0


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "10000000000000000000", "0.0000001"],
    ids=["not a number", "infinite", "too large", "too many decimals"],
)
def test_a_number_that_does_not_fit_is_refused_not_bent(connection: Connection, value: str) -> None:
    """Reading numeric(18,6) from what is not: an error, never another number."""
    with pytest.raises(pa.ArrowInvalid):
        bulk.read(connection, f"select '{value}'::numeric as quantity", pa.schema([("quantity", QUANTITY)]), {})


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
texts = st.none() | st.text(characters | st.sampled_from('",\n\r\\.N '), max_size=30)


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal | None]:
    """Any number that fits numeric(digits, places), or null."""
    unscaled = st.integers(-(10**digits) + 1, 10**digits - 1)
    return st.none() | unscaled.map(lambda number: Decimal(f"{number}e-{places}"))


rows = st.tuples(
    texts,
    st.none() | st.booleans(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    decimals(18, 6),
    decimals(18, 8),
    decimals(38, 6),
    decimals(27, 8),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, max_size=8))
def test_any_rows_come_back_as_they_were(connection: Connection, values: list[tuple[object, ...]]) -> None:
    """Whatever texts and numbers a month holds, in every column and beside each other."""
    numbered = [(place, *row) for place, row in enumerate(values)]
    back = there_and_back(connection, frame(SCHEMA, [*numbered]))
    assert [tuple(row.values()) for row in pa.Table.from_pandas(back, SCHEMA).to_pylist()] == numbered
