"""`arcadia prices` as people call it: export, check, apply, schema."""

import json
from pathlib import Path

import pytest

from arcadia_pipelines_tests.command_line import CLOSED, Call, contents, refused
from arcadia_pipelines_tests.logins import login
from arcadia_pipelines_tests.world import World


@pytest.fixture
def exported(arcadia: Call, world: World, tmp_path: Path) -> Path:
    """The pilot's price book of May 2026, as a file."""
    world.pilot()
    file = tmp_path / "prices.yaml"
    answer = arcadia("prices", "export", "--month", "2026-05", "--out", str(file))
    assert (answer.code, answer.out) == (0, f"the price book of 2026-05 is in {file}\n")
    return file


def change(file: Path, *replacements: str) -> None:
    """Put the second text in the place of the first, the fourth in that of the third, and so on."""
    written = file.read_text()
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in written
        written = written.replace(old, new)
    file.write_text(written)


def test_what_is_exported_is_without_fault_and_applied_changes_nothing(
    arcadia: Call, exported: Path, world: World
) -> None:
    before = contents(world.url)
    assert arcadia("prices", "check", str(exported)).out == f"{exported} is a price book, with no faults\n"
    applied = arcadia("prices", "apply", str(exported), "--from", "2026-05")
    assert (applied.code, applied.out) == (
        0,
        f"{exported} is in effect from 2026-05 on already: nothing was written\n",
    )
    assert contents(world.url) == before
    assert arcadia("prices", "export", "--month", "2026-05").out == exported.read_text()


def test_a_dry_run_says_what_would_change_and_the_same_without_it_changes_that(
    arcadia: Call, exported: Path, world: World
) -> None:
    change(exported, "50.00", "59.00")
    call = ("prices", "apply", str(exported), "--from", "2026-06", "--operator", "robyn", "--reason", "new list")
    before = contents(world.url)
    dry = arcadia(*call, "--dry-run", "--json").json()
    assert dry == {
        "month": "2026-06",
        "dry_run": True,
        "changes": [
            {
                "table": "plan_prices",
                "what": "price of plan studio",
                "before": {"price_aud": "50.00"},
                "after": {"price_aud": "59.00"},
            }
        ],
        "later": [],
    }
    assert contents(world.url) == before
    done = arcadia(*call)
    assert "price of plan studio" in done.out
    assert done.out.endswith("1 change from 2026-06 on made, and recorded\n")
    assert world.query("select base_price_cents from cloud.plan_prices order by 1") == [(5000,), (5900,)]
    assert world.query("select operator, reason from billing.price_books") == [("robyn", "new list")]


def test_the_operator_is_the_login_unless_one_is_named(
    arcadia: Call, exported: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "sam")
    change(exported, "50.00", "59.00")
    assert arcadia("prices", "apply", str(exported), "--from", "2026-06").code == 0
    assert world.query("select operator from billing.price_books") == [("sam",)]


def test_faults_are_told_with_file_and_line_and_warnings_alone_are_no_failure(arcadia: Call, exported: Path) -> None:
    change(exported, "    rates:", "    rates:\n      calls: {unit: call, unit_price_aud: 1}")
    warned = arcadia("prices", "check", str(exported))
    line = exported.read_text().splitlines().index("      calls: {unit: call, unit_price_aud: 1}") + 1
    assert (warned.code, warned.out.splitlines()) == (
        0,
        [
            f"{exported}:{line}: warning: plans.studio.rates.calls: nothing of this kind was ever metered",
            f"{exported} is a price book, with 1 warning",
        ],
    )
    change(exported, "unit_price_aud: 1}", "unit_price_aud: 1}\n      builds: {unit: build, unit_price_aud: -1}")
    wrong = arcadia("prices", "check", str(exported))
    assert (wrong.code, wrong.out, wrong.err) == (
        1,
        f"{exported}:{line + 1}: plans.studio.rates.builds.unit_price_aud: -1 is below 0\n",
        f"arcadia: {exported} has 1 fault\n",
    )
    told = arcadia("prices", "check", str(exported), "--json")
    assert [fault["line"] for fault in json.loads(told.out)["faults"]] == [line + 1]
    refused(arcadia("prices", "apply", str(exported), "--from", "2026-06"), f"{exported}:{line + 1}: plans.studio")


def test_a_tenant_that_the_platform_does_not_have_is_a_fault_in_its_line(arcadia: Call, exported: Path) -> None:
    exported.write_text(exported.read_text() + "tenants:\n  nobody: {}\n")
    line = len(exported.read_text().splitlines())
    assert arcadia("prices", "check", str(exported)).out == (
        f"{exported}:{line}: tenants.nobody: is no tenant of the platform\n"
    )


def test_a_book_can_be_checked_where_no_database_is(arcadia: Call, exported: Path) -> None:
    """Neither ARCADIA_DATABASE_URL nor an embedded server that runs: none is started."""
    answer = arcadia("prices", "check", str(exported), ARCADIA_DATABASE_URL="")
    assert answer.out == f"{exported} is a price book, with no faults\n"
    refused(arcadia("prices", "check", str(exported), ARCADIA_DATABASE_URL=CLOSED), "cannot work with PostgreSQL")


def test_a_month_that_is_invoiced_keeps_its_prices(arcadia: Call, exported: Path, world: World) -> None:
    world.publish("2026-04")
    change(exported, "50.00", "59.00")
    before = contents(world.url)
    refused(
        arcadia("prices", "apply", str(exported), "--from", "2026-04"),
        "the price of plan studio would change from 2026-04 on, and 2026-04 is invoiced to pilot already",
    )
    assert contents(world.url) == before
    assert arcadia("prices", "apply", str(exported), "--from", "2026-05").code == 0


def test_what_is_no_month_is_refused(arcadia: Call, exported: Path) -> None:
    refused(arcadia("prices", "apply", str(exported), "--from", "2026-13"), "'2026-13' is not a month")


@pytest.mark.parametrize("foreign", [True, False], ids=["a platform's own tables", "ours, with --sql"])
def test_the_sql_is_printed_and_nothing_is_written(arcadia: Call, exported: Path, world: World, foreign: bool) -> None:
    """For a platform that owns its tables always; it is on stdout alone, ready for psql."""
    if foreign:
        world.query("comment on schema cloud is 'The platform of somebody else'")
    change(exported, "50.00", "59.00")
    before = contents(world.url)
    answer = arcadia("prices", "apply", str(exported), "--from", "2026-06", *([] if foreign else ["--sql"]))
    assert answer.out.splitlines() == [
        "begin;",
        "insert into cloud.plan_prices (plan_id, effective_from, base_price_cents) values ((select id from cloud.plans"
        " where code = 'studio'), '2026-06-01'::date, 5900) on conflict (plan_id, effective_from) do update set"
        " base_price_cents = excluded.base_price_cents;",
        "commit;",
    ]
    assert "nothing was changed" in answer.err
    assert contents(world.url) == before


@pytest.mark.parametrize("foreign", [True, False], ids=["a platform's own tables", "ours"])
def test_a_login_that_may_not_write_prices_writes_nothing(
    arcadia: Call, exported: Path, world: World, server_url: str, foreign: bool
) -> None:
    """The pipeline's: it is given the SQL where the tables are a platform's, and else refused in one line."""
    if foreign:
        world.query("comment on schema cloud is 'The platform of somebody else'")
    change(exported, "50.00", "59.00")
    before = contents(world.url)
    with login(server_url, world.url, "arcadia_pipeline", acting_as="arcadia_pipeline") as url:
        answer = arcadia("prices", "apply", str(exported), "--from", "2026-06", ARCADIA_DATABASE_URL=url)
    if foreign:
        assert (answer.code, answer.out.startswith("begin;\ninsert into cloud.plan_prices")) == (0, True)
    else:
        refused(answer, "may not write cloud.plan_prices", "--sql")
    assert contents(world.url) == before


def test_the_schema_is_json_that_names_every_part(arcadia: Call) -> None:
    schema = arcadia("prices", "schema").json()
    assert list(schema["properties"]) == ["plans", "addons", "tenants"]
    assert schema["$defs"]["Tier"]["properties"]["up_to"]["description"].startswith("the most units that it holds")
