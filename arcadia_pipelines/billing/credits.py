"""What operators enter by hand: charges and credits of a tenant, and promotional credit that pays what is left.

Belongs here: the lines that they become. Does not: which month carries a manual line, and what is left of a grant
(storage/credits.py), corrections of earlier months (invoice.py).
"""

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import CENTS, ONE, TEXT, Column, exact, look_up, text, with_columns

_LINE_PRICE = pa.decimal128(27, 8)

MANUAL_LINES = pa.schema(
    [
        ("tenant_id", TEXT),
        ("manual_line", TEXT),  # its id
        ("period_start", TEXT),  # the month that it was entered for, by its first day
        ("entered_at", TEXT),  # sorts by time
        ("amount_cents", CENTS),  # ex GST; below 0 a credit
        ("description", TEXT),
    ]
)
"""One row per manual line that the month's invoices carry."""

GRANTS = pa.schema(
    [
        ("tenant_id", TEXT),
        ("grant_id", TEXT),
        ("expires_on", TEXT),  # null: never
        ("granted_at", TEXT),  # sorts by time
        ("description", TEXT),
        ("available_cents", CENTS),  # the most that the month's invoice may take
        ("left_cents", CENTS),  # what is left of the grant before it takes anything
        ("stood_cents", CENTS),  # what the invoice takes as it stands; null: nothing
        ("stood_left_cents", CENTS),  # and what it says is left after that; null: it does not say
    ]
)
"""One row per grant of promotional credit and tenant that may pay the month's invoice."""


def manual_lines(entered: pa.Table, taxed: Column) -> pa.Table:
    """One line per manual line (MANUAL_LINES), by month, time of entry and id; taxable if its tenant is in `taxed`."""
    order = ("tenant_id", "period_start", "entered_at", "manual_line")
    ordered = entered.sort_by([(name, "ascending") for name in order])
    kind = pc.if_else(pc.less(ordered["amount_cents"], 0), "credit", "adjustment")
    meta = text('{"manual_line": "', ordered["manual_line"], '", "period_start": "', ordered["period_start"], '"}')
    return _lines(ordered, kind, ordered["amount_cents"], meta, taxed)


def promotional(before: pa.Table, grants: pa.Table, taxed: Column) -> pa.Table:
    """One credit line per grant (GRANTS) that pays something of what the lines `before` it sum to.

    The soonest to expire pays first, then the oldest. None pays more than it may, and together they pay no more than
    there is to pay; nothing if that is not above 0. `before` has tenant_id and amount_cents, `taxed` is as above.
    """
    order = ("tenant_id", "expires_on", "granted_at", "grant_id")  # nulls come last
    ordered = _with_taken(before, grants.sort_by([(name, "ascending") for name in order]))
    ordered = ordered.filter(pc.greater(ordered["taken_cents"], 0))
    taken = ordered["taken_cents"]
    # An invoice that takes the same as before still says what was left when it was made.
    stands = pc.equal(taken, ordered["stood_cents"]).fill_null(False)
    said = pc.if_else(stands, ordered["stood_left_cents"], pa.scalar(None, CENTS))
    left = pc.coalesce(said, pc.subtract(ordered["left_cents"], taken))
    meta = text('{"left": ', left.cast(TEXT), ', "grant": "', ordered["grant_id"], '"}')
    return _lines(ordered, pa.repeat("credit", len(ordered)), pc.negate(taken), meta, taxed)


def _with_taken(before: pa.Table, ordered: pa.Table) -> pa.Table:
    """The grants in order with taken_cents: what each pays, after those in front of it have paid."""
    sums = before.group_by("tenant_id", use_threads=False).aggregate([("amount_cents", "sum")])
    keys = (ordered["tenant_id"], sums["tenant_id"])
    to_pay = look_up(ordered, sums, keys, "amount_cents_sum")["amount_cents_sum"].fill_null(0)
    to_pay = pc.max_element_wise(to_pay, 0)
    most = pc.min_element_wise(ordered["available_cents"], to_pay)
    in_front = pc.subtract(pc.cumulative_sum(most), most)  # of all tenants; less what is of the tenants before
    ordered = with_columns(ordered, in_front=in_front)
    firsts = ordered.group_by("tenant_id", use_threads=False).aggregate([("in_front", "min")])
    of_others = look_up(ordered, firsts, (ordered["tenant_id"], firsts["tenant_id"]), "in_front_min")["in_front_min"]
    unpaid = pc.subtract(to_pay, pc.subtract(in_front, of_others))
    return with_columns(ordered, taken_cents=pc.max_element_wise(pc.min_element_wise(most, unpaid), 0))


def _lines(rows: pa.Table, kind: Column, cents: Column, meta: Column, taxed: Column) -> pa.Table:
    """A line of this kind, amount and meta for each row, which has a tenant_id and a description."""
    return pa.table(
        {
            "tenant_id": rows["tenant_id"],
            "kind": kind,
            "description": text(pc.utf8_capitalize(kind), ": ", rows["description"]),
            "qty": pa.repeat(ONE, len(rows)),
            "unit_price_cents": exact(cents, _LINE_PRICE),
            "price_per": pa.repeat(ONE, len(rows)),
            "amount_cents": cents,
            "meta": meta,
            "taxable": pc.is_in(rows["tenant_id"], taxed),
        }
    )
