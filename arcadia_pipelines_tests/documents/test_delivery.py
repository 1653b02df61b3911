"""Who sells, when an invoice is due, and what a delivered invoice keeps."""

import datetime as dt
import hashlib
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import delivery, pdf
from arcadia_pipelines.documents.content import Content, Kind, NoDocument, State, content_of
from arcadia_pipelines.proof import left
from arcadia_pipelines.proof.controls import CONTROLS, find
from arcadia_pipelines.storage import database, documents
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.documents import Made, Shown
from arcadia_pipelines.storage.operations import OperationRefused
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World

SUPPLIER: dict[str, Any] = {
    "from_month": "2026-01",
    "legal_name": "Arcadia Cloud Pty Ltd",
    "abn": "19 642 100 001",
    "address": ["Level 4, 18 Sample Street", "Sydney NSW 2000"],
    "email": "accounts@arcadia.example",
    "bank_account_name": "Arcadia Cloud Pty Ltd",
    "bank_bsb": "000000",
    "bank_account_number": "1234 5678",
    "payment_terms_days": 14,
}
PDF = Made("pdf", "a" * 64, "test 1")
AUTHOR = Author("ada", "sent by hand", "")


def with_supplier(world: World) -> None:
    world.done("set_supplier", **SUPPLIER)
    world.pilot()
    world.publish("2026-04")


BEGINNINGS = {"delivering": with_supplier}


@pytest.fixture
def delivering(world: World) -> World:
    """A supplier, and the pilot's April, published."""
    return world


def ids(world: World) -> list[UUID]:
    return [row[0] for row in world.query("select id from billing.tenant_invoices order by period_start, tenant_id")]


def contents(world: World) -> list[Content]:
    with database.transaction(database.engine(world.url)) as connection:
        return [content_of(row) for row in documents.content(connection, ids(world))]


def deliver(world: World, revision: int = 1, made: Made | None = None) -> bool:
    made = made or delivery.made_of(pdf.render(contents(world)[0]))
    with database.transaction(database.engine(world.url)) as connection:
        return documents.deliver(connection, Shown(ids(world)[0], revision), [made], AUTHOR)


def test_a_supplier_is_entered_with_its_numbers_spelled_one_way_and_a_later_entry_counts(world: World) -> None:
    assert world.done("set_supplier", **SUPPLIER) == (
        "Arcadia Cloud Pty Ltd (ABN 19642100001) entered as the supplier from 2026-01 on"
    )
    world.done("set_supplier", **{**SUPPLIER, "email": "billing@arcadia.example"})
    columns = "abn, address, email, bank_bsb, bank_account_number, operator"
    first = ("19642100001", "Level 4, 18 Sample Street\nSydney NSW 2000", "accounts@arcadia.example")
    assert world.query(f"select {columns} from billing.suppliers order by id") == [
        (*first, "000-000", "12345678", "ada"),
        (*first[:2], "billing@arcadia.example", "000-000", "12345678", "ada"),
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"abn": "19642100002"}, "ABN '19642100002' is not an ABN: its 11 digits do not check each other"),
        ({"email": "arcadia.example"}, "email 'arcadia.example' is not an address"),
        ({"bank_bsb": "00-000"}, "bank_bsb '00-000' is not a BSB"),
        ({"bank_account_number": "12 34"}, "bank_account_number '12 34' is not 5 to 10 digits"),
        ({"payment_terms_days": 366}, "payment_terms_days 366 is not between 0 and 365"),
        ({"legal_name": " "}, "legal_name must be one line of 1 to 200 printable characters, and is ' '"),
        ({"address": []}, "the address must have 1 to 6 lines, and has 0"),
        ({"logo_svg": "<png/>"}, "the logo is not SVG: its first element must be svg"),
        (
            {"logo_svg": '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0"/>'},
            "the logo cannot be drawn (failed to parse SVG (width, height, or viewbox is invalid)): save it as plain",
        ),
    ],
)
def test_a_supplier_that_no_invoice_may_show_is_refused(world: World, wrong: dict[str, Any], says: str) -> None:
    assert says in world.refused("set_supplier", **{**SUPPLIER, **wrong})
    assert world.query("select count(*) from billing.suppliers") == [(0,)]


def test_an_invoice_keeps_its_supplier_and_its_buyer_and_is_due_by_the_suppliers_terms(delivering: World) -> None:
    delivering.done("set_supplier", **{**SUPPLIER, "address": ["1 New Street"], "payment_terms_days": 30})
    delivering.query("update cloud.tenants set name = 'Renamed Pty Ltd', billing_address = 'Elsewhere'")
    delivering.publish("2026-04")
    content = contents(delivering)[0]
    assert (content.supplier.address, content.buyer.name) == ("Level 4, 18 Sample Street\nSydney NSW 2000", "Pilot")
    issued_on = content.issued_on
    assert issued_on
    assert content.due_on == issued_on + dt.timedelta(days=14)
    delivering.use("web", "droplet_hours", 100, "2026-04-20")
    delivering.publish("2026-04")
    content = contents(delivering)[0]
    assert (content.revision, content.supplier.address, content.buyer.name) == (2, "1 New Street", "Renamed Pty Ltd")
    assert content.due_on == issued_on + dt.timedelta(days=14)
    assert delivering.disproved() == []


def test_a_draft_has_no_due_day_until_it_is_issued(world: World) -> None:
    world.done("set_supplier", **SUPPLIER)
    world.pilot()
    world.done("hold_tenant", tenants=["pilot"])
    world.publish("2026-04")
    columns = "select supplier_id, due_on - (issued_at at time zone 'UTC')::date from billing.tenant_invoices"
    assert world.query(columns) == [(None, None)]
    world.done("release_tenant", tenants=["pilot"])
    world.done("issue_drafts", month="2026-04")
    assert world.query(columns) == [(1, 14)]
    assert world.disproved() == []


def test_without_a_supplier_there_is_no_document_and_the_invoice_gets_it_when_it_is_delivered(
    pilots_april: World,
) -> None:
    with pytest.raises(NoDocument, match=r"INV-202604-00001 has no supplier: enter who sells from 2026-04 on"):
        contents(pilots_april)
    pilots_april.done("set_supplier", **SUPPLIER)
    assert contents(pilots_april)[0].supplier.legal_name == "Arcadia Cloud Pty Ltd"
    assert deliver(pilots_april)
    assert pilots_april.query("select supplier_id, due_on - issued_at::date from billing.tenant_invoices") == [(1, 14)]
    assert pilots_april.disproved() == []


@pytest.mark.long
def test_a_delivered_invoice_is_never_revised_and_the_next_one_carries_the_difference(delivering: World) -> None:
    assert deliver(delivering)
    delivering.use("web", "droplet_hours", 100, "2026-04-20")
    assert delivering.publish("2026-04").actions["frozen"] == 1
    delivering.publish("2026-05")
    # 50.00 + 7.50, and April's 100 hours at 1 c.
    assert delivering.lines("pilot", "2026-05")[-2:] == [
        ("Adjustment: 2026-04, INV-202604-00001", 100),
        ("GST 10%", 585),
    ]
    april, may = contents(delivering)
    assert (april.revision, april.total_cents, may.adjusts) == (1, 7064, ("INV-202604-00001",))
    assert [event[0] for event in delivering.query("select event from billing.invoice_events order by id")] == [
        "issued",
        "delivered",
        "issued",
    ]
    assert delivering.disproved() == []


def test_a_delivered_invoice_that_is_voided_stays_void(delivering: World) -> None:
    deliver(delivering)
    delivering.done("void_invoice", invoices=["INV-202604-00001"])
    said = delivering.refused("reopen_invoice", invoices=["INV-202604-00001"])
    assert "INV-202604-00001 of pilot was delivered, and stays void: bill what is owed on the tenant's next" in said


def events(world: World) -> list[str]:
    return [event for (event,) in world.query("select event from billing.invoice_events order by id")]


def test_a_delivered_invoice_that_is_voided_is_taken_back_by_an_adjustment_note(
    delivering: World, arcadia: Call, tmp_path: Path
) -> None:
    """The whole of 64.22 + 6.42 = 70.64, on the day when it was voided."""
    number = "INV-202604-00001"
    delivering.done("deliver", invoices=[number])
    delivering.done("void_invoice", invoices=[number])
    [note] = contents(delivering)
    assert (note.kind, note.number, note.cancels, note.adjusts) == (
        Kind.ADJUSTMENT_NOTE,
        f"{number}-ADJ",
        number,
        (number,),
    )
    assert (note.subtotal_cents, note.gst_cents, note.total_cents) == (-6422, -642, -7064)
    assert [(line.amount_cents, line.gst_cents) for line in note.lines] == [(-5000, -500), (-750, -75), (-672, -67)]
    voided_on = "select (occurred_at at time zone 'UTC')::date from billing.invoice_events where event = 'voided'"
    assert delivering.query(voided_on) == [(note.issued_on,)]
    assert arcadia("document", number, "--pdf", str(tmp_path / "note.pdf")).code == 0
    assert (tmp_path / "note.pdf").read_bytes() == pdf.render(note)


def test_an_adjustment_note_is_delivered_once_and_the_delivery_of_its_invoice_stays_in_the_record(
    delivering: World, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"invoices": ["INV-202604-00001"], "into": str(tmp_path)}
    delivering.done("deliver", **asked)
    [[delivered_at]] = delivering.query("select delivered_at from billing.tenant_invoices")
    delivering.done("void_invoice", invoices=["INV-202604-00001"])
    note = "0 invoices delivered now, $0.00 with GST; 1 adjustment note delivered now"
    assert delivering.done("deliver", **asked) == note
    again = "0 invoices delivered now, $0.00 with GST; 1 had been delivered before"
    assert delivering.done("deliver", **asked) == again
    assert sorted(file.name for file in tmp_path.iterdir()) == ["INV-202604-00001-ADJ.pdf", "INV-202604-00001.pdf"]
    assert delivering.query("select state, sha256 from billing.documents order by state") == [
        ("issued", hashlib.sha256((tmp_path / "INV-202604-00001.pdf").read_bytes()).hexdigest()),
        ("void", hashlib.sha256((tmp_path / "INV-202604-00001-ADJ.pdf").read_bytes()).hexdigest()),
    ]
    assert events(delivering) == ["issued", "delivered", "voided", "delivered"]
    assert delivering.query("select status, delivered_at from billing.tenant_invoices") == [("void", delivered_at)]
    assert delivering.publish("2026-04").actions["frozen"] == 0
    assert delivering.disproved() == []


def test_a_check_names_the_adjustment_notes_that_are_still_to_be_delivered(delivering: World) -> None:
    def found() -> list[tuple[object, object]]:
        [control] = [control for control in CONTROLS if control.name == "cancelled_invoices_are_taken_back"]
        with database.transaction(database.engine(delivering.url)) as connection:
            offenders = find(connection, control, BillingMonth.parse("2026-04")).offenders
        return [(one["invoice_number"], one["total_cents"]) for one in offenders]

    delivering.done("deliver", invoices=["INV-202604-00001"])
    assert found() == []
    delivering.done("void_invoice", invoices=["INV-202604-00001"])
    assert found() == [("INV-202604-00001", 7064)]
    delivering.done("deliver", invoices=["INV-202604-00001"])
    assert found() == []


def test_an_invoice_that_was_never_delivered_has_no_adjustment_note_when_it_is_voided(delivering: World) -> None:
    delivering.done("void_invoice", invoices=["INV-202604-00001"])
    [content] = contents(delivering)
    assert (content.state, content.number, content.cancels) == (State.VOID, "INV-202604-00001", None)


def test_an_invoice_that_is_voided_while_its_pdf_is_made_is_not_delivered_as_if_it_stood(delivering: World) -> None:
    made = delivery.made_of(pdf.render(contents(delivering)[0]))
    deliver(delivering)
    delivering.done("void_invoice", invoices=["INV-202604-00001"])
    with pytest.raises(OperationRefused, match="was voided meanwhile: deliver its adjustment note"):
        deliver(delivering, made=made)


def test_a_document_is_delivered_once_and_its_first_hash_is_kept(delivering: World) -> None:
    assert deliver(delivering, made=PDF)
    assert not deliver(delivering, made=Made("pdf", "b" * 64, "test 2"))
    deliver(delivering, made=Made("xml", "c" * 64, "test 2"))
    kept = "select format, left(sha256, 1), made_by from billing.documents order by 1"
    assert delivering.query(kept) == [("pdf", "a", "test 1"), ("xml", "c", "test 2")]


def test_what_made_a_document_is_named_by_its_format() -> None:
    by = {of: re.findall("[a-z.-]+(?= )", delivery.made_of(b"", of).made_by) for of in ("pdf", "xml")}
    assert by == {"pdf": ["arcadia-pipelines", "typst", "invoice.typ"], "xml": ["arcadia-pipelines", "lxml"]}


def test_a_revision_that_is_gone_or_a_void_invoice_is_not_delivered(delivering: World) -> None:
    with pytest.raises(OperationRefused, match="was made anew meanwhile, and has revision 1: deliver that"):
        deliver(delivering, revision=2)
    delivering.done("void_invoice", invoices=["INV-202604-00001"])
    with pytest.raises(OperationRefused, match="INV-202604-00001 is void: only issued and paid ones are delivered"):
        deliver(delivering)
    assert delivering.query("select count(*) from billing.documents") == [(0,)]


@pytest.mark.parametrize(
    "change",
    ["delivered_at = null", "delivered_at = now() + interval '1 day'", "due_on = due_on + 1", "supplier_id = null"],
)
def test_postgresql_refuses_to_change_what_was_delivered(delivering: World, change: str) -> None:
    deliver(delivering)
    with pytest.raises(psycopg.errors.RestrictViolation, match="keeps its"):
        delivering.query(f"update billing.tenant_invoices set {change}")


def test_the_lines_share_the_gst_of_the_invoice_by_largest_remainders(delivering: World) -> None:
    # 6.42 of 64.22: tenths of 50.00, 7.50 and 6.72 are 5.00, 0.75 and 0.672; 0.67 is rounded down and no cent is left.
    assert [(line.amount_cents, line.gst_cents) for line in contents(delivering)[0].lines] == [
        (5000, 500),
        (750, 75),
        (672, 67),
    ]
    delivering.done("add_line", tenant="pilot", month="2026-04", amount="-0.03", description="Goodwill")
    delivering.done("add_line", tenant="pilot", month="2026-04", amount="0.04", description="Stamp")
    delivering.publish("2026-04")
    # Tenths of -0.03 and 0.04 are -0.003 and 0.004: rounded down -0.01 and 0.00. 6.42 leaves one cent, for the largest
    # remainder: 0.7 of a cent of -0.01 it is, before 0.4 of 0.04 and 0.2 of 6.72.
    assert [(line.amount_cents, line.gst_cents) for line in contents(delivering)[0].lines] == [
        (5000, 500),
        (750, 75),
        (672, 67),
        (-3, 0),
        (4, 0),
    ]


def test_an_invoice_below_zero_is_an_adjustment_note(delivering: World) -> None:
    delivering.done("add_line", tenant="pilot", month="2026-04", amount="-100.00", description="Goodwill")
    delivering.publish("2026-04")
    content = contents(delivering)[0]
    assert (content.kind, content.total_cents, content.gst_cents) == (Kind.ADJUSTMENT_NOTE, -3936, -358)
    assert sum(line.gst_cents for line in content.lines) == -358
    assert content.lines[-1].unit_price_cents == Decimal(-10000)


def test_an_operator_delivers_invoices_and_gets_their_pdfs_and_the_audit_makes_them_again(
    delivering: World, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"invoices": ["INV-202604-00001"], "into": str(tmp_path)}
    assert delivering.would("deliver", **asked) == (
        "dry run, nothing is written: 1 invoice would be delivered, $70.64 with GST"
    )
    assert list(tmp_path.iterdir()) == []
    assert delivering.query("select delivered_at from billing.tenant_invoices") == [(None,)]
    assert delivering.done("deliver", **asked) == "1 invoice delivered now, $70.64 with GST"
    [file] = tmp_path.iterdir()
    [[sha256]] = delivering.query("select sha256 from billing.documents")
    assert (file.name, sha256) == ("INV-202604-00001.pdf", hashlib.sha256(file.read_bytes()).hexdigest())
    assert delivering.done("deliver", **asked) == (
        "0 invoices delivered now, $0.00 with GST; 1 had been delivered before"
    )
    assert delivering.disproved() == []


@pytest.mark.long
def test_a_document_that_would_be_another_now_is_found_and_served_all_the_same(
    delivering: World, arcadia: Call, tmp_path: Path
) -> None:
    """The tenant has seen another buyer than the invoice has now: it was changed behind our back."""
    assert arcadia("deliver", "INV-202604-00001", "--operator", "ada", "--reason", "sent", "--no-dry-run").code == 0
    delivering.tamper("""update billing.tenant_invoices set meta = meta || '{"tenant_name": "Somebody else"}'""")
    with database.snapshot(database.engine(delivering.url)) as connection:
        looked_at, finding = left.find(connection, BillingMonth.parse("2026-04"))
    assert (looked_at, finding.count, finding.offenders[0]["format"]) == (1, 1, "pdf")
    assert ("2026-04", "documents_are_as_they_left") in delivering.disproved()
    assert arcadia("document", "INV-202604-00001", "--pdf", str(tmp_path / "again.pdf")).code == 0


def test_an_invoice_that_is_void_is_not_delivered_and_none_of_the_others_either(delivering: World) -> None:
    delivering.publish("2026-05")
    delivering.done("void_invoice", invoices=["INV-202605-00001"])
    said = delivering.refused("deliver", invoices=["INV-202604-00001", "INV-202605-00001"])
    assert "INV-202605-00001 is void: only issued and paid ones are delivered" in said
    assert delivering.query("select count(*) from billing.documents") == [(0,)]
