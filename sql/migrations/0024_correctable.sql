-- Beside billing.is_locked: whether what a locked invoice bills too little or too much goes on the tenant's next one.
create function billing.is_correctable(i billing.tenant_invoices) returns boolean language sql immutable parallel safe
return billing.is_locked(i) and i.status in ('issued', 'paid') and i.invoice_number is not null;
comment on function billing.is_correctable(billing.tenant_invoices) is
    'Whether the invoice is locked and owed: what it bills too little or too much is carried by the tenant''s next invoice.';
