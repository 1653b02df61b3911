"""What makes it impossible to say what a tenant owes: each fault a rule over columns, with what to tell people.

Belongs here: the rules, and finding the rows that they apply to. Does not: holding the tenant back (quote.py),
and what makes a rate one that cannot be charged (_JUDGED in storage/catalogue.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import (
    QUANTITY_LIMIT,
    SUBTOTAL_LIMIT,
    TEXT,
    UNIT_PRICE_LIMIT,
    Column,
    text,
    with_columns,
)

FAULTS = pa.schema(
    [
        ("tenant_id", TEXT),
        ("subscription_id", TEXT),
        ("deployment_id", TEXT),
        ("resource_kind", TEXT),
        ("fault", TEXT),
        ("detail", TEXT),
    ]
)
"""One row per reason that a tenant cannot be quoted."""


@dataclass(frozen=True)
class Rule:
    """A rule: the name of a fault, the rows it applies to, and what to tell whoever has to mend one of them."""

    name: str
    applies: Callable[[pa.Table], Column]
    detail: str
    """With columns of the row in braces."""


def _most_in_packages(used: pa.Table) -> Column:
    """How many units make more packages than a line can have; null where the rate has none."""
    return pc.multiply(used["package_size"], QUANTITY_LIMIT)


def _price_out_of_range(cents: Column) -> Column:
    return pc.or_(pc.less(cents, 0), pc.greater_equal(cents, UNIT_PRICE_LIMIT))


_RATE = "the rate of plan {plan} for {resource_kind}"
_OWN = {
    f"{_RATE} since {{effective_from}}": _RATE,
    _RATE: "tenant {tenant_id}'s own rate of plan {plan} for {resource_kind} since {effective_from}",
    "the price of": "tenant {tenant_id}'s own price of",
    "package_size in": "package_size of tenant {tenant_id}'s own rate of plan {plan} since {effective_from} in",
    "plan_rate_tiers": "tenant_rate_tiers",
    "plan_rates": "tenant_rates",
    "plan_prices": "tenant_plan_prices",
    "addon_prices": "tenant_addon_prices",
}
"""What the detail of a list's price says, and what that of a tenant's own says in its place: its row and its table."""


def _of_prices(name: str, applies: Callable[[pa.Table], Column], detail: str) -> list[Rule]:
    """A rule for the list's prices and one for tenants' own, which have tables of their own; rows have `own_price`."""
    own = detail
    for of_the_list, of_a_tenant in _OWN.items():
        own = own.replace(of_the_list, of_a_tenant)
    return [
        Rule(name, lambda rows: pc.and_not(applies(rows), pc.fill_null(rows["own_price"], False)), detail),
        Rule(name, lambda rows: pc.and_(applies(rows), pc.fill_null(rows["own_price"], False)), own),
    ]


_NOT_UNIQUE = "{twice} is there more than once: which one counts cannot be told, so keep one"
SUBSCRIPTION = [
    Rule(
        "tenant_missing",
        lambda s: pc.invert(s["tenant_exists"]),
        "tenant {tenant_id} is not in tenants: restore it or end its subscriptions",
    ),
    Rule(
        "deployment_missing",
        lambda s: pc.invert(s["deployment_exists"]),
        "deployment {deployment_id} is not in cloud_deployments, or its tenant is not in tenants: restore it or end "
        "its subscriptions",
    ),
    Rule(
        "incomplete_subscription",
        lambda s: s["incomplete"],
        "subscription {subscription_id} lacks its id, status, started_at, deployment_id or plan_id: complete it in "
        "subscriptions",
    ),
    Rule("not_unique", lambda s: s["twice"].is_valid(), _NOT_UNIQUE),
    Rule(
        "timeless_usage",
        lambda s: s["timeless"].is_valid(),
        "{timeless} of deployment {deployment_name} came in the month without a time that can be read: correct "
        "recorded_at in usage_records, or remove them",
    ),
    Rule(
        "overlapping_subscriptions",
        lambda s: s["overlapping"],
        "deployment {deployment_name} has two subscriptions at one instant: end one where the other starts",
    ),
    Rule(
        "plan_without_price",
        lambda s: s["base_price_cents"].is_null(),
        "plan {plan} has no price in effect on the first of the month: add one to plan_prices",
    ),
    *_of_prices(
        "price_out_of_range",
        lambda s: _price_out_of_range(s["base_price_cents"]),
        "the price of plan {plan} since {effective_from} is not a whole number of cents, from 0 to below 100 million "
        "dollars: correct plan_prices",
    ),
    Rule(
        "proration_unknown",
        lambda s: s["daily"].is_null(),
        "the proration of plan {plan} is neither none nor daily: correct it in plans",
    ),
]
ADDON = [
    Rule(
        "incomplete_addon",
        lambda a: a["incomplete"],
        "addon {addon} of deployment {deployment_name} lacks its id, addon_id, quantity or started_at: complete it in "
        "subscription_addons",
    ),
    Rule("not_unique", lambda a: a["twice"].is_valid(), _NOT_UNIQUE),
    Rule(
        "addon_without_price",
        lambda a: a["price_cents"].is_null(),
        "addon {addon} has no price in effect on the first of the month: add one to addon_prices",
    ),
    *_of_prices(
        "price_out_of_range",
        lambda a: _price_out_of_range(a["price_cents"]),
        "the price of addon {addon} since {effective_from} is not a whole number of cents, from 0 to below 100 million "
        "dollars: correct addon_prices",
    ),
    Rule(
        "negative_addon_quantity",
        lambda a: pc.less(a["quantity"], 0),
        "addon {addon} of deployment {deployment_name} has a quantity below 0",
    ),
    Rule(
        "addon_quantity_out_of_range",
        lambda a: pc.and_not(a["quantity"].is_null(), a["incomplete"]),
        "addon {addon} of deployment {deployment_name} has a quantity that is not a whole number below 1e12: correct "
        "{subscription_addon_id} in subscription_addons",
    ),
    Rule(
        "addon_quantity_out_of_range",
        lambda a: pc.greater_equal(pc.multiply(a["quantity"], a["days"]), int(QUANTITY_LIMIT)),
        "addon {addon} of deployment {deployment_name} has a quantity that is 1e12 or more days: correct "
        "{subscription_addon_id} in subscription_addons",
    ),
]
USAGE = [
    Rule(
        "negative_usage",
        lambda u: pc.less(u["quantity"], Decimal(0)),
        "{resource_kind} of deployment {deployment_name} sums to {quantity}: correct the usage records",
    ),
    Rule(
        "usage_out_of_range",
        lambda u: pc.greater_equal(u["quantity"], QUANTITY_LIMIT),
        "{resource_kind} of deployment {deployment_name} sums to 1e12 or more: correct the usage records",
    ),
    Rule(
        "unusable_usage",
        lambda u: pc.greater(u["unusable_records"], 0),
        "{resource_kind} of deployment {deployment_name} has a record of NaN, null, infinity, or 1e12 and more: "
        "correct the usage records",
    ),
    Rule(
        "duplicate_usage",
        lambda u: pc.greater(u["duplicate_records"], 0),
        "{resource_kind} of deployment {deployment_name} has records that share an id, with each other or with those "
        "of another month, or have none: remove the copies",
    ),
    *_of_prices(
        "rate_out_of_range",
        lambda u: pc.or_(pc.less(u["unit_price_cents"], Decimal(0)), pc.less(u["included"], Decimal(0))),
        f"{_RATE} is out of range: correct plan_rates",
    ),
    *_of_prices(
        "rate_without_unit",
        lambda u: pc.and_(u["unit_price_cents"].is_valid(), u["unit"].is_null()),
        f"{_RATE} has no unit: complete it in plan_rates",
    ),
    *_of_prices(
        "packages_out_of_range",
        lambda u: pc.greater_equal(u["quantity"], _most_in_packages(u)),
        "{resource_kind} of deployment {deployment_name} makes 1e12 packages or more: correct the usage records, or "
        "package_size in plan_rates",
    ),
    *_of_prices(
        "pooled_tiers",
        lambda u: pc.and_(u["pooled"], pc.not_equal(u["charge_model"], "per_unit")),
        f"{_RATE} since {{effective_from}} is pooled and {{charge_model}}: only per_unit can be pooled, so correct "
        "plan_rates",
    ),
    *_of_prices(
        "rate_cannot_be_charged",
        lambda u: u["wrong"].is_valid(),
        f"{_RATE} since {{effective_from}} {{wrong}}: correct plan_rates or plan_rate_tiers",
    ),
    *_of_prices(
        "not_unique",
        lambda u: u["twice"],
        f"{_RATE} since {{effective_from}} in plan_rates is there more than once: which one counts cannot be told, so "
        "keep one",
    ),
]
_BILLED = (
    "the month of deployment {deployment_name} is billed to tenant {billed_to} by {invoice_number}, for subscription "
    "{subscription_id}, and would be billed to tenant {payer} too, for subscription {subscription_now}: "
)
_GIVE_BACK = (
    "give that subscription back to {billed_to}, ended when {payer} took over, and {payer} one of its own from then on"
)
CONTESTED = [
    Rule(
        "billed_to_another_tenant",
        lambda c: pc.invert(c["is_paid"]),
        _BILLED + "void {invoice_number}, or " + _GIVE_BACK,
    ),
    Rule("billed_to_another_tenant", lambda c: c["is_paid"], _BILLED + "it is paid and stays, so " + _GIVE_BACK),
]
DISCOUNT = [
    Rule(
        "discount_cannot_be_applied",
        lambda d: d["wrong"].is_valid(),
        "discount {id} of tenant {tenant_id} {wrong}: correct it in discounts",
    ),
]
COMMITMENT = [
    Rule(
        "commitment_cannot_be_applied",
        lambda c: c["wrong"].is_valid(),
        "commitment {id} of tenant {tenant_id} {wrong}: correct it in commitments",
    ),
    Rule(
        "overlapping_commitments",
        lambda c: pc.and_(c["overlapping"], c["deployment_id"].is_valid()),
        "commitment {id} of tenant {tenant_id} is not the only one of deployment {deployment_id} in the month: end one "
        "where the other starts",
    ),
    Rule(
        "overlapping_commitments",
        lambda c: pc.and_(c["overlapping"], c["deployment_id"].is_null()),
        "commitment {id} is not the only one of tenant {tenant_id} as a whole in the month: end one where the other "
        "starts",
    ),
]
TENANT = [
    Rule(
        "amount_out_of_range",
        lambda t: pc.greater_equal(t["amount_cents"], SUBTOTAL_LIMIT),
        "the month of {tenant_id} sums to more than 64 bits of cents: correct usage or prices",
    ),
]


def find(rows: pa.Table, rules: list[Rule]) -> pa.Table:
    """The faults of the rows, as FAULTS; a column that `rows` does not have is null."""
    if not len(rows):
        return FAULTS.empty_table()
    found = [FAULTS.empty_table()]
    for rule in rules:
        applies = rule.applies(rows)
        if pc.any(applies).as_py():
            faulty = rows.filter(applies)
            whose = faulty.select([name for name in FAULTS.names if name in faulty.column_names])
            fault = pa.repeat(rule.name, len(faulty))
            found.append(with_columns(whose, fault=fault, detail=_filled(rule.detail, faulty)))
    return pa.concat_tables(found, promote_options="default")


def _filled(detail: str, rows: pa.Table) -> Column:
    """The text for each row, its columns in the place of their names."""
    parts = []
    for words, column, *_ in Formatter().parse(detail):
        parts += [words, pc.fill_null(rows[column].cast(TEXT), "(none)")] if column else [words]
    return text(*parts)
