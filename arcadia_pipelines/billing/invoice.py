"""Invoices from quote lines: their order, their GST line, their totals.

Belongs here: what stands on an invoice. Does not: what a deployment costs (quote.py), an invoice's hashes (content.py),
what becomes of one that exists already (reconcile.py), numbers and dates (storage/publication.py).
"""

import hashlib
import uuid
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import content, credits, faults, gst
from arcadia_pipelines.billing.commitments import COMMITMENTS, commitment_lines
from arcadia_pipelines.billing.credits import GRANTS, MANUAL_LINES
from arcadia_pipelines.billing.discounts import DISCOUNTS, discount_lines
from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    FLAG,
    ONE,
    QUANTITY,
    TEXT,
    Column,
    Series,
    exact,
    frame,
    json_text,
    look_up,
    numbers_within,
    text,
    to_arrow,
    to_pandas,
    with_columns,
)
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import QUOTE_LINES, SUPPLY
from arcadia_pipelines.errors import MonthStopped

_WHOLE_CENTS = pa.decimal128(19, 0)  # any 64-bit amount, to compute with
_LINE_PRICE = pa.decimal128(27, 8)  # and as the price of a line: GST, corrections

TENANTS = pa.schema(
    [
        ("tenant_id", TEXT),
        ("gst_free_reason", TEXT),  # of the invoice, which keeps the one that it was issued with; null: GST applies
        ("meta", TEXT),  # JSON for the invoice: the tenant's name and ABN, and the reason
    ]
)
"""One row per tenant."""

CHARGES = (*SUPPLY, "discount", "commitment")
"""The kinds of lines of a month's own, in their order: what is supplied, and what becomes of its price."""

ADJUSTMENTS = pa.schema(
    [
        ("tenant_id", TEXT),
        ("corrects", TEXT),  # the month that is corrected, by its first day
        ("invoice_number", TEXT),  # its invoice, which stays as it is
        ("amount_cents", CENTS),  # ex GST
        ("taxable", FLAG),  # whether GST applies, as it did to what is corrected
    ]
)
"""One row per tenant and earlier month whose frozen invoice bills too little, or too much (below 0).

Two rows, one of them taxable, where that invoice was issued again with another GST status after it had been corrected.
"""


class Carried(NamedTuple):
    """What a month's invoices carry beside the month's own charges; each frame in any row order."""

    adjustments: pd.DataFrame = frame(ADJUSTMENTS)
    """ADJUSTMENTS."""
    manual_lines: pd.DataFrame = frame(MANUAL_LINES)
    """credits.MANUAL_LINES."""
    grants: pd.DataFrame = frame(GRANTS)
    """credits.GRANTS: what may pay the invoices."""

    def of(self, tenants: Series) -> "Carried":
        """What is of these tenants."""
        return Carried(*(rows[rows["tenant_id"].isin(tenants)] for rows in self))

    @property
    def tenants(self) -> list[str]:
        """Whose it is."""
        return sorted({tenant for rows in self for tenant in rows["tenant_id"]})


INVOICE_LINES = pa.schema(
    [
        ("id", TEXT),
        ("invoice_id", TEXT),
        ("deployment_id", TEXT),
        ("kind", TEXT),
        ("resource_kind", TEXT),
        ("description", TEXT),
        ("qty", QUANTITY),
        ("unit", TEXT),
        ("unit_price_cents", _LINE_PRICE),
        ("price_per", QUANTITY),
        ("amount_cents", CENTS),
        ("meta", TEXT),
        ("line_no", COUNT),
        ("deployment_name", TEXT),
    ]
)
"""One row per line, ordered by invoice and line_no."""

INVOICES = pa.schema(
    [
        ("id", TEXT),
        ("tenant_id", TEXT),
        ("subtotal_cents", CENTS),
        ("tax_cents", CENTS),
        ("total_cents", CENTS),
        ("charges_cents", CENTS),  # of the lines of CHARGES: the subtotal but for adjustments and credits
        ("content_sha256", TEXT),
        ("lines_sha256", TEXT),
        ("meta", TEXT),
    ]
)
"""One row per tenant with something to bill, ordered by tenant."""

_NAMESPACE = uuid.UUID("6d0a3c0e-2c6b-5f0b-9a52-8a8d3f2f7a11")


class TenantMissing(MonthStopped):
    """A tenant that was quoted is gone: without it nobody knows whether GST applies, and its invoice would be lost."""


class TermsChanged(MonthStopped):
    """A tenant that was quoted has a discount or a commitment since that cannot be applied: what it owes is unknown."""


def tenant_lines(
    quote_lines: pd.DataFrame,
    carried: Carried,
    tenants: pd.DataFrame,
    month: BillingMonth,
    discounts: pd.DataFrame | None = None,
    commitments: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The lines of each tenant's invoice in order, as INVOICE_LINES: what is charged, what is carried, GST.

    Quote lines (quote.QUOTE_LINES) go by deployment name, then plan_base, addon, overage, with what discounts
    (DISCOUNTS) and commitments (COMMITMENTS) of the same month make of them; then the commitment of the tenant as a
    whole; manual lines; adjustments by the month that they correct; promotional credit, as much as there is to pay; the
    tax line is last. A GST-free tenant has one if an adjustment is taxable. Raises TenantMissing and TermsChanged.
    """
    payers = to_arrow(tenants, TENANTS)
    taxed = payers["tenant_id"].filter(payers["gst_free_reason"].is_null())
    quoted = _quoted_lines(to_arrow(quote_lines, QUOTE_LINES), payers, taxed)
    by_terms = _lines_by_terms(
        quoted,
        _of_payers(discounts, DISCOUNTS, faults.DISCOUNT, quoted),
        _of_payers(commitments, COMMITMENTS, faults.COMMITMENT, quoted),
    )
    entered = credits.manual_lines(to_arrow(carried.manual_lines, MANUAL_LINES), taxed)
    adjusted = _adjustment_lines(to_arrow(carried.adjustments, ADJUSTMENTS), taxed)
    to_pay = pa.concat_tables([quoted, *by_terms, entered, adjusted], promote_options="default")
    granted = credits.promotional(to_pay, to_arrow(carried.grants, GRANTS), taxed)
    before_tax = pa.concat_tables([to_pay, granted], promote_options="default")
    lines = pa.concat_tables([before_tax, _tax_lines(before_tax, taxed)], promote_options="default")
    lines = _with_ids(_in_order(lines), month)
    return to_pandas(lines.select(INVOICE_LINES.names).cast(INVOICE_LINES))


def totals(lines: pd.DataFrame, tenants: pd.DataFrame, month: BillingMonth) -> pd.DataFrame:
    """The invoices that the lines (INVOICE_LINES of whole invoices) make up, as INVOICES."""
    payers = to_arrow(tenants, TENANTS)
    ids = invoice_ids(payers["tenant_id"], month)
    sums = _sums(to_arrow(lines, INVOICE_LINES))
    invoices = look_up(sums, payers, (sums["id"], ids), "tenant_id", "gst_free_reason", "meta")
    invoices = invoices.filter(invoices["tenant_id"].is_valid())
    invoices = with_columns(
        invoices,
        subtotal_cents=pc.subtract(invoices["total_cents"], invoices["tax_cents"]),
        content_sha256=content.hashes(invoices, month),
        lines_sha256=content.line_hashes(invoices),
    )
    return to_pandas(invoices.select(INVOICES.names).sort_by("tenant_id").cast(INVOICES))


def _quoted_lines(quoted: pa.Table, payers: pa.Table, taxed: Column) -> pa.Table:
    """The quote lines, to stand beside others; taxable if their tenant is taxed. Raises TenantMissing."""
    gone = quoted["tenant_id"].filter(pc.invert(pc.is_in(quoted["tenant_id"], payers["tenant_id"])))
    if len(gone):
        raise TenantMissing(f"tenant {gone[0]} was quoted and is not in tenants: quote the month again")
    return with_columns(
        quoted.drop_columns(["line_no", "unit_price_cents"]),
        kind_order=_kind_order(quoted["kind"]),
        quote_line_no=quoted["line_no"],
        unit_price_cents=exact(quoted["unit_price_cents"], _LINE_PRICE),
        taxable=pc.is_in(quoted["tenant_id"], taxed),
    )


def _kind_order(kind: Column) -> Column:
    return pc.index_in(kind, pa.array(CHARGES))


def _of_payers(terms: pd.DataFrame | None, schema: pa.Schema, rules: list[faults.Rule], quoted: pa.Table) -> pa.Table:
    """The discounts, or the commitments, of tenants that are quoted. Raises TermsChanged."""
    if terms is None or terms.empty:
        return schema.empty_table()
    rows = to_arrow(terms, schema)
    rows = rows.filter(pc.is_in(rows["tenant_id"], pc.unique(quoted["tenant_id"])))
    for detail in faults.find(rows, rules)["detail"].to_pylist():
        raise TermsChanged(f"{detail}; then quote the month again")
    return rows


def _lines_by_terms(quoted: pa.Table, discounts: pa.Table, commitments: pa.Table) -> list[pa.Table]:
    """The discount and the commitment lines of these tenants' quote lines, to stand beside them."""
    if not len(discounts) and not len(commitments):
        return []
    whose = pa.chunked_array([*discounts["tenant_id"].chunks, *commitments["tenant_id"].chunks], TEXT)
    charged = _in_order(quoted.filter(pc.is_in(quoted["tenant_id"], whose)))
    less = discount_lines(charged, discounts)
    charged = pa.concat_tables([charged, less], promote_options="default")
    return [_beside_quoted(less), _beside_quoted(commitment_lines(charged, commitments))]


def _beside_quoted(lines: pa.Table) -> pa.Table:
    """Lines of discounts.LINES, to stand beside quote lines."""
    return with_columns(
        lines,
        kind_order=_kind_order(lines["kind"]),
        quote_line_no=pa.array(range(len(lines)), COUNT),
        unit_price_cents=exact(lines["amount_cents"], _LINE_PRICE),
    )


def _adjustment_lines(adjustments: pa.Table, taxed: Column) -> pa.Table:
    """One line per adjustment, in order: an adjustment to pay, or a credit.

    Its meta says whether it is taxable where the rest of its invoice is not, or the other way round.
    """
    order = ("tenant_id", "corrects", "invoice_number", "taxable")
    ordered = adjustments.sort_by([(name, "ascending") for name in order])
    corrects, number, cents = ordered["corrects"], ordered["invoice_number"], ordered["amount_cents"]
    kind = pc.if_else(pc.less(cents, 0), "credit", "adjustment")
    month = pc.utf8_slice_codeunits(corrects, 0, 7)
    as_the_rest = pc.equal(ordered["taxable"], pc.is_in(ordered["tenant_id"], taxed))
    differs = pc.if_else(as_the_rest, "", text('"taxable": ', ordered["taxable"].cast(TEXT), ", "))
    return pa.table(
        {
            "tenant_id": ordered["tenant_id"],
            "kind": kind,
            "description": text(pc.utf8_capitalize(kind), ": ", month, ", ", number),
            "qty": pa.repeat(ONE, len(ordered)),
            "unit_price_cents": exact(cents, _LINE_PRICE),
            "price_per": pa.repeat(ONE, len(ordered)),
            "amount_cents": cents,
            "meta": text("{", differs, '"corrects": "', corrects, '", "invoice_number": ', json_text(number), "}"),
            "taxable": ordered["taxable"],
        }
    )


def _tax_lines(lines: pa.Table, taxed: Column) -> pa.Table:
    """One GST line, on what is taxable, per tenant that is taxed, at 0 too, or has a taxable line."""
    amounts = with_columns(
        lines.select(["tenant_id", "taxable"]),
        taxable_cents=pc.if_else(lines["taxable"], lines["amount_cents"], 0),
        has_tax=pc.or_(lines["taxable"], pc.is_in(lines["tenant_id"], taxed)),
    )
    sums = amounts.group_by("tenant_id", use_threads=False).aggregate([("taxable_cents", "sum"), ("has_tax", "any")])
    taxable = sums.filter(sums["has_tax_any"])
    cents = taxable["taxable_cents_sum"]
    tax = gst.gst(exact(cents, _WHOLE_CENTS))
    return pa.table(
        {
            "tenant_id": taxable["tenant_id"],
            "kind": pa.repeat("tax", len(taxable)),
            "description": pa.repeat(gst.DESCRIPTION, len(taxable)),
            "qty": pa.repeat(ONE, len(taxable)),
            "unit_price_cents": exact(tax, _LINE_PRICE),
            "price_per": pa.repeat(ONE, len(taxable)),
            "amount_cents": exact(tax, CENTS),
            "meta": text(f'{{"rate": "{gst.RATE}", "taxable_cents": ', cents.cast(TEXT), "}"),
        }
    )


def _in_order(lines: pa.Table) -> pa.Table:
    """Each tenant's lines in the order of its invoice: what has no deployment stays in order, behind what has one."""
    texts = ("tenant_id", "deployment_name", "deployment_id", "subscription_id")
    ranks = {name: _ranks(lines[name]) for name in texts}
    by = pa.table(ranks | {name: lines[name] for name in ("kind_order", "quote_line_no")})
    order = ("tenant_id", "deployment_name", "deployment_id", "kind_order", "subscription_id", "quote_line_no")
    return lines.take(pc.sort_indices(by, [(name, "ascending") for name in order]))


def _ranks(column: Column) -> Column:
    """Numbers in the order of the column's texts, equal for equal ones: much faster to sort by."""
    encoded = column.combine_chunks().dictionary_encode()
    return pc.rank(encoded.dictionary).take(encoded.indices)


def _with_ids(lines: pa.Table, month: BillingMonth) -> pa.Table:
    """The lines with their number on their invoice, with its id and with their own."""
    tenant = lines["tenant_id"].combine_chunks().dictionary_encode()
    invoice_id = invoice_ids(tenant.dictionary, month).take(tenant.indices)
    line_no = numbers_within(_ranks(lines["tenant_id"])).cast(COUNT)
    # An invoice's first 24 hex digits and the line's number make the line's id: unique, and the same on every run.
    line_id = text(pc.utf8_slice_codeunits(invoice_id, 0, 28), pc.utf8_lpad(line_no.cast(TEXT), 8, "0"))
    return with_columns(lines, invoice_id=invoice_id, line_no=line_no, id=line_id)


def invoice_ids(tenants: Column, month: BillingMonth) -> Column:
    """Each tenant's invoice id for the month, the same whenever it is asked for."""
    return pa.array([_uuid5(f"{tenant}/{key}") for key in [month.key] for tenant in tenants.to_pylist()], TEXT)


def _uuid5(name: str) -> str:
    """The text of uuid.uuid5(_NAMESPACE, name), in a third of its time."""
    digest = hashlib.sha1(_NAMESPACE.bytes + name.encode()).hexdigest()
    variant = "89ab"[int(digest[16], 16) % 4]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def _sums(lines: pa.Table) -> pa.Table:
    """One row per invoice: its total, its tax, and what its lines bill and are, whatever order they come in."""
    billed = pa.table(
        {
            "id": lines["invoice_id"],
            "rank": _ranks(lines["invoice_id"]),
            "content": content.billed(lines),
            "line": content.as_read(lines),
            "line_no": lines["line_no"],
            "total_cents": lines["amount_cents"],
            "tax_cents": pc.if_else(pc.equal(lines["kind"], "tax"), lines["amount_cents"], 0),
            "charges_cents": pc.if_else(pc.is_in(lines["kind"], pa.array(CHARGES)), lines["amount_cents"], 0),
        }
    )
    groups = billed.group_by(["id", "rank"], use_threads=False)
    summed = ("total_cents", "tax_cents", "charges_cents")
    sums = groups.aggregate([*((name, "sum") for name in summed), ("line", "count")]).sort_by("rank")
    ends = pc.cumulative_sum(sums["line_count"]).cast(pa.int32())
    starts_and_end = pa.concat_arrays([pa.array([0], pa.int32()), *ends.chunks])

    def joined(column: str, by: str) -> Column:
        """Of each invoice the column's texts, in the order of another."""
        ordered = billed[column].take(pc.sort_indices(billed, [("rank", "ascending"), (by, "ascending")]))
        return pc.binary_join(pa.ListArray.from_arrays(starts_and_end, ordered.combine_chunks()), "\x1e")

    return pa.table(
        {
            "id": sums["id"],
            **{name: sums[f"{name}_sum"] for name in summed},
            "content": joined("content", by="content"),
            "lines": joined("line", by="line_no"),
        }
    )
