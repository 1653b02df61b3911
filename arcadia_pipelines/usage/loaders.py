"""Usage written to Parquet files: the records of the table, or made-up ones of any number."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from arcadia_pipelines.billing.money import number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.usage.contract import RECORDS

_FILE_ROWS = 5_000_000
_GROUP_ROWS = 1_000_000
_BATCH_ROWS = 250_000
# Keys are written as numbers of a dictionary, which is half the size and counted in half the time: Parquet gives up a
# dictionary that is larger than its page, which holds the ids of 29,000 deployments by default.
_WRITTEN = {
    "compression": "zstd",
    "use_dictionary": ["deployment_id", "resource_kind"],
    "dictionary_pagesize_limit": 32 * 1024 * 1024,
}


class NotLoaded(Refused):
    """The folder has files of the month already, or is no folder's address."""


def write(batches: Iterable[pa.RecordBatch], month: BillingMonth, to: str) -> tuple[int, int]:
    """Write records, as RECORDS, to files of a folder like parquet:/data/usage; returns how many records and files.

    Each file appears whole or not at all. Raises NotLoaded if the folder has files of the month: added to them, the
    records would be there twice.
    """
    if not to.startswith("parquet:") or to == "parquet:":
        raise NotLoaded(f"{to!r} names no folder: write it like parquet:/data/usage")
    files, root = url_to_fs(to.removeprefix("parquet:"))
    files.makedirs(root, exist_ok=True)
    mine = f"usage-{month}-"
    if there := files.glob(f"{glob.escape(root)}/{mine}*.parquet"):
        raise NotLoaded(
            f"{to} has {number_of(len(there), 'files')} of {month} already: remove them, or name another folder"
        )
    rows = number = 0
    for groups in _files(_row_groups(batches)):
        number += 1
        name = f"{mine}{number:05}.parquet"
        with (
            files.open(f"{root}/.{name}", "wb") as out,
            pq.ParquetWriter(out, RECORDS, **_WRITTEN) as writer,
        ):
            for group in groups:
                writer.write_table(group, row_group_size=group.num_rows)
                rows += group.num_rows
        files.mv(f"{root}/.{name}", f"{root}/{name}")
    return rows, number


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches, joined until they have enough rows."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= _GROUP_ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _files(groups: Iterator[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """The row groups of one file after the other; each has to be read to its end before the next."""

    def one_file(first: pa.Table) -> Iterator[pa.Table]:
        rows = first.num_rows
        yield first
        while rows < _FILE_ROWS and (group := next(groups, None)) is not None:
            rows += group.num_rows
            yield group

    while (first := next(groups, None)) is not None:
        yield one_file(first)


def made_up(
    count: int, month: BillingMonth, meters: Sequence[tuple[str, str]], seed: int = 1
) -> Iterator[pa.RecordBatch]:
    """So many records of the month, of these deployments and kinds in turn, some hundred thousand at a time.

    They are spread over the month in the order of time, ingested five minutes later, of 0.000001 to 2 units each. The
    same seed makes the same records.
    """
    chance = np.random.default_rng(seed)
    deployments, kinds = (pa.array(column, pa.string()) for column in zip(*meters, strict=True))
    start = np.datetime64(month.start, "us").astype(np.int64)
    length = month.days * 86_400_000_000
    for first in range(0, count, _BATCH_ROWS):
        numbers = np.arange(first, min(first + _BATCH_ROWS, count), dtype=np.int64)
        recorded = start + numbers * (length // count)
        of_whom = pa.array(numbers % len(meters))
        millionths = pa.array(chance.integers(1, 2_000_001, len(numbers))).cast(pa.decimal128(19, 0))
        quantity = pc.multiply(millionths, pa.scalar(Decimal("0.000001")))
        yield pa.RecordBatch.from_arrays(
            [
                _ids(chance, len(numbers)),
                deployments.take(of_whom),
                kinds.take(of_whom),
                quantity.cast(RECORDS.field("quantity").type),
                pa.array(recorded, pa.int64()).cast(pa.timestamp("us", "UTC")),
                pa.array(recorded + 300_000_000, pa.int64()).cast(pa.timestamp("us", "UTC")),
            ],
            schema=RECORDS,
        )


_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_DIGITS = [place for place in range(36) if place not in (8, 13, 18, 23)]


def _ids(chance: np.random.Generator, count: int) -> pa.Array:
    """So many UUIDs by chance, as texts."""
    halves = chance.integers(0, 16, (count, 32), np.uint8)
    letters = np.full((count, 36), ord("-"), np.uint8)
    letters[:, _DIGITS] = _HEX[halves]
    offsets = np.arange(0, 36 * count + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(letters))
