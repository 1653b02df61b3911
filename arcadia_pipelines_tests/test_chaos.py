"""The oracle of `make chaos` knows what the pilot owes, and all that a storm agrees with tenants.

The storm itself takes minutes, and is none of the tests.
"""

import datetime as dt
import random
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import psycopg
from psycopg.rows import dict_row, namedtuple_row

from arcadia_pipelines_tests.world import World
from chaos import oracle, platform, proofs, terms

APRIL = dt.date(2026, 4, 1)


def at(day: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2026, 4, day, hour, tzinfo=dt.UTC)


STUDIO = oracle.Subscription("s", "pilot", "web", "studio", "active", at(1), None)
PLATFORM = oracle.Platform(
    [STUDIO],
    [oracle.Addon("s", "storage_50gb", 1, at(1), None)],
    {"studio": {dt.date(2025, 7, 1): 5000, dt.date(2026, 4, 2): 9999}},
    {"storage_50gb": {dt.date(2025, 7, 1): 750}},
    {("studio", "droplet_hours"): {dt.date(2025, 7, 1): oracle.Rate(Decimal(1488), "hour", Decimal(1))}},
)
HOURS = [
    oracle.Record("web", "droplet_hours", Decimal(24), at(day, hour)) for day in range(1, 31) for hour in (0, 8, 23)
]


def cents(owed: oracle.Owed) -> dict[str, int]:
    return {line.description: line.cents for line in owed.lines["pilot"]}


def test_the_oracle_of_the_storm_bills_the_pilots_april_to_70_64() -> None:
    """2,160 hours, of which 1,488 are included: 672 at 1 c. A price of the 2nd is May's."""
    april = oracle.owed(PLATFORM, HOURS, APRIL)
    assert cents(april) == {"Plan: studio": 5000, "Addon: storage_50gb": 750, "Overage: droplet_hours": 672}
    assert oracle.gst(6422) == 642
    assert april.unbilled == {}


def test_the_oracle_of_the_storm_rounds_half_a_cent_away_from_zero_and_bills_what_was_active() -> None:
    """It ends on the 15th at noon. An hour before that, at half a cent, is a cent; what is used later is nobody's."""
    ended = STUDIO._replace(ended=at(15, 12))
    addon = PLATFORM.addons[0]._replace(started=at(15, 12))
    half = {("studio", "droplet_hours"): {APRIL: oracle.Rate(Decimal(0), "hour", Decimal("0.5"))}}
    platform = PLATFORM._replace(subscriptions=[ended], addons=[addon], rates=half)
    records = [
        oracle.Record("web", "droplet_hours", Decimal(1), at(15, 11)),
        oracle.Record("web", "droplet_hours", Decimal("2.5"), at(15, 12)),
        oracle.Record("web", "bandwidth", Decimal(7), at(2)),
    ]
    april = oracle.owed(platform, records, APRIL)
    assert cents(april) == {"Plan: studio": 5000, "Overage: droplet_hours": 1}
    nobodys = {
        ("web", "droplet_hours", "no_subscription"): Fraction(5, 2),
        ("web", "bandwidth", "no_rate"): Fraction(7),
    }
    assert april.unbilled == nobodys
    assert [oracle.half_up(Fraction(cents, 2)) for cents in (1, -1, 3, -3)] == [1, -1, 2, -2]
    assert oracle.owed(platform, [], dt.date(2026, 5, 1)).lines == {}
    pending = PLATFORM._replace(subscriptions=[STUDIO._replace(status="pending")])
    assert oracle.owed(pending, [], APRIL).lines == {}


def test_an_invoice_is_wrong_by_a_cent_without_gst_or_where_none_is_to_be() -> None:
    april = Counter(oracle.owed(PLATFORM, HOURS, APRIL).lines["pilot"])
    sums = {"subtotal_cents": 6422, "tax_cents": 642, "total_cents": 7064, "tax_lines": [642], "in_order": True}
    row = SimpleNamespace(status="issued", is_pushed=False, **sums)
    right = proofs.Invoice(row, april)
    assert list(proofs.compare(april, right, is_free=False)) == []
    [line] = [line for line in april if line.kind == "overage"]
    dearer = april - Counter([line]) + Counter([line._replace(cents=673)])
    found = {wrong.partition(" ")[0]: cents for wrong, cents in proofs.compare(dearer, right, is_free=False)}
    assert found == {"lacks": 673, "has": 672}
    assert [cents for _, cents in proofs.compare(april, right, is_free=True)] == [642, 0]
    assert list(proofs.compare(april, None, is_free=False)) == [("is owed and not invoiced", 6422)]
    row.status = "void"
    assert list(proofs.compare(april, right, is_free=False)) == [("is void, and owed", 6422)]


def by_the_oracle(world: World) -> list[str]:
    """What of April is not as the oracle says."""
    found = proofs.Found()
    with psycopg.connect(world.url, row_factory=namedtuple_row) as connection:
        proofs.ask_the_oracle(connection, [APRIL], found)
    return found.wrong


def test_all_that_a_storm_agrees_and_enters_is_billed_as_the_oracle_says(world: World) -> None:
    """Of twelve deployments; and what is agreed or entered once the month is invoiced is found to be on no invoice."""
    rng = random.Random(17)
    with psycopg.connect(world.url, row_factory=dict_row) as connection:
        platform.fill(connection, rng, [APRIL], 12)
        for change in terms.CHANGES * 4 + (terms.commitment,) * 4:
            change(connection, rng, APRIL)
    enter = """
        insert into billing.{} (tenant_id, amount_cents, description, operator, reason{})
        select id, 100, 'x', 'ada', 'y'{} from cloud.tenants
    """
    lines = enter.format("manual_lines", ", period_start", ", date '2026-04-01'")
    world.query(lines)
    world.query(enter.format("credit_grants", "", ""))
    world.publish("2026-04")
    assert world.query("select count(*) from billing.quote_faults") == [(0,)]
    kinds = {kind for (kind,) in world.query("select kind from billing.tenant_invoice_lines")}
    assert kinds == {"plan_base", "addon", "overage", "discount", "commitment", "adjustment", "credit", "tax"}
    assert by_the_oracle(world) == []
    world.query(lines)
    world.query(enter.format("credit_grants", "", ""))
    world.query("update cloud.plan_prices set base_price_cents = base_price_cents + 1")
    found = {wrong.partition(":")[0] for wrong in by_the_oracle(world)}
    assert found == {"a line entered by hand", "credit", "oracle"}
