"""Alerts on failed runs, sent over real HTTP."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from arcadia_pipelines.sensors import alert_on_failed_checks, alert_on_failure
from arcadia_pipelines_tests.world import World


class _Received(HTTPServer):
    """A webhook on this machine that keeps what it is sent."""

    bodies: list[dict[str, str]]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if isinstance(self.server, _Received):
            self.server.bodies.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def webhook() -> Iterator[_Received]:
    """The webhook, listening."""
    with _Received(("127.0.0.1", 0), _Handler) as server:
        server.bodies = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_failed_month_is_told_to_the_webhook(
    world: World, webhook: _Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is gone, so the run fails: the webhook is told which run, job and month."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/alerts")
    world.pilot()
    world.query("drop table billing.quote_faults")
    with dg.DagsterInstance.ephemeral() as instance:
        result = world.month_end("2026-04", instance, succeed=False)
        context = dg.build_run_status_sensor_context(
            sensor_name="alert_on_failure",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_failure_event(),
        ).for_run_failure()
        alert_on_failure(context)
    [body] = webhook.bodies
    assert result.run_id in body["text"]
    assert "month_end for 2026-04-01 failed" in body["text"]


def test_a_tenant_that_is_held_back_is_told_though_the_run_succeeds(
    world: World, webhook: _Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan without a price: the month is invoiced without that tenant. Unbilled usage, a warning, is not told."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/alerts")
    world.pilot()
    world.use("web", "unrated", 1)
    with dg.DagsterInstance.ephemeral() as instance:
        tell(instance, world.month_end("2026-04", instance))
        assert webhook.bodies == []
        world.tenant("acme")
        world.plan("unpriced")
        world.deployment("acme", "api", "unpriced")
        tell(instance, world.month_end("2026-04", instance))
    [body] = webhook.bodies
    assert "month_end for 2026-04-01 succeeded, but checks failed: no_tenant_is_held_back: 1 found." in body["text"]


def tell(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> None:
    """Evaluate the sensor on a run that succeeded."""
    context = dg.build_run_status_sensor_context(
        sensor_name="alert_on_failed_checks",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_success_event(),
    )
    alert_on_failed_checks(context)


def test_the_sensor_watches_runs_of_every_job() -> None:
    """What is materialised in the UI runs as __ASSET_JOB: a filter by job would miss it."""
    assert alert_on_failure.default_status is dg.DefaultSensorStatus.RUNNING
    assert alert_on_failure.targets == []
    assert alert_on_failed_checks.default_status is dg.DefaultSensorStatus.RUNNING
    assert alert_on_failed_checks.targets == []
