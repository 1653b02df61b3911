"""That what a locked invoice bills too little or too much is carried by one later invoice, once."""

from arcadia_pipelines.proof.audits.kinds import applied, audit
from arcadia_pipelines.proof.audits.standing import WITHOUT_GST

AUDITS = [
    applied("corrections", "corrections_have_a_tenant"),
    audit(
        "corrections",
        "corrections_are_carried_once",
        "Each adjustment or credit that was not entered by hand says which earlier month it corrects. What a tenant's "
        "standing invoices carry of a month sums to no more than its difference in invoice_corrections, and has its "
        "sign and the GST status of that month's invoice; beyond that only while the tenant's next invoice, which "
        "takes it back, is still to come. Not yet carried is fine.",
        "Materialise the tenant's newest month again; if it stays, compare the lines named with invoice_corrections.",
        rf"""
            with released as (
                select min(applied_at) as at from billing.schema_migrations
                where name = '0012_billed_subscriptions.sql'
            ),
            status as not materialized (
                select tenant_id, period_start, period_start::text as month, {WITHOUT_GST} as is_free
                from billing.tenant_invoices v
            ),
            carried as (
                select i.tenant_id, i.id as invoice_id, i.invoice_number, i.period_start, l.line_no, l.description,
                       l.amount_cents, l.inserted_at, l.meta ->> 'corrects' as corrects,
                       case when l.meta ->> 'taxable' in ('true', 'false') then l.meta ->> 'taxable' = 'true'
                            when l.inserted_at < released.at or i.issued_at < released.at
                                then not coalesce(corrected.is_free, own.is_free)
                            else not own.is_free end as taxed,
                       i.status = 'paid' or num_nonnulls(
                           i.finance_invoice_id, i.pushed_to_finance_at, i.delivered_at) > 0 as is_frozen
                from billing.tenant_invoice_lines l
                join billing.tenant_invoices i on i.id = l.invoice_id
                cross join released
                join status own on own.tenant_id = i.tenant_id and own.period_start = i.period_start
                left join status corrected
                    on corrected.tenant_id = i.tenant_id and corrected.month = l.meta ->> 'corrects'
                where l.kind in ('credit', 'adjustment') and i.status <> 'void'
                  and not l.meta ?| array['manual_line', 'grant']  -- see entered.py
            ),
            sums as (
                select tenant_id, corrects, taxed, sum(amount_cents) as cents, max(period_start) as newest_month,
                       max(inserted_at) as newest_line, bool_and(is_frozen) as all_frozen,
                       sum(sum(amount_cents)) over (partition by tenant_id, corrects) as cents_in_all
                from carried group by 1, 2, 3
            ),
            owed as (
                select s.*, coalesce(c.difference_cents, 0) as difference_in_all, c.found_at,
                       case when s.taxed <> corrected.is_free then coalesce(c.difference_cents, 0)
                            else 0 end as difference_cents
                from sums s
                left join billing.invoice_corrections c
                    on c.tenant_id = s.tenant_id and c.period_start::text = s.corrects
                left join status corrected
                    on corrected.tenant_id = c.tenant_id and corrected.period_start = c.period_start
            ),
            beyond as (
                select * from owed
                where cents not between least(difference_cents, 0) and greatest(difference_cents, 0)
            ),
            settled as (
                select b.* from beyond b
                where not (b.all_frozen and b.cents_in_all between least(b.difference_in_all, 0)
                                                               and greatest(b.difference_in_all, 0))
                  and (b.newest_line >= b.found_at
                       or exists (select from billing.tenant_invoices i
                                  where i.tenant_id = b.tenant_id and i.status <> 'void'
                                    and i.period_start > b.newest_month
                                    and (b.found_at is null or b.found_at <= (
                                        select min(l.inserted_at) from billing.tenant_invoice_lines l
                                        where l.invoice_id = i.id and l.period_start = i.period_start))))
            )
            select c.invoice_number, c.tenant_id, c.line_no, c.description, c.corrects, c.amount_cents,
                   s.cents as carried_in_all_cents, s.difference_cents
            from carried c
            left join settled s on s.tenant_id = c.tenant_id and s.corrects = c.corrects and s.taxed = c.taxed
            where c.period_start = %(month)s
              and (s.tenant_id is not null or c.corrects is null or c.corrects !~ '^\d{{4}}-(0[1-9]|1[0-2])-01$'
                   or c.corrects collate "C" >= %(month)s::date::text collate "C")
            order by abs(c.amount_cents) desc, c.tenant_id, c.line_no
        """,
    ),
]
"""What is proved of a month, from the raw records to the numbers."""
