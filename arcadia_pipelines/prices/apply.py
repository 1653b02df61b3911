"""Making a price book be the one in effect: the refusals, the SQL, and the record.

Belongs here: writing the platform's tables of prices where they are ours, and the same as SQL where they are not. Does
not: what differs between two books (changes.py).
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.prices import changes, stored
from arcadia_pipelines.prices.book import Part, Plan, PriceBook
from arcadia_pipelines.prices.changes import Change, PricesRefused
from arcadia_pipelines.prices.text import spelled
from arcadia_pipelines.storage.database import driver

Statement = tuple[str, dict[str, object]]
"""SQL and its parameters."""

_OURS = """
    select coalesce(obj_description(to_regnamespace('cloud'), 'pg_namespace')
                        = 'The platform''s operational tables; billing reads them and never writes.', false)
       and (select count(*) from pg_class where relnamespace = to_regnamespace('cloud') and relkind = 'r'
                                            and relname = any(%(tables)s)) = cardinality(%(tables)s)
"""
_TABLES = [
    "plans", "plan_prices", "plan_rates", "plan_rate_tiers", "addons", "addon_prices", "tenant_plan_prices",
    "tenant_addon_prices", "tenant_rates", "tenant_rate_tiers", "discounts", "commitments",
]  # fmt: skip
_CLOSED = """
    select current_user, name from unnest(%(tables)s::text[]) name
    where not (has_schema_privilege('cloud', 'usage') and has_table_privilege('cloud.' || name, 'insert')
               and has_table_privilege('cloud.' || name, 'update')) order by 2 limit 1
"""
_INVOICED = """
    select tenant_id, max(period_start) from billing.tenant_invoices
    where status in ('issued', 'paid') and period_start >= %(since)s group by 1 order by 2 desc, 1
"""
_BILLED_PLANS = """
    select p.code from cloud.plans p
    where p.code = any(%(codes)s)
      and exists (select from cloud.subscriptions s
                  join billing.tenant_invoices i on i.tenant_id = s.tenant_id and i.status in ('issued', 'paid')
                  where s.plan_id = p.id)
"""
_LATER = """
    select format('plan %%s', code) as what, min(effective_from)::text as since
    from cloud.plan_prices join cloud.plans on id = plan_id where effective_from > %(month)s group by 1
    union all
    select format('addon %%s', code), min(effective_from)::text
    from cloud.addon_prices join cloud.addons on id = addon_id where effective_from > %(month)s group by 1
    union all
    select concat_ws(' of ', format('plan %%s for %%s', code, resource_kind), tenant_id), min(effective_from)::text
    from billing.rates() join cloud.plans on id = plan_id where effective_from > %(month)s group by 1
    union all
    select format('%%s of %%s', coalesce('plan ' || p.code, 'addon ' || a.code), tenant_id), min(effective_from)::text
    from billing.tenant_prices() t
    left join cloud.plans p on p.id = t.plan_id left join cloud.addons a on a.id = t.addon_id
    where effective_from > %(month)s group by 1
    order by 1
"""
_OWNERS = """
    select id::text, tenant_id from billing.discounts() union all select id::text, tenant_id from billing.commitments()
"""
_RECORD = """
    insert into billing.price_books (effective_from, sha256, book, changes, operator, reason)
    values (%(month)s, %(sha256)s, %(book)s, %(changes)s::jsonb, %(operator)s, %(reason)s) returning id
"""


def is_ours(connection: Connection) -> bool:
    """Whether the tables of prices are those that our migrations made, and not a platform's own."""
    return bool(connection.exec_driver_sql(_OURS, {"tables": _TABLES}).scalar_one())


def differences(connection: Connection, wanted: PriceBook, since: BillingMonth) -> list[Change]:
    """What has to be written for the book to be in effect from this month on.

    Raises PricesRefused for unknown tenants and deployments, what cannot be taken away, and months that are invoiced.
    """
    for path, what in stored.strangers(connection, wanted):
        raise PricesRefused(f"{spelled(path)} {what}")
    found = changes.find(stored.in_effect(connection, since), wanted, since)
    _refuse_moved(connection, found)
    _refuse_invoiced(connection, found)
    _refuse_proration(connection, found)
    return found


def _refuse_moved(connection: Connection, found: Sequence[Change]) -> None:
    """No discount and no commitment becomes another tenant's: what it was before would be lost."""
    owners: dict[str, str] = dict(tuple(row) for row in connection.exec_driver_sql(_OWNERS))
    for change in found:
        if change.table in ("discounts", "commitments") and owners.get(change.key[1], change.key[0]) != change.key[0]:
            raise PricesRefused(f"the {change.what} is of tenant {owners[change.key[1]]}: leave its id out of the book")


def _refuse_invoiced(connection: Connection, found: Sequence[Change]) -> None:
    """No price of a month changes for somebody who has an invoice of it."""
    earliest = min((change.since for change in found), default=dt.date.max)
    invoiced = connection.exec_driver_sql(_INVOICED, {"since": earliest}).all()
    for change in found:
        for tenant, newest in [] if change.is_new else invoiced:
            if change.tenant in (None, tenant) and newest >= change.since:
                raise PricesRefused(
                    f"the {change.what} would change from {change.since:%Y-%m} on, and {newest:%Y-%m} is invoiced to"
                    f" {tenant} already: apply it from a later month, or void those invoices first"
                )


def _refuse_proration(connection: Connection, found: Sequence[Change]) -> None:
    changed = [change.key[0] for change in found if _proration(change.before) not in (None, _proration(change.after))]
    for code in connection.exec_driver_sql(_BILLED_PLANS, {"codes": changed}).scalars():
        raise PricesRefused(
            f"the proration of plan {code} has no month from which it counts, and its tenants have invoices that would"
            " change: make a plan with another code"
        )


def _proration(plan: Part | None) -> str | None:
    return plan.proration if isinstance(plan, Plan) else None


def later(connection: Connection, since: BillingMonth) -> list[tuple[str, str]]:
    """What has another price from a later month on, which stands whatever is applied now; and that month."""
    return [(what, day[:7]) for what, day in connection.exec_driver_sql(_LATER, {"month": since.start})]


def apply(
    connection: Connection,
    found: Sequence[Change],
    wanted: PriceBook,
    file: bytes,
    since: BillingMonth,
    operator: str,
    reason: str,
) -> int:
    """Make the changes, and record them with the file; returns the record's id.

    No month may run meanwhile: the transaction must be database.exclusive_transaction(). Raises PricesRefused where the
    login may not write the tables, and where the book is not what is in effect afterwards.
    """
    tables = sorted({change.table for change in found})
    for login, table in connection.exec_driver_sql(_CLOSED, {"tables": tables}):
        raise PricesRefused(
            f"login {login} may not write cloud.{table}, and nothing was changed: apply the book with a login that may,"
            " or print the SQL for one with --sql"
        )
    for statement, parameters in statements(found, since):
        connection.exec_driver_sql(statement, parameters)
    for change in changes.find(stored.in_effect(connection, since), wanted, since):
        raise PricesRefused(f"the {change.what} would not be as the book says: something in the database changes it")
    record = {
        "month": since.start,
        "sha256": hashlib.sha256(file).hexdigest(),
        "book": file.decode("utf-8-sig"),
        "changes": json.dumps([change.document() for change in found]),
        "operator": operator,
        "reason": reason,
    }
    return int(connection.exec_driver_sql(_RECORD, record).scalar_one())


def as_sql(connection: Connection, found: Sequence[Change], since: BillingMonth) -> str:
    """The changes as one transaction in SQL, for whoever may write the platform's tables."""
    cursor = psycopg.ClientCursor(driver(connection))
    spelled = [cursor.mogrify(sql, parameters) for sql, parameters in statements(found, since)]
    return "\n".join(["begin;", *(f"{one};" for one in spelled), "commit;"]) + "\n"


# Each change as statements.


def statements(found: Sequence[Change], since: BillingMonth) -> list[Statement]:
    """The statements that make the changes, in order."""
    return [statement for change in found for statement in _statements(change, since.start)]


def _statements(change: Change, since: dt.date) -> Iterator[Statement]:
    if change.table in ("plans", "addons"):
        yield _listed(change)
    elif change.table in ("discounts", "commitments"):
        yield _term(change, since)
    elif change.table in _RATES:
        yield from _rate(change, since)
    else:
        yield _price(change, since)


_IDS = {name: f"(select id from cloud.{name[:-3]}s where code = %({name})s)" for name in ("plan_id", "addon_id")}
_PRICES = {
    "plan_prices": (("plan_id",), "base_price_cents"),
    "addon_prices": (("addon_id",), "price_cents"),
    "tenant_plan_prices": (("tenant_id", "plan_id"), "base_price_cents"),
    "tenant_addon_prices": (("tenant_id", "addon_id"), "price_cents"),
}
"""By table: what a row is about, and the column of its price."""
_RATES = {
    "plan_rates": (("plan_id", "resource_kind"), "plan_rate_tiers"),
    "tenant_rates": (("tenant_id", "plan_id", "resource_kind"), "tenant_rate_tiers"),
}
"""By table: what a row is about, and the table of its tiers."""


def _cents(aud: Any) -> Any:
    """Dollars as cents, exactly; whole ones as an integer."""
    if aud is None:
        return None
    cents = aud * 100
    return int(cents) if cents == int(cents) else cents


def _listed(change: Change) -> Statement:
    """A plan or an addon by itself."""
    listed: Any = change.after
    columns = {"code": change.key[0], "name": listed.name}
    if isinstance(listed, Plan):
        columns["proration"] = listed.proration
    if change.before is None:
        return _insert(change.table, {"id": None, **columns})
    changed = ", ".join(f"{name} = %({name})s" for name in columns if name != "code")
    return f"update cloud.{change.table} set {changed} where code = %(code)s", columns


def _price(change: Change, since: dt.date) -> Statement:
    about, column = _PRICES[change.table]
    after: Any = change.after
    keys = {**dict(zip(about, change.key, strict=True)), "effective_from": since}
    return _upsert(change.table, keys, {column: _cents(after and after.price_aud)})


def _rate(change: Change, since: dt.date) -> Iterator[Statement]:
    """A rate with its tiers; a tenant's that is taken away is one without a price, which gives the list's back."""
    about, tiers = _RATES[change.table]
    keys = {**dict(zip(about, change.key, strict=True)), "effective_from": since}
    rate: Any = change.after or change.before
    columns: dict[str, object] = {"included_quantity": rate.included, "unit": rate.unit}
    is_tiered = bool(change.after and rate.tiers)
    columns["unit_price_cents"] = (0 if is_tiered else _cents(rate.unit_price_aud)) if change.after else None
    columns["charge_model"] = rate.model if change.after else "per_unit"
    columns["package_size"] = rate.package_size if change.after else None
    columns["maximum_cents"] = _cents(rate.maximum_aud) if change.after else None
    columns["pooled"] = rate.pooled if change.after else False
    yield f"delete from cloud.{tiers} where {_where(keys)}", keys
    yield _upsert(change.table, keys, columns)
    for tier in rate.tiers if change.after else ():
        price, flat = _cents(tier.unit_price_aud), _cents(tier.flat_aud)
        yield _insert(tiers, {**keys, "up_to": tier.up_to, "unit_price_cents": price, "flat_cents": flat})


def _term(change: Change, since: dt.date) -> Statement:
    """A discount or a commitment; one that is taken away ends, or is gone if it has not begun."""
    keys: dict[str, object] = {"id": change.key[1]}
    before: Any = change.before
    if change.after is None and before.starts_on >= since:
        return f"delete from cloud.{change.table} where {_where(keys)}", keys
    if change.after is None:
        return f"update cloud.{change.table} set ends_on = %(ends_on)s where {_where(keys)}", {**keys, "ends_on": since}
    columns: dict[str, object] = {"tenant_id": change.key[0]}
    for name, value in change.after.model_dump(exclude={"id"}).items():
        is_money = name.endswith("_aud")
        columns[_COLUMN.get(name, name)] = _cents(value) if is_money else value
    return _upsert(change.table, keys, columns)


_COLUMN = {"deployment": "deployment_id", "amount_aud": "amount_cents", "minimum_aud": "minimum_cents"}


def _insert(table: str, columns: dict[str, object]) -> Statement:
    """A new row; an id that is not known is made."""
    expressions = {name: _IDS.get(name, f"%({name})s") for name in columns}
    if "id" in columns and columns["id"] is None:
        expressions["id"] = "gen_random_uuid()"
    return f"insert into cloud.{table} ({', '.join(columns)}) values ({', '.join(expressions.values())})", columns


def _upsert(table: str, keys: Mapping[str, object], columns: Mapping[str, object]) -> Statement:
    """The row of these keys with these columns, whether it is there or not."""
    sql, parameters = _insert(table, {**keys, **columns})
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns)
    return f"{sql} on conflict ({', '.join(keys)}) do update set {changed}", parameters


def _where(keys: Mapping[str, object]) -> str:
    return " and ".join(f"{name} = {_IDS.get(name, f'%({name})s')}" for name in keys)
