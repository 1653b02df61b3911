"""`GET /api/v1/plans`: what is on sale, with a tenant's own prices for that tenant, and nobody else's."""

from typing import Any

import httpx
import pytest

from arcadia_pipelines_tests.api.conftest import ADMIN, Serve, tenant
from arcadia_pipelines_tests.world import World, uid

PATH = "/api/v1/plans?month=2026-04"


@pytest.fixture
def shop(world: World, serve: Serve) -> httpx.Client:
    """The pilot's price list; nova has the plan at 40.00, and its own tiers for hours."""
    world.pilot()
    world.tenant("nova")
    world.query("insert into cloud.tenant_plan_prices values ('nova', %s, '2026-03-01', 4000)", uid("studio"))
    world.query(
        "insert into cloud.tenant_rates values"
        " ('nova', %s, 'droplet_hours', '2026-03-01', 100, 'hour', 0, 'graduated', null, 9900)",
        uid("studio"),
    )
    for up_to, cents, fee in ((50, 2, 0), (None, "0.744", 100)):
        world.query(
            "insert into cloud.tenant_rate_tiers values ('nova', %s, 'droplet_hours', '2026-03-01', %s, %s, %s)",
            uid("studio"),
            up_to,
            cents,
            fee,
        )
    return serve(world.url)


def plans(shop: httpx.Client, headers: dict[str, str], more: str = "") -> Any:
    """The document."""
    answer = shop.get(PATH + more, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


LISTED = {
    "month": "2026-04",
    "currency": "AUD",
    "plans": [
        {
            "code": "studio",
            "name": "Studio",
            "proration": "none",
            "base_price_cents": 5000,
            "effective_from": "2026-01-01",
            "own_price": False,
            "rates": [
                {
                    "resource_kind": "droplet_hours",
                    "unit": "hour",
                    "included": "1488.000000",
                    "pooled": False,
                    "charge_model": "per_unit",
                    "unit_price_cents": "1.00000000",
                    "package_size": None,
                    "maximum_cents": None,
                    "tiers": [],
                    "effective_from": "2026-01-01",
                    "own_price": False,
                }
            ],
        }
    ],
    "addons": [
        {
            "code": "storage_50gb",
            "name": "storage_50gb",
            "price_cents": 750,
            "effective_from": "2026-01-01",
            "own_price": False,
        }
    ],
}


def test_the_list_is_shown_to_an_admin_and_to_a_tenant_without_prices_of_its_own(shop: httpx.Client) -> None:
    assert plans(shop, ADMIN) == plans(shop, tenant("pilot")) == plans(shop, tenant("unheard-of")) == LISTED


def test_a_tenants_own_prices_are_shown_to_it_and_to_an_admin_who_asks(shop: httpx.Client) -> None:
    own = plans(shop, tenant("nova"))
    assert own == plans(shop, ADMIN, "&tenant_id=nova")
    [studio] = own["plans"]
    assert (studio["base_price_cents"], studio["own_price"]) == (4000, True)
    [hours] = studio["rates"]
    assert (hours["included"], hours["charge_model"], hours["maximum_cents"]) == ("100.000000", "graduated", 9900)
    assert (hours["unit_price_cents"], hours["own_price"]) == (None, True)
    assert hours["tiers"] == [
        {"up_to": "50.000000", "unit_price_cents": "2.00000000", "flat_cents": 0},
        {"up_to": None, "unit_price_cents": "0.74400000", "flat_cents": 100},
    ]
    assert own["addons"] == LISTED["addons"]


def test_a_tenant_chooses_no_other_tenant(shop: httpx.Client) -> None:
    assert shop.get(PATH + "&tenant_id=nova", headers=tenant("pilot")).status_code == 403


def test_prices_are_those_of_the_month_that_is_asked_for(shop: httpx.Client, world: World) -> None:
    """This month's unless a month is named; before there was a price nothing is on sale."""
    world.plan("studio", 6000, since="2026-05-01")
    at = {month: shop.get(f"/api/v1/plans?month={month}", headers=ADMIN).json()["plans"] for month in
          ("2025-12", "2026-04", "2026-05")}  # fmt: skip
    assert [[plan["base_price_cents"] for plan in found] for found in at.values()] == [[], [5000], [6000]]
    assert shop.get("/api/v1/plans", headers=ADMIN).json()["plans"][0]["base_price_cents"] == 6000


def test_the_answer_has_a_tag_that_changes_with_a_price_and_saves_sending_it_again(
    shop: httpx.Client, world: World
) -> None:
    first = shop.get(PATH, headers=ADMIN)
    tag = {"If-None-Match": first.headers["ETag"]}
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = shop.get(PATH, headers=ADMIN | tag)
    assert (again.status_code, again.content) == (304, b"")
    assert shop.get(PATH, headers=tenant("nova") | tag).status_code == 200
    world.query("update cloud.plan_prices set base_price_cents = 5001")
    assert shop.get(PATH, headers=ADMIN | tag).status_code == 200


def test_what_cannot_be_quoted_is_not_on_sale(shop: httpx.Client, world: World) -> None:
    """A rate without the tiers that its model needs is left out, and the plan is sold without it."""
    world.query("update cloud.plan_rates set charge_model = 'volume'")
    assert plans(shop, ADMIN)["plans"][0]["rates"] == []
    assert plans(shop, tenant("nova"))["plans"][0]["rates"] != []


def test_what_has_no_code_is_left_out(shop: httpx.Client, world: World) -> None:
    """A view may show a plan without one."""
    world.query("alter table cloud.plans rename to kept")
    world.query("create view cloud.plans as select id, null::text as code, name from cloud.kept")
    world.query("grant select on cloud.plans to arcadia_api")
    shown = plans(shop, ADMIN)
    assert shown["plans"] == []
    assert [one["code"] for one in shown["addons"]] == ["storage_50gb"]
