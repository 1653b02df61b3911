"""The columns that a usage source must have, whatever engine holds it; anything else is refused in words.

A float could not be billed exactly, an instant without a zone could be of two months, and an engine that changes a
scale rounds: so there is one type for each column, and nothing is converted.
"""

import re
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from arcadia_pipelines.errors import ArcadiaError

TEXT = "text"
INSTANT = "timestamp in UTC, to the microsecond"
_AMOUNT = "decimal(18, 6)"
COLUMNS = {
    "record_id": TEXT,
    "deployment_id": TEXT,
    "resource_kind": TEXT,
    "quantity": _AMOUNT,
    "recorded_at": INSTANT,
    "ingested_at": INSTANT,
}
"""The columns and their types. `quantity` may have fewer than 18 digits, but always 6 decimals."""

RECORDS = pa.schema(
    [
        *((name, pa.string()) for name in ("record_id", "deployment_id", "resource_kind")),
        ("quantity", pa.decimal128(18, 6)),
        *((name, pa.timestamp("us", "UTC")) for name in ("recorded_at", "ingested_at")),
    ]
)
"""The same as Arrow's types: one row per usage record."""

COUNTS = pa.schema(
    [
        *((name, pa.string()) for name in ("deployment_id", "resource_kind", "subscription_id")),
        ("quantity", pa.decimal128(38, 6)),
        *((name, pa.int64()) for name in ("record_count", "unusable_records", "duplicate_records")),
    ]
)
"""What a source counts of a month: one row per deployment, resource kind and subscription that had it.

`subscription_id` is that of the SPANS that a record lies in, or null; `quantity` is the sum of the usable records, null
if there are none; `duplicate_records` are those whose record_id stands there twice.
"""

SPANS = pa.schema(
    [
        *((name, pa.string()) for name in ("subscription_id", "of_deployment")),
        *((name, pa.timestamp("us", "UTC")) for name in ("started_at", "ended_at")),
    ]
)
"""When subscriptions had their deployments, [started_at, ended_at) within the month, where it was not all of it."""

SECOND_COUNT = pa.schema(
    [
        *((name, pa.string()) for name in ("deployment_id", "resource_kind")),
        *((name, pa.int64()) for name in ("records", "units", "millionths")),
    ]
)
"""A month counted a second way: the sums of the whole units, and of the millionths that each record has beyond them."""


class UsageSourceError(ArcadiaError):
    """A usage source cannot be read, or does not fit the contract; the message says why, and what to do."""


def misfits(types: Mapping[str, str]) -> list[str]:
    """What is wrong with columns of these types (in the words of COLUMNS where they are those), a phrase each."""
    found = [f"there is no column {name} ({wanted})" for name, wanted in COLUMNS.items() if name not in types]
    for name, wanted in COLUMNS.items():
        is_type = types.get(name, wanted)
        if is_type != wanted and not (wanted == _AMOUNT and _is_short(is_type)):
            found.append(f"{name} is {is_type}, and must be {wanted}")
    return found


def _is_short(type_: str) -> bool:
    """Whether these are decimals with 6 places, and 18 digits at most."""
    digits = re.fullmatch(r"decimal\((\d+), 6\)", type_)
    return digits is not None and int(digits[1]) <= 18


def types_of(schema: pa.Schema) -> dict[str, str]:
    """The types of Arrow's columns, in the words of COLUMNS where they are those.

    Engines do not tell small letters in a column's name from capitals: which of two they would count is not known.
    """
    named = Counter(name.lower() for name in schema.names)
    return {
        field.name: _word_for(field.type) if named[field.name.lower()] == 1 else "there more than once (capitals aside)"
        for field in schema
    }


def _word_for(type_: pa.DataType) -> str:
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain):
        return TEXT
    if pa.types.is_decimal(plain):
        return f"decimal({plain.precision}, {plain.scale})"
    if pa.types.is_timestamp(plain) and plain.tz and plain.unit != "ns":
        return INSTANT
    if pa.types.is_timestamp(plain):
        return "timestamp to the nanosecond" if plain.unit == "ns" else "timestamp without a time zone"
    return "floating point" if pa.types.is_floating(plain) else str(plain)
