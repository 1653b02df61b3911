"""What operators enter by hand: what is written, what is refused, and what the list says."""

import datetime as dt

import psycopg
import pytest

from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World

LINE = {"tenant": "pilot", "month": "2026-04", "amount": "12.50", "description": "Set-up"}
GRANT = {"tenant": "pilot", "amount": "100.00", "description": "Welcome"}
WHO = ("--operator", "ada", "--reason", "agreed by mail", "--no-dry-run")


def test_a_line_is_entered_with_who_and_why_and_again_is_a_second_one(world: World) -> None:
    world.pilot()
    assert world.done("add_line", **LINE) == (
        "1 adjustment entered: pilot, 2026-04, 12.50 ex GST, waiting for 2026-04 to be run"
    )
    assert world.done("add_line", **{**LINE, "amount": "-0.01"}) == (
        "1 credit entered: pilot, 2026-04, -0.01 ex GST, waiting for 2026-04 to be run;"
        " beside 1 line entered for pilot and that month before"
    )
    rows = world.query(
        "select tenant_id, period_start::text, amount_cents, description, operator, reason, run_id is not null"
        " from billing.manual_lines order by entered_at"
    )
    assert rows == [
        ("pilot", "2026-04-01", 1250, "Set-up", "ada", "asked by the tenant", True),
        ("pilot", "2026-04-01", -1, "Set-up", "ada", "asked by the tenant", True),
    ]


def test_a_line_for_a_month_that_is_invoiced_says_which_invoice_it_is_for(world: World) -> None:
    world.pilot()
    world.publish("2026-04")
    again = "waiting for 2026-04 to be run again, for INV-202604-00001"
    assert world.done("add_line", **LINE).endswith(again)
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    next_one = (
        "waiting for the next invoice: INV-202604-00001 is locked; beside 1 line entered for pilot and that month"
    )
    assert world.done("add_line", **LINE).endswith(f"{next_one} before")


def test_credit_is_granted_with_who_and_why_and_again_is_a_second_grant(world: World) -> None:
    world.pilot()
    assert world.done("grant_credit", **GRANT) == (
        "promotional credit of 100.00 ex GST granted to pilot, without an end"
    )
    assert world.done("grant_credit", **GRANT, expires="2999-01-01") == (
        "promotional credit of 100.00 ex GST granted to pilot, for months that begin before 2999-01-01;"
        " beside 1 grant before, of which 100.00 is left"
    )
    rows = world.query(
        "select tenant_id, amount_cents, expires_on::text, description, operator, reason, run_id is not null"
        " from billing.credit_grants order by granted_at"
    )
    assert rows == [
        ("pilot", 10000, None, "Welcome", "ada", "asked by the tenant", True),
        ("pilot", 10000, "2999-01-01", "Welcome", "ada", "asked by the tenant", True),
    ]


def test_a_dry_run_enters_nothing(world: World) -> None:
    world.pilot()
    assert world.would("add_line", **LINE).startswith(
        "dry run, nothing is written: 1 adjustment would be entered: pilot, 2026-04, 12.50"
    )
    assert world.would("grant_credit", **GRANT).startswith(
        "dry run, nothing is written: promotional credit of 100.00 ex GST would be granted"
    )
    assert world.query("select * from billing.manual_lines") == world.query("select * from billing.credit_grants") == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tenant": "nobody"}, "no tenant 'nobody': the table tenants lists them all"),
        ({"month": "2026-13"}, "'2026-13' is not a month: write it like 2026-04"),
        ({"month": "2025-12"}, "2025-12 is never invoiced: the first billing month is 2026-01"),
        ({"amount": "0"}, "amount 0 changes nothing"),
        ({"amount": "-0.00"}, "amount 0 changes nothing"),
        ({"amount": "12.505"}, "amount '12.505' is not an amount: write dollars and cents like 12.50 or -12.50"),
        ({"amount": "1e3"}, "amount '1e3' is not an amount"),
        ({"amount": "1,000.00"}, "amount '1,000.00' is not an amount"),
        ({"amount": "NaN"}, "amount 'NaN' is not an amount"),
        ({"amount": "10000000000000"}, "is out of range"),
        ({"description": " "}, "the description is empty"),
        ({"description": "two\nlines"}, "the description must be one line"),
        ({"description": "x" * 201}, "the description must be one line of at most 200"),
        ({"reason": " "}, "operator and reason must be given"),
    ],
)
def test_a_line_that_cannot_be_is_refused(world: World, changed: dict[str, str], message: str) -> None:
    world.pilot()
    assert message in world.refused("add_line", **{**LINE, **changed})
    assert world.query("select * from billing.manual_lines") == []


@pytest.mark.parametrize("sign", ["", "-"])
def test_lines_that_sum_to_more_than_an_invoice_holds_are_refused_when_the_last_is_entered(
    world: World, sign: str
) -> None:
    """A hundred of 9,999,999,999,999.99, a cent each below what one may be: a dollar more is invoiced, 1.01 is not."""
    world.pilot()
    world.query(
        "insert into billing.manual_lines"
        " (tenant_id, period_start, amount_cents, description, operator, reason, run_id)"
        f" select 'pilot', '2026-04-01', {sign}999999999999999, 'a lot', 'ada', 'a test', ''"
        " from generate_series(1, 100)"
    )
    refused = world.refused("add_line", **LINE | {"amount": f"{sign}1.01"})
    assert (
        f"the manual lines of pilot for 2026-04 sum to {sign}999,999,999,999,999.00 already, and with this one to"
        f" {sign}1,000,000,000,000,000.01: an invoice holds at most 1,000,000,000,000,000.00 of them, either way"
    ) in refused
    world.done("add_line", **LINE | {"month": "2026-05", "amount": f"{sign}1.01"})
    world.done("add_line", **LINE | {"amount": f"{sign}1.00"})
    world.publish("2026-04")
    [(subtotal,)] = world.query("select subtotal_cents from billing.tenant_invoices where period_start = '2026-04-01'")
    assert subtotal == int(f"{sign}100000000000000000") + 6422


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tenant": "nobody"}, "no tenant 'nobody'"),
        ({"amount": "-5"}, "amount '-5' is below 0"),
        ({"amount": "0.00"}, "amount 0 changes nothing"),
        ({"expires": "2026-02-30"}, "expires '2026-02-30' is not a day: write it like 2027-06-30"),
        ({"expires": "2020-01-01"}, "expires 2020-01-01 is in the past: today is"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(world: World, changed: dict[str, str], message: str) -> None:
    world.pilot()
    assert message in world.refused("grant_credit", **{**GRANT, **changed})
    assert world.query("select * from billing.credit_grants") == []


def test_a_grant_may_expire_today(world: World) -> None:
    """In Sydney it is the same day as in UTC, or the next."""
    world.pilot()
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    assert world.done("grant_credit", **GRANT, expires=str(tomorrow)).endswith(f"before {tomorrow}")


def test_neither_is_ever_changed(world: World) -> None:
    world.pilot()
    world.done("add_line", **LINE)
    world.done("grant_credit", **GRANT)
    for table in ("manual_lines", "credit_grants"):
        for statement in (f"update billing.{table} set amount_cents = 1", f"delete from billing.{table}"):
            with pytest.raises(psycopg.Error, match=f"{table} is history"):
                world.query(statement)


def test_the_command_line_enters_and_lists_them(world: World, arcadia: Call) -> None:
    world.pilot()
    entered = arcadia("add-line", "pilot", "2026-04", "-12.50", "--description", "Outage", *WHO)
    assert entered.out.startswith("1 credit entered: pilot, 2026-04, -12.50 ex GST, waiting for 2026-04 to be run")
    assert arcadia("grant-credit", "pilot", "5", "--description", "Welcome", *WHO).code == 0
    listed = arcadia("credits", "pilot", "--json").json()
    [line], [grant] = listed["manual_lines"], listed["grants"]
    assert (line["amount_cents"], line["invoice"]) == (-1250, "waiting for 2026-04 to be run")
    assert (line["operator"], line["reason"]) == ("ada", "agreed by mail")
    assert (grant["amount_cents"], grant["left_cents"], grant["invoices"]) == (500, 500, [])
    shown = arcadia("credits", "pilot").out
    for text in ("Manual lines", "-12.50", "waiting for 2026-04", "Promotional credit", "never"):
        assert text in shown
    assert arcadia("credits", "nobody").err == "arcadia: no tenant 'nobody': the table tenants lists them all\n"
