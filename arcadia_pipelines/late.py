"""Usage that came after its month was frozen: whose it is, and what is at stake. Reads, and writes nothing."""

from sqlalchemy.engine import Connection

from arcadia_pipelines import recompute
from arcadia_pipelines.billing import quote, reconcile
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage import catalogue, ledger, operations, usage
from arcadia_pipelines.storage.controls import MOST_SHOWN, Finding


def find(connection: Connection, month: BillingMonth) -> Finding:
    """The tenants with late usage in the month, most at stake first: by how much its materialisation would change them.

    `at_stake_cents` is with GST. A tenant of null has no subscription for the deployment: nobody would pay.
    """
    late = usage.late(connection, month)
    if late.empty:
        return Finding(0, [])
    counted = usage.count(connection, month, usage.now(connection))
    quoted = recompute.quotes(connection, month, counted[quote.USAGE.names])
    invoices, _ = recompute.invoices(connection, month, quoted.lines)
    plan = reconcile.plan(
        ledger.existing(connection, month), invoices, quoted.faults["tenant_id"], operations.on_hold(connection)
    )
    payers = catalogue.subscriptions(connection, month)[["deployment_id", "tenant_id"]].drop_duplicates("deployment_id")
    owed = late.merge(payers, on="deployment_id", how="left").assign(
        late_records=late["raw_records"] - late["frozen_records"]
    )
    tenants = owed.groupby("tenant_id", dropna=False, as_index=False)[["late_records"]].sum()
    tenants = tenants.merge(
        plan[["tenant_id", "invoice_number", "status", "difference_cents"]], on="tenant_id", how="left"
    )
    tenants = tenants.assign(at_stake_cents=tenants["difference_cents"].fillna(0))
    tenants = tenants.sort_values("at_stake_cents", key=abs, ascending=False, kind="stable").astype(object)
    columns = ["tenant_id", "late_records", "at_stake_cents", "status", "invoice_number"]
    rows = tenants[columns].where(tenants[columns].notna(), None).head(MOST_SHOWN).to_dict("records")
    return Finding(len(tenants), [{"month": str(month), **{str(k): v for k, v in row.items()}} for row in rows])
