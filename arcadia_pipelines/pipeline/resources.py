"""The resources of assets, checks and schedules: the billing database and its transactions, and where results go."""

import functools
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import dagster as dg
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline.instance import report_dead_runs
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database
from arcadia_pipelines.storage.publication import Published

RETRIES = 3
RETRY_SECONDS = 1.0
"""About how long the first retry waits; each next one twice as long."""


class BillingDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The billing database. Without a URL, the one that the environment names, or the embedded one.

    An asset's step whose transaction was interrupted (a lost connection, a deadlock) is retried by Dagster: it runs
    again from its start. Any other StorageError fails it at once.
    """

    url: str | None = None

    def month(self, *months: BillingMonth) -> AbstractContextManager[Connection]:
        """A transaction that is the only writer of these months and commits at the end. Raises StorageError."""
        return _retried(database.month_transaction(self.engine(), *months), *months)

    def month_at_an_instant(self, month: BillingMonth, publishes: bool = False) -> AbstractContextManager[Connection]:
        """As month(), and all reads see one instant; one at a time if it publishes. Raises StorageError."""
        return _retried(database.month_at_an_instant(self.engine(), month, publishes), month)

    def alone(self) -> AbstractContextManager[Connection]:
        """A transaction that no month runs beside, which commits at the end. Raises StorageError."""
        return _retried(database.exclusive_transaction(self.engine()))

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction for reading. Raises StorageError."""
        return _retried(database.transaction(self.engine()))

    def engine(self) -> Engine:
        """The engine on the database."""
        return _engine(self.url or Settings.from_environment().url())


@dataclass
class Results:
    """What a month's steps return, as values, for whoever runs them in this process: `arcadia invoice`.

    What Dagster keeps of them (reporting.py) is for people, and is not read back. In a run that Dagster launches nobody
    reads this.
    """

    published: Published | None = None
    sums: dict[str, int] = field(default_factory=dict)
    """Of the month's invoices as they stand: subtotal_cents, tax_cents, total_cents."""
    head: str | None = None
    """The head of the month's chain of events; None if nothing has happened in it."""
    findings: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By check: how many offenders it found, and what to do about them."""


_engine = functools.cache(database.engine)


@contextmanager
def _retried(transaction: AbstractContextManager[Connection], *months: BillingMonth) -> Iterator[Connection]:
    """The transaction; in a step of a run, an interruption of it asks Dagster to retry the step.

    Runs of the months whose process died are reported as failed, so that the next one does not wait for them.
    """
    step = _step()
    try:
        with transaction as connection:
            for month in months:
                if step:
                    report_dead_runs(step.instance, month.key, but=step.run_id)
            yield connection
    except database.StorageInterrupted as error:
        if step is None:
            raise error from error.__cause__
        if not step.has_assets_def:  # an operator's act may have been committed: it must not be done twice
            raise error from error.__cause__
        # At random, so that months that blocked each other do not do so again.
        seconds = RETRY_SECONDS * 2**step.retry_number * random.uniform(0.5, 1.5)
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=seconds) from error


def _step() -> dg.OpExecutionContext | None:
    """The step that is executed here; None in a schedule or a sensor."""
    try:
        return dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
