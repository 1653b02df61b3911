-- The month end as one would write it by hand: the sums of usage, then invoices and lines in one statement.
-- Of the forms tried none was quicker: PostgreSQL sums in parallel, and knows how many sums there are.

set local parallel_leader_participation = off;  -- as the pipeline counts
create temporary table usage on commit drop as
select deployment_id, resource_kind, sum(quantity) as used
from cloud.usage_records where recorded_at >= %(month)s and recorded_at < %(end)s
group by deployment_id, resource_kind;
analyze usage;

with plan_prices as (
    select distinct on (plan_id) * from cloud.plan_prices
    where effective_from <= %(month)s order by plan_id, effective_from desc
),
plan_rates as (
    select distinct on (plan_id, resource_kind) * from cloud.plan_rates
    where effective_from <= %(month)s order by plan_id, resource_kind, effective_from desc
),
addon_prices as (
    select distinct on (addon_id) * from cloud.addon_prices
    where effective_from <= %(month)s order by addon_id, effective_from desc
),
billed as not materialized (
    select s.id, s.tenant_id, s.deployment_id, s.plan_id, d.name
    from cloud.subscriptions s join cloud.cloud_deployments d on d.id = s.deployment_id
    where s.status <> 'pending' and s.started_at < %(end)s and (s.ended_at is null or s.ended_at > %(month)s)
),
supplies as materialized (
    select b.tenant_id, b.deployment_id, b.name, 1 as place, 'plan_base' as kind, null as resource_kind,
           'Plan: ' || p.code as description, 1::numeric(18, 6) as qty, 'month' as unit,
           price.base_price_cents::numeric(27, 8) as unit_price_cents, price.base_price_cents as amount_cents,
           jsonb_build_object('effective_from', price.effective_from) as meta
    from billed b
    join cloud.plans p on p.id = b.plan_id
    join plan_prices price on price.plan_id = b.plan_id
    union all
    select b.tenant_id, b.deployment_id, b.name, 2, 'addon', null, 'Addon: ' || x.code, a.quantity, 'month',
           price.price_cents, a.quantity * price.price_cents, jsonb_build_object('effective_from', price.effective_from)
    from billed b
    join cloud.subscription_addons a on a.subscription_id = b.id
    join cloud.addons x on x.id = a.addon_id
    join addon_prices price on price.addon_id = a.addon_id
    where a.started_at < %(end)s and (a.ended_at is null or a.ended_at > %(month)s)
    union all
    select b.tenant_id, b.deployment_id, b.name, 3, 'overage', u.resource_kind, 'Overage: ' || u.resource_kind,
           u.used - r.included_quantity, r.unit, r.unit_price_cents,
           round((u.used - r.included_quantity) * r.unit_price_cents)::bigint,
           jsonb_build_object('used', u.used::text, 'included', r.included_quantity::text,
                              'effective_from', r.effective_from)
    from billed b
    join usage u on u.deployment_id = b.deployment_id
    join plan_rates r on r.plan_id = b.plan_id and r.resource_kind = u.resource_kind
    where u.used > r.included_quantity
),
invoices as (
    insert into baseline.invoices
        (tenant_id, period_start, period_end, subtotal_cents, tax_cents, total_cents, invoice_number, meta)
    select s.tenant_id, %(month)s, %(end)s, s.subtotal, tax, s.subtotal + tax,
           'INV-202604-' || lpad((row_number() over (order by s.tenant_id))::text, 7, '0'),
           jsonb_strip_nulls(jsonb_build_object('tenant_name', t.name, 'gst_free_reason', t.gst_free_reason))
    from (select tenant_id, sum(amount_cents)::bigint as subtotal from supplies group by tenant_id) s
    join cloud.tenants t on t.id = s.tenant_id,
    lateral (select case when t.gst_free_reason is null then round(s.subtotal * 0.10)::bigint else 0 end as tax) gst
    returning id, tenant_id, subtotal_cents, tax_cents, meta
)
insert into baseline.lines
    (invoice_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents, meta,
     period_start, line_no, deployment_name)
select i.id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit, l.unit_price_cents,
       l.amount_cents, l.meta, %(month)s,
       row_number() over (partition by l.tenant_id order by l.name, l.deployment_id, l.place, l.description), l.name
from (
    select * from supplies
    union all
    select tenant_id, null, null, 4, 'tax', null, 'GST 10%%', 1, null, tax_cents, tax_cents,
           jsonb_build_object('rate', '0.10', 'taxable_cents', subtotal_cents)
    from invoices where not meta ? 'gst_free_reason'
) l
join invoices i on i.tenant_id = l.tenant_id;
