"""What operators enter by hand: manual lines and grants of promotional credit; and the list of a tenant's.

Belongs here: checking and writing what is entered, and saying which invoice has it. Does not: which month carries what
(credits.py), how it is asked for (pipeline/jobs.py). Both tables are append-only: what is wrong is entered again the
other way round.
"""

import datetime as dt
import re
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.catalogue import UnknownTenant
from arcadia_pipelines.storage.credits import STANDING
from arcadia_pipelines.storage.operations import OperationRefused, Row

_MOST_CENTS = 10**15
_MOST_OF_A_MONTH = 100 * _MOST_CENTS
"""What a tenant's lines of a month may sum to: beside the most that usage comes to, an invoice holds it with GST."""
_LONGEST = 200
_ADD_LINE = """
    insert into billing.manual_lines (tenant_id, period_start, amount_cents, description, operator, reason, run_id)
    values (%(tenant)s, %(month)s, %(cents)s, %(description)s, %(operator)s, %(reason)s, %(run)s)
    returning id::text
"""
_SUM = """
    select coalesce(sum(amount_cents), 0) from billing.manual_lines
    where tenant_id = %(tenant)s and period_start = %(month)s
"""
_GRANT = """
    insert into billing.credit_grants (tenant_id, amount_cents, expires_on, description, operator, reason, run_id)
    values (%(tenant)s, %(cents)s, %(expires_on)s, %(description)s, %(operator)s, %(reason)s, %(run)s)
    returning id::text
"""
_LINES = f"""
    with standing as materialized (select * from ({STANDING}) s where tenant_id = %(tenant)s)
    select m.id::text as manual_line, to_char(m.period_start, 'YYYY-MM') as month, m.amount_cents, m.description,
           case when carried.period_start is not null
                    then coalesce(carried.invoice_number, 'a draft of ' || to_char(carried.period_start, 'YYYY-MM'))
                when t.id is null then 'waiting: the tenant is not in tenants'
                when due.id is null and m.period_start >= %(first)s
                    then 'waiting for ' || to_char(m.period_start, 'YYYY-MM') || ' to be run'
                when due.id is null then 'waiting for the next invoice'
                when billing.is_locked(due) then 'waiting for the next invoice: ' || invoice || ' is locked'
                else 'waiting for ' || to_char(m.period_start, 'YYYY-MM') || ' to be run again, for ' || invoice
           end as invoice,
           to_char(carried.period_start, 'YYYY-MM') as invoice_month,
           m.operator, m.reason, m.entered_at, m.run_id
    from billing.manual_lines m
    left join (select distinct id from cloud.tenants) t on t.id = m.tenant_id
    left join billing.tenant_invoices due on due.tenant_id = m.tenant_id and due.period_start = m.period_start
    left join lateral (
        select s.period_start, s.invoice_number from standing s
        where s.tenant_id = m.tenant_id and s.manual_line = m.id::text order by s.period_start limit 1
    ) carried on true
    cross join lateral (
        select coalesce(due.invoice_number, 'the draft of ' || to_char(due.period_start, 'YYYY-MM')) as invoice
    ) named
    where m.tenant_id = %(tenant)s order by m.period_start, m.entered_at, m.id
"""
_GRANTS = f"""
    with standing as materialized (select * from ({STANDING}) s where tenant_id = %(tenant)s)
    select g.id::text as grant_id, g.description, g.amount_cents,
           g.amount_cents - coalesce(taken.cents, 0) as left_cents, g.expires_on, g.operator, g.reason, g.granted_at,
           g.run_id, coalesce(taken.invoices, '[]') as invoices
    from billing.credit_grants g
    left join lateral (
        select -sum(s.cents)::bigint as cents,
               jsonb_agg(jsonb_build_object('month', to_char(s.period_start, 'YYYY-MM'),
                                            'invoice', coalesce(s.invoice_number, 'a draft'),
                                            'taken_cents', -s.cents) order by s.period_start) as invoices
        from standing s where s.tenant_id = g.tenant_id and s.grant_id = g.id::text
    ) taken on true
    where g.tenant_id = %(tenant)s order by g.expires_on nulls last, g.granted_at, g.id
"""


def add_line(
    connection: Connection, tenant: str, month: BillingMonth, amount: str, description: str, author: Author
) -> str:
    """Enter a charge, or a credit below 0, in dollars ex GST, for the invoice of that month; returns its id.

    No month may run meanwhile: the transaction must be database.exclusive_transaction(). Raises OperationRefused.
    """
    first = Settings.from_environment().first_month
    if month < first:
        raise OperationRefused(f"{month} is never invoiced: the first billing month is {first} (ARCADIA_FIRST_MONTH)")
    cents = _cents(amount)
    _refuse_sum(connection, tenant, month, cents)
    return _enter(connection, _ADD_LINE, tenant, cents, description, author, month=month.start)


def grant(connection: Connection, tenant: str, amount: str, expires_on: str, description: str, author: Author) -> str:
    """Grant promotional credit in dollars ex GST, for months that begin before the day of expiry; returns its id.

    An empty `expires_on` is never. The transaction is as for add_line(). Raises OperationRefused.
    """
    cents = _cents(amount)
    if cents < 0:
        raise OperationRefused(f"amount {amount!r} is below 0: a grant is what the tenant may use, like 100.00")
    return _enter(connection, _GRANT, tenant, cents, description, author, expires_on=_expiry(expires_on))


def lines_of(connection: Connection, tenant: str) -> list[Row]:
    """The tenant's manual lines, each with the invoice that has it, or why it is waiting. Raises UnknownTenant."""
    return _listed(connection, _LINES, tenant)


def grants_of(connection: Connection, tenant: str) -> list[Row]:
    """The tenant's grants, each with what is left, and the invoices that took the rest. Raises UnknownTenant."""
    return _listed(connection, _GRANTS, tenant)


def _listed(connection: Connection, query: str, tenant: str) -> list[Row]:
    parameters = {"tenant": tenant, "first": Settings.from_environment().first_month.start}
    rows: list[Row] = [dict(row) for row in connection.exec_driver_sql(query, parameters).mappings()]
    if not rows and not _exists(connection, tenant):
        raise UnknownTenant(f"no tenant {tenant!r}: the table tenants lists them all")
    return rows


def _exists(connection: Connection, tenant: str) -> bool:
    query = "select exists (select from cloud.tenants where id = %(tenant)s)"
    return bool(connection.exec_driver_sql(query, {"tenant": tenant}).scalar_one())


def _enter(
    connection: Connection,
    statement: str,
    tenant: str,
    cents: int,
    description: str,
    author: Author,
    **columns: dt.date | None,
) -> str:
    if not _exists(connection, tenant):
        raise OperationRefused(f"no tenant {tenant!r}: the table tenants lists them all")
    written = {"operator": author.operator, "reason": author.reason, "run": author.run_id, **columns}
    parameters = {"tenant": tenant, "cents": cents, "description": _described(description), **written}
    return str(connection.exec_driver_sql(statement, parameters).scalar_one())


def _refuse_sum(connection: Connection, tenant: str, month: BillingMonth, cents: int) -> None:
    """Refuse a line with which the tenant's lines of the month sum to more than an invoice holds."""
    entered = int(connection.exec_driver_sql(_SUM, {"tenant": tenant, "month": month.start}).scalar_one())
    if abs(entered + cents) > _MOST_OF_A_MONTH:
        raise OperationRefused(
            f"the manual lines of {tenant} for {month} sum to {dollars(entered)} already, and with this one to"
            f" {dollars(entered + cents)}: an invoice holds at most {dollars(_MOST_OF_A_MONTH)} of them, either way"
        )


def _cents(amount: str) -> int:
    """The amount in cents, exactly."""
    found = re.fullmatch(r"(-?)(\d+)(?:\.(\d{1,2}))?", amount.strip(), re.ASCII)
    if not found:
        raise OperationRefused(f"amount {amount!r} is not an amount: write dollars and cents like 12.50 or -12.50")
    cents = int(f"{found[1]}{found[2]}{(found[3] or '').ljust(2, '0')}")
    if not cents:
        raise OperationRefused("amount 0 changes nothing: give another one")
    if abs(cents) >= _MOST_CENTS:
        raise OperationRefused(f"amount {amount!r} is out of range: it must be below 10 trillion dollars")
    return cents


def _described(description: str) -> str:
    text = description.strip()
    if not text:
        raise OperationRefused("the description is empty: say what it is, for the tenant reads it on the invoice")
    if len(text) > _LONGEST or not text.isprintable():
        raise OperationRefused(f"the description must be one line of at most {_LONGEST} printable characters")
    return text


def _expiry(expires_on: str) -> dt.date | None:
    if not expires_on.strip():
        return None
    try:
        day = dt.date.fromisoformat(expires_on.strip())
    except ValueError as error:
        raise OperationRefused(f"expires {expires_on!r} is not a day: write it like 2027-06-30") from error
    today = dt.datetime.now(ZoneInfo("Australia/Sydney")).date()
    if day < today:
        raise OperationRefused(f"expires {day} is in the past: today is {today} in Sydney")
    return day
