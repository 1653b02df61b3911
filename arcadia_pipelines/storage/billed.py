"""Which subscriptions a month's invoices bill, so that no subscription's month is billed to two tenants.

Belongs here: keeping billed_subscriptions up to date, and finding what two tenants would be billed for. Does not: the
fault that results (billing/quote.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import CONTESTED as CONTESTED_COLUMNS
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS
from arcadia_pipelines.storage.streams import Query

# A subscription that moved to another tenant; or one that no longer exists, while another tenant has a subscription of
# the same deployment. One that its tenant still has, but is not billed for, was ended there: the tenant is credited.
_CONTESTED = f"""
    with billed as ({BILLED_SUBSCRIPTIONS}),
    owed as (
        select b.subscription_id, b.deployment_id, b.tenant_id as billed_to, i.invoice_number,
               i.status = 'paid' as is_paid
        from billing.billed_subscriptions b
        join billing.tenant_invoices i on i.tenant_id = b.tenant_id and i.period_start = b.period_start
        where b.period_start = %(month)s and i.status in ('issued', 'paid')
    ),
    contested as (
        select o.*, s.id as subscription_now, s.tenant_id as payer
        from owed o join billed s on s.id = o.subscription_id
        where s.tenant_id <> o.billed_to
        union all
        select o.*, s.id, s.tenant_id
        from owed o join billed s on s.deployment_id = o.deployment_id
        where s.tenant_id <> o.billed_to and s.id <> o.subscription_id
          and not exists (select from cloud.subscriptions own join cloud.tenants t on t.id = own.tenant_id
                          where own.id = o.subscription_id and own.tenant_id = o.billed_to)
          and not exists (select from owed others
                          where others.subscription_id = s.id and others.billed_to = s.tenant_id)
    )
    select tenant.id as tenant_id, c.*, coalesce(d.name, c.deployment_id::text) as deployment_name
    from contested c
    cross join lateral (values (c.billed_to), (c.payer)) tenant (id)
    left join cloud.cloud_deployments d on d.id = c.deployment_id
"""
CONTESTED = Query(_CONTESTED, CONTESTED_COLUMNS)
"""What owed invoices bill to one tenant though another would be billed for it now. Takes `start`, `end`, `month`."""

# A void invoice keeps its rows, as it may be reopened. So does an invoice that was left as it was.
_FORGET = """
    delete from billing.billed_subscriptions b using billing.tenant_invoices i
    where b.period_start = %(month)s and i.period_start = %(month)s and i.tenant_id = b.tenant_id
      and i.status <> 'void' and b.tenant_id not in (select unnest(%(left)s::text[]))
      and not exists (select from billing.deployment_quote_lines q
                      where q.period_start = %(month)s and q.line_no = 1 and q.tenant_id = b.tenant_id
                        and q.subscription_id = b.subscription_id and q.deployment_id = b.deployment_id)
"""
_ADD = """
    insert into billing.billed_subscriptions (period_start, subscription_id, tenant_id, deployment_id)
    select q.period_start, q.subscription_id, q.tenant_id, q.deployment_id
    from billing.deployment_quote_lines q
    join billing.tenant_invoices i on i.tenant_id = q.tenant_id and i.period_start = q.period_start
    where q.period_start = %(month)s and i.period_start = %(month)s and q.line_no = 1 and i.status <> 'void'
      and q.tenant_id not in (select unnest(%(left)s::text[]))
      and not exists (select from billing.billed_subscriptions b
                      where b.period_start = %(month)s and b.subscription_id = q.subscription_id
                        and b.tenant_id = q.tenant_id)
    order by q.subscription_id
"""
_MOVED = """
    select coalesce(i.invoice_number, i.id::text) as invoice, i.tenant_id, i.period_start, b.subscription_id
    from billing.tenant_invoices i
    join billing.billed_subscriptions b on b.tenant_id = i.tenant_id and b.period_start = i.period_start
    where i.id = any(%(ids)s)
      and not exists (select from cloud.subscriptions s where s.id = b.subscription_id and s.tenant_id = b.tenant_id)
    order by i.period_start, i.tenant_id, b.subscription_id
"""
# As _CONTESTED: both bill the same subscription, or the other bills one of the same deployment that it no longer has.
_BILLED_TWICE = """
    select coalesce(i.invoice_number, i.id::text) as invoice, i.tenant_id as tenant, i.period_start,
           b.subscription_id as subscription, coalesce(o.invoice_number, o.id::text) as other_invoice,
           o.tenant_id as other_tenant, other.subscription_id as other_subscription, o.status = 'paid' as other_is_paid
    from billing.tenant_invoices i
    join billing.billed_subscriptions b on b.tenant_id = i.tenant_id and b.period_start = i.period_start
    join billing.billed_subscriptions other
        on other.period_start = i.period_start and other.tenant_id <> i.tenant_id
       and (other.subscription_id = b.subscription_id
            or other.deployment_id = b.deployment_id
               and not exists (select from cloud.subscriptions own join cloud.tenants t on t.id = own.tenant_id
                               where own.id = other.subscription_id and own.tenant_id = other.tenant_id))
    join billing.tenant_invoices o on o.tenant_id = other.tenant_id and o.period_start = i.period_start
    where i.id = any(%(ids)s) and (o.status in ('issued', 'paid') or o.id = any(%(ids)s))
    order by i.period_start, i.tenant_id, b.subscription_id, o.tenant_id, other.subscription_id
"""


def record(connection: Connection, month: BillingMonth, left: Sequence[str]) -> None:
    """Record what the month's invoices bill, now that they are written.

    The rows of tenants in `left`, whose invoices were left as they were, stay. Writes no row if nothing has changed.
    """
    for statement in (_FORGET, _ADD):
        connection.exec_driver_sql(statement, {"month": month.start, "left": list(left)})


def moved(connection: Connection, invoices: Sequence[UUID]) -> list[tuple[str, str, BillingMonth, UUID]]:
    """The subscriptions these invoices bill that their tenant no longer has: number, tenant, month, subscription."""
    rows = connection.exec_driver_sql(_MOVED, {"ids": list(invoices)})
    return [(invoice, tenant, BillingMonth(start), subscription) for invoice, tenant, start, subscription in rows]


@dataclass(frozen=True)
class Claim:
    """A subscription that an invoice bills and another tenant's invoice, owed or among the same drafts, bills too."""

    invoice: str
    tenant: str
    month: BillingMonth
    subscription: UUID
    other_invoice: str
    other_tenant: str
    other_subscription: UUID
    other_is_paid: bool


def billed_twice(connection: Connection, invoices: Sequence[UUID]) -> list[Claim]:
    """What would be billed to two tenants if these invoices were issued."""
    rows = connection.exec_driver_sql(_BILLED_TWICE, {"ids": list(invoices)})
    return [Claim(invoice, tenant, BillingMonth(start), *others) for invoice, tenant, start, *others in rows]
