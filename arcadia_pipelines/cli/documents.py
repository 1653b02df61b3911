"""`arcadia document` and `documents`: invoices as PDFs, one or all of a month.

Belongs here: arguments and printing. Does not: the documents (documents/).
"""

from pathlib import Path

import click

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, Month, engine, say
from arcadia_pipelines.documents import files, pdf
from arcadia_pipelines.documents.content import content_of
from arcadia_pipelines.storage import database, documents, operations


@click.command("document", short_help="Write an invoice as a PDF.")
@click.argument("invoice")
@click.option(
    "--pdf",
    "pdf_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file. One that is there is replaced.",
)
def document(invoice: str, pdf_file: Path) -> None:
    """Write INVOICE (its number, or its id) as a PDF: a tax invoice, or an adjustment note if the tenant is owed.

    It shows what is frozen with the invoice, and the same revision is the same bytes. A draft says DRAFT, a void one
    VOID. The file appears whole or not at all. This delivers nothing: the invoice can still be revised.
    """
    with database.snapshot(engine()) as connection:
        [found] = documents.content(connection, list(operations.find(connection, [invoice])))
    content = content_of(found)
    files.write(pdf.render(content), pdf_file)
    say(f"{content.number or invoice}, revision {content.revision}, in {pdf_file}")


@click.command("documents", short_help="Write a month's invoices as PDFs.")
@click.argument("month", type=Month())
@click.option("--into", required=True, metavar="URL", help="A folder, or an object store like s3://bucket/folder.")
def month_documents(month: BillingMonth, into: str) -> None:
    """Write all invoices of MONTH that have a number as PDFs, each named by it, void ones too.

    A file that is there is replaced. Object stores are reached by fsspec: install the package that it names for yours,
    s3fs for S3. This delivers nothing.
    """
    done, on = 0, engine()
    with ERR.status(f"documents of {month}") as status, database.snapshot(on) as connection:
        for done, total in files.write_month(connection, month, into):
            status.update(f"documents of {month}: {done:,} of {total:,}")
    say(f"{number_of(done, 'documents')} of {month} in {into}")
