"""The API's SQL: read-only transactions as the role arcadia_api, for one principal, with bound parameters only.

A connection has that role before it is lent, and a statement says for whom it is before it reads: what forgets
to sees nothing. A list and an invoice are one statement each, which is one round trip and one transaction, and answer
with one row: Python is what is short, and each row and each wait costs it some.

Each statement says itself which rows it wants, so that an index finds them; row-level security would drop the others
anyway (sql/migrations/0004_api.sql). PostgreSQL writes the JSON documents of schemas.py, exact, in one pass.
"""

import asyncio
import base64
import binascii
import datetime as dt
import itertools
import json
import re
import uuid
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, LiteralString, Self

from psycopg import AsyncConnection, OperationalError, errors, generators
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.storage import session

Row = tuple[bytes | None, ...]  # each value as PostgreSQL writes it, in UTF-8

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
_BETWEEN = b",\n"  # documents; no document has a line break
# Written out: row_to_json(), which looks each column's type up for each row, makes the whole query a quarter slower.
# What is quoted without to_json() can hold nothing that JSON would escape: ids, dates, numbers and what a check admits.
_INVOICE: LiteralString = """
    concat('{"id":"', id, '","invoice_number":', coalesce(to_json(invoice_number), 'null'),
           ',"tenant_id":', to_json(tenant_id), ',"period":"', left(period_start::text, 7),
           '","period_start":"', period_start, '","period_end":"', period_end, '","currency":"', currency,
           '","subtotal_cents":', subtotal_cents, ',"tax_cents":', tax_cents, ',"total_cents":', total_cents,
           ',"status":"', status, '","issued_at":', coalesce(to_json(issued_at), 'null'),
           ',"paid_at":', coalesce(to_json(paid_at), 'null'),
           ',"finance_invoice_id":', coalesce(to_json(finance_invoice_id), 'null'),
           ',"pushed_to_finance_at":', coalesce(to_json(pushed_to_finance_at), 'null'),
           ',"updated_at":', to_json(updated_at), ',"usage_cutoff":', to_json(usage_cutoff), ',"revision":', revision,
           ',"content_sha256":"', content_sha256, '","meta":', meta, '}')
"""
# What a list and the sheet show of an invoice: to write the rest out and send it would be a third of what a list costs.
_SUMMARY: LiteralString = """
    concat('{"id":"', id, '","invoice_number":', coalesce(to_json(invoice_number), 'null'),
           ',"tenant_id":', to_json(tenant_id), ',"tenant_name":', coalesce(to_json(meta ->> 'tenant_name'), 'null'),
           ',"period":"', left(period_start::text, 7), '","currency":"', currency,
           '","subtotal_cents":', subtotal_cents, ',"tax_cents":', tax_cents, ',"total_cents":', total_cents,
           ',"status":"', status, '","issued_at":', coalesce(to_json(issued_at), 'null'),
           ',"paid_at":', coalesce(to_json(paid_at), 'null'), ',"revision":', revision, '}')
"""
_LINE: LiteralString = """
    concat('{"line_no":', line_no, ',"deployment_id":', coalesce(to_json(deployment_id), 'null'),
           ',"deployment_name":', coalesce(to_json(deployment_name), 'null'), ',"kind":"', kind,
           '","resource_kind":', coalesce(to_json(resource_kind), 'null'), ',"description":', to_json(description),
           ',"qty":"', qty, '","unit":', coalesce(to_json(unit), 'null'), ',"unit_price_cents":"', unit_price_cents,
           '","amount_cents":', amount_cents, ',"meta":', meta, '}')
"""
# Not a parameter: nearly every invoice is issued and hardly any is void, which wants another plan.
_STATUS: dict[str, LiteralString] = {
    "draft": " and status = 'draft'",
    "issued": " and status = 'issued'",
    "paid": " and status = 'paid'",
    "void": " and status = 'void'",
}
_ONE: LiteralString = f"""
    select id, period_start, {_INVOICE} as document
    from billing.tenant_invoices where who.known is not null and id = %(id)s
"""
_LINES: LiteralString = f"""
    select string_agg({_LINE}, ',' order by line_no)
    from billing.invoice_lines(i.id, i.period_start)
"""
_EVENTS: LiteralString = f"""
    select e.history from {_WHO}, lateral (
        select coalesce(json_agg(e), '[]')::text as history from (
            select id, event, revision, total_cents, content_sha256, operator, reason, run_id, occurred_at, snapshot
            from billing.invoice_events where who.known is not null and invoice_id = %(id)s order by id
        ) e
    ) e
"""
_READY: LiteralString = f"""
    select from {_WHO}, lateral (select from billing.tenant_invoices where who.known is not null limit 0) i
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

    @classmethod
    def of(cls, document: bytes) -> "Place":
        """The place after this invoice, which is JSON (schemas.InvoiceSummary)."""
        invoice = json.loads(document)
        return cls(BillingMonth.parse(invoice["period"]).start, uuid.UUID(invoice["id"]))

    @property
    def cursor(self) -> str:
        """The opaque text that parse() understands."""
        raw = self.period_start.isoformat()[:7].encode() + self.invoice_id.bytes
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class Wanted:
    """Which invoices: None means any."""

    period_start: dt.date | None = None
    status: str | None = None
    tenant_id: str | None = None


class Connection(AsyncConnection[tuple[Any, ...]]):
    """A connection that knows what it has prepared, and a class that knows why the last one could not be made."""

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

    def __init__(self, pgconn: PGconn, *arguments: Any, **more: Any) -> None:
        super().__init__(pgconn, *arguments, **more)
        self._statements = dict[str, bytes]()
        self._names = (b"read_%d" % number for number in itertools.count())

    async def rows(self, query: LiteralString, parameters: dict[str, Any]) -> list[Row]:
        """The query's rows. Without a psycopg cursor, whose conversions take Python as long again as all of this."""
        text, names = _numbered(query)
        name = self._statements.get(query)
        if name is None:
            name = next(self._names)  # never one twice: a request may have been cancelled right here
            self.pgconn.send_prepare(name, text)
            await self._result()
            self._statements[query] = name
        values = [parameters[one] for one in names]
        self.pgconn.send_query_prepared(name, [None if one is None else str(one).encode() for one in values])
        result = await self._result()
        columns = range(result.nfields)
        return [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]

    async def _result(self) -> PGresult:
        results: list[PGresult] = await self.wait(generators.execute(self.pgconn))
        result = results[-1]
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise errors.error_from_result(result)
        return result


@cache
def _numbered(query: LiteralString) -> tuple[bytes, list[str]]:
    """The query as PostgreSQL knows parameters, $1 for %(name)s, and their names in that order."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
    return re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", query).encode(), names


async def _settle(connection: Connection) -> None:
    """Give the session of a new connection the API's settings. Raises session.SessionRefused, psycopg.Error."""
    for statement in (session.say(SESSION), session.NOTICE_THE_VANISHED):
        await connection.execute(statement.encode())
    session.verify(await (await connection.execute(session.ask(SESSION).encode())).fetchall())


class Pool:
    """Connections as the role arcadia_api, and a line for them. Finds the database again after an outage.

    The line is ours: in that of psycopg's pool each wait is a task and two locks, a tenth of what a list costs.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._connections = AsyncConnectionPool(
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
            timeout=WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
        )
        self._free = asyncio.Semaphore(connections)
        self._waiting = 0

    async def open(self) -> None:
        """Begin to connect, without waiting for the database."""
        await self._connections.open(wait=False)

    async def close(self) -> None:
        """Disconnect."""
        await self._connections.close()

    async def take(self) -> Connection:
        """A connection, to be put back. Raises psycopg.OperationalError where none is to be had in time."""
        if self._waiting >= LONGEST_QUEUE:
            raise TooManyRequests(f"{self._waiting} requests wait for a connection already")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
                try:
                    return await self._connections.getconn()
                except BaseException:
                    self._free.release()
                    raise
        except TimeoutError as error:
            raise PoolTimeout(f"no connection within {WAIT_SECONDS} s {Connection.refusal}".strip()) from error
        except PoolTimeout as error:
            raise PoolTimeout(f"{error} {Connection.refusal}".strip()) from error
        finally:
            self._waiting -= 1

    async def put_back(self, connection: Connection) -> None:
        """The next in line has it; one that broke is replaced."""
        try:
            await self._connections.putconn(connection)
        finally:
            self._free.release()


async def _ask(on: Pool, query: LiteralString, parameters: dict[str, Any]) -> list[Row]:
    """The query's rows: of the database at one instant, what the principal that it names may see.

    One statement is one transaction, with which the settings of _WHO end.
    Raises psycopg.OperationalError where no connection is to be had.
    """
    connection = await on.take()
    try:
        return await connection.rows(query, parameters)
    finally:
        await on.put_back(connection)


async def page(on: Pool, who: Principal, wanted: Wanted, after: Place | None, size: int) -> tuple[bytes, Place | None]:
    """So many invoices as JSON (schemas.InvoiceSummary), newest first; the place of the last if there are more."""
    [(found, count)] = await _ask(on, *list_query(who, wanted, after, size + 1))
    return _shown(found, count, size)


async def sheet(on: Pool, who: Principal, wanted: Wanted, into: IO[bytes]) -> None:
    """Write every invoice as a line of JSON (schemas.InvoiceSummary), newest first, of the database at one instant.

    If there is none, one line is empty. Raises psycopg.OperationalError where no connection is to be had.
    """
    connection = await on.take()
    try:
        async with connection.transaction():
            after = None
            while True:
                [(found, count)] = await connection.rows(*list_query(who, wanted, after, SHEET_ROWS + 1))
                shown, after = _shown(found, count, SHEET_ROWS)
                into.write(shown.replace(_BETWEEN, b"\n") + b"\n")
                if after is None:
                    return
    finally:
        await on.put_back(connection)


def _shown(found: bytes | None, count: bytes | None, size: int) -> tuple[bytes, Place | None]:
    """Of one invoice more than are to be shown, those that are, and the place of the last if that one is there."""
    if int(count or 0) <= size:
        return found or b"", None
    shown, _, _ = (found or b"").rpartition(_BETWEEN)
    _, _, last = shown.rpartition(_BETWEEN)
    return shown, Place.of(last)


async def invoice(on: Pool, who: Principal, invoice_id: uuid.UUID) -> bytes | None:
    """The invoice without its lines as JSON (schemas.Invoice); None where there is none to be seen."""
    query: LiteralString = f"select document from {_WHO}, lateral ({_ONE}{_own(who)}) i"
    for (document,) in await _ask(on, query, _asking(who) | {"id": invoice_id}):
        return document
    return None


async def invoice_with_lines(on: Pool, who: Principal, invoice_id: uuid.UUID) -> tuple[bytes, bytes] | None:
    """The invoice as JSON (schemas.Invoice), and its lines in order (schemas.InvoiceLine, commas), of one instant."""
    for document, lines in await _ask(on, *with_lines_query(who, invoice_id)):
        return document or b"", lines or b""
    return None


async def events(on: Pool, who: Principal, invoice_id: uuid.UUID) -> bytes:
    """What happened to the invoice, in order, as JSON (a list of schemas.InvoiceEvent)."""
    [[document]] = await _ask(on, _EVENTS, _asking(who) | {"id": invoice_id})
    return document or b""


async def ready(on: Pool) -> None:
    """Return if invoices could be read now. Raises psycopg.Error."""
    await _ask(on, _READY, _asking(Principal("tenant")))


def _asking(who: Principal) -> dict[str, Any]:
    """The parameters of _WHO."""
    return {"role": who.role, "tenant": who.tenant_id or ""}


def _own(who: Principal) -> LiteralString:
    return "" if who.is_admin else " and tenant_id = %(tenant)s and status <> 'draft'"


def with_lines_query(who: Principal, invoice_id: uuid.UUID) -> tuple[LiteralString, dict[str, Any]]:
    """The query of an invoice and its lines, both as JSON, and its parameters."""
    query: LiteralString = f"select document, ({_LINES}) from {_WHO}, lateral ({_ONE}{_own(who)}) i"
    return query, _asking(who) | {"id": invoice_id}


def list_query(who: Principal, wanted: Wanted, after: Place | None, size: int) -> tuple[LiteralString, dict[str, Any]]:
    """The query of so many invoices as JSON, and its parameters."""
    conditions: LiteralString = "who.known is not null" + _own(who)
    if wanted.period_start:
        conditions += " and period_start = %(period)s"
    if wanted.status:
        conditions += _STATUS[wanted.status]
    if who.is_admin and wanted.tenant_id:
        conditions += " and tenant_id = %(wanted_tenant)s"
    if after and after.period_start == wanted.period_start:
        conditions += " and id < %(after_id)s"  # of both columns the index would take the month, and read it all
    elif after:
        conditions += " and (period_start, id) < (%(after_period)s, %(after_id)s)"
    # For the planner, which takes a limit that it does not know for a tenth of the table, and would sort.
    most = (LARGEST_PAGE if size <= LARGEST_PAGE + 1 else SHEET_ROWS) + 1
    query: LiteralString = (
        r"select string_agg(document, E',\n'), count(*) from ("
        f" select document from {_WHO}, lateral ("
        f" select {_SUMMARY} as document from billing.tenant_invoices where {conditions}"
        f" order by period_start desc, id desc limit {most}) i limit %(limit)s) page"
    )
    return query, _asking(who) | {
        "period": wanted.period_start,
        "wanted_tenant": wanted.tenant_id,
        "limit": size,
        "after_period": after and after.period_start,
        "after_id": after and after.invoice_id,
    }
