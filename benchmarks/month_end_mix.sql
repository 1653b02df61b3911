-- The platform of month_end_data.sql with every kind of price: each charge model, a pool, maxima; a tenth of the
-- deployments with half a month, a tenth of the tenants with prices of their own, a fifth with a discount.

update cloud.plans set proration = 'daily';
update cloud.plan_rates set charge_model = 'graduated'
from cloud.plans where id = plan_id and code = 'plan_1' and resource_kind = 'droplet_hours';
update cloud.plan_rates set charge_model = 'package', package_size = 10
from cloud.plans where id = plan_id and code = 'plan_2' and resource_kind = 'egress_gb';
update cloud.plan_rates set charge_model = 'volume'
from cloud.plans where id = plan_id and code = 'plan_3' and resource_kind = 'storage_gb';
update cloud.plan_rates set maximum_cents = 100
from cloud.plans where id = plan_id and code = 'plan_4' and resource_kind = 'droplet_hours';
update cloud.plan_rates set pooled = true
from cloud.plans where id = plan_id and code in ('plan_4', 'plan_5') and resource_kind = 'egress_gb';
insert into cloud.plan_rate_tiers
select plan_id, resource_kind, effective_from, up_to, unit_price_cents * share, 0
from cloud.plan_rates, (values (50, 1), (200, 0.8), (null, 0.6)) tier(up_to, share)
where charge_model in ('graduated', 'volume');

update cloud.subscriptions set started_at = '2026-04-16 00:00+00' where mod(abs(hashtext(id::text)), 10) = 0;
delete from cloud.usage_records u using cloud.subscriptions s
where s.deployment_id = u.deployment_id and u.recorded_at < s.started_at;
insert into cloud.tenant_plan_prices
select t.id, plan_id, effective_from, base_price_cents * 9 / 10 from cloud.tenants t, cloud.plan_prices
where mod(abs(hashtext(t.id)), 10) = 0;
insert into cloud.discounts (tenant_id, percent, starts_on, description)
select id, 12.5, '2026-01-01', 'loyalty' from cloud.tenants where mod(abs(hashtext(id)), 5) = 1;
