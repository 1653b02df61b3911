"""What the platform sells and to whom, as of a month: subscriptions, addons, rates, tenants.

The price of a month is the one in effect at its first instant: the newest effective_from not after period_start.
"""

import datetime as dt

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import invoice, quote
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.streams import Query

BILLED_SUBSCRIPTIONS = """
    select * from cloud.subscriptions
    where status <> 'pending' and started_at < %(end)s
      and coalesce(ended_at, 'infinity') > greatest(started_at, %(start)s)
"""
"""The subscriptions that a month bills: [started_at, ended_at) overlaps it. Takes `start` and `end`."""

# A view may show a price since -infinity, or since a year before 1, which no program reads: it is none.
_PLAN_PRICES = """
    select distinct on (plan_id) plan_id, base_price_cents, effective_from
    from cloud.plan_prices where effective_from between '0001-01-01' and %(month)s
    order by plan_id, effective_from desc
"""
_ADDON_PRICES = """
    select distinct on (addon_id) addon_id, price_cents, effective_from
    from cloud.addon_prices where effective_from between '0001-01-01' and %(month)s
    order by addon_id, effective_from desc
"""
_SUBSCRIPTIONS = f"""
    with billed as ({BILLED_SUBSCRIPTIONS}),
    spans as (
        select *, greatest(started_at, %(start)s) as active_from,
               least(coalesce(ended_at, 'infinity'), %(end)s) as active_to
        from billed
    )
    select s.id as subscription_id, s.tenant_id, t.id is not null as tenant_exists, s.deployment_id,
           d.id is not null and owner.id is not null as deployment_exists,
           coalesce(d.name, s.deployment_id::text) as deployment_name,
           coalesce(lead(active_from) over by_start < active_to, false)
               or coalesce(max(active_to) over (by_start rows between unbounded preceding and 1 preceding)
                               > active_from, false) as overlapping,
           coalesce(p.code, s.plan_id::text) as plan, price.base_price_cents, price.effective_from
    from spans s
    left join cloud.tenants t on t.id = s.tenant_id
    left join cloud.cloud_deployments d on d.id = s.deployment_id
    left join cloud.tenants owner on owner.id = d.tenant_id
    left join cloud.plans p on p.id = s.plan_id
    left join ({_PLAN_PRICES}) price on price.plan_id = s.plan_id
    window by_start as (partition by s.deployment_id order by active_from, s.id)
"""
_ADDONS = f"""
    select a.id as subscription_addon_id, a.subscription_id, s.tenant_id, coalesce(x.code, a.addon_id::text) as addon,
           a.quantity, price.price_cents, price.effective_from
    from cloud.subscription_addons a
    join ({BILLED_SUBSCRIPTIONS}) s on s.id = a.subscription_id
    left join cloud.addons x on x.id = a.addon_id
    left join ({_ADDON_PRICES}) price on price.addon_id = a.addon_id
    where a.started_at < least(s.ended_at, %(end)s)
      and coalesce(a.ended_at, 'infinity') > greatest(a.started_at, s.started_at, %(start)s) and a.quantity <> 0
"""
# A view may show what numeric(18,6) and numeric(18,8) cannot hold, or since when no price is: -1 there, which is a
# fault of the rate.
RATES = """
    select distinct on (p.code, r.resource_kind) p.code as plan, r.resource_kind, r.unit,
           greatest(r.effective_from, '0001-01-01') as effective_from,
           case when r.included_quantity between 0 and 999999999999.999999
                 and r.included_quantity = round(r.included_quantity, 6) and r.effective_from >= '0001-01-01'
                then r.included_quantity else -1
           end as included,
           case when r.unit_price_cents between 0 and 9999999999.99999999
                 and r.unit_price_cents = round(r.unit_price_cents, 8) then r.unit_price_cents else -1
           end as unit_price_cents
    from cloud.plan_rates r join cloud.plans p on p.id = r.plan_id
    where r.effective_from <= %(month)s
    order by p.code, r.resource_kind, r.effective_from desc
"""
"""Every plan's rates in effect. Takes `month`."""
# What another program has put in without a reason may still have been issued without GST.
_TENANTS = """
    select t.id as tenant_id, status.gst_free_reason,
           jsonb_strip_nulls(jsonb_build_object('tenant_name', t.name, 'tenant_abn', t.abn,
                                                'gst_free_reason', status.gst_free_reason)) as meta
    from cloud.tenants t
    left join billing.tenant_invoices i
        on i.tenant_id = t.id and i.period_start = %(month)s and i.status in ('issued', 'paid')
    cross join lateral (select nullif(btrim(t.gst_free_reason), '') as reason) today
    cross join lateral (
        select case when i.id is null then today.reason
                    when i.meta ? 'gst_free_reason' then i.meta ->> 'gst_free_reason'
                    when today.reason is null or i.tax_cents <> 0
                         or exists (select from billing.tenant_invoice_lines l
                                    where l.invoice_id = i.id and l.period_start = %(month)s and l.kind = 'tax')
                        then null
                    else today.reason end as gst_free_reason
    ) status
"""

SUBSCRIPTIONS = Query(_SUBSCRIPTIONS, quote.SUBSCRIPTIONS)
"""What a month bills. Takes `start`, `end` and `month`."""
ADDONS = Query(_ADDONS, quote.ADDONS)
"""The addons of what a month bills, each for as long as its subscription is. Takes `start` and `end`."""
TENANTS = Query(_TENANTS, invoice.TENANTS)
"""Every tenant, with the GST status that its invoice of the month has, or gets: an issued one keeps the one that it was
issued with, until it is void. Takes `month`."""


class UnknownCode(Exception):
    """A plan or addon code that is not for sale in the month; the message lists those that are."""


def bounds(month: BillingMonth) -> dict[str, object]:
    """The queries' `start`, `end` (the month's first instant and the next one's, UTC) and `month` (its first day)."""
    start, end = (dt.datetime.combine(day, dt.time(), dt.UTC) for day in (month.start, month.end))
    return {"start": start, "end": end, "month": month.start}


def rates(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Every plan's rates in effect, as quote.RATES."""
    return bulk.read(connection, RATES, quote.RATES, bounds(month))


def plan_price(connection: Connection, plan: str, month: BillingMonth) -> tuple[int, dt.date]:
    """A plan's base price in cents and when it took effect. Raises UnknownCode."""
    prices = _price_list(
        connection,
        f"select code, base_price_cents, effective_from from cloud.plans p "
        f"join ({_PLAN_PRICES}) price on price.plan_id = p.id",
        month,
    )
    return _look_up("plan", plan, prices, month)


def addon_price(connection: Connection, addon: str, month: BillingMonth) -> tuple[int, dt.date]:
    """An addon's price in cents and when it took effect. Raises UnknownCode."""
    prices = _price_list(
        connection,
        f"select code, price_cents, effective_from from cloud.addons a "
        f"join ({_ADDON_PRICES}) price on price.addon_id = a.id",
        month,
    )
    return _look_up("addon", addon, prices, month)


def _price_list(connection: Connection, query: str, month: BillingMonth) -> dict[str, tuple[int, dt.date]]:
    return {code: (cents, since) for code, cents, since in connection.exec_driver_sql(query, bounds(month))}


def _look_up(what: str, code: str, prices: dict[str, tuple[int, dt.date]], month: BillingMonth) -> tuple[int, dt.date]:
    if code not in prices:
        raise UnknownCode(f"no {what} {code!r} with a price in {month}: there is {', '.join(sorted(prices)) or 'none'}")
    return prices[code]
