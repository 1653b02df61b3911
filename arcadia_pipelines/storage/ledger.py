"""The invoices as they stand, and their sums. Nothing is written here: see publication.py and operations.py.

Which invoice is locked, and that it stays as it is, the database says: billing.is_locked() and guard_invoice() in
sql/migrations/0017_tamper_evidence.sql.
"""

import datetime as dt

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import CENTS, COUNT, TEXT, WHOLE
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.reconcile import EXISTING
from arcadia_pipelines.errors import NotFound
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, bounds
from arcadia_pipelines.storage.streams import Query

LINES_SHA256 = "billing.sha256_hex(string_agg(billing.line_text(l), chr(30) order by l.line_no))"
"""The lines_sha256 of an invoice, from its lines: an aggregate over rows `l` of tenant_invoice_lines."""
VOIDED_BY_AN_OPERATOR = """
    (i.status = 'void' and coalesce(
        (select e.event = 'voided' and e.operator <> 'month_end' from billing.invoice_events e
         where e.invoice_id = i.id and e.event not in ('rebuilt', 'withdrawn', 'delivered')
         order by e.id desc limit 1), false))
"""
"""Whether the invoice `i` was voided by an operator, who gave a reason: it needs no attention."""
STANDING = Query(
    f"""
    select i.*, billing.is_locked(i) as locked,
           {VOIDED_BY_AN_OPERATOR} as voided_by_an_operator
    from billing.tenant_invoices i where period_start = %(month)s
    """,
    EXISTING,
)
"""The month's invoices as they stand. Takes `month`."""


REVENUE = pa.schema(
    [
        ("period_start", TEXT),
        ("resource_kind", TEXT),
        ("plan_base_cents", WHOLE),
        ("addon_cents", WHOLE),
        ("overage_cents", WHOLE),
        ("discount_cents", WHOLE),
        ("commitment_cents", WHOLE),
        ("adjustment_cents", WHOLE),
        ("revenue_cents", WHOLE),
    ]
)
"""One row per month and resource kind, over all tenants, ex GST."""

# As the view revenue_by_kind, but over all tenants: grouping by tenant would take long.
_REVENUE = """
    select period_start, resource_kind, coalesce(sum(cents) filter (where kind = 'plan_base'), 0) as plan_base_cents,
           coalesce(sum(cents) filter (where kind = 'addon'), 0) as addon_cents,
           coalesce(sum(cents) filter (where kind = 'overage'), 0) as overage_cents,
           coalesce(sum(cents) filter (where kind = 'discount'), 0) as discount_cents,
           coalesce(sum(cents) filter (where kind = 'commitment'), 0) as commitment_cents,
           coalesce(sum(cents) filter (where kind in ('credit', 'adjustment')), 0) as adjustment_cents,
           sum(cents) as revenue_cents
    from (
        select l.period_start, l.kind, sum(l.amount_cents) as cents,
               coalesce(l.resource_kind, case l.kind when 'discount' then l.meta ->> 'of' end, l.kind) as resource_kind
        from billing.tenant_invoice_lines l join billing.tenant_invoices i on i.id = l.invoice_id
        where l.kind <> 'tax' and i.status in ('issued', 'paid')
          and l.period_start >= %(first)s and l.period_start < %(end)s
        group by l.period_start, l.kind, 4
    ) kinds
    group by 1, 2 order by 1, 2
"""


SUMS = pa.schema([("invoices", COUNT), ("subtotal_cents", WHOLE), ("tax_cents", WHOLE), ("total_cents", WHOLE)])
"""One row: how many invoices there are, and the sums of those that are not void."""

LARGEST = pa.schema(
    [
        ("tenant_id", TEXT),
        ("subtotal_cents", CENTS),
        ("tax_cents", CENTS),
        ("total_cents", CENTS),
        ("status", TEXT),
        ("invoice_number", TEXT),
    ]
)
"""One row per invoice that is not void, largest first."""

_SUMS = """
    select count(*) as invoices, coalesce(sum(subtotal_cents) filter (where status <> 'void'), 0) as subtotal_cents,
           coalesce(sum(tax_cents) filter (where status <> 'void'), 0) as tax_cents,
           coalesce(sum(total_cents) filter (where status <> 'void'), 0) as total_cents
    from billing.tenant_invoices where period_start = %(month)s
"""
_LARGEST = """
    select * from billing.tenant_invoices where period_start = %(month)s and status <> 'void'
    order by total_cents desc, tenant_id collate "C" limit 10
"""


def sums(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The sums of the month's invoices, as SUMS."""
    return bulk.read(connection, _SUMS, SUMS, {"month": month.start})


def largest(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's ten largest invoices, as LARGEST."""
    return bulk.read(connection, _LARGEST, LARGEST, {"month": month.start})


def invoice_count(connection: Connection, month: BillingMonth) -> int:
    """How many invoices the month has, void ones included."""
    query = "select count(*) from billing.tenant_invoices where period_start = %(month)s"
    return int(connection.exec_driver_sql(query, {"month": month.start}).scalar_one())


def revenue_of(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Revenue of the month, as REVENUE."""
    return bulk.read(connection, _REVENUE, REVENUE, {"first": month.start, "end": month.end})


def revenue_before(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Revenue of the eleven months before, as REVENUE."""
    first = month.end.replace(year=month.end.year - 1)
    return bulk.read(connection, _REVENUE, REVENUE, {"first": first, "end": month.start})


def line_count(connection: Connection, month: BillingMonth) -> int:
    """How many invoice lines the month has."""
    query = "select count(*) from billing.tenant_invoice_lines where period_start = %(month)s"
    return int(connection.exec_driver_sql(query, {"month": month.start}).scalar_one())


MONTHS_OF = """
    (with recursive months as (
        select min(period_start) as period_start from billing.{0}
        union all
        select (select min(period_start) from billing.{0} where period_start > months.period_start)
        from months where months.period_start is not null
    )
    select period_start from months where period_start is not null)
"""
"""The months of a table whose index begins with period_start, by one index look-up each. Takes the table's name."""
OURS = "lines_sha256 is not null"
"""Whether an invoice was made here, and not inserted by another system."""
_PUBLISHED = ("invoice_events", "billed_subscriptions", "invoiced_tenants", "invoice_corrections")
INVOICED_MONTHS = f"""
    select period_start from ({months.ATTACHED}) a where name = 'tenant_invoice_lines'
    union {" union ".join(map(MONTHS_OF.format, _PUBLISHED))}
    union select period_start from {MONTHS_OF.format("tenant_invoices")} i
    where exists (select from billing.tenant_invoices where period_start = i.period_start and {OURS})
    union select to_date(chain, 'YYYY-MM') from billing.event_heads where chain <> 'tenants'
"""
"""The months that were published, even without an invoice, by any table with a trace of it: `period_start`."""


def invoiced_months(connection: Connection) -> list[BillingMonth]:
    """The published months, oldest first: also those without an invoice, and those that have lost rows since.

    A month that has only another system's invoices is not one of them.
    """
    return sorted(map(BillingMonth, connection.exec_driver_sql(INVOICED_MONTHS).scalars()))


_WITHOUT_INVOICE = f"""
    select distinct s.tenant_id from ({BILLED_SUBSCRIPTIONS}) s
    where not exists (select from billing.tenant_invoices i
                      where i.tenant_id = s.tenant_id and i.period_start = %(month)s)
    order by 1
"""


def tenants_without_invoice(connection: Connection, month: BillingMonth) -> list[str]:
    """The tenants with a subscription in the month and no invoice, not even a void one; those held back included."""
    found = connection.exec_driver_sql(_WITHOUT_INVOICE, bounds(month))
    return list(found.scalars())


def is_invoiced(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month was published: also without an invoice, and also if rows were lost since."""
    return month in invoiced_months(connection)


def corrected(connection: Connection, month: BillingMonth) -> list[str]:
    """The tenants whose locked invoice of the month is known to differ from what would be billed now."""
    query = "select tenant_id from billing.invoice_corrections where period_start = %(month)s"
    return list(connection.exec_driver_sql(query, {"month": month.start}).scalars())


_SHOWN = """
    select id, tenant_id, period_start, period_end, currency, subtotal_cents, tax_cents, total_cents, status, issued_at,
           paid_at, finance_invoice_id, pushed_to_finance_at, inserted_at, updated_at, invoice_number, revision,
           content_sha256, usage_cutoff, run_id, meta, delivered_at, due_on
    from billing.tenant_invoices where tenant_id = %(tenant)s and period_start = %(month)s
"""
_SHOWN_LINES = """
    select kind, resource_kind, description, qty, unit, unit_price_cents, price_per, amount_cents, deployment_id,
           deployment_name, meta
    from billing.tenant_invoice_lines where invoice_id = %(invoice)s and period_start = %(month)s order by line_no
"""


class NotInvoiced(NotFound):
    """There is no such invoice; the message says whether the tenant or the month is missing."""


def invoice_of(connection: Connection, tenant: str, month: BillingMonth) -> dict[str, object]:
    """The tenant's invoice of the month by column name, its lines in order under `lines`. Raises NotInvoiced."""
    parameters = {"tenant": tenant, "month": month.start}
    row = connection.exec_driver_sql(_SHOWN, parameters).mappings().one_or_none()
    if row is None:
        raise NotInvoiced(_why_not(connection, tenant, month))
    lines = connection.exec_driver_sql(_SHOWN_LINES, {**parameters, "invoice": row["id"]}).mappings()
    return {**row, "lines": [dict(line) for line in lines]}


def _why_not(connection: Connection, tenant: str, month: BillingMonth) -> str:
    known = connection.exec_driver_sql("select 1 from cloud.tenants where id = %(tenant)s", {"tenant": tenant}).scalar()
    if known is None:
        return f"no tenant {tenant!r}: the table tenants lists them all"
    if not is_invoiced(connection, month):
        return why_not_invoiced(month)
    return f"tenant {tenant!r} has no invoice in {month}: nothing to bill, or held back (see quote_faults)"


def why_not_invoiced(month: BillingMonth) -> str:
    """Of a month without invoices: when there will be some, or what to do."""
    first = Settings.from_environment().first_month
    if month < first:
        return f"{month} is never invoiced: the first billing month is {first} (ARCADIA_FIRST_MONTH)"
    if month.end > dt.datetime.now(dt.UTC).date():
        return f"{month} is not over: it will be invoiced on {month.end} at 03:00 UTC"
    return f"{month} is not invoiced yet: run `arcadia invoice {month}`"


def row_versions(connection: Connection, month: BillingMonth) -> set[tuple[str, str, str]]:
    """Every row of the month in our tables as (table, place, writing transaction): equal if nothing was written."""
    tables = [
        "metered_usage",
        "deployment_quote_lines",
        "unbilled_usage",
        "quote_faults",
        "tenant_invoices",
        "tenant_invoice_lines",
        "invoice_events",
        "billed_subscriptions",
    ]
    union = " union all ".join(
        f"select '{table}', tableoid::text || ctid::text, xmin::text"
        f" from billing.{table} where period_start = %(month)s"
        for table in tables
    )
    return {
        (table, place, writer) for table, place, writer in connection.exec_driver_sql(union, {"month": month.start})
    }
