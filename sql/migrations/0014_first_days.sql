-- A price takes effect, and a month begins, on the first day of a month of the years 1 to 9999. `extract(day from ...)`
-- is null for infinity and -infinity, which a check lets pass, and 1 for 0001-01-01 BC, which no program reads.
--
-- Only constraints that these migrations made are replaced: the platform's own tables and views are left alone.

do $$
declare
    found record;
begin
    for found in
        select format('%I.%I', n.nspname, r.relname) as relation, c.conname as name, a.attname as day
        from pg_constraint c
        join pg_class r on r.oid = c.conrelid
        join pg_namespace n on n.oid = c.connamespace
        join pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]
        where n.nspname in ('billing', 'cloud') and c.conislocal
          and pg_get_constraintdef(c.oid) = format('CHECK ((EXTRACT(day FROM %I) = (1)::numeric))', a.attname)
          and pg_has_role(r.relowner, 'usage')
    loop
        execute format(
            'alter table %1$s drop constraint %2$I, add constraint %2$I '
            'check (%3$I between ''0001-01-01'' and ''9999-12-01'' and extract(day from %3$I) = 1) not valid',
            found.relation, found.name, found.day);
        begin
            execute format('alter table %s validate constraint %I', found.relation, found.name);
        exception when check_violation then
            raise warning '% has rows whose % is not the first day of a month of the years 1 to 9999',
                found.relation, found.day
                using hint = format('correct or remove them, then: alter table %s validate constraint %I;',
                                    found.relation, found.name);
        end;
    end loop;
end $$;
