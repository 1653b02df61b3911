"""Rebuilding a published month that has lost rows: those that are proved to be the same are put back, and no others.

Belongs here: where lost rows may come from, and the proof of each. Does not: finding that they are lost
(storage/losses.py, again/intact.py), writing them (lost_rows.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.again import scope
from arcadia_pipelines.billing.money import TEXT, to_arrow
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import QUOTE_LINES, UNBILLED, Quotes
from arcadia_pipelines.month import compute, counting
from arcadia_pipelines.month.compute import Invoiced
from arcadia_pipelines.proof import lost_rows as storage
from arcadia_pipelines.proof.lost_rows import Lost
from arcadia_pipelines.storage import catalogue, credits, ledger, losses, quotes, streams, terms, usage, usage_records
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.usage import sources


@dataclass(frozen=True)
class Part:
    """Something that was lost: an invoice's lines, the month's frozen usage, or what an audit finds missing."""

    what: str
    tenant_id: str | None
    source: str = ""
    """What it was put back from; '' if it was not."""
    why_not: str = ""
    """Why it is still lost; '' if it is not."""


def rebuild(connection: Connection, month: BillingMonth, author: Author) -> list[Part]:
    """Put back what is lost of the month and can be proved; the rest is left as it is. Returns both.

    The transaction must be database.month_at_an_instant(), publishing. Raises ledger.NotInvoiced, StorageError.
    """
    if not ledger.is_invoiced(connection, month):
        raise ledger.NotInvoiced(ledger.why_not_invoiced(month))
    lost = storage.lost_lines(connection, month)
    provable = [invoice for invoice in lost if not invoice.event_differs]
    sources = dict.fromkeys(storage.take_from_history(connection, provable), "a replaced revision")
    for source, invoiced in _computed(connection, month, [i for i in provable if i.id not in sources]):
        proven = _take_proven(connection, month, [i for i in provable if i.id not in sources], invoiced)
        sources |= dict.fromkeys(proven, source)
        if len(sources) == len(provable):
            break  # before raw usage is counted, which takes long, and may be away
    parts = [_usage_part(connection, month)] if usage.is_lost(connection, month) else []
    proven_ones = [invoice for invoice in lost if invoice.id in sources]
    altered = storage.put_back(connection, month, proven_ones, author)
    for invoice in lost:
        why_not = ""
        if invoice.id in altered:
            why_not = "it is locked, and has a line that is not its own"
        elif invoice.event_differs:
            why_not = "its row is not what its newest event says"
        elif invoice.id not in sources:
            why_not = "no kept revision and no new computation has its lines_sha256"
        source = "" if why_not else sources[invoice.id]
        parts.append(Part(f"the lines of {invoice.invoice}", invoice.tenant_id, source, why_not))
    return [
        *parts,
        *(Part(missing, None, why_not=f"see {told_by}") for missing, told_by in losses.missing(connection, month)),
    ]


def _computed(connection: Connection, month: BillingMonth, lost: Sequence[Lost]) -> Iterator[tuple[str, Invoiced]]:
    """These tenants' invoices, computed from each source that may be unchanged since, with the source's name."""
    if not lost:
        return
    only = [invoice.tenant_id for invoice in lost]
    tenants = streams.whole(connection, {"month": month.start}, catalogue.TENANTS, only)
    agreed = terms.of(connection, month)
    carried = [credits.carried_by(connection, month), credits.left_to(connection, month)]
    for source, lines in _quoted(connection, month, lost, only):
        for each in carried:
            yield source, compute.invoices(lines, each, tenants, month, agreed)


def _quoted(
    connection: Connection, month: BillingMonth, lost: Sequence[Lost], only: list[str]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """These tenants' quote lines: the stored ones; from the frozen usage; from the records up to each cut-off."""
    yield "the quote lines", streams.whole(connection, {"month": month.start}, quotes.LINES, only)
    frozen = streams.whole(connection, catalogue.bounds(month), usage.FROZEN, only)
    yield "the frozen usage", compute.quotes_of(connection, month, frozen, only).lines
    for cutoff in sorted({invoice.usage_cutoff for invoice in lost}):
        received = counting.count_received(connection, month, sources.configured(), cutoff)
        counted = usage_records.read(connection, received)
        yield "the usage records", compute.quotes_of(connection, month, counted, only).lines


def _take_proven(connection: Connection, month: BillingMonth, lost: Sequence[Lost], invoiced: Invoiced) -> list[UUID]:
    """Keep the lines that match both hashes of a lost invoice; returns the ids of these invoices."""
    invoices, lines = invoiced
    found = {
        (row["tenant_id"], row["content_sha256"], row["lines_sha256"]): row["id"] for row in invoices.to_dict("records")
    }
    # An invoice that another system inserted keeps its id.
    ids = {found[key]: str(i.id) for i in lost if (key := (i.tenant_id, i.content_sha256, i.lines_sha256)) in found}
    proven = lines[lines["invoice_id"].isin(list(ids))]
    storage.take(connection, month, proven.assign(invoice_id=proven["invoice_id"].map(ids).astype(pd.ArrowDtype(TEXT))))
    return [UUID(own) for own in ids.values()]


def _usage_part(connection: Connection, month: BillingMonth) -> Part:
    """Put the frozen usage back from the records up to its cut-off, if they make what was quoted or invoiced of it."""
    cutoff = usage.cutoff_of(connection, month)
    if cutoff is None:
        return Part("the frozen usage", None, why_not="billing_months does not have its cut-off")
    counted = counting.count_received(connection, month, sources.configured(), cutoff)
    quoted = compute.quotes_of(connection, month, usage_records.read(connection, counted))
    if not usage.has_as_many(connection, month, counted):
        return Part("the frozen usage", None, why_not="the usage records up to its cut-off make other rows")
    proof = _makes_the_quotes if quotes.is_quoted(connection, month) else _makes_the_invoices
    if not proof(connection, month, quoted):
        return Part("the frozen usage", None, why_not="the usage records up to its cut-off make other quotes")
    usage.put_back(connection, month, counted)
    scope.remember_frozen(connection, month)
    return Part("the frozen usage", None, "the usage records")


def _makes_the_quotes(connection: Connection, month: BillingMonth, quoted: Quotes) -> bool:
    """Whether these are the month's quote lines and its unbilled usage, except for deployments' names."""
    standing = streams.whole(connection, {"month": month.start}, quotes.LINES)
    unbilled = quotes.unbilled(connection, month)
    return _same(quoted.lines, standing, QUOTE_LINES) and _same(quoted.unbilled, unbilled, UNBILLED)


def _same(one: pd.DataFrame, other: pd.DataFrame, schema: pa.Schema) -> bool:
    names = [field.name for field in schema if field.name != "deployment_name"]
    rows = [to_arrow(frame, schema).select(names) for frame in (one, other)]
    by = [(name, "ascending") for name in names]
    return bool(rows[0].sort_by(by).equals(rows[1].sort_by(by)))


def _makes_the_invoices(connection: Connection, month: BillingMonth, quoted: Quotes) -> bool:
    """Whether the month's issued and paid invoices bill what these quotes do."""
    tenants = streams.whole(connection, {"month": month.start}, catalogue.TENANTS)
    carried, agreed = credits.carried_by(connection, month), terms.of(connection, month)
    invoices, _ = compute.invoices(quoted.lines, carried, tenants, month, agreed)
    standing = streams.whole(connection, {"month": month.start}, ledger.STANDING)
    owed = standing[standing["status"].isin(["issued", "paid"])]
    return bool(len(owed)) and set(owed["content_sha256"]) == set(invoices["content_sha256"])
