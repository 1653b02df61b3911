"""A month in the FinOps Foundation's FOCUS format, version 1.2: what tenants were billed, and what the provider billed.

Belongs here: which of our columns is which FOCUS column, and the file. Does not: the command (cli/export.py).
What each column means is at https://focus.finops.org; `make focus` has the official validator check ours.

Both sides:

- BilledCost is what the invoice says, to the cent, and sums to it. ListCost, ContractedCost and EffectiveCost are
  quantity x unit price, unrounded: FOCUS requires that product if both are given, and rounding is not part of a price.
  Discounts are lines of their own, and prices are in the currency of the bill.
- Columns for what does not exist or is not known (commitment discounts, regions, tags) are present and null: FOCUS 1.0
  requires them, 1.2 allows them.
- x_ columns are ours. x_DeploymentId, x_TenantId and x_ResourceKind mean the same on both sides.
- In a CSV texts are quoted, and a formula in one begins with an apostrophe, as in every sheet (sheets.py). Parquet has
  texts as they are.

Revenue, one row per line of an issued or paid invoice; a tax line that also taxes corrections has a row per part. A
tenant is a billing account; its deployment is the sub account, and the resource that is charged for.

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
  kind and the plan. It stays when the price changes, and is the same for every tenant.

Cost, one row per row of cost_allocations: the provider's item, or a deployment's part of one. The provider's project is
the sub account.

- Items that are neither tax nor named a credit, an adjustment, a discount or a promotion are Usage, refunds too. A
  refund for an earlier month is a Correction. A restated bill replaces its month, and makes nothing a Correction.
- SkuId and SkuPriceId are the product, and the size that the item names, like Droplets/s-1vcpu-1gb; the bill has no
  unit prices, so those are null. A quantity is the item's duration, or one item where the bill gives none; a part has
  its share of it, to 6 decimals.
- An item that ends at 23:59:59 ends with that second, at midnight.
- The bill does not name our account with the provider: BillingAccountId is `arcadia`. An InvoiceId that the provider
  did not give (a CSV has none) is made of the provider and the month.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import COUNT, QUANTITY, QUANTITY_SUM, TEXT, dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.exports import sheets
from arcadia_pipelines.storage import ledger
from arcadia_pipelines.storage.catalogue import EVERY_DEPLOYMENT
from arcadia_pipelines.storage.database import driver
from arcadia_pipelines.storage.kinds import SUPPLY

Side = Literal["revenue", "cost"]
SIDES: tuple[Side, ...] = get_args(Side)
ENDINGS = (".csv", ".parquet")

_BLOCK_BYTES = 4 * 1024 * 1024
_INSTANT = pa.timestamp("us", "UTC")
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
    **dict.fromkeys(("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"), _INSTANT),
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
_NOT_HERE = _names("""
    CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName CommitmentDiscountStatus
    CommitmentDiscountType RegionId RegionName SkuPriceDetails Tags
""")
_FIXED_WORDS = _names("""
    BillingCurrency ChargeCategory ChargeClass ChargeFrequency InvoiceIssuerName PricingCategory PricingCurrency
    ProviderName PublisherName ServiceCategory ServiceSubcategory
""")
"""Text columns whose words are in this file. The words in others were written by somebody else."""
_NOT_ON_THE_BILL = _names("""
    ContractedUnitPrice ListUnitPrice PricingCurrencyContractedUnitPrice PricingCurrencyListUnitPrice ResourceName
""")


def _null(columns: tuple[str, ...]) -> str:
    return ", ".join(f'null as "{name}"' for name in columns)


def _utc(date: str) -> str:
    """The date's first instant, in whatever zone the session is."""
    return f"({date})::timestamp at time zone 'UTC'"


# The service category of each resource kind, from FOCUS's list; kinds that are not here are Other.
_SERVICES = """
    (values ('plan_base', 'Compute', 'Other (Compute)'), ('droplet_hours', 'Compute', 'Virtual Machines'),
            ('kubernetes', 'Compute', 'Containers'), ('databases', 'Databases', 'Other (Databases)'),
            ('egress_gb', 'Networking', 'Other (Networking)'), ('reserved_ip', 'Networking', 'Other (Networking)'),
            ('load_balancer', 'Networking', 'Application Networking'), ('backups', 'Storage', 'Backup Storage'),
            ('object_storage', 'Storage', 'Object Storage'), ('storage_gb_months', 'Storage', 'Block Storage')
    ) as service (kind, category, subcategory)
"""
# Units as FOCUS spells them; others stay as they are.
_UNITS = """
    (values ('second', 'Seconds'), ('minute', 'Minutes'), ('hour', 'Hours'), ('day', 'Days'), ('month', 'Months'),
            ('gb-month', 'GB-Months'), ('gb-hour', 'GB-Hours')
    ) as unit (ours, theirs)
"""

# The plans of a deployment's lines on an invoice, in the order of its subscriptions: nearly always one.
_PLANS = """
    select invoice_id, deployment_id, deployment_name,
           array_agg(regexp_replace(description, '^[^:]*: ', '') order by line_no) as plans
    from billing.tenant_invoice_lines where period_start = %(month)s and kind = 'plan_base' group by 1, 2, 3
"""
# The plan of an overage line. Of several it is the one whose rate the line has, or else whose place among the plans is
# the line's among those of its kind. A slash in it is escaped, as the kind before it may have one.
_PLAN = """
    replace(replace(case cardinality(plans) when 1 then plans[1] else (
        select plan from unnest(plans) with ordinality p (plan, nth)
        left join cloud.plans c on c.code = plan
        left join cloud.plan_rates r
            on r.plan_id = c.id and r.resource_kind = l.resource_kind and r.unit_price_cents = l.unit_price_cents
           and r.effective_from = (l.meta ->> 'effective_from')::date
           and r.included_quantity = (l.meta ->> 'included')::numeric
        order by r.plan_id is null, nth <> (
            select count(*) from billing.tenant_invoice_lines o
            where o.invoice_id = l.invoice_id and o.period_start = l.period_start and o.line_no <= l.line_no
              and (o.kind, o.resource_kind, o.deployment_name) = (l.kind, l.resource_kind, l.deployment_name)
        ), nth limit 1
    ) end, '%%', '%%25'), '/', '%%2F')
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

_REVENUE = f"""
    with subscribed as ({_PLANS}), gst as ({_GST})
    select i.tenant_id collate "C" as place, l.line_no as part,
           billed as "BilledCost", cost as "EffectiveCost", cost as "ListCost", cost as "ContractedCost",
           price as "ListUnitPrice", price as "ContractedUnitPrice",
           price as "PricingCurrencyListUnitPrice", price as "PricingCurrencyContractedUnitPrice",
           cost as "PricingCurrencyEffectiveCost", i.currency as "PricingCurrency",
           i.tenant_id as "BillingAccountId", coalesce(i.meta ->> 'tenant_name', i.tenant_id) as "BillingAccountName",
           i.currency as "BillingCurrency", i.invoice_number as "InvoiceId",
           {_utc("i.period_start")} as "BillingPeriodStart", {_utc("i.period_end")} as "BillingPeriodEnd",
           {_utc("coalesce(corrected, i.period_start)")} as "ChargePeriodStart",
           {_utc("coalesce(corrected + interval '1 month', i.period_end)")} as "ChargePeriodEnd",
           case when is_supply then 'Usage' when l.kind = 'tax' then 'Tax'
                when l.kind = 'credit' and corrected is null then 'Credit' else 'Adjustment' end as "ChargeCategory",
           case when corrected is not null then 'Correction' end as "ChargeClass",
           l.description || coalesce(to_char(gst.corrects, ': YYYY-MM, ') || gst.number, '') as "ChargeDescription",
           case when l.kind = 'overage' then 'Usage-Based'
                when l.kind in ('credit', 'adjustment') or corrected is not null then 'One-Time'
                else 'Recurring' end as "ChargeFrequency",
           supplied as "ConsumedQuantity", supplied as "PricingQuantity",
           case when is_supply then coalesce(unit.theirs, l.unit) end as "ConsumedUnit",
           case when is_supply then coalesce(unit.theirs, l.unit) end as "PricingUnit",
           case when is_supply then 'Standard' end as "PricingCategory",
           'Arcadia' as "ProviderName", 'Arcadia' as "PublisherName", 'Arcadia' as "InvoiceIssuerName",
           l.deployment_id as "ResourceId", l.deployment_id as "SubAccountId",
           case when l.deployment_id is not null then l.deployment_name end as "ResourceName",
           case when l.deployment_id is not null then l.deployment_name end as "SubAccountName",
           case when l.deployment_id is not null then 'Deployment' end as "ResourceType",
           coalesce(service.category, 'Other') as "ServiceCategory", sold as "ServiceName",
           coalesce(service.subcategory, 'Other (Other)') as "ServiceSubcategory",
           sku as "SkuId", case when is_supply then sold end as "SkuMeter",
           sku || coalesce('/' || case when l.kind = 'overage' then {_PLAN} end, '') as "SkuPriceId",
           l.deployment_id as "x_DeploymentId", l.deployment_name as "x_DeploymentName",
           l.line_no as "x_InvoiceLineNumber", l.resource_kind as "x_ResourceKind", i.tenant_id as "x_TenantId",
           l.meta ->> 'included' as "x_IncludedQuantity", l.meta ->> 'used' as "x_UsedQuantity",
           {_null(_NOT_HERE)}
    from billing.tenant_invoices i
    join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
    left join subscribed s on l.kind = 'overage' and s.invoice_id = i.id
        and s.deployment_id is not distinct from l.deployment_id
        and s.deployment_name is not distinct from l.deployment_name
    left join gst on l.kind = 'tax' and gst.invoice_id = i.id
    cross join lateral (
        select coalesce(case gst.rank when 1 then l.amount_cents - (gst.sum_cents - gst.cents) else gst.cents end,
                        l.amount_cents) * 0.01 as billed,
               l.kind in {SUPPLY} as is_supply,
               coalesce(l.resource_kind, case l.kind when 'discount' then l.meta ->> 'of' end, l.kind) as sold,
               coalesce(gst.corrects, (l.meta ->> 'corrects')::date) as corrected
        offset 0  -- worked out once a row, not once a column
    ) line
    cross join lateral (
        select case when is_supply then l.qty end as supplied,
               case when is_supply then l.unit_price_cents * 0.01 / l.price_per end as price,
               case when is_supply then l.qty * l.unit_price_cents * 0.01 / l.price_per else billed end as cost,
               case when is_supply
                    then split_part(l.kind, '_', 1) || '/' || regexp_replace(l.description, '^[^:]*: ', '') end as sku
        offset 0
    ) supply
    left join {_SERVICES} on service.kind = sold
    left join {_UNITS} on unit.ours = lower(l.unit)
    where i.period_start = %(month)s and i.status in ('issued', 'paid')
"""

_COST = f"""
    select a.line_no as place, a.part,
           billed as "BilledCost", billed as "EffectiveCost", billed as "ListCost", billed as "ContractedCost",
           'arcadia' as "BillingAccountId", 'Arcadia' as "BillingAccountName", b.currency as "BillingCurrency",
           billed as "PricingCurrencyEffectiveCost", b.currency as "PricingCurrency",
           coalesce(b.invoice_uuid, b.provider || to_char(b.period_start, '-YYYY-MM')) as "InvoiceId",
           {_utc("b.period_start")} as "BillingPeriodStart",
           {_utc("b.period_start + interval '1 month'")} as "BillingPeriodEnd",
           i.started_at as "ChargePeriodStart", until as "ChargePeriodEnd",
           case when is_usage then 'Usage' when i.kind = 'tax' then 'Tax'
                when i.amount_cents < 0 and named ~* '\\y(credits?|discounts?|promotions?)\\y' then 'Credit'
                else 'Adjustment' end as "ChargeCategory",
           case when is_usage and i.amount_cents < 0 and until <= {_utc("b.period_start")}
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
           {_null(_NOT_HERE + _NOT_ON_THE_BILL)}
    from billing.cloud_invoices b
    join (select *, concat_ws(' ', product, category) as named from billing.cloud_invoice_items) i using (period_start)
    join billing.cost_allocations a using (period_start, line_no)
    left join billing.product_kinds k using (product)
    left join ({EVERY_DEPLOYMENT}) d on d.id = a.deployment_id
    left join {_SERVICES} on service.kind = k.resource_kind
    left join {_UNITS} on unit.ours = lower(rtrim(i.duration_unit, 'sS'))
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
_ROWS = {"revenue": _REVENUE, "cost": _COST}

_SUMS = {
    "revenue": """
        select i.invoice_number as name, i.total_cents as cents, coalesce(sum(l.amount_cents), 0)::bigint as lines_cents
        from billing.tenant_invoices i
        left join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
        where i.period_start = %(month)s and i.status in ('issued', 'paid')
        group by i.id
    """,
    "cost": """
        select 'the bill' as name, b.total_cents as cents, coalesce(sum(a.usd_cents), 0)::bigint as lines_cents
        from billing.cloud_invoices b left join billing.cost_allocations a using (period_start)
        where b.period_start = %(month)s
        group by b.period_start
    """,
}
"""One row per invoice: its total, and the sum of its exported rows."""

_HARMLESS = {"before_formula": sheets.BEFORE_FORMULA, "with_apostrophe": sheets.WITH_APOSTROPHE}
_CONVERT = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}


class NotExported(ArcadiaError):
    """The month cannot be exported; the message says why and what to do. No file was written."""


class Exported(NamedTuple):
    """What was written."""

    rows: int
    invoices: int
    cents: int
    currency: str


def schema(side: Side) -> pa.Schema:
    """The side's columns: FOCUS's, then ours."""
    return pa.schema([(name, _TYPES.get(name, TEXT)) for name in (*_FOCUS_COLUMNS, *_OUR_COLUMNS[side])])


def export(connection: Connection, month: BillingMonth, side: Side, out: Path) -> Exported:
    """Write the month's side to the file, CSV or Parquet by its name's ending, in the order of tenants and lines.

    The connection sees one state throughout (database.snapshot). The file appears whole, in place of one that was
    there, or not at all. Raises NotExported, StorageError and OSError.
    """
    invoices, cents = _checked_sums(connection, month, side)
    with tempfile.TemporaryDirectory(prefix=".arcadia-export-", dir=out.parent) as folder:
        written = Path(folder, "focus.csv")
        as_parquet = out.suffix.lower() == ".parquet"
        rows = _copy(connection, month, side, written, _text if as_parquet else _harmless_text)
        if as_parquet:
            written = _to_parquet(written, schema(side))
        os.replace(written, out)
    return Exported(rows, invoices, cents, "AUD" if side == "revenue" else "USD")


def _checked_sums(connection: Connection, month: BillingMonth, side: Side) -> tuple[int, int]:
    """How many invoices there are, and their total, which the exported rows sum to. Raises NotExported."""
    check = f"""
        select count(*), coalesce(sum(cents), 0)::bigint,
               min(array[name, cents::text, lines_cents::text]) filter (where cents <> lines_cents)
        from ({_SUMS[side]}) s
    """
    if side == "revenue" and not ledger.is_invoiced(connection, month):
        raise NotExported(ledger.why_not_invoiced(month))
    count, cents, differs = connection.exec_driver_sql(check, {"month": month.start}).one()
    if side == "cost" and not count:
        raise NotExported(f"there is no bill of the provider's for {month}: import it (`arcadia costs import`)")
    if differs:
        name, total, lines = differs
        advice = f"run `arcadia audit {month}`" if side == "revenue" else "allocate the bill again"
        sums = f"{name} comes to {dollars(int(total))}, and what is exported of it to {dollars(int(lines))}"
        raise NotExported(f"{month}: {sums}: {advice}")
    return count, cents


def _copy(connection: Connection, month: BillingMonth, side: Side, to: Path, text: Callable[[str], str]) -> int:
    """Write the rows as PostgreSQL's CSV, with texts quoted and null as nothing; returns how many."""
    columns = ", ".join(f'{_spelled(field, text)} as "{field.name}"' for field in schema(side))
    texts = [field.name for field in schema(side) if field.type == TEXT]
    others = [name for name in texts if name not in (*_FIXED_WORDS, *_NOT_HERE)]
    statement = f"""
        copy (
            select {columns} from ({_ROWS[side]}) q
            cross join lateral (
                select ';' || concat_ws(';', {_quoted(others)}) ~ %(before_formula)s as has_formula offset 0
            ) r
            order by q.place, q.part, q."ChargePeriodStart" desc, q."ChargeDescription"
        ) to stdout with (format csv, header, force_quote ({_quoted(texts)}))
    """
    with driver(connection).cursor() as cursor, to.open("wb") as file:
        with cursor.copy(statement, {"month": month.start, **_HARMLESS}) as parts:
            for part in parts:
                file.write(part)
        return cursor.rowcount


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _spelled(field: pa.Field, text: Callable[[str], str]) -> str:
    """The column as text in FOCUS's formats: instants in UTC, amounts with two decimals or as many as they need."""
    column = f'q."{field.name}"'
    if field.type == _INSTANT:
        return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    if pa.types.is_decimal(field.type):
        return f"round({column}::numeric, greatest(min_scale({column}::numeric), 2))"
    return text(column) if field.type == TEXT and field.name not in _FIXED_WORDS else column


def _text(column: str) -> str:
    return column


def _harmless_text(column: str) -> str:
    """The column without a formula that a spreadsheet would run (sheets.py). Few rows have one: a test is quicker."""
    harmless = f"substr(regexp_replace(';' || {column}, %(before_formula)s, %(with_apostrophe)s, 'g'), 2)"
    return f"case when r.has_formula then {harmless} else {column}::text end"


def _to_parquet(written: Path, columns: pa.Schema) -> Path:
    """The CSV's rows as Parquet beside it, a block at a time. Raises pyarrow.ArrowInvalid rather than lose a digit."""
    parquet = written.with_suffix(".parquet")
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    convert = pa.csv.ConvertOptions(column_types=columns, **_CONVERT)
    read = pa.csv.ReadOptions(block_size=_BLOCK_BYTES)
    with (
        pa.csv.open_csv(written, read_options=read, parse_options=parse, convert_options=convert) as batches,
        pa.parquet.ParquetWriter(parquet, columns) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return parquet
