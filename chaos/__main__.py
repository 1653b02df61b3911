"""The month end in a storm, for minutes; then calm, and proofs: `make chaos [SEED=1] [MINUTES=5] [N=3000]`.

A platform of N deployments, in a PostgreSQL of its own in a temporary folder, has six months to invoice. Eight writers
do so, change it, and pay (writers.py), while clients, connections, PostgreSQL, runs and Dagster's daemon are killed,
the clock steps and the disk is full (kills.py). Then all is left alone, each month is run once more, and it is proved
that no cent is wrong and nothing is left over: by `arcadia audit`, by `arcadia replay`, and by an oracle that shares no
code with either (oracle.py, proofs.py). Prints a report; exits with 1, and says the seed, if something is wrong.

The same seed makes the same platform and the same choices; what meets what is up to the machine.
"""

import argparse
import datetime as dt
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import psutil
import psycopg

from arcadia_pipelines import embedded
from arcadia_pipelines.settings import PROJECT
from chaos import platform, proofs
from chaos.journal import DONE, FAILED, UNTOLD, Entry, Journal, reasons
from chaos.kills import KILLS, deal
from chaos.stage import Stage, program, stage
from chaos.writers import WRITERS

STORM = "storm"
_MOST_REASONS = 30


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--deployments", type=int, default=3000)
    parser.add_argument("--months", type=int, default=6)
    parser.add_argument("--kill-every", type=float, default=6.0, help="seconds, about")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    months = past_months(dt.datetime.now(dt.UTC).date(), options.months)
    say(f"seed {options.seed}: {options.deployments} deployments, {months[0]:%Y-%m} to {months[-1]:%Y-%m}")
    with stage() as on:
        journal = Journal(on.folder / "journal")
        prepare(on, options.seed, months, options.deployments)
        say(f"{options.minutes:g} minutes of storm")
        storm(on, journal, options.seed, months, options.minutes * 60, options.kill_every)
        say("calm: what is left is killed, PostgreSQL is restarted, the daemon reports the dead")
        restarts = on.restarts
        wrong = calm(on)
        entries = journal.read()
        report(entries, restarts, on)
        say("each month once more, then the proofs")
        found = proofs.prove(on, months, entries)
        wrong += found.wrong
        print(f"\nafterwards\n{'':2}{'wrong cents':34}{found.wrong_cents:8,}")
        for what, number in found.counts.items():
            print(f"  {what:34}{number:8,}")
    wrong += [f"still there after the end: {name}" for name in left_over(on)]
    for line in wrong:
        print(f"WRONG: {line}")
    if wrong:
        print(f"\nmake chaos: {len(wrong)} findings with SEED={options.seed} MINUTES={options.minutes:g}")
    return 1 if wrong else 0


def say(what: str) -> None:
    """A line on what is going on."""
    print(f"{dt.datetime.now(dt.UTC):%H:%M:%S} {what}", flush=True)


def past_months(today: dt.date, count: int) -> list[dt.date]:
    """The last months that are over, oldest first."""
    months = [today.replace(day=1)]
    for _ in range(count):
        months.insert(0, (months[0] - dt.timedelta(days=1)).replace(day=1))
    return months[:-1]


def prepare(on: Stage, seed: int, months: list[dt.date], deployments: int) -> None:
    """The platform as it is before the storm, and Dagster's daemon."""
    on.environment["ARCADIA_FIRST_MONTH"] = f"{months[0]:%Y-%m}"
    code, _, said = on.arcadia("db", "migrate")
    if code:
        sys.exit(said)
    with psycopg.connect(on.url) as connection:
        platform.fill(connection, random.Random(seed), months, deployments)
    with on.connect() as connection:
        connection.execute("vacuum analyze")
    start_daemon(on)


def start_daemon(on: Stage) -> None:
    """Dagster's daemon, with the code location."""
    on.spawn("daemon", program("dagster-daemon"), "run", "-w", str(PROJECT / "workspace.yaml"))


def storm(on: Stage, journal: Journal, seed: int, months: list[dt.date], seconds: float, kill_every: float) -> None:
    """All at once, until the time is over."""
    rng = random.Random(f"{seed} kills")
    deck, lives = list[str](), Counter[str]()
    until = time.monotonic() + seconds
    strikes_at = time.monotonic() + 5
    while time.monotonic() < until:
        keep_going(on, journal, seed, months, lives)
        if time.monotonic() > strikes_at:
            deck = deck or deal(rng)
            strike(on, journal, deck.pop(), rng)
            strikes_at = time.monotonic() + kill_every * rng.uniform(0.4, 1.6)
        time.sleep(0.5)


def keep_going(on: Stage, journal: Journal, seed: int, months: list[dt.date], lives: Counter[str]) -> None:
    """Whoever has ended is started again: writers, the daemon, the server."""
    if embedded.url(on.home) is None:
        try:
            on.start_server()
        except embedded.EmbeddedError as error:
            journal.write(Entry(STORM, "PostgreSQL started", FAILED, str(error)))
    for name in (*WRITERS, "daemon"):
        if name in on.processes and (code := on.processes[name].poll()) is None:
            continue
        if name in on.processes and code and code > 0:  # by itself: a writer never does, the daemon may
            outcome = FAILED if name == "daemon" else UNTOLD
            journal.write(Entry(STORM, f"{name} ended", outcome, last_line(on, name)))
        lives[name] += 1
        if name == "daemon":
            start_daemon(on)
        else:
            arguments = (name, f"{seed} {name} {lives[name]}", str(on.folder), *map(str, months))
            on.spawn(name, sys.executable, "-m", "chaos.writers", *arguments)


def last_line(on: Stage, name: str) -> str:
    """The last that a process has printed."""
    said = (on.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
    return said[-1] if said else "it said nothing"


def strike(on: Stage, journal: Journal, name: str, rng: random.Random) -> None:
    """Something befalls somebody."""
    try:
        hit = KILLS[name][1](on, rng)
        if hit is not None:
            journal.write(Entry(STORM, name, DONE, noted=hit))
    except (psycopg.Error, psutil.Error, OSError, subprocess.SubprocessError, embedded.EmbeddedError) as error:
        journal.write(Entry(STORM, name, FAILED, str(error)))


def calm(on: Stage) -> list[str]:
    """Kill who is left, restart the server, let the daemon end all runs, and end it too; runs that never ended."""
    on.end_processes()
    on.clear_disk()
    on.set_clock("+0")
    embedded.stop(on.home)
    on.start_server()
    start_daemon(on)
    unfinished = proofs.wait_for_runs(on)
    on.end_processes()
    return unfinished


def report(entries: list[Entry], restarts: int, on: Stage) -> None:
    """What happened."""
    acts = [entry for entry in entries if entry.who != STORM]
    print("\nacts                                  done  refused  failed  killed")
    for what in sorted({entry.what for entry in acts}):
        outcomes = Counter(entry.outcome for entry in acts if entry.what == what)
        numbers = (outcomes["done"], outcomes["refused"], outcomes["failed"] + outcomes["untold"], outcomes["killed"])
        print(f"  {what:34}" + "".join(f"{number:8}" for number in numbers))
    print("\nwhat befell them")
    for name in KILLS:
        print(f"  {name:34}{sum(entry.what == name and entry.outcome == DONE for entry in entries):8}")
    print(f"  {'PostgreSQL started again':34}{restarts:8}")
    if not on.has_disk:
        print("  no full disk: a small filesystem can be mounted by root only")
    if on.clock_library is None:
        print("  no clock that steps: libfaketime is not installed (apt-get install libfaketime)")
    print("\nwhy not, how often")
    for reason, times in reasons(entries).most_common(_MOST_REASONS):
        print(f"  {times:5}  {reason}")
    print(flush=True)


def left_over(on: Stage) -> list[str]:
    """Processes that still live, and the folder."""
    processes = [f"process {process.pid}" for process in (*on.clients(), *on.servers())]
    return processes + ([str(on.folder)] if on.folder.exists() else [])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
