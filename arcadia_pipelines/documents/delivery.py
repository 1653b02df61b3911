"""Delivery: which documents go to the tenant, and whether they are still what has left the house.

Belongs here: making documents as they leave, and making them again. Does not: what is written down of it
(storage/documents.py), e-mail (mail.py).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import pdf, xml
from arcadia_pipelines.documents.content import Content, NoDocument, content_of
from arcadia_pipelines.storage import documents
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.documents import Made

_RENDERERS = {"pdf": pdf.render, "xml": xml.render}
MADE_BY = {"pdf": pdf.made_by, "xml": xml.made_by}
"""What makes a format now."""
_READ = 50  # invoices at a time


@dataclass(frozen=True)
class Delivered:
    """An invoice that goes to its tenant, or the adjustment note that takes it back, and the PDF that does."""

    content: Content
    document: bytes
    is_first: bool
    """Whether it had not been delivered before."""


def deliver(connection: Connection, invoices: Sequence[UUID], author: Author) -> list[Delivered]:
    """Make the PDFs of these invoices and note that they are delivered; they may be sent once this is committed.

    Of a void one that was delivered, it is the adjustment note. Raises NoDocument, and OperationRefused for an invoice
    that is not issued, paid or such a void one.
    """
    return [_deliver(connection, content_of(row), author) for row in documents.content(connection, invoices)]


def _deliver(connection: Connection, content: Content, author: Author) -> Delivered:
    document = pdf.render(content)
    made = [made_of(document)]
    shown = documents.Shown(UUID(content.invoice_id), content.revision, is_note=content.cancels is not None)
    is_first = documents.deliver(connection, shown, made, author)
    return Delivered(content, document, is_first)


def made_of(document: bytes, of_format: str = "pdf") -> Made:
    """What is kept of a document that leaves."""
    return Made(of_format, hashlib.sha256(document).hexdigest(), MADE_BY[of_format]())


def changed(connection: Connection, month: BillingMonth) -> Iterator[tuple[dict[str, Any], bool]]:
    """The documents of the month that have left, each made again: whether it is another one now.

    A newer version may make other bytes of the same content: then `made_by` is not what would make it now.
    """
    left = documents.left(connection, month)
    for first in range(0, len(left), _READ):
        part = left[first : first + _READ]
        rows = documents.content(connection, [one["invoice_id"] for one in part])
        now = {row["id"]: row for row in rows}
        for one in part:
            yield one, _again(now[one["invoice_id"]], one) != one["sha256"]


def _again(row: dict[str, Any], left: dict[str, Any]) -> str | None:
    """The hash of the document as it would leave now; None: there would be none."""
    if row["revision"] != left["revision"]:
        return None
    try:
        document = _RENDERERS[left["format"]](content_of({**row, "status": left["state"]}))
    except NoDocument:
        return None
    return hashlib.sha256(document).hexdigest()
