"""Who blocks a session: looked up from another connection while it waits, and named for people to read.

Belongs here: noticing a wait, and who causes it. Does not: locks, and the limits of waits (database.py).
"""

import datetime as dt
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

LOGGER = logging.getLogger(__name__)
"""Says once, if a wait lasts, what is waited for and who holds it. Dagster shows it in the run (dagster.yaml)."""

_FIRST_LOOKS = 10
_SECONDS_BETWEEN_LOOKS = 1.0  # and five times as long after the first looks
_STALE_SECONDS = 15.0
_SHOWN = 60  # characters of the blocking query

_BLOCKING = """
    select h.pid, h.usename, h.application_name, h.state, h.xact_start, h.query, session_user as asking,
           count(*) over () - 1 as others
    from pg_catalog.pg_stat_activity w
    cross join lateral pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) as b (pid)
    join pg_catalog.pg_stat_activity h on h.pid = b.pid
    where (w.pid = %(session)s or w.application_name = %(readers)s) and w.wait_event_type = 'Lock'
    order by h.xact_start nulls last, h.pid limit 1
"""


class Watch:
    """What is known of a session's waits."""

    def __init__(self) -> None:
        self.what = ""
        """What the session waits for, if that has a name."""
        self._holder, self._seen = "", 0.0

    @property
    def held(self) -> str:
        """Who blocked the session just now, to be put behind what it waits for; '' if nobody was seen."""
        return f", held by {self._holder}" if time.monotonic() - self._seen < _STALE_SECONDS else ""

    def see(self, holder: str) -> None:
        """Note who blocks it now."""
        self._holder, self._seen = holder, time.monotonic()


def readers_of(session: int) -> str:
    """The application_name of the connections that read for the session of this process id."""
    return f"arcadia reader of {session}"


def same_server(connection: "psycopg.Connection[Any]", application_name: str) -> str:
    """The connection string of this connection's database and login."""
    info = connection.info
    # Host and port as connected: if the URL has none, two copies of libpq have two defaults.
    place = {"host": info.host, "port": str(info.port), "dbname": info.dbname, "user": info.user}
    same = {**info.get_parameters(), **place, "password": info.password, "application_name": application_name}
    return psycopg.conninfo.make_conninfo("", **{name: value for name, value in same.items() if value})


@contextmanager
def watched(connection: "psycopg.Connection[Any]", watch: Watch) -> Iterator[None]:
    """Meanwhile, check whether the session waits for somebody else's lock; the first such wait is logged."""
    over = threading.Event()
    server, session = same_server(connection, "arcadia watch"), connection.info.backend_pid
    threading.Thread(target=_look, args=(server, session, watch, over), daemon=True, name="watch").start()
    try:
        yield
    finally:
        over.set()


def _look(server: str, session: int, watch: Watch, over: threading.Event) -> None:
    looks, told = 0, False
    while not over.wait(_SECONDS_BETWEEN_LOOKS * (1 if looks < _FIRST_LOOKS else 5)):
        looks += 1
        holder = ""
        with suppress(psycopg.Error):  # no connection is left, or the server is gone: who waits will fail by itself
            holder = _holder(server, session)
        if not holder or over.is_set():
            continue
        watch.see(holder)
        if not told:
            told = True
            with suppress(Exception):  # whatever writes the log, it must not end the watch
                LOGGER.warning("waiting%s%s", f" for {watch.what}" if watch.what else "", watch.held)


def _holder(server: str, session: int) -> str:
    with psycopg.connect(server) as other:
        other.execute("set search_path = pg_catalog, pg_temp")
        other.execute("set role none")  # a login sees what its sessions do; the role it acts as does not
        found = other.execute(_BLOCKING, {"session": session, "readers": readers_of(session)}).fetchone()
    if found is None:
        return ""
    process, login, application, state, since, query, asking, others = found
    who = f"process {process} of PostgreSQL (login {login}, application {application or 'unnamed'}"
    more = f", and by {others} more" if others else ""
    if since is None:
        hidden = f"its start and query are hidden from {asking}, unless pg_read_all_stats is granted to it"
        return _printable(f"{who}; {hidden}){more}")
    query = _printable(query)
    query = query if len(query) <= _SHOWN else f"{query[:_SHOWN]}..."
    begun = f"{since.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    return _printable(f"{who}) in a transaction since {begun}, {state}: {query}{more}")


def _printable(text: str) -> str:
    """The text in one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
