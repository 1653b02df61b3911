"""The provider's API: a local HTTP server that speaks it as documented, and misbehaves as real ones do."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import digitalocean
from arcadia_pipelines.costs.bill import Bill, InvalidBill
from arcadia_pipelines.costs.digitalocean import ProviderError, fetch
from arcadia_pipelines.settings import Settings
from arcadia_pipelines_tests.world import World, failures, item

APRIL = BillingMonth.parse("2026-04")
UUID = "22737513-0ea7-4206-8ceb-98a575af7681"
LIST, SUMMARY, ITEMS = (f"/v2/customers/my/invoices{rest}" for rest in ("", f"/{UUID}/summary", f"/{UUID}"))

Misbehaviour = Callable[["Handler"], bool]
"""Answers a request itself, and says whether it did."""


class Handler(BaseHTTPRequestHandler):
    """One request to the API; `server.provider` says what it knows."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer as documented, unless the provider misbehaves."""
        provider: Provider = self.server.provider  # type: ignore[attr-defined]
        asked = urlsplit(self.path)
        provider.asked.append(self.path)
        if provider.misbehave(self):
            return
        if self.headers["Authorization"] != "Bearer a-token-of-ours":
            self.answer(401, {"id": "unauthorized", "message": "Unable to authenticate you"})
        elif asked.path == LIST:
            self.page("invoices", provider.invoices)
        elif asked.path == SUMMARY:
            self.answer(200, provider.summary)
        elif asked.path == ITEMS:
            self.page("invoice_items", provider.items)
        else:
            self.answer(404, {"id": "not_found", "message": "The resource you requested could not be found."})

    def page(self, name: str, entries: list[dict[str, Any]]) -> None:
        """A page of a list, with a link to the next one if there is one."""
        asked = {key: int(value) for key, [value] in parse_qs(urlsplit(self.path).query).items()}
        number, size = asked["page"], min(asked["per_page"], 2)  # small pages, however many are asked for
        pages = {"next": f"https://example.com?page={number + 1}"} if number * size < len(entries) else {}
        shown = entries[(number - 1) * size : number * size]
        self.answer(200, {name: shown, "links": {"pages": pages}, "meta": {"total": len(entries)}})

    def answer(self, status: int, document: Any, **headers: str) -> None:
        """Send JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


class Provider:
    """What the server knows: April's bill of three droplets, 3 x 6.43 + 0.50 tax = 19.79."""

    def __init__(self) -> None:
        item = {"product": "Droplets", "amount": "6.43", "duration": "720", "duration_unit": "Hours"}
        self.items = [{**item, "resource_id": str(n), "description": f"web-{n}"} for n in (1, 2, 3)]
        self.invoices = [
            {"invoice_uuid": "another", "amount": "1.00", "invoice_period": "2026-05"},
            {"invoice_uuid": "one more", "amount": "1.00", "invoice_period": "2026-03"},
            {"invoice_uuid": UUID, "amount": "19.79", "invoice_period": "2026-04"},
        ]
        self.summary = {
            "invoice_uuid": UUID,
            "billing_period": "2026-04",
            "amount": "19.79",
            "product_charges": {"name": "Product usage charges", "amount": "19.29"},
            "taxes": {"name": "GST", "amount": "0.50"},
        }
        self.asked: list[str] = []
        self.misbehave: Misbehaviour = lambda request: False

    def once(self, path: str, misbehaviour: Callable[[Handler], None], times: int = 1) -> None:
        """Misbehave at the first requests for a path."""
        left = [times]

        def misbehave(request: Handler) -> bool:
            if urlsplit(request.path).path != path or not left[0]:
                return False
            left[0] -= 1
            misbehaviour(request)
            return True

        self.misbehave = misbehave


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """The provider, at ARCADIA_DIGITALOCEAN_URL."""
    known = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.provider = known  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("ARCADIA_DIGITALOCEAN_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("ARCADIA_DIGITALOCEAN_TOKEN", "a-token-of-ours")
    monkeypatch.setattr(digitalocean, "RETRIES", 2)
    monkeypatch.setattr(digitalocean, "SECONDS", 2)
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


def april() -> Bill:
    return fetch(APRIL, Settings.from_environment())


def test_the_months_bill_is_fetched_whole_page_by_page(provider: Provider) -> None:
    """Two pages of invoices, the summary, two pages of items."""
    bill = april()
    assert list(bill.items["amount_cents"]) == [643, 643, 643, 50]
    assert (bill.total_cents, bill.total_from, bill.invoice_uuid) == (1979, "bill", UUID)
    assert [urlsplit(path).path for path in provider.asked] == [LIST, LIST, SUMMARY, ITEMS, ITEMS]


def test_without_its_client_one_line_says_what_to_install(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: whoever imports CSVs does without."""
    monkeypatch.setitem(sys.modules, "pydo", None)
    with pytest.raises(ProviderError, match=r"pydo, which is not installed: pip install 'arcadia-pipelines\[bills\]'"):
        april()
    assert provider.asked == []


@pytest.mark.long
def test_a_moment_of_too_many_requests_is_waited_out(provider: Provider) -> None:
    """429 with Retry-After, then the answer."""
    started = time.monotonic()
    provider.once(SUMMARY, lambda request: request.answer(429, {"id": "too_many_requests"}, Retry_After="1"))
    assert april().total_cents == 1979
    assert time.monotonic() - started >= 1


@pytest.mark.long
def test_too_many_requests_without_end_are_reported(provider: Provider) -> None:
    """Asked three times, and then it is given up."""
    provider.once(LIST, lambda request: request.answer(429, {"id": "too_many_requests"}, Retry_After="0"), times=99)
    with pytest.raises(ProviderError, match="too many requests"):
        april()
    assert len(provider.asked) == 3


def test_a_server_error_is_tried_again(provider: Provider) -> None:
    """503, then the answer."""
    provider.once(ITEMS, lambda request: request.answer(503, {}))
    assert april().total_cents == 1979


def half_a_page(request: Handler) -> None:
    """Promise more than is sent, and hang up."""
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"invoice_items": [{"amount": "6.43"')
    request.close_connection = True


def test_half_a_page_is_not_a_bill(provider: Provider) -> None:
    """The connection ends in the middle of an answer, each time."""
    provider.once(ITEMS, half_a_page, times=99)
    with pytest.raises(ProviderError, match="does not answer, or not completely"):
        april()


def test_half_a_page_once_is_fetched_again(provider: Provider) -> None:
    """The second answer is whole."""
    provider.once(ITEMS, half_a_page)
    assert april().total_cents == 1979


def test_an_answer_that_is_not_json_is_refused(provider: Provider) -> None:
    """A proxy's page."""

    def page(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", "6")
        request.end_headers()
        request.wfile.write(b"<html>")

    provider.once(SUMMARY, page, times=99)
    with pytest.raises(ProviderError, match="does not answer, or not completely"):
        april()


def test_a_page_that_lacks_items_is_refused(provider: Provider) -> None:
    """It says three, sends two and names no next page."""
    two = {"invoice_items": provider.items[:2], "links": {}, "meta": {"total": 3}}
    provider.once(ITEMS, lambda request: request.answer(200, two), times=99)
    with pytest.raises(ProviderError, match="lists 3 invoice_items, and sent 2"):
        april()


@pytest.mark.long
def test_a_server_that_never_answers_is_reported(provider: Provider) -> None:
    """A timeout, three times."""
    over = threading.Event()

    def sleep(request: Handler) -> None:
        over.wait(20)

    provider.once(LIST, sleep, times=99)
    with pytest.raises(ProviderError, match="does not answer, or not completely"):
        april()
    over.set()


def test_a_refused_token_is_reported_and_not_tried_again(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """401; the message does not hold the token."""
    monkeypatch.setenv("ARCADIA_DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    with pytest.raises(ProviderError, match="refuses ARCADIA_DIGITALOCEAN_TOKEN") as refused:
        april()
    assert len(provider.asked) == 1
    assert "dop_v1_wrong" not in str(refused.value)


def test_a_month_that_is_not_billed_yet_is_reported(provider: Provider) -> None:
    """Nothing of April on the list."""
    provider.invoices = provider.invoices[:2]
    with pytest.raises(ProviderError, match="has no invoice of 2026-04 yet"):
        april()


def test_two_bills_of_a_month_are_not_guessed_between(provider: Provider) -> None:
    """Two of April on the list."""
    provider.invoices.append({**provider.invoices[-1], "invoice_uuid": "a second"})
    with pytest.raises(ProviderError, match="has 2 invoices of 2026-04"):
        april()


def test_a_bill_that_is_gone_is_reported(provider: Provider) -> None:
    """404 for what the list named."""
    provider.invoices[-1]["invoice_uuid"] = "gone"
    with pytest.raises(ProviderError, match="could not be found"):
        april()


def test_a_bill_that_does_not_add_up_is_refused(provider: Provider) -> None:
    """The list of items is whole, and a cent short of the total."""
    provider.items[0]["amount"] = "6.42"
    with pytest.raises(InvalidBill, match="does not add up"):
        april()


@pytest.mark.parametrize(
    "token",
    ["dop_v1_SECRET\n", "\rdop_v1_SECRET", "dop_v1_SECRET", "dop_v1_\N{LATIN SMALL LETTER E WITH ACUTE}", "two words"],
)
def test_a_token_is_never_in_a_message(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, world: World, token: str
) -> None:
    """Whatever is wrong with it: neither in the error nor in what Dagster keeps of the run."""
    monkeypatch.setenv("ARCADIA_DIGITALOCEAN_TOKEN", token)
    failed = world.month_costs("2026-04")
    assert not failed.success
    kept = " ".join(str(event) for event in failed.all_events)
    assert not any(part in kept for part in ("SECRET", "dop_v1", "two words"))


@pytest.mark.parametrize(
    "document",
    [
        {"invoice_items": ["x"], "meta": {"total": 1}},
        {"invoice_items": 5, "meta": {"total": 1}},
        {"invoice_items": [], "meta": [1]},
        {"invoice_items": [], "meta": {"total": "3"}},
        {"invoice_items": [None], "meta": {"total": 1}, "links": "x"},
        ["x"],
    ],
    ids=str,
)
def test_an_answer_of_another_shape_is_refused(provider: Provider, document: object) -> None:
    """In words, not as an error of ours."""
    provider.once(ITEMS, lambda request: request.answer(200, document), times=99)
    with pytest.raises(ProviderError, match=r"invalid list of invoice_items|invalid response"):
        april()


def test_pages_that_never_end_are_not_followed_for_ever(provider: Provider) -> None:
    """Each page names a next one, and is never empty: as many items as there are, and no more."""
    page = {"invoice_items": provider.items, "links": {"pages": {"next": "more"}}, "meta": {"total": 4}}
    provider.once(ITEMS, lambda request: request.answer(200, page), times=99)
    with pytest.raises(ProviderError, match="lists 4 invoice_items, and sent 6"):
        april()


def test_another_invoices_summary_is_refused(provider: Provider) -> None:
    """The list named one uuid, the summary has another."""
    provider.summary["invoice_uuid"] = "another"
    with pytest.raises(ProviderError, match="returned another invoice"):
        april()


def test_without_a_token_nothing_is_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which variable."""
    monkeypatch.delenv("ARCADIA_DIGITALOCEAN_TOKEN")
    with pytest.raises(ProviderError, match="ARCADIA_DIGITALOCEAN_TOKEN is not set"):
        april()
    assert provider.asked == []


def test_the_token_is_not_sent_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http is for this machine only."""
    for url in ("http://api.example.com", "https://[::1", "ftp://127.0.0.1", "api.digitalocean.com"):
        settings = Settings(None, Path("/nowhere"), APRIL, None, digitalocean_token="SECRET", digitalocean_url=url)
        with pytest.raises(ProviderError, match="must be an https address"):
            fetch(APRIL, settings)
        assert "SECRET" not in repr(settings)


def test_the_asset_fetches_the_bill_and_a_restated_one_later(provider: Provider, world: World) -> None:
    """With a token the job asks the provider; what it restates replaces the month, and the run says what moved."""
    world.rate("2026-04", "0.5")
    first = world.month_costs("2026-04")
    assert first.success
    assert world.query("select total_cents, total_from, revision, run_id from billing.cloud_invoices") == [
        (1979, "bill", 1, first.run_id)
    ]
    provider.items[0]["amount"] = "7.43"
    provider.summary["amount"] = "20.79"
    second = world.month_costs("2026-04")
    [metadata] = [m.metadata for m in second.asset_materializations_for_node("cloud_invoices")]
    assert metadata["this_run"].value == "fetched: restated"
    [record] = metadata["moved"].value.records  # type: ignore[union-attr]
    assert (record.data["resource"], record.data["difference"]) == ("1", "1.00")
    assert world.query("select cost_cents from cost_vs_revenue_by_month") == [(4158,)]


def test_a_month_that_the_provider_does_not_list_runs_on_the_bill_that_was_imported(
    provider: Provider, world: World
) -> None:
    """Without one it fails; the run says why it fetched nothing."""
    provider.invoices = []
    assert "has no invoice of 2026-04 yet" in failures(world.month_costs("2026-04"))[0]
    world.bill("2026-04", item("1.00", "a"), total=100)
    done = world.month_costs("2026-04")
    assert done.success
    [metadata] = [m.metadata for m in done.asset_materializations_for_node("cloud_invoices")]
    assert str(metadata["this_run"].value).startswith("nothing fetched: DigitalOcean has no invoice of 2026-04 yet")


@pytest.mark.long
def test_a_bill_that_cannot_be_fetched_leaves_the_one_that_stands(provider: Provider, world: World) -> None:
    """The run fails and says why; nothing is half-written."""
    assert world.month_costs("2026-04").success
    provider.once(ITEMS, half_a_page, times=99)
    failed = world.month_costs("2026-04")
    assert not failed.success
    assert "does not answer, or not completely" in failures(failed)[0]
    assert world.query("select total_cents, revision from billing.cloud_invoices") == [(1979, 1)]
