-- History as a chain of hashes: of a month's events, each hash is of the one before it, of the whole event and of the
-- invoice as the event left it. Whoever has noted a month's newest hash, its head, outside this database can prove that
-- nothing up to it was changed since, by the superuser either (arcadia audit --head). And locked means locked, by any path.

alter table billing.invoice_events add column session_login text;
alter table billing.invoice_events alter column session_login set default session_user;
comment on column billing.invoice_events.session_login is
    'The database login that wrote the event, as PostgreSQL knows it, whatever operator says. Null for those of before.';
comment on column billing.invoice_events.occurred_at is 'When: the beginning of the transaction that wrote it.';

-- The audits prove what it is; to look at each digit of it costs a month end a tenth of a second for 50,000 invoices.
alter table billing.tenant_invoices
    drop constraint tenant_invoices_lines_sha256_check,
    add constraint tenant_invoices_lines_sha256_check check (length(lines_sha256) = 64);

-- A function and no column, which a program that copies whole rows would have to leave out.
create function billing.is_locked(i billing.tenant_invoices) returns boolean language sql immutable parallel safe
return i.status in ('paid', 'void') or i.finance_invoice_id is not null or i.pushed_to_finance_at is not null;
comment on function billing.is_locked(billing.tenant_invoices) is
    'Whether the invoice is paid, void or with finance: then its content and its lines stay as they are.';

-- What is hashed, as texts that no session's setting changes and that no other row has. A column that a later migration
-- adds goes behind, and only where it is not null: what was hashed before stays true.

create function billing.event_digest(e billing.invoice_events) returns bytea language sql stable parallel safe
return sha256(convert_to(row(
    e.id, e.invoice_id, e.invoice_number, e.tenant_id, to_char(e.period_start, 'YYYY-MM-DD'), e.event, e.revision,
    e.total_cents, e.content_sha256, e.operator, e.reason, e.run_id, extract(epoch from e.occurred_at), e.snapshot,
    e.session_login)::text, 'UTF8'));
comment on function billing.event_digest(billing.invoice_events) is 'SHA-256 of the whole event.';

create function billing.invoice_digest(i billing.tenant_invoices, finance_id text, pushed_at timestamptz) returns bytea
language sql stable parallel safe
return sha256(convert_to(row(
    i.id, i.tenant_id, i.invoice_number, to_char(i.period_start, 'YYYY-MM-DD'), to_char(i.period_end, 'YYYY-MM-DD'),
    i.currency, i.subtotal_cents, i.tax_cents, i.total_cents, i.status, extract(epoch from i.issued_at),
    extract(epoch from i.paid_at), finance_id, extract(epoch from pushed_at), i.revision, i.content_sha256,
    i.lines_sha256, extract(epoch from i.usage_cutoff), i.run_id, i.meta)::text, 'UTF8'));
comment on function billing.invoice_digest(billing.tenant_invoices, text, timestamptz) is
    'SHA-256 of the invoice, with its buyer in meta and its lines by their hash, as it is with this finance_invoice_id and '
    'pushed_to_finance_at.';

create table billing.event_heads (
    chain        text primary key,
    place        bigint not null,
    sha256       bytea not null,
    begun_after  text,
    begun_after_sha256 bytea,
    check (num_nulls(begun_after, begun_after_sha256) in (0, 2))
);
comment on table billing.event_heads is
    'One row per chain of events: its newest hash. One chain per month, like 2026-04, and one, tenants, of what was held '
    'and released.';
comment on column billing.event_heads.chain is 'The month, like 2026-04; or tenants.';
comment on column billing.event_heads.place is 'How many events the chain has.';
comment on column billing.event_heads.sha256 is 'The head: the hash of its newest event.';
comment on column billing.event_heads.begun_after is
    'The chain that was begun before this one; its first hash follows on a hash of that. Null for the first of all.';
comment on column billing.event_heads.begun_after_sha256 is 'The head of that chain then.';

create table billing.event_chain (
    chain          text not null,
    place          bigint not null,
    event_id       bigint not null,
    invoice_sha256 bytea,
    sha256         bytea not null,
    primary key (chain, place)
);
comment on table billing.event_chain is
    'One row per event of invoice_events, written with it by the database itself; never changed or deleted.';
comment on column billing.event_chain.chain is 'The month of the event, like 2026-04; tenants for held and released.';
comment on column billing.event_chain.place is 'Place in the chain, from 1 without a gap, in the order of the events'' ids.';
comment on column billing.event_chain.event_id is 'The event.';
comment on column billing.event_chain.invoice_sha256 is
    'billing.invoice_digest() of the invoice as the event left it. Null for held and released, and for those of before '
    'this table, but the newest of each invoice.';
comment on column billing.event_chain.sha256 is
    'SHA-256 of the hash before it (of the first: of begun_after_sha256, or of none), billing.event_digest() and '
    'invoice_sha256.';
create trigger event_chain_is_append_only before update or delete or truncate on billing.event_chain
    for each statement execute function billing.refuse_change();

create function billing.extend_chain(of_chain text, ids bigint[], events bytea[], invoices bytea[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    head billing.event_heads;
    hash bytea;
    hashes bytea[];
begin
    insert into billing.event_heads
    select of_chain, 0, coalesce(h.sha256, ''), h.chain, h.sha256
    from (select) one left join (
        select h.* from billing.event_heads h join billing.event_chain c on c.chain = h.chain and c.place = 1
        order by c.event_id desc limit 1
    ) h on true
    where not exists (select from billing.event_heads where chain = of_chain)
    on conflict do nothing;
    select * into strict head from billing.event_heads where chain = of_chain for update;
    if ids[1] <= (select event_id from billing.event_chain where (chain, place) = (of_chain, head.place)) then
        raise exception 'event % is not after the newest of %', ids[1], of_chain using errcode = 'serialization_failure',
            hint = 'Let the database number it, and try again if somebody else has written one meanwhile.';
    end if;
    hash := head.sha256;
    for n in 1 .. cardinality(ids) loop
        hash := sha256(hash || events[n] || coalesce(invoices[n], ''));
        hashes[n] := hash;
    end loop;
    insert into billing.event_chain
    select of_chain, head.place + n, id, invoice, sha256
    from unnest(ids, invoices, hashes) with ordinality as e (id, invoice, sha256, n);
    update billing.event_heads set place = head.place + cardinality(ids), sha256 = hash where chain = of_chain;
end $$;
revoke execute on function billing.extend_chain(text, bigint[], bytea[], bytea[]) from public;
comment on function billing.extend_chain(text, bigint[], bytea[], bytea[]) is
    'Appends events to a chain, in order: their ids, their digests and those of their invoices.';

-- So that an invoice is looked up by its id, also in a month that the planner has not heard of.
create function billing.chain_events() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    part record;
begin
    if exists (select from new_events where occurred_at <> now() or session_login is distinct from session_user) then
        raise exception 'an event is of now, and of the login that writes it' using errcode = 'restrict_violation',
            hint = 'Leave occurred_at and session_login out.';
    end if;
    for part in
        select chain, array_agg(id order by id) as ids, array_agg(event order by id) as events,
               array_agg(invoice order by id) as invoices
        from (
            select e.id, coalesce(to_char(e.period_start, 'YYYY-MM'), 'tenants') as chain,
                   billing.event_digest(e::billing.invoice_events) as event,
                   case when i.id is not null
                        then billing.invoice_digest(i, i.finance_invoice_id, i.pushed_to_finance_at) end as invoice
            from new_events e left join billing.tenant_invoices i on i.id = e.invoice_id
        ) e
        group by chain order by chain
    loop
        perform billing.extend_chain(part.chain, part.ids, part.events, part.invoices);
    end loop;
    return null;
end $$;
comment on function billing.chain_events() is
    'Chains the events that a statement has written, whoever wrote them, and refuses those that are dated or named '
    'otherwise than they are written. Runs as the owner of the tables.';
create trigger events_are_chained after insert on billing.invoice_events
    referencing new table as new_events for each statement execute function billing.chain_events();

-- The history that there is. How an invoice was after an older event is not known any more.
do $$
declare
    part record;
begin
    for part in
        select chain, array_agg(id order by id) as ids, array_agg(event order by id) as events,
               array_agg(invoice order by id) as invoices
        from (
            select e.id, coalesce(to_char(e.period_start, 'YYYY-MM'), 'tenants') as chain,
                   billing.event_digest(e) as event,
                   case when i.id is not null and lead(e.id) over (partition by e.invoice_id order by e.id) is null
                        then billing.invoice_digest(i, i.finance_invoice_id, i.pushed_to_finance_at) end as invoice
            from billing.invoice_events e left join billing.tenant_invoices i on i.id = e.invoice_id
        ) e
        group by chain order by min(id)
    loop
        perform billing.extend_chain(part.chain, part.ids, part.events, part.invoices);
    end loop;
end $$;

-- What may become of an invoice.

alter table billing.invoice_events
    drop constraint invoice_events_event_check,
    add constraint invoice_events_event_check check (event in (
        'drafted', 'redrafted', 'issued', 'reissued', 'voided', 'paid', 'reopened', 'withdrawn', 'held', 'released'));
comment on column billing.invoice_events.event is
    'drafted, issued; redrafted, reissued (the content was replaced); voided, paid, reopened (void to draft), withdrawn '
    '(from finance); held, released (the tenant).';

create or replace function billing.guard_invoice() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
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
    if billing.is_locked(old)
       and (new.subtotal_cents, new.tax_cents, new.total_cents, new.content_sha256, new.lines_sha256, new.usage_cutoff,
            new.meta) is distinct from
           (old.subtotal_cents, old.tax_cents, old.total_cents, old.content_sha256, old.lines_sha256, old.usage_cutoff,
            old.meta) then
        raise exception 'invoice % is %, and keeps its content', invoice,
            case when is_pushed then 'with finance' else old.status end using errcode = 'restrict_violation';
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
    if new.status = 'paid' then
        new.paid_at := coalesce(new.paid_at, now());
    end if;
    return new;
end $$;
comment on function billing.guard_invoice() is
    'What may become of an invoice: its states; that it keeps its number, its dates, its history and, until a new revision '
    'or once locked, its content.';

create function billing.guard_withdrawal() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from billing.invoice_events
                   where invoice_id = new.id and event = 'withdrawn' and occurred_at = now()) then
        raise exception 'invoice % is with finance, and stays so', coalesce(new.invoice_number, new.id::text)
            using errcode = 'restrict_violation',
                  hint = 'Withdraw it there, and clear it here with the job withdraw_from_finance first.';
    end if;
    return null;
end $$;
comment on function billing.guard_withdrawal() is
    'An invoice is no longer with finance only where the same transaction has written the event withdrawn.';
create constraint trigger invoices_leave_finance_with_an_event after update on billing.tenant_invoices
    deferrable initially deferred for each row
    when (num_nonnulls(old.finance_invoice_id, old.pushed_to_finance_at) > 0
          and num_nonnulls(new.finance_invoice_id, new.pushed_to_finance_at) = 0)
    execute function billing.guard_withdrawal();

-- The lines of what is locked.

create or replace function billing.guard_line() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
    locked text := (select coalesce(invoice_number, id::text) from billing.tenant_invoices i
                    where i.id = old.invoice_id and billing.is_locked(i));
begin
    if tg_op = 'UPDATE' and (new.invoice_id, new.period_start) is distinct from (old.invoice_id, old.period_start) then
        raise exception 'line % stays on its invoice', old.id using errcode = 'restrict_violation';
    end if;
    if locked is null then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    if tg_op = 'UPDATE' and new.deployment_id is null
       and to_jsonb(new) - 'deployment_id' = to_jsonb(old) - 'deployment_id' then  -- the deployment is deleted
        return new;
    end if;
    raise exception 'invoice % is locked, and keeps its lines', locked using errcode = 'restrict_violation';
end $$;
comment on function billing.guard_line() is
    'A line stays on its invoice; the lines of a locked one stay as they are.';

create function billing.guard_new_lines() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    refused record;
begin
    select coalesce(i.invoice_number, i.id::text) as invoice, to_char(i.period_start, 'YYYY-MM') as month,
           n.period_start = i.period_start as of_its_month into refused
    from (select distinct invoice_id, period_start from new_lines) n
    join billing.tenant_invoices i on i.id = n.invoice_id
    where n.period_start <> i.period_start
       or billing.is_locked(i) and i.lines_sha256 <> (
           select billing.sha256_hex(string_agg(billing.line_text(l), chr(30) order by l.line_no))
           from billing.tenant_invoice_lines l where l.invoice_id = i.id and l.period_start = i.period_start)
    limit 1;
    if found and not refused.of_its_month then
        raise exception 'invoice % is of %, and its lines too', refused.invoice, refused.month
            using errcode = 'restrict_violation';
    elsif found then
        raise exception 'invoice % is locked, and keeps its lines', refused.invoice using errcode = 'restrict_violation',
            hint = 'It takes only the very lines that its lines_sha256 is of, all in one statement.';
    end if;
    return null;
end $$;
comment on function billing.guard_new_lines() is
    'Lines are of their invoice''s month, and a locked invoice has those that its lines_sha256 is of. Of one that another '
    'system has put in, without that, nobody knows. Runs as the owner of the tables.';

create function billing.refuse_truncate() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    raise exception '%.% is never emptied', tg_table_schema, tg_table_name using errcode = 'restrict_violation';
end $$;
comment on function billing.refuse_truncate() is 'Invoices and their lines are never all deleted.';

create trigger invoices_are_never_all_deleted before truncate on billing.tenant_invoices
    for each statement execute function billing.refuse_truncate();

-- Triggers of a statement are not passed on to partitions, which can be written to by themselves.
create function billing.guard_partition(of_lines regclass) returns void language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    execute format('create or replace trigger lines_are_of_their_invoice after insert on %s '
                   'referencing new table as new_lines for each statement execute function billing.guard_new_lines()',
                   of_lines);
    execute format('create or replace trigger lines_are_never_all_deleted before truncate on %s '
                   'for each statement execute function billing.refuse_truncate()', of_lines);
end $$;
revoke execute on function billing.guard_partition(regclass) from public;
comment on function billing.guard_partition(regclass) is
    'Gives the table of invoice lines, or a partition of it, the triggers that guard a whole statement.';
select billing.guard_partition(relid) from pg_partition_tree('billing.tenant_invoice_lines');

create or replace function billing.attach_partition(of_table text, month date) returns void language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
    partition constant regclass := to_regclass(billing.partition_name(of_table, month));
    strangers bigint := 0;
begin
    if not exists (select from pg_class c join pg_constraint k on k.conrelid = c.oid
                   where c.oid = partition and c.relkind = 'r' and not c.relispartition
                     and c.relowner = current_user::regrole and k.conname = 'one_month') then
        raise exception '% is not a table that new_partition() has made, and that is not attached yet',
            billing.partition_name(of_table, month) using errcode = 'invalid_parameter_value';
    end if;
    if to_regrole('arcadia_pipeline') is not null then  -- from now on its rows go in and out through the parent alone
        execute format('revoke all on %s from arcadia_pipeline', partition);
    end if;
    execute format('analyze %s', partition);
    if of_table = 'tenant_invoice_lines' then
        analyze billing.tenant_invoices;  -- the planner takes a new month for empty
        -- The triggers of the parent have not seen these lines.
        execute format(
            'select count(*) from %s l left join billing.tenant_invoices i on i.id = l.invoice_id '
            'where i.period_start is distinct from date %L', partition, to_char(month, 'YYYY-MM-DD')) into strangers;
        perform billing.guard_partition(partition);
    end if;
    if strangers > 0 then
        raise exception '% has % lines of invoices that are not of its month', partition, strangers
            using errcode = 'restrict_violation';
    end if;
    execute format('alter table billing.%I attach partition %s for values from (%L) to (%L)', of_table, partition,
                   to_char(month, 'YYYY-MM-DD'), to_char(month + interval '1 month', 'YYYY-MM-DD'));
    if of_table = 'tenant_invoice_lines' then
        select count(*) into strangers
        from (
            select i.lines_sha256, billing.sha256_hex(string_agg(billing.line_text(l), chr(30) order by l.line_no)) as sha256
            from billing.tenant_invoices i
            join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
            where i.period_start = month and billing.is_locked(i) group by i.id
        ) l
        where sha256 <> lines_sha256;
    end if;
    if strangers > 0 then
        raise exception '% invoices are locked, and keep their lines, which are not those of %', strangers, partition
            using errcode = 'restrict_violation';
    end if;
    execute format('alter table %s drop constraint one_month', partition);
end $$;

-- Whoever migrates, all of it is the owner's of the invoices: nobody else writes the chain.
do $$
declare
    owner constant text := (select relowner::regrole::text from pg_class where oid = 'billing.tenant_invoices'::regclass);
    what text;
begin
    foreach what in array array['table billing.event_heads', 'table billing.event_chain',
                                'function billing.chain_events()', 'function billing.guard_new_lines()',
                                'function billing.extend_chain(text, bigint[], bytea[], bytea[])',
                                'function billing.guard_partition(regclass)'] loop
        execute format('alter %s owner to %s', what, owner);
    end loop;
end $$;

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.event_heads', 'select'),
    ('arcadia_pipeline', 'billing.event_chain', 'select');
select billing.admit_roles();
