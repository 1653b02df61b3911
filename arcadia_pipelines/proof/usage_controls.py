"""Controls of a month's usage: that it is whole, and that all of it is included, billed, or said to be unbilled.

Belongs here: the controls of metered_usage and deployment_quotes. Does not: those of invoices (invoice_controls.py),
and when usage came (late.py). See control.py.
"""

from arcadia_pipelines.proof.control import Control
from arcadia_pipelines.storage import unbilled
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, EVERY_DEPLOYMENT, IS_TIMELESS
from arcadia_pipelines.storage.usage import EQUALS_RAW_RECORDS, WEIGHT
from arcadia_pipelines.storage.usage_records import RECEIVED

# What is included by plan and kind: by the tenant's own rate, or the list's; of part months their part.
_ALLOWANCES = """
    select * from (
        select distinct on (tenant_id, plan_id, resource_kind) tenant_id, plan_id, resource_kind, included_quantity,
               coalesce(columns ->> 'pooled', 'false') <> 'false' as pooled,
               tenant_id is not null and unit_price_cents is null as gives_back
        from billing.rates() where effective_from <= %(month)s
        order by tenant_id, plan_id, resource_kind, effective_from desc
    ) r where not gives_back
"""
_WITH_ALLOWANCE = f"""
            left join ({_ALLOWANCES}) own
                on own.tenant_id = s.tenant_id and own.plan_id = s.plan_id and own.resource_kind = m.resource_kind
            left join ({_ALLOWANCES}) list
                on list.tenant_id is null and list.plan_id = s.plan_id and list.resource_kind = m.resource_kind
            left join (select subscription_id, max(qty) as days, max(price_per) as in_all
                       from billing.deployment_quote_lines
                       where period_start = %(month)s and kind = 'plan_base' and price_per <> 1 group by 1) part
                on part.subscription_id = s.id
            cross join lateral (
                select pooled,
                       case when part.days is null then whole else round(whole * part.days / part.in_all, 6) end
                           as included_quantity
                from (select case when own.plan_id is null then list.included_quantity else own.included_quantity end
                                 as whole,
                             case when own.plan_id is null then coalesce(list.pooled, false) else own.pooled end
                                 as pooled) r
            ) r
"""
# A view may show two of one id.
_PLAN_OF = """
    select id, min(plan_id::text)::uuid as plan_id, min(tenant_id) as tenant_id from cloud.subscriptions group by id
"""
_UNBILLED = """
    select deployment_id, subscription_id, resource_kind, sum(quantity) as quantity
    from billing.unbilled_usage where period_start = %(month)s group by 1, 2, 3
"""

USAGE_EQUALS_RAW_RECORDS = Control(
    name="usage_equals_raw_records",
    asset="metered_usage",
    blocking=True,
    reads=("metered_usage",),
    description="The frozen usage equals a second count of the raw records, per deployment and resource kind.",
    remedy="Records were changed, or were being written while the month was frozen: materialise the month again.",
    unless=EQUALS_RAW_RECORDS,
    query=f"""
        with raw as (
            select deployment_id, resource_kind, count(*) as records,
                   coalesce(sum(case when abs(quantity) < 1e12 then quantity end), 0)::numeric(38, 6) as quantity
            from ({RECEIVED}) r group by 1, 2
        ),
        frozen as (
            select deployment_id, resource_kind, sum(record_count) as records, sum(quantity) as quantity
            from billing.metered_usage where period_start = %(month)s group by 1, 2
        )
        select deployment_id, resource_kind, raw.records as raw_records, frozen.records as frozen_records,
               raw.quantity as raw_quantity, frozen.quantity as frozen_quantity
        from raw full join frozen using (deployment_id, resource_kind)
        where (raw.records, raw.quantity) is distinct from (frozen.records, frozen.quantity)
        order by deployment_id, resource_kind
    """,
)

# The quantity of a line is what is billed of usage, but of packages, tiers and caps: those say what they are of.
_BY_RULE = "kind = 'overage' and (meta ? 'model' or unit = 'cap')"
_BILLED_USAGE = f"""
    select tenant_id, deployment_id, resource_kind, qty as quantity, meta ? 'pooled' as pooled
    from billing.deployment_quote_lines where period_start = %(month)s and kind = 'overage' and not ({_BY_RULE})
    union all
    select tenant_id, deployment_id, resource_kind,
           max((meta ->> 'used')::numeric - (meta ->> 'included')::numeric
               - coalesce((meta ->> 'pooled')::numeric, 0)), bool_or(meta ? 'pooled')
    from billing.deployment_quote_lines where period_start = %(month)s and {_BY_RULE}
    group by subscription_id, tenant_id, deployment_id, resource_kind
"""
# Of pooled kinds the sum per tenant is told: what all used beyond what all include, also those that used nothing.
_POOLS = f"""
    with m as (
        select s.tenant_id, m.resource_kind, sum(m.quantity) as metered
        from billing.metered_usage m
        left join ({_UNBILLED}) u
            on u.deployment_id = m.deployment_id and u.resource_kind = m.resource_kind
           and u.subscription_id is not distinct from m.subscription_id
        join ({_PLAN_OF}) s on s.id = m.subscription_id
        {_WITH_ALLOWANCE}
        where m.period_start = %(month)s and u.quantity is null and r.pooled group by 1, 2
    ),
    allowed as (
        select m.tenant_id, m.resource_kind, m.metered, sum(r.included_quantity) as included
        from m join ({BILLED_SUBSCRIPTIONS}) s on s.tenant_id = m.tenant_id
        {_WITH_ALLOWANCE}
        where r.pooled group by 1, 2, 3
    ),
    billed as (
        select tenant_id, resource_kind, sum(quantity) as overage from ({_BILLED_USAGE}) b where pooled group by 1, 2
    )
    select tenant_id, resource_kind, metered, included, overage
    from allowed full join billed using (tenant_id, resource_kind)
    where greatest(metered - included, 0) is distinct from coalesce(overage, 0)
"""

USAGE_IS_CONSERVED = Control(
    name="usage_is_conserved",
    asset="deployment_quotes",
    blocking=True,
    reads=("metered_usage", "unbilled_usage", "deployment_quote_lines"),
    description="Metered = included + overage + unbilled, per deployment and resource kind; pooled kinds per tenant.",
    remedy="The quotes do not fit the frozen usage: materialise the month again; if it stays, the engine is wrong.",
    unless=f"""
        select (
            select coalesce(sum({WEIGHT.format("m.")} * (
                       m.quantity - case when u.quantity is not null or r.included_quantity is null then 0
                                         when r.pooled then m.quantity
                                         else least(m.quantity, r.included_quantity) end)), 0)
            from billing.metered_usage m
            left join ({_UNBILLED}) u
                on u.deployment_id = m.deployment_id and u.resource_kind = m.resource_kind
               and u.subscription_id is not distinct from m.subscription_id
            left join ({_PLAN_OF}) s on s.id = m.subscription_id
            {_WITH_ALLOWANCE}
            where m.period_start = %(month)s
        ) = (
            select coalesce(sum({WEIGHT.format("")} * quantity), 0) from ({_BILLED_USAGE}) b where not pooled
        ) + (
            select coalesce(sum({WEIGHT.format("")} * quantity), 0) from billing.unbilled_usage
            where period_start = %(month)s
        ) and case when exists (select from billing.rates() where columns ->> 'pooled' <> 'false')
                   then not exists ({_POOLS}) else true end
    """,
    query=f"""
        with metered as (
            select deployment_id, subscription_id, resource_kind, sum(quantity) as quantity
            from billing.metered_usage where period_start = %(month)s group by 1, 2, 3
        ),
        overage as (
            select deployment_id, resource_kind, sum(quantity) as quantity from ({_BILLED_USAGE}) b
            where not pooled group by 1, 2
        ),
        unbilled as ({_UNBILLED}),
        allowed as (
            select m.deployment_id, m.resource_kind, sum(m.quantity) as metered, sum(u.quantity) as unbilled,
                   sum(case when r.pooled then m.quantity else least(m.quantity, r.included_quantity) end)
                       filter (where u.quantity is null and r.included_quantity is not null) as included
            from metered m
            left join unbilled u on u.deployment_id = m.deployment_id and u.resource_kind = m.resource_kind
                                and u.subscription_id is not distinct from m.subscription_id
            left join ({_PLAN_OF}) s on s.id = m.subscription_id
            {_WITH_ALLOWANCE}
            group by 1, 2
        )
        select null as tenant_id, deployment_id, resource_kind, a.metered, a.included, o.quantity as overage, a.unbilled
        from allowed a full join overage o using (deployment_id, resource_kind)
        where a.metered is distinct from coalesce(a.included, 0) + coalesce(o.quantity, 0) + coalesce(a.unbilled, 0)
        union all
        select tenant_id, null, resource_kind, metered, included, overage, null from ({_POOLS}) p
        order by 1, 2, 3
    """,
)

CONTROLS = [
    USAGE_EQUALS_RAW_RECORDS,
    Control(
        name="every_usage_record_has_a_time",
        asset="metered_usage",
        description="No record that came in the month lacks a time that can be read; nor, in the newest frozen month, "
        "one that came later, before the first billing month, or nobody knows when.",
        remedy="Correct recorded_at in usage_records, or remove them; then materialise the month again. A tenant that "
        "the month bills for the deployment is held back while they came in the month: its usage is not whole.",
        query=f"""
            select d.tenant_id, r.deployment_id, d.name as deployment_name, r.resource_kind, count(*) as records,
                   sum(r.quantity) as quantity, min(r.ingested_at)::text as ingested_from,
                   max(r.ingested_at)::text as ingested_until
            from cloud.usage_records r left join ({EVERY_DEPLOYMENT}) d on d.id = r.deployment_id
            where {IS_TIMELESS}
              and (ingested_at >= %(start)s and ingested_at < %(end)s
                   or (ingested_at >= %(first)s and ingested_at < %(end)s) is not true
                      and %(month)s >= (select max(period_start) from billing.billing_months))
            group by 1, 2, 3, 4 order by count(*) desc, 2, 4
        """,
    ),
    USAGE_IS_CONSERVED,
    Control(
        name="no_tenant_is_held_back",
        asset="deployment_quotes",
        description="No tenant has a fault that keeps it from being quoted and invoiced.",
        remedy="Mend what `detail` says, then materialise the month again: the tenant is invoiced then.",
        query="""
            select tenant_id, fault, detail, deployment_id, subscription_id, resource_kind
            from billing.quote_faults where period_start = %(month)s order by tenant_id, fault, detail
        """,
    ),
    Control(
        name="all_usage_is_billed",
        asset="deployment_quotes",
        warning=True,
        description="No usage is without a subscription or a rate that it could be billed by, unless that is accepted.",
        remedy="Add the missing rate or subscription, and materialise the month again; or accept that nobody pays for "
        "it, with the job accept_unbilled_usage (arcadia accept-unbilled-usage).",
        query=f"select {', '.join(unbilled.UNBILLED.names)} from ({unbilled.OPEN}) u order by {unbilled.WORST_FIRST}",
    ),
]
