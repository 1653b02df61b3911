"""Usage in a table of a Spark Connect server, which counts it: Spark, Databricks, Sail.

The server may have no snapshots: what was counted is what had been ingested until the cut-off.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.usage import expressions
from arcadia_pipelines.usage.contract import INSTANT, TEXT, UsageSourceError


@contextmanager
def _main_module_has_a_file() -> Iterator[None]:
    """At its import, PySpark takes a program whose main module has no file for a run of its own doctests, and ends it.

    Not for longer: the processes that this one starts would look for their main module in that file.
    """
    main = vars(sys.modules["__main__"])
    if "__file__" in main:
        yield
        return
    main["__file__"] = ""
    try:
        yield
    finally:
        del main["__file__"]


with _main_module_has_a_file(), warnings.catch_warnings():
    # PySpark warns that it has not been tried with every function of pandas 3.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

Pin = dict[str, Any]
_WORDS = {
    "string": TEXT,
    "timestamp": INSTANT,
    "timestamp_ntz": "timestamp without a time zone",
    "double": "floating point",
    "float": "floating point",
}
_RETRIES = 4
"""Of a call that the server did not answer: some four seconds. Its own default is ten minutes."""
_SETTINGS = {"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true"}
"""In UTC; and a sum that overflows is an error."""


def source(url: str) -> tuple[str, Callable[[Pin | None], AbstractContextManager["SparkTable"]]]:
    """The name and the opener of a URL like sc://host:15002?table=metering.usage_records; parameters like ;token=.

    The table is usage_records unless named; it may also be files, as Spark names them: parquet.`/data/usage`. The name
    leaves the parameters out, which may be secret.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageSourceError("ARCADIA_USAGE_URL names no server: write it like sc://HOST:15002?table=NAME")
    [table] = parse_qs(parts.query).get("table", ["usage_records"])[:1]
    name = f"sc://{parts.hostname}:{parts.port or 15002}?table={table}"
    return name, partial(_opened, name, url.partition("?")[0], table)


@dataclass(frozen=True)
class SparkTable:
    """A table as it is now."""

    pin: Pin
    _session: SparkSession
    is_pinned: bool = False
    dialect: str = "pyspark"

    def types(self) -> Mapping[str, str]:
        """The columns' types."""
        fields = self._session.table(expressions.RECORDS).schema.fields
        types = {field.name: field.dataType.simpleString() for field in fields}
        return {name: _WORDS.get(type_, type_.replace(",", ", ")) for name, type_ in types.items()}

    def give(self, name: str, rows: pa.Table) -> None:
        """The rows, sent to the server."""
        self._session.createDataFrame(rows).createOrReplaceTempView(name)

    def run(self, sql: str, month: BillingMonth) -> pa.Table:
        """What the SQL selects of all records: the server leaves out what it need not read."""
        return self._session.sql(sql).toArrow()

    def has_changed(self) -> str | None:
        """Nothing is known of that; records that were ingested until the cut-off do not change."""
        return None

    def added_since(self, pin: Pin) -> None:
        """Nothing is known of that."""


@contextmanager
def _opened(name: str, remote: str, table: str, pin: Pin | None) -> Iterator[SparkTable]:
    session = SparkSession.builder.remote(remote).create()
    session.client.set_retry_policies([DefaultPolicy(max_retries=_RETRIES)])
    try:
        for key, value in _SETTINGS.items():
            session.conf.set(key, value)
            if (has := session.conf.get(key)) != value:
                raise UsageSourceError(f"{name} keeps {key} at {has}, and must have {value}: usage is counted in UTC")
        session.table(table).createOrReplaceTempView(expressions.RECORDS)
        yield SparkTable(pin or {"source": name}, session)
    finally:
        session.stop()
