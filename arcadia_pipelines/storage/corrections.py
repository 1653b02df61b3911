"""Corrections: what a locked invoice bills too little or too much, and the later invoice that carries the difference.

Belongs here: the difference (invoice_corrections), and which month carries it. Does not: the line that it becomes
(billing/invoice.py). Each difference is carried exactly once: a month carries what is owed less what other months
carry, and months are published one at a time (database.month_at_an_instant), so that two cannot carry the same.
"""

from collections.abc import Sequence
from uuid import UUID

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.invoice import ADJUSTMENTS
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.catalogue import GST_FREE
from arcadia_pipelines.storage.kinds import CHARGES

# Without discounts and commitments an invoice charges what is quoted.
_UNLIKE_THEIR_QUOTES = f"""
    select i.tenant_id
    from billing.tenant_invoices i
    left join lateral (
        select sum(amount_cents) as cents from billing.tenant_invoice_lines l
        where l.invoice_id = i.id and l.period_start = %(month)s and l.kind in {CHARGES}
    ) billed on true
    left join (
        select tenant_id, sum(amount_cents) as cents from billing.deployment_quote_lines
        where period_start = %(month)s group by 1
    ) quoted on quoted.tenant_id = i.tenant_id
    where i.period_start = %(month)s and billing.is_correctable(i)
      and coalesce(billed.cents, 0) <> coalesce(quoted.cents, 0)
"""
_COMPARE = f"""
    create temporary table found on commit drop as
    select i.tenant_id, i.invoice_number, coalesce(billed.cents, 0)::bigint as billed_cents,
           owed.cents as owed_cents
    from unnest(%(tenants)s::text[], %(owed)s::bigint[]) as owed (tenant_id, cents)
    join billing.tenant_invoices i on i.tenant_id = owed.tenant_id
    left join lateral (
        select sum(amount_cents) as cents from billing.tenant_invoice_lines l
        where l.invoice_id = i.id and l.period_start = %(month)s and l.kind in {CHARGES}
    ) billed on true
    where i.period_start = %(month)s and billing.is_correctable(i) and coalesce(billed.cents, 0) <> owed.cents
"""
# What a tenant that is held back owes is unknown: its correction stays as it was.
_DROP_OTHERS = """
    delete from billing.invoice_corrections c
    where c.period_start = %(month)s
      and not exists (select from found f where f.tenant_id = c.tenant_id
                                            and f.billed_cents = c.billed_cents and f.owed_cents = c.owed_cents)
      and not exists (select from billing.quote_faults q where q.period_start = %(month)s and q.tenant_id = c.tenant_id)
"""
_ADD = """
    insert into billing.invoice_corrections
        (period_start, tenant_id, invoice_number, billed_cents, owed_cents, run_id)
    select %(month)s, f.tenant_id, f.invoice_number, f.billed_cents, f.owed_cents, %(run)s from found f
    where not exists (select from billing.quote_faults q where q.period_start = %(month)s and q.tenant_id = f.tenant_id)
    on conflict do nothing
"""

# A line that another program wrote may not name a month: then it corrects no invoice that we know.
_CORRECTS = r"""
    case when l.meta ->> 'corrects' ~ '^[1-9]\d\d\d-(0[1-9]|1[0-2])-01$' then (l.meta ->> 'corrects')::date end
"""
# A line that does not say whether it was taxed was taxed like the rest of its invoice. One from before corrections had
# a GST status of their own counts as if it had the status of the invoice that it corrects: its GST was settled by hand.
_STANDING_LINES = f"""
    select i.tenant_id, i.period_start, i.status, l.amount_cents, l.corrects, l.written as written_taxable,
           case when l.is_old then coalesce(not {GST_FREE.format("c")}, l.written) else l.written end as taxable
    from billing.tenant_invoices i
    cross join lateral (
        select l.amount_cents, {_CORRECTS} as corrects,
               coalesce(l.meta ->> 'taxable' = 'true', not {GST_FREE.format("i")}) as written,
               not l.meta ? 'taxable' and least(l.inserted_at, i.issued_at) < (
                   select applied_at from billing.schema_migrations where name = '0012_billed_subscriptions.sql'
               ) as is_old
        from billing.tenant_invoice_lines l
        where l.invoice_id = i.id and l.kind in ('credit', 'adjustment') and l.meta ? 'corrects'
    ) l
    left join billing.tenant_invoices c on c.tenant_id = i.tenant_id and c.period_start = l.corrects
    where l.corrects is not null
"""
# For an invoice that was voided since, nothing is owed.
_DIFFERENCES = f"""
    select c.tenant_id, c.period_start as corrects, not {GST_FREE.format("i")} as taxable,
           c.difference_cents as cents
    from billing.invoice_corrections c
    join billing.tenant_invoices i on i.tenant_id = c.tenant_id and i.period_start = c.period_start
    where i.status in ('issued', 'paid')
"""
# What is owed less what invoices carry, taxed and untaxed amounts apart: a taxed amount is credited with its GST.
_OUTSTANDING = f"""
    select tenant_id, corrects, taxable, sum(cents)::bigint as amount_cents
    from (
        {_DIFFERENCES}
        union all
        select tenant_id, corrects, taxable, -amount_cents from ({_STANDING_LINES}) s where {{lines}}
    ) d
    group by 1, 2, 3 having sum(cents) <> 0
"""
# The newest month carries what is outstanding. An issued invoice of an older month, and a locked invoice, keeps what it
# carries: later changes go on a newer invoice. A draft of an older month was reopened, and others may carry its share.
# A line of an issued invoice keeps the GST status that was written while its amount stays the same.
_CARRIED_BY = f"""
    with kept as (
        select tenant_id from billing.tenant_invoices i
        where period_start = %(month)s
          and (billing.is_locked(i)
               or status = 'issued' and exists (select from billing.tenant_invoices where period_start > %(month)s))
    ),
    standing as (select * from ({_STANDING_LINES}) l where period_start = %(month)s),
    issued as (
        select tenant_id, corrects, written_taxable, sum(amount_cents) as amount_cents
        from standing where status = 'issued' and written_taxable <> taxable group by 1, 2, 3
    ),
    carried as (
        select tenant_id, corrects, written_taxable as taxable, amount_cents
        from standing where tenant_id in (select tenant_id from kept)
        union all
        select tenant_id, corrects, coalesce(written_taxable, taxable), amount_cents
        from ({_OUTSTANDING.format(lines="period_start <> %(month)s and status <> 'void'")}) outstanding
        left join issued using (tenant_id, corrects, amount_cents)
        where corrects < %(month)s
          and not exists (select from billing.tenant_invoices where period_start > %(month)s)
          and tenant_id not in (select tenant_id from kept)
          and tenant_id in (select id from cloud.tenants)
          and not exists (select from billing.quote_faults q
                          where q.period_start = %(month)s and q.tenant_id = outstanding.tenant_id)
    )
    select c.tenant_id, c.corrects::text as corrects, i.invoice_number, c.amount_cents, c.taxable
    from carried c join billing.tenant_invoices i on i.tenant_id = c.tenant_id and i.period_start = c.corrects
"""

_LEFT_TO = f"""
    select d.tenant_id, d.corrects::text as corrects, i.invoice_number, d.amount_cents, d.taxable
    from ({_OUTSTANDING.format(lines="period_start <> %(month)s and status <> 'void'")}) d
    join billing.tenant_invoices i on i.tenant_id = d.tenant_id and i.period_start = d.corrects
    where d.corrects < %(month)s
"""

OUTSTANDING = f"""
    select d.tenant_id, d.corrects, i.invoice_number, d.amount_cents as outstanding_cents, d.taxable
    from ({_OUTSTANDING.format(lines="status <> 'void'")}) d
    join billing.tenant_invoices i on i.tenant_id = d.tenant_id and i.period_start = d.corrects
"""
"""The differences that no invoice carries yet: one row per tenant, corrected month and GST status."""

_CARRIED_ELSEWHERE = f"""
    select coalesce(i.invoice_number, i.id::text) as invoice, i.tenant_id, i.period_start
    from billing.tenant_invoice_lines l
    join billing.tenant_invoices i on i.id = l.invoice_id
    join ({_OUTSTANDING.format(lines="status <> 'void'")}) beyond
        on beyond.tenant_id = i.tenant_id and beyond.corrects = {_CORRECTS}
    where i.id = any(%(ids)s) and l.kind in ('credit', 'adjustment')
"""


def outdated(connection: Connection, invoices: Sequence[UUID]) -> list[tuple[str, str, BillingMonth]]:
    """The invoices whose correction is on others too, or has changed since: number, tenant, month."""
    rows = connection.exec_driver_sql(_CARRIED_ELSEWHERE, {"ids": list(invoices)})
    return [(invoice, tenant, BillingMonth(start)) for invoice, tenant, start in rows]


def unlike_their_quotes(connection: Connection, month: BillingMonth) -> list[str]:
    """The tenants whose locked invoice of the month charges another sum than their quotes, for whatever reason."""
    found = connection.exec_driver_sql(_UNLIKE_THEIR_QUOTES, {"month": month.start})
    return list(found.scalars())


def record(connection: Connection, month: BillingMonth, owed: pd.DataFrame, run_id: str) -> None:
    """Bring the month's invoice_corrections up to date; nothing is written if nothing has changed.

    `owed` has what locked invoices would charge now (tenant_id, charges_cents), at least of those unlike their quotes.
    Every other one charges what is owed, but for tenants with a fault, whose corrections stay.
    """
    parameters = {
        "month": month.start,
        "run": run_id,
        "tenants": owed["tenant_id"].tolist(),
        "owed": owed["charges_cents"].tolist(),
    }
    for statement in (_COMPARE, _DROP_OTHERS, _ADD):
        connection.exec_driver_sql(statement, parameters)


def carried_by(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The corrections of earlier months that the month's invoices carry, as invoice.ADJUSTMENTS."""
    return bulk.read(connection, _CARRIED_BY, ADJUSTMENTS, {"month": month.start})


def left_to(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The corrections of earlier months that no other month carries, as invoice.ADJUSTMENTS.

    The month's own lines are not read: if it carried every correction that was due, it carried these.
    """
    return bulk.read(connection, _LEFT_TO, ADJUSTMENTS, {"month": month.start})
