"""Why a run failed, in one line, from its events: what the command line prints, and what an alert says.

Dagster keeps an error as text. So a step that refuses what was asked marks that in its event (marking_refusals), and
was_refused() reads it there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEvent
from dagster._core.errors import DagsterAssetCheckFailedError

from arcadia_pipelines.errors import Refused
from arcadia_pipelines.pipeline.resources import RETRIES

READ = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
"""The events that why() needs."""
_REFUSED = "arcadia/refused"
_NAMED = 3


@contextmanager
def marking_refusals() -> Iterator[None]:
    """In a step: an error that is Refused fails the step at once, and is marked for was_refused()."""
    try:
        yield
    except Refused as error:
        raise dg.Failure(str(error), {_REFUSED: True}, allow_retries=False) from error


def why(events: Sequence[DagsterEvent]) -> str:
    """The first thing that went wrong: the error of a step, else the checks that failed; '' if it is neither."""
    for event in events:
        error = event.step_failure_data.error if event.is_step_failure else None
        if error:
            cause = error.cause or error
            if cause.cls_name != DagsterAssetCheckFailedError.__name__:
                message = " ".join(cause.message.split())
                reason = message.partition(f"{cause.cls_name}: ")[2] or message
                was_retried = error.cls_name == dg.RetryRequested.__name__
                return f"{reason} (tried {RETRIES + 1} times)" if was_retried else reason
    return " ".join(found(check) for check in failed_checks(events) if check.blocking)


def of_month_end(month: str, events: Sequence[DagsterEvent], otherwise: str) -> str:
    """What became of the month, and why; `otherwise` is the reason if the events have none."""
    what = "is invoiced, but a check could not run" if _was_published(events) else "was not invoiced"
    return f"{month} {what}: {why(events) or otherwise}"


def _was_published(events: Iterable[DagsterEvent]) -> bool:
    return any(event.is_step_success and event.step_key == "publish_invoices" for event in events)


def was_refused(events: Iterable[DagsterEvent]) -> bool:
    """Whether the run only refused what was asked, and did nothing."""
    failed = [event.step_failure_data for event in events if event.is_step_failure]
    return bool(failed) and all(
        failure.user_failure_data is not None and _REFUSED in failure.user_failure_data.metadata for failure in failed
    )


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
    of = f" of {check.metadata['month'].value}" if "month" in check.metadata else ""  # the run has no month
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
