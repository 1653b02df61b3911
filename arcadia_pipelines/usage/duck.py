"""DuckDB in this process: what counts Parquet files and Iceberg tables."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

DIALECT = "duckdb"
_MEMORY = "700MB"
"""What DuckDB may keep in memory; the rest goes to a folder that is removed afterwards."""


@contextmanager
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, in UTC, whose memory does not grow with the number of records."""
    with tempfile.TemporaryDirectory(prefix="arcadia-usage-") as folder, duckdb.connect() as connected:
        for name, value in {"memory_limit": _MEMORY, "temp_directory": folder, "TimeZone": "UTC"}.items():
            connected.execute(f"set {name} = '{value}'")
        connected.execute("set preserve_insertion_order = false")
        yield connected
