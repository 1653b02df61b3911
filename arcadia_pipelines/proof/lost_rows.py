"""Putting lost invoice lines of a published month back, if they match the hash on their invoice.

Belongs here: which lines are lost, what history keeps of them, writing them. Does not: computing them again, or proving
them (rebuild.py).
"""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.again import intact
from arcadia_pipelines.billing.invoice import INVOICE_LINES
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import months
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.ledger import LINES_SHA256

_TABLE = "tenant_invoice_lines"


class Lost(NamedTuple):
    """An invoice whose lines do not match the lines_sha256 of its row."""

    id: UUID
    tenant_id: str
    invoice: str
    is_locked: bool
    event_differs: bool
    """Whether its row is not what its newest event says: then its hashes prove nothing."""
    lines_sha256: str
    content_sha256: str
    usage_cutoff: dt.datetime


_MADE = "select id, content_sha256, usage_cutoff from billing.tenant_invoices where id = any(%(ids)s)"
_PROVEN = f"create temporary table proven (like billing.{_TABLE} including defaults) on commit drop"
_FROM_HISTORY = f"""
    with kept as (
        select distinct on (e.invoice_id) e.invoice_id, e.snapshot
        from billing.invoice_events e
        join billing.tenant_invoices i on i.id = e.invoice_id
        where e.invoice_id = any(%(ids)s) and e.snapshot -> 'invoice' ->> 'content_sha256' = i.content_sha256
          and i.lines_sha256 = (
              select {LINES_SHA256}
              from jsonb_populate_recordset(null::billing.{_TABLE}, e.snapshot -> 'lines') l)
        order by e.invoice_id, e.id desc
    )
    insert into pg_temp.proven
    select l.* from kept cross join jsonb_populate_recordset(null::billing.{_TABLE}, kept.snapshot -> 'lines') l
"""
# A locked invoice keeps the lines that it has.
_ALTERED = f"""
    select distinct l.invoice_id
    from billing.{_TABLE} l
    left join pg_temp.proven p
        on p.invoice_id = l.invoice_id and billing.line_text(row(p.*)::billing.{_TABLE}) = billing.line_text(l)
    where l.period_start = %(month)s and l.invoice_id = any(%(locked)s) and p.id is null
"""
_DROP_OTHERS = f"delete from billing.{_TABLE} where period_start = %(month)s and invoice_id = any(%(unlocked)s)"
# As when they were written; but a deployment that was deleted since cannot be referred to any more.
_PUT_BACK = f"""
    insert into billing.{_TABLE}
        (id, invoice_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, price_per,
         amount_cents, meta, inserted_at, period_start, line_no, deployment_name)
    select p.id, p.invoice_id,
           (select min(d.id::text)::uuid from cloud.cloud_deployments d where d.id = p.deployment_id),
           p.kind, p.resource_kind, p.description, p.qty, p.unit, p.unit_price_cents, coalesce(p.price_per, 1),
           p.amount_cents, p.meta,
           coalesce((select min(e.occurred_at) from billing.invoice_events e
                     where e.invoice_id = p.invoice_id and e.revision = i.revision), p.inserted_at),
           p.period_start, p.line_no, p.deployment_name
    from pg_temp.proven p
    join billing.tenant_invoices i on i.id = p.invoice_id
    where p.invoice_id = any(%(ids)s)
      and not exists (select from billing.{_TABLE} l
                      where l.invoice_id = p.invoice_id and l.period_start = %(month)s and l.line_no = p.line_no)
    order by i.tenant_id collate "C", p.line_no
"""
_RECORD = """
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id)
    select id, invoice_number, tenant_id, period_start, 'rebuilt', revision, total_cents, content_sha256, %(operator)s,
           %(reason)s, %(run)s
    from billing.tenant_invoices where id = any(%(ids)s) order by tenant_id collate "C"
"""


def lost_lines(connection: Connection, month: BillingMonth) -> list[Lost]:
    """The month's invoices whose lines do not match the lines_sha256 of their row, or are gone, by tenant."""
    found = [invoice for invoice in intact.disagreeing(connection, month) if invoice.lines_differ]
    rows = connection.exec_driver_sql(_MADE, {"ids": [invoice.id for invoice in found]})
    made = {row[0]: tuple(row[1:]) for row in rows}
    return [
        Lost(i.id, i.tenant_id, i.invoice, i.is_locked, i.event_differs, i.lines_sha256, *made[i.id]) for i in found
    ]


def take_from_history(connection: Connection, invoices: Collection[Lost]) -> set[UUID]:
    """The invoices that had exactly these lines in a replaced revision. The lines are kept for put_back()."""
    connection.exec_driver_sql(_PROVEN)
    connection.exec_driver_sql(_FROM_HISTORY, {"ids": [invoice.id for invoice in invoices]})
    return set(connection.exec_driver_sql("select distinct invoice_id from pg_temp.proven").scalars())


def take(connection: Connection, month: BillingMonth, lines: pd.DataFrame) -> None:
    """Keep these lines (invoice.INVOICE_LINES), which are proved, for put_back()."""
    months.append(connection, "pg_temp.proven", month, lines, INVOICE_LINES)


def put_back(connection: Connection, month: BillingMonth, invoices: Sequence[Lost], author: Author) -> set[UUID]:
    """Write the lines that were kept for these invoices, with an event for each.

    Returns those that are locked and have a line that is not their own: they stay as they are.
    """
    if not months.has_partition(connection, _TABLE, month):
        with months.new_partition(connection, _TABLE, month):
            pass  # the lines go through the parent, whose triggers know which a locked invoice may take
    locked = [invoice.id for invoice in invoices if invoice.is_locked]
    parameters: dict[str, object] = {"month": month.start, "locked": locked}
    altered = set(connection.exec_driver_sql(_ALTERED, parameters).scalars())
    unlocked = [invoice.id for invoice in invoices if not invoice.is_locked]
    ids = [invoice.id for invoice in invoices if invoice.id not in altered]
    parameters |= {"unlocked": unlocked, "ids": ids}
    parameters |= {"operator": author.operator, "reason": author.reason, "run": author.run_id}
    for statement in (_DROP_OTHERS, _PUT_BACK, _RECORD):
        connection.exec_driver_sql(statement, parameters)
    return altered
