"""Whom a month, an operator or a release waits for: nobody that only reads, nobody without end, and it is said who."""

import logging
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from arcadia_pipelines.api import queries
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline import resources
from arcadia_pipelines.storage import database, migrations, waits
from arcadia_pipelines_tests.api.conftest import ADMIN, served
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.logins import login
from arcadia_pipelines_tests.trouble import until_waiting
from arcadia_pipelines_tests.world import World, failures

pytestmark = pytest.mark.long

APRIL = BillingMonth.parse("2026-04")
LOCKS = ["gate", "publishing", *(f"month_{number:02}" for number in range(1, 13))]
MODES = ("access share", "row share", "row exclusive", "share update exclusive", "share", "exclusive")
ADVISORY = (f"{0x41524341}, 202604", f"{0x4D494752}", f"{0x50554253}", f"{0x44414753}")
"""What earlier releases took: the month's, the gate, the publishing, Dagster's first start."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is waited for is looked at often."""
    monkeypatch.setattr(waits, "_SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(waits, "_FIRST_LOOKS", 10_000)


def test_an_analyst_holds_up_no_month_no_operator_and_no_release(
    server_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a transaction that stays open and every advisory lock there was; the locks of ours are refused it."""
    monkeypatch.setenv("ARCADIA_LOCK_TIMEOUT", "60")
    world.pilot()
    with (
        login(server_url, world.url, "arcadia_analyst") as reads,
        login(server_url, world.url, "arcadia_pipeline", acting_as="arcadia_pipeline") as writes,
        psycopg.connect(reads) as analyst,
    ):
        for lock in ADVISORY:
            analyst.execute(f"select pg_advisory_lock({lock})".encode())
        analyst.execute("select from billing.tenant_invoices")
        for lock in LOCKS:
            for mode in MODES:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), analyst.transaction():
                    analyst.execute(f"lock table billing.{lock} in {mode} mode".encode())
        pipeline = World(writes)
        pipeline.month_end("2026-04")
        assert pipeline.done("hold_tenant", tenants=["pilot"]).startswith("1 ")
        assert migrations.migrate(database.engine(world.url)) == []
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


@pytest.mark.usefixtures("pilots_april")
def test_a_wait_ends_and_says_who_caused_it(
    server_url: str, world: World, looks: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For a month, as one login sees another; and for the row of an invoice that somebody else changes."""
    monkeypatch.setenv("ARCADIA_LOCK_TIMEOUT", "3")
    monkeypatch.setattr(resources, "RETRIES", 0)
    since = r"in a transaction since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, idle in transaction"
    ours, held = database.engine(world.url), r", held by process \d+ of PostgreSQL \(login arcadia, application arcadia"
    ended = r", until PostgreSQL ended the wait \(canceling statement due to lock timeout\): .*ARCADIA_LOCK_TIMEOUT"
    with login(server_url, world.url, "arcadia_pipeline", acting_as="arcadia_pipeline") as writes:
        with database.month_transaction(ours, APRIL) as connection:
            connection.exec_driver_sql("select\n 'by whom'")
            seen = rf"^waited for 2026-04{held}\) {since}: select 'by whom'{ended}"
            with pytest.raises(database.StorageInterrupted, match=seen), database.month_at_an_instant(ours, APRIL):
                pass
            hidden = rf"waited for 2026-04{held}; its start and query are hidden from login_\w+, unless "
            [failure] = failures(World(writes).month_end("2026-04", succeed=False))
            assert re.search(hidden, failure)
        told = [record.getMessage() for record in caplog.records if record.name == waits.LOGGER.name]
        assert re.search(rf"^waiting for 2026-04{held}\) {since}: select 'by whom'$", told[0])
        assert re.search(hidden.replace("waited", "waiting"), told[1])
        with psycopg.connect(world.url, application_name="finance") as finance:
            finance.execute("update billing.tenant_invoices set pushed_to_finance_at = now()")
            refused = world.refused("void_invoice", invoices=["INV-202604-00001"])
    row = rf"could not do it now \(.* lock timeout.*, held by process .*application finance\) {since}: update billing"
    assert re.search(row, refused)
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_release_behind_an_analysts_open_transaction_stalls_no_reader(
    world: World, looks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives way and tries again until it gets through; if it never does, one line says who was in the way."""
    folder = shutil.copytree(migrations.SQL / "migrations", tmp_path / "migrations")
    note = folder / "9999_note.sql"
    note.write_text("alter table billing.billing_months add x text;alter table billing.tenant_invoices add x text")
    engine = database.engine(world.url)
    with ThreadPoolExecutor(1) as threads:
        with psycopg.connect(world.url, application_name="an analyst") as analyst:
            analyst.execute("select from billing.tenant_invoices")
            release = threads.submit(migrations.migrate, engine, folder)
            until_waiting(world, 1, lambda: True if release.done() else None)
            with psycopg.connect(world.url, options="-c lock_timeout=30s") as reader:
                assert reader.execute("select count(*) from billing.tenant_invoices").fetchone() == (0,)
            assert not release.done()
        assert release.result() == ["9999_note.sql"]
    (folder / "9999_zebra.sql").write_text("alter table billing.tenant_invoices add y text")
    monkeypatch.setattr(migrations, "_TRIES", 2)
    who = r"^sql/migrations/9999_zebra.sql was tried 2 times: .*, held by process \d+ .* application an analyst\) in a "
    with psycopg.connect(world.url, application_name="an analyst") as analyst:
        analyst.execute("select from billing.tenant_invoices")
        with pytest.raises(database.StorageInterrupted, match=who):
            migrations.migrate(engine, folder)


def test_too_many_connections_are_reported_as_such(
    server_url: str, world: World, arcadia: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command line before and within a run, by a step of a month, and by the API."""
    monkeypatch.setattr(queries, "WAIT_SECONDS", 2.0)
    monkeypatch.setattr(resources, "RETRIES", 0)
    world.pilot()
    with login(server_url, world.url, "arcadia_pipeline", acting_as="arcadia_pipeline") as writes:
        world.query(f"alter role {writes.rpartition('//')[2].partition(':')[0]} connection limit 0")
        for command in ("invoice", "show pilot"):
            refused = arcadia(*command.split(), "2026-04", ARCADIA_DATABASE_URL=writes)
            assert (refused.code, refused.err.count("\n")) == (1, 1)
            assert re.search(r"has too many connections \(.*too many connections for role .*\): a month", refused.err)
        [failure] = failures(World(writes).month_end("2026-04", succeed=False))
        assert "has too many connections" in failure
        with served(writes) as client:
            answer = client.get("/api/v1/invoices", headers=ADMIN)
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("the database has too many connections, and none is left for the API")
