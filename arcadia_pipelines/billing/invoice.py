"""Invoices from quote lines: their order, their GST line, their totals and their content hash.

Belongs here: what stands on an invoice. Does not: what a deployment costs (quote.py), what becomes of an invoice that
exists already (reconcile.py), numbers and dates (storage/ledger.py).
"""

import hashlib
import uuid
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from arcadia_pipelines.billing import gst
from arcadia_pipelines.billing.money import (
    CENTS,
    COUNT,
    QUANTITY,
    TEXT,
    WHOLE,
    Series,
    arrow,
    cast,
    repeat,
    to_arrow,
    to_pandas,
)
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import KIND_ORDER

_WHOLE_CENTS = pa.decimal128(19, 0)  # any 64-bit amount, to compute with
_LINE_PRICE = pa.decimal128(27, 8)  # and as the price of a line: GST, corrections

TENANTS = pa.schema(
    [
        ("tenant_id", TEXT),
        ("gst_free_reason", TEXT),  # null: GST applies
        ("meta", TEXT),  # JSON for the invoice: the tenant's name and ABN, and the reason
    ]
)
"""One row per tenant."""

ADJUSTMENTS = pa.schema(
    [
        ("tenant_id", TEXT),
        ("corrects", TEXT),  # the month that is corrected, by its first day
        ("invoice_number", TEXT),  # its invoice, which stays as it is
        ("amount_cents", CENTS),  # ex GST
    ]
)
"""One row per tenant and earlier month whose frozen invoice bills too little, or too much (below 0)."""

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
        ("content_sha256", TEXT),
        ("meta", TEXT),
    ]
)
"""One row per tenant with something to bill, ordered by tenant."""

_NAMESPACE = uuid.UUID("6d0a3c0e-2c6b-5f0b-9a52-8a8d3f2f7a11")


class TenantMissing(Exception):
    """A tenant that was quoted is gone: without it nobody knows whether GST applies, and its invoice would be lost."""


def tenant_lines(
    quote_lines: pd.DataFrame, adjustments: pd.DataFrame, tenants: pd.DataFrame, month: BillingMonth
) -> pd.DataFrame:
    """The lines of each tenant's invoice in order, as INVOICE_LINES: what is quoted, what is adjusted, GST.

    Quote lines (quote.QUOTE_LINES) go by deployment name, then plan_base, addon, overage; adjustments (ADJUSTMENTS)
    by the month that they correct; the tax line is last. A GST-free tenant has none. Raises TenantMissing.
    """
    gone = quote_lines[~quote_lines["tenant_id"].isin(tenants["tenant_id"])]
    if len(gone):
        raise TenantMissing(
            f"tenant {gone['tenant_id'].iloc[0]} was quoted and is not in tenants: quote the month again"
        )
    ordered = quote_lines.assign(kind_order=quote_lines["kind"].map(KIND_ORDER)).sort_values(
        ["tenant_id", "deployment_name", "deployment_id", "kind_order", "subscription_id", "line_no"]
    )
    taxable = pd.concat([ordered, _adjustment_lines(adjustments)])
    lines = pd.concat([taxable, _tax_lines(taxable, tenants)]).sort_values("tenant_id", kind="stable")
    billed = lines["tenant_id"].drop_duplicates()
    ids = pd.DataFrame({"tenant_id": billed, "invoice_id": _invoice_ids(billed, month)})
    lines = lines.merge(ids, on="tenant_id")
    line_no = cast(lines.groupby("tenant_id").cumcount() + 1, COUNT)
    # An invoice's first 24 hex digits and the line's number make the line's id: unique, and the same on every run.
    line_id = lines["invoice_id"].str[:28] + cast(line_no, TEXT).str.rjust(8, "0")
    return to_pandas(to_arrow(lines.assign(line_no=line_no, id=line_id), INVOICE_LINES))


def totals(lines: pd.DataFrame, tenants: pd.DataFrame, month: BillingMonth) -> pd.DataFrame:
    """The invoices that the lines (INVOICE_LINES of whole invoices) make up, as INVOICES."""
    is_tax = lines["kind"] == "tax"
    sums = pd.DataFrame(
        {
            "total_cents": lines.groupby("invoice_id")["amount_cents"].sum(),
            "tax_cents": lines[is_tax].groupby("invoice_id")["amount_cents"].sum(),
            "content": _content(lines),
        }
    )
    sums["tax_cents"] = cast(sums["tax_cents"].fillna(0), CENTS)
    sums["subtotal_cents"] = sums["total_cents"] - sums["tax_cents"]
    invoices = (
        tenants.assign(id=_invoice_ids(tenants["tenant_id"], month))
        .merge(sums, left_on="id", right_index=True)
        .sort_values("tenant_id")
    )
    return to_pandas(to_arrow(invoices.assign(content_sha256=_hashes(invoices, month)), INVOICES))


def _adjustment_lines(adjustments: pd.DataFrame) -> pd.DataFrame:
    """One line per tenant and corrected month: an adjustment to pay, or a credit."""
    ordered = adjustments.sort_values(["tenant_id", "corrects", "invoice_number"])
    kind = repeat("adjustment", TEXT, ordered).mask(ordered["amount_cents"] < 0, "credit")
    return pd.DataFrame(
        {
            "tenant_id": ordered["tenant_id"],
            "kind": kind,
            "description": kind.str.capitalize()
            + ": "
            + ordered["corrects"].str[:7]
            + ", "
            + ordered["invoice_number"],
            "qty": repeat(Decimal(1), QUANTITY, ordered),
            "unit_price_cents": cast(ordered["amount_cents"], _LINE_PRICE),
            "amount_cents": ordered["amount_cents"],
            "meta": '{"corrects": "'
            + ordered["corrects"]
            + '", "invoice_number": "'
            + ordered["invoice_number"]
            + '"}',
        }
    )


def _tax_lines(lines: pd.DataFrame, tenants: pd.DataFrame) -> pd.DataFrame:
    """One GST line per tenant that is not GST-free, at 0 too."""
    taxed = tenants[tenants["gst_free_reason"].isna()]
    taxable = taxed.merge(lines.groupby("tenant_id")["amount_cents"].sum(), left_on="tenant_id", right_index=True)
    tax = gst.gst(cast(taxable["amount_cents"], _WHOLE_CENTS))
    return pd.DataFrame(
        {
            "tenant_id": taxable["tenant_id"],
            "kind": repeat("tax", TEXT, taxable),
            "description": repeat(gst.DESCRIPTION, TEXT, taxable),
            "qty": repeat(Decimal(1), QUANTITY, taxable),
            "unit_price_cents": cast(tax, _LINE_PRICE),
            "amount_cents": cast(tax, CENTS),
            "meta": f'{{"rate": "{gst.RATE}", "taxable_cents": ' + cast(taxable["amount_cents"], TEXT) + "}",
        }
    )


def _invoice_ids(tenants: Series, month: BillingMonth) -> Series:
    """Each tenant's invoice id for the month, the same whenever it is asked for."""
    ids = [str(uuid.uuid5(_NAMESPACE, f"{tenant}/{month.key}")) for tenant in tenants]
    return pd.Series(ids, tenants.index, pd.ArrowDtype(TEXT))


def _content(lines: pd.DataFrame) -> Series:
    """By invoice id, what each line bills, as a list of texts.

    Without the deployment's name and the line's place, which follows from it: a renamed deployment bills the same.
    """
    fields = [
        arrow(lines["deployment_id"]),
        arrow(lines["kind"]),
        arrow(lines["resource_kind"]),
        arrow(lines["description"]),
        _digits(lines["qty"]),
        arrow(lines["unit"]),
        _digits(lines["unit_price_cents"]),
        arrow(lines["amount_cents"]).cast(TEXT),
        arrow(lines["meta"]),
    ]
    text = pc.binary_join_element_wise(*fields, "\x1f", null_handling="replace", null_replacement="\x00")
    table = pa.table({"invoice_id": arrow(lines["invoice_id"]), "content": text})
    return to_pandas(table.group_by("invoice_id").aggregate([("content", "list")])).set_index("invoice_id")[
        "content_list"
    ]


def _hashes(invoices: pd.DataFrame, month: BillingMonth) -> list[str]:
    """SHA-256 of each invoice's content, whatever order its lines are in."""
    heads = [f"{tenant}\x1f{month.key}\x1fAUD\x1f" for tenant in invoices["tenant_id"]]
    reasons = invoices["gst_free_reason"].fillna("")
    contents = arrow(invoices["content"]).to_pylist()
    return [
        hashlib.sha256("\x1e".join([head + reason, *sorted(content)]).encode()).hexdigest()
        for head, reason, content in zip(heads, reasons, contents, strict=True)
    ]


def _digits(column: Series) -> pa.ChunkedArray:
    """Decimals' digits without the point: one spelling per value, where Arrow's own text has 7.4E-7 beside 0.744."""
    unscaled = [chunk.view(WHOLE) for chunk in arrow(column).chunks]
    return pa.chunked_array(unscaled, WHOLE).cast(TEXT)
