-- The baseline's tables: ordinary ones, not partitioned, with primary keys, the three indexes and the foreign key.
-- Ids in the order of time keep the primary keys' inserts together.
drop schema if exists baseline cascade;
create schema baseline;
create table baseline.invoices (
    id             uuid primary key default uuidv7(),
    tenant_id      text not null,
    period_start   date not null,
    period_end     date not null,
    subtotal_cents bigint not null,
    tax_cents      bigint not null,
    total_cents    bigint not null,
    status         text not null default 'issued',
    issued_at      timestamptz not null default now(),
    invoice_number text not null,
    meta           jsonb not null
);
create table baseline.lines (
    id               uuid primary key default uuidv7(),
    invoice_id       uuid not null references baseline.invoices on delete cascade,
    deployment_id    uuid,
    kind             text not null,
    resource_kind    text,
    description      text not null,
    qty              numeric(18, 6) not null,
    unit             text,
    unit_price_cents numeric(27, 8) not null,
    amount_cents     bigint not null,
    meta             jsonb not null,
    inserted_at      timestamptz not null default now(),
    period_start     date not null,
    line_no          integer not null,
    deployment_name  text
);
create index on baseline.lines (invoice_id);
create index on baseline.lines (deployment_id);
create index on baseline.lines (resource_kind);
