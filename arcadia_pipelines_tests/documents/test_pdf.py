"""What a tax invoice says and shows, as a PDF: read back from its bytes."""

import datetime as dt
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pdfua
import pypdf
import pytest

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import pdf, xml
from arcadia_pipelines.documents.content import Buyer, Content, Line, State, cancelling, content_of
from arcadia_pipelines.documents.page import page
from arcadia_pipelines.storage import database, documents
from arcadia_pipelines.storage.suppliers import Supplier
from arcadia_pipelines_tests.documents import made
from arcadia_pipelines_tests.world import World

SUPPLIER = Supplier(
    "Arcadia Cloud Pty Ltd",
    "19642100001",
    "Level 4, 18 Sample Street\nSydney NSW 2000",
    "accounts@arcadia.example",
    "Arcadia Cloud Pty Ltd",
    "062-000",
    "12345678",
    14,
)


def line(kind: str, description: str, cents: int, qty: str = "1", unit: str | None = "month", **more: Any) -> Line:
    """A line of pilot-web, unless told otherwise; its GST is a tenth."""
    given = {"kind": kind, "unit": unit, "deployment_id": "1", "deployment_name": "pilot-web", "gst_cents": cents // 10}
    return made.line(description, cents, qty, **given | more)


STUDIO = line("plan_base", "Plan: studio", 5000)
STORAGE = line("addon", "Addon: storage_50gb", 750)
HOURS = line(
    "overage",
    "Overage: droplet_hours",
    672,
    "672.000000",
    "hour",
    resource_kind="droplet_hours",
    unit_price_cents=Decimal("1.00000000"),
    meta={"used": "2160.000000", "included": "1488.000000", "effective_from": "2025-07-01"},
)
GOODWILL = line("credit", "Credit: Goodwill", -10000, unit=None, deployment_id=None, deployment_name=None)
CORRECTION = line(
    "credit",
    "Credit: 2026-03, INV-202603-00004",
    -20000,
    unit=None,
    deployment_id=None,
    deployment_name=None,
    gst_cents=-2000,
    meta={"corrects": "2026-03-01", "invoice_number": "INV-202603-00004"},
)


def invoice(*lines: Line, gst_cents: int | None = None, **more: Any) -> Content:
    """The pilot's April with these lines, or its own: 50.00 + 7.50 + 6.72, GST 6.42, total 70.64."""
    lines = lines or (STUDIO, STORAGE, HOURS)
    gst = sum(one.amount_cents for one in lines) // 10 if gst_cents is None else gst_cents
    given: dict[str, Any] = {
        "number": "INV-202604-00010",
        "month": BillingMonth.parse("2026-04"),
        "issued_on": dt.date(2026, 5, 1),
        "due_on": dt.date(2026, 5, 15),
        "supplier": SUPPLIER,
        "buyer": Buyer("Pilot Pty Ltd", "51824753556", "12 Wharf Street\nSydney NSW 2000", "accounts@pilot.example"),
    }
    return made.content(*lines, gst_cents=gst, **given | more)


def texts(document: bytes) -> list[str]:
    """The document's lines of text, page by page; spaces are single, and a minus is the keyboard's."""
    pages = pypdf.PdfReader(io.BytesIO(document)).pages
    found = [one.extract_text().replace("\N{MINUS SIGN}", "-").splitlines() for one in pages]
    return [" ".join(line.split()) for lines in found for line in lines]


def faults(document: bytes, folder: Path) -> list[str]:
    """What breaks PDF/UA-1, as far as the checker looks: 16 of its 106 rules."""
    (folder / "document.pdf").write_bytes(document)
    return [finding.message for finding in pdfua.validate(str(folder / "document.pdf")).findings]


def attachments(document: bytes) -> Mapping[str, list[bytes]]:
    return pypdf.PdfReader(io.BytesIO(document)).attachments


def said(content: Content) -> str:
    return "\n".join(texts(pdf.render(content)))


def test_the_pilots_april_shows_what_a_tax_invoice_must() -> None:
    assert texts(pdf.render(invoice())) == [
        "Tax invoice Arcadia Cloud Pty Ltd",
        "From",
        "Arcadia Cloud Pty Ltd",
        "ABN 19 642 100 001",
        "Level 4, 18 Sample Street",
        "Sydney NSW 2000",
        "accounts@arcadia.example",
        "Billed to",
        "Pilot Pty Ltd",
        "ABN 51 824 753 556",
        "12 Wharf Street",
        "Sydney NSW 2000",
        "accounts@pilot.example",
        "Details",
        "Number INV-202604-00010",
        "Date of issue 1 May 2026",
        "Due 15 May 2026",
        "Period 1 to 30 April 2026 (UTC)",
        "Amount due",
        "$70.64",
        "by 15 May 2026",
        "How to pay",
        "Account name Arcadia Cloud Pty Ltd",
        "BSB 062-000",
        "Account number 12345678",
        "Reference INV-202604-00010",
        "Charges",
        "Description Quantity Unit price Amount ex GST",
        "pilot-web",
        "Plan: studio 1 month 50.00 50.00",
        "Addon: storage_50gb 1 month 7.50 7.50",
        "Overage: droplet_hours",
        "2,160 hours used, 1,488 included",
        "672 hours 0.01 6.72",
        "Subtotal before GST 64.22",
        "GST 10% 6.42",
        "Total including GST 70.64",
        "Prices and amounts are Australian dollars; those of the lines are before GST.",
        "Arcadia Cloud Pty Ltd · ABN 19 642 100 001 · INV-202604-00010 Page 1 of 1",
    ]


def test_a_part_month_says_what_its_price_is_for_and_tiers_pools_and_packages_say_their_rule() -> None:
    """24 of 30 days at 50.00 are 40.00; 13 packages of 10 GB at 1.00 are 13.00."""
    part = line("plan_base", "Plan: flex", 4000, "24", "day", unit_price_cents=Decimal(5000), price_per=Decimal(30))
    meta = {"used": "221", "included": "100", "model": "package"}
    packages = line("overage", "Overage: egress_gb", 1300, "13", "package of 10 GB", meta=meta)
    packages = replace(packages, unit_price_cents=Decimal(100))
    tier = {"used": "2160", "included": "0", "model": "graduated", "tier": "744 to 2976", "price_of": "tenant"}
    pooled = {"used": "2500.000000", "included": "1000", "pooled": "675"}
    found = said(
        invoice(
            part,
            packages,
            line("overage", "Overage: a", 637, "1416", "hour", unit_price_cents=Decimal("0.9"), meta=tier),
            line("overage", "Overage: b", 1238, "825", "GB", unit_price_cents=Decimal("1.5"), meta=pooled),
            line("overage", "Overage: c", 2000, "1", "cap", meta={"used": "900.5", "included": "50"}),
        )
    )
    assert "Plan: flex 24 days 50.00 for 30 days 40.00" in found
    assert "221 GB used, 100 included\n13 packages of 10 GB 1.00 13.00" in found
    assert "2,160 hours used, 0 included\nthe tier 744 to 2976\nat a price of your own\n1,416 hours 0.009 6.37" in found
    assert "2,500 GB used, 1,000 included, 675 from your pool\n825 GB 0.015 12.38" in found
    assert "900.5 used, 50 included\nmore was used: this is the most that is charged\n1 cap 20.00 20.00" in found


def test_lines_stand_by_deployment_with_subtotals_and_discounts_under_what_they_discount() -> None:
    """10 % off the plan's 50.00 are 5.00; 50.00 - 5.00 + 7.50 = 52.50 and 18.50 are 71.00."""
    off = line("discount", "Discount: spring", -500, unit=None, meta={"of": "plan_base", "percent": "10.0000"})
    second = line("plan_base", "Plan: starter", 1850, deployment_id="2", deployment_name="pilot-site")
    minimum = {"minimum_cents": 10000, "charges_cents": 7100}
    commitment = line("commitment", "Commitment: 100.00 a month", 2900, unit=None, meta=minimum)
    commitment = replace(commitment, deployment_id=None, deployment_name=None)
    found = said(invoice(STUDIO, STORAGE, off, second, commitment))
    parts = [
        "pilot-web\nPlan: studio 1 month 50.00 50.00\nDiscount: spring\n10% off the plan\n-5.00\n"
        "Addon: storage_50gb 1 month 7.50 7.50\nSubtotal 52.50",
        "pilot-site\nPlan: starter 1 month 18.50 18.50\nSubtotal 18.50",
        "Your account as a whole\nCommitment: 100.00 a month\n71.00 charged; the minimum is 100.00\n29.00\nSubtotal",
        "Subtotal before GST 100.00\nGST 10% 10.00\nTotal including GST 110.00",
    ]
    assert [part for part in parts if part not in found] == []


def test_an_invoice_below_zero_is_an_adjustment_note_that_says_what_it_adjusts_and_why() -> None:
    """64.22 - 200.00 = -135.78, and GST of -13.58: -149.36. The correction is 200.00 and 20.00."""
    found = said(invoice(STUDIO, STORAGE, HOURS, CORRECTION, gst_cents=-1358))
    assert found.startswith("Adjustment note\nfor INV-202603-00004\n")
    assert "Tax invoice" not in found
    assert "of your supplies is reduced by 149.36, which includes GST of 13.58." in found.replace("\n", " ")
    assert "March 2026 came to another amount after INV-202603-00004 could no longer change" in found.replace("\n", " ")
    assert "Its price is reduced by 220.00, which includes GST of 20.00" in found.replace("\n", " ")
    assert "Credited to you\n$149.36\nthere is nothing to pay" in found
    assert "Total including GST -149.36" in found
    assert "How to pay" not in found
    assert "Due" not in found


CANCELLED_ON = dt.date(2026, 6, 3)


def test_the_note_that_takes_an_invoice_back_names_it_says_why_and_reduces_all_of_it() -> None:
    document = pdf.render(cancelling(invoice(revision=2), CANCELLED_ON))
    found = texts(document)
    assert found[:2] == ["Adjustment note", "adjusts tax invoice INV-202604-00010, which is cancelled"]
    assert (
        "The tax invoice INV-202604-00010 is cancelled, and this takes it back as a whole. The price of your supplies"
        " is reduced by 70.64, which includes GST of 6.42." in " ".join(found)
    )
    assert found[found.index("Details") :] == [
        "Details",
        "Number INV-202604-00010-ADJ",
        "Date of issue 3 June 2026",
        "Adjusts INV-202604-00010",
        "Period 1 to 30 April 2026 (UTC)",
        "Credited to you",
        "$70.64",
        "tax invoice INV-202604-00010 is not to be paid",
        "What is taken back",
        "Description Quantity Unit price Amount ex GST",
        "pilot-web",
        "Plan: studio -1 month 50.00 -50.00",
        "Addon: storage_50gb -1 month 7.50 -7.50",
        "Overage: droplet_hours -672 hours 0.01 -6.72",
        "Subtotal before GST -64.22",
        "GST 10% -6.42",
        "Total including GST -70.64",
        "Prices and amounts are Australian dollars; those of the lines are before GST.",
        "Arcadia Cloud Pty Ltd · ABN 19 642 100 001 · INV-202604-00010-ADJ Page 1 of 1",
    ]
    assert attachments(document) == {"invoice.xml": [xml.render(cancelling(invoice(), CANCELLED_ON))]}


def test_the_note_that_takes_back_an_adjustment_note_raises_the_price_and_asks_for_no_money() -> None:
    """64.22 - 100.00 = -35.78, GST -3.58: 39.36 was credited, and is not any more."""
    owed = invoice(STUDIO, STORAGE, HOURS, GOODWILL, gst_cents=-358)
    found = said(cancelling(owed, CANCELLED_ON))
    assert "Adjustment note\nadjusts adjustment note INV-202604-00010, which is cancelled\n" in found
    assert "is increased by 39.36, which includes GST of 3.58." in found.replace("\n", " ")
    assert "Credit taken back\n$39.36\nof adjustment note INV-202604-00010" in found
    assert "Credit: Goodwill 100.00" in found
    assert "Total including GST 39.36" in found
    assert "How to pay" not in found


def test_a_tax_invoice_that_carries_a_correction_is_the_adjustment_note_of_what_it_corrects_too() -> None:
    found = said(invoice(STUDIO, replace(CORRECTION, amount_cents=-100, gst_cents=-10)))
    assert "Tax invoice\nand adjustment note for INV-202603-00004\n" in found
    assert "Adjustments of earlier invoices\nCredit: 2026-03, INV-202603-00004" in found
    assert "Its price is reduced by 1.10, which includes GST of 0.10" in found.replace("\n", " ")


def test_a_correction_upwards_or_without_gst_says_so() -> None:
    """8.00 more and GST of 0.80; and 30.00 less of what was free of GST."""
    more = replace(CORRECTION, kind="adjustment", amount_cents=800, gst_cents=80)
    free = replace(CORRECTION, amount_cents=-3000, gst_cents=0, is_taxable=False)
    found = said(invoice(STUDIO, more, free, gst_cents=580)).replace("\n", " ")
    assert "Its price is increased by 8.80, which includes GST of 0.80" in found
    assert "Its price is reduced by 30.00, which includes no GST" in found


def test_a_gst_free_invoice_gives_the_reason_and_one_that_is_taxed_in_part_says_which_part() -> None:
    free = replace(STUDIO, is_taxable=False, gst_cents=0)
    found = said(invoice(free, gst_cents=0, gst_free_reason="Sub-division 38-B: health"))
    assert "GST-free: Sub-division 38-B: health" in found
    assert "Subtotal before GST 50.00\nGST-free 0.00\nTotal 50.00" in found
    found = said(invoice(free, STORAGE, gst_cents=75, gst_free_reason="Sub-division 38-B: health"))
    assert "Plan: studio\nGST-free\n1 month 50.00 50.00\nAddon: storage_50gb\nGST applies\n1 month 7.50 7.50" in found
    assert "GST 10% of 7.50 0.75\nTotal including GST 58.25" in found


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (State.DRAFT, "This is a draft and no tax invoice. It can still change: do not pay it."),
        (State.VOID, "This document is void. Nothing is owed on it."),
    ],
)
def test_a_draft_and_a_void_invoice_say_so_and_ask_for_no_money(state: State, says: str) -> None:
    found = said(invoice(state=state))
    assert says in found
    assert state.upper() in found
    assert "How to pay" not in found
    assert "Amount due" not in found


def test_an_invoice_of_nothing_asks_for_nothing() -> None:
    found = said(invoice(line("plan_base", "Plan: community", 0)))
    assert "Amount due\n$0.00\nthere is nothing to pay" in found
    assert "How to pay" not in found


def test_names_are_texts_and_never_markup_whatever_their_script() -> None:
    markup = '#strong[x] $y^2$ <b>&amp; \\ `z` // "q" #eval("1") @ref = h * _ - + ] )'
    names = [markup, "Łódź Ωμέγα Привет Việt", "שלום", "سلام", "a\u202eb"]
    many = [replace(STUDIO, deployment_id=str(place), deployment_name=name) for place, name in enumerate(names)]
    found = said(invoice(*many, buyer=Buyer(markup, None, markup, None)))
    assert " ".join(found.split()).count(markup) >= 3  # the buyer, its address, the deployment
    assert names[1] in found
    assert "□" not in found


def test_a_square_stands_for_what_no_font_has_and_the_rest_stays(tmp_path: Path) -> None:
    document = pdf.render(invoice(buyer=Buyer("Grüße 中文 😀 \x01 Łódź", None, None, None)))
    assert "Grüße □□ □ □ Łódź" in texts(document)
    assert faults(document, tmp_path) == []


def test_a_document_of_a_thousand_unknown_characters_is_made_too() -> None:
    unknown = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    assert said(invoice(buyer=Buyer(unknown, None, None, None))).count("□") >= 1000


def test_a_long_word_breaks_and_nothing_is_cut() -> None:
    found = said(invoice(replace(STUDIO, deployment_name="q" * 200)))
    assert found.count("q") == 200


def test_a_logo_stands_at_the_head_and_one_that_cannot_be_drawn_is_left_out() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{0}"><rect width="9" height="9"/></svg>'
    good, bad = svg.format(40), svg.format(0)
    assert texts(pdf.render(invoice(supplier=replace(SUPPLIER, logo_svg=good))))[0] == "Tax invoice"
    name = "Tax invoice Arcadia Cloud Pty Ltd"
    assert texts(pdf.render(invoice(supplier=replace(SUPPLIER, logo_svg=bad))))[0] == name


def test_a_line_that_another_system_wrote_is_shown_without_what_its_meta_does_not_say() -> None:
    odd: Mapping[str, Any] = {"used": "many", "included": None, "tier": 3, "percent": [], "corrects": "soon"}
    assert "Overage: droplet_hours 672 hours 0.01 6.72" in said(invoice(replace(HOURS, meta=odd)))


def test_the_same_content_is_the_same_bytes_and_another_one_has_another_tag() -> None:
    assert pdf.render(invoice()) == pdf.render(invoice())
    assert pdf.tag(invoice()) == pdf.tag(invoice())
    changed = [invoice(STUDIO), invoice(revision=2), invoice(state=State.VOID), invoice(due_on=dt.date(2026, 5, 16))]
    assert len({pdf.tag(one) for one in (*changed, invoice())}) == 5


def test_the_e_invoice_is_in_the_pdf_as_its_other_form(tmp_path: Path) -> None:
    document = pdf.render(invoice())
    assert attachments(document) == {"invoice.xml": [xml.render(invoice())]}
    assert b"/AFRelationship/Alternative" in document
    assert faults(document, tmp_path) == []


@pytest.mark.parametrize(
    "of", [invoice(state=State.DRAFT), invoice(state=State.VOID), invoice(buyer=Buyer("Pilot", None, None, None))]
)
def test_a_pdf_without_an_e_invoice_has_nothing_attached(of: Content) -> None:
    assert attachments(pdf.render(of)) == {}


@pytest.mark.parametrize("lines", [1, 10, 200])
def test_it_is_pdf_a_and_pdf_ua_at_any_length(lines: int, tmp_path: Path) -> None:
    """Beside the checker, typst itself refuses to write what breaks either standard."""
    document = pdf.render(invoice(*[STUDIO] * lines))
    assert faults(document, tmp_path) == []
    said = pypdf.PdfReader(io.BytesIO(document)).xmp_metadata
    assert said is not None
    marks = said.stream.get_data().decode()
    assert re.search(r"<pdfaid:part>3</.*<pdfaid:conformance>A<", marks, re.DOTALL)
    assert "<pdfuaid:part>1</" in marks


@pytest.mark.long
def test_two_thousand_lines_are_many_pages_that_each_say_which_they_are() -> None:
    many = [
        replace(one, deployment_id=str(place), deployment_name=f"service-{place:04d}")
        for place in range(1000)
        for one in (STUDIO, STORAGE)
    ]
    found = texts(pdf.render(invoice(*many)))
    pages = [said for said in found if re.search(r"Page \d+ of \d+$", said)]
    assert [said.rpartition("Page ")[2] for said in pages] == [f"{n} of {len(pages)}" for n in range(1, len(pages) + 1)]
    assert found.count("Description Quantity Unit price Amount ex GST") == len(pages)
    assert found.count("Subtotal 57.50") == 1000
    assert "Total including GST 63,250.00" in found


def amounts(content: Content) -> Iterator[str]:
    """What the document of an invoice must show, as often as it must: each line's amount, and the sums."""
    for cents in (*(one.amount_cents for one in content.lines), content.subtotal_cents, content.gst_cents):
        yield dollars(cents)
    yield dollars(content.total_cents)


@pytest.mark.long
def test_every_document_of_the_sample_year_says_its_invoice_to_the_cent(sample_year: World) -> None:
    ids = [row[0] for row in sample_year.query("select id from billing.tenant_invoices")]
    with database.snapshot(database.engine(sample_year.url)) as connection:
        contents = [content_of(row) for row in documents.content(connection, ids)]
    assert len(contents) == 160
    for content in contents:
        lines = texts(pdf.render(content))
        ends = Counter(one.rpartition(" ")[2] for one in lines)
        assert Counter(amounts(content)) - ends == Counter(), content.number
        assert f"Number {content.number}" in lines
        for name, cents in (("Subtotal before GST", content.subtotal_cents), ("Total", content.total_cents)):
            assert [one for one in lines if one.startswith(name) and one.endswith(f" {dollars(cents)}")], content.number


def test_the_page_is_json_and_the_template_computes_nothing() -> None:
    """Whatever stands on it is in the page: no amount is worked out in invoice.typ."""
    template = (Path(pdf.__file__).parent / "invoice.typ").read_text()
    assert not re.search(r"calc\.|int\(|float\(|decimal\(", template)
    assert page(invoice())["sums"][-1] == ("Total including GST", "70.64")
