"""GST: goods and services tax, 10 % of the taxable amount."""

from decimal import Decimal

import pyarrow.compute as pc

from arcadia_pipelines.billing.money import Column, round_half_up

RATE = Decimal("0.10")
DESCRIPTION = "GST 10%"


def gst(taxable_cents: Column) -> Column:
    """GST in cents on each invoice's taxable cents, as decimals: rounded once per invoice, half a cent upwards.

    The lines of an invoice are whole cents, so 10 % of their sum is the sum of their unrounded GST, which is what is to
    be rounded (A New Tax System (Goods and Services Tax) Act 1999, s 9-90(2)(a)). For a negative sum half a cent goes
    away from zero, so that a credit reverses exactly what it credits.
    """
    return round_half_up(pc.multiply(taxable_cents, RATE))
