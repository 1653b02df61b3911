"""A month worked out from what the database holds: its quotes, and its invoices. Reads, and writes nothing.

Whoever needs the month computed calls these: the assets, which store what they get, and the proofs, which compare it.
"""

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import invoice
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import Quotes, quote
from arcadia_pipelines.storage import catalogue, corrections


def quotes(connection: Connection, month: BillingMonth, usage: pd.DataFrame) -> Quotes:
    """The month's quotes for this usage (quote.USAGE), by the subscriptions and the prices in effect."""
    return quote(
        catalogue.subscriptions(connection, month),
        catalogue.addons(connection, month),
        catalogue.rates(connection, month),
        usage,
    )


def invoices(
    connection: Connection, month: BillingMonth, quote_lines: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The month's invoices (invoice.INVOICES) and their lines (invoice.INVOICE_LINES) for these quote lines.

    They carry the corrections of earlier months that are theirs to carry (storage/corrections.py).
    """
    tenants = catalogue.tenants(connection)
    lines = invoice.tenant_lines(quote_lines, corrections.carried_by(connection, month), tenants, month)
    return invoice.totals(lines, tenants, month), lines
