"""Logins of the database's roles, and what they may do."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from arcadia_pipelines_tests.world import World


@contextmanager
def login(server_url: str, url: str, *roles: str, acting_as: str | None = None) -> Iterator[str]:
    """The URL of a login of its own that is in these roles, made as docs/deployment.md says, and dropped afterwards."""
    name = f"login_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"create role {name} login password 'pw' in role {', '.join(roles)}".encode())
        if acting_as:
            superuser.execute(f"alter role {name} set role {acting_as}".encode())
    try:
        yield f"postgresql://{name}:pw@{url.rpartition('@')[2]}"
    finally:
        with psycopg.connect(server_url, autocommit=True) as superuser:
            superuser.execute(f"drop role {name}".encode())


def late(world: World) -> None:
    """Ten more hours of the pilot's in April: 672 + 10 c of overage, 64.32, GST 6.43, 70.75."""
    world.query(
        "insert into cloud.usage_records (id, deployment_id, resource_kind, quantity, recorded_at)"
        " select gen_random_uuid(), deployment_id, 'droplet_hours', 10, '2026-04-30 23:00+00'"
        " from cloud.subscriptions where tenant_id = 'pilot'"
    )


def succeeds(connection: "psycopg.Connection[Any]", statement: str) -> bool:
    """Whether the right is there for a statement, which is undone; it may fail for another reason."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return True
    return True
