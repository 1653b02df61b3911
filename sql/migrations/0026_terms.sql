-- What a price can be beyond a rate: part months, pooled allowances, discounts, commitments; what operators enter by hand;
-- promotional credit. A platform whose own tables lack the new columns, or that has none of the new tables, is billed as
-- if no plan prorated, nothing were pooled, and nobody had a discount or a commitment.

do $$
begin
    -- As 0025: only in the schema that we made, and only beside tables of ours, is something added.
    if obj_description(to_regnamespace('cloud'), 'pg_namespace')
       is distinct from 'The platform''s operational tables; billing reads them and never writes.' then
        return;
    end if;
    if exists (select from unnest(array['plan_rates', 'tenants', 'plans', 'cloud_deployments']) name
               where (select relkind from pg_class where oid = to_regclass('cloud.' || name)) is distinct from 'r') then
        return;
    end if;
    alter table cloud.plans
        add column if not exists proration text not null default 'none' check (proration in ('none', 'daily'));
    comment on column cloud.plans.proration is
        'What a part month costs: none (a whole month), or daily (as many days as the subscription has of it).';
    alter table cloud.plan_rates add column if not exists pooled boolean not null default false;
    comment on column cloud.plan_rates.pooled is
        'Whether the allowances and the usage of all of a tenant''s subscriptions with such a rate count together.';
    if (select relkind from pg_class where oid = to_regclass('cloud.tenant_rates')) = 'r' then
        alter table cloud.tenant_rates add column if not exists pooled boolean not null default false;
        comment on column cloud.tenant_rates.pooled is 'As of plan_rates.';
    end if;
    if to_regclass('cloud.discounts') is null then
        create table cloud.discounts (
            id            uuid primary key default gen_random_uuid(),
            tenant_id     text not null references cloud.tenants,
            deployment_id uuid references cloud.cloud_deployments,
            line_kind     text check (line_kind in ('plan_base', 'addon', 'overage')),
            resource_kind text,
            percent       numeric(7, 4) check (percent >= 0 and percent <= 100),
            amount_cents  bigint check (amount_cents >= 0),
            starts_on     date not null check (extract(day from starts_on) = 1),
            ends_on       date check (extract(day from ends_on) = 1 and ends_on > starts_on),
            description   text not null,
            constraint percent_or_amount check (num_nonnulls(percent, amount_cents) = 1)
        );
        comment on table cloud.discounts is
            'What a tenant is let off: one row per discount. Percentages count before amounts, each by starts_on and id.';
        comment on column cloud.discounts.id is 'The discount.';
        comment on column cloud.discounts.tenant_id is 'Whose it is.';
        comment on column cloud.discounts.deployment_id is 'The only deployment that it is for; null: all of the tenant''s.';
        comment on column cloud.discounts.line_kind is 'The only kind of line that it is for; null: all three.';
        comment on column cloud.discounts.resource_kind is 'The only metered kind that it is for; null: all, and what is not metered.';
        comment on column cloud.discounts.percent is 'How many per cent, 0 to 100; null: it is an amount.';
        comment on column cloud.discounts.amount_cents is 'How much a month at most, cents AUD ex GST; null: it is a percentage.';
        comment on column cloud.discounts.starts_on is 'The first month that it is for, by its first day.';
        comment on column cloud.discounts.ends_on is 'The first month that it is not for any more, by its first day; null: no end.';
        comment on column cloud.discounts.description is 'What it is, as the tenant reads it.';
    end if;
    if to_regclass('cloud.commitments') is null then
        create table cloud.commitments (
            id            uuid primary key default gen_random_uuid(),
            tenant_id     text not null references cloud.tenants,
            deployment_id uuid references cloud.cloud_deployments,
            minimum_cents bigint not null check (minimum_cents >= 0),
            starts_on     date not null check (extract(day from starts_on) = 1),
            ends_on       date check (extract(day from ends_on) = 1 and ends_on > starts_on)
        );
        comment on table cloud.commitments is
            'The least that a tenant pays a month: one row per commitment, of one deployment or of all that it has.';
        comment on column cloud.commitments.id is 'The commitment.';
        comment on column cloud.commitments.tenant_id is 'Whose it is.';
        comment on column cloud.commitments.deployment_id is 'The deployment; null: the tenant as a whole.';
        comment on column cloud.commitments.minimum_cents is 'The least a month, after discounts, cents AUD ex GST.';
        comment on column cloud.commitments.starts_on is 'The first month that it is for, by its first day.';
        comment on column cloud.commitments.ends_on is 'The first month that it is not for any more, by its first day; null: no end.';
    end if;
end $$;

create function billing.discounts()
returns table (id uuid, tenant_id text, deployment_id uuid, line_kind text, resource_kind text, percent numeric,
               amount_cents numeric, starts_on date, ends_on date, description text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('cloud.discounts') is not null then
        return query execute 'select id::uuid, tenant_id::text, deployment_id::uuid, line_kind::text, resource_kind::text, '
                             'percent::numeric, amount_cents::numeric, starts_on::date, ends_on::date, description::text '
                             'from cloud.discounts';
    end if;
end $$;
comment on function billing.discounts() is 'cloud.discounts; no rows if the platform has none.';

create function billing.commitments()
returns table (id uuid, tenant_id text, deployment_id uuid, minimum_cents numeric, starts_on date, ends_on date)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('cloud.commitments') is not null then
        return query execute 'select id::uuid, tenant_id::text, deployment_id::uuid, minimum_cents::numeric, starts_on::date, '
                             'ends_on::date from cloud.commitments';
    end if;
end $$;
comment on function billing.commitments() is 'cloud.commitments; no rows if the platform has none.';

create table billing.manual_lines (
    id           uuid primary key default gen_random_uuid(),
    tenant_id    text not null,
    period_start date not null check (extract(day from period_start) = 1),
    amount_cents bigint not null check (amount_cents <> 0 and abs(amount_cents) < 1000000000000000),
    description  text not null check (description <> ''),
    operator     text not null,
    reason       text not null,
    run_id       text,
    entered_at   timestamptz not null default now()
);
create index on billing.manual_lines (period_start);
create index on billing.manual_lines (tenant_id);
create trigger manual_lines_are_append_only before update or delete or truncate on billing.manual_lines
    for each statement execute function billing.refuse_change();
comment on table billing.manual_lines is
    'Charges and credits that operators entered: one row per line of an invoice; never changed or deleted. What is wrong is '
    'entered again the other way round.';
comment on column billing.manual_lines.id is 'The line; the invoice line that bills it has it in meta "manual_line".';
comment on column billing.manual_lines.tenant_id is 'Who pays, or is paid.';
comment on column billing.manual_lines.period_start is
    'The month whose invoice it is for, by its first day; if that is locked, the tenant''s next one has it.';
comment on column billing.manual_lines.amount_cents is 'Cents AUD ex GST: above 0 an adjustment to pay, below 0 a credit.';
comment on column billing.manual_lines.description is 'What it is, as the tenant reads it.';
comment on column billing.manual_lines.operator is 'Who entered it.';
comment on column billing.manual_lines.reason is 'Why.';
comment on column billing.manual_lines.run_id is 'The Dagster run that did it; null: none.';
comment on column billing.manual_lines.entered_at is 'When.';

create table billing.credit_grants (
    id           uuid primary key default gen_random_uuid(),
    tenant_id    text not null,
    amount_cents bigint not null check (amount_cents > 0 and amount_cents < 1000000000000000),
    expires_on   date,
    description  text not null check (description <> ''),
    operator     text not null,
    reason       text not null,
    run_id       text,
    granted_at   timestamptz not null default now()
);
create index on billing.credit_grants (tenant_id);
create trigger credit_grants_are_append_only before update or delete or truncate on billing.credit_grants
    for each statement execute function billing.refuse_change();
comment on table billing.credit_grants is
    'Promotional credit: one row per grant; never changed or deleted. What is left of one follows from the invoice lines '
    'that stand and have it in meta "grant".';
comment on column billing.credit_grants.id is 'The grant.';
comment on column billing.credit_grants.tenant_id is 'Whose it is.';
comment on column billing.credit_grants.amount_cents is 'How much, cents AUD ex GST.';
comment on column billing.credit_grants.expires_on is
    'It pays invoices of months that begin before this day; null: it does not expire.';
comment on column billing.credit_grants.description is 'What it is, as the tenant reads it.';
comment on column billing.credit_grants.operator is 'Who granted it.';
comment on column billing.credit_grants.reason is 'Why.';
comment on column billing.credit_grants.run_id is 'The Dagster run that did it; null: none.';
comment on column billing.credit_grants.granted_at is 'When.';

create table billing.price_books (
    id             bigint generated always as identity primary key,
    effective_from date not null check (extract(day from effective_from) = 1),
    sha256         text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    book           text not null,
    changes        jsonb not null,
    operator       text not null check (operator <> ''),
    reason         text not null,
    applied_at     timestamptz not null default now()
);
create trigger price_books_are_append_only before update or delete or truncate on billing.price_books
    for each statement execute function billing.refuse_change();
comment on table billing.price_books is
    'Price books that operators applied: one row per book that changed something; never changed or deleted.';
comment on column billing.price_books.id is 'Order.';
comment on column billing.price_books.effective_from is 'The month from which on its prices are in effect, by its first day.';
comment on column billing.price_books.sha256 is 'Of the file, as sha256sum prints it.';
comment on column billing.price_books.book is 'The file as it was applied.';
comment on column billing.price_books.changes is
    'What was changed: for each row of a table of prices what it is about, and before and after; null where there is none.';
comment on column billing.price_books.operator is 'Who applied it.';
comment on column billing.price_books.reason is 'Why.';
comment on column billing.price_books.applied_at is 'When.';

-- Lines. A price of many units, of which a part month has so many days; and the two new kinds.
alter table billing.deployment_quote_lines
    add column price_per numeric(18, 6) not null default 1 check (price_per > 0 and price_per <> 'NaN');
comment on column billing.deployment_quote_lines.price_per is
    'How many units unit_price_cents is for: 1, but the days of the month for part months.';
comment on column billing.deployment_quote_lines.amount_cents is
    'qty x unit_price_cents / price_per, rounded once, half up, ex GST.';
comment on column billing.deployment_quote_lines.unit is
    'What qty counts: month (day of part months) for plans and addons, else the rate''s unit.';
alter table billing.tenant_invoice_lines
    add column price_per numeric(18, 6) not null default 1 check (price_per > 0 and price_per <> 'NaN'),
    drop constraint tenant_invoice_lines_kind_check;
do $$  -- a partition was made with a constraint of its own, which the parent's took in
declare
    partition regclass;
begin
    for partition in select inhrelid from pg_inherits where inhparent = 'billing.tenant_invoice_lines'::regclass loop
        execute format('alter table %s drop constraint if exists tenant_invoice_lines_kind_check', partition);
    end loop;
end $$;
alter table billing.tenant_invoice_lines add constraint tenant_invoice_lines_kind_check
    check (kind in ('plan_base', 'addon', 'overage', 'discount', 'commitment', 'credit', 'adjustment', 'tax'));
comment on column billing.tenant_invoice_lines.price_per is
    'How many units unit_price_cents is for: 1, but the days of the month for part months.';
comment on column billing.tenant_invoice_lines.kind is
    'plan_base, addon, overage, discount, commitment, credit, adjustment or tax.';

create or replace function billing.line_text(line billing.tenant_invoice_lines) returns text
language sql immutable parallel safe
return line.line_no::text || chr(31) || line.kind || chr(31) || trunc(line.qty * 1000000)::text || chr(31)
    || trunc(line.unit_price_cents * 100000000)::text || chr(31) || line.amount_cents::text || chr(31) || line.meta::text
    || chr(31) || coalesce(length(line.resource_kind)::text, '') || chr(31) || length(line.description)::text
    || chr(31) || coalesce(length(line.unit)::text, '') || chr(31) || coalesce(length(line.deployment_name)::text, '')
    || chr(31) || coalesce(line.resource_kind, '') || line.description || coalesce(line.unit, '')
    || coalesce(line.deployment_name, '') || coalesce(chr(31) || trunc(nullif(line.price_per, 1) * 1000000)::text, '');
comment on function billing.line_text(billing.tenant_invoice_lines) is
    'An invoice line as a reader sees it, as one text that no other line has: between 0x1f its number, kind, millionths of '
    'qty, 1e-8 of unit_price_cents, amount_cents and meta; how many characters resource_kind, description, unit and '
    'deployment_name have (nothing where they are null); those four, one after the other; and millionths of price_per '
    'where it is not 1. Its ids are not in it.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'cloud.discounts',       'select'),
    ('arcadia_pipeline', 'cloud.commitments',     'select'),
    ('arcadia_pipeline', 'billing.manual_lines',  'select, insert'),
    ('arcadia_pipeline', 'billing.credit_grants', 'select, insert'),
    ('arcadia_pipeline', 'billing.price_books',   'select'),
    ('arcadia_analyst',  'billing.manual_lines',  'select'),
    ('arcadia_analyst',  'billing.price_books',   'select'),
    ('arcadia_analyst',  'billing.credit_grants', 'select');
select billing.admit_roles();

-- The read API quotes by the new tables too.
alter function billing.admit_api() rename to admit_api_to_prices;
create function billing.admit_api() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    readable text;
begin
    perform billing.admit_api_to_prices();
    foreach readable in array array['discounts', 'commitments'] loop
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
comment on function billing.admit_api_to_prices() is 'The third part of admit_api().';
comment on function billing.admit_api() is
    'Lets the role arcadia_api read invoices, their history, the price list with tenants'' own prices, discounts and '
    'commitments, and cost beside revenue, each as the transaction''s settings say. Run by the owner of the tables, once the '
    'role is there; safe to run again.';
do $$
begin
    if to_regrole('arcadia_api') is not null then  -- else 0004 has said what to do
        perform billing.admit_api();
    end if;
exception when insufficient_privilege then
    raise warning 'the read API cannot quote: %', sqlerrm;
end $$;

-- Revenue with discounts, each of the deployment and kind that it is off, and commitments.
create or replace view billing.revenue_by_deployment as
select l.period_start, i.tenant_id, l.deployment_id, max(l.deployment_name) as deployment_name,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'plan_base'), 0)::bigint as plan_base_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'addon'), 0)::bigint as addon_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'overage'), 0)::bigint as overage_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind in ('credit', 'adjustment')), 0)::bigint as adjustment_cents,
       sum(l.amount_cents)::bigint as revenue_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'discount'), 0)::bigint as discount_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'commitment'), 0)::bigint as commitment_cents
from billing.tenant_invoice_lines l
join billing.tenant_invoices i on i.id = l.invoice_id
where l.kind <> 'tax' and i.status in ('issued', 'paid')
group by l.period_start, i.tenant_id, l.deployment_id;
comment on column billing.revenue_by_deployment.deployment_id is
    'Null for tenant-level commitments, credits and adjustments, and for deployments deleted since.';
comment on column billing.revenue_by_deployment.revenue_cents is 'The sum of the other amounts, ex GST.';
comment on column billing.revenue_by_deployment.discount_cents is 'Discounts, below 0.';
comment on column billing.revenue_by_deployment.commitment_cents is 'What was missing from commitments.';

create or replace view billing.revenue_by_kind as
select l.period_start, i.tenant_id, k.resource_kind,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'plan_base'), 0)::bigint as plan_base_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'addon'), 0)::bigint as addon_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'overage'), 0)::bigint as overage_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind in ('credit', 'adjustment')), 0)::bigint as adjustment_cents,
       sum(l.amount_cents)::bigint as revenue_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'discount'), 0)::bigint as discount_cents,
       coalesce(sum(l.amount_cents) filter (where l.kind = 'commitment'), 0)::bigint as commitment_cents
from billing.tenant_invoice_lines l
join billing.tenant_invoices i on i.id = l.invoice_id
cross join lateral (
    select coalesce(l.resource_kind, case l.kind when 'discount' then l.meta ->> 'of' end, l.kind) as resource_kind
) k
where l.kind <> 'tax' and i.status in ('issued', 'paid')
group by l.period_start, i.tenant_id, k.resource_kind;
comment on column billing.revenue_by_kind.resource_kind is
    'The metered kind of overage; plan_base, addon, commitment, credit or adjustment for lines that meter nothing. A '
    'discount has that of what it is off.';
comment on column billing.revenue_by_kind.revenue_cents is 'The sum of the other amounts, ex GST.';
comment on column billing.revenue_by_kind.discount_cents is 'Discounts, below 0.';
comment on column billing.revenue_by_kind.commitment_cents is 'What was missing from commitments.';
comment on column billing.cost_vs_revenue_by_deployment.deployment_id is
    'Null for what is unallocated, for tenant-level commitments, credits and adjustments, and for revenue of deployments '
    'deleted since.';
comment on column billing.cost_vs_revenue_by_kind.resource_kind is
    'Revenue: the metered kind of overage; plan_base, addon, commitment, credit or adjustment for what meters nothing. '
    'Cost: by product_kinds; unmapped; provider credit, provider tax; unallocated. What a plan includes earns under '
    'plan_base and costs under its kind.';
comment on column billing.tenant_invoice_lines.line_no is
    'Order on the invoice, from 1: by deployment name, then plan_base, addon, overage, discount, commitment; '
    'tenant-level lines after; tax last.';
comment on column billing.invoice_corrections.billed_cents is
    'Its plan, addon, overage, discount and commitment lines, cents AUD ex GST.';
