"""How a thing may be asked for: each parameter once, or as often as a list takes, and HEAD wherever GET is served."""

import socket

import httpx
import pytest

from arcadia_pipelines_tests.api.conftest import ADMIN, tenant
from arcadia_pipelines_tests.world import World

SHEETS = ("months", "deployments", "tenants", "kinds", "invoices")


def refused(answer: httpx.Response) -> dict[str, str]:
    """What is wrong with the parts of a request that makes no sense."""
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:arcadia:problem:invalid-request"), answer.text
    return {error["where"]: error["what"] for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("path", "twice"),
    [
        ("invoices?period=2026-03&period=2026-04", "period"),
        ("invoices?period=2026-04&period=2026-04", "period"),
        ("invoices?period=2026-04&%70eriod=2026-03", "period"),
        ("invoices?tenant_id=pilot&status=issued&tenant_id=nova", "tenant_id"),
        ("invoices?limit=1&limit=2", "limit"),
        ("invoices?cursor=&cursor=", "cursor"),
        ("invoices.csv?status=issued&status=void", "status"),
        ("costs/months?from=2026-01&from=2026-04", "from"),
        ("costs/deployments?tenant_id=pilot&tenant_id=nova&sort=highest_cost&sort=lowest_margin", "sort"),
        ("costs/tenants.csv?search=a&search=b", "search"),
        ("costs/kinds?limit=1&limit=1", "limit"),
        ("costs/invoices?deployment_id=none&deployment_id=none", "deployment_id"),
        ("costs/invoices.csv?resource_kind=a&resource_kind=b", "resource_kind"),
    ],
)
def test_a_parameter_given_twice_is_refused_by_name(api: httpx.Client, path: str, twice: str) -> None:
    """Of two values one would be dropped, and nobody would know which."""
    wrong = refused(api.get(f"/api/v1/{path}", headers=ADMIN))
    assert wrong[f"query.{twice}"] == "is given 2 times: give it once"


def test_a_name_given_twice_in_the_body_of_a_quote_is_refused(api: httpx.Client) -> None:
    """2,160 hours, or 1: the one that counted would be the last."""
    for body, twice in (
        ('{"plan": "studio", "plan": "studio"}', "plan"),
        ('{"plan": "studio", "usage": {"droplet_hours": 2160, "droplet_hours": 1}}', "droplet_hours"),
        ('{"plan": "studio", "usage": {"\\u0064roplet_hours": 1, "droplet_hours": 2160}}', "droplet_hours"),
    ):
        headers = {**ADMIN, "Content-Type": "application/json"}
        wrong = refused(api.post("/api/v1/quotes", headers=headers, content=body))
        assert wrong == {f"body.{twice}": "is given 2 times: give it once"}


def test_a_list_takes_a_parameter_as_often_as_it_is_given(cost_api: httpx.Client) -> None:
    """The documented list is `tenant_id` of the costs: all of them count, in the table and in the sheet."""
    path = "/api/v1/costs/tenants{}?tenant_id=pilot&from=2026-01&tenant_id=wattle-press"
    found = cost_api.get(path.format(""), headers=ADMIN).json()["items"]
    assert {one["tenant_id"] for one in found} == {"pilot", "wattle-press"}
    assert cost_api.get(path.format(".csv"), headers=ADMIN).text.count("\r\n") == 3  # a head and two tenants
    documented = cost_api.get("/api/v1/openapi.json").json()["paths"]["/api/v1/costs/tenants"]["get"]["parameters"]
    assert [one["name"] for one in documented if one["schema"].get("type") == "array"] == ["tenant_id"]


def test_more_tenants_than_a_list_takes_are_refused_in_words(api: httpx.Client) -> None:
    """A hundred are taken; of one more the answer says how many they are, and how many can be."""
    path = "/api/v1/costs/months?" + "&".join(f"tenant_id=t{number}" for number in range(100))
    assert api.get(path, headers=ADMIN).status_code == 200
    wrong = refused(api.get(f"{path}&tenant_id=t100", headers=ADMIN))
    assert wrong == {"query.tenant_id": "101 tenants are chosen, and at most 100 can be asked for at once"}


def test_a_parameter_that_a_route_does_not_have_is_refused_everywhere(api: httpx.Client, billed: World) -> None:
    """Also where a route has none, so that nobody takes a whole answer for a filtered one."""
    [(one,)] = billed.query("select id::text from billing.tenant_invoices where tenant_id = 'pilot' limit 1")
    paths = ["invoices", "invoices.csv", f"invoices/{one}", f"invoices/{one.upper()}", f"invoices/{one}/events"]
    for path in [*paths, *(f"costs/{of}{ending}" for of in SHEETS for ending in ("", ".csv"))]:
        assert "query.month" in refused(api.get(f"/api/v1/{path}?month=2026-04", headers=ADMIN)), path
    quote = api.post("/api/v1/quotes?month=2026-04", headers=ADMIN, json={"plan": "studio"})
    assert "query.month" in refused(quote)
    assert api.get("/health?probe=1").status_code == 200


def test_who_may_not_ask_is_told_that_and_not_what_is_wrong_with_the_question(api: httpx.Client) -> None:
    for path, status in (("invoices?period=1&period=2", 401), ("costs/months?from=1&from=2", 401)):
        assert api.get(f"/api/v1/{path}").status_code == status
    assert api.get("/api/v1/costs/months?from=1&from=2", headers=tenant("pilot")).status_code == 403


def test_head_is_answered_as_get_is_and_without_a_body(cost_api: httpx.Client, costed: World) -> None:
    """Every path of the document, the document and the dashboard: the same status and headers, found or refused."""
    [(one,)] = costed.query("select id::text from billing.tenant_invoices where tenant_id = 'pilot' limit 1")
    documented = cost_api.get("/api/v1/openapi.json").json()["paths"]
    paths = [path.format(invoice_id=one) for path, item in documented.items() if "get" in item]
    paths += ["/api/v1/openapi.json", *(f"/dashboard{file}" for file in ("", "/dashboard.js", "/charts.json"))]
    assert len(paths) == 23
    paths += [f"/api/v1/invoices/{one.upper()}", "/api/v1/invoices?period=1", "/api/v1/nothing", "/dashboard/nothing"]
    for path in paths:
        for headers in (ADMIN, {}):
            known = headers | {"X-Request-ID": "x", "Accept-Encoding": "identity"}
            asked, headed = (cost_api.request(method, path, headers=known) for method in ("GET", "HEAD"))
            assert (headed.status_code, headed.content) == (asked.status_code, b""), path
            unlike = {"date", "transfer-encoding"}  # whether the body that is not sent comes in parts
            assert {k: v for k, v in headed.headers.items() if k not in unlike} == {
                k: v for k, v in asked.headers.items() if k not in unlike
            }


def test_head_of_what_is_unchanged_and_of_what_is_only_posted(api: httpx.Client, billed: World) -> None:
    """304 for the tag that the invoice has; 405 for a quote, and a 405 says that HEAD is served where GET is."""
    [(one,)] = billed.query("select id::text from billing.tenant_invoices where tenant_id = 'pilot' limit 1")
    path = f"/api/v1/invoices/{one}"
    tag = api.head(path, headers=ADMIN).headers["etag"]
    assert api.head(path, headers=ADMIN | {"If-None-Match": tag}).status_code == 304
    assert api.head("/api/v1/quotes", headers=ADMIN).status_code == 405
    assert api.delete(path, headers=ADMIN).headers["allow"] == "GET, HEAD"


def test_who_is_unknown_has_a_401_before_a_body_is_read(api: httpx.Client) -> None:
    """None is sent here, though one is announced: the answer comes at once, and no `100 Continue` asks for it."""
    for token in ("", "Authorization: Bearer nonsense\r\n"):
        for body in ("Content-Length: 60000\r\nExpect: 100-continue\r\n", "Transfer-Encoding: chunked\r\n"):
            with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=5) as client:
                head = f"POST /api/v1/quotes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{token}{body}\r\n"
                client.sendall(head.encode())
                assert client.recv(4096).startswith(b"HTTP/1.1 401 "), (token, body)


def test_headers_query_strings_and_paths_that_are_too_large_are_refused(api: httpx.Client) -> None:
    """One that is long, or many; a third of it passes."""
    long = "x" * 50_000
    for path, headers in (
        ("/api/v1/invoices", {"X-Long": long}),
        ("/api/v1/invoices", {f"X-{number}": long[:500] for number in range(100)}),
        (f"/api/v1/invoices?period={long}", {}),
        (f"/health/{long}", {}),
    ):
        answer = api.get(path, headers=ADMIN | headers)
        assert (answer.status_code, answer.json()["type"]) == (431, "urn:arcadia:problem:head-too-large"), path[:30]
        assert "at most 49152 bytes" in answer.json()["detail"]
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert api.get("/api/v1/invoices", headers=ADMIN | {"X-Long": long[:16_000]}).status_code == 200
