"""The month's bill allocated to deployments, in USD and AUD, and what is left of the revenue."""

import dagster as dg

from arcadia_pipelines.costs import margins
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.pipeline import pictures, reporting
from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.assets.cloud_invoices import cloud_invoices
from arcadia_pipelines.pipeline.assets.metered_usage import metered_usage
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.storage import columns


@dg.asset(
    partitions_def=MONTHS,
    deps=[
        cloud_invoices,
        metered_usage,
        dg.AssetKey("tenant_invoices"),
        CLOUD_TABLES["cloud_deployments"],
        CLOUD_TABLES["subscriptions"],
    ],
    group_name="costs",
    kinds={"postgres", "pandas"},
    owners=["team:finance"],
    metadata={"dagster/table_name": "billing.cost_allocations"},
)
def cost_allocations(context: dg.AssetExecutionContext, database: BillingDatabase) -> dg.MaterializeResult[None]:
    """Each item of the bill goes to the deployment that had its resource, else to its project's, else to none.

    To the cent, in USD and at the month's rate in AUD; nothing is written if nothing changed. The margin is shown, from
    the views cost_vs_revenue_by_month, _by_deployment, _by_kind and _by_tenant.
    """
    month = month_of(context)
    with database.month_at_an_instant(month) as connection:
        allocated = month_costs.allocate(connection, month)
        months, kinds = margins.by_month(connection, month), margins.by_kind(connection, month)
        lowest = margins.lowest_margins(connection, month)
        metadata = reporting.costs(
            allocated,
            months,
            kinds,
            lowest,
            margins.unallocated(connection, month),
            columns.of(connection, "cost_allocations"),
        )
    drawn = pictures.drawn(
        {
            "cost_vs_revenue_by_month_picture": lambda: pictures.cost_vs_revenue_by_month(months),
            "cost_vs_revenue_by_kind_picture": lambda: pictures.cost_vs_revenue_by_kind(kinds),
            "lowest_margins_picture": lambda: pictures.lowest_margins(lowest),
        }
    )
    return dg.MaterializeResult(metadata=reporting.with_pictures(metadata, drawn, *drawn))
