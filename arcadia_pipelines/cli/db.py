"""`arcadia db`: the database is started, stopped, brought up to date, asked."""

import os

import click
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from arcadia_pipelines import embedded
from arcadia_pipelines.cli.console import ERR, OUT, say
from arcadia_pipelines.settings import PROJECT, SHIPPED, Settings
from arcadia_pipelines.storage import database, migrations, operations


@click.group()
def db() -> None:
    """The billing database."""


@db.command(short_help="Start the database, bring its schema up to date.")
def up() -> None:
    """Start the embedded database if it is the one to use, and bring the schema up to date.

    Outside a checkout it also writes what Dagster needs, dagster.yaml and workspace.yaml, into .arcadia/.
    """
    settings = Settings.from_environment()
    url = settings.url()
    applied = bring_up_to_date(url)
    what = "the database of ARCADIA_DATABASE_URL" if settings.database_url else "the embedded database"
    OUT.print(f"{what} is up; migrations applied: {len(applied)}")
    if PROJECT != SHIPPED:
        from arcadia_pipelines.pipeline.instance import dagster_home

        say(f"Dagster's settings are in {dagster_home(settings.home)}")


@db.command()
def down() -> None:
    """Stop the embedded database. Its data stays."""
    stopped = embedded.stop(Settings.from_environment().home)
    OUT.print("the embedded database is stopped" if stopped else "the embedded database was not running")


@db.command(short_help="Apply the migrations that are missing.")
def migrate() -> None:
    """Apply the migrations of sql/migrations that are missing."""
    applied = bring_up_to_date(Settings.from_environment().url())
    OUT.print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


@db.command()
def url() -> None:
    """Print the database's URL, password included."""
    settings = Settings.from_environment()
    # Our own connections say besides how the embedded server may ask for the password (require_auth), which clients
    # older than libpq 16 do not understand.
    click.echo(settings.url() if settings.database_url else settings.url().partition("?")[0])


@db.command(short_help="Settle how invoice numbers begin.")
@click.argument("prefix")
def series(prefix: str) -> None:
    """Have the invoice numbers of this database begin with PREFIX, like SYD-202604-00001, instead of INV.

    For a platform whose tenants are in several databases, which must not give a number twice. It is settled once,
    before the first invoice has a number.
    """
    with database.exclusive_transaction(database.engine(Settings.from_environment().url())) as connection:
        operations.set_number_series(connection, prefix)
    say(f"invoice numbers of this database begin with {prefix}")


@db.command(short_help="Open psql on the database.", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the database; ARGUMENTS are psql's, like -c "select ..."."""
    place = conninfo_to_dict(Settings.from_environment().url())
    if password := place.pop("password", None):  # not on the command line, where everybody on the machine can read it
        os.environ["PGPASSWORD"] = str(password)
    program = embedded.binary("psql")
    os.execv(program, [program, make_conninfo("", **place), *arguments])


def bring_up_to_date(url: str) -> list[str]:
    """Apply what is missing; what somebody else has to do, such as making roles, is said on stderr.

    Dagster's tables are made too, for whoever starts it may make none; where that was cut off, what is missing.
    """
    engine = database.engine(url)
    applied = migrations.migrate(engine, tell=lambda warning: ERR.print(f"warning: {warning}", soft_wrap=True))
    if migrations.owns_dagster(engine):
        with ERR.status("loading Dagster"):
            from arcadia_pipelines.pipeline.instance import complete_tables

        if made := complete_tables(url):
            migrations.admit_roles(engine)
        if made and "alembic_version" not in made:
            OUT.print(f"made the tables that Dagster lacked: {', '.join(made)}", soft_wrap=True)
    return applied
