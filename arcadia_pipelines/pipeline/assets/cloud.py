"""The platform's tables that billing reads, so that the graph shows where money comes from. Nothing is computed."""

import dagster as dg

_TABLES = {
    "tenants": "Who pays: one row per tenant, with its ABN, or the reason it is free of GST.",
    "cloud_deployments": "What runs: one row per deployment.",
    "plans": "What is sold: one row per plan.",
    "plan_prices": "A plan's base price, from the first of a month on.",
    "plan_rates": "A plan's allowance and unit price per resource kind, from the first of a month on.",
    "plan_rate_tiers": "The tiers of graduated and volume rates: up to how many units, at which price.",
    "tenant_plan_prices": "A tenant's own prices of plans, which stand for the list's.",
    "tenant_addon_prices": "A tenant's own prices of addons, which stand for the list's.",
    "tenant_rates": "A tenant's own rates, which stand for the list's.",
    "tenant_rate_tiers": "The tiers of tenants' own rates.",
    "addons": "What is sold beside plans: one row per addon.",
    "addon_prices": "An addon's price, from the first of a month on.",
    "subscriptions": "Which deployment is on which plan, from when to when, and which tenant pays.",
    "subscription_addons": "Which addons a subscription has, from when to when.",
    "usage_records": "What the meters sent: one row per reading.",
}

CLOUD_TABLES = {
    name: dg.AssetSpec(
        key=["cloud", name],
        description=f"{description} Owned by the platform; read only.",
        group_name="cloud",
        kinds={"postgres", "source"},
        owners=["team:platform"],
        metadata={"dagster/table_name": f"cloud.{name}"},
    )
    for name, description in _TABLES.items()
}
"""The specs by table name."""
