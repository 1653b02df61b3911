"""The statements that change an invoice's status, give it a number and record the event.

Belongs here: what the month end (publication.py) and operators (operations.py) share. Does not: deciding which invoice
changes; that what is locked stays locked, which the database enforces (sql/migrations/0017_tamper_evidence.sql).
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
"""The changes to a month's invoices, which the statements below carry out: one row per invoice that changes.

They join on the id: the planner has no statistics of a new month, and might scan all of it for each row.
"""

DUE_ON = "(coalesce(i.issued_at, now()) at time zone 'UTC')::date + {}.payment_terms_days"
"""SQL for the day when invoice i is to be paid, if it is issued now at the latest. Takes who sells, as SUPPLIER."""
SUPPLIER = """(
    select id, payment_terms_days from billing.suppliers
    where effective_from <= %(month)s order by effective_from desc, id desc limit 1
)"""
"""SQL for who sells in the month, as entered until now: one row, or none. Takes `month`."""

_PLACE = "(%(last)s + {0}place + width_bucket({0}place, %(taken)s::bigint[]))::text"
NUMBER = f"%(series)s || lpad({_PLACE}, greatest(5, length({_PLACE})), '0')"
"""SQL for the number of an invoice that is issued for the first time: the `place`-th free one; null without a place.

Takes the table's alias with a point, or nothing.
"""
# No number is issued twice, even if its invoice is gone. Another system's do not count, whatever their form.
_LAST_NUMBER = """
    select coalesce(max(split_part(invoice_number, '-', 3)::bigint), 0) from billing.invoice_events
    where period_start = %(month)s and event = 'issued' and invoice_number ~ %(pattern)s
"""
# Digits sort alike in every collation, so the index on invoice_number finds these.
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
        supplier_id = case c.action when 'issue' then coalesce(i.supplier_id, c.supplier_id) else i.supplier_id end,
        due_on = case c.action when 'issue' then coalesce(i.due_on, {DUE_ON.format("c")}) else i.due_on end,
        paid_at = case c.action when 'pay' then coalesce(%(paid_at)s, greatest(now(), i.issued_at)) else i.paid_at end,
        finance_invoice_id = case when c.action <> 'withdraw' then i.finance_invoice_id end,
        pushed_to_finance_at = case when c.action <> 'withdraw' then i.pushed_to_finance_at end,
        updated_at = greatest(now(), i.updated_at)
    from (
        select c.*, s.id as supplier_id, s.payment_terms_days
        from changes c left join {SUPPLIER} s on c.action = 'issue'
    ) c
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
    """A month's series of invoice numbers: the last one issued, and later ones that another system has taken."""

    last: int
    taken: tuple[int, ...] = ()
    prefix: str = "INV"
    """How a number begins (billing.number_series)."""

    @property
    def places(self) -> list[int]:
        """For each taken number, the place of the first free number after it."""
        return [number - self.last - before for before, number in enumerate(self.taken)]

    def after(self, count: int) -> "Numbers":
        """The series after `count` more numbers are issued."""
        last = self.last + count + sum(place <= count for place in self.places)
        return Numbers(last, tuple(number for number in self.taken if number > last), self.prefix)


def numbers(connection: Connection, month: BillingMonth) -> Numbers:
    """The month's series as it is now. A number reads INV-YYYYMM-NNNNN, or has the database's own prefix."""
    prefix = connection.exec_driver_sql("select billing.number_prefix()").scalar_one()
    series = _series(prefix, month)
    parameters = {"month": month.start, "series": series, "pattern": f"^{series}([0-9]{{5}}|[1-9][0-9]{{5,8}})$"}
    last = int(connection.exec_driver_sql(_LAST_NUMBER, parameters).scalar_one())
    taken = connection.exec_driver_sql(_TAKEN, {**parameters, "last": last}).scalars()
    return Numbers(last, tuple(taken), prefix)


def _series(prefix: str, month: BillingMonth) -> str:
    return f"{prefix}-{month.start:%Y%m}-"


def act_parameters(
    month: BillingMonth, author: Author, left: Numbers, paid_at: dt.datetime | None = None
) -> dict[str, object]:
    """The parameters of the statements on `changes`; `left` is what numbers() returned before they run."""
    return {
        "last": left.last,
        "taken": left.places,
        "month": month.start,
        "series": _series(left.prefix, month),
        "operator": author.operator,
        "reason": author.reason,
        "run": author.run_id,
        "paid_at": paid_at,
    }
