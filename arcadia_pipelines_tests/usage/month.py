"""A month with what is hard to count, written to the tables and to a usage source alike."""

import random
from decimal import Decimal

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month import steps
from arcadia_pipelines.storage import counts, database
from arcadia_pipelines.usage import sources
from arcadia_pipelines.usage.contract import SPANS
from arcadia_pipelines_tests.world import World

APRIL = BillingMonth.parse("2026-04")
_EDGES = (
    "2026-03-31 23:59:59.999999+00",
    "2026-04-01 00:00+00",
    "2026-04-10 00:00:00.000001+00",
    "2026-04-10 00:00+00",
    "2026-04-20 12:00+00",
    "2026-04-30 23:59:59.999999+00",
    "2026-05-01 00:00+00",
)
_INSTANTS = ("2026-01-01", "2026-04-01 00:00+00", "2026-04-10 00:00:00.000001+00", "2026-04-20 12:00+00", "2026-06-01")
_KINDS = ("droplet_hours", "größe 'x'; --", "Droplet_Hours")


def hard_april(world: World, deployments: int = 40) -> None:
    """Odd fractions, corrections, part months, overlaps, edges to the microsecond, nobody's usage, odd kinds.

    Records are ingested when they are recorded; of the deployments some have no subscription, some up to three.
    """
    chance = random.Random(19)
    world.plan("small", 100, dict.fromkeys(_KINDS[:2], ("3.000001", "0.744")))
    for tenant in "abc":
        world.tenant(tenant)
    for number in range(deployments):
        name = f"d{number}"
        world.deployment(chance.choice("abc"), name)
        for place in range(chance.randrange(4)):
            start, end = sorted(chance.sample(_INSTANTS, 2))
            status = chance.choice(["active", "suspended", "pending", "cancelled"])
            world.subscribe(
                f"{name}/{place}", chance.choice("abc"), name, "small", start, chance.choice([end, None]), status
            )
        for _ in range(chance.randrange(12)):
            quantity = Decimal(chance.choice([1, -2_500_001, 999_999, 123_456_789_012, 3])) / 1_000_000
            world.use(name, chance.choice(_KINDS), quantity, chance.choice(_EDGES))


def rows(world: World) -> list[tuple[object, ...]]:
    """April's frozen usage, in order."""
    return world.query(
        "select deployment_id, resource_kind, subscription_id, quantity, record_count, unusable_records,"
        " duplicate_records from billing.metered_usage where period_start = '2026-04-01' order by 1, 2, 3"
    )


def invoices(world: World) -> list[tuple[object, ...]]:
    """The content of April's invoices, in order."""
    return world.query("select tenant_id, total_cents, content_sha256 from billing.tenant_invoices order by 1")


def records_without_spans() -> int:
    """How many records of April the source counts if every deployment has all of the month, as in most months."""
    source = sources.configured()
    assert source
    return source.check(APRIL, SPANS.empty_table()).records


def freeze(world: World) -> tuple[bool, sources.Pin | None]:
    """Freeze April from the source that the environment names: whether any row differs, and what was counted."""
    with database.month_at_an_instant(world.engine(), APRIL) as connection:
        frozen = steps.freeze(connection, APRIL, "run", sources.configured())
        return frozen.changed, counts.pin(connection, APRIL)
