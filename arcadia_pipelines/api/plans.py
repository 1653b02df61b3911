"""The plans and addons on sale in a month: the route, and the document.

Belongs here: what is shown of a price, and to whom. Does not: which price is in effect (storage/catalogue.py).
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import pandas as pd
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.api import quote_schemas, schemas
from arcadia_pipelines.api.dependencies import Who, tagged, turn
from arcadia_pipelines.api.problems import READING, TAGGED, Problem, told
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import database, price_list
from arcadia_pipelines.storage.price_list import Listed

Names = dict[str, dict[str, str | None]]

router = APIRouter(prefix="/api/v1", tags=["invoices"])


class Shown(BaseModel):
    """Which prices."""

    model_config = ConfigDict(extra="forbid")

    month: schemas.Period | None = Field(None, description="those of this month; this month unless given")
    tenant_id: schemas.TenantId | None = Field(None, description="with this tenant's own; for platform admins")


@router.get("/plans", response_model=quote_schemas.PriceList, responses=told("forbidden", *READING) | TAGGED)
async def plans(
    request: Request,
    who: Who,
    asked: Annotated[Shown, Query()],
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """The plans and addons on sale in a month: prices, allowances, charge models and tiers, as quotes count them.

    A tenant sees its own prices in the place of the list's; a platform admin the list's, or those of a `tenant_id`.
    """
    if asked.tenant_id and not who.is_admin:
        raise Problem("forbidden", "only platform admins choose a tenant_id: leave it out to see your own prices")
    today = dt.datetime.now(dt.UTC).date()
    month = BillingMonth.parse(asked.month) if asked.month else BillingMonth(today.replace(day=1))
    async with turn(request.app.state.quoting):
        found = await to_thread.run_sync(_read, request.app.state.engine, month, who.tenant_id or asked.tenant_id)
    return tagged(found.model_dump_json(), if_none_match)


def _read(engine: Engine, month: BillingMonth, tenant: str | None) -> quote_schemas.PriceList:
    with database.transaction(engine) as connection:
        connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
        connection.exec_driver_sql("set local role arcadia_api")
        return on_sale(connection, month, tenant)


def on_sale(connection: Connection, month: BillingMonth, tenant: str | None = None) -> quote_schemas.PriceList:
    """What is on sale in the month, with the tenant's own prices in the place of the list's.

    What cannot be quoted is left out: a plan or an addon of an ambiguous code, a rate that cannot be charged.
    """
    rates, tiers = price_list.rates_for(connection, month, tenant)
    of_plans = _rates(rates, tiers)
    plans = price_list.plan_prices(connection, month, tenant)
    addons = price_list.addon_prices(connection, month, tenant)
    return quote_schemas.PriceList(
        month=str(month),
        plans=[
            quote_schemas.Plan(
                **_priced(listed),
                name=more["name"],
                proration=more["proration"],
                base_price_cents=listed[2],
                rates=of_plans.get(listed[1], []),
            )
            for listed, more in _named(plans, price_list.names(connection, "plan"))
        ],
        addons=[
            quote_schemas.Addon(**_priced(listed), name=more["name"], price_cents=listed[2])
            for listed, more in _named(addons, price_list.names(connection, "addon"))
        ],
    )


def _named(listed: list[Listed], names: Names) -> Iterator[tuple[Listed, dict[str, str | None]]]:
    """What is listed once, at a price that can be charged, with its name."""
    times = Counter(one[0] for one in listed)
    return ((one, names[one[1]]) for one in listed if times[one[0]] == 1 and one[2] >= 0)


def _priced(listed: Listed) -> dict[str, Any]:
    return {"code": listed[0], "effective_from": listed[3], "own_price": listed[4]}


def _rates(rates: pd.DataFrame, tiers: pd.DataFrame) -> dict[str, list[quote_schemas.PlanRate]]:
    """By the plan's id, the rates that can be charged; a tenant's own in the place of the list's."""
    found: dict[tuple[str, str], quote_schemas.PlanRate] = {}
    steps: dict[tuple[Any, ...], list[quote_schemas.PlanTier]] = {}
    key = ["tenant_id", "plan_id", "resource_kind"]
    for tier in _rows(tiers.sort_values("tier")):
        steps.setdefault(tuple(tier[name] for name in key), []).append(_tier(tier))
    for rate in _rows(rates.sort_values(key, na_position="first")):
        about = tuple(rate[name] for name in key)
        can_be_charged = not rate["wrong"] and not rate["twice"] and rate["unit"] is not None
        if can_be_charged and rate["included"] >= 0 and rate["unit_price_cents"] >= 0:
            found[rate["plan_id"], rate["resource_kind"]] = _rate(rate, steps.get(about, []))
        else:
            found.pop((rate["plan_id"], rate["resource_kind"]), None)
    by_plan: dict[str, list[quote_schemas.PlanRate]] = {}
    for (plan, _), shown in sorted(found.items()):
        by_plan.setdefault(plan, []).append(shown)
    return by_plan


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    yield from frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[misc]


def _rate(rate: dict[str, Any], tiers: list[quote_schemas.PlanTier]) -> quote_schemas.PlanRate:
    return quote_schemas.PlanRate(
        **{name: rate[name] for name in ("resource_kind", "unit", "charge_model", "maximum_cents", "pooled")},
        included=_text(rate["included"]),
        unit_price_cents=None if tiers else _text(rate["unit_price_cents"]),
        package_size=rate["package_size"] and _text(rate["package_size"]),
        effective_from=rate["effective_from"],
        own_price=rate["tenant_id"] is not None,
        tiers=tiers,
    )


def _tier(tier: dict[str, Any]) -> quote_schemas.PlanTier:
    return quote_schemas.PlanTier(
        up_to=tier["up_to"] and _text(tier["up_to"]),
        unit_price_cents=_text(tier["tier_price_cents"]),
        flat_cents=tier["flat_cents"],
    )


def _text(number: Decimal) -> str:
    return f"{number:f}"
