"""The schema's migrations: the plain SQL files of sql/migrations, in order, each once, each in its own transaction.

No month and no other migration runs beside one. If a table is in use, the migration waits a little, is then rolled back
so that those who queue behind it can go on, and is tried again.

Why no migration library: alembic wants a Python file beside each SQL file and, like dbmate and yoyo, runs an edited
file as if nothing had happened.
"""

import hashlib
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import DAGSTER_SCHEMA, SHIPPED
from arcadia_pipelines.storage import planted
from arcadia_pipelines.storage.database import (
    StorageError,
    StorageInterrupted,
    driver,
    migrating_transaction,
    transaction,
)

SQL = SHIPPED / "sql"
_MIGRATIONS = SQL / "migrations"
_APPLIED = "billing.schema_migrations"
_MADE = re.compile(r"^(create(?: or replace)?|drop) (?:table|view) (billing\.\w+)", re.MULTILINE)
_PATIENCE_MS = 2000
_TRIES = 30


_NEWER = (
    "the database is a newer release's, which has applied {}: use that release, and restart what still runs this one;"
    " to go back, `arcadia restore` a backup from before into an empty database"
)


class MigrationError(ArcadiaError):
    """The migration files are missing, or do not match what was applied; the message says what to do."""


def migrate(
    engine: Engine, folder: Path = _MIGRATIONS, tell: Callable[[str], object] = lambda warning: None
) -> list[str]:
    """Apply what is missing and return the names of the files applied. Safe to run twice at once.

    `tell` receives what the migrations could not do and somebody else must, one line each, without repeats. Raises
    MigrationError if there is no file, if an applied file was edited or is gone, or if others have attached code to our
    tables, which a migration would run; StorageError if SQL fails.
    """
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise MigrationError(f"there is no migration in {folder}: the installation is incomplete, install it again")
    applied_now, told = [], set[str]()
    _refuse_edited(engine, files)
    _refuse_attached(engine)
    for file in files:
        warnings = _apply_unless_applied(engine, file)
        if warnings is not None:
            applied_now.append(file.name)
            for warning in warnings:
                if warning not in told:
                    told.add(warning)
                    tell(warning)
    with transaction(engine) as connection:
        for thing in planted.things(connection):
            tell(f"not the owner's, and unqualified names may resolve to it: {thing}; drop it if it is not wanted")
    return applied_now


def lost_tables(connection: Connection) -> dict[str, str]:
    """Our tables and views that are gone: each with the name of the applied file that made it."""
    made: dict[str, str] = {}
    for file in sorted(_MIGRATIONS.glob("*.sql")):
        for act, name in _MADE.findall(file.read_text()):
            made = (
                {**made, name: file.name} if act != "drop" else {other: made[other] for other in made if other != name}
            )
    missing = "select name from unnest(%(names)s::text[]) name where to_regclass(name) is null"
    gone = set(connection.exec_driver_sql(missing, {"names": [_APPLIED, *made]}).scalars())
    if _APPLIED in gone:  # what was applied is unknown: if a single table is left, everything was
        return {_APPLIED: "migrations"} if gone < {_APPLIED, *made} else {}
    applied = set(connection.exec_driver_sql(f"select name from {_APPLIED}").scalars())
    return {name: file for name, file in made.items() if name in gone and file in applied}


def refuse_lost_tables(connection: Connection) -> None:
    """Raise StorageError if one of our tables or views is gone; the message names them."""
    if lost := lost_tables(connection):
        raise StorageError(f"the database has lost {said_lost(lost)}")


def said_lost(lost: Mapping[str, str]) -> str:
    """Which tables are gone, and what to do."""
    named = ", ".join(f"{name} (made by {file}, which is applied)" for name, file in lost.items())
    return f"{named}: restore from a backup what is lost; `arcadia db migrate` does not make it again"


def require(engine: Engine) -> None:
    """Raise StorageError if the schema is not there, MigrationError if it is newer than this release."""
    with transaction(engine) as connection:
        connection.exec_driver_sql("select from billing.tenant_invoices limit 0")
        refuse_newer(connection)


def refuse_newer(connection: Connection) -> None:
    """Raise MigrationError if a newer release has migrated the database: this one does not know its changes.

    Called before something starts. What is running when a release arrives may finish.
    """
    newest = max((file.name for file in _MIGRATIONS.glob("*.sql")), default="")
    later = 'select name from billing.schema_migrations where name collate "C" > %(newest)s order by 1'
    if names := connection.exec_driver_sql(later, {"newest": newest}).scalars().all():
        raise MigrationError(_NEWER.format(", ".join(names)))


def owns_dagster(engine: Engine) -> bool:
    """Whether this login may create Dagster's tables, and change those that exist."""
    owned = "coalesce(bool_and(pg_has_role(tableowner, 'usage')), true)"
    created = f"has_schema_privilege('{DAGSTER_SCHEMA}', 'create')"
    with transaction(engine) as connection:
        found = connection.exec_driver_sql(
            f"select {owned} and {created} from pg_tables where schemaname = '{DAGSTER_SCHEMA}'"
        )
        return bool(found.scalar_one())


def admit_roles(engine: Engine) -> None:
    """Grant the roles their rights on tables that were just created."""
    with transaction(engine) as connection:
        connection.exec_driver_sql("select billing.admit_roles()")


def run_file(connection: Connection, file: Path) -> None:
    """Execute a whole SQL file in the transaction."""
    driver(connection).execute(file.read_bytes())


def _refuse_edited(engine: Engine, files: list[Path]) -> None:
    """Raise MigrationError if an applied file is gone or was edited."""
    with migrating_transaction(engine, _PATIENCE_MS) as connection:
        applied = _applied(connection)
    here = {file.name: _sha256(file) for file in files}
    for name, sha256 in applied.items():
        if name > files[-1].name:
            raise MigrationError(_NEWER.format(name))
        if name not in here:
            raise MigrationError(f"sql/migrations/{name} was applied and is gone: restore it")
        if here[name] != sha256:
            raise MigrationError(
                f"sql/migrations/{name} was edited after it was applied: restore it and put the change in a new file"
            )


def _refuse_attached(engine: Engine) -> None:
    """Raise MigrationError if others attached code to our tables: migrations would run it with the login's rights."""
    with transaction(engine) as connection:
        found = planted.attached(connection)
    if found:
        raise MigrationError(
            f"code on our tables would run with your rights, and is not the owner's: {'; '.join(found)}."
            " Find out who put it there, drop it, and migrate again"
        )


def _applied(connection: Connection) -> dict[str, str]:
    """File name to SHA-256 of what is applied. Raises StorageError."""
    refuse_lost_tables(connection)
    connection.exec_driver_sql("create schema if not exists billing")
    connection.exec_driver_sql(f"create schema if not exists {DAGSTER_SCHEMA}")
    connection.exec_driver_sql(
        "create table if not exists billing.schema_migrations ("
        " name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
    )
    found = connection.exec_driver_sql("select name, sha256 from billing.schema_migrations order by name")
    return dict(list(found))


def _apply_unless_applied(engine: Engine, file: Path) -> list[str] | None:
    """Apply the file, all or nothing, and record it; returns its warnings, or None if it was applied already.

    Raises StorageInterrupted, which names who holds its tables, if every try fails.
    """
    tries = 0
    while True:
        try:
            with migrating_transaction(engine, _PATIENCE_MS) as connection:
                return None if file.name in _applied(connection) else _apply(connection, file)
        except StorageInterrupted as error:
            tries += 1
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
                raise
            if tries == _TRIES:
                raise StorageInterrupted(f"sql/migrations/{file.name} was tried {tries} times: {error}") from error
        time.sleep(random.uniform(0.5, 1.5))


def _apply(connection: Connection, file: Path) -> list[str]:
    """Execute the file and record it; returns its warnings."""
    warnings: list[str] = []

    def hear(message: psycopg.errors.Diagnostic) -> None:
        # A notice counts if the file itself raises it; PostgreSQL's own are remarks like "does not exist, skipping".
        if message.severity_nonlocalized == "WARNING" or message.source_function == "exec_stmt_raise":
            text = "; ".join(filter(None, (message.message_primary, message.message_hint)))
            warnings.append(" ".join(text.split()))

    driver(connection).add_notice_handler(hear)
    connection.exec_driver_sql("set local client_min_messages = notice")
    run_file(connection, file)
    connection.exec_driver_sql(
        "insert into billing.schema_migrations (name, sha256) values (%(name)s, %(sha256)s)",
        {"name": file.name, "sha256": _sha256(file)},
    )
    return warnings


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
