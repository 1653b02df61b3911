"""What is on sale in a month, to everybody or to one tenant: plans, addons and rates by their codes.

Belongs here: the list of prices, for people and for quotes. Does not: which price is in effect, and what is wrong with
a rate (catalogue.py).
"""

import datetime as dt

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import models, quote
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import NotFound
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.catalogue import (
    CODES_ONCE,
    IS_DAILY,
    OWN_ADDON_PRICES,
    OWN_PLAN_PRICES,
    RATES,
    TIERS,
    bounds,
    cents,
)


class UnknownCode(NotFound):
    """A plan or addon code that is not for sale in the month; the message lists those that are."""


class AmbiguousCode(UnknownCode):
    """A code of two plans or addons, or with two prices: what it costs cannot be told."""


_FOR_ONE = "select * from ({0}) r where tenant_id is null or tenant_id = %(tenant)s"


def rates_for(connection: Connection, month: BillingMonth, tenant: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The list's rates with the tenant's own, and their tiers: what may be shown to that tenant, or to anybody."""
    parameters = {**bounds(month), "tenant": tenant}
    return (
        bulk.read(connection, _FOR_ONE.format(RATES), quote.RATES, parameters),
        bulk.read(connection, _FOR_ONE.format(TIERS), models.TIERS, parameters),
    )


Listed = tuple[str, str, int, dt.date, bool]
"""A code, whose it is (an id), and the price in effect: cents, since when, and whether it is a tenant's own."""


def plan_prices(connection: Connection, month: BillingMonth, tenant: str | None = None) -> list[Listed]:
    """Every plan's base price in effect, the tenant's own where it has one.

    A code that is there twice, or twice priced, is listed as often.
    """
    return _price_list(connection, "plan", "base_price_cents", OWN_PLAN_PRICES, month, tenant)


def is_daily(connection: Connection, plan_id: str) -> bool | None:
    """Whether the plan prorates by days; None: its proration is neither daily nor none."""
    query = f"select {IS_DAILY} from ({CODES_ONCE.format('plans')}) p where id = %(plan)s"
    found: bool | None = connection.exec_driver_sql(query, {"plan": plan_id}).scalar_one()
    return found


def addon_prices(connection: Connection, month: BillingMonth, tenant: str | None = None) -> list[Listed]:
    """Every addon's price in effect; as plan_prices()."""
    return _price_list(connection, "addon", "price_cents", OWN_ADDON_PRICES, month, tenant)


def _price_list(
    connection: Connection, what: str, price: str, own_prices: str, month: BillingMonth, tenant: str | None
) -> list[Listed]:
    query = f"""
        select code, id::text, coalesce(own.cents, {cents(price)}),
               coalesce(own.effective_from, price.effective_from), own.cents is not null
        from cloud.{what}s
        left join ({own_prices}) own on own.tenant_id = %(tenant)s and own.{what}_id = id
        left join (
            select *, rank() over (partition by {what}_id order by effective_from desc) as age
            from cloud.{what}_prices where effective_from between '0001-01-01' and %(month)s
        ) price on price.{what}_id = id and age = 1 and own.cents is null
        where code is not null and num_nonnulls(own.cents, price.{price}) > 0
        order by 1, 2, 3
    """
    return [tuple(row) for row in connection.exec_driver_sql(query, {**bounds(month), "tenant": tenant})]


def names(connection: Connection, what: str) -> dict[str, dict[str, str | None]]:
    """By id, the name of every plan, with its proration, or of every addon."""
    query = f"""
        select id::text, min(name) as name, min(coalesce(to_jsonb(listed) ->> 'proration', 'none')) as proration
        from cloud.{what}s listed group by id
    """
    rows = connection.exec_driver_sql(query).mappings()
    return {row["id"]: {"name": row["name"], "proration": row["proration"]} for row in rows}


def the_only(what: str, code: str, prices: list[Listed], month: BillingMonth) -> Listed:
    """The plan's or addon's entry in the list. Raises UnknownCode and AmbiguousCode."""
    found = [listed for listed in prices if listed[0] == code]
    if not found:
        known = ", ".join(sorted({listed[0] for listed in prices})) or "none"
        raise UnknownCode(f"no {what} {code!r} with a price in {month}: there is {known}")
    if len(found) > 1:
        raise AmbiguousCode(
            f"{what} {code!r} has {len(found)} prices in {month}: what it costs cannot be told until {what}s and"
            f" {what}_prices have one each"
        )
    return found[0]
