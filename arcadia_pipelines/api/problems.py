"""Errors as RFC 9457 problem documents, application/problem+json, each with a type that programs can rely on.

Belongs here: what can go wrong for a caller, and how it is put. No message repeats a token, a password or SQL.
"""

from collections.abc import Callable
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from arcadia_pipelines.api.auth import InvalidToken, KeysUnavailable
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.storage.database import StorageError, is_too_many

MEDIA_TYPE = "application/problem+json"
TITLES = {
    "bad-request": (400, "The request cannot be read"),
    "invalid-token": (401, "No valid token"),
    "forbidden": (403, "Not for this role"),
    "not-found": (404, "There is no such thing here"),
    "method-not-allowed": (405, "Not this method"),
    "too-slow": (408, "The request took too long to arrive"),
    "too-large": (413, "The request is too large"),
    "head-too-large": (431, "The request's headers are too large"),
    "too-many-requests": (429, "Too many requests"),
    "invalid-request": (422, "The request does not make sense"),
    "internal-error": (500, "Our mistake"),
    "unavailable": (503, "Not available at the moment"),
}
"""Problem types by the last part of their URI, with status and title."""
READING = ("invalid-token", "too-many-requests", "invalid-request", "unavailable")
"""The problems of every route that reads, as told() takes them."""
TAGGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": {"description": "changes when the content does", "schema": {"type": "string"}}}},
    304: {"description": "It is as the If-None-Match says: no body"},
}
"""The answers of a route that has an ETag, for the OpenAPI document."""


Errors = list[dict[str, Any]]
"""As schemas.InvalidPart."""


class Problem(ArcadiaError):
    """An answer other than the one asked for; `kind` is a key of TITLES, `errors` what is wrong with which part."""

    def __init__(
        self, kind: str, detail: str, headers: dict[str, str] | None = None, errors: Errors | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.headers, self.errors = kind, detail, headers or {}, errors


def document(kind: str, detail: str, request_id: str, errors: Errors | None = None) -> dict[str, object]:
    """The problem as schemas.Problem."""
    status, title = TITLES[kind]
    told: dict[str, object] = {"type": f"urn:arcadia:problem:{kind}", "title": title, "status": status}
    return told | {"detail": detail, "request_id": request_id} | ({"errors": errors} if errors else {})


def respond(request: Request, problem: Problem) -> Response:
    """The response that tells the problem."""
    body = document(problem.kind, problem.detail, request.state.request_id, problem.errors)
    headers = {"Cache-Control": "no-store", **problem.headers}
    return JSONResponse(body, TITLES[problem.kind][0], headers, media_type=MEDIA_TYPE)


def told(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        TITLES[kind][0]: {"description": TITLES[kind][1], "content": content}
        for kind in ("bad-request", *kinds, "internal-error")
    }


def install(app: FastAPI) -> None:
    """Make the application answer every exception with a problem."""
    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, answer)


def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return respond(request, error)


def _unauthenticated(request: Request, error: Exception) -> Response:
    challenge = 'Bearer realm="arcadia"'
    if "authorization" in request.headers:
        challenge += ', error="invalid_token"'
    return respond(request, Problem("invalid-token", str(error), {"WWW-Authenticate": challenge}))


def _unavailable(request: Request, error: Exception) -> Response:
    request.state.error = f"{type(error).__name__}: {error}"
    what = "the token keys" if isinstance(error, KeysUnavailable) else "the database"
    detail = f"{what} cannot be reached or is too busy: try again"
    if is_too_many(error):
        detail = "the database has too many connections, and none is left for the API: try again"
    return respond(request, Problem("unavailable", detail, {"Retry-After": "1"}))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: Errors = [
        {"where": ".".join(map(str, one["loc"])), "what": str(one["msg"]).removeprefix("Value error, ")}
        for one in error.errors()
    ][:20]
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in found)
    return respond(request, Problem("invalid-request", detail, errors=found))


_OF_STATUS = {404: "not-found", 405: "method-not-allowed", 408: "too-slow", 413: "too-large"}


def _http(request: Request, error: Exception) -> Response:
    """What Starlette answers itself: an unknown path, a method that a path does not have, JSON that is none."""
    assert isinstance(error, HTTPException)
    kind = _OF_STATUS.get(error.status_code, "bad-request")
    detail = {
        "not-found": "no such path: see /api/v1/openapi.json",
        "method-not-allowed": f"{request.method} is not served here: see /api/v1/openapi.json",
    }.get(kind, str(error.detail))
    headers = dict(error.headers or {})
    if "Allow" in headers:  # whatever GET is served on, HEAD is: app.Head
        headers["Allow"] = headers["Allow"].replace("GET", "GET, HEAD")
    return respond(request, Problem(kind, detail, headers))


_ANSWERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    Problem: _known,
    InvalidToken: _unauthenticated,
    KeysUnavailable: _unavailable,
    RequestValidationError: _invalid,
    HTTPException: _http,
    psycopg.OperationalError: _unavailable,
    StorageError: _unavailable,
}
