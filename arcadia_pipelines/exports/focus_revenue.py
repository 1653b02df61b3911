"""The revenue side of a FOCUS export: one row per line of an issued or paid invoice, and per part of a GST line.

Belongs here: what each column is taken from. Does not: which columns there are (focus_columns.py), and the file
(focus.py). A tenant is a billing account; its deployment is the sub account, and the resource that is charged for.

- plan_base and addon are Usage, Recurring: a month of them is consumed in the month, and 1.2 wants the EffectiveCost of
  a Purchase to be 0. overage is Usage, Usage-Based. tax is Tax.
- adjustment and credit that correct a month are Adjustment, of ChargeClass Correction and the charge period that they
  correct. Each is one sum over plans, addons and overage, so it has no deployment, SKU, quantity or price. They are not
  FOCUS Credits, which are incentives unrelated to other charges. Promotional credit is one, and so is a credit that an
  operator entered; a charge that one entered is an Adjustment. Their charge period is the month that is billed.
- discount and commitment are Adjustments of the month, Recurring, without a SKU, quantity or price. A discount has the
  deployment and the service of what it is off; a commitment is what is missing from a minimum, and is no FOCUS
  commitment discount.
- GST on corrections is a row of its own, of that class and period. The rows of a tax line sum to the line: each is a
  tenth, rounded, and the largest takes the rounding difference.
- SkuId is what is sold. SkuPriceId is where its price stands in the price list: the plan, the addon, or for overage the
  kind and the plan. Before its first slash it says what is priced, if that is not a month or a unit: `plan-day`,
  `overage-package of 10`, `overage-graduated 0 to 100`, `overage-volume over 100, flat fee`, `overage-cap`. As FOCUS
  demands, it is the same for every tenant and stays when the price changes; other tiers, of the list or of a tenant,
  are other prices.
- ContractedUnitPrice is the price that was applied. ListUnitPrice is the list's in effect: of the same SkuPriceId, or
  else of a unit; where a tenant's own price has no counterpart in the list, the two are the same. What a month costs by
  the day is rounded to 10 decimals.
- What follows from other charges does so in ListCost too: a percentage off, and GST, are larger by what those charges
  would be at the list's prices.
- Of packages, PricingQuantity counts packages and ConsumedQuantity the units in them.
"""

from arcadia_pipelines.exports.focus_columns import NOT_HERE, SERVICES, UNITS, null, utc
from arcadia_pipelines.storage.catalogue import ADDON_PRICES, PLAN_PRICES, RATES, TIERS
from arcadia_pipelines.storage.kinds import SUPPLY

# The plans of a deployment's lines on an invoice, in the order of its subscriptions: nearly always one.
_PLANS = """
    select invoice_id, deployment_id, deployment_name,
           array_agg(regexp_replace(description, '^[^:]*: ', '') order by line_no) as plans
    from billing.tenant_invoice_lines where period_start = %(month)s and kind = 'plan_base' group by 1, 2, 3
"""


def _part(of: str, digits: int) -> str:
    """So much of a month as a line's days are, which a plan that does not prorate has all of."""
    return f"""
        case when l.meta ? 'days' then round({of} * split_part(l.meta ->> 'days', ' of ', 1)::numeric
                                                / split_part(l.meta ->> 'days', ' of ', 2)::numeric, {digits})
             else {of} end
    """


def _escaped(plan: str) -> str:
    """The plan's code without a slash: the kind before it may have one."""
    return f"replace(replace({plan}, '%%', '%%25'), '/', '%%2F')"


# The plan of an overage line. Of several it is the one whose rate the line has, or else whose place among the plans is
# that of the line's meter among those of its kind: a meter has a line for each tier.
_PLAN = f"""
    case cardinality(plans) when 1 then plans[1] else (
        select plan from unnest(plans) with ordinality p (plan, nth)
        left join cloud.plans c on c.code = plan
        left join rates r
            on r.plan_id = c.id and r.resource_kind = l.resource_kind
           and r.tenant_id is not distinct from case when l.meta ? 'price_of' then i.tenant_id end
           and r.effective_from = (l.meta ->> 'effective_from')::date
           and r.charge_model = coalesce(l.meta ->> 'model', 'per_unit')
           and (r.unit_price_cents = l.unit_price_cents or l.meta ? 'tier' or l.unit = 'cap')
           and {_part("r.included", 6)} = (l.meta ->> 'included')::numeric
        order by r.plan_id is null, nth <> (
            select count(distinct (o.meta ->> 'used', o.meta ->> 'included',
                                   case when not o.meta ? 'tier' then o.line_no end))
            from billing.tenant_invoice_lines o
            where o.invoice_id = l.invoice_id and o.period_start = l.period_start and o.line_no <= l.line_no
              and (o.kind, o.resource_kind, o.deployment_name) = (l.kind, l.resource_kind, l.deployment_name)
        ), nth limit 1
    ) end
"""
# What a line `l` of an invoice `i` bills: `priced` is what the price is for, where that is not a month or a unit.
_SOLD = f"""
    left join subscribed s on l.kind = 'overage' and s.invoice_id = i.id
        and s.deployment_id is not distinct from l.deployment_id
        and s.deployment_name is not distinct from l.deployment_name
    left join lateral (
        select split_part(l.kind, '_', 1) as word, regexp_replace(l.description, '^[^:]*: ', '') as code,
               case when l.kind <> 'overage' then case l.unit when 'day' then '-day' else '' end
                    when l.unit = 'cap' then '-cap'
                    when l.meta ? 'package_size' then '-package of ' || (l.meta ->> 'package_size')
                    when l.meta ? 'tier' then format('-%%s %%s%%s', l.meta ->> 'model', l.meta ->> 'tier',
                                                     case l.unit when 'flat fee' then ', flat fee' end)
                    else '' end as priced,
               coalesce('/' || {_escaped(f"case when l.kind = 'overage' then {_PLAN} end")}, '') as of_plan
        where l.kind in {SUPPLY}
        offset 0  -- worked out once a row, not once a column
    ) supply on true
"""
# The price list, by SkuPriceId and unit.
_LISTED = f"""
    select price_id, unit, min(cents) as cents
    from (
        select 'plan' || per || '/' || code as price_id, unit, base_price_cents::numeric as cents
        from ({PLAN_PRICES}) p join cloud.plans on id = plan_id
        cross join (values ('', 'month'), ('-day', 'day')) part (per, unit)
        union all
        select 'addon' || per || '/' || code, unit, price_cents
        from ({ADDON_PRICES}) p join cloud.addons on id = addon_id
        cross join (values ('', 'month'), ('-day', 'day')) part (per, unit)
        union all
        select 'overage' || price.priced || '/' || r.resource_kind || '/' || {_escaped("p.code")},
               price.unit, price.cents
        from rates r join cloud.plans p on p.id = r.plan_id
        cross join lateral (
            select '' as priced, r.unit, r.unit_price_cents as cents where r.charge_model = 'per_unit'
            union all
            select format('-package of %%s', trim_scale(r.package_size)),
                   format('package of %%s %%s', trim_scale(r.package_size), r.unit), r.unit_price_cents
            where r.charge_model = 'package'
            union all
            select '-cap', 'cap', r.maximum_cents where r.maximum_cents is not null
            union all
            select format('-%%s %%s%%s', r.charge_model,
                          case when t.up_to is null then format('over %%s', trim_scale(t.lower))
                               else format('%%s to %%s', trim_scale(t.lower), trim_scale(t.up_to)) end, part.fee),
                   coalesce(part.unit, r.unit), part.cents
            from ({TIERS}) t
            cross join lateral (
                values ('', null, t.tier_price_cents), (', flat fee', 'flat fee', t.flat_cents)
            ) part (fee, unit, cents)
            where t.tenant_id is null and t.plan_id = r.plan_id and t.resource_kind = r.resource_kind
        ) price
        where r.tenant_id is null and r.wrong is null
    ) list
    where cents >= 0 group by 1, 2
"""
# The lines at a tenant's own prices: what the list says, in dollars, and how much more that is for the line.
_OWN = f"""
    select l.invoice_id, l.line_no, l.deployment_id, l.deployment_name, l.kind, l.resource_kind, list_price,
           l.qty * (list_price - round(l.unit_price_cents * 0.01 / l.price_per, 10)) as more
    from billing.tenant_invoices i
    join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
    {_SOLD}
    left join listed same on same.price_id = word || priced || '/' || code || of_plan and same.unit = l.unit
    left join listed unit on unit.price_id = word || '/' || code || of_plan and unit.unit = l.unit
    cross join lateral (
        select round(case l.unit when 'cap' then {_part("same.cents", 0)} else coalesce(same.cents, unit.cents) end
                     * 0.01 / l.price_per, 10) as list_price
    ) list
    where i.period_start = %(month)s and i.status in ('issued', 'paid')
      and l.meta ? 'price_of' and list_price is not null
"""
# How much more percentages off and GST would be, at the list's prices.
_MORE = """
    select d.invoice_id, d.line_no, round(d.amount_cents * own.more / charged.dollars * 0.01, 10) as more
    from (
        select invoice_id, deployment_id, deployment_name, kind, resource_kind, sum(more) as more
        from own group by 1, 2, 3, 4, 5
    ) own
    join billing.tenant_invoice_lines d
        on d.invoice_id = own.invoice_id and d.period_start = %(month)s and d.kind = 'discount' and d.meta ? 'percent'
       and d.meta ->> 'of' = own.kind and d.resource_kind is not distinct from own.resource_kind
       and d.deployment_id is not distinct from own.deployment_id
       and d.deployment_name is not distinct from own.deployment_name
    cross join lateral (
        select sum(c.amount_cents) * 0.01 as dollars from billing.tenant_invoice_lines c
        where c.invoice_id = d.invoice_id and c.period_start = d.period_start and c.kind = own.kind
          and c.resource_kind is not distinct from d.resource_kind
          and c.deployment_id is not distinct from d.deployment_id
          and c.deployment_name is not distinct from d.deployment_name
    ) charged
"""
_GST_MORE = """
    select invoice_id, round(sum(more) / 10, 10) as more
    from (select invoice_id, more from own union all select invoice_id, more from off) changed group by 1
"""
# What the GST of an invoice with corrections is charged on: this month, where `corrects` is null, and each corrected
# month. A correction has `taxable` if it is not taxed like the rest of its invoice.
_GST = """
    with corrections as (
        select invoice_id, (meta ->> 'corrects')::date as corrects, meta ->> 'invoice_number' as number,
               sum(amount_cents) as cents, meta ->> 'taxable' as taxable
        from billing.tenant_invoice_lines
        where period_start = %(month)s and kind <> 'tax' and meta ? 'corrects' group by 1, 2, 3, 5
    ),
    taxed as (
        select c.invoice_id, c.corrects, c.number, sum(c.cents) as cents
        from corrections c join billing.tenant_invoices i on i.id = c.invoice_id
        where coalesce(c.taxable = 'true', not i.meta ? 'gst_free_reason') group by 1, 2, 3
    ),
    parts as (
        select invoice_id, corrects, number, cents from taxed
        union all
        select l.invoice_id, null, null, (l.meta ->> 'taxable_cents')::numeric - sum(t.cents)
        from billing.tenant_invoice_lines l join taxed t using (invoice_id)
        where l.period_start = %(month)s and l.kind = 'tax' group by l.invoice_id, l.period_start, l.id
    )
    select invoice_id, corrects, number, round(cents / 10) as cents,
           sum(round(cents / 10)) over (partition by invoice_id) as sum_cents,
           row_number() over (partition by invoice_id order by abs(cents) desc, corrects nulls first, number) as rank
    from parts where cents <> 0
"""


REVENUE = f"""
    with subscribed as ({_PLANS}), gst as ({_GST}), rates as materialized ({RATES}),
    listed as materialized ({_LISTED}), own as materialized ({_OWN}), off as materialized ({_MORE}),
    gst_more as ({_GST_MORE})
    select i.tenant_id collate "C" as place, l.line_no as part,
           billed as "BilledCost", cost as "EffectiveCost", list_cost as "ListCost", cost as "ContractedCost",
           listed_at as "ListUnitPrice", price as "ContractedUnitPrice",
           listed_at as "PricingCurrencyListUnitPrice", price as "PricingCurrencyContractedUnitPrice",
           cost as "PricingCurrencyEffectiveCost", i.currency as "PricingCurrency",
           i.tenant_id as "BillingAccountId", coalesce(i.meta ->> 'tenant_name', i.tenant_id) as "BillingAccountName",
           i.currency as "BillingCurrency", i.invoice_number as "InvoiceId",
           {utc("i.period_start")} as "BillingPeriodStart", {utc("i.period_end")} as "BillingPeriodEnd",
           {utc("coalesce(corrected, i.period_start)")} as "ChargePeriodStart",
           {utc("coalesce(corrected + interval '1 month', i.period_end)")} as "ChargePeriodEnd",
           case when is_supply then 'Usage' when l.kind = 'tax' then 'Tax'
                when l.kind = 'credit' and corrected is null then 'Credit' else 'Adjustment' end as "ChargeCategory",
           case when corrected is not null then 'Correction' end as "ChargeClass",
           l.description || coalesce(to_char(gst.corrects, ': YYYY-MM, ') || gst.number, '') as "ChargeDescription",
           case when l.kind = 'overage' then 'Usage-Based'
                when l.kind in ('credit', 'adjustment') or corrected is not null then 'One-Time'
                else 'Recurring' end as "ChargeFrequency",
           case when in_packages then (l.meta ->> 'used')::numeric - (l.meta ->> 'included')::numeric
                when is_supply then l.qty end as "ConsumedQuantity",
           case when is_supply then l.qty end as "PricingQuantity",
           case when is_supply then coalesce(unit.theirs, counted) end as "ConsumedUnit",
           case when in_packages and l.meta ->> 'package_size' !~ '[.]'
                    then (l.meta ->> 'package_size') || ' ' || coalesce(unit.theirs, counted)
                when in_packages then l.unit
                when is_supply then coalesce(unit.theirs, counted) end as "PricingUnit",
           case when is_supply then 'Standard' end as "PricingCategory",
           'Arcadia' as "ProviderName", 'Arcadia' as "PublisherName", 'Arcadia' as "InvoiceIssuerName",
           l.deployment_id as "ResourceId", l.deployment_id as "SubAccountId",
           case when l.deployment_id is not null then l.deployment_name end as "ResourceName",
           case when l.deployment_id is not null then l.deployment_name end as "SubAccountName",
           case when l.deployment_id is not null then 'Deployment' end as "ResourceType",
           coalesce(service.category, 'Other') as "ServiceCategory", sold as "ServiceName",
           coalesce(service.subcategory, 'Other (Other)') as "ServiceSubcategory",
           word || '/' || code as "SkuId", word || priced || '/' || code || of_plan as "SkuPriceId",
           case when is_supply then sold end as "SkuMeter",
           l.deployment_id as "x_DeploymentId", l.deployment_name as "x_DeploymentName",
           l.line_no as "x_InvoiceLineNumber", l.resource_kind as "x_ResourceKind", i.tenant_id as "x_TenantId",
           l.meta ->> 'included' as "x_IncludedQuantity", l.meta ->> 'used' as "x_UsedQuantity",
           {null(NOT_HERE)}
    from billing.tenant_invoices i
    join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
    {_SOLD}
    left join gst on l.kind = 'tax' and gst.invoice_id = i.id
    left join gst_more on l.kind = 'tax' and gst.corrects is null and gst_more.invoice_id = i.id
    left join own on own.invoice_id = i.id and own.line_no = l.line_no
    left join off on off.invoice_id = i.id and off.line_no = l.line_no
    cross join lateral (
        select coalesce(case gst.rank when 1 then l.amount_cents - (gst.sum_cents - gst.cents) else gst.cents end,
                        l.amount_cents) * 0.01 as billed,
               word is not null as is_supply, priced like '-package%%' as in_packages,
               regexp_replace(l.unit, '^package of [0-9.]+ ', '') as counted,
               coalesce(l.resource_kind, case l.kind when 'discount' then l.meta ->> 'of' end, l.kind) as sold,
               coalesce(gst.corrects, (l.meta ->> 'corrects')::date) as corrected,
               case when word is not null then round(l.unit_price_cents * 0.01 / l.price_per, 10) end as price
        offset 0  -- worked out once a row, not once a column
    ) line
    cross join lateral (
        select coalesce(own.list_price, price) as listed_at, coalesce(l.qty * price, billed) as cost,
               coalesce(l.qty * coalesce(own.list_price, price),
                        billed + coalesce(off.more, gst_more.more, 0)) as list_cost
    ) costs
    left join {SERVICES} on service.kind = sold
    left join {UNITS} on unit.ours = lower(counted)
    where i.period_start = %(month)s and i.status in ('issued', 'paid')
"""
"""The rows, in the order of place and part. Takes `month`."""
