"""The provider's bill: what it is, that it adds up, and what a restated one bills differently.

DigitalOcean's invoice, in USD.
Belongs here: a bill that was read. Does not: reading one (bill_csv.py, bill_api.py, bill_items.py), fetching one
(digitalocean.py), keeping it (bills.py), whose the items are (claims.py).
"""

import hashlib
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import CENTS, COUNT, QUANTITY, TEXT, Column, dollars, to_arrow, to_pandas
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import InvalidInput

INSTANT = pa.timestamp("us", "UTC")

ITEMS = pa.schema(
    [
        ("line_no", COUNT),  # its place on the bill, from 1
        ("kind", TEXT),  # usage, credit or tax
        ("product", TEXT),
        ("category", TEXT),
        ("resource_id", TEXT),
        ("resource_uuid", TEXT),
        ("group_description", TEXT),
        ("description", TEXT),
        ("duration", QUANTITY),
        ("duration_unit", TEXT),
        ("started_at", INSTANT),
        ("ended_at", INSTANT),
        ("project_name", TEXT),
        ("amount_cents", CENTS),  # USD; credits are negative
    ]
)
"""One row per item of a bill, in its order."""

MOVED = pa.schema(
    [
        ("product", TEXT),
        ("resource", TEXT),  # its uuid, its id, or the item's description
        ("before_cents", CENTS),
        ("after_cents", CENTS),
        ("difference_cents", CENTS),
    ]
)
"""One row per product and resource that a restated bill bills differently, in cents USD, the largest first."""
_TOTAL_LIMIT = 10**15
"""Cents; at any rate of exchange it still fits 64 bits."""


class InvalidBill(InvalidInput):
    """The text cannot be read as a bill, or does not add up; the message says where."""


@dataclass(frozen=True)
class Bill:
    """A month's bill of the provider. Its items sum to its total."""

    month: BillingMonth
    invoice_uuid: str | None
    total_cents: int
    """USD."""
    total_from: str
    """Who states the total: bill, operator, or sum if nobody does."""
    items: pd.DataFrame
    """As ITEMS."""
    document: bytes
    """As received."""
    media_type: str
    source: str
    """The file's name, or the API's address."""
    items_sha256: str | None = None
    """The hash of a CSV's items with the dates that it gives them and no others; null from the API, which says which
    month it bills."""

    @property
    def sha256(self) -> str:
        """The hash of what is billed, whatever order the items came in."""
        return hash_of(to_arrow(self.items, ITEMS), str(self.month), str(self.total_cents))


def moved(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What a restated bill bills differently: MOVED, of two bills' ITEMS."""
    sums = []
    for items, name in ((before, "before_cents"), (after, "after_cents")):
        resource = items["resource_uuid"].fillna(items["resource_id"]).fillna(items["description"])
        keyed = items.assign(resource=resource)[["product", "resource", "amount_cents"]]
        sums.append(keyed.groupby(["product", "resource"], as_index=False).sum().rename(columns={"amount_cents": name}))
    both = sums[0].merge(sums[1], on=["product", "resource"], how="outer")
    both = both.fillna({"before_cents": 0, "after_cents": 0})
    both = both.assign(difference_cents=both["after_cents"] - both["before_cents"])
    both = both[both["difference_cents"] != 0]
    in_order = both.assign(size=both["difference_cents"].abs()).sort_values(
        ["size", "product", "resource"], ascending=[False, True, True], kind="stable"
    )
    return to_pandas(to_arrow(in_order, MOVED))


def hash_of(items: pa.Table, *heading: str) -> str:
    """SHA-256 of ITEMS, whatever their order, after the heading's lines."""
    # No text holds the separator, and none is empty: that is null.
    texts = [pc.fill_null(items[name].cast(TEXT), "") for name in ITEMS.names if name != "line_no"]
    rows = pc.binary_join_element_wise(*texts, "\0")
    in_order = rows.take(pc.array_sort_indices(rows)).to_pylist()
    return hashlib.sha256("\n".join([*heading, *in_order]).encode()).hexdigest()


def checked(bill: Bill) -> Bill:
    """The bill. Raises InvalidBill if its items do not sum to its total."""
    found = total_of(pa.array(bill.items["amount_cents"]))
    if abs(found) >= _TOTAL_LIMIT:
        raise InvalidBill(f"the bill of {bill.month} comes to {dollars(found)} USD, which is beyond any bill")
    if found != bill.total_cents:
        raise InvalidBill(
            f"the bill of {bill.month} does not add up: its items sum to {dollars(found)} USD, its"
            f" total is {dollars(bill.total_cents)}, a difference of {dollars(bill.total_cents - found)}"
        )
    return bill


def total_of(amounts: Column) -> int:
    """The sum of cents; 0 of none."""
    return int(pc.sum(amounts.cast(pa.decimal128(19, 0))).as_py() or 0)
