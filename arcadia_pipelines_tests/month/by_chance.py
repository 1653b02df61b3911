"""Small worlds by chance, each from a seed: whatever a price can be, for a dozen tenants in one month.

Belongs here: rows for the platform's tables that are valid, and as odd as they may be. Does not: what they cost.
"""

import datetime as dt
import random
from decimal import Decimal
from typing import Any

from arcadia_pipelines_tests.world import World
from chaos.oracle import after
from chaos.platform import new_id

MONTHS = ("2026-02", "2026-04", "2026-05", "2026-10")
KINDS = {"calls": "call", "droplet_hours": "hour", "egress_gb": "GB", "gb": "GB"}
POOLED = "calls"
PRICES = ("0", "0.00000001", "0.5", "0.744", "1", "2.5", "33.33333333", "150")
CENTS = (0, 1, 2, 7, 33, 49, 50, 99, 100, 101, 750, 995, 4900, 5000)
QUANTITIES = ("0", "0.000001", "0.5", "1", "2", "3.333333", "7", "10", "99.5", "100", "100.000001", "333", "1000")


class Chance:
    """Fills a world's tables for one month."""

    def __init__(self, world: World, seed: int, month: str) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.month = dt.date.fromisoformat(f"{month}-01")
        self.plans: dict[str, str] = {}
        self.addons: dict[str, str] = {}
        self.rates: list[tuple[str, str]] = []
        self.deployments: dict[str, list[str]] = {}

    def fill(self, tenants: int = 12) -> None:
        """A price list, tenants with their own prices, deployments, usage, discounts and commitments."""
        self._price_list()
        for number in range(tenants):
            tenant = f"tenant-{number:02}"
            self._add("tenants", id=tenant, name=tenant, gst_free_reason=self._some(0.15, "charity"))
            self.deployments[tenant] = []
        for tenant in self.deployments:
            for letter in "abc"[: self.rng.randint(1, 3)]:
                self._deployment(tenant, f"{tenant}/{letter}")
        for tenant in self.deployments:
            self._own_prices(tenant)
            self._discounts(tenant)
            self._commitments(tenant)

    def _add(self, table: str, **row: Any) -> None:
        names = ", ".join(row)
        values = ", ".join(["%s"] * len(row))
        self.world.query(f"insert into cloud.{table} ({names}) values ({values})", *row.values())

    def _id(self) -> str:
        return new_id(self.rng)

    def _some(self, chance: float, value: Any) -> Any:
        """It, or None."""
        return value if self.rng.random() < chance else None

    def _since(self) -> dt.date:
        """A month before, this one, or the next one."""
        return self.rng.choice([dt.date(2025, 7, 1), dt.date(2026, 1, 1), self.month, after(self.month)])

    def _price_list(self) -> None:
        for number in range(5):
            plan, code = self._id(), f"plan_{number}"
            self.plans[code] = plan
            self._add("plans", id=plan, code=code, name=code, proration=self.rng.choice(["none", "daily", "daily"]))
            for since in {dt.date(2025, 1, 1), self._since()}:
                price = self.rng.choice(CENTS)
                self._add("plan_prices", plan_id=plan, effective_from=since, base_price_cents=price)
            for kind in self.rng.sample(list(KINDS), self.rng.randint(2, 4)):
                self.rates.append((plan, kind))
                for since in {dt.date(2025, 1, 1), self._since()}:
                    self._rate("plan", plan, kind, since)
        for number in range(3):
            addon, code = self._id(), f"addon_{number}"
            self.addons[code] = addon
            self._add("addons", id=addon, code=code, name=code)
            for since in {dt.date(2025, 1, 1), self._since()}:
                self._add("addon_prices", addon_id=addon, effective_from=since, price_cents=self.rng.choice(CENTS))

    def _rate(self, whose: str, plan: str, kind: str, since: dt.date, **more: Any) -> None:
        rng = self.rng
        models = ["per_unit"] * 30 + ["package"] if kind == POOLED else ["per_unit", "package", "graduated", "volume"]
        model = rng.choice(models)
        key = {"plan_id": plan, "resource_kind": kind, "effective_from": since}
        row = {
            "included_quantity": rng.choice(QUANTITIES[:9]),
            "unit": KINDS[kind],
            "unit_price_cents": rng.choice(PRICES),
            "charge_model": model,
            "package_size": rng.choice(["0.5", "1", "7", "10", "33.5"]) if model == "package" else None,
            "maximum_cents": self._some(0.2, rng.choice([0, 1, 50, 500])),
            "pooled": kind == POOLED and rng.random() < 0.8,
        }
        self._add(f"{whose}_rates", **key, **{**row, **more})
        if model in ("graduated", "volume"):
            bounds = sorted(rng.sample(QUANTITIES[2:], rng.randint(0, 3)), key=Decimal)
            for up_to in (*bounds, None):
                flat = rng.choice([0, 0, 1, 50, 100])
                price = rng.choice(PRICES)
                self._add(f"{whose}_rate_tiers", **key, up_to=up_to, unit_price_cents=price, flat_cents=flat,
                          **{name: value for name, value in more.items() if name == "tenant_id"})  # fmt: skip

    def _instant(self, begin: dt.datetime) -> dt.datetime:
        """At or after an instant, within 20 days: midnight, noon, a microsecond before midnight, or any second."""
        day = (begin + dt.timedelta(days=self.rng.choice([0, 0, 1, 2, 5, 10, 20]))).replace(hour=0, minute=0, second=0)
        day = day.replace(microsecond=0)
        parts = [0, 12 * 3600 * 10**6, 24 * 3600 * 10**6 - 1, self.rng.randrange(24 * 3600) * 10**6]
        return max(begin, day + dt.timedelta(microseconds=self.rng.choice(parts)))

    def _deployment(self, tenant: str, name: str) -> None:
        rng, start = self.rng, dt.datetime.combine(self.month, dt.time(), dt.UTC)
        deployment = self._id()
        self._add("cloud_deployments", id=deployment, tenant_id=tenant, name=name)
        begin = rng.choice([start - dt.timedelta(days=40), start - dt.timedelta(days=5), start, self._instant(start)])
        instants = [begin]
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
            end = self._instant(begin)
            whose = tenant if rng.random() < 0.7 else rng.choice(list(self.deployments))
            instants += self._subscription(whose, deployment, begin, end)
            begin = end if rng.random() < 0.7 else self._instant(end)
        end_or_none = self._some(0.3, self._instant(begin + dt.timedelta(days=1)))
        instants += self._subscription(tenant, deployment, begin, end_or_none)
        for kind in KINDS:
            for _ in range(rng.choice([0, 1, 1, 3])):
                at = rng.choice([*instants, self._instant(start), self._instant(max(start, begin))])
                quantity = rng.choice([*QUANTITIES, Decimal(rng.randrange(500_000_000)).scaleb(-6)])
                row = {"id": self._id(), "deployment_id": deployment, "resource_kind": kind, "quantity": quantity}
                self._add("usage_records", **row, recorded_at=at, ingested_at=at)

    def _subscription(
        self, tenant: str, deployment: str, begin: dt.datetime, end: dt.datetime | None
    ) -> list[dt.datetime]:
        """Its instants at which something happens."""
        rng, subscription = self.rng, self._id()
        self.deployments[tenant].append(deployment)
        status = rng.choice(["active"] * 10 + ["suspended", "cancelled", "pending"])
        of = {"tenant_id": tenant, "deployment_id": deployment, "plan_id": rng.choice(list(self.plans.values()))}
        self._add("subscriptions", id=subscription, **of, status=status, started_at=begin, ended_at=end)
        for addon in rng.sample(list(self.addons.values()), rng.choice([0, 1, 1, 2])):
            since = rng.choice([begin, begin - dt.timedelta(days=3), self._instant(begin)])
            for _ in range(rng.choice([1, 1, 2, 3])):  # its quantity changes
                until = self._some(0.5, self._instant(since))
                row = {"id": self._id(), "subscription_id": subscription, "addon_id": addon}
                quantity = rng.choice([0, 1, 1, 2, 3])
                self._add("subscription_addons", **row, quantity=quantity, started_at=since, ended_at=until)
                if until is None:
                    break
                since = until
        return [begin, *([end - dt.timedelta(microseconds=1), end] if end and end > begin else [])]

    def _own_prices(self, tenant: str) -> None:
        rng = self.rng
        for plan in self.plans.values():
            for since in {self._since() for _ in range(rng.choice([0, 0, 0, 1, 2]))}:
                of = {"tenant_id": tenant, "plan_id": plan, "effective_from": since}
                self._add("tenant_plan_prices", **of, base_price_cents=self._some(0.7, rng.choice(CENTS)))
        for addon in self.addons.values():
            for since in {self._since() for _ in range(rng.choice([0, 0, 0, 1, 2]))}:
                of = {"tenant_id": tenant, "addon_id": addon, "effective_from": since}
                self._add("tenant_addon_prices", **of, price_cents=self._some(0.7, rng.choice(CENTS)))
        for plan in self.plans.values():
            for kind in KINDS:  # also such as the list has no rate for
                for since in {self._since() for _ in range(rng.choice([0, 0, 0, 0, 1, 2]))}:
                    if rng.random() < 0.7:
                        self._rate("tenant", plan, kind, since, tenant_id=tenant)
                        continue
                    of = {"tenant_id": tenant, "plan_id": plan, "resource_kind": kind, "effective_from": since}
                    self._add("tenant_rates", **of, included_quantity=rng.choice(QUANTITIES), unit="any")

    def _discounts(self, tenant: str) -> None:
        rng = self.rng
        for number in range(rng.choice([0, 0, 1, 2, 3, 5])):
            percent = rng.choice(["0", "0.0001", "5", "10.0001", "33.3333", "50", "60", "99.9999", "100"])
            is_percent = rng.random() < 0.5
            self._add(
                "discounts",
                id=self._id(),
                tenant_id=tenant,
                deployment_id=self._some(0.3, rng.choice(self.deployments[tenant])),
                line_kind=self._some(0.4, rng.choice(["plan_base", "addon", "overage"])),
                resource_kind=self._some(0.2, rng.choice(list(KINDS))),
                percent=percent if is_percent else None,
                amount_cents=None if is_percent else rng.choice([0, 1, 2, 7, 50, 999, 10_000]),
                starts_on=self._since(),
                ends_on=self._some(0.2, after(after(self.month))),
                description=f"number {number}",
            )

    def _commitments(self, tenant: str) -> None:
        rng = self.rng
        scopes = [*dict.fromkeys(self.deployments[tenant]), None]
        scopes = rng.sample(scopes, rng.choice([0, 0, 1, min(2, len(scopes)), len(scopes)]))
        for deployment in scopes + ([scopes[0]] if scopes and rng.random() < 0.05 else []):
            of = {"id": self._id(), "tenant_id": tenant, "deployment_id": deployment}
            minimum = rng.choice([0, 1, 101, 5000, 9999, 1_000_000])
            self._add("commitments", **of, minimum_cents=minimum, starts_on=self._since())

    def credit(self) -> None:
        """What operators enter for the months around this one, and promotional credit."""
        before, later = (self.month - dt.timedelta(days=1)).replace(day=1), after(self.month)
        expiries = [None, before, self.month, self.month + dt.timedelta(days=1), later + dt.timedelta(days=9)]
        for tenant in self.deployments:
            for number, expires in enumerate(self.rng.sample(expiries, self.rng.choice([0, 1, 1, 2, 3]))):
                cents = self.rng.choice([1, 99, 5000, 5001, 20_000, 10_000_000])
                self._enter("credit_grants", tenant, cents, f"grant {number}", expires_on=expires)
            for number in range(self.rng.choice([0, 0, 1, 2, 3])):
                self._enter_line(tenant, f"line {number}", self.rng.choice([before, self.month, later]))

    def late(self, month: str) -> None:
        """Usage and lines that operators enter, for a month that has been invoiced."""
        day = dt.date.fromisoformat(f"{month}-01")
        start = dt.datetime.combine(day, dt.time(), dt.UTC)
        for tenant, deployments in self.deployments.items():
            if self.rng.random() < 0.5:
                self._enter_line(tenant, "late line", day)
            for deployment in dict.fromkeys(deployments):
                row = {"id": self._id(), "deployment_id": deployment, "resource_kind": self.rng.choice(list(KINDS))}
                at = self._instant(start)
                self._add("usage_records", **row, quantity=self.rng.choice(QUANTITIES), recorded_at=at, ingested_at=at)

    def _enter_line(self, tenant: str, description: str, month: dt.date) -> None:
        cents = self.rng.choice([-10_000_000, -5000, -15, -5, -1, 1, 4, 5, 5000])
        self._enter("manual_lines", tenant, cents, description, period_start=month)

    def _enter(self, table: str, tenant: str, cents: int, description: str, **more: Any) -> None:
        row = {"tenant_id": tenant, "amount_cents": cents, "description": description, **more}
        row |= {"id": self._id(), "operator": "ada", "reason": "by chance"}
        names, values = ", ".join(row), ", ".join(["%s"] * len(row))
        self.world.query(f"insert into billing.{table} ({names}) values ({values})", *row.values())
