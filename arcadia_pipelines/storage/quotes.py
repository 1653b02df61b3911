"""A month's quotes: their lines, the usage on no line, and the faults that hold tenants back."""

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import FAULTS, QUOTE_LINES, UNBILLED, Quotes
from arcadia_pipelines.storage import bulk, months


def replace(connection: Connection, month: BillingMonth, quotes: Quotes) -> bool:
    """Make these the month's quotes; returns whether anything was written."""
    written = [
        months.replace_partition(
            connection, "deployment_quote_lines", month, quotes.lines, QUOTE_LINES, "subscription_id, line_no"
        ),
        months.replace_rows(
            connection,
            "unbilled_usage",
            month,
            quotes.unbilled,
            UNBILLED,
            'deployment_id, resource_kind collate "C", subscription_id',
        ),
        months.replace_rows(
            connection,
            "quote_faults",
            month,
            quotes.faults,
            FAULTS,
            'tenant_id collate "C", subscription_id, deployment_id, resource_kind collate "C", fault collate "C",'
            ' detail collate "C"',
        ),
    ]
    return any(written)


def lines(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's quote lines, as quote.QUOTE_LINES."""
    query = "select * from billing.deployment_quote_lines where period_start = %(month)s"
    return bulk.read(connection, query, QUOTE_LINES, {"month": month.start})


def faults(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's faults, as quote.FAULTS."""
    query = "select * from billing.quote_faults where period_start = %(month)s"
    return bulk.read(connection, query, FAULTS, {"month": month.start})


def is_quoted(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month has been quoted, be it with no line."""
    return months.has_partition(connection, "deployment_quote_lines", month)
