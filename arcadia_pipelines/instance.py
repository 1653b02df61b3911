"""Dagster's own storage (runs, events, schedules), a schema of its own in the billing database; where its settings are.

dagster.yaml names the storage. Its URL is derived from ours here, so that `dagster dev` in the folder needs no
environment at all.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log import SqlEventLogStorageMetadata
from dagster._core.storage.runs import RunStorageSqlMetadata
from dagster._core.storage.schedules import ScheduleStorageSqlMetadata
from dagster._core.storage.sql import check_alembic_revision, stamp_alembic_rev
from dagster._serdes import ConfigurableClassData
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
    run_storage,
)
from dagster_postgres.utils import pg_alembic_config
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import Connection

from arcadia_pipelines.settings import DAGSTER_SCHEMA, PROJECT, SHIPPED, Settings, SettingsError, dagster_url
from arcadia_pipelines.storage import database, session

SESSION = session.BASIC | {
    "search_path": DAGSTER_SCHEMA,
    # Its hundreds of small commits a run do not wait for the disk; a crash of the server can lose the last half second
    # of the event log, never a row of billing.
    "synchronous_commit": "off",
}
"""What Dagster's sessions rely on: it writes timestamps without a zone, by the session's."""

_TABLES = (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
_FIRST_START = 0x44414753  # "DAGS": the advisory lock of whoever makes them


class SettledDialect(PGDialect_psycopg2):
    """psycopg 2, on which each new connection's session is as SESSION says. settings.dagster_url() names it."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """A connection. Raises session.SessionRefused, psycopg2.Error."""
        raw = super().connect(*arguments, **parameters)
        try:
            raw.set_client_encoding("UTF8")  # of a SET psycopg 2 does not notice, and would go on reading the old one
            cursor = raw.cursor()
            cursor.execute(session.say(SESSION))
            raw.commit()
            cursor.execute(session.ask(SESSION))
            session.verify(cursor.fetchall())
            raw.commit()
        except BaseException:
            raw.close()
            raise
        return raw


class ArcadiaStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage on the database of ARCADIA_DATABASE_URL, or the embedded one, which is started."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to configure here: the environment says it all."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "ArcadiaStorage":
        """Called by Dagster with what dagster.yaml says."""
        url = Settings.from_environment().url()
        with database.transaction(database.engine(url)) as connection:
            lacks_tables = bool(_missing_tables(connection))
        if lacks_tables:
            complete_tables(url)
        return cls(postgres_url=dagster_url(url), should_autocreate_tables=False, inst_data=inst_data)


def complete_tables(url: str) -> list[str]:
    """Make what Dagster's schema lacks, or nothing; returns the names of the tables made. Raises StorageError.

    Dagster would commit table by table, look for the first of them only at the next start, and for ever miss those that
    it was killed before. A schema of an older Dagster is left alone: `dagster instance migrate` brings it up to date.
    """
    engine = sqlalchemy.create_engine(dagster_url(url), poolclass=sqlalchemy.NullPool)
    with database.transaction(engine) as connection:
        connection.execute(text(f"select pg_advisory_xact_lock({_FIRST_START})"))
        # Looked for first: `if not exists` wants the right to create schemas even where there is nothing to create.
        if connection.scalar(text(f"select to_regnamespace('{DAGSTER_SCHEMA}') is null")):
            connection.execute(text(f"create schema {DAGSTER_SCHEMA}"))
        alembic = pg_alembic_config(run_storage.__file__)
        revision, newest = check_alembic_revision(alembic, connection)
        if revision not in (None, newest):
            return []
        missing = _missing_tables(connection)
        for metadata in _TABLES:
            metadata.create_all(connection)
            for table in metadata.sorted_tables:
                for index in table.indexes:  # a table that was there may lack its own
                    index.create(connection, checkfirst=True)
        stamp_alembic_rev(alembic, connection)
        _migrate_data(connection, dagster_url(url))
    return missing


def _missing_tables(connection: Connection) -> list[str]:
    wanted = {"alembic_version", *(table.name for metadata in _TABLES for table in metadata.sorted_tables)}
    tables = text(f"select tablename from pg_catalog.pg_tables where schemaname = '{DAGSTER_SCHEMA}'")
    return sorted(wanted - set(connection.scalars(tables)))


def _migrate_data(connection: Connection, url: str) -> None:
    """Dagster's own data migrations, on this connection; each is noted in the database and done once."""

    class Runs(PostgresRunStorage):
        def connect(self) -> AbstractContextManager[Connection]:
            return nullcontext(connection)

    class Events(PostgresEventLogStorage):
        def _connect(self) -> AbstractContextManager[Connection]:
            return nullcontext(connection)

        index_connection = _connect

    class Schedules(PostgresScheduleStorage):
        def connect(self, run_id: str | None = None) -> AbstractContextManager[Connection]:
            return nullcontext(connection)

    events = Events(url, should_autocreate_tables=False)
    events.reindex_events()
    events.reindex_assets()
    for storage in (Runs(url, should_autocreate_tables=False), Schedules(url, should_autocreate_tables=False)):
        storage.migrate()
        storage.optimize()


def dagster_home(home: Path) -> Path:
    """The folder of dagster.yaml and workspace.yaml: the checkout, or, where a wheel is installed, ARCADIA_HOME.

    There both are written as they are in this release, with the folders of that home. Raises SettingsError.
    """
    if PROJECT == SHIPPED:
        return PROJECT
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name in ("dagster.yaml", "workspace.yaml"):
            text = (SHIPPED / name).read_text()
            text = re.sub(r"\.arcadia/(.*)", lambda folder: json.dumps(str(home / folder[1])), text)
            _write(home / name, re.sub(r"\n *working_directory: .*", "", text))
    except OSError as error:
        raise SettingsError(
            f"Dagster's settings cannot be written in {home} ({error.strerror}): set ARCADIA_HOME to a folder of yours"
        ) from error
    return home


def enter_dagster_home(home: Path) -> Path:
    """Make DAGSTER_HOME, or dagster_home(), this process's folder. The workspace.yaml to load: its own, or ours.

    Raises SettingsError.
    """
    os.environ["ARCADIA_HOME"] = str(home)  # it may count from this folder
    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(dagster_home(home))
    os.chdir(os.environ["DAGSTER_HOME"])  # where the folders in dagster.yaml count from
    mine = Path(os.environ["DAGSTER_HOME"]) / "workspace.yaml"
    return mine if mine.exists() else dagster_home(home) / mine.name


def _write(file: Path, text: str) -> None:
    """Whole or not at all: another process may be reading it."""
    if not file.exists() or file.read_text() != text:
        new = file.with_name(f".{file.name}.{os.getpid()}")
        new.write_text(text)
        new.replace(file)
