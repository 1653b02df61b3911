"""The SQL of cost beside revenue, for platform admins: views of sql/migrations/0007_costs.sql, summed over months.

Belongs here: what the dashboard and its sheets read, and the invoices behind each number. Does not: what a month cost
(those views), nor the lists that tenants read too (queries.py).

Each document is of the database at one instant. PostgreSQL sums, rounds and makes it as cost_schemas.py has it: whole
cents, and percents as strings. A month without a bill or a rate has no cost: its revenue is in `awaiting_cents` and in
no margin.
"""

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.api.queries import Pool, reading

Sort = Literal["lowest_margin", "highest_margin", "highest_cost", "highest_revenue"]
By = Literal["deployment", "tenant", "kind"]
Document = dict[str, Any]
LARGEST_PAGE = 500  # rows
NO_DEPLOYMENT = "none"

_MONTHS: LiteralString = """
    period_start between coalesce(%(since)s::date, '-infinity') and coalesce(%(until)s::date, 'infinity')
"""
_OF_TENANTS: LiteralString = " and tenant_id in (select jsonb_array_elements_text(%(tenants)s::jsonb))"
_NAMED: LiteralString = """ and (strpos(lower(tenant_name), lower(%(search)s)) > 0
                                 or strpos(lower(tenant_id), lower(%(search)s)) > 0)"""
_SUMS: LiteralString = """
    coalesce(sum(revenue_cents), 0) as revenue_cents, sum(cost_cents) as cost_cents,
    coalesce(sum(revenue_cents) filter (where cost_cents is null), 0) as awaiting_cents
"""
_MEASURES: LiteralString = """
    revenue_cents, cost_cents, revenue_cents - awaiting_cents - cost_cents as margin_cents,
    round(100.0 * (revenue_cents - awaiting_cents - cost_cents)
          / nullif(greatest(revenue_cents - awaiting_cents, 0), 0), 2)::text as margin_percent,
    awaiting_cents
"""
_TOTAL: LiteralString = f"""(
    select row_to_json(t) from (
        select {_MEASURES} from (
            select coalesce(sum(revenue_cents), 0) as revenue_cents, sum(cost_cents) as cost_cents,
                   coalesce(sum(awaiting_cents), 0) as awaiting_cents
            from found
        ) s
    ) t
)"""
_ORDER: dict[Sort, LiteralString] = {
    "lowest_margin": "margin_cents nulls last",
    "highest_margin": "margin_cents desc nulls last",
    "highest_cost": "cost_cents desc nulls last",
    "highest_revenue": "revenue_cents desc",
}
_BILL: LiteralString = """
    period_start, allocated_cents, unallocated_cents, tax_cents, reconciled, open_points, invoices, bill_usd_cents,
    usd_per_aud
"""
_MONTH: LiteralString = f"""
    left(period_start::text, 7) as period, {_MEASURES}, allocated_cents, unallocated_cents, tax_cents, reconciled,
    open_points, invoices, bill_usd_cents, usd_per_aud::text
"""
# By: the columns that name a row, from which expressions, grouped by what, and which row is the unallocated.
_TABLES: dict[By, tuple[LiteralString, LiteralString, LiteralString, LiteralString]] = {
    "deployment": (
        "tenant_id, deployment_id, deployment_name",
        # The name that it had last. Revenue of none: commitments, credits, adjustments, deleted deployments.
        """
        tenant_id, deployment_id,
        case when deployment_id is not null
             then (array_agg(deployment_name order by period_start desc))[1] end as deployment_name
        """,
        "tenant_id, deployment_id",
        "(tenant_id is null and deployment_id is null)",
    ),
    "tenant": (
        "tenant_id, tenant_name",
        "tenant_id, max(tenant_name) as tenant_name",
        # Without an id there is the unallocated, and the cost of deployments that are deleted.
        "tenant_id, (tenant_id is null and tenant_name = 'unallocated')",
        "(tenant_id is null and tenant_name = 'unallocated')",
    ),
    "kind": ("resource_kind", "resource_kind", "resource_kind", "(resource_kind = 'unallocated')"),
}


@dataclass(frozen=True)
class Wanted:
    """Which months, the last inclusive, and tenants: None and () mean any. `search` is in a tenant's name or id."""

    since: dt.date | None = None
    until: dt.date | None = None
    tenants: tuple[str, ...] = ()
    search: str | None = None


@dataclass(frozen=True)
class Slice:
    """Which rows of a table: None means all of them."""

    order: Sort = "lowest_margin"
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Revenue:
    """Which part of the revenue: of a deployment, or of none (NO_DEPLOYMENT); of a resource kind. None means any."""

    deployment: str | None = None
    resource_kind: str | None = None


async def months(on: Pool, who: Principal, wanted: Wanted) -> Document:
    """Each month as JSON (cost_schemas.MonthCosts), oldest first. With tenants: their part of it."""
    found: LiteralString = f"""
        select {_BILL}, revenue_cents, cost_cents, case when cost_cents is null then revenue_cents else 0 end
               as awaiting_cents
        from billing.cost_vs_revenue_by_month where {_MONTHS}
    """
    if wanted.tenants:
        found = f"""
            select {_BILL}, coalesce(t.revenue_cents, 0) as revenue_cents,
                   case when m.cost_cents is not null then coalesce(t.cost_cents, 0) end as cost_cents,
                   case when m.cost_cents is null then coalesce(t.revenue_cents, 0) else 0 end as awaiting_cents
            from billing.cost_vs_revenue_by_month m
            left join (
                select period_start, sum(revenue_cents) as revenue_cents, sum(cost_cents) as cost_cents
                from billing.cost_vs_revenue_by_tenant where {_MONTHS}{_OF_TENANTS} group by period_start
            ) t using (period_start)
            where {_MONTHS}
        """
    return await _document(
        on,
        who,
        f"""
        with found as materialized ({found})
        select json_build_object(
            'items', coalesce((select json_agg(m) from (select {_MONTH} from found order by period_start) m), '[]'),
            'total', {_TOTAL})
        """,
        _asking(wanted),
    )


async def table(on: Pool, who: Principal, by: By, wanted: Wanted, part: Slice) -> Document:
    """Each deployment, tenant or resource kind, summed over the months, as JSON (cost_schemas.CostsByDeployment, ...).

    What is unallocated stands by itself. `total` and `count` are of all rows, whatever the slice.
    """
    names, keys, group, unallocated = _TABLES[by]
    conditions: LiteralString = _MONTHS
    if wanted.tenants and by != "kind":
        conditions += _OF_TENANTS
    if wanted.search and by == "tenant":
        conditions += _NAMED
    return await _document(
        on,
        who,
        f"""
        with found as materialized (
            select {keys}, {_SUMS}, {unallocated} as is_unallocated
            from billing.cost_vs_revenue_by_{by} where {conditions} group by {group}
        )
        select json_build_object(
            'items', coalesce((
                select json_agg(i) from (
                    select {names}, {_MEASURES} from found where not is_unallocated
                    order by {_ORDER[part.order]}, {names} limit %(limit)s::integer offset %(offset)s::integer
                ) i
            ), '[]'),
            'unallocated', (select row_to_json(u) from (select {_MEASURES} from found where is_unallocated) u),
            'total', {_TOTAL},
            'count', (select count(*) from found where not is_unallocated))
        """,
        _asking(wanted) | {"limit": part.limit, "offset": part.offset},
    )


async def invoices(on: Pool, who: Principal, wanted: Wanted, of: Revenue, part: Slice) -> Document:
    """The invoices behind a revenue, as JSON (cost_schemas.InvoiceShares), with what of each is in it."""
    invoice: LiteralString = f"""
        select id, invoice_number, tenant_id, meta->>'tenant_name' as tenant_name,
               left(period_start::text, 7) as period, status, subtotal_cents as revenue_cents
        from billing.tenant_invoices
        where {_MONTHS} and status in ('issued', 'paid'){_OF_TENANTS if wanted.tenants else ""}
    """
    return await _document(
        on,
        who,
        f"""
        with {_found(invoice, of)}
        select json_build_object(
            'items', coalesce((
                select json_agg(f) from (
                    select * from found order by period desc, invoice_number
                    limit %(limit)s::integer offset %(offset)s::integer
                ) f
            ), '[]'),
            'revenue_cents', (select coalesce(sum(revenue_cents), 0) from found),
            'count', (select count(*) from found))
        """,
        _asking(wanted)
        | {"limit": part.limit, "offset": part.offset, "deployment": of.deployment, "kind": of.resource_kind},
    )


def _found(invoice: LiteralString, of: Revenue) -> LiteralString:
    """The CTE `found`: these invoices, or those with lines of the revenue, each with what of it is in them."""
    if not (of.deployment or of.resource_kind):
        return f"found as materialized ({invoice})"
    conditions: LiteralString = f"{_MONTHS} and kind <> 'tax'"
    if of.deployment == NO_DEPLOYMENT:
        conditions += " and deployment_id is null"
    elif of.deployment:
        conditions += " and deployment_id = %(deployment)s::uuid"
    if of.resource_kind:
        conditions += " and coalesce(resource_kind, kind) = %(kind)s"
    # An invoice a time, by its id: the planner, which takes a month for a handful of lines, would compare each with
    # every invoice.
    return f"""
        shares as materialized (
            select invoice_id, sum(amount_cents) as revenue_cents
            from billing.tenant_invoice_lines where {conditions} group by invoice_id
        ), found as materialized (
            select i.id, i.invoice_number, i.tenant_id, i.tenant_name, i.period, i.status, s.revenue_cents
            from shares s cross join lateral ({invoice} and id = s.invoice_id offset 0) i
        )
    """


async def _document(on: Pool, who: Principal, query: LiteralString, parameters: dict[str, Any]) -> Document:
    async with reading(on, who) as connection:
        [[document]] = await (await connection.execute(query, parameters)).fetchall()
        return dict(document)


def _asking(wanted: Wanted) -> dict[str, Any]:
    return {
        "since": wanted.since,
        "until": wanted.until,
        "tenants": json.dumps(wanted.tenants),
        "search": wanted.search,
    }
