"""However the network lies and processes die, each invoice is posted once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.ledgers import ledger_of
from arcadia_pipelines.finance.reconcile import Reconciled
from arcadia_pipelines.settings import PROJECT, Settings
from arcadia_pipelines_tests.finance.tryton.conftest import APRIL, Ledger, compare, push
from arcadia_pipelines_tests.finance.tryton.proxy import (
    Call,
    Dropped,
    Trouble,
    commit_and_504,
    commit_and_drop,
    drop,
    once,
)
from arcadia_pipelines_tests.world import World

AGREES = Reconciled(APRIL, 1, 1, 7064, 7064, [])
TENANTS = 12
WORKER = """
import os, signal, sys
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.ledgers import ledger_of
from arcadia_pipelines.finance.tryton.client import Tryton
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database

step, url = sys.argv[1:]
draining.BATCH = 4

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(function):
    return lambda *arguments: (function(*arguments), die())

match step:
    case "created": Tryton._post = die                         # a draft is there
    case "posted": Tryton._post = then_die(Tryton._post)       # it is posted, and nobody here knows
with ledger_of(Settings.from_environment()) as far:
    draining.drain(database.engine(url), far, BillingMonth.parse("2026-04"), at_once=True)
"""


def killed(world: World, step: str) -> None:
    """Have a process push that dies at the step."""
    process = worker(world, step)
    assert process.wait() == -signal.SIGKILL


def worker(world: World, step: str) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, "-c", WORKER, step, world.url]
    return subprocess.Popen(arguments, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)})


@pytest.mark.parametrize(
    ("trouble", "called"),
    [
        (once(drop, "create"), ["create", "create", "post"]),
        (once(commit_and_drop, "create"), ["create", "post"]),
        (once(drop, "post"), ["create", "post", "post"]),
        (once(commit_and_drop, "post"), ["create", "post"]),
        (once(commit_and_504, "post"), ["create", "post"]),
    ],
    ids=["create lost", "created", "post lost", "posted", "posted, 504"],
)
def test_a_lost_answer_posts_nothing_twice(
    pilots_april: World, ledger: Ledger, engine: Engine, trouble: Trouble, called: list[str]
) -> None:
    ledger.proxy.trouble = trouble
    assert push(engine) == {"confirmed": 1}
    assert ledger.proxy.told("create", "post") == called
    assert ledger.invoices("state", "total_amount") == [("posted", Decimal("70.64"))]
    assert compare(engine) == AGREES


@pytest.mark.parametrize(("step", "left"), [("created", "draft"), ("posted", "posted")])
def test_what_a_killed_process_left_is_found_and_finished(
    pilots_april: World, ledger: Ledger, engine: Engine, step: str, left: str
) -> None:
    draining.prepare(engine, APRIL)
    killed(pilots_april, step)
    [(there, state)] = ledger.invoices("id", "state")
    assert state == left
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices("id", "state") == [(there, "posted")]
    assert ledger.proxy.told("create") == ["create"]
    assert compare(engine) == AGREES


class Stuck:
    """A call that is given up, and carried out only when the test says so."""

    def __init__(self) -> None:
        self._arrive = threading.Event()
        self._carried_out = threading.Event()

    def __call__(self, call: Call) -> None:
        def later() -> None:
            self._arrive.wait(60)
            call.do()
            self._carried_out.set()

        threading.Thread(target=later, daemon=True).start()
        raise Dropped

    def arrive(self) -> None:
        """Have it carried out now."""
        self._arrive.set()
        assert self._carried_out.wait(60)


def test_a_draft_that_arrives_after_the_invoice_was_posted_is_told_of_and_posted_by_nobody(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    stuck = Stuck()
    ledger.proxy.trouble = once(stuck, "create")
    draining.prepare(engine, APRIL)
    with ledger_of(Settings.from_environment()) as far:  # once it is closed, and logged out, nothing arrives any more
        draining.drain(engine, far, APRIL)
        assert compare(engine) == AGREES
        stuck.arrive()
    assert ledger.invoices("state") == [("posted",), ("draft",)]
    assert [offender["what"] for offender in compare(engine).offenders] == ["finance has it 2 times"]
    pilots_april.done("void_invoice", invoices=["INV-202604-00001"])
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices("state") == [("cancelled",)]


def test_a_draft_that_arrives_before_the_next_is_posted_is_one_too_many(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    stuck = Stuck()

    def given_up(call: Call) -> None:
        ledger.proxy.before("create", stuck.arrive)
        stuck(call)

    ledger.proxy.trouble = once(given_up, "create")
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices("state") == [("posted",)]
    assert ledger.proxy.told("create", "delete", "post") == ["create", "create", "delete", "post"]


def test_a_post_that_arrives_after_all_was_done_changes_nothing(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    stuck = Stuck()
    ledger.proxy.trouble = once(stuck, "post")
    assert push(engine) == {"confirmed": 1}
    stuck.arrive()
    assert ledger.proxy.told("create", "post") == ["create", "post", "post"]
    assert ledger.balances()["Trade debtors"] == Decimal("70.64")
    assert compare(engine) == AGREES


@pytest.mark.parametrize("lost", ["create", "cancel", "post"])
def test_a_revision_whose_answers_are_lost_takes_the_place_of_one(
    pilots_april: World, ledger: Ledger, engine: Engine, lost: str
) -> None:
    def meanwhile() -> None:
        pilots_april.use("web", "droplet_hours", 100)
        pilots_april.publish("2026-04")
        ledger.proxy.trouble = once(commit_and_drop, lost)

    ledger.proxy.before("post", meanwhile)
    assert push(engine) == {"confirmed": 2}
    assert len(ledger.proxy.told(lost)) == {"create": 2, "cancel": 1, "post": 2}[lost]
    assert ledger.invoices("state", "total_amount") == [("cancelled", Decimal("70.64")), ("posted", Decimal("71.74"))]
    assert compare(engine) == Reconciled(APRIL, 1, 1, 7174, 7174, [])


def test_a_session_that_has_ended_is_made_anew(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    ledger.proxy.before("post", lambda: ledger.query("delete from ir_session"))
    assert push(engine) == {"confirmed": 1}
    assert ledger.proxy.told("create", "post") == ["create", "post", "post"]
    assert ledger.proxy.methods.count("common.db.login") == 2


def test_a_wrong_password_is_tried_again_later(
    pilots_april: World, ledger: Ledger, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCADIA_FINANCE_TOKEN", "arcadia:mistyped")
    assert push(engine) == {"pending": 1}
    [(error,)] = pilots_april.query("select last_error from billing.finance_outbox")
    assert error.startswith("answered 401: ")
    assert error.endswith("(see ARCADIA_FINANCE_TOKEN)")


def lying(call: Call) -> None:
    """Of ten calls one is answered as it should be not."""
    match random.randrange(30):
        case 0:
            call.do()
            raise Dropped
        case 1:
            raise Dropped
        case 2:
            call.do()
            call.status, call.answer = 504, b""
        case _:
            call.do()


def test_with_workers_killed_at_each_step_and_a_network_that_lies_each_invoice_is_posted_once(
    world: World, ledger: Ledger, engine: Engine
) -> None:
    world.plan("studio", 5000)
    for number in range(TENANTS):
        world.tenant(f"t{number:02}")
        world.deployment(f"t{number:02}", f"d{number:02}", "studio")
    world.publish("2026-04")
    draining.prepare(engine, APRIL)
    ledger.proxy.trouble = lying
    ended: list[int] = []
    steps, until = ["never", "created", "posted"] * 40, time.monotonic() + 240
    while left(world) and time.monotonic() < until:
        running = [worker(world, steps.pop()) for _ in range(2)]
        ended += [process.wait() for process in running]
    ledger.proxy.trouble = Call.do
    assert left(world) == 0
    assert set(ended) == {0, -signal.SIGKILL}
    found = ledger.query("select reference, count(*) from account_invoice where state = 'posted' group by 1")
    assert {count for _, count in found} == {1}
    assert len(found) == TENANTS
    assert ledger.balances()["Trade debtors"] == TENANTS * 55
    ledger.query("delete from account_invoice where state = 'draft'")  # what nobody saw any more, as said above
    assert compare(engine) == Reconciled(APRIL, TENANTS, TENANTS, TENANTS * 5500, TENANTS * 5500, [])


def left(world: World) -> int:
    return int(world.query("select count(*) from billing.finance_outbox where state <> 'confirmed'")[0][0])
