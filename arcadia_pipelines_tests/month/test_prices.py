"""Packages, tiers and caps from the platform's tables to invoices, by hand; and prices that cannot be charged."""

from decimal import Decimal

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month.projection import CannotQuote, project
from arcadia_pipelines.storage import database
from arcadia_pipelines.storage.catalogue import UnknownTenant
from arcadia_pipelines.storage.price_list import UnknownCode
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World, uid

BEYOND = {"droplet_hours": 2000, "egress_gb": 121, "builds": 22, "calls": 14}
"""What the pilot uses beside its 1,488 hours: 512 hours, 121 GB, 22 builds and 14 calls beyond its allowances."""

ZERO = f"0.{0:040}"


@pytest.fixture
def tiered(world: World) -> World:
    """One tenant on a plan with a rate of each model."""
    world.tenant("pilot")
    world.plan("studio", 5000, {"droplet_hours": (1488, 1), "egress_gb": (0, 100), "builds": (0, 0), "calls": (0, 0)})
    world.deployment("pilot", "web", "studio")
    for kind, quantity in BEYOND.items():
        world.use("web", kind, quantity)
    rate(world, "droplet_hours", "maximum_cents = 500")
    rate(world, "egress_gb", "charge_model = 'package', package_size = 10")
    rate(world, "builds", "charge_model = 'graduated'")
    rate(world, "calls", "charge_model = 'volume'")
    for up_to, price, fee in ((5, 0, 100), (10, 0, 50), (15, 5, 0), (None, 1, 0)):
        tier(world, "builds", up_to, price, fee)
    for up_to, price, fee in ((5, 0, 100), (10, 0, 150), (15, 10, 0), (None, 5, 0)):
        tier(world, "calls", up_to, price, fee)
    return world


def rate(world: World, kind: str, change: str) -> None:
    """Change a rate of the plan in place."""
    world.query(f"update cloud.plan_rates set {change} where resource_kind = %s", kind)


def tier(world: World, kind: str, up_to: int | None, cents: int, fee: int, plan: str = "studio") -> None:
    """A tier of the plan's rate."""
    added = "insert into cloud.plan_rate_tiers values (%s, %s, '2026-01-01', %s, %s, %s)"
    world.query(added, uid(plan), kind, up_to, cents, fee)


LINES = [
    ("Plan: studio", 5000),
    ("Overage: builds", 100),  # up to 5
    ("Overage: builds", 50),  # up to 10
    ("Overage: builds", 25),  # 5 x 5 c
    ("Overage: builds", 7),  # 7 x 1 c
    ("Overage: calls", 140),  # 14 x 10 c
    ("Overage: droplet_hours", 500),  # 512 x 1 c is more than the maximum
    ("Overage: egress_gb", 1300),  # 13 packages
    ("GST 10%", 712),
]


def test_each_model_is_invoiced_and_proved_a_second_way(tiered: World) -> None:
    """50.00 + 1.82 + 1.40 + 5.00 + 13.00 = 71.22, GST 7.12; audited in SQL written apart, replayed, run again."""
    tiered.publish("2026-04")
    assert tiered.lines("pilot", "2026-04") == LINES
    assert tiered.disproved() == []
    before = tiered.query("select * from billing.tenant_invoices")
    tiered.publish("2026-04")
    assert tiered.query("select * from billing.tenant_invoices") == before


def test_a_price_of_a_tier_that_changes_in_place_revises_the_invoice(tiered: World) -> None:
    """7 builds at 2 c instead of 1 c: 7 cents more, and the audit proves that too."""
    tiered.publish("2026-04")
    tiered.query(
        "update cloud.plan_rate_tiers set unit_price_cents = 2 where resource_kind = 'builds' and up_to is null"
    )
    assert tiered.finds("lines_follow_from_usage_and_prices", "2026-04")
    tiered.publish("2026-04")
    assert ("Overage: builds", 14) in tiered.lines("pilot", "2026-04")
    assert tiered.disproved() == []


WRONG_RATES = {
    "is volume, and has no tiers": "delete from cloud.plan_rate_tiers where plan_id = %s",
    "has no last tier": "delete from cloud.plan_rate_tiers where up_to is null and plan_id = %s",
    "has tiers, which": "update cloud.plan_rates set charge_model = 'per_unit' where plan_id = %s",
    "has a tier whose up_to": "update cloud.plan_rate_tiers set flat_cents = null where up_to = 5 and plan_id = %s",
}
"""What is said of a plan's rate of volume, with a tier up to 5 and one beyond, once it is spoilt."""


def test_rates_that_cannot_be_charged_hold_back_their_tenants_alone(tiered: World) -> None:
    """What the tables' constraints let through; and a tier's fee of null, which a view may show."""
    tiered.query("alter table cloud.plan_rate_tiers alter flat_cents drop not null")
    plans = [f"plan-{number}" for number in range(len(WRONG_RATES))]
    for plan, spoil in zip(plans, WRONG_RATES.values(), strict=True):
        tiered.tenant(f"of-{plan}")
        tiered.plan(plan, 100, {"calls": (0, 0)})
        tiered.deployment(f"of-{plan}", f"web-{plan}", plan)
        tiered.use(f"web-{plan}", "calls", 14)
        tiered.query("update cloud.plan_rates set charge_model = 'volume' where plan_id = %s", uid(plan))
        for up_to in (5, None):
            tier(tiered, "calls", up_to, 10, 100, plan)
        tiered.query(spoil, uid(plan))
    tiered.publish("2026-04")
    found = tiered.query("select tenant_id, fault, detail from billing.quote_faults order by 1")
    assert [row[:2] for row in found] == [(f"of-{plan}", "rate_cannot_be_charged") for plan in plans]
    for plan, wrong, (_, _, detail) in zip(plans, WRONG_RATES, found, strict=True):
        assert f"the rate of plan {plan} for calls since 2026-01-01 {wrong}" in detail
    assert set(tiered.invoices("2026-04")) == {"pilot"}


def test_a_view_may_show_any_model_size_and_tier(tiered: World) -> None:
    """A model nobody knows, a package of nothing, a tier of NaN: faults by name, and no run that fails."""
    tiered.query(
        "alter table cloud.plan_rates rename to kept_rates; alter table cloud.plan_rate_tiers rename to kept_tiers"
    )
    tiered.query("""
        create view cloud.plan_rates as
        select plan_id, resource_kind, effective_from, included_quantity, unit, unit_price_cents, maximum_cents,
               case resource_kind when 'calls' then 'by moon' else charge_model end as charge_model,
               case resource_kind when 'egress_gb' then 'NaN' else package_size end as package_size
        from cloud.kept_rates;
        create view cloud.plan_rate_tiers as
        select plan_id, resource_kind, effective_from, up_to, flat_cents,
               case when up_to is null then 'NaN' else unit_price_cents end as unit_price_cents
        from cloud.kept_tiers
    """)
    tiered.publish("2026-04")
    assert tiered.query("select resource_kind, fault from billing.quote_faults order by 1") == [
        ("builds", "rate_cannot_be_charged"),
        ("calls", "rate_cannot_be_charged"),
        ("egress_gb", "rate_cannot_be_charged"),
    ]


def test_a_view_may_show_more_decimals_than_a_price_needs(tiered: World) -> None:
    """Forty zeros behind each: the same invoice."""
    tiered.publish("2026-04")
    invoices = tiered.invoices("2026-04")
    tiered.query(f"""
        alter table cloud.plan_rates rename to kept_rates;
        alter table cloud.plan_rate_tiers rename to kept_tiers;
        create view cloud.plan_rates as
        select plan_id, resource_kind, effective_from, included_quantity + {ZERO} as included_quantity, unit,
               unit_price_cents + {ZERO} as unit_price_cents, charge_model, package_size + {ZERO} as package_size,
               maximum_cents, pooled
        from cloud.kept_rates;
        create view cloud.plan_rate_tiers as
        select plan_id, resource_kind, effective_from, up_to + {ZERO} as up_to,
               unit_price_cents + {ZERO} as unit_price_cents, flat_cents + {ZERO} as flat_cents
        from cloud.kept_tiers
    """)
    tiered.publish("2026-04")
    assert tiered.invoices("2026-04") == invoices
    assert tiered.disproved() == []


@pytest.mark.parametrize("pooled", ["0", "'f'::text"])
def test_a_view_may_show_a_pooled_that_is_no_truth_value(world: World, pooled: str) -> None:
    """Whether it means that the rate is pooled cannot be told."""
    world.pilot()
    world.query("alter table cloud.plan_rates rename to kept_rates")
    world.query(
        "create view cloud.plan_rates as select plan_id, resource_kind, effective_from, included_quantity, unit,"
        f" unit_price_cents, {pooled} as pooled from cloud.kept_rates"
    )
    world.publish("2026-04")
    [(fault, detail)] = world.query("select fault, detail from billing.quote_faults")
    assert fault == "rate_cannot_be_charged"
    assert "has a pooled that is neither true nor false" in detail


def test_a_platform_without_the_new_columns_is_billed_by_the_unit(world: World) -> None:
    """Neither the columns nor the table of tiers: the pilot's 70.64."""
    world.pilot()
    world.query("""
        drop table cloud.plan_rate_tiers, cloud.tenant_rate_tiers, cloud.tenant_rates, cloud.tenant_plan_prices,
            cloud.tenant_addon_prices;
        alter table cloud.plan_rates drop column charge_model, drop column package_size, drop column maximum_cents
    """)
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.disproved() == []


# A tenant's own prices


def test_a_tenants_own_prices_stand_for_the_lists_until_they_give_it_back(world: World) -> None:
    """Base 40.00 for 50.00, addon 5.00 for 7.50, 2,000 hours for 1,488 included, 2 c for 1 c beyond; May as listed.

    A rate whose price is null gives the list's back, whatever else it says.
    """
    world.pilot()
    world.tenant("nova")
    world.deployment("nova", "nova-web", "studio", ["storage_50gb"])
    for month in ("04", "05"):
        world.use("nova-web", "droplet_hours", 2160, f"2026-{month}-15")
    studio, addon = uid("studio"), uid("storage_50gb")
    for since, base, extra, price in (("2026-04-01", 4000, 500, 2), ("2026-05-01", None, None, None)):
        world.query("insert into cloud.tenant_plan_prices values ('nova', %s, %s, %s)", studio, since, base)
        world.query("insert into cloud.tenant_addon_prices values ('nova', %s, %s, %s)", addon, since, extra)
        world.query(
            "insert into cloud.tenant_rates (tenant_id, plan_id, resource_kind, effective_from, included_quantity,"
            " unit, unit_price_cents, maximum_cents) values ('nova', %s, 'droplet_hours', %s, 2000, 'hour', %s, 50000)",
            studio,
            since,
            price,
        )
    for month in ("2026-04", "2026-05"):
        world.publish(month)
    own = [("Plan: studio", 4000), ("Addon: storage_50gb", 500), ("Overage: droplet_hours", 320), ("GST 10%", 482)]
    assert world.lines("nova", "2026-04") == own
    assert world.lines("nova", "2026-05") == world.lines("pilot", "2026-04")
    assert world.lines("pilot", "2026-04")[-1] == ("GST 10%", 642)
    assert world.disproved() == []
    [[said]] = world.query("select meta ->> 'price_of' from billing.tenant_invoice_lines where amount_cents = 4000")
    assert said == "tenant"


OWN_FAULTS = {
    "base": (
        "insert into cloud.tenant_plan_prices values ('base', %(studio)s, '2026-03-01', 10000000000)",
        "tenant base's own price of plan studio since 2026-03-01 is not a whole number of cents, from 0 to below 100"
        " million dollars: correct tenant_plan_prices",
    ),
    "extra": (
        "insert into cloud.tenant_addon_prices values ('extra', %(addon)s, '2026-03-01', 10000000000)",
        "tenant extra's own price of addon storage since 2026-03-01 is not a whole number of cents, from 0 to below"
        " 100 million dollars: correct tenant_addon_prices",
    ),
    "rate": (
        "insert into cloud.tenant_rates values ('rate', %(studio)s, 'builds', '2026-03-01', 0, null, 2)",
        "tenant rate's own rate of plan studio for builds since 2026-03-01 has no unit: complete it in tenant_rates",
    ),
    "tiers": (
        "insert into cloud.tenant_rates values ('tiers', %(studio)s, 'builds', '2026-03-01', 0, 'build', 0, 'volume')",
        "tenant tiers's own rate of plan studio for builds since 2026-03-01 is volume, and has no tiers: correct"
        " tenant_rates or tenant_rate_tiers",
    ),
    "twice": (
        "insert into cloud.tenant_plan_prices select 'twice', %(studio)s, '2026-03-01', n from generate_series(1, 2) n",
        "tenant twice's own price of plan studio since 2026-03-01 in tenant_plan_prices is there more than once: which"
        " one counts cannot be told, so keep one",
    ),
}
"""A tenant, a price of its own that cannot be charged, and what is said of it."""


def test_a_fault_of_a_tenants_own_price_names_its_table_and_row_and_not_the_lists(tiered: World) -> None:
    """Each holds back its tenant alone: the pilot has the list's prices, in which nothing is wrong."""
    tiered.query("alter table cloud.tenant_rates alter unit drop not null")
    tiered.query("alter table cloud.tenant_plan_prices drop constraint tenant_plan_prices_pkey")
    tiered.addon("storage", 750)
    for name, (spoil, _) in OWN_FAULTS.items():
        tiered.tenant(name)
        tiered.deployment(name, f"web-{name}", "studio", ["storage"])
        tiered.use(f"web-{name}", "builds", 22)
        tiered.query(spoil.replace("%(studio)s", f"'{uid('studio')}'").replace("%(addon)s", f"'{uid('storage')}'"))
    tiered.publish("2026-04")
    found = dict(tiered.query("select tenant_id, detail from billing.quote_faults"))
    assert found == {name: detail for name, (_, detail) in OWN_FAULTS.items()}
    assert set(tiered.invoices("2026-04")) == {"pilot"}


def test_a_tenant_may_have_tiers_of_its_own(tiered: World) -> None:
    """22 builds at 2 c each up to 20 and 1 c beyond: 40 + 2 cents instead of 1.82; another tenant pays the list's."""
    tiered.tenant("nova")
    tiered.deployment("nova", "nova-web", "studio")
    tiered.use("nova-web", "builds", 22)
    tiered.query(
        "insert into cloud.tenant_rates values"
        " ('nova', %s, 'builds', '2026-02-01', 0, 'hour', 0, 'graduated', null, null)",
        uid("studio"),
    )
    for up_to, price in ((20, 2), (None, 1)):
        tiered.query(
            "insert into cloud.tenant_rate_tiers values ('nova', %s, 'builds', '2026-02-01', %s, %s, 0)",
            uid("studio"),
            up_to,
            price,
        )
    tiered.publish("2026-04")
    assert tiered.lines("nova", "2026-04")[1:3] == [("Overage: builds", 40), ("Overage: builds", 2)]
    assert tiered.lines("pilot", "2026-04") == LINES
    assert tiered.disproved() == []


def test_a_deployment_is_quoted_at_the_tenants_own_prices(tiered: World) -> None:
    """40.00 for 50.00, and no GST for a tenant that is free of it; anybody else is quoted the list's 50.00 + 1.82."""
    tiered.tenant("nova", "exports")
    tiered.query("insert into cloud.tenant_plan_prices values ('nova', %s, '2026-04-01', 4000)", uid("studio"))
    month, usage = BillingMonth.parse("2026-04"), {"builds": Decimal(22)}
    with database.transaction(database.engine(tiered.url)) as connection:
        own, _ = project(connection, month, "studio", [], usage, "nova")
        listed, lines = project(connection, month, "studio", [], usage)
        with pytest.raises(UnknownTenant, match="there is no tenant 'nobody'"):
            project(connection, month, "studio", [], usage, "nobody")
    assert own[["subtotal_cents", "tax_cents"]].to_numpy().tolist() == [[4182, 0]]
    assert listed[["subtotal_cents", "tax_cents"]].to_numpy().tolist() == [[5182, 518]]
    assert list(lines["amount_cents"]) == [5000, 100, 50, 25, 7, 518]


def test_a_price_that_only_the_tenant_has_is_quoted_as_it_is_billed(world: World) -> None:
    """A plan that the list does not sell: 40.00 to its tenant, and no such plan to anybody else."""
    world.pilot()
    world.plan("special")
    world.tenant("nova")
    world.deployment("nova", "nova-web", "special")
    world.query("insert into cloud.tenant_plan_prices values ('nova', %s, '2026-04-01', 4000)", uid("special"))
    world.publish("2026-04")
    assert world.lines("nova", "2026-04") == [("Plan: special", 4000), ("GST 10%", 400)]
    month = BillingMonth.parse("2026-04")
    with database.transaction(database.engine(world.url)) as connection:
        own, _ = project(connection, month, "special", [], {}, "nova")
        with pytest.raises(UnknownCode, match="no plan 'special'"):
            project(connection, month, "special", [], {})
    assert list(own["subtotal_cents"]) == [4000]


def test_a_quote_knows_no_other_tenants_rates_whatever_they_are_called(world: World) -> None:
    """A tenant of the name that a deployment to be has, and a kind that only another tenant is sold."""
    world.pilot()
    world.tenant("new")
    for kind in ("droplet_hours", "secret_gpu"):
        world.query(
            "insert into cloud.tenant_rates values ('new', %s, %s, '2026-04-01', 0, 'hour', 7)", uid("studio"), kind
        )
    month = BillingMonth.parse("2026-04")
    with database.transaction(database.engine(world.url)) as connection:
        listed, _ = project(connection, month, "studio", [], {"droplet_hours": Decimal(2000)})
        with pytest.raises(CannotQuote, match=r"it has droplet_hours$"):
            project(connection, month, "studio", [], {"nonsense": Decimal(1)}, "pilot")
    assert list(listed["subtotal_cents"]) == [5512]


def test_rows_of_a_view_without_a_tenant_are_nobodys_prices(world: World) -> None:
    """Neither is a row without one the list's, nor one that gives back beside another of the same day."""
    world.pilot()
    world.query("drop table cloud.tenant_rate_tiers, cloud.tenant_rates")
    world.query("""
        create view cloud.tenant_rates as
        select tenant_id, (select id from cloud.plans) as plan_id, 'droplet_hours'::varchar as resource_kind,
               date '2026-03-01' as effective_from, 0 as included_quantity, 'hour'::varchar as unit,
               99 as unit_price_cents
        from (values (null::varchar), ('')) nobody (tenant_id)
    """)
    world.publish("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}


def test_packages_that_cannot_be_counted_hold_back_their_tenant_alone(tiered: World) -> None:
    """Of a millionth of a GB each."""
    tiered.tenant("nova")
    tiered.plan("small", 100)
    tiered.deployment("nova", "nova-web", "small")
    tiered.use("web", "egress_gb", 2_000_000)
    rate(tiered, "egress_gb", "package_size = 0.000001")
    tiered.publish("2026-04")
    assert tiered.query("select tenant_id, fault from billing.quote_faults") == [("pilot", "packages_out_of_range")]
    assert set(tiered.invoices("2026-04")) == {"nova"}


def test_lines_of_tiers_are_explained_once_for_their_meter(tiered: World, arcadia: Call) -> None:
    """Four lines of builds, two fees and two prices: the 22 records' sum agrees, and no line is without its usage."""
    tiered.publish("2026-04")
    explained = arcadia("explain", "INV-202604-00001", "--json").json()
    assert (explained["agrees"], [line["disagreements"] for line in explained["lines"]]) == (True, [[]] * 9)
