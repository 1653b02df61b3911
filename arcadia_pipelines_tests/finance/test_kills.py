"""Eight workers that are killed at each step: every invoice ends as one there and one here."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import Client
from arcadia_pipelines.finance.reconcile import reconcile
from arcadia_pipelines.settings import PROJECT, Settings
from arcadia_pipelines_tests.finance.receiver import Call, Dropped, Receiver
from arcadia_pipelines_tests.world import World, connect

pytestmark = pytest.mark.long
APRIL = BillingMonth.parse("2026-04")
COUNT = 1_000
WORKERS = 8
# A worker dies at the step that its name says, on its own; by chance, so that each dies at another row.
WORKER = """
import os, random, signal, sys
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import Client
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database, outbox

step, seed, url = sys.argv[1], int(sys.argv[2]), sys.argv[3]
chance = random.Random(seed)
draining.BATCH = 10

def dying(function, before):
    def called(*arguments, **named):
        if before and chance.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if not before and chance.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return called

match step:
    case "claim": outbox.claim = dying(outbox.claim, before=False)      # sending is not committed
    case "hold": outbox.hold = dying(outbox.hold, before=True)          # it is, and nothing was sent
    case "send": draining._call = dying(draining._call, before=True)    # the batch is held
    case "sent": draining._call = dying(draining._call, before=False)   # finance has it
    case "settle": outbox.settle = dying(outbox.settle, before=False)   # written, and not committed
with Client(Settings.from_environment()) as client:
    draining.drain(database.engine(url), client, BillingMonth.parse("2026-04"), at_once=True)
"""
STEPS = ("claim", "hold", "send", "sent", "settle", "never")


def tenants(world: World) -> None:
    """A thousand tenants with a studio each, invoiced at 55.00."""
    world.plan("studio", 5000)
    with connect(world.url) as connection:
        for statement in (
            f"insert into cloud.tenants select 't' || n, 'Tenant ' || n from generate_series(1, {COUNT}) n",
            "insert into cloud.cloud_deployments select md5(id)::uuid, id, id from cloud.tenants",
            "insert into cloud.subscriptions select d.id, tenant_id, d.id, p.id, 'active', '2026-01-01'"
            " from cloud.cloud_deployments d, cloud.plans p",
        ):
            connection.execute(statement)
    world.publish("2026-04")


BEGINNINGS = {"thousand": tenants}


@pytest.fixture
def thousand(world: World) -> World:
    """A thousand invoices of 55.00 each."""
    return world


def lying(call: Call) -> None:
    """Of five requests one is answered as it should be not, each in another way."""
    match random.randrange(25):
        case 0:
            call.do()
            raise Dropped
        case 1:
            raise Dropped
        case 2:
            call.do()
            call.answer(504)
        case 3:
            call.answer(429, {"error": "slowly"}, Retry_After="0")
        case 4:
            call.do()
            time.sleep(0.3)
        case _:
            call.do()


def test_with_eight_workers_killed_at_each_step_each_invoice_is_there_once_and_here_once(
    thousand: World, finance: Receiver, engine: Engine
) -> None:
    draining.prepare(engine, APRIL)
    finance.trouble = lying
    killed, seed, until = Counter[str](), 0, time.monotonic() + 240
    running: dict[int, tuple[subprocess.Popen[bytes], str]] = {}
    try:
        while time.monotonic() < until and (running or _left(thousand)):
            for place in range(WORKERS):
                if place in running:
                    process, step = running[place]
                    if process.poll() is not None:
                        killed[step] += process.returncode == -signal.SIGKILL
                        del running[place]
                if place not in running and _left(thousand):
                    seed += 1
                    step = STEPS[seed % len(STEPS)]
                    arguments = [sys.executable, "-c", WORKER, step, str(seed), thousand.url]
                    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
                    running[place] = subprocess.Popen(arguments, cwd=PROJECT, env=environment), step
            time.sleep(0.1)
    finally:
        for process, _ in running.values():
            process.kill()
            process.wait()
    assert all(killed[step] for step in STEPS[:-1])
    finance.trouble = Call.do
    assert Counter(finance.taken.values()) == {1: COUNT}
    assert thousand.query(
        "select count(*), count(distinct finance_invoice_id), sum(total_cents) from billing.tenant_invoices"
        " where pushed_to_finance_at is not null"
    ) == [(COUNT, COUNT, COUNT * 5500)]
    assert thousand.query("select state, count(*) from billing.finance_outbox group by 1") == [("confirmed", COUNT)]
    with Client(Settings.from_environment()) as client:
        found = reconcile(engine, client, APRIL)
    assert (found.ours, found.theirs, found.theirs_cents, found.offenders) == (COUNT, COUNT, COUNT * 5500, [])


def _left(world: World) -> int:
    return int(world.query("select count(*) from billing.finance_outbox where state <> 'confirmed'")[0][0])
