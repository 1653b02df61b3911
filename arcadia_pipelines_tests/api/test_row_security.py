"""The database enforces it too: what the API's role sees when a query has no WHERE at all."""

import datetime as dt
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from arcadia_pipelines.api import queries
from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests.databases import EMPTY, copy_of
from arcadia_pipelines_tests.world import World

TABLES = ("tenant_invoices", "tenant_invoice_lines", "invoice_events")


@contextmanager
def as_api(url: str, **settings: str) -> Iterator["psycopg.Connection[Any]"]:
    """A transaction as the API's role with these settings."""
    with psycopg.connect(url) as connection:
        connection.execute("set local role arcadia_api")
        for name, value in settings.items():
            connection.execute("select set_config(%s, %s, true)", [f"arcadia.{name}", value])
        yield connection


def counts(connection: "psycopg.Connection[Any]") -> tuple[int, ...]:
    """How many invoices, lines and events a query without a WHERE shows."""
    found = [connection.execute(f"select count(*) from billing.{name}".encode()).fetchall() for name in TABLES]
    return tuple(number for [(number,)] in found)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tenant_id": "pilot"},
        {"role": "tenant"},
        {"role": "tenant", "tenant_id": ""},
        {"role": "tenant", "tenant_id": "nobody"},
        {"role": "", "tenant_id": "pilot"},
        {"role": "Platform_Admin", "tenant_id": "pilot"},
    ],
)
def test_who_is_not_said_sees_nothing(billed: World, settings: dict[str, str]) -> None:
    with as_api(billed.url, **settings) as connection:
        assert counts(connection) == (0, 0, 0)


def test_a_tenant_sees_its_rows_only_without_any_where(billed: World) -> None:
    with as_api(billed.url, role="tenant", tenant_id="pilot") as connection:
        tenants = connection.execute("select distinct tenant_id from billing.tenant_invoices").fetchall()
        owners = connection.execute(
            "select distinct i.tenant_id from billing.tenant_invoice_lines l"
            " left join billing.tenant_invoices i on i.id = l.invoice_id"
        ).fetchall()
        seen = counts(connection)
    mine = billed.query(
        "select count(distinct i.id), count(*) from billing.tenant_invoices i"
        " join billing.tenant_invoice_lines l on l.invoice_id = i.id where tenant_id = 'pilot'"
    )
    assert (tenants, owners) == ([("pilot",)], [("pilot",)])
    assert seen == (*mine[0], 0)


def test_a_tenant_sees_neither_its_draft_nor_the_lines_of_it(billed: World, drafted: str) -> None:
    with as_api(billed.url, role="tenant", tenant_id=drafted) as connection:
        assert connection.execute("select distinct status from billing.tenant_invoices").fetchall() == [("issued",)]
        months = connection.execute("select distinct period_start::text from billing.tenant_invoice_lines").fetchall()
        assert months == [("2026-03-01",)]


def test_the_lines_of_another_tenants_invoice_are_none(billed: World) -> None:
    """billing.invoice_lines() shows what its caller may see: the pilot's to the pilot, and nobody else's."""
    invoices = billed.query("select id, tenant_id from billing.tenant_invoices where period_start = '2026-04-01'")
    lines = "select count(*) from billing.invoice_lines(%s, '2026-04-01')"
    with as_api(billed.url, role="tenant", tenant_id="pilot") as connection:
        seen = {who: connection.execute(lines, [invoice]).fetchall()[0][0] for invoice, who in invoices}
    assert {who: count for who, count in seen.items() if count} == {"pilot": 4}
    with as_api(billed.url) as connection:
        assert not any(connection.execute(lines, [invoice]).fetchall()[0][0] for invoice, _ in invoices)


def test_a_member_of_the_apis_role_sees_no_costs_that_the_role_does_not(server_url: str, billed: World) -> None:
    """A login that has the role, and has not set it: policies count for it, and so do the views'."""
    login = f"member_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"create role {login} login password 'pw' in role arcadia_api".encode())
    try:
        own = f"postgresql://{login}:pw@{billed.url.rpartition('@')[2]}"
        for settings, months in (
            ({}, 0),
            ({"role": "tenant", "tenant_id": "pilot"}, 0),
            ({"role": "platform_admin"}, 2),
        ):
            with psycopg.connect(own) as connection:
                for name, value in settings.items():
                    connection.execute("select set_config(%s, %s, true)", [f"arcadia.{name}", value])
                found = connection.execute("select count(*) from billing.cost_vs_revenue_by_month").fetchall()
                assert found == [(months,)]
    finally:
        with psycopg.connect(server_url, autocommit=True) as superuser:
            superuser.execute(f"drop role {login}".encode())


def test_an_admin_sees_what_the_owner_sees(billed: World) -> None:
    with psycopg.connect(billed.url) as owner:
        everything = counts(owner)
    with as_api(billed.url, role="platform_admin") as connection:
        assert counts(connection) == everything


def test_the_settings_end_with_the_transaction(billed: World) -> None:
    """The next one on the same connection is nobody again."""
    with psycopg.connect(billed.url, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("select set_config('arcadia.role', 'platform_admin', true)")
        with connection.transaction():
            connection.execute("set local role arcadia_api")
            assert counts(connection) == (0, 0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into billing.tenant_invoices select * from billing.tenant_invoices",
        "update billing.tenant_invoices set status = 'paid'",
        "delete from billing.tenant_invoice_lines",
        "truncate billing.invoice_events",
        "select * from billing.tenant_invoice_lines_2026_04",  # around the parent's policy
        "select * from billing.metered_usage",
        "select * from billing.revenue_by_deployment",
        "select * from cloud.tenants",
        "select * from cloud.usage_records",
        "select billing.admit_api()",
        "select * from billing.month_costs",
        "select * from billing.cost_allocations",
        "select * from billing.cloud_invoice_items",
        "create table billing.mine ()",
    ],
)
def test_the_role_can_only_read_and_only_what_the_api_shows(billed: World, statement: str) -> None:
    with as_api(billed.url, role="platform_admin") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_others_who_were_granted_the_tables_read_them_as_before(billed: World) -> None:
    """An analyst's role is not the API's: row-level security must not empty the dashboard."""
    analyst = f"analyst_{uuid.uuid4().hex}"
    with psycopg.connect(billed.url) as connection:
        everything = counts(connection)
        connection.execute(f"create role {analyst}".encode())
        connection.execute(f"grant usage on schema billing to {analyst}".encode())
        connection.execute(f"grant select on all tables in schema billing to {analyst}".encode())
        connection.execute(f"set local role {analyst}".encode())
        assert counts(connection) == everything
        connection.rollback()


@pytest.mark.parametrize("tenant", [None, "pilot"])
@pytest.mark.parametrize("status", [None, "issued", "void"])
@pytest.mark.parametrize("month", [None, dt.date(2026, 3, 1)])
@pytest.mark.parametrize("who", [Principal("platform_admin"), Principal("tenant", "pilot")])
def test_a_page_is_read_from_an_index_however_deep(
    filled: str, who: Principal, month: dt.date | None, status: str | None, tenant: str | None
) -> None:
    """The API's own plans, not the clock: an index gives the place; only few rows are ever sorted."""
    for after in (None, queries.Place(dt.date(2026, 3, 1), uuid.UUID(int=2**127))):
        text, _ = queries.list_query(who, queries.Wanted(month, status, tenant), after, 51)
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
        for number, name in enumerate(names, 1):
            text = text.replace(f"%({name})s", f"${number}")
        with psycopg.connect(filled) as connection:
            database.settle(connection, queries.SESSION)
            connection.execute(f"prepare a_page as {text}".encode())
            [[plan]] = connection.execute(
                f"explain (format json) execute a_page ({', '.join(['null'] * len(names))})".encode()
            ).fetchall()
        assert "Index Cond" in str(plan) or not (month or status == "void" or tenant or after or who.tenant_id)
        assert "Index" in str(plan)
        assert "Seq Scan" not in str(plan)
        assert ("Sort" in str(plan)) <= bool(tenant or who.tenant_id or status == "void")  # of few rows or none


@pytest.fixture(scope="module")
def filled(server_url: str, migrated: str) -> Iterator[str]:
    """Six months of two thousand tenants, for plans."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template {migrated}".encode())
        url = f"{server_url.rpartition('/')[0]}/{name}"
        with psycopg.connect(url) as made:
            made.execute(
                "insert into billing.tenant_invoices (tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
                " total_cents, issued_at, invoice_number, content_sha256, usage_cutoff, run_id)"
                " select case n when 7 then 'pilot' else 't' || n end, m, m + interval '1 month', 0, 0, 0, now(),"
                "        m || '/' || n, repeat('0', 64), now(), ''"
                " from generate_series(1, 2000) n, generate_series(date '2026-01-01', '2026-06-01', '1 month') m"
            )
            made.execute("analyze billing.tenant_invoices")
        yield url
        connection.execute(f"drop database {name} with (force)".encode())


def migrate_at_once(urls: list[str]) -> list[str]:
    """Migrate databases in threads that start together; what went wrong, one text each."""
    together, errors = threading.Barrier(len(urls)), list[str]()

    def migrate(url: str) -> None:
        together.wait()
        try:
            migrations.migrate(database.engine(url))
        except Exception as error:  # noqa: BLE001  told to the test
            errors.append(repr(error))

    threads = [threading.Thread(target=migrate, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.long
def test_databases_of_one_cluster_migrate_at_once(server_url: str) -> None:
    """Four at once make the one role."""
    with ExitStack() as made:
        assert migrate_at_once([made.enter_context(copy_of(server_url, EMPTY)) for _ in range(4)]) == []


@pytest.mark.long
def test_an_owner_who_may_not_make_roles_migrates_and_is_admitted_later(server_url: str) -> None:
    """A database of an ordinary user's: the tables are made; the API is let in once a superuser granted the role."""
    user, base = f"plain_{uuid.uuid4().hex}", server_url.rpartition("@")[2].rpartition("/")[0]
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"create role {user} login password 'x'".encode())
        superuser.execute(f"create database {user} owner {user}".encode())
        try:
            own = f"postgresql://{user}:x@{base}/{user}"
            migrations.migrate(database.engine(own))
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_api(own):
                pass
            superuser.execute(f"grant arcadia_api to {user}".encode())
            World(own).query("select billing.admit_api()")
            with as_api(own, role="platform_admin") as connection:
                assert counts(connection) == (0, 0, 0)
        finally:
            superuser.execute(f"drop database {user} with (force)".encode())
            superuser.execute(f"drop role {user}".encode())
