"""Controls of the cost side: what must not happen in the provider's bills and their allocation. See control.py."""

from arcadia_pipelines.costs.claims import CLAIMS
from arcadia_pipelines.proof.control import Control

CONTROLS = [
    Control(
        name="bill_adds_up",
        asset="cloud_invoices",
        description="The bill has as many items as it says, and they sum to its total.",
        remedy="Items were changed outside the pipeline: import the bill again, from cloud_invoice_documents.",
        query="""
            select b.total_cents as bill_usd_cents, sum(i.amount_cents) as items_usd_cents, b.item_count,
                   count(i.line_no) as items
            from billing.cloud_invoices b left join billing.cloud_invoice_items i using (period_start)
            where b.period_start = %(month)s
            group by b.period_start
            having (b.total_cents, b.item_count) is distinct from (coalesce(sum(i.amount_cents), 0), count(i.line_no))
        """,
    ),
    Control(
        name="bill_states_its_total",
        asset="cloud_invoices",
        warning=True,
        description="The bill's total comes from the bill itself or from an operator, not only from adding its items.",
        remedy="Compare the total with the bill, and import it again with --total.",
        query="""
            select total_cents as items_usd_cents from billing.cloud_invoices
            where period_start = %(month)s and total_from = 'sum'
        """,
    ),
    Control(
        name="bill_is_of_its_month",
        asset="cloud_invoices",
        description="Most of the bill's usage lies in its month.",
        remedy="Another month's bill was imported: import this month's own.",
        query="""
            select count(*) filter (where is_outside) as items_of_other_months, count(*) as items,
                   to_char(min(started_at) filter (where is_outside) at time zone 'UTC', 'YYYY-MM') as such_as
            from billing.cloud_invoice_items, lateral (
                select started_at >= %(end)s::timestamptz
                    or started_at < %(start)s::timestamptz and ended_at <= %(start)s::timestamptz as is_outside
            ) o
            where period_start = %(month)s and kind = 'usage'
            having 2 * count(*) filter (where is_outside) > count(*)
        """,
    ),
    Control(
        name="every_product_has_a_kind",
        asset="cloud_invoices",
        warning=True,
        description="Every product on the bill has a resource kind.",
        remedy="Add it to billing.product_kinds; until then its cost is shown under unmapped.",
        query="""
            select i.product, count(*) as items, sum(i.amount_cents) as usd_cents
            from billing.cloud_invoice_items i left join billing.product_kinds k using (product)
            where i.period_start = %(month)s and i.kind = 'usage' and k.product is null
            group by 1 order by 3 desc, 1
        """,
    ),
    Control(
        name="allocations_equal_the_bill",
        asset="cost_allocations",
        description="Allocated + unallocated = the bill, item by item in USD, and in total in AUD.",
        remedy="Allocations were changed outside the pipeline: materialise cost_allocations again.",
        query="""
            with parts as (
                select line_no, sum(usd_cents) as usd_cents, sum(aud_cents) as aud_cents
                from billing.cost_allocations where period_start = %(month)s group by 1
            )
            select line_no, i.description, i.amount_cents as bill_cents, p.usd_cents as allocated_cents
            from (select * from billing.cloud_invoice_items where period_start = %(month)s) i
            full join parts p using (line_no)
            where i.amount_cents is distinct from p.usd_cents
            union all
            select null, 'the whole bill, in AUD', m.aud_cents, coalesce(sum(p.aud_cents), 0)
            from billing.month_costs m left join parts p on true
            where m.period_start = %(month)s
            group by m.aud_cents having m.aud_cents <> coalesce(sum(p.aud_cents), 0)
            order by 1
        """,
    ),
    Control(
        name="allocations_are_up_to_date",
        asset="cost_allocations",
        description="Every item is allocated as the resources, projects, usage and subscriptions of today say.",
        remedy="Something has changed since the bill was allocated: materialise cost_allocations again.",
        query=f"""
            select coalesce(c.line_no, a.line_no) as line_no, c.deployment_id, c.tenant_id, c.weight,
                   a.deployment_id as allocated_to, a.tenant_id as allocated_tenant, a.weight as allocated_weight
            from ({CLAIMS}) c
            full join (select * from billing.cost_allocations where period_start = %(month)s) a
                on a.line_no = c.line_no and a.allocated_by = c.allocated_by
               and coalesce(a.deployment_id::text, '') = coalesce(c.deployment_id::text, '')
            where (c.tenant_id, c.split_by, c.weight) is distinct from (a.tenant_id, a.split_by, a.weight)
            order by 1, 2
        """,
    ),
    Control(
        name="month_has_a_rate_of_exchange",
        asset="cost_allocations",
        description="There is a rate of exchange for the month, and the bill is converted at it.",
        remedy="Set it (arcadia costs rate, or costs rates FILE). Until then the month shows no margin.",
        query="""
            select to_char(m.period_start, 'YYYY-MM') as month, f.usd_per_aud, m.usd_per_aud as converted_at
            from billing.month_costs m left join billing.fx_rates f using (period_start)
            where m.period_start = %(month)s
              and (f.usd_per_aud is null or f.usd_per_aud is distinct from m.usd_per_aud)
        """,
    ),
    Control(
        name="rate_of_exchange_is_plausible",
        asset="cost_allocations",
        description="The month's rate of exchange is the last one of the month. It is near the month before's, or has a"
        " reason why it is not.",
        remedy="Set it again, from a file that covers the whole month (arcadia costs rates FILE) or by hand (arcadia"
        " costs rate); if it is right, say why (--reason).",
        query="""
            select to_char(period_start, 'YYYY-MM') as month, usd_per_aud, doubt from billing.rate_doubts
            where period_start = %(month)s
        """,
    ),
    Control(
        name="cost_and_revenue_agree",
        asset="cost_allocations",
        description="Summed by deployment, kind or tenant, revenue equals the invoices and cost equals the bill.",
        remedy="Somebody changed rows by hand: see what totals_equal_lines and allocations_equal_the_bill find.",
        query="""
            select v.by, m.revenue_cents, v.revenue_cents as summed_revenue_cents, m.cost_cents,
                   v.cost_cents as summed_cost_cents
            from (
                select 'deployment' as by, sum(revenue_cents) as revenue_cents, sum(cost_cents) as cost_cents
                from billing.cost_vs_revenue_by_deployment where period_start = %(month)s
                union all
                select 'kind', sum(revenue_cents), sum(cost_cents)
                from billing.cost_vs_revenue_by_kind where period_start = %(month)s
                union all
                select 'tenant', sum(revenue_cents), sum(cost_cents)
                from billing.cost_vs_revenue_by_tenant where period_start = %(month)s
            ) v
            join billing.cost_vs_revenue_by_month m on m.period_start = %(month)s
            where (coalesce(v.revenue_cents, 0), v.cost_cents)
                  is distinct from (m.revenue_cents::numeric, m.cost_cents::numeric)
            order by 1
        """,
    ),
]
