"""Commitments: the line for what is missing from the least that a tenant pays; by hand."""

from decimal import Decimal
from typing import Any

import pytest

from arcadia_pipelines.billing import invoice
from arcadia_pipelines.billing.commitments import COMMITMENTS
from arcadia_pipelines.billing.discounts import DISCOUNTS
from arcadia_pipelines.billing.money import Row, frame
from arcadia_pipelines_tests.billing.columns import (
    APRIL,
    PILOT,
    PILOT_LINES,
    Inputs,
    bill,
    commitment,
    discount,
    rate,
    rows,
    subscription,
    tenants,
    use,
)


def lines(month: Inputs, *commitments: Row, discounts: tuple[Row, ...] = ()) -> Any:
    """The pilot's invoice lines before tax."""
    made = invoice.tenant_lines(
        month.quote().lines,
        invoice.Carried(),
        tenants("pilot"),
        APRIL,
        frame(DISCOUNTS, list(discounts)),
        frame(COMMITMENTS, list(commitments)),
    )
    return made[made["kind"] != "tax"]


def missing(month: Inputs, *commitments: Row) -> list[int]:
    """The cents of each commitment line, in order."""
    found = lines(month, *commitments)
    return [cents for kind, cents in rows(found, "kind", "amount_cents") if kind == "commitment"]


def part(first: int, last: int, of: int = 30, subscription_id: str | None = None) -> Row:
    """A subscription of the deployment web on a daily plan of 100.00, for these days."""
    days: dict[str, Any] = {"daily": True, "first_day": first, "last_day": last, "days_in_month": of}
    return subscription("web", base_price_cents=10000, subscription_id=subscription_id or f"from-{first}", **days)


def test_a_commitment_of_a_part_month() -> None:
    """2 of 29 days: 10,000.00 is 689.66, base 100.00 is 6.90. Three usages of 10.00: 652.76 are missing."""
    month = Inputs(
        [part(28, 29, 29, subscription_id="sub-web")],
        rates=[rate(kind, "0", "1") for kind in ("cpu", "gb", "hours")],
        usage=[use("web", "1000", kind) for kind in ("cpu", "gb", "hours")],
    )
    found = lines(month, commitment(1_000_000, "web"))
    assert bill(found) == [
        ("Plan: studio", 690),
        ("Overage: cpu", 1000),
        ("Overage: gb", 1000),
        ("Overage: hours", 1000),
        ("Commitment: 10,000.00 a month", 65276),
    ]
    assert rows(found, "kind", "resource_kind", "qty", "unit", "unit_price_cents", "price_per", "meta")[-1] == (
        *("commitment", None, Decimal(1), None, Decimal(65276), Decimal(1)),
        '{"days": "2 of 29", "commitment": "min-web", "charges_cents": 3690, "minimum_cents": 1000000}',
    )


def test_a_whole_month_says_nothing_of_days() -> None:
    """The pilot's 64.22, and at least 100.00: 35.78 are missing."""
    found = lines(PILOT, commitment(10000, "web"))
    assert bill(found) == [*PILOT_LINES, ("Commitment: 100.00 a month", 3578)]
    assert rows(found, "meta")[-1] == ('{"commitment": "min-web", "charges_cents": 6422, "minimum_cents": 10000}',)


@pytest.mark.parametrize(("minimum", "found"), [(6423, [1]), (6422, []), (6421, []), (0, [])])
def test_there_is_a_line_only_for_what_is_missing(minimum: int, found: list[int]) -> None:
    assert missing(PILOT, commitment(minimum, "web")) == found
    assert missing(PILOT, commitment(minimum)) == found


def test_the_days_of_a_deployments_subscriptions_count_together() -> None:
    """5 and 10 of 30 days: half of 1,000.01 is 500.005, so 500.01; the base is 16.67 + 33.33."""
    month = Inputs([part(1, 5), part(21, 30)])
    assert missing(month, commitment(100_001, "web")) == [50001 - 1667 - 3333]


def test_days_that_cover_the_month_are_the_whole_month() -> None:
    """From the 1st to the 15th and from the 16th on: 1,000.00 whole, base 50.00 each."""
    assert missing(Inputs([part(1, 15), part(16, 30)]), commitment(100_000, "web")) == [90000]


def test_a_plan_that_does_not_prorate_makes_the_month_whole() -> None:
    """5 of 30 days of a daily plan, and one that costs the whole month: 16.67 + 50.00."""
    month = Inputs([part(1, 5), subscription("web")])
    assert missing(month, commitment(100_000, "web")) == [100_000 - 1667 - 5000]


def test_a_subscription_of_no_day_has_no_day_of_the_commitment() -> None:
    """Another one of the same day belongs to it: 0 of 30 days of 1,000.00 are nothing."""
    assert missing(Inputs([part(5, 4)]), commitment(100_000, "web")) == []


def test_a_commitment_is_of_what_discounts_leave() -> None:
    """Half of 50.00 is left, and at least 40.00: 15.00 are missing."""
    month = Inputs([subscription("web")])
    found = lines(month, commitment(4000, "web"), discounts=(discount(percent="50"),))
    assert bill(found) == [
        ("Plan: studio", 5000),
        ("Discount: offer 1", -2500),
        ("Commitment: 40.00 a month", 1500),
    ]


def test_the_tenants_commitment_counts_those_of_its_deployments_and_comes_last() -> None:
    """api 10.00 of at least 30.00, web 20.00: 50.00 of at least 100.00."""
    month = Inputs([subscription("api", base_price_cents=1000), subscription("web", base_price_cents=2000)])
    found = lines(month, commitment(10000), commitment(3000, "api"))
    assert rows(found, "deployment_name", "description", "amount_cents") == [
        ("api", "Plan: studio", 1000),
        ("api", "Commitment: 30.00 a month", 2000),
        ("web", "Plan: studio", 2000),
        (None, "Commitment: 100.00 a month", 5000),
    ]


def test_each_tenant_has_its_own_commitment_and_its_own_deployments() -> None:
    """The pilot's web is 20.00 of at least 50.00, and all of it of 60.00; acme's api 10.00 of 15.00, and of 18.00."""
    month = Inputs(
        [subscription("web", base_price_cents=2000), subscription("api", tenant="acme", base_price_cents=1000)]
    )
    commitments = (
        commitment(6000),
        commitment(1800, tenant="acme"),
        commitment(5000, "web"),
        commitment(1500, "api", tenant="acme"),
    )
    made = invoice.tenant_lines(
        month.quote().lines,
        invoice.Carried(),
        tenants("acme", "pilot"),
        APRIL,
        commitments=frame(COMMITMENTS, list(commitments)),
    )
    of = rows(made[made["kind"] == "commitment"], "invoice_id", "deployment_name", "amount_cents")
    acme, pilot = rows(invoice.totals(made, tenants("acme", "pilot"), APRIL), "subtotal_cents")
    assert (acme, pilot) == ((1800,), (6000,))
    assert sorted((name or "", cents) for _, name, cents in of) == [("", 300), ("", 1000), ("api", 500), ("web", 3000)]
    assert len({invoice_id for invoice_id, *_ in of}) == 2


def test_the_tenants_commitment_is_never_scaled() -> None:
    """5 of 30 days of 100.00 is 16.67; 100.00 whole."""
    assert missing(Inputs([part(1, 5)]), commitment(10000)) == [8333]


def test_a_deployment_that_is_not_billed_owes_no_commitment() -> None:
    """Neither does a tenant that has none."""
    assert missing(PILOT, commitment(10**6, "gone"), commitment(10**6, tenant="nobody")) == []


def test_a_corrections_line_comes_behind_the_tenants_commitment() -> None:
    made = invoice.tenant_lines(
        Inputs([subscription("web")]).quote().lines,
        invoice.Carried(frame(invoice.ADJUSTMENTS, [("pilot", "2026-03-01", "INV-1", 100, True)])),
        tenants("pilot"),
        APRIL,
        commitments=frame(COMMITMENTS, [commitment(6000)]),
    )
    assert bill(made) == [
        ("Plan: studio", 5000),
        ("Commitment: 60.00 a month", 1000),
        ("Adjustment: 2026-03, INV-1", 100),
        ("GST 10%", 610),
    ]
    assert rows(invoice.totals(made, tenants("pilot"), APRIL), "subtotal_cents", "charges_cents") == [(6100, 6000)]


def test_two_commitments_of_one_scope_hold_the_tenant_back() -> None:
    quoted = PILOT.quote(
        commitments=[
            commitment(1, "web", id="a", overlapping=True),
            commitment(2, id="b", overlapping=True),
            commitment(None, "api", id="c", wrong="is there more than once"),
            commitment(1, tenant="nobody", overlapping=True),
        ]
    )
    assert quoted.lines.empty
    assert rows(quoted.faults, "fault", "detail") == [
        (
            "commitment_cannot_be_applied",
            "commitment c of tenant pilot is there more than once: correct it in commitments",
        ),
        (
            "overlapping_commitments",
            "commitment a of tenant pilot is not the only one of deployment id-web in the month: end one where the "
            "other starts",
        ),
        (
            "overlapping_commitments",
            "commitment b is not the only one of tenant pilot as a whole in the month: end one where the other starts",
        ),
    ]


def test_a_deployment_may_have_more_subscriptions_in_a_month_than_the_month_has_days() -> None:
    """100 of 0.10 one after the other, none of which prorates: 50.00 of 60.00 are missing."""
    one_after_another = [subscription("web", base_price_cents=10, subscription_id=f"sub-{n}") for n in range(100)]
    assert missing(Inputs(one_after_another), commitment(6000, "web")) == [5000]


def test_terms_that_cannot_be_applied_stop_the_invoices_of_who_was_quoted_before() -> None:
    """A second commitment of the tenant, and a discount of both kinds, came between its quote and its invoice."""
    two = commitment(8000, id="a", overlapping=True), commitment(9000, id="b", overlapping=True)
    with pytest.raises(invoice.TermsChanged, match=r"a is not the only one of tenant pilot .* quote the month again"):
        lines(PILOT, *two)
    wrong = discount("x", percent=None, wrong="has both, or neither, of percent and amount_cents")
    with pytest.raises(invoice.TermsChanged, match="discount x of tenant pilot has both"):
        lines(PILOT, discounts=(wrong,))
