"""Overage: what usage costs beyond the allowance of its rate, in lines.

Belongs here: which rate is a meter's, the allowance of its month, its lines, and the most that they may cost. Does not:
how a quantity beyond the allowance is charged (models.py), and whose allowances count together (pooling.py).
"""

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import lines, models, pooling, proration
from arcadia_pipelines.billing.money import (
    CENTS,
    ONE,
    QUANTITY,
    TEXT,
    UNIT_PRICE,
    WHOLE,
    Column,
    exact,
    text,
    with_columns,
)


def overage_lines(meters: pa.Table, tiers: pa.Table) -> pa.Table:
    """The lines, with amounts, of meters beside their rates (rated()); tiers are those of all rates (models.TIERS)."""
    return _capped(lines.priced(_charged(_prorated(meters), with_columns(tiers, rate=_key(tiers)))))


def rated(used: pa.Table, rates: pa.Table) -> pa.Table:
    """Usage beside its plan's rate, the tenant's own if it has one; null where there is none."""
    keys, is_own = _key(rates), rates["tenant_id"].is_valid()
    place = pc.index_in(_key(used, ""), keys)
    if pc.any(is_own).as_py():
        place = pc.coalesce(pc.index_in(_key(used, used["tenant_id"]), keys), place)
    found = with_columns(rates, rate=keys, own_price=is_own)
    found = found.drop_columns(["tenant_id", "plan_id", "resource_kind"]).take(place)
    return with_columns(used, **{name: found[name] for name in found.column_names})


def _key(rows: pa.Table, tenant: Column | str | None = None) -> Column:
    """What names a rate: whose it is ('' is the list's), its plan and its kind."""
    whose = pc.fill_null(rows["tenant_id"], "") if tenant is None else tenant
    return text(whose, "\0", rows["plan_id"], "\0", rows["resource_kind"])  # no text of PostgreSQL's has a character 0


def _prorated(meters: pa.Table) -> pa.Table:
    """The usage with the allowance and the maximum of a part month, where the plan prorates."""
    if not pc.any(proration.is_part(meters)).as_py():
        return meters
    return with_columns(
        meters.drop_columns(["included", "maximum_cents"]),
        included=proration.scaled_quantity(meters["included"], meters),
        maximum_cents=exact(proration.scaled(meters["maximum_cents"], meters), CENTS),
    )


def _charged(meters: pa.Table, tiers: pa.Table) -> pa.Table:
    """Lines for what is used beyond the allowance, by the rate's charge model; usage within it makes no line."""
    meters = with_columns(meters, used=exact(meters["quantity"], QUANTITY))
    meters = with_columns(meters, beyond=pooling.beyond(meters))
    charged = models.charges(meters.filter(pc.greater(meters["beyond"], Decimal(0))), tiers)
    return lines.of(
        charged,
        "overage",
        resource_kind=charged["resource_kind"],
        description=text("Overage: ", charged["resource_kind"]),
        qty=charged["qty"],
        unit=charged["unit"],
        unit_price_cents=charged["unit_price_cents"],
        meta=_meta(charged),
        place_in_rate=charged["place_in_rate"],
        maximum_cents=charged["maximum_cents"],
    )


def _meta(charged: pa.Table) -> Column:
    """What was used and included, and since when the price; of another model than per unit, by which rule."""
    by_rule = pc.not_equal(charged["charge_model"], "per_unit")
    return lines.price_meta(
        charged,
        used=charged["used"].cast(TEXT),
        included=charged["included"].cast(TEXT),
        effective_from=charged["effective_from"],
        model=lines.only(by_rule, charged["charge_model"]),
        pooled=pooling.covered(charged),
        tier=charged["tier"],
        package_size=models.plain(charged["package_size"]),
    )


def _capped(priced: pa.Table) -> pa.Table:
    """The overage lines; those of a subscription and kind that sum to more than its maximum are one line instead."""
    limited = priced.filter(priced["maximum_cents"].is_valid())
    if not len(limited):
        return priced
    rate, first = ["place", "resource_kind"], "place_in_rate"
    sums = limited.group_by([*rate, "maximum_cents"], use_threads=False).aggregate(
        [("amount_cents", "sum"), (first, "min")]
    )
    beyond = sums.filter(pc.greater(sums["amount_cents_sum"], exact(sums["maximum_cents"], WHOLE)))
    beyond = beyond.select([*rate, f"{first}_min"]).rename_columns([*rate, first])
    capped = limited.join(beyond, [*rate, first], join_type="inner", use_threads=False)
    replaced = ("qty", "unit", "unit_price_cents", "amount_cents")
    cap = with_columns(
        capped.drop_columns(replaced),
        qty=pa.repeat(ONE, len(capped)),
        unit=pa.repeat("cap", len(capped)),
        unit_price_cents=exact(capped["maximum_cents"], UNIT_PRICE),
        amount_cents=exact(capped["maximum_cents"], priced.schema.field("amount_cents").type),
    )
    rest = priced.join(beyond, rate, join_type="left anti", use_threads=False)
    return pa.concat_tables([rest, cap.select(rest.column_names)])
