"""Usage that was received since a month was frozen, added to its frozen usage without counting all of it again.

Belongs here: adding newer records, counting again the deployments that may need it, and checking by two sums
whether that was all. Does not: counting and freezing a month as a whole (storage/usage_records.py, usage.py),
which gives the same rows.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import usage, usage_records
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.usage import FROZEN_SUMS, RECOUNTED, WEIGHT, Replaced
from arcadia_pipelines.storage.usage_records import LAST_SUBSCRIPTIONS, OF_THE_MONTH, WAS_AHEAD

_WEIGHT = WEIGHT.format("")
_IS_NEWER = f"""
    (coalesce(ingested_at > (select usage_cutoff from billing.billing_months where period_start = %(month)s), false)
     and not {WAS_AHEAD})
"""
# Newer records usually lie together at the end of the table: they are found without a second scan of all others.
_SUM_RAW = f"""
    create temporary table raw_sums on commit drop as
    select newer, min(ctid)::text as first, sum(w) as records, sum(w * quantity) as quantity
    from (
        select {_IS_NEWER} as newer, ctid, quantity, {_WEIGHT} as w from cloud.usage_records r where {OF_THE_MONTH}
    ) r
    group by newer
"""
_FIRST_NEWER = "select first from raw_sums where newer"
_SUM_NEWER = f"""
    create temporary table newer on commit drop as
    select deployment_id, resource_kind, sum(quantity) as quantity, count(*) as record_count, count(quantity) as known
    from cloud.usage_records r where {OF_THE_MONTH} and {_IS_NEWER} and ctid >= %(first)s::tid group by 1, 2
"""
_EQUALS_RAW_SUMS = f"select (select (sum(records), sum(quantity)) from raw_sums) is not distinct from ({FROZEN_SUMS})"
_SUSPECTS = f"""
    select deployment_id, bool_or(recounted) as recounted
    from (
        select deployment_id, quantity = 'NaN' or known < record_count as recounted from newer
        union all
        select deployment_id, true from ({RECOUNTED}) r
    ) s
    group by deployment_id limit %(most)s
"""
_ADD_NEWER = f"""
    insert into {{counted}}
    select deployment_id, resource_kind, sum(quantity), subscription_id, sum(record_count), 0, 0
    from (
        select deployment_id, resource_kind, quantity, record_count from newer
        union all
        select deployment_id, resource_kind, quantity, record_count from billing.metered_usage
        where period_start = %(month)s and deployment_id in (select deployment_id from newer)
    ) u
    left join ({LAST_SUBSCRIPTIONS}) s using (deployment_id)
    group by deployment_id, resource_kind, subscription_id
"""
MOST_SUSPECTS = 50_000
"""If so many deployments are suspects, all usage is counted."""
_ARE_RECOUNTED = "deployment_id = any(%(recounted)s::uuid[])"
_ARE_SUSPECTS = "deployment_id = any(%(suspects)s::uuid[])"


@dataclass(frozen=True)
class Added:
    """What was written of the frozen usage, and where newer records lie: a condition on rows of cloud.usage_records."""

    replaced: Replaced
    pin: dict[str, Any] | None = None
    """What a usage source says that all of it is counted from; None: cloud.usage_records."""
    among: str = "ctid >= (select first::tid from raw_sums where newer)"


def add(connection: Connection, month: BillingMonth, cutoff: dt.datetime) -> Added | None:
    """Add newer records to the month's frozen usage, and compare the result with all raw records by a checksum.

    Returns None, and writes nothing, if all usage has to be counted: the month is not frozen, a view shows the records,
    much has changed, or a newer record may have taken the place of one that the frozen usage counts. Raises
    UsageVanished, LostRows.
    """
    if not usage.is_frozen(connection, month) or not usage_records.is_plain(connection):
        return None
    parameters = {**bounds(month), "cutoff": cutoff}
    connection.exec_driver_sql(_SUM_RAW, parameters)
    first = connection.exec_driver_sql(_FIRST_NEWER).scalar()
    connection.exec_driver_sql(_SUM_NEWER, {**parameters, "first": first})
    found = connection.exec_driver_sql(_SUSPECTS, {**parameters, "most": MOST_SUSPECTS}).all()
    if len(found) == MOST_SUSPECTS:
        return None
    recounted = [deployment for deployment, is_recounted in found if is_recounted]
    parameters = {**parameters, "suspects": [deployment for deployment, _ in found], "recounted": recounted}
    attempt = connection.begin_nested()
    counted = usage_records.count_thoroughly(connection, f"r.{_ARE_RECOUNTED}" if recounted else "false", parameters)
    connection.exec_driver_sql(f"delete from newer where {_ARE_RECOUNTED}", parameters)
    connection.exec_driver_sql(_ADD_NEWER.format(counted=counted.table), parameters)
    replaced = usage.replace_part(connection, month, counted, _ARE_SUSPECTS, parameters)
    if connection.exec_driver_sql(_EQUALS_RAW_SUMS, parameters).scalar_one():
        attempt.commit()
        return Added(replaced)
    attempt.rollback()
    return None
