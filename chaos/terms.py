"""What the storm's sales agree with tenants: discounts, commitments, prices of their own, tiers, part months.

Belongs here: acts that write such rows, in valid states only, for a tenant with a fault is held back and not invoiced.
Does not: when they are done (writers.py), what they cost (oracle.py). Each is one transaction.

Only KINDS[0] is pooled, for pools know no tiers; a tenant and each of its deployments have one commitment at most.
"""

import datetime as dt
import random
from typing import Any

import psycopg

from chaos import platform
from chaos.oracle import after

POOLED, *TIERED = platform.KINDS
Connection = psycopg.Connection[Any]
_ANY = "select {1} from cloud.{0} order by md5({1}::text || %(pick)s) limit 1"


def _one(connection: Connection, rng: random.Random, query: str, **parameters: object) -> Any:
    """The first column of its first row; None: it has none."""
    found = connection.execute(query.encode(), {"pick": str(rng.random()), **parameters}).fetchone()
    return None if found is None else next(iter(found.values()))


def _any(connection: Connection, rng: random.Random, table: str, column: str = "id") -> Any:
    return _one(connection, rng, _ANY.format(table, column))


def _deployment(connection: Connection, rng: random.Random, tenant: str) -> Any:
    """One that the tenant has, or none: then it is for all."""
    query = _ANY.format("cloud_deployments where tenant_id = %(tenant)s", "id")
    return _one(connection, rng, query, tenant=tenant) if rng.random() < 0.5 else None


def discount(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """Another discount, with filters or without, from a month on."""
    tenant, is_percent = _any(connection, rng, "tenants"), rng.random() < 0.6
    row = {
        "id": platform.new_id(rng),
        "tenant": tenant,
        "deployment": _deployment(connection, rng, tenant),
        "kind": rng.choice([None, None, "plan_base", "addon", "overage"]),
        "resource_kind": rng.choice([None, None, None, *platform.KINDS]),
        "percent": rng.choice(["0", "5", "12.5", "33.3333", "99.9999", "100"]) if is_percent else None,
        "amount": None if is_percent else rng.choice([0, 1, 99, 500, 2500, 1_000_000]),
        "starts": month,
        "ends": rng.choice([None, after(month), after(after(month))]),
    }
    connection.execute(
        "insert into cloud.discounts values (%(id)s, %(tenant)s, %(deployment)s, %(kind)s, %(resource_kind)s,"
        " %(percent)s, %(amount)s, %(starts)s, %(ends)s, 'storm')",
        row,
    )
    return True


def discount_changed(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """One is another percentage, ends, or was a mistake."""
    change = rng.choice(
        [
            "update cloud.discounts set percent = %(percent)s, amount_cents = null",
            "update cloud.discounts set ends_on = %(ends)s",
            "delete from cloud.discounts",
        ]
    )
    id_ = _one(connection, rng, _ANY.format("discounts where starts_on <= %(month)s", "id"), month=month)
    row = {"id": id_, "percent": rng.randint(0, 100), "ends": after(month)}
    return connection.execute(f"{change} where id = %(id)s".encode(), row).rowcount > 0


def commitment(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """The least that a tenant, or one deployment of it, pays a month: a first one, or another minimum."""
    tenant = _any(connection, rng, "tenants")
    row = {
        "id": platform.new_id(rng),
        "tenant": tenant,
        "deployment": _deployment(connection, rng, tenant),
        "minimum": rng.choice([0, 1, 1001, 5000, 20_000, 100_000]),
        "starts": month,
        "ends": rng.choice([None, None, after(after(month))]),
    }
    changed = connection.execute(
        "update cloud.commitments set minimum_cents = %(minimum)s, starts_on = %(starts)s, ends_on = %(ends)s"
        " where tenant_id = %(tenant)s and deployment_id is not distinct from %(deployment)s::uuid",
        row,
    )
    if not changed.rowcount:
        connection.execute(
            "insert into cloud.commitments values"
            " (%(id)s, %(tenant)s, %(deployment)s, %(minimum)s, %(starts)s, %(ends)s)",
            row,
        )
    return True


def commitment_ended(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """One is given up."""
    id_ = _any(connection, rng, "commitments")
    return connection.execute("delete from cloud.commitments where id = %s", [id_]).rowcount > 0


def own_price(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """A tenant's own price of a plan or an addon since a month, or the list's again."""
    of, price = rng.choice([("plan", "base_price_cents"), ("addon", "price_cents")])
    row = {
        "tenant": _any(connection, rng, "tenants"),
        "of": _any(connection, rng, f"{of}s"),
        "since": month,
        "cents": rng.choice([None, 0, rng.randint(1, 3000)]),
    }
    connection.execute(
        f"insert into cloud.tenant_{of}_prices values (%(tenant)s, %(of)s, %(since)s, %(cents)s)"
        f" on conflict (tenant_id, {of}_id, effective_from) do update set {price} = excluded.{price}".encode(),
        row,
    )
    return True


def own_rate(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """A tenant's own rate of a plan and kind since a month, of any model, or the list's again."""
    key = {
        "tenant_id": _any(connection, rng, "tenants"),
        "plan_id": _any(connection, rng, "plans"),
        "resource_kind": rng.choice(list(platform.KINDS)),
        "effective_from": month,
    }
    gives_back = rng.random() < 0.2
    _write_rate(connection, rng, "tenant", key, "per_unit" if gives_back else None)
    if gives_back:
        connection.execute(f"update cloud.tenant_rates set unit_price_cents = null where {_same(key)}".encode(), key)
    return True


def listed_rate(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """Another rate of the list, of any model, since a month."""
    key = {
        "plan_id": _any(connection, rng, "plans"),
        "resource_kind": rng.choice(list(platform.KINDS)),
        "effective_from": month,
    }
    _write_rate(connection, rng, "plan", key)
    return True


def _write_rate(
    connection: Connection, rng: random.Random, whose: str, key: dict[str, Any], model: str | None = None
) -> None:
    """The rate of this key, in the place of one that there is, with its tiers."""
    models = ["per_unit"] if key["resource_kind"] == POOLED else ["per_unit", "package", "graduated", "volume"]
    model = model or rng.choice(models)
    unit, price = platform.KINDS[key["resource_kind"]]
    row = {
        **key,
        "included_quantity": rng.choice([0, 1, 200, 1000]),
        "unit": unit,
        "unit_price_cents": rng.choice([price, "0", "1", "33.33333333"]),
        "charge_model": model,
        "package_size": rng.choice(["0.5", "10", "33.5"]) if model == "package" else None,
        "maximum_cents": rng.choice([None, None, None, 0, 51, 500]),
        "pooled": key["resource_kind"] == POOLED and rng.random() < 0.7,
    }
    connection.execute(f"delete from cloud.{whose}_rate_tiers where {_same(key)}".encode(), key)
    connection.execute(f"delete from cloud.{whose}_rates where {_same(key)}".encode(), key)
    _insert(connection, f"{whose}_rates", row)
    if model in ("graduated", "volume"):
        for up_to in (*sorted(rng.sample([1, 10, 99.5, 100, 500], rng.randint(0, 3))), None):
            tier = {"up_to": up_to, "unit_price_cents": rng.choice(["0", "0.5", price, "2"])}
            _insert(connection, f"{whose}_rate_tiers", {**key, **tier, "flat_cents": rng.choice([0, 0, 1, 50])})


def _same(key: dict[str, Any]) -> str:
    return " and ".join(f"{name} = %({name})s" for name in key)


def _insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    values = ", ".join(f"%({name})s" for name in row)
    connection.execute(f"insert into cloud.{table} ({', '.join(row)}) values ({values})".encode(), row)


def proration(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """A plan is billed by the day from now on, or not any more."""
    query = "update cloud.plans set proration = %s where id = %s"
    connection.execute(query, [rng.choice(["none", "daily", "daily"]), _any(connection, rng, "plans")])
    return True


def switch(connection: Connection, rng: random.Random, month: dt.date) -> bool:
    """A deployment has another plan from an instant within a month on, with the addons that it had."""
    at = platform.instant(rng, month)
    query = """
        select id from cloud.subscriptions where ended_at is null and started_at < %(at)s and status = 'active'
        order by md5(id::text || %(pick)s) limit 1
    """
    old = _one(connection, rng, query, at=at)
    row = {"old": old, "new": platform.new_id(rng), "plan": _any(connection, rng, "plans"), "at": at}
    if old is None:
        return False
    connection.execute("update cloud.subscriptions set ended_at = %(at)s where id = %(old)s", row)
    same = """
        insert into cloud.subscriptions
        select %(new)s::uuid, tenant_id, deployment_id, %(plan)s::uuid, 'active', %(at)s, null
        from cloud.subscriptions where id = %(old)s
    """
    with_addons = """
        insert into cloud.subscription_addons
        select md5(id::text || %(new)s::text)::uuid, %(new)s::uuid, addon_id, quantity, %(at)s, ended_at
        from cloud.subscription_addons where subscription_id = %(old)s and ended_at is null
    """
    connection.execute(same, row)
    connection.execute(with_addons, row)
    return True


CHANGES = (
    discount,
    discount_changed,
    commitment,
    commitment_ended,
    own_price,
    own_rate,
    listed_rate,
    proration,
    switch,
)
"""All of them."""
