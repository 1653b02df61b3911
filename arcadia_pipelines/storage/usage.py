"""The month's metered usage: counted from the raw records, and frozen."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import quote
from arcadia_pipelines.billing.money import COUNT, QUANTITY_SUM, TEXT, frame, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import MonthStopped
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, PAYERS, bounds
from arcadia_pipelines.storage.months import LostRows
from arcadia_pipelines.storage.streams import Query

_NOBODY = "00000000-0000-0000-0000-000000000000"
"""Stands for a null id in comparisons."""

OF_THE_MONTH = "recorded_at >= %(start)s and recorded_at < %(end)s"
RECORDS = f"select * from cloud.usage_records where {OF_THE_MONTH}"
"""All raw records of a month. Takes `start` and `end`."""

# A record whose ingested_at is in the future is here all the same, and its month is over: it counts as received at the
# cut-off of the freezing that finds it. usage_ahead remembers that, as the time of its stamp will come too.
WAS_AHEAD = f"""
    exists (select from billing.usage_ahead a
            where a.period_start = %(month)s and a.record_id = coalesce(r.id, '{_NOBODY}'))
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

WEIGHT = "(hashtextextended({0}resource_kind, uuid_hash_extended({0}deployment_id, 0)) | 1)"
"""A row's weight in a checksum: it depends on the deployment and the kind, and is never 0.

Takes the table's alias with a point, or nothing. If the sums of one deployment and kind differ, the checksums of all
are equal once in some 10^18 times.
"""
_WEIGHT = WEIGHT.format("")
FROZEN_SUMS = f"""
    select (sum(w::numeric * record_count), sum(w * quantity))
    from (select record_count, quantity, {_WEIGHT} as w from billing.metered_usage where period_start = %(month)s) m
"""
EQUALS_RAW_RECORDS = f"""
    select (select (sum(w), sum(w * quantity)) from (select quantity, {_WEIGHT} as w from ({RECEIVED}) r) r)
           is not distinct from ({FROZEN_SUMS})
"""
"""Whether frozen usage and raw records agree per deployment and kind, by a checksum. Takes what RECEIVED takes."""

LAST_SUBSCRIPTIONS = f"""
    select distinct on (deployment_id) deployment_id, id as subscription_id
    from ({BILLED_SUBSCRIPTIONS}) s order by deployment_id, started_at desc nulls last, id desc
"""
"""The subscription that has a deployment's usage, if none of its subscriptions begins or ends within the month."""
PART_MONTHS = f"""
    select deployment_id from ({BILLED_SUBSCRIPTIONS}) s
    where started_at > %(start)s or coalesce(ended_at, 'infinity') < %(end)s
"""

RECOUNTED = f"""
    select deployment_id from ({PART_MONTHS}) p
    union
    select m.deployment_id
    from billing.metered_usage m left join ({LAST_SUBSCRIPTIONS}) s using (deployment_id)
    where m.period_start = %(month)s
      and (m.subscription_id is distinct from s.subscription_id or m.unusable_records + m.duplicate_records > 0)
"""
"""The deployments of which nothing can be added to a month's frozen usage: all of theirs has to be counted again."""

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


_UNASSIGNABLE = """
    select coalesce(sum(record_count), 0) from {counted} where deployment_id is null or resource_kind is null
"""


class UnassignableUsage(MonthStopped):
    """Records without a deployment or a resource kind; the message says how many, and what to do."""


class UsageVanished(MonthStopped):
    """Records that the frozen usage counts are gone; the message names the worst case and says what to do."""


_COLUMNS = """deployment_id, resource_kind, quantity, subscription_id, record_count, unusable_records,
              duplicate_records"""
_FREEZE = f"insert into {{partition}} (period_start, {_COLUMNS}) select %(month)s, {_COLUMNS} from {{counted}}"
_DIFFERING = f"""
    create temporary table differing on commit drop as
    select deployment_id, resource_kind, nullif(payer, '{_NOBODY}') as subscription_id
    from (select *, coalesce(subscription_id, '{_NOBODY}') as payer from {{counted}}) c
    full join (
        select *, coalesce(subscription_id, '{_NOBODY}') as payer
        from billing.metered_usage where period_start = %(month)s and {{which}}
    ) m using (deployment_id, resource_kind, payer)
    where (c.quantity, c.record_count, c.unusable_records, c.duplicate_records)
          is distinct from (m.quantity, m.record_count, m.unusable_records, m.duplicate_records)
"""
_IS_DIFFERING = """
    u.deployment_id = d.deployment_id and u.resource_kind = d.resource_kind
    and u.subscription_id is not distinct from d.subscription_id
"""
_THAW = f"""
    delete from billing.metered_usage u using differing d where u.period_start = %(month)s and {_IS_DIFFERING}
"""
_FREEZE_DIFFERING = f"""
    insert into billing.metered_usage (period_start, {_COLUMNS})
    select %(month)s, {_COLUMNS} from {{counted}} u where exists (select from differing d where {_IS_DIFFERING})
"""
_TABLE = "metered_usage"
_WRITTEN = r"""
    select substring(frozen_rows from '^metered_usage (\d+) ')::bigint from billing.billing_months
    where period_start = %(month)s
"""
_THERE = f"select count(*) from billing.{_TABLE} where period_start = %(month)s"
_DROP_THE_REST = f"delete from billing.{_TABLE} where period_start = %(month)s"
# In two statements, of which the first is done in parallel.
_STAMPED_AHEAD = f"""
    create temporary table ahead on commit drop as
    select distinct coalesce(r.id, '{_NOBODY}') as record_id from cloud.usage_records r
    where {OF_THE_MONTH} and r.ingested_at > %(cutoff)s and not {WAS_AHEAD} and {{where}}
"""
_REMEMBER_AHEAD = """
    insert into billing.usage_ahead (period_start, record_id, received_at)
    select b.period_start, a.record_id, b.usage_cutoff
    from ahead a join billing.billing_months b on b.period_start = %(month)s
"""


@dataclass(frozen=True)
class Replaced:
    """Whether frozen usage was written, and whose: a temporary table of subscription_id, or None for everybody's."""

    changed: bool
    differing: str | None = None


def next_cutoff(connection: Connection, month: BillingMonth) -> dt.datetime:
    """The database's clock, and always later than the month's last cut-off.

    So, if the clock is set back, what was received stays received, and an acceptance, which is for one cut-off, does
    not cover another freezing.
    """
    now = cast("dt.datetime", connection.exec_driver_sql("select clock_timestamp()").scalar_one())
    last = cutoff_of(connection, month)
    return max(now, last + dt.timedelta(microseconds=1)) if last else now


def is_frozen(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month has frozen usage. Raises LostRows if it had some and no longer has."""
    if months.has_partition(connection, _TABLE, month):
        return True
    if cutoff_of(connection, month) is not None:  # frozen anew, vanished usage would go unnoticed
        raise LostRows(
            f"the frozen usage of {month} is lost: run `arcadia rebuild {month}`, or restore it from a backup"
        )
    return False


def replace(connection: Connection, month: BillingMonth, counted: Counted) -> Replaced:
    """Make what was counted the month's frozen usage; rows that are the same are left alone.

    Raises UsageVanished and UnassignableUsage.
    """
    if records := connection.exec_driver_sql(_UNASSIGNABLE.format(counted=counted.table)).scalar_one():
        raise UnassignableUsage(
            f"usage records of {month} without a deployment or a resource kind: {records}. Nobody could be billed for"
            " them: complete or remove them in cloud.usage_records, then materialise the month again"
        )
    if not is_frozen(connection, month):
        _fill_new_partition(connection, month, counted)
        return Replaced(changed=True)
    return replace_part(connection, month, counted, "true", {})


def replace_part(
    connection: Connection, month: BillingMonth, counted: Counted, which: str, parameters: Mapping[str, object]
) -> Replaced:
    """Make what was counted, all usage of some deployments, their frozen usage; only rows that differ are written.

    `which`, a condition with `parameters`, selects these deployments by deployment_id. Raises UsageVanished.
    """
    parameters = {**parameters, **bounds(month)}
    connection.exec_driver_sql("drop table if exists pg_temp.differing")
    differing = _DIFFERING.format(counted=counted.table, which=which)
    if not connection.exec_driver_sql(differing, parameters).rowcount:
        return Replaced(changed=False)
    _refuse_vanished(vanished(connection, month, counted, which, parameters), month)
    for statement in ("analyze differing", _THAW, _FREEZE_DIFFERING.format(counted=counted.table)):
        connection.exec_driver_sql(statement, parameters)
    return Replaced(changed=True, differing="pg_temp.differing")


def record_freezing(connection: Connection, month: BillingMonth, cutoff: dt.datetime, run_id: str) -> None:
    """Record the cut-off of the frozen usage that was written."""
    connection.exec_driver_sql(
        "insert into billing.billing_months (period_start, usage_cutoff, run_id)"
        " values (%(month)s, %(cutoff)s, %(run)s)"
        " on conflict (period_start) do update set usage_cutoff = excluded.usage_cutoff, run_id = excluded.run_id",
        {"month": month.start, "cutoff": cutoff, "run": run_id},
    )


def record_ahead(connection: Connection, month: BillingMonth, cutoff: dt.datetime, where: str = "true") -> None:
    """Remember the records that were counted though stamped later than the cut-off. `where` narrows the search."""
    parameters = {**bounds(month), "cutoff": cutoff}
    connection.exec_driver_sql("drop table if exists pg_temp.ahead")
    if connection.exec_driver_sql(_STAMPED_AHEAD.format(where=where), parameters).rowcount:
        connection.exec_driver_sql(_REMEMBER_AHEAD, parameters)


def is_lost(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month has lost frozen usage: it has fewer rows than were written."""
    if not months.has_partition(connection, _TABLE, month):
        return cutoff_of(connection, month) is not None
    written = connection.exec_driver_sql(_WRITTEN, {"month": month.start}).scalar()
    return bool(connection.exec_driver_sql(_THERE, {"month": month.start}).scalar_one() < (written or 0))


def has_as_many(connection: Connection, month: BillingMonth, counted: Counted) -> bool:
    """Whether what was counted has as many rows as the month's frozen usage had; True if that is unknown."""
    written = connection.exec_driver_sql(_WRITTEN, {"month": month.start}).scalar()
    return written in (None, connection.exec_driver_sql(f"select count(*) from {counted.table}").scalar_one())


def put_back(connection: Connection, month: BillingMonth, counted: Counted) -> None:
    """Make what was counted the month's frozen usage, which was lost; its cut-off stays."""
    if not months.has_partition(connection, _TABLE, month):
        _fill_new_partition(connection, month, counted)
        return
    for statement in (_DROP_THE_REST, _FREEZE.format(partition=f"billing.{_TABLE}", counted=counted.table)):
        connection.exec_driver_sql(statement, {"month": month.start})


def _fill_new_partition(connection: Connection, month: BillingMonth, counted: Counted) -> None:
    with months.new_partition(connection, _TABLE, month) as partition:
        statement = _FREEZE.format(partition=partition, counted=counted.table)
        connection.exec_driver_sql(statement, {"month": month.start})


KINDS = pa.schema([("resource_kind", TEXT), ("quantity", QUANTITY_SUM), ("record_count", COUNT), ("meters", COUNT)])
"""One row per resource kind: its usage, from how many records, of how many deployments and subscriptions."""


def by_kind(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's frozen usage, as KINDS."""
    query = """
        select resource_kind, sum(quantity) as quantity, sum(record_count)::bigint as record_count, count(*) as meters
        from billing.metered_usage where period_start = %(month)s group by 1 order by resource_kind collate "C"
    """
    return bulk.read(connection, query, KINDS, {"month": month.start})


VANISHED = pa.schema(
    [
        ("deployment_id", TEXT),
        ("tenant_id", TEXT),
        ("resource_kind", TEXT),
        ("frozen_records", COUNT),
        ("remaining_records", COUNT),
    ]
)
"""One row per deployment and resource kind with fewer records than the frozen usage counts, and its tenant today."""

_VANISHED = """
    select m.deployment_id, (select min(tenant_id) from cloud.cloud_deployments d where d.id = m.deployment_id)
               as tenant_id, m.resource_kind, m.frozen_records, coalesce(c.records, 0) as remaining_records
    from (
        select deployment_id, resource_kind,
               sum(record_count - unusable_records - duplicate_records)::bigint as frozen_records
        from billing.metered_usage where period_start = %(month)s and {which} group by 1, 2
    ) m
    left join (
        select deployment_id, resource_kind, sum(record_count)::bigint as records from {counted} group by 1, 2
    ) c using (deployment_id, resource_kind)
    left join (
        select distinct on (deployment_id, resource_kind) * from billing.usage_acceptances
        where period_start = %(month)s
          and usage_cutoff = (select usage_cutoff from billing.billing_months where period_start = %(month)s)
        order by deployment_id, resource_kind, id desc
    ) a using (deployment_id, resource_kind)
    where coalesce(a.remaining_records, m.frozen_records) > coalesce(c.records, 0)
    order by m.frozen_records - coalesce(c.records, 0) desc, m.deployment_id, m.resource_kind
"""


def vanished(
    connection: Connection,
    month: BillingMonth,
    counted: Counted,
    which: str = "true",
    parameters: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """Frozen usage whose records were not counted and that nobody has accepted as lost, as VANISHED, worst first.

    Corrections are records of their own, so fewer records than were frozen mean that some were lost, or purged.
    Unusable ones may go: removing them is how that fault is fixed.
    """
    query = _VANISHED.format(which=which, counted=counted.table)
    return bulk.read(connection, query, VANISHED, {**(parameters or {}), "month": month.start})


def _refuse_vanished(lost: pd.DataFrame, month: BillingMonth) -> None:
    if len(lost):
        first = lost.iloc[0]
        whose = "no tenant" if pd.isna(first["tenant_id"]) else f"tenant {first['tenant_id']}"
        raise UsageVanished(
            f"frozen usage of {month} has vanished, of {number_of(len(lost), 'meters')}: first"
            f" {first['resource_kind']} of deployment {first['deployment_id']} ({whose}), which had"
            f" {number_of(int(first['frozen_records']), 'records')} and has {first['remaining_records']}."
            " Restore them; or accept it, by the job accept_vanished_usage"
        )


LATE = pa.schema([("deployment_id", TEXT), ("resource_kind", TEXT), ("raw_records", COUNT), ("frozen_records", COUNT)])
"""One row per deployment and resource kind with more records than the frozen usage counts."""

_RAW = """
    select deployment_id, resource_kind, count(*) as raw_records from cloud.usage_records
    where recorded_at >= %(start)s and recorded_at < %(end)s group by 1, 2
"""
_COUNTED = "select deployment_id, resource_kind, sum(record_count)::bigint as raw_records from {0} group by 1, 2"
# By number, not by time of ingestion: a record may be stamped before the cut-off, and be committed after it.
_LATE = """
    with raw as ({raw}),
    frozen as (
        select deployment_id, resource_kind, sum(record_count)::bigint as frozen_records from billing.metered_usage
        where period_start = %(month)s group by 1, 2
    )
    select deployment_id, resource_kind, raw_records, coalesce(frozen_records, 0) as frozen_records
    from raw left join frozen using (deployment_id, resource_kind)
    where raw_records > coalesce(frozen_records, 0)
    order by raw_records - coalesce(frozen_records, 0) desc, deployment_id, resource_kind
"""


def late(connection: Connection, month: BillingMonth, counted: Counted | None = None) -> pd.DataFrame:
    """The usage that came after the month was frozen, as LATE; none if it is not frozen.

    It is looked for in cloud.usage_records, or in what was counted elsewhere.
    """
    if cutoff_of(connection, month) is None:
        return frame(LATE)
    raw = _COUNTED.format(counted.table) if counted else _RAW
    return bulk.read(connection, _LATE.format(raw=raw), LATE, bounds(month))


AHEAD = pa.schema(
    [
        ("deployment_id", TEXT),
        ("subscription_id", TEXT),
        ("resource_kind", TEXT),
        ("quantity", QUANTITY_SUM),
        ("records", COUNT),
        ("ingested_until", TEXT),
    ]
)
"""One row per deployment, subscription and kind with records stamped ahead of the clock: how many, and up to when."""
_AHEAD = f"""
    select r.deployment_id, s.subscription_id, r.resource_kind, count(*) as records,
           coalesce(sum(r.quantity) filter (where {USABLE}), 0)::numeric(38, 6) as quantity,
           max(r.ingested_at)::text as ingested_until
    from billing.usage_ahead a
    join ({RECORDS}) r on r.id = a.record_id
    left join ({SPANS}) s on {ACTIVE}
    where a.period_start = %(month)s and r.ingested_at > clock_timestamp()
    group by 1, 2, 3
"""


def ahead(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The frozen usage whose ingested_at is in the future, as AHEAD."""
    return bulk.read(connection, _AHEAD, AHEAD, bounds(month))


FROZEN = Query(
    f"""
    select u.*, s.tenant_id
    from billing.metered_usage u left join ({PAYERS}) s on s.id = u.subscription_id
    where u.period_start = %(month)s
    """,
    quote.USAGE,
)
"""The month's frozen usage. Takes `start` and `end`."""


def read(connection: Connection, counted: Counted) -> pd.DataFrame:
    """What was counted, as quote.USAGE."""
    return bulk.read(connection, f"select * from {counted.table}", quote.USAGE, {})


def cutoff_of(connection: Connection, month: BillingMonth) -> dt.datetime | None:
    """The cut-off of the month's frozen usage; None if the month is not frozen."""
    return connection.exec_driver_sql(
        "select usage_cutoff from billing.billing_months where period_start = %(month)s", {"month": month.start}
    ).scalar()
