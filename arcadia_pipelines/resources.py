"""What assets, checks and schedules are handed: the billing database and its transactions."""

import functools
from contextlib import AbstractContextManager

import dagster as dg
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database


class BillingDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The billing database. Without a URL, the one that the environment names, or the embedded one."""

    url: str | None = None

    def month(self, *months: BillingMonth) -> AbstractContextManager[Connection]:
        """A transaction that is the only writer of these months and commits at the end. Raises StorageError."""
        return database.month_transaction(self.engine(), *months)

    def alone(self) -> AbstractContextManager[Connection]:
        """A transaction that no month runs beside. Raises StorageError."""
        return database.transaction(self.engine())

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction for reading. Raises StorageError."""
        return database.transaction(self.engine())

    def engine(self) -> Engine:
        """The engine on the database."""
        return _engine(self.url or Settings.from_environment().url())


_engine = functools.cache(database.engine)
