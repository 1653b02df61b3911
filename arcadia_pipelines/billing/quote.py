"""The quote engine: subscriptions, addons, rates and usage in; priced lines out. One row or a million, the same code.

The provisioning-time projection and the month end both call quote(), so a quoted and an invoiced price cannot differ.
Belongs here: what a deployment costs. Does not: what makes that impossible to say (faults.py), GST and invoices
(gst.py, invoice.py), which price is in effect in a month (storage/catalogue.py reads it).
"""

from dataclasses import dataclass
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import faults, models, pooling, proration
from arcadia_pipelines.billing.commitments import COMMITMENTS
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.faults import FAULTS
from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    FLAG,
    ONE,
    QUANTITY,
    QUANTITY_SUM,
    TEXT,
    UNIT_PRICE,
    WHOLE,
    Column,
    divided,
    exact,
    look_up,
    numbers_within,
    round_half_up,
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
    claims = CONTESTED.empty_table() if contested is None else to_arrow(contested, CONTESTED)
    subscribed = _placed(to_arrow(subscriptions, SUBSCRIPTIONS))
    added = _added(to_arrow(addons, ADDONS), subscribed)
    price_list = to_arrow(rates, RATES)
    used = _beside(_summed(to_arrow(usage, USAGE)), subscribed, "plan_id", "plan", "days", "days_in_month")
    rated = _rate(used, price_list)
    if len(unused := pooling.unused(subscribed, used, price_list)):
        idle = _rate(unused, price_list)
        rated = pa.concat_tables([rated, idle.filter(idle["pooled"])])
    found = pa.concat_tables(
        [
            faults.find(subscribed, faults.SUBSCRIPTION),
            faults.find(_paid(added), faults.ADDON),
            faults.find(_paid(rated), faults.USAGE),
            faults.find(claims, faults.CONTESTED),
            faults.find(_terms_of(subscribed, discounts, DISCOUNTS), faults.DISCOUNT),
            faults.find(_terms_of(subscribed, commitments, COMMITMENTS), faults.COMMITMENT),
        ]
    )
    held = found["tenant_id"]

    known_tiers = models.TIERS.empty_table() if tiers is None else to_arrow(tiers, models.TIERS)
    known_tiers = with_columns(known_tiers, rate=_rate_key(known_tiers))
    lines = pa.concat_tables(
        [
            _priced(_plan_lines(_without(subscribed, held))),
            _priced(_addon_lines(_without(added, held))),
            _capped(_priced(_overage_lines(_prorated(_without(rated, held)), known_tiers))),
        ],
        promote_options="default",
    )
    too_large = faults.find(_tenant_sums(lines), faults.TENANT)
    if len(too_large):
        lines = _without(lines, too_large["tenant_id"])
        found = pa.concat_tables([found, too_large])
        held = found["tenant_id"]

    return Quotes(
        lines=_typed(_numbered(lines), QUOTE_LINES),
        unbilled=_typed(_unbilled(rated.slice(0, len(used)), held), UNBILLED),
        faults=_typed(found.sort_by([(name, "ascending") for name in FAULTS.names]), FAULTS),
    )


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


def _terms_of(subscribed: pa.Table, terms: pd.DataFrame | None, schema: pa.Schema) -> pa.Table:
    """The discounts, or the commitments, of tenants with a subscription."""
    if terms is None or terms.empty:
        return schema.empty_table()
    rows = to_arrow(terms, schema)
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


def _rate(used: pa.Table, rates: pa.Table) -> pa.Table:
    """Usage beside its plan's rate; null where there is none."""
    keys, is_own = _rate_key(rates), rates["tenant_id"].is_valid()
    place = pc.index_in(_rate_key(used, ""), keys)
    if pc.any(is_own).as_py():
        place = pc.coalesce(pc.index_in(_rate_key(used, used["tenant_id"]), keys), place)
    found = with_columns(rates, rate=keys, own_price=is_own)
    found = found.drop_columns(["tenant_id", "plan_id", "resource_kind"]).take(place)
    return with_columns(used, **{name: found[name] for name in found.column_names})


def _rate_key(rows: pa.Table, tenant: Column | str | None = None) -> Column:
    """What names a rate: whose it is ('' is the list's), its plan and its kind."""
    whose = pc.fill_null(rows["tenant_id"], "") if tenant is None else tenant
    return text(whose, "\0", rows["plan_id"], "\0", rows["resource_kind"])  # no text of PostgreSQL's has a character 0


def _prorated(rated: pa.Table) -> pa.Table:
    """The usage with the allowance and the maximum of a part month, where the plan prorates."""
    if not pc.any(proration.is_part(rated)).as_py():
        return rated
    return with_columns(
        rated.drop_columns(["included", "maximum_cents"]),
        included=proration.scaled_quantity(rated["included"], rated),
        maximum_cents=exact(proration.scaled(rated["maximum_cents"], rated), CENTS),
    )


def _plan_lines(subscribed: pa.Table) -> pa.Table:
    return _lines(
        subscribed,
        "plan_base",
        description=text("Plan: ", subscribed["plan"]),
        **proration.of_month(subscribed, pa.repeat(1, len(subscribed))),
        unit_price_cents=exact(subscribed["base_price_cents"], UNIT_PRICE),
        meta=_price_meta(subscribed, effective_from=subscribed["effective_from"]),
    )


def _addon_lines(added: pa.Table) -> pa.Table:
    return _lines(
        added,
        "addon",
        description=text("Addon: ", added["addon"]),
        **proration.of_month(added, added["quantity"]),
        unit_price_cents=exact(added["price_cents"], UNIT_PRICE),
        meta=_price_meta(added, effective_from=added["effective_from"]),
        subscription_addon_id=added["subscription_addon_id"],
    )


def _overage_lines(rated: pa.Table, tiers: pa.Table) -> pa.Table:
    """Lines for what is used beyond the allowance, by the rate's charge model; usage within it makes no line."""
    rated = with_columns(rated, used=exact(rated["quantity"], QUANTITY))
    rated = with_columns(rated, beyond=pooling.beyond(rated))
    charged = models.charges(rated.filter(pc.greater(rated["beyond"], Decimal(0))), tiers)
    return _lines(
        charged,
        "overage",
        resource_kind=charged["resource_kind"],
        description=text("Overage: ", charged["resource_kind"]),
        qty=charged["qty"],
        unit=charged["unit"],
        unit_price_cents=charged["unit_price_cents"],
        meta=_overage_meta(charged),
        place_in_rate=charged["place_in_rate"],
        maximum_cents=charged["maximum_cents"],
    )


def _overage_meta(charged: pa.Table) -> Column:
    """What was used and included, and since when the price; of another model than per unit, by which rule."""
    by_rule = pc.not_equal(charged["charge_model"], "per_unit")
    return _price_meta(
        charged,
        used=charged["used"].cast(TEXT),
        included=charged["included"].cast(TEXT),
        effective_from=charged["effective_from"],
        model=_only(by_rule, charged["charge_model"]),
        pooled=pooling.covered(charged),
        tier=charged["tier"],
        package_size=models.plain(charged["package_size"]),
    )


def _price_meta(rows: pa.Table, **values: Column) -> Column:
    """As _meta(), with the days of a part month; a tenant's own price says that it is."""
    own = _only(rows["own_price"], "tenant")
    return _meta(**values, days=proration.days_of_days(rows), price_of=own)


def _only(where: Column, values: Column | str) -> Column:
    """The values, or the value, where that holds; else null."""
    return pc.if_else(where, values, pa.scalar(None, TEXT))


def _capped(lines: pa.Table) -> pa.Table:
    """The overage lines; those of a subscription and kind that sum to more than its maximum are one line instead."""
    limited = lines.filter(lines["maximum_cents"].is_valid())
    if not len(limited):
        return lines
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
        amount_cents=exact(capped["maximum_cents"], lines.schema.field("amount_cents").type),
    )
    rest = lines.join(beyond, rate, join_type="left anti", use_threads=False)
    return pa.concat_tables([rest, cap.select(rest.column_names)])


def _lines(rows: pa.Table, kind: str, **columns: Column) -> pa.Table:
    """A line of this kind and these columns for each row, with whose it is."""
    whose = rows.select(["place", "subscription_id", "deployment_id", "tenant_id", "deployment_name"])
    price_per = columns.pop("price_per", pa.repeat(ONE, len(rows)))
    return with_columns(whose, kind=pa.repeat(kind, len(rows)), price_per=price_per, **columns)


def _priced(lines: pa.Table) -> pa.Table:
    """Each line's amount: quantity x unit price / price_per, rounded once. Still a decimal: it may be past 64 bits."""
    exact_cents = pc.multiply(lines["qty"], lines["unit_price_cents"])
    if not pc.all(pc.equal(lines["price_per"], ONE)).as_py():
        exact_cents = divided(exact_cents, lines["price_per"])
    return with_columns(lines, amount_cents=round_half_up(exact_cents))


def _tenant_sums(lines: pa.Table) -> pa.Table:
    sums = lines.group_by("tenant_id", use_threads=False).aggregate([("amount_cents", "sum")])
    return sums.rename_columns(["tenant_id", "amount_cents"])


def _numbered(lines: pa.Table) -> pa.Table:
    """The lines in order, numbered from 1 within each subscription."""
    lines = with_columns(lines, kind_order=pc.index_in(lines["kind"], pa.array(SUPPLY)))
    order = ["place", "kind_order", "description", "place_in_rate", "subscription_addon_id", "deployment_id"]
    lines = lines.sort_by([(name, "ascending") for name in order])
    return with_columns(lines, line_no=numbers_within(lines["place"]))


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


def _meta(**values: Column) -> Column:
    """A JSON object per row, spelled as PostgreSQL spells jsonb (shorter keys first), without keys whose value is null.

    The values are numbers, dates and words of ours, which have nothing that JSON escapes; others need json_text().
    """
    members = [
        text('"', key, '": "', column, '"')
        for key, column in sorted(values.items(), key=lambda value: (len(value[0]), value[0]))
        if not len(column) or column.null_count < len(column)
    ]
    joined = pc.binary_join_element_wise(*members, ", ", null_handling="skip")
    return text("{", joined, "}")


def _typed(rows: pa.Table, schema: pa.Schema) -> pd.DataFrame:
    return to_pandas(rows.select(schema.names).cast(schema))
