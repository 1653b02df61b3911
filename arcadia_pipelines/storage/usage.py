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
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, PAYERS, bounds
from arcadia_pipelines.storage.months import LostRows
from arcadia_pipelines.storage.streams import Query

_NOBODY = "00000000-0000-0000-0000-000000000000"
"""Stands for an id of null where ids are compared."""

_OF_THE_MONTH = "recorded_at >= %(start)s and recorded_at < %(end)s"
RECORDS = f"select * from cloud.usage_records where {_OF_THE_MONTH}"
"""The raw records of a month, all that there are. Takes `start` and `end`."""

# A record whose ingested_at is still to come has come all the same, and its month is over: it counts as received at the
# cut-off of the freezing that finds it, and that is remembered, for the time of its stamp will come too.
_WAS_AHEAD = f"""
    exists (select from billing.usage_ahead a
            where a.period_start = %(month)s and a.record_id = coalesce(r.id, '{_NOBODY}'))
"""
RECEIVED = f"""
    select r.* from cloud.usage_records r
    where {_OF_THE_MONTH} and (coalesce(ingested_at, '-infinity') <= %(cutoff)s or {_WAS_AHEAD})
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
"""When each subscription that a month bills was its deployment's: [started_at, ended_at). Takes `start` and `end`."""

ACTIVE = "s.deployment_id = r.deployment_id and r.recorded_at >= s.started_at and r.recorded_at < s.ended_at"
"""What joins a record r to the span s that it belongs to."""

WEIGHT = "(hashtextextended({0}resource_kind, uuid_hash_extended({0}deployment_id, 0)) | 1)"
"""What a row is weighted by in a sum, as in a checksum: another deployment or kind has another weight, and none 0.

Takes the table's name with a point, or nothing. If the sums of one deployment and kind differ, such sums of all are
equal once in some 10^18 times.
"""
_WEIGHT = WEIGHT.format("")
_FROZEN_SUMS = f"""
    select (sum(w::numeric * record_count), sum(w * quantity))
    from (select record_count, quantity, {_WEIGHT} as w from billing.metered_usage where period_start = %(month)s) m
"""
EQUALS_RAW_RECORDS = f"""
    select (select (sum(w), sum(w * quantity)) from (select quantity, {_WEIGHT} as w from ({RECEIVED}) r) r)
           is not distinct from ({_FROZEN_SUMS})
"""
"""Whether the frozen usage is that of the raw records, per deployment and kind. Takes as RECEIVED."""

_PAYERS = f"""
    select distinct on (deployment_id) deployment_id, id as subscription_id
    from ({BILLED_SUBSCRIPTIONS}) s order by deployment_id, started_at desc nulls last, id desc
"""
"""Whose the usage of a deployment is if no subscription of it begins or ends within the month."""
_PART_MONTHS = f"""
    select deployment_id from ({BILLED_SUBSCRIPTIONS}) s
    where started_at > %(start)s or coalesce(ended_at, 'infinity') < %(end)s
"""

# Of a group that all processes have seen, each sends its sum to the leader: two that send take less than three.
_SENT_BY_FEWER = "set local parallel_leader_participation = off"
# Few subscriptions begin or end within a month, few records are unusable, and looking for them in each record is dear:
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
    left join ({_PAYERS}) s using (deployment_id)
"""
_SECOND_LOOK = f"""
    create temporary table second_look on commit drop as
    select deployment_id from counted where quantity = 'NaN' or unusable_records > 0
    union {_PART_MONTHS}
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
# Also across the month's edges: a record that is in two months would be billed in both. What writes a record twice
# does so soon: the months beside it are looked at, not the whole history.
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


def count(connection: Connection, month: BillingMonth) -> None:
    """Count the month's usage that has come by now, into the temporary table `counted`.

    It has a row per deployment, resource kind and the subscription active when it was recorded, metered_usage's columns
    but the month. PostgreSQL groups; nothing of it comes here.
    """
    parameters = bounds(month)
    connection.exec_driver_sql("drop table if exists pg_temp.counted, pg_temp.second_look")
    connection.exec_driver_sql(_SENT_BY_FEWER)
    if _is_plain(connection):
        connection.exec_driver_sql(_QUICKLY, parameters)
        if connection.exec_driver_sql(_SECOND_LOOK, parameters).rowcount:
            connection.exec_driver_sql(_DROP_LOOKED_AT)
            thoroughly = _thoroughly("r.deployment_id in (select deployment_id from second_look)", ids_are_unique=True)
            connection.exec_driver_sql(f"insert into counted {thoroughly}", parameters)
    else:
        _count_thoroughly(connection, "true", parameters)


def _is_plain(connection: Connection) -> bool:
    """Whether ids are unique, quantities fit, and each record is of a deployment and kind. A view may show anything."""
    return all(connection.exec_driver_sql(query).scalar_one() for query in (_IDS_ARE_UNIQUE, _COLUMNS_FIT))


def _count_thoroughly(
    connection: Connection, which: str, parameters: Mapping[str, object], records: str = RECORDS
) -> None:
    """Count some records one by one, into the table `counted`; making it with them is what is done in parallel."""
    ids_are_unique = connection.exec_driver_sql(_IDS_ARE_UNIQUE).scalar_one()
    thoroughly = _thoroughly(which, ids_are_unique, records)
    connection.exec_driver_sql(f"create temporary table counted on commit drop as {thoroughly}", parameters)


def count_received(connection: Connection, month: BillingMonth, cutoff: dt.datetime) -> None:
    """Count the month's usage that had come by the cut-off, as count() does."""
    connection.exec_driver_sql("drop table if exists pg_temp.counted, pg_temp.second_look")
    _count_thoroughly(connection, "true", {**bounds(month), "cutoff": cutoff}, RECEIVED)


def _thoroughly(which: str, ids_are_unique: bool, records: str = RECORDS) -> str:
    return _THOROUGHLY.format(
        records=records,
        duplicates="" if ids_are_unique else _DUPLICATES,
        duplicate_records="0::bigint" if ids_are_unique else _COPIED,
        which=which,
    )


_UNASSIGNABLE = """
    select coalesce(sum(record_count), 0) from counted where deployment_id is null or resource_kind is null
"""


class UnassignableUsage(Exception):
    """Records that say no deployment or no resource kind; the message says how many, and what to do."""


class UsageVanished(Exception):
    """Records that the frozen usage counts are gone; the message names the worst case and says what to do."""


_COLUMNS = """deployment_id, resource_kind, quantity, subscription_id, record_count, unusable_records,
              duplicate_records"""
_FREEZE = f"insert into {{partition}} (period_start, {_COLUMNS}) select %(month)s, {_COLUMNS} from counted"
_DIFFERING = f"""
    create temporary table differing on commit drop as
    select deployment_id, resource_kind, nullif(payer, '{_NOBODY}') as subscription_id
    from (select *, coalesce(subscription_id, '{_NOBODY}') as payer from counted) c
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
    select %(month)s, {_COLUMNS} from counted u where exists (select from differing d where {_IS_DIFFERING})
"""
# The tenants whose frozen usage is another are quoted again (again/stale.py), and so is the usage of nobody.
_FORGET_QUOTED = "update billing.quoted_tenants set made_from = null where period_start = %(month)s"
_OF_DIFFERING = """
      and tenant_id in (
          select '' union select s.tenant_id from differing d join cloud.subscriptions s on s.id = d.subscription_id
      )
"""
_FROZEN_ROWS = "select frozen_rows from billing.billing_months where period_start = %(month)s"
_REMEMBER_FROZEN = """
    update billing.billing_months set frozen_rows = %(rows)s
    where period_start = %(month)s and frozen_rows is distinct from %(rows)s
"""
_TABLE = "metered_usage"
_WRITTEN = r"""
    select substring(frozen_rows from '^metered_usage (\d+) ')::bigint from billing.billing_months
    where period_start = %(month)s
"""
_THERE = f"select count(*) from billing.{_TABLE} where period_start = %(month)s"
_DROP_THE_REST = f"delete from billing.{_TABLE} where period_start = %(month)s"
_IS_NEWER = f"""
    (coalesce(ingested_at > (select usage_cutoff from billing.billing_months where period_start = %(month)s), false)
     and not {_WAS_AHEAD})
"""
# Newer records lie together at the end of the table, as a rule: to find them takes no second look at all others.
_SUM_RAW = f"""
    create temporary table raw_sums on commit drop as
    select newer, min(ctid)::text as first, sum(w) as records, sum(w * quantity) as quantity
    from (
        select {_IS_NEWER} as newer, ctid, quantity, {_WEIGHT} as w from cloud.usage_records r where {_OF_THE_MONTH}
    ) r
    group by newer
"""
_FIRST_NEWER = "select first from raw_sums where newer"
_SUM_NEWER = f"""
    create temporary table newer on commit drop as
    select deployment_id, resource_kind, sum(quantity) as quantity, count(*) as record_count, count(quantity) as known
    from cloud.usage_records r where {_OF_THE_MONTH} and {_IS_NEWER} and ctid >= %(first)s::tid group by 1, 2
"""
_EQUALS_RAW_SUMS = f"select (select (sum(records), sum(quantity)) from raw_sums) is not distinct from ({_FROZEN_SUMS})"
_SUSPECTS = f"""
    select deployment_id, bool_or(recounted) as recounted
    from (
        select deployment_id, quantity = 'NaN' or known < record_count as recounted from newer
        union all
        select deployment_id, true from ({_PART_MONTHS}) p
        union all
        select m.deployment_id, true from billing.metered_usage m left join ({_PAYERS}) s using (deployment_id)
        where m.period_start = %(month)s
          and (m.subscription_id is distinct from s.subscription_id or m.unusable_records + m.duplicate_records > 0)
    ) s
    group by deployment_id limit %(most)s
"""
_ADD_NEWER = f"""
    insert into counted
    select deployment_id, resource_kind, sum(quantity), subscription_id, sum(record_count), 0, 0
    from (
        select deployment_id, resource_kind, quantity, record_count from newer
        union all
        select deployment_id, resource_kind, quantity, record_count from billing.metered_usage
        where period_start = %(month)s and deployment_id in (select deployment_id from newer)
    ) u
    left join ({_PAYERS}) s using (deployment_id)
    group by deployment_id, resource_kind, subscription_id
"""
# In two statements, of which the first is done in parallel.
_FIND_AHEAD = f"""
    create temporary table ahead on commit drop as
    select distinct coalesce(r.id, '{_NOBODY}') as record_id from cloud.usage_records r
    where {_OF_THE_MONTH} and r.ingested_at > %(cutoff)s and not {_WAS_AHEAD} and {{where}}
"""
_REMEMBER_AHEAD = """
    insert into billing.usage_ahead (period_start, record_id, received_at)
    select b.period_start, a.record_id, b.usage_cutoff
    from ahead a join billing.billing_months b on b.period_start = %(month)s
"""
_MOST_SUSPECTS = 50_000
"""If there are so many, all are counted."""
_ARE_RECOUNTED = "deployment_id = any(%(recounted)s::uuid[])"
_ARE_SUSPECTS = "deployment_id = any(%(suspects)s::uuid[])"


@dataclass(frozen=True)
class Freeze:
    """Whether the month's frozen usage was written, and whether it was compared with all raw records a second time."""

    changed: bool
    compared: bool = False


def freeze(connection: Connection, month: BillingMonth, cutoff: dt.datetime, run_id: str) -> Freeze:
    """Make the usage that has come the month's frozen usage. Raises UsageVanished and UnassignableUsage.

    The cut-off is now, and always later than the last one: a clock that was set back neither takes back what has come
    nor lets an acceptance, which is of one cut-off, cover another freezing. To a month that is frozen newer records are
    added, deployments that may need it are counted again, and all is compared with the raw records as a whole; only if
    they differ is all of it counted again. Only rows that differ are written. An unchanged month keeps its earlier
    cut-off: no record has come since. A record that is stamped ahead of the clock counts as received at the cut-off.

    The transaction must be database.month_at_an_instant(): records and subscriptions are looked at more than once.
    """
    parameters = {**bounds(month), "cutoff": _after_the_last(connection, month, cutoff), "run": run_id}
    if not months.has_partition(connection, _TABLE, month):
        if cutoff_of(connection, month) is not None:  # of usage that has vanished since, nobody would hear
            raise LostRows(
                f"the frozen usage of {month} is lost: run `arcadia rebuild {month}`, or restore it from a backup"
            )
        _count_all(connection, month)
        with months.new_partition(connection, _TABLE, month) as partition:
            connection.exec_driver_sql(_FREEZE.format(partition=partition), parameters)
        connection.exec_driver_sql(_FORGET_QUOTED, parameters)
        done = Freeze(changed=True)
    else:
        if connection.exec_driver_sql(_FROZEN_ROWS, parameters).scalar() != _rows(connection, month):
            connection.exec_driver_sql(_FORGET_QUOTED, parameters)  # somebody has changed the frozen usage by hand
        done = _freeze_suspects(connection, month, parameters)
        if not done.compared:
            _count_all(connection, month)
            done = Freeze(changed=_freeze_differing(connection, month, "true", parameters))
    if done.changed:
        connection.exec_driver_sql(
            "insert into billing.billing_months (period_start, usage_cutoff, run_id)"
            " values (%(month)s, %(cutoff)s, %(run)s)"
            " on conflict (period_start) do update set usage_cutoff = excluded.usage_cutoff, run_id = excluded.run_id",
            parameters,
        )
    among = "ctid >= (select first::tid from raw_sums where newer)" if done.compared else "true"
    _remember_ahead(connection, parameters, among)
    connection.exec_driver_sql(_REMEMBER_FROZEN, {**parameters, "rows": _rows(connection, month)})
    return done


def _after_the_last(connection: Connection, month: BillingMonth, cutoff: dt.datetime) -> dt.datetime:
    """The later of the cut-off and the instant after the last one."""
    last = cutoff_of(connection, month)
    return max(cutoff, last + dt.timedelta(microseconds=1)) if last else cutoff


def is_lost(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month is frozen, and has fewer rows of frozen usage than were written."""
    if not months.has_partition(connection, _TABLE, month):
        return cutoff_of(connection, month) is not None
    written = connection.exec_driver_sql(_WRITTEN, {"month": month.start}).scalar()
    return bool(connection.exec_driver_sql(_THERE, {"month": month.start}).scalar_one() < (written or 0))


def has_as_many(connection: Connection, month: BillingMonth) -> bool:
    """Whether `counted` has as many rows as the month's frozen usage had, as far as that is known."""
    written = connection.exec_driver_sql(_WRITTEN, {"month": month.start}).scalar()
    return written in (None, connection.exec_driver_sql("select count(*) from pg_temp.counted").scalar_one())


def put_back(connection: Connection, month: BillingMonth) -> None:
    """Make what was counted the month's frozen usage, which was lost; its cut-off stays."""
    parameters = {"month": month.start}
    if not months.has_partition(connection, _TABLE, month):
        with months.new_partition(connection, _TABLE, month) as partition:
            connection.exec_driver_sql(_FREEZE.format(partition=partition), parameters)
    else:
        connection.exec_driver_sql(_DROP_THE_REST, parameters)
        connection.exec_driver_sql(_FREEZE.format(partition=f"billing.{_TABLE}"), parameters)
    connection.exec_driver_sql(_REMEMBER_FROZEN, {**parameters, "rows": _rows(connection, month)})


def _count_all(connection: Connection, month: BillingMonth) -> None:
    count(connection, month)
    if records := connection.exec_driver_sql(_UNASSIGNABLE).scalar_one():
        raise UnassignableUsage(
            f"usage records of {month} without a deployment or a resource kind: {records}. Nobody could be billed for"
            " them: complete or remove them in cloud.usage_records, then materialise the month again"
        )


def _remember_ahead(connection: Connection, parameters: Mapping[str, object], where: str) -> None:
    """Remember what the frozen usage counts though it is stamped ahead of the clock: it lies `where`."""
    connection.exec_driver_sql("drop table if exists pg_temp.ahead")
    if connection.exec_driver_sql(_FIND_AHEAD.format(where=where), parameters).rowcount:
        connection.exec_driver_sql(_REMEMBER_AHEAD, parameters)


def _rows(connection: Connection, month: BillingMonth) -> str:
    return months.rows_as_they_are(connection, month, _TABLE)


def _freeze_suspects(connection: Connection, month: BillingMonth, parameters: Mapping[str, object]) -> Freeze:
    """Add newer records to the frozen usage, count deployments anew that may need it, and see whether that was all.

    If it was not, nothing is written: a newer record may have taken the place of one that the frozen usage counts.
    """
    if not _is_plain(connection):
        return Freeze(changed=False)
    connection.exec_driver_sql(_SUM_RAW, parameters)
    first = connection.exec_driver_sql(_FIRST_NEWER).scalar()
    connection.exec_driver_sql(_SUM_NEWER, {**parameters, "first": first})
    found = connection.exec_driver_sql(_SUSPECTS, {**parameters, "most": _MOST_SUSPECTS}).all()
    if len(found) == _MOST_SUSPECTS:
        return Freeze(changed=False)
    attempt = connection.begin_nested()
    recounted = [deployment for deployment, is_recounted in found if is_recounted]
    parameters = {**parameters, "suspects": [deployment for deployment, _ in found], "recounted": recounted}
    connection.exec_driver_sql("drop table if exists pg_temp.counted")
    _count_thoroughly(connection, f"r.{_ARE_RECOUNTED}" if recounted else "false", parameters)
    connection.exec_driver_sql(f"delete from newer where {_ARE_RECOUNTED}", parameters)
    connection.exec_driver_sql(_ADD_NEWER, parameters)
    changed = _freeze_differing(connection, month, _ARE_SUSPECTS, parameters)
    if connection.exec_driver_sql(_EQUALS_RAW_SUMS, parameters).scalar_one():
        attempt.commit()
        return Freeze(changed, compared=True)
    attempt.rollback()
    return Freeze(changed=False)


def _freeze_differing(
    connection: Connection, month: BillingMonth, which: str, parameters: Mapping[str, object]
) -> bool:
    """Write what differs between `counted`, which has all usage of these deployments, and the frozen usage of them."""
    connection.exec_driver_sql("drop table if exists pg_temp.differing")
    if not connection.exec_driver_sql(_DIFFERING.format(which=which), parameters).rowcount:
        return False
    _refuse_vanished(vanished(connection, month, which, parameters), month)
    for statement in ("analyze differing", _THAW, _FREEZE_DIFFERING, _FORGET_QUOTED + _OF_DIFFERING):
        connection.exec_driver_sql(statement, parameters)
    return True


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
"""One row per deployment and resource kind with fewer records than the frozen usage counts; and whose it is today."""

_VANISHED = """
    select m.deployment_id, (select min(tenant_id) from cloud.cloud_deployments d where d.id = m.deployment_id)
               as tenant_id, m.resource_kind, m.frozen_records, coalesce(c.records, 0) as remaining_records
    from (
        select deployment_id, resource_kind,
               sum(record_count - unusable_records - duplicate_records)::bigint as frozen_records
        from billing.metered_usage where period_start = %(month)s and {which} group by 1, 2
    ) m
    left join (
        select deployment_id, resource_kind, sum(record_count)::bigint as records from counted group by 1, 2
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
    connection: Connection, month: BillingMonth, which: str = "true", parameters: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """What `counted` lacks of the frozen usage and nobody has accepted as lost, as VANISHED, worst first.

    Corrections are records of their own: fewer records than were frozen mean that some were lost, or purged. Records
    that could not be used may go: removing them is how such a fault is mended.
    """
    return bulk.read(connection, _VANISHED.format(which=which), VANISHED, {**(parameters or {}), "month": month.start})


def _refuse_vanished(lost: pd.DataFrame, month: BillingMonth) -> None:
    if len(lost):
        first = lost.iloc[0]
        whose = "no tenant's" if pd.isna(first["tenant_id"]) else f"tenant {first['tenant_id']}"
        raise UsageVanished(
            f"usage of {month} that is frozen has vanished, of {number_of(len(lost), 'meters')}: first"
            f" {first['resource_kind']} of deployment {first['deployment_id']} ({whose}), which had"
            f" {number_of(int(first['frozen_records']), 'records')} and has {first['remaining_records']}."
            " Restore them; or accept it, by the job accept_vanished_usage"
        )


LATE = pa.schema([("deployment_id", TEXT), ("resource_kind", TEXT), ("raw_records", COUNT), ("frozen_records", COUNT)])
"""One row per deployment and resource kind with more records than the frozen usage counts."""

# By number, not by time of ingestion: a record may be stamped before the cut-off and committed after it.
_LATE = """
    with raw as (
        select deployment_id, resource_kind, count(*) as raw_records from cloud.usage_records
        where recorded_at >= %(start)s and recorded_at < %(end)s group by 1, 2
    ),
    frozen as (
        select deployment_id, resource_kind, sum(record_count)::bigint as frozen_records from billing.metered_usage
        where period_start = %(month)s group by 1, 2
    )
    select deployment_id, resource_kind, raw_records, coalesce(frozen_records, 0) as frozen_records
    from raw left join frozen using (deployment_id, resource_kind)
    where raw_records > coalesce(frozen_records, 0)
    order by raw_records - coalesce(frozen_records, 0) desc, deployment_id, resource_kind
"""


def late(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The usage that came after the month was frozen, as LATE; none if it is not frozen."""
    if cutoff_of(connection, month) is None:
        return frame(LATE)
    return bulk.read(connection, _LATE, LATE, bounds(month))


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
    """The frozen usage whose ingested_at is still to come, as AHEAD."""
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


def counted(connection: Connection) -> pd.DataFrame:
    """What was counted, as quote.USAGE."""
    return bulk.read(connection, "select * from counted", quote.USAGE, {})


def now(connection: Connection) -> dt.datetime:
    """The database's clock, which stamps ingested_at too."""
    return cast("dt.datetime", connection.exec_driver_sql("select clock_timestamp()").scalar_one())


def cutoff_of(connection: Connection, month: BillingMonth) -> dt.datetime | None:
    """The cut-off of the month's frozen usage; None if the month is not frozen."""
    return connection.exec_driver_sql(
        "select usage_cutoff from billing.billing_months where period_start = %(month)s", {"month": month.start}
    ).scalar()
