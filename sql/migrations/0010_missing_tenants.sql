-- Tenants that were invoiced and have nothing to bill any more: if they are many, a month is published only when an
-- operator has accepted that they are gone (storage/missing.py).
create table billing.missing_tenant_acceptances (
    id            bigint generated always as identity primary key,
    period_start  date not null check (extract(day from period_start) = 1),
    tenant_id     text not null,
    operator      text not null,
    reason        text not null,
    run_id        text not null,
    accepted_at   timestamptz not null default now()
);
create index on billing.missing_tenant_acceptances (period_start);
create trigger missing_tenant_acceptances_are_append_only
    before update or delete or truncate on billing.missing_tenant_acceptances
    for each statement execute function billing.refuse_change();
comment on table billing.missing_tenant_acceptances is
    'One row per month and tenant that was invoiced in it, or in the month before, has nothing to bill any more, and was '
    'accepted as gone; never changed or deleted.';
comment on column billing.missing_tenant_acceptances.id is 'Order.';
comment on column billing.missing_tenant_acceptances.period_start is 'First day of the billing month, UTC.';
comment on column billing.missing_tenant_acceptances.tenant_id is 'Who has nothing to bill any more.';
comment on column billing.missing_tenant_acceptances.operator is 'Who accepted it.';
comment on column billing.missing_tenant_acceptances.reason is 'Why.';
comment on column billing.missing_tenant_acceptances.run_id is 'The Dagster run that did it.';
comment on column billing.missing_tenant_acceptances.accepted_at is 'When.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.missing_tenant_acceptances', 'select, insert');
select billing.admit_roles();
