"""An invoice of ours as Tryton's books want it: the party, the accounts and the tax that an accountant has set up.

Belongs here: what is looked up there, and the values that an invoice is made of. Does not: when it is made, posted or
cancelled (client.py).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

from arcadia_pipelines.finance.client import Known
from arcadia_pipelines.finance.tryton.entry import Document, Stamp
from arcadia_pipelines.finance.tryton.rpc import CallFailed, Rpc, refusal

_GST = Decimal("0.1")
_PRICE_DIGITS = Decimal("0.0001")
"""Tryton's unit prices have four decimals, unless its server is configured otherwise."""
_UNDER_A_TENTH = 10
"""The GST of so few cents may be none."""


class Books:
    """What Tryton is set up with. What is missing is refused, in words, each time until somebody has mended it."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def company(self) -> int:
        """The company that the user works for; from then on each call is for it."""
        company: int | None = self._rpc.read("model.res.user.get_preferences", True).get("company")
        if not company:
            raise refusal("the user has no company in Tryton: enter one in the user's preferences")
        self._rpc.context = {**self._rpc.context, "company": company}
        return company

    def invoice(self, document: Document) -> dict[str, Any]:
        """The values of a draft of the invoice."""
        party, address, receivable = self._party(document["tenant"])
        issued_on = dt.date.fromisoformat(document["issued_on"])
        due_on = document["due_on"]
        taxed = zip(document["lines"], are_taxed(document["lines"]), strict=True)
        return {
            "company": self.company,
            "type": "out",
            "party": party,
            "invoice_address": address,
            "currency": self._currency,
            "journal": self._journal,
            "account": receivable,
            "reference": document["number"],
            "description": str(Stamp.of(document)),
            "invoice_date": issued_on,
            "accounting_date": issued_on,
            "payment_term_date": dt.date.fromisoformat(due_on) if due_on else issued_on,
            "lines": [["create", [self._line(n, line, is_taxed) for n, (line, is_taxed) in enumerate(taxed, start=1)]]],
        }

    def require_open(self, day: dt.date) -> None:
        """Refuse what cannot be booked on this day."""
        days = [["start_date", "<=", day], ["end_date", ">=", day], ["type", "=", "standard"], ["state", "=", "open"]]
        if not self._rows("account.period", [*days, ["fiscalyear.company", "=", self.company]]):
            raise refusal(f"Tryton has no period that is open on {day}")

    def _line(self, sequence: int, line: Document, is_taxed: bool) -> dict[str, Any]:
        quantity, price, description = priced(line)
        return {
            "type": "line",
            "sequence": sequence,
            "company": self.company,
            "currency": self._currency,
            "account": self._revenue,
            "description": description,
            "quantity": float(quantity),  # Tryton's quantities are floats, which it reads as they are printed
            "unit_price": price,
            "taxes": [["add", [self._gst]]] if is_taxed else [],
        }

    def _party(self, tenant: Document) -> tuple[int, int, int]:
        """The tenant's party, by its code; its address, and its account. It is made if it is missing."""
        found = self._party_of(tenant["id"]) or self._new_party(tenant)
        if not (addresses := found["addresses"]):
            self._rpc.change("model.party.party.write", [found["id"]], {"addresses": [["create", [{}]]]})
            addresses = self._party_of(tenant["id"])["addresses"]
        return found["id"], addresses[0], found["account_receivable"] or self._receivable

    def _party_of(self, code: str) -> dict[str, Any]:
        domain = [["code", "=", code], ["active", "in", [True, False]]]
        rows = self._rows("party.party", domain, "addresses", "account_receivable")
        return rows[0] if rows else {}

    def _new_party(self, tenant: Document) -> dict[str, Any]:
        name = " ".join(tenant["name"].split()) or tenant["id"]
        values = {"name": name, "code": tenant["id"], "addresses": [["create", [{}]]]}
        # So Tryton calls the ABN.
        abn = {"identifiers": [["create", [{"type": "au_vat", "code": tenant["abn"]}]]]} if tenant["abn"] else {}
        try:
            self._rpc.change("model.party.party.create", [{**values, **abn}])
        except CallFailed as failed:
            if failed.answer.known is not Known.REFUSED:
                raise
            if not self._party_of(tenant["id"]):  # nobody else was quicker: Tryton takes no wrong ABN
                self._rpc.change("model.party.party.create", [values])
        return self._party_of(tenant["id"])

    @cached_property
    def _currency(self) -> int:
        rows = self._rows("currency.currency", [["code", "=", "AUD"]])
        return _only(rows, "Tryton has no currency AUD: enter it")

    @cached_property
    def _journal(self) -> int:
        rows = self._rows("account.journal", [["type", "=", "revenue"]])
        return _only(rows[:1], "Tryton has no journal of type Revenue: make one")

    @cached_property
    def _revenue(self) -> int:
        return self._default("default_category_account_revenue", "revenue")

    @cached_property
    def _receivable(self) -> int:
        return self._default("default_account_receivable", "receivable")

    def _default(self, field: str, kind: str) -> int:
        """The default account of this kind; or the only one."""
        [defaults] = self._rpc.read("model.account.configuration.read", [1], [field])
        if defaults[field]:
            return int(defaults[field])
        domain = [["company", "=", self.company], [f"type.{kind}", "=", True], ["closed", "=", False]]
        why = f"Tryton has no default account for {kind}: enter one in the accounting configuration"
        return _only(self._rows("account.account", domain), why)

    @cached_property
    def _gst(self) -> int:
        """The tax of 10 % on sales; if there are several, the one whose name begins with GST."""
        domain = [
            ["company", "=", self.company],
            ["type", "=", "percentage"],
            ["rate", "=", _GST],
            ["parent", "=", None],
            ["OR", ["group", "=", None], ["group.kind", "in", ["sale", "both"]]],
        ]
        rows = self._rows("account.tax", domain, "name")
        named = [row for row in rows if row["name"].upper().startswith("GST")]
        why = f"Tryton has {len(rows) or 'no'} taxes of 10 % on sales: have one there, whose name begins with GST"
        return _only(rows if len(rows) == 1 else named, why)

    def _rows(self, model: str, domain: list[Any], *fields: str) -> list[dict[str, Any]]:
        _ = self.company  # each call is for it
        rows: list[dict[str, Any]] = self._rpc.read(f"model.{model}.search_read", domain, 0, None, None, [*fields])
        return rows


def _only(rows: Sequence[Mapping[str, Any]], why: str) -> int:
    """The id of the only row; otherwise it is refused, for what reason."""
    if len(rows) != 1:
        raise refusal(why)
    return int(rows[0]["id"])


def are_taxed(lines: Sequence[Document]) -> list[bool]:
    """Which lines GST applies to. That of a few cents may be none: such a line is taxed if any other is."""
    any_is = any(line["gst_cents"] for line in lines)
    return [any_is and (line["gst_cents"] != 0 or abs(line["amount_cents"]) < _UNDER_A_TENTH) for line in lines]


def priced(line: Document) -> tuple[Decimal, Decimal, str]:
    """Quantity, unit price in dollars and description, as Tryton gets them: it multiplies, and that is the amount.

    Where its digits do not allow for our quantity and price, the quantity is one, and the description says the rest.
    """
    amount = Decimal(line["amount_cents"]).scaleb(-2)
    quantity, per = Decimal(line["quantity"]), Decimal(line["price_per"])
    price = (Decimal(line["unit_price_cents"]) / per).scaleb(-2)
    if quantity * price == amount and price == price.quantize(_PRICE_DIGITS) and _is_float(quantity):
        return quantity, price, line["description"]
    each = "" if per == 1 else f" for {_plain(per)}"
    return (
        Decimal(1),
        amount,
        (f"{line['description']}, {_plain(quantity)} at {_plain(Decimal(line['unit_price_cents']))} c{each}"),
    )


def _is_float(quantity: Decimal) -> bool:
    return Decimal(str(float(quantity))) == quantity


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
