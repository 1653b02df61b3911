-- Invoices as documents: who sells, when an invoice is due, and that one which the tenant has been given is locked.

create function billing.is_abn(abn text) returns boolean
language sql immutable parallel safe
return abn ~ '^[0-9]{11}$' and (
    select sum(weight * (substr(abn, place::integer, 1)::integer - (place = 1)::integer)) % 89 = 0
    from unnest(array[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]) with ordinality as w (weight, place));
comment on function billing.is_abn(text) is
    'Whether a text is an Australian Business Number, written without spaces: 11 digits, the first two of which check the '
    'rest (the Australian Business Register''s rule: less 1 of the first, weighted, the sum is divisible by 89).';

create table billing.suppliers (
    id                  bigint generated always as identity primary key,
    effective_from      date not null check (extract(day from effective_from) = 1),
    legal_name          text not null check (legal_name <> ''),
    abn                 text not null check (billing.is_abn(abn)),
    address             text not null check (address <> ''),
    email               text not null check (email <> ''),
    bank_account_name   text not null check (bank_account_name <> ''),
    bank_bsb            text not null check (bank_bsb ~ '^[0-9]{3}-[0-9]{3}$'),
    bank_account_number text not null check (bank_account_number ~ '^[0-9]{5,10}$'),
    payment_terms_days  integer not null check (payment_terms_days between 0 and 365),
    logo_svg            text check (length(logo_svg) <= 200000),
    operator            text not null check (operator <> ''),
    reason              text not null,
    run_id              text,
    entered_at          timestamptz not null default now()
);
create index on billing.suppliers (effective_from, id);
create trigger suppliers_are_append_only before update or delete or truncate on billing.suppliers
    for each statement execute function billing.refuse_change();
comment on table billing.suppliers is
    'Who sells, as invoices show it: one row per entry; never changed or deleted. A month has the newest entry of the newest '
    'effective_from that is not after it. An invoice keeps the entry that it was issued with.';
comment on column billing.suppliers.id is 'Order of entry.';
comment on column billing.suppliers.effective_from is 'The first month that it is for, by its first day.';
comment on column billing.suppliers.legal_name is 'The name that the ABN is registered to.';
comment on column billing.suppliers.abn is 'Australian Business Number, 11 digits.';
comment on column billing.suppliers.address is 'The address in lines.';
comment on column billing.suppliers.email is 'Where a tenant writes to about an invoice.';
comment on column billing.suppliers.bank_account_name is 'Whose account payments go to.';
comment on column billing.suppliers.bank_bsb is 'Its BSB, like 062-000.';
comment on column billing.suppliers.bank_account_number is 'Its number.';
comment on column billing.suppliers.payment_terms_days is 'How many days after its day of issue an invoice is due.';
comment on column billing.suppliers.logo_svg is 'The logo at the head of a document, as SVG; null: the name alone.';
comment on column billing.suppliers.operator is 'Who entered it.';
comment on column billing.suppliers.reason is 'Why.';
comment on column billing.suppliers.run_id is 'The Dagster run that did it; null: none.';
comment on column billing.suppliers.entered_at is 'When.';

alter table billing.tenant_invoices
    add column delivered_at timestamptz,
    add column due_on date,
    add column supplier_id bigint references billing.suppliers;
comment on column billing.tenant_invoices.delivered_at is
    'When its document first went to the tenant; locked from then on. Null: it has not.';
comment on column billing.tenant_invoices.due_on is
    'When it is to be paid: its day of issue (UTC) and the supplier''s payment_terms_days. Null: no supplier was entered.';
comment on column billing.tenant_invoices.supplier_id is
    'Who sells, as on the day of this revision. Null: nobody was entered then; set when it is delivered.';
comment on column billing.tenant_invoices.meta is
    'The buyer as on the day of this revision: tenant_name, tenant_abn, billing_address, billing_email; gst_free_reason.';

create table billing.documents (
    invoice_id  uuid not null references billing.tenant_invoices,
    revision    integer not null check (revision >= 1),
    state       text not null check (state in ('issued', 'void')),
    format      text not null check (format in ('pdf', 'xml')),
    sha256      text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    made_by     text not null,
    left_at     timestamptz not null default now(),
    primary key (invoice_id, revision, state, format)
);
create trigger documents_are_append_only before update or delete or truncate on billing.documents
    for each statement execute function billing.refuse_change();
comment on table billing.documents is
    'Documents that have left the house, by their hash: one row per invoice, revision, state and format; never changed or '
    'deleted. The same revision is the same bytes.';
comment on column billing.documents.invoice_id is 'The invoice.';
comment on column billing.documents.revision is 'The revision that it shows.';
comment on column billing.documents.state is 'issued (also once it is paid), or void.';
comment on column billing.documents.format is 'pdf or xml.';
comment on column billing.documents.sha256 is 'SHA-256 of its bytes.';
comment on column billing.documents.made_by is 'What made it: the renderer and its version.';
comment on column billing.documents.left_at is 'When it first left.';

-- Delivered is locked, as paid, void and with finance are.
create or replace function billing.is_locked(i billing.tenant_invoices) returns boolean
language sql immutable parallel safe
return i.status in ('paid', 'void') or i.finance_invoice_id is not null or i.pushed_to_finance_at is not null
       or i.delivered_at is not null;
comment on function billing.is_locked(billing.tenant_invoices) is
    'Whether the invoice is paid, void, delivered or with finance: then its content and its lines stay as they are.';

create or replace function billing.invoice_digest(i billing.tenant_invoices, finance_id text, pushed_at timestamptz) returns bytea
language sql stable parallel safe
return sha256(convert_to(
    row(i.id, i.tenant_id, i.invoice_number, to_char(i.period_start, 'YYYY-MM-DD'), to_char(i.period_end, 'YYYY-MM-DD'),
        i.currency, i.subtotal_cents, i.tax_cents, i.total_cents, i.status, extract(epoch from i.issued_at),
        extract(epoch from i.paid_at), finance_id, extract(epoch from pushed_at), i.revision, i.content_sha256,
        i.lines_sha256, extract(epoch from i.usage_cutoff), i.run_id, i.meta)::text
    -- What an invoice of before has nothing of, so that it keeps its digest.
    || case when num_nonnulls(i.delivered_at, i.due_on, i.supplier_id) > 0 then
           row(extract(epoch from i.delivered_at), to_char(i.due_on, 'YYYY-MM-DD'), i.supplier_id)::text else '' end, 'UTF8'));

alter table billing.invoice_events drop constraint invoice_events_event_check;
alter table billing.invoice_events add constraint invoice_events_event_check check (event in
    ('drafted', 'redrafted', 'issued', 'reissued', 'voided', 'paid', 'reopened', 'withdrawn', 'rebuilt', 'delivered', 'held',
     'released'));
comment on column billing.invoice_events.event is
    'drafted, issued; redrafted, reissued (the content was replaced); voided, paid, reopened (void to draft), withdrawn (from '
    'finance), rebuilt (lines that were lost or changed outside the pipeline were written again as they were), delivered '
    '(its document went to the tenant); held, released (the tenant).';

create or replace function billing.guard_invoice() returns trigger
language plpgsql
set search_path to 'pg_catalog', 'pg_temp' as $$
declare
    is_pushed constant boolean := num_nonnulls(old.finance_invoice_id, old.pushed_to_finance_at) > 0;
    is_withdrawn boolean;
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
    if old.paid_at is not null and new.paid_at is distinct from old.paid_at then
        raise exception 'invoice % keeps its date of payment', invoice using errcode = 'restrict_violation';
    end if;
    if old.delivered_at is not null and new.delivered_at is distinct from old.delivered_at then
        raise exception 'invoice % was delivered, and keeps its date of delivery', invoice
            using errcode = 'restrict_violation';
    end if;
    if new.delivered_at is not null and old.delivered_at is null and new.status not in ('issued', 'paid') then
        raise exception 'invoice % is %: only issued and paid ones are delivered', invoice, new.status
            using errcode = 'restrict_violation';
    end if;
    is_withdrawn := num_nonnulls(new.finance_invoice_id, new.pushed_to_finance_at) = 0;  -- see guard_withdrawal()
    if not is_withdrawn
       and (old.finance_invoice_id is not null and new.finance_invoice_id is distinct from old.finance_invoice_id
            or old.pushed_to_finance_at is not null
               and new.pushed_to_finance_at is distinct from old.pushed_to_finance_at) then
        raise exception 'invoice % keeps what finance has said of it', invoice using errcode = 'restrict_violation';
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
            using errcode = 'restrict_violation',
                  hint = 'Withdraw it there, and clear it here with the job withdraw_from_finance first.';
    end if;
    if new.status = 'draft' and old.status = 'void' and old.delivered_at is not null then
        raise exception 'invoice % was delivered, and cannot become draft', invoice
            using errcode = 'restrict_violation', hint = 'Bill what is owed on the next invoice: arcadia add-line.';
    end if;
    if billing.is_locked(old)
       and (new.subtotal_cents, new.tax_cents, new.total_cents, new.content_sha256, new.lines_sha256, new.usage_cutoff,
            new.meta) is distinct from
           (old.subtotal_cents, old.tax_cents, old.total_cents, old.content_sha256, old.lines_sha256, old.usage_cutoff,
            old.meta) then
        raise exception 'invoice % is %, and keeps its content', invoice,
            
            case when is_pushed then 'with finance' when old.delivered_at is not null then 'delivered' else old.status end
            using errcode = 'restrict_violation';
    end if;
    if (new.subtotal_cents, new.tax_cents, new.total_cents, new.content_sha256, new.lines_sha256)
       is distinct from (old.subtotal_cents, old.tax_cents, old.total_cents, old.content_sha256, old.lines_sha256) then
        if new.revision is distinct from old.revision + 1 then
            raise exception 'invoice % has revision %: new content is revision %', invoice, old.revision,
                old.revision + 1 using errcode = 'restrict_violation';
        end if;
    elsif new.revision is distinct from old.revision then
        raise exception 'invoice % has the content of revision %, and keeps that number', invoice, old.revision
            using errcode = 'restrict_violation';
    elsif (new.meta, new.usage_cutoff, new.run_id, new.currency, new.period_end)
          is distinct from (old.meta, old.usage_cutoff, old.run_id, old.currency, old.period_end) then
        raise exception 'invoice % keeps its buyer, its cut-off and its run', invoice
            using errcode = 'restrict_violation', hint = 'They change with its content, in a new revision.';
    end if;
    if (new.supplier_id, new.due_on) is distinct from (old.supplier_id, old.due_on) and new.revision = old.revision
       and not (old.supplier_id is null and (new.status = 'issued' and old.status = 'draft'
                                             or new.delivered_at is not null and old.delivered_at is null)) then
        raise exception 'invoice % keeps its supplier and the day when it is due', invoice
            using errcode = 'restrict_violation', hint = 'They change with its content, in a new revision.';
    end if;
    if new.status = 'paid' then
        new.paid_at := coalesce(new.paid_at, now());
    end if;
    return new;
end $$;
comment on function billing.guard_invoice() is
    'What may become of an invoice: its states; that it keeps its number, its dates, its history and, until a new revision or '
    'once locked, its content.';

-- GST is rounded once per invoice, and a document or a ledger wants it by line.
create view billing.invoice_line_gst with (security_invoker = true) as
select invoice_id, period_start, line_no, is_taxable,
       case when is_taxable then down + div(left_cents, lines)
                                 + case when place <= left_cents - lines * div(left_cents, lines) then 1 else 0 end
            else 0 end::bigint as gst_cents
from (
    select t.*, tax_cents - sum(down) over whose as left_cents, count(*) over whose as lines,
           row_number() over (partition by invoice_id, period_start, is_taxable
                              order by amount_cents - 10 * down desc, line_no) as place
    from (
        select l.invoice_id, l.period_start, l.line_no, l.amount_cents, i.tax_cents,
               floor(l.amount_cents / 10.0)::bigint as down,
               coalesce(l.meta ->> 'taxable' = 'true', has_tax and not i.meta ? 'gst_free_reason') as is_taxable
        from (
            select *, bool_or(kind = 'tax') over (partition by invoice_id, period_start) as has_tax
            from billing.tenant_invoice_lines
        ) l
        join billing.tenant_invoices i on i.id = l.invoice_id
        where l.kind <> 'tax'
    ) t
    window whose as (partition by invoice_id, period_start, is_taxable)
) s;
comment on view billing.invoice_line_gst is
    'The GST of each invoice line but the tax line, which they sum to: a tenth of its amount rounded down, and of the cents '
    'that are left one each by the largest remainders, equal ones in line order.';
comment on column billing.invoice_line_gst.invoice_id is 'The invoice.';
comment on column billing.invoice_line_gst.period_start is 'First day of the billing month, UTC.';
comment on column billing.invoice_line_gst.line_no is 'The line.';
comment on column billing.invoice_line_gst.is_taxable is 'Whether GST applies to it.';
comment on column billing.invoice_line_gst.gst_cents is 'GST of the line, cents AUD.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.suppliers', 'select, insert'),
    ('arcadia_pipeline', 'billing.documents', 'select, insert'),
    ('arcadia_pipeline', 'billing.invoice_line_gst', 'select'),
    ('arcadia_analyst',  'billing.suppliers', 'select'),
    ('arcadia_analyst',  'billing.documents', 'select'),
    ('arcadia_analyst',  'billing.invoice_line_gst', 'select');
select billing.admit_roles();

-- The read API shows documents.
alter function billing.admit_api() rename to admit_api_to_terms;
create function billing.admit_api() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform billing.admit_api_to_terms();
    grant select on billing.suppliers, billing.invoice_line_gst to arcadia_api;
end $$;
revoke execute on function billing.admit_api() from public;
comment on function billing.admit_api_to_terms() is 'The fourth part of admit_api().';
comment on function billing.admit_api() is
    'Lets the role arcadia_api read invoices, their history and who sells, the price list with tenants'' own prices, '
    'discounts and commitments, and cost beside revenue, each as the transaction''s settings say. Run by the owner of the '
    'tables, once the role is there; safe to run again.';
do $$
begin
    if to_regrole('arcadia_api') is not null then  -- else 0004 has said what to do
        perform billing.admit_api();
    end if;
exception when insufficient_privilege then
    raise warning 'the read API cannot show documents: %', sqlerrm;
end $$;

-- The buyer's address, and where a document goes. As 0026: only beside tables of ours is something added.
do $$
begin
    if obj_description(to_regnamespace('cloud'), 'pg_namespace')
       is distinct from 'The platform''s operational tables; billing reads them and never writes.'
       or (select relkind from pg_class where oid = to_regclass('cloud.tenants')) is distinct from 'r' then
        return;
    end if;
    alter table cloud.tenants add column if not exists billing_email text, add column if not exists billing_address text;
    comment on column cloud.tenants.billing_email is 'Where invoices go; null: nowhere.';
    comment on column cloud.tenants.billing_address is 'The address that invoices show, in lines; null: none.';
end $$;
