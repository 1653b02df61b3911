"""Usage that came after its month was frozen: whose it is, and what is at stake. Reads, and writes nothing."""

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines import recompute
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import catalogue, corrections, ledger, streams, usage
from arcadia_pipelines.storage.controls import MOST_SHOWN, Finding


def find(connection: Connection, month: BillingMonth) -> Finding:
    """The tenants with late usage in the month, most at stake first.

    `at_stake_cents` is what the late usage changes, with GST: the month with it, less the month without it, both by
    today's prices; 0 if the invoice is void. A tenant of null has no subscription for the deployment: nobody would pay.
    """
    late = usage.late(connection, month)
    if late.empty:
        return Finding(0, [])
    usage.count(connection, month, usage.now(connection))
    counted = usage.counted(connection)
    meters = late.merge(counted[["deployment_id", "resource_kind", "subscription_id"]].drop_duplicates())
    parameters = catalogue.bounds(month)
    payers = streams.whole(connection, parameters, catalogue.SUBSCRIPTIONS)[["subscription_id", "tenant_id"]]
    owners = meters.merge(payers, on="subscription_id", how="left").groupby("tenant_id", dropna=False, as_index=False)
    standing = streams.whole(connection, parameters, ledger.STANDING)[["tenant_id", "status", "invoice_number"]]
    frozen = streams.whole(connection, parameters, usage.FROZEN)
    tenants = (
        owners.agg(meters=("deployment_id", "count"))
        .merge(_totals(connection, month, counted), on="tenant_id", how="left")
        .merge(_totals(connection, month, frozen), on="tenant_id", how="left")
        .merge(standing, on="tenant_id", how="left")
    )
    at_stake = tenants["total_cents_x"].fillna(0) - tenants["total_cents_y"].fillna(0)
    tenants = tenants.assign(at_stake_cents=at_stake.mask((tenants["status"] == "void").fillna(False), 0))
    tenants = tenants.sort_values("at_stake_cents", key=abs, ascending=False, kind="stable").head(MOST_SHOWN)
    shown = tenants[["tenant_id", "at_stake_cents", "status", "invoice_number", "meters"]].astype(object)
    rows = shown.where(shown.notna(), None).to_dict("records")
    return Finding(owners.ngroups, [{"month": str(month), **{str(k): v for k, v in row.items()}} for row in rows])


def _totals(connection: Connection, month: BillingMonth, used: pd.DataFrame) -> pd.DataFrame:
    """What each tenant would be invoiced for this usage."""
    quoted = recompute.quotes_of(connection, month, used)
    adjustments = corrections.carried_by(connection, month)
    tenants = streams.whole(connection, {"month": month.start}, catalogue.TENANTS)
    return recompute.invoices(quoted.lines, adjustments, tenants, month)[0][["tenant_id", "total_cents"]]
