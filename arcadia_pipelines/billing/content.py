"""What invoices bill, as texts and hashes: equal for invoices that bill the same, and for no others.

Belongs here: which columns count, and how each is spelled, which no change may alter. Does not: sums (invoice.py).
"""

import hashlib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing.money import ONE, TEXT, WHOLE, Column, text
from arcadia_pipelines.billing.month import BillingMonth


def billed(lines: pa.Table) -> Column:
    """What each line bills, as a text.

    Without the deployment's name and the line's place, which follows from it: a renamed deployment bills the same.
    """
    fields = [
        lines["deployment_id"],
        lines["kind"],
        lines["resource_kind"],
        lines["description"],
        _digits(lines["qty"]),
        lines["unit"],
        _digits(lines["unit_price_cents"]),
        lines["amount_cents"].cast(TEXT),
        lines["meta"],
    ]
    joined = pc.binary_join_element_wise(*fields, "\x1f", null_handling="replace", null_replacement="\x00")
    return text(joined, _divisor(lines))


def as_read(lines: pa.Table) -> Column:
    """Each line whole, as a reader sees it: one text that no other line has, as SQL's billing.line_text() has it.

    How long they are keeps texts apart that could hold anything.
    """
    texts = [lines[name] for name in ("resource_kind", "description", "unit", "deployment_name")]
    fields = [
        lines["line_no"].cast(TEXT),
        lines["kind"],
        _digits(lines["qty"]),
        _digits(lines["unit_price_cents"]),
        lines["amount_cents"].cast(TEXT),
        lines["meta"],
        *(pc.utf8_length(column).cast(TEXT) for column in texts),
        text(*(column.fill_null("") for column in texts)),
    ]
    joined = pc.binary_join_element_wise(*fields, "\x1f", null_handling="replace", null_replacement="")
    return text(joined, _divisor(lines))


def _divisor(lines: pa.Table) -> Column | str:
    """How each line ends that has another price_per than 1: what was billed before there were any reads as it did."""
    is_one = pc.equal(lines["price_per"], ONE)
    return "" if pc.all(is_one).as_py() else pc.if_else(is_one, "", text("\x1f", _digits(lines["price_per"])))


def hashes(invoices: pa.Table, month: BillingMonth) -> Column:
    """SHA-256 of what each invoice bills to whom."""
    reason = invoices["gst_free_reason"].fill_null("")
    heads = text(invoices["tenant_id"], f"\x1f{month.key}\x1fAUD\x1f", reason, "\x1e")
    parts = zip(*(column.cast(pa.binary()).to_pylist() for column in (heads, invoices["content"])), strict=True)
    return _sha256(head + content for head, content in parts)


def line_hashes(invoices: pa.Table) -> Column:
    """SHA-256 of the lines of each invoice as they are read."""
    return _sha256(invoices["lines"].cast(pa.binary()).to_pylist())


def _sha256(texts: Iterable[bytes]) -> Column:
    return pa.array([hashlib.sha256(one).hexdigest() for one in texts], TEXT)


def _digits(column: Column) -> Column:
    """Decimals' digits without the point: one spelling per value, where Arrow's own text has 7.4E-7 beside 0.744."""
    return column.combine_chunks().view(WHOLE).cast(TEXT)
