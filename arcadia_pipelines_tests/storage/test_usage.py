"""Counting usage: quickly where the tables allow it, thoroughly where not, and the same."""

import random

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import database, usage
from arcadia_pipelines_tests.world import World

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
        usage.count(connection, BillingMonth.parse("2026-04"), usage.now(connection))
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
    monkeypatch.setattr(usage, "_IDS_ARE_UNIQUE", "select false")
    assert counted(world) == quickly
    assert len(quickly) > 50
