-- Rates that are more than so much a unit: packages, tiers (graduated, volume), and a maximum. A platform whose own tables
-- lack the new columns, or the table of tiers, is billed as if all its rates were per unit.

do $$
begin
    -- As 0001: what the platform has is the platform's. Only in the schema that we made is something added.
    if obj_description(to_regnamespace('cloud'), 'pg_namespace')
       is distinct from 'The platform''s operational tables; billing reads them and never writes.' then
        return;
    end if;
    if (select relkind = 'r' from pg_class where oid = to_regclass('cloud.plan_rates')) then
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
end $$;

create function billing.rate_tiers()
returns table (plan_id uuid, resource_kind text, effective_from date, up_to numeric, unit_price_cents numeric,
               flat_cents numeric)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('cloud.plan_rate_tiers') is not null then
        return query execute 'select plan_id, resource_kind, effective_from, up_to::numeric, unit_price_cents::numeric, '
                             'flat_cents::numeric from cloud.plan_rate_tiers';
    end if;
end $$;
comment on function billing.rate_tiers() is 'cloud.plan_rate_tiers; no rows where the platform has no such table.';

do $$
begin
    if to_regclass('cloud.plan_rate_tiers') is not null then
        insert into billing.role_rights values ('arcadia_pipeline', 'cloud.plan_rate_tiers', 'select');
    end if;
end $$;
select billing.admit_roles();
