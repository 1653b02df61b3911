"""A month that is run again and again while finance is told of it: both end with the same invoices."""

import random
import threading
import time
from collections import Counter

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import Client
from arcadia_pipelines.finance.reconcile import reconcile
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.finance.receiver import Call, Dropped, Receiver
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long
APRIL = BillingMonth.parse("2026-04")
COUNT = 120
ROUNDS = 4


def lying(call: Call) -> None:
    """Slow, so that the month is run meanwhile; one request of six is done, and not answered."""
    call.do()
    time.sleep(0.8)
    if random.randrange(6) == 0:
        raise Dropped


def tell(engine: Engine, stop: threading.Event, died: list[Exception]) -> None:
    """Drain April until there is an end of it."""
    with Client(Settings.from_environment()) as client:
        while not stop.is_set():
            try:
                draining.drain(engine, client, APRIL, at_once=True)
            except Exception as error:  # noqa: BLE001 - looked at by the test
                died.append(error)
                return
            stop.wait(0.05)


def publish(world: World) -> Counter[str]:
    """Run April again, as a step that is retried does; what became of its invoices."""
    for _ in range(4):
        try:
            return Counter(world.publish("2026-04").actions)
        except database.StorageInterrupted:
            pass
    raise AssertionError("finance did not let April be published")


def test_a_month_that_is_revised_while_finance_is_told_of_it_is_the_same_there(
    world: World, finance: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "BATCH", 5)
    finance.trouble = lying
    world.plan("metered", 1000, {"droplet_hours": (0, 1)})
    for number in range(COUNT):
        world.tenant(f"t{number:03}")
        world.deployment(f"t{number:03}", f"d{number:03}", "metered")
    world.publish("2026-04")
    stop, died, became = threading.Event(), list[Exception](), Counter[str]()
    tellers = [threading.Thread(target=tell, args=(engine, stop, died)) for _ in range(3)]
    for teller in tellers:
        teller.start()
    time.sleep(1)
    for _ in range(ROUNDS):
        world.query(
            "insert into cloud.usage_records"
            " select gen_random_uuid(), md5(d)::uuid, 'droplet_hours', 10, '2026-04-15', '2026-04-15'"
            " from unnest(%s::text[]) d",
            [f"d{number:03}" for number in random.sample(range(COUNT), 40)],
        )
        became += publish(world)
    stop.set()
    for teller in tellers:
        teller.join()
    assert died == []
    finance.trouble = Call.do
    draining.prepare(engine, APRIL)
    with Client(Settings.from_environment()) as client:
        draining.drain(engine, client, APRIL, at_once=True)
        found = reconcile(engine, client, APRIL)
    assert became["revise"] > 0  # or nothing was tried
    assert (found.ours, found.theirs, found.offenders) == (COUNT, COUNT, [])
    assert set(finance.taken.values()) == {1}
    assert world.query("select distinct state from billing.finance_outbox") == [("confirmed",)]
    assert world.disproved() == []
