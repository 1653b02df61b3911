"""Trouble for a month that runs: its connections cut at any boundary, its process killed; and what it leaves behind."""

import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psycopg
from sqlalchemy import event
from sqlalchemy.engine import Engine

from arcadia_pipelines.pipeline.assets.deployment_quotes import deployment_quotes
from arcadia_pipelines.pipeline.assets.metered_usage import metered_usage
from arcadia_pipelines.pipeline.assets.tenant_invoices import publish_invoices
from arcadia_pipelines.pipeline.resources import BillingDatabase, Results
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.world import QUIETLY, World

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["arcadia_pipelines_tests.world"])


ASSETS = [metered_usage, deployment_quotes, publish_invoices]


OFFENDERS = """
    with lines as (
        select invoice_id, count(*) as lines, max(line_no) as last, sum(amount_cents) as total,
               coalesce(sum(amount_cents) filter (where kind = 'tax'), 0) as tax
        from billing.tenant_invoice_lines group by 1
    ),
    history as (
        select invoice_id, count(distinct revision) as revisions, max(revision) as newest,
               count(snapshot) as snapshots, count(*) filter (where event = 'issued') as issued,
               bool_or(event = 'voided') as voided
        from billing.invoice_events where invoice_id is not null group by 1
    ),
    numbers as (
        select period_start, invoice_number, invoice_id from billing.invoice_events where invoice_number is not null
        union select period_start, invoice_number, id from billing.tenant_invoices where invoice_number is not null
    )
    select 'an invoice without its lines, or not their sum', i.invoice_number
    from billing.tenant_invoices i left join lines l on l.invoice_id = i.id
    where (l.lines, l.total, l.tax) is distinct from (l.last::bigint, i.total_cents::numeric, i.tax_cents::numeric)
    union all
    select 'an event is missing, or one too many', i.invoice_number
    from billing.tenant_invoices i left join history h on h.invoice_id = i.id
    where (h.revisions, h.newest, h.snapshots, h.issued, h.voided)
          is distinct from (i.revision::bigint, i.revision, i.revision - 1::bigint, 1::bigint, i.status = 'void')
    union all
    select 'lines or events without their invoice', invoice_id::text
    from (select invoice_id from lines union select invoice_id from history) known
    where invoice_id not in (select id from billing.tenant_invoices)
    union all
    select 'a number is lost, or of two invoices', period_start::text
    from numbers group by period_start
    having count(*) <> max(split_part(invoice_number, '-', 3)::integer) or count(*) <> count(distinct invoice_number)
           or count(*) <> count(distinct invoice_id)
"""
"""What there is none of in months that are as before, or complete."""


BY_THE_CLOCK = {
    "run_id",
    "usage_cutoff",
    "issued_at",
    "inserted_at",
    "updated_at",
    "occurred_at",
    "found_at",
    "received_at",
    "frozen_rows",
    "quoted_rows",
    "invoiced_rows",
    "applied_at",
    "event_id",
    "sha256",  # of the chain: of times and ids
    "invoice_sha256",
    "begun_after_sha256",
}


Contents = list[tuple[str, Any]]
"""Every table of ours by name, and every row of each as a dict, in order."""


def seen(connection: "psycopg.Connection[Any]") -> tuple[Contents, list[Any]]:
    """What everybody can see now, and what of it is half done."""
    tables = connection.execute(
        "select relname from pg_class where relnamespace = 'billing'::regnamespace and relkind = 'r'"
    ).fetchall()
    union = " union all ".join(f"select '{name}', to_jsonb(t) from billing.{name} t" for (name,) in tables)
    rows = [(name, None) for (name,) in tables] + connection.execute(union.encode()).fetchall()
    return sorted(rows, key=repr), connection.execute(OFFENDERS.encode()).fetchall()


def whole(world: World) -> Contents:
    """The contents, of which nothing is half done."""
    with psycopg.connect(world.url) as connection:
        contents, offenders = seen(connection)
    assert offenders == []
    return contents


def billed(world: World) -> Contents:
    """The contents, of which nothing is half done, but for the clock's."""
    return timeless(whole(world))


def timeless(contents: Contents) -> Contents:
    """The contents but for what two runs of the same month differ in: clocks, run ids, ids of events, checks made."""

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {name: without(item) for name, item in value.items() if name not in BY_THE_CLOCK}

    rows = [(table, without(row)) for table, row in contents if table != "passed_controls"]
    for table, row in rows:
        if table == "invoice_events" and row:
            del row["id"]
    return sorted(rows, key=repr)


class Line:
    """The month's connections to PostgreSQL, and trouble on them, once, at the first boundary where it is expected.

    Boundaries are: before a statement, once a COPY to the server has begun, before a commit, and after it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.struck: str | None = None
        self.attempt: Callable[[], None] = lambda: None
        """Called before each connection is made: each step makes one, and one more each time it is retried."""
        self.expect(lambda _: False)
        # In the place of the engine's own listener, which it calls: the session is made as it always is.
        engine = BillingDatabase(url=url).engine()
        if event.contains(engine, "do_connect", database._connect):
            event.remove(engine, "do_connect", database._connect)
        event.listen(engine, "do_connect", self.connect)

    def expect(self, when: Callable[[str], bool], trouble: "Callable[[_Connection], None] | None" = None) -> None:
        """Expect it at the first boundary that `when` is true of; without another trouble, the connection is cut."""
        self.when, self.trouble, self.struck = when, trouble or cut, None

    def expect_at(self, number: int) -> None:
        """Expect it at the boundary of this number, the first being 0."""
        self.number = number
        count = itertools.count()
        self.expect(lambda _: next(count) == number)

    def connect(self, dialect: object, record: object, arguments: Any, options: Any) -> "_Connection":
        self.attempt()
        driver: Any = SimpleNamespace(connect=_Connection.connect)
        connection = database._connect(driver, record, arguments, {**options, "cursor_factory": _Cursor})
        assert isinstance(connection, _Connection)
        connection.line = self
        return connection

    def reach(self, connection: "_Connection", boundary: str) -> None:
        if self.struck is None and self.when(boundary):
            self.struck = boundary
            self.trouble(connection)


class _Connection(psycopg.Connection[Any]):
    line: Line | None = None  # until the session is made

    def commit(self) -> None:
        if self.line:
            self.line.reach(self, "commit")
        super().commit()
        before = self.line and self.line.struck
        if self.line:
            self.line.reach(self, "committed")
        if self.line and self.line.struck != before:  # it is done, and nobody has heard of it
            raise psycopg.OperationalError("server closed the connection unexpectedly")


class _Cursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, params: Any = None, **options: Any) -> "_Cursor":
        self._reach(f"{query} with {params}")
        return super().execute(query, params, **options)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[psycopg.Copy]:
        self._reach(statement)
        with super().copy(statement, params, **options) as rows:
            if " from stdin" in statement:
                self._reach(f"once begun: {statement}")
            yield rows

    def _reach(self, boundary: str) -> None:
        assert isinstance(self.connection, _Connection)
        if self.connection.line:
            self.connection.line.reach(self.connection, boundary)


def cut(connection: "_Connection") -> None:
    """Nothing goes over the connection any more, in either direction."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def terminate(connection: "_Connection") -> None:
    """PostgreSQL ends the connection, as when it is shut down."""
    assert connection.line
    World(connection.line.url).query("select pg_terminate_backend(%s)", connection.info.backend_pid)


def materialize(world: World, *assets: str) -> dg.ExecuteInProcessResult:
    """Materialise these assets of April, or all, without the checks beside them."""
    resources = {"database": BillingDatabase(url=world.url), "results": Results()}
    job = dg.Definitions(assets=ASSETS, resources=resources)
    return job.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key="2026-04-01",
        asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
        raise_on_error=False,
        run_config=QUIETLY,
    )


def until_waiting(world: World, number: int, ended: Callable[[], object]) -> None:
    """Return once so many wait for a lock in the database; `ended` tells that who should has come to an end."""
    deadline = time.monotonic() + 300
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while world.query(waiting) != [(number,)]:
        assert ended() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_until(url: str, month: str, fatal: str | None) -> None:
    """Run the month; die by SIGKILL when a statement that contains `fatal` is about to be sent."""

    def before_cursor_execute(*arguments: object) -> None:
        if fatal and fatal in str(arguments[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before_cursor_execute)
    World(url).publish(month)


def start(url: str, month: str, fatal: str | None = None) -> ForkServerProcess:
    """The same in a process of its own."""
    process = PROCESSES.Process(target=run_until, args=(url, month, fatal))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int | None:
    """Wait for the process; its exit code, negative for a signal."""
    process.join(600)
    return process.exitcode


def new_month(world: World) -> None:
    """A month with all that a first run writes: four invoices, a tenant held back, usage that nobody pays."""
    world.plan("studio", 5000, {"droplet_hours": (1488, 1)})
    world.plan("unpriced")
    world.addon("storage_50gb", 750)
    for tenant in ("pilot", "leaving", "paying", "steady", "broken"):
        world.tenant(tenant, "charity" if tenant == "steady" else None)
        world.deployment(tenant, f"{tenant}-web", "unpriced" if tenant == "broken" else "studio", ["storage_50gb"])
    world.use("pilot-web", "droplet_hours", 2160)
    world.use("pilot-web", "bandwidth", 7)


def published_month(world: World) -> None:
    """The same after its first run, and everything has changed: a revision, a void, a frozen one, a new tenant."""
    new_month(world)
    world.publish("2026-04")
    world.query("update billing.tenant_invoices set status = 'paid' where tenant_id = 'paying'")
    world.query("update cloud.subscriptions set status = 'pending' where tenant_id = 'leaving'")
    for tenant in ("pilot", "paying"):
        world.use(f"{tenant}-web", "droplet_hours", 2000)
    world.tenant("late")
    world.deployment("late", "late-web", "studio")
