"""The dashboard's files: a page, its style, its script, Vega, and the charts' specifications. No data is in them.

What the page shows it reads from /api/v1/costs with the token of whoever signed in; this module asks nobody.
Belongs here: which files there are. Does not: how they are served (files.py), what is on the page (static/), the charts
(charts.py), the data (costs.py).
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from arcadia_pipelines.api.files import A_DAY, ALWAYS_ASK, File, always

router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent / "static"
# In a process of its own, which gives its 130 MB back.
_BUNDLE = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"


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


def _vega() -> File:
    made = subprocess.run([sys.executable, "-c", _BUNDLE], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return File.of(made.stdout, "text/javascript")


def _charts() -> File:
    from arcadia_pipelines.api import charts  # Altair loads slowly

    return File.of(json.dumps(charts.specifications()).encode(), "application/json")


_VEGA, _CHARTS = _Made(_vega), _Made(_charts)
router.get("/dashboard")(always((_HERE / "dashboard.html").read_bytes(), "text/html"))
router.get("/dashboard/dashboard.css")(always((_HERE / "dashboard.css").read_bytes(), "text/css"))
router.get("/dashboard/dashboard.js")(always((_HERE / "dashboard.js").read_bytes(), "text/javascript"))


@router.get("/dashboard/vega.js")
async def vega(request: Request) -> Response:
    """Vega, Vega-Lite and vega-embed as one script, out of the package that draws the Dagster UI's pictures."""
    return (await _VEGA.file()).answer(request, A_DAY)


@router.get("/dashboard/charts.json")
async def charts(request: Request) -> Response:
    """The charts' specifications."""
    return (await _CHARTS.file()).answer(request, ALWAYS_ASK)
