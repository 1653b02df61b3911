"""Why a run failed, in one line, out of its events: what the command line prints, and what an alert says."""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEvent

from arcadia_pipelines.pipeline.resources import RETRIES

READ = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
"""The events that it takes."""
_REFUSALS = ("OperationRefused", "InvalidMonth", "NotBillable")
_NAMED = 3


def why(events: Sequence[DagsterEvent]) -> str:
    """The first thing that went wrong: the error of a step, else the checks that failed; '' if it is neither."""
    for event in events:
        error = event.step_failure_data.error if event.is_step_failure else None
        if error:
            cause = error.cause or error
            if cause.cls_name != "DagsterAssetCheckFailedError":
                message = " ".join(cause.message.split())
                reason = message.partition(f"{cause.cls_name}: ")[2] or message
                return f"{reason} (tried {RETRIES + 1} times)" if error.cls_name == "RetryRequested" else reason
    return " ".join(found(check) for check in failed_checks(events) if check.blocking)


def of_month_end(month: str, events: Sequence[DagsterEvent], otherwise: str) -> str:
    """How things stand with the month, and why; `otherwise` is the reason where the events know none."""
    what = "is invoiced, but a check could not run" if _was_published(events) else "was not invoiced"
    return f"{month} {what}: {why(events) or otherwise}"


def _was_published(events: Iterable[DagsterEvent]) -> bool:
    return any(event.is_step_success and event.step_key == "publish_invoices" for event in events)


def was_refused(events: Iterable[DagsterEvent]) -> bool:
    """Whether the run only said no to who asked for it, and did nothing."""
    errors = [event.step_failure_data.error for event in events if event.is_step_failure]
    causes = [error.cause or error for error in errors if error]
    return bool(causes) and all(cause.cls_name in _REFUSALS for cause in causes)


def failed_checks(events: Iterable[DagsterEvent]) -> list[AssetCheckEvaluation]:
    """The checks that failed as errors, not those that warn, in the order of the run."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    checks = [event.asset_check_evaluation_data for event in events if event.event_type is kind]
    return [check for check in checks if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR]


def found(check: AssetCheckEvaluation) -> str:
    """What a check found, with the first offenders and what to do, as reporting.finding() has them.

    A check of somebody else's, in another code location, says what it found in its description.
    """
    if not {"offenders", "what_to_do"} <= check.metadata.keys():
        return f"check {check.check_name} failed: {check.description or 'it does not say why'}"
    count = int(str(check.metadata["offenders"].value))
    of = f" of {check.metadata['month'].value}" if "month" in check.metadata else ""  # the run is of none
    remedy = check.metadata["what_to_do"].value
    return f"check {check.check_name}{of} found {count}{named(_offenders(check), count)}: {remedy}"


def tenants(check: AssetCheckEvaluation) -> set[str]:
    """The tenants among the offenders that the check shows."""
    return {str(row["tenant_id"]) for row in _offenders(check) if row.get("tenant_id")}


def _offenders(check: AssetCheckEvaluation) -> list[Mapping[str, object]]:
    table = check.metadata.get("offenders_shown")
    if not isinstance(table, dg.TableMetadataValue):
        return []
    columns = [column.name for column in table.schema.columns]  # in their order: a record read back is sorted by name
    return [{name: record.data.get(name) for name in columns} for record in table.records]


def named(rows: Sequence[Mapping[str, object]], count: int) -> str:
    """The first of `count` offenders in brackets, each with its columns; '' if none is known."""
    first = [
        ", ".join(f"{column} {str(value).strip()}" for column, value in row.items() if value not in (None, ""))
        for row in rows[:_NAMED]
    ]
    more = f"; and {count - len(first)} more" if count > len(first) else ""
    return f" ({'; '.join(first)}{more})" if first else ""
