"""What months cost, of the views of cost beside revenue. Reads, and writes nothing; how costs come in is in costs/."""

import datetime as dt

from sqlalchemy.engine import Connection

_ALL = "select period_start, cost_cents from billing.cost_vs_revenue_by_month"
_OF_ONE = """
    select m.period_start, case when m.cost_cents is not null then coalesce(t.cost_cents, 0) end
    from billing.cost_vs_revenue_by_month m
    left join billing.cost_vs_revenue_by_tenant t on t.period_start = m.period_start and t.tenant_id = %(tenant)s
"""


def by_month(connection: Connection, tenant: str | None = None) -> dict[dt.date, int | None]:
    """What each month cost, or a tenant's deployments in it, cents AUD; None while there is no bill or no rate."""
    found = connection.exec_driver_sql(_ALL if tenant is None else _OF_ONE, {"tenant": tenant})
    return {row[0]: row[1] for row in found}
