"""What every test is given: one embedded PostgreSQL for the whole run, and a fresh database per test.

Nothing here touches .arcadia/, a system PostgreSQL, or an environment variable that the developer has set.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines import embedded
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests import second_server
from arcadia_pipelines_tests.command_line import arcadia, process
from arcadia_pipelines_tests.world import World, connect, shared_instance

__all__ = ["arcadia", "process"]  # fixtures too
_TEST_HOME = "TEST_HOME_OF_ARCADIA"
_SECOND_SERVER = "TEST_SERVER_OF_ARCADIA"
_SERVER = pytest.StashKey[second_server.Server]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--write-golden` makes the golden files anew; `--postgres` is for a second server."""
    parser.addoption("--write-golden", action="store_true", help="write the golden files instead of trusting them")
    help_ = (
        "the folder of another PostgreSQL's programs: the tests run on a server made with them (`make test-postgres`)"
    )
    parser.addoption("--postgres", type=Path, metavar="FOLDER", help=help_)


def pytest_configure(config: pytest.Config) -> None:
    """One home for the server, made by the first process and shared with its workers; no example has a time limit."""
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    for name in ("ARCADIA_DATABASE_URL", "ARCADIA_FIRST_MONTH", "ARCADIA_ALERT_WEBHOOK_URL", "DAGSTER_HOME"):
        os.environ.pop(name, None)
    os.environ.pop("COLUMNS", None)  # xdist sets it, and the console would keep it: each test says how wide it is
    os.environ.pop("ARCADIA_DIGITALOCEAN_TOKEN", None)  # nobody is asked for a real bill
    if not hasattr(config, "workerinput"):
        os.environ[_TEST_HOME] = tempfile.mkdtemp(prefix="arcadia-tests-")
        if programs := config.getoption("--postgres"):
            config.stash[_SERVER] = second_server.start(programs)
            os.environ[_SECOND_SERVER] = config.stash[_SERVER].url
    os.environ["ARCADIA_HOME"] = os.environ[_TEST_HOME]


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that made the home stops its server."""
    if not hasattr(config, "workerinput"):
        if server := config.stash.get(_SERVER, None):
            os.environ.pop(_SECOND_SERVER)
            second_server.stop(server)
        home = Path(os.environ.pop(_TEST_HOME))
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> str:
    """The URL of the run's PostgreSQL, whose database nobody writes to."""
    if second := os.environ.get(_SECOND_SERVER):
        return second
    url = embedded.start(Path(os.environ[_TEST_HOME]))
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):  # it is thrown away
            connection.execute(f"alter system set {name} = off")
        connection.execute("select pg_reload_conf()")
    return url


@pytest.fixture(scope="session", autouse=True)
def _shared_instance() -> Iterator[None]:
    yield
    if shared_instance.cache_info().currsize:
        shared_instance().dispose()


@pytest.fixture(scope="session")
def migrated(server_url: str) -> Iterator[str]:
    """The name of a migrated database, to be copied."""
    name = f"template_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    migrations.migrate(database.engine(_in(server_url, name)))
    yield name
    _drop(server_url, name)


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """The URL of a database without our schema."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    yield _in(server_url, name)
    _drop(server_url, name)


@pytest.fixture
def url(server_url: str, migrated: str) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template {migrated} strategy file_copy")
        connection.execute(f"alter database {name} set search_path = billing, cloud, public")
    yield _in(server_url, name)
    _drop(server_url, name)


@pytest.fixture
def engine(url: str) -> Engine:
    """An engine on the test's database."""
    return database.engine(url)


@pytest.fixture
def world(url: str) -> Iterator[World]:
    """What the platform sells and meters, to be filled by the test."""
    with World(url).connected() as world:
        yield world


@pytest.fixture
def sample(world: World) -> World:
    """The sample data of sql/sample_data.sql."""
    with connect(world.url) as connection:
        connection.execute((migrations.SQL / "sample_data.sql").read_bytes())
    return world


@pytest.fixture
def in_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> Callable[..., None]:
    """Sets environment variables for the test; ARCADIA_DATABASE_URL is the test's database."""

    def set_variables(**variables: str) -> None:
        for name, value in {"ARCADIA_DATABASE_URL": url, **variables}.items():
            monkeypatch.setenv(name, value)

    return set_variables


def _in(server_url: str, name: str) -> str:
    return f"{server_url.rpartition('/')[0]}/{name}"


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
