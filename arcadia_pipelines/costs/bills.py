"""The provider's bills in the database: storing one, and reading a month's.

Belongs here: SQL over cloud_invoices, its items and documents. Does not: reading a file or the API (bill_csv.py,
bill_api.py), what a bill is (bill.py).
"""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection, Row

from arcadia_pipelines.billing.money import CENTS, COUNT, TEXT, frame
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import bill
from arcadia_pipelines.costs.bill import Bill
from arcadia_pipelines.errors import ArcadiaError, NotFound
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.database import refuse_unless_over

PRODUCTS = pa.schema([("product", TEXT), ("resource_kind", TEXT), ("items", COUNT), ("usd_cents", CENTS)])
"""One row per product on a bill, the largest first; credits and taxes have no kind."""


class NoBill(NotFound):
    """There is no bill of the month to allocate."""


class BilledTwice(ArcadiaError):
    """The bill is stored for another month already; the message says for which."""


@dataclass(frozen=True)
class Stored:
    """What storing a bill did."""

    outcome: Literal["new", "unchanged", "restated"]
    revision: int
    moved: pd.DataFrame
    """As bill.MOVED; empty unless it is restated."""


# A total that was the sum of the items may now be stated by the bill.
_LEAVE = """
    update billing.cloud_invoices set items_sha256 = coalesce(%(items_sha256)s, items_sha256),
        total_from = case total_from when 'sum' then %(total_from)s else total_from end
    where period_start = %(month)s
      and (total_from = 'sum' and %(total_from)s <> 'sum' or items_sha256 is distinct from %(items_sha256)s)
"""
_REPLACE = """
    insert into billing.cloud_invoices
        (period_start, invoice_uuid, total_cents, total_from, item_count, content_sha256, items_sha256, run_id,
         revision)
    select %(month)s, %(uuid)s, %(total)s, %(total_from)s, %(items)s, %(sha256)s, %(items_sha256)s, %(run_id)s,
           coalesce(max(revision), 0) + 1
    from billing.cloud_invoice_documents where period_start = %(month)s
    on conflict (period_start) do update set
        invoice_uuid = excluded.invoice_uuid, total_cents = excluded.total_cents, total_from = excluded.total_from,
        item_count = excluded.item_count, content_sha256 = excluded.content_sha256,
        items_sha256 = excluded.items_sha256, run_id = excluded.run_id, received_at = now(),
        revision = excluded.revision
    returning revision
"""
_KEEP_DOCUMENT = """
    insert into billing.cloud_invoice_documents (period_start, revision, source, media_type, document, total_cents)
    values (%(month)s, %(revision)s, %(source)s, %(media_type)s, %(document)s, %(total)s)
"""
_KNOWN = """
    select revision, total_cents, item_count, content_sha256 from billing.cloud_invoices
    where period_start = %(month)s
"""


def store(connection: Connection, received: Bill, run_id: str | None = None) -> Stored:
    """Store the bill as the month's. One with the same content is left alone; a different one replaces it.

    A new revision leaves the month without allocations: month.allocate() comes next. Raises BilledTwice.
    """
    refuse_unless_over(connection, received.month)
    _refuse_another_months(connection, received)
    parameters = _parameters(received, run_id)
    known = connection.exec_driver_sql(_KNOWN, parameters).first()
    before = items(connection, received.month)
    if known and _is_the_same(known, before, received):
        connection.exec_driver_sql(_LEAVE, parameters)
        return Stored("unchanged", known.revision, frame(bill.MOVED))
    moved = bill.moved(before, received.items) if known else frame(bill.MOVED)
    for table in ("cost_allocations", "month_costs", "cloud_invoice_items"):
        connection.exec_driver_sql(f"delete from billing.{table} where period_start = %(month)s", parameters)
    revision = connection.exec_driver_sql(_REPLACE, parameters).scalar_one()
    connection.exec_driver_sql(_KEEP_DOCUMENT, {**parameters, "revision": revision})
    months.append(connection, "billing.cloud_invoice_items", received.month, received.items, bill.ITEMS)
    return Stored("restated" if known else "new", revision, moved)


def _parameters(received: Bill, run_id: str | None) -> dict[str, object]:
    return {
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


def _is_the_same(known: Row[Any], before: pd.DataFrame, received: Bill) -> bool:
    """Whether the stored bill is the one received, and so are its items, which somebody may have changed by hand."""
    return (known.item_count, known.content_sha256) == (len(received.items), received.sha256) and replace(
        received, items=before, total_cents=known.total_cents
    ).sha256 == received.sha256


def _refuse_another_months(connection: Connection, received: Bill) -> None:
    """Raise BilledTwice if the same items, the same file, or an item of another time is on another month's bill."""
    month = received.month
    if received.items_sha256 is None:  # the bill itself says which month it is for
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
    """The first of these ITEMS that is also on another month's bill: its line_no, description, and `other` month."""
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


def billed_months(connection: Connection) -> list[BillingMonth]:
    """The months that have a bill, oldest first."""
    found = connection.exec_driver_sql("select period_start from billing.cloud_invoices order by 1")
    return [BillingMonth(start) for (start,) in found]


def unmapped_products(connection: Connection, month: BillingMonth) -> list[str]:
    """The products on the month's bill that product_kinds does not know, in order; without credits and taxes."""
    found = connection.exec_driver_sql(
        "select distinct product from billing.cloud_invoice_items left join billing.product_kinds k using (product)"
        " where period_start = %(month)s and kind = 'usage' and k.product is null order by 1",
        {"month": month.start},
    )
    return [product for (product,) in found]
