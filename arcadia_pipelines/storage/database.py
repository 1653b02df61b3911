"""Connections: the engine, transactions, a month's lock, and the database's errors in one line for people.

Everything below runs on one psycopg connection per transaction; SQL is written in psycopg's style, %(name)s.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import psycopg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import sqlalchemy_url

OLDEST_VERSION = 14
_MONTH_LOCK = 0x41524341  # "ARCA": the first key of the advisory locks, one per month
PUBLISH_LOCK = 0x50554253  # "PUBS": see ledger.py
MIGRATE_LOCK = 0x4D494752  # "MIGR"


# What our SQL and the text that COPY sends rely on, whatever the server's own settings are.
_SESSION = {
    "search_path": "billing,cloud,public",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "client_min_messages": "warning",
}


class StorageError(Exception):
    """The database is unreachable, too old, or refused; the message says what to do. The transaction left no trace."""


def engine(url: str) -> Engine:
    """An engine on a canonical URL. Connections are not kept: a month needs a handful, and none may be stale."""
    created = sqlalchemy.create_engine(
        sqlalchemy_url(url, **_SESSION),
        poolclass=sqlalchemy.NullPool,
        connect_args={"application_name": "arcadia", "connect_timeout": 10},
    )
    event.listen(created, "connect", _refuse_old_server)
    return created


@contextmanager
def transaction(on: Engine) -> Iterator[Connection]:
    """A transaction that commits at the end and leaves no trace of a failure. Raises StorageError."""
    try:
        with on.begin() as connection:
            yield connection
    except (sqlalchemy.exc.DBAPIError, psycopg.Error) as error:
        raise StorageError(_explain(error, on)) from error


@contextmanager
def snapshot(on: Engine) -> Iterator[Connection]:
    """A transaction for proofs: it sees one state of the database throughout, and can write nothing."""
    with transaction(on) as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
        yield connection


@contextmanager
def month_transaction(on: Engine, month: BillingMonth) -> Iterator[Connection]:
    """A transaction that is the month's only writer: others wait at its start until this one ends."""
    with transaction(on) as connection:
        connection.exec_driver_sql(
            "select pg_advisory_xact_lock(%(space)s, %(month)s)",
            {"space": _MONTH_LOCK, "month": month.start.year * 100 + month.start.month},
        )
        yield connection


def driver(connection: Connection) -> "psycopg.Connection[tuple[object, ...]]":
    """The psycopg connection under a SQLAlchemy one, for COPY."""
    return cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)


def _refuse_old_server(raw: "psycopg.Connection[tuple[object, ...]]", _record: object) -> None:
    version = raw.info.server_version // 10000
    if version < OLDEST_VERSION:
        raise StorageError(f"this is PostgreSQL {version}; Arcadia needs {OLDEST_VERSION} or newer: upgrade the server")


def _explain(error: Exception, on: Engine) -> str:
    """The error in one line: what, where, what to do."""
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    where = f"{on.url.host}:{on.url.port or 5432}/{on.url.database}"
    message = " ".join(str(cause).split())
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        message = " ".join(filter(None, (cause.diag.message_primary, cause.diag.message_detail)))
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return f"the database {where} lacks our tables ({message}): run `arcadia db migrate`"
    if isinstance(cause, psycopg.errors.DiskFull):
        return f"the disk of the database {where} is full ({message}): make room and run again"
    if isinstance(cause, psycopg.OperationalError):
        if cause.sqlstate and cause.sqlstate[:2] in ("40", "53", "54", "55"):  # a lock, a deadlock, a limit
            return f"the database {where} could not do it now ({message}): run it again"
        return f"cannot work with PostgreSQL at {where} ({message}): see that it runs and ARCADIA_DATABASE_URL is right"
    return f"the database {where} refused: {message}"
