"""The billing month as Dagster's partition. Its key is `period_start`: 2026-04-01.

The running month is no partition: it cannot be billed before it is over.
"""

import dagster as dg

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings

MONTHS = dg.MonthlyPartitionsDefinition(start_date=Settings.from_environment().first_month.key, timezone="UTC")


def month_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> BillingMonth:
    """The month that the step is for."""
    return BillingMonth.parse(context.partition_key)
