"""Charge models: what usage beyond the allowance costs, in lines.

Belongs here: one function per model, which takes rows of usage and says which quantities are charged at which prices.
Does not: allowances, and the amounts (quote.py). To add a model, write its function and its row in MODELS.
"""

from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    ONE,
    QUANTITY,
    TEXT,
    UNIT_PRICE,
    Column,
    exact,
    text,
    with_columns,
)

TIERS = pa.schema(
    [
        ("tenant_id", TEXT),  # whose own rate it is; null: the list's
        ("plan_id", TEXT),
        ("resource_kind", TEXT),
        ("tier", COUNT),  # from 1
        ("lower", QUANTITY),  # what it begins after: where the tier before ends, or 0
        ("up_to", QUANTITY),  # what it ends with; null: no bound
        ("tier_price_cents", UNIT_PRICE),  # of a unit in it
        ("flat_cents", CENTS),  # charged once when it is entered
    ]
)
"""One row per tier of a graduated or volume rate in effect."""

_OF_TIER = TIERS.names[3:]
_MILLIONTHS = Decimal(1_000_000)
_ZERO = Decimal(0)


def charges(over: pa.Table, tiers: pa.Table) -> pa.Table:
    """What is charged for usage beyond the allowance, by the charge model of its rate.

    `over` has one row per meter, with its rate's columns (quote.RATES) and `beyond`, the usage beyond the allowance;
    the column `rate` names the rate, here and in `tiers` (TIERS). Returned is one row per charge: its meter's columns
    with qty, unit, unit_price_cents, tier (its bounds in words; null: the model has none) and place_in_rate (order).
    """
    used = pc.unique(over["charge_model"]).to_pylist() or ["per_unit"]
    if len(used) == 1:
        return MODELS[used[0]](over, tiers)
    return pa.concat_tables([MODELS[name](over.filter(pc.equal(over["charge_model"], name)), tiers) for name in used])


def _per_unit(over: pa.Table, tiers: pa.Table) -> pa.Table:
    """All of it at the unit price."""
    return _charge(over, qty=over["beyond"], unit=over["unit"], price=over["unit_price_cents"])


def _package(over: pa.Table, tiers: pa.Table) -> pa.Table:
    """Whole packages, one for each that is begun: 121 units in packages of 10 are 13."""
    used, size = (pc.multiply(over[name], _MILLIONTHS).cast(pa.int64()) for name in ("beyond", "package_size"))
    packages = pc.add(pc.divide(pc.subtract(used, 1), size), 1)
    return _charge(
        over,
        qty=exact(packages, QUANTITY),
        unit=text("package of ", plain(over["package_size"]), " ", over["unit"]),
        price=over["unit_price_cents"],
    )


def _graduated(over: pa.Table, tiers: pa.Table) -> pa.Table:
    """Each tier's part at the tier's price: of 20 units up to 10 at 5 and then at 3, 10 at 5 and 10 at 3."""
    entered = _entered(over, tiers)
    ends = pc.min_element_wise(entered["beyond"], entered["up_to"])  # nulls are passed over
    return _by_tier(entered, pc.subtract(ends, entered["lower"]))


def _volume(over: pa.Table, tiers: pa.Table) -> pa.Table:
    """All of it at the price of the tier that it falls into."""
    entered = _entered(over, tiers)
    reached = entered.filter(pc.fill_null(pc.less_equal(entered["beyond"], entered["up_to"]), True))
    return _by_tier(reached, reached["beyond"])


MODELS: dict[str, Callable[[pa.Table, pa.Table], pa.Table]] = {
    "per_unit": _per_unit,
    "package": _package,
    "graduated": _graduated,
    "volume": _volume,
}
"""The charge models by name. Each takes rows of usage with their rates, and the tiers of all rates."""


def _entered(over: pa.Table, tiers: pa.Table) -> pa.Table:
    """Each meter once for every tier of its rate that its usage enters, with the tier's columns."""
    of_rates = tiers.select(["rate", *_OF_TIER])
    pairs = over.join(of_rates, "rate", join_type="inner", use_threads=False)
    return pairs.filter(pc.greater(pairs["beyond"], pairs["lower"]))


def _by_tier(entered: pa.Table, qty: Column) -> pa.Table:
    """A charge for the units, unless they are free and the tier has a flat fee; and one for the flat fee, if any."""
    has_fee = pc.greater(entered["flat_cents"], 0)
    is_charged = pc.or_(pc.greater(entered["tier_price_cents"], _ZERO), pc.invert(has_fee))
    units, fees = with_columns(entered, part=qty).filter(is_charged), entered.filter(has_fee)
    return pa.concat_tables(
        [
            _charge(
                units, qty=units["part"], unit=units["unit"], price=units["tier_price_cents"], place=_place(units, 0)
            ),
            _charge(
                fees,
                qty=pa.repeat(ONE, len(fees)),
                unit=pa.repeat("flat fee", len(fees)),
                price=exact(fees["flat_cents"], UNIT_PRICE),
                place=_place(fees, 1),
            ),
        ]
    )


def _place(entered: pa.Table, of_tier: int) -> Column:
    return pc.add(pc.multiply(entered["tier"], 2), of_tier)


def _charge(rows: pa.Table, qty: Column, unit: Column, price: Column, place: Column | None = None) -> pa.Table:
    """A charge for each row, with the bounds of its tier in words."""
    nothing = pa.nulls(len(rows), TEXT)
    columns = {
        "qty": exact(qty, QUANTITY),
        "unit": unit,
        "unit_price_cents": price,
        "place_in_rate": pa.repeat(pa.scalar(0, COUNT), len(rows)) if place is None else place,
        "tier": nothing if place is None else _bounds(rows),
    }
    kept = [name for name in rows.column_names if name not in (*_OF_TIER, "part", *columns)]
    return with_columns(rows.select(kept), **columns)


def _bounds(entered: pa.Table) -> Column:
    """The tier in words: 10 to 50, or over 50."""
    lower, up_to = plain(entered["lower"]), plain(entered["up_to"])
    return pc.coalesce(text(lower, " to ", up_to), text("over ", lower))


def plain(quantities: Column) -> Column:
    """Quantities without trailing zeros, as texts."""
    return pc.utf8_rtrim(pc.utf8_rtrim(quantities.cast(TEXT), "0"), ".")
