"""Connections: the engine, transactions and their locks, and the database's errors in one line for people.

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
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import Settings, sqlalchemy_url
from arcadia_pipelines.storage import session, waits

OLDEST_VERSION = 14
# Tables that serve as locks and hold no rows (sql/migrations/0018_locks.sql). Every transaction takes them in this
# order: the gate, the months' by their number, the publishing lock.
_GATE = "billing.gate"
_PUBLISHING = "billing.publishing"
_SIDE_BY_SIDE, _ALONE = "row exclusive", "exclusive"
_OLD_GATE = 0x4D494752  # "MIGR": the advisory lock of the releases before these tables

_TRANSIENT = (
    "08",  # the connection was lost
    "40001",  # a serialisation failure
    "40P01",  # a deadlock
    "53300",  # all connections are taken
    "55P03",  # a lock timeout
    "57P01",  # the server, or an administrator, ended the connection
    "57P02",  # the server crashed
    "57P03",  # the server is starting or stopping
)
"""SQLSTATE prefixes of transient errors. A full disk (53100), for one, is not transient."""
_EXCLUSIVE = "a migration, or an operator who puts a tenant on hold"
_MONTHS = "the months that are running"
_STARTS_OR_STOPS = ("the database system is", "not yet accepting connections")
_TOO_MANY = ("too many clients", "too many connections", "remaining connection slots")
TOO_MANY_REMEDY = (
    "a month that runs needs up to ten, see docs/performance.md: end idle sessions (pg_stat_activity), raise"
    " max_connections or the connection limit of the role or the database, or run fewer months at once"
)
"""What to do when PostgreSQL has no connection left."""


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
"""The tables of schema cloud that we read."""


class StorageError(ArcadiaError):
    """The database is unreachable, too old, or refused; the message says what to do. The transaction is rolled back."""


class MonthNotOver(StorageError):
    """The month has not ended; the message says when it has."""


class PartialView(StorageError):
    """Rows of the platform's tables are hidden from us; the message says whose, and what to do."""


class StorageInterrupted(StorageError):
    """A transient StorageError, such as a lost connection or a deadlock: a retry may succeed.

    A transaction whose connection is lost during its commit may have been committed: a retry must allow for that.
    """


def engine(url: str) -> Engine:
    """An engine on a canonical URL. Connections are not pooled: a month needs a handful, and none may be stale."""
    created = sqlalchemy.create_engine(
        sqlalchemy_url(url),
        poolclass=sqlalchemy.NullPool,
        connect_args={"application_name": "arcadia", "connect_timeout": 10, "client_encoding": "utf8"},
    )
    event.listen(created, "do_connect", _connect)
    return created


@contextmanager
def transaction(on: Engine) -> Iterator[Connection]:
    """A transaction, committed at the end and rolled back on failure. Raises StorageError."""
    with _as_storage_errors(on), on.begin() as connection:
        yield connection


@contextmanager
def watched_transaction(on: Engine) -> Iterator[tuple[Connection, waits.Watch]]:
    """As transaction(), for writers: it watches who blocks it, and names them if a time-out ends the wait."""
    watch = waits.Watch()
    with _as_storage_errors(on, watch), on.begin() as connection, waits.watched(driver(connection), watch):
        yield connection, watch


@contextmanager
def _as_storage_errors(on: Engine, watch: waits.Watch | None = None) -> Iterator[None]:
    """Raise a connection's errors as StorageError."""
    try:
        yield
    except session.SessionRefused as error:
        raise StorageError(str(error)) from error
    except (sqlalchemy.exc.DBAPIError, psycopg.Error) as error:
        kind = StorageInterrupted if _is_transient(_cause(error)) else StorageError
        raise kind(_explain(error, on, watch.held if watch else "")) from error


@contextmanager
def snapshot(on: Engine) -> Iterator[Connection]:
    """A transaction for proofs: it sees one state of the database throughout, and can write nothing."""
    with transaction(on) as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
        yield connection


@contextmanager
def month_transaction(on: Engine, *months: BillingMonth) -> Iterator[Connection]:
    """A transaction that is the only writer of the month, or months: others wait at its start until this one ends."""
    with watched_transaction(on) as (connection, watch):
        _take(connection, watch, _GATE, _SIDE_BY_SIDE, _EXCLUSIVE)
        # In one order, so that two of these never wait for each other.
        for table, month in sorted({_lock_of(month): month for month in months}.items()):
            _take(connection, watch, table, _ALONE, str(month))
        yield connection


@contextmanager
def month_at_an_instant(on: Engine, month: BillingMonth, publishes: bool = False) -> Iterator[Connection]:
    """As month_transaction(), and all reads see one instant: what was committed when its locks were granted.

    For freezing, quoting and invoicing. A month that is not over is refused (MonthNotOver), however it was asked for,
    and so is a partial view of the platform's tables (PartialView). Changing a row that somebody else has changed since
    that instant raises StorageInterrupted. With `publishes`, one runs at a time: two months at once would both carry
    the same correction, and would wait for each other's tables when they attach their partitions.
    """
    with watched_transaction(on) as (connection, watch):
        # LOCK TABLE takes no snapshot: the instant is that of the first statement after it.
        driver(connection).isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        _take(connection, watch, _GATE, _SIDE_BY_SIDE, _EXCLUSIVE)
        _take(connection, watch, _lock_of(month), _ALONE, str(month))
        if publishes:
            _take(connection, watch, _PUBLISHING, _ALONE, "its turn to publish")
        refuse_unless_over(connection, month)
        refuse_partial_view(connection)
        yield connection


@contextmanager
def beside_month(on: Engine, month: BillingMonth) -> Iterator[Connection]:
    """A transaction that waits while the month is written, and lets the month wait; many of these may run at once."""
    with watched_transaction(on) as (connection, watch):
        _take(connection, watch, _GATE, _SIDE_BY_SIDE, _EXCLUSIVE)
        _take(connection, watch, _lock_of(month), "row share", str(month))
        yield connection


def wait_for_month(connection: Connection, month: BillingMonth) -> None:
    """Wait while the month is written; from here to the end of the transaction, the month waits."""
    connection.exec_driver_sql(f"lock table {_lock_of(month)} in row share mode")


def _lock_of(month: BillingMonth) -> str:
    """One table for each month of the calendar: the Januaries of two years wait for each other, which does no harm."""
    return f"billing.month_{month.start:%m}"


def refuse_unless_over(connection: Connection, month: BillingMonth) -> None:
    """Raise MonthNotOver if the month is not over by the database's clock, which stamps ingested_at too."""
    now: dt.datetime = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
    if now.astimezone(dt.UTC).date() < month.end:
        raise MonthNotOver(f"{month} is not over before {month.end} 00:00 UTC: it cannot be invoiced yet")


def refuse_partial_view(connection: Connection) -> None:
    """Raise PartialView if row-level security is on for any of the platform's tables, or for what a view of them reads.

    The rows that it hides would be missing from the month: its tenants' invoices would be void, or never made.
    """
    tables = ", ".join(f"(select true from cloud.{table} limit 0)" for table in _PLATFORM)
    for optional in ("rate_tiers", "rates", "tenant_prices", "discounts", "commitments"):
        tables += f", (select count(*) from billing.{optional}())"  # the platform need not have these tables
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

    It waits at its start for those that are running, and those that start later wait for it.
    """
    with watched_transaction(on) as (connection, watch):
        _take(connection, watch, _GATE, _ALONE, _MONTHS)
        yield connection


@contextmanager
def migrating_transaction(on: Engine, patience_ms: int) -> Iterator[Connection]:
    """As exclusive_transaction(), also in a database without a gate; no statement waits longer than this for a lock.

    Without a gate it takes the advisory lock that releases before the gate take for a month. Raises StorageInterrupted.
    """
    with watched_transaction(on) as (connection, watch):
        if connection.exec_driver_sql(f"select pg_catalog.to_regclass('{_GATE}') is not null").scalar_one():
            _take(connection, watch, _GATE, _ALONE, _MONTHS)
        else:
            _wait(connection, watch, f"select pg_catalog.pg_advisory_xact_lock({_OLD_GATE})", _MONTHS)
        connection.exec_driver_sql(f"set local lock_timeout = {patience_ms}")
        watch.what = "a table that a migration changes"
        yield connection


def _take(connection: Connection, watch: waits.Watch, table: str, mode: str, what: str) -> None:
    _wait(connection, watch, f"lock table {table} in {mode} mode", what)


def _wait(connection: Connection, watch: waits.Watch, statement: str, what: str) -> None:
    """Take a lock. Raises StorageInterrupted if a time-out ends the wait."""
    watch.what = what
    try:
        connection.exec_driver_sql(statement)
    except sqlalchemy.exc.DBAPIError as error:
        limits = {"57014": "statement_timeout", "55P03": "lock_timeout"}
        limit = limits.get(str(getattr(error.orig, "sqlstate", None)))
        if not limit:
            raise
        reason = " ".join(str(error.orig).split())
        ours = ", or ARCADIA_LOCK_TIMEOUT: the smaller counts" if limit == "lock_timeout" else ""
        raise StorageInterrupted(
            f"waited for {what}{watch.held}, until PostgreSQL ended the wait ({reason}): another run or an operator"
            f" holds the lock; run it again when that is done, or raise the {limit} of the role or the database{ours}"
        ) from error
    watch.what = ""


def login(connection: Connection) -> str:
    """Who is logged in to the database."""
    return str(connection.exec_driver_sql("select session_user").scalar_one())


def driver(connection: Connection) -> "psycopg.Connection[tuple[object, ...]]":
    """The psycopg connection under a SQLAlchemy one, for COPY."""
    return cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)


def _connect(
    dialect: Dialect, _record: object, arguments: Sequence[str], parameters: Mapping[str, object]
) -> "psycopg.Connection[tuple[object, ...]]":
    """Connect, and set what our SQL relies on. Raises StorageError, session.SessionRefused."""
    connected = dialect.connect(*arguments, **{**session.KEEPALIVES, **parameters})
    raw = cast("psycopg.Connection[tuple[object, ...]]", connected)
    try:
        version = raw.info.server_version // 10000
        if version < OLDEST_VERSION:
            raise StorageError(
                f"this is PostgreSQL {version}; Arcadia needs {OLDEST_VERSION} or newer: upgrade the server"
            )
        settle(raw, session.BILLING)
        raw.execute(session.limit_waits(Settings.from_environment().lock_timeout_seconds).encode())
        raw.commit()
    except BaseException:
        raw.close()
        raise
    return raw


def settle(raw: "psycopg.Connection[tuple[object, ...]]", settings: Mapping[str, str]) -> None:
    """Give the session of a new connection these settings. Raises session.SessionRefused, psycopg.Error."""
    raw.execute(session.say(settings).encode())
    raw.execute(session.NOTICE_THE_VANISHED.encode())
    raw.commit()
    differing = raw.execute(session.ask(settings).encode()).fetchall()
    raw.commit()
    session.verify(differing)


def _cause(error: BaseException) -> object:
    """The driver's error; if the rollback failed too, the error before that."""
    while isinstance(error.__context__, sqlalchemy.exc.DBAPIError | psycopg.Error):
        error = error.__context__
    return error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error


def _is_transient(cause: object) -> bool:
    """Whether a retry may succeed."""
    if not isinstance(cause, psycopg.OperationalError):
        return False
    if cause.sqlstate:
        return cause.sqlstate.startswith(_TRANSIENT)
    # The connection broke, or was never made. Why a server refuses to connect comes as text only, perhaps in another
    # language: a text that is not recognised counts as permanent.
    if is_too_many(cause):
        return True
    answered = "FATAL" in str(cause) or (cause.pgconn is not None and cause.pgconn.used_password)
    return not answered or any(words in str(cause) for words in _STARTS_OR_STOPS)


def is_too_many(error: object) -> bool:
    """Whether the error says that PostgreSQL has no connection left, for anybody or for this login."""
    return any(words in str(error) for words in _TOO_MANY)


def _where(on: Engine) -> str:
    host, port = (on.url.host, on.url.port) if on.url.host else (on.url.query.get(name) for name in ("host", "port"))
    return f"{host or 'the local socket'}:{port or 5432}/{on.url.database}"


def _explain(error: Exception, on: Engine, held: str) -> str:
    """The error in one line: what, where, what to do; for a lock time-out also who blocked it (`held`)."""
    cause = _cause(error)
    where = _where(on)
    message = " ".join(str(cause).split())
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        message = " ".join(filter(None, (cause.diag.message_primary, cause.diag.message_detail)))
        if cause.diag.message_hint:
            message += f". {cause.diag.message_hint}"
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        if lost := _lost_tables(on):
            return f"the database {where} has lost {lost}"
        return f"the database {where} lacks our tables ({message}): run `arcadia db migrate`"
    if isinstance(cause, psycopg.errors.DiskFull):
        return f"the disk of the database {where} is full ({message}): make room and run again"
    if isinstance(cause, psycopg.errors.QueryCanceled):
        return (
            f"the database {where} ended a statement ({message}{held}): if nobody asked for that, raise the"
            " statement_timeout of the role or the database"
        )
    if isinstance(cause, psycopg.OperationalError):
        if is_too_many(cause):
            return f"the database {where} has too many connections ({message}): {TOO_MANY_REMEDY}"
        if cause.sqlstate and cause.sqlstate[:2] in ("40", "53", "54", "55"):  # a lock, a deadlock, a limit
            held = held if cause.sqlstate == "55P03" else ""
            return f"the database {where} could not do it now ({message}{held}): run it again"
        return f"cannot work with PostgreSQL at {where} ({message}): see that it runs and ARCADIA_DATABASE_URL is right"
    if isinstance(cause, psycopg.errors.UndefinedFunction | psycopg.errors.DatatypeMismatch):
        return (
            f"the database {where} refused ({message}): see that each view in schema cloud shows its columns in the"
            " types of sql/migrations/0001_cloud.sql"
        )
    if isinstance(cause, psycopg.errors.ForeignKeyViolation):
        return (
            f"the database {where} refused: {message}. If the platform has deleted that while the month ran, run the"
            " month again"
        )
    return f"the database {where} refused: {message}"


def _lost_tables(on: Engine) -> str:
    """Which of our tables are gone, and what to do; '' if they were never created, or that cannot be found out."""
    from arcadia_pipelines.storage import migrations  # which is built on this module

    try:
        with on.connect() as connection:
            lost = migrations.lost_tables(connection)
    except (sqlalchemy.exc.DBAPIError, psycopg.Error, StorageError):
        return ""
    return migrations.said_lost(lost) if lost else ""
