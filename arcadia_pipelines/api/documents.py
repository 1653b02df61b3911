"""Invoices as documents: the route of a PDF.

Belongs here: what is asked and answered. Does not: the documents (documents/).
"""

import asyncio
import uuid
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from arcadia_pipelines.api import queries
from arcadia_pipelines.api.dependencies import PRIVATE, NoParameters, Who, names, turn
from arcadia_pipelines.api.problems import READING, TAGGED, Problem, told
from arcadia_pipelines.documents import files, pdf
from arcadia_pipelines.documents.content import NoDocument, content_of

_AT_ONCE = 2  # each is a thread that is busy; more wait

_CONTENT = {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter(prefix="/api/v1", tags=["invoices"])


def turns() -> asyncio.Semaphore:
    """The places at making documents, which one process has."""
    return asyncio.Semaphore(_AT_ONCE)


@router.get(
    "/invoices/{invoice_id}.pdf",
    response_class=Response,
    responses=told("not-found", *READING) | TAGGED | {200: TAGGED[200] | {"content": _CONTENT}},
)
async def invoice_pdf(
    request: Request,
    who: Who,
    invoice_id: uuid.UUID,
    _: NoParameters,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """An invoice as a PDF: a tax invoice, or an adjustment note. Somebody else's is not found.

    The same revision is the same bytes, as long as the same version of Arcadia makes them: then so is the ETag.
    """
    found = await queries.content(request.app.state.pool, who, invoice_id)
    if found is None:
        raise Problem("not-found", "no invoice of this id")
    async with turn(request.app.state.documents):
        try:
            return await to_thread.run_sync(_answer, found, if_none_match)
        except NoDocument as error:
            raise Problem("not-found", str(error)) from error


def _answer(found: dict[str, Any], if_none_match: str | None) -> Response:
    """The document; nothing of it where the reader has it, for then it is not made."""
    content = content_of(found)
    headers = {**PRIVATE, "ETag": f'"{pdf.tag(content)}"'}
    if names(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f'inline; filename="{files.name_of(content)}"'
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(pdf.render(content), headers=headers, media_type="application/pdf")
