"""Controls of a month's invoices: their sums, their GST, whose there are, what they carry, and that they arrive.

Belongs here: the controls of tenant_invoices. Does not: those of usage and quotes (usage_controls.py), what finance is
told of invoices (finance_controls.py), the audits that no run makes (audits/). See control.py.
"""

from arcadia_pipelines.proof.control import Control
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, GST_FREE
from arcadia_pipelines.storage.corrections import OUTSTANDING
from arcadia_pipelines.storage.credits import STANDING
from arcadia_pipelines.storage.ledger import INVOICED_MONTHS, VOIDED_BY_AN_OPERATOR

CONTROLS = [
    Control(
        name="totals_equal_lines",
        asset="tenant_invoices",
        description="Each invoice's subtotal and tax are the sums of its lines, numbered without a gap.",
        remedy="An invoice or a line was changed outside the pipeline: compare it with invoice_events.",
        query="""
            with sums as (
                select invoice_id, sum(amount_cents) filter (where kind <> 'tax') as subtotal,
                       sum(amount_cents) filter (where kind = 'tax') as tax, count(*) as lines, max(line_no) as last
                from billing.tenant_invoice_lines where period_start = %(month)s group by 1
            )
            select i.invoice_number, i.tenant_id, i.subtotal_cents, s.subtotal as lines_subtotal_cents, i.tax_cents,
                   s.tax as lines_tax_cents
            from billing.tenant_invoices i left join sums s on s.invoice_id = i.id
            where i.period_start = %(month)s
              and ((i.subtotal_cents, i.tax_cents) is distinct from (s.subtotal, coalesce(s.tax, 0))
                   or s.lines <> s.last)
            order by i.tenant_id
        """,
    ),
    Control(
        name="gst_recomputed_a_second_way",
        asset="tenant_invoices",
        description="Each invoice's GST is a tenth of its taxable lines by integers, half a cent up.",
        remedy="The tax is not what the lines say: compare with invoice_events, then re-materialise the month.",
        query=f"""
            with sums as (
                select invoice_id, sum(amount_cents)::bigint as cents
                from billing.tenant_invoice_lines where period_start = %(month)s and kind <> 'tax' group by 1
            ),
            otherwise as (
                select invoice_id, sum(amount_cents) filter (where meta ->> 'taxable' = 'true')::bigint as taxed,
                       sum(amount_cents) filter (where meta ->> 'taxable' = 'false')::bigint as free
                from billing.tenant_invoice_lines
                where period_start = %(month)s and kind in ('credit', 'adjustment') group by 1
            )
            select i.invoice_number, i.tenant_id, t.cents as taxable_cents, i.tax_cents
            from billing.tenant_invoices i
            join sums s on s.invoice_id = i.id
            left join otherwise o on o.invoice_id = i.id
            cross join lateral (
                select case when {GST_FREE.format("i")} then coalesce(o.taxed, 0)
                            else s.cents - coalesce(o.free, 0) end as cents
            ) t
            where i.period_start = %(month)s and i.tax_cents <> sign(t.cents) * ((abs(t.cents) + 5) / 10)
            order by i.tenant_id
        """,
    ),
    Control(
        name="every_billable_tenant_is_invoiced",
        asset="tenant_invoices",
        description="Every tenant with a subscription in the month, and no fault, has an invoice, which is not void "
        "unless an operator has voided it.",
        remedy="Materialise the month again; a void invoice stays void until an operator reopens it.",
        query=f"""
            select s.tenant_id, count(*) as subscriptions, max(i.status) as invoice_status
            from ({BILLED_SUBSCRIPTIONS}) s
            left join billing.tenant_invoices i on i.tenant_id = s.tenant_id and i.period_start = %(month)s
            where (i.id is null or i.status = 'void' and not {VOIDED_BY_AN_OPERATOR})
              and s.tenant_id not in (select tenant_id from billing.quote_faults
                                      where period_start = %(month)s and tenant_id is not null)
            group by 1 order by 1
        """,
    ),
    Control(
        name="every_month_before_is_invoiced",
        asset="tenant_invoices",
        warning=True,
        description="Every month from the first billing month to this one is invoiced.",
        remedy="Materialise them, oldest first, or start the sensor invoice_missed_months.",
        query=f"""
            select to_char(missed, 'YYYY-MM') as month
            from generate_series(%(first)s::date, %(month)s::date - 1, interval '1 month') missed
            where missed::date not in ({INVOICED_MONTHS}) order by 1
        """,
    ),
    Control(
        name="gst_status_of_frozen_invoices",
        asset="tenant_invoices",
        warning=True,
        description="Every issued or paid invoice of the month has GST, or none, as its tenant has now.",
        remedy="It keeps the status that it was issued with. If that was wrong for the month: void it, reopen it and "
        "run the month again, which issues it with today's; what is wrong on a paid one is for people to settle.",
        query=f"""
            select i.invoice_number, i.tenant_id, i.status, i.tax_cents,
                   i.meta ->> 'gst_free_reason' as invoiced_reason,
                   nullif(btrim(t.gst_free_reason), '') as reason_now
            from billing.tenant_invoices i join cloud.tenants t on t.id = i.tenant_id
            where i.period_start = %(month)s and i.status in ('issued', 'paid')
              and {GST_FREE.format("i")} <> (nullif(btrim(t.gst_free_reason), '') is not null)
            order by i.tenant_id
        """,
    ),
    Control(
        name="corrections_are_carried",
        asset="tenant_invoices",
        warning=True,
        description="What a paid, delivered or pushed invoice of the month bills too little or too much is on a later "
        "invoice.",
        remedy="The tenant's next invoice carries it: nothing to do.",
        query=f"""
            select * from ({OUTSTANDING}) o where corrects = %(month)s and tenant_id in (select id from cloud.tenants)
            order by abs(outstanding_cents) desc, tenant_id
        """,
    ),
    Control(
        name="corrections_have_a_tenant",
        asset="tenant_invoices",
        description="What is still to be corrected of the month and those before is of tenants that exist.",
        remedy="No invoice carries it: restore the tenant in tenants, and its next invoice does.",
        query=f"""
            select * from ({OUTSTANDING}) o
            where corrects <= %(month)s and tenant_id not in (select id from cloud.tenants)
            order by abs(outstanding_cents) desc, tenant_id
        """,
    ),
    Control(
        name="manual_lines_are_carried",
        asset="tenant_invoices",
        warning=True,
        description="Every manual line of the month and those before is on an invoice.",
        remedy="If its month's invoice is locked, the tenant's next invoice carries it: nothing to do. Else "
        "materialise the month that it was entered for.",
        query=f"""
            select to_char(m.period_start, 'YYYY-MM') as entered_for, m.tenant_id, m.description, m.amount_cents,
                   m.operator, i.invoice_number, i.status
            from billing.manual_lines m
            left join billing.tenant_invoices i on i.tenant_id = m.tenant_id and i.period_start = m.period_start
            where m.period_start <= %(month)s
              and not exists (select from ({STANDING}) s
                              where s.tenant_id = m.tenant_id and s.manual_line = m.id::text)
            order by m.period_start, abs(m.amount_cents) desc, m.tenant_id, m.id
        """,
    ),
    Control(
        name="earlier_months_are_unchanged",
        asset="tenant_invoices",
        description="Every invoice of the twelve months before bills what its newest event says; its lines sum to it.",
        remedy="An invoice was changed outside the pipeline: compare it with invoice_events.",
        query="""
            with newest as (
                select distinct on (invoice_id) invoice_id, period_start, invoice_number, tenant_id, revision,
                       total_cents, content_sha256
                from billing.invoice_events
                where period_start >= %(month)s::date - interval '12 months' and period_start < %(month)s
                order by invoice_id, id desc
            ),
            sums as (
                select invoice_id, sum(amount_cents) as cents from billing.tenant_invoice_lines
                where period_start >= %(month)s::date - interval '12 months' and period_start < %(month)s group by 1
            ),
            standing as (
                select id as invoice_id, period_start, invoice_number, tenant_id, revision, total_cents, content_sha256
                from billing.tenant_invoices
                where period_start >= %(month)s::date - interval '12 months' and period_start < %(month)s
            )
            select coalesce(i.period_start, e.period_start) as period_start,
                   coalesce(i.invoice_number, e.invoice_number) as invoice_number,
                   coalesce(i.tenant_id, e.tenant_id) as tenant_id, i.total_cents,
                   e.total_cents as event_total_cents, s.cents as lines_total_cents
            from standing i
            full join newest e using (invoice_id)
            left join sums s using (invoice_id)
            where (i.revision, i.total_cents, i.content_sha256)
                      is distinct from (e.revision, e.total_cents, e.content_sha256)
               or i.total_cents is distinct from s.cents
            order by 1, 3
        """,
    ),
    Control(
        name="emails_reach_their_tenants",
        asset="tenant_invoices",
        description="No e-mail of the month's invoices was refused, came back, or is uncertain.",
        remedy="Correct the tenant's billing_email, and send it again: `arcadia settle-email INVOICE --outcome again "
        "--recipient ADDRESS`, then `arcadia deliver --email MONTH`. Of an uncertain one, see first in the server's log"
        " whether it was taken: then `--outcome sent`. The invoice is delivered whether it arrived or not.",
        query="""
            select i.invoice_number, i.tenant_id, o.recipient, o.state, o.said, o.changed_at, i.total_cents
            from billing.email_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
            where o.period_start = %(month)s
              and (o.state = 'uncertain'
                   or o.state = 'refused' and (i.status <> 'void' or o.document_state = 'void')
                   or o.state = 'sending' and o.changed_at < now() - interval '1 hour')
            order by abs(i.total_cents) desc, i.invoice_number
        """,
    ),
    Control(
        name="cancelled_invoices_are_taken_back",
        asset="tenant_invoices",
        description="Each invoice of the month that was voided after it was delivered is taken back by an adjustment "
        "note that was delivered too.",
        remedy="Within 28 days of `cancelled_on` the tenant is owed an adjustment note, unless its GST is $75 or less "
        "(GST Act 1999, s 29-75(2) and s 29-80(2)): `arcadia deliver INVOICE`, or `arcadia deliver --email MONTH`.",
        warning=True,
        query="""
            select i.invoice_number, i.tenant_id, billing.cancelled_on(i.id) as cancelled_on, i.tax_cents, i.total_cents
            from billing.tenant_invoices i
            where i.period_start = %(month)s and i.status = 'void' and i.delivered_at is not null
              and not exists (select from billing.documents d where d.invoice_id = i.id and d.state = 'void')
            order by abs(i.total_cents) desc, i.invoice_number
        """,
    ),
]
