"""Dagster's own storage (runs, events, schedules), a schema of its own in the billing database; where its settings are.

dagster.yaml names the storage. Its URL is derived from ours here, so that `dagster dev` in the folder needs no
environment at all.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from arcadia_pipelines.settings import DAGSTER_SCHEMA, PROJECT, SHIPPED, Settings, SettingsError, dagster_url
from arcadia_pipelines.storage import database, session

SESSION = session.BASIC | {
    "search_path": DAGSTER_SCHEMA,
    # Its hundreds of small commits a run do not wait for the disk; a crash of the server can lose the last half second
    # of the event log, never a row of billing.
    "synchronous_commit": "off",
}
"""What Dagster's sessions rely on: it writes timestamps without a zone, by the session's."""


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
            # Looked for first: `if not exists` wants the right to create schemas even where there is nothing to create.
            if connection.scalar(text(f"select to_regnamespace('{DAGSTER_SCHEMA}') is null")):
                connection.execute(text(f"create schema if not exists {DAGSTER_SCHEMA}"))
        return cls(postgres_url=dagster_url(url), inst_data=inst_data)


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


def _write(file: Path, text: str) -> None:
    """Whole or not at all: another process may be reading it."""
    if not file.exists() or file.read_text() != text:
        new = file.with_name(f".{file.name}.{os.getpid()}")
        new.write_text(text)
        new.replace(file)
