"""Nothing that somebody has planted runs: not beside our SQL, not under our tables, not with the owner's rights.

An attacker is whoever may run a month end. Of before: when the pipeline's role could create in schema billing.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from arcadia_pipelines.pipeline.instance import complete_tables
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import database, migrations, streams
from arcadia_pipelines_tests.api.conftest import ADMIN, served
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.logins import late, login, succeeds
from arcadia_pipelines_tests.world import World, item

# For every overload of PostgreSQL's own of a name that our SQL calls: others that fit better, of the types that our
# columns have, and for every operator one for each pair of types that PostgreSQL has none of its own for. Each raises.
PLANT = """
    set local check_function_bodies = off;
    set local search_path = pg_catalog, pg_temp;
    create function pg_temp.instead(type regtype) returns regtype[] language sql as $$
        select case
            when type in ('"any"'::regtype, 'anyelement'::regtype, 'anycompatible'::regtype, 'anynonarray'::regtype)
                then '{text,bigint,numeric,date,uuid,jsonb,timestamptz}'
            when type in ('anyarray'::regtype, 'anycompatiblearray'::regtype) then '{text[],uuid[],bigint[]}'
            when type = 'bigint'::regtype then '{bigint,integer,numeric}'
            when type = 'text'::regtype then '{text,varchar}'
            when type in ('timestamp'::regtype, 'timestamptz'::regtype) then array[type, 'date'::regtype]
            when type in ('numeric'::regtype, 'double precision'::regtype) then array[type, 'bigint'::regtype]
            else array[type] end::regtype[]
    $$;
    do $$
    declare
        places constant text[] := '{billing,cloud,public}';
        it record;
        number integer := 0;
    begin
        for it in
            with of_ours as (
                select proname, types, provariadic <> 0 as is_variadic
                from pg_proc, lateral (select array(select unnest(proargtypes))::regtype[]) a (types)
                where pronamespace = 'pg_catalog'::regnamespace and proname = any(%(names)s)
                  and pronargs between 1 and 4
            )
            select distinct proname, array_to_string(case when is_variadic and n > 0
                    then types[:cardinality(types) - 1] || array_fill(one, array[n]) else args end, ', ') as arguments
            from of_ours, generate_series(0, 3) as n, unnest('{text,bigint,numeric,date}'::regtype[]) as one,
                 generate_series(0, 6) as choice, lateral (
                    select array_agg(coalesce(choices[1 + choice %% cardinality(choices)], type) order by place) as args
                    from unnest(types) with ordinality t (type, place),
                         lateral (select pg_temp.instead(type)) c (choices)
                 ) a
            where is_variadic or n = 0
        loop
            number := number + 1;
            begin
                execute format('create function %%I.%%I(%%s) returns text language plpgsql as '
                               '''begin raise exception ''''planted''''; end''',
                               places[1 + number %% 3], it.proname, it.arguments);
            exception when others then null;  -- a pseudo-type that no function can have
            end;
        end loop;
        for it in
            select a::regtype as one, b::regtype as other
            from unnest(%(types)s::text[]) a, unnest(%(types)s::text[]) b
        loop
            execute format('create function public.planted(%%s, %%s) returns boolean language plpgsql as '
                           '''begin raise exception ''''planted''''; end''', it.one, it.other);
        end loop;
        for it in
            select op, a::regtype as one, b::regtype as other
            from unnest(%(operators)s::text[]) op, unnest(%(types)s::text[]) a, unnest(%(types)s::text[]) b
            where not exists (select from pg_operator o where o.oprname = op and oprleft = a::regtype
                              and oprright = b::regtype)
        loop
            number := number + 1;
            execute format('create operator %%s.%%s (function = public.planted, leftarg = %%s, rightarg = %%s)',
                           places[1 + number %% 3], it.op, it.one, it.other);
        end loop;
    end $$;
"""
TYPES = [
    *(
        "text",
        "varchar",
        "name",
        "integer",
        "bigint",
        "smallint",
        "numeric",
        "date",
        "timestamp",
        "timestamptz",
        "uuid",
    ),
    *("jsonb", "oid", "regproc", "regclass", "interval"),
]


def sources() -> str:
    """Everything of ours that has SQL in it."""
    files = [*PROJECT.glob("arcadia_pipelines/**/*.py"), *PROJECT.glob("sql/migrations/*.sql")]
    return "\n".join(file.read_text() for file in files)


@pytest.fixture
def beset(world: World) -> World:
    """A database whose schemas are full of it, for whoever connects with the search_path of the database."""
    text = sources()
    with psycopg.connect(world.url) as connection:
        known = {name for (name,) in connection.execute("select oprname from pg_operator")}
        operators = sorted(known & set(re.findall(r"(?<=[\w\s)'])([-+*/<>=~!|&#]{1,3})(?=[\s\w(%'])", text)))
        names = sorted(set(re.findall(r"\b([a-z][a-z0-9_]*)\(", text)))
        assert {"=", "<>", ">=", "||", "->>", "~", "*"} <= set(operators)
        assert {"concat_ws", "to_char", "hash_record_extended", "sum", "set_config"} <= set(names)
        plant = psycopg.ClientCursor(connection).mogrify(
            PLANT, {"names": names, "operators": operators, "types": TYPES}
        )
        connection.execute(plant.encode())
    return world


def test_no_function_or_operator_that_somebody_plants_runs_in_anything_of_ours(
    beset: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month end, its re-run, operators, costs, the audit, the replay, the API; and a payment by hand, in psql."""
    with psycopg.connect(beset.url) as connection:
        for bitten in (
            "select concat_ws(';', 'a'::text, 'b'::text)",
            "select to_char(date '2026-04-01', 'YYYY')",
            "select 1::bigint where date '2026-04-01' = 1",
            "select from pg_type where typreceive <> 0",
            "select sum(1::numeric) where 'a'::varchar ~ 'b'::name",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="planted"):
                connection.execute(bitten.encode())
            connection.rollback()
    beset.pilot()
    beset.tenant("nova")
    beset.deployment("nova", "shop", "studio")
    with monkeypatch.context() as larger:
        larger.setattr(streams, "CHUNK_ROWS", 0)  # a month of several chunks has readers beside its connection
        beset.month_end("2026-04")
    late(beset)
    beset.month_end("2026-04")
    assert beset.invoices("2026-04") == {
        "nova": ("issued", 1, 5000, 500, 5500),
        "pilot": ("issued", 2, 6432, 643, 7075),
    }
    beset.rate("2026-04", "0.6612")
    beset.bill("2026-04", item("60.43", project="web"), item("1.00", "ci"), total=6143)
    assert beset.month_costs("2026-04").success
    beset.done("void_invoice", invoices=["INV-202604-00001"])
    beset.done("reopen_invoice", invoices=["INV-202604-00001"])
    beset.done("issue_drafts", month="2026-04")
    assert beset.disproved() == []
    beset.query("update billing.tenant_invoices set status = 'paid', paid_at = now() where tenant_id = 'pilot'")
    with pytest.raises(psycopg.errors.RestrictViolation, match="is paid, and cannot become void"):
        beset.query("update billing.tenant_invoices set status = 'void' where tenant_id = 'pilot'")
    with served(beset.url) as client:
        [nova, pilot] = sorted(
            client.get("/api/v1/invoices", headers=ADMIN).json()["items"], key=lambda i: str(i["tenant_id"])
        )
        assert (nova["total_cents"], pilot["total_cents"], pilot["status"]) == (5500, 7075, "paid")
        lines = client.get(f"/api/v1/invoices/{pilot['id']}", headers=ADMIN).json()["lines"]
        assert sum(line["amount_cents"] for line in lines) == 7075
        assert client.get("/api/v1/costs/months", headers=ADMIN).status_code == 200


# What the pipeline's role could plant of old, and cannot now.

OWNED = """
    select count(*) from pg_shdepend where refobjid = 'arcadia_pipeline'::regrole and deptype = 'o'
        and dbid = (select oid from pg_database where datname = current_database())
"""
FORBIDDEN = (
    "create table {schema}.t ()",
    "create view {schema}.tenant_invoices_too as select 1 as one",
    "create function {schema}.concat_ws(text, text) returns text language sql as 'select null'",
    "create operator {schema}.<> (function = texteq, leftarg = text, rightarg = varchar)",
    "create type {schema}.t as enum ('a')",
    "create domain {schema}.d as text",
    'create collation {schema}.c from "C"',
)
ON_A_TABLE = (
    "create trigger t before insert on {table} for each row execute function billing.refuse_change()",
    "create rule r as on insert to {table} do also select 1",
    "create policy p on {table} using (true)",
    "create index on {table} (query_to_xml('select 1', true, false, ''))",
    "alter table {table} add constraint c check (true)",
    "alter table {table} disable trigger all",
    "alter table {table} disable row level security",
    "alter table {table} no force row level security",
    "alter table {table} owner to current_user",
    "alter table {table} add column planted text default query_to_xml('select 1', true, false, '')::text",
    "truncate {table}",
    "drop table {table}",
)


@pytest.fixture(scope="module")
def april(server_url: str, migrated: str) -> Iterator[tuple[World, World]]:
    """A database with Dagster's tables and the pilot's April, as its owner and as the pipeline's login see it."""
    with (
        login(server_url, server_url, "arcadia_pipeline", acting_as="arcadia_pipeline") as own,
        copy_of(server_url, migrated) as url,
    ):
        complete_tables(url)
        owner, pipeline = World(url), World(f"{own.rpartition('/')[0]}/{url.rpartition('/')[2]}")
        owner.pilot()
        pipeline.month_end("2026-04")
        yield owner, pipeline


def test_every_function_of_ours_that_runs_by_itself_names_its_search_path(world: World) -> None:
    """But for SQL that is parsed when it is made: its names are resolved then, by the owner."""
    functions = world.query("""
        select p.oid::regprocedure::text from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
        where nspname in ('billing', 'cloud', 'dagster') and prokind <> 'a' and prosqlbody is null
          and coalesce(array_to_string(proconfig, ' '), '') !~ 'search_path=pg_catalog, pg_temp'
    """)
    assert functions == []


def test_the_pipelines_login_plants_nothing_in_any_schema_or_on_any_table(april: tuple[World, World]) -> None:
    """Whatever it tries, as its role and as itself: partitions and Dagster's tables are no exception."""
    owner, pipeline = april
    tables = [
        table
        for (table,) in owner.query(
            "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where nspname in ('billing', 'cloud', 'dagster') and relkind in ('r', 'p')"
        )
    ]
    parents = ("metered_usage", "deployment_quote_lines", "tenant_invoice_lines")
    statements = [
        *(
            statement.format(schema=schema)
            for statement in FORBIDDEN
            for schema in ("billing", "cloud", "dagster", "public")
        ),
        *(statement.format(table=table) for statement in ON_A_TABLE for table in tables),
        *(f"alter table billing.{parent} detach partition billing.{parent}_2026_04" for parent in parents),
        "create schema attempted",
        "create function pg_catalog.planted() returns text language sql as 'select null'",
        f"alter database {owner.url.rpartition('/')[2]} set search_path = public",
        "update billing.role_rights set rights = 'select'",
        "alter function billing.guard_invoice() security definer",
        "select billing.admit_roles()",
        "select billing.partition_name('metered_usage', '2026-05-01')",
        "create event trigger e on ddl_command_start execute function billing.refuse_change()",
        "create cast (text as integer) with inout as implicit",
    ]
    assert len(tables) > 50
    for role in ("arcadia_pipeline", "none"):
        with psycopg.connect(pipeline.url) as connection:
            connection.execute(f"set role {role}".encode())
            assert [statement for statement in statements if succeeds(connection, statement)] == []
    assert owner.query("select count(*) from billing.tenant_invoice_lines_2026_04") == [(4,)]


def test_the_functions_that_make_partitions_make_nothing_else(april: tuple[World, World]) -> None:
    """Not of another table or day, nor twice; and no line of another month's invoice."""
    owner, pipeline = april
    new, attach = "select billing.new_partition(%s, %s)", "select billing.attach_partition(%s, %s)"
    invalid = psycopg.errors.InvalidParameterValue
    for table, month in (
        ("tenant_invoices", "2027-01-01"),
        ("metered_usage; drop table billing.tenant_holds --", "2027-01-01"),
        ("METERED_USAGE", "2027-01-01"),
        (None, "2027-01-01"),
        ("metered_usage", "2027-01-02"),
        ("metered_usage", "infinity"),
        ("metered_usage", "0001-01-01 BC"),
        ("metered_usage", None),
    ):
        for function in (new, attach):
            with pytest.raises(invalid, match="is no partition of ours"):
                pipeline.query(function, table, month)
    with pytest.raises(invalid, match="is not a table that new_partition"):
        pipeline.query(attach, "metered_usage", "2026-04-01")
    with pytest.raises(invalid, match="is not a table that new_partition"):
        pipeline.query(attach, "metered_usage", "2027-01-01")
    with pytest.raises(psycopg.errors.DuplicateTable):
        pipeline.query(new, "metered_usage", "2026-04-01")

    [(invoice,)] = owner.query("select id from billing.tenant_invoices")
    line = (
        "insert into billing.tenant_invoice_lines_2027_01 (invoice_id, kind, description, qty, unit_price_cents,"
        " amount_cents, period_start, line_no) values (%s, 'addon', 'planted', 1, 1, 1, '2027-01-01', 1)"
    )
    with psycopg.connect(pipeline.url) as connection:
        connection.execute(new.encode(), ("tenant_invoice_lines", "2027-01-01"))
        connection.execute(line.encode(), (invoice,))
        with pytest.raises(psycopg.errors.RestrictViolation, match="1 lines of invoices that are not of its month"):
            connection.execute(attach.encode(), ("tenant_invoice_lines", "2027-01-01"))
    # A table that somebody left there is said by name; it is no month.
    owner.query("create table billing.metered_usage_2026_05 as select * from billing.metered_usage")
    with pytest.raises(AssertionError, match=r"billing.metered_usage_2026_05 exists, but is not attached"):
        pipeline.month_end("2026-05")
    owner.query("drop table billing.metered_usage_2026_05")


@pytest.mark.long
def test_what_the_pipeline_owned_goes_back_to_the_owner_and_what_it_planted_is_told(
    empty_url: str, server_url: str, tmp_path: Path
) -> None:
    """A database of before, in which its login has made a month, Dagster's tables, a function and a view."""
    for file in sorted((migrations.SQL / "migrations").glob("*.sql"))[:15]:
        shutil.copy(file, tmp_path)
    engine, owner = database.engine(empty_url), World(empty_url)
    migrations.migrate(engine, tmp_path)
    with login(server_url, empty_url, "arcadia_pipeline", acting_as="arcadia_pipeline") as own:
        pipeline = World(own)
        complete_tables(own)
        pipeline.query(
            "create table billing.metered_usage_2026_03 partition of billing.metered_usage"
            " for values from ('2026-03-01') to ('2026-04-01')"
        )
        pipeline.query("create function billing.concat_ws(text, text) returns text language sql as 'select null'")
        pipeline.query("create view billing.usage_records as select 1 as quantity")
        for plant, remove, what in (  # each of which would run as the superuser who migrates
            (
                "create function billing.t() returns trigger language plpgsql as 'begin return new; end';"
                " create trigger t before insert on dagster.runs for each row execute function billing.t()",
                "drop function billing.t() cascade",
                "trigger t on table dagster.runs",
            ),
            (
                "alter table dagster.kvs alter value set default query_to_xml('select 1', true, false, '')::text",
                "alter table dagster.kvs alter value drop default",
                "default value for column value of table dagster.kvs",
            ),
            (
                "create rule r as on insert to billing.metered_usage_2026_03 do also select 1",
                "drop rule r on billing.metered_usage_2026_03",
                "rule r on table billing.metered_usage_2026_03",
            ),
            (
                "alter table billing.tenant_invoice_lines"
                " add constraint c check (billing.concat_ws(kind, kind) is null) not valid",
                "alter table billing.tenant_invoice_lines drop constraint c",
                "constraint c on table billing.tenant_invoice_lines",
            ),
        ):
            with psycopg.connect(own) as connection:
                connection.execute(plant.encode())
            with pytest.raises(migrations.MigrationError, match=f"is not the owner's: {what}. Find out who"):
                migrations.migrate(engine)
            pipeline.query(remove)
        told = list[str]()
        migrations.migrate(engine, tell=told.append)
        found = "not the owner's, and unqualified names may resolve to it: "
        assert [text.removeprefix(found).partition(" (of")[0] for text in told] == [
            "function billing.concat_ws(text,text)",
            "view billing.usage_records",
        ]
        owner.query("drop function billing.concat_ws(text, text)")
        owner.query("drop view billing.usage_records")
        told.clear()
        migrations.migrate(engine, tell=told.append)
        assert told == []
        assert owner.query(OWNED) == [(0,)]
        owner.pilot()
        pipeline.month_end("2026-04")
        with psycopg.connect(own) as connection:
            for statement, may in (
                ("insert into dagster.kvs (key) values ('a')", True),
                ("truncate dagster.kvs", False),
            ):
                assert succeeds(connection, statement) is may
        assert owner.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
