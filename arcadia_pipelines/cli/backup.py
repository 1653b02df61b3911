"""`arcadia backup` and `arcadia restore`: the whole database as one file, and back."""

from pathlib import Path

import click

from arcadia_pipelines.cli.console import ERR, say
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import backup as backups

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
def backup(file: Path) -> None:
    """Write the whole database to FILE, as it is at one instant; months and people go on meanwhile.

    FILE is pg_dump's custom format, and must not be there yet. It has invoices, usage and history, schema cloud as far
    as it is in this database, Dagster's record, and who has which rights; no passwords, no logins. Whoever reads it
    reads everything: it is for its owner only.
    """
    with ERR.status(f"writing {file}"):
        backups.backup(Settings.from_environment().url(), file)
    say(
        f"{file}: the whole database, {file.stat().st_size / 1e6:,.1f} MB; `arcadia restore` fills an empty one from it"
    )


@click.command()
@click.argument("file", type=_FILE)
def restore(file: Path) -> None:
    """Fill the database, which must be empty, from FILE, which `arcadia backup` wrote.

    All of it or nothing: it is one transaction. Everything belongs to the user who restores. Functions in FILE run as
    that user: restore no file that others could write.
    """
    with ERR.status(f"reading {file}"):
        roles, migrations = backups.restore(Settings.from_environment().url(), file)
    say(f"the database is as {file} has it: prove it with `arcadia audit` and `arcadia replay`")
    if roles:
        say(f"made without a login or a password: the roles {', '.join(roles)}")
    if migrations:
        say(f"it is of an older release, and lacks {', '.join(migrations)}: run `arcadia db migrate`")
