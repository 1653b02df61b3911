"""Revenue beside cost: what is left of a month's revenue, by month, kind and deployment. Reads, and writes nothing."""

from typing import Any

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import CENTS, TEXT
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import bulk

MONTHS = pa.schema(
    [
        ("period_start", TEXT),
        ("revenue_cents", CENTS),
        ("cost_cents", CENTS),  # null without a bill or a rate, like the next columns
        ("unallocated_cents", CENTS),
        ("margin_cents", CENTS),
        ("open_points", TEXT),  # empty: reconciled
    ]
)
"""One row per month, oldest first."""
KINDS = pa.schema([("resource_kind", TEXT), ("revenue_cents", CENTS), ("cost_cents", CENTS), ("margin_cents", CENTS)])
"""One row per resource kind, and one for what is unallocated."""
DEPLOYMENTS = pa.schema(
    [
        ("deployment_name", TEXT),
        ("tenant_id", TEXT),
        ("revenue_cents", CENTS),
        ("cost_cents", CENTS),
        ("margin_cents", CENTS),
    ]
)
"""One row per tenant and deployment, the lowest margin first."""


UNALLOCATED = pa.schema(
    [("product", TEXT), ("description", TEXT), ("project_name", TEXT), ("usd_cents", CENTS), ("aud_cents", CENTS)]
)
"""One row per item with an unallocated part, the largest first."""


_LOWEST_MARGINS = 20
_MONTHS_SHOWN = 12


def by_month(connection: Connection, last: BillingMonth) -> pd.DataFrame:
    """Revenue beside cost of the twelve months to `last`, as MONTHS."""
    query = f"""
        select * from (select * from billing.cost_vs_revenue_by_month where period_start <= %(month)s
                       order by period_start desc limit {_MONTHS_SHOWN}) newest order by period_start
    """
    return bulk.read(connection, query, MONTHS, {"month": last.start})


def by_kind(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Revenue beside cost of the month by kind, as KINDS, the largest first."""
    query = """
        select * from billing.cost_vs_revenue_by_kind where period_start = %(month)s
        order by greatest(revenue_cents, coalesce(cost_cents, 0)) desc, resource_kind
    """
    return bulk.read(connection, query, KINDS, {"month": month.start})


def lowest_margins(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The deployments with the lowest margins in the month, as DEPLOYMENTS."""
    query = f"""
        select * from billing.cost_vs_revenue_by_deployment
        where period_start = %(month)s and deployment_id is not null
        order by margin_cents, revenue_cents desc, deployment_id limit {_LOWEST_MARGINS}
    """
    return bulk.read(connection, query, DEPLOYMENTS, {"month": month.start})


def unallocated(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """What is unallocated of the month's bill, as UNALLOCATED."""
    query = """
        select i.product, i.description, i.project_name, a.usd_cents, a.aud_cents
        from billing.cost_allocations a join billing.cloud_invoice_items i using (period_start, line_no)
        where a.period_start = %(month)s and a.deployment_id is null
        order by abs(a.usd_cents) desc, a.line_no
    """
    return bulk.read(connection, query, UNALLOCATED, {"month": month.start})


def month_by_month(connection: Connection) -> list[dict[str, Any]]:
    """billing.cost_vs_revenue_by_month, oldest first."""
    found = connection.exec_driver_sql("select * from billing.cost_vs_revenue_by_month order by period_start")
    return [dict(row) for row in found.mappings()]


def month_by_deployment(connection: Connection, month: BillingMonth) -> list[dict[str, Any]]:
    """The month's rows of billing.cost_vs_revenue_by_deployment, the lowest margin first."""
    found = connection.exec_driver_sql(
        "select * from billing.cost_vs_revenue_by_deployment where period_start = %(month)s"
        " order by margin_cents, tenant_id, deployment_name, deployment_id",
        {"month": month.start},
    )
    return [dict(row) for row in found.mappings()]
