"""Pooled allowances: what all of a tenant's subscriptions use beyond what all of them include, and who pays for it."""

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from arcadia_pipelines.billing.shares import share_out
from arcadia_pipelines_tests.billing.columns import LAWS, Inputs, rate, subscription, use

GB = rate("egress_gb", "1000", "5", unit="GB", pooled=True)
Billed = dict[str, tuple[Decimal, int]]


def overage(month: Inputs) -> Billed:
    """Each deployment's billed quantity and cents."""
    quoted = month.quote()
    assert quoted.faults.empty, quoted.faults["detail"].tolist()
    over = quoted.lines[quoted.lines["kind"] == "overage"]
    columns = over[["deployment_name", "qty", "amount_cents"]].astype(object)
    return {name: (qty, cents) for name, qty, cents in columns.itertuples(index=False, name=None)}


def three(**used: str) -> Inputs:
    """Three subscriptions a, b and c of one tenant, each with 1,000 GB included and 5 c beyond."""
    subscriptions = [subscription(name) for name in ("a", "b", "c")]
    return Inputs(
        subscriptions, rates=[GB], usage=[use(name, quantity, "egress_gb") for name, quantity in used.items()]
    )


def test_what_others_leave_covers_who_uses_more() -> None:
    """1,500 + 700 + 800 is what the three include together."""
    assert overage(three(a="1500", b="700", c="800")) == {}


def test_the_excess_of_the_pool_is_shared_by_what_each_used_beyond_its_own() -> None:
    """2,500 + 1,500 + 100 = 4,100 is 1,100 beyond 3,000: 1,500 and 500 over, so 825 and 275, at 5 c."""
    assert overage(three(a="2500", b="1500", c="100")) == {"a": (Decimal(825), 4125), "b": (Decimal(275), 1375)}


def test_a_subscription_that_used_nothing_brings_its_allowance() -> None:
    """3,400 of one is 400 beyond 3,000, though the other two have no usage at all."""
    assert overage(three(a="3400")) == {"a": (Decimal(400), 2000)}


def test_equal_remainders_go_by_subscription() -> None:
    """0.000001 beyond, of two that used as much: the first by id pays it. Of 0.000002 each pays one."""
    both = {"a": "1500.000001", "b": "1500.000000", "c": "0"}
    assert overage(three(**both)) == {"a": (Decimal("0.000001"), 0)}
    assert overage(three(a="1500.000001", b="1500.000001", c="0")) == {
        "a": (Decimal("0.000001"), 0),
        "b": (Decimal("0.000001"), 0),
    }
    assert overage(three(a="1000.5", b="1000.5", c="999.000001")) == {"a": (Decimal("0.000001"), 0)}


def test_the_line_says_what_was_used_included_and_covered_by_the_pool() -> None:
    lines = three(a="2500", b="1500", c="100").quote().lines
    meta = json.loads(lines[lines["kind"] == "overage"]["meta"].iloc[0])
    assert meta == {
        "used": "2500.000000",
        "included": "1000.000000",
        "pooled": "675.000000",
        "effective_from": "2026-01-01",
    }


def test_each_part_is_billed_at_its_own_rate() -> None:
    """Of 300 beyond 1,500: 600 and 300 over are 200 at 5 c and 100 at 2 c."""
    month = Inputs(
        [subscription("a"), subscription("b", plan="small")],
        rates=[GB, rate("egress_gb", "500", "2", plan="small", unit="GB", pooled=True)],
        usage=[use("a", "1200", "egress_gb"), use("b", "600", "egress_gb")],
    )
    assert overage(month) == {"a": (Decimal(200), 1000), "b": (Decimal(100), 200)}


def test_a_tenants_own_rate_that_is_not_pooled_is_outside_the_pool() -> None:
    """The list pools; nova's own rate does not: 1,200 of a are 200 beyond, whatever b leaves."""
    own = rate("egress_gb", "1000", "5", unit="GB", tenant_id="pilot")
    month = Inputs([subscription("a"), subscription("b")], rates=[GB, own], usage=[use("a", "1200", "egress_gb")])
    assert overage(month) == {"a": (Decimal(200), 1000)}


def test_each_tenant_has_its_own_pool() -> None:
    month = Inputs(
        [subscription("a"), subscription("b", "nova")],
        rates=[GB],
        usage=[use("a", "1100", "egress_gb"), use("b", "900", "egress_gb")],
    )
    assert overage(month) == {"a": (Decimal(100), 500)}


def test_each_kind_has_its_own_pool() -> None:
    """1,100 of egress are 100 beyond 1,000 at 5 c, whatever is left of 500 disks, of which 510 are 10 beyond at 7 c."""
    month = Inputs(
        [subscription("a"), subscription("b")],
        rates=[
            rate("egress_gb", "500", "5", unit="GB", pooled=True),
            rate("disk_gb", "250", "7", unit="GB", pooled=True),
        ],
        usage=[use("a", "1100", "egress_gb"), use("b", "510", "disk_gb")],
    )
    assert overage(month) == {"a": (Decimal(100), 500), "b": (Decimal(10), 70)}


def test_a_part_month_brings_a_part_of_its_allowance() -> None:
    """15 of 30 days bring 500: 1,600 are 100 beyond 1,500."""
    days: dict[str, Any] = {"daily": True, "first_day": 16}
    month = Inputs([subscription("a"), subscription("b", **days)], rates=[GB], usage=[use("a", "1600", "egress_gb")])
    assert overage(month) == {"a": (Decimal(100), 500)}


def test_only_so_much_a_unit_can_be_pooled() -> None:
    month = three(a="10")._replace(rates=[rate("egress_gb", pooled=True, charge_model="package", package_size=10)])
    found = month.quote().faults
    assert found["fault"].tolist() == ["pooled_tiers"] * 3
    assert found["detail"].iloc[0] == (
        "the rate of plan studio for egress_gb since 2026-01-01 is pooled and package: only per_unit can be pooled, so "
        "correct plan_rates"
    )


def test_unused_allowances_are_no_unbilled_usage_of_a_tenant_that_is_held_back() -> None:
    month = three(a="10")._replace(rates=[rate("egress_gb", pooled=True, charge_model="volume")])
    assert month.quote().unbilled[["deployment_id", "quantity"]].values.tolist() == [["id-a", Decimal(10)]]


weights = st.lists(st.integers(0, 10**18), min_size=1, max_size=8)


@LAWS
@given(total=st.integers(0, 10**23), of=weights)
@example(total=5, of=[1, 0])
def test_shares_sum_to_the_whole_and_none_is_off_by_one(total: int, of: list[int]) -> None:
    """Each is what it is due, rounded down, or one more; whatever order the rows come in."""
    places = list(range(len(of)))

    def shared(order: list[int]) -> dict[int, int]:
        columns = [[total] * len(of), [of[place] for place in order], [0] * len(of), order]
        types = pa.decimal128(24, 0), pa.decimal128(19, 0), pa.int64(), pa.int64()
        parts = share_out(*(pa.chunked_array([pa.array(c, t)]) for c, t in zip(columns, types, strict=True)))
        return {place: int(part) for place, part in zip(order, parts.to_pylist(), strict=True)}

    parts = shared(places)
    assert sum(parts.values()) == (total if sum(of) else 0)
    assert all(0 <= parts[place] - total * of[place] // max(sum(of), 1) <= 1 for place in places)
    assert shared(places[::-1]) == parts


def test_a_rate_that_is_pooled_for_another_tenant_is_no_fault_of_who_does_not_use_it() -> None:
    """Nova pools a kind whose rate in the list is there twice; the pilot uses that kind on another plan."""
    own = rate("egress_gb", "0", "5", unit="GB", pooled=True, tenant_id="nova")
    listed = rate("egress_gb", "0", "5", unit="GB", twice=True)
    other = rate("egress_gb", "10", "5", plan="other", unit="GB")
    subscriptions = [subscription("idle"), subscription("web", plan="other")]
    month = Inputs(subscriptions, rates=[own, listed, other], usage=[use("web", "12", "egress_gb")])
    assert overage(month) == {"web": (Decimal(2), 10)}
