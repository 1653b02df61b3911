"""The provisioning-time price: what a deployment would cost a month, before it exists.

One row through the same quote engine that invoices it afterwards (billing/quote.py), at the month's prices in storage.
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
from arcadia_pipelines.storage import catalogue

_NEW = "new"


class CannotQuote(Refused):
    """The deployment cannot be priced; the message says why."""


def project(
    connection: Connection, month: BillingMonth, plan: str, addons: Sequence[str], usage: dict[str, Decimal]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Price one deployment: the invoice (one row, invoice.INVOICES) and its lines (invoice.INVOICE_LINES).

    `addons` are codes, one for each unit; `usage` is quantity by resource kind, in the rates' units.
    Raises catalogue.UnknownCode and CannotQuote.
    """
    _, plan_id, base_price_cents, since = catalogue.the_only(
        "plan", plan, catalogue.plan_prices(connection, month), month
    )
    on_sale = catalogue.addon_prices(connection, month) if addons else []
    prices = {
        code: (count, *catalogue.the_only("addon", code, on_sale, month)[2:]) for code, count in Counter(addons).items()
    }
    rates = catalogue.rates(connection, month)
    quoted = quote.quote(
        frame(
            quote.SUBSCRIPTIONS,
            [
                (
                    *(_NEW, _NEW, True, _NEW, True, _NEW, False, False, None, None),
                    *(plan_id, plan, base_price_cents, since.isoformat(), False),
                )
            ],
        ),
        frame(
            quote.ADDONS,
            [
                (code, _NEW, False, None, code, count, cents, effective.isoformat(), False)
                for code, (count, cents, effective) in prices.items()
            ],
        ),
        rates,
        frame(quote.USAGE, [(_NEW, _NEW, kind, quantity, 0, 0) for kind, quantity in usage.items()]),
        tiers=catalogue.tiers(connection, month),
    )
    if len(quoted.faults):
        raise CannotQuote(quoted.faults["detail"].iloc[0].replace(f" of deployment {_NEW}", ""))
    if len(quoted.unbilled):
        kinds = ", ".join(sorted(rates[rates["plan_id"] == plan_id]["resource_kind"])) or "none"
        raise CannotQuote(
            f"plan {plan!r} has no rate for {quoted.unbilled['resource_kind'].iloc[0]!r} in {month}: it has {kinds}"
        )
    tenants = frame(invoice.TENANTS, [(_NEW, None, "{}")])
    lines = invoice.tenant_lines(quoted.lines, frame(invoice.ADJUSTMENTS), tenants, month)
    invoices = invoice.totals(lines, tenants, month)
    return invoices, lines.assign(deployment_id=None)
