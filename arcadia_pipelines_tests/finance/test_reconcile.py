"""The reconcile: what finance has beside what we know, and the payments that it knows of."""

from typing import Any

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import Client, FinanceError
from arcadia_pipelines.finance.reconcile import Reconciled
from arcadia_pipelines.finance.reconcile import reconcile as compare
from arcadia_pipelines.settings import Settings
from arcadia_pipelines_tests.finance import receiver
from arcadia_pipelines_tests.finance.receiver import Call, Receiver
from arcadia_pipelines_tests.world import World

APRIL = BillingMonth.parse("2026-04")
INVOICE = {"invoice": "INV-202604-00001", "tenant_id": "pilot"}


def reconcile(engine: Engine, dry_run: bool = False) -> Reconciled:
    with Client(Settings.from_environment()) as client:
        return compare(engine, client, APRIL, dry_run=dry_run)


@pytest.fixture
def told(pilots_april: World, finance: Receiver, engine: Engine) -> World:
    """The pilot's April, 70.64, as finance has it."""
    draining.prepare(engine, APRIL)
    with Client(Settings.from_environment()) as client:
        draining.drain(engine, client, APRIL)
    return pilots_april


def there(finance: Receiver) -> dict[str, Any]:
    [found] = finance.invoices.values()
    return found


def test_a_month_that_agrees_has_no_offenders(told: World, engine: Engine) -> None:
    assert reconcile(engine) == Reconciled(APRIL, 1, 1, 7064, 7064, [])


def test_what_finance_forgot_is_missing(told: World, finance: Receiver, engine: Engine) -> None:
    finance.invoices.clear()
    assert reconcile(engine).offenders == [{"fault": "missing", **INVOICE, "what": "finance does not have it"}]


def test_what_was_never_sent_is_extra(told: World, finance: Receiver, engine: Engine) -> None:
    stray = {**there(finance), "invoice_id": "00000000-0000-0000-0000-000000000001", "number": "INV-202604-00002"}
    finance.invoices[stray["invoice_id"]] = stray
    assert reconcile(engine).offenders == [
        {"fault": "extra", "invoice": "INV-202604-00002", "tenant_id": None, "what": "never sent, or withdrawn here"}
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"total_cents": 7065}, "total_cents 7065 there, 7064 here"),
        ({"content_sha256": "0" * 64}, "content_sha256"),
        ({"status": "void"}, "status void there, issued here"),
    ],
)
def test_what_was_changed_there_is_different(
    told: World, finance: Receiver, engine: Engine, change: dict[str, Any], what: str
) -> None:
    there(finance).update(change)
    assert reconcile(engine).offenders == [{"fault": "different", **INVOICE, "what": what}]


def test_a_summary_that_is_not_that_of_the_list_is_told(told: World, finance: Receiver, engine: Engine) -> None:
    def lie(call: Call) -> None:
        call.do()
        if call.template == "/summary":
            call.answer(200, {**call.document, "count": 2})

    finance.trouble = lie
    assert [offender["what"] for offender in reconcile(engine).offenders] == ["count 2, its list 1"]


def test_what_is_still_to_be_told_is_no_difference(told: World, finance: Receiver, engine: Engine) -> None:
    told.done("void_invoice", invoices=["INV-202604-00001"])
    assert reconcile(engine).offenders == []


def test_a_payment_that_finance_knows_of_is_recorded_once_and_not_told_back(
    told: World, finance: Receiver, engine: Engine
) -> None:
    there(finance).update(status="paid", paid_on="2099-05-14")  # after its day of issue
    assert reconcile(engine, dry_run=True).paid == ["INV-202604-00001"]
    assert told.query("select status from billing.tenant_invoices") == [("issued",)]
    assert reconcile(engine).paid == ["INV-202604-00001"]
    assert told.query("select status, paid_at::date::text from billing.tenant_invoices") == [("paid", "2099-05-14")]
    assert told.events()[-1] == ("paid", "pilot", "INV-202604-00001", 1, "finance")
    assert (reconcile(engine).paid, reconcile(engine).offenders) == ([], [])
    assert told.query("select operation from billing.finance_outbox") == [("put",)]


def test_a_payment_recorded_here_that_finance_does_not_know_is_different(
    told: World, finance: Receiver, engine: Engine
) -> None:
    finance.knows_payments = False
    told.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    with Client(Settings.from_environment()) as client:
        draining.drain(engine, client, APRIL)
    assert [offender["what"] for offender in reconcile(engine).offenders] == ["status open there, paid here"]


def test_a_list_of_many_pages_is_read_whole(
    told: World, finance: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "PAGE", 1)
    for number in (1, 2):
        stray = {**there_of(finance), "invoice_id": f"ffffffff-0000-0000-0000-00000000000{number}"}
        finance.invoices[stray["invoice_id"]] = stray
    assert reconcile(engine).theirs == 3


def test_payments_of_two_days_are_recorded_each_on_its_day(world: World, finance: Receiver, engine: Engine) -> None:
    world.plan("studio", 5000)
    for tenant in ("t1", "t2", "t3"):
        world.tenant(tenant)
        world.deployment(tenant, f"of {tenant}", "studio")
    world.publish("2026-04")
    with Client(Settings.from_environment()) as client:
        draining.drain(engine, client, APRIL)
    for invoice, day in zip(finance.invoices.values(), ("2099-05-14", "2099-05-15", "2001-01-01"), strict=True):
        invoice.update(status="paid", paid_on=day)
    assert len(reconcile(engine).paid) == 3
    days = world.query(
        "select paid_at::date::text, paid_at::date = issued_at::date from billing.tenant_invoices order by 1"
    )
    assert [day for day, on_day_of_issue in days if not on_day_of_issue] == ["2099-05-14", "2099-05-15"]


def there_of(finance: Receiver) -> dict[str, Any]:
    return next(iter(finance.invoices.values()))


def test_finance_that_does_not_answer_is_said_in_one_line(told: World, finance: Receiver, engine: Engine) -> None:
    finance.trouble = receiver.saying(401)
    with pytest.raises(
        FinanceError, match=r"^finance does not say what it has: answered 401: .* ARCADIA_FINANCE_TOKEN"
    ):
        reconcile(engine)
