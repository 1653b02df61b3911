"""Backup and restore: the whole database in one file of pg_dump's custom format, and an empty database filled from it.

Belongs here: running PostgreSQL's own programs, and what they leave out: roles, and the database's search_path. Does
not: restoring a server to an instant (docs/point-in-time-recovery.md).
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import Connection

from arcadia_pipelines import embedded
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import DAGSTER_SCHEMA
from arcadia_pipelines.storage import database, migrations

_OURS = ("arcadia_pipeline", "arcadia_analyst", "arcadia_api", "arcadia_reprice")
"""Roles that the migrations create."""
_SCHEMAS = ("billing", "cloud", DAGSTER_SCHEMA)
_NAME = r'(?:"(?:[^"]|"")+"|\w+)'
_GRANTEES = re.compile(
    rf"^(?:GRANT|REVOKE) .* (?:TO|FROM) ({_NAME})(?: WITH GRANT OPTION)?;$"
    rf"|^CREATE POLICY .*? TO ({_NAME}(?:, {_NAME})*)(?: USING| WITH CHECK|;)",
    re.MULTILINE,
)
_SINCE_17 = b"SET transaction_timeout = 0;\n"
"""pg_restore 17 writes this for every server; servers before 17 reject it."""
_KEPT_BY_THE_SERVER = re.compile(rb"ALTER (TABLE|VIEW|MATERIALIZED VIEW).* SET \(pg_attver=\d+\);\n")
"""PostgreSQL 15.20 and its siblings keep this of each column. A pg_dump of before writes it, and no server takes it."""

# A role belongs to the whole cluster, and other databases may use it: one that exists is left as it is.
_ROLES = """
do $$
declare
    role text;
    member text;
begin
    foreach role in array {roles}::text[] loop
        if pg_catalog.to_regrole(role) is null then
            begin
                execute pg_catalog.format('create role %s nologin', role);
            exception when insufficient_privilege then
                raise exception 'the backup grants rights to role %, which this server lacks and % may not create',
                    role, current_user using hint = 'as a superuser: create role ' || role || ' nologin';
            end;
        end if;
    end loop;
    foreach member in array {ours}::text[] loop
        if not pg_catalog.pg_has_role(member, 'usage') then
            begin
                execute pg_catalog.format('grant %I to %I', member, current_user);
            exception when insufficient_privilege then
                raise exception '% is not a member of the role %', current_user, member
                    using hint = pg_catalog.format('as a superuser: grant %I to %I', member, current_user);
            end;
        end if;
    end loop;
    execute pg_catalog.format('alter database %I set search_path = billing, cloud, public',
                              pg_catalog.current_database());
end $$;
"""
_FINISH = b"""
select billing.admit_roles();
set client_min_messages = error;
analyze;
commit;
"""


class BackupError(ArcadiaError):
    """A backup or a restore failed and changed nothing; the message says in one line why, and what to do."""


def backup(url: str, file: Path) -> None:
    """Write the database, as it is at this instant, to the file, which must not exist. Raises BackupError.

    The file appears whole or not at all, readable by its owner only. Months may run meanwhile. Raises StorageError.
    """
    if file.exists():
        raise BackupError(f"{file} exists already: name another file, or remove it")
    with database.transaction(database.engine(url)) as connection:
        connection.exec_driver_sql("select from billing.schema_migrations limit 0")
        programs = _programs(connection)
    try:
        made, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(made)
    except OSError as error:
        raise BackupError(f"cannot write {file} ({error.strerror}): name a folder that you may write to") from error
    try:
        dump = ["--format=custom", "--no-password", "--lock-wait-timeout=60s", f"--file={temporary}"]
        _run([str(programs / "pg_dump"), *dump, _place(url)], url, "the database was not backed up")
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def restore(url: str, file: Path) -> tuple[list[str], list[str]]:
    """Restore the file into the database, which must be empty: all of it, or nothing.

    Whoever restores owns everything in it. Roles that the backup names and this server lacks are created without a
    login. Returns their names, and those of the migrations that the backup lacks. Raises BackupError, StorageError.
    """
    with database.transaction(database.engine(url)) as connection:
        _refuse_unless_empty(connection)
        programs = _programs(connection)
        lacking = _lacking_migrations(programs, file)
        entries = _run([str(programs / "pg_restore"), "--list", str(file)], None, f"{file} cannot be read").splitlines()
        roles = sorted({*_OURS, *_grantees(programs, file, entries)})
        here = "select name from unnest(%(roles)s::text[]) name where to_regrole(name) is not null"
        new = sorted(set(roles) - set(connection.exec_driver_sql(here, {"roles": roles}).scalars()))
        start = sql.SQL(_ROLES).format(roles=sql.Literal(roles), ours=sql.Literal(["arcadia_api"]))
        begin = f"begin;\n{start.as_string(database.driver(connection))}".encode()
    # Default privileges belong to the user who made the backup; admit_roles() sets ours for the one who restores.
    with _chosen(entry for entry in entries if " DEFAULT ACL " not in entry) as chosen:
        _replay(url, programs, [f"--use-list={chosen}", "--no-owner", "--file=-", str(file)], begin)
    return new, lacking


def _replay(url: str, programs: Path, options: Sequence[str], begin: bytes) -> None:
    """Pipe pg_restore's script into psql, in one transaction that commits only if the script is complete."""
    script = [str(programs / "pg_restore"), *options]
    psql = [str(programs / "psql"), "-X", "-q", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-", _place(url)]
    with (
        tempfile.TemporaryFile() as unreadable,
        tempfile.TemporaryFile() as refused,
        subprocess.Popen(script, stdout=subprocess.PIPE, stderr=unreadable, env=_environment()) as reading,
        subprocess.Popen(
            psql, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=refused, env=_environment(url)
        ) as telling,
    ):
        assert reading.stdout
        assert telling.stdin
        failed = None
        with contextlib.suppress(BrokenPipeError), telling.stdin as to:  # psql ended, and has printed why
            to.write(begin)
            to.writelines(_head(reading.stdout))
            shutil.copyfileobj(reading.stdout, to)
            if not (failed := reading.wait()):
                to.write(_FINISH)
        reading.stdout.close()  # psql needs no more of it
        refuses = telling.wait()  # psql also fails on a script that was cut off; the reason is then pg_restore's
        if failed:
            why = f"{options[-1]} cannot be read to its end: {_reason(_said(unreadable))}"
            raise BackupError(f"nothing was restored: {why}")
        if refuses:
            raise BackupError(f"nothing was restored: {_reason(_said(refused))}")


def _head(script: IO[bytes]) -> Iterator[bytes]:
    """The script up to its first rows, without what a server rejects that other ones need, or keep for themselves."""
    for line in script:
        if line != _SINCE_17 and not _KEPT_BY_THE_SERVER.fullmatch(line):
            yield line
        if line.startswith(b"COPY "):
            return


def _refuse_unless_empty(connection: Connection) -> None:
    ours = "select nspname from pg_catalog.pg_namespace where nspname = any(%(schemas)s) order by 1"
    found = connection.exec_driver_sql(ours, {"schemas": list(_SCHEMAS)}).scalars().all()
    if found:
        raise BackupError(
            f"the database {connection.engine.url.database} is not empty, it has the schema {', '.join(found)}: restore"
            " into a new one (`create database ...` and set ARCADIA_DATABASE_URL to it; with the embedded PostgreSQL,"
            " `arcadia db down` and set another ARCADIA_HOME)"
        )


def _programs(connection: Connection) -> Path:
    """The folder of pg_dump, pg_restore and psql that are not older than the server. Raises BackupError."""
    server = database.driver(connection).info.server_version // 10000
    folders = []
    with contextlib.suppress(embedded.EmbeddedError):
        folders.append(Path(embedded.binary("pg_dump")).parent)
    if installed := shutil.which("pg_dump"):
        folders.append(Path(installed).parent)
    for folder in folders:
        version = subprocess.run([str(folder / "pg_dump"), "--version"], capture_output=True, text=True, check=False)
        if (number := re.search(r"\d+", version.stdout)) and int(number[0]) >= server:
            return folder
    raise BackupError(
        f"the server is PostgreSQL {server}, and no pg_dump here is as new: install the client programs of PostgreSQL"
        f" {server}, with their folder on PATH"
    )


def _lacking_migrations(programs: Path, file: Path) -> list[str]:
    """Our migrations that the backup does not have. Raises BackupError if it has others, or none."""
    table = ["--data-only", "--schema=billing", "--table=schema_migrations"]
    told = _script(programs, file, table)
    applied = re.findall(r"^(\S+\.sql)\t[0-9a-f]{64}\t", told, re.MULTILINE)
    ours = [path.name for path in sorted((migrations.SQL / "migrations").glob("*.sql"))]
    if not applied:
        raise BackupError(f"{file} is a backup of another program's database: it has no billing.schema_migrations")
    if newer := sorted(set(applied) - set(ours)):
        raise BackupError(f"{file} is of a newer release, which has {', '.join(newer)}: restore it with that release")
    return [name for name in ours if name not in applied]


def _grantees(programs: Path, file: Path, entries: Sequence[str]) -> set[str]:
    """The roles that the backup grants rights to, as SQL spells them."""
    with _chosen(entry for entry in entries if re.search(r"^\d+; \d+ \d+ (ACL|POLICY) ", entry)) as chosen:
        told = _script(programs, file, [f"--use-list={chosen}"])
    found = (name for groups in _GRANTEES.findall(told) for name in re.findall(_NAME, ",".join(groups)))
    return {name for name in found if name != "PUBLIC"}


@contextlib.contextmanager
def _chosen(entries: Iterable[str]) -> Iterator[str]:
    """The name of a list file by which pg_restore restores these entries of the backup and no others."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(entries))
        file.flush()
        yield file.name


def _script(programs: Path, file: Path, options: Sequence[str]) -> str:
    return _run([str(programs / "pg_restore"), *options, "--file=-", str(file)], None, f"{file} cannot be read")


def _run(command: list[str], url: str | None, failed: str) -> str:
    """The program's output. Raises BackupError with the program's reason."""
    ended = subprocess.run(command, env=_environment(url), capture_output=True, check=False)
    if ended.returncode:
        raise BackupError(f"{failed}: {_reason(ended.stderr)}")
    return ended.stdout.decode(errors="replace")


def _place(url: str) -> str:
    """Where the database is, without the password, which everybody on the machine could read on a command line."""
    return make_conninfo("", **{name: value for name, value in conninfo_to_dict(url).items() if name != "password"})


def _environment(url: str | None = None) -> dict[str, str]:
    password = conninfo_to_dict(url).get("password") if url else None
    said = {"LC_ALL": "C", "PG_COLOR": "never", "PGCLIENTENCODING": "UTF8", "PGAPPNAME": "arcadia"}
    return {**os.environ, **said, **({"PGPASSWORD": str(password)} if password else {})}


def _said(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _reason(said: bytes) -> str:
    """The first error in a program's output, with its hint, in one line."""
    lines = said.decode(errors="replace").strip().splitlines() or ["it ended, and did not say why"]
    errors = [re.split(r"(?:error|ERROR|FATAL): +", line, maxsplit=1) for line in lines]
    first = next((parts[1] for parts in errors if len(parts) > 1), lines[-1])
    hint = next((line.partition("HINT:")[2].strip() for line in lines if line.startswith("HINT:")), "")
    return f"{first}: {hint}" if hint else first
