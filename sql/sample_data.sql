-- Sample data: eighteen made-up tenants of Arcadia, January to October 2026, for the demo and for trying things out.
--
-- A pure function of this file. Ids are the md5 of a name, every "random" number is cut from an md5, every instant
-- is written in UTC: the same rows on any server, in any session, on any day. Loading it again adds nothing.
-- Nothing here holds a tenant back: every plan has its price, no two subscriptions of a deployment overlap, no month
-- of usage sums below zero. What is odd is odd the way real data is, and a comment says what it is there to show.

-- Who sells: made up too. Its ABN's check digits are right, its bank account is nobody's.

insert into billing.suppliers
    (effective_from, legal_name, abn, address, email, bank_account_name, bank_bsb, bank_account_number,
     payment_terms_days, logo_svg, operator, reason)
select date '2026-01-01', 'Arcadia Cloud Pty Ltd', '19642100001',
       E'Level 4, 18 Sample Street\nSydney NSW 2000\nAustralia', 'accounts@arcadia.example', 'Arcadia Cloud Pty Ltd',
       '000-000', '12345678', 14, null, 'sample data', 'the demo'
where not exists (select from billing.suppliers);

-- Tenants. Names and ABNs are invented; the ABNs' check digits are right.

insert into cloud.tenants (id, name, abn, gst_free_reason) values
    -- The worked example of design.md: April is 50.00 + 7.50 + 6.72.
    ('pilot', 'Pilot Studio Pty Ltd', '71690944157', null),
    -- Two deployments. A March overage that comes to exactly half a cent.
    ('wattle-press', 'Wattle Press Pty Ltd', '82656907931', null),
    -- Four deployments, each with its own allowance: what one leaves unused does not help another.
    ('kookaburra-analytics', 'Kookaburra Analytics Pty Ltd', '31958439512', null),
    -- The largest bill: every kind of usage, several of one addon.
    ('southern-cross-freight', 'Southern Cross Freight Lines Pty Ltd', '85951137096', null),
    -- A quote, an ampersand and an o-umlaut in the name (escaped, which keeps this file ASCII).
    ('obrien-soehne', U&'O''Brien & S\00F6hne Pty Ltd', '15658610579', null),
    -- GST-free: no tax line, and the reason on the invoice.
    ('coral-bay-exports', 'Coral Bay Exports Pty Ltd', '12217020808', 'Exported services, GST Act s 38-190'),
    -- Outgrew its plan in the middle of July: both plans are billed for July, each as a whole month.
    ('billabong-games', 'Billabong Games Pty Ltd', '45699880814', null),
    -- Left in the middle of June: a whole June on its last invoice, nothing from July on.
    ('mulga-mining', 'Mulga Mining Services Pty Ltd', '68272507949', null),
    -- Came in the middle of May: its first invoice is for a whole May.
    ('eucalypt-health', 'Eucalypt Health Co-operative Ltd', '58643771362', null),
    -- One deployment suspended since August, and billed all the same.
    ('banksia-legal', 'Banksia Legal Pty Ltd', '98250641788', null),
    -- One deployment still pending: never billed.
    ('tasman-robotics', 'Tasman Robotics Pty Ltd', '57177951622', null),
    -- One deployment off the air for the whole of July, one that has never been used.
    ('nullarbor-radio', 'Nullarbor Community Radio Inc', '14815767121', null),
    -- The meter counted too much in May, and a negative record puts it right.
    ('lorikeet-learning', 'Lorikeet Learning Pty Ltd', '71874386245', null),
    -- On the free plan: each invoice is 0.00, with its plan line and its tax line.
    ('jacaranda-florist', 'Jacaranda Florist Pty Ltd', '56148311023', null),
    -- No ABN. 18.50 + 3.95 = 22.45 a month, so its GST is 224.5 cents: half a cent, rounded up.
    ('yarrabee-surf-club', 'Yarrabee Surf Club', null, null),
    -- An addon for part of the year; a demo that ended at the first instant of September.
    ('quoll-pictures', 'Quoll Pictures Pty Ltd', '78956382053', null),
    -- From 14 July on a plan by the day: tiers, a maximum, and one pool of egress for both of its deployments.
    ('bluegum-robotics', 'Bluegum Robotics Pty Ltd', '67937462018', null),
    -- From July: a price of its own, an opening discount, sign-up credit; from October it has committed to a minimum.
    ('wombat-retail', 'Wombat Retail Pty Ltd', '63618250374', null)
on conflict do nothing;

-- Where their invoices go. The surf club has given no address; Quoll Pictures has no e-mail.
update cloud.tenants
set billing_email = case when id <> 'quoll-pictures' then 'accounts@' || id || '.example' end,
    billing_address = case when id <> 'yarrabee-surf-club' then
        1 + ('x' || left(md5(id), 4))::bit(16)::integer % 240 || ' '
        || (array['Wharf Street', 'Station Road', 'King William Parade', 'Ferry Lane'])[1 + length(id) % 4] || E'\n'
        || (array['Sydney NSW 2000', 'Melbourne VIC 3000', 'Brisbane QLD 4000', 'Perth WA 6000', 'Hobart TAS 7000'])
           [1 + ('x' || right(md5(id), 2))::bit(8)::integer % 5] end
where num_nonnulls(billing_email, billing_address) = 0 and exists (select from billing.suppliers where reason = 'the demo');

insert into cloud.cloud_deployments (id, tenant_id, name)
select md5(name)::uuid, tenant_id, name
from (values
    ('pilot', array['pilot-web']),
    ('wattle-press', array['wattle-shop', 'wattle-site']),
    ('kookaburra-analytics', array['kookaburra-api', 'kookaburra-staging', 'kookaburra-warehouse', 'kookaburra-web']),
    ('southern-cross-freight', array['freight-edi', 'freight-portal', 'freight-tracking']),
    ('obrien-soehne', array['o''brien''s web & shop', 'soehne-erp']),
    ('coral-bay-exports', array['coral-media', 'coral-orders']),
    ('billabong-games', array['billabong-arena', 'billabong-lobby']),
    ('mulga-mining', array['mulga-survey']),
    ('eucalypt-health', array['eucalypt-bookings', 'eucalypt-portal']),
    ('banksia-legal', array['banksia-docs', 'banksia-intranet']),
    ('tasman-robotics', array['tasman-arm', 'tasman-lab']),
    ('nullarbor-radio', array['nullarbor-archive', 'nullarbor-stream']),
    ('lorikeet-learning', array['lorikeet-classes', 'lorikeet-library']),
    ('jacaranda-florist', array['jacaranda-blog']),
    ('yarrabee-surf-club', array['yarrabee-web']),
    ('quoll-pictures', array['quoll-demo', 'quoll-render']),
    ('bluegum-robotics', array['bluegum-fleet', 'bluegum-lab']),
    ('wombat-retail', array['wombat-shop'])
) as owner (tenant_id, names)
cross join unnest(names) as name
on conflict do nothing;

-- Plans and addons, with their prices in cents.

insert into cloud.plans (id, code, name)
select md5(code)::uuid, code, name
from (values
    ('community', 'Community'), ('starter', 'Starter'), ('studio', 'Studio'),
    ('scale', 'Scale'), ('enterprise', 'Enterprise'), ('flex', 'Flex')
) as plan (code, name)
on conflict do nothing;

-- A part month of flex costs its days; of the others a whole month.
update cloud.plans set proration = 'daily' where code = 'flex' and proration <> 'daily';

insert into cloud.plan_prices (plan_id, effective_from, base_price_cents)
select md5(code)::uuid, effective_from, base_price_cents
from (values
    ('community', date '2025-07-01', 0),
    -- 16.00 was last year's price: it applies to no month of this data.
    ('starter', '2025-07-01', 1600),
    ('starter', '2026-01-01', 1850),
    -- The price rise of June 2026, base and droplet rate: April, worked out again after it, is still 50.00.
    ('studio', '2025-07-01', 5000),
    ('studio', '2026-06-01', 5500),
    ('scale', '2025-07-01', 19900),
    ('enterprise', '2025-07-01', 89000),
    ('flex', '2026-07-01', 3100)
) as price (code, effective_from, base_price_cents)
on conflict do nothing;

-- 744 hours are one droplet through a month of 31 days, 1,488 are two, and so on.
insert into cloud.plan_rates (plan_id, resource_kind, effective_from, included_quantity, unit, unit_price_cents)
select md5(code)::uuid, resource_kind, effective_from, included_quantity, unit, unit_price_cents
from (values
    ('community', 'droplet_hours', date '2025-07-01', 744, 'hour', 1.2),
    -- Below a cent an hour. Starter has no rate for egress_gb: such usage lands in unbilled_usage.
    ('starter', 'droplet_hours', '2025-07-01', 744, 'hour', 0.744),
    ('starter', 'storage_gb_months', '2025-07-01', 50, 'GB-month', 9),
    ('studio', 'droplet_hours', '2025-07-01', 1488, 'hour', 1),
    ('studio', 'droplet_hours', '2026-06-01', 1488, 'hour', 1.1),
    ('studio', 'egress_gb', '2025-07-01', 1000, 'GB', 1.5),
    -- New in July: before that, storage on the studio plan has no rate either.
    ('studio', 'storage_gb_months', '2026-07-01', 100, 'GB-month', 8.5),
    ('scale', 'droplet_hours', '2025-07-01', 2976, 'hour', 0.85),
    ('scale', 'storage_gb_months', '2026-01-01', 250, 'GB-month', 8),
    -- From August more is included, at the same price.
    ('scale', 'egress_gb', '2026-01-01', 2000, 'GB', 1.25),
    ('scale', 'egress_gb', '2026-08-01', 3000, 'GB', 1.25),
    -- Four dollars for 672 hours: a rate that needs all its decimals.
    ('enterprise', 'droplet_hours', '2025-07-01', 4464, 'hour', 0.59523810),
    ('enterprise', 'storage_gb_months', '2025-07-01', 1000, 'GB-month', 6.25),
    ('enterprise', 'egress_gb', '2025-07-01', 6000, 'GB', 0.9)
) as rate (code, resource_kind, effective_from, included_quantity, unit, unit_price_cents)
on conflict do nothing;

-- Flex: by the hour in tiers; egress pooled, 500 GB for each deployment; storage at most 20.00 a month.
insert into cloud.plan_rates
    (plan_id, resource_kind, effective_from, included_quantity, unit, unit_price_cents, charge_model, maximum_cents, pooled)
select md5('flex')::uuid, resource_kind, '2026-07-01', included_quantity, unit, unit_price_cents, charge_model, maximum_cents,
       pooled
from (values
    ('droplet_hours', 0, 'hour', 0, 'graduated', null::bigint, false),
    ('egress_gb', 500, 'GB', 1.5, 'per_unit', null, true),
    ('storage_gb_months', 50, 'GB-month', 9, 'per_unit', 2000, false)
) as rate (resource_kind, included_quantity, unit, unit_price_cents, charge_model, maximum_cents, pooled)
on conflict do nothing;

insert into cloud.plan_rate_tiers (plan_id, resource_kind, effective_from, up_to, unit_price_cents)
select md5('flex')::uuid, 'droplet_hours', '2026-07-01', up_to, unit_price_cents
from (values (744, 1.1), (2976, 0.9), (null, 0.75)) as tier (up_to, unit_price_cents)
on conflict do nothing;

insert into cloud.addons (id, code, name)
select md5(code)::uuid, code, name
from (values
    ('storage_50gb', 'Block storage, 50 GB'),
    ('reserved_ip', 'Reserved IP address'),
    ('backups_weekly', 'Weekly backups'),
    ('load_balancer', 'Load balancer'),
    ('support_business', 'Business-hours support')
) as addon (code, name)
on conflict do nothing;

insert into cloud.addon_prices (addon_id, effective_from, price_cents)
select md5(code)::uuid, effective_from, price_cents
from (values
    ('storage_50gb', date '2025-07-01', 750),
    ('reserved_ip', '2025-07-01', 395),
    -- Addons have price rises too.
    ('backups_weekly', '2025-07-01', 480),
    ('backups_weekly', '2026-07-01', 520),
    ('load_balancer', '2025-07-01', 1200),
    ('support_business', '2025-07-01', 25000)
) as price (code, effective_from, price_cents)
on conflict do nothing;

-- Subscriptions: a deployment on a plan, from its first instant up to but not including its last.

insert into cloud.subscriptions (id, tenant_id, deployment_id, plan_id, status, started_at, ended_at)
select md5(deployment || '/' || plan)::uuid, owned.tenant_id, owned.id, md5(plan)::uuid, status, started_at, ended_at
from (values
    ('pilot-web', 'studio', 'active', timestamptz '2025-12-01 00:00+00', null::timestamptz),
    ('wattle-shop', 'studio', 'active', '2025-08-18 23:05+00', null),
    ('wattle-site', 'starter', 'active', '2025-08-18 22:50+00', null),
    ('kookaburra-api', 'scale', 'active', '2025-07-21 01:30+00', null),
    ('kookaburra-staging', 'starter', 'active', '2025-07-21 01:45+00', null),
    ('kookaburra-warehouse', 'enterprise', 'active', '2025-09-02 04:10+00', null),
    ('kookaburra-web', 'studio', 'active', '2025-07-21 02:00+00', null),
    ('freight-edi', 'scale', 'active', '2025-10-06 00:20+00', null),
    ('freight-portal', 'studio', 'active', '2025-10-06 00:40+00', null),
    ('freight-tracking', 'enterprise', 'active', '2025-10-06 00:00+00', null),
    ('o''brien''s web & shop', 'studio', 'active', '2025-11-11 03:15+00', null),
    ('soehne-erp', 'scale', 'active', '2025-11-11 05:00+00', null),
    ('coral-media', 'studio', 'active', '2025-12-15 00:00+00', null),
    ('coral-orders', 'scale', 'active', '2025-12-15 00:00+00', null),
    -- A plan change: one subscription ends at the very instant the next one starts (14:00 in Sydney).
    ('billabong-arena', 'starter', 'cancelled', '2025-12-29 06:00+00', '2026-07-15 04:00+00'),
    ('billabong-arena', 'scale', 'active', '2026-07-15 04:00+00', null),
    ('billabong-lobby', 'studio', 'active', '2025-12-29 06:30+00', null),
    -- Cancelled today, and still billed for the months up to June when those are worked out again.
    ('mulga-survey', 'studio', 'cancelled', '2025-09-30 14:00+00', '2026-06-15 00:00+00'),
    ('eucalypt-portal', 'scale', 'active', '2026-05-14 00:00+00', null),
    -- Starts at the first instant of September: billed for September, not for August.
    ('eucalypt-bookings', 'starter', 'active', '2026-09-01 00:00+00', null),
    -- Suspended is not ended: the plan is billed on, with no usage.
    ('banksia-docs', 'studio', 'suspended', '2025-08-05 02:00+00', null),
    ('banksia-intranet', 'starter', 'active', '2025-08-05 02:10+00', null),
    -- Ordered in March and not delivered since.
    ('tasman-arm', 'scale', 'pending', '2026-03-10 00:00+00', null),
    ('tasman-lab', 'studio', 'active', '2025-12-01 00:00+00', null),
    ('nullarbor-archive', 'starter', 'active', '2025-10-20 09:00+00', null),
    ('nullarbor-stream', 'studio', 'active', '2025-10-20 09:00+00', null),
    ('lorikeet-classes', 'scale', 'active', '2025-12-08 01:00+00', null),
    ('lorikeet-library', 'starter', 'active', '2025-12-08 01:00+00', null),
    ('jacaranda-blog', 'community', 'active', '2025-12-24 20:00+00', null),
    ('yarrabee-web', 'starter', 'active', '2025-11-01 00:00+00', null),
    -- Ends at the first instant of September: August is its last month.
    ('quoll-demo', 'starter', 'cancelled', '2025-12-01 00:00+00', '2026-09-01 00:00+00'),
    ('quoll-render', 'enterprise', 'active', '2025-12-01 00:00+00', null),
    -- 18 days of July; of October 20, the last of which is not over at midnight.
    ('bluegum-fleet', 'flex', 'active', '2026-07-14 03:00+00', null),
    ('bluegum-lab', 'flex', 'cancelled', '2026-07-14 03:00+00', '2026-10-20 07:30+00'),
    ('wombat-shop', 'studio', 'active', '2026-07-01 00:00+00', null)
) as subscription (deployment, plan, status, started_at, ended_at)
join cloud.cloud_deployments as owned on owned.id = md5(deployment)::uuid
on conflict do nothing;

insert into cloud.subscription_addons (id, subscription_id, addon_id, quantity, started_at, ended_at)
select md5(subscription || '/' || addon)::uuid, md5(subscription)::uuid, md5(addon)::uuid, quantity,
       started_at, ended_at
from (values
    ('pilot-web/studio', 'storage_50gb', 1, timestamptz '2025-12-01 00:00+00', null::timestamptz),
    ('kookaburra-api/scale', 'load_balancer', 2, '2025-07-21 01:30+00', null),
    ('kookaburra-warehouse/enterprise', 'storage_50gb', 4, '2025-09-02 04:10+00', null),
    ('freight-tracking/enterprise', 'load_balancer', 3, '2025-10-06 00:00+00', null),
    ('freight-tracking/enterprise', 'support_business', 1, '2025-10-06 00:00+00', null),
    ('soehne-erp/scale', 'backups_weekly', 1, '2025-11-11 05:00+00', null),
    ('coral-orders/scale', 'backups_weekly', 2, '2025-12-15 00:00+00', null),
    -- Belongs to the new plan only.
    ('billabong-arena/scale', 'load_balancer', 1, '2026-07-15 04:00+00', null),
    ('mulga-survey/studio', 'backups_weekly', 1, '2025-09-30 14:00+00', '2026-06-15 00:00+00'),
    -- Until the first instant of July: June is the last month it is billed for.
    ('lorikeet-classes/scale', 'support_business', 1, '2026-02-01 00:00+00', '2026-07-01 00:00+00'),
    ('yarrabee-web/starter', 'reserved_ip', 1, '2025-11-01 00:00+00', null),
    -- From within April to within August: billed for both as whole months.
    ('quoll-render/enterprise', 'storage_50gb', 2, '2026-04-10 03:00+00', '2026-08-20 22:00+00')
) as subscription_addon (subscription, addon, quantity, started_at, ended_at)
on conflict do nothing;

-- What wombat-retail agreed to: 49.00 and not 55.00 for the plan; a fifth off its first three months; from October 90.00 at
-- least.

insert into cloud.tenant_plan_prices (tenant_id, plan_id, effective_from, base_price_cents)
values ('wombat-retail', md5('studio')::uuid, '2026-07-01', 4900)
on conflict do nothing;
insert into cloud.discounts (id, tenant_id, percent, starts_on, ends_on, description)
values (md5('wombat-retail/opening')::uuid, 'wombat-retail', 20, '2026-07-01', '2026-10-01', 'opening offer')
on conflict do nothing;
insert into cloud.commitments (id, tenant_id, minimum_cents, starts_on)
values (md5('wombat-retail/minimum')::uuid, 'wombat-retail', 9000, '2026-10-01')
on conflict do nothing;
insert into billing.credit_grants (id, tenant_id, amount_cents, expires_on, description, operator, reason, granted_at)
values (md5('wombat-retail/sign-up')::uuid, 'wombat-retail', 6000, '2026-12-31', 'sign-up credit', 'sample data',
        'everybody who signs up in July gets it', '2026-07-01 00:00+00')
on conflict do nothing;

-- Usage: one record a day from each meter, an hour on its way.
--
-- A row says that so many meters of a name ran from the first to the last day, each with so much a day: hours, GB
-- sent, or GB held (recorded as that day's share of the month). With a swing of 0.5 a day has between half and one
-- and a half of it, to six decimals.
-- Records come between 06:00 and 18:00, except from a name's first meter, which is read on the month's edges too: on
-- the first day at its first instant, on the last day a microsecond before the next month. The day belongs to this
-- month all the same.

insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at, ingested_at)
with meters (deployment, resource_kind, meter, meters, per_day, swing, first_day, last_day) as (values
    -- Two droplets at least, three from March to August, four in June and July. April: 3 x 30 x 24 = 2,160 hours.
    -- January is exactly the allowance, February and September are below it: no overage line.
    ('pilot-web', 'droplet_hours', 'web', 2, 24, 0.0, date '2026-01-01', date '2026-10-31'),
    ('pilot-web', 'droplet_hours', 'worker', 1, 24, 0, '2026-03-01', '2026-08-31'),
    ('pilot-web', 'droplet_hours', 'campaign', 1, 24, 0, '2026-06-01', '2026-07-31'),
    ('pilot-web', 'droplet_hours', 'festival', 1, 24, 0, '2026-10-01', '2026-10-31'),

    -- wattle-site alone uses its allowance to the hour. In March a reprint took 62.5 hours more, at 0.744 c 46.5 c.
    ('wattle-shop', 'droplet_hours', 'shop', 2, 24, 0, '2026-01-01', '2026-10-31'),
    ('wattle-shop', 'droplet_hours', 'thumbnails', 1, 8, 0.5, '2026-01-01', '2026-10-31'),
    ('wattle-site', 'droplet_hours', 'site', 1, 24, 0, '2026-01-01', '2026-10-31'),
    ('wattle-site', 'droplet_hours', 'reprint', 1, 12.5, 0, '2026-03-09', '2026-03-13'),

    -- The API is over its allowance and staging under. Staging's egress has no rate, all year.
    ('kookaburra-api', 'droplet_hours', 'api', 4, 24, 0, '2026-01-01', '2026-10-31'),
    ('kookaburra-api', 'droplet_hours', 'autoscaled', 2, 9, 0.9, '2026-01-01', '2026-10-31'),
    ('kookaburra-api', 'egress_gb', 'edge', 1, 110, 0.4, '2026-01-01', '2026-10-31'),
    ('kookaburra-staging', 'droplet_hours', 'staging', 1, 10, 0.3, '2026-01-01', '2026-10-31'),
    ('kookaburra-staging', 'egress_gb', 'edge', 1, 3, 0.8, '2026-01-01', '2026-10-31'),
    ('kookaburra-warehouse', 'droplet_hours', 'node', 6, 24, 0, '2026-01-01', '2026-10-31'),
    ('kookaburra-warehouse', 'droplet_hours', 'node-new', 2, 24, 0, '2026-06-10', '2026-10-31'),
    ('kookaburra-warehouse', 'storage_gb_months', 'volume', 1, 1600, 0.05, '2026-01-01', '2026-10-31'),
    ('kookaburra-web', 'droplet_hours', 'web', 1, 24, 0, '2026-01-01', '2026-10-31'),

    ('freight-tracking', 'droplet_hours', 'tracking', 7, 24, 0, '2026-01-01', '2026-10-31'),
    ('freight-tracking', 'egress_gb', 'edge', 1, 260, 0.3, '2026-01-01', '2026-10-31'),
    ('freight-tracking', 'storage_gb_months', 'volume', 1, 1150, 0.02, '2026-01-01', '2026-10-31'),
    ('freight-edi', 'droplet_hours', 'edi', 2, 24, 0, '2026-01-01', '2026-10-31'),
    ('freight-edi', 'storage_gb_months', 'volume', 1, 300, 0.1, '2026-01-01', '2026-10-31'),
    ('freight-portal', 'droplet_hours', 'portal', 2, 24, 0, '2026-01-01', '2026-10-31'),
    ('freight-portal', 'egress_gb', 'edge', 1, 36, 0.6, '2026-01-01', '2026-10-31'),
    ('o''brien''s web & shop', 'droplet_hours', 'shop', 2, 24, 0, '2026-01-01', '2026-10-31'),
    ('o''brien''s web & shop', 'egress_gb', 'edge', 1, 20, 0.7, '2026-01-01', '2026-10-31'),
    ('soehne-erp', 'droplet_hours', 'erp', 3, 24, 0, '2026-01-01', '2026-10-31'),
    ('soehne-erp', 'droplet_hours', 'reports', 2, 14, 0.6, '2026-01-01', '2026-10-31'),
    ('soehne-erp', 'storage_gb_months', 'volume', 1, 400, 0.1, '2026-01-01', '2026-10-31'),

    -- coral-media holds 160 GB: unbilled up to June, 60 GB over the allowance from July, when the rate came.
    ('coral-media', 'droplet_hours', 'media', 2, 24, 0, '2026-01-01', '2026-10-31'),
    ('coral-media', 'egress_gb', 'edge', 1, 55, 0.5, '2026-01-01', '2026-10-31'),
    ('coral-media', 'storage_gb_months', 'volume', 1, 160, 0, '2026-01-01', '2026-10-31'),
    ('coral-orders', 'droplet_hours', 'orders', 4, 24, 0, '2026-01-01', '2026-10-31'),
    ('coral-orders', 'droplet_hours', 'harvest', 1, 18, 0.3, '2026-03-15', '2026-06-20'),

    -- Five droplets: four more than starter includes, one more than scale does. Egress is unbilled until the change.
    ('billabong-arena', 'droplet_hours', 'arena', 5, 24, 0, '2026-01-01', '2026-10-31'),
    ('billabong-arena', 'egress_gb', 'edge', 1, 130, 0.6, '2026-01-01', '2026-10-31'),
    ('billabong-lobby', 'droplet_hours', 'lobby', 2, 20, 0.2, '2026-01-01', '2026-10-31'),

    ('mulga-survey', 'droplet_hours', 'survey', 3, 24, 0, '2026-01-01', '2026-06-14'),
    ('eucalypt-portal', 'droplet_hours', 'portal', 4, 24, 0, '2026-05-14', '2026-10-31'),
    ('eucalypt-portal', 'droplet_hours', 'imaging', 2, 7, 0.8, '2026-05-14', '2026-10-31'),
    ('eucalypt-bookings', 'droplet_hours', 'bookings', 1, 24, 0, '2026-09-01', '2026-10-31'),
    ('banksia-docs', 'droplet_hours', 'docs', 2, 24, 0, '2026-01-01', '2026-07-31'),
    ('banksia-docs', 'droplet_hours', 'discovery', 1, 11, 0.4, '2026-02-01', '2026-05-31'),
    ('banksia-intranet', 'droplet_hours', 'intranet', 1, 24, 0, '2026-01-01', '2026-10-31'),
    ('tasman-lab', 'droplet_hours', 'lab', 2, 24, 0, '2026-01-01', '2026-10-31'),
    ('tasman-lab', 'droplet_hours', 'simulation', 1, 13, 0.8, '2026-01-01', '2026-10-31'),

    -- No record at all in July, and never one of nullarbor-archive.
    ('nullarbor-stream', 'droplet_hours', 'stream', 2, 24, 0, '2026-01-01', '2026-06-30'),
    ('nullarbor-stream', 'egress_gb', 'listeners', 1, 80, 0.5, '2026-01-01', '2026-06-30'),
    ('nullarbor-stream', 'droplet_hours', 'stream', 2, 24, 0, '2026-08-01', '2026-10-31'),
    ('nullarbor-stream', 'egress_gb', 'listeners', 1, 95, 0.5, '2026-08-01', '2026-10-31'),

    ('lorikeet-classes', 'droplet_hours', 'classes', 4, 24, 0, '2026-01-01', '2026-10-31'),
    ('lorikeet-classes', 'droplet_hours', 'exams', 2, 16, 0.5, '2026-05-04', '2026-06-26'),
    ('lorikeet-classes', 'egress_gb', 'video', 1, 85, 0.9, '2026-02-01', '2026-10-31'),
    ('lorikeet-library', 'droplet_hours', 'library', 1, 24, 0, '2026-01-01', '2026-10-31'),
    ('jacaranda-blog', 'droplet_hours', 'blog', 1, 6, 0.7, '2026-01-01', '2026-10-31'),
    ('yarrabee-web', 'droplet_hours', 'web', 1, 22, 0.05, '2026-01-01', '2026-10-31'),
    ('quoll-demo', 'droplet_hours', 'demo', 1, 24, 0, '2026-01-01', '2026-08-31'),
    ('quoll-render', 'droplet_hours', 'render', 5, 24, 0, '2026-01-01', '2026-10-31'),
    ('quoll-render', 'droplet_hours', 'burst', 2, 15, 0.6, '2026-01-01', '2026-10-31'),
    ('quoll-render', 'storage_gb_months', 'volume', 1, 2400, 0.1, '2026-01-01', '2026-10-31'),

    -- Six droplets reach the third tier from August. The lab sends little, and the fleet uses what it leaves.
    ('bluegum-fleet', 'droplet_hours', 'node', 6, 24, 0, '2026-07-15', '2026-10-31'),
    ('bluegum-fleet', 'egress_gb', 'edge', 1, 28, 0.3, '2026-07-15', '2026-10-31'),
    ('bluegum-fleet', 'storage_gb_months', 'volume', 1, 400, 0, '2026-07-15', '2026-10-31'),
    ('bluegum-lab', 'droplet_hours', 'lab', 1, 20, 0.2, '2026-07-15', '2026-10-19'),
    ('bluegum-lab', 'egress_gb', 'edge', 1, 4, 0.5, '2026-07-15', '2026-10-19'),
    ('wombat-shop', 'droplet_hours', 'shop', 2, 24, 0, '2026-07-01', '2026-10-31'),
    ('wombat-shop', 'droplet_hours', 'sale', 1, 12, 0.5, '2026-07-01', '2026-08-31'),

    -- Nobody's: no such deployment in cloud_deployments, so no subscription either.
    ('ghost-web', 'droplet_hours', 'ghost', 1, 24, 0, '2026-03-20', '2026-04-12'),
    ('ghost-web', 'egress_gb', 'edge', 1, 2, 0.5, '2026-03-20', '2026-04-12')
),
days as (
    select meters.*, number, day, extract(day from day)::integer as day_of_month,
           extract(day from date_trunc('month', day) + interval '1 month' - interval '1 day')::integer as days_in_month,
           md5(concat_ws('/', deployment, resource_kind, meter, number, to_char(day, 'YYYY-MM-DD'))) as hash
    from meters
    cross join generate_series(1, meters.meters) as number
    -- Timestamps without a zone: the session's time zone has no say.
    cross join generate_series(first_day::timestamp, last_day::timestamp, interval '1 day') as day
),
draws as (
    -- Seven hexadecimal digits make an integer: from one a minute of twelve hours, from the next a number in [-1, 1].
    select days.*,
           mod(('x' || substr(hash, 1, 7))::bit(28)::integer, 720) as minute,
           mod(('x' || substr(hash, 8, 7))::bit(28)::integer, 2000001) * 0.000001 - 1 as deviation
    from days
),
readings as (
    select hash::uuid as id, deployment, resource_kind,
           round(per_day * (1 + swing * deviation)
                     / case resource_kind when 'storage_gb_months' then days_in_month else 1 end, 6) as quantity,
           (day + case
               when number = 1 and day_of_month = 1 then interval '0'
               when number = 1 and day_of_month = days_in_month then interval '23:59:59.999999'
               else interval '6 hours' + minute * interval '1 minute'
           end) at time zone 'UTC' as recorded_at
    from draws
),
by_hand (deployment, resource_kind, quantity, recorded_at) as (values
    -- At the very instant of the plan change: the new plan's.
    ('billabong-arena', 'droplet_hours', 3.5, timestamptz '2026-07-15 04:00:00+00'),
    -- Its droplet outlived its subscription: from the instant that ended, no subscription covers these.
    ('mulga-survey', 'droplet_hours', 24, '2026-06-15 00:00:00+00'),
    ('mulga-survey', 'droplet_hours', 24, '2026-06-16 12:00:00+00'),
    ('mulga-survey', 'droplet_hours', 7.283611, '2026-06-17 07:17:01+00'),
    ('mulga-survey', 'droplet_hours', 24, '2026-07-02 12:00:00+00'),
    -- A correction: an exam droplet was stopped while the meter ran on. May as a whole stays well above zero.
    ('lorikeet-classes', 'droplet_hours', -18.254167, '2026-05-20 10:00:00+00')
),
records as (
    select id, deployment, resource_kind, quantity, recorded_at from readings
    union all
    select md5(concat_ws('/', deployment, resource_kind, 'by hand', extract(epoch from recorded_at)::bigint))::uuid,
           deployment, resource_kind, quantity, recorded_at
    from by_hand
)
select id, md5(deployment)::uuid, resource_kind, quantity, recorded_at, recorded_at + interval '1 hour'
from records
on conflict do nothing;

-- The cost side. The provider's bills are files, sql/sample_bills: import them. What they cannot say: whose their
-- resources were, and what a dollar was worth.

insert into billing.deployment_resources (resource_id, deployment_id, started_at, ended_at, share)
select md5(name || '/' || what || '/' || number)::uuid::text, id, '2025-07-01 00:00+00', null, 1
from cloud.cloud_deployments,
     (values ('droplet', 8), ('volume', 1)) as resources (what, most),
     generate_series(1, most) as number
-- Its second droplet was handed over in the middle of May, below.
where (name, what, number) <> ('billabong-lobby', 'droplet', 2)
on conflict do nothing;

insert into billing.deployment_resources (resource_id, deployment_id, started_at, ended_at, share)
select md5(resource)::uuid::text, md5(deployment)::uuid, started_at, ended_at, share
from (values
    -- Two owners, one after the other: 15.5 of May's 31 days are the lobby's.
    ('billabong-lobby/droplet/2', 'billabong-lobby', timestamptz '2025-07-01 00:00+00',
     timestamptz '2026-05-16 12:00+00', 1),
    ('billabong-lobby/droplet/2', 'billabong-arena', '2026-05-16 12:00+00', null, 1),
    -- Shared: three quarters and a quarter of 12.00 are 9.00 and 3.00.
    ('lb-kookaburra', 'kookaburra-api', '2025-07-21 00:00+00', null, 3),
    ('lb-kookaburra', 'kookaburra-web', '2025-07-21 00:00+00', null, 1),
    -- Shared by the droplet hours of each: see cost_split_keys.
    ('k8s-freight', 'freight-edi', '2025-10-06 00:00+00', null, 1),
    ('k8s-freight', 'freight-portal', '2025-10-06 00:00+00', null, 1),
    ('k8s-freight', 'freight-tracking', '2025-10-06 00:00+00', null, 1)
) as owned (resource, deployment, started_at, ended_at, share)
on conflict do nothing;

insert into billing.cost_split_keys (resource_id, resource_kind)
values (md5('k8s-freight')::uuid::text, 'droplet_hours')
on conflict do nothing;

-- October has none yet, as its bill is not imported either.
insert into billing.fx_rates (period_start, usd_per_aud, published_on, source)
select month, usd_per_aud, (month + interval '1 month' - interval '1 day')::date, 'sample data, made up'
from (values
    (date '2026-01-01', 0.6689), ('2026-02-01', 0.6742), ('2026-03-01', 0.6655), ('2026-04-01', 0.6612),
    ('2026-05-01', 0.6571), ('2026-06-01', 0.6598), ('2026-07-01', 0.6633), ('2026-08-01', 0.6701),
    ('2026-09-01', 0.6666)
) as rates (month, usd_per_aud)
on conflict do nothing;
