"""The roles of 0006_roles.sql, each as a login that connects: what it must do works, and everything else is refused."""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from arcadia_pipelines import embedded
from arcadia_pipelines.pipeline.instance import complete_tables
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests.api.conftest import ADMIN, served, tenant
from arcadia_pipelines_tests.command_line import start
from arcadia_pipelines_tests.databases import copy_of, schema_of
from arcadia_pipelines_tests.logins import late, login, succeeds
from arcadia_pipelines_tests.world import World, item

VERBS = ("select", "insert", "update", "delete", "truncate", "references", "trigger")
EVERYTHING = "select insert update delete"
BY_THE_MONTH = "select insert delete"

# For a relation that is not here nobody has decided yet: do so in a migration (see 0006_roles.sql), and here.
RIGHTS = {
    # relation: (the pipeline's rights, an analyst's rights)
    "billing.billing_months": (EVERYTHING, ""),
    "billing.cloud_invoice_documents": ("select insert", ""),
    "billing.cloud_invoice_items": (EVERYTHING, "select"),
    "billing.cloud_invoices": (EVERYTHING, "select"),
    "billing.cost_allocations": (EVERYTHING, "select"),
    "billing.cost_split_keys": (EVERYTHING, "select"),
    "billing.cost_vs_revenue_by_deployment": ("select", "select"),
    "billing.cost_vs_revenue_by_kind": ("select", "select"),
    "billing.cost_vs_revenue_by_month": ("select", "select"),
    "billing.cost_vs_revenue_by_tenant": ("select", "select"),
    "billing.credit_grants": ("select insert", "select"),
    "billing.deployment_quote_lines": (BY_THE_MONTH, ""),
    "billing.deployment_quote_lines_2026_04": ("", ""),
    "billing.deployment_quotes": ("", "select"),
    "billing.deployment_resources": (EVERYTHING, "select"),
    "billing.documents": ("select insert", "select"),
    "billing.email_outbox": ("select insert update", "select"),
    "billing.event_chain": ("select", ""),
    "billing.event_heads": ("select", ""),
    "billing.finance_outbox": (EVERYTHING, "select"),
    "billing.finance_outbox_id_seq": ("", ""),
    "billing.fx_rates": (EVERYTHING, "select"),
    "billing.gate": ("update", ""),
    "billing.invoice_corrections": (EVERYTHING, ""),
    "billing.invoice_events": ("select insert", "select"),
    "billing.invoice_events_id_seq": ("", ""),
    "billing.billed_subscriptions": ("select insert delete", ""),
    "billing.invoice_line_gst": ("select", "select"),
    "billing.invoiced_tenants": (EVERYTHING, ""),
    "billing.manual_lines": ("select insert", "select"),
    "billing.metered_usage": (BY_THE_MONTH, ""),
    "billing.metered_usage_2026_04": ("", ""),
    "billing.missing_tenant_acceptances": ("select insert", ""),
    "billing.missing_tenant_acceptances_id_seq": ("", ""),
    **{f"billing.month_{number:02}": ("update", "") for number in range(1, 13)},
    "billing.month_costs": (EVERYTHING, "select"),
    "billing.number_series": ("select", "select"),
    "billing.passed_controls": (EVERYTHING, ""),
    "billing.price_books": ("select", "select"),
    "billing.price_books_id_seq": ("", ""),
    "billing.product_kinds": (EVERYTHING, "select"),
    "billing.publishing": ("update", ""),
    "billing.quote_faults": (EVERYTHING, ""),
    "billing.quoted_tenants": (EVERYTHING, ""),
    "billing.rate_doubts": ("select", "select"),
    "billing.revenue_by_deployment": ("select", "select"),
    "billing.revenue_by_kind": ("select", "select"),
    "billing.role_rights": ("", ""),
    "billing.schema_migrations": ("select", ""),
    "billing.suppliers": ("select insert", "select"),
    "billing.suppliers_id_seq": ("", ""),
    "billing.tenant_holds": (EVERYTHING, ""),
    "billing.tenant_invoice_lines": (BY_THE_MONTH, "select"),
    "billing.tenant_invoice_lines_2026_04": ("", ""),
    "billing.tenant_invoices": ("select insert update", "select"),
    "billing.unbilled_acceptances": ("select insert", ""),
    "billing.unbilled_acceptances_id_seq": ("", ""),
    "billing.unbilled_usage": (EVERYTHING, ""),
    "billing.usage_acceptances": ("select insert", ""),
    "billing.usage_acceptances_id_seq": ("", ""),
    "billing.usage_ahead": ("select insert", ""),
    "cloud.addon_prices": ("select", ""),
    "cloud.addons": ("select", ""),
    "cloud.cloud_deployments": ("select", ""),
    "cloud.plan_prices": ("select", ""),
    "cloud.plan_rates": ("select", ""),
    "cloud.commitments": ("select", ""),
    "cloud.discounts": ("select", ""),
    "cloud.plan_rate_tiers": ("select", ""),
    "cloud.tenant_plan_prices": ("select", ""),
    "cloud.tenant_addon_prices": ("select", ""),
    "cloud.tenant_rates": ("select", ""),
    "cloud.tenant_rate_tiers": ("select", ""),
    "cloud.plans": ("select", ""),
    "cloud.subscription_addons": ("select", ""),
    "cloud.subscriptions": ("select", ""),
    "cloud.tenants": ("select", ""),
    "cloud.usage_records": ("select", ""),
}
REPRICED = [
    "billing.billed_subscriptions",
    "billing.cost_vs_revenue_by_month",
    "billing.cost_vs_revenue_by_tenant",
    "billing.deployment_quote_lines",
    "billing.invoice_events",
    "billing.metered_usage",
    "billing.quote_faults",
    "billing.tenant_invoice_lines",
    "billing.tenant_invoices",
    *(name for name in RIGHTS if name.startswith("cloud.")),
]
"""What the what-if of the API may read: what decides a month's prices. It may write nothing."""


@pytest.fixture
def month_end(server_url: str, url: str) -> Iterator[str]:
    """The URL of the pipeline's login on the test's database."""
    with login(server_url, url, "arcadia_pipeline", acting_as="arcadia_pipeline") as own:
        yield own


class Billed(NamedTuple):
    """One database as four see it."""

    owner: World
    pipeline: World
    analyst: World
    what_if: World


@pytest.fixture(scope="module")
def billed(server_url: str, migrated: str) -> Iterator[Billed]:
    """The sample data with April invoiced by the pipeline's login, and Dagster's tables made by the owner."""
    with (
        login(server_url, server_url, "arcadia_pipeline", acting_as="arcadia_pipeline") as pipeline,
        login(server_url, server_url, "arcadia_analyst") as analyst,
        login(server_url, server_url, "arcadia_reprice") as what_if,
        copy_of(server_url, migrated) as url,
    ):
        name = url.rpartition("/")[2]
        found = Billed(*(World(f"{login.rpartition('/')[0]}/{name}") for login in (url, pipeline, analyst, what_if)))
        found.owner.query(f"alter database {name} set search_path = billing, cloud, public")
        with psycopg.connect(url) as connection:
            connection.execute((migrations.SQL / "sample_data.sql").read_bytes())
        found.pipeline.month_end("2026-04")
        found.pipeline.bill("2026-04", item("60.43", project="pilot-web"), item("1.00", "ci"), total=6143)
        complete_tables(url)
        yield found


# What each must do.


@pytest.mark.long
def test_the_pipelines_login_runs_the_whole_month_end(world: World, month_end: str, tmp_path: Path) -> None:
    """Once the owner has made Dagster's tables, by `arcadia db migrate`; then late usage revises the invoice."""
    world.pilot()
    _, refused = start("arcadia", "invoice", "2026-04", url=month_end, folder=tmp_path).communicate(timeout=120)
    assert "may not make them: run `arcadia db migrate` as the owner of the database" in refused
    assert len(refused.splitlines()) == 1
    migrated = start("arcadia", "db", "migrate", url=world.url, folder=tmp_path)
    assert migrated.communicate(timeout=120) == ("the schema is up to date\n", "")
    ended = start("arcadia", "invoice", "2026-04", "--json", url=month_end, folder=tmp_path)
    out, err = ended.communicate(timeout=120)
    assert (ended.returncode, err) == (0, "")
    assert (json.loads(out)["total_cents"], json.loads(out)["actions"]["add"]) == (7064, 1)
    late(world)
    World(month_end).month_end("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 2, 6432, 643, 7075)}
    assert world.query("select event, revision from billing.invoice_events order by id") == [
        ("issued", 1),
        ("reissued", 2),
    ]


def test_the_pipelines_login_bills_the_sample_as_the_owner_does(billed: Billed, server_url: str, migrated: str) -> None:
    """Every invoice of April, to the cent; the pipeline sees each of them past the read API's row security."""
    with copy_of(server_url, migrated) as url:
        owner = World(url)
        with psycopg.connect(url) as connection:
            connection.execute((migrations.SQL / "sample_data.sql").read_bytes())
        owner.month_end("2026-04")
        assert len(owner.invoices("2026-04")) == 15
        assert billed.pipeline.invoices("2026-04") == owner.invoices("2026-04")


def test_what_the_pipeline_makes_belongs_to_the_owner(billed: Billed) -> None:
    """Whatever is in our schemas; the role owns nothing in the whole database."""
    [(owner, strangers)] = billed.owner.query(
        "select (select relowner::regrole::text from pg_class where oid = 'billing.tenant_invoices'::regclass),"
        " (select count(*) from pg_shdepend where refobjid = 'arcadia_pipeline'::regrole and deptype = 'o'"
        "  and dbid = (select oid from pg_database where datname = current_database()))"
    )
    owners = billed.owner.query(
        "select distinct relowner::regrole::text from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where nspname in ('billing', 'dagster')"
    )
    assert (owners, strangers) == ([(owner,)], 0)


@pytest.mark.long
def test_the_api_is_served_from_the_pipelines_login(world: World, server_url: str) -> None:
    """In both roles it acts as the pipeline, and the API's connections as the API: a tenant sees its own invoice."""
    world.pilot()
    roles = ("arcadia_pipeline", "arcadia_api")
    with login(server_url, world.url, *roles, acting_as="arcadia_pipeline") as both:
        World(both).month_end("2026-04")
        with served(both) as client:
            seen = {
                who: [
                    invoice["total_cents"]
                    for invoice in client.get("/api/v1/invoices", headers=headers).json()["items"]
                ]
                for who, headers in {"admin": ADMIN, "pilot": tenant("pilot"), "nova": tenant("nova")}.items()
            }
    assert seen == {"admin": [7064], "pilot": [7064], "nova": []}


def test_an_analyst_runs_the_worked_queries(billed: Billed) -> None:
    """The six of docs/tables.md, as they stand there; the answers are the owner's."""
    [block] = re.findall(r"```sql\n(.*?)```", (PROJECT / "docs/tables.md").read_text(), re.DOTALL)
    queries = [query for query in block.split(";") if query.strip()]
    answers = [billed.analyst.query(query) for query in queries]
    assert len(queries) == 6
    assert all(answers)
    assert answers == [billed.owner.query(query) for query in queries]


# Everything else is refused.


def held(world: World) -> dict[str, str]:
    """What whoever connects may do with each relation of our schemas, as PostgreSQL has it."""
    return dict(
        world.query(
            "select format('%%s.%%s', nspname, relname), case when pg_has_role(relowner, 'usage') then 'own' else ("
            "   select coalesce(string_agg(verb, ' ' order by n), '')"
            "   from unnest(%s::text[]) with ordinality v (verb, n) where case"
            "       when relkind = 'S' then has_sequence_privilege(c.oid, 'usage, select, update')"
            "       when verb in ('delete', 'truncate', 'trigger') then has_table_privilege(c.oid, verb)"
            "       else has_any_column_privilege(c.oid, verb) end) end"
            " from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where nspname in ('billing', 'cloud', 'dagster') and relkind not in ('i', 'I', 'c')",
            list(VERBS),
        )
    )


def test_a_role_may_do_what_was_decided_for_each_relation_and_no_more(billed: Billed) -> None:
    """Every table, view, partition and sequence there is. In Dagster's tables the pipeline reads and writes rows."""
    pipeline, analyst = held(billed.pipeline), held(billed.analyst)
    dagsters = {name for name in pipeline if name.startswith("dagster.")}
    assert {name: (pipeline[name], analyst[name]) for name in pipeline.keys() - dagsters} == RIGHTS
    what_if = {name: rights for name, rights in held(billed.what_if).items() if rights}
    assert what_if == dict.fromkeys(REPRICED, "select")
    of_all = "select insert update delete truncate references trigger"  # held() asks one question of a sequence
    assert {(pipeline[name], analyst[name]) for name in dagsters if name.endswith("_seq")} == {(of_all, "")}
    assert {(pipeline[name], analyst[name]) for name in dagsters if not name.endswith("_seq")} == {(EVERYTHING, "")}


ATTEMPTS = {
    "select": "select from {table} limit 0",
    "insert": "insert into {table} default values",
    "update": "update {table} set {column} = default where false",
    "delete": "delete from {table} where false",
    "truncate": "truncate {table}",
    "alter": "alter table {table} rename to attempted",
    "comment": "comment on table {table} is 'attempted'",
    "drop": "drop table {table}",
}


@pytest.mark.parametrize("who", ["pipeline", "analyst", "what_if"])
def test_what_is_not_a_roles_right_is_refused_when_it_is_tried(billed: Billed, who: str) -> None:
    """Each table of ours, each verb, and what only an owner may: tried, and undone."""
    tables = billed.owner.query(
        "select format('%s.%s', nspname, relname), attname from pg_class c"
        " join pg_namespace n on n.oid = relnamespace join pg_attribute a on attrelid = c.oid and attnum = 1"
        " where nspname in ('billing', 'cloud') and relkind in ('r', 'p')"
    )
    right = {name: rights[who == "analyst"] for name, rights in RIGHTS.items()}
    if who == "what_if":
        right = {name: "select" if name in REPRICED else "" for name in RIGHTS}
    with psycopg.connect(getattr(billed, who).url) as connection:
        may = {
            table: {
                verb for verb, sql in ATTEMPTS.items() if succeeds(connection, sql.format(table=table, column=column))
            }
            for table, column in tables
        }
    assert len(may) > 25
    assert may == {table: set(right[table].split()) for table in may}


def test_the_pipeline_brings_costs_in_and_analysts_look_at_them(billed: Billed) -> None:
    """A bill of 61.43 USD at the sample's 0.6612: 92.91 AUD, which the analyst sees and cannot change."""
    assert billed.pipeline.month_costs("2026-04").success
    assert billed.analyst.query("select cost_cents, reconciled from billing.cost_vs_revenue_by_month") == [(9291, True)]
    for view in ("deployment", "kind", "tenant"):
        assert billed.analyst.query(f"select sum(cost_cents) from billing.cost_vs_revenue_by_{view}") == [(9291,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        billed.analyst.query("delete from billing.fx_rates")


PURE = [
    "commitments",
    "discounts",
    "event_digest",
    "invoice_digest",
    "is_abn",
    "is_correctable",
    "is_locked",
    "line_text",
    "number_prefix",
    "rate_tiers",
    "rates",
    "sha256_hex",
    "tenant_prices",
]


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("pipeline", ["attach_partition", "cancelled_on", "new_partition", "tenant_to_quote"]),
        ("analyst", []),
        ("what_if", []),
    ],
)
def test_no_function_of_ours_that_does_something_can_be_called(billed: Billed, who: str, what: list[str]) -> None:
    """But those that make partitions. Triggers' run by themselves; what only works something out is anybody's."""
    called = getattr(billed, who).query(
        "select proname from pg_proc where pronamespace = 'billing'::regnamespace and prorettype <> 'trigger'::regtype"
        " and has_function_privilege(oid, 'execute') order by 1"
    )
    assert [name for (name,) in called] == sorted([*PURE, *what])


@pytest.mark.parametrize(
    "statement",
    [
        "update billing.invoice_events set total_cents = 0",
        "delete from billing.invoice_events",
        "truncate billing.invoice_events",
        "alter table billing.invoice_events disable trigger all",
        "drop trigger invoice_events_are_append_only on billing.invoice_events",
        "create or replace function billing.refuse_change() returns trigger language plpgsql as 'begin end'",
        "delete from billing.tenant_invoices",
        "drop trigger invoices_keep_the_law on billing.tenant_invoices",
        "alter table billing.tenant_invoices disable row level security",
        "update billing.usage_acceptances set frozen_records = 0",
        "update cloud.plan_prices set base_price_cents = 0",
        "delete from cloud.usage_records",
        "delete from billing.schema_migrations",
        "set session_replication_role = replica",
        "set role arcadia_api",
        "set role arcadia_analyst",
        "create role attempted",
    ],
)
def test_the_pipeline_cannot_rewrite_history_or_prices(billed: Billed, statement: str) -> None:
    """Neither as the role that it acts as, nor as the login itself."""
    for role in ("arcadia_pipeline", "none"):
        with psycopg.connect(billed.pipeline.url) as connection:
            connection.execute(f"set role {role}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


# Letting the roles in.


def test_admitting_them_again_changes_nothing(world: World) -> None:
    """Not an owner, not a right."""
    rights = (
        "select relname, relowner, relacl::text from pg_class where relnamespace = 'billing'::regnamespace order by 1"
    )
    schema, before = schema_of(world.url), world.query(rights)
    world.query("select billing.admit_roles()")
    assert world.query(rights) == before
    assert {row[:3] for row in schema_of(world.url)} == {row[:3] for row in schema}


def test_a_later_migration_lets_a_role_in_with_two_statements(billed: Billed) -> None:
    """A row of role_rights and admit_roles(), as 0006_roles.sql says."""
    with psycopg.connect(billed.owner.url) as connection:
        connection.execute("create view billing.later as select 1 as one")
        connection.execute("insert into billing.role_rights values ('arcadia_analyst', 'billing.later', 'select')")
        connection.execute("select billing.admit_roles()")
        connection.execute("set local role arcadia_analyst")
        assert connection.execute("select one from billing.later").fetchall() == [(1,)]
        connection.rollback()


@pytest.mark.parametrize(
    "rights", ["", "all", "select, truncate", "select on all tables in schema billing to public --"]
)
def test_a_right_is_one_of_a_few_words(billed: Billed, rights: str) -> None:
    """What admit_roles() runs as the owner is no free text."""
    with pytest.raises(psycopg.errors.CheckViolation):
        billed.owner.query("insert into billing.role_rights values ('arcadia_analyst', 'cloud.plans', %s)", rights)


@contextmanager
def owned_database(server_url: str, attributes: str) -> Iterator[str]:
    """The URL of an empty database as the ordinary user who owns it."""
    user = f"owner_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"create role {user} login password 'pw' {attributes}".encode())
        superuser.execute(f"create database {user} owner {user}".encode())
        try:
            yield f"postgresql://{user}:pw@{server_url.rpartition('@')[2].rpartition('/')[0]}/{user}"
        finally:
            superuser.execute(f"drop database {user} with (force)".encode())
            superuser.execute(f"drop role {user}".encode())


@pytest.mark.long
def test_an_owner_who_may_not_make_roles_need_not_be_of_the_pipelines(server_url: str) -> None:
    """It grants what is its own: the pipeline goes on with what it has invoiced, and it can alter its tables."""
    with owned_database(server_url, "nocreaterole") as url:
        owner = World(url)
        migrations.migrate(database.engine(url))
        complete_tables(url)
        owner.pilot()
        owner.month_end("2026-04")
        owner.query("alter table billing.tenant_invoice_lines add column later text")
        told = list[str]()
        with psycopg.connect(url) as connection:
            connection.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
            connection.execute("select billing.admit_roles()")
        assert told == []
        late(owner)
        with login(server_url, url, "arcadia_pipeline", acting_as="arcadia_pipeline") as own:
            World(own).month_end("2026-04")
            World(own).query("insert into dagster.kvs (key, value) values ('a', 'b')")
        assert owner.invoices("2026-04") == {"pilot": ("issued", 2, 6432, 643, 7075)}


@pytest.mark.long
def test_an_owner_who_may_make_roles_makes_them(tmp_path: Path) -> None:
    """As on a managed PostgreSQL, without a superuser. A server of its own: roles belong to the whole of it."""
    try:
        server_url = embedded.start(tmp_path)
        with owned_database(server_url, "createrole") as url:
            owner = World(url)
            told = list[str]()
            migrations.migrate(database.engine(url))
            with psycopg.connect(url) as connection:
                connection.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
                connection.execute("select billing.admit_roles()")
            assert told == []
            with login(server_url, url, "arcadia_pipeline", acting_as="arcadia_pipeline") as own:
                owner.pilot()
                World(own).month_end("2026-04")
            assert owner.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    finally:
        embedded.stop(tmp_path)
