-- One owner for everything in billing and dagster. Whoever owns a table, or may create beside it, can plant code there
-- that others run: a trigger, a default, a function or an operator that their search_path finds. So the pipeline's role
-- owns nothing and creates nothing. A month's partitions are made for it by two functions that do only that.

update billing.role_rights set rights = 'select, insert, delete' where role = 'arcadia_pipeline' and rights = 'own';
alter table billing.role_rights
    drop constraint role_rights_rights_check,
    add constraint role_rights_rights_check check (
        rights = 'execute' or rights ~ '^(select|insert|update|delete)(, (select|insert|update|delete))*$');
comment on column billing.role_rights.relation is 'Table or view with its schema; or a function with its arguments'' types.';
comment on column billing.role_rights.rights is 'What is granted, like select, insert; execute for a function.';

create function billing.partition_name(of_table text, month date) returns text language plpgsql immutable
set search_path = pg_catalog, pg_temp as $$
begin
    if of_table in ('metered_usage', 'deployment_quote_lines', 'tenant_invoice_lines')
       and month between '0001-01-01' and '9999-12-01' and extract(day from month) = 1 then
        return format('billing.%s_%s', of_table, to_char(month, 'YYYY_MM'));
    end if;
    raise exception '% of % is no partition of ours: of one of the three month-sized tables, from the first of a month',
        coalesce(of_table, 'null'), coalesce(month::text, 'null') using errcode = 'invalid_parameter_value';
end $$;
revoke execute on function billing.partition_name(text, date) from public;
comment on function billing.partition_name(text, date) is
    'The name of a month''s partition of metered_usage, deployment_quote_lines or tenant_invoice_lines.';

create function billing.new_partition(of_table text, month date) returns void language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
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
revoke execute on function billing.new_partition(text, date) from public;
comment on function billing.new_partition(text, date) is
    'Makes a month''s partition of a month-sized table, bare and by itself, to be filled and then attached by '
    'attach_partition(). Runs as the owner of the tables.';

create function billing.attach_partition(of_table text, month date) returns void language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
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
            'where i.period_start is distinct from date %L or i.status in (''paid'', ''void'') '
            'or i.finance_invoice_id is not null or i.pushed_to_finance_at is not null',
            partition, to_char(month, 'YYYY-MM-DD')) into strangers;
    end if;
    if strangers > 0 then
        raise exception '% has % lines of invoices that are frozen, or not of its month', partition, strangers
            using errcode = 'restrict_violation';
    end if;
    execute format('alter table billing.%I attach partition %s for values from (%L) to (%L)', of_table, partition,
                   to_char(month, 'YYYY-MM-DD'), to_char(month + interval '1 month', 'YYYY-MM-DD'));
    execute format('alter table %s drop constraint one_month', partition);
end $$;
revoke execute on function billing.attach_partition(text, date) from public;
comment on function billing.attach_partition(text, date) is
    'Attaches what new_partition() has made, with its indexes; whoever filled it has no right to it any more. Runs as '
    'the owner of the tables.';

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.new_partition(text, date)',    'execute'),
    ('arcadia_pipeline', 'billing.attach_partition(text, date)', 'execute');

-- What they name is looked up when they run, in the search_path of whoever runs them: a superuser who pays an invoice in
-- psql, for one.
alter function billing.guard_invoice() set search_path = pg_catalog, pg_temp;
alter function billing.guard_line() set search_path = pg_catalog, pg_temp;
alter function billing.refuse_change() set search_path = pg_catalog, pg_temp;
alter function billing.invoice_lines(uuid, date) set search_path = pg_catalog, pg_temp;

create or replace function billing.admit_roles() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    missing text;
    to_do record;
begin
    for missing in select distinct role from billing.role_rights where to_regrole(role) is null order by role loop
        raise warning '% has no role: % may not make it',
            case missing when 'arcadia_pipeline' then 'the pipeline' when 'arcadia_analyst' then 'the analysts'
                         else missing end, current_user
            using hint = format('as a superuser: create role %I; then, as %I: select billing.admit_roles();', missing,
                                current_user);
    end loop;
    for to_do in
        select statement from (
            select role, format('grant usage on schema %s to %I', name, role) as statement, 1 as step
            from (values ('arcadia_pipeline', 'billing'), ('arcadia_pipeline', 'cloud'), ('arcadia_pipeline', 'dagster'),
                         ('arcadia_analyst', 'billing')) as schemas (role, name)
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
    'Grants arcadia_pipeline and arcadia_analyst what billing.role_rights says. Run by the owner of the tables once the '
    'roles are there, and after Dagster''s tables were made; safe to run again. What it could not do it says in warnings.';

-- Whatever the pipeline made goes to the owner of the invoices, Dagster's tables too, and every right that was beyond
-- reading and writing rows is taken back.
do $$
declare
    owner constant text := (select relowner::regrole::text from pg_class where oid = 'billing.tenant_invoices'::regclass);
    pipeline constant oid := to_regrole('arcadia_pipeline')::oid;
    to_do text;
begin
    for to_do in
        select format('alter function %s owner to %s', name, owner)
        from unnest(array['billing.new_partition(text, date)', 'billing.attach_partition(text, date)']) as name
        union all
        select format('alter schema %I owner to %s', nspname, owner) from pg_namespace
        where nspname in ('billing', 'dagster') and pg_has_role(nspowner, pipeline, 'member')
          and nspowner <> owner::regrole and not (select rolsuper from pg_roles where oid = nspowner)
        union all
        select format('alter table %s owner to %s', c.oid::regclass, owner)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
        where c.relowner <> owner::regrole and not r.rolsuper and c.relkind in ('r', 'p', 'S')
          and not exists (select from pg_depend d
                          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
                            and c.relkind = 'S')
          and (n.nspname = 'dagster'
               or c.oid in (select t.relid
                            from unnest(array['billing.metered_usage', 'billing.deployment_quote_lines',
                                              'billing.tenant_invoice_lines']) as name,
                                 pg_partition_tree(name::regclass) t))
        union all
        select what from unnest(array[
            'revoke create on schema billing from public, arcadia_pipeline',
            'revoke create on schema dagster from public, arcadia_pipeline',
            'revoke truncate, references, trigger on all tables in schema dagster from arcadia_pipeline']) as what
        where pipeline is not null
        union all
        select 'revoke create on schema cloud from public, arcadia_pipeline'
        where pipeline is not null and has_schema_privilege(pipeline, 'cloud', 'create')
        union all
        select format('alter default privileges for role %s in schema dagster revoke all on %s from arcadia_pipeline',
                      d.defaclrole::regrole, case d.defaclobjtype when 'r' then 'tables' else 'sequences' end)
        from pg_default_acl d
        where d.defaclnamespace = to_regnamespace('dagster') and d.defaclobjtype in ('r', 'S') and pipeline is not null
        union all
        select 'revoke maintain on billing.tenant_invoices from arcadia_pipeline'
        where pipeline is not null and current_setting('server_version_num')::integer >= 170000
    loop
        begin
            execute to_do;
        exception when insufficient_privilege then
            raise warning '% may not %: %', current_user, to_do, sqlerrm
                using hint = 'Have a superuser do it: until then whoever may run a month end can plant code there.';
        end;
    end loop;
end $$;
select billing.admit_roles();
