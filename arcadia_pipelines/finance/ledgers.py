"""Which ledger finance is, by the scheme of ARCADIA_FINANCE_URL: one that keeps our contract, or Tryton.

Belongs here: what draining and comparing ask of a ledger. Does not: how one is asked (client.py, tryton/).
"""

from collections.abc import Iterator
from typing import Any, Protocol, Self
from uuid import UUID

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance.client import Answer, Client
from arcadia_pipelines.finance.tryton.client import SCHEME, Tryton
from arcadia_pipelines.settings import Settings


class Ledger(Protocol):
    """A ledger that is told of invoices; one for all threads of a drain, and a context."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def put(self, invoice: UUID, payload: str, etag: str | None) -> Answer:
        """Give it the invoice: a new one, or a revision of the one that it has as `etag`."""
        ...

    def void(self, invoice: UUID, payload: str) -> Answer:
        """Say that the invoice is void; again does no harm."""
        ...

    def pay(self, invoice: UUID, payload: str) -> Answer:
        """Say that a payment was recorded here. Absent, where payments are recorded there alone."""
        ...

    def get(self, invoice: UUID) -> Answer:
        """The invoice as it is there."""
        ...

    def invoices(self, month: BillingMonth) -> Iterator[dict[str, Any]]:
        """All invoices that it has of the month. Raises FinanceError."""
        ...

    def summary(self, month: BillingMonth) -> dict[str, Any]:
        """What it says of the month as a whole, if it does. Raises FinanceError."""
        ...


def ledger_of(settings: Settings) -> Ledger:
    """The one that is configured. Raises FinanceError if there is none."""
    return Tryton(settings) if (settings.finance_url or "").startswith(SCHEME) else Client(settings)
