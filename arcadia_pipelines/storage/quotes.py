"""A month's quotes: their lines, the usage on no line, and the faults that hold tenants back."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.faults import FAULTS
from arcadia_pipelines.billing.money import COUNT, TEXT, WHOLE, to_arrow, to_pandas
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import QUOTE_LINES, UNBILLED, Quotes
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import PAYERS, bounds
from arcadia_pipelines.storage.months import Part
from arcadia_pipelines.storage.streams import Query, ahead

_TABLE = "deployment_quote_lines"
_IN_ORDER = [("subscription_id", "ascending"), ("line_no", "ascending")]

Chunks = Generator[tuple[Quotes, list[pd.DataFrame]], None, None]
"""For some tenants: their quotes, and the rows that other queries gave for them."""

LINES = Query(f"select * from billing.{_TABLE} where period_start = %(month)s", QUOTE_LINES)
"""The month's quote lines. Takes `month`."""

_NEW_LINES = f"create temporary table new_quote_lines (like billing.{_TABLE} including defaults) on commit drop"
# All at once, after the last chunk: a subscription may have moved to a tenant of another chunk.
_DELETE = f"""
    delete from billing.{_TABLE} q using unnest(%(ids)s::uuid[]) as changed (id)
    where q.period_start = %(month)s and q.subscription_id = changed.id
"""
_ADD = f"insert into billing.{_TABLE} select * from new_quote_lines"


_OF_THESE_OR_NOBODY = f"""
    not exists (select from ({PAYERS}) s
                where s.id = q.subscription_id and s.tenant_id <> all(%(only)s::text[]))
"""
"""Whether a row `q` of unbilled_usage belongs to one of the tenants `only`, or to none at all."""


def replace(connection: Connection, month: BillingMonth, chunks: Chunks, only: Sequence[str] | None = None) -> bool:
    """Make these the month's quotes; each chunk comes with the existing LINES. Returns whether anything was written.

    If `only` is given, they are the quotes of these tenants and the unassigned usage, and other tenants' stay. Lines
    are written only for subscriptions that differ.
    """
    if is_quoted(connection, month):
        connection.exec_driver_sql(_NEW_LINES)
        found = _load(connection, "pg_temp.new_quote_lines", month, chunks)
        changed = bool(found.differing)
        if changed:
            ids = pa.chunked_array(found.differing, TEXT).to_pylist()
            connection.exec_driver_sql(_DELETE, {"month": month.start, "ids": ids})
            connection.exec_driver_sql(_ADD)
    else:
        changed = True
        with months.new_partition(connection, _TABLE, month) as partition:
            found = _load(connection, partition, month, chunks)
    unbilled, faulty = Part(), Part()
    if only is not None:
        parameters = {**bounds(month), "only": ["", *only]}
        unbilled = Part(_OF_THESE_OR_NOBODY, parameters)
        faulty = Part("coalesce(tenant_id, '') = any(%(only)s::text[])", parameters)
    written = [
        changed,
        _replace_rows(connection, "unbilled_usage", month, found.unbilled, UNBILLED, unbilled),
        _replace_rows(connection, "quote_faults", month, found.faults, FAULTS, faulty),
    ]
    return any(written)


@dataclass(frozen=True)
class _Found:
    """What is written after the last chunk: the subscriptions that differ, unbilled usage, faults."""

    differing: list[pa.Array] = field(default_factory=list)
    unbilled: list[pd.DataFrame] = field(default_factory=list)
    faults: list[pd.DataFrame] = field(default_factory=list)


def _load(connection: Connection, table: str, month: BillingMonth, chunks: Chunks) -> _Found:
    """Append to the table the lines of the subscriptions that differ: a chunk's, while the next one is computed."""
    found, types = _Found(), bulk.types_of(connection, table)
    with closing(ahead(_prepared(month, chunks, types))) as prepared:
        for quotes, differing, rows in prepared:
            found.unbilled.append(quotes.unbilled)
            found.faults.append(quotes.faults)
            if len(differing):
                found.differing.append(differing)
                bulk.copy(connection, table, rows)
    return found


def _prepared(
    month: BillingMonth, chunks: Chunks, types: bulk.Types
) -> Iterator[tuple[Quotes, pa.Array, bulk.Encoded]]:
    with closing(chunks):
        for quotes, (standing,) in chunks:
            yield quotes, *_prepare(month, quotes, standing, types)


def _prepare(
    month: BillingMonth, quotes: Quotes, standing: pd.DataFrame, types: bulk.Types
) -> tuple[pa.Array, bulk.Encoded]:
    """The ids of the subscriptions that differ, and their lines."""
    lines, before = to_arrow(quotes.lines, QUOTE_LINES), to_arrow(standing, QUOTE_LINES).sort_by(_IN_ORDER)
    differing = pa.array([], TEXT) if lines.equals(before) else _differing(before, lines)
    if len(before):
        lines = lines.filter(pc.is_in(lines["subscription_id"], differing))
    return differing, months.encode(month, to_pandas(lines), QUOTE_LINES, types)


def _differing(standing: pa.Table, quoted: pa.Table) -> pa.Array:
    """The ids of the subscriptions whose lines differ, or that have lines on one side only."""
    if not len(standing):
        return pc.unique(quoted["subscription_id"])
    before, after = _rows(standing), _rows(quoted)
    return pc.unique(
        pa.chunked_array(
            [
                *standing["subscription_id"].filter(pc.invert(pc.is_in(before, after))).chunks,
                *quoted["subscription_id"].filter(pc.invert(pc.is_in(after, before))).chunks,
            ],
            TEXT,
        )
    )


def _rows(lines: pa.Table) -> pa.ChunkedArray:
    """Each line as one text."""
    texts = [column.cast(TEXT) for column in lines.columns]
    return pc.binary_join_element_wise(*texts, "\x1f", null_handling="replace", null_replacement="\x00")


def _replace_rows(
    connection: Connection, table: str, month: BillingMonth, chunks: list[pd.DataFrame], schema: pa.Schema, part: Part
) -> bool:
    """Replace a part of the month's rows of a table; its text and id columns give the order."""
    order = [field.name for field in schema if field.type == TEXT]
    rows = pd.concat(chunks).sort_values(order, ignore_index=True)
    by = ", ".join(f'{name}::text collate "C"' for name in order)
    return months.replace_rows(connection, table, month, rows, schema, by, part)


def faults(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's faults, as faults.FAULTS."""
    query = "select * from billing.quote_faults where period_start = %(month)s"
    return bulk.read(connection, query, FAULTS, {"month": month.start})


def unbilled(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's usage that is on no line, as quote.UNBILLED."""
    query = "select * from billing.unbilled_usage where period_start = %(month)s"
    return bulk.read(connection, query, UNBILLED, {"month": month.start})


def is_quoted(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month has been quoted, even without a line."""
    return months.has_partition(connection, _TABLE, month)


KINDS = pa.schema([("kind", TEXT), ("lines", COUNT), ("amount_cents", WHOLE)])
"""One row per kind of line: how many, and their sum."""


def by_kind(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's quote lines, as KINDS."""
    query = f"""
        select kind, count(*) as lines, sum(amount_cents) as amount_cents from billing.{_TABLE}
        where period_start = %(month)s group by kind order by kind
    """
    return bulk.read(connection, query, KINDS, {"month": month.start})


def unbilled_rows(connection: Connection, month: BillingMonth) -> int:
    """How many rows of unbilled_usage the month has."""
    query = "select count(*) from billing.unbilled_usage where period_start = %(month)s"
    return int(connection.exec_driver_sql(query, {"month": month.start}).scalar_one())
