-- The hash of an invoice's lines whole, as a reader sees them, beside content_sha256, which is of what they bill: that one
-- knows no deployment's name, and cannot be worked out again once a deployment is deleted.
--
-- Both functions are written so that PostgreSQL puts their expression into the query: no call for each line. Their names
-- are resolved here, once, whatever the search_path of who calls them.

create function billing.line_text(line billing.tenant_invoice_lines) returns text language sql immutable parallel safe
return line.line_no::text || chr(31) || line.kind || chr(31) || trunc(line.qty * 1000000)::text || chr(31)
    || trunc(line.unit_price_cents * 100000000)::text || chr(31) || line.amount_cents::text || chr(31) || line.meta::text
    || chr(31) || coalesce(length(line.resource_kind)::text, '') || chr(31) || length(line.description)::text
    || chr(31) || coalesce(length(line.unit)::text, '') || chr(31) || coalesce(length(line.deployment_name)::text, '')
    || chr(31) || coalesce(line.resource_kind, '') || line.description || coalesce(line.unit, '')
    || coalesce(line.deployment_name, '');
comment on function billing.line_text(billing.tenant_invoice_lines) is
    'An invoice line as a reader sees it, as one text that no other line has: between 0x1f its number, kind, millionths of '
    'qty, 1e-8 of unit_price_cents, amount_cents and meta; how many characters resource_kind, description, unit and '
    'deployment_name have (nothing where they are null); and those four, one after the other. Its ids are not in it.';

create function billing.sha256_hex(content text) returns text language sql stable parallel safe
return encode(sha256(convert_to(content, 'UTF8')), 'hex');
comment on function billing.sha256_hex(text) is 'SHA-256 of the text in UTF-8, in hex.';

alter table billing.tenant_invoices
    add column lines_sha256 text check (length(lines_sha256) = 64 and lines_sha256 !~ '[^0-9a-f]');
comment on column billing.tenant_invoices.lines_sha256 is
    'Hash of the lines whole, as a reader sees them: SHA-256 of their billing.line_text(), by line_no, between 0x1e. Null '
    'where another system has put the invoice in.';

update billing.tenant_invoices i set lines_sha256 = l.sha256
from (
    select invoice_id, billing.sha256_hex(string_agg(billing.line_text(l), chr(30) order by l.line_no)) as sha256
    from billing.tenant_invoice_lines l group by invoice_id
) l
where l.invoice_id = i.id;
