"""The provisioning-time price: what a deployment would cost a month, before it exists.

It puts one row through the quote engine that will invoice it (billing/quote.py), at the stored prices of the month.
"""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import invoice, quote
from arcadia_pipelines.billing.money import frame
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.storage import catalogue, price_list, terms

_NEW = "new"


class CannotQuote(Refused):
    """The deployment cannot be priced; the message says why."""


def project(
    connection: Connection,
    month: BillingMonth,
    plan: str,
    addons: Sequence[str],
    usage: dict[str, Decimal],
    tenant: str | None = None,
    first_day: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Price one deployment: the invoice (one row, invoice.INVOICES) and its lines (invoice.INVOICE_LINES).

    `addons` are codes, one for each unit; `usage` is quantity by resource kind, in the rates' units. A tenant's own
    prices, GST status and discounts of all its deployments count, its commitments do not; without one the list's prices
    and 10 %. From its first day of the month on it is there, which
    makes a difference to plans that prorate. Raises price_list.UnknownCode, catalogue.UnknownTenant and CannotQuote.
    """
    whom = catalogue.tenant_of(connection, tenant) if tenant else frame(invoice.TENANTS, [(_NEW, None, "{}")])
    plan_id, subscription = _subscription(connection, month, plan, tenant, first_day)
    rates, tiers = price_list.rates_for(connection, month, tenant)
    discounts = terms.for_new(connection, month, tenant)
    quoted = quote.quote(
        subscription,
        _addons(connection, month, addons, tenant, first_day),
        rates,
        frame(quote.USAGE, [(_NEW, _NEW, kind, quantity, 0, 0) for kind, quantity in usage.items()]),
        tiers=tiers,
        discounts=discounts,
    )
    if len(quoted.faults):
        raise CannotQuote(quoted.faults["detail"].iloc[0].replace(f" of deployment {_NEW}", ""))
    if len(quoted.unbilled):
        kinds = ", ".join(sorted(set(rates[rates["plan_id"] == plan_id]["resource_kind"]))) or "none"
        raise CannotQuote(
            f"plan {plan!r} has no rate for {quoted.unbilled['resource_kind'].iloc[0]!r} in {month}: it has {kinds}"
        )
    lines = invoice.tenant_lines(quoted.lines, invoice.Carried(), whom, month, discounts)
    return invoice.totals(lines, whom, month), lines.assign(deployment_id=None)


def _subscription(
    connection: Connection, month: BillingMonth, plan: str, tenant: str | None, first_day: int
) -> tuple[str, pd.DataFrame]:
    """The plan's id, and the deployment's subscription of it."""
    on_sale = price_list.plan_prices(connection, month, tenant)
    _, plan_id, cents, since, own = price_list.the_only("plan", plan, on_sale, month)
    deployment = (_NEW, tenant or _NEW, True, _NEW, True, _NEW, False, False, None, None)
    days = (price_list.is_daily(connection, plan_id), first_day, month.days, month.days)
    row = (*deployment, plan_id, plan, cents, since.isoformat(), own, *days)
    return plan_id, frame(quote.SUBSCRIPTIONS, [row])


def _addons(
    connection: Connection, month: BillingMonth, addons: Sequence[str], tenant: str | None, first_day: int
) -> pd.DataFrame:
    """The deployment's addons, each once with its quantity."""
    on_sale = price_list.addon_prices(connection, month, tenant) if addons else []
    prices = {
        code: (count, *price_list.the_only("addon", code, on_sale, month)[2:])
        for code, count in Counter(addons).items()
    }
    rows = [
        (code, _NEW, False, None, code, count, cents, since.isoformat(), own, first_day, month.days)
        for code, (count, cents, since, own) in prices.items()
    ]
    return frame(quote.ADDONS, list(rows))
