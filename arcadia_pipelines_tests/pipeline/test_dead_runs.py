"""A run whose process died holds nobody up: whoever comes next reports it as failed, and no run that is alive."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli import launch
from arcadia_pipelines.pipeline.instance import DIED, ArcadiaRunStorage
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests import command_line
from arcadia_pipelines_tests.command_line import surroundings
from arcadia_pipelines_tests.logins import login
from arcadia_pipelines_tests.trouble import PROCESSES, finish
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long

WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
END = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
REPORTED = "select count(*) from dagster.event_logs where dagster_event_type = 'PIPELINE_FAILURE'"
SAID = "select event from dagster.event_logs where dagster_event_type = 'PIPELINE_FAILURE'"
APRIL = BillingMonth.parse("2026-04")


def invoice(environment: dict[str, str], month: str, fatal: str | None) -> None:
    """What `arcadia invoice` does; it dies by SIGKILL when a statement that contains `fatal` is about to be sent."""

    def look(*arguments: Any) -> None:
        if fatal and fatal in str(arguments[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", look)
    os.environ.update(environment)
    launch.run(BillingMonth.parse(month), launch.instance())


def begin(world: World, folder: Path, month: str, fatal: str | None = None) -> Any:
    """The same in a process of its own."""
    process = PROCESSES.Process(target=invoice, args=(surroundings(world.url, folder), month, fatal))
    process.start()
    return process


def states(world: World) -> list[tuple[str, str]]:
    """Month and status of each run, in order."""
    return world.query("select substr(partition, 1, 7), status from dagster.runs order by 1, id")


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until it is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_next_run_of_a_month_reports_those_that_were_killed_and_none_that_is_alive(
    world: World, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two were killed, the second of which reported the first; of two that wait, one loses its connections.

    That an analyst's session bears the first one's name is no sign that it lives.
    """
    world.pilot()
    with login(server_url, world.url, "arcadia_analyst") as analyst:
        assert finish(begin(world, tmp_path, "2026-04", "insert into billing.metered_usage")) == -signal.SIGKILL
        [(first,)] = world.query("select run_id from dagster.runs")
        with psycopg.connect(analyst, application_name=f"arcadia run {first}"):
            assert finish(begin(world, tmp_path, "2026-04", "insert into billing.invoice_events")) == -signal.SIGKILL
    assert states(world) == [("2026-04", "FAILURE"), ("2026-04", "STARTED")]
    with database.month_transaction(database.engine(world.url), APRIL):
        waiting = [begin(world, tmp_path, "2026-04") for _ in range(2)]
        until(lambda: world.query(WAITING) == [(2,)])
        alive = [run_id for (run_id,) in world.query("select run_id from dagster.runs order by id offset 2")]
        assert world.query(END, f"arcadia run {alive[0]}") == [(True,)]
        for name, value in surroundings(world.url, tmp_path).items():
            monkeypatch.setenv(name, value)
        with launch.instance() as instance:
            assert isinstance(instance.run_storage, ArcadiaRunStorage)
            assert instance.run_storage.without_life(alive) == []
    assert [finish(process) for process in waiting] == [0, 0]
    assert states(world) == [("2026-04", "FAILURE")] * 2 + [("2026-04", "SUCCESS")] * 2
    assert world.query(REPORTED) == [(2,)]
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


def test_after_a_restart_of_every_process_a_month_is_invoiced_without_anybodys_hand(
    world: World, tmp_path: Path
) -> None:
    """Four runs of the command line were killed, one of them April's; April's own is queued, and the daemon starts."""
    world.pilot()
    killed = [begin(world, tmp_path, f"2026-0{number}", "insert into billing.metered_usage") for number in range(1, 5)]
    assert [finish(process) for process in killed] == [-signal.SIGKILL] * 4
    assert states(world) == [(f"2026-0{number}", "STARTED") for number in range(1, 5)]
    ended = [(f"2026-0{number}", "FAILURE") for number in range(1, 5)] + [("2026-04", "SUCCESS")]
    workspace = ("-w", str(PROJECT / "workspace.yaml"))
    tags = '{"dagster/partition": "2026-04-01"}'
    job = command_line.start(
        "dagster", "job", "launch", *workspace, "-j", "month_end", "--tags", tags, url=world.url, folder=tmp_path
    )
    _, err = job.communicate(timeout=180)
    assert job.returncode == 0, err
    daemon = command_line.start("dagster-daemon", "run", *workspace, url=world.url, folder=tmp_path)
    try:
        until(lambda: states(world) == ended, 240)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert all(DIED in said for (said,) in world.query(SAID))
