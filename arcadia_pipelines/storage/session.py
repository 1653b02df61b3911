"""The session settings that our SQL relies on: set once a session is connected, then verified.

A setting that is part of the connection request may lose: libpq sends PGTZ, PGDATESTYLE and PGCLIENTENCODING after it,
and a pooler refuses or drops it. Set afterwards, it overrides those, the URL, and the role's and database's defaults.

Belongs here: the settings, and the statements that set and verify them. Does not: connecting (database.py for the
month end, streams.py for its readers, api/queries.py for the API, pipeline/instance.py for Dagster).
"""

from collections.abc import Iterable, Mapping

from arcadia_pipelines.errors import ArcadiaError

SEARCH_PATH = "pg_catalog, pg_temp"
"""The search_path of every session and function of ours. Our SQL qualifies our names with their schema; other names
resolve to PostgreSQL's own, whatever somebody has put into another schema. Temporary tables come last."""

BASIC = {
    "search_path": SEARCH_PATH,
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "on",
    "session_replication_role": "origin",  # otherwise triggers and foreign keys, which guard the invoices, are off
    "default_transaction_isolation": "read committed",  # after a wait for a lock, what others committed is seen
    "default_transaction_deferrable": "off",
    "default_transaction_read_only": "off",
}
"""For every session: how text is read and written, and what a statement means."""

BILLING = BASIC | {
    "client_min_messages": "warning",
    "idle_in_transaction_session_timeout": "0",  # the writer idles while others read and compute
    "default_statistics_target": "30",  # 9,000 rows of a month are enough to plan by
}
"""For the sessions of the month end, the proofs and the operators' acts."""


VANISHED_SECONDS = 60
KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": VANISHED_SECONDS * 1000,
}
"""libpq parameters by which our end of a connection notices within a minute that the server has vanished."""

_SERVERS_END = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": str(VANISHED_SECONDS * 1000),
    "client_connection_check_interval": "10s",
}


class SessionRefused(ArcadiaError):
    """PostgreSQL, or a pooler in front of it, rejects a setting that amounts depend on; the message names it."""


def say(settings: Mapping[str, str]) -> str:
    """The statement that sets those of the settings that a session does not have yet."""
    return f"select pg_catalog.set_config(name, wanted, false) from {_wanted(settings)}"


def ask(settings: Mapping[str, str]) -> str:
    """The query for the settings that differ in a session: name, value, and the value wanted."""
    return f"select name, pg_catalog.current_setting(name, true), wanted from {_wanted(settings)}"


def verify(differing: Iterable[tuple[object, ...]]) -> None:
    """Raise SessionRefused if the query of ask() returned a row."""
    for name, value, wanted in differing:
        raise SessionRefused(
            f"the session's {name} is {value!r} and not {wanted!r}, though it was set: "
            "see what stands between here and PostgreSQL (a pooler must be in session mode)"
        )


def _wanted(settings: Mapping[str, str]) -> str:
    """The rows (name, wanted) that differ. All names are qualified: it runs before search_path is set."""
    rows = ", ".join(f"('{name}', '{wanted}')" for name, wanted in settings.items())
    value = "coalesce(pg_catalog.current_setting(name, true), '')"
    return f"(values {rows}) as w (name, wanted) where {value} operator(pg_catalog.<>) wanted"


# Set and not verified: on a local socket, where no client vanishes alone, they have no effect. The last one has
# PostgreSQL check for its client while a statement runs or waits, which works on Linux.
NOTICE_THE_VANISHED = (
    f"select pg_catalog.set_config(name, wanted, false) from {_wanted(_SERVERS_END)}"
    " and (name like 'tcp%' or pg_catalog.version() like '%linux%')"
)
"""The statement by which the server notices within a minute that this session's client machine has vanished."""


def limit_waits(seconds: int) -> str:
    """The statement that limits waits for a lock to so many seconds, unless the role or the database sets less."""
    return (
        f"select pg_catalog.set_config('lock_timeout', '{seconds}s', false)"
        f" where pg_catalog.current_setting('lock_timeout')::interval not between '1 ms' and '{seconds} s'"
    )
