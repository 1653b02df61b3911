"""The jobs that deliver invoices to their tenants: as PDFs, and by e-mail.

Belongs here: the acts' order, with a report of what was done. Does not: making documents and sending them (documents/),
what is written down of it (storage/documents.py, storage/emails.py).
"""

from collections import Counter

import dagster as dg
from pydantic import Field

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import delivery, files, mail
from arcadia_pipelines.pipeline import act_reports
from arcadia_pipelines.pipeline.acts import OnInvoices, Operation, author_of, end, operation, tell
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import emails, operations
from arcadia_pipelines.storage.operations import OperationRefused


class _Delivery(OnInvoices):
    into: str = Field(
        "",
        description="For the PDFs: a folder on the server that runs this, or an object store; empty: nowhere.",
    )


class _Emails(Operation):
    month: str = Field(description="The month of the invoices, like 2026-04.")


class _Decision(OnInvoices):
    outcome: str = Field(
        description="sent: an uncertain one arrived. again: an uncertain or refused one is sent again. bounced: one "
        "came back."
    )
    recipient: str = Field("", description="Another address to send it to again; empty: the same.")


@operation
def deliver(context: dg.OpExecutionContext, config: _Delivery, database: BillingDatabase) -> None:
    """Deliver invoices: write their PDFs, and note that these go to the tenants by you. They are locked from then on.

    What they bill too little or too much later is on the tenants' next invoices. Delivered again, an invoice is the
    same PDF. Of one that was voided after it was delivered, the adjustment note is delivered.
    """
    author = author_of(context, config)
    put = files.writer(config.into) if config.into and not config.dry_run else None
    with database.transaction() as connection:
        invoices = operations.find(connection, config.invoices)
    with database.month(*invoices.values()) as connection:
        done = delivery.deliver(connection, list(invoices), author)
        report = act_reports.delivered([one.content for one in done if one.is_first], len(done), config.dry_run)
        end(connection, config)
    for one in done:  # once it is committed that they are delivered
        if put:
            put(files.name_of(one.content), one.document)
    tell(context, config, report, invoices.values())


@operation
def email_invoices(context: dg.OpExecutionContext, config: _Emails, database: BillingDatabase) -> None:
    """Send a month's issued and paid invoices to their tenants by e-mail, those that were not delivered yet.

    So are the adjustment notes of those that were voided after they were delivered. All are delivered, and locked, as
    they are sent. What became uncertain is not sent again: settle_email decides.
    """
    author, month, outcomes = author_of(context, config), BillingMonth.parse(config.month), Counter[str]()
    url = Settings.from_environment().smtp_url
    if not url and not config.dry_run:
        raise OperationRefused("no mail server is configured: set ARCADIA_SMTP_URL, see docs/deployment.md")
    with database.transaction() as connection:
        pending, without = emails.enter(connection, month, author)
        end(connection, config)
    if url and not config.dry_run:
        with mail.MailServer(url) as server:
            for place, outcome in enumerate(mail.send_month(database.engine(), server, month), start=1):
                outcomes[outcome.state] += 1
                if place % 100 == 0:
                    context.log.info(f"{place:,} of {pending:,}")
    tell(context, config, act_reports.emails(month, pending, outcomes, without, config.dry_run), [month])


@operation
def settle_email(context: dg.OpExecutionContext, config: _Decision, database: BillingDatabase) -> None:
    """Decide what became of e-mails: that uncertain ones were sent, that they are sent again, that sent ones bounced.

    What is to be sent again is sent by the next email_invoices of its month, with the same Message-ID.
    """
    author = author_of(context, config)
    with database.transaction() as connection:
        invoices = operations.find(connection, config.invoices)
        emails.decide(connection, list(invoices), config.outcome, config.recipient.strip() or None, author)
        report = act_reports.decided(len(invoices), config.outcome, config.dry_run)
        end(connection, config)
    tell(context, config, report, invoices.values())
