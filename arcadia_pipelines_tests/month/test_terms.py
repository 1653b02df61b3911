"""Discounts and commitments from the platform's tables to invoices, corrections and proofs; by hand."""

import csv
import random
from decimal import Decimal
from pathlib import Path

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.exports import focus
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World, uid

PILOT = [("Plan: studio", 5000), ("Addon: storage_50gb", 750), ("Overage: droplet_hours", 672)]


def discount(world: World, name: str, tenant: str = "pilot", **columns: object) -> None:
    """A discount of the tenant's since January."""
    row = {"id": uid(name), "tenant_id": tenant, "starts_on": "2026-01-01", "description": name, **columns}
    names = ", ".join(row)
    world.query(f"insert into cloud.discounts ({names}) values ({', '.join(['%s'] * len(row))})", *row.values())


def commitment(
    world: World, minimum: int, deployment: str | None = None, tenant: str = "pilot", **columns: object
) -> None:
    """A commitment of the tenant's since January, for a deployment or for the tenant as a whole."""
    of = {"tenant_id": tenant, "deployment_id": deployment and uid(deployment), "minimum_cents": minimum}
    row = {**of, "starts_on": "2026-01-01", **columns}
    names = ", ".join(row)
    world.query(f"insert into cloud.commitments ({names}) values ({', '.join(['%s'] * len(row))})", *row.values())


def faults(world: World) -> list[tuple[object, ...]]:
    """Who is held back, and why."""
    return world.query("select tenant_id, fault, detail from billing.quote_faults order by 1, 2, 3")


def test_a_discount_and_a_commitment_are_invoiced(world: World) -> None:
    """10 % off 64.22: 5.00, 0.75 and 0.67; web at least 60.00, the tenant at least 80.00; GST on 80.00."""
    world.pilot()
    discount(world, "spring", percent=10)
    commitment(world, 6000, "web")
    commitment(world, 8000)
    world.publish("2026-04")
    assert world.lines("pilot", "2026-04") == [
        *PILOT,
        *(("Discount: spring", -cents) for cents in (500, 75, 67)),
        ("Commitment: 60.00 a month", 220),
        ("Commitment: 80.00 a month", 2000),
        ("GST 10%", 800),
    ]
    assert world.invoices("2026-04")["pilot"] == ("issued", 1, 8000, 800, 8800)
    assert world.disproved() == []


def test_a_month_that_is_run_again_writes_nothing(world: World) -> None:
    world.pilot()
    discount(world, "spring", amount_cents=1000)
    commitment(world, 8000)
    world.publish("2026-04")
    rows = "select l::text, xmin::text from billing.tenant_invoice_lines l order by 1"
    before = world.query(rows)
    world.publish("2026-04")
    assert world.query(rows) == before


def test_a_discount_is_for_the_months_from_its_start_to_before_its_end(world: World) -> None:
    """From April to before June: 50 % of 57.50 in April and May."""
    world.pilot()
    discount(world, "spring", percent=50, line_kind="plan_base", starts_on="2026-04-01", ends_on="2026-06-01")
    for month, off in (("2026-03", []), ("2026-04", [-2500]), ("2026-05", [-2500]), ("2026-06", [])):
        world.publish(month)
        lines = world.lines("pilot", month)
        assert [cents for description, cents in lines if description.startswith("Discount")] == off


@pytest.mark.long
def test_a_changed_discount_revises_its_tenants_invoice_and_nobody_elses(world: World) -> None:
    """10 % of web's 50.00 become 20 %."""
    world.pilot()
    world.tenant("other")
    world.deployment("other", "api", "studio")
    discount(world, "spring", percent=10)
    world.publish("2026-04")
    world.query("update cloud.discounts set percent = 20")
    world.publish("2026-04")
    assert {tenant: row[1:3] for tenant, row in world.invoices("2026-04").items()} == {
        "other": (1, 5000),
        "pilot": (2, 6422 - 1000 - 150 - 134),
    }
    commitment(world, 9000, tenant="other")
    world.publish("2026-04")
    assert {tenant: row[1:3] for tenant, row in world.invoices("2026-04").items()} == {
        "other": (2, 9000),
        "pilot": (2, 6422 - 1000 - 150 - 134),
    }
    assert world.disproved() == []


@pytest.mark.usefixtures("pilots_april")
def test_a_discount_of_a_paid_month_is_credited_on_the_next_invoice_once(world: World) -> None:
    """10 % of April's 64.22 are 6.42, found when it is paid: May is 57.50 less 5.75 less 6.42."""
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    discount(world, "spring", percent=10)
    world.publish("2026-04")
    corrections = "select billed_cents, owed_cents from billing.invoice_corrections"
    assert world.query(corrections) == [(6422, 5780)]
    world.publish("2026-05")
    assert world.lines("pilot", "2026-05")[-2:] == [("Credit: 2026-04, INV-202604-00001", -642), ("GST 10%", 453)]
    world.publish("2026-04")
    world.publish("2026-05")
    assert world.query(corrections) == [(6422, 5780)]
    assert world.invoices("2026-05")["pilot"] == ("issued", 1, 4533, 453, 4986)
    assert world.disproved() == []


@pytest.mark.long
def test_a_paid_month_with_terms_is_owed_what_it_bills(world: World) -> None:
    """Nothing is corrected, however often it is run; usage that comes late is, less its 10 %."""
    world.pilot()
    discount(world, "spring", percent=10)
    commitment(world, 1000, "web")
    world.publish("2026-04")
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    for _ in range(2):
        world.publish("2026-04")
    assert world.query("select * from billing.invoice_corrections") == []
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    assert world.query("select billed_cents, owed_cents from billing.invoice_corrections") == [(5780, 5870)]
    assert world.disproved() == []


@pytest.mark.long
@pytest.mark.usefixtures("pilots_april")
def test_what_a_held_back_tenants_paid_month_owes_stays_as_it_was(world: World) -> None:
    """Its commitment, which was found missing, is there twice: the correction stays; with one of both it follows."""
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    commitment(world, 7000)
    world.publish("2026-04")
    corrections = "select billed_cents, owed_cents from billing.invoice_corrections"
    assert world.query(corrections) == [(6422, 7000)]
    commitment(world, 8000)
    world.publish("2026-04")
    assert world.query(corrections) == [(6422, 7000)]
    world.query("delete from cloud.commitments where minimum_cents = 7000")
    world.publish("2026-04")
    assert world.query(corrections) == [(6422, 8000)]
    world.query("delete from cloud.commitments")
    world.publish("2026-04")
    assert world.query(corrections) == []


def test_a_paid_month_of_a_tenant_with_nothing_to_bill_any_more_owes_nothing(world: World) -> None:
    """Its commitment goes with its subscription."""
    world.pilot()
    world.tenant("other")
    world.deployment("other", "api", "studio")
    commitment(world, 7000)
    world.publish("2026-04")
    world.done("mark_invoice_paid", invoices=["INV-202604-00002"])
    world.query("update cloud.subscriptions set status = 'pending' where tenant_id = 'pilot'")
    world.publish("2026-04")
    assert world.query("select billed_cents, owed_cents from billing.invoice_corrections") == [(7000, 0)]
    assert world.disproved() == []


def test_two_commitments_of_one_scope_in_one_month_are_a_fault_of_that_tenant(world: World) -> None:
    """Of one deployment, or of the tenant as a whole; one of each is none, and neither is one after the other."""
    world.pilot()
    world.tenant("other")
    world.deployment("other", "api", "studio")
    commitment(world, 7000, ends_on="2026-04-01")
    commitment(world, 8000, starts_on="2026-04-01")
    commitment(world, 9000, "web")
    commitment(world, 1, "api", tenant="other", id=uid("a"))
    commitment(world, 2, "api", tenant="other", id=uid("b"))
    world.publish("2026-04")
    assert [row[:2] for row in faults(world)] == [("other", "overlapping_commitments")] * 2
    assert set(world.invoices("2026-04")) == {"pilot"}
    assert world.disproved() == []


def publish_what_was_agreed(world: World) -> None:
    """As `agreed` says."""
    world.tenant("pilot")
    world.plan("studio", 4900, {"cpu": (0, 1), "gb": (0, "0.5")})
    world.plan("free", 0, {"cpu": (0, 1)})
    world.addon("disk", 1000)
    world.deployment("pilot", "web", "studio", ["disk"])
    world.deployment("pilot", "api", "studio", ["disk"], end="2026-04-10")
    world.subscribe("api-2", "pilot", "api", "studio", start="2026-04-10")
    world.deployment("pilot", "db", "free")
    for name, kind, quantity in (("web", "cpu", 333), ("web", "gb", 99), ("api", "cpu", 333), ("db", "cpu", 7)):
        world.use(name, kind, quantity)
    discount(world, "a tenth of cpu", percent="10.0001", resource_kind="cpu")
    discount(world, "60 of plans", percent=60, line_kind="plan_base")
    discount(world, "60 of plans again", percent=60, line_kind="plan_base", starts_on="2026-02-01")
    discount(world, "7.01 of all", amount_cents=701)
    discount(world, "30.00 of addons", amount_cents=3000, line_kind="addon", starts_on="2026-03-01")
    discount(world, "a cent of web", amount_cents=1, deployment_id=uid("web"), starts_on="2026-04-01")
    discount(world, "over", percent=100, ends_on="2026-04-01")
    discount(world, "to come", percent=100, starts_on="2026-05-01")
    commitment(world, 5000, "api")
    commitment(world, 1, "db")
    commitment(world, 9999)
    world.publish("2026-04")


BEGINNINGS = {"agreed": publish_what_was_agreed}


@pytest.fixture
def agreed(world: World) -> World:
    """April of three deployments with every sort of discount, three in a row, equal remainders, and commitments."""
    return world


def test_every_sort_of_discount_is_proved_a_second_way(agreed: World) -> None:
    """Three deployments and seven discounts; nothing below 0 in any of their sums."""
    assert agreed.disproved() == []
    assert agreed.invoices("2026-04")["pilot"][2] == 9999
    [(least,)] = agreed.query("""
        select min(cents) from (
            select deployment_id, coalesce(meta ->> 'of', kind), resource_kind, sum(amount_cents) as cents
            from billing.tenant_invoice_lines where kind <> 'tax' group by 1, 2, 3
        ) sums
    """)
    assert least == 0


def test_two_ways_agree_on_terms_by_chance(world: World) -> None:
    """Sixty tenants, each with up to three deployments, six discounts and three commitments of small, alike amounts."""
    chance = random.Random(16)
    world.plan("small", 3, {"cpu": (0, 1), "gb": (0, 1)})
    world.plan("studio", 100, {"cpu": (0, 1), "gb": (0, "0.7")})
    world.query("update cloud.plans set proration = 'daily' where code = 'studio'")
    world.addon("disk", 33)
    for tenant in (f"tenant-{number}" for number in range(60)):
        world.tenant(tenant)
        deployments = [f"{tenant}/{letter}" for letter in chance.sample("abc", chance.randint(1, 3))]
        for name in deployments:
            start = chance.choice(["2026-01-01", "2026-04-01", "2026-04-10 12:00+00", "2026-04-30"])
            plan, addons = chance.choice(["small", "studio"]), chance.choice([[], ["disk"]])
            world.deployment(tenant, name, plan, addons, start=start)
            for kind in chance.sample(["cpu", "gb"], chance.randint(0, 2)):
                world.use(name, kind, chance.choice([1, 2, 7, 33, 100]), "2026-04-30 12:00+00")
        for number in range(chance.randint(0, 6)):
            size: dict[str, object] = {"percent": chance.choice([0, 5, "33.3333", 50, 100])}
            size = chance.choice([size, {"amount_cents": chance.choice([0, 1, 2, 7, 50, 1000])}])
            only = {
                "deployment_id": chance.choice([None, None, uid(chance.choice(deployments))]),
                "line_kind": chance.choice([None, None, "plan_base", "addon", "overage"]),
                "resource_kind": chance.choice([None, None, None, "cpu", "gb"]),
                "starts_on": chance.choice(["2026-01-01", "2026-03-01", "2026-04-01", "2026-05-01"]),
            }
            discount(world, f"{tenant}/{number}", tenant, **size, **only)
        for scope in chance.sample([*deployments, None], chance.randint(0, len(deployments))):
            commitment(world, chance.choice([1, 100, 101, 250]), scope, tenant)
    world.publish("2026-04")
    assert len(world.invoices("2026-04")) == 60
    assert world.disproved() == []
    [(least,)] = world.query("""
        select min(cents) from (
            select deployment_id, coalesce(meta ->> 'of', kind), resource_kind, sum(amount_cents) as cents
            from billing.tenant_invoice_lines where deployment_id is not null group by 1, 2, 3
        ) sums
    """)
    assert least == 0


TERMS_THAT_CHANGE = [
    "delete from cloud.discounts where amount_cents = 1",
    "update cloud.discounts set percent = 10.5 where percent < 11",
    "update cloud.discounts set amount_cents = 702 where amount_cents = 701",
    "update cloud.discounts set description = 'else' where percent = 60",
    "update cloud.discounts set starts_on = '2026-01-01' where amount_cents = 3000",
    "update cloud.discounts set line_kind = null where amount_cents = 3000",
    "update cloud.commitments set minimum_cents = 5001 where minimum_cents = 5000",
    "delete from cloud.commitments where minimum_cents = 9999",
]


@pytest.mark.long
def test_the_proof_sees_terms_that_changed_and_so_does_the_next_run(agreed: World) -> None:
    """One after another: it is found until the month is run again."""
    for change in TERMS_THAT_CHANGE:
        agreed.query(change)
        assert agreed.finds("lines_follow_from_usage_and_prices", "2026-04"), change
        agreed.publish("2026-04")
        assert not agreed.finds("lines_follow_from_usage_and_prices", "2026-04"), change
    assert agreed.disproved() == []


@pytest.mark.parametrize("kind", ["discount", "commitment"])
def test_the_proof_sees_a_cent_that_was_moved_to_another_line(agreed: World, kind: str) -> None:
    """Each line multiplies out and the invoice's sums are the same."""
    agreed.tamper(f"""
        with two as (
            select id, row_number() over (order by line_no) as nth from billing.tenant_invoice_lines
            where kind = '{kind}' order by line_no limit 2
        )
        update billing.tenant_invoice_lines l
        set amount_cents = amount_cents + 3 - 2 * nth, unit_price_cents = unit_price_cents + 3 - 2 * nth
        from two where two.id = l.id
    """)
    agreed.rewrite()
    assert agreed.finds("lines_follow_from_usage_and_prices", "2026-04")


def test_a_discount_behind_a_commitment_is_out_of_order(agreed: World) -> None:
    agreed.tamper("""
        update billing.tenant_invoice_lines
        set line_no = case kind when 'discount' then line_no + 1 else line_no - 1 end
        where line_no in (select unnest(array[line_no - 1, line_no]) from billing.tenant_invoice_lines
                          where kind = 'commitment' and deployment_name = 'api')
    """)
    assert agreed.finds("lines_are_numbered_in_order", "2026-04")


def test_revenue_has_discounts_with_what_they_are_off(agreed: World) -> None:
    """Of both views: the parts sum to the revenue, which is the invoice's subtotal; nothing is of kind discount."""
    parts = "plan_base_cents + addon_cents + overage_cents + adjustment_cents + discount_cents + commitment_cents"
    views = ("revenue_by_deployment", "revenue_by_kind")
    for name in (*views, *(f"cost_vs_{view}" for view in views)):
        assert agreed.query(f"select sum(revenue_cents) from billing.{name}") == [(9999,)]
    for name in views:
        assert agreed.query(f"select * from billing.{name} where {parts} <> revenue_cents") == []
    kinds = [kind for (kind,) in agreed.query("select resource_kind from billing.revenue_by_kind order by 1")]
    assert kinds == ["addon", "commitment", "cpu", "gb", "plan_base"]
    [(name, missing)] = agreed.query(
        "select deployment_name, commitment_cents from billing.revenue_by_deployment where deployment_id is null"
    )
    assert name is None
    assert missing > 0


def said(arcadia: Call, *arguments: str, code: int = 0) -> list[str]:
    """What the command says, line by line, without what is around them."""
    answer = arcadia(*arguments)
    assert answer.code == code, answer.err
    return [line.strip(" │") for line in answer.out.splitlines() if line.strip(" │")]


def test_a_discount_and_a_commitment_are_explained_to_their_rows(world: World, arcadia: Call) -> None:
    """A tenth of 50.00, then a share of 10.00 off; 46.22 are left, and 80.00 are the least."""
    world.pilot()
    discount(world, "spring", percent=10, line_kind="plan_base")
    discount(world, "loyal", amount_cents=1000)
    commitment(world, 8000, id=uid("least"), ends_on="2027-01-01")
    world.publish("2026-04")
    told = said(arcadia, "explain", "INV-202604-00001")
    for sentence in (
        "10 % of 50.00, what is left of plan_base before it: -5.00 half up",
        f"discount {uid('spring')}: from 2026-01-01 on (discounts)",
        "a part of the 10.00 off, in proportion to 45.00, what is left of plan_base before it",
        "a part of the 10.00 off, in proportion to 6.72, what is left of overage droplet_hours before it",
        "at least 80.00 a month: less 49.22 charged = 30.78",
        f"commitment {uid('least')}: from 2026-01-01 on until before 2027-01-01 (commitments)",
    ):
        assert sentence in told
    assert told[-1] == "Every sum agrees."
    world.query("update cloud.discounts set percent = 20 where percent = 10")
    world.query("delete from cloud.commitments")
    objections = [line for line in said(arcadia, "explain", "INV-202604-00001", code=1) if line.startswith("!! ")]
    assert objections == [
        f"!! discount {uid('spring')}: from 2026-01-01 on (discounts), 20 % now; billed was 10 %",
        f"!! commitment {uid('least')} does not exist any more; billed was 80.00 a month",
    ]


@pytest.mark.usefixtures("agreed")
def test_every_line_by_terms_is_explained_and_agrees(arcadia: Call) -> None:
    assert said(arcadia, "explain", "INV-202604-00001")[-1] == "Every sum agrees."


def test_a_commitment_of_a_part_month_is_explained(world: World, arcadia: Call) -> None:
    """60.00 from 16 April on is 30.00, and base 50.00 of it 25.00: 5.00 are missing."""
    world.tenant("pilot")
    world.plan("studio", 5000)
    world.query("update cloud.plans set proration = 'daily'")
    world.deployment("pilot", "web", "studio", start="2026-04-16")
    commitment(world, 6000, "web")
    world.publish("2026-04")
    told = said(arcadia, "explain", "INV-202604-00001")
    assert "at least 60.00 a month: 30.00 for 15 of 30 days, less 25.00 charged = 5.00" in told
    assert told[-1] == "Every sum agrees."
    assert world.disproved() == []


def test_a_comparison_names_discounts_and_commitments(world: World, arcadia: Call) -> None:
    """10 % become 20 %, and 60.00 at least come."""
    world.pilot()
    discount(world, "spring", percent=10, line_kind="plan_base")
    world.publish("2026-04")
    world.query("update cloud.discounts set percent = 20")
    commitment(world, 6000, "web")
    world.publish("2026-04")
    changes = arcadia("diff", "pilot", "2026-04", "--json").json()["changes"]
    assert [(change["change"], change["cause"], change["difference_cents"]) for change in changes] == [
        ("changed", "discount", -500),
        ("added", "commitment", 578),
        ("changed", "tax", 8),
    ]


def test_a_lost_invoice_with_terms_is_rebuilt(agreed: World, arcadia: Call) -> None:
    """Its lines are gone, and put back from the quote lines and the terms."""
    before = agreed.lines("pilot", "2026-04")
    agreed.tamper("delete from billing.tenant_invoice_lines")
    assert arcadia("rebuild", "2026-04", "--reason", "lost").code == 0
    assert agreed.lines("pilot", "2026-04") == before
    assert agreed.disproved() == []


def test_a_quote_for_a_tenant_has_the_discounts_of_all_its_deployments(world: World, arcadia: Call) -> None:
    """10 % off the 50.00; not what is for web alone, not a commitment, and nobody else's."""
    world.pilot()
    discount(world, "spring", percent=10)
    discount(world, "web's", percent=50, deployment_id=uid("web"))
    commitment(world, 100_000)
    world.tenant("other")
    quoted = arcadia("quote", "--plan", "studio", "--tenant", "pilot", "--month", "2026-04", "--json").json()
    assert [(line["description"], line["amount_cents"]) for line in quoted["lines"]] == [
        ("Plan: studio", 5000),
        ("Discount: spring", -500),
        ("GST 10%", 450),
    ]
    for whose in ([], ["--tenant", "other"]):
        quoted = arcadia("quote", "--plan", "studio", *whose, "--month", "2026-04", "--json").json()
        assert quoted["subtotal_cents"] == 5000


def test_a_month_with_terms_is_exported_for_finops(agreed: World, tmp_path: Path) -> None:
    """Each discount beside what it is off, each row of the month; they sum to the invoice."""
    with database.snapshot(database.engine(agreed.url)) as connection:
        focus.export(connection, BillingMonth.parse("2026-04"), "revenue", tmp_path / "april.csv")
    with (tmp_path / "april.csv").open(newline="", encoding="utf-8") as lines:
        found = list(csv.DictReader(lines))
    assert sum(Decimal(row["BilledCost"]) for row in found) == Decimal("109.99")  # 99.99 and GST of 10.00
    names = ("ChargeCategory", "ChargeClass", "ChargeFrequency", "ServiceName", "PricingQuantity", "SkuId")
    assert {
        tuple(row[name] for name in names)
        for row in found
        if row["ChargeDescription"].startswith(("Discount: 60 of plans again", "Commitment: 99.99"))
    } == {
        ("Adjustment", "", "Recurring", "plan_base", "", ""),
        ("Adjustment", "", "Recurring", "commitment", "", ""),
    }


def view(world: World, table: str, rows: str) -> None:
    """Have the platform's table be a view of these rows beside its own, without any constraint."""
    world.query(f"alter table cloud.{table} rename to {table}_kept")
    world.query(f"create view cloud.{table} as select * from cloud.{table}_kept union all {rows}")


A = "'00000000-0000-0000-0000-00000000000a'::uuid"
_NOT_A_PERCENT = "has a percent that is not from 0 to 100, to 4 decimals"
_BOTH_OR_NEITHER = "has both, or neither, of percent and amount_cents"
WRONG_DISCOUNTS = [
    ("id = null", "has no id"),
    ("percent = 101", _NOT_A_PERCENT),
    ("percent = -1", _NOT_A_PERCENT),
    ("percent = 'NaN'", _NOT_A_PERCENT),
    ("percent = 0.00001", _NOT_A_PERCENT),
    ("amount_cents = 1", _BOTH_OR_NEITHER),
    ("percent = null", _BOTH_OR_NEITHER),
    ("percent = null, amount_cents = -1", "has an amount_cents that is not a whole number of cents from 0"),
    ("line_kind = 'tax'", "has a line_kind that is none of plan_base, addon and overage"),
    ("starts_on = '2026-04-02'", "has a starts_on that is not the first of a month"),
    ("starts_on = null", "has a starts_on that is not the first of a month"),
    ("ends_on = '2026-04-02'", "has an ends_on that is not the first of a month"),
    ("description = null", "has no description"),
]
"""What is wrong with a discount of 1 %, a tenant each, and what is said of it."""


def test_a_view_may_show_discounts_that_cannot_be_applied(world: World) -> None:
    """Each holds back its tenant alone, with the row named."""
    world.pilot()
    tenants = [f"tenant-{number:02d}" for number in range(len(WRONG_DISCOUNTS))]
    for tenant in tenants:
        world.tenant(tenant)
        world.deployment(tenant, tenant, "studio")
        discount(world, tenant, tenant, percent=1)
    world.query("create table cloud.shown as select * from cloud.discounts")  # which has no constraint
    world.query("alter table cloud.shown alter percent type numeric")
    for tenant, (change, _) in zip(tenants, WRONG_DISCOUNTS, strict=True):
        world.query(f"update cloud.shown set {change} where tenant_id = %s", tenant)
    world.query("alter table cloud.discounts rename to kept")
    world.query("create view cloud.discounts as select * from cloud.shown")
    world.publish("2026-04")
    assert faults(world) == [
        (
            tenant,
            "discount_cannot_be_applied",
            f"discount {'(none)' if change == 'id = null' else uid(tenant)} of tenant {tenant} {why}: correct it in"
            " discounts",
        )
        for tenant, (change, why) in zip(tenants, WRONG_DISCOUNTS, strict=True)
    ]
    assert set(world.invoices("2026-04")) == {"pilot"}


def test_a_view_may_show_a_percentage_with_more_decimals_than_it_needs(world: World) -> None:
    """10.000000 is 10: 5.00, 0.75 and 0.67 of 64.22."""
    world.pilot()
    row = f"{A}, 'pilot', null, null, null, 10.000000, null, '2026-01-01', null, 'x'"
    world.query("alter table cloud.discounts alter column percent type numeric")
    view(world, "discounts", f"select {row}")
    world.publish("2026-04")
    assert world.invoices("2026-04")["pilot"] == ("issued", 1, 5780, 578, 6358)
    assert world.disproved() == []


def test_a_view_may_show_a_discount_twice_or_of_nobody(world: World) -> None:
    world.pilot()
    discount(world, "spring", percent=10)
    nobodys = "select null, null, null, null, null, 500, null, '2026-01-01'::date, null, 'x'"
    view(world, "discounts", f"select * from cloud.discounts_kept union all {nobodys}")
    world.publish("2026-04")
    assert [row[1] for row in faults(world)] == ["discount_cannot_be_applied"] * 2
    assert "is there more than once" in str(faults(world)[0][2])


def test_a_view_may_show_commitments_that_cannot_be_applied(world: World) -> None:
    """Below 0, of half a cent, not a number, of nothing, of a ten with sixteen zeros: each a tenant's."""
    world.pilot()
    minima = {"below": "-1", "half": "1.5", "nan": "'NaN'", "none": "null", "vast": "1e16"}
    rows = []
    for tenant, minimum in minima.items():
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-web", "studio")
        rows.append(f"('{uid(tenant)}'::uuid, '{tenant}', {minimum}::numeric)")
    world.query("alter table cloud.commitments rename to kept")
    world.query(
        "create view cloud.commitments as select id, tenant_id, null::uuid as deployment_id, minimum_cents,"
        " '2026-01-01'::date as starts_on, null::date as ends_on"
        f" from (values {', '.join(rows)}) shown (id, tenant_id, minimum_cents)"
    )
    world.publish("2026-04")
    assert [row[:2] for row in faults(world)] == [(tenant, "commitment_cannot_be_applied") for tenant in minima]
    assert set(world.invoices("2026-04")) == {"pilot"}


def test_terms_of_a_tenant_without_a_subscription_are_nobodys_fault(world: World) -> None:
    world.tenant("idle")
    world.pilot()
    commitment(world, 1000, tenant="idle")
    commitment(world, 2000, tenant="idle")
    world.publish("2026-04")
    assert faults(world) == []
    assert set(world.invoices("2026-04")) == {"pilot"}


def test_a_commitment_of_a_part_month_counts_the_days_that_its_subscriptions_bill(world: World) -> None:
    """10,000.00 from 28 February 2024 on a daily plan: 689.66, less 6.90 and 30.00."""
    world.tenant("pilot")
    world.plan("studio", 10000, dict.fromkeys(("cpu", "gb", "hours"), (0, 1)), since="2024-01-01")
    world.query("update cloud.plans set proration = 'daily'")
    world.deployment("pilot", "web", "studio", start="2024-02-28 15:00+00")
    for kind in ("cpu", "gb", "hours"):
        world.use("web", kind, 1000, "2024-02-28 16:00+00")
    commitment(world, 1_000_000, "web", starts_on="2024-01-01")
    world.publish("2024-02")
    assert world.lines("pilot", "2024-02")[:-1] == [
        ("Plan: studio", 690),
        *((f"Overage: {kind}", 1000) for kind in ("cpu", "gb", "hours")),
        ("Commitment: 10,000.00 a month", 65276),
    ]
