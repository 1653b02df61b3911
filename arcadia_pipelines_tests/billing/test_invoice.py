"""Invoices: which lines stand on them in which order, what they add up to, and what makes two of them the same."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing import invoice, quote
from arcadia_pipelines.billing.invoice import Carried
from arcadia_pipelines.billing.money import Row, frame, to_arrow, to_pandas
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines_tests.billing.columns import (
    APRIL,
    LAWS,
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
    tenants,
    use,
    values,
)

NONE = Carried()
PILOT_ID = "2e80d8db-5d9e-5a42-a8a4-917b8da5e2b9"


class Issued(NamedTuple):
    """A month's invoices."""

    lines: pd.DataFrame
    invoices: pd.DataFrame

    @property
    def sums(self) -> list[tuple[Any, ...]]:
        """Subtotal, tax and total of each."""
        return rows(self.invoices, "subtotal_cents", "tax_cents", "total_cents")

    @property
    def hashes(self) -> list[str]:
        """The content hash of each."""
        return values(self.invoices["content_sha256"])


def issue(
    month: Inputs, to: pd.DataFrame | None = None, of: BillingMonth = APRIL, adjustments: Sequence[Row] = ()
) -> Issued:
    """The month's invoices to these tenants, or to the pilot."""
    to = tenants("pilot") if to is None else to
    lines = invoice.tenant_lines(month.quote().lines, Carried(frame(invoice.ADJUSTMENTS, list(adjustments))), to, of)
    return Issued(lines, invoice.totals(lines, to, of))


# Lines


def test_the_pilots_invoice_says_what_the_design_says() -> None:
    """50.00 + 7.50 + 6.72 = 64.22, GST 6.422 is 6.42, total 70.64."""
    pilot = issue(PILOT)
    assert bill(pilot.lines) == [*PILOT_LINES, ("GST 10%", 642)]
    assert pilot.sums == [(6422, 642, 7064)]


def test_a_line_is_its_quote_line_with_an_id_and_a_place() -> None:
    """The pilot's overage and GST lines, whole: the tax line has no deployment and explains its 6.42 by 64.22."""
    overage, tax = rows(issue(PILOT).lines)[2:]
    why = '{"used": "2160.000000", "included": "1488.000000", "effective_from": "2026-01-01"}'
    assert overage == (
        *("2e80d8db-5d9e-5a42-a8a4-917b00000003", PILOT_ID, "id-web", "overage", "droplet_hours"),
        *("Overage: droplet_hours", Decimal(672), "hour", Decimal(1), Decimal(1), 672, why, 3, "web"),
    )
    assert tax == (
        *("2e80d8db-5d9e-5a42-a8a4-917b00000004", PILOT_ID, None, "tax", None),
        *(
            "GST 10%",
            Decimal(1),
            None,
            Decimal(642),
            Decimal(1),
            642,
            '{"rate": "0.10", "taxable_cents": 6422}',
            4,
            None,
        ),
    )


def test_lines_go_by_deployment_name_then_plan_addon_overage_then_tax() -> None:
    """api before web, whatever the order of their ids, and the one GST line of both last."""
    month = Inputs(
        [subscription("web", subscription_id="1"), subscription("api", subscription_id="2")],
        [addon("web", subscription_id="1"), addon("api", subscription_id="2")],
        [rate("gb", "0")],
        [use("web", "1", "gb", subscription_id="1"), use("api", "2", "gb", subscription_id="2")],
    )
    assert rows(issue(month).lines, "line_no", "deployment_name", "kind", "amount_cents") == [
        (1, "api", "plan_base", 5000),
        (2, "api", "addon", 750),
        (3, "api", "overage", 2),
        (4, "web", "plan_base", 5000),
        (5, "web", "addon", 750),
        (6, "web", "overage", 1),
        (7, None, "tax", 1150),
    ]


def test_a_deployment_that_changed_its_plan_has_both_plans_before_the_addons() -> None:
    """Two subscriptions of web in April: plan, plan, addon, addon, overage, overage, each pair by subscription."""
    first, second = dict[str, Any](subscription_id="1st"), dict[str, Any](subscription_id="2nd")
    month = Inputs(
        [subscription("web", plan="small", **second), subscription("web", plan="tiny", **first)],
        [addon("web", "a", **second), addon("web", "b", **first), addon("web", "c", **first)],
        [rate("gb", "0", plan="small"), rate("gb", "0", plan="tiny")],
        [use("web", "7", "gb", **second), use("web", "6", "gb", **first)],
    )
    assert bill(issue(month).lines) == [
        ("Plan: tiny", 5000),
        ("Plan: small", 5000),
        ("Addon: b", 750),
        ("Addon: c", 750),
        ("Addon: a", 750),
        ("Overage: gb", 6),
        ("Overage: gb", 7),
        ("GST 10%", 1226),
    ]


def test_two_deployments_of_one_name_are_not_mixed() -> None:
    """Both are called web: all lines of the deployment id-1 come before those of id-2."""
    month = Inputs(
        [
            subscription("2", deployment_name="web", subscription_id="a"),
            subscription("1", deployment_name="web", subscription_id="b"),
        ],
        [addon("2", subscription_id="a"), addon("1", subscription_id="b")],
    )
    assert rows(issue(month).lines, "deployment_id", "kind") == [
        ("id-1", "plan_base"),
        ("id-1", "addon"),
        ("id-2", "plan_base"),
        ("id-2", "addon"),
        (None, "tax"),
    ]


def test_each_tenant_has_one_invoice_with_its_own_deployments() -> None:
    """b has web and a has api and db: a's invoice has 3 lines with GST 10.00, b's has 2 with GST 5.00."""
    month = Inputs([subscription("web", "b"), subscription("db", "a"), subscription("api", "a")])
    issued = issue(month, tenants("b", "c", "a"))
    assert rows(issued.lines, "line_no", "deployment_name", "amount_cents") == [
        (1, "api", 5000),
        (2, "db", 5000),
        (3, None, 1000),
        (1, "web", 5000),
        (2, None, 500),
    ]
    assert rows(issued.invoices, "tenant_id", "subtotal_cents", "tax_cents", "total_cents", "meta") == [
        ("a", 10000, 1000, 11000, '{"tenant_name": "a"}'),
        ("b", 5000, 500, 5500, '{"tenant_name": "b"}'),
    ]
    ids = dict(rows(issued.invoices, "tenant_id", "id"))
    assert values(issued.lines["invoice_id"]) == [ids["a"]] * 3 + [ids["b"]] * 2


def test_a_tenant_that_is_gone_stops_the_invoices() -> None:
    """x and y are quoted and no tenants any more: x, the first of them, is named; the pilot has to wait too."""
    month = Inputs([subscription("a", "x"), subscription("b", "y")]).beside(PILOT)
    with pytest.raises(
        invoice.TenantMissing, match=r"^tenant x was quoted and is not in tenants: quote the month again$"
    ):
        issue(month)


@pytest.mark.parametrize(
    ("month", "to"),
    [
        pytest.param(Inputs(), tenants("pilot"), id="nothing to bill"),
        pytest.param(Inputs(), tenants(), id="no tenants either"),
    ],
)
def test_a_month_with_nothing_to_bill_has_no_invoices(month: Inputs, to: pd.DataFrame) -> None:
    """No lines, no invoices, and still their columns and types."""
    issued = issue(month, to)
    for data, schema in [(issued.lines, invoice.INVOICE_LINES), (issued.invoices, invoice.INVOICES)]:
        assert len(data) == 0
        assert [dtype.pyarrow_dtype for dtype in data.dtypes] == schema.types
        assert to_arrow(data, schema).schema == schema


def test_invoices_and_lines_have_the_columns_of_their_schemas() -> None:
    """A full month has the types that an empty one has."""
    issued = issue(PILOT)
    for data, schema in [(issued.lines, invoice.INVOICE_LINES), (issued.invoices, invoice.INVOICES)]:
        assert list(data) == schema.names
        assert [dtype.pyarrow_dtype for dtype in data.dtypes] == schema.types


# GST


def test_gst_is_rounded_once_per_invoice() -> None:
    """Two plans of 5 c: 10 % of 10 c is 1 c, though 0.5 c each would be rounded to 1 c twice."""
    month = Inputs([subscription("a", base_price_cents=5), subscription("b", base_price_cents=5)])
    assert issue(month).sums == [(10, 1, 11)]


def test_half_a_cent_of_gst_is_a_cent() -> None:
    """The Act's half cent: 22.45 has 2.245 of GST, so 2.25, and 24.70 in all."""
    assert issue(Inputs([subscription("web", base_price_cents=2245)])).sums == [(2245, 225, 2470)]


def test_a_gst_free_tenant_has_no_tax_line() -> None:
    """The pilot as a charity pays 64.22 and not a cent of tax."""
    charity = issue(PILOT, tenants("pilot", gst_free="charity"))
    assert bill(charity.lines) == PILOT_LINES
    assert charity.sums == [(6422, 0, 6422)]


def test_gst_free_and_taxed_tenants_stand_side_by_side() -> None:
    """a is taxed, 50.00 + 5.00; b is not, 50.00; c is, 50.00 + 5.00."""
    month = Inputs([subscription(name, name) for name in "abc"])
    to = pd.concat([tenants("a"), tenants("b", gst_free="export"), tenants("c")], ignore_index=True)
    issued = issue(month, to)
    assert issued.sums == [(5000, 500, 5500), (5000, 0, 5000), (5000, 500, 5500)]
    assert rows(issued.lines, "line_no", "kind") == [
        (1, "plan_base"),
        (2, "tax"),
        (1, "plan_base"),
        (1, "plan_base"),
        (2, "tax"),
    ]


def test_an_invoice_of_zero_has_its_tax_line_at_zero() -> None:
    """A free plan: 0.00, GST 0.00, total 0.00 - and an invoice that says so."""
    issued = issue(Inputs([subscription("web", base_price_cents=0)]))
    assert bill(issued.lines) == [("Plan: studio", 0), ("GST 10%", 0)]
    assert issued.sums == [(0, 0, 0)]


def test_the_largest_invoice_fits_64_bits_with_its_gst() -> None:
    """7999 + 7,999,999,999,999,992,000 = 8e18 - 1; a tenth is 799,999,999,999,999,999.9, so 8e17; 8.8e18 - 1 in all."""
    month = Inputs(
        [subscription("web", base_price_cents=7999)],
        [],
        [rate("hours", "0", "8000000000")],
        [use("web", "999999999.999999", "hours")],
    )
    assert issue(month).sums == [(7999999999999999999, 800000000000000000, 8799999999999999999)]


# Ids


def test_ids_are_the_same_on_every_run_and_no_two_are_alike() -> None:
    """The pilot's id of April is pinned: another one would add a second invoice to every month ever issued."""
    assert values(issue(PILOT).invoices["id"]) == [PILOT_ID]
    month = Inputs([subscription(name, name) for name in ("a", "b", "ü")])
    of_months = [issue(month, tenants("a", "b", "ü"), BillingMonth.parse(text)) for text in ("2026-04", "2026-05")]
    ids = [invoice_id for issued in of_months for invoice_id in values(issued.invoices["id"])]
    line_ids = [line_id for issued in of_months for line_id in values(issued.lines["id"])]
    assert (len(ids), len(set(ids))) == (6, 6)
    assert (len(line_ids), len(set(line_ids))) == (12, 12)


@LAWS
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True))
def test_an_id_is_the_uuid_of_tenant_and_month(names: list[str]) -> None:
    """Law: the same answer from Python's uuid5, for tenants of any name."""
    namespace = uuid.UUID("6d0a3c0e-2c6b-5f0b-9a52-8a8d3f2f7a11")
    adjustments = frame(invoice.ADJUSTMENTS, [(name, "2026-03-01", "INV-202603-00001", 1, True) for name in names])
    lines = invoice.tenant_lines(frame(quote.QUOTE_LINES), Carried(adjustments), tenants(*names), APRIL)
    ids = dict(rows(invoice.totals(lines, tenants(*names), APRIL), "tenant_id", "id"))
    assert ids == {name: str(uuid.uuid5(namespace, f"{name}/2026-04-01")) for name in names}


def test_an_id_does_not_depend_on_who_else_is_billed() -> None:
    """The pilot between a and z, where it comes second, has the id that it has alone."""
    month = PILOT.beside(Inputs([subscription("y", "a"), subscription("z", "z")]))
    assert dict(rows(issue(month, tenants("z", "pilot", "a")).invoices, "tenant_id", "id"))["pilot"] == PILOT_ID


def test_a_lines_id_is_its_invoices_id_with_the_lines_number() -> None:
    """Of 12 lines with GST the last has 8 digits 00000012 after the invoice's first 24."""
    month = Inputs([subscription("web")], [addon("web", f"{number:02}") for number in range(10)])
    ids = values(issue(month).lines["id"])
    assert len(ids) == len(set(ids)) == 12
    assert (ids[0], ids[8]) == ("2e80d8db-5d9e-5a42-a8a4-917b00000001", "2e80d8db-5d9e-5a42-a8a4-917b00000009")
    assert (ids[9], ids[11]) == ("2e80d8db-5d9e-5a42-a8a4-917b00000010", "2e80d8db-5d9e-5a42-a8a4-917b00000012")


# The content hash


REQUESTS = Inputs(
    [subscription("web")], [], [rate("requests", "0", "0.00000074")], [use("web", "0.000003", "requests")]
)


@pytest.mark.parametrize(
    ("month", "gst_free", "content_sha256"),
    [
        pytest.param(PILOT, None, "1b0a2310e9340a9641eba0e78e2dc1fd570ce1a79beea31ad4d1d2e6eccb3cbc", id="pilot"),
        pytest.param(
            PILOT, "charity", "83a9451e85c817bc45f821326f3343f9ce40cf3cba5279b48697e61212efb266", id="GST-free pilot"
        ),
        pytest.param(
            REQUESTS, None, "04e4b9b7b8bd75b5e39d262c4c27242988c38a98b7339f35338a72b0c2e2cc9d", id="tiny decimals"
        ),
    ],
)
def test_the_content_hash_of_a_known_invoice_never_changes(
    month: Inputs, gst_free: str | None, content_sha256: str
) -> None:
    """Golden values: a change of one would revise every invoice ever issued, when its month is run again."""
    assert issue(month, tenants("pilot", gst_free=gst_free)).hashes == [content_sha256]


def test_the_hash_of_the_lines_of_a_known_invoice_never_changes() -> None:
    """Of each line, between 0x1f: number, kind, digits of quantity and price, cents, meta, lengths, and the texts."""
    since = '{"effective_from": "2026-01-01"}'
    of_overage = '{"used": "2160.000000", "included": "1488.000000", "effective_from": "2026-01-01"}'
    lines = [
        ("1", "plan_base", "1000000", "500000000000", "5000", since, "", "12", "5", "3", "Plan: studiomonthweb"),
        ("2", "addon", "1000000", "75000000000", "750", since, "", "19", "5", "3", "Addon: storage_50gbmonthweb"),
        ("3", "overage", "672000000", "100000000", "672", of_overage, "13", "22", "4", "3",
         "droplet_hoursOverage: droplet_hourshourweb"),
        ("4", "tax", "1000000", "64200000000", "642", '{"rate": "0.10", "taxable_cents": 6422}', "", "7", "", "",
         "GST 10%"),
    ]  # fmt: skip
    expected = hashlib.sha256("\x1e".join("\x1f".join(line) for line in lines).encode()).hexdigest()
    assert values(issue(PILOT).invoices["lines_sha256"]) == [expected]


def test_the_hash_of_lines_says_what_a_price_is_for_only_where_that_is_not_one() -> None:
    """15 of 30 days of 50.00 are 25.00; an hour at 1 c reads as it always did, and so the tax on 25.01, 2.50."""
    month = Inputs([subscription("web", daily=True, first_day=16)], [], [rate(included="0")], [use("web", "1")])
    since = '"effective_from": "2026-01-01"'
    lines = [
        ("1", "plan_base", "15000000", "500000000000", "2500", f'{{"days": "15 of 30", {since}}}', "", "12", "3", "3",
         "Plan: studiodayweb", "30000000"),
        ("2", "overage", "1000000", "100000000", "1",
         f'{{"days": "15 of 30", "used": "1.000000", "included": "0.000000", {since}}}', "13", "22", "4", "3",
         "droplet_hoursOverage: droplet_hourshourweb"),
        ("3", "tax", "1000000", "25000000000", "250", '{"rate": "0.10", "taxable_cents": 2501}', "", "7", "", "",
         "GST 10%"),
    ]  # fmt: skip
    expected = hashlib.sha256("\x1e".join("\x1f".join(line) for line in lines).encode()).hexdigest()
    assert values(issue(month).invoices["lines_sha256"]) == [expected]


def rehashed(lines: list[dict[str, Any]]) -> str:
    """The content hash of the pilot's invoice with these lines."""
    data = frame(invoice.INVOICE_LINES, [tuple(line.values()) for line in lines])
    (content_hash,) = values(invoice.totals(data, tenants("pilot"), APRIL)["content_sha256"])
    return str(content_hash)


@pytest.fixture
def pilot_lines() -> list[dict[str, Any]]:
    """The pilot's lines, to be tampered with: plan, addon, overage, tax."""
    return [dict(line) for line in to_arrow(issue(PILOT).lines, invoice.INVOICE_LINES).to_pylist()]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("deployment_id", "id-db"),
        ("deployment_id", None),
        ("kind", "addon"),
        ("resource_kind", "gb"),
        ("resource_kind", None),
        ("resource_kind", ""),
        ("description", "Overage: Droplet_hours"),
        ("qty", Decimal("672.000001")),
        ("unit", "hours"),
        ("unit_price_cents", Decimal("1.00000001")),
        ("price_per", Decimal(30)),
        ("amount_cents", 673),
        ("meta", '{"used": "2161.000000", "included": "1489.000000", "effective_from": "2026-01-01"}'),
        ("meta", None),
    ],
)
def test_the_hash_changes_with_what_a_line_bills(pilot_lines: list[dict[str, Any]], column: str, value: object) -> None:
    """Another hour, cent, letter or deployment on one line of four is another invoice."""
    before = rehashed(pilot_lines)
    pilot_lines[2][column] = value
    assert rehashed(pilot_lines) != before


@pytest.mark.parametrize(
    ("column", "value"),
    [("id", "other"), ("line_no", 9), ("deployment_name", "renamed")],
)
def test_the_hash_does_not_change_with_where_a_line_stands(
    pilot_lines: list[dict[str, Any]], column: str, value: object
) -> None:
    """An id, a place and a deployment's name bill nothing."""
    before = rehashed(pilot_lines)
    pilot_lines[2][column] = value
    assert rehashed(pilot_lines) == before


def test_a_missing_text_is_not_an_empty_text(pilot_lines: list[dict[str, Any]]) -> None:
    """The plan line without a resource kind, and with one of no letters, are two contents."""
    before = rehashed(pilot_lines)
    pilot_lines[0]["resource_kind"] = ""
    assert rehashed(pilot_lines) != before


def test_text_cannot_move_from_one_column_to_the_next(pilot_lines: list[dict[str, Any]]) -> None:
    """A kind `addon` of nothing and a kind `add` of `on` are two contents, though the letters are the same."""
    pilot_lines[0] |= {"kind": "addon", "resource_kind": ""}
    before = rehashed(pilot_lines)
    pilot_lines[0] |= {"kind": "add", "resource_kind": "on"}
    assert rehashed(pilot_lines) != before


def test_a_line_twice_is_not_a_line_once(pilot_lines: list[dict[str, Any]]) -> None:
    """Two storage addons of 7.50 are another invoice than one."""
    assert rehashed([*pilot_lines, pilot_lines[1]]) != rehashed(pilot_lines)


def test_a_renamed_deployment_bills_the_same() -> None:
    """web becomes zebra and changes places with xray: the lines' order changes, the content does not."""
    before, after = (
        issue(Inputs([subscription("web", deployment_name=name), subscription("xray", plan="small")]))
        for name in ("web", "zebra")
    )
    assert values(before.lines["description"]) == ["Plan: studio", "Plan: small", "GST 10%"]
    assert values(after.lines["description"]) == ["Plan: small", "Plan: studio", "GST 10%"]
    assert before.hashes == after.hashes


def test_tenant_month_and_reason_are_part_of_the_content() -> None:
    """The same lines at 0 for another tenant, another month, or free of GST for either of two reasons: all differ."""
    month = Inputs([subscription("web", base_price_cents=0)])
    other = Inputs([subscription("web", "other", base_price_cents=0)])
    contents = [
        issue(month),
        issue(other, tenants("other")),
        issue(month, of=BillingMonth.parse("2026-05")),
        issue(month, tenants("pilot", gst_free="charity")),
        issue(month, tenants("pilot", gst_free="export")),
    ]
    assert len({issued.hashes[0] for issued in contents}) == 5


def test_the_reason_itself_is_part_of_the_content(pilot_lines: list[dict[str, Any]]) -> None:
    """The same three lines, free of GST as a charity or as an export, are two contents."""
    data = frame(invoice.INVOICE_LINES, [tuple(line.values()) for line in pilot_lines[:3]])
    reasons = [
        values(invoice.totals(data, tenants("pilot", gst_free=why), APRIL)["content_sha256"])
        for why in (None, "charity", "export")
    ]
    assert reasons[0] != reasons[1] != reasons[2] != reasons[0]


def test_a_tenants_name_is_not_part_of_the_content() -> None:
    """A tenant that is renamed owes what it owed."""
    renamed = frame(invoice.TENANTS, [("pilot", None, '{"tenant_name": "Pilot Pty Ltd"}')])
    assert issue(PILOT, renamed).hashes == issue(PILOT).hashes


def test_columns_may_come_in_pieces_or_be_cut_from_longer_ones() -> None:
    """a and the pilot: the pilot's four lines, cut out of six and put together again, have the hash of the whole."""
    both = issue(Inputs([subscription("api", "a")]).beside(PILOT), tenants("a", "pilot"))
    cut = both.lines.iloc[2:]
    pieces = pd.concat([both.lines.iloc[place : place + 1] for place in (5, 2, 4, 3)])
    for lines in (cut, pieces):
        again = invoice.totals(lines, tenants("pilot"), APRIL)
        assert rows(again) == rows(both.invoices)[1:]
        assert values(again["content_sha256"]) == issue(PILOT).hashes
        assert values(again["lines_sha256"]) == values(issue(PILOT).invoices["lines_sha256"])


def test_columns_may_have_no_piece_at_all() -> None:
    """As those of an empty table may: no lines, no invoices."""
    nothing = pa.table([pa.chunked_array([], field.type) for field in invoice.INVOICE_LINES], invoice.INVOICE_LINES)
    assert rows(invoice.totals(to_pandas(nothing), tenants("pilot"), APRIL)) == []


# Corrections of earlier months

FEBRUARY, MARCH = (("pilot", f"2026-0{number}-01", f"INV-20260{number}-00001") for number in (2, 3))


def test_what_some_tenants_carry_is_a_part_of_what_all_do() -> None:
    """Two of three tenants have a correction each; of two that are asked for, one has one."""
    of: list[Row] = [(tenant, "2026-03-01", "INV-1", 100, True) for tenant in ("yoyo", "acme")]
    carried = Carried(frame(invoice.ADJUSTMENTS, of))
    assert carried.tenants == ["acme", "yoyo"]
    assert carried.of(pd.Series(["acme", "pilot"])).tenants == ["acme"]


def test_a_correction_is_a_line_before_the_tax_and_is_taxed() -> None:
    """64.22 + 1.00 of March - 0.55 of February = 64.67, GST 6.467 is 6.47, total 71.14; the older month first."""
    pilot = issue(PILOT, adjustments=[(*MARCH, 100, True), (*FEBRUARY, -55, True)])
    assert bill(pilot.lines) == [
        *PILOT_LINES,
        ("Credit: 2026-02, INV-202602-00001", -55),
        ("Adjustment: 2026-03, INV-202603-00001", 100),
        ("GST 10%", 647),
    ]
    assert pilot.sums == [(6467, 647, 7114)]
    assert rows(pilot.lines)[3] == (
        *("2e80d8db-5d9e-5a42-a8a4-917b00000004", PILOT_ID, None, "credit", None),
        *("Credit: 2026-02, INV-202602-00001", Decimal(1), None, Decimal(-55), Decimal(1), -55),
        *('{"corrects": "2026-02-01", "invoice_number": "INV-202602-00001"}', 4, None),
    )


def test_a_correction_alone_makes_an_invoice_also_one_below_zero() -> None:
    """Nothing is quoted any more, and 10.05 are owed back: GST -1.005 is -1.01, away from zero, total -11.06."""
    alone = issue(Inputs(), adjustments=[(*MARCH, -1005, True)])
    assert bill(alone.lines) == [("Credit: 2026-03, INV-202603-00001", -1005), ("GST 10%", -101)]
    assert alone.sums == [(-1005, -101, -1106)]


@pytest.mark.parametrize(
    ("cents", "kind", "description"),
    [
        (1, "adjustment", "Adjustment: 2026-03, INV-202603-00001"),
        (-1, "credit", "Credit: 2026-03, INV-202603-00001"),
    ],
)
def test_a_cent_to_pay_is_an_adjustment_and_a_cent_back_a_credit(cents: int, kind: str, description: str) -> None:
    """The kind as the contract has it, in small letters; a tenth of a cent of GST is none."""
    lines = issue(Inputs(), adjustments=[(*MARCH, cents, True)]).lines
    assert rows(lines, "kind", "description", "amount_cents") == [(kind, description, cents), ("tax", "GST 10%", 0)]


CORRECTS = '"corrects": "2026-03-01", "invoice_number": "INV-202603-00001"}'


@pytest.mark.parametrize(
    ("gst_free", "adjustments", "taxable", "tax"),
    [
        pytest.param(None, [(*MARCH, 1000, False)], 5000, 500, id="was free"),
        pytest.param(None, [(*MARCH, -5000, False)], 5000, 500, id="was free, and is all given back"),
        pytest.param(None, [(*MARCH, 1000, False), (*FEBRUARY, -55, True)], 4945, 495, id="one of either kind"),
        pytest.param("export", [(*MARCH, -100, True)], -100, -10, id="was taxed"),
        pytest.param("export", [(*MARCH, -5, True)], -5, -1, id="half a cent back"),
        pytest.param("export", [(*MARCH, -4, True)], -4, 0, id="less than half a cent back"),
        pytest.param("export", [(*FEBRUARY, -3, True), (*MARCH, -2, True)], -5, -1, id="rounded once"),
        pytest.param("export", [(*MARCH, 100, True), (*FEBRUARY, -100, True)], 0, 0, id="nothing on balance"),
    ],
)
def test_a_correction_is_taxed_as_what_it_corrects_was(
    gst_free: str | None, adjustments: list[Row], taxable: int, tax: int
) -> None:
    """A plan of 50.00, taxed or not, and corrections of months that were taxed or not: GST on what was and is taxed."""
    issued = issue(Inputs([subscription("web")]), tenants("pilot", gst_free=gst_free), adjustments=adjustments)
    *before_tax, last = rows(issued.lines, "kind", "amount_cents", "meta")
    assert last == ("tax", tax, f'{{"rate": "0.10", "taxable_cents": {taxable}}}')
    assert "tax" not in {kind for kind, _, _ in before_tax}
    subtotal = sum(cents for _, cents, _ in before_tax)
    assert issued.sums == [(subtotal, tax, subtotal + tax)]


def test_a_correction_says_whether_it_is_taxed_where_the_rest_is_not_as_it() -> None:
    """Of a month that was free of GST on a taxed invoice, and the other way round; else its meta is as ever."""
    of_either = [(*MARCH, 100, False), (*MARCH, -100, True)]
    taxed = issue(Inputs([subscription("web")]), adjustments=of_either)
    free = issue(Inputs([subscription("web")]), tenants("pilot", gst_free="export"), adjustments=of_either)
    assert values(taxed.lines["meta"])[1:3] == ['{"taxable": false, ' + CORRECTS, "{" + CORRECTS]
    assert values(free.lines["meta"])[1:3] == ["{" + CORRECTS, '{"taxable": true, ' + CORRECTS]
    assert taxed.sums == [(5000, 490, 5490)]
    assert free.sums == [(5000, -10, 4990)]


@pytest.mark.parametrize(
    ("number", "spelled"),
    [
        ('MAN"7', r'"MAN\"7"'),
        (r"MAN\7", r'"MAN\\7"'),
        ("MAN\b\t\n\f\r7", r'"MAN\b\t\n\f\r7"'),
        ("MAN\x01\x1f\x7f7", r'"MAN\u0001\u001f' + '\x7f7"'),
        ('", "x": "', r'"\", \"x\": \""'),
        ("Nº 7, 請求書 🧾", '"Nº 7, 請求書 🧾"'),
        ("", '""'),
    ],
)
def test_a_number_of_another_system_is_spelled_in_json_as_postgresql_spells_it(number: str, spelled: str) -> None:
    """What escape_json() escapes: the quote, the backslash and what is before the space; nothing else."""
    lines = issue(PILOT, adjustments=[("pilot", "2026-03-01", number, 100, True)]).lines
    [(meta,)] = [(meta,) for kind, meta in rows(lines, "kind", "meta") if kind == "adjustment"]
    assert meta == '{"corrects": "2026-03-01", "invoice_number": ' + spelled + "}"
    assert json.loads(meta)["invoice_number"] == number


def test_a_taxed_tenant_with_nothing_but_a_correction_of_a_free_month_has_its_tax_line_at_zero() -> None:
    """10.00 more for a month without GST."""
    alone = issue(Inputs(), adjustments=[(*MARCH, 1000, False)])
    assert bill(alone.lines) == [("Adjustment: 2026-03, INV-202603-00001", 1000), ("GST 10%", 0)]
    assert alone.sums == [(1000, 0, 1000)]


def test_a_gst_free_tenants_correction_of_a_free_month_is_not_taxed() -> None:
    """1.00 and no GST."""
    alone = issue(Inputs(), tenants("pilot", gst_free="charity"), adjustments=[(*MARCH, 100, False)])
    assert (bill(alone.lines), alone.sums) == ([("Adjustment: 2026-03, INV-202603-00001", 100)], [(100, 0, 100)])


def test_the_order_of_the_corrections_does_not_matter() -> None:
    """The same lines, and the same content hash."""
    one = issue(PILOT, adjustments=[(*MARCH, 1, True), (*FEBRUARY, 2, True)])
    other = issue(PILOT, adjustments=[(*FEBRUARY, 2, True), (*MARCH, 1, True)])
    assert rows(one.lines) == rows(other.lines)
    assert one.hashes == other.hashes != issue(PILOT).hashes


# Laws

EVERYBODY = pd.concat([tenants("t4", "t0", "t2"), tenants("t1", "t3", gst_free="charity")], ignore_index=True)


@PRICED_LAWS
@given(months(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(month: Inputs, random: Any) -> None:
    """Law: the same invoices and lines, in the same order, from shuffled lines and tenants."""
    lines = month.quote().lines
    to = invoice.tenant_lines(lines, NONE, EVERYBODY, APRIL)
    order, other = (random.sample(range(len(data)), len(data)) for data in (lines, to))
    shuffled = invoice.tenant_lines(lines.iloc[order], NONE, EVERYBODY.iloc[::-1], APRIL)
    assert rows(shuffled) == rows(to)
    invoices = invoice.totals(to, EVERYBODY, APRIL)
    assert rows(invoice.totals(to.iloc[other], EVERYBODY.iloc[::-1], APRIL)) == rows(invoices)


@PRICED_LAWS
@given(months())
def test_an_invoice_is_the_sum_of_its_lines(month: Inputs) -> None:
    """Law: subtotal = what was quoted, tax = a tenth of it, half a cent up, total = both; lines are numbered from 1."""
    quoted = month.quote().lines
    everybodys = invoice.tenant_lines(quoted, NONE, EVERYBODY, APRIL)
    issued = Issued(everybodys, invoice.totals(everybodys, EVERYBODY, APRIL))
    assert values(issued.invoices["tenant_id"]) == sorted(set(values(quoted["tenant_id"])))
    for invoice_id, tenant, subtotal, tax, total in rows(
        issued.invoices, "id", "tenant_id", "subtotal_cents", "tax_cents", "total_cents"
    ):
        lines = rows(issued.lines[issued.lines["invoice_id"] == invoice_id], "line_no", "kind", "amount_cents")
        assert [number for number, _, _ in lines] == list(range(1, len(lines) + 1))
        assert total == sum(amount for _, _, amount in lines) == subtotal + tax
        assert subtotal == sum(values(quoted[quoted["tenant_id"] == tenant]["amount_cents"]))
        if tenant in ("t1", "t3"):
            assert tax == 0
            assert "tax" not in {kind for _, kind, _ in lines}
        else:
            assert tax == (Decimal(subtotal) / 10).quantize(Decimal(1), ROUND_HALF_UP)
            assert [kind for _, kind, _ in lines].index("tax") == len(lines) - 1
