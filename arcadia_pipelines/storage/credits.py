"""Manual lines and promotional credit: which month carries a line, and how much of a grant each month may take.

Both follow from the lines of invoices that are not void: a void one gives back what it had. Months are published one at
a time (database.month_at_an_instant), so that no two take the same.

Belongs here: what a month may carry. Does not: entering it (entered.py), the lines that it becomes
(billing/credits.py), corrections of earlier months (corrections.py).
"""

from collections.abc import Sequence
from uuid import UUID

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.credits import GRANTS, MANUAL_LINES
from arcadia_pipelines.billing.invoice import Carried
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import bulk, corrections

STANDING = """
    select i.tenant_id, i.period_start, i.invoice_number, i.status, l.manual_line, l.grant_id, l.cents, l.left_cents
    from billing.tenant_invoices i
    cross join lateral (
        select l.meta ->> 'manual_line' as manual_line, l.meta ->> 'grant' as grant_id, l.amount_cents as cents,
               case when l.meta ->> 'left' ~ '^[0-9]{1,18}$' then (l.meta ->> 'left')::bigint end as left_cents
        from billing.tenant_invoice_lines l
        where l.invoice_id = i.id and l.period_start = i.period_start and l.kind in ('credit', 'adjustment')
          and l.meta ?| array['manual_line', 'grant']
    ) l
    where i.status <> 'void'
      and i.tenant_id in (select tenant_id from billing.manual_lines union select tenant_id from billing.credit_grants)
"""
"""The lines of both kinds on invoices that are not void, drafts included: one row per line."""
_TIME = "to_char({0} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
_MAY_CHANGE = """
    {0}.tenant_id in (select id from cloud.tenants)
    and not exists (select from billing.quote_faults q
                    where q.period_start = %(month)s and q.tenant_id = {0}.tenant_id)
"""
_IS_NEWEST = "not exists (select from billing.tenant_invoices where period_start > %(month)s)"
_CANNOT_TAKE_IT = "(due.id is not null and billing.is_locked(due) or m.period_start < %(first)s)"
"""Whether the month of the manual line `m`, whose invoice is `due`, cannot take it: locked, or never invoiced."""
# An issued invoice keeps what it has, even if a draft was reopened that has it too: the draft gives way. What stands is
# summed per line, and per grant, before it is joined: a subquery for each of them would read all of it each time.
_MANUAL_LINES = f"""
    with carried as materialized (
        select tenant_id, manual_line, bool_or(period_start = %(month)s) as here,
               bool_or(period_start <> %(month)s) as elsewhere,
               bool_or(period_start <> %(month)s and status <> 'draft') as issued_elsewhere
        from ({STANDING}) s where manual_line is not null group by 1, 2
    )
    select m.tenant_id, m.id::text as manual_line, m.period_start::text as period_start,
           {_TIME.format("m.entered_at")} as entered_at, m.amount_cents, m.description
    from billing.manual_lines m
    left join billing.tenant_invoices own on own.tenant_id = m.tenant_id and own.period_start = %(month)s
    left join billing.tenant_invoices due on due.tenant_id = m.tenant_id and due.period_start = m.period_start
    left join carried on carried.tenant_id = m.tenant_id and carried.manual_line = m.id::text
    where m.period_start <= %(month)s
      and case
          when own.id is not null and billing.is_locked(own) then here
          when here and own.status = 'issued' then not issued_elsewhere
          when elsewhere then false
          when here or m.period_start = %(month)s then true
          else {_CANNOT_TAKE_IT} and {_IS_NEWEST}
      end
      and (here and own.status <> 'draft' or {_MAY_CHANGE.format("m")})
"""
# As corrections: a locked invoice, and an issued one of an older month, keeps what it took. Any other one may take what
# others left; what an issued one has it may keep beside a draft that was reopened.
_GRANTS = f"""
    with taken as materialized (
        select tenant_id, grant_id, -sum(cents) filter (where period_start = %(month)s) as here,
               min(left_cents) filter (where period_start = %(month)s) as left_here,
               -sum(cents) filter (where period_start <> %(month)s) as elsewhere,
               -sum(cents) filter (where period_start <> %(month)s and status <> 'draft') as issued_elsewhere
        from ({STANDING}) s where grant_id is not null group by 1, 2
    ),
    balances as (
        select g.*, taken.here as stood, taken.left_here as stood_left, own.status,
               g.amount_cents - coalesce(taken.elsewhere, 0) as remaining,
               g.amount_cents - coalesce(taken.issued_elsewhere, 0) as remaining_beside_issued,
               own.id is not null and (billing.is_locked(own) or own.status = 'issued' and not {_IS_NEWEST}) as is_kept
        from billing.credit_grants g
        left join billing.tenant_invoices own on own.tenant_id = g.tenant_id and own.period_start = %(month)s
        left join taken on taken.tenant_id = g.tenant_id and taken.grant_id = g.id::text
    ),
    allowed as (
        select b.*,
               case when is_kept then coalesce(stood, 0)
                    when expires_on <= %(month)s or not ({_MAY_CHANGE.format("b")}) then 0
                    when status = 'issued' then greatest(remaining, least(coalesce(stood, 0), remaining_beside_issued))
                    else remaining end as available
        from balances b
    )
    select tenant_id, id::text as grant_id, expires_on::text as expires_on, {_TIME.format("granted_at")} as granted_at,
           description, available::bigint as available_cents,
           (case when is_kept then coalesce(stood_left + stood, available)
                 else greatest(remaining, available) end)::bigint as left_cents,
           stood::bigint as stood_cents, stood_left as stood_left_cents
    from allowed where available > 0
"""
# As carried, but by an invoice whose own lines are lost.
_MANUAL_LINES_LEFT = f"""
    with carried as materialized (
        select distinct tenant_id, manual_line
        from ({STANDING}) s where manual_line is not null and period_start <> %(month)s
    )
    select m.tenant_id, m.id::text as manual_line, m.period_start::text as period_start,
           {_TIME.format("m.entered_at")} as entered_at, m.amount_cents, m.description
    from billing.manual_lines m
    left join billing.tenant_invoices due on due.tenant_id = m.tenant_id and due.period_start = m.period_start
    where (m.period_start = %(month)s or m.period_start < %(month)s and {_CANNOT_TAKE_IT})
      and not exists (select from carried where carried.tenant_id = m.tenant_id and carried.manual_line = m.id::text)
"""
_GRANTS_LEFT = f"""
    with taken as materialized (
        select tenant_id, grant_id, -sum(cents) as cents
        from ({STANDING}) s where grant_id is not null and period_start <> %(month)s group by 1, 2
    )
    select g.tenant_id, g.id::text as grant_id, g.expires_on::text as expires_on,
           {_TIME.format("g.granted_at")} as granted_at, g.description, remaining::bigint as available_cents,
           remaining::bigint as left_cents, null::bigint as stood_cents, null::bigint as stood_left_cents
    from billing.credit_grants g
    left join taken on taken.tenant_id = g.tenant_id and taken.grant_id = g.id::text
    cross join lateral (select g.amount_cents - coalesce(taken.cents, 0) as remaining) balance
    where remaining > 0 and coalesce(g.expires_on > %(month)s, true)
"""
_TWICE = f"""
    with standing as materialized ({STANDING}),
    twice as (
        select tenant_id, manual_line, null as grant_id from standing
        where manual_line is not null group by 1, 2 having count(*) > 1
        union all
        select s.tenant_id, null, s.grant_id
        from standing s left join billing.credit_grants g on g.tenant_id = s.tenant_id and g.id::text = s.grant_id
        where s.grant_id is not null group by 1, 3 having -sum(s.cents) > coalesce(max(g.amount_cents), 0)
    )
    select distinct coalesce(i.invoice_number, i.id::text) as invoice, i.tenant_id, i.period_start
    from billing.tenant_invoices i
    join standing s on s.tenant_id = i.tenant_id and s.period_start = i.period_start
    join twice t on t.tenant_id = s.tenant_id and (t.manual_line = s.manual_line or t.grant_id = s.grant_id)
    where i.id = any(%(ids)s) order by 3, 2
"""


def carried_by(connection: Connection, month: BillingMonth) -> Carried:
    """What the month's invoices carry: corrections of earlier months, manual lines, and grants that may pay them."""
    return Carried(corrections.carried_by(connection, month), *_read(connection, month, _MANUAL_LINES, _GRANTS))


def left_to(connection: Connection, month: BillingMonth) -> Carried:
    """What no other month carries: of corrections, manual lines and grants.

    The month's own lines are not read: if it carried all that was due, it carried this.
    """
    return Carried(corrections.left_to(connection, month), *_read(connection, month, _MANUAL_LINES_LEFT, _GRANTS_LEFT))


def _read(connection: Connection, month: BillingMonth, lines: str, grants: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    parameters = {"month": month.start, "first": Settings.from_environment().first_month.start}
    return bulk.read(connection, lines, MANUAL_LINES, parameters), bulk.read(connection, grants, GRANTS, parameters)


def outdated(connection: Connection, invoices: Sequence[UUID]) -> list[tuple[str, str, BillingMonth]]:
    """The invoices with a manual line that is on another too, or of an overdrawn grant: number, tenant, month."""
    rows = connection.exec_driver_sql(_TWICE, {"ids": list(invoices)})
    return [(invoice, tenant, BillingMonth(start)) for invoice, tenant, start in rows]
