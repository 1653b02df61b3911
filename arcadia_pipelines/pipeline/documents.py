"""The job that writes a month's invoices as documents."""

import dagster as dg
from pydantic import Field

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import files
from arcadia_pipelines.pipeline import failures
from arcadia_pipelines.pipeline.acts import step_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.storage.database import snapshot


class _Documents(dg.Config):
    month: str = Field(description="The month of the invoices, like 2026-04.")
    into: str = Field(description="A folder on the server that runs this, or an object store like s3://bucket/folder.")


@dg.op(name=step_of("documents"), out=dg.Out(dg.Nothing))
@failures.marking_refusals()
def _documents(context: dg.OpExecutionContext, config: _Documents, database: BillingDatabase) -> None:
    """Write the month's documents, and say from time to time how far it is."""
    month, done, told = BillingMonth.parse(config.month), 0, 0
    with snapshot(database.engine()) as connection:
        for done, total in files.write_month(connection, month, config.into):
            if done * 20 >= told * total or done == total:  # about twenty times
                context.log.info(f"{done:,} of {number_of(total, 'documents')}")
                told = 1 + done * 20 // max(1, total)
    summary = f"{number_of(done, 'documents')} of {month} in {config.into}"
    context.add_output_metadata({"summary": dg.MetadataValue.text(summary), "documents": done})


documents = dg.GraphDefinition(name="documents", node_defs=[_documents]).to_job(
    name="documents",
    description="Write a month's numbered invoices as PDFs into a folder or an object store. Files that are there are "
    "replaced. Nothing is delivered by it.",
)
