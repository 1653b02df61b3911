"""The only wiring: what Dagster, the tests and the command line load."""

import dagster as dg

from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.assets.cloud_invoices import cloud_invoices
from arcadia_pipelines.pipeline.assets.cost_allocations import cost_allocations
from arcadia_pipelines.pipeline.assets.deployment_quotes import deployment_quotes
from arcadia_pipelines.pipeline.assets.finance_invoices import finance_agrees, finance_invoices
from arcadia_pipelines.pipeline.assets.metered_usage import metered_usage
from arcadia_pipelines.pipeline.assets.tenant_invoices import publish_invoices
from arcadia_pipelines.pipeline.assets.views import VIEWS
from arcadia_pipelines.pipeline.checks import CHECKS
from arcadia_pipelines.pipeline.documents import documents
from arcadia_pipelines.pipeline.finance import OPERATIONS as FINANCE_OPERATIONS
from arcadia_pipelines.pipeline.finance import (
    compare_with_finance,
    compare_with_finance_schedule,
    tell_finance,
    tell_finance_what_is_due,
)
from arcadia_pipelines.pipeline.jobs import OPERATIONS, check_month, month_costs, month_end
from arcadia_pipelines.pipeline.reprice import reprice
from arcadia_pipelines.pipeline.resources import BillingDatabase, Results
from arcadia_pipelines.pipeline.schedules import month_costs_schedule, month_end_schedule
from arcadia_pipelines.pipeline.sensors import SENSORS


def build_defs(database: BillingDatabase | None = None) -> dg.Definitions:
    """The definitions on this database; without one, on the one that the environment names."""
    return dg.Definitions(
        assets=[
            *CLOUD_TABLES.values(),
            metered_usage,
            deployment_quotes,
            publish_invoices,
            cloud_invoices,
            cost_allocations,
            finance_invoices,
            *VIEWS,
        ],
        asset_checks=[*CHECKS, finance_agrees],
        jobs=[
            month_end,
            month_costs,
            check_month,
            reprice,
            documents,
            *OPERATIONS,
            tell_finance,
            compare_with_finance,
            *FINANCE_OPERATIONS,
        ],
        schedules=[month_end_schedule, month_costs_schedule, compare_with_finance_schedule],
        sensors=[*SENSORS, tell_finance_what_is_due],
        resources={"database": database or BillingDatabase(), "results": Results()},
        executor=dg.in_process_executor,  # a month takes seconds; a process per step would take longer to start
    )


defs = build_defs()
