"""Servers and catalogues that hold the usage of a test."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import load_catalog


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A server's process, once it listens; it ends with the test."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=os.environ | variables, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    with process:
        try:
            while not _listens(port):
                assert process.poll() is None, command
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def sail(workers: int = 2) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A Sail server in a cluster of its own with so many workers: its port, and its process."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("sail")), "spark", "server", "--ip", "127.0.0.1", "--port", str(port)]
    cluster = {"SAIL_MODE": "local-cluster", "SAIL_CLUSTER__WORKER_INITIAL_COUNT": str(workers), "RUST_LOG": "off"}
    with serving(command, port, **cluster) as process:
        yield port, process


def lake(folder: Path, *appended: pa.Table, **elsewhere: str) -> dict[str, str]:
    """An Iceberg table metering.usage_records, a snapshot for each part; the variables that name its catalogue.

    Its files are in the folder; `elsewhere` has variables of a catalogue whose files are not.
    """
    folder.mkdir(exist_ok=True)
    variables = {
        "PYICEBERG_CATALOG__LAKE__TYPE": "sql",
        "PYICEBERG_CATALOG__LAKE__URI": f"sqlite:///{folder}/catalogue.db",
        "PYICEBERG_CATALOG__LAKE__WAREHOUSE": f"file://{folder}",
        **elsewhere,
    }
    properties = {name.split("__", 2)[2].replace("__", ".").lower(): value for name, value in variables.items()}
    catalogue = load_catalog("lake", **properties)
    catalogue.create_namespace_if_not_exists("metering")
    table = catalogue.create_table_if_not_exists("metering.usage_records", appended[0].schema)
    for part in appended:
        table.append(part)
    catalogue.close()
    return variables
