"""A browser for the run, and a page for each test that must stay quiet: no error, no request to anybody else."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from arcadia_pipelines_tests.api.conftest import token

# Chromium as root, in a container, without a network: it must not phone home either.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)

Open = Callable[..., "Visit"]


class Visit:
    """A visit to the dashboard in a browser context of its own."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.noise: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.noise.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.noise.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def go(self, place: str = "") -> None:
        """Load the page at a place: what follows the #."""
        self.page.goto(f"{self.base}/dashboard{place}")

    def sign_in(self, with_token: str) -> None:
        """Paste the token, press Enter, and wait."""
        self.page.get_by_label("Token").fill(with_token)
        self.page.keyboard.press("Enter")

    def settled(self, heading: str | None = None) -> None:
        """Wait until what the address says is shown and drawn."""
        if heading:
            self.page.get_by_role("heading", level=1, name=heading).wait_for()
        place = json.dumps(self.page.evaluate("location.hash"))
        self.page.locator(f"body[data-shown={place}] main:not([aria-busy])").wait_for()

    def show(self, place: str) -> None:
        """Change the place, and wait."""
        self.page.evaluate("place => { location.hash = place }", place)
        self.settled()

    def table(self) -> list[list[str]]:
        """The table's rows as text: the body's, then the foot's."""
        rows: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('main tbody tr, main tfoot tr')]"
            ".map(row => [...row.cells].map(cell => cell.innerText))"
        )
        return rows

    def bars(self) -> list[dict[str, Any]]:
        """The bars with a length of each chart, in the order of the page: what they are of, and where they lead."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """[...document.querySelectorAll('.mark-rect.role-mark path')].map(path => ({...path.__data__.datum}))
               .filter(bar => bar.dollars !== null)"""
        )
        return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """The Chromium of CHROMIUM, of the system, or of Playwright."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        with sync_playwright() as playwright:
            found = playwright.chromium.executable_path
    if not Path(found).exists():
        pytest.exit(
            "no Chromium: `sudo apt-get install chromium`, or `.venv/bin/playwright install chromium`, "
            "or say where one is: CHROMIUM=/path/to/chrome make test-ui",
            returncode=1,
        )
    return found


@pytest.fixture(scope="session")
def browser(chromium: str, cost_api: httpx.Client) -> Iterator[Browser]:
    """The browser. The world is made before it: both want the thread's event loop."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def desk(browser: Browser) -> BrowserContext:
    """What most tests look through. Its pages share a cache, and no session."""
    return browser.new_context(viewport=DESK)


@pytest.fixture
def visit(browser: Browser, desk: BrowserContext, cost_api: httpx.Client) -> Iterator[Open]:
    """Opens the dashboard of `costed`, or of another server: signed in as an admin at a place, unless told otherwise.

    Whatever the test looked at, the page said nothing on the console, and asked nobody but its own server.
    """
    visits: list[Visit] = []

    def open_(place: str = "", with_token: str | None = "", base: str = "", **context: Any) -> Visit:
        made = browser.new_context(**({"viewport": DESK} | context)) if context else desk
        made.set_default_timeout(10_000)
        visits.append(Visit(made.new_page(), base or str(cost_api.base_url).rstrip("/")))
        visits[-1].go(place)
        if with_token is not None:
            visits[-1].sign_in(with_token or token())
            visits[-1].settled()
        return visits[-1]

    yield open_
    for one in visits:
        one.page.close()
        assert not one.noise
        assert [url for url in one.asked if not url.startswith((f"{one.base}/", "data:,", f"blob:{one.base}/"))] == []
