-- The platform's operational tables, as far as billing reads them. In production these exist already, as the
-- platform's own tables or as views over them: then nothing here is created, and no right to create is needed. Billing
-- never writes to this schema.

do $$
begin
    if to_regnamespace('cloud') is null then
        create schema cloud;
        comment on schema cloud is 'The platform''s operational tables; billing reads them and never writes.';
    end if;

    if to_regclass('cloud.tenants') is null then
        create table cloud.tenants (
            id              text primary key check (id <> ''),
            name            text not null,
            abn             text,
            gst_free_reason text
        );
    end if;

    if to_regclass('cloud.cloud_deployments') is null then
        create table cloud.cloud_deployments (
            id        uuid primary key,
            tenant_id text not null references cloud.tenants,
            name      text not null
        );
    end if;

    if to_regclass('cloud.plans') is null then
        create table cloud.plans (
            id   uuid primary key,
            code text not null unique,
            name text not null
        );
    end if;

    if to_regclass('cloud.plan_prices') is null then
        create table cloud.plan_prices (
            plan_id          uuid not null references cloud.plans,
            effective_from   date not null check (extract(day from effective_from) = 1),
            base_price_cents bigint not null check (base_price_cents >= 0),
            primary key (plan_id, effective_from)
        );
    end if;

    if to_regclass('cloud.plan_rates') is null then
        create table cloud.plan_rates (
            plan_id           uuid not null references cloud.plans,
            resource_kind     text not null,
            effective_from    date not null check (extract(day from effective_from) = 1),
            included_quantity numeric(18, 6) not null check (included_quantity >= 0 and included_quantity <> 'NaN'),
            unit              text not null,
            unit_price_cents  numeric(18, 8) not null check (unit_price_cents >= 0 and unit_price_cents <> 'NaN'),
            primary key (plan_id, resource_kind, effective_from)
        );
    end if;

    if to_regclass('cloud.addons') is null then
        create table cloud.addons (
            id   uuid primary key,
            code text not null unique,
            name text not null
        );
    end if;

    if to_regclass('cloud.addon_prices') is null then
        create table cloud.addon_prices (
            addon_id       uuid not null references cloud.addons,
            effective_from date not null check (extract(day from effective_from) = 1),
            price_cents    bigint not null check (price_cents >= 0),
            primary key (addon_id, effective_from)
        );
    end if;

    if to_regclass('cloud.subscriptions') is null then
        create table cloud.subscriptions (
            id            uuid primary key,
            tenant_id     text not null references cloud.tenants,
            deployment_id uuid not null references cloud.cloud_deployments,
            plan_id       uuid not null references cloud.plans,
            status        text not null check (status in ('pending', 'active', 'suspended', 'cancelled')),
            started_at    timestamptz not null,
            ended_at      timestamptz
        );
        create index on cloud.subscriptions (deployment_id);
    end if;

    if to_regclass('cloud.subscription_addons') is null then
        create table cloud.subscription_addons (
            id              uuid primary key,
            subscription_id uuid not null references cloud.subscriptions,
            addon_id        uuid not null references cloud.addons,
            quantity        integer not null default 1 check (quantity >= 0),
            started_at      timestamptz not null,
            ended_at        timestamptz
        );
        create index on cloud.subscription_addons (subscription_id);
    end if;

    -- A record may name a deployment that is long gone, or hold a NaN: what the meter sent is kept as it came.
    if to_regclass('cloud.usage_records') is null then
        create table cloud.usage_records (
            id            uuid primary key,
            deployment_id uuid not null,
            resource_kind text not null,
            quantity      numeric(18, 6) not null,
            recorded_at   timestamptz not null,
            ingested_at   timestamptz not null default now()
        );
        create index on cloud.usage_records (recorded_at);
    end if;
end $$;
