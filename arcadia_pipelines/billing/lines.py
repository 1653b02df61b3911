"""Lines of a quote: whose they are, what they cost, and what they say of themselves.

Belongs here: what plan, addon and overage lines have in common. Does not: which lines there are (quote.py, overage.py).
"""

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import proration
from arcadia_pipelines.billing.money import ONE, TEXT, Column, divided, round_half_up, text, with_columns


def of(rows: pa.Table, kind: str, **columns: Column) -> pa.Table:
    """A line of this kind and these columns for each row, with whose it is."""
    whose = rows.select(["place", "subscription_id", "deployment_id", "tenant_id", "deployment_name"])
    price_per = columns.pop("price_per", pa.repeat(ONE, len(rows)))
    return with_columns(whose, kind=pa.repeat(kind, len(rows)), price_per=price_per, **columns)


def priced(unpriced: pa.Table) -> pa.Table:
    """Each line's amount: quantity x unit price / price_per, rounded once. Still a decimal: it may be past 64 bits."""
    exact_cents = pc.multiply(unpriced["qty"], unpriced["unit_price_cents"])
    if not pc.all(pc.equal(unpriced["price_per"], ONE)).as_py():
        exact_cents = divided(exact_cents, unpriced["price_per"])
    return with_columns(unpriced, amount_cents=round_half_up(exact_cents))


def price_meta(rows: pa.Table, **values: Column) -> Column:
    """As _meta(), with the days of a part month; a tenant's own price says that it is."""
    own = only(rows["own_price"], "tenant")
    return _meta(**values, days=proration.days_of_days(rows), price_of=own)


def only(where: Column, values: Column | str) -> Column:
    """The values, or the value, where that holds; else null."""
    return pc.if_else(where, values, pa.scalar(None, TEXT))


def _meta(**values: Column) -> Column:
    """A JSON object per row, spelled as PostgreSQL spells jsonb (shorter keys first), without keys whose value is null.

    The values are numbers, dates and words of ours, which have nothing that JSON escapes; others need json_text().
    """
    members = [
        text('"', key, '": "', column, '"')
        for key, column in sorted(values.items(), key=lambda value: (len(value[0]), value[0]))
        if not len(column) or column.null_count < len(column)
    ]
    joined = pc.binary_join_element_wise(*members, ", ", null_handling="skip")
    return text("{", joined, "}")
