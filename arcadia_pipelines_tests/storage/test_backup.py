"""The whole database in a file, and back: on another server, under another user, it is what it was; or nothing is."""

import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from arcadia_pipelines import embedded
from arcadia_pipelines.storage import backup
from arcadia_pipelines_tests.api.conftest import ADMIN, served, tenant
from arcadia_pipelines_tests.command_line import Answer, Call, contents, refused
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database on a server that knows none of our roles, whose superuser has another name."""
    home = tmp_path / "other"
    made_by_arcadia = embedded.start(home)
    with psycopg.connect(made_by_arcadia, autocommit=True) as connection:
        connection.execute("create role keeper superuser login password 'kept'")
    url = made_by_arcadia.replace("arcadia:", "keeper:").replace((home / "password").read_text(), "kept")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter role arcadia rename to somebody")
    yield url
    embedded.stop(home)


@pytest.fixture
def provisioning(world: World) -> Iterator[str]:
    """A role of the platform's own, which this project did not make."""
    role = f"provisioning {uuid.uuid4().hex[:8]}"
    world.query(f'create role "{role}"')
    yield role
    world.query(f'drop owned by "{role}"')
    world.query(f'drop role "{role}"')


RIGHTS = """
    with ours as (select oid, nspname from pg_namespace where nspname in ('billing', 'cloud', 'dagster')),
    things as (
        select 'schema' as kind, nspname::text as name, nspowner as owner, nspacl as acl, 'n'::"char" as class
        from pg_namespace where nspname in ('billing', 'cloud', 'dagster')
        union all
        select 'relation', c.oid::regclass::text, relowner, relacl, case relkind when 'S' then 's' else 'r' end::"char"
        from pg_class c join ours on ours.oid = relnamespace where relkind in ('r', 'p', 'v', 'S')
        union all
        select 'function', p.oid::regprocedure::text, proowner, proacl, 'f' from pg_proc p
        join ours on ours.oid = pronamespace
    )
    select kind, name, pg_get_userbyid(owner),
           (select string_agg(format('%s: %s', coalesce(nullif(grantee, 0)::regrole::text, 'public'), privilege_type),
                              ', ' order by grantee = owner, grantee::regrole::text, privilege_type)
            from aclexplode(coalesce(acl, acldefault(class, owner)))
            where privilege_type <> 'MAINTAIN')  -- which the owner has from PostgreSQL 17 on
    from things
    union all
    select 'policy', format('%s on %s', polname, polrelid::regclass), polroles::regrole[]::text,
           pg_get_expr(polqual, polrelid) from pg_policy
    union all
    select 'row security', c.oid::regclass::text, relrowsecurity::text, relforcerowsecurity::text from pg_class c
    join ours on ours.oid = relnamespace where relkind in ('r', 'p')
    union all
    select 'trigger', tgname, tgenabled::text, pg_get_triggerdef(t.oid) from pg_trigger t where not tgisinternal
    union all
    select 'definer', p.oid::regprocedure::text, prosecdef::text, proconfig::text from pg_proc p
    join ours on ours.oid = pronamespace
    union all
    select 'default', defaclobjtype::text, defaclrole::regrole::text, defaclacl::text from pg_default_acl
    union all
    select 'setting', '', '', current_setting('search_path')
    order by 1, 2, 3, 4
"""
"""Who may do what with each schema, relation and function; whose each is; policies, triggers, bare names."""


def rights(url: str, owner: str) -> list[list[str]]:
    """RIGHTS, the database's owner called OWNER."""
    return [[re.sub(rf"\b{owner}\b(?!\.)", "OWNER", value or "") for value in row] for row in World(url).query(RIGHTS)]


def test_a_restored_database_is_what_it_was_under_another_user_on_another_server(
    world: World, arcadia: Call, other_server: str, provisioning: str, tmp_path: Path
) -> None:
    """Rows, rights, proofs, the API's answers and Dagster's record; a re-run of its months changes no invoice.

    April is paid, then 100 hours more come late at 1 c: 1.00 that May's invoice carries, beside 57.50 for its plan.
    """
    world.pilot()
    arcadia("invoice", "2026-04", "--json").json()
    [(number,)] = world.query("select invoice_number from billing.tenant_invoices")
    pay = ["--paid-on", "today", "--operator", "ada", "--reason", "bank", "--no-dry-run"]
    pay[1] = str(world.query("select (now() at time zone 'utc')::date")[0][0])
    assert arcadia("mark-invoice-paid", number, *pay).code == 0
    world.use("web", "droplet_hours", 100, ingested_at="now")
    for month in ("2026-04", "2026-05"):
        arcadia("invoice", month, "--json").json()
    world.query(f'grant select, insert on billing.deployment_resources to "{provisioning}"')
    owner = world.query("select current_user")[0][0]
    file = tmp_path / "arcadia.dump"

    assert arcadia("backup", str(file)).code == 0
    told = arcadia("restore", str(file), ARCADIA_DATABASE_URL=other_server)
    assert told.code == 0
    assert f'the roles "{provisioning}", arcadia_analyst, arcadia_api, arcadia_pipeline, arcadia_reprice' in told.out
    assert file.stat().st_mode & 0o777 == 0o600
    assert contents(other_server) == contents(world.url)

    world.query("select billing.admit_roles()")  # as a restore does, now that Dagster's tables are there
    assert rights(other_server, "keeper") == rights(world.url, owner)

    restored = World(other_server)
    before = (restored.events(), restored.invoices("2026-04"), restored.invoices("2026-05"))
    assert restored.invoices("2026-05") == {"pilot": ("issued", 1, 5850, 585, 6435)}
    answers = []
    for url in (world.url, other_server):
        with served(url) as api:
            paths = ("/api/v1/invoices", "/api/v1/costs/months?from=2026-04&to=2026-05")
            answers.append([api.get(path, headers=ADMIN).json() for path in paths])
            answers[-1].append(api.get("/api/v1/invoices", headers=tenant("pilot")).json())
            answers[-1].append(api.get("/api/v1/invoices", headers=tenant("nobody")).json())
    assert answers[0] == answers[1]
    assert [len(answer["items"]) for answer in answers[0][2:]] == [2, 0]
    for month in ("2026-04", "2026-05"):
        rerun = arcadia("invoice", month, "--json", ARCADIA_DATABASE_URL=other_server).json()
        assert {action: count for action, count in rerun["actions"].items() if count} == (
            {"frozen": 1} if month == "2026-04" else {"keep": 1}
        )
    assert (restored.events(), restored.invoices("2026-04"), restored.invoices("2026-05")) == before
    assert arcadia("audit", ARCADIA_DATABASE_URL=other_server).code == 0
    assert arcadia("replay", "2026-04", ARCADIA_DATABASE_URL=other_server).code == 0


def test_what_cannot_be_restored_whole_leaves_the_database_empty(
    world: World, arcadia: Call, empty_url: str, tmp_path: Path
) -> None:
    """A file cut anywhere, none of ours, or of a newer release; pg_restore or psql killed. Then it can be restored."""
    world.pilot()
    world.query(
        "insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at)"
        " select gen_random_uuid(), id, 'droplet_hours', 1, '2026-04-01'"
        " from generate_series(1, 9000), cloud.cloud_deployments"
    )
    file, text, newer, foreign = (tmp_path / name for name in ("arcadia.dump", "notes.txt", "newer", "foreign"))

    def restore(path: Path) -> Answer:
        answer = arcadia("restore", str(path), ARCADIA_DATABASE_URL=empty_url)
        if answer.code:
            assert contents(empty_url) == {}
            assert World(empty_url).query("select from pg_namespace where nspname = 'billing'") == []
        return answer

    assert arcadia("backup", str(file)).code == 0
    refused(arcadia("backup", str(file)), "arcadia.dump exists already")
    refused(arcadia("backup", str(tmp_path / "nowhere" / "x")), "cannot write", "nowhere/x")
    refused(arcadia("backup", str(tmp_path / "x"), ARCADIA_DATABASE_URL=empty_url), "lacks our tables")
    whole = file.read_bytes()
    cut = tmp_path / "cut"
    for length in (0, 4, 2000, len(whole) // 3, len(whole) - 20_000):
        cut.write_bytes(whole[:length])
        refused(restore(cut), str(cut), "cannot be read")
    text.write_text("Dear Ada,\n" * 100)
    refused(restore(text), "notes.txt", "cannot be read")
    refused(restore(tmp_path / "missing"), "missing", "No such file")
    programs = Path(embedded.binary("pg_dump")).parent
    backup._run([str(programs / "pg_dump"), "-Fc", f"--file={foreign}", backup._place(empty_url)], empty_url, "")
    refused(restore(foreign), "another program's database")
    world.query("insert into billing.schema_migrations values ('0099_later.sql', repeat('0', 64))")
    assert arcadia("backup", str(newer)).code == 0
    refused(restore(newer), "newer release", "0099_later.sql")

    for victim in ("pg_restore", "psql"):
        assert "nothing was restored" in str(_killed(empty_url, file, victim))
        assert contents(empty_url) == {}
    assert restore(file).code == 0
    world.query("delete from billing.schema_migrations where name = '0099_later.sql'")
    assert contents(empty_url) == contents(world.url)
    before = contents(empty_url)
    refused(arcadia("restore", str(file), ARCADIA_DATABASE_URL=empty_url), "is not empty", "billing, cloud, dagster")
    assert contents(empty_url) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def _killed(url: str, file: Path, victim: str) -> backup.BackupError:
    """What a restore says whose program is killed while psql waits: somebody else is about to make schema billing.

    While they run, their command lines show no password.
    """
    raised: list[backup.BackupError] = []

    def restore() -> None:
        try:
            backup.restore(url, file)
        except backup.BackupError as error:
            raised.append(error)

    thread = threading.Thread(target=restore)
    with psycopg.connect(url) as somebody:
        somebody.execute("create schema billing")
        thread.start()
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        until = time.monotonic() + 60
        with psycopg.connect(url, autocommit=True) as looking:
            while looking.execute(waits).fetchone() == (0,):
                assert time.monotonic() < until
                time.sleep(0.02)
        programs = {process.name(): process for process in psutil.Process().children()}
        password = psycopg.conninfo.conninfo_to_dict(url).get("password")
        for name in ("pg_restore", "psql"):
            assert not password or str(password) not in " ".join(programs[name].cmdline())
        programs[victim].kill()
        somebody.rollback()
    thread.join()
    [error] = raised
    return error
