"""`arcadia` as people and programs call it, on a foreign server: what it answers, and what it refuses in one line.

Most calls run the console script's own main() in this process; where a process is what is tested, there is one.
"""

import datetime as dt
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import click
import psycopg
import pytest
from sqlalchemy import NullPool, create_engine

from arcadia_pipelines.billing.reconcile import ACTIONS
from arcadia_pipelines.cli import main as cli
from arcadia_pipelines.cli.overview import SECTIONS
from arcadia_pipelines.settings import canonical, dagster_url
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests.command_line import CLOSED, INVOICE_KEYS, Call, contents, refused, start
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.world import World, uid

# Invoicing.


_FEW_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.long
def test_a_month_is_invoiced_by_a_dagster_run_on_postgresql(world: World, process: Call, tmp_path: Path) -> None:
    """The command's answer, the invoice, and the run with its materialisations and checks in schema dagster agree.

    Also in a process that has neither assertions nor docstrings, and may open no more than 64 files.
    """
    world.pilot()
    arcadia = str(Path(sys.executable).with_name("arcadia"))
    outcome = process("python", "-c", _FEW_FILES, arcadia, "invoice", "2026-04", "--json", PYTHONOPTIMIZE="2").json()
    run_id = outcome.pop("run_id")
    missing = outcome.pop("failed_checks")  # January to March, which this world does not invoice
    assert {name: check["found"] for name, check in missing.items()} == {"every_month_before_is_invoiced": 3}
    assert outcome == {
        "month": "2026-04",
        "actions": {**dict.fromkeys(ACTIONS, 0), "add": 1},
        "subtotal_cents": 6422,
        "tax_cents": 642,
        "total_cents": 7064,
    }
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.query("select run_id from billing.tenant_invoices") == [(run_id,)]

    assert world.query("select run_id, status, partition from dagster.runs") == [(run_id, "SUCCESS", "2026-04-01")]
    events = "select asset_key, partition from dagster.event_logs where run_id = %s and dagster_event_type = %s"
    assert set(world.query(events, run_id, "ASSET_MATERIALIZATION")) == {
        (f'["{asset}"]', "2026-04-01")
        for asset in ("metered_usage", "deployment_quotes", "tenant_invoice_lines", "tenant_invoices")
    }
    checks = dict(world.query("select check_name, execution_status from dagster.asset_check_executions"))
    assert checks.pop("every_month_before_is_invoiced") == "FAILED"
    assert checks["usage_is_conserved"] == checks["every_billable_tenant_is_invoiced"] == "SUCCEEDED"
    assert set(checks.values()) == {"SUCCEEDED"}
    assert not (tmp_path / "home").exists()  # the embedded server stays out of it


@pytest.mark.long
def test_a_second_time_nothing_changes_and_a_table_says_so(world: World, arcadia: Call) -> None:
    """The force path: one invoice, unchanged, and the month's sums; who is held back is no error, and said below."""
    world.pilot()
    world.tenant("late")
    world.plan("bespoke")
    world.deployment("late", "late-web", "bespoke")
    world.publish("2026-04")
    rows = "select xmin::text, to_jsonb(i)::text from billing.tenant_invoices i"
    before = world.query(rows)
    answer = arcadia("invoice", "2026-04")
    assert (answer.code, answer.err) == (0, "")
    [row] = [line for line in answer.out.splitlines() if "│ 2026-04 │" in line]
    assert re.findall(r"[\d.,-]+", row) == ["2026-04", "1", "0", "0", "1", "64.22", "6.42", "70.64"]
    [below] = [line for line in answer.out.splitlines() if "no_tenant_is_held_back" in line]
    assert "2026-04" in below
    assert "Mend what `detail` says" in below
    assert world.query(rows) == before
    refused(arcadia("show", "late", "2026-04"), "'late' has no invoice in 2026-04", "held back (see quote_faults)")


@pytest.mark.long
def test_the_command_that_dagsters_users_type_materialises_a_month(world: World, process: Call) -> None:
    """`dagster asset materialize` with the project's dagster.yaml: PostgreSQL storage, the same invoice."""
    world.pilot()
    names = "metered_usage,deployment_quotes,tenant_invoice_lines,tenant_invoices"
    answer = process(
        "dagster", "asset", "materialize", "-m", "arcadia_pipelines.definitions", "--select", names,
        "--partition", "2026-04-01",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.query("select pipeline_name, status, partition from dagster.runs") == [
        ("__ASSET_JOB", "SUCCESS", "2026-04-01")
    ]
    events = "select count(*) from dagster.event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    assert world.query(events) == [(4,)]


# Showing and quoting.

LINE_KEYS = [
    "kind",
    "resource_kind",
    "description",
    "qty",
    "unit",
    "unit_price_cents",
    "price_per",
    "amount_cents",
    "deployment_id",
    "meta",
]
SINCE = {"effective_from": "2026-01-01"}
PER_ONE = "1.000000"
PILOT_LINES: list[list[object]] = [
    ["plan_base", None, "Plan: studio", "1.000000", "month", "5000.00000000", PER_ONE, 5000, str(uid("web")), SINCE],
    ["addon", None, "Addon: storage_50gb", "1.000000", "month", "750.00000000", PER_ONE, 750, str(uid("web")), SINCE],
    [
        "overage",
        "droplet_hours",
        "Overage: droplet_hours",
        "672.000000",
        "hour",
        "1.00000000",
        PER_ONE,
        672,
        str(uid("web")),
        {**SINCE, "used": "2160.000000", "included": "1488.000000"},
    ],
    [
        "tax",
        None,
        "GST 10%",
        "1.000000",
        None,
        "642.00000000",
        PER_ONE,
        642,
        None,
        {"rate": "0.10", "taxable_cents": 6422},
    ],
]
QUOTE = ("quote", "--plan", "studio", "--addon", "storage_50gb", "--usage", "droplet_hours=2160", "--month", "2026-04")


@pytest.mark.usefixtures("pilots_april")
def test_show_json_is_the_contracts(world: World, arcadia: Call) -> None:
    """The invoice's columns and its lines: decimals are strings, cents are integers, instants carry their zone."""
    shown = arcadia("show", "pilot", "2026-04", "--json").json()
    assert shown.keys() == INVOICE_KEYS
    assert [list(line) for line in shown["lines"]] == [LINE_KEYS] * 4
    assert [list(line.values()) for line in shown["lines"]] == PILOT_LINES
    assert [shown[f"{sum_}_cents"] for sum_ in ("subtotal", "tax", "total")] == [6422, 642, 7064]
    plain = {
        "currency": "AUD",
        "tenant_id": "pilot",
        "status": "issued",
        "revision": 1,
        "period_start": "2026-04-01",
        "period_end": "2026-05-01",
        "invoice_number": "INV-202604-00001",
        "paid_at": None,
        "meta": {"tenant_name": "Pilot"},
    }
    assert {name: shown[name] for name in plain} == plain
    for name in ("issued_at", "inserted_at", "updated_at", "usage_cutoff"):
        assert dt.datetime.fromisoformat(shown[name]).utcoffset() == dt.timedelta(0)


def test_a_quote_is_the_invoice_of_the_same_usage(world: World, arcadia: Call) -> None:
    """50.00 + 7.50 + 6.72 = 64.22; GST 6.42; total 70.64: the invoice's lines, but for the deployment's id."""
    world.pilot()
    quoted = arcadia(*QUOTE, "--json").json()
    assert [list(line.values()) for line in quoted.pop("lines")] == [
        [None if value == str(uid("web")) else value for value in line] for line in PILOT_LINES
    ]
    assert quoted == {"currency": "AUD", "subtotal_cents": 6422, "tax_cents": 642, "total_cents": 7064}


def test_usage_and_addons_given_twice_add_up(world: World, arcadia: Call) -> None:
    """2 x 7.50 on one line; 1000 + 1160.000001 h is 672.000001 h over, which is 6.72 still."""
    world.pilot()
    twice = ("--addon", "storage_50gb", "--usage", "droplet_hours=1000", "--usage", "droplet_hours=1160.000001")
    quoted = arcadia("quote", "--plan", "studio", "--addon", "storage_50gb", *twice, "--json", "--month=2026-04").json()
    assert [(line["description"], line["qty"], line["amount_cents"]) for line in quoted["lines"]] == [
        ("Plan: studio", "1.000000", 5000),
        ("Addon: storage_50gb", "2.000000", 1500),
        ("Overage: droplet_hours", "672.000001", 672),
        ("GST 10%", "1.000000", 717),  # 71.72 x 10 % = 7.172
    ]


def test_a_quote_without_a_month_is_at_todays_prices(world: World, arcadia: Call) -> None:
    """A plan whose price is long in effect and one that is far from it."""
    world.plan("studio", 5000)
    world.plan("studio", 9900, since="9000-01-01")
    assert arcadia("quote", "--plan", "studio", "--json").json()["total_cents"] == 5500
    later = arcadia("quote", "--plan", "studio", "--month", "9000-01", "--json").json()
    assert later["total_cents"] == 10890


@pytest.mark.usefixtures("pilots_april")
def test_people_see_a_table(world: World, arcadia: Call) -> None:
    """Dollars and cents, GST and total, of a quote and of the invoice: the same rows."""
    quoted, shown = arcadia(*QUOTE), arcadia("show", "pilot", "2026-04")
    assert (quoted.code, quoted.err) == (shown.code, shown.err) == (0, "")
    expected = [
        ("Plan: studio", "1 month", "$50.00", "50.00"),
        ("Addon: storage_50gb", "1 month", "$7.50", "7.50"),
        ("Overage: droplet_hours", "672 hour", "$0.01", "6.72"),
    ]
    for answer in (quoted, shown):
        cells = [[cell.strip() for cell in line.split("│")[2:-1]] for line in answer.out.splitlines() if "│" in line]
        assert [tuple(row) for row in cells[:3]] == expected
        sums = {name: amount for name, *_, amount in cells[3:]}
        assert (sums["Subtotal"], sums["GST 10%"], sums["Total"]) == ("64.22", "6.42", "70.64")
    assert "at the prices of 2026-04" in quoted.out
    assert "Tax invoice INV-202604-00001 for Pilot" in shown.out
    assert "April 2026 (UTC), issued" in shown.out


def test_a_gst_free_invoice_says_why(world: World, arcadia: Call) -> None:
    """No tax line, and the reason below the table."""
    world.tenant("export", gst_free_reason="Exported services, GST Act s 38-190")
    world.plan("studio", 5000)
    world.deployment("export", "web", "studio")
    world.publish("2026-04")
    answer = arcadia("show", "export", "2026-04")
    assert "GST-free: Exported services, GST Act s 38-190" in answer.out
    assert "GST 10%" not in answer.out


def test_names_are_shown_as_they_are(world: World, arcadia: Call) -> None:
    """Square brackets in a tenant's or deployment's name are part of the name."""
    names = ["[prod] web", "[/]", "[bold]web", "O'Brien & Söhne 👩‍🚀", "100 %s {x}"]
    world.plan("studio", 5000)
    for number, name in enumerate(names):
        world.tenant(f"tenant-{number}")
        world.deployment(f"tenant-{number}", name, "studio")
        world.query("update cloud.tenants set name = %s where id = %s", name, f"tenant-{number}")
    world.publish("2026-04")
    for number, name in enumerate(names):
        answer = arcadia("show", f"tenant-{number}", "2026-04")
        assert (answer.code, answer.err) == (0, "")
        assert f"Tax invoice INV-202604-0000{number + 1} for {name}\n" in answer.out
        assert f"│ {name} " in answer.out


TITLE, CSI, LINK = "\x1b]0;owned\x07", "\x9b31m", "\x1b]8;;http://evil.example\x1b\\pay\x1b]8;;\x1b\\"
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal does something at, or reads the other way round."""


@pytest.mark.long
def test_what_a_terminal_obeys_in_a_name_is_shown_and_not_run(world: World, arcadia: Call) -> None:
    """By every command that says names, in tables, sentences and errors; in JSON it is escaped, and the same name."""
    plan, addon, name = f"studio{TITLE}", f"disk{CSI}", f"A{TITLE}{CSI}{LINK}\u202eevil\r\nTotal 0.00 :smile:"
    world.plan(plan, 5000, {"droplet_hours": (0, 1)})
    world.addon(addon, 750)
    world.tenant("pilot")
    world.query("update cloud.tenants set name = %s", name)
    world.deployment("pilot", f"web{LINK}", plan, [addon])
    world.query("insert into cloud.cloud_deployments values (%s, 'pilot', %s)", uid("idle"), f"idle{TITLE}")
    world.use(f"web{LINK}", "droplet_hours", 100)
    world.use("idle", f"gold{CSI}", 1)
    assert arcadia("invoice", "2026-04").code == 0
    world.use(f"web{LINK}", "droplet_hours", 900)
    assert arcadia("invoice", "2026-04").code == 0
    calls = [
        ("show", "pilot", "2026-04"),
        ("quote", "--plan", plan, "--addon", addon, "--month", "2026-04"),
        ("explain", "INV-202604-00001"),
        ("diff", "pilot", "2026-04"),
        ("audit", "2026-04"),
        ("replay", "2026-04"),
        ("costs", "show", "2026-04"),
    ]
    said = {call: arcadia(*call, COLUMNS="400") for call in calls}
    for call, answer in said.items():
        assert (answer.code, answer.err) == (0, ""), call
    said |= {
        call: arcadia(*call) for call in [("quote", "--plan", f"x{LINK}"), (f"nope{TITLE}",), ("show", CSI, "2026-04")]
    }
    assert [call for call, answer in said.items() if OBEYED.search(answer.out + answer.err)] == []
    assert r"for A\u001b]0;owned\u0007\u009b31m\u001b]8;;" in said[calls[0]].out
    assert r"\u202eevil\u000d\nTotal 0.00" in said[calls[0]].out
    assert ":smile:" in said[calls[0]].out
    assert r"Plan: studio\u001b]0;owned\u0007" in said[calls[1]].out
    assert r"there is studio\u001b]0;owned" in said["quote", "--plan", f"x{LINK}"].err
    shown = arcadia("show", "pilot", "2026-04", "--json")
    assert not OBEYED.search(shown.out)
    assert (shown.json()["meta"]["tenant_name"], shown.json()["lines"][1]["description"]) == (name, f"Addon: {addon}")


# Proof.


def test_a_month_is_proved_twice_and_nothing_is_written(world: World, arcadia: Call) -> None:
    """The audits' table, the replay's sentence, and their JSON; the months audited unless one is given."""
    world.pilot()
    for month in ("2026-03", "2026-04"):
        world.publish(month)
    before = contents(world.url)
    audited = arcadia("audit", "2026-04")
    assert (audited.code, audited.err) == (0, "")
    assert audited.out.startswith("Audit of 2026-04")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in audited.out.splitlines() if "│" in line]
    assert ["usage_equals_raw_records", "90 usage records", "0"] in rows
    assert ["lines_follow_from_usage_and_prices", "3 supply lines", "0"] in rows
    assert ["content_hash_is_of_the_lines", "1 hash", "0"] in rows
    assert "not compared" not in audited.out
    everything = arcadia("audit")
    assert everything.out.startswith("Audit of 2026-03 to 2026-04")
    assert "5 supply lines" in everything.out
    months = arcadia("audit", "--json").json()["months"]
    assert [(month["month"], month["differences"]) for month in months] == [("2026-03", 0), ("2026-04", 0)]
    assert arcadia("replay", "2026-04") == (0, "1 invoice rebuilt from frozen usage: all identical\n", "")
    replayed = arcadia("replay", "2026-04", "--json").json()
    assert (replayed["month"], replayed["identical"], replayed["first"]) == ("2026-04", 1, None)
    assert contents(world.url) == before


@pytest.mark.usefixtures("pilots_april")
def test_a_month_that_is_not_as_it_must_be_ends_with_1_and_names_the_rows(world: World, arcadia: Call) -> None:
    """The pilot's 672 h were made 673 h by hand: what, where, both sides, and what to do."""
    world.tamper("update billing.tenant_invoice_lines set qty = 673 where qty = 672")
    answer = arcadia("audit", "2026-04")
    assert answer.code == 1
    assert answer.err == "arcadia: 5 differences in 2026-04: see the rows named above, and what to do\n"
    [row] = [line for line in answer.out.splitlines() if "found different" in line and "owed_qty 672" in line][1:]
    assert "invoice_number INV-202604-00001, tenant_id pilot" in row
    assert "standing_qty 673.000000, owed_qty 672.000000" in row
    assert "2026-04 content_hash_is_of_the_lines: 1 found" in answer.out
    document = json.loads(arcadia("audit", "2026-04", "--json").out)["months"][0]
    [lines] = [one for one in document["audits"] if one["audit"] == "lines_multiply_out"]
    assert (lines["differences"], lines["rows"][0]["qty"], lines["rows"][0]["amount_cents"]) == (1, "673.000000", 672)


def test_a_replay_names_the_first_difference_and_counts_the_others(world: World, arcadia: Call) -> None:
    """Acme's plan costs 50.00 and would cost 51.00, and so does the pilot's; then only the frozen usage differs."""
    world.pilot()
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    world.publish("2026-04")
    world.query("update cloud.plan_prices set base_price_cents = 5100")
    answer = arcadia("replay", "2026-04")
    assert (answer.code, answer.out) == (1, "2 invoices rebuilt from frozen usage: different: 2\n")
    assert answer.err == (
        "arcadia: 2026-04 is not as rebuilt: INV-202604-00001 of tenant acme, line 1: standing Plan: studio,"
        " 1 month x $50.00 = 50.00; rebuilt Plan: studio, 1 month x $51.00 = 51.00; others that differ: 1\n"
    )
    world.query("update cloud.plan_prices set base_price_cents = 5000, effective_from = '2026-02-01'")
    assert "standing {'effective_from': '2026-01-01'}; rebuilt {'effective_from': '2026-02-01'}" in (
        arcadia("replay", "2026-04").err
    )
    world.query("update cloud.plan_prices set effective_from = '2026-01-01'")
    world.query("update cloud.tenants set gst_free_reason = 'exports' where id = 'acme'")
    world.tamper("update billing.tenant_invoices set status = 'draft' where tenant_id = 'acme'")
    assert "line 2: standing GST 10%, 1 x $5.00 = 5.00; rebuilt none" in arcadia("replay", "2026-04").err
    world.query("update cloud.tenants set gst_free_reason = null")
    world.query("update billing.tenant_invoices set status = 'void' where tenant_id = 'acme'")
    world.query("update cloud.subscriptions set status = 'pending' where tenant_id = 'pilot'")
    answer = arcadia("replay", "2026-04")
    assert answer.err == (
        "arcadia: 2026-04 is not as rebuilt: INV-202604-00002 of tenant pilot stands, and would not be there\n"
    )
    assert "left out: 1 void invoice\n" in answer.out
    document = json.loads(arcadia("replay", "2026-04", "--json").out)
    assert (document["first"]["tenant_id"], document["first"]["rebuilt_sha256"]) == ("pilot", None)


# Calls that are refused: one line, and nothing written.


@pytest.fixture(scope="module")
def shop(server_url: str, migrated: str) -> Iterator[str]:
    """The URL of a database with the pilot's tenant and plan, for calls that must change nothing."""
    with copy_of(server_url, migrated) as url:
        World(url).pilot()
        yield url


BAD_CALLS = [
    (("invoice", "April"), ["'April' is not a month: write it like 2026-04"]),
    (("invoice", "2026-13"), ["'2026-13' is not a month"]),
    (("invoice", "2026-04-02"), ["'2026-04-02' is not a month"]),
    (("invoice", "26-4"), ["'26-4' is not a month"]),
    (("invoice", ""), ["'' is not a month"]),
    (("invoice",), ["MONTH"]),
    (("invoice", "2026-04", "2026-05"), ["2026-05"]),
    (("show", "pilot", "April"), ["'April' is not a month"]),
    (("show", "pilot"), ["MONTH"]),
    (("show", "pilot", "2026-04"), ["2026-04 is not invoiced yet: run `arcadia invoice 2026-04`"]),
    (("audit", "2026-04"), ["2026-04 is not invoiced yet: run `arcadia invoice 2026-04`"]),
    (("audit",), ["no month is invoiced yet"]),
    (("audit", "April"), ["'April' is not a month"]),
    (("replay", "2026-04"), ["2026-04 is not invoiced yet: run `arcadia invoice 2026-04`"]),
    (("replay",), ["MONTH"]),
    (("show", "nobody", "2026-04", "--json"), ["no tenant 'nobody'"]),
    (("show", "", "2026-04"), ["no tenant ''"]),
    (("show", "' or true --", "2026-04"), ["no tenant"]),
    (("quote",), ["--plan"]),
    (("quote", "--plan", "nope", "--month", "2026-04"), ["no plan 'nope' with a price in 2026-04: there is studio"]),
    (("quote", "--plan", "studio", "--month", "2025-12"), ["no plan 'studio' with a price in 2025-12: there is none"]),
    (("quote", "--plan", "studio", "--addon", "nope", "--json"), ["no addon 'nope'", "there is storage_50gb"]),
    (("quote", "--plan", "studio", "--month", "soon"), ["'soon' is not a month"]),
    (("quote", "--plan", "studio", "--usage", "gold=1"), ["no rate for 'gold'", "it has droplet_hours"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours"), ["write it like droplet_hours=2160"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours="), ["write it like droplet_hours=2160"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=many"), ["write it like droplet_hours=2160"]),
    (("quote", "--plan", "studio", "--usage", "=5"), ["write it like droplet_hours=2160"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=NaN"), ["a number from 0 to below 1e12"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=Infinity"), ["a number from 0 to below 1e12"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=1e12"), ["a number from 0 to below 1e12"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=1e999999"), ["a number from 0 to below 1e12"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=-1"), ["a number from 0 to below 1e12"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=0.1234567"), ["at most 6 decimals"]),
    (("quote", "--plan", "studio", "--usage", "droplet_hours=1e-999999"), ["at most 6 decimals"]),
    (("quote", "--plan", "studio", *["--usage", "droplet_hours=9e11"] * 2), ["droplet_hours sums to 1e12 or more"]),
    (("nope",), ["'nope'", "--help"]),
    (("db", "nope"), ["'nope'", "arcadia db --help"]),
    (("invoice", "2026-04", "--nope"), ["--nope", "arcadia invoice --help"]),
]


@pytest.mark.parametrize(
    ("call", "words"), BAD_CALLS, ids=lambda value: repr(" ".join(value)) if isinstance(value, tuple) else ""
)
def test_a_bad_call_gets_one_line_and_changes_nothing(
    arcadia: Call, shop: str, call: tuple[str, ...], words: list[str]
) -> None:
    """Whatever is wrong with it: not a table more, not a row changed."""
    before = contents(shop)
    refused(arcadia(*call, ARCADIA_DATABASE_URL=shop), *words)
    assert contents(shop) == before


def test_amounts_past_64_bits_are_not_quoted(world: World, arcadia: Call) -> None:
    """999,999,999,999 x 9,999,999,999 c is 1e22 c."""
    world.plan("precious", 0, {"gold_grams": (0, "9999999999")})
    answer = arcadia("quote", "--plan", "precious", "--usage", "gold_grams=999999999999", "--month", "2026-04")
    refused(answer, "64 bits")


NEXT_MONTH = f"{dt.datetime.now(dt.UTC).date().replace(day=1) + dt.timedelta(days=31):%Y-%m}"
"""Not over while the tests run, whenever that is."""


@pytest.mark.parametrize(
    "call",
    [
        ("show", "pilot"),
        ("diff", "pilot"),
        ("audit",),
        ("replay",),
        ("export", "focus", "--side", "revenue", "--out", "f.csv"),
    ],
    ids=" ".join,
)
def test_a_month_that_has_no_invoices_yet_says_when_it_will(arcadia: Call, shop: str, call: tuple[str, ...]) -> None:
    """On the 1st after it, at 03:00 UTC; one before the first billing month never."""
    year, month = map(int, NEXT_MONTH.split("-"))
    then = f"{year + month // 12}-{month % 12 + 1:02d}-01 at 03:00 UTC"
    answer = arcadia(*call, NEXT_MONTH, ARCADIA_DATABASE_URL=shop)
    refused(answer, f"{NEXT_MONTH} is not over: it will be invoiced on {then}")
    refused(arcadia(*call, "2025-12", ARCADIA_DATABASE_URL=shop), "never invoiced: the first billing month is 2026-01")


@pytest.mark.parametrize("month", ["2025-12", NEXT_MONTH], ids=["before the first", "not over"])
def test_a_month_that_is_none_to_invoice_is_refused_before_anything_is_written(
    world: World, arcadia: Call, month: str
) -> None:
    """Not an invoice, not a run, not even the tables that Dagster keeps its runs in."""
    before = contents(world.url)
    refused(arcadia("invoice", month), f"{month} cannot be invoiced", "first billing month is 2026-01", "that is over")
    assert contents(world.url) == before


@pytest.mark.parametrize(
    "call", [("show", "pilot", "2026-04"), ("quote", "--plan", "studio"), ("db", "migrate"), ("demo",)], ids=" ".join
)
def test_a_database_that_is_down_is_one_line(arcadia: Call, call: tuple[str, ...]) -> None:
    """With where it should be and what to look at."""
    refused(arcadia(*call, ARCADIA_DATABASE_URL=CLOSED), "127.0.0.1:1/closed", "ARCADIA_DATABASE_URL")


@pytest.mark.long
def test_invoicing_in_a_database_that_is_down_is_one_line(process: Call) -> None:
    """Dagster, whose storage is there too, adds no line of its own."""
    refused(process("arcadia", "invoice", "2026-04", ARCADIA_DATABASE_URL=CLOSED), "127.0.0.1:1/closed")


@pytest.mark.parametrize("call", [("show", "pilot", "2026-04"), ("quote", "--plan", "studio")], ids=["show", "quote"])
def test_a_database_without_the_schema_is_one_line(arcadia: Call, empty_url: str, call: tuple[str, ...]) -> None:
    """With the command that makes it."""
    refused(arcadia(*call, ARCADIA_DATABASE_URL=empty_url), "run `arcadia db migrate`")
    assert contents(empty_url) == {}


@pytest.mark.long
def test_invoicing_in_a_database_without_the_schema_is_one_line(process: Call, empty_url: str) -> None:
    """As for people: no names of modules and classes."""
    refused(process("arcadia", "invoice", "2026-04", ARCADIA_DATABASE_URL=empty_url), "run `arcadia db migrate`")


def test_invoicing_in_a_database_without_the_schema_makes_nothing_in_it(arcadia: Call, empty_url: str) -> None:
    """It may be somebody else's: not a table is made before `arcadia db migrate` is asked for."""
    assert arcadia("invoice", "2026-04", ARCADIA_DATABASE_URL=empty_url).code == 1
    assert contents(empty_url) == {}


@pytest.mark.parametrize(
    "call", [("db", "url"), ("show", "pilot", "2026-04"), ("invoice", "2026-04"), ("demo",)], ids=" ".join
)
@pytest.mark.parametrize("url", ["mysql://ada:secret@db/books", "books", "postgresql://ada:secret@db:port/books"])
def test_a_wrong_url_is_one_line_without_its_password(arcadia: Call, call: tuple[str, ...], url: str) -> None:
    """It names the variable and shows how to write it."""
    answer = arcadia(*call, ARCADIA_DATABASE_URL=url)
    refused(answer, "ARCADIA_DATABASE_URL", "postgresql://user:password@host")
    assert "secret" not in answer.err


@pytest.mark.long
def test_a_first_month_that_is_none_is_one_line(arcadia: Call, process: Call) -> None:
    """Also where Dagster's partitions are made of it, at import."""
    for answer in (
        arcadia("show", "pilot", "2026-04", ARCADIA_FIRST_MONTH="soon"),
        process("arcadia", "invoice", "2026-04", ARCADIA_FIRST_MONTH="soon"),
    ):
        refused(answer, "ARCADIA_FIRST_MONTH", "'soon' is not a month: write it like 2026-04")


def test_a_misspelt_variable_is_one_line(arcadia: Call) -> None:
    """Without the line, another database would be used, or another month be the first."""
    for call in (("db", "url"), ("show", "pilot", "2026-04"), ("invoice", "2026-04")):
        refused(
            arcadia(*call, ARCADIA_DATABASE="x"), "ARCADIA_DATABASE is not a variable", "mean ARCADIA_DATABASE_URL?"
        )


@pytest.mark.long
def test_a_first_month_that_is_still_to_come_is_named(process: Call) -> None:
    """There is no month to invoice yet, and the line says from when there will be."""
    answer = process("arcadia", "invoice", "2026-04", ARCADIA_FIRST_MONTH="9000-01")
    refused(answer, "2026-04 cannot be invoiced", "9000-01")
    assert "None" not in answer.err


@pytest.mark.long
def test_the_demo_refuses_a_database_with_tenants_of_its_own(world: World, arcadia: Call) -> None:
    """Made-up tenants have no place among real ones; nothing is written."""
    world.tenant("real")
    assert arcadia("db", "migrate").code == 0  # the demo migrates first, which makes Dagster's tables
    before = contents(world.url)
    refused(arcadia("demo"), "tenants of its own", "use an empty one")
    assert contents(world.url) == before


# The database.


@pytest.mark.long
def test_db_migrate_and_up_say_what_they_did(empty_url: str, arcadia: Call, tmp_path: Path) -> None:
    """On a server of one's own, in whichever spelling: each file once, then nothing, and no embedded server."""
    spelled = empty_url.replace("postgresql://", "postgres://")
    files = sorted(file.name for file in (migrations.SQL / "migrations").glob("*.sql"))
    first = arcadia("db", "migrate", ARCADIA_DATABASE_URL=spelled)
    assert first == (0, "".join(f"applied {name}\n" for name in files), "")
    assert arcadia("db", "migrate", ARCADIA_DATABASE_URL=spelled) == (0, "the schema is up to date\n", "")
    up = arcadia("db", "up", ARCADIA_DATABASE_URL=spelled)
    assert (up.code, up.err) == (0, "")
    assert up.out.startswith("the database of ARCADIA_DATABASE_URL is up")
    assert arcadia("db", "url", ARCADIA_DATABASE_URL=spelled) == (0, f"{empty_url}\n", "")
    assert not (tmp_path / "home").exists()


def test_the_embedded_servers_url_is_one_that_every_client_understands(arcadia: Call, server_url: str) -> None:
    """Clients older than libpq 16 know no require_auth, which our own connections have."""
    answer = arcadia("db", "url", ARCADIA_DATABASE_URL="", ARCADIA_HOME=os.environ["TEST_HOME_OF_ARCADIA"])
    assert answer == (0, f"{server_url.partition('?')[0]}\n", "")


@pytest.mark.long
def test_db_migrate_says_on_stderr_what_a_superuser_has_to_do(empty_url: str, migrated: str, arcadia: Call) -> None:
    """The owner of the database is no member of the pipeline's role: the release goes through, and says so once."""
    server = World(empty_url)
    server.query("create role owner_of_books login password 'pw'")
    server.query(f"alter database {empty_url.rpartition('/')[2]} owner to owner_of_books")
    answer = arcadia(
        "db", "migrate", ARCADIA_DATABASE_URL=f"postgresql://owner_of_books:pw@{empty_url.rpartition('@')[2]}"
    )
    server.query(f"alter database {empty_url.rpartition('/')[2]} owner to current_user")
    server.query("drop owned by owner_of_books cascade")
    server.query("drop role owner_of_books")
    assert answer.code == 0
    assert "applied 0006_roles.sql\n" in answer.out
    lines = answer.err.splitlines()
    assert {line[:9] for line in lines} == {"warning: "}
    [pipeline] = [line for line in lines if "the pipeline has no role" in line]
    assert "as a superuser: create role arcadia_pipeline; grant arcadia_pipeline to owner_of_books; then," in pipeline


def test_db_down_leaves_a_foreign_server_alone(world: World, arcadia: Call) -> None:
    """Only the embedded one is ours to stop, and here is none."""
    assert arcadia("db", "down") == (0, "the embedded database was not running\n", "")
    assert world.query("select 1") == [(1,)]


@pytest.mark.long
def test_psql_opens_the_database(world: World, process: Call) -> None:
    """With psql's own arguments, and bare names."""
    world.tenant("pilot")
    answer = process("arcadia", "db", "psql", "-At", "-c", "select id from tenants")
    assert answer == (0, "pilot\n", "")


@pytest.mark.long
def test_several_hosts_options_spaces_and_per_cent_signs_in_the_url_reach_psql_and_the_engines(
    server_url: str, process: Call
) -> None:
    """The first host is not there, the second has the database; the password is not in psql's call."""
    server, name = urlsplit(server_url), "100% of my books"
    user, _, place = server.netloc.rpartition("@")
    url = f"postgres://{user}@127.0.0.1:1,{place}/{quote(name)}?options=-cstatement_timeout%3D5s -clock_timeout=4s"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"'.encode())
    try:
        asked = "select current_database(), current_setting('statement_timeout'), current_setting('lock_timeout')"
        answer = process(
            "arcadia", "db", "psql", "-At", "-c", asked, "-c", r"\! cat /proc/$PPID/cmdline", ARCADIA_DATABASE_URL=url
        )
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.startswith(f"{name}|5s|4s\n")
        assert "host=127.0.0.1,127.0.0.1" in answer.out
        assert str(server.password) not in answer.out
        given = canonical(url)
        for engine in (database.engine(given), create_engine(dagster_url(given), poolclass=NullPool)):
            with engine.connect() as opened:
                assert opened.exec_driver_sql(asked).one() == (name, "5s", "4s")
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'drop database "{name}" with (force)'.encode())


@pytest.mark.long
def test_two_processes_that_migrate_at_once_apply_each_file_once(empty_url: str, tmp_path: Path) -> None:
    """As two containers do that start together."""
    both = [start("arcadia", "db", "migrate", url=empty_url, folder=tmp_path) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [err for _, err in answers] == ["", ""]
    applied = [name for out, _ in answers for name in re.findall(r"applied (\S+)", out)]
    assert sorted(applied) == sorted(file.name for file in (migrations.SQL / "migrations").glob("*.sql"))


def test_an_edited_migration_is_one_line(world: World, arcadia: Call) -> None:
    """It names the file and says where the change belongs."""
    world.query("update billing.schema_migrations set sha256 = 'another' where name = '0001_cloud.sql'")
    refused(arcadia("db", "migrate"), "sql/migrations/0001_cloud.sql was edited", "a new file")


# Help.


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The command's and all its subcommands' words."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [path, *(words for name, child in below for words in commands(child, (*path, name)))]


def test_the_commands_are_the_contracts() -> None:
    """Those that others rely on are there."""
    assert {" ".join(words) for words in commands(cli.arcadia)} >= {
        "db up",
        "db down",
        "db migrate",
        "db url",
        "db psql",
        "audit",
        "costs fetch",
        "costs import",
        "costs rate",
        "costs rates",
        "costs show",
        "demo",
        "export focus",
        "invoice",
        "quote",
        "replay",
        "show",
    }


@pytest.mark.parametrize("words", commands(cli.arcadia), ids=lambda words: " ".join(words) or "arcadia")
def test_every_command_has_help(arcadia: Call, words: tuple[str, ...]) -> None:
    """-h and --help say the same, what the command does included, without a database."""
    long, short = (arcadia(*words, option, ARCADIA_DATABASE_URL=CLOSED) for option in ("--help", "-h"))
    assert long == short
    assert (long.code, long.err) == (0, "")
    assert long.out.startswith(f"Usage: {' '.join(('arcadia', *words))} ")
    about, _, _ = long.out.partition("\n\n")[2].partition("\n\n")
    assert about.strip()


@pytest.mark.parametrize("words", [(), ("db",), ("costs",)], ids=["arcadia", "db", "costs"])
def test_what_is_called_bare_prints_its_help(arcadia: Call, words: tuple[str, ...]) -> None:
    assert arcadia(*words) == arcadia(*words, "--help")


def test_the_overview_has_each_command_in_one_section_on_one_line(arcadia: Call) -> None:
    """Also where the terminal is 80 characters wide."""
    listed = [name for summaries in SECTIONS.values() for name in summaries]
    assert sorted(listed) == sorted(cli.arcadia.commands)
    lines = arcadia("--help", COLUMNS="80").out.splitlines()
    for summaries in SECTIONS.values():
        for name, summary in summaries.items():
            assert any(line.startswith(f"  {name} ") and line.endswith(summary) for line in lines)


@pytest.mark.long
def test_the_installed_script_says_its_version(process: Call) -> None:
    """The console script is there, and needs no database to say what it is."""
    answer = process("arcadia", "--version", ARCADIA_DATABASE_URL=CLOSED)
    assert (answer.code, answer.err) == (0, "")
    assert re.fullmatch(r"arcadia, version \d+\.\d+\.\d+\n", answer.out)


# Operators

ADA = ("--operator", "ada", "--reason", "wrong tenant")


@pytest.mark.long
@pytest.mark.usefixtures("pilots_april")
def test_an_invoice_is_voided_on_the_command_line_once_the_dry_run_says_what_it_would_do(
    world: World, arcadia: Call
) -> None:
    """The dry run names the invoice and how to go on; the real one is a run of the job, with an observation."""
    tried = arcadia("void-invoice", "INV-202604-00001", *ADA)
    assert tried.code == 0
    assert "dry run, nothing is written: 1 invoice would be void, $70.64 with GST, of 2026-04" in tried.out
    assert "--no-dry-run does it." in tried.out
    assert "70.64" in tried.out
    assert "finance_invoice_id" not in tried.out  # it has none
    assert world.invoices("2026-04")["pilot"][0] == "issued"
    done = arcadia("void-invoice", "INV-202604-00001", *ADA, "--no-dry-run", "--json").json()
    assert done["summary"] == "1 invoice void now, $70.64 with GST, of 2026-04"
    assert [row["invoice_number"] for row in done["changed"]] == ["INV-202604-00001"]
    assert world.invoices("2026-04")["pilot"][0] == "void"
    observed = world.query(
        "select asset_key, partition from dagster.event_logs where dagster_event_type = 'ASSET_OBSERVATION'"
    )
    assert observed == [('["tenant_invoices"]', "2026-04-01")]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("mark-invoice-paid", ["INV-202604-00001", "--paid-on", "2026-05-14"]),
        ("reopen-invoice", ["INV-202604-00001"]),
        ("issue-drafts", ["2026-04", "--tenant", "pilot"]),
        ("hold-tenant", ["pilot"]),
        ("release-tenant", ["pilot"]),
        ("accept-vanished-usage", ["2026-13"]),
        ("accept-missing-tenants", ["2026-04", "--tenants", "7"]),
    ],
)
def test_what_an_operator_cannot_do_is_one_line_on_stderr(
    url: str, arcadia: Call, command: str, arguments: list[str]
) -> None:
    """No such invoice, draft, tenant or month."""
    refused(arcadia(command, *arguments, *ADA, "--no-dry-run"), "")


def test_an_operator_says_who_and_why(url: str, arcadia: Call) -> None:
    """Without, it is a wrong call; with nothing in it, too."""
    refused(arcadia("hold-tenant", "pilot", "--reason", "dispute"), "--operator")
    refused(arcadia("hold-tenant", "pilot", "--operator", "ada", "--reason", " "), "operator and reason must be given")
