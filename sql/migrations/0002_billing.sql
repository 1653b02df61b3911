-- Billing's own tables: a month's frozen usage, its quotes, its invoices and their history.
-- The month-sized tables are range-partitioned by period_start; the pipeline makes one partition per billing month.

create schema if not exists billing;

create table billing.billing_months (
    period_start date primary key check (extract(day from period_start) = 1),
    usage_cutoff timestamptz not null,
    run_id       text not null
);
comment on table billing.billing_months is 'One row per billing month whose usage is frozen.';
comment on column billing.billing_months.period_start is 'First day of the calendar month, UTC.';
comment on column billing.billing_months.usage_cutoff is
    'Usage ingested after this instant is not in the frozen usage; moves only when the frozen usage changes.';
comment on column billing.billing_months.run_id is 'The Dagster run that froze the usage as it stands.';

create table billing.metered_usage (
    period_start     date not null,
    deployment_id    uuid not null,
    resource_kind    text not null,
    quantity         numeric(38, 6) not null check (quantity <> 'NaN'),
    subscription_id  uuid,
    record_count     bigint not null check (record_count > 0),
    unusable_records bigint not null check (unusable_records between 0 and record_count),
    duplicate_records bigint not null check (duplicate_records >= 0)
) partition by range (period_start);
create index on billing.metered_usage (deployment_id);
comment on table billing.metered_usage is
    'Usage of the month, frozen at the cut-off: one row per month, deployment, resource kind and the subscription that '
    'was active when it was recorded (nearly always one).';
comment on column billing.metered_usage.period_start is 'First day of the billing month, UTC.';
comment on column billing.metered_usage.deployment_id is 'The deployment that was metered; it need not exist any more.';
comment on column billing.metered_usage.resource_kind is 'What was metered, e.g. droplet_hours.';
comment on column billing.metered_usage.quantity is 'Sum of the usable records, in the unit of the kind; corrections count.';
comment on column billing.metered_usage.subscription_id is 'The subscription that was active at recorded_at; null if none.';
comment on column billing.metered_usage.record_count is 'How many raw records the row sums.';
comment on column billing.metered_usage.unusable_records is
    'Of these, those with a quantity of NaN, null, infinity, or 1e12 and more: not in the sum, the tenant is held back.';
comment on column billing.metered_usage.duplicate_records is
    'Records whose id occurs more than once in the month: the tenant is held back.';

create table billing.deployment_quote_lines (
    period_start     date not null,
    subscription_id  uuid not null,
    deployment_id    uuid not null,
    tenant_id        text not null,
    line_no          integer not null,
    kind             text not null check (kind in ('plan_base', 'addon', 'overage')),
    resource_kind    text,
    description      text not null,
    qty              numeric(18, 6) not null check (qty <> 'NaN'),
    unit             text not null,
    unit_price_cents numeric(18, 8) not null check (unit_price_cents <> 'NaN'),
    amount_cents     bigint not null,
    deployment_name  text not null,
    meta             jsonb not null default '{}',
    primary key (period_start, subscription_id, line_no)
) partition by range (period_start);
create index on billing.deployment_quote_lines (deployment_id);
comment on table billing.deployment_quote_lines is
    'The quote engine''s lines: one row per month, subscription and line. A quoted month is the preview of its invoices.';
comment on column billing.deployment_quote_lines.period_start is 'First day of the billing month, UTC.';
comment on column billing.deployment_quote_lines.subscription_id is 'The subscription that is quoted.';
comment on column billing.deployment_quote_lines.deployment_id is 'The deployment that the subscription is for.';
comment on column billing.deployment_quote_lines.tenant_id is 'Who pays.';
comment on column billing.deployment_quote_lines.line_no is 'Order within the subscription, from 1: plan_base, addon, overage.';
comment on column billing.deployment_quote_lines.kind is 'plan_base, addon or overage.';
comment on column billing.deployment_quote_lines.resource_kind is 'The metered kind of an overage line; else null.';
comment on column billing.deployment_quote_lines.description is 'The line as a person reads it.';
comment on column billing.deployment_quote_lines.qty is 'Quantity billed, in unit.';
comment on column billing.deployment_quote_lines.unit is 'What qty counts: month for plans and addons, else the rate''s unit.';
comment on column billing.deployment_quote_lines.unit_price_cents is 'Price of one unit in cents AUD ex GST, to 8 decimals.';
comment on column billing.deployment_quote_lines.amount_cents is 'qty x unit_price_cents, rounded once, half up, ex GST.';
comment on column billing.deployment_quote_lines.deployment_name is 'The deployment''s name when it was quoted.';
comment on column billing.deployment_quote_lines.meta is
    'Why: effective_from of the price; for overage also used and included, in unit.';

create table billing.unbilled_usage (
    period_start    date not null,
    deployment_id   uuid not null,
    resource_kind   text not null,
    quantity        numeric(38, 6) not null check (quantity <> 'NaN'),
    reason          text not null check (reason in ('no_subscription', 'no_rate', 'tenant_held_back')),
    subscription_id uuid
);
create index on billing.unbilled_usage (period_start);
comment on table billing.unbilled_usage is
    'Frozen usage that is on no quote: one row per month, deployment, resource kind and subscription. Never dropped.';
comment on column billing.unbilled_usage.period_start is 'First day of the billing month, UTC.';
comment on column billing.unbilled_usage.deployment_id is 'The deployment that was metered.';
comment on column billing.unbilled_usage.resource_kind is 'What was metered.';
comment on column billing.unbilled_usage.quantity is 'As frozen in metered_usage.';
comment on column billing.unbilled_usage.reason is
    'no_subscription: none was active at recorded_at; no_rate: the plan has no rate for the kind in this month; '
    'tenant_held_back: see quote_faults.';
comment on column billing.unbilled_usage.subscription_id is 'The subscription that was active at recorded_at; null if none.';

create table billing.quote_faults (
    period_start    date not null,
    tenant_id       text,
    subscription_id uuid,
    deployment_id   uuid,
    resource_kind   text,
    fault           text not null,
    detail          text not null
);
create index on billing.quote_faults (period_start);
comment on table billing.quote_faults is
    'What holds a tenant back from being quoted and invoiced for the month: one row per fault found.';
comment on column billing.quote_faults.period_start is 'First day of the billing month, UTC.';
comment on column billing.quote_faults.tenant_id is 'The tenant held back; null where the fault has no known tenant.';
comment on column billing.quote_faults.subscription_id is 'The subscription with the fault; null where it has none.';
comment on column billing.quote_faults.deployment_id is 'The deployment with the fault; null where it concerns the tenant''s sum.';
comment on column billing.quote_faults.resource_kind is 'The metered kind with the fault; null where it is a price.';
comment on column billing.quote_faults.fault is 'The fault''s name, e.g. plan_without_price.';
comment on column billing.quote_faults.detail is 'What is wrong and what to do.';

create table billing.tenant_invoices (
    id                   uuid primary key default gen_random_uuid(),
    tenant_id            text not null,
    period_start         date not null check (extract(day from period_start) = 1),
    period_end           date not null,
    currency             text not null default 'AUD' check (currency = 'AUD'),
    subtotal_cents       bigint not null,
    tax_cents            bigint not null,
    total_cents          bigint not null,
    status               text not null default 'issued' check (status in ('draft', 'issued', 'paid', 'void')),
    issued_at            timestamptz,
    paid_at              timestamptz,
    finance_invoice_id   text,
    pushed_to_finance_at timestamptz,
    inserted_at          timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    invoice_number       text unique,
    revision             integer not null default 1 check (revision >= 1),
    content_sha256       text not null check (content_sha256 ~ '^[0-9a-f]{64}$'),
    usage_cutoff         timestamptz not null,
    run_id               text not null,
    meta                 jsonb not null default '{}',
    unique (tenant_id, period_start),
    check (period_end = (period_start + interval '1 month')::date),
    check (total_cents::numeric = subtotal_cents::numeric + tax_cents::numeric),
    check (status in ('draft', 'void') or (invoice_number is not null and issued_at is not null))
);
create index on billing.tenant_invoices (status);
create index on billing.tenant_invoices (period_start);
comment on table billing.tenant_invoices is 'One row per tenant and month: the invoice as it stands. Never deleted.';
comment on column billing.tenant_invoices.id is 'The same however often the month is re-run.';
comment on column billing.tenant_invoices.tenant_id is 'Who pays.';
comment on column billing.tenant_invoices.period_start is 'First day of the billing month, UTC.';
comment on column billing.tenant_invoices.period_end is 'First day of the next month, UTC: the period is half open.';
comment on column billing.tenant_invoices.currency is 'AUD.';
comment on column billing.tenant_invoices.subtotal_cents is 'Sum of the lines but tax, cents AUD ex GST.';
comment on column billing.tenant_invoices.tax_cents is 'GST, cents AUD, rounded once per invoice.';
comment on column billing.tenant_invoices.total_cents is 'subtotal_cents + tax_cents.';
comment on column billing.tenant_invoices.status is
    'draft: not yet sent; issued; paid; void: nothing is owed. paid, void and pushed invoices are frozen.';
comment on column billing.tenant_invoices.issued_at is 'When the invoice was first issued; a revision does not move it.';
comment on column billing.tenant_invoices.paid_at is 'When it was paid; null until then.';
comment on column billing.tenant_invoices.finance_invoice_id is 'Its id in the finance system, once pushed.';
comment on column billing.tenant_invoices.pushed_to_finance_at is 'When it was pushed to finance; frozen from then on.';
comment on column billing.tenant_invoices.inserted_at is 'When the row was first written.';
comment on column billing.tenant_invoices.updated_at is 'When the row last changed.';
comment on column billing.tenant_invoices.invoice_number is 'INV-202604-00001: gapless within a month, kept for life.';
comment on column billing.tenant_invoices.revision is 'Counts up each time the content is replaced; see invoice_events.';
comment on column billing.tenant_invoices.content_sha256 is
    'Hash of what is billed (lines, amounts, GST status), without names: equal hashes bill the same.';
comment on column billing.tenant_invoices.usage_cutoff is 'Usage ingested after this instant is not billed.';
comment on column billing.tenant_invoices.run_id is 'The Dagster run that wrote this revision.';
comment on column billing.tenant_invoices.meta is
    'tenant_name and tenant_abn as of the run; gst_free_reason where there is no GST.';

create table billing.tenant_invoice_lines (
    id               uuid not null default gen_random_uuid(),
    invoice_id       uuid not null,
    deployment_id    uuid,
    kind             text not null check (kind in ('plan_base', 'addon', 'overage', 'credit', 'adjustment', 'tax')),
    resource_kind    text,
    description      text not null,
    qty              numeric(18, 6) not null check (qty <> 'NaN'),
    unit             text,
    unit_price_cents numeric(27, 8) not null check (unit_price_cents <> 'NaN'),
    amount_cents     bigint not null,
    meta             jsonb not null default '{}',
    inserted_at      timestamptz not null default now(),
    period_start     date not null,
    line_no          integer not null check (line_no >= 1),
    deployment_name  text,
    primary key (id, period_start)
) partition by range (period_start);
create index on billing.tenant_invoice_lines (invoice_id);
create index on billing.tenant_invoice_lines (deployment_id);
create index on billing.tenant_invoice_lines (resource_kind);
alter table billing.tenant_invoice_lines
    add foreign key (invoice_id) references billing.tenant_invoices on delete cascade;

-- PostgreSQL cannot reference a view, nor a table without the right to: there the deployment is not enforced.
do $$
begin
    if (select relkind in ('r', 'p') from pg_class where oid = to_regclass('cloud.cloud_deployments'))
       and has_table_privilege('cloud.cloud_deployments', 'references') then
        alter table billing.tenant_invoice_lines
            add foreign key (deployment_id) references cloud.cloud_deployments on delete set null;
    end if;
end $$;

comment on table billing.tenant_invoice_lines is 'One row per invoice line. Lines and their invoice are written together.';
comment on column billing.tenant_invoice_lines.id is 'Its invoice''s id with line_no in the last eight digits.';
comment on column billing.tenant_invoice_lines.invoice_id is 'The invoice it is on.';
comment on column billing.tenant_invoice_lines.deployment_id is
    'What it is for; null for tax, credits and adjustments, or once the deployment is deleted.';
comment on column billing.tenant_invoice_lines.kind is 'plan_base, addon, overage, credit, adjustment or tax.';
comment on column billing.tenant_invoice_lines.resource_kind is 'The metered kind of an overage line; else null.';
comment on column billing.tenant_invoice_lines.description is 'The line as the tenant reads it.';
comment on column billing.tenant_invoice_lines.qty is 'Quantity billed, in unit.';
comment on column billing.tenant_invoice_lines.unit is 'What qty counts: month, hour, GB, ...; null for tax.';
comment on column billing.tenant_invoice_lines.unit_price_cents is 'Price of one unit, cents AUD ex GST, to 8 decimals.';
comment on column billing.tenant_invoice_lines.amount_cents is 'qty x unit_price_cents, rounded once, half up; ex GST but for tax.';
comment on column billing.tenant_invoice_lines.meta is
    'Why: effective_from of the price; used and included for overage; rate and taxable_cents for tax.';
comment on column billing.tenant_invoice_lines.inserted_at is 'When the row was written.';
comment on column billing.tenant_invoice_lines.period_start is 'First day of the billing month, UTC.';
comment on column billing.tenant_invoice_lines.line_no is
    'Order on the invoice, from 1: by deployment name, then plan_base, addon, overage; tenant-level lines after; tax last.';
comment on column billing.tenant_invoice_lines.deployment_name is 'The deployment''s name as of the run.';

create table billing.invoice_events (
    id             bigint generated always as identity primary key,
    invoice_id     uuid not null,
    invoice_number text,
    tenant_id      text not null,
    period_start   date not null,
    event          text not null check (event in ('issued', 'reissued', 'voided')),
    revision       integer not null,
    total_cents    bigint not null,
    content_sha256 text not null,
    operator       text not null,
    reason         text not null,
    run_id         text not null,
    occurred_at    timestamptz not null default now(),
    snapshot       jsonb
);
create index on billing.invoice_events (invoice_id);
create index on billing.invoice_events (period_start);
comment on table billing.invoice_events is 'What happened to each invoice, in order; rows are never changed or deleted.';
comment on column billing.invoice_events.id is 'Order of the events.';
comment on column billing.invoice_events.invoice_id is 'The invoice it happened to.';
comment on column billing.invoice_events.invoice_number is 'Its number; null for a draft.';
comment on column billing.invoice_events.tenant_id is 'Who pays.';
comment on column billing.invoice_events.period_start is 'First day of the billing month, UTC.';
comment on column billing.invoice_events.event is 'issued, reissued (the content was replaced) or voided.';
comment on column billing.invoice_events.revision is 'The invoice''s revision after the event.';
comment on column billing.invoice_events.total_cents is 'The invoice''s total after the event, cents AUD.';
comment on column billing.invoice_events.content_sha256 is 'The invoice''s content hash after the event.';
comment on column billing.invoice_events.operator is 'Who: a person''s name, or month_end for the pipeline.';
comment on column billing.invoice_events.reason is 'Why.';
comment on column billing.invoice_events.run_id is 'The Dagster run that did it.';
comment on column billing.invoice_events.occurred_at is 'When.';
comment on column billing.invoice_events.snapshot is
    'For reissued: the replaced revision whole, {"invoice": {...}, "lines": [...]}; else null.';

create function billing.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is history: % is refused, append a new event instead', tg_table_name, tg_op;
end $$;
create trigger invoice_events_are_append_only before update or delete or truncate on billing.invoice_events
    for each statement execute function billing.refuse_change();

comment on schema billing is 'Month-end billing: frozen usage, quotes, invoices and their history.';

-- Bare names work for whoever connects to this database.
do $$
begin
    execute format('alter database %I set search_path = billing, cloud, public', current_database());
exception when insufficient_privilege then
    raise notice 'not the owner of the database: set search_path = billing, cloud, public yourself';
end $$;
