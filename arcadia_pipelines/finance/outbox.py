"""Draining the outbox: each row is told to finance exactly once, however the network and our own processes fail.

A row is `sending`, and that is committed, before anything is sent. While it is on its way its lock is held: one that is
`sending` and not locked belonged to a process that died, and finance is asked about it before anything is sent again.

Belongs here: the order of these steps, and when a row is tried again. Does not: SQL (storage/outbox.py), HTTP
(client.py).
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import stamina
from psycopg.errors import DeadlockDetected
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance.client import Answer, FinanceError, Known
from arcadia_pipelines.finance.ledgers import Ledger
from arcadia_pipelines.storage import database, outbox
from arcadia_pipelines.storage.outbox import Message, Operation, Result, State

stamina.instrumentation.set_on_retry_hooks([])  # what went wrong is in the row

BATCH = 200
"""Rows that are claimed together; so many are asked about if this process dies."""
THREADS = 8
TRIES = 3
"""How often a row is tried at once; then it backs off."""
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
"""A longer Retry-After is waited for in the row."""
_BACK_OFF_SECONDS = 30.0
_LONGEST_BACK_OFF_SECONDS = 3600.0
_GIVE_UP = 50
"""So many rows in a row that finance did not take end a drain: it is down, and asking on helps nobody."""


@dataclass
class Drained:
    """What a drain did: rows by state; and why it ended early, if it did."""

    rows: Counter[State] = field(default_factory=Counter)
    stopped: str = ""
    last_error: str = ""

    def add(self, other: "Drained") -> None:
        """Count what another did, too."""
        self.rows += other.rows
        self.stopped = self.stopped or other.stopped
        self.last_error = other.last_error or self.last_error


def prepare(on: Engine, month: BillingMonth, refused: bool = False) -> int:
    """Have an operator's word that the month be told: what has no row yet gets one, and held rows are let go.

    With `refused`, what finance refused is sent again. Returns how many rows were written.
    """
    with database.month_transaction(on, month) as connection:
        written = outbox.enqueue(connection, month)
        outbox.release(connection, month)
        if refused:
            outbox.take_refused_again(connection, month)
    return written


def drain(
    on: Engine,
    client: Ledger,
    month: BillingMonth,
    at_once: bool = False,
    progress: Callable[[Drained], object] = lambda _: None,
) -> Drained:
    """Tell finance what is due of the month; with `at_once` whatever is neither confirmed, refused nor held.

    Any number of these may run at once. Each row is tried once, in up to three calls.
    """
    with database.transaction(on) as connection:
        since = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
    drained, breaker = Drained(), _Breaker()
    with ThreadPoolExecutor(THREADS, "finance") as threads:
        while not breaker.is_open:
            with database.beside_month(on, month) as connection:
                claimed = outbox.claim(connection, month, since, BATCH, at_once)
            if not claimed:
                break
            with database.transaction(on) as connection:
                messages = outbox.hold(connection, claimed)
                results = list(threads.map(lambda message: _sent(client, message, breaker), messages))
                _settle(connection, month, results)
            drained.rows.update(result.state for result in results if not result.untried)
            drained.last_error = next((r.error for r in reversed(results) if r.error), drained.last_error)
            progress(drained)
    drained.stopped = breaker.reason
    return drained


def _settle(connection: Connection, month: BillingMonth, results: list[Result]) -> None:
    """Record the results, once nobody is writing the month: it would have to start again, and again.

    Somebody else who writes these invoices meanwhile may win a deadlock: what we hold, we keep.
    """
    for tries in range(TRIES, 0, -1):
        try:
            with connection.begin_nested():
                database.wait_for_month(connection, month)
                outbox.settle(connection, results)
            return
        except OperationalError as error:
            if tries == 1 or not isinstance(error.orig, DeadlockDetected):
                raise


class _Breaker:
    """Opens once many rows in a row were not taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self.reason = ""

    @property
    def is_open(self) -> bool:
        return bool(self.reason)

    def note(self, result: Result) -> None:
        """Count a row that was tried."""
        with self._lock:
            self._failures = 0 if result.state in (State.CONFIRMED, State.REFUSED) else self._failures + 1
            if self._failures >= _GIVE_UP:
                self.reason = f"finance did not take {_GIVE_UP} in a row: it {result.error}"


def _sent(client: Ledger, message: Message, breaker: _Breaker) -> Result:
    """Tell finance, and say what became of the row."""
    if breaker.is_open:
        state = State.UNCERTAIN if message.is_uncertain else State.PENDING
        return Result(message.id, state, "not tried: finance did not take the ones before", untried=True)
    result = Result(message.id, State.PENDING)
    try:
        for attempt in stamina.retry_context(
            on=_wait_of,
            attempts=TRIES,
            timeout=None,
            wait_initial=_FIRST_WAIT_SECONDS,
            wait_max=_LONGEST_WAIT_SECONDS,
        ):
            with attempt:
                result = _tried(client, message)
                message = replace(message, is_uncertain=result.state is State.UNCERTAIN)
                if result.state in (State.PENDING, State.UNCERTAIN) and result.wait <= _LONGEST_WAIT_SECONDS:
                    raise FinanceError(result.error or "", result.wait)
    except FinanceError:
        result = replace(result, wait=max(result.wait, _back_off(message.attempts)))
    breaker.note(result)
    return result


def _wait_of(error: Exception) -> float | bool:
    """Seconds until the next call, as stamina asks for them: True where it may choose, False for another error."""
    return isinstance(error, FinanceError) and (error.retry_after or True)


def _back_off(attempts: int) -> float:
    """Seconds until a row is tried again: twice as long each time, at random, so that not all come at once."""
    longest = min(_BACK_OFF_SECONDS * 2.0 ** min(attempts - 1, 20), _LONGEST_BACK_OFF_SECONDS)
    return longest * random.uniform(0.8, 1.2)


def _tried(client: Ledger, message: Message) -> Result:
    """One call, after a question if finance may have it already."""
    etag = message.etag
    if message.is_uncertain or (message.operation is Operation.PUT and message.is_known and not etag):
        there = client.get(message.invoice_id)
        if there.known not in (Known.DONE, Known.ABSENT):
            return _open(message, there)
        if there.known is Known.DONE and _has(message, there):
            return _confirmed(message, there)
        # Other content than ours is not written over: If-None-Match has finance refuse it, and so does an older etag.
        etag = (etag or (there.etag if message.is_known else None)) if there.known is Known.DONE else None
    return _concluded(message, _call(client, message, etag))


def _call(client: Ledger, message: Message, etag: str | None) -> Answer:
    match message.operation:
        case Operation.PUT:
            return client.put(message.invoice_id, message.payload, etag)
        case Operation.VOID:
            return client.void(message.invoice_id, message.payload)
        case Operation.PAYMENT:
            return client.pay(message.invoice_id, message.payload)


def _has(message: Message, there: Answer) -> bool:
    """Whether finance, which has the invoice, has what the row says."""
    match message.operation:
        case Operation.PUT:
            said = message.document
            return bool(there.document.get("finance_invoice_id")) and all(
                there.document.get(name) == said[name] for name in ("content_sha256", "total_cents")
            )
        case Operation.VOID:
            return there.document.get("status") == "void"
        case Operation.PAYMENT:
            return there.document.get("status") == "paid"


def _concluded(message: Message, answer: Answer) -> Result:
    match answer.known:
        case Known.DONE:
            return _confirmed(message, answer)
        case Known.REFUSED:
            return Result(message.id, State.REFUSED, answer.error)
        case Known.ABSENT if message.operation is Operation.PAYMENT:  # payments are recorded there alone
            return Result(message.id, State.CONFIRMED)
        case Known.ABSENT if message.operation is Operation.VOID:
            return Result(message.id, State.REFUSED, f"{answer.error} (it does not have the invoice)")
        case _:
            return _open(message, answer, answer.known is Known.NOTHING)


def _confirmed(message: Message, answer: Answer) -> Result:
    if message.operation is not Operation.PUT:
        return Result(message.id, State.CONFIRMED, etag=answer.etag)
    finance_id = answer.document.get("finance_invoice_id")
    if not isinstance(finance_id, str | int) or not str(finance_id):
        return Result(message.id, State.UNCERTAIN, "answered without a finance_invoice_id")
    return Result(message.id, State.CONFIRMED, None, str(finance_id), answer.etag)


def _open(message: Message, answer: Answer, is_uncertain: bool = False) -> Result:
    """Not settled. What was uncertain stays so, though it was not there: a late request may still arrive."""
    state = State.UNCERTAIN if is_uncertain or message.is_uncertain else State.PENDING
    return Result(message.id, state, answer.error, wait=answer.retry_after or 0)
