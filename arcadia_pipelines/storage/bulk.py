"""Columns in and out of PostgreSQL by COPY: Arrow on our side, CSV on the wire, exact on both."""

import io
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import to_arrow, to_pandas
from arcadia_pipelines.storage.database import driver

_BATCH_ROWS = 100_000
_WRITE = pa.csv.WriteOptions(include_header=False, batch_size=_BATCH_ROWS)
_PARSE = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def read(connection: Connection, query: str, schema: pa.Schema, parameters: Mapping[str, object]) -> pd.DataFrame:
    """The query's rows as the schema's columns, which it must select by those names."""
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
    return to_pandas(pa.csv.read_csv(io.BytesIO(text), parse_options=_PARSE, convert_options=convert))


def write(connection: Connection, table: str, data: pd.DataFrame, schema: pa.Schema) -> None:
    """Append the schema's columns of the frame to the table, which has columns of those names."""
    names = ", ".join(schema.names)
    columns = to_arrow(data, schema)
    statement = f"copy {table} ({names}) from stdin with (format csv)"
    with driver(connection).cursor() as cursor, cursor.copy(statement) as rows:
        for batch in columns.to_batches(max_chunksize=_BATCH_ROWS):
            text = io.BytesIO()
            pa.csv.write_csv(batch, text, _WRITE)
            rows.write(text.getbuffer())
