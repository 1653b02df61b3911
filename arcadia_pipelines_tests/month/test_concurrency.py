"""A month end that meets another, the platform, an operator or a migration: nothing twice or half, no deadlock."""

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline import resources
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests.trouble import Line, finish, new_month, published_month, start, until_waiting, whole
from arcadia_pipelines_tests.world import World, failures

pytestmark = pytest.mark.long


def test_eight_runs_of_one_month_at_once_leave_one_invoice_per_tenant(sample: World) -> None:
    """As if it had run once: fifteen invoices, fifteen events, numbers without a gap."""
    processes = [start(sample.url, "2026-04") for _ in range(8)]
    assert [finish(process) for process in processes] == [0] * 8
    at_once = whole(sample)
    numbers = sample.query("select invoice_number from billing.tenant_invoices order by 1")
    assert numbers == [(f"INV-202604-{number:05}",) for number in range(1, 16)]
    assert sample.query("select event, count(*) from billing.invoice_events group by 1") == [("issued", 15)]
    sample.month_end("2026-04")
    checks = ("passed_controls",)  # those runs made none
    assert [row for row in whole(sample) if row[0] not in checks] == [row for row in at_once if row[0] not in checks]


def test_a_transaction_of_the_platform_that_lingers_holds_up_neither_the_platform_nor_the_month(world: World) -> None:
    """It has written a deployment and not committed: others can write on, and the month waits until it is done."""
    world.pilot()
    with psycopg.connect(world.url) as lingering:
        lingering.execute("update cloud.cloud_deployments set name = name")
        process = start(world.url, "2026-04")
        until_waiting(world, 1, lambda: process.exitcode)
        started = time.monotonic()
        world.query("insert into cloud.cloud_deployments values (gen_random_uuid(), 'pilot', 'another')")
        assert time.monotonic() - started < 20  # two seconds at most, were the machine idle; for ever without a limit
        assert process.is_alive()
    assert finish(process) == 0
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


def test_four_months_at_once_do_not_wait_for_each_other_for_ever(sample: World) -> None:
    """Each attaches its partition to the same tables: no deadlock, every month complete."""
    months = [f"2026-{number:02}" for number in range(3, 7)]
    processes = [start(sample.url, month) for month in months]
    assert [finish(process) for process in processes] == [0] * 4
    assert [len(sample.invoices(month)) for month in months] == [15, 15, 16, 16]
    whole(sample)


# An operator.

VOID = """
    with voided as (
        update billing.tenant_invoices set status = 'void' where tenant_id = 'pilot' returning *
    )
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id)
    select id, invoice_number, tenant_id, period_start, 'voided', revision, total_cents, content_sha256, 'ada', 'moved',
           'by hand'
    from voided
"""


@pytest.mark.parametrize(
    ("instant", "reason", "pilot"),
    [
        # The pilot's April is about to be revised: plan 5000, addon 750, and now 4,160 - 1,488 = 2,672 hours.
        ("current_setting('transaction_isolation')", None, ("void", 1, 6422, 642, 7064)),
        ("create temporary table changes", None, ("void", 1, 6422, 642, 7064)),
        ("insert into billing.invoice_events", None, ("void", 2, 8422, 842, 9264)),
    ],
    ids=["before the month reads it", "before the month locks it", "before the month has revised it"],
)
def test_an_operator_who_voids_an_invoice_that_is_being_revised(
    world: World, instant: str, reason: str | None, pilot: tuple[object, ...]
) -> None:
    """It is frozen; or the run stops and says to run it again; or the void waits for the revision. Never half."""
    published_month(world)
    before = world.invoices("2026-04")
    with ThreadPoolExecutor(1) as operator:
        voiding: list[Future[object]] = []

        def void(_: object) -> None:
            voiding.append(operator.submit(world.query, VOID))
            if "events" in instant:
                until_waiting(world, 1, lambda: True if voiding[0].done() else None)
            else:
                voiding[0].result()

        line = Line(world.url)
        line.expect(lambda boundary: instant in boundary, void)
        result = world.month_end("2026-04", succeed=reason is None)
        voiding[0].result()
    whole(world)
    assert world.invoices("2026-04")["pilot"] == pilot
    if reason:
        assert [reason in failure for failure in failures(result)] == [True]
        assert world.invoices("2026-04") == {**before, "pilot": pilot}
    line.expect(lambda _: False)
    world.month_end("2026-04")
    whole(world)
    assert {tenant: invoice[0] for tenant, invoice in world.invoices("2026-04").items()} == {
        "late": "issued",
        "leaving": "void",
        "paying": "paid",
        "pilot": "void",
        "steady": "issued",
    }


# A migration.


def test_a_migration_waits_for_the_month_that_is_under_way(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes a table that the month is about to write, then one that it has written: no deadlock."""
    monkeypatch.setattr(resources, "RETRIES", 0)
    new_month(world)
    folder = shutil.copytree(migrations.SQL / "migrations", tmp_path / "migrations")
    (folder / "9999_note.sql").write_text(
        "alter table billing.billing_months add column note text;alter table billing.metered_usage add column note text"
    )
    with ThreadPoolExecutor(1) as release:
        migrating: list[Future[list[str]]] = []

        def migrate(_: object) -> None:
            migrating.append(release.submit(migrations.migrate, database.engine(world.url), folder))
            until_waiting(world, 1, lambda: True if migrating[0].done() else None)

        Line(world.url).expect(lambda boundary: "insert into billing.billing_months" in boundary, migrate)
        world.month_end("2026-04")
        assert migrating[0].result() == ["9999_note.sql"]
    whole(world)
    assert world.query("select usage_cutoff is not null, note from billing.billing_months") == [(True, None)]


def test_a_month_waits_for_what_must_have_the_database_to_itself(world: World) -> None:
    """A migration, or an operator's act on a tenant: the month sees what it did."""
    new_month(world)
    with ThreadPoolExecutor(1) as other:
        with database.exclusive_transaction(database.engine(world.url)) as connection:
            running = other.submit(world.month_end, "2026-04")
            until_waiting(world, 1, lambda: True if running.done() else None)
            connection.exec_driver_sql("update cloud.subscriptions set status = 'pending' where tenant_id = 'leaving'")
        running.result()
    whole(world)
    assert sorted(world.invoices("2026-04")) == ["paying", "pilot", "steady"]


# A limit of the session's that ends a wait.


def test_a_time_limit_that_ends_a_wait_is_named(world: World) -> None:
    """The role's or the database's: whatever is waited for, it is said, and the same again may go through."""
    april, may = BillingMonth.parse("2026-04"), BillingMonth.parse("2026-05")
    one, other = database.engine(world.url), database.engine(world.url)
    an_instant, the_month, alone = (
        database.month_at_an_instant,
        database.month_transaction,
        database.exclusive_transaction,
    )
    waits: list[tuple[str, AbstractContextManager[object], AbstractContextManager[object], str]] = [
        ("lock_timeout", the_month(one, april), the_month(other, april), "2026-04"),
        ("statement_timeout", the_month(one, april), an_instant(other, april), "2026-04"),
        ("statement_timeout", an_instant(one, april, True), an_instant(other, may, True), "its turn to publish"),
        ("statement_timeout", alone(one), the_month(other, april), "a migration, or an operator"),
        ("statement_timeout", the_month(one, april), alone(other), "the months that are running"),
    ]
    for limit, held, waiting, what in waits:
        world.query(f"alter database {world.url.rpartition('/')[2]} set {limit} = '300ms'")
        told = rf"^waited for {what}.* ended the wait \(canceling .* timeout.*; run it again .* raise the {limit} of"
        with held, pytest.raises(database.StorageInterrupted, match=told), waiting:
            pass
        world.query(f"alter database {world.url.rpartition('/')[2]} reset {limit}")


def test_a_statement_over_its_time_limit_is_reported_as_such(world: World) -> None:
    """Not as a server that is not there."""
    world.query(f"alter database {world.url.rpartition('/')[2]} set statement_timeout = '300ms'")
    told = r"ended a statement \(canceling statement due to statement timeout\): .*, raise the statement_timeout of"
    with (
        pytest.raises(database.StorageError, match=told) as refused,
        database.transaction(database.engine(world.url)) as connection,
    ):
        connection.exec_driver_sql("select pg_sleep(5)")
    assert not isinstance(refused.value, database.StorageInterrupted)
