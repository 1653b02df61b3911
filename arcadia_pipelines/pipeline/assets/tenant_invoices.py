"""The month's invoices and their lines, published together in one transaction."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from arcadia_pipelines.again import intact, stale
from arcadia_pipelines.billing import reconcile
from arcadia_pipelines.month import recompute
from arcadia_pipelines.pipeline import pictures, reporting
from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.assets.deployment_quotes import deployment_quotes
from arcadia_pipelines.pipeline.checks import partitioned_checks, pass_gate
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.storage import (
    billed,
    chain,
    columns,
    corrections,
    ledger,
    losses,
    missing,
    operations,
    quotes,
    usage,
)


class NotQuoted(Exception):
    """The month has no quotes to invoice."""


def _spec(name: str, description: str, deps: list[object]) -> dg.AssetSpec:
    return dg.AssetSpec(
        name,
        description=description,
        deps=deps,  # type: ignore[arg-type]
        group_name="month_end",
        kinds={"postgres", "pandas"},
        owners=["team:finance"],
        metadata={"dagster/table_name": f"billing.{name}"},
    )


with partitioned_checks():
    FROZEN_CHECK = dg.AssetCheckSpec(
        "frozen_invoices_agree",
        asset="tenant_invoices",
        description="Every paid, void or pushed invoice bills what would be billed now; if not, it is left as it is.",
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
            "changed ones, voids those with nothing to bill. Paid, void and pushed ones are frozen and reported; what "
            "a paid or pushed one bills too little or too much is on the next. Tenants on hold get drafts.",
            ["tenant_invoice_lines"],
        ),
    ],
    check_specs=[FROZEN_CHECK],
)
def publish_invoices(
    context: dg.AssetExecutionContext, database: BillingDatabase
) -> Iterator[dg.MaterializeResult[None]]:
    """Turn the month's quotes into invoices, reconcile them with those that stand, and publish what differs."""
    month = month_of(context)
    with database.month_at_an_instant(month, publishes=True) as connection:
        losses.refuse(connection, month)
        intact.refuse_lost_corrections(connection, corrections.carried_by(connection, month)["tenant_id"].tolist())
        cutoff = usage.cutoff_of(connection, month)
        if cutoff is None or not quotes.is_quoted(connection, month):
            raise NotQuoted(f"{month} is not quoted: materialise metered_usage and deployment_quotes of {month} first")
        pass_gate(context, connection, month)
        held_back = quotes.faults(connection, month)["tenant_id"]
        on_hold = operations.on_hold(connection)
        missing.refuse_many(connection, month)
        earlier = ledger.revenue_before(connection, month)  # before the publication, which takes locks
        distrusted = intact.to_make_again(connection, month)
        who = stale.to_invoice(connection, month, [invoice.tenant_id for invoice in distrusted])
        lost_lines = {invoice.tenant_id: invoice.lines_sha256 for invoice in distrusted if invoice.lines_differ}
        plans = (
            (reconcile.plan(standing, invoices, held_back, on_hold, lost_lines), invoices, lines)
            for invoices, lines, standing in recompute.month_invoices(
                connection, month, ledger.STANDING, only=who.tenants
            )
        )
        publication = ledger.Publication(month, cutoff, context.run.run_id)
        published = ledger.publish(connection, publication, plans, kept=who.settled)
        stale.remember_invoiced(connection, month, who, list(published.left["tenant_id"]))
        as_they_were = published.left[published.left["action"] != "frozen"]["tenant_id"]
        billed.record(connection, month, [*held_back.dropna(), *as_they_were])
        corrections.find(connection, month, context.run.run_id)
        if len(published.changed):
            intact.remember(connection, month)
        revenue = ledger.revenue_of(connection, month)
        of_lines = reporting.invoice_lines(
            ledger.line_count(connection, month), revenue, columns.of(connection, "tenant_invoice_lines")
        )
        of_invoices = reporting.invoices(
            published,
            ledger.sums(connection, month),
            ledger.largest(connection, month),
            chain.head(connection, month),
            columns.of(connection, "tenant_invoices"),
        )
        frozen = _frozen_result(published.frozen)
    drawn = pictures.drawn(
        {
            "revenue_by_kind_picture": lambda: pictures.revenue_by_kind(revenue),
            "revenue_by_month_picture": lambda: pictures.revenue_by_month(pd.concat([earlier, revenue])),
        }
    )
    yield dg.MaterializeResult(
        asset_key="tenant_invoice_lines",
        metadata=reporting.with_pictures(of_lines, drawn, "revenue_by_kind_picture"),
    )
    yield dg.MaterializeResult(
        asset_key="tenant_invoices",
        metadata=reporting.with_pictures(of_invoices, drawn, "revenue_by_month_picture"),
        check_results=[frozen],
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
