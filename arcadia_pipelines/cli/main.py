"""`arcadia`: the command line. Tables for people, --json for programs, and every error in one line."""

import datetime as dt
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import dotenv
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli import api, db, export, operators, proof, reprice, ui, usage
from arcadia_pipelines.cli import backup as backup_commands
from arcadia_pipelines.cli import costs as cost_commands
from arcadia_pipelines.cli import documents as document_commands
from arcadia_pipelines.cli import finance as finance_commands
from arcadia_pipelines.cli import history as history_commands
from arcadia_pipelines.cli import prices as price_commands
from arcadia_pipelines.cli import quote as quote_commands
from arcadia_pipelines.cli.console import (
    ERR,
    JSON,
    CommandError,
    Month,
    document,
    engine,
    print_invoice,
    print_table,
    say,
    shown,
    to_json,
)
from arcadia_pipelines.cli.db import bring_up_to_date
from arcadia_pipelines.cli.overview import Overview
from arcadia_pipelines.costs import bill_csv, margins
from arcadia_pipelines.costs.bill import Bill
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.proof import history
from arcadia_pipelines.settings import PROJECT, SHIPPED, Settings
from arcadia_pipelines.storage import database, ledger, migrations

_NEXT = """
Next:
  {ui}
    then open http://127.0.0.1:3000 and materialise October 2026 (Jobs, month_end, Materialize all)
  {api}
    then open http://127.0.0.1:8000/dashboard; {arcadia} token --role platform_admin signs in
  {arcadia} explain INV-202604-00010
  {arcadia} quote --plan studio --addon storage_50gb --usage droplet_hours=2160
  {arcadia} db psql -c "select * from revenue_by_deployment where period_start = '2026-04-01'"
  {down}
    stops the database and keeps its data"""


@click.group(cls=Overview, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="arcadia-pipelines")
def arcadia() -> None:
    """Arcadia's month end: metered usage to quotes to tenant invoices, in PostgreSQL.

    Without ARCADIA_DATABASE_URL, an embedded PostgreSQL under .arcadia/ is used, and started when it is needed.
    """


@arcadia.command()
@click.argument("month", type=Month())
@JSON
def invoice(month: BillingMonth, as_json: bool) -> None:
    """Invoice MONTH (like 2026-04) through Dagster's month-end job, here and now.

    A month that is invoiced already is computed again: unchanged invoices are left alone, changed ones are revised,
    paid, void, delivered and pushed ones are locked: they stay as they are, and are reported.
    """
    with _month_end(month) as run, ERR.status(f"invoicing {month}"):
        outcome = run(month)
    if as_json:
        told = {name: value for name, value in vars(outcome).items() if name != "head"}
        click.echo(to_json({**told, "month": str(month)}))
    else:
        _print_outcomes([outcome])


@arcadia.command()
@click.argument("tenant")
@click.argument("month", type=Month())
@click.option("--revision", type=int, metavar="N", help="This revision as it stood; unless given, the one that stands.")
@JSON
def show(tenant: str, month: BillingMonth, revision: int | None, as_json: bool) -> None:
    """Show TENANT's invoice of MONTH, or an earlier revision of it as it stood."""
    with database.snapshot(engine()) as connection:
        if revision is None:
            found = ledger.invoice_of(connection, tenant, month)
        else:
            found = history.invoice_of(connection, tenant, month, revision)
    if as_json:
        click.echo(to_json(document(found)))
    else:
        print_invoice(found)
        if revision is not None:
            history_commands.print_revision(found)


@arcadia.command()
def demo() -> None:
    """Load the sample data, invoice January to September 2026, and show what came of it, costs included.

    Safe to run again.
    """
    with ERR.status("starting the database"):
        bring_up_to_date(Settings.from_environment().url())
        with database.transaction(on := engine()) as connection:
            _load_sample(connection)
    months = [BillingMonth(dt.date(2026, number, 1)) for number in range(1, 10)]
    april = months[3]
    with _month_end(*months) as run:
        outcomes = []
        with ERR.status("") as status:
            for month in months:
                status.update(f"invoicing {month}")
                outcomes.append(run(month))
        _print_outcomes(outcomes)
        with database.transaction(on) as connection:
            print_invoice(ledger.invoice_of(connection, "pilot", april))
            before = ledger.row_versions(connection, april)
        with ERR.status("invoicing April again"):
            run(april)
        with database.transaction(on) as connection:
            written = len(before ^ ledger.row_versions(connection, april))
    changed = f"{written} written" if written else "none written: nothing changed"
    say(f"\nApril a second time: {len(before)} rows of usage, quotes, invoices, lines and events; {changed}.\n")
    with database.month_transaction(on, *months) as connection:
        bills = [cost_commands.take(connection, _sample_bill(month)) for month in months]
        cost_commands.print_months(margins.month_by_month(connection))
    cost_commands.show_in_catalogue(bills, "imported")
    say(_NEXT.format(**_commands()))


for command in (
    api.api,
    api.token,
    backup_commands.backup,
    backup_commands.restore,
    cost_commands.costs,
    db.db,
    document_commands.document,
    document_commands.month_documents,
    export.export,
    usage.usage,
    finance_commands.finance,
    history_commands.diff,
    history_commands.explain,
    price_commands.prices,
    proof.audit,
    proof.rebuild,
    proof.replay,
    reprice.reprice,
    quote_commands.quote,
    *operators.COMMANDS,
    ui.ui,
):
    arcadia.add_command(command)


def main() -> None:
    """The entry point: exit code 0, or 1 and one line on stderr (2 for a wrong call)."""
    dotenv.load_dotenv(PROJECT / ".env")
    if home := os.environ.get("ARCADIA_HOME"):  # counts from here, also for what runs elsewhere
        os.environ["ARCADIA_HOME"] = os.path.abspath(home)
    try:
        arcadia.main(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("stopped", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.message)  # which is the help
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "arcadia"
        _fail(f"{error.format_message()} (see {command} --help)", 2)
    except ArcadiaError as error:
        _fail(str(error), 1)
    except Exception as error:
        if os.environ.get("ARCADIA_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (ARCADIA_DEBUG=1 shows where)", 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"arcadia: {shown(' '.join(message.split()))}", err=True)
    sys.exit(code)


@contextmanager
def _month_end(*months: BillingMonth) -> Iterator[Callable[[BillingMonth], Any]]:
    """Runs month ends on the Dagster instance; Dagster is loaded only for this. Refuses before it writes anything."""
    with ERR.status("loading Dagster"):
        from arcadia_pipelines.cli import launch
        from arcadia_pipelines.pipeline.partitions import refuse_unless_billable

    for month in months:
        refuse_unless_billable(month)
    migrations.require(engine())
    with launch.instance() as instance:
        yield lambda month: launch.run(month, instance)


def _commands() -> dict[str, str]:
    """How to go on: by make in a checkout; where a wheel is installed there is none."""
    if PROJECT == SHIPPED:
        return {"ui": "make ui", "api": "make api", "down": "make down", "arcadia": ".venv/bin/arcadia"}
    return {"ui": "arcadia ui", "api": "arcadia api", "down": "arcadia db down", "arcadia": "arcadia"}


def _load_sample(connection: Connection) -> None:
    tenants = "select array_agg(id order by id) from cloud.tenants"
    before = connection.exec_driver_sql(tenants).scalar_one()
    migrations.run_file(connection, migrations.SQL / "sample_data.sql")
    if before and before != connection.exec_driver_sql(tenants).scalar_one():  # and the transaction is undone
        raise CommandError("the database has tenants of its own, and the demo would add made-up ones: use an empty one")


def _sample_bill(month: BillingMonth) -> Bill:
    file = migrations.SQL / "sample_bills" / f"{month}.csv"
    return bill_csv.read_csv(file.read_bytes(), file.name)


def _print_outcomes(outcomes: list[Any]) -> None:
    numbers = ("invoices", "new", "revised", "kept", "subtotal", "GST", "total")
    rows = [
        (
            str(outcome.month),
            f"{sum(outcome.actions.values()):,}",
            *(f"{outcome.actions[action]:,}" for action in ("add", "revise", "keep")),
            *(dollars(cents) for cents in (outcome.subtotal_cents, outcome.tax_cents, outcome.total_cents)),
        )
        for outcome in outcomes
    ]
    print_table(("month", *numbers), rows, numbers=numbers, title="Invoices, AUD")
    for outcome in outcomes:
        if outcome.head:
            say(f"head of {outcome.month}: {outcome.head}")
    for action in ("void", "frozen", "held_back"):
        if months := [f"{o.month}: {o.actions[action]}" for o in outcomes if o.actions[action]]:
            say(f"invoices {action.replace('_', ' ')}: {', '.join(months)}")
    what_to_do = {check: failed["what_to_do"] for o in outcomes for check, failed in o.failed_checks.items()}
    for check, advice in what_to_do.items():
        months = [f"{o.month}: {o.failed_checks[check]['found']}" for o in outcomes if check in o.failed_checks]
        say(f"check {check} found, in {', '.join(months)}. {advice}")
