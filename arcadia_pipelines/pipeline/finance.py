"""What tells finance of invoices by itself, or when an operator says so: jobs, a sensor, and the nightly reconcile."""

import datetime as dt
from collections.abc import Callable

import dagster as dg
from pydantic import Field

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.ledgers import ledger_of
from arcadia_pipelines.finance.reconcile import reconcile
from arcadia_pipelines.pipeline import failures
from arcadia_pipelines.pipeline.acts import DRY_RUN_TAG, step_of
from arcadia_pipelines.pipeline.assets.finance_invoices import (
    UNSET,
    Rows,
    compared,
    finance_agrees,
    finance_invoices,
    open_rows,
    said,
    table,
)
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import ledger, outbox

_RECONCILED_MONTHS = 12
"""How many months, newest first, are compared each night."""

tell_finance = dg.define_asset_job(
    "tell_finance",
    selection=dg.AssetSelection.assets(finance_invoices) - dg.AssetSelection.checks(finance_agrees),
    description="Tell finance of a month's invoices, as far as they are due. The sensor tell_finance_what_is_due asks "
    "for it.",
)
compare_with_finance = dg.define_asset_job(
    "compare_with_finance",
    selection=dg.AssetSelection.checks(finance_agrees),
    # As check_month: it materialises no asset that it could take its partitions from.
    config=dg.PartitionedConfig(partitions_def=MONTHS, run_config_for_partition_key_fn=lambda _: {}),
    description="Compare a month with what finance has, and record the payments that it knows of.",
)


class _OfMonth(dg.Config):
    month: str = Field(description="The month, like 2026-04.")
    dry_run: bool = Field(True, description="true: say what would be done, and do nothing. false: do it.")


class _Push(_OfMonth):
    refused: bool = Field(False, description="true: send again what finance refused, once that was mended there.")


def _job(act: Callable[..., None], description: str) -> dg.JobDefinition:
    step = dg.op(name=step_of(act.__name__), out=dg.Out(dg.Nothing))(failures.marking_refusals()(act))
    tags = {"arcadia/operation": act.__name__, "dagster/max_retries": "0"}
    return dg.GraphDefinition(name=act.__name__, node_defs=[step]).to_job(
        name=act.__name__, description=description, tags=tags
    )


def push_to_finance(context: dg.OpExecutionContext, config: _Push, database: BillingDatabase) -> None:
    """Let go what is held back of a month, and send what is neither confirmed nor refused, at once."""
    month = BillingMonth.parse(config.month)
    with ledger_of(Settings.from_environment()) as client:
        if config.dry_run:
            with database.month(month) as connection:
                outbox.enqueue(connection, month)
                rows = outbox.status(connection, month)
                connection.rollback()
            _say(context, f"{number_of(open_rows(rows), 'rows')} of {month} would be sent", rows, dry_run=True)
            return
        draining.prepare(database.engine(), month, config.refused)
        drained = draining.drain(database.engine(), client, month, at_once=True)
    with database.transaction() as connection:
        rows = outbox.status(connection, month)
    _say(context, f"{month}: {said(drained)}; {number_of(open_rows(rows), 'rows')} still to be told", rows)


def reconcile_with_finance(context: dg.OpExecutionContext, config: _OfMonth, database: BillingDatabase) -> None:
    """Compare a month with what finance has; a dry run records no payment."""
    month = BillingMonth.parse(config.month)
    with ledger_of(Settings.from_environment()) as client:
        found = reconcile(database.engine(), client, month, context.run_id, config.dry_run)
    if config.dry_run:
        context.instance.add_run_tags(context.run_id, {DRY_RUN_TAG: "true"})
    paid = f"{number_of(len(found.paid), 'invoices')} {'would be' if config.dry_run else 'now'} paid"
    summary = f"{month}: {number_of(len(found.offenders), 'invoices')} missing, extra or different; {paid}"
    context.log.info(summary)
    context.add_output_metadata({"summary": dg.MetadataValue.text(summary), **compared(found)})


def _say(context: dg.OpExecutionContext, summary: str, rows: Rows, dry_run: bool = False) -> None:
    if dry_run:
        context.instance.add_run_tags(context.run_id, {DRY_RUN_TAG: "true"})
    context.log.info(summary)
    context.add_output_metadata({"summary": dg.MetadataValue.text(summary), "rows": table(rows)})


@dg.sensor(
    job=tell_finance,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Each minute, requests a run for each month of whose invoices something is due to be told to finance. "
    "Skipped without ARCADIA_FINANCE_URL.",
)
def tell_finance_what_is_due(
    context: dg.SensorEvaluationContext, database: BillingDatabase
) -> list[dg.RunRequest] | dg.SkipReason:
    """One run per month at a time: a month that is being told is not asked for again."""
    if not Settings.from_environment().finance_url:
        return dg.SkipReason(UNSET)
    with database.transaction() as connection:
        months = outbox.due_months(connection)
    unfinished = dg.RunsFilter(
        job_name=tell_finance.name,
        statuses=[
            dg.DagsterRunStatus.QUEUED,
            dg.DagsterRunStatus.NOT_STARTED,
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.STARTED,
        ],
    )
    running = {run.tags.get("dagster/partition") for run in context.instance.get_runs(unfinished)}
    due = [dg.RunRequest(partition_key=month.key) for month in months if month.key not in running]
    return due or dg.SkipReason("Nothing is due to be told to finance, or it is being told.")


@dg.schedule(
    job=compare_with_finance,
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each night at 04:00 UTC, compares the last twelve months with what finance has, and records the "
    "payments that it knows of. Skipped without ARCADIA_FINANCE_URL.",
)
def compare_with_finance_schedule(
    context: dg.ScheduleEvaluationContext, database: BillingDatabase
) -> list[dg.RunRequest] | dg.SkipReason:
    """The months of which finance was told something."""
    if not Settings.from_environment().finance_url:
        return dg.SkipReason(UNSET)
    night = context.scheduled_execution_time.astimezone(dt.UTC).date()
    with database.transaction() as connection:
        told = {row["period_start"] for row in outbox.status(connection)}
        months = [month for month in ledger.invoiced_months(connection) if month.start in told]
    if not months:
        return dg.SkipReason("Finance was told of no month yet.")
    return [
        dg.RunRequest(run_key=f"{month.key} on {night}", partition_key=month.key)
        for month in months[-_RECONCILED_MONTHS:]
    ]


OPERATIONS = [
    _job(push_to_finance, "Tell finance of a month's invoices now: what is held back is let go, what waits is tried."),
    _job(reconcile_with_finance, "Compare a month with what finance has; a dry run records no payment."),
]
