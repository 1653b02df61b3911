"""What if, over the API: past months at a book's prices, for platform admins, by a role that may read them alone."""

import csv
import io
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from arcadia_pipelines.api import queries
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.api.conftest import ADMIN, Serve, tenant
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.logins import login
from arcadia_pipelines_tests.world import World


def asked(api: httpx.Client, prices: str, months: str, ending: str = "", **more: Any) -> httpx.Response:
    return api.post(f"/api/v1/reprice{ending}", headers=ADMIN, json={"prices": prices, "months": months, **more})


def wrong(answer: httpx.Response) -> list[dict[str, Any]]:
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:arcadia:problem:invalid-request"), answer.text
    errors: list[dict[str, Any]] = answer.json().get("errors", [{"what": answer.json()["detail"]}])
    return errors


def test_the_prices_in_effect_make_no_difference(cost_api: httpx.Client, book: str) -> None:
    """In January and February, of any tenant, plan or kind; nobody is left out."""
    found = asked(cost_api, book, "2026-01..2026-02").json()
    assert [month["month"] for month in found["months"]] == ["2026-01", "2026-02"]
    assert len(found["tenants"]) > 10
    for group in ("months", "tenants", "plans", "kinds"):
        assert {row["difference_cents"] for row in found[group]} == {0}, group
    assert {row["before_cents"] - row["after_cents"] for row in found["amounts"]} == {0}
    assert found["left_out"] == []


def test_a_dearer_plan_is_paid_by_whoever_has_it(cost_api: httpx.Client, costed: World, dearer: str) -> None:
    """The pilot's one studio: 10.00 more in April, ex GST, and 1.00 of GST: 64.22 and 6.42, or 74.22 and 7.42."""
    found = asked(cost_api, dearer, "2026-04", tenant="pilot").json()
    sides = {"before_cents": 6422, "after_cents": 7422, "difference_cents": 1000}
    assert found["tenants"] == [{"tenant_id": "pilot", **sides}]
    assert found["plans"] == [{"plan": "studio", **sides}]
    kinds = {row["kind"]: (row["before_cents"], row["after_cents"]) for row in found["amounts"]}
    assert kinds == {"plan_base": (5000, 6000), "addon": (750, 750), "overage": (672, 672), "tax": (642, 742)}
    [[cost]] = costed.query(
        "select cost_cents from billing.cost_vs_revenue_by_tenant"
        " where tenant_id = 'pilot' and period_start = '2026-04-01'"
    )
    assert found["months"] == [
        {"month": "2026-04", **sides}
        | {"cost_cents": cost, "margin_before_cents": 6422 - cost, "margin_after_cents": 7422 - cost}
    ]


def test_it_answers_as_the_command_line_does(
    cost_api: httpx.Client, costed: World, dearer: str, arcadia: Call, tmp_path: Path
) -> None:
    (tmp_path / "book.yaml").write_text(dearer)
    wanted = ("--prices", str(tmp_path / "book.yaml"), "--months", "2026-01..2026-02", "--json")
    told = arcadia("reprice", *wanted, ARCADIA_DATABASE_URL=costed.url).json()
    assert asked(cost_api, dearer, "2026-01..2026-02").json() == told
    assert asked(cost_api, dearer, "2026-01..2026-02", amounts=False).json() == told | {"amounts": None}


def test_the_sheet_has_each_amount_in_dollars(cost_api: httpx.Client, dearer: str) -> None:
    answer = asked(cost_api, dearer, "2026-04", ".csv", tenant="pilot")
    assert answer.headers["content-disposition"] == 'attachment; filename="reprice.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [list(row.values()) for row in rows if row["kind"] in ("plan_base", "tax")] == [
        ["2026-04", "pilot", "studio", "plan_base", "50.00", "60.00", "10.00"],
        ["2026-04", "pilot", "", "tax", "6.42", "7.42", "1.00"],
    ]


def test_a_book_with_faults_is_refused_with_each_ones_line(cost_api: httpx.Client, dearer: str) -> None:
    answer = asked(
        cost_api, dearer.replace("'60.00'", "'-1'").replace("proration: daily", "proration: hourly"), "2026-04"
    )
    faults = wrong(answer)
    lines = dearer.splitlines()
    assert {one["where"].rpartition(".")[2] for one in faults} == {"price_aud", "proration"}
    for fault in faults:
        assert fault["where"].rpartition(".")[2] in lines[fault["line"] - 1], fault
    assert [one["what"] for one in faults if one["where"].endswith("price_aud")] == ["-1 is below 0"]
    assert answer.json()["detail"].startswith(f"the price book is wrong in line {faults[0]['line']}: plans.")


@pytest.mark.parametrize(
    ("prices", "line", "what"),
    [
        ("plans: {\n", 2, "is not YAML: "),
        ("{}\n---\n{}", 2, "is not YAML: "),
        ("a: &x 1", 1, "anchors and aliases are not read: write it out"),
        ("tenants:\n  nobody:\n    plans: {}", 2, "is no tenant of the platform"),
    ],
)
def test_what_is_no_book_of_this_platform_is_refused(cost_api: httpx.Client, prices: str, line: int, what: str) -> None:
    [fault, *_] = wrong(asked(cost_api, prices, "2026-04"))
    assert (fault["line"], fault["what"].startswith(what)) == (line, True), fault


@pytest.mark.parametrize(
    ("months", "more", "what"),
    [
        ("2026-12", {}, "2026-12 is not quoted: only months that were materialised can be priced again"),
        ("2026-04..2026-03", {}, "2026-04..2026-03 ends before it begins"),
        ("2026-13", {}, "'2026-13' is not a month: write it like 2026-04"),
        ("2024-01..2026-01", {}, "2024-01..2026-01 is 25 months: at most 24 are priced at once"),
        ("2026-04", {"tenant": "nobody"}, "there is no tenant 'nobody'"),
        ("2026-04", {"amounts": "yes"}, "Input should be a valid boolean"),
        ("2026-04", {"month": "2026-04"}, "Extra inputs are not permitted"),
    ],
)
def test_months_and_tenants_that_cannot_be_priced_are_said(
    cost_api: httpx.Client, months: str, more: dict[str, Any], what: str
) -> None:
    assert [one["what"] for one in wrong(asked(cost_api, "{}", months, **more))] == [what]


def test_who_is_not_in_the_book_is_left_out_and_named(cost_api: httpx.Client) -> None:
    found = asked(cost_api, "{}", "2026-04", tenant="pilot").json()
    assert found["amounts"] == found["tenants"] == []
    assert found["months"][0]["after_cents"] == 0
    assert found["months"][0]["cost_cents"] > 0
    assert found["months"][0]["margin_after_cents"] is None  # of whose revenue?
    assert {one["period_start"] for one in found["left_out"]} == {"2026-04-01"}
    assert {one["fault"] for one in found["left_out"]} == {"plan_without_price", "addon_without_price"}


def test_only_a_platform_admin_may_ask_and_nobody_elses_book_is_read(cost_api: httpx.Client) -> None:
    """Neither JSON nor a book: who may not ask is told that and not what is wrong."""
    for headers, status in ((tenant("pilot"), 403), ({}, 401)):
        for ending in ("", ".csv"):
            answer = cost_api.post(f"/api/v1/reprice{ending}", headers=headers, content=b"nonsense")
            assert answer.status_code == status


def test_a_book_may_be_larger_than_other_bodies_but_not_without_end(cost_api: httpx.Client, book: str) -> None:
    """Comments of 200 kB are read over; of 1.1 MB they are refused."""
    assert asked(cost_api, book + "# more\n" * 30_000, "2026-01", tenant="pilot").status_code == 200
    assert asked(cost_api, book + "# more\n" * 160_000, "2026-01").status_code == 413


def test_one_is_priced_at_a_time(serve: Serve, costed: World, book: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While January waits for a table, another is told to come again; then the first one is answered."""
    monkeypatch.setattr(queries, "WAIT_SECONDS", 0.2)
    api, answers = serve(costed.url), list[httpx.Response]()
    with database.engine(costed.url).begin() as holding:
        holding.exec_driver_sql("lock table billing.quote_faults in access exclusive mode")
        first = threading.Thread(target=lambda: answers.append(asked(api, book, "2026-01", tenant="pilot")))
        first.start()
        blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'quote_faults'"
        while costed.query(f"{blocked} and datname = current_database()") == [(0,)]:
            time.sleep(0.01)
        second = asked(api, book, "2026-01")
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        assert api.get("/api/v1/invoices", headers=ADMIN).status_code == 200
    first.join()
    assert [answer.status_code for answer in answers] == [200]


def test_a_login_without_the_role_is_told_what_it_lacks_and_serves_the_rest(
    serve: Serve, costed: World, server_url: str, book: str
) -> None:
    """In arcadia_api alone; in both roles it prices."""
    for roles, status in ((["arcadia_api"], 503), (["arcadia_api", "arcadia_reprice"], 200)):
        with login(server_url, costed.url, *roles) as own:
            api = serve(own)
            answer = asked(api, book, "2026-01", tenant="pilot")
            assert answer.status_code == status, answer.text
            assert status == 200 or "is not of the role arcadia_reprice" in answer.json()["detail"]
            assert api.get("/api/v1/invoices", headers=ADMIN).status_code == 200
