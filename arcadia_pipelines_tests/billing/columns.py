"""Small months to price: the engine's input rows with defaults, and its results as plain Python values.

A subscription `web` has the id `sub-web`, its deployment the id `id-web` and the name `web`.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from arcadia_pipelines.billing import invoice, models, quote
from arcadia_pipelines.billing.commitments import COMMITMENTS
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.money import Row, Series, frame
from arcadia_pipelines.billing.month import BillingMonth

APRIL = BillingMonth.parse("2026-04")
SINCE = "2026-01-01"
LAWS = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""The same examples on every run, and no stopwatch: a law that fails, fails for what was changed."""
PRICED_LAWS = settings(LAWS, max_examples=6)
"""For laws whose every example prices a month: few, and each of them a crowd, which costs no more than one."""


class Inputs(NamedTuple):
    """What a month is priced from."""

    subscriptions: Sequence[Row] = ()
    addons: Sequence[Row] = ()
    rates: Sequence[Row] = ()
    usage: Sequence[Row] = ()
    tiers: Sequence[Row] = ()

    def quote(self, discounts: Sequence[Row] = (), commitments: Sequence[Row] = ()) -> quote.Quotes:
        """The month's quotes."""
        return quote.quote(
            frame(quote.SUBSCRIPTIONS, list(self.subscriptions)),
            frame(quote.ADDONS, list(self.addons)),
            frame(quote.RATES, list(self.rates)),
            frame(quote.USAGE, list(self.usage)),
            tiers=frame(models.TIERS, list(self.tiers)),
            discounts=frame(DISCOUNTS, list(discounts)),
            commitments=frame(COMMITMENTS, list(commitments)),
        )

    def beside(self, other: "Inputs") -> "Inputs":
        """Both in one month."""
        return Inputs(*([*mine, *theirs] for mine, theirs in zip(self, other, strict=True)))


def _row(schema: pa.Schema, defaults: dict[str, object], given: dict[str, object]) -> Row:
    unknown = given.keys() - set(schema.names)
    assert not unknown, f"no such columns: {unknown}"
    return tuple((defaults | given)[name] for name in schema.names)


def subscription(
    name: str, tenant: str = "pilot", plan: str = "studio", base_price_cents: int | None = 5000, **columns: object
) -> Row:
    """A subscription and its deployment, both of this name."""
    values = {
        "subscription_id": f"sub-{name}",
        "tenant_id": tenant,
        "tenant_exists": True,
        "deployment_id": f"id-{name}",
        "deployment_exists": True,
        "deployment_name": name,
        "overlapping": False,
        "incomplete": False,
        "twice": None,
        "timeless": None,
        "plan_id": f"id-{plan}",
        "plan": plan,
        "base_price_cents": base_price_cents,
        "effective_from": SINCE,
        "own_price": False,
        "daily": False,
        "first_day": 1,
        "last_day": 30,
        "days_in_month": 30,
    }
    return _row(quote.SUBSCRIPTIONS, values, columns)


def addon(
    name: str, addon: str = "storage_50gb", price_cents: int | None = 750, quantity: int = 1, **columns: object
) -> Row:
    """An addon of the subscription of this name."""
    values = {
        "subscription_addon_id": f"{name}/{addon}",
        "subscription_id": f"sub-{name}",
        "incomplete": False,
        "twice": None,
        "addon": addon,
        "quantity": quantity,
        "price_cents": price_cents,
        "effective_from": SINCE,
        "own_price": False,
        "first_day": 1,
        "last_day": 30,
    }
    return _row(quote.ADDONS, values, columns)


def rate(
    resource_kind: str = "droplet_hours",
    included: str | Decimal = "1488",
    unit_price_cents: str | Decimal = "1",
    plan: str = "studio",
    **columns: object,
) -> Row:
    """A rate: the allowance in hours, and cents an hour beyond it."""
    values: dict[str, object] = {
        "tenant_id": None,
        "plan_id": f"id-{plan}",
        "resource_kind": resource_kind,
        "twice": False,
        "included": Decimal(included),
        "unit": "hour",
        "unit_price_cents": Decimal(unit_price_cents),
        "effective_from": SINCE,
        "charge_model": "per_unit",
        "package_size": None,
        "maximum_cents": None,
        "pooled": False,
        "wrong": None,
    }
    return _row(quote.RATES, values, columns)


def tiers(
    *bounds: tuple[int | None, str, int], resource_kind: str = "droplet_hours", plan: str = "studio"
) -> list[Row]:
    """The tiers of a rate in order: up to how many (None: no bound), cents a unit, and cents once."""
    lowers = [0, *(up_to for up_to, _, _ in bounds[:-1])]
    return [
        (None, f"id-{plan}", resource_kind, number, Decimal(lower or 0), up_to and Decimal(up_to), Decimal(price), flat)
        for number, (lower, (up_to, price, flat)) in enumerate(zip(lowers, bounds, strict=True), 1)
    ]


def use(name: str, quantity: str | Decimal, resource_kind: str = "droplet_hours", **columns: object) -> Row:
    """Usage of the deployment of this name, under its subscription."""
    values = {
        "deployment_id": f"id-{name}",
        "subscription_id": f"sub-{name}",
        "resource_kind": resource_kind,
        "quantity": Decimal(quantity),
        "unusable_records": 0,
        "duplicate_records": 0,
    }
    return _row(quote.USAGE, values, columns)


def discount(
    number: str = "1",
    percent: str | None = None,
    amount_cents: int | None = None,
    tenant: str = "pilot",
    **columns: object,
) -> Row:
    """A discount of the tenant's, on all of its charges unless told otherwise."""
    values: dict[str, object] = {
        "id": number,
        "tenant_id": tenant,
        "deployment_id": None,
        "line_kind": None,
        "resource_kind": None,
        "percent": percent and Decimal(percent),
        "amount_cents": amount_cents,
        "starts_on": SINCE,
        "description": f"offer {number}",
        "wrong": None,
    }
    return _row(DISCOUNTS, values, columns)


def commitment(minimum_cents: int | None, name: str | None = None, tenant: str = "pilot", **columns: object) -> Row:
    """A commitment for the deployment of this name, or for the tenant as a whole."""
    values: dict[str, object] = {
        "id": f"min-{name or tenant}",
        "tenant_id": tenant,
        "deployment_id": name and f"id-{name}",
        "minimum_cents": minimum_cents,
        "overlapping": False,
        "wrong": None,
    }
    return _row(COMMITMENTS, values, columns)


PILOT = Inputs([subscription("web")], [addon("web")], [rate()], [use("web", "2160")])
"""The worked example of the design: 50.00 + 7.50 + 6.72 = 64.22, GST 6.42, total 70.64."""
PILOT_LINES = [("Plan: studio", 5000), ("Addon: storage_50gb", 750), ("Overage: droplet_hours", 672)]


def tenants(*ids: str, gst_free: str | None = None) -> pd.DataFrame:
    """Tenants of these ids; with a reason, their supplies are GST-free."""
    return frame(invoice.TENANTS, [(tenant, gst_free, f'{{"tenant_name": "{tenant}"}}') for tenant in ids])


def rows(data: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The rows in order, with these columns or all; null is None."""
    table = pa.Table.from_pandas(data[list(columns or data.columns)], preserve_index=False)
    return [tuple(row.values()) for row in table.to_pylist()]


def values(column: Series) -> list[Any]:
    """The column's values in order; null is None."""
    return [value for (value,) in rows(column.to_frame("value"))]


def bill(lines: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What each line says and costs."""
    return rows(lines, "description", "amount_cents")


KINDS = ["cpu", "gb", "hours"]
TENANTS = ["t0", "t1", "t2", "t3", "t4"]
quantities = st.sampled_from(["0", "0.000001", "1.5", "10", "10.000001", "744"]).map(Decimal) | st.decimals(
    0, 10**8, places=6
)
prices = st.sampled_from(["0", "0.5", "0.744", "1"]).map(Decimal) | st.decimals(0, 10**4, places=8)
cents = st.integers(0, 10**6)


@st.composite
def months(draw: st.DrawFn, most: int = 12, faulty: bool = True) -> Inputs:
    """A month of at most this many subscriptions, two plans and three kinds; up to two tenants may be at fault."""
    at_fault = draw(st.sets(st.sampled_from(TENANTS), max_size=2)) if faulty else set()
    subscriptions, addons, rates, usage = list[Row](), list[Row](), list[Row](), list[Row]()
    for plan in ("small", "large"):
        for kind in draw(st.sets(st.sampled_from(KINDS))):
            rates.append(rate(kind, draw(quantities), draw(prices), plan))
    for number in range(draw(st.integers(1, most))):
        tenant, deployment = draw(st.sampled_from(TENANTS)), f"d{draw(st.integers(0, 6))}"
        plan = draw(st.sampled_from(["small", "large"]))
        of = {"subscription_id": f"s{number:02}"}
        base = draw(st.sampled_from([None, -1, 10**10, 5000]) if tenant in at_fault else cents)
        subscriptions.append(subscription(deployment, tenant, plan, base, **of))
        for code in draw(st.lists(st.sampled_from("xy"), max_size=2)):
            columns = of | {"subscription_addon_id": f"a{len(addons):02}"}
            addons.append(addon(deployment, code, draw(cents), draw(st.integers(0, 3)), **columns))
        for kind in draw(st.lists(st.sampled_from(KINDS), max_size=4)):
            copies = draw(st.integers(0, 1)) if tenant in at_fault else 0
            usage.append(use(deployment, draw(quantities), kind, duplicate_records=copies, **of))
    for subscription_id in draw(st.lists(st.sampled_from([None, "elsewhere"]), max_size=3)):
        usage.append(use("d0", draw(quantities), draw(st.sampled_from(KINDS)), subscription_id=subscription_id))
    return Inputs(subscriptions, addons, rates, usage)
