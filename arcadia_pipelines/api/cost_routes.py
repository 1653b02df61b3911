"""The routes of cost and revenue, for platform admins: what can be asked, and the sheets.

Does not belong here: the data (costs.py).
"""

import json
import uuid
from decimal import Decimal
from typing import Any, Literal, Self

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from arcadia_pipelines import sheets
from arcadia_pipelines.api import costs, schemas
from arcadia_pipelines.api.routing import PRIVATE, READING, Admin, answer, asks, read, told
from arcadia_pipelines.billing.month import BillingMonth

router = APIRouter(prefix="/api/v1/costs", tags=["costs, for platform admins"])

MOST_TENANTS = 100  # asked for at once

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

    tenant_id: list[schemas.TenantId] = Field([], max_length=MOST_TENANTS, description="only these: once for each")

    @field_validator("tenant_id", mode="before")
    @classmethod
    def _not_too_many(cls, given: list[str]) -> list[str]:
        if len(given) > MOST_TENANTS:
            raise ValueError(f"{len(given)} tenants are chosen, and at most {MOST_TENANTS} can be asked for at once")
        return given


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


def _costs(query: type[Costs]) -> dict[str, Any]:
    return {"responses": told("forbidden", *READING), "openapi_extra": asks(query)}


def _costs_csv(query: type[Costs]) -> dict[str, Any]:
    as_csv = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
    return {
        "response_class": Response,
        "responses": told("forbidden", *READING) | as_csv,
        "openapi_extra": asks(query),
    }


@router.get("/months", response_model=schemas.CostsByMonth, **_costs(OfTenants))
async def months(request: Request, who: Admin) -> Response:
    """Cost beside revenue by month, and whether it is reconciled, else why not."""
    asked = read(request, OfTenants)
    return answer(await costs.months(request.app.state.pool, who, asked.wanted))


@router.get("/months.csv", **_costs_csv(OfTenants))
async def months_csv(request: Request, who: Admin) -> Response:
    """The same for spreadsheets, in dollars."""
    asked = read(request, OfTenants)
    return await _cost_sheet("months", await costs.months(request.app.state.pool, who, asked.wanted))


@router.get("/deployments", response_model=schemas.CostsByDeployment, **_costs(DeploymentsPage))
async def deployments(request: Request, who: Admin) -> Response:
    """Cost beside revenue by deployment, summed over the months: the lowest margin first unless asked otherwise."""
    asked = read(request, DeploymentsPage)
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    return answer(await costs.table(request.app.state.pool, who, "deployment", asked.wanted, part))


@router.get("/deployments.csv", **_costs_csv(RankedOfTenants))
async def deployments_csv(request: Request, who: Admin) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    asked = read(request, RankedOfTenants)
    part, state = costs.Slice(asked.sort), request.app.state
    async with state.sheets:
        return await _cost_sheet("deployments", await costs.table(state.pool, who, "deployment", asked.wanted, part))


@router.get("/tenants", response_model=schemas.CostsByTenant, **_costs(TenantsPage))
async def tenants(request: Request, who: Admin) -> Response:
    """Cost beside revenue by tenant, summed over the months: the lowest margin first unless asked otherwise."""
    asked = read(request, TenantsPage)
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    return answer(await costs.table(request.app.state.pool, who, "tenant", asked.wanted, part))


@router.get("/tenants.csv", **_costs_csv(Searched))
async def tenants_csv(request: Request, who: Admin) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    asked = read(request, Searched)
    part, state = costs.Slice(asked.sort), request.app.state
    async with state.sheets:
        return await _cost_sheet("tenants", await costs.table(state.pool, who, "tenant", asked.wanted, part))


@router.get("/kinds", response_model=schemas.CostsByKind, **_costs(KindsPage))
async def kinds(request: Request, who: Admin) -> Response:
    """Cost beside revenue by resource kind, summed over the months. What a plan includes earns under plan_base."""
    asked = read(request, KindsPage)
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    return answer(await costs.table(request.app.state.pool, who, "kind", asked.wanted, part))


@router.get("/kinds.csv", **_costs_csv(Ranked))
async def kinds_csv(request: Request, who: Admin) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    asked = read(request, Ranked)
    part = costs.Slice(asked.sort)
    return await _cost_sheet("kinds", await costs.table(request.app.state.pool, who, "kind", asked.wanted, part))


@router.get("/invoices", response_model=schemas.InvoiceShares, **_costs(BehindPage))
async def invoices_behind(request: Request, who: Admin) -> Response:
    """The issued and paid invoices behind a revenue, and what of each is in it: they sum to it."""
    asked = read(request, BehindPage)
    part = costs.Slice(limit=asked.limit, offset=asked.offset)
    return answer(await costs.invoices(request.app.state.pool, who, asked.wanted, asked.revenue, part))


@router.get("/invoices.csv", **_costs_csv(Behind))
async def invoices_behind_csv(request: Request, who: Admin) -> Response:
    """The same whole, for spreadsheets, in dollars."""
    asked = read(request, Behind)
    state = request.app.state
    async with state.sheets:
        return await _cost_sheet(
            "invoices", await costs.invoices(state.pool, who, asked.wanted, asked.revenue, costs.Slice())
        )


async def _cost_sheet(of: str, document: bytes) -> Response:
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="costs-{of}.csv"'}
    return Response(await to_thread.run_sync(_cost_lines, of, document), headers=headers, media_type="text/csv")


def _cost_lines(of: str, document: bytes) -> str:
    """The rows of a document of costs.py as a sheet; what is unallocated comes last, by that name."""
    table, columns = json.loads(document), _COST_SHEETS[of]
    rows = table["items"] + ([table["unallocated"] | {_NAMES[of]: "unallocated"}] if table.get("unallocated") else [])
    return sheets.header(columns) + sheets.lines(columns, [_cost_cells(row) for row in rows])


def _cost_cells(row: dict[str, Any]) -> dict[str, sheets.Cell]:
    """A row of a sheet of costs: `*_cents` in dollars without that suffix, decimals as such, and what else there is."""
    money = {n.removesuffix("_cents"): sheets.dollars(v) for n, v in row.items() if n.endswith("_cents")}
    decimals = {name: Decimal(row[name]) for name in ("margin_percent", "usd_per_aud") if row.get(name) is not None}
    return row | money | decimals
