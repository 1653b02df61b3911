"""Usage and documents in an object store that is spoken to over HTTP, as S3 is (moto): `make test-s3`."""

import datetime as dt
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arcadia_pipelines.usage.contract import RECORDS
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.documents.test_delivery import with_supplier
from arcadia_pipelines_tests.usage.month import freeze, records_without_spans, rows
from arcadia_pipelines_tests.usage.servers import free_port, lake, serving
from arcadia_pipelines_tests.world import World, uid

FOLDER = "usage/of all tenants"
USAGE = f"parquet:s3://{FOLDER}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server of S3."""
    port = free_port()
    with serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def store(endpoint: str, in_environment: Callable[..., None]) -> Iterator[fsspec.AbstractFileSystem]:
    """The store as users have it: by variables. It has an empty bucket `usage`."""
    in_environment(
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID="ada",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_MAX_ATTEMPTS="1",
    )
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.mkdir("usage")
    yield files
    files.rm("usage", recursive=True)


def test_a_bucket_is_counted_as_the_table_is(
    world: World,
    april: list[tuple[object, ...]],
    store: fsspec.AbstractFileSystem,
    tmp_path: Path,
    in_environment: Callable[..., None],
) -> None:
    """In two objects with odd names; what is hidden is not counted."""
    records = pq.read_table(tmp_path / "usage")
    put(store, "2026/a[1]*.parquet", records.slice(0, 50))
    put(store, "2026/b c.parquet", records.slice(50))
    put(store, "_temporary/c.parquet", records)
    in_environment(ARCADIA_USAGE_URL=USAGE)
    changed, pin = freeze(world)
    assert (changed, len(april) > 40, rows(world)) == (False, True, april)
    assert pin is not None
    assert [file["name"] for file in pin["files"]] == ["2026/a[1]*.parquet", "2026/b c.parquet"]
    assert all(len(file["etag"]) == 32 for file in pin["files"])
    assert records_without_spans() == sum(int(str(row[4])) for row in april)
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}


def test_an_object_that_changes_vanishes_or_is_half_written_is_noticed(
    world: World, store: fsspec.AbstractFileSystem, arcadia: Call, in_environment: Callable[..., None]
) -> None:
    """10.5 units at 2 c are 0.21, on 1.00. Then there are 11.5, in as many bytes: the ETag is another."""
    world.plan("small", 100, {"h": (0, 2)})
    world.tenant("a")
    world.deployment("a", "web", "small")
    in_environment(ARCADIA_USAGE_URL=USAGE)
    put(store, "a.parquet", units("10", "0.5"))
    world.publish("2026-04")
    assert world.query("select subtotal_cents from billing.tenant_invoices") == [(121,)]
    assert arcadia("audit", "2026-04").code == 0
    size = store.size(f"{FOLDER}/a.parquet")
    put(store, "a.parquet", units("11", "0.5"))
    assert store.size(f"{FOLDER}/a.parquet") == size
    changed = arcadia("audit", "2026-04")
    assert (changed.code, "raw_quantity 11.5" in changed.out, "a.parquet has changed" in changed.out) == (1, True, True)
    put(store, "b.parquet", units("1"))
    store.rm(f"{FOLDER}/a.parquet")
    assert world.stopped("2026-04").startswith("frozen usage of 2026-04 has vanished, of 1 meter")
    store.pipe(f"{FOLDER}/c.parquet", b"PAR1 and no more")
    refused(arcadia("usage", "check", "2026-04"), f"c.parquet of {USAGE} is no whole Parquet file")
    assert world.query("select quantity from billing.metered_usage") == [(Decimal("10.5"),)]


def test_buckets_and_servers_that_are_not_there_are_one_line(
    store: fsspec.AbstractFileSystem, arcadia: Call, in_environment: Callable[..., None]
) -> None:
    there_is_none = "there is no such folder"
    refused(arcadia("usage", "check", "2026-04", "--source", "parquet:s3://usage/nowhere"), there_is_none)
    refused(arcadia("usage", "check", "2026-04", "--source", "parquet:s3://no-such-bucket/usage"), there_is_none)
    put(store, "a.parquet", units("10"))
    in_environment(AWS_ENDPOINT_URL="http://127.0.0.1:1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    refused(arcadia("usage", "check", "2026-04", "--source", USAGE), f"{USAGE} could not be read: Could not connect")


def test_what_is_generated_into_a_bucket_is_counted(
    store: fsspec.AbstractFileSystem, arcadia: Call, world: World
) -> None:
    world.plan("small", 100, {"h": (0, 2)})
    world.tenant("a")
    world.deployment("a", "web", "small")
    made = arcadia("usage", "generate", "1000", "--month", "2026-04", "--to", USAGE)
    assert (made.code, made.out) == (0, f"1,000 records in 1 file of {USAGE}\n")
    assert store.find("usage") == [f"{FOLDER}/usage-2026-04-00001.parquet"]
    assert "2026-04 has 1,000 records of 1 meter" in arcadia("usage", "check", "2026-04", "--source", USAGE).out


def test_an_iceberg_table_in_a_bucket_is_counted_as_the_table_is(
    world: World,
    april: list[tuple[object, ...]],
    store: fsspec.AbstractFileSystem,
    endpoint: str,
    tmp_path: Path,
    in_environment: Callable[..., None],
) -> None:
    there = {"PYICEBERG_CATALOG__LAKE__WAREHOUSE": "s3://usage/lake", "PYICEBERG_CATALOG__LAKE__S3__ENDPOINT": endpoint}
    variables = lake(tmp_path / "lake", pq.read_table(tmp_path / "usage"), **there)
    in_environment(ARCADIA_USAGE_URL="iceberg:lake/metering.usage_records", **variables)
    assert not freeze(world)[0]
    assert (len(april) > 40, rows(world)) == (True, april)
    assert [name for name in store.find("usage") if name.endswith(".parquet")]
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}


def test_a_months_documents_are_written_into_a_bucket(
    store: fsspec.AbstractFileSystem, arcadia: Call, world: World
) -> None:
    with_supplier(world)
    answer = arcadia("documents", "2026-04", "--into", "s3://usage/april")
    assert (answer.code, answer.out, answer.err) == (0, "1 document of 2026-04 in s3://usage/april\n", "")
    assert store.cat("usage/april/INV-202604-00001.pdf").startswith(b"%PDF-")


def units(*quantities: str) -> pa.Table:
    """Records of kind h of the deployment `web`."""
    at, web = dt.datetime(2026, 4, 3, tzinfo=dt.UTC), str(uid("web"))
    rows = [(f"record {place}", web, "h", Decimal(each), at, at) for place, each in enumerate(quantities)]
    return pa.Table.from_pylist([dict(zip(RECORDS.names, row, strict=True)) for row in rows], RECORDS)


def put(store: fsspec.AbstractFileSystem, name: str, records: pa.Table) -> None:
    """Write the records to an object of the folder."""
    with store.open(f"{FOLDER}/{name}", "wb") as out:
        pq.write_table(records, out)
