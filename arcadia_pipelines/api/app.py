"""The application: its routes, and what its life begins and ends with.

    uvicorn --factory arcadia_pipelines.api.app:create_app

is what `arcadia api` runs, with a log in JSON.
"""

import asyncio
import datetime as dt
import gc
import hashlib
import itertools
import json
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import IO, Annotated, Any, ClassVar, Literal, Self, TypeVar

import anyio
import psycopg
from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy.engine import Engine
from starlette.types import ASGIApp, Receive, Scope, Send

from arcadia_pipelines.api import auth, costs, dashboard, problems, queries, schemas, sheets
from arcadia_pipelines.api.auth import InvalidToken, Principal
from arcadia_pipelines.api.observe import Observe
from arcadia_pipelines.api.problems import Problem
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.projection import CannotQuote, project
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database
from arcadia_pipelines.storage.catalogue import UnknownCode

SHEET_PART = 500  # rows
SHEETS_AT_ONCE = 2  # each is a connection while it is read; more wait
QUOTES_AT_ONCE = 4  # each is a connection and a thread; more wait
PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
_SHEET = [
    "invoice_number", "tenant_id", "tenant_name", "period", "status", "currency", "subtotal", "tax", "total",
    "issued_at", "paid_at", "revision", "id",
]  # fmt: skip
_MONEY = ("revenue", "awaiting", "cost", "margin")
_COST_SHEETS: dict[str, list[str]] = {
    "months": [
        "period", *_MONEY, "margin_percent", "allocated", "unallocated", "tax", "invoices", "bill_usd", "usd_per_aud",
        "reconciled", "open_points",
    ],
    "deployments": ["tenant_id", "deployment_id", "deployment_name", *_MONEY, "margin_percent"],
    "tenants": ["tenant_id", "tenant_name", *_MONEY, "margin_percent"],
    "kinds": ["resource_kind", *_MONEY, "margin_percent"],
    "invoices": ["invoice_number", "tenant_id", "tenant_name", "period", "status", "revenue", "id"],
}  # fmt: skip
_NAMES = {"deployments": "deployment_name", "tenants": "tenant_name", "kinds": "resource_kind"}


_ID = re.compile("/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Asked = TypeVar("Asked", bound=BaseModel)


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
        docs_url=None,  # they load scripts from other people's servers
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.pool = queries.Pool(url, settings.api_connections)
    app.state.engine = database.engine(url)
    app.state.tokens = auth.tokens(settings)
    app.state.sheets = asyncio.Semaphore(min(SHEETS_AT_ONCE, max(1, settings.api_connections - 1)))
    app.state.quoting = anyio.CapacityLimiter(QUOTES_AT_ONCE)
    app.include_router(_operations)
    app.include_router(_v1)
    app.include_router(_costs)
    app.include_router(dashboard.router)
    app.add_middleware(Straight)
    app.add_middleware(Observe)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    await app.state.pool.open()
    gc.collect()
    gc.set_threshold(50_000)  # a request leaves few cycles
    gc.freeze()  # what is loaded by now stays: looking through it again would hold a request up for a tenth of a second
    try:
        yield
    finally:
        await app.state.pool.close()


def _told(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for the OpenAPI document."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        problems.TITLES[kind][0]: {"description": problems.TITLES[kind][1], "content": content}
        for kind in ("bad-request", *kinds, "internal-error")
    }


_READING = ("invalid-token", "invalid-request", "unavailable")
_operations = APIRouter(tags=["operations"])
_v1 = APIRouter(prefix="/api/v1", tags=["invoices"])
_costs = APIRouter(prefix="/api/v1/costs", tags=["costs, for platform admins"])
_LIST = f"{_v1.prefix}/invoices"
_SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "With the claims iss, aud, exp, role (platform_admin or tenant), and tenant_id for a tenant.",
    }
}


async def _principal(request: Request) -> Principal:
    """Who asks. Raises InvalidToken and KeysUnavailable."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise InvalidToken("send a token: Authorization: Bearer TOKEN")
    principal: Principal = await request.app.state.tokens.principal(given.strip())
    request.state.principal = principal
    return principal


async def _admin(request: Request) -> Principal:
    who = await _principal(request)
    if not who.is_admin:
        raise Problem("forbidden", "this is for platform admins")
    return who


class Filters(BaseModel):
    """Which invoices."""

    model_config = ConfigDict(extra="forbid")

    period: schemas.Period | None = Field(None, description="the calendar month", examples=["2026-04"])
    status: schemas.Status | None = Field(None, examples=["issued"])
    tenant_id: schemas.TenantId | None = Field(None, description="for platform admins", examples=["pilot"])

    def wanted(self, who: Principal) -> queries.Wanted:
        """What the query looks for. Raises Problem where the principal may not ask so."""
        if self.tenant_id and not who.is_admin:
            raise Problem("forbidden", "only platform admins choose a tenant_id: leave it out to see your own invoices")
        month = BillingMonth.parse(self.period).start if self.period else None
        return queries.Wanted(month, self.status, self.tenant_id)


class Page(Filters):
    """Which invoices, and where in the list."""

    limit: int = Field(50, ge=1, le=queries.LARGEST_PAGE, description="how many invoices")
    cursor: str | None = Field(None, max_length=64, description="next_cursor of the page before")


def _read(request: Request, model: type[Asked]) -> Asked:
    """The query string as the model. FastAPI does the same, for a tenth of a millisecond more on every request."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("query", *one["loc"])} for one in error.errors()]) from error


def _asks(query: type[BaseModel] | None = None, *headers: str) -> dict[str, Any]:
    """What the OpenAPI document says of a route that reads its request itself: the token, query string and headers."""
    fields = query.model_json_schema()["properties"] if query else {}
    parameters = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]
    parameters += [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in headers]
    return {"security": [{"bearer": []}], "parameters": parameters}


@_operations.get("/health", responses=_told())
async def health() -> schemas.Health:
    """Liveness: the process answers. It looks at nothing else."""
    return schemas.Health()


@_operations.get("/ready", responses=_told("unavailable"))
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


@_v1.get(
    "/invoices",
    response_model=schemas.InvoicePage,
    responses=_told("forbidden", *_READING),
    openapi_extra=_asks(Page),
)
async def invoices(request: Request) -> Response:
    """Invoices, newest month first. Follow `next_cursor` until it is null: no invoice comes twice."""
    who, page = await _principal(request), _read(request, Page)
    try:
        after = queries.Place.parse(page.cursor) if page.cursor is not None else None
    except queries.InvalidCursor as error:
        raise Problem("bad-request", f"cursor: {error}") from error
    items, last = await queries.page(request.app.state.pool, who, page.wanted(who), after, page.limit)
    return _json(b'{"items":[%b],"next_cursor":%b}' % (items, json.dumps(last and last.cursor).encode()))


@_v1.get(
    "/invoices.csv",
    response_class=StreamingResponse,
    responses=_told("forbidden", *_READING) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    openapi_extra=_asks(Filters),
)
async def invoices_csv(request: Request) -> Response:
    """The same list whole, for spreadsheets: amounts in dollars, and text that a spreadsheet would run is quoted."""
    who = await _principal(request)
    wanted, state = _read(request, Filters).wanted(who), request.app.state
    spool = tempfile.TemporaryFile()  # noqa: SIM115  _Sheet closes it
    try:
        async with state.sheets:
            await queries.sheet(state.pool, who, wanted, spool)
        await to_thread.run_sync(spool.seek, 0)
    except BaseException:
        spool.close()
        raise
    return _Sheet(spool)


@_v1.get(
    "/invoices/{invoice_id}",
    response_model=schemas.InvoiceWithLines,
    responses=_told("not-found", *_READING)
    | {
        200: {"headers": {"ETag": {"description": "changes when the invoice does", "schema": {"type": "string"}}}},
        304: {"description": "It is as the If-None-Match says: no body"},
    },
    openapi_extra=_asks(None, "If-None-Match"),
)
async def invoice(request: Request, invoice_id: uuid.UUID) -> Response:
    """An invoice with its lines in order. Somebody else's is not found, like one that does not exist."""
    who = await _principal(request)
    pool = request.app.state.pool
    known = request.headers.get("if-none-match")
    if known and (standing := await queries.invoice(pool, who, invoice_id)) and _matches(known, _etag(standing)):
        return Response(status_code=304, headers={**PRIVATE, "ETag": _etag(standing)})
    found = await queries.invoice_with_lines(pool, who, invoice_id)
    if found is None:
        raise Problem("not-found", "no invoice of this id")
    head, lines = found
    return _json(b'%b,"lines":[%b]}' % (head[:-1], lines), {"ETag": _etag(head)})


@_v1.get(
    "/invoices/{invoice_id}/events",
    response_model=schemas.InvoiceEvents,
    responses=_told("forbidden", "not-found", *_READING),
    openapi_extra=_asks(),
)
async def events(request: Request, invoice_id: uuid.UUID) -> Response:
    """What happened to an invoice, oldest first, with each replaced revision whole. For platform admins."""
    who = await _admin(request)
    pool = request.app.state.pool
    if await queries.invoice(pool, who, invoice_id) is None:
        raise Problem("not-found", "no invoice of this id")
    history = await queries.events(pool, who, invoice_id)
    return _json(b'{"items":%b}' % history)


@_v1.post(
    "/quotes",
    dependencies=[Depends(_principal)],
    responses=_told("too-large", *_READING),
    openapi_extra=_asks(),
)
async def quotes(request: Request, wanted: schemas.QuoteRequest) -> schemas.Quote:
    """What a deployment would cost in a month, before it exists, by the engine that invoices it. Nothing is stored."""
    state = request.app.state
    return await to_thread.run_sync(_quote, state.engine, wanted, limiter=state.quoting)


class Costs(BaseModel):
    """Which months of cost and revenue."""

    model_config = ConfigDict(extra="forbid")

    since: schemas.Period | None = Field(None, alias="from", description="the first month", examples=["2026-01"])
    until: schemas.Period | None = Field(None, alias="to", description="the last month", examples=["2026-04"])

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since and self.until and self.since > self.until:
            raise ValueError("`from` is after `to`")
        return self

    @property
    def wanted(self) -> costs.Wanted:
        """What the query looks for."""
        first, last = (BillingMonth.parse(one).start if one else None for one in (self.since, self.until))
        return costs.Wanted(first, last, tuple(getattr(self, "tenant_id", ())), getattr(self, "search", None))


class Ranked(Costs):
    """In which order."""

    sort: costs.Sort = "lowest_margin"


class OfTenants(Costs):
    """Of which tenants."""

    tenant_id: list[schemas.TenantId] = Field([], max_length=100, description="only these: once for each")


class RankedOfTenants(OfTenants, Ranked):
    """Of which tenants, in which order."""


class Searched(RankedOfTenants):
    """By name, too."""

    search: str | None = Field(
        None, min_length=1, max_length=100, pattern=r"^[^\x00]*$", description="only tenants with this in name or id"
    )


class Behind(OfTenants):
    """Which revenue."""

    deployment_id: uuid.UUID | Literal["none"] | None = Field(None, description="none: lines without a deployment")
    resource_kind: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["egress_gb"])

    @property
    def revenue(self) -> costs.Revenue:
        """The part of the revenue."""
        return costs.Revenue(str(self.deployment_id) if self.deployment_id else None, self.resource_kind)


class _Slice(BaseModel):
    limit: int = Field(50, ge=1, le=costs.LARGEST_PAGE, description="how many rows")
    offset: int = Field(0, ge=0, le=10_000_000, description="after how many rows")


class KindsPage(Ranked, _Slice):
    """Kinds, and where in the list."""


class DeploymentsPage(RankedOfTenants, _Slice):
    """Deployments, and where in the list."""


class TenantsPage(Searched, _Slice):
    """Tenants, and where in the list."""


class BehindPage(Behind, _Slice):
    """Which revenue, and where in the list."""


Admin = Annotated[Principal, Depends(_admin)]
_COSTS: dict[str, Any] = {
    "responses": _told("forbidden", *_READING),
    "openapi_extra": {"security": [{"bearer": []}]},
}
_COSTS_CSV: dict[str, Any] = _COSTS | {
    "response_class": Response,
    "responses": _COSTS["responses"] | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
}


@_costs.get("/months", response_model=schemas.CostsByMonth, **_COSTS)
async def months(request: Request, who: Admin, asked: Annotated[OfTenants, Query()]) -> Response:
    """Cost beside revenue by month, and whether it is reconciled, else why not."""
    return _json(await costs.months(request.app.state.pool, who, asked.wanted))


@_costs.get("/months.csv", **_COSTS_CSV)
async def months_csv(request: Request, who: Admin, asked: Annotated[OfTenants, Query()]) -> Response:
    """The same for spreadsheets, in dollars."""
    return await _cost_sheet("months", await costs.months(request.app.state.pool, who, asked.wanted))


@_costs.get("/deployments", response_model=schemas.CostsByDeployment, **_COSTS)
async def deployments(request: Request, who: Admin, asked: Annotated[DeploymentsPage, Query()]) -> Response:
    """Cost beside revenue by deployment, summed over the months: the lowest margin first unless asked otherwise."""
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    return _json(await costs.table(request.app.state.pool, who, "deployment", asked.wanted, part))


@_costs.get("/deployments.csv", **_COSTS_CSV)
async def deployments_csv(request: Request, who: Admin, asked: Annotated[RankedOfTenants, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    part, state = costs.Slice(asked.sort), request.app.state
    async with state.sheets:
        return await _cost_sheet("deployments", await costs.table(state.pool, who, "deployment", asked.wanted, part))


@_costs.get("/tenants", response_model=schemas.CostsByTenant, **_COSTS)
async def tenants(request: Request, who: Admin, asked: Annotated[TenantsPage, Query()]) -> Response:
    """Cost beside revenue by tenant, summed over the months: the lowest margin first unless asked otherwise."""
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    return _json(await costs.table(request.app.state.pool, who, "tenant", asked.wanted, part))


@_costs.get("/tenants.csv", **_COSTS_CSV)
async def tenants_csv(request: Request, who: Admin, asked: Annotated[Searched, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    part, state = costs.Slice(asked.sort), request.app.state
    async with state.sheets:
        return await _cost_sheet("tenants", await costs.table(state.pool, who, "tenant", asked.wanted, part))


@_costs.get("/kinds", response_model=schemas.CostsByKind, **_COSTS)
async def kinds(request: Request, who: Admin, asked: Annotated[KindsPage, Query()]) -> Response:
    """Cost beside revenue by resource kind, summed over the months. What a plan includes earns under plan_base."""
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    return _json(await costs.table(request.app.state.pool, who, "kind", asked.wanted, part))


@_costs.get("/kinds.csv", **_COSTS_CSV)
async def kinds_csv(request: Request, who: Admin, asked: Annotated[Ranked, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    part = costs.Slice(asked.sort)
    return await _cost_sheet("kinds", await costs.table(request.app.state.pool, who, "kind", asked.wanted, part))


@_costs.get("/invoices", response_model=schemas.InvoiceShares, **_COSTS)
async def invoices_behind(request: Request, who: Admin, asked: Annotated[BehindPage, Query()]) -> Response:
    """The issued and paid invoices behind a revenue, and what of each is in it: they sum to it."""
    part = costs.Slice(limit=asked.limit, offset=asked.offset)
    return _json(await costs.invoices(request.app.state.pool, who, asked.wanted, asked.revenue, part))


@_costs.get("/invoices.csv", **_COSTS_CSV)
async def invoices_behind_csv(request: Request, who: Admin, asked: Annotated[Behind, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars."""
    state = request.app.state
    async with state.sheets:
        return await _cost_sheet(
            "invoices", await costs.invoices(state.pool, who, asked.wanted, asked.revenue, costs.Slice())
        )


class Straight:
    """Answers what is asked most, a list and an invoice, with the routes' own functions.

    FastAPI's routing and dependencies, which they do not need, would add to each. Whatever is not plainly one of the
    two goes that way.
    """

    _ROUTES: ClassVar = {route.endpoint: route for route in _v1.routes if isinstance(route, APIRoute)}

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_LIST):
            await self._app(scope, receive, send)
            return
        request, rest = Request(scope, receive), scope["path"][len(_LIST) :]
        if not rest:
            scope["route"] = self._ROUTES[invoices]
            answer = invoices(request)
        elif _ID.fullmatch(rest):
            scope["route"] = self._ROUTES[invoice]
            answer = invoice(request, uuid.UUID(rest[1:]))
        else:
            await self._app(scope, receive, send)
            return
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001  what nobody foresaw is raised again
            response = problems.answer(request, error)
        await response(scope, receive, send)


def _quote(engine: Engine, wanted: schemas.QuoteRequest) -> schemas.Quote:
    today = dt.datetime.now(dt.UTC).date()
    month = BillingMonth.parse(wanted.month) if wanted.month else BillingMonth(today.replace(day=1))
    usage = {kind: Decimal(quantity) for kind, quantity in wanted.usage.items()}
    with database.transaction(engine) as connection:
        connection.exec_driver_sql("set transaction read only")
        connection.exec_driver_sql("set local role arcadia_api")
        try:
            totals, lines = project(connection, month, wanted.plan, wanted.addons, usage)
        except (UnknownCode, CannotQuote) as error:
            raise Problem("invalid-request", str(error)) from error
    cents = totals[["subtotal_cents", "tax_cents", "total_cents"]].to_dict("records")[0]
    rows = lines[list(schemas.Line.model_fields)].astype(object).where(lines.notna(), None).to_dict("records")
    return schemas.Quote(
        subtotal_cents=int(cents["subtotal_cents"]),
        tax_cents=int(cents["tax_cents"]),
        total_cents=int(cents["total_cents"]),
        lines=[schemas.Line(**_spelled({str(name): value for name, value in row.items()})) for row in rows],
    )


def _spelled(line: dict[str, Any]) -> dict[str, Any]:
    exact = {name: f"{line[name]:f}" for name in ("qty", "unit_price_cents")}
    return line | exact | {"meta": json.loads(line["meta"])}


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, media_type="application/json", headers={**PRIVATE, **(headers or {})})


def _etag(head: bytes) -> str:
    """Weak: it covers revision, status and content hash, but not that a line's deployment was deleted since."""
    return f'W/"{hashlib.sha256(head).hexdigest()[:32]}"'


def _matches(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110, 13.1.2: weak comparison with any of the list."""
    given = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return etag.removeprefix("W/") in given or given == ["*"]


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
            yield sheets.lines(_SHEET, [_cells(json.loads(line)) for line in lines if line != b"\n"])


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the sheet. Numbers stay numbers; text cannot be taken for a formula."""
    return row | {
        "invoice_number": sheets.text(row["invoice_number"]),
        "tenant_id": sheets.text(row["tenant_id"]),
        "tenant_name": sheets.text(row["tenant_name"]),
        "subtotal": sheets.dollars(row["subtotal_cents"]),
        "tax": sheets.dollars(row["tax_cents"]),
        "total": sheets.dollars(row["total_cents"]),
        "issued_at": sheets.instant(row["issued_at"]),
        "paid_at": sheets.instant(row["paid_at"]),
    }


async def _cost_sheet(of: str, document: bytes) -> Response:
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="costs-{of}.csv"'}
    return Response(await to_thread.run_sync(_cost_lines, of, document), headers=headers, media_type="text/csv")


def _cost_lines(of: str, document: bytes) -> str:
    """The rows of a document of costs.py as a sheet; what is unallocated comes last, by that name."""
    table, columns = json.loads(document), _COST_SHEETS[of]
    rows = table["items"] + ([table["unallocated"] | {_NAMES[of]: "unallocated"}] if table.get("unallocated") else [])
    return sheets.header(columns) + sheets.lines(columns, [_cost_cells(row) for row in rows])


def _cost_cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a sheet of costs: `*_cents` in dollars without that suffix, numbers as they are, text as text."""
    numbers = {name: row[name] for name in ("margin_percent", "usd_per_aud", "reconciled", "invoices") if name in row}
    money = {n.removesuffix("_cents"): sheets.dollars(v) for n, v in row.items() if n.endswith("_cents")}
    return {name: sheets.text(value) for name, value in row.items() if isinstance(value, str)} | money | numbers


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problems' schema that the routes' answers name."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components: dict[str, type[BaseModel]] = {"InvalidPart": schemas.InvalidPart, "Problem": schemas.Problem}
        for name, model in components.items():
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            made["components"]["schemas"][name] = {k: v for k, v in schema.items() if k != "$defs"}
        made["components"]["securitySchemes"] = _SECURITY
        app.openapi_schema = made
    return app.openapi_schema
