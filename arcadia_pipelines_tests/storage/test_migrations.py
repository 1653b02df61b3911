"""The schema: applied once whoever applies it, never over what somebody edited, and what it refuses by itself."""

import hashlib
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import audit
from arcadia_pipelines.proof.controls import find
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines.storage.database import StorageError
from arcadia_pipelines.storage.migrations import MigrationError, migrate
from arcadia_pipelines_tests.databases import PLATFORM, copy_of, schema_of
from arcadia_pipelines_tests.world import World, failures

FILES = sorted(file.name for file in (migrations.SQL / "migrations").glob("*.sql"))


def write(folder: Path, **files: str) -> Path:
    """A folder of migrations."""
    folder.mkdir(exist_ok=True)
    for name, sql in files.items():
        (folder / f"{name}.sql").write_text(sql)
    return folder


@pytest.mark.long
def test_a_second_time_changes_nothing(empty_url: str) -> None:
    """The first call applies every file in order, the second none; not a row of the catalogue is written again."""
    engine = database.engine(empty_url)
    assert migrate(engine) == FILES
    before = schema_of(empty_url)
    assert migrate(engine) == []
    assert schema_of(empty_url) == before


@pytest.mark.long
def test_at_once_each_file_is_applied_once(empty_url: str) -> None:
    """Of four whoever is first applies a file, the others wait for it and go on; nobody fails."""
    callers = 4
    start = threading.Barrier(callers)

    def call(_: int) -> list[str]:
        start.wait()
        return migrate(database.engine(empty_url))

    with ThreadPoolExecutor(callers) as pool:
        applied = [name for names in pool.map(call, range(callers)) for name in names]
    assert sorted(applied) == FILES
    assert World(empty_url).query("select name from billing.schema_migrations order by 1") == [(n,) for n in FILES]


def test_a_new_file_is_applied_after_the_others(empty_url: str, tmp_path: Path) -> None:
    """Only what is missing is applied."""
    engine = database.engine(empty_url)
    migrate(engine, write(tmp_path, **{"0001_first": "create table billing.first ()"}))
    assert migrate(engine, write(tmp_path, **{"0002_second": "create table billing.second ()"})) == ["0002_second.sql"]


@pytest.mark.long
def test_what_invoices_were_made_from_moves_to_a_table_of_its_own(empty_url: str, tmp_path: Path) -> None:
    """By 0009; where a view shows the column that goes, nothing is changed until it is dropped."""
    engine, world = database.engine(empty_url), World(empty_url)
    later = [name for name in FILES if name >= "0009"]
    folder = shutil.copytree(migrations.SQL / "migrations", tmp_path / "migrations")
    for name in later:
        (folder / name).unlink()
    migrate(engine, folder)
    world.query(
        "insert into billing.tenant_invoices (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, status, content_sha256, usage_cutoff, run_id, made_from) values (gen_random_uuid(), 'a',"
        " '2026-04-01', '2026-05-01', 10, 1, 11, 'draft', repeat('0', 64), now(), 'run', 7)"
    )
    world.query("create view public.invoices as select * from billing.tenant_invoices")
    before = schema_of(empty_url)
    with pytest.raises(database.StorageError, match=r"is used: view public.invoices depends on .* Drop that"):
        migrate(engine)
    assert schema_of(empty_url) == before
    world.query("drop view public.invoices")
    assert migrate(engine) == later
    assert world.query("select tenant_id, made_from from billing.invoiced_tenants") == [("a", 7)]


@pytest.mark.long
def test_books_of_before_get_their_hashes_and_their_chains(empty_url: str, tmp_path: Path) -> None:
    """By 0017, as it is written from then on: of an invoice, paid, with one line and two events; March was first."""
    engine, world = database.engine(empty_url), World(empty_url)
    folder = shutil.copytree(migrations.SQL / "migrations", tmp_path / "migrations")
    for name in [name for name in FILES if name >= "0017"]:
        (folder / name).unlink()
    migrate(engine, folder)
    prepared(world)
    insert(world, "tenant_invoice_lines", **LINE, unit="hour", deployment_name="web")
    for event in ({"event": "voided", "period_start": "2026-03-01"}, {"event": "issued"}, {"event": "paid"}):
        insert(world, "invoice_events", **{**EVENT, **event})
    world.query("update billing.tenant_invoices set status = 'paid'")
    insert(world, "tenant_invoices", **SECOND)
    migrate(engine)
    line = ("1", "overage", "672000000", "100000000", "672", "{}", "", "22", "4", "3", "Overage: droplet_hourshourweb")
    expected = hashlib.sha256("\x1f".join(line).encode()).hexdigest()
    assert world.query("select tenant_id, lines_sha256 from billing.tenant_invoices order by 1") == [
        ("a", expected),
        ("b", None),
    ]
    chained = "select chain, place, event_id, invoice_sha256 is not null from billing.event_chain order by event_id"
    assert world.query(chained) == [("2026-03", 1, 1, False), ("2026-04", 1, 2, False), ("2026-04", 2, 3, True)]
    assert world.query("select chain, place, begun_after from billing.event_heads order by 1") == [
        ("2026-03", 1, None),
        ("2026-04", 2, "2026-03"),
    ]
    insert(world, "invoice_events", **EVENT)
    with database.snapshot(engine) as connection:
        controls = {proved.control.name: proved.control for proved in audit.AUDITS}
        assert find(connection, controls["events_are_chained"], BillingMonth.parse("2026-04")).offenders == []


def test_without_a_file_there_is_nothing_to_be_up_to_date_with(empty_url: str, tmp_path: Path) -> None:
    """A folder without a migration, and none at all: refused, and nothing is made."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(MigrationError, match=rf"^there is no migration in {folder}: .* install it again$"):
            migrate(database.engine(empty_url), folder)
    assert World(empty_url).query("select to_regnamespace('billing')") == [(None,)]


@pytest.mark.long
def test_an_edited_file_is_refused_and_nothing_is_applied(empty_url: str, tmp_path: Path) -> None:
    """A comment is enough: what was applied is not what is there. The new file beside it waits."""
    engine = database.engine(empty_url)
    folder = shutil.copytree(migrations.SQL / "migrations", tmp_path / "migrations")
    migrate(engine, folder)
    before = schema_of(empty_url)
    with (folder / FILES[1]).open("a") as file:
        file.write("-- edited\n")
    write(folder, **{"9999_new": "create table billing.new ()"})
    with pytest.raises(MigrationError, match=rf"^sql/migrations/{FILES[1]} was edited after .* in a new file$"):
        migrate(engine, folder)
    assert schema_of(empty_url) == before


def test_a_file_that_is_gone_is_refused_and_nothing_is_applied(empty_url: str, tmp_path: Path) -> None:
    """Also one that was renamed: it would be applied a second time."""
    engine = database.engine(empty_url)
    folder = write(tmp_path, **{"0001_first": "create table billing.first ()"})
    migrate(engine, folder)
    before = schema_of(empty_url)
    (folder / "0001_first.sql").rename(folder / "0002_first.sql")
    with pytest.raises(MigrationError, match=r"^sql/migrations/0001_first\.sql was applied and is gone: restore it$"):
        migrate(engine, folder)
    assert schema_of(empty_url) == before


def test_a_newer_releases_database_is_billed_by_that_release_only(world: World) -> None:
    """Whoever begins with an older one is told so: a migration, a month, the command line. Nothing is written."""
    world.pilot()
    world.query("insert into billing.schema_migrations values ('9999_later.sql', repeat('0', 64))")
    engine = database.engine(world.url)
    newer = r"^the database is a newer release's, which has applied 9999_later\.sql: use that release"
    for begin in (migrations.migrate, migrations.require):
        with pytest.raises(MigrationError, match=newer):
            begin(engine)
    assert re.match(newer, failures(world.month_end("2026-04", succeed=False))[0].partition("Error: ")[2])
    assert world.query("select * from billing.billing_months") == []


@pytest.mark.parametrize(
    "mistake", ["select 1 / 0;", "create tabel t ();", "create table billing.first ();", "select '"], ids=str
)
def test_a_broken_file_leaves_nothing_of_itself(empty_url: str, tmp_path: Path, mistake: str) -> None:
    """The file before it stays, the one after it waits; mended, both are applied."""
    engine = database.engine(empty_url)
    good = "create table billing.second (); comment on table billing.first is 'changed by the second';"
    folder = write(
        tmp_path,
        **{
            "0001_first": "create table billing.first ()",
            "0002_second": good + mistake,
            "0003_third": "create table billing.third ()",
        },
    )
    with pytest.raises(StorageError) as refused:
        migrate(engine, folder)
    assert "\n" not in str(refused.value)
    world = World(empty_url)
    made = "select relname from pg_class where relname in ('first', 'second', 'third') order by 1"
    assert world.query(made) == [("first",)]
    assert world.query("select obj_description('billing.first'::regclass)") == [(None,)]
    assert world.query("select name from billing.schema_migrations") == [("0001_first.sql",)]
    write(folder, **{"0002_second": good})
    assert migrate(engine, folder) == ["0002_second.sql", "0003_third.sql"]


def test_a_per_cent_sign_and_a_colon_in_a_file_are_only_that(empty_url: str, tmp_path: Path) -> None:
    """SQL is executed as it stands, not as a template."""
    sql = "create table billing.signs as select '100 %% of %s and %(name)s at :noon' as text, 7 % 4 as rest"
    migrate(database.engine(empty_url), write(tmp_path, **{"0001_signs": sql}))
    assert World(empty_url).query("select * from billing.signs") == [("100 %% of %s and %(name)s at :noon", 3)]


@pytest.mark.long
def test_the_platforms_views_are_left_alone_and_billed(empty_url: str) -> None:
    """Where cloud.* are views over tables with other names, nothing but a right to read is added; 70.64 is owed."""
    world = World(empty_url)
    world.query(PLATFORM)
    catalogue = """
        select c.oid::text, relname, relkind::text, pg_get_viewdef(c.oid)
        from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = 'cloud' order by relname
    """
    before = world.query(catalogue)
    assert len(before) == 10
    assert migrate(database.engine(empty_url)) == FILES
    assert world.query(catalogue) == before
    world.pilot()
    assert world.findings("2026-04") == {}
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.lines("pilot", "2026-04") == [
        ("Plan: studio", 5000),
        ("Addon: storage_50gb", 750),
        ("Overage: droplet_hours", 672),
        ("GST 10%", 642),
    ]
    assert world.query("select count(*) from platform.readings") == [(90,)]


@pytest.fixture
def billing_role(empty_url: str) -> Iterator[str]:
    """The URL of a role that may read the platform's views and make schemas of its own, but owns neither."""
    role = f"billing_{uuid.uuid4().hex}"
    world = World(empty_url)
    name = empty_url.rpartition("/")[2]
    world.query(PLATFORM)
    for statement in (
        f"create role {role} login password 'pw'",
        f"grant create on database {name} to {role}",
        f"grant usage on schema cloud to {role}",
        f"grant select on all tables in schema cloud to {role}",
    ):
        world.query(statement)
    yield f"postgresql://{role}:pw@{empty_url.rpartition('@')[2]}"
    world.query(f"drop owned by {role} cascade")
    world.query(f"drop role {role}")


@pytest.mark.long
def test_a_role_that_may_only_read_the_platforms_schema_can_migrate_and_bill(empty_url: str, billing_role: str) -> None:
    """Billing never writes to cloud, so it needs no right to; what it may not do otherwise is told, once each."""
    told: list[str] = []
    assert migrate(database.engine(billing_role), tell=told.append) == FILES
    name = make_url(billing_role).username
    assert told[0] == "not the owner of the database: set search_path = billing, cloud, public yourself"
    [pipeline] = [text for text in told if text.startswith("the pipeline has no role: ")]
    assert pipeline.endswith(f"grant arcadia_pipeline to {name}; then, as {name}: select billing.admit_roles();")
    assert len(told) == len(set(told))
    World(empty_url).pilot()
    billing = World(billing_role)
    billing.month_end("2026-04")
    assert billing.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


def test_every_column_has_a_comment(world: World) -> None:
    """Each of billing's and of the platform's contract, and every table and view."""
    relations = """
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where nspname in ('billing', 'cloud') and relkind in ('r', 'p', 'v', 'm')
    """
    found = {name for (name,) in world.query(f"select relname {relations}")}
    assert found >= {"tenant_invoices", "tenant_invoice_lines", "unbilled_usage", "invoice_events", "usage_records"}
    assert world.query(f"select relname {relations} and coalesce(obj_description(c.oid), '') = ''") == []
    assert (
        world.query(f"""
            select c.relname || '.' || attname
            from pg_attribute a join (select c.oid, relname {relations}) c on c.oid = attrelid
            where attnum > 0 and not attisdropped and coalesce(col_description(attrelid, attnum), '') = ''
        """)
        == []
    )


def test_a_platforms_own_table_gets_no_comment_of_ours(empty_url: str) -> None:
    """Its schema was there before: what it says, or does not say, of its columns is its own."""
    world = World(empty_url)
    world.query(PLATFORM)
    migrate(database.engine(empty_url))
    said = "select objsubid from pg_description where objoid in ('cloud'::regnamespace, 'cloud.tenants'::regclass)"
    assert world.query(said) == []


def test_unqualified_names_work_for_whoever_connects(empty_url: str) -> None:
    """The database's search_path is billing, cloud, public: psql and a dashboard need no prefix."""
    migrate(database.engine(empty_url))
    world = World(empty_url)
    assert world.query("show search_path") == [("billing, cloud, public",)]
    for name in ("tenant_invoices", "revenue_by_kind", "tenants", "usage_records"):
        assert world.query(f"select count(*) from {name}") == [(0,)]


# What the database refuses by itself, whoever writes.

PARTITIONS = ("metered_usage", "deployment_quote_lines", "tenant_invoice_lines")


@pytest.fixture
def ledger(world: World) -> World:
    """A world with room for April 2026 and an invoice of 64.22 + 6.42 = 70.64 of tenant a."""
    return prepared(world)


@pytest.fixture(scope="module")
def refusing(server_url: str, migrated: str) -> Iterator[World]:
    """The same, for tests whose every statement is refused."""
    with copy_of(server_url, migrated) as url:
        yield prepared(World(url))


def prepared(world: World) -> World:
    """Partitions for April 2026, and the invoice."""
    for table in PARTITIONS:
        world.query(
            f"create table billing.{table}_2026_04 partition of billing.{table}"
            " for values from ('2026-04-01') to ('2026-05-01')"
        )
    insert(world, "tenant_invoices", **INVOICE)
    return world


INVOICE: dict[str, object] = {
    "id": uuid.UUID(int=1),
    "tenant_id": "a",
    "period_start": "2026-04-01",
    "period_end": "2026-05-01",
    "subtotal_cents": 6422,
    "tax_cents": 642,
    "total_cents": 7064,
    "issued_at": "2026-05-01 03:00+00",
    "invoice_number": "INV-202604-00001",
    "content_sha256": "0" * 64,
    "usage_cutoff": "2026-05-01 03:00+00",
    "run_id": "run",
}
SECOND = {**INVOICE, "id": uuid.UUID(int=2), "tenant_id": "b", "invoice_number": "INV-202604-00002"}
LINE: dict[str, object] = {
    "invoice_id": uuid.UUID(int=1),
    "kind": "overage",
    "description": "Overage: droplet_hours",
    "qty": 672,
    "unit_price_cents": 1,
    "amount_cents": 672,
    "period_start": "2026-04-01",
    "line_no": 1,
}
QUOTE_LINE: dict[str, object] = {
    "period_start": "2026-04-01",
    "subscription_id": uuid.UUID(int=3),
    "deployment_id": uuid.UUID(int=4),
    "tenant_id": "a",
    "line_no": 1,
    "kind": "overage",
    "description": "Overage: droplet_hours",
    "qty": 672,
    "unit": "hour",
    "unit_price_cents": 1,
    "amount_cents": 672,
    "deployment_name": "web",
}
USAGE: dict[str, object] = {
    "period_start": "2026-04-01",
    "deployment_id": uuid.UUID(int=4),
    "resource_kind": "droplet_hours",
    "quantity": 2160,
    "record_count": 90,
    "unusable_records": 0,
    "duplicate_records": 0,
}
UNBILLED: dict[str, object] = {
    "period_start": "2026-04-01",
    "deployment_id": uuid.UUID(int=4),
    "resource_kind": "droplet_hours",
    "quantity": 2160,
    "reason": "no_rate",
}
EVENT: dict[str, object] = {
    "invoice_id": uuid.UUID(int=1),
    "tenant_id": "a",
    "period_start": "2026-04-01",
    "event": "issued",
    "revision": 1,
    "total_cents": 7064,
    "content_sha256": "0" * 64,
    "operator": "month_end",
    "reason": "month end",
    "run_id": "run",
}


def insert(world: World, table: str, **columns: object) -> None:
    """One row of a table."""
    places = ", ".join(["%s"] * len(columns))
    table = table if "." in table else f"billing.{table}"
    world.query(f"insert into {table} ({', '.join(columns)}) values ({places})", *columns.values())


def test_what_the_pipeline_writes_is_taken(ledger: World) -> None:
    """The rows that the next tests spoil are good before they are spoilt."""
    insert(ledger, "tenant_invoices", **SECOND)
    insert(ledger, "tenant_invoice_lines", **LINE)
    insert(ledger, "deployment_quote_lines", **QUOTE_LINE)
    insert(ledger, "metered_usage", **USAGE)
    insert(ledger, "unbilled_usage", **UNBILLED)
    insert(ledger, "invoice_events", **EVENT)


@pytest.mark.parametrize(
    ("table", "row", "spoilt"),
    [
        ("tenant_invoices", SECOND, {"total_cents": 7065}),
        ("tenant_invoices", SECOND, {"tax_cents": 643}),
        ("tenant_invoices", SECOND, {"subtotal_cents": 2**63 - 1, "tax_cents": 1, "total_cents": -(2**63)}),
        ("tenant_invoices", SECOND, {"status": "sent"}),
        ("tenant_invoices", SECOND, {"status": "Issued"}),
        ("tenant_invoices", SECOND, {"currency": "USD"}),
        ("tenant_invoices", SECOND, {"period_start": "2026-04-02", "period_end": "2026-05-02"}),
        ("tenant_invoices", SECOND, {"period_end": "2026-04-30"}),
        ("tenant_invoices", SECOND, {"period_start": "-infinity", "period_end": "-infinity"}),
        ("tenant_invoices", SECOND, {"period_start": "infinity", "period_end": "infinity"}),
        ("tenant_invoices", SECOND, {"revision": 0}),
        ("tenant_invoices", SECOND, {"content_sha256": "none"}),
        ("tenant_invoices", SECOND, {"invoice_number": None}),
        ("tenant_invoices", SECOND, {"issued_at": None}),
        ("tenant_invoice_lines", LINE, {"kind": "rebate"}),
        ("tenant_invoice_lines", LINE, {"qty": "NaN"}),
        ("tenant_invoice_lines", LINE, {"unit_price_cents": "NaN"}),
        ("tenant_invoice_lines", LINE, {"line_no": 0}),
        ("deployment_quote_lines", QUOTE_LINE, {"kind": "tax"}),
        ("deployment_quote_lines", QUOTE_LINE, {"qty": "NaN"}),
        ("deployment_quote_lines", QUOTE_LINE, {"unit_price_cents": "NaN"}),
        ("metered_usage", USAGE, {"quantity": "NaN"}),
        ("metered_usage", USAGE, {"record_count": 0}),
        ("metered_usage", USAGE, {"unusable_records": 91}),
        ("unbilled_usage", UNBILLED, {"quantity": "NaN"}),
        ("unbilled_usage", UNBILLED, {"reason": "forgotten"}),
        ("invoice_events", EVENT, {"event": "forgotten"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) and len(value) < 4 else "",
)
def test_an_invalid_row_is_refused(
    refusing: World, table: str, row: dict[str, object], spoilt: dict[str, object]
) -> None:
    """By a check of the database itself, whatever program writes it."""
    with pytest.raises(psycopg.errors.CheckViolation, match="violates check constraint"):
        insert(refusing, table, **{**row, **spoilt})


OF_SOME_PRICE: dict[str, object] = {"plan_id": uuid.UUID(int=5), "effective_from": "2026-04-01"}
OF_A_MONTH: list[tuple[str, dict[str, object]]] = [
    ("cloud.plan_prices", {**OF_SOME_PRICE, "base_price_cents": 5000}),
    ("cloud.addon_prices", {"addon_id": uuid.UUID(int=5), "effective_from": "2026-04-01", "price_cents": 750}),
    (
        "cloud.plan_rates",
        {**OF_SOME_PRICE, "resource_kind": "gold", "included_quantity": 0, "unit": "gram", "unit_price_cents": 1},
    ),
    ("billing.billing_months", {"period_start": "2026-04-01", "usage_cutoff": "2026-05-01", "run_id": "run"}),
    (
        "billing.invoice_corrections",
        {
            "period_start": "2026-04-01",
            "tenant_id": "a",
            "invoice_number": "INV-202604-00001",
            "billed_cents": 1,
            "owed_cents": 2,
            "run_id": "run",
        },
    ),
    ("billing.fx_rates", {"period_start": "2026-04-01", "usd_per_aud": "0.66", "source": "a test"}),
    (
        "billing.cloud_invoices",
        {
            "period_start": "2026-04-01",
            "total_cents": 0,
            "total_from": "bill",
            "item_count": 0,
            "content_sha256": "0" * 64,
        },
    ),
]


@pytest.mark.parametrize(("table", "row"), OF_A_MONTH, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize(
    "day", ["-infinity", "infinity", "0001-01-01 BC", "0005-12-01 BC", "10000-01-01", "2026-04-02"]
)
def test_a_date_that_is_not_the_first_of_a_month_is_refused(
    refusing: World, table: str, row: dict[str, object], day: str
) -> None:
    """Since when a price is, and whose month a row is: the 1st, of the years 1 to 9999."""
    column = "effective_from" if "effective_from" in row else "period_start"
    with pytest.raises(psycopg.errors.CheckViolation, match=f"{column}_check"):
        insert(refusing, table, **{**row, column: day})


def test_a_price_since_ever_that_is_there_already_stops_no_release_and_is_named(empty_url: str, tmp_path: Path) -> None:
    """It is told with what to do; new ones are refused. The platform's own tables are left alone."""
    engine, world = database.engine(empty_url), World(empty_url)
    folder = shutil.copytree(migrations.SQL / "migrations", tmp_path / "migrations")
    for file in folder.glob("*.sql"):
        if file.name >= "0014":
            file.unlink()
    world.query(
        "create schema cloud; create table cloud.addon_prices (addon_id uuid, effective_from date not null,"
        " price_cents bigint, check (extract(day from effective_from) in (1, 2)))"
    )
    migrate(engine, folder)
    world.plan("studio", 5000, since="-infinity")
    told: list[str] = []
    assert migrate(engine, tell=told.append)[0] == "0014_first_days.sql"
    assert told == [
        "cloud.plan_prices has rows whose effective_from is not the first day of a month of the years 1 to 9999;"
        " correct or remove them, then: alter table cloud.plan_prices validate constraint"
        " plan_prices_effective_from_check;"
    ]
    with pytest.raises(psycopg.errors.CheckViolation):
        world.plan("bespoke", 5000, since="-infinity")
    world.query("insert into cloud.addon_prices values (gen_random_uuid(), '2026-04-02', 750)")


@pytest.mark.parametrize(
    ("table", "row", "missing"),
    [
        ("tenant_invoices", SECOND, "total_cents"),
        ("tenant_invoices", SECOND, "tax_cents"),
        ("tenant_invoice_lines", LINE, "amount_cents"),
        ("deployment_quote_lines", QUOTE_LINE, "amount_cents"),
        ("metered_usage", USAGE, "quantity"),
    ],
)
def test_an_amount_is_never_missing(refusing: World, table: str, row: dict[str, object], missing: str) -> None:
    """Null cents are no cents."""
    with pytest.raises(psycopg.errors.NotNullViolation):
        insert(refusing, table, **{**row, missing: None})


@pytest.mark.parametrize("same", ["tenant_id", "invoice_number", "id"])
def test_a_second_invoice_of_a_tenants_month_is_refused(refusing: World, same: str) -> None:
    """One invoice per tenant and month, one per number."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert(refusing, "tenant_invoices", **{**SECOND, same: INVOICE[same]})


def test_a_line_without_its_invoice_is_refused(refusing: World) -> None:
    """Lines go with their invoice."""
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        insert(refusing, "tenant_invoice_lines", **{**LINE, "invoice_id": uuid.UUID(int=9)})


def test_a_deployment_that_is_deleted_leaves_its_lines(ledger: World) -> None:
    """The line stays on the invoice, without the deployment."""
    ledger.tenant("a")
    ledger.deployment("a", "web")
    [[web]] = ledger.query("select id from cloud.cloud_deployments")
    insert(ledger, "tenant_invoice_lines", **LINE, deployment_id=web)
    ledger.query("delete from cloud.cloud_deployments")
    assert ledger.query("select deployment_id, amount_cents from billing.tenant_invoice_lines") == [(None, 672)]


@pytest.mark.parametrize(
    "change",
    [
        "update billing.invoice_events set total_cents = 0",
        "delete from billing.invoice_events",
        "truncate billing.invoice_events",
        "insert into billing.invoice_events (id, invoice_id, tenant_id, period_start, event, revision, total_cents,"
        " content_sha256, operator, reason, run_id) overriding system value select id, invoice_id, tenant_id,"
        " period_start, event, revision, 0, content_sha256, operator, reason, run_id from billing.invoice_events"
        " on conflict (id) do update set total_cents = 0",
    ],
    ids=["update", "delete", "truncate", "upsert"],
)
def test_history_is_never_changed(ledger: World, change: str) -> None:
    """The table refuses, and says what to do instead."""
    insert(ledger, "invoice_events", **EVENT)
    with pytest.raises(
        psycopg.errors.RaiseException, match=r"invoice_events is history: .* append a new event instead"
    ):
        ledger.query(change)
    assert ledger.query("select total_cents from billing.invoice_events") == [(7064,)]
