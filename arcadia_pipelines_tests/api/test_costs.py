"""Cost beside revenue, for platform admins: the views' numbers, summed over months, and the invoices behind each."""

import csv
import io
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest

from arcadia_pipelines.api import cost_schemas
from arcadia_pipelines_tests.api.conftest import ADMIN, Serve, bill, tenant
from arcadia_pipelines_tests.api.test_row_security import as_api
from arcadia_pipelines_tests.world import World, item

VIEWS = ("by_month", "by_deployment", "by_tenant", "by_kind")
RANGES: list[dict[str, Any]] = [
    {},
    {"from": "2026-02"},
    {"to": "2026-04"},
    {"from": "2026-04", "to": "2026-04"},
    {"from": "2026-03", "to": "2026-03"},  # without a rate
    {"from": "2030-01"},  # nothing
]


def ask(client: httpx.Client, path: str, **parameters: Any) -> dict[str, Any]:
    """What an admin is told."""
    answer = client.get(f"/api/v1/costs/{path}", headers=ADMIN, params=parameters).raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


def sheet(client: httpx.Client, path: str, **parameters: Any) -> list[dict[str, str]]:
    """The rows of the sheet."""
    answer = client.get(f"/api/v1/costs/{path}.csv", headers=ADMIN, params=parameters).raise_for_status()
    assert answer.headers["content-disposition"] == f'attachment; filename="costs-{path}.csv"'
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


def cents(dollars: str) -> int | None:
    """The cents of a cell."""
    return int(Decimal(dollars) * 100) if dollars else None


def sums(world: World, view: str, asked: dict[str, Any], condition: str = "true") -> tuple[int, int | None, int]:
    """Revenue, cost, and revenue without a cost, of the view's rows, as its owner sees them."""
    [found] = world.query(
        "select coalesce(sum(revenue_cents), 0)::bigint, sum(cost_cents)::bigint,"
        " coalesce(sum(revenue_cents) filter (where cost_cents is null), 0)::bigint"
        f" from billing.cost_vs_revenue_{view} where ({condition}) and to_char(period_start, 'YYYY-MM') >= %s"
        " and to_char(period_start, 'YYYY-MM') <= %s",
        asked.get("from", "0000-00"),
        asked.get("to", "9999-99"),
    )
    return found[0], found[1], found[2]


def told(row: dict[str, Any]) -> tuple[int, int | None, int]:
    """The same of a row that the API tells."""
    return row["revenue_cents"], row["cost_cents"], row["awaiting_cents"]


@pytest.mark.usefixtures("pilots_april")
def test_the_pilots_april_by_hand(serve: Serve, world: World) -> None:
    """Revenue 64.22. Bill, USD: 27.18 + 2.50 + 0.99 + 12.34 - 5.00 + 3.21 = 41.22, at 0.65 = 63.42 AUD; margin 0.80.

    12.34 of it, 18.99 AUD, is nobody's. 0.80 of 64.22 is 1.25 %.
    """
    bill(world, "2026-04", "0.65")
    client = serve(world.url)
    [month] = ask(client, "months")["items"]
    assert month == {
        "period": "2026-04",
        "revenue_cents": 6422,
        "cost_cents": 6342,
        "margin_cents": 80,
        "margin_percent": "1.25",
        "awaiting_cents": 0,
        "allocated_cents": 4443,
        "unallocated_cents": 1899,
        "tax_cents": 494,
        "reconciled": True,
        "open_points": "",
        "invoices": 1,
        "bill_usd_cents": 4122,
        "usd_per_aud": "0.650000",
    }
    deployments = ask(client, "deployments")
    [web] = deployments["items"]
    assert (web["tenant_id"], web["deployment_name"], web["margin_cents"]) == ("pilot", "web", 6422 - 4443)
    assert deployments["unallocated"]["cost_cents"] == 1899
    assert deployments["total"]["margin_cents"] == 80
    kinds = {row["resource_kind"]: (row["revenue_cents"], row["cost_cents"]) for row in ask(client, "kinds")["items"]}
    assert kinds == {
        "plan_base": (5000, 0),
        "addon": (750, 0),
        "droplet_hours": (672, 4182),
        "storage_gb_months": (0, 384),
        "unmapped": (0, 152),
        "provider credit": (0, -769),
        "provider tax": (0, 494),
    }


@pytest.mark.usefixtures("pilots_april")
def test_the_cost_of_a_deleted_deployment_is_not_called_unallocated(serve: Serve, world: World) -> None:
    """1.00 USD of what is gone and 2.00 of nobody's, at 0.5: 2.00 and 4.00 AUD, without a tenant both."""
    world.rate("2026-04", "0.5")
    world.owns("gone", "droplet")
    world.bill("2026-04", item("1.00", "droplet"), item("2.00", "ci"), total=300)
    client = serve(world.url)
    tenants = ask(client, "tenants")
    assert [(one["tenant_id"], one["tenant_name"], one["cost_cents"]) for one in tenants["items"]] == [
        (None, "(deleted)", 200),
        ("pilot", "Pilot", 0),
    ]
    assert tenants["unallocated"]["cost_cents"] == 400
    assert [one["cost_cents"] for one in ask(client, "deployments")["items"]] == [200, 0]


@pytest.mark.parametrize("asked", RANGES)
def test_sums_are_the_views_to_the_cent(cost_api: httpx.Client, costed: World, asked: dict[str, Any]) -> None:
    """Totals, and rows with the unallocated, whichever way they are cut; and so the sheets."""
    months = ask(cost_api, "months", **asked)
    cost_schemas.CostsByMonth.model_validate(months)
    assert told(months["total"]) == sums(costed, "by_month", asked)
    for path, view, model in (
        ("deployments", "by_deployment", cost_schemas.CostsByDeployment),
        ("tenants", "by_tenant", cost_schemas.CostsByTenant),
        ("kinds", "by_kind", cost_schemas.CostsByKind),
    ):
        table = ask(cost_api, path, limit=500, **asked)
        model.model_validate(table)
        assert table["total"] == months["total"]
        assert told(table["total"]) == sums(costed, view, asked)
        rows = table["items"] + [row for row in (table["unallocated"],) if row]
        assert sum(row["revenue_cents"] for row in rows) == months["total"]["revenue_cents"]
        assert sum(row["cost_cents"] or 0 for row in rows) == (months["total"]["cost_cents"] or 0)
        assert sum(row["margin_cents"] or 0 for row in rows) == (months["total"]["margin_cents"] or 0)
        amounts = [
            [cents(row[name]) for name in ("revenue", "cost", "margin")] for row in sheet(cost_api, path, **asked)
        ]
        assert amounts == [[row["revenue_cents"], row["cost_cents"], row["margin_cents"]] for row in rows]
    assert [(row["period"], cents(row["margin"])) for row in sheet(cost_api, "months", **asked)] == [
        (row["period"], row["margin_cents"]) for row in months["items"]
    ]


def test_a_month_without_a_rate_or_a_bill_has_no_margin_and_says_why(cost_api: httpx.Client) -> None:
    """March has no rate, May no bill: their revenue waits, and is in nobody's margin."""
    months = {row["period"]: row for row in ask(cost_api, "months")["items"]}
    assert [row["reconciled"] for row in months.values()] == [True, True, False, False, False]
    assert months["2026-03"]["open_points"] == "no rate of exchange"
    assert months["2026-04"]["open_points"] == "1 invoice is a draft"
    assert months["2026-05"]["open_points"] == "no bill of the provider's; no rate of exchange"
    for name in ("2026-03", "2026-05"):
        assert (months[name]["cost_cents"], months[name]["margin_cents"], months[name]["margin_percent"]) == (None,) * 3
        assert months[name]["awaiting_cents"] == months[name]["revenue_cents"] > 0
    total = ask(cost_api, "months")["total"]
    assert total["awaiting_cents"] == months["2026-03"]["revenue_cents"] + months["2026-05"]["revenue_cents"]
    assert total["margin_cents"] == total["revenue_cents"] - total["awaiting_cents"] - total["cost_cents"]


def test_tenants_are_chosen_and_the_unallocated_is_nobodys(cost_api: httpx.Client, costed: World) -> None:
    """Two of them: each table but the kinds' has theirs, and what is nobody's is not theirs."""
    chosen, condition = {"tenant_id": ["pilot", "wattle-press"]}, "tenant_id in ('pilot', 'wattle-press')"
    expected = sums(costed, "by_tenant", {}, condition)
    for path in ("months", "tenants", "deployments"):
        table = ask(cost_api, path, **chosen)
        assert told(table["total"]) == expected
        assert table.get("unallocated") is None
    assert {row["tenant_id"] for row in ask(cost_api, "deployments", **chosen)["items"]} == {"pilot", "wattle-press"}
    assert [row["invoices"] for row in ask(cost_api, "months", **chosen)["items"]] == [15, 15, 15, 13, 16]


def test_tenants_are_found_by_a_part_of_name_or_id_whatever_its_case(cost_api: httpx.Client) -> None:
    for searched in ("PILOT ST", "ilo"):
        assert [row["tenant_id"] for row in ask(cost_api, "tenants", search=searched)["items"]] == ["pilot"]
    assert ask(cost_api, "tenants", search="%")["items"] == []


@pytest.mark.parametrize(
    ("sort", "key", "direction"),
    [
        ("lowest_margin", "margin_cents", 1),
        ("highest_margin", "margin_cents", -1),
        ("highest_cost", "cost_cents", -1),
        ("highest_revenue", "revenue_cents", -1),
    ],
)
def test_ranks_and_pages(cost_api: httpx.Client, sort: str, key: str, direction: int) -> None:
    """Page by page it is the whole ranking, and each page has the whole's sums."""
    whole = ask(cost_api, "deployments", sort=sort, limit=500)
    measured = [direction * row[key] for row in whole["items"] if row[key] is not None]
    assert measured == sorted(measured)
    paged = [ask(cost_api, "deployments", sort=sort, limit=10, offset=offset) for offset in (0, 10, 20)]
    assert [row for page in paged for row in page["items"]] == whole["items"]
    assert {len(page["items"]) for page in paged[:2]} == {10}
    assert all(page["total"] == whole["total"] and page["count"] == len(whole["items"]) for page in paged)


def test_what_has_no_margin_comes_last(cost_api: httpx.Client) -> None:
    """A deployment whose only months have no cost is neither the best nor the worst."""
    for sort in ("lowest_margin", "highest_margin"):
        margins = [row["margin_cents"] is None for row in ask(cost_api, "deployments", sort=sort)["items"]]
        assert margins == sorted(margins)


def test_the_invoices_behind_a_number_sum_to_it(cost_api: httpx.Client, costed: World) -> None:
    """Each row of each table in its months: the invoices that it leads to, by line where it is a part of them."""
    months = ask(cost_api, "months")["items"]
    found = [(row, {"from": row["period"], "to": row["period"]}) for row in months]
    for row in ask(cost_api, "tenants")["items"]:
        found.append((row, {"tenant_id": row["tenant_id"]}))
    for row in ask(cost_api, "kinds", **{"from": "2026-02"})["items"]:
        found.append((row, {"resource_kind": row["resource_kind"], "from": "2026-02"}))
    for row in ask(cost_api, "deployments")["items"]:
        found.append((row, {"tenant_id": row["tenant_id"], "deployment_id": row["deployment_id"] or "none"}))
    assert len(found) > 50
    for row, behind in found:
        invoices = ask(cost_api, "invoices", limit=500, **behind)
        cost_schemas.InvoiceShares.model_validate(invoices)
        assert invoices["revenue_cents"] == row["revenue_cents"]
        assert sum(one["revenue_cents"] for one in invoices["items"]) == row["revenue_cents"]
        assert invoices["count"] == len(invoices["items"])
        assert sum(cents(one["revenue"]) or 0 for one in sheet(cost_api, "invoices", **behind)) == row["revenue_cents"]


@pytest.mark.usefixtures("pilots_april")
def test_revenue_without_a_deployment_is_told_apart(serve: Serve, world: World) -> None:
    """A correction of the tenant's is of no deployment, and not unallocated: that is a cost."""
    world.tamper("update billing.tenant_invoice_lines set deployment_id = null where kind = 'addon'")
    bill(world, "2026-04", "0.65")
    client = serve(world.url)
    table = ask(client, "deployments", sort="highest_revenue")
    named = [(row["deployment_name"], row["revenue_cents"], row["cost_cents"]) for row in table["items"]]
    assert named == [("web", 5672, named[0][2]), (None, 750, 0)]
    assert table["unallocated"]["cost_cents"] > 0
    assert ask(client, "invoices", deployment_id="none")["revenue_cents"] == 750


def test_a_sheet_cannot_run_a_formula(serve: Serve, world: World) -> None:
    """Nor does a name take more than its cell: texts are quoted, amounts and percents are numbers."""
    world.pilot()
    world.query("update cloud.tenants set name = '=cmd()' where id = 'pilot'")
    world.query("update cloud.cloud_deployments set name = 'Reef;=1+2'")
    world.publish("2026-04")
    bill(world, "2026-04", "0.65")
    client = serve(world.url)
    assert [row["tenant_name"] for row in sheet(client, "tenants")] == ["'=cmd()", "unallocated"]
    assert [row["deployment_name"] for row in sheet(client, "deployments")] == ["Reef;'=1+2", "unallocated"]
    assert sheet(client, "deployments")[1]["margin"] == "-18.99"
    months, invoices = (
        client.get(f"/api/v1/costs/{of}.csv", headers=ADMIN).text.splitlines()[1] for of in ("months", "invoices")
    )
    assert months == '"2026-04",64.22,0.00,63.42,0.80,1.25,44.43,18.99,4.94,1,41.22,0.650000,True,""'
    assert invoices.startswith('"INV-202604-00001","pilot","\'=cmd()","2026-04","issued",64.22,"')


@pytest.mark.parametrize(
    "query",
    [
        "months?from=2026-13",
        "months?from=2026-05&to=2026-04",
        "months?sort=lowest_margin",
        "kinds?tenant_id=pilot",
        "deployments?limit=501",
        "deployments?sort=name",
        "deployments.csv?limit=5",
        "tenants?search=",
        "invoices?deployment_id=web",
    ],
)
def test_what_makes_no_sense_is_refused(cost_api: httpx.Client, query: str) -> None:
    answer = cost_api.get(f"/api/v1/costs/{query}", headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:arcadia:problem:invalid-request")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "settings", [{}, {"role": "tenant", "tenant_id": "pilot"}, {"tenant_id": "pilot"}, {"role": "Platform_Admin"}]
)
def test_the_database_shows_costs_to_platform_admins_only(costed: World, view: str, settings: dict[str, str]) -> None:
    """Without any WHERE, as the API's role; of the tables behind, not even an admin may read one."""
    with as_api(costed.url, **settings) as connection:
        assert connection.execute(f"select count(*) from billing.cost_vs_revenue_{view}".encode()).fetchall() == [(0,)]
    with as_api(costed.url, role="platform_admin") as connection:
        [(seen,)] = connection.execute(f"select count(*) from billing.cost_vs_revenue_{view}".encode()).fetchall()
        assert [(seen,)] == costed.query(f"select count(*) from billing.cost_vs_revenue_{view}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from billing.cost_allocations")


def test_a_tenant_is_told_that_costs_are_not_for_it(cost_api: httpx.Client) -> None:
    answer = cost_api.get("/api/v1/costs/months", headers=tenant("pilot"))
    assert (answer.status_code, answer.json()["detail"]) == (403, "this is for platform admins")
