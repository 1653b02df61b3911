"""A month end that is killed, or that meets another: the month is as before, or complete, and never twice."""

import multiprocessing
import os
import signal
import time
from multiprocessing.context import ForkServerProcess

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from arcadia_pipelines_tests.world import World

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["arcadia_pipelines_tests.world"])

STATE = """
    select 'usage', deployment_id::text, quantity::text from billing.metered_usage
    union all select 'quote', description, amount_cents::text from billing.deployment_quote_lines
    union all select 'invoice', invoice_number, revision || ' ' || total_cents from billing.tenant_invoices
    union all select 'line', id::text, amount_cents::text from billing.tenant_invoice_lines
    union all select 'event', event, revision::text from billing.invoice_events
    union all select 'partition', inhrelid::regclass::text, ''
              from pg_inherits where inhparent::regclass::text ~ 'lines'
    order by 1, 2, 3
"""


def run_until(url: str, month: str, fatal: str | None) -> None:
    """Run the month; die by SIGKILL when a statement that contains `fatal` is about to be sent."""

    def before_cursor_execute(*arguments: object) -> None:
        if fatal and fatal in str(arguments[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before_cursor_execute)
    World(url).month_end(month)


def start(url: str, month: str, fatal: str | None = None) -> ForkServerProcess:
    """The same in a process of its own."""
    process = PROCESSES.Process(target=run_until, args=(url, month, fatal))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int | None:
    """Wait for the process; its exit code, negative for a signal."""
    process.join(120)
    return process.exitcode


@pytest.mark.parametrize(
    "fatal",
    [
        "attach partition billing.metered_usage",
        "insert into billing.billing_months",
        "attach partition billing.deployment_quote_lines",
        "pg_advisory_xact_lock(%(key)s)",  # before the first row of the invoices
        "insert into billing.invoice_events",
        "create table billing.tenant_invoice_lines",
        "attach partition billing.tenant_invoice_lines",
        "drop constraint one_month",
        "select count(*) from billing.tenant_invoice_lines",  # all is written, nothing is committed
    ],
)
def test_a_first_run_that_is_killed_publishes_nothing_and_the_next_run_completes_it(world: World, fatal: str) -> None:
    """At no point is there an invoice without its lines, or a line without its invoice: there is none at all."""
    world.pilot()
    assert finish(start(world.url, "2026-04", fatal)) == -signal.SIGKILL
    assert world.invoices("2026-04") == {}
    assert world.query("select * from billing.tenant_invoice_lines") == []
    assert world.query("select * from billing.invoice_events") == []
    world.month_end("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.query("select invoice_number from billing.tenant_invoices") == [("INV-202604-00001",)]


@pytest.mark.parametrize(
    "fatal",
    [
        "delete from billing.metered_usage",
        "for update of i",
        "delete from billing.tenant_invoice_lines",
        "set status = 'void'",
    ],
)
def test_a_rerun_that_is_killed_leaves_the_published_month_as_it_was(world: World, fatal: str) -> None:
    """Revision 1 stands whole until revision 2 is committed whole."""
    world.pilot()
    world.month_end("2026-04")
    published = "select * from billing.tenant_invoices i join billing.tenant_invoice_lines l on l.invoice_id = i.id"
    before = world.query(published)
    world.use("web", "droplet_hours", 100)
    assert finish(start(world.url, "2026-04", fatal)) == -signal.SIGKILL
    assert world.query(published) == before
    world.month_end("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6522, 652, 7174)}
    assert world.query("select event, revision from billing.invoice_events order by id") == [
        ("issued", 1),
        ("reissued", 2),
    ]


def test_eight_runs_of_one_month_at_once_leave_one_invoice_per_tenant(sample: World) -> None:
    """As if it had run once: fifteen invoices, fifteen events, numbers without a gap."""
    processes = [start(sample.url, "2026-04") for _ in range(8)]
    assert [finish(process) for process in processes] == [0] * 8
    at_once = sample.query(STATE)
    numbers = sample.query("select invoice_number from billing.tenant_invoices order by 1")
    assert numbers == [(f"INV-202604-{number:05}",) for number in range(1, 16)]
    assert sample.query("select event, count(*) from billing.invoice_events group by 1") == [("issued", 15)]
    sample.month_end("2026-04")
    assert sample.query(STATE) == at_once


def test_a_transaction_of_the_platform_that_lingers_holds_up_neither_the_platform_nor_the_month(world: World) -> None:
    """It has written a deployment and not committed: others can write on, and the month waits until it is done."""
    world.pilot()
    with psycopg.connect(world.url) as lingering:
        lingering.execute("update cloud.cloud_deployments set name = name")
        process = start(world.url, "2026-04")
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        while world.query(waiting) == [(0,)]:
            assert process.is_alive()
        started = time.monotonic()
        world.query("insert into cloud.cloud_deployments values (gen_random_uuid(), 'pilot', 'another')")
        assert time.monotonic() - started < 20  # two seconds at most, were the machine idle; for ever without a limit
        assert process.is_alive()
    assert finish(process) == 0
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


def test_eight_months_at_once_do_not_wait_for_each_other_for_ever(sample: World) -> None:
    """Each attaches its partition to the same tables: no deadlock, every month complete."""
    months = [f"2026-{number:02}" for number in range(1, 9)]
    processes = [start(sample.url, month) for month in months]
    assert [finish(process) for process in processes] == [0] * 8
    assert [len(sample.invoices(month)) for month in months] == [15, 15, 15, 15, 16, 16, 15, 15]
