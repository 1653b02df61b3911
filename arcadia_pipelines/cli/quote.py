"""`arcadia quote`: the price of a deployment before it exists, and which plan is the cheapest for its usage."""

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from arcadia_pipelines.billing.money import QUANTITY_LIMIT, dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import (
    JSON,
    CommandError,
    Month,
    document,
    engine,
    print_lines,
    print_table,
    say,
    to_json,
)
from arcadia_pipelines.storage import database

if TYPE_CHECKING:
    import pandas as pd

    from arcadia_pipelines.month.comparison import Compared


class _Usage(click.ParamType[tuple[str, Decimal]]):
    name = "KIND=QUANTITY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Decimal]:
        if isinstance(value, tuple):
            return value
        kind, _, text = value.partition("=")
        try:
            quantity = Decimal(text if kind else "")
        except InvalidOperation:
            self.fail(f"{value!r}: write it like droplet_hours=2160")
        if not quantity.is_finite() or not 0 <= quantity < QUANTITY_LIMIT:
            self.fail(f"{value!r}: the quantity must be a number from 0 to below 1e12")
        if quantity != quantity.quantize(Decimal("0.000001")):
            self.fail(f"{value!r}: a quantity has at most 6 decimals")
        return kind, quantity


@click.command()
@click.option("--plan", help="The plan's code. Needed, unless plans are compared.")
@click.option("--addon", "addons", multiple=True, help="An addon's code; again for each further unit.")
@click.option("--usage", multiple=True, type=_Usage(), help="Expected usage in the month; again for each kind.")
@click.option("--month", type=Month(), help="At the prices of this month; this month unless given.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="The day it starts on.")
@click.option("--tenant", metavar="TENANT", help="With this tenant's own prices and GST status.")
@click.option("--compare", is_flag=True, help="Quote every plan on sale, the cheapest first.")
@JSON
def quote(
    plan: str | None,
    addons: tuple[str, ...],
    usage: tuple[tuple[str, Decimal], ...],
    month: BillingMonth | None,
    start: dt.datetime | None,
    tenant: str | None,
    compare: bool,
    as_json: bool,
) -> None:
    """Price a deployment for a month, before it exists, by the same engine that invoices it.

    With --start, the month that it starts in; and a whole month, if its plan prorates. With --compare, the same usage
    and addons on every plan on sale, and why a plan cannot be had with them.
    """
    from arcadia_pipelines.month import comparison

    if plan is None and not compare:
        raise click.UsageError("Missing option '--plan'.")
    month, first_day = _when(month, start)
    quantities: dict[str, Decimal] = {}
    for kind, quantity in usage:
        quantities[kind] = quantities.get(kind, Decimal(0)) + quantity
    wanted = comparison.Wanted(month, addons, quantities, tenant, first_day)
    told: dict[str, Any] = {}
    with database.transaction(engine()) as connection:
        if plan is not None:
            priced = wanted.on(connection, plan)
            told = _quoted(*priced)
            whole_month = replace(wanted, first_day=1)
            told["whole_month"] = _quoted(*whole_month.on(connection, plan)) if first_day > 1 else None
            told["warnings"] = comparison.warnings(connection, wanted, plan, priced[1])
        compared = comparison.compare(connection, wanted) if compare else None
    if as_json:
        click.echo(to_json({**_document(told), **_compared(compared)}))
        return
    if plan is not None:
        _print_quote(told, plan, month, first_day)
    if compared:
        _print_compared(compared, month)


def _when(month: BillingMonth | None, start: dt.datetime | None) -> tuple[BillingMonth, int]:
    """The month that is quoted, and the first day of it that counts."""
    day = start.date() if start else (month.start if month else dt.datetime.now(dt.UTC).date().replace(day=1))
    if month and day.replace(day=1) != month.start:
        raise CommandError(f"--start {day} is not in {month}: give one of the two")
    return BillingMonth.parse(f"{day.year:04}-{day.month:02}"), day.day


def _quoted(invoices: "pd.DataFrame", lines: "pd.DataFrame") -> dict[str, Any]:
    """The contract's document of a quote."""
    totals = invoices[["subtotal_cents", "tax_cents", "total_cents"]].to_dict("records")[0]
    rows = lines.astype(object).where(lines.notna(), None).to_dict("records")
    quoted: dict[str, Any] = {"currency": "AUD", **{str(name): int(cents) for name, cents in totals.items()}}
    return quoted | {"lines": [{**row, "meta": json.loads(row["meta"])} for row in rows]}


def _document(told: dict[str, Any]) -> dict[str, Any]:
    """The quote for programs; a whole month that is as the part, and no warnings, are left out."""
    if not told:
        return {}
    whole = told["whole_month"]
    quoted = document({name: value for name, value in told.items() if name not in ("whole_month", "warnings")})
    if whole and whole["lines"] != told["lines"]:
        quoted["whole_month"] = document(whole)
    return quoted | ({"warnings": told["warnings"]} if told["warnings"] else {})


def _compared(compared: "Compared | None") -> dict[str, Any]:
    if not compared:
        return {}
    quotes = [{"plan": plan, **document(_quoted(*quoted))} for plan, quoted in compared.quotes.items()]
    return {"compared": quotes, "without": [{"plan": plan, "reason": why} for plan, why in compared.without.items()]}


def _print_quote(told: dict[str, Any], plan: str, month: BillingMonth, first_day: int) -> None:
    from_day = f", from {month}-{first_day:02} on" if first_day > 1 else ""
    print_lines(f"Quote at the prices of {month}{from_day}", told)
    whole = told["whole_month"]
    if whole and whole["lines"] != told["lines"]:
        print_lines("A whole month", whole)
    elif whole:
        say(f"Plan {plan} does not prorate: a part month costs as much as a whole one.")
    for warning in told["warnings"]:
        say(f"warning: {warning}")


def _print_compared(compared: "Compared", month: BillingMonth) -> None:
    numbers = ("subtotal", "GST", "total")
    rows = [
        (plan, *(dollars(int(totals[f"{name}_cents"].iloc[0])) for name in ("subtotal", "tax", "total")))
        for plan, (totals, _) in compared.quotes.items()
    ]
    if rows:
        print_table(("plan", *numbers), rows, numbers=numbers, title=f"Plans in {month}, AUD")
    for why in compared.without.values():
        say(why)
