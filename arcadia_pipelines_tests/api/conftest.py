"""The API over real HTTP: uvicorn on a port of its own, over the run's embedded PostgreSQL."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from arcadia_pipelines.api import limits
from arcadia_pipelines.api.app import create_app
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.prices import stored, text
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.databases import TemplateOf, copy_of
from arcadia_pipelines_tests.world import World, sample_data

SECRET = "a secret of the tests, long enough for every algorithm that a token could be signed with"
ISSUER, AUDIENCE = "https://id.example.com", "arcadia-api"

Serve = Callable[..., httpx.Client]


def token(role: str | None = "platform_admin", tenant: object = None, key: Any = SECRET, **changes: Any) -> str:
    """A token; `changes` replace claims, None leaves one out; `alg` and `kid` are the header's."""
    algorithm, kid = changes.pop("alg", "HS256"), changes.pop("kid", None)
    claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "role": role}
    claims = {name: value for name, value in {**claims, "tenant_id": tenant, **changes}.items() if value is not None}
    return jwt.encode(claims, key, algorithm, {"kid": kid} if kid else None)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


ADMIN = bearer(token(exp=int(time.time()) + 3600))  # a whole run of the tests, however slow


def tenant(name: str) -> dict[str, str]:
    return bearer(token("tenant", name))


@contextlib.contextmanager
def served(url: str, **settings: Any) -> Iterator[httpx.Client]:
    """The API on the database, in a thread; a client for it without a token."""
    defaults: dict[str, Any] = {"api_issuer": ISSUER, "api_audience": AUDIENCE}
    if "api_jwks" not in settings:
        defaults["api_secret"] = SECRET
    given = Settings(url, Path("/nowhere"), BillingMonth.parse("2026-01"), None, **defaults | settings)
    server = limits.server(create_app(given), given)
    server.config.timeout_graceful_shutdown = 5
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a database for the test; servers end with it."""
    with contextlib.ExitStack() as stack:
        yield lambda url, **settings: stack.enter_context(served(url, **settings))


def invoice_march_and_april(world: World) -> None:
    """The sample data, and these months as `billed` says."""
    sample_data(world)
    world.publish("2026-03")
    world.publish("2026-04")
    others = [tenant for tenant in sorted(world.invoices("2026-04")) if tenant != "pilot"]
    for tenant_id, status in zip(others[:1] + others, ("void", "draft", "paid", "void"), strict=False):
        world.query(
            "update billing.tenant_invoices set status = %s where tenant_id = %s and period_start = '2026-04-01'",
            status,
            tenant_id,
        )


@pytest.fixture(scope="session")
def billed(server_url: str, template_of: TemplateOf) -> Iterator[World]:
    """The sample's March and April, invoiced, for tests that only look.

    In April the first tenants but the pilot are draft, paid and void; the pilot's invoice is issued.
    """
    with copy_of(server_url, template_of(invoice_march_and_april)) as url, World(url).connected() as world:
        yield world


@pytest.fixture(scope="session")
def api(billed: World) -> Iterator[httpx.Client]:
    """The API over `billed`, for tests that only look."""
    with served(billed.url) as client:
        yield client


@pytest.fixture(scope="session")
def drafted(billed: World) -> str:
    """The tenant whose April is a draft."""
    [(name,)] = billed.query("select tenant_id from billing.tenant_invoices where status = 'draft'")
    return str(name)


def bill(world: World, month: str, usd_per_aud: str | None) -> None:
    """A provider's bill of the month, allocated; with a rate or without.

    Each deployment that is invoiced has Droplets for two fifths of its revenue's cents and 1.50, so that small ones
    lose money, and Volumes for 2.50; the pilot's first has a product that nobody mapped for 0.99, a credit of -5.00 and
    a tax of 3.21; a load balancer for 12.34 is nobody's. All of that in US dollars.
    """
    with psycopg.connect(world.url) as connection:
        connection.execute(
            """
            create temp table item as
            select row_number() over (order by rank, tenant_id, deployment_id) as line_no, kind, product,
                   deployment_id, tenant_id, usd_cents,
                   sum(usd_cents) over (order by rank, tenant_id, deployment_id) as upto
            from (
                select rank, 'usage' as kind, product, deployment_id, tenant_id,
                       case rank when 1 then revenue_cents * 2 / 5 + 150 else 250 end as usd_cents
                from billing.revenue_by_deployment, (values (1, 'Droplets'), (2, 'Volumes')) p (rank, product)
                where period_start = %(month)s and deployment_id is not null
                union all select 4, 'usage', 'Load Balancers', null, null, 1234
                union all select rank, kind, product, d.id, tenant_id, cents
                from (values (3, 'usage', 'GPU Droplets', 99), (5, 'credit', 'Credit', -500), (6, 'tax', 'Tax', 321))
                    c (rank, kind, product, cents),
                    (select min(id::text)::uuid as id, tenant_id from cloud.cloud_deployments group by tenant_id) d
                where tenant_id = 'pilot'
            ) i
            """,
            {"month": f"{month}-01"},
        )
        for statement in _BILL:
            connection.execute(statement, {"month": f"{month}-01", "rate": usd_per_aud})


_BILL = (
    """
    insert into billing.cloud_invoices (period_start, total_cents, total_from, item_count, content_sha256)
    select %(month)s::date, sum(usd_cents), 'bill', count(*), repeat('0', 64) from item
    """,
    """
    insert into billing.cloud_invoice_items
        (period_start, line_no, kind, product, description, started_at, ended_at, amount_cents)
    select %(month)s::date, line_no, kind, product, product, %(month)s::date, %(month)s::date + interval '1 month',
           usd_cents
    from item
    """,
    """
    insert into billing.fx_rates
    select %(month)s::date, 'USD', rate, null, 'by hand'
    from (select %(rate)s::numeric as rate) r where rate is not null
    """,
    """
    insert into billing.month_costs
    select %(month)s::date, sum(usd_cents), r, case when r is not null then 'by hand' end, round(sum(usd_cents) / r),
           case when r is not null then 0 end
    from item, (select %(rate)s::numeric as r) rate group by r
    """,
    """
    insert into billing.cost_allocations
    select %(month)s::date, line_no, 1, deployment_id, tenant_id,
           case when deployment_id is null then 'nobody' else 'resource' end, null, 1, 1, usd_cents,
           round(upto / %(rate)s::numeric) - round((upto - usd_cents) / %(rate)s::numeric)
    from item
    """,
)


def invoice_and_bill_january_to_may(world: World) -> None:
    """As `costed` says."""
    invoice_march_and_april(world)
    for month in ("2026-01", "2026-02", "2026-05"):
        world.publish(month)
    world.query("delete from billing.fx_rates")  # the sample's own
    for month, rate in {"2026-01": "0.65", "2026-02": "0.6543", "2026-03": None, "2026-04": "0.66"}.items():
        bill(world, month, rate)


@pytest.fixture(scope="session")
def costed(server_url: str, template_of: TemplateOf) -> Iterator[World]:
    """January to May with all that can be the case, for tests that only look.

    January and February are reconciled. March has a bill and no rate; April a bill, a rate and a draft; May no bill.
    """
    with (
        copy_of(server_url, template_of(invoice_and_bill_january_to_may)) as url,
        World(url).connected() as world,
    ):
        yield world


@pytest.fixture(scope="session")
def cost_api(costed: World) -> Iterator[httpx.Client]:
    """The API over `costed`, for tests that only look."""
    with served(costed.url) as client:
        yield client


@pytest.fixture(scope="session")
def book(costed: World) -> str:
    """The price book of `costed` in effect in January."""
    with database.snapshot(database.engine(costed.url)) as connection:
        return text.write(stored.in_effect(connection, BillingMonth.parse("2026-01")), "January's")


@pytest.fixture(scope="session")
def dearer(book: str) -> str:
    """The same, with the plan studio at 60.00 a month for 50.00."""
    studio = "name: Studio\n    price_aud: '{}'"
    assert book.count(studio.format("50.00")) == 1, book
    return book.replace(studio.format("50.00"), studio.format("60.00"))
