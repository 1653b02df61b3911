"""A platform in two databases, each with its code location: one month end, and one set of sums."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from arcadia_pipelines import embedded
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines_tests.command_line import surroundings
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long


def test_two_servers_make_one_month_end_and_one_set_of_sums(tmp_path: Path) -> None:
    """The pilot's 64.22 in Sydney, and 12.00 in Melbourne; numbers of a series each; who is misplaced is named."""
    homes = {shard: tmp_path / shard for shard in ("sydney", "melbourne")}
    try:
        urls = {shard: embedded.start(home) for shard, home in homes.items()}
        for shard, url in urls.items():
            arcadia(url, tmp_path / shard, "db", "migrate")
            arcadia(url, tmp_path / shard, "db", "series", shard[:3].upper())
        World(urls["sydney"]).pilot()
        melbourne = World(urls["melbourne"])
        melbourne.plan("small", 1200)
        melbourne.tenant("acme")
        melbourne.deployment("acme", "web", "small")
        numbers = {}
        for shard, url in urls.items():
            invoiced = json.loads(arcadia(url, tmp_path / shard, "invoice", "2026-04", "--json"))
            assert invoiced["failed_checks"].keys() <= {"every_month_before_is_invoiced"}
            numbers[shard] = World(url).query("select invoice_number, total_cents from billing.tenant_invoices")
        assert numbers == {"sydney": [("SYD-202604-00001", 7064)], "melbourne": [("MEL-202604-00001", 1320)]}
        coordinate(urls)
        with psycopg.connect(urls["sydney"]) as connection:
            revenue = connection.execute("select * from shards.revenue order by shard").fetchall()
            misplaced = connection.execute("select shard, tenant_id, belongs_to from shards.misplaced").fetchall()
        assert [(shard, cents) for shard, _, cents in revenue] == [("melbourne", 1200), ("sydney", 6422)]
        assert misplaced == [("melbourne", "acme", "sydney")]
    finally:
        for home in homes.values():
            embedded.stop(home)


def arcadia(url: str, home: Path, *arguments: str) -> str:
    """`arcadia` in a process of its own, whose environment names the shard's database; what it prints."""
    program = str(Path(sys.executable).with_name("arcadia"))
    environment = os.environ | surroundings(url, home) | {"ARCADIA_HOME": str(home)}
    done = subprocess.run([program, *arguments], env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def coordinate(urls: dict[str, str]) -> None:
    """Run the coordinator's script, on Sydney's server, and say where the two tenants belong: acme by mistake."""
    variables = []
    for shard, url in urls.items():
        place = conninfo_to_dict(url)
        named = {"host": "host", "port": "port", "database": "dbname", "user": "user", "password": "password"}
        variables += [f"--set={shard}_{name}={place[key]}" for name, key in named.items()]
    script = str(PROJECT / "deploy/shards/coordinator.sql")
    command = [embedded.binary("psql"), urls["sydney"], "-q", "-v", "ON_ERROR_STOP=1", *variables, "-f", script]
    subprocess.run(command, check=True, capture_output=True, text=True)
    with psycopg.connect(urls["sydney"]) as connection:
        connection.execute("insert into shards.tenants values ('pilot', 'sydney'), ('acme', 'sydney')")
