"""The API's SQL: read-only transactions as the role arcadia_api, for one principal, with bound parameters only.

A connection has that role from its first byte on, and a transaction says for whom it is before it reads: what forgets
to sees nothing.

Each statement says itself which rows it wants, so that an index finds them; row-level security would drop the others
anyway (sql/migrations/0004_api.sql). PostgreSQL writes the JSON documents of schemas.py, exact, in one pass.
"""

import base64
import binascii
import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

WAIT_SECONDS = 5.0  # for a free connection
LONGEST_QUEUE = 500  # requests that wait for one
RECONNECT_SECONDS = 4.0  # then the next request tries again: after an outage nobody waits for a long back-off
STATEMENT_MILLISECONDS = 15_000

_OPTIONS = (
    "-c role=arcadia_api -c search_path=billing,cloud,public -c TimeZone=UTC -c default_transaction_read_only=on"
    rf" -c default_transaction_isolation=repeatable\ read -c statement_timeout={STATEMENT_MILLISECONDS}"
    f" -c idle_in_transaction_session_timeout={STATEMENT_MILLISECONDS}"
)
_WHO: LiteralString = (
    "select set_config('arcadia.role', %(role)s, true), set_config('arcadia.tenant_id', %(tenant)s, true)"
)
_INVOICE: LiteralString = """
    id, invoice_number, tenant_id, to_char(period_start, 'YYYY-MM') as period, period_start, period_end, currency,
    subtotal_cents, tax_cents, total_cents, status, issued_at, paid_at, finance_invoice_id, pushed_to_finance_at,
    updated_at, usage_cutoff, revision, content_sha256, meta
"""
_LINES: LiteralString = """
    select coalesce(json_agg(l), '[]')::text from (
        select line_no, deployment_id, deployment_name, kind, resource_kind, description, qty::text as qty, unit,
               unit_price_cents::text as unit_price_cents, amount_cents, meta
        from billing.tenant_invoice_lines where invoice_id = %(id)s and period_start = %(period)s order by line_no
    ) l
"""
_EVENTS: LiteralString = """
    select coalesce(json_agg(e), '[]')::text from (
        select id, event, revision, total_cents, content_sha256, operator, reason, run_id, occurred_at, snapshot
        from billing.invoice_events where invoice_id = %(id)s order by id
    ) e
"""


class InvalidCursor(ValueError):
    """The text is no cursor that a page came with."""


@dataclass(frozen=True)
class Place:
    """A place in the list of invoices, newest first: after the invoice with this month and id."""

    period_start: dt.date
    invoice_id: uuid.UUID

    @classmethod
    def parse(cls, cursor: str) -> "Place":
        """The place that a cursor stands for. Raises InvalidCursor."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=")
            place = cls(BillingMonth.parse(raw[:-16].decode("ascii")).start, uuid.UUID(bytes=raw[-16:]))
        except (ValueError, binascii.Error, InvalidMonth) as error:
            raise InvalidCursor("not a cursor of ours: take next_cursor of the page before, as it is") from error
        if place.cursor != cursor:
            raise InvalidCursor("not a cursor of ours: take next_cursor of the page before, as it is")
        return place

    @property
    def cursor(self) -> str:
        """The opaque text that parse() understands."""
        raw = f"{self.period_start:%Y-%m}".encode() + self.invoice_id.bytes
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class Wanted:
    """Which invoices: None means any."""

    period_start: dt.date | None = None
    status: str | None = None
    tenant_id: str | None = None


def pool(url: str, connections: int) -> Pool:
    """A pool that is not open yet. It opens without waiting for the database, and finds it again after an outage."""
    return AsyncConnectionPool(
        url,
        connection_class=AsyncConnection[tuple[Any, ...]],
        kwargs={
            "application_name": "arcadia api",
            "connect_timeout": 5,
            "options": _OPTIONS,
            "autocommit": True,
        },
        min_size=min(2, connections),
        max_size=connections,
        timeout=WAIT_SECONDS,
        max_waiting=LONGEST_QUEUE,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
    )


async def _ask(on: Pool, who: Principal, query: LiteralString, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The query's rows: of the database at one instant, what the principal may see.

    Both statements go out together, and what goes out together is one transaction: the settings end with it.
    Raises psycopg.OperationalError where no connection is to be had.
    """
    async with on.connection() as connection:
        async with connection.pipeline():
            await connection.execute(_WHO, {"role": who.role, "tenant": who.tenant_id or ""})
            cursor = await connection.execute(query, parameters)
        return await cursor.fetchall()


async def page(
    on: Pool, who: Principal, wanted: Wanted, after: Place | None, size: int
) -> tuple[list[str], Place | None]:
    """So many invoices as JSON (schemas.Invoice), newest first, and the place of the last if there are more."""
    query, parameters = list_query(who, wanted, after, size + 1)
    found = await _ask(on, who, query, parameters)
    last = Place(*found[size - 1][1:]) if len(found) > size else None
    return [document for document, _, _ in found[:size]], last


async def invoice(on: Pool, who: Principal, invoice_id: uuid.UUID) -> tuple[str, dt.date] | None:
    """The invoice without its lines as JSON (schemas.Invoice), and its month; None where there is none to be seen."""
    query: LiteralString = (
        "select row_to_json(i)::text, period_start"
        f" from (select {_INVOICE} from billing.tenant_invoices where id = %(id)s{_own(who)}) i"
    )
    for document, period_start in await _ask(on, who, query, {"id": invoice_id, "tenant": who.tenant_id}):
        return document, period_start
    return None


async def invoice_with_lines(
    on: Pool, who: Principal, invoice_id: uuid.UUID, period_start: dt.date
) -> tuple[str, str] | None:
    """The invoice of this month as JSON (schemas.Invoice), and its lines in order (a list of schemas.InvoiceLine).

    One statement, so that both are of one instant; the month, which an invoice never changes, names the partition.
    """
    query, parameters = with_lines_query(who, invoice_id, period_start)
    for document, lines in await _ask(on, who, query, parameters):
        return document, lines
    return None


async def events(on: Pool, who: Principal, invoice_id: uuid.UUID) -> str:
    """What happened to the invoice, in order, as JSON (a list of schemas.InvoiceEvent)."""
    [[document]] = await _ask(on, who, _EVENTS, {"id": invoice_id})
    return str(document)


async def ready(on: Pool) -> None:
    """Return if invoices could be read now. Raises psycopg.Error."""
    await _ask(on, Principal("tenant"), "select from billing.tenant_invoices limit 0", {})


def _own(who: Principal) -> LiteralString:
    return "" if who.is_admin else " and tenant_id = %(tenant)s and status <> 'draft'"


def with_lines_query(
    who: Principal, invoice_id: uuid.UUID, period_start: dt.date
) -> tuple[LiteralString, dict[str, Any]]:
    """The query of an invoice and its lines, both as JSON, and its parameters."""
    query: LiteralString = (
        f"select row_to_json(i)::text, ({_LINES})"
        f" from (select {_INVOICE} from billing.tenant_invoices where id = %(id)s{_own(who)}) i"
    )
    return query, {"id": invoice_id, "period": period_start, "tenant": who.tenant_id}


def list_query(who: Principal, wanted: Wanted, after: Place | None, size: int) -> tuple[LiteralString, dict[str, Any]]:
    """The query of so many invoices as JSON, each with its place in the list, and its parameters."""
    conditions: LiteralString = "true" + _own(who)
    if wanted.period_start:
        conditions += " and period_start = %(period)s"
    if wanted.status:
        conditions += " and status = %(status)s"
    if who.is_admin and wanted.tenant_id:
        conditions += " and tenant_id = %(tenant)s"
    if after:
        conditions += " and (period_start, id) < (%(after_period)s, %(after_id)s)"
    query: LiteralString = (
        "select row_to_json(i)::text, period_start, id"
        f" from (select {_INVOICE} from billing.tenant_invoices where {conditions}"
        " order by period_start desc, id desc limit %(limit)s) i"
    )
    return query, {
        "period": wanted.period_start,
        "status": wanted.status,
        "tenant": who.tenant_id or wanted.tenant_id,
        "limit": size,
        "after_period": after and after.period_start,
        "after_id": after and after.invoice_id,
    }
