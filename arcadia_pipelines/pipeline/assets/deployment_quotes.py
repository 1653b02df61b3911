"""The month's quotes: the quote engine applied to each subscription and its frozen usage."""

import dagster as dg

from arcadia_pipelines.again.scope import ENGINE
from arcadia_pipelines.month import steps
from arcadia_pipelines.pipeline import reporting
from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.assets.metered_usage import metered_usage
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof import controls, usage_controls
from arcadia_pipelines.storage import columns, quotes

CODE_VERSION = f"{ENGINE:014x}"
"""The engine's version: when it changes, the UI shows what the engine before it made as out of date."""
_PRICED_BY = (
    "subscriptions",
    "subscription_addons",
    "cloud_deployments",
    "tenants",
    "plans",
    "plan_prices",
    "plan_rates",
    "plan_rate_tiers",
    "tenant_plan_prices",
    "tenant_addon_prices",
    "tenant_rates",
    "tenant_rate_tiers",
    "addons",
    "addon_prices",
)


@dg.asset(
    partitions_def=MONTHS,
    deps=[metered_usage, *(CLOUD_TABLES[name] for name in _PRICED_BY)],
    group_name="month_end",
    kinds={"postgres", "pandas"},
    code_version=CODE_VERSION,
    owners=["team:finance"],
    metadata={"dagster/table_name": "billing.deployment_quote_lines"},
)
def deployment_quotes(context: dg.AssetExecutionContext, database: BillingDatabase) -> dg.MaterializeResult[None]:
    """The preview of the month's invoices: each subscription priced by the prices in effect on the first of the month.

    Materialising it again quotes those tenants again for whom something has changed. A tenant with a fault (see the
    check no_tenant_is_held_back) is not quoted; usage on no line is in unbilled_usage.
    """
    month, run_id = month_of(context), context.run.run_id
    with database.month_at_an_instant(month) as connection:
        changed = steps.quote(connection, month)
        # At the same instant: the platform may change a plan before a later check runs.
        controls.pass_if_clean(connection, usage_controls.USAGE_IS_CONSERVED, month, run_id)
        return dg.MaterializeResult(
            metadata=reporting.quotes(
                quotes.by_kind(connection, month),
                quotes.unbilled_rows(connection, month),
                quotes.faults(connection, month),
                changed,
                columns.of(connection, "deployment_quote_lines"),
            )
        )
