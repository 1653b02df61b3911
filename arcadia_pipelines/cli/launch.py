"""Running a month end or an operator's job from the command line: Dagster's own jobs and storage, in this process."""

import io
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import sqlalchemy
from dagster_postgres.utils import DagsterPostgresException

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.definitions import defs
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.pipeline import failures, partitions
from arcadia_pipelines.pipeline.acts import MONTH_END, step_of
from arcadia_pipelines.pipeline.instance import enter_dagster_home
from arcadia_pipelines.pipeline.resources import Results
from arcadia_pipelines.pipeline.tables import Metadata
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import waits
from arcadia_pipelines.storage.database import TOO_MANY_REMEDY, is_too_many
from arcadia_pipelines.storage.session import SessionRefused

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_LOOK = "see the run in Dagster"
_IN_THE_UI = {".dagster/repository": "__repository__@arcadia_pipelines"}  # shows the run on its job's page too


class MonthEndFailed(ArcadiaError):
    """The run failed; the message says in one line why, and whether anything was published or done."""


@dataclass(frozen=True)
class Outcome:
    """What a month end did: invoices by action, the sums as they stand now, and the checks that failed."""

    month: BillingMonth
    run_id: str
    head: str | None
    """Of the month's chain of events, in hex; None if nothing has happened in it."""
    actions: dict[str, int]
    subtotal_cents: int
    tax_cents: int
    total_cents: int
    failed_checks: dict[str, dict[str, int | str]] = field(default_factory=dict)
    """By name: how many offenders were `found`, and `what_to_do`."""


def instance(state: str = "nothing was invoiced") -> dg.DagsterInstance:
    """The Dagster instance of dagster.yaml. Raises MonthEndFailed, which says how things stand."""
    enter_dagster_home(Settings.from_environment().home)
    with _on_record(state):
        created = dg.DagsterInstance.get()
        # Keeps a connection between events, as the webserver does: a month end makes some two hundred otherwise.
        created.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3600, max_overflow=4)
    return created


def run(month: BillingMonth, on: dg.DagsterInstance) -> Outcome:
    """Materialise the month. Raises MonthEndFailed, and partitions.NotBillable."""
    partitions.refuse_unless_billable(month)
    results = Results()
    with _on_record(f"{month} is as it was, or invoiced whole"):
        result = defs.resolve_job_def(MONTH_END).execute_in_process(
            partition_key=month.key,
            instance=on,
            run_config=_QUIET,
            resources={"results": results},
            raise_on_error=False,
            tags=_IN_THE_UI,
        )
    if not result.success or results.published is None:
        what = failures.of_month_end(str(month), result.all_events, _LOOK)
        raise MonthEndFailed(f"{what} (run {result.run_id})")
    return Outcome(
        month=month,
        run_id=result.run_id,
        head=results.head,
        actions=results.published.actions,
        **results.sums,
        failed_checks={
            check: {"found": count, "what_to_do": what_to_do}
            for check, (count, what_to_do) in results.findings.items()
            if count
        },
    )


def operate(operation: str, config: Mapping[str, object], on: dg.DagsterInstance) -> Mapping[str, dg.MetadataValue]:
    """Run an operator's job; returns what it reports (pipeline/act_reports.py). Raises MonthEndFailed."""
    with _on_record(f"look whether {operation} was done"):
        result = defs.resolve_job_def(operation).execute_in_process(
            instance=on,
            run_config={**_QUIET, "ops": {step_of(operation): {"config": config}}},
            raise_on_error=False,
            tags=_IN_THE_UI,
        )
    if not result.success:
        what = "did nothing" if failures.was_refused(result.all_events) else "failed: look whether it was done"
        raise MonthEndFailed(f"{operation} {what}: {failures.why(result.all_events) or _LOOK} (run {result.run_id})")
    return next(event.step_output_data.metadata for event in result.all_events if event.is_successful_output)


def report_bill(month: BillingMonth, metadata: Metadata, on: dg.DagsterInstance) -> None:
    """Put a bill that was stored without a run into Dagster's catalogue. Raises MonthEndFailed."""
    with _on_record(f"the bill of {month} is stored"):
        on.report_runless_asset_event(dg.AssetMaterialization("cloud_invoices", partition=month.key, metadata=metadata))


@contextmanager
def _on_record(state: str) -> Iterator[None]:
    """Where Dagster writes its record of the run: that it cannot is a MonthEndFailed, which says how things stand."""
    saying = logging.StreamHandler(sys.stderr)  # whom a run waits for, beside Dagster's record of it
    saying.setFormatter(logging.Formatter("arcadia: %(message)s"))
    waits.LOGGER.addHandler(saying)
    try:
        with redirect_stderr(_Muted(sys.stderr)):
            yield
    except SessionRefused as error:
        raise MonthEndFailed(f"Dagster could not record the run: {error}") from error
    except (sqlalchemy.exc.SQLAlchemyError, DagsterPostgresException) as error:
        cause = error.__cause__ if isinstance(error, DagsterPostgresException) and error.__cause__ else error
        reason = str(cause.orig if isinstance(cause, sqlalchemy.exc.DBAPIError) else cause).strip().partition("\n")[0]
        if is_too_many(reason):
            raise MonthEndFailed(
                f"Dagster could not record the run, the database has too many connections ({reason}): {state};"
                f" {TOO_MANY_REMEDY}, then run it again"
            ) from error
        raise MonthEndFailed(
            f"Dagster could not record the run in the database ({reason}): {state}; see that PostgreSQL runs and its"
            " disk has room, then run it again"
        ) from error
    finally:
        waits.LOGGER.removeHandler(saying)


class _Muted(io.TextIOBase):
    """stderr without what Dagster writes there beside what it raises; the progress on a terminal goes around it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
