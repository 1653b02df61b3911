"""Late usage, and usage that is stamped ahead of the clock: whose it is, and what is at stake.

Late usage arrived after its month's cut-off (storage/late_usage.py says which it is). Reads, and writes nothing.
"""

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import COUNT, QUANTITY_SUM, cast
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.quote import USAGE
from arcadia_pipelines.month import compute, counting
from arcadia_pipelines.proof.control import MOST_SHOWN, Finding
from arcadia_pipelines.storage import (
    catalogue,
    counts,
    credits,
    late_usage,
    ledger,
    streams,
    terms,
    usage,
    usage_records,
)
from arcadia_pipelines.usage import sources


def find(connection: Connection, month: BillingMonth) -> Finding:
    """The tenants with late usage in the month, most at stake first.

    `at_stake_cents` is what the late usage changes, with GST: the month with it, less the month without it, both by
    today's prices; 0 if the invoice is void. A tenant of null has no subscription for the deployment: nobody would pay.
    """
    cutoff, source, there = usage.cutoff_of(connection, month), sources.configured(), None
    if cutoff is None:
        return Finding(0, [])
    if source:
        pin = counts.pin(connection, month)
        if pin and source.is_as_it_was(pin):
            return Finding(0, [])
        there, _ = counting.count(connection, month, source, usage.next_cutoff(connection, month))
    late = late_usage.late(connection, month, there)
    if late.empty:
        return Finding(0, [])
    counted = usage_records.read(connection, there or usage_records.count(connection, month))
    meters = late.merge(counted[["deployment_id", "resource_kind", "subscription_id"]].drop_duplicates())
    tenants = _by_tenant(connection, month, meters, meters=("deployment_id", "count"))
    return _found(connection, month, tenants, counted, _frozen(connection, month))


def find_ahead(connection: Connection, month: BillingMonth) -> Finding:
    """The tenants with usage in the frozen month whose ingested_at is still to come, most at stake first; as find()."""
    ahead = late_usage.ahead(connection, month)
    if ahead.empty:
        return Finding(0, [])
    tenants = _by_tenant(connection, month, ahead, records=("records", "sum"), ingested_until=("ingested_until", "max"))
    frozen = _frozen(connection, month)
    zero = cast(ahead["records"] - ahead["records"], COUNT)
    taken_off = ahead.assign(
        quantity=cast(-ahead["quantity"], QUANTITY_SUM), unusable_records=zero, duplicate_records=zero
    )
    return _found(connection, month, tenants, frozen, pd.concat([frozen, taken_off[USAGE.names]], ignore_index=True))


def _frozen(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    return streams.whole(connection, catalogue.bounds(month), usage.FROZEN)


def _by_tenant(
    connection: Connection, month: BillingMonth, of_meters: pd.DataFrame, **columns: tuple[str, str]
) -> pd.DataFrame:
    """The rows, which have a subscription_id, grouped by who pays."""
    payers = streams.whole(connection, catalogue.bounds(month), catalogue.SUBSCRIPTIONS)
    owned = of_meters.merge(payers[["subscription_id", "tenant_id"]], on="subscription_id", how="left")
    return owned.groupby("tenant_id", dropna=False, as_index=False).agg(**columns)


def _found(
    connection: Connection, month: BillingMonth, tenants: pd.DataFrame, used: pd.DataFrame, without: pd.DataFrame
) -> Finding:
    """These tenants with what is at stake for each: the month with all that is used, less the month without some."""
    parameters = catalogue.bounds(month)
    standing = streams.whole(connection, parameters, ledger.STANDING)[["tenant_id", "status", "invoice_number"]]
    priced = (
        tenants.merge(_totals(connection, month, used), on="tenant_id", how="left")
        .merge(_totals(connection, month, without), on="tenant_id", how="left")
        .merge(standing, on="tenant_id", how="left")
    )
    at_stake = priced["total_cents_x"].fillna(0) - priced["total_cents_y"].fillna(0)
    priced = priced.assign(at_stake_cents=at_stake.mask((priced["status"] == "void").fillna(False), 0))
    priced = priced.sort_values("at_stake_cents", key=abs, ascending=False, kind="stable").head(MOST_SHOWN)
    names = ["tenant_id", "at_stake_cents", "status", "invoice_number", *tenants.columns.drop("tenant_id")]
    shown = priced[names].astype(object)
    rows = shown.where(shown.notna(), None).to_dict("records")
    return Finding(len(tenants), [{"month": str(month), **{str(k): v for k, v in row.items()}} for row in rows])


def _totals(connection: Connection, month: BillingMonth, used: pd.DataFrame) -> pd.DataFrame:
    """What each tenant would be invoiced for this usage."""
    quoted = compute.quotes_of(connection, month, used)
    carried = credits.carried_by(connection, month)
    tenants = streams.whole(connection, {"month": month.start}, catalogue.TENANTS)
    invoices, _ = compute.invoices(quoted.lines, carried, tenants, month, terms.of(connection, month))
    return invoices[["tenant_id", "total_cents"]]
