"""`arcadia finance`: what finance is told of invoices, how that stands, and whether it has them as we do.

Belongs here: arguments and printing. Does not: sending and comparing (finance/).
"""

from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.money import dollars, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, JSON, CommandError, Month, engine, print_table, say, to_json
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.ledgers import ledger_of
from arcadia_pipelines.finance.outbox import Drained
from arcadia_pipelines.finance.reconcile import FAULTS, Reconciled, reconcile
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database, ledger, migrations, outbox
from arcadia_pipelines.storage.outbox import State

_MONTH = click.argument("month", type=Month(), required=False)


@click.group()
def finance() -> None:
    """Tell finance of invoices, each exactly once, and compare what it has. Without ARCADIA_FINANCE_URL, nothing."""


@finance.command()
@_MONTH
@click.option("--refused", is_flag=True, help="Send again what finance refused, once that was mended there.")
@JSON
def push(month: BillingMonth | None, refused: bool, as_json: bool) -> None:
    """Tell finance now of MONTH's invoices, or all months', but for what it has confirmed or refused.

    What is held back (ARCADIA_FINANCE_HOLD) is let go, and what waits to be tried again is tried at once.
    """
    with ledger_of(Settings.from_environment()) as client:
        on = _migrated()
        months, told = _months(on, month), Drained()
        with ERR.status("") as status:
            for each in months:
                status.update(f"telling finance of {each}")
                draining.prepare(on, each, refused)
                told.add(draining.drain(on, client, each, at_once=True))
                if told.stopped:
                    break
    left = _open(on, month)
    if as_json:
        told_rows = {state.value: told.rows[state] for state in State if state is not State.SENDING}
        click.echo(to_json({"told": told_rows, "open": left, "last_error": told.last_error or None}))
    else:
        confirmed, refusals = told.rows[State.CONFIRMED], told.rows[State.REFUSED]
        say(f"{number_of(confirmed, 'rows')} confirmed, {refusals:,} refused, {left:,} still to be told.")
        if told.last_error:
            say(f"Last error: finance {told.last_error}")
    if told.stopped:
        raise CommandError(f"{told.stopped}. What is left is tried again later, or by this command")


@finance.command()
@_MONTH
@JSON
def status(month: BillingMonth | None, as_json: bool) -> None:
    """How MONTH stands with finance, or every month: rows by state, when they are tried next, the last error."""
    with database.snapshot(_migrated()) as connection:
        rows = outbox.status(connection, month)
    if as_json:
        shown = [{**row, "month": str(BillingMonth(row["period_start"]))} for row in rows]
        click.echo(to_json({"rows": [{k: v for k, v in row.items() if k != "period_start"} for row in shown]}))
        return
    if not rows:
        say("Finance was told nothing yet." if Settings.from_environment().finance_url else _UNSET)
        return
    print_table(
        ("month", "what", "state", "rows", "held", "tried next", "last error"),
        [
            (
                str(BillingMonth(row["period_start"])),
                row["operation"],
                row["state"],
                f"{row['rows']:,}",
                f"{row['held']:,}" if row["held"] else "",
                f"{row['next_due_at']:%Y-%m-%d %H:%M}" if row["next_due_at"] else "",
                row["last_error"] or "",
            )
            for row in rows
        ],
        numbers=("rows", "held"),
    )


_UNSET = "ARCADIA_FINANCE_URL is not set: finance is told nothing."


@finance.command(name="reconcile")
@_MONTH
@click.option("--dry-run", is_flag=True, help="Record no payment here that finance knows of.")
@JSON
def compare(month: BillingMonth | None, dry_run: bool, as_json: bool) -> None:
    """Compare MONTH, or every month, with what finance has, and record the payments that it knows of.

    Exits with 1 if an invoice is missing there, is extra, or differs.
    """
    with ledger_of(Settings.from_environment()) as client:
        on = _migrated()
        with ERR.status("asking finance"):
            found = [reconcile(on, client, each, dry_run=dry_run) for each in _months(on, month)]
    offenders = [{"month": str(one.month), **offender} for one in found for offender in one.offenders]
    if as_json:
        click.echo(to_json({"agrees": not offenders, "months": [_document(one) for one in found]}))
    else:
        _print_reconciled(found, offenders, dry_run)
    if offenders:
        raise CommandError(f"finance differs in {number_of(len(offenders), 'invoices')}: see docs/finance.md")


def _document(found: Reconciled) -> dict[str, Any]:
    """A comparison for programs: the offenders by fault."""
    rest = {name: value for name, value in vars(found).items() if name not in ("month", "offenders")}
    by_fault = {
        fault: [
            {name: value for name, value in one.items() if name != "fault"}
            for one in found.offenders
            if one["fault"] == fault
        ]
        for fault in FAULTS
    }
    return {"month": str(found.month), **rest, **by_fault}


def _print_reconciled(found: Sequence[Reconciled], offenders: Sequence[dict[str, Any]], dry_run: bool) -> None:
    numbers = ("ours", "theirs", "ours, AUD", "theirs, AUD", "paid there")
    rows = [
        (
            str(one.month),
            f"{one.ours:,}",
            f"{one.theirs:,}",
            dollars(one.ours_cents),
            dollars(one.theirs_cents),
            f"{len(one.paid):,}",
        )
        for one in found
    ]
    print_table(("month", *numbers), rows, numbers=numbers)
    if paid := [number for one in found for number in one.paid]:
        say(f"{'Would be' if dry_run else 'Now'} paid: {', '.join(paid)}")
    columns = ("month", "fault", "invoice", "tenant_id", "what")
    if offenders:
        print_table(columns, [tuple(str(one[name] or "") for name in columns) for one in offenders])


def _migrated() -> Engine:
    on = engine()
    migrations.require(on)
    return on


def _months(on: Engine, month: BillingMonth | None) -> list[BillingMonth]:
    """The month that was named, or all that are invoiced."""
    if month:
        return [month]
    with database.snapshot(on) as connection:
        return ledger.invoiced_months(connection)


def _open(on: Engine, month: BillingMonth | None) -> int:
    with database.snapshot(on) as connection:
        rows = outbox.status(connection, month)
    return sum(row["rows"] for row in rows if row["state"] not in (State.CONFIRMED, State.REFUSED))
