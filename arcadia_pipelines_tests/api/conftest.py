"""The API over real HTTP: uvicorn on a port of its own, over the run's embedded PostgreSQL."""

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
import uvicorn

from arcadia_pipelines.api.app import create_app
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import migrations
from arcadia_pipelines_tests.world import World

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


ADMIN = bearer(token())


def tenant(name: str) -> dict[str, str]:
    return bearer(token("tenant", name))


@contextlib.contextmanager
def served(url: str, **settings: Any) -> Iterator[httpx.Client]:
    """The API on the database, in a thread; a client for it without a token."""
    defaults: dict[str, Any] = {"api_issuer": ISSUER, "api_audience": AUDIENCE}
    if "api_jwks" not in settings:
        defaults["api_secret"] = SECRET
    app = create_app(Settings(url, Path("/nowhere"), BillingMonth.parse("2026-01"), None, **defaults | settings))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
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


@pytest.fixture(scope="session")
def billed(server_url: str, migrated: str) -> Iterator[World]:
    """The sample's March and April, invoiced, for tests that only look.

    In April the first tenants but the pilot are draft, paid and void; the pilot's invoice is issued.
    """
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template {migrated}".encode())
        connection.execute(f"alter database {name} set search_path = billing, cloud, public".encode())
    world = World(f"{server_url.rpartition('/')[0]}/{name}")
    with psycopg.connect(world.url) as connection:
        connection.execute((migrations.SQL / "sample_data.sql").read_bytes())
    world.publish("2026-03")
    world.publish("2026-04")
    others = [tenant for tenant in sorted(world.invoices("2026-04")) if tenant != "pilot"]
    for tenant_id, status in zip(others[:1] + others, ("void", "draft", "paid", "void"), strict=False):
        world.query(
            "update billing.tenant_invoices set status = %s where tenant_id = %s and period_start = '2026-04-01'",
            status,
            tenant_id,
        )
    yield world
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)".encode())


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
