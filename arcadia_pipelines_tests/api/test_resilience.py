"""The API while something goes on: a month is run again, connections run out, PostgreSQL restarts, it is shut down."""

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from arcadia_pipelines import embedded
from arcadia_pipelines.api import app, queries
from arcadia_pipelines_tests.api.conftest import ADMIN, AUDIENCE, ISSUER, SECRET, Serve, bearer, tenant, token
from arcadia_pipelines_tests.api.test_invoices import pages
from arcadia_pipelines_tests.api.test_tokens import RSA_KEY, Issuer
from arcadia_pipelines_tests.world import World

ARCADIA = [sys.executable, "-c", "from arcadia_pipelines.cli.main import main; main()"]
UNSET = dict.fromkeys(
    ("ARCADIA_DATABASE_URL", "ARCADIA_API_JWKS", "ARCADIA_API_SECRET", "ARCADIA_API_ISSUER", "ARCADIA_API_AUDIENCE"), ""
)


@contextmanager
def command(folder: Path, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client, Path]]:
    """`arcadia api` on a free port: the process, a client for it, and the file of its log."""
    log = folder / "api.log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            [*ARCADIA, "api", "--port", "0"],
            env=os.environ | UNSET | environment,
            stdout=written,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            base = said.split("the read API is on ")[1].split()[0]
            with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
                until(lambda: answers(client))
                yield process, client, log
        finally:
            process.terminate()
            process.wait(30)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what must come; it fails only where it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def locked(url: str, tables: str = "billing.tenant_invoices") -> Iterator[None]:
    """Whoever reads the tables waits."""
    with psycopg.connect(url) as connection:
        connection.execute(f"lock table {tables} in access exclusive mode".encode())
        yield
        connection.rollback()


def waiting(url: str) -> int:
    """How many of the API's statements wait for a lock."""
    [(number,)] = World(url).query(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    return int(number)


def forty_invoices(world: World) -> None:
    """April of forty tenants, each with a plan of $50.00 and 100 droplet hours at 1 c."""
    world.plan("studio", 5000, {"droplet_hours": (0, 1)})
    for number in range(40):
        world.tenant(f"t{number}")
        world.deployment(f"t{number}", f"web{number}", "studio")
        world.use(f"web{number}", "droplet_hours", 100)
    world.publish("2026-04")


@pytest.mark.long
def test_while_a_month_is_run_again_no_invoice_is_seen_twice_or_half(serve: Serve, world: World) -> None:
    """Forty tenants, usage added and the month run again twice, while lists are paged and invoices read."""
    forty_invoices(world)
    client, over = serve(world.url), threading.Event()
    seen = {"lists": 0, "invoices": 0}
    revisions = set()

    def page() -> None:
        while not over.is_set():
            listed = [invoice for page in pages(client, ADMIN, limit=7) for invoice in page]
            assert len({invoice["id"] for invoice in listed}) == len(listed) == 40
            seen["lists"] += 1

    def read() -> None:
        ids = [invoice["id"] for invoice in pages(client, ADMIN, limit=200)[0]]
        while not over.is_set():
            for invoice_id in ids:
                found = client.get(f"/api/v1/invoices/{invoice_id}", headers=ADMIN).json()
                lines = found["lines"]
                assert [line["line_no"] for line in lines] == [1, 2, 3]
                assert sum(line["amount_cents"] for line in lines) == found["total_cents"]
                # 5000 + 100 c + as much for each revision after the first
                assert found["subtotal_cents"] == 5000 + 100 * found["revision"]
                revisions.add(found["revision"])
                seen["invoices"] += 1

    with ThreadPoolExecutor(4) as readers:
        readings = [readers.submit(reading) for reading in (page, page, read, read)]
        try:
            for _ in range(2):
                for number in range(40):
                    world.use(f"web{number}", "droplet_hours", 100)
                world.publish("2026-04")
        finally:
            over.set()
        for reading in readings:
            reading.result()
    assert min(seen.values()) > 3
    assert len(revisions) > 1


@pytest.mark.long
def test_a_sheet_is_of_one_instant_while_a_month_is_run_again(
    serve: Serve, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty invoices, read seven at a time, over two re-runs of the month: every sheet has one revision of them all."""
    monkeypatch.setattr(queries, "SHEET_ROWS", 7)
    forty_invoices(world)
    client, over = serve(world.url), threading.Event()
    seen = list[set[tuple[str, str]]]()

    def read() -> None:
        while not over.is_set():
            sheet = client.get("/api/v1/invoices.csv", headers=ADMIN).raise_for_status().text.removeprefix("\ufeff")
            rows = list(csv.DictReader(io.StringIO(sheet)))
            assert len({row["id"] for row in rows}) == len(rows) == 40
            seen.append({(row["revision"], row["subtotal"]) for row in rows})

    with ThreadPoolExecutor(4) as readers:
        readings = [readers.submit(read) for _ in range(4)]
        try:
            for _ in range(2):
                for number in range(40):
                    world.use(f"web{number}", "droplet_hours", 100)
                world.publish("2026-04")
            after = len(seen)
            until(lambda: len(seen) > after + 4)
        finally:
            over.set()
        for reading in readings:
            reading.result()
    # 50.00 + 1.00 for each hundred hours
    assert {frozenset(one) for one in seen} == {
        frozenset({("1", "51.00")}),
        frozenset({("2", "52.00")}),
        frozenset({("3", "53.00")}),
    }


@pytest.mark.long
def test_a_sheet_that_cannot_be_read_is_an_error_and_a_slow_reader_holds_no_connection(
    serve: Serve, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection. While it is held up the sheet is 503; a reader who stops after the first bytes blocks nobody."""
    monkeypatch.setattr(queries, "WAIT_SECONDS", 0.2)
    World(url).query(
        "insert into billing.tenant_invoices (tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, issued_at, invoice_number, content_sha256, usage_cutoff, run_id)"
        " select repeat('t', 200) || n, '2026-04-01', '2026-05-01', n, 0, n, now(), 'N' || n, repeat('0', 64), now(),"
        " '' from generate_series(1, 50000) n"
    )
    client = serve(url, api_connections=1)
    with ThreadPoolExecutor(1) as first:
        with locked(url):
            late = first.submit(client.get, "/api/v1/invoices", headers=ADMIN)
            until(lambda: waiting(url) == 1)
            assert client.get("/api/v1/invoices.csv", headers=ADMIN).status_code == 503
        assert late.result().status_code == 200
    with client.stream("GET", "/api/v1/invoices.csv", headers=ADMIN) as slow:  # 16 MB: more than the sockets hold
        first_part = next(slow.iter_bytes())
        assert first_part.startswith(b"\xef\xbb\xbfinvoice_number")
        assert client.get("/api/v1/invoices", headers=ADMIN).status_code == 200


def test_when_connections_run_out_the_rest_is_told_to_come_again_and_liveness_holds(
    serve: Serve, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection, held up by a lock: it is answered late, the others soon with 503; then all is as before."""
    monkeypatch.setattr(queries, "WAIT_SECONDS", 0.2)
    client = serve(url, api_connections=1)
    with ThreadPoolExecutor(1) as first:
        with locked(url):
            late = first.submit(client.get, "/api/v1/invoices", headers=ADMIN)
            until(lambda: waiting(url) == 1)
            with ThreadPoolExecutor(8) as others:
                refused = list(others.map(lambda _: client.get("/api/v1/invoices", headers=ADMIN), range(16)))
            assert {answer.status_code for answer in refused} == {503}
            assert {answer.headers["retry-after"] for answer in refused} == {"1"}
            assert client.get("/health").status_code == 200
            assert client.get("/ready").status_code == 503
        assert late.result().status_code == 200
    assert client.get("/api/v1/invoices", headers=ADMIN).status_code == 200
    assert client.get("/ready").status_code == 200


def test_a_burst_is_told_to_come_again_at_once_and_does_not_pile_up(
    serve: Serve, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection and a queue of two: all others have 503 while the lock is held. A second quote waits briefly."""
    monkeypatch.setattr(queries, "LONGEST_QUEUE", 2)
    monkeypatch.setattr(queries, "WAIT_SECONDS", 60)
    monkeypatch.setattr(app, "QUOTES_AT_ONCE", 1)
    client = serve(url, api_connections=1)

    def ask(_: int) -> httpx.Response:
        return client.get("/api/v1/invoices", headers=ADMIN)

    def quote(_: int) -> httpx.Response:
        return client.post("/api/v1/quotes", headers=ADMIN, json={"plan": "studio"})

    with ThreadPoolExecutor(20) as burst:
        with locked(url, "billing.tenant_invoices, cloud.plans"):
            quoted, asked = burst.submit(quote, 0), [burst.submit(ask, 0)]
            until(lambda: waiting(url) == 2)
            asked += [burst.submit(ask, number) for number in range(12)]
            until(lambda: sum(one.done() for one in asked) == 10)
            refused = [one.result() for one in asked if one.done()]
            monkeypatch.setattr(queries, "WAIT_SECONDS", 0.2)
            refused.append(quote(1))
        assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "1")}
        assert [one.result().status_code for one in asked].count(200) == 3
        assert quoted.result().status_code == 422  # there is no such plan


def test_a_database_that_refuses_is_our_mistake_and_no_detail_of_it_is_told(serve: Serve, world: World) -> None:
    """Somebody revoked the role's right: 500 without SQL, not ready, and back once it is granted."""
    client = serve(world.url)
    world.query("revoke select on billing.tenant_invoices from arcadia_api")
    answer = client.get("/api/v1/invoices", headers=ADMIN)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "tenant_invoices" not in answer.text
    assert client.get("/ready").status_code == 503
    world.query("select billing.admit_api()")
    assert client.get("/api/v1/invoices", headers=ADMIN).status_code == 200


@pytest.mark.long
def test_a_newcomer_asks_with_a_printed_token_and_postgresql_may_restart_under_load(tmp_path: Path) -> None:
    """`arcadia api` and `arcadia token` with nothing configured; while PostgreSQL is down only 503, then 200 again."""
    home = tmp_path / "home"
    try:
        with command(tmp_path, ARCADIA_HOME=str(home)) as (_, client, _):
            printed = subprocess.check_output(
                [*ARCADIA, "token", "--role", "tenant", "--tenant", "pilot"],
                env=os.environ | UNSET | {"ARCADIA_HOME": str(home)},
                text=True,
            ).strip()
            assert stat.S_IMODE((home / "api-secret").stat().st_mode) == 0o600
            restart_under_load(home, client, bearer(printed))
    finally:
        embedded.stop(home)


def restart_under_load(home: Path, client: httpx.Client, headers: dict[str, str]) -> None:
    statuses, over = list[int](), threading.Event()

    def load() -> None:
        while not over.is_set():
            statuses.append(client.get("/api/v1/invoices", headers=headers).status_code)
            assert client.get("/health").status_code == 200

    def sees(status: int) -> Callable[[], bool]:
        start = len(statuses)
        return lambda: status in statuses[start:]

    with ThreadPoolExecutor(6) as clients:
        loads = [clients.submit(load) for _ in range(6)]
        try:
            until(sees(200))
            embedded.stop(home)
            until(sees(503))
            assert client.get("/ready").status_code == 503
            embedded.start(home)
            until(sees(200))
            until(lambda: client.get("/ready").status_code == 200)
        finally:
            over.set()
        for one in loads:
            one.result()
    assert set(statuses) == {200, 503}


@pytest.mark.long
def test_a_shutdown_finishes_what_is_under_way_and_the_log_is_json_without_secrets(tmp_path: Path, url: str) -> None:
    """A request waits for a lock when SIGTERM comes: it is answered, new ones are not, and the exit code is 0."""
    environment = {
        "ARCADIA_DATABASE_URL": url,
        "ARCADIA_API_SECRET": SECRET,
        "ARCADIA_API_ISSUER": ISSUER,
        "ARCADIA_API_AUDIENCE": AUDIENCE,
    }
    bad = token(key="another secret, quite as long as it has to be for HMAC with any of the algorithms")
    with command(tmp_path, **environment) as (process, client, log), ThreadPoolExecutor(1) as slow:
        client.get(f"/api/v1/invoices?cursor={token()[:64]}", headers=tenant("pilot"))
        client.get(f"/api/v1/invoices?access_token={token()}", headers=bearer(bad))
        with locked(url):
            late = slow.submit(client.get, "/api/v1/invoices", headers=ADMIN | {"X-Request-ID": "the-late-one"})
            until(lambda: waiting(url) == 1)
            process.send_signal(signal.SIGTERM)
            until(lambda: "Shutting down" in log.read_text())
        assert late.result().status_code == 200
        assert process.wait(30) == 0
        assert process.stderr is not None
        warned = process.stderr.read()
        said = log.read_text() + warned
    # The tests' login is a superuser.
    assert "can do more than read: give it one with arcadia_api and arcadia_reprice alone" in warned
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    requests = {line["request_id"]: line for line in lines if line["message"] == "request"}
    assert requests["the-late-one"].items() >= {
        ("method", "GET"), ("route", "/api/v1/invoices"), ("status", 200), ("role", "platform_admin"),
    }  # fmt: skip
    assert sorted(line["status"] for line in requests.values() if line["path"] != "/health") == [200, 400, 401]
    [asked] = [line for line in requests.values() if line["status"] == 400]
    assert (asked["role"], asked["tenant_id"]) == ("tenant", "pilot")
    for secret in (SECRET, token()[:20], bad[-20:], url.split(":")[2].split("@")[0]):
        assert secret not in said


@pytest.fixture
def readers_url(url: str) -> Iterator[str]:
    """The database with a login that has arcadia_api alone."""
    name = f"reader_{uuid.uuid4().hex}"
    World(url).query(f"create role {name} login password 'secret' in role arcadia_api")
    yield f"postgresql://{name}:secret@{url.rpartition('@')[2]}"
    World(url).query(f"drop role {name}")


@pytest.mark.long
def test_a_shutdown_does_not_wait_for_an_issuer_that_hangs(tmp_path: Path, readers_url: str) -> None:
    """It sends a byte of its key set now and then; the request that wants the key has its 503, and that is all.

    The login is the one that is recommended: it is enough, and there is nothing to warn of.
    """
    environment = {"ARCADIA_DATABASE_URL": readers_url, "ARCADIA_API_ISSUER": ISSUER, "ARCADIA_API_AUDIENCE": AUDIENCE}
    with Issuer().running() as issuer:
        issuer.hangs = "document"
        with (
            command(tmp_path, ARCADIA_API_JWKS=issuer.url, **environment) as (process, client, _),
            ThreadPoolExecutor(1) as slow,
        ):
            headers = bearer(token(key=RSA_KEY, alg="RS256", kid="one"))
            late = slow.submit(client.get, "/api/v1/invoices", headers=headers)
            until(lambda: issuer.asked == 1)
            assert client.get("/ready").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert late.result().status_code == 503
            assert process.wait(20) == 0
            assert issuer.asked == 1
            assert process.stderr is not None
            assert "warning" not in process.stderr.read()


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["token", "--role", "tenant"], {}, "--tenant ID"),
        (["token", "--role", "platform_admin"], {"ARCADIA_API_JWKS": "https://id.example.com/jwks"}, "your issuer"),
        (["token", "--role", "platform_admin"], {"ARCADIA_DATABASE_URL": "postgresql://x"}, "ARCADIA_API_JWKS"),
        (
            ["api"],
            {
                "ARCADIA_DATABASE_URL": "{empty}",
                "ARCADIA_API_SECRET": SECRET,
                "ARCADIA_API_ISSUER": "i",
                "ARCADIA_API_AUDIENCE": "a",
            },
            "arcadia db migrate",
        ),
        (["api"], {"ARCADIA_API_CONNECTIONS": "many"}, "ARCADIA_API_CONNECTIONS"),
    ],
)
def test_the_commands_say_in_one_line_what_is_missing(
    tmp_path: Path, empty_url: str, arguments: list[str], environment: dict[str, Any], said: str
) -> None:
    given = {name: value.format(empty=empty_url) for name, value in environment.items()}
    done = subprocess.run(
        [*ARCADIA, *arguments],
        env=os.environ | UNSET | {"ARCADIA_HOME": str(tmp_path)} | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert (len(done.stderr.splitlines()), done.stdout) == (1, "")
