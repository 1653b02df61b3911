"""The months' rates of exchange: entering them, and refusing those that look wrong.

Belongs here: SQL over fx_rates. Does not: reading the Reserve Bank's file, and what makes a rate
doubtful (exchange.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import exchange
from arcadia_pipelines.costs.exchange import Rate
from arcadia_pipelines.errors import ArcadiaError

_DOUBTS_TOLD = 3


class DoubtfulRate(ArcadiaError):
    """A rate of exchange looks wrong, and no reason is given why it is right; the message says which and how."""


@dataclass(frozen=True)
class Changed:
    """What setting a month's rate changed."""

    before: Decimal | None
    """The rate until now."""
    doubt: str | None
    """What looks wrong with the new one."""
    reason: str | None
    """Why it is right."""


def enter(
    connection: Connection, rates: Sequence[Rate], source: str, reason: str | None = None, beside: Sequence[Rate] = ()
) -> dict[BillingMonth, Changed]:
    """Set these rates of these months; returns those that changed.

    A rate that looks wrong beside the stored ones and `beside` is accepted only with a `reason`, given now or when it
    was set. Raises DoubtfulRate.
    """
    found = connection.exec_driver_sql("select * from billing.fx_rates order by period_start for update")
    known = {BillingMonth(row.period_start): row for row in found}
    entered = {one.month: one.usd_per_aud for one in (*beside, *rates)}
    stand = {month: row.usd_per_aud for month, row in known.items() if month not in entered}
    changed, refused = {}, []
    for one in rates:
        stood, doubt = known.get(one.month), exchange.doubt(one.month, {**stand, **entered}, stand)
        before = stood.usd_per_aud if stood else None
        why = (reason or (stood.reason if stood and before == one.usd_per_aud else None)) if doubt else None
        if doubt and not why:
            refused.append(f"{one.month}: {doubt}")
            continue
        values = (one.usd_per_aud, one.published_on, one.is_final)
        if not (stood and values == (before, stood.published_on, stood.is_final) and why in (None, stood.reason)):
            _enter(connection, one, source, why)
            changed[one.month] = Changed(before, doubt, why)
    if refused:
        more = f"; and {len(refused) - _DOUBTS_TOLD} more" if len(refused) > _DOUBTS_TOLD else ""
        raise DoubtfulRate("; ".join(refused[:_DOUBTS_TOLD]) + more)
    return changed


def _enter(connection: Connection, rate: Rate, source: str, reason: str | None) -> None:
    connection.exec_driver_sql(
        """
        insert into billing.fx_rates (period_start, usd_per_aud, published_on, is_final, source, reason)
        values (%(month)s, %(rate)s, %(published_on)s, %(is_final)s, %(source)s, %(reason)s)
        on conflict (period_start) do update set usd_per_aud = excluded.usd_per_aud,
            published_on = excluded.published_on, is_final = excluded.is_final, source = excluded.source,
            reason = excluded.reason, entered_at = now()
        """,
        {
            "month": rate.month.start,
            "rate": rate.usd_per_aud,
            "published_on": rate.published_on,
            "is_final": rate.is_final,
            "source": source,
            "reason": reason,
        },
    )
