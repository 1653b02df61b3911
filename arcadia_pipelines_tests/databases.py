"""Databases made for a test: copies of others, and a platform's own tables behind views."""

import atexit
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from filelock import FileLock

from arcadia_pipelines_tests.world import World, uid

PLATFORM = """
    create schema platform;
    create table platform.accounts (account text, title text, abn text, gst_free text);
    create table platform.apps (app uuid, account text, label text);
    create table platform.products (product uuid, sku text, title text);
    create table platform.product_prices (product uuid, since date, cents bigint);
    create table platform.product_rates
        (product uuid, meter text, since date, included numeric, unit text, cents numeric);
    create table platform.extras (extra uuid, sku text, title text);
    create table platform.extra_prices (extra uuid, since date, cents bigint);
    create table platform.contracts
        (contract uuid, account text, app uuid, product uuid, state text, "from" timestamptz, "until" timestamptz);
    create table platform.contract_extras
        (id uuid, contract uuid, extra uuid, pieces integer, "from" timestamptz, "until" timestamptz);
    create table platform.readings
        (id uuid, app uuid, meter text, amount numeric, read_at timestamptz, sent_at timestamptz);

    create schema cloud;
    create view cloud.tenants (id, name, abn, gst_free_reason) as select * from platform.accounts;
    create view cloud.cloud_deployments (id, tenant_id, name) as select * from platform.apps;
    create view cloud.plans (id, code, name) as select * from platform.products;
    create view cloud.plan_prices (plan_id, effective_from, base_price_cents) as select * from platform.product_prices;
    create view cloud.plan_rates
        (plan_id, resource_kind, effective_from, included_quantity, unit, unit_price_cents)
        as select * from platform.product_rates;
    create view cloud.addons (id, code, name) as select * from platform.extras;
    create view cloud.addon_prices (addon_id, effective_from, price_cents) as select * from platform.extra_prices;
    create view cloud.subscriptions (id, tenant_id, deployment_id, plan_id, status, started_at, ended_at)
        as select * from platform.contracts;
    create view cloud.subscription_addons (id, subscription_id, addon_id, quantity, started_at, ended_at)
        as select * from platform.contract_extras;
    create view cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at, ingested_at)
        as select * from platform.readings;
"""
"""A platform with names and tables of its own, without a constraint, and views over them as the contract wants them."""


_MEMORY = "/dev/shm"
_ROOM = 4 * 2**30  # a run takes a tenth of it; what it writes ahead may take more

EMPTY = "template0"
"""The database without anything of ours, on every server."""


def new_home() -> str:
    """A new folder for a server, in memory where there is room: each test makes a database of 500 files and drops it.

    On a disk that others use too, that takes up to ten times as long.
    """
    in_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return tempfile.mkdtemp(prefix="arcadia-tests-", dir=_MEMORY if in_memory else None)


@contextmanager
def copy_of(server_url: str, template: str) -> Iterator[str]:
    """The URL of a copy of a database, which is dropped afterwards."""
    name = f"copy_{uuid.uuid4().hex}"
    _copy(server_url, template, name)
    try:
        yield _url_of(server_url, name)
    finally:
        _server(server_url).execute(f"drop database {name} with (force)".encode())


TemplateOf = Callable[[Callable[[World], object]], str]
"""Gives the name of a migrated database that a function has filled, to be copied."""


def filled(server_url: str, template: str, fill: Callable[[World], object], home: Path) -> str:
    """The name of a copy of a database that this function has filled, once in a run: by whichever worker asks first.

    It is to be copied, and is dropped with the server.
    """
    name = f"filled_{uid(f'{fill.__module__}.{fill.__qualname__}').hex}"
    with FileLock(home / f"{name}.lock"):
        if not _server(server_url).execute("select true from pg_database where datname = %s", [name]).fetchone():
            unfinished = f"unfinished_{uuid.uuid4().hex}"
            _copy(server_url, template, unfinished)
            with World(_url_of(server_url, unfinished)).connected() as world:
                fill(world)
            _disconnect(server_url, unfinished)
            _server(server_url).execute(f"alter database {unfinished} rename to {name}".encode())
    return name


def _copy(server_url: str, template: str, name: str) -> None:
    _disconnect(server_url, template)
    _server(server_url).execute(f"create database {name} template {template} strategy file_copy".encode())
    if template != EMPTY:
        _server(server_url).execute(f"alter database {name} set search_path = billing, cloud, public".encode())


def _disconnect(server_url: str, name: str) -> None:
    """A world keeps a connection, and has another when it is asked again."""
    ended = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"
    _server(server_url).execute(ended, [name])


def _url_of(server_url: str, name: str) -> str:
    return f"{server_url.rpartition('/')[0]}/{name}"


@functools.cache
def _server(url: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """A connection that is kept: each test makes a database and drops it."""
    connection = psycopg.connect(url, autocommit=True)
    atexit.register(connection.close)
    return connection


def schema_of(url: str) -> list[tuple[Any, ...]]:
    """Every relation, column, constraint, function, trigger and comment of ours, and what is applied."""
    return World(url).query("""
        with ours as (select oid, nspname from pg_namespace where nspname in ('billing', 'cloud', 'dagster'))
        select 'column', format('%s.%s.%s', nspname, relname, attname), format_type(atttypid, atttypmod), c.xmin::text
        from pg_attribute a join pg_class c on c.oid = attrelid join ours on ours.oid = relnamespace where attnum > 0
        union all select 'constraint', conname, pg_get_constraintdef(c.oid), c.xmin::text
        from pg_constraint c join ours on ours.oid = connamespace
        union all select 'function', proname, prosrc, p.xmin::text from pg_proc p join ours on ours.oid = pronamespace
        union all select 'trigger', tgname, pg_get_triggerdef(oid), xmin::text from pg_trigger where not tgisinternal
        union all select 'comment', objoid::text || '/' || objsubid, description, d.xmin::text
        from pg_description d where objoid in (select c.oid from pg_class c join ours on ours.oid = relnamespace)
        union all select 'applied', name, sha256 || applied_at, xmin::text from billing.schema_migrations
        order by 1, 2, 3
    """)
