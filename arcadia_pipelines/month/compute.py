"""A month computed from what the database holds: its quotes, and its invoices. Reads, and writes nothing.

Everybody who needs a month computed calls these: the assets, which store the result, and the proofs, which compare it.
A month comes in chunks of some thousand tenants, each computed in a thread while the one before it is used.
"""

from collections.abc import Sequence

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import invoice
from arcadia_pipelines.billing.invoice import Carried
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import Quotes, quote
from arcadia_pipelines.storage import billed, catalogue, publication, quotes, streams, terms, usage
from arcadia_pipelines.storage.streams import Query, ahead
from arcadia_pipelines.storage.terms import Terms


def month_quotes(
    connection: Connection, month: BillingMonth, *beside: Query, only: Sequence[str] | None = None
) -> quotes.Chunks:
    """The quotes of the month's frozen usage, by the subscriptions and the prices in effect, chunk by chunk.

    With each chunk come the rows of the queries `beside` for the same tenants. They take `month`. If `only` is given,
    only these tenants are quoted, and unassigned usage.
    """
    rates, tiers = catalogue.rates(connection, month), catalogue.tiers(connection, month)
    agreed = terms.of(connection, month)
    parameters = catalogue.bounds(month)
    queries = catalogue.SUBSCRIPTIONS, catalogue.ADDONS, usage.FROZEN, billed.CONTESTED, *beside
    chunks = streams.chunks(connection, parameters, *queries, only=only)
    return ahead(
        (quote(subs, addons, rates, used, contested, tiers, *agreed), rest)
        for subs, addons, used, contested, *rest in ahead(chunks)
    )


def quotes_of(
    connection: Connection, month: BillingMonth, used: pd.DataFrame, only: Sequence[str] | None = None
) -> Quotes:
    """The quotes of the month, or of these tenants only, for this usage (quote.USAGE), in one piece."""
    parameters = catalogue.bounds(month)
    subscriptions, addons, contested = (
        streams.whole(connection, parameters, query, only)
        for query in (catalogue.SUBSCRIPTIONS, catalogue.ADDONS, billed.CONTESTED)
    )
    rates, tiers = catalogue.rates(connection, month), catalogue.tiers(connection, month)
    agreed = terms.of(connection, month)
    return quote(subscriptions, addons, rates, used, contested, tiers, *agreed)


Invoiced = tuple[pd.DataFrame, pd.DataFrame]
"""Invoices (invoice.INVOICES) and their lines (invoice.INVOICE_LINES)."""


def invoices(
    quote_lines: pd.DataFrame, carried: Carried, tenants: pd.DataFrame, month: BillingMonth, agreed: Terms
) -> Invoiced:
    """The invoices for these quote lines, with what these tenants' invoices carry, by their terms."""
    lines = invoice.tenant_lines(quote_lines, carried.of(tenants["tenant_id"]), tenants, month, *agreed)
    return invoice.totals(lines, tenants, month), lines


def month_invoices(
    connection: Connection,
    month: BillingMonth,
    carried: Carried,
    *beside: Query,
    only: Sequence[str] | None = None,
) -> publication.Chunks:
    """The invoices of the month's stored quotes and their lines, chunk by chunk, as Invoiced.

    They carry these corrections of earlier months, manual lines and promotional credit (credits.carried_by). With each
    chunk come the rows of the queries `beside` for the same tenants. They take `month`. If `only` is given, other
    tenants' invoices are left out.
    """
    agreed = terms.of(connection, month)
    chunks = streams.chunks(connection, {"month": month.start}, quotes.LINES, catalogue.TENANTS, *beside, only=only)

    def invoiced(quote_lines: pd.DataFrame, tenants: pd.DataFrame, *rest: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
        return (*invoices(quote_lines, carried, tenants, month, agreed), *rest)

    return ahead(invoiced(*chunk) for chunk in ahead(chunks))
