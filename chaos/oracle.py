"""What every tenant owes for a month, worked out in plain Python with exact fractions from the platform's own rows.

Belongs here: the rules of the money, written apart from the engine and from the audits, for what a storm makes: one
price list, and nobody who is held back. Does not: SQL, and what stands on invoices (proofs.py).
"""

import datetime as dt
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, TypeVar

Price = TypeVar("Price")


class Subscription(NamedTuple):
    """A row of subscriptions, with its plan's code."""

    id: str
    tenant: str
    deployment: str
    plan: str
    status: str
    started: dt.datetime
    ended: dt.datetime | None


class Addon(NamedTuple):
    """A row of subscription_addons, with its addon's code."""

    subscription: str
    addon: str
    quantity: int
    started: dt.datetime
    ended: dt.datetime | None


class Rate(NamedTuple):
    """What a plan includes of a resource kind, in its unit, and a unit's price beyond that in cents."""

    included: Decimal
    unit: str
    price: Decimal


class Record(NamedTuple):
    """A row of usage_records."""

    deployment: str
    kind: str
    quantity: Decimal
    at: dt.datetime


class Platform(NamedTuple):
    """Who has what since when, and the price list: by code, and by the day from which a price is in effect."""

    subscriptions: list[Subscription]
    addons: list[Addon]
    plan_prices: Mapping[str, Mapping[dt.date, int]]
    addon_prices: Mapping[str, Mapping[dt.date, int]]
    rates: Mapping[tuple[str, str], Mapping[dt.date, Rate]]


class Line(NamedTuple):
    """A line before GST: quantity x unit price in cents, rounded once."""

    deployment: str
    kind: str
    resource_kind: str | None
    description: str
    quantity: Fraction
    unit: str
    unit_price: Fraction
    cents: int


class Owed(NamedTuple):
    """The lines of each tenant, and the usage that is on none: by deployment, kind and reason."""

    lines: dict[str, Counter[Line]]
    unbilled: dict[tuple[str, str, str], Fraction]


def owed(platform: Platform, records: Iterable[Record], month: dt.date) -> Owed:
    """What is owed for the month whose first day is given; the records are those of the month."""
    start = dt.datetime.combine(month, dt.time(), dt.UTC)
    end = dt.datetime.combine(after(month), dt.time(), dt.UTC)
    billed = {s.id: s for s in platform.subscriptions if s.status != "pending" and _overlaps(s, start, end)}
    lines: dict[str, Counter[Line]] = defaultdict(Counter)
    for s in billed.values():
        price = in_effect(platform.plan_prices[s.plan], month)
        assert price is not None, s
        _add(lines[s.tenant], s, "plan_base", None, f"Plan: {s.plan}", Fraction(1), "month", Fraction(price))
    for a in platform.addons:
        whose = billed.get(a.subscription)
        if whose and _overlaps(a, max(start, whose.started), min(end, whose.ended or end)):
            price = in_effect(platform.addon_prices[a.addon], month)
            assert price is not None, a
            quantity = Fraction(a.quantity)
            _add(lines[whose.tenant], whose, "addon", None, f"Addon: {a.addon}", quantity, "month", Fraction(price))
    unbilled = dict[tuple[str, str, str], Fraction]()
    for (deployment, kind, subscription), used in _used(billed.values(), records).items():
        payer = billed.get(subscription or "")
        rate = in_effect(platform.rates.get((payer.plan, kind), {}), month) if payer else None
        if not payer or not rate:
            key = (deployment, kind, "no_rate" if payer else "no_subscription")
            unbilled[key] = unbilled.get(key, Fraction(0)) + used
        elif used > Fraction(rate.included):
            over, what = used - Fraction(rate.included), f"Overage: {kind}"
            _add(lines[payer.tenant], payer, "overage", kind, what, over, rate.unit, Fraction(rate.price))
    return Owed(dict(lines), unbilled)


def gst(taxable_cents: int) -> int:
    """10 %, rounded once."""
    return half_up(Fraction(taxable_cents, 10))


def half_up(cents: Fraction) -> int:
    """Rounded to whole cents; half a cent goes away from zero."""
    whole = math.floor(abs(cents) + Fraction(1, 2))
    return whole if cents >= 0 else -whole


def in_effect(prices: Mapping[dt.date, Price], month: dt.date) -> Price | None:
    """The newest price that is in effect on the first of the month."""
    since = max((day for day in prices if day <= month), default=None)
    return None if since is None else prices[since]


def after(month: dt.date) -> dt.date:
    """The first day of the month after."""
    return (month + dt.timedelta(days=31)).replace(day=1)


def _overlaps(span: Subscription | Addon, start: dt.datetime, end: dt.datetime) -> bool:
    """Whether [started, ended) is not empty and has an instant in [start, end)."""
    return max(span.started, start) < min(span.ended or end, end)


def _used(billed: Iterable[Subscription], records: Iterable[Record]) -> dict[tuple[str, str, str | None], Fraction]:
    """The usage by deployment, kind and the subscription that was active when it was recorded."""
    of_deployment = defaultdict[str, list[Subscription]](list)
    for s in billed:
        of_deployment[s.deployment].append(s)
    sums: dict[tuple[str, str, str | None], Decimal] = defaultdict(Decimal)
    for r in records:
        payers = [s.id for s in of_deployment[r.deployment] if s.started <= r.at and (not s.ended or r.at < s.ended)]
        assert len(payers) < 2, r
        sums[r.deployment, r.kind, payers[0] if payers else None] += r.quantity
    return {key: Fraction(quantity) for key, quantity in sums.items()}


def _add(
    lines: Counter[Line],
    of: Subscription,
    kind: str,
    resource_kind: str | None,
    description: str,
    quantity: Fraction,
    unit: str,
    price: Fraction,
) -> None:
    if quantity:
        cents = half_up(quantity * price)
        lines[Line(of.deployment, kind, resource_kind, description, quantity, unit, price, cents)] += 1
