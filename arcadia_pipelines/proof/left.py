"""Whether the documents that have left the house would be made the same again.

Belongs here: the audit. Does not: making them (documents/delivery.py).
"""

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import delivery
from arcadia_pipelines.proof.control import MOST_SHOWN, Finding

NAME = "documents_are_as_they_left"
DESCRIPTION = "Each document that went to a tenant is the same, byte for byte, when it is made again."
REMEDY = (
    "The tenant has another document than is served now. If made_by is an older version, that one made it; if it is "
    "this one, the invoice was changed outside the pipeline: see invoice_events."
)


def find(connection: Connection, month: BillingMonth) -> tuple[int, Finding]:
    """How many documents of the month have left, and those that are others now, in the order of their numbers."""
    looked_at, offenders = 0, []
    for row, is_changed in delivery.changed(connection, month):
        looked_at += 1
        if is_changed:
            made_by = delivery.MADE_BY[row["format"]]()
            offenders.append({**row, "invoice_id": str(row["invoice_id"]), "made_now_by": made_by})
    return looked_at, Finding(len(offenders), offenders[:MOST_SHOWN])
