"""No setting of the client, the role or the database moves a cent or a byte: our sessions say what they rely on."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg import sql

from arcadia_pipelines import embedded
from arcadia_pipelines.api import queries
from arcadia_pipelines.pipeline import instance
from arcadia_pipelines.settings import dagster_url
from arcadia_pipelines.storage import database, migrations, session, streams
from arcadia_pipelines_tests.world import World, connect

HOSTILE = {
    "TimeZone": "America/New_York",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "row_security": "off",
    "search_path": "pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "session_replication_role": "replica",
    "client_min_messages": "debug1",
}
"""Of every setting that we rely on, another value."""
VANISHED = """
    select current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'),
           current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout'),
           current_setting('client_connection_check_interval')
"""
NOTICED = ("30", "10", "3", "60000", "10s")
OUR_END = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "60000"}
"""At either end of a TCP connection a machine that vanished is noticed in a minute: 30 s, then three times 10."""
ENVIRONMENT = {
    "PGTZ": "America/New_York",
    "PGDATESTYLE": "German",
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": r"-c quote_all_identifiers=on -c standard_conforming_strings=off -c search_path=pg_catalog"
    r" -c default_transaction_read_only=on",
}


def dearer_in_march(url: str) -> World:
    """A flat plan of 50.00 that costs 90.00 from 1 March, and a tenant whose reason is no ASCII."""
    world = World(url)
    world.tenant("acme")
    world.tenant("zulu", gst_free_reason="Exporté")
    world.plan("flat", 5000)
    world.plan("flat", 9000, since="2026-03-01")
    world.deployment("acme", "web", "flat")
    world.deployment("zulu", "app", "flat")
    return world


def is_billed_right(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """March is 90.00 + 9.00 and 90.00 free of GST, in two chunks; proven, and run again it is the same."""
    with monkeypatch.context() as larger:
        larger.setattr(streams, "CHUNK_ROWS", 0)
        world.publish("2026-03")
    bills = {"acme": ("issued", 1, 9000, 900, 9900), "zulu": ("issued", 1, 9000, 0, 9000)}
    assert world.invoices("2026-03") == bills
    assert world.disproved() == []
    assert world.query("select meta ->> 'gst_free_reason' from billing.tenant_invoices where tenant_id = 'zulu'") == [
        ("Exporté",)
    ]
    world.publish("2026-03")
    assert world.invoices("2026-03") == bills


@pytest.mark.long
def test_what_the_environment_says_to_libpq_changes_no_invoice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The price of 1 March is March's, wherever midnight is in New York."""
    world = dearer_in_march(url)
    with monkeypatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("PGCLIENTENCODING", "UTF8")
        is_billed_right(world, monkeypatch)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with database.snapshot(database.engine(url)) as connection:
        reason = "select gst_free_reason from cloud.tenants where gst_free_reason is not null"
        assert connection.exec_driver_sql(reason).scalar_one() == "Exporté"
    assert world.disproved() == []


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_what_the_database_says_changes_no_invoice(
    server_url: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ALTER DATABASE ... SET says of every setting we rely on, and in whatever encoding the database is."""
    with database_of(server_url, encoding) as url:
        world = dearer_in_march(url)
        spoil(url)
        with psycopg.connect(url) as connection:
            assert connection.execute("show TimeZone").fetchone() == ("America/New_York",)
        is_billed_right(world, monkeypatch)


@pytest.mark.long
def test_every_kind_of_connection_has_the_settings_that_it_relies_on(server_url: str) -> None:
    """Of SQLAlchemy, Dagster's storage and the API; the readers of chunks are in the months above."""
    with database_of(server_url, "UTF8") as url:
        migrations.migrate(database.engine(url))
        spoil(url)
        with database.engine(url).connect() as ours:
            assert ours.exec_driver_sql(session.ask(session.BILLING)).fetchall() == []
            assert ours.exec_driver_sql(VANISHED).one() == NOTICED
            assert database.driver(ours).info.get_parameters().items() >= OUR_END.items()
        dagsters = sqlalchemy.create_engine(dagster_url(url), poolclass=sqlalchemy.NullPool)
        with dagsters.connect() as theirs:
            assert theirs.exec_driver_sql(session.ask(instance.SESSION)).fetchall() == []
            assert theirs.exec_driver_sql(VANISHED).one() == NOTICED
            raw: Any = theirs.connection.driver_connection
            assert raw.info.dsn_parameters.items() >= OUR_END.items()
            assert theirs.exec_driver_sql("select 'Exporté'").scalar_one() == "Exporté"
        assert asyncio.run(settings_of_the_api(url)) == ([], [NOTICED], True)


def test_a_session_that_does_not_keep_a_setting_is_refused_by_name(url: str) -> None:
    """A pooler that answers and does nothing: the message says which setting, what it is, and where to look."""
    with connect(url) as unsettled:
        unsettled.execute("set TimeZone = 'America/New_York'")
        [differing] = unsettled.execute(session.ask({"TimeZone": "UTC", "DateStyle": "ISO, MDY"}).encode()).fetchall()
    with pytest.raises(session.SessionRefused, match=r"TimeZone is 'America/New_York' and not 'UTC'.*pooler"):
        session.verify([differing])


@pytest.mark.parametrize(("variable", "value"), [("PGSSLMODE", "require"), ("PGTZ", "Nowhere/Land")])
def test_what_the_embedded_server_cannot_do_is_said_at_once(
    server_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """And not after the two minutes that a start may take: the message names the variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(embedded.EmbeddedError, match=f"{variable}"):
        embedded.start(Path(os.environ["ARCADIA_HOME"]))


def test_the_embedded_server_is_found_wherever_the_environment_says_hosts_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libpq takes PGHOSTADDR also where a URL names the host: nobody listens on 127.0.0.9."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    url = embedded.start(Path(os.environ["ARCADIA_HOME"]))
    for engine in (database.engine(url), sqlalchemy.create_engine(dagster_url(url))):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("select 1").scalar_one() == 1
        engine.dispose()


def spoil(url: str) -> None:
    """Have the database begin each session with all of HOSTILE."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in HOSTILE.items():
            written = sql.SQL(value) if name == "search_path" else sql.Literal(value)
            statement = sql.SQL("alter database {} set {} = {}")
            connection.execute(statement.format(sql.Identifier(connection.info.dbname), sql.Identifier(name), written))


@contextmanager
def database_of(server_url: str, encoding: str) -> Iterator[str]:
    """The URL of a migrated database in this encoding."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            f"create database {name} template template0 encoding '{encoding}' locale 'C' locale_provider libc".encode()
        )
        url = f"{server_url.rpartition('/')[0]}/{name}"
        migrations.migrate(database.engine(url))
        yield url
        connection.execute(f"drop database {name} with (force)".encode())


async def settings_of_the_api(url: str) -> tuple[object, ...]:
    """What a connection of the API's pool has otherwise than it relies on; and how it notices who vanishes."""
    async with queries.pool(url, 1) as pool, pool.connection() as connection:
        return (
            await (await connection.execute(session.ask(queries.SESSION).encode())).fetchall(),
            await (await connection.execute(VANISHED.encode())).fetchall(),
            connection.info.get_parameters().items() >= OUR_END.items(),
        )
