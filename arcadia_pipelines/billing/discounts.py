"""Discounts: what a tenant is let off of what its deployments are charged.

Belongs here: which charges a discount applies to, what it takes off each, and the lines that say so. Does not: which
discounts are in effect in a month, and which cannot be applied (storage/terms.py).
"""

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import models
from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    FLAG,
    ONE,
    QUANTITY,
    TEXT,
    Column,
    exact,
    look_up,
    numbers_within,
    round_half_up,
    text,
    with_columns,
)
from arcadia_pipelines.billing.shares import share_out

PERCENT = pa.decimal128(7, 4)
DISCOUNTS = pa.schema(
    [
        ("id", TEXT),
        ("tenant_id", TEXT),
        ("deployment_id", TEXT),  # the only deployment that it is for; null: all
        ("line_kind", TEXT),  # the only kind of line that it is for: plan_base, addon or overage; null: all
        ("resource_kind", TEXT),  # the only metered kind that it is for; null: all, and what is not metered
        ("percent", PERCENT),  # 0 to 100; null: it is an amount
        ("amount_cents", CENTS),  # at most so much a month; null: it is a percentage
        ("starts_on", TEXT),  # the first month that it is for, by its first day
        ("description", TEXT),
        ("wrong", TEXT),  # why it cannot be applied; null: nothing is wrong
    ]
)
"""One row per discount in effect in a month."""

LINES = pa.schema(
    [
        ("tenant_id", TEXT),
        ("deployment_id", TEXT),
        ("deployment_name", TEXT),
        ("taxable", FLAG),
        ("kind", TEXT),
        ("resource_kind", TEXT),
        ("description", TEXT),
        ("qty", QUANTITY),
        ("price_per", QUANTITY),
        ("amount_cents", CENTS),  # the unit price too
        ("meta", TEXT),
    ]
)
"""One row per line of an invoice that is not quoted for a subscription; among those of its kind in order."""

_OF = ["tenant_id", "deployment_id", "deployment_name", "kind", "resource_kind", "taxable"]
"""What names a sum of charges, beside whether it is taxed."""
_PER_CENT = pa.scalar(Decimal("0.01"))


def discount_lines(charged: pa.Table, discounts: pa.Table) -> pa.Table:
    """The discount lines of charges: one for each discount (DISCOUNTS) and sum of charges that it takes something off.

    `charged` has the plan_base, addon and overage lines of whole tenants, as quote.QUOTE_LINES with `taxable`, in
    their order on the invoice. The discounts of a tenant count in turn, each on what those before have left: the nth
    of every tenant at once.
    """
    left, made = _sums(charged), [LINES.empty_table()]
    discounts = _in_turn(discounts.filter(pc.is_in(discounts["tenant_id"], pc.unique(charged["tenant_id"]))))
    for turn in range(1, (pc.max(discounts["turn"]).as_py() or 0) + 1):
        these = discounts.filter(pc.equal(discounts["turn"], turn))
        left = left.filter(pc.is_in(left["tenant_id"], these["tenant_id"]))  # who has no nth has no later one either
        off = _off(left, these)
        made.append(_lines(with_columns(left, off=off).filter(pc.greater(off, 0)), these))
        left = with_columns(left.drop_columns("left"), left=pc.subtract(left["left"], off))
    return pa.concat_tables(made)


def _sums(charged: pa.Table) -> pa.Table:
    """What is charged per deployment, kind and resource kind, as `left`, in line order."""
    numbered = with_columns(charged.select([*_OF, "amount_cents"]), place=pa.array(range(len(charged)), COUNT))
    sums = numbered.group_by(_OF, use_threads=False).aggregate([("amount_cents", "sum"), ("place", "min")])
    return sums.rename_columns([*_OF, "left", "place"]).sort_by("place")


def _in_turn(discounts: pa.Table) -> pa.Table:
    """The discounts with their `turn` among their tenant's, from 1: percentages, then amounts, each by start and id."""
    by = with_columns(discounts, is_amount=discounts["percent"].is_null())
    order = ("tenant_id", "is_amount", "starts_on", "id")
    ordered = discounts.take(pc.sort_indices(by, [(name, "ascending") for name in order]))
    return with_columns(ordered, turn=numbers_within(pc.rank(ordered["tenant_id"], tiebreaker="min")))


def _off(left: pa.Table, discounts: pa.Table) -> Column:
    """The cents that one discount of each tenant takes off each sum."""
    names = ("deployment_id", "line_kind", "resource_kind", "percent", "amount_cents")
    beside = look_up(left.select(["tenant_id"]), discounts, (left["tenant_id"], discounts["tenant_id"]), *names)
    applies = pa.repeat(True, len(left))
    for name, of in (("deployment_id", "deployment_id"), ("line_kind", "kind"), ("resource_kind", "resource_kind")):
        applies = pc.and_(
            applies, pc.or_(beside[name].is_null(), pc.fill_null(pc.equal(beside[name], left[of]), False))
        )
    cents = pc.if_else(applies, left["left"], 0)
    shares = _shares(left["tenant_id"], cents, pc.fill_null(beside["amount_cents"], 0))
    return pc.coalesce(_percentages(cents, beside["percent"]), shares)


def _percentages(cents: Column, percent: Column) -> Column:
    """So many per cent of each, rounded once; null for an amount."""
    hundredths = pc.multiply(exact(cents, pa.decimal128(19, 0)), percent)
    return exact(round_half_up(pc.multiply(hundredths, _PER_CENT)), CENTS)


def _shares(tenants: Column, cents: Column, amounts: Column) -> Column:
    """Each tenant's amount, or all of its `cents` if that is less, shared over them in proportion, in line order."""
    rows = pa.table({"tenant": pc.rank(tenants, tiebreaker="dense"), "cents": cents})
    sums = rows.group_by("tenant", use_threads=False).aggregate([("cents", "sum")])
    rows = look_up(rows, sums, (rows["tenant"], sums["tenant"]), "cents_sum")
    places = pa.array(range(len(rows)), COUNT)
    return exact(share_out(pc.min_element_wise(amounts, rows["cents_sum"]), cents, rows["tenant"], places), CENTS)


def _lines(touched: pa.Table, discounts: pa.Table) -> pa.Table:
    """A line for each sum that a discount takes something `off`."""
    names = ("id", "percent", "amount_cents", "description")
    of = look_up(touched.select(["kind"]), discounts, (touched["tenant_id"], discounts["tenant_id"]), *names)
    columns = {
        **{name: touched[name] for name in _OF},
        "kind": pa.repeat("discount", len(touched)),
        "description": text("Discount: ", of["description"]),
        "qty": pa.repeat(ONE, len(touched)),
        "price_per": pa.repeat(ONE, len(touched)),
        "amount_cents": pc.negate(touched["off"]),
        "meta": _meta(of),
    }
    return pa.table({name: columns[name] for name in LINES.names}).cast(LINES)


def _meta(of: pa.Table) -> Column:
    """Which discount of how much it is, and of what kind of charge, as JSON."""
    percent = text('"percent": "', models.plain(of["percent"]), '", ')
    amount = text(', "amount_cents": ', of["amount_cents"].cast(TEXT))
    which = text('"discount": "', of["id"], '"')
    parts = [text('{"of": "', of["kind"], '", '), pc.fill_null(percent, ""), which, pc.fill_null(amount, ""), "}"]
    return text(*parts)
