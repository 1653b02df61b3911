"""What if: past months at other prices, by the engine that invoices them, beside what they are at today's.

Belongs here: reading frozen usage and quotes of a month, pricing the usage again at a proposed price list, and the
result as a document. Does not: the price list (prices/ reads and checks it). Reads, and writes nothing.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing import invoice, quote
from arcadia_pipelines.billing.faults import FAULTS
from arcadia_pipelines.billing.money import CENTS, TEXT, look_up, to_arrow, to_pandas, with_columns
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.storage import billed, catalogue, database, proposed, quotes, streams, terms, usage
from arcadia_pipelines.storage.streams import ahead
from arcadia_pipelines.storage.terms import Terms

REPRICED = pa.schema(
    [
        ("period_start", TEXT),
        ("tenant_id", TEXT),
        ("plan", TEXT),  # null: of the tenant as a whole
        ("kind", TEXT),
        ("before_cents", CENTS),
        ("after_cents", CENTS),
    ]
)
"""One row per month, tenant, plan and kind of line, at both price lists; ex GST but for tax."""


class NotRepriced(Refused):
    """A month that cannot be priced again; the message names it."""


@dataclass(frozen=True)
class Repriced:
    """Months at both price lists."""

    amounts: pd.DataFrame
    """As REPRICED."""
    faults: pd.DataFrame
    """Why tenants cannot be priced at the proposed prices, as faults.FAULTS, by period_start: they are in no amount."""


def reprice(
    connection: Connection, month: BillingMonth, prices: Mapping[str, Any], only: str | None = None
) -> Repriced:
    """A quoted month at the prices in effect, and at the proposed ones (proposed.PRICES), of all tenants or of one.

    Credits, adjustments and corrections are left out, as no price decides them, and so is a tenant that is held back at
    either price list. The transaction must see one state of the database. Raises NotRepriced, PartialView and
    catalogue.UnknownTenant.
    """
    database.refuse_partial_view(connection)
    if only is not None:
        catalogue.require_tenant(connection, only)
    if not quotes.is_quoted(connection, month):
        raise NotRepriced(f"{month} is not quoted: only months that were materialised can be priced again")
    parameters = proposed.parameters(month, prices)
    held = quotes.faults(connection, month)["tenant_id"].dropna()
    today, then = terms.of(connection, month), proposed.terms_of(connection, parameters)
    held = pd.concat([held, today.held_back])
    rates, tiers = proposed.rates(connection, parameters), proposed.tiers(connection, parameters)
    queries = (
        proposed.at(catalogue.SUBSCRIPTIONS),
        proposed.at(catalogue.ADDONS),
        usage.FROZEN,
        billed.CONTESTED,
        quotes.LINES,
        catalogue.TENANTS,
    )
    chunks = streams.chunks(connection, parameters, *queries, only=None if only is None else [only])

    def both() -> Iterator[Repriced]:
        for subscriptions, addons, used, contested, lines, tenants in ahead(chunks):
            quoted = quote.quote(subscriptions, addons, rates, used, contested, tiers, *then)
            left_out = pd.concat([quoted.faults["tenant_id"], held])
            sides = [
                _amounts(of[~of["tenant_id"].isin(left_out)], tenants, month, agreed)
                for of, agreed in ((lines, today), (quoted.lines, then))
            ]
            yield Repriced(_beside(month, *sides), quoted.faults.assign(period_start=month.key))

    return together(list(ahead(both())))


def together(found: Sequence[Repriced]) -> Repriced:
    """Parts of a month, or months, as one."""
    return Repriced(
        pd.concat([one.amounts for one in found], ignore_index=True),
        pd.concat([one.faults for one in found], ignore_index=True)[["period_start", *FAULTS.names]],
    )


def _amounts(quote_lines: pd.DataFrame, tenants: pd.DataFrame, month: BillingMonth, agreed: Terms) -> pa.Table:
    """What the invoices of these quote lines sum to per tenant, plan and kind of line."""
    mine = tenants[tenants["tenant_id"].isin(quote_lines["tenant_id"])]
    lines = invoice.tenant_lines(quote_lines, invoice.Carried(), mine, month, *agreed)
    supply = to_arrow(quote_lines, quote.QUOTE_LINES)
    bases = supply.filter(pc.equal(supply["kind"], "plan_base"))
    bases = with_columns(bases, plan=pc.utf8_slice_codeunits(bases["description"], len("Plan: ")))
    payers, beside = to_arrow(mine, invoice.TENANTS), to_arrow(lines, invoice.INVOICE_LINES)
    beside = beside.filter(pc.invert(pc.is_in(beside["kind"], pa.array(quote.SUPPLY))))
    keys = beside["invoice_id"], invoice.invoice_ids(payers["tenant_id"], month)
    beside = look_up(beside, payers, keys, "tenant_id")
    names = ["tenant_id", "plan", "kind", "amount_cents"]
    rows = [
        look_up(of, bases, (of[key], bases[key]), "plan").select(names)
        for of, key in ((supply, "subscription_id"), (beside, "deployment_id"))
    ]
    return pa.concat_tables(rows)


def _beside(month: BillingMonth, before: pa.Table, after: pa.Table) -> pd.DataFrame:
    """The sums of both, as REPRICED, in order."""
    nothing = [pa.repeat(pa.scalar(0, CENTS), len(side)) for side in (before, after)]
    sides = (
        with_columns(before, before_cents=before["amount_cents"], after_cents=nothing[0]),
        with_columns(after, before_cents=nothing[1], after_cents=after["amount_cents"]),
    )
    groups = pa.concat_tables(sides).group_by(["tenant_id", "plan", "kind"], use_threads=False)
    sums = groups.aggregate([("before_cents", "sum"), ("after_cents", "sum")])
    sums = sums.rename_columns(["tenant_id", "plan", "kind", "before_cents", "after_cents"])
    sums = with_columns(sums, period_start=pa.repeat(month.key, len(sums))).select(REPRICED.names).cast(REPRICED)
    return to_pandas(sums.sort_by([(name, "ascending") for name in ("tenant_id", "plan", "kind")]))


def summed(amounts: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Amounts (REPRICED) ex GST per value of these columns, with difference_cents; the largest differences first."""
    before_tax = amounts[amounts["kind"] != "tax"]
    sums = before_tax.groupby(list(by), as_index=False, dropna=False)[["before_cents", "after_cents"]].sum()
    sums = sums.assign(difference_cents=sums["after_cents"] - sums["before_cents"])
    return sums.sort_values("difference_cents", key=abs, ascending=False, kind="stable", ignore_index=True)


def by_month(
    repriced: Repriced, months: Sequence[BillingMonth], costs: Mapping[dt.date, int | None]
) -> list[dict[str, Any]]:
    """Each month at both price lists, ex GST, with its cost, and both margins where that is known.

    A month in which a tenant is left out has no margin: its cost is of all tenants.
    """
    sums = {row["period_start"]: row for row in summed(repriced.amounts, "period_start").to_dict("records")}
    in_part = set(repriced.faults["period_start"])
    found = []
    for month in months:
        sides = sums.get(month.key, {"before_cents": 0, "after_cents": 0, "difference_cents": 0})
        cost = costs.get(month.start)
        margin = {
            side: None if cost is None or month.key in in_part else int(sides[f"{side}_cents"]) - cost
            for side in ("before", "after")
        }
        found.append(
            {
                "month": str(month),
                **{name: int(sides[name]) for name in ("before_cents", "after_cents", "difference_cents")},
                "cost_cents": cost,
                **{f"margin_{side}_cents": cents for side, cents in margin.items()},
            }
        )
    return found


def document(repriced: Repriced, months: list[dict[str, Any]], with_amounts: bool = True) -> dict[str, Any]:
    """All of it for programs, with the months as by_month(): cents ex GST, but for the amounts of kind tax."""
    groups = {
        name: records(summed(repriced.amounts, column))
        for name, column in (("tenants", "tenant_id"), ("plans", "plan"), ("kinds", "kind"))
    }
    faults = repriced.faults.astype(object).where(repriced.faults.notna(), None)
    return {
        "currency": "AUD",
        "months": months,
        **groups,
        "amounts": records(repriced.amounts) if with_amounts else None,
        "left_out": faults.to_dict("records"),
    }


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows with cents as integers, and None where there is nothing."""
    return [
        {str(name): int(value) if str(name).endswith("_cents") else value for name, value in row.items()}
        for row in rows.astype(object).where(rows.notna(), None).to_dict("records")
    ]
