"""A month of any size takes the same statements, but for its chunks, and writes each row once."""

import re
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import streams
from arcadia_pipelines_tests.command_line import start
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.trouble import Line
from arcadia_pipelines_tests.world import World

TABLES = ("metered_usage", "deployment_quote_lines", "tenant_invoices", "tenant_invoice_lines", "invoice_events")


def tenants(world: World, count: int) -> None:
    """So many more tenants, each with a deployment of 100 droplet hours, of which it has 40."""
    world.query("delete from cloud.usage_records")
    if not world.query("select 1 from cloud.plans"):
        world.plan("small", 1000, {"droplet_hours": (40, 2)})
    known = world.query("select count(*) from cloud.tenants")[0][0]
    numbers = f"generate_series({known + 1}, {known + count}) n"
    world.query(f"insert into cloud.tenants select 'tenant-' || n, 'T', null, null from {numbers}")
    world.query(f"insert into cloud.cloud_deployments select md5(n::text)::uuid, 'tenant-' || n, 'web' from {numbers}")
    world.query(f"""
        insert into cloud.subscriptions
        select md5(n::text)::uuid, 'tenant-' || n, md5(n::text)::uuid, p.id, 'active', '2026-01-01', null
        from {numbers}, cloud.plans p
    """)
    world.query("""
        insert into cloud.usage_records
        select gen_random_uuid(), id, 'droplet_hours', 100, '2026-04-09', '2026-04-09' from cloud.cloud_deployments
    """)


def statements(world: World) -> Counter[str]:
    """The statements of a run of the month, by their first two words."""
    said: list[str] = []

    def listen(boundary: str) -> bool:
        said.append(" ".join(boundary.split()[:2]).partition("(")[0])
        return False

    line = Line(world.url)
    line.expect(listen)
    world.publish("2026-04")
    line.expect(lambda _: False)
    return Counter(said)


def written(world: World) -> Counter[str]:
    """Rows ever written to the month's tables, by what was done to them, as PostgreSQL counts when sessions end."""
    world.disconnect()
    others = "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    while world.query(f"{others} and backend_type = 'client backend'"):
        time.sleep(0.01)
    names = ", ".join(f"'{table}', '{table}_2026_04'" for table in TABLES)
    rows = world.query(f"""
        select regexp_replace(relname, '_2026_04', ''), n_tup_ins, n_tup_upd, n_tup_del from pg_stat_all_tables
        where schemaname = 'billing' and relname in ({names})
    """)
    done: Counter[str] = Counter()
    for table, inserted, updated, deleted in rows:
        done.update({table: inserted, "updated": updated, "deleted": deleted})
    return done


@pytest.mark.long
def test_ten_times_the_tenants_take_the_same_statements_but_for_the_copies_of_each_chunk(
    world: World, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 tenants or 40 in one chunk: as many statements, each the same.

    In chunks of ten rows 40 subscriptions are 4 chunks, three more; their 80 quote lines are 8, seven more. To read
    several chunks, quoting and invoicing have connections more, which see what theirs sees.
    """
    tenants(world, 4)
    name = world.url.rpartition("/")[2]
    with copy_of(server_url, name) as larger, copy_of(server_url, name) as in_chunks:
        four = statements(world)
        tenants(World(larger), 36)
        assert statements(World(larger)) == four
        tenants(World(in_chunks), 36)
        monkeypatch.setattr(streams, "CHUNK_ROWS", 9)
        more = statements(World(in_chunks)) - four
    assert more == {
        "select pg_export_snapshot": 2,
        "copy billing.deployment_quote_lines_2026_04": 3,
        "copy pg_temp.changes": 7,
        "copy billing.tenant_invoice_lines_2026_04": 7,
        "once begun:": 3 + 7 + 7,
        "truncate changes": 7,
        "insert into": 7 + 7,  # invoices and their events
    }


def test_every_row_is_written_once_and_none_by_a_rerun(world: World) -> None:
    """Ten tenants: 10 meters, 20 quote lines, 10 invoices with 30 lines; the second run writes nothing."""
    tenants(world, 10)
    world.publish("2026-04")
    once = Counter(
        metered_usage=10, deployment_quote_lines=20, tenant_invoices=10, tenant_invoice_lines=30, invoice_events=10
    )
    assert +written(world) == once
    world.publish("2026-04")
    assert +written(world) == once


def test_a_rerun_writes_what_changed_and_no_more(world: World) -> None:
    """One more record for one tenant of ten: its meter, two quote lines and three invoice lines are replaced."""
    tenants(world, 10)
    world.publish("2026-04")
    before = written(world)
    world.query("""
        insert into cloud.usage_records
        select gen_random_uuid(), md5('7')::uuid, 'droplet_hours', 1, '2026-04-10', now()
    """)
    world.publish("2026-04")
    assert written(world) - before == Counter(
        metered_usage=1,
        deployment_quote_lines=2,
        tenant_invoice_lines=3,
        invoice_events=1,
        updated=1,
        deleted=1 + 2 + 3,
    )


@pytest.mark.long
def test_a_month_has_as_many_connections_as_the_documentation_says(
    world: World, server_url: str, tmp_path: Path
) -> None:
    """Counted while the command runs: nine, and for moments a tenth, which looks whom the month waits for.

    Of a month of two chunks: what makes one chunk is read on one connection.
    """
    tenants(world, streams.CHUNK_ROWS + 1)
    world.disconnect()
    [said] = re.findall(
        r"a running month has up to (\w+) to the database", (PROJECT / "docs/performance.md").read_text()
    )
    count = "select count(*) from pg_stat_activity where datname = %s and backend_type = 'client backend'"
    most, running = 0, start("arcadia", "invoice", "2026-04", url=world.url, folder=tmp_path)
    with psycopg.connect(server_url, autocommit=True) as connection:
        while running.poll() is None:
            [[now]] = connection.execute(count, [world.url.rpartition("/")[2]]).fetchall()
            most = max(most, now)
    _, complaint = running.communicate()
    assert (running.returncode, complaint) == (0, "")
    assert (said, most) in (("ten", 9), ("ten", 10))
