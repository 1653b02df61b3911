"""The e-invoice: an invoice as UBL 2.1 XML, as Peppol's specification PINT A-NZ billing 1.1 wants it.

Belongs here: the XML of frozen content, and that it says to the cent what the invoice says. Does not: sending it.

The specification is at https://docs.peppol.eu/poac/aunz/pint-aunz/. What it means for us: an invoice is of type 380. An
adjustment note is a credit note of type 381, in which what the tenant is owed is above zero, whether its credits exceed
its charges or an invoice is taken back. A price is never negative:
the quantity has the sign. A unit is a code of UN/ECE recommendation 20. Seller and buyer are addressed by their ABNs,
so a buyer without one gets no e-invoice.
"""

import datetime as dt
import functools
import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, TypeAlias

from lxml import etree

from arcadia_pipelines.billing.gst import RATE
from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.documents.content import VISIBLE, Content, Kind, Line, NoDocument, State

Element: TypeAlias = Any
"""An element of lxml, which has no types for mypy."""


@functools.cache
def made_by() -> str:
    """What makes an e-invoice, with its version."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("arcadia-pipelines", "lxml"))


@dataclass(frozen=True)
class _Form:
    """What UBL calls a document, and the sign of what it says beside the invoice's own."""

    name: str
    code: str
    quantity: str
    sign: int


_FORMS = {
    Kind.TAX_INVOICE: _Form("Invoice", "380", "InvoicedQuantity", 1),
    Kind.ADJUSTMENT_NOTE: _Form("CreditNote", "381", "CreditedQuantity", -1),
}
_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
_PREFIXES: dict[str | None, str] = {
    "cac": f"{_UBL}CommonAggregateComponents-2",
    "cbc": f"{_UBL}CommonBasicComponents-2",
}
_SPECIFICATION, _PROCESS = "urn:peppol:pint:billing-1@aunz-1", "urn:peppol:bis:billing"
_AUD, _ABN = {"currencyID": "AUD"}, {"schemeID": "0151"}
_CREDIT_TRANSFER = "30"
_STANDARD, _EXEMPT = "S", "E"  # tax categories: 10 %, and no GST, for a reason that the document gives
_AS_CORRECTED = "GST-free, as the invoice that is corrected"
_UNITS = {
    "second": "SEC", "minute": "MIN", "hour": "HUR", "day": "DAY", "week": "WEE", "month": "MON", "year": "ANN",
    "KB": "2P", "MB": "4L", "GB": "E34", "TB": "E35", "PB": "E36",
    "KiB": "E64", "MiB": "E63", "GiB": "E62", "TiB": "E61", "kWh": "KWH",
}  # fmt: skip
_ONE = "C62"  # for all that has no code: packages, flat fees, GB-months; a property of the item says what it is
_PLACE = re.compile(r"(?P<city>.*[^\s,])[\s,]+(?P<state>NSW|VIC|QLD|SA|WA|TAS|NT|ACT)[\s,]+(?P<zone>\d{4})", re.ASCII)
_WEIGHTS = (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)


def render(content: Content) -> bytes:
    """The e-invoice; the same content gives the same bytes.

    Raises NoDocument for a draft, a void invoice that was never delivered, a buyer without an ABN, and an invoice that
    does not add up.
    """
    _refuse_unless_possible(content)
    root = _document(content)
    made: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    check(made, content)
    return made


def check(document: bytes, content: Content) -> None:
    """Raise NoDocument unless the e-invoice says to the cent what the invoice says, and adds up.

    It is read from its bytes, apart from how they were made. Peppol's own rules let GST be wrong by a dollar, and a
    line by two cents.
    """
    root, form = etree.fromstring(document), _FORMS[content.kind]
    lines = root.findall(f"cac:{form.name}Line", _PREFIXES)
    net, gst, total = (c * form.sign for c in (content.subtotal_cents, content.gst_cents, content.total_cents))
    taxable = [line for line in lines if _text(line, "cac:Item/cac:ClassifiedTaxCategory/cbc:ID") == _STANDARD]
    for name, found, expected in [
        ("the sum of its lines", _cents(lines, "cbc:LineExtensionAmount"), net),
        ("its total of lines", _cents([root], "cac:LegalMonetaryTotal/cbc:LineExtensionAmount"), net),
        ("its total without GST", _cents([root], "cac:LegalMonetaryTotal/cbc:TaxExclusiveAmount"), net),
        ("what its GST is on", _cents([root], "cac:TaxTotal/cac:TaxSubtotal/cbc:TaxableAmount"), net),
        ("the sum of its GST", _cents([root], "cac:TaxTotal/cac:TaxSubtotal/cbc:TaxAmount"), gst),
        ("its GST", _cents([root], "cac:TaxTotal/cbc:TaxAmount"), gst),
        ("its total with GST", _cents([root], "cac:LegalMonetaryTotal/cbc:TaxInclusiveAmount"), total),
        ("what is to pay", _cents([root], "cac:LegalMonetaryTotal/cbc:PayableAmount"), total),
        ("its total", Decimal(net + gst), total),
    ]:
        if found != expected:
            raise _does_not_add_up(content, f"{name} is {dollars(int(found))}, and not {dollars(expected)}")
    on = _cents(taxable, "cbc:LineExtensionAmount")
    if abs(on * RATE - gst) > Decimal("0.5"):
        raise _does_not_add_up(content, f"its GST of {dollars(gst)} is not 10 % of {dollars(int(on))}")
    for line in lines:
        if not _is_quantity_by_price(line, form):
            raise _does_not_add_up(content, f"line {_text(line, 'cbc:ID')} is not its quantity by its price")


def _is_quantity_by_price(line: Element, form: _Form) -> bool:
    """Whether the line's amount is that product, rounded to the cent."""
    with localcontext(prec=60):
        product = Decimal(_text(line, f"cbc:{form.quantity}")) * Decimal(_text(line, "cac:Price/cbc:PriceAmount"))
        per = Decimal(line.findtext("cac:Price/cbc:BaseQuantity", "1", _PREFIXES))
        return abs(100 * product - _cents([line], "cbc:LineExtensionAmount") * per) * 2 <= per


def _cents(elements: Iterable[Element], path: str) -> Decimal:
    """The sum of the amounts at the path below the elements."""
    return sum((Decimal(amount.text) * 100 for e in elements for amount in e.findall(path, _PREFIXES)), Decimal())


def _text(element: Element, path: str) -> str:
    return str(element.findtext(path, "", _PREFIXES))


def _does_not_add_up(content: Content, what: str) -> NoDocument:
    return NoDocument(
        f"{content.number} has no e-invoice, for it does not add up: {what}; "
        f"`arcadia audit {content.month}` says what was changed"
    )


def _refuse_unless_possible(content: Content) -> None:
    name = content.number or f"the draft of {content.tenant_id} in {content.month}"
    if content.state is State.DRAFT or content.number is None or content.issued_on is None:
        raise NoDocument(f"{name} has no e-invoice: only what is issued has one")
    if content.state is State.VOID:
        raise NoDocument(f"{name} is void, which no e-invoice can say: its PDF does")
    if not content.lines:
        raise NoDocument(
            f"{name} has no lines, and so no e-invoice: `arcadia audit {content.month}` says what is missing"
        )
    if not _is_abn(_abn(content)):
        has = f"has the ABN {content.buyer.abn!r}, which is none" if content.buyer.abn else "has no ABN"
        raise NoDocument(
            f"{name} has no e-invoice, for that is addressed by ABN, and its buyer {content.tenant_id} {has}; once the "
            "tenant's ABN is right, its later invoices have one"
        )


def _abn(content: Content) -> str:
    return "".join((content.buyer.abn or "").split())


def _is_abn(abn: str) -> bool:
    """As billing.is_abn() in SQL."""
    if not re.fullmatch(r"\d{11}", abn, re.ASCII):
        return False
    return (sum(w * int(digit) for w, digit in zip(_WEIGHTS, abn, strict=True)) - _WEIGHTS[0]) % 89 == 0


def _document(content: Content) -> Element:
    form, month, seller = _FORMS[content.kind], content.month, content.supplier
    is_due, namespace = content.kind is Kind.TAX_INVOICE and content.total_cents > 0, f"{_UBL}{form.name}-2"
    root = etree.Element(f"{{{namespace}}}{form.name}", nsmap={None: namespace, **_PREFIXES})
    parts = [
        _basic("CustomizationID", _SPECIFICATION),
        _basic("ProfileID", _PROCESS),
        _basic("ID", content.number),
        _basic("IssueDate", content.issued_on),
        _basic("DueDate", content.due_on if is_due else None),
        _basic(f"{form.name}TypeCode", form.code),
        _basic("Note", _note(content)),
        _basic("DocumentCurrencyCode", _AUD["currencyID"]),
        _basic("BuyerReference", content.tenant_id),
        _group("InvoicePeriod", _basic("StartDate", month.start), _basic("EndDate", month.end - dt.timedelta(days=1))),
        *(_group("BillingReference", _group("InvoiceDocumentReference", _basic("ID", n))) for n in content.adjusts),
        _group("AccountingSupplierParty", _party(seller.legal_name, seller.abn, seller.address, seller.email)),
        _group("AccountingCustomerParty", _buyer(content)),
        _payment(content) if is_due else None,
        _tax(content, form),
        _totals(content, form),
        *(_line(line, form) for line in content.lines),
    ]
    root.extend(part for part in parts if part is not None)
    return root


def _note(content: Content) -> str:
    """What it is under the GST Act: with corrections, it is the adjustment note of the invoices that they correct."""
    adjusted = f" for {', '.join(content.adjusts)}" if content.adjusts else ""
    if content.cancels:
        return f"Adjustment note{adjusted}, which is cancelled"
    if content.kind is Kind.ADJUSTMENT_NOTE:
        return f"Adjustment note{adjusted}: the credits of {content.month} exceed its charges"
    return f"Tax invoice and adjustment note{adjusted}" if adjusted else "Tax invoice"


def _buyer(content: Content) -> Element:
    buyer = content.buyer
    name = buyer.name if _visible(buyer.name) else content.tenant_id
    return _party(name, _abn(content), buyer.address, buyer.email)


def _party(name: str, abn: str, address: str | None, email: str | None) -> Element:
    return _group(
        "Party",
        _basic("EndpointID", abn, **_ABN),
        _group("PostalAddress", *_address(address or "")),
        _group("PartyTaxScheme", _basic("CompanyID", abn), _gst_scheme()),
        _group("PartyLegalEntity", _basic("RegistrationName", name), _basic("CompanyID", abn, **_ABN)),
        _group("Contact", _basic("ElectronicMail", email)),
    )


def _address(text: str) -> Iterator[Element | None]:
    """The address in UBL's parts, as far as its lines show them. Whoever has an ABN is in Australia to Peppol."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[-1].casefold() == "australia":
        lines.pop()
    place = _PLACE.fullmatch(lines[-1]) if lines else None
    street = lines[:-1] if place else lines
    yield _basic("StreetName", street[0] if street else None)
    yield _basic("AdditionalStreetName", street[1] if len(street) > 1 else None)
    if place:
        yield _basic("CityName", place["city"])
        yield _basic("PostalZone", place["zone"])
        yield _basic("CountrySubentity", place["state"])
    yield _group("AddressLine", _basic("Line", ", ".join(street[2:])))
    yield _group("Country", _basic("IdentificationCode", "AU"))


def _payment(content: Content) -> Element:
    supplier = content.supplier
    return _group(
        "PaymentMeans",
        _basic("PaymentMeansCode", _CREDIT_TRANSFER),
        _basic("PaymentID", content.number),
        _group(
            "PayeeFinancialAccount",
            _basic("ID", supplier.bank_account_number),
            _basic("Name", supplier.bank_account_name),
            _group("FinancialInstitutionBranch", _basic("ID", supplier.bank_bsb.replace("-", ""))),
        ),
    )


def _tax(content: Content, form: _Form) -> Element:
    """GST as a whole, and by category."""
    parts = []
    for category, gst_cents, reason in [
        (_STANDARD, content.gst_cents, None),
        (_EXEMPT, 0, content.gst_free_reason or _AS_CORRECTED),
    ]:
        on = [line.amount_cents for line in content.lines if _category_of(line) == category]
        if on:
            tax_category = _tax_category("TaxCategory", category, reason)
            amounts = _amount("TaxableAmount", sum(on) * form.sign), _amount("TaxAmount", gst_cents * form.sign)
            parts.append(_group("TaxSubtotal", *amounts, tax_category))
    return _group("TaxTotal", _amount("TaxAmount", content.gst_cents * form.sign), *parts)


def _totals(content: Content, form: _Form) -> Element:
    net, total = content.subtotal_cents * form.sign, content.total_cents * form.sign
    return _group(
        "LegalMonetaryTotal",
        _amount("LineExtensionAmount", net),
        _amount("TaxExclusiveAmount", net),
        _amount("TaxInclusiveAmount", total),
        _amount("PayableAmount", total),
    )


def _line(line: Line, form: _Form) -> Element:
    """A line of the document: the sign of its price goes into the quantity."""
    unit = _unit(line.unit)
    quantity = line.qty * form.sign * (-1 if line.unit_price_cents < 0 else 1)
    return _group(
        f"{form.name}Line",
        _basic("ID", line.line_no),
        _basic(form.quantity, _plain(quantity), unitCode=unit),
        _amount("LineExtensionAmount", line.amount_cents * form.sign),
        _group(
            "Item",
            _basic("Name", line.description if _visible(line.description) else line.kind),
            _tax_category("ClassifiedTaxCategory", _category_of(line)),
            _property("Deployment", line.deployment_name),
            _property("Unit", line.unit if unit == _ONE else None),
        ),
        _group(
            "Price",
            _basic("PriceAmount", _plain(abs(line.unit_price_cents).scaleb(-2)), **_AUD),
            _basic("BaseQuantity", _plain(line.price_per) if line.price_per != 1 else None, unitCode=unit),
        ),
    )


def _unit(unit: str | None) -> str:
    """The unit's code, whether it is written in the singular or the plural."""
    return _UNITS.get(unit or "") or _UNITS.get((unit or "").removesuffix("s")) or _ONE


def _property(name: str, value: str | None) -> Element | None:
    return _group("AdditionalItemProperty", _basic("Name", name), _basic("Value", value)) if value else None


def _category_of(line: Line) -> str:
    return _STANDARD if line.is_taxable else _EXEMPT


def _tax_category(element: str, category: str, reason: str | None = None) -> Element:
    percent = _plain(RATE * 100) if category == _STANDARD else "0"
    parts = _basic("ID", category), _basic("Percent", percent), _basic("TaxExemptionReason", reason)
    return _group(element, *parts, _gst_scheme())


def _gst_scheme() -> Element:
    return _group("TaxScheme", _basic("ID", "GST"))


def _amount(name: str, cents: int) -> Element:
    """An amount in dollars, with both decimals."""
    return _basic(name, f"{Decimal(cents).scaleb(-2):.2f}", **_AUD)


def _plain(number: Decimal) -> str:
    """A decimal with the decimals that it needs, and no exponent."""
    return f"{number.normalize() + 0:f}"


def _visible(text: str) -> str:
    """The text as XML can have it, without space around it."""
    return text.translate(VISIBLE).strip()


def _group(name: str, *parts: Element | None) -> Element | None:
    """An element of those parts that there are; None if there is none, since PINT takes no empty element."""
    there = [part for part in parts if part is not None]
    if not there:
        return None
    element = etree.Element(f"{{{_PREFIXES['cac']}}}{name}", nsmap=_PREFIXES)
    element.extend(there)
    return element


def _basic(name: str, value: object, **attributes: str) -> Element | None:
    """An element of that text; None if there is none."""
    text = "" if value is None else _visible(str(value))
    if not text:
        return None
    element = etree.Element(f"{{{_PREFIXES['cbc']}}}{name}", attributes, nsmap=_PREFIXES)
    element.text = text
    return element
