"""What operators see of the API: a request id on every answer, and a log of one JSON object a line.

The log has neither headers, query strings nor bodies, where tokens and other people's data would be.
"""

import asyncio
import datetime as dt
import json
import logging
import re
import sys
import time
import uuid

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arcadia_pipelines.api import problems
from arcadia_pipelines.api.limits import LARGEST_HEAD

LARGEST_BODY = 64 * 1024  # bytes
LARGEST_BODIES = {"/api/v1/reprice": 2**20, "/api/v1/reprice.csv": 2**20}
"""So of paths whose bodies may be larger: a price book has all of a platform's prices."""
BODY_SECONDS = 20.0
"""For a body to arrive whole, from when it is first asked for: who may not ask is answered before."""
LONGEST_LOGGED_PATH = 200
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LOG = logging.getLogger("arcadia.api")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON: time, level, message, and the fields given as `extra={"fields": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stdout() -> None:
    """Send what the API, its pool and its server log to stdout, as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    for name, level in {"arcadia.api": "INFO", "uvicorn": "INFO", "psycopg.pool": "ERROR"}.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


class Observe:
    """Gives each request its id, logs it, bounds its body, and answers 500 to what nobody else caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, request_id = time.perf_counter(), 0, _request_id(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if refusal := _refusal(scope):
                kind, detail, headers = refusal
                told = problems.document(kind, detail, request_id)
                status_code = problems.TITLES[kind][0]
                await JSONResponse(told, status_code, headers, problems.MEDIA_TYPE)(scope, receive, answer)
                return
            await self._app(scope, _bounded(receive, LARGEST_BODIES.get(scope["path"], LARGEST_BODY)), answer)
        except Exception:
            _LOG.exception("request failed", extra={"fields": {"request_id": request_id}})
            if status:  # half an answer is out: break the connection, so that nobody takes it for a whole one
                raise
            told = problems.document(
                "internal-error", "something failed on our side: tell us the request_id", request_id
            )
            await JSONResponse(told, 500, media_type=problems.MEDIA_TYPE)(scope, receive, answer)
        finally:
            _LOG.info("request", extra={"fields": _fields(scope, status, started)})


def _refusal(scope: Scope) -> tuple[str, str, dict[str, str] | None] | None:
    """Why the request is not served, whoever asks: the problem, its detail and headers. /health is, in any crowd."""
    if scope["state"].get("is_crowded") and scope["path"] != "/health":
        return "unavailable", "too many connections are open: try again", {"Retry-After": "1", "Connection": "close"}
    if _head(scope) > LARGEST_HEAD:
        return "head-too-large", f"path, query string and headers have at most {LARGEST_HEAD} bytes", None
    return None


def _head(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return len(scope["raw_path"]) + len(scope["query_string"]) + headers


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID if it is a plain word, else a new one."""
    given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _bounded(receive: Receive, most: int) -> Receive:
    """The same, refusing a body of more bytes, whatever length it claims, or one that is too slow."""
    received, until, is_whole = 0, 0.0, False

    async def bounded() -> Message:
        nonlocal received, until, is_whole
        if is_whole:  # what follows is that the client is gone, however late
            return await receive()
        until = until or asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            detail = f"a body has to arrive within {BODY_SECONDS:.0f} s"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        received += len(message.get("body", b""))
        if received > most:
            raise HTTPException(413, f"a body has at most {most} bytes")
        is_whole = not message.get("more_body", False)
        return message

    return bounded


def _fields(scope: Scope, status: int, started: float) -> dict[str, object]:
    state = scope["state"]
    who, route = state.get("principal"), scope.get("route")
    fields: dict[str, object] = {
        "request_id": state["request_id"],
        "method": scope["method"],
        "path": scope["path"][:LONGEST_LOGGED_PATH],
        "route": getattr(route, "path", None),
        "status": status or None,  # null: the client was gone
        "milliseconds": round((time.perf_counter() - started) * 1000, 3),
        "client": (scope.get("client") or (None,))[0],
        "role": who.role if who else None,
        "tenant_id": who.tenant_id if who else None,
    }
    return fields | ({"error": state["error"]} if "error" in state else {})
