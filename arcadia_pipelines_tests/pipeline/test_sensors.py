"""What is told to the webhook, over real HTTP, of runs and of what is missing; and missed months."""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from dagster._core.definitions.run_status_sensor_definition import RunStatusSensorCursor
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli import launch
from arcadia_pipelines.pipeline import sensors
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.pipeline.sensors import (
    alert_on_failed_checks,
    alert_on_failure,
    alert_on_late_usage,
    alert_on_missing_invoices,
    invoice_missed_months,
    missed_months,
)
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.world import World, materialize, uid, utc

OURS = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="ours")
"""Where Dagster has the sensors from."""


class _Received(HTTPServer):
    """A webhook on this machine that keeps what it is sent, and refuses a client with Python's own name, as many do."""

    bodies: list[dict[str, str]]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        named = not self.headers["User-Agent"].startswith("Python")
        if isinstance(self.server, _Received) and named:
            self.server.bodies.append(json.loads(body))
        self.send_response(204 if named else 403)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def webhook() -> Iterator[_Received]:
    """The webhook, listening."""
    with _Received(("127.0.0.1", 0), _Handler) as server:
        server.bodies = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def alerting(webhook: _Received, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts go to the webhook, and link to the UI."""
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/alerts")
    monkeypatch.setenv("ARCADIA_UI_URL", "https://dagster.example.com/")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster that remembers for one test."""
    with dg.DagsterInstance.ephemeral() as fresh:
        yield fresh


def tick(instance: dg.DagsterInstance) -> None:
    """Both sensors look at all runs, as the daemon has them look: they have a code location, the runs have none."""
    for sensor in (alert_on_failure, alert_on_failed_checks):
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            instance=instance,
            cursor=RunStatusSensorCursor(record_id=-1).to_json(),  # type: ignore[no-untyped-call]
            repository_name="__repository__",
            code_location_origin=OURS,
        )
        for reaction in sensor.evaluate_tick(context).dagster_run_reactions or []:
            assert reaction.error is None, reaction.error


def a_day_later(instance: dg.DagsterInstance) -> None:
    """Whatever was told was told a day ago."""
    [told] = instance.daemon_cursor_storage.get_cursor_values({"arcadia/told"}).values()
    ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).isoformat()
    instance.daemon_cursor_storage.set_cursor_values({"arcadia/told": json.dumps(dict.fromkeys(json.loads(told), ago))})


@pytest.mark.usefixtures("pilots_april")
def test_a_failed_run_of_the_command_line_is_told_as_the_command_line_says_it(
    world: World, webhook: _Received, instance: dg.DagsterInstance, in_environment: Callable[..., None]
) -> None:
    """Three frozen records are gone. That a second try fails alike is no news, but a day later it is again."""
    in_environment()
    world.query("delete from cloud.usage_records where recorded_at < '2026-04-02'")
    said = []
    for _ in range(2):
        with pytest.raises(launch.MonthEndFailed) as failed:
            launch.run(BillingMonth.parse("2026-04"), instance)
        said.append(str(failed.value).removesuffix(")").split(" (run "))
        tick(instance)
    (what, first), (_, second) = said
    assert "(tenant pilot), which had 90 records and has 87. Restore them" in what
    assert webhook.bodies == [{"text": f"Arcadia: {what}. https://dagster.example.com/runs/{first}"}]
    a_day_later(instance)
    tick(instance)
    assert first != second
    assert len(webhook.bodies) == 2


def test_a_month_that_the_gate_stops_is_told_with_the_first_offenders(
    world: World, webhook: _Received, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that was under way while the month was frozen."""
    monkeypatch.setenv("ARCADIA_UI_URL", "")
    world.pilot()
    world.query(f"""
        create function billing.late() returns trigger language plpgsql as $$ begin
            insert into cloud.usage_records values (gen_random_uuid(), '{uid("web")}', 'droplet_hours', 1,
                                                    '2026-04-10', '2026-04-10');
            return null;
        end $$
    """)
    world.query("create trigger late after insert on billing.billing_months execute function billing.late()")
    run = world.month_end("2026-04", instance, succeed=False).run_id
    tick(instance)
    [body] = webhook.bodies
    assert body["text"] == (
        f"Arcadia: 2026-04 was not invoiced: check usage_equals_raw_records found 1 (deployment_id {uid('web')},"
        " resource_kind droplet_hours, raw_records 91, frozen_records 90, raw_quantity 2,161.000000,"
        " frozen_quantity 2,160.000000): Records were changed, or were being written while the month was frozen:"
        f" materialise the month again. See /runs/{run} in Dagster."
    )


@pytest.mark.long
def test_tampered_quotes_are_told_by_what_was_materialised(
    world: World, webhook: _Received, instance: dg.DagsterInstance
) -> None:
    """From the UI, as a job of Dagster's own: the invoices alone, behind the gate."""
    world.pilot()
    materialize(world, "2026-04", "metered_usage", "deployment_quotes")
    world.query("update billing.deployment_quote_lines set qty = qty - 1 where kind = 'overage'")
    materialize(world, "2026-04", "tenant_invoice_lines", "tenant_invoices", instance=instance)
    tick(instance)
    [body] = webhook.bodies
    assert body["text"].startswith(
        "Arcadia: materialising tenant_invoice_lines, tenant_invoices of 2026-04 failed: 2026-04 is not published:"
        f" usage_is_conserved found 1 (deployment_id {uid('web')}, "
    )


@pytest.mark.long
def test_a_tenant_that_is_held_back_is_told_once_though_the_run_succeeds(
    world: World, webhook: _Received, instance: dg.DagsterInstance
) -> None:
    """A plan without a price: the month is invoiced without acme. Unbilled usage, a warning, is not told.

    That acme has no invoice is what has been told already; a second tenant that is held back is news.
    """
    world.pilot()
    world.use("web", "unrated", 1)
    world.month_end("2026-04", instance)
    tick(instance)
    assert webhook.bodies == []
    world.plan("unpriced")
    world.tenant("acme")
    world.deployment("acme", "api", "unpriced", start="2026-04-01")
    run = world.month_end("2026-04", instance).run_id
    tick(instance)
    [body] = webhook.bodies
    assert body["text"].startswith(
        "Arcadia: month_end of 2026-04 went through, but check no_tenant_is_held_back found 1 (tenant_id acme, fault "
        "plan_without_price, detail plan unpriced has no price in effect on the first of the month: add one"
    )
    [(head,)] = world.query("select encode(sha256, 'hex') from billing.event_heads")
    assert body["text"].endswith(f". Head of the events of 2026-04: {head}. https://dagster.example.com/runs/{run}")
    world.month_end("2026-04", instance)
    tick(instance)
    assert "acme in 2026-04 (plan_without_price: plan unpriced has no" in told(
        alert_on_missing_invoices, world, instance
    )
    assert [body["text"] for body in webhook.bodies if "acme" in body["text"]] == [body["text"]]
    assert "Arcadia: not invoiced: 2026-01, 2026-02" in webhook.bodies[-1]["text"]
    world.tenant("beta")
    world.deployment("beta", "db", "unpriced", start="2026-04-01")
    world.month_end("2026-04", instance)
    tick(instance)
    assert "found 2 (tenant_id acme, " in webhook.bodies[-1]["text"]


def test_a_refused_operator_raises_no_alert_but_a_failed_act_does(
    world: World, webhook: _Received, instance: dg.DagsterInstance
) -> None:
    """No such invoice, no reason given, no such month: who asked was answered. That a table is gone is for others."""
    world.pilot()
    assert not world.operate("void_invoice", instance, invoices=["INV-202604-00001"]).success
    assert not world.operate("void_invoice", instance, invoices=["INV-202604-00001"], reason=" ").success
    assert not world.operate("issue_drafts", instance, month="2026-13").success
    tick(instance)
    assert webhook.bodies == []
    world.query("drop table billing.tenant_holds cascade")
    run = world.operate("hold_tenant", instance, tenants=["pilot"]).run_id
    tick(instance)
    [body] = webhook.bodies
    assert body["text"].startswith("Arcadia: hold_tenant failed: the database 127.0.0.1:")
    assert "has lost billing.tenant_holds (made by 0005_life.sql, which is applied): restore" in body["text"]
    assert body["text"].endswith(f". https://dagster.example.com/runs/{run}")


def test_a_run_whose_process_died_is_told_when_dagster_gives_up(webhook: _Received) -> None:
    """It is started again twice at most, unless its tags say less; a step that failed is not."""
    settings = {"run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}}
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(OURS, "__repository__"), "month_end")
    with dg.DagsterInstance.ephemeral(settings=settings) as instance:
        for last in ({}, {"dagster/max_retries": "0"}):
            run = dg.DagsterRun(
                "month_end",
                status=dg.DagsterRunStatus.STARTED,
                tags={"dagster/partition": "2026-04-01", **last},
                remote_job_origin=origin,
            )
            instance.report_run_failed(instance.add_run(run), "Run worker died")
            tick(instance)
    assert webhook.bodies == [
        {"text": f"Arcadia: 2026-04 was not invoiced: Run worker died. https://dagster.example.com/runs/{run.run_id}"}
    ]


def test_the_sensors_run_without_anybody_starting_them() -> None:
    """And watch runs of every job: what is materialised in the UI runs as __ASSET_JOB, which a filter would miss."""
    for sensor in (alert_on_failure, alert_on_failed_checks):
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.targets == []


# What is missing, once a day


def told(sensor: dg.SensorDefinition, world: World, instance: dg.DagsterInstance | None = None) -> str:
    """What a daily sensor says about the world; without an instance, of one that has told nothing yet."""
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as on:
        answer = sensor(dg.build_sensor_context(on, resources={"database": BillingDatabase(url=world.url)}))
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


@pytest.mark.long
def test_closed_months_that_are_not_invoiced_are_told_every_day(
    world: World, webhook: _Received, instance: dg.DagsterInstance
) -> None:
    """January is invoiced, February was missed, March is invoiced; the months up to today are missing too."""
    world.pilot()
    world.publish("2026-01")
    world.publish("2026-03")
    said = told(alert_on_missing_invoices, world, instance)
    assert said.startswith("not invoiced: 2026-02, 2026-04, 2026-05, ")
    assert "Materialise them, oldest first" in said
    assert said == told(alert_on_missing_invoices, world, instance)
    [body] = webhook.bodies
    assert body["text"] == f"Arcadia: {said} https://dagster.example.com/assets/tenant_invoices?view=partitions"
    a_day_later(instance)
    told(alert_on_missing_invoices, world, instance)
    assert webhook.bodies == [body, body]


def test_a_month_counts_as_missed_a_day_after_its_end(world: World) -> None:
    """The schedule has its time on the 1st: March is missed from 2 April 00:00 UTC on."""
    with world_connection(world) as connection:
        assert list(map(str, missed_months(connection, utc("2026-04-01T23:59")))) == ["2026-01", "2026-02"]
        assert list(map(str, missed_months(connection, utc("2026-04-02T00:00")))) == ["2026-01", "2026-02", "2026-03"]


@pytest.mark.usefixtures("pilots_april")
def test_a_billable_tenant_without_an_invoice_is_told_and_so_are_lost_lines(world: World) -> None:
    """acme comes with a subscription from January on after April was invoiced; then April's partition is dropped."""
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    assert "tenants without an invoice: acme in 2026-04. See quote_faults" in told(alert_on_missing_invoices, world)
    world.tamper("drop table billing.tenant_invoice_lines_2026_04")
    said = told(alert_on_missing_invoices, world)
    partition = "there is no partition billing.tenant_invoice_lines_2026_04"
    assert f"invoice lines are lost of 2026-04 ({partition}). Run `arcadia rebuild`" in said


@pytest.mark.usefixtures("pilots_april")
def test_missed_months_are_requested_oldest_first_once_the_sensor_is_started(world: World) -> None:
    """Stopped until then. April is invoiced, so January to March and May on are asked for, in order, once a day."""
    assert invoice_missed_months.default_status is dg.DefaultSensorStatus.STOPPED
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=world.url)})
        requests = invoice_missed_months(context)
    assert isinstance(requests, list)
    keys = [request.partition_key for request in requests]
    assert keys[:4] == ["2026-01-01", "2026-02-01", "2026-03-01", "2026-05-01"]
    assert keys == sorted(keys)
    assert requests[0].run_key.startswith("2026-01-01 on 20")


@pytest.mark.long
def test_nothing_is_said_when_all_is_invoiced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both months of a platform whose first billing month is the last but one that is over."""
    world.pilot()
    closed = MONTHS.get_partition_keys()[-2:]
    monkeypatch.setattr(sensors, "MONTHS", dg.MonthlyPartitionsDefinition(start_date=closed[0], timezone="UTC"))
    for key in closed:
        world.publish(key[:7])
    assert told(alert_on_missing_invoices, world).startswith("Every closed month is invoiced")
    assert told(alert_on_late_usage, world).endswith("came late.")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=world.url)})
        assert invoice_missed_months(context) == dg.SkipReason("Every closed month is invoiced.")


@pytest.mark.usefixtures("pilots_april")
def test_a_void_invoice_does_not_count_as_missing(world: World) -> None:
    """Somebody has decided that nothing is owed."""
    world.done("void_invoice", invoices=["INV-202604-00001"])
    assert "tenants without" not in told(alert_on_missing_invoices, world)


@pytest.mark.long
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


@pytest.mark.long
def test_late_usage_is_told_with_what_is_at_stake(world: World, webhook: _Received) -> None:
    """100 h of the paid April are 1.10 with GST, 200 h of acme's 2.20; usage of a stranger's machine costs nobody."""
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
