-- Who may do what, beside the owner of the tables and the read API (0004): arcadia_pipeline runs the month end,
-- arcadia_analyst queries what is billed. Neither logs in: people and programs get logins that are members (README.md).
--
-- What a role may do stands in billing.role_rights, one row per relation; what has no row is refused. A migration that
-- adds a table or a view says who gets it, and ends with the grants:
--
--     insert into billing.role_rights values ('arcadia_analyst', 'billing.cost_vs_revenue', 'select');
--     select billing.admit_roles();
--
-- The pipeline attaches partitions to the month-sized tables, which PostgreSQL lets only their owner do: it owns those.
-- The owner of everything else stays a member of it, and so does as before. As the pipeline does not own
-- tenant_invoices, which has row-level security, attaching half a million lines takes 2.5 s instead of one;
-- `alter role arcadia_pipeline bypassrls`, which only a superuser may, changes that and nothing else.

create table billing.role_rights (
    role     text not null,
    relation text not null,
    rights   text not null
        check (rights = 'own' or rights ~ '^(select|insert|update|delete)(, (select|insert|update|delete))*$'),
    primary key (role, relation)
);
comment on table billing.role_rights is 'What a role may do: one row per role and relation; granted by admit_roles().';
comment on column billing.role_rights.role is 'arcadia_pipeline or arcadia_analyst.';
comment on column billing.role_rights.relation is 'Table or view with its schema.';
comment on column billing.role_rights.rights is
    'What is granted, like select, insert; or own, which goes for the partitions too.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'cloud.tenants',                  'select'),
    ('arcadia_pipeline', 'cloud.cloud_deployments',        'select'),
    ('arcadia_pipeline', 'cloud.plans',                    'select'),
    ('arcadia_pipeline', 'cloud.plan_prices',              'select'),
    ('arcadia_pipeline', 'cloud.plan_rates',               'select'),
    ('arcadia_pipeline', 'cloud.addons',                   'select'),
    ('arcadia_pipeline', 'cloud.addon_prices',             'select'),
    ('arcadia_pipeline', 'cloud.subscriptions',            'select'),
    ('arcadia_pipeline', 'cloud.subscription_addons',      'select'),
    ('arcadia_pipeline', 'cloud.usage_records',            'select'),
    ('arcadia_pipeline', 'billing.billing_months',         'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.metered_usage',          'own'),
    ('arcadia_pipeline', 'billing.usage_acceptances',      'select, insert'),
    ('arcadia_pipeline', 'billing.deployment_quote_lines', 'own'),
    ('arcadia_pipeline', 'billing.unbilled_usage',         'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.quote_faults',           'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.tenant_holds',           'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.tenant_invoices',        'select, insert, update'),
    ('arcadia_pipeline', 'billing.tenant_invoice_lines',   'own'),
    ('arcadia_pipeline', 'billing.invoice_events',         'select, insert'),
    ('arcadia_pipeline', 'billing.invoice_corrections',    'select, insert, update, delete'),
    ('arcadia_pipeline', 'billing.revenue_by_kind',        'select'),
    ('arcadia_pipeline', 'billing.schema_migrations',      'select'),
    ('arcadia_analyst',  'billing.tenant_invoices',        'select'),
    ('arcadia_analyst',  'billing.tenant_invoice_lines',   'select'),
    ('arcadia_analyst',  'billing.invoice_events',         'select'),
    ('arcadia_analyst',  'billing.deployment_quotes',      'select'),
    ('arcadia_analyst',  'billing.revenue_by_deployment',  'select'),
    ('arcadia_analyst',  'billing.revenue_by_kind',        'select');

-- The pipeline may create in schema billing: what runs as the owner must find nothing there that it did not ask for.
alter function billing.admit_api() set search_path = pg_catalog, pg_temp;

create function billing.admit_roles() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    admitted text[] := array(select distinct role from billing.role_rights where to_regrole(role) is not null);
    to_do record;
begin
    if 'arcadia_analyst' <> all (admitted) then
        raise warning 'analysts have no role: % may not make it', current_user
            using hint = format('as a superuser: create role arcadia_analyst; then, as %I: '
                                'select billing.admit_roles();', current_user);
    end if;
    if not coalesce(pg_has_role(to_regrole('arcadia_pipeline')::oid, 'usage'), false) then
        admitted := array_remove(admitted, 'arcadia_pipeline');
        raise warning 'the pipeline has no role: % is not of arcadia_pipeline, and may not make it', current_user
            using hint = format('as a superuser: create role arcadia_pipeline; grant arcadia_pipeline to %I; '
                                'then, as %I: select billing.admit_roles();', current_user, current_user);
    end if;
    for to_do in
        select format('grant %s on schema %s to %s', rights, name, role) as statement, 1 as step
        from (values ('arcadia_pipeline', 'billing', 'usage, create'),
                     ('arcadia_pipeline', 'cloud', 'usage'),
                     ('arcadia_pipeline', 'dagster', 'usage, create'),
                     ('arcadia_analyst', 'billing', 'usage')) as schemas (role, name, rights)
        where role = any (admitted)
        union all
        select format(what, 'schema dagster', 'arcadia_pipeline'), 2
        from unnest(array['grant all on all tables in %s to %s', 'grant all on all sequences in %s to %s',
                          'alter default privileges in %s grant all on tables to %s',
                          'alter default privileges in %s grant all on sequences to %s']) as what
        where 'arcadia_pipeline' = any (admitted)
        union all
        select format('grant %s on %s to %I', rights, to_regclass(relation), role), 2
        from billing.role_rights
        where role = any (admitted) and rights <> 'own' and to_regclass(relation) is not null
        union all
        select format('alter table %s owner to %I', c.oid::regclass, role), 2
        from billing.role_rights, pg_partition_tree(to_regclass(relation)) part join pg_class c on c.oid = part.relid
        where role = any (admitted) and rights = 'own' and c.relowner <> to_regrole(role)::oid
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
revoke execute on function billing.admit_roles() from public;
comment on function billing.admit_roles() is
    'Grants arcadia_pipeline and arcadia_analyst what billing.role_rights says. Run by the owner of the tables once the '
    'roles are there; safe to run again. What it could not do it says in warnings.';

-- A role belongs to the whole cluster, where another database may be making it at this instant.
do $$
declare
    role text;
begin
    foreach role in array array['arcadia_pipeline', 'arcadia_analyst'] loop
        if to_regrole(role) is null then
            begin
                execute format('create role %I nologin', role);
            exception when duplicate_object or unique_violation or insufficient_privilege then null;
            end;
        end if;
    end loop;
    if not pg_has_role(to_regrole('arcadia_pipeline')::oid, 'usage') then
        begin
            execute format('grant arcadia_pipeline to %I', current_user);
        exception when unique_violation or insufficient_privilege then null;
        end;
    end if;
    perform billing.admit_roles();
end $$;
