"""Usage in an Iceberg table, read by PyIceberg at one snapshot and counted by DuckDB in this process.

The catalogue is configured as PyIceberg's are: PYICEBERG_CATALOG__NAME__URI, or .pyiceberg.yaml.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.table import DataScan, IncrementalAppendScan, Table
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of
from pyiceberg.utils.config import Config

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.usage import duck, expressions
from arcadia_pipelines.usage.contract import RECORDS, UsageSourceError, types_of

Pin = dict[str, Any]


def source(url: str) -> tuple[str, Callable[[Pin | None], AbstractContextManager["IcebergTable"]]]:
    """The name and the opener of a URL like iceberg:lake/metering.usage_records: catalogue, namespace and table."""
    catalogue, slash, table = url.removeprefix("iceberg:").partition("/")
    if not (catalogue and slash and "." in table):
        raise UsageSourceError("ARCADIA_USAGE_URL names no table: write it like iceberg:CATALOG/NAMESPACE.TABLE")
    return url, partial(_opened, url, catalogue, table)


@dataclass(frozen=True)
class IcebergTable:
    """A table at one of its snapshots."""

    pin: Pin
    _duck: duckdb.DuckDBPyConnection
    _table: Table
    _since: int | None = None
    """Only what was appended since this snapshot."""
    is_pinned: bool = True
    dialect: str = duck.DIALECT

    def types(self) -> Mapping[str, str]:
        """The columns' types at the snapshot."""
        snapshot = self._table.snapshot_by_id(self.pin["snapshot"])
        schema = self._table.schemas()[snapshot.schema_id] if snapshot and snapshot.schema_id is not None else None
        return types_of((schema or self._table.schema()).as_arrow())

    def give(self, name: str, rows: pa.Table) -> None:
        """The rows, in this process's memory."""
        self._duck.register(name, rows)

    def run(self, sql: str, month: BillingMonth) -> pa.Table:
        """What the SQL selects of the records, whose columns that it names are read from the lake for each question."""
        self._duck.register(expressions.RECORDS, self._read(tuple(n for n in RECORDS.names if f'"{n}"' in sql), month))
        return self._duck.sql(sql).to_arrow_table()

    def _read(self, columns: tuple[str, ...], month: BillingMonth) -> pa.RecordBatchReader | pa.Table:
        if self._since == self.pin["snapshot"]:
            return RECORDS.empty_table()
        scan: DataScan | IncrementalAppendScan
        if self._since is None:
            scan = self._table.scan(snapshot_id=self.pin["snapshot"])
        else:
            scan = self._table.incremental_append_scan(
                from_snapshot_id_exclusive=self._since, to_snapshot_id_inclusive=self.pin["snapshot"]
            )
        return _one_file_after_the_other(scan.filter(_around(month)).select(*columns))

    def has_changed(self) -> str | None:
        """Whether the snapshot has expired; while it is there, it does not change."""
        is_there = self._table.refresh().snapshot_by_id(self.pin["snapshot"]) is not None
        return None if is_there else f"snapshot {self.pin['snapshot']} has expired"

    def added_since(self, pin: Pin) -> "IcebergTable | None":
        """What was appended since the snapshot; None if that has expired, or anything was not an append."""
        between: list[Snapshot] = []
        for snapshot in ancestors_of(self._table.snapshot_by_id(self.pin["snapshot"]), self._table.metadata):
            if snapshot.snapshot_id == pin["snapshot"]:
                appended = all(s.summary and s.summary.operation is Operation.APPEND for s in between)
                return replace(self, _since=pin["snapshot"]) if appended else None
            between.append(snapshot)
        return None


def _one_file_after_the_other(scan: DataScan | IncrementalAppendScan) -> pa.RecordBatchReader:
    """What the scan selects. PyIceberg's own reader reads all files at once, and keeps those that have to wait."""
    columns = scan.projection()
    files = ArrowScan(scan.table_metadata, scan.io, columns, scan.row_filter)
    schema = schema_to_pyarrow(columns)
    batches = chain.from_iterable(files.to_record_batches([file]) for file in scan.plan_files())
    return pa.RecordBatchReader.from_batches(schema, batches).cast(schema)


@contextmanager
def _opened(url: str, catalogue: str, name: str, pin: Pin | None) -> Iterator[IcebergTable]:
    configured: Any = Config().get_catalog_config(catalogue) or {}  # as it is now, and not when PyIceberg was imported
    table = load_catalog(catalogue, **configured).load_table(name)
    newest = table.current_snapshot()
    if newest is None:  # else a month of no usage at all would be invoiced
        raise UsageSourceError(f"{url} has no snapshot: nothing was ever written to it")
    with duck.connection() as connection:
        yield IcebergTable(pin or {"source": url, "snapshot": newest.snapshot_id}, connection, table)


def _around(month: BillingMonth) -> str:
    start, end = (f"{day}T00:00:00+00:00" for day in (month.before.start, BillingMonth(month.end).end))
    return f"recorded_at >= '{start}' and recorded_at < '{end}' or recorded_at is null"
