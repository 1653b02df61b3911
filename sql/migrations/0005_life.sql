-- An invoice's life: draft, issued, paid, void, and what may follow what. Kept here, so that it holds for everybody who
-- writes: the pipeline, an operator, somebody in psql. Holds on tenants, corrections of frozen months, and what was
-- accepted as lost.

create function billing.guard_invoice() returns trigger language plpgsql as $$
declare
    is_pushed constant boolean := old.finance_invoice_id is not null or old.pushed_to_finance_at is not null;
    invoice constant text := coalesce(old.invoice_number, 'draft ' || old.id);
begin
    if tg_op = 'DELETE' then
        raise exception 'invoice % is never deleted', invoice using errcode = 'restrict_violation', hint = 'Void it.';
    end if;
    if (new.id, new.tenant_id, new.period_start) is distinct from (old.id, old.tenant_id, old.period_start)
       or (old.invoice_number is not null and new.invoice_number is distinct from old.invoice_number)
       or (old.issued_at is not null and new.issued_at is distinct from old.issued_at) then
        raise exception 'invoice % keeps its id, tenant, month, number and date of issue', invoice
            using errcode = 'restrict_violation';
    end if;
    if new.status <> old.status and (old.status, new.status) not in (
        ('draft', 'issued'), ('draft', 'void'), ('issued', 'paid'), ('issued', 'void'), ('void', 'draft')
    ) then
        raise exception 'invoice % is %, and cannot become %', invoice, old.status, new.status
            using errcode = 'restrict_violation',
                  hint = 'draft to issued or void; issued to paid or void; void to draft; paid stays.';
    end if;
    if new.status = 'draft' and old.status = 'void' and is_pushed then
        raise exception 'invoice % is with finance, and cannot become draft', invoice
            using errcode = 'restrict_violation', hint = 'Withdraw it there, and clear finance_invoice_id and pushed_to_finance_at first.';
    end if;
    if (is_pushed or old.status in ('paid', 'void'))
       and (new.subtotal_cents, new.tax_cents, new.total_cents, new.content_sha256, new.usage_cutoff, new.meta)
           is distinct from
           (old.subtotal_cents, old.tax_cents, old.total_cents, old.content_sha256, old.usage_cutoff, old.meta) then
        raise exception 'invoice % is %, and keeps its content', invoice,
            case when is_pushed then 'with finance' else old.status end using errcode = 'restrict_violation';
    end if;
    if (new.subtotal_cents, new.tax_cents, new.total_cents, new.content_sha256)
       is distinct from (old.subtotal_cents, old.tax_cents, old.total_cents, old.content_sha256) then
        if new.revision is distinct from old.revision + 1 then
            raise exception 'invoice % has revision %: new content is revision %', invoice, old.revision,
                old.revision + 1 using errcode = 'restrict_violation';
        end if;
    elsif new.revision is distinct from old.revision then
        raise exception 'invoice % has the content of revision %, and keeps that number', invoice, old.revision
            using errcode = 'restrict_violation';
    end if;
    if new.status = 'paid' then
        new.paid_at := coalesce(new.paid_at, now());
    end if;
    return new;
end $$;
comment on function billing.guard_invoice() is
    'What may become of an invoice: its states, and that it keeps its number, its history and, once frozen, its content.';
create trigger invoices_keep_the_law before update or delete on billing.tenant_invoices
    for each row execute function billing.guard_invoice();

create function billing.guard_line() returns trigger language plpgsql as $$
declare
    frozen text := (select coalesce(invoice_number, id::text) from billing.tenant_invoices
                    where id = old.invoice_id
                      and (status in ('paid', 'void') or finance_invoice_id is not null
                           or pushed_to_finance_at is not null));
begin
    if frozen is null then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    if tg_op = 'UPDATE' and new.deployment_id is null
       and to_jsonb(new) - 'deployment_id' = to_jsonb(old) - 'deployment_id' then  -- the deployment is deleted
        return new;
    end if;
    raise exception 'invoice % is frozen, and keeps its lines', frozen using errcode = 'restrict_violation';
end $$;
comment on function billing.guard_line() is 'The lines of a paid, void or pushed invoice stay as they are.';
create trigger lines_of_frozen_invoices_stay before update or delete on billing.tenant_invoice_lines
    for each row execute function billing.guard_line();

comment on column billing.tenant_invoices.status is
    'draft: not yet sent, may have no number; issued; paid; void: nothing is owed. draft to issued or void, issued to '
    'paid or void, void to draft. paid, void and pushed invoices are frozen.';
comment on column billing.tenant_invoices.invoice_number is
    'INV-YYYYMM-NNNNN, without a gap within the month, given when it is first issued and kept for life; null before.';

alter table billing.invoice_events
    drop constraint invoice_events_event_check,
    add constraint invoice_events_event_check check (event in (
        'drafted', 'redrafted', 'issued', 'reissued', 'voided', 'paid', 'reopened', 'held', 'released')),
    alter column invoice_id drop not null,
    alter column period_start drop not null,
    alter column revision drop not null,
    alter column total_cents drop not null,
    alter column content_sha256 drop not null,
    add constraint invoice_events_invoice_check check (
        case when event in ('held', 'released')
             then num_nonnulls(invoice_id, invoice_number, period_start, revision, total_cents, content_sha256) = 0
             else num_nonnulls(invoice_id, period_start, revision, total_cents, content_sha256) = 5 end);
create index on billing.invoice_events (tenant_id);
comment on column billing.invoice_events.invoice_id is 'The invoice it happened to; null for held and released.';
comment on column billing.invoice_events.period_start is
    'First day of the billing month, UTC; null for held and released, which concern the tenant.';
comment on column billing.invoice_events.event is
    'drafted, issued; redrafted, reissued (the content was replaced); voided, paid, reopened (void to draft); held, '
    'released (the tenant).';
comment on column billing.invoice_events.snapshot is
    'For redrafted and reissued: the replaced revision whole, {"invoice": {...}, "lines": [...]}; else null.';

create table billing.tenant_holds (
    tenant_id text primary key,
    operator  text not null,
    reason    text not null,
    run_id    text not null,
    held_at   timestamptz not null default now()
);
comment on table billing.tenant_holds is 'One row per tenant on hold: it gets drafts, and nothing is issued to it.';
comment on column billing.tenant_holds.tenant_id is 'The tenant on hold.';
comment on column billing.tenant_holds.operator is 'Who holds it.';
comment on column billing.tenant_holds.reason is 'Why.';
comment on column billing.tenant_holds.run_id is 'The Dagster run that did it.';
comment on column billing.tenant_holds.held_at is 'Since when.';

create table billing.invoice_corrections (
    period_start     date not null check (extract(day from period_start) = 1),
    tenant_id        text not null,
    invoice_number   text not null,
    billed_cents     bigint not null,
    owed_cents       bigint not null,
    difference_cents bigint not null generated always as (owed_cents - billed_cents) stored check (difference_cents <> 0),
    run_id           text not null,
    found_at         timestamptz not null default now(),
    primary key (period_start, tenant_id)
);
comment on table billing.invoice_corrections is
    'One row per paid or pushed invoice that would be billed differently now, ex GST; the difference goes on the tenant''s next '
    'invoice, as a line of kind adjustment or credit with meta "corrects".';
comment on column billing.invoice_corrections.period_start is 'The month that is corrected: its first day, UTC.';
comment on column billing.invoice_corrections.tenant_id is 'Who pays.';
comment on column billing.invoice_corrections.invoice_number is 'The invoice that is corrected; it stays as it is.';
comment on column billing.invoice_corrections.billed_cents is 'Its plan, addon and overage lines, cents AUD ex GST.';
comment on column billing.invoice_corrections.owed_cents is 'The same lines as they would be billed now.';
comment on column billing.invoice_corrections.difference_cents is 'owed_cents - billed_cents.';
comment on column billing.invoice_corrections.run_id is 'The Dagster run that found it as it stands.';
comment on column billing.invoice_corrections.found_at is 'When it did.';
-- What earlier invoices carry of it: few lines among millions.
create index tenant_invoice_lines_corrections on billing.tenant_invoice_lines (invoice_id)
    where kind in ('credit', 'adjustment');

create table billing.usage_acceptances (
    id                bigint generated always as identity primary key,
    period_start      date not null,
    deployment_id     uuid not null,
    resource_kind     text not null,
    usage_cutoff      timestamptz not null,
    frozen_records    bigint not null,
    remaining_records bigint not null check (remaining_records < frozen_records),
    operator          text not null,
    reason            text not null,
    run_id            text not null,
    accepted_at       timestamptz not null default now()
);
create index on billing.usage_acceptances (period_start);
create trigger usage_acceptances_are_append_only before update or delete or truncate on billing.usage_acceptances
    for each statement execute function billing.refuse_change();
comment on table billing.usage_acceptances is
    'One row per deployment and kind whose frozen usage has vanished and was accepted as lost; never changed or deleted.';
comment on column billing.usage_acceptances.id is 'Order.';
comment on column billing.usage_acceptances.period_start is 'First day of the billing month, UTC.';
comment on column billing.usage_acceptances.deployment_id is 'The deployment that was metered.';
comment on column billing.usage_acceptances.resource_kind is 'What was metered.';
comment on column billing.usage_acceptances.usage_cutoff is
    'The cut-off of the frozen usage from which it vanished; usage that is frozen anew is not accepted as lost.';
comment on column billing.usage_acceptances.frozen_records is 'Usable records that the frozen usage counts.';
comment on column billing.usage_acceptances.remaining_records is 'Those left when it was accepted.';
comment on column billing.usage_acceptances.operator is 'Who accepted it.';
comment on column billing.usage_acceptances.reason is 'Why.';
comment on column billing.usage_acceptances.run_id is 'The Dagster run that did it.';
comment on column billing.usage_acceptances.accepted_at is 'When.';
