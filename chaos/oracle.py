"""What every tenant owes for a month, worked out in plain Python with exact fractions from the platform's own rows.

Belongs here: the rules of the money, written apart from the engine and from the audits, row by row. Does not: SQL, what
stands on invoices (proofs.py), and what corrects other months.
"""

import datetime as dt
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, TypeVar

Key = TypeVar("Key")
Price = TypeVar("Price")
Row = TypeVar("Row")
ORDER = ("plan_base", "addon", "overage", "discount", "commitment", "adjustment", "credit", "tax")
CHARGES = ORDER[:3]
MILLIONTH = Fraction(1, 1_000_000)


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


class Tier(NamedTuple):
    """What a unit costs up to a bound (None: no bound), and what it costs to enter the tier, in cents."""

    up_to: Decimal | None
    price: Decimal
    flat: int


class Rate(NamedTuple):
    """What a plan includes of a resource kind, in its unit, and what is charged beyond that, in cents."""

    included: Decimal
    unit: str
    price: Decimal
    model: str = "per_unit"
    size: Decimal | None = None
    maximum: int | None = None
    pooled: bool = False
    tiers: tuple[Tier, ...] = ()


class Record(NamedTuple):
    """A row of usage_records."""

    deployment: str
    kind: str
    quantity: Decimal
    at: dt.datetime


class Discount(NamedTuple):
    """A row of discounts: a percentage or an amount in cents, off the lines that its filters name."""

    id: str
    tenant: str
    deployment: str | None
    kind: str | None
    resource_kind: str | None
    percent: Decimal | None
    amount: int | None
    starts: dt.date
    ends: dt.date | None
    description: str


class Commitment(NamedTuple):
    """A row of commitments: the least that a deployment, or the tenant as a whole, costs a month in cents."""

    tenant: str
    deployment: str | None
    minimum: int
    starts: dt.date
    ends: dt.date | None


class Manual(NamedTuple):
    """A row of manual_lines: cents to pay, or below 0 to be paid."""

    tenant: str
    month: dt.date
    cents: int
    description: str


class Grant(NamedTuple):
    """What is left of a row of credit_grants, in cents."""

    tenant: str
    cents: int
    expires: dt.date | None
    description: str


class Platform(NamedTuple):
    """Who has what since when, and the price list: by code, and by the day from which a price is in effect."""

    subscriptions: list[Subscription]
    addons: list[Addon]
    plan_prices: Mapping[str, Mapping[dt.date, int]]
    addon_prices: Mapping[str, Mapping[dt.date, int]]
    rates: Mapping[tuple[str, str], Mapping[dt.date, Rate]]
    daily: frozenset[str] = frozenset()
    """The plans that are billed by the day."""
    own_plan_prices: Mapping[tuple[str, str], Mapping[dt.date, int | None]] = {}
    """By tenant and plan; as own_addon_prices, and own_rates by tenant, plan and kind. None: the list's."""
    own_addon_prices: Mapping[tuple[str, str], Mapping[dt.date, int | None]] = {}
    own_rates: Mapping[tuple[str, str, str], Mapping[dt.date, Rate | None]] = {}
    discounts: Sequence[Discount] = ()
    commitments: Sequence[Commitment] = ()
    names: Mapping[str, str] = {}
    """The deployments' names by their ids, by which lines are ordered."""


class Line(NamedTuple):
    """A line: quantity x unit price in cents / how many units the price is for, rounded once."""

    deployment: str | None
    kind: str
    resource_kind: str | None
    description: str
    quantity: Fraction
    unit: str | None
    unit_price: Fraction
    cents: int
    per: Fraction = Fraction(1)


class Owed(NamedTuple):
    """The lines of each tenant in their order, who is at fault and why, and the usage that is on no line."""

    lines: dict[str, list[Line]]
    unbilled: dict[tuple[str, str, str], Fraction]
    faults: dict[str, set[str]]


class Part(NamedTuple):
    """A subscription's month: the days that are its own, and the part of a month that it is billed for."""

    of: Subscription
    days: frozenset[dt.date]
    share: Fraction
    daily: bool


def owed(platform: Platform, records: Iterable[Record], month: dt.date) -> Owed:
    """What is owed for the month whose first day is given, before credits; the records are those of the month."""
    parts = _parts(platform, month)
    used, unbilled = _used(platform, parts, records, month)
    lines, faults = defaultdict[str, list[Line]](list), defaultdict[str, set[str]](set)
    booked = _grouped(platform.addons, lambda addon: addon.subscription)
    for part in parts.values():
        addons = _addons(platform, part, booked.get(part.of.id, []), month)
        lines[part.of.tenant] += [_plan_base(platform, part, month), *addons]
    for (subscription, kind), quantity in _beyond(platform, parts, used, month, faults).items():
        part = parts[subscription]
        rate = rate_of(platform, part.of, kind, month)
        assert rate is not None
        lines[part.of.tenant] += _overage(part, kind, rate, quantity)
    for tenant, charges in lines.items():
        _in_order(platform, charges)
        charges += _discounts(platform, tenant, charges, month)
        if fault := _overlapping(platform, tenant, month):
            faults[tenant].add(fault)
        else:
            charges += _commitments(platform, tenant, charges, parts.values(), month)
        _in_order(platform, charges)
    return Owed({t: charges for t, charges in lines.items() if t not in faults}, unbilled, dict(faults))


def credited(owes: Iterable[Line], entered: Iterable[Manual], grants: Iterable[Grant], month: dt.date) -> list[Line]:
    """A tenant's lines before GST: what is owed, what was entered or is corrected, and what grants pay of all that."""
    lines = list(owes)
    for manual in sorted(entered, key=lambda row: row.cents < 0):
        kind = "credit" if manual.cents < 0 else "adjustment"
        lines.append(_one(None, kind, None, f"{kind.title()}: {manual.description}", manual.cents))
    for grant in sorted(grants, key=lambda row: (row.expires is None, row.expires)):
        pays = min(grant.cents, sum(line.cents for line in lines))
        if pays > 0 and (grant.expires is None or month < grant.expires):
            lines.append(_one(None, "credit", None, f"Credit: {grant.description}", -pays))
    return lines


class Books:
    """Invoices that stand, by tenant and month, as months are run in some order; descriptions tell entries apart."""

    def __init__(self) -> None:
        self.invoices = dict[tuple[str, dt.date], list[Line]]()
        self.paid = set[tuple[str, dt.date]]()
        self.differences = dict[tuple[str, dt.date], int]()
        """What is owed beyond what a paid one bills, in cents."""

    def run(self, owes: Owed, month: dt.date, entered: Sequence[Manual], grants: Sequence[Grant]) -> None:
        """Run the month: what is paid stays, and of a tenant with a fault nothing changes."""
        tenants = {*owes.lines, *(row.tenant for row in entered), *(tenant for tenant, _ in self.invoices)}
        for tenant in tenants - set(owes.faults):
            charges = owes.lines.get(tenant, [])
            if (tenant, month) in self.paid:
                billed = sum(line.cents for line in self.invoices[tenant, month] if line.kind in ORDER[:5])
                self.differences[tenant, month] = sum(line.cents for line in charges) - billed
                continue
            lines = self._lines(tenant, month, charges, entered, grants)
            self.invoices.pop((tenant, month), None)
            if lines:
                self.invoices[tenant, month] = lines

    def _lines(
        self, tenant: str, month: dt.date, charges: list[Line], entered: Sequence[Manual], grants: Sequence[Grant]
    ) -> list[Line]:
        """Charges and credits. Only a tenant's newest invoice takes what others might have."""
        others = {of: lines for (whose, of), lines in self.invoices.items() if whose == tenant and of != month}
        own = self.invoices.get((tenant, month))
        is_newest = all(of < month for of in others)
        carried = {line.description for lines in others.values() for line in lines}
        kept = {line.description for line in own or []}

        def is_for_this(row: Manual) -> bool:
            """Its own month's, or nobody else's."""
            described = f"{'Credit' if row.cents < 0 else 'Adjustment'}: {row.description}"
            waits = is_newest and row.month < month and (tenant, row.month) in self.paid
            return described not in carried and (row.month == month or described in kept or waits)

        corrections = [
            Manual(tenant, of, cents, f"{of:%Y-%m}")
            for (whose, of), cents in sorted(self.differences.items())
            if whose == tenant and cents and of < month
        ]
        rows = [row for row in (*entered, *corrections) if row.tenant == tenant and is_for_this(row)]
        left = []
        for grant in (grant for grant in grants if grant.tenant == tenant):
            described = f"Credit: {grant.description}"
            cents = grant.cents + sum(
                line.cents for lines in others.values() for line in lines if line.description == described
            )
            if own and not is_newest:
                cents = min(cents, -sum(line.cents for line in own if line.description == described))
            left.append(grant._replace(cents=cents))
        return credited(charges, rows, left, month)


def gst(taxable_cents: int) -> int:
    """10 %, rounded once, half a cent upwards; of a sum below 0 as much as of the same sum above 0."""
    return int(half_up(Fraction(taxable_cents, 10)))


def half_up(amount: Fraction, to: Fraction = Fraction(1)) -> Fraction:
    """Rounded to whole cents, or to something else; half of it goes away from zero."""
    whole = math.floor(abs(amount) / to + Fraction(1, 2)) * to
    return whole if amount >= 0 else -whole


def largest_remainders(total: Fraction, weights: Mapping[Key, Fraction], to: Fraction) -> dict[Key, Fraction]:
    """The total shared in proportion to the weights, in multiples of `to`; of equal remainders the first goes first."""
    exact = {key: total * weight / sum(weights.values()) for key, weight in weights.items()}
    shares = {key: math.floor(part / to) * to for key, part in exact.items()}
    missing = (total - sum(shares.values())) / to
    assert missing.denominator == 1
    for key in sorted(exact, key=lambda key: shares[key] - exact[key])[: int(missing)]:
        shares[key] += to
    return shares


def in_effect(prices: Mapping[dt.date, Price], month: dt.date) -> Price | None:
    """The newest price that is in effect on the first of the month."""
    since = max((day for day in prices if day <= month), default=None)
    return None if since is None else prices[since]


def rate_of(platform: Platform, of: Subscription, kind: str, month: dt.date) -> Rate | None:
    """The tenant's own rate for a kind of its plan, or the list's."""
    own = in_effect(platform.own_rates.get((of.tenant, of.plan, kind), {}), month)
    return own if own is not None else in_effect(platform.rates.get((of.plan, kind), {}), month)


def after(month: dt.date) -> dt.date:
    """The first day of the month after."""
    return (month + dt.timedelta(days=31)).replace(day=1)


def days_of(month: dt.date) -> list[dt.date]:
    """Its days."""
    return [month + dt.timedelta(days=n) for n in range((after(month) - month).days)]


# A subscription's month.


def _parts(platform: Platform, month: dt.date) -> dict[str, Part]:
    """The billed subscriptions by id. A day belongs to the one that started last of those that its deployment had."""
    start, end = _midnight(month), _midnight(after(month))
    billed = [s for s in platform.subscriptions if s.status != "pending" and _overlaps(s, start, end)]
    days = defaultdict[str, set[dt.date]](set)
    for of_deployment in _grouped(billed, lambda s: s.deployment).values():
        for day in days_of(month):
            there = [s for s in of_deployment if _is_there(s, day)]
            if there:
                days[max(there, key=lambda s: s.started).id].add(day)
    parts = dict[str, Part]()
    for s in billed:
        daily = s.plan in platform.daily
        share = Fraction(len(days[s.id]), len(days_of(month))) if daily else Fraction(1)
        parts[s.id] = Part(s, frozenset(days[s.id]), share, daily)
    return parts


def _plan_base(platform: Platform, part: Part, month: dt.date) -> Line:
    price = in_effect(platform.own_plan_prices.get((part.of.tenant, part.of.plan), {}), month)
    if price is None:
        price = in_effect(platform.plan_prices[part.of.plan], month)
    assert price is not None, part
    return _by_days(part, "plan_base", f"Plan: {part.of.plan}", 1, len(part.days), price, month)


def _addons(platform: Platform, part: Part, booked: Iterable[Addon], month: dt.date) -> Iterator[Line]:
    for a in booked:
        within = a._replace(
            started=max(a.started, part.of.started),
            ended=min((end for end in (a.ended, part.of.ended) if end), default=None),
        )
        days = sum(_is_there(within, day) for day in part.days)
        if not a.quantity or not _overlaps(within, _midnight(month), _midnight(after(month))):
            continue
        price = in_effect(platform.own_addon_prices.get((part.of.tenant, a.addon), {}), month)
        if price is None:
            price = in_effect(platform.addon_prices[a.addon], month)
        assert price is not None, a
        yield _by_days(part, "addon", f"Addon: {a.addon}", a.quantity, days, price, month)


def _by_days(part: Part, kind: str, what: str, quantity: int, days: int, price: int, month: dt.date) -> Line:
    """So many for the month, or for some days of it."""
    of = len(days_of(month))
    if not part.daily or days == of:
        return _line(part.of.deployment, kind, None, what, Fraction(quantity), "month", Fraction(price))
    qty = Fraction(quantity * days)
    return _line(part.of.deployment, kind, None, what, qty, "day", Fraction(price), Fraction(of))


# Usage.


def _used(
    platform: Platform, parts: Mapping[str, Part], records: Iterable[Record], month: dt.date
) -> tuple[dict[tuple[str, str], Fraction], dict[tuple[str, str, str], Fraction]]:
    """The usage by subscription and kind; and what of all no line can have, by deployment, kind and reason."""
    used = defaultdict[tuple[str, str], Fraction](Fraction)
    unbilled = defaultdict[tuple[str, str, str], Fraction](Fraction)
    of_deployment = _grouped((part.of for part in parts.values()), lambda s: s.deployment)
    for r in records:
        there = of_deployment.get(r.deployment, [])
        payers = [s for s in there if s.started <= r.at and (not s.ended or r.at < s.ended)]
        assert len(payers) < 2, r
        if payers:
            used[payers[0].id, r.kind] += Fraction(r.quantity)
        if not payers or not rate_of(platform, payers[0], r.kind, month):
            unbilled[r.deployment, r.kind, "no_rate" if payers else "no_subscription"] += Fraction(r.quantity)
    return dict(used), dict(unbilled)


def _beyond(
    platform: Platform,
    parts: Mapping[str, Part],
    used: Mapping[tuple[str, str], Fraction],
    month: dt.date,
    faults: dict[str, set[str]],
) -> dict[tuple[str, str], Fraction]:
    """What is used beyond allowances, by subscription and kind: alone, or of a tenant's pool."""
    beyond = dict[tuple[str, str], Fraction]()
    pools = defaultdict[tuple[str, str], list[str]](list)
    included = dict[tuple[str, str], Fraction]()
    kinds = {kind for _, kind in used}
    users = {(parts[id_].of.tenant, kind) for id_, kind in used}
    for id_, part in sorted(parts.items()):
        for kind in kinds:
            rate = rate_of(platform, part.of, kind, month)
            if rate is None:
                continue
            included[id_, kind] = half_up(Fraction(rate.included) * part.share, MILLIONTH)
            beyond[id_, kind] = max(Fraction(0), used.get((id_, kind), Fraction(0)) - included[id_, kind])
            if rate.pooled:
                pools[part.of.tenant, kind].append(id_)
                if rate.model != "per_unit" and (part.of.tenant, kind) in users:
                    faults[part.of.tenant].add("pooled_tiers")
    for (_, kind), members in pools.items():
        total = sum((used.get((id_, kind), Fraction(0)) - included[id_, kind] for id_ in members), Fraction(0))
        over = {(id_, kind): beyond[id_, kind] for id_ in members if beyond[id_, kind]}
        beyond.update({key: Fraction(0) for key in over})
        if total > 0:
            beyond.update(largest_remainders(total, over, MILLIONTH))
    return {key: quantity for key, quantity in beyond.items() if quantity}


def _overage(part: Part, kind: str, rate: Rate, quantity: Fraction) -> list[Line]:
    """A quantity beyond the allowance by the rate's charge model, or the most that it may cost."""
    deployment, what = part.of.deployment, f"Overage: {kind}"
    if rate.model == "per_unit":
        lines = [_line(deployment, "overage", kind, what, quantity, rate.unit, Fraction(rate.price))]
    elif rate.model == "package":
        assert rate.size is not None
        packages, unit = (
            Fraction(math.ceil(quantity / Fraction(rate.size))),
            f"package of {_plain(rate.size)} {rate.unit}",
        )
        lines = [_line(deployment, "overage", kind, what, packages, unit, Fraction(rate.price))]
    else:
        lines = []
        for tier, units in _tiers(rate, quantity):
            if tier.price or not tier.flat:
                lines.append(_line(deployment, "overage", kind, what, units, rate.unit, Fraction(tier.price)))
            if tier.flat:
                lines.append(_one(deployment, "overage", kind, what, tier.flat, "flat fee"))
    if rate.maximum is not None:
        most = int(half_up(rate.maximum * part.share))
        if sum(line.cents for line in lines) > most:
            lines = [_one(deployment, "overage", kind, what, most, "cap")]
    return lines


def _tiers(rate: Rate, quantity: Fraction) -> Iterator[tuple[Tier, Fraction]]:
    """The tiers that a quantity enters, each with its units: all of it in one tier, or a part in each up to that."""
    lower = Fraction(0)
    for tier in sorted(rate.tiers, key=lambda tier: (tier.up_to is None, tier.up_to)):
        upper = quantity if tier.up_to is None else min(quantity, Fraction(tier.up_to))
        if rate.model == "graduated":
            yield tier, upper - lower
        elif upper == quantity:
            yield tier, quantity
        if upper == quantity:
            return
        lower = upper
    raise AssertionError(f"no tier of {rate} has {quantity}")


# A tenant's month.


def _discounts(platform: Platform, tenant: str, charges: Sequence[Line], month: dt.date) -> list[Line]:
    """One line for each sum that a discount takes something off; charges are in order."""
    left = Counter[tuple[str | None, str, str | None]]()
    for line in charges:
        left[line.deployment, line.kind, line.resource_kind] += line.cents
    lines = []
    of_month = [d for d in platform.discounts if d.tenant == tenant and _is_for(d, month)]
    for d in sorted(of_month, key=lambda d: (d.percent is None, d.starts, d.id)):
        sums = {
            key: Fraction(cents)
            for key, cents in left.items()
            if d.deployment in (None, key[0]) and d.kind in (None, key[1]) and d.resource_kind in (None, key[2])
        }
        if d.percent is not None:
            off = {key: half_up(cents * Fraction(d.percent) / 100) for key, cents in sums.items()}
        else:
            assert d.amount is not None
            all_left = sum(sums.values(), Fraction(0))
            off = largest_remainders(min(Fraction(d.amount), all_left), sums, Fraction(1)) if all_left else {}
        for key, cents in off.items():
            if cents:
                left[key] -= int(cents)
                lines.append(_one(key[0], "discount", key[2], f"Discount: {d.description}", -int(cents)))
    return lines


def _overlapping(platform: Platform, tenant: str, month: dt.date) -> str | None:
    scopes = Counter(c.deployment for c in platform.commitments if c.tenant == tenant and _is_for(c, month))
    return "overlapping_commitments" if any(times > 1 for times in scopes.values()) else None


def _commitments(
    platform: Platform, tenant: str, charges: Sequence[Line], parts: Iterable[Part], month: dt.date
) -> list[Line]:
    """What deployments, and then the tenant as a whole, are short of their minimum."""
    of_month = [c for c in platform.commitments if c.tenant == tenant and _is_for(c, month)]
    lines = list[Line]()
    for c in sorted(of_month, key=lambda c: c.deployment is None):
        minimum, paid = c.minimum, sum(line.cents for line in (*charges, *lines))
        if c.deployment:
            own = [part for part in parts if (part.of.tenant, part.of.deployment) == (tenant, c.deployment)]
            days = sum(len(part.days) for part in own)
            share = Fraction(days, len(days_of(month))) if all(part.daily for part in own) else Fraction(1)
            minimum = int(half_up(minimum * share))
            paid = sum(line.cents for line in charges if line.deployment == c.deployment)
        if paid < minimum:
            lines.append(_one(c.deployment, "commitment", None, "Commitment", minimum - paid))
    return lines


# Lines.


def _line(
    deployment: str | None,
    kind: str,
    resource_kind: str | None,
    description: str,
    quantity: Fraction,
    unit: str | None,
    price: Fraction,
    per: Fraction = Fraction(1),
) -> Line:
    cents = int(half_up(quantity * price / per))
    return Line(deployment, kind, resource_kind, description, quantity, unit, price, cents, per)


def _one(
    deployment: str | None, kind: str, resource_kind: str | None, description: str, cents: int, unit: str | None = None
) -> Line:
    """A line of one, at a price in whole cents."""
    return _line(deployment, kind, resource_kind, description, Fraction(1), unit, Fraction(cents))


def _plain(number: Decimal) -> str:
    """Without zeros at its end."""
    return f"{number:f}".rstrip("0").rstrip(".") if "." in f"{number:f}" else f"{number:f}"


def _in_order(platform: Platform, lines: list[Line]) -> None:
    """By deployment, those of none last; by kind; by resource kind."""

    def place(line: Line) -> tuple[object, ...]:
        name = platform.names.get(line.deployment or "", line.deployment or "")
        # Discounts stay in their own order.
        resource_kind = line.resource_kind or "" if line.kind in CHARGES else ""
        return (line.deployment is None, name, line.deployment or "", ORDER.index(line.kind), resource_kind)

    lines.sort(key=place)


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups = defaultdict[str, list[Row]](list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _is_there(span: Subscription | Addon, day: dt.date) -> bool:
    """Whether it is active at some instant of the day."""
    return _overlaps(span, _midnight(day), _midnight(day + dt.timedelta(days=1)))


def _overlaps(span: Subscription | Addon, start: dt.datetime, end: dt.datetime) -> bool:
    """Whether [started, ended) is not empty and has an instant in [start, end)."""
    return max(span.started, start) < min(span.ended or end, end)


def _is_for(terms: Discount | Commitment, month: dt.date) -> bool:
    """Whether they are for the month."""
    return terms.starts <= month and (terms.ends is None or month < terms.ends)
