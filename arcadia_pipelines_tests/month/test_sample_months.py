"""The sample months, to the cent: as golden files that a bookkeeper can read, and against plain SQL.

After a change that is meant to change invoices: `pytest --write-golden`, then read the difference in git.
"""

import csv
from pathlib import Path

import pytest

from arcadia_pipelines_tests.world import World

GOLDEN = Path(__file__).parent / "golden"
MONTHS = [f"2026-{number:02}" for number in range(1, 11)]

INVOICES = """
    select i.tenant_id, i.invoice_number, coalesce(l.line_no::text, 'total'), coalesce(l.deployment_name, ''),
           coalesce(l.description, ''), coalesce(trim_scale(l.qty)::text, ''), coalesce(l.unit, ''),
           coalesce(trim_scale(round(l.unit_price_cents / 100, 10))
                    || coalesce(' / ' || trim_scale(nullif(price_per, 1)), ''), ''),
           (coalesce(l.amount_cents, i.total_cents) / 100.0)::numeric(20, 2)::text
    from billing.tenant_invoices i
    cross join lateral (
        select * from billing.tenant_invoice_lines where invoice_id = i.id
        union all select (null::billing.tenant_invoice_lines).*
    ) l
    where i.period_start = %s
    order by i.tenant_id collate "C", l.line_no nulls last
"""
HEADER = ("tenant", "invoice", "line", "deployment", "description", "qty", "unit", "unit_price", "amount")

# The whole month end as one statement, written apart from the pipeline: numeric arithmetic, correlated subqueries. Of
# tenants with tiers, part months and terms it is arcadia audit that works invoices out a second way.
OTHERWISE = ("bluegum-robotics", "wombat-retail")
SECOND_WAY = """
    with month as (select %s::date as first, (%s::date + interval '1 month')::date as next),
    sub as (
        select s.* from cloud.subscriptions s, month
        where s.status <> 'pending' and s.started_at < (next::timestamp at time zone 'UTC')
          and (s.ended_at is null or s.ended_at > (first::timestamp at time zone 'UTC'))
    ),
    line as (
        select s.tenant_id, (select p.base_price_cents from cloud.plan_prices p, month
                             where p.plan_id = s.plan_id and p.effective_from <= first
                             order by p.effective_from desc limit 1)::numeric as cents
        from sub s
        union all
        select s.tenant_id, a.quantity * (select p.price_cents from cloud.addon_prices p
                                          where p.addon_id = a.addon_id and p.effective_from <= first
                                          order by p.effective_from desc limit 1)::numeric
        from sub s join cloud.subscription_addons a on a.subscription_id = s.id, month
        where a.started_at < (next::timestamp at time zone 'UTC')
          and (a.ended_at is null or a.ended_at > (first::timestamp at time zone 'UTC'))
        union all
        select u.tenant_id, round((u.used - r.included_quantity) * r.unit_price_cents)
        from (
            select s.id, s.tenant_id, s.plan_id, r.resource_kind, sum(r.quantity) as used
            from sub s join cloud.usage_records r on r.deployment_id = s.deployment_id, month
            where to_char(r.recorded_at at time zone 'UTC', 'YYYY-MM') = to_char(first, 'YYYY-MM')
              and r.recorded_at >= s.started_at and (s.ended_at is null or r.recorded_at < s.ended_at)
            group by s.id, s.tenant_id, s.plan_id, r.resource_kind
        ) u
        cross join lateral (
            select p.* from cloud.plan_rates p, month
            where p.plan_id = u.plan_id and p.resource_kind = u.resource_kind and p.effective_from <= first
            order by p.effective_from desc limit 1
        ) r
        where u.used > r.included_quantity
    )
    select l.tenant_id, sum(cents)::bigint,
           (case when t.gst_free_reason is null then round(sum(cents) / 10) else 0 end)::bigint
    from line l join cloud.tenants t on t.id = l.tenant_id group by l.tenant_id, t.gst_free_reason
"""


@pytest.mark.parametrize("month", MONTHS)
def test_a_sample_month_is_as_it_was_and_as_plain_sql_has_it(
    sample_year: World, month: str, pytestconfig: pytest.Config
) -> None:
    """Every line of every invoice as in the golden file; subtotals and GST as one SQL statement works them out.

    The audits prove it too: proof/test_audit.py.
    """
    rows = [HEADER, *sample_year.query(INVOICES, f"{month}-01")]
    file = GOLDEN / f"{month}.csv"
    if pytestconfig.getoption("--write-golden"):
        with file.open("w", newline="") as out:
            csv.writer(out, lineterminator="\n").writerows(rows)
    with file.open(newline="") as golden:
        assert rows == [tuple(row) for row in csv.reader(golden)]

    second_way = {tenant: tuple(rest) for tenant, *rest in sample_year.query(SECOND_WAY, f"{month}-01", f"{month}-01")}
    invoices = {tenant: invoice[2:4] for tenant, invoice in sample_year.invoices(month).items()}
    for tenant in OTHERWISE:
        assert (tenant in invoices) == (tenant in second_way) == (month >= "2026-07")
        invoices.pop(tenant, None)
        second_way.pop(tenant, None)
    assert invoices == second_way


def test_every_oddity_of_the_sample_is_where_a_reader_is_told_to_look(sample_year: World) -> None:
    """The pilot's ten subtotals by hand; a GST-free tenant, a plan change, unbilled usage, a void of nothing."""
    subtotals = "select subtotal_cents from billing.tenant_invoices where tenant_id = %s order by period_start"
    assert [cents for (cents,) in sample_year.query(subtotals, "pilot")] == [
        5750,
        5750,
        6494,
        6422,
        6494,
        7781,
        7887,
        7068,
        6250,
        7068,
    ]
    assert sample_year.invoices("2026-04")["coral-bay-exports"][3] == 0
    assert [line for line, _ in sample_year.lines("billabong-games", "2026-07")].count("GST 10%") == 1
    reasons = "select distinct reason from billing.unbilled_usage order by 1"
    assert sample_year.query(reasons) == [("no_rate",), ("no_subscription",)]
    assert sample_year.query("select sum(revenue_cents) from billing.revenue_by_deployment") == sample_year.query(
        "select sum(subtotal_cents) from billing.tenant_invoices"
    )
    assert sample_year.query("select sum(revenue_cents) from billing.revenue_by_kind") == sample_year.query(
        "select sum(subtotal_cents) from billing.tenant_invoices"
    )
