"""Usage that no subscription or no rate covers: what it would have cost, and accepting that nobody pays for it.

Belongs here: the usage that nobody has accepted yet, and the acceptance. Does not: finding it (billing/quote.py), and
the usage of a tenant that is held back, which is billed once the fault is fixed.
"""

from collections.abc import Collection

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import QUANTITY_SUM, TEXT, WHOLE
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.catalogue import EVERY_DEPLOYMENT, bounds

UNBILLED = pa.schema(
    [
        ("tenant_id", TEXT),  # null: the deployment has no tenant
        ("deployment_name", TEXT),
        ("resource_kind", TEXT),
        ("quantity", QUANTITY_SUM),
        ("at_stake_cents", WHOLE),  # ex GST; null: no rate prices it
        ("reason", TEXT),
        ("deployment_id", TEXT),
    ]
)
"""One row per row of unbilled_usage that is not accepted, most at stake first."""

# Who would have paid: the deployment's active subscription; else the newest that the month bills; else the newest of
# all. At the plan's rate in effect in the month; else at the first later one.
OPEN = f"""
    with open as (
        select u.deployment_id, u.subscription_id, u.resource_kind, u.reason, u.quantity from billing.unbilled_usage u
        where u.period_start = %(month)s and u.reason <> 'tenant_held_back'
          and not exists (
              select from billing.unbilled_acceptances a
              where a.period_start = %(month)s and a.deployment_id = u.deployment_id
                and a.resource_kind = u.resource_kind and a.subscription_id is not distinct from u.subscription_id
                and a.cause = u.reason and a.quantity = u.quantity)
    ),
    owned as (
        select distinct on (o.deployment_id, o.resource_kind, o.subscription_id, o.reason)
               o.*, s.id as owner_id, s.tenant_id as owner_tenant_id, s.plan_id
        from open o
        left join cloud.subscriptions s
            on s.deployment_id = o.deployment_id and s.id = coalesce(o.subscription_id, s.id) and s.status <> 'pending'
        order by o.deployment_id, o.resource_kind, o.subscription_id, o.reason,
                 s.started_at < %(end)s and coalesce(s.ended_at, 'infinity') > %(start)s desc nulls last,
                 s.started_at desc nulls last, s.id
    ),
    rates as (
        select distinct on (tenant_id, plan_id, resource_kind) tenant_id, plan_id, resource_kind, included_quantity,
               case when coalesce(columns ->> 'charge_model', 'per_unit') = 'per_unit'
                     and coalesce(columns ->> 'pooled', 'false') = 'false'
                     and columns ->> 'maximum_cents' is null then unit_price_cents end as unit_price_cents
        from billing.rates()
        where included_quantity between 0 and 999999999999 and unit_price_cents between 0 and 9999999999
        order by tenant_id, plan_id, resource_kind, effective_from <= %(month)s desc,
                 case when effective_from <= %(month)s then effective_from end desc, effective_from
    ),
    used as (
        select subscription_id, resource_kind, sum(quantity) as quantity from billing.metered_usage
        where period_start = %(month)s
          and subscription_id in (select owner_id from owned where reason = 'no_subscription')
        group by 1, 2
    )
    select coalesce(o.owner_tenant_id, d.tenant_id) as tenant_id, d.name as deployment_name, o.resource_kind,
           o.quantity,
           round((greatest(coalesce(u.quantity, 0) + o.quantity - r.included_quantity, 0)
                  - greatest(coalesce(u.quantity, 0) - r.included_quantity, 0)) * r.unit_price_cents) as at_stake_cents,
           o.reason, o.deployment_id, o.subscription_id
    from owned o
    left join ({EVERY_DEPLOYMENT}) d on d.id = o.deployment_id
    left join lateral (
        select * from rates r where r.plan_id = o.plan_id and r.resource_kind = o.resource_kind
                                and coalesce(r.tenant_id, o.owner_tenant_id) = o.owner_tenant_id
        order by r.tenant_id limit 1
    ) r on true
    left join used u on u.subscription_id = o.owner_id and u.resource_kind = o.resource_kind
                    and o.reason = 'no_subscription'
"""
"""The usage of a month that nobody pays for, and that nobody has accepted. Takes `month`, `start` and `end`."""

WORST_FIRST = "coalesce(abs(at_stake_cents), 0) desc, abs(quantity) desc, deployment_id, resource_kind"

_OF_THESE = f"""
    select * from ({OPEN}) o
    where cardinality(%(deployments)s::text[]) = 0 or deployment_id::text = any(%(deployments)s::text[])
    order by {WORST_FIRST}
"""
_ACCEPT = f"""
    insert into billing.unbilled_acceptances
        (period_start, deployment_id, resource_kind, subscription_id, cause, quantity, at_stake_cents, operator, reason,
         run_id)
    select %(month)s, deployment_id, resource_kind, subscription_id, o.reason, quantity, at_stake_cents, %(operator)s,
           %(reason)s, %(run)s
    from ({_OF_THESE}) o
"""


def accept(connection: Connection, month: BillingMonth, deployments: Collection[str], author: Author) -> pd.DataFrame:
    """Accept that nobody pays for the month's unbilled usage, of these deployments or of all; returns it, as UNBILLED.

    It holds for this quantity: more of it is open again. The transaction must hold the month's lock.
    """
    parameters = {**bounds(month), "deployments": list(deployments)}
    accepted = bulk.read(connection, _OF_THESE, UNBILLED, parameters)
    who = {"operator": author.operator, "reason": author.reason, "run": author.run_id}
    connection.exec_driver_sql(_ACCEPT, {**parameters, **who})
    return accepted
