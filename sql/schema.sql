-- The schema as all migrations leave it, for reading: written by `make schema`, and never executed.


CREATE SCHEMA billing;

COMMENT ON SCHEMA billing IS 'Month-end billing: frozen usage, quotes, invoices and their history.';

CREATE SCHEMA cloud;

COMMENT ON SCHEMA cloud IS 'The platform''s operational tables; billing reads them and never writes.';

CREATE FUNCTION billing.admit_api() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing.admit_api_to_suppliers();
    grant execute on function billing.deliver_download(uuid, integer, boolean, text, text, text),
        billing.cancelled_on(uuid) to arcadia_api;
end $$;

COMMENT ON FUNCTION billing.admit_api() IS 'Lets the role arcadia_api read invoices, their history and who sells, the price list with tenants'' own prices, discounts and commitments, and cost beside revenue, each as the transaction''s settings say; and note that a tenant downloads its own invoice. Run by the owner of the tables, once the role is there; safe to run again.';

CREATE FUNCTION billing.admit_api_to_costs() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing.admit_api_to_invoices();
    grant select on billing.cost_vs_revenue_by_month, billing.cost_vs_revenue_by_deployment,
        billing.cost_vs_revenue_by_tenant, billing.cost_vs_revenue_by_kind to arcadia_api;
    grant execute on function billing.invoice_lines(uuid, date) to arcadia_api;
end $$;

COMMENT ON FUNCTION billing.admit_api_to_costs() IS 'The second part of admit_api().';

CREATE FUNCTION billing.admit_api_to_invoices() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    readable text;
begin
    grant usage on schema billing, cloud to arcadia_api;
    grant select on billing.tenant_invoices, billing.tenant_invoice_lines, billing.invoice_events to arcadia_api;
    foreach readable in array array['plans', 'plan_prices', 'plan_rates', 'addons', 'addon_prices'] loop
        begin
            execute format('grant select on cloud.%I to arcadia_api', readable);
        exception when insufficient_privilege then
            raise warning 'cloud.% is not ours to grant: its owner must grant select on it to arcadia_api', readable;
        end;
    end loop;

    alter table billing.tenant_invoices enable row level security;
    alter table billing.tenant_invoice_lines enable row level security;
    alter table billing.invoice_events enable row level security;

    drop policy if exists as_granted on billing.tenant_invoices;
    drop policy if exists as_granted on billing.tenant_invoice_lines;
    drop policy if exists as_granted on billing.invoice_events;
    create policy as_granted on billing.tenant_invoices using (true);
    create policy as_granted on billing.tenant_invoice_lines using (true);
    create policy as_granted on billing.invoice_events using (true);

    -- A case, not an or: of that the planner would believe that it hides nearly every row, and would sort whole tables
    -- for a page.
    drop policy if exists api_reads on billing.tenant_invoices;
    create policy api_reads on billing.tenant_invoices as restrictive to arcadia_api using (
        case current_setting('arcadia.role', true)
            when 'platform_admin' then true
            when 'tenant' then tenant_id = nullif(current_setting('arcadia.tenant_id', true), '') and status <> 'draft'
            else false
        end
    );
    -- The invoice is looked up under its own policy.
    drop policy if exists api_reads on billing.tenant_invoice_lines;
    create policy api_reads on billing.tenant_invoice_lines as restrictive to arcadia_api using (
        case current_setting('arcadia.role', true)
            when 'platform_admin' then true
            when 'tenant' then exists (select from billing.tenant_invoices i where i.id = invoice_id)
            else false
        end
    );
    drop policy if exists api_reads on billing.invoice_events;
    create policy api_reads on billing.invoice_events as restrictive to arcadia_api using (
        current_setting('arcadia.role', true) = 'platform_admin'
    );
end $$;

COMMENT ON FUNCTION billing.admit_api_to_invoices() IS 'The first part of admit_api().';

CREATE FUNCTION billing.admit_api_to_prices() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    readable text;
begin
    perform billing.admit_api_to_costs();
    grant execute on function billing.tenant_to_quote(text) to arcadia_api;
    foreach readable in array array['plan_rate_tiers', 'tenant_plan_prices', 'tenant_addon_prices', 'tenant_rates',
                                    'tenant_rate_tiers'] loop
        if to_regclass('cloud.' || readable) is not null then
            begin
                execute format('grant select on cloud.%I to arcadia_api', readable);
            exception when insufficient_privilege then
                raise warning 'cloud.% is not ours to grant: its owner must grant select on it to arcadia_api', readable;
            end;
        end if;
    end loop;
end $$;

COMMENT ON FUNCTION billing.admit_api_to_prices() IS 'The third part of admit_api().';

CREATE FUNCTION billing.admit_api_to_suppliers() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing.admit_api_to_terms();
    grant select on billing.suppliers, billing.invoice_line_gst to arcadia_api;
end $$;

COMMENT ON FUNCTION billing.admit_api_to_suppliers() IS 'The fifth part of admit_api().';

CREATE FUNCTION billing.admit_api_to_terms() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.admit_api_to_terms() IS 'The fourth part of admit_api().';

CREATE FUNCTION billing.admit_roles() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    missing text;
    to_do record;
begin
    for missing in select distinct role from billing.role_rights where to_regrole(role) is null order by role loop
        raise warning '% has no role: % may not make it',
            case missing when 'arcadia_pipeline' then 'the pipeline' when 'arcadia_analyst' then 'the analysts'
                         when 'arcadia_reprice' then 'the what-if of the API' else missing end, current_user
            using hint = format('as a superuser: create role %I; then, as %I: select billing.admit_roles();', missing,
                                current_user);
    end loop;
    for to_do in
        select statement from (
            select role, format('grant usage on schema %I to %I', name, role) as statement, 1 as step
            from (select 'arcadia_pipeline' as role, 'dagster' as name
                  union select role, split_part(relation, '.', 1) from billing.role_rights) schemas
            union all
            select 'arcadia_pipeline', what, 2
            from unnest(array[
                'grant select, insert, update, delete on all tables in schema dagster to arcadia_pipeline',
                'grant usage, select, update on all sequences in schema dagster to arcadia_pipeline',
                'alter default privileges in schema dagster '
                    'grant select, insert, update, delete on tables to arcadia_pipeline',
                'alter default privileges in schema dagster '
                    'grant usage, select, update on sequences to arcadia_pipeline']) as what
            union all
            select role, case when rights = 'execute'
                              then format('grant execute on function %s to %I', to_regprocedure(relation), role)
                              else format('grant %s on %s to %I', rights, to_regclass(relation), role) end, 2
            from billing.role_rights
            where case when rights = 'execute' then to_regprocedure(relation) is not null
                       else to_regclass(relation) is not null end
        ) statements
        where to_regrole(role) is not null
        order by step
    loop
        begin
            execute to_do.statement;
        exception when insufficient_privilege then
            raise warning '% may not %: %', current_user, to_do.statement, sqlerrm
                using hint = 'Have the owner or a superuser do it.';
        end;
    end loop;
end $$;

COMMENT ON FUNCTION billing.admit_roles() IS 'Grants arcadia_pipeline, arcadia_analyst and arcadia_reprice what billing.role_rights says. Run by the owner of the tables once the roles are there, and after Dagster''s tables were made; safe to run again. What it could not do it says in warnings.';

CREATE FUNCTION billing.attach_partition(of_table text, month date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.attach_partition(of_table text, month date) IS 'Attaches what new_partition() has made, with its indexes; whoever filled it has no right to it any more. Runs as the owner of the tables.';

CREATE TABLE billing.invoice_events (
    id bigint NOT NULL,
    invoice_id uuid,
    invoice_number text,
    tenant_id text NOT NULL,
    period_start date,
    event text NOT NULL,
    revision integer,
    total_cents bigint,
    content_sha256 text,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text NOT NULL,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    snapshot jsonb,
    session_login text DEFAULT SESSION_USER,
    CONSTRAINT invoice_events_event_check CHECK ((event = ANY (ARRAY['drafted'::text, 'redrafted'::text, 'issued'::text, 'reissued'::text, 'voided'::text, 'paid'::text, 'reopened'::text, 'withdrawn'::text, 'rebuilt'::text, 'delivered'::text, 'held'::text, 'released'::text]))),
    CONSTRAINT invoice_events_invoice_check CHECK (
CASE
    WHEN (event = ANY (ARRAY['held'::text, 'released'::text])) THEN (num_nonnulls(invoice_id, invoice_number, period_start, revision, total_cents, content_sha256) = 0)
    ELSE (num_nonnulls(invoice_id, period_start, revision, total_cents, content_sha256) = 5)
END)
);

COMMENT ON TABLE billing.invoice_events IS 'What happened to each invoice, in order; rows are never changed or deleted.';

COMMENT ON COLUMN billing.invoice_events.id IS 'Order of the events.';

COMMENT ON COLUMN billing.invoice_events.invoice_id IS 'The invoice it happened to; null for held and released.';

COMMENT ON COLUMN billing.invoice_events.invoice_number IS 'Its number; null for a draft.';

COMMENT ON COLUMN billing.invoice_events.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.invoice_events.period_start IS 'First day of the billing month, UTC; null for held and released, which concern the tenant.';

COMMENT ON COLUMN billing.invoice_events.event IS 'drafted, issued; redrafted, reissued (the content was replaced); voided, paid, reopened (void to draft), withdrawn (from finance), rebuilt (lines that were lost or changed outside the pipeline were written again as they were), delivered (its document went to the tenant); held, released (the tenant).';

COMMENT ON COLUMN billing.invoice_events.revision IS 'The invoice''s revision after the event.';

COMMENT ON COLUMN billing.invoice_events.total_cents IS 'The invoice''s total after the event, cents AUD.';

COMMENT ON COLUMN billing.invoice_events.content_sha256 IS 'The invoice''s content hash after the event.';

COMMENT ON COLUMN billing.invoice_events.operator IS 'Who: a person''s name, or month_end for the pipeline.';

COMMENT ON COLUMN billing.invoice_events.reason IS 'Why.';

COMMENT ON COLUMN billing.invoice_events.run_id IS 'The Dagster run that did it.';

COMMENT ON COLUMN billing.invoice_events.occurred_at IS 'When: the beginning of the transaction that wrote it.';

COMMENT ON COLUMN billing.invoice_events.snapshot IS 'For redrafted and reissued: the replaced revision whole, {"invoice": {...}, "lines": [...]}; else null.';

COMMENT ON COLUMN billing.invoice_events.session_login IS 'The database login that wrote the event, as PostgreSQL knows it, whatever operator says. Null for those of before.';

CREATE FUNCTION billing.cancelled_on(of_invoice uuid) RETURNS date
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN (SELECT ((max(e.occurred_at) AT TIME ZONE 'UTC'::text))::date AS timezone FROM billing.invoice_events e WHERE ((e.invoice_id = cancelled_on.of_invoice) AND (e.event = 'voided'::text) AND ((current_setting('arcadia.role'::text, true) IS DISTINCT FROM 'tenant'::text) OR (e.tenant_id = current_setting('arcadia.tenant_id'::text, true)))));

COMMENT ON FUNCTION billing.cancelled_on(of_invoice uuid) IS 'The day (UTC) on which the invoice was voided last; null if it never was, or if a tenant asks about another''s.';

CREATE FUNCTION billing.chain_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
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

COMMENT ON FUNCTION billing.chain_events() IS 'Chains the events that a statement has written, whoever wrote them, and refuses those that are dated or named otherwise than they are written. Runs as the owner of the tables.';

CREATE FUNCTION billing.commitments() RETURNS TABLE(id uuid, tenant_id text, deployment_id uuid, minimum_cents numeric, starts_on date, ends_on date)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('cloud.commitments') is not null then
        return query execute 'select id::uuid, tenant_id::text, deployment_id::uuid, minimum_cents::numeric, starts_on::date, '
                             'ends_on::date from cloud.commitments';
    end if;
end $$;

COMMENT ON FUNCTION billing.commitments() IS 'cloud.commitments; no rows if the platform has none.';

CREATE FUNCTION billing.deliver_download(of_invoice uuid, shown_revision integer, is_note boolean, of_format text, of_sha256 text, of_made_by text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.deliver_download(of_invoice uuid, shown_revision integer, is_note boolean, of_format text, of_sha256 text, of_made_by text) IS 'Notes that the tenant of the transaction''s settings downloads this document of its own invoice: the invoice, which is locked from then on, or the adjustment note that takes it back. False, and nothing is noted, if it is not the tenant''s, of another revision meanwhile, or not issued or paid; a note, if the invoice is not void or was not delivered. All that the read API may change, and it does so only with ARCADIA_DELIVER_ON_DOWNLOAD.';

CREATE FUNCTION billing.discounts() RETURNS TABLE(id uuid, tenant_id text, deployment_id uuid, line_kind text, resource_kind text, percent numeric, amount_cents numeric, starts_on date, ends_on date, description text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('cloud.discounts') is not null then
        return query execute 'select id::uuid, tenant_id::text, deployment_id::uuid, line_kind::text, resource_kind::text, '
                             'percent::numeric, amount_cents::numeric, starts_on::date, ends_on::date, description::text '
                             'from cloud.discounts';
    end if;
end $$;

COMMENT ON FUNCTION billing.discounts() IS 'cloud.discounts; no rows if the platform has none.';

CREATE FUNCTION billing.event_digest(e billing.invoice_events) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to((ROW((e).id, (e).invoice_id, (e).invoice_number, (e).tenant_id, to_char(((e).period_start)::timestamp with time zone, 'YYYY-MM-DD'::text), (e).event, (e).revision, (e).total_cents, (e).content_sha256, (e).operator, (e).reason, (e).run_id, EXTRACT(epoch FROM (e).occurred_at), (e).snapshot, (e).session_login))::text, 'UTF8'::name));

COMMENT ON FUNCTION billing.event_digest(e billing.invoice_events) IS 'SHA-256 of the whole event.';

CREATE FUNCTION billing.extend_chain(of_chain text, ids bigint[], events bytea[], invoices bytea[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.extend_chain(of_chain text, ids bigint[], events bytea[], invoices bytea[]) IS 'Appends events to a chain, in order: their ids, their digests and those of their invoices.';

CREATE FUNCTION billing.guard_email() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.guard_email() IS 'What may become of an e-mail.';

CREATE FUNCTION billing.guard_invoice() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.guard_invoice() IS 'What may become of an invoice: its states; that it keeps its number, its dates, its history and, until a new revision or once locked, its content.';

CREATE FUNCTION billing.guard_line() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.guard_line() IS 'A line stays on its invoice; the lines of a locked one stay as they are.';

CREATE FUNCTION billing.guard_new_lines() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
    refused record;
begin
    -- Of one whose lines nobody has the hash of, two sessions put them in one after the other.
    perform from billing.tenant_invoices i
    where i.id in (select invoice_id from new_lines) and i.lines_sha256 is null and billing.is_locked(i)
    order by i.id for no key update;
    select coalesce(i.invoice_number, i.id::text) as invoice, to_char(i.period_start, 'YYYY-MM') as month,
           n.period_start = i.period_start as of_its_month into refused
    from (select distinct invoice_id, period_start from new_lines) n
    join billing.tenant_invoices i on i.id = n.invoice_id
    where n.period_start <> i.period_start
       or billing.is_locked(i) and i.lines_sha256 <> (
           select billing.sha256_hex(string_agg(billing.line_text(l), chr(30) order by l.line_no))
           from billing.tenant_invoice_lines l where l.invoice_id = i.id and l.period_start = i.period_start)
       or billing.is_locked(i) and i.lines_sha256 is null and exists (
           select from billing.tenant_invoice_lines l where l.invoice_id = i.id and l.period_start = i.period_start
           having count(*) > (select count(*) from new_lines own where own.invoice_id = i.id))
    limit 1;
    if found and not refused.of_its_month then
        raise exception 'invoice % is of %, and its lines too', refused.invoice, refused.month
            using errcode = 'restrict_violation';
    elsif found then
        raise exception 'invoice % is locked, and keeps its lines', refused.invoice using errcode = 'restrict_violation',
            hint = 'It takes only the very lines that its lines_sha256 is of, or all of its lines if it has none of either, '
                   'in one statement.';
    end if;
    return null;
end $$;

COMMENT ON FUNCTION billing.guard_new_lines() IS 'Lines are of their invoice''s month, and a locked invoice has those that its lines_sha256 is of. One that another system has put in, without that, takes its lines in one statement and then no more. Runs as the owner of the tables.';

CREATE FUNCTION billing.guard_outbox() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.guard_outbox() IS 'What finance is told does not change, and what it has confirmed is settled.';

CREATE FUNCTION billing.guard_partition(of_lines regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    execute format('create or replace trigger lines_are_of_their_invoice after insert on %s '
                   'referencing new table as new_lines for each statement execute function billing.guard_new_lines()',
                   of_lines);
    execute format('create or replace trigger lines_are_never_all_deleted before truncate on %s '
                   'for each statement execute function billing.refuse_truncate()', of_lines);
end $$;

COMMENT ON FUNCTION billing.guard_partition(of_lines regclass) IS 'Gives the table of invoice lines, or a partition of it, the triggers that guard a whole statement.';

CREATE FUNCTION billing.guard_withdrawal() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not exists (select from billing.invoice_events
                   where invoice_id = new.id and event = 'withdrawn' and occurred_at = now()) then
        raise exception 'invoice % is with finance, and stays so', coalesce(new.invoice_number, new.id::text)
            using errcode = 'restrict_violation',
                  hint = 'Withdraw it there, and clear it here with the job withdraw_from_finance first.';
    end if;
    return null;
end $$;

COMMENT ON FUNCTION billing.guard_withdrawal() IS 'An invoice is no longer with finance only where the same transaction has written the event withdrawn.';

CREATE TABLE billing.tenant_invoices (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id text NOT NULL,
    period_start date NOT NULL,
    period_end date NOT NULL,
    currency text DEFAULT 'AUD'::text NOT NULL,
    subtotal_cents bigint NOT NULL,
    tax_cents bigint NOT NULL,
    total_cents bigint NOT NULL,
    status text DEFAULT 'issued'::text NOT NULL,
    issued_at timestamp with time zone,
    paid_at timestamp with time zone,
    finance_invoice_id text,
    pushed_to_finance_at timestamp with time zone,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    invoice_number text,
    revision integer DEFAULT 1 NOT NULL,
    content_sha256 text NOT NULL,
    usage_cutoff timestamp with time zone NOT NULL,
    run_id text NOT NULL,
    meta jsonb DEFAULT '{}'::jsonb NOT NULL,
    lines_sha256 text,
    delivered_at timestamp with time zone,
    due_on date,
    supplier_id bigint,
    CONSTRAINT tenant_invoices_check CHECK ((period_end = ((period_start + '1 mon'::interval))::date)),
    CONSTRAINT tenant_invoices_check1 CHECK (((total_cents)::numeric = ((subtotal_cents)::numeric + (tax_cents)::numeric))),
    CONSTRAINT tenant_invoices_check2 CHECK (((status = ANY (ARRAY['draft'::text, 'void'::text])) OR ((invoice_number IS NOT NULL) AND (issued_at IS NOT NULL)))),
    CONSTRAINT tenant_invoices_content_sha256_check CHECK (((length(content_sha256) = 64) AND (content_sha256 !~ '[^0-9a-f]'::text))),
    CONSTRAINT tenant_invoices_currency_check CHECK ((currency = 'AUD'::text)),
    CONSTRAINT tenant_invoices_lines_sha256_check CHECK ((length(lines_sha256) = 64)),
    CONSTRAINT tenant_invoices_period_start_check CHECK ((((period_start >= '0001-01-01'::date) AND (period_start <= '9999-12-01'::date)) AND (EXTRACT(day FROM period_start) = (1)::numeric))),
    CONSTRAINT tenant_invoices_revision_check CHECK ((revision >= 1)),
    CONSTRAINT tenant_invoices_status_check CHECK ((status = ANY (ARRAY['draft'::text, 'issued'::text, 'paid'::text, 'void'::text])))
);

COMMENT ON TABLE billing.tenant_invoices IS 'One row per tenant and month: the invoice as it stands. Never deleted.';

COMMENT ON COLUMN billing.tenant_invoices.id IS 'The same however often the month is re-run.';

COMMENT ON COLUMN billing.tenant_invoices.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.tenant_invoices.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.tenant_invoices.period_end IS 'First day of the next month, UTC: the period is half open.';

COMMENT ON COLUMN billing.tenant_invoices.currency IS 'AUD.';

COMMENT ON COLUMN billing.tenant_invoices.subtotal_cents IS 'Sum of the lines but tax, cents AUD ex GST.';

COMMENT ON COLUMN billing.tenant_invoices.tax_cents IS 'GST, cents AUD, rounded once per invoice.';

COMMENT ON COLUMN billing.tenant_invoices.total_cents IS 'subtotal_cents + tax_cents.';

COMMENT ON COLUMN billing.tenant_invoices.status IS 'draft: not yet sent, may have no number; issued; paid; void: nothing is owed. draft to issued or void, issued to paid or void, void to draft. paid, void and pushed invoices are frozen.';

COMMENT ON COLUMN billing.tenant_invoices.issued_at IS 'When the invoice was first issued; a revision does not move it.';

COMMENT ON COLUMN billing.tenant_invoices.paid_at IS 'When it was paid; null until then.';

COMMENT ON COLUMN billing.tenant_invoices.finance_invoice_id IS 'Its id in the finance system, once pushed.';

COMMENT ON COLUMN billing.tenant_invoices.pushed_to_finance_at IS 'When it was pushed to finance; frozen from then on.';

COMMENT ON COLUMN billing.tenant_invoices.inserted_at IS 'When the row was first written.';

COMMENT ON COLUMN billing.tenant_invoices.updated_at IS 'When the row last changed.';

COMMENT ON COLUMN billing.tenant_invoices.invoice_number IS 'INV-YYYYMM-NNNNN, without a gap within the month, given when it is first issued and kept for life; null before.';

COMMENT ON COLUMN billing.tenant_invoices.revision IS 'Counts up each time the content is replaced; see invoice_events.';

COMMENT ON COLUMN billing.tenant_invoices.content_sha256 IS 'Hash of what is billed (lines, amounts, GST status), without names: equal hashes bill the same.';

COMMENT ON COLUMN billing.tenant_invoices.usage_cutoff IS 'Usage ingested after this instant is not billed.';

COMMENT ON COLUMN billing.tenant_invoices.run_id IS 'The Dagster run that wrote this revision.';

COMMENT ON COLUMN billing.tenant_invoices.meta IS 'The buyer as on the day of this revision: tenant_name, tenant_abn, billing_address, billing_email; gst_free_reason.';

COMMENT ON COLUMN billing.tenant_invoices.lines_sha256 IS 'Hash of the lines whole, as a reader sees them: SHA-256 of their billing.line_text(), by line_no, between 0x1e. Null where another system has put the invoice in.';

COMMENT ON COLUMN billing.tenant_invoices.delivered_at IS 'When its document first went to the tenant; locked from then on. Null: it has not. Voided after that, the invoice is taken back by an adjustment note.';

COMMENT ON COLUMN billing.tenant_invoices.due_on IS 'When it is to be paid: its day of issue (UTC) and the supplier''s payment_terms_days. Null: no supplier was entered.';

COMMENT ON COLUMN billing.tenant_invoices.supplier_id IS 'Who sells, as on the day of this revision. Null: nobody was entered then; set when it is delivered.';

CREATE FUNCTION billing.invoice_digest(i billing.tenant_invoices, finance_id text, pushed_at timestamp with time zone) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(((ROW((i).id, (i).tenant_id, (i).invoice_number, to_char(((i).period_start)::timestamp with time zone, 'YYYY-MM-DD'::text), to_char(((i).period_end)::timestamp with time zone, 'YYYY-MM-DD'::text), (i).currency, (i).subtotal_cents, (i).tax_cents, (i).total_cents, (i).status, EXTRACT(epoch FROM (i).issued_at), EXTRACT(epoch FROM (i).paid_at), finance_id, EXTRACT(epoch FROM pushed_at), (i).revision, (i).content_sha256, (i).lines_sha256, EXTRACT(epoch FROM (i).usage_cutoff), (i).run_id, (i).meta))::text || CASE WHEN (num_nonnulls((i).delivered_at, (i).due_on, (i).supplier_id) > 0) THEN (ROW(EXTRACT(epoch FROM (i).delivered_at), to_char(((i).due_on)::timestamp with time zone, 'YYYY-MM-DD'::text), (i).supplier_id))::text ELSE ''::text END), 'UTF8'::name));

COMMENT ON FUNCTION billing.invoice_digest(i billing.tenant_invoices, finance_id text, pushed_at timestamp with time zone) IS 'SHA-256 of the invoice, with its buyer in meta and its lines by their hash, as it is with this finance_invoice_id and pushed_to_finance_at.';

CREATE TABLE billing.tenant_invoice_lines (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    invoice_id uuid NOT NULL,
    deployment_id uuid,
    kind text NOT NULL,
    resource_kind text,
    description text NOT NULL,
    qty numeric(18,6) NOT NULL,
    unit text,
    unit_price_cents numeric(27,8) NOT NULL,
    amount_cents bigint NOT NULL,
    meta jsonb DEFAULT '{}'::jsonb NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    period_start date NOT NULL,
    line_no integer NOT NULL,
    deployment_name text,
    price_per numeric(18,6) DEFAULT 1 NOT NULL,
    CONSTRAINT tenant_invoice_lines_kind_check CHECK ((kind = ANY (ARRAY['plan_base'::text, 'addon'::text, 'overage'::text, 'discount'::text, 'commitment'::text, 'credit'::text, 'adjustment'::text, 'tax'::text]))),
    CONSTRAINT tenant_invoice_lines_line_no_check CHECK ((line_no >= 1)),
    CONSTRAINT tenant_invoice_lines_price_per_check CHECK (((price_per > (0)::numeric) AND (price_per <> 'NaN'::numeric))),
    CONSTRAINT tenant_invoice_lines_qty_check CHECK ((qty <> 'NaN'::numeric)),
    CONSTRAINT tenant_invoice_lines_unit_price_cents_check CHECK ((unit_price_cents <> 'NaN'::numeric))
)
PARTITION BY RANGE (period_start);

COMMENT ON TABLE billing.tenant_invoice_lines IS 'One row per invoice line. Lines and their invoice are written together.';

COMMENT ON COLUMN billing.tenant_invoice_lines.id IS 'Its invoice''s id with line_no in the last eight digits.';

COMMENT ON COLUMN billing.tenant_invoice_lines.invoice_id IS 'The invoice it is on.';

COMMENT ON COLUMN billing.tenant_invoice_lines.deployment_id IS 'What it is for; null for tax, credits and adjustments, or once the deployment is deleted.';

COMMENT ON COLUMN billing.tenant_invoice_lines.kind IS 'plan_base, addon, overage, discount, commitment, credit, adjustment or tax.';

COMMENT ON COLUMN billing.tenant_invoice_lines.resource_kind IS 'The metered kind of an overage line; else null.';

COMMENT ON COLUMN billing.tenant_invoice_lines.description IS 'The line as the tenant reads it.';

COMMENT ON COLUMN billing.tenant_invoice_lines.qty IS 'Quantity billed, in unit.';

COMMENT ON COLUMN billing.tenant_invoice_lines.unit IS 'What qty counts: month, hour, GB, ...; null for tax.';

COMMENT ON COLUMN billing.tenant_invoice_lines.unit_price_cents IS 'Price of one unit, cents AUD ex GST, to 8 decimals.';

COMMENT ON COLUMN billing.tenant_invoice_lines.amount_cents IS 'qty x unit_price_cents, rounded once, half up; ex GST but for tax.';

COMMENT ON COLUMN billing.tenant_invoice_lines.meta IS 'Why: effective_from of the price; used and included for overage; rate and taxable_cents for tax; corrects and invoice_number for a correction, and taxable where it has GST and the rest of its invoice has none, or the other way round.';

COMMENT ON COLUMN billing.tenant_invoice_lines.inserted_at IS 'When the row was written.';

COMMENT ON COLUMN billing.tenant_invoice_lines.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.tenant_invoice_lines.line_no IS 'Order on the invoice, from 1: by deployment name, then plan_base, addon, overage, discount, commitment; tenant-level lines after; tax last.';

COMMENT ON COLUMN billing.tenant_invoice_lines.deployment_name IS 'The deployment''s name as of the run.';

COMMENT ON COLUMN billing.tenant_invoice_lines.price_per IS 'How many units unit_price_cents is for: 1, but the days of the month for part months.';

CREATE FUNCTION billing.invoice_lines(invoice uuid, period date) RETURNS SETOF billing.tenant_invoice_lines
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query select * from billing.tenant_invoice_lines l where l.period_start = period and l.invoice_id = invoice;
end $$;

COMMENT ON FUNCTION billing.invoice_lines(invoice uuid, period date) IS 'The lines of an invoice of a month, in no order.';

CREATE FUNCTION billing.is_abn(abn text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((abn ~ '^[0-9]{11}$'::text) AND (SELECT ((sum((w.weight * ((substr(is_abn.abn, (w.place)::integer, 1))::integer - ((w.place = 1))::integer))) % (89)::bigint) = 0) FROM unnest(ARRAY[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]) WITH ORDINALITY w(weight, place)));

COMMENT ON FUNCTION billing.is_abn(abn text) IS 'Whether a text is an Australian Business Number, written without spaces: 11 digits, the first two of which check the rest (the Australian Business Register''s rule: less 1 of the first, weighted, the sum is divisible by 89).';

CREATE FUNCTION billing.is_locked(i billing.tenant_invoices) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((i).status = ANY (ARRAY['paid'::text, 'void'::text])) OR ((i).finance_invoice_id IS NOT NULL) OR ((i).pushed_to_finance_at IS NOT NULL) OR ((i).delivered_at IS NOT NULL));

COMMENT ON FUNCTION billing.is_locked(i billing.tenant_invoices) IS 'Whether the invoice is paid, void, delivered or with finance: then its content and its lines stay as they are.';

CREATE FUNCTION billing.is_correctable(i billing.tenant_invoices) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (billing.is_locked(i) AND ((i).status = ANY (ARRAY['issued'::text, 'paid'::text])) AND ((i).invoice_number IS NOT NULL));

COMMENT ON FUNCTION billing.is_correctable(i billing.tenant_invoices) IS 'Whether the invoice is locked and owed: what it bills too little or too much is carried by the tenant''s next invoice.';

CREATE FUNCTION billing.line_text(line billing.tenant_invoice_lines) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((((((((((((((((((((((((((line).line_no)::text || chr(31)) || (line).kind) || chr(31)) || (trunc(((line).qty * (1000000)::numeric)))::text) || chr(31)) || (trunc(((line).unit_price_cents * (100000000)::numeric)))::text) || chr(31)) || ((line).amount_cents)::text) || chr(31)) || ((line).meta)::text) || chr(31)) || COALESCE((length((line).resource_kind))::text, ''::text)) || chr(31)) || (length((line).description))::text) || chr(31)) || COALESCE((length((line).unit))::text, ''::text)) || chr(31)) || COALESCE((length((line).deployment_name))::text, ''::text)) || chr(31)) || COALESCE((line).resource_kind, ''::text)) || (line).description) || COALESCE((line).unit, ''::text)) || COALESCE((line).deployment_name, ''::text)) || COALESCE((chr(31) || (trunc((NULLIF((line).price_per, (1)::numeric) * (1000000)::numeric)))::text), ''::text));

COMMENT ON FUNCTION billing.line_text(line billing.tenant_invoice_lines) IS 'An invoice line as a reader sees it, as one text that no other line has: between 0x1f its number, kind, millionths of qty, 1e-8 of unit_price_cents, amount_cents and meta; how many characters resource_kind, description, unit and deployment_name have (nothing where they are null); those four, one after the other; and millionths of price_per where it is not 1. Its ids are not in it.';

CREATE FUNCTION billing.new_partition(of_table text, month date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    partition constant text := billing.partition_name(of_table, month);
begin
    if to_regclass(partition) is not null then
        raise exception '% exists, and is no month of billing.%', partition, of_table using errcode = 'duplicate_table',
            hint = format('See what it holds. As its owner, attach it (alter table billing.%s attach partition %s for '
                          'values from ... to ...) or drop it, then run the month again.', of_table, partition);
    end if;
    execute format('create table %s (like billing.%I including defaults including constraints, '
                   'constraint one_month check (period_start = date %L))',
                   partition, of_table, to_char(month, 'YYYY-MM-DD'));
    if to_regrole('arcadia_pipeline') is not null then
        execute format('grant insert on %s to arcadia_pipeline', partition);
    end if;
end $$;

COMMENT ON FUNCTION billing.new_partition(of_table text, month date) IS 'Makes a month''s partition of a month-sized table, bare and by itself, to be filled and then attached by attach_partition(). Runs as the owner of the tables.';

CREATE TABLE billing.number_series (
    is_one boolean DEFAULT true NOT NULL,
    prefix text NOT NULL,
    set_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT number_series_is_one_check CHECK (is_one),
    CONSTRAINT number_series_prefix_check CHECK ((prefix ~ '^[A-Z]{2,8}[0-9]{0,4}$'::text))
);

COMMENT ON TABLE billing.number_series IS 'How the numbers of this database''s invoices begin, if not with INV: one row, or none. Set before the first number is given; never changed or deleted.';

COMMENT ON COLUMN billing.number_series.is_one IS 'True: there is no second row.';

COMMENT ON COLUMN billing.number_series.prefix IS 'Like SYD: numbers read SYD-202604-00001.';

COMMENT ON COLUMN billing.number_series.set_at IS 'When.';

CREATE FUNCTION billing.number_prefix() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN COALESCE((SELECT number_series.prefix FROM billing.number_series), 'INV'::text);

COMMENT ON FUNCTION billing.number_prefix() IS 'How the numbers of this database''s invoices begin.';

CREATE FUNCTION billing.partition_name(of_table text, month date) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if of_table in ('metered_usage', 'deployment_quote_lines', 'tenant_invoice_lines')
       and month between '0001-01-01' and '9999-12-01' and extract(day from month) = 1 then
        return format('billing.%s_%s', of_table, to_char(month, 'YYYY_MM'));
    end if;
    raise exception '% of % is no partition of ours: of one of the three month-sized tables, from the first of a month',
        coalesce(of_table, 'null'), coalesce(month::text, 'null') using errcode = 'invalid_parameter_value';
end $$;

COMMENT ON FUNCTION billing.partition_name(of_table text, month date) IS 'The name of a month''s partition of metered_usage, deployment_quote_lines or tenant_invoice_lines.';

CREATE FUNCTION billing.rate_tiers() RETURNS TABLE(tenant_id text, plan_id uuid, resource_kind text, effective_from date, up_to numeric, unit_price_cents numeric, flat_cents numeric)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('cloud.plan_rate_tiers') is not null then
        return query execute 'select null::text, plan_id::uuid, resource_kind::text, effective_from::date, up_to::numeric, '
                             'unit_price_cents::numeric, flat_cents::numeric from cloud.plan_rate_tiers';
    end if;
    if to_regclass('cloud.tenant_rate_tiers') is not null then
        return query execute 'select tenant_id::text, plan_id::uuid, resource_kind::text, effective_from::date, up_to::numeric, '
                             'unit_price_cents::numeric, flat_cents::numeric from cloud.tenant_rate_tiers '
                             'where tenant_id <> ''''';
    end if;
end $$;

COMMENT ON FUNCTION billing.rate_tiers() IS 'cloud.plan_rate_tiers, without a tenant, and cloud.tenant_rate_tiers; no rows of what the platform has not.';

CREATE FUNCTION billing.rates() RETURNS TABLE(tenant_id text, plan_id uuid, resource_kind text, effective_from date, included_quantity numeric, unit text, unit_price_cents numeric, columns jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query select null::text, p.plan_id::uuid, p.resource_kind::text, p.effective_from::date,
                        p.included_quantity::numeric, p.unit::text, p.unit_price_cents::numeric, to_jsonb(p)
                 from cloud.plan_rates p;
    if to_regclass('cloud.tenant_rates') is not null then
        return query execute 'select tenant_id::text, plan_id::uuid, resource_kind::text, effective_from::date, '
                             'included_quantity::numeric, unit::text, unit_price_cents::numeric, to_jsonb(r) '
                             'from cloud.tenant_rates r where tenant_id <> ''''';
    end if;
end $$;

COMMENT ON FUNCTION billing.rates() IS 'cloud.plan_rates, without a tenant, and cloud.tenant_rates, if there are any; `columns` has all that a rate says.';

CREATE FUNCTION billing.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception '% is history: % is refused, append a new event instead', tg_table_name, tg_op;
end $$;

CREATE FUNCTION billing.refuse_truncate() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception '%.% is never emptied', tg_table_schema, tg_table_name using errcode = 'restrict_violation';
end $$;

COMMENT ON FUNCTION billing.refuse_truncate() IS 'Invoices and their lines are never all deleted.';

CREATE FUNCTION billing.sha256_hex(content text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN encode(sha256(convert_to(content, 'UTF8'::name)), 'hex'::text);

COMMENT ON FUNCTION billing.sha256_hex(content text) IS 'SHA-256 of the text in UTF-8, in hex.';

CREATE FUNCTION billing.tenant_prices() RETURNS TABLE(tenant_id text, plan_id uuid, addon_id uuid, effective_from date, cents numeric)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('cloud.tenant_plan_prices') is not null then
        return query execute 'select tenant_id::text, plan_id::uuid, null::uuid, effective_from::date, base_price_cents::numeric '
                             'from cloud.tenant_plan_prices';
    end if;
    if to_regclass('cloud.tenant_addon_prices') is not null then
        return query execute 'select tenant_id::text, null::uuid, addon_id::uuid, effective_from::date, price_cents::numeric '
                             'from cloud.tenant_addon_prices';
    end if;
end $$;

COMMENT ON FUNCTION billing.tenant_prices() IS 'Tenants'' own prices of plans and addons, if the platform has any: cloud.tenant_plan_prices, tenant_addon_prices.';

CREATE FUNCTION billing.tenant_to_quote(tenant text) RETURNS TABLE(tenant_id text, gst_free_reason text, meta jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select t.id::text, nullif(btrim(t.gst_free_reason), '')::text,
           jsonb_strip_nulls(jsonb_build_object('tenant_name', t.name, 'tenant_abn', t.abn,
                                                'gst_free_reason', nullif(btrim(t.gst_free_reason), '')))
    from cloud.tenants t where t.id = tenant limit 1;
end $$;

COMMENT ON FUNCTION billing.tenant_to_quote(tenant text) IS 'The tenant as it would be invoiced today: its GST status and its name. Runs as the owner of the tables.';

CREATE TABLE billing.billed_subscriptions (
    period_start date NOT NULL,
    subscription_id uuid NOT NULL,
    tenant_id text NOT NULL,
    deployment_id uuid NOT NULL
);

COMMENT ON TABLE billing.billed_subscriptions IS 'One row per month and subscription that the tenant''s invoice of the month, or a correction of it, bills. While that invoice is issued or paid, the month of the subscription is billed to nobody else.';

COMMENT ON COLUMN billing.billed_subscriptions.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.billed_subscriptions.subscription_id IS 'The subscription; it need not exist any more.';

COMMENT ON COLUMN billing.billed_subscriptions.tenant_id IS 'Who was invoiced for it.';

COMMENT ON COLUMN billing.billed_subscriptions.deployment_id IS 'The deployment that it was for.';

CREATE TABLE billing.billing_months (
    period_start date NOT NULL,
    usage_cutoff timestamp with time zone NOT NULL,
    run_id text NOT NULL,
    frozen_rows text,
    quoted_rows text,
    invoiced_rows text,
    usage_source jsonb,
    CONSTRAINT billing_months_period_start_check CHECK ((((period_start >= '0001-01-01'::date) AND (period_start <= '9999-12-01'::date)) AND (EXTRACT(day FROM period_start) = (1)::numeric)))
);

COMMENT ON TABLE billing.billing_months IS 'One row per billing month whose usage is frozen.';

COMMENT ON COLUMN billing.billing_months.period_start IS 'First day of the calendar month, UTC.';

COMMENT ON COLUMN billing.billing_months.usage_cutoff IS 'Usage ingested after this instant is not in the frozen usage; moves only when the frozen usage changes.';

COMMENT ON COLUMN billing.billing_months.run_id IS 'The Dagster run that froze the usage as it stands.';

COMMENT ON COLUMN billing.billing_months.frozen_rows IS 'How many rows of metered_usage the last freezing left, and a hash of where they are and who wrote them: who changes one by hand has all tenants quoted again.';

COMMENT ON COLUMN billing.billing_months.quoted_rows IS 'The same of the quote lines, the unbilled usage and the faults that the last quoting left.';

COMMENT ON COLUMN billing.billing_months.invoiced_rows IS 'How many rows of tenant_invoices, tenant_invoice_lines and invoice_events the last publication left, and a hash of where they are and who wrote them: while they are the same, no hash of an invoice is worked out again.';

COMMENT ON COLUMN billing.billing_months.usage_source IS 'What the frozen usage was counted from, if not from cloud.usage_records: the source, and its files (name, size, etag) or its snapshot. Where it has neither, the records ingested until usage_cutoff.';

CREATE TABLE billing.cloud_invoice_documents (
    period_start date NOT NULL,
    revision integer NOT NULL,
    source text NOT NULL,
    media_type text NOT NULL,
    document bytea NOT NULL,
    total_cents bigint NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT cloud_invoice_documents_media_type_check CHECK ((media_type = ANY (ARRAY['text/csv'::text, 'application/json'::text])))
);

COMMENT ON TABLE billing.cloud_invoice_documents IS 'One row per month and revision: the provider''s bill byte for byte as it was received; never changed or deleted.';

COMMENT ON COLUMN billing.cloud_invoice_documents.period_start IS 'First day of the month that is billed, UTC.';

COMMENT ON COLUMN billing.cloud_invoice_documents.revision IS 'As in cloud_invoices; the highest is the one that stands.';

COMMENT ON COLUMN billing.cloud_invoice_documents.source IS 'The file''s name, or the API''s address.';

COMMENT ON COLUMN billing.cloud_invoice_documents.media_type IS 'text/csv, or application/json: the API''s answers, a list.';

COMMENT ON COLUMN billing.cloud_invoice_documents.document IS 'The bytes.';

COMMENT ON COLUMN billing.cloud_invoice_documents.total_cents IS 'The bill''s total then, cents USD.';

COMMENT ON COLUMN billing.cloud_invoice_documents.received_at IS 'When.';

CREATE TABLE billing.cloud_invoice_items (
    period_start date NOT NULL,
    line_no integer NOT NULL,
    kind text NOT NULL,
    product text NOT NULL,
    category text,
    resource_id text,
    resource_uuid text,
    group_description text,
    description text NOT NULL,
    duration numeric(18,6),
    duration_unit text,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    project_name text,
    amount_cents bigint NOT NULL,
    CONSTRAINT cloud_invoice_items_duration_check CHECK ((duration <> 'NaN'::numeric)),
    CONSTRAINT cloud_invoice_items_kind_check CHECK ((kind = ANY (ARRAY['usage'::text, 'credit'::text, 'tax'::text]))),
    CONSTRAINT cloud_invoice_items_line_no_check CHECK ((line_no >= 1))
);

COMMENT ON TABLE billing.cloud_invoice_items IS 'One row per item of the provider''s bill as it stands.';

COMMENT ON COLUMN billing.cloud_invoice_items.period_start IS 'First day of the month that is billed, UTC.';

COMMENT ON COLUMN billing.cloud_invoice_items.line_no IS 'Its place on the bill, from 1.';

COMMENT ON COLUMN billing.cloud_invoice_items.kind IS 'usage, credit (and adjustments of either sign) or tax.';

COMMENT ON COLUMN billing.cloud_invoice_items.product IS 'The provider''s product, e.g. Droplets; see product_kinds.';

COMMENT ON COLUMN billing.cloud_invoice_items.category IS 'The provider''s category, e.g. iaas; null where it gives none.';

COMMENT ON COLUMN billing.cloud_invoice_items.resource_id IS 'The provider''s id of what is billed; null where it gives none.';

COMMENT ON COLUMN billing.cloud_invoice_items.resource_uuid IS 'The provider''s uuid of it; null where it gives none.';

COMMENT ON COLUMN billing.cloud_invoice_items.group_description IS 'What it is part of, e.g. a cluster''s name; may be null.';

COMMENT ON COLUMN billing.cloud_invoice_items.description IS 'The item as the provider words it.';

COMMENT ON COLUMN billing.cloud_invoice_items.duration IS 'How long, in duration_unit; null where the provider does not say.';

COMMENT ON COLUMN billing.cloud_invoice_items.duration_unit IS 'Hours, seconds, ...; null where the provider does not say.';

COMMENT ON COLUMN billing.cloud_invoice_items.started_at IS 'From when; the month''s first instant where the bill does not say.';

COMMENT ON COLUMN billing.cloud_invoice_items.ended_at IS 'Until when, exclusive; the month''s end where the bill does not say.';

COMMENT ON COLUMN billing.cloud_invoice_items.project_name IS 'The provider''s project that it is in; null if none.';

COMMENT ON COLUMN billing.cloud_invoice_items.amount_cents IS 'Cents USD; credits are negative.';

CREATE TABLE billing.cloud_invoices (
    period_start date NOT NULL,
    provider text DEFAULT 'digitalocean'::text NOT NULL,
    invoice_uuid text,
    currency text DEFAULT 'USD'::text NOT NULL,
    total_cents bigint NOT NULL,
    total_from text NOT NULL,
    item_count integer NOT NULL,
    revision integer DEFAULT 1 NOT NULL,
    content_sha256 text NOT NULL,
    run_id text,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    items_sha256 text,
    CONSTRAINT cloud_invoices_content_sha256_check CHECK ((content_sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT cloud_invoices_currency_check CHECK ((currency = 'USD'::text)),
    CONSTRAINT cloud_invoices_item_count_check CHECK ((item_count >= 0)),
    CONSTRAINT cloud_invoices_items_sha256_check CHECK ((items_sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT cloud_invoices_period_start_check CHECK ((((period_start >= '0001-01-01'::date) AND (period_start <= '9999-12-01'::date)) AND (EXTRACT(day FROM period_start) = (1)::numeric))),
    CONSTRAINT cloud_invoices_provider_check CHECK ((provider = 'digitalocean'::text)),
    CONSTRAINT cloud_invoices_revision_check CHECK ((revision >= 1)),
    CONSTRAINT cloud_invoices_total_from_check CHECK ((total_from = ANY (ARRAY['bill'::text, 'operator'::text, 'sum'::text])))
);

COMMENT ON TABLE billing.cloud_invoices IS 'One row per month: the provider''s bill as it stands.';

COMMENT ON COLUMN billing.cloud_invoices.period_start IS 'First day of the month that is billed, UTC.';

COMMENT ON COLUMN billing.cloud_invoices.provider IS 'digitalocean.';

COMMENT ON COLUMN billing.cloud_invoices.invoice_uuid IS 'The provider''s id of the bill; null where it came as a CSV.';

COMMENT ON COLUMN billing.cloud_invoices.currency IS 'USD.';

COMMENT ON COLUMN billing.cloud_invoices.total_cents IS 'The bill''s total, cents USD, credits and taxes included.';

COMMENT ON COLUMN billing.cloud_invoices.total_from IS 'Who says what the total is: the bill itself; the operator who imported it; or nobody, then it is the sum of the items, and the month is not reconciled.';

COMMENT ON COLUMN billing.cloud_invoices.item_count IS 'How many items.';

COMMENT ON COLUMN billing.cloud_invoices.revision IS 'Counts up each time the provider restates the bill.';

COMMENT ON COLUMN billing.cloud_invoices.content_sha256 IS 'Hash of the items and the total: equal hashes bill the same.';

COMMENT ON COLUMN billing.cloud_invoices.run_id IS 'The Dagster run that fetched it; null where it was imported.';

COMMENT ON COLUMN billing.cloud_invoices.received_at IS 'When this revision was received.';

COMMENT ON COLUMN billing.cloud_invoices.items_sha256 IS 'Hash of a CSV''s items as they came, so that the same ones are not two months'' bill; null for the API''s, which names its month, and for what was imported before this was kept.';

CREATE TABLE billing.cost_allocations (
    period_start date NOT NULL,
    line_no integer NOT NULL,
    part integer NOT NULL,
    deployment_id uuid,
    tenant_id text,
    allocated_by text NOT NULL,
    split_by text,
    weight numeric(38,0) NOT NULL,
    of_weight numeric(38,0) NOT NULL,
    usd_cents bigint NOT NULL,
    aud_cents bigint,
    CONSTRAINT cost_allocations_allocated_by_check CHECK ((allocated_by = ANY (ARRAY['resource'::text, 'project'::text, 'nobody'::text]))),
    CONSTRAINT cost_allocations_check CHECK ((of_weight >= weight)),
    CONSTRAINT cost_allocations_check1 CHECK (((deployment_id IS NULL) = (allocated_by = 'nobody'::text))),
    CONSTRAINT cost_allocations_part_check CHECK ((part >= 1)),
    CONSTRAINT cost_allocations_weight_check CHECK ((weight > (0)::numeric))
);

COMMENT ON TABLE billing.cost_allocations IS 'One row per item of the bill and deployment that it goes to; what belongs to nobody has no deployment. The rows of an item sum to it.';

COMMENT ON COLUMN billing.cost_allocations.period_start IS 'First day of the month, UTC.';

COMMENT ON COLUMN billing.cost_allocations.line_no IS 'The item: as in cloud_invoice_items.';

COMMENT ON COLUMN billing.cost_allocations.part IS 'Which part of it, from 1.';

COMMENT ON COLUMN billing.cost_allocations.deployment_id IS 'Whose cost it is; null: unallocated.';

COMMENT ON COLUMN billing.cost_allocations.tenant_id IS 'Who pays for the deployment in that month, the last if there were two, or owns it where nobody pays; null: unallocated, or the deployment is deleted.';

COMMENT ON COLUMN billing.cost_allocations.allocated_by IS 'resource: by deployment_resources; project: by the project, which is named as the deployment; nobody.';

COMMENT ON COLUMN billing.cost_allocations.split_by IS 'What splits the item: time (it had one owner after another), share, or a metered kind; null if it is not split.';

COMMENT ON COLUMN billing.cost_allocations.weight IS 'Its part of of_weight.';

COMMENT ON COLUMN billing.cost_allocations.of_weight IS 'What the weights of the item sum to.';

COMMENT ON COLUMN billing.cost_allocations.usd_cents IS 'Its part of the item, cents USD, by largest remainders.';

COMMENT ON COLUMN billing.cost_allocations.aud_cents IS 'The same in cents AUD; null while the month has no rate.';

CREATE TABLE billing.cost_split_keys (
    resource_id text NOT NULL,
    resource_kind text NOT NULL,
    CONSTRAINT cost_split_keys_resource_kind_check CHECK ((resource_kind <> ''::text))
);

COMMENT ON TABLE billing.cost_split_keys IS 'One row per shared resource that is split by metered usage and not by deployment_resources.share.';

COMMENT ON COLUMN billing.cost_split_keys.resource_id IS 'As in deployment_resources.';

COMMENT ON COLUMN billing.cost_split_keys.resource_kind IS 'Split by the month''s metered usage of this kind of its deployments; by share where they have none.';

CREATE TABLE billing.fx_rates (
    period_start date NOT NULL,
    currency text DEFAULT 'USD'::text NOT NULL,
    usd_per_aud numeric(12,6) NOT NULL,
    published_on date,
    source text NOT NULL,
    entered_at timestamp with time zone DEFAULT now() NOT NULL,
    is_final boolean DEFAULT true NOT NULL,
    reason text,
    CONSTRAINT fx_rates_currency_check CHECK ((currency = 'USD'::text)),
    CONSTRAINT fx_rates_period_start_check CHECK ((((period_start >= '0001-01-01'::date) AND (period_start <= '9999-12-01'::date)) AND (EXTRACT(day FROM period_start) = (1)::numeric))),
    CONSTRAINT fx_rates_reason_check CHECK ((btrim(reason) <> ''::text)),
    CONSTRAINT fx_rates_source_check CHECK ((source <> ''::text)),
    CONSTRAINT fx_rates_usd_per_aud_check CHECK (((usd_per_aud >= 0.01) AND (usd_per_aud < (100)::numeric)))
);

COMMENT ON TABLE billing.fx_rates IS 'One row per month: what an Australian dollar was worth.';

COMMENT ON COLUMN billing.fx_rates.period_start IS 'First day of the month whose bill it converts, UTC.';

COMMENT ON COLUMN billing.fx_rates.currency IS 'USD.';

COMMENT ON COLUMN billing.fx_rates.usd_per_aud IS 'US dollars for one Australian dollar, as the Reserve Bank quotes it.';

COMMENT ON COLUMN billing.fx_rates.published_on IS 'The day it is of: the month''s last in a file; null if entered by hand.';

COMMENT ON COLUMN billing.fx_rates.source IS 'The file and series, or what the operator says.';

COMMENT ON COLUMN billing.fx_rates.entered_at IS 'When it was entered.';

COMMENT ON COLUMN billing.fx_rates.is_final IS 'False: the file that it is from ends before the month does, so it may not be the month''s last rate.';

COMMENT ON COLUMN billing.fx_rates.reason IS 'Why a rate that looks wrong is right, as the operator says (see rate_doubts); null where nobody had to.';

CREATE TABLE billing.month_costs (
    period_start date NOT NULL,
    usd_cents bigint NOT NULL,
    usd_per_aud numeric(12,6),
    fx_source text,
    aud_cents bigint,
    rounding_cents bigint,
    allocated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT month_costs_check CHECK ((num_nulls(usd_per_aud, fx_source, aud_cents, rounding_cents) = ANY (ARRAY[0, 4])))
);

COMMENT ON TABLE billing.month_costs IS 'One row per month whose bill is allocated: what it came to, and at which rate.';

COMMENT ON COLUMN billing.month_costs.period_start IS 'First day of the month, UTC.';

COMMENT ON COLUMN billing.month_costs.usd_cents IS 'The bill that was allocated, cents USD.';

COMMENT ON COLUMN billing.month_costs.usd_per_aud IS 'The rate that it was converted at; null without one.';

COMMENT ON COLUMN billing.month_costs.fx_source IS 'Where the rate is from.';

COMMENT ON COLUMN billing.month_costs.aud_cents IS 'usd_cents / usd_per_aud, rounded once, half up: the month''s cost, cents AUD. Its allocations sum to it.';

COMMENT ON COLUMN billing.month_costs.rounding_cents IS 'aud_cents less its allocations rounded one by one, half up: what largest remainders moved.';

COMMENT ON COLUMN billing.month_costs.allocated_at IS 'When it was allocated as it stands.';

CREATE TABLE billing.quote_faults (
    period_start date NOT NULL,
    tenant_id text,
    subscription_id uuid,
    deployment_id uuid,
    resource_kind text,
    fault text NOT NULL,
    detail text NOT NULL
);

COMMENT ON TABLE billing.quote_faults IS 'What holds a tenant back from being quoted and invoiced for the month: one row per fault found.';

COMMENT ON COLUMN billing.quote_faults.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.quote_faults.tenant_id IS 'The tenant held back; null where the fault has no known tenant.';

COMMENT ON COLUMN billing.quote_faults.subscription_id IS 'The subscription with the fault; null where it has none.';

COMMENT ON COLUMN billing.quote_faults.deployment_id IS 'The deployment with the fault; null where it concerns the tenant''s sum.';

COMMENT ON COLUMN billing.quote_faults.resource_kind IS 'The metered kind with the fault; null where it is a price.';

COMMENT ON COLUMN billing.quote_faults.fault IS 'The fault''s name, e.g. plan_without_price.';

COMMENT ON COLUMN billing.quote_faults.detail IS 'What is wrong and what to do.';

CREATE VIEW billing.rate_doubts AS
 SELECT f.period_start,
    f.usd_per_aud,
    d.doubt
   FROM (( SELECT fx_rates.period_start,
            fx_rates.currency,
            fx_rates.usd_per_aud,
            fx_rates.published_on,
            fx_rates.source,
            fx_rates.entered_at,
            fx_rates.is_final,
            fx_rates.reason,
            lag(fx_rates.usd_per_aud) OVER (ORDER BY fx_rates.period_start) AS before,
            to_char((lag(fx_rates.period_start) OVER (ORDER BY fx_rates.period_start))::timestamp with time zone, 'YYYY-MM'::text) AS month_before
           FROM billing.fx_rates) f
     CROSS JOIN LATERAL ( SELECT concat_ws('; '::text,
                CASE
                    WHEN (f.reason IS NOT NULL) THEN NULL::text
                    WHEN ((f.usd_per_aud < 0.3) OR (f.usd_per_aud > 1.5)) THEN (trim_scale(f.usd_per_aud) || ' is not between 0.3 and 1.5'::text)
                    WHEN ((abs((f.usd_per_aud - f.before)) * (4)::numeric) > f.before) THEN format('%s is more than 25 %% from %s, the rate of %s'::text, trim_scale(f.usd_per_aud), trim_scale(f.before), f.month_before)
                    ELSE NULL::text
                END,
                CASE
                    WHEN (NOT f.is_final) THEN concat_ws(' '::text, 'it is of', to_char((f.published_on)::timestamp with time zone, 'YYYY-MM-DD'::text), 'and not of the month''s end')
                    ELSE NULL::text
                END) AS doubt) d)
  WHERE (d.doubt <> ''::text);

COMMENT ON VIEW billing.rate_doubts IS 'One row per month whose rate of exchange looks wrong: outside 0.3 to 1.5, or more than 25 % from that of the month before (the last that has one), and nobody has said why; or not the month''s last.';

COMMENT ON COLUMN billing.rate_doubts.period_start IS 'First day of the month, UTC.';

COMMENT ON COLUMN billing.rate_doubts.usd_per_aud IS 'As in fx_rates.';

COMMENT ON COLUMN billing.rate_doubts.doubt IS 'What is wrong with it.';

CREATE VIEW billing.cost_vs_revenue_by_month AS
 SELECT period_start,
    (COALESCE(r.revenue_cents, (0)::numeric))::bigint AS revenue_cents,
    c.cost_cents,
        CASE
            WHEN (c.cost_cents IS NOT NULL) THEN (COALESCE(a.allocated_cents, (0)::numeric))::bigint
            ELSE NULL::bigint
        END AS allocated_cents,
        CASE
            WHEN (c.cost_cents IS NOT NULL) THEN (COALESCE(a.unallocated_cents, (0)::numeric))::bigint
            ELSE NULL::bigint
        END AS unallocated_cents,
        CASE
            WHEN (c.cost_cents IS NOT NULL) THEN (COALESCE(a.tax_cents, (0)::numeric))::bigint
            ELSE NULL::bigint
        END AS tax_cents,
    ((COALESCE(r.revenue_cents, (0)::numeric) - (c.cost_cents)::numeric))::bigint AS margin_cents,
    round((((100)::numeric * (r.revenue_cents - (c.cost_cents)::numeric)) / NULLIF(GREATEST(r.revenue_cents, (0)::numeric), (0)::numeric)), 2) AS margin_percent,
    (o.open_points = ''::text) AS reconciled,
    o.open_points,
    (COALESCE(r.invoices, (0)::bigint))::integer AS invoices,
    b.total_cents AS bill_usd_cents,
    m.usd_per_aud,
    f.reason AS rate_reason
   FROM (((((((((( SELECT tenant_invoices.period_start,
            sum(tenant_invoices.subtotal_cents) FILTER (WHERE (tenant_invoices.status = ANY (ARRAY['issued'::text, 'paid'::text]))) AS revenue_cents,
            count(*) FILTER (WHERE (tenant_invoices.status = ANY (ARRAY['issued'::text, 'paid'::text]))) AS invoices,
            count(*) FILTER (WHERE (tenant_invoices.status = 'draft'::text)) AS drafts
           FROM billing.tenant_invoices
          GROUP BY tenant_invoices.period_start) r
     FULL JOIN billing.cloud_invoices b USING (period_start))
     LEFT JOIN billing.month_costs m USING (period_start))
     LEFT JOIN billing.fx_rates f USING (period_start))
     LEFT JOIN billing.rate_doubts d USING (period_start))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (f.period_start IS NOT NULL) THEN m.aud_cents
                    ELSE NULL::bigint
                END AS cost_cents) c)
     LEFT JOIN LATERAL ( SELECT sum(a_1.usd_cents) AS usd_cents,
            sum(a_1.aud_cents) AS aud_cents,
            sum(a_1.aud_cents) FILTER (WHERE (a_1.deployment_id IS NOT NULL)) AS allocated_cents,
            sum(a_1.aud_cents) FILTER (WHERE (a_1.deployment_id IS NULL)) AS unallocated_cents,
            sum(a_1.aud_cents) FILTER (WHERE (i_1.kind = 'tax'::text)) AS tax_cents
           FROM (billing.cost_allocations a_1
             JOIN billing.cloud_invoice_items i_1 USING (period_start, line_no))
          WHERE (a_1.period_start = b.period_start)) a ON (true))
     LEFT JOIN LATERAL ( SELECT COALESCE(sum(i_1.amount_cents), (0)::numeric) AS usd_cents,
            count(*) AS items
           FROM billing.cloud_invoice_items i_1
          WHERE (i_1.period_start = b.period_start)) i ON (true))
     LEFT JOIN LATERAL ( SELECT count(DISTINCT q_1.tenant_id) AS tenants
           FROM billing.quote_faults q_1
          WHERE (q_1.period_start = COALESCE(r.period_start, b.period_start))) q ON (true))
     CROSS JOIN LATERAL ( SELECT concat_ws('; '::text,
                CASE
                    WHEN (COALESCE(r.invoices, (0)::bigint) = 0) THEN 'no invoices'::text
                    ELSE NULL::text
                END,
                CASE r.drafts
                    WHEN 0 THEN NULL::text
                    WHEN 1 THEN '1 invoice is a draft'::text
                    ELSE (r.drafts || ' invoices are drafts'::text)
                END,
                CASE q.tenants
                    WHEN 0 THEN NULL::text
                    WHEN 1 THEN '1 tenant is held back'::text
                    ELSE (q.tenants || ' tenants are held back'::text)
                END,
                CASE
                    WHEN (b.period_start IS NULL) THEN 'no bill of the provider''s'::text
                    ELSE NULL::text
                END,
                CASE
                    WHEN (b.total_from = 'sum'::text) THEN 'the bill''s own total is not known'::text
                    ELSE NULL::text
                END,
                CASE
                    WHEN ((i.usd_cents <> (b.total_cents)::numeric) OR (i.items <> b.item_count)) THEN 'the items are not the bill'::text
                    ELSE NULL::text
                END,
                CASE
                    WHEN ((b.period_start IS NOT NULL) AND (m.period_start IS NULL)) THEN 'the bill is not allocated'::text
                    ELSE NULL::text
                END,
                CASE
                    WHEN ((m.usd_cents <> b.total_cents) OR (COALESCE(a.usd_cents, (0)::numeric) <> (m.usd_cents)::numeric) OR (COALESCE(a.aud_cents, (0)::numeric) <> (m.aud_cents)::numeric)) THEN 'the allocations are not the bill'::text
                    ELSE NULL::text
                END,
                CASE
                    WHEN (f.period_start IS NULL) THEN 'no rate of exchange'::text
                    ELSE NULL::text
                END,
                CASE
                    WHEN ((m.period_start IS NOT NULL) AND (f.period_start IS NOT NULL) AND (f.usd_per_aud IS DISTINCT FROM m.usd_per_aud)) THEN 'the rate of exchange has changed'::text
                    ELSE NULL::text
                END, ('the rate of exchange is in doubt: '::text || d.doubt)) AS open_points) o)
  WHERE
        CASE
            WHEN (current_setting('arcadia.role'::text, true) = 'platform_admin'::text) THEN true
            WHEN has_table_privilege('billing.month_costs'::text, 'select'::text) THEN true
            WHEN (to_regrole('arcadia_api'::text) IS NULL) THEN true
            ELSE (NOT pg_has_role((to_regrole('arcadia_api'::text))::oid, 'usage'::text))
        END;

COMMENT ON VIEW billing.cost_vs_revenue_by_month IS 'One row per month that has invoices or a bill: revenue, cost and what is left, cents AUD.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.revenue_cents IS 'Issued and paid invoices, ex GST.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.cost_cents IS 'The provider''s bill at the month''s rate, its credits and taxes included; null without a bill or a rate.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.allocated_cents IS 'What of it belongs to deployments.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.unallocated_cents IS 'What of it belongs to nobody.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.tax_cents IS 'What of it is the provider''s tax.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.margin_cents IS 'revenue_cents - cost_cents; null without a cost.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.margin_percent IS 'Margin in percent of revenue; null without a cost, or a revenue above 0.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.reconciled IS 'Whether both ends are there and meet: nothing is left in open_points.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.open_points IS 'What is missing or does not fit; empty if nothing.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.invoices IS 'How many issued and paid invoices.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.bill_usd_cents IS 'The provider''s bill, cents USD; null without one.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.usd_per_aud IS 'The rate of exchange; null without one.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_month.rate_reason IS 'Why a rate of exchange that looks wrong is right; null where nobody had to say so.';

CREATE VIEW billing.revenue_by_deployment AS
 SELECT l.period_start,
    i.tenant_id,
    l.deployment_id,
    max(l.deployment_name) AS deployment_name,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'plan_base'::text)), (0)::numeric))::bigint AS plan_base_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'addon'::text)), (0)::numeric))::bigint AS addon_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'overage'::text)), (0)::numeric))::bigint AS overage_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = ANY (ARRAY['credit'::text, 'adjustment'::text]))), (0)::numeric))::bigint AS adjustment_cents,
    (sum(l.amount_cents))::bigint AS revenue_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'discount'::text)), (0)::numeric))::bigint AS discount_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'commitment'::text)), (0)::numeric))::bigint AS commitment_cents
   FROM (billing.tenant_invoice_lines l
     JOIN billing.tenant_invoices i ON ((i.id = l.invoice_id)))
  WHERE ((l.kind <> 'tax'::text) AND (i.status = ANY (ARRAY['issued'::text, 'paid'::text])))
  GROUP BY l.period_start, i.tenant_id, l.deployment_id;

COMMENT ON VIEW billing.revenue_by_deployment IS 'One row per month, tenant and deployment: revenue ex GST, cents AUD, of issued and paid invoices.';

COMMENT ON COLUMN billing.revenue_by_deployment.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.revenue_by_deployment.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.revenue_by_deployment.deployment_id IS 'Null for tenant-level commitments, credits and adjustments, and for deployments deleted since.';

COMMENT ON COLUMN billing.revenue_by_deployment.deployment_name IS 'Its name when it was invoiced.';

COMMENT ON COLUMN billing.revenue_by_deployment.plan_base_cents IS 'Plans'' base prices.';

COMMENT ON COLUMN billing.revenue_by_deployment.addon_cents IS 'Addons.';

COMMENT ON COLUMN billing.revenue_by_deployment.overage_cents IS 'Usage beyond the allowance.';

COMMENT ON COLUMN billing.revenue_by_deployment.adjustment_cents IS 'Credits and adjustments.';

COMMENT ON COLUMN billing.revenue_by_deployment.revenue_cents IS 'The sum of the other amounts, ex GST.';

COMMENT ON COLUMN billing.revenue_by_deployment.discount_cents IS 'Discounts, below 0.';

COMMENT ON COLUMN billing.revenue_by_deployment.commitment_cents IS 'What was missing from commitments.';

CREATE TABLE cloud.cloud_deployments (
    id uuid NOT NULL,
    tenant_id text NOT NULL,
    name text NOT NULL
);

COMMENT ON TABLE cloud.cloud_deployments IS 'One row per deployment: what a tenant runs.';

COMMENT ON COLUMN cloud.cloud_deployments.id IS 'Its id.';

COMMENT ON COLUMN cloud.cloud_deployments.tenant_id IS 'Whose it is. Who pays for it is in subscriptions.';

COMMENT ON COLUMN cloud.cloud_deployments.name IS 'As it stands on quotes and invoices, whose lines are ordered by it.';

CREATE VIEW billing.cost_vs_revenue_by_deployment AS
 SELECT s.period_start,
    s.tenant_id,
    s.deployment_id,
        CASE
            WHEN s.is_unallocated THEN 'unallocated'::text
            WHEN (s.deployment_id IS NOT NULL) THEN COALESCE(s.deployment_name, d.name, '(deleted)'::text)
            ELSE s.deployment_name
        END AS deployment_name,
    s.revenue_cents,
    c.cost_cents,
    (s.revenue_cents - c.cost_cents) AS margin_cents,
    round((((100)::numeric * ((s.revenue_cents - c.cost_cents))::numeric) / (NULLIF(GREATEST(s.revenue_cents, (0)::bigint), 0))::numeric), 2) AS margin_percent,
    m.reconciled
   FROM (((( SELECT e.period_start,
            e.tenant_id,
            e.deployment_id,
            e.is_unallocated,
            max(e.deployment_name) AS deployment_name,
            (sum(e.revenue_cents))::bigint AS revenue_cents,
            (sum(e.aud_cents))::bigint AS aud_cents
           FROM ( SELECT revenue_by_deployment.period_start,
                    revenue_by_deployment.tenant_id,
                    revenue_by_deployment.deployment_id,
                    false AS is_unallocated,
                    revenue_by_deployment.deployment_name,
                    revenue_by_deployment.revenue_cents,
                    NULL::bigint AS aud_cents
                   FROM billing.revenue_by_deployment
                UNION ALL
                 SELECT cost_allocations.period_start,
                    cost_allocations.tenant_id,
                    cost_allocations.deployment_id,
                    (cost_allocations.deployment_id IS NULL),
                    NULL::text,
                    0,
                    cost_allocations.aud_cents
                   FROM billing.cost_allocations) e
          GROUP BY e.period_start, e.tenant_id, e.deployment_id, e.is_unallocated) s
     JOIN billing.cost_vs_revenue_by_month m USING (period_start))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (m.cost_cents IS NOT NULL) THEN COALESCE(s.aud_cents, (0)::bigint)
                    ELSE NULL::bigint
                END AS cost_cents) c)
     LEFT JOIN ( SELECT cloud_deployments.id,
            min(cloud_deployments.name) AS name
           FROM cloud.cloud_deployments
          GROUP BY cloud_deployments.id) d ON ((d.id = s.deployment_id)));

COMMENT ON VIEW billing.cost_vs_revenue_by_deployment IS 'One row per month, tenant and deployment, and one of what is unallocated: revenue, cost and margin, cents AUD.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.tenant_id IS 'Who pays; null for what is unallocated.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.deployment_id IS 'Null for what is unallocated, for tenant-level commitments, credits and adjustments, and for revenue of deployments deleted since.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.deployment_name IS 'Its name when invoiced, else now; (deleted) if it has none any more; or unallocated.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.revenue_cents IS 'Issued and paid invoices, ex GST.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.cost_cents IS 'Its part of the provider''s bill, cents AUD; null while the month has no bill or no rate.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.margin_cents IS 'revenue_cents - cost_cents; null without a cost.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.margin_percent IS 'Margin in percent of revenue; null without a cost, or a revenue above 0.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_deployment.reconciled IS 'Of the month: see cost_vs_revenue_by_month.';

CREATE TABLE billing.product_kinds (
    product text NOT NULL,
    resource_kind text NOT NULL,
    CONSTRAINT product_kinds_resource_kind_check CHECK ((resource_kind <> ALL (ARRAY[''::text, 'unallocated'::text, 'unmapped'::text])))
);

COMMENT ON TABLE billing.product_kinds IS 'One row per product of the provider''s: which of our resource kinds it is.';

COMMENT ON COLUMN billing.product_kinds.product IS 'As on the bill.';

COMMENT ON COLUMN billing.product_kinds.resource_kind IS 'As in plan_rates where we meter it; else a name of its own, e.g. load_balancer.';

CREATE VIEW billing.revenue_by_kind AS
 SELECT l.period_start,
    i.tenant_id,
    k.resource_kind,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'plan_base'::text)), (0)::numeric))::bigint AS plan_base_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'addon'::text)), (0)::numeric))::bigint AS addon_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'overage'::text)), (0)::numeric))::bigint AS overage_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = ANY (ARRAY['credit'::text, 'adjustment'::text]))), (0)::numeric))::bigint AS adjustment_cents,
    (sum(l.amount_cents))::bigint AS revenue_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'discount'::text)), (0)::numeric))::bigint AS discount_cents,
    (COALESCE(sum(l.amount_cents) FILTER (WHERE (l.kind = 'commitment'::text)), (0)::numeric))::bigint AS commitment_cents
   FROM ((billing.tenant_invoice_lines l
     JOIN billing.tenant_invoices i ON ((i.id = l.invoice_id)))
     CROSS JOIN LATERAL ( SELECT COALESCE(l.resource_kind,
                CASE l.kind
                    WHEN 'discount'::text THEN (l.meta ->> 'of'::text)
                    ELSE NULL::text
                END, l.kind) AS resource_kind) k)
  WHERE ((l.kind <> 'tax'::text) AND (i.status = ANY (ARRAY['issued'::text, 'paid'::text])))
  GROUP BY l.period_start, i.tenant_id, k.resource_kind;

COMMENT ON VIEW billing.revenue_by_kind IS 'One row per month, tenant and resource kind: revenue ex GST, cents AUD, of issued and paid invoices.';

COMMENT ON COLUMN billing.revenue_by_kind.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.revenue_by_kind.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.revenue_by_kind.resource_kind IS 'The metered kind of overage; plan_base, addon, commitment, credit or adjustment for lines that meter nothing. A discount has that of what it is off.';

COMMENT ON COLUMN billing.revenue_by_kind.plan_base_cents IS 'Plans'' base prices.';

COMMENT ON COLUMN billing.revenue_by_kind.addon_cents IS 'Addons.';

COMMENT ON COLUMN billing.revenue_by_kind.overage_cents IS 'Usage beyond the allowance.';

COMMENT ON COLUMN billing.revenue_by_kind.adjustment_cents IS 'Credits and adjustments.';

COMMENT ON COLUMN billing.revenue_by_kind.revenue_cents IS 'The sum of the other amounts, ex GST.';

COMMENT ON COLUMN billing.revenue_by_kind.discount_cents IS 'Discounts, below 0.';

COMMENT ON COLUMN billing.revenue_by_kind.commitment_cents IS 'What was missing from commitments.';

CREATE VIEW billing.cost_vs_revenue_by_kind AS
 SELECT s.period_start,
    s.resource_kind,
    s.revenue_cents,
    c.cost_cents,
    (s.revenue_cents - c.cost_cents) AS margin_cents,
    round((((100)::numeric * ((s.revenue_cents - c.cost_cents))::numeric) / (NULLIF(GREATEST(s.revenue_cents, (0)::bigint), 0))::numeric), 2) AS margin_percent,
    m.reconciled
   FROM ((( SELECT e.period_start,
            e.resource_kind,
            (sum(e.revenue_cents))::bigint AS revenue_cents,
            (sum(e.aud_cents))::bigint AS aud_cents
           FROM ( SELECT revenue_by_kind.period_start,
                    revenue_by_kind.resource_kind,
                    revenue_by_kind.revenue_cents,
                    NULL::bigint AS aud_cents
                   FROM billing.revenue_by_kind
                UNION ALL
                 SELECT a.period_start,
                        CASE
                            WHEN (a.deployment_id IS NULL) THEN 'unallocated'::text
                            WHEN (i.kind <> 'usage'::text) THEN ('provider '::text || i.kind)
                            ELSE COALESCE(k.resource_kind, 'unmapped'::text)
                        END AS "coalesce",
                    0,
                    a.aud_cents
                   FROM ((billing.cost_allocations a
                     JOIN billing.cloud_invoice_items i USING (period_start, line_no))
                     LEFT JOIN billing.product_kinds k USING (product))) e
          GROUP BY e.period_start, e.resource_kind) s
     JOIN billing.cost_vs_revenue_by_month m USING (period_start))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (m.cost_cents IS NOT NULL) THEN COALESCE(s.aud_cents, (0)::bigint)
                    ELSE NULL::bigint
                END AS cost_cents) c);

COMMENT ON VIEW billing.cost_vs_revenue_by_kind IS 'One row per month and resource kind, and one of what is unallocated: revenue, cost and margin, cents AUD.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.resource_kind IS 'Revenue: the metered kind of overage; plan_base, addon, commitment, credit or adjustment for what meters nothing. Cost: by product_kinds; unmapped; provider credit, provider tax; unallocated. What a plan includes earns under plan_base and costs under its kind.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.revenue_cents IS 'Issued and paid invoices, ex GST.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.cost_cents IS 'Its part of the provider''s bill, cents AUD; null while the month has no bill or no rate.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.margin_cents IS 'revenue_cents - cost_cents; null without a cost.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.margin_percent IS 'Margin in percent of revenue; null without a cost, or a revenue above 0.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_kind.reconciled IS 'Of the month: see cost_vs_revenue_by_month.';

CREATE TABLE cloud.tenants (
    id text NOT NULL,
    name text NOT NULL,
    abn text,
    gst_free_reason text,
    billing_email text,
    billing_address text,
    CONSTRAINT tenants_id_check CHECK ((id <> ''::text))
);

COMMENT ON TABLE cloud.tenants IS 'One row per tenant: who pays.';

COMMENT ON COLUMN cloud.tenants.id IS 'A name that stays, like pilot. It is on every invoice.';

COMMENT ON COLUMN cloud.tenants.name IS 'As it stands on the tax invoice.';

COMMENT ON COLUMN cloud.tenants.abn IS 'Australian Business Number; null if the tenant has none.';

COMMENT ON COLUMN cloud.tenants.gst_free_reason IS 'Why no GST is charged, in words for the invoice; null or blank: GST is charged.';

COMMENT ON COLUMN cloud.tenants.billing_email IS 'Where invoices go; null: nowhere.';

COMMENT ON COLUMN cloud.tenants.billing_address IS 'The address that invoices show, in lines; null: none.';

CREATE VIEW billing.cost_vs_revenue_by_tenant AS
 SELECT s.period_start,
    s.tenant_id,
        CASE
            WHEN s.is_unallocated THEN 'unallocated'::text
            ELSE COALESCE(t.name, s.tenant_id, '(deleted)'::text)
        END AS tenant_name,
    s.revenue_cents,
    c.cost_cents,
    (s.revenue_cents - c.cost_cents) AS margin_cents,
    round((((100)::numeric * ((s.revenue_cents - c.cost_cents))::numeric) / (NULLIF(GREATEST(s.revenue_cents, (0)::bigint), 0))::numeric), 2) AS margin_percent,
    m.reconciled
   FROM (((( SELECT e.period_start,
            e.tenant_id,
            e.is_unallocated,
            (sum(e.revenue_cents))::bigint AS revenue_cents,
            (sum(e.aud_cents))::bigint AS aud_cents
           FROM ( SELECT tenant_invoices.period_start,
                    tenant_invoices.tenant_id,
                    false AS is_unallocated,
                    tenant_invoices.subtotal_cents AS revenue_cents,
                    NULL::bigint AS aud_cents
                   FROM billing.tenant_invoices
                  WHERE (tenant_invoices.status = ANY (ARRAY['issued'::text, 'paid'::text]))
                UNION ALL
                 SELECT cost_allocations.period_start,
                    cost_allocations.tenant_id,
                    (cost_allocations.deployment_id IS NULL),
                    0,
                    cost_allocations.aud_cents
                   FROM billing.cost_allocations) e
          GROUP BY e.period_start, e.tenant_id, e.is_unallocated) s
     JOIN billing.cost_vs_revenue_by_month m USING (period_start))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (m.cost_cents IS NOT NULL) THEN COALESCE(s.aud_cents, (0)::bigint)
                    ELSE NULL::bigint
                END AS cost_cents) c)
     LEFT JOIN ( SELECT tenants.id,
            min(tenants.name) AS name
           FROM cloud.tenants
          GROUP BY tenants.id) t ON ((t.id = s.tenant_id)));

COMMENT ON VIEW billing.cost_vs_revenue_by_tenant IS 'One row per month and tenant, and one of what is unallocated: revenue, cost and margin, cents AUD.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.tenant_id IS 'Who pays; null for what is unallocated, and for the cost of deployments that are deleted.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.tenant_name IS 'Its name now; (deleted); or unallocated.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.revenue_cents IS 'Its issued or paid invoice, ex GST.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.cost_cents IS 'Its deployments'' part of the provider''s bill, cents AUD; null while the month has no bill or no rate.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.margin_cents IS 'revenue_cents - cost_cents; null without a cost.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.margin_percent IS 'Margin in percent of revenue; null without a cost, or a revenue above 0.';

COMMENT ON COLUMN billing.cost_vs_revenue_by_tenant.reconciled IS 'Of the month: see cost_vs_revenue_by_month.';

CREATE TABLE billing.credit_grants (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id text NOT NULL,
    amount_cents bigint NOT NULL,
    expires_on date,
    description text NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text,
    granted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT credit_grants_amount_cents_check CHECK (((amount_cents > 0) AND (amount_cents < '1000000000000000'::bigint))),
    CONSTRAINT credit_grants_description_check CHECK ((description <> ''::text))
);

COMMENT ON TABLE billing.credit_grants IS 'Promotional credit: one row per grant; never changed or deleted. What is left of one follows from the invoice lines that stand and have it in meta "grant".';

COMMENT ON COLUMN billing.credit_grants.id IS 'The grant.';

COMMENT ON COLUMN billing.credit_grants.tenant_id IS 'Whose it is.';

COMMENT ON COLUMN billing.credit_grants.amount_cents IS 'How much, cents AUD ex GST.';

COMMENT ON COLUMN billing.credit_grants.expires_on IS 'It pays invoices of months that begin before this day; null: it does not expire.';

COMMENT ON COLUMN billing.credit_grants.description IS 'What it is, as the tenant reads it.';

COMMENT ON COLUMN billing.credit_grants.operator IS 'Who granted it.';

COMMENT ON COLUMN billing.credit_grants.reason IS 'Why.';

COMMENT ON COLUMN billing.credit_grants.run_id IS 'The Dagster run that did it; null: none.';

COMMENT ON COLUMN billing.credit_grants.granted_at IS 'When.';

CREATE TABLE billing.deployment_quote_lines (
    period_start date NOT NULL,
    subscription_id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    tenant_id text NOT NULL,
    line_no integer NOT NULL,
    kind text NOT NULL,
    resource_kind text,
    description text NOT NULL,
    qty numeric(18,6) NOT NULL,
    unit text NOT NULL,
    unit_price_cents numeric(18,8) NOT NULL,
    amount_cents bigint NOT NULL,
    deployment_name text NOT NULL,
    meta jsonb DEFAULT '{}'::jsonb NOT NULL,
    price_per numeric(18,6) DEFAULT 1 NOT NULL,
    CONSTRAINT deployment_quote_lines_kind_check CHECK ((kind = ANY (ARRAY['plan_base'::text, 'addon'::text, 'overage'::text]))),
    CONSTRAINT deployment_quote_lines_price_per_check CHECK (((price_per > (0)::numeric) AND (price_per <> 'NaN'::numeric))),
    CONSTRAINT deployment_quote_lines_qty_check CHECK ((qty <> 'NaN'::numeric)),
    CONSTRAINT deployment_quote_lines_unit_price_cents_check CHECK ((unit_price_cents <> 'NaN'::numeric))
)
PARTITION BY RANGE (period_start);

COMMENT ON TABLE billing.deployment_quote_lines IS 'The quote engine''s lines: one row per month, subscription and line. A quoted month is the preview of its invoices.';

COMMENT ON COLUMN billing.deployment_quote_lines.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.deployment_quote_lines.subscription_id IS 'The subscription that is quoted.';

COMMENT ON COLUMN billing.deployment_quote_lines.deployment_id IS 'The deployment that the subscription is for.';

COMMENT ON COLUMN billing.deployment_quote_lines.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.deployment_quote_lines.line_no IS 'Order within the subscription, from 1: plan_base, addon, overage.';

COMMENT ON COLUMN billing.deployment_quote_lines.kind IS 'plan_base, addon or overage.';

COMMENT ON COLUMN billing.deployment_quote_lines.resource_kind IS 'The metered kind of an overage line; else null.';

COMMENT ON COLUMN billing.deployment_quote_lines.description IS 'The line as a person reads it.';

COMMENT ON COLUMN billing.deployment_quote_lines.qty IS 'Quantity billed, in unit.';

COMMENT ON COLUMN billing.deployment_quote_lines.unit IS 'What qty counts: month (day of part months) for plans and addons, else the rate''s unit.';

COMMENT ON COLUMN billing.deployment_quote_lines.unit_price_cents IS 'Price of one unit in cents AUD ex GST, to 8 decimals.';

COMMENT ON COLUMN billing.deployment_quote_lines.amount_cents IS 'qty x unit_price_cents / price_per, rounded once, half up, ex GST.';

COMMENT ON COLUMN billing.deployment_quote_lines.deployment_name IS 'The deployment''s name when it was quoted.';

COMMENT ON COLUMN billing.deployment_quote_lines.meta IS 'Why: effective_from of the price; for overage also used and included, in unit.';

COMMENT ON COLUMN billing.deployment_quote_lines.price_per IS 'How many units unit_price_cents is for: 1, but the days of the month for part months.';

CREATE VIEW billing.deployment_quotes AS
 SELECT period_start,
    subscription_id,
    deployment_id,
    deployment_name,
    tenant_id,
    (COALESCE(sum(amount_cents) FILTER (WHERE (kind = 'plan_base'::text)), (0)::numeric))::bigint AS plan_base_cents,
    (COALESCE(sum(amount_cents) FILTER (WHERE (kind = 'addon'::text)), (0)::numeric))::bigint AS addon_cents,
    (COALESCE(sum(amount_cents) FILTER (WHERE (kind = 'overage'::text)), (0)::numeric))::bigint AS overage_cents,
    (sum(amount_cents))::bigint AS subtotal_cents,
    count(*) AS line_count
   FROM billing.deployment_quote_lines
  GROUP BY period_start, subscription_id, deployment_id, deployment_name, tenant_id;

COMMENT ON VIEW billing.deployment_quotes IS 'One row per month and subscription with its totals, cents AUD ex GST.';

COMMENT ON COLUMN billing.deployment_quotes.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.deployment_quotes.subscription_id IS 'The subscription that is quoted.';

COMMENT ON COLUMN billing.deployment_quotes.deployment_id IS 'The deployment that the subscription is for.';

COMMENT ON COLUMN billing.deployment_quotes.deployment_name IS 'Its name when it was quoted.';

COMMENT ON COLUMN billing.deployment_quotes.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.deployment_quotes.plan_base_cents IS 'The plan''s base price.';

COMMENT ON COLUMN billing.deployment_quotes.addon_cents IS 'All addons.';

COMMENT ON COLUMN billing.deployment_quotes.overage_cents IS 'Usage beyond the allowance.';

COMMENT ON COLUMN billing.deployment_quotes.subtotal_cents IS 'All lines, ex GST.';

COMMENT ON COLUMN billing.deployment_quotes.line_count IS 'How many lines.';

CREATE TABLE billing.deployment_resources (
    resource_id text NOT NULL,
    deployment_id uuid NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    share integer DEFAULT 1 NOT NULL,
    CONSTRAINT deployment_resources_check CHECK ((ended_at > started_at)),
    CONSTRAINT deployment_resources_resource_id_check CHECK ((resource_id <> ''::text)),
    CONSTRAINT deployment_resources_share_check CHECK (((share >= 1) AND (share <= 1000000)))
);

COMMENT ON TABLE billing.deployment_resources IS 'One row per resource of the provider''s, deployment it belonged to, and time. A resource of several deployments at once (a load balancer, a cluster) is shared.';

COMMENT ON COLUMN billing.deployment_resources.resource_id IS 'The provider''s resource_uuid or resource_id.';

COMMENT ON COLUMN billing.deployment_resources.deployment_id IS 'Whose it was.';

COMMENT ON COLUMN billing.deployment_resources.started_at IS 'Since when.';

COMMENT ON COLUMN billing.deployment_resources.ended_at IS 'Until when, exclusive; null: still.';

COMMENT ON COLUMN billing.deployment_resources.share IS 'Where it is shared: its weight, each second. 1 and 1 are halves, 3 and 1 three quarters and one.';

CREATE TABLE billing.documents (
    invoice_id uuid NOT NULL,
    revision integer NOT NULL,
    state text NOT NULL,
    format text NOT NULL,
    sha256 text NOT NULL,
    made_by text NOT NULL,
    left_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT documents_format_check CHECK ((format = ANY (ARRAY['pdf'::text, 'xml'::text]))),
    CONSTRAINT documents_revision_check CHECK ((revision >= 1)),
    CONSTRAINT documents_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT documents_state_check CHECK ((state = ANY (ARRAY['issued'::text, 'void'::text])))
);

COMMENT ON TABLE billing.documents IS 'Documents that have left the house, by their hash: one row per invoice, revision, state and format; never changed or deleted. The same revision is the same bytes.';

COMMENT ON COLUMN billing.documents.invoice_id IS 'The invoice.';

COMMENT ON COLUMN billing.documents.revision IS 'The revision that it shows.';

COMMENT ON COLUMN billing.documents.state IS 'issued (also once it is paid): the invoice. void: the adjustment note that takes it back.';

COMMENT ON COLUMN billing.documents.format IS 'pdf or xml.';

COMMENT ON COLUMN billing.documents.sha256 IS 'SHA-256 of its bytes.';

COMMENT ON COLUMN billing.documents.made_by IS 'What made it: the renderer and its version.';

COMMENT ON COLUMN billing.documents.left_at IS 'When it first left.';

CREATE TABLE billing.email_outbox (
    invoice_id uuid NOT NULL,
    period_start date NOT NULL,
    revision integer NOT NULL,
    recipient text NOT NULL,
    message_id text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    said text,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text,
    entered_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    document_state text DEFAULT 'issued'::text NOT NULL,
    CONSTRAINT email_outbox_document_state_check CHECK ((document_state = ANY (ARRAY['issued'::text, 'void'::text]))),
    CONSTRAINT email_outbox_operator_check CHECK ((operator <> ''::text)),
    CONSTRAINT email_outbox_revision_check CHECK ((revision >= 1)),
    CONSTRAINT email_outbox_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'sent'::text, 'uncertain'::text, 'refused'::text])))
);

COMMENT ON TABLE billing.email_outbox IS 'Documents that go to their tenants by e-mail: one row per invoice, and one more for the adjustment note that takes it back. `sending` is committed before the message leaves, and the document is delivered from then on; what became uncertain is never sent again by itself.';

COMMENT ON COLUMN billing.email_outbox.invoice_id IS 'The invoice.';

COMMENT ON COLUMN billing.email_outbox.period_start IS 'First day of its billing month, UTC.';

COMMENT ON COLUMN billing.email_outbox.revision IS 'The revision that is sent; of a pending one, as it was when it was entered.';

COMMENT ON COLUMN billing.email_outbox.recipient IS 'The address: the tenant''s billing_email, as the invoice has it.';

COMMENT ON COLUMN billing.email_outbox.message_id IS 'The Message-ID, the same however often it is sent.';

COMMENT ON COLUMN billing.email_outbox.state IS 'pending; sending; sent (the server took it); uncertain (nobody knows whether it did: an operator decides); refused (by the server, or it came back).';

COMMENT ON COLUMN billing.email_outbox.said IS 'What the server, or the operator, said last.';

COMMENT ON COLUMN billing.email_outbox.operator IS 'Who asked for it.';

COMMENT ON COLUMN billing.email_outbox.reason IS 'Why.';

COMMENT ON COLUMN billing.email_outbox.run_id IS 'The Dagster run that did it; null: none.';

COMMENT ON COLUMN billing.email_outbox.entered_at IS 'When it was asked for.';

COMMENT ON COLUMN billing.email_outbox.changed_at IS 'When it came into its state.';

COMMENT ON COLUMN billing.email_outbox.document_state IS 'Which document: issued, the invoice; void, its adjustment note. As in documents.';

CREATE TABLE billing.event_chain (
    chain text NOT NULL,
    place bigint NOT NULL,
    event_id bigint NOT NULL,
    invoice_sha256 bytea,
    sha256 bytea NOT NULL
);

COMMENT ON TABLE billing.event_chain IS 'One row per event of invoice_events, written with it by the database itself; never changed or deleted.';

COMMENT ON COLUMN billing.event_chain.chain IS 'The month of the event, like 2026-04; tenants for held and released.';

COMMENT ON COLUMN billing.event_chain.place IS 'Place in the chain, from 1 without a gap, in the order of the events'' ids.';

COMMENT ON COLUMN billing.event_chain.event_id IS 'The event.';

COMMENT ON COLUMN billing.event_chain.invoice_sha256 IS 'billing.invoice_digest() of the invoice as the event left it. Null for held and released, and for those of before this table, but the newest of each invoice.';

COMMENT ON COLUMN billing.event_chain.sha256 IS 'SHA-256 of the hash before it (of the first: of begun_after_sha256, or of none), billing.event_digest() and invoice_sha256.';

CREATE TABLE billing.event_heads (
    chain text NOT NULL,
    place bigint NOT NULL,
    sha256 bytea NOT NULL,
    begun_after text,
    begun_after_sha256 bytea,
    CONSTRAINT event_heads_check CHECK ((num_nulls(begun_after, begun_after_sha256) = ANY (ARRAY[0, 2])))
);

COMMENT ON TABLE billing.event_heads IS 'One row per chain of events: its newest hash. One chain per month, like 2026-04, and one, tenants, of what was held and released.';

COMMENT ON COLUMN billing.event_heads.chain IS 'The month, like 2026-04; or tenants.';

COMMENT ON COLUMN billing.event_heads.place IS 'How many events the chain has.';

COMMENT ON COLUMN billing.event_heads.sha256 IS 'The head: the hash of its newest event.';

COMMENT ON COLUMN billing.event_heads.begun_after IS 'The chain that was begun before this one; its first hash follows on a hash of that. Null for the first of all.';

COMMENT ON COLUMN billing.event_heads.begun_after_sha256 IS 'The head of that chain then.';

CREATE TABLE billing.finance_outbox (
    id bigint NOT NULL,
    invoice_id uuid NOT NULL,
    tenant_id text NOT NULL,
    period_start date NOT NULL,
    revision integer NOT NULL,
    operation text NOT NULL,
    payload text NOT NULL,
    payload_sha256 text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    held boolean DEFAULT false NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    tried_since timestamp with time zone,
    attempted_at timestamp with time zone,
    settled_at timestamp with time zone,
    last_error text,
    finance_invoice_id text,
    etag text,
    enqueued_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT finance_outbox_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT finance_outbox_check CHECK (((state = ANY (ARRAY['confirmed'::text, 'refused'::text])) = (settled_at IS NOT NULL))),
    CONSTRAINT finance_outbox_operation_check CHECK ((operation = ANY (ARRAY['put'::text, 'void'::text, 'payment'::text]))),
    CONSTRAINT finance_outbox_payload_sha256_check CHECK ((payload_sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT finance_outbox_period_start_check CHECK ((EXTRACT(day FROM period_start) = (1)::numeric)),
    CONSTRAINT finance_outbox_revision_check CHECK ((revision >= 1)),
    CONSTRAINT finance_outbox_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'uncertain'::text, 'confirmed'::text, 'refused'::text])))
);

COMMENT ON TABLE billing.finance_outbox IS 'What finance is to be told: one row per invoice, revision and operation, written in the transaction that issues, revises, voids or pays the invoice. Empty unless ARCADIA_FINANCE_URL is set.';

COMMENT ON COLUMN billing.finance_outbox.id IS 'Order of entry: a tenant''s rows are sent in this order.';

COMMENT ON COLUMN billing.finance_outbox.invoice_id IS 'The invoice.';

COMMENT ON COLUMN billing.finance_outbox.tenant_id IS 'Its tenant.';

COMMENT ON COLUMN billing.finance_outbox.period_start IS 'First day of its billing month, UTC.';

COMMENT ON COLUMN billing.finance_outbox.revision IS 'The revision that it is about.';

COMMENT ON COLUMN billing.finance_outbox.operation IS 'put (the invoice as it is), void, payment (an operator recorded that it was paid).';

COMMENT ON COLUMN billing.finance_outbox.payload IS 'What is sent, as JSON; its bytes in UTF-8 never change.';

COMMENT ON COLUMN billing.finance_outbox.payload_sha256 IS 'SHA-256 of those bytes.';

COMMENT ON COLUMN billing.finance_outbox.state IS 'pending (finance certainly does not have it), sending (on its way), uncertain (it may have it: it is asked before anything is sent again), confirmed (it has it), refused (it will not take it).';

COMMENT ON COLUMN billing.finance_outbox.held IS 'Not sent until an operator runs arcadia finance push.';

COMMENT ON COLUMN billing.finance_outbox.attempts IS 'How often it was tried.';

COMMENT ON COLUMN billing.finance_outbox.due_at IS 'When it is tried next.';

COMMENT ON COLUMN billing.finance_outbox.tried_since IS 'When it was tried first; null: never.';

COMMENT ON COLUMN billing.finance_outbox.attempted_at IS 'When it was tried last; null: never.';

COMMENT ON COLUMN billing.finance_outbox.settled_at IS 'When it was confirmed or refused; null: it is neither.';

COMMENT ON COLUMN billing.finance_outbox.last_error IS 'Why the last attempt failed; null: it did not.';

COMMENT ON COLUMN billing.finance_outbox.finance_invoice_id IS 'Finance''s id of the invoice, once put is confirmed.';

COMMENT ON COLUMN billing.finance_outbox.etag IS 'Finance''s version of it: a later revision names it.';

COMMENT ON COLUMN billing.finance_outbox.enqueued_at IS 'When it was written.';

ALTER TABLE billing.finance_outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.finance_outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.gate (
);

COMMENT ON TABLE billing.gate IS 'A lock, without columns or rows: months pass it side by side; a migration, and an operator who holds or releases a tenant, shut it.';

CREATE TABLE billing.invoice_corrections (
    period_start date NOT NULL,
    tenant_id text NOT NULL,
    invoice_number text NOT NULL,
    billed_cents bigint NOT NULL,
    owed_cents bigint NOT NULL,
    difference_cents bigint GENERATED ALWAYS AS ((owed_cents - billed_cents)) STORED NOT NULL,
    run_id text NOT NULL,
    found_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT invoice_corrections_difference_cents_check CHECK ((difference_cents <> 0)),
    CONSTRAINT invoice_corrections_period_start_check CHECK ((((period_start >= '0001-01-01'::date) AND (period_start <= '9999-12-01'::date)) AND (EXTRACT(day FROM period_start) = (1)::numeric)))
);

COMMENT ON TABLE billing.invoice_corrections IS 'One row per paid or pushed invoice that would be billed differently now, ex GST; the difference goes on the tenant''s next invoice, as a line of kind adjustment or credit with meta "corrects".';

COMMENT ON COLUMN billing.invoice_corrections.period_start IS 'The month that is corrected: its first day, UTC.';

COMMENT ON COLUMN billing.invoice_corrections.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.invoice_corrections.invoice_number IS 'The invoice that is corrected; it stays as it is.';

COMMENT ON COLUMN billing.invoice_corrections.billed_cents IS 'Its plan, addon, overage, discount and commitment lines, cents AUD ex GST.';

COMMENT ON COLUMN billing.invoice_corrections.owed_cents IS 'The same lines as they would be billed now.';

COMMENT ON COLUMN billing.invoice_corrections.difference_cents IS 'owed_cents - billed_cents.';

COMMENT ON COLUMN billing.invoice_corrections.run_id IS 'The Dagster run that found it as it stands.';

COMMENT ON COLUMN billing.invoice_corrections.found_at IS 'When it did.';

ALTER TABLE billing.invoice_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.invoice_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW billing.invoice_line_gst WITH (security_invoker='true') AS
 SELECT invoice_id,
    period_start,
    line_no,
    is_taxable,
    (
        CASE
            WHEN is_taxable THEN (((down)::numeric + div(left_cents, (lines)::numeric)) + (
            CASE
                WHEN ((place)::numeric <= (left_cents - ((lines)::numeric * div(left_cents, (lines)::numeric)))) THEN 1
                ELSE 0
            END)::numeric)
            ELSE (0)::numeric
        END)::bigint AS gst_cents
   FROM ( SELECT t.invoice_id,
            t.period_start,
            t.line_no,
            t.amount_cents,
            t.tax_cents,
            t.down,
            t.is_taxable,
            ((t.tax_cents)::numeric - sum(t.down) OVER whose) AS left_cents,
            count(*) OVER whose AS lines,
            row_number() OVER (PARTITION BY t.invoice_id, t.period_start, t.is_taxable ORDER BY (t.amount_cents - (10 * t.down)) DESC, t.line_no) AS place
           FROM ( SELECT l.invoice_id,
                    l.period_start,
                    l.line_no,
                    l.amount_cents,
                    i.tax_cents,
                    (floor(((l.amount_cents)::numeric / 10.0)))::bigint AS down,
                    COALESCE(((l.meta ->> 'taxable'::text) = 'true'::text), (l.has_tax AND (NOT (i.meta ? 'gst_free_reason'::text)))) AS is_taxable
                   FROM (( SELECT tenant_invoice_lines.id,
                            tenant_invoice_lines.invoice_id,
                            tenant_invoice_lines.deployment_id,
                            tenant_invoice_lines.kind,
                            tenant_invoice_lines.resource_kind,
                            tenant_invoice_lines.description,
                            tenant_invoice_lines.qty,
                            tenant_invoice_lines.unit,
                            tenant_invoice_lines.unit_price_cents,
                            tenant_invoice_lines.amount_cents,
                            tenant_invoice_lines.meta,
                            tenant_invoice_lines.inserted_at,
                            tenant_invoice_lines.period_start,
                            tenant_invoice_lines.line_no,
                            tenant_invoice_lines.deployment_name,
                            tenant_invoice_lines.price_per,
                            bool_or((tenant_invoice_lines.kind = 'tax'::text)) OVER (PARTITION BY tenant_invoice_lines.invoice_id, tenant_invoice_lines.period_start) AS has_tax
                           FROM billing.tenant_invoice_lines) l
                     JOIN billing.tenant_invoices i ON ((i.id = l.invoice_id)))
                  WHERE (l.kind <> 'tax'::text)) t
          WINDOW whose AS (PARTITION BY t.invoice_id, t.period_start, t.is_taxable)) s;

COMMENT ON VIEW billing.invoice_line_gst IS 'The GST of each invoice line but the tax line, which they sum to: a tenth of its amount rounded down, and of the cents that are left one each by the largest remainders, equal ones in line order.';

COMMENT ON COLUMN billing.invoice_line_gst.invoice_id IS 'The invoice.';

COMMENT ON COLUMN billing.invoice_line_gst.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.invoice_line_gst.line_no IS 'The line.';

COMMENT ON COLUMN billing.invoice_line_gst.is_taxable IS 'Whether GST applies to it.';

COMMENT ON COLUMN billing.invoice_line_gst.gst_cents IS 'GST of the line, cents AUD.';

CREATE TABLE billing.invoiced_tenants (
    period_start date NOT NULL,
    tenant_id text NOT NULL,
    made_from numeric NOT NULL
);

COMMENT ON TABLE billing.invoiced_tenants IS 'One row per month and tenant whose invoice is issued or paid as it would be made now: from what. While that is the same, the invoice is not computed again. There is none for one that carries corrections. It may be emptied as a whole.';

COMMENT ON COLUMN billing.invoiced_tenants.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.invoiced_tenants.tenant_id IS 'Who pays.';

COMMENT ON COLUMN billing.invoiced_tenants.made_from IS 'Hash of its quote lines, of the tenant, of the engine''s own text and of the invoice''s content_sha256.';

CREATE TABLE billing.manual_lines (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id text NOT NULL,
    period_start date NOT NULL,
    amount_cents bigint NOT NULL,
    description text NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text,
    entered_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT manual_lines_amount_cents_check CHECK (((amount_cents <> 0) AND (abs(amount_cents) < '1000000000000000'::bigint))),
    CONSTRAINT manual_lines_description_check CHECK ((description <> ''::text)),
    CONSTRAINT manual_lines_period_start_check CHECK ((EXTRACT(day FROM period_start) = (1)::numeric))
);

COMMENT ON TABLE billing.manual_lines IS 'Charges and credits that operators entered: one row per line of an invoice; never changed or deleted. What is wrong is entered again the other way round.';

COMMENT ON COLUMN billing.manual_lines.id IS 'The line; the invoice line that bills it has it in meta "manual_line".';

COMMENT ON COLUMN billing.manual_lines.tenant_id IS 'Who pays, or is paid.';

COMMENT ON COLUMN billing.manual_lines.period_start IS 'The month whose invoice it is for, by its first day; if that is locked, the tenant''s next one has it.';

COMMENT ON COLUMN billing.manual_lines.amount_cents IS 'Cents AUD ex GST: above 0 an adjustment to pay, below 0 a credit.';

COMMENT ON COLUMN billing.manual_lines.description IS 'What it is, as the tenant reads it.';

COMMENT ON COLUMN billing.manual_lines.operator IS 'Who entered it.';

COMMENT ON COLUMN billing.manual_lines.reason IS 'Why.';

COMMENT ON COLUMN billing.manual_lines.run_id IS 'The Dagster run that did it; null: none.';

COMMENT ON COLUMN billing.manual_lines.entered_at IS 'When.';

CREATE TABLE billing.metered_usage (
    period_start date NOT NULL,
    deployment_id uuid NOT NULL,
    resource_kind text NOT NULL,
    quantity numeric(38,6) NOT NULL,
    subscription_id uuid,
    record_count bigint NOT NULL,
    unusable_records bigint NOT NULL,
    duplicate_records bigint NOT NULL,
    CONSTRAINT metered_usage_check CHECK (((unusable_records >= 0) AND (unusable_records <= record_count))),
    CONSTRAINT metered_usage_duplicate_records_check CHECK ((duplicate_records >= 0)),
    CONSTRAINT metered_usage_quantity_check CHECK ((quantity <> 'NaN'::numeric)),
    CONSTRAINT metered_usage_record_count_check CHECK ((record_count > 0))
)
PARTITION BY RANGE (period_start);

COMMENT ON TABLE billing.metered_usage IS 'Usage of the month, frozen at the cut-off: one row per month, deployment, resource kind and the subscription that was active when it was recorded (nearly always one).';

COMMENT ON COLUMN billing.metered_usage.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.metered_usage.deployment_id IS 'The deployment that was metered; it need not exist any more.';

COMMENT ON COLUMN billing.metered_usage.resource_kind IS 'What was metered, e.g. droplet_hours.';

COMMENT ON COLUMN billing.metered_usage.quantity IS 'Sum of the usable records, in the unit of the kind; corrections count.';

COMMENT ON COLUMN billing.metered_usage.subscription_id IS 'The subscription that was active at recorded_at; null if none.';

COMMENT ON COLUMN billing.metered_usage.record_count IS 'How many raw records the row sums.';

COMMENT ON COLUMN billing.metered_usage.unusable_records IS 'Of these, those with a quantity of NaN, null, infinity, or 1e12 and more: not in the sum, the tenant is held back.';

COMMENT ON COLUMN billing.metered_usage.duplicate_records IS 'Records whose id occurs more than once in the month: the tenant is held back.';

CREATE TABLE billing.missing_tenant_acceptances (
    id bigint NOT NULL,
    period_start date NOT NULL,
    tenant_id text NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text NOT NULL,
    accepted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT missing_tenant_acceptances_period_start_check CHECK ((((period_start >= '0001-01-01'::date) AND (period_start <= '9999-12-01'::date)) AND (EXTRACT(day FROM period_start) = (1)::numeric)))
);

COMMENT ON TABLE billing.missing_tenant_acceptances IS 'One row per month and tenant that was invoiced in it, or in the month before, has nothing to bill any more, and was accepted as gone; never changed or deleted.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.id IS 'Order.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.tenant_id IS 'Who has nothing to bill any more.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.operator IS 'Who accepted it.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.reason IS 'Why.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.run_id IS 'The Dagster run that did it.';

COMMENT ON COLUMN billing.missing_tenant_acceptances.accepted_at IS 'When.';

ALTER TABLE billing.missing_tenant_acceptances ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.missing_tenant_acceptances_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.month_01 (
);

COMMENT ON TABLE billing.month_01 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_02 (
);

COMMENT ON TABLE billing.month_02 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_03 (
);

COMMENT ON TABLE billing.month_03 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_04 (
);

COMMENT ON TABLE billing.month_04 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_05 (
);

COMMENT ON TABLE billing.month_05 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_06 (
);

COMMENT ON TABLE billing.month_06 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_07 (
);

COMMENT ON TABLE billing.month_07 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_08 (
);

COMMENT ON TABLE billing.month_08 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_09 (
);

COMMENT ON TABLE billing.month_09 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_10 (
);

COMMENT ON TABLE billing.month_10 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_11 (
);

COMMENT ON TABLE billing.month_11 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.month_12 (
);

COMMENT ON TABLE billing.month_12 IS 'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.';

CREATE TABLE billing.passed_controls (
    period_start date NOT NULL,
    control text NOT NULL,
    rows_passed text NOT NULL,
    run_id text NOT NULL,
    passed_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.passed_controls IS 'One row per month and control of the release gate: the rows in which it last found nothing. While they stand, the step that publishes does not look again at what the checks of its own run have passed.';

COMMENT ON COLUMN billing.passed_controls.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.passed_controls.control IS 'The control''s name, which is that of its asset check.';

COMMENT ON COLUMN billing.passed_controls.rows_passed IS 'Of each table that it reads of the month, how many rows and a hash of where they are and who wrote them.';

COMMENT ON COLUMN billing.passed_controls.run_id IS 'The Dagster run in which it first passed these rows.';

COMMENT ON COLUMN billing.passed_controls.passed_at IS 'When that was.';

CREATE TABLE billing.price_books (
    id bigint NOT NULL,
    effective_from date NOT NULL,
    sha256 text NOT NULL,
    book text NOT NULL,
    changes jsonb NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT price_books_effective_from_check CHECK ((EXTRACT(day FROM effective_from) = (1)::numeric)),
    CONSTRAINT price_books_operator_check CHECK ((operator <> ''::text)),
    CONSTRAINT price_books_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

COMMENT ON TABLE billing.price_books IS 'Price books that operators applied: one row per book that changed something; never changed or deleted.';

COMMENT ON COLUMN billing.price_books.id IS 'Order.';

COMMENT ON COLUMN billing.price_books.effective_from IS 'The month from which on its prices are in effect, by its first day.';

COMMENT ON COLUMN billing.price_books.sha256 IS 'Of the file, as sha256sum prints it.';

COMMENT ON COLUMN billing.price_books.book IS 'The file as it was applied.';

COMMENT ON COLUMN billing.price_books.changes IS 'What was changed: for each row of a table of prices what it is about, and before and after; null where there is none.';

COMMENT ON COLUMN billing.price_books.operator IS 'Who applied it.';

COMMENT ON COLUMN billing.price_books.reason IS 'Why.';

COMMENT ON COLUMN billing.price_books.applied_at IS 'When.';

ALTER TABLE billing.price_books ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.price_books_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.publishing (
);

COMMENT ON TABLE billing.publishing IS 'A lock, without columns or rows: of the months that are being published, one at a time.';

CREATE TABLE billing.quoted_tenants (
    period_start date NOT NULL,
    tenant_id text NOT NULL,
    made_from numeric
);

COMMENT ON TABLE billing.quoted_tenants IS 'One row per month and tenant: from what it was quoted. A tenant for which that is the same is not quoted again.';

COMMENT ON COLUMN billing.quoted_tenants.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.quoted_tenants.tenant_id IS 'Who pays; empty for the usage that nobody pays for.';

COMMENT ON COLUMN billing.quoted_tenants.made_from IS 'Hash of its subscriptions and addons, of all rates, and of the engine''s own text. Null once it has other usage than was quoted.';

CREATE TABLE billing.role_rights (
    role text NOT NULL,
    relation text NOT NULL,
    rights text NOT NULL,
    CONSTRAINT role_rights_rights_check CHECK (((rights = 'execute'::text) OR (rights ~ '^(select|insert|update|delete)(, (select|insert|update|delete))*$'::text)))
);

COMMENT ON TABLE billing.role_rights IS 'What a role may do: one row per role and relation; granted by admit_roles().';

COMMENT ON COLUMN billing.role_rights.role IS 'arcadia_pipeline, arcadia_analyst or arcadia_reprice.';

COMMENT ON COLUMN billing.role_rights.relation IS 'Table or view with its schema; or a function with its arguments'' types.';

COMMENT ON COLUMN billing.role_rights.rights IS 'What is granted, like select, insert; execute for a function.';

CREATE TABLE billing.schema_migrations (
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.schema_migrations IS 'One row per migration that was applied.';

COMMENT ON COLUMN billing.schema_migrations.name IS 'Its file in sql/migrations.';

COMMENT ON COLUMN billing.schema_migrations.sha256 IS 'The hash of the file as it was applied: an edited one is refused.';

COMMENT ON COLUMN billing.schema_migrations.applied_at IS 'When.';

CREATE TABLE billing.suppliers (
    id bigint NOT NULL,
    effective_from date NOT NULL,
    legal_name text NOT NULL,
    abn text NOT NULL,
    address text NOT NULL,
    email text NOT NULL,
    bank_account_name text NOT NULL,
    bank_bsb text NOT NULL,
    bank_account_number text NOT NULL,
    payment_terms_days integer NOT NULL,
    logo_svg text,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text,
    entered_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT suppliers_abn_check CHECK (billing.is_abn(abn)),
    CONSTRAINT suppliers_address_check CHECK ((address <> ''::text)),
    CONSTRAINT suppliers_bank_account_name_check CHECK ((bank_account_name <> ''::text)),
    CONSTRAINT suppliers_bank_account_number_check CHECK ((bank_account_number ~ '^[0-9]{5,10}$'::text)),
    CONSTRAINT suppliers_bank_bsb_check CHECK ((bank_bsb ~ '^[0-9]{3}-[0-9]{3}$'::text)),
    CONSTRAINT suppliers_effective_from_check CHECK ((EXTRACT(day FROM effective_from) = (1)::numeric)),
    CONSTRAINT suppliers_email_check CHECK ((email <> ''::text)),
    CONSTRAINT suppliers_legal_name_check CHECK ((legal_name <> ''::text)),
    CONSTRAINT suppliers_logo_svg_check CHECK ((length(logo_svg) <= 200000)),
    CONSTRAINT suppliers_operator_check CHECK ((operator <> ''::text)),
    CONSTRAINT suppliers_payment_terms_days_check CHECK (((payment_terms_days >= 0) AND (payment_terms_days <= 365)))
);

COMMENT ON TABLE billing.suppliers IS 'Who sells, as invoices show it: one row per entry; never changed or deleted. A month has the newest entry of the newest effective_from that is not after it. An invoice keeps the entry that it was issued with.';

COMMENT ON COLUMN billing.suppliers.id IS 'Order of entry.';

COMMENT ON COLUMN billing.suppliers.effective_from IS 'The first month that it is for, by its first day.';

COMMENT ON COLUMN billing.suppliers.legal_name IS 'The name that the ABN is registered to.';

COMMENT ON COLUMN billing.suppliers.abn IS 'Australian Business Number, 11 digits.';

COMMENT ON COLUMN billing.suppliers.address IS 'The address in lines.';

COMMENT ON COLUMN billing.suppliers.email IS 'Where a tenant writes to about an invoice.';

COMMENT ON COLUMN billing.suppliers.bank_account_name IS 'Whose account payments go to.';

COMMENT ON COLUMN billing.suppliers.bank_bsb IS 'Its BSB, like 062-000.';

COMMENT ON COLUMN billing.suppliers.bank_account_number IS 'Its number.';

COMMENT ON COLUMN billing.suppliers.payment_terms_days IS 'How many days after its day of issue an invoice is due.';

COMMENT ON COLUMN billing.suppliers.logo_svg IS 'The logo at the head of a document, as SVG; null: the name alone.';

COMMENT ON COLUMN billing.suppliers.operator IS 'Who entered it.';

COMMENT ON COLUMN billing.suppliers.reason IS 'Why.';

COMMENT ON COLUMN billing.suppliers.run_id IS 'The Dagster run that did it; null: none.';

COMMENT ON COLUMN billing.suppliers.entered_at IS 'When.';

ALTER TABLE billing.suppliers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.suppliers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.tenant_holds (
    tenant_id text NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text NOT NULL,
    held_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.tenant_holds IS 'One row per tenant on hold: it gets drafts, and nothing is issued to it.';

COMMENT ON COLUMN billing.tenant_holds.tenant_id IS 'The tenant on hold.';

COMMENT ON COLUMN billing.tenant_holds.operator IS 'Who holds it.';

COMMENT ON COLUMN billing.tenant_holds.reason IS 'Why.';

COMMENT ON COLUMN billing.tenant_holds.run_id IS 'The Dagster run that did it.';

COMMENT ON COLUMN billing.tenant_holds.held_at IS 'Since when.';

CREATE TABLE billing.unbilled_acceptances (
    id bigint NOT NULL,
    period_start date NOT NULL,
    deployment_id uuid NOT NULL,
    resource_kind text NOT NULL,
    subscription_id uuid,
    cause text NOT NULL,
    quantity numeric(38,6) NOT NULL,
    at_stake_cents numeric(38,0),
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text NOT NULL,
    accepted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT unbilled_acceptances_cause_check CHECK ((cause = ANY (ARRAY['no_subscription'::text, 'no_rate'::text]))),
    CONSTRAINT unbilled_acceptances_quantity_check CHECK ((quantity <> 'NaN'::numeric))
);

COMMENT ON TABLE billing.unbilled_acceptances IS 'One row per row of unbilled_usage that an operator has accepted: nobody pays for it. Holds for that quantity only. Never changed or deleted.';

COMMENT ON COLUMN billing.unbilled_acceptances.id IS 'Order.';

COMMENT ON COLUMN billing.unbilled_acceptances.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.unbilled_acceptances.deployment_id IS 'The deployment that was metered.';

COMMENT ON COLUMN billing.unbilled_acceptances.resource_kind IS 'What was metered.';

COMMENT ON COLUMN billing.unbilled_acceptances.subscription_id IS 'The subscription that was active at recorded_at; null if none.';

COMMENT ON COLUMN billing.unbilled_acceptances.cause IS 'Why it is unbilled: the reason in unbilled_usage.';

COMMENT ON COLUMN billing.unbilled_acceptances.quantity IS 'How much is accepted.';

COMMENT ON COLUMN billing.unbilled_acceptances.at_stake_cents IS 'What it would have cost, cents AUD ex GST; null if there was no rate to tell by.';

COMMENT ON COLUMN billing.unbilled_acceptances.operator IS 'Who accepted it.';

COMMENT ON COLUMN billing.unbilled_acceptances.reason IS 'Why.';

COMMENT ON COLUMN billing.unbilled_acceptances.run_id IS 'The Dagster run that did it.';

COMMENT ON COLUMN billing.unbilled_acceptances.accepted_at IS 'When.';

ALTER TABLE billing.unbilled_acceptances ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.unbilled_acceptances_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.unbilled_usage (
    period_start date NOT NULL,
    deployment_id uuid NOT NULL,
    resource_kind text NOT NULL,
    quantity numeric(38,6) NOT NULL,
    reason text NOT NULL,
    subscription_id uuid,
    CONSTRAINT unbilled_usage_quantity_check CHECK ((quantity <> 'NaN'::numeric)),
    CONSTRAINT unbilled_usage_reason_check CHECK ((reason = ANY (ARRAY['no_subscription'::text, 'no_rate'::text, 'tenant_held_back'::text])))
);

COMMENT ON TABLE billing.unbilled_usage IS 'Frozen usage that is on no quote: one row per month, deployment, resource kind and subscription. Never dropped.';

COMMENT ON COLUMN billing.unbilled_usage.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.unbilled_usage.deployment_id IS 'The deployment that was metered.';

COMMENT ON COLUMN billing.unbilled_usage.resource_kind IS 'What was metered.';

COMMENT ON COLUMN billing.unbilled_usage.quantity IS 'As frozen in metered_usage.';

COMMENT ON COLUMN billing.unbilled_usage.reason IS 'no_subscription: none was active at recorded_at; no_rate: the plan has no rate for the kind in this month; tenant_held_back: see quote_faults.';

COMMENT ON COLUMN billing.unbilled_usage.subscription_id IS 'The subscription that was active at recorded_at; null if none.';

CREATE TABLE billing.usage_acceptances (
    id bigint NOT NULL,
    period_start date NOT NULL,
    deployment_id uuid NOT NULL,
    resource_kind text NOT NULL,
    usage_cutoff timestamp with time zone NOT NULL,
    frozen_records bigint NOT NULL,
    remaining_records bigint NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    run_id text NOT NULL,
    accepted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT usage_acceptances_check CHECK ((remaining_records < frozen_records))
);

COMMENT ON TABLE billing.usage_acceptances IS 'One row per deployment and kind whose frozen usage has vanished and was accepted as lost; never changed or deleted.';

COMMENT ON COLUMN billing.usage_acceptances.id IS 'Order.';

COMMENT ON COLUMN billing.usage_acceptances.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.usage_acceptances.deployment_id IS 'The deployment that was metered.';

COMMENT ON COLUMN billing.usage_acceptances.resource_kind IS 'What was metered.';

COMMENT ON COLUMN billing.usage_acceptances.usage_cutoff IS 'The cut-off of the frozen usage from which it vanished; usage that is frozen anew is not accepted as lost.';

COMMENT ON COLUMN billing.usage_acceptances.frozen_records IS 'Usable records that the frozen usage counts.';

COMMENT ON COLUMN billing.usage_acceptances.remaining_records IS 'Those left when it was accepted.';

COMMENT ON COLUMN billing.usage_acceptances.operator IS 'Who accepted it.';

COMMENT ON COLUMN billing.usage_acceptances.reason IS 'Why.';

COMMENT ON COLUMN billing.usage_acceptances.run_id IS 'The Dagster run that did it.';

COMMENT ON COLUMN billing.usage_acceptances.accepted_at IS 'When.';

ALTER TABLE billing.usage_acceptances ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.usage_acceptances_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.usage_ahead (
    period_start date NOT NULL,
    record_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE billing.usage_ahead IS 'One row per usage record that was stamped ahead of the clock (its ingested_at was still to come) when its month was frozen: it counts as received at the month''s cut-off, whatever the time is now.';

COMMENT ON COLUMN billing.usage_ahead.period_start IS 'First day of the billing month, UTC.';

COMMENT ON COLUMN billing.usage_ahead.record_id IS 'The record''s id in cloud.usage_records.';

COMMENT ON COLUMN billing.usage_ahead.received_at IS 'The cut-off at which it counts as received.';

CREATE TABLE cloud.addon_prices (
    addon_id uuid NOT NULL,
    effective_from date NOT NULL,
    price_cents bigint NOT NULL,
    CONSTRAINT addon_prices_effective_from_check CHECK ((((effective_from >= '0001-01-01'::date) AND (effective_from <= '9999-12-01'::date)) AND (EXTRACT(day FROM effective_from) = (1)::numeric))),
    CONSTRAINT addon_prices_price_cents_check CHECK ((price_cents >= 0))
);

COMMENT ON TABLE cloud.addon_prices IS 'One row per addon and first day of a month on which its price changed. The price of a month is the newest one not after its first day.';

COMMENT ON COLUMN cloud.addon_prices.addon_id IS 'The addon.';

COMMENT ON COLUMN cloud.addon_prices.effective_from IS 'First day of the first month at this price, UTC.';

COMMENT ON COLUMN cloud.addon_prices.price_cents IS 'A month of one of it, whole cents AUD ex GST.';

CREATE TABLE cloud.addons (
    id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL
);

COMMENT ON TABLE cloud.addons IS 'One row per addon that is, or was, for sale beside plans.';

COMMENT ON COLUMN cloud.addons.id IS 'Its id.';

COMMENT ON COLUMN cloud.addons.code IS 'Its name in quotes and on invoice lines, like storage_50gb.';

COMMENT ON COLUMN cloud.addons.name IS 'Its name for people.';

CREATE TABLE cloud.commitments (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id text NOT NULL,
    deployment_id uuid,
    minimum_cents bigint NOT NULL,
    starts_on date NOT NULL,
    ends_on date,
    CONSTRAINT commitments_check CHECK (((EXTRACT(day FROM ends_on) = (1)::numeric) AND (ends_on > starts_on))),
    CONSTRAINT commitments_minimum_cents_check CHECK ((minimum_cents >= 0)),
    CONSTRAINT commitments_starts_on_check CHECK ((EXTRACT(day FROM starts_on) = (1)::numeric))
);

COMMENT ON TABLE cloud.commitments IS 'The least that a tenant pays a month: one row per commitment, of one deployment or of all that it has.';

COMMENT ON COLUMN cloud.commitments.id IS 'The commitment.';

COMMENT ON COLUMN cloud.commitments.tenant_id IS 'Whose it is.';

COMMENT ON COLUMN cloud.commitments.deployment_id IS 'The deployment; null: the tenant as a whole.';

COMMENT ON COLUMN cloud.commitments.minimum_cents IS 'The least a month, after discounts, cents AUD ex GST.';

COMMENT ON COLUMN cloud.commitments.starts_on IS 'The first month that it is for, by its first day.';

COMMENT ON COLUMN cloud.commitments.ends_on IS 'The first month that it is not for any more, by its first day; null: no end.';

CREATE TABLE cloud.discounts (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id text NOT NULL,
    deployment_id uuid,
    line_kind text,
    resource_kind text,
    percent numeric(7,4),
    amount_cents bigint,
    starts_on date NOT NULL,
    ends_on date,
    description text NOT NULL,
    CONSTRAINT discounts_amount_cents_check CHECK ((amount_cents >= 0)),
    CONSTRAINT discounts_check CHECK (((EXTRACT(day FROM ends_on) = (1)::numeric) AND (ends_on > starts_on))),
    CONSTRAINT discounts_line_kind_check CHECK ((line_kind = ANY (ARRAY['plan_base'::text, 'addon'::text, 'overage'::text]))),
    CONSTRAINT discounts_percent_check CHECK (((percent >= (0)::numeric) AND (percent <= (100)::numeric))),
    CONSTRAINT discounts_starts_on_check CHECK ((EXTRACT(day FROM starts_on) = (1)::numeric)),
    CONSTRAINT percent_or_amount CHECK ((num_nonnulls(percent, amount_cents) = 1))
);

COMMENT ON TABLE cloud.discounts IS 'What a tenant is let off: one row per discount. Percentages count before amounts, each by starts_on and id.';

COMMENT ON COLUMN cloud.discounts.id IS 'The discount.';

COMMENT ON COLUMN cloud.discounts.tenant_id IS 'Whose it is.';

COMMENT ON COLUMN cloud.discounts.deployment_id IS 'The only deployment that it is for; null: all of the tenant''s.';

COMMENT ON COLUMN cloud.discounts.line_kind IS 'The only kind of line that it is for; null: all three.';

COMMENT ON COLUMN cloud.discounts.resource_kind IS 'The only metered kind that it is for; null: all, and what is not metered.';

COMMENT ON COLUMN cloud.discounts.percent IS 'How many per cent, 0 to 100; null: it is an amount.';

COMMENT ON COLUMN cloud.discounts.amount_cents IS 'How much a month at most, cents AUD ex GST; null: it is a percentage.';

COMMENT ON COLUMN cloud.discounts.starts_on IS 'The first month that it is for, by its first day.';

COMMENT ON COLUMN cloud.discounts.ends_on IS 'The first month that it is not for any more, by its first day; null: no end.';

COMMENT ON COLUMN cloud.discounts.description IS 'What it is, as the tenant reads it.';

CREATE TABLE cloud.plan_prices (
    plan_id uuid NOT NULL,
    effective_from date NOT NULL,
    base_price_cents bigint NOT NULL,
    CONSTRAINT plan_prices_base_price_cents_check CHECK ((base_price_cents >= 0)),
    CONSTRAINT plan_prices_effective_from_check CHECK ((((effective_from >= '0001-01-01'::date) AND (effective_from <= '9999-12-01'::date)) AND (EXTRACT(day FROM effective_from) = (1)::numeric)))
);

COMMENT ON TABLE cloud.plan_prices IS 'One row per plan and first day of a month on which its base price changed. The price of a month is the newest one not after its first day.';

COMMENT ON COLUMN cloud.plan_prices.plan_id IS 'The plan.';

COMMENT ON COLUMN cloud.plan_prices.effective_from IS 'First day of the first month at this price, UTC.';

COMMENT ON COLUMN cloud.plan_prices.base_price_cents IS 'A month of the plan, whole cents AUD ex GST.';

CREATE TABLE cloud.plan_rate_tiers (
    plan_id uuid NOT NULL,
    resource_kind text NOT NULL,
    effective_from date NOT NULL,
    up_to numeric(18,6),
    unit_price_cents numeric(18,8) DEFAULT 0 NOT NULL,
    flat_cents bigint DEFAULT 0 NOT NULL,
    CONSTRAINT plan_rate_tiers_flat_cents_check CHECK ((flat_cents >= 0)),
    CONSTRAINT plan_rate_tiers_unit_price_cents_check CHECK (((unit_price_cents >= (0)::numeric) AND (unit_price_cents <> 'NaN'::numeric))),
    CONSTRAINT plan_rate_tiers_up_to_check CHECK (((up_to > (0)::numeric) AND (up_to <> 'NaN'::numeric)))
);

COMMENT ON TABLE cloud.plan_rate_tiers IS 'The tiers of graduated and volume rates: one row per tier of a rate. A tier begins where the one before ends.';

COMMENT ON COLUMN cloud.plan_rate_tiers.plan_id IS 'The plan; with resource_kind and effective_from, its rate.';

COMMENT ON COLUMN cloud.plan_rate_tiers.resource_kind IS 'The kind that is metered.';

COMMENT ON COLUMN cloud.plan_rate_tiers.effective_from IS 'Since when the rate is in effect, the first of a month.';

COMMENT ON COLUMN cloud.plan_rate_tiers.up_to IS 'The most units beyond the allowance that the tier holds, itself included; null: no bound, the last tier.';

COMMENT ON COLUMN cloud.plan_rate_tiers.unit_price_cents IS 'Price of one unit in the tier, cents AUD ex GST.';

COMMENT ON COLUMN cloud.plan_rate_tiers.flat_cents IS 'Charged once when the tier is entered, cents AUD ex GST.';

CREATE TABLE cloud.plan_rates (
    plan_id uuid NOT NULL,
    resource_kind text NOT NULL,
    effective_from date NOT NULL,
    included_quantity numeric(18,6) NOT NULL,
    unit text NOT NULL,
    unit_price_cents numeric(18,8) NOT NULL,
    charge_model text DEFAULT 'per_unit'::text NOT NULL,
    package_size numeric(18,6),
    maximum_cents bigint,
    pooled boolean DEFAULT false NOT NULL,
    CONSTRAINT packages_have_a_size CHECK (((charge_model = 'package'::text) = (package_size IS NOT NULL))),
    CONSTRAINT plan_rates_charge_model_check CHECK ((charge_model = ANY (ARRAY['per_unit'::text, 'package'::text, 'graduated'::text, 'volume'::text]))),
    CONSTRAINT plan_rates_effective_from_check CHECK ((((effective_from >= '0001-01-01'::date) AND (effective_from <= '9999-12-01'::date)) AND (EXTRACT(day FROM effective_from) = (1)::numeric))),
    CONSTRAINT plan_rates_included_quantity_check CHECK (((included_quantity >= (0)::numeric) AND (included_quantity <> 'NaN'::numeric))),
    CONSTRAINT plan_rates_maximum_cents_check CHECK ((maximum_cents >= 0)),
    CONSTRAINT plan_rates_package_size_check CHECK (((package_size > (0)::numeric) AND (package_size <> 'NaN'::numeric))),
    CONSTRAINT plan_rates_unit_price_cents_check CHECK (((unit_price_cents >= (0)::numeric) AND (unit_price_cents <> 'NaN'::numeric)))
);

COMMENT ON TABLE cloud.plan_rates IS 'One row per plan, resource kind and first day of a month on which the rate changed. The rate of a month is the newest one not after its first day.';

COMMENT ON COLUMN cloud.plan_rates.plan_id IS 'The plan.';

COMMENT ON COLUMN cloud.plan_rates.resource_kind IS 'What is metered, like droplet_hours.';

COMMENT ON COLUMN cloud.plan_rates.effective_from IS 'First day of the first month at this rate, UTC.';

COMMENT ON COLUMN cloud.plan_rates.included_quantity IS 'The allowance of each subscription and month, in units.';

COMMENT ON COLUMN cloud.plan_rates.unit IS 'What one of it is called, in the singular, like hour.';

COMMENT ON COLUMN cloud.plan_rates.unit_price_cents IS 'A unit beyond the allowance, cents AUD ex GST, to 8 decimals.';

COMMENT ON COLUMN cloud.plan_rates.charge_model IS 'How usage beyond the allowance is charged: per_unit; package (whole packages); graduated (each tier its part); volume (all at the price of the tier that it falls into).';

COMMENT ON COLUMN cloud.plan_rates.package_size IS 'Of a package: how many units it has, in unit.';

COMMENT ON COLUMN cloud.plan_rates.maximum_cents IS 'The most that a subscription pays for this kind in a month, cents AUD ex GST; null: no maximum.';

COMMENT ON COLUMN cloud.plan_rates.pooled IS 'Whether the allowances and the usage of all of a tenant''s subscriptions with such a rate count together.';

CREATE TABLE cloud.plans (
    id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    proration text DEFAULT 'none'::text NOT NULL,
    CONSTRAINT plans_proration_check CHECK ((proration = ANY (ARRAY['none'::text, 'daily'::text])))
);

COMMENT ON TABLE cloud.plans IS 'One row per plan that is, or was, for sale.';

COMMENT ON COLUMN cloud.plans.id IS 'Its id.';

COMMENT ON COLUMN cloud.plans.code IS 'Its name in quotes and on invoice lines, like studio.';

COMMENT ON COLUMN cloud.plans.name IS 'Its name for people.';

COMMENT ON COLUMN cloud.plans.proration IS 'What a part month costs: none (a whole month), or daily (as many days as the subscription has of it).';

CREATE TABLE cloud.subscription_addons (
    id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    addon_id uuid NOT NULL,
    quantity integer DEFAULT 1 NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT subscription_addons_quantity_check CHECK ((quantity >= 0))
);

COMMENT ON TABLE cloud.subscription_addons IS 'One row per subscription, addon and time. A month bills each that was active at some instant of it while its subscription was, as a whole month.';

COMMENT ON COLUMN cloud.subscription_addons.id IS 'Its id.';

COMMENT ON COLUMN cloud.subscription_addons.subscription_id IS 'Whose addon it is.';

COMMENT ON COLUMN cloud.subscription_addons.addon_id IS 'Which addon.';

COMMENT ON COLUMN cloud.subscription_addons.quantity IS 'How many; 0 makes no line.';

COMMENT ON COLUMN cloud.subscription_addons.started_at IS 'The first instant that is billed.';

COMMENT ON COLUMN cloud.subscription_addons.ended_at IS 'The first instant that is not billed any more; null: it goes on.';

CREATE TABLE cloud.subscriptions (
    id uuid NOT NULL,
    tenant_id text NOT NULL,
    deployment_id uuid NOT NULL,
    plan_id uuid NOT NULL,
    status text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT subscriptions_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'suspended'::text, 'cancelled'::text])))
);

COMMENT ON TABLE cloud.subscriptions IS 'One row per deployment, plan and time. A month bills each that was active at some instant of it, as a whole month. A deployment has one at a time.';

COMMENT ON COLUMN cloud.subscriptions.id IS 'Its id, which stays when the status changes.';

COMMENT ON COLUMN cloud.subscriptions.tenant_id IS 'Who pays.';

COMMENT ON COLUMN cloud.subscriptions.deployment_id IS 'What runs.';

COMMENT ON COLUMN cloud.subscriptions.plan_id IS 'What it is billed by.';

COMMENT ON COLUMN cloud.subscriptions.status IS 'pending, active, suspended or cancelled. Only pending matters: it is not billed.';

COMMENT ON COLUMN cloud.subscriptions.started_at IS 'The first instant that is billed.';

COMMENT ON COLUMN cloud.subscriptions.ended_at IS 'The first instant that is not billed any more; null: it goes on.';

CREATE TABLE cloud.tenant_addon_prices (
    tenant_id text NOT NULL,
    addon_id uuid NOT NULL,
    effective_from date NOT NULL,
    price_cents bigint,
    CONSTRAINT tenant_addon_prices_effective_from_check CHECK ((EXTRACT(day FROM effective_from) = (1)::numeric)),
    CONSTRAINT tenant_addon_prices_price_cents_check CHECK ((price_cents >= 0))
);

COMMENT ON TABLE cloud.tenant_addon_prices IS 'A tenant''s own price of an addon: one row per tenant, addon and first of a month. It stands for the list''s.';

COMMENT ON COLUMN cloud.tenant_addon_prices.tenant_id IS 'Whose price it is.';

COMMENT ON COLUMN cloud.tenant_addon_prices.addon_id IS 'The addon.';

COMMENT ON COLUMN cloud.tenant_addon_prices.effective_from IS 'Since when it is in effect, the first of a month.';

COMMENT ON COLUMN cloud.tenant_addon_prices.price_cents IS 'A month''s price of one, cents AUD ex GST; null: from then on the list''s again.';

CREATE TABLE cloud.tenant_plan_prices (
    tenant_id text NOT NULL,
    plan_id uuid NOT NULL,
    effective_from date NOT NULL,
    base_price_cents bigint,
    CONSTRAINT tenant_plan_prices_base_price_cents_check CHECK ((base_price_cents >= 0)),
    CONSTRAINT tenant_plan_prices_effective_from_check CHECK ((EXTRACT(day FROM effective_from) = (1)::numeric))
);

COMMENT ON TABLE cloud.tenant_plan_prices IS 'A tenant''s own price of a plan: one row per tenant, plan and first of a month. It stands for the list''s.';

COMMENT ON COLUMN cloud.tenant_plan_prices.tenant_id IS 'Whose price it is.';

COMMENT ON COLUMN cloud.tenant_plan_prices.plan_id IS 'The plan.';

COMMENT ON COLUMN cloud.tenant_plan_prices.effective_from IS 'Since when it is in effect, the first of a month.';

COMMENT ON COLUMN cloud.tenant_plan_prices.base_price_cents IS 'A month''s price, cents AUD ex GST; null: from then on the list''s again.';

CREATE TABLE cloud.tenant_rate_tiers (
    tenant_id text NOT NULL,
    plan_id uuid NOT NULL,
    resource_kind text NOT NULL,
    effective_from date NOT NULL,
    up_to numeric(18,6),
    unit_price_cents numeric(18,8) DEFAULT 0 NOT NULL,
    flat_cents bigint DEFAULT 0 NOT NULL,
    CONSTRAINT tenant_rate_tiers_flat_cents_check CHECK ((flat_cents >= 0)),
    CONSTRAINT tenant_rate_tiers_unit_price_cents_check CHECK (((unit_price_cents >= (0)::numeric) AND (unit_price_cents <> 'NaN'::numeric))),
    CONSTRAINT tenant_rate_tiers_up_to_check CHECK (((up_to > (0)::numeric) AND (up_to <> 'NaN'::numeric)))
);

COMMENT ON TABLE cloud.tenant_rate_tiers IS 'The tiers of tenants'' own rates, as plan_rate_tiers: one row per tier.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.tenant_id IS 'Whose rate it is; with the next three, the rate.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.plan_id IS 'The plan.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.resource_kind IS 'The kind that is metered.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.effective_from IS 'Since when the rate is in effect, the first of a month.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.up_to IS 'As of plan_rate_tiers.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.unit_price_cents IS 'As of plan_rate_tiers.';

COMMENT ON COLUMN cloud.tenant_rate_tiers.flat_cents IS 'As of plan_rate_tiers.';

CREATE TABLE cloud.tenant_rates (
    tenant_id text NOT NULL,
    plan_id uuid NOT NULL,
    resource_kind text NOT NULL,
    effective_from date NOT NULL,
    included_quantity numeric(18,6) NOT NULL,
    unit text NOT NULL,
    unit_price_cents numeric(18,8),
    charge_model text DEFAULT 'per_unit'::text NOT NULL,
    package_size numeric(18,6),
    maximum_cents bigint,
    pooled boolean DEFAULT false NOT NULL,
    CONSTRAINT tenant_rates_charge_model_check CHECK ((charge_model = ANY (ARRAY['per_unit'::text, 'package'::text, 'graduated'::text, 'volume'::text]))),
    CONSTRAINT tenant_rates_check CHECK (((charge_model = 'package'::text) = (package_size IS NOT NULL))),
    CONSTRAINT tenant_rates_effective_from_check CHECK ((EXTRACT(day FROM effective_from) = (1)::numeric)),
    CONSTRAINT tenant_rates_included_quantity_check CHECK (((included_quantity >= (0)::numeric) AND (included_quantity <> 'NaN'::numeric))),
    CONSTRAINT tenant_rates_maximum_cents_check CHECK ((maximum_cents >= 0)),
    CONSTRAINT tenant_rates_package_size_check CHECK (((package_size > (0)::numeric) AND (package_size <> 'NaN'::numeric))),
    CONSTRAINT tenant_rates_unit_price_cents_check CHECK (((unit_price_cents >= (0)::numeric) AND (unit_price_cents <> 'NaN'::numeric)))
);

COMMENT ON TABLE cloud.tenant_rates IS 'A tenant''s own rates: as plan_rates, one row per tenant, plan, kind and first of a month; for the list''s.';

COMMENT ON COLUMN cloud.tenant_rates.tenant_id IS 'Whose rate it is.';

COMMENT ON COLUMN cloud.tenant_rates.plan_id IS 'The plan.';

COMMENT ON COLUMN cloud.tenant_rates.resource_kind IS 'The kind that is metered.';

COMMENT ON COLUMN cloud.tenant_rates.effective_from IS 'Since when it is in effect, the first of a month.';

COMMENT ON COLUMN cloud.tenant_rates.included_quantity IS 'The allowance of a month, in unit.';

COMMENT ON COLUMN cloud.tenant_rates.unit IS 'What is counted: hour, GB, ...';

COMMENT ON COLUMN cloud.tenant_rates.unit_price_cents IS 'Price of one unit beyond, cents AUD ex GST; null: from then on the list''s rate again.';

COMMENT ON COLUMN cloud.tenant_rates.charge_model IS 'As of plan_rates.';

COMMENT ON COLUMN cloud.tenant_rates.package_size IS 'As of plan_rates.';

COMMENT ON COLUMN cloud.tenant_rates.maximum_cents IS 'As of plan_rates.';

COMMENT ON COLUMN cloud.tenant_rates.pooled IS 'As of plan_rates.';

CREATE TABLE cloud.usage_records (
    id uuid NOT NULL,
    deployment_id uuid NOT NULL,
    resource_kind text NOT NULL,
    quantity numeric(18,6) NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    ingested_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE cloud.usage_records IS 'One row per reading of a meter. Rows may be added late; a row that has been billed is not changed or removed.';

COMMENT ON COLUMN cloud.usage_records.id IS 'Its id. Two records with one id hold their tenant back.';

COMMENT ON COLUMN cloud.usage_records.deployment_id IS 'What was metered. It may be gone from cloud_deployments.';

COMMENT ON COLUMN cloud.usage_records.resource_kind IS 'What was metered of it, like droplet_hours.';

COMMENT ON COLUMN cloud.usage_records.quantity IS 'How much, in the unit of plan_rates. Below 0 takes back.';

COMMENT ON COLUMN cloud.usage_records.recorded_at IS 'When it was used: this instant decides the month and the subscription.';

COMMENT ON COLUMN cloud.usage_records.ingested_at IS 'When the record arrived, by the database''s clock. After a month''s cut-off it is late.';

ALTER TABLE ONLY billing.billed_subscriptions
    ADD CONSTRAINT billed_subscriptions_pkey PRIMARY KEY (period_start, subscription_id, tenant_id);

ALTER TABLE ONLY billing.billing_months
    ADD CONSTRAINT billing_months_pkey PRIMARY KEY (period_start);

ALTER TABLE ONLY billing.cloud_invoice_documents
    ADD CONSTRAINT cloud_invoice_documents_pkey PRIMARY KEY (period_start, revision);

ALTER TABLE ONLY billing.cloud_invoice_items
    ADD CONSTRAINT cloud_invoice_items_pkey PRIMARY KEY (period_start, line_no);

ALTER TABLE ONLY billing.cloud_invoices
    ADD CONSTRAINT cloud_invoices_items_sha256_key UNIQUE (items_sha256);

ALTER TABLE ONLY billing.cloud_invoices
    ADD CONSTRAINT cloud_invoices_pkey PRIMARY KEY (period_start);

ALTER TABLE ONLY billing.cost_allocations
    ADD CONSTRAINT cost_allocations_pkey PRIMARY KEY (period_start, line_no, part);

ALTER TABLE ONLY billing.cost_split_keys
    ADD CONSTRAINT cost_split_keys_pkey PRIMARY KEY (resource_id);

ALTER TABLE ONLY billing.credit_grants
    ADD CONSTRAINT credit_grants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.deployment_quote_lines
    ADD CONSTRAINT deployment_quote_lines_pkey PRIMARY KEY (period_start, subscription_id, line_no);

ALTER TABLE ONLY billing.deployment_resources
    ADD CONSTRAINT deployment_resources_pkey PRIMARY KEY (resource_id, deployment_id, started_at);

ALTER TABLE ONLY billing.documents
    ADD CONSTRAINT documents_pkey PRIMARY KEY (invoice_id, revision, state, format);

ALTER TABLE ONLY billing.email_outbox
    ADD CONSTRAINT email_outbox_message_id_key UNIQUE (message_id);

ALTER TABLE ONLY billing.email_outbox
    ADD CONSTRAINT email_outbox_pkey PRIMARY KEY (invoice_id, document_state);

ALTER TABLE ONLY billing.event_chain
    ADD CONSTRAINT event_chain_pkey PRIMARY KEY (chain, place);

ALTER TABLE ONLY billing.event_heads
    ADD CONSTRAINT event_heads_pkey PRIMARY KEY (chain);

ALTER TABLE ONLY billing.finance_outbox
    ADD CONSTRAINT finance_outbox_invoice_id_revision_operation_key UNIQUE (invoice_id, revision, operation);

ALTER TABLE ONLY billing.finance_outbox
    ADD CONSTRAINT finance_outbox_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.fx_rates
    ADD CONSTRAINT fx_rates_pkey PRIMARY KEY (period_start);

ALTER TABLE ONLY billing.invoice_corrections
    ADD CONSTRAINT invoice_corrections_pkey PRIMARY KEY (period_start, tenant_id);

ALTER TABLE ONLY billing.invoice_events
    ADD CONSTRAINT invoice_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.invoiced_tenants
    ADD CONSTRAINT invoiced_tenants_pkey PRIMARY KEY (period_start, tenant_id);

ALTER TABLE ONLY billing.manual_lines
    ADD CONSTRAINT manual_lines_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.missing_tenant_acceptances
    ADD CONSTRAINT missing_tenant_acceptances_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.month_costs
    ADD CONSTRAINT month_costs_pkey PRIMARY KEY (period_start);

ALTER TABLE ONLY billing.number_series
    ADD CONSTRAINT number_series_pkey PRIMARY KEY (is_one);

ALTER TABLE ONLY billing.passed_controls
    ADD CONSTRAINT passed_controls_pkey PRIMARY KEY (period_start, control);

ALTER TABLE ONLY billing.price_books
    ADD CONSTRAINT price_books_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.product_kinds
    ADD CONSTRAINT product_kinds_pkey PRIMARY KEY (product);

ALTER TABLE ONLY billing.quoted_tenants
    ADD CONSTRAINT quoted_tenants_pkey PRIMARY KEY (period_start, tenant_id);

ALTER TABLE billing.fx_rates
    ADD CONSTRAINT rate_outside_0_3_to_1_5_needs_a_reason CHECK ((((usd_per_aud >= 0.3) AND (usd_per_aud <= 1.5)) OR (reason IS NOT NULL))) NOT VALID;

ALTER TABLE ONLY billing.role_rights
    ADD CONSTRAINT role_rights_pkey PRIMARY KEY (role, relation);

ALTER TABLE ONLY billing.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY billing.suppliers
    ADD CONSTRAINT suppliers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.tenant_holds
    ADD CONSTRAINT tenant_holds_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY billing.tenant_invoice_lines
    ADD CONSTRAINT tenant_invoice_lines_pkey PRIMARY KEY (id, period_start);

ALTER TABLE ONLY billing.tenant_invoices
    ADD CONSTRAINT tenant_invoices_invoice_number_key UNIQUE (invoice_number);

ALTER TABLE ONLY billing.tenant_invoices
    ADD CONSTRAINT tenant_invoices_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.tenant_invoices
    ADD CONSTRAINT tenant_invoices_tenant_id_period_start_key UNIQUE (tenant_id, period_start);

ALTER TABLE ONLY billing.unbilled_acceptances
    ADD CONSTRAINT unbilled_acceptances_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.usage_acceptances
    ADD CONSTRAINT usage_acceptances_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.usage_ahead
    ADD CONSTRAINT usage_ahead_pkey PRIMARY KEY (period_start, record_id);

ALTER TABLE ONLY cloud.addon_prices
    ADD CONSTRAINT addon_prices_pkey PRIMARY KEY (addon_id, effective_from);

ALTER TABLE ONLY cloud.addons
    ADD CONSTRAINT addons_code_key UNIQUE (code);

ALTER TABLE ONLY cloud.addons
    ADD CONSTRAINT addons_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.cloud_deployments
    ADD CONSTRAINT cloud_deployments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.commitments
    ADD CONSTRAINT commitments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.discounts
    ADD CONSTRAINT discounts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.plan_prices
    ADD CONSTRAINT plan_prices_pkey PRIMARY KEY (plan_id, effective_from);

ALTER TABLE ONLY cloud.plan_rate_tiers
    ADD CONSTRAINT plan_rate_tiers_plan_id_resource_kind_effective_from_up_to_key UNIQUE NULLS NOT DISTINCT (plan_id, resource_kind, effective_from, up_to);

ALTER TABLE ONLY cloud.plan_rates
    ADD CONSTRAINT plan_rates_pkey PRIMARY KEY (plan_id, resource_kind, effective_from);

ALTER TABLE ONLY cloud.plans
    ADD CONSTRAINT plans_code_key UNIQUE (code);

ALTER TABLE ONLY cloud.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.subscription_addons
    ADD CONSTRAINT subscription_addons_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.tenant_addon_prices
    ADD CONSTRAINT tenant_addon_prices_pkey PRIMARY KEY (tenant_id, addon_id, effective_from);

ALTER TABLE ONLY cloud.tenant_plan_prices
    ADD CONSTRAINT tenant_plan_prices_pkey PRIMARY KEY (tenant_id, plan_id, effective_from);

ALTER TABLE ONLY cloud.tenant_rate_tiers
    ADD CONSTRAINT tenant_rate_tiers_tenant_id_plan_id_resource_kind_effective_key UNIQUE NULLS NOT DISTINCT (tenant_id, plan_id, resource_kind, effective_from, up_to);

ALTER TABLE ONLY cloud.tenant_rates
    ADD CONSTRAINT tenant_rates_pkey PRIMARY KEY (tenant_id, plan_id, resource_kind, effective_from);

ALTER TABLE ONLY cloud.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY cloud.usage_records
    ADD CONSTRAINT usage_records_pkey PRIMARY KEY (id);

CREATE INDEX billed_subscriptions_period_start_tenant_id_idx ON billing.billed_subscriptions USING btree (period_start, tenant_id);

CREATE INDEX cost_allocations_deployment_id_idx ON billing.cost_allocations USING btree (deployment_id);

CREATE INDEX credit_grants_tenant_id_idx ON billing.credit_grants USING btree (tenant_id);

CREATE INDEX deployment_quote_lines_deployment_id_idx ON ONLY billing.deployment_quote_lines USING btree (deployment_id);

CREATE INDEX deployment_resources_deployment_id_idx ON billing.deployment_resources USING btree (deployment_id);

CREATE INDEX email_outbox_period_start_state_idx ON billing.email_outbox USING btree (period_start, state);

CREATE INDEX finance_outbox_open ON billing.finance_outbox USING btree (period_start, id) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'uncertain'::text]));

CREATE INDEX finance_outbox_open_of_tenant ON billing.finance_outbox USING btree (tenant_id, id) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'uncertain'::text]));

CREATE INDEX finance_outbox_refused ON billing.finance_outbox USING btree (period_start) WHERE (state = 'refused'::text);

CREATE INDEX invoice_events_invoice_id_idx ON billing.invoice_events USING btree (invoice_id);

CREATE INDEX invoice_events_period_start_idx ON billing.invoice_events USING btree (period_start);

CREATE INDEX invoice_events_tenant_id_idx ON billing.invoice_events USING btree (tenant_id);

CREATE INDEX manual_lines_period_start_idx ON billing.manual_lines USING btree (period_start);

CREATE INDEX manual_lines_tenant_id_idx ON billing.manual_lines USING btree (tenant_id);

CREATE INDEX metered_usage_deployment_id_idx ON ONLY billing.metered_usage USING btree (deployment_id);

CREATE INDEX missing_tenant_acceptances_period_start_idx ON billing.missing_tenant_acceptances USING btree (period_start);

CREATE INDEX quote_faults_period_start_idx ON billing.quote_faults USING btree (period_start);

CREATE INDEX suppliers_effective_from_id_idx ON billing.suppliers USING btree (effective_from, id);

CREATE INDEX tenant_invoice_lines_corrections ON ONLY billing.tenant_invoice_lines USING btree (invoice_id) WHERE (kind = ANY (ARRAY['credit'::text, 'adjustment'::text]));

CREATE INDEX tenant_invoice_lines_deployment_id_idx ON ONLY billing.tenant_invoice_lines USING btree (deployment_id);

CREATE INDEX tenant_invoice_lines_invoice_id_idx ON ONLY billing.tenant_invoice_lines USING btree (invoice_id);

CREATE INDEX tenant_invoice_lines_resource_kind_idx ON ONLY billing.tenant_invoice_lines USING btree (resource_kind);

CREATE INDEX tenant_invoices_period_start_id_idx ON billing.tenant_invoices USING btree (period_start, id);

CREATE INDEX tenant_invoices_status_idx ON billing.tenant_invoices USING btree (status);

CREATE INDEX tenant_invoices_status_period_start_id_idx ON billing.tenant_invoices USING btree (status, period_start, id);

CREATE INDEX unbilled_acceptances_period_start_idx ON billing.unbilled_acceptances USING btree (period_start);

CREATE INDEX unbilled_usage_period_start_idx ON billing.unbilled_usage USING btree (period_start);

CREATE INDEX usage_acceptances_period_start_idx ON billing.usage_acceptances USING btree (period_start);

CREATE INDEX subscription_addons_subscription_id_idx ON cloud.subscription_addons USING btree (subscription_id);

CREATE INDEX subscriptions_deployment_id_idx ON cloud.subscriptions USING btree (deployment_id);

CREATE INDEX usage_records_recorded_at_idx ON cloud.usage_records USING btree (recorded_at);

CREATE TRIGGER cloud_invoice_documents_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.cloud_invoice_documents FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER credit_grants_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.credit_grants FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER documents_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.documents FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER email_outbox_is_guarded BEFORE DELETE OR UPDATE ON billing.email_outbox FOR EACH ROW EXECUTE FUNCTION billing.guard_email();

CREATE TRIGGER email_outbox_stays BEFORE TRUNCATE ON billing.email_outbox FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER event_chain_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.event_chain FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER events_are_chained AFTER INSERT ON billing.invoice_events REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION billing.chain_events();

CREATE TRIGGER guard_outbox BEFORE UPDATE ON billing.finance_outbox FOR EACH ROW EXECUTE FUNCTION billing.guard_outbox();

CREATE TRIGGER invoice_events_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.invoice_events FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER invoices_are_never_all_deleted BEFORE TRUNCATE ON billing.tenant_invoices FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_truncate();

CREATE TRIGGER invoices_keep_the_law BEFORE DELETE OR UPDATE ON billing.tenant_invoices FOR EACH ROW EXECUTE FUNCTION billing.guard_invoice();

CREATE CONSTRAINT TRIGGER invoices_leave_finance_with_an_event AFTER UPDATE ON billing.tenant_invoices DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((num_nonnulls(old.finance_invoice_id, old.pushed_to_finance_at) > 0) AND (num_nonnulls(new.finance_invoice_id, new.pushed_to_finance_at) = 0))) EXECUTE FUNCTION billing.guard_withdrawal();

CREATE TRIGGER lines_are_never_all_deleted BEFORE TRUNCATE ON billing.tenant_invoice_lines FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_truncate();

CREATE TRIGGER lines_are_of_their_invoice AFTER INSERT ON billing.tenant_invoice_lines REFERENCING NEW TABLE AS new_lines FOR EACH STATEMENT EXECUTE FUNCTION billing.guard_new_lines();

CREATE TRIGGER lines_of_frozen_invoices_stay BEFORE DELETE OR UPDATE ON billing.tenant_invoice_lines FOR EACH ROW EXECUTE FUNCTION billing.guard_line();

CREATE TRIGGER manual_lines_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.manual_lines FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER missing_tenant_acceptances_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.missing_tenant_acceptances FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER number_series_stays BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.number_series FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER price_books_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.price_books FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER suppliers_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.suppliers FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER unbilled_acceptances_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.unbilled_acceptances FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER usage_acceptances_are_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.usage_acceptances FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

ALTER TABLE ONLY billing.documents
    ADD CONSTRAINT documents_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.tenant_invoices(id);

ALTER TABLE ONLY billing.email_outbox
    ADD CONSTRAINT email_outbox_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.tenant_invoices(id);

ALTER TABLE ONLY billing.finance_outbox
    ADD CONSTRAINT finance_outbox_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.tenant_invoices(id);

ALTER TABLE ONLY billing.month_costs
    ADD CONSTRAINT month_costs_period_start_fkey FOREIGN KEY (period_start) REFERENCES billing.cloud_invoices(period_start);

ALTER TABLE billing.tenant_invoice_lines
    ADD CONSTRAINT tenant_invoice_lines_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES cloud.cloud_deployments(id) ON DELETE SET NULL;

ALTER TABLE billing.tenant_invoice_lines
    ADD CONSTRAINT tenant_invoice_lines_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES billing.tenant_invoices(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.tenant_invoices
    ADD CONSTRAINT tenant_invoices_supplier_id_fkey FOREIGN KEY (supplier_id) REFERENCES billing.suppliers(id);

ALTER TABLE ONLY cloud.addon_prices
    ADD CONSTRAINT addon_prices_addon_id_fkey FOREIGN KEY (addon_id) REFERENCES cloud.addons(id);

ALTER TABLE ONLY cloud.cloud_deployments
    ADD CONSTRAINT cloud_deployments_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

ALTER TABLE ONLY cloud.commitments
    ADD CONSTRAINT commitments_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES cloud.cloud_deployments(id);

ALTER TABLE ONLY cloud.commitments
    ADD CONSTRAINT commitments_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

ALTER TABLE ONLY cloud.discounts
    ADD CONSTRAINT discounts_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES cloud.cloud_deployments(id);

ALTER TABLE ONLY cloud.discounts
    ADD CONSTRAINT discounts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

ALTER TABLE ONLY cloud.plan_prices
    ADD CONSTRAINT plan_prices_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES cloud.plans(id);

ALTER TABLE ONLY cloud.plan_rate_tiers
    ADD CONSTRAINT plan_rate_tiers_plan_id_resource_kind_effective_from_fkey FOREIGN KEY (plan_id, resource_kind, effective_from) REFERENCES cloud.plan_rates(plan_id, resource_kind, effective_from);

ALTER TABLE ONLY cloud.plan_rates
    ADD CONSTRAINT plan_rates_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES cloud.plans(id);

ALTER TABLE ONLY cloud.subscription_addons
    ADD CONSTRAINT subscription_addons_addon_id_fkey FOREIGN KEY (addon_id) REFERENCES cloud.addons(id);

ALTER TABLE ONLY cloud.subscription_addons
    ADD CONSTRAINT subscription_addons_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES cloud.subscriptions(id);

ALTER TABLE ONLY cloud.subscriptions
    ADD CONSTRAINT subscriptions_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES cloud.cloud_deployments(id);

ALTER TABLE ONLY cloud.subscriptions
    ADD CONSTRAINT subscriptions_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES cloud.plans(id);

ALTER TABLE ONLY cloud.subscriptions
    ADD CONSTRAINT subscriptions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

ALTER TABLE ONLY cloud.tenant_addon_prices
    ADD CONSTRAINT tenant_addon_prices_addon_id_fkey FOREIGN KEY (addon_id) REFERENCES cloud.addons(id);

ALTER TABLE ONLY cloud.tenant_addon_prices
    ADD CONSTRAINT tenant_addon_prices_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

ALTER TABLE ONLY cloud.tenant_plan_prices
    ADD CONSTRAINT tenant_plan_prices_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES cloud.plans(id);

ALTER TABLE ONLY cloud.tenant_plan_prices
    ADD CONSTRAINT tenant_plan_prices_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

ALTER TABLE ONLY cloud.tenant_rate_tiers
    ADD CONSTRAINT tenant_rate_tiers_tenant_id_plan_id_resource_kind_effectiv_fkey FOREIGN KEY (tenant_id, plan_id, resource_kind, effective_from) REFERENCES cloud.tenant_rates(tenant_id, plan_id, resource_kind, effective_from);

ALTER TABLE ONLY cloud.tenant_rates
    ADD CONSTRAINT tenant_rates_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES cloud.plans(id);

ALTER TABLE ONLY cloud.tenant_rates
    ADD CONSTRAINT tenant_rates_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES cloud.tenants(id);

CREATE POLICY api_reads ON billing.invoice_events AS RESTRICTIVE TO arcadia_api USING ((current_setting('arcadia.role'::text, true) = 'platform_admin'::text));

CREATE POLICY api_reads ON billing.tenant_invoice_lines AS RESTRICTIVE TO arcadia_api USING (
CASE current_setting('arcadia.role'::text, true)
    WHEN 'platform_admin'::text THEN true
    WHEN 'tenant'::text THEN (EXISTS ( SELECT
       FROM billing.tenant_invoices i
      WHERE (i.id = tenant_invoice_lines.invoice_id)))
    ELSE false
END);

CREATE POLICY api_reads ON billing.tenant_invoices AS RESTRICTIVE TO arcadia_api USING (
CASE current_setting('arcadia.role'::text, true)
    WHEN 'platform_admin'::text THEN true
    WHEN 'tenant'::text THEN ((tenant_id = NULLIF(current_setting('arcadia.tenant_id'::text, true), ''::text)) AND (status <> 'draft'::text))
    ELSE false
END);

CREATE POLICY as_granted ON billing.invoice_events USING (true);

CREATE POLICY as_granted ON billing.tenant_invoice_lines USING (true);

CREATE POLICY as_granted ON billing.tenant_invoices USING (true);

ALTER TABLE billing.invoice_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.tenant_invoice_lines ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.tenant_invoices ENABLE ROW LEVEL SECURITY;

