"""Every plan for the same usage, the cheapest first; and what a quote warns of."""

import pytest

from arcadia_pipelines_tests.api.conftest import ADMIN, served, tenant
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.world import World, uid

APRIL = ("--month", "2026-04")


@pytest.fixture
def shop(world: World) -> World:
    """Three plans: small costs 5.00 and 2 c an hour, studio 50.00 with 1,488 hours; bare meters no hours."""
    world.pilot()
    world.plan("small", 500, {"droplet_hours": (0, 2)})
    world.plan("bare", 100)
    return world


def totals(document: object) -> list[tuple[str, int]]:
    assert isinstance(document, dict)
    return [(quote["plan"], quote["subtotal_cents"]) for quote in document["compared"]]


def test_the_cheapest_plan_comes_first_and_it_depends_on_usage(shop: World, arcadia: Call) -> None:
    """1,000 hours: 25.00 on small, 50.00 on studio. 3,000: 65.00 and 50.00 + 15.12. 3,200: 69.00 and 67.12."""
    for hours, expected in (
        (1000, [("small", 2500), ("studio", 5000)]),
        (3000, [("small", 6500), ("studio", 6512)]),
        (3200, [("studio", 6712), ("small", 6900)]),
    ):
        document = arcadia("quote", "--compare", *APRIL, "--usage", f"droplet_hours={hours}", "--json").json()
        assert totals(document) == expected
        [without] = document["without"]
        assert without["plan"] == "bare"
        assert without["reason"].startswith("plan 'bare' has no rate for 'droplet_hours' in 2026-04")


def test_each_comparison_is_the_plans_own_quote(shop: World, arcadia: Call) -> None:
    """With addons, and a tenant's own price: nova has studio for 1.00."""
    shop.tenant("nova")
    shop.query("insert into cloud.tenant_plan_prices values ('nova', %s, '2026-01-01', 100)", uid("studio"))
    wanted = ("--addon", "storage_50gb", *APRIL, "--tenant", "nova", "--json")
    compared = arcadia("quote", "--compare", *wanted).json()["compared"]
    assert totals({"compared": compared}) == [("bare", 850), ("studio", 850), ("small", 1250)]
    for quote in compared:
        plan = quote.pop("plan")
        assert quote == arcadia("quote", "--plan", plan, *wanted).json()


def test_people_see_a_table_and_why_a_plan_is_not_in_it(shop: World, arcadia: Call) -> None:
    shown = arcadia("quote", "--plan", "small", "--compare", *APRIL, "--usage", "droplet_hours=1").out
    assert "Quote at the prices of 2026-04" in shown
    assert "Plans in 2026-04, AUD" in shown
    assert shown.endswith("plan 'bare' has no rate for 'droplet_hours' in 2026-04: it has none\n")


def test_a_plan_or_a_comparison_has_to_be_asked_for(arcadia: Call) -> None:
    refused(arcadia("quote", *APRIL), "--plan")


def test_more_usage_that_would_cost_less_is_told(world: World, arcadia: Call) -> None:
    """Up to 5 flat 1.00, to 10 flat 1.50, to 15 at 10 c each, then 5 c each: 15 cost 1.50 and 16 cost 80 c."""
    world.plan("calls", 0, {"calls": (100, 0)})
    world.query("update cloud.plan_rates set charge_model = 'volume'")
    for up_to, cents, fee in ((5, 0, 100), (10, 0, 150), (15, 10, 0), (None, 5, 0)):
        added = "insert into cloud.plan_rate_tiers values (%s, 'calls', '2026-01-01', %s, %s, %s)"
        world.query(added, uid("calls"), up_to, cents, fee)
    warning = "more calls would cost less: beyond 115 it is 0.75 in all instead of 1.50, ex GST"
    quoted = {
        used: arcadia("quote", "--plan", "calls", *APRIL, "--usage", f"calls={used}", "--json").json().get("warnings")
        for used in (100, 105, 110, 115, 116)
    }
    assert quoted[115] == [warning]
    assert {used for used, warned in quoted.items() if warned} == {105, 110, 115}
    assert f"warning: {warning}\n" in arcadia("quote", "--plan", "calls", *APRIL, "--usage", "calls=115").out
    body = {"plan": "calls", "usage": {"calls": 115}, "month": "2026-04"}
    with served(world.url) as api:
        assert api.post("/api/v1/quotes", headers=ADMIN, json=body).json()["warnings"] == [warning]


def test_the_api_compares_when_it_is_asked_to(shop: World) -> None:
    """And has no key for what nobody asked."""
    body = {"plan": "studio", "usage": {"droplet_hours": 1000}, "month": "2026-04"}
    with served(shop.url) as api:
        plain = api.post("/api/v1/quotes", headers=tenant("pilot"), json=body).json()
        compared = api.post("/api/v1/quotes", headers=tenant("pilot"), json=body | {"compare": True}).json()
    assert totals(compared) == [("small", 2500), ("studio", 5000)]
    assert [without["plan"] for without in compared["without"]] == ["bare"]
    assert {name: compared[name] for name in plain} == plain
    assert set(plain) == {"currency", "subtotal_cents", "tax_cents", "total_cents", "lines"}


def test_a_commitment_of_the_tenant_is_told_while_it_is_in_effect(shop: World, arcadia: Call) -> None:
    """Of 100.00 from April to May: whatever this costs is in it, until the tenant's whole comes to more."""
    shop.query(
        "insert into cloud.commitments values (%s, 'pilot', null, 10000, '2026-04-01', '2026-06-01')", uid("promise")
    )
    call = ("quote", "--plan", "studio", "--tenant", "pilot", "--json", "--month")
    [warning] = arcadia(*call, "2026-04").json()["warnings"]
    assert warning.startswith("the tenant has committed to 100.00 in the month, ex GST: this counts towards it")
    assert "warnings" not in arcadia(*call, "2026-06").json()
    assert "warnings" not in arcadia("quote", "--plan", "studio", "--json", *APRIL).json()
