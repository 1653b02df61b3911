"""`arcadia reprice`: what past months would have come to at other prices.

Belongs here: arguments and printing. Does not: the computation (month/reprice.py), price books (prices/).
"""

from pathlib import Path
from typing import Any

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from arcadia_pipelines.billing.money import dollars, number_of, to_arrow
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth
from arcadia_pipelines.cli.console import ERR, JSON, CommandError, engine, print_table, say, to_json
from arcadia_pipelines.cli.prices import book_of_platform
from arcadia_pipelines.month.reprice import REPRICED, Repriced, by_month, document, records, summed, together
from arcadia_pipelines.month.reprice import reprice as reprice_month
from arcadia_pipelines.pipeline import pictures
from arcadia_pipelines.prices import proposed
from arcadia_pipelines.storage import costs, database

_SHOWN = 20


class Months(click.ParamType[list[BillingMonth]]):
    """Months like 2026-01..2026-10, or one."""

    name = "YYYY-MM..YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[BillingMonth]:
        """The months from the first to the last."""
        try:
            return BillingMonth.parse_range(str(value))
        except InvalidMonth as error:
            self.fail(str(error))


@click.command(short_help="Price past months at other prices.")
@click.option(
    "--prices",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The price book: `arcadia prices export` writes the one in effect.",
)
@click.option("--months", required=True, type=Months(), help="Which months, all of them materialised.")
@click.option("--tenant", metavar="ID", help="Of this tenant alone.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="All amounts, as .parquet or .csv.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="A chart of the months, as .svg.")
@JSON
def reprice(
    file: Path,
    months: list[BillingMonth],
    tenant: str | None,
    out: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Say what past months would have come to at the prices in a price book, beside what they come to.

    The engine that invoices months prices their frozen usage again, with discounts, commitments and GST; credits and
    corrections are left out, as no price decides them. Nothing is changed. A tenant that cannot be priced at one of the
    two is in no amount, and is named.
    """
    for path, endings in ((out, (".parquet", ".csv")), (picture, (".svg",))):
        if path and path.suffix.lower() not in endings:
            raise CommandError(f"{path} must end with {' or '.join(endings)}")
    on = engine()
    rows = proposed.rows(book_of_platform(file, on))
    found = []
    with ERR.status("pricing") as status:
        for month in months:
            status.update(f"pricing {month}")
            with database.snapshot(on) as connection:
                found.append(reprice_month(connection, month, rows, tenant))
    repriced = together(found)
    with database.snapshot(on) as connection:
        sums = by_month(repriced, months, costs.by_month(connection, tenant))
    if out:
        _write(repriced.amounts, out)
    if picture:
        picture.write_text(pictures.RENDERER.draw(pictures.repriced(pd.DataFrame(sums)).to_dict()), encoding="utf-8")
    if as_json:
        click.echo(to_json(document(repriced, sums)))
    else:
        _print(repriced, sums)


def _write(amounts: pd.DataFrame, out: Path) -> None:
    try:
        if out.suffix.lower() == ".parquet":
            pa.parquet.write_table(to_arrow(amounts, REPRICED), out)
        else:
            amounts.to_csv(out, index=False)
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}") from error


def _print(repriced: Repriced, months: list[dict[str, Any]]) -> None:
    numbers = ("before", "after", "difference")
    names = [f"{name}_cents" for name in numbers]
    rows = [[row["month"], *(_signed(row, name) for name in (*names, *_COSTS))] for row in months]
    total = {name: sum(row[name] for row in months) for name in names}
    print_table(
        ("month", *numbers, "cost", "margin before", "margin after"),
        rows,
        numbers=(*numbers, "cost", "margin before", "margin after"),
        title="At the prices in effect, and at the book's: AUD ex GST",
        sums=[("All months", *(_signed(total, name) for name in names), "", "", "")],
    )
    for heading, column in (("plan", "plan"), ("kind of line", "kind"), ("tenant", "tenant_id")):
        sums = records(summed(repriced.amounts, column))
        differing = [row for row in sums if row["difference_cents"]]
        shown = [[row[column] or "(no deployment)", *(_signed(row, name) for name in names)] for row in differing]
        if shown:
            more = f", the {_SHOWN} largest differences of {len(shown):,}" if len(shown) > _SHOWN else ""
            print_table((heading, *numbers), shown[:_SHOWN], numbers=numbers, title=f"By {heading}{more}")
    up, down = (sum(1 for row in _tenants(repriced) if sign * row > 0) for sign in (1, -1))
    say(f"{number_of(up, 'tenants')} would pay more, {number_of(down, 'tenants')} less.")
    left_out = repriced.faults["tenant_id"].nunique()
    if left_out:
        say(f"Left out: {number_of(left_out, 'tenants')} without a price in the book, like this:")
        say(f"  {repriced.faults['tenant_id'].iloc[0]}: {repriced.faults['detail'].iloc[0]}")


_COSTS = ("cost_cents", "margin_before_cents", "margin_after_cents")


def _tenants(repriced: Repriced) -> list[int]:
    return [int(cents) for cents in summed(repriced.amounts, "tenant_id")["difference_cents"]]


def _signed(row: dict[str, Any], name: str) -> str:
    """Dollars; a difference says its sign."""
    if row[name] is None:
        return ""
    return f"{'+' if name.startswith('difference') and row[name] > 0 else ''}{dollars(row[name])}"
