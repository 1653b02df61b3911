"""Manual lines and promotional credit as lines: examples by hand, in cents."""

import json

import pyarrow as pa
import pytest

from arcadia_pipelines.billing import credits
from arcadia_pipelines.billing.credits import GRANTS, MANUAL_LINES
from arcadia_pipelines.billing.money import Row, frame, to_arrow

ACME = pa.array(["acme"])


def grant(
    name: str, available: int, expires_on: str | None = None, tenant: str = "acme", stood: int | None = None
) -> Row:
    """A grant of which this much is left; if it `stood` on the invoice before, with 77 left after that."""
    return (
        tenant,
        name,
        expires_on,
        f"{name}'s time",
        name,
        available,
        available,
        stood,
        None if stood is None else 77,
    )


def paid(charges: list[int], *grants: Row) -> list[tuple[str, int, int]]:
    """What each grant pays of acme's charges: description, amount, and what it says is left."""
    before = pa.table({"tenant_id": pa.array(["acme"] * len(charges), pa.string()), "amount_cents": charges})
    lines = credits.promotional(before, to_arrow(frame(GRANTS, list(grants)), GRANTS), ACME).to_pylist()
    return [(line["description"], line["amount_cents"], json.loads(line["meta"])["left"]) for line in lines]


def test_a_grant_pays_all_that_there_is_to_pay() -> None:
    assert paid([3000, 1000], grant("a", 10000)) == [("Credit: a", -4000, 6000)]


def test_a_grant_pays_no_more_than_is_left_of_it() -> None:
    assert paid([4000], grant("a", 2000)) == [("Credit: a", -2000, 0)]


def test_a_grant_pays_to_the_very_last_cent() -> None:
    assert paid([4000], grant("a", 3999)) == [("Credit: a", -3999, 0)]
    assert paid([4000], grant("a", 4000)) == [("Credit: a", -4000, 0)]
    assert paid([4000], grant("a", 4001)) == [("Credit: a", -4000, 1)]
    assert paid([1], grant("a", 1)) == [("Credit: a", -1, 0)]


def test_what_a_grant_pays_is_a_line_of_kind_credit_that_names_the_grant() -> None:
    before = pa.table({"tenant_id": ["acme"], "amount_cents": [400]})
    [line] = credits.promotional(before, to_arrow(frame(GRANTS, [grant("a", 1000)]), GRANTS), ACME).to_pylist()
    assert (line["kind"], json.loads(line["meta"])) == ("credit", {"left": 600, "grant": "a"})


def test_the_soonest_to_expire_pays_first_and_one_without_an_end_last() -> None:
    assert paid([6000], grant("a", 5000), grant("b", 2000, "2026-07-01"), grant("c", 1000, "2026-06-30")) == [
        ("Credit: c", -1000, 0),
        ("Credit: b", -2000, 0),
        ("Credit: a", -3000, 2000),
    ]


def test_of_grants_that_expire_together_the_older_pays_first() -> None:
    assert paid([100], grant("b", 70, "2026-07-01"), grant("a", 70, "2026-07-01")) == [
        ("Credit: a", -70, 0),
        ("Credit: b", -30, 40),
    ]


@pytest.mark.parametrize("charges", [[], [0], [500, -500], [500, -501], [-100]])
def test_where_there_is_nothing_to_pay_no_grant_is_used(charges: list[int]) -> None:
    assert paid(charges, grant("a", 1000)) == []


def test_a_grant_that_takes_the_same_as_before_says_what_was_left_then() -> None:
    assert paid([400], grant("a", 1000, stood=400)) == [("Credit: a", -400, 77)]
    assert paid([400], grant("a", 1000, stood=300)) == [("Credit: a", -400, 600)]


def test_each_tenant_pays_with_its_own_grants() -> None:
    """acme: 4.00 of the one that expires; bulk: 5.00 of 9.00, without GST; nobody has charges for zulu's."""
    before = pa.table({"tenant_id": ["acme", "bulk"], "amount_cents": [400, 900]})
    grants = [
        grant("z", 100, tenant="zulu"),
        grant("b", 500, tenant="bulk"),
        grant("a", 300),
        grant("c", 900, "2026-09-01", "acme"),
    ]
    lines = credits.promotional(before, to_arrow(frame(GRANTS, grants), GRANTS), ACME).to_pylist()
    assert [(line["tenant_id"], line["description"], line["amount_cents"], line["taxable"]) for line in lines] == [
        ("acme", "Credit: c", -400, True),
        ("bulk", "Credit: b", -500, False),
    ]


def test_manual_lines_are_adjustments_above_zero_and_credits_below_it_by_month_and_time() -> None:
    entered: list[Row] = [
        ("acme", "2", "2026-05-01", "2026-05-20", -250, "Outage"),
        ("acme", "1", "2026-04-01", "2026-05-21", 1250, "Set-up"),
        ("acme", "3", "2026-05-01", "2026-05-19", 1, "Cent"),
    ]
    lines = credits.manual_lines(to_arrow(frame(MANUAL_LINES, entered), MANUAL_LINES), ACME).to_pylist()
    assert [(line["kind"], line["description"], line["amount_cents"]) for line in lines] == [
        ("adjustment", "Adjustment: Set-up", 1250),
        ("adjustment", "Adjustment: Cent", 1),
        ("credit", "Credit: Outage", -250),
    ]
    assert lines[0]["meta"] == '{"manual_line": "1", "period_start": "2026-04-01"}'
    assert (lines[0]["qty"], lines[0]["unit_price_cents"], lines[0]["price_per"]) == (1, 1250, 1)


def test_an_invoice_that_does_not_say_what_was_left_says_what_is() -> None:
    """It takes 40.00 as before, and another program wrote that line."""
    *columns, _ = grant("a", 10000, stood=4000)
    assert paid([4000], (*columns, None)) == [("Credit: a", -4000, 6000)]
