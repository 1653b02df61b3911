"""Spark itself, with Java: `make test-spark`."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arcadia_pipelines_tests.usage.month import freeze, records_without_spans, rows
from arcadia_pipelines_tests.usage.servers import free_port, serving
from arcadia_pipelines_tests.world import World

_SERVER = """
import sys
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.plugins", "org.apache.spark.sql.connect.SparkConnectPlugin")
    .config("spark.connect.grpc.binding.port", sys.argv[1])
    .config("spark.sql.session.timeZone", "Australia/Sydney")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A Spark Connect server, whose own zone is Sydney's; SPARK_PYTHON is the Python of an environment that has it."""
    number = free_port()
    with serving([os.environ["SPARK_PYTHON"], "-c", _SERVER, str(number)], number, SPARK_LOCAL_IP="127.0.0.1"):
        yield number


def test_spark_counts_as_the_table_does(
    world: World, april: list[tuple[object, ...]], port: int, tmp_path: Path, in_environment: Callable[..., None]
) -> None:
    in_environment(ARCADIA_USAGE_URL=f"sc://127.0.0.1:{port}?table=parquet.`{tmp_path}/usage`")
    assert not freeze(world)[0]
    assert (len(april) > 40, rows(world)) == (True, april)
    assert records_without_spans() == sum(int(str(row[4])) for row in april)
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}
