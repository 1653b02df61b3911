"""`arcadia export focus`: both sides of a month as FOCUS files that sum to the invoices, for people and validators.

Version 1.2 of the format is checked by `make focus`, with the official validator, over the sample year. Its version for
1.0 runs here, in the environment that `make test` makes for it.
"""

import csv
import datetime as dt
import re
import runpy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pyarrow.parquet
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs import bill_csv, bills
from arcadia_pipelines.costs import month as month_costs
from arcadia_pipelines.exports import focus
from arcadia_pipelines.exports.focus_columns import SIDES, Side, schema
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests import command_line
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.world import World, item, uid

APRIL = "2026-04"
VALIDATOR = PROJECT / Path(sys.prefix).name.replace(".venv", ".venv-focus-1.0") / "bin" / "python"
VALIDATOR_1_0 = {
    "InvoiceIssuer": "InvoiceIssuerName",
    "Provider": "ProviderName",
    "Publisher": "PublisherName",
    "ResourceID": "ResourceId",
    "ChargeType": "ChargeCategory",
}
"""What validator 1.0.0 calls five columns, and what FOCUS 1.0 and 1.2 do."""

FOCUS_WORDS = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard"},
    "PricingUnit": {"", "Months", "Hours", "GB", "GB-Months", "Items"},
    "ServiceCategory": {"Compute", "Databases", "Networking", "Storage", "Other"},
    "ServiceSubcategory": {
        "Application Networking",
        "Backup Storage",
        "Block Storage",
        "Containers",
        "Object Storage",
        "Other (Compute)",
        "Other (Databases)",
        "Other (Networking)",
        "Other (Other)",
        "Virtual Machines",
    },
}

Rows = list[dict[str, str]]


def exported(world: World, month: str, side: Side, out: Path) -> Rows:
    """The month's side, exported to a CSV in the folder and read back."""
    file = out / f"{side}-{month}.csv"
    export(world, month, side, file)
    return rows(file)


def export(world: World, month: str, side: Side, file: Path) -> focus.Exported:
    """Export the month's side to the file."""
    with database.snapshot(database.engine(world.url)) as connection:
        return focus.export(connection, BillingMonth.parse(month), side, file)


def rows(file: Path) -> Rows:
    """The rows of a CSV."""
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def picked(found: Iterable[dict[str, str]], *columns: str) -> list[tuple[str, ...]]:
    """These columns of the rows."""
    return [tuple(row[column] for column in columns) for row in found]


def sums(found: Rows, by: str, column: str = "BilledCost") -> dict[str, Decimal]:
    """The column's sum by another."""
    total: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in found:
        total[row[by]] += Decimal(row[column])
    return dict(total)


def with_bill(world: World, month: str) -> None:
    """The month's sample bill, imported and allocated."""
    file = migrations.SQL / "sample_bills" / f"{month}.csv"
    with database.transaction(database.engine(world.url)) as connection:
        bills.store(connection, bill_csv.read_csv(file.read_bytes(), file.name))
        month_costs.allocate(connection, BillingMonth.parse(month))


def small_bill(world: World) -> None:
    """April's bill of 10.01: 9.00 of a cluster split 2 to 1, 0.50 of nothing known, tax 0.95, a credit of 0.44."""
    world.query(
        "insert into billing.cloud_invoices (period_start, invoice_uuid, total_cents, total_from, item_count,"
        " content_sha256) values ('2026-04-01', 'do-1', 1001, 'bill', 4, repeat('0', 64))"
    )
    world.query(
        "insert into billing.cloud_invoice_items (period_start, line_no, kind, product, resource_id, description,"
        " duration, duration_unit, started_at, ended_at, project_name, amount_cents) values"
        " ('2026-04-01', 1, 'usage', 'Kubernetes Clusters', 'k8s-1', 'cluster (s-2vcpu-4gb)', 100, 'Hours',"
        "  '2026-04-02', '2026-04-06 04:00', 'shared', 900),"
        " ('2026-04-01', 2, 'usage', 'Moon Dust', null, 'dust', null, null, '2026-04-01', '2026-05-01', null, 50),"
        " ('2026-04-01', 3, 'tax', 'Taxes', null, 'GST', null, null, '2026-04-01', '2026-05-01', null, 95),"
        " ('2026-04-01', 4, 'credit', 'Credits', null, 'Goodwill', null, null, '2026-04-01', '2026-05-01', null, -44)"
    )
    world.query(
        "insert into billing.cost_allocations (period_start, line_no, part, deployment_id, tenant_id, allocated_by,"
        " split_by, weight, of_weight, usd_cents, aud_cents) values"
        " ('2026-04-01', 1, 1, %s, 'pilot', 'resource', 'share', 2, 3, 600, 920),"
        " ('2026-04-01', 1, 2, %s, 'pilot', 'resource', 'share', 1, 3, 300, 460),"
        " ('2026-04-01', 2, 1, null, null, 'nobody', null, 1, 1, 50, null),"
        " ('2026-04-01', 3, 1, null, null, 'nobody', null, 1, 1, 95, null),"
        " ('2026-04-01', 4, 1, null, null, 'nobody', null, 1, 1, -44, null)",
        uid("web"),
        uid("gone"),
    )


@pytest.mark.usefixtures("pilots_april")
def test_the_pilots_april_is_four_rows(world: World, tmp_path: Path) -> None:
    """50.00 + 7.50 + 672 h x 0.01 = 6.72, GST 6.42: 70.64 in all, each with FOCUS's words and our ids."""
    found = exported(world, APRIL, "revenue", tmp_path)
    assert picked(found, "BilledCost", "ChargeCategory", "ChargeFrequency", "ChargeDescription", "ServiceCategory") == [
        ("50.00", "Usage", "Recurring", "Plan: studio", "Compute"),
        ("7.50", "Usage", "Recurring", "Addon: storage_50gb", "Other"),
        ("6.72", "Usage", "Usage-Based", "Overage: droplet_hours", "Compute"),
        ("6.42", "Tax", "Recurring", "GST 10%", "Other"),
    ]
    assert picked(found, "PricingQuantity", "PricingUnit", "ListUnitPrice", "ListCost", "PricingCategory") == [
        ("1.00", "Months", "50.00", "50.00", "Standard"),
        ("1.00", "Months", "7.50", "7.50", "Standard"),
        ("672.00", "Hours", "0.01", "6.72", "Standard"),
        ("", "", "", "6.42", ""),
    ]
    assert picked(found, "SkuId", "SkuPriceId", "x_UsedQuantity", "x_IncludedQuantity") == [
        ("plan/studio", "plan/studio", "", ""),
        ("addon/storage_50gb", "addon/storage_50gb", "", ""),
        ("overage/droplet_hours", "overage/droplet_hours/studio", "2160.00", "1488.00"),
        ("", "", "", ""),
    ]
    web = str(uid("web"))
    assert picked(found, "ResourceId", "ResourceName", "SubAccountId", "x_DeploymentId") == [
        *[(web, "web", web, web)] * 3,
        ("", "", "", ""),
    ]
    whole_month = ("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z")
    periods = ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd")
    assert set(picked(found, *periods)) == {whole_month * 2}
    names = ("BillingAccountId", "BillingAccountName", "BillingCurrency", "ProviderName", "InvoiceId", "ChargeClass")
    assert set(picked(found, *names)) == {("pilot", "Pilot", "AUD", "Arcadia", "INV-202604-00001", "")}
    assert sums(found, "InvoiceId") == {"INV-202604-00001": Decimal("70.64")}


def test_a_bill_is_a_row_per_part_of_an_item(world: World, tmp_path: Path) -> None:
    """9.00 of 100 hours split 2 to 1, an item of no quantity, tax and a credit: 10.01, the bill's total."""
    world.pilot()
    small_bill(world)
    found = exported(world, APRIL, "cost", tmp_path)
    assert picked(found, "BilledCost", "ChargeCategory", "PricingQuantity", "PricingUnit", "SkuId", "ResourceId") == [
        ("6.00", "Usage", "66.666667", "Hours", "Kubernetes Clusters/s-2vcpu-4gb", "k8s-1"),
        ("3.00", "Usage", "33.333333", "Hours", "Kubernetes Clusters/s-2vcpu-4gb", "k8s-1"),
        ("0.50", "Usage", "1.00", "Items", "Moon Dust", ""),
        ("0.95", "Tax", "", "", "", ""),
        ("-0.44", "Credit", "", "", "", ""),
    ]
    ours = ("x_DeploymentName", "x_TenantId", "x_ResourceKind", "x_AllocatedBy", "x_BilledCostInAud")
    assert picked(found, *ours) == [
        ("web", "pilot", "kubernetes", "resource", "9.20"),
        ("", "pilot", "kubernetes", "resource", "4.60"),
        *[("", "", "", "nobody", "")] * 3,
    ]
    assert picked(found[:1], "ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodEnd", "SubAccountName") == [
        ("2026-04-02T00:00:00Z", "2026-04-06T04:00:00Z", "2026-05-01T00:00:00Z", "shared")
    ]
    assert set(picked(found, "BillingCurrency", "ProviderName", "BillingAccountId")) == {
        ("USD", "DigitalOcean", "arcadia")
    }
    assert sums(found, "InvoiceId") == {"do-1": Decimal("10.01")}


def test_every_invoice_and_the_bill_are_summed_to_the_cent(sample: World, tmp_path: Path) -> None:
    """Of a sample month: BilledCost by InvoiceId is total_cents; the bill's is the bill's, in AUD the month's cost."""
    sample.publish(APRIL)
    with_bill(sample, APRIL)
    revenue, cost = (exported(sample, APRIL, side, tmp_path) for side in SIDES)
    totals = "select invoice_number, total_cents * 0.01 from billing.tenant_invoices"
    assert sums(revenue, "InvoiceId") == dict(sample.query(totals))
    assert sums(cost, "InvoiceId") == {"digitalocean-2026-04": Decimal("1442.01")}
    assert sums(cost, "BillingCurrency", "x_BilledCostInAud") == {
        "USD": sample.query("select aud_cents * 0.01 from billing.month_costs")[0][0]
    }
    by_tenant = "select tenant_id, sum(total_cents) * 0.01 from billing.tenant_invoices group by 1"
    assert sums(revenue, "x_TenantId") == dict(sample.query(by_tenant))


def test_every_row_speaks_focus(sample: World, tmp_path: Path) -> None:
    """Allowed values in every row, which no validator asks; quantity x price is ListCost, and rounded BilledCost."""
    sample.publish(APRIL)
    with_bill(sample, APRIL)
    for side in SIDES:
        found = exported(sample, APRIL, side, tmp_path)
        for column, words in FOCUS_WORDS.items():
            assert {row[column] for row in found} <= words, (side, column)
        for row in found:
            assert bool(row["PricingQuantity"]) == bool(row["PricingUnit"]) == (row["ChargeCategory"] == "Usage")
            assert bool(row["ConsumedQuantity"]) == bool(row["ConsumedUnit"]) == bool(row["SkuPriceId"])
            if row["ListUnitPrice"]:
                product = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
                assert product == Decimal(row["ListCost"]) == Decimal(row["ContractedCost"])
                assert product.quantize(Decimal("0.01"), ROUND_HALF_UP) == Decimal(row["BilledCost"])
            else:
                assert row["ListCost"] == row["ContractedCost"] == row["BilledCost"]
            assert row["EffectiveCost"] == row["PricingCurrencyEffectiveCost"] == row["ContractedCost"]


@pytest.mark.long
@pytest.mark.usefixtures("pilots_april")
def test_a_correction_is_of_the_month_it_corrects_and_so_is_its_gst(world: World, tmp_path: Path) -> None:
    """April is paid, then 104 h more come: May carries 1.04 as a Correction of April; too many, and it credits 1.96.

    May itself is 57.50, so GST is 5.85 on 58.54, of which 0.10 is April's; or 5.55 on 55.54, of which -0.20 is.
    """
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    columns = ("BilledCost", "ChargeCategory", "ChargeClass", "ChargePeriodStart", "ChargePeriodEnd", "ChargeFrequency")
    april, may = (("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"), ("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z"))
    for more, corrects, its_gst in ((104, "1.04", "0.10"), (-300, "-1.96", "-0.20")):
        world.use("web", "droplet_hours", more)
        world.publish(APRIL)
        world.publish("2026-05")
        found = exported(world, "2026-05", "revenue", tmp_path)
        assert picked(found[2:], *columns) == [
            (corrects, "Adjustment", "Correction", *april, "One-Time"),
            ("5.75", "Tax", "", *may, "Recurring"),
            (its_gst, "Tax", "Correction", *april, "One-Time"),
        ]
        assert picked(found[3:], "ChargeDescription", "x_InvoiceLineNumber", "SkuPriceId") == [
            ("GST 10%", "4", ""),
            ("GST 10%: 2026-04, INV-202604-00001", "4", ""),
        ]
    assert {row["BillingPeriodStart"] for row in found} == {"2026-05-01T00:00:00Z"}


def test_promotional_credit_is_a_credit_and_what_was_entered_by_hand_is_of_its_invoice(
    world: World, tmp_path: Path
) -> None:
    """April is 64.22 + 5.00 - 2.00 = 67.22, of which credit pays 60.00: GST is 0.72 on 7.22, in one row."""
    world.pilot()
    world.query("""
        insert into billing.manual_lines (tenant_id, period_start, amount_cents, description, operator, reason)
        values ('pilot', '2026-04-01', 500, 'Set-up', 'ada', 'agreed'),
               ('pilot', '2026-04-01', -200, 'Outage', 'ada', 'sorry')
    """)
    world.query("""
        insert into billing.credit_grants (tenant_id, amount_cents, description, operator, reason)
        values ('pilot', 6000, 'Welcome', 'ada', 'new')
    """)
    world.publish(APRIL)
    found = exported(world, APRIL, "revenue", tmp_path)[3:]
    columns = ("BilledCost", "ChargeDescription", "ChargeCategory", "ChargeClass", "ChargeFrequency")
    assert sorted(picked(found, *columns)) == [
        ("-2.00", "Credit: Outage", "Credit", "", "One-Time"),
        ("-60.00", "Credit: Welcome", "Credit", "", "One-Time"),
        ("0.72", "GST 10%", "Tax", "", "Recurring"),
        ("5.00", "Adjustment: Set-up", "Adjustment", "", "One-Time"),
    ]
    assert {row["ChargePeriodStart"] for row in found} == {"2026-04-01T00:00:00Z"}


MARCH_1 = '{"corrects": "2026-03-01", "invoice_number": "INV-3"}'
APRIL_1 = '{"corrects": "2026-04-01", "invoice_number": "INV-4"}'
TAXED_APRIL_1, FREE_APRIL_1 = (APRIL_1.replace("{", f'{{"taxable": {taxed}, ') for taxed in ("true", "false"))


def invoice_by_hand(world: World, tenant: str, free: bool, lines: list[tuple[str, int, str]]) -> None:
    """An invoice of May with these lines: kind, cents and meta."""
    world.tenant(tenant)
    number = world.query("select count(*) + 1 from billing.tenant_invoices")[0][0]
    tax = sum(cents for kind, cents, _ in lines if kind == "tax")
    total = sum(cents for _, cents, _ in lines)
    world.query(
        "insert into billing.tenant_invoices (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, issued_at, invoice_number, content_sha256, usage_cutoff, run_id, meta)"
        " values (%s, %s, '2026-05-01', '2026-06-01', %s, %s, %s, now(), %s, repeat('0', 64), now(), '', %s)",
        uid(tenant),
        tenant,
        total - tax,
        tax,
        total,
        f"INV-202605-0000{number}",
        '{"gst_free_reason": "Export"}' if free else "{}",
    )
    for number, (kind, cents, meta) in enumerate(lines, 1):
        world.tamper(f"""
            insert into billing.tenant_invoice_lines (id, invoice_id, period_start, line_no, kind, description, qty,
                unit_price_cents, amount_cents, meta)
            values (gen_random_uuid(), '{uid(tenant)}', '2026-05-01', {number}, '{kind}', '{kind}: x', 1, {cents},
                {cents}, '{meta}')
        """)


def test_gst_is_split_over_the_months_that_it_is_on_and_sums_to_its_line(world: World, tmp_path: Path) -> None:
    """By tenant and month of the charge, what of the tax line is on it.

    cent: 10.04 + 0.04 = 10.08 are 1.01, and 1.004 and 0.004 a cent too little, which the larger has. left: 0.05 twice,
    with nothing for May: 0.01, where each half a cent upwards would be two. free: not taxed in May, but corrects a
    taxed April. taxed: the other way round. none: free in both, so without a tax line. pilot: corrects nothing.
    """

    def tax(cents: int, taxable: int) -> tuple[str, int, str]:
        return "tax", cents, f'{{"rate": "0.10", "taxable_cents": {taxable}}}'

    world.pilot()
    world.publish("2026-05")
    plan = ("plan_base", 5000, "{}")
    invoice_by_hand(world, "cent", False, [("plan_base", 1004, "{}"), ("adjustment", 4, APRIL_1), tax(101, 1008)])
    invoice_by_hand(world, "left", False, [("adjustment", 5, MARCH_1), ("adjustment", 5, APRIL_1), tax(1, 10)])
    invoice_by_hand(world, "free", True, [plan, ("credit", -100, TAXED_APRIL_1), tax(-10, -100)])
    invoice_by_hand(world, "taxed", False, [plan, ("adjustment", 1000, FREE_APRIL_1), tax(500, 5000)])
    invoice_by_hand(world, "none", True, [plan, ("adjustment", 1000, APRIL_1)])
    found = [row for row in exported(world, "2026-05", "revenue", tmp_path) if row["ChargeCategory"] == "Tax"]
    assert {(row["x_TenantId"], row["ChargePeriodStart"][5:7]): row["BilledCost"] for row in found} == {
        ("cent", "05"): "1.01",
        ("cent", "04"): "0.00",
        ("left", "03"): "0.00",
        ("left", "04"): "0.01",
        ("free", "04"): "-0.10",
        ("taxed", "05"): "5.00",
        ("pilot", "05"): "5.75",
    }
    assert len(found) == 7
    assert all(bool(row["ChargeClass"]) == (row["ChargePeriodStart"][5:7] != "05") for row in found)


def test_a_price_keeps_its_id_when_it_changes_and_for_everybody(world: World, tmp_path: Path) -> None:
    """April at 50.00 and 1 c beyond 100 h, May at 60.00 and 2 c beyond 50: the ids are the same, and each SKU's own."""
    world.plan("studio", 5000, {"droplet_hours": (100, 1)})
    world.plan("studio", 6000, {"droplet_hours": (50, 2)}, since="2026-05-01")
    world.plan("lab/50%", 7000, {"droplet_hours": (100, 1)})
    for tenant, plan in (("acme", "studio"), ("zulu", "studio"), ("yoyo", "lab/50%")):
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-web", plan)
        for month in ("04", "05"):
            world.use(f"{tenant}-web", "droplet_hours", 300, f"2026-{month}-15 12:00+00")
    ids = []
    for month in ("2026-04", "2026-05"):
        world.publish(month)
        found = exported(world, month, "revenue", tmp_path)
        ids.append({(row["x_TenantId"], row["SkuId"], row["SkuPriceId"]) for row in found if row["SkuId"]})
    assert ids[0] == ids[1]
    assert ids[0] == {
        ("acme", "plan/studio", "plan/studio"),
        ("acme", "overage/droplet_hours", "overage/droplet_hours/studio"),
        ("zulu", "plan/studio", "plan/studio"),
        ("zulu", "overage/droplet_hours", "overage/droplet_hours/studio"),
        ("yoyo", "plan/lab/50%", "plan/lab/50%"),
        ("yoyo", "overage/droplet_hours", "overage/droplet_hours/lab%2F50%25"),
    }


def test_a_deployment_that_changed_its_plan_has_the_price_of_each(world: World, tmp_path: Path) -> None:
    """By the rate, also where only the second plan has overage; of one rate by the order of the lines."""
    world.tenant("acme")
    world.plan("small", 1000, {"droplet_hours": (10, 1), "egress_gb": (10, 1)})
    world.plan("large", 9000, {"droplet_hours": (10, 2), "egress_gb": (10, 1)})
    world.deployment("acme", "web")
    world.subscribe("first", "acme", "web", "small", end="2026-04-10")
    world.subscribe("then", "acme", "web", "large", start="2026-04-10")
    world.deployment("acme", "app")
    world.subscribe("a", "acme", "app", "small", end="2026-04-10")
    world.subscribe("b", "acme", "app", "large", start="2026-04-10")
    for deployment, kind, quantity, day in (
        ("web", "droplet_hours", 110, "05"),
        ("web", "droplet_hours", 310, "15"),
        ("web", "egress_gb", 210, "05"),
        ("web", "egress_gb", 410, "15"),
        ("app", "droplet_hours", 510, "15"),
    ):
        world.use(deployment, kind, quantity, f"2026-04-{day} 12:00+00")
    world.publish(APRIL)
    found = [row for row in exported(world, APRIL, "revenue", tmp_path) if row["ChargeFrequency"] == "Usage-Based"]
    assert {row["PricingQuantity"]: row["SkuPriceId"] for row in found} == {
        "100.00": "overage/droplet_hours/small",
        "300.00": "overage/droplet_hours/large",
        "200.00": "overage/egress_gb/small",
        "400.00": "overage/egress_gb/large",
        "500.00": "overage/droplet_hours/large",
    }


def test_of_two_plans_with_tiers_each_line_has_its_own(world: World, tmp_path: Path) -> None:
    """Both charge 1 c up to 10 h and 2 c beyond; 20 h were used on small, then 30 h on large."""
    world.tenant("acme")
    world.deployment("acme", "web")
    for plan, start, end in (("small", "2026-04-01", "2026-04-10"), ("large", "2026-04-10", None)):
        world.plan(plan, 1000, {"droplet_hours": (0, 0)})
        world.query("update cloud.plan_rates set charge_model = 'graduated'")
        world.query(
            "insert into cloud.plan_rate_tiers select %s, 'droplet_hours', '2026-01-01', up_to, cents, 0"
            " from (values (10, 1), (null, 2)) tier (up_to, cents)",
            uid(plan),
        )
        world.subscribe(plan, "acme", "web", plan, start=start, end=end)
    world.use("web", "droplet_hours", 20, "2026-04-05 12:00+00")
    world.use("web", "droplet_hours", 30, "2026-04-15 12:00+00")
    world.publish(APRIL)
    found = [row for row in exported(world, APRIL, "revenue", tmp_path) if row["ChargeFrequency"] == "Usage-Based"]
    assert {row["SkuPriceId"]: (row["x_UsedQuantity"], row["PricingQuantity"]) for row in found} == {
        "overage-graduated 0 to 10/droplet_hours/small": ("20.00", "10.00"),
        "overage-graduated over 10/droplet_hours/small": ("20.00", "10.00"),
        "overage-graduated 0 to 10/droplet_hours/large": ("30.00", "10.00"),
        "overage-graduated over 10/droplet_hours/large": ("30.00", "20.00"),
    }


def test_a_tenants_own_price_is_the_contracted_one_and_the_lists_the_listed(world: World, tmp_path: Path) -> None:
    """A plan of 50.00 for 40.00, 300 h of 1 c at 0.8 c, an addon as listed; 20 % off plan and usage.

    Billed are 40.00 + 7.50 + 2.40 - 8.00 - 0.48 = 41.42, so GST is 4.14. At the list's prices the plan and usage are
    10.60 more, of which 2.12 would come off: GST is a tenth of 8.48 more.
    """
    world.tenant("acme")
    world.plan("studio", 5000, {"droplet_hours": (0, 1)})
    world.addon("storage", 750)
    world.deployment("acme", "web", "studio", ["storage"])
    world.use("web", "droplet_hours", 300)
    world.query("insert into cloud.tenant_plan_prices values ('acme', %s, '2026-01-01', 4000)", uid("studio"))
    world.query(
        "insert into cloud.tenant_rates values ('acme', %s, 'droplet_hours', '2026-02-01', 0, 'hour', 0.8)",
        uid("studio"),
    )
    world.query("""
        insert into cloud.discounts (tenant_id, line_kind, percent, starts_on, description)
        values ('acme', 'plan_base', 20, '2026-01-01', 'a fifth'), ('acme', 'overage', 20, '2026-02-01', 'a fifth')
    """)
    world.publish(APRIL)
    found = exported(world, APRIL, "revenue", tmp_path)
    assert picked(found, "SkuPriceId", "ContractedUnitPrice", "ListUnitPrice", "ListCost", "EffectiveCost") == [
        ("plan/studio", "40.00", "50.00", "50.00", "40.00"),
        ("addon/storage", "7.50", "7.50", "7.50", "7.50"),
        ("overage/droplet_hours/studio", "0.008", "0.01", "3.00", "2.40"),
        ("", "", "", "-10.00", "-8.00"),
        ("", "", "", "-0.60", "-0.48"),
        ("", "", "", "4.988", "4.14"),
    ]
    assert picked(found, "PricingCurrencyListUnitPrice") == picked(found, "ListUnitPrice")
    assert sums(found, "x_TenantId") == {"acme": Decimal("45.56")}


@pytest.fixture
def of_every_model(world: World) -> World:
    """From 16 April, half a month: of 50.00 a month, and of each charge model's usage. acme pays the list's prices."""
    world.plan(
        "studio", 5000, dict.fromkeys(("backups", "databases", "egress_gb", "kubernetes", "reserved_ip"), (0, 100))
    )
    world.query("update cloud.plans set proration = 'daily'")
    for kind, model in (
        ("backups", "charge_model = 'package', package_size = 10"),
        ("databases", "charge_model = 'graduated'"),
        ("egress_gb", "charge_model = 'volume'"),
        ("kubernetes", "maximum_cents = 2001"),
    ):
        world.query(f"update cloud.plan_rates set {model} where resource_kind = '{kind}'")
    world.query(f"""
        insert into cloud.plan_rate_tiers
        values ('{uid("studio")}', 'databases', '2026-01-01', 100, 2, 50),
               ('{uid("studio")}', 'databases', '2026-01-01', null, 1, 0),
               ('{uid("studio")}', 'egress_gb', '2026-01-01', 2.5, 4, 0),
               ('{uid("studio")}', 'egress_gb', '2026-01-01', null, 3, 0)
    """)
    for tenant in ("acme", "zulu"):
        world.tenant(tenant)
        world.deployment(tenant, tenant, "studio", start="2026-04-16")
        for kind, used in (
            ("backups", 121),
            ("databases", 120),
            ("egress_gb", 3),
            ("kubernetes", 20),
            ("reserved_ip", 9),
        ):
            world.use(tenant, kind, used, "2026-04-20 12:00+00")
    return world


def test_what_is_priced_otherwise_than_by_the_month_or_unit_is_said_in_its_price(
    of_every_model: World, tmp_path: Path
) -> None:
    """15 days of 50.00 / 30, packages, tiers, a maximum of 20.01 / 2; Parquet has the same digits."""
    of_every_model.publish(APRIL)
    found = [row for row in exported(of_every_model, APRIL, "revenue", tmp_path) if row["x_TenantId"] == "acme"]
    columns = ("SkuPriceId", "PricingQuantity", "PricingUnit", "ListUnitPrice", "BilledCost")
    assert picked(found[:-1], *columns) == [
        ("plan-day/studio", "15.00", "Days", "1.6666666667", "25.00"),
        ("overage-package of 10/backups/studio", "13.00", "10 Hours", "1.00", "13.00"),
        ("overage-graduated 0 to 100/databases/studio", "100.00", "Hours", "0.02", "2.00"),
        ("overage-graduated 0 to 100, flat fee/databases/studio", "1.00", "Flat Fees", "0.50", "0.50"),
        ("overage-graduated over 100/databases/studio", "20.00", "Hours", "0.01", "0.20"),
        ("overage-volume over 2.5/egress_gb/studio", "3.00", "Hours", "0.03", "0.09"),
        ("overage-cap/kubernetes/studio", "1.00", "Caps", "10.01", "10.01"),
        ("overage/reserved_ip/studio", "9.00", "Hours", "1.00", "9.00"),
    ]
    assert {row["SkuId"] for row in found if "databases" in row["SkuId"]} == {"overage/databases"}
    assert picked(found[1:2], "ConsumedQuantity", "ConsumedUnit") == [("121.00", "Hours")]
    assert found[0]["ListCost"] == "25.0000000005"
    export(of_every_model, APRIL, "revenue", tmp_path / "april.parquet")
    typed = pyarrow.parquet.read_table(tmp_path / "april.parquet").to_pylist()
    assert typed[0]["ContractedUnitPrice"] == Decimal("1.6666666667")


def test_an_own_price_has_the_lists_beside_it_where_the_list_has_such_a_price(
    of_every_model: World, tmp_path: Path
) -> None:
    """zulu's prices are half the list's, with databases in other tiers, and kubernetes and addresses in tiers at all.

    The list has no price of the tier up to 50, nor a fee for addresses: there the price is its own and the only one.
    The list's price of an hour of kubernetes and of an address is that of one in any of zulu's tiers.
    """
    of_every_model.query(f"""
        insert into cloud.tenant_plan_prices values ('zulu', '{uid("studio")}', '2026-01-01', 2500);
        insert into cloud.tenant_rates (tenant_id, plan_id, resource_kind, effective_from, included_quantity, unit,
            unit_price_cents, charge_model, package_size, maximum_cents)
        values ('zulu', '{uid("studio")}', 'backups', '2026-01-01', 0, 'hour', 50, 'package', 10, null),
               ('zulu', '{uid("studio")}', 'databases', '2026-01-01', 0, 'hour', 0, 'graduated', null, null),
               ('zulu', '{uid("studio")}', 'egress_gb', '2026-01-01', 0, 'hour', 0, 'volume', null, null),
               ('zulu', '{uid("studio")}', 'kubernetes', '2026-01-01', 0, 'hour', 100, 'per_unit', null, 1000),
               ('zulu', '{uid("studio")}', 'reserved_ip', '2026-01-01', 0, 'hour', 0, 'graduated', null, null);
        insert into cloud.tenant_rate_tiers
        values ('zulu', '{uid("studio")}', 'databases', '2026-01-01', 50, 1, 0),
               ('zulu', '{uid("studio")}', 'databases', '2026-01-01', null, 0.5, 0),
               ('zulu', '{uid("studio")}', 'egress_gb', '2026-01-01', 2.5, 2, 0),
               ('zulu', '{uid("studio")}', 'egress_gb', '2026-01-01', null, 1.5, 0),
               ('zulu', '{uid("studio")}', 'reserved_ip', '2026-01-01', null, 50, 25)
    """)
    of_every_model.publish(APRIL)
    found = [row for row in exported(of_every_model, APRIL, "revenue", tmp_path) if row["x_TenantId"] == "zulu"]
    assert picked(found[:-1], "SkuPriceId", "ContractedUnitPrice", "ListUnitPrice") == [
        ("plan-day/studio", "0.8333333333", "1.6666666667"),
        ("overage-package of 10/backups/studio", "0.50", "1.00"),
        ("overage-graduated 0 to 50/databases/studio", "0.01", "0.01"),
        ("overage-graduated over 50/databases/studio", "0.005", "0.005"),
        ("overage-volume over 2.5/egress_gb/studio", "0.015", "0.03"),
        ("overage-cap/kubernetes/studio", "5.00", "10.01"),
        ("overage-graduated over 0/reserved_ip/studio", "0.50", "1.00"),
        ("overage-graduated over 0, flat fee/reserved_ip/studio", "0.25", "0.25"),
    ]


def test_rounding_is_not_part_of_a_price(world: World, tmp_path: Path) -> None:
    """3 h at 0.5 c are 1.5 c, billed as 2 c: what it cost by price is 0.015, listed, contracted and effective."""
    world.tenant("acme")
    world.plan("studio", 5000, {"droplet_hours": (0, "0.5")})
    world.deployment("acme", "web", "studio")
    world.use("web", "droplet_hours", 3)
    world.publish(APRIL)
    [row] = [one for one in exported(world, APRIL, "revenue", tmp_path) if one["SkuMeter"] == "droplet_hours"]
    assert picked(
        [row], "BilledCost", "ListCost", "ContractedCost", "EffectiveCost", "PricingCurrencyEffectiveCost"
    ) == [("0.02", "0.015", "0.015", "0.015", "0.015")]


def test_a_refund_of_usage_is_usage_and_an_incentive_is_a_credit(world: World, tmp_path: Path) -> None:
    """What 24 h of a droplet cost is paid back: in the month it is no Correction, of a month before it is one."""
    droplet = "web-1 (s-1vcpu-2gb)"
    world.bill(
        "2026-10",
        {"product": "Droplets", "description": droplet, "amount": "12.00", "duration": "744"},
        {"product": "Droplets", "description": f"{droplet} refund", "amount": "-0.39", "duration": "24"},
        item("-0.50", "gpu-1", product="GPU Droplets", start="2026-09-01T00:00:00Z", end="2026-10-01T00:00:00Z"),
        item("-0.25", "lb-1", product="Refunds"),
        {"product": "Credits", "description": "Promo", "amount": "-5.00"},
        {"product": "Droplets", "category": "Discount", "description": "Half price", "amount": "-1.00"},
        {"product": "Adjustments", "description": "Rounding", "amount": "-0.01"},
        {"product": "Taxes", "description": "GST refund", "amount": "-0.04"},
        total=481,
    )
    found = exported(world, "2026-10", "cost", tmp_path)
    assert picked(found, "BilledCost", "ChargeCategory", "ChargeClass", "PricingQuantity", "SkuPriceId") == [
        ("12.00", "Usage", "", "744.00", "Droplets/s-1vcpu-2gb"),
        ("-0.39", "Usage", "", "24.00", "Droplets/s-1vcpu-2gb"),
        ("-0.50", "Usage", "Correction", "1.00", "GPU Droplets"),
        ("-0.25", "Usage", "", "1.00", "Refunds"),
        ("-5.00", "Credit", "", "", ""),
        ("-1.00", "Credit", "", "", ""),
        ("-0.01", "Adjustment", "", "", ""),
        ("-0.04", "Tax", "", "", ""),
    ]


def test_an_item_that_ends_with_the_last_second_of_a_day_ends_with_the_day(world: World, tmp_path: Path) -> None:
    """FOCUS's ends are exclusive. Any other second is one that a droplet ended in: they are billed by the second."""
    ends = {
        "2026-10-31T23:59:59Z": "2026-11-01T00:00:00Z",
        "2026-10-31 23:59:59.999 +0000": "2026-11-01T00:00:00Z",
        "2026-11-01T10:59:59+11:00": "2026-11-01T00:00:00Z",
        "2026-10-15T23:59:59Z": "2026-10-16T00:00:00Z",
        "2026-11-01T00:00:00Z": "2026-11-01T00:00:00Z",
        "2026-10-15T12:59:59Z": "2026-10-15T12:59:59Z",
        "2026-10-31T23:59:58Z": "2026-10-31T23:59:58Z",
    }
    world.bill("2026-10", *(item("1.00", start="2026-10-01T00:00:00Z", end=end) for end in ends), total=700)
    assert [row["ChargePeriodEnd"] for row in exported(world, "2026-10", "cost", tmp_path)] == list(ends.values())


def test_a_text_is_one_quoted_cell_and_no_formula_and_parquet_has_it_as_it_is(world: World, tmp_path: Path) -> None:
    """Both sides: names, and what the provider wrote. Numbers and instants are not quoted; null is nothing."""
    world.pilot()
    world.query("update cloud.tenants set name = 'Reef Labs;=1+2'")
    world.query("update cloud.cloud_deployments set name = E'web\\t@SUM(A1)'")
    world.publish(APRIL)
    world.bill(
        APRIL,
        {"product": "-1", "description": "a\n=1", "amount": "1.00", "project_name": "+1|=2"},
        {"product": "Credits", "description": "x", "amount": "-1.00"},
        total=0,
    )
    expected: dict[tuple[Side, str], tuple[str, str]] = {
        ("revenue", "BillingAccountName"): ("Reef Labs;=1+2", "Reef Labs;'=1+2"),
        ("revenue", "SubAccountName"): ("web\t@SUM(A1)", "web\t'@SUM(A1)"),
        ("cost", "ServiceName"): ("-1", "'-1"),
        ("cost", "ChargeDescription"): ("a\n=1", "a\n'=1"),
        ("cost", "SubAccountName"): ("+1|=2", "'+1|'=2"),
    }
    for (side, column), (as_it_is, harmless) in expected.items():
        assert exported(world, APRIL, side, tmp_path)[0][column] == harmless
        export(world, APRIL, side, tmp_path / "month.parquet")
        assert pyarrow.parquet.read_table(tmp_path / "month.parquet")[column][0].as_py() == as_it_is
    texts = {field.name for field in schema("cost") if field.type == "string"}
    header, first = (tmp_path / f"cost-{APRIL}.csv").read_text().split("\n", 1)
    cells = re.findall(r'("(?:[^"]|"")*"|[^",]*)(?:,|$)', first.splitlines()[0] + "\n" + first.splitlines()[1])
    for name, cell in zip(header.split(","), cells, strict=False):
        assert cell.startswith('"') == (name in texts and cell != ""), (name, cell)


MISFITS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # The check that finds it, the rows that are made wrong, and with what.
    "each row costs": ("revenue-2026-04", {"SkuId": "plan/studio"}, {"EffectiveCost": "50.01"}),
    "each invoice": ("revenue-2026-05", {}, {"InvoiceId": "INV-202604-00001"}),
    "months follow": ("cost-2026-04", {}, {"BillingPeriodEnd": "2026-04-30T00:00:00Z"}),
    "each price is": ("revenue-2026-04", {"SkuMeter": "droplet_hours"}, {"SkuPriceId": "plan/studio"}),
    "each price keeps": ("revenue-2026-05", {"SkuId": "plan/studio"}, {"SkuPriceId": "plan/studio/2026-05-01"}),
    "each price has": ("revenue-2026-05", {"SkuId": "plan/studio"}, {"PricingUnit": "Days"}),
    "a charge is": ("cost-2026-05", {"ServiceName": "Droplets"}, {"ChargePeriodEnd": "2026-05-31T23:59:59Z"}),
    "a charge is of": ("revenue-2026-05", {"ChargeClass": "Correction"}, {"ChargeClass": ""}),
    "what a tenant": ("revenue-2026-04", {"x_TenantId": "pilot"}, {"BillingAccountId": "zulu"}),
    "gst is": ("revenue-2026-05", {"ChargeCategory": "Tax"}, {"BilledCost": "5.00"}),
    "a deployment has": ("cost-2026-04", {"x_DeploymentName": "web"}, {"x_TenantId": "zulu"}),
    "a credit is": ("cost-2026-05", {"ChargeDescription": "refund"}, {"ChargeCategory": "Credit"}),
    "no text": ("cost-2026-05", {"ServiceName": "Droplets"}, {"ServiceName": "=1"}),
}


@pytest.mark.long
def test_files_of_months_and_sides_fit_together_and_what_does_not_is_found(world: World, tmp_path: Path) -> None:
    """April is corrected in May, whose price is another and whose bill has a refund. Each check finds its misfit."""
    across = runpy.run_path(str(Path(__file__).parents[2] / "conformance" / "across.py"))
    world.pilot()
    world.plan("studio", 6000, {"droplet_hours": (1000, "1.5")}, since="2026-05-01")
    world.publish(APRIL)
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"], paid_on=f"{dt.datetime.now(dt.UTC):%Y-%m-%d}")
    world.use("web", "droplet_hours", 104)
    world.publish(APRIL)
    world.use("web", "droplet_hours", 1001, "2026-05-15 12:00+00")
    world.publish("2026-05")
    world.owns("web", "droplet")
    for month, day in ((APRIL, "30"), ("2026-05", "31")):
        period = {"start": f"{month}-01T00:00:00Z", "end": f"{month}-{day}T23:59:59Z"}
        refund = item("-0.39", "droplet", **period) | {"description": "refund"}
        world.bill(month, item("12.00", "droplet", **period), refund, item("-1.00", product="Credits"), total=1061)
    files = [tmp_path / f"{side}-{month}.csv" for side in SIDES for month in (APRIL, "2026-05")]
    for file in files:
        side, _, month = file.stem.partition("-")
        exported(world, month, "revenue" if side == "revenue" else "cost", tmp_path)
    assert across["findings"](files) == []
    for check, (name, of, change) in MISFITS.items():
        file = tmp_path / f"{name}.csv"
        before = file.read_text()
        found = rows(file)
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(found[0]))
            writer.writeheader()
            writer.writerows({**row, **change} if of.items() <= row.items() else row for row in found)
        assert [one for one in across["findings"](files) if one.startswith(check)], check
        file.write_text(before)
    assert {check.__name__.replace("_", " ").startswith(tuple(MISFITS)) for check in across["CHECKS"]} == {True}


def test_drafts_and_void_invoices_are_left_out(world: World, tmp_path: Path) -> None:
    """Of three tenants one is on hold and one invoice is voided: the third's rows are there."""
    world.plan("studio", 5000)
    for tenant in ("held", "void", "stays"):
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-web", "studio")
    world.done("hold_tenant", tenants=["held"])
    world.publish(APRIL)
    [(number,)] = world.query("select invoice_number from billing.tenant_invoices where tenant_id = 'void'")
    world.done("void_invoice", invoices=[number])
    assert {row["BillingAccountId"] for row in exported(world, APRIL, "revenue", tmp_path)} == {"stays"}
    assert export(world, APRIL, "revenue", tmp_path / "again.csv")[:3] == (2, 1, 5500)


def test_parquet_holds_what_csv_holds(world: World, tmp_path: Path) -> None:
    """Both sides, value by value, with a name of quotes, commas, an umlaut and a line's end; decimals are decimals."""
    world.pilot()
    name = 'Söhne, "Söhne"\n& Co'
    world.query("update cloud.tenants set name = %s", name)
    world.query("update cloud.cloud_deployments set name = ''")
    world.publish(APRIL)
    small_bill(world)
    for side in SIDES:
        as_csv, as_parquet = tmp_path / "month.csv", tmp_path / "month.PARQUET"
        export(world, APRIL, side, as_csv)
        export(world, APRIL, side, as_parquet)
        table = pyarrow.parquet.read_table(as_parquet)
        assert table.schema.equals(schema(side))
        found = rows(as_csv)
        assert table.column_names == list(found[0])
        for row, typed in zip(found, table.to_pylist(), strict=True):
            for column, text in row.items():
                value = typed[column]
                if isinstance(value, Decimal):
                    assert Decimal(text) == value
                elif column.endswith(("PeriodStart", "PeriodEnd")):
                    assert text == f"{value:%Y-%m-%dT%H:%M:%SZ}"
                else:
                    assert text == ("" if value is None else str(value))
    export(world, APRIL, "revenue", as_parquet)
    table = pyarrow.parquet.read_table(as_parquet).to_pylist()
    assert [(row["BillingAccountName"], row["ResourceName"]) for row in table] == [*[(name, "")] * 3, (name, None)]


@pytest.mark.usefixtures("pilots_april")
def test_what_does_not_sum_up_is_refused_and_leaves_the_old_file(world: World, arcadia: Call, tmp_path: Path) -> None:
    """A line changed by hand, a bill that is not allocated: one clear line each; the file of before is as it was."""
    small_bill(world)
    for side in SIDES:
        (tmp_path / f"{side}.csv").write_text("of before")
    world.tamper("update billing.tenant_invoice_lines set amount_cents = 673 where kind = 'overage'")
    world.tamper("delete from billing.cost_allocations where line_no = 2")
    for side, words in (("revenue", ("INV-202604-00001", "70.64", "70.65")), ("cost", ("the bill", "10.01", "9.51"))):
        refused(arcadia("export", "focus", APRIL, "--side", side, "--out", f"{side}.csv"), *words)
    world.tamper("update billing.tenant_invoices set invoice_number = 'MAN,7'")
    refused(arcadia("export", "focus", APRIL, "--side", "revenue", "--out", "revenue.csv"), "MAN,7 comes to 70.64")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "revenue.csv": "of before",
        "cost.csv": "of before",
    }


@pytest.mark.long
@pytest.mark.usefixtures("pilots_april")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_full_disk_leaves_no_file(world: World, tmp_path: Path, ending: str) -> None:
    """As where there is no more room than 1,024 bytes a file: one line that says so, and the folder is empty."""
    out = tmp_path / "out"
    out.mkdir()
    program = Path(sys.executable).with_name("arcadia")
    ended = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {program} export focus {APRIL} --side revenue --out {out}/april.{ending}"],
        env=command_line.surroundings(world.url, tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    refused(command_line.Answer(ended.returncode, ended.stdout, ended.stderr), "cannot write", "File too large")
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("pilots_april")
def test_an_error_of_the_database_half_way_leaves_no_file(world: World, arcadia: Call, tmp_path: Path) -> None:
    """A line whose correction is of no month: what PostgreSQL says, in one line."""
    world.tamper("""update billing.tenant_invoice_lines set meta = '{"corrects": "May"}' where kind = 'tax'""")
    refused(arcadia("export", "focus", APRIL, "--side", "revenue", "--out", "april.parquet"), "invalid input", "May")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote(sample: World, arcadia: Call, tmp_path: Path) -> None:
    """How many rows, what they sum to, and where."""
    sample.publish(APRIL)
    with_bill(sample, APRIL)
    answers = [arcadia("export", "focus", APRIL, "--side", side, "--out", f"{side}.csv") for side in SIDES]
    assert [(answer.code, answer.out) for answer in answers] == [
        (0, "2026-04 revenue: 74 rows of 15 invoices, AUD 5,772.91, in revenue.csv\n"),
        (0, "2026-04 cost: 100 rows of one bill, USD 1,442.01, in cost.csv\n"),
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cost.csv", "revenue.csv"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("2026-04", "--side", "revenue", "--out", "a.csv"), ("2026-04 is not invoiced", "arcadia invoice 2026-04")),
        (("2026-04", "--side", "cost", "--out", "a.csv"), ("no bill", "2026-04", "arcadia costs import")),
        (("2026-04", "--side", "cost", "--out", "a.xlsx"), ("a.xlsx", ".csv or .parquet")),
        (("2026-04", "--side", "cost", "--out", "-"), (".csv or .parquet",)),
        (("2026-04", "--side", "cost"), ("--out",)),
        (("2026-04", "--out", "a.csv"), ("--side", "revenue", "cost")),
        (("2026-04", "--side", "profit", "--out", "a.csv"), ("profit", "revenue", "cost")),
        (("April", "--side", "cost", "--out", "a.csv"), ("April", "2026-04")),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(arcadia: Call, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """What is wrong, and what to say instead."""
    refused(arcadia("export", "focus", *arguments), *words)


@pytest.mark.usefixtures("pilots_april")
def test_a_folder_that_is_not_there_is_named(world: World, arcadia: Call) -> None:
    """It is not made."""
    answer = arcadia("export", "focus", APRIL, "--side", "revenue", "--out", "nowhere/april.csv")
    refused(answer, "nowhere/april.csv", "No such file or directory")


@pytest.mark.long
def test_the_validator_of_focus_1_0_passes_both_sides(sample: World, tmp_path: Path) -> None:
    """With five columns called as it calls them. It does check: a currency that there is not, it refuses."""
    assert VALIDATOR.exists(), f"make {VALIDATOR.parents[1].name}/.installed (make test-long does)"
    sample.query(
        "insert into cloud.discounts"
        " select gen_random_uuid(), id, null, null, null, 10, null, '2026-01-01', null, 'ten' from cloud.tenants"
    )
    sample.query(
        "insert into cloud.commitments select gen_random_uuid(), id, null, 9900, '2026-01-01' from cloud.tenants"
    )
    sample.publish(APRIL)
    with_bill(sample, APRIL)
    for side in SIDES:
        found = exported(sample, APRIL, side, tmp_path)
        assert validated(found, tmp_path) == "Validation succeeded."
        kinds = {row["ChargeDescription"].partition(":")[0] for row in found}
        assert kinds >= ({"Discount", "Commitment"} if side == "revenue" else set())
    refusal = validated([{**row, "BillingCurrency": "AUS"} for row in found], tmp_path)
    assert "BillingCurrency_IsCurrencyCode failed" in refusal


def validated(found: Rows, folder: Path) -> str:
    """What validator 1.0.0 says of the rows."""
    called = [{**row, **{theirs: row[ours] for theirs, ours in VALIDATOR_1_0.items()}} for row in found]
    file = folder / "as-1.0.0-calls-it.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(called[0]))
        writer.writeheader()
        writer.writerows(called)
    command = [str(VALIDATOR), "-W", "ignore", "-m", "focus_validator.main", "--validate-version", "1.0"]
    packages = next(VALIDATOR.parents[1].glob("lib/python*/site-packages"))  # it looks for its currencies from there
    ended = subprocess.run(
        [*command, "--data-file", str(file)], cwd=packages, capture_output=True, text=True, check=True
    )
    return ended.stdout.strip()
