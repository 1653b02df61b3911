"""What happens by itself: on the 1st the month just ended is invoiced, on the 2nd its bill is fetched."""

import datetime as dt

import dagster as dg

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline.jobs import month_costs, month_end
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import ledger


@dg.schedule(
    job=month_end,
    cron_schedule="0 3 1 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="On the 1st at 03:00 UTC, invoice the month just ended. A month that is invoiced already is skipped.",
)
def month_end_schedule(
    context: dg.ScheduleEvaluationContext, database: BillingDatabase
) -> dg.RunRequest | dg.SkipReason:
    """Ask for the month before the tick's, by the tick's own clock."""
    tick = context.scheduled_execution_time.astimezone(dt.UTC)
    month = BillingMonth(tick.date().replace(day=1)).before
    if month.key not in MONTHS.get_partition_keys(current_time=tick):
        return dg.SkipReason(f"{month} is before the first billing month (ARCADIA_FIRST_MONTH).")
    with database.transaction() as connection:
        if ledger.is_invoiced(connection, month):
            count = ledger.invoice_count(connection, month)
            return dg.SkipReason(
                f"{month} is already invoiced ({number_of(count, 'invoices')}). To compute it again, materialise the"
                f" partition {month.key} of the month-end assets."
            )
    return dg.RunRequest(run_key=month.key, partition_key=month.key)


@dg.schedule(
    job=month_costs,
    cron_schedule="0 3 2 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="On the 2nd at 03:00 UTC, fetch the provider's bill of the month just ended, which it issues on the "
    "1st, and set it beside the revenue. Skipped without ARCADIA_DIGITALOCEAN_TOKEN.",
)
def month_costs_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for the month before the tick's, by the tick's own clock."""
    tick = context.scheduled_execution_time.astimezone(dt.UTC)
    month = BillingMonth(tick.date().replace(day=1)).before
    if month.key not in MONTHS.get_partition_keys(current_time=tick):
        return dg.SkipReason(f"{month} is before the first billing month (ARCADIA_FIRST_MONTH).")
    if not Settings.from_environment().digitalocean_token:
        return dg.SkipReason(
            f"ARCADIA_DIGITALOCEAN_TOKEN is not set: import the bill of {month} (arcadia costs import FILE)."
        )
    return dg.RunRequest(run_key=f"costs of {month.key}", partition_key=month.key)
