"""What the UI shows, and its tables: at most twenty rows, cents as dollars, numbers lined up.

Belongs here: how a table looks. Does not: which tables there are (reporting.py, act_reports.py).
"""

import decimal
import re
from collections.abc import Mapping

import dagster as dg
import pandas as pd

from arcadia_pipelines.billing.money import WHOLE, Series, cast, dollars
from arcadia_pipelines.proof.control import MOST_SHOWN
from arcadia_pipelines.storage.columns import Column

Metadata = Mapping[str, dg.MetadataValue]
"""In the order a person reads it. The keys stay the same from run to run: the UI plots each number, a point a month."""


def table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """The frame as an inline table; at most 20 rows."""
    columns = {str(name): _cells(list(data[name].head(MOST_SHOWN))) for name in data.columns}
    records = [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name, "string") for name in columns]))


def money_table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """As table(), with cents as dollars."""
    return table(_in_dollars(data))


def table_schema(columns: list[Column]) -> dg.TableSchemaMetadataValue:
    """The columns of a table or a view, as the catalogue shows them."""
    return dg.MetadataValue.table_schema(
        dg.TableSchema(
            [dg.TableColumn(c.name, c.type, c.comment, dg.TableColumnConstraints(nullable=c.nullable)) for c in columns]
        )
    )


def exact_sum(cents: Series) -> int:
    """The exact sum of a column of cents, also past 64 bits."""
    return int(cast(cents, WHOLE).sum())


def _in_dollars(data: pd.DataFrame) -> pd.DataFrame:
    """The rows to show, with `*_cents` columns as dollars for people, without the suffix."""
    shown = data.head(MOST_SHOWN)
    money = [column for column in shown.columns if column.endswith("_cents")]
    amounts = {name: ["" if pd.isna(cents) else dollars(int(cents)) for cents in shown[name]] for name in money}
    return shown.assign(**amounts).rename(columns={column: column.removesuffix("_cents") for column in money})


def _cells(values: list[object]) -> list[str]:
    """A column of a table as text; numbers are lined up on the right by spaces that the browser keeps."""
    cells = [_cell(value) for value in values]
    if not all(re.fullmatch(r"-?[\d,.]*", cell) for cell in cells):
        return cells
    width = max(map(len, cells), default=0)
    return [cell.rjust(width, "\N{NO-BREAK SPACE}") for cell in cells]


def _cell(value: object) -> str:
    if value is None or value is pd.NA:
        return ""
    return f"{value:,}" if isinstance(value, int | decimal.Decimal) else str(value)
