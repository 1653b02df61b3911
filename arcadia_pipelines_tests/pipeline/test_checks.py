"""Checks by themselves: of the month that is asked for, or, as the UI's "Execute all" asks, of none."""

import dagster as dg
import pytest

from arcadia_pipelines.definitions import defs
from arcadia_pipelines.pipeline.checks import CHECKS
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines_tests.world import EVERYTHING, World, run


def execute_all(world: World) -> dg.ExecuteInProcessResult:
    """Every check that runs by itself, in a run without a partition: as the Checks tab launches it."""
    return run(world, EVERYTHING, checks={key for checks in CHECKS for key in checks.check_keys})


def check_month(world: World, month: str) -> dg.ExecuteInProcessResult:
    """The job of that name."""
    return run(world, "check_month", partition_key=f"{month}-01")


def failed(result: dg.ExecuteInProcessResult) -> dict[str, tuple[str, str]]:
    """The checks that failed: how gravely, and what they say."""
    return {
        check.check_name: (check.severity.name, check.description or "")
        for check in result.get_asset_check_evaluations()
        if not check.passed
    }


def test_all_checks_without_a_month_are_of_the_newest_invoiced_one(world: World) -> None:
    """April has usage without a rate, and January is missing: warnings, and they stay warnings.

    Somebody then changes March, which the check of the months before April says, and April, which fails the run.
    """
    world.pilot()
    world.use("web", "unrated", 1)
    world.publish("2026-03")
    world.publish("2026-04")
    result = execute_all(world)
    assert result.success
    assert len(result.get_asset_check_evaluations()) == sum(len(list(checks.check_keys)) for checks in CHECKS) > 15
    found = failed(result)
    assert {name: grave for name, (grave, _) in found.items()} == {
        "all_usage_is_billed": "WARN",
        "every_month_before_is_invoiced": "WARN",
    }
    assert found["all_usage_is_billed"][1].startswith("Of 2026-04, the newest invoiced month: 1 found. Add the missing")
    world.tamper("update billing.tenant_invoice_lines set amount_cents = 1 where period_start = '2026-03-01'")
    assert failed(execute_all(world))["earlier_months_are_unchanged"][0] == "ERROR"
    world.tamper("update billing.metered_usage set quantity = quantity + 1 where period_start = '2026-04-01'")
    result = execute_all(world)
    assert not result.success
    assert failed(result)["usage_equals_raw_records"][1].startswith("Of 2026-04, the newest invoiced month: 2 found.")


def test_all_checks_before_any_month_is_invoiced_find_nothing_wrong(world: World) -> None:
    """There is nothing to check, and each says so."""
    world.pilot()
    result = execute_all(world)
    assert result.success
    assert {check.description for check in result.get_asset_check_evaluations()} == {
        "No month is invoiced: there is nothing to check."
    }
    assert failed(result) == {}


@pytest.mark.long
def test_the_job_check_month_looks_at_any_month(world: World) -> None:
    """March was tampered with, April was not; the results are on the months' partitions."""
    world.pilot()
    world.publish("2026-03")
    world.publish("2026-04")
    world.tamper("update billing.tenant_invoice_lines set amount_cents = 1 where period_start = '2026-03-01'")
    assert defs.resolve_job_def("check_month").partitions_def == MONTHS
    march, april = check_month(world, "2026-03"), check_month(world, "2026-04")
    assert {"totals_equal_lines", "gst_recomputed_a_second_way"} <= set(failed(march))
    assert {check.partition for check in march.get_asset_check_evaluations()} == {"2026-03-01"}
    assert set(failed(april)) == {"earlier_months_are_unchanged", "every_month_before_is_invoiced"}
