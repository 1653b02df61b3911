"""What befalls the processes of the storm, one thing at a time. Each says to whom it happened, or None: to nobody."""

import contextlib
import random
import time
from collections.abc import Callable

import psutil

from arcadia_pipelines import embedded
from chaos.stage import Stage

_BACKENDS = """
    select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
    order by state = 'idle', pid
"""
FULL_SECONDS = 3.0
CLOCKS = ("-2h", "+0", "+3h", "+0", "-20m", "+0")
"""The server's clock, one after the other, from the right time."""


def client(stage: Stage, rng: random.Random) -> str | None:
    """A process of a writer's, or the command that it runs, by SIGKILL."""
    writers = [process.pid for name, process in stage.processes.items() if name != "daemon"]
    with contextlib.suppress(psutil.Error):
        writer = psutil.Process(rng.choice(writers))
        return _kill(rng.choice([writer, *writer.children(recursive=True)]))
    return None


def backend_ended(stage: Stage, rng: random.Random) -> str | None:
    """A connection, by pg_terminate_backend."""
    with stage.connect() as connection:
        pids = [pid for (pid,) in connection.execute(_BACKENDS)]
        if pids:
            connection.execute("select pg_terminate_backend(%s)", [_busy(rng, pids)])
        return str(len(pids)) if pids else None


def backend_killed(stage: Stage, rng: random.Random) -> str | None:
    """A connection's process, by SIGKILL: the server ends all others and recovers."""
    with stage.connect() as connection:
        pids = [pid for (pid,) in connection.execute(_BACKENDS)]
    with contextlib.suppress(psutil.Error):
        if pids and (process := psutil.Process(_busy(rng, pids))).name() == "postgres":
            return _kill(process)
    return None


def postmaster(stage: Stage, rng: random.Random) -> str | None:
    """PostgreSQL's first process alone, by SIGKILL: those of the connections notice, or work on for a moment."""
    return _kill(_postmaster(stage)) + _start_again(stage, rng)


def power_cut(stage: Stage, rng: random.Random) -> str | None:
    """All processes of PostgreSQL at once, by SIGKILL."""
    first = _postmaster(stage)
    for process in (first, *first.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            process.kill()
    return _start_again(stage, rng)


def restart(stage: Stage, rng: random.Random) -> str | None:
    """The server is stopped and started, as for an upgrade."""
    embedded.stop(stage.home)
    return _start_again(stage, rng)


def run_worker(stage: Stage, rng: random.Random) -> str | None:
    """The process of a run that Dagster's daemon has launched, by SIGKILL."""
    workers = [process for process in stage.clients() if _is_run_worker(process)]
    with contextlib.suppress(psutil.Error):
        return _kill(rng.choice(workers)) if workers else None
    return None


def daemon(stage: Stage, rng: random.Random) -> str | None:
    """Dagster's daemon, by SIGKILL. It is started again."""
    stage.processes["daemon"].kill()
    return "daemon"


def clock(stage: Stage, rng: random.Random) -> str | None:
    """The server's clock steps."""
    if stage.clock_library is None:
        return None
    stage.clock_steps += 1
    offset = CLOCKS[(stage.clock_steps - 1) % len(CLOCKS)]
    stage.set_clock(offset)
    return offset


def full_disk(stage: Stage, rng: random.Random) -> str | None:
    """No room on the server's disk for some seconds; then there is, and a server that has ended is started again."""
    if not stage.has_disk:
        return None
    stage.fill_disk()
    time.sleep(FULL_SECONDS)
    stage.clear_disk()
    return f"{FULL_SECONDS} s" + _start_again(stage, rng)


KILLS: dict[str, tuple[int, Callable[[Stage, random.Random], str | None]]] = {
    "a client killed": (6, client),
    "a connection ended by PostgreSQL": (5, backend_ended),
    "a run worker killed": (3, run_worker),
    "a backend killed": (2, backend_killed),
    "Dagster's daemon killed": (1, daemon),
    "the postmaster killed": (1, postmaster),
    "PostgreSQL killed whole": (1, power_cut),
    "PostgreSQL restarted": (1, restart),
    "the server's clock stepped": (2, clock),
    "the disk full": (1, full_disk),
}
"""By name: how often in 23, and what."""


def deal(rng: random.Random) -> list[str]:
    """All of them, as often as they are, in any order."""
    deck = [name for name, (times, _) in KILLS.items() for _ in range(times)]
    rng.shuffle(deck)
    return deck


def _busy(rng: random.Random, pids: list[int]) -> int:
    """One of the backends, of which the first are at work."""
    return pids[int(len(pids) * rng.random() ** 2)]


def _kill(process: psutil.Process) -> str:
    name = " ".join(process.cmdline()[:6])
    process.kill()
    return name


def _postmaster(stage: Stage) -> psutil.Process:
    return psutil.Process(int((stage.home / "postgres" / "postmaster.pid").read_text().split()[0]))


def _start_again(stage: Stage, rng: random.Random) -> str:
    time.sleep(rng.uniform(0, 1.5))
    stage.start_server()
    stage.restarts += 1
    return ""


def _is_run_worker(process: psutil.Process) -> bool:
    """Dagster's code server starts runs as children of its own."""
    with contextlib.suppress(psutil.Error):
        parent = process.parent()
        return parent is not None and "grpc" in parent.cmdline() and "resource_tracker" not in str(process.cmdline())
    return False
