"""What a client cannot take: connections, time, memory and requests without end. Real sockets on the real server."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from arcadia_pipelines.api import limits, observe
from arcadia_pipelines_tests.api.conftest import ADMIN, Serve, tenant
from arcadia_pipelines_tests.world import World

QUOTE = "POST /api/v1/quotes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def connected(api: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=20) as client:
        yield client


def said(client: socket.socket) -> bytes:
    """All that the server sends until it closes the connection; it may break it."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            answer += part
    return answer


def drip(client: socket.socket, byte: bytes, over: threading.Event) -> None:
    """A byte every twentieth of a second, for as long as it is taken."""
    with contextlib.suppress(OSError):
        while not over.wait(0.05):
            client.sendall(byte)


def dripped(api: httpx.Client, first: bytes, byte: bytes) -> bytes:
    """What is said to a client that sends the first part at once, and then a byte now and then, without end."""
    over = threading.Event()
    with connected(api) as client:
        client.sendall(first)
        dripping = threading.Thread(target=drip, args=(client, byte, over))
        dripping.start()
        try:
            return said(client)
        finally:
            over.set()
            dripping.join()


@pytest.mark.long
def test_a_client_that_takes_its_time_is_not_waited_for(
    serve: Serve, billed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads and bodies that trickle, that stop, that never begin; after an answer, too. Others are served meanwhile."""
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(observe, "BODY_SECONDS", 0.4)
    api = serve(billed.url)
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    for first, byte in (
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x"),
        (health + b"GET /health HTTP/1.1\r\nX-Slow: ", b"x"),
    ):
        answer = dripped(api, first, byte)
        assert b"HTTP/1.1 408 " in answer, first
        assert answer.startswith(b"HTTP/1.1 200 ") is first.startswith(health), first
    for body in (b"Content-Length: 60000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1000\r\n"):
        answer = dripped(api, f"{QUOTE}Authorization: {ADMIN['Authorization']}\r\n".encode() + body, b" ")
        head, _, problem = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 "), body
        assert b"connection: close" in head.lower()
        assert json.loads(problem)["type"] == "urn:arcadia:problem:too-slow"
        # Nobody reads the body of a request that is refused; what is sent of it keeps no connection open.
        assert dripped(api, QUOTE.encode() + body, b" ").startswith(b"HTTP/1.1 401 "), body
    with connected(api) as silent:
        assert said(silent) == b""
    with connected(api) as idle:
        idle.sendall(health)
        begun = time.monotonic()
        assert said(idle).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - begun < 5  # uvicorn's own, had it not been cut off
    assert api.get("/api/v1/invoices", headers=ADMIN).status_code == 200


def test_a_head_without_end_is_refused_before_it_fills_the_memory(serve: Serve, billed: World) -> None:
    """One header that goes on, many, an address or a trailer that does: 431, or broken off, after some hundred KiB."""
    api = serve(billed.url)
    for first, part in (
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 4096),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X-Many: x\r\n" * 400),
        (b"GET /", b"x" * 4096),
        (QUOTE.encode() + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Many: x\r\n" * 400),
        (QUOTE.encode() + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ", b"x" * 4096),
    ):
        with connected(api) as client:
            client.sendall(first)
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 64 * 2**20:  # what the sockets hold is far less
                    client.sendall(part)
                    sent += len(part)
            assert sent < 32 * 2**20, first
            # Broken off, its answer may be lost.
            assert said(client)[:13] in (b"HTTP/1.1 401 " if b"chunked" in first else b"HTTP/1.1 431 ", b""), first
    with connected(api) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ")
        assert api.get("/health").status_code == 200  # it has been read by then
        client.sendall(b"x" * 70_000)
        head, _, problem = said(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 ")
        assert json.loads(problem)["type"] == "urn:arcadia:problem:head-too-large"


@pytest.mark.long
def test_who_does_not_read_what_it_asked_for_is_cut_off(
    serve: Serve, billed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty large answers to one connection that takes none: it ends; so does one with a thousand requests at once."""
    monkeypatch.setattr(limits, "WRITE_SECONDS", 0.3)
    api = serve(billed.url)
    with connected(api) as client:
        client.settimeout(60)
        with contextlib.suppress(ConnectionError):
            client.sendall(b"GET /dashboard/vega.js HTTP/1.1\r\nHost: x\r\n\r\n" * 40)
        time.sleep(1)
        assert said(client).count(b"HTTP/1.1 200 ") < 40  # together far more than the sockets hold
    with connected(api) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(b"GET /health HTTP/1.1\r\n\r\n" * 1000)
        answers = said(client)
        assert answers.count(b"HTTP/1.1 200 ") < 1000
        assert b"HTTP/1.1 400 " in answers
    assert api.get("/health").status_code == 200


def test_connections_and_requests_have_a_limit_and_the_rest_is_told_when_to_come_again(
    serve: Serve, billed: World
) -> None:
    """Four connections: the fifth's requests are 503, but /health; a ninth is closed. Three requests a minute each."""
    api = serve(billed.url, api_clients=4, api_requests=3)
    with contextlib.ExitStack() as crowd:
        held = [crowd.enter_context(connected(api)) for _ in range(4)]
        refused = api.get("/api/v1/invoices", headers=ADMIN)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["type"] == "urn:arcadia:problem:unavailable"
        assert refused.json()["request_id"] == refused.headers["x-request-id"]
        assert api.get("/health").status_code == 200
        held += [crowd.enter_context(connected(api)) for _ in range(3)]
        with connected(api) as ninth:
            assert said(ninth) == b""
    api.close()
    api = httpx.Client(base_url=api.base_url, trust_env=False)
    with api:
        deadline = time.monotonic() + 20
        while (answer := api.get("/api/v1/invoices?limit=0", headers=tenant("nova"))).status_code == 503:
            assert time.monotonic() < deadline  # until the server has noticed that they are gone
        assert answer.status_code == 422  # it counts, too
        path = "/api/v1/invoices"
        assert [api.get(path, headers=ADMIN).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert [api.get(path, headers=tenant("pilot")).status_code for _ in range(3)] == [200] * 3
        over = api.post("/api/v1/quotes", headers=tenant("pilot"), json={"plan": "studio"})
        assert (over.status_code, over.headers["retry-after"]) == (429, "20")  # a third of a minute
        assert over.headers["content-type"] == "application/problem+json"
        assert over.json()["type"] == "urn:arcadia:problem:too-many-requests"
        assert api.get(path).status_code == 401
        assert api.get("/health").status_code == 200
