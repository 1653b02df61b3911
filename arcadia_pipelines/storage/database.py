"""Connections: the engine, transactions and what may run beside what, the database's errors in one line for people.

Everything below runs on one psycopg connection per transaction; SQL is written in psycopg's style, %(name)s.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import psycopg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import sqlalchemy_url
from arcadia_pipelines.storage import session

OLDEST_VERSION = 14
_MONTH_LOCK = 0x41524341  # "ARCA": the first key of the advisory locks, one per month
_PUBLISH_LOCK = 0x50554253  # "PUBS"
_GATE = 0x4D494752  # "MIGR": months pass it side by side; what nothing may run beside shuts it

_PASSING = (
    "08",  # the connection was lost
    "40001",  # it could not be serialised with another transaction
    "40P01",  # a deadlock
    "55P03",  # a lock was not to be had in time
    "57P01",  # the server, or somebody on it, ended the connection
    "57P02",  # it crashed
    "57P03",  # it starts or stops
)
"""How the SQLSTATEs begin of what passes by itself. A full disk (53100), for one, does not."""
_RELEASE = "a release, or an operator who holds a tenant,"
_STARTS_OR_STOPS = ("the database system is", "not yet accepting connections")


_PLATFORM = (
    "tenants",
    "cloud_deployments",
    "plans",
    "plan_prices",
    "plan_rates",
    "addons",
    "addon_prices",
    "subscriptions",
    "subscription_addons",
    "usage_records",
)
"""What we read in schema cloud."""


class StorageError(Exception):
    """The database is unreachable, too old, or refused; the message says what to do. The transaction left no trace."""


class MonthNotOver(StorageError):
    """The month has not ended; the message says when it has."""


class PartialView(StorageError):
    """Rows of the platform's tables are hidden from us; the message says of which, and what to do."""


class StorageInterrupted(StorageError):
    """A StorageError of the moment, so that the same again may go through: a lost connection, a deadlock.

    A transaction whose connection is lost while it commits may have gone through: what is done again must allow that.
    """


def engine(url: str) -> Engine:
    """An engine on a canonical URL. Connections are not kept: a month needs a handful, and none may be stale."""
    created = sqlalchemy.create_engine(
        sqlalchemy_url(url),
        poolclass=sqlalchemy.NullPool,
        connect_args={"application_name": "arcadia", "connect_timeout": 10, "client_encoding": "utf8"},
    )
    event.listen(created, "do_connect", _connect)
    return created


@contextmanager
def transaction(on: Engine) -> Iterator[Connection]:
    """A transaction that commits at the end and leaves no trace of a failure. Raises StorageError."""
    try:
        with on.begin() as connection:
            yield connection
    except session.SessionRefused as error:
        raise StorageError(str(error)) from error
    except (sqlalchemy.exc.DBAPIError, psycopg.Error) as error:
        kind = StorageInterrupted if _passes(_cause(error)) else StorageError
        raise kind(_explain(error, on)) from error


@contextmanager
def snapshot(on: Engine) -> Iterator[Connection]:
    """A transaction for proofs: it sees one state of the database throughout, and can write nothing."""
    with transaction(on) as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
        yield connection


@contextmanager
def month_transaction(on: Engine, *months: BillingMonth) -> Iterator[Connection]:
    """A transaction that is the only writer of the month, or months: others wait at its start until this one ends."""
    with transaction(on) as connection:
        _wait(connection, _RELEASE, "pg_advisory_xact_lock_shared", _GATE)
        for month in sorted(set(months)):  # in order, so that two of these never wait for each other
            _wait(connection, str(month), "pg_advisory_xact_lock", *_lock_of(month))
        yield connection


@contextmanager
def month_at_an_instant(on: Engine, month: BillingMonth, publishes: bool = False) -> Iterator[Connection]:
    """As month_transaction(), and all that it reads is of one instant: what was committed when it had waited.

    For whoever freezes, quotes or invoices: a month that is not over is refused (MonthNotOver), however it was asked
    for, and so is a part of the platform's tables (PartialView). A row that somebody else has changed since it cannot
    change: that raises StorageInterrupted. Of those that publish there is one at a time: two months at once would both
    carry the same correction, and would wait for each other's tables when they attach.
    """
    with transaction(on) as connection:
        raw = driver(connection)
        raw.autocommit = True  # the locks are held until the connection ends: to wait must not begin the transaction
        _wait(connection, _RELEASE, "pg_advisory_lock_shared", _GATE)
        _wait(connection, str(month), "pg_advisory_lock", *_lock_of(month))
        if publishes:
            _wait(connection, "its turn to publish", "pg_advisory_lock", _PUBLISH_LOCK)
        raw.autocommit = False
        raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        refuse_unless_over(connection, month)
        refuse_partial_view(connection)
        yield connection


def _lock_of(month: BillingMonth) -> tuple[int, int]:
    return _MONTH_LOCK, month.start.year * 100 + month.start.month


def refuse_unless_over(connection: Connection, month: BillingMonth) -> None:
    """Raise MonthNotOver if the month is not over by the database's clock, which stamps ingested_at too."""
    now: dt.datetime = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
    if now.astimezone(dt.UTC).date() < month.end:
        raise MonthNotOver(f"{month} is not over before {month.end} 00:00 UTC: it cannot be invoiced yet")


def refuse_partial_view(connection: Connection) -> None:
    """Raise PartialView if row-level security stands before any of the platform's tables, or below a view of them.

    What it hides would be missing from the month: its tenants' invoices would be void, or never made.
    """
    tables = ", ".join(f"(select true from cloud.{table} limit 0)" for table in _PLATFORM)
    connection.exec_driver_sql("set local row_security = off")  # then PostgreSQL refuses to leave rows out
    try:
        connection.exec_driver_sql(f"select {tables}")
    except sqlalchemy.exc.ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise
        raise PartialView(
            f"the platform's tables cannot be read whole ({error.orig.diag.message_primary}), and nothing is billed"
            " from a part of them: grant select on schema cloud to the role that runs this and, where row-level"
            " security is on, have a superuser `alter role ... bypassrls`; behind a view, to the view's owner"
        ) from error
    connection.exec_driver_sql("set local row_security = on")


@contextmanager
def exclusive_transaction(on: Engine) -> Iterator[Connection]:
    """A transaction that no month and no other exclusive one runs beside.

    It waits at its start for those under way, and those that come later wait for it.
    """
    with transaction(on) as connection:
        _wait(connection, "the months that are under way", "pg_advisory_xact_lock", _GATE)
        yield connection


def _wait(connection: Connection, what: str, function: str, *lock: int) -> None:
    """Take the lock. Raises StorageInterrupted if the session's own limits end the wait: nothing else is wrong."""
    try:
        connection.exec_driver_sql(f"select {function}({', '.join(map(str, lock))})")
    except sqlalchemy.exc.DBAPIError as error:
        limits = {"57014": "statement_timeout", "55P03": "lock_timeout"}
        limit = limits.get(str(getattr(error.orig, "sqlstate", None)))
        if not limit:
            raise
        reason = " ".join(str(error.orig).split())
        raise StorageInterrupted(
            f"waited for {what}, until PostgreSQL ended the wait ({reason}): another run or an operator is at it; run"
            f" it again when that is done, or raise the {limit} of the role or the database"
        ) from error


def driver(connection: Connection) -> "psycopg.Connection[tuple[object, ...]]":
    """The psycopg connection under a SQLAlchemy one, for COPY."""
    return cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)


def _connect(
    dialect: Dialect, _record: object, arguments: Sequence[str], parameters: Mapping[str, object]
) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection whose session is as our SQL relies on it. Raises StorageError, session.SessionRefused."""
    raw = cast("psycopg.Connection[tuple[object, ...]]", dialect.connect(*arguments, **parameters))
    try:
        version = raw.info.server_version // 10000
        if version < OLDEST_VERSION:
            raise StorageError(
                f"this is PostgreSQL {version}; Arcadia needs {OLDEST_VERSION} or newer: upgrade the server"
            )
        settle(raw, session.BILLING)
    except BaseException:
        raw.close()
        raise
    return raw


def settle(raw: "psycopg.Connection[tuple[object, ...]]", settings: Mapping[str, str]) -> None:
    """Give the session of a new connection these settings. Raises session.SessionRefused, psycopg.Error."""
    raw.execute(session.say(settings).encode())
    raw.commit()
    differing = raw.execute(session.ask(settings).encode()).fetchall()
    raw.commit()
    session.verify(differing)


def _cause(error: BaseException) -> object:
    """The driver's error; where undoing the transaction failed too, the one that came first."""
    while isinstance(error.__context__, sqlalchemy.exc.DBAPIError | psycopg.Error):
        error = error.__context__
    return error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error


def _passes(cause: object) -> bool:
    """Whether the same again may go through."""
    if not isinstance(cause, psycopg.OperationalError):
        return False
    if cause.sqlstate:
        return cause.sqlstate.startswith(_PASSING)
    # It broke, or was never there. Why the server turned us away while connecting comes as text only, perhaps in
    # another language: what is not understood is an error that stays.
    answered = "FATAL" in str(cause) or (cause.pgconn is not None and cause.pgconn.used_password)
    return not answered or any(words in str(cause) for words in _STARTS_OR_STOPS)


def _where(on: Engine) -> str:
    host, port = (on.url.host, on.url.port) if on.url.host else (on.url.query.get(name) for name in ("host", "port"))
    return f"{host or 'the local socket'}:{port or 5432}/{on.url.database}"


def _explain(error: Exception, on: Engine) -> str:
    """The error in one line: what, where, what to do."""
    cause = _cause(error)
    where = _where(on)
    message = " ".join(str(cause).split())
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        message = " ".join(filter(None, (cause.diag.message_primary, cause.diag.message_detail)))
        if cause.diag.message_hint:
            message += f". {cause.diag.message_hint}"
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return f"the database {where} lacks our tables ({message}): run `arcadia db migrate`"
    if isinstance(cause, psycopg.errors.DiskFull):
        return f"the disk of the database {where} is full ({message}): make room and run again"
    if isinstance(cause, psycopg.errors.QueryCanceled):
        return (
            f"the database {where} ended a statement ({message}): if nobody asked for that, raise the statement_timeout"
            " of the role or the database"
        )
    if isinstance(cause, psycopg.OperationalError):
        if cause.sqlstate and cause.sqlstate[:2] in ("40", "53", "54", "55"):  # a lock, a deadlock, a limit
            return f"the database {where} could not do it now ({message}): run it again"
        return f"cannot work with PostgreSQL at {where} ({message}): see that it runs and ARCADIA_DATABASE_URL is right"
    if isinstance(cause, psycopg.errors.UndefinedFunction | psycopg.errors.DatatypeMismatch):
        return (
            f"the database {where} refused ({message}): see that each view in schema cloud shows its columns in the"
            " types of sql/migrations/0001_cloud.sql"
        )
    return f"the database {where} refused: {message}"
