"""What finance is to be told (finance_outbox): written with the change itself, claimed, settled.

Belongs here: the payload, in one place, and the states of a row. Does not: HTTP, or when to try again (finance/).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings


class State(StrEnum):
    """Of a row: whether finance has been told."""

    PENDING = "pending"
    """Finance certainly does not have it."""
    SENDING = "sending"
    """It is on its way; if nobody holds the row's lock, whoever sent it has died."""
    UNCERTAIN = "uncertain"
    """Finance may have it: it is asked before anything is sent again."""
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class Operation(StrEnum):
    """What finance is told of an invoice."""

    PUT = "put"
    VOID = "void"
    PAYMENT = "payment"


FINANCE: LiteralString = "finance"
"""The operator of what finance tells us, such as a payment: it is not told that again."""
OPEN: LiteralString = "('pending', 'sending', 'uncertain')"
"""The states of what finance is still to be told, in SQL."""

_LINE: LiteralString = """json_build_object(
    'line_id', l.id, 'kind', l.kind, 'description', l.description, 'deployment_id', l.deployment_id,
    'resource_kind', l.resource_kind, 'quantity', l.qty::text, 'unit_price_cents', l.unit_price_cents::text,
    'price_per', l.price_per::text, 'amount_cents', l.amount_cents, 'gst_cents', g.gst_cents)"""
_INVOICE: LiteralString = """json_build_object(
    'invoice_id', i.id, 'number', i.invoice_number, 'revision', i.revision,
    'document', case when i.total_cents < 0 then 'adjustment_note' else 'tax_invoice' end,
    'adjusts', coalesce(l.adjusts, '[]'),
    'tenant', json_build_object('id', i.tenant_id, 'name', coalesce(i.meta ->> 'tenant_name', i.tenant_id),
                                'abn', i.meta ->> 'tenant_abn'),
    'period', json_build_object('start', i.period_start, 'end', i.period_end),
    'issued_on', (i.issued_at at time zone 'UTC')::date, 'due_on', i.due_on, 'currency', i.currency,
    'lines', coalesce(l.lines, '[]'), 'subtotal_cents', i.subtotal_cents, 'gst_cents', i.tax_cents,
    'total_cents', i.total_cents, 'content_sha256', i.content_sha256)"""
_ENQUEUE: LiteralString = """
    insert into billing.finance_outbox
        (invoice_id, tenant_id, period_start, revision, operation, payload, payload_sha256, held)
    select i.id, i.tenant_id, i.period_start, i.revision, '{operation}', p.payload,
           encode(sha256(convert_to(p.payload, 'UTF8')), 'hex'), %(held)s
    from billing.tenant_invoices i {more}
    cross join lateral (select ({payload})::text as payload) p
    where i.period_start = %(month)s and (%(ids)s::uuid[] is null or i.id = any(%(ids)s))
      and i.invoice_number is not null and ({condition})
"""
_UNWRITTEN: LiteralString = """
    not exists (select from billing.finance_outbox o
                where o.invoice_id = i.id and o.revision = i.revision and o.operation = '{operation}')
"""
# Which invoices come first, so that only their lines are read. In one pass: a month may be as new as this transaction,
# and the planner, which knows nothing of its rows, might read all of it for each invoice.
_UNTOLD: LiteralString = f"""
    select array_agg(i.id) from billing.tenant_invoices i
    where i.period_start = %(month)s and (%(ids)s::uuid[] is null or i.id = any(%(ids)s))
      and i.invoice_number is not null and i.status in ('issued', 'paid') and {_UNWRITTEN.format(operation="put")}
      and (num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at) = 0  -- else it went there without us
           or exists (select from billing.finance_outbox o where o.invoice_id = i.id and o.operation = 'put'))
"""
_PUT = _ENQUEUE.format(
    operation="put",
    payload=_INVOICE,
    condition="true",
    more=f"""left join (
        select l.invoice_id, json_agg({_LINE} order by l.line_no) as lines,
               coalesce(json_agg(distinct l.meta ->> 'invoice_number')
                        filter (where l.meta ? 'corrects' and l.meta ? 'invoice_number'), '[]') as adjusts
        from billing.tenant_invoice_lines l
        join billing.invoice_line_gst g
            on g.invoice_id = l.invoice_id and g.period_start = l.period_start and g.line_no = l.line_no
        where l.period_start = %(month)s and g.period_start = %(month)s
          and l.invoice_id = any(%(ids)s) and g.invoice_id = any(%(ids)s)
        group by l.invoice_id
    ) l on l.invoice_id = i.id""",
)
_ACT: LiteralString = """json_build_object('invoice_id', i.id, 'number', i.invoice_number, 'revision', i.revision,
    'total_cents', i.total_cents, 'content_sha256', i.content_sha256{more})"""
_IS_TOLD: LiteralString = f"""
    exists (select from billing.finance_outbox o
            where o.invoice_id = i.id and o.operation = 'put'
              and (o.state in {OPEN} or o.state = 'confirmed' and i.finance_invoice_id is not null))
"""
"""Whether finance has the invoice from us, or is about to."""
_VOID = _ENQUEUE.format(
    operation="void",
    payload=_ACT.format(more=""),
    more="",
    condition=f"i.status = 'void' and {_IS_TOLD} and {_UNWRITTEN.format(operation='void')}",
)
_PAYMENT = _ENQUEUE.format(
    operation="payment",
    payload=_ACT.format(more=", 'paid_on', (i.paid_at at time zone 'UTC')::date"),
    more="",
    condition=f"""i.status = 'paid' and {_IS_TOLD} and {_UNWRITTEN.format(operation="payment")} and not exists (
        select from billing.invoice_events e
        where e.invoice_id = i.id and e.event = 'paid' and e.operator = '{FINANCE}')
    """,
)
# What was never sent, and is not so any more.
_SUPERSEDED = """
    delete from billing.finance_outbox o using billing.tenant_invoices i
    where o.period_start = %(month)s and o.state = 'pending' and o.operation = 'put' and i.id = o.invoice_id
      and o.revision < i.revision and (%(ids)s::uuid[] is null or i.id = any(%(ids)s))
"""


def enqueue(connection: Connection, month: BillingMonth, invoices: Collection[UUID] | None = None) -> int:
    """Write what finance is not told yet of the month's invoices, or of these; returns how many rows.

    Does nothing unless ARCADIA_FINANCE_URL is set. A revision that was never sent gives way to the one that stands.
    """
    settings = Settings.from_environment()
    if not settings.finance_url:
        return 0
    parameters: dict[str, object] = {
        "month": month.start,
        "ids": None if invoices is None else list(invoices),
        "held": settings.finance_hold,
    }
    connection.exec_driver_sql(_SUPERSEDED, parameters)
    untold = connection.exec_driver_sql(_UNTOLD, parameters).scalar_one()
    written = connection.exec_driver_sql(_PUT, {**parameters, "ids": untold}).rowcount if untold else 0
    for statement in (_VOID, _PAYMENT):
        written += connection.exec_driver_sql(statement, parameters).rowcount
    return written


_IN_FLIGHT = """
    select coalesce(i.invoice_number, i.id::text) as invoice
    from billing.finance_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
    where o.invoice_id = any(%(ids)s) and o.state in ('sending', 'uncertain') order by 1
"""


def in_flight(connection: Connection, invoices: Collection[UUID]) -> list[str]:
    """Those of the invoices of which it is not known whether finance has been told; by number."""
    return list(connection.exec_driver_sql(_IN_FLIGHT, {"ids": list(invoices)}).scalars())


def forget(connection: Connection, invoices: Collection[UUID]) -> None:
    """The invoices were reopened, and finance has none of them: once they are issued again, it is told anew."""
    connection.exec_driver_sql(
        "delete from billing.finance_outbox where invoice_id = any(%(i)s)", {"i": list(invoices)}
    )


def withdraw(connection: Connection, invoices: Collection[UUID]) -> None:
    """Finance does not have the invoices any more: it is not told that they are paid or void, but of a new revision."""
    parameters = {"ids": list(invoices)}
    for statement in (
        "delete from billing.finance_outbox"
        " where invoice_id = any(%(ids)s) and operation <> 'put' and state in ('pending', 'refused')",
        "update billing.finance_outbox set etag = null where invoice_id = any(%(ids)s) and etag is not null",
    ):
        connection.exec_driver_sql(statement, parameters)


_RELEASE = """
    update billing.finance_outbox set held = false
    where period_start = %(month)s and held and state in ('pending', 'sending', 'uncertain')
"""
_AGAIN = """
    update billing.finance_outbox o set state = 'pending', settled_at = null, tried_since = null
    where period_start = %(month)s and state = 'refused'
"""


def release(connection: Connection, month: BillingMonth) -> None:
    """Let the month's held rows be sent."""
    connection.exec_driver_sql(_RELEASE, {"month": month.start})


def take_refused_again(connection: Connection, month: BillingMonth) -> None:
    """Have the month's refused rows sent again: an operator says that what was wrong there is mended."""
    connection.exec_driver_sql(_AGAIN, {"month": month.start})


@dataclass(frozen=True)
class Message:
    """A claimed row."""

    id: int
    invoice_id: UUID
    revision: int
    operation: Operation
    payload: str
    attempts: int
    is_uncertain: bool
    """Finance may have it: an earlier attempt ended, and nobody knows how."""
    etag: str | None
    """Finance's version of the invoice, if it has confirmed an earlier revision of it."""
    is_known: bool
    """Whether finance has confirmed a revision of the invoice, this or another."""

    @property
    def document(self) -> dict[str, Any]:
        """What is sent."""
        found: dict[str, Any] = json.loads(self.payload)
        return found


_IS_FIRST: LiteralString = f"""
    not exists (
        select from billing.finance_outbox e
        where e.tenant_id = o.tenant_id and e.id < o.id and e.state in {OPEN}
          and (not e.held or e.invoice_id = o.invoice_id))
"""
"""Whether the open row `o` is its tenant's first; held ones of other invoices do not count."""
# What is `sending` here is nobody's: whoever sends holds its lock.
_CLAIM = f"""
    with due as materialized (
        select o.id from billing.finance_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
        where o.period_start = %(month)s and o.state in {OPEN} and not o.held
          and (o.due_at <= now() or %(at_once)s) and (o.attempted_at is null or o.attempted_at < %(since)s)
          and {_IS_FIRST}
        order by o.id limit %(most)s
        for update skip locked
    )
    update billing.finance_outbox o
    set state = case o.state when 'pending' then 'sending' else 'uncertain' end, attempts = o.attempts + 1,
        tried_since = coalesce(o.tried_since, clock_timestamp()), attempted_at = clock_timestamp()
    from due where o.id = due.id
    returning o.id, o.attempts
"""
_HOLD = """
    select o.id, o.invoice_id, o.revision, o.operation, o.payload, o.attempts, o.state = 'uncertain' as is_uncertain,
           b.etag, b.id is not null as is_known
    from billing.finance_outbox o
    join unnest(%(ids)s::bigint[], %(attempts)s::integer[]) c (id, attempts) on c.id = o.id and c.attempts = o.attempts
    left join lateral (
        select id, etag from billing.finance_outbox b
        where b.invoice_id = o.invoice_id and b.operation = 'put' and b.state = 'confirmed'
        order by b.revision desc limit 1
    ) b on true
    where o.state in ('sending', 'uncertain')
    order by o.id for update of o skip locked
"""


def claim(
    connection: Connection, month: BillingMonth, since: object, most: int, at_once: bool = False
) -> list[tuple[int, int]]:
    """Mark the next rows of the month as `sending`, or `uncertain`: (id, attempts). The caller commits and holds them.

    A tenant's rows come one after the other. Each is claimed once `since` an instant of the database's clock; with
    `at_once` also those that are not due yet. Rows and invoices that somebody else has locked are left for later.
    """
    parameters = {"month": month.start, "since": since, "most": most, "at_once": at_once}
    return [(row[0], row[1]) for row in connection.exec_driver_sql(_CLAIM, parameters)]


def hold(connection: Connection, claimed: Sequence[tuple[int, int]]) -> list[Message]:
    """Lock the claimed rows until the transaction ends, and read them. A row that somebody else took is not among them.

    The lock is what tells a row that is on its way from one whose sender has died.
    """
    parameters = {"ids": [row[0] for row in claimed], "attempts": [row[1] for row in claimed]}
    rows = connection.exec_driver_sql(_HOLD, parameters).mappings()
    return [Message(**{**row, "operation": Operation(row["operation"])}) for row in rows]


_SETTLE = """
    update billing.finance_outbox o
    set state = r.state, last_error = r.error, etag = coalesce(r.etag, o.etag),
        finance_invoice_id = coalesce(r.finance_invoice_id, o.finance_invoice_id),
        settled_at = case when r.state in ('confirmed', 'refused') then clock_timestamp() end,
        attempts = o.attempts - case when r.untried then 1 else 0 end,
        tried_since = case when not r.untried or o.attempts > 1 then o.tried_since end,
        due_at = clock_timestamp() + make_interval(secs => r.wait)
    from jsonb_to_recordset(%(results)s::jsonb) r
        (id bigint, state text, error text, etag text, finance_invoice_id text, untried boolean, wait float8)
    where o.id = r.id
"""
_PUSHED = """
    update billing.tenant_invoices i
    set finance_invoice_id = o.finance_invoice_id, pushed_to_finance_at = clock_timestamp(),
        updated_at = greatest(clock_timestamp(), i.updated_at)
    from billing.finance_outbox o
    where o.id = any(%(ids)s) and o.operation = 'put' and o.state = 'confirmed' and i.id = o.invoice_id
      and i.finance_invoice_id is null
"""


@dataclass(frozen=True)
class Result:
    """What became of a claimed row."""

    id: int
    state: State
    error: str | None = None
    finance_invoice_id: str | None = None
    etag: str | None = None
    wait: float = 0
    """Seconds until it is tried again."""
    untried: bool = False
    """Nothing was sent: the drain ended before."""


def settle(connection: Connection, results: Collection[Result]) -> None:
    """Record what became of the rows that the transaction holds; a confirmed invoice is with finance, and so locked."""
    written = json.dumps([vars(result) for result in results])
    connection.exec_driver_sql(_SETTLE, {"results": written})
    connection.exec_driver_sql(_PUSHED, {"ids": [result.id for result in results]})


_STATUS = """
    select period_start, state, operation, count(*) as rows, count(*) filter (where held) as held,
           min(due_at) filter (where state in ('pending', 'sending', 'uncertain')) as next_due_at,
           max(attempts) as most_attempts,
           (array_agg(last_error order by attempted_at desc nulls last) filter (where last_error is not null))[1]
               as last_error
    from billing.finance_outbox where (%(month)s::date is null or period_start = %(month)s)
    group by 1, 2, 3 order by 1, 2, 3
"""
_DUE_MONTHS = f"""
    select distinct o.period_start from billing.finance_outbox o
    where o.state in {OPEN} and not o.held and o.due_at <= now() and {_IS_FIRST} order by 1
"""


def status(connection: Connection, month: BillingMonth | None = None) -> list[Mapping[str, Any]]:
    """How many rows are in each state, by month and operation."""
    rows = connection.exec_driver_sql(_STATUS, {"month": month.start if month else None}).mappings()
    return [dict(row) for row in rows]


def due_months(connection: Connection) -> list[BillingMonth]:
    """The months with rows that are due."""
    return [BillingMonth(start) for start in connection.exec_driver_sql(_DUE_MONTHS).scalars()]


_TOLD = f"""
    select i.id::text as invoice_id, i.invoice_number, i.tenant_id, i.status, i.finance_invoice_id,
           (i.issued_at at time zone 'UTC')::date as issued_on, i.content_sha256, i.total_cents, o.is_open
    from billing.tenant_invoices i
    cross join lateral (
        select exists (select from billing.finance_outbox o where o.invoice_id = i.id and o.state in {OPEN}) as is_open
    ) o
    where i.period_start = %(month)s and (i.finance_invoice_id is not null or o.is_open)
    order by i.invoice_number
"""


def told(connection: Connection, month: BillingMonth) -> list[Mapping[str, Any]]:
    """The month's invoices that finance has or is to have; `is_open`: something is still to be told."""
    return [dict(row) for row in connection.exec_driver_sql(_TOLD, {"month": month.start}).mappings()]
