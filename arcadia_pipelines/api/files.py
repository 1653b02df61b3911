"""Files as the API serves them: whole, compressed if asked for, not sent twice, under a strict policy.

Belongs here: how. Does not: which (dashboard.py, reference.py).
"""

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

# Everything is from here: a stolen token could be sent nowhere else. Vega draws without eval (dashboard.js: ast).
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}

ALWAYS_ASK = "no-cache"
A_DAY = "public, max-age=86400"


@dataclass(frozen=True)
class File:
    """A file as it is served."""

    body: bytes
    compressed: bytes
    etag: str
    media_type: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> "File":
        """The file with this content."""
        return cls(body, gzip.compress(body, 6), f'"{hashlib.sha256(body).hexdigest()[:32]}"', media_type)

    def answer(self, request: Request, caching: str) -> Response:
        """The response: nothing where the browser has it."""
        headers = {**HEADERS, "ETag": self.etag, "Cache-Control": caching}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.body, headers=headers, media_type=self.media_type)


def always(body: bytes, media_type: str, caching: str = ALWAYS_ASK) -> Callable[[Request], Awaitable[Response]]:
    """A route that answers with this file."""
    file = File.of(body, media_type)

    async def serve(request: Request) -> Response:
        return file.answer(request, caching)

    return serve
