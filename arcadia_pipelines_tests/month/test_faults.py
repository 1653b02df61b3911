"""A month end that breaks off at any instant: it is as before or complete, a re-run completes it, one line says why.

Connections are cut at every statement, processes and PostgreSQL itself are killed, the disk is full. What only passes
is retried.
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from arcadia_pipelines import embedded
from arcadia_pipelines.pipeline import resources
from arcadia_pipelines.storage import database, migrations, streams
from arcadia_pipelines.storage.database import StorageError, StorageInterrupted
from arcadia_pipelines_tests import command_line
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.trouble import (
    Line,
    _Connection,
    billed,
    cut,
    finish,
    materialize,
    new_month,
    published_month,
    seen,
    start,
    terminate,
    until_waiting,
    whole,
)
from arcadia_pipelines_tests.world import World, failures

pytestmark = pytest.mark.long

# Connections that break.


@pytest.mark.parametrize("prepare", [new_month, published_month])
def test_a_month_cut_off_at_every_statement_in_turn_ends_as_if_nothing_had_happened(
    world: World, server_url: str, prepare: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is cut off at its first boundary, retried, cut off at its second, and so on until none is left.

    Whenever it begins again, every row of every table is as it was before the step; or, cut off after its commit, all
    is there, and the next attempt writes nothing.
    """
    monkeypatch.setattr(resources, "RETRIES", 1000)
    monkeypatch.setattr(resources, "RETRY_SECONDS", 0)
    prepare(world)
    with copy_of(server_url, world.url.rpartition("/")[2]) as undisturbed:
        World(undisturbed).month_end("2026-04")
        expected = billed(World(undisturbed))
    line = Line(world.url)
    struck: list[str] = []
    wrong: list[object] = []
    before = whole(world)

    def attempt() -> None:
        nonlocal before
        now, half_done = seen(watch)
        wrong.extend(half_done)
        if now != before and line.struck not in (None, "committed"):
            wrong.append(line.struck)
        before = now
        if line.struck is None:
            line.number = 0
        else:
            struck.append(line.struck)
            line.number += 1
        line.expect_at(line.number)

    with psycopg.connect(world.url, autocommit=True) as watch:
        line.attempt = attempt
        result = materialize(world)
    assert wrong == []
    assert result.success, failures(result)
    assert billed(world) == expected
    # A step that is done has more statements when it is run again, and may be cut off at its commit once more.
    assert struck.count("commit") == struck.count("committed") >= 3
    assert len(struck) > 50


# What is retried, and what is not.


def test_a_run_that_is_interrupted_once_in_every_step_is_green(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off within a COPY, a deadlock, ended by the server, cut off in a check: each is retried, nothing is twice."""
    monkeypatch.setattr(resources, "RETRY_SECONDS", 0.01)
    new_month(world)
    world.query("create sequence public.attempts")
    world.query("""
        create function public.deadlock() returns trigger language plpgsql as $$ begin
            if nextval('public.attempts') = 1 then
                raise exception 'deadlock detected' using errcode = '40P01';
            end if;
            return null;
        end $$
    """)
    world.query("create trigger deadlock after insert on billing.unbilled_usage execute function public.deadlock()")
    line = Line(world.url)
    troubles = [
        ("insert into billing.metered_usage_2026_04", cut),
        ("billing.attach_partition(%(table)s, %(month)s) with {'table': 'tenant_invoice_lines'", terminate),
        ("offenders_in_all", cut),
    ]

    def attempt() -> None:
        if line.struck:
            troubles.pop(0)
        if troubles:
            line.expect(lambda boundary: troubles[0][0] in boundary, troubles[0][1])
        else:
            line.expect(lambda _: False)

    line.attempt = attempt
    result = world.month_end("2026-04")
    retried = [event.step_key for event in result.all_events if event.is_step_up_for_retry]
    assert retried[:3] == ["metered_usage", "deployment_quotes", "publish_invoices"]
    assert len(retried) == 4
    whole(world)
    assert {tenant: invoice[:2] for tenant, invoice in world.invoices("2026-04").items()} == dict.fromkeys(
        ("leaving", "paying", "pilot", "steady"), ("issued", 1)
    )


def test_a_reader_that_is_ended_ends_the_step_which_is_retried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large months are read on connections beside the one that writes: one waits for a table, the server ends it."""
    monkeypatch.setattr(resources, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(streams, "CHUNK_ROWS", 0)
    new_month(world)

    def lock_the_usage() -> None:  # which waits for the connection that writes, and the reader behind it
        with psycopg.connect(world.url) as other:
            other.execute("lock table billing.metered_usage in access exclusive mode")

    def end_the_reader() -> None:
        until_waiting(world, 2, lambda: None)
        world.query("""
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and application_name like 'arcadia reader of %'
                and wait_event_type = 'Lock'
        """)

    with ThreadPoolExecutor(2) as other:
        line = Line(world.url)

        def lock(_: object) -> None:
            other.submit(lock_the_usage)
            until_waiting(world, 1, lambda: None)
            other.submit(end_the_reader)

        line.expect(lambda boundary: "pg_export_snapshot" in boundary, lock)
        result = world.month_end("2026-04")
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["deployment_quotes"]
    whole(world)
    assert len(world.invoices("2026-04")) == 4


def test_a_table_that_is_altered_while_a_month_is_read_holds_nobody_up_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alteration waits for the connection that writes, which waits for a reader, which waits for the alteration."""
    monkeypatch.setattr(resources, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(streams, "LOCK_WAIT_MS", 200)
    monkeypatch.setattr(streams, "CHUNK_ROWS", 0)
    new_month(world)
    with ThreadPoolExecutor(1) as other:
        line = Line(world.url)

        def alter(_: object) -> None:
            altered.append(other.submit(world.query, "alter table cloud.plans alter name set default 'Plan'"))
            until_waiting(world, 1, lambda: None)

        altered: list[Future[object]] = []
        line.expect(lambda boundary: "pg_export_snapshot" in boundary, alter)
        result = world.month_end("2026-04")
        altered[0].result()
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["deployment_quotes"]
    whole(world)
    assert len(world.invoices("2026-04")) == 4


ATTEMPTS = {
    "08006": 4,  # connection failure
    "40001": 4,  # serialization failure
    "40P01": 4,  # deadlock detected
    "55P03": 4,  # lock not available
    "57P01": 4,  # admin shutdown
    "57P02": 4,  # crash shutdown
    "57P03": 4,  # cannot connect now
    "23514": 1,  # check violation
    "28P01": 1,  # invalid password
    "53100": 1,  # disk full
    "53400": 1,  # configuration limit exceeded
    "57014": 1,  # query canceled
}


def test_only_transient_errors_are_retried_and_at_most_three_times(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that comes every time: its attempts by SQLSTATE. Each wait is about twice the last, never quite."""
    monkeypatch.setattr(resources, "RETRY_SECONDS", 0.001)
    new_month(world)
    world.query("create table public.trouble as select ''::text as code")
    world.query("""
        create function public.fail() returns trigger language plpgsql as $$ begin
            raise exception 'as ever' using errcode = (select code from public.trouble);
        end $$
    """)
    world.query("create trigger fail after insert on billing.billing_months execute function public.fail()")
    attempts, spread = {}, set()
    for code in ATTEMPTS:
        world.query("update public.trouble set code = %s", code)
        result = materialize(world, "metered_usage")
        [reason] = failures(result)
        assert "as ever" in reason
        waits = [event.step_retry_data.seconds_to_wait for event in result.all_events if event.is_step_up_for_retry]
        attempts[code] = len(waits) + 1
        for number, seconds in enumerate(waits):
            assert seconds is not None
            assert 0.0005 <= seconds / 2**number <= 0.0015
            spread.add(seconds / 2**number)
    assert attempts == ATTEMPTS
    assert len(spread) > 20
    assert whole(world) == whole(world)
    assert world.query("select * from billing.metered_usage") == []


def test_a_server_that_does_not_answer_may_answer_later_and_one_that_refuses_us_will_not(url: str) -> None:
    """Nobody listens, the name is unknown; a wrong password, a wrong database."""

    def error(url: str) -> StorageError:
        with pytest.raises(StorageError) as raised, database.transaction(database.engine(url)):
            pass
        return raised.value

    password, name = url.split("@")[0].rpartition(":")[2], url.rpartition("/")[2]
    assert isinstance(error("postgresql://127.0.0.1:1/closed"), StorageInterrupted)
    assert isinstance(error(url.replace(f":{password}@", ":guess@")), StorageError)
    assert not isinstance(error(url.replace(f":{password}@", ":guess@")), StorageInterrupted)
    assert not isinstance(error(url.replace(name, "nowhere")), StorageInterrupted)


# One line for whoever typed `arcadia invoice`.


@pytest.mark.parametrize(
    ("trouble", "reason"), [(cut, "closed the connection unexpectedly"), (terminate, "administrator command")]
)
def test_a_connection_that_is_lost_every_time_is_one_line_and_nothing_is_half_written(
    world: World,
    arcadia: Call,
    monkeypatch: pytest.MonkeyPatch,
    trouble: "Callable[[_Connection], None]",
    reason: str,
) -> None:
    """While the lines are copied, four times: the month is not invoiced. Then the line holds, and it is."""
    monkeypatch.setattr(resources, "RETRY_SECONDS", 0)
    new_month(world)
    line = Line(world.url)
    line.attempt = lambda: line.expect(
        lambda boundary: "once begun: copy billing.tenant_invoice_lines" in boundary, trouble
    )
    refused(
        arcadia("invoice", "2026-04"),
        "2026-04 was not invoiced: cannot work with PostgreSQL at 127.0.0.1:",
        reason,
        "(tried 4 times)",
    )
    whole(world)
    assert world.invoices("2026-04") == {}
    line.attempt = lambda: line.expect(lambda _: False)
    assert arcadia("invoice", "2026-04", "--json").json()["actions"]["add"] == 4
    whole(world)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a server for tests that do it harm."""
    home = tmp_path_factory.mktemp("harmed")
    url = embedded.start(home)
    migrations.migrate(database.engine(url))
    new_month(World(url))
    yield home
    embedded.stop(home)


def test_a_full_disk_is_one_line_and_once_there_is_room_the_month_is_invoiced(own_server: Path, arcadia: Call) -> None:
    """The table of invoices lies on Linux's device that is always full, until it is moved."""
    url = embedded.start(own_server)
    world = World(url)
    [(path,)] = world.query("select pg_relation_filepath('billing.tenant_invoices')")
    file = own_server / "postgres" / path
    aside = file.rename(file.with_name("aside"))
    file.symlink_to("/dev/full")
    try:
        refused(
            arcadia("invoice", "2026-04", ARCADIA_DATABASE_URL=url),
            "2026-04 was not invoiced: the disk of the database 127.0.0.1:",
            "No space left on device",
            "make room and run again",
        )
    finally:
        aside.rename(file)
    whole(world)
    assert world.invoices("2026-04") == {}
    assert arcadia("invoice", "2026-04", "--json", ARCADIA_DATABASE_URL=url).json()["actions"]["add"] == 4
    whole(world)


# Processes that are killed.


def test_postgresql_killed_while_a_month_is_published_starts_again_with_the_month_as_it_was(
    own_server: Path, tmp_path: Path
) -> None:
    """All its processes at once, as in a power cut: invoices are written, their events are not. One line says it."""
    url = embedded.start(own_server)
    world = World(url)
    with psycopg.connect(url) as lock:
        lock.execute("lock table billing.invoice_events in share mode")
        publishing = command_line.start("arcadia", "invoice", "2026-05", url=url, folder=tmp_path)
        until_waiting(world, 1, publishing.poll)
        before = whole(world)
        postmaster = psutil.Process(int((own_server / "postgres" / "postmaster.pid").read_text().split()[0]))
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it has noticed that the postmaster is gone
                process.kill()
        out, err = publishing.communicate(timeout=120)
        lock.close()
    refused(
        command_line.Answer(publishing.returncode, out, err),
        "2026-05 is as it was, or invoiced whole",
        "see that PostgreSQL runs",
    )
    assert embedded.start(own_server) == url
    assert whole(world) == before
    assert world.invoices("2026-05") == {}
    world.publish("2026-05")
    whole(world)
    numbers = "select invoice_number from billing.tenant_invoices where period_start = '2026-05-01' order by 1"
    assert world.query(numbers) == [(f"INV-202605-{number:05}",) for number in range(1, 5)]


@pytest.mark.parametrize(
    ("prepare", "fatal", "invoices"),
    [
        (new_month, "select count(*) from billing.tenant_invoice_lines", 4),  # all is written, nothing is committed
        (published_month, "insert into billing.invoice_events", 5),
    ],
)
def test_a_run_that_is_killed_leaves_the_month_as_it_was_and_the_next_completes_it(
    world: World, prepare: Callable[[World], None], fatal: str, invoices: int
) -> None:
    """By SIGKILL, which no code of ours survives to tidy up after."""
    prepare(world)
    before = world.invoices("2026-04")
    assert finish(start(world.url, "2026-04", fatal)) == -signal.SIGKILL
    whole(world)
    assert world.invoices("2026-04") == before
    world.publish("2026-04")
    whole(world)
    assert len(world.invoices("2026-04")) == invoices
