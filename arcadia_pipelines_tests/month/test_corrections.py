"""What a paid or pushed invoice bills too little or too much goes on the tenant's next invoice, exactly once."""

import pytest

from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.trouble import finish, start
from arcadia_pipelines_tests.world import World, uid

APRIL = "INV-202604-00001"
ADJUSTED = ("Adjustment: 2026-04, INV-202604-00001", 100)
CREDITED = ("Credit: 2026-04, INV-202604-00001", -100)
MAY = [("Plan: studio", 5000), ("Addon: storage_50gb", 750)]


def pay_april_and_bill_it_again(world: World) -> None:
    """As `paid` says."""
    world.pilot()
    world.publish("2026-04")
    world.done("mark_invoice_paid", invoices=[APRIL])
    world.use("web", "droplet_hours", 100, id=uid("late"))
    world.publish("2026-04")


@pytest.fixture
def paid(world: World) -> World:
    """The pilot's April, billed 64.22 and paid; then 100 h of it come late, and April is run again: 1.00 more."""
    return world


BEGINNINGS = {"paid": pay_april_and_bill_it_again}


def withdraw(world: World) -> None:
    """The late record turns out wrong: it is taken back by another record, and April is run again."""
    world.use("web", "droplet_hours", -100)
    world.publish("2026-04")


def written(world: World) -> list[tuple[object, ...]]:
    """Every row of our invoices, lines, events and corrections, with the transaction that wrote it."""
    tables = ("tenant_invoices", "tenant_invoice_lines", "invoice_events", "invoice_corrections")
    union = " union all ".join(f"select '{table}', t::text, xmin::text from billing.{table} t" for table in tables)
    return sorted(world.query(union))


def test_late_usage_of_a_paid_month_goes_on_the_next_invoice(paid: World) -> None:
    """57.50 + 1.00 of April = 58.50, GST 5.85: 64.35. April itself stays 70.64."""
    assert paid.query(
        "select period_start::text, tenant_id, invoice_number, billed_cents, owed_cents, difference_cents"
        " from billing.invoice_corrections"
    ) == [("2026-04-01", "pilot", APRIL, 6422, 6522, 100)]
    paid.publish("2026-05")
    assert paid.lines("pilot", "2026-05") == [*MAY, ADJUSTED, ("GST 10%", 585)]
    assert paid.invoices("2026-05")["pilot"] == ("issued", 1, 5850, 585, 6435)
    assert paid.invoices("2026-04")["pilot"] == ("paid", 1, 6422, 642, 7064)
    [(deployment, resource, meta)] = paid.query(
        "select deployment_id, resource_kind, meta from billing.tenant_invoice_lines where kind = 'adjustment'"
    )
    assert (deployment, resource) == (None, None)
    assert meta == {"corrects": "2026-04-01", "invoice_number": APRIL}
    assert paid.disproved() == []


@pytest.mark.usefixtures("pilots_april")
def test_a_pushed_invoice_is_corrected_like_a_paid_one(world: World) -> None:
    """It is with finance: nobody changes it there."""
    world.query("update billing.tenant_invoices set finance_invoice_id = 'F-1', pushed_to_finance_at = now()")
    world.use("web", "droplet_hours", -100)
    world.publish("2026-04")
    world.publish("2026-05")
    assert world.lines("pilot", "2026-05") == [*MAY, CREDITED, ("GST 10%", 565)]
    assert world.disproved() == []


def test_a_correction_is_billed_once_however_often_either_month_is_run_again(paid: World) -> None:
    """Not a row is written by any of the runs."""
    paid.publish("2026-05")
    before = written(paid)
    for month in ("2026-04", "2026-05", "2026-05", "2026-04", "2026-05"):
        paid.publish(month)
    assert written(paid) == before


@pytest.mark.long
def test_a_correction_that_two_months_could_carry_is_on_the_newest_and_stays_there(paid: World) -> None:
    """May is invoiced before April is corrected again: June carries the second difference, May no more than it did."""
    paid.publish("2026-05")
    paid.use("web", "droplet_hours", 50)
    paid.publish("2026-04")
    paid.publish("2026-06")
    paid.publish("2026-05")
    assert paid.lines("pilot", "2026-05")[2] == ADJUSTED
    assert paid.lines("pilot", "2026-06")[2] == ("Adjustment: 2026-04, INV-202604-00001", 50)
    assert [row[:2] for row in paid.invoices("2026-05").values()] == [("issued", 1)]
    assert paid.disproved() == []


@pytest.mark.long
def test_a_correction_whose_cause_goes_away_is_taken_off_the_invoice_that_carries_it(paid: World) -> None:
    """May is still open: it is revised to 57.50, and the correction is gone."""
    paid.publish("2026-05")
    withdraw(paid)
    assert paid.query("select * from billing.invoice_corrections") == []
    paid.publish("2026-05")
    assert paid.lines("pilot", "2026-05") == [*MAY, ("GST 10%", 575)]
    assert paid.invoices("2026-05")["pilot"][1] == 2
    assert paid.disproved() == []


@pytest.mark.long
def test_a_correction_whose_cause_goes_away_after_it_was_paid_is_credited(paid: World) -> None:
    """May is paid with 1.00 of April too much: June gives it back, once."""
    paid.publish("2026-05")
    paid.done("mark_invoice_paid", invoices=["INV-202605-00001"])
    withdraw(paid)
    assert paid.findings("2026-05") == {}
    assert paid.lines("pilot", "2026-05")[2] == ADJUSTED
    for _ in range(2):
        paid.publish("2026-06")
        assert paid.lines("pilot", "2026-06") == [*MAY, CREDITED, ("GST 10%", 565)]
    assert paid.disproved() == []


@pytest.mark.long
def test_a_void_invoice_carries_nothing(paid: World) -> None:
    """May is void, so June carries April's 1.00."""
    paid.publish("2026-05")
    paid.done("void_invoice", invoices=["INV-202605-00001"])
    paid.publish("2026-06")
    assert paid.lines("pilot", "2026-06")[2] == ADJUSTED
    assert paid.disproved() == []


@pytest.mark.long
def test_a_reopened_invoice_gives_its_correction_to_the_one_that_took_it_over(paid: World) -> None:
    """June took over what the void May carried. May is reopened: as it is it cannot be issued, run again it can."""
    paid.publish("2026-05")
    paid.done("void_invoice", invoices=["INV-202605-00001"])
    paid.publish("2026-06")
    paid.done("reopen_invoice", invoices=["INV-202605-00001"])
    assert "carries a correction that is on another invoice too" in paid.refused("issue_drafts", month="2026-05")
    paid.publish("2026-05")
    paid.publish("2026-06")
    assert paid.lines("pilot", "2026-05") == [*MAY, ("GST 10%", 575)]
    assert paid.lines("pilot", "2026-06") == [*MAY, ADJUSTED, ("GST 10%", 585)]
    assert paid.disproved() == []


def test_the_draft_of_a_released_tenant_is_issued_with_its_correction(paid: World) -> None:
    """May is a draft with the 1.00 of April, which no other invoice carries."""
    paid.done("hold_tenant", tenants=["pilot"])
    paid.publish("2026-05")
    paid.done("release_tenant", tenants=["pilot"])
    paid.done("issue_drafts", month="2026-05")
    assert paid.invoices("2026-05")["pilot"] == ("issued", 1, 5850, 585, 6435)
    assert paid.disproved() == []


@pytest.mark.usefixtures("pilots_april")
def test_nothing_is_corrected_for_an_invoice_that_was_voided_since(world: World) -> None:
    """April is with finance, 1.00 too low, and then void: May carries nothing."""
    world.query("update billing.tenant_invoices set finance_invoice_id = 'F-1'")
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    world.done("void_invoice", invoices=[APRIL])
    world.publish("2026-05")
    assert world.lines("pilot", "2026-05") == [*MAY, ("GST 10%", 575)]


def test_paid_months_are_not_credited_for_want_of_subscriptions(paid: World) -> None:
    """The table is empty by accident: the run refuses, also where an invoice would be left with a correction alone."""
    paid.query("update cloud.subscriptions set status = 'pending'")
    refusal = "no tenant has anything to bill in 2026-04, and 1 invoice would be void, or credited:"
    assert refusal in paid.stopped("2026-04")
    paid.query("update cloud.subscriptions set status = 'active'")
    paid.publish("2026-05")
    paid.query("update cloud.subscriptions set status = 'pending'")
    paid.stopped("2026-05")
    assert paid.invoices("2026-05")["pilot"] == ("issued", 1, 5850, 585, 6435)


def test_a_month_that_waited_its_turn_sees_what_was_done_meanwhile_whatever_the_servers_default(paid: World) -> None:
    """Under a default of repeatable read, May and June first run at once would both carry the 1.00."""
    name = paid.url.rpartition("/")[2]
    paid.query(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    with database.transaction(database.engine(paid.url)) as connection:
        assert connection.exec_driver_sql("show transaction_isolation").scalar_one() == "read committed"


def test_a_tenant_that_has_left_still_gets_its_correction(paid: World) -> None:
    """No subscription in May: an invoice of 1.00 and GST alone."""
    paid.query("update cloud.subscriptions set ended_at = '2026-05-01'")
    paid.publish("2026-05")
    assert paid.lines("pilot", "2026-05") == [ADJUSTED, ("GST 10%", 10)]
    assert paid.disproved() == []


def test_a_tenant_with_a_fault_is_not_invoiced_for_its_correction_alone(paid: World) -> None:
    """May cannot be quoted for want of a price: nothing is issued, and June carries it."""
    paid.query("update cloud.plan_prices set effective_from = '2026-06-01'")
    paid.publish("2026-05")
    assert paid.invoices("2026-05") == {}
    paid.publish("2026-06")
    assert paid.lines("pilot", "2026-06")[2] == ADJUSTED


def test_while_a_corrected_month_cannot_be_quoted_its_correction_stays(paid: World) -> None:
    """What the pilot owes for April is not known at the moment: it is not nothing."""
    paid.publish("2026-05")
    before = written(paid)
    paid.query("insert into cloud.usage_records values (gen_random_uuid(), %s, 'gb', 'NaN', '2026-04-10')", uid("web"))
    paid.publish("2026-04")
    paid.publish("2026-05")
    assert written(paid) == before


@pytest.mark.long
def test_two_months_that_are_first_run_at_once_carry_a_correction_once(paid: World) -> None:
    """May and June in two processes: one of them has the 1.00."""
    processes = [start(paid.url, month) for month in ("2026-05", "2026-06")]
    assert [finish(process) for process in processes] == [0, 0]
    lines = [*paid.lines("pilot", "2026-05"), *paid.lines("pilot", "2026-06")]
    assert lines.count(ADJUSTED) == 1
    assert paid.disproved() == []


def test_a_difference_that_no_invoice_carries_yet_is_named_by_the_check(paid: World) -> None:
    """April's own run says that 1.00 is outstanding; once May carries it, it does not."""
    assert paid.findings("2026-04")["corrections_are_carried"].count == 1
    paid.publish("2026-05")
    assert "corrections_are_carried" not in paid.findings("2026-04")


@pytest.mark.usefixtures("pilots_april")
@pytest.mark.parametrize("corrects", ["n/a", "2026-13-01", "0000-01-01", ""])
def test_a_line_of_another_program_that_corrects_no_month_stops_nobody(world: World, corrects: str) -> None:
    """It is on the pilot's April, which is another program's; May is 57.50 as ever."""
    world.tamper(
        "update billing.tenant_invoice_lines set kind = 'credit', meta = jsonb_build_object('taxable', 'maybe',"
        f" 'corrects', '{corrects}') where kind = 'addon'"
    )
    world.tamper("update billing.tenant_invoices set status = 'paid', paid_at = now()")
    world.publish("2026-05")
    assert world.lines("pilot", "2026-05") == [*MAY, ("GST 10%", 575)]
