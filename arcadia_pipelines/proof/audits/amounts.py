"""That a month bills what follows from its usage and prices, each line once, with its GST.

Belongs here: audits that compare what is billed with what is owed. Does not: what is owed (owed.py), worked out a
second time in SQL that is written apart from the engine (billing/); corrections of other months (carried.py).
"""

from arcadia_pipelines.proof.audits.kinds import CHANGED, TAMPERED, applied, audit
from arcadia_pipelines.proof.audits.owed import OWED
from arcadia_pipelines.proof.audits.standing import STANDING, WITHOUT_GST
from arcadia_pipelines.storage import losses
from arcadia_pipelines.storage.kinds import CHARGES, SUPPLY

_TERM = "coalesce(l.meta ->> 'discount', l.meta ->> 'commitment', l.meta ->> 'effective_from')"

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

AUDITS = [
    audit(
        "tables",
        "nothing_is_missing",
        "Each table has what the others tell of the month: its partition, attached; the rows that were written; the "
        "invoice of each tenant that was invoiced.",
        "`arcadia rebuild MONTH` puts lost invoice lines and frozen usage back as far as that can be proved; quote "
        "lines come back when the month is materialised again; all else has to come from a backup.",
        losses.MISSING,
    ),
    applied("usage_records", "usage_equals_raw_records"),
    applied("usage_rows", "usage_is_conserved"),
    audit(
        "quote_lines",
        "quotes_are_invoiced",
        "Each quote line is on its tenant's invoice and each supply line was quoted; not of invoices that are void, "
        "held back, paid, delivered or pushed, or whose deployment is deleted.",
        "The month was quoted again since it was invoiced, or lines were changed: materialise it again.",
        f"""
            with {STANDING},
            sides as (
                select q.tenant_id, q.deployment_id, q.kind, q.resource_kind, q.description, q.qty, q.unit,
                       q.unit_price_cents, q.amount_cents, q.meta ->> 'effective_from' as effective_from, 1 as side
                from billing.deployment_quote_lines q left join standing s on s.tenant_id = q.tenant_id
                where q.period_start = %(month)s and coalesce(s.by_line, true)
                union all
                select s.tenant_id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
                       l.unit_price_cents, l.amount_cents, l.meta ->> 'effective_from', -1
                from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
                where l.period_start = %(month)s and l.kind in {SUPPLY} and s.by_line
            ),
            {_LINES}
        """,
    ),
    audit(
        "supply_lines",
        "lines_follow_from_usage_and_prices",
        "The plan_base, addon, overage, discount and commitment lines are those that frozen usage, subscriptions, "
        "prices and terms make; not of invoices that are void, held back, paid, delivered or pushed, or whose "
        "deployment is deleted.",
        CHANGED,
        f"""
            with recursive {OWED}, {STANDING},
            sides as (
                select o.tenant_id, o.deployment_id, o.kind, o.resource_kind, o.description, o.qty, o.unit,
                       o.unit_price_cents, o.amount_cents, o.effective_from, 1 as side
                from owed o
                left join standing s on s.tenant_id = o.tenant_id
                left join held on held.tenant_id = o.tenant_id
                where coalesce(s.by_line, held.tenant_id is null)
                union all
                select s.tenant_id, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
                       l.unit_price_cents, l.amount_cents, {_TERM}, -1
                from billing.tenant_invoice_lines l join standing s on s.id = l.invoice_id
                where l.period_start = %(month)s and l.kind in {CHARGES} and s.by_line
            ),
            {_LINES}
        """,
    ),
    audit(
        "sums",
        "frozen_sums_and_corrections_agree",
        "What each invoice charges that is paid, delivered or pushed, or whose deployment is deleted, and its "
        "difference in invoice_corrections sum to what usage, subscriptions, prices, discounts and commitments make.",
        "Materialise the month again, which finds the difference and puts it on the tenant's next invoice.",
        f"""
            with recursive {OWED}, {STANDING},
            sums as (select tenant_id, sum(amount_cents) as cents from owed group by 1),
            billed_sums as (
                select invoice_id, sum(amount_cents) as cents from billing.tenant_invoice_lines
                where period_start = %(month)s and kind in {CHARGES} group by 1
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
    audit(
        "lines",
        "lines_multiply_out",
        "Each line's amount is qty x unit price / price_per, rounded half up away from zero; overage is used less "
        "included and what a pool covers, and a package, tier or cap charges for more than is included.",
        TAMPERED,
        r"""
            select i.invoice_number, i.tenant_id, l.line_no, l.description, l.qty, l.unit_price_cents, l.price_per,
                   l.amount_cents, l.exact_cents, l.used - l.included as used_less_included
            from (
                select *, qty * unit_price_cents / price_per as exact_cents,
                       case when meta ->> 'used' ~ '^-?\d+(\.\d+)?(E[+-]?\d{1,3})?$'
                            then (meta ->> 'used')::numeric end as used,
                       case when meta ->> 'included' ~ '^-?\d+(\.\d+)?(E[+-]?\d{1,3})?$'
                            then (meta ->> 'included')::numeric end as included,
                       case when not meta ? 'pooled' then 0
                            when meta ->> 'pooled' ~ '^\d+(\.\d+)?$' then (meta ->> 'pooled')::numeric end as pooled
                from billing.tenant_invoice_lines where period_start = %(month)s
            ) l
            left join billing.tenant_invoices i on i.id = l.invoice_id
            where l.amount_cents <> sign(l.exact_cents) * floor(abs(l.exact_cents) + 0.5)
               or l.kind = 'overage' and case when l.meta ? 'model' or l.unit = 'cap'
                                              then (l.used > l.included) is not true
                                              else l.used - l.included - l.pooled is distinct from l.qty end
            order by abs(l.amount_cents - l.exact_cents) desc, i.tenant_id, l.line_no
        """,
    ),
    audit(
        "lines",
        "lines_are_numbered_in_order",
        "Each line is on an invoice of its month; its number counts from 1: by deployment, plan_base, addon, overage, "
        "discount, commitment; then the tenant's commitment, manual lines, corrections, promotional credit, tax.",
        TAMPERED,
        """
            with placed as (
                select l.*,
                       case when kind = 'tax' then 6 when kind in ('credit', 'adjustment') and meta ? 'grant' then 5
                            when kind in ('credit', 'adjustment') and meta ? 'manual_line' then 3
                            when kind in ('credit', 'adjustment') then 4
                            when kind = 'commitment' and deployment_name is null then 2 else 1 end as part,
                       case kind when 'plan_base' then 1 when 'addon' then 2 when 'overage' then 3
                                 when 'discount' then 4 when 'commitment' then 5 end as kind_order
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
    audit(
        "invoices",
        "subscriptions_are_billed_once",
        "No subscription is billed by two tenants' invoices that are issued or paid, and billed_subscriptions has one "
        "for each plan line of an invoice that can still change.",
        "Void one of the two invoices. If the numbers differ: materialise the month again.",
        f"""
            with {STANDING},
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
    applied("invoices", "totals_equal_lines"),
    applied("invoices", "gst_recomputed_a_second_way"),
    audit(
        "invoices",
        "tax_lines_fit_the_gst_status",
        "A GST-free invoice that carries no taxed correction has no tax line, every other one, which says the taxable "
        "cents; a draft of a tenant that is not held back has its tenant's GST status.",
        "Of a draft, the tenant's GST status was changed since: materialise the month again. Else compare with "
        "invoice_events.",
        f"""
            with {STANDING},
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
            cross join lateral (select {WITHOUT_GST} as is_free from billing.tenant_invoices v where v.id = s.id) gst
            where coalesce(tax.lines, 0) <> case when gst.is_free
                                                 then least(coalesce(o.taxed_lines, 0), 1) else 1 end
               or tax.taxable <> (case when gst.is_free then coalesce(o.taxed_cents, 0)
                                       else s.subtotal_cents - coalesce(o.free_cents, 0) end)::text
               or s.status = 'draft' and s.by_line
                  and s.meta ->> 'gst_free_reason' is distinct from nullif(btrim(t.gst_free_reason), '')
            order by s.tenant_id
        """,
    ),
]
