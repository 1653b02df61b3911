"""What a quote is weighed against: every plan on sale for the same usage, and more usage that would cost less.

Belongs here: asking for several quotes. Does not: a quote itself (projection.py).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import dollars, plain
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month.projection import CannotQuote, project
from arcadia_pipelines.storage import price_list, terms
from arcadia_pipelines.storage.price_list import AmbiguousCode

Usage = dict[str, Decimal]
_LEAST = Decimal("0.000001")  # of a quantity


@dataclass(frozen=True)
class Wanted:
    """A deployment to be quoted, as project() takes it, but for its plan."""

    month: BillingMonth
    addons: tuple[str, ...]
    usage: Usage
    tenant: str | None = None
    first_day: int = 1

    def on(
        self, connection: Connection, plan: str, instead: Mapping[str, Decimal] | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Its totals and lines on this plan, with other usage of some kinds `instead`. Raises as project()."""
        used = {**self.usage, **(instead or {})}
        return project(connection, self.month, plan, self.addons, used, self.tenant, self.first_day)


@dataclass(frozen=True)
class Compared:
    """A deployment on every plan: totals and lines by the plan's code, the cheapest first; and why others have none."""

    quotes: dict[str, tuple[pd.DataFrame, pd.DataFrame]]
    without: dict[str, str]


def compare(connection: Connection, wanted: Wanted) -> Compared:
    """Quote every plan on sale. Of equal totals, the one that is first by its code is first.

    Raises UnknownTenant, and UnknownCode for an addon.
    """
    quotes: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}
    without: dict[str, str] = {}
    for code in sorted({listed[0] for listed in price_list.plan_prices(connection, wanted.month, wanted.tenant)}):
        try:
            quotes[code] = wanted.on(connection, code)
        except (CannotQuote, AmbiguousCode) as error:
            without[code] = str(error)
    by_total = sorted(quotes.items(), key=lambda quote: int(quote[1][0]["total_cents"].iloc[0]))
    return Compared(dict(by_total), without)


def warnings(connection: Connection, wanted: Wanted, plan: str, lines: pd.DataFrame) -> list[str]:
    """What to know beside these lines: where more usage would cost less, and that a commitment counts."""
    found = [
        f"more {kind} would cost less: beyond {plain(bound)} it is {dollars(cents)} in all instead of {dollars(now)},"
        " ex GST"
        for kind, bound, cents, now in _bargains(connection, wanted, plan, lines)
    ]
    if committed := terms.least(connection, wanted.month, wanted.tenant):
        found.append(
            f"the tenant has committed to {dollars(committed)} in the month, ex GST: this counts towards it, and costs"
            " nothing more until all that the tenant has comes to more"
        )
    return found


def _bargains(
    connection: Connection, wanted: Wanted, plan: str, lines: pd.DataFrame
) -> Iterator[tuple[str, Decimal, int, int]]:
    """For each kind that is charged by volume: the bound beyond which it is cheapest, if that is cheaper than now."""
    by_volume = sorted(set(_by_volume(lines)))
    if not by_volume:
        return
    _, tiers = price_list.rates_for(connection, wanted.month, wanted.tenant)
    now = _subtotal(lines)
    for kind, included in by_volume:
        ends = tiers[tiers["resource_kind"] == kind]["up_to"].dropna().unique()  # other plans' too, which does no harm
        bounds = sorted(included + end for end in ends if included + end >= wanted.usage[kind])
        beyond = [(_subtotal(wanted.on(connection, plan, {kind: bound + _LEAST})[1]), bound) for bound in bounds]
        if beyond and min(beyond)[0] < now:
            cents, bound = min(beyond)
            yield kind, bound, cents, now


def _by_volume(lines: pd.DataFrame) -> Iterator[tuple[str, Decimal]]:
    """The kinds that are charged by volume, and what is included of them."""
    for line in lines[lines["kind"] == "overage"].to_dict("records"):
        meta = json.loads(line["meta"])
        if meta.get("model") == "volume":
            yield line["resource_kind"], Decimal(meta["included"])


def _subtotal(lines: pd.DataFrame) -> int:
    return int(lines[lines["kind"] != "tax"]["amount_cents"].sum())
