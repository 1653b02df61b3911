-- What finance is to be told of invoices: written with the change itself, sent afterwards, each exactly once.

create table billing.finance_outbox (
    id                 bigint generated always as identity primary key,
    invoice_id         uuid not null references billing.tenant_invoices,
    tenant_id          text not null,
    period_start       date not null check (extract(day from period_start) = 1),
    revision           integer not null check (revision >= 1),
    operation          text not null check (operation in ('put', 'void', 'payment')),
    payload            text not null,
    payload_sha256     text not null check (payload_sha256 ~ '^[0-9a-f]{64}$'),
    state              text not null default 'pending'
                       check (state in ('pending', 'sending', 'uncertain', 'confirmed', 'refused')),
    held               boolean not null default false,
    attempts           integer not null default 0 check (attempts >= 0),
    due_at             timestamptz not null default now(),
    tried_since        timestamptz,
    attempted_at       timestamptz,
    settled_at         timestamptz,
    last_error         text,
    finance_invoice_id text,
    etag               text,
    enqueued_at        timestamptz not null default now(),
    unique (invoice_id, revision, operation),
    check ((state in ('confirmed', 'refused')) = (settled_at is not null))
);
-- Most rows are settled: these find the others.
create index finance_outbox_open on billing.finance_outbox (period_start, id)
    where state in ('pending', 'sending', 'uncertain');
create index finance_outbox_open_of_tenant on billing.finance_outbox (tenant_id, id)
    where state in ('pending', 'sending', 'uncertain');
create index finance_outbox_refused on billing.finance_outbox (period_start) where state = 'refused';
comment on table billing.finance_outbox is
    'What finance is to be told: one row per invoice, revision and operation, written in the transaction that issues, '
    'revises, voids or pays the invoice. Empty unless ARCADIA_FINANCE_URL is set.';
comment on column billing.finance_outbox.id is 'Order of entry: a tenant''s rows are sent in this order.';
comment on column billing.finance_outbox.invoice_id is 'The invoice.';
comment on column billing.finance_outbox.tenant_id is 'Its tenant.';
comment on column billing.finance_outbox.period_start is 'First day of its billing month, UTC.';
comment on column billing.finance_outbox.revision is 'The revision that it is about.';
comment on column billing.finance_outbox.operation is
    'put (the invoice as it is), void, payment (an operator recorded that it was paid).';
comment on column billing.finance_outbox.payload is 'What is sent, as JSON; its bytes in UTF-8 never change.';
comment on column billing.finance_outbox.payload_sha256 is 'SHA-256 of those bytes.';
comment on column billing.finance_outbox.state is
    'pending (finance certainly does not have it), sending (on its way), uncertain (it may have it: it is asked before '
    'anything is sent again), confirmed (it has it), refused (it will not take it).';
comment on column billing.finance_outbox.held is 'Not sent until an operator runs arcadia finance push.';
comment on column billing.finance_outbox.attempts is 'How often it was tried.';
comment on column billing.finance_outbox.due_at is 'When it is tried next.';
comment on column billing.finance_outbox.tried_since is 'When it was tried first; null: never.';
comment on column billing.finance_outbox.attempted_at is 'When it was tried last; null: never.';
comment on column billing.finance_outbox.settled_at is 'When it was confirmed or refused; null: it is neither.';
comment on column billing.finance_outbox.last_error is 'Why the last attempt failed; null: it did not.';
comment on column billing.finance_outbox.finance_invoice_id is 'Finance''s id of the invoice, once put is confirmed.';
comment on column billing.finance_outbox.etag is 'Finance''s version of it: a later revision names it.';
comment on column billing.finance_outbox.enqueued_at is 'When it was written.';

create function billing.guard_outbox() returns trigger
language plpgsql
set search_path to 'pg_catalog', 'pg_temp' as $$
begin
    if (new.invoice_id, new.tenant_id, new.period_start, new.revision, new.operation, new.payload, new.payload_sha256)
       is distinct from
       (old.invoice_id, old.tenant_id, old.period_start, old.revision, old.operation, old.payload, old.payload_sha256) then
        raise exception 'row % of finance_outbox keeps what it says', old.id using errcode = 'restrict_violation';
    end if;
    if old.state = 'confirmed' and new.state <> 'confirmed' then
        raise exception 'row % of finance_outbox is confirmed, and stays so', old.id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
comment on function billing.guard_outbox() is 'What finance is told does not change, and what it has confirmed is settled.';
create trigger guard_outbox before update on billing.finance_outbox
    for each row execute function billing.guard_outbox();

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.finance_outbox', 'select, insert, update, delete'),
    ('arcadia_analyst',  'billing.finance_outbox', 'select');
select billing.admit_roles();
