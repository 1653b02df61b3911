"""Lost rows and tables: what must have existed, because rows of other tables imply it.

Belongs here: what the rows of one table imply about the others, and refusing to go on without what is lost. Does not:
whether the rows that exist are right (proof/audit.py), and putting lost ones back (proof/rebuild.py).
"""

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import ledger
from arcadia_pipelines.storage.ledger import MONTHS_OF, OURS
from arcadia_pipelines.storage.months import ATTACHED, PARTITION_FAULTS, LostRows

_PARTITIONED = {
    "metered_usage": "frozen usage",
    "deployment_quote_lines": "quote lines",
    "tenant_invoice_lines": "invoice lines",
}
"""The tables with a partition a month, in the order in which a month fills them."""
TELLS_OF = {
    "billing_months": 1,
    "passed_controls": 1,
    "usage_acceptances": 1,
    "usage_ahead": 1,
    "metered_usage": 1,
    "quoted_tenants": 2,
    "quote_faults": 2,
    "unbilled_usage": 2,
    "unbilled_acceptances": 2,
    "missing_tenant_acceptances": 2,
    "deployment_quote_lines": 2,
    "billed_subscriptions": 3,
    "invoiced_tenants": 3,
    "invoice_corrections": 3,
    "invoice_events": 3,
    "tenant_invoices": 3,
    "tenant_invoice_lines": 3,
}
"""What rows of a month in a table imply: that the month was frozen (1), also quoted (2), also published (3)."""


def _rows(table: str) -> str:
    ours = f" and {OURS}" if table == "tenant_invoices" else ""
    return f"(select count(*) from billing.{table} where period_start = %(month)s{ours})"


def _told(table: str, step: int) -> str:
    return f"select '{table}' as table_name, {step} as step, {_rows(table)} as rows"


_STEPS = ", ".join(f"('{table}', '{what}', {step})" for step, (table, what) in enumerate(_PARTITIONED.items(), start=1))
_STRAYS = " union ".join(
    f"select '{table}' as table_name, tableoid from billing.{table} where period_start = %(month)s"
    for table in _PARTITIONED
)
_TELLING = "string_agg(told.rows || ' rows of ' || told.table_name, ', ' order by told.step desc, told.table_name)"

# The invoice existed when these rows were written, and no invoice is ever deleted.
_WITHOUT_INVOICE = """
    select tenant_id, told_by
    from (
        select tenant_id, 'billed_subscriptions' as told_by from billing.billed_subscriptions
        where period_start = %(month)s
        union
        select tenant_id, 'invoiced_tenants' from billing.invoiced_tenants where period_start = %(month)s
        union
        select tenant_id, 'invoice_corrections' from billing.invoice_corrections where period_start = %(month)s
    ) told
    where not exists (select from billing.tenant_invoices i
                      where i.tenant_id = told.tenant_id and i.period_start = %(month)s)
"""
_COSTS = ("cloud_invoices", "cloud_invoice_documents", "cloud_invoice_items", "month_costs", "cost_allocations")
_COSTS_MISSING = f"""
    select 'the provider''s bill: there is no row of cloud_invoices' as missing, string_agg(table_name, ', ') as told_by
    from ({" union all ".join(_told(table, 0) for table in _COSTS)}) c
    where rows > 0 having not bool_or(table_name = 'cloud_invoices')
    union all
    select (revision - documents) || ' rows of cloud_invoice_documents', 'cloud_invoices, by its revision ' || revision
    from bill where revision > documents
    union all
    select (item_count - items) || ' rows of cloud_invoice_items', 'cloud_invoices, by its item_count ' || item_count
    from bill where item_count > items
    union all
    select 'the rows of cost_allocations', 'month_costs' from bill
    where usd_cents is not null and items > 0 and allocations = 0
    union all
    select 'the rate of exchange: there is no row of fx_rates', 'month_costs' from bill
    where usd_per_aud is not null and not exists (select from billing.fx_rates where period_start = %(month)s)
"""
MISSING = rf"""
    with told as (select * from ({" union all ".join(_told(*told) for told in TELLS_OF.items())}) t where rows > 0),
    partitions as (
        select p.table_name, p.what, p.step, f.fault
        from (values {_STEPS}) p (table_name, what, step)
        join ({PARTITION_FAULTS.format(wanted="select %(month)s::date as period_start")}) f on f.name = p.table_name
    ),
    written as (
        select m[1] as table_name, m[2]::bigint as rows
        from billing.billing_months b
        cross join regexp_matches(concat_ws(', ', b.frozen_rows, b.quoted_rows, b.invoiced_rows), '(\w+) (\d+) ', 'g') m
        where b.period_start = %(month)s
    ),
    bill as (
        select b.revision, b.item_count, m.usd_cents, m.usd_per_aud, {_rows("cloud_invoice_documents")} as documents,
               {_rows("cloud_invoice_items")} as items, {_rows("cost_allocations")} as allocations
        from billing.cloud_invoices b left join billing.month_costs m using (period_start)
        where b.period_start = %(month)s
    ),
    without_invoice as ({_WITHOUT_INVOICE}),
    missing as (
        select step, 'the ' || what || ': ' || fault as missing,
               (select {_TELLING} from told where told.step >= p.step) as told_by
        from partitions p where fault is not null
        union all
        select 1, 'the usage cut-off: there is no row of billing_months', (select {_TELLING} from told)
        where not exists (select from billing.billing_months where period_start = %(month)s)
        union all
        select 5, (w.rows - coalesce(told.rows, 0)) || ' rows of ' || table_name,
               'billing_months, by which there were ' || w.rows
        from written w left join told using (table_name)
        where w.rows > coalesce(told.rows, 0) and table_name <> 'tenant_invoices'
          and table_name not in (select table_name from partitions where fault is not null)
        union all
        select 4, 'the invoice of tenant ' || tenant_id, string_agg(told_by, ', ' order by told_by)
        from without_invoice group by tenant_id
        union all
        select 6, 'rows of ' || table_name || ' in the partition of their month',
               'they are in ' || tableoid::regclass::text
        from ({_STRAYS}) s
        where tableoid is distinct from to_regclass(
            'billing.' || table_name || '_' || to_char(%(month)s::date, 'YYYY_MM'))
        union all
        select 7, missing, told_by from ({_COSTS_MISSING}) c
    )
    select missing, told_by from missing where told_by is not null order by step, missing
"""
"""What a month has lost, and the rows that imply it. Takes `month`."""

# Also a table that was a partition once and is detached now.
_TRACED = rf"""
    select period_start from ({ATTACHED}) a
    union {" union ".join(MONTHS_OF.format(table) for table in (*TELLS_OF, *_COSTS) if table not in _PARTITIONED)}
    union
    select to_date(right(c.relname, 7), 'YYYY_MM') from pg_catalog.pg_class c
    where c.relnamespace = 'billing'::regnamespace and c.relkind in ('r', 'p', 'f')
      and c.relname ~ '^({"|".join(_PARTITIONED)})_[0-9]{{4}}_(0[1-9]|1[0-2])$'
"""
_WITHOUT_LINES = f"""
    select period_start, fault from ({PARTITION_FAULTS.format(wanted=ledger.INVOICED_MONTHS)}) f
    where name = 'tenant_invoice_lines' and fault is not null order by period_start
"""


_TOLD_UNFROZEN = f"""
    select table_name from ({" union all ".join(_told(*told) for told in TELLS_OF.items())}) told
    where rows > 0 and not exists (select from billing.billing_months where period_start = %(month)s)
    order by step desc, table_name limit 1
"""


# An invoice that has events is made again, with the next number: the events say which it had.
_WITHOUT_A_TRACE = f"""
    select tenant_id, told_by from ({_WITHOUT_INVOICE}) w
    where not exists (select from billing.invoice_events e
                      where e.tenant_id = w.tenant_id and e.period_start = %(month)s)
    order by 1, 2 limit 1
"""


def traced_months(connection: Connection) -> list[BillingMonth]:
    """The months of which any table has a row, oldest first, published or not."""
    return sorted(map(BillingMonth, connection.exec_driver_sql(_TRACED).scalars()))


def missing(connection: Connection, month: BillingMonth) -> list[tuple[str, str]]:
    """What the month has lost, and the rows that imply it."""
    return [(what, told_by) for what, told_by in connection.exec_driver_sql(MISSING, {"month": month.start})]


def without_lines(connection: Connection) -> list[tuple[BillingMonth, str]]:
    """The published months whose invoice lines are lost, oldest first, and what is wrong with their partition."""
    return [(BillingMonth(start), fault) for start, fault in connection.exec_driver_sql(_WITHOUT_LINES)]


def refuse(connection: Connection, month: BillingMonth) -> None:
    """Raise LostRows if rows are lost that only a rebuild or a backup can bring back.

    Without the invoice lines of any month, what they bill, and the corrections they carry, would be billed again. Other
    lost rows of this month would be made as if they had never existed, with other numbers.
    """
    for lost, fault in without_lines(connection):
        raise LostRows(
            f"the invoice lines of {lost} are lost ({fault}), and no month is computed without them: run `arcadia"
            f" rebuild {lost}`, or restore them from a backup"
        )
    parameters = {"month": month.start}
    for tenant, told_by in connection.exec_driver_sql(_WITHOUT_A_TRACE, parameters):
        raise LostRows(
            f"the invoice of tenant {tenant} in {month} is lost with its history, as {told_by} shows: `arcadia audit"
            f" {month}` says what else is lost; restore it from a backup"
        )
    if told_by := connection.exec_driver_sql(_TOLD_UNFROZEN, parameters).scalar():
        raise LostRows(
            f"{month} was computed before, as {told_by} shows, but billing_months has no row of it: `arcadia audit"
            f" {month}` says what else is lost; restore it from a backup"
        )
