"""What finance is told of the month's invoices, and whether it has them as we do."""

from collections.abc import Mapping, Sequence

import dagster as dg
import pandas as pd

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import FinanceError
from arcadia_pipelines.finance.ledgers import ledger_of
from arcadia_pipelines.finance.outbox import Drained
from arcadia_pipelines.finance.reconcile import Reconciled, reconcile
from arcadia_pipelines.pipeline import reporting, tables
from arcadia_pipelines.pipeline.checks import partitioned_checks
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof.control import MOST_SHOWN, Finding
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import columns, outbox
from arcadia_pipelines.storage.outbox import State

Rows = Sequence[Mapping[str, object]]
"""How many rows of the outbox are in each state: storage/outbox.status()."""

UNSET = "ARCADIA_FINANCE_URL is not set: finance is told nothing"
_AGREES = "Finance has the month's invoices as we know them: none missing, extra or different."
REMEDY = (
    "Missing: ask finance what became of it, withdraw it here (withdraw_from_finance) and run the month again. Extra: "
    "have finance take it back, or find who sent it. Different: see which side changed, docs/finance.md."
)


@dg.asset(
    partitions_def=MONTHS,
    deps=["tenant_invoices"],
    group_name="finance",
    kinds={"postgres"},
    owners=["team:finance"],
    metadata={"dagster/table_name": "billing.finance_outbox"},
)
def finance_invoices(context: dg.AssetExecutionContext, database: BillingDatabase) -> dg.MaterializeResult[None]:
    """What finance is told of the month's invoices, each exactly once: what is due is sent, the rest waits its time.

    Does nothing unless ARCADIA_FINANCE_URL is set. What is held back waits for `arcadia finance push`.
    """
    month, settings = month_of(context), Settings.from_environment()
    if not settings.finance_url:
        return dg.MaterializeResult(metadata={"summary": dg.MetadataValue.text(UNSET)})
    with ledger_of(settings) as client:
        with database.month(month) as connection:
            outbox.enqueue(connection, month)
        drained = draining.drain(database.engine(), client, month)
    with database.transaction() as connection:
        rows, schema = outbox.status(connection, month), columns.of(connection, "finance_outbox")
    summary = f"{said(drained)}; {number_of(open_rows(rows), 'rows')} still to be told"
    return dg.MaterializeResult(
        metadata={
            "summary": dg.MetadataValue.text(summary),
            "still_to_be_told": dg.MetadataValue.int(open_rows(rows)),
            "rows": table(rows),
            "dagster/column_schema": tables.table_schema(schema),
        }
    )


def said(drained: Drained) -> str:
    """What a drain did, in a sentence; why it ended early, if it did."""
    refused = drained.rows[State.REFUSED]
    done = f"{number_of(drained.rows[State.CONFIRMED], 'rows')} confirmed, {refused} refused"
    return f"{done}. {drained.stopped}" if drained.stopped else done


def open_rows(rows: Rows) -> int:
    """How many rows are neither confirmed nor refused."""
    return sum(int(str(row["rows"])) for row in rows if row["state"] not in (State.CONFIRMED, State.REFUSED))


def table(rows: Rows) -> dg.TableMetadataValue:
    """The rows by operation and state, for people."""
    shown = ("operation", "state", "rows", "held", "next_due_at", "last_error")
    return tables.table(pd.DataFrame([{name: row[name] for name in shown} for row in rows], columns=list(shown)))


with partitioned_checks():

    @dg.asset_check(asset=finance_invoices, description=_AGREES, partitions_def=MONTHS)
    def finance_agrees(context: dg.AssetCheckExecutionContext, database: BillingDatabase) -> dg.AssetCheckResult:
        """Compare the month with what finance lists, and record the payments that it knows of."""
        month, settings = month_of(context), Settings.from_environment()
        if not settings.finance_url:
            return dg.AssetCheckResult(passed=True, description=UNSET)
        try:
            with ledger_of(settings) as client:
                found = reconcile(database.engine(), client, month, context.run.run_id)
        except FinanceError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        return dg.AssetCheckResult(
            passed=not found.offenders,
            description=f"{len(found.offenders)} found. {REMEDY}" if found.offenders else _AGREES,
            metadata=compared(found),
        )


def compared(found: Reconciled) -> tables.Metadata:
    """A comparison, for people."""
    shown = Finding(len(found.offenders), found.offenders[:MOST_SHOWN])
    return {
        **reporting.finding(shown, REMEDY),
        "invoices_here": dg.MetadataValue.int(found.ours),
        "invoices_there": dg.MetadataValue.int(found.theirs),
        "total_here_cents": dg.MetadataValue.int(found.ours_cents),
        "total_there_cents": dg.MetadataValue.int(found.theirs_cents),
        "paid_there": dg.MetadataValue.int(len(found.paid)),
    }
