"""The quote engine: what a deployment costs, what is left unbilled, and who cannot be quoted."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing import faults as rules
from arcadia_pipelines.billing import quote
from arcadia_pipelines.billing.money import Row, frame, to_arrow
from arcadia_pipelines_tests.billing.columns import (
    PILOT,
    PILOT_LINES,
    PRICED_LAWS,
    Inputs,
    addon,
    bill,
    months,
    rate,
    rows,
    subscription,
    use,
)

Columns = dict[str, Any]


def overage(used: str, included: str, price: str) -> list[tuple[Any, ...]]:
    """Quantity and amount of the overage lines of one deployment with one rate."""
    quotes = Inputs([subscription("web")], [], [rate("gb", included, price)], [use("web", used, "gb")]).quote()
    assert not len(quotes.faults)
    assert not len(quotes.unbilled)
    return rows(quotes.lines[quotes.lines["kind"] == "overage"], "qty", "amount_cents")


def faults(quotes: quote.Quotes) -> list[tuple[Any, ...]]:
    """Who cannot be quoted, and by which rule."""
    return rows(quotes.faults, "tenant_id", "fault")


def everything(quotes: quote.Quotes) -> list[list[tuple[Any, ...]]]:
    """All that quote() returned."""
    return [rows(quotes.lines), rows(quotes.unbilled), rows(quotes.faults)]


# What a deployment costs


def test_the_pilot_costs_what_the_design_says() -> None:
    """50.00 for the plan, 7.50 for the addon, 2160 - 1488 = 672 hours at 1 c = 6.72; nothing is left over."""
    quotes = PILOT.quote()
    assert bill(quotes.lines) == PILOT_LINES
    assert everything(quotes)[1:] == [[], []]


def test_a_line_says_whose_it_is_what_it_bills_and_why() -> None:
    """Each of the pilot's three lines, whole: the overage explains its 672 hours by 2160 used and 1488 included."""
    since = '{"effective_from": "2026-01-01"}'
    why = '{"used": "2160.000000", "included": "1488.000000", "effective_from": "2026-01-01"}'
    one, hours = Decimal(1), Decimal(672)
    whose = ("sub-web", "id-web", "pilot")
    assert rows(PILOT.quote().lines) == [
        (*whose, 1, "plan_base", None, "Plan: studio", one, "month", 5000, one, 5000, "web", since),
        (*whose, 2, "addon", None, "Addon: storage_50gb", one, "month", 750, one, 750, "web", since),
        (*whose, 3, "overage", "droplet_hours", "Overage: droplet_hours", hours, "hour", 1, one, 672, "web", why),
    ]


def test_a_line_carries_the_date_of_its_own_price() -> None:
    """Plan since January, addon since February, rate since March: three prices, three dates, and the rate's unit."""
    quotes = Inputs(
        [subscription("web", effective_from="2026-01-01")],
        [addon("web", effective_from="2026-02-01")],
        [rate("requests", "0", effective_from="2026-03-01", unit="million")],
        [use("web", "0.000001", "requests")],
    ).quote()
    assert rows(quotes.lines, "unit", "meta") == [
        ("month", '{"effective_from": "2026-01-01"}'),
        ("month", '{"effective_from": "2026-02-01"}'),
        ("million", '{"used": "0.000001", "included": "0.000000", "effective_from": "2026-03-01"}'),
    ]


@pytest.mark.parametrize(
    ("quantity", "price", "amount"),
    [
        pytest.param("2161", "0.744", 1608, id="1607.784"),
        pytest.param("744", "0.744", 554, id="553.536"),
        pytest.param("62.5", "0.744", 47, id="46.5"),
        pytest.param("1", "0.5", 1, id="0.5"),
        pytest.param("5", "0.5", 3, id="2.5"),
        pytest.param("10.9", "0.045", 0, id="0.4905, which is not rounded to 0.5 on its way"),
        pytest.param("49999999.999999", "0.00000001", 0, id="0.49999999999999"),
        pytest.param("50000000", "0.00000001", 1, id="0.50000000"),
        pytest.param("0.000001", "499999", 0, id="0.499999"),
        pytest.param("0.000001", "500000", 1, id="0.500000"),
        pytest.param("1000", "0", 0, id="free of charge"),
    ],
)
def test_an_amount_is_quantity_times_price_rounded_once(quantity: str, price: str, amount: int) -> None:
    """2161 h at 0.744 c: 2000 h are 1488 c, 161 h are 119.784 c, together 1607.784, so 16.08."""
    assert overage(quantity, "0", price) == [(Decimal(quantity), amount)]


@pytest.mark.parametrize(
    ("used", "lines"),
    [
        pytest.param("0", [], id="nothing"),
        pytest.param("1487.999999", [], id="a millionth below"),
        pytest.param("1488", [], id="exactly"),
        pytest.param("1488.000001", [(Decimal("0.000001"), 0)], id="a millionth above"),
        pytest.param("1488.5", [(Decimal("0.5"), 1)], id="half an hour above"),
        pytest.param("2160", [(Decimal(672), 672)], id="three droplets in April"),
    ],
)
def test_usage_within_the_allowance_makes_no_line(used: str, lines: list[tuple[Decimal, int]]) -> None:
    """1488 of 1488 hours are included; a millionth more is a line, even one of 0 cents."""
    assert overage(used, "1488", "1") == lines


def test_an_allowance_is_per_subscription_never_pooled() -> None:
    """1500 and 1000 hours with 1488 each: 12 hours beyond, though together they are below 2976."""
    quotes = Inputs(
        [subscription("web"), subscription("db")], [], [rate()], [use("web", "1500"), use("db", "1000")]
    ).quote()
    assert rows(quotes.lines, "deployment_name", "description", "qty") == [
        ("db", "Plan: studio", 1),
        ("web", "Plan: studio", 1),
        ("web", "Overage: droplet_hours", 12),
    ]


def test_two_subscriptions_of_a_deployment_have_an_allowance_each() -> None:
    """The deployment changed hands mid-month: 1500 and 1400 hours with 1488 each are 12 hours beyond, on the first."""
    quotes = Inputs(
        [subscription("web", subscription_id="first"), subscription("web", subscription_id="second")],
        [],
        [rate()],
        [use("web", "1500", subscription_id="first"), use("web", "1400", subscription_id="second")],
    ).quote()
    assert rows(quotes.lines, "subscription_id", "line_no", "kind", "qty") == [
        ("first", 1, "plan_base", 1),
        ("first", 2, "overage", 12),
        ("second", 1, "plan_base", 1),
    ]


def test_an_allowance_of_one_kind_does_not_cover_another() -> None:
    """10 of 100 GB leave 90 GB unused, and the 5 hours beyond 20 are charged all the same: 5 x 2 c."""
    quotes = Inputs(
        [subscription("web")],
        [],
        [rate("gb", "100", "3"), rate("hours", "20", "2")],
        [use("web", "10", "gb"), use("web", "25", "hours")],
    ).quote()
    assert bill(quotes.lines) == [("Plan: studio", 5000), ("Overage: hours", 10)]


def test_rows_of_one_deployment_subscription_and_kind_are_summed() -> None:
    """Three droplets of 720 hours are 2160, not three times 720, which would be within the allowance each."""
    quotes = PILOT._replace(usage=[use("web", "720")] * 3).quote()
    assert bill(quotes.lines) == PILOT_LINES


def test_usage_sums_to_the_last_of_its_18_digits() -> None:
    """999999999998.999999 + 0.000001 + 0.999999 = 999999999999.999999, where a binary float says 1e12; less 1488."""
    parts = ["999999999998.999999", "0.000001", "0.999999"]
    quotes = PILOT._replace(usage=[use("web", part) for part in parts]).quote()
    assert rows(quotes.lines, "qty")[-1] == (Decimal("999999998511.999999"),)


@pytest.mark.parametrize(
    ("quantity", "price", "amount"),
    [(1, 750, 750), (3, 750, 2250), (2, 0, 0), (0, 750, 0), (2147483647, 1, 2147483647)],
    ids=["one", "three", "free", "none", "the most"],
)
def test_an_addon_costs_its_price_times_its_quantity(quantity: int, price: int, amount: int) -> None:
    """3 x 7.50 = 22.50; an addon at no price, or of no quantity, is a line at 0."""
    lines = PILOT._replace(addons=[addon("web", price_cents=price, quantity=quantity)], usage=[]).quote().lines
    assert rows(lines, "kind", "qty", "unit_price_cents", "amount_cents")[1:] == [("addon", quantity, price, amount)]


def test_a_base_price_of_zero_still_makes_a_line() -> None:
    """A free plan is billed at 0.00, so that its tenant has an invoice."""
    quotes = Inputs([subscription("web", base_price_cents=0)]).quote()
    assert bill(quotes.lines) == [("Plan: studio", 0)]
    assert faults(quotes) == []


def test_lines_of_a_subscription_are_its_plan_then_addons_then_overages_by_name() -> None:
    """Addons a, b, b go by code, then id (quantities 1, 2, 3); overages by kind; the numbers run from 1."""
    month = Inputs(
        [subscription("web")],
        [
            addon("web", "b", quantity=3, subscription_addon_id="2"),
            addon("web", "b", quantity=2, subscription_addon_id="1"),
            addon("web", "a", quantity=1, subscription_addon_id="9"),
        ],
        [rate("gb", "0"), rate("cpu", "0")],
        [use("web", "5", "gb"), use("web", "4", "cpu")],
    )
    expected = [
        (1, "Plan: studio", 1),
        (2, "Addon: a", 1),
        (3, "Addon: b", 2),
        (4, "Addon: b", 3),
        (5, "Overage: cpu", 4),
        (6, "Overage: gb", 5),
    ]
    assert rows(month.quote().lines, "line_no", "description", "qty") == expected
    backwards = Inputs(*(tuple(reversed(part)) for part in month))
    assert rows(backwards.quote().lines, "line_no", "description", "qty") == expected


def test_subscriptions_come_in_order_of_their_ids_and_each_counts_from_one() -> None:
    """Given as c, a, b: a has lines 1 and 2, b has line 1, c has lines 1 and 2."""
    month = Inputs(
        [subscription(name) for name in "cab"], [addon("c"), addon("a")], [rate("gb", "1488")], [use("b", "5", "gb")]
    )
    assert rows(month.quote().lines, "subscription_id", "line_no") == [
        ("sub-a", 1),
        ("sub-a", 2),
        ("sub-b", 1),
        ("sub-c", 1),
        ("sub-c", 2),
    ]


def test_each_subscription_pays_the_prices_of_its_own_plan() -> None:
    """10 hours on small are 10 x 2 c beyond 0; on large they are within 100; large has no rate for small's GB."""
    quotes = Inputs(
        [subscription("a", plan="small", base_price_cents=100), subscription("b", plan="large", base_price_cents=900)],
        [],
        [rate("hours", "0", "2", plan="small"), rate("hours", "100", "5", plan="large"), rate("gb", "0", plan="small")],
        [use("a", "10", "hours"), use("b", "10", "hours"), use("b", "7", "gb")],
    ).quote()
    assert bill(quotes.lines) == [("Plan: small", 100), ("Overage: hours", 20), ("Plan: large", 900)]
    assert rows(quotes.unbilled, "deployment_id", "resource_kind", "reason") == [("id-b", "gb", "no_rate")]


def test_an_addon_of_a_subscription_that_the_month_does_not_bill_is_not_billed() -> None:
    """The addon of a subscription which ended in March is on no line of April."""
    assert bill(PILOT._replace(addons=[addon("ended")], usage=[]).quote().lines) == PILOT_LINES[:1]


@pytest.mark.parametrize("name", ["Bücherei 'Zürich' №5", '"; drop table tenants; --', "{x}%s\\n\t", "東京", " "])
def test_names_are_printed_as_they_are(name: str) -> None:
    """A name is text, whatever it looks like; it reaches the lines untouched, and not their JSON."""
    quotes = Inputs(
        [subscription(name, tenant=name, plan=name)],
        [addon(name, name)],
        [rate(name, "0", plan=name, unit=name)],
        [use(name, "3", name)],
    ).quote()
    assert bill(quotes.lines) == [(f"Plan: {name}", 5000), (f"Addon: {name}", 750), (f"Overage: {name}", 3)]
    assert rows(quotes.lines, "tenant_id", "deployment_name") == [(name, name)] * 3
    assert rows(quotes.lines, "resource_kind", "unit")[2] == (name, name)
    assert rows(quotes.lines, "meta")[0] == ('{"effective_from": "2026-01-01"}',)


# A month may be empty


@pytest.mark.parametrize(
    ("month", "lines", "unbilled"),
    [
        pytest.param(Inputs(), [], [], id="nothing at all"),
        pytest.param(PILOT._replace(subscriptions=[]), [], [(2160, "no_subscription")], id="no subscriptions"),
        pytest.param(PILOT._replace(addons=[]), [PILOT_LINES[0], PILOT_LINES[2]], [], id="no addons"),
        pytest.param(PILOT._replace(rates=[]), PILOT_LINES[:2], [(2160, "no_rate")], id="no rates"),
        pytest.param(PILOT._replace(usage=[]), PILOT_LINES[:2], [], id="no usage"),
        pytest.param(Inputs(rates=PILOT.rates), [], [], id="only rates"),
        pytest.param(Inputs(addons=PILOT.addons), [], [], id="only addons"),
        pytest.param(Inputs(usage=PILOT.usage), [], [(2160, "no_subscription")], id="only usage"),
        pytest.param(Inputs(PILOT.subscriptions), PILOT_LINES[:1], [], id="only subscriptions"),
    ],
)
def test_any_of_the_inputs_may_be_empty(
    month: Inputs, lines: list[tuple[str, int]], unbilled: list[tuple[int, str]]
) -> None:
    """What is left of the pilot without one of its parts; columns and types are those of a full month."""
    quotes = month.quote()
    assert bill(quotes.lines) == lines
    assert rows(quotes.unbilled, "quantity", "reason") == unbilled
    assert faults(quotes) == []
    for data, schema in [
        (quotes.lines, quote.QUOTE_LINES),
        (quotes.unbilled, quote.UNBILLED),
        (quotes.faults, rules.FAULTS),
    ]:
        assert list(data) == schema.names
        assert [dtype.pyarrow_dtype for dtype in data.dtypes] == schema.types
        assert to_arrow(data, schema).schema == schema


# Usage that nobody pays for


def test_usage_that_no_subscription_or_no_rate_covers_is_unbilled_with_the_reason() -> None:
    """GB have no rate; cron had no subscription, or one that April does not know. Rows of a kind are summed: 1 + 2."""
    quotes = PILOT.beside(
        Inputs(
            usage=[
                use("web", "7.5", "gb"),
                use("web", "0.25", "gb", subscription_id=None),
                use("old", "4", subscription_id="sub-unknown"),
                use("cron", "1", subscription_id=None),
                use("cron", "2", subscription_id=None),
            ]
        )
    ).quote()
    assert rows(quotes.unbilled) == [
        ("id-cron", "droplet_hours", Decimal(3), "no_subscription", None),
        ("id-old", "droplet_hours", Decimal(4), "no_subscription", "sub-unknown"),
        ("id-web", "gb", Decimal("7.5"), "no_rate", "sub-web"),
        ("id-web", "gb", Decimal("0.25"), "no_subscription", None),
    ]
    assert bill(quotes.lines) == PILOT_LINES
    assert faults(quotes) == []


def test_unbilled_usage_is_ordered_by_deployment_kind_and_subscription() -> None:
    """Given backwards, it comes as a/x/1, a/x/2, a/x without, a/y/1, b/x/1."""
    usage = [
        use("b", "5", "x", subscription_id="1"),
        use("a", "4", "y", subscription_id="1"),
        use("a", "3", "x", subscription_id=None),
        use("a", "2", "x", subscription_id="2"),
        use("a", "1", "x", subscription_id="1"),
    ]
    assert rows(Inputs(usage=usage).quote().unbilled, "quantity") == [(1,), (2,), (3,), (4,), (5,)]


def test_usage_without_a_subscription_may_be_anything() -> None:
    """Nobody would pay for it, so it holds nobody back: -1, 38 digits, and 1e12 + 1e12 = 2e12 with a copy and a NaN."""
    digits = "99999999999999999999999999999999.999999"
    faulty = use("y", "1000000000000", subscription_id=None, unusable_records=1, duplicate_records=1)
    usage = [use("x", "-1", subscription_id=None), faulty, faulty, use("z", digits, subscription_id=None)]
    quotes = PILOT.beside(Inputs(usage=usage)).quote()
    assert rows(quotes.unbilled, "deployment_id", "quantity") == [
        ("id-x", -1),
        ("id-y", 2 * 10**12),
        ("id-z", Decimal(digits)),
    ]
    assert faults(quotes) == []
    assert bill(quotes.lines) == PILOT_LINES


# Who cannot be quoted


def broken(
    subscribed: Columns | None = None,
    added: Columns | None = None,
    rated: Columns | None = None,
    used: Columns | None = None,
) -> Inputs:
    """The tenant `broken`: db, of whose rows these columns are changed; and cache, which is in order."""
    return Inputs(
        [
            subscription("db", "broken", **Columns(plan="basic") | (subscribed or {})),
            subscription("cache", "broken", "basic"),
        ],
        [addon("db", **Columns(addon="backup") | (added or {})), addon("cache", "backup")],
        [rate("gb", **{"included": "10", "unit_price_cents": "2", "plan": "basic"} | (rated or {}))],
        [
            use("db", **{"quantity": "25", "resource_kind": "gb"} | (used or {})),
            use("cache", "30", "gb"),
            use("cache", "4", "unknown"),
            use("db", "5", "gb", subscription_id=None),
        ],
    )


FAULTS: list[tuple[str, dict[str, Columns], str | None, str]] = [
    (
        "tenant_missing",
        {"subscribed": {"tenant_exists": False}},
        None,
        "tenant broken is not in tenants: restore it or end its subscriptions",
    ),
    (
        "deployment_missing",
        {"subscribed": {"deployment_exists": False}},
        None,
        "deployment id-db is not in cloud_deployments, or its tenant is not in tenants: restore it or end its"
        " subscriptions",
    ),
    (
        "overlapping_subscriptions",
        {"subscribed": {"overlapping": True}},
        None,
        "deployment db has two subscriptions at one instant: end one where the other starts",
    ),
    (
        "timeless_usage",
        {"subscribed": {"timeless": "2 records of gb"}},
        None,
        "2 records of gb of deployment db came in the month without a time that can be read: correct recorded_at in"
        " usage_records, or remove them",
    ),
    (
        "plan_without_price",
        {"subscribed": {"base_price_cents": None, "effective_from": None}},
        None,
        "plan basic has no price in effect on the first of the month: add one to plan_prices",
    ),
    (
        "price_out_of_range",
        {"subscribed": {"base_price_cents": -1}},
        None,
        "the price of plan basic since 2026-01-01 is not a whole number of cents, from 0 to below 100 million dollars:"
        " correct plan_prices",
    ),
    (
        "price_out_of_range",
        {"subscribed": {"base_price_cents": 10**10}},
        None,
        "the price of plan basic since 2026-01-01 is not a whole number of cents, from 0 to below 100 million dollars:"
        " correct plan_prices",
    ),
    (
        "addon_without_price",
        {"added": {"price_cents": None, "effective_from": None}},
        None,
        "addon backup has no price in effect on the first of the month: add one to addon_prices",
    ),
    (
        "price_out_of_range",
        {"added": {"price_cents": -1}},
        None,
        "the price of addon backup since 2026-01-01 is not a whole number of cents, from 0 to below 100 million"
        " dollars: correct addon_prices",
    ),
    (
        "price_out_of_range",
        {"added": {"price_cents": 10**10}},
        None,
        "the price of addon backup since 2026-01-01 is not a whole number of cents, from 0 to below 100 million"
        " dollars: correct addon_prices",
    ),
    (
        "negative_addon_quantity",
        {"added": {"quantity": -1}},
        None,
        "addon backup of deployment db has a quantity below 0",
    ),
    (
        "addon_quantity_out_of_range",
        {"added": {"quantity": None}},
        None,
        "addon backup of deployment db has a quantity that is not a whole number below 1e12: correct db/backup in"
        " subscription_addons",
    ),
    (
        "negative_usage",
        {"used": {"quantity": Decimal("-0.000001")}},
        "gb",
        "gb of deployment db sums to -0.000001: correct the usage records",
    ),
    (
        "usage_out_of_range",
        {"used": {"quantity": Decimal(10**12)}},
        "gb",
        "gb of deployment db sums to 1e12 or more: correct the usage records",
    ),
    (
        "unusable_usage",
        {"used": {"unusable_records": 1}},
        "gb",
        "gb of deployment db has a record of NaN, null, infinity, or 1e12 and more: correct the usage records",
    ),
    (
        "duplicate_usage",
        {"used": {"duplicate_records": 1}},
        "gb",
        "gb of deployment db has records that share an id, with each other or with those of another month, or have"
        " none: remove the copies",
    ),
    (
        "incomplete_subscription",
        {"subscribed": {"incomplete": True}},
        None,
        "subscription sub-db lacks its id, status, started_at, deployment_id or plan_id: complete it in subscriptions",
    ),
    (
        "incomplete_addon",
        {"added": {"incomplete": True}},
        None,
        "addon backup of deployment db lacks its id, addon_id, quantity or started_at: complete it in"
        " subscription_addons",
    ),
    (
        "not_unique",
        {"subscribed": {"twice": "the plan code basic in plans"}},
        None,
        "the plan code basic in plans is there more than once: which one counts cannot be told, so keep one",
    ),
    (
        "not_unique",
        {"added": {"twice": "the addon code backup in addons"}},
        None,
        "the addon code backup in addons is there more than once: which one counts cannot be told, so keep one",
    ),
]


@pytest.mark.parametrize(
    ("fault", "parts", "kind", "detail"),
    FAULTS,
    ids=[
        f"{fault}-{next(iter(parts))}-{next(iter(next(iter(parts.values())).values()))}" for fault, parts, *_ in FAULTS
    ],
)
def test_a_fault_holds_back_its_tenant_wholly_and_nobody_else(
    fault: str, parts: dict[str, Columns], kind: str | None, detail: str
) -> None:
    """db is at fault, so broken has no line, cache's neither; all its usage is unbilled; the pilot pays 64.22."""
    month = PILOT.beside(broken(**parts))
    quotes = month.quote()
    assert rows(quotes.faults) == [("broken", "sub-db", "id-db", kind, fault, detail)]
    assert rows(quotes.lines, "tenant_id", "description", "amount_cents") == [
        ("pilot", description, amount) for description, amount in PILOT_LINES
    ]
    db_usage = parts.get("used", {}).get("quantity", Decimal(25))
    assert rows(quotes.unbilled) == [
        ("id-cache", "gb", Decimal(30), "tenant_held_back", "sub-cache"),
        ("id-cache", "unknown", Decimal(4), "tenant_held_back", "sub-cache"),
        ("id-db", "gb", db_usage, "tenant_held_back", "sub-db"),
        ("id-db", "gb", Decimal(5), "no_subscription", None),
    ]


@pytest.mark.parametrize(
    "rate_columns",
    [{"unit_price_cents": Decimal("-0.00000001")}, {"included": Decimal("-0.000001")}],
    ids=["price", "allowance"],
)
def test_a_negative_rate_holds_back_who_used_it(rate_columns: Columns) -> None:
    """The rate is below 0 by the least there is; db and cache used it, so each names it."""
    quotes = PILOT.beside(broken(rated=rate_columns)).quote()
    detail = "the rate of plan basic for gb is out of range: correct plan_rates"
    assert rows(quotes.faults) == [
        ("broken", "sub-cache", "id-cache", "gb", "rate_out_of_range", detail),
        ("broken", "sub-db", "id-db", "gb", "rate_out_of_range", detail),
    ]
    assert bill(quotes.lines) == PILOT_LINES
    assert Counter(rows(quotes.unbilled, "reason")) == {("tenant_held_back",): 3, ("no_subscription",): 1}


@pytest.mark.parametrize(
    ("rate_columns", "fault", "detail"),
    [
        (
            {"twice": True},
            "not_unique",
            "the rate of plan basic for gb since 2026-01-01 in plan_rates is there more than once: which one counts"
            " cannot be told, so keep one",
        ),
        ({"unit": None}, "rate_without_unit", "the rate of plan basic for gb has no unit: complete it in plan_rates"),
    ],
)
def test_a_rate_that_is_none_holds_back_who_used_it(rate_columns: Columns, fault: str, detail: str) -> None:
    """As a view may show one."""
    quotes = PILOT.beside(broken(rated=rate_columns)).quote()
    assert rows(quotes.faults, "subscription_id", "fault", "detail") == [
        ("sub-cache", fault, detail),
        ("sub-db", fault, detail),
    ]
    assert bill(quotes.lines) == PILOT_LINES


def test_usage_is_priced_by_its_own_plan_though_another_has_the_same_code() -> None:
    """Of two plans called studio one has 100 hours and 1 c, the other 200 and 2 c: 250 hours are 1.50 and 1.00."""
    month = Inputs(
        [subscription("web"), subscription("db", plan_id="another")],
        rates=[rate(included="100"), rate(included="200", unit_price_cents="2", plan_id="another")],
        usage=[use("web", "250"), use("db", "250")],
    )
    lines = month.quote().lines
    assert dict(rows(lines[lines["kind"] == "overage"], "deployment_id", "amount_cents")) == {
        "id-web": 150,
        "id-db": 100,
    }


def test_a_subscription_of_no_tenant_is_named() -> None:
    """Nobody can be billed for it, and it must not pass in silence; the pilot is billed."""
    quotes = PILOT.beside(Inputs([subscription("db", tenant_id=None, tenant_exists=False)])).quote()
    [fault] = rows(quotes.faults)
    assert fault[:5] == (None, "sub-db", "id-db", None, "tenant_missing")
    assert fault[5] == "tenant (none) is not in tenants: restore it or end its subscriptions"
    assert bill(quotes.lines) == PILOT_LINES


def test_the_tenant_without_its_fault_is_billed() -> None:
    """So it is the fault that holds broken back: 50.00 + 7.50 twice, and 20 GB and 15 GB beyond 10 at 2 c."""
    quotes = broken().quote()
    plan, backup = ("Plan: basic", 5000), ("Addon: backup", 750)
    assert bill(quotes.lines) == [plan, backup, ("Overage: gb", 40), plan, backup, ("Overage: gb", 30)]
    assert rows(quotes.unbilled, "resource_kind", "reason") == [("unknown", "no_rate"), ("gb", "no_subscription")]
    assert faults(quotes) == []


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"subscribed": {"base_price_cents": 0}}, id="base price 0"),
        pytest.param({"subscribed": {"base_price_cents": 9999999999}}, id="base price 99,999,999.99"),
        pytest.param({"added": {"price_cents": 0}}, id="addon price 0"),
        pytest.param({"added": {"price_cents": 9999999999}}, id="addon price 99,999,999.99"),
        pytest.param({"added": {"quantity": 0}}, id="addon quantity 0"),
        pytest.param({"used": {"quantity": Decimal(0)}}, id="usage 0"),
        pytest.param({"used": {"quantity": Decimal("999999999999.999999")}}, id="usage a millionth under 1e12"),
        pytest.param({"rated": {"unit_price_cents": Decimal(0)}}, id="rate 0"),
        pytest.param({"rated": {"included": Decimal(0)}}, id="allowance 0"),
    ],
)
def test_a_value_at_its_limit_is_not_a_fault(parts: dict[str, Columns]) -> None:
    """0 is not below 0, 9,999,999,999 cents are below 1e10, 999999999999.999999 is below 1e12."""
    quotes = broken(**parts).quote()
    assert faults(quotes) == []
    assert rows(quotes.lines, "kind").count(("plan_base",)) == 2


def test_usage_is_judged_by_its_sum() -> None:
    """10 - 4 = 6 hours is a correction, no fault; 6e11 + 4e11 = 1e12 is one, though neither part is."""
    corrected = PILOT._replace(usage=[use("web", "10"), use("web", "-4")])
    assert faults(corrected.quote()) == []
    too_much = PILOT._replace(usage=[use("web", "600000000000"), use("web", "400000000000")])
    assert faults(too_much.quote()) == [("pilot", "usage_out_of_range")]


def test_one_bad_record_among_many_rows_holds_back() -> None:
    """Three rows of 720 hours, the second of which counts a copy: the copy is not summed away."""
    usage = [use("web", "720"), use("web", "720", duplicate_records=1), use("web", "720", unusable_records=2)]
    assert faults(PILOT._replace(usage=usage).quote()) == [("pilot", "duplicate_usage"), ("pilot", "unusable_usage")]


def test_usage_without_a_rate_is_judged_too() -> None:
    """-1 GB of a kind that the plan does not sell is still wrong data of a tenant who pays."""
    assert faults(PILOT.beside(Inputs(usage=[use("web", "-1", "gb")])).quote()) == [("pilot", "negative_usage")]


def test_all_faults_of_all_tenants_are_named_in_order() -> None:
    """Tenant a: an addon at -1 c and -1 of it; tenant b: no price, and 1e12 hours."""
    quotes = Inputs(
        [subscription("y", "b", base_price_cents=None), subscription("x", "a")],
        [addon("x", price_cents=-1, quantity=-1)],
        [rate()],
        [use("y", "1000000000000")],
    ).quote()
    assert faults(quotes) == [
        ("a", "negative_addon_quantity"),
        ("a", "price_out_of_range"),
        ("b", "usage_out_of_range"),
        ("b", "plan_without_price"),
    ]
    assert list(quotes.faults.index) == [0, 1, 2, 3]
    assert len(quotes.lines) == 0


# 64 bits of cents


def costing(tenant: str, base: int, hours: str, price: str) -> Inputs:
    """A tenant with one deployment of its own name."""
    return Inputs(
        [subscription(tenant, tenant, tenant, base)],
        [],
        [rate("hours", "0", price, plan=tenant)],
        [use(tenant, hours, "hours")],
    )


TOO_LARGE = "sums to more than 64 bits of cents: correct usage or prices"


def test_the_largest_month_is_one_cent_below_the_limit() -> None:
    """999,999,999.999999 h x 8e9 c = 8e18 - 8000 c, with a base of 79.99 it is 8e18 - 1: quoted to the cent."""
    quotes = costing("big", 7999, "999999999.999999", "8000000000").quote()
    assert bill(quotes.lines) == [("Plan: big", 7999), ("Overage: hours", 7999999999999992000)]
    assert faults(quotes) == []


@pytest.mark.parametrize(
    ("base", "hours", "price"),
    [
        pytest.param(8000, "999999999.999999", "8000000000", id="by one cent"),
        pytest.param(0, "1000000000", "8000000000", id="in one line"),
        pytest.param(0, "999999999999.999999", "9999999999.99999999", id="past 64 bits"),
    ],
)
def test_a_month_too_large_to_invoice_is_held_back(base: int, hours: str, price: str) -> None:
    """8e18 cents leave no room for GST in 64 bits, 1e22 do not fit at all: big waits, the pilot pays 64.22."""
    quotes = costing("big", base, hours, price).beside(PILOT).quote()
    assert rows(quotes.faults) == [("big", None, None, None, "amount_out_of_range", f"the month of big {TOO_LARGE}")]
    assert bill(quotes.lines) == PILOT_LINES
    assert rows(quotes.unbilled) == [("id-big", "hours", Decimal(hours), "tenant_held_back", "sub-big")]


def test_lines_that_fit_may_be_too_large_together() -> None:
    """Three deployments of 1e9 h x 3e9 c = 3e18 c are 9e18 together, past the limit of 8e18; two are 6e18."""
    three = Inputs(
        [subscription(name, "big") for name in "xyz"],
        [],
        [rate("hours", "0", "3000000000")],
        [use(name, "1000000000", "hours") for name in "xyz"],
    )
    assert faults(three.quote()) == [("big", "amount_out_of_range")]
    assert faults(Inputs(three.subscriptions[:2], [], three.rates, three.usage[:2]).quote()) == []


def test_a_tenant_too_large_is_named_after_those_with_other_faults() -> None:
    """a has no price, b is too large, c is in order with 1 h x 1 c: faults in order of tenant, and only c has lines."""
    a = Inputs([subscription("a", "a", base_price_cents=None)], [], [], [use("a", "2", "hours")])
    quotes = costing("c", 0, "1", "1").beside(costing("b", 0, "1000000000", "8000000000")).beside(a).quote()
    assert faults(quotes) == [("a", "plan_without_price"), ("b", "amount_out_of_range")]
    assert bill(quotes.lines) == [("Plan: c", 0), ("Overage: hours", 1)]
    assert rows(quotes.unbilled, "deployment_id", "reason") == [
        ("id-a", "tenant_held_back"),
        ("id-b", "tenant_held_back"),
    ]


# One row or a million: the same code, the same prices


def test_ten_thousand_deployments_cost_ten_thousand_times_one() -> None:
    """10,000 x (5000 + 750 + 672) c = 64,220,000 c in 30,000 lines, each as if it were quoted alone."""
    names = [f"{number:05}" for number in range(10000)]
    quotes = Inputs(
        [subscription(name) for name in names],
        [addon(name) for name in reversed(names)],
        [rate()],
        [use(name, "720") for name in names] + [use(name, "1440") for name in reversed(names)],
    ).quote()
    assert quotes.lines["amount_cents"].sum() == 64220000
    assert bill(quotes.lines) == PILOT_LINES * 10000
    assert rows(quotes.lines, "deployment_name")[::3] == [(name,) for name in names]
    assert everything(quotes)[1:] == [[], []]


def test_columns_may_come_in_pieces() -> None:
    """Frames read row by row and put together bill what frames read at once do: 64.22 for each of two deployments."""
    two = PILOT.beside(Inputs([subscription("db")], [addon("db")], [rate("gb")], [use("db", "2160")]))
    schemas = (quote.SUBSCRIPTIONS, quote.ADDONS, quote.RATES, quote.USAGE)
    pieces = [pd.concat([frame(schema, [row]) for row in part]) for part, schema in zip(two[:4], schemas, strict=True)]
    assert everything(quote.quote(*pieces)) == everything(two.quote())
    assert bill(quote.quote(*pieces).lines) == PILOT_LINES * 2


# Laws


def where(part: Sequence[Row], schema: Any, **columns: str) -> list[Row]:
    """The rows that have these values."""
    places = {schema.get_field_index(name): value for name, value in columns.items()}
    return [row for row in part if all(row[place] == value for place, value in places.items())]


def table(part: Sequence[Row], schema: Any) -> list[dict[str, Any]]:
    """The rows by column name."""
    return [dict(zip(schema.names, row, strict=True)) for row in part]


@PRICED_LAWS
@given(months(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(month: Inputs, random: Any) -> None:
    """Law: all four inputs shuffled, the same lines, unbilled usage and faults in the same order."""
    shuffled = Inputs(*(random.sample(part, len(part)) for part in month))
    assert everything(shuffled.quote()) == everything(month.quote())


@PRICED_LAWS
@given(months(), st.data())
def test_splitting_usage_into_parts_changes_nothing(month: Inputs, data: st.DataObject) -> None:
    """Law: 10 hours are 4 hours and 6 hours, however many records it took to meter them."""
    parts: list[Row] = []
    for row in month.usage:
        deployment, subscribed, kind, quantity, unusable, duplicates = row
        assert isinstance(quantity, Decimal)
        first = data.draw(st.decimals(0, quantity, places=6))
        parts += [
            (deployment, subscribed, kind, first, unusable, duplicates),
            (deployment, subscribed, kind, quantity - first, 0, 0),
        ]
    assert everything(month._replace(usage=parts).quote()) == everything(month.quote())


@PRICED_LAWS
@given(months(most=4, faulty=False))
def test_quoting_each_subscription_alone_gives_the_lines_of_quoting_all(month: Inputs) -> None:
    """Law: a price told before the deployment existed is the price on its invoice, whoever else is billed."""
    alone: list[tuple[Any, ...]] = []
    for row in month.subscriptions:
        name = str(row[0])
        only = Inputs(
            [row],
            where(month.addons, quote.ADDONS, subscription_id=name),
            month.rates,
            where(month.usage, quote.USAGE, subscription_id=name),
        )
        alone += rows(only.quote().lines)
    assert rows(month.quote().lines) == alone


@PRICED_LAWS
@given(months())
def test_usage_is_conserved_to_the_last_digit(month: Inputs) -> None:
    """Law: per deployment, subscription and kind, used = what the allowance covered + overage lines + unbilled."""
    quotes = month.quote()
    held = {tenant for tenant, _ in faults(quotes)}
    subscribed = {row["subscription_id"]: row for row in table(month.subscriptions, quote.SUBSCRIPTIONS)}
    included = {(row["plan_id"], row["resource_kind"]): row["included"] for row in table(month.rates, quote.RATES)}
    used: defaultdict[tuple[str, str | None, str], Decimal] = defaultdict(Decimal)
    for row in table(month.usage, quote.USAGE):
        used[row["deployment_id"], row["subscription_id"], row["resource_kind"]] += row["quantity"]
    found: defaultdict[tuple[str, str | None, str], Decimal] = defaultdict(Decimal)
    for deployment, name, kind in used:
        owner = subscribed.get(name)
        if owner and owner["tenant_id"] not in held and (owner["plan_id"], kind) in included:
            found[deployment, name, kind] += min(used[deployment, name, kind], included[owner["plan_id"], kind])
    over = quotes.lines[quotes.lines["kind"] == "overage"]
    for deployment, name, kind, quantity in [
        *rows(over, "deployment_id", "subscription_id", "resource_kind", "qty"),
        *rows(quotes.unbilled, "deployment_id", "subscription_id", "resource_kind", "quantity"),
    ]:
        found[deployment, name, kind] += quantity
    assert found == used


@PRICED_LAWS
@given(months())
def test_each_amount_is_its_quantity_times_its_price_half_a_cent_up(month: Inputs) -> None:
    """Law: the same answer from Python's decimals, for every line of every kind."""
    for quantity, price, amount in rows(month.quote().lines, "qty", "unit_price_cents", "amount_cents"):
        assert amount == (quantity * price).quantize(Decimal(1), ROUND_HALF_UP)


@PRICED_LAWS
@given(months())
def test_a_tenant_has_either_faults_or_a_line_for_each_of_its_plans(month: Inputs) -> None:
    """Law: nobody is half billed, and nobody is forgotten."""
    quotes = month.quote()
    held = {tenant for tenant, _ in faults(quotes)}
    plans = Counter(rows(quotes.lines[quotes.lines["kind"] == "plan_base"], "tenant_id", "subscription_id"))
    subscribed = table(month.subscriptions, quote.SUBSCRIPTIONS)
    assert plans == {
        (row["tenant_id"], row["subscription_id"]): 1 for row in subscribed if row["tenant_id"] not in held
    }
    assert held.isdisjoint(tenant for (tenant,) in rows(quotes.lines, "tenant_id"))
