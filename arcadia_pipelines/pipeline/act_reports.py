"""What the UI shows of an operator's job: what it did, or would do, in a sentence, and the rows.

Belongs here: a report per act. Does not: the jobs (jobs.py, delivery_jobs.py), what the month end made (reporting.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import dagster as dg
import pandas as pd

from arcadia_pipelines.billing.money import dollars, number_of
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents.content import Content
from arcadia_pipelines.pipeline.tables import Metadata, exact_sum, money_table, table
from arcadia_pipelines.storage.operations import Row
from arcadia_pipelines.storage.suppliers import Supplier


def operation(state: str, done: Sequence[Row], dry_run: bool, on_hold: Sequence[str] = ()) -> Metadata:
    """What an operator's job did to invoices (rows of operations.change), which are in this state now, or would be."""
    months = sorted({f"{row['period_start']:%Y-%m}" for row in done})
    total = sum(int(str(row["total_cents"])) for row in done)
    summary = f"{number_of(len(done), 'invoices')} {_now(state, dry_run)}"
    if done:
        summary += f", ${dollars(total)} with GST, of {', '.join(months)}"
    if on_hold:
        summary += f"; on hold, so left as drafts: {', '.join(on_hold)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "invoices_changed": dg.MetadataValue.int(len(done)),
        "changed": money_table(pd.DataFrame(done, dtype=object)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def delivered(first: Sequence[Content], of: int, dry_run: bool) -> Metadata:
    """What the delivery of so many invoices and adjustment notes did, the `first` of which had not been delivered."""
    invoices = [content for content in first if not content.cancels]
    total = sum(content.total_cents for content in invoices)
    summary = f"{number_of(len(invoices), 'invoices')} {_now('delivered', dry_run)}, ${dollars(total)} with GST"
    if notes := len(first) - len(invoices):
        summary += f"; {number_of(notes, 'adjustment notes')} {_now('delivered', dry_run)}"
    if of > len(first):
        summary += f"; {of - len(first):,} had been delivered before"
    rows = [{"invoice": content.number, "tenant_id": content.tenant_id} for content in first]
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "invoices_changed": dg.MetadataValue.int(len(first)),
        "changed": table(pd.DataFrame(rows, columns=["invoice", "tenant_id"], dtype=object)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def emails(
    month: BillingMonth, pending: int, outcomes: Mapping[str, int], without: Sequence[str], dry_run: bool
) -> Metadata:
    """What became of so many e-mails of the month's invoices, and which tenants have no address."""
    of = f"{number_of(pending, 'e-mails')} of {month}"
    became = ", ".join(f"{count:,} {state}" for state, count in sorted(outcomes.items())) or "none was to be sent"
    summary = f"{of} would be sent" if dry_run else f"{of}: {became}"
    if without:
        summary += f"; no billing_email: {', '.join(without)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        **{
            f"emails_{state}": dg.MetadataValue.int(outcomes.get(state, 0))
            for state in ("sent", "uncertain", "refused")
        },
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def decided(count: int, outcome: str, dry_run: bool) -> Metadata:
    """What an operator decided of so many e-mails."""
    summary = f"{number_of(count, 'e-mails')}: {outcome}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def hold(state: str, tenants: Sequence[str], drafts: Sequence[Row], dry_run: bool) -> Metadata:
    """What an operator's job did to tenants, which are in this state now, or would be; and the drafts they have."""
    months = sorted({f"{row['period_start']:%Y-%m}" for row in drafts})
    summary = f"{number_of(len(tenants), 'tenants')} {_now(state, dry_run)}: {', '.join(tenants)}"
    if drafts:
        summary += f"; {number_of(len(drafts), 'drafts')} of {', '.join(months)}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "tenants_changed": dg.MetadataValue.int(len(tenants)),
        "drafts": money_table(pd.DataFrame(drafts, dtype=object)),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def vanished(lost: pd.DataFrame, dry_run: bool) -> Metadata:
    """What was accepted as lost; columns as usage.VANISHED."""
    records = exact_sum(lost["frozen_records"]) - exact_sum(lost["remaining_records"])
    summary = f"{number_of(records, 'records')} {_would(dry_run)}accepted as lost, of {number_of(len(lost), 'meters')}"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary if len(lost) else "no frozen usage has vanished", dry_run)),
        "records_lost": dg.MetadataValue.int(records),
        "vanished": table(lost),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def unbilled(accepted: pd.DataFrame, dry_run: bool) -> Metadata:
    """What nobody pays for, as accepted; columns as unbilled.UNBILLED."""
    at_stake, unknown = exact_sum(accepted["at_stake_cents"].fillna(0)), int(accepted["at_stake_cents"].isna().sum())
    rows = f"{number_of(len(accepted), 'rows')} of unbilled usage"
    summary = f"{rows} {_would(dry_run)}accepted, ${dollars(at_stake)} ex GST at stake"
    if unknown:
        summary += f", and {number_of(unknown, 'rows')} without a rate to price them"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary if len(accepted) else "no unbilled usage is open", dry_run)),
        "rows_accepted": dg.MetadataValue.int(len(accepted)),
        "at_stake_cents": dg.MetadataValue.int(at_stake),
        "accepted": money_table(accepted),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def missing(gone: pd.DataFrame, dry_run: bool) -> Metadata:
    """Who was accepted as gone; columns as missing.MISSING."""
    summary = (
        f"{number_of(len(gone), 'tenants')} {_would(dry_run)}accepted as gone"
        if len(gone)
        else "no tenant that was invoiced is missing"
    )
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "tenants_missing": dg.MetadataValue.int(len(gone)),
        "missing": table(gone),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def manual_line(tenant: str, added: str, lines: Sequence[Row], dry_run: bool) -> Metadata:
    """The manual line of this id that was entered, and the tenant's others of its month; rows of entered.lines_of."""
    new = next(line for line in lines if line["manual_line"] == added)
    same_month = [line for line in lines if line["month"] == new["month"]]
    kind = "credit" if int(str(new["amount_cents"])) < 0 else "adjustment"
    amount = dollars(int(str(new["amount_cents"])))
    summary = f"1 {kind} {_would(dry_run)}entered: {tenant}, {new['month']}, {amount} ex GST, {new['invoice']}"
    if others := len(same_month) - 1:
        summary += f"; beside {number_of(others, 'lines')} entered for {tenant} and that month before"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "lines_entered": dg.MetadataValue.int(1),
        "lines_of_the_month": _entered(same_month, "description", "amount_cents", "invoice", "operator", "reason"),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def grant(tenant: str, added: str, grants: Sequence[Row], dry_run: bool) -> Metadata:
    """The grant of this id that was entered, and all of the tenant's; rows of entered.grants_of."""
    new = next(granted for granted in grants if granted["grant_id"] == added)
    until = f"for months that begin before {new['expires_on']}" if new["expires_on"] else "without an end"
    amount = dollars(int(str(new["amount_cents"])))
    summary = f"promotional credit of {amount} ex GST {_would(dry_run)}granted to {tenant}, {until}"
    if others := len(grants) - 1:
        left = sum(int(str(granted["left_cents"])) for granted in grants if granted is not new)
        summary += f"; beside {number_of(others, 'grants')} before, of which {dollars(left)} is left"
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "grants_entered": dg.MetadataValue.int(1),
        "grants": _entered(grants, "description", "amount_cents", "left_cents", "expires_on", "operator", "reason"),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def supplier(entered: Supplier, month: BillingMonth, dry_run: bool) -> Metadata:
    """Who sells from that month on."""
    summary = f"{entered.legal_name} (ABN {entered.abn}) {_would(dry_run)}entered as the supplier from {month} on"
    rows = [(name, str(value)) for name, value in asdict(entered).items() if value is not None and name != "logo_svg"]
    return {
        "summary": dg.MetadataValue.text(_if_dry(summary, dry_run)),
        "supplier": table(pd.DataFrame(rows, columns=["column", "value"])),
        "has_logo": dg.MetadataValue.bool(entered.logo_svg is not None),
        "dry_run": dg.MetadataValue.bool(dry_run),
    }


def _entered(rows: Sequence[Row], *columns: str) -> dg.TableMetadataValue:
    return money_table(pd.DataFrame([[row[name] for name in columns] for row in rows], columns=list(columns)))


def _now(state: str, dry_run: bool) -> str:
    return f"would be {state}" if dry_run else f"{state} now"


def _would(dry_run: bool) -> str:
    return "would be " if dry_run else ""


def _if_dry(summary: str, dry_run: bool) -> str:
    return f"dry run, nothing is written: {summary}" if dry_run else summary
