"""Dagster's own storage, a schema of its own in the billing database; which runs are dead; where its settings are.

dagster.yaml names the storage. Its URL is derived from ours here, so that `dagster dev` in the folder needs no
environment at all.
"""

import datetime as dt
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
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
from dagster_postgres.utils import pg_alembic_config, retry_pg_connection_fn
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import Connection

from arcadia_pipelines.settings import DAGSTER_SCHEMA, PROJECT, SHIPPED, Settings, SettingsError, dagster_url
from arcadia_pipelines.storage import database, session

SESSION = session.BASIC | {
    "search_path": f"{DAGSTER_SCHEMA}, pg_temp",  # its SQL has unqualified names; pg_catalog comes first unlisted
    # Its hundreds of small commits a run do not wait for the disk; a crash of the server can lose the last half second
    # of the event log, never a row of billing.
    "synchronous_commit": "off",
}
"""The settings of Dagster's sessions: it writes timestamps without a zone, in the session's zone."""

_TABLES = (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
_MAY_CREATE = f"""
    select case when to_regnamespace('{DAGSTER_SCHEMA}') is null
                then has_database_privilege(current_database(), 'create')
                else has_schema_privilege('{DAGSTER_SCHEMA}', 'create') end
"""
# A key, a schema or a table exists already, also if Dagster goes on after that; a deadlock.
_MADE_BY_ANOTHER = ("23505", "42P06", "42P07", "25P02", "40P01")
_TRIES = 5

DIED = (
    "the process of this run is gone (killed, or its machine or terminal was shut down): its last step is"
    " done completely, or was rolled back"
)
_UNDER_WAY = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_ENDS = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
_SECONDS_BETWEEN_PROOFS = 1.0
_SECONDS_WITHOUT_LIFE = 5.0
# Anybody may give a session this name: what counts is the login, which must be one that may write Dagster's runs.
_ALIVE = f"""
    select application_name from pg_catalog.pg_stat_activity a
    where application_name like 'arcadia run %' and datname = pg_catalog.current_database()
        and exists (select from pg_catalog.pg_roles r
                    where pg_catalog.pg_has_role(a.usesysid, r.oid, 'member')
                      and pg_catalog.has_table_privilege(r.oid, '{DAGSTER_SCHEMA}.runs', 'insert'))
"""


OPERATOR_TAG = "arcadia/operator"
"""The tag of a run with the login of whoever launched it in the UI."""
LOGGED_IN: ContextVar[str] = ContextVar("logged_in", default="")
"""That login, while the UI serves its request (guard.py sets it); empty if it is not known."""


class SettledDialect(PGDialect_psycopg2):
    """psycopg 2, with the settings of SESSION on each new connection. settings.dagster_url() names it."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        """A connection. Raises session.SessionRefused, psycopg2.Error."""
        raw = super().connect(*arguments, **{**session.KEEPALIVES, **parameters})
        try:
            raw.set_client_encoding("UTF8")  # psycopg 2 does not notice a SET, and would keep the old encoding
            cursor = raw.cursor()
            for statement in (session.say(SESSION), session.NOTICE_THE_VANISHED):
                cursor.execute(statement)
            raw.commit()
            cursor.execute(session.ask(SESSION))
            session.verify(cursor.fetchall())
            raw.commit()
        except BaseException:
            raw.close()
            raise
        return raw


class Life:
    """Proof that a run's process is alive: a connection that has the run's id as its name, and ends with the process.

    It is not a lock: anybody could take one before the run.
    """

    def __init__(self, url: str, run_id: str) -> None:
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
        self._run_id = run_id
        self._over = threading.Event()
        connection = retry_pg_connection_fn(self._take)
        threading.Thread(target=self._keep, args=(connection,), daemon=True, name=f"life of {run_id}").start()

    def end(self) -> None:
        """Give it up: the run has ended."""
        self._over.set()

    def _take(self) -> Connection:
        connection = self._engine.connect()
        connection.execute(text("select set_config('idle_session_timeout', '0', false)"))
        connection.execute(text(f"set application_name = '{_life_of(self._run_id)}'"))
        return connection

    def _keep(self, connection: Connection | None) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_PROOFS):
            try:
                connection = connection or self._take()
                connection.execute(text("select 1"))
            except (sqlalchemy.exc.SQLAlchemyError, session.SessionRefused):
                connection = None  # the server is gone, or has ended it; the run may live on
        if connection:
            connection.close()


def _life_of(run_id: str) -> str:
    """The application_name of its connection."""
    return f"arcadia run {uuid.UUID(run_id)}"


class ArcadiaRunStorage(PostgresRunStorage):
    """PostgresRunStorage that knows which runs are dead: the process that executes a run holds its Life.

    It also records who launched a run: only this class writes OPERATOR_TAG, whatever tags are asked for.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._lives: dict[str, Life] = {}
        super().__init__(*arguments, **options)

    def add_run(self, dagster_run: dg.DagsterRun) -> dg.DagsterRun:
        """Called by whoever launches a run: of a backfill that is the daemon, for whoever asked for the backfill."""
        login, backfill_id = LOGGED_IN.get(), dagster_run.tags.get("dagster/backfill")
        if not login and backfill_id and (backfill := self.get_backfill(backfill_id)):
            login = backfill.tags.get(OPERATOR_TAG, "")
        return super().add_run(dagster_run.with_tags(_launched_by(login, dagster_run.tags)))

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        """Called by the webserver."""
        tags = _launched_by(LOGGED_IN.get(), partition_backfill.tags)
        super().add_backfill(partition_backfill._replace(tags=tags))

    def handle_run_event(
        self, run_id: str, event: dg.DagsterEvent, update_timestamp: dt.datetime | None = None
    ) -> None:
        """Called by the run's own process as it starts: its Life begins before it is STARTED, and lasts to its end."""
        if event.event_type == dg.DagsterEventType.RUN_START and run_id not in self._lives:
            self._lives[run_id] = Life(self.postgres_url, run_id)
        super().handle_run_event(run_id, event, update_timestamp)
        if event.event_type in _ENDS and run_id in self._lives:
            self._lives.pop(run_id).end()

    def dispose(self) -> None:
        """Called when the instance is disposed of."""
        while self._lives:
            self._lives.popitem()[1].end()
        super().dispose()

    def without_life(self, run_ids: Collection[str]) -> list[str]:
        """The runs, of these that have started, whose process is gone.

        It looks for some seconds: if a run lives on and only its connection is lost, it connects again at once.
        """
        gone = set(run_ids)
        until = time.monotonic() + _SECONDS_WITHOUT_LIFE
        while gone:
            with self.connect() as connection:
                alive = set(connection.scalars(text(_ALIVE)))
            gone = {run_id for run_id in gone if _life_of(run_id) not in alive}
            if time.monotonic() > until:
                break
            if gone:
                time.sleep(_SECONDS_BETWEEN_PROOFS)
        return sorted(gone)


def _launched_by(login: str, tags: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in tags.items() if name != OPERATOR_TAG}
    return others | ({OPERATOR_TAG: login} if login else {})


class ArcadiaRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher that can be asked whether a run's process is alive, so that the daemon watches it.

    Also of runs that it did not launch, such as the command line's.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Called by the daemon for each run that has started."""
        storage = self._instance.run_storage
        if isinstance(storage, ArcadiaRunStorage) and storage.without_life([run.run_id]):
            return CheckRunHealthResult(WorkerStatus.FAILED, msg=DIED)
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def report_dead_runs(instance: dg.DagsterInstance, partition: str, but: str) -> None:
    """Report as failed the partition's runs that have started and whose process is gone; except the run `but`."""
    storage = instance.run_storage
    if not isinstance(storage, ArcadiaRunStorage):
        return  # nobody knows
    filters = dg.RunsFilter(statuses=list(_UNDER_WAY), tags={"dagster/partition": partition})
    others = [run.run_id for run in instance.get_runs(filters) if run.run_id != but]
    for run_id in storage.without_life(others):
        run = instance.get_run_by_id(run_id)
        if run and run.status == dg.DagsterRunStatus.STARTED:  # it has not ended meanwhile
            instance.report_run_failed(run, DIED)
        elif run and run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, DIED)


class ArcadiaStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage on the database of ARCADIA_DATABASE_URL, or the embedded one, which is started."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, should_autocreate_tables=False, inst_data=inst_data)
        self._run_storage = ArcadiaRunStorage(postgres_url, should_autocreate_tables=False)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the environment has it all."""
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
        return cls(dagster_url(url), inst_data)


def complete_tables(url: str) -> list[str]:
    """Create all tables that Dagster's schema lacks, or none; returns their names.

    Raises StorageError, also if the login may not create them: the owner does that, by `arcadia db migrate`.

    Dagster itself commits table by table, and looks only for the first of them at the next start: it would never create
    those that it was killed before. A schema of an older Dagster is left alone: `dagster instance migrate` updates it.
    If two create them at once, PostgreSQL lets one wait and then tells it that they exist: that needs no lock of ours,
    which others could take.
    """
    engine = sqlalchemy.create_engine(dagster_url(url), poolclass=sqlalchemy.NullPool)
    tries = 0
    while True:
        try:
            with database.transaction(engine) as connection:
                return _complete_tables(connection, dagster_url(url))
        except database.StorageError as error:
            tries += 1
            code = getattr(getattr(error.__cause__, "orig", None), "pgcode", None)
            if tries == _TRIES or code not in _MADE_BY_ANOTHER:
                raise


def _complete_tables(connection: Connection, url: str) -> list[str]:
    if not connection.scalar(text(_MAY_CREATE)):
        raise database.StorageError(
            f"Dagster's tables are not all in schema {DAGSTER_SCHEMA}, and {connection.engine.url.username} may not"
            " make them: run `arcadia db migrate` as the owner of the database"
        )
    # Tested first: `if not exists` requires the right to create schemas even if there is nothing to create.
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
            for index in table.indexes:  # a table that existed may lack its indexes
                index.create(connection, checkfirst=True)
    stamp_alembic_rev(alembic, connection)
    _migrate_data(connection, url)
    return missing


def _missing_tables(connection: Connection) -> list[str]:
    wanted = {"alembic_version", *(table.name for metadata in _TABLES for table in metadata.sorted_tables)}
    tables = text(f"select tablename from pg_catalog.pg_tables where schemaname = '{DAGSTER_SCHEMA}'")
    return sorted(wanted - set(connection.scalars(tables)))


def _migrate_data(connection: Connection, url: str) -> None:
    """Dagster's own data migrations, on this connection; each is recorded in the database and done once."""

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
    """Change to DAGSTER_HOME, or dagster_home(); returns the workspace.yaml to load: that folder's, or ours.

    Raises SettingsError.
    """
    os.environ["ARCADIA_HOME"] = str(home)  # it may be relative to the folder that we leave
    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(dagster_home(home))
    os.chdir(os.environ["DAGSTER_HOME"])  # the folders in dagster.yaml are relative to it
    mine = Path(os.environ["DAGSTER_HOME"]) / "workspace.yaml"
    return mine if mine.exists() else dagster_home(home) / mine.name


def _write(file: Path, text: str) -> None:
    """Whole or not at all: another process may be reading it."""
    if not file.exists() or file.read_text() != text:
        new = file.with_name(f".{file.name}.{os.getpid()}")
        new.write_text(text)
        new.replace(file)
