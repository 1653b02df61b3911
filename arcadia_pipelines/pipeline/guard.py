"""The guard around Dagster's UI: it refuses requests that a foreign web page makes through somebody's browser.

Belongs here: who may ask the webserver for what. Does not: the processes that serve it (cli/ui.py).

Dagster's webserver has no login and runs whatever GraphQL it is sent, by GET too: any page that an operator opens could
void invoices. A browser lets a page send a request to another site, and names the page in Origin; before it sends
JSON it asks for permission, which we refuse; and if an attacker's own name leads to 127.0.0.1, Host has that name.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.pipeline.instance import LOGGED_IN

BODY_LIMIT = 16 * 2**20
_LOCAL = r"127\.0\.0\.1|localhost|\[::1\]"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class RequestRefused(ArcadiaError):
    """A request that is kept from the webserver: the status of the answer, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Guard:
    """ASGI, around the webserver.

    A request to a host name that is not ours, or from a page of another origin, gets 403. Anything but GET and HEAD,
    and all GraphQL, has to be a POST (else 405) of JSON (else 415). With `login_header`, a request without it that
    changes something gets 401; a run belongs to that login (instance.py), whatever the request says.
    """

    def __init__(self, app: ASGIApp, ui_url: str | None = None, login_header: str | None = None) -> None:
        self._app, self._login_header = app, login_header
        parts = urlsplit(ui_url or "")
        place = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))
        self._proxy, self._origin = re.sub(r":\d+$", "", place), f"{parts.scheme}://{place}"
        self._graphql = f"{parts.path}/graphql"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is admitted; answer the rest."""
        if scope["type"] in ("http", "websocket"):
            try:
                receive = await self._admit(scope, receive)
            except RequestRefused as refusal:
                await _refuse(refusal, scope, receive, send)
                return
            LOGGED_IN.set(self._login(Headers(scope=scope)))
        await self._app(scope, receive, _unframed(send))

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """Where the webserver reads the request from. Raises RequestRefused."""
        headers = Headers(scope=scope)
        self._refuse_foreign(headers)
        if scope["type"] == "websocket":  # subscriptions: they only read
            return receive
        is_graphql = scope["path"].startswith(self._graphql)
        if scope["method"] in ("GET", "HEAD") and not is_graphql:
            return receive
        if scope["method"] != "POST":
            raise RequestRefused(405, f"{scope['method']} is not allowed here: GraphQL is sent as a POST of JSON")
        # The exact text that Dagster expects: with any other type it would run the query in the address.
        [content_type, *more] = headers.getlist("content-type") or [""]
        if more or content_type.partition(";")[0].strip() != "application/json":
            raise RequestRefused(415, "send JSON: Content-Type must be application/json")
        if not self._login_header or self._login(headers):
            return receive
        if is_graphql:
            body = await _read(receive)
            if not _may_change(body):
                return _again(body, receive)
        raise RequestRefused(401, f"changes need a login: the proxy has to set {self._login_header}")

    def _login(self, headers: Headers) -> str:
        """Who the proxy says is logged in, by a name in UTF-8; empty if it says nothing."""
        sent = _one(headers, self._login_header).encode("latin-1") if self._login_header else b""
        return sent.decode(errors="backslashreplace").strip()

    def _refuse_foreign(self, headers: Headers) -> None:
        host = _one(headers, "host").lower()
        is_local = re.fullmatch(rf"({_LOCAL})(:\d+)?", host) is not None
        if not is_local and (not self._proxy or re.sub(r":\d+$", "", host) != self._proxy):
            raise RequestRefused(
                403, f"{host!r} is not a name of this UI: use 127.0.0.1, or set ARCADIA_UI_URL to its address"
            )
        if "origin" in headers and _one(headers, "origin") not in (
            self._origin,
            f"http://{host}" if is_local else None,
        ):
            raise RequestRefused(
                403, "a page of another site asked for this; if it is this UI's own, set ARCADIA_UI_URL"
            )


def _one(headers: Headers, name: str) -> str:
    """The header's only value; '' if there is none, or several."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else ""


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_LIMIT:
            raise RequestRefused(413, f"the request is larger than {BODY_LIMIT:,} bytes")
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Give what was read once more, and then what follows: that the client is gone."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _may_change(body: bytes) -> bool:
    """Whether the body has a mutation, parsed as Dagster parses it, whichever operation it names."""
    try:
        request = json.loads(body)
        if not isinstance(request, Mapping) or not isinstance(request.get("query"), str):
            raise RequestRefused(400, 'send {"query": "..."}')
        operations = parse(request["query"], no_location=True).definitions
    except (ValueError, RecursionError, GraphQLError) as error:
        raise RequestRefused(400, "this is not GraphQL in JSON") from error
    return any(
        isinstance(one, OperationDefinitionNode) and one.operation is OperationType.MUTATION for one in operations
    )


async def _refuse(refusal: RequestRefused, scope: Scope, receive: Receive, send: Send) -> None:
    """In the form of GraphQL's errors, which the UI shows; a websocket is not accepted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    allow = {"Allow": "POST"} if refusal.status == 405 else None
    await JSONResponse({"errors": [{"message": str(refusal)}]}, refusal.status, allow)(scope, receive, send)


def _unframed(send: Send) -> Send:
    """No page of another site may embed the UI, where a click would land on our buttons."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return sending
