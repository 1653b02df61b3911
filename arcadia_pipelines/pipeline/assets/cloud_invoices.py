"""The provider's bill of the month, as received."""

import dagster as dg

from arcadia_pipelines.costs import bills, digitalocean
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.pipeline import reporting
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import columns


@dg.asset(
    partitions_def=MONTHS,
    group_name="costs",
    kinds={"postgres", "digitalocean"},
    owners=["team:finance"],
    metadata={"dagster/table_name": "billing.cloud_invoices"},
)
def cloud_invoices(context: dg.AssetExecutionContext, database: BillingDatabase) -> dg.MaterializeResult[None]:
    """The provider's bill and its items: fetched if ARCADIA_DIGITALOCEAN_TOKEN is set, else as it was imported.

    A bill that does not add up is refused. The same bill again changes nothing; a restated one replaces the month's.
    """
    month, settings = month_of(context), Settings.from_environment()
    fetched, how = None, "nothing fetched: no token is set"
    if settings.digitalocean_token:
        try:
            fetched, how = digitalocean.fetch(month, settings), "fetched"
        except digitalocean.NotBilled as error:  # an imported bill will do
            with database.transaction() as connection:
                if not bills.has_bill(connection, month):
                    raise
            how = f"nothing fetched: {error}"
    with database.month(month) as connection:
        stored = bills.store(connection, fetched, context.run.run_id) if fetched else None
        if stored and stored.outcome != "unchanged":
            month_costs.allocate(connection, month)  # so that the month is never without its costs
        standing = bills.standing(connection, month)
        products = bills.by_product(connection, month)
        schema = columns.of(connection, "cloud_invoice_items")
        return dg.MaterializeResult(metadata=reporting.bill(stored, how, standing, products, schema))
