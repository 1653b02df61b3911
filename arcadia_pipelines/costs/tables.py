"""The cost side in the database: the provider's bills, rates of exchange, whose an item is, and what it all came to.

Belongs here: SQL over the tables of sql/migrations/0007_costs.sql. Does not: reading a bill or a file of rates and
splitting cents (bill.py, exchange.py, allocation.py).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection, Row

from arcadia_pipelines.billing.money import CENTS, COUNT, TEXT, frame
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import allocation, bill, exchange
from arcadia_pipelines.costs.allocation import Allocated
from arcadia_pipelines.costs.bill import Bill
from arcadia_pipelines.costs.exchange import Rate
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, EVERY_DEPLOYMENT, bounds
from arcadia_pipelines.storage.database import refuse_partial_view, refuse_unless_over

MONTHS = pa.schema(
    [
        ("period_start", TEXT),
        ("revenue_cents", CENTS),
        ("cost_cents", CENTS),  # null without a bill or a rate; so with what follows
        ("unallocated_cents", CENTS),
        ("margin_cents", CENTS),
        ("open_points", TEXT),  # empty: reconciled
    ]
)
"""One row per month, oldest first."""
KINDS = pa.schema([("resource_kind", TEXT), ("revenue_cents", CENTS), ("cost_cents", CENTS), ("margin_cents", CENTS)])
"""One row per resource kind, and of what is unallocated."""
DEPLOYMENTS = pa.schema(
    [
        ("deployment_name", TEXT),
        ("tenant_id", TEXT),
        ("revenue_cents", CENTS),
        ("cost_cents", CENTS),
        ("margin_cents", CENTS),
    ]
)
"""One row per tenant and deployment, the lowest margin first."""
PRODUCTS = pa.schema([("product", TEXT), ("resource_kind", TEXT), ("items", COUNT), ("usd_cents", CENTS)])
"""One row per product on a bill, the largest first; credits and taxes are of no kind."""
UNALLOCATED = pa.schema(
    [("product", TEXT), ("description", TEXT), ("project_name", TEXT), ("usd_cents", CENTS), ("aud_cents", CENTS)]
)
"""One row per item of which a part belongs to nobody, the largest first."""

_LOWEST_MARGINS = 20
_MONTHS_SHOWN = 12
_DOUBTS_TOLD = 3

# An item is claimed by those whose its resource was while it was billed. Where its owners changed it is cut into
# slices, which are split by the shares that counted then. The time that it was nobody's goes to the deployment that its
# project is named as, like an item whose resource we do not know, else to nobody. Weights are whole numbers:
# microseconds, or where slices have different sums of shares, millionths of them.
CLAIMS = f"""
    with billed as (
        select line_no, amount_cents, project_name, resource_uuid, resource_id, started_at,
               greatest(ended_at, started_at + interval '1 microsecond') as ended_at
        from billing.cloud_invoice_items where period_start = %(month)s
    ),
    items as (
        select line_no, amount_cents, project_name, started_at, ended_at,
               (extract(epoch from ended_at - started_at) * 1000000)::numeric(38, 0) as time,
               case when exists (select from billing.deployment_resources r
                                 where r.resource_id = b.resource_uuid and r.started_at < b.ended_at
                                   and coalesce(r.ended_at, 'infinity') > b.started_at)
                    then resource_uuid else resource_id end as resource_id
        from billed b
    ),
    spans as (
        select i.line_no, i.resource_id, r.deployment_id, r.share, greatest(i.started_at, r.started_at) as started_at,
               least(i.ended_at, coalesce(r.ended_at, 'infinity')) as ended_at, count(*) over item as owners
        from items i join billing.deployment_resources r
            on r.resource_id = i.resource_id
           and r.started_at < i.ended_at and coalesce(r.ended_at, 'infinity') > i.started_at
        window item as (partition by i.line_no)
    ),
    cuts as (
        select line_no, at, lead(at) over (partition by line_no order by at) as until
        from (select line_no, started_at as at from spans where owners > 1
              union select line_no, ended_at from spans where owners > 1) c
    ),
    slices as (
        select line_no, resource_id, deployment_id, started_at, ended_at, share from spans where owners = 1
        union all
        select s.line_no, s.resource_id, s.deployment_id, c.at, c.until, max(s.share)
        from cuts c join spans s on s.line_no = c.line_no and s.started_at <= c.at and s.ended_at >= c.until
        group by 1, 2, 3, 4, 5
    ),
    shares as (
        select s.*, (extract(epoch from ended_at - started_at) * 1000000)::numeric(38, 0) as time,
               sum(share) over slice as of_share, count(*) over slice as sharers, row_number() over slice as nth
        from slices s window slice as (partition by line_no, started_at)
    ),
    used as (
        select deployment_id, resource_kind, (greatest(sum(quantity), 0) * 1000000)::numeric(38, 0) as quantity
        from billing.metered_usage where period_start = %(month)s
          and resource_kind in (select resource_kind from billing.cost_split_keys)
        group by 1, 2
    ),
    owners as (
        select line_no, deployment_id, k.resource_kind, sum(time * share) as by_share,
               sum(round(time * share * 1000000 / of_share)) as by_slice, coalesce(max(u.quantity), 0) as by_usage,
               min(of_share) as least_share, max(of_share) as most_share, max(sharers) as sharers,
               sum(time) filter (where nth = 1) as time
        from shares
        left join billing.cost_split_keys k using (resource_id)
        left join used u using (deployment_id, resource_kind)
        group by 1, 2, 3
    ),
    keyed as (
        select line_no, deployment_id,
               case when sum(by_usage) over item > 0 then resource_kind
                    when max(sharers) over item > 1 then 'share' else 'time' end as split_by,
               case when sum(by_usage) over item > 0 then by_usage
                    when min(least_share) over item = max(most_share) over item then by_share
                    else by_slice end as weight,
               sum(time) over item as covered
        from owners window item as (partition by line_no)
    ),
    claims as (
        select i.line_no, i.amount_cents, k.deployment_id, 'resource' as allocated_by, k.split_by,
               k.weight * case when k.covered < i.time then k.covered else 1 end as weight
        from items i join keyed k using (line_no)
        where k.weight > 0
        union all
        select i.line_no, i.amount_cents, d.id, case when d.id is null then 'nobody' else 'project' end, k.split_by,
               coalesce((i.time - k.covered) * k.weight, 1)
        from items i
        left join (select line_no, max(covered) as covered, max(split_by) as split_by, sum(weight) as weight
                   from keyed group by 1) k using (line_no)
        left join (select name, (array_agg(id))[1] as id from cloud.cloud_deployments group by 1 having count(*) = 1) d
            on d.name = i.project_name
        where k.line_no is null or k.covered < i.time
    )
    select c.line_no, c.amount_cents, c.deployment_id, coalesce(p.tenant_id, d.tenant_id) as tenant_id, c.allocated_by,
           case when count(*) over item > 1 then c.split_by end as split_by,
           (case when count(*) over item > 1 then c.weight else 1 end)::numeric(38, 0) as weight
    from claims c
    left join (select distinct on (deployment_id) deployment_id, tenant_id from ({BILLED_SUBSCRIPTIONS}) s
               order by deployment_id, started_at desc nulls last, id) p using (deployment_id)
    left join ({EVERY_DEPLOYMENT}) d on d.id = c.deployment_id
    window item as (partition by c.line_no)
"""
"""Whose each item of the month's bill is, as allocation.CLAIMS. Takes `month`, `start` and `end`."""


class NoBill(Exception):
    """There is no bill of the month to allocate."""


class DoubtfulRate(Exception):
    """A rate of exchange looks wrong, and no reason is given why it is right; the message says which and how."""


class BilledTwice(Exception):
    """The bill is another month's already; the message says which one's."""


@dataclass(frozen=True)
class Stored:
    """What storing a bill did."""

    outcome: Literal["new", "unchanged", "restated"]
    revision: int
    moved: pd.DataFrame
    """As bill.MOVED; empty unless it is restated."""


def store(connection: Connection, received: Bill, run_id: str | None = None) -> Stored:
    """Make the bill the month's. One with the same content is left alone; another one replaces it.

    A new revision leaves the month without allocations: allocate() comes next. Raises BilledTwice.
    """
    refuse_unless_over(connection, received.month)
    _refuse_another_months(connection, received)
    parameters = {
        "month": received.month.start,
        "uuid": received.invoice_uuid,
        "total": received.total_cents,
        "total_from": received.total_from,
        "items": len(received.items),
        "sha256": received.sha256,
        "items_sha256": received.items_sha256,
        "run_id": run_id,
        "source": received.source,
        "media_type": received.media_type,
        "document": received.document,
    }
    known = connection.exec_driver_sql(
        "select revision, total_cents, item_count, content_sha256 from billing.cloud_invoices"
        " where period_start = %(month)s",
        parameters,
    ).first()
    before = items(connection, received.month)
    # As it says it is, and as its items are: what was changed by hand is replaced.
    if (
        known
        and (known.item_count, known.content_sha256) == (parameters["items"], parameters["sha256"])
        and replace(received, items=before, total_cents=known.total_cents).sha256 == parameters["sha256"]
    ):
        # What was the sum of its items may be the bill's own word now.
        connection.exec_driver_sql(
            """
            update billing.cloud_invoices set items_sha256 = coalesce(%(items_sha256)s, items_sha256),
                total_from = case total_from when 'sum' then %(total_from)s else total_from end
            where period_start = %(month)s
              and (total_from = 'sum' and %(total_from)s <> 'sum' or items_sha256 is distinct from %(items_sha256)s)
            """,
            parameters,
        )
        return Stored("unchanged", known.revision, frame(bill.MOVED))
    moved = bill.moved(before, received.items) if known else frame(bill.MOVED)
    for table in ("cost_allocations", "month_costs", "cloud_invoice_items"):
        connection.exec_driver_sql(f"delete from billing.{table} where period_start = %(month)s", parameters)
    revision = connection.exec_driver_sql(
        """
        insert into billing.cloud_invoices
            (period_start, invoice_uuid, total_cents, total_from, item_count, content_sha256, items_sha256, run_id,
             revision)
        select %(month)s, %(uuid)s, %(total)s, %(total_from)s, %(items)s, %(sha256)s, %(items_sha256)s, %(run_id)s,
               coalesce(max(revision), 0) + 1
        from billing.cloud_invoice_documents where period_start = %(month)s
        on conflict (period_start) do update set
            invoice_uuid = excluded.invoice_uuid, total_cents = excluded.total_cents,
            total_from = excluded.total_from, item_count = excluded.item_count,
            content_sha256 = excluded.content_sha256, items_sha256 = excluded.items_sha256,
            run_id = excluded.run_id, received_at = now(), revision = excluded.revision
        returning revision
        """,
        parameters,
    ).scalar_one()
    connection.exec_driver_sql(
        "insert into billing.cloud_invoice_documents"
        " (period_start, revision, source, media_type, document, total_cents)"
        " values (%(month)s, %(revision)s, %(source)s, %(media_type)s, %(document)s, %(total)s)",
        {**parameters, "revision": revision},
    )
    months.append(connection, "billing.cloud_invoice_items", received.month, received.items, bill.ITEMS)
    return Stored("restated" if known else "new", revision, moved)


def _refuse_another_months(connection: Connection, received: Bill) -> None:
    """Raise BilledTwice if the same items, the same file, or an item of another time is on another month's bill."""
    month = received.month
    if received.items_sha256 is None:  # it says itself which month it bills
        return
    found = connection.exec_driver_sql(
        """
        select b.period_start, d.source from billing.cloud_invoices b
        join billing.cloud_invoice_documents d using (period_start, revision)
        where b.period_start <> %(month)s and (b.items_sha256 = %(items_sha256)s or d.document = %(document)s)
        order by 1 limit 1
        """,
        {"month": month.start, "items_sha256": received.items_sha256, "document": received.document},
    ).first()
    if found:
        other = BillingMonth(found.period_start)
        raise BilledTwice(
            f"{other} has the same bill already, from {found.source}: if it is of {month}, import the right one of"
            f" {other} first; if both months were billed alike, give its items their start_time and end_time"
        )
    of, items = bounds(month), received.items
    outside = items[(items["ended_at"] <= of["start"]) | (items["started_at"] >= of["end"])]
    if len(outside) and (twice := _on_another_bill(connection, month, outside)):
        raise BilledTwice(f"its item {twice.line_no}, {twice.description!r}, is on the bill of {twice.other} already")


def _on_another_bill(connection: Connection, month: BillingMonth, items: pd.DataFrame) -> Row[Any] | None:
    """The first of these ITEMS that is on another month's bill just so: its line_no, description, and `other` month."""
    names = [
        "line_no",
        "product",
        "resource_uuid",
        "resource_id",
        "description",
        "amount_cents",
        "started_at",
        "ended_at",
    ]
    columns = items[names].astype(object).where(items[names].notna(), None)
    return connection.exec_driver_sql(
        """
        select n.line_no, description, to_char(i.period_start, 'YYYY-MM') as other
        from unnest(%(line_no)s::int[], %(product)s::text[], %(resource_uuid)s::text[], %(resource_id)s::text[],
                    %(description)s::text[], %(amount_cents)s::bigint[], %(started_at)s::timestamptz[],
                    %(ended_at)s::timestamptz[])
            n (line_no, product, resource_uuid, resource_id, description, amount_cents, started_at, ended_at)
        join billing.cloud_invoice_items i using (product, description, amount_cents, started_at, ended_at)
        where i.period_start <> %(month)s
          and (n.resource_uuid, n.resource_id) is not distinct from (i.resource_uuid, i.resource_id)
        order by 1, i.period_start limit 1
        """,
        {"month": month.start, **{name: columns[name].to_list() for name in names}},
    ).first()


def items(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's bill as it stands, as bill.ITEMS."""
    query = "select * from billing.cloud_invoice_items where period_start = %(month)s order by line_no"
    return bulk.read(connection, query, bill.ITEMS, {"month": month.start})


@dataclass(frozen=True)
class Standing:
    """A month's bill as it stands."""

    total_cents: int
    """USD."""
    item_count: int
    revision: int
    source: str
    """The file's name, or the API's address."""
    received_at: dt.datetime


def has_bill(connection: Connection, month: BillingMonth) -> bool:
    """Whether there is a bill of the month."""
    found = connection.exec_driver_sql(
        "select from billing.cloud_invoices where period_start = %(month)s", {"month": month.start}
    )
    return found.first() is not None


def standing(connection: Connection, month: BillingMonth) -> Standing:
    """The month's bill. Raises NoBill."""
    found = connection.exec_driver_sql(
        "select b.total_cents, item_count, revision, d.source, b.received_at from billing.cloud_invoices b"
        " join billing.cloud_invoice_documents d using (period_start, revision) where period_start = %(month)s",
        {"month": month.start},
    ).first()
    if found is None:
        raise NoBill(
            f"there is no bill of {month}: set ARCADIA_DIGITALOCEAN_TOKEN, or import it (arcadia costs import FILE)"
        )
    return Standing(*found)


def by_product(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's bill by product, as PRODUCTS."""
    query = """
        select product, case when kind = 'usage' then resource_kind else kind end as resource_kind, count(*) as items,
               sum(amount_cents)::bigint as usd_cents
        from billing.cloud_invoice_items left join billing.product_kinds k using (product)
        where period_start = %(month)s group by 1, 2 order by 4 desc, 1, 2
    """
    return bulk.read(connection, query, PRODUCTS, {"month": month.start})


def claims(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Who has a part of which item of the month's bill, as allocation.CLAIMS."""
    return bulk.read(connection, CLAIMS, allocation.CLAIMS, bounds(month))


def allocate(connection: Connection, month: BillingMonth) -> Allocated:
    """Allocate the month's bill anew, at its rate if it has one; write nothing if it stands so. Raises NoBill."""
    refuse_unless_over(connection, month)
    refuse_partial_view(connection)
    standing(connection, month)
    rate = connection.exec_driver_sql(
        "select usd_per_aud, source from billing.fx_rates where period_start = %(month)s", {"month": month.start}
    ).first()
    done = allocation.allocate(claims(connection, month), rate.usd_per_aud if rate else None)
    months.replace_rows(
        connection, "cost_allocations", month, done.rows, allocation.ALLOCATIONS, order_by="line_no, part"
    )
    connection.exec_driver_sql(
        """
        insert into billing.month_costs as m
            (period_start, usd_cents, usd_per_aud, fx_source, aud_cents, rounding_cents)
        values (%(month)s, %(usd)s, %(rate)s, %(source)s, %(aud)s, %(rounding)s)
        on conflict (period_start) do update set
            usd_cents = excluded.usd_cents, usd_per_aud = excluded.usd_per_aud, fx_source = excluded.fx_source,
            aud_cents = excluded.aud_cents, rounding_cents = excluded.rounding_cents, allocated_at = now()
        where (m.usd_cents, m.usd_per_aud, m.fx_source, m.aud_cents, m.rounding_cents)
              is distinct from (excluded.usd_cents, excluded.usd_per_aud, excluded.fx_source, excluded.aud_cents,
                                excluded.rounding_cents)
        """,
        {
            "month": month.start,
            "usd": done.usd_cents,
            "rate": rate and rate.usd_per_aud,
            "source": rate and rate.source,
            "aud": done.aud_cents,
            "rounding": done.rounding_cents,
        },
    )
    return done


def billed_months(connection: Connection) -> list[BillingMonth]:
    """The months that have a bill, oldest first."""
    found = connection.exec_driver_sql("select period_start from billing.cloud_invoices order by 1")
    return [BillingMonth(start) for (start,) in found]


@dataclass(frozen=True)
class Changed:
    """What setting a month's rate changed."""

    before: Decimal | None
    """The rate until now."""
    doubt: str | None
    """What looks wrong with the new one."""
    reason: str | None
    """Why it is right."""


def set_rates(
    connection: Connection, rates: Sequence[Rate], source: str, reason: str | None = None, beside: Sequence[Rate] = ()
) -> dict[BillingMonth, Changed]:
    """Make these the months' rates; those that changed.

    One that looks wrong beside the others, which are those that stand and `beside`, is taken for a `reason` only, now
    or when it was set. Raises DoubtfulRate.
    """
    found = connection.exec_driver_sql("select * from billing.fx_rates order by period_start for update")
    known = {BillingMonth(row.period_start): row for row in found}
    entered = {one.month: one.usd_per_aud for one in (*beside, *rates)}
    stand = {month: row.usd_per_aud for month, row in known.items() if month not in entered}
    changed, refused = {}, []
    for one in rates:
        stood, doubt = known.get(one.month), exchange.doubt(one.month, {**stand, **entered}, stand)
        before = stood.usd_per_aud if stood else None
        why = (reason or (stood.reason if stood and before == one.usd_per_aud else None)) if doubt else None
        if doubt and not why:
            refused.append(f"{one.month}: {doubt}")
            continue
        values = (one.usd_per_aud, one.published_on, one.is_final)
        if not (stood and values == (before, stood.published_on, stood.is_final) and why in (None, stood.reason)):
            _set_rate(connection, one, source, why)
            changed[one.month] = Changed(before, doubt, why)
    if refused:
        more = f"; and {len(refused) - _DOUBTS_TOLD} more" if len(refused) > _DOUBTS_TOLD else ""
        raise DoubtfulRate("; ".join(refused[:_DOUBTS_TOLD]) + more)
    return changed


def _set_rate(connection: Connection, rate: Rate, source: str, reason: str | None) -> None:
    connection.exec_driver_sql(
        """
        insert into billing.fx_rates (period_start, usd_per_aud, published_on, is_final, source, reason)
        values (%(month)s, %(rate)s, %(published_on)s, %(is_final)s, %(source)s, %(reason)s)
        on conflict (period_start) do update set usd_per_aud = excluded.usd_per_aud,
            published_on = excluded.published_on, is_final = excluded.is_final, source = excluded.source,
            reason = excluded.reason, entered_at = now()
        """,
        {
            "month": rate.month.start,
            "rate": rate.usd_per_aud,
            "published_on": rate.published_on,
            "is_final": rate.is_final,
            "source": source,
            "reason": reason,
        },
    )


def by_month(connection: Connection, last: BillingMonth) -> pd.DataFrame:
    """Revenue beside cost of the twelve months to `last`, as MONTHS."""
    query = f"""
        select * from (select * from billing.cost_vs_revenue_by_month where period_start <= %(month)s
                       order by period_start desc limit {_MONTHS_SHOWN}) newest order by period_start
    """
    return bulk.read(connection, query, MONTHS, {"month": last.start})


def by_kind(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Revenue beside cost of the month by kind, as KINDS, the largest first."""
    query = """
        select * from billing.cost_vs_revenue_by_kind where period_start = %(month)s
        order by greatest(revenue_cents, coalesce(cost_cents, 0)) desc, resource_kind
    """
    return bulk.read(connection, query, KINDS, {"month": month.start})


def lowest_margins(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The deployments that leave least in the month, as DEPLOYMENTS."""
    query = f"""
        select * from billing.cost_vs_revenue_by_deployment
        where period_start = %(month)s and deployment_id is not null
        order by margin_cents, revenue_cents desc, deployment_id limit {_LOWEST_MARGINS}
    """
    return bulk.read(connection, query, DEPLOYMENTS, {"month": month.start})


def unallocated(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """What of the month's bill belongs to nobody, as UNALLOCATED."""
    query = """
        select i.product, i.description, i.project_name, a.usd_cents, a.aud_cents
        from billing.cost_allocations a join billing.cloud_invoice_items i using (period_start, line_no)
        where a.period_start = %(month)s and a.deployment_id is null
        order by abs(a.usd_cents) desc, a.line_no
    """
    return bulk.read(connection, query, UNALLOCATED, {"month": month.start})


def unmapped_products(connection: Connection, month: BillingMonth) -> list[str]:
    """The products on the month's bill that product_kinds does not know, in order; but for credits and taxes."""
    found = connection.exec_driver_sql(
        "select distinct product from billing.cloud_invoice_items left join billing.product_kinds k using (product)"
        " where period_start = %(month)s and kind = 'usage' and k.product is null order by 1",
        {"month": month.start},
    )
    return [product for (product,) in found]


def month_by_month(connection: Connection) -> list[dict[str, Any]]:
    """billing.cost_vs_revenue_by_month, oldest first."""
    found = connection.exec_driver_sql("select * from billing.cost_vs_revenue_by_month order by period_start")
    return [dict(row) for row in found.mappings()]


def month_by_deployment(connection: Connection, month: BillingMonth) -> list[dict[str, Any]]:
    """The month's rows of billing.cost_vs_revenue_by_deployment, the lowest margin first."""
    found = connection.exec_driver_sql(
        "select * from billing.cost_vs_revenue_by_deployment where period_start = %(month)s"
        " order by margin_cents, tenant_id, deployment_name, deployment_id",
        {"month": month.start},
    )
    return [dict(row) for row in found.mappings()]
