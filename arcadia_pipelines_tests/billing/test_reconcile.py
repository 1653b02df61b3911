"""What becomes of each invoice when its month is computed again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing import invoice, reconcile
from arcadia_pipelines.billing.money import TEXT, Row, frame
from arcadia_pipelines_tests.billing.columns import LAWS, rows

CENTS = {"old": 7064, "new": 6964}
"""What an invoice of each content comes to."""


def standing(
    tenant: str, status: str = "issued", pushed: bool = False, content: str = "old", by_operator: bool = False
) -> Row:
    """An invoice as it stands."""
    locked = pushed or status in ("paid", "void")
    return (f"{tenant}-id", tenant, status, locked, CENTS[content], content, f"INV-{tenant}", by_operator)


def due(tenant: str, content: str = "old") -> Row:
    """An invoice as it is computed now."""
    return (f"{tenant}-id", tenant, CENTS[content], 0, CENTS[content], CENTS[content], content, "lines", "{}")


def plan(
    existing: Sequence[Row] = (),
    recomputed: Sequence[Row] = (),
    held_back: Sequence[str] = (),
    on_hold: Sequence[str] = (),
    lost_lines: Mapping[str, str] = {},
) -> pd.DataFrame:
    """The plan for these."""
    faulty, waiting = (
        frame(pa.schema([("tenant_id", TEXT)]), [(tenant,) for tenant in names])["tenant_id"]
        for names in (held_back, on_hold)
    )
    invoices = frame(reconcile.EXISTING, list(existing)), frame(invoice.INVOICES, list(recomputed))
    return reconcile.plan(*invoices, faulty, waiting, lost_lines)


class Case(NamedTuple):
    """An invoice as it stands, as it is computed now, and what becomes of it."""

    status: str | None
    pushed: bool
    content: str | None
    action: str
    difference: int


CASES = [
    Case("draft", False, "old", "issue", 0),
    Case("draft", True, "old", "keep", 0),
    Case("issued", False, "old", "keep", 0),
    Case("issued", True, "old", "keep", 0),
    Case("paid", False, "old", "keep", 0),
    Case("paid", True, "old", "keep", 0),
    Case("void", False, None, "keep", 0),
    Case("void", True, None, "keep", 0),
    Case(None, False, "new", "add", 6964),
    Case("draft", False, "new", "issue", -100),
    Case("issued", False, "new", "revise", -100),
    Case("draft", False, None, "void", -7064),
    Case("issued", False, None, "void", -7064),
    Case("draft", True, "new", "frozen", -100),
    Case("issued", True, "new", "frozen", -100),
    Case("paid", False, "new", "frozen", -100),
    Case("paid", True, "new", "frozen", -100),
    Case("issued", True, None, "frozen", -7064),
    Case("paid", False, None, "frozen", -7064),
    Case("void", False, "old", "frozen", 7064),
    Case("void", False, "new", "frozen", 6964),
    Case("void", True, "old", "frozen", 7064),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{c.status}{'-pushed' * c.pushed}-to-{c.content}" for c in CASES])
def test_an_invoice_is_kept_added_revised_voided_or_left_frozen(case: Case) -> None:
    """Standing at 70.64 and now 69.64 is -1.00; a void one owes nothing, so 70.64 now is +70.64."""
    existing = [standing("a", case.status, case.pushed)] if case.status else []
    recomputed = [due("a", case.content)] if case.content else []
    assert rows(plan(existing, recomputed), "tenant_id", "action", "difference_cents") == [
        ("a", case.action, case.difference)
    ]


@pytest.mark.parametrize("content", ["old", "new", None])
@pytest.mark.parametrize("pushed", [True, False])
def test_an_invoice_that_an_operator_has_voided_needs_no_attention(content: str | None, pushed: bool) -> None:
    """Whatever it would bill now; unless the tenant is held back, which is said as of every invoice."""
    existing = [standing("a", "void", pushed, by_operator=True)]
    recomputed = [due("a", content)] if content else []
    assert rows(plan(existing, recomputed), "action") == [("keep",)]
    assert rows(plan(existing, recomputed, on_hold=["a"]), "action") == [("keep",)]
    assert rows(plan(existing, recomputed, held_back=["a"]), "action") == [("held_back",)]


ON_HOLD = [
    Case(None, False, "new", "draft", 6964),
    Case("draft", False, "old", "keep", 0),
    Case("draft", False, "new", "revise", -100),
    Case("draft", False, None, "void", -7064),
    Case("issued", False, "old", "keep", 0),
    Case("issued", False, "new", "on_hold", -100),
    Case("issued", False, None, "on_hold", -7064),
    Case("issued", True, "new", "frozen", -100),
    Case("paid", False, "new", "frozen", -100),
    Case("void", False, None, "keep", 0),
]


@pytest.mark.parametrize("case", ON_HOLD, ids=[f"{c.status}{'-pushed' * c.pushed}-to-{c.content}" for c in ON_HOLD])
def test_a_tenant_on_hold_gets_drafts_and_nothing_is_issued(case: Case) -> None:
    """What is issued already stays as it is, and is neither revised nor voided."""
    existing = [standing("a", case.status, case.pushed)] if case.status else []
    recomputed = [due("a", case.content)] if case.content else []
    assert rows(plan(existing, recomputed, on_hold=["a"]), "action", "difference_cents") == [
        (case.action, case.difference)
    ]


def test_what_replaces_content_is_marked() -> None:
    """A draft that is issued as it is, one that is issued anew, a revision; and what replaces nothing."""
    existing = [standing("a", "draft"), standing("b", "draft"), standing("c"), standing("d"), standing("e", "paid")]
    recomputed = [due("a"), due("b", "new"), due("c", "new"), due("e", "new"), due("f")]
    assert rows(plan(existing, recomputed), "tenant_id", "action", "replaces") == [
        ("a", "issue", False),
        ("b", "issue", True),
        ("c", "revise", True),
        ("d", "void", False),
        ("e", "frozen", False),
        ("f", "add", False),
    ]


@pytest.mark.parametrize(
    ("status", "pushed"),
    [("draft", False), ("issued", False), ("issued", True), ("paid", False), ("void", False)],
)
def test_the_invoice_of_a_tenant_held_back_is_left_alone(status: str, pushed: bool) -> None:
    """The tenant has a fault, so nothing is computed for it: its invoice is neither voided nor called frozen."""
    assert rows(plan([standing("a", status, pushed)], [], ["a"]), "tenant_id", "action", "status") == [
        ("a", "held_back", status)
    ]


def test_a_tenant_held_back_without_an_invoice_is_not_in_the_plan() -> None:
    """b has a fault and no invoice, so there is nothing to leave alone; a is added as if b were not there."""
    assert rows(plan([], [due("a")], ["b"]), "tenant_id", "action") == [("a", "add")]


def test_a_fault_of_one_tenant_changes_nothing_for_another() -> None:
    """a is held back; b goes from 70.64 to 69.64, c is gone, d is new."""
    existing = [standing("a"), standing("b"), standing("c")]
    assert rows(plan(existing, [due("d"), due("b", "new")], ["a"]), "tenant_id", "action") == [
        ("a", "held_back"),
        ("b", "revise"),
        ("c", "void"),
        ("d", "add"),
    ]


def test_the_table_of_cases_knows_every_action() -> None:
    """All but one are in the tables above, and that one is for tenants held back."""
    assert {case.action for case in [*CASES, *ON_HOLD]} | {"held_back"} == set(reconcile.ACTIONS)


def test_a_plan_names_both_totals_and_the_difference() -> None:
    """Every column of every action: what stands, what would be billed now, null where there is none."""
    existing = [standing("e", "void"), standing("d", "paid"), standing("c"), standing("b")]
    recomputed = [due("e", "new"), due("d", "new"), due("b", "new"), due("a")]
    data = plan(existing, recomputed)
    assert list(data) == [
        "id",
        "tenant_id",
        "action",
        "replaces",
        "restores",
        "status",
        "invoice_number",
        "standing_sha256",
        "standing_cents",
        "recomputed_cents",
        "difference_cents",
        "locked",
        "charges_cents",
    ]
    assert rows(data) == [
        ("a-id", "a", "add", False, False, None, None, None, None, 7064, 7064, False, 7064),
        ("b-id", "b", "revise", True, False, "issued", "INV-b", "old", 7064, 6964, -100, False, 6964),
        ("c-id", "c", "void", False, False, "issued", "INV-c", "old", 7064, None, -7064, False, 0),
        ("d-id", "d", "frozen", False, False, "paid", "INV-d", "old", 7064, 6964, -100, True, 6964),
        ("e-id", "e", "frozen", False, False, "void", "INV-e", "old", 0, 6964, 6964, True, 6964),
    ]


def test_the_same_total_of_other_content_is_revised() -> None:
    """Two droplets swapped their hours: 70.64 before and after, and yet another invoice."""
    now = ("a-id", "a", 7064, 0, 7064, 7064, "other", "lines", "{}")
    assert rows(plan([standing("a")], [now]), "action", "difference_cents") == [("revise", 0)]


def test_nothing_before_and_nothing_after_is_an_empty_plan() -> None:
    """An empty month, run for the first time or again, has no invoices to decide on, and the columns of any plan."""
    for empty in (plan(), plan(held_back=["a"])):
        assert len(empty) == 0
        assert list(empty.dtypes.items()) == list(plan([standing("a")], [due("b")]).dtypes.items())


def test_a_plan_has_texts_and_whole_cents() -> None:
    """Six columns of text around two flags, then 7064, 6964, -100, a flag and 6964, as columns of cents: no float."""
    types = [dtype.pyarrow_dtype for dtype in plan([standing("a")], [due("a", "new")]).dtypes]
    assert types == [pa.string()] * 3 + [pa.bool_()] * 2 + [pa.string()] * 3 + [pa.int64()] * 3 + [
        pa.bool_(),
        pa.int64(),
    ]


def test_every_standing_invoice_is_voided_when_nothing_is_to_be_billed() -> None:
    """Both of two go; 70.64 each."""
    assert rows(plan([standing("b"), standing("a")]), "tenant_id", "action", "difference_cents") == [
        ("a", "void", -7064),
        ("b", "void", -7064),
    ]


TENANTS = [f"t{number}" for number in range(6)]
contents = st.sampled_from(["old", "new"])


def carried_out(done: pd.DataFrame, existing: dict[str, Row], recomputed: dict[str, Row]) -> list[Row]:
    """The invoices after the plan, as the ledger leaves them."""
    after = dict(existing)
    for tenant, action, status in rows(done, "tenant_id", "action", "status"):
        if action in ("add", "draft", "revise", "issue"):
            becomes = {"draft": "draft", "revise": status}.get(action, "issued")
            after[tenant] = standing(tenant, becomes, content=str(recomputed[tenant][6]))
        elif action == "void":
            after[tenant] = standing(tenant, "void", content=str(existing[tenant][5]))
    return list(after.values())


some_tenants = st.sets(st.sampled_from(TENANTS))


@LAWS
@given(
    st.dictionaries(
        st.sampled_from(TENANTS),
        st.tuples(st.sampled_from(["draft", "issued", "paid", "void"]), st.booleans(), contents),
    ),
    st.dictionaries(st.sampled_from(TENANTS), contents),
    some_tenants,
    some_tenants,
)
def test_running_a_month_again_changes_nothing(
    before: dict[str, Any], now: dict[str, str], faulty: set[str], waiting: set[str]
) -> None:
    """Law: what was added, issued, revised, voided or kept is kept by the next run; what was left alone stays so."""
    existing = {tenant: standing(tenant, *invoiced) for tenant, invoiced in before.items()}
    recomputed = {tenant: due(tenant, content) for tenant, content in now.items() if tenant not in faulty}
    held = sorted(faulty), sorted(waiting)
    first = plan(list(existing.values()), list(recomputed.values()), *held)
    assert [tenant for (tenant,) in rows(first, "tenant_id")] == sorted(existing.keys() | recomputed.keys())
    second = plan(carried_out(first, existing, recomputed), list(recomputed.values()), *held)
    for (tenant, was, before_cents), (same, action, difference) in zip(
        rows(first, "tenant_id", "action", "difference_cents"),
        rows(second, "tenant_id", "action", "difference_cents"),
        strict=True,
    ):
        assert tenant == same
        if was in ("frozen", "on_hold", "held_back"):
            assert (action, difference) == (was, before_cents)
        else:
            assert (action, difference) == ("keep", 0)


def test_an_open_invoice_gets_the_lines_again_that_it_has_lost() -> None:
    """As they were, in the same revision; if they cannot be made again, as they are made now, in the next one."""
    tenants = {
        "held": "issued",
        "draft": "draft",
        "issued": "issued",
        "paid": "paid",
        "renamed": "issued",
        "whole": "issued",
    }
    existing, now = [standing(*tenant) for tenant in tenants.items()], [due(tenant) for tenant in tenants]
    lost = {"held": "lines", "draft": "lines", "issued": "lines", "paid": "lines", "renamed": "others"}
    found = plan(existing, now, on_hold=["held"], lost_lines=lost)
    assert rows(found, "tenant_id", "action", "replaces", "restores") == [
        ("draft", "issue", False, True),
        ("held", "revise", False, True),
        ("issued", "revise", False, True),
        ("paid", "keep", False, False),
        ("renamed", "revise", True, False),
        ("whole", "keep", False, False),
    ]


@LAWS
@given(st.permutations([standing(tenant) for tenant in TENANTS[:4]]), st.permutations([due(t) for t in TENANTS[2:]]))
def test_the_order_of_the_invoices_does_not_matter(existing: list[Row], recomputed: list[Row]) -> None:
    """Law: t0 and t1 are gone, t2 and t3 are the same, t4 and t5 are new, whoever is read first."""
    assert rows(plan(existing, recomputed), "tenant_id", "action") == [
        ("t0", "void"),
        ("t1", "void"),
        ("t2", "keep"),
        ("t3", "keep"),
        ("t4", "add"),
        ("t5", "add"),
    ]
