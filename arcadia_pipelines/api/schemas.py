"""The documents that go in and out, as the OpenAPI document shows them.

Cents are integers, quantities and unit prices are strings of exact decimals, instants are UTC. Invoices, lines and
events are written as JSON by PostgreSQL (queries.py) in these shapes; the tests hold them to it.
"""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, StringConstraints

from arcadia_pipelines.api.auth import LONGEST_TENANT_ID, is_tenant_id
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth

Status = Literal["draft", "issued", "paid", "void"]
Kind = Literal["plan_base", "addon", "overage", "discount", "commitment", "credit", "adjustment", "tax"]
DECIMAL = r"^-?\d+(\.\d+)?$"


def _a_month(text: str) -> str:
    try:
        return str(BillingMonth.parse(text))
    except InvalidMonth as error:
        raise ValueError(str(error)) from error


def _a_tenant(text: str) -> str:
    if not is_tenant_id(text):
        raise ValueError("a tenant's id is printable text")
    return text


Period = Annotated[
    str, StringConstraints(pattern=r"^(19|[2-9]\d)\d\d-(0[1-9]|1[0-2])$", max_length=7), AfterValidator(_a_month)
]
TenantId = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TENANT_ID), AfterValidator(_a_tenant)]
Code = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,100}$")]
Quantity = (
    Annotated[StrictInt, Field(ge=0, lt=10**12)]
    | Annotated[StrictStr, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]
)

PILOT: dict[str, Any] = {
    "id": "5b9ab0ad-3ba9-5f0c-9a1e-0d3f1d9e2a10",
    "invoice_number": "INV-202604-00010",
    "tenant_id": "pilot",
    "period": "2026-04",
    "period_start": "2026-04-01",
    "period_end": "2026-05-01",
    "currency": "AUD",
    "subtotal_cents": 6422,
    "tax_cents": 642,
    "total_cents": 7064,
    "status": "issued",
    "issued_at": "2026-05-01T03:00:07.123456+00:00",
    "paid_at": None,
    "finance_invoice_id": None,
    "pushed_to_finance_at": None,
    "delivered_at": None,
    "due_on": "2026-05-15",
    "updated_at": "2026-05-01T03:00:07.123456+00:00",
    "usage_cutoff": "2026-05-01T03:00:01.654321+00:00",
    "revision": 1,
    "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "meta": {"tenant_name": "Pilot Studio Pty Ltd", "tenant_abn": "71690944157"},
}
LISTED = (
    "id", "invoice_number", "tenant_id", "period", "currency", "subtotal_cents", "tax_cents", "total_cents", "status",
    "issued_at", "paid_at", "revision",
)  # fmt: skip
"""What a list shows of an invoice as it is; and the tenant's name."""
_SUMMARY = {name: PILOT[name] for name in LISTED} | {"tenant_name": PILOT["meta"]["tenant_name"]}
OVERAGE: dict[str, Any] = {
    "deployment_id": "8c7dd922-ad47-494f-802b-3a1e2e5c1d11",
    "kind": "overage",
    "resource_kind": "droplet_hours",
    "description": "Overage: droplet_hours",
    "qty": "672.000000",
    "unit": "hour",
    "unit_price_cents": "1.00000000",
    "price_per": "1.000000",
    "amount_cents": 672,
    "meta": {"used": "2160.000000", "included": "1488.000000", "effective_from": "2026-01-01"},
}

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


class Line(BaseModel):
    """What is charged once. `meta` explains it: for overage what was used and included, in `unit`."""

    model_config = ConfigDict(extra="forbid")

    deployment_id: uuid.UUID | None = Field(
        description="null for tax, credits, adjustments and the tenant's commitment, or once it is deleted"
    )
    kind: Kind
    resource_kind: str | None = Field(description="the metered kind of an overage; else null")
    description: str
    qty: str = Field(pattern=DECIMAL)
    unit: str | None
    unit_price_cents: str = Field(pattern=DECIMAL, description="cents AUD ex GST, to 8 decimals")
    price_per: str = Field(
        pattern=DECIMAL, description="how many units that is for: the days of the month for part months, else 1"
    )
    amount_cents: int = Field(
        description="qty x unit_price_cents / price_per, rounded once, half up; ex GST but for tax"
    )
    meta: dict[str, Any]


class InvoiceLine(Line):
    """A line of an invoice."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"line_no": 3, "deployment_name": "pilot-web", **OVERAGE}]}
    )

    line_no: int = Field(ge=1, description="order on the invoice, from 1")
    deployment_name: str | None


class Invoice(BaseModel):
    """An invoice without its lines: one per tenant and month."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [PILOT]})

    id: uuid.UUID = Field(description="the same however often the month is run again")
    invoice_number: str | None
    tenant_id: str
    period: str = Field(description="the calendar month, UTC")
    period_start: dt.date
    period_end: dt.date = Field(description="first day of the next month: the period is half open")
    currency: Literal["AUD"]
    subtotal_cents: int = Field(description="ex GST")
    tax_cents: int = Field(description="GST")
    total_cents: int
    status: Status
    issued_at: dt.datetime | None
    paid_at: dt.datetime | None
    finance_invoice_id: str | None
    pushed_to_finance_at: dt.datetime | None
    delivered_at: dt.datetime | None = Field(description="when its document first went to the tenant")
    due_on: dt.date | None = Field(description="when it is to be paid; null: nobody has entered who sells")
    updated_at: dt.datetime
    usage_cutoff: dt.datetime = Field(description="usage that was known at this instant is billed")
    revision: int = Field(ge=1, description="counts up each time the content is replaced")
    content_sha256: str
    meta: dict[str, Any] = Field(
        description="the tenant's name, ABN, billing_address and billing_email; gst_free_reason where there is no GST"
        " but on corrections"
    )


class InvoiceWithLines(Invoice):
    """An invoice with its lines in order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{**PILOT, "lines": [{"line_no": 3, "deployment_name": "pilot-web", **OVERAGE}]}]
        },
    )

    lines: list[InvoiceLine]


class InvoiceSummary(BaseModel):
    """What a list shows of an invoice; the rest is at its own address."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SUMMARY]})

    id: uuid.UUID = Field(description="the same however often the month is run again")
    invoice_number: str | None
    tenant_id: str
    tenant_name: str | None = Field(description="when it was invoiced")
    period: str = Field(description="the calendar month, UTC")
    currency: Literal["AUD"]
    subtotal_cents: int = Field(description="ex GST")
    tax_cents: int = Field(description="GST")
    total_cents: int
    status: Status
    issued_at: dt.datetime | None
    paid_at: dt.datetime | None
    revision: int = Field(ge=1, description="counts up each time the content is replaced")


class InvoicePage(BaseModel):
    """Invoices, newest month first. `next_cursor` asks for the page after; null on the last."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"items": [_SUMMARY], "next_cursor": None}]}
    )

    items: list[InvoiceSummary]
    next_cursor: str | None


class InvoiceEvent(BaseModel):
    """Something that happened to an invoice."""

    model_config = ConfigDict(extra="forbid")

    id: int
    event: str = Field(examples=["issued", "reissued", "voided", "paid"])
    revision: int
    total_cents: int
    content_sha256: str
    operator: str
    reason: str
    run_id: str
    occurred_at: dt.datetime
    snapshot: dict[str, Any] | None = Field(description="the revision that was replaced, whole; null if none was")


class InvoiceEvents(BaseModel):
    """An invoice's history, oldest first."""

    model_config = ConfigDict(extra="forbid")

    items: list[InvoiceEvent]


class QuoteRequest(BaseModel):
    """A deployment that does not exist yet."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"plan": "studio", "addons": ["storage_50gb"], "usage": {"droplet_hours": 2160}, "month": "2026-04"}
            ]
        },
    )

    plan: Code = Field(description="the plan's code")
    addons: list[Code] = Field(default=[], max_length=100, description="addons' codes; again for each further unit")
    usage: dict[Code, Quantity] = Field(
        default={}, max_length=100, description="expected usage in the month by resource kind: an integer, or a string"
    )
    month: Period | None = Field(default=None, description="at the prices of this month; this month unless given")
    start: dt.date | None = Field(
        default=None,
        ge=dt.date(1900, 1, 1),
        le=dt.date(9998, 12, 31),
        description="the day it starts on; the first of the month unless given",
    )
    tenant: Code | None = Field(default=None, description="with this tenant's own prices and GST status; for admins")
    compare: bool = Field(default=False, strict=True, description="quote every other plan on sale, too")


class Quote(BaseModel):
    """What the deployment would cost in the month: what its invoice would say."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "currency": "AUD",
                    "subtotal_cents": 6422,
                    "tax_cents": 642,
                    "total_cents": 7064,
                    "lines": [{**OVERAGE, "deployment_id": None}],
                }
            ]
        },
    )

    currency: Literal["AUD"] = "AUD"
    subtotal_cents: int
    tax_cents: int
    total_cents: int
    lines: list[Line]


class QuoteOnPlan(Quote):
    """What the same deployment would cost on a plan."""

    plan: str


class PlanWithoutQuote(BaseModel):
    """A plan that the deployment cannot be on."""

    model_config = ConfigDict(extra="forbid")

    plan: str
    reason: str


class WeighedQuote(Quote):
    """A quote, and beside it what there is to say: each of these is left out where there is nothing."""

    whole_month: Quote | None = Field(None, description="where the month that it starts in costs less")
    warnings: list[str] | None = Field(
        None, description="in words: where more usage would cost less, and that a commitment counts"
    )
    compared: list[QuoteOnPlan] | None = Field(None, description="with `compare`: every plan on sale, cheapest first")
    without: list[PlanWithoutQuote] | None = Field(None, description="with `compare`: plans that it cannot be on")


class PlanTier(BaseModel):
    """A tier of a rate. It begins where the one before ends."""

    model_config = ConfigDict(extra="forbid")

    up_to: str | None = Field(pattern=DECIMAL, description="the most units that it holds; null: no bound, the last")
    unit_price_cents: str = Field(pattern=DECIMAL, description="of a unit in it, cents AUD ex GST, to 8 decimals")
    flat_cents: int = Field(description="charged once when it is entered, cents AUD ex GST")


class PlanRate(BaseModel):
    """What a plan includes of a resource kind, and what more of it costs."""

    model_config = ConfigDict(extra="forbid")

    resource_kind: str
    unit: str
    included: str = Field(pattern=DECIMAL, description="the allowance of a month, in unit")
    pooled: bool = Field(description="whether a tenant's allowances and usage of this kind count together")
    charge_model: Literal["per_unit", "package", "graduated", "volume"]
    unit_price_cents: str | None = Field(
        pattern=DECIMAL, description="of a unit or a package, cents AUD ex GST, to 8 decimals; null: see the tiers"
    )
    package_size: str | None = Field(pattern=DECIMAL, description="how many units a package has; else null")
    maximum_cents: int | None = Field(description="the most that a subscription pays a month, cents AUD ex GST")
    tiers: list[PlanTier] = Field(description="of graduated and volume rates, in order")
    effective_from: dt.date
    own_price: bool = Field(description="whether it is the tenant's own")


class Plan(BaseModel):
    """A plan on sale."""

    model_config = ConfigDict(extra="forbid")

    code: str
    name: str | None
    proration: str | None = Field(description="what a part month costs: none (a whole month) or daily (its days)")
    base_price_cents: int = Field(description="a month, cents AUD ex GST")
    effective_from: dt.date
    own_price: bool = Field(description="whether it is the tenant's own")
    rates: list[PlanRate] = Field(description="by resource kind; a kind that has none cannot be used with it")


class Addon(BaseModel):
    """An addon on sale."""

    model_config = ConfigDict(extra="forbid")

    code: str
    name: str | None
    price_cents: int = Field(description="of one a month, cents AUD ex GST")
    effective_from: dt.date
    own_price: bool = Field(description="whether it is the tenant's own")


_STUDIO: dict[str, Any] = {
    "code": "studio",
    "name": "Studio",
    "proration": "none",
    "base_price_cents": 5000,
    "effective_from": "2026-01-01",
    "own_price": False,
    "rates": [
        {
            "resource_kind": "droplet_hours",
            "unit": "hour",
            "included": "1488.000000",
            "pooled": False,
            "charge_model": "per_unit",
            "unit_price_cents": "1.00000000",
            "package_size": None,
            "maximum_cents": None,
            "tiers": [],
            "effective_from": "2026-01-01",
            "own_price": False,
        }
    ],
}


class PriceList(BaseModel):
    """What is on sale in a month, at the prices in effect on its first day."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"month": "2026-04", "currency": "AUD", "plans": [_STUDIO], "addons": []}]},
    )

    month: str
    currency: Literal["AUD"] = "AUD"
    plans: list[Plan]
    addons: list[Addon]


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


class InvalidPart(BaseModel):
    """A part of a request that does not make sense."""

    where: str = Field(examples=["query.period"])
    what: str
    line: int | None = Field(None, description="of a price book, from 1; else it is not there")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:arcadia:problem:not-found",
                    "title": "There is no such thing here",
                    "status": 404,
                    "detail": "no invoice of this id",
                    "request_id": "0b6f0c1e5b4f4f7e9a55a3e1c7a3d0aa",
                }
            ]
        }
    )

    type: str = Field(description="what kind of problem, for programs: it stays the same")
    title: str
    status: int
    detail: str = Field(description="what is wrong and what to do, for people")
    request_id: str = Field(description="names the request in our log; also the header X-Request-ID")
    errors: list[InvalidPart] | None = None


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
