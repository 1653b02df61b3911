-- How documents go to the tenants: by download, if so configured, and by e-mail.

-- The read API changes nothing but this: that a tenant has downloaded its own invoice.
create function billing.deliver_download(
    of_invoice uuid, shown_revision integer, of_format text, of_sha256 text, of_made_by text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    tenant constant text := nullif(current_setting('arcadia.tenant_id', true), '');
    invoice billing.tenant_invoices;
begin
    if current_setting('arcadia.role', true) is distinct from 'tenant' or tenant is null then
        raise exception 'only a tenant''s own download delivers an invoice' using errcode = 'insufficient_privilege';
    end if;
    select * into invoice from billing.tenant_invoices where id = of_invoice and tenant_id = tenant for update;
    if not found or invoice.revision <> shown_revision or invoice.status not in ('issued', 'paid') then
        return false;
    end if;
    if invoice.delivered_at is null then
        update billing.tenant_invoices i
        set delivered_at = now(), updated_at = greatest(now(), i.updated_at),
            supplier_id = coalesce(i.supplier_id, s.id),
            due_on = coalesce(i.due_on, (i.issued_at at time zone 'UTC')::date + s.payment_terms_days)
        from (select) as one left join billing.suppliers s on s.id = coalesce(
            invoice.supplier_id, (select id from billing.suppliers where effective_from <= invoice.period_start
                                  order by effective_from desc, id desc limit 1))
        where i.id = of_invoice;
        insert into billing.invoice_events
            (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
             reason, run_id)
        values (invoice.id, invoice.invoice_number, invoice.tenant_id, invoice.period_start, 'delivered', invoice.revision,
                invoice.total_cents, invoice.content_sha256, 'tenant ' || tenant, 'downloaded through the API', '');
    end if;
    insert into billing.documents (invoice_id, revision, state, format, sha256, made_by)
    values (of_invoice, shown_revision, 'issued', of_format, of_sha256, of_made_by)
    on conflict (invoice_id, revision, state, format) do nothing;
    return true;
end $$;
revoke execute on function billing.deliver_download(uuid, integer, text, text, text) from public;
comment on function billing.deliver_download(uuid, integer, text, text, text) is
    'Notes that the tenant of the transaction''s settings downloads this document of its own invoice: from then on the '
    'invoice is locked. False, and nothing is noted, if it is not the tenant''s, not issued or paid, or of another revision '
    'meanwhile. All that the read API may change, and it does so only with ARCADIA_DELIVER_ON_DOWNLOAD.';

create table billing.email_outbox (
    invoice_id  uuid primary key references billing.tenant_invoices,
    period_start date not null,
    revision    integer not null check (revision >= 1),
    recipient   text not null,
    message_id  text not null unique,
    state       text not null default 'pending' check (state in ('pending', 'sending', 'sent', 'uncertain', 'refused')),
    said        text,
    operator    text not null check (operator <> ''),
    reason      text not null,
    run_id      text,
    entered_at  timestamptz not null default now(),
    changed_at  timestamptz not null default now()
);
create index on billing.email_outbox (period_start, state);
create function billing.guard_email() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'an e-mail stays in the outbox, whatever became of it' using errcode = 'restrict_violation';
    end if;
    if (new.invoice_id, new.period_start, new.entered_at) is distinct from (old.invoice_id, old.period_start, old.entered_at)
       or old.state <> 'pending' and (new.revision, new.message_id) is distinct from (old.revision, old.message_id) then
        raise exception 'an e-mail keeps its invoice and, once it is sent, its revision and its Message-ID'
            using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state and (old.state, new.state) not in (
        ('pending', 'sending'), ('pending', 'refused'), ('sending', 'sent'), ('sending', 'pending'), ('sending', 'uncertain'),
        ('sending', 'refused'), ('uncertain', 'sent'), ('uncertain', 'pending'), ('uncertain', 'refused'), ('sent', 'refused'),
        ('refused', 'pending')
    ) then
        raise exception 'an e-mail that is % cannot become %', old.state, new.state using errcode = 'restrict_violation';
    end if;
    new.changed_at := now();
    return new;
end $$;
comment on function billing.guard_email() is 'What may become of an e-mail.';
create trigger email_outbox_is_guarded before update or delete on billing.email_outbox
    for each row execute function billing.guard_email();
create trigger email_outbox_stays before truncate on billing.email_outbox
    for each statement execute function billing.refuse_change();
comment on table billing.email_outbox is
    'Invoices that go to their tenants by e-mail: one row per invoice. `sending` is committed before the message leaves, and '
    'the invoice is delivered from then on; what became uncertain is never sent again by itself.';
comment on column billing.email_outbox.invoice_id is 'The invoice.';
comment on column billing.email_outbox.period_start is 'First day of its billing month, UTC.';
comment on column billing.email_outbox.revision is 'The revision that is sent; of a pending one, as it was when it was entered.';
comment on column billing.email_outbox.recipient is 'The address: the tenant''s billing_email, as the invoice has it.';
comment on column billing.email_outbox.message_id is 'The Message-ID, the same however often it is sent.';
comment on column billing.email_outbox.state is
    'pending; sending; sent (the server took it); uncertain (nobody knows whether it did: an operator decides); refused (by the '
    'server, or it came back).';
comment on column billing.email_outbox.said is 'What the server, or the operator, said last.';
comment on column billing.email_outbox.operator is 'Who asked for it.';
comment on column billing.email_outbox.reason is 'Why.';
comment on column billing.email_outbox.run_id is 'The Dagster run that did it; null: none.';
comment on column billing.email_outbox.entered_at is 'When it was asked for.';
comment on column billing.email_outbox.changed_at is 'When it came into its state.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.email_outbox', 'select, insert, update'),
    ('arcadia_analyst',  'billing.email_outbox', 'select');
select billing.admit_roles();

alter function billing.admit_api() rename to admit_api_to_suppliers;
create function billing.admit_api() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform billing.admit_api_to_suppliers();
    grant execute on function billing.deliver_download(uuid, integer, text, text, text) to arcadia_api;
end $$;
revoke execute on function billing.admit_api() from public;
comment on function billing.admit_api_to_suppliers() is 'The fifth part of admit_api().';
comment on function billing.admit_api() is
    'Lets the role arcadia_api read invoices, their history and who sells, the price list with tenants'' own prices, '
    'discounts and commitments, and cost beside revenue, each as the transaction''s settings say; and note that a tenant '
    'downloads its own invoice. Run by the owner of the tables, once the role is there; safe to run again.';
do $$
begin
    if to_regrole('arcadia_api') is not null then  -- else 0004 has said what to do
        perform billing.admit_api();
    end if;
exception when insufficient_privilege then
    raise warning 'the read API cannot note downloads: %', sqlerrm;
end $$;
