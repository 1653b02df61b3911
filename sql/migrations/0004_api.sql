-- What the read API may see. Its role can only read, and row-level security shows it the rows of whoever the transaction
-- is for: arcadia.role (platform_admin or tenant) and arcadia.tenant_id, set with set_config(..., true). With neither set
-- it sees nothing. The owner of the tables, which is the pipeline, is not concerned, nor is anybody else who was granted
-- the tables: the policies below restrict the API's role alone.

-- Newest first, from any place on: what a page of the list reads is what it shows, however deep it is.
create index on billing.tenant_invoices (period_start, id);
create index on billing.tenant_invoices (status, period_start, id);
drop index billing.tenant_invoices_period_start_idx; -- the start of the first

create function billing.admit_api() returns void language plpgsql set search_path = billing, pg_temp as $$
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
revoke execute on function billing.admit_api() from public;
comment on function billing.admit_api() is
    'Lets the role arcadia_api read invoices, their history and the price list, each as the transaction''s settings say. '
    'Run by the owner of the tables, once the role is there; safe to run again.';

-- A role belongs to the whole cluster, where another database may be making it at this instant.
do $$
begin
    if to_regrole('arcadia_api') is null then
        begin
            create role arcadia_api nologin;
        exception when duplicate_object or unique_violation then null;
        end;
    end if;
    begin
        set local role arcadia_api;
        reset role;
    exception when insufficient_privilege then
        begin
            execute format('grant arcadia_api to %I', current_user);
        exception when unique_violation then null;
        end;
    end;
    perform billing.admit_api();
exception when insufficient_privilege then
    raise warning 'the read API cannot be served: % may not make the role arcadia_api (%)', current_user, sqlerrm
        using hint = format('as a superuser: create role arcadia_api; grant arcadia_api to %I; then, as %I: '
                            'select billing.admit_api();', current_user, current_user);
end $$;
