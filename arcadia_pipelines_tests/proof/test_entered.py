"""What operators entered by hand, proved and explained: tampering is found, and each line says where it comes from."""

import pytest

from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World, uid

LINES = "billing.tenant_invoice_lines"
ONCE, WITHIN = "manual_lines_are_billed_once", "promotional_credit_is_within_its_grants"


def publish_what_was_entered(world: World) -> None:
    """As `entered` says."""
    world.plan("flat", 4000)
    world.tenant("acme")
    world.deployment("acme", "web", "flat")
    world.query(
        "insert into billing.manual_lines (id, tenant_id, period_start, amount_cents, description, operator, reason)"
        " values (%s, 'acme', '2026-01-01', 500, 'Set-up', 'ada', 'as agreed')",
        uid("line"),
    )
    for name, cents, expires_on in (("Spring", 1000, "2026-03-01"), ("Welcome", 6000, None)):
        world.query(
            "insert into billing.credit_grants (id, tenant_id, amount_cents, expires_on, description, operator, reason)"
            " values (%s, 'acme', %s, %s, %s, 'bob', 'new customer')",
            *(uid(name), cents, expires_on, name),
        )
    world.publish("2026-01")
    world.publish("2026-02")
    assert world.lines("acme", "2026-01") == [
        ("Plan: flat", 4000),
        ("Adjustment: Set-up", 500),
        ("Credit: Spring", -1000),
        ("Credit: Welcome", -3500),
        ("GST 10%", 0),
    ]
    assert world.lines("acme", "2026-02")[1] == ("Credit: Welcome", -2500)
    assert world.disproved() == []


BEGINNINGS = {"entered": publish_what_was_entered}


@pytest.fixture
def entered(world: World) -> World:
    """40.00 a month; 5.00 to pay in January; 10.00 until March, 60.00 without an end: January and February are 0."""
    return world


def is_found(world: World, name: str) -> bool:
    """Whether the audit of this name finds something in January or February."""
    return any(world.finds(name, month) for month in ("2026-01", "2026-02"))


@pytest.mark.parametrize(
    "tampering",
    [
        f"update {LINES} set amount_cents = 501, unit_price_cents = 501 where meta ? 'manual_line'",
        f"update {LINES} set kind = 'credit' where meta ? 'manual_line'",
        f"update {LINES} set description = 'Adjustment: Other' where meta ? 'manual_line'",
        f"update {LINES} set meta = jsonb_set(meta, '{{manual_line}}', '\"none\"') where meta ? 'manual_line'",
        f"update {LINES} set meta = jsonb_set(meta, '{{period_start}}', '\"2026-02-01\"') where meta ? 'manual_line'",
        f"update {LINES} set meta = meta || '{{\"corrects\": \"2025-12-01\"}}' where meta ? 'manual_line'",
        "update billing.manual_lines set amount_cents = 400",
        "update billing.manual_lines set tenant_id = 'other'",
        "update billing.manual_lines set period_start = '2026-02-01'",
        f"update {LINES} set meta = '{{}}' where meta ? 'manual_line'",
        f"insert into {LINES} select (l).* from (select jsonb_populate_record(l, jsonb_build_object("
        "'id', gen_random_uuid(), 'line_no', 9, 'period_start', '2026-02-01', 'invoice_id', (select id from"
        f" billing.tenant_invoices where period_start = '2026-02-01'))) as l from {LINES} l"
        " where meta ? 'manual_line') l",
    ],
)
def test_a_manual_line_that_was_tampered_with_is_found(entered: World, tampering: str) -> None:
    entered.tamper(tampering)
    entered.rewrite()
    assert is_found(entered, ONCE)


@pytest.mark.parametrize(
    "tampering",
    [
        f"update {LINES} set meta = jsonb_set(meta, '{{grant}}', '\"none\"') where description = 'Credit: Spring'",
        f"update {LINES} set description = 'Credit: Other' where description = 'Credit: Spring'",
        f"update {LINES} set kind = 'adjustment', amount_cents = 1000 where description = 'Credit: Spring'",
        f"update {LINES} set meta = jsonb_set(meta, '{{left}}', '-1') where description = 'Credit: Spring'",
        f"update {LINES} set meta = jsonb_set(meta, '{{left}}', '1') where description = 'Credit: Spring'",
        f"update {LINES} set meta = jsonb_set(meta, '{{left}}', '6000') where description = 'Credit: Welcome'",
        f"update {LINES} set amount_cents = -4000 where amount_cents = -2500",
        f"update {LINES} set amount_cents = -4500 where amount_cents = -3500",
        f"update {LINES} set amount_cents = -2000 where amount_cents = -2500",
        "update billing.credit_grants set amount_cents = 5999 where description = 'Welcome'",
        "update billing.credit_grants set amount_cents = 6001 where description = 'Welcome'",
        "update billing.credit_grants set expires_on = '2026-01-01' where description = 'Spring'",
        "update billing.credit_grants set expires_on = '2026-02-01' where description = 'Welcome'",
        "update billing.credit_grants set tenant_id = 'other' where description = 'Spring'",
        "delete from billing.credit_grants where description = 'Spring'",
    ],
)
def test_promotional_credit_that_was_tampered_with_is_found(entered: World, tampering: str) -> None:
    entered.tamper(tampering)
    entered.rewrite()
    assert is_found(entered, WITHIN)


def test_credit_that_is_not_on_an_invoice_though_it_could_be_is_found(entered: World) -> None:
    """February has 15.00 to pay; the line that would pay 25.00 of it is gone, and so is the manual line of January."""
    entered.tamper(f"delete from {LINES} where amount_cents in (-2500, 500)")
    entered.rewrite()
    assert is_found(entered, ONCE)
    assert is_found(entered, WITHIN)


def test_lines_out_of_order_are_found(entered: World) -> None:
    """Promotional credit stands before the manual line."""
    entered.tamper(f"update {LINES} set line_no = 5 - line_no where period_start = '2026-01-01' and line_no in (2, 3)")
    entered.rewrite()
    assert is_found(entered, "lines_are_numbered_in_order")


def test_each_line_says_who_entered_it_why_and_what_was_left(entered: World, arcadia: Call) -> None:
    document = arcadia("explain", "INV-202601-00001", "--json").json()
    assert document["agrees"] is True
    manual, spring, welcome = document["lines"][1:4]
    assert manual["explanation"][1].startswith("manual line for January 2026, entered by ada on 2")
    assert manual["explanation"][1].endswith(" UTC: as agreed")
    assert (manual["entered"]["operator"], manual["entered"]["amount_cents"]) == ("ada", 500)
    assert spring["explanation"][1].startswith(
        "promotional credit of 10.00 for months that begin before 2026-03-01, entered by bob on 2"
    )
    assert spring["explanation"][2] == "0.00 of it was left after this line"
    assert welcome["explanation"][1].startswith("promotional credit of 60.00 without an end, entered by bob on 2")
    assert welcome["explanation"][2] == "25.00 of it was left after this line"


def test_a_line_whose_entry_is_another_or_gone_is_marked(entered: World, arcadia: Call) -> None:
    entered.tamper("update billing.manual_lines set amount_cents = 400")
    entered.tamper("delete from billing.credit_grants where description = 'Spring'")
    answer = arcadia("explain", "INV-202601-00001")
    assert answer.code == 1
    assert "!! 4.00 was entered, 5.00 is billed" in answer.out
    assert f"!! the tenant has no grant {uid('Spring')}" in answer.out


def test_diff_names_the_manual_line_and_the_credit(entered: World, arcadia: Call) -> None:
    """20.00 back in February: 20.00 are left to pay, of which the credit pays all, 5.00 less than before."""
    entered.query(
        "insert into billing.manual_lines (tenant_id, period_start, amount_cents, description, operator, reason)"
        " values ('acme', '2026-02-01', -2000, 'Outage', 'ada', 'sorry')"
    )
    entered.publish("2026-02")
    changes = arcadia("diff", "acme", "2026-02", "--json").json()["changes"]
    assert [(change["description"], change["cause"], change["difference_cents"]) for change in changes] == [
        ("Credit: Outage", "manual line", -2000),
        ("Credit: Welcome", "credit", 500),
        ("GST 10%", "tax", -150),
    ]
    assert "Credit: Outage: -20.00; not on revision 1" in arcadia("diff", "acme", "2026-02").out


def test_the_list_says_which_invoice_has_what(entered: World, arcadia: Call) -> None:
    document = arcadia("credits", "acme", "--json").json()
    assert [(line["invoice"], line["invoice_month"]) for line in document["manual_lines"]] == [
        ("INV-202601-00001", "2026-01")
    ]
    spring, welcome = document["grants"]
    assert (spring["left_cents"], welcome["left_cents"]) == (0, 0)
    assert welcome["invoices"] == [
        {"month": "2026-01", "invoice": "INV-202601-00001", "taken_cents": 3500},
        {"month": "2026-02", "invoice": "INV-202602-00001", "taken_cents": 2500},
    ]


def test_lost_lines_are_put_back_with_what_was_entered(entered: World, arcadia: Call) -> None:
    before = entered.query(f"select * from {LINES} order by id")
    entered.tamper(f"delete from {LINES} where period_start = '2026-02-01'")
    assert arcadia("rebuild", "2026-02").code == 0
    assert [row[:-1] for row in entered.query(f"select * from {LINES} order by id")] == [row[:-1] for row in before]
