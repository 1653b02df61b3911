"""`arcadia usage`: usage outside PostgreSQL, checked before the 1st, and test data for it."""

import click

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, CommandError, Month, engine, say
from arcadia_pipelines.storage import counts, database
from arcadia_pipelines.usage import loaders, sources

_TO = click.option("--to", required=True, metavar="parquet:FOLDER", help="The folder, also one of an object store.")


@click.group()
def usage() -> None:
    """Usage outside PostgreSQL, which ARCADIA_USAGE_URL names: check it, or make test data.

    docs/usage.md says which sources there are, and what their columns must be.
    """


@usage.command(short_help="Say whether a source fits the contract.")
@click.argument("month", type=Month())
@click.option("--source", "url", metavar="URL", help="The source; ARCADIA_USAGE_URL unless given.")
def check(month: BillingMonth, url: str | None) -> None:
    """Count MONTH in the usage source as the month end would, without freezing anything.

    Says how many records there are and of what, or what does not fit: a column's type, a record without an id or a
    time, a file that is not whole.
    """
    source = sources.source(url) if url else sources.configured()
    if source is None:
        raise CommandError("ARCADIA_USAGE_URL is not set: usage is in cloud.usage_records, or name a --source")
    with ERR.status(f"counting {month}"), database.snapshot(engine()) as connection:
        found = source.check(month, counts.spans(connection, month))
    say(f"{source.name} fits: {month} has {number_of(found.records, 'records')} of {number_of(found.meters, 'meters')}")
    for records, why in ((found.copies, "a record_id that is there twice"), (found.unusable, "no quantity")):
        if records:
            say(f"{number_of(records, 'records')} with {why}: their tenants would be held back")


@usage.command(short_help="Write a month's records to Parquet files.")
@click.argument("month", type=Month())
@_TO
def export(month: BillingMonth, to: str) -> None:
    """Write the records of MONTH in cloud.usage_records to Parquet files, as a usage source has them."""
    with ERR.status(f"exporting {month}"), database.snapshot(engine()) as connection:
        rows, files = loaders.write(counts.records(connection, month), month, to)
    _say_written(rows, files, to)


@usage.command(short_help="Write made-up records to Parquet files.")
@click.argument("number", type=click.IntRange(1, 10_000_000_000), metavar="N")
@_TO
@click.option("--month", type=Month(), required=True, help="The month of the records, like 2026-04.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same records.")
def generate(number: int, to: str, month: BillingMonth, seed: int) -> None:
    """Write N made-up records of the deployments that a month bills and the kinds that their plans have a rate for."""
    with database.snapshot(engine()) as connection:
        meters = counts.meters(connection, month)
    if not meters:
        raise CommandError(f"no deployment is subscribed in {month} to a plan with a rate: there is nothing to meter")
    with ERR.status(f"making {number:,} records"):
        rows, files = loaders.write(loaders.made_up(number, month, meters, seed), month, to)
    _say_written(rows, files, to)


def _say_written(rows: int, files: int, to: str) -> None:
    say(f"{number_of(rows, 'records')} in {number_of(files, 'files')} of {to}")
