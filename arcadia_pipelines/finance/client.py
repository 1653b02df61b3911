"""Finance's side of the contract (docs/finance-openapi.yaml) over HTTP: one call, and what is known after it.

Belongs here: requests, answers, and what a failed call leaves unknown. Does not: what to do then (outbox.py).
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import USER_AGENT, Settings

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
UNSET = "ARCADIA_FINANCE_URL is not set: finance is told nothing"
_REFUSES = (409, 412, 422)
"""Not taken, and the same again will not be taken either."""
_MAY_HAVE_DONE_IT = 500
"""From here on a status says that something broke: perhaps after it was done."""
_SHOWN = 300
"""How much of an answer an error repeats, in characters."""


class FinanceError(ArcadiaError):
    """Finance is not set up, or did not answer; the message says why, or what to do."""

    def __init__(self, message: str, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that finance asks to wait."""


class Known(Enum):
    """What is known after a call."""

    DONE = "done"
    ABSENT = "absent"
    """There is no such invoice, or no such path."""
    REFUSED = "refused"
    NOT_DONE = "not done"
    """Nothing happened there, and the same may succeed later."""
    NOTHING = "nothing"
    """It may have been done."""


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    known: Known
    document: dict[str, Any]
    error: str | None = None
    retry_after: float | None = None
    """Seconds that finance asks to wait."""
    etag: str | None = None
    """The version, as the document or the header has it."""
    status: int | None = None
    """HTTP's, if there was an answer."""


class Client:
    """Calls finance; one for all threads of a drain. Close it, or use it as a context."""

    def __init__(self, settings: Settings, read_seconds: float = READ_SECONDS, connections: int = 8) -> None:
        url, token = settings.finance_url, settings.finance_token
        if not url:
            raise FinanceError(UNSET)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = opened(f"{url}/income/v1/", token, read_seconds, connections, headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def put(self, invoice: UUID, payload: str, etag: str | None) -> Answer:
        """Give finance the invoice: a new one, or a revision of the one that it has as `etag`."""
        precondition = {"If-Match": etag} if etag else {"If-None-Match": "*"}
        return self._call("PUT", f"invoices/{invoice}", payload, precondition)

    def void(self, invoice: UUID, payload: str) -> Answer:
        """Say that the invoice is void; again does no harm."""
        return self._call("POST", f"invoices/{invoice}/void", payload, {})

    def pay(self, invoice: UUID, payload: str) -> Answer:
        """Say that a payment was recorded here; again does no harm. Absent, where payments are recorded there alone."""
        return self._call("POST", f"invoices/{invoice}/payment", payload, {}, absent=(404, 405, 501))

    def get(self, invoice: UUID) -> Answer:
        """The invoice as finance has it."""
        return self._call("GET", f"invoices/{invoice}")

    def invoices(self, month: BillingMonth) -> Iterator[dict[str, Any]]:
        """All invoices that finance has of the month. Raises FinanceError."""
        cursor, seen = "", set[str]()
        while cursor not in seen:
            seen.add(cursor)
            page = self._ask("invoices", {"period": str(month), **({"cursor": cursor} if cursor else {})})
            items = page.get("items")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise FinanceError(f"finance returned an invalid list of the invoices of {month}: see its logs")
            yield from items
            cursor = str(page.get("next_cursor") or "")
            if not cursor:
                return
        raise FinanceError(f"finance lists the invoices of {month} in a circle: it gave the cursor {cursor!r} twice")

    def summary(self, month: BillingMonth) -> dict[str, Any]:
        """What finance says of the month as a whole: count, total_cents. Raises FinanceError."""
        return self._ask("summary", {"period": str(month)})

    def _ask(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        answer = self._call("GET", path, query=query)
        if answer.known is not Known.DONE:
            raise FinanceError(f"finance does not say what it has: {answer.error or 'it knows no such path'}")
        return answer.document

    def _call(
        self,
        method: str,
        path: str,
        payload: str | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        absent: tuple[int, ...] = (404,),
    ) -> Answer:
        return call(self._http, method, path, payload, headers, query, absent)


def opened(
    url: str, token: str | None, read_seconds: float, connections: int, headers: dict[str, str] | None = None
) -> httpx.Client:
    """What connects to the base URL; refuses one where the token would be read on its way."""
    parts = urlsplit(url)
    if token and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise FinanceError("ARCADIA_FINANCE_URL must be an https address: the token is sent there")
    return httpx.Client(
        base_url=url,
        headers={"User-Agent": USER_AGENT, **(headers or {})},
        timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


def call(
    http: httpx.Client,
    method: str,
    path: str,
    payload: str | None = None,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    absent: tuple[int, ...] = (404,),
) -> Answer:
    """One request, and what is known after it; never raises for what the network or the other side does."""
    sent = {**(headers or {}), **({"Content-Type": "application/json"} if payload is not None else {})}
    content = payload.encode() if payload is not None else None
    try:
        response = http.request(method, path, content=content, headers=sent, params=query)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Answer(Known.NOT_DONE, {}, f"cannot be reached ({_said(error)})")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Answer(Known.NOTHING, {}, f"the connection was lost ({_said(error)})")
    return replace(_understood(response, absent), status=response.status_code)


def _understood(response: httpx.Response, absent: tuple[int, ...]) -> Answer:
    status = response.status_code
    said = f"answered {status}: {' '.join(response.text[:_SHOWN].split())}".rstrip(": ")
    if response.is_success:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            return Answer(Known.NOTHING, {}, f"answered {status} with what is no JSON object")
        return Answer(Known.DONE, document, etag=document.get("etag") or response.headers.get("ETag"))
    if status in absent:
        return Answer(Known.ABSENT, {}, said)
    if status in _REFUSES:
        return Answer(Known.REFUSED, {}, said)
    if status >= _MAY_HAVE_DONE_IT:
        return Answer(Known.NOTHING, {}, said, _wait_of(response))
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        said = f"{said} (see ARCADIA_FINANCE_TOKEN)"
    return Answer(Known.NOT_DONE, {}, said, _wait_of(response))


def _wait_of(response: httpx.Response) -> float | None:
    """Retry-After, which is seconds or a date; at most a day."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        seconds = (
            float(text) if text.isdigit() else (parsedate_to_datetime(text) - dt.datetime.now(dt.UTC)).total_seconds()
        )
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), 86_400.0)


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")[:_SHOWN]
