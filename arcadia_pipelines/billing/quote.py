"""The quote engine: subscriptions, addons, rates and usage in; priced lines out. One row or a million, the same code.

The provisioning-time projection and the month end both call quote(), so a quoted and an invoiced price cannot differ.
Belongs here: what a deployment costs. Does not: usage beyond allowances (overage.py), what makes a price impossible to
say (faults.py), GST and invoices (gst.py, invoice.py), which price is in effect (storage/catalogue.py reads it).
"""

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import faults, lines, models, overage, pooling, proration
from arcadia_pipelines.billing.commitments import COMMITMENTS
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.faults import FAULTS
from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    FLAG,
    QUANTITY,
    QUANTITY_SUM,
    TEXT,
    UNIT_PRICE,
    Column,
    exact,
    look_up,
    numbers_within,
    text,
    to_arrow,
    to_pandas,
    with_columns,
)

SUBSCRIPTIONS = pa.schema(
    [
        ("subscription_id", TEXT),
        ("tenant_id", TEXT),
        ("tenant_exists", FLAG),
        ("deployment_id", TEXT),
        ("deployment_exists", FLAG),
        ("deployment_name", TEXT),
        ("overlapping", FLAG),  # another subscription of the deployment was active at the same instant of the month
        ("incomplete", FLAG),  # it has no id, status, start, deployment or plan
        ("twice", TEXT),  # what is there more than once, of what has to be there once; null: nothing
        ("timeless", TEXT),  # usage records of the deployment that came in the month and have no time; null: none
        ("plan_id", TEXT),
        ("plan", TEXT),
        ("base_price_cents", CENTS),  # null: no price in effect
        ("effective_from", TEXT),
        ("own_price", FLAG),  # it is the tenant's own, not the list's
        ("daily", FLAG),  # whether its plan prorates by days; null: that cannot be told
        ("first_day", COUNT),  # the days of the month that belong to it, from 1: those on which it was active, and no
        ("last_day", COUNT),  # later subscription of the deployment; none if the last is before the first
        ("days_in_month", COUNT),
    ]
)
"""One row per subscription that the month bills, with the plan's base price in effect."""

ADDONS = pa.schema(
    [
        ("subscription_addon_id", TEXT),
        ("subscription_id", TEXT),
        ("incomplete", FLAG),  # it has no id, start, addon or quantity
        ("twice", TEXT),  # as of SUBSCRIPTIONS
        ("addon", TEXT),
        ("quantity", COUNT),  # null: it is no whole number below 1e12
        ("price_cents", CENTS),  # null: no price in effect
        ("effective_from", TEXT),
        ("own_price", FLAG),  # as of SUBSCRIPTIONS
        ("first_day", COUNT),  # the days of the month on which it was active, from 1
        ("last_day", COUNT),
    ]
)
"""One row per addon of a subscription that the month bills, with its price in effect."""

RATES = pa.schema(
    [
        ("tenant_id", TEXT),  # whose own rate it is; null: the list's
        ("plan_id", TEXT),
        ("resource_kind", TEXT),
        ("twice", FLAG),  # there is another one of the same plan, kind and day
        ("included", QUANTITY),
        ("unit", TEXT),
        ("unit_price_cents", UNIT_PRICE),
        ("effective_from", TEXT),
        ("charge_model", TEXT),  # one of models.MODELS
        ("package_size", QUANTITY),  # of a package; else null
        ("maximum_cents", CENTS),  # the most that a subscription pays; null: no maximum
        ("pooled", FLAG),  # whether the allowances of the tenant's subscriptions with such a rate count together
        ("wrong", TEXT),  # why nothing can be charged by it; null: nothing is wrong
    ]
)
"""One row per plan and resource kind, and for each tenant with its own: the rate in effect, and the allowance."""

USAGE = pa.schema(
    [
        ("deployment_id", TEXT),
        ("subscription_id", TEXT),  # null: none was active
        ("resource_kind", TEXT),
        ("quantity", QUANTITY_SUM),
        ("unusable_records", COUNT),
        ("duplicate_records", COUNT),
    ]
)
"""Usage of the month; rows of one deployment, subscription and kind are summed."""

CONTESTED = pa.schema(
    [
        ("tenant_id", TEXT),  # one of the two
        ("billed_to", TEXT),
        ("payer", TEXT),  # who would be billed now
        ("subscription_id", TEXT),
        ("subscription_now", TEXT),  # the same, or the one in its place
        ("deployment_id", TEXT),
        ("deployment_name", TEXT),
        ("invoice_number", TEXT),
        ("is_paid", FLAG),
    ]
)
"""Two rows per subscription whose month an owed invoice bills to one tenant and another would be billed for."""

QUOTE_LINES = pa.schema(
    [
        ("subscription_id", TEXT),
        ("deployment_id", TEXT),
        ("tenant_id", TEXT),
        ("line_no", COUNT),
        ("kind", TEXT),
        ("resource_kind", TEXT),
        ("description", TEXT),
        ("qty", QUANTITY),
        ("unit", TEXT),
        ("unit_price_cents", UNIT_PRICE),
        ("price_per", QUANTITY),  # how many units that is for: 1, but the days of the month for part months
        ("amount_cents", CENTS),
        ("deployment_name", TEXT),
        ("meta", TEXT),
    ]
)
"""One row per line, ordered by subscription, then plan_base, addon, overage."""

UNBILLED = pa.schema(
    [
        ("deployment_id", TEXT),
        ("resource_kind", TEXT),
        ("quantity", QUANTITY_SUM),
        ("reason", TEXT),
        ("subscription_id", TEXT),
    ]
)
"""One row per deployment, subscription and kind whose usage is on no line and in no allowance."""

SUPPLY = ("plan_base", "addon", "overage")
"""The kinds of quote lines, in their order: what is supplied."""


@dataclass(frozen=True)
class Quotes:
    """What quote() found. A tenant with a fault has no lines: all its usage is in `unbilled`."""

    lines: pd.DataFrame
    unbilled: pd.DataFrame
    faults: pd.DataFrame


def quote(
    subscriptions: pd.DataFrame,
    addons: pd.DataFrame,
    rates: pd.DataFrame,
    usage: pd.DataFrame,
    contested: pd.DataFrame | None = None,
    tiers: pd.DataFrame | None = None,
    discounts: pd.DataFrame | None = None,
    commitments: pd.DataFrame | None = None,
) -> Quotes:
    """Price a month. The frames have the schemas above, and tiers models.TIERS, in any row order.

    The result does not depend on that order. Discounts (discounts.DISCOUNTS) and commitments (commitments.COMMITMENTS)
    are no part of a quote: one that cannot be applied holds its tenant back.
    """
    subscribed = _placed(to_arrow(subscriptions, SUBSCRIPTIONS))
    added = _added(to_arrow(addons, ADDONS), subscribed)
    used, meters = _meters(to_arrow(usage, USAGE), subscribed, to_arrow(rates, RATES))
    found = pa.concat_tables(
        [
            faults.find(subscribed, faults.SUBSCRIPTION),
            faults.find(_paid(added), faults.ADDON),
            faults.find(_paid(meters), faults.USAGE),
            faults.find(_table(contested, CONTESTED), faults.CONTESTED),
            faults.find(_terms_of(subscribed, discounts, DISCOUNTS), faults.DISCOUNT),
            faults.find(_terms_of(subscribed, commitments, COMMITMENTS), faults.COMMITMENT),
        ]
    )
    held = found["tenant_id"]
    payable = _without(subscribed, held), _without(added, held), _without(meters, held)
    priced = _priced(*payable, _table(tiers, models.TIERS))
    too_large = faults.find(_tenant_sums(priced), faults.TENANT)
    found = pa.concat_tables([found, too_large])
    return Quotes(
        lines=_typed(_numbered(_without(priced, too_large["tenant_id"])), QUOTE_LINES),
        unbilled=_typed(_unbilled(meters.slice(0, used), found["tenant_id"]), UNBILLED),
        faults=_typed(found.sort_by([(name, "ascending") for name in FAULTS.names]), FAULTS),
    )


def _meters(usage: pa.Table, subscribed: pa.Table, rates: pa.Table) -> tuple[int, pa.Table]:
    """Usage beside its subscription and rate: so many rows that were used, and then pooled allowances that were not."""
    used = _beside(_summed(usage), subscribed, "plan_id", "plan", "days", "days_in_month")
    meters = overage.rated(used, rates)
    if len(unused := pooling.unused(subscribed, used, rates)):
        idle = overage.rated(unused, rates)
        meters = pa.concat_tables([meters, idle.filter(idle["pooled"])])
    return len(used), meters


def _priced(subscribed: pa.Table, added: pa.Table, meters: pa.Table, tiers: pa.Table) -> pa.Table:
    """All lines with their amounts, in any order."""
    made = [
        lines.priced(_plan_lines(subscribed)),
        lines.priced(_addon_lines(added)),
        overage.overage_lines(meters, tiers),
    ]
    return pa.concat_tables(made, promote_options="default")


def _placed(subscriptions: pa.Table) -> pa.Table:
    """The subscriptions with their days, and their place by id: a number sorts lines much faster than a text."""
    place = pc.rank(subscriptions["subscription_id"], tiebreaker="min")
    return with_columns(subscriptions, place=place, days=proration.days(subscriptions))


def _added(addons: pa.Table, subscribed: pa.Table) -> pa.Table:
    """The addons beside their subscription, with the days of it on which each was active."""
    beside = _beside(addons, subscribed, "deployment_id", "days_in_month")
    days = subscribed.select(["first_day", "last_day", "daily"])
    of = days.take(pc.index_in(addons["subscription_id"], subscribed["subscription_id"]))
    return with_columns(beside, days=proration.days_in_common(addons, of))


def _table(rows: pd.DataFrame | None, schema: pa.Schema) -> pa.Table:
    """The rows of the frame; of None, none."""
    return schema.empty_table() if rows is None else to_arrow(rows, schema)


def _terms_of(subscribed: pa.Table, terms: pd.DataFrame | None, schema: pa.Schema) -> pa.Table:
    """The discounts, or the commitments, of tenants with a subscription."""
    rows = _table(terms, schema)
    return rows.filter(pc.is_in(rows["tenant_id"], pc.unique(subscribed["tenant_id"])))


def _beside(rows: pa.Table, subscribed: pa.Table, *columns: str) -> pa.Table:
    """The rows beside their subscription; null where there is none."""
    keys = rows["subscription_id"], subscribed["subscription_id"]
    return look_up(rows, subscribed, keys, "place", "tenant_id", "deployment_name", *columns)


def _summed(usage: pa.Table) -> pa.Table:
    """Usage per deployment, subscription and kind."""
    groups = usage.group_by(["deployment_id", "subscription_id", "resource_kind"], use_threads=False)
    sums = groups.aggregate([(name, "sum") for name in ("quantity", "unusable_records", "duplicate_records")])
    return sums.rename_columns(USAGE.names)


def _plan_lines(subscribed: pa.Table) -> pa.Table:
    return lines.of(
        subscribed,
        "plan_base",
        description=text("Plan: ", subscribed["plan"]),
        **proration.of_month(subscribed, pa.repeat(1, len(subscribed))),
        unit_price_cents=exact(subscribed["base_price_cents"], UNIT_PRICE),
        meta=lines.price_meta(subscribed, effective_from=subscribed["effective_from"]),
    )


def _addon_lines(added: pa.Table) -> pa.Table:
    return lines.of(
        added,
        "addon",
        description=text("Addon: ", added["addon"]),
        **proration.of_month(added, added["quantity"]),
        unit_price_cents=exact(added["price_cents"], UNIT_PRICE),
        meta=lines.price_meta(added, effective_from=added["effective_from"]),
        subscription_addon_id=added["subscription_addon_id"],
    )


def _tenant_sums(priced: pa.Table) -> pa.Table:
    sums = priced.group_by("tenant_id", use_threads=False).aggregate([("amount_cents", "sum")])
    return sums.rename_columns(["tenant_id", "amount_cents"])


def _numbered(priced: pa.Table) -> pa.Table:
    """The lines in order, numbered from 1 within each subscription."""
    priced = with_columns(priced, kind_order=pc.index_in(priced["kind"], pa.array(SUPPLY)))
    order = ["place", "kind_order", "description", "place_in_rate", "subscription_addon_id", "deployment_id"]
    priced = priced.sort_by([(name, "ascending") for name in order])
    return with_columns(priced, line_no=numbers_within(priced["place"]))


def _unbilled(rated: pa.Table, held: Column) -> pa.Table:
    """The usage that no allowance and no line covers, with the reason, in order."""
    reasons = {
        "no_subscription": rated["tenant_id"].is_null(),
        "tenant_held_back": pc.is_in(rated["tenant_id"], held),
        "no_rate": rated["unit_price_cents"].is_null(),
    }
    reason = pc.case_when(pc.make_struct(*reasons.values()), *reasons)  # the first that applies; null: none
    unbilled = with_columns(rated, reason=reason).filter(reason.is_valid())
    return unbilled.sort_by([(name, "ascending") for name in ("deployment_id", "resource_kind", "subscription_id")])


def _paid(rows: pa.Table) -> pa.Table:
    """The rows that somebody would pay for."""
    return rows.filter(rows["tenant_id"].is_valid()) if rows["tenant_id"].null_count else rows


def _without(rows: pa.Table, tenants: Column) -> pa.Table:
    """The rows of known tenants that are not among `tenants`."""
    known = _paid(rows)
    return known.filter(pc.invert(pc.is_in(known["tenant_id"], tenants))) if len(tenants) else known


def _typed(rows: pa.Table, schema: pa.Schema) -> pd.DataFrame:
    return to_pandas(rows.select(schema.names).cast(schema))
