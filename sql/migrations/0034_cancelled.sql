-- A delivered invoice that is voided is taken back by an adjustment note, which goes to the tenant as a document of its own.

-- The day is in the history, which tenants do not see.
create function billing.cancelled_on(of_invoice uuid) returns date
language sql stable security definer set search_path = pg_catalog, pg_temp
return (
    select (max(e.occurred_at) at time zone 'UTC')::date
    from billing.invoice_events e
    where e.invoice_id = of_invoice and e.event = 'voided'
      and (current_setting('arcadia.role', true) is distinct from 'tenant'
           or e.tenant_id = current_setting('arcadia.tenant_id', true))
);
revoke execute on function billing.cancelled_on(uuid) from public;
comment on function billing.cancelled_on(uuid) is
    'The day (UTC) on which the invoice was voided last; null if it never was, or if a tenant asks about another''s.';

drop function billing.deliver_download(uuid, integer, text, text, text);
create function billing.deliver_download(
    of_invoice uuid, shown_revision integer, is_note boolean, of_format text, of_sha256 text, of_made_by text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    tenant constant text := nullif(current_setting('arcadia.tenant_id', true), '');
    invoice billing.tenant_invoices;
    is_first boolean;
begin
    if current_setting('arcadia.role', true) is distinct from 'tenant' or tenant is null then
        raise exception 'only a tenant''s own download delivers an invoice' using errcode = 'insufficient_privilege';
    end if;
    select * into invoice from billing.tenant_invoices where id = of_invoice and tenant_id = tenant for update;
    if not found or invoice.revision <> shown_revision
       or is_note and (invoice.status <> 'void' or invoice.delivered_at is null)
       or not is_note and invoice.status not in ('issued', 'paid') then
        return false;
    end if;
    is_first := case when is_note then not exists (select from billing.documents
                                                   where invoice_id = of_invoice and state = 'void')
                     else invoice.delivered_at is null end;
    if is_first and not is_note then
        update billing.tenant_invoices i
        set delivered_at = now(), updated_at = greatest(now(), i.updated_at),
            supplier_id = coalesce(i.supplier_id, s.id),
            due_on = coalesce(i.due_on, (i.issued_at at time zone 'UTC')::date + s.payment_terms_days)
        from (select) as one left join billing.suppliers s on s.id = coalesce(
            invoice.supplier_id, (select id from billing.suppliers where effective_from <= invoice.period_start
                                  order by effective_from desc, id desc limit 1))
        where i.id = of_invoice;
    end if;
    if is_first then
        insert into billing.invoice_events
            (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
             reason, run_id)
        values (invoice.id, invoice.invoice_number, invoice.tenant_id, invoice.period_start, 'delivered', invoice.revision,
                invoice.total_cents, invoice.content_sha256, 'tenant ' || tenant, 'downloaded through the API', '');
    end if;
    insert into billing.documents (invoice_id, revision, state, format, sha256, made_by)
    values (of_invoice, shown_revision, case when is_note then 'void' else 'issued' end, of_format, of_sha256, of_made_by)
    on conflict (invoice_id, revision, state, format) do nothing;
    return true;
end $$;
revoke execute on function billing.deliver_download(uuid, integer, boolean, text, text, text) from public;
comment on function billing.deliver_download(uuid, integer, boolean, text, text, text) is
    'Notes that the tenant of the transaction''s settings downloads this document of its own invoice: the invoice, which is '
    'locked from then on, or the adjustment note that takes it back. False, and nothing is noted, if it is not the tenant''s, '
    'of another revision meanwhile, or not issued or paid; a note, if the invoice is not void or was not delivered. All that '
    'the read API may change, and it does so only with ARCADIA_DELIVER_ON_DOWNLOAD.';
comment on column billing.documents.state is
    'issued (also once it is paid): the invoice. void: the adjustment note that takes it back.';
comment on column billing.tenant_invoices.delivered_at is
    'When its document first went to the tenant; locked from then on. Null: it has not. Voided after that, the invoice is '
    'taken back by an adjustment note.';

create or replace function billing.admit_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform billing.admit_api_to_suppliers();
    grant execute on function billing.deliver_download(uuid, integer, boolean, text, text, text),
        billing.cancelled_on(uuid) to arcadia_api;
end $$;
do $$
begin
    if to_regrole('arcadia_api') is not null then  -- else 0004 has said what to do
        perform billing.admit_api();
    end if;
exception when insufficient_privilege then
    raise warning 'the read API cannot show adjustment notes: %', sqlerrm;
end $$;

alter table billing.email_outbox
    add column document_state text not null default 'issued' check (document_state in ('issued', 'void')),
    drop constraint email_outbox_pkey,
    add primary key (invoice_id, document_state);
create or replace function billing.guard_email() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'an e-mail stays in the outbox, whatever became of it' using errcode = 'restrict_violation';
    end if;
    if (new.invoice_id, new.document_state, new.period_start, new.entered_at)
           is distinct from (old.invoice_id, old.document_state, old.period_start, old.entered_at)
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
comment on table billing.email_outbox is
    'Documents that go to their tenants by e-mail: one row per invoice, and one more for the adjustment note that takes it '
    'back. `sending` is committed before the message leaves, and the document is delivered from then on; what became '
    'uncertain is never sent again by itself.';
comment on column billing.email_outbox.document_state is
    'Which document: issued, the invoice; void, its adjustment note. As in documents.';

insert into billing.role_rights values ('arcadia_pipeline', 'billing.cancelled_on(uuid)', 'execute');
select billing.admit_roles();
