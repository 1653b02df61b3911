"""Sensors: what is told to the webhook, and missed months.

Told are failed runs, failed checks of runs that went through, and, once a day, months and tenants that are not invoiced
and usage that came late.
"""

import datetime as dt
import json
import logging
import urllib.request

import dagster as dg
from sqlalchemy.engine import Connection

from arcadia_pipelines import late
from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.jobs import month_end
from arcadia_pipelines.partitions import MONTHS
from arcadia_pipelines.resources import BillingDatabase
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import ledger
from arcadia_pipelines.storage.controls import CONTROLS, MOST_SHOWN, Finding

_TIMEOUT_SECONDS = 10
_DAY_SECONDS = 24 * 60 * 60
_EVERY_MONTH = next(control for control in CONTROLS if control.name == "every_month_before_is_invoiced")


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells ARCADIA_ALERT_WEBHOOK_URL of each failed run, whatever started it.",
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
    """Not filtered by job: what is materialised in the UI runs as a job of Dagster's own."""
    _alert(context.log, f"{_name(context.dagster_run)} failed: {context.failure_event.message}")


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells ARCADIA_ALERT_WEBHOOK_URL of checks that failed in runs that succeeded: a tenant is held back.",
)
def alert_on_failed_checks(context: dg.RunStatusSensorContext) -> None:
    """A tenant that is held back fails no run, and nobody would hear of it. Warnings are not told."""
    entries = context.instance.all_logs(context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    checks = [entry.dagster_event.asset_check_evaluation_data for entry in entries if entry.dagster_event]
    failed = [c for c in checks if not c.passed and c.severity is dg.AssetCheckSeverity.ERROR]
    if failed:
        found = "; ".join(f"{check.check_name}: {check.description}" for check in failed)
        _alert(context.log, f"{_name(context.dagster_run)} succeeded, but checks failed: {found}")


@dg.sensor(
    minimum_interval_seconds=_DAY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Once a day, tells ARCADIA_ALERT_WEBHOOK_URL of closed months that are not invoiced, and of tenants "
    "with a subscription and no invoice.",
)
def alert_on_missing_invoices(context: dg.SensorEvaluationContext, database: BillingDatabase) -> dg.SkipReason:
    """After an outage Dagster runs only the latest missed tick of the schedule: older months are missed in silence."""
    with database.transaction() as connection:
        months = missed_months(connection, dt.datetime.now(dt.UTC))
        tenants = [
            f"{tenant} in {month}"
            for month in ledger.invoiced_months(connection)
            for tenant in ledger.tenants_without_invoice(connection, month)
        ]
    missing = []
    if months:
        missing.append(f"not invoiced: {', '.join(map(str, months))}. {_EVERY_MONTH.remedy}")
    if tenants:
        named = ", ".join(tenants[:MOST_SHOWN]) + f" and {len(tenants) - MOST_SHOWN} more" * (len(tenants) > MOST_SHOWN)
        missing.append(f"tenants without an invoice: {named}. See quote_faults, then materialise the month again")
    if missing:
        _alert(context.log, "; ".join(missing))
    return dg.SkipReason("; ".join(missing) or "Every closed month is invoiced, and every tenant with a subscription.")


@dg.sensor(
    job=month_end,
    minimum_interval_seconds=_DAY_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="When started: once a day, requests the month end of each closed month that is not invoiced, oldest "
    "first.",
)
def invoice_missed_months(
    context: dg.SensorEvaluationContext, database: BillingDatabase
) -> list[dg.RunRequest] | dg.SkipReason:
    """Stopped until somebody starts it: a new installation has months that nobody wants invoiced by themselves."""
    now = dt.datetime.now(dt.UTC)
    with database.transaction() as connection:
        months = missed_months(connection, now)
    if not months:
        return dg.SkipReason("Every closed month is invoiced.")
    return [dg.RunRequest(run_key=f"{month.key} on {now:%Y-%m-%d}", partition_key=month.key) for month in months]


def missed_months(connection: Connection, now: dt.datetime) -> list[BillingMonth]:
    """The months that are over since a day at least and are not invoiced, oldest first."""
    over = MONTHS.get_partition_keys(current_time=now - dt.timedelta(days=1))
    return sorted({BillingMonth.parse(key) for key in over} - set(ledger.invoiced_months(connection)))


@dg.sensor(
    minimum_interval_seconds=_DAY_SECONDS // 12,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells ARCADIA_ALERT_WEBHOOK_URL of usage that came after its month was frozen: which tenants, and how "
    "much is at stake. Looks at each of the last twelve months once a day, one after the other.",
)
def alert_on_late_usage(context: dg.SensorEvaluationContext, database: BillingDatabase) -> dg.SkipReason:
    """Materialising the month bills it; nothing does so by itself."""
    with database.transaction() as connection:
        months = ledger.invoiced_months(connection)[-12:]
        if not months:
            return dg.SkipReason("No month is invoiced.")
        # One month at a time, in turn: a tick has a minute, and counting a large month takes seconds.
        month = next((month for month in months if month.key > (context.cursor or "")), months[0])
        found = late.find(connection, month)
    context.update_cursor(month.key)
    if found.count:
        _alert(context.log, f"usage came late: {_late(month, found)}. Materialise the month to bill it")
    return dg.SkipReason(_late(month, found) if found.count else f"No usage of {month} came late.")


def _late(month: BillingMonth, found: Finding) -> str:
    tenants = [
        f"{row['tenant_id'] or 'nobody'} {dollars(int(str(row['at_stake_cents'])))} ({row['status'] or 'no invoice'})"
        for row in found.offenders
    ]
    return f"{month}: {', '.join(tenants)}" + (f" and {found.count - len(tenants)} more" * (found.count > len(tenants)))


def _name(run: dg.DagsterRun) -> str:
    """Which run, of what, for which month."""
    return f"run {run.run_id} of {run.job_name} for {run.tags.get('dagster/partition', 'no month')}"


def _alert(log: logging.Logger, what: str) -> None:
    text = f"Arcadia: {what}. Look under Runs in Dagster."
    log.error(text)
    url = Settings.from_environment().alert_webhook_url
    if url:
        request = urllib.request.Request(
            url, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            pass


SENSORS = [
    alert_on_failure,
    alert_on_failed_checks,
    alert_on_missing_invoices,
    alert_on_late_usage,
    invoice_missed_months,
]
