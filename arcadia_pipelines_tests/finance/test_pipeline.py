"""What Dagster does of it: the asset, its checks, the sensor, the schedule and the jobs."""

import datetime as dt
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.definitions import build_defs
from arcadia_pipelines.pipeline.finance import compare_with_finance_schedule, tell_finance_what_is_due
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof import controls, finance_controls
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.finance.receiver import Call, Receiver, commit_and_drop, once, saying
from arcadia_pipelines_tests.finance.test_outbox import APRIL, there
from arcadia_pipelines_tests.world import World, failures, materialize, run


def summary(result: dg.ExecuteInProcessResult) -> str:
    assert result.success, failures(result)
    [made] = result.get_asset_materialization_events()
    return str(made.materialization.metadata["summary"].value)


def said(world: World, job: str, **config: Any) -> str:
    """Run an operator's job; what it says it did."""
    result = run(world, job, run_config={"ops": {f"do_{job}": {"config": {"month": "2026-04", **config}}}})
    assert result.success, failures(result)
    [output] = [event for event in result.all_events if event.is_successful_output]
    return str(output.step_output_data.metadata["summary"].value)


def found(engine: Engine) -> dict[str, list[dict[str, object]]]:
    """What the checks of the outbox find in April."""
    with database.transaction(engine) as connection:
        all_ = {one.name: controls.find(connection, one, APRIL).offenders for one in finance_controls.CONTROLS}
    return {name: offenders for name, offenders in all_.items() if offenders}


def test_the_asset_does_nothing_without_a_finance(pilots_april: World) -> None:
    result = materialize(pilots_april, "2026-04", "finance_invoices")
    assert summary(result) == "ARCADIA_FINANCE_URL is not set: finance is told nothing"


def test_the_asset_tells_what_is_due_and_the_job_what_waits(pilots_april: World, finance: Receiver) -> None:
    finance.trouble = saying(429, Retry_After="600")
    told = materialize(pilots_april, "2026-04", "finance_invoices")
    assert summary(told) == "0 rows confirmed, 0 refused; 1 row still to be told"
    finance.trouble = Call.do
    assert said(pilots_april, "push_to_finance") == "1 row of 2026-04 would be sent"
    assert finance.invoices == {}
    assert said(pilots_april, "push_to_finance", dry_run=False) == (
        "2026-04: 1 row confirmed, 0 refused; 0 rows still to be told"
    )
    assert there(finance)["total_cents"] == 7064


def test_a_check_names_what_finance_refuses_until_it_takes_it(
    pilots_april: World, finance: Receiver, engine: Engine
) -> None:
    finance.trouble = once(saying(422))
    materialize(pilots_april, "2026-04", "finance_invoices")
    [offender] = found(engine)["finance_refuses_no_invoice"]
    assert (offender["invoice_number"], offender["operation"], offender["said"]) == (
        "INV-202604-00001",
        "put",
        'answered 422: {"error": "the tests say so"}',
    )
    said(pilots_april, "push_to_finance", dry_run=False, refused=True)
    assert found(engine) == {}


def test_a_check_names_what_is_uncertain_for_a_day(pilots_april: World, finance: Receiver, engine: Engine) -> None:
    finance.trouble = commit_and_drop
    materialize(pilots_april, "2026-04", "finance_invoices")
    assert found(engine) == {}
    pilots_april.query("update billing.finance_outbox set tried_since = now() - interval '25 hours'")
    [offender] = found(engine)["finance_is_told_within_a_day"]
    assert (offender["invoice_number"], offender["state"]) == ("INV-202604-00001", "uncertain")


def test_the_nightly_comparison_is_a_check_with_offenders_and_records_payments(
    pilots_april: World, finance: Receiver
) -> None:
    materialize(pilots_april, "2026-04", "finance_invoices")
    there(finance).update(status="paid", total_cents=7065)
    assert said(pilots_april, "reconcile_with_finance") == (
        "2026-04: 1 invoice missing, extra or different; 1 invoice would be paid"
    )
    result = run(pilots_april, "compare_with_finance", partition_key="2026-04-01")
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.metadata["offenders"].value) == ("finance_agrees", False, 1)
    assert pilots_april.query("select status from billing.tenant_invoices") == [("paid",)]


@pytest.mark.long
def test_the_sensor_asks_for_months_of_which_something_is_due(pilots_april: World, finance: Receiver) -> None:
    def asked() -> list[str | None]:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance, resources={"database": BillingDatabase(url=pilots_april.url)})
            requests = tell_finance_what_is_due(context)
        return [request.partition_key for request in requests] if isinstance(requests, list) else []

    assert asked() == []  # it was invoiced before there was a finance
    pilots_april.use("web", "droplet_hours", 100)
    pilots_april.publish("2026-04")
    assert asked() == ["2026-04-01"]
    materialize(pilots_april, "2026-04", "finance_invoices")
    assert asked() == []


def test_the_schedule_asks_each_night_for_the_months_that_finance_was_told_of(
    pilots_april: World, finance: Receiver
) -> None:
    def asked() -> list[str | None]:
        context = dg.build_schedule_context(
            scheduled_execution_time=dt.datetime(2026, 5, 2, 4, tzinfo=dt.UTC),
            repository_def=build_defs(BillingDatabase(url=pilots_april.url)).get_repository_def(),
            resources={"database": BillingDatabase(url=pilots_april.url)},
        )
        data = compare_with_finance_schedule.evaluate_tick(context)
        return [request.partition_key for request in data.run_requests or []]

    assert asked() == []
    materialize(pilots_april, "2026-04", "finance_invoices")
    assert asked() == ["2026-04-01"]


def test_both_run_without_anybody_starting_them_and_skip_without_a_finance(pilots_april: World) -> None:
    assert tell_finance_what_is_due.default_status is dg.DefaultSensorStatus.RUNNING
    assert compare_with_finance_schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    context = dg.build_sensor_context(resources={"database": BillingDatabase(url=pilots_april.url)})
    skipped = tell_finance_what_is_due.evaluate_tick(context).skip_message
    assert skipped == "ARCADIA_FINANCE_URL is not set: finance is told nothing"
