"""The frozen usage beside a second count of the source that it was counted from, if that is not cloud.usage_records.

It is counted by another expression than it was frozen by: sums of whole units and of millionths.
"""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import counts, usage
from arcadia_pipelines.usage import sources


def find(connection: Connection, month: BillingMonth, pin: sources.Pin, most: int) -> tuple[int, list[dict[str, Any]]]:
    """How many deployments and kinds differ, and the first ones; or, as the only one, why nothing could be counted.

    Files that are no longer as they were counted are no difference, if what there is now up to the cut-off is the same.
    Raises UsageSourceError.
    """
    source, cutoff = sources.configured(), usage.cutoff_of(connection, month)
    if source is None or source.name != pin["source"] or cutoff is None:
        named = source.name if source else "cloud.usage_records"
        return 1, [{"usage_source": pin["source"], "problem": f"ARCADIA_USAGE_URL names {named}: nothing was counted"}]
    with ThreadPoolExecutor(1, "usage") as beside:
        counting = beside.submit(source.count_again, month, cutoff, pin)
        frozen = counts.frozen(connection, month)
    again, changed = counting.result()
    differing = _differing(again, frozen)
    offenders = differing.slice(0, most).to_pylist()
    return len(differing), [{**row, **({"usage_source": changed} if changed else {})} for row in offenders]


_EXACT = pa.decimal128(38, 6)


def _differing(again: pa.Table, frozen: pa.Table) -> pa.Table:
    """The deployments and kinds whose records or quantities are not the same in a second count and the frozen usage."""
    millionths = pc.multiply(again["millionths"].cast(pa.decimal128(19, 0)), pa.scalar(Decimal("0.000001")))
    quantity = pc.add(again["units"].cast(pa.decimal128(19, 0)), millionths).cast(_EXACT)
    raw = again.drop(["units", "millionths"]).append_column("quantity", pc.fill_null(quantity, pa.scalar(0, _EXACT)))
    keys = ["deployment_id", "resource_kind"]
    summed = frozen.group_by(keys).aggregate([("records", "sum"), ("quantity", "sum")])
    both = raw.rename_columns([*keys, "raw_records", "raw_quantity"]).join(
        summed.rename_columns([*keys, "frozen_records", "frozen_quantity"]), keys, join_type="full outer"
    )
    same = pc.and_(
        pc.equal(both["raw_records"], both["frozen_records"]), pc.equal(both["raw_quantity"], both["frozen_quantity"])
    )
    return both.filter(pc.invert(pc.fill_null(same, False))).sort_by([(key, "ascending") for key in keys])
