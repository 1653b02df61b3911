"""Other engines than DuckDB over Parquet files: the same rows, and one clear line if they fail."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.usage.month import freeze, records_without_spans, rows
from arcadia_pipelines_tests.usage.servers import lake, sail
from arcadia_pipelines_tests.world import World


def test_a_cluster_counts_as_the_table_does(
    world: World, april: list[tuple[object, ...]], tmp_path: Path, in_environment: Callable[..., None]
) -> None:
    """Sail with two workers; then it dies, and the month stops in one line."""
    with sail(workers=2) as (port, process):
        in_environment(ARCADIA_USAGE_URL=f"sc://127.0.0.1:{port}/;user_id=ada?table=parquet.`{tmp_path}/usage`")
        assert freeze(world) == (False, {"source": f"sc://127.0.0.1:{port}?table=parquet.`{tmp_path}/usage`"})
        assert len(april) > 40
        assert records_without_spans() == sum(int(str(row[4])) for row in april)
        assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}
        process.kill()
        process.wait()
        said = world.stopped("2026-04")
    assert said.startswith(f"sc://127.0.0.1:{port}?table=parquet.`{tmp_path}/usage` could not be read: ")
    assert rows(world) == april


def test_an_iceberg_table_is_counted_at_one_snapshot(
    world: World,
    april: list[tuple[object, ...]],
    tmp_path: Path,
    in_environment: Callable[..., None],
) -> None:
    """In three parts. What is appended after the month was frozen is late usage, and is added when it is run again."""
    whole = pq.read_table(tmp_path / "usage")
    first, last = whole.slice(0, len(whole) - 1), whole.slice(len(whole) - 1)
    variables = lake(tmp_path / "lake", first.slice(0, 10), first.slice(10))
    in_environment(ARCADIA_USAGE_URL="iceberg:lake/metering.usage_records", **variables)
    assert "has vanished" in world.stopped("2026-04")  # one record is not there yet
    lake(tmp_path / "lake", last)
    changed, pin = freeze(world)
    assert (changed, rows(world)) == (False, april)
    assert pin is not None
    lake(tmp_path / "lake", first.slice(0, 0))  # another snapshot, with nothing in it
    assert freeze(world)[1] != pin
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}


@pytest.mark.long
def test_a_server_that_is_not_there_and_a_table_that_is_not_are_said_in_one_line(arcadia: Call, tmp_path: Path) -> None:
    refused(
        arcadia("usage", "check", "2026-04", "--source", "sc://127.0.0.1:1"), "sc://127.0.0.1:1?table=usage_records"
    )
    refused(arcadia("usage", "check", "2026-04", "--source", "iceberg:usage"), "iceberg:CATALOG/NAMESPACE.TABLE")
    refused(
        arcadia("usage", "check", "2026-04", "--source", "iceberg:nowhere/a.b"), "iceberg:nowhere/a.b could not be read"
    )
    refused(arcadia("usage", "check", "2026-04", "--source", "clickhouse:"), "clickhouse://HOST/DATABASE")
    refused(
        arcadia("usage", "check", "2026-04", "--source", "clickhouse://ada:secret@127.0.0.1:1"), "127.0.0.1:1/default"
    )
