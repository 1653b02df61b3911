"""A Tryton of the tests' own: its programs are in an environment of their own, its database is on the tests' server."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from arcadia_pipelines.finance.client import FinanceError
from arcadia_pipelines.finance.tryton.rpc import CallFailed, Rpc
from arcadia_pipelines_tests.finance.tryton.books import keep_books

ADMIN = "admin:of-the-tests"
LOGIN = "arcadia:posts-invoices"
"""As which we call it."""
_START_SECONDS = 60


@contextmanager
def tryton(programs: Path, server_url: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Tryton's address, which ends with the database's name, and the URL of that database; the books are set up."""
    address, _, options = server_url.partition("?")
    name, port = "ledger", _free_port()
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template template0 encoding 'UTF8'".encode())
    configuration = folder / "trytond.conf"
    configuration.write_text(
        f"[database]\nuri = {address.rpartition('/')[0]}\n[web]\nlisten = 127.0.0.1:{port}\n"
        "[queue]\nworker = True\n"  # what can wait, such as Tryton's own paper, waits for a worker that is not there
    )
    password = folder / "password"
    password.write_text(ADMIN.partition(":")[2])
    _make(programs, configuration, name, password)
    url = f"http://127.0.0.1:{port}/{name}"
    with (folder / "trytond.log").open("wb") as log:
        arguments = [str(programs / "trytond"), "-c", str(configuration), "-d", name]
        process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder, env=_environment())
        try:
            _set_up(url, process)
            yield url, f"{address.rpartition('/')[0]}/{name}?{options}"
        finally:
            process.terminate()
            process.wait()


def _make(programs: Path, configuration: Path, name: str, password: Path) -> None:
    """Its tables, in half a minute."""
    arguments = [str(programs / "trytond-admin"), "-c", str(configuration), "-d", name]
    subprocess.run(
        [*arguments, "--update", "account_invoice", "--activate-dependencies", "--email", "accounts@example.com"],
        env={**_environment(), "TRYTONPASSFILE": str(password)},
        check=True,
        stdin=subprocess.DEVNULL,
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "TRYTON", "PYTHON"))}


def _set_up(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    rpc = Rpc(url, ADMIN, 60, 1)
    try:
        while True:
            try:
                rpc.read("model.res.user.get_preferences", True)
                break
            except (CallFailed, FinanceError):
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        keep_books(rpc, *LOGIN.split(":"))
    finally:
        rpc.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
