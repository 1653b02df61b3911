-- The what-if of the read API: past months at other prices, by the engine that invoices them. It reads what a month end
-- reads, and nothing else; so it is done by a role of its own, which may read that and write nothing. A login of the API
-- that is not of this role serves all else.
insert into billing.role_rights
select 'arcadia_reprice', relation, 'select'
from unnest(array[
    'cloud.tenants', 'cloud.cloud_deployments', 'cloud.plans', 'cloud.plan_prices', 'cloud.plan_rates',
    'cloud.plan_rate_tiers', 'cloud.addons', 'cloud.addon_prices', 'cloud.tenant_plan_prices', 'cloud.tenant_addon_prices',
    'cloud.tenant_rates', 'cloud.tenant_rate_tiers', 'cloud.discounts', 'cloud.commitments', 'cloud.subscriptions',
    'cloud.subscription_addons', 'cloud.usage_records', 'billing.metered_usage', 'billing.deployment_quote_lines',
    'billing.quote_faults', 'billing.billed_subscriptions', 'billing.tenant_invoices', 'billing.tenant_invoice_lines',
    'billing.invoice_events', 'billing.cost_vs_revenue_by_month', 'billing.cost_vs_revenue_by_tenant']) as relation;
comment on column billing.role_rights.role is 'arcadia_pipeline, arcadia_analyst or arcadia_reprice.';

-- As in 0016, but that whoever has a right in a schema may use the schema.
create or replace function billing.admit_roles() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
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
comment on function billing.admit_roles() is
    'Grants arcadia_pipeline, arcadia_analyst and arcadia_reprice what billing.role_rights says. Run by the owner of the '
    'tables once the roles are there, and after Dagster''s tables were made; safe to run again. What it could not do it says '
    'in warnings.';

-- A role belongs to the whole cluster, where another database may be making it at this instant.
do $$
begin
    if to_regrole('arcadia_reprice') is null then
        begin
            create role arcadia_reprice nologin;
        exception when duplicate_object or unique_violation or insufficient_privilege then null;
        end;
    end if;
    -- Where the API has the owner's login, as over the embedded database.
    begin
        set local role arcadia_reprice;
        reset role;
    exception when insufficient_privilege or invalid_parameter_value then
        begin
            execute format('grant arcadia_reprice to %I', current_user);
        exception when unique_violation or insufficient_privilege or undefined_object then null;
        end;
    end;
    perform billing.admit_roles();
end $$;
