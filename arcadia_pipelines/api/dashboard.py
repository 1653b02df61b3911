"""The dashboard's files: a page, its style, its script, Vega, and the charts' specifications. No data is in them.

What the page shows it reads from /api/v1/costs with the token of whoever signed in; this module asks nobody.
Belongs here: how the files are served. Does not: what is on the page (static/), the charts (charts.py), the data
(costs.py).
"""

import gzip
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent / "static"
# Everything is from here: a stolen token could be sent nowhere else. Vega draws without eval (dashboard.js: ast).
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
_ALWAYS_ASK = "no-cache"
_A_DAY = "public, max-age=86400"
# In a process of its own, which gives its 130 MB back.
_BUNDLE = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"


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
        headers = {**_HEADERS, "ETag": self.etag, "Cache-Control": caching}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.body, headers=headers, media_type=self.media_type)


class _Made:
    """A file that takes a while to make: once a process, when it is first asked for."""

    def __init__(self, make: Callable[[], File]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._file: File | None = None

    async def file(self) -> File:
        """The file."""
        if self._file:
            return self._file
        return await to_thread.run_sync(self._made)

    def _made(self) -> File:
        with self._lock:
            made = self._file or self._make()
            self._file = made
        return made


def _static(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    file = File.of((_HERE / name).read_bytes(), media_type)

    async def serve(request: Request) -> Response:
        return file.answer(request, _ALWAYS_ASK)

    return serve


def _vega() -> File:
    made = subprocess.run([sys.executable, "-c", _BUNDLE], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return File.of(made.stdout, "text/javascript")


def _charts() -> File:
    from arcadia_pipelines.api import charts  # Altair loads slowly

    return File.of(json.dumps(charts.specifications()).encode(), "application/json")


_VEGA, _CHARTS = _Made(_vega), _Made(_charts)
router.get("/dashboard")(_static("dashboard.html", "text/html"))
router.get("/dashboard/dashboard.css")(_static("dashboard.css", "text/css"))
router.get("/dashboard/dashboard.js")(_static("dashboard.js", "text/javascript"))


@router.get("/dashboard/vega.js")
async def vega(request: Request) -> Response:
    """Vega, Vega-Lite and vega-embed as one script, out of the package that draws the Dagster UI's pictures."""
    return (await _VEGA.file()).answer(request, _A_DAY)


@router.get("/dashboard/charts.json")
async def charts(request: Request) -> Response:
    """The charts' specifications."""
    return (await _CHARTS.file()).answer(request, _ALWAYS_ASK)
