"""The application: its routes, and what its life begins and ends with.

    uvicorn --factory arcadia_pipelines.api.app:create_app

is what `arcadia api` runs, with a log in JSON.
"""

import asyncio
import datetime as dt
import itertools
import json
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import IO, Annotated, Any

import pandas as pd
import psycopg
from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arcadia_pipelines.api import (
    auth,
    cost_routes,
    dashboard,
    documents,
    invoice_schemas,
    limits,
    plans,
    problems,
    queries,
    quote_schemas,
    reference,
    reprice,
    schemas,
)
from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.api.dependencies import (
    PRIVATE,
    Admin,
    NoParameters,
    TokenBeforeBody,
    Who,
    body_names_each_once,
    tagged,
    turn,
)
from arcadia_pipelines.api.observe import Observe
from arcadia_pipelines.api.problems import READING, TAGGED, Problem, told
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.exports import sheets
from arcadia_pipelines.month import comparison
from arcadia_pipelines.month.projection import CannotQuote
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database
from arcadia_pipelines.storage.catalogue import UnknownTenant
from arcadia_pipelines.storage.price_list import UnknownCode

SHEET_PART = 500  # rows
SHEETS_AT_ONCE = 2  # each is a connection while it is read; more wait
QUOTES_AT_ONCE = 4  # each is a connection and a thread; more wait
WHAT_IFS_AT_ONCE = 1  # each is up to seven connections, and busy; more wait
_SHEET = [
    "invoice_number", "tenant_id", "tenant_name", "period", "status", "currency", "subtotal", "tax", "total",
    "issued_at", "paid_at", "revision", "id",
]  # fmt: skip


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for these settings; the environment's unless given. Raises SettingsError and EmbeddedError."""
    settings = settings or Settings.from_environment()
    url = settings.url()
    app = FastAPI(
        title="Arcadia Pipelines: invoices",
        version="1",
        summary="Tenants read their own invoices, platform admins read all.",
        lifespan=_life,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # it would load scripts from other people's servers: ours is reference.py
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.pool = queries.pool(url, settings.api_connections)
    app.state.engine = database.engine(url)
    app.state.tokens = auth.tokens(settings)
    app.state.requests = limits.Requests(settings.api_requests)
    app.state.sheets = asyncio.Semaphore(min(SHEETS_AT_ONCE, max(1, settings.api_connections - 1)))
    app.state.quoting = asyncio.Semaphore(QUOTES_AT_ONCE)
    app.state.repricing = asyncio.Semaphore(WHAT_IFS_AT_ONCE)
    app.state.documents = documents.turns()
    app.state.deliver_on_download = settings.deliver_on_download
    app.include_router(_operations)
    app.include_router(documents.router)  # before the invoice: its id is no UUID with .pdf at its end
    app.include_router(_invoices)
    app.include_router(_quotes)
    app.include_router(plans.router)
    app.include_router(reprice.router)
    app.include_router(cost_routes.router)
    app.include_router(dashboard.router)
    app.include_router(reference.router)
    app.add_middleware(Head)
    app.add_middleware(Observe)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    async with app.state.pool:
        yield


_operations = APIRouter(tags=["operations"])
_invoices = APIRouter(prefix="/api/v1", tags=["invoices"])
_quotes = APIRouter(prefix="/api/v1", tags=["invoices"], route_class=TokenBeforeBody)


class Filters(BaseModel):
    """Which invoices."""

    model_config = ConfigDict(extra="forbid")

    period: schemas.Period | None = Field(None, description="the calendar month", examples=["2026-04"])
    status: invoice_schemas.Status | None = Field(None, examples=["issued"])
    tenant_id: schemas.TenantId | None = Field(None, description="for platform admins", examples=["pilot"])
    invoice_number: schemas.Code | None = Field(
        None, description="the one invoice of this number", examples=["INV-202604-00010"]
    )

    def wanted(self, who: Principal) -> queries.Wanted:
        """What the query looks for. Raises Problem where the principal may not ask so."""
        if self.tenant_id and not who.is_admin:
            raise Problem("forbidden", "only platform admins choose a tenant_id: leave it out to see your own invoices")
        month = BillingMonth.parse(self.period).start if self.period else None
        return queries.Wanted(month, self.status, self.tenant_id, self.invoice_number)


class Page(Filters):
    """Which invoices, and where in the list."""

    limit: int = Field(50, ge=1, le=queries.LARGEST_PAGE, description="how many invoices")
    cursor: str | None = Field(None, max_length=64, description="next_cursor of the page before")


@_operations.get("/health", responses=told())
async def health() -> schemas.Health:
    """Liveness: the process answers. It looks at nothing else."""
    return schemas.Health()


@_operations.get("/ready", responses=told("unavailable"))
async def ready(request: Request) -> schemas.Health:
    """Readiness: invoices can be read from the database now."""
    try:
        await queries.ready(request.app.state.pool)
    except psycopg.errors.OperationalError:
        raise
    except psycopg.Error as error:
        request.state.error = f"{type(error).__name__}: {error}"
        raise Problem("unavailable", "the database does not let the API read: see `arcadia api`") from error
    return schemas.Health()


@_invoices.get("/invoices", response_model=invoice_schemas.InvoicePage, responses=told("forbidden", *READING))
async def invoices(request: Request, who: Who, asked: Annotated[Page, Query()]) -> Response:
    """Invoices, newest month first. Follow `next_cursor` until it is null: no invoice comes twice."""
    try:
        after = queries.Place.parse(asked.cursor) if asked.cursor is not None else None
    except queries.InvalidCursor as error:
        raise Problem("bad-request", f"cursor: {error}") from error
    page = await queries.page(request.app.state.pool, who, asked.wanted(who), after, asked.limit)
    return Response(page, media_type="application/json", headers=PRIVATE)


@_invoices.get(
    "/invoices.csv",
    response_class=StreamingResponse,
    responses=told("forbidden", *READING) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def invoices_csv(request: Request, who: Who, asked: Annotated[Filters, Query()]) -> Response:
    """The same list whole, for spreadsheets: amounts in dollars, text quoted, and none of it runs as a formula."""
    wanted = asked.wanted(who)
    spool = tempfile.TemporaryFile()  # noqa: SIM115  _Sheet closes it
    try:
        async with turn(request.app.state.sheets):
            await queries.sheet(request.app.state.pool, who, wanted, spool)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return _Sheet(spool)


@_invoices.get(
    "/invoices/{invoice_id}",
    response_model=invoice_schemas.InvoiceWithLines,
    responses=told("not-found", *READING) | TAGGED,
)
async def invoice(
    request: Request,
    who: Who,
    invoice_id: uuid.UUID,
    _: NoParameters,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """An invoice with its lines in order. Somebody else's is not found, like one that does not exist."""
    found = await queries.invoice(request.app.state.pool, who, invoice_id)
    if found is None:
        raise Problem("not-found", "no invoice of this id")
    return tagged(found, if_none_match)


@_invoices.get(
    "/invoices/{invoice_id}/events",
    response_model=invoice_schemas.InvoiceEvents,
    responses=told("forbidden", "not-found", *READING),
)
async def events(request: Request, who: Admin, invoice_id: uuid.UUID, _: NoParameters) -> Response:
    """What happened to an invoice, oldest first, with each replaced revision whole. For platform admins."""
    history = await queries.events(request.app.state.pool, who, invoice_id)
    if history is None:
        raise Problem("not-found", "no invoice of this id")
    return Response(history, media_type="application/json", headers=PRIVATE)


@_quotes.post(
    "/quotes",
    response_model_exclude_unset=True,
    dependencies=[Depends(body_names_each_once)],
    responses=told("forbidden", "too-slow", "too-large", *READING),
)
async def quotes(
    request: Request, who: Who, _: NoParameters, wanted: quote_schemas.QuoteRequest
) -> quote_schemas.WeighedQuote:
    """What a deployment would cost in a month, before it exists, by the engine that invoices it. Nothing is stored.

    With a `start`, the month that it starts in; and a whole month, where that costs less. With `compare`, the same
    on every plan on sale.

    A tenant is quoted its own prices; a platform admin the list's, or those of the `tenant` that is named.
    """
    if who.tenant_id and wanted.tenant not in (None, who.tenant_id):
        raise Problem("forbidden", "a tenant is quoted its own prices, and no other tenant's")
    async with turn(request.app.state.quoting):
        try:
            return await to_thread.run_sync(_quote, request.app.state.engine, wanted, who.tenant_id or wanted.tenant)
        except UnknownTenant as error:
            if who.is_admin:
                raise Problem("invalid-request", str(error)) from error
            # The platform does not know it yet: it is quoted the list's prices.
            return await to_thread.run_sync(_quote, request.app.state.engine, wanted, None)


class Head:
    """Answers HEAD wherever GET is served: with the headers that GET has, and no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # The server and the log go on with what was asked; a route may want to know.
        as_get = {**scope, "method": "GET", "is_head": True}

        async def headers_only(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        try:
            await self._app(as_get, receive, headers_only)
        finally:
            scope["route"] = as_get.get("route")


def _quote(engine: Engine, wanted: quote_schemas.QuoteRequest, tenant: str | None) -> quote_schemas.WeighedQuote:
    day = wanted.start or dt.datetime.now(dt.UTC).date().replace(day=1)
    month = BillingMonth.parse(wanted.month) if wanted.month else BillingMonth(day.replace(day=1))
    if wanted.start and wanted.start.replace(day=1) != month.start:
        raise Problem("invalid-request", f"start {wanted.start} is not in {month}: give one of the two")
    first_day = wanted.start.day if wanted.start else 1
    usage = {kind: Decimal(quantity) for kind, quantity in wanted.usage.items()}
    asked = comparison.Wanted(month, tuple(wanted.addons), usage, tenant, first_day)
    with database.transaction(engine) as connection:
        connection.exec_driver_sql("set transaction read only")
        connection.exec_driver_sql("set local role arcadia_api")
        try:
            totals, lines = asked.on(connection, wanted.plan)
            quoted = _priced(totals, lines)
            whole = _priced(*replace(asked, first_day=1).on(connection, wanted.plan)) if first_day > 1 else quoted
            warnings = comparison.warnings(connection, asked, wanted.plan, lines)
            compared = comparison.compare(connection, asked) if wanted.compare else None
        except (UnknownCode, CannotQuote) as error:
            raise Problem("invalid-request", str(error)) from error
    beside: dict[str, Any] = {} if quoted == whole else {"whole_month": whole}
    if warnings:
        beside["warnings"] = warnings
    return quote_schemas.WeighedQuote.model_validate({**dict(quoted), **beside, **_compared(compared)})


def _compared(compared: comparison.Compared | None) -> dict[str, Any]:
    if compared is None:
        return {}
    return {
        "compared": [{"plan": plan, **dict(_priced(*quoted))} for plan, quoted in compared.quotes.items()],
        "without": [{"plan": plan, "reason": why} for plan, why in compared.without.items()],
    }


def _priced(totals: pd.DataFrame, lines: pd.DataFrame) -> quote_schemas.Quote:
    cents = totals[["subtotal_cents", "tax_cents", "total_cents"]].to_dict("records")[0]
    rows = lines[list(invoice_schemas.Line.model_fields)].astype(object).where(lines.notna(), None).to_dict("records")
    return quote_schemas.Quote(
        currency="AUD",
        subtotal_cents=int(cents["subtotal_cents"]),
        tax_cents=int(cents["tax_cents"]),
        total_cents=int(cents["total_cents"]),
        lines=[invoice_schemas.Line(**_spelled({str(name): value for name, value in row.items()})) for row in rows],
    )


def _spelled(line: dict[str, Any]) -> dict[str, Any]:
    exact = {name: f"{line[name]:f}" for name in ("qty", "unit_price_cents", "price_per")}
    return line | exact | {"meta": json.loads(line["meta"])}


class _Sheet(StreamingResponse):
    """The sheet of the invoices that queries.sheet() wrote into the file, which it closes, read to the end or not."""

    def __init__(self, spool: IO[bytes]) -> None:
        headers = {**PRIVATE, "Content-Disposition": 'attachment; filename="invoices.csv"'}
        super().__init__(self._parts(), media_type="text/csv", headers=headers)
        self._spool = spool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._spool:
            await super().__call__(scope, receive, send)

    def _parts(self) -> Iterator[str]:
        yield sheets.header(_SHEET)
        while lines := list(itertools.islice(self._spool, SHEET_PART)):
            yield sheets.lines(_SHEET, [_cells(json.loads(line)) for line in lines])


def _cells(row: dict[str, Any]) -> dict[str, sheets.Cell]:
    """A row of the sheet: amounts and instants as such, and what else there is, which is text."""
    return row | {
        "subtotal": sheets.dollars(row["subtotal_cents"]),
        "tax": sheets.dollars(row["tax_cents"]),
        "total": sheets.dollars(row["total_cents"]),
        "issued_at": sheets.instant(row["issued_at"]),
        "paid_at": sheets.instant(row["paid_at"]),
    }


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problems' schema that the routes' answers name."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components: dict[str, type[BaseModel]] = {"InvalidPart": schemas.InvalidPart, "Problem": schemas.Problem}
        for name, model in components.items():
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            made["components"]["schemas"][name] = {k: v for k, v in schema.items() if k != "$defs"}
        app.openapi_schema = made
    return app.openapi_schema
