"""Sharing whole numbers out in proportion, so that the parts sum to the whole: the method of largest remainders.

Belongs here: who gets how many. Does not: what is shared (pooling.py, discounts.py).
"""

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import WHOLE, Column, exact, look_up, numbers_within, with_columns

_TOTAL, _WEIGHT = pa.decimal256(24, 0), pa.decimal256(19, 0)


def share_out(totals: Column, weights: Column, groups: Column, places: Column) -> Column:
    """Each row's part of its group's total, in proportion to its weight, as whole decimals.

    Every row has its group (an integer), the group's total, its own weight (both whole, 0 or more) and its place. Each
    gets what it is due rounded down, and of what is left the largest remainders get one each, equal ones by place. A
    group without weights gets nothing. Raises pyarrow.ArrowInvalid beyond 24 digits of a total, or 19 of a weight.
    """
    total, weight = exact(totals, WHOLE).cast(_TOTAL), exact(weights, WHOLE).cast(_WEIGHT)
    rows = pa.table({"group": groups, "place": places, "weight": exact(weights, WHOLE), "total": total})
    sums = rows.group_by("group", use_threads=False).aggregate([("weight", "sum")])
    rows = look_up(rows, sums, (rows["group"], sums["group"]), "weight_sum")
    whole = pc.max_element_wise(rows["weight_sum"].cast(_TOTAL), pa.scalar(1, _TOTAL))
    due = pc.multiply(total, weight)
    down = pc.floor(pc.divide(due, whole)).cast(_TOTAL)
    remainder = pc.subtract(due, pc.multiply(down, whole))
    rows = with_columns(rows, down=down.cast(WHOLE), remainder=remainder.cast(pa.decimal256(43, 0)))
    given = rows.group_by("group", use_threads=False).aggregate([("down", "sum")])
    rows = look_up(rows, given, (rows["group"], given["group"]), "down_sum")
    order = pc.sort_indices(rows, [("group", "ascending"), ("remainder", "descending"), ("place", "ascending")])
    nth = numbers_within(rows["group"].take(order)).take(pc.sort_indices(order))
    left = pc.subtract(rows["total"], rows["down_sum"].cast(_TOTAL))  # fewer than the group has rows
    gets_one = pc.and_(pc.less_equal(nth.cast(_TOTAL), left), pc.greater(rows["weight_sum"], 0))
    return pc.add(rows["down"].cast(pa.decimal128(24, 0)), pc.if_else(gets_one, 1, 0)).cast(WHOLE)
