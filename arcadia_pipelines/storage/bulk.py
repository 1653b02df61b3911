"""Columns in and out of PostgreSQL by COPY: Arrow on our side, exact on both.

Reading uses CSV and is for small results: those as large as a month are streamed (streams.py). Writing uses
PostgreSQL's binary format.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pgpq
import pgpq.schema
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pgpq.encoders import StringEncoderBuilder
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import to_arrow, to_pandas
from arcadia_pipelines.storage.database import driver

_BATCH_ROWS = 25_000
_PARSE = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)

_TYPES = """
    select attname, format_type(atttypid, null) from pg_attribute
    where attrelid = %(table)s::regclass and attnum > 0 and not attisdropped
"""
_ARROW_TYPES = {"smallint": pa.int16(), "integer": pa.int32(), "date": pa.date32()}
"""The Arrow types of columns that are cast first, as their binary form differs from that of our own types."""

_UUID = pa.binary(16)
_HEX_DIGITS = np.array([place for place in range(36) if place not in (8, 13, 18, 23)])
_HEX_VALUES = np.full(256, 255, np.uint8)
_HEX_VALUES[np.frombuffer(b"0123456789abcdefABCDEF", np.uint8)] = [*range(16), *range(10, 16)]


def read(connection: Connection, query: str, schema: pa.Schema, parameters: Mapping[str, object]) -> pd.DataFrame:
    """The query's rows as the schema's columns, which it must select by those names."""
    return to_pandas(read_table(connection, query, schema, parameters))


def read_table(connection: Connection, query: str, schema: pa.Schema, parameters: Mapping[str, object]) -> pa.Table:
    """The same as Arrow's table."""
    names = ", ".join(schema.names)
    statement = f"copy (select {names} from ({query}) as q) to stdout with (format csv, header)"
    with driver(connection).cursor() as cursor, cursor.copy(statement, parameters) as rows:
        text = b"".join(rows)
    convert = pa.csv.ConvertOptions(
        column_types=schema,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )
    return pa.csv.read_csv(io.BytesIO(text), parse_options=_PARSE, convert_options=convert)


Types = Mapping[str, str]
"""The PostgreSQL types of a table's columns, by name."""


@dataclass(frozen=True)
class Encoded:
    """Rows encoded for COPY, in parts."""

    columns: Sequence[str]
    parts: Sequence[bytes]


def types_of(connection: Connection, table: str) -> Types:
    """The types of the table's columns."""
    return dict(tuple(row) for row in connection.exec_driver_sql(_TYPES, {"table": table}))


def encode(data: pd.DataFrame, schema: pa.Schema, types: Types) -> Encoded:
    """The schema's columns of the frame, encoded for a table whose columns have these names and types.

    Raises pyarrow.ArrowInvalid for a text that is not a uuid or a date where the table has that type.
    """
    columns = to_arrow(data, schema)
    columns = pa.table({name: _as(types[name], columns[name]) for name in columns.column_names})
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(
        columns.schema, {field.name: _encoder(types[field.name], field) for field in columns.schema}
    )
    batches = columns.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)
    parts = [encoder.write_header(), *map(encoder.write_batch, batches), encoder.finish()]
    return Encoded(columns.column_names, parts)


def copy(connection: Connection, table: str, rows: Encoded) -> None:
    """Append the rows to the table."""
    statement = f"copy {table} ({', '.join(rows.columns)}) from stdin with (format binary)"
    with driver(connection).cursor() as cursor, cursor.copy(statement) as into:
        for part in rows.parts:
            into.write(part)


def _as(postgres_type: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if postgres_type == "uuid":
        return pa.chunked_array([_uuids(chunk) for chunk in column.chunks], _UUID)
    return column.cast(_ARROW_TYPES.get(postgres_type, column.type))


def _encoder(postgres_type: str, field: pa.Field) -> Any:
    if postgres_type == "jsonb":
        return StringEncoderBuilder.new_with_output(field, pgpq.schema.Jsonb())
    return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)


def _uuids(texts: pa.StringArray) -> pa.FixedSizeBinaryArray:
    """The sixteen bytes of each 36-character text."""
    known = texts.drop_null()
    if not pc.all(pc.equal(pc.binary_length(known), 36)).as_py() and len(known):
        raise pa.ArrowInvalid(f"not a uuid: {pc.filter(known, pc.not_equal(pc.binary_length(known), 36))[0]}")
    _, offsets, characters = known.buffers()
    start = np.frombuffer(offsets, np.int32, 1, known.offset * 4)[0] if len(known) else 0
    letters = np.frombuffer(characters or b"", np.uint8, len(known) * 36, start).reshape(-1, 36)
    digits = _HEX_VALUES[letters[:, _HEX_DIGITS]]
    if (digits > 15).any():
        raise pa.ArrowInvalid(f"not a uuid: {known[int((digits > 15).any(axis=1).argmax())]}")
    data = pa.py_buffer(np.ascontiguousarray(digits[:, 0::2] << 4 | digits[:, 1::2]))
    packed = pa.FixedSizeBinaryArray.from_buffers(_UUID, len(known), [None, data])
    if not texts.null_count:
        return packed
    places = pc.cumulative_sum(texts.is_valid().cast(pa.int64()))
    return packed.take(pc.if_else(texts.is_valid(), pc.subtract(places, 1), None))
