"""Which deployments each item of the provider's bill belongs to: by its resource, by its project, or to none.

Belongs here: which deployment has a part of an item, with which weight. Does not: splitting its cents (allocation.py).
"""

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import allocation
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, EVERY_DEPLOYMENT, bounds

# An item is claimed by the deployments that had its resource while it was billed. If these changed, it is cut into
# slices of time, each split by the shares that counted then. Time in which no deployment had the resource goes to the
# deployment after which the item's project is named, like an item with an unknown resource; else it is unallocated.
# Weights are whole numbers: microseconds, or millionths of them if the slices have different sums of shares.
CLAIMS = f"""
    with billed as (
        select line_no, amount_cents, project_name, resource_uuid, resource_id, started_at,
               greatest(ended_at, started_at + interval '1 microsecond') as ended_at
        from billing.cloud_invoice_items where period_start = %(month)s
    ),
    items as (
        select line_no, amount_cents, project_name, started_at, ended_at,
               (extract(epoch from ended_at - started_at) * 1000000)::numeric(38, 0) as time,
               case when exists (select from billing.deployment_resources r
                                 where r.resource_id = b.resource_uuid and r.started_at < b.ended_at
                                   and coalesce(r.ended_at, 'infinity') > b.started_at)
                    then resource_uuid else resource_id end as resource_id
        from billed b
    ),
    spans as (
        select i.line_no, i.resource_id, r.deployment_id, r.share, greatest(i.started_at, r.started_at) as started_at,
               least(i.ended_at, coalesce(r.ended_at, 'infinity')) as ended_at, count(*) over item as owners
        from items i join billing.deployment_resources r
            on r.resource_id = i.resource_id
           and r.started_at < i.ended_at and coalesce(r.ended_at, 'infinity') > i.started_at
        window item as (partition by i.line_no)
    ),
    cuts as (
        select line_no, at, lead(at) over (partition by line_no order by at) as until
        from (select line_no, started_at as at from spans where owners > 1
              union select line_no, ended_at from spans where owners > 1) c
    ),
    slices as (
        select line_no, resource_id, deployment_id, started_at, ended_at, share from spans where owners = 1
        union all
        select s.line_no, s.resource_id, s.deployment_id, c.at, c.until, max(s.share)
        from cuts c join spans s on s.line_no = c.line_no and s.started_at <= c.at and s.ended_at >= c.until
        group by 1, 2, 3, 4, 5
    ),
    shares as (
        select s.*, (extract(epoch from ended_at - started_at) * 1000000)::numeric(38, 0) as time,
               sum(share) over slice as of_share, count(*) over slice as sharers, row_number() over slice as nth
        from slices s window slice as (partition by line_no, started_at)
    ),
    used as (
        select deployment_id, resource_kind, (greatest(sum(quantity), 0) * 1000000)::numeric(38, 0) as quantity
        from billing.metered_usage where period_start = %(month)s
          and resource_kind in (select resource_kind from billing.cost_split_keys)
        group by 1, 2
    ),
    owners as (
        select line_no, deployment_id, k.resource_kind, sum(time * share) as by_share,
               sum(round(time * share * 1000000 / of_share)) as by_slice, coalesce(max(u.quantity), 0) as by_usage,
               min(of_share) as least_share, max(of_share) as most_share, max(sharers) as sharers,
               sum(time) filter (where nth = 1) as time
        from shares
        left join billing.cost_split_keys k using (resource_id)
        left join used u using (deployment_id, resource_kind)
        group by 1, 2, 3
    ),
    keyed as (
        select line_no, deployment_id,
               case when sum(by_usage) over item > 0 then resource_kind
                    when max(sharers) over item > 1 then 'share' else 'time' end as split_by,
               case when sum(by_usage) over item > 0 then by_usage
                    when min(least_share) over item = max(most_share) over item then by_share
                    else by_slice end as weight,
               sum(time) over item as covered
        from owners window item as (partition by line_no)
    ),
    claims as (
        select i.line_no, i.amount_cents, k.deployment_id, 'resource' as allocated_by, k.split_by,
               k.weight * case when k.covered < i.time then k.covered else 1 end as weight
        from items i join keyed k using (line_no)
        where k.weight > 0
        union all
        select i.line_no, i.amount_cents, d.id, case when d.id is null then 'nobody' else 'project' end, k.split_by,
               coalesce((i.time - k.covered) * k.weight, 1)
        from items i
        left join (select line_no, max(covered) as covered, max(split_by) as split_by, sum(weight) as weight
                   from keyed group by 1) k using (line_no)
        left join (select name, (array_agg(id))[1] as id from cloud.cloud_deployments group by 1 having count(*) = 1) d
            on d.name = i.project_name
        where k.line_no is null or k.covered < i.time
    )
    select c.line_no, c.amount_cents, c.deployment_id, coalesce(p.tenant_id, d.tenant_id) as tenant_id, c.allocated_by,
           case when count(*) over item > 1 then c.split_by end as split_by,
           (case when count(*) over item > 1 then c.weight else 1 end)::numeric(38, 0) as weight
    from claims c
    left join (select distinct on (deployment_id) deployment_id, tenant_id from ({BILLED_SUBSCRIPTIONS}) s
               order by deployment_id, started_at desc nulls last, id) p using (deployment_id)
    left join ({EVERY_DEPLOYMENT}) d on d.id = c.deployment_id
    window item as (partition by c.line_no)
"""
"""The claims on each item of the month's bill, as allocation.CLAIMS. Takes `month`, `start` and `end`."""


def read(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The claims on the items of the month's bill, as allocation.CLAIMS."""
    return bulk.read(connection, CLAIMS, allocation.CLAIMS, bounds(month))
