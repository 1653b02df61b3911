"""The job of a what-if: past months at the prices of a price book."""

import dagster as dg
from pydantic import Field

from arcadia_pipelines.billing.money import dollars, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month.reprice import Repriced, summed, together
from arcadia_pipelines.month.reprice import reprice as reprice_month
from arcadia_pipelines.pipeline import failures, pictures, tables
from arcadia_pipelines.pipeline.acts import step_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.prices import proposed, stored, text
from arcadia_pipelines.storage.database import snapshot


class _WhatIf(dg.Config):
    months: str = Field(description="Which months, like 2026-01..2026-10, or one; all of them materialised.")
    price_book: str = Field(description="The price book itself, as YAML: what `arcadia prices export` writes, changed.")


@dg.op(name=step_of("reprice"), out=dg.Out(dg.Nothing))
@failures.marking_refusals()
def _reprice(context: dg.OpExecutionContext, config: _WhatIf, database: BillingDatabase) -> None:
    """Price the months again, and report it; nothing is written."""
    reading = text.read(config.price_book.encode())
    if reading.book is None:
        raise text.InvalidPrices("the price book has faults, by line: " + "; ".join(map(str, reading.faults)))
    rows, months, found = proposed.rows(reading.book), BillingMonth.parse_range(config.months), []
    engine = database.engine()
    with snapshot(engine) as connection:
        if unknown := [reading.fault(path, what) for path, what in stored.strangers(connection, reading.book)]:
            raise text.InvalidPrices("the price book has faults, by line: " + "; ".join(map(str, unknown)))
    for month in months:
        with snapshot(engine) as connection:
            found.append(reprice_month(connection, month, rows))
        context.log.info(f"{month} is priced")
    context.add_output_metadata(_report(together(found)))


def _report(repriced: Repriced) -> tables.Metadata:
    by = {name: summed(repriced.amounts, name) for name in ("period_start", "tenant_id", "plan", "kind")}
    more, months = int(by["period_start"]["difference_cents"].sum()), by["period_start"].sort_values("period_start")
    tenants = by["tenant_id"]["difference_cents"]
    payers = number_of(int((tenants > 0).sum()), "tenants"), number_of(int((tenants < 0).sum()), "tenants")
    summary = f"${dollars(more)} ex GST more in all; {payers[0]} would pay more, {payers[1]} less"
    drawn = months.assign(month=months["period_start"].str[:7]).drop(columns="period_start")
    return {
        "summary": dg.MetadataValue.text(summary),
        "by_month": tables.money_table(months),
        "by_plan": tables.money_table(by["plan"]),
        "by_kind": tables.money_table(by["kind"]),
        "largest_differences": tables.money_table(by["tenant_id"]),
        "left_out": tables.table(repriced.faults[["period_start", "tenant_id", "fault", "detail"]]),
        **pictures.drawn({"picture": lambda: pictures.repriced(drawn)}),
    }


reprice = dg.GraphDefinition(name="reprice", node_defs=[_reprice]).to_job(
    name="reprice",
    description="What if: past months at the prices of a price book, by the engine that invoices them, and what each "
    "tenant would pay more or less. Nothing is changed.",
)
