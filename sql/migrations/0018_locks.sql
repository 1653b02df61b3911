-- What writers of billing wait for: tables without a column or a row, which are locked and never read. Anybody who may
-- connect can take an advisory lock, and hold up whoever waits for it; LOCK TABLE wants a right on the table. As the
-- first statement of a transaction it sees nothing of the database yet: what is read is of the instant after the wait.
--
-- UPDATE is the right for every mode in each PostgreSQL from 14 on. Readers and pg_dump (ACCESS SHARE) pass.

create table billing.gate ();
comment on table billing.gate is
    'A lock, without columns or rows: months pass it side by side; a migration, and an operator who holds or releases a '
    'tenant, shut it.';
create table billing.publishing ();
comment on table billing.publishing is
    'A lock, without columns or rows: of the months that are being published, one at a time.';

do $$
declare
    calendar_month text;
begin
    for calendar_month in select to_char(n, 'FM00') from generate_series(1, 12) n loop
        execute format('create table billing.month_%s ()', calendar_month);
        execute format('comment on table billing.month_%s is %L', calendar_month,
                       'A lock, without columns or rows: whoever writes this month of the calendar, of whatever year.');
        insert into billing.role_rights values
            ('arcadia_pipeline', format('billing.month_%s', calendar_month), 'update');
    end loop;
end $$;

insert into billing.role_rights values
    ('arcadia_pipeline', 'billing.gate',       'update'),
    ('arcadia_pipeline', 'billing.publishing', 'update');
select billing.admit_roles();
