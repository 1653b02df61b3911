-- A locked invoice that another system has put in takes its lines in one statement, and none after that.
create or replace function billing.guard_new_lines() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_hashjoin = off set enable_mergejoin = off as $$
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
comment on function billing.guard_new_lines() is
    'Lines are of their invoice''s month, and a locked invoice has those that its lines_sha256 is of. One that another '
    'system has put in, without that, takes its lines in one statement and then no more. Runs as the owner of the tables.';
