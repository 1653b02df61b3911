"""Which tenants a month has to be computed for again: those whose input, or stored output, has changed since.

Belongs here: hashing per tenant what a quote and an invoice are made from, and leaving out tenants whose hash is the
same. Does not: computing. A tenant without a stored hash is computed (sql/migrations/0008_again.sql,
0009_invoiced_tenants.sql).

The transaction must be database.month_at_an_instant(): then the hashed input is the input of the computation, even if
somebody changes it meanwhile.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import quote
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import billed, catalogue, ledger, months, quotes, terms


def _engine(package: Path) -> int:
    """A number that changes with the source of the code that computes; a random one if there is no source."""
    texts = [
        source.read_bytes() for source in sorted([*package.glob("billing/*.py"), *package.glob("month/compute.py")])
    ]
    digest = hashlib.sha256(b"".join([*(texts or [secrets.token_bytes()]), pa.__version__.encode()])).digest()
    return int.from_bytes(digest[:7], "big")


ENGINE = _engine(Path(quote.__file__).parents[1])
"""Part of every hash: if the engine changes, all tenants are computed. Read at import, as the engine's code is."""

_MOST = 20_000
"""If there are so many, all tenants are computed: that takes less time than to select them."""

# The planner has no statistics of a new month, and might scan all of such a table for each tenant.
_BY_TENANT = "create unique index on {0} (tenant_id)"
# The rows of each query are hashed with a seed of its own. Unassigned usage has the tenant ''.
_QUOTABLE = f"""
    create temporary table quotable on commit drop as
    with price_list as materialized (
        select tenant_id, hash_record_extended(r, 0) as hash from ({catalogue.RATES}) r
        union all
        select tenant_id, hash_record_extended(t, 6) from ({catalogue.TIERS}) t
    )
    select tenant_id, sum(hash) + %(engine)s
                      + (select coalesce(sum(hash), 0) from price_list where tenant_id is null) as made_from
    from (
        select tenant_id, hash from price_list where tenant_id is not null
        union all
        select coalesce(tenant_id, ''), hash_record_extended(s, 1)
        from ({catalogue.SUBSCRIPTIONS.text}) s
        union all
        select coalesce(tenant_id, ''), hash_record_extended(a, 2) from ({catalogue.ADDONS.text}) a
        union all
        select tenant_id, hash_record_extended(c, 5) from ({billed.CONTESTED.text}) c
        union all
        {terms.ALL}
        union all
        select '', 0
    ) hashed
    group by tenant_id
"""
_TO_QUOTE = """
    select tenant_id from quotable q
    full join (select * from billing.quoted_tenants where period_start = %(month)s) before using (tenant_id)
    where q.made_from is distinct from before.made_from or before.made_from is null
    limit %(most)s
"""
_FORGET = """
    delete from billing.quoted_tenants k
    where k.period_start = %(month)s and not exists (select from quotable q where q.tenant_id = k.tenant_id)
"""
_REMEMBER = """
    insert into billing.quoted_tenants (period_start, tenant_id, made_from)
    select %(month)s, tenant_id, made_from from quotable
    where %(tenants)s::text[] is null or tenant_id = any(%(tenants)s::text[])
    on conflict (period_start, tenant_id) do update set made_from = excluded.made_from
    where quoted_tenants.made_from is distinct from excluded.made_from
"""
_REMEMBER_ROWS = """
    update billing.billing_months set frozen_rows = %(frozen)s, quoted_rows = %(quoted)s
    where period_start = %(month)s and (frozen_rows, quoted_rows) is distinct from (%(frozen)s, %(quoted)s)
"""
# The tenants whose frozen usage changed are quoted again, and so is unassigned usage.
_FORGET_QUOTED = "update billing.quoted_tenants set made_from = null where period_start = %(month)s"
_OF_DIFFERING = """
      and tenant_id in (
          select '' union select s.tenant_id from {0} d join cloud.subscriptions s on s.id = d.subscription_id
      )
"""
_REMEMBER_FROZEN = """
    update billing.billing_months set frozen_rows = %(rows)s
    where period_start = %(month)s and frozen_rows is distinct from %(rows)s
"""
_IS_KNOWN = "select exists (select from billing.quoted_tenants where period_start = %(month)s and tenant_id = '')"
_ROWS = "select {0}_rows from billing.billing_months where period_start = %(month)s"

_MADE_FROM = "b.made_from + hashtextextended(i.content_sha256, 0)"
"""The hash of what an invoice `i` is made from; `b` is its tenant's row of `billable`."""
_BILLABLE = f"""
    create temporary table billable on commit drop as
    select tenant_id, sum(hash) + %(engine)s as made_from
    from (
        select tenant_id, hash_record_extended(l, 3) as hash from ({quotes.LINES.text}) l
        union all
        select tenant_id, hash_record_extended(t, 4) from ({catalogue.TENANTS.text}) t
        union all
        {terms.ALL}
    ) hashed
    group by tenant_id
"""
_CARRYING = "delete from billable where tenant_id = any(%(carrying)s::text[])"
_WITH_FAULTS = """
    delete from billable
    where tenant_id in (select tenant_id from billing.quote_faults where period_start = %(month)s)
"""
_SETTLED = f"""
    create temporary table settled on commit drop as
    select i.tenant_id
    from billable b
    join billing.tenant_invoices i on i.tenant_id = b.tenant_id and i.period_start = %(month)s
    join billing.invoiced_tenants before on before.tenant_id = b.tenant_id and before.period_start = %(month)s
    where i.status in ('issued', 'paid') and before.made_from = {_MADE_FROM}
      and i.tenant_id <> all(%(distrusted)s::text[])
"""
_TO_INVOICE = """
    select tenant_id from (
        select tenant_id from billing.deployment_quote_lines where period_start = %(month)s
        union
        select tenant_id from billing.tenant_invoices where period_start = %(month)s
        union
        select unnest(%(carrying)s::text[])
    ) billed
    where not exists (select from settled s where s.tenant_id = billed.tenant_id)
    limit %(most)s
"""
_LEFT = "delete from billable where tenant_id = any(%(left)s::text[])"
_FORGET_INVOICED = """
    delete from billing.invoiced_tenants k
    where k.period_start = %(month)s and not exists (select from billable b where b.tenant_id = k.tenant_id)
"""
_REMEMBER_INVOICED = f"""
    insert into billing.invoiced_tenants (period_start, tenant_id, made_from)
    select %(month)s, b.tenant_id, {_MADE_FROM}
    from billable b
    join billing.tenant_invoices i on i.tenant_id = b.tenant_id and i.period_start = %(month)s
    where i.status in ('issued', 'paid') and (%(tenants)s::text[] is null or b.tenant_id = any(%(tenants)s::text[]))
    on conflict (period_start, tenant_id) do update set made_from = excluded.made_from
    where invoiced_tenants.made_from is distinct from excluded.made_from
"""

_OF = {"frozen": ["metered_usage"], "quoted": ["deployment_quote_lines", "unbilled_usage", "quote_faults"]}
"""The tables whose rows frozen_rows and quoted_rows of billing_months are about."""


@dataclass(frozen=True)
class Scope:
    """The tenants to compute (None: all), and how many invoices are unchanged, and therefore skipped."""

    tenants: list[str] | None
    settled: int = 0

    @property
    def is_nobody(self) -> bool:
        """Whether nothing has to be computed."""
        return self.tenants == []


def for_quotes(connection: Connection, month: BillingMonth) -> Scope:
    """The tenants that have to be quoted, and '' if unassigned usage has changed.

    The hash of what each is quoted from is kept for remember_quoted() in the same transaction.
    """
    parameters = {**catalogue.bounds(month), "engine": ENGINE}
    for statement in (_QUOTABLE, _BY_TENANT.format("quotable")):
        connection.exec_driver_sql(statement, parameters)
    known = connection.exec_driver_sql(_IS_KNOWN, parameters).scalar_one()
    if not known or not quotes.is_quoted(connection, month) or not _stands(connection, month, "frozen", "quoted"):
        return Scope(None)
    connection.exec_driver_sql("analyze quotable")
    return Scope(_unless_most(connection, _TO_QUOTE, parameters))


def forget_quoted(connection: Connection, month: BillingMonth, differing: str | None = None) -> None:
    """Have tenants quoted again: those of the table `differing`, of subscription_id; without it, all."""
    of_whom = _OF_DIFFERING.format(differing) if differing else ""
    connection.exec_driver_sql(_FORGET_QUOTED + of_whom, {"month": month.start})


def forget_what_was_changed_by_hand(connection: Connection, month: BillingMonth) -> None:
    """Have all tenants quoted again if the frozen usage is not as the pipeline left it."""
    if not is_frozen_as_left(connection, month):
        forget_quoted(connection, month)


def is_frozen_as_left(connection: Connection, month: BillingMonth) -> bool:
    """Whether the frozen usage is as the pipeline left it."""
    return _stands(connection, month, "frozen")


def remember_frozen(connection: Connection, month: BillingMonth) -> None:
    """Remember the rows of the frozen usage, now that it is written."""
    rows = months.rows_as_they_are(connection, month, *_OF["frozen"])
    connection.exec_driver_sql(_REMEMBER_FROZEN, {"month": month.start, "rows": rows})


def remember_quoted(connection: Connection, month: BillingMonth, scope: Scope) -> None:
    """Remember what these tenants were quoted from, now that their lines are written."""
    rows = {column: months.rows_as_they_are(connection, month, *tables) for column, tables in _OF.items()}
    parameters = {"month": month.start, "tenants": scope.tenants, **rows}
    for statement in (_FORGET, _REMEMBER, _REMEMBER_ROWS):
        connection.exec_driver_sql(statement, parameters)


def for_invoices(
    connection: Connection, month: BillingMonth, carrying: Sequence[str], distrusted: Sequence[str] = ()
) -> Scope:
    """The tenants whose invoices have to be computed: all but those whose invoice would be made again unchanged.

    Tenants in `distrusted` are computed in any case. The hash of what an invoice is made from is kept for
    remember_invoiced() in the same transaction, except of tenants with a fault, and of those `carrying` a correction, a
    manual line or promotional credit.
    """
    parameters = {"month": month.start, "engine": ENGINE, "carrying": list(carrying), "distrusted": list(distrusted)}
    for statement in (_BILLABLE, _BY_TENANT.format("billable"), _CARRYING, _WITH_FAULTS):
        connection.exec_driver_sql(statement, parameters)
    connection.exec_driver_sql("analyze billable")
    if not ledger.is_invoiced(connection, month):
        return Scope(None)
    settled = connection.exec_driver_sql(_SETTLED, parameters).rowcount
    connection.exec_driver_sql("analyze settled")
    tenants = _unless_most(connection, _TO_INVOICE, parameters)
    return Scope(tenants, 0 if tenants is None else settled)


def remember_invoiced(connection: Connection, month: BillingMonth, scope: Scope, left: Sequence[str]) -> None:
    """Remember what these tenants' invoices are made from, except void ones and those `left` as they were."""
    parameters = {"month": month.start, "tenants": scope.tenants, "left": left}
    for statement in (_LEFT, _FORGET_INVOICED, _REMEMBER_INVOICED):
        connection.exec_driver_sql(statement, parameters)


def _stands(connection: Connection, month: BillingMonth, *columns: str) -> bool:
    """Whether these rows of the month are as the pipeline left them."""
    return all(
        connection.exec_driver_sql(_ROWS.format(column), {"month": month.start}).scalar()
        == months.rows_as_they_are(connection, month, *_OF[column])
        for column in columns
    )


def _unless_most(connection: Connection, query: str, parameters: Mapping[str, object]) -> list[str] | None:
    tenants: Sequence[str] = connection.exec_driver_sql(query, {**parameters, "most": _MOST}).scalars().all()
    return list(tenants) if len(tenants) < _MOST else None
