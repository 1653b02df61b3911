"""What the routes share: who asks, what they answer, and what the OpenAPI document says of it."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response

from arcadia_pipelines.api import problems
from arcadia_pipelines.api.auth import InvalidToken, Principal
from arcadia_pipelines.api.problems import Problem

PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
READING = ("invalid-token", "invalid-request", "unavailable")
"""The problems of every route that reads, as told() takes them."""


async def principal(request: Request) -> Principal:
    """Who asks. Raises InvalidToken and KeysUnavailable."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise InvalidToken("send a token: Authorization: Bearer TOKEN")
    who: Principal = await request.app.state.tokens.principal(given.strip())
    request.state.principal = who
    return who


async def admin(request: Request) -> Principal:
    """Who asks. Raises as principal(), and Problem for who is no platform admin."""
    who = await principal(request)
    if not who.is_admin:
        raise Problem("forbidden", "this is for platform admins")
    return who


Admin = Annotated[Principal, Depends(admin)]
"""A parameter of the routes for platform admins."""


def told(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for the OpenAPI document."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        problems.TITLES[kind][0]: {"description": problems.TITLES[kind][1], "content": content}
        for kind in ("bad-request", *kinds, "internal-error")
    }


def answer(body: bytes, headers: dict[str, str] | None = None) -> Response:
    """A JSON document that is for its reader alone."""
    return Response(body, media_type="application/json", headers={**PRIVATE, **(headers or {})})
