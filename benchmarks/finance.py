"""How fast finance is told of invoices beside the bare HTTP calls: `make bench-finance [N=10000]`.

Makes a month of N invoices with ten lines each in a PostgreSQL of its own and a receiver in a process of its own, which
reads each invoice as JSON and keeps its hash. Writes the outbox; sends its payloads bare, by the same client in as many
threads; then drains it. The last line of output is JSON: seconds, and `targets` says which of TARGETS this run met.
"""

import json
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import uvicorn

from arcadia_pipelines import embedded
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import Client
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database, migrations, outbox

MONTH = BillingMonth.parse("2026-04")
TARGETS = {"drain_over_bare_calls": ("<=", 3.0)}


def main(count: int) -> None:
    """Measure with so many invoices."""
    home, listening = Path(tempfile.mkdtemp(prefix="arcadia-bench-")), socket.create_server(("127.0.0.1", 0))
    receiver = multiprocessing.get_context("fork").Process(target=_receive, args=(listening,), daemon=True)
    receiver.start()
    try:
        url = embedded.start(home)
        os.environ["ARCADIA_FINANCE_URL"] = f"http://127.0.0.1:{listening.getsockname()[1]}"
        print(json.dumps({"invoices": count, **_measure(url, count)}))
    finally:
        embedded.stop(home)
        receiver.terminate()
        shutil.rmtree(home, ignore_errors=True)


def _measure(url: str, count: int) -> dict[str, Any]:
    on, client = database.engine(url), Client(Settings.from_environment())
    _fill(url, count)
    with database.month_transaction(on, MONTH) as connection:
        enqueue = _seconds(lambda: outbox.enqueue(connection, MONTH))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
        payloads = connection.execute("select invoice_id, payload from billing.finance_outbox").fetchall()
    with ThreadPoolExecutor(draining.THREADS) as threads:
        bare = _seconds(lambda: list(threads.map(lambda row: _put(client, *row), payloads)))
    drain = _seconds(lambda: draining.drain(on, client, MONTH))
    with psycopg.connect(url) as connection:
        done = connection.execute(
            "select count(*), sum(attempts) from billing.finance_outbox o join billing.tenant_invoices i"
            " on i.id = o.invoice_id and i.finance_invoice_id = o.finance_invoice_id where state = 'confirmed'"
        ).fetchone()
    assert done == (count, count), done
    over = drain / bare
    seconds = {"enqueue_seconds": enqueue, "bare_seconds": bare, "drain_seconds": drain, "drain_over_bare_calls": over}
    met = {name: over <= most for name, (_, most) in TARGETS.items()}
    return {**{name: round(value, 2) for name, value in seconds.items()}, "targets": met}


def _put(client: Client, invoice: UUID, payload: str) -> None:
    assert client.put(invoice, payload, None).document["finance_invoice_id"]


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _fill(url: str, count: int) -> None:
    migrations.migrate(database.engine(url))
    partition = f"billing.tenant_invoice_lines_{MONTH.start:%Y_%m}"
    template = (Path(__file__).parent / "api_data.sql").read_text()
    month = template.format(month=MONTH.start, end=MONTH.end, tenants=count, partition=partition)
    with psycopg.connect(url) as connection:
        for statement in (
            "insert into cloud.tenants"
            f" select 'tenant-' || lpad(n::text, 7, '0'), 'Tenant ' || n from generate_series(1, {count}) n",
            "insert into cloud.cloud_deployments"
            " select md5('deployment ' || n)::uuid, 'tenant-' || lpad(n::text, 7, '0'), 'web-' || n"
            f" from generate_series(1, {count}) n",
            month,
        ):
            connection.execute(statement.encode())


def _receive(listening: socket.socket) -> None:
    """A ledger that takes everything."""
    taken: dict[str, str] = {}

    async def app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        invoice = json.loads(body)
        taken[invoice["invoice_id"]] = invoice["content_sha256"]
        answer = json.dumps({"finance_invoice_id": f"F-{invoice['number']}", "etag": '"1"'}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else 10_000)
