-- What a re-run needs to know to trust the invoices that stand, and the event of lines that were put back.

alter table billing.billing_months add column invoiced_rows text;
comment on column billing.billing_months.invoiced_rows is
    'How many rows of tenant_invoices, tenant_invoice_lines and invoice_events the last publication left, and a hash of '
    'where they are and who wrote them: while they are the same, no hash of an invoice is worked out again.';

alter table billing.invoice_events
    drop constraint invoice_events_event_check,
    add constraint invoice_events_event_check check (event in (
        'drafted', 'redrafted', 'issued', 'reissued', 'voided', 'paid', 'reopened', 'withdrawn', 'rebuilt', 'held',
        'released'));
comment on column billing.invoice_events.event is
    'drafted, issued; redrafted, reissued (the content was replaced); voided, paid, reopened (void to draft), withdrawn '
    '(from finance), rebuilt (lines that were lost or changed outside the pipeline were written again as they were); held, '
    'released (the tenant).';
