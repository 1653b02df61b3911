"""The raw usage records of a month: which of them it has, whose they are, and counting them.

Belongs here: what is asked of cloud.usage_records, and what was counted, whoever counted it. Does not: making it the
month's frozen usage (usage.py), records that came after that (late_usage.py), usage that another engine counts
(counts.py).
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import quote
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, bounds

NOBODY = "00000000-0000-0000-0000-000000000000"
"""Stands for a null id in comparisons."""

OF_THE_MONTH = "recorded_at >= %(start)s and recorded_at < %(end)s"
RECORDS = f"select * from cloud.usage_records where {OF_THE_MONTH}"
"""All raw records of a month. Takes `start` and `end`."""

# A record whose ingested_at is in the future is here all the same, and its month is over: it counts as received at the
# cut-off of the freezing that finds it. usage_ahead remembers that, as the time of its stamp will come too.
WAS_AHEAD = f"""
    exists (select from billing.usage_ahead a
            where a.period_start = %(month)s and a.record_id = coalesce(r.id, '{NOBODY}'))
"""
RECEIVED = f"""
    select r.* from cloud.usage_records r
    where {OF_THE_MONTH} and (coalesce(ingested_at, '-infinity') <= %(cutoff)s or {WAS_AHEAD})
"""
"""The raw records of a month up to its cut-off. Takes `start`, `end`, `month` and `cutoff`."""

USABLE = "(quantity > -1e12 and quantity < 1e12)"  # NaN is greater than every number; a view may show null

# Where subscriptions overlap, which is a fault, the later start wins: nothing is counted twice.
SPANS = f"""
    select id as subscription_id, deployment_id, since as started_at,
           least(coalesce(ended_at, 'infinity'),
                 lead(since) over (partition by deployment_id order by since, id)) as ended_at
    from (select *, coalesce(started_at, '-infinity') as since from ({BILLED_SUBSCRIPTIONS}) b) s
"""
"""When each subscription that a month bills had its deployment: [started_at, ended_at). Takes `start` and `end`."""

ACTIVE = "s.deployment_id = r.deployment_id and r.recorded_at >= s.started_at and r.recorded_at < s.ended_at"
"""The condition that joins a record `r` to its span `s`."""

LAST_SUBSCRIPTIONS = f"""
    select distinct on (deployment_id) deployment_id, id as subscription_id
    from ({BILLED_SUBSCRIPTIONS}) s order by deployment_id, started_at desc nulls last, id desc
"""
"""The subscription that has a deployment's usage, if none of its subscriptions begins or ends within the month."""
PART_MONTHS = f"""
    select deployment_id from ({BILLED_SUBSCRIPTIONS}) s
    where started_at > %(start)s or coalesce(ended_at, 'infinity') < %(end)s
"""

# Each process of a parallel sum sends its groups to the leader: if the leader only collects, fewer are sent.
_SENT_BY_FEWER = "set local parallel_leader_participation = off"
# Few subscriptions begin or end within a month, few records are unusable, and checking each record for that is slow:
# all records are summed first, in parallel, and what needs a second look is summed again.
_QUICKLY = f"""
    create temporary table counted on commit drop as
    select r.deployment_id, r.resource_kind, r.quantity, s.subscription_id, r.record_count,
           r.record_count - r.known as unusable_records, 0::bigint as duplicate_records
    from (
        select deployment_id, resource_kind, coalesce(sum(quantity), 0)::numeric(38, 6) as quantity,
               count(*) as record_count, count(quantity) as known
        from ({RECORDS}) r group by 1, 2
    ) r
    left join ({LAST_SUBSCRIPTIONS}) s using (deployment_id)
"""
_SECOND_LOOK = f"""
    create temporary table second_look on commit drop as
    select deployment_id from counted where quantity = 'NaN' or unusable_records > 0
    union {PART_MONTHS}
"""
_DROP_LOOKED_AT = "delete from counted c using second_look l where l.deployment_id = c.deployment_id"
_THOROUGHLY = f"""
    select r.deployment_id, r.resource_kind,
           coalesce(sum(r.quantity) filter (where {USABLE}), 0)::numeric(38, 6) as quantity, s.subscription_id,
           count(*) as record_count, count(*) filter (where {USABLE} is not true) as unusable_records,
           {{duplicate_records}} as duplicate_records
    from ({{records}}) r {{duplicates}}
    left join ({SPANS}) s on {ACTIVE}
    where {{which}}
    group by r.deployment_id, r.resource_kind, s.subscription_id
"""
# Also across the month's edges: a record with copies in two months would be billed in both. A copy is written soon
# after the original: the months before and after are searched, not the whole history.
_DUPLICATES = """
    left join (
        select id as copied_id from cloud.usage_records
        where recorded_at >= %(start)s - interval '1 month' and recorded_at < %(end)s + interval '1 month'
        group by id having count(*) > 1
    ) copies on copied_id = r.id
"""
_COPIED = "count(*) filter (where copied_id is not null or r.id is null)"
_IDS_ARE_UNIQUE = """
    select exists (
        select from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = 'cloud.usage_records'::regclass and i.indisunique and i.indisvalid and i.indnatts = 1
          and i.indpred is null and a.attname = 'id'
    )
"""
_COLUMNS_FIT = """
    select count(*) = 3 from pg_attribute
    where attrelid = 'cloud.usage_records'::regclass
      and (attname = 'quantity' and format_type(atttypid, atttypmod) = 'numeric(18,6)'
           or attname in ('deployment_id', 'resource_kind') and attnotnull)
"""


@dataclass(frozen=True)
class Counted:
    """Usage that PostgreSQL has counted into a temporary table, kept until the transaction ends or the next count.

    One row per deployment, resource kind and the subscription active when it was recorded; the columns of metered_usage
    but the month.
    """

    table: str = "pg_temp.counted"


def count(connection: Connection, month: BillingMonth) -> Counted:
    """Count the month's usage that was received until now."""
    parameters = bounds(month)
    connection.exec_driver_sql("drop table if exists pg_temp.counted, pg_temp.second_look")
    connection.exec_driver_sql(_SENT_BY_FEWER)
    if is_plain(connection):
        connection.exec_driver_sql(_QUICKLY, parameters)
        if connection.exec_driver_sql(_SECOND_LOOK, parameters).rowcount:
            connection.exec_driver_sql(_DROP_LOOKED_AT)
            thoroughly = _thoroughly("r.deployment_id in (select deployment_id from second_look)", ids_are_unique=True)
            connection.exec_driver_sql(f"insert into counted {thoroughly}", parameters)
        return Counted()
    return count_thoroughly(connection, "true", parameters)


def is_plain(connection: Connection) -> bool:
    """Whether the table enforces unique ids, quantities that fit, a deployment and a kind. A view may show anything."""
    return all(connection.exec_driver_sql(query).scalar_one() for query in (_IDS_ARE_UNIQUE, _COLUMNS_FIT))


def count_thoroughly(
    connection: Connection, which: str, parameters: Mapping[str, object], records: str = RECORDS
) -> Counted:
    """Count, with all checks, the records that `which` selects, a condition on a record `r`.

    `parameters` are those of `records` and `which`.
    """
    connection.exec_driver_sql("drop table if exists pg_temp.counted")
    ids_are_unique = connection.exec_driver_sql(_IDS_ARE_UNIQUE).scalar_one()
    thoroughly = _thoroughly(which, ids_are_unique, records)
    # CREATE TABLE AS is filled in parallel, an INSERT is not.
    connection.exec_driver_sql(f"create temporary table counted on commit drop as {thoroughly}", parameters)
    return Counted()


def count_received(connection: Connection, month: BillingMonth, cutoff: dt.datetime) -> Counted:
    """Count the month's usage that was received until the cut-off, as count() does."""
    return count_thoroughly(connection, "true", {**bounds(month), "cutoff": cutoff}, RECEIVED)


def _thoroughly(which: str, ids_are_unique: bool, records: str = RECORDS) -> str:
    return _THOROUGHLY.format(
        records=records,
        duplicates="" if ids_are_unique else _DUPLICATES,
        duplicate_records="0::bigint" if ids_are_unique else _COPIED,
        which=which,
    )


def read(connection: Connection, counted: Counted) -> pd.DataFrame:
    """What was counted, as quote.USAGE."""
    return bulk.read(connection, f"select * from {counted.table}", quote.USAGE, {})
