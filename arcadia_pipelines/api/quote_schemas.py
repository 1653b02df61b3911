"""Quotes, and the price list that they follow, as the OpenAPI document shows them. See schemas.py.

Belongs here: documents of what is on sale, and of deployments that do not exist yet. Does not: what past months would
come to at other prices (reprice.py).
"""

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arcadia_pipelines.api.invoice_schemas import OVERAGE, Line
from arcadia_pipelines.api.schemas import DECIMAL, Code, Period, Quantity


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
