"""The asset checks: one per control (storage/controls.py) and one for late usage, for the month of the run.

Blocking ones are the release gate: what is downstream in the run does not start, and the step that publishes looks
once more at what it is about to publish. Where one tenant is at fault the check fails and the others are invoiced.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.engine import Connection

from arcadia_pipelines import late, reporting
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.partitions import MONTHS, month_of
from arcadia_pipelines.resources import BillingDatabase
from arcadia_pipelines.storage.controls import CONTROLS, Control, Finding, find


class GateClosed(Exception):
    """A blocking control fails: the month must not be invoiced."""


def pass_gate(connection: Connection, month: BillingMonth) -> None:
    """Run the blocking controls in the transaction that publishes. Raises GateClosed.

    The checks alone are not enough: another run may have replaced the quotes since, or they were not part of the run.
    """
    for control in CONTROLS:
        if control.blocking:
            found = find(connection, control, month)
            if found.count:
                raise GateClosed(f"{month} is not published: {control.name} found {found.count}. {control.remedy}")


@contextmanager
def partitioned_checks() -> Iterator[None]:
    """Checks with partitions show a result per month. Their API is in preview, which warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*partitions_def", category=dg.PreviewWarning)
        yield


def _check(control: Control) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name=control.name,
        asset=control.asset,
        description=control.description,
        blocking=control.blocking,
        partitions_def=MONTHS,
    )
    def check(context: dg.AssetCheckExecutionContext, database: BillingDatabase) -> dg.AssetCheckResult:
        with database.transaction() as connection:
            found = find(connection, control, month_of(context))
        return _result(found, control.description, control.remedy, control.warning)

    return check


def _result(found: Finding, description: str, remedy: str, warning: bool) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.count == 0,
        severity=dg.AssetCheckSeverity.WARN if warning else dg.AssetCheckSeverity.ERROR,
        description=description if found.count == 0 else f"{found.count} found. {remedy}",
        metadata=reporting.finding(found, remedy),
    )


with partitioned_checks():

    @dg.asset_check(
        asset="metered_usage",
        description="No record of the month before came after that month was frozen.",
        partitions_def=MONTHS,
    )
    def no_late_usage_in_the_month_before(
        context: dg.AssetCheckExecutionContext, database: BillingDatabase
    ) -> dg.AssetCheckResult:
        """Names the tenants, and what materialising that month again would change."""
        month = month_of(context).before
        with database.transaction() as connection:
            found = late.find(connection, month)
        remedy = f"Materialise {month} again to bill it. For a paid or pushed invoice the next one carries it."
        return _result(found, "No record of the month before came after it was frozen.", remedy, warning=True)

    CHECKS = [*(_check(control) for control in CONTROLS), no_late_usage_in_the_month_before]
