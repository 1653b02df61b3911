"""Usage of the month: counted per deployment and resource kind, and frozen at a cut-off."""

import dagster as dg

from arcadia_pipelines.month import steps
from arcadia_pipelines.pipeline import reporting
from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof import controls, usage_controls
from arcadia_pipelines.storage import columns, counts, usage
from arcadia_pipelines.usage import sources


@dg.asset(
    partitions_def=MONTHS,
    deps=[CLOUD_TABLES["usage_records"], CLOUD_TABLES["subscriptions"]],
    group_name="month_end",
    kinds={"postgres"},
    owners=["team:finance"],
    metadata={"dagster/table_name": "billing.metered_usage"},
)
def metered_usage(context: dg.AssetExecutionContext, database: BillingDatabase) -> dg.MaterializeResult[None]:
    """Usage of the month, summed per deployment, resource kind and subscription, frozen at the cut-off.

    Materialising it again compares it with the raw records: late ones are added, and nothing is written if nothing
    changed.
    """
    month, run_id = month_of(context), context.run.run_id
    with database.month_at_an_instant(month) as connection:
        frozen = steps.freeze(connection, month, run_id, sources.configured())
        # At the same instant: a record that is committed later with an earlier stamp is late usage, not a fault.
        controls.pass_if_clean(
            connection, usage_controls.USAGE_EQUALS_RAW_RECORDS, month, run_id, is_clean=frozen.compared
        )
        kinds, schema = usage.by_kind(connection, month), columns.of(connection, "metered_usage")
        return dg.MaterializeResult(metadata=reporting.usage(kinds, frozen, schema, counts.pin(connection, month)))
