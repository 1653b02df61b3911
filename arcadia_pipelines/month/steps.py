"""The month end as five plain functions, in order: freeze, quote, invoice, publish, correct.

Each reads what the one before has written, computes, and writes its own tables. The first two have a transaction each,
the last three one together: database.month_at_an_instant(). again/ says what need not be done again; without it
the rows would be the same.
"""

import datetime as dt
from dataclasses import dataclass

import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.again import intact, newer, scope
from arcadia_pipelines.again.scope import Scope
from arcadia_pipelines.billing import reconcile
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import MonthStopped
from arcadia_pipelines.month import compute, counting
from arcadia_pipelines.storage import (
    billed,
    corrections,
    counts,
    credits,
    ledger,
    losses,
    migrations,
    missing,
    operations,
    outbox,
    publication,
    quotes,
    usage,
)
from arcadia_pipelines.usage.sources import Source


class NotQuoted(MonthStopped):
    """The month has no quotes to invoice."""


@dataclass(frozen=True)
class Frozen:
    """What freezing did: the cut-off, whether anything was written, and whether all raw records were compared."""

    cutoff: dt.datetime
    changed: bool
    compared: bool


def freeze(connection: Connection, month: BillingMonth, run_id: str, source: Source | None) -> Frozen:
    """Make the usage received until now the month's frozen usage; only rows that differ are written.

    The usage is in cloud.usage_records, or in the `source`. An unchanged month keeps its cut-off: no record was
    received since. Raises usage.UsageVanished, usage.UnassignableUsage and UsageSourceError, and months.LostRows if
    rows of ours are gone.
    """
    migrations.refuse_newer(connection)
    losses.refuse(connection, month)
    cutoff = usage.next_cutoff(connection, month)
    scope.forget_what_was_changed_by_hand(connection, month)
    added = newer.add(connection, month, cutoff) if source is None else counting.add(connection, month, source)
    if added:
        replaced, counted_from = added.replaced, added.pin
    else:
        counted, counted_from = counting.count(connection, month, source, cutoff)
        replaced = usage.replace(connection, month, counted)
    if replaced.changed:
        usage.record_freezing(connection, month, cutoff, run_id)
        scope.forget_quoted(connection, month, replaced.differing)
        intact.to_make_again(connection, month)  # refuses if a locked invoice lost lines: the old usage rebuilds them
    counts.record_pin(connection, month, counted_from)
    if source is None:
        usage.record_ahead(connection, month, cutoff, added.among if added else "true")
    scope.remember_frozen(connection, month)
    return Frozen(cutoff, replaced.changed, compared=source is None and added is not None)


def quote(connection: Connection, month: BillingMonth) -> bool:
    """Quote the month's frozen usage by the prices in effect; returns whether anything was written.

    A tenant with a fault is not quoted; usage on no line is in unbilled_usage. Raises months.LostRows.
    """
    losses.refuse(connection, month)
    whom = scope.for_quotes(connection, month)
    if whom.is_nobody:
        return False
    quoted = compute.month_quotes(connection, month, quotes.LINES, only=whom.tenants)
    changed = quotes.replace(connection, month, quoted, whom.tenants)
    if changed:
        intact.to_make_again(connection, month)  # refuses, as freeze() does
    scope.remember_quoted(connection, month, whom)
    return changed


@dataclass(frozen=True)
class Invoiced:
    """A month's invoices as computed now, beside those that stand; computed chunk by chunk while they are published."""

    plans: publication.Chunks
    """For some tenants: the plan for each invoice (reconcile.plan), the invoices, and their lines."""
    usage_cutoff: dt.datetime
    held_back: pd.Series
    """The tenants with a fault."""
    scope: Scope


def refuse_unless_quoted(connection: Connection, month: BillingMonth) -> dt.datetime:
    """The cut-off of a month that may be invoiced. Raises NotQuoted, and months.LostRows if rows of ours are gone."""
    losses.refuse(connection, month)
    cutoff = usage.cutoff_of(connection, month)
    if cutoff is None or not quotes.is_quoted(connection, month):
        raise NotQuoted(f"{month} is not quoted: materialise metered_usage and deployment_quotes of {month} first")
    return cutoff


def invoice(connection: Connection, month: BillingMonth, cutoff: dt.datetime) -> Invoiced:
    """Turn the month's quotes into invoices, with GST, and reconcile them with those that stand.

    The cut-off is that of refuse_unless_quoted(), which comes first. Raises missing.TenantsMissing if many tenants have
    nothing to bill any more, and months.LostRows.
    """
    carried = credits.carried_by(connection, month)
    intact.refuse_lost_corrections(connection, carried.tenants)
    missing.refuse_many(connection, month)
    held_back = quotes.faults(connection, month)["tenant_id"]
    on_hold = operations.on_hold(connection)
    distrusted = intact.to_make_again(connection, month)
    unlike = corrections.unlike_their_quotes(connection, month)
    computed_anyway = [*(invoice.tenant_id for invoice in distrusted), *unlike]
    whom = scope.for_invoices(connection, month, carried.tenants, computed_anyway)
    lost_lines = {invoice.tenant_id: invoice.lines_sha256 for invoice in distrusted if invoice.lines_differ}
    computed = compute.month_invoices(connection, month, carried, ledger.STANDING, only=whom.tenants)
    plans = (
        (reconcile.plan(standing, invoices, held_back, on_hold, lost_lines), invoices, lines)
        for invoices, lines, standing in computed
    )
    return Invoiced(plans, cutoff, held_back, whom)


def publish(connection: Connection, month: BillingMonth, invoiced: Invoiced, run_id: str) -> publication.Published:
    """Write the invoices that differ, their lines and their events; record which subscriptions each bills.

    And what finance is to be told of them, if there is one.
    """
    of = publication.Publication(month, invoiced.usage_cutoff, run_id)
    published = publication.publish(connection, of, invoiced.plans, kept=invoiced.scope.settled)
    scope.remember_invoiced(connection, month, invoiced.scope, list(published.left["tenant_id"]))
    as_they_were = published.left[published.left["action"] != "frozen"]["tenant_id"]
    billed.record(connection, month, [*invoiced.held_back.dropna(), *as_they_were])
    if len(published.changed):
        intact.remember(connection, month)
    outbox.enqueue(connection, month)
    return published


def correct(connection: Connection, month: BillingMonth, published: publication.Published, run_id: str) -> None:
    """Find what the month's locked invoices bill too little or too much, for later invoices to carry."""
    corrections.record(connection, month, published.owed, run_id)
