"""A usage source: the one that ARCADIA_USAGE_URL names, and what all of them can be asked.

Belongs here: which engine a URL is for, and what it is asked. Does not: how an engine is reached, and what it says that
it counted (parquet.py and its siblings); what becomes of its counts (answers.py).
"""

import datetime as dt
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.usage.answers import as_counts, with_copies
from arcadia_pipelines.usage.contract import RECORDS, SECOND_COUNT, SPANS, UsageSourceError, misfits

Pin = dict[str, Any]
"""What was counted, as JSON: `source`, the source's name, and what the engine knows: `files`, or a `snapshot`."""

_MODULES = {"parquet": "parquet", "iceberg": "iceberg", "sc": "spark", "clickhouse": "clickhouse"}
_SHOWN = 3
_MOST_COPIES = 10_000
_MOST_SORTED = 20_000_000
"""So many hashes are sorted here, in half of DuckDB's time and 320 MB; more are grouped by the engine."""
_MOST_ADDED = 2_000_000
"""If more records were added, all are counted."""


class Engine(Protocol):
    """An open connection to what holds the usage, at what a pin says, or else as it is now."""

    dialect: str
    """The SQL that it understands, by Ibis's name."""
    pin: Pin
    """What is counted here."""
    is_pinned: bool
    """Whether the pin says it all; if not, only records ingested up to a cut-off are the same again."""

    def types(self) -> Mapping[str, str]:
        """The columns' types, in the words of contract.COLUMNS where they are those."""

    def give(self, name: str, rows: pa.Table) -> None:
        """Let the engine find a few rows of ours under a name."""

    def run(self, sql: str, month: BillingMonth) -> pa.Table:
        """What the SQL selects of the records (expressions.RECORDS) of the month, its neighbours, and of no time."""

    def has_changed(self) -> str | None:
        """What is no longer as it was when this was opened or pinned, in words; None if all of it is."""

    def added_since(self, pin: Pin) -> "Engine | None":
        """Only what was added since the pin; None if it cannot be told, or if that is not all that has changed."""


@dataclass(frozen=True)
class Counts:
    """What a source counted of a month, as COUNTS, what it says that it counted, and up to which cut-off, if any."""

    rows: pa.Table
    pin: Pin
    until: dt.datetime | None


@dataclass(frozen=True)
class Added:
    """What a source counted of a month since a pin; both as COUNTS."""

    rows: pa.Table
    """Of the records that were added."""
    whole: pa.Table
    """Of all records of the deployments that were asked for."""
    records: int
    """How many records the month has now,"""
    quantity: Decimal | None
    """and their quantity."""
    pin: Pin


@dataclass(frozen=True)
class Trial:
    """What a count found: records, meters (deployments, kinds and subscriptions), and records that cannot be billed."""

    records: int
    meters: int
    unusable: int
    copies: int


@dataclass(frozen=True)
class Source:
    """A usage source by its URL. Each method opens it anew, and raises UsageSourceError."""

    name: str
    """The URL without what is secret in it."""
    _open: Callable[[Pin | None], AbstractContextManager[Engine]]

    def count(self, month: BillingMonth, spans: pa.Table, cutoff: dt.datetime) -> Counts:
        """Count the month's records, up to the cut-off where the source cannot say what else it counted.

        `spans` are as SPANS: where a deployment's months are of several subscriptions. Which records are copies is
        another question, as long: copies().
        """
        with self.opened(None) as engine:
            return self._count(engine, _asked(engine, month, cutoff), spans)

    def count_received(self, month: BillingMonth, spans: pa.Table, cutoff: dt.datetime, pin: Pin) -> Counts:
        """Count as count() did what the pin says; if that has changed since, what there is now up to the cut-off."""
        with self._opened_again(month, cutoff, pin) as (engine, asked, _):
            return self._count(engine, asked, spans)

    def _count(self, engine: Engine, asked: Any, spans: pa.Table) -> Counts:
        _refuse(self.name, misfits(engine.types()))
        _refuse_timeless(self.name, engine, asked)
        rows = _counted(engine, asked, spans)
        _refuse_changes(self.name, engine, asked.month)
        return Counts(as_counts(self.name, asked.month, rows), engine.pin, asked.cutoff)

    def copies(self, month: BillingMonth, spans: pa.Table, counted: Counts) -> pa.Table | None:
        """Of what was counted, the records whose record_id stands there more than once, as COUNTS; None if none."""
        with self.opened(counted.pin) as engine:
            asked, copies = _expressions().Asked(engine.dialect, month, counted.until), None
            if ids := _copied_ids(self.name, engine, asked):
                engine.give(_expressions().IDS, pa.table({"wanted_id": pa.array(ids, pa.string())}))
                copies = as_counts(self.name, month, _counted(engine, asked, spans, _expressions().IDS))
            _refuse_changes(self.name, engine, month)
            return copies

    def count_added(self, month: BillingMonth, spans: pa.Table, pin: Pin, wholly: Sequence[str]) -> Added | None:
        """Count the month's records that were added since the pin, and all records of some deployments.

        None if only count() can tell: the source does not know what was added, more has changed than that, or so much
        was added, or something that has to be looked at beside what was there: a record without a quantity, or a copy.
        """
        with self.opened(None) as engine:
            added = engine.added_since(pin)
            if added is None:
                return None
            _refuse(self.name, misfits(added.types()))
            asked = _expressions().Asked(engine.dialect, month, None)
            _refuse_timeless(self.name, added, asked)
            rows = _counted(added, asked, spans)
            if pc.sum(rows["known"]).as_py() != pc.sum(rows["record_count"]).as_py():
                return None
            if _has_copies(engine, added, asked):
                return None
            whole = rows.slice(0, 0)
            if wholly:
                engine.give(_expressions().DEPLOYMENTS, pa.table({"wanted_deployment": pa.array(wholly, pa.string())}))
                whole = _counted(engine, asked, spans, _expressions().DEPLOYMENTS)
            [totals] = engine.run(asked.totals(), month).to_pylist()
            _refuse_changes(self.name, engine, month)
            return Added(
                as_counts(self.name, month, rows),
                as_counts(self.name, month, whole),
                totals["records"],
                totals["quantity"],
                engine.pin,
            )

    def count_again(self, month: BillingMonth, cutoff: dt.datetime, pin: Pin) -> tuple[pa.Table, str | None]:
        """Count what the pin says a second way, as SECOND_COUNT.

        And what of it has changed or vanished since, in words: then what there is now is counted, up to the cut-off.
        """
        with self._opened_again(month, cutoff, pin) as (engine, asked, changed):
            return engine.run(asked.second_count(), month).select(SECOND_COUNT.names).cast(SECOND_COUNT), changed

    def records_of(self, month: BillingMonth, deployments: Sequence[str]) -> pa.Table:
        """The records of some deployments in the month, as RECORDS."""
        with self.opened(None) as engine:
            return _records_of(engine, month, deployments)

    def counted_ids(self, month: BillingMonth, deployments: Sequence[str], pin: Pin) -> set[str] | None:
        """The record_ids of those that the pin says were counted; None if that cannot be told, or no longer."""
        with self.opened(pin) as engine:
            if not engine.is_pinned or engine.has_changed():
                return None
            return set(_records_of(engine, month, deployments)["record_id"].to_pylist())

    def check(self, month: BillingMonth, spans: pa.Table) -> Trial:
        """Count the month as count() does, up to now, and its copies, and sum up what was found."""
        now = dt.datetime.now(dt.UTC)
        found = self.count(month, spans, now)
        rows = with_copies(found.rows, self.copies(month, spans, found))
        sums = {name: pc.sum(rows[f"{name}_records"]).as_py() or 0 for name in ("unusable", "duplicate")}
        records = pc.sum(rows["record_count"]).as_py() or 0
        return Trial(records, len(rows), sums["unusable"], sums["duplicate"])

    def is_as_it_was(self, pin: Pin) -> bool:
        """Whether there is nothing newer than what the pin says, as far as the source can tell without counting."""
        with self.opened(None) as engine:
            return engine.is_pinned and engine.pin == pin

    @contextmanager
    def _opened_again(
        self, month: BillingMonth, cutoff: dt.datetime, pin: Pin
    ) -> Iterator[tuple[Engine, Any, str | None]]:
        """The engine at the pin, and what to ask; if that has changed, as it is now, and what has changed, in words."""
        with self.opened(pin) as engine:
            changed = engine.has_changed()
            if changed is None:
                yield engine, _asked(engine, month, cutoff), None
                return
        with self.opened(None) as engine:
            yield engine, _expressions().Asked(engine.dialect, month, cutoff), changed

    @contextmanager
    def opened(self, pin: Pin | None) -> Iterator[Engine]:
        """The engine. Whatever a driver raises becomes one line: there are as many kinds of error as engines."""
        try:
            with self._open(pin) as engine:
                yield engine
        except ArcadiaError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise UsageSourceError(f"{self.name} could not be read: {said}. Nothing was frozen") from error


def source(url: str) -> Source:
    """The source of a URL like parquet:/data/usage. Raises UsageSourceError if it is of no known kind."""
    scheme, separator, _ = url.partition(":")
    if not separator or scheme not in _MODULES:
        kinds = "parquet:FOLDER, iceberg:CATALOG/NAMESPACE.TABLE, sc://HOST:PORT or clickhouse://HOST"
        raise UsageSourceError(f"ARCADIA_USAGE_URL is of no known kind: write {kinds}, or leave it out")
    try:
        module = importlib.import_module(f"arcadia_pipelines.usage.{_MODULES[scheme]}")
    except ImportError as error:
        extra = {"sc": "spark"}.get(scheme, scheme)
        raise UsageSourceError(
            f"usage by {scheme}: needs a package that is not installed ({error.name}): run pip install"
            f" 'arcadia-pipelines[{extra}]'"
        ) from error
    try:
        name, opened = module.source(url)
    except ValueError as error:  # which shows a part of the password, if its characters are taken for a port
        raise UsageSourceError(
            "ARCADIA_USAGE_URL is no address: its host or its port cannot be read. In a password, / is written as %2F"
        ) from error
    return Source(name, opened)


def refuse_another(source: Source | None, pin: Pin, month: BillingMonth) -> Source:
    """The source, if the month was counted from it. Raises UsageSourceError."""
    if source is None or source.name != pin["source"]:
        named = source.name if source else "cloud.usage_records"
        raise UsageSourceError(
            f"{month} was counted from {pin['source']}, and ARCADIA_USAGE_URL names {named}: let it name the other"
        )
    return source


def configured() -> Source | None:
    """The source that the environment names; None if usage is in cloud.usage_records. Raises UsageSourceError."""
    url = Settings.from_environment().usage_url
    return source(url) if url else None


def _expressions() -> Any:
    return importlib.import_module("arcadia_pipelines.usage.expressions")


def _refuse(name: str, faults: Sequence[str]) -> None:
    if faults:
        raise UsageSourceError(f"{name} does not fit the contract (docs/usage.md): {'; '.join(faults)}")


def _asked(engine: Engine, month: BillingMonth, cutoff: dt.datetime) -> Any:
    return _expressions().Asked(engine.dialect, month, None if engine.is_pinned else cutoff)


def _records_of(engine: Engine, month: BillingMonth, deployments: Sequence[str]) -> pa.Table:
    asked = _expressions().Asked(engine.dialect, month, None)
    return engine.run(asked.records_of(deployments), month).select(RECORDS.names).cast(RECORDS)


def _counted(engine: Engine, asked: Any, spans: pa.Table, among: str | None = None) -> pa.Table:
    if len(spans):  # not every engine takes a table without rows
        engine.give(_expressions().SPANS, spans.cast(SPANS))
    return engine.run(asked.counted(len(spans) > 0, among), asked.month)


def _refuse_timeless(name: str, engine: Engine, asked: Any) -> None:
    [records] = engine.run(asked.timeless(), asked.month)["records"].to_pylist()
    if records:
        raise UsageSourceError(
            f"{name} has records without a recorded_at: {records}. Which month they are of cannot be told: complete or"
            " remove them"
        )


def _refuse_changes(name: str, engine: Engine, month: BillingMonth) -> None:
    if changed := engine.has_changed():
        raise UsageSourceError(f"{name} changed while {month} was counted ({changed}): materialise the month again")


def _has_copies(engine: Engine, added: Engine, asked: Any) -> bool:
    """Whether a record that was added has no record_id, or one that stands elsewhere too; or if they are too many."""
    [identity] = added.run(asked.identity(hashed=False), asked.month).to_pylist()
    if not identity["records"]:
        return False
    if identity["records"] > _MOST_ADDED or identity["ids"] < identity["records"]:
        return True
    engine.give(_expressions().IDS, added.run(asked.ids(), asked.month))
    return len(engine.run(asked.copies(1, among_ids=True), asked.month)) > 0


def _copied_ids(name: str, engine: Engine, asked: Any) -> list[str]:
    """The record_ids that stand there more than once. Raises UsageSourceError if they are too many, or one is null."""
    month = asked.month
    if _all_differ(engine, asked):
        return []
    found: list[str] = engine.run(asked.copies(_MOST_COPIES), month)["record_id"].to_pylist()
    if None in found:
        raise UsageSourceError(f"{name} has records of {month} or beside it without a record_id: complete them")
    if len(found) == _MOST_COPIES:
        shown = ", ".join(sorted(found)[:_SHOWN])
        raise UsageSourceError(
            f"{name} has at least {_MOST_COPIES:,} record_ids of {month} or beside it more than once, as {shown}:"
            " remove the copies"
        )
    return found


def _all_differ(engine: Engine, asked: Any) -> bool:
    """Whether each record of the month and its neighbours has a record_id of its own; if not, perhaps so all the same.

    As many different hashes as records are as many different ids.
    """
    is_here = engine.dialect == _expressions().IN_THIS_PROCESS
    if is_here and engine.run(asked.near(), asked.month)["records"][0].as_py() <= _MOST_SORTED:
        hashes = engine.run(asked.hashes(), asked.month)["one"]
        ordered = np.sort(hashes.drop_null().to_numpy())
        return not hashes.null_count and bool((ordered[1:] != ordered[:-1]).all())
    hashed = engine.dialect in _expressions().WITH_WIDE_HASHES
    [identity] = engine.run(asked.identity(hashed), asked.month).to_pylist()
    return bool((identity["records"] or 0) == (identity["named"] or 0) == identity["ids"])
