"""The price book in the database: the one in effect in a month, and what only a database knows of a book.

Belongs here: reading the platform's tables as a price book. Does not: changing them (apply.py), what a month end reads
of them (storage/catalogue.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.prices import text
from arcadia_pipelines.prices.book import PriceBook
from arcadia_pipelines.prices.text import InvalidPrices, Path


def _aud(cents: str) -> str:
    """Cents as dollars, exactly, as text."""
    return f"trim_scale({cents}::numeric * 0.01)::text"


_LISTED = """
    select code, name, coalesce(to_jsonb(listed) ->> 'proration', 'none') as proration, price_aud
    from cloud.{0}s listed
    left join lateral (
        select {1} as price_aud from cloud.{0}_prices price
        where price.{0}_id = listed.id and effective_from <= %(month)s order by effective_from desc limit 1
    ) price on true
"""
_PLANS = _LISTED.format("plan", _aud("base_price_cents"))
_ADDONS = _LISTED.format("addon", _aud("price_cents"))
_OWN = f"""
    select * from (
        select distinct on (tenant_id, p.plan_id, p.addon_id) tenant_id, p.plan_id is null as is_addon,
               coalesce(plan.code, addon.code) as code, {_aud("cents")} as price_aud
        from billing.tenant_prices() p
        left join cloud.plans plan on plan.id = p.plan_id
        left join cloud.addons addon on addon.id = p.addon_id
        where effective_from <= %(month)s
        order by tenant_id, p.plan_id, p.addon_id, effective_from desc
    ) own where price_aud is not null and code is not null
"""
# What a tiered rate says of a unit's price counts for nothing.
_RATES = f"""
    with tiers as (
        select tenant_id, plan_id, resource_kind, effective_from,
               json_agg(json_strip_nulls(json_build_object(
                   'up_to', up_to::text, 'unit_price_aud', {_aud("unit_price_cents")}, 'flat_aud', {_aud("flat_cents")}
               )) order by up_to nulls last) as tiers
        from billing.rate_tiers() group by 1, 2, 3, 4
    ),
    newest as (
        select distinct on (r.tenant_id, r.plan_id, r.resource_kind) r.tenant_id, p.code, r.resource_kind, r.unit,
               r.included_quantity::text as included, coalesce(r.columns ->> 'charge_model', 'per_unit') as model,
               {_aud("r.unit_price_cents")} as unit_price_aud, r.columns ->> 'package_size' as package_size,
               {_aud("(r.columns ->> 'maximum_cents')")} as maximum_aud,
               coalesce(r.columns ->> 'pooled', 'false') as pooled, t.tiers
        from billing.rates() r
        join cloud.plans p on p.id = r.plan_id
        left join tiers t on t.tenant_id is not distinct from r.tenant_id and t.plan_id = r.plan_id
                         and t.resource_kind = r.resource_kind and t.effective_from = r.effective_from
        where r.effective_from <= %(month)s
        order by r.tenant_id, r.plan_id, r.resource_kind, r.effective_from desc
    )
    select tenant_id, code, resource_kind, unit, included, model,
           case when model not in ('graduated', 'volume') then unit_price_aud end as unit_price_aud,
           package_size, maximum_aud, pooled, tiers
    from newest
    where tenant_id is null or unit_price_aud is not null
"""
_DISCOUNTS = f"""
    select tenant_id, id::text, deployment_id::text as deployment, starts_on::text, ends_on::text, description,
           percent::text, {_aud("amount_cents")} as amount_aud, line_kind, resource_kind
    from billing.discounts() where ends_on is null or ends_on > %(month)s order by starts_on, id
"""
_COMMITMENTS = f"""
    select tenant_id, id::text, deployment_id::text as deployment, starts_on::text, ends_on::text,
           {_aud("minimum_cents")} as minimum_aud
    from billing.commitments() where ends_on is null or ends_on > %(month)s order by starts_on, id
"""


def in_effect(connection: Connection, month: BillingMonth) -> PriceBook:
    """The price book in effect in the month: the newest prices not after its first day, and what has not ended by then.

    Discounts and commitments that begin later are in it too. Raises InvalidPrices where the tables hold what no price
    book may.
    """

    def rows(query: str) -> Iterator[dict[str, Any]]:
        for row in connection.exec_driver_sql(query, {"month": month.start}).mappings():
            yield {name: value for name, value in row.items() if value is not None}

    plans = {row.pop("code"): {**row, "rates": {}} for row in rows(_PLANS)}
    addons = {row["code"]: {name: row[name] for name in ("name", "price_aud") if name in row} for row in rows(_ADDONS)}
    document: dict[str, Any] = {"plans": plans, "addons": addons, "tenants": {}}

    def of(tenant: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"plans": {}, "addons": {}, "discounts": [], "commitments": []}
        return document["tenants"].setdefault(tenant, empty)  # type: ignore[no-any-return]

    for own in rows(_OWN):
        of(own["tenant_id"])["addons" if own["is_addon"] else "plans"][own["code"]] = {"price_aud": own["price_aud"]}
    for rate in rows(_RATES):
        tenant, code, kind = rate.pop("tenant_id", None), rate.pop("code"), rate.pop("resource_kind")
        plan = plans[code] if tenant is None else of(tenant)["plans"].setdefault(code, {})
        plan.setdefault("rates", {})[kind] = rate
    for name, query in (("discounts", _DISCOUNTS), ("commitments", _COMMITMENTS)):
        for term in rows(query):
            of(term.pop("tenant_id"))[name].append(term)
    return _valid(document)


def _valid(document: dict[str, Any]) -> PriceBook:
    """The document as a price book. Raises InvalidPrices."""
    reading = text.validated(document, {}, [])
    if reading.book is None:
        first = reading.faults[0]
        more = f", and {len(reading.faults) - 1} more" if len(reading.faults) > 1 else ""
        raise InvalidPrices(
            f"the prices in the database are no price book: {first.where} {first.what}{more}: correct them there"
        )
    return reading.book


# What only a database knows of a book.

_UNKNOWN_TENANTS = "select t from unnest(%(tenants)s::text[]) t where t not in (select id from cloud.tenants)"
_UNKNOWN_DEPLOYMENTS = """
    select d from unnest(%(deployments)s::text[]) d where d not in (select id::text from cloud.cloud_deployments)
"""
_UNMETERED = """
    select kind from unnest(%(kinds)s::text[]) kind
    where not exists (select from billing.metered_usage where resource_kind = kind)
      and not exists (select from cloud.usage_records where resource_kind = kind)
"""


def strangers(connection: Connection, prices: PriceBook) -> list[tuple[Path, str]]:
    """Where the book names a tenant or a deployment that the platform does not have, and what is wrong."""
    deployments = {
        ("tenants", tenant, kind, place, "deployment"): str(term.deployment)
        for tenant, own in prices.tenants.items()
        for kind in ("discounts", "commitments")
        for place, term in enumerate(getattr(own, kind))
        if term.deployment
    }
    unknown = set(_asked(connection, _UNKNOWN_TENANTS, tenants=list(prices.tenants)))
    found: list[tuple[Path, str]] = [(("tenants", tenant), "is no tenant of the platform") for tenant in unknown]
    missing = set(_asked(connection, _UNKNOWN_DEPLOYMENTS, deployments=sorted(set(deployments.values()))))
    return found + [(path, "is no deployment of the platform") for path, one in deployments.items() if one in missing]


def unmetered(connection: Connection, prices: PriceBook) -> list[tuple[Path, str]]:
    """Where the book has a rate of a kind that no usage was ever recorded of."""
    rates: dict[Path, str] = {
        ("plans", code, "rates", kind): kind for code, plan in prices.plans.items() for kind in plan.rates
    }
    for tenant, own in prices.tenants.items():
        for code, own_plan in own.plans.items():
            rates |= {("tenants", tenant, "plans", code, "rates", kind): kind for kind in own_plan.rates}
    unknown = set(_asked(connection, _UNMETERED, kinds=sorted(set(rates.values()))))
    return [(path, "nothing of this kind was ever metered") for path, kind in rates.items() if kind in unknown]


def _asked(connection: Connection, query: str, **names: object) -> Sequence[str]:
    return connection.exec_driver_sql(query, names).scalars().all()
