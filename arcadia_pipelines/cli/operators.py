"""The operators' jobs on the command line: the same jobs as in the UI, run here and now; and what they entered.

Belongs here: arguments and printing. Does not: the acts (storage/operations.py), the jobs (pipeline/jobs.py).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, JSON, Month, engine, print_table, say, to_json
from arcadia_pipelines.storage import database, entered, migrations, suppliers

_OPERATOR = click.option("--operator", required=True, help="Who asks for it: your name, for the history.")
_REASON = click.option("--reason", required=True, help="Why, for the history.")
_DRY_RUN = click.option("--dry-run/--no-dry-run", default=True, show_default=True, help="Only say what would be done.")
_INVOICES = click.argument("invoices", nargs=-1, required=True, metavar="INVOICE...")
_TENANTS = click.argument("tenants", nargs=-1, required=True, metavar="TENANT...")
_MONTH = click.argument("month", type=Month())
_TENANT = click.argument("tenant")
_AMOUNT = click.argument("amount")
_DESCRIPTION = click.option("--description", required=True, help="What it is, as the tenant reads it on the invoice.")


def _command(*parameters: Callable[..., Any]) -> Callable[[Callable[..., None]], click.Command]:
    """A command that runs the job of the same name, with its arguments as the job's config."""

    def decorate(described: Callable[..., None]) -> click.Command:
        operation = described.__name__

        def run(as_json: bool, **config: Any) -> None:
            _run(operation, {name: _plain(value) for name, value in config.items()}, as_json)

        run.__doc__ = described.__doc__
        for parameter in reversed((*parameters, _OPERATOR, _REASON, _DRY_RUN, JSON)):
            run = parameter(run)
        settings = {"ignore_unknown_options": _AMOUNT in parameters}  # -12.50 is an amount
        return click.command(operation.replace("_", "-"), context_settings=settings)(run)

    return decorate


@_command(_INVOICES)
def void_invoice() -> None:
    """Void INVOICEs (numbers, or ids): drafts, or issued ones that were not paid. Number and lines stay.

    One that was delivered has an adjustment note from then on: `arcadia deliver` it, too.
    """


@_command(
    _INVOICES,
    click.option(
        "--paid-on", default="", metavar="YYYY-MM-DD", help="When the money came, from the day of issue on; else now."
    ),
)
def mark_invoice_paid() -> None:
    """Mark issued INVOICEs as paid. They never change again: what turns out different goes on the next invoice."""


@_command(_INVOICES)
def reopen_invoice() -> None:
    """Make void INVOICEs drafts again; `arcadia invoice` of their month works them out anew and issues them."""


@_command(_INVOICES)
def withdraw_from_finance() -> None:
    """Note that INVOICEs are not with finance any more, once they were taken back there. They can change again then."""


@click.command(short_help="Deliver invoices: as PDFs for you to give away, or by e-mail.")
@click.argument("invoices", nargs=-1, metavar="[INVOICE]...")
@click.option("--into", default="", metavar="URL", help="A folder or an object store for the PDFs.")
@click.option("--email", "month", type=Month(), help="Send all invoices of this month that were not delivered yet.")
@_OPERATOR
@_REASON
@_DRY_RUN
@JSON
def deliver(invoices: tuple[str, ...], into: str, month: BillingMonth | None, as_json: bool, **config: Any) -> None:
    """Deliver INVOICEs: write their PDFs, which you give to the tenants; or send a month's by e-mail.

    They are locked from then on. Of one that was voided after it was delivered, the adjustment note is delivered.
    E-mails go through the server of ARCADIA_SMTP_URL. What becomes of each is in billing.email_outbox; an uncertain one
    is never sent again by itself: see settle-email.
    """
    if bool(invoices) == bool(month) or (month and into):
        raise click.UsageError("name invoices, with --into if you like; or a month, with --email")
    if month:
        _run("email_invoices", {"month": str(month), **config}, as_json)
    else:
        _run("deliver", {"invoices": list(invoices), "into": into, **config}, as_json)


@_command(
    _INVOICES,
    click.option(
        "--outcome", required=True, type=click.Choice(["sent", "again", "bounced"]), help="What became of it."
    ),
    click.option("--recipient", default="", metavar="ADDRESS", help="Send it again to this address."),
)
def settle_email() -> None:
    """Decide what became of INVOICEs' e-mails: uncertain ones were sent, are sent again, or sent ones bounced."""


@_command(_MONTH, click.option("--tenant", "tenants", multiple=True, help="Only this tenant's draft; may be repeated."))
def issue_drafts() -> None:
    """Issue MONTH's drafts as they are. A tenant on hold keeps its draft."""


@_command(_TENANTS)
def hold_tenant() -> None:
    """Hold TENANTs: from now on they get drafts, and nothing is issued to them."""


@_command(_TENANTS)
def release_tenant() -> None:
    """Release TENANTs that are on hold. Their drafts wait for issue-drafts, or for `arcadia invoice` of their month."""


@_command(_MONTH, click.option("--records", type=int, default=0, help="How many, as the dry run says."))
def accept_vanished_usage() -> None:
    """Accept that usage which MONTH has frozen is gone; `arcadia invoice` of it then bills what is left."""


@_command(
    _MONTH,
    click.option("--deployment", "deployments", multiple=True, help="Only the usage of this one; may be repeated."),
    click.option("--rows", type=int, default=0, help="How many rows of unbilled usage, as the dry run says."),
)
def accept_unbilled_usage() -> None:
    """Accept that nobody pays for the usage of MONTH that no subscription or no rate covers; shows what is at stake."""


@_command(_MONTH, click.option("--tenants", type=int, default=0, help="How many, as the dry run says."))
def accept_missing_tenants() -> None:
    """Accept that tenants invoiced in MONTH or the month before have nothing to bill in it; it can be invoiced then."""


@_command(_TENANT, _MONTH, _AMOUNT, _DESCRIPTION)
def add_line() -> None:
    """Enter a charge of AMOUNT dollars ex GST, or a credit below 0, for TENANT's invoice of MONTH, or else its next."""


@_command(
    _TENANT,
    _AMOUNT,
    _DESCRIPTION,
    click.option("--expires", default="", metavar="YYYY-MM-DD", help="It pays months that begin before this day only."),
)
def grant_credit() -> None:
    """Grant TENANT promotional credit of AMOUNT dollars, which pays its invoices before GST until it is used up."""


@click.group()
def supplier() -> None:
    """Who sells, as invoices show it: name, ABN, address, bank account and payment terms, from a month on."""


def _text_of(context: click.Context, parameter: click.Parameter, file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}", context, parameter) from error


@_command(
    click.option("--from", "from_month", type=Month(), required=True, help="The first month that it is for."),
    click.option("--legal-name", required=True, help="The name that the ABN is registered to."),
    click.option("--abn", required=True, help="Australian Business Number: 11 digits."),
    click.option("--address", required=True, multiple=True, help="A line of the address; repeat it for each line."),
    click.option("--email", required=True, help="Where a tenant writes to about an invoice."),
    click.option("--bank-account-name", required=True, help="Whose account payments go to."),
    click.option("--bank-bsb", required=True, help="Its BSB, like 062-000."),
    click.option("--bank-account-number", required=True, help="Its number."),
    click.option("--payment-terms-days", type=int, required=True, help="Days from the day of issue until it is due."),
    click.option(
        "--logo",
        "logo_svg",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_text_of,
        help="An SVG file: the logo at the head of documents.",
    ),
)
def set_supplier() -> None:
    """Enter who sells from a month on. Invoices that were issued keep the supplier that they have."""


supplier.add_command(set_supplier, "set")


@supplier.command()
@JSON
def show(as_json: bool) -> None:
    """List the suppliers that were entered. A month has the newest entry of the newest month not after it."""
    with database.snapshot(engine()) as connection:
        entries = suppliers.entries(connection)
    if as_json:
        click.echo(to_json({"suppliers": entries}))
    elif entries:
        names = ("from_month", "legal_name", "abn", "email", "bank_bsb", "bank_account_number", "payment_terms_days")
        rows = [[str(entry[name]) for name in names] for entry in entries]
        headings = ("from", "legal name", "ABN", "email", "BSB", "account", "terms, days")
        print_table(headings, rows, numbers=("terms, days",), title="Suppliers")
    else:
        say("no supplier was entered: `arcadia supplier set` does")


@click.command(name="credits")
@_TENANT
@JSON
def credits_(tenant: str, as_json: bool) -> None:
    """List what was entered for TENANT: manual lines, grants of promotional credit, and which invoice has what."""
    with database.snapshot(engine()) as connection:
        lines, grants = entered.lines_of(connection, tenant), entered.grants_of(connection, tenant)
    if as_json:
        click.echo(to_json({"tenant_id": tenant, "manual_lines": lines, "grants": grants}))
    elif lines or grants:
        _print_lines(lines)
        _print_grants(grants)
    else:
        say(f"nothing was entered for {tenant}")


def _print_lines(lines: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (line["month"], line["description"], dollars(line["amount_cents"]), line["invoice"], line["operator"])
        for line in lines
    ]
    if rows:
        headings = ("month", "description", "amount, AUD", "invoice", "operator")
        print_table(headings, rows, numbers=("amount, AUD",), title="Manual lines")


def _print_grants(grants: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            grant["description"],
            dollars(grant["amount_cents"]),
            dollars(grant["left_cents"]),
            str(grant["expires_on"] or "never"),
            ", ".join(f"{taken['invoice']}: {dollars(taken['taken_cents'])}" for taken in grant["invoices"]),
            grant["operator"],
        )
        for grant in grants
    ]
    if rows:
        headings = ("description", "amount, AUD", "left, AUD", "expires", "taken by", "operator")
        print_table(headings, rows, numbers=("amount, AUD", "left, AUD"), title="Promotional credit")


COMMANDS = (
    void_invoice,
    mark_invoice_paid,
    reopen_invoice,
    withdraw_from_finance,
    deliver,
    settle_email,
    issue_drafts,
    hold_tenant,
    release_tenant,
    accept_vanished_usage,
    accept_unbilled_usage,
    accept_missing_tenants,
    add_line,
    grant_credit,
    credits_,
    supplier,
)


def _plain(value: Any) -> Any:
    """As a job's config has it."""
    if isinstance(value, BillingMonth):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _run(operation: str, config: dict[str, Any], as_json: bool) -> None:
    with ERR.status("loading Dagster"):
        from arcadia_pipelines.cli import launch

    migrations.require(engine())
    with launch.instance() as instance:
        report = launch.operate(operation, config, instance)
    if as_json:
        click.echo(to_json({name: _value(metadata) for name, metadata in report.items()}))
        return
    say(str(report["summary"].value))
    for metadata in report.values():
        _print_table(_value(metadata))
    if config["dry_run"]:
        say("--no-dry-run does it.")


def _value(metadata: Any) -> Any:
    """What a job reports, as plain Python; tables as lists of rows."""
    return [dict(record.data) for record in metadata.records] if hasattr(metadata, "records") else metadata.value


def _print_table(rows: Any) -> None:
    if isinstance(rows, list) and rows:
        columns = {name: [str(row[name]).strip("\N{NO-BREAK SPACE}") for row in rows] for name in rows[0]}
        numbers = [name for name, cells in columns.items() if all(re.fullmatch(r"-?[\d,.]*", cell) for cell in cells)]
        print_table(list(columns), list(zip(*columns.values(), strict=True)), numbers=numbers)
