"""How fast usage is counted where it lies: `make bench-usage [N=100000]`, with ROWS=100000000 records in Parquet files.

Makes the month of `make bench` (N deployments, 90 records each), and the same records as Parquet files, as an Iceberg
table, and on a Sail server that reads the files. The month end runs on a copy of the database with each, and must make
the same invoices. Counting alone is measured on so many made-up records in Parquet files, and on half of them, in a
process of its own for each, so that memory can be compared. The last line of output is JSON; times are seconds, the
quickest of three.
"""

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import month_end
import psycopg
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog

from arcadia_pipelines.storage import counts, database
from arcadia_pipelines.usage import loaders, sources
from arcadia_pipelines.usage.contract import SPANS
from arcadia_pipelines_tests.usage.servers import sail

MONTH = month_end.MONTH
REPEATS = 3
TARGETS = {"ratio_frozen": 0.5, "rows_counted_s": 20.0, "rows_peak_mib": 2048.0, "growth_of_memory": 1.25}
"""At most; the second and third are for 100,000,000 rows."""
Figures = dict[str, Any]


def main(deployments: int, rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="arcadia-bench-usage-") as folder, month_end.running() as server:
        figures = _months(server, deployments, Path(folder)) | _counting(rows, Path(folder))
    for name, most in TARGETS.items():
        print(f"{name:<24} {figures[name]:>10.3f} {most:>10} {'yes' if figures[name] <= most else 'no'}")
    print(json.dumps(figures))


def _months(server: month_end.Server, deployments: int, folder: Path) -> Figures:
    """The month end from the table, and from each source."""
    month_end.load(server, "one_tenant", 1)
    month_end.load(server, "made", deployments)
    with database.snapshot(database.engine(server.url("made"))) as connection:
        loaders.write(counts.records(connection, MONTH), MONTH, f"parquet:{folder}/usage")
    took = {"table": _month(server, {})}
    standing = _invoices(server)
    with _sources(folder) as each:
        for name, variables in each.items():
            took[name] = _month(server, variables)
            if _invoices(server) != standing:
                raise month_end.Disagreement(f"the month from {name} is another month")
            frozen_s, month_s = took[name]["stages"]["metered_usage"], took[name]["seconds"]
            print(f"{name:<10} frozen in {frozen_s:.2f} s, month end {month_s:.2f} s")
    table, parquet = took["table"], took["parquet"]
    return {
        "deployments": deployments,
        "months": took,
        "ratio_frozen": parquet["stages"]["metered_usage"] / table["stages"]["metered_usage"],
        "saved_s": table["seconds"] - parquet["seconds"],
    }


@contextmanager
def _sources(folder: Path) -> Iterator[dict[str, dict[str, str]]]:
    """The environment for each source of the records in usage/*.parquet."""
    catalogue = {
        "PYICEBERG_CATALOG__LAKE__TYPE": "sql",
        "PYICEBERG_CATALOG__LAKE__URI": f"sqlite:///{folder}/catalogue.db",
        "PYICEBERG_CATALOG__LAKE__WAREHOUSE": f"file://{folder}/lake",
    }
    lake = load_catalog("lake", **{name.rsplit("__", 1)[1].lower(): value for name, value in catalogue.items()})
    lake.create_namespace("metering")
    files = sorted((folder / "usage").glob("*.parquet"))
    table = lake.create_table("metering.usage_records", pq.read_schema(files[0]))
    table.add_files([str(file) for file in files])
    with sail() as (port, _):
        yield {
            "parquet": {"ARCADIA_USAGE_URL": f"parquet:{folder}/usage"},
            "iceberg": {"ARCADIA_USAGE_URL": "iceberg:lake/metering.usage_records", **catalogue},
            "sail": {"ARCADIA_USAGE_URL": f"sc://127.0.0.1:{port}?table=parquet.`{folder}/usage`"},
        }


def _month(server: month_end.Server, variables: dict[str, str]) -> Figures:
    """The quickest month end with these variables, on a new copy of the database each time."""
    os.environ |= variables
    runs = [
        month_end.child("run", server.copy("warm", of="one_tenant"), server.copy("month", of="made"))
        for _ in range(REPEATS)
    ]
    for name in variables:
        del os.environ[name]
    return min(runs, key=lambda figures: float(figures["stages"]["metered_usage"]))


def _invoices(server: month_end.Server) -> Any:
    with psycopg.connect(server.url("month")) as connection:
        query = "select count(*), md5(string_agg(content_sha256, ' ' order by tenant_id)) from billing.tenant_invoices"
        return connection.execute(query).fetchone()


def _counting(rows: int, folder: Path) -> Figures:
    """Counting alone, of all and of half of the records."""
    meters = [(f"{number:08x}-0000-4000-8000-000000000000", kind) for number in range(100_000) for kind in "abc"]
    figures: Figures = {"rows": rows}
    for name, count in (("half", rows // 2), ("rows", rows)):
        to = f"parquet:{folder}/{name}"
        loaders.write(loaders.made_up(count, MONTH, meters), MONTH, to)
        took = [_child(to) for _ in range(REPEATS)]
        best = min(took, key=lambda one: float(one["counted_s"]))
        figures |= {f"{name}_{what}": value for what, value in best.items()}
        figures[f"{name}_peak_mib"] = max(float(one["peak_mib"]) for one in took)
        print(f"{count:,} rows: counted in {best['counted_s']:.1f} s, duplicates looked for in {best['ids_s']:.1f} s")
        shutil.rmtree(folder / name)
    return {**figures, "growth_of_memory": figures["rows_peak_mib"] / figures["half_peak_mib"]}


def _child(url: str) -> Figures:
    done = subprocess.run([sys.executable, __file__, "--child", url], stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def _count(url: str) -> Figures:
    """The two questions that are asked of a month's records: their sums, and whether an id is there twice."""
    source, spans, now = sources.source(url), SPANS.empty_table(), dt.datetime.now(dt.UTC)
    started = time.perf_counter()
    found = source.count(MONTH, spans, now)
    counted = time.perf_counter()
    source.copies(MONTH, spans, found)
    ended = time.perf_counter()
    figures = {"groups": len(found.rows), "counted_s": counted - started, "ids_s": ended - counted}
    return figures | {"peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """The most memory that this process had. getrusage() would say its parent's, if that had more: Linux keeps it."""
    [kib] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 2**10


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_count(sys.argv[2])))
    else:
        main(int((sys.argv[1:] or ["100000"])[0]), int((sys.argv[2:] or ["100000000"])[0]))
