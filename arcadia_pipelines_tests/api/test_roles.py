"""Who may see what: each route for a platform admin, the tenant itself, another tenant, and nobody."""

import uuid

import httpx
import pytest

from arcadia_pipelines_tests.api.conftest import ADMIN, tenant
from arcadia_pipelines_tests.world import World

QUOTE = {"plan": "studio", "month": "2026-04"}


@pytest.fixture(scope="session")
def pilots(billed: World) -> str:
    """The id of the pilot's April invoice."""
    [(invoice_id,)] = billed.query(
        "select id::text from billing.tenant_invoices where tenant_id = 'pilot' and period_start = '2026-04-01'"
    )
    return str(invoice_id)


@pytest.mark.parametrize(
    ("method", "path", "admin", "itself", "another", "nobody"),
    [
        ("GET", "/health", 200, 200, 200, 200),
        ("GET", "/ready", 200, 200, 200, 200),
        ("GET", "/api/v1/openapi.json", 200, 200, 200, 200),
        ("GET", "/api/v1/invoices", 200, 200, 200, 401),
        ("GET", "/api/v1/invoices?tenant_id=pilot", 200, 403, 403, 401),
        ("GET", "/api/v1/invoices.csv", 200, 200, 200, 401),
        ("GET", "/api/v1/invoices.csv?tenant_id=pilot", 200, 403, 403, 401),
        ("GET", "/api/v1/invoices/{id}", 200, 200, 404, 401),
        ("GET", "/api/v1/invoices/{id}/events", 200, 403, 403, 401),
        ("POST", "/api/v1/quotes", 200, 200, 200, 401),
        ("DELETE", "/api/v1/invoices/{id}", 405, 405, 405, 405),
        ("GET", "/api/v1/costs/months", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/months.csv?tenant_id=pilot", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/deployments", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/deployments.csv", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/tenants?tenant_id=pilot", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/tenants.csv", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/kinds", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/kinds.csv", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/invoices?tenant_id=pilot", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/invoices.csv", 200, 403, 403, 401),
        ("GET", "/api/v1/costs/months?from=nonsense", 422, 403, 403, 401),
        ("GET", "/api/v1/nothing", 404, 404, 404, 404),
    ],
)
def test_each_role_gets_what_it_may(
    api: httpx.Client, pilots: str, method: str, path: str, admin: int, itself: int, another: int, nobody: int
) -> None:
    callers = {"admin": ADMIN, "itself": tenant("pilot"), "another": tenant("nova"), "nobody": {}}
    body = QUOTE if method == "POST" else None
    answers = {
        who: api.request(method, path.format(id=pilots), headers=headers, json=body) for who, headers in callers.items()
    }
    assert {who: answer.status_code for who, answer in answers.items()} == {
        "admin": admin,
        "itself": itself,
        "another": another,
        "nobody": nobody,
    }
    for answer in answers.values():
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_tenant_sees_its_invoices_and_no_draft_and_an_admin_sees_all(
    api: httpx.Client, billed: World, drafted: str
) -> None:
    """March and April of the tenant with the draft: only March is to be seen, by list, id and CSV."""
    ids = dict(
        billed.query("select period_start::text, id::text from billing.tenant_invoices where tenant_id = %s", drafted)
    )
    seen = api.get("/api/v1/invoices", headers=tenant(drafted)).json()["items"]
    assert [invoice["id"] for invoice in seen] == [ids["2026-03-01"]]
    assert api.get("/api/v1/invoices?status=draft", headers=tenant(drafted)).json()["items"] == []
    assert api.get(f"/api/v1/invoices/{ids['2026-04-01']}", headers=tenant(drafted)).status_code == 404
    assert ids["2026-04-01"] not in api.get("/api/v1/invoices.csv", headers=tenant(drafted)).text
    [(everything,)] = billed.query("select count(*) from billing.tenant_invoices")
    assert len(api.get("/api/v1/invoices?limit=200", headers=ADMIN).json()["items"]) == everything
    assert api.get(f"/api/v1/invoices/{ids['2026-04-01']}", headers=ADMIN).json()["status"] == "draft"


@pytest.mark.long
def test_ids_of_others_are_not_found_by_the_thousand_each_like_one_that_does_not_exist(
    api: httpx.Client, billed: World
) -> None:
    """Every other tenant's invoice and a thousand made-up ids: one and the same answer but for the request's id."""
    others = [str(row[0]) for row in billed.query("select id from billing.tenant_invoices where tenant_id <> 'pilot'")]
    answers = set()
    for invoice_id in [*others, *(str(uuid.uuid4()) for _ in range(1000))]:
        answer = api.get(f"/api/v1/invoices/{invoice_id}", headers=tenant("pilot"))
        answers.add((answer.status_code, answer.text.replace(answer.headers["x-request-id"], "")))
    assert len(others) > 20
    assert [status for status, _ in answers] == [404]
