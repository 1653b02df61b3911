"""What two price books differ in: row by row of the platform's tables, for people, for the record, and for stored.py.

Belongs here: which changes there are, since when each counts and for whom, and which cannot be made at all. Does not:
the months that are invoiced, and writing (stored.py).
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.prices.book import Amount, Part, PriceBook, Term

Key = tuple[str, ...]
"""What a row is about: ("studio", "egress_gb") of plan_rates; a term's tenant and id."""
_NEVER_REMOVED = {
    "plans": "a plan is not deleted: leave it in the book",
    "addons": "an addon is not deleted: leave it in the book",
    "plan_prices": "a price stays until there is another: give the plan its price_aud",
    "addon_prices": "a price stays until there is another: give the addon its price_aud",
    "plan_rates": "a rate stays until there is another: leave it in, with a unit price of 0 if it is to be free",
}
"""Rows of the list that can be changed and not taken away, by table, and what to do."""
_WHAT = {
    "plans": "plan {0}",
    "plan_prices": "price of plan {0}",
    "plan_rates": "rate of plan {0} for {1}",
    "addons": "addon {0}",
    "addon_prices": "price of addon {0}",
    "tenant_plan_prices": "{0}'s price of plan {1}",
    "tenant_addon_prices": "{0}'s price of addon {1}",
    "tenant_rates": "{0}'s rate of plan {1} for {2}",
    "discounts": "{0}'s discount {1}",
    "commitments": "{0}'s commitment {1}",
}
_OF_TENANTS = ("tenant_plan_prices", "tenant_addon_prices", "tenant_rates", "discounts", "commitments")


class PricesRefused(Refused):
    """The price book cannot be applied, and nothing was; the message names what, why, and what else can be done."""


class Price(Part):
    """A row of a table of prices."""

    price_aud: Amount


@dataclass(frozen=True)
class Change:
    """A row of one of the platform's tables that is to differ; None where there is none."""

    table: str
    key: Key
    before: Part | None
    after: Part | None
    since: dt.date
    """The first month whose invoices it can change."""
    is_new: bool
    """Whether it is of a plan or an addon that nobody can have been billed for."""

    @property
    def tenant(self) -> str | None:
        """Whose invoices alone it can change; None: anybody's."""
        return self.key[0] if self.table in _OF_TENANTS else None

    @property
    def what(self) -> str:
        """What it is about, for people."""
        return _WHAT[self.table].format(*self.key)

    def document(self) -> dict[str, Any]:
        """The change for the record and for programs."""
        sides = {"before": _document(self.before), "after": _document(self.after)}
        return {"table": self.table, "what": self.what, **sides}


def find(standing: PriceBook, wanted: PriceBook, since: BillingMonth) -> list[Change]:
    """What has to differ from this month on for the wanted book to be in effect instead of the one that stands.

    Raises PricesRefused for what cannot be taken away.
    """
    before, after = dict(_rows(standing, since.start)), dict(_rows(wanted, since.start))
    new = after.keys() - before.keys()
    found = []
    for table, key in sorted(before.keys() | after.keys(), key=_order):
        old, now = before.get((table, key)), after.get((table, key))
        if old == now:
            continue
        what = _WHAT[table].format(*key)
        if now is None and table in _NEVER_REMOVED:
            raise PricesRefused(f"the {what} is not in the book, and {_NEVER_REMOVED[table]}")
        first = _first_month(old, now, since.start)
        found.append(Change(table, key, old, now, first, _sold(table, key) in new))
    return found


def _sold(table: str, key: Key) -> tuple[str, Key]:
    """The row of the plan or the addon that a row prices; a term prices neither."""
    if table in ("discounts", "commitments"):
        return table, ()
    return "addons" if "addon" in table else "plans", key[1:2] if table.startswith("tenant_") else key[:1]


def _order(row: tuple[str, Key]) -> tuple[int, Key]:
    """Plans before their prices, and all else in the order of the tables."""
    return list(_WHAT).index(row[0]), row[1]


def _rows(prices: PriceBook, since: dt.date) -> Iterator[tuple[tuple[str, Key], Part]]:
    """The book as rows of the platform's tables, by table and key; what is over by then is left out."""
    for code, plan in prices.plans.items():
        yield ("plans", (code,)), plan.model_copy(update={"price_aud": None, "rates": {}})
        yield from _priced(plan, "plan", (code,))
    for code, addon in prices.addons.items():
        yield ("addons", (code,)), addon.model_copy(update={"price_aud": None})
        yield from _priced(addon, "addon", (code,))
    for tenant, own in prices.tenants.items():
        for code, own_plan in own.plans.items():
            yield from _priced(own_plan, "plan", (tenant, code), "tenant_")
        for code, own_addon in own.addons.items():
            yield from _priced(own_addon, "addon", (tenant, code), "tenant_")
        for kind in ("discounts", "commitments"):
            for term in getattr(own, kind):
                if (term.ends_on or dt.date.max) > since:
                    identity: uuid.UUID = term.key(tenant)
                    yield (kind, (tenant, str(identity))), term.model_copy(update={"id": identity})


def _priced(part: Any, what: str, key: Key, whose: str = "") -> Iterator[tuple[tuple[str, Key], Part]]:
    if part.price_aud is not None:
        yield (f"{whose}{what}_prices", key), Price(price_aud=part.price_aud)
    for kind, rate in getattr(part, "rates", {}).items():
        yield ("tenant_rates" if whose else "plan_rates", (*key, kind)), rate


def _first_month(old: Part | None, now: Part | None, since: dt.date) -> dt.date:
    """The first month that the change counts in. A price counts from `since` on; a term says itself when."""
    terms = [part for part in (old, now) if isinstance(part, Term)]
    if not terms:
        return since
    if now is None:
        return max(since, terms[0].starts_on)
    without_end = [term.model_copy(update={"ends_on": None}) for term in terms]
    if len(terms) == 2 and without_end[0] == without_end[1]:
        return min(term.ends_on or dt.date.max for term in terms)
    return min(term.starts_on for term in terms)


def _document(part: Part | None) -> dict[str, Any] | None:
    return part.model_dump(mode="json", exclude_defaults=True) if part else None
