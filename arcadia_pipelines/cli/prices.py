"""`arcadia prices`: the price book as a file that people review in git.

Belongs here: arguments and printing. Does not: what a book may hold, and what it changes (prices/).
"""

import datetime as dt
import getpass
import json
from collections.abc import Sequence
from pathlib import Path

import click
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines import embedded
from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import (
    ERR,
    JSON,
    CommandError,
    Month,
    engine,
    print_table,
    say,
    to_json,
)
from arcadia_pipelines.prices import apply as applying
from arcadia_pipelines.prices import book, stored, text
from arcadia_pipelines.prices.book import PriceBook
from arcadia_pipelines.prices.changes import Change
from arcadia_pipelines.prices.text import Fault, InvalidPrices, Reading
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database, migrations

_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_HEADING = """The price book in effect in {month:%B %Y}. Prices are Australian dollars, ex GST.
`arcadia prices schema` prints the schema, `arcadia prices check` says what is wrong; docs/prices.md explains it."""


@click.group()
def prices() -> None:
    """The price book as a file: plans, addons, rates, tenants' own prices, discounts, commitments."""


@prices.command(short_help="Write the price book in effect as YAML.")
@click.option("--month", type=Month(), help="The book in effect in this month; this month unless given.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file; standard output unless given.")
def export(month: BillingMonth | None, out: Path | None) -> None:
    """Write the price book that is in effect in a month, as YAML.

    It has the newest prices not after the month's first day, and the discounts and commitments that have not ended by
    then. Applied from that month on, it changes nothing.
    """
    month = month or BillingMonth(dt.datetime.now(dt.UTC).date().replace(day=1))
    with database.snapshot(engine()) as connection:
        written = text.write(stored.in_effect(connection, month), _HEADING.format(month=month.start))
    if out is None:
        click.echo(written, nl=False)
        return
    try:
        out.write_text(written, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror}") from error
    say(f"the price book of {month} is in {out}")


@prices.command(short_help="Say what is wrong in a price book, with lines.")
@_FILE
@JSON
def check(file: Path, as_json: bool) -> None:
    """Say what is wrong in the price book in FILE, and in which line. Nothing is changed.

    Where a database is there, tenants and deployments that the platform does not have are faults too, and a rate for a
    kind that was never metered is a warning. The exit code is 1 if there are faults; warnings do not count.
    """
    reading = text.read(_bytes(file))
    faults = [*reading.faults, *_against_database(reading)]
    wrong = [fault for fault in faults if not fault.is_warning]
    if as_json:
        click.echo(to_json({"faults": [vars(fault) for fault in faults]}))
    else:
        for fault in faults:
            say(f"{file}:{fault}")
    if wrong:
        raise CommandError(f"{file} has {number_of(len(wrong), 'faults')}")
    if not as_json:
        say(f"{file} is a price book, with {number_of(len(faults), 'warnings') if faults else 'no faults'}")


@prices.command(short_help="Make a price book be in effect from a month on.")
@_FILE
@click.option("--from", "since", required=True, type=Month(), help="The first month that it is in effect.")
@click.option("--operator", help="Who asks for it; the name of your login unless given. It goes into the record.")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL, and change nothing.")
@JSON
def apply(
    file: Path, since: BillingMonth, operator: str | None, reason: str, dry_run: bool, as_sql: bool, as_json: bool
) -> None:
    """Make the price book in FILE be in effect from a month on.

    What differs from the prices in effect then is written with that effective_from, all of it or nothing, and recorded
    with the file. A tenant's own price that is not in the book gives the list's back, and a discount or a commitment
    ends; a plan, an addon or a rate of the list that is not in it is refused, for these stay. So is a change to a month
    that is invoiced. Where the platform owns its tables, the SQL is printed for it instead.
    """
    content = _bytes(file)
    wanted = book_in(file, content)
    migrations.require(on := engine())
    with database.exclusive_transaction(on) as connection:
        found = applying.differences(connection, wanted, since)
        later = applying.later(connection, since)
        prints = as_sql or not applying.is_ours(connection)
        sql = applying.as_sql(connection, found, since) if prints and found else ""
        if found and not prints:
            applying.apply(connection, found, wanted, content, since, operator or getpass.getuser(), reason)
        if dry_run:
            connection.rollback()
    if prints:
        _print_sql(sql, file, since)
    elif as_json:
        told = {"month": str(since), "dry_run": dry_run, "changes": [change.document() for change in found]}
        click.echo(to_json({**told, "later": [{"what": what, "month": month} for what, month in later]}))
    else:
        _print_changes(found, later, file, since, dry_run)


@prices.command(short_help="Print the JSON schema of price books.")
def schema() -> None:
    """Print the JSON schema of price books, which editors complete and check by.

    Written to price-book.schema.json beside a price book, it is what the first line of an exported one names.
    """
    click.echo(json.dumps(book.schema(), indent=2))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error


def book_in(file: Path, content: bytes | None = None) -> PriceBook:
    """The price book in the file. Raises InvalidPrices."""
    reading = text.read(_bytes(file) if content is None else content)
    if reading.book is None:
        raise _invalid(file, reading.faults)
    return reading.book


def book_of_platform(file: Path, on: Engine) -> PriceBook:
    """The price book in the file, if the platform has the tenants and deployments that it names; else InvalidPrices."""
    reading = text.read(_bytes(file))
    if reading.book is None:
        raise _invalid(file, reading.faults)
    with database.snapshot(on) as connection:
        if unknown := _faults(reading, connection):
            raise _invalid(file, unknown)
    return reading.book


def _invalid(file: Path, faults: Sequence[Fault]) -> InvalidPrices:
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return InvalidPrices(f"{file}:{faults[0]}{more}: `arcadia prices check {file}` says it all")


def _against_database(reading: Reading) -> list[Fault]:
    """What is wrong in view of the database, if one is there: none is started for this."""
    settings = Settings.from_environment()
    if reading.book is None or not (settings.database_url or embedded.url(settings.home)):
        return []
    with database.snapshot(engine()) as connection:
        return [
            *_faults(reading, connection),
            *(reading.fault(path, what, True) for path, what in stored.unmetered(connection, reading.book)),
        ]


def _faults(reading: Reading, connection: Connection) -> list[Fault]:
    assert reading.book
    return [reading.fault(path, what) for path, what in stored.strangers(connection, reading.book)]


def _print_sql(sql: str, file: Path, since: BillingMonth) -> None:
    click.echo(sql, nl=False)
    what = "nothing was changed: run this where the platform's tables are" if sql else "there is nothing to change"
    ERR.print(f"{file} from {since} on: {what}", soft_wrap=True)


def _print_changes(
    found: list[Change], later: list[tuple[str, str]], file: Path, since: BillingMonth, dry_run: bool
) -> None:
    print_table(
        ("what", "before", "after"),
        [(change.what, _in_words(change, "before"), _in_words(change, "after")) for change in found],
    ) if found else None
    for what, month in later:
        say(f"{what} has another price from {month} on, which stays")
    if not found:
        say(f"{file} is in effect from {since} on already: nothing was written")
    elif dry_run:
        say(f"{number_of(len(found), 'changes')} from {since} on would be made: without --dry-run they are")
    else:
        say(f"{number_of(len(found), 'changes')} from {since} on made, and recorded")


def _in_words(change: Change, side: str) -> str:
    """A side of a change as a person reads it: price_aud 50.00, unit hour."""
    document = change.document()[side] or {}
    if list(document) == ["price_aud"]:
        return str(document["price_aud"])
    return ", ".join(f"{name} {_spelled(value)}" for name, value in document.items() if name != "id")


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(" ".join(f"{name} {one}" for name, one in tier.items()) for tier in value)
    return str(value)
