"""Two revisions of an invoice beside each other: which lines differ, by how much, and why."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from arcadia_pipelines.billing.money import Row, frame
from arcadia_pipelines.proof import compare
from arcadia_pipelines_tests.billing.columns import LAWS, SINCE, rows


def line(kind: str, description: str, cents: int, **columns: object) -> Row:
    """A line of the deployment `web`, one month at the amount unless told otherwise."""
    values: dict[str, object] = {
        "line_no": 1,
        "deployment_id": "id-web",
        "deployment_name": "web",
        "kind": kind,
        "resource_kind": None,
        "description": description,
        "qty": Decimal(1),
        "unit": "month",
        "unit_price_cents": Decimal(cents),
        "price_per": Decimal(1),
        "amount_cents": cents,
        "meta": None,
        "used": None,
        "included": None,
        "effective_from": SINCE,
        "days": None,
        "pooled": None,
    }
    assert not columns.keys() - values.keys()
    row = values | columns
    inputs = [str(row[name]) for name in ("used", "included", "effective_from")]
    return tuple((row | {"meta": row["meta"] or "/".join(inputs)}).values())


def plan(code: str = "studio", cents: int = 5000, **columns: object) -> Row:
    """A plan's line."""
    return line("plan_base", f"Plan: {code}", cents, **columns)


def addon(code: str = "storage_50gb", cents: int = 750, quantity: int = 1, **columns: object) -> Row:
    """An addon's line."""
    price = {"qty": Decimal(quantity), "unit_price_cents": Decimal(cents)}
    return line("addon", f"Addon: {code}", cents * quantity, **(price | columns))


def overage(used: str, included: str = "1488", cents: str = "1", **columns: object) -> Row:
    """A line of droplet hours beyond the allowance."""
    over = Decimal(used) - Decimal(included)
    values = {
        "resource_kind": "droplet_hours",
        "qty": over,
        "unit": "hour",
        "unit_price_cents": Decimal(cents),
        "used": Decimal(used),
        "included": Decimal(included),
    }
    return line("overage", "Overage: droplet_hours", int(over * Decimal(cents)), **(values | columns))


def gst(cents: int, **columns: object) -> Row:
    """The invoice's GST line."""
    nowhere = {"deployment_id": None, "deployment_name": None, "unit": None, "effective_from": None}
    return line("tax", "GST 10%", cents, **(nowhere | columns))


def compared(before: Sequence[Row], after: Sequence[Row]) -> pd.DataFrame:
    """The lines that differ, of lines numbered as they are given."""
    frames = [frame(compare.LINES, [(no, *row[1:]) for no, row in enumerate(of, 1)]) for of in (before, after)]
    return compare.compare(*frames)


def causes(before: Sequence[Row], after: Sequence[Row]) -> list[tuple[str, str, str, int]]:
    """What each line that differs says, what became of it, why, and by how many cents."""
    return rows(compared(before, after), "description", "change", "cause", "difference_cents")


PILOT = [plan(), addon(), overage("2160"), gst(642)]
"""50.00 + 7.50 + 6.72 = 64.22, GST 6.42."""


def test_the_same_lines_have_no_differences() -> None:
    """The pilot's April beside itself, and an invoice without lines beside itself."""
    assert causes(PILOT, PILOT) == causes([], []) == []


def test_more_usage_is_told_with_its_gst() -> None:
    """2,260 h are 772 over the 1,488 included: 7.72, which is 1.00 more; GST on 65.22 is 6.52."""
    after = [plan(), addon(), overage("2260"), gst(652)]
    assert causes(PILOT, after) == [
        ("Overage: droplet_hours", "changed", "usage", 100),
        ("GST 10%", "changed", "tax", 10),
    ]
    assert rows(compared(PILOT, after), "used_before", "used_after", "qty_before", "qty_after")[0] == (
        Decimal("2160"),
        Decimal("2260"),
        Decimal("672"),
        Decimal("772"),
    )


def test_another_price_is_a_price() -> None:
    """55.00 for 50.00, 8.00 for 7.50, and 672 h at 1.25 c for 1 c: 8.40 for 6.72."""
    after = [plan(cents=5500), addon(cents=800), overage("2160", cents="1.25")]
    assert causes(PILOT[:3], after) == [
        ("Plan: studio", "changed", "price", 500),
        ("Addon: storage_50gb", "changed", "price", 50),
        ("Overage: droplet_hours", "changed", "price", 168),
    ]


def test_another_allowance_is_a_price() -> None:
    """2,160 h used; 1,000 included make 1,160 over, for 11.60 where it was 6.72."""
    assert causes([overage("2160")], [overage("2160", "1000")]) == [("Overage: droplet_hours", "changed", "price", 488)]


def test_the_same_price_since_another_day_is_a_price() -> None:
    """A row was added to the price list for April, at 50.00 as before: not a cent more."""
    assert causes([plan()], [plan(effective_from="2026-04-01")]) == [("Plan: studio", "changed", "price", 0)]


def test_days_more_or_less_are_a_cause_of_the_subscription() -> None:
    """A plan of 31.00 for 17 days instead of the month; its allowance of 17 of 31 days makes 5 hours more overage."""
    days: dict[str, Any] = {
        "qty": Decimal(17),
        "unit": "day",
        "price_per": Decimal(31),
        "unit_price_cents": Decimal(3100),
    }
    whole, part = plan(cents=3100), plan(cents=1700, **days)
    assert causes([whole], [part]) == [("Plan: studio", "changed", "subscription", -1400)]
    hours = [overage("20", "10"), overage("20", "5", days="17 of 31")]
    assert causes(hours[:1], hours[1:]) == [("Overage: droplet_hours", "changed", "subscription", 5)]


def test_what_the_pool_covers_is_usage() -> None:
    """Another of the tenant's subscriptions used 4 hours more of the allowance."""
    more = [overage("20", "10", qty=Decimal(pay), amount_cents=pay, pooled=Decimal(10 - pay)) for pay in (2, 6)]
    assert causes(more[:1], more[1:]) == [("Overage: droplet_hours", "changed", "usage", 4)]


def test_usage_and_price_at_once_are_both_told() -> None:
    """2,260 h at 2 c: 772 x 2 = 15.44 where 6.72 was billed."""
    assert causes([overage("2160")], [overage("2260", cents="2")]) == [
        ("Overage: droplet_hours", "changed", "usage, price", 872)
    ]


def test_plans_and_addons_that_come_and_go_are_subscriptions() -> None:
    """An addon more (12.00), one less (7.50), two of a third where there was one (3.95 more)."""
    before = [plan(), addon("reserved_ip", 395), addon("storage_50gb", 750)]
    after = [plan(), addon("load_balancer", 1200), addon("reserved_ip", 395, 2)]
    assert causes(before, after) == [
        ("Addon: load_balancer", "added", "subscription", 1200),
        ("Addon: storage_50gb", "removed", "subscription", -750),
        ("Addon: reserved_ip", "changed", "subscription", 395),
    ]


def test_overage_at_the_rate_of_another_plan_is_the_subscription() -> None:
    """From studio to scale: 199.00 for 50.00, and 2,160 h are within the 2,976 included, or beyond 1,000 at 2 c."""
    assert causes([plan(), overage("2160")], [plan("scale", 19900)]) == [
        ("Plan: studio", "removed", "subscription", -5000),
        ("Plan: scale", "added", "subscription", 19900),
        ("Overage: droplet_hours", "removed", "subscription", -672),
    ]
    smaller = [plan("tiny", 100), overage("2170", "1000", "2")]  # 1,170 x 2 = 23.40
    assert causes([plan(), overage("2160")], smaller)[-1] == (
        "Overage: droplet_hours",
        "changed",
        "usage, subscription",
        1668,
    )


def test_a_plan_change_of_one_deployment_explains_nothing_of_another() -> None:
    """`shop` left its plan; the price of `web`'s overage is a price all the same: 672 at 2 c is 6.72 more."""
    shop = plan(deployment_id="id-shop", deployment_name="shop")
    before = [shop, plan(), overage("2160")]
    assert causes(before, [plan(), overage("2160", cents="2")]) == [
        ("Plan: studio", "removed", "subscription", -5000),
        ("Overage: droplet_hours", "changed", "price", 672),
    ]


def test_overage_that_comes_or_goes_under_its_plan_is_usage_or_price() -> None:
    """1,500 h where there was no line: more was used or less was included, and the other revision does not say."""
    assert causes([plan()], [plan(), overage("1500")]) == [("Overage: droplet_hours", "added", "usage or price", 12)]
    assert causes([plan(), overage("1500")], [plan()]) == [("Overage: droplet_hours", "removed", "usage or price", -12)]


def test_adjustments_and_credits_are_corrections() -> None:
    """A credit of 5.00 for March, and an adjustment that grew from 1.00 to 1.50."""
    nowhere = {"deployment_id": None, "deployment_name": None, "unit": None}
    before = [plan(), line("adjustment", "Adjustment: 2026-02", 100, **nowhere)]
    after = [
        plan(),
        line("adjustment", "Adjustment: 2026-02", 150, **nowhere),
        line("credit", "Credit: 2026-03", -500, **nowhere),
    ]
    assert causes(before, after) == [
        ("Adjustment: 2026-02", "changed", "correction", 50),
        ("Credit: 2026-03", "added", "correction", -500),
    ]


def test_gst_that_comes_or_goes_is_tax() -> None:
    """A tenant that is GST-free now: 5.00 less."""
    assert causes([plan(), gst(500)], [plan()]) == [("GST 10%", "removed", "tax", -500)]
    assert causes([plan()], [plan(), gst(500)]) == [("GST 10%", "added", "tax", 500)]


def test_the_same_inputs_with_another_amount_are_the_code() -> None:
    """A cent more of overage, of a plan and of GST, though usage, prices and taxable sum are what they were."""
    cent_more = overage("2160", amount_cents=673)
    assert causes([overage("2160")], [cent_more]) == [("Overage: droplet_hours", "changed", "code", 1)]
    assert causes([plan()], [plan(amount_cents=5001)]) == [("Plan: studio", "changed", "code", 1)]
    assert causes([plan(), gst(500)], [plan(), gst(501)]) == [("GST 10%", "changed", "code", 1)]


def test_the_same_amount_of_another_quantity_or_meta_is_the_code() -> None:
    """The invoice's content is another, so it was replaced, and nobody used or agreed anything else."""
    assert causes([overage("2160")], [overage("2160", qty=Decimal(673), amount_cents=672)]) == [
        ("Overage: droplet_hours", "changed", "code", 0)
    ]
    assert causes([plan()], [plan(meta="another")]) == [("Plan: studio", "changed", "code", 0)]


def test_equal_lines_are_matched_in_order() -> None:
    """Two subscriptions of one plan, of which one ended; of two storage addons the second has another price."""
    assert causes([plan(), plan()], [plan()]) == [("Plan: studio", "removed", "subscription", -5000)]
    assert causes([addon(), addon()], [addon(), addon(cents=800)]) == [("Addon: storage_50gb", "changed", "price", 50)]


def test_a_renamed_deployment_is_the_same() -> None:
    """It bills the same."""
    assert causes([plan()], [plan(deployment_name="www")]) == []


def test_a_deleted_deployment_is_known_by_its_name() -> None:
    """Its lines have lost the id, whichever revision they are on; so they do if no revision has the id."""
    lost = plan(deployment_id=None)
    assert causes([plan()], [lost]) == causes([lost], [plan()]) == causes([lost], [lost]) == []
    other = plan(deployment_id=None, deployment_name="other")
    assert [what for what, *_ in rows(compared([lost], [other]), "change", "cause")] == ["removed", "added"]


def test_an_invoice_that_is_new_altogether_has_only_added_lines() -> None:
    """64.22 + 6.42 = 70.64 from nothing, and to nothing."""
    assert [change for change, _ in rows(compared([], PILOT), "change", "cause")] == ["added"] * 4
    assert compared([], PILOT)["difference_cents"].sum() == -compared(PILOT, [])["difference_cents"].sum() == 7064


def test_changes_have_their_columns_exactly_typed() -> None:
    """Cents as integers, quantities and prices as decimals, also of nothing."""
    for changes in (compared([], []), compared(PILOT, PILOT[:1])):
        assert [(name, dtype.pyarrow_dtype) for name, dtype in changes.dtypes.items()] == [
            (field.name, field.type) for field in compare.CHANGES
        ]
    assert not [field for field in compare.CHANGES if pa.types.is_floating(field.type)]


def test_what_no_line_shows_is_told_by_name() -> None:
    """The tenant became GST-free and was renamed; its ABN is what it was."""
    before = {"tenant_name": "Pilot", "tenant_abn": "71690944157"}
    after = {"tenant_name": "Pilot Ltd", "tenant_abn": "71690944157", "gst_free_reason": "Exports"}
    assert compare.unseen(before, after) == [
        ("gst_free_reason", None, "Exports"),
        ("tenant_name", "Pilot", "Pilot Ltd"),
    ]
    assert compare.unseen(after, after) == []


invoices = st.lists(
    st.one_of(
        st.builds(plan, st.sampled_from(["studio", "scale"]), st.sampled_from([0, 5000])),
        st.builds(addon, quantity=st.integers(1, 3)),
        st.builds(overage, st.sampled_from(["1489", "2160"]), st.sampled_from(["0", "1488"])),
        st.builds(gst, st.sampled_from([0, 642])),
    ),
    max_size=6,
)


@settings(LAWS, max_examples=12)
@given(invoices, invoices)
def test_differences_add_up_and_turn_around(before: list[Row], after: list[Row]) -> None:
    """Law: they sum to the difference of the totals, each has a cause, and the other way round each is the negative."""
    changes, back = compared(before, after), compared(after, before)
    amount = compare.LINES.names.index("amount_cents")
    total = sum(row[amount] for row in after) - sum(row[amount] for row in before)
    assert sum(changes["difference_cents"]) == -sum(back["difference_cents"]) == total
    assert all(cause for (cause,) in rows(changes, "cause"))
    assert sorted(rows(changes, "description", "cause")) == sorted(rows(back, "description", "cause"))
    assert causes(before, before) == []
