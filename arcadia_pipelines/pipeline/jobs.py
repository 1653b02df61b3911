"""The jobs: the month end, a month's costs, a month's checks, and what operators do to invoices and tenants.

An operator's job asks who and why, is a dry run unless told otherwise, does all of what is asked or nothing, and says
what it did. It and a running month wait for each other.
"""

import datetime as dt
import inspect
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import fields
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import delivery, files, mail
from arcadia_pipelines.month import counting
from arcadia_pipelines.pipeline import failures, reporting
from arcadia_pipelines.pipeline.checks import CHECKS
from arcadia_pipelines.pipeline.instance import OPERATOR_TAG
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import emails, entered, missing, operations, quotes, suppliers, unbilled, usage
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.operations import Act, OperationRefused
from arcadia_pipelines.storage.suppliers import Supplier
from arcadia_pipelines.usage import sources

MONTH_END = "month_end"
DRY_RUN_TAG = "arcadia/dry_run"
"""The tag of a dry run: the list of runs shows it."""

month_end = dg.define_asset_job(
    MONTH_END,
    selection=dg.AssetSelection.assets("metered_usage", "deployment_quotes", "tenant_invoice_lines", "tenant_invoices"),
    description="Invoice a month. Run by a person it is the force path: the month is computed again, unchanged "
    "invoices are left alone, changed ones are revised, locked ones (paid, void, delivered, pushed) stay and are "
    "reported.",
)

month_costs = dg.define_asset_job(
    "month_costs",
    selection=dg.AssetSelection.assets("cloud_invoices", "cost_allocations"),
    description="Set a month's costs beside its revenue: the bill is fetched if ARCADIA_DIGITALOCEAN_TOKEN is set, or "
    "else the imported one is used; it is allocated to deployments and converted to AUD.",
)

check_month = dg.define_asset_job(
    "check_month",
    selection=dg.AssetSelection.checks(*CHECKS),
    # A job takes its partitions from the assets that it materialises, and this one materialises none.
    config=dg.PartitionedConfig(partitions_def=MONTHS, run_config_for_partition_key_fn=lambda _: {}),
    description="Check a month with every check that can run by itself, and change nothing. "
    "'Execute all' on an asset's Checks tab checks the newest invoiced month.",
)


class _Operation(dg.Config):
    operator: str = Field(
        description="Your name, for the history. If you are logged in, your login is recorded and this may be empty;"
        " another name given here is recorded beside it."
    )
    reason: str = Field(description="Why, for the history: one sentence that an auditor understands.")
    dry_run: bool = Field(True, description="true: say what would be done, and do nothing. false: do it.")


class _OnInvoices(_Operation):
    invoices: list[str] = Field(description="Invoice numbers, like INV-202604-00010; ids for drafts without a number.")


class _Payment(_OnInvoices):
    paid_on: str = Field(
        "", description="The day of the payment, like 2026-05-14, not before the invoices were issued; empty: now."
    )


class _Delivery(_OnInvoices):
    into: str = Field(
        "",
        description="For the PDFs: a folder on the server that runs this, or an object store; empty: nowhere.",
    )


class _Emails(_Operation):
    month: str = Field(description="The month of the invoices, like 2026-04.")


class _Decision(_OnInvoices):
    outcome: str = Field(
        description="sent: an uncertain one arrived. again: an uncertain or refused one is sent again. bounced: one "
        "came back."
    )
    recipient: str = Field("", description="Another address to send it to again; empty: the same.")


class _OnTenants(_Operation):
    tenants: list[str] = Field(description="Ids of tenants.")


class _OnDrafts(_Operation):
    month: str = Field(description="The month of the drafts, like 2026-04.")
    tenants: list[str] = Field([], description="Only these tenants' drafts; empty: all that are not on hold.")


class _OnUsage(_Operation):
    month: str = Field(description="The month whose usage has vanished, like 2026-04.")
    records: int = Field(0, description="How many records are accepted as lost: the number from the dry run.")


class _OnUnbilled(_Operation):
    month: str = Field(description="The month whose usage nobody pays for, like 2026-04.")
    deployments: list[str] = Field([], description="Ids: only the usage of these deployments; empty: of all.")
    rows: int = Field(0, description="How many rows of unbilled usage are accepted: the number from the dry run.")


class _OnMissing(_Operation):
    month: str = Field(description="The month whose invoices are missing, like 2026-04.")
    tenants: int = Field(0, description="How many tenants are accepted as gone: the number from the dry run.")


class _Entered(_Operation):
    tenant: str = Field(description="Id of the tenant.")
    description: str = Field(description="What it is, as the tenant reads it on the invoice.")


class _ManualLine(_Entered):
    month: str = Field(description="The month whose invoice it is for, like 2026-04; if that is locked, the next one.")
    amount: str = Field(description="Dollars ex GST, like 12.50 to charge, or -12.50 to credit.")


class _Grant(_Entered):
    amount: str = Field(description="Dollars ex GST, like 100.00.")
    expires: str = Field(
        "", description="A day like 2027-06-30: it pays invoices of months that begin before it; empty: of all."
    )


class _Supplier(_Operation):
    from_month: str = Field(description="The first month that it is for, like 2026-07; earlier ones keep theirs.")
    legal_name: str = Field(description="The name that the ABN is registered to.")
    abn: str = Field(description="Australian Business Number: 11 digits.")
    address: list[str] = Field(description="The address, line by line.")
    email: str = Field(description="Where a tenant writes to about an invoice.")
    bank_account_name: str = Field(description="Whose account payments go to.")
    bank_bsb: str = Field(description="Its BSB, like 062-000.")
    bank_account_number: str = Field(description="Its number.")
    payment_terms_days: int = Field(description="How many days after its day of issue an invoice is due.")
    logo_svg: str = Field("", description="The logo at the head of documents, as the text of an SVG file; empty: none.")


def step_of(operation: str) -> str:
    """The name of the job's one step; Dagster requires that it differs from the job's."""
    return f"do_{operation}"


def _operation(act: Callable[..., None]) -> dg.JobDefinition:
    """A job of one op. It has no config of its own: the launchpad asks for what is required before it launches."""
    step = dg.op(name=step_of(act.__name__), out=dg.Out(dg.Nothing))(failures.marking_refusals()(act))
    return dg.GraphDefinition(name=act.__name__, node_defs=[step]).to_job(
        name=act.__name__,
        description=inspect.cleandoc(str(act.__doc__)),
        tags={"arcadia/operation": act.__name__, "dagster/max_retries": "0"},  # a retry might do it twice
    )


def _author(context: dg.OpExecutionContext, config: _Operation) -> Author:
    """The operator: the login that launched the run, if any; another name that was given is added to the reason."""
    login, named, reason = context.get_tag(OPERATOR_TAG) or "", config.operator.strip(), config.reason.strip()
    operator = login or named
    if not operator or not reason:
        raise OperationRefused("operator and reason must be given: they go into the history")
    for name in (login, named):
        refuse_pretence(name)
    if named and named.casefold() != operator.casefold():
        reason = f"{reason} (operator given: {named})"
    return Author(operator, reason, context.run_id)


def refuse_pretence(name: str) -> None:
    """Refuse the pipeline's name, or one that reads like it: in other cases, widths, accents or alphabets."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    if "".join(filter(str.isalnum, plain)) == MONTH_END.replace("_", ""):
        raise OperationRefused(f"{MONTH_END} is the pipeline: give your own name as the operator")
    for word in re.findall(r"[^\W\d_]+", plain):
        alphabets = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
        if "LATIN" in alphabets and alphabets & _LOOK_LATIN:
            raise OperationRefused(
                f"operator {name!r} mixes Latin letters with others that look like them: write it in one alphabet"
            )


_LOOK_LATIN = {"ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GREEK", "LISU"}
"""Alphabets with letters that look like Latin ones."""


def _change(
    context: dg.OpExecutionContext,
    config: _OnInvoices,
    database: BillingDatabase,
    act: Act,
    paid_at: dt.datetime | None = None,
) -> None:
    author = _author(context, config)
    with database.transaction() as connection:
        invoices = operations.find(connection, config.invoices)
    with database.month(*invoices.values()) as connection:
        done = operations.change(connection, act, invoices, author, paid_at)
        report = reporting.operation(act.after, done, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, invoices.values())


@_operation
def void_invoice(context: dg.OpExecutionContext, config: _OnInvoices, database: BillingDatabase) -> None:
    """Void invoices: drafts, or issued ones that were not paid. Nothing is owed on them; number and lines stay.

    A month end leaves a void invoice alone; reopen_invoice makes it a draft again.
    """
    _change(context, config, database, operations.VOID)


@_operation
def mark_invoice_paid(context: dg.OpExecutionContext, config: _Payment, database: BillingDatabase) -> None:
    """Mark issued invoices as paid. They never change again: later differences go on the next invoice."""
    _change(context, config, database, operations.PAY, _paid_at(config.paid_on))


@_operation
def reopen_invoice(context: dg.OpExecutionContext, config: _OnInvoices, database: BillingDatabase) -> None:
    """Make void invoices drafts again: materialising their month computes them anew and issues them.

    They keep their numbers. issue_drafts issues them as they are.
    """
    _change(context, config, database, operations.REOPEN)


@_operation
def withdraw_from_finance(context: dg.OpExecutionContext, config: _OnInvoices, database: BillingDatabase) -> None:
    """Record that finance no longer has invoices, once they were taken back there.

    An issued one can change again, a void one can be reopened, and a paid one stays as it is.
    """
    _change(context, config, database, operations.WITHDRAW)


@_operation
def deliver(context: dg.OpExecutionContext, config: _Delivery, database: BillingDatabase) -> None:
    """Deliver invoices: write their PDFs, and note that these go to the tenants by you. They are locked from then on.

    What they bill too little or too much later is on the tenants' next invoices. Delivered again, an invoice is the
    same PDF.
    """
    author = _author(context, config)
    put = files.writer(config.into) if config.into and not config.dry_run else None
    with database.transaction() as connection:
        invoices = operations.find(connection, config.invoices)
    with database.month(*invoices.values()) as connection:
        done = delivery.deliver(connection, list(invoices), author)
        report = reporting.delivered([one.content for one in done if one.is_first], len(done), config.dry_run)
        _end(connection, config)
    for one in done:  # once it is committed that they are delivered
        if put:
            put(files.name_of(one.content), one.document)
    _tell(context, config, report, invoices.values())


@_operation
def email_invoices(context: dg.OpExecutionContext, config: _Emails, database: BillingDatabase) -> None:
    """Send a month's issued and paid invoices to their tenants by e-mail, those that were not delivered yet.

    They are delivered, and locked, as they are sent. What became uncertain is not sent again: settle_email decides.
    """
    author, month, outcomes = _author(context, config), BillingMonth.parse(config.month), Counter[str]()
    url = Settings.from_environment().smtp_url
    if not url and not config.dry_run:
        raise OperationRefused("no mail server is configured: set ARCADIA_SMTP_URL, see docs/deployment.md")
    with database.transaction() as connection:
        pending, without = emails.enter(connection, month, author)
        _end(connection, config)
    if url and not config.dry_run:
        with mail.MailServer(url) as server:
            for place, outcome in enumerate(mail.send_month(database.engine(), server, month), start=1):
                outcomes[outcome.state] += 1
                if place % 100 == 0:
                    context.log.info(f"{place:,} of {pending:,}")
    _tell(context, config, reporting.emails(month, pending, outcomes, without, config.dry_run), [month])


@_operation
def settle_email(context: dg.OpExecutionContext, config: _Decision, database: BillingDatabase) -> None:
    """Decide what became of e-mails: that uncertain ones were sent, that they are sent again, that sent ones bounced.

    What is to be sent again is sent by the next email_invoices of its month, with the same Message-ID.
    """
    author = _author(context, config)
    with database.transaction() as connection:
        invoices = operations.find(connection, config.invoices)
        emails.decide(connection, list(invoices), config.outcome, config.recipient.strip() or None, author)
        report = reporting.decided(len(invoices), config.outcome, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, invoices.values())


@_operation
def issue_drafts(context: dg.OpExecutionContext, config: _OnDrafts, database: BillingDatabase) -> None:
    """Issue a month's drafts as they are, all or those of some tenants; each gets its number if it has none.

    A tenant on hold keeps its draft. To compute the drafts anew, materialise the month: that issues them too.
    """
    author, month = _author(context, config), BillingMonth.parse(config.month)
    with database.month(month) as connection:
        drafts, on_hold = operations.drafts(connection, month, _named(config.tenants))
        done = operations.change(connection, operations.ISSUE, dict.fromkeys(drafts, month), author)
        report = reporting.operation("issued", done, config.dry_run, on_hold)
        _end(connection, config)
    _tell(context, config, report, [month])


@_operation
def hold_tenant(context: dg.OpExecutionContext, config: _OnTenants, database: BillingDatabase) -> None:
    """Put tenants on hold: from now on a month end makes drafts for them, and issues nothing.

    An issued invoice of theirs stays as it is, even if it would be billed differently now.
    """
    author, tenants = _author(context, config), _named(config.tenants)
    with database.alone() as connection:
        drafts = operations.hold(connection, tenants, author)
        report = reporting.hold("on hold", tenants, drafts, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [])


@_operation
def release_tenant(context: dg.OpExecutionContext, config: _OnTenants, database: BillingDatabase) -> None:
    """Release tenants that are on hold. Their drafts wait for issue_drafts, or for their month to be materialised."""
    author, tenants = _author(context, config), _named(config.tenants)
    with database.alone() as connection:
        drafts = operations.release(connection, tenants, author)
        report = reporting.hold("released", tenants, drafts, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [])


@_operation
def accept_vanished_usage(context: dg.OpExecutionContext, config: _OnUsage, database: BillingDatabase) -> None:
    """Accept that usage which a month has frozen is gone: materialising the month then bills what is left.

    Until then a month whose frozen records have vanished cannot be materialised. The dry run names them, and
    says how many they are: give that number as `records`.
    """
    author, month = _author(context, config), BillingMonth.parse(config.month)
    with database.month(month) as connection:
        now = usage.next_cutoff(connection, month)
        counted, _ = counting.count(connection, month, sources.configured(), now)
        vanished = operations.accept_vanished(connection, month, counted, author)
        lost = int((vanished["frozen_records"] - vanished["remaining_records"]).sum())
        if not config.dry_run and lost != config.records:
            raise OperationRefused(
                f"records says {config.records}, but {number_of(lost, 'records')} of {month} vanished: repeat the dry"
                " run"
            )
        report = reporting.vanished(vanished, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [month], asset="metered_usage")


@_operation
def accept_missing_tenants(context: dg.OpExecutionContext, config: _OnMissing, database: BillingDatabase) -> None:
    """Accept that tenants which were invoiced in this month or the one before have nothing to bill in it any more.

    A month that would leave many without an invoice is not published until then. The dry run names them, and
    says how many they are: give that number as `tenants`.
    """
    author, month = _author(context, config), BillingMonth.parse(config.month)
    with database.month(month) as connection:
        if not quotes.is_quoted(connection, month):
            raise OperationRefused(f"{month} is not quoted: materialise it first")
        gone = missing.accept(connection, month, author)
        if not config.dry_run and len(gone) != config.tenants:
            raise OperationRefused(
                f"tenants says {config.tenants}, but {number_of(len(gone), 'tenants')} would be left out of {month}:"
                " repeat the dry run, and see who they are"
            )
        report = reporting.missing(gone, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [month])


@_operation
def accept_unbilled_usage(context: dg.OpExecutionContext, config: _OnUnbilled, database: BillingDatabase) -> None:
    """Accept that nobody pays for usage of a month that no subscription or no rate covers (unbilled_usage).

    The check all_usage_is_billed then passes, unless there is more of it later. The dry run lists it, with what it
    would have cost if a rate prices it, and says how many rows there are: give that number as `rows`.
    Nothing is billed by this, and nothing is lost: a rate or a subscription that is added afterwards bills it when the
    month is materialised again.
    """
    author, month = _author(context, config), BillingMonth.parse(config.month)
    with database.month(month) as connection:
        if not quotes.is_quoted(connection, month):
            raise OperationRefused(f"{month} is not quoted: materialise it first")
        accepted = unbilled.accept(connection, month, config.deployments, author)
        if unknown := sorted(set(config.deployments) - set(accepted["deployment_id"])):
            raise OperationRefused(
                f"no unbilled usage is open in {month} of deployment {', '.join(unknown)}: the dry run without"
                " deployments lists all of it"
            )
        if not config.dry_run and len(accepted) != config.rows:
            raise OperationRefused(
                f"rows says {config.rows}, but {number_of(len(accepted), 'rows')} of unbilled usage of {month} would be"
                " accepted: repeat the dry run, and see which"
            )
        report = reporting.unbilled(accepted, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [month], asset="deployment_quotes")


@_operation
def add_line(context: dg.OpExecutionContext, config: _ManualLine, database: BillingDatabase) -> None:
    """Enter a charge, or a credit below 0, for a tenant's invoice of a month, before GST.

    The next run of the month puts it on the invoice. If that is locked, the tenant's next one carries it. It is never
    changed or deleted: what was wrong is entered again the other way round. Entered twice, it is two lines.
    """
    author, month = _author(context, config), BillingMonth.parse(config.month)
    with database.alone() as connection:
        added = entered.add_line(connection, config.tenant, month, config.amount, config.description, author)
        lines = entered.lines_of(connection, config.tenant)
        report = reporting.manual_line(config.tenant, added, lines, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [month])


@_operation
def grant_credit(context: dg.OpExecutionContext, config: _Grant, database: BillingDatabase) -> None:
    """Grant a tenant promotional credit, which pays its invoices before GST until it is used up or expires.

    The next run of a month takes from it as much as there is to pay, from the credit that expires soonest first. A void
    invoice gives back what it took. Granted twice, it is two grants.
    """
    author = _author(context, config)
    with database.alone() as connection:
        added = entered.grant(connection, config.tenant, config.amount, config.expires, config.description, author)
        grants = entered.grants_of(connection, config.tenant)
        report = reporting.grant(config.tenant, added, grants, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [])


@_operation
def set_supplier(context: dg.OpExecutionContext, config: _Supplier, database: BillingDatabase) -> None:
    """Enter who sells, as invoices of a month and of later ones show it: name, ABN, address, bank account, terms.

    An invoice keeps the entry that it was issued with; a new revision has the newest. Nothing is overwritten: a later
    entry for the same month counts from then on.
    """
    author, month = _author(context, config), BillingMonth.parse(config.from_month)
    given = config.model_dump(include={field.name for field in fields(Supplier)}) | {
        "address": "\n".join(config.address)
    }
    with database.alone() as connection:
        entered_now = suppliers.enter(connection, month, Supplier(**given), author)
        report = reporting.supplier(entered_now, month, config.dry_run)
        _end(connection, config)
    _tell(context, config, report, [])


def _named(texts: Collection[str]) -> list[str]:
    return sorted(set(texts))  # as they are: " pilot" is not "pilot"


def _paid_at(paid_on: str) -> dt.datetime | None:
    if not paid_on.strip():
        return None
    try:
        day = dt.date.fromisoformat(paid_on.strip())
    except ValueError as error:
        raise OperationRefused(f"paid_on {paid_on!r} is not a day: write it like 2026-05-14") from error
    today = dt.datetime.now(ZoneInfo("Australia/Sydney")).date()
    if day > today:
        raise OperationRefused(f"paid_on {paid_on} is in the future: today is {today} in Sydney")
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _end(connection: Connection, config: _Operation) -> None:
    """Undo a dry run, which has done everything."""
    if config.dry_run:
        connection.rollback()


def _tell(
    context: dg.OpExecutionContext,
    config: _Operation,
    report: reporting.Metadata,
    months: Collection[BillingMonth],
    asset: str = "tenant_invoices",
) -> None:
    """Report what was done, in the run and, unless it was a dry run, on the asset's partitions of these months."""
    if config.dry_run:
        context.instance.add_run_tags(context.run_id, {DRY_RUN_TAG: "true"})
    context.log.info(str(report["summary"].value))
    context.add_output_metadata(report)
    if not config.dry_run:
        author = _author(context, config)
        who = {"operator": dg.MetadataValue.text(author.operator), "reason": dg.MetadataValue.text(author.reason)}
        keys: list[str | None] = [*sorted({month.key for month in months})]
        for key in keys or [None]:
            context.log_event(dg.AssetObservation(asset, partition=key, metadata={**report, **who}))


OPERATIONS = (
    void_invoice,
    mark_invoice_paid,
    reopen_invoice,
    withdraw_from_finance,
    deliver,
    email_invoices,
    settle_email,
    issue_drafts,
    hold_tenant,
    release_tenant,
    accept_vanished_usage,
    accept_unbilled_usage,
    accept_missing_tenants,
    add_line,
    grant_credit,
    set_supplier,
)
"""The operators' jobs."""
