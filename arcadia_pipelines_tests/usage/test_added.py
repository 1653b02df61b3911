"""A month that is frozen again: only what its files or snapshots received since is counted, with the same result."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog

from arcadia_pipelines.month import counting, steps
from arcadia_pipelines.storage import counts, database
from arcadia_pipelines.usage import sources
from arcadia_pipelines_tests.usage.month import APRIL, hard_april, rows
from arcadia_pipelines_tests.usage.servers import lake
from arcadia_pipelines_tests.world import World


@pytest.fixture
def parts(world: World) -> list[pa.Table]:
    """The records of the hard April in four parts; they are no longer in the table."""
    hard_april(world)
    with database.snapshot(world.engine()) as connection:
        whole = pa.Table.from_batches(counts.records(connection, APRIL))
    world.query("delete from cloud.usage_records")
    places = pc.bit_wise_and(pa.array(range(len(whole))), 3)
    return [whole.filter(pc.equal(places, place)) for place in range(4)]


@pytest.fixture(params=["parquet", "iceberg"])
def write(
    request: pytest.FixtureRequest, parts: list[pa.Table], tmp_path: Path, in_environment: Callable[..., None]
) -> Callable[[pa.Table], object]:
    """Writes records into the source that the environment names: each time a file, or a snapshot."""
    if request.param == "iceberg":
        variables = lake(tmp_path, parts[0].slice(0, 0))
        in_environment(ARCADIA_USAGE_URL="iceberg:lake/metering.usage_records", **variables)
        return lambda records: lake(tmp_path, records)
    (tmp_path / "usage").mkdir()
    in_environment(ARCADIA_USAGE_URL=f"parquet:{tmp_path}/usage")
    return lambda records: pq.write_table(records, tmp_path / "usage" / f"{len(list(tmp_path.glob('*/*')))}.parquet")


def is_added(world: World) -> bool:
    """Whether what is new in the source can be added to April's frozen usage; nothing is written."""
    source = sources.configured()
    assert source
    with database.month_at_an_instant(world.engine(), APRIL) as connection:
        found = counting.add(connection, APRIL, source)
        connection.rollback()
    return found is not None


def freeze(world: World) -> bool:
    """Freeze April from the source; whether anything was written."""
    with database.month_at_an_instant(world.engine(), APRIL) as connection:
        return steps.freeze(connection, APRIL, "run", sources.configured()).changed


def copies(world: World) -> int:
    """How many records of April's frozen usage have copies."""
    [(found,)] = world.query("select sum(duplicate_records)::bigint from billing.metered_usage")
    return int(found)


def test_parts_that_come_one_after_the_other_add_up_to_what_all_at_once_is(
    world: World, parts: list[pa.Table], write: Callable[[pa.Table], object]
) -> None:
    """Deployments with part months are counted whole, as also one whose subscription began in between."""
    for number, part in enumerate(parts[:3]):
        write(part)
        assert is_added(world) is (number > 0)
        assert freeze(world)
    world.subscribe("moved", "a", "d1", "small", "2026-04-20 12:00+00")
    write(parts[3])
    assert is_added(world)
    assert freeze(world)
    assert (is_added(world), freeze(world)) == (True, False)
    in_parts = rows(world)
    world.query("update billing.billing_months set usage_source = null")  # as if it were of the table
    assert (is_added(world), freeze(world)) == (False, False)  # all of it was counted
    assert (len(in_parts) > 40, rows(world)) == (True, in_parts)
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}


def test_a_copy_of_what_was_there_and_a_record_without_a_quantity_have_all_counted(
    world: World, parts: list[pa.Table], write: Callable[[pa.Table], object]
) -> None:
    write(parts[0])
    assert freeze(world)
    write(parts[1])
    assert is_added(world)
    write(parts[0].slice(0, 1))
    assert not is_added(world)
    assert freeze(world)
    assert copies(world) == 2
    write(parts[2].set_column(3, "quantity", pa.nulls(len(parts[2]), pa.decimal128(18, 6))).slice(0, 1))
    assert not is_added(world)
    assert freeze(world)
    assert sum(int(str(row[5])) for row in rows(world)) == 1
    write(parts[3])
    assert not is_added(world)
    assert freeze(world)
    assert copies(world) == 2  # they are copies still


def test_a_row_of_ours_that_was_changed_by_hand_is_put_right_by_counting_all(
    world: World, parts: list[pa.Table], write: Callable[[pa.Table], object]
) -> None:
    write(parts[0])
    assert freeze(world)
    frozen = rows(world)
    world.tamper("update billing.metered_usage set quantity = quantity + 1")
    assert not is_added(world)
    assert freeze(world)
    assert rows(world) == frozen


def test_a_snapshot_that_took_something_away_has_all_counted(
    world: World, parts: list[pa.Table], tmp_path: Path, in_environment: Callable[..., None]
) -> None:
    variables = lake(tmp_path, parts[0])
    in_environment(ARCADIA_USAGE_URL="iceberg:lake/metering.usage_records", **variables)
    assert freeze(world)
    lake(tmp_path, parts[1])
    assert is_added(world)
    properties = {name.rsplit("__", 1)[1].lower(): value for name, value in variables.items()}
    catalogue = load_catalog("lake", **properties)
    catalogue.load_table("metering.usage_records").overwrite(pa.concat_tables(parts[:2]))
    catalogue.close()
    assert not is_added(world)
    assert freeze(world)
    assert sum(int(str(row[4])) for row in rows(world)) == len(parts[0]) + len(parts[1])
