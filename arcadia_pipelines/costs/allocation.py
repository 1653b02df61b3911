"""Allocates the provider's bill to deployments and converts it from USD to AUD, both to the cent.

Belongs here: splitting cents by weights, and converting them. Does not: who had a resource, with which weight
(claims.py), reading the bill (bill_csv.py, bill_api.py), reading and entering rates of exchange (exchange.py,
fx_rates.py).
"""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import CENTS, COUNT, TEXT, WHOLE, round_half_up, to_arrow, to_pandas

CLAIMS = pa.schema(
    [
        ("line_no", COUNT),  # of the item
        ("amount_cents", CENTS),  # of the item, USD
        ("deployment_id", TEXT),  # null: unallocated
        ("tenant_id", TEXT),  # who pays for the deployment; may be null
        ("allocated_by", TEXT),  # resource, project or nobody
        ("split_by", TEXT),  # time, share, a metered kind; null where the item is not split
        ("weight", WHOLE),  # above 0
    ]
)
"""One row per item and deployment that has a part of it, or none if unallocated; each item has at least one row."""

ALLOCATIONS = pa.schema(
    [
        ("line_no", COUNT),
        ("part", COUNT),  # from 1 in the item
        ("deployment_id", TEXT),
        ("tenant_id", TEXT),
        ("allocated_by", TEXT),
        ("split_by", TEXT),
        ("weight", WHOLE),
        ("of_weight", WHOLE),
        ("usd_cents", CENTS),
        ("aud_cents", CENTS),  # null without a rate
    ]
)
"""One row per claim, with its amount, ordered by item and deployment; an unallocated part is the item's last."""

_Integers = npt.NDArray[np.object_]
"""Python's integers: amount x weight has more than 64 bits."""


@dataclass(frozen=True)
class Allocated:
    """An allocated bill: its rows, and its total in AUD if there is a rate."""

    rows: pd.DataFrame
    """As ALLOCATIONS."""
    usd_cents: int
    aud_cents: int | None
    """The bill at the rate, rounded once, half up; the rows sum to it."""
    rounding_cents: int | None
    """aud_cents less the sum of the rows rounded one by one: the cents that the largest remainders moved."""


def allocate(claims: pd.DataFrame, usd_per_aud: Decimal | None) -> Allocated:
    """Split each item by its claims' weights (CLAIMS), and convert the whole at the rate: US dollars for one AUD.

    Both use largest remainders: parts are rounded down, and the cents that are left go to the largest remainders, one
    each, in the order of the rows where they are equal. So the parts of an item sum to it, and all rows to the bill, in
    both currencies.
    """
    rows = to_arrow(claims, CLAIMS).sort_by(
        [("line_no", "ascending"), ("allocated_by", "descending"), ("deployment_id", "ascending")]
    )
    item = rows["line_no"].to_numpy()
    first = np.flatnonzero(np.r_[True, item[1:] != item[:-1]]) if len(item) else np.array([], dtype=np.intp)
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(item)]))
    weight, amount = _integers(rows["weight"]), _integers(rows["amount_cents"])
    of_weight = np.add.reduceat(weight, first)[group] if len(first) else weight
    usd = largest_remainders(amount * weight, of_weight, group)
    aud, total, rounding = None, None, None
    if usd_per_aud is not None:
        # US cents by dollars for an AUD: in millionths, so that they are integers.
        cents, rate = usd * 10**6, int(usd_per_aud.scaleb(6))
        everything = np.zeros(len(usd), dtype=np.intp)
        [total] = _rounded(np.array([sum(cents)], dtype=object), rate)
        aud = largest_remainders(cents, np.full(len(usd), rate, dtype=object), everything, total)
        rounding = total - sum(_rounded(cents, rate))
    table = {
        **{name: rows[name] for name in CLAIMS.names},
        "part": pa.array(np.arange(len(item)) - first[group] + 1, COUNT),
        "of_weight": pa.array([Decimal(one) for one in of_weight], WHOLE),
        "usd_cents": pa.array(usd, CENTS),
        "aud_cents": pa.nulls(len(usd), CENTS) if aud is None else pa.array(aud, CENTS),
    }
    found = to_pandas(pa.table([table[name] for name in ALLOCATIONS.names], schema=ALLOCATIONS))
    return Allocated(found, int(sum(usd)), total, rounding)


def largest_remainders(
    numerators: _Integers, denominators: _Integers, group: npt.NDArray[np.intp], total: int | None = None
) -> _Integers:
    """Whole numbers near numerator / denominator that sum, within each group, to the sum of the fractions.

    That sum must be whole, or there is one group, and `total` is the sum rounded up or down. The denominators
    of a group are equal and above 0; groups are numbered from 0 in the order of the rows.
    """
    if not len(numerators):
        return numerators
    whole, rest = numerators // denominators, numerators % denominators
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    if total is None:
        left = np.add.reduceat(rest, first) // denominators[first]
    else:
        left = np.array([total - sum(whole)], dtype=object)
    # The largest remainder first; equal ones stay in order, as the sort is stable.
    ranked = np.lexsort((np.argsort(np.argsort(-rest, kind="stable"), kind="stable"), group))
    place = np.empty(len(rest), dtype=np.intp)
    place[ranked] = np.arange(len(rest)) - first[group]
    return np.asarray(whole + (place < left[group]).astype(object))


def _rounded(numerators: _Integers, denominator: int) -> list[int]:
    """The fractions, each rounded half up: first cut off after a tenth, which leaves them on their side of a half."""
    tenths = np.abs(numerators) * 10 // denominator * np.where(numerators < 0, -1, 1)
    exact = pc.multiply(_decimals(tenths), pa.scalar(Decimal("0.1"), pa.decimal128(2, 1)))
    return [int(one) for one in round_half_up(exact).to_pylist()]


def _decimals(integers: _Integers) -> pa.Array:
    return pa.array(map(Decimal, integers), pa.decimal128(24, 0), size=len(integers))


def _integers(column: pa.ChunkedArray) -> _Integers:
    return np.array([int(one) for one in column.to_pylist()], dtype=object)
