"""The asset checks: one per control (storage/controls.py), for the month of the run.

Blocking ones are the release gate: what is downstream in the run does not start, and the step that publishes looks
once more at what it is about to publish. Where one tenant is at fault the check fails and the others are invoiced.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.engine import Connection

from arcadia_pipelines import reporting
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.partitions import MONTHS, month_of
from arcadia_pipelines.resources import BillingDatabase
from arcadia_pipelines.storage.controls import CONTROLS, Control, find


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
        return dg.AssetCheckResult(
            passed=found.count == 0,
            severity=dg.AssetCheckSeverity.WARN if control.warning else dg.AssetCheckSeverity.ERROR,
            description=control.description if found.count == 0 else f"{found.count} found. {control.remedy}",
            metadata=reporting.finding(found, control.remedy),
        )

    return check


with partitioned_checks():
    CHECKS = [_check(control) for control in CONTROLS]
