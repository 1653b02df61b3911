"""FOCUS's columns, and the words that both sides of an export have in common (focus_revenue.py, focus_cost.py).

Belongs here: which columns there are, of which types, and how we call in FOCUS's words what a deployment uses. Does
not: what is in them.
"""

from typing import Literal, get_args

import pyarrow as pa

from arcadia_pipelines.billing.money import COUNT, QUANTITY, QUANTITY_SUM, TEXT

Side = Literal["revenue", "cost"]
SIDES: tuple[Side, ...] = get_args(Side)

INSTANT = pa.timestamp("us", "UTC")
_CENTS_EXACT = pa.decimal128(19, 2)
_PRICE = pa.decimal128(29, 10)
_PRODUCT = pa.decimal128(38, 16)
"""A quantity times a price, not rounded."""

_TYPES = {
    **dict.fromkeys(("BilledCost", "x_BilledCostInAud"), _CENTS_EXACT),
    **dict.fromkeys(("ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost"), _PRODUCT),
    **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), _PRICE),
    **dict.fromkeys(("PricingCurrencyContractedUnitPrice", "PricingCurrencyListUnitPrice"), _PRICE),
    **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), QUANTITY),
    **dict.fromkeys(("x_IncludedQuantity", "x_UsedQuantity"), QUANTITY_SUM),
    **dict.fromkeys(("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"), INSTANT),
    "x_InvoiceLineNumber": COUNT,
}
"""The types of the columns that are not text."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FOCUS_COLUMNS = _names("""
    BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory
    ChargeClass ChargeDescription ChargeFrequency ChargePeriodEnd ChargePeriodStart CommitmentDiscountCategory
    CommitmentDiscountId CommitmentDiscountName CommitmentDiscountStatus CommitmentDiscountType ConsumedQuantity
    ConsumedUnit ContractedCost ContractedUnitPrice EffectiveCost InvoiceId InvoiceIssuerName ListCost ListUnitPrice
    PricingCategory PricingCurrency PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost
    PricingCurrencyListUnitPrice PricingQuantity PricingUnit ProviderName PublisherName RegionId RegionName ResourceId
    ResourceName ResourceType ServiceCategory ServiceName ServiceSubcategory SkuId SkuMeter SkuPriceDetails SkuPriceId
    SubAccountId SubAccountName Tags
""")
_OUR_COLUMNS: dict[Side, tuple[str, ...]] = {
    "revenue": _names("""
        x_DeploymentId x_DeploymentName x_InvoiceLineNumber x_ResourceKind x_TenantId x_IncludedQuantity x_UsedQuantity
    """),
    "cost": _names("""
        x_DeploymentId x_DeploymentName x_InvoiceLineNumber x_ResourceKind x_TenantId x_AllocatedBy x_BilledCostInAud
    """),
}
NOT_HERE = _names("""
    CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName CommitmentDiscountStatus
    CommitmentDiscountType RegionId RegionName SkuPriceDetails Tags
""")
"""Columns that are null on both sides."""
FIXED_WORDS = _names("""
    BillingCurrency ChargeCategory ChargeClass ChargeFrequency InvoiceIssuerName PricingCategory PricingCurrency
    ProviderName PublisherName ServiceCategory ServiceSubcategory
""")
"""Text columns whose words are ours. The words in others were written by somebody else."""

SERVICES = """
    (values ('plan_base', 'Compute', 'Other (Compute)'), ('droplet_hours', 'Compute', 'Virtual Machines'),
            ('kubernetes', 'Compute', 'Containers'), ('databases', 'Databases', 'Other (Databases)'),
            ('egress_gb', 'Networking', 'Other (Networking)'), ('reserved_ip', 'Networking', 'Other (Networking)'),
            ('load_balancer', 'Networking', 'Application Networking'), ('backups', 'Storage', 'Backup Storage'),
            ('object_storage', 'Storage', 'Object Storage'), ('storage_gb_months', 'Storage', 'Block Storage')
    ) as service (kind, category, subcategory)
"""
"""The service category of each resource kind, from FOCUS's list; kinds that are not here are Other."""
UNITS = """
    (values ('second', 'Seconds'), ('minute', 'Minutes'), ('hour', 'Hours'), ('day', 'Days'), ('month', 'Months'),
            ('gb-month', 'GB-Months'), ('gb-hour', 'GB-Hours'), ('flat fee', 'Flat Fees'), ('cap', 'Caps')
    ) as unit (ours, theirs)
"""
"""Units as FOCUS spells them; others stay as they are."""


def schema(side: Side) -> pa.Schema:
    """The side's columns: FOCUS's, then ours."""
    return pa.schema([(name, _TYPES.get(name, TEXT)) for name in (*_FOCUS_COLUMNS, *_OUR_COLUMNS[side])])


def null(columns: tuple[str, ...]) -> str:
    """These columns, null, as SQL."""
    return ", ".join(f'null as "{name}"' for name in columns)


def utc(date: str) -> str:
    """The date's first instant, in whatever zone the session is, as SQL."""
    return f"({date})::timestamp at time zone 'UTC'"
