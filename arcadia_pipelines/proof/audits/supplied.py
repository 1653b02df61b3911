"""What a month supplies: every line that its plans, addons and usage make, in SQL of its own.

Belongs here: the lines of one subscription. Does not: what the tenant's terms make of them (owed.py), the audits that
compare them with what is billed (amounts.py). It is never made from the engine's code (billing/), which it watches.
"""

# What the month supplies by the rules of the money, as CTEs that end in `supplied`: one row per line.
SUPPLIED = """
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
