"""A bill as the API answers with it: https://docs.digitalocean.com/reference/api, "Billing".

Belongs here: reading the answers, and what only their summary says. Does not: asking for them (digitalocean.py), what
an item's texts mean (bill_items.py).
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import Column
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs.bill import Bill, InvalidBill, checked, total_of
from arcadia_pipelines.costs.bill_items import CREDIT, RECEIVED, TAX, are_named, cents, read_items, trimmed, with_dates

_SECTIONS = {"overages": "Overages", "taxes": "Taxes", "credits_and_adjustments": "Credits and adjustments"}
"""The sections of the API's summary beside product_charges, each with its name as an item."""


def read_api(
    month: BillingMonth, summary: Mapping[str, object], pages: Sequence[Mapping[str, object]], url: str
) -> Bill:
    """The bill that the API's answers hold: a summary, and the pages of its items.

    The list of items has what was used; taxes, credits and overages that stand in the summary alone become items.
    Raises InvalidBill.
    """
    received = [item for page in pages for item in _list(page, "invoice_items")]
    of = _text(summary.get("billing_period") or summary.get("invoice_period"))
    if of != str(month):
        raise InvalidBill(f"the bill {summary.get('invoice_uuid')} is of {of or 'no month'}, not of {month}")
    items, total = read_items(_listed(received)), cents(_text(summary.get("amount")), "amount of the summary")
    if missing := _unlisted(items, summary, total):
        items = read_items(_listed([*received, *(_summed(summary, name) for name in missing)]))
    document = json.dumps([summary, *pages]).encode()
    uuid = _text(summary.get("invoice_uuid")) or None
    return checked(Bill(month, uuid, total, "bill", with_dates(items, month), document, "application/json", url))


def _unlisted(items: pa.Table, summary: Mapping[str, object], total: int) -> list[str]:
    """The sections of the API's summary that are missing among the items: with them the items sum to the total.

    A tax or a credit of which an item has the very amount is not missing; one that cannot be any item is.
    """
    charged = {name: amount for name in _SECTIONS if (amount := _charged(summary, name))}
    is_tax, is_credit = are_named(items, TAX), pc.and_(are_named(items, CREDIT), pc.invert(are_named(items, TAX)))
    amounts, listed = items["amount_cents"], total_of(items["amount_cents"])

    def choices(name: str) -> list[bool]:
        """Whether the section may be missing, the likelier first."""
        if name == "overages":
            used = total_of(pc.filter(amounts, pc.invert(pc.or_(is_tax, is_credit))))
            return [False] if used == _charged(summary, "product_charges") + charged[name] else [True, False]
        named = pc.filter(amounts, is_tax if name == "taxes" else is_credit).to_pylist()
        if charged[name] in (sum(named), *named):
            return [False]
        maybe = bool(named) or (name != "taxes" and pc.any(pc.less(amounts, 0)).as_py())
        return [not named, bool(named)] if maybe else [True]

    for chosen in itertools.product(*map(choices, charged)):
        missing = [name for name, is_missing in zip(charged, chosen, strict=True) if is_missing]
        if listed + sum(charged[name] for name in missing) == total:
            return missing
    return [name for name in charged if choices(name)[0]]


def _listed(received: Sequence[Mapping[str, object]]) -> dict[str, Column]:
    """The API's items as columns of trimmed texts."""
    return {name: trimmed([_text(item.get(name)) for item in received]) for name in RECEIVED}


def _text(value: object) -> str:
    """A text or a number of the API's as text; null is empty. Raises InvalidBill."""
    if not isinstance(value, str | int | float | None) or isinstance(value, bool):
        raise InvalidBill(f"{json.dumps(value)[:80]} is where a text should be")
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = f"{Decimal(text):f}"  # without an exponent
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise InvalidBill(f"{text[:80]!a} is not valid text")
    return text


def _list(page: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    found = page.get(name)
    if not isinstance(found, list):
        raise InvalidBill(f"an answer of the API has no {name}")
    return found


def _section(summary: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = summary.get(name)
    return found if isinstance(found, dict) else {}


def _charged(summary: Mapping[str, object], name: str) -> int:
    """Cents USD of a section of the summary; 0 if it is missing."""
    return cents(_text(_section(summary, name).get("amount")) or "0", f"{name} of the summary")


def _summed(summary: Mapping[str, object], name: str) -> dict[str, object]:
    """A section of the summary as an item."""
    section, product = _section(summary, name), _SECTIONS[name]
    return {"product": product, "description": section.get("name") or product, "amount": section.get("amount")}
