"""The API's SQL: read-only transactions as the role arcadia_api, for one principal, with bound parameters only.

A connection has that role before it is lent, and a transaction says for whom it is before it reads: a query without a
principal returns no rows. A list and an invoice are one statement each, which is one transaction and one round trip.
PostgreSQL writes the JSON of invoice_schemas.py: to make objects of fifty rows in Python, and JSON of these, took as
long as all the rest of a request. Each statement names the rows that it wants, so that an index finds them; row-level
security would drop the others anyway (sql/migrations/0004_api.sql).
"""

import base64
import binascii
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any, LiteralString, Self

from psycopg import AsyncConnection, OperationalError
from psycopg.rows import TupleRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.errors import InvalidInput
from arcadia_pipelines.storage import documents, session

WAIT_SECONDS = 5.0  # for a free connection
LONGEST_QUEUE = 500  # requests that wait for one
RECONNECT_SECONDS = 4.0  # then the next request tries again: after an outage nobody waits for a long back-off
STATEMENT_SECONDS = 15

SESSION = session.BASIC | {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "repeatable read",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
    "plan_cache_mode": "force_generic_plan",  # the texts differ by what is asked, so one plan each is enough
    "role": "arcadia_api",  # last: it may change less than whoever logs in
}
"""What the API's sessions rely on."""
LARGEST_PAGE = 200  # invoices
SHEET_ROWS = 1000  # read at a time

# Who asks, for this statement. Whatever is read names who.known, so that it waits for the settings; a plan that did not
# would show nothing, since without them the policies hide every row.
_WHO: LiteralString = """(
    select set_config('arcadia.role', %(role)s, true) || set_config('arcadia.tenant_id', %(tenant)s, true) as known
) who"""
_SUMMARY: LiteralString = """
    id, invoice_number, tenant_id, meta ->> 'tenant_name' as tenant_name, left(period_start::text, 7) as period,
    currency, subtotal_cents, tax_cents, total_cents, status, issued_at, paid_at, revision
"""
_CURSOR: LiteralString = "translate(encode(convert_to(period, 'UTF8') || uuid_send(id), 'base64'), '+/=', '-_')"
_LINES: LiteralString = """
    select json_agg(l order by line_no) from (
        select line_no, deployment_id, deployment_name, kind, resource_kind, description, qty::text as qty, unit,
               unit_price_cents::text as unit_price_cents, price_per::text as price_per, amount_cents, meta
        from billing.invoice_lines(i.id, i.period_start)
    ) l
"""
_INVOICE: LiteralString = f"""
    select id, invoice_number, tenant_id, left(period_start::text, 7) as period, period_start, period_end, currency,
           subtotal_cents, tax_cents, total_cents, status, issued_at, paid_at, finance_invoice_id, pushed_to_finance_at,
           delivered_at, due_on, updated_at, usage_cutoff, revision, content_sha256, meta,
           coalesce(({_LINES}), '[]') as lines
    from billing.tenant_invoices i where who.known is not null and id = %(id)s
"""
_EVENTS: LiteralString = """
    select json_build_object('items', coalesce(json_agg(e), '[]'))::text from (
        select id, event, revision, total_cents, content_sha256, operator, reason, run_id, occurred_at, snapshot
        from billing.invoice_events where invoice_id = %(id)s order by id
    ) e
"""
_DELIVER: LiteralString = (
    "select billing.deliver_download(%(invoice)s, %(revision)s, %(is_note)s, %(format)s, %(sha256)s, %(made_by)s)"
)
# Not a parameter: nearly every invoice is issued and hardly any is void, which wants another plan.
_STATUS: dict[str, LiteralString] = {
    "draft": " and status = 'draft'",
    "issued": " and status = 'issued'",
    "paid": " and status = 'paid'",
    "void": " and status = 'void'",
}


class InvalidCursor(InvalidInput):
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
        """The opaque text that parse() understands, as _CURSOR makes it."""
        raw = self.period_start.isoformat()[:7].encode() + self.invoice_id.bytes
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class Wanted:
    """Which invoices: None means any."""

    period_start: dt.date | None = None
    status: str | None = None
    tenant_id: str | None = None
    invoice_number: str | None = None


class Connection(AsyncConnection[TupleRow]):
    """psycopg's, and a class that knows why the last one could not be made, which the pool does not tell."""

    refusal = ""

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """As psycopg has it."""
        try:
            made = await super().connect(conninfo, **options)
        except OperationalError as error:
            cls.refusal = " ".join(str(error).split())
            raise
        cls.refusal = ""
        return made


Pool = AsyncConnectionPool[Connection]


def pool(url: str, connections: int) -> Pool:
    """So many connections at most, as the role arcadia_api, and a queue for them; not open yet.

    It finds the database again after an outage. Whoever would be the 501st in the queue, or waits for more than
    WAIT_SECONDS, has a psycopg.OperationalError.
    """
    return AsyncConnectionPool(
        url,
        connection_class=Connection,
        kwargs={
            **session.KEEPALIVES,
            "application_name": "arcadia api",
            "connect_timeout": 5,
            "autocommit": True,
        },
        configure=_settle,
        min_size=min(2, connections),
        max_size=connections,
        max_waiting=LONGEST_QUEUE,
        timeout=WAIT_SECONDS,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
    )


async def _settle(connection: Connection) -> None:
    """Give the session of a new connection the API's settings. Raises session.SessionRefused, psycopg.Error."""
    for statement in (session.say(SESSION), session.NOTICE_THE_VANISHED):
        await connection.execute(statement.encode())
    session.verify(await (await connection.execute(session.ask(SESSION).encode())).fetchall())


@asynccontextmanager
async def _connection(on: Pool) -> AsyncIterator[Connection]:
    """A connection, on which a statement is a transaction. Raises psycopg.OperationalError where none is to be had."""
    try:
        async with on.connection() as connection:
            yield connection
    except PoolTimeout as error:
        raise PoolTimeout(f"{error} {Connection.refusal}".strip()) from error


@asynccontextmanager
async def reading(on: Pool, who: Principal) -> AsyncIterator[Connection]:
    """A transaction that sees what the principal may see, at one instant. Raises as _connection()."""
    async with _connection(on) as connection, connection.transaction():
        await connection.execute(f"select who.known from {_WHO}", _asking(who))
        yield connection


async def page(on: Pool, who: Principal, wanted: Wanted, after: Place | None, size: int) -> str:
    """So many invoices, newest first, as JSON (invoice_schemas.InvoicePage)."""
    async with _connection(on) as connection:
        [[document]] = await (await connection.execute(*list_query(who, wanted, after, size))).fetchall()
        return str(document)


async def sheet(on: Pool, who: Principal, wanted: Wanted, into: IO[bytes]) -> None:
    """Write every invoice as a line of JSON (invoice_schemas.InvoiceSummary), newest first.

    All are of the database at one instant. Raises psycopg.OperationalError where no connection is to be had.
    """
    async with reading(on, who) as connection, connection.cursor("sheet") as cursor:
        await cursor.execute(*list_query(who, wanted, None, None))
        while rows := await cursor.fetchmany(SHEET_ROWS):
            into.write("".join(f"{document}\n" for (document,) in rows).encode())


async def invoice(on: Pool, who: Principal, invoice_id: uuid.UUID) -> str | None:
    """The invoice with its lines in order as JSON (invoice_schemas.InvoiceWithLines); None where none is to be seen."""
    async with _connection(on) as connection:
        found = await (await connection.execute(*invoice_query(who, invoice_id))).fetchone()
        return str(found[0]) if found else None


async def content(on: Pool, who: Principal, invoice_id: uuid.UUID) -> dict[str, Any] | None:
    """The row of storage.documents.CONTENT of the invoice; None where there is none to be seen."""
    async with reading(on, who) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(documents.CONTENT, {"ids": [invoice_id]})).fetchone()


async def deliver(on: Pool, who: Principal, shown: documents.Shown, made: documents.Made) -> bool:
    """Note that the tenant downloads this document of its invoice; False if the invoice has another one meanwhile."""
    parameters = asdict(shown) | asdict(made)
    async with _connection(on) as connection, connection.transaction():
        await connection.execute("set transaction isolation level read committed, read write")
        await connection.execute(f"select who.known from {_WHO}", _asking(who))
        [[is_noted]] = await (await connection.execute(_DELIVER, parameters)).fetchall()
        return bool(is_noted)


async def events(on: Pool, who: Principal, invoice_id: uuid.UUID) -> str | None:
    """What happened to the invoice, in order, as JSON (invoice_schemas.InvoiceEvents); None where none is to be seen.

    PostgreSQL writes it: a snapshot has quantities as JSON numbers, which Python would read as floats.
    """
    async with reading(on, who) as connection:
        if not (await connection.execute(*invoice_query(who, invoice_id))).rowcount:
            return None
        [[history]] = await (await connection.execute(_EVENTS, {"id": invoice_id})).fetchall()
        return str(history)


async def ready(on: Pool) -> None:
    """Return if invoices could be read now. Raises psycopg.Error."""
    async with reading(on, Principal("tenant")) as connection:
        await connection.execute("select from billing.tenant_invoices limit 0")


def _asking(who: Principal) -> dict[str, Any]:
    """The parameters of _WHO."""
    return {"role": who.role, "tenant": who.tenant_id or ""}


def _own(who: Principal) -> LiteralString:
    return "" if who.is_admin else " and tenant_id = %(tenant)s and status <> 'draft'"


def invoice_query(who: Principal, invoice_id: uuid.UUID) -> tuple[LiteralString, dict[str, Any]]:
    """The query of an invoice with its lines as JSON, and its parameters."""
    query: LiteralString = f"select row_to_json(i)::text from {_WHO}, lateral ({_INVOICE}{_own(who)}) i"
    return query, _asking(who) | {"id": invoice_id}


def list_query(
    who: Principal, wanted: Wanted, after: Place | None, size: int | None
) -> tuple[LiteralString, dict[str, Any]]:
    """The query of so many invoices, newest first, as one document; or of all, each a document; and its parameters."""
    # The planner would take a limit that it does not know for a tenth of the table, and sort.
    most: LiteralString = "" if size is None else f" limit {LARGEST_PAGE + 1}"
    query: LiteralString = f"""
        select i.* from {_WHO}, lateral (
            select {_SUMMARY} from billing.tenant_invoices where {_conditions(who, wanted, after)}
            order by period_start desc, id desc{most}
        ) i
    """
    if size is None:
        query = f"select row_to_json(i)::text from ({query}) i"
    else:
        query = f"""
            with found as materialized ({query} limit %(limit)s::integer + 1)
            select json_build_object(
                'items', coalesce((select json_agg(i) from (select * from found limit %(limit)s::integer) i), '[]'),
                'next_cursor', (select {_CURSOR} from found where (select count(*) from found) > %(limit)s::integer
                                offset %(limit)s::integer - 1 limit 1)
            )::text
        """
    return query, _asking(who) | {
        "period": wanted.period_start,
        "wanted_tenant": wanted.tenant_id,
        "number": wanted.invoice_number,
        "limit": size,
        "after_period": after and after.period_start,
        "after_id": after and after.invoice_id,
    }


def _conditions(who: Principal, wanted: Wanted, after: Place | None) -> LiteralString:
    """Which invoices are listed, with list_query()'s parameters."""
    conditions: LiteralString = "who.known is not null" + _own(who)
    if wanted.period_start:
        conditions += " and period_start = %(period)s"
    if wanted.status:
        conditions += _STATUS[wanted.status]
    if who.is_admin and wanted.tenant_id:
        conditions += " and tenant_id = %(wanted_tenant)s"
    if wanted.invoice_number:
        conditions += " and invoice_number = %(number)s"
    if after and after.period_start == wanted.period_start:
        conditions += " and id < %(after_id)s"  # of both columns the index would take the month, and read it all
    elif after:
        conditions += " and (period_start, id) < (%(after_period)s, %(after_id)s)"
    return conditions
