-- A made-up platform of %(deployments)s deployments, two to a tenant, without its usage. The same seed, the same rows.
-- Five plans, three kinds. Three of four deployment and kind pairs use more than is included; every second deployment
-- has addons, two or three; one tenant in fifty is free of GST.

insert into cloud.tenants (id, name, gst_free_reason)
select 'tenant-' || lpad(n::text, 7, '0'), 'Tenant ' || n, case when mod(n, 50) = 0 then 'export' end
from generate_series(1, %(tenants)s) n;

insert into cloud.plans select md5(%(seed)s || 'plan' || n)::uuid, 'plan_' || n, 'Plan ' || n from generate_series(1, 5) n;
insert into cloud.plan_prices
select id, since, 1000 * right(code, 1)::integer * extract(month from since)
from cloud.plans, unnest(array[date '2026-01-01', '2026-03-01', '2026-06-01']) since;
insert into cloud.plan_rates
select id, kind, since, 240 * right(code, 1)::integer, unit, price * extract(month from since)
from cloud.plans, unnest(array[date '2026-01-01', '2026-03-01', '2026-06-01']) since,
     (values ('droplet_hours', 'hour', 0.248), ('egress_gb', 'GB', 0.3085), ('storage_gb', 'GB', 0.0925)) k(kind, unit, price);

insert into cloud.addons
select md5(%(seed)s || 'addon' || n)::uuid, 'addon_' || n, 'Addon ' || n from generate_series(1, 3) n;
insert into cloud.addon_prices select id, '2026-01-01', 250 * right(code, 1)::integer from cloud.addons;

create temporary table numbered as  -- its n gives a deployment its plan, addons and usage
select n, md5(%(seed)s || 'deployment' || n)::uuid as deployment_id, md5(%(seed)s || 'subscription' || n)::uuid as id,
       'tenant-' || lpad((1 + mod(n, %(tenants)s))::text, 7, '0') as tenant_id, 1 + mod(n, 5) as plan
from generate_series(1, %(deployments)s) n;

insert into cloud.cloud_deployments
select deployment_id, tenant_id, 'web-' || lpad(n::text, 7, '0') from numbered;
insert into cloud.subscriptions
select n.id, tenant_id, deployment_id, p.id, 'active', '2026-01-01', null
from numbered n join cloud.plans p on p.code = 'plan_' || n.plan;
insert into cloud.subscription_addons
select md5(%(seed)s || code || n)::uuid, numbered.id, a.id, 1, '2026-01-01', null
from numbered, cloud.addons a where mod(n, 2) = 0 and (code <> 'addon_3' or mod(n, 4) = 0);

-- One row per deployment and kind: what it uses a day, from half to two and a half times the allowance in the month.
create temporary table meters as
select n, deployment_id, kind,
       (plan * 8 * (0.5 + mod(abs(hashtextextended(kind || n, %(seed)s::bigint)), 1000) / 500.0))::numeric(18, 6) as daily
from numbered, unnest(array['droplet_hours', 'egress_gb', 'storage_gb']) kind;

-- Put back when all is loaded, which is quicker.
alter table cloud.usage_records drop constraint usage_records_pkey;
drop index cloud.usage_records_recorded_at_idx;
