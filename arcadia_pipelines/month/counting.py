"""A month's usage, counted where it lies: in cloud.usage_records, or by the source that ARCADIA_USAGE_URL names."""

import datetime as dt

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import counts, usage
from arcadia_pipelines.storage.usage import Counted
from arcadia_pipelines.usage.sources import Pin, Source


def count(
    connection: Connection, month: BillingMonth, source: Source | None, cutoff: dt.datetime
) -> tuple[Counted, Pin | None]:
    """Count the month's usage as it is now, and say what was counted (None: the table). Raises UsageSourceError."""
    if source is None:
        return usage.count(connection, month), None
    found = source.count(month, counts.spans(connection, month), cutoff)
    return counts.take(connection, month, found.rows), found.pin


def count_received(connection: Connection, month: BillingMonth, source: Source | None, cutoff: dt.datetime) -> Counted:
    """Count what the month's frozen usage was counted from, up to the cut-off. Raises UsageSourceError."""
    pin = counts.pin(connection, month)
    if source is None or pin is None:
        return usage.count_received(connection, month, cutoff)
    found = source.count(month, counts.spans(connection, month), cutoff, pin)
    return counts.take(connection, month, found.rows)
