"""Sensors: alerts to the webhook, and missed months.

Alerts are sent for failed runs, for failed checks of runs that succeeded, and, once a day, for months and tenants that
are not invoiced and for late usage. A fault is sent once, by whichever sensor finds it first, and again a day later if
it is still there.
"""

import datetime as dt
import json
import re
import urllib.request
from collections.abc import Collection, Mapping

import dagster as dg
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline import failures
from arcadia_pipelines.pipeline.acts import MONTH_END
from arcadia_pipelines.pipeline.jobs import month_end
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines.pipeline.reporting import CHAIN_HEAD
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof import late
from arcadia_pipelines.proof.control import MOST_SHOWN, Finding
from arcadia_pipelines.proof.controls import CONTROLS
from arcadia_pipelines.settings import USER_AGENT, Settings
from arcadia_pipelines.storage import ledger, losses, quotes
from arcadia_pipelines.storage.database import PartialView, refuse_partial_view

_TIMEOUT_SECONDS = 10
_DAY_SECONDS = 24 * 60 * 60
_AGAIN = dt.timedelta(hours=20)  # less than a day: daily sensors sometimes run a little early
_TOLD = "arcadia/told"
_EVERY_MONTH = next(control for control in CONTROLS if control.name == "every_month_before_is_invoiced")


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitor_all_code_locations=True,
    description="Tells ARCADIA_ALERT_WEBHOOK_URL of each failed run, whatever started it, unless it only refused an "
    "operator.",
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
    """Not filtered: the UI runs jobs of Dagster's own too, and the command line's runs belong to no code location."""
    run, events = context.dagster_run, _events(context)
    if failures.was_refused(events) or _is_retried(run):
        return
    error = getattr(context.failure_event.event_specific_data, "error", None)  # none where its process died
    otherwise = " ".join((error.message if error else context.failure_event.message or "").split())
    month = _month(run)
    if run.job_name == MONTH_END and month:
        what = failures.of_month_end(month, events, otherwise)
        _tell(context, what, f"runs/{run.run_id}", {what, _missing(month)})
    else:
        what = f"{_name(run)} failed: {failures.why(events) or otherwise}"
        _tell(context, what, f"runs/{run.run_id}", {what})


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitor_all_code_locations=True,
    description="Tells ARCADIA_ALERT_WEBHOOK_URL of checks that failed in a run that succeeded: a tenant held back.",
)
def alert_on_failed_checks(context: dg.RunStatusSensorContext) -> None:
    """A tenant that is held back fails no run, and would go unnoticed. Warnings are not sent."""
    run, failed = context.dagster_run, failures.failed_checks(_events(context))
    said = {f"{_month(run)} {failures.found(check)}": check for check in failed}
    new = [said[fault] for fault in said if fault in _untold(context.instance, said)]
    if new:
        tenants = {_missing(_month(run), tenant) for check in new for tenant in failures.tenants(check)}
        what = f"{_name(run)} went through, but {'; '.join(map(failures.found, new))}"
        if head := _head(context):
            what = f"{what.rstrip('. ')}. Head of the events of {_month(run)}: {head}"
        _tell(context, what, f"runs/{run.run_id}", {*said, *tenants})


@dg.sensor(
    minimum_interval_seconds=_DAY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Once a day, tells ARCADIA_ALERT_WEBHOOK_URL of closed months that are not invoiced, of tenants with a "
    "subscription and no invoice, and of invoice lines that are lost.",
)
def alert_on_missing_invoices(context: dg.SensorEvaluationContext, database: BillingDatabase) -> dg.SkipReason:
    """After an outage Dagster runs only the latest missed tick of the schedule: older months are missed silently."""
    hidden = _tell_what_is_hidden(context, database)
    with database.transaction() as connection:
        months = missed_months(connection, dt.datetime.now(dt.UTC))
        without = {
            _missing(str(month), tenant): f"{tenant} in {month}{cause}"
            for month in ([] if hidden else ledger.invoiced_months(connection))
            for tenant, cause in _without_invoice(connection, month)
        }
        lost = {
            f"the lines of {month} are lost": f"{month} ({fault})" for month, fault in losses.without_lines(connection)
        }
    missed = {_missing(str(month)): str(month) for month in months}
    new = _untold(context.instance, {*missed, *without, *lost})
    if new:
        what = _said_missing(_only(missed, new), _only(without, new), _only(lost, new))
        _tell(context, what, "assets/tenant_invoices?view=partitions", new)
    said = "; ".join(filter(None, (hidden, _said_missing(missed.values(), without.values(), lost.values()))))
    return dg.SkipReason(said or "Every closed month is invoiced, and every tenant with a subscription.")


def _without_invoice(connection: Connection, month: BillingMonth) -> list[tuple[str, str]]:
    """The tenants that the month has no invoice of, each with its faults in brackets."""
    tenants = ledger.tenants_without_invoice(connection, month)
    if not tenants:
        return []
    causes: dict[str, list[str]] = {}
    for row in quotes.faults(connection, month).to_dict("records"):
        causes.setdefault(row["tenant_id"], []).append(f"{row['fault']}: {row['detail']}")
    return [(tenant, f" ({'; '.join(causes[tenant])})" if tenant in causes else "") for tenant in tenants]


def _said_missing(months: Collection[str], tenants: Collection[str], lost: Collection[str]) -> str:
    """'' if nothing is missing."""
    said = []
    if months:
        said.append(f"not invoiced: {', '.join(months)}. {_EVERY_MONTH.remedy}")
    if tenants:
        named = ", ".join(list(tenants)[:MOST_SHOWN])
        more = f" and {len(tenants) - MOST_SHOWN} more" if len(tenants) > MOST_SHOWN else ""
        said.append(f"tenants without an invoice: {named}{more}. See quote_faults, then materialise the month again")
    if lost:
        said.append(f"invoice lines are lost of {', '.join(lost)}. Run `arcadia rebuild` for these months")
    return "; ".join(said)


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
    """Stopped until somebody starts it: a new installation has past months that nobody wants invoiced automatically."""
    now = dt.datetime.now(dt.UTC)
    with database.transaction() as connection:
        months = missed_months(connection, now)
    if not months:
        return dg.SkipReason("Every closed month is invoiced.")
    return [dg.RunRequest(run_key=f"{month.key} on {now:%Y-%m-%d}", partition_key=month.key) for month in months]


def missed_months(connection: Connection, now: dt.datetime) -> list[BillingMonth]:
    """The months that ended at least a day ago and are not invoiced, oldest first."""
    over = MONTHS.get_partition_keys(current_time=now - dt.timedelta(days=1))
    return sorted({BillingMonth.parse(key) for key in over} - set(ledger.invoiced_months(connection)))


@dg.sensor(
    minimum_interval_seconds=_DAY_SECONDS // 12,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells ARCADIA_ALERT_WEBHOOK_URL of usage that came after its month was frozen: which tenants, and how "
    "much is at stake. Checks each of the last twelve months once a day, one after the other.",
)
def alert_on_late_usage(context: dg.SensorEvaluationContext, database: BillingDatabase) -> dg.SkipReason:
    """Materialising the month bills it; nothing does so by itself."""
    if hidden := _tell_what_is_hidden(context, database):
        return dg.SkipReason(hidden)
    with database.transaction() as connection:
        months = ledger.invoiced_months(connection)[-12:]
        if not months:
            return dg.SkipReason("No month is invoiced.")
        # One month at a time, in turn: a tick has a minute, and counting a large month takes seconds.
        month = next((month for month in months if month.key > (context.cursor or "")), months[0])
        found = late.find(connection, month)
    context.update_cursor(month.key)
    if found.count:
        what = f"usage came late: {_late(month, found)}. Materialise the month to bill it"
        _tell(context, what, "assets/metered_usage?view=partitions", {what})
    return dg.SkipReason(_late(month, found) if found.count else f"No usage of {month} came late.")


def _tell_what_is_hidden(context: dg.SensorEvaluationContext, database: BillingDatabase) -> str:
    """An alert that rows of the platform's tables are hidden from us; '' if none are.

    A sensor cannot notice that hidden rows are missing from a month, and neither could the run.
    """
    try:
        with database.transaction() as connection:
            refuse_partial_view(connection)
    except PartialView as error:
        _tell(context, str(error), "assets/cloud/subscriptions", {str(error)})
        return str(error)
    return ""


def _late(month: BillingMonth, found: Finding) -> str:
    tenants = [
        f"{row['tenant_id'] or 'nobody'} {dollars(int(str(row['at_stake_cents'])))} ({row['status'] or 'no invoice'})"
        for row in found.offenders
    ]
    return f"{month}: {', '.join(tenants)}" + (f" and {found.count - len(tenants)} more" * (found.count > len(tenants)))


def _events(context: dg.RunStatusSensorContext) -> list[dg.DagsterEvent]:
    """The run's events that say how it went."""
    entries = context.instance.all_logs(context.dagster_run.run_id, of_type=failures.READ)
    return [entry.dagster_event for entry in entries if entry.dagster_event]


def _head(context: dg.RunStatusSensorContext) -> str:
    """The head of the month's chain of events as the run left it; '' if it published none."""
    made = context.instance.all_logs(context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    heads = [entry.asset_materialization.metadata.get(CHAIN_HEAD) for entry in made if entry.asset_materialization]
    return next((str(head.value) for head in heads if head), "")


def _is_retried(run: dg.DagsterRun) -> bool:
    """Whether Dagster retries the run by itself, as after its process died: then the retry is sent, if it fails too."""
    return run.remote_job_origin is not None and run.tags.get("dagster/will_retry") == "true"


def _month(run: dg.DagsterRun) -> str:
    """Like 2026-04; '' for a run that is of no month."""
    return re.sub(r"^(\d{4}-\d\d)-01$", r"\1", run.tags.get("dagster/partition", ""))


def _name(run: dg.DagsterRun) -> str:
    """Which run, for people."""
    of = f" of {_month(run)}" if _month(run) else ""
    if not run.job_name.startswith("__ASSET_JOB"):
        return f"{run.job_name}{of}"
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    checked = sorted({key.asset_key.to_user_string() for key in run.asset_check_selection or ()})
    return (f"materialising {', '.join(assets)}" if assets else f"checking {', '.join(checked)}") + of


def _missing(month: str, tenant: str = "") -> str:
    """The fault that a month has no invoices, or none of a tenant."""
    return f"{month} is not invoiced to {tenant}" if tenant else f"{month} is not invoiced"


def _only(named: Mapping[str, str], faults: Collection[str]) -> list[str]:
    return [name for fault, name in named.items() if fault in faults]


def _told(instance: dg.DagsterInstance) -> dict[str, str]:
    """When each fault was sent last, if within a day. A time in the future is dropped: a clock was wrong."""
    told = json.loads(instance.daemon_cursor_storage.get_cursor_values({_TOLD}).get(_TOLD, "{}"))
    now = dt.datetime.now(dt.UTC)
    return {fault: at for fault, at in told.items() if now - _AGAIN < dt.datetime.fromisoformat(at) <= now}


def _untold(instance: dg.DagsterInstance, faults: Collection[str]) -> set[str]:
    return set(faults) - _told(instance).keys()


def _tell(
    context: dg.SensorEvaluationContext | dg.RunStatusSensorContext, what: str, page: str, faults: Collection[str]
) -> None:
    """Send the alert to the webhook, with where to look in the UI; unless all its faults were sent within a day."""
    if not _untold(context.instance, faults):
        return
    settings = Settings.from_environment()
    where = f"{settings.ui_url}/{page}" if settings.ui_url else f"See /{page} in Dagster."
    text = f"Arcadia: {what.rstrip('. ')}. {where}"
    context.log.error(text)
    if settings.alert_webhook_url:
        request = urllib.request.Request(
            settings.alert_webhook_url,
            json.dumps({"text": text}).encode(),
            {"Content-Type": "application/json", "User-Agent": USER_AGENT},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            pass
    told = _told(context.instance) | dict.fromkeys(faults, dt.datetime.now(dt.UTC).isoformat())
    context.instance.daemon_cursor_storage.set_cursor_values({_TOLD: json.dumps(told)})


SENSORS = [
    alert_on_failure,
    alert_on_failed_checks,
    alert_on_missing_invoices,
    alert_on_late_usage,
    invoice_missed_months,
]
