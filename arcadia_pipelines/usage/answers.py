"""What engines answer, as the contract has it (contract.COUNTS), or refused in words."""

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.usage.contract import COUNTS, UsageSourceError

_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def as_counts(name: str, month: BillingMonth, rows: pa.Table) -> pa.Table:
    """What the engine counted, as COUNTS without duplicates. Raises UsageSourceError."""
    nameless = pc.sum(
        pc.if_else(pc.or_(rows["deployment_id"].is_null(), rows["resource_kind"].is_null()), rows["record_count"], 0)
    ).as_py()
    if nameless:
        raise UsageSourceError(
            f"{name} has records of {month} without a deployment_id or a resource_kind: {nameless}. Nobody could be"
            " billed for them: complete or remove them"
        )
    _refuse_unkept(name, month, rows["resource_kind"].cast(pa.string()))
    ids = pc.unique(rows["deployment_id"])
    odd = ids.filter(pc.invert(pc.match_substring_regex(ids, _UUID)))
    if len(odd):
        raise UsageSourceError(
            f"{name} has deployment_ids of {month} that are not UUIDs in small letters with hyphens: {len(odd)}, as"
            f" {odd[0].as_py()!r}"
        )
    overflown = rows.filter(pc.and_(rows["quantity"].is_null(), pc.greater(rows["known"], 0)))
    if len(overflown):
        raise UsageSourceError(
            f"{name} could not sum {overflown['resource_kind'][0]} of deployment {overflown['deployment_id'][0]} in"
            f" {month}: it is more than the engine can hold"
        )
    return (
        rows.append_column("unusable_records", pc.subtract(rows["record_count"], rows["known"]))
        .append_column("duplicate_records", pa.repeat(0, len(rows)))
        .select(COUNTS.names)
        .cast(COUNTS)
    )


def _refuse_unkept(name: str, month: BillingMonth, kinds: pa.ChunkedArray) -> None:
    try:
        kinds.validate(full=True)
        if not pc.any(pc.match_substring(kinds, "\0")).as_py():
            return
        what = "with a zero byte in them"
    except pa.ArrowInvalid:
        what = "that are not UTF-8"
    raise UsageSourceError(f"{name} has resource_kinds of {month} {what}, which PostgreSQL cannot keep: correct them")


def with_copies(rows: pa.Table, copies: pa.Table | None) -> pa.Table:
    """What was counted, as COUNTS, with how many records of each row are among those that have copies."""
    if copies is None:
        return rows
    keys = [name for name in COUNTS.names if name.endswith("_id") or name == "resource_kind"]
    of = {tuple(row[key] for key in keys): row["record_count"] for row in copies.to_pylist()}
    duplicates = [of.get(key, 0) for key in zip(*(rows[key].to_pylist() for key in keys), strict=True)]
    return rows.drop(["duplicate_records"]).append_column("duplicate_records", pa.array(duplicates, pa.int64()))
