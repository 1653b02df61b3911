"""Where the storm takes place: a temporary folder with a PostgreSQL of its own, and the processes that work on it.

Belongs here: starting all of that, the server's clock and its disk, and that nothing of it is left in the end, however
it ends. Does not: what the processes do (writers.py), what befalls them (kills.py).

The disk is a small filesystem in memory, where this may be mounted (by root). The clock is libfaketime's, where that is
installed; the clients' own clocks go right.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from arcadia_pipelines import embedded
from arcadia_pipelines.settings import PROJECT, VARIABLES

DISK_MIB = 4096
_FAKETIME = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")
_QUICKER = {
    "poll_interval_seconds: 30": "poll_interval_seconds: 5",
    "start_timeout_seconds: 180": "start_timeout_seconds: 60",
    "cancel_timeout_seconds: 180": "cancel_timeout_seconds: 60",
}
"""What the daemon waits for, so that minutes are enough; all else in dagster.yaml is as it is."""


@dataclass
class Stage:
    """The folder, the server's URL, and the processes by name."""

    folder: Path
    environment: dict[str, str]
    has_disk: bool
    clock_library: str | None
    url: str = ""
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    restarts: int = 0
    clock_steps: int = 0

    @property
    def home(self) -> Path:
        """The embedded server's."""
        return self.folder / "home"

    def start_server(self) -> None:
        """Start the server, or wait until it answers. Raises EmbeddedError."""
        faked = {"LD_PRELOAD": self.clock_library, "FAKETIME_TIMESTAMP_FILE": str(self.home / "clock")}
        faked |= {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with _variables({name: value for name, value in faked.items() if self.clock_library and value}):
            self.url = embedded.start(self.home)
        self.environment["ARCADIA_DATABASE_URL"] = self.url

    def connect(self) -> "psycopg.Connection[Any]":
        """A connection of the owner's. Raises psycopg.Error."""
        return psycopg.connect(self.url, connect_timeout=10, autocommit=True, application_name="chaos")

    def set_clock(self, offset: str) -> None:
        """The server's clock, from the right time: like -2h. It has effect within a second."""
        (self.home / "clock").write_text(f"{offset}\n")

    def fill_disk(self) -> None:
        """Leave no room on the server's disk."""
        disk = os.statvfs(self.home)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        self._resize(f"{used // 1024 + 64}k")

    def clear_disk(self) -> None:
        """Make room again."""
        if self.has_disk:
            self._resize(f"{DISK_MIB}m")

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.home)], check=True, capture_output=True)

    def spawn(self, name: str, *command: str) -> None:
        """Start a process of this name, in a session of its own; what it prints goes to a file of its name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.environment["DAGSTER_HOME"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def arcadia(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        done = subprocess.run(
            [program("arcadia"), *arguments],
            env=self.environment,
            cwd=self.environment["DAGSTER_HOME"],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr.strip()

    def clients(self) -> list[psutil.Process]:
        """All processes that live and were started for this folder, but the server's."""
        return [process for process in psutil.process_iter() if _environment_of(process) == str(self.home)]

    def servers(self) -> list[psutil.Process]:
        """All processes of the server that live: each is in the folder of its data, whoever has started it."""
        return [process for process in psutil.process_iter() if _folder_of(process).startswith(str(self.home))]

    def end_processes(self) -> None:
        """Kill all processes but the server's, of which some may be starting others."""
        _end(self.clients)
        for started in self.processes.values():
            started.wait()
        self.processes.clear()


def _environment_of(process: psutil.Process) -> str:
    """The ARCADIA_HOME that it was given; '' if none, or it is dead."""
    with contextlib.suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            return process.environ().get("ARCADIA_HOME", "")
    return ""


def _folder_of(process: psutil.Process) -> str:
    """Where a process of PostgreSQL's is; '' of any other."""
    with contextlib.suppress(psutil.Error):
        return process.cwd() if process.name() == "postgres" else ""
    return ""


def _end(processes: Callable[[], list[psutil.Process]]) -> None:
    """Kill them, until there are none."""
    while found := processes():
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=5)


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stage with a server that runs; afterwards nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="arcadia-chaos-"))
    made: Stage | None = None
    try:
        (folder / "dagster").mkdir()
        (folder / "home").mkdir(mode=0o700)
        settings = (PROJECT / "dagster.yaml").read_text()
        for slow, quick in _QUICKER.items():
            settings = settings.replace(slow, quick)
        (folder / "dagster" / "dagster.yaml").write_text(settings)
        library = next((str(found) for pattern in _FAKETIME for found in Path("/").glob(pattern[1:])), None)
        made = Stage(folder, _environment(folder), _mount(folder / "home"), library)
        made.set_clock("+0")
        made.start_server()
        yield made
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if made:
            made.end_processes()
            made.clear_disk()
            with contextlib.suppress(embedded.EmbeddedError):
                embedded.stop(made.home)
            _end(made.servers)
        _unmount(folder / "home")
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """Every variable of ours is said, if only to be empty, so that no .env of a developer's has a say."""
    ours = dict.fromkeys(VARIABLES, "") | {"ARCADIA_HOME": str(folder / "home")}
    rest = {name: value for name, value in os.environ.items() if not name.startswith(("ARCADIA_", "PG"))}
    paths = {"DAGSTER_HOME": str(folder / "dagster"), "HOME": str(folder), "PYTHONPATH": str(PROJECT)}
    return {**rest, **ours, **paths, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}


def program(name: str) -> str:
    """A program of the virtual environment."""
    return str(Path(sys.executable).with_name(name))


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def _mount(home: Path) -> bool:
    """Whether the folder is a small filesystem of its own from now on."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return False
    size = f"size={DISK_MIB}m,mode=700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "arcadia-chaos", str(home)], capture_output=True)
    return done.returncode == 0


def _unmount(home: Path) -> None:
    """Once nobody uses it any more: a process that was killed may take a moment."""
    for _ in range(50):
        if not os.path.ismount(home) or subprocess.run(["umount", str(home)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
