"""What our sessions with PostgreSQL rely on: said to each once it is connected, and verified.

Asked for at connection start, a setting may lose: libpq sends PGTZ, PGDATESTYLE and PGCLIENTENCODING after it, and a
pooler refuses or drops it. Said afterwards it wins over those, the URL, the role's and the database's defaults.

Belongs here: the settings, and the statements that say and verify them. Does not: connecting (database.py for the
month end, streams.py for its readers, api/queries.py for the API, pipeline/instance.py for Dagster).
"""

from collections.abc import Iterable, Mapping

from arcadia_pipelines.errors import ArcadiaError

SEARCH_PATH = "pg_catalog, pg_temp"
"""Of every session and function of ours: our SQL names the schema of what is ours, and finds PostgreSQL's own functions
and operators, whatever somebody has put into another schema. Temporary tables come last."""

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
    "session_replication_role": "origin",  # else triggers and foreign keys, which guard the invoices, sleep
    "default_transaction_isolation": "read committed",  # who waited for a lock sees what was done meanwhile
    "default_transaction_deferrable": "off",
    "default_transaction_read_only": "off",
}
"""What everybody relies on: how text is read and written, and what a statement means."""

BILLING = BASIC | {
    "client_min_messages": "warning",
    "idle_in_transaction_session_timeout": "0",  # who writes a month waits for what reads and computes it
    "default_statistics_target": "30",  # 9,000 rows of a month are enough to plan by
}
"""What the month end, the proofs and the operators' acts rely on."""


VANISHED_SECONDS = 60
KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": VANISHED_SECONDS * 1000,
}
"""What our own end of each connection does, as libpq knows it: a server that has vanished is noticed in a minute."""

_SERVERS_END = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": str(VANISHED_SECONDS * 1000),
    "client_connection_check_interval": "10s",
}


class SessionRefused(ArcadiaError):
    """PostgreSQL, or a pooler before it, does not take a setting that amounts depend on; the message names it."""


def say(settings: Mapping[str, str]) -> str:
    """The statement that gives a session these settings; of those it has already, nothing is said."""
    return f"select pg_catalog.set_config(name, wanted, false) from {_wanted(settings)}"


def ask(settings: Mapping[str, str]) -> str:
    """The query of the settings that a session has otherwise: name, value and what was wanted."""
    return f"select name, pg_catalog.current_setting(name, true), wanted from {_wanted(settings)}"


def verify(differing: Iterable[tuple[object, ...]]) -> None:
    """Raise SessionRefused if there is a row of ask()."""
    for name, value, wanted in differing:
        raise SessionRefused(
            f"the session's {name} is {value!r} and not {wanted!r}, though it was set: "
            "see what stands between here and PostgreSQL (a pooler must be in session mode)"
        )


def _wanted(settings: Mapping[str, str]) -> str:
    """The rows (name, wanted) that differ. All is qualified: it runs while the session has a search_path of its own."""
    rows = ", ".join(f"('{name}', '{wanted}')" for name, wanted in settings.items())
    value = "coalesce(pg_catalog.current_setting(name, true), '')"
    return f"(values {rows}) as w (name, wanted) where {value} operator(pg_catalog.<>) wanted"


# Said and not verified: on a local socket they are not in force, and there nobody vanishes alone. The last of them has
# PostgreSQL look while a statement runs or waits, which it can on Linux.
NOTICE_THE_VANISHED = (
    f"select pg_catalog.set_config(name, wanted, false) from {_wanted(_SERVERS_END)}"
    " and (name like 'tcp%' or pg_catalog.version() like '%linux%')"
)
"""The statement that has the server notice in a minute that the machine of this session's client has vanished."""


def limit_waits(seconds: int) -> str:
    """The statement by which no lock is waited for longer, where the role or the database says no less."""
    return (
        f"select pg_catalog.set_config('lock_timeout', '{seconds}s', false)"
        f" where pg_catalog.current_setting('lock_timeout')::interval not between '1 ms' and '{seconds} s'"
    )
