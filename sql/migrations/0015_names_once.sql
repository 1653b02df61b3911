-- A view of the platform's may show a deployment or a tenant twice: revenue and cost are theirs once all the same.

create or replace view billing.cost_vs_revenue_by_deployment as
select s.period_start, s.tenant_id, s.deployment_id,
       case when s.is_unallocated then 'unallocated'
            when s.deployment_id is not null then coalesce(s.deployment_name, d.name, '(deleted)')
            else s.deployment_name end as deployment_name,
       s.revenue_cents, c.cost_cents, s.revenue_cents - c.cost_cents as margin_cents,
       round(100 * (s.revenue_cents - c.cost_cents)::numeric / nullif(greatest(s.revenue_cents, 0), 0), 2) as margin_percent,
       m.reconciled
from (
    select period_start, tenant_id, deployment_id, is_unallocated, max(deployment_name) as deployment_name,
           sum(revenue_cents)::bigint as revenue_cents, sum(aud_cents)::bigint as aud_cents
    from (
        select period_start, tenant_id, deployment_id, false as is_unallocated, deployment_name, revenue_cents,
               null::bigint as aud_cents
        from billing.revenue_by_deployment
        union all
        select period_start, tenant_id, deployment_id, deployment_id is null, null, 0, aud_cents
        from billing.cost_allocations
    ) e
    group by period_start, tenant_id, deployment_id, is_unallocated
) s
join billing.cost_vs_revenue_by_month m using (period_start)
cross join lateral (select case when m.cost_cents is not null then coalesce(s.aud_cents, 0) end as cost_cents) c
left join (select id, min(name) as name from cloud.cloud_deployments group by id) d on d.id = s.deployment_id;

create or replace view billing.cost_vs_revenue_by_tenant as
select s.period_start, s.tenant_id,
       case when s.is_unallocated then 'unallocated' else coalesce(t.name, s.tenant_id, '(deleted)') end as tenant_name,
       s.revenue_cents, c.cost_cents, s.revenue_cents - c.cost_cents as margin_cents,
       round(100 * (s.revenue_cents - c.cost_cents)::numeric / nullif(greatest(s.revenue_cents, 0), 0), 2)
           as margin_percent,
       m.reconciled
from (
    select period_start, tenant_id, is_unallocated, sum(revenue_cents)::bigint as revenue_cents,
           sum(aud_cents)::bigint as aud_cents
    from (
        select period_start, tenant_id, false as is_unallocated, subtotal_cents as revenue_cents,
               null::bigint as aud_cents
        from billing.tenant_invoices where status in ('issued', 'paid')
        union all
        select period_start, tenant_id, deployment_id is null, 0, aud_cents from billing.cost_allocations
    ) e
    group by period_start, tenant_id, is_unallocated
) s
join billing.cost_vs_revenue_by_month m using (period_start)
cross join lateral (select case when m.cost_cents is not null then coalesce(s.aud_cents, 0) end as cost_cents) c
left join (select id, min(name) as name from cloud.tenants group by id) t on t.id = s.tenant_id;
