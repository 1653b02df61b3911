"""ClickHouse, in this process (chdb): `make test-clickhouse`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.usage.month import freeze, records_without_spans, rows
from arcadia_pipelines_tests.world import World

URL = "clickhouse://ada:secret@localhost/default?interface=chdb&table="
TABLE = """
    create table {name} (
        record_id String, deployment_id String, resource_kind LowCardinality(String), quantity {quantity},
        recorded_at DateTime64(6, {zone}), ingested_at Nullable(DateTime64(6, 'UTC'))
    ) engine = MergeTree order by recorded_at
"""


@pytest.fixture
def clickhouse() -> Iterator[Client]:
    client = clickhouse_connect.get_client(interface="chdb")
    yield client
    for name in ("usage_records", "of_floats", "in_sydney"):
        client.command(f"drop table if exists {name}")
    client.close()


def test_clickhouse_counts_as_the_table_does(
    world: World,
    april: list[tuple[object, ...]],
    clickhouse: Client,
    tmp_path: Path,
    in_environment: Callable[..., None],
) -> None:
    """What is ingested after the cut-off is late, and is not counted again by the check; then it is added."""
    clickhouse.command(TABLE.format(name="usage_records", quantity="Nullable(Decimal(18, 6))", zone="'UTC'"))
    clickhouse.command(f"insert into usage_records select * from file('{tmp_path}/usage/*.parquet', 'Parquet')")
    in_environment(ARCADIA_USAGE_URL=f"{URL}usage_records")
    assert freeze(world) == (False, {"source": "clickhouse://localhost/default?table=usage_records"})
    assert (len(april) > 40, rows(world)) == (True, april)
    assert records_without_spans() == sum(int(str(row[4])) for row in april)
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}
    clickhouse.command(
        "insert into usage_records select 'later', deployment_id, 'later', 7, '2026-04-15',"
        " now64(6) from usage_records limit 1"
    )
    assert world.findings("2026-05").keys() >= {"no_late_usage_in_the_month_before"}
    assert freeze(world)[0]
    assert len(rows(world)) == len(april) + 1


def test_floats_and_another_zone_are_refused_in_words(clickhouse: Client, arcadia: Call) -> None:
    clickhouse.command(TABLE.format(name="of_floats", quantity="Float64", zone="'UTC'"))
    clickhouse.command(TABLE.format(name="in_sydney", quantity="Decimal(18, 4)", zone="'Australia/Sydney'"))
    floats = arcadia("usage", "check", "2026-04", "--source", f"{URL}of_floats")
    refused(floats, "quantity is floating point, and must be decimal(18, 6)")
    sydney = arcadia("usage", "check", "2026-04", "--source", f"{URL}in_sydney")
    refused(sydney, "quantity is decimal(18, 4)", "recorded_at is timestamp without a time zone or of another one")
    gone = arcadia("usage", "check", "2026-04", "--source", f"{URL}nowhere")
    refused(gone, "clickhouse://localhost/default?table=nowhere could not be read")
    assert "secret" not in floats.err + sydney.err + gone.err
