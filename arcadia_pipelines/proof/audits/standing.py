"""How an invoice stands: whether audits compare it line by line, by its sum or not at all, and whether it has GST.

Belongs here: what audits of several modules ask of an invoice. Does not: the audits themselves.
"""

from arcadia_pipelines.storage.kinds import SUPPLY

# How each invoice of the month is compared with what is owed. One that is paid, delivered or pushed keeps its lines
# whatever happens since; of one whose deployment is deleted, nobody knows any more which line was for what.
STANDING = f"""
    held as (
        select tenant_id from billing.quote_faults where period_start = %(month)s and tenant_id is not null
        union select tenant_id from billing.tenant_holds
    ),
    orphaned as (
        select distinct invoice_id from billing.tenant_invoice_lines
        where period_start = %(month)s and deployment_id is null and kind in {SUPPLY}
    ),
    standing as (
        select i.*, is_void, is_held, is_frozen, is_orphaned,
               not (is_void or is_held or is_frozen or is_orphaned) as by_line,
               (is_frozen or is_orphaned) and not (is_void or is_held) as by_sum
        from billing.tenant_invoices i
        left join held on held.tenant_id = i.tenant_id
        left join orphaned on orphaned.invoice_id = i.id
        cross join lateral (
            select i.status = 'void' as is_void, held.tenant_id is not null as is_held,
                   i.status = 'paid'
                       or num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at, i.delivered_at) > 0 as is_frozen,
                   orphaned.invoice_id is not null as is_orphaned
        ) flags
        where i.period_start = %(month)s
    )
"""

# Whether the invoice v has no GST: it says why; or it has none and no line for it, and either its tenant has none now,
# or it is settled, did not begin here, and is so large that there would be some.
WITHOUT_GST = """
    (case when v.meta ? 'gst_free_reason' then true
          when v.tax_cents <> 0 then false
          when 'tax' in (select kind from billing.tenant_invoice_lines
                         where invoice_id = v.id and period_start = v.period_start) then false
          when (select max(nullif(btrim(gst_free_reason), '')) from cloud.tenants where id = v.tenant_id) is not null
              then true
          else (v.status = 'paid' or v.delivered_at is not null
                or num_nonnulls(v.finance_invoice_id, v.pushed_to_finance_at) > 0)
               and v.subtotal_cents not between -4 and 4
               and not coalesce((select bool_or(event in ('issued', 'drafted')) from billing.invoice_events
                                 where invoice_id = v.id), false) end)
"""
