"""`arcadia document` and `documents`: one invoice as a PDF or an e-invoice, or all of a month as PDFs.

Belongs here: arguments and printing. Does not: the documents (documents/).
"""

from pathlib import Path

import click

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, Month, engine, say
from arcadia_pipelines.documents import files, pdf, xml
from arcadia_pipelines.documents.content import content_of
from arcadia_pipelines.storage import database, documents, operations

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("document", short_help="Write an invoice as a PDF or an e-invoice.")
@click.argument("invoice")
@click.option(
    "--pdf", "pdf_file", type=_FILE, metavar="FILE", help="Write the PDF here; a file that is there is replaced."
)
@click.option(
    "--xml", "xml_file", type=_FILE, metavar="FILE", help="Write the e-invoice here: UBL as PINT A-NZ wants it."
)
def document(invoice: str, pdf_file: Path | None, xml_file: Path | None) -> None:
    """Write INVOICE (its number, or its id) as a PDF, as an e-invoice, or both.

    It is a tax invoice, or an adjustment note if the tenant is owed. It shows what is frozen with the invoice, and the
    same revision is the same bytes. A draft's PDF says DRAFT, a void one's VOID; neither has an e-invoice, nor has an
    invoice to a tenant without an ABN. Of a void invoice that was delivered, it is the adjustment note that takes it
    back. A file appears whole or not at all. This delivers nothing: the invoice can still
    be revised.
    """
    wanted = [(render, file) for render, file in ((pdf.render, pdf_file), (xml.render, xml_file)) if file]
    if not wanted:
        raise click.UsageError("say where to: --pdf FILE, --xml FILE, or both")
    with database.snapshot(engine()) as connection:
        [found] = documents.content(connection, list(operations.find(connection, [invoice])))
    content = content_of(found)
    made = [(render(content), file) for render, file in wanted]  # all of it, before any is written
    for written, file in made:
        files.write(written, file)
    say(f"{content.number or invoice}, revision {content.revision}, in {' and '.join(str(file) for _, file in made)}")


@click.command("documents", short_help="Write a month's invoices as PDFs.")
@click.argument("month", type=Month())
@click.option("--into", required=True, metavar="URL", help="A folder, or an object store like s3://bucket/folder.")
def month_documents(month: BillingMonth, into: str) -> None:
    """Write all invoices of MONTH that have a number as PDFs, each named by it, void ones too.

    Of a void one that was delivered, it is the adjustment note that takes it back, named like INV-202604-00001-ADJ.pdf.
    A file that is there is replaced. Object stores are reached by fsspec: install the package that it names for yours,
    s3fs for S3. This delivers nothing.
    """
    done, on = 0, engine()
    with ERR.status(f"documents of {month}") as status, database.snapshot(on) as connection:
        for done, total in files.write_month(connection, month, into):
            status.update(f"documents of {month}: {done:,} of {total:,}")
    say(f"{number_of(done, 'documents')} of {month} in {into}")
