"""Usage in a table of ClickHouse, which counts it.

A table has no snapshots: what was counted is what had been ingested until the cut-off.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.usage import expressions
from arcadia_pipelines.usage.contract import INSTANT, TEXT, UsageSourceError

Pin = dict[str, Any]
_SETTINGS = {"session_timezone": "UTC", "join_use_nulls": 1}
"""In UTC; and what a join does not find is null, not ''."""
_ZONE = "select timezone()"
_WORDS = {"String": TEXT, "DateTime64(6, 'UTC')": INSTANT, "Float64": "floating point", "Float32": "floating point"}
_TYPES = {pa.string(): "Nullable(String)", pa.timestamp("us", "UTC"): "DateTime64(6, 'UTC')"}
_WRAPPERS = ("Nullable(", "LowCardinality(")


def source(url: str) -> tuple[str, Callable[[Pin | None], AbstractContextManager["ClickHouseTable"]]]:
    """The name and the opener of a URL like clickhouse://user:password@host:8443/database?table=NAME&secure=true.

    The table is usage_records unless named. The name leaves user and password out.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageSourceError("ARCADIA_USAGE_URL names no server: write it like clickhouse://HOST/DATABASE?table=NAME")
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    table, database = options.get("table", "usage_records"), parts.path.strip("/") or "default"
    arguments = {
        "host": parts.hostname,
        "port": parts.port,
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": database,
        "secure": options.get("secure", "false") == "true",
        "interface": options.get("interface"),
    }
    name = f"clickhouse://{parts.hostname}{f':{parts.port}' if parts.port else ''}/{database}?table={table}"
    return name, partial(_opened, name, arguments, table)


@dataclass(frozen=True)
class ClickHouseTable:
    """A table as it is now."""

    pin: Pin
    _client: Client
    _table: str
    is_pinned: bool = False
    dialect: str = "clickhouse"

    def types(self) -> Mapping[str, str]:
        """The columns' types."""
        described = self._client.query(f"describe table {self._table}").result_rows
        return {row[0]: _word_for(row[1]) for row in described}

    def give(self, name: str, rows: pa.Table) -> None:
        """The rows in a temporary table, which lasts as long as the session."""
        columns = ", ".join(f"{field.name} {_TYPES[field.type]}" for field in rows.schema)
        self._client.command(f"create or replace temporary table {name} ({columns}) engine = Memory")
        self._client.insert_arrow(name, rows)

    def run(self, sql: str, month: BillingMonth) -> pa.Table:
        """What the SQL selects of all records: the server leaves out what it need not read."""
        return self._client.query_arrow(sql.replace(expressions.RECORDS, self._table), use_strings=True)

    def has_changed(self) -> str | None:
        """Nothing is known of that; records that were ingested until the cut-off do not change."""
        return None

    def added_since(self, pin: Pin) -> None:
        """Nothing is known of that."""


@contextmanager
def _opened(name: str, arguments: Mapping[str, Any], table: str, pin: Pin | None) -> Iterator[ClickHouseTable]:
    client = clickhouse_connect.get_client(**arguments, settings=_SETTINGS)
    try:
        if (zone := client.command(_ZONE)) != "UTC":
            raise UsageSourceError(
                f"{name} counts in the zone {zone}, and must count in UTC: let its user set settings"
            )
        yield ClickHouseTable(pin or {"source": name}, client, table)
    finally:
        client.close()


def _word_for(type_: str) -> str:
    for wrapper in _WRAPPERS:
        if type_.startswith(wrapper):
            return _word_for(type_.removeprefix(wrapper).removesuffix(")"))
    if type_.startswith("DateTime64(6"):
        return _WORDS.get(type_, "timestamp without a time zone or of another one")
    return _WORDS.get(type_, type_.replace("Decimal", "decimal"))
