"""Replay: a month rebuilt from its frozen usage is the month that stands, and what is not is named."""

from decimal import Decimal

import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof.replay import Replay, replay
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.world import World, uid

APRIL = BillingMonth.parse("2026-04")


def rebuild(on: Engine) -> Replay:
    """April, rebuilt."""
    with database.snapshot(on) as connection:
        return replay(connection, APRIL)


def publish_april(world: World) -> None:
    """As `april` says."""
    world.pilot()
    world.tenant("acme")
    world.deployment("acme", "api", "studio")
    world.publish("2026-04")


@pytest.fixture
def april(world: World) -> World:
    """April of the pilot, 64.22 + GST, and of acme, 50.00 + GST."""
    return world


BEGINNINGS = {"april": publish_april}


def test_a_month_is_rebuilt_from_its_frozen_usage(april: World, engine: Engine) -> None:
    """Byte for byte, also when the records are gone and later prices have come."""
    april.query("delete from cloud.usage_records")
    april.plan("studio", 6000, since="2026-05-01")
    assert rebuild(engine) == Replay(APRIL, identical=2, differing=0, first=None, void=0, held_back=0, corrected=0)


def test_the_first_line_that_differs_is_named_with_both_sides(april: World, engine: Engine) -> None:
    """Frozen usage of 100 h more: the pilot's third line, 672 h, would be 772 h; the others are as they were."""
    april.tamper("update billing.metered_usage set quantity = quantity + 100")
    found = rebuild(engine)
    assert (found.identical, found.differing) == (1, 1)
    first = found.first
    assert first is not None
    assert (first.tenant_id, first.invoice_number) == ("pilot", "INV-202604-00002")
    assert first.standing is not None
    assert first.rebuilt is not None
    shared = {
        "line_no": 3,
        "deployment_id": str(uid("web")),
        "kind": "overage",
        "resource_kind": "droplet_hours",
        "description": "Overage: droplet_hours",
        "unit": "hour",
        "unit_price_cents": 1,
        "price_per": 1,
    }
    meta = {"effective_from": "2026-01-01", "included": "1488.000000"}
    assert first.standing == {**shared, "qty": 672, "amount_cents": 672, "meta": {**meta, "used": "2160.000000"}}
    assert first.rebuilt == {**shared, "qty": 772, "amount_cents": 772, "meta": {**meta, "used": "2260.000000"}}
    assert isinstance(first.rebuilt["qty"], Decimal)


def test_a_line_that_only_one_side_has_is_named_alone(april: World, engine: Engine) -> None:
    """The addon ends before April: the pilot's second line would not be there."""
    april.query("update cloud.subscription_addons set ended_at = '2026-03-31'")
    first = rebuild(engine).first
    assert first is not None
    assert first.standing is not None
    assert (first.standing["line_no"], first.standing["description"]) == (2, "Addon: storage_50gb")
    assert first.rebuilt is None


def test_invoices_that_only_one_side_has_are_differences(april: World, engine: Engine) -> None:
    """Acme's would not be there, aardvark's is missing, and who is first in the alphabet is named."""
    april.query("update cloud.subscriptions set status = 'pending' where tenant_id = 'acme'")
    found = rebuild(engine)
    assert found.first is not None
    assert (found.identical, found.differing, found.first.tenant_id) == (1, 1, "acme")
    assert found.first.rebuilt_sha256 is None
    april.tenant("aardvark")
    april.deployment("aardvark", "burrow", "studio")
    found = rebuild(engine)
    assert found.first is not None
    assert (found.identical, found.differing, found.first.tenant_id) == (1, 2, "aardvark")
    assert (found.first.invoice_number, found.first.standing_sha256) == (None, None)


def test_a_hash_that_is_not_that_of_its_lines_is_a_difference_without_a_line(april: World, engine: Engine) -> None:
    """The lines are the same, and somebody changed the hash."""
    april.tamper("update billing.tenant_invoices set content_sha256 = repeat('0', 64) where tenant_id = 'acme'")
    found = rebuild(engine)
    assert found.first is not None
    assert (found.differing, found.first.tenant_id) == (1, "acme")
    assert (found.first.standing, found.first.rebuilt) == (None, None)


def test_void_invoices_and_tenants_held_back_are_left_out_and_counted(april: World, engine: Engine) -> None:
    """Acme's is void; the pilot's plan loses its price."""
    april.query("update billing.tenant_invoices set status = 'void' where tenant_id = 'acme'")
    assert rebuild(engine) == Replay(APRIL, identical=1, differing=0, first=None, void=1, held_back=0, corrected=0)
    april.plan("bespoke")
    april.query("update cloud.subscriptions set plan_id = %s where tenant_id = 'pilot'", uid("bespoke"))
    assert rebuild(engine) == Replay(APRIL, identical=0, differing=0, first=None, void=1, held_back=1, corrected=0)


def test_a_paid_invoice_may_differ_by_its_correction(april: World, engine: Engine) -> None:
    """1 h more: a difference until it is in invoice_corrections, which the audit proves to the cent."""
    april.query("update billing.tenant_invoices set status = 'paid'")
    april.tamper("update billing.metered_usage set quantity = quantity + 1")
    assert rebuild(engine).differing == 1
    april.query(
        "insert into billing.invoice_corrections values"
        " ('2026-04-01', 'pilot', 'INV-202604-00002', 6422, 6423, default, 'run')"
    )
    assert rebuild(engine) == Replay(APRIL, identical=1, differing=0, first=None, void=0, held_back=0, corrected=1)


def test_a_paid_invoice_may_differ_by_no_cent(april: World, engine: Engine) -> None:
    """672.4 h are 6.72 as 672 h were: nothing is to be corrected, and nothing is wrong. An issued one is revised."""
    april.tamper("update billing.metered_usage set quantity = quantity + 0.4")
    assert rebuild(engine).differing == 1
    april.query("update billing.tenant_invoices set status = 'paid'")
    assert rebuild(engine) == Replay(APRIL, identical=1, differing=0, first=None, void=0, held_back=0, corrected=1)


FORGED = """
    update billing.tenant_invoice_lines set unit_price_cents = unit_price_cents + d, amount_cents = amount_cents + d
    from (values (1, 100), (2, -100)) f (n, d)
    where line_no = n and invoice_id = (select id from billing.tenant_invoices where tenant_id = 'pilot')
"""
OTHER_HASH = "update billing.tenant_invoices set content_sha256 = repeat('0', 64) where tenant_id = 'pilot'"


@pytest.mark.parametrize("correction", [False, True], ids=["even", "corrected"])
@pytest.mark.parametrize(
    ("tampering", "rewritten"),
    [([FORGED], False), ([FORGED], True), ([FORGED, OTHER_HASH], True)],
    ids=["lines", "lines with their hash", "lines with both hashes and the chain"],
)
def test_a_locked_invoice_that_was_forged_to_the_same_total_is_named(
    april: World, engine: Engine, tampering: list[str], rewritten: bool, correction: bool
) -> None:
    """A dollar moved from the addon, 7.50, to the plan, 50.00, on a paid invoice: no cent differs, and it is no match.

    Neither is it taken for corrected where a correction of the invoice is known.
    """
    april.query("update billing.tenant_invoices set status = 'paid'")
    for sql in tampering:
        april.tamper(sql)
    if rewritten:
        april.rewrite()
    if correction:
        april.query(
            "insert into billing.invoice_corrections values"
            " ('2026-04-01', 'pilot', 'INV-202604-00002', 6422, 6423, default, 'run')"
        )
    found = rebuild(engine)
    assert (found.identical, found.differing, found.corrected) == (1, 1, 0)
    assert found.first is not None
    assert found.first.standing is not None
    assert found.first.rebuilt is not None
    assert [(line["line_no"], line["amount_cents"]) for line in (found.first.standing, found.first.rebuilt)] == [
        (1, 5100),
        (1, 5000),
    ]


def test_an_invoice_that_is_not_as_its_newest_event_left_it_is_a_difference(april: World, engine: Engine) -> None:
    """The same lines, and the same hash, under another number."""
    april.tamper("update billing.tenant_invoices set invoice_number = 'INV-1' where tenant_id = 'acme'")
    found = rebuild(engine)
    assert found.first is not None
    assert (found.differing, found.first.invoice_number) == (1, "INV-1")
    assert (found.first.standing, found.first.standing_sha256) == (None, found.first.rebuilt_sha256)


def test_a_month_in_which_nobody_is_billed_is_rebuilt_too(world: World, engine: Engine) -> None:
    """No invoice stands, and none is made."""
    world.tenant("pilot")
    world.publish("2026-04")
    assert rebuild(engine) == Replay(APRIL, identical=0, differing=0, first=None, void=0, held_back=0, corrected=0)
