"""Other engines than DuckDB over Parquet files: the same rows, and one clear line if they fail."""

import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arcadia_pipelines.usage import answers, sources
from arcadia_pipelines.usage.contract import UsageSourceError
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.usage.month import APRIL, freeze, records_without_spans, rows
from arcadia_pipelines_tests.usage.servers import lake, sail
from arcadia_pipelines_tests.world import World, uid


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
    source = sources.configured()
    assert source is not None
    assert len(source.records_of(APRIL, whole["deployment_id"].unique().to_pylist())) == len(whole)
    lake(tmp_path / "lake", first.slice(0, 0))  # another snapshot, with nothing in it
    assert freeze(world)[1] != pin
    assert world.findings("2026-04").keys() <= {"all_usage_is_billed", "no_tenant_is_held_back"}


def test_a_kind_that_is_no_text_is_refused_in_words() -> None:
    """ClickHouse and Iceberg keep any bytes as text; the rows are what an engine counted."""
    kinds = pa.StringArray.from_buffers(1, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"\xff\xfe"))
    row = {"deployment_id": [str(uid("web"))], "subscription_id": [""], "quantity": [None], "known": [0]}
    rows = pa.table({**row, "record_count": [1], "resource_kind": kinds})
    with pytest.raises(UsageSourceError, match="has resource_kinds of 2026-04 that are not UTF-8"):
        answers.as_counts("clickhouse://host", APRIL, rows)


@pytest.mark.long
def test_a_program_that_has_loaded_sparks_client_starts_processes_as_before() -> None:
    """PySpark ends a program whose main module has no file; with an empty one, none of its processes would start."""
    program = """
import multiprocessing
import arcadia_pipelines.usage.spark
process = multiprocessing.get_context("forkserver").Process(target=print, args=("started",))
process.start()
process.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("started\n", "")


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


class _NoSuchUser(BaseHTTPRequestHandler):
    """A ClickHouse that knows nobody, in its own words."""

    def do_POST(self) -> None:
        """Refuse whatever is asked."""
        self.rfile.read(int(self.headers["Content-Length"]))
        said = (
            b"Code: 516. DB::Exception: ada: Authentication failed: password is incorrect, or there is no user with"
            b" such name. (AUTHENTICATION_FAILED)\n"
        )
        self.send_response(403)
        self.send_header("X-ClickHouse-Exception-Code", "516")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


def test_wrong_credentials_are_said_in_one_line_without_them_and_nothing_is_frozen(
    world: World, arcadia: Call, in_environment: Callable[..., None]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NoSuchUser) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        in_environment(ARCADIA_USAGE_URL=f"clickhouse://ada:a-secret@127.0.0.1:{server.server_port}")
        told = arcadia("usage", "check", "2026-04")
        stopped = world.stopped("2026-04")
        server.shutdown()
        thread.join()
    refused(told, f"clickhouse://127.0.0.1:{server.server_port}/default?table=usage_records could not be read")
    for said in (told.err, stopped):
        assert "Authentication failed" in said
        assert "a-secret" not in said
        assert len(said.strip().splitlines()) == 1
    assert world.query("select count(*) from billing.billing_months") == [(0,)]
