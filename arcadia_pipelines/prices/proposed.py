"""A price book as the proposed prices of a what-if: the rows that storage/proposed.py reads.

Belongs here: the book's parts as rows, dollars as cents. Does not: what is done with them (month/reprice.py).
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from arcadia_pipelines.prices.book import PriceBook, Rate, Tenant

Rows = dict[str, list[dict[str, Any]]]


def rows(prices: PriceBook) -> Rows:
    """The book as proposed.PRICES of storage/."""
    found: Rows = {
        "plans": [{"code": code, "proration": plan.proration} for code, plan in prices.plans.items()],
        "prices": [],
        "rates": [],
        "tiers": [],
        "discounts": [],
        "commitments": [],
    }
    for whose, plans, addons in _lists(prices):
        for code, plan in plans.items():
            if plan.price_aud is not None:
                found["prices"].append({"tenant_id": whose, "plan": code, "cents": plan.price_aud * 100})
            for kind, rate in plan.rates.items():
                about = {"tenant_id": whose, "plan": code, "resource_kind": kind}
                found["rates"].append(about | _rate(rate))
                found["tiers"] += [about | tier for tier in _tiers(rate)]
        for code, addon in addons.items():
            if addon.price_aud is not None:
                found["prices"].append({"tenant_id": whose, "addon": code, "cents": addon.price_aud * 100})
    for tenant, own in prices.tenants.items():
        for name, terms in _terms(tenant, own):
            found[name] += terms
    return found


def _lists(prices: PriceBook) -> Iterator[tuple[str | None, dict[str, Any], dict[str, Any]]]:
    """The list's plans and addons, and each tenant's own."""
    yield None, dict(prices.plans), dict(prices.addons)
    for tenant, own in prices.tenants.items():
        yield tenant, dict(own.plans), dict(own.addons)


def _rate(rate: Rate) -> dict[str, Any]:
    columns = {"charge_model": rate.model, "package_size": rate.package_size, "pooled": rate.pooled}
    return {
        "included_quantity": rate.included,
        "unit": rate.unit,
        "unit_price_cents": 0 if rate.unit_price_aud is None else rate.unit_price_aud * 100,
        "columns": columns | {"maximum_cents": _cents(rate.maximum_aud)},
    }


def _tiers(rate: Rate) -> Iterator[dict[str, Any]]:
    for tier in rate.tiers:
        yield {
            "up_to": tier.up_to,
            "unit_price_cents": tier.unit_price_aud * 100,
            "flat_cents": tier.flat_aud * 100,
        }


def _terms(tenant: str, own: Tenant) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, column, terms in (
        ("discounts", "amount", own.discounts),
        ("commitments", "minimum", own.commitments),
    ):
        yield (
            name,
            [
                term.model_dump(exclude={"deployment", f"{column}_aud"})
                | {"id": term.key(tenant), "tenant_id": tenant, "deployment_id": term.deployment}
                | {f"{column}_cents": _cents(getattr(term, f"{column}_aud"))}
                for term in terms
            ],
        )


def _cents(aud: Decimal | None) -> Decimal | None:
    return None if aud is None else aud * 100
