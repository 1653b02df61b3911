"""That a month bills what follows from its usage and prices, each line once, with its GST.

Computed a second time, in SQL that is written apart from the engine (billing/).
"""

from arcadia_pipelines.proof.audits.kinds import CHANGED, TAMPERED, applied, audit
from arcadia_pipelines.storage import losses
from arcadia_pipelines.storage.kinds import CHARGES, SUPPLY

# What the month supplies by the rules of the money, as CTEs that end in `supplied`: one row per line.
_SUPPLIED = """
    billed as (
        select id, tenant_id, deployment_id, plan_id, started_at, ended_at from cloud.subscriptions
        where status <> 'pending' and started_at < %(end)s
          and (ended_at is null or ended_at > %(start)s and ended_at > started_at)
    ),
    calendar as (
        select d as day, d + interval '24 hours' as ends, extract(day from %(end)s - interval '24 hours') as in_all
        from generate_series(%(start)s, %(end)s - interval '24 hours', interval '24 hours') d
    ),
    by_day as materialized (
        select distinct on (s.deployment_id, c.day) s.id, c.day, c.ends
        from billed s join calendar c
            on s.started_at < c.ends and (s.ended_at is null or s.ended_at > greatest(c.day, s.started_at))
        where s.deployment_id in (select b.deployment_id from billed b join cloud.plans p on p.id = b.plan_id
                                  where to_jsonb(p) ->> 'proration' = 'daily')
        order by s.deployment_id, c.day, s.started_at desc
    ),
    lasting as (
        select s.id, count(d.day)::numeric as days, (select max(in_all) from calendar) as in_all
        from billed s join cloud.plans p on p.id = s.plan_id left join by_day d on d.id = s.id
        where to_jsonb(p) ->> 'proration' = 'daily' group by s.id
    ),
    addon_lasting as (
        select a.id, count(d.day)::numeric as days, l.in_all
        from cloud.subscription_addons a
        join lasting l on l.id = a.subscription_id
        left join by_day d on d.id = l.id and a.started_at < d.ends and (a.ended_at is null or a.ended_at > d.day)
        group by a.id, l.in_all
    ),
    plan_price as (
        select plan_id, base_price_cents, effective_from
        from (select *, lead(effective_from) over (partition by plan_id order by effective_from) as until
              from cloud.plan_prices) p
        where effective_from <= %(month)s and (until is null or until > %(month)s)
    ),
    special as (
        select tenant_id, plan_id, addon_id, cents, effective_from
        from (select *, lead(effective_from) over (partition by tenant_id, plan_id, addon_id order by effective_from)
                            as until
              from billing.tenant_prices()) p
        where effective_from <= %(month)s and (until is null or until > %(month)s) and cents is not null
    ),
    rate as (
        select tenant_id as whose, plan_id, resource_kind, included_quantity, unit, unit_price_cents, effective_from,
               coalesce(columns ->> 'charge_model', 'per_unit') as model,
               (columns ->> 'package_size')::numeric as size, (columns ->> 'maximum_cents')::numeric as most,
               coalesce(columns ->> 'pooled', 'false') <> 'false' as pooled
        from (select *, lead(effective_from) over (partition by tenant_id, plan_id, resource_kind
                                                   order by effective_from) as until
              from billing.rates()) p
        where effective_from <= %(month)s and (until is null or until > %(month)s) and unit_price_cents is not null
    ),
    addon_price as (
        select addon_id, price_cents, effective_from
        from (select *, lead(effective_from) over (partition by addon_id order by effective_from) as until
              from cloud.addon_prices) p
        where effective_from <= %(month)s and (until is null or until > %(month)s)
    ),
    used as (
        select s.id, s.tenant_id, s.plan_id, u.deployment_id, u.resource_kind, sum(u.quantity) as quantity
        from billing.metered_usage u join billed s on s.id = u.subscription_id
        where u.period_start = %(month)s group by s.id, s.tenant_id, s.plan_id, u.deployment_id, u.resource_kind
    ),
    counted as (
        select * from used
        union all
        select s.id, s.tenant_id, s.plan_id, s.deployment_id, r.resource_kind, 0
        from billed s join (select distinct plan_id, resource_kind from rate where pooled) r using (plan_id)
        where not exists (select from used u where u.id = s.id and u.resource_kind = r.resource_kind)
    ),
    allowed as (
        select u.id, u.tenant_id, u.deployment_id, u.resource_kind, u.quantity, r.plan_id, r.unit, r.unit_price_cents,
               r.effective_from, r.model, r.size, r.whose, r.pooled,
               case when d.id is null then r.included_quantity
                    else round(r.included_quantity * d.days / d.in_all, 6) end as included,
               case when d.id is null then r.most else round(r.most * d.days / d.in_all) end as most
        from counted u
        join rate r using (plan_id, resource_kind)
        left join lasting d on d.id = u.id
        where case when r.whose is null
                   then not exists (select from rate o where o.whose = u.tenant_id and o.plan_id = r.plan_id
                                                         and o.resource_kind = r.resource_kind)
                   else r.whose = u.tenant_id end
    ),
    pool as (
        select tenant_id, resource_kind, (sum(quantity) - sum(included)) * 1000000 as excess,
               sum(greatest(quantity - included, 0)) * 1000000 as claimed
        from allowed where pooled group by 1, 2 having sum(quantity) > sum(included)
    ),
    pooled_part as (
        select id, resource_kind, div(claim * excess, claimed) as least_part, excess,
               row_number() over (partition by tenant_id, resource_kind order by mod(claim * excess, claimed) desc, id)
                   as nth,
               sum(div(claim * excess, claimed)) over (partition by tenant_id, resource_kind) as given
        from (select a.id, a.tenant_id, a.resource_kind, p.excess, p.claimed,
                     greatest(a.quantity - a.included, 0) * 1000000 as claim
              from allowed a join pool p using (tenant_id, resource_kind) where a.pooled) c
    ),
    exceeding as (
        select a.*, b.beyond
        from allowed a
        left join pooled_part p on a.pooled and p.id = a.id and p.resource_kind = a.resource_kind
        cross join lateral (
            select case when not a.pooled then a.quantity - a.included
                        else (p.least_part + (p.nth <= p.excess - p.given)::int) / 1000000 end as beyond
        ) b
        where b.beyond > 0
    ),
    step as (
        select tenant_id as whose, plan_id, resource_kind, effective_from, unit_price_cents as price, flat_cents as fee,
               coalesce(up_to, 'infinity') as ends,
               coalesce(max(up_to) over (partition by tenant_id, plan_id, resource_kind, effective_from order by up_to
                                         rows between unbounded preceding and 1 preceding), 0) as begins
        from billing.rate_tiers()
    ),
    reached as (
        select o.*, s.price, s.fee, case model when 'volume' then beyond else least(beyond, ends) - begins end as part
        from exceeding o join step s using (plan_id, resource_kind, effective_from)
        where s.whose is not distinct from o.whose and model in ('graduated', 'volume') and beyond > begins
          and (model = 'graduated' or beyond <= ends)
    ),
    charged as (
        select id, tenant_id, deployment_id, resource_kind, beyond as qty, unit, unit_price_cents, effective_from, most
        from exceeding where model = 'per_unit'
        union all
        select id, tenant_id, deployment_id, resource_kind, ceil(beyond / size),
               concat('package of ', trim_scale(size), ' ', unit), unit_price_cents, effective_from, most
        from exceeding where model = 'package'
        union all
        select id, tenant_id, deployment_id, resource_kind, part, unit, price, effective_from, most
        from reached where price > 0 or fee = 0
        union all
        select id, tenant_id, deployment_id, resource_kind, 1, 'flat fee', fee, effective_from, most
        from reached where fee > 0
    ),
    summed as (
        select *, sum(floor(qty * unit_price_cents + 0.5)) over (partition by id, resource_kind) > most as is_capped,
               row_number() over (partition by id, resource_kind) as nth
        from charged
    ),
    priced as (
        select s.id, s.tenant_id, s.deployment_id, 'plan_base' as kind, null as resource_kind,
               'Plan: ' || plans.code as description, case when d.id is null then 1 else d.days end as qty,
               case when d.id is null then 'month' else 'day' end as unit,
               coalesce(o.cents, p.base_price_cents) as unit_price_cents, coalesce(d.in_all, 1) as price_per,
               case when o.cents is null then p.effective_from else o.effective_from end as effective_from
        from billed s
        join cloud.plans on plans.id = s.plan_id
        left join lasting d on d.id = s.id and d.days < d.in_all
        left join special o on o.tenant_id = s.tenant_id and o.plan_id = s.plan_id
        left join plan_price p on p.plan_id = s.plan_id
        where num_nonnulls(o.cents, p.base_price_cents) > 0
        union all
        select s.id, s.tenant_id, s.deployment_id, 'addon', null, 'Addon: ' || addons.code,
               a.quantity * coalesce(d.days, 1), case when d.id is null then 'month' else 'day' end,
               coalesce(o.cents, p.price_cents), coalesce(d.in_all, 1),
               case when o.cents is null then p.effective_from else o.effective_from end
        from billed s
        join cloud.subscription_addons a on a.subscription_id = s.id
        join cloud.addons on addons.id = a.addon_id
        left join special o on o.tenant_id = s.tenant_id and o.addon_id = a.addon_id
        left join addon_price p on p.addon_id = a.addon_id
        left join addon_lasting d on d.id = a.id and d.days < d.in_all
        where num_nonnulls(o.cents, p.price_cents) > 0
          and a.quantity <> 0 and a.started_at < %(end)s and (s.ended_at is null or s.ended_at > a.started_at)
          and (a.ended_at is null
               or a.ended_at > %(start)s and a.ended_at > a.started_at and a.ended_at > s.started_at)
        union all
        select id, tenant_id, deployment_id, 'overage', resource_kind, 'Overage: ' || resource_kind,
               case when is_capped then 1 else qty end, case when is_capped then 'cap' else unit end,
               case when is_capped then most else unit_price_cents end, 1, effective_from
        from summed where is_capped is not true or nth = 1
    ),
    supplied as (
        select *, sign(qty * unit_price_cents) * floor(abs(qty * unit_price_cents / price_per) + 0.5) as amount_cents
        from priced
    )
"""

# What the month owes: what it supplies, less each discount in its turn, and what is missing from commitments. CTEs that
# end in `owed`: one row per line, before GST. A line of a discount or a commitment has its id as effective_from.
_OWED = f"""
    {_SUPPLIED},
    offer as (
        select *, row_number() over (partition by tenant_id
                                     order by case when percent is null then 2 else 1 end, starts_on, id) as turn
        from billing.discounts() where starts_on <= %(month)s and (ends_on > %(month)s) is not false
    ),
    promise as (
        select * from billing.commitments() where starts_on <= %(month)s and (ends_on > %(month)s) is not false
    ),
    summed_up as (
        select tenant_id, deployment_id, kind, resource_kind, sum(amount_cents) as cents,
               row_number() over (
                   partition by tenant_id
                   order by (select min(name) from cloud.cloud_deployments d where d.id = deployment_id) collate "C",
                            deployment_id, array_position(array['plan_base', 'addon', 'overage'], kind),
                            min(id::text || coalesce(resource_kind, '')) collate "C"
               ) as place
        from supplied where tenant_id in (select tenant_id from offer)
        group by tenant_id, deployment_id, kind, resource_kind
    ),
    let_off (turn, tenant_id, place, deployment_id, kind, resource_kind, cents, off, offer, description) as (
        select 0::bigint, tenant_id, place, deployment_id, kind, resource_kind, cents, 0::numeric, null::uuid, null
        from summed_up
        union all
        select turn, tenant_id, place, deployment_id, kind, resource_kind, cents - off, off, id, description
        from (
            select *, case when percent is not null then floor(reached * percent / 100 + 0.5)
                           when row_number() over (partition by tenant_id order by rest desc, place)
                                <= least(amount_cents, in_all) - sum(whole) over (partition by tenant_id) then whole + 1
                           else whole end as off
            from (
                select *, coalesce(div(reached * least(amount_cents, in_all), nullif(in_all, 0)), 0) as whole,
                       mod(reached * least(amount_cents, in_all), nullif(in_all, 0)) as rest
                from (
                    select o.turn, l.tenant_id, l.place, l.deployment_id, l.kind, l.resource_kind, l.cents, o.id,
                           o.description, o.percent, o.amount_cents, reached,
                           sum(reached) over (partition by l.tenant_id) as in_all
                    from let_off l
                    join offer o on o.tenant_id = l.tenant_id and o.turn = l.turn + 1
                    cross join lateral (
                        select case when coalesce(o.deployment_id, l.deployment_id) = l.deployment_id
                                     and coalesce(o.line_kind, l.kind) = l.kind
                                     and (o.resource_kind is null or (o.resource_kind = l.resource_kind) is true)
                                    then l.cents else 0 end as reached
                    ) r
                ) sharing
            ) shared
        ) taken
    ),
    left_over as (
        select tenant_id, deployment_id, sum(cents) as cents
        from (
            select tenant_id, deployment_id, amount_cents as cents from supplied
            where tenant_id in (select tenant_id from promise)
            union all
            select tenant_id, deployment_id, -off from let_off where tenant_id in (select tenant_id from promise)
        ) charges
        group by 1, 2
    ),
    active as (
        select tenant_id, deployment_id,
               case when bool_or(unit = 'month') then 31 else sum(qty) end as days
        from supplied where kind = 'plan_base' group by 1, 2
    ),
    short as (
        select p.id, p.tenant_id, p.deployment_id, p.minimum_cents,
               floor(p.minimum_cents * least(a.days, of_month) / of_month + 0.5) - l.cents as cents
        from promise p
        join left_over l using (tenant_id, deployment_id)
        join active a using (tenant_id, deployment_id)
        cross join extract(day from %(end)s::timestamptz at time zone 'UTC' - interval '1 day') as of_month
    ),
    short_in_all as (
        select p.id, p.tenant_id, null::uuid, p.minimum_cents, p.minimum_cents - sum(l.cents) as cents
        from promise p
        join (select tenant_id, cents from left_over
              union all select tenant_id, cents from short where cents > 0) l using (tenant_id)
        where p.deployment_id is null
        group by p.id, p.tenant_id, p.minimum_cents
    ),
    owed as (
        select tenant_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents,
               effective_from::text as effective_from
        from supplied
        union all
        select tenant_id, deployment_id, 'discount', resource_kind, 'Discount: ' || description, 1, null, -off, -off,
               offer::text
        from let_off where off > 0
        union all
        select tenant_id, deployment_id, 'commitment', null,
               'Commitment: ' || to_char(minimum_cents / 100, 'FM999,999,999,999,990.00') || ' a month', 1, null, cents,
               cents, id::text
        from (select * from short union all select * from short_in_all) s where cents > 0
    )
"""
_TERM = "coalesce(l.meta ->> 'discount', l.meta ->> 'commitment', l.meta ->> 'effective_from')"

# How each invoice of the month is compared with what is owed. One that is paid, delivered or pushed keeps its lines
# whatever happens since; of one whose deployment is deleted, nobody knows any more which line was for what.
STANDING = f"""
    held as (
        select tenant_id from billing.quote_faults where period_start = %(month)s and tenant_id is not null
        union select tenant_id from billing.tenant_holds
    ),
    orphaned as (
        select distinct invoice_id from billing.tenant_invoice_lines
        where period_start = %(month)s and deployment_id is null and kind in {SUPPLY}
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
                   i.status = 'paid'
                       or num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at, i.delivered_at) > 0 as is_frozen,
                   orphaned.invoice_id is not null as is_orphaned
        ) flags
        where i.period_start = %(month)s
    )
"""

# Whether the invoice v has no GST: it says why; or it has none and no line for it, and either its tenant has none now,
# or it is settled, did not begin here, and is so large that there would be some.
WITHOUT_GST = """
    (case when v.meta ? 'gst_free_reason' then true
          when v.tax_cents <> 0 then false
          when 'tax' in (select kind from billing.tenant_invoice_lines
                         where invoice_id = v.id and period_start = v.period_start) then false
          when (select max(nullif(btrim(gst_free_reason), '')) from cloud.tenants where id = v.tenant_id) is not null
              then true
          else (v.status = 'paid' or v.delivered_at is not null
                or num_nonnulls(v.finance_invoice_id, v.pushed_to_finance_at) > 0)
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
            with recursive {_OWED}, {STANDING},
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
            with recursive {_OWED}, {STANDING},
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
