"""A month in the FinOps Foundation's FOCUS format, version 1.2: what tenants were billed, and what the provider billed.

Belongs here: the file, and whether it sums to the invoices. Does not: which of our columns is which FOCUS column
(focus_revenue.py, focus_cost.py, and what both have in common in focus_columns.py), the command (cli/export.py).
What each column means is at https://focus.finops.org; `make focus` has the official validator check ours.

Both sides:

- BilledCost is what the invoice says, to the cent, and sums to it. ListCost, ContractedCost and EffectiveCost are
  quantity x unit price, unrounded: FOCUS requires that product if both are given, and rounding is not part of a price.
  Discounts are lines of their own, and prices are in the currency of the bill.
- Columns for what does not exist or is not known (commitment discounts, regions, tags) are present and null: FOCUS 1.0
  requires them, 1.2 allows them.
- x_ columns are ours. x_DeploymentId, x_TenantId and x_ResourceKind mean the same on both sides.
- In a CSV texts are quoted, and a formula in one begins with an apostrophe, as in every sheet (sheets.py). Parquet has
  texts as they are.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import TEXT, dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.exports import sheets
from arcadia_pipelines.exports.focus_columns import FIXED_WORDS, INSTANT, NOT_HERE, Side, schema
from arcadia_pipelines.exports.focus_cost import COST
from arcadia_pipelines.exports.focus_revenue import REVENUE
from arcadia_pipelines.storage import ledger
from arcadia_pipelines.storage.database import driver

ENDINGS = (".csv", ".parquet")

_BLOCK_BYTES = 4 * 1024 * 1024
_ROWS = {"revenue": REVENUE, "cost": COST}

_SUMS = {
    "revenue": """
        select i.invoice_number as name, i.total_cents as cents, coalesce(sum(l.amount_cents), 0)::bigint as lines_cents
        from billing.tenant_invoices i
        left join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
        where i.period_start = %(month)s and i.status in ('issued', 'paid')
        group by i.id
    """,
    "cost": """
        select 'the bill' as name, b.total_cents as cents, coalesce(sum(a.usd_cents), 0)::bigint as lines_cents
        from billing.cloud_invoices b left join billing.cost_allocations a using (period_start)
        where b.period_start = %(month)s
        group by b.period_start
    """,
}
"""One row per invoice: its total, and the sum of its exported rows."""

_HARMLESS = {"before_formula": sheets.BEFORE_FORMULA, "with_apostrophe": sheets.WITH_APOSTROPHE}
_CONVERT = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}


class NotExported(ArcadiaError):
    """The month cannot be exported; the message says why and what to do. No file was written."""


class Exported(NamedTuple):
    """What was written."""

    rows: int
    invoices: int
    cents: int
    currency: str


def export(connection: Connection, month: BillingMonth, side: Side, out: Path) -> Exported:
    """Write the month's side to the file, CSV or Parquet by its name's ending, in the order of tenants and lines.

    The connection sees one state throughout (database.snapshot). The file appears whole, in place of one that was
    there, or not at all. Raises NotExported, StorageError and OSError.
    """
    invoices, cents = _checked_sums(connection, month, side)
    with tempfile.TemporaryDirectory(prefix=".arcadia-export-", dir=out.parent) as folder:
        written = Path(folder, "focus.csv")
        as_parquet = out.suffix.lower() == ".parquet"
        rows = _copy(connection, month, side, written, _text if as_parquet else _harmless_text)
        if as_parquet:
            written = _to_parquet(written, schema(side))
        os.replace(written, out)
    return Exported(rows, invoices, cents, "AUD" if side == "revenue" else "USD")


def _checked_sums(connection: Connection, month: BillingMonth, side: Side) -> tuple[int, int]:
    """How many invoices there are, and their total, which the exported rows sum to. Raises NotExported."""
    check = f"""
        select count(*), coalesce(sum(cents), 0)::bigint,
               min(array[name, cents::text, lines_cents::text]) filter (where cents <> lines_cents)
        from ({_SUMS[side]}) s
    """
    if side == "revenue" and not ledger.is_invoiced(connection, month):
        raise NotExported(ledger.why_not_invoiced(month))
    count, cents, differs = connection.exec_driver_sql(check, {"month": month.start}).one()
    if side == "cost" and not count:
        raise NotExported(f"there is no bill of the provider's for {month}: import it (`arcadia costs import`)")
    if differs:
        name, total, lines = differs
        advice = f"run `arcadia audit {month}`" if side == "revenue" else "allocate the bill again"
        sums = f"{name} comes to {dollars(int(total))}, and what is exported of it to {dollars(int(lines))}"
        raise NotExported(f"{month}: {sums}: {advice}")
    return count, cents


def _copy(connection: Connection, month: BillingMonth, side: Side, to: Path, text: Callable[[str], str]) -> int:
    """Write the rows as PostgreSQL's CSV, with texts quoted and null as nothing; returns how many."""
    columns = ", ".join(f'{_spelled(field, text)} as "{field.name}"' for field in schema(side))
    texts = [field.name for field in schema(side) if field.type == TEXT]
    others = [name for name in texts if name not in (*FIXED_WORDS, *NOT_HERE)]
    statement = f"""
        copy (
            select {columns} from ({_ROWS[side]}) q
            cross join lateral (
                select ';' || concat_ws(';', {_quoted(others)}) ~ %(before_formula)s as has_formula offset 0
            ) r
            order by q.place, q.part, q."ChargePeriodStart" desc, q."ChargeDescription"
        ) to stdout with (format csv, header, force_quote ({_quoted(texts)}))
    """
    with driver(connection).cursor() as cursor, to.open("wb") as file:
        with cursor.copy(statement, {"month": month.start, **_HARMLESS}) as parts:
            for part in parts:
                file.write(part)
        return cursor.rowcount


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _spelled(field: pa.Field, text: Callable[[str], str]) -> str:
    """The column as text in FOCUS's formats: instants in UTC, amounts with two decimals or as many as they need."""
    column = f'q."{field.name}"'
    if field.type == INSTANT:
        return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    if pa.types.is_decimal(field.type):
        return f"round({column}::numeric, greatest(min_scale({column}::numeric), 2))"
    return text(column) if field.type == TEXT and field.name not in FIXED_WORDS else column


def _text(column: str) -> str:
    return column


def _harmless_text(column: str) -> str:
    """The column without a formula that a spreadsheet would run (sheets.py). Few rows have one: a test is quicker."""
    harmless = f"substr(regexp_replace(';' || {column}, %(before_formula)s, %(with_apostrophe)s, 'g'), 2)"
    return f"case when r.has_formula then {harmless} else {column}::text end"


def _to_parquet(written: Path, columns: pa.Schema) -> Path:
    """The CSV's rows as Parquet beside it, a block at a time. Raises pyarrow.ArrowInvalid rather than lose a digit."""
    parquet = written.with_suffix(".parquet")
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    convert = pa.csv.ConvertOptions(column_types=columns, **_CONVERT)
    read = pa.csv.ReadOptions(block_size=_BLOCK_BYTES)
    with (
        pa.csv.open_csv(written, read_options=read, parse_options=parse, convert_options=convert) as batches,
        pa.parquet.ParquetWriter(parquet, columns) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return parquet
