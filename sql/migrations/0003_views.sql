-- What analysts query beside the tables. Amounts are cents AUD; revenue is ex GST.

create view billing.deployment_quotes as
select period_start, subscription_id, deployment_id, deployment_name, tenant_id,
       coalesce(sum(amount_cents) filter (where kind = 'plan_base'), 0)::bigint as plan_base_cents,
       coalesce(sum(amount_cents) filter (where kind = 'addon'), 0)::bigint     as addon_cents,
       coalesce(sum(amount_cents) filter (where kind = 'overage'), 0)::bigint   as overage_cents,
       sum(amount_cents)::bigint                                                as subtotal_cents,
       count(*)                                                                 as line_count
from billing.deployment_quote_lines
group by period_start, subscription_id, deployment_id, deployment_name, tenant_id;

comment on view billing.deployment_quotes is 'One row per month and subscription with its totals, cents AUD ex GST.';
comment on column billing.deployment_quotes.period_start is 'First day of the billing month, UTC.';
comment on column billing.deployment_quotes.subscription_id is 'The subscription that is quoted.';
comment on column billing.deployment_quotes.deployment_id is 'The deployment that the subscription is for.';
comment on column billing.deployment_quotes.deployment_name is 'Its name when it was quoted.';
comment on column billing.deployment_quotes.tenant_id is 'Who pays.';
comment on column billing.deployment_quotes.plan_base_cents is 'The plan''s base price.';
comment on column billing.deployment_quotes.addon_cents is 'All addons.';
comment on column billing.deployment_quotes.overage_cents is 'Usage beyond the allowance.';
comment on column billing.deployment_quotes.subtotal_cents is 'All lines, ex GST.';
comment on column billing.deployment_quotes.line_count is 'How many lines.';

create view billing.revenue_by_deployment as
select l.period_start, i.tenant_id, l.deployment_id, max(l.deployment_name) as deployment_name,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'plan_base'), 0)::bigint                as plan_base_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'addon'), 0)::bigint                    as addon_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'overage'), 0)::bigint                  as overage_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind in ('credit', 'adjustment')), 0)::bigint  as adjustment_cents,
       sum(l.amount_cents)::bigint                                                                 as revenue_cents
from billing.tenant_invoice_lines l
join billing.tenant_invoices i on i.id = l.invoice_id
where l.kind <> 'tax' and i.status in ('issued', 'paid')
group by l.period_start, i.tenant_id, l.deployment_id;

comment on view billing.revenue_by_deployment is
    'One row per month, tenant and deployment: revenue ex GST, cents AUD, of issued and paid invoices.';
comment on column billing.revenue_by_deployment.period_start is 'First day of the billing month, UTC.';
comment on column billing.revenue_by_deployment.tenant_id is 'Who pays.';
comment on column billing.revenue_by_deployment.deployment_id is
    'Null for tenant-level credits and adjustments, and for deployments deleted since.';
comment on column billing.revenue_by_deployment.deployment_name is 'Its name when it was invoiced.';
comment on column billing.revenue_by_deployment.plan_base_cents is 'Plans'' base prices.';
comment on column billing.revenue_by_deployment.addon_cents is 'Addons.';
comment on column billing.revenue_by_deployment.overage_cents is 'Usage beyond the allowance.';
comment on column billing.revenue_by_deployment.adjustment_cents is 'Credits and adjustments.';
comment on column billing.revenue_by_deployment.revenue_cents is 'The sum of the four, ex GST.';

create view billing.revenue_by_kind as
select l.period_start, i.tenant_id, coalesce(l.resource_kind, l.kind)                               as resource_kind,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'plan_base'), 0)::bigint                as plan_base_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'addon'), 0)::bigint                    as addon_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'overage'), 0)::bigint                  as overage_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind in ('credit', 'adjustment')), 0)::bigint  as adjustment_cents,
       sum(l.amount_cents)::bigint                                                                 as revenue_cents
from billing.tenant_invoice_lines l
join billing.tenant_invoices i on i.id = l.invoice_id
where l.kind <> 'tax' and i.status in ('issued', 'paid')
group by l.period_start, i.tenant_id, coalesce(l.resource_kind, l.kind);

comment on view billing.revenue_by_kind is
    'One row per month, tenant and resource kind: revenue ex GST, cents AUD, of issued and paid invoices.';
comment on column billing.revenue_by_kind.period_start is 'First day of the billing month, UTC.';
comment on column billing.revenue_by_kind.tenant_id is 'Who pays.';
comment on column billing.revenue_by_kind.resource_kind is
    'The metered kind of overage; plan_base, addon, credit or adjustment for lines that meter nothing.';
comment on column billing.revenue_by_kind.plan_base_cents is 'Plans'' base prices.';
comment on column billing.revenue_by_kind.addon_cents is 'Addons.';
comment on column billing.revenue_by_kind.overage_cents is 'Usage beyond the allowance.';
comment on column billing.revenue_by_kind.adjustment_cents is 'Credits and adjustments.';
comment on column billing.revenue_by_kind.revenue_cents is 'The sum of the four, ex GST.';
