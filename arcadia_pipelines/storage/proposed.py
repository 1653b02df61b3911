"""A proposed price list in the place of the platform's: the same queries, over prices that are handed to them.

Belongs here: which tables of prices there are, and their rows as parameters. Does not: the queries (catalogue.py,
terms.py), and reading a price book (prices/). Nothing is written, not even a temporary table: the readers of a month
(streams.py) have connections of their own.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import models, quote
from arcadia_pipelines.billing.commitments import COMMITMENTS
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk, catalogue, terms
from arcadia_pipelines.storage.streams import Query
from arcadia_pipelines.storage.terms import Terms

PRICES = {
    "plans": "code text, proration text",
    "prices": "tenant_id text, plan text, addon text, cents numeric",
    "rates": "tenant_id text, plan text, resource_kind text, included_quantity numeric, unit text,"
    " unit_price_cents numeric, columns jsonb",
    "tiers": "tenant_id text, plan text, resource_kind text, up_to numeric, unit_price_cents numeric,"
    " flat_cents numeric",
    "discounts": "id uuid, tenant_id text, deployment_id uuid, line_kind text, resource_kind text, percent numeric,"
    " amount_cents numeric, starts_on date, ends_on date, description text",
    "commitments": "id uuid, tenant_id text, deployment_id uuid, minimum_cents numeric, starts_on date, ends_on date",
}
"""What a proposed price list is: rows by name, with these columns. Plans and addons go by code; without a tenant it is
the list's. The rates' `columns` are charge_model, package_size, maximum_cents and pooled.
"""


def _rows(name: str) -> str:
    return f"jsonb_to_recordset(%(proposed)s::jsonb -> '{name}') as x({PRICES[name]})"


_ALWAYS = "date '0001-01-01' as effective_from"
_STANDS_FOR = {
    "cloud.plans": ("plans", f"""
        select p.id, p.code, p.name, x.proration from cloud.plans p left join {_rows("plans")} on x.code = p.code
    """),
    "cloud.plan_prices": ("plan_prices", f"""
        select p.id as plan_id, {_ALWAYS}, x.cents as base_price_cents
        from {_rows("prices")} join cloud.plans p on p.code = x.plan where x.tenant_id is null
    """),
    "cloud.addon_prices": ("addon_prices", f"""
        select a.id as addon_id, {_ALWAYS}, x.cents as price_cents
        from {_rows("prices")} join cloud.addons a on a.code = x.addon where x.tenant_id is null
    """),
    "billing.tenant_prices()": ("tenant_prices", f"""
        select x.tenant_id, p.id as plan_id, a.id as addon_id, {_ALWAYS}, x.cents
        from {_rows("prices")} left join cloud.plans p on p.code = x.plan left join cloud.addons a on a.code = x.addon
        where x.tenant_id is not null
    """),
    "billing.rates()": ("rates", f"""
        select x.tenant_id, p.id as plan_id, x.resource_kind, {_ALWAYS}, x.included_quantity, x.unit,
               x.unit_price_cents, x.columns
        from {_rows("rates")} join cloud.plans p on p.code = x.plan
    """),
    "billing.rate_tiers()": ("rate_tiers", f"""
        select x.tenant_id, p.id as plan_id, x.resource_kind, {_ALWAYS}, x.up_to, x.unit_price_cents, x.flat_cents
        from {_rows("tiers")} join cloud.plans p on p.code = x.plan
    """),
    "billing.discounts()": ("discounts", f"select * from {_rows('discounts')}"),
    "billing.commitments()": ("commitments", f"select * from {_rows('commitments')}"),
}  # fmt: skip
"""What is read of prices: the relation, and the rows that stand for it."""
_PROPOSED = ", ".join(f"proposed_{name} as ({query})" for name, query in _STANDS_FOR.values())


def parameters(month: BillingMonth, prices: Mapping[str, Any]) -> dict[str, object]:
    """The queries' parameters for a month at these prices (PRICES)."""
    return {**catalogue.bounds(month), "proposed": json.dumps(prices, default=str)}


def at(query: Query) -> Query:
    """The query over the proposed prices."""
    return Query(_over(query.text), query.schema)


def _over(text: str) -> str:
    for relation, (name, _) in _STANDS_FOR.items():
        text = text.replace(relation, f"proposed_{name}")
    return f"with {_PROPOSED} select * from ({text}) priced"


def rates(connection: Connection, of: Mapping[str, object]) -> pd.DataFrame:
    """The proposed rates, as quote.RATES."""
    return bulk.read(connection, _over(catalogue.RATES), quote.RATES, of)


def tiers(connection: Connection, of: Mapping[str, object]) -> pd.DataFrame:
    """Their tiers, as models.TIERS."""
    return bulk.read(connection, _over(catalogue.TIERS), models.TIERS, of)


def terms_of(connection: Connection, of: Mapping[str, object]) -> Terms:
    """The proposed discounts and commitments that are in effect in the month."""
    return Terms(
        bulk.read(connection, _over(terms.DISCOUNTS_IN_EFFECT), DISCOUNTS, of),
        bulk.read(connection, _over(terms.COMMITMENTS_IN_EFFECT), COMMITMENTS, of),
    )
