"""What the platform sells and to whom, as of a month: subscriptions, addons, rates, tenants.

The price of a month is the one in effect at its first instant: the newest effective_from not after period_start.

Belongs here: what the month end reads of the platform. Does not: the list of prices that people are shown
(price_list.py).
"""

import datetime as dt

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import invoice, models, quote
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import NotFound
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.streams import Query

# A view may show a null where there must be none: such a row is billed rather than passed over, and billing/quote.py
# finds the fault.
BILLED_SUBSCRIPTIONS = """
    select * from cloud.subscriptions
    where status is distinct from 'pending' and coalesce(started_at, '-infinity') < %(end)s
      and coalesce(ended_at, 'infinity') > greatest(started_at, %(start)s)
"""
"""The subscriptions that a month bills: [started_at, ended_at) overlaps it. Takes `start` and `end`."""

PAYERS = f"select id, min(tenant_id) as tenant_id from ({BILLED_SUBSCRIPTIONS}) s group by id"
"""Who pays for each subscription that a month bills; one of them if a view shows two. Takes `start` and `end`."""

# A view may also show a row twice that the contract says is there once. No price is read from either, and nothing is
# counted twice: whoever it concerns is held back.
_TENANTS_ONCE = """
    select id, min(name) as name, min(abn) as abn, min(gst_free_reason) as gst_free_reason, count(*) > 1 as twice,
           min(to_jsonb(t) ->> 'billing_address') as billing_address,
           min(to_jsonb(t) ->> 'billing_email') as billing_email
    from cloud.tenants t group by id
"""
EVERY_DEPLOYMENT = """
    select id, min(name) as name, min(tenant_id) as tenant_id, count(*) > 1 as twice
    from cloud.cloud_deployments group by id
"""
"""The platform's deployments, each once."""
CODES_ONCE = """
    select id, min(code) as code, count(*) > 1 as twice, bool_or(code_twice) as code_twice,
           min(coalesce(to_jsonb(c) ->> 'proration', 'none')) as proration
    from (select *, count(*) over (partition by code) > 1 as code_twice from cloud.{0}) c group by id
"""
_TWICE = "select id from cloud.{0} group by id having count(*) > 1"


def _whole(column: str, digits: int) -> str:
    """The column as a whole number of so many digits at most; null where it is none. A view may show any number."""
    return f"case when {column}::text ~ '^-?0*[0-9]{{1,{digits}}}([.]0*)?$' then {column}::text::numeric::bigint end"


def cents(column: str) -> str:
    """The column as cents; -1, which is a fault of the price, where it is another number than of whole cents."""
    return f"coalesce({_whole(column, 18)}, case when {column} is not null then -1 end)"


# A view may show a price since -infinity, or since a year before 1, which no program reads: it is none.
_PRICES = """
    select distinct on ({0}_id) {0}_id, {2} as {1}, effective_from,
           count(*) over (partition by {0}_id, effective_from) > 1 as twice
    from cloud.{0}_prices where effective_from between '0001-01-01' and %(month)s
    order by {0}_id, effective_from desc, 2
"""
PLAN_PRICES = _PRICES.format("plan", "base_price_cents", cents("base_price_cents"))
ADDON_PRICES = _PRICES.format("addon", "price_cents", cents("price_cents"))
"""The list's prices of plans and addons in effect; below 0: it is no price. Take `month`."""
# A tenant's own price stands for the list's, until one of null gives the list's back.
_OWN_PRICES = """
    select * from (
        select distinct on (tenant_id, {0}_id) tenant_id, {0}_id, {1} as cents, effective_from,
               count(*) over (partition by tenant_id, {0}_id, effective_from) > 1 as twice
        from billing.tenant_prices()
        where {0}_id is not null and effective_from between '0001-01-01' and %(month)s
        order by tenant_id, {0}_id, effective_from desc, 3
    ) p where cents is not null
"""
OWN_PLAN_PRICES = _OWN_PRICES.format("plan", cents("cents"))
OWN_ADDON_PRICES = _OWN_PRICES.format("addon", cents("cents"))
# What is before year 1 or after 9999, as the infinities are, no program reads.
IS_TIMELESS = """
    (recorded_at is null or recorded_at < '0001-01-01 00:00+00' or recorded_at >= '10000-01-01 00:00+00')
"""
"""Whether a usage record has no time that can be read."""
# Which month it is of cannot be told. It counts for the one in which it came: no more than one month is held up by it.
_TIMELESS = f"""
    select deployment_id,
           format('%%s of %%s', case count(*) when 1 then '1 record' else format('%%s records', count(*)) end,
                  coalesce(string_agg(distinct resource_kind, ', '), '(none)')) as records
    from cloud.usage_records
    where {IS_TIMELESS} and ingested_at >= %(start)s and ingested_at < %(end)s
    group by deployment_id
"""
IS_DAILY = "case p.proration when 'daily' then true when 'none' then false end"
# A month's days are counted from 1; what is active until midnight is not active on the day that begins then.
_FIRST_DAY = "extract(day from {0} at time zone 'UTC')::bigint"
_LAST_DAY = "extract(day from ({0} - interval '1 microsecond') at time zone 'UTC')::bigint"
_DAYS_IN_MONTH = _LAST_DAY.format("%(end)s::timestamptz")
_SUBSCRIPTIONS = f"""
    with billed as ({BILLED_SUBSCRIPTIONS}),
    spans as (
        select *, greatest(started_at, %(start)s) as active_from,
               least(coalesce(ended_at, 'infinity'), %(end)s) as active_to
        from billed
    ),
    tenants as (select id, count(*) > 1 as twice from cloud.tenants group by id)
    select coalesce(s.id, '00000000-0000-0000-0000-000000000000') as subscription_id, s.tenant_id,
           t.id is not null as tenant_exists, s.deployment_id,
           d.id is not null and owner.id is not null as deployment_exists,
           coalesce(d.name, s.deployment_id::text) as deployment_name,
           copied.id is null
               and (coalesce(lead(active_from) over by_start < active_to, false)
                    or coalesce(max(active_to) over (by_start rows between unbounded preceding and 1 preceding)
                                    > active_from, false)) as overlapping,
           num_nulls(s.id, s.status, s.started_at, s.deployment_id, s.plan_id) > 0 as incomplete,
           case when copied.id is not null then format('subscription %%s in subscriptions', s.id)
                when t.twice then format('tenant %%s in tenants', s.tenant_id)
                when d.twice then format('deployment %%s in cloud_deployments', s.deployment_id)
                when owner.twice then format('tenant %%s in tenants', owner.id)
                when p.twice then format('plan %%s in plans', s.plan_id)
                when p.code_twice then format('the plan code %%s in plans', p.code)
                when own.twice then format('tenant %%s''s own price of plan %%s since %%s in tenant_plan_prices',
                                           s.tenant_id, p.code, own.effective_from)
                when own.cents is null and price.twice
                    then format('the price of plan %%s since %%s in plan_prices', p.code, price.effective_from)
           end as twice,
           timeless.records as timeless,
           s.plan_id, coalesce(p.code, s.plan_id::text) as plan,
           coalesce(own.cents, base_price_cents) as base_price_cents,
           coalesce(own.effective_from, price.effective_from) as effective_from, own.cents is not null as own_price,
           {IS_DAILY} as daily,
           {_FIRST_DAY.format("active_from")} as first_day,
           {_LAST_DAY.format("active_to")}
               - ({_FIRST_DAY.format("lead(active_from) over by_start")} is not distinct from
                  {_LAST_DAY.format("active_to")})::int as last_day,
           {_DAYS_IN_MONTH} as days_in_month
    from spans s
    left join tenants t on t.id = s.tenant_id
    left join ({EVERY_DEPLOYMENT}) d on d.id = s.deployment_id
    left join tenants owner on owner.id = d.tenant_id
    left join ({CODES_ONCE.format("plans")}) p on p.id = s.plan_id
    left join ({PLAN_PRICES}) price on price.plan_id = s.plan_id
    left join ({OWN_PLAN_PRICES}) own on own.tenant_id = s.tenant_id and own.plan_id = s.plan_id
    left join ({_TWICE.format("subscriptions")}) copied on copied.id = s.id
    left join ({_TIMELESS}) timeless on timeless.deployment_id = s.deployment_id
    window by_start as (partition by s.deployment_id order by active_from, s.id)
"""
_ADDONS = f"""
    select a.id as subscription_addon_id, a.subscription_id, s.tenant_id, coalesce(x.code, a.addon_id::text) as addon,
           {_whole("a.quantity", 12)} as quantity, coalesce(own.cents, price.price_cents) as price_cents,
           coalesce(own.effective_from, price.effective_from) as effective_from, own.cents is not null as own_price,
           {_FIRST_DAY.format("greatest(a.started_at, s.started_at, %(start)s)")} as first_day,
           {_LAST_DAY.format("least(a.ended_at, s.ended_at, %(end)s)")} as last_day,
           num_nulls(a.id, a.started_at, a.addon_id, a.quantity) > 0 as incomplete,
           case when copied.id is not null then format('addon %%s in subscription_addons', a.id)
                when x.twice then format('addon %%s in addons', a.addon_id)
                when x.code_twice then format('the addon code %%s in addons', x.code)
                when own.twice then format('tenant %%s''s own price of addon %%s since %%s in tenant_addon_prices',
                                           s.tenant_id, x.code, own.effective_from)
                when own.cents is null and price.twice
                    then format('the price of addon %%s since %%s in addon_prices', x.code, price.effective_from)
           end as twice
    from cloud.subscription_addons a
    join ({BILLED_SUBSCRIPTIONS}) s on s.id = a.subscription_id
    left join ({CODES_ONCE.format("addons")}) x on x.id = a.addon_id
    left join ({ADDON_PRICES}) price on price.addon_id = a.addon_id
    left join ({OWN_ADDON_PRICES}) own on own.tenant_id = s.tenant_id and own.addon_id = a.addon_id
    left join ({_TWICE.format("subscription_addons")}) copied on copied.id = a.id
    where coalesce(a.started_at, '-infinity') < least(s.ended_at, %(end)s)
      and coalesce(a.ended_at, 'infinity') > greatest(a.started_at, s.started_at, %(start)s)
      and {_whole("a.quantity", 12)} is distinct from 0
"""
# A view may show what numeric(18,6) and numeric(18,8) cannot hold, or since when no price is: -1 there, which is a
# fault of the rate. Zeros behind their decimals, which Arrow would refuse, are cut off. A platform may lack the
# columns of charge models, which are read as JSON therefore.
_IS_AMOUNT = "({0} between 0 and {1} and {0} = round({0}, {2}))"
_IS_PRICE = _IS_AMOUNT.format("{0}", "9999999999.99999999", 8)
_IS_QUANTITY = _IS_AMOUNT.format("{0}", "999999999999.999999", 6)
_NUMBER = """
    case when r.columns ->> '{0}' ~ '^[0-9]{{1,12}}([.][0-9]{{1,6}}0*)?$' then (r.columns ->> '{0}')::numeric
         when r.columns ->> '{0}' is not null then -1 end
"""
_NEWEST = f"""
    select distinct on (tenant_id, plan_id, resource_kind) tenant_id, plan_id, resource_kind, unit, effective_from,
           count(*) over (partition by tenant_id, plan_id, resource_kind, effective_from) > 1 as twice,
           case when {_IS_QUANTITY.format("included_quantity")} and effective_from >= '0001-01-01'
                then included_quantity::numeric(18, 6) else -1 end as included,
           case when {_IS_PRICE.format("unit_price_cents")} then unit_price_cents::numeric(18, 8)
                else -1 end as unit_price_cents,
           coalesce(r.columns ->> 'charge_model', 'per_unit') as charge_model,
           {_NUMBER.format("package_size")} as package_size, {_NUMBER.format("maximum_cents")} as maximum_cents,
           coalesce(r.columns ->> 'pooled', 'false') <> 'false' as pooled,
           coalesce(r.columns ->> 'pooled', 'false') not in ('false', 'true') as is_pooled_unknown,
           tenant_id is not null and unit_price_cents is null as gives_back
    from billing.rates() r
    where effective_from <= %(month)s
    order by tenant_id, plan_id, resource_kind, effective_from desc, unit_price_cents is null, included_quantity,
             unit_price_cents, unit
"""
_TIERED = "('graduated', 'volume')"
_JUDGED = f"""
    with tiers as (
        select tenant_id, plan_id, resource_kind, effective_from, count(*) - count(up_to) as unbounded,
               bool_and(coalesce((up_to is null or {_IS_QUANTITY.format("up_to")} and up_to > 0)
                                 and {_IS_PRICE.format("unit_price_cents")}
                                 and {_IS_AMOUNT.format("flat_cents", "9999999999", 0)}, false)) as fit,
               count(*) > count(distinct coalesce(up_to, -1)) as twice
        from billing.rate_tiers() group by 1, 2, 3, 4
    ),
    judged as (
        select r.*, case
            when r.charge_model not in ('per_unit', 'package', 'graduated', 'volume')
                then format('has the charge_model %%s, which is none of per_unit, package, graduated and volume',
                            r.charge_model)
            when (r.charge_model = 'package') <> (r.package_size is not null) or r.package_size <= 0
                then 'has a package_size that is not above 0 for a package, and null for all else'
            when r.maximum_cents < 0 or r.maximum_cents <> trunc(r.maximum_cents) or r.maximum_cents >= 1e10
                then 'has a maximum_cents that is not a whole number of cents, from 0 to below 100 million dollars'
            when r.is_pooled_unknown then 'has a pooled that is neither true nor false'
            when r.charge_model in {_TIERED} and t.unbounded is null
                then format('is %%s, and has no tiers', r.charge_model)
            when r.charge_model not in {_TIERED} and t.unbounded is not null
                then format('has tiers, which a rate that is %%s does not use', r.charge_model)
            when t.twice then 'has two tiers with the same up_to'
            when t.unbounded = 0 then 'has no last tier, whose up_to is null'
            when not t.fit then 'has a tier whose up_to, unit_price_cents or flat_cents is out of range'
        end as wrong
        from ({_NEWEST}) r
        left join tiers t on t.tenant_id is not distinct from r.tenant_id and t.plan_id = r.plan_id
                         and t.resource_kind = r.resource_kind and t.effective_from = r.effective_from
        where not r.gives_back
    )
"""
RATES = f"""
    {_JUDGED}
    select tenant_id, plan_id, resource_kind, twice, included, unit, unit_price_cents,
           greatest(effective_from, '0001-01-01') as effective_from, charge_model,
           case when wrong is null then package_size::numeric(18, 6) end as package_size,
           case when wrong is null then maximum_cents::bigint end as maximum_cents, pooled, wrong
    from judged
"""
"""Every plan's rates in effect, and tenants' own. Takes `month`."""
TIERS = f"""
    {_JUDGED}
    select j.tenant_id, j.plan_id, j.resource_kind, row_number() over tiers as tier,
           coalesce(lag(t.up_to) over tiers, 0)::numeric(18, 6) as lower, t.up_to::numeric(18, 6) as up_to,
           t.unit_price_cents::numeric(18, 8) as tier_price_cents,
           t.flat_cents::bigint as flat_cents
    from judged j
    join billing.rate_tiers() t
        on t.tenant_id is not distinct from j.tenant_id and t.plan_id = j.plan_id
       and t.resource_kind = j.resource_kind and t.effective_from = j.effective_from
    where wrong is null and charge_model in {_TIERED}
    window tiers as (partition by j.tenant_id, j.plan_id, j.resource_kind order by t.up_to nulls last)
"""
"""The tiers of these rates. Takes `month`."""
GST_FREE = """(
    {0}.meta ? 'gst_free_reason'
    or {0}.tax_cents = 0
       and (select count(*) from billing.tenant_invoice_lines tax
            where tax.invoice_id = {0}.id and tax.period_start = {0}.period_start and tax.kind = 'tax') = 0
       and (exists (select from cloud.tenants t where t.id = {0}.tenant_id and btrim(t.gst_free_reason) <> '')
            or abs({0}.subtotal_cents) >= 5
               and billing.is_locked({0}) and {0}.status <> 'void'
               and (select count(*) from billing.invoice_events made
                    where made.invoice_id = {0}.id and made.event in ('issued', 'drafted')) = 0)
)"""
"""Whether an invoice is free of GST: it says why, or else it has no GST and no tax line, and either its tenant is free
today or it is another program's, is paid, delivered or pushed, and had GST been on it there would be some. Takes its
table's name.
"""
_TENANTS = f"""
    select t.id as tenant_id, status.gst_free_reason,
           jsonb_strip_nulls(jsonb_build_object('tenant_name', t.name, 'tenant_abn', t.abn,
                                                'billing_address', nullif(btrim(t.billing_address), ''),
                                                'billing_email', nullif(btrim(t.billing_email), ''),
                                                'gst_free_reason', status.gst_free_reason)) as meta
    from ({_TENANTS_ONCE}) t
    left join billing.tenant_invoices i
        on i.tenant_id = t.id and i.period_start = %(month)s and i.status in ('issued', 'paid')
    cross join lateral (select nullif(btrim(t.gst_free_reason), '') as reason) today
    cross join lateral (
        select case when i.id is null then today.reason
                    when {GST_FREE.format("i")}
                        then coalesce(i.meta ->> 'gst_free_reason', today.reason, 'issued without GST')
               end as gst_free_reason
    ) status
"""

SUBSCRIPTIONS = Query(_SUBSCRIPTIONS, quote.SUBSCRIPTIONS, at_most="select from cloud.subscriptions")
"""What a month bills. Takes `start`, `end` and `month`."""
ADDONS = Query(_ADDONS, quote.ADDONS)
"""The addons of what a month bills, each for as long as its subscription is. Takes `start` and `end`."""
TENANTS = Query(_TENANTS, invoice.TENANTS)
"""Every tenant, with the GST status that its invoice of the month has, or gets: an issued one keeps the one that it was
issued with, until it is void. Takes `month`."""


def bounds(month: BillingMonth) -> dict[str, object]:
    """The queries' `start`, `end` (the month's first instant and the next one's, UTC) and `month` (its first day)."""
    start, end = (dt.datetime.combine(day, dt.time(), dt.UTC) for day in (month.start, month.end))
    return {"start": start, "end": end, "month": month.start}


def rates(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Every plan's rates in effect, and every tenant's own, as quote.RATES."""
    return bulk.read(connection, RATES, quote.RATES, bounds(month))


def tiers(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The tiers of these rates, as models.TIERS."""
    return bulk.read(connection, TIERS, models.TIERS, bounds(month))


class UnknownTenant(NotFound):
    """There is no such tenant."""


def require_tenant(connection: Connection, tenant: str) -> None:
    """Raise UnknownTenant if the platform has no such tenant."""
    query = "select exists (select from cloud.tenants where id = %(tenant)s)"
    if not connection.exec_driver_sql(query, {"tenant": tenant}).scalar_one():
        raise UnknownTenant(f"there is no tenant {tenant!r}")


def tenant_of(connection: Connection, tenant: str) -> pd.DataFrame:
    """The tenant with its GST status of today, as invoice.TENANTS. Raises UnknownTenant."""
    query = "select * from billing.tenant_to_quote(%(tenant)s)"
    found = bulk.read(connection, query, invoice.TENANTS, {"tenant": tenant})
    if found.empty:
        raise UnknownTenant(f"there is no tenant {tenant!r}")
    return found
