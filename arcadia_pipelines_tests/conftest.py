"""What every test is given: one embedded PostgreSQL for the whole run, and a fresh database per test.

Nothing here touches .arcadia/, a system PostgreSQL, or an environment variable that the developer has set.
"""

import functools
import gc
import os
import shutil
from collections import Counter
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
from arcadia_pipelines_tests.databases import EMPTY, TemplateOf, copy_of, filled, new_home
from arcadia_pipelines_tests.world import World, publish_pilots_april, sample_data, shared_instance

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
    parser.addoption("--worlds", type=int, default=2, metavar="N", help="how many worlds by chance (test_by_chance.py)")
    parser.addoption("--tenants", type=int, default=6, metavar="N", help="how many tenants each of them has")
    parser.addoption("--first-world", type=int, default=1, metavar="SEED", help="the first one's seed")


def pytest_configure(config: pytest.Config) -> None:
    """One home for the server, made by the first process and shared with its workers; no example has a time limit."""
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    for name in ("ARCADIA_DATABASE_URL", "ARCADIA_FIRST_MONTH", "ARCADIA_ALERT_WEBHOOK_URL", "DAGSTER_HOME"):
        os.environ.pop(name, None)
    os.environ.pop("COLUMNS", None)  # xdist sets it, and the console would keep it: each test says how wide it is
    os.environ.pop("ARCADIA_DIGITALOCEAN_TOKEN", None)  # nobody is asked for a real bill
    os.environ.pop("ARCADIA_FINANCE_URL", None)  # or told of a made-up invoice
    os.environ.pop("ARCADIA_USAGE_URL", None)
    if not hasattr(config, "workerinput"):
        os.environ[_TEST_HOME] = new_home()
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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that is collected is garbage: to look for it in some thousand tests takes a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


_SLOW_FILES = ("test_engines.py", "test_planted.py", "test_openapi.py")
"""Files of a few tests that take long: were they the last, other processes would wait for them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files come first, then those of many tests: processes take a file at a time, and end together."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in _SLOW_FILES, -tests[item.path]))


@pytest.fixture(scope="session")
def server_url() -> str:
    """The URL of the run's PostgreSQL, whose database nobody writes to."""
    if second := os.environ.get(_SECOND_SERVER):
        return second
    url = embedded.start(Path(os.environ[_TEST_HOME]))
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):  # it is thrown away
            connection.execute(f"alter system set {name} = off")
        connection.execute("alter system set file_copy_method = clone")  # a database per test: the kernel copies it
        connection.execute("select pg_reload_conf()")
    return url


@pytest.fixture(scope="session", autouse=True)
def _shared_instance() -> Iterator[None]:
    yield
    if shared_instance.cache_info().currsize:
        shared_instance().dispose()


@pytest.fixture(scope="session")
def migrated(server_url: str) -> str:
    """The name of a migrated database, to be copied."""
    return filled(server_url, EMPTY, _migrate, Path(os.environ[_TEST_HOME]))


def _migrate(world: World) -> None:
    migrations.migrate(database.engine(world.url))


@pytest.fixture(scope="session")
def template_of(server_url: str, migrated: str) -> TemplateOf:
    """Gives the name of a migrated database that a function has filled, to be copied; it is filled once in a run."""
    return functools.cache(lambda fill: filled(server_url, migrated, fill, Path(os.environ[_TEST_HOME])))


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """The URL of a database without our schema."""
    with copy_of(server_url, EMPTY) as url:
        yield url


@pytest.fixture
def url(request: pytest.FixtureRequest, server_url: str, migrated: str, template_of: TemplateOf) -> Iterator[str]:
    """The URL of a database of the test's own: migrated, and filled if the test uses a fixture of BEGINNINGS.

    A module may have BEGINNINGS of its own, for fixtures of its own.
    """
    beginnings = {**BEGINNINGS, **getattr(request.module, "BEGINNINGS", {})}
    fill = next((fill for name, fill in beginnings.items() if name in request.fixturenames), None)
    with copy_of(server_url, template_of(fill) if fill else migrated) as url:
        yield url


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
    return world


@pytest.fixture
def sample_year(world: World) -> World:
    """The sample data, and its ten months published."""
    return world


@pytest.fixture
def pilots_april(world: World) -> World:
    """The pilot's April, published: 64.22 and GST of 6.42."""
    return world


def _sample_year(world: World) -> None:
    sample_data(world)
    for month in range(1, 11):
        world.publish(f"2026-{month:02d}")


BEGINNINGS = {"sample": sample_data, "sample_year": _sample_year, "pilots_april": publish_pilots_april}
"""What the database of a test begins with that uses the fixture: it is filled once, and copied for each test."""


@pytest.fixture
def in_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> Callable[..., None]:
    """Sets environment variables for the test; ARCADIA_DATABASE_URL is the test's database."""

    def set_variables(**variables: str) -> None:
        for name, value in {"ARCADIA_DATABASE_URL": url, **variables}.items():
            monkeypatch.setenv(name, value)

    return set_variables
