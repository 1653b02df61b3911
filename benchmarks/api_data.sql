-- One month of a made-up platform, written straight: an invoice per tenant and ten lines on each.
-- Run once per month with the parameters that benchmarks/api.py puts in: tenants, month, end and partition.

insert into billing.tenant_invoices
    (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents, total_cents, issued_at, invoice_number,
     content_sha256, usage_cutoff, run_id, meta)
select md5(n || '/{month}')::uuid, 'tenant-' || lpad(n::text, 7, '0'), '{month}', '{end}', 10000, 1000, 11000, now(),
       'INV-' || to_char(date '{month}', 'YYYYMM') || '-' || lpad(n::text, 7, '0'), md5(n::text) || md5(n || '{month}'),
       now(), 'benchmark', jsonb_build_object('tenant_name', 'Tenant ' || n, 'tenant_abn', '71690944157')
from generate_series(1, {tenants}) n;

create table {partition} (
    like billing.tenant_invoice_lines including defaults including constraints,
    constraint one_month check (period_start = date '{month}')
);
insert into {partition}
    (id, invoice_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents, meta,
     period_start, line_no, deployment_name)
select gen_random_uuid(), md5(n || '/{month}')::uuid, case when l < 10 then md5('deployment ' || n)::uuid end,
       case l when 1 then 'plan_base' when 10 then 'tax' else 'overage' end,
       case when l between 2 and 9 then 'kind_' || l end, 'Line ' || l, 10, 'hour', 100, 1000,
       '{{"used": "10.000000", "included": "0.000000", "effective_from": "2020-01-01"}}', '{month}', l, 'web-' || n
from generate_series(1, {tenants}) n, generate_series(1, 10) l;
alter table billing.tenant_invoice_lines attach partition {partition} for values from ('{month}') to ('{end}');
alter table {partition} drop constraint one_month;
