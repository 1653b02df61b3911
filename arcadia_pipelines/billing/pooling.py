"""Pooled allowances: what a tenant uses beyond the allowances of all its subscriptions together, and who pays for it.

Belongs here: the pool of a tenant and kind, and its parts. Does not: what a part costs (quote.py, models.py), and part
months, whose allowances come scaled (proration.py).
"""

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import (
    COUNT,
    QUANTITY,
    QUANTITY_SUM,
    TEXT,
    Column,
    exact,
    look_up,
    millionths,
    of_millionths,
    text,
    with_columns,
)
from arcadia_pipelines.billing.shares import share_out

_NOTHING = pa.scalar(Decimal(0), QUANTITY)
_SUM = pa.decimal128(30, 6)


def unused(subscribed: pa.Table, used: pa.Table, rates: pa.Table) -> pa.Table:
    """Rows of no usage, for the subscriptions that used nothing of a pooled kind: their allowances count in the pool.

    `used` has the rows that there are, beside their subscriptions; only a tenant that used the kind has a pool.
    """
    pooled = rates.filter(rates["pooled"]).group_by(["plan_id", "resource_kind"], use_threads=False).aggregate([])
    if not len(pooled):
        return used.slice(0, 0)
    users = used.filter(used["tenant_id"].is_valid()).group_by(["tenant_id", "resource_kind"], use_threads=False)
    pairs = subscribed.join(pooled, "plan_id", join_type="inner", use_threads=False)
    pairs = pairs.join(users.aggregate([]), ["tenant_id", "resource_kind"], join_type="left semi", use_threads=False)
    key = ["subscription_id", "resource_kind"]
    pairs = pairs.join(used.select(key), key, join_type="left anti", use_threads=False)
    zeros = {"quantity": QUANTITY_SUM, "unusable_records": COUNT, "duplicate_records": COUNT}
    rows = with_columns(pairs, **{name: exact(pa.repeat(0, len(pairs)), to) for name, to in zeros.items()})
    return rows.select(used.column_names)


def beyond(rated: pa.Table) -> Column:
    """What each row is charged for: beyond its own allowance, or its part of what its pool used beyond all of them.

    `rated` has used, included, pooled, tenant_id, resource_kind, and place (the subscription's by id). The part is in
    proportion to what each used beyond its own allowance, to 6 decimals, by largest remainders, equal ones by place.
    """
    own = pc.max_element_wise(exact(pc.subtract(rated["used"], rated["included"]), QUANTITY), _NOTHING)
    is_pooled = pc.fill_null(rated["pooled"], False)
    if not pc.any(is_pooled).as_py():
        return own
    names = text(rated["tenant_id"], "\0", rated["resource_kind"]).combine_chunks().dictionary_encode()
    pool, counted = pc.cast(names.indices, COUNT), {"used": rated["used"], "included": rated["included"], "own": own}
    rows = pa.table({"pool": pool} | {name: pc.if_else(is_pooled, of, _NOTHING) for name, of in counted.items()})
    pools = rows.group_by("pool", use_threads=False).aggregate([("used", "sum"), ("included", "sum")])
    excess = pc.subtract(exact(pools["used_sum"], _SUM), exact(pools["included_sum"], _SUM))
    pools = with_columns(pools, excess=pc.max_element_wise(exact(excess, _SUM), pa.scalar(Decimal(0), _SUM)))
    total = look_up(rows, pools, (rows["pool"], pools["pool"]), "excess")["excess"]
    parts = share_out(millionths(total), millionths(rows["own"]), pool, rated["place"])
    return pc.if_else(is_pooled, of_millionths(parts), own)


def covered(charged: pa.Table) -> Column:
    """What its pool covered of a row's usage beyond its own allowance, as a text; null where nothing is pooled."""
    if not pc.any(charged["pooled"]).as_py():
        return pa.nulls(len(charged), TEXT)
    covers = exact(pc.subtract(pc.subtract(charged["used"], charged["included"]), charged["beyond"]), QUANTITY)
    return pc.if_else(charged["pooled"], covers.cast(TEXT), pa.scalar(None, TEXT))
