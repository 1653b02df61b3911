"""What the routes depend on: who asks, that a request is unambiguous, and a turn at what is done a few at a time.

Belongs here: FastAPI's dependencies that several routes share. Does not: tokens and keys (auth.py), what a route itself
is asked (app.py, cost_routes.py).
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel, ConfigDict

from arcadia_pipelines.api import queries
from arcadia_pipelines.api.auth import InvalidToken, Principal
from arcadia_pipelines.api.problems import Problem

PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
"""The headers of what is for its reader alone."""


class Reader(SecurityBase):
    """Who asks, by a bearer token, with no query parameter twice; the response is marked as PRIVATE.

    One dependency and not several, since FastAPI's way to each takes as long as all of this. A route that returns a
    Response of its own marks it itself.
    """

    def __init__(self, *lists: str, admins: bool = False) -> None:
        """With the parameters that may be given again and again, and whether only platform admins may ask."""
        description = "With the claims iss, aud, exp, role (platform_admin or tenant), and tenant_id for a tenant."
        self.model = HTTPBearer(bearerFormat="JWT", description=description)
        self.scheme_name = "bearer"
        self._lists, self._admins = lists, admins

    async def __call__(self, request: Request, response: Response) -> Principal:
        """Who asks. Raises as principal(), Problem for another role, and as FastAPI does for a parameter given twice.

        Of two values one would be dropped, and nobody would know which.
        """
        who = await (admin if self._admins else principal)(request)
        if request.scope["query_string"]:
            _refuse_twice("query", (name for name, _ in request.query_params.multi_items() if name not in self._lists))
        response.headers.update(PRIVATE)
        return who


async def principal(request: Request) -> Principal:
    """Who asks, counted once a request. Raises InvalidToken, KeysUnavailable, and Problem for one request too many."""
    known: Principal | None = getattr(request.state, "principal", None)
    if known:
        return known
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken("send a token: Authorization: Bearer TOKEN")
    who: Principal = await request.app.state.tokens.principal(token)
    request.state.principal = who
    await request.app.state.requests.count(who)
    return who


async def admin(request: Request) -> Principal:
    """The platform admin who asks. Raises as principal(), and Problem for another role."""
    who = await principal(request)
    if not who.is_admin:
        raise Problem("forbidden", "this is for platform admins")
    return who


class Nothing(BaseModel):
    """The query of a route that takes no parameters, so that nobody takes a whole answer for a filtered one."""

    model_config = ConfigDict(extra="forbid")


async def body_names_each_once(request: Request) -> None:
    """Refuse a JSON body with a name twice in one object, of which the last would count."""

    def look(pairs: list[tuple[str, object]]) -> None:
        _refuse_twice("body", (name for name, _ in pairs))

    with suppress(ValueError, RecursionError):  # FastAPI refuses what is not JSON
        json.loads(await request.body(), object_pairs_hook=look)


def _refuse_twice(where: str, names: Iterable[str]) -> None:
    wrong = [
        {"loc": (where, name), "msg": f"is given {times} times: give it once"}
        for name, times in Counter(names).items()
        if times > 1
    ]
    if wrong:
        raise RequestValidationError(wrong)


class TokenBeforeBody(APIRoute):
    """A route that knows who asks before it reads a body: FastAPI reads the body before any dependency runs."""

    may_ask = staticmethod(principal)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of a request. It raises as may_ask()."""
        serve = super().get_route_handler()

        async def handler(request: Request) -> Response:
            await self.may_ask(request)
            return await serve(request)

        return handler


class AdminBeforeBody(TokenBeforeBody):
    """So of a route for platform admins."""

    may_ask = staticmethod(admin)


def names(if_none_match: str | None, etag: str) -> bool:
    """Whether an If-None-Match has the ETag (RFC 9110, 13.1.2: weak comparison)."""
    given = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return etag.removeprefix("W/") in given or given == ["*"]


def tagged(document: str, if_none_match: str | None) -> Response:
    """The JSON with its ETag; 304 and no body if If-None-Match has that."""
    headers = {**PRIVATE, "ETag": f'W/"{hashlib.sha256(document.encode()).hexdigest()[:32]}"'}
    if names(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(document, media_type="application/json", headers=headers)


@asynccontextmanager
async def turn(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold one of the places. Raises Problem if none is free within queries.WAIT_SECONDS."""
    try:
        async with asyncio.timeout(queries.WAIT_SECONDS):
            await places.acquire()
    except TimeoutError as error:
        detail = "too many ask for this at the same time: try again"
        raise Problem("unavailable", detail, {"Retry-After": "1"}) from error
    try:
        yield
    finally:
        places.release()


Who = Annotated[Principal, Depends(Reader())]
Admin = Annotated[Principal, Depends(Reader("tenant_id", admins=True))]
NoParameters = Annotated[Nothing, Query()]
