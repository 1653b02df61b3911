"""The embedded PostgreSQL, with real servers: a test that changes a server has one of its own, and all are stopped."""

import asyncio
import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import psutil
import psycopg
import pytest
import sqlalchemy

from arcadia_pipelines import embedded
from arcadia_pipelines.embedded import EmbeddedError
from arcadia_pipelines.settings import dagster_url
from arcadia_pipelines.storage import database

pytestmark = pytest.mark.long

FILES = ("password", "port", "postgres.lock", "postgres.log", "postgres.serving")
CALL = """
import sys, pathlib
from arcadia_pipelines import embedded
print(getattr(embedded, sys.argv[1])(pathlib.Path(sys.argv[2])))
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home nobody has started yet; whatever runs in it is stopped afterwards."""
    home = tmp_path / "100%(s)s home of a server"
    yield home
    embedded.stop(home)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server runs, for tests which only look at it."""
    home = tmp_path_factory.mktemp("served")
    embedded.start(home)
    yield home
    embedded.stop(home)


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A live process which has nothing to do with PostgreSQL."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def call(function: str, home: Path, *prefix: str) -> subprocess.Popen[str]:
    """Another process which calls a function of the module and prints what it returns."""
    command = [*prefix, sys.executable, "-W", "error", "-c", CALL, function, str(home)]
    root = Path(embedded.__file__).parents[1]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ask(url: str, query: Any) -> Any:
    """The only value of a query's answer."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def keep_a_fact(url: str) -> None:
    """Commit a row, to be found again."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE fact AS SELECT 42 AS answer")


def pid_file(home: Path) -> Path:
    """Where the server notes its process."""
    return home / "postgres" / "postmaster.pid"


def kill_postmaster(home: Path) -> str:
    """End the server as a power cut would; what it noted about itself remains, and is returned."""
    noted = pid_file(home).read_text()
    postmaster = psutil.Process(int(noted.split()[0]))
    assert postmaster.name() == "postgres"
    postmaster.kill()
    return noted


def starts(home: Path) -> int:
    """How many servers have ever started in this home."""
    return (home / "postgres.log").read_text().count("starting PostgreSQL")


def test_start_gives_a_url_that_works(served: Path) -> None:
    """The URL is the canonical one, leads to the database it names, and can be had without a start."""
    url = embedded.start(served)
    password, port = (served / "password").read_text(), (served / "port").read_text()
    assert (
        url == f"postgresql://arcadia:{password}@127.0.0.1:{port}/arcadia?hostaddr=127.0.0.1&require_auth=scram-sha-256"
    )
    assert ask(url, "SELECT current_database() || ' ' || current_user") == "arcadia arcadia"
    assert embedded.url(served) == url


def test_the_server_is_durable_and_speaks_utf8_and_utc(served: Path) -> None:
    """A billing database syncs to disk, whatever else is tuned for a laptop, and no locale changes its order."""
    url = embedded.start(served)
    settings = ("fsync", "synchronous_commit", "full_page_writes", "server_encoding", "TimeZone")
    assert [ask(url, f"SHOW {name}") for name in settings] == ["on", "on", "on", "UTF8", "UTC"]
    assert ask(url, "SELECT string_agg(word, '' ORDER BY word) FROM (VALUES ('a'), ('B'), ('é')) AS t (word)") == "Baé"
    assert ask(url, "SELECT upper('é')") == "É"


def test_the_files_of_the_home_are_for_their_owner_only(home: Path) -> None:
    """The password, the log with its statements, the locks, which who can open can hold: new ones and old ones."""
    before = os.umask(0)
    try:
        embedded.start(home)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        files = [file for file in home.iterdir() if file.is_file()]
        assert {file.name for file in files} == set(FILES)
        assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in files if file.stat().st_mode & 0o77} == {}
        (home / "api-secret").touch()
        for name in (*FILES, "api-secret"):
            (home / name).chmod(0o644)
        embedded.start(home)  # it runs already, started by an older release
        assert {stat.S_IMODE((home / name).stat().st_mode) for name in (*FILES, "api-secret")} == {0o600}
    finally:
        os.umask(before)


class Stranger:
    """Whoever listens where our server did, lets everybody in, and notes what clients say once they are asked.

    It asks for the password in clear text, or for nothing at all (`request`: 3 or 0, as the protocol has it).
    """

    def __init__(self, port: int, request: int) -> None:
        self.heard, self._request = list[bytes](), request
        self._listening = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._meet(self._listening.accept()[0])

    def _meet(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(5)
            while len(said := client.recv(4096)) == 8:  # SSL, GSS?
                client.sendall(b"N")
            assert b"arcadia" in said
            client.sendall(b"R" + (8).to_bytes(4, "big") + self._request.to_bytes(4, "big"))
            if self._request == 0:
                client.sendall(b"Z" + (5).to_bytes(4, "big") + b"I")
            self.heard.append(client.recv(4096))

    def leave(self) -> None:
        """Free the port."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.mark.parametrize("request_", [3, 0], ids=["clear text", "trust"])
def test_a_stranger_on_the_port_is_told_neither_the_password_nor_a_statement(home: Path, request_: int) -> None:
    """By none of the ways in which we connect with the URL that was right a moment ago."""
    url = embedded.start(home)
    embedded.stop(home)
    stranger = Stranger(int((home / "port").read_text()), request_)
    try:
        for connect in (
            lambda: psycopg.connect(url),
            lambda: database.engine(url).connect(),
            lambda: sqlalchemy.create_engine(dagster_url(url)).connect(),
            lambda: adbc.connect(url),
            lambda: asyncio.run(psycopg.AsyncConnection.connect(url)),
            lambda: psql(url),
        ):
            with pytest.raises(Exception, match=r"require_auth|authentication method requirement"):
                connect()
            assert [said for said in stranger.heard if said] == []
    finally:
        stranger.leave()


def psql(url: str) -> None:
    """What `arcadia db psql` runs."""
    asked = subprocess.run(
        [embedded.binary("psql"), url, "-c", "select 1"], capture_output=True, text=True, check=False
    )
    raise ConnectionError(asked.stderr)


def test_a_folder_that_another_container_serves_is_not_served_twice(home: Path) -> None:
    """There the process ids are others, the memory and 127.0.0.1 too: only the server's lock can be seen."""
    url = embedded.start(home)
    keep_a_fact(url)
    container = ["unshare", "--user", "--map-root-user", "--pid", "--mount-proc", "--fork", "--ipc", "--net"]
    allowed = subprocess.run([*container, "true"], check=False, capture_output=True).returncode == 0
    if not allowed:  # as near as it gets without: the server's own note is another container's
        embedded.stop(home)
    with (home / "postgres.serving").open("r+") as serving:
        if not allowed:
            fcntl.flock(serving, fcntl.LOCK_EX)
        serving.write("elsewhere\n")
        serving.truncate()
        serving.flush()
        second = call("start", home, *(container if allowed else []))
        assert "runs in another container, elsewhere, and a folder has one server" in second.communicate()[0]
    assert starts(home) == 1
    assert ask(embedded.start(home), "SELECT answer FROM fact") == 42


def test_the_server_holds_its_lock_until_its_last_process_has_ended(home: Path) -> None:
    """Also when it was killed, which leaves a pid file; then the next one starts as soon as the lock is free."""
    embedded.start(home)
    with (home / "postgres.serving").open() as serving:
        with pytest.raises(BlockingIOError):
            fcntl.flock(serving, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kill_postmaster(home)
        fcntl.flock(serving, fcntl.LOCK_EX)
    assert ask(embedded.start(home), "SELECT 1") == 1


def test_start_twice_is_one_server(served: Path) -> None:
    """The second call finds the server of the first."""
    assert embedded.start(served) == embedded.start(served)
    assert starts(served) == 1


def test_eight_processes_at_once_start_one_server(home: Path) -> None:
    """They wait for each other, and all get the same URL."""
    callers = [call("start", home) for _ in range(8)]
    answers = {caller.communicate(timeout=60)[0].strip() for caller in callers}
    assert answers == {embedded.url(home)}
    assert starts(home) == 1


def test_starts_and_stops_at_once_do_not_trip_each_other(home: Path) -> None:
    """Whoever comes last decides; nobody fails."""
    embedded.start(home)
    callers = [call(function, home) for function in ("stop", "start", "stop", "start")]
    answers = [caller.communicate(timeout=60)[0].strip() for caller in callers]
    assert set(answers[::2]) <= {"True", "False"}
    assert set(answers[1::2]) == {embedded.start(home)}


def test_stop_then_start_keeps_data_and_port(home: Path) -> None:
    """A restart is invisible to a client which connects again."""
    url = embedded.start(home)
    keep_a_fact(url)
    assert embedded.stop(home)
    assert embedded.start(home) == url
    assert ask(url, "SELECT answer FROM fact") == 42


def test_a_stopped_server_has_no_url(home: Path) -> None:
    """Neither before the first start, which url() does not make, nor after a stop."""
    assert embedded.url(home) is None
    assert not embedded.stop(home)
    assert not home.exists()
    embedded.start(home)
    assert embedded.stop(home)
    assert embedded.url(home) is None
    assert not embedded.stop(home)


def test_the_server_survives_its_starter_and_holds_no_pipe_of_it(home: Path) -> None:
    """`make demo | cat` ends when make does: communicate() waits until the last holder of the pipe is gone."""
    starter = call("start", home)
    answer = starter.communicate(timeout=120)[0].strip()
    assert starter.returncode == 0
    assert embedded.url(home) == answer
    assert starts(home) == 1


def test_a_starter_killed_half_way_leaves_nothing_in_the_way(home: Path) -> None:
    """Data counts as made only when it is whole."""
    starter = call("start", home)
    half_way: list[psutil.Process] = []
    while not half_way and starter.poll() is None:
        with suppress(psutil.NoSuchProcess):
            half_way = [child for child in psutil.Process(starter.pid).children() if "initdb" in child.name()]
        time.sleep(0.002)
    starter.kill()
    starter.communicate()
    assert half_way
    assert not (home / "postgres").exists()
    assert ask(embedded.start(home), "SELECT 1") == 1
    with suppress(psutil.NoSuchProcess):
        half_way[0].kill()


def test_a_killed_server_starts_again_with_all_that_was_committed(home: Path) -> None:
    """Crash recovery, with the pid file of the killed one in place."""
    url = embedded.start(home)
    keep_a_fact(url)
    kill_postmaster(home)
    assert embedded.start(home) == url
    assert ask(url, "SELECT answer FROM fact") == 42
    assert starts(home) == 2


def recovering(home: Path) -> psutil.Process:
    """The process that recovers the server from the crash of a connection's process; it is held up."""
    server = psutil.Process(int(pid_file(home).read_text().split()[0]))
    while True:
        connection = psycopg.connect(embedded.start(home))
        psutil.Process(connection.info.backend_pid).kill()
        connection.close()
        for _ in range(200):
            for process in server.children():
                with suppress(psutil.NoSuchProcess):
                    if "startup" in " ".join(process.cmdline()):
                        process.suspend()
                        return process


def test_a_server_that_recovers_from_a_crash_is_stopped_and_keeps_all_that_was_committed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL 18 waits for ever if it is asked to stop then, however often, unless it is told to at once."""
    monkeypatch.setattr(embedded, "STOP_SECONDS", 3.0)
    url = embedded.start(home)
    keep_a_fact(url)
    startup = recovering(home)
    with ThreadPoolExecutor(1) as other:
        stopping = other.submit(embedded.stop, home)
        time.sleep(0.5)
        startup.resume()
        assert stopping.result()
    assert ask(embedded.start(home), "SELECT answer FROM fact") == 42


def test_a_pid_file_whose_pid_is_now_anothers_is_not_believed(home: Path, bystander: psutil.Process) -> None:
    """After a reboot the noted pid may belong to anybody, who must neither stop us nor be stopped."""
    url = embedded.start(home)
    keep_a_fact(url)
    noted = kill_postmaster(home)
    pid_file(home).write_text(noted.replace(noted.split()[0], str(bystander.pid), 1))
    assert not embedded.stop(home)
    assert embedded.start(home) == url
    assert ask(url, "SELECT answer FROM fact") == 42
    assert embedded.stop(home)
    assert bystander.status() != psutil.STATUS_ZOMBIE


def test_a_moved_home_is_served_from_its_new_place(home: Path, tmp_path: Path) -> None:
    """Even when it is moved under a running server, which is stopped first."""
    moved = tmp_path / "moved"
    url = embedded.start(home)
    keep_a_fact(url)
    home.rename(moved)
    try:
        assert embedded.start(moved) == url
        assert ask(url, "SELECT answer FROM fact") == 42
        assert ask(url, "SHOW data_directory") == str(moved / "postgres")
    finally:
        embedded.stop(moved)


def test_a_copied_home_gets_a_server_and_a_port_of_its_own(home: Path, tmp_path: Path) -> None:
    """A copy which took the port, and knows the password too, is neither mistaken for the original nor disturbed."""
    copy = tmp_path / "copy"
    before = embedded.start(home)
    embedded.stop(home)
    shutil.copytree(home, copy)
    try:
        assert embedded.start(copy) == before
        assert embedded.url(home) is None
        assert not embedded.stop(home)
        assert embedded.start(home) != before
        assert embedded.url(copy) == before
    finally:
        embedded.stop(copy)


def test_it_listens_on_127_0_0_1_only(served: Path) -> None:
    """No other address of this machine answers, and there is no socket file."""
    url = embedded.start(served)
    port = int((served / "port").read_text())
    for address in ("127.0.0.2", "::1"):
        with pytest.raises(OSError, match=r"\[Errno"):
            socket.create_connection((address, port), timeout=2).close()
    assert [ask(url, f"SHOW {name}") for name in ("listen_addresses", "unix_socket_directories")] == ["127.0.0.1", ""]


def test_a_wrong_password_is_refused(served: Path) -> None:
    """Being on the same machine is not enough."""
    url = embedded.start(served)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace((served / "password").read_text(), "guess"))


def test_data_whose_password_changed_is_refused_at_once(home: Path) -> None:
    """The message names what is wrong instead of waiting until the time is up."""
    embedded.start(home)
    embedded.stop(home)
    (home / "password").write_text("guess")
    with pytest.raises(EmbeddedError, match="password authentication failed"):
        embedded.start(home)
    (home / "password").unlink()
    embedded.stop(home)
    with pytest.raises(EmbeddedError, match=r"password is missing or empty.*restore it"):
        embedded.start(home)


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    """The message says whose data it is, where, and how to go on; the data stays as it was."""
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(
        EmbeddedError, match=r"postgres was created by PostgreSQL 17, .* 18; run `arcadia db down`, move"
    ):
        embedded.start(home)
    assert [path.name for path in (home / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    """PostgreSQL's own reason is in the message, on one line, with the place of the log."""
    embedded.start(home)
    embedded.stop(home)
    (home / "postgres" / "postgresql.conf").write_text("wal_level = nonsense\nno_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match=r"does not start: .*postgresql.conf.*; see .*postgres\.log$") as failure:
        embedded.start(home)
    assert "\n" not in str(failure.value)


def test_a_user_of_whom_the_system_knows_nothing_is_served(home: Path) -> None:
    """As in a container that runs as any number: without an entry in /etc/passwd, and so without a home directory."""
    home.mkdir()
    stranger = ["unshare", "--user", "--map-user=4242", "--map-group=4242"]
    allowed = subprocess.run([*stranger, "true"], check=False, capture_output=True).returncode == 0
    code = "import arcadia_pipelines.pipeline.pictures, arcadia_pipelines.api.charts;" + CALL
    started = subprocess.run(
        [*(stranger if allowed else []), sys.executable, "-c", code, "start", str(home)],
        env={name: text for name, text in os.environ.items() if name != "HOME"},
        cwd=Path(embedded.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.stderr == ""
    assert ask(started.stdout.strip(), "SELECT 1") == 1


def test_a_home_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """What the operating system refuses is told with the folder's name and not as a traceback of its own."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"file cannot be managed: .*the folder must"):
        embedded.start(tmp_path / "file")
