"""`arcadia export focus`: both sides of a month as FOCUS files that sum to the invoices, for people and validators.

Version 1.2 of the format is checked by `make focus`, with the official validator, over the sample year. Its version for
1.0 runs here, in the environment that `make test` makes for it.
"""

import csv
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pyarrow.parquet
import pytest

from arcadia_pipelines.billing import bill
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.settings import PROJECT
from arcadia_pipelines.storage import costs, database, focus, migrations
from arcadia_pipelines_tests import test_cli
from arcadia_pipelines_tests.test_cli import Call, refused
from arcadia_pipelines_tests.world import World, uid

arcadia = test_cli.arcadia

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


def exported(world: World, month: str, side: focus.Side, out: Path) -> Rows:
    """The month's side, exported to a CSV in the folder and read back."""
    file = out / f"{side}-{month}.csv"
    export(world, month, side, file)
    return rows(file)


def export(world: World, month: str, side: focus.Side, file: Path) -> focus.Exported:
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
        costs.store(connection, bill.read_csv(file.read_bytes(), file.name))
        costs.allocate(connection, BillingMonth.parse(month))


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


def test_the_pilots_april_is_four_rows(world: World, tmp_path: Path) -> None:
    """50.00 + 7.50 + 672 h x 0.01 = 6.72, GST 6.42: 70.64 in all, each with FOCUS's words and our ids."""
    world.pilot()
    world.publish(APRIL)
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
        ("plan/studio", "plan/studio/2026-01-01", "", ""),
        ("addon/storage_50gb", "addon/storage_50gb/2026-01-01", "", ""),
        ("overage/droplet_hours", "overage/droplet_hours/2026-01-01/1488/0.01", "2160.00", "1488.00"),
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
    revenue, cost = (exported(sample, APRIL, side, tmp_path) for side in focus.SIDES)
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
    for side in focus.SIDES:
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
            assert row["EffectiveCost"] == row["BilledCost"]


def test_a_correction_is_of_the_month_it_corrects(world: World, tmp_path: Path) -> None:
    """April is paid, then 100 h more come: May carries 1.00 as a Correction of April; too many, and it credits them."""
    world.pilot()
    world.publish(APRIL)
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    columns = ("BilledCost", "ChargeCategory", "ChargeClass", "ChargePeriodStart", "ChargePeriodEnd", "ChargeFrequency")
    april = ("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z")
    for more, corrects in ((100, "1.00"), (-300, "-2.00")):
        world.use("web", "droplet_hours", more)
        world.publish(APRIL)
        world.publish("2026-05")
        found = exported(world, "2026-05", "revenue", tmp_path)
        assert picked([row for row in found if row["ChargeClass"]], *columns) == [
            (corrects, "Adjustment", "Correction", *april, "One-Time")
        ]
    assert {row["BillingPeriodStart"] for row in found} == {"2026-05-01T00:00:00Z"}


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
    for side in focus.SIDES:
        as_csv, as_parquet = tmp_path / "month.csv", tmp_path / "month.PARQUET"
        export(world, APRIL, side, as_csv)
        export(world, APRIL, side, as_parquet)
        table = pyarrow.parquet.read_table(as_parquet)
        assert table.schema.equals(focus.schema(side))
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


def test_what_does_not_sum_up_is_refused_and_leaves_the_old_file(world: World, arcadia: Call, tmp_path: Path) -> None:
    """A line changed by hand, a bill that is not allocated: one clear line each; the file of before is as it was."""
    world.pilot()
    world.publish(APRIL)
    small_bill(world)
    for side in focus.SIDES:
        (tmp_path / f"{side}.csv").write_text("of before")
    world.tamper("update billing.tenant_invoice_lines set amount_cents = 673 where kind = 'overage'")
    world.tamper("delete from billing.cost_allocations where line_no = 2")
    for side, words in (("revenue", ("INV-202604-00001", "70.64", "70.65")), ("cost", ("the bill", "10.01", "9.51"))):
        refused(arcadia("export", "focus", APRIL, "--side", side, "--out", f"{side}.csv"), *words)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "revenue.csv": "of before",
        "cost.csv": "of before",
    }


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_full_disk_leaves_no_file(world: World, tmp_path: Path, ending: str) -> None:
    """As where there is no more room than 1,024 bytes a file: one line that says so, and the folder is empty."""
    world.pilot()
    world.publish(APRIL)
    out = tmp_path / "out"
    out.mkdir()
    program = Path(sys.executable).with_name("arcadia")
    ended = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {program} export focus {APRIL} --side revenue --out {out}/april.{ending}"],
        env=test_cli.surroundings(world.url, tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    refused(test_cli.Answer(ended.returncode, ended.stdout, ended.stderr), "cannot write", "File too large")
    assert list(out.iterdir()) == []


def test_an_error_of_the_database_half_way_leaves_no_file(world: World, arcadia: Call, tmp_path: Path) -> None:
    """A line whose correction is of no month: what PostgreSQL says, in one line."""
    world.pilot()
    world.publish(APRIL)
    world.tamper("""update billing.tenant_invoice_lines set meta = '{"corrects": "May"}' where kind = 'tax'""")
    refused(arcadia("export", "focus", APRIL, "--side", "revenue", "--out", "april.parquet"), "invalid input", "May")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote(sample: World, arcadia: Call, tmp_path: Path) -> None:
    """How many rows, what they sum to, and where."""
    sample.publish(APRIL)
    with_bill(sample, APRIL)
    answers = [arcadia("export", "focus", APRIL, "--side", side, "--out", f"{side}.csv") for side in focus.SIDES]
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


def test_a_folder_that_is_not_there_is_named(world: World, arcadia: Call) -> None:
    """It is not made."""
    world.pilot()
    world.publish(APRIL)
    answer = arcadia("export", "focus", APRIL, "--side", "revenue", "--out", "nowhere/april.csv")
    refused(answer, "nowhere/april.csv", "No such file or directory")


def test_the_validator_of_focus_1_0_passes_both_sides(sample: World, tmp_path: Path) -> None:
    """With five columns called as it calls them. It does check: a currency that there is not, it refuses."""
    assert VALIDATOR.exists(), f"make {VALIDATOR.parents[1].name}/.installed (make test does)"
    sample.publish(APRIL)
    with_bill(sample, APRIL)
    for side in focus.SIDES:
        found = exported(sample, APRIL, side, tmp_path)
        assert validated(found, tmp_path) == "Validation succeeded."
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
