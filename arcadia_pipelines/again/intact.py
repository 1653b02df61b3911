"""Whether invoices are as they were written: each row agrees with its lines and its newest event.

Belongs here: finding those that are not, quickly if nothing was written since the last publication, and refusing to
compute anything from a locked one. Does not: what they must have been (proof/rebuild.py), and proving them right
(proof/audit.py).
"""

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import months
from arcadia_pipelines.storage.ledger import LINES_SHA256
from arcadia_pipelines.storage.months import LostRows

_TABLES = ("tenant_invoices", "tenant_invoice_lines", "invoice_events")
_ROWS = "select invoiced_rows from billing.billing_months where period_start = %(month)s"
_REMEMBER = """
    update billing.billing_months set invoiced_rows = %(rows)s
    where period_start = %(month)s and invoiced_rows is distinct from %(rows)s
"""
_SELECT = """
    select i.id, i.tenant_id, coalesce(i.invoice_number, 'the draft of ' || i.tenant_id) as invoice, i.period_start,
           billing.is_locked(i) as is_locked, l.sha256 is distinct from i.lines_sha256 as lines_differ, i.lines_sha256,
           {0} as event_differs
    from billing.tenant_invoices i
"""
_EVENT_DIFFERS = """
    (e.invoice_number, e.revision, e.total_cents, e.content_sha256)
        is distinct from (i.invoice_number, i.revision, i.total_cents, i.content_sha256)
"""
_DISAGREEING = f"""
    {_SELECT.format(_EVENT_DIFFERS)}
    left join (
        select invoice_id, {LINES_SHA256} as sha256 from billing.tenant_invoice_lines l
        where period_start = %(month)s group by 1
    ) l on l.invoice_id = i.id
    left join (
        select distinct on (invoice_id) invoice_id, invoice_number, revision, total_cents, content_sha256
        from billing.invoice_events where period_start = %(month)s order by invoice_id, id desc
    ) e on e.invoice_id = i.id
    where i.period_start = %(month)s and i.lines_sha256 is not null
      and (l.sha256 is distinct from i.lines_sha256 or {_EVENT_DIFFERS})
    order by i.tenant_id collate "C"
"""
_OF_TENANTS = f"""
    {_SELECT.format("false")}
    left join lateral (
        select {LINES_SHA256} as sha256 from billing.tenant_invoice_lines l
        where l.invoice_id = i.id and l.period_start = i.period_start
    ) l on true
    where i.tenant_id = any(%(tenants)s::text[]) and i.lines_sha256 is not null
      and l.sha256 is distinct from i.lines_sha256
    order by i.period_start, i.tenant_id collate "C"
"""
_NAMED = 3


class Disagreeing(NamedTuple):
    """An invoice whose row, lines and newest event do not agree."""

    id: UUID
    tenant_id: str
    invoice: str
    """Its number, or for a draft without one: the draft of TENANT."""
    period_start: dt.date
    is_locked: bool
    lines_differ: bool
    """Whether its lines do not match the lines_sha256 of its row."""
    lines_sha256: str
    event_differs: bool
    """Whether number, revision, total or content_sha256 of its row differ from its newest event."""


def disagreeing(connection: Connection, month: BillingMonth) -> list[Disagreeing]:
    """The month's invoices that do not agree, by tenant. Another system's, which have no hash, are left out."""
    return [Disagreeing(*row) for row in connection.exec_driver_sql(_DISAGREEING, {"month": month.start})]


def to_make_again(connection: Connection, month: BillingMonth) -> list[Disagreeing]:
    """The month's invoices that do not agree, and have to be made again. Raises LostRows if one of them is locked.

    If all rows are as the last publication left them, no invoice is examined.
    """
    rows = months.rows_as_they_are(connection, month, *_TABLES)
    if connection.exec_driver_sql(_ROWS, {"month": month.start}).scalar() == rows:
        return []
    found = disagreeing(connection, month)
    _refuse([invoice for invoice in found if invoice.is_locked])
    if not found:
        connection.exec_driver_sql(_REMEMBER, {"month": month.start, "rows": rows})
    return found


def refuse_lost_corrections(connection: Connection, tenants: Sequence[str]) -> None:
    """Raise LostRows if an invoice of these tenants, of any month, lost lines: they may be what another one carries."""
    _refuse([Disagreeing(*row) for row in connection.exec_driver_sql(_OF_TENANTS, {"tenants": list(tenants)})])


def remember(connection: Connection, month: BillingMonth) -> None:
    """Remember the month's rows, now that invoices are published."""
    rows = months.rows_as_they_are(connection, month, *_TABLES)
    connection.exec_driver_sql(_REMEMBER, {"month": month.start, "rows": rows})


def _refuse(found: Sequence[Disagreeing]) -> None:
    if found:
        month = BillingMonth(found[0].period_start)
        named = ", ".join(invoice.invoice for invoice in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise LostRows(
            f"the lines, the row or the newest event of {named}{more} are not those that were written, and nothing is"
            f" computed from them: `arcadia audit {month}` says what differs, and `arcadia rebuild {month}` puts lost"
            " lines back where that can be proved"
        )
