"""The asset checks: one per control (proof/controls.py) and two on when usage came, for the month of the run.

A run without a month ("Execute all" of the UI cannot name one) checks the newest invoiced month.

Blocking checks are the release gate: if one fails, the steps downstream in the run do not start. The step that
publishes also checks what it is about to publish, unless the checks of its run have passed the same rows. If one tenant
is at fault, a check that does not block fails, and the others are invoiced.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import dagster as dg
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import MonthStopped
from arcadia_pipelines.pipeline import failures, reporting
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase, Results
from arcadia_pipelines.proof import controls, cost_controls, finance_controls, late, usage_controls
from arcadia_pipelines.proof.control import Control, Finding
from arcadia_pipelines.proof.controls import CONTROLS
from arcadia_pipelines.storage import ledger


class GateClosed(MonthStopped):
    """A blocking control fails: the month must not be invoiced."""


def pass_gate(context: dg.AssetExecutionContext, connection: Connection, month: BillingMonth) -> None:
    """Run the blocking controls on what is published, in the transaction that publishes it. Raises GateClosed.

    Rows that this run's checks have passed, unchanged since, are not checked again. The checks alone are not enough:
    another run may have replaced the quotes since, or they were not part of the run.
    """
    for control in CONTROLS:
        if not control.blocking:
            continue
        if _passed_in_this_run(context, control) and controls.has_passed(connection, control, month):
            continue
        if control is usage_controls.USAGE_IS_CONSERVED and _passed_when_made(context, connection, control, month):
            continue  # the plans it was made from may have changed since
        found = controls.find(connection, control, month)
        if found.count:
            offenders = failures.named(found.offenders, found.count)
            raise GateClosed(
                f"{month} is not published: {control.name} found {found.count}{offenders}. {control.remedy}"
            )


def _passed_in_this_run(context: dg.AssetExecutionContext, control: Control) -> bool:
    newest = context.instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(dg.AssetKey(control.asset), control.name)
    )
    return newest is not None and newest.run_id == context.run.run_id and newest.status.value == "SUCCEEDED"


@contextmanager
def partitioned_checks() -> Iterator[None]:
    """Checks with partitions show a result per month. Their API is in preview, which warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*partitions_def", category=dg.PreviewWarning)
        yield


_CHECKED = (
    "metered_usage",
    "deployment_quotes",
    "tenant_invoices",
    "cloud_invoices",
    "cost_allocations",
    "finance_invoices",
)
_LATE = "no_late_usage_in_the_month_before"
_NONE_LATE = "No usage of the month before was received after that month was frozen."
_LATE_REMEDY = "Materialise {} again to bill it. If an invoice is paid, delivered or pushed, the next one carries it."
_AHEAD = "no_usage_is_stamped_ahead_of_the_clock"
_NONE_AHEAD = "No usage record of the month has an ingested_at in the future."
_AHEAD_REMEDY = (
    "It is billed, and counts as received at the month's cut-off. Correct the clock that stamps it, and ingested_at "
    "in usage_records."
)
_NOTHING_TO_CHECK = "No month is invoiced: there is nothing to check."
_Reported = dg.AssetCheckResult | dg.Output[None] | dg.AssetCheckEvaluation


def _checks(asset: str) -> dg.AssetChecksDefinition:
    """The asset's checks, in one step."""
    every = (*CONTROLS, *cost_controls.CONTROLS, *finance_controls.CONTROLS)
    mine = [control for control in every if control.asset == asset]
    specs = [
        dg.AssetCheckSpec(c.name, asset=asset, description=c.description, blocking=c.blocking, partitions_def=MONTHS)
        for c in mine
    ]
    if asset == "metered_usage":
        specs += [
            dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=MONTHS)
            for name, description in ((_LATE, _NONE_LATE), (_AHEAD, _NONE_AHEAD))
        ]

    @dg.multi_asset_check(name=f"check_{asset}", specs=specs, can_subset=True)
    def check(
        context: dg.AssetCheckExecutionContext, database: BillingDatabase, results: dg.ResourceParam[Results]
    ) -> Iterator[_Reported]:
        selected = [spec for spec in specs if spec.key in context.selected_asset_check_keys]
        month = month_of(context) if context.has_partition_key else _newest_invoiced(database)
        found = _found(context, database, mine, {spec.name for spec in selected}, month) if month else []
        results.findings |= {one.name: (one.finding.count, one.remedy) for one in found}
        if context.has_partition_key:
            yield from map(_result, found)
        else:
            yield from _without_partition(selected, list(map(_result, found)), month)

    return check


class _Found(NamedTuple):
    """What a check found, and how to say it."""

    asset: str
    name: str
    finding: Finding
    description: str
    remedy: str
    warning: bool


def _found(
    context: dg.AssetCheckExecutionContext,
    database: BillingDatabase,
    mine: list[Control],
    selected: set[str],
    month: BillingMonth,
) -> list[_Found]:
    """What the selected checks of an asset find in the month."""
    gate = any(control.blocking for control in mine)
    # Rows that are recorded as passed must not be replaced meanwhile; and late usage is priced by one instant's
    # plans.
    with database.month_at_an_instant(month) if gate else database.transaction() as connection:
        found = [
            _Found(c.asset, c.name, _run_control(context, connection, c, month), c.description, c.remedy, c.warning)
            for c in mine
            if c.name in selected
        ]
        if _LATE in selected:
            came_late, remedy = late.find(connection, month.before), _LATE_REMEDY.format(month.before)
            found.append(_Found("metered_usage", _LATE, came_late, _NONE_LATE, remedy, warning=True))
        if _AHEAD in selected:
            ahead = late.find_ahead(connection, month)
            found.append(_Found("metered_usage", _AHEAD, ahead, _NONE_AHEAD, _AHEAD_REMEDY, warning=True))
    return found


def _newest_invoiced(database: BillingDatabase) -> BillingMonth | None:
    with database.transaction() as connection:
        return max(ledger.invoiced_months(connection), default=None)


def _without_partition(
    selected: list[dg.AssetCheckSpec], results: list[dg.AssetCheckResult], month: BillingMonth | None
) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
    """The results as events that name their month, as the run has none.

    Dagster makes no event of a result without a partition if the asset has partitions. If no month is invoiced, there
    is no result, and nothing is wrong.
    """
    found = {result.check_name: result for result in results}
    for spec in selected:
        result = found.get(spec.name)
        about = f"Of {month}, the newest invoiced month: {result.description}" if result else _NOTHING_TO_CHECK
        yield dg.Output(None, spec.get_python_identifier())
        yield dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=result.passed if result else True,
            metadata={**result.metadata, "month": dg.MetadataValue.text(str(month))} if result else {},
            severity=result.severity if result else dg.AssetCheckSeverity.ERROR,
            description=about,
            blocking=spec.blocking,
        )


def _run_control(
    context: dg.AssetCheckExecutionContext, connection: Connection, control: Control, month: BillingMonth
) -> Finding:
    """Run the control; if it blocks and passes, that is recorded for the gate."""
    if not control.blocking:
        return controls.find(connection, control, month)
    if _passed_when_made(context, connection, control, month):
        return Finding(count=0, offenders=[])
    return controls.pass_if_clean(connection, control, month, context.run.run_id)


def _passed_when_made(
    context: dg.AssetCheckExecutionContext | dg.AssetExecutionContext,
    connection: Connection,
    control: Control,
    month: BillingMonth,
) -> bool:
    """Whether this run made the rows that the blocking control is about, and it passed at that instant."""
    newest = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(control.asset), asset_partitions=[month.key]), limit=1
    ).records
    return bool(newest) and newest[0].run_id == context.run.run_id and controls.has_passed(connection, control, month)


def _result(found: _Found) -> dg.AssetCheckResult:
    count = found.finding.count
    return dg.AssetCheckResult(
        asset_key=found.asset,
        check_name=found.name,
        passed=count == 0,
        severity=dg.AssetCheckSeverity.WARN if found.warning else dg.AssetCheckSeverity.ERROR,
        description=f"{count} found. {found.remedy}" if count else found.description,
        metadata=reporting.finding(found.finding, found.remedy),
    )


with partitioned_checks():
    CHECKS = [_checks(asset) for asset in _CHECKED]
