"""The records that the month's frozen usage does not count, for they came later, and those that are ahead of the clock.

Belongs here: finding them. Does not: freezing (usage.py), which says when it was; what they are worth (proof/late.py).
"""

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import COUNT, QUANTITY_SUM, TEXT, frame
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.usage import cutoff_of
from arcadia_pipelines.storage.usage_records import ACTIVE, RECORDS, SPANS, USABLE, Counted

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
