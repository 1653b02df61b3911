"""One Tryton for all tests (`make test-tryton`); its invoices and parties are removed after each."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.ledgers import ledger_of
from arcadia_pipelines.finance.reconcile import Reconciled, reconcile
from arcadia_pipelines.finance.tryton.rpc import Rpc
from arcadia_pipelines.settings import Settings
from arcadia_pipelines_tests.finance.tryton.proxy import Proxy, between
from arcadia_pipelines_tests.finance.tryton.server import ADMIN, LOGIN, tryton

APRIL = BillingMonth.parse("2026-04")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--tryton FOLDER`."""
    help_ = "the folder of Tryton's programs (`make test-tryton`)"
    parser.addoption("--tryton", type=Path, required=True, metavar="FOLDER", help=help_)


@dataclass
class Ledger:
    """Tryton, as an accountant sees it and as we reach it."""

    proxy: Proxy
    rpc: Rpc
    """The accountant's, past the proxy."""
    database_url: str
    undo: ExitStack
    """What is done once the test is over."""

    def invoices(self, *fields: str) -> list[tuple[Any, ...]]:
        """All invoices in order of their ids: the fields of each."""
        rows = self.rpc.read("model.account.invoice.search_read", [], 0, None, [["id", "ASC"]], [*fields])
        return [tuple(row[field] for field in fields) for row in rows]

    def balances(self) -> dict[str, Decimal]:
        """Debit less credit of each account."""
        rows = self.query(
            "select a.name, sum(l.debit - l.credit) from account_move_line l"
            " join account_account a on a.id = l.account group by 1"
        )
        return dict(rows)

    def change(self, model: str, values: dict[str, Any]) -> None:
        """Change the model's only record; changed back once the test is over."""
        [row] = self.rpc.read(f"model.{model}.search_read", [], 0, None, None, [*values])
        record = row.pop("id")
        self.rpc.change(f"model.{model}.write", [record], values)
        self.undo.callback(self.rpc.change, f"model.{model}.write", [record], row)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """All periods of all years are closed."""
        ids = self.rpc.read("model.account.period.search", [])
        self.rpc.change("model.account.period.close", ids)
        try:
            yield
        finally:
            self.rpc.change("model.account.period.reopen", ids)
            ids = self.rpc.read("model.account.journal.period.search", [["state", "=", "closed"]])
            self.rpc.change("model.account.journal.period.reopen", ids)

    def pay(self) -> None:
        """The tenant pays the one invoice by a transfer, and Tryton's worker sees that it is paid."""
        [row] = self.rpc.read(
            "model.account.invoice.search_read", [], 0, None, None, ["party", "total_amount", "currency", "company"]
        )
        invoice = row.pop("id")
        [method] = self.rpc.read("model.account.invoice.payment.method.search", [])
        about = {"active_model": "account.invoice", "active_id": invoice, "active_ids": [invoice]}
        start = {
            "payee": row["party"],
            "amount": row["total_amount"],
            "currency": row["currency"],
            "company": row["company"],
            "payment_method": method,
            "date": dt.datetime.now(dt.UTC).date(),
        }
        session = self.rpc.change("wizard.account.invoice.pay.create")[0]
        self.rpc.change("wizard.account.invoice.pay.execute", session, {"start": start}, "choice", about=about)
        self.rpc.change("model.account.invoice.process", [invoice])

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement past Tryton, on its database."""
        with psycopg.connect(self.database_url) as connection:
            cursor = connection.execute(sql.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []


def push(engine: Engine, refused: bool = False, month: BillingMonth = APRIL) -> dict[str, int]:
    """As `arcadia finance push 2026-04`: rows by the state that they came to."""
    draining.prepare(engine, month, refused)
    with ledger_of(Settings.from_environment()) as far:
        drained = draining.drain(engine, far, month, at_once=True)
    return {state.value: count for state, count in drained.rows.items()}


def compare(engine: Engine) -> Reconciled:
    """As `arcadia finance reconcile 2026-04`."""
    with ledger_of(Settings.from_environment()) as far:
        return reconcile(engine, far, APRIL)


@pytest.fixture(scope="session")
def _tryton(
    pytestconfig: pytest.Config, server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    programs = pytestconfig.getoption("--tryton").resolve()
    with tryton(programs, server_url, tmp_path_factory.mktemp("tryton")) as found:
        yield found


@pytest.fixture(scope="session")
def _accountant(_tryton: tuple[str, str]) -> Iterator[Rpc]:
    with closing(Rpc(_tryton[0], ADMIN, 60, 1)) as rpc:
        company = rpc.read("model.res.user.get_preferences", True)["company"]
        rpc.context = {**rpc.context, "company": company}
        yield rpc


@pytest.fixture
def ledger(_tryton: tuple[str, str], _accountant: Rpc, in_environment: Callable[..., None]) -> Iterator[Ledger]:
    """Tryton with empty books, which the environment names."""
    url, database_url = _tryton
    with between(url) as proxy, ExitStack() as undo:
        in_environment(ARCADIA_FINANCE_URL=f"tryton+{proxy.url}", ARCADIA_FINANCE_TOKEN=LOGIN)
        found = Ledger(proxy, _accountant, database_url, undo)
        undo.callback(found.query, "delete from party_party where id not in (select party from company_company)")
        undo.callback(found.query, "truncate account_invoice, account_move cascade")
        yield found
