"""Missing tenants: invoiced before, with nothing to bill now. If they are many, the month is not published.

A few leave each month. If many seem to, we more likely see only a part of the platform's tables, and their invoices
would be voided, or never made. An operator can accept that they are gone, each tenant for one month.
"""

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import CENTS, TEXT, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import MonthStopped
from arcadia_pipelines.storage import bulk
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.kinds import SUPPLY

LEAST, ONE_IN = 5, 5
"""Many means at least five tenants, and more than one in five of those invoiced."""

MISSING = pa.schema([("tenant_id", TEXT), ("invoiced_in", TEXT), ("invoice_number", TEXT), ("total_cents", CENTS)])
"""One row per tenant with its latest invoice, by tenant."""

# A tenant that was accepted as gone in the month of its latest invoice, which was paid, is gone in the next one too. A
# tenant that is held back has something to bill. One whose invoice had only corrections had nothing to bill before.
_INVOICED = """
    select distinct on (tenant_id) * from billing.tenant_invoices
    where period_start in (%(month)s, %(before)s) and status <> 'void' order by tenant_id, period_start desc
"""
_MISSING = f"""
    select tenant_id, to_char(period_start, 'YYYY-MM') as invoiced_in, invoice_number, total_cents
    from ({_INVOICED}) i
    where not exists (select from billing.deployment_quote_lines l
                      where l.period_start = %(month)s and l.tenant_id = i.tenant_id)
      and not exists (select from billing.quote_faults f
                      where f.period_start = %(month)s and f.tenant_id = i.tenant_id)
      and not exists (select from billing.missing_tenant_acceptances a
                      where a.period_start in (%(month)s, i.period_start) and a.tenant_id = i.tenant_id)
      and exists (select from billing.tenant_invoice_lines l
                  where l.invoice_id = i.id and l.period_start = i.period_start
                    and l.kind in {SUPPLY})
    order by tenant_id collate "C"
"""
_COUNTS = f"""
    select (select count(*) from ({_INVOICED}) i),
           (select count(*) from billing.tenant_invoices where period_start = %(month)s and status <> 'void'),
           exists (select from billing.deployment_quote_lines where period_start = %(month)s)
               or exists (select from billing.quote_faults where period_start = %(month)s)
"""
_ACCEPT = """
    insert into billing.missing_tenant_acceptances (period_start, tenant_id, operator, reason, run_id)
    select %(month)s, tenant_id, %(operator)s, %(reason)s, %(run)s from unnest(%(tenants)s::text[]) tenant_id
"""


class TenantsMissing(MonthStopped):
    """Many tenants that were invoiced have nothing to bill; the message says how many, which, and what to do."""


def find(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The tenants that the quoted month would leave without an invoice, unless accepted as gone, as MISSING."""
    return bulk.read(connection, _MISSING, MISSING, _months(month))


def refuse_many(connection: Connection, month: BillingMonth) -> None:
    """Raise TenantsMissing if the quoted month would leave many tenants without an invoice, or void all it has."""
    missing = list(find(connection, month)["tenant_id"])
    invoiced, standing, bills = connection.exec_driver_sql(_COUNTS, _months(month)).one()
    if missing and standing and not bills:
        what = f"no tenant has anything to bill in {month}, and {number_of(standing, 'invoices')} would be void,"
        what += " or credited"
    elif len(missing) >= LEAST and len(missing) * ONE_IN > invoiced:
        named = ", ".join(missing[:LEAST]) + (f" and {len(missing) - LEAST} more" * (len(missing) > LEAST))
        what = f"{len(missing)} of {invoiced} tenants invoiced in {month.before} or {month} have nothing to bill in"
        what += f" {month}: {named}"
    else:
        return
    raise TenantsMissing(
        f"{what}: see that cloud.subscriptions is complete, then materialise the month again; if they are gone, accept"
        f" it with the job accept_missing_tenants (arcadia accept-missing-tenants {month})"
    )


def accept(connection: Connection, month: BillingMonth, author: Author) -> pd.DataFrame:
    """Accept as gone the tenants that the quoted month would leave without an invoice; returns them, as MISSING.

    The transaction must hold the month's lock.
    """
    missing = find(connection, month)
    who = {"operator": author.operator, "reason": author.reason, "run": author.run_id}
    connection.exec_driver_sql(_ACCEPT, {"month": month.start, "tenants": list(missing["tenant_id"]), **who})
    return missing


def _months(month: BillingMonth) -> dict[str, object]:
    return {"month": month.start, "before": month.before.start}
