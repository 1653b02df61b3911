"""GST: 10 %, half a cent up."""

from decimal import ROUND_HALF_UP, Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcadia_pipelines.billing import gst
from arcadia_pipelines_tests.billing.columns import LAWS

TAXABLE = pa.decimal128(19, 0)


def gst_on(*taxable_cents: int) -> list[Decimal]:
    """GST in cents on each of these."""
    taxable = pa.array([Decimal(cents) for cents in taxable_cents], TAXABLE)
    return list(gst.gst(taxable).to_pylist())


@pytest.mark.parametrize(
    ("taxable", "tax"),
    [
        pytest.param(0, 0, id="nothing"),
        pytest.param(1, 0, id="a tenth of a cent"),
        pytest.param(4, 0, id="under half a cent"),
        pytest.param(5, 1, id="half a cent"),
        pytest.param(14, 1, id="1.4 cents"),
        pytest.param(15, 2, id="1.5 cents"),
        pytest.param(25, 3, id="2.5 cents, which a banker makes 2"),
        pytest.param(2245, 225, id="22.45: the Act's half a cent"),
        pytest.param(6422, 642, id="the pilot"),
        pytest.param(6425, 643, id="64.25"),
        pytest.param(-4, 0, id="a credit under half a cent"),
        pytest.param(-5, -1, id="a credit of half a cent"),
        pytest.param(-2245, -225, id="a credit of 22.45"),
        pytest.param(7999999999999999994, 799999999999999999, id="the largest, down"),
        pytest.param(7999999999999999995, 800000000000000000, id="the largest, up"),
    ],
)
def test_gst_is_a_tenth_with_half_a_cent_rounded_up(taxable: int, tax: int) -> None:
    """10 % of 22.45 is 2.245, so 2.25; of 64.22 is 6.422, so 6.42; a credit takes back what it gave."""
    assert gst_on(taxable) == [tax]


def test_each_invoice_is_rounded_by_itself() -> None:
    """5, 5 and 4 cents have 1, 1 and 0 cents of GST, not the 1.4 of their sum; no invoices have none."""
    assert gst_on(5, 5, 4) == [1, 1, 0]
    assert gst_on() == []


@LAWS
@given(st.lists(st.integers(-8 * 10**18, 8 * 10**18)))
def test_gst_is_what_pythons_decimal_makes_of_a_tenth(taxable: list[int]) -> None:
    """The same answer from another implementation, to the end of 64 bits."""
    assert gst_on(*taxable) == [(Decimal(cents) / 10).quantize(Decimal(1), ROUND_HALF_UP) for cents in taxable]
