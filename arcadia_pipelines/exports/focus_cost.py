"""The cost side of a FOCUS export: one row per row of cost_allocations, an item of the bill or a deployment's part.

Belongs here: what each column is taken from. Does not: which columns there are (focus_columns.py), and the file
(focus.py). The provider's project is the sub account.

- Items that are neither tax nor named a credit, an adjustment, a discount or a promotion are Usage, refunds too. A
  refund for an earlier month is a Correction. A restated bill replaces its month, and makes nothing a Correction.
- SkuId and SkuPriceId are the product, and the size that the item names, like Droplets/s-1vcpu-1gb; the bill has no
  unit prices, so those are null. A quantity is the item's duration, or one item where the bill gives none; a part has
  its share of it, to 6 decimals.
- An item that ends at 23:59:59 ends with that second, at midnight.
- The bill does not name our account with the provider: BillingAccountId is `arcadia`. An InvoiceId that the provider
  did not give (a CSV has none) is made of the provider and the month.
"""

from arcadia_pipelines.exports.focus_columns import NOT_HERE, SERVICES, UNITS, null, utc
from arcadia_pipelines.storage.catalogue import EVERY_DEPLOYMENT

_NOT_ON_THE_BILL = (
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
    "ResourceName",
)

COST = f"""
    select a.line_no as place, a.part,
           billed as "BilledCost", billed as "EffectiveCost", billed as "ListCost", billed as "ContractedCost",
           'arcadia' as "BillingAccountId", 'Arcadia' as "BillingAccountName", b.currency as "BillingCurrency",
           billed as "PricingCurrencyEffectiveCost", b.currency as "PricingCurrency",
           coalesce(b.invoice_uuid, b.provider || to_char(b.period_start, '-YYYY-MM')) as "InvoiceId",
           {utc("b.period_start")} as "BillingPeriodStart",
           {utc("b.period_start + interval '1 month'")} as "BillingPeriodEnd",
           i.started_at as "ChargePeriodStart", until as "ChargePeriodEnd",
           case when is_usage then 'Usage' when i.kind = 'tax' then 'Tax'
                when i.amount_cents < 0 and named ~* '\\y(credits?|discounts?|promotions?)\\y' then 'Credit'
                else 'Adjustment' end as "ChargeCategory",
           case when is_usage and i.amount_cents < 0 and until <= {utc("b.period_start")}
                then 'Correction' end as "ChargeClass",
           i.description as "ChargeDescription",
           case when is_usage then 'Usage-Based' when i.kind = 'tax' then 'Recurring' else 'One-Time' end
               as "ChargeFrequency",
           used as "ConsumedQuantity", used as "PricingQuantity",
           used_unit as "ConsumedUnit", used_unit as "PricingUnit",
           case when is_usage then 'Standard' end as "PricingCategory",
           'DigitalOcean' as "ProviderName", 'DigitalOcean' as "PublisherName", 'DigitalOcean' as "InvoiceIssuerName",
           resource as "ResourceId", case when resource is not null then i.product end as "ResourceType",
           coalesce(service.category, 'Other') as "ServiceCategory", i.product as "ServiceName",
           coalesce(service.subcategory, 'Other (Other)') as "ServiceSubcategory",
           sku as "SkuId", sku as "SkuPriceId", case when is_usage then i.product end as "SkuMeter",
           i.project_name as "SubAccountId", i.project_name as "SubAccountName",
           a.deployment_id as "x_DeploymentId", d.name as "x_DeploymentName",
           a.line_no as "x_InvoiceLineNumber", k.resource_kind as "x_ResourceKind", a.tenant_id as "x_TenantId",
           a.allocated_by as "x_AllocatedBy", a.aud_cents * 0.01 as "x_BilledCostInAud",
           {null(NOT_HERE + _NOT_ON_THE_BILL)}
    from billing.cloud_invoices b
    join (select *, concat_ws(' ', product, category) as named from billing.cloud_invoice_items) i using (period_start)
    join billing.cost_allocations a using (period_start, line_no)
    left join billing.product_kinds k using (product)
    left join ({EVERY_DEPLOYMENT}) d on d.id = a.deployment_id
    left join {SERVICES} on service.kind = k.resource_kind
    left join {UNITS} on unit.ours = lower(rtrim(i.duration_unit, 'sS'))
    cross join lateral (
        select a.usd_cents * 0.01 as billed, coalesce(i.resource_uuid, i.resource_id) as resource,
               i.kind = 'usage' or i.kind = 'credit'
                   and named !~* '\\y(credits?|adjustments?|discounts?|promotions?)\\y' as is_usage,
               case when (i.ended_at at time zone 'UTC')::time >= '23:59:59'
                    then date_trunc('second', i.ended_at + interval '1 second') else i.ended_at end as until
    ) item
    cross join lateral (
        select case when is_usage then round(coalesce(i.duration, 1) * a.weight / a.of_weight, 6) end as used,
               case when is_usage then case when i.duration is null then 'Items'
                                            else coalesce(unit.theirs, i.duration_unit, 'Units') end end as used_unit,
               case when is_usage then concat_ws(
                   '/', i.product, substring(i.description from '[(]([a-z0-9.-]+)[)](?: [Rr]efund.*)?$')) end as sku
    ) usage
    where b.period_start = %(month)s
"""
"""The rows, in the order of place and part. Takes `month`."""
