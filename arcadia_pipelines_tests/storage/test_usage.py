"""Counting usage: quickly where the tables allow it, thoroughly where not, and the same."""

import random
from typing import Any

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month import steps
from arcadia_pipelines.storage import database, usage, usage_records
from arcadia_pipelines_tests.world import World, uid

INSTANTS = (
    "2026-01-01",
    "2026-03-31 23:59:59+00",
    "2026-04-01 00:00+00",
    "2026-04-10",
    "2026-04-20 12:00+00",
    "2026-05-01 00:00+00",
    "2026-06-01",
)
QUANTITIES = (1, "0.000001", -3, "NaN", "999999999999.999999", 0, None)


def counted(world: World) -> list[str]:
    """Every row of April's count."""
    with database.transaction(database.engine(world.url)) as connection:
        usage_records.count(connection, BillingMonth.parse("2026-04"))
        return sorted(map(str, connection.exec_driver_sql("select * from counted")))


def test_the_quick_count_is_the_thorough_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty deployments with part months, overlaps, pending subscriptions, NaN, null and less than nothing."""
    chance = random.Random(7)
    world.query("alter table cloud.usage_records alter quantity drop not null")
    world.plan("small", 100)
    for tenant in "abc":
        world.tenant(tenant)
    for number in range(60):
        name = f"d{number}"
        world.deployment(chance.choice("abc"), name)
        for place in range(chance.randrange(4)):
            start, end = sorted(chance.sample(INSTANTS, 2))
            status = chance.choice(["active", "active", "suspended", "pending", "cancelled"])
            world.subscribe(
                f"{name}/{place}", chance.choice("abc"), name, "small", start, chance.choice([end, None]), status
            )
        for _ in range(chance.randrange(6)):
            instant = chance.choice(INSTANTS)
            world.use(name, chance.choice("xy"), chance.choice(QUANTITIES), instant, ingested_at="2026-04-02")
    quickly = counted(world)
    monkeypatch.setattr(usage_records, "_IDS_ARE_UNIQUE", "select false")
    assert counted(world) == quickly
    assert len(quickly) > 50


APRIL = BillingMonth.parse("2026-04")


def freeze(world: World) -> tuple[bool, bool]:
    """April's usage frozen now: whether anything was written, and whether newer records were added to it."""
    with database.month_at_an_instant(database.engine(world.url), APRIL) as connection:
        frozen = steps.freeze(connection, APRIL, "run", None)
    return frozen.changed, frozen.compared


def one_deployment(world: World) -> None:
    """Of tenant a: web, for the whole of the month."""
    world.plan("small", 100)
    world.tenant("a")
    world.deployment("a", "web", "small")


def test_newer_records_are_added_to_the_frozen_usage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 10 come 4 and -1; a kind, and a deployment of nobody, are new; the part month, 3 + 6, is counted anew.

    That is compared with the raw records by their sums, and nothing else is counted.
    """
    world.plan("small", 100)
    world.tenant("a")
    for name, start in (("whole", "2026-01-01"), ("idle", "2026-01-01"), ("part", "2026-04-10")):
        world.deployment("a", name, "small", start=start)
    for name, quantity in (("whole", 10), ("idle", 5), ("part", 3)):
        world.use(name, "x", quantity)
    assert freeze(world) == (True, False)
    for name, kind, quantity in (("whole", "x", 4), ("whole", "x", -1), ("whole", "y", 2), ("part", "x", 6)):
        world.use(name, kind, quantity, ingested_at="now")
    world.use("nobody's", "x", 8, ingested_at="now")
    monkeypatch.delattr(usage_records, "count")
    assert freeze(world) == (True, True)
    frozen = world.query(
        "select deployment_id, resource_kind, subscription_id, quantity, record_count from billing.metered_usage"
    )
    assert {row[:2]: row[2:] for row in frozen} == {
        (uid("whole"), "x"): (uid("whole"), 13, 3),
        (uid("whole"), "y"): (uid("whole"), 2, 1),
        (uid("idle"), "x"): (uid("idle"), 5, 1),
        (uid("part"), "x"): (uid("part"), 9, 2),
        (uid("nobody's"), "x"): (None, 8, 1),
    }
    assert freeze(world) == (False, True)


def test_newer_records_are_found_wherever_they_lie(world: World) -> None:
    """One before the record that is frozen and one behind it, in a table that is sorted by time: 2, and 1 + 2 + 4."""
    one_deployment(world)
    world.use("web", "x", 2, "2026-04-15")
    assert freeze(world)[0]
    world.use("web", "x", 1, "2026-04-02", ingested_at="now")
    world.use("web", "x", 4, "2026-04-28", ingested_at="now")
    world.query("cluster cloud.usage_records using usage_records_recorded_at_idx")
    assert freeze(world) == (True, True)
    assert world.query("select quantity, record_count from billing.metered_usage") == [(7, 3)]


UPSERT = "update cloud.usage_records set quantity = 5, ingested_at = now() where quantity = 3"
REPLACE = "update cloud.usage_records set id = gen_random_uuid(), quantity = 5, ingested_at = now() where quantity = 3"


@pytest.mark.parametrize("change", [UPSERT, REPLACE], ids=["the same", "another"])
def test_a_record_that_comes_in_the_place_of_an_older_one_is_counted_once(world: World, change: str) -> None:
    """1 + 2 + 3 is frozen, and 3 becomes 5: to add it would be four records and 11, so all is counted, 8."""
    one_deployment(world)
    for quantity in (1, 2, 3):
        world.use("web", "x", quantity)
    freeze(world)
    world.query(change)
    assert freeze(world) == (True, False)
    assert world.query("select quantity, record_count from billing.metered_usage") == [(8, 3)]


def test_records_that_vanish_while_newer_ones_come_are_named_by_what_was_frozen(world: World) -> None:
    """Three records were frozen; two of them go and one comes."""
    one_deployment(world)
    for quantity in (1, 2, 3):
        world.use("web", "x", quantity)
    freeze(world)
    world.query("delete from cloud.usage_records where quantity > 1")
    world.use("web", "x", 5, ingested_at="now")
    with pytest.raises(usage.UsageVanished, match="had 3 records and has 2"):
        freeze(world)
    assert world.query("select quantity, record_count from billing.metered_usage") == [(6, 3)]


def test_usage_is_frozen_as_of_one_instant(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While newer usage is added, the subscription is cut on the 10th, for another tenant: the next run sees that."""
    world.plan("small", 100)
    for tenant in "ab":
        world.tenant(tenant)
    world.deployment("a", "web", "small")
    world.deployment("a", "part", "small", start="2026-04-05")
    for name, quantity, day in (("web", 10, "2026-04-02"), ("web", 1, "2026-04-20"), ("part", 1, "2026-04-20")):
        world.use(name, "x", quantity, day)
    freeze(world)
    world.use("web", "x", 100, "2026-04-03", ingested_at="now")
    recount = usage_records.count_thoroughly

    def recounted(*arguments: Any) -> usage_records.Counted:
        counted = recount(*arguments)
        world.query("update cloud.subscriptions set ended_at = '2026-04-10' where id = %s", uid("web"))
        world.subscribe("web of b", "b", "web", "small", "2026-04-10")
        return counted

    payers = "select subscription_id, quantity from billing.metered_usage where deployment_id = %s order by 2"
    with monkeypatch.context() as patched:
        patched.setattr(usage_records, "count_thoroughly", recounted)
        assert freeze(world) == (True, True)
    assert world.query(payers, uid("web")) == [(uid("web"), 111)]
    freeze(world)
    assert world.query(payers, uid("web")) == [(uid("web of b"), 1), (uid("web"), 110)]


def test_a_record_of_no_deployment_is_refused_whenever_it_comes(world: World) -> None:
    """Nobody could be billed for it, and it must not be lost, whether in the first run or in a later one."""
    world.query("alter table cloud.usage_records alter deployment_id drop not null")
    nobodys = "insert into cloud.usage_records values (gen_random_uuid(), null, 'x', 5, '2026-04-03', now())"
    for happens in (lambda: None, lambda: freeze(world)):
        world.query("delete from cloud.usage_records")
        happens()
        world.query(nobodys)
        with pytest.raises(usage.UnassignableUsage, match=r"^usage records of 2026-04 without a .* kind: 1\. "):
            freeze(world)


def test_one_record_id_on_both_sides_of_the_months_edge_is_named_in_both_months(world: World) -> None:
    """Where ids are not unique, 7 would be billed in March, and again in April."""
    one_deployment(world)
    world.query("alter table cloud.usage_records drop constraint usage_records_pkey")
    for instant in ("2026-03-31 23:59+00", "2026-04-01 00:00+00"):
        world.use("web", "x", 7, instant, id=uid("twice"))
    world.use("web", "x", 1)
    found: list[Any] = []
    for month in (BillingMonth.parse("2026-03"), APRIL):
        with database.transaction(database.engine(world.url)) as connection:
            usage_records.count(connection, month)
            found += connection.exec_driver_sql("select record_count, duplicate_records from counted").all()
    assert found == [(1, 1), (2, 1)]


def test_copies_are_looked_for_in_the_months_beside_it_and_not_in_the_whole_history(world: World) -> None:
    """Of April: a copy in March or in May counts from its first instant to its last, none of February or of June."""
    one_deployment(world)
    world.query("alter table cloud.usage_records drop constraint usage_records_pkey")
    copies = {
        "the last of February": "2026-02-28 23:59:59.999999+00",
        "the first of March": "2026-03-01 00:00+00",
        "the last of May": "2026-05-31 23:59:59.999999+00",
        "the first of June": "2026-06-01 00:00+00",
    }
    for kind, instant in copies.items():
        for at in (instant, "2026-04-15"):
            world.use("web", kind, 7, at, id=uid(kind))
    with database.transaction(database.engine(world.url)) as connection:
        usage_records.count(connection, APRIL)
        copied = "select resource_kind from counted where duplicate_records = 1"
        assert set(connection.exec_driver_sql(copied).scalars()) == {"the first of March", "the last of May"}
