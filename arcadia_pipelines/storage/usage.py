"""The month's metered usage: counted from the raw records, and frozen."""

import datetime as dt
from typing import cast

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import quote
from arcadia_pipelines.billing.money import COUNT, QUANTITY_SUM, TEXT, frame, to_arrow, to_pandas
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, bounds

METERED_USAGE = pa.schema(
    [
        ("deployment_id", TEXT),
        ("resource_kind", TEXT),
        ("quantity", QUANTITY_SUM),
        ("subscription_id", TEXT),
        ("record_count", COUNT),
        ("unusable_records", COUNT),
        ("duplicate_records", COUNT),
    ]
)
"""One row per deployment, resource kind and the subscription active when it was recorded."""

_ORDER = 'deployment_id, resource_kind collate "C", subscription_id'

RECORDS = """
    select * from cloud.usage_records
    where recorded_at >= %(start)s and recorded_at < %(end)s
      and coalesce(ingested_at, '-infinity') <= %(cutoff)s
"""
"""The raw records of a month up to its cut-off. Takes `start`, `end` and `cutoff`."""

USABLE = "(quantity > -1e12 and quantity < 1e12)"  # NaN is greater than every number; a view may show null

# Where subscriptions overlap, which is a fault, the later start wins: nothing is counted twice.
SPANS = f"""
    select id as subscription_id, deployment_id, started_at,
           least(coalesce(ended_at, 'infinity'),
                 lead(started_at) over (partition by deployment_id order by started_at, id)) as ended_at
    from ({BILLED_SUBSCRIPTIONS}) s
"""
"""When each subscription that a month bills was its deployment's: [started_at, ended_at). Takes `start` and `end`."""

ACTIVE = "s.deployment_id = r.deployment_id and r.recorded_at >= s.started_at and r.recorded_at < s.ended_at"
"""What joins a record r to the span s that it belongs to."""

# Only few subscriptions begin or end within a month, and a join with all records is dear: records of other deployments
# are summed first, in parallel, and get their subscription afterwards.
_PART_MONTH = f"""
    select deployment_id from ({BILLED_SUBSCRIPTIONS}) s
    where s.deployment_id = r.deployment_id
      and (s.started_at > %(start)s or coalesce(s.ended_at, 'infinity') < %(end)s)
"""
_SUMS = f"""
    coalesce(sum(r.quantity) filter (where {USABLE}), 0)::numeric(38, 6) as quantity,
    count(*) as record_count, count(*) filter (where {USABLE} is not true) as unusable_records,
    {{duplicate_records}} as duplicate_records
"""
_COUNT = f"""
    select r.*, s.subscription_id
    from (
        select r.deployment_id, r.resource_kind, {_SUMS}
        from ({RECORDS}) r {{duplicates}} where not exists ({_PART_MONTH})
        group by r.deployment_id, r.resource_kind
    ) r
    left join (
        select distinct on (deployment_id) deployment_id, id as subscription_id
        from ({BILLED_SUBSCRIPTIONS}) s order by deployment_id, started_at desc, id desc
    ) s using (deployment_id)
    union all
    select r.deployment_id, r.resource_kind, {_SUMS}, s.subscription_id
    from ({RECORDS}) r {{duplicates}}
    left join ({SPANS}) s on {ACTIVE}
    where exists ({_PART_MONTH})
    group by r.deployment_id, r.resource_kind, s.subscription_id
"""
_ORDERED = f"select * from ({{count}}) c order by {_ORDER}"
_DUPLICATES = f"""
    left join (select id as copied_id from ({RECORDS}) r group by id having count(*) > 1) copies on copied_id = r.id
"""
_IDS_ARE_UNIQUE = """
    select exists (
        select from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = 'cloud.usage_records'::regclass and i.indisunique and i.indisvalid and i.indnatts = 1
          and i.indpred is null and a.attname = 'id'
    )
"""


def count(connection: Connection, month: BillingMonth, cutoff: dt.datetime) -> pd.DataFrame:
    """The month's usage ingested up to the cut-off, as METERED_USAGE, in order; grouped by PostgreSQL."""
    unique = connection.exec_driver_sql(_IDS_ARE_UNIQUE).scalar_one()
    query = _COUNT.format(
        duplicates="" if unique else _DUPLICATES, duplicate_records="0" if unique else "count(copied_id)"
    )
    return bulk.read(connection, _ORDERED.format(count=query), METERED_USAGE, {**bounds(month), "cutoff": cutoff})


class UsageVanished(Exception):
    """Records that the frozen usage counts are gone; the message names the worst case and says what to do."""


def freeze(connection: Connection, month: BillingMonth, usage: pd.DataFrame, cutoff: dt.datetime, run_id: str) -> bool:
    """Make the usage (METERED_USAGE) the month's frozen usage; returns whether it differs from what was frozen.

    An unchanged month keeps its earlier cut-off: no record has come since. Raises UsageVanished.
    """
    if months.has_partition(connection, "metered_usage", month):
        _refuse_vanished(connection, month, usage)
    changed = months.replace_partition(connection, "metered_usage", month, usage, METERED_USAGE, _ORDER)
    if changed:
        connection.exec_driver_sql(
            "insert into billing.billing_months (period_start, usage_cutoff, run_id)"
            " values (%(month)s, %(cutoff)s, %(run)s)"
            " on conflict (period_start) do update set usage_cutoff = excluded.usage_cutoff, run_id = excluded.run_id",
            {"month": month.start, "cutoff": cutoff, "run": run_id},
        )
    return changed


VANISHED = pa.schema(
    [("deployment_id", TEXT), ("resource_kind", TEXT), ("frozen_records", COUNT), ("remaining_records", COUNT)]
)
"""One row per deployment and resource kind with fewer records than the frozen usage counts."""

_ACCEPTED = pa.schema([*list(VANISHED)[:3], ("accepted_records", COUNT)])
_FROZEN_RECORDS = """
    select m.deployment_id, m.resource_kind, m.frozen_records,
           coalesce(a.remaining_records, m.frozen_records) as accepted_records
    from (
        select deployment_id, resource_kind,
               sum(record_count - unusable_records - duplicate_records)::bigint as frozen_records
        from billing.metered_usage where period_start = %(month)s group by 1, 2
    ) m
    left join (
        select distinct on (deployment_id, resource_kind) * from billing.usage_acceptances
        where period_start = %(month)s
          and usage_cutoff = (select usage_cutoff from billing.billing_months where period_start = %(month)s)
        order by deployment_id, resource_kind, id desc
    ) a using (deployment_id, resource_kind)
"""


def vanished(connection: Connection, month: BillingMonth, usage: pd.DataFrame) -> pd.DataFrame:
    """What `usage` (METERED_USAGE) lacks of the frozen usage and nobody has accepted as lost, as VANISHED, worst first.

    Corrections are records of their own: fewer records than were frozen mean that some were lost, or purged. Records
    that could not be used may go: removing them is how such a fault is mended.
    """
    before = bulk.read(connection, _FROZEN_RECORDS, _ACCEPTED, {"month": month.start})
    now = usage.groupby(["deployment_id", "resource_kind"], as_index=False)[["record_count"]].sum()
    both = before.merge(now, on=["deployment_id", "resource_kind"], how="left").fillna({"record_count": 0})
    lost = both[both["accepted_records"] > both["record_count"]]
    lost = lost.assign(remaining_records=lost["record_count"], lost=lost["frozen_records"] - lost["record_count"])
    return to_pandas(to_arrow(lost.sort_values("lost", ascending=False, kind="stable"), VANISHED))


def _refuse_vanished(connection: Connection, month: BillingMonth, usage: pd.DataFrame) -> None:
    lost = vanished(connection, month, usage)
    if len(lost):
        first = lost.iloc[0]
        raise UsageVanished(
            f"usage of {month} that is frozen has vanished for {len(lost)} deployments and kinds, first"
            f" {first['resource_kind']} of deployment {first['deployment_id']}: {first['frozen_records']} records, now"
            f" {first['remaining_records']}. Restore them; or accept it, by the job accept_vanished_usage"
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
        where period_start = %(start)s::date group by 1, 2
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


def frozen(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's frozen usage, as quote.USAGE."""
    return bulk.read(
        connection,
        "select * from billing.metered_usage where period_start = %(month)s",
        quote.USAGE,
        {"month": month.start},
    )


def now(connection: Connection) -> dt.datetime:
    """The database's clock, which stamps ingested_at too."""
    return cast("dt.datetime", connection.exec_driver_sql("select clock_timestamp()").scalar_one())


def cutoff_of(connection: Connection, month: BillingMonth) -> dt.datetime | None:
    """The cut-off of the month's frozen usage; None if the month is not frozen."""
    return connection.exec_driver_sql(
        "select usage_cutoff from billing.billing_months where period_start = %(month)s", {"month": month.start}
    ).scalar()
