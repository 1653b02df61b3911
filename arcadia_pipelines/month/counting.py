"""A month's usage, counted where it lies: in cloud.usage_records, or by the source that ARCADIA_USAGE_URL names."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.engine import Connection

from arcadia_pipelines.again import newer, scope
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import counts, usage, usage_records
from arcadia_pipelines.storage.usage_records import Counted
from arcadia_pipelines.usage.answers import with_copies
from arcadia_pipelines.usage.sources import Pin, Source, refuse_another


def count(
    connection: Connection, month: BillingMonth, source: Source | None, cutoff: dt.datetime
) -> tuple[Counted, Pin | None]:
    """Count the month's usage as it is now, and say what was counted (None: the table). Raises UsageSourceError."""
    if source is None:
        return usage_records.count(connection, month), None
    return _take(connection, month, source, cutoff)


def add(connection: Connection, month: BillingMonth, source: Source) -> newer.Added | None:
    """Add to the month's frozen usage what its source has received since, if that can tell.

    Returns None, and writes nothing, if all usage has to be counted. Raises UsageSourceError and UsageVanished.
    """
    pin = counts.pin(connection, month)
    if pin is None or pin["source"] != source.name or not usage.is_frozen(connection, month):
        return None
    if not scope.is_frozen_as_left(connection, month) or counts.has_copies(connection, month):
        return None
    wholly = counts.recounted(connection, month, newer.MOST_SUSPECTS)
    if len(wholly) == newer.MOST_SUSPECTS:
        return None
    found = source.count_added(month, counts.spans(connection, month), pin, wholly)
    if found is None:
        return None
    attempt = connection.begin_nested()
    replaced = counts.add(connection, month, found.rows, found.whole, wholly)
    if counts.totals(connection, month) != (found.records, found.quantity or 0):
        attempt.rollback()
        return None
    attempt.commit()
    return newer.Added(replaced, found.pin)


def count_received(connection: Connection, month: BillingMonth, source: Source | None, cutoff: dt.datetime) -> Counted:
    """Count what the month's frozen usage was counted from, up to the cut-off. Raises UsageSourceError."""
    pin = counts.pin(connection, month)
    if pin is None:
        return usage_records.count_received(connection, month, cutoff)
    counted, _ = _take(connection, month, refuse_another(source, pin, month), cutoff, pin)
    return counted


def _take(
    connection: Connection, month: BillingMonth, source: Source, cutoff: dt.datetime, pin: Pin | None = None
) -> tuple[Counted, Pin]:
    """Have the source count; it looks for copies of records while PostgreSQL takes what was counted."""
    spans = counts.spans(connection, month)
    found = source.count_received(month, spans, cutoff, pin) if pin else source.count(month, spans, cutoff)
    with ThreadPoolExecutor(1, "usage") as beside:
        looking = beside.submit(source.copies, month, spans, found)
        counted = counts.take(connection, month, found.rows)
    if (copies := looking.result()) is not None:
        counted = counts.take(connection, month, with_copies(found.rows, copies))
    return counted, found.pin
