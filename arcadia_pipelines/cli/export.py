"""`arcadia export`: months as files for other programs."""

from pathlib import Path

import click

from arcadia_pipelines.billing.money import dollars, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, CommandError, Month, engine, say
from arcadia_pipelines.exports import focus
from arcadia_pipelines.exports.focus_columns import SIDES, Side
from arcadia_pipelines.storage import database


@click.group()
def export() -> None:
    """Write months to files for other programs."""


@export.command("focus", short_help="Write a month in the FOCUS 1.2 format.")
@click.argument("month", type=Month())
@click.option(
    "--side",
    required=True,
    type=click.Choice(SIDES),
    help="revenue: what tenants were billed, AUD. cost: what the provider billed, USD.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file, which ends with .csv or .parquet. One that is there is replaced.",
)
def focus_file(month: BillingMonth, side: Side, out: Path) -> None:
    """Write one side of MONTH in the FinOps Foundation's FOCUS format, version 1.2.

    Revenue has a row per line of issued and paid invoices, GST included, and sums to them; cost one per item of the
    provider's bill and deployment that it went to, and sums to the bill. Drafts and void invoices are left out. The
    file appears whole or not at all.
    """
    if out.suffix.lower() not in focus.ENDINGS:
        raise click.BadParameter(f"{str(out)!r} must end with .csv or .parquet", param_hint="--out")
    on = engine()
    try:
        with ERR.status(f"exporting {month}"), database.snapshot(on) as connection:
            exported = focus.export(connection, month, side, out)
    except OSError as error:
        why = error.strerror or str(error)
        raise CommandError(f"cannot write {out} ({why}): name a file in a folder that has room and lets you") from error
    invoices = number_of(exported.invoices, "invoices") if side == "revenue" else "one bill"
    sums = f"{exported.currency} {dollars(exported.cents)}"
    say(f"{month} {side}: {number_of(exported.rows, 'rows')} of {invoices}, {sums}, in {out}")
