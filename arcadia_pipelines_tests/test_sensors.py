"""Alerts on failed runs, sent over real HTTP."""

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from sqlalchemy.engine import Connection

from arcadia_pipelines.partitions import MONTHS
from arcadia_pipelines.resources import BillingDatabase
from arcadia_pipelines.sensors import (
    alert_on_failed_checks,
    alert_on_failure,
    alert_on_late_usage,
    alert_on_missing_invoices,
    invoice_missed_months,
    missed_months,
)
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.world import World, utc


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
    world.query("drop table billing.quote_faults cascade")
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


# What is missing, once a day


def told(sensor: dg.SensorDefinition, world: World) -> str:
    """What a daily sensor says about the world."""
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=world.url)})
        answer = sensor(context)
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


def test_closed_months_that_are_not_invoiced_are_told_every_day(
    world: World, webhook: _Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    """January is invoiced, February was missed, March is invoiced; the months up to today are missing too."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/alerts")
    world.pilot()
    world.publish("2026-01")
    world.publish("2026-03")
    said = told(alert_on_missing_invoices, world)
    assert said.startswith("not invoiced: 2026-02, 2026-04, 2026-05, ")
    assert "Materialise them, oldest first" in said
    [body] = webhook.bodies
    assert said in body["text"]


def test_a_month_counts_as_missed_a_day_after_its_end(world: World) -> None:
    """The schedule has its time on the 1st: March is missed from 2 April 00:00 UTC on."""
    with world_connection(world) as connection:
        assert list(map(str, missed_months(connection, utc("2026-04-01T23:59")))) == ["2026-01", "2026-02"]
        assert list(map(str, missed_months(connection, utc("2026-04-02T00:00")))) == ["2026-01", "2026-02", "2026-03"]


def test_a_billable_tenant_without_an_invoice_is_told(world: World) -> None:
    """acme comes with a subscription from January on after April was invoiced."""
    world.pilot()
    world.publish("2026-04")
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    assert "tenants without an invoice: acme in 2026-04. See quote_faults" in told(alert_on_missing_invoices, world)


def test_missed_months_are_requested_oldest_first_once_the_sensor_is_started(world: World) -> None:
    """Stopped until then. April is invoiced, so January to March and May on are asked for, in order, once a day."""
    world.pilot()
    world.publish("2026-04")
    assert invoice_missed_months.default_status is dg.DefaultSensorStatus.STOPPED
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=world.url)})
        requests = invoice_missed_months(context)
    assert isinstance(requests, list)
    keys = [request.partition_key for request in requests]
    assert keys[:4] == ["2026-01-01", "2026-02-01", "2026-03-01", "2026-05-01"]
    assert keys == sorted(keys)
    assert requests[0].run_key.startswith("2026-01-01 on 20")


def test_nothing_is_said_when_all_is_invoiced(world: World) -> None:
    """Every month up to the last that is over."""
    world.pilot()
    for key in MONTHS.get_partition_keys():
        world.publish(key[:7])
    assert told(alert_on_missing_invoices, world).startswith("Every closed month is invoiced")
    assert told(alert_on_late_usage, world).endswith("came late.")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=world.url)})
        assert invoice_missed_months(context) == dg.SkipReason("Every closed month is invoiced.")


def test_a_void_invoice_is_no_missing_one(world: World) -> None:
    """Somebody has decided that nothing is owed."""
    world.pilot()
    world.publish("2026-04")
    world.done("void_invoice", invoices=["INV-202604-00001"])
    assert "tenants without" not in told(alert_on_missing_invoices, world)


def test_late_usage_is_looked_for_in_one_month_after_the_other(world: World) -> None:
    """March, April, and March again; a void invoice has nothing at stake."""
    world.pilot()
    world.publish("2026-03")
    world.publish("2026-04")
    world.done("void_invoice", invoices=["INV-202604-00001"])
    world.use("web", "droplet_hours", 100)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=world.url)})
        said = []
        for _ in range(3):
            answer = alert_on_late_usage(context)
            assert isinstance(answer, dg.SkipReason)
            said.append(answer.skip_message)
    assert said == [
        "No usage of 2026-03 came late.",
        "2026-04: pilot 0.00 (void)",
        "No usage of 2026-03 came late.",
    ]


def test_late_usage_is_told_with_what_is_at_stake(
    world: World, webhook: _Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 h of the paid April are 1.10 with GST, 200 h of acme's 2.20; usage of a stranger's machine costs nobody."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/alerts")
    world.pilot()
    world.tenant("acme")
    world.plan("metered", 0, {"droplet_hours": (0, 1)})
    world.deployment("acme", "api", "metered")
    world.publish("2026-04")
    world.done("mark_invoice_paid", invoices=["INV-202604-00002"])
    world.use("web", "droplet_hours", 100)
    world.use("api", "droplet_hours", 200)
    world.use("stranger", "droplet_hours", 1)
    said = told(alert_on_late_usage, world)
    assert said == "2026-04: acme 2.20 (issued), pilot 1.10 (paid), nobody 0.00 (no invoice)"
    [body] = webhook.bodies
    assert "usage came late: 2026-04: acme 2.20 (issued)" in body["text"]
    world.publish("2026-04")
    assert told(alert_on_late_usage, world) == "No usage of 2026-04 came late."


def world_connection(world: World) -> AbstractContextManager[Connection]:
    """A transaction on the world's database."""
    return database.transaction(database.engine(world.url))
