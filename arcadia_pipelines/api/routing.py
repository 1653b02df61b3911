"""What the routes share: who asks, for what, what they answer, and what the OpenAPI document says of it."""

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any, TypeVar, get_origin

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError

from arcadia_pipelines.api import problems
from arcadia_pipelines.api.auth import InvalidToken, Principal
from arcadia_pipelines.api.problems import Problem

PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
READING = ("invalid-token", "too-many-requests", "invalid-request", "unavailable")
"""The problems of every route that reads, as told() takes them."""


Asked = TypeVar("Asked", bound=BaseModel)


class Nothing(BaseModel):
    """The query of a route that takes no parameters."""

    model_config = ConfigDict(extra="forbid")


async def principal(request: Request) -> Principal:
    """Who asks, counted once a request. Raises InvalidToken, KeysUnavailable, and Problem for one request too many."""
    known: Principal | None = getattr(request.state, "principal", None)
    if known:
        return known
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise InvalidToken("send a token: Authorization: Bearer TOKEN")
    who: Principal = await request.app.state.tokens.principal(given.strip())
    request.state.principal = who
    await request.app.state.requests.count(who)
    return who


class Known(APIRoute):
    """A route that knows who asks before it reads a body: FastAPI itself reads that first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of a request. It raises as principal()."""
        serve = super().get_route_handler()

        async def handler(request: Request) -> Response:
            await principal(request)
            return await serve(request)

        return handler


async def admin(request: Request) -> Principal:
    """Who asks. Raises as principal(), and Problem for who is no platform admin."""
    who = await principal(request)
    if not who.is_admin:
        raise Problem("forbidden", "this is for platform admins")
    return who


Admin = Annotated[Principal, Depends(admin)]
"""A parameter of the routes for platform admins."""


def read(request: Request, model: type[Asked]) -> Asked:
    """The query string as the model, whose lists take a parameter as often as it is given. Raises as FastAPI does.

    Any other parameter counts once: of two values one would be dropped, and nobody would know which.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    lists = {name for name, field in fields.items() if get_origin(field.annotation) is list}
    given, wrong = request.query_params, list[dict[str, Any]]()
    for name, times in Counter(name for name, _ in given.multi_items()).items():
        if times > 1 and name not in lists:
            wrong.append({"loc": ("query", name), "msg": f"is given {times} times: give it once"})
    try:
        asked = model.model_validate({name: given.getlist(name) if name in lists else given[name] for name in given})
    except ValidationError as error:
        wrong += [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
    if wrong:
        raise RequestValidationError(wrong)
    return asked


async def names_nothing_twice(request: Request) -> None:
    """Raises as FastAPI does for a JSON body with a name twice in one object, of which the last would count."""
    wrong = list[dict[str, Any]]()

    def look(pairs: list[tuple[str, object]]) -> None:
        for name, times in Counter(name for name, _ in pairs).items():
            if times > 1:
                wrong.append({"loc": ("body", name), "msg": f"is given {times} times: give it once"})

    with suppress(ValueError, RecursionError):  # what is no JSON, FastAPI refuses
        json.loads(await request.body(), object_pairs_hook=look)
    if wrong:
        raise RequestValidationError(wrong)


def asks(query: type[BaseModel] | None = None, *headers: str) -> dict[str, Any]:
    """What the OpenAPI document says of a route's request, which read() reads: the token, query string and headers."""
    fields = query.model_json_schema()["properties"] if query else {}
    parameters = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]
    parameters += [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in headers]
    return {"security": [{"bearer": []}], "parameters": parameters}


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
