"""What may be done to an invoice: the statements that change its status, number it and record the event.

Belongs here: what the month end (publication.py) and operators (operations.py) share. Does not: what is to be done.
"""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth

CHANGES = """
    create temporary table changes (
        restores boolean not null default false,
        action text, replaces boolean not null default false, id uuid, tenant_id text,
        subtotal_cents bigint, tax_cents bigint, total_cents bigint, content_sha256 text, lines_sha256 text, meta jsonb,
        place bigint
    ) on commit drop
"""
"""What is to become of a month's invoices, for the statements below: one row per invoice that changes.

They find it by its id: the planner, which has not heard of a new month, might go through the whole of it for each.
"""

_PLACE = "(%(last)s + {0}place + width_bucket({0}place, %(taken)s::bigint[]))::text"
NUMBER = f"%(series)s || lpad({_PLACE}, greatest(5, length({_PLACE})), '0')"
"""The number of what is issued for the first time, the `place`-th of the Numbers; null without place.

Takes the table's name with a point, or nothing.
"""
# A number that was ever issued is not issued again, even if its invoice is gone. What another system has put in does
# not count, whatever its form.
_LAST_NUMBER = """
    select coalesce(max(split_part(invoice_number, '-', 3)::bigint), 0) from billing.invoice_events
    where period_start = %(month)s and event = 'issued' and invoice_number ~ %(pattern)s
"""
# In the order of digits, whatever the collation: the index is enough.
_TAKEN = """
    select split_part(invoice_number, '-', 3)::bigint as place from billing.tenant_invoices
    where invoice_number between %(series)s || '00000' and %(series)s || '999999999'
      and invoice_number ~ %(pattern)s and split_part(invoice_number, '-', 3)::bigint > %(last)s
    order by place
"""
CHANGE_STATUS = f"""
    update billing.tenant_invoices i
    set status = case c.action when 'issue' then 'issued' when 'void' then 'void' when 'pay' then 'paid'
                               when 'reopen' then 'draft' else i.status end,
        invoice_number = coalesce(i.invoice_number, {NUMBER.format("c.")}),
        issued_at = coalesce(i.issued_at, case c.action when 'issue' then now() end),
        paid_at = case c.action when 'pay' then coalesce(%(paid_at)s, greatest(now(), i.issued_at)) else i.paid_at end,
        finance_invoice_id = case when c.action <> 'withdraw' then i.finance_invoice_id end,
        pushed_to_finance_at = case when c.action <> 'withdraw' then i.pushed_to_finance_at end,
        updated_at = greatest(now(), i.updated_at)
    from changes c
    where c.action in ('issue', 'void', 'pay', 'reopen', 'withdraw') and i.id = c.id
"""
RECORD = """
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id)
    select i.id, i.invoice_number, i.tenant_id, i.period_start,
           case c.action when 'add' then 'issued' when 'draft' then 'drafted' when 'issue' then 'issued'
                         when 'void' then 'voided' when 'pay' then 'paid' when 'reopen' then 'reopened'
                         when 'withdraw' then 'withdrawn' else 'rebuilt' end,
           i.revision, i.total_cents, i.content_sha256, %(operator)s, %(reason)s, %(run)s
    from changes c
    join billing.tenant_invoices i on i.id = c.id
    where c.action in ('add', 'draft', 'issue', 'void', 'pay', 'reopen', 'withdraw') or c.restores
    order by i.tenant_id collate "C"
"""


@dataclass(frozen=True)
class Author:
    """Who changes invoices, why, and in which Dagster run."""

    operator: str
    reason: str
    run_id: str


@dataclass(frozen=True)
class Numbers:
    """A month's series of numbers: the last that was given, and what somebody else has taken of those after it."""

    last: int
    taken: tuple[int, ...] = ()

    @property
    def places(self) -> list[int]:
        """For each number that is taken, the first place among the free ones that is after it."""
        return [number - self.last - before for before, number in enumerate(self.taken)]

    def after(self, count: int) -> "Numbers":
        """What is left once so many are given."""
        last = self.last + count + sum(place <= count for place in self.places)
        return Numbers(last, tuple(number for number in self.taken if number > last))


def numbers(connection: Connection, month: BillingMonth) -> Numbers:
    """The month's series as it stands: INV-YYYYMM-NNNNN."""
    series = _series(month)
    parameters = {"month": month.start, "series": series, "pattern": f"^{series}([0-9]{{5}}|[1-9][0-9]{{5,8}})$"}
    last = int(connection.exec_driver_sql(_LAST_NUMBER, parameters).scalar_one())
    taken = connection.exec_driver_sql(_TAKEN, {**parameters, "last": last}).scalars()
    return Numbers(last, tuple(taken))


def _series(month: BillingMonth) -> str:
    return f"INV-{month.start:%Y%m}-"


def act_parameters(
    month: BillingMonth, author: Author, left: Numbers, paid_at: dt.datetime | None = None
) -> dict[str, object]:
    """What the statements on `changes` take; `left` is numbers() before them."""
    return {
        "last": left.last,
        "taken": left.places,
        "month": month.start,
        "series": _series(month),
        "operator": author.operator,
        "reason": author.reason,
        "run": author.run_id,
        "paid_at": paid_at,
    }
