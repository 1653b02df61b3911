"""Controls: queries that look for what must not be, each written apart from the code it watches.

A control's query selects offenders, worst first; none is the good answer. Takes `month`, `first` (dates: this month,
the first billing month), `start`, `end` and `cutoff` (instants).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import recount
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import counts, months, unbilled
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, EVERY_DEPLOYMENT, GST_FREE, IS_TIMELESS, bounds
from arcadia_pipelines.storage.corrections import OUTSTANDING
from arcadia_pipelines.storage.credits import STANDING
from arcadia_pipelines.storage.ledger import INVOICED_MONTHS, VOIDED_BY_AN_OPERATOR
from arcadia_pipelines.storage.usage import EQUALS_RAW_RECORDS, WEIGHT, cutoff_of
from arcadia_pipelines.storage.usage_records import RECEIVED

MOST_SHOWN = 20


@dataclass(frozen=True)
class Control:
    """One thing that must hold for a month of an asset."""

    name: str
    asset: str
    description: str
    query: str
    remedy: str
    blocking: bool = False
    """Part of the release gate: what is downstream in the run does not start."""
    warning: bool = False
    unless: str | None = None
    """A quicker query, whose truth says that there are no offenders."""
    reads: tuple[str, ...] = ()
    """Of a blocking one: the tables whose rows of the month it is about."""


@dataclass(frozen=True)
class Finding:
    """The offenders: how many, and the first 20 as column name to value."""

    count: int
    offenders: list[dict[str, object]]


# What is included by plan and kind: by the tenant's own rate, or the list's; of part months their part.
_ALLOWANCES = """
    select * from (
        select distinct on (tenant_id, plan_id, resource_kind) tenant_id, plan_id, resource_kind, included_quantity,
               coalesce(columns ->> 'pooled', 'false') <> 'false' as pooled,
               tenant_id is not null and unit_price_cents is null as gives_back
        from billing.rates() where effective_from <= %(month)s
        order by tenant_id, plan_id, resource_kind, effective_from desc
    ) r where not gives_back
"""
_WITH_ALLOWANCE = f"""
            left join ({_ALLOWANCES}) own
                on own.tenant_id = s.tenant_id and own.plan_id = s.plan_id and own.resource_kind = m.resource_kind
            left join ({_ALLOWANCES}) list
                on list.tenant_id is null and list.plan_id = s.plan_id and list.resource_kind = m.resource_kind
            left join (select subscription_id, max(qty) as days, max(price_per) as in_all
                       from billing.deployment_quote_lines
                       where period_start = %(month)s and kind = 'plan_base' and price_per <> 1 group by 1) part
                on part.subscription_id = s.id
            cross join lateral (
                select pooled,
                       case when part.days is null then whole else round(whole * part.days / part.in_all, 6) end
                           as included_quantity
                from (select case when own.plan_id is null then list.included_quantity else own.included_quantity end
                                 as whole,
                             case when own.plan_id is null then coalesce(list.pooled, false) else own.pooled end
                                 as pooled) r
            ) r
"""
# A view may show two of one id.
_PLAN_OF = """
    select id, min(plan_id::text)::uuid as plan_id, min(tenant_id) as tenant_id from cloud.subscriptions group by id
"""
_UNBILLED = """
    select deployment_id, subscription_id, resource_kind, sum(quantity) as quantity
    from billing.unbilled_usage where period_start = %(month)s group by 1, 2, 3
"""

USAGE_EQUALS_RAW_RECORDS = Control(
    name="usage_equals_raw_records",
    asset="metered_usage",
    blocking=True,
    reads=("metered_usage",),
    description="The frozen usage equals a second count of the raw records, per deployment and resource kind.",
    remedy="Records were changed, or were being written while the month was frozen: materialise the month again.",
    unless=EQUALS_RAW_RECORDS,
    query=f"""
        with raw as (
            select deployment_id, resource_kind, count(*) as records,
                   coalesce(sum(case when abs(quantity) < 1e12 then quantity end), 0)::numeric(38, 6) as quantity
            from ({RECEIVED}) r group by 1, 2
        ),
        frozen as (
            select deployment_id, resource_kind, sum(record_count) as records, sum(quantity) as quantity
            from billing.metered_usage where period_start = %(month)s group by 1, 2
        )
        select deployment_id, resource_kind, raw.records as raw_records, frozen.records as frozen_records,
               raw.quantity as raw_quantity, frozen.quantity as frozen_quantity
        from raw full join frozen using (deployment_id, resource_kind)
        where (raw.records, raw.quantity) is distinct from (frozen.records, frozen.quantity)
        order by deployment_id, resource_kind
    """,
)

# The quantity of a line is what is billed of usage, but of packages, tiers and caps: those say what they are of.
_BY_RULE = "kind = 'overage' and (meta ? 'model' or unit = 'cap')"
_BILLED_USAGE = f"""
    select tenant_id, deployment_id, resource_kind, qty as quantity, meta ? 'pooled' as pooled
    from billing.deployment_quote_lines where period_start = %(month)s and kind = 'overage' and not ({_BY_RULE})
    union all
    select tenant_id, deployment_id, resource_kind,
           max((meta ->> 'used')::numeric - (meta ->> 'included')::numeric
               - coalesce((meta ->> 'pooled')::numeric, 0)), bool_or(meta ? 'pooled')
    from billing.deployment_quote_lines where period_start = %(month)s and {_BY_RULE}
    group by subscription_id, tenant_id, deployment_id, resource_kind
"""
# Of pooled kinds the sum per tenant is told: what all used beyond what all include, also those that used nothing.
_POOLS = f"""
    with m as (
        select s.tenant_id, m.resource_kind, sum(m.quantity) as metered
        from billing.metered_usage m
        left join ({_UNBILLED}) u
            on u.deployment_id = m.deployment_id and u.resource_kind = m.resource_kind
           and u.subscription_id is not distinct from m.subscription_id
        join ({_PLAN_OF}) s on s.id = m.subscription_id
        {_WITH_ALLOWANCE}
        where m.period_start = %(month)s and u.quantity is null and r.pooled group by 1, 2
    ),
    allowed as (
        select m.tenant_id, m.resource_kind, m.metered, sum(r.included_quantity) as included
        from m join ({BILLED_SUBSCRIPTIONS}) s on s.tenant_id = m.tenant_id
        {_WITH_ALLOWANCE}
        where r.pooled group by 1, 2, 3
    ),
    billed as (
        select tenant_id, resource_kind, sum(quantity) as overage from ({_BILLED_USAGE}) b where pooled group by 1, 2
    )
    select tenant_id, resource_kind, metered, included, overage
    from allowed full join billed using (tenant_id, resource_kind)
    where greatest(metered - included, 0) is distinct from coalesce(overage, 0)
"""

USAGE_IS_CONSERVED = Control(
    name="usage_is_conserved",
    asset="deployment_quotes",
    blocking=True,
    reads=("metered_usage", "unbilled_usage", "deployment_quote_lines"),
    description="Metered = included + overage + unbilled, per deployment and resource kind; pooled kinds per tenant.",
    remedy="The quotes do not fit the frozen usage: materialise the month again; if it stays, the engine is wrong.",
    unless=f"""
        select (
            select coalesce(sum({WEIGHT.format("m.")} * (
                       m.quantity - case when u.quantity is not null or r.included_quantity is null then 0
                                         when r.pooled then m.quantity
                                         else least(m.quantity, r.included_quantity) end)), 0)
            from billing.metered_usage m
            left join ({_UNBILLED}) u
                on u.deployment_id = m.deployment_id and u.resource_kind = m.resource_kind
               and u.subscription_id is not distinct from m.subscription_id
            left join ({_PLAN_OF}) s on s.id = m.subscription_id
            {_WITH_ALLOWANCE}
            where m.period_start = %(month)s
        ) = (
            select coalesce(sum({WEIGHT.format("")} * quantity), 0) from ({_BILLED_USAGE}) b where not pooled
        ) + (
            select coalesce(sum({WEIGHT.format("")} * quantity), 0) from billing.unbilled_usage
            where period_start = %(month)s
        ) and case when exists (select from billing.rates() where columns ->> 'pooled' <> 'false')
                   then not exists ({_POOLS}) else true end
    """,
    query=f"""
        with metered as (
            select deployment_id, subscription_id, resource_kind, sum(quantity) as quantity
            from billing.metered_usage where period_start = %(month)s group by 1, 2, 3
        ),
        overage as (
            select deployment_id, resource_kind, sum(quantity) as quantity from ({_BILLED_USAGE}) b
            where not pooled group by 1, 2
        ),
        unbilled as ({_UNBILLED}),
        allowed as (
            select m.deployment_id, m.resource_kind, sum(m.quantity) as metered, sum(u.quantity) as unbilled,
                   sum(case when r.pooled then m.quantity else least(m.quantity, r.included_quantity) end)
                       filter (where u.quantity is null and r.included_quantity is not null) as included
            from metered m
            left join unbilled u on u.deployment_id = m.deployment_id and u.resource_kind = m.resource_kind
                                and u.subscription_id is not distinct from m.subscription_id
            left join ({_PLAN_OF}) s on s.id = m.subscription_id
            {_WITH_ALLOWANCE}
            group by 1, 2
        )
        select null as tenant_id, deployment_id, resource_kind, a.metered, a.included, o.quantity as overage, a.unbilled
        from allowed a full join overage o using (deployment_id, resource_kind)
        where a.metered is distinct from coalesce(a.included, 0) + coalesce(o.quantity, 0) + coalesce(a.unbilled, 0)
        union all
        select tenant_id, null, resource_kind, metered, included, overage, null from ({_POOLS}) p
        order by 1, 2, 3
    """,
)

CONTROLS = [
    USAGE_EQUALS_RAW_RECORDS,
    Control(
        name="every_usage_record_has_a_time",
        asset="metered_usage",
        description="No record that came in the month lacks a time that can be read; nor, in the newest frozen month, "
        "one that came later, before the first billing month, or nobody knows when.",
        remedy="Correct recorded_at in usage_records, or remove them; then materialise the month again. A tenant that "
        "the month bills for the deployment is held back while they came in the month: its usage is not whole.",
        query=f"""
            select d.tenant_id, r.deployment_id, d.name as deployment_name, r.resource_kind, count(*) as records,
                   sum(r.quantity) as quantity, min(r.ingested_at)::text as ingested_from,
                   max(r.ingested_at)::text as ingested_until
            from cloud.usage_records r left join ({EVERY_DEPLOYMENT}) d on d.id = r.deployment_id
            where {IS_TIMELESS}
              and (ingested_at >= %(start)s and ingested_at < %(end)s
                   or (ingested_at >= %(first)s and ingested_at < %(end)s) is not true
                      and %(month)s >= (select max(period_start) from billing.billing_months))
            group by 1, 2, 3, 4 order by count(*) desc, 2, 4
        """,
    ),
    USAGE_IS_CONSERVED,
    Control(
        name="no_tenant_is_held_back",
        asset="deployment_quotes",
        description="No tenant has a fault that keeps it from being quoted and invoiced.",
        remedy="Mend what `detail` says, then materialise the month again: the tenant is invoiced then.",
        query="""
            select tenant_id, fault, detail, deployment_id, subscription_id, resource_kind
            from billing.quote_faults where period_start = %(month)s order by tenant_id, fault, detail
        """,
    ),
    Control(
        name="all_usage_is_billed",
        asset="deployment_quotes",
        warning=True,
        description="No usage is without a subscription or a rate that it could be billed by, unless that is accepted.",
        remedy="Add the missing rate or subscription, and materialise the month again; or accept that nobody pays for "
        "it, with the job accept_unbilled_usage (arcadia accept-unbilled-usage).",
        query=f"select {', '.join(unbilled.UNBILLED.names)} from ({unbilled.OPEN}) u order by {unbilled.WORST_FIRST}",
    ),
    Control(
        name="totals_equal_lines",
        asset="tenant_invoices",
        description="Each invoice's subtotal and tax are the sums of its lines, numbered without a gap.",
        remedy="An invoice or a line was changed outside the pipeline: compare it with invoice_events.",
        query="""
            with sums as (
                select invoice_id, sum(amount_cents) filter (where kind <> 'tax') as subtotal,
                       sum(amount_cents) filter (where kind = 'tax') as tax, count(*) as lines, max(line_no) as last
                from billing.tenant_invoice_lines where period_start = %(month)s group by 1
            )
            select i.invoice_number, i.tenant_id, i.subtotal_cents, s.subtotal as lines_subtotal_cents, i.tax_cents,
                   s.tax as lines_tax_cents
            from billing.tenant_invoices i left join sums s on s.invoice_id = i.id
            where i.period_start = %(month)s
              and ((i.subtotal_cents, i.tax_cents) is distinct from (s.subtotal, coalesce(s.tax, 0))
                   or s.lines <> s.last)
            order by i.tenant_id
        """,
    ),
    Control(
        name="gst_recomputed_a_second_way",
        asset="tenant_invoices",
        description="Each invoice's GST is a tenth of its taxable lines by integers, half a cent up.",
        remedy="The tax is not what the lines say: compare with invoice_events, then re-materialise the month.",
        query=f"""
            with sums as (
                select invoice_id, sum(amount_cents)::bigint as cents
                from billing.tenant_invoice_lines where period_start = %(month)s and kind <> 'tax' group by 1
            ),
            otherwise as (
                select invoice_id, sum(amount_cents) filter (where meta ->> 'taxable' = 'true')::bigint as taxed,
                       sum(amount_cents) filter (where meta ->> 'taxable' = 'false')::bigint as free
                from billing.tenant_invoice_lines
                where period_start = %(month)s and kind in ('credit', 'adjustment') group by 1
            )
            select i.invoice_number, i.tenant_id, t.cents as taxable_cents, i.tax_cents
            from billing.tenant_invoices i
            join sums s on s.invoice_id = i.id
            left join otherwise o on o.invoice_id = i.id
            cross join lateral (
                select case when {GST_FREE.format("i")} then coalesce(o.taxed, 0)
                            else s.cents - coalesce(o.free, 0) end as cents
            ) t
            where i.period_start = %(month)s and i.tax_cents <> sign(t.cents) * ((abs(t.cents) + 5) / 10)
            order by i.tenant_id
        """,
    ),
    Control(
        name="every_billable_tenant_is_invoiced",
        asset="tenant_invoices",
        description="Every tenant with a subscription in the month, and no fault, has an invoice, which is not void "
        "unless an operator has voided it.",
        remedy="Materialise the month again; a void invoice stays void until an operator reopens it.",
        query=f"""
            select s.tenant_id, count(*) as subscriptions, max(i.status) as invoice_status
            from ({BILLED_SUBSCRIPTIONS}) s
            left join billing.tenant_invoices i on i.tenant_id = s.tenant_id and i.period_start = %(month)s
            where (i.id is null or i.status = 'void' and not {VOIDED_BY_AN_OPERATOR})
              and s.tenant_id not in (select tenant_id from billing.quote_faults
                                      where period_start = %(month)s and tenant_id is not null)
            group by 1 order by 1
        """,
    ),
    Control(
        name="every_month_before_is_invoiced",
        asset="tenant_invoices",
        warning=True,
        description="Every month from the first billing month to this one is invoiced.",
        remedy="Materialise them, oldest first, or start the sensor invoice_missed_months.",
        query=f"""
            select to_char(missed, 'YYYY-MM') as month
            from generate_series(%(first)s::date, %(month)s::date - 1, interval '1 month') missed
            where missed::date not in ({INVOICED_MONTHS}) order by 1
        """,
    ),
    Control(
        name="gst_status_of_frozen_invoices",
        asset="tenant_invoices",
        warning=True,
        description="Every issued or paid invoice of the month has GST, or none, as its tenant has now.",
        remedy="It keeps the status that it was issued with. If that was wrong for the month: void it, reopen it and "
        "run the month again, which issues it with today's; what is wrong on a paid one is for people to settle.",
        query=f"""
            select i.invoice_number, i.tenant_id, i.status, i.tax_cents,
                   i.meta ->> 'gst_free_reason' as invoiced_reason,
                   nullif(btrim(t.gst_free_reason), '') as reason_now
            from billing.tenant_invoices i join cloud.tenants t on t.id = i.tenant_id
            where i.period_start = %(month)s and i.status in ('issued', 'paid')
              and {GST_FREE.format("i")} <> (nullif(btrim(t.gst_free_reason), '') is not null)
            order by i.tenant_id
        """,
    ),
    Control(
        name="corrections_are_carried",
        asset="tenant_invoices",
        warning=True,
        description="What a paid, delivered or pushed invoice of the month bills too little or too much is on a later "
        "invoice.",
        remedy="The tenant's next invoice carries it: nothing to do.",
        query=f"""
            select * from ({OUTSTANDING}) o where corrects = %(month)s and tenant_id in (select id from cloud.tenants)
            order by abs(outstanding_cents) desc, tenant_id
        """,
    ),
    Control(
        name="corrections_have_a_tenant",
        asset="tenant_invoices",
        description="What is still to be corrected of the month and those before is of tenants that exist.",
        remedy="No invoice carries it: restore the tenant in tenants, and its next invoice does.",
        query=f"""
            select * from ({OUTSTANDING}) o
            where corrects <= %(month)s and tenant_id not in (select id from cloud.tenants)
            order by abs(outstanding_cents) desc, tenant_id
        """,
    ),
    Control(
        name="manual_lines_are_carried",
        asset="tenant_invoices",
        warning=True,
        description="Every manual line of the month and those before is on an invoice.",
        remedy="If its month's invoice is locked, the tenant's next invoice carries it: nothing to do. Else "
        "materialise the month that it was entered for.",
        query=f"""
            select to_char(m.period_start, 'YYYY-MM') as entered_for, m.tenant_id, m.description, m.amount_cents,
                   m.operator, i.invoice_number, i.status
            from billing.manual_lines m
            left join billing.tenant_invoices i on i.tenant_id = m.tenant_id and i.period_start = m.period_start
            where m.period_start <= %(month)s
              and not exists (select from ({STANDING}) s
                              where s.tenant_id = m.tenant_id and s.manual_line = m.id::text)
            order by m.period_start, abs(m.amount_cents) desc, m.tenant_id, m.id
        """,
    ),
    Control(
        name="earlier_months_are_unchanged",
        asset="tenant_invoices",
        description="Every invoice of the twelve months before bills what its newest event says; its lines sum to it.",
        remedy="An invoice was changed outside the pipeline: compare it with invoice_events.",
        query="""
            with newest as (
                select distinct on (invoice_id) invoice_id, period_start, invoice_number, tenant_id, revision,
                       total_cents, content_sha256
                from billing.invoice_events
                where period_start >= %(month)s::date - interval '12 months' and period_start < %(month)s
                order by invoice_id, id desc
            ),
            sums as (
                select invoice_id, sum(amount_cents) as cents from billing.tenant_invoice_lines
                where period_start >= %(month)s::date - interval '12 months' and period_start < %(month)s group by 1
            ),
            standing as (
                select id as invoice_id, period_start, invoice_number, tenant_id, revision, total_cents, content_sha256
                from billing.tenant_invoices
                where period_start >= %(month)s::date - interval '12 months' and period_start < %(month)s
            )
            select coalesce(i.period_start, e.period_start) as period_start,
                   coalesce(i.invoice_number, e.invoice_number) as invoice_number,
                   coalesce(i.tenant_id, e.tenant_id) as tenant_id, i.total_cents,
                   e.total_cents as event_total_cents, s.cents as lines_total_cents
            from standing i
            full join newest e using (invoice_id)
            left join sums s using (invoice_id)
            where (i.revision, i.total_cents, i.content_sha256)
                      is distinct from (e.revision, e.total_cents, e.content_sha256)
               or i.total_cents is distinct from s.cents
            order by 1, 3
        """,
    ),
    Control(
        name="emails_reach_their_tenants",
        asset="tenant_invoices",
        description="No e-mail of the month's invoices was refused, came back, or is uncertain.",
        remedy="Correct the tenant's billing_email, and send it again: `arcadia settle-email INVOICE --outcome again "
        "--recipient ADDRESS`, then `arcadia deliver --email MONTH`. Of an uncertain one, see first in the server's log"
        " whether it was taken: then `--outcome sent`. The invoice is delivered whether it arrived or not.",
        query="""
            select i.invoice_number, i.tenant_id, o.recipient, o.state, o.said, o.changed_at, i.total_cents
            from billing.email_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
            where o.period_start = %(month)s
              and (o.state = 'uncertain'
                   or o.state = 'refused' and (i.status <> 'void' or o.document_state = 'void')
                   or o.state = 'sending' and o.changed_at < now() - interval '1 hour')
            order by abs(i.total_cents) desc, i.invoice_number
        """,
    ),
]


def find(connection: Connection, control: Control, month: BillingMonth) -> Finding:
    """Run the control for the month; see find_each()."""
    [found] = find_each(connection, [control], month)
    return found


def find_each(connection: Connection, controls: Iterable[Control], month: BillingMonth) -> list[Finding]:
    """Run the controls for the month, in order.

    Usage that was counted elsewhere is counted there again; raises UsageSourceError if that cannot be done.
    """
    parameters = {
        **bounds(month),
        "month": month.start,
        "first": Settings.from_environment().first_month.start,
        "cutoff": cutoff_of(connection, month),
    }
    return [_find(connection, control, month, parameters) for control in controls]


def _find(connection: Connection, control: Control, month: BillingMonth, parameters: Mapping[str, object]) -> Finding:
    if control is USAGE_EQUALS_RAW_RECORDS and (pin := counts.pin(connection, month)):
        return Finding(*recount.find(connection, month, pin, MOST_SHOWN))
    if control.unless and connection.exec_driver_sql(control.unless, parameters).scalar_one():
        return Finding(count=0, offenders=[])
    found = connection.exec_driver_sql(
        f"select count(*) over () as offenders_in_all, q.* from ({control.query}) q limit {MOST_SHOWN}", parameters
    ).mappings()
    rows = [dict(row) for row in found]
    in_all = [int(row.pop("offenders_in_all")) for row in rows]
    return Finding(count=in_all[0] if in_all else 0, offenders=rows)


def rows_of(connection: Connection, control: Control, month: BillingMonth) -> str:
    """Of the tables that the blocking control reads of the month: which rows they are (months.rows_as_they_are)."""
    return months.rows_as_they_are(connection, month, *control.reads)


def has_passed(connection: Connection, control: Control, month: BillingMonth) -> bool:
    """Whether the blocking control has looked at the month's rows as they stand, and found nothing."""
    passed = connection.exec_driver_sql(
        "select rows_passed from billing.passed_controls where period_start = %(month)s and control = %(control)s",
        {"month": month.start, "control": control.name},
    ).scalar()
    return passed is not None and passed == rows_of(connection, control, month)


def pass_if_clean(
    connection: Connection, control: Control, month: BillingMonth, run_id: str, is_clean: bool = False
) -> Finding:
    """Look at the month's rows with the blocking control, and record it if it finds nothing; returns what it finds.

    What is known to be clean is not looked at.
    """
    rows = rows_of(connection, control, month)
    found = Finding(count=0, offenders=[]) if is_clean else find(connection, control, month)
    if not found.count:
        record_passed(connection, control, month, rows, run_id)
    return found


def record_passed(connection: Connection, control: Control, month: BillingMonth, rows: str, run_id: str) -> None:
    """Record that the blocking control found nothing in these rows (rows_of() before it looked).

    Nothing is written if that is on record.
    """
    connection.exec_driver_sql(
        "insert into billing.passed_controls (period_start, control, rows_passed, run_id)"
        " values (%(month)s, %(control)s, %(rows)s, %(run)s)"
        " on conflict (period_start, control) do update"
        " set rows_passed = excluded.rows_passed, run_id = excluded.run_id, passed_at = now()"
        " where passed_controls.rows_passed <> excluded.rows_passed",
        {"month": month.start, "control": control.name, "rows": rows, "run": run_id},
    )
