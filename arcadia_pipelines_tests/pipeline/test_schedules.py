"""What happens on the 1st and on the 2nd at 03:00 UTC."""

import dagster as dg
import pytest

from arcadia_pipelines.definitions import build_defs
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.pipeline.schedules import month_costs_schedule, month_end_schedule
from arcadia_pipelines_tests.world import World, materialize, utc


def tick(world: World, at: str) -> dg.RunRequest | dg.SkipReason:
    """What the schedule asks for at an instant."""
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=utc(at))
        answer = month_end_schedule(context, database=BillingDatabase(url=world.url))
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


@pytest.mark.parametrize(
    ("at", "month"),
    [
        ("2026-05-01T03:00", "2026-04-01"),
        ("2027-01-01T03:00", "2026-12-01"),
        ("2028-03-01T03:00", "2028-02-01"),
        ("2026-02-01T03:00", "2026-01-01"),
    ],
    ids=["month edge", "year end", "leap February", "first month"],
)
def test_the_schedule_asks_for_the_month_just_ended(world: World, at: str, month: str) -> None:
    """One run, for the month before the tick's."""
    request = tick(world, at)
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.run_key) == (month, month)


@pytest.mark.usefixtures("pilots_april")
def test_the_schedule_skips_an_invoiced_month_and_says_how_to_force_it(world: World) -> None:
    """One invoice stands; the reason names the month, the count and the partition to materialise."""
    assert tick(world, "2026-05-01T03:00") == dg.SkipReason(
        "2026-04 is already invoiced (1 invoice). To compute it again, materialise the partition 2026-04-01 of the"
        " month-end assets."
    )


def test_the_schedule_asks_again_for_a_month_that_was_only_quoted(world: World) -> None:
    """A run that died before the invoices were published does not count as invoiced."""
    world.pilot()
    materialize(world, "2026-04", "metered_usage", "deployment_quotes")
    assert isinstance(tick(world, "2026-05-01T03:00"), dg.RunRequest)


def test_the_schedule_skips_months_before_the_first(world: World) -> None:
    """December 2025 is before ARCADIA_FIRST_MONTH, which is 2026-01 unless set."""
    assert tick(world, "2026-01-01T03:00") == dg.SkipReason(
        "2025-12 is before the first billing month (ARCADIA_FIRST_MONTH)."
    )


def test_the_schedule_runs_without_anybody_starting_it() -> None:
    """The 1st at 03:00 UTC, running by default."""
    schedule = build_defs().resolve_schedule_def("month_end_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 1 * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def tick_of_costs(at: str) -> dg.RunRequest | dg.SkipReason:
    """What the schedule of the costs asks for at an instant."""
    with dg.DagsterInstance.ephemeral() as instance:
        answer = month_costs_schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=utc(at)))
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def test_with_a_token_the_bill_of_the_month_just_ended_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run, for the month before the tick's; none for a month before the first."""
    monkeypatch.setenv("ARCADIA_DIGITALOCEAN_TOKEN", "a-token")
    request = tick_of_costs("2026-05-02T03:00")
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-04-01"
    assert isinstance(tick_of_costs("2026-01-02T03:00"), dg.SkipReason)


def test_without_a_token_the_schedule_says_to_import_the_bill() -> None:
    """It names the month and the command."""
    assert tick_of_costs("2026-05-02T03:00") == dg.SkipReason(
        "ARCADIA_DIGITALOCEAN_TOKEN is not set: import the bill of 2026-04 (arcadia costs import FILE)."
    )


def test_the_schedule_of_the_costs_runs_without_anybody_starting_it() -> None:
    """The 2nd at 03:00 UTC, as the provider bills on the 1st."""
    schedule = build_defs().resolve_schedule_def("month_costs_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 2 * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
