"""An invoice's revisions, found by what people know of it.

Belongs here: reading them, for people who ask. Does not: the invoice as it stands (storage/ledger.py), what is behind
its lines (facts.py), what changed between two (compare.py). Nothing is written.
"""

import uuid
from collections.abc import Collection
from typing import Any

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof.compare import LINES
from arcadia_pipelines.storage import bulk, ledger

_REPLACED = """
    select (snapshot -> 'invoice' ->> 'revision')::integer as revision, revision as by_revision,
           occurred_at as replaced_at, operator, reason, run_id
    from billing.invoice_events where invoice_id = %(invoice)s and snapshot is not null order by 1
"""
_PAST = """
    select i.* from billing.invoice_events e
    cross join jsonb_populate_record(null::billing.tenant_invoices, e.snapshot -> 'invoice') i
    where e.invoice_id = %(invoice)s and i.revision = %(revision)s
"""
_LINES = """
    select l.* from billing.tenant_invoice_lines l join billing.tenant_invoices i on i.id = l.invoice_id
    where i.id = %(invoice)s and i.revision = %(revision)s and l.period_start = %(month)s
    union all
    select l.* from billing.invoice_events e
    cross join jsonb_populate_recordset(null::billing.tenant_invoice_lines, e.snapshot -> 'lines') l
    where e.invoice_id = %(invoice)s and (e.snapshot -> 'invoice' ->> 'revision')::integer = %(revision)s
"""
# What was replaced before lines had a price_per does not say it.
_COMPARED = f"""
    select line_no, deployment_id, deployment_name, kind, resource_kind, description, qty, unit, unit_price_cents,
           coalesce(price_per, 1) as price_per, amount_cents, meta, (meta ->> 'used')::numeric as used,
           (meta ->> 'included')::numeric as included,
           meta ->> 'effective_from' as effective_from, meta ->> 'days' as days, (meta ->> 'pooled')::numeric as pooled
    from ({_LINES}) l
"""


class NoRevision(ledger.NotInvoiced):
    """The invoice has no such revision; the message names those that it has."""


class UnknownReference(ledger.NotInvoiced):
    """No invoice and no line has this number or id."""


def replaced(connection: Connection, invoice: object) -> dict[int, dict[str, Any]]:
    """The invoice's replaced revisions in order: by_revision, replaced_at, operator, reason and run_id of each."""
    rows = connection.exec_driver_sql(_REPLACED, {"invoice": invoice}).mappings()
    return {row["revision"]: {name: row[name] for name in row if name != "revision"} for row in rows}


def invoice_of(connection: Connection, tenant: str, month: BillingMonth, revision: int) -> dict[str, Any]:
    """The revision of the tenant's invoice of the month, as ledger.invoice_of gives the standing one.

    `replaced` says by what it was replaced, as replaced() does; None for the standing one.
    Raises ledger.NotInvoiced and NoRevision.
    """
    standing = ledger.invoice_of(connection, tenant, month)
    past = replaced(connection, standing["id"])
    if revision == standing["revision"]:
        return {**standing, "replaced": None}
    if revision not in past:
        raise NoRevision(f"the invoice of {tenant!r} in {month} has no revision {revision}: {_known(past, standing)}")
    parameters = {"invoice": standing["id"], "revision": revision, "month": month.start}
    row = connection.exec_driver_sql(_PAST, parameters).mappings().one()
    lines = connection.exec_driver_sql(f"{_LINES} order by line_no", parameters).mappings()
    return {
        **{name: row[name] for name in standing if name != "lines"},
        "lines": [dict(line) for line in lines],
        "replaced": past[revision],
    }


def _known(past: Collection[int], standing: dict[str, Any]) -> str:
    *others, last = [*map(str, past), f"{standing['revision']}, the current one"]
    return f"there are {', '.join(others)} and {last}" if others else f"there is only {last}"


def lines_of(connection: Connection, invoice: dict[str, Any]) -> pd.DataFrame:
    """The lines of the revision (as from invoice_of), to be compared: compare.LINES."""
    parameters = {"invoice": invoice["id"], "revision": invoice["revision"], "month": invoice["period_start"]}
    return bulk.read(connection, _COMPARED, LINES, parameters)


_FIND = """
    select * from (
        select tenant_id, period_start, null::integer as line_no, invoice_number from billing.tenant_invoices
        where invoice_number in (%(reference)s, upper(%(reference)s)) or id = %(id)s
        union all
        select i.tenant_id, i.period_start, l.line_no, null
        from billing.tenant_invoice_lines l join billing.tenant_invoices i on i.id = l.invoice_id where l.id = %(id)s
    ) found
    order by invoice_number = %(reference)s desc nulls last
"""


def find(connection: Connection, reference: str) -> tuple[str, BillingMonth, int | None]:
    """The tenant and month of an invoice, given its number or id, or of a line, given its id, with its line_no.

    Raises UnknownReference.
    """
    try:
        by_id = uuid.UUID(reference)
    except ValueError:
        by_id = None
    found = connection.exec_driver_sql(_FIND, {"reference": reference, "id": by_id}).first()
    if found is None:
        raise UnknownReference(
            f"no invoice and no line {reference!r}: give a number like INV-202604-00010, or the id of an invoice or of"
            " a line of its newest revision"
        )
    return found.tenant_id, BillingMonth(found.period_start), found.line_no
