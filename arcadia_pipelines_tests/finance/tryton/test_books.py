"""Invoices are in Tryton's books as they are here, to the cent; what cannot be booked is refused with the reason."""

from contextlib import ExitStack
from decimal import Decimal

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance.reconcile import Reconciled
from arcadia_pipelines_tests.finance.tryton.conftest import APRIL, Ledger, compare, push
from arcadia_pipelines_tests.finance.tryton.proxy import Call, once
from arcadia_pipelines_tests.world import World

AMOUNTS = ("untaxed_amount", "tax_amount", "total_amount")
NUMBER = "INV-202604-00001"
PILOTS = (Decimal("64.22"), Decimal("6.42"), Decimal("70.64"))


def studio(world: World, cents: int, tenant: str = "acme", gst_free_reason: str | None = None) -> None:
    """A tenant whose April is one line of so many cents."""
    world.tenant(tenant, gst_free_reason)
    world.plan("studio", cents, {"droplet_hours": (100, 1)})
    world.deployment(tenant, "web", "studio")


def said(world: World) -> list[tuple[str, str]]:
    """What finance refused, and why."""
    return [tuple(row) for row in world.query("select state, last_error from billing.finance_outbox order by id")]


def test_the_pilots_april_is_posted_at_64_22_and_6_42_and_70_64(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    assert push(engine) == {"confirmed": 1}
    assert push(engine) == {}
    assert ledger.invoices("state", "reference", *AMOUNTS) == [("posted", NUMBER, *PILOTS)]
    lines = "select description, quantity, unit_price from account_invoice_line order by sequence"
    assert ledger.query(lines) == [
        ("Plan: studio", 1, Decimal("50.0000")),
        ("Addon: storage_50gb", 1, Decimal("7.5000")),
        ("Overage: droplet_hours", 672, Decimal("0.0100")),
    ]
    assert ledger.balances() == {
        "Trade debtors": Decimal("70.64"),
        "GST": Decimal("-6.42"),
        "Cloud services": Decimal("-64.22"),
    }
    assert ledger.query("select code, name from party_party where code = 'pilot'") == [("pilot", "Pilot")]
    assert compare(engine) == Reconciled(APRIL, 1, 1, 7064, 7064, [])
    [(here,)] = pilots_april.query("select finance_invoice_id from billing.tenant_invoices")
    assert [(int(here),)] == ledger.invoices("id")


def test_a_party_has_the_abn_and_is_the_same_next_month(world: World, ledger: Ledger, engine: Engine) -> None:
    world.pilot()
    world.query("update cloud.tenants set abn = '71 690 944 157'")
    for month in ("2026-04", "2026-05"):
        world.publish(month)
        assert push(engine, month=BillingMonth.parse(month)) == {"confirmed": 1}
    found = "select p.code, i.type, i.code_compact from party_party p join party_identifier i on i.party = p.id"
    assert ledger.query(found) == [("pilot", "au_vat", "71690944157")]
    assert ledger.query("select count(distinct party), count(*) from account_invoice") == [(1, 2)]


def test_an_abn_that_is_none_keeps_no_invoice_from_being_booked(world: World, ledger: Ledger, engine: Engine) -> None:
    studio(world, 5000)
    world.query("update cloud.tenants set abn = '12345678901'")
    world.publish("2026-04")
    assert push(engine) == {"confirmed": 1}
    assert ledger.query("select count(*) from party_identifier") == [(0,)]


def test_half_a_cent_of_gst_is_booked_as_it_is_here_though_tryton_rounds_to_even(
    world: World, ledger: Ledger, engine: Engine
) -> None:
    """A tenth of 100.05 is 10.005: 10.01 by the GST Act, 10.00 by Tryton."""
    studio(world, 10005)
    world.publish("2026-04")
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices(*AMOUNTS) == [(Decimal("100.05"), Decimal("10.01"), Decimal("110.06"))]
    assert ledger.balances()["GST"] == Decimal("-10.01")


def test_without_gst_nothing_is_taxed(world: World, ledger: Ledger, engine: Engine) -> None:
    studio(world, 5000, gst_free_reason="Exports")
    world.publish("2026-04")
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices(*AMOUNTS, "taxes") == [(50, 0, 50, [])]


def test_an_invoice_that_is_taxed_in_part_is_taxed_in_that_part(world: World, ledger: Ledger, engine: Engine) -> None:
    """January, free of GST, has 10.00 more; it is on May's invoice, whose GST is on its own 50.00 alone."""
    studio(world, 5000, gst_free_reason="Exports")
    world.use("web", "droplet_hours", 100, "2026-01-15")
    world.publish("2026-01")
    assert push(engine, month=BillingMonth.parse("2026-01")) == {"confirmed": 1}
    world.query("update cloud.tenants set gst_free_reason = null")
    world.use("web", "droplet_hours", 1000, "2026-01-16")
    for month in ("2026-01", "2026-05"):
        world.publish(month)
    assert push(engine, month=BillingMonth.parse("2026-05")) == {"confirmed": 1}
    assert ledger.invoices(*AMOUNTS)[1] == (60, 5, 65)
    assert ledger.query("select base, amount from account_invoice_tax order by id") == [(50, 5)]


def test_what_is_owed_to_the_tenant_is_a_credit_note(world: World, ledger: Ledger, engine: Engine) -> None:
    """January had 200 hours too many, 2.00, and the plan is free by May: -2.00 and GST of -0.20."""
    studio(world, 5000)
    world.use("web", "droplet_hours", 300, "2026-01-15")
    world.publish("2026-01")
    push(engine, month=BillingMonth.parse("2026-01"))
    world.use("web", "droplet_hours", -200, "2026-01-16")
    world.query("insert into cloud.plan_prices select plan_id, '2026-05-01', 0 from cloud.plan_prices")
    for month in ("2026-01", "2026-05"):
        world.publish(month)
    assert push(engine, month=BillingMonth.parse("2026-05")) == {"confirmed": 1}
    amounts = (Decimal("-2.00"), Decimal("-0.20"), Decimal("-2.20"))
    assert ledger.invoices("sequence_type_cache", *AMOUNTS)[1] == ("credit_note", *amounts)


def test_an_invoice_of_nothing_is_booked(world: World, ledger: Ledger, engine: Engine) -> None:
    studio(world, 0)
    world.publish("2026-04")
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices("total_amount") == [(0,)]
    assert compare(engine).offenders == []


def revised(world: World, ledger: Ledger, engine: Engine) -> None:
    """Tell finance of April, which is revised while it is on its way: 100 hours more, so 65.22 and 6.52."""

    def meanwhile() -> None:
        world.use("web", "droplet_hours", 100)
        world.publish("2026-04")

    ledger.proxy.before("post", meanwhile)
    assert push(engine) == {"confirmed": 2}


def test_a_revision_takes_the_place_of_the_one_before(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    revised(pilots_april, ledger, engine)
    found = ledger.invoices("state", "total_amount")
    assert found == [("cancelled", Decimal("70.64")), ("posted", Decimal("71.74"))]
    assert ledger.balances()["Trade debtors"] == Decimal("71.74")
    assert compare(engine) == Reconciled(APRIL, 1, 1, 7174, 7174, [])


def test_a_revision_whose_period_is_closed_leaves_the_one_before_as_it_is(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    with ExitStack() as closed:

        def meanwhile(call: Call) -> None:
            pilots_april.use("web", "droplet_hours", 100)
            pilots_april.publish("2026-04")
            call.do()
            closed.enter_context(ledger.closed())

        ledger.proxy.trouble = once(meanwhile, "post")
        assert push(engine) == {"confirmed": 1, "refused": 1}
    assert said(pilots_april)[1][1].startswith("refuses it: Tryton has no period that is open on 20")
    assert ledger.invoices("state", "total_amount") == [("posted", Decimal("70.64")), ("draft", Decimal("71.74"))]
    assert push(engine, refused=True) == {"confirmed": 1}
    assert ledger.invoices("state", "total_amount") == [("cancelled", Decimal("70.64")), ("posted", Decimal("71.74"))]


@pytest.mark.parametrize("allowed", [True, False], ids=["a move the other way round", "a credit note"])
def test_a_void_invoice_is_cancelled_and_nothing_is_owed(
    pilots_april: World, ledger: Ledger, engine: Engine, allowed: bool
) -> None:
    ledger.change("company.company", {"cancel_invoice_out": allowed})
    push(engine)
    pilots_april.done("void_invoice", invoices=[NUMBER])
    assert push(engine) == {"confirmed": 1}
    assert [state for state, reference in ledger.invoices("state", "reference") if reference] == ["cancelled"]
    assert len(ledger.invoices("id")) == (1 if allowed else 2)
    assert set(ledger.balances().values()) == {Decimal(0)}
    assert compare(engine) == Reconciled(APRIL, 1, 1, 7064, 7064, [])


def test_a_void_invoice_that_is_issued_again_is_posted_anew(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    push(engine)
    pilots_april.done("void_invoice", invoices=[NUMBER])
    push(engine)
    pilots_april.done("withdraw_from_finance", invoices=[NUMBER])
    pilots_april.done("reopen_invoice", invoices=[NUMBER])
    pilots_april.done("issue_drafts", month="2026-04")
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices("state") == [("cancelled",), ("posted",)]
    assert compare(engine).offenders == []


def test_a_payment_in_tryton_is_recorded_here(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    push(engine)
    ledger.pay()
    assert compare(engine).paid == [NUMBER]
    assert pilots_april.query("select status from billing.tenant_invoices") == [("paid",)]
    assert compare(engine).offenders == []


def test_a_payment_here_is_for_people_to_enter_there(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    push(engine)
    pilots_april.done("mark_invoice_paid", invoices=[NUMBER])
    assert push(engine) == {"confirmed": 1}
    assert [offender["what"] for offender in compare(engine).offenders] == ["status open there, paid here"]


def test_a_closed_period_is_a_refusal_and_once_it_is_open_the_same_draft_is_posted(
    pilots_april: World, ledger: Ledger, engine: Engine
) -> None:
    with ledger.closed():
        assert push(engine) == {"refused": 1}
    [(state, why)] = said(pilots_april)
    assert state == "refused"
    assert why.startswith("refuses it: To continue, you must reopen the period ")
    [(draft, state)] = ledger.invoices("id", "state")
    assert state == "draft"
    assert compare(engine).offenders == []
    assert push(engine) == {}
    assert push(engine, refused=True) == {"confirmed": 1}
    assert ledger.invoices("id", "state") == [(draft, "posted")]


def test_what_the_accountant_has_not_set_up_is_said(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    ledger.change("account.tax", {"rate": Decimal("0.15")})
    assert push(engine) == {"refused": 1}
    why = "refuses it: Tryton has no taxes of 10 % on sales: have one there, whose name begins with GST"
    assert said(pilots_april) == [("refused", why)]


def test_totals_that_differ_are_not_posted(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    """The draft that was left is changed by hand: the addon's 7.50 are 8.50 now."""
    with ledger.closed():
        push(engine)
    [draft] = ledger.invoices("id")[0]
    [line] = ledger.query("select id from account_invoice_line where unit_price = 7.5")[0]
    ledger.rpc.change("model.account.invoice.line.write", [line], {"unit_price": Decimal("8.50")})
    assert push(engine, refused=True) == {"refused": 1}
    differ = f"65.22 + 6.42 = 71.64 in Tryton (draft {draft}), 64.22 + 6.42 = 70.64 here"
    assert said(pilots_april) == [("refused", f"refuses it: totals differ: {differ}")]
    assert ledger.invoices("state") == [("draft",)]


def test_an_invoice_that_comes_late_is_booked_on_its_day_though_numbers_went_on(
    world: World, ledger: Ledger, engine: Engine
) -> None:
    """Tryton's numbers go up with the days: what was issued 40 days ago is dated as the one before it."""
    studio(world, 5000)
    world.publish("2026-04")
    assert push(engine) == {"confirmed": 1}
    world.tenant("late")
    world.deployment("late", "store", "studio")
    world.publish("2026-04")
    world.tamper(
        "update billing.tenant_invoices set issued_at = issued_at - interval '40 days' where tenant_id = 'late'"
    )
    world.tamper("delete from billing.finance_outbox where tenant_id = 'late'")
    assert push(engine) == {"confirmed": 1}
    [(today, _), (day, booked)] = ledger.invoices("invoice_date", "accounting_date")
    assert (day, (today - booked).days) == (today, 40)


def test_a_number_that_somebody_else_uses_is_refused(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    push(engine)
    [draft] = ledger.rpc.change("model.account.invoice.copy", [ledger.invoices("id")[0][0]], {"description": "Mine"})
    ledger.rpc.change("model.account.invoice.write", [draft], {"reference": NUMBER})
    pilots_april.done("void_invoice", invoices=[NUMBER])
    assert push(engine) == {"refused": 1}
    why = f"refuses it: another invoice (id {draft}) has the reference {NUMBER}: see its description"
    assert said(pilots_april)[1] == ("refused", why)


def test_a_copy_that_an_accountant_made_is_left_alone(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    push(engine)
    ledger.rpc.change("model.account.invoice.copy", [ledger.invoices("id")[0][0]], {})
    assert compare(engine).offenders == []
    pilots_april.done("void_invoice", invoices=[NUMBER])
    assert push(engine) == {"confirmed": 1}
    assert ledger.invoices("state", "reference") == [("cancelled", NUMBER), ("draft", None)]


def test_what_is_changed_or_lost_in_tryton_is_found(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    push(engine)
    [(description,)] = ledger.invoices("description")
    missing, addon = "finance does not have it", "update account_invoice_line set unit_price = %s where unit_price = %s"
    for sql, values, what in (
        (addon, ["8.50", "7.50"], "content_sha256"),
        (addon, ["7.50", "8.50"], None),
        (
            "update account_invoice set total_amount_cache = 70.65",
            [],
            "total_cents 7065 there, 7064 here; content_sha256",
        ),
        ("update account_invoice set total_amount_cache = 70.64", [], None),
        ("update account_invoice set description = 'mine'", [], missing),
        ("update account_invoice set description = %s", [f"{description} mine"], None),
        ("update account_invoice set reference = null", [], missing),
        (f"update account_invoice set reference = '{NUMBER}'", [], None),
        ("truncate account_invoice cascade", [], missing),
    ):
        ledger.query(sql, *values)
        assert [offender["what"] for offender in compare(engine).offenders] == ([what] if what else [])
    assert compare(engine).offenders == [{"fault": "missing", "invoice": NUMBER, "tenant_id": "pilot", "what": missing}]


def test_an_invoice_that_an_accountant_cancelled_is_found(pilots_april: World, ledger: Ledger, engine: Engine) -> None:
    push(engine)
    ledger.rpc.change("model.account.invoice.cancel", [ledger.invoices("id")[0][0]])
    assert [offender["what"] for offender in compare(engine).offenders] == ["status void there, issued here"]
