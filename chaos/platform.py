"""The platform before the storm: tenants, deployments, subscriptions, prices and usage, made from a seed.

Half as many tenants as deployments, one in 25 free of GST; five plans, three resource kinds with prices below a cent,
three addons. Within the months one subscription in ten begins, one in twenty ends, one in thirty changes its plan; one
in forty is pending. Three records a month, deployment and kind; one deployment in fifty also uses what no plan has.
"""

import datetime as dt
import random
import uuid
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg

from chaos.oracle import after

PLANS, ADDONS = range(1, 6), range(1, 4)
KINDS = {"droplet_hours": ("hour", "0.744"), "egress_gb": ("GB", "0.3085"), "storage_gb": ("GB", "1.25")}
RECORDS = 3
COLUMNS = {
    "tenants": "id, name, abn, gst_free_reason",
    "plans": "id, code, name",
    "addons": "id, code, name",
    "plan_prices": "plan_id, effective_from, base_price_cents",
    "addon_prices": "addon_id, effective_from, price_cents",
    "plan_rates": "plan_id, resource_kind, effective_from, included_quantity, unit, unit_price_cents",
    "cloud_deployments": "id, tenant_id, name",
    "subscriptions": "id, tenant_id, deployment_id, plan_id, status, started_at, ended_at",
    "subscription_addons": "id, subscription_id, addon_id, quantity, started_at, ended_at",
    "usage_records": "id, deployment_id, resource_kind, quantity, recorded_at, ingested_at",
}
"""What is filled; all else is at its default until somebody changes it (terms.py)."""
Row = tuple[Any, ...]


def fill(connection: psycopg.Connection[Any], rng: random.Random, months: Sequence[dt.date], deployments: int) -> None:
    """Write it to the cloud tables, which are empty."""
    tenants = [f"tenant-{number:05}" for number in range(1, max(2, deployments // 2) + 1)]
    named = [(t, f"{t} Pty Ltd", None, "charity" if number % 25 == 24 else None) for number, t in enumerate(tenants)]
    _copy(connection, "tenants", named)
    plans = {number: new_id(rng) for number in PLANS}
    addons = {number: new_id(rng) for number in ADDONS}
    _copy(connection, "plans", [(plan, f"plan_{number}", f"Plan {number}") for number, plan in plans.items()])
    _copy(connection, "addons", [(addon, f"addon_{number}", f"Addon {number}") for number, addon in addons.items()])
    long_ago, midway = (months[0] - dt.timedelta(days=200)).replace(day=1), months[len(months) // 2]
    for since, dearer in ((long_ago, 0), (midway, 1)):
        _copy(connection, "plan_prices", [(p, since, 995 * n + 100 * dearer) for n, p in plans.items()])
        _copy(connection, "addon_prices", [(a, since, 250 * n + 5 * dearer) for n, a in addons.items()])
        rates = [
            (plan, kind, since, 200 * n, unit, Decimal(price) + Decimal("0.0001") * dearer)
            for n, plan in plans.items()
            for kind, (unit, price) in KINDS.items()
        ]
        _copy(connection, "plan_rates", rates)
    machines = [(new_id(rng), rng.choice(tenants), f"web-{number:05}") for number in range(deployments)]
    machines[: len(tenants)] = [(m[0], t, m[2]) for m, t in zip(machines, tenants, strict=False)]  # each has one
    _copy(connection, "cloud_deployments", machines)
    subscriptions = [row for m in machines for row in _subscriptions(rng, m, list(plans.values()), months)]
    _copy(connection, "subscriptions", subscriptions)
    booked = [
        (new_id(rng), row[0], addon, rng.randint(1, 3), row[5], row[6] if rng.random() < 0.8 else _within(rng, months))
        for row in subscriptions
        for addon in rng.sample(list(addons.values()), rng.choice((0, 0, 1, 2)))
    ]
    _copy(connection, "subscription_addons", booked)
    _copy(connection, "usage_records", (row for m in machines for row in _records(rng, m[0], months)))


def new_id(rng: random.Random) -> str:
    """An id that follows from the seed."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def instant(rng: random.Random, month: dt.date) -> dt.datetime:
    """A full second of the month."""
    seconds = int((after(month) - month).total_seconds())
    return dt.datetime.combine(month, dt.time(), dt.UTC) + dt.timedelta(seconds=rng.randrange(seconds))


def _within(rng: random.Random, months: Sequence[dt.date]) -> dt.datetime:
    return instant(rng, rng.choice(months))


def _subscriptions(rng: random.Random, machine: Row, plans: list[str], months: Sequence[dt.date]) -> Iterator[Row]:
    deployment, tenant, _ = machine
    begins = _within(rng, months) if rng.random() < 0.1 else dt.datetime.combine(months[0], dt.time(), dt.UTC)
    status = "pending" if rng.random() < 0.025 else "active"
    ends = _within(rng, months) if rng.random() < 0.05 else None
    changes = _within(rng, months) if rng.random() < 0.03 else None
    if changes and changes > begins and not ends:
        yield new_id(rng), tenant, deployment, rng.choice(plans), "cancelled", begins, changes
        begins = changes
    yield new_id(rng), tenant, deployment, rng.choice(plans), status, begins, ends


def _records(rng: random.Random, deployment: str, months: Sequence[dt.date]) -> Iterator[Row]:
    kinds = [*KINDS, "bandwidth"] if rng.random() < 0.02 else list(KINDS)
    for month in months:
        for kind in kinds:
            for _ in range(RECORDS):
                at = instant(rng, month)
                yield new_id(rng), deployment, kind, quantity(rng), at, at + dt.timedelta(hours=1)


def quantity(rng: random.Random) -> Decimal:
    """Up to 500 with six decimals: three of them are within some allowances and beyond others."""
    return Decimal(rng.randrange(500_000_000)).scaleb(-6)


def _copy(connection: psycopg.Connection[Any], table: str, rows: Iterable[Row]) -> None:
    with connection.cursor().copy(f"copy cloud.{table} ({COLUMNS[table]}) from stdin".encode()) as copy:
        for row in rows:
            copy.write_row(row)
