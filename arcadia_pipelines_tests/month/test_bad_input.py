"""Month ends over what should not be: one tenant's fault holds back that tenant, says so, and nobody else."""

import datetime as dt
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli import launch
from arcadia_pipelines.pipeline.partitions import MONTHS, NotBillable
from arcadia_pipelines.proof.control import Finding
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests.databases import PLATFORM, copy_of
from arcadia_pipelines_tests.world import World, failed_checks, uid

PILOT = ("issued", 1, 6422, 642, 7064)
APRIL = "2026-04-15 12:00+00"
Faulty = tuple[World, Mapping[str, Finding]]
"""A month that is published, and what its checks found."""
MEND = "Mend what `detail` says, then materialise the month again: the tenant is invoiced then."


def offenders(result: dg.ExecuteInProcessResult, check: str, count: int | None = None) -> list[dict[str, Any]]:
    """What the failed check shows, row by row; it counts as many, or `count`."""
    metadata = failed_checks(result)[check].metadata
    [shown] = [value for value in metadata.values() if isinstance(value, dg.TableMetadataValue)]
    assert metadata["offenders"].value == (count or len(shown.records))
    return [dict(record.data) for record in shown.records]


def why_held_back(findings: Mapping[str, Finding]) -> dict[object, list[tuple[object, object]]]:
    """Each held-back tenant's faults: name and detail."""
    found: dict[object, list[tuple[object, object]]] = {}
    for row in findings["no_tenant_is_held_back"].offenders:
        found.setdefault(row["tenant_id"], []).append((row["fault"], row["detail"]))
    return found


def number(cell: str) -> Decimal:
    """A number as a table shows it."""
    return Decimal(cell.strip().replace(",", ""))


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    """The values on the asset's materialisation."""
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return {name: value.value for name, value in event.materialization.metadata.items()}


# Faults that the platform's own tables, with all their constraints, let through.

FAULTS_IN_TABLES = {
    "unpriced": (
        "plan_without_price",
        "plan bespoke has no price in effect on the first of the month: add one to plan_prices",
    ),
    "priced-too-late": (
        "plan_without_price",
        "plan novelty has no price in effect on the first of the month: add one to plan_prices",
    ),
    "addon-unpriced": (
        "addon_without_price",
        "addon gift has no price in effect on the first of the month: add one to addon_prices",
    ),
    "doubled": (
        "overlapping_subscriptions",
        "deployment doubled-web has two subscriptions at one instant: end one where the other starts",
    ),
    "not-a-number": (
        "unusable_usage",
        "droplet_hours of deployment nan-web has a record of NaN, null, infinity, or 1e12 and more:"
        " correct the usage records",
    ),
    "too-much": (
        "usage_out_of_range",
        "droplet_hours of deployment huge-web sums to 1e12 or more: correct the usage records",
    ),
    "below-zero": (
        "negative_usage",
        "droplet_hours of deployment negative-web sums to -0.500000: correct the usage records",
    ),
    "past-64-bits": (
        "amount_out_of_range",
        "the month of past-64-bits sums to more than 64 bits of cents: correct usage or prices",
    ),
}


@pytest.fixture(scope="module")
def faulty(server_url: str, migrated: str) -> Iterator[Faulty]:
    """April 2026 with one tenant for each fault, the pilot, and a tenant whose meter was corrected."""
    with copy_of(server_url, migrated) as url, World(url).connected() as world:
        world.pilot()
        for tenant in ("corrected", *FAULTS_IN_TABLES):
            world.tenant(tenant)

        world.plan("bespoke", None, {"droplet_hours": (0, 1)})
        world.deployment("unpriced", "unpriced-web", "bespoke")
        world.use("unpriced-web", "droplet_hours", 10)

        world.plan("novelty", 100, since="2026-05-01")
        world.deployment("priced-too-late", "late-web", "novelty")

        world.query("insert into cloud.addons values (%s, 'gift', 'Gift')", uid("gift"))
        world.deployment("addon-unpriced", "gift-web", "studio", ["gift"])

        world.deployment("doubled", "doubled-web", "studio", end="2026-04-20")
        world.subscribe("doubled-2", "doubled", "doubled-web", "studio", start="2026-04-19")
        world.use("doubled-web", "droplet_hours", 2000, "2026-04-19 12:00+00")

        world.deployment("not-a-number", "nan-web", "studio")
        world.use("nan-web", "droplet_hours", 2000)
        world.use("nan-web", "droplet_hours", "NaN")

        world.deployment("too-much", "huge-web", "studio")
        world.use("huge-web", "droplet_hours", "500000000000")
        world.use("huge-web", "droplet_hours", "500000000000")

        world.deployment("below-zero", "negative-web", "studio")
        world.use("negative-web", "droplet_hours", "100")
        world.use("negative-web", "droplet_hours", "-100.5")

        world.plan("precious", 0, {"gold_grams": (0, "9999999999")})
        world.deployment("past-64-bits", "gold-web", "precious")
        world.use("gold-web", "gold_grams", "999999999999.999999")

        world.deployment("corrected", "corrected-web", "studio")
        world.use("corrected-web", "droplet_hours", 1500)
        world.use("corrected-web", "droplet_hours", -10)
        yield world, world.findings("2026-04")


@pytest.mark.parametrize("tenant", FAULTS_IN_TABLES)
def test_a_tenant_with_a_fault_is_held_back_and_told_what_to_mend(faulty: Faulty, tenant: str) -> None:
    """It has no quote and no invoice; the failing check names it, its one fault, and what to do."""
    world, findings = faulty
    assert set(why_held_back(findings)[tenant]) == {FAULTS_IN_TABLES[tenant]}
    assert tenant not in world.invoices("2026-04")
    assert world.query("select * from billing.deployment_quote_lines where tenant_id = %s", tenant) == []


def test_only_the_tenants_with_a_fault_are_held_back(faulty: Faulty) -> None:
    """The month succeeds, the check fails as an error and says how to go on; the pilot owes 70.64 as ever."""
    world, findings = faulty
    assert set(why_held_back(findings)) == set(FAULTS_IN_TABLES)
    [check] = failed_checks(world.month_end("2026-04")).values()
    assert (check.check_name, check.severity) == ("no_tenant_is_held_back", dg.AssetCheckSeverity.ERROR)
    assert check.metadata["what_to_do"].value == MEND
    assert world.invoices("2026-04").keys() == {"pilot", "corrected"}
    assert world.invoices("2026-04")["pilot"] == PILOT


def test_a_single_negative_record_is_a_correction(faulty: Faulty) -> None:
    """1500 - 10 = 1490 h, 2 h over the 1488: 50.00 + 0.02, GST 5.002 -> 5.00, total 55.02."""
    world, _ = faulty
    assert world.lines("corrected", "2026-04") == [
        ("Plan: studio", 5000),
        ("Overage: droplet_hours", 2),
        ("GST 10%", 500),
    ]
    assert world.invoices("2026-04")["corrected"] == ("issued", 1, 5002, 500, 5502)


def test_usage_of_a_tenant_held_back_is_not_lost(faulty: Faulty) -> None:
    """It waits in unbilled_usage with that reason; a NaN is left out of the sum, and counted."""
    world, _ = faulty
    unbilled = "select deployment_id, quantity from billing.unbilled_usage where reason = 'tenant_held_back'"
    assert dict(world.query(unbilled)) == {
        uid("unpriced-web"): 10,
        uid("doubled-web"): 2000,
        uid("nan-web"): 2000,
        uid("huge-web"): 1_000_000_000_000,
        uid("negative-web"): Decimal("-0.5"),
        uid("gold-web"): Decimal("999999999999.999999"),
    }
    counted = "select record_count, unusable_records from billing.metered_usage where deployment_id = %s"
    assert world.query(counted, uid("nan-web")) == [(2, 1)]


# Faults that only a platform without constraints has, seen through views.

ODD_PRICES = ("50.5", "0.0000000001", "10000000000", "1e30", "NaN", "-Infinity")
ODD_QUANTITIES = ("1.5", "1000000000000", "1e30", "NaN", "Infinity")
FAULTS_BEHIND_VIEWS = {
    "copied": (
        "duplicate_usage",
        "droplet_hours of deployment copied-web has records that share an id, with each other or with those of another"
        " month, or have none: remove the copies",
    ),
    "on-the-edge": (
        "duplicate_usage",
        "droplet_hours of deployment edge-web has records that share an id, with each other or with those of another"
        " month, or have none: remove the copies",
    ),
    "nameless": (
        "duplicate_usage",
        "droplet_hours of deployment nameless-web has records that share an id, with each other or with those of"
        " another month, or have none: remove the copies",
    ),
    **{
        tenant: ("not_unique", f"{what} is there more than once: which one counts cannot be told, so keep one")
        for tenant, what in {
            "code-of-two": "the plan code two in plans",
            "addon-of-two": "the addon code pair in addons",
            "tenant-twice": "tenant tenant-twice in tenants",
            "deployment-twice": f"deployment {uid('deployment-twice')} in cloud_deployments",
            "subscription-twice": f"subscription {uid('subscription-twice')} in subscriptions",
            "subscription-shared": f"subscription {uid('shared')} in subscriptions",
            "subscription-shared-too": f"subscription {uid('shared')} in subscriptions",
            "subscription-ended-too": f"subscription {uid('subscription-ended-too')} in subscriptions",
            "plan-twice": f"plan {uid('plan-twice')} in plans",
            "price-twice": "the price of plan price-twice since 2026-01-01 in plan_prices",
            "rate-twice": "the rate of plan rate-twice for droplet_hours since 2026-01-01 in plan_rates",
            "addon-twice": f"addon {uid('addon-twice')} in addons",
            "addon-price-twice": "the price of addon addon-price-twice since 2026-01-01 in addon_prices",
            "addon-line-twice": f"addon {uid('addon-line-twice/storage_50gb')} in subscription_addons",
        }.items()
    },
    **{
        tenant: (
            "incomplete_subscription",
            f"subscription {uid(tenant)} lacks its id, status, started_at, deployment_id or plan_id:"
            " complete it in subscriptions",
        )
        for tenant in ("no-status", "no-start")
    },
    **{
        tenant: (
            "incomplete_addon",
            f"addon {addon} of deployment {tenant} lacks its id, addon_id, quantity or started_at: complete it in"
            " subscription_addons",
        )
        for tenant, addon in (("addon-no-start", "storage_50gb"), ("addon-no-quantity", "storage_50gb"))
    },
    "no-unit": (
        "rate_without_unit",
        "the rate of plan no-unit for droplet_hours has no unit: complete it in plan_rates",
    ),
    "infinite": (
        "unusable_usage",
        "droplet_hours of deployment infinite-web has a record of NaN, null, infinity, or 1e12 and more:"
        " correct the usage records",
    ),
    "minus-infinite": (
        "unusable_usage",
        "droplet_hours of deployment minus-web has a record of NaN, null, infinity, or 1e12 and more:"
        " correct the usage records",
    ),
    "one-record-too-large": (
        "unusable_usage",
        "droplet_hours of deployment trillion-web has a record of NaN, null, infinity, or 1e12 and more:"
        " correct the usage records",
    ),
    "blank": (
        "unusable_usage",
        "droplet_hours of deployment blank-web has a record of NaN, null, infinity, or 1e12 and more:"
        " correct the usage records",
    ),
    "host": (
        "deployment_missing",
        f"deployment {uid('orphan-web')} is not in cloud_deployments, or its tenant is not in tenants:"
        " restore it or end its subscriptions",
    ),
    "homeless": (
        "deployment_missing",
        f"deployment {uid('gone-web')} is not in cloud_deployments, or its tenant is not in tenants:"
        " restore it or end its subscriptions",
    ),
    "ghost": ("tenant_missing", "tenant ghost is not in tenants: restore it or end its subscriptions"),
    "fewer-than-none": (
        "negative_addon_quantity",
        "addon storage_50gb of deployment fewer-web has a quantity below 0",
    ),
    "paid-to-use": (
        "rate_out_of_range",
        "the rate of plan inverse for droplet_hours is out of range: correct plan_rates",
    ),
    "dated-since-ever": (
        "plan_without_price",
        "plan eternal has no price in effect on the first of the month: add one to plan_prices",
    ),
    "extended-since-ever": (
        "addon_without_price",
        "addon ancient has no price in effect on the first of the month: add one to addon_prices",
    ),
    "metered-since-ever": (
        "rate_out_of_range",
        "the rate of plan endless for droplet_hours is out of range: correct plan_rates",
    ),
    **{
        tenant: (
            "price_out_of_range",
            f"the price of {what} since 2026-01-01 is not a whole number of cents, from 0 to below 100 million dollars:"
            f" correct {table}",
        )
        for tenant, what, table in [
            ("paid-to-stay", "plan refund", "plan_prices"),
            *((f"priced-{number}", f"plan {number}", "plan_prices") for number in ODD_PRICES),
            *((f"extended-{number}", f"addon {number}", "addon_prices") for number in ODD_PRICES),
        ]
    },
    **{
        f"times-{number}": (
            "addon_quantity_out_of_range",
            f"addon storage_50gb of deployment times-{number} has a quantity that is not a whole number below 1e12:"
            f" correct {uid(f'times-{number}/storage_50gb')} in subscription_addons",
        )
        for number in ODD_QUANTITIES
    },
}


@pytest.fixture(scope="module")
def behind_views(server_url: str) -> Iterator[Faulty]:
    """April 2026 over views on tables without a constraint, with one tenant for each fault, and the pilot."""
    with copy_of(server_url, "template0") as url, World(url).connected() as world:
        world.query(PLATFORM.replace(" cents bigint", " cents numeric").replace("pieces integer", "pieces numeric"))
        migrations.migrate(database.engine(url))
        world.pilot()
        for table, column in (("product_prices", "cents"), ("extra_prices", "cents"), ("contract_extras", "pieces")):
            world.query(f"update platform.{table} set {column} = {column} * 1.00")
        for tenant in FAULTS_BEHIND_VIEWS.keys() - {"ghost"}:
            world.tenant(tenant)

        world.deployment("copied", "copied-web", "studio")
        record = world.use("copied-web", "droplet_hours", 1000)
        world.use("copied-web", "droplet_hours", 1000, id=record)

        for tenant, name, quantity in [
            ("infinite", "infinite-web", "Infinity"),
            ("minus-infinite", "minus-web", "-Infinity"),
            ("one-record-too-large", "trillion-web", "1000000000000"),
        ]:
            world.deployment(tenant, name, "studio")
            world.use(name, "droplet_hours", 2000)
            world.use(name, "droplet_hours", quantity)
        world.deployment("blank", "blank-web", "studio")
        world.query(
            "insert into cloud.usage_records values (gen_random_uuid(), %s, 'droplet_hours', null, %s, %s)",
            uid("blank-web"),
            APRIL,
            APRIL,
        )

        world.deployment("nobody", "orphan-web")  # there is no tenant of that name
        world.subscribe("orphan", "host", "orphan-web", "studio")
        world.use("orphan-web", "droplet_hours", 2000)
        world.subscribe("gone", "homeless", "gone-web", "studio")  # there is no deployment of that name
        world.deployment("pilot", "haunted-web")
        world.subscribe("haunting", "ghost", "haunted-web", "studio")

        world.deployment("fewer-than-none", "fewer-web", "studio", ["storage_50gb"])
        world.query("update cloud.subscription_addons set quantity = -1 where subscription_id = %s", uid("fewer-web"))

        world.plan("inverse", 100, {"droplet_hours": (0, -1)})
        world.deployment("paid-to-use", "inverse-web", "inverse")
        world.use("inverse-web", "droplet_hours", 10)
        world.plan("refund", -100)
        world.deployment("paid-to-stay", "refund-web", "refund")

        world.plan("eternal", 5000, since="-infinity")
        world.deployment("dated-since-ever", "eternal-web", "eternal")
        world.addon("ancient", 750, since="0044-03-01 BC")
        world.deployment("extended-since-ever", "ancient-web", "studio", ["ancient"])
        world.plan("endless", None, {"droplet_hours": (0, 1)}, since="-infinity")
        world.query("insert into cloud.plan_prices values (%s, '2026-01-01', 5000)", uid("endless"))
        world.deployment("metered-since-ever", "endless-web", "endless")
        world.use("endless-web", "droplet_hours", 10)
        _show_odd_numbers(world)
        _break_keys(world)
        yield world, world.findings("2026-04")


def _show_odd_numbers(world: World) -> None:
    """Where the contract has whole numbers in a range."""
    for number in ODD_PRICES:
        world.plan(number, 1)
        world.query("update cloud.plan_prices set base_price_cents = %s where plan_id = %s", number, uid(number))
        world.deployment(f"priced-{number}", f"priced-{number}", number)
        world.addon(number, 1)
        world.query("update cloud.addon_prices set price_cents = %s where addon_id = %s", number, uid(number))
        world.deployment(f"extended-{number}", f"extended-{number}", "studio", [number])
    for number in ODD_QUANTITIES:
        name = f"times-{number}"
        world.deployment(name, name, "studio", ["storage_50gb"])
        world.query("update cloud.subscription_addons set quantity = %s where subscription_id = %s", number, uid(name))


def _break_keys(world: World) -> None:
    """What the contract says is there once, and complete, is not: for each tenant that is named after it."""
    for tenant, at, name in (
        ("on-the-edge", ["2026-03-31 23:00+00", "2026-04-01 00:00+00"], "edge-web"),
        ("nameless", [APRIL], "nameless-web"),
    ):
        world.deployment(tenant, name, "studio")
        for instant in at:
            world.use(name, "droplet_hours", 1500, instant, id=uid(name))
    world.query("update cloud.usage_records set id = null where id = %s", uid("nameless-web"))

    world.plan("two", 1000, {"droplet_hours": (10, 1)})
    world.query("insert into cloud.plans values (%s, 'two', 'Another')", uid("another"))
    world.query("insert into cloud.plan_prices values (%s, '2026-01-01', 9000)", uid("another"))
    world.query("insert into cloud.plan_rates values (%s, 'droplet_hours', '2026-01-01', 0, 'hour', 5)", uid("another"))
    world.addon("pair", 100)
    world.query("insert into cloud.addons values (%s, 'pair', 'Another')", uid("another pair"))
    for name in ("plan-twice", "price-twice", "rate-twice", "no-unit"):
        world.plan(name, 1000, {"droplet_hours": (0, 1)})
    for name in ("addon-twice", "addon-price-twice"):
        world.addon(name, 100)
    for name, plan in [
        *[(tenant, "studio") for tenant in ("tenant-twice", "deployment-twice", "subscription-twice", "no-status")],
        *[(tenant, "studio") for tenant in ("no-start", "subscription-ended-too", "addon-no-start")],
        *[(tenant, "studio") for tenant in ("addon-no-quantity", "addon-line-twice", "addon-twice")],
        *[(tenant, "studio") for tenant in ("addon-price-twice", "addon-of-two")],
        *[(tenant, tenant) for tenant in ("plan-twice", "price-twice", "rate-twice", "no-unit")],
        ("code-of-two", "two"),
    ]:
        addon = {"addon-twice": "addon-twice", "addon-price-twice": "addon-price-twice", "addon-of-two": "pair"}
        addons = [addon.get(name, "storage_50gb")] if name.startswith("addon") else []
        world.deployment(name, name, plan, addons)
        world.use(name, "droplet_hours", 1600)
    for tenant in ("subscription-shared", "subscription-shared-too"):
        world.deployment(tenant, tenant)
        world.subscribe("shared", tenant, tenant, "studio")
        world.use(tenant, "droplet_hours", 1600)
    for table, key in [
        ("tenants", "id = 'tenant-twice'"),
        *[
            (table, f"id = '{uid(name)}'")
            for table, name in (
                ("cloud_deployments", "deployment-twice"),
                ("subscriptions", "subscription-twice"),
                ("subscriptions", "subscription-ended-too"),
                ("plans", "plan-twice"),
                ("addons", "addon-twice"),
                ("subscription_addons", "addon-line-twice/storage_50gb"),
            )
        ],
        ("plan_prices", f"plan_id = '{uid('price-twice')}'"),
        ("plan_rates", f"plan_id = '{uid('rate-twice')}'"),
        ("addon_prices", f"addon_id = '{uid('addon-price-twice')}'"),
    ]:
        world.query(f"insert into cloud.{table} select * from cloud.{table} where {key}")
    world.query(
        "update platform.contracts set until = '2026-02-01' where ctid = (select min(ctid) from platform.contracts"
        f" where contract = '{uid('subscription-ended-too')}')"
    )
    for table, broken, column in (
        ("subscriptions", "no-status", "status"),
        ("subscriptions", "no-start", "started_at"),
        ("subscription_addons", "addon-no-start/storage_50gb", "started_at"),
        ("subscription_addons", "addon-no-quantity/storage_50gb", "quantity"),
    ):
        world.query(f"update cloud.{table} set {column} = null where id = %s", uid(broken))
    world.query("update cloud.plan_rates set unit = null where plan_id = %s", uid("no-unit"))


@pytest.mark.parametrize("tenant", FAULTS_BEHIND_VIEWS)
def test_a_fault_behind_a_view_holds_back_its_tenant(behind_views: Faulty, tenant: str) -> None:
    """It has no quote and no invoice; it is on record with its one fault, and what to do."""
    world, _ = behind_views
    found = world.query("select distinct fault, detail from billing.quote_faults where tenant_id = %s", tenant)
    assert found == [FAULTS_BEHIND_VIEWS[tenant]]
    assert tenant not in world.invoices("2026-04")


def test_behind_views_too_the_others_are_invoiced(behind_views: Faulty) -> None:
    """The pilot owes 70.64; every other check is content."""
    world, findings = behind_views
    assert set(findings) == {"no_tenant_is_held_back"}
    assert world.invoices("2026-04") == {"pilot": PILOT}
    assert world.disproved() == []
    assert set(world.findings("2026-04")) == {"no_tenant_is_held_back"}
    assert world.invoices("2026-04") == {"pilot": PILOT}


@pytest.mark.long
@pytest.mark.parametrize("unit_price", ["100000000000000000", "0.0000000001"], ids=["too large", "too fine"])
def test_a_unit_price_that_the_engine_cannot_hold_holds_back_its_tenant(empty_url: str, unit_price: str) -> None:
    """1e17 cents x 999999999999 does not fit 38 digits, 1e-10 cents not 8 decimals; the pilot is not held back."""
    world = World(empty_url)
    world.query(PLATFORM)
    migrations.migrate(database.engine(empty_url))
    world.pilot()
    world.tenant("dear")
    world.plan("dear", 0, {"gold_grams": (0, unit_price)})
    world.deployment("dear", "dear-web", "dear")
    world.use("dear-web", "gold_grams", "999999999999")
    assert set(why_held_back(world.findings("2026-04"))) == {"dear"}
    assert world.invoices("2026-04") == {"pilot": PILOT}


@pytest.mark.parametrize(
    ("column", "as_other"), [("since date", "since text"), ("gst_free text", "gst_free boolean")], ids=["date", "text"]
)
def test_a_column_of_another_type_than_the_contract_has_stops_the_month_and_the_message_says_what_to_do(
    empty_url: str, column: str, as_other: str
) -> None:
    """Prices that begin on a text; a reason that is true or false."""
    world = World(empty_url)
    world.query(PLATFORM.replace(column, as_other))
    migrations.migrate(database.engine(empty_url))
    why = world.stopped("2026-04")
    assert "does not exist" in why or "does not match" in why
    assert why.endswith(
        "see that each view in schema cloud shows its columns in the types of sql/migrations/0001_cloud.sql"
    )


# Amounts at the edge.


def test_the_largest_month_that_fits_is_billed_to_the_cent(world: World) -> None:
    """800,000,000 g x 9,000,000,000 c = 7.2e18 c, a tenth of it GST: 7.92e18 c, still below 2**63."""
    world.tenant("croesus")
    world.plan("precious", 1, {"gold_grams": (0, "9000000000")})
    world.deployment("croesus", "vault", "precious")
    world.use("vault", "gold_grams", "800000000")
    assert world.findings("2026-04") == {}
    assert world.invoices("2026-04") == {
        "croesus": ("issued", 1, 7_200_000_000_000_000_001, 720_000_000_000_000_000, 7_920_000_000_000_000_001)
    }


@pytest.mark.long
def test_tenants_that_only_together_pass_64_bits_stop_nobody_elses_invoice(world: World) -> None:
    """2 x 7.2e18 c is past 2**63: the pilot is invoiced, and the month's sum, if it is shown, is no other number."""
    world.pilot()
    world.plan("precious", 0, {"gold_grams": (0, "9000000000")})
    for tenant in ("croesus", "midas"):
        world.tenant(tenant)
        world.deployment(tenant, tenant, "precious")
        world.use(tenant, "gold_grams", "800000000")
    result = world.month_end("2026-04")
    invoices = world.invoices("2026-04")
    assert invoices["pilot"] == PILOT
    shown = metadata_of(result, "tenant_invoices")
    assert shown["subtotal_cents"] == sum(invoice[2] for invoice in invoices.values())
    assert metadata_of(result, "deployment_quotes")["subtotal_cents"] == shown["subtotal_cents"]


# Mending a fault.


def test_a_tenant_held_back_keeps_its_invoice_and_is_revised_once_the_fault_is_mended(world: World) -> None:
    """A NaN comes after April was invoiced: 70.64 stands. It was 100 h: 50.00 + 7.50 + 7.72, GST 6.52, 71.74."""
    world.pilot()
    world.tenant("late")
    world.plan("bespoke")
    world.deployment("late", "late-web", "bespoke")
    assert set(why_held_back(world.findings("2026-04"))) == {"late"}
    assert world.invoices("2026-04") == {"pilot": PILOT}
    row = "select xmin::text, to_jsonb(i)::text from billing.tenant_invoices i where tenant_id = 'pilot'"
    rows = "select xmin::text, to_jsonb(l)::text from billing.tenant_invoice_lines l order by line_no"
    before = (world.query(row), world.query(rows))

    record = world.use("web", "droplet_hours", "NaN")
    world.plan("bespoke", 1000)
    second = world.month_end("2026-04")
    assert [row["tenant_id"] for row in offenders(second, "no_tenant_is_held_back")] == ["pilot"]
    assert metadata_of(second, "tenant_invoices")["invoices_held_back"] == 1
    assert world.invoices("2026-04") == {"late": ("issued", 1, 1000, 100, 1100), "pilot": PILOT}
    assert world.query(row) == before[0]
    assert world.query(rows.replace(" order", f" where invoice_id = '{invoice_id(world)}' order")) == before[1]

    world.query("update cloud.usage_records set quantity = 100 where id = %s", record)
    assert world.findings("2026-04") == {}
    assert world.invoices("2026-04") == {
        "late": ("issued", 1, 1000, 100, 1100),
        "pilot": ("issued", 2, 6522, 652, 7174),
    }


def invoice_id(world: World) -> object:
    """The id of the pilot's invoice."""
    return world.query("select id from billing.tenant_invoices where tenant_id = 'pilot'")[0][0]


# Usage without a time.


def without_time(world: World, deployment: str, time: str, ingested_at: str) -> None:
    """A record of 5 x of the deployment."""
    record = "insert into cloud.usage_records values (gen_random_uuid(), %s, 'x', 5, {}, {})"
    world.query(record.format(time, ingested_at), uid(deployment))


@pytest.mark.long
def test_usage_without_a_time_holds_back_its_tenant_in_the_month_in_which_it_came(world: World) -> None:
    """Whatever stands there in place of a time: acme is not invoiced in April, the pilot is; in May acme is, 55.00.

    That of a deployment without a subscription is named and holds back nobody. Mended, it is billed: 55.17.
    """
    world.query("alter table cloud.usage_records alter recorded_at drop not null")
    world.pilot()
    world.plan("metered", 5000, {"x": (0, 1)})
    world.tenant("acme")
    world.deployment("acme", "api", "metered")
    world.deployment("acme", "idle")
    for time in ("null", "'infinity'", "'0044-03-15 BC'"):
        without_time(world, "api", time, "'2026-04-30 23:59:59.999999+00'")
    without_time(world, "idle", "'-infinity'", "'2026-04-01 00:00+00'")
    april = world.findings("2026-04")
    assert why_held_back(april) == {
        "acme": [
            (
                "timeless_usage",
                "3 records of x of deployment api came in the month without a time that can be read: correct"
                " recorded_at in usage_records, or remove them",
            )
        ]
    }
    names = ("tenant_id", "deployment_name", "resource_kind", "records", "quantity")
    timeless = april["every_usage_record_has_a_time"]
    assert [tuple(row[name] for name in names) for row in timeless.offenders] == [
        ("acme", "api", "x", 3, 15),
        ("acme", "idle", "x", 1, 5),
    ]
    assert set(april) == {"every_usage_record_has_a_time", "no_tenant_is_held_back"}
    assert world.invoices("2026-04") == {"pilot": PILOT}
    assert world.disproved() == []
    assert world.findings("2026-05") == {}
    assert world.invoices("2026-05")["acme"] == ("issued", 1, 5000, 500, 5500)

    world.query("update cloud.usage_records set recorded_at = '2026-04-30' where deployment_id = %s", uid("api"))
    world.query("delete from cloud.usage_records where deployment_id = %s", uid("idle"))
    assert world.findings("2026-04") == {}
    # 5000 + 15 x 1 c; GST 501.5, half a cent up.
    assert world.invoices("2026-04") == {"pilot": PILOT, "acme": ("issued", 1, 5015, 502, 5517)}
    assert world.disproved() == []


@pytest.mark.long
def test_usage_of_which_not_even_the_month_in_which_it_came_is_known_is_named_by_the_newest_month(
    world: World,
) -> None:
    """It came never, some day, before all billing, or after the month; acme is invoiced all the same."""
    for column in ("recorded_at", "ingested_at"):
        world.query(f"alter table cloud.usage_records alter {column} drop not null")
    world.plan("metered", 5000, {"x": (0, 1)})
    world.tenant("acme")
    world.deployment("acme", "api", "metered")
    for ingested_at in ("null", "'infinity'", "'-infinity'", "'1970-01-01'", "now()"):
        without_time(world, "api", "'infinity'", ingested_at)
    for month in ("2026-04", "2026-05"):
        [(check, finding)] = world.findings(month).items()
        assert (check, finding.count) == ("every_usage_record_has_a_time", 1)
        assert finding.offenders[0]["records"] == 5
        assert world.invoices(month) == {"acme": ("issued", 1, 5000, 500, 5500)}
    assert world.findings("2026-04") == {}
    assert world.disproved() == []


# What nobody can be billed for.


@pytest.mark.long
def test_usage_without_a_rate_or_a_subscription_is_kept_with_the_reason(world: World) -> None:
    """The check warns, largest first, and says what to do; the tenants are invoiced for the rest."""
    world.pilot()
    world.use("web", "egress_gb", 40)  # studio has no rate for it
    world.deployment("pilot", "forgotten")
    world.use("forgotten", "droplet_hours", "12.5")
    world.deployment("pilot", "young", "studio", start="2026-04-10")
    world.use("young", "droplet_hours", 3, "2026-04-09 23:59:59.999999+00")
    world.use("young", "droplet_hours", 4, "2026-04-10 00:00+00")
    world.deployment("pilot", "waiting", "studio", status="pending")
    world.use("waiting", "droplet_hours", 2)
    world.use("nowhere", "droplet_hours", 1)  # no such deployment at all
    result = world.month_end("2026-04")

    expected = {
        ("web", "egress_gb", Decimal(40), "no_rate"),
        ("forgotten", "droplet_hours", Decimal("12.5"), "no_subscription"),
        ("young", "droplet_hours", Decimal(3), "no_subscription"),
        ("waiting", "droplet_hours", Decimal(2), "no_subscription"),
        ("nowhere", "droplet_hours", Decimal(1), "no_subscription"),
    }
    unbilled = world.query("select deployment_id, resource_kind, quantity, reason from billing.unbilled_usage")
    assert set(unbilled) == {(uid(name), *rest) for name, *rest in expected}
    assert len(unbilled) == 5

    assert set(failed_checks(result)) == {"all_usage_is_billed"}
    check = failed_checks(result)["all_usage_is_billed"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(check.metadata["what_to_do"].value).startswith("Add the missing rate or subscription")
    shown = offenders(result, "all_usage_is_billed")
    assert [number(row["quantity"]) for row in shown] == [40, Decimal("12.5"), 3, 2, 1]
    assert (shown[0]["deployment_id"], shown[0]["resource_kind"], shown[0]["reason"]) == (
        str(uid("web")),
        "egress_gb",
        "no_rate",
    )
    # The pilot's 64.22 and the young deployment's 50.00 are 114.22; GST 11.42.
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 11422, 1142, 12564)}


@pytest.mark.long
def test_more_than_twenty_offenders_are_counted_and_the_largest_twenty_shown(world: World) -> None:
    """25 deployments that nobody pays for."""
    for stray in range(1, 26):
        world.use(f"stray-{stray}", "droplet_hours", stray)
    shown = offenders(world.month_end("2026-04"), "all_usage_is_billed", count=25)
    assert [number(row["quantity"]) for row in shown] == list(range(25, 5, -1))


# Months with nothing, and months that are none.


def test_an_empty_month_is_a_success_with_no_rows(world: World) -> None:
    """No tenant, no usage: every check passes, every table is empty, and running it again is the same."""
    for _ in range(2):
        result = world.month_end("2026-02")
        assert failed_checks(result) == {}
        for asset in ("metered_usage", "deployment_quotes", "tenant_invoice_lines", "tenant_invoices"):
            assert metadata_of(result, asset)["dagster/row_count"] == 0
        assert metadata_of(result, "tenant_invoices")["total_cents"] == 0
        assert world.invoices("2026-02") == {}


def test_the_running_month_is_not_a_partition() -> None:
    """In its last microsecond April cannot be billed; when May begins it can, and nothing before January can."""
    last = dt.datetime(2026, 4, 30, 23, 59, 59, 999999, dt.UTC)
    january_to_march = ["2026-01-01", "2026-02-01", "2026-03-01"]
    assert MONTHS.get_partition_keys(last) == january_to_march
    assert MONTHS.get_partition_keys(dt.datetime(2026, 5, 1, tzinfo=dt.UTC)) == [*january_to_march, "2026-04-01"]


@pytest.mark.parametrize("month", ["2025-12", "9000-01"], ids=["before the first", "far from over"])
def test_a_month_that_is_not_a_partition_is_refused(month: str) -> None:
    """Before a run is made; the message says which months there are."""
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(NotBillable, match=f"^{month} cannot be invoiced: the first billing month is 2026-01"),
    ):
        launch.run(BillingMonth.parse(month), instance)


def test_the_running_month_is_refused() -> None:
    """Whatever month it is now."""
    this_month = BillingMonth(dt.datetime.now(dt.UTC).date().replace(day=1))
    running = BillingMonth(this_month.end)  # the next one, should midnight pass
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(NotBillable, match="the last that is over is"):
            launch.run(running, instance)
        assert instance.get_runs_count() == 0
