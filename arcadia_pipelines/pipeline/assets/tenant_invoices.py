"""The month's invoices and their lines, published together in one transaction."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from arcadia_pipelines.month import steps
from arcadia_pipelines.pipeline import pictures, reporting, tables
from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.assets.deployment_quotes import CODE_VERSION, deployment_quotes
from arcadia_pipelines.pipeline.checks import partitioned_checks, pass_gate
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase, Results
from arcadia_pipelines.storage import chain, columns, ledger


def _spec(name: str, description: str, deps: list[object]) -> dg.AssetSpec:
    return dg.AssetSpec(
        name,
        description=description,
        deps=deps,  # type: ignore[arg-type]
        group_name="month_end",
        kinds={"postgres", "pandas"},
        code_version=CODE_VERSION,
        owners=["team:finance"],
        metadata={"dagster/table_name": f"billing.{name}"},
    )


with partitioned_checks():
    FROZEN_CHECK = dg.AssetCheckSpec(
        "frozen_invoices_agree",
        asset="tenant_invoices",
        description="Every paid, void, delivered or pushed invoice bills what would be billed now; if not, it is left "
        "as it is.",
        partitions_def=MONTHS,
    )


@dg.multi_asset(
    partitions_def=MONTHS,
    specs=[
        _spec(
            "tenant_invoice_lines",
            "The lines of the month's invoices: quote lines in invoice order, then GST; replaced with their invoice.",
            [deployment_quotes, CLOUD_TABLES["tenants"]],
        ),
        _spec(
            "tenant_invoices",
            "One invoice per tenant and month. Materialising a month again leaves unchanged invoices alone, revises "
            "changed ones, voids those with nothing to bill. Locked ones (paid, void, delivered, pushed) are left as "
            "they are and reported; what a paid, delivered or pushed one bills too little or too much is on the next. "
            "Tenants on hold get drafts.",
            ["tenant_invoice_lines"],
        ),
    ],
    check_specs=[FROZEN_CHECK],
)
def publish_invoices(
    context: dg.AssetExecutionContext, database: BillingDatabase, results: dg.ResourceParam[Results]
) -> Iterator[dg.MaterializeResult[None]]:
    """Turn the month's quotes into invoices, reconcile them with those that stand, and publish what differs."""
    month, run_id = month_of(context), context.run.run_id
    with database.month_at_an_instant(month, publishes=True) as connection:
        cutoff = steps.refuse_unless_quoted(connection, month)
        pass_gate(context, connection, month)
        earlier = ledger.revenue_before(connection, month)  # before the publication, which takes locks
        invoiced = steps.invoice(connection, month, cutoff)
        published = steps.publish(connection, month, invoiced, run_id)
        steps.correct(connection, month, published, run_id)
        revenue = ledger.revenue_of(connection, month)
        of_lines = reporting.invoice_lines(
            ledger.line_count(connection, month), revenue, columns.of(connection, "tenant_invoice_lines")
        )
        standing, head = ledger.sums(connection, month), chain.head(connection, month)
        of_invoices = reporting.invoices(
            published,
            standing,
            ledger.largest(connection, month),
            head,
            columns.of(connection, "tenant_invoices"),
        )
    results.published, results.head, results.sums = published, head, reporting.sums(standing)
    results.findings[FROZEN_CHECK.name] = len(published.frozen), reporting.FROZEN_REMEDY
    drawn = _drawn(earlier, revenue)
    yield dg.MaterializeResult(
        asset_key="tenant_invoice_lines",
        metadata=reporting.with_pictures(of_lines, drawn, "revenue_by_kind_picture"),
    )
    yield dg.MaterializeResult(
        asset_key="tenant_invoices",
        metadata=reporting.with_pictures(of_invoices, drawn, "revenue_by_month_picture"),
        check_results=[_frozen_result(published.frozen)],
    )


def _drawn(earlier: pd.DataFrame, revenue: pd.DataFrame) -> tables.Metadata:
    """The pictures of the month's revenue, by kind, and beside the months before; both are as ledger.REVENUE."""
    return pictures.drawn(
        {
            "revenue_by_kind_picture": lambda: pictures.revenue_by_kind(revenue),
            "revenue_by_month_picture": lambda: pictures.revenue_by_month(pd.concat([earlier, revenue])),
        }
    )


def _frozen_result(frozen: pd.DataFrame) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=FROZEN_CHECK.name,
        asset_key="tenant_invoices",
        passed=frozen.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description=FROZEN_CHECK.description if frozen.empty else f"{len(frozen)} found. {reporting.FROZEN_REMEDY}",
        metadata=reporting.frozen(frozen),
    )
