"""That each manual line is billed once, and that promotional credit pays what it may, soonest to expire first."""

from arcadia_pipelines.proof.audits.kinds import audit

# Of an invoice that was void and is a draft again, others may have its lines by now: it cannot be issued like that.
_REOPENED = """
    (i.status = 'draft' and (select e.event from billing.invoice_events e
                             where e.invoice_id = i.id and e.event in ('reopened', 'redrafted', 'drafted')
                             order by e.id desc limit 1) is not distinct from 'reopened')
"""
_LINES = f"""
    lines as (
        select i.id as invoice_id, i.invoice_number, i.tenant_id, i.period_start, i.status, l.line_no, l.kind,
               l.description, l.amount_cents, l.meta, l.inserted_at, {_REOPENED} as is_reopened
        from billing.tenant_invoices i
        join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
        where i.status <> 'void' and l.kind in ('credit', 'adjustment') and l.meta ?| array['manual_line', 'grant']
          and i.tenant_id in (
              select tenant_id from billing.manual_lines union select tenant_id from billing.credit_grants
              union select tenant_id from billing.tenant_invoices where period_start = %(month)s)
    )
"""
_MADE_AT = """
    (select max(inserted_at) from billing.tenant_invoice_lines made
     where made.invoice_id = {0}.id and made.period_start = {0}.period_start)
"""

AUDITS = [
    audit(
        "entered",
        "manual_lines_are_billed_once",
        "Each line with meta manual_line is as an operator entered it, for this month or an earlier one, and on no "
        "other invoice that is not void. Each manual line of the month is on an invoice, unless none was made since it "
        "was entered that could have it.",
        "Materialise the month again; of a line that is on two invoices, void one. Else compare with manual_lines.",
        f"""
            with {_LINES},
            counted as (
                select l.*, count(*) filter (where not is_reopened)
                                over (partition by tenant_id, meta ->> 'manual_line') as times
                from lines l where meta ? 'manual_line'
            ),
            latest as (select max(period_start) as month from billing.tenant_invoices)
            select c.invoice_number, c.tenant_id, c.line_no, c.description, c.amount_cents, c.times,
                   m.amount_cents as entered_cents, m.id::text as manual_line
            from counted c
            left join billing.manual_lines m on m.tenant_id = c.tenant_id and m.id::text = c.meta ->> 'manual_line'
            where c.period_start = %(month)s
              and (m.id is null or c.times > 1 or c.amount_cents <> m.amount_cents or c.period_start < m.period_start
                   or c.meta ->> 'period_start' is distinct from m.period_start::text or c.meta ? 'corrects'
                   or c.kind || ': ' || m.description <> lower(left(c.description, 1)) || substr(c.description, 2)
                   or (c.kind = 'credit') <> (m.amount_cents < 0))
            union all
            select i.invoice_number, m.tenant_id, null, m.description, null, 0, m.amount_cents, m.id::text
            from billing.manual_lines m
            cross join latest
            join billing.tenant_invoices i on i.tenant_id = m.tenant_id and i.status <> 'void'
            left join billing.tenant_invoices due on due.tenant_id = m.tenant_id and due.period_start = m.period_start
            where m.period_start = %(month)s and {_MADE_AT.format("i")} > m.entered_at
              and not exists (select from counted c where c.meta ->> 'manual_line' = m.id::text)
              and (i.period_start = m.period_start and i.status <> 'paid' and i.delivered_at is null
                       and num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at) = 0
                   or i.period_start = latest.month and i.period_start > m.period_start
                       and (due.status in ('paid', 'void')
                            or num_nonnulls(due.finance_invoice_id, due.pushed_to_finance_at, due.delivered_at) > 0)
                       and due.updated_at < {_MADE_AT.format("i")})
            order by 2, 3, 8
        """,
    ),
    audit(
        "entered",
        "promotional_credit_is_within_its_grants",
        "Each line with meta grant is a credit from a grant of its tenant that has not expired. All invoices that are "
        "not void take no more of a grant than it is, none goes below 0 by it, and one that expires sooner is used up "
        "before the next. The newest invoice of a tenant leaves nothing to pay while a grant is left.",
        "Materialise the tenant's newest month again. If it stays, compare the lines named with credit_grants.",
        f"""
            with {_LINES},
            taken as (select l.*, l.meta ->> 'grant' as grant_id from lines l where l.meta ? 'grant'),
            sums as (
                select tenant_id, grant_id, -sum(amount_cents) as cents,
                       -sum(amount_cents) filter (where not is_reopened) as cents_but_reopened
                from taken group by 1, 2
            ),
            rests as (
                select i.id as invoice_id, i.tenant_id, sum(l.amount_cents) as cents,
                       bool_or(l.meta ? 'grant') as is_credited, max(l.inserted_at) as made_at
                from billing.tenant_invoices i
                join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
                where i.period_start = %(month)s and i.status <> 'void' and l.kind <> 'tax' group by 1, 2
            ),
            wrong as (
                select t.*, g.amount_cents as granted_cents, s.cents as taken_in_all_cents,
                       case
                       when g.id is null then 'the tenant has no such grant'
                       when t.kind <> 'credit' or t.amount_cents >= 0 or t.meta ? 'corrects' or t.meta ? 'manual_line'
                           then 'it is not a credit'
                       when t.description <> 'Credit: ' || g.description then 'the grant is described otherwise'
                       when g.expires_on <= t.period_start then 'the grant had expired'
                       when s.cents_but_reopened > g.amount_cents then 'more is taken than was granted'
                       when (t.meta ->> 'left')::numeric not between 0 and g.amount_cents + t.amount_cents
                           then 'what it says is left cannot be'
                       when r.cents < 0 then 'the invoice is below 0'
                       when (t.meta ->> 'left')::numeric > 0 and exists (
                           select from taken other
                           join billing.credit_grants o
                               on o.tenant_id = other.tenant_id and o.id::text = other.grant_id
                           where other.invoice_id = t.invoice_id
                             and (coalesce(o.expires_on, 'infinity'), o.granted_at, o.id)
                                 > (coalesce(g.expires_on, 'infinity'), g.granted_at, g.id))
                           then 'a later grant was used before it was used up'
                       end as why
                from taken t
                left join billing.credit_grants g on g.tenant_id = t.tenant_id and g.id::text = t.grant_id
                left join sums s on s.tenant_id = t.tenant_id and s.grant_id = t.grant_id
                left join rests r on r.invoice_id = t.invoice_id
                where t.period_start = %(month)s
            ),
            -- Made last of all of the tenant's, and of the newest month: it could take whatever others have left.
            newest as (
                select r.*, i.invoice_number from rests r
                join billing.tenant_invoices i on i.id = r.invoice_id
                where i.status in ('draft', 'issued')
                  and num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at, i.delivered_at) = 0
                  and not exists (select from billing.tenant_invoices later where later.period_start > %(month)s)
                  and not exists (select from billing.tenant_invoices other
                                  where other.tenant_id = i.tenant_id and other.id <> i.id
                                    and greatest(other.updated_at, {_MADE_AT.format("other")}) >= r.made_at)
                  and not exists (select from billing.quote_faults f
                                  where f.period_start = %(month)s and f.tenant_id = i.tenant_id)
                  and not exists (select from billing.tenant_holds h where h.tenant_id = i.tenant_id)
            )
            select invoice_number, tenant_id, line_no, description, amount_cents, granted_cents, taken_in_all_cents, why
            from wrong where why is not null
            union all
            select n.invoice_number, n.tenant_id, null, g.description, n.cents, g.amount_cents, coalesce(s.cents, 0),
                   'it is left, and the invoice has something to pay, or a later grant pays it'
            from newest n
            join billing.credit_grants g
                on g.tenant_id = n.tenant_id and g.granted_at < n.made_at
               and coalesce(g.expires_on > %(month)s, true)
            left join sums s on s.tenant_id = g.tenant_id and s.grant_id = g.id::text
            where g.amount_cents > coalesce(s.cents, 0)
              and (n.cents > 0 or exists (
                       select from taken other
                       join billing.credit_grants o on o.tenant_id = other.tenant_id and o.id::text = other.grant_id
                       where other.invoice_id = n.invoice_id
                         and (coalesce(o.expires_on, 'infinity'), o.granted_at, o.id)
                             > (coalesce(g.expires_on, 'infinity'), g.granted_at, g.id)))
            order by 2, 3, 4
        """,
    ),
]
"""What is proved of what operators enter by hand."""
