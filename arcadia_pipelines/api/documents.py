"""Invoices as documents: the routes of a PDF and of an e-invoice.

Belongs here: what is asked and answered. Does not: the documents (documents/).
"""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from arcadia_pipelines.api import queries
from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.api.dependencies import PRIVATE, NoParameters, Who, names, turn
from arcadia_pipelines.api.problems import READING, TAGGED, Problem, told
from arcadia_pipelines.documents import delivery, files, pdf, xml
from arcadia_pipelines.documents.content import Content, NoDocument, content_of
from arcadia_pipelines.storage.documents import Shown

_ATTEMPTS = 3  # at a download that is a delivery, while the month is run
_AT_ONCE = 2  # each is a thread that is busy; more wait


def _responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return told("not-found", *READING) | TAGGED | {200: TAGGED[200] | {"content": content}}


router = APIRouter(prefix="/api/v1", tags=["invoices"])

_Answer = Callable[[Content, str | None], Response]
"""Answers with an invoice's content to an If-None-Match."""


def turns() -> asyncio.Semaphore:
    """The places at making documents, which one process has."""
    return asyncio.Semaphore(_AT_ONCE)


@router.get("/invoices/{invoice_id}.pdf", response_class=Response, responses=_responses("application/pdf"))
async def invoice_pdf(
    request: Request,
    who: Who,
    invoice_id: uuid.UUID,
    _: NoParameters,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """An invoice as a PDF: a tax invoice, or an adjustment note. Somebody else's is not found.

    Of a void invoice that was delivered, it is the adjustment note that takes it back.
    The same revision is the same bytes, as long as the same version of Arcadia makes them: then so is the ETag.
    """
    return await _made(request, who, invoice_id, if_none_match, _pdf)


@router.get("/invoices/{invoice_id}.xml", response_class=Response, responses=_responses("application/xml"))
async def invoice_xml(
    request: Request,
    who: Who,
    invoice_id: uuid.UUID,
    _: NoParameters,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """An invoice as an e-invoice: UBL, as Peppol's PINT A-NZ billing wants it. Somebody else's is not found.

    Nor is that of a draft, of a void invoice that was never delivered, or of one to a tenant without an ABN: there is
    none.
    """
    return await _made(request, who, invoice_id, if_none_match, _xml)


async def _made(
    request: Request, who: Principal, invoice_id: uuid.UUID, if_none_match: str | None, answer: _Answer
) -> Response:
    """What answers with the invoice's content, in a thread. Raises Problem if there is no invoice or no document.

    A tenant's own download may be the delivery, which is noted before the document leaves.
    """
    for _attempt in range(_ATTEMPTS):
        found = await queries.content(request.app.state.pool, who, invoice_id)
        if found is None:
            raise Problem("not-found", "no invoice of this id")
        is_note = found["cancelled_on"] is not None
        delivers = _delivers(request, who) and (is_note or found["status"] in ("issued", "paid"))
        known = None if delivers and (is_note or not found["delivered_at"]) else if_none_match
        async with turn(request.app.state.documents):
            try:
                made = await to_thread.run_sync(_of, answer, found, known)
            except NoDocument as error:
                raise Problem("not-found", str(error)) from error
        if not delivers or made.status_code == 304 or await _note(request, who, found, made):
            return made
    raise Problem("unavailable", "the invoice is being changed: try again", {"Retry-After": "1"})


def _of(answer: _Answer, found: dict[str, Any], if_none_match: str | None) -> Response:
    return answer(content_of(found), if_none_match)


def _delivers(request: Request, who: Principal) -> bool:
    """Whether a download delivers: a tenant's, if so configured, and not a look at the headers."""
    return request.app.state.deliver_on_download and not who.is_admin and not request.scope.get("is_head")


async def _note(request: Request, who: Principal, found: dict[str, Any], made: Response) -> bool:
    """Note that the document is delivered; False if the invoice was revised or voided meanwhile."""
    kept = delivery.made_of(bytes(made.body), str(made.media_type).rpartition("/")[2])
    shown = Shown(found["id"], found["revision"], is_note=found["cancelled_on"] is not None)
    return await queries.deliver(request.app.state.pool, who, shown, kept)


def _pdf(content: Content, if_none_match: str | None) -> Response:
    """The PDF; nothing of it where the reader has it, for then it is not made."""
    headers = {**PRIVATE, "ETag": f'"{pdf.tag(content)}"'}
    if names(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return _file(content, pdf.render(content), "pdf", headers)


def _xml(content: Content, if_none_match: str | None) -> Response:
    """The e-invoice, which takes no longer to make than to know."""
    made = xml.render(content)
    headers = {**PRIVATE, "ETag": f'"{hashlib.sha256(made).hexdigest()[:32]}"'}
    if names(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return _file(content, made, "xml", headers)


def _file(content: Content, made: bytes, ending: str, headers: dict[str, str]) -> Response:
    """The document under its name: a PDF to be shown, an e-invoice to be kept."""
    shown = "inline" if ending == "pdf" else "attachment"
    headers["Content-Disposition"] = f'{shown}; filename="{files.name_of(content, ending)}"'
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(made, headers=headers, media_type=f"application/{ending}")
