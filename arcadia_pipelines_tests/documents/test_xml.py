"""E-invoices: what they say, that they are UBL, and that one which does not add up is not made."""

import datetime as dt
import re
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from arcadia_pipelines.documents.content import Content, NoDocument, State, cancelling, content_of
from arcadia_pipelines.documents.xml import check, render
from arcadia_pipelines.storage import database, documents
from arcadia_pipelines_tests.documents.made import (
    content,
    contents,
    faults,
    gst_free,
    line,
    long,
    named,
    odd_prices,
    owed_to_the_tenant,
    partly_taxable,
    pilot,
)
from arcadia_pipelines_tests.world import World

Made = list[tuple[str, ...]]


def said(document: bytes, path: str, *below: str) -> Made:
    """The texts below each element at the path, whose names are written without their namespaces."""
    rows = []
    for element in etree.fromstring(document).findall("/".join(f"{{*}}{name}" for name in path.split("/"))):
        found = [element.findtext("/".join(f"{{*}}{name}" for name in one.split("/"))) for one in below]
        rows.append(tuple("" if text is None else text for text in found or [element.text]))
    return rows


def totals(document: bytes) -> tuple[str, ...]:
    """Without GST, GST, with GST, to pay."""
    [amounts] = said(document, "LegalMonetaryTotal", "TaxExclusiveAmount", "TaxInclusiveAmount", "PayableAmount")
    [(gst,)] = said(document, "TaxTotal/TaxAmount")
    return amounts[0], gst, *amounts[1:]


def lines(document: bytes, name: str = "Invoice") -> Made:
    """Quantity, unit code, amount, price, and what quantity the price is for."""
    quantity = {"Invoice": "InvoicedQuantity", "CreditNote": "CreditedQuantity"}[name]
    texts = said(document, f"{name}Line", quantity, "LineExtensionAmount", "Price/PriceAmount", "Price/BaseQuantity")
    quantities = etree.fromstring(document).iterfind(f"{{*}}{name}Line/{{*}}{quantity}")
    codes = [element.get("unitCode") for element in quantities]
    return [(text[0], code, *text[1:]) for text, code in zip(texts, codes, strict=True)]


def made_from(world: World, where: str = "true") -> list[Content]:
    """The content of the invoices that there are."""
    ids = [row[0] for row in world.query(f"select id from billing.tenant_invoices where {where}")]
    with database.transaction(database.engine(world.url)) as connection:
        return [content_of(row) for row in documents.content(connection, ids)]


TAX = ("TaxableAmount", "TaxAmount", "TaxCategory/ID", "TaxCategory/Percent", "TaxCategory/TaxExemptionReason")


def test_the_pilots_invoice_as_an_e_invoice() -> None:
    document = render(pilot())
    head = ("ID", "IssueDate", "DueDate", "InvoiceTypeCode", "Note", "DocumentCurrencyCode", "BuyerReference")
    assert [said(document, name) for name in head] == [
        [("INV-202605-00001",)],
        [("2026-06-01",)],
        [("2026-06-15",)],
        [("380",)],
        [("Tax invoice",)],
        [("AUD",)],
        [("pilot",)],
    ]
    assert said(document, "InvoicePeriod", "StartDate", "EndDate") == [("2026-05-01", "2026-05-31")]
    party = ("EndpointID", "PartyLegalEntity/RegistrationName", "PartyLegalEntity/CompanyID", "Contact/ElectronicMail")
    assert said(document, "AccountingSupplierParty/Party", *party) == [
        ("19642100001", "Arcadia Cloud Pty Ltd", "19642100001", "accounts@arcadia.example")
    ]
    assert said(document, "AccountingCustomerParty/Party", *party) == [
        ("71690944157", "Pilot Studio Pty Ltd", "71690944157", "accounts@pilot.example")
    ]
    account = "PayeeFinancialAccount"
    paid_to = ("PaymentMeansCode", "PaymentID", f"{account}/ID", f"{account}/FinancialInstitutionBranch/ID")
    assert said(document, "PaymentMeans", *paid_to) == [("30", "INV-202605-00001", "12345678", "062000")]
    assert said(document, "TaxTotal/TaxSubtotal", *TAX) == [("64.22", "6.42", "S", "10", "")]
    assert totals(document) == ("64.22", "6.42", "70.64", "70.64")
    assert lines(document) == [
        ("1", "MON", "50.00", "50", ""),
        ("1", "MON", "7.50", "7.5", ""),
        ("672", "HUR", "6.72", "0.01", ""),
    ]
    assert said(document, "InvoiceLine", "ID", "Item/Name", "Item/AdditionalItemProperty/Value")[2] == (
        "3", "Overage: droplet_hours", "web",
    )  # fmt: skip


def test_the_same_content_gives_the_same_bytes() -> None:
    assert render(pilot()) == render(pilot())


def test_an_adjustment_note_is_a_credit_note_that_says_what_is_owed_to_the_tenant_as_above_zero() -> None:
    document = render(owed_to_the_tenant())
    assert etree.QName(etree.fromstring(document)).localname == "CreditNote"
    assert said(document, "CreditNoteTypeCode") == [("381",)]
    assert said(document, "Note") == [
        ("Adjustment note for INV-202603-00001, INV-202604-00001: the credits of 2026-05 exceed its charges",)
    ]
    assert said(document, "BillingReference/InvoiceDocumentReference/ID") == [
        ("INV-202603-00001",),
        ("INV-202604-00001",),
    ]
    assert totals(document) == ("39.36", "3.94", "43.30", "43.30")
    assert said(document, "TaxTotal/TaxSubtotal", *TAX) == [("39.36", "3.94", "S", "10", "")]
    assert lines(document, "CreditNote") == [
        ("-1", "MON", "-50.00", "50", ""),
        ("1", "C62", "49.36", "49.36", ""),
        ("1", "C62", "40.00", "40", ""),
    ]
    assert said(document, "DueDate") + said(document, "PaymentMeans") == []


def test_the_note_that_takes_an_invoice_back_is_a_credit_note_of_all_of_it() -> None:
    document = render(cancelling(pilot(), dt.date(2026, 6, 20)))
    head = ("ID", "IssueDate", "CreditNoteTypeCode", "Note", "BillingReference/InvoiceDocumentReference/ID")
    assert [said(document, name) for name in head] == [
        [("INV-202605-00001-ADJ",)],
        [("2026-06-20",)],
        [("381",)],
        [("Adjustment note for INV-202605-00001, which is cancelled",)],
        [("INV-202605-00001",)],
    ]
    assert totals(document) == ("64.22", "6.42", "70.64", "70.64")
    assert lines(document, "CreditNote") == [
        ("1", "MON", "50.00", "50", ""),
        ("1", "MON", "7.50", "7.5", ""),
        ("672", "HUR", "6.72", "0.01", ""),
    ]
    assert said(document, "DueDate") + said(document, "PaymentMeans") == []


def test_the_note_that_takes_an_adjustment_note_back_is_a_credit_note_below_zero() -> None:
    document = render(cancelling(owed_to_the_tenant(), dt.date(2026, 6, 20)))
    assert said(document, "CreditNoteTypeCode") == [("381",)]
    assert totals(document) == ("-39.36", "-3.94", "-43.30", "-43.30")
    assert said(document, "DueDate") + said(document, "PaymentMeans") == []


def test_an_adjustment_note_of_no_invoice_names_none() -> None:
    credit = line("Goodwill", -1000, kind="credit", unit=None)
    document = render(content(credit, gst_cents=-100))
    assert said(document, "Note") == [("Adjustment note: the credits of 2026-05 exceed its charges",)]
    assert said(document, "BillingReference") == []


def test_what_an_operator_credits_beyond_the_charges_is_a_credit_note(sample_year: World) -> None:
    sample_year.done("add_line", tenant="pilot", month="2026-10", amount="-100.00", description="Goodwill")
    sample_year.publish("2026-10")
    document = render(made_from(sample_year, "tenant_id = 'pilot' and period_start = '2026-10-01'")[0])
    # 55.00 + 7.50 + 744 hours at 1.1 c are 70.68; less 100.00 is -29.32.
    assert totals(document) == ("29.32", "2.93", "32.25", "32.25")
    assert lines(document, "CreditNote")[-2:] == [
        ("-744", "HUR", "-8.18", "0.011", ""),
        ("1", "C62", "100.00", "100", ""),
    ]
    assert faults(document) == []


def test_what_has_no_gst_is_a_category_of_its_own_with_its_reason() -> None:
    assert said(render(gst_free()), "TaxTotal/TaxSubtotal", *TAX) == [
        ("50.00", "0.00", "E", "0", "Exported services, GST Act s 38-190")
    ]
    partly = render(partly_taxable())
    assert said(partly, "TaxTotal/TaxSubtotal", *TAX) == [
        ("50.00", "5.00", "S", "10", ""),
        ("-20.00", "0.00", "E", "0", "GST-free, as the invoice that is corrected"),
    ]
    assert said(partly, "InvoiceLine/Item/ClassifiedTaxCategory", "ID", "Percent") == [("S", "10"), ("E", "0")]
    assert totals(partly) == ("30.00", "5.00", "35.00", "35.00")
    assert said(partly, "BillingReference/InvoiceDocumentReference/ID") == [("INV-202604-00001",)]
    assert said(partly, "Note") == [("Tax invoice and adjustment note for INV-202604-00001",)]


def test_a_price_is_never_below_zero_keeps_its_decimals_and_says_how_many_units_it_is_for() -> None:
    # 14 of 30 days at 50.00 are 23.33; 0.84 hours at 0.0059523810 are 0.005000: half a cent, rounded up.
    assert lines(render(odd_prices())) == [
        ("14", "DAY", "23.33", "50", "30"),
        ("7", "DAY", "5.83", "25", "30"),
        ("0.84", "HUR", "0.01", "0.005952381", ""),
        ("2.000125", "C62", "160.01", "80", ""),
        ("123456789012.34", "E34", "123456789012.34", "1", ""),
        ("-1", "C62", "-10.00", "10", ""),
        ("1", "MON", "0.00", "0", ""),
    ]


@pytest.mark.parametrize(
    ("unit", "code", "shown"),
    [
        ("month", "MON", []),
        ("hours", "HUR", []),
        ("day", "DAY", []),
        ("GB", "E34", []),
        ("GiB", "E62", []),
        ("GB-month", "C62", [("Unit", "GB-month")]),
        ("package of 100 GB", "C62", [("Unit", "package of 100 GB")]),
        ("cap", "C62", [("Unit", "cap")]),
        ("Mb", "C62", [("Unit", "Mb")]),  # megabits, and no megabytes
        (None, "C62", []),
    ],
)
def test_a_unit_has_its_code_or_is_one_and_says_what(unit: str | None, code: str, shown: Made) -> None:
    document = render(content(line("x", 100, unit=unit, deployment_name=None), gst_cents=10))
    assert lines(document) == [("1", code, "1.00", "1", "")]
    assert said(document, "InvoiceLine/Item/AdditionalItemProperty", "Name", "Value") == shown


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("1 Wharf Street\nPerth WA 6000", ("1 Wharf Street", "", "Perth", "6000", "WA", "")),
        ("L 4\n1 High St\nThe Rocks, NSW 2000\nAustralia", ("L 4", "1 High St", "The Rocks", "2000", "NSW", "")),
        ("A\nB\nC\nD\nPerth WA 6000", ("A", "B", "Perth", "6000", "WA", "C, D")),
        ("12 Straße\nBerlin", ("12 Straße", "Berlin", "", "", "", "")),
        ("\n australia \n", ("", "", "", "", "", "")),
        (None, ("", "", "", "", "", "")),
    ],
)  # fmt: skip
def test_an_address_is_taken_apart_as_far_as_it_shows_its_parts(address: str | None, parts: tuple[str, ...]) -> None:
    document = render(replace(pilot(), buyer=replace(pilot().buyer, address=address)))
    below = ("StreetName", "AdditionalStreetName", "CityName", "PostalZone", "CountrySubentity", "AddressLine/Line")
    found = said(document, "AccountingCustomerParty/Party/PostalAddress", *below, "Country/IdentificationCode")
    assert found == [(*parts, "AU")]


def test_what_xml_forbids_in_a_name_is_shown_by_a_character_that_it_allows() -> None:
    document = render(named("\x00\x0b\x7f\uffff<&\n>", "b", "c"))
    assert said(document, "InvoiceLine/Item/Name")[0] == ("␀␋␡\ufffd<&␊>",)


def test_a_name_that_shows_nothing_gives_way_to_the_one_that_there_is() -> None:
    blank = replace(pilot(), buyer=replace(pilot().buyer, name=" \u00a0"), lines=(line("\u2003", 6422),))
    document = render(blank)
    assert said(document, "AccountingCustomerParty/Party/PartyLegalEntity/RegistrationName") == [("pilot",)]
    assert said(document, "InvoiceLine/Item/Name") == [("plan_base",)]


@pytest.mark.parametrize("of", contents().values(), ids=contents())
def test_an_e_invoice_is_ubl(of: Content) -> None:
    assert faults(render(of)) == []


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_an_e_invoice_is_ubl_whatever_people_call_things(name: str, other: str) -> None:
    document = render(named(f"a{name}", other))
    assert faults(document) == []
    assert not any(element.text is None for element in etree.fromstring(document).iter() if not len(element))


def test_ubls_schema_knows_what_is_not_ubl() -> None:
    wrong = render(pilot()).replace(b"cbc:DueDate>", b"cbc:DueDay>")
    assert len(faults(wrong)) == 1


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (pilot(state=State.DRAFT, number=None, issued_on=None), "the draft of pilot in 2026-05 has no e-invoice: only"),
        (pilot(state=State.DRAFT), "INV-202605-00001 has no e-invoice: only what is issued has one"),
        (pilot(state=State.VOID), "INV-202605-00001 is void, which no e-invoice can say"),
        (content(gst_cents=0), "INV-202605-00001 has no lines, and so no e-invoice"),
        (pilot(buyer=replace(pilot().buyer, abn=None)), "is addressed by ABN, and its buyer pilot has no ABN; once"),
        (pilot(buyer=replace(pilot().buyer, abn="71690944158")), "has the ABN '71690944158', which is none"),
        (pilot(buyer=replace(pilot().buyer, abn="٧١٦٩٠٩٤٤١٥٧")), "which is none"),
    ],
)
def test_what_cannot_be_an_e_invoice_is_refused_with_the_reason(of: Content, says: str) -> None:
    with pytest.raises(NoDocument, match=re.escape(says)):
        render(of)


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (pilot(subtotal_cents=6421, total_cents=7063), "the sum of its lines is 64.22, and not 64.21"),
        (pilot(total_cents=7065), "its total is 70.64, and not 70.65"),
        (pilot(gst_cents=643, total_cents=7065), "its GST of 6.43 is not 10 % of 64.22"),
        (pilot(lines=(line("x", 6422, "2", "3210"),)), "line 1 is not its quantity by its price"),
        (replace(owed_to_the_tenant(), gst_cents=-393, total_cents=-4329), "its GST of 3.93 is not 10 % of 39.36"),
    ],
)
def test_an_invoice_that_does_not_add_up_to_the_cent_is_no_e_invoice(of: Content, says: str) -> None:
    with pytest.raises(NoDocument, match=f"INV-202605-00001 has no e-invoice, for it does not add up: {says}"):
        render(of)


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("LineExtensionAmount$>7.50", "7.51", "the sum of its lines is 64.23"),
        ("LineExtensionAmount$>64.22", "64.23", "its total of lines is 64.23"),
        ("TaxExclusiveAmount$>64.22", "64.21", "its total without GST is 64.21"),
        ("TaxableAmount$>64.22", "64.23", "what its GST is on is 64.23"),
        ("\n    <cbc:TaxAmount$>6.42", "6.43", "its GST is 6.43"),
        ("\n      <cbc:TaxAmount$>6.42", "6.41", "the sum of its GST is 6.41"),
        ("TaxInclusiveAmount$>70.64", "70.65", "its total with GST is 70.65"),
        ("PayableAmount$>70.64", "70.60", "what is to pay is 70.60"),
        ("PriceAmount$>7.5<", "7.51<", "line 2 is not its quantity by its price"),
        ('unitCode="HUR">672', "671", "line 3 is not its quantity by its price"),
    ],
)
def test_the_check_fires_on_a_cent_wherever_it_is_off(was: str, becomes: str, says: str) -> None:
    document = render(pilot())
    check(document, pilot())
    before = was.replace("$", ' currencyID="AUD"')
    after = f"{before.rpartition('>')[0]}>{becomes}"
    assert document.count(before.encode()) == 1
    with pytest.raises(NoDocument, match=says):
        check(document.replace(before.encode(), after.encode()), pilot())


def test_two_thousand_lines_add_up() -> None:
    # 1,800 cents less 200 times 5 are 8.00.
    document = render(long(2000))
    assert totals(document) == ("8.00", "0.80", "8.80", "8.80")
    assert len(lines(document)) == 2000


def test_every_invoice_of_the_sample_year_is_an_e_invoice_to_the_cent_unless_its_buyer_has_no_abn(
    sample_year: World,
) -> None:
    columns = "id, tenant_id, subtotal_cents, tax_cents, total_cents from billing.tenant_invoices"
    invoices, found = sample_year.query(f"select {columns}"), made_from(sample_year)
    refused = [of for of in found if of.tenant_id == "yarrabee-surf-club"]
    for of in refused:
        with pytest.raises(NoDocument, match="its buyer yarrabee-surf-club has no ABN"):
            render(of)
    made = {of.invoice_id: render(of) for of in found if of not in refused}
    assert (len(made), len(refused)) == (150, 10)
    assert {invoice: faults(document) for invoice, document in made.items() if faults(document)} == {}
    assert {invoice: totals(document) for invoice, document in made.items()} == {
        str(invoice): tuple(f"{Decimal(cents) / 100:.2f}" for cents in (net, gst, total, total))
        for invoice, tenant, net, gst, total in invoices
        if tenant != "yarrabee-surf-club"
    }
