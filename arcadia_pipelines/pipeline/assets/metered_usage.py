"""Usage of the month: counted per deployment and resource kind, and frozen at a cut-off."""

import dagster as dg

from arcadia_pipelines.again import intact
from arcadia_pipelines.pipeline import reporting
from arcadia_pipelines.pipeline.assets.cloud import CLOUD_TABLES
from arcadia_pipelines.pipeline.partitions import MONTHS, month_of
from arcadia_pipelines.pipeline.resources import BillingDatabase
from arcadia_pipelines.proof import controls
from arcadia_pipelines.storage import columns, losses, migrations, usage


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

    Materialising it again compares it with the raw records: late ones come in, and nothing is written if all is the
    same.
    """
    month = month_of(context)
    with database.month_at_an_instant(month) as connection:
        migrations.refuse_newer(connection)
        losses.refuse(connection, month)
        cutoff = usage.now(connection)
        frozen = usage.freeze(connection, month, cutoff, context.run.run_id)
        if frozen.compared:
            control = controls.USAGE_EQUALS_RAW_RECORDS
            rows = controls.rows_of(connection, control, month)
            controls.record_passed(connection, control, month, rows, context.run.run_id)
        if frozen.changed:
            intact.to_make_again(connection, month)  # what a locked invoice has lost is rebuilt from what was frozen
        kinds = usage.by_kind(connection, month)
        schema = columns.of(connection, "metered_usage")
        return dg.MaterializeResult(metadata=reporting.usage(kinds, cutoff, frozen.changed, schema))
