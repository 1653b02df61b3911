"""The routes of cost and revenue, for platform admins: what can be asked, and the sheets.

Does not belong here: the data (costs.py).
"""

import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from arcadia_pipelines.api import cost_schemas, costs, schemas
from arcadia_pipelines.api.dependencies import PRIVATE, Admin, turn
from arcadia_pipelines.api.problems import READING, told
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.exports import sheets

router = APIRouter(
    prefix="/api/v1/costs",
    tags=["costs, for platform admins"],
    responses=told("forbidden", *READING),
)

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


_CSV: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
}


@router.get("/months")
async def months(request: Request, who: Admin, asked: Annotated[OfTenants, Query()]) -> cost_schemas.CostsByMonth:
    """Cost beside revenue by month, and whether it is reconciled, else why not."""
    return cost_schemas.CostsByMonth.model_validate(await costs.months(request.app.state.pool, who, asked.wanted))


@router.get("/months.csv", **_CSV)
async def months_csv(request: Request, who: Admin, asked: Annotated[OfTenants, Query()]) -> Response:
    """The same for spreadsheets, in dollars."""
    return await _cost_sheet("months", await costs.months(request.app.state.pool, who, asked.wanted))


@router.get("/deployments")
async def deployments(
    request: Request, who: Admin, asked: Annotated[DeploymentsPage, Query()]
) -> cost_schemas.CostsByDeployment:
    """Cost beside revenue by deployment, summed over the months: the lowest margin first unless asked otherwise."""
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    found = await costs.table(request.app.state.pool, who, "deployment", asked.wanted, part)
    return cost_schemas.CostsByDeployment.model_validate(found)


@router.get("/deployments.csv", **_CSV)
async def deployments_csv(request: Request, who: Admin, asked: Annotated[RankedOfTenants, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    async with turn(request.app.state.sheets):
        found = await costs.table(request.app.state.pool, who, "deployment", asked.wanted, costs.Slice(asked.sort))
        return await _cost_sheet("deployments", found)


@router.get("/tenants")
async def tenants(request: Request, who: Admin, asked: Annotated[TenantsPage, Query()]) -> cost_schemas.CostsByTenant:
    """Cost beside revenue by tenant, summed over the months: the lowest margin first unless asked otherwise."""
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    found = await costs.table(request.app.state.pool, who, "tenant", asked.wanted, part)
    return cost_schemas.CostsByTenant.model_validate(found)


@router.get("/tenants.csv", **_CSV)
async def tenants_csv(request: Request, who: Admin, asked: Annotated[Searched, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    async with turn(request.app.state.sheets):
        found = await costs.table(request.app.state.pool, who, "tenant", asked.wanted, costs.Slice(asked.sort))
        return await _cost_sheet("tenants", found)


@router.get("/kinds")
async def kinds(request: Request, who: Admin, asked: Annotated[KindsPage, Query()]) -> cost_schemas.CostsByKind:
    """Cost beside revenue by resource kind, summed over the months. What a plan includes earns under plan_base."""
    part = costs.Slice(asked.sort, asked.limit, asked.offset)
    found = await costs.table(request.app.state.pool, who, "kind", asked.wanted, part)
    return cost_schemas.CostsByKind.model_validate(found)


@router.get("/kinds.csv", **_CSV)
async def kinds_csv(request: Request, who: Admin, asked: Annotated[Ranked, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars; the unallocated is the last row."""
    found = await costs.table(request.app.state.pool, who, "kind", asked.wanted, costs.Slice(asked.sort))
    return await _cost_sheet("kinds", found)


@router.get("/invoices")
async def invoices_behind(
    request: Request, who: Admin, asked: Annotated[BehindPage, Query()]
) -> cost_schemas.InvoiceShares:
    """The issued and paid invoices behind a revenue, and what of each is in it: they sum to it."""
    part = costs.Slice(limit=asked.limit, offset=asked.offset)
    found = await costs.invoices(request.app.state.pool, who, asked.wanted, asked.revenue, part)
    return cost_schemas.InvoiceShares.model_validate(found)


@router.get("/invoices.csv", **_CSV)
async def invoices_behind_csv(request: Request, who: Admin, asked: Annotated[Behind, Query()]) -> Response:
    """The same whole, for spreadsheets, in dollars."""
    async with turn(request.app.state.sheets):
        found = await costs.invoices(request.app.state.pool, who, asked.wanted, asked.revenue, costs.Slice())
        return await _cost_sheet("invoices", found)


async def _cost_sheet(of: str, document: costs.Document) -> Response:
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="costs-{of}.csv"'}
    return Response(await to_thread.run_sync(_cost_lines, of, document), headers=headers, media_type="text/csv")


def _cost_lines(of: str, document: costs.Document) -> str:
    """The rows of a document of costs.py as a sheet; what is unallocated comes last, by that name."""
    columns, rest = _COST_SHEETS[of], document.get("unallocated")
    rows = document["items"] + ([rest | {_NAMES[of]: "unallocated"}] if rest else [])
    return sheets.header(columns) + sheets.lines(columns, [_cost_cells(row) for row in rows])


def _cost_cells(row: dict[str, Any]) -> dict[str, sheets.Cell]:
    """A row of a sheet of costs: `*_cents` in dollars without that suffix, decimals as such, and what else there is."""
    money = {n.removesuffix("_cents"): sheets.dollars(v) for n, v in row.items() if n.endswith("_cents")}
    decimals = {name: Decimal(row[name]) for name in ("margin_percent", "usd_per_aud") if row.get(name) is not None}
    return row | money | decimals
