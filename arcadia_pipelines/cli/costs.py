"""`arcadia costs`: the provider's bills, rates of exchange, and what is left of revenue."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import dollars, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, JSON, CommandError, Month, engine, print_table, say, to_json
from arcadia_pipelines.costs import bill_csv, bill_items, bills, digitalocean, exchange, fx_rates, margins
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.costs.bill import Bill, InvalidBill
from arcadia_pipelines.costs.bills import Standing, Stored
from arcadia_pipelines.costs.exchange import Rate
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import columns, database

_SHOWN = 20
_BY_MONTH = {
    "period_start": "month",
    "revenue_cents": "revenue",
    "cost_cents": "cost",
    "unallocated_cents": "of it unallocated",
    "margin_cents": "margin",
    "margin_percent": "%",
}
_BY_DEPLOYMENT = {
    "tenant_id": "tenant",
    "deployment_name": "deployment",
    "revenue_cents": "revenue",
    "cost_cents": "cost",
    "margin_cents": "margin",
    "margin_percent": "%",
}
_MOVED = {
    "product": "product",
    "resource": "resource",
    "before_cents": "before",
    "after_cents": "after",
    "difference_cents": "difference",
}


class _Dollars(click.ParamType[int]):
    """An amount like 1,234.50, in cents."""

    name = "AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else bill_items.cents(value, "--total")
        except InvalidBill as error:
            self.fail(str(error))


_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_REASON = click.option("--reason", help="Why a rate that looks wrong is right; it is kept with the rate, and shown.")


@click.group()
def costs() -> None:
    """What the provider bills us, beside what we bill: its bills, rates of exchange, margins."""


@costs.command("import", short_help="Import a bill from its CSV, and allocate it.")
@_FILE
@click.option("--month", type=Month(), help="The month that it bills; unless given, the one that its items are in.")
@click.option("--total", type=_Dollars(), help="The bill's own total in USD, which the CSV does not always state.")
@JSON
def import_bill(file: Path, month: BillingMonth | None, total: int | None, as_json: bool) -> None:
    """Import a bill of DigitalOcean's from FILE, the CSV that it lets people download, and allocate it.

    A bill that does not add up to its total is refused, and so is one whose items lie in another month, or that is
    another month's bill already. The same bill again changes nothing; a restated one replaces the month's, and what
    moved is told. Several invoices of a month are imported as one file: their CSVs one after the other.
    """
    try:
        received = bill_csv.read_csv(file.read_bytes(), file.name, month, total)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except InvalidBill as error:
        raise CommandError(f"{file.name} is not imported: {error}") from error
    _take(received, "imported", as_json)


@costs.command(short_help="Fetch a month's bill, and allocate it.")
@click.argument("month", type=Month())
@JSON
def fetch(month: BillingMonth, as_json: bool) -> None:
    """Fetch DigitalOcean's bill of MONTH from its API (ARCADIA_DIGITALOCEAN_TOKEN), and allocate it."""
    with ERR.status("asking DigitalOcean"):
        received = digitalocean.fetch(month, Settings.from_environment())
    _take(received, "fetched", as_json)


@costs.command(short_help="Take months' rates of exchange from a file.")
@_FILE
@_REASON
def rates(file: Path, reason: str | None) -> None:
    """Take each month's rate of exchange from FILE: the Reserve Bank's table F11 as a CSV, daily or monthly.

    A month's rate is its last one that was published; a month that is not over gets none. Columns month and usd_per_aud
    do as well. Bills of months whose rate changed are converted again. A rate outside 0.3 to 1.5, or more than 25 %
    from the month before's, is refused without a --reason. A month in which the file ends is not reconciled.
    """
    try:
        found = exchange.read_csv(file.read_bytes())
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except exchange.InvalidRates as error:
        raise CommandError(f"{file.name} is not imported: {error}") from error
    first, today = Settings.from_environment().first_month, dt.datetime.now(dt.UTC).date()
    wanted = [one for one in found.rates if first <= one.month and one.month.end <= today]
    if not wanted:
        raise CommandError(f"{file.name} has no rate of a month from {first} on that is over")
    _rate(wanted, file.name, reason, found.rates)
    missing = [one for one in found.missing if first.start <= one.day < today]
    if missing:
        told = ", ".join(f"{one.day} ({one.text or 'empty'})" for one in missing[: -_SHOWN - 1 : -1])
        say(f"{file.name} has days without a number: {told}{', ...' if len(missing) > _SHOWN else ''}")


@costs.command(short_help="Set a month's rate of exchange.")
@click.argument("month", type=Month())
@click.argument("usd_per_aud")
@click.option("--source", required=True, help="Where the rate is from, for the record.")
@_REASON
def rate(month: BillingMonth, usd_per_aud: str, source: str, reason: str | None) -> None:
    """Set MONTH's rate of exchange: US dollars for one Australian dollar, like 0.6543. Its bill is converted again.

    A rate outside 0.3 to 1.5, or more than 25 % from the month before's, is refused without a --reason.
    """
    entered = exchange.Rate(month, exchange.parse_rate(usd_per_aud), None)
    if not source.strip():
        raise CommandError("--source is empty: say where the rate is from")
    _rate([entered], source.strip(), reason)


@costs.command(short_help="Show revenue beside cost.")
@click.argument("month", type=Month(), required=False)
@JSON
def show(month: BillingMonth | None, as_json: bool) -> None:
    """Show revenue beside cost by month, or MONTH by deployment, the lowest margin first."""
    with database.transaction(engine()) as connection:
        rows = margins.month_by_deployment(connection, month) if month else margins.month_by_month(connection)
    if month and not rows:
        raise CommandError(f"there is nothing of {month}: neither an invoice nor a bill of the provider's")
    if as_json:
        click.echo(to_json({"rows": rows}))
    elif month:
        _print_rows(f"Cost beside revenue of {month}, AUD ex GST, lowest margin first", rows, _BY_DEPLOYMENT)
    else:
        print_months(rows)


def print_months(rows: list[dict[str, Any]]) -> None:
    """Rows of storage.costs.month_by_month as a table for people, and what is not reconciled."""
    _print_rows("Cost beside revenue, AUD ex GST", rows, _BY_MONTH)
    for row in rows:
        if row["open_points"]:
            say(f"{row['period_start']:%Y-%m} is not reconciled: {row['open_points']}")
        if row["rate_reason"]:
            say(f"{row['period_start']:%Y-%m} has a rate of exchange that looked wrong; accepted: {row['rate_reason']}")


class Taken(NamedTuple):
    """A bill that was stored and allocated, as Dagster's catalogue shows it."""

    month: BillingMonth
    stored: Stored
    standing: Standing
    products: pd.DataFrame
    """As bills.PRODUCTS."""
    columns: list[columns.Column]


def take(connection: Connection, received: Bill) -> Taken:
    """Store the bill and allocate it. Raises bills.BilledTwice."""
    month, stored = received.month, bills.store(connection, received)
    month_costs.allocate(connection, month)
    standing, products = bills.standing(connection, month), bills.by_product(connection, month)
    return Taken(month, stored, standing, products, columns.of(connection, "cloud_invoice_items"))


def show_in_catalogue(taken: Sequence[Taken], how: str) -> None:
    """Report stored bills to Dagster as materialisations of cloud_invoices; if it cannot take them, warn."""
    with ERR.status("loading Dagster"):
        from arcadia_pipelines.cli import launch
        from arcadia_pipelines.pipeline import reporting
    try:
        with launch.instance("the bill is stored") as instance:
            for one in taken:
                metadata = reporting.bill(one.stored, how, one.standing, one.products, one.columns)
                launch.report_bill(one.month, metadata, instance)
    except ArcadiaError as error:
        ERR.print(f"warning: the bill is stored, but Dagster's catalogue lacks it: {error}", soft_wrap=True)


def _take(received: Bill, how: str, as_json: bool) -> None:
    """Store the bill, allocate it, and say what came of it; all of it or nothing."""
    month, first = received.month, Settings.from_environment().first_month
    if month < first or month.end > dt.datetime.now(dt.UTC).date():
        raise CommandError(f"{month} has no bill to take: bills are accepted for months from {first} that have ended")
    with database.month_transaction(engine(), month) as connection:
        try:
            taken = take(connection, received)
        except bills.BilledTwice as error:
            raise CommandError(f"{received.source} is not imported: {error}") from error
        stored = taken.stored
        [standing] = [row for row in margins.month_by_month(connection) if row["period_start"] == month.start]
        unmapped = bills.unmapped_products(connection, month)
    show_in_catalogue([taken], how)
    moved = [
        {str(name): value for name, value in row.items()} for row in stored.moved.astype(object).to_dict("records")
    ]
    if as_json:
        told = {"month": str(month), "outcome": stored.outcome, "revision": stored.revision, "moved": moved}
        click.echo(to_json({**told, "unmapped_products": unmapped, **standing}))
        return
    say(
        f"the bill of {month} is {stored.outcome}: {number_of(len(received.items), 'items')},"
        f" {dollars(received.total_cents)} USD, revision {stored.revision}"
    )
    if moved:
        _print_rows(f"What moved, USD ({len(moved)} in all)", moved[:_SHOWN], _MOVED)
    if standing["cost_cents"] is not None:
        parts = {name: dollars(standing[f"{name}_cents"] or 0) for name in ("cost", "allocated", "unallocated")}
        say(
            f"at {standing['usd_per_aud']} USD for one AUD it is {parts['cost']} AUD:"
            f" {parts['allocated']} of deployments, {parts['unallocated']} unallocated"
        )
    say(f"not reconciled: {standing['open_points']}" if standing["open_points"] else "reconciled")
    if unmapped:
        say(f"unmapped products: {', '.join(unmapped)}. Add them to billing.product_kinds")


def _rate(entered: list[Rate], source: str, reason: str | None, beside: Sequence[Rate] = ()) -> None:
    """Set the rates, and convert the bills of their months again; all of it or nothing."""
    if reason is not None and not reason.strip():
        raise CommandError("--reason is empty: say why the rate is right")
    with database.month_transaction(engine(), *(one.month for one in entered)) as connection:
        try:
            changed = fx_rates.enter(connection, entered, source, reason and reason.strip(), beside)
        except fx_rates.DoubtfulRate as error:
            raise CommandError(
                f"{error}. A rate is US dollars for one Australian one: correct it, or say why it is right (--reason)"
            ) from error
        for month in bills.billed_months(connection):
            if month in changed:
                month_costs.allocate(connection, month)
    for one in entered:
        if one.month in changed:
            now = changed[one.month]
            say(f"{one.month}: {one.usd_per_aud} USD for one AUD{f', was {now.before}' if now.before else ''}")
            if now.doubt:
                say(f"{one.month}: {now.doubt}; accepted: {now.reason}")
        if not one.is_final:
            say(
                f"{one.month}: its last rate is of {one.published_on}, not of its end: is the file whole? The month is"
                " not reconciled until it has its last rate"
            )
    say(f"rates new or changed: {len(changed)}; known before: {len(entered) - len(changed)}")


def _print_rows(title: str, rows: list[dict[str, Any]], columns: Mapping[str, str]) -> None:
    """A table for people of these columns, by their headings: cents as dollars."""
    numbers = [heading for name, heading in columns.items() if name.endswith(("_cents", "_percent"))]
    cells = [[_spelled(name, row[name]) for name in columns] for row in rows]
    print_table(list(columns.values()), cells, numbers=numbers, title=title)


def _spelled(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "period_start":
        return f"{value:%Y-%m}"
    return dollars(value) if name.endswith("_cents") else str(value)
