"""The month's metered usage: what was counted is frozen at a cut-off, and kept.

Belongs here: the rows of metered_usage, their cut-off, and records that vanish from under them. Does not: counting
(usage_records.py, counts.py), records that came after the cut-off (late_usage.py).
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import quote
from arcadia_pipelines.billing.money import COUNT, QUANTITY_SUM, TEXT, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import MonthStopped
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import PAYERS, bounds
from arcadia_pipelines.storage.months import LostRows
from arcadia_pipelines.storage.streams import Query
from arcadia_pipelines.storage.usage_records import (
    LAST_SUBSCRIPTIONS,
    NOBODY,
    OF_THE_MONTH,
    PART_MONTHS,
    RECEIVED,
    WAS_AHEAD,
    Counted,
)

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

RECOUNTED = f"""
    select deployment_id from ({PART_MONTHS}) p
    union
    select m.deployment_id
    from billing.metered_usage m left join ({LAST_SUBSCRIPTIONS}) s using (deployment_id)
    where m.period_start = %(month)s
      and (m.subscription_id is distinct from s.subscription_id or m.unusable_records + m.duplicate_records > 0)
"""
"""The deployments of which nothing can be added to a month's frozen usage: all of theirs has to be counted again."""

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
    select deployment_id, resource_kind, nullif(payer, '{NOBODY}') as subscription_id
    from (select *, coalesce(subscription_id, '{NOBODY}') as payer from {{counted}}) c
    full join (
        select *, coalesce(subscription_id, '{NOBODY}') as payer
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
    select distinct coalesce(r.id, '{NOBODY}') as record_id from cloud.usage_records r
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


FROZEN = Query(
    f"""
    select u.*, s.tenant_id
    from billing.metered_usage u left join ({PAYERS}) s on s.id = u.subscription_id
    where u.period_start = %(month)s
    """,
    quote.USAGE,
)
"""The month's frozen usage. Takes `start` and `end`."""


def cutoff_of(connection: Connection, month: BillingMonth) -> dt.datetime | None:
    """The cut-off of the month's frozen usage; None if the month is not frozen."""
    return connection.exec_driver_sql(
        "select usage_cutoff from billing.billing_months where period_start = %(month)s", {"month": month.start}
    ).scalar()
