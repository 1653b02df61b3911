"""Months in chunks: whole tenants, every row once, in one state of the database, whatever the chunks' size."""

import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import COUNT, FLAG, QUANTITY, QUANTITY_SUM, TEXT
from arcadia_pipelines.storage import database, streams
from arcadia_pipelines.storage.streams import Query, ahead

OWNED = pa.schema([("tenant_id", TEXT), ("place", COUNT)])


@pytest.fixture(scope="module")
def connection(server_url: str) -> Iterator[Connection]:
    """A connection to read on."""
    with database.transaction(database.engine(server_url)) as connection:
        yield connection


@pytest.fixture(params=[0, 20_000], ids=["in chunks", "at once"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come on connections of their own, and on the caller's."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", request.param)


def owned(*tenants: str | None) -> Query:
    """A row for each, numbered from 1."""
    rows = ", ".join(
        f"({psycopg.sql.Literal(tenant).as_string()}::text, {place})" for place, tenant in enumerate(tenants, start=1)
    )
    return Query(f"select * from (values {rows or '(null, 0)'}) v (tenant_id, place) where place > 0", OWNED)


def chunks(connection: Connection, *queries: Query) -> list[list[list[str | None]]]:
    """The chunks' tenants, query by query."""
    return [[list(frame["tenant_id"]) for frame in chunk] for chunk in streams.chunks(connection, {}, *queries)]


def test_a_chunk_has_whole_tenants_and_those_between_them(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows make a chunk: a and b, then c with its three; the second query's rows go with their tenants."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", 1)
    assert chunks(connection, owned("c", "a", "c", "b", "c"), owned("d", "aa", "b", "a", "0")) == [
        [["a", "b"], ["0", "a", "aa", "b"]],
        [["c", "c", "c"], []],
        [[], ["d"]],
    ]


def test_rows_without_a_tenant_are_in_the_last_chunk(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to nobody, and are lost for nobody."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", 0)
    assert chunks(connection, owned("a", "b"), owned(None, "b", None)) == [
        [["a"], []],
        [["b"], ["b"]],
        [[], [pd.NA, pd.NA]],
    ]


def test_nothing_at_all_is_one_empty_chunk(connection: Connection) -> None:
    """Whoever computes a month computes at least once."""
    assert chunks(connection, owned(), owned()) == [[[], []]]


TENANTS = st.lists(st.sampled_from(["a", "A", "é", "ab", "z", "\U0001f600", "~", "", None]), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=TENANTS, second=TENANTS, rows=st.integers(0, 8))
def test_every_row_comes_once_and_tenants_are_never_split(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    first: list[str | None],
    second: list[str | None],
    rows: int,
) -> None:
    """Whatever the tenants are called, and however large a chunk is."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", rows)
    found = list(streams.chunks(connection, {}, owned(*first), owned(*second)))
    for place, tenants in enumerate([first, second]):
        everything = pd.concat([chunk[place] for chunk in found])
        assert sorted(everything["place"]) == list(range(1, len(tenants) + 1))
    seen: set[str] = set()
    for chunk in found:
        tenants_here = {tenant for frame in chunk for tenant in frame["tenant_id"].dropna()}
        assert seen.isdisjoint(tenants_here)
        seen |= tenants_here


@pytest.mark.usefixtures("either_way")
def test_values_come_as_they_are(connection: Connection) -> None:
    """Decimals to the last digit, texts to the last blank, nulls as nulls; a tenant only if it is asked for."""
    schema = pa.schema(
        [("flag", FLAG), ("text", TEXT), ("sum", QUANTITY_SUM), ("quantity", QUANTITY), ("count", COUNT)]
    )
    query = Query(
        """
        select 't' as tenant_id, * from (values
            (true, '', 12345678901234567890123456789012.123456::numeric, 0.000001::numeric, -9223372036854775808),
            (null, null, null, null, null), (false, E' a\\n"b",\\t', -0.1, 999999999999.999999, %(count)s)
        ) v (flag, text, sum, quantity, count)
        """,
        schema,
    )
    frame = streams.whole(connection, {"count": 7}, query)
    assert list(frame.columns) == schema.names
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [
        [True, "", Decimal("12345678901234567890123456789012.123456"), Decimal("0.000001"), -(2**63)],
        [None, None, None, None, None],
        [False, ' a\n"b",\t', Decimal("-0.1"), Decimal("999999999999.999999"), 7],
    ]


@pytest.mark.usefixtures("either_way")
def test_a_number_that_does_not_fit_is_refused_not_rounded(connection: Connection) -> None:
    """A view may have half a cent where cents are whole."""
    with pytest.raises(pa.ArrowInvalid):
        streams.whole(connection, {}, Query("select 'a' as tenant_id, 10.5 as place", OWNED))


@pytest.mark.usefixtures("either_way")
def test_the_state_is_that_of_the_call(url: str) -> None:
    """What is committed, or written on the connection, before a chunk is read is not in it."""
    query = Query("select id as tenant_id, 1 as place from cloud.tenants", OWNED)
    with database.transaction(database.engine(url)) as connection:
        found = streams.chunks(connection, {}, query)
        connection.exec_driver_sql("insert into cloud.tenants values ('mine', 'Mine', null, null)")
        with psycopg.connect(url) as other:
            other.execute("insert into cloud.tenants values ('theirs', 'Theirs', null, null)")
        assert [len(frame) for (frame,) in found] == [0]


@pytest.mark.usefixtures("either_way")
def test_an_error_of_the_database_has_its_code(server_url: str) -> None:
    """So that what passes by itself is retried, and what does not is explained."""
    failing = database.engine(server_url).connect()
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"), failing as connection:
        streams.whole(connection, {}, Query("select 'a' as tenant_id, 1 / 0 as place", OWNED))


def test_the_next_item_is_made_while_one_is_used() -> None:
    """The second is under way before the first is done with."""
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    made = ahead(items())
    assert next(made) == 1
    assert second.wait(10)
    assert list(made) == [2]


def test_an_error_in_the_making_is_raised_where_the_item_is_used() -> None:
    """After the items before it."""

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(ValueError, match="broken"):
        next(made)


@pytest.mark.usefixtures("either_way")
def test_a_reader_has_the_settings_of_the_connection(connection: Connection) -> None:
    """Whatever the server's own time zone is: texts of instants are the same on both."""
    query = Query(
        "select current_setting('TimeZone') || ', ' || current_setting('search_path') as tenant_id, 1 as place", OWNED
    )
    assert list(streams.whole(connection, {}, query)["tenant_id"]) == ["UTC, pg_catalog, pg_temp"]


def test_two_queries_see_one_state_though_each_statement_of_the_transaction_sees_another(url: str) -> None:
    """A tenant that comes while the first query is read is in neither: both are read elsewhere, in one state."""
    slow = Query("select id as tenant_id, 1 as place from cloud.tenants, lateral (select pg_sleep(0.2)) s", OWNED)
    query = Query("select id as tenant_id, 1 as place from cloud.tenants", OWNED)
    with psycopg.connect(url, autocommit=True) as other, database.transaction(database.engine(url)) as connection:
        other.execute("insert into cloud.tenants values ('first', 'First', null, null)")
        coming = threading.Timer(
            0.1, other.execute, ["insert into cloud.tenants values ('second', 'Second', null, null)"]
        )
        coming.start()
        assert chunks(connection, slow, query) == [[["first"], ["first"]]]
        coming.join()


PADDED = pa.schema([*OWNED, ("pad", TEXT)])


def test_a_reader_that_is_lost_on_the_way_is_a_lost_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first chunk of many the server ends it: the step is retried."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", 1000)
    query = Query(
        "select n::text as tenant_id, n as place, repeat('x', 2000) as pad from generate_series(1, 100000) n", PADDED
    )
    with database.transaction(database.engine(url)) as connection:
        found = streams.chunks(connection, {}, query)
        next(found)
        with psycopg.connect(url) as other:
            other.execute("""
                select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and application_name like 'arcadia reader of %'
            """)
        with pytest.raises(psycopg.OperationalError) as lost:
            list(found)
    assert lost.value.sqlstate in ("57P01", "08006")


def test_an_error_on_the_way_has_its_code_too(connection: Connection) -> None:
    """Rows have come before the one that cannot be computed."""
    query = Query(
        """
        select n::text as tenant_id, n as place
        from (select n, 1 / (60000 - n) as x from generate_series(1, 60000) n offset 0) v where x is not null
        """,
        OWNED,
    )
    with pytest.raises(psycopg.errors.DivisionByZero):
        streams.whole(connection, {}, query)


def test_readers_end_when_the_chunks_are_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fails between two chunks leaves no connection behind, however long the error is held."""
    monkeypatch.setattr(streams, "CHUNK_ROWS", 0)
    readers = "select count(*) from pg_stat_activity where datname = current_database() and application_name like %s"
    with psycopg.connect(url, autocommit=True) as other:
        with database.transaction(database.engine(url)) as connection:
            made = ahead(frame for (frame,) in ahead(streams.chunks(connection, {}, owned("a", "b", "c", "d"))))
            next(made)
            assert other.execute(readers, ["arcadia reader of %"]).fetchone() == (1,)
            made.close()
        deadline = time.monotonic() + 60
        while other.execute(readers, ["arcadia reader of %"]).fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.02)
