"""Usage that was counted outside PostgreSQL, on its way into the month's frozen usage, and what it was counted from.

Belongs here: whose part of a month a source has to tell apart, its counts as the month's count, what a test's files are
made of. Does not: usage in cloud.usage_records (usage_records.py), freezing (usage.py), asking a source (the room
usage/).
"""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import COUNT, QUANTITY_SUM, TEXT, to_pandas
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk, streams
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, bounds
from arcadia_pipelines.storage.usage import RECOUNTED, Replaced, replace_part
from arcadia_pipelines.storage.usage_records import LAST_SUBSCRIPTIONS, PART_MONTHS, SPANS, USABLE, Counted

_MICROSECONDS = "(extract(epoch from {0}) * 1000000)::bigint"
_PART_SPANS = f"""
    select subscription_id, deployment_id as of_deployment,
           {_MICROSECONDS.format("greatest(started_at, %(start)s)")} as started_at,
           {_MICROSECONDS.format("least(ended_at, %(end)s)")} as ended_at
    from ({SPANS}) s where deployment_id in ({PART_MONTHS}) and started_at < ended_at
"""
_SPANS = pa.schema([("subscription_id", TEXT), ("of_deployment", TEXT), ("started_at", COUNT), ("ended_at", COUNT)])

_ROWS = pa.schema(
    [
        *((name, TEXT) for name in ("deployment_id", "resource_kind", "subscription_id")),
        ("quantity", QUANTITY_SUM),
        *((name, COUNT) for name in ("record_count", "unusable_records", "duplicate_records")),
    ]
)
_SOURCED = """
    create temporary table sourced (
        deployment_id uuid, resource_kind text, subscription_id uuid, quantity numeric, record_count bigint,
        unusable_records bigint, duplicate_records bigint
    ) on commit drop
"""
# The source has told apart whose a part month is. Of the others one subscription has all.
_COUNTED = f"""
    create temporary table counted on commit drop as
    select c.deployment_id, c.resource_kind, coalesce(c.quantity, 0)::numeric(38, 6) as quantity,
           coalesce(c.subscription_id, s.subscription_id) as subscription_id, c.record_count, c.unusable_records,
           c.duplicate_records
    from sourced c
    left join (
        select * from ({LAST_SUBSCRIPTIONS}) l
        where not exists (select from ({PART_MONTHS}) p where p.deployment_id = l.deployment_id)
    ) s using (deployment_id)
"""

_COLUMNS = """deployment_id, resource_kind, quantity, subscription_id, record_count, unusable_records,
            duplicate_records"""
_RECOUNTED = f"select deployment_id::text from ({RECOUNTED}) r where deployment_id is not null limit %(most)s"
_ADD_FROZEN = f"""
    create temporary table added on commit drop as
    select deployment_id, resource_kind, sum(quantity) as quantity, subscription_id, sum(record_count) as record_count,
           sum(unusable_records) as unusable_records, sum(duplicate_records) as duplicate_records
    from (
        select {_COLUMNS} from counted
        union all
        select {_COLUMNS} from billing.metered_usage
        where period_start = %(month)s and deployment_id = any(%(added)s::uuid[])
    ) u
    group by deployment_id, resource_kind, subscription_id
"""
_TOTALS = """
    select sum(record_count)::bigint, sum(quantity) from billing.metered_usage where period_start = %(month)s
"""

FROZEN = pa.schema([("deployment_id", TEXT), ("resource_kind", TEXT), ("records", COUNT), ("quantity", QUANTITY_SUM)])
"""One row per deployment, resource kind and subscription: its frozen usage, of how many records."""
# In arrays: row by row it takes three times as long.
_FROZEN = """
    select array_agg(deployment_id::text) as deployment_id, array_agg(resource_kind) as resource_kind,
           array_agg(record_count) as records, array_agg(quantity::text) as quantity
    from (
        select *, row_number() over () / 10000 as part from billing.metered_usage where period_start = %(month)s
    ) m
    group by part
"""

# What no file can hold is null there, which means the same: a quantity that cannot be billed, a record that was always
# here.
_RAW = f"""
    select id as record_id, deployment_id, resource_kind, case when {USABLE} then quantity end as quantity, recorded_at,
           case when isfinite(ingested_at) then ingested_at end as ingested_at
    from cloud.usage_records where recorded_at >= %(start)s and recorded_at < %(end)s
"""
RECORDS = pa.schema(
    [
        *((name, TEXT) for name in ("record_id", "deployment_id", "resource_kind")),
        ("quantity", pa.decimal128(18, 6)),
        *((name, pa.timestamp("us", "UTC")) for name in ("recorded_at", "ingested_at")),
    ]
)
"""One row per usage record, as usage sources have them."""


def records(connection: Connection, month: BillingMonth) -> Iterator[pa.RecordBatch]:
    """The month's records in cloud.usage_records, some thousand at a time, as RECORDS."""
    return streams.batches(connection, bounds(month), _RAW, RECORDS)


def meters(connection: Connection, month: BillingMonth) -> list[tuple[str, str]]:
    """The deployments and kinds that the month could have usage of: subscribed, with a rate of the plan."""
    query = f"""
        select distinct s.deployment_id::text, r.resource_kind
        from ({BILLED_SUBSCRIPTIONS}) s join cloud.plan_rates r on r.plan_id = s.plan_id
        where s.deployment_id is not null and r.effective_from <= %(month)s order by 1, 2
    """
    return [(deployment, kind) for deployment, kind in connection.exec_driver_sql(query, bounds(month))]


def spans(connection: Connection, month: BillingMonth) -> pa.Table:
    """When subscriptions had their deployments, [started_at, ended_at) within the month, where it was not all of it.

    Columns subscription_id, of_deployment (text), started_at, ended_at (microseconds, UTC).
    """
    found = bulk.read_table(connection, _PART_SPANS, _SPANS, bounds(month))
    instant = pa.timestamp("us", "UTC")
    return found.cast(pa.schema([*list(_SPANS)[:2], ("started_at", instant), ("ended_at", instant)]))


def take(connection: Connection, month: BillingMonth, rows: pa.Table) -> Counted:
    """Make a source's rows the month's count, as usage_records.count() does.

    They were counted with spans() of the same transaction.
    """
    connection.exec_driver_sql("drop table if exists pg_temp.sourced, pg_temp.counted")
    connection.exec_driver_sql(_SOURCED)
    types = bulk.types_of(connection, "pg_temp.sourced")
    bulk.copy(connection, "pg_temp.sourced", bulk.encode(to_pandas(rows.cast(_ROWS)), _ROWS, types))
    connection.exec_driver_sql(_COUNTED, bounds(month))
    return Counted()


def has_copies(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month's frozen usage has records of which there are copies."""
    query = "select exists (select from billing.metered_usage where period_start = %(month)s and duplicate_records > 0)"
    return bool(connection.exec_driver_sql(query, {"month": month.start}).scalar_one())


def recounted(connection: Connection, month: BillingMonth, most: int) -> list[str]:
    """At most so many of the deployments that usage.RECOUNTED says."""
    return list(connection.exec_driver_sql(_RECOUNTED, {**bounds(month), "most": most}).scalars())


def add(
    connection: Connection, month: BillingMonth, rows: pa.Table, whole: pa.Table, wholly: Sequence[str]
) -> Replaced:
    """Add a source's rows to the month's frozen usage; of the deployments `wholly`, its `whole` is all of their usage.

    Both were counted with spans() of the same transaction. Raises usage.UsageVanished.
    """
    new = rows.filter(pc.invert(pc.is_in(rows["deployment_id"], pa.array(wholly, pa.string()))))
    added = pc.unique(new["deployment_id"]).to_pylist()
    take(connection, month, pa.concat_tables([new, whole]))
    connection.exec_driver_sql("drop table if exists pg_temp.added")
    connection.exec_driver_sql(_ADD_FROZEN, {**bounds(month), "added": added})
    which = {"touched": [*added, *wholly]}
    return replace_part(connection, month, Counted("pg_temp.added"), "deployment_id = any(%(touched)s::uuid[])", which)


def totals(connection: Connection, month: BillingMonth) -> tuple[int, Decimal]:
    """How many records the month's frozen usage is of, and their quantity."""
    records, quantity = connection.exec_driver_sql(_TOTALS, {"month": month.start}).one()
    return records or 0, quantity or Decimal(0)


def frozen(connection: Connection, month: BillingMonth) -> pa.Table:
    """The month's frozen usage, as FROZEN."""
    parts = connection.exec_driver_sql(_FROZEN, {"month": month.start}).mappings()
    return pa.concat_tables([FROZEN.empty_table(), *(pa.table(dict(part)).cast(FROZEN) for part in parts)])


def pin(connection: Connection, month: BillingMonth) -> dict[str, Any] | None:
    """What the month's frozen usage was counted from; None if from cloud.usage_records."""
    found: dict[str, Any] | None = connection.exec_driver_sql(
        "select usage_source from billing.billing_months where period_start = %(month)s", {"month": month.start}
    ).scalar()
    return found


def record_pin(connection: Connection, month: BillingMonth, counted_from: dict[str, Any] | None) -> None:
    """Record what the month's frozen usage was counted from; nothing is written if that is on record."""
    connection.exec_driver_sql(
        "update billing.billing_months set usage_source = %(source)s::jsonb"
        " where period_start = %(month)s and usage_source is distinct from %(source)s::jsonb",
        {"month": month.start, "source": json.dumps(counted_from) if counted_from else None},
    )
