"""Commitments: the least that a tenant pays a month, for one deployment or for all that it has.

Belongs here: the line for what is missing. Does not: which commitments are in effect in a month, and which cannot be
applied (storage/terms.py).
"""

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.discounts import LINES
from arcadia_pipelines.billing.money import (
    CENTS,
    DAYS,
    FLAG,
    ONE,
    QUANTITY,
    TEXT,
    Column,
    divided,
    dollars,
    exact,
    look_up,
    round_half_up,
    text,
    with_columns,
)

COMMITMENTS = pa.schema(
    [
        ("id", TEXT),
        ("tenant_id", TEXT),
        ("deployment_id", TEXT),  # null: the tenant as a whole
        ("minimum_cents", CENTS),
        ("overlapping", FLAG),  # there is another one of the same tenant and deployment, or tenant as a whole
        ("wrong", TEXT),  # why it cannot be applied; null: nothing is wrong
    ]
)
"""One row per commitment in effect in a month."""

_OF_DEPLOYMENT = ["tenant_id", "deployment_id", "deployment_name", "taxable"]
_OF_TENANT = ["tenant_id", "taxable"]


def commitment_lines(charged: pa.Table, commitments: pa.Table) -> pa.Table:
    """One line (discounts.LINES) for each commitment (COMMITMENTS) of more than what is charged: the difference.

    `charged` has the plan_base, addon, overage and discount lines of whole tenants, with `taxable`. The commitment of a
    deployment is scaled by the days that its subscriptions bill; the one of a tenant as a whole is not, and counts what
    those of its deployments have added.
    """
    is_tenants = commitments["deployment_id"].is_null()
    of_deployments = _missing(_deployments(charged), commitments.filter(pc.invert(is_tenants)))
    amounts = [*_OF_TENANT, "amount_cents"]
    everything = pa.concat_tables([charged.select(amounts), of_deployments.select(amounts)])
    return pa.concat_tables([of_deployments, _missing(_tenants(everything), commitments.filter(is_tenants))])


def _deployments(charged: pa.Table) -> pa.Table:
    """What each deployment is charged, and the `days` of the `month` that it is billed for; null: a whole one."""
    is_base = pc.equal(charged["kind"], "plan_base")
    columns = {
        "amount_cents": charged["amount_cents"],
        "days": pc.if_else(is_base, charged["qty"], 0),
        "month": pc.if_else(is_base, charged["price_per"], pa.scalar(None, QUANTITY)),
        "is_whole": pc.and_(is_base, pc.fill_null(pc.equal(charged["unit"], "month"), False)),
    }
    groups = with_columns(charged.select(_OF_DEPLOYMENT), **columns).group_by(_OF_DEPLOYMENT, use_threads=False)
    sums = groups.aggregate([("amount_cents", "sum"), ("days", "sum"), ("month", "max"), ("is_whole", "any")])
    is_part = pc.and_not(pc.less(sums["days_sum"], sums["month_max"]), sums["is_whole_any"])
    days = pc.if_else(is_part, sums["days_sum"], pa.scalar(None, sums["days_sum"].type))
    return with_columns(
        sums.select(_OF_DEPLOYMENT),
        charges=sums["amount_cents_sum"],
        days=exact(days, DAYS),
        month=exact(sums["month_max"], DAYS),
    )


def _tenants(charged: pa.Table) -> pa.Table:
    """As _deployments(), of each tenant."""
    sums = charged.group_by(_OF_TENANT, use_threads=False).aggregate([("amount_cents", "sum")])
    nothing = {"deployment_id": TEXT, "deployment_name": TEXT, "days": DAYS, "month": DAYS}
    return with_columns(
        sums.select(_OF_TENANT),
        charges=sums["amount_cents_sum"],
        **{name: pa.nulls(len(sums), of) for name, of in nothing.items()},
    )


def _missing(charged: pa.Table, commitments: pa.Table) -> pa.Table:
    """The lines for the commitments of whom something is charged, and less than they say."""
    names = ("deployment_name", "taxable", "charges", "days", "month")
    rows = look_up(commitments, charged, (_key(commitments), _key(charged)), *names)
    rows = rows.filter(rows["charges"].is_valid())
    missing = pc.subtract(_scaled(rows), rows["charges"])
    rows = with_columns(rows, missing=missing).filter(pc.greater(missing, 0))
    columns = {
        **{name: rows[name] for name in _OF_DEPLOYMENT},
        "kind": pa.repeat("commitment", len(rows)),
        "resource_kind": pa.nulls(len(rows), TEXT),
        "description": _description(rows["minimum_cents"]),
        "qty": pa.repeat(ONE, len(rows)),
        "price_per": pa.repeat(ONE, len(rows)),
        "amount_cents": rows["missing"],
        "meta": _meta(rows),
    }
    return pa.table({name: columns[name] for name in LINES.names}).cast(LINES)


def _key(rows: pa.Table) -> Column:
    return text(rows["tenant_id"], "\0", pc.fill_null(rows["deployment_id"], ""))


def _scaled(rows: pa.Table) -> Column:
    """The minimum x days / days of the month, half up to the cent; the whole of it for a whole month."""
    times = pc.multiply(exact(rows["minimum_cents"], pa.decimal128(19, 0)), rows["days"])
    part = exact(round_half_up(divided(times, rows["month"])), CENTS)
    return pc.coalesce(part, rows["minimum_cents"])


def _description(minimum: Column) -> Column:
    known = minimum.combine_chunks().dictionary_encode()
    words = [f"Commitment: {dollars(cents)} a month" for cents in known.dictionary.to_pylist()]
    return pa.array(words, TEXT).take(known.indices)


def _meta(rows: pa.Table) -> Column:
    """Which commitment it is, of how much, for which part of the month, and what is charged of it, as JSON."""
    days = text('"days": "', rows["days"].cast(TEXT), " of ", rows["month"].cast(TEXT), '", ')
    which = text('"commitment": "', rows["id"], '", "charges_cents": ', rows["charges"].cast(TEXT))
    return text("{", pc.fill_null(days, ""), which, ', "minimum_cents": ', rows["minimum_cents"].cast(TEXT), "}")
