"""What is behind an invoice's lines: their arithmetic, prices, usage records, terms, corrections, and what was entered.

Belongs here: reading the facts, for people who ask. Does not: revisions (history.py), what the facts mean
(explanation.py). Nothing is written.
"""

import datetime as dt
import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import gst
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import catalogue, counts, price_list
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.usage import cutoff_of
from arcadia_pipelines.storage.usage_records import ACTIVE, RECORDS, SPANS, USABLE
from arcadia_pipelines.usage import sources

RECORDS_SHOWN = 3
"""How many of a line's usage records are shown: so many of the first, and of the last."""

# PostgreSQL multiplies and rounds on its own here: a second opinion on what the engine put on the line.
_WORKED_OUT = """
    with lines as (
        select *, coalesce(sum(amount_cents) filter (
                      where kind <> 'tax' and coalesce(meta ->> 'taxable' = 'true', not %(is_free)s)) over (), 0
                  ) as taxable_cents,
               coalesce(sum(amount_cents) filter (where kind <> 'tax') over (), 0) as before_tax_cents
        from billing.tenant_invoice_lines where invoice_id = %(invoice)s and period_start = %(month)s
    ),
    exact as (
        select *, case kind when 'tax' then taxable_cents * %(rate)s
                       else qty * unit_price_cents / price_per end as exact_cents
        from lines
    )
    select line_no, id, kind, resource_kind, description, qty, unit, unit_price_cents, price_per, amount_cents,
           deployment_id, deployment_name, meta, taxable_cents, before_tax_cents, exact_cents,
           round(exact_cents) as rounded_cents
    from exact order by line_no
"""


def worked_out(connection: Connection, invoice: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of the standing invoice in order, each with its amount computed again: exact and rounded cents.

    `before_tax_cents` is the sum of the invoice's lines except tax, `taxable_cents` of those that GST applies to.
    """
    parameters = {
        "invoice": invoice["id"],
        "month": invoice["period_start"],
        "rate": gst.RATE,
        "is_free": "gst_free_reason" in invoice["meta"],
    }
    return [dict(line) for line in connection.exec_driver_sql(_WORKED_OUT, parameters).mappings()]


@dataclass(frozen=True)
class Price:
    """A row of the price list, in effect in a month: cents a unit, and for a rate the allowance, in its unit."""

    table: str
    code: str
    effective_from: str
    unit_price_cents: Decimal
    included: Decimal | None = None
    unit: str = "month"


@dataclass(frozen=True)
class Usage:
    """The usable records of a subscription and resource kind up to a cut-off, and what came after it."""

    records: int = 0
    quantity: Decimal = Decimal(0)
    first_at: dt.datetime | None = None
    last_at: dt.datetime | None = None
    shown: tuple[dict[str, str], ...] = ()
    """The first and the last: recorded_at, quantity, id, in order."""
    unusable_records: int = 0
    late_records: int = 0
    late_quantity: Decimal = Decimal(0)


@dataclass(frozen=True)
class Subscription:
    """A subscription that the month bills: its plan by id and code, and its usage by resource kind."""

    subscription_id: uuid.UUID
    deployment_id: uuid.UUID
    plan_id: uuid.UUID
    plan: str
    usage: dict[str, Usage]


_SUBSCRIPTIONS = f"""
    select distinct on (s.subscription_id) s.subscription_id, s.deployment_id, own.plan_id,
           coalesce(p.code, own.plan_id::text) as plan
    from ({SPANS}) s
    join cloud.subscriptions own on own.id = s.subscription_id
    left join cloud.plans p on p.id = own.plan_id
    where own.tenant_id = %(tenant)s and s.deployment_id = any(%(deployments)s::uuid[])
    order by s.subscription_id
"""
_GIVEN = """
    select * from jsonb_to_recordset(%(given)s::jsonb) g (
        id text, deployment_id uuid, resource_kind text, quantity numeric, recorded_at timestamptz,
        ingested_at timestamptz
    )
"""
_USAGE = f"""
    with records as (
        select s.subscription_id, r.resource_kind, r.id, r.recorded_at, r.quantity, {USABLE} is true as usable,
               coalesce(a.received_at, r.ingested_at, '-infinity') > %(billed_until)s as late
        from ({{records}}) r join ({SPANS}) s on {ACTIVE}
        left join billing.usage_ahead a on a.period_start = %(month)s and a.record_id::text = r.id::text
        where r.deployment_id = any(%(deployments)s::uuid[])
    ),
    numbered as (
        select *, row_number() over (of_line order by recorded_at, id) as nth, count(*) over of_line as of_them
        from records window of_line as (partition by subscription_id, resource_kind, usable, late)
    )
    select subscription_id, resource_kind,
           count(*) filter (where usable and not late) as records,
           coalesce(sum(quantity) filter (where usable and not late), 0) as quantity,
           min(recorded_at) filter (where usable and not late) as first_at,
           max(recorded_at) filter (where usable and not late) as last_at,
           coalesce(
               jsonb_agg(jsonb_build_object('recorded_at', recorded_at, 'quantity', quantity::text, 'id', id)
                         order by recorded_at, id)
               filter (where usable and not late and (nth <= %(shown)s or nth > of_them - %(shown)s)), '[]') as shown,
           count(*) filter (where not usable) as unusable_records,
           count(*) filter (where usable and late) as late_records,
           coalesce(sum(quantity) filter (where usable and late), 0) as late_quantity
    from numbered group by subscription_id, resource_kind
"""


def subscriptions(
    connection: Connection, invoice: dict[str, Any], deployments: Collection[uuid.UUID]
) -> list[Subscription]:
    """The tenant's subscriptions of these deployments that the invoice's month bills, by id, with their usage.

    Records count up to the invoice's usage_cutoff; later ones are counted apart.
    """
    if not deployments:
        return []
    month = BillingMonth(invoice["period_start"])
    given = _records_elsewhere(connection, month, deployments, invoice["usage_cutoff"])
    parameters = {
        **bounds(month),
        "given": given,
        "billed_until": invoice["usage_cutoff"],
        "tenant": invoice["tenant_id"],
        "deployments": list(deployments),
        "shown": RECORDS_SHOWN,
    }
    usage: dict[uuid.UUID, dict[str, Usage]] = {}
    for subscription, kind, *sums in connection.exec_driver_sql(
        _USAGE.format(records=_GIVEN if given else RECORDS), parameters
    ):
        records, quantity, first_at, last_at, shown, *others = sums
        usage.setdefault(subscription, {})[kind] = Usage(records, quantity, first_at, last_at, tuple(shown), *others)
    return [
        Subscription(subscription, deployment, plan_id, plan, usage.get(subscription, {}))
        for subscription, deployment, plan_id, plan in connection.exec_driver_sql(_SUBSCRIPTIONS, parameters)
    ]


def _records_elsewhere(
    connection: Connection, month: BillingMonth, deployments: Collection[uuid.UUID], billed_until: dt.datetime
) -> str | None:
    """These deployments' records of a month that was counted elsewhere, as JSON; None if it was not.

    Which of them came after the month was frozen the source knows better than their stamps, if it can tell. Raises
    UsageSourceError.
    """
    pin = counts.pin(connection, month)
    if pin is None:
        return None
    source = sources.refuse_another(sources.configured(), pin, month)
    ids = [str(deployment) for deployment in deployments]
    records, counted = source.records_of(month, ids).to_pylist(), source.counted_ids(month, ids, pin)
    is_of_the_freezing = billed_until == cutoff_of(connection, month)
    for record in records:
        if counted is not None and record["record_id"] not in counted:
            record["ingested_at"] = "infinity"
        elif counted is not None and is_of_the_freezing:
            record["ingested_at"] = None
        # PostgreSQL can keep no zero byte.
        record.update({name: text.replace("\0", "\ufffd") for name, text in record.items() if isinstance(text, str)})
    return json.dumps([{"id": record["record_id"], **record} for record in records], default=str)


def prices(connection: Connection, month: BillingMonth, tenant: str) -> dict[tuple[str, str], list[Price]]:
    """The tenant's prices in effect in the month, its own or the list's, by kind of line and code.

    There is more than one if a code is listed twice. Rates are by ("overage", "<id of the plan>/<resource kind>").
    What has no price is left out.
    """
    found: dict[tuple[str, str], list[Price]] = {}
    for kind, table, listed in (
        ("plan_base", "plan_prices", price_list.plan_prices(connection, month, tenant)),
        ("addon", "addon_prices", price_list.addon_prices(connection, month, tenant)),
    ):
        for code, _, cents, since, own in listed:
            price = Price(f"tenant_{table}" if own else table, code, since.isoformat(), Decimal(cents))
            found.setdefault((kind, code), []).append(price)
    rates = catalogue.rates(connection, month).fillna({"unit": "units"})  # a view may show one without
    of_list, own_rates = rates[rates["tenant_id"].isna()], rates[rates["tenant_id"] == tenant]
    for table, of_whom in (("plan_rates", of_list), ("tenant_rates", own_rates)):  # one's own stand for the list's
        rows: list[dict[Any, Any]] = of_whom.to_dict("records")
        for rate in rows:
            key = f"{rate['plan_id']}/{rate['resource_kind']}"
            of = (rate[name] for name in ("effective_from", "unit_price_cents", "included", "unit"))
            found["overage", key] = [Price(table, key, *of)]
    return found


@dataclass(frozen=True)
class Term:
    """A tenant's discount or commitment as it is now: per cent, or cents a month, from the month of starts_on on.

    It is not for the month of ends_on any more; None: no end.
    """

    table: str
    id: str
    percent: Decimal | None
    cents: Decimal | None
    starts_on: str
    ends_on: str | None


_TERMS = """
    select 'discounts', id::text, percent, amount_cents, starts_on::text, ends_on::text
    from billing.discounts() where tenant_id = %(tenant)s
    union all
    select 'commitments', id::text, null, minimum_cents, starts_on::text, ends_on::text
    from billing.commitments() where tenant_id = %(tenant)s
"""


def terms(connection: Connection, tenant: str) -> dict[str, Term]:
    """The tenant's discounts and commitments, whatever months they are for, by id."""
    rows = connection.exec_driver_sql(_TERMS, {"tenant": tenant})
    return {term: Term(table, term, *rest) for table, term, *rest in rows}


@dataclass(frozen=True)
class Correction:
    """A corrected month: what its invoice billed and what is owed now (null: nothing is to be corrected), ex GST.

    `carried_cents` is the sum of the lines that correct it, on all the tenant's invoices except void ones.
    """

    billed_cents: int | None
    owed_cents: int | None
    difference_cents: int
    carried_cents: int


_CORRECTIONS = """
    select l.corrects, l.invoice_number, c.billed_cents, c.owed_cents, coalesce(c.difference_cents, 0), l.cents
    from (
        select l.meta ->> 'corrects' as corrects, l.meta ->> 'invoice_number' as invoice_number,
               coalesce(sum(l.amount_cents) filter (where i.status <> 'void'), 0)::bigint as cents
        from billing.tenant_invoice_lines l join billing.tenant_invoices i on i.id = l.invoice_id
        where i.tenant_id = %(tenant)s and l.kind in ('credit', 'adjustment') and l.meta ? 'corrects'
        group by 1, 2
    ) l
    left join billing.invoice_corrections c on c.tenant_id = %(tenant)s and c.period_start::text = l.corrects
    order by 1, 2
"""


def corrections(connection: Connection, tenant: str) -> dict[tuple[str, str], Correction]:
    """What the tenant's adjustments and credits correct, by month (its first day) and number of its invoice."""
    rows = connection.exec_driver_sql(_CORRECTIONS, {"tenant": tenant})
    return {(month, number): Correction(*cents) for month, number, *cents in rows}


@dataclass(frozen=True)
class Entered:
    """A manual line, or a grant of promotional credit, as an operator entered it, in cents ex GST.

    `month` is that of a manual line, `expires_on` the grant's; `taken_cents` is what all invoices but void ones have of
    it.
    """

    amount_cents: int
    operator: str
    reason: str
    entered_at: dt.datetime
    month: dt.date | None
    expires_on: dt.date | None
    taken_cents: int


_ENTERED = """
    with taken as (
        select coalesce(l.meta ->> 'manual_line', l.meta ->> 'grant') as id, sum(l.amount_cents)::bigint as cents
        from billing.tenant_invoices i
        join billing.tenant_invoice_lines l on l.invoice_id = i.id and l.period_start = i.period_start
        where i.tenant_id = %(tenant)s and i.status <> 'void' and l.kind in ('credit', 'adjustment')
          and l.meta ?| array['manual_line', 'grant'] group by 1
    )
    select e.id, e.amount_cents, e.operator, e.reason, e.entered_at, e.month, e.expires_on, coalesce(t.cents, 0)
    from (
        select id::text, amount_cents, operator, reason, entered_at, period_start as month, null::date as expires_on
        from billing.manual_lines where tenant_id = %(tenant)s
        union all
        select id::text, amount_cents, operator, reason, granted_at, null, expires_on
        from billing.credit_grants where tenant_id = %(tenant)s
    ) e
    left join taken t on t.id = e.id
"""


def entered(connection: Connection, tenant: str) -> dict[str, Entered]:
    """The tenant's manual lines and grants by id."""
    rows = connection.exec_driver_sql(_ENTERED, {"tenant": tenant})
    return {id_: Entered(*rest) for id_, *rest in rows}
