"""Alerts: every failed run is logged and, if a webhook is configured, sent there."""

import json
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
    text = alert_text(context.dagster_run, context.failure_event.message)
    context.log.error(text)
    url = Settings.from_environment().alert_webhook_url
    if url:
        request = urllib.request.Request(
            url, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            pass


def alert_text(run: dg.DagsterRun, message: str | None) -> str:
    """What failed, for which month, and where to look."""
    month = run.tags.get("dagster/partition", "no month")
    return f"Arcadia: run {run.run_id} of {run.job_name} for {month} failed: {message}. Look under Runs in Dagster."
