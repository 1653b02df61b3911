"""Who sells: billing.suppliers, which invoices show and keep.

Belongs here: entering a supplier, and who it is in a month. Does not: which invoice keeps which (acts.py,
publication.py), what a document makes of it (documents/).
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from xml.etree import ElementTree

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage.acts import SUPPLIER, Author
from arcadia_pipelines.storage.operations import OperationRefused

_LONGEST = 200
_LONGEST_LOGO = 200_000  # characters, as the table's check has it
_ADDRESS_LINES = 6
_COLUMNS = """
    legal_name, abn, address, email, bank_account_name, bank_bsb, bank_account_number, payment_terms_days, logo_svg
"""
_ENTER = f"""
    insert into billing.suppliers (effective_from, {_COLUMNS}, operator, reason, run_id)
    values (%(month)s, %(legal_name)s, %(abn)s, %(address)s, %(email)s, %(bank_account_name)s, %(bank_bsb)s,
            %(bank_account_number)s, %(payment_terms_days)s, %(logo_svg)s, %(operator)s, %(reason)s, %(run)s)
"""
_ALL = f"""
    select id, to_char(effective_from, 'YYYY-MM') as from_month, {_COLUMNS}, operator, reason, entered_at
    from billing.suppliers order by effective_from, id
"""
_IN = f"select {_COLUMNS} from billing.suppliers where id = (select id from {SUPPLIER} s)"


@dataclass(frozen=True)
class Supplier:
    """Who sells: one entry of billing.suppliers."""

    legal_name: str
    abn: str
    """11 digits."""
    address: str
    """In lines."""
    email: str
    bank_account_name: str
    bank_bsb: str
    """Like 062-000."""
    bank_account_number: str
    payment_terms_days: int
    """From the day of issue."""
    logo_svg: str | None = None


def enter(connection: Connection, month: BillingMonth, supplier: Supplier, author: Author) -> Supplier:
    """Enter who sells from that month on, and return it as it is written. Raises OperationRefused.

    Invoices that stand keep the supplier that they were issued with.
    """
    tidy = _tidy(connection, supplier)
    by = {"operator": author.operator, "reason": author.reason, "run": author.run_id, "month": month.start}
    connection.exec_driver_sql(_ENTER, asdict(tidy) | by)
    return tidy


def supplier_in(connection: Connection, month: BillingMonth) -> Supplier | None:
    """Who sells in the month, as entered until now; None if nobody was."""
    row = connection.exec_driver_sql(_IN, {"month": month.start}).mappings().one_or_none()
    return None if row is None else Supplier(**row)


def entries(connection: Connection) -> list[Mapping[str, object]]:
    """Every entry, by its first month and in order of entry, with who entered it and why."""
    return [dict(row) for row in connection.exec_driver_sql(_ALL).mappings()]


def _tidy(connection: Connection, supplier: Supplier) -> Supplier:
    """The entry with its numbers spelled one way. Raises OperationRefused for what no invoice may show."""
    abn = re.sub(r"\s", "", supplier.abn)
    if not connection.exec_driver_sql("select billing.is_abn(%(abn)s)", {"abn": abn}).scalar_one():
        raise OperationRefused(f"ABN {supplier.abn!r} is not an ABN: its 11 digits do not check each other")
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", supplier.email.strip()):
        raise OperationRefused(f"email {supplier.email!r} is not an address: write it like accounts@example.com")
    bsb = re.sub(r"[\s-]", "", supplier.bank_bsb)
    if not re.fullmatch(r"\d{6}", bsb, re.ASCII):
        raise OperationRefused(f"bank_bsb {supplier.bank_bsb!r} is not a BSB: write six digits like 062-000")
    account = re.sub(r"[\s-]", "", supplier.bank_account_number)
    if not re.fullmatch(r"\d{5,10}", account, re.ASCII):
        raise OperationRefused(f"bank_account_number {supplier.bank_account_number!r} is not 5 to 10 digits")
    if not 0 <= supplier.payment_terms_days <= 365:
        raise OperationRefused(f"payment_terms_days {supplier.payment_terms_days} is not between 0 and 365")
    return Supplier(
        legal_name=_line("legal_name", supplier.legal_name),
        abn=abn,
        address=_address(supplier.address),
        email=_line("email", supplier.email),
        bank_account_name=_line("bank_account_name", supplier.bank_account_name),
        bank_bsb=f"{bsb[:3]}-{bsb[3:]}",
        bank_account_number=account,
        payment_terms_days=supplier.payment_terms_days,
        logo_svg=_logo(supplier.logo_svg),
    )


def _line(name: str, given: str) -> str:
    text = given.strip()
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise OperationRefused(f"{name} must be one line of 1 to {_LONGEST} printable characters, and is {given!r}")
    return text


def _address(given: str) -> str:
    lines = [_line("each line of the address", line) for line in given.strip().splitlines()]
    if not 1 <= len(lines) <= _ADDRESS_LINES:
        raise OperationRefused(f"the address must have 1 to {_ADDRESS_LINES} lines, and has {len(lines)}")
    return "\n".join(lines)


def _logo(svg: str | None) -> str | None:
    if svg is None or not svg.strip():
        return None
    if len(svg) > _LONGEST_LOGO:
        raise OperationRefused(f"the logo has {len(svg):,} characters: at most {_LONGEST_LOGO:,} are taken")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise OperationRefused(f"the logo is not SVG: {error}") from error
    if root.tag != "{http://www.w3.org/2000/svg}svg":
        raise OperationRefused("the logo is not SVG: its first element must be svg of http://www.w3.org/2000/svg")
    return svg
