-- Rates that are more than so much a unit: packages, tiers (graduated, volume), and a maximum; and prices of one tenant. A
-- platform whose own tables lack the new columns, or that has none of the new tables, is billed as if all its rates were
-- per unit and all its prices the list's.

do $$
begin
    -- As 0001: what the platform has is the platform's. Only in the schema that we made is something added.
    if obj_description(to_regnamespace('cloud'), 'pg_namespace')
       is distinct from 'The platform''s operational tables; billing reads them and never writes.' then
        return;
    end if;
    -- Nor where somebody has put a view in the place of one of our tables: nothing can refer to that.
    if exists (select from unnest(array['plan_rates', 'tenants', 'plans', 'addons']) name
               where (select relkind from pg_class where oid = to_regclass('cloud.' || name)) is distinct from 'r') then
        return;
    end if;
    if to_regclass('cloud.plan_rates') is not null then
        alter table cloud.plan_rates
            add column if not exists charge_model text not null default 'per_unit'
                check (charge_model in ('per_unit', 'package', 'graduated', 'volume')),
            add column if not exists package_size numeric(18, 6) check (package_size > 0 and package_size <> 'NaN'),
            add column if not exists maximum_cents bigint check (maximum_cents >= 0);
        if not exists (select from pg_constraint where conrelid = to_regclass('cloud.plan_rates')
                                                   and conname = 'packages_have_a_size') then
            alter table cloud.plan_rates add constraint packages_have_a_size
                check ((charge_model = 'package') = (package_size is not null));
        end if;
        comment on column cloud.plan_rates.charge_model is
            'How usage beyond the allowance is charged: per_unit; package (whole packages); graduated (each tier its part); '
            'volume (all at the price of the tier that it falls into).';
        comment on column cloud.plan_rates.package_size is 'Of a package: how many units it has, in unit.';
        comment on column cloud.plan_rates.maximum_cents is
            'The most that a subscription pays for this kind in a month, cents AUD ex GST; null: no maximum.';
    end if;
    if to_regclass('cloud.plan_rate_tiers') is null then
        create table cloud.plan_rate_tiers (
            plan_id          uuid not null,
            resource_kind    text not null,
            effective_from   date not null,
            up_to            numeric(18, 6) check (up_to > 0 and up_to <> 'NaN'),
            unit_price_cents numeric(18, 8) not null default 0 check (unit_price_cents >= 0 and unit_price_cents <> 'NaN'),
            flat_cents       bigint not null default 0 check (flat_cents >= 0),
            foreign key (plan_id, resource_kind, effective_from) references cloud.plan_rates,
            unique nulls not distinct (plan_id, resource_kind, effective_from, up_to)
        );
        comment on table cloud.plan_rate_tiers is
            'The tiers of graduated and volume rates: one row per tier of a rate. A tier begins where the one before ends.';
        comment on column cloud.plan_rate_tiers.plan_id is 'The plan; with resource_kind and effective_from, its rate.';
        comment on column cloud.plan_rate_tiers.resource_kind is 'The kind that is metered.';
        comment on column cloud.plan_rate_tiers.effective_from is 'Since when the rate is in effect, the first of a month.';
        comment on column cloud.plan_rate_tiers.up_to is
            'The most units beyond the allowance that the tier holds, itself included; null: no bound, the last tier.';
        comment on column cloud.plan_rate_tiers.unit_price_cents is 'Price of one unit in the tier, cents AUD ex GST.';
        comment on column cloud.plan_rate_tiers.flat_cents is 'Charged once when the tier is entered, cents AUD ex GST.';
    end if;
    if to_regclass('cloud.tenant_plan_prices') is null then
        create table cloud.tenant_plan_prices (
            tenant_id        text not null references cloud.tenants,
            plan_id          uuid not null references cloud.plans,
            effective_from   date not null check (extract(day from effective_from) = 1),
            base_price_cents bigint check (base_price_cents >= 0),
            primary key (tenant_id, plan_id, effective_from)
        );
        comment on table cloud.tenant_plan_prices is
            'A tenant''s own price of a plan: one row per tenant, plan and first of a month. It stands for the list''s.';
        comment on column cloud.tenant_plan_prices.tenant_id is 'Whose price it is.';
        comment on column cloud.tenant_plan_prices.plan_id is 'The plan.';
        comment on column cloud.tenant_plan_prices.effective_from is 'Since when it is in effect, the first of a month.';
        comment on column cloud.tenant_plan_prices.base_price_cents is
            'A month''s price, cents AUD ex GST; null: from then on the list''s again.';
    end if;
    if to_regclass('cloud.tenant_addon_prices') is null then
        create table cloud.tenant_addon_prices (
            tenant_id      text not null references cloud.tenants,
            addon_id       uuid not null references cloud.addons,
            effective_from date not null check (extract(day from effective_from) = 1),
            price_cents    bigint check (price_cents >= 0),
            primary key (tenant_id, addon_id, effective_from)
        );
        comment on table cloud.tenant_addon_prices is
            'A tenant''s own price of an addon: one row per tenant, addon and first of a month. It stands for the list''s.';
        comment on column cloud.tenant_addon_prices.tenant_id is 'Whose price it is.';
        comment on column cloud.tenant_addon_prices.addon_id is 'The addon.';
        comment on column cloud.tenant_addon_prices.effective_from is 'Since when it is in effect, the first of a month.';
        comment on column cloud.tenant_addon_prices.price_cents is
            'A month''s price of one, cents AUD ex GST; null: from then on the list''s again.';
    end if;
    if to_regclass('cloud.tenant_rates') is null then
        create table cloud.tenant_rates (
            tenant_id         text not null references cloud.tenants,
            plan_id           uuid not null references cloud.plans,
            resource_kind     text not null,
            effective_from    date not null check (extract(day from effective_from) = 1),
            included_quantity numeric(18, 6) not null check (included_quantity >= 0 and included_quantity <> 'NaN'),
            unit              text not null,
            unit_price_cents  numeric(18, 8) check (unit_price_cents >= 0 and unit_price_cents <> 'NaN'),
            charge_model      text not null default 'per_unit'
                check (charge_model in ('per_unit', 'package', 'graduated', 'volume')),
            package_size      numeric(18, 6) check (package_size > 0 and package_size <> 'NaN'),
            maximum_cents     bigint check (maximum_cents >= 0),
            primary key (tenant_id, plan_id, resource_kind, effective_from),
            check ((charge_model = 'package') = (package_size is not null))
        );
        comment on table cloud.tenant_rates is
            'A tenant''s own rates: as plan_rates, one row per tenant, plan, kind and first of a month; for the list''s.';
        comment on column cloud.tenant_rates.tenant_id is 'Whose rate it is.';
        comment on column cloud.tenant_rates.plan_id is 'The plan.';
        comment on column cloud.tenant_rates.resource_kind is 'The kind that is metered.';
        comment on column cloud.tenant_rates.effective_from is 'Since when it is in effect, the first of a month.';
        comment on column cloud.tenant_rates.included_quantity is 'The allowance of a month, in unit.';
        comment on column cloud.tenant_rates.unit is 'What is counted: hour, GB, ...';
        comment on column cloud.tenant_rates.unit_price_cents is
            'Price of one unit beyond, cents AUD ex GST; null: from then on the list''s rate again.';
        comment on column cloud.tenant_rates.charge_model is 'As of plan_rates.';
        comment on column cloud.tenant_rates.package_size is 'As of plan_rates.';
        comment on column cloud.tenant_rates.maximum_cents is 'As of plan_rates.';
    end if;
    if to_regclass('cloud.tenant_rate_tiers') is null then
        create table cloud.tenant_rate_tiers (
            tenant_id        text not null,
            plan_id          uuid not null,
            resource_kind    text not null,
            effective_from   date not null,
            up_to            numeric(18, 6) check (up_to > 0 and up_to <> 'NaN'),
            unit_price_cents numeric(18, 8) not null default 0 check (unit_price_cents >= 0 and unit_price_cents <> 'NaN'),
            flat_cents       bigint not null default 0 check (flat_cents >= 0),
            foreign key (tenant_id, plan_id, resource_kind, effective_from) references cloud.tenant_rates,
            unique nulls not distinct (tenant_id, plan_id, resource_kind, effective_from, up_to)
        );
        comment on table cloud.tenant_rate_tiers is 'The tiers of tenants'' own rates, as plan_rate_tiers: one row per tier.';
        comment on column cloud.tenant_rate_tiers.tenant_id is 'Whose rate it is; with the next three, the rate.';
        comment on column cloud.tenant_rate_tiers.plan_id is 'The plan.';
        comment on column cloud.tenant_rate_tiers.resource_kind is 'The kind that is metered.';
        comment on column cloud.tenant_rate_tiers.effective_from is 'Since when the rate is in effect, the first of a month.';
        comment on column cloud.tenant_rate_tiers.up_to is 'As of plan_rate_tiers.';
        comment on column cloud.tenant_rate_tiers.unit_price_cents is 'As of plan_rate_tiers.';
        comment on column cloud.tenant_rate_tiers.flat_cents is 'As of plan_rate_tiers.';
    end if;
end $$;

-- What a platform need not have: no rows where there is no such table.
create function billing.rate_tiers()
returns table (tenant_id text, plan_id uuid, resource_kind text, effective_from date, up_to numeric,
               unit_price_cents numeric, flat_cents numeric)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('cloud.plan_rate_tiers') is not null then
        return query execute 'select null::text, plan_id::uuid, resource_kind::text, effective_from::date, up_to::numeric, '
                             'unit_price_cents::numeric, flat_cents::numeric from cloud.plan_rate_tiers';
    end if;
    if to_regclass('cloud.tenant_rate_tiers') is not null then
        return query execute 'select tenant_id::text, plan_id::uuid, resource_kind::text, effective_from::date, up_to::numeric, '
                             'unit_price_cents::numeric, flat_cents::numeric from cloud.tenant_rate_tiers '
                             'where tenant_id <> ''''';
    end if;
end $$;
comment on function billing.rate_tiers() is
    'cloud.plan_rate_tiers, without a tenant, and cloud.tenant_rate_tiers; no rows of what the platform has not.';

create function billing.rates()
returns table (tenant_id text, plan_id uuid, resource_kind text, effective_from date, included_quantity numeric, unit text,
               unit_price_cents numeric, columns jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return query select null::text, p.plan_id::uuid, p.resource_kind::text, p.effective_from::date,
                        p.included_quantity::numeric, p.unit::text, p.unit_price_cents::numeric, to_jsonb(p)
                 from cloud.plan_rates p;
    if to_regclass('cloud.tenant_rates') is not null then
        return query execute 'select tenant_id::text, plan_id::uuid, resource_kind::text, effective_from::date, '
                             'included_quantity::numeric, unit::text, unit_price_cents::numeric, to_jsonb(r) '
                             'from cloud.tenant_rates r where tenant_id <> ''''';
    end if;
end $$;
comment on function billing.rates() is
    'cloud.plan_rates, without a tenant, and cloud.tenant_rates, if there are any; `columns` has all that a rate says.';

create function billing.tenant_prices()
returns table (tenant_id text, plan_id uuid, addon_id uuid, effective_from date, cents numeric)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('cloud.tenant_plan_prices') is not null then
        return query execute 'select tenant_id::text, plan_id::uuid, null::uuid, effective_from::date, base_price_cents::numeric '
                             'from cloud.tenant_plan_prices';
    end if;
    if to_regclass('cloud.tenant_addon_prices') is not null then
        return query execute 'select tenant_id::text, null::uuid, addon_id::uuid, effective_from::date, price_cents::numeric '
                             'from cloud.tenant_addon_prices';
    end if;
end $$;
comment on function billing.tenant_prices() is
    'Tenants'' own prices of plans and addons, if the platform has any: cloud.tenant_plan_prices, tenant_addon_prices.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'cloud.plan_rate_tiers',     'select'),
    ('arcadia_pipeline', 'cloud.tenant_plan_prices',  'select'),
    ('arcadia_pipeline', 'cloud.tenant_addon_prices', 'select'),
    ('arcadia_pipeline', 'cloud.tenant_rates',        'select'),
    ('arcadia_pipeline', 'cloud.tenant_rate_tiers',   'select');
select billing.admit_roles();

-- Of a tenant that is quoted, what its invoices would say; the API does not read the tenants' table.
create function billing.tenant_to_quote(tenant text)
returns table (tenant_id text, gst_free_reason text, meta jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
    select t.id::text, nullif(btrim(t.gst_free_reason), '')::text,
           jsonb_strip_nulls(jsonb_build_object('tenant_name', t.name, 'tenant_abn', t.abn,
                                                'gst_free_reason', nullif(btrim(t.gst_free_reason), '')))
    from cloud.tenants t where t.id = tenant limit 1;
end $$;
revoke execute on function billing.tenant_to_quote(text) from public;
comment on function billing.tenant_to_quote(text) is
    'The tenant as it would be invoiced today: its GST status and its name. Runs as the owner of the tables.';
insert into billing.role_rights values ('arcadia_pipeline', 'billing.tenant_to_quote(text)', 'execute');
select billing.admit_roles();

-- The read API quotes by the same tables.
alter function billing.admit_api() rename to admit_api_to_costs;
create function billing.admit_api() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    readable text;
begin
    perform billing.admit_api_to_costs();
    grant execute on function billing.tenant_to_quote(text) to arcadia_api;
    foreach readable in array array['plan_rate_tiers', 'tenant_plan_prices', 'tenant_addon_prices', 'tenant_rates',
                                    'tenant_rate_tiers'] loop
        if to_regclass('cloud.' || readable) is not null then
            begin
                execute format('grant select on cloud.%I to arcadia_api', readable);
            exception when insufficient_privilege then
                raise warning 'cloud.% is not ours to grant: its owner must grant select on it to arcadia_api', readable;
            end;
        end if;
    end loop;
end $$;
revoke execute on function billing.admit_api() from public;
comment on function billing.admit_api_to_costs() is 'The second part of admit_api().';
comment on function billing.admit_api() is
    'Lets the role arcadia_api read invoices, their history, the price list with tenants'' own prices, and cost beside '
    'revenue, each as the transaction''s settings say. Run by the owner of the tables, once the role is there; safe to '
    'run again.';
do $$
begin
    if to_regrole('arcadia_api') is not null then  -- else 0004 has said what to do
        perform billing.admit_api();
    end if;
exception when insufficient_privilege then
    raise warning 'the read API cannot quote: %', sqlerrm;
end $$;
