"""The chain of hashes over history: its heads, and the proof that nothing up to one of them was changed.

Belongs here: reading and proving. Does not: writing, which the database does itself, whoever inserts an event
(sql/migrations/0017_tamper_evidence.sql), nor the audits of a month (proof/audit.py), which look at its chain too.
"""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import ArcadiaError

_OF_TENANTS = "tenants"
CHAIN = "coalesce(to_char({0}.period_start, 'YYYY-MM'), 'tenants')"
"""SQL for the chain that an event belongs to. Takes the alias of invoice_events."""

BROKEN = f"""
    select l.chain, l.place, l.event_id, e.invoice_number, e.tenant_id, e.event,
           case when e.id is null then 'the event is gone' when l.place <> l.nth then 'a place is missing before it'
                else 'the event, or a hash, was changed' end as what
    from (
        select c.*, h.begun_after_sha256, lag(c.sha256) over of_chain as before, row_number() over of_chain as nth
        from billing.event_chain c
        join wanted w on w.chain = c.chain and (w.place is null or c.place <= w.place)
        left join billing.event_heads h on h.chain = c.chain
        window of_chain as (partition by c.chain order by c.place)
    ) l
    left join billing.invoice_events e on e.id = l.event_id and {CHAIN.format("e")} = l.chain
    where e.id is null or l.place <> l.nth
       or l.sha256 <> sha256(coalesce(l.before, l.begun_after_sha256, '') || billing.event_digest(e)
                             || coalesce(l.invoice_sha256, ''))
"""
"""The breaks in the chains that a CTE `wanted` (chain, place) names, up to `place`; null means the whole chain."""

_LOST = """
    select h.chain, 1::bigint as place, null::bigint as event_id, null as invoice_number, null as tenant_id,
           null as event, 'the history of ' || h.begun_after || ', which this chain continues, is gone' as what
    from wanted w join billing.event_heads h on h.chain = w.chain
    where h.begun_after is not null and not exists (
        select from billing.event_chain c where c.chain = h.begun_after and c.sha256 = h.begun_after_sha256)
"""

EVENTS_ARE_CHAINED = f"""
    with wanted as (
        select chain, null::bigint as place from (values (to_char(%(month)s::date, 'YYYY-MM')), ('tenants')) c (chain)
    ),
    newest as (
        select distinct on (c.chain) c.chain, c.place, c.sha256
        from billing.event_chain c join wanted using (chain) order by c.chain, c.place desc
    )
    select * from (
        {BROKEN}
        union all
        {_LOST}
        union all
        select {CHAIN.format("e")}, null, e.id, e.invoice_number, e.tenant_id, e.event, 'the event is in no chain'
        from billing.invoice_events e
        where (e.period_start = %(month)s or e.period_start is null) and not exists (
            select from billing.event_chain c where c.chain = {CHAIN.format("e")} and c.event_id = e.id)
        union all
        select chain, n.place, null, null, null, null, 'the newest hash is not the head'
        from newest n full join (select h.* from billing.event_heads h join wanted using (chain)) h using (chain)
        where (n.place, n.sha256) is distinct from (h.place, h.sha256)
    ) found
    order by chain, place nulls last, event_id
"""
"""What is wrong with the chain of a month, or with the chain of tenants' holds and releases."""

INVOICES_AS_LEFT = """
    with newest as (
        select distinct on (e.invoice_id) e.invoice_id, e.id, e.event, c.invoice_sha256
        from billing.invoice_events e
        left join billing.event_chain c on c.chain = to_char(%(month)s::date, 'YYYY-MM') and c.event_id = e.id
        where e.period_start = %(month)s order by e.invoice_id, e.id desc
    )
    select i.invoice_number, i.tenant_id, i.status, i.total_cents, i.issued_at, i.paid_at, i.finance_invoice_id,
           i.meta ->> 'tenant_name' as tenant_name, n.event as newest_event, n.id as event_id
    from billing.tenant_invoices i join newest n on n.invoice_id = i.id
    where i.period_start = %(month)s
      and n.invoice_sha256 is distinct from billing.invoice_digest(i, i.finance_invoice_id, i.pushed_to_finance_at)
      and n.invoice_sha256 is distinct from billing.invoice_digest(i, null, null)
    order by abs(i.total_cents) desc, i.tenant_id
"""
"""The invoices of a month that are not as their newest event left them. A push to finance since then is ignored."""

_HEAD = "select encode(sha256, 'hex') from billing.event_heads where chain = %(chain)s"
_FIND = """
    select c.chain, c.place, e.id as event_id, e.event, e.tenant_id, e.invoice_number, e.operator, e.occurred_at
    from billing.event_chain c left join billing.invoice_events e on e.id = c.event_id
    where c.sha256 = decode(%(sha256)s, 'hex') and (%(chain)s::text is null or c.chain = %(chain)s)
"""
_FIRST_BROKEN = f"""
    with recursive wanted (chain, place) as (
        select %(chain)s::text, %(place)s::bigint
        union
        select c.chain, c.place
        from wanted w
        join billing.event_heads h on h.chain = w.chain
        join billing.event_chain c on c.chain = h.begun_after and c.sha256 = h.begun_after_sha256
    )
    select * from ({BROKEN} union all {_LOST}) found order by chain, place limit 1
"""


class NotProved(ArcadiaError):
    """History up to a head is not as it was when the head was taken, or the head is unknown; the message says what."""


@dataclass(frozen=True)
class Link:
    """An event of a chain, and its place there."""

    chain: str
    place: int
    event_id: int
    event: str
    tenant_id: str
    invoice_number: str | None
    operator: str
    occurred_at: dt.datetime

    @property
    def month(self) -> BillingMonth | None:
        """None for the chain of holds and releases, which belongs to no month."""
        return None if self.chain == _OF_TENANTS else BillingMonth.parse(self.chain)


def head(connection: Connection, month: BillingMonth) -> str | None:
    """The newest hash of the month's chain, in hex; None if nothing has happened in it."""
    found: str | None = connection.exec_driver_sql(_HEAD, {"chain": str(month)}).scalar()
    return found


def prove(connection: Connection, sha256: str, month: BillingMonth | None) -> Link:
    """The event that has this hash, in the month's chain or in any, once history up to it is proved unchanged.

    That is: each hash follows from the one before it, from the first event of the oldest chain that this one continues.
    Raises NotProved.
    """
    sha256 = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise NotProved(
            f"{sha256!r} is not a head: a head is 64 hexadecimal digits, as the month end and the audit print it"
        )
    chain = str(month) if month else None
    row = connection.exec_driver_sql(_FIND, {"sha256": sha256, "chain": chain}).mappings().first()
    if row is None:
        raise NotProved(
            f"no event of {month or 'any month'} has the hash {sha256}: the history before it was changed since, or"
            f" it belongs to another {'month or ' if month else ''}database"
        )
    broken = connection.exec_driver_sql(_FIRST_BROKEN, dict(row)).mappings().first()
    if broken is not None:
        raise NotProved(f"history before {sha256} was changed: {_in_words(broken)}")
    return Link(**row)


def _in_words(broken: Any) -> str:
    of = " ".join(filter(None, (broken["event"], broken["invoice_number"], broken["tenant_id"])))
    where = f"event {broken['event_id']} ({of}), " if of else ""
    return f"{where}place {broken['place']} of {broken['chain']}: {broken['what']}"
