"""Another PostgreSQL for the tests than the embedded one: installed programs, and defaults that nobody would choose.

Belongs here: a cluster of its own in a temporary folder, which its starter stops. `pytest --postgres FOLDER` uses it.
"""

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import psycopg

from arcadia_pipelines_tests.databases import new_home

SETTINGS = {
    "TimeZone": "Australia/Sydney",
    "DateStyle": "SQL, DMY",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # it is thrown away
}
LOCALE = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-AU")


class Server(NamedTuple):
    """A server that runs, by whose programs, and in which folder."""

    url: str
    programs: Path
    home: Path


def start(programs: Path) -> Server:
    """A new server, by the programs (initdb, pg_ctl) of a folder."""
    home = Path(new_home())
    if account := _account():
        os.chown(home, account.pw_uid, account.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _run(programs / "initdb", "-D", str(home / "data"), "--username=arcadia", "--auth=trust", *LOCALE)
    options = " ".join(f"-c {name}='{value}'" for name, value in {**SETTINGS, "port": str(port)}.items())
    _run(programs / "pg_ctl", "-D", str(home / "data"), "-l", str(home / "log"), "-w", "-o", options, "start")
    server = Server(f"postgresql://arcadia@127.0.0.1:{port}/postgres", programs, home)
    with psycopg.connect(server.url) as connection:  # what it is for
        asked = "select current_setting('TimeZone'), current_setting('DateStyle'), datlocprovider from pg_database"
        assert connection.execute(asked).fetchone() == ("Australia/Sydney", "SQL, DMY", "i")
    return server


def stop(server: Server) -> None:
    """Stop the server and remove its folder."""
    _run(server.programs / "pg_ctl", "-D", str(server.home / "data"), "-w", "-m", "fast", "stop")
    shutil.rmtree(server.home, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """As whom to run PostgreSQL, which refuses root; None: as who we are."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _run(program: Path, *arguments: str) -> None:
    account = _account()
    subprocess.run(
        [str(program), *arguments],
        check=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=[] if account else None,
    )
