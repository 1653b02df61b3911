"""Cost beside revenue, as the OpenAPI document shows it. See schemas.py.

PostgreSQL writes it as JSON (costs.py) in these shapes; the tests hold it to them.
Belongs here: documents for platform admins, by month, deployment, tenant and kind. Does not: invoices as they are
(invoice_schemas.py).
"""

import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arcadia_pipelines.api.schemas import DECIMAL

APRIL: dict[str, Any] = {
    "revenue_cents": 6422,
    "cost_cents": 4200,
    "margin_cents": 2222,
    "margin_percent": "34.60",
    "awaiting_cents": 0,
    "period": "2026-04",
    "allocated_cents": 4000,
    "unallocated_cents": 200,
    "tax_cents": None,
    "reconciled": True,
    "open_points": "",
    "invoices": 1,
    "bill_usd_cents": 2730,
    "usd_per_aud": "0.650000",
}


class Sums(BaseModel):
    """Revenue beside cost, cents AUD ex GST."""

    model_config = ConfigDict(extra="forbid")

    revenue_cents: int = Field(description="of issued and paid invoices")
    cost_cents: int | None = Field(description="of the months that have one; null: none has a bill and a rate")
    margin_cents: int | None = Field(description="revenue_cents - awaiting_cents - cost_cents; null without a cost")
    margin_percent: str | None = Field(pattern=DECIMAL, description="of revenue_cents - awaiting_cents, to 2 decimals")
    awaiting_cents: int = Field(description="what of revenue_cents is of months without a cost: it is in no margin")


class MonthCosts(Sums):
    """A month. With tenants asked for, the sums are theirs; all else is of the whole month."""

    period: str
    allocated_cents: int | None = Field(description="what of the bill belongs to deployments, cents AUD")
    unallocated_cents: int | None = Field(description="what of it belongs to nobody; null if none does")
    tax_cents: int | None = Field(description="what of it is the provider's tax; null if none is")
    reconciled: bool = Field(description="revenue and bill are there and meet")
    open_points: str = Field(description="else: what is missing or does not fit")
    invoices: int = Field(description="how many are issued or paid")
    bill_usd_cents: int | None = Field(description="the provider's bill, cents USD; null without one")
    usd_per_aud: str | None = Field(pattern=DECIMAL, description="the rate it was converted at; null without one")


class CostsByMonth(BaseModel):
    """Cost beside revenue, month by month, oldest first."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"items": [APRIL], "total": dict(list(APRIL.items())[:5])}]}
    )

    items: list[MonthCosts]
    total: Sums


class DeploymentCosts(Sums):
    """A deployment and who pays for it."""

    tenant_id: str | None = Field(description="null for costs of a deployment that is deleted")
    deployment_id: uuid.UUID | None = Field(
        description="null for a tenant's commitments, credits, adjustments and deleted deployments"
    )
    deployment_name: str | None


class TenantCosts(Sums):
    """A tenant; without an id, the cost of deployments that are deleted."""

    tenant_id: str | None
    tenant_name: str


class KindCosts(Sums):
    """A resource kind. What a plan includes earns under plan_base, and costs under its kind."""

    resource_kind: str


class CostTable(BaseModel):
    """What every table has beside its rows."""

    model_config = ConfigDict(extra="forbid")

    unallocated: Sums | None = Field(description="cost that belongs to nobody; null if there is none, or not asked for")
    total: Sums = Field(description="of all rows and of the unallocated, also of rows that are not in items")
    count: int = Field(description="how many rows there are; items has a slice of them")


class CostsByDeployment(CostTable):
    """Cost beside revenue by deployment, summed over the months."""

    items: list[DeploymentCosts]


class CostsByTenant(CostTable):
    """Cost beside revenue by tenant, summed over the months."""

    items: list[TenantCosts]


class CostsByKind(CostTable):
    """Cost beside revenue by resource kind, summed over the months."""

    items: list[KindCosts]


class InvoiceShare(BaseModel):
    """An invoice, and what of it is in the revenue that was asked about."""

    model_config = ConfigDict(extra="forbid")

    id: uuid.UUID
    invoice_number: str
    tenant_id: str
    tenant_name: str | None
    period: str
    status: Literal["issued", "paid"]
    revenue_cents: int = Field(description="the sum of its lines that were asked for, cents AUD ex GST")


class InvoiceShares(BaseModel):
    """The invoices behind a revenue, newest month first."""

    model_config = ConfigDict(extra="forbid")

    items: list[InvoiceShare]
    revenue_cents: int = Field(description="of all of them, also of those that are not in items: the revenue")
    count: int = Field(description="how many there are; items has a slice of them")
