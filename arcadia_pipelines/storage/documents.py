"""Invoices with all that their documents show, and which documents have left the house.

Belongs here: reading frozen content, delivery. Does not: what a document looks like (documents/).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy.engine import Connection, RowMapping

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.operations import OperationRefused

# The supplier s of an invoice: its own, or else that of its month. Takes its table's name.
_SUPPLIER_OF: LiteralString = """
    left join billing.suppliers s on s.id = coalesce(
        {0}.supplier_id, (select id from billing.suppliers
                          where effective_from <= {0}.period_start order by effective_from desc, id desc limit 1))
"""
CONTENT: LiteralString = f"""
    select i.id, i.invoice_number, i.tenant_id, i.revision, i.status, i.period_start,
           (i.issued_at at time zone 'UTC')::date as issued_on, i.delivered_at,
           case when i.status = 'void' and i.delivered_at is not null then billing.cancelled_on(i.id) end
               as cancelled_on,
           coalesce(i.due_on, (i.issued_at at time zone 'UTC')::date + s.payment_terms_days) as due_on,
           i.subtotal_cents, i.tax_cents, i.total_cents, i.meta, to_jsonb(s) as supplier,
           (select jsonb_agg(to_jsonb(l) || jsonb_build_object(
                       'qty', l.qty::text, 'unit_price_cents', l.unit_price_cents::text, 'price_per', l.price_per::text,
                       'gst_cents', g.gst_cents, 'is_taxable', g.is_taxable) order by l.line_no)
            from billing.tenant_invoice_lines l
            join billing.invoice_line_gst g
                on g.invoice_id = l.invoice_id and g.period_start = l.period_start and g.line_no = l.line_no
            where l.invoice_id = i.id and l.period_start = i.period_start and g.invoice_id = i.id
              and g.period_start = i.period_start) as lines
    from billing.tenant_invoices i
    {_SUPPLIER_OF.format("i")}
    where i.id = any(%(ids)s)
    order by i.period_start, i.tenant_id collate "C"
"""
"""What documents of these invoices show: one row per invoice, its lines but the tax line in order. Takes `ids`.

Amounts are cents, decimals texts. An invoice that was issued before anybody was entered as its supplier has the one of
its month, until it is delivered: then it keeps that. `cancelled_on` is the day when an invoice that was delivered was
voided: its document is the adjustment note of that day.
"""


def content(connection: Connection, invoices: Sequence[UUID]) -> list[dict[str, Any]]:
    """The rows of CONTENT."""
    rows = connection.exec_driver_sql(CONTENT, {"ids": list(invoices)}).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]


_OF_MONTH = """
    select id from billing.tenant_invoices
    where period_start = %(month)s and invoice_number is not null order by invoice_number collate "C"
"""


def of_month(connection: Connection, month: BillingMonth) -> list[UUID]:
    """The ids of the month's invoices that have a number, which some void ones and some drafts have too, in order."""
    return list(connection.exec_driver_sql(_OF_MONTH, {"month": month.start}).scalars())


_LEFT = """
    select d.invoice_id, d.revision, d.state, d.format, d.sha256, d.made_by, d.left_at
    from billing.documents d join billing.tenant_invoices i on i.id = d.invoice_id
    where i.period_start = %(month)s order by i.invoice_number collate "C", d.revision, d.state, d.format
"""


def left(connection: Connection, month: BillingMonth) -> list[dict[str, Any]]:
    """The documents of the month's invoices that have left the house, as billing.documents has them."""
    return [dict(row) for row in connection.exec_driver_sql(_LEFT, {"month": month.start}).mappings()]


_STANDING = """
    select coalesce(invoice_number, id::text) as invoice, revision, status,
           status = 'void' and delivered_at is not null as is_taken_back
    from billing.tenant_invoices where id = %(id)s for update
"""
_DELIVER = f"""
    with delivered as (
        update billing.tenant_invoices i
        set delivered_at = now(), updated_at = greatest(now(), i.updated_at),
            supplier_id = coalesce(i.supplier_id, s.id),
            due_on = coalesce(i.due_on, (i.issued_at at time zone 'UTC')::date + s.payment_terms_days)
        from billing.tenant_invoices was
        {_SUPPLIER_OF.format("was")}
        where was.id = %(id)s and i.id = was.id and i.delivered_at is null
        returning i.id, i.invoice_number, i.tenant_id, i.period_start, i.revision, i.total_cents, i.content_sha256
    )
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id)
    select id, invoice_number, tenant_id, period_start, 'delivered', revision, total_cents, content_sha256,
           %(operator)s, %(reason)s, %(run)s
    from delivered
"""
_DELIVER_NOTE = """
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id)
    select id, invoice_number, tenant_id, period_start, 'delivered', revision, total_cents, content_sha256,
           %(operator)s, %(reason)s, %(run)s
    from billing.tenant_invoices
    where id = %(id)s and not exists (select from billing.documents where invoice_id = %(id)s and state = 'void')
"""
_KEEP = """
    insert into billing.documents (invoice_id, revision, state, format, sha256, made_by)
    values (%(id)s, %(revision)s, %(state)s, %(format)s, %(sha256)s, %(made_by)s)
    on conflict (invoice_id, revision, state, format) do nothing
"""


@dataclass(frozen=True)
class Shown:
    """Which document of an invoice it is."""

    invoice: UUID
    revision: int
    is_note: bool = False
    """The adjustment note that takes the invoice back, and not the invoice."""


@dataclass(frozen=True)
class Made:
    """A document as it leaves the house."""

    format: str
    """pdf or xml."""
    sha256: str
    """Of its bytes."""
    made_by: str
    """The renderer and its version."""


def deliver(connection: Connection, shown: Shown, made: Sequence[Made], author: Author) -> bool:
    """Note that the document goes to the tenant in these formats; whether it is the first time.

    From then on the invoice is locked. The hashes are kept; of a format that left before, the first. The transaction
    commits before anything is sent. Raises OperationRefused if the document is not the invoice's any more, or the
    invoice is not issued, paid, or void after it was delivered.
    """
    parameters = {"id": shown.invoice, "operator": author.operator, "reason": author.reason, "run": author.run_id}
    _refuse(connection.exec_driver_sql(_STANDING, parameters).mappings().one(), shown)
    statement = _DELIVER_NOTE if shown.is_note else _DELIVER
    is_first = connection.exec_driver_sql(statement, parameters).rowcount == 1
    kept = {**parameters, "revision": shown.revision, "state": "void" if shown.is_note else "issued"}
    for document in made:
        connection.exec_driver_sql(_KEEP, kept | asdict(document))
    return is_first


def _refuse(standing: RowMapping, shown: Shown) -> None:
    """Raise OperationRefused unless the document is what the invoice's tenant may be given now."""
    if standing["revision"] != shown.revision:
        raise OperationRefused(
            f"{standing['invoice']} was made anew meanwhile, and has revision {standing['revision']}: deliver that"
        )
    if standing["is_taken_back"]:
        if not shown.is_note:
            raise OperationRefused(f"{standing['invoice']} was voided meanwhile: deliver its adjustment note")
    elif standing["status"] not in ("issued", "paid"):
        raise OperationRefused(
            f"{standing['invoice']} is {standing['status']}: only issued and paid ones are delivered, and void ones"
            " that were delivered before"
        )
