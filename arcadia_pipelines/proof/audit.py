"""Audits: a month's invoices worked out a second way, in plain SQL written apart from the engine, and compared.

Belongs here: what must hold of invoices, lines, events and numbers as they stand. Does not: what a run looks for while
it works (controls.py, of which some are audits too), and the engine's own second run (replay.py).
"""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof.controls import CONTROLS, Control, Finding, find
from arcadia_pipelines.storage import chain, ledger, losses, migrations
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.database import refuse_partial_view
from arcadia_pipelines.storage.ledger import LINES_SHA256

# What the month owes by the rules of the money, as CTEs that end in `owed`: one row per line, before GST.
_OWED = """
    billed as (
        select id, tenant_id, deployment_id, plan_id, started_at, ended_at from cloud.subscriptions
        where status <> 'pending' and started_at < %(end)s
          and (ended_at is null or ended_at > %(start)s and ended_at > started_at)
    ),
    plan_price as (
        select plan_id, base_price_cents, effective_from
        from (select *, lead(effective_from) over (partition by plan_id order by effective_from) as until
              from cloud.plan_prices) p
        where effective_from <= %(month)s and (until is null or until > %(month)s)
    ),
    plan_rate as (
        select plan_id, resource_kind, included_quantity, unit, unit_price_cents, effective_from
        from (select *, lead(effective_from) over (partition by plan_id, resource_kind order by effective_from) as until
              from cloud.plan_rates) p
        where effective_from <= %(month)s and (until is null or until > %(month)s)
    ),
    addon_price as (
        select addon_id, price_cents, effective_from
        from (select *, lead(effective_from) over (partition by addon_id order by effective_from) as until
              from cloud.addon_prices) p
        where effective_from <= %(month)s and (until is null or until > %(month)s)
    ),
    used as (
        select s.tenant_id, s.plan_id, u.deployment_id, u.resource_kind, sum(u.quantity) as quantity
        from billing.metered_usage u join billed s on s.id = u.subscription_id
        where u.period_start = %(month)s group by s.id, s.tenant_id, s.plan_id, u.deployment_id, u.resource_kind
    ),
    priced as (
        select s.tenant_id, s.deployment_id, 'plan_base' as kind, null as resource_kind,
               'Plan: ' || plans.code as description, 1::numeric as qty, 'month' as unit,
               p.base_price_cents::numeric as unit_price_cents, p.effective_from
        from billed s join cloud.plans on plans.id = s.plan_id join plan_price p on p.plan_id = s.plan_id
        union all
        select s.tenant_id, s.deployment_id, 'addon', null, 'Addon: ' || addons.code, a.quantity, 'month',
               p.price_cents, p.effective_from
        from billed s
        join cloud.subscription_addons a on a.subscription_id = s.id
        join cloud.addons on addons.id = a.addon_id
        join addon_price p on p.addon_id = a.addon_id
        where a.quantity <> 0 and a.started_at < %(end)s and (s.ended_at is null or s.ended_at > a.started_at)
          and (a.ended_at is null
               or a.ended_at > %(start)s and a.ended_at > a.started_at and a.ended_at > s.started_at)
        union all
        select u.tenant_id, u.deployment_id, 'overage', u.resource_kind, 'Overage: ' || u.resource_kind,
               u.quantity - r.included_quantity, r.unit, r.unit_price_cents, r.effective_from
        from used u join plan_rate r on r.plan_id = u.plan_id and r.resource_kind = u.resource_kind
        where u.quantity > r.included_quantity
    ),
    owed as (
        select *, sign(qty * unit_price_cents) * floor(abs(qty * unit_price_cents) + 0.5) as amount_cents from priced
    )
"""

# How each invoice of the month is compared with what is owed. One that is paid or pushed keeps its lines whatever
# happens since; of one whose deployment is deleted, nobody knows any more which line was for what.
_STANDING = """
    held as (
        select tenant_id from billing.quote_faults where period_start = %(month)s and tenant_id is not null
        union select tenant_id from billing.tenant_holds
    ),
    orphaned as (
        select distinct invoice_id from billing.tenant_invoice_lines
        where period_start = %(month)s and deployment_id is null and kind in ('plan_base', 'addon', 'overage')
    ),
    standing as (
        select i.*, is_void, is_held, is_frozen, is_orphaned,
               not (is_void or is_held or is_frozen or is_orphaned) as by_line,
               (is_frozen or is_orphaned) and not (is_void or is_held) as by_sum
        from billing.tenant_invoices i
        left join held on held.tenant_id = i.tenant_id
        left join orphaned on orphaned.invoice_id = i.id
        cross join lateral (
            select i.status = 'void' as is_void, held.tenant_id is not null as is_held,
                   i.status = 'paid' or num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at) > 0 as is_frozen,
                   orphaned.invoice_id is not null as is_orphaned
        ) flags
        where i.period_start = %(month)s
    )
"""

# Whether the invoice v has no GST: it says why; or it has none and no line for it, and either its tenant has none now,
# or it is settled, did not begin here, and is so large that there would be some.
_WITHOUT_GST = """
    (case when v.meta ? 'gst_free_reason' then true
          when v.tax_cents <> 0 then false
          when 'tax' in (select kind from billing.tenant_invoice_lines
                         where invoice_id = v.id and period_start = v.period_start) then false
          when (select max(nullif(btrim(gst_free_reason), '')) from cloud.tenants where id = v.tenant_id) is not null
              then true
          else (v.status = 'paid' or v.finance_invoice_id is not null or v.pushed_to_finance_at is not null)
               and v.subtotal_cents not between -4 and 4
               and not coalesce((select bool_or(event in ('issued', 'drafted')) from billing.invoice_events
                                 where invoice_id = v.id), false) end)
"""

# What is left when every line on one side is struck out against its equal on the other: +1 is owed, -1 stands.
_LINES = """
    apart as (
        select tenant_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents,
               effective_from, sum(side) as side
        from sides
        group by tenant_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents,
                 effective_from
        having sum(side) <> 0
    ),
    paired as (
        select *, side > 0 as is_owed,
               row_number() over (partition by tenant_id, deployment_id, kind, resource_kind, description, side > 0
                                  order by amount_cents, qty, unit_price_cents, effective_from) as place
        from apart
    ),
    differing as (
        select tenant_id, deployment_id, kind, resource_kind, description,
               case when not bool_or(is_owed) then 'unexpected' when bool_and(is_owed) then 'missing' else 'different'
               end as found,
               max(qty) filter (where not is_owed) as standing_qty, max(qty) filter (where is_owed) as owed_qty,
               max(unit) filter (where not is_owed) as standing_unit, max(unit) filter (where is_owed) as owed_unit,
               max(unit_price_cents) filter (where not is_owed) as standing_unit_price_cents,
               max(unit_price_cents) filter (where is_owed) as owed_unit_price_cents,
               max(effective_from) filter (where not is_owed) as standing_effective_from,
               max(effective_from) filter (where is_owed) as owed_effective_from,
               max(amount_cents) filter (where not is_owed) as standing_amount_cents,
               max(amount_cents) filter (where is_owed) as owed_amount_cents
        from paired group by tenant_id, deployment_id, kind, resource_kind, description, place
    )
    select i.invoice_number, d.*
    from differing d
    left join billing.tenant_invoices i on i.tenant_id = d.tenant_id and i.period_start = %(month)s
    order by abs(coalesce(standing_amount_cents, 0) - coalesce(owed_amount_cents, 0)) desc, d.tenant_id,
             d.deployment_id, d.description
"""


# The hash of each key of `to_hash`, which has one row per line. As billing/invoice.py has it: a line's fields between
# 0x1f, a null as 0x00, the lines sorted by their bytes, head and lines between 0x1e.
_FIELDS = (
    "deployment_id::text",
    "kind",
    "resource_kind",
    "description",
    "trunc(qty * 1000000)::text",
    "unit",
    "trunc(unit_price_cents * 100000000)::text",
    "amount_cents::text",
    "meta::text",
)
_CONTENT = r" || '\x1f'::bytea || ".join(rf"coalesce(convert_to({field}, 'UTF8'), '\x00'::bytea)" for field in _FIELDS)
_HASHES = rf"""
    select key, encode(sha256(convert_to(concat_ws(chr(31), tenant_id, %(month)s::date::text, 'AUD',
                                                   coalesce(gst_free_reason, '')), 'UTF8')
                              || string_agg('\x1e'::bytea || content, ''::bytea order by content)), 'hex') as sha256
    from (select key, tenant_id, gst_free_reason, {_CONTENT} as content from to_hash) c
    group by key, tenant_id, gst_free_reason
"""


@dataclass(frozen=True)
class Audit:
    """Something to prove of a month, and of what: a column of _LOOKED_AT."""

    control: Control
    of: str


def _audit(of: str, name: str, description: str, remedy: str, query: str) -> Audit:
    return Audit(Control(name=name, asset="tenant_invoices", description=description, query=query, remedy=remedy), of)


def _applied(of: str, name: str) -> Audit:
    """A control that runs at the month end too."""
    return Audit(next(control for control in CONTROLS if control.name == name), of)


_TAMPERED = "Invoices or lines were changed outside the pipeline: compare them with invoice_events."
_REWRITTEN = (
    "History was changed, which the database refuses to all but its owner: restore invoice_events from a backup."
)
_CHANGED = (
    "Subscriptions, addons, prices or tenants were changed since the month was invoiced: materialise it again; if it "
    "stays, call a developer."
)

AUDITS = [
    _audit(
        "tables",
        "nothing_is_missing",
        "Each table has what the others tell of the month: its partition, attached; the rows that were written; the "
        "invoice of each tenant that was invoiced.",
        "`arcadia rebuild MONTH` puts lost invoice lines and frozen usage back as far as that can be proved; quote "
        "lines come back when the month is materialised again; all else has to come from a backup.",
        losses.MISSING,
    ),
    _applied("usage_records", "usage_equals_raw_records"),
    _applied("usage_rows", "usage_is_conserved"),
    _audit(
        "quote_lines",
        "quotes_are_invoiced",
        "Each quote line is on its tenant's invoice and each supply line was quoted; not of invoices that are void, "
        "held back, paid or pushed, or whose deployment is deleted.",
        "The month was quoted again since it was invoiced, or lines were changed: materialise it again.",
        f"""
            with {_STANDING},
            sides as (
                select q.tenant_id, q.deployment_id, q.kind, q.resource_kind, q.description, q.qty, q.unit,
                       q.unit_price_cents, q.amount_cents, q.meta ->> 'effective_from' as effective_from, 1 as side
                from billing.deployment_quote_lines q left join standing s on s.tenant_id = q.tenant_id
                where q.period_start = %(month)s and coalesce(s.by_line, true)
                union all
                select s.tenant_id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
                       l.unit_price_cents, l.amount_cents, l.meta ->> 'effective_from', -1
                from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
                where l.period_start = %(month)s and l.kind in ('plan_base', 'addon', 'overage') and s.by_line
            ),
            {_LINES}
        """,
    ),
    _audit(
        "supply_lines",
        "lines_follow_from_usage_and_prices",
        "The plan_base, addon and overage lines are those that frozen usage, subscriptions and prices make; not of "
        "invoices that are void, held back, paid or pushed, or whose deployment is deleted.",
        _CHANGED,
        f"""
            with {_OWED}, {_STANDING},
            sides as (
                select o.tenant_id, o.deployment_id, o.kind, o.resource_kind, o.description, o.qty, o.unit,
                       o.unit_price_cents, o.amount_cents, o.effective_from::text as effective_from, 1 as side
                from owed o
                left join standing s on s.tenant_id = o.tenant_id
                left join held on held.tenant_id = o.tenant_id
                where coalesce(s.by_line, held.tenant_id is null)
                union all
                select s.tenant_id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
                       l.unit_price_cents, l.amount_cents, l.meta ->> 'effective_from', -1
                from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
                where l.period_start = %(month)s and l.kind in ('plan_base', 'addon', 'overage') and s.by_line
            ),
            {_LINES}
        """,
    ),
    _audit(
        "sums",
        "frozen_sums_and_corrections_agree",
        "The supply lines of each invoice that is paid or pushed, or whose deployment is deleted, and its difference "
        "in invoice_corrections sum to what usage, subscriptions and prices make.",
        "Materialise the month again, which finds the difference and puts it on the tenant's next invoice.",
        f"""
            with {_OWED}, {_STANDING},
            sums as (select tenant_id, sum(amount_cents) as cents from owed group by 1),
            billed_sums as (
                select invoice_id, sum(amount_cents) as cents from billing.tenant_invoice_lines
                where period_start = %(month)s and kind in ('plan_base', 'addon', 'overage') group by 1
            )
            select invoice_number, tenant_id, status, billed_cents, correction_cents, owed_cents
            from (
                select s.*, coalesce(b.cents, 0) as billed_cents, coalesce(c.difference_cents, 0) as correction_cents,
                       coalesce(o.cents, 0) as owed_cents
                from standing s
                left join sums o on o.tenant_id = s.tenant_id
                left join billed_sums b on b.invoice_id = s.id
                left join billing.invoice_corrections c on c.tenant_id = s.tenant_id and c.period_start = %(month)s
                where s.by_sum
            ) s
            where billed_cents + correction_cents <> owed_cents
            order by abs(billed_cents + correction_cents - owed_cents) desc, tenant_id
        """,
    ),
    _audit(
        "lines",
        "lines_multiply_out",
        "Each line's amount is qty x unit price, rounded half up away from zero; overage is used less included.",
        _TAMPERED,
        r"""
            select i.invoice_number, i.tenant_id, l.line_no, l.description, l.qty, l.unit_price_cents, l.amount_cents,
                   l.exact_cents, l.used - l.included as used_less_included
            from (
                select *, qty * unit_price_cents as exact_cents,
                       case when meta ->> 'used' ~ '^-?\d+(\.\d+)?(E[+-]?\d{1,3})?$'
                            then (meta ->> 'used')::numeric end as used,
                       case when meta ->> 'included' ~ '^-?\d+(\.\d+)?(E[+-]?\d{1,3})?$'
                            then (meta ->> 'included')::numeric end as included
                from billing.tenant_invoice_lines where period_start = %(month)s
            ) l
            left join billing.tenant_invoices i on i.id = l.invoice_id
            where l.amount_cents <> sign(l.exact_cents) * floor(abs(l.exact_cents) + 0.5)
               or l.kind = 'overage' and l.used - l.included is distinct from l.qty
            order by abs(l.amount_cents - l.exact_cents) desc, i.tenant_id, l.line_no
        """,
    ),
    _audit(
        "lines",
        "lines_are_numbered_in_order",
        "Each line is on an invoice of its month; its number counts from 1: by deployment, plan_base, addon, overage, "
        "then credits and adjustments, then tax.",
        _TAMPERED,
        """
            with placed as (
                select l.*,
                       case when kind = 'tax' then 3 when kind in ('credit', 'adjustment') then 2 else 1 end as part,
                       case kind when 'plan_base' then 1 when 'addon' then 2 when 'overage' then 3 end as kind_order
                from billing.tenant_invoice_lines l where period_start = %(month)s
            ),
            ordered as (
                select p.*, row_number() over of_invoice as place, lag(part) over of_invoice as part_before,
                       lag(deployment_name) over of_invoice as name_before,
                       lag(deployment_id) over of_invoice as deployment_before,
                       lag(kind_order) over of_invoice as kind_before
                from placed p window of_invoice as (partition by invoice_id order by line_no)
            )
            select i.invoice_number, i.tenant_id, o.line_no, o.place, o.kind, o.description, o.deployment_name,
                   o.invoice_id
            from ordered o
            left join billing.tenant_invoices i on i.id = o.invoice_id and i.period_start = %(month)s
            where i.id is null or o.line_no <> o.place or o.part < o.part_before
               or o.part = 1 and o.part_before = 1
                  and (o.deployment_name collate "C" < o.name_before collate "C"
                       or o.deployment_name = o.name_before
                          and (o.deployment_id < o.deployment_before
                               or o.deployment_id = o.deployment_before and o.kind_order < o.kind_before))
            order by i.tenant_id, o.invoice_id, o.place
        """,
    ),
    _audit(
        "invoices",
        "subscriptions_are_billed_once",
        "No subscription is billed by two tenants' invoices that are issued or paid, and billed_subscriptions has one "
        "for each plan line of an invoice that can still change.",
        "Void one of the two invoices. If the numbers differ: materialise the month again.",
        f"""
            with {_STANDING},
            billed as (
                select b.*, s.invoice_number, s.by_line, s.status in ('issued', 'paid') as is_owed
                from billing.billed_subscriptions b join standing s on s.tenant_id = b.tenant_id
                where b.period_start = %(month)s
            ),
            twice as (
                select subscription_id from billed where is_owed group by 1 having count(*) > 1
            ),
            counted as (
                select tenant_id, deployment_id, sum(lines) as plan_lines, sum(subscriptions) as subscriptions
                from (
                    select s.tenant_id, l.deployment_id, 1 as lines, 0 as subscriptions
                    from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
                    where l.period_start = %(month)s and l.kind = 'plan_base' and s.by_line
                    union all
                    select tenant_id, deployment_id, 0, 1 from billed where by_line
                ) sides
                group by 1, 2 having sum(lines) <> sum(subscriptions)
            )
            select invoice_number, tenant_id, deployment_id, subscription_id, null::bigint as plan_lines,
                   null::bigint as subscriptions
            from billed join twice using (subscription_id) where is_owed
            union all
            select s.invoice_number, c.tenant_id, c.deployment_id, null, c.plan_lines, c.subscriptions
            from counted c join standing s on s.tenant_id = c.tenant_id
            order by subscription_id, tenant_id, deployment_id
        """,
    ),
    _applied("invoices", "totals_equal_lines"),
    _applied("invoices", "gst_recomputed_a_second_way"),
    _audit(
        "invoices",
        "tax_lines_fit_the_gst_status",
        "A GST-free invoice that carries no taxed correction has no tax line, every other one, which says the taxable "
        "cents; a draft of a tenant that is not held back has its tenant's GST status.",
        "Of a draft, the tenant's GST status was changed since: materialise the month again. Else compare with "
        "invoice_events.",
        f"""
            with {_STANDING},
            tax as (
                select invoice_id, count(*) as lines, max(meta ->> 'taxable_cents') as taxable
                from billing.tenant_invoice_lines where period_start = %(month)s and kind = 'tax' group by 1
            ),
            otherwise as (
                select invoice_id, count(*) filter (where meta ->> 'taxable' = 'true') as taxed_lines,
                       sum(amount_cents) filter (where meta ->> 'taxable' = 'true') as taxed_cents,
                       sum(amount_cents) filter (where meta ->> 'taxable' = 'false') as free_cents
                from billing.tenant_invoice_lines
                where period_start = %(month)s and kind in ('credit', 'adjustment') and meta ? 'taxable' group by 1
            )
            select s.invoice_number, s.tenant_id, s.status, s.meta ->> 'gst_free_reason' as invoice_reason,
                   t.gst_free_reason as tenant_reason, coalesce(tax.lines, 0) as tax_lines, s.subtotal_cents,
                   tax.taxable as taxable_cents
            from standing s
            left join tax on tax.invoice_id = s.id
            left join otherwise o on o.invoice_id = s.id
            left join cloud.tenants t on t.id = s.tenant_id
            cross join lateral (select {_WITHOUT_GST} as is_free from billing.tenant_invoices v where v.id = s.id) gst
            where coalesce(tax.lines, 0) <> case when gst.is_free
                                                 then least(coalesce(o.taxed_lines, 0), 1) else 1 end
               or tax.taxable <> (case when gst.is_free then coalesce(o.taxed_cents, 0)
                                       else s.subtotal_cents - coalesce(o.free_cents, 0) end)::text
               or s.status = 'draft' and s.by_line
                  and s.meta ->> 'gst_free_reason' is distinct from nullif(btrim(t.gst_free_reason), '')
            order by s.tenant_id
        """,
    ),
    _audit(
        "hashes",
        "content_hash_is_of_the_lines",
        "content_sha256, worked out again from tenant, month, GST status and lines, byte for byte; not of invoices "
        "whose deployment is deleted, which their lines do not name any more.",
        _TAMPERED,
        f"""
            with {_STANDING},
            to_hash as (
                select s.id as key, s.tenant_id, s.meta ->> 'gst_free_reason' as gst_free_reason, l.deployment_id,
                       l.kind, l.resource_kind, l.description, l.qty, l.unit, l.unit_price_cents, l.amount_cents, l.meta
                from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
                where l.period_start = %(month)s
            ),
            hashes as ({_HASHES})
            select s.invoice_number, s.tenant_id, s.status, s.content_sha256, h.sha256 as lines_sha256
            from standing s left join hashes h on h.key = s.id
            where not s.is_orphaned and h.sha256 is distinct from s.content_sha256
            order by s.tenant_id
        """,
    ),
    _audit(
        "line_hashes",
        "lines_hash_is_of_the_lines",
        "lines_sha256, worked out again from the lines whole, as a reader sees them, with their order and their "
        "deployments' names; also of invoices whose deployment is deleted.",
        _TAMPERED,
        f"""
            select i.invoice_number, i.tenant_id, i.status, i.lines_sha256, l.sha256 as sha256_of_the_lines
            from billing.tenant_invoices i
            left join (select invoice_id, {LINES_SHA256} as sha256 from billing.tenant_invoice_lines l
                       where period_start = %(month)s group by 1) l on l.invoice_id = i.id
            where i.period_start = %(month)s and i.lines_sha256 is not null
              and i.lines_sha256 is distinct from l.sha256
            order by i.tenant_id
        """,
    ),
    _audit(
        "invoices",
        "newest_event_is_the_invoice",
        "Each invoice's newest event says its revision, total, hash, number and status; each event has its invoice.",
        "An invoice was changed, paid or deleted by another program, without an event: compare it with invoice_events.",
        """
            with newest as (
                select distinct on (invoice_id) invoice_id, tenant_id, invoice_number, revision, total_cents,
                       content_sha256, event,
                       case event when 'issued' then 'issued' when 'reissued' then 'issued' when 'drafted' then 'draft'
                                  when 'redrafted' then 'draft' when 'reopened' then 'draft' when 'voided' then 'void'
                                  when 'paid' then 'paid' end as status
                from billing.invoice_events where period_start = %(month)s and event not in ('rebuilt', 'withdrawn')
                order by invoice_id, id desc
            )
            select coalesce(i.invoice_number, e.invoice_number) as invoice_number,
                   coalesce(i.tenant_id, e.tenant_id) as tenant_id, i.status, e.event as newest_event, i.revision,
                   e.revision as event_revision, i.total_cents, e.total_cents as event_total_cents, i.content_sha256,
                   e.content_sha256 as event_sha256
            from (select * from billing.tenant_invoices where period_start = %(month)s) i
            full join newest e on e.invoice_id = i.id
            where (i.tenant_id, i.invoice_number, i.status, i.revision, i.total_cents, i.content_sha256)
                  is distinct from
                  (e.tenant_id, e.invoice_number, e.status, e.revision, e.total_cents, e.content_sha256)
            order by i.id is not null and e.invoice_id is not null,
                     abs(coalesce(i.total_cents, 0)::numeric - coalesce(e.total_cents, 0)) desc, 2
        """,
    ),
    _audit(
        "events",
        "every_revision_is_kept",
        "An invoice begins with revision 1, drafted or issued; each later one has its event, which keeps the revision "
        "before it whole, with the hash that the event before says and the hashes that its lines have. Other events "
        "change no content.",
        _REWRITTEN,
        f"""
            with told as (
                select *, snapshot -> 'invoice' ->> 'revision' as kept_revision,
                       snapshot -> 'invoice' ->> 'content_sha256' as kept_sha256,
                       snapshot -> 'invoice' ->> 'lines_sha256' as kept_lines_sha256,
                       lag(revision) over of_invoice as revision_before,
                       lag(content_sha256) over of_invoice as sha256_before
                from billing.invoice_events where period_start = %(month)s
                window of_invoice as (partition by invoice_id order by id)
            ),
            kept as (
                select t.id as key, {LINES_SHA256} as sha256
                from told t
                cross join jsonb_populate_recordset(null::billing.tenant_invoice_lines, t.snapshot -> 'lines') l
                group by 1
            ),
            to_hash as (
                select t.id as key, t.tenant_id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
                       l.unit_price_cents, l.amount_cents, l.meta,
                       t.snapshot -> 'invoice' -> 'meta' ->> 'gst_free_reason' as gst_free_reason
                from told t
                cross join jsonb_populate_recordset(null::billing.tenant_invoice_lines, t.snapshot -> 'lines') l
            ),
            hashes as ({_HASHES})
            select t.invoice_number, t.tenant_id, t.id as event_id, t.event, t.revision, t.revision_before,
                   t.kept_revision, t.content_sha256, t.sha256_before, t.kept_sha256, h.sha256 as sha256_of_kept_lines,
                   t.kept_lines_sha256
            from told t left join hashes h on h.key = t.id left join kept k on k.key = t.id
            where case when t.revision_before is null then t.event not in ('drafted', 'issued') or t.revision <> 1
                       when t.event in ('redrafted', 'reissued')
                           then t.revision <> t.revision_before + 1
                                or t.kept_revision is distinct from t.revision_before::text
                                or t.kept_sha256 is distinct from t.sha256_before
                                or k.sha256 is distinct from coalesce(t.kept_lines_sha256, k.sha256)
                                or h.sha256 is distinct from t.sha256_before
                                   and t.id not in (select key from to_hash where deployment_id is null
                                                    and kind in ('plan_base', 'addon', 'overage'))
                       else (t.revision, t.content_sha256) is distinct from (t.revision_before, t.sha256_before)
                  end
            order by t.id
        """,
    ),
    _audit(
        "events",
        "events_are_chained",
        "Each hash of the chains of the month and of held tenants follows on the one before it, from the event and the "
        "invoice as the event left it; each event has its place, without a gap, and the newest hash is the head.",
        _REWRITTEN,
        chain.EVENTS_ARE_CHAINED,
    ),
    _audit(
        "invoices",
        "invoices_are_as_their_events_left_them",
        "Each invoice is, to the last column, as its newest event left it: dates, buyer, amounts, hashes; but finance "
        "may have got it since.",
        "An invoice was changed by another program, without an event: compare it with invoice_events.",
        chain.INVOICES_AS_LEFT,
    ),
    _audit(
        "numbers",
        "numbers_have_no_gap",
        "The numbers that the month's invoices were given are INV-YYYYMM-00001 and so on: no gap but where another "
        "system has taken the number, and none without its invoice. Other systems' numbers are left alone.",
        "An invoice was deleted or renumbered outside the pipeline: invoice_events says which it was.",
        """
            with numbers as (
                select invoice_number, max(tenant_id) as tenant_id, bool_or(stands) as stands, bool_or(given) as given
                from (
                    select invoice_number, tenant_id, true as stands, false as given from billing.tenant_invoices
                    where invoice_number is not null
                      and (period_start = %(month)s
                           or invoice_number between 'INV-' || to_char(%(month)s::date, 'YYYYMM') || '-00000'
                                                 and 'INV-' || to_char(%(month)s::date, 'YYYYMM') || '-999999999')
                    union all
                    select distinct invoice_number, tenant_id, false, event = 'issued' from billing.invoice_events
                    where period_start = %(month)s and invoice_number is not null
                ) n group by 1
            ),
            counted as (
                select *, case when invoice_number ~ ('^INV-' || to_char(%(month)s::date, 'YYYYMM')
                                                      || '-([0-9]{5}|[1-9][0-9]{5,8})$')
                               then split_part(invoice_number, '-', 3)::integer end as place
                from numbers
            )
            select invoice_number, tenant_id, stands, number_before
            from (select *, lag(invoice_number) over (order by place) as number_before,
                         lag(place, 1, 0) over (order by place) as place_before from counted) c
            where not stands or given and place <> place_before + 1
            order by place
        """,
    ),
    _applied("corrections", "corrections_have_a_tenant"),
    _audit(
        "corrections",
        "corrections_are_carried_once",
        "Each adjustment or credit says which earlier month it corrects. What a tenant's standing invoices carry of a "
        "month sums to no more than its difference in invoice_corrections, and has its sign and the GST status of that "
        "month's invoice; beyond that only while the tenant's next invoice, which takes it back, is still to come. Not "
        "yet carried is fine.",
        "Materialise the tenant's newest month again; if it stays, compare the lines named with invoice_corrections.",
        rf"""
            with released as (
                select min(applied_at) as at from billing.schema_migrations
                where name = '0012_billed_subscriptions.sql'
            ),
            status as not materialized (
                select tenant_id, period_start, period_start::text as month, {_WITHOUT_GST} as is_free
                from billing.tenant_invoices v
            ),
            carried as (
                select i.tenant_id, i.id as invoice_id, i.invoice_number, i.period_start, l.line_no, l.description,
                       l.amount_cents, l.inserted_at, l.meta ->> 'corrects' as corrects,
                       case when l.meta ->> 'taxable' in ('true', 'false') then l.meta ->> 'taxable' = 'true'
                            when l.inserted_at < released.at or i.issued_at < released.at
                                then not coalesce(corrected.is_free, own.is_free)
                            else not own.is_free end as taxed,
                       i.status = 'paid' or num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at) > 0 as is_frozen
                from billing.tenant_invoice_lines l
                join billing.tenant_invoices i on i.id = l.invoice_id
                cross join released
                join status own on own.tenant_id = i.tenant_id and own.period_start = i.period_start
                left join status corrected
                    on corrected.tenant_id = i.tenant_id and corrected.month = l.meta ->> 'corrects'
                where l.kind in ('credit', 'adjustment') and i.status <> 'void'
            ),
            sums as (
                select tenant_id, corrects, taxed, sum(amount_cents) as cents, max(period_start) as newest_month,
                       max(inserted_at) as newest_line, bool_and(is_frozen) as all_frozen,
                       sum(sum(amount_cents)) over (partition by tenant_id, corrects) as cents_in_all
                from carried group by 1, 2, 3
            ),
            owed as (
                select s.*, coalesce(c.difference_cents, 0) as difference_in_all, c.found_at,
                       case when s.taxed <> corrected.is_free then coalesce(c.difference_cents, 0)
                            else 0 end as difference_cents
                from sums s
                left join billing.invoice_corrections c
                    on c.tenant_id = s.tenant_id and c.period_start::text = s.corrects
                left join status corrected
                    on corrected.tenant_id = c.tenant_id and corrected.period_start = c.period_start
            ),
            beyond as (
                select * from owed
                where cents not between least(difference_cents, 0) and greatest(difference_cents, 0)
            ),
            settled as (
                select b.* from beyond b
                where not (b.all_frozen and b.cents_in_all between least(b.difference_in_all, 0)
                                                               and greatest(b.difference_in_all, 0))
                  and (b.newest_line >= b.found_at
                       or exists (select from billing.tenant_invoices i
                                  where i.tenant_id = b.tenant_id and i.status <> 'void'
                                    and i.period_start > b.newest_month
                                    and (b.found_at is null or b.found_at <= (
                                        select min(l.inserted_at) from billing.tenant_invoice_lines l
                                        where l.invoice_id = i.id and l.period_start = i.period_start))))
            )
            select c.invoice_number, c.tenant_id, c.line_no, c.description, c.corrects, c.amount_cents,
                   s.cents as carried_in_all_cents, s.difference_cents
            from carried c
            left join settled s on s.tenant_id = c.tenant_id and s.corrects = c.corrects and s.taxed = c.taxed
            where c.period_start = %(month)s
              and (s.tenant_id is not null or c.corrects is null or c.corrects !~ '^\d{{4}}-(0[1-9]|1[0-2])-01$'
                   or c.corrects collate "C" >= %(month)s::date::text collate "C")
            order by abs(c.amount_cents) desc, c.tenant_id, c.line_no
        """,
    ),
]
"""What is proved of a month, from the raw records to the numbers."""

# What there is to look at, and what stays out of some audits.
_LOOKED_AT = f"""
    with {_STANDING},
    lines as (
        select count(*) as lines,
               count(*) filter (where s.by_line and l.kind in ('plan_base', 'addon', 'overage')) as supply_lines,
               count(*) filter (where not s.is_void and l.kind in ('credit', 'adjustment')) as corrections
        from billing.tenant_invoice_lines l left join standing s on s.id = l.invoice_id
        where l.period_start = %(month)s
    ),
    usage as (
        select count(*) as usage_rows, coalesce(sum(record_count), 0)::bigint as usage_records
        from billing.metered_usage where period_start = %(month)s
    ),
    quoted as (
        select count(*) as quote_lines from billing.deployment_quote_lines q
        left join standing s on s.tenant_id = q.tenant_id
        where q.period_start = %(month)s and coalesce(s.by_line, true)
    ),
    events as (select count(*) as events from billing.invoice_events where period_start = %(month)s),
    invoices as (
        select count(*) as invoices, count(invoice_number) as numbers,
               count(*) filter (where by_sum) as sums, count(*) filter (where not is_orphaned) as hashes,
               count(lines_sha256) as line_hashes,
               count(*) filter (where is_void) as void, count(*) filter (where is_held and not is_void) as held_back,
               count(*) filter (where by_sum and is_frozen) as frozen,
               count(*) filter (where by_sum and not is_frozen) as deployment_deleted
        from standing
    )
    select *, {len(losses.TELLS_OF)} as tables from lines, usage, quoted, events, invoices
"""
_LEFT_OUT = ("void", "held_back", "frozen", "deployment_deleted")


@dataclass(frozen=True)
class Proof:
    """What an audit looked at, how many rows, and the rows that are not as they must be."""

    audit: Audit
    looked_at: int
    finding: Finding


@dataclass(frozen=True)
class Report:
    """The audits of a month, and how many invoices are left out of the comparison line by line, by why."""

    month: BillingMonth
    head: str | None
    """Of the month's chain of events, in hex."""
    proofs: list[Proof]
    left_out: dict[str, int]

    @property
    def differences(self) -> int:
        """Rows found, over all audits."""
        return sum(proof.finding.count for proof in self.proofs)


def months(connection: Connection) -> list[BillingMonth]:
    """The months to audit, oldest first: those that were published, and those of which something is missing.

    Raises StorageError if a whole table of ours is gone.
    """
    migrations.refuse_lost_tables(connection)
    published = ledger.invoiced_months(connection)
    others = (month for month in losses.traced_months(connection) if month not in published)
    return sorted([*published, *(month for month in others if losses.missing(connection, month))])


def run(connection: Connection, month: BillingMonth) -> Report:
    """Audit an invoiced month. The transaction must see one state of the database throughout (database.snapshot)."""
    refuse_partial_view(connection)
    parameters = bounds(month)
    counts = connection.exec_driver_sql(_LOOKED_AT, parameters).mappings().one()
    proofs = [Proof(audit, counts[audit.of], find(connection, audit.control, month)) for audit in AUDITS]
    return Report(month, chain.head(connection, month), proofs, {why: counts[why] for why in _LEFT_OUT})


def changed(connection: Connection, month: BillingMonth) -> Proof:
    """The first audit, if any, that finds invoices or lines of the month other than its events left them."""
    names = ("invoices_are_as_their_events_left_them", "lines_hash_is_of_the_lines")
    proofs = [
        Proof(audit, 0, find(connection, audit.control, month)) for audit in AUDITS if audit.control.name in names
    ]
    return next((proof for proof in proofs if proof.finding.count), proofs[0])
