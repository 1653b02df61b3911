"""Controls of what finance is told of invoices (finance_outbox). See control.py."""

from arcadia_pipelines.proof.control import Control

CONTROLS = [
    Control(
        name="finance_refuses_no_invoice",
        asset="finance_invoices",
        description="Finance has refused none of the month's invoices.",
        remedy="Mend there what `said` names (409: it has other content; 412: another version; 422: its period is "
        "closed, or it does not know the tenant), then run `arcadia finance push MONTH --refused`. If the invoice is "
        "wrong, correct what it is made from and run the month again: finance is told of the revision.",
        query="""
            select i.invoice_number, o.tenant_id, o.operation, o.revision, o.last_error as said, i.total_cents
            from billing.finance_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
            where o.period_start = %(month)s and o.state = 'refused'
              and not exists (select from billing.finance_outbox later
                              where later.invoice_id = o.invoice_id and later.id > o.id
                                and later.operation in (o.operation, 'void') and later.state = 'confirmed')
            order by abs(i.total_cents) desc, i.invoice_number
        """,
    ),
    Control(
        name="finance_is_told_within_a_day",
        asset="finance_invoices",
        description="What finance is to be told of the month's invoices has been confirmed or refused within a day.",
        remedy="See that finance runs and answers, and that ARCADIA_FINANCE_URL and ARCADIA_FINANCE_TOKEN are right; "
        "then run `arcadia finance push MONTH`. An uncertain one is looked up there by its id; nothing is sent twice.",
        query="""
            select i.invoice_number, o.tenant_id, o.operation, o.state, o.tried_since, o.attempts, o.last_error as said
            from billing.finance_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
            where o.period_start = %(month)s and o.state in ('pending', 'sending', 'uncertain') and not o.held
              and o.tried_since < now() - interval '1 day'
            order by o.state = 'pending', o.tried_since, i.invoice_number
        """,
    ),
]
