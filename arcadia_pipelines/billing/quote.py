"""The quote engine: subscriptions, addons, rates and usage in; priced lines out. One row or a million, the same code.

The provisioning-time projection and the month end both call quote(), so a quoted and an invoiced price cannot differ.
Belongs here: what a deployment costs, and what makes that impossible to say. Does not: GST and invoices (gst.py,
invoice.py), which price is in effect in a month (storage/catalogue.py reads it).
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import pandas as pd
import pyarrow as pa

from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    FLAG,
    QUANTITY,
    QUANTITY_LIMIT,
    QUANTITY_SUM,
    SUBTOTAL_LIMIT,
    TEXT,
    UNIT_PRICE,
    UNIT_PRICE_LIMIT,
    Series,
    cast,
    repeat,
    round_half_up,
    to_arrow,
    to_pandas,
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
        ("plan", TEXT),
        ("base_price_cents", CENTS),  # null: no price in effect
        ("effective_from", TEXT),
    ]
)
"""One row per subscription that the month bills, with the plan's base price in effect."""

ADDONS = pa.schema(
    [
        ("subscription_addon_id", TEXT),
        ("subscription_id", TEXT),
        ("addon", TEXT),
        ("quantity", COUNT),
        ("price_cents", CENTS),  # null: no price in effect
        ("effective_from", TEXT),
    ]
)
"""One row per addon of a subscription that the month bills, with its price in effect."""

RATES = pa.schema(
    [
        ("plan", TEXT),
        ("resource_kind", TEXT),
        ("included", QUANTITY),
        ("unit", TEXT),
        ("unit_price_cents", UNIT_PRICE),
        ("effective_from", TEXT),
    ]
)
"""One row per plan and resource kind: the rate in effect, with the allowance in its unit."""

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

KIND_ORDER = {"plan_base": 1, "addon": 2, "overage": 3}


@dataclass(frozen=True)
class _Fault:
    """A rule: the name of a fault, the rows it applies to, and what to tell whoever has to mend one of them."""

    name: str
    applies: Callable[[pd.DataFrame], Series]
    detail: Callable[[pd.DataFrame], Series]


def _price_out_of_range(cents: Series) -> Series:
    return (cents < 0) | (cents >= UNIT_PRICE_LIMIT)


def _usage(rated: pd.DataFrame) -> Series:
    return rated["resource_kind"] + " of deployment " + rated["deployment_name"]


SUBSCRIPTION_FAULTS = [
    _Fault(
        "tenant_missing",
        lambda s: ~s["tenant_exists"],
        lambda s: "tenant " + s["tenant_id"] + " is not in tenants: restore it or end its subscriptions",
    ),
    _Fault(
        "deployment_missing",
        lambda s: ~s["deployment_exists"],
        lambda s: (
            "deployment " + s["deployment_id"] + " is not in cloud_deployments, or its tenant is not in tenants: "
            "restore it or end its subscriptions"
        ),
    ),
    _Fault(
        "overlapping_subscriptions",
        lambda s: s["overlapping"],
        lambda s: (
            "deployment " + s["deployment_name"] + " has two subscriptions at one instant: end one where the "
            "other starts"
        ),
    ),
    _Fault(
        "plan_without_price",
        lambda s: s["base_price_cents"].isna(),
        lambda s: "plan " + s["plan"] + " has no price in effect on the first of the month: add one to plan_prices",
    ),
    _Fault(
        "price_out_of_range",
        lambda s: _price_out_of_range(s["base_price_cents"]),
        lambda s: "plan " + s["plan"] + " has a price below 0, or of 100 million dollars and more: correct plan_prices",
    ),
]
ADDON_FAULTS = [
    _Fault(
        "addon_without_price",
        lambda a: a["price_cents"].isna(),
        lambda a: "addon " + a["addon"] + " has no price in effect on the first of the month: add one to addon_prices",
    ),
    _Fault(
        "price_out_of_range",
        lambda a: _price_out_of_range(a["price_cents"]),
        lambda a: (
            "addon " + a["addon"] + " has a price below 0, or of 100 million dollars and more: correct addon_prices"
        ),
    ),
    _Fault(
        "negative_addon_quantity",
        lambda a: a["quantity"] < 0,
        lambda a: "addon " + a["addon"] + " of deployment " + a["deployment_name"] + " has a quantity below 0",
    ),
]
USAGE_FAULTS = [
    _Fault(
        "negative_usage",
        lambda u: u["quantity"] < 0,
        lambda u: _usage(u) + " sums to " + cast(u["quantity"], TEXT) + ": correct the usage records",
    ),
    _Fault(
        "usage_out_of_range",
        lambda u: u["quantity"] >= QUANTITY_LIMIT,
        lambda u: _usage(u) + " sums to 1e12 or more: correct the usage records",
    ),
    _Fault(
        "unusable_usage",
        lambda u: u["unusable_records"] > 0,
        lambda u: _usage(u) + " has a record of NaN, null, infinity, or 1e12 and more: correct the usage records",
    ),
    _Fault(
        "duplicate_usage",
        lambda u: u["duplicate_records"] > 0,
        lambda u: _usage(u) + " has records that share an id: remove the copies",
    ),
    _Fault(
        "rate_out_of_range",
        lambda u: (u["unit_price_cents"] < 0) | (u["included"] < 0),
        lambda u: (
            "the rate of plan " + u["plan"] + " for " + u["resource_kind"] + " is out of range: correct plan_rates"
        ),
    ),
]
TENANT_FAULTS = [
    _Fault(
        "amount_out_of_range",
        lambda t: t["amount_cents"] >= SUBTOTAL_LIMIT,
        lambda t: "the month of " + t["tenant_id"] + " sums to more than 64 bits of cents: correct usage or prices",
    ),
]


@dataclass(frozen=True)
class Quotes:
    """What quote() found. A tenant with a fault has no lines: all its usage is in `unbilled`."""

    lines: pd.DataFrame
    unbilled: pd.DataFrame
    faults: pd.DataFrame


def quote(subscriptions: pd.DataFrame, addons: pd.DataFrame, rates: pd.DataFrame, usage: pd.DataFrame) -> Quotes:
    """Price a month. The frames have the schemas above in any row order; the result does not depend on it."""
    addons = addons.merge(
        subscriptions[["subscription_id", "tenant_id", "deployment_id", "deployment_name"]], on="subscription_id"
    )
    rated = _rate(usage, subscriptions, rates)
    faults = pd.concat(
        [_find(subscriptions, SUBSCRIPTION_FAULTS), _find(addons, ADDON_FAULTS), _find(rated, USAGE_FAULTS)]
    )
    held = faults["tenant_id"]

    lines = _price(
        pd.concat(
            [
                _plan_lines(_without(subscriptions, held)),
                _addon_lines(_without(addons, held)),
                _overage_lines(_without(rated, held)),
            ]
        )
    )
    too_large = _find(lines.groupby("tenant_id", as_index=False)[["amount_cents"]].sum(), TENANT_FAULTS)
    if len(too_large):
        lines = _without(lines, too_large["tenant_id"])
        faults = pd.concat([faults, too_large])
        held = faults["tenant_id"]

    return Quotes(
        lines=_typed(_numbered(lines), QUOTE_LINES),
        unbilled=_typed(_unbilled(rated, held), UNBILLED),
        faults=_typed(faults.sort_values(FAULTS.names), FAULTS),
    )


def _rate(usage: pd.DataFrame, subscriptions: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Usage per deployment, subscription and kind, beside its subscription and its rate; null where there is none."""
    totals = usage.groupby(["deployment_id", "subscription_id", "resource_kind"], dropna=False, as_index=False).sum()
    rated = totals.merge(
        subscriptions[["subscription_id", "tenant_id", "deployment_name", "plan"]], on="subscription_id", how="left"
    )
    return rated.merge(rates, on=["plan", "resource_kind"], how="left")


def _plan_lines(subscriptions: pd.DataFrame) -> pd.DataFrame:
    return subscriptions.assign(
        kind="plan_base",
        description="Plan: " + subscriptions["plan"],
        qty=repeat(Decimal(1), QUANTITY, subscriptions),
        unit="month",
        unit_price_cents=cast(subscriptions["base_price_cents"], UNIT_PRICE),
        meta=_meta(effective_from=subscriptions["effective_from"]),
    )


def _addon_lines(addons: pd.DataFrame) -> pd.DataFrame:
    return addons.assign(
        kind="addon",
        description="Addon: " + addons["addon"],
        qty=cast(addons["quantity"], QUANTITY),
        unit="month",
        unit_price_cents=cast(addons["price_cents"], UNIT_PRICE),
        meta=_meta(effective_from=addons["effective_from"]),
    )


def _overage_lines(rated: pd.DataFrame) -> pd.DataFrame:
    """Lines for what is used beyond the allowance; usage within it makes no line."""
    used = cast(rated["quantity"], QUANTITY)
    over = rated.assign(used=used)[used > rated["included"]]
    return over.assign(
        kind="overage",
        description="Overage: " + over["resource_kind"],
        qty=cast(over["used"] - over["included"], QUANTITY),
        meta=_meta(
            used=cast(over["used"], TEXT),
            included=cast(over["included"], TEXT),
            effective_from=over["effective_from"],
        ),
    )


def _price(lines: pd.DataFrame) -> pd.DataFrame:
    """Each line's amount: quantity x unit price, rounded once. Still a decimal: it may be past 64 bits."""
    return lines.assign(amount_cents=round_half_up(lines["qty"] * lines["unit_price_cents"]))


def _numbered(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines in order, numbered from 1 within each subscription."""
    lines = lines.assign(kind_order=lines["kind"].map(KIND_ORDER)).sort_values(
        ["subscription_id", "kind_order", "description", "subscription_addon_id"]
    )
    return lines.assign(line_no=lines.groupby("subscription_id").cumcount() + 1)


def _unbilled(rated: pd.DataFrame, held: Series) -> pd.DataFrame:
    """The usage that no allowance and no line covers, with the reason, in order."""
    reasons = {
        "no_rate": rated["unit_price_cents"].isna(),
        "tenant_held_back": rated["tenant_id"].isin(held),
        "no_subscription": rated["tenant_id"].isna(),
    }
    reason = repeat(None, TEXT, rated)
    for name, applies in reasons.items():  # the last that applies is the reason
        reason = reason.mask(applies, name)
    unbilled = rated.assign(reason=reason)[reason.notna()]
    return unbilled.sort_values(["deployment_id", "resource_kind", "subscription_id"])


def _find(data: pd.DataFrame, rules: list[_Fault]) -> pd.DataFrame:
    """The faults of the rows that somebody would pay for, as FAULTS; a column that `data` does not have is null."""
    data = data[data["tenant_id"].notna()]
    found = []
    for rule in rules:
        rows = data[rule.applies(data).fillna(False).astype(bool)]
        found.append(rows.assign(fault=rule.name, detail=rule.detail(rows)).reindex(columns=FAULTS.names))
    return pd.concat(found).astype(pd.ArrowDtype(TEXT))


def _without(data: pd.DataFrame, tenants: Series) -> pd.DataFrame:
    """The rows of known tenants that are not among `tenants`."""
    return data[data["tenant_id"].notna() & ~data["tenant_id"].isin(tenants)]


def _meta(**values: Series) -> Series:
    """A JSON object per row, spelled as PostgreSQL spells jsonb (shorter keys first). Values need no escaping."""
    members = ['"' + key + '": "' + column + '"' for key, column in sorted(values.items(), key=lambda v: len(v[0]))]
    text = members[0]
    for member in members[1:]:
        text = text + ", " + member
    return "{" + text + "}"


def _typed(data: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    return to_pandas(to_arrow(data, schema))
