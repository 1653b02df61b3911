"""Reads as large as a month, in chunks of whole tenants: what is held in memory does not grow with the month.

Each query has a connection of its own, on which PostgreSQL's rows become Arrow columns as they arrive (ADBC). All of
them see one state of the database. Computation overlaps with reading, in a thread: see ahead(). What makes one chunk
is read on the caller's connection: to open the others takes longer than to read it.
"""

import functools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import adbc_driver_manager
import adbc_driver_postgresql
import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import TEXT, to_pandas
from arcadia_pipelines.storage import bulk, session, waits
from arcadia_pipelines.storage.database import driver

CHUNK_ROWS = 20_000
"""About how many rows of the first query make a chunk."""

LOCK_WAIT_MS = 20_000
"""How long a reader waits for a table: its holder may itself wait for the connection that waits for the reader."""

# With this time-out Linux takes a client for vanished that reads nothing for a minute, as ours may while it waits for
# another connection. A reader keeps nobody waiting, so it needs no time-out.
_PATIENT = "select pg_catalog.set_config('tcp_user_timeout', '0', false)"
_BATCH_BYTES = 4 * 1024 * 1024
_END: Any = object()
Item = TypeVar("Item")


@dataclass(frozen=True)
class Query:
    """What to stream: the text selects the schema's columns by name, and tenant_id."""

    text: str
    schema: pa.Schema
    at_most: str = ""
    """A query of no fewer rows that is faster to count, if there is one."""


def chunks(
    connection: Connection, parameters: Mapping[str, object], *queries: Query, only: Sequence[str] | None = None
) -> Iterator[tuple[pd.DataFrame, ...]]:
    """For some thousand tenants at a time, in order, a frame per query with these tenants' rows; at least one chunk.

    Rows without a tenant are in the last chunk. If `only` is given, other tenants' rows are left out. The queries
    see what is committed at this call, and not what others commit later; this connection must not have written what
    they read. They run in its role, and no longer than its statements may. After this call it is not used any more.
    """
    few = _few(connection, parameters, queries, only)
    if few is not None:
        return iter([few])
    shared = _shared(connection)
    texts = [_bound(connection, _select(query, only), {**parameters, "only": only}) for query in queries]
    return _chunks(shared, texts, [query.schema for query in queries])


def batches(
    connection: Connection, parameters: Mapping[str, object], query: str, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The query's rows as the schema's columns, which it must select by those names, some thousand at a time.

    In the query's order. It sees, and may do, what those of chunks() do. Raises pyarrow.ArrowInvalid for a value that
    is not of its column's type.
    """
    shared = _shared(connection)
    columns = ", ".join(f"{name}::text" for name in schema.names)
    text = _bound(connection, f"select {columns} from ({query}) q", parameters)
    with _as_psycopg(), _connect(shared.server) as reader:
        _settle(reader, shared.name)
        with _rows(reader, shared, text) as rows:
            for batch in rows:
                yield _typed(batch, schema)


def _few(
    connection: Connection, parameters: Mapping[str, object], queries: Sequence[Query], only: Sequence[str] | None
) -> tuple[pd.DataFrame, ...] | None:
    """All rows of each query, if the first has no more than make a chunk; else None.

    And None if two queries on this connection could see two states of the database.
    """
    isolation = connection.exec_driver_sql("select pg_catalog.current_setting('transaction_isolation')").scalar_one()
    if len(queries) > 1 and isolation == "read committed":
        return None
    if queries[0].at_most:
        rows = f"select count(*) from ({queries[0].at_most} limit {CHUNK_ROWS + 1}) q"
        if connection.exec_driver_sql(rows).scalar_one() > CHUNK_ROWS:
            return None
    wanted = {**parameters, "only": only}
    first, *others = [(f"select * from ({query.text}) q {_whose(only)}", query.schema) for query in queries]
    frame = bulk.read(connection, f"{first[0]} limit {CHUNK_ROWS + 1}", first[1], wanted)
    if len(frame) > CHUNK_ROWS:
        return None
    return (frame, *(bulk.read(connection, text, schema, wanted) for text, schema in others))


def _chunks(
    shared: "_Shared", texts: Sequence[str], schemas: Sequence[pa.Schema]
) -> Iterator[tuple[pd.DataFrame, ...]]:
    with _as_psycopg(), ExitStack() as opened:
        readers = [opened.enter_context(_connect(shared.server)) for _ in texts]
        for reader in readers:
            _settle(reader, shared.name)
        streams = [
            _Stream(opened.enter_context(_rows(reader, shared, text)), schema)
            for reader, text, schema in zip(readers, texts, schemas, strict=True)
        ]
        until = _END
        while until is not None:
            until = streams[0].tenant_after(CHUNK_ROWS)
            yield tuple(stream.take(until) for stream in streams)


_SHARED = """
    select pg_export_snapshot(), quote_literal(current_setting('statement_timeout')),
           quote_literal(current_setting('role'))
"""


class _Shared(NamedTuple):
    """What a connection has in common with those that read for it: the settings as SQL spells them."""

    server: str
    name: str
    """Of those that read."""
    snapshot: str
    statement_timeout: str
    role: str  # 'none', too


def _shared(connection: Connection) -> _Shared:
    raw = driver(connection)
    server, name = waits.same_server(raw, "arcadia reader"), waits.readers_of(raw.info.backend_pid)
    return _Shared(server, name, *connection.exec_driver_sql(_SHARED).one())


def _bound(connection: Connection, text: str, parameters: Mapping[str, object]) -> str:
    """The text with its parameters in it, as ADBC takes none by name."""
    with psycopg.ClientCursor(driver(connection)) as cursor:
        return cursor.mogrify(text, parameters)


class _Database:
    """What ADBC knows of a database: its types, which take it ten times as long to load as a connection to make."""

    def __init__(self, handle: adbc_driver_manager.AdbcDatabase) -> None:
        self.handle = handle

    def close(self) -> None:
        """Called when a connection closes; the database stays, for the next one."""

    def __del__(self) -> None:
        self.handle.close()


@functools.lru_cache(maxsize=4)
def _database(server: str) -> _Database:
    """The database, whose types are loaded once: old ones will do, as all that we read is text.

    ADBC queries the types with operators that others could have planted. So search_path is part of the connection
    request, unless a pooler refuses that.
    """
    asked = str(psycopg.conninfo.conninfo_to_dict(server).get("options") or "")
    options = f"{asked} -c search_path={session.SEARCH_PATH.replace(' ', '')}".strip()
    try:
        return _Database(adbc_driver_postgresql.connect(psycopg.conninfo.make_conninfo(server, options=options)))
    except adbc.Error as error:
        if "startup parameter" not in str(error):
            raise
        return _Database(adbc_driver_postgresql.connect(server))


def _connect(server: str) -> adbc.Connection:
    database = _database(server)
    return adbc.Connection(database, adbc_driver_manager.AdbcConnection(database.handle))


def whole(
    connection: Connection, parameters: Mapping[str, object], query: Query, only: Sequence[str] | None = None
) -> pd.DataFrame:
    """All rows of the query, or those of these tenants only, by tenant."""
    return pd.concat([frame for (frame,) in chunks(connection, parameters, query, only=only)], ignore_index=True)


def ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items, each made in a thread while the one before it is used. Exceptions are raised here.

    Closed early, it does not wait for the item that is being made; the iterator is closed after that.
    """
    maker, iterator = ThreadPoolExecutor(1), iter(items)
    try:
        coming = maker.submit(next, iterator, _END)
        while (item := coming.result()) is not _END:
            coming = maker.submit(next, iterator, _END)
            yield item
    finally:
        if isinstance(iterator, Generator):
            maker.submit(iterator.close)
        maker.shutdown(wait=False)


class _Stream:
    """A query's rows in the order of tenants, taken up to a tenant at a time."""

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        self._batches = batches
        self._names = schema.names
        self._schema = _with_tenant(schema)
        self._held = self._schema.empty_table()

    def tenant_after(self, rows: int) -> str | None:
        """The tenant of the row after this many; None if there are fewer rows, or the row has no tenant."""
        while self._held.num_rows <= rows and self._read():
            pass
        return self._held["tenant_id"][rows].as_py() if self._held.num_rows > rows else None

    def take(self, until: str | None) -> pd.DataFrame:
        """The rows of the tenants up to and including this one; all that are left if it is None."""
        while (until is None or self._all_up_to(until)) and self._read():
            pass
        rows = self._held.num_rows
        if until is not None:
            rows = pc.sum(pc.less_equal(self._held["tenant_id"], until)).as_py() or 0
        taken, self._held = self._held.slice(0, rows), self._held.slice(rows)
        return to_pandas(taken.select(self._names))

    def _all_up_to(self, until: str) -> bool:
        if not self._held.num_rows:
            return True
        last = self._held["tenant_id"][-1].as_py()
        return last is not None and bool(last.encode() <= until.encode())

    def _read(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        self._held = pa.concat_tables([self._held, pa.Table.from_batches([_typed(batch, self._schema)])])
        return True


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch of texts as the schema's columns."""
    columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _settle(reader: adbc.Connection, name: str) -> None:
    """Give the reader's session its name and the settings our SQL relies on. Raises session.SessionRefused."""
    named = f"select pg_catalog.set_config('application_name', '{name}', false)"
    with reader.cursor() as cursor:
        for statement in (session.say(session.BILLING), session.NOTICE_THE_VANISHED, _PATIENT, named):
            cursor.execute(statement)
            cursor.fetchall()
    reader.commit()
    with reader.cursor() as cursor:
        cursor.execute(session.ask(session.BILLING))
        session.verify(cursor.fetchall())
    reader.commit()


@contextmanager
def _rows(reader: adbc.Connection, shared: _Shared, text: str) -> Iterator[Iterator[pa.RecordBatch]]:
    with reader.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read, read only")
        cursor.execute(f"set transaction snapshot '{shared.snapshot}'")
        cursor.execute(f"set local lock_timeout = {LOCK_WAIT_MS}")
        cursor.execute(f"set local statement_timeout = {shared.statement_timeout}")
        cursor.execute(f"set local role = {shared.role}")
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
        cursor.execute(text)
        # The cursor's own reader: pyarrow's, which fetch_record_batch() gives, loses the error's SQLSTATE.
        with cursor._results.reader as batches:
            yield batches


def _with_tenant(schema: pa.Schema) -> pa.Schema:
    return schema if "tenant_id" in schema.names else schema.append(pa.field("tenant_id", TEXT))


def _whose(only: Sequence[str] | None) -> str:
    return "" if only is None else "where q.tenant_id = any(%(only)s::text[]) or q.tenant_id is null"


def _select(query: Query, only: Sequence[str] | None) -> str:
    """The query's columns in order, by tenant."""
    # As text, which Arrow parses exactly or rejects. ADBC loads a connection's types before its settings are set, and
    # finds none if quote_all_identifiers is on.
    columns = ", ".join(f"{name}::text" for name in _with_tenant(query.schema).names)
    return f'select {columns} from ({query.text}) q {_whose(only)} order by q.tenant_id collate "C"'


@contextmanager
def _as_psycopg() -> Iterator[None]:
    """Raise ADBC's errors as psycopg's, so that there is one kind to explain.

    An error without a SQLSTATE is a lost connection: the server is reachable, as the connection beside it shows.
    """
    try:
        yield
    except adbc.Error as error:
        raise psycopg.errors.lookup(error.sqlstate or "08006")(str(error)) from error
