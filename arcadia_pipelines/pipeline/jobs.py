"""The jobs: the month end, a month's costs, a month's checks, and what operators do to invoices and tenants.

An operator's job asks who and why, is a dry run unless told otherwise, does all of what is asked or nothing, and says
what it did. It and a running month wait for each other.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import fields
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import pdf
from arcadia_pipelines.month import counting
from arcadia_pipelines.pipeline import act_reports
from arcadia_pipelines.pipeline.acts import MONTH_END, OnInvoices, Operation, author_of, end, operation, tell
from arcadia_pipelines.pipeline.checks import CHECKS
from arcadia_pipelines.pipeline.delivery_jobs import deliver, email_invoices, settle_email
from arcadia_pipelines.pipeline.partitions import MONTHS
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.storage import entered, missing, operations, quotes, suppliers, unbilled, usage
from arcadia_pipelines.storage.operations import Act, OperationRefused
from arcadia_pipelines.storage.suppliers import Supplier
from arcadia_pipelines.usage import sources

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


class _Payment(OnInvoices):
    paid_on: str = Field(
        "", description="The day of the payment, like 2026-05-14, not before the invoices were issued; empty: now."
    )


class _OnTenants(Operation):
    tenants: list[str] = Field(description="Ids of tenants.")


class _OnDrafts(Operation):
    month: str = Field(description="The month of the drafts, like 2026-04.")
    tenants: list[str] = Field([], description="Only these tenants' drafts; empty: all that are not on hold.")


class _OnUsage(Operation):
    month: str = Field(description="The month whose usage has vanished, like 2026-04.")
    records: int = Field(0, description="How many records are accepted as lost: the number from the dry run.")


class _OnUnbilled(Operation):
    month: str = Field(description="The month whose usage nobody pays for, like 2026-04.")
    deployments: list[str] = Field([], description="Ids: only the usage of these deployments; empty: of all.")
    rows: int = Field(0, description="How many rows of unbilled usage are accepted: the number from the dry run.")


class _OnMissing(Operation):
    month: str = Field(description="The month whose invoices are missing, like 2026-04.")
    tenants: int = Field(0, description="How many tenants are accepted as gone: the number from the dry run.")


class _Entered(Operation):
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


class _Supplier(Operation):
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


def _change(
    context: dg.OpExecutionContext,
    config: OnInvoices,
    database: BillingDatabase,
    act: Act,
    paid_at: dt.datetime | None = None,
) -> None:
    author = author_of(context, config)
    with database.transaction() as connection:
        invoices = operations.find(connection, config.invoices)
    with database.month(*invoices.values()) as connection:
        done = operations.change(connection, act, invoices, author, paid_at)
        report = act_reports.operation(act.after, done, config.dry_run)
        end(connection, config)
    tell(context, config, report, invoices.values())


@operation
def void_invoice(context: dg.OpExecutionContext, config: OnInvoices, database: BillingDatabase) -> None:
    """Void invoices: drafts, or issued ones that were not paid. Nothing is owed on them; number and lines stay.

    A month end leaves a void invoice alone; reopen_invoice makes it a draft again. One that was delivered stays void,
    and has an adjustment note, which the job deliver delivers.
    """
    _change(context, config, database, operations.VOID)


@operation
def mark_invoice_paid(context: dg.OpExecutionContext, config: _Payment, database: BillingDatabase) -> None:
    """Mark issued invoices as paid. They never change again: later differences go on the next invoice."""
    _change(context, config, database, operations.PAY, _paid_at(config.paid_on))


@operation
def reopen_invoice(context: dg.OpExecutionContext, config: OnInvoices, database: BillingDatabase) -> None:
    """Make void invoices drafts again: materialising their month computes them anew and issues them.

    They keep their numbers. issue_drafts issues them as they are.
    """
    _change(context, config, database, operations.REOPEN)


@operation
def withdraw_from_finance(context: dg.OpExecutionContext, config: OnInvoices, database: BillingDatabase) -> None:
    """Record that finance no longer has invoices, once they were taken back there.

    An issued one can change again, a void one can be reopened, and a paid one stays as it is.
    """
    _change(context, config, database, operations.WITHDRAW)


@operation
def issue_drafts(context: dg.OpExecutionContext, config: _OnDrafts, database: BillingDatabase) -> None:
    """Issue a month's drafts as they are, all or those of some tenants; each gets its number if it has none.

    A tenant on hold keeps its draft. To compute the drafts anew, materialise the month: that issues them too.
    """
    author, month = author_of(context, config), BillingMonth.parse(config.month)
    with database.month(month) as connection:
        drafts, on_hold = operations.drafts(connection, month, _named(config.tenants))
        done = operations.change(connection, operations.ISSUE, dict.fromkeys(drafts, month), author)
        report = act_reports.operation("issued", done, config.dry_run, on_hold)
        end(connection, config)
    tell(context, config, report, [month])


@operation
def hold_tenant(context: dg.OpExecutionContext, config: _OnTenants, database: BillingDatabase) -> None:
    """Put tenants on hold: from now on a month end makes drafts for them, and issues nothing.

    An issued invoice of theirs stays as it is, even if it would be billed differently now.
    """
    author, tenants = author_of(context, config), _named(config.tenants)
    with database.alone() as connection:
        drafts = operations.hold(connection, tenants, author)
        report = act_reports.hold("on hold", tenants, drafts, config.dry_run)
        end(connection, config)
    tell(context, config, report, [])


@operation
def release_tenant(context: dg.OpExecutionContext, config: _OnTenants, database: BillingDatabase) -> None:
    """Release tenants that are on hold. Their drafts wait for issue_drafts, or for their month to be materialised."""
    author, tenants = author_of(context, config), _named(config.tenants)
    with database.alone() as connection:
        drafts = operations.release(connection, tenants, author)
        report = act_reports.hold("released", tenants, drafts, config.dry_run)
        end(connection, config)
    tell(context, config, report, [])


@operation
def accept_vanished_usage(context: dg.OpExecutionContext, config: _OnUsage, database: BillingDatabase) -> None:
    """Accept that usage which a month has frozen is gone: materialising the month then bills what is left.

    Until then a month whose frozen records have vanished cannot be materialised. The dry run names them, and
    says how many they are: give that number as `records`.
    """
    author, month = author_of(context, config), BillingMonth.parse(config.month)
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
        report = act_reports.vanished(vanished, config.dry_run)
        end(connection, config)
    tell(context, config, report, [month], asset="metered_usage")


@operation
def accept_missing_tenants(context: dg.OpExecutionContext, config: _OnMissing, database: BillingDatabase) -> None:
    """Accept that tenants which were invoiced in this month or the one before have nothing to bill in it any more.

    A month that would leave many without an invoice is not published until then. The dry run names them, and
    says how many they are: give that number as `tenants`.
    """
    author, month = author_of(context, config), BillingMonth.parse(config.month)
    with database.month(month) as connection:
        if not quotes.is_quoted(connection, month):
            raise OperationRefused(f"{month} is not quoted: materialise it first")
        gone = missing.accept(connection, month, author)
        if not config.dry_run and len(gone) != config.tenants:
            raise OperationRefused(
                f"tenants says {config.tenants}, but {number_of(len(gone), 'tenants')} would be left out of {month}:"
                " repeat the dry run, and see who they are"
            )
        report = act_reports.missing(gone, config.dry_run)
        end(connection, config)
    tell(context, config, report, [month])


@operation
def accept_unbilled_usage(context: dg.OpExecutionContext, config: _OnUnbilled, database: BillingDatabase) -> None:
    """Accept that nobody pays for usage of a month that no subscription or no rate covers (unbilled_usage).

    The check all_usage_is_billed then passes, unless there is more of it later. The dry run lists it, with what it
    would have cost if a rate prices it, and says how many rows there are: give that number as `rows`.
    Nothing is billed by this, and nothing is lost: a rate or a subscription that is added afterwards bills it when the
    month is materialised again.
    """
    author, month = author_of(context, config), BillingMonth.parse(config.month)
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
        report = act_reports.unbilled(accepted, config.dry_run)
        end(connection, config)
    tell(context, config, report, [month], asset="deployment_quotes")


@operation
def add_line(context: dg.OpExecutionContext, config: _ManualLine, database: BillingDatabase) -> None:
    """Enter a charge, or a credit below 0, for a tenant's invoice of a month, before GST.

    The next run of the month puts it on the invoice. If that is locked, the tenant's next one carries it. It is never
    changed or deleted: what was wrong is entered again the other way round. Entered twice, it is two lines.
    """
    author, month = author_of(context, config), BillingMonth.parse(config.month)
    with database.alone() as connection:
        added = entered.add_line(connection, config.tenant, month, config.amount, config.description, author)
        lines = entered.lines_of(connection, config.tenant)
        report = act_reports.manual_line(config.tenant, added, lines, config.dry_run)
        end(connection, config)
    tell(context, config, report, [month])


@operation
def grant_credit(context: dg.OpExecutionContext, config: _Grant, database: BillingDatabase) -> None:
    """Grant a tenant promotional credit, which pays its invoices before GST until it is used up or expires.

    The next run of a month takes from it as much as there is to pay, from the credit that expires soonest first. A void
    invoice gives back what it took. Granted twice, it is two grants.
    """
    author = author_of(context, config)
    with database.alone() as connection:
        added = entered.grant(connection, config.tenant, config.amount, config.expires, config.description, author)
        grants = entered.grants_of(connection, config.tenant)
        report = act_reports.grant(config.tenant, added, grants, config.dry_run)
        end(connection, config)
    tell(context, config, report, [])


@operation
def set_supplier(context: dg.OpExecutionContext, config: _Supplier, database: BillingDatabase) -> None:
    """Enter who sells, as invoices of a month and of later ones show it: name, ABN, address, bank account, terms.

    An invoice keeps the entry that it was issued with; a new revision has the newest. Nothing is overwritten: a later
    entry for the same month counts from then on.
    """
    author, month = author_of(context, config), BillingMonth.parse(config.from_month)
    given = config.model_dump(include={field.name for field in fields(Supplier)}) | {
        "address": "\n".join(config.address)
    }
    with database.alone() as connection:
        entered_now = suppliers.enter(connection, month, Supplier(**given), author)
        if entered_now.logo_svg:
            pdf.refuse_logo(entered_now.logo_svg)
        report = act_reports.supplier(entered_now, month, config.dry_run)
        end(connection, config)
    tell(context, config, report, [])


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
