"""How fast the read API is beside the bare query and beside its own /health: `make bench-api [N=1000000]`.

Makes N invoices with ten lines each in a PostgreSQL of its own, serves them with `arcadia api` on 127.0.0.1, and asks
over 32 connections, each of which sends its next request when the answer to the last is in; then a thousand requests
come at once. The client and PostgreSQL take their part of the same cores. The last line of output is JSON; times are
milliseconds, rates are a second, and `targets` says which of TARGETS this run met: ratios, all of one run.
"""

import asyncio
import datetime as dt
import itertools
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import psycopg
import uvicorn

from arcadia_pipelines import embedded
from arcadia_pipelines.api import queries
from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import database, migrations

CONNECTIONS = 32
SECONDS = 8.0
WARM_UP_SECONDS = 2.0  # plans are cached, connections are up
MONTHS = 24
PAGE = 50
BURST = 1000  # requests at once
TARGETS = {
    "list_page_rate_over_health": (">=", 0.2),
    "invoice_rate_over_health": (">=", 0.2),
    "list_page_p99_over_bare": ("<=", 5),
    "invoice_p99_over_bare": ("<=", 5),
    "last_page_time_over_first": ("<=", 1.2),  # no slower, but for noise
}
ADMIN = Principal("platform_admin")
Ask = Callable[[], Awaitable[object]]


def main(count: int) -> None:
    """Measure with so many invoices."""
    home, secret = Path(tempfile.mkdtemp(prefix="arcadia-bench-")), secrets.token_urlsafe(48)
    try:
        url = embedded.start(home)
        started = time.monotonic()
        _fill(url, count)
        print(f"{count} invoices, {count * 10} lines: written in {time.monotonic() - started:.0f} s", flush=True)
        with _served(url, secret) as port:
            loop = uvicorn.Config("").get_loop_factory()
            with asyncio.Runner(loop_factory=loop) as runner:
                figures = runner.run(_measure(url, port, _token(secret)))
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps({"invoices": count, "lines": count * 10, "connections": CONNECTIONS, **figures}))


def _fill(url: str, count: int) -> None:
    migrations.migrate(database.engine(url))
    tenants = count // MONTHS
    month = BillingMonth.parse("2024-01")
    template = (Path(__file__).parent / "api_data.sql").read_text()
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into cloud.tenants"
            " select 'tenant-' || lpad(n::text, 7, '0'), 'Tenant ' || n from generate_series(1, %s) n",
            [tenants],
        )
        connection.execute(
            "insert into cloud.cloud_deployments"
            " select md5('deployment ' || n)::uuid, 'tenant-' || lpad(n::text, 7, '0'), 'web-' || n"
            " from generate_series(1, %s) n",
            [tenants],
        )
    for _ in range(MONTHS):
        text = template.format(
            month=month.start,
            end=month.end,
            tenants=tenants,
            partition=f"billing.tenant_invoice_lines_{month.start:%Y_%m}",
        )
        with psycopg.connect(url) as connection:
            connection.execute(text.encode())
        month = BillingMonth(month.end)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


@contextmanager
def _served(url: str, secret: str) -> Iterator[int]:
    """`arcadia api` on a free port, as a process of its own, its log in the bin."""
    environment = os.environ | {
        "ARCADIA_DATABASE_URL": url,
        "ARCADIA_API_SECRET": secret,
        "ARCADIA_API_ISSUER": "benchmark",
        "ARCADIA_API_AUDIENCE": "benchmark",
        "ARCADIA_API_REQUESTS": "9999999",  # one principal asks for all
        "ARCADIA_API_CLIENTS": str(2 * BURST),  # the burst is to reach the queue for the database
    }
    command = [str(Path(sys.executable).with_name("arcadia")), "api", "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            yield int(said.split("http://127.0.0.1:")[1].split()[0])
        finally:
            process.terminate()


def _token(secret: str) -> str:
    claims = {"iss": "benchmark", "aud": "benchmark", "exp": int(time.time()) + 86400, "role": "platform_admin"}
    return jwt.encode(claims, secret, "HS256")


async def _measure(url: str, port: int, token: str) -> dict[str, Any]:
    some = await _some_invoices(url)
    invoices = itertools.cycle(some)
    deep = queries.Place(BillingMonth.parse("2024-01").start, max(some)[0]).cursor
    paths: dict[str, Callable[[], str]] = {
        "health": lambda: "/health",
        "list_page": lambda: "/api/v1/invoices",
        "deep_page": lambda: f"/api/v1/invoices?cursor={deep}",
        "invoice": lambda: f"/api/v1/invoices/{next(invoices)[0]}",
    }
    page, parameters = queries.list_query(ADMIN, queries.Wanted(), None, PAGE)

    async def bare_page(connection: Any) -> None:
        await (await connection.execute(page, parameters)).fetchall()

    async def bare_invoice(connection: Any) -> None:
        invoice_id, _ = next(invoices)
        await (await connection.execute(*queries.invoice_query(ADMIN, invoice_id))).fetchall()

    figures: dict[str, Any] = {}
    for name, path in paths.items():
        figures[name] = await _over_http(port, token, path, CONNECTIONS)
        print(f"{name:16}", figures[name], flush=True)
    for name, ask in {"bare_list_page": bare_page, "bare_invoice": bare_invoice}.items():
        figures[name] = await _over_sql(url, ask)
        print(f"{name:16}", figures[name], flush=True)
    for name in ("list_page", "deep_page"):
        figures[f"{name}_alone"] = await _over_http(port, token, paths[name], 1)
        print(f"{name:10} alone", figures[f"{name}_alone"], flush=True)
    for name in ("list_page", "invoice"):
        figures[f"{name}_p99_over_bare"] = round(figures[name]["p99"] / figures[f"bare_{name}"]["p99"], 2)
        figures[f"{name}_rate_over_health"] = round(figures[name]["rate"] / figures["health"]["rate"], 2)
    alone = figures["deep_page_alone"]["p50"] / figures["list_page_alone"]["p50"]
    figures["last_page_time_over_first"] = round(alone, 2)
    figures["burst"] = await _burst(port, token)
    figures["targets"] = {
        f"{name} {sign} {bound}": figures[name] >= bound if sign == ">=" else figures[name] <= bound
        for name, (sign, bound) in TARGETS.items()
    }
    return figures


async def _burst(port: int, token: str) -> dict[str, float]:
    """A list page asked for by so many clients in the same instant: how many had it, how many a 503, and how late."""
    clients = [await _Client.connect(port, token) for _ in range(BURST)]
    started = time.perf_counter()
    statuses = await asyncio.gather(*(client.ask("/api/v1/invoices") for client in clients))
    took = time.perf_counter() - started
    for client in clients:
        client.close()
    counted = {str(status): statuses.count(status) for status in sorted(set(statuses))}
    return {**counted, "last_after": round(took * 1000)}


async def _over_http(port: int, token: str, path: Callable[[], str], connections: int) -> dict[str, float]:
    clients = [await _Client.connect(port, token) for _ in range(connections)]
    try:
        return await _load([lambda client=client: client.get(path()) for client in clients])  # type: ignore[misc]
    finally:
        for client in clients:
            client.close()


async def _over_sql(url: str, ask: Callable[[Any], Awaitable[object]]) -> dict[str, float]:
    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(CONNECTIONS)]
    try:
        return await _load([lambda connection=connection: ask(connection) for connection in connections])  # type: ignore[misc]
    finally:
        for connection in connections:
            await connection.close()


async def _some_invoices(url: str) -> list[tuple[uuid.UUID, dt.date]]:
    """Ids and months, all over the table."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "select id, period_start from billing.tenant_invoices tablesample bernoulli (1)"
        )
        found = [(invoice_id, period_start) for invoice_id, period_start in await cursor.fetchall()]
    random.Random(1).shuffle(found)
    return found


async def _load(asks: list[Ask]) -> dict[str, float]:
    """Every asker asks again and again: how many answers a second, and how long one takes, once all is warm."""
    took: list[tuple[float, float]] = []
    begin = time.perf_counter() + WARM_UP_SECONDS
    until = begin + SECONDS

    async def again(ask: Ask) -> None:
        while (started := time.perf_counter()) < until:
            await ask()
            took.append((started, time.perf_counter() - started))

    await asyncio.gather(*(again(ask) for ask in asks))
    counted = sorted(seconds for started, seconds in took if started >= begin)
    p50, p99 = (round(counted[int(len(counted) * share)] * 1000, 2) for share in (0.5, 0.99))
    return {"rate": round(len(counted) / SECONDS), "p50": p50, "p99": p99}


class _Client(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time; as little work as can be, since the server shares the cores."""

    @classmethod
    async def connect(cls, port: int, token: str) -> "_Client":
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port)
        client._rest = f" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        return client

    def connection_made(self, transport: Any) -> None:
        self._transport, self._head, self._missing = transport, b"", 0

    def data_received(self, data: bytes) -> None:
        if self._missing:  # of the body
            self._missing -= len(data)
        else:
            self._head += data
            if (end := self._head.find(b"\r\n\r\n")) < 0:
                return
            length = self._head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._missing = int(length) - (len(self._head) - end - 4)
        if not self._missing:
            status, self._head = int(self._head[9:12]), b""
            self._answer.set_result(status)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionError("the API closed the connection"))

    async def ask(self, path: str) -> int:
        """The status of the answer."""
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path}{self._rest}".encode())
        return await self._answer

    async def get(self, path: str) -> None:
        """Raises RuntimeError for anything but 200."""
        if await self.ask(path) != 200:
            raise RuntimeError(f"{path} was not answered with 200")

    def close(self) -> None:
        self._transport.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
