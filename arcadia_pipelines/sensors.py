"""Alerts: every failed run, and every failed check of a run that went through, is logged and sent to the webhook."""

import json
import logging
import urllib.request

import dagster as dg

from arcadia_pipelines.settings import Settings

_TIMEOUT_SECONDS = 10


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
