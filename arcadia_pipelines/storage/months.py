"""A month's rows of a table: its PostgreSQL partition, and replacing what is in it.

Table names come from our own code, never from a user.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa
from psycopg.errors import LockNotAvailable
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from arcadia_pipelines.billing.money import TEXT, repeat, to_arrow
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.database import StorageError

_ATTACH_WAIT_MS = 2000
_ATTACH_TRIES = 30

PERIOD_START = pa.field("period_start", TEXT)


def partition_of(table: str, month: BillingMonth) -> str:
    """The name of the partition: billing.metered_usage_2026_04."""
    return f"billing.{table}_{month.start:%Y_%m}"


class LostRows(StorageError):
    """Rows that must exist are gone, and nothing is computed from the rest; the message says what to do."""


_TABLES = "values ('metered_usage'), ('deployment_quote_lines'), ('tenant_invoice_lines')"
ATTACHED = f"""
    select t.name, p.period_start from ({_TABLES}) t (name)
    join pg_catalog.pg_inherits i on i.inhparent = ('billing.' || t.name)::regclass
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral (
        select substring(pg_get_expr(c.relpartbound, c.oid) from $$FROM [(]'(....-..-01)'[)]$$)::date as period_start
    ) p
    where p.period_start is not null
"""
"""The partitions that are attached: the table's `name` and `period_start`."""
PARTITION_FAULTS = f"""
    select t.name, w.period_start,
           case when c.oid is null then 'there is no partition billing.' || p.name
                when i.inhrelid is null
                    then 'billing.' || p.name || ' exists, but is not attached to billing.' || t.name
                when c.relkind <> 'r' then 'billing.' || p.name || ' is not a plain table'
                when pg_get_expr(c.relpartbound, c.oid) <> p.bounds
                    then 'billing.' || p.name || ' has other bounds, ' || pg_get_expr(c.relpartbound, c.oid)
           end as fault
    from ({{wanted}}) w
    cross join ({_TABLES}) t (name)
    cross join lateral (
        select t.name || '_' || to_char(w.period_start, 'YYYY_MM') as name,
               concat('FOR VALUES FROM (', quote_literal(w.period_start), ') TO (',
                      quote_literal((w.period_start + interval '1 month')::date), ')') as bounds
    ) p
    left join pg_catalog.pg_class c on c.oid = to_regclass('billing.' || p.name)
    left join pg_catalog.pg_inherits i
        on i.inhrelid = c.oid and i.inhparent = ('billing.' || t.name)::regclass and not i.inhdetachpending
"""
"""For each table by `name` and month `wanted` (a query of period_start): the `fault` of its partition, or null."""


def has_partition(connection: Connection, table: str, month: BillingMonth) -> bool:
    """Whether the month has an attached partition; it is created with the month's first rows.

    Raises LostRows if a table has the partition's name and is not the month's partition.
    """
    wanted = PARTITION_FAULTS.format(wanted="select %(month)s::date as period_start")
    fault: str | None = connection.exec_driver_sql(
        f"select fault from ({wanted}) f where name = %(table)s", {"month": month.start, "table": table}
    ).scalar_one()
    if fault and not fault.startswith("there is no"):
        raise LostRows(f"{month}: {fault}: {MEND}")
    return fault is None


MEND = "have its owner attach it as it was, or rename it out of the way and run `arcadia rebuild` for the month"


@contextmanager
def new_partition(connection: Connection, table: str, month: BillingMonth) -> Iterator[str]:
    """Create the month's partition, let the caller fill it, then attach it; yields its name.

    It is indexed and attached after it is loaded: that takes a third of the time, and the tables that its foreign keys
    refer to are locked against writers only from the attach to the commit. The tables' owner creates and attaches it,
    whoever runs the month (sql/migrations/0016_owned_by_one.sql): before the attach the runner may insert into it and
    not read it, afterwards its rows are reached through the parent only.
    """
    parameters = {"table": table, "month": month.start}
    connection.exec_driver_sql("select billing.new_partition(%(table)s, %(month)s)", parameters)
    yield partition_of(table, month)
    _attach(connection, "select billing.attach_partition(%(table)s, %(month)s)", parameters)


def _attach(connection: Connection, statement: str, parameters: Mapping[str, object]) -> None:
    """Attach without blocking the platform: whoever writes a table that we wait for queues behind us.

    So we wait a little, let the others pass, and try again. Raises psycopg's LockNotAvailable if every try fails.
    """
    limit = connection.exec_driver_sql("select pg_catalog.current_setting('lock_timeout')").scalar_one()
    for patience in range(_ATTACH_TRIES, 0, -1):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"set local lock_timeout = {_ATTACH_WAIT_MS}")
                connection.exec_driver_sql(statement, parameters)
                connection.exec_driver_sql(f"set local lock_timeout = '{limit}'")
            return
        except OperationalError as error:
            if patience == 1 or not isinstance(error.orig, LockNotAvailable):
                raise
        time.sleep(random.uniform(0.5, 1.5))


@dataclass(frozen=True)
class Part:
    """A part of a month's rows: a SQL condition, and its parameters."""

    condition: str = "true"
    parameters: Mapping[str, object] = field(default_factory=dict)


def replace_rows(
    connection: Connection,
    table: str,
    month: BillingMonth,
    data: pd.DataFrame,
    schema: pa.Schema,
    order_by: str,
    part: Part = Part(),
) -> bool:
    """Make the month, or a part of it, hold exactly these rows; write nothing if it does already.

    The rows come in the order of `order_by`. Returns whether anything was written. For tables with few rows a month.
    """
    if rows(connection, table, month, schema, order_by, part).equals(to_arrow(data, schema)):
        return False
    connection.exec_driver_sql(
        f"delete from billing.{table} q where period_start = %(month)s and {part.condition}",
        {"month": month.start, **part.parameters},
    )
    append(connection, f"billing.{table}", month, data, schema)
    return True


def rows(
    connection: Connection,
    table: str,
    month: BillingMonth,
    schema: pa.Schema,
    order_by: str,
    part: Part = Part(),
) -> pa.Table:
    """The rows of the month, or of a part of it, in order."""
    query = f"select * from billing.{table} q where period_start = %(month)s and {part.condition} order by {order_by}"
    return to_arrow(bulk.read(connection, query, schema, {"month": month.start, **part.parameters}), schema)


def append(connection: Connection, table: str, month: BillingMonth, data: pd.DataFrame, schema: pa.Schema) -> None:
    """Append the rows to the table, with the month's period_start."""
    if len(data):
        bulk.copy(connection, table, encode(month, data, schema, bulk.types_of(connection, table)))


def encode(month: BillingMonth, data: pd.DataFrame, schema: pa.Schema, types: bulk.Types) -> bulk.Encoded:
    """The rows, with the month's period_start, encoded for bulk.copy() into a table of these types."""
    dated = data.assign(period_start=repeat(month.key, TEXT, data))
    return bulk.encode(dated, schema.append(PERIOD_START), types)


def rows_as_they_are(connection: Connection, month: BillingMonth, *tables: str) -> str:
    """A text that changes whenever a row of the month is written: each table's row count, and a hash of its places."""
    each = " || ', ' || ".join(
        f"(select '{table} ' || count(*) || ' '"
        f" || coalesce(sum(hashtidextended(ctid, hashoidextended(tableoid, hashtextextended(xmin::text, 0)))), 0)"
        f" from billing.{table} where period_start = %(month)s)"
        for table in tables
    )
    return str(connection.exec_driver_sql(f"select {each}", {"month": month.start}).scalar_one())
