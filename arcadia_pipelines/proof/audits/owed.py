"""What a month owes: what it supplies, less discounts, and what is missing from commitments, in SQL of its own.

Belongs here: lines that follow from other lines by a tenant's terms. Does not: those other lines (supplied.py), the
audits that compare with what is billed (amounts.py), lines that people entered (entered.py).
"""

from arcadia_pipelines.proof.audits.supplied import SUPPLIED

# What the month owes: what it supplies, less each discount in its turn, and what is missing from commitments. CTEs that
# end in `owed`: one row per line, before GST. A line of a discount or a commitment has its id as effective_from.
OWED = f"""
    {SUPPLIED},
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
