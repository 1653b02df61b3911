"""The hard month, frozen from the table and written to files."""

from pathlib import Path

import pytest

from arcadia_pipelines.month import steps
from arcadia_pipelines.storage import counts, database
from arcadia_pipelines.usage import loaders
from arcadia_pipelines_tests.usage.month import APRIL, hard_april, rows
from arcadia_pipelines_tests.world import World


@pytest.fixture
def april(world: World, tmp_path: Path) -> list[tuple[object, ...]]:
    """The hard April as the table has it, frozen; its records are in usage/*.parquet, and no longer in the table."""
    hard_april(world)
    with database.month_at_an_instant(world.engine(), APRIL) as connection:
        steps.freeze(connection, APRIL, "run", None)
        loaders.write(counts.records(connection, APRIL), APRIL, f"parquet:{tmp_path}/usage")
    world.query("delete from cloud.usage_records")
    return rows(world)
