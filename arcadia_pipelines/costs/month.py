"""A month's costs: its bill allocated to deployments, read -> compute -> write."""

from decimal import Decimal

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import allocation, bills, claims
from arcadia_pipelines.costs.allocation import Allocated
from arcadia_pipelines.storage import months
from arcadia_pipelines.storage.database import refuse_partial_view, refuse_unless_over


def allocate(connection: Connection, month: BillingMonth) -> Allocated:
    """Allocate the month's bill anew, at its rate if it has one; write nothing if nothing changed.

    Raises bills.NoBill.
    """
    refuse_unless_over(connection, month)
    refuse_partial_view(connection)
    bills.standing(connection, month)
    rate = connection.exec_driver_sql(
        "select usd_per_aud, source from billing.fx_rates where period_start = %(month)s", {"month": month.start}
    ).first()
    done = allocation.allocate(claims.read(connection, month), rate.usd_per_aud if rate else None)
    months.replace_rows(
        connection, "cost_allocations", month, done.rows, allocation.ALLOCATIONS, order_by="line_no, part"
    )
    _record(connection, month, done, *(rate or (None, None)))
    return done


def _record(
    connection: Connection, month: BillingMonth, done: Allocated, usd_per_aud: Decimal | None, fx_source: str | None
) -> None:
    connection.exec_driver_sql(
        """
        insert into billing.month_costs as m
            (period_start, usd_cents, usd_per_aud, fx_source, aud_cents, rounding_cents)
        values (%(month)s, %(usd)s, %(rate)s, %(source)s, %(aud)s, %(rounding)s)
        on conflict (period_start) do update set
            usd_cents = excluded.usd_cents, usd_per_aud = excluded.usd_per_aud, fx_source = excluded.fx_source,
            aud_cents = excluded.aud_cents, rounding_cents = excluded.rounding_cents, allocated_at = now()
        where (m.usd_cents, m.usd_per_aud, m.fx_source, m.aud_cents, m.rounding_cents)
              is distinct from (excluded.usd_cents, excluded.usd_per_aud, excluded.fx_source, excluded.aud_cents,
                                excluded.rounding_cents)
        """,
        {
            "month": month.start,
            "usd": done.usd_cents,
            "rate": usd_per_aud,
            "source": fx_source,
            "aud": done.aud_cents,
            "rounding": done.rounding_cents,
        },
    )
