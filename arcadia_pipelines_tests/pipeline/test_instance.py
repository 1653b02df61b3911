"""Dagster's first start, killed: its tables are there as Dagster itself makes them, or none of them."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import event

from arcadia_pipelines.cli import launch
from arcadia_pipelines.pipeline.instance import complete_tables
from arcadia_pipelines.settings import dagster_url
from arcadia_pipelines_tests.command_line import Call, surroundings
from arcadia_pipelines_tests.trouble import PROCESSES, finish
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long

MADE = """
    select 'table', tablename from pg_tables where schemaname = 'dagster'
    union all select 'index', indexdef from pg_indexes where schemaname = 'dagster'
    union all select 'version', version_num from dagster.alembic_version
    union all select 'data migration', name from dagster.secondary_indexes
    order by 1, 2
"""


def as_dagster(url: str) -> None:
    """Make the tables as Dagster itself does, which is how earlier releases of ours did."""
    DagsterPostgresStorage(dagster_url(url))


def as_we(url: str) -> None:
    """Start Dagster on its storage."""
    launch.instance().dispose()


def dying(make: Callable[[str], None], url: str, environment: dict[str, str], fatal: str) -> None:
    """Make the tables; die by SIGKILL when a statement that contains `fatal` is about to be sent."""

    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if fatal in " ".join(statement.split()):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(sqlalchemy.Engine, "before_cursor_execute", look)
    os.environ.update(environment)
    make(url)


def killed(make: Callable[[str], None], world: World, folder: Any, fatal: str) -> None:
    """In a process that is killed before the statement."""
    process = PROCESSES.Process(target=dying, args=(make, world.url, surroundings(world.url, folder), fatal))
    process.start()
    assert finish(process) == -signal.SIGKILL, fatal


def test_a_first_start_that_is_killed_leaves_nothing_and_the_next_makes_all_that_dagster_makes(
    world: World, empty_url: str, arcadia: Call, tmp_path: Any
) -> None:
    """Before a table, an index, the version, a data migration; in the end it is as Dagster's own start leaves it."""
    for fatal in (
        "CREATE TABLE asset_keys",
        "CREATE INDEX idx_job_tick_status",
        "alembic_version (",
        "INSERT INTO secondary_indexes",
    ):
        killed(as_we, world, tmp_path, fatal)
        assert world.query("select tablename from pg_tables where schemaname = 'dagster'") == [], fatal
    as_we(world.url)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("create schema dagster")
        as_dagster(empty_url)
        assert world.query(MADE) == connection.execute(MADE.encode()).fetchall()
    assert "the schema is up to date" in arcadia("db", "migrate").out


def test_first_starts_at_once_do_not_fail(world: World) -> None:
    """Though no lock keeps them apart, which an analyst could take: PostgreSQL lets one wait for the other."""
    with ThreadPoolExecutor(4) as starts:
        list(starts.map(complete_tables, [world.url] * 4))
    assert complete_tables(world.url) == []
    assert world.query("select count(*) from dagster.alembic_version") == [(1,)]


@pytest.mark.parametrize("fatal", ["CREATE TABLE asset_keys", "CREATE TABLE job_ticks"])
def test_tables_that_an_earlier_first_start_was_killed_between_are_completed(
    world: World, arcadia: Call, tmp_path: Any, fatal: str
) -> None:
    """By `arcadia db migrate`, which says so once; and by whatever starts Dagster next, too."""
    killed(as_dagster, world, tmp_path, fatal)
    half = world.query("select count(*) from pg_tables where schemaname = 'dagster'")
    assert half != [(0,)]
    answer = arcadia("db", "migrate")
    assert (answer.code, answer.err) == (0, "")
    assert "made the tables that Dagster lacked: " in answer.out
    assert fatal.rpartition(" ")[2] in answer.out
    assert arcadia("db", "migrate").out == "the schema is up to date\n"
    world.pilot()
    assert arcadia("invoice", "2026-04").code == 0
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
