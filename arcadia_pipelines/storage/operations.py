"""What operators do to invoices and tenants: void, pay, reopen, withdraw, issue, hold, release, accept usage as lost.

Belongs here: the acts, each in the transaction that it is given, with its events. Does not: how they are asked for
(pipeline/jobs.py), what a month end does to invoices (publication.py).
"""

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection, RowMapping

from arcadia_pipelines.billing.money import TEXT, Series
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.storage import billed, bulk, corrections, credits, outbox, usage
from arcadia_pipelines.storage.acts import CHANGE_STATUS, CHANGES, RECORD, Author, act_parameters, numbers
from arcadia_pipelines.storage.catalogue import GST_FREE
from arcadia_pipelines.storage.database import refuse_partial_view
from arcadia_pipelines.storage.usage_records import Counted

Row = Mapping[str, object]


class OperationRefused(Refused):
    """It cannot be done, and nothing was; the message names the invoice or tenant, why, and what else can be done."""


@dataclass(frozen=True)
class Act:
    """An act on an invoice: its name in `changes`, the statuses it starts from, and the one it ends in."""

    action: str
    before: tuple[str, ...]
    after: str


VOID = Act("void", ("draft", "issued"), "void")
PAY = Act("pay", ("issued",), "paid")
REOPEN = Act("reopen", ("void",), "draft")
ISSUE = Act("issue", ("draft",), "issued")
WITHDRAW = Act("withdraw", ("draft", "issued", "paid", "void"), "withdrawn from finance")

_FIND = """
    select id, coalesce(invoice_number, id::text) as invoice, period_start from billing.tenant_invoices
    where invoice_number = any(%(references)s) or id::text = any(%(references)s)
"""
_TARGETS = f"""
    select i.id, coalesce(i.invoice_number, i.id::text) as invoice, i.tenant_id, i.period_start, i.status, i.issued_at,
           h.tenant_id is not null as on_hold,
           num_nonnulls(i.finance_invoice_id, i.pushed_to_finance_at) > 0 as is_pushed,
           i.delivered_at is not null as is_delivered,
           {GST_FREE.format("i")} <> (nullif(btrim(t.gst_free_reason), '') is not null) as gst_status_changed
    from billing.tenant_invoices i
    left join billing.tenant_holds h on h.tenant_id = i.tenant_id
    left join cloud.tenants t on t.id = i.tenant_id
    where i.id = any(%(ids)s) order by i.period_start, i.tenant_id collate "C" for update of i
"""
_DRAFTS = """
    select i.id, i.tenant_id, h.tenant_id is not null as on_hold
    from billing.tenant_invoices i left join billing.tenant_holds h on h.tenant_id = i.tenant_id
    where i.period_start = %(month)s and i.status = 'draft'
"""
_DONE = """
    select i.invoice_number, i.tenant_id, i.period_start, i.status, i.total_cents, i.finance_invoice_id
    from billing.tenant_invoices i
    join changes c on c.tenant_id = i.tenant_id and i.period_start = %(month)s
    order by i.tenant_id collate "C"
"""


def find(connection: Connection, references: Sequence[str]) -> dict[UUID, BillingMonth]:
    """The ids of the invoices with these numbers or ids, and their months. Raises OperationRefused."""
    rows = connection.exec_driver_sql(_FIND, {"references": list(references)}).mappings().all()
    known = {name for row in rows for name in (row["invoice"], str(row["id"]))}
    if not references:
        raise OperationRefused("no invoice is named: give at least one number, like INV-202604-00001")
    if unknown := [repr(reference) for reference in references if reference not in known]:
        raise OperationRefused(f"no invoice {', '.join(unknown)}: give its number, like INV-202604-00001, or its id")
    return {row["id"]: BillingMonth(row["period_start"]) for row in rows}


def drafts(connection: Connection, month: BillingMonth, tenants: Collection[str]) -> tuple[list[UUID], list[str]]:
    """The ids of the month's drafts that can be issued, and the tenants whose draft cannot, because they are on hold.

    Only of these tenants, if any are named. Raises OperationRefused for a named tenant without a draft to issue.
    """
    rows = [
        row
        for row in connection.exec_driver_sql(_DRAFTS, {"month": month.start}).mappings()
        if not tenants or row["tenant_id"] in tenants
    ]
    on_hold = sorted(row["tenant_id"] for row in rows if row["on_hold"])
    if missing := sorted(set(tenants) - {row["tenant_id"] for row in rows}):
        raise OperationRefused(f"no draft of {', '.join(map(repr, missing))} in {month}")
    if tenants and on_hold:
        raise OperationRefused(f"{', '.join(on_hold)} is on hold: release the tenant first")
    return [row["id"] for row in rows if not row["on_hold"]], on_hold


def issued(connection: Connection, invoices: Collection[UUID]) -> list[UUID]:
    """Those of the invoices that are issued."""
    query = "select id from billing.tenant_invoices where id = any(%(ids)s) and status = 'issued'"
    return list(connection.exec_driver_sql(query, {"ids": list(invoices)}).scalars())


_TO_CHANGE = """
    insert into changes (action, id, tenant_id, place)
    select %(action)s, id, tenant_id,
           case when %(action)s = 'issue' and invoice_number is null then
               row_number() over (partition by invoice_number is null order by tenant_id collate "C") end
    from billing.tenant_invoices where id = any(%(ids)s) and period_start = %(month)s
"""


def change(
    connection: Connection,
    act: Act,
    invoices: Mapping[UUID, BillingMonth],
    author: Author,
    paid_at: dt.datetime | None = None,
) -> list[Row]:
    """Do the act on these invoices, all or none; returns them as they are afterwards, by month and tenant.

    The transaction must hold the lock of each of the months. Raises OperationRefused.
    """
    ids = list(invoices)
    _refuse(connection, act, ids, paid_at)
    if act in (REOPEN, WITHDRAW):
        _take_back(connection, act, ids)
    connection.exec_driver_sql(CHANGES)
    done: list[Row] = []
    for month in sorted(set(invoices.values())):
        parameters = act_parameters(month, author, numbers(connection, month), paid_at)
        connection.exec_driver_sql("truncate changes")
        connection.exec_driver_sql(_TO_CHANGE, {"action": act.action, "ids": ids, "month": month.start})
        for statement in (CHANGE_STATUS, RECORD):
            connection.exec_driver_sql(statement, parameters)
        done += [dict(row) for row in connection.exec_driver_sql(_DONE, parameters).mappings()]
        if act in (ISSUE, VOID, PAY):
            outbox.enqueue(connection, month, [invoice for invoice, of in invoices.items() if of == month])
    return done


def _refuse(connection: Connection, act: Act, ids: Sequence[UUID], paid_at: dt.datetime | None) -> None:
    """Raise OperationRefused unless the act may be done to each of the invoices."""
    targets = connection.exec_driver_sql(_TARGETS, {"ids": ids}).mappings().all()
    for row in targets:
        _refuse_state(act, row)
        _refuse_day(row, paid_at)
        if act is REOPEN and row["is_delivered"]:
            raise OperationRefused(
                f"{row['invoice']} of {row['tenant_id']} was delivered, and stays void: bill what is owed on the"
                " tenant's next invoice with `arcadia add-line`"
            )
        if act is WITHDRAW and not row["is_pushed"]:
            raise OperationRefused(f"{row['invoice']} of {row['tenant_id']} is not with finance")
    if act is ISSUE:
        for row in targets:
            _refuse_tenant(row)
        _refuse_elsewhere(connection, ids)
        _refuse_outdated(connection, ids)


def _take_back(connection: Connection, act: Act, invoices: Sequence[UUID]) -> None:
    """What finance is to be told of an invoice that is reopened or withdrawn; of none that it may be about to have."""
    if unsettled := outbox.in_flight(connection, invoices):
        raise OperationRefused(
            f"{', '.join(unsettled)} is on its way to finance, which may have it: run `arcadia finance push` first"
        )
    take_back = outbox.forget if act is REOPEN else outbox.withdraw
    take_back(connection, invoices)


def _refuse_state(act: Act, row: RowMapping) -> None:
    if row["status"] not in act.before:
        raise OperationRefused(
            f"{row['invoice']} of {row['tenant_id']} is {row['status']} and cannot become {act.after}: only"
            f" {' and '.join(act.before)} can"
        )


def _refuse_day(row: RowMapping, paid_at: dt.datetime | None) -> None:
    """No invoice is paid before it is issued."""
    if paid_at and (issued_on := row["issued_at"].astimezone(dt.UTC).date()) > paid_at.date():
        raise OperationRefused(
            f"{row['invoice']} was issued on {issued_on}, and cannot have been paid on {paid_at.date()} already"
        )


def _refuse_tenant(row: RowMapping) -> None:
    """No draft is issued to a tenant on hold, or to one whose GST status has changed."""
    if row["on_hold"]:
        raise OperationRefused(f"{row['tenant_id']} is on hold: release the tenant first")
    if row["gst_status_changed"]:
        raise OperationRefused(
            f"draft {row['invoice']} of {row['tenant_id']} was made when the tenant had another GST status: run"
            f" {BillingMonth(row['period_start'])} again, which works it out anew and issues it"
        )


def _refuse_elsewhere(connection: Connection, drafts: Sequence[UUID]) -> None:
    """No draft is issued that bills what moved to another tenant, or what another tenant's invoice bills already."""
    for invoice, tenant, month, subscription in billed.moved(connection, drafts):
        raise OperationRefused(
            f"draft {invoice} bills subscription {subscription}, which is not {tenant}'s any more: run {month} again,"
            " which works it out anew"
        )
    for claim in billed.billed_twice(connection, drafts):
        other = f"{claim.other_invoice} of {claim.other_tenant}"
        advice = f"{other} is paid and stays, so" if claim.other_is_paid else f"void {other} first; or"
        raise OperationRefused(
            f"draft {claim.invoice} of {claim.tenant} bills subscription {claim.subscription}, whose month"
            f" {claim.month} is billed by {other} already, for subscription {claim.other_subscription}: {advice} run"
            f" {claim.month} again, and quote_faults says what else can be done"
        )


def _refuse_outdated(connection: Connection, drafts: Sequence[UUID]) -> None:
    """No draft is issued whose correction, manual line or promotional credit is on another invoice too."""
    what = "carries a correction that is on another invoice too, or has changed"
    carried = [(what, *found) for found in corrections.outdated(connection, drafts)]
    what = "carries a manual line or promotional credit that is on another invoice too"
    carried += [(what, *found) for found in credits.outdated(connection, drafts)]
    for what, invoice, tenant, month in carried:
        raise OperationRefused(
            f"draft {invoice} of {tenant} {what}: run {month} again, which works it out anew and issues it"
        )


_EVENT = """
    insert into billing.invoice_events (tenant_id, event, operator, reason, run_id)
    select tenant_id, %(event)s, %(operator)s, %(reason)s, %(run)s from unnest(%(tenants)s::text[]) as tenant_id
    order by tenant_id collate "C"
"""
_HOLD = """
    insert into billing.tenant_holds (tenant_id, operator, reason, run_id)
    select tenant_id, %(operator)s, %(reason)s, %(run)s from unnest(%(tenants)s::text[]) as tenant_id
"""
_RELEASE = "delete from billing.tenant_holds where tenant_id = any(%(tenants)s)"
_DRAFTS_OF = """
    select invoice_number, tenant_id, period_start, status, total_cents from billing.tenant_invoices
    where tenant_id = any(%(tenants)s) and status = 'draft' order by period_start, tenant_id collate "C"
"""
_STATE = """
    select t.id as tenant_id, h.held_at, h.operator, h.reason from cloud.tenants t
    left join billing.tenant_holds h on h.tenant_id = t.id where t.id = any(%(tenants)s)
    union all
    select tenant_id, held_at, operator, reason from billing.tenant_holds
    where tenant_id = any(%(tenants)s) and tenant_id not in (select id from cloud.tenants)
"""


def hold(connection: Connection, tenants: Sequence[str], author: Author) -> list[Row]:
    """Put the tenants on hold, all or none; returns their drafts. Raises OperationRefused.

    No month may run meanwhile: the transaction must be database.exclusive_transaction().
    """
    state = _state(connection, tenants)
    for tenant in tenants:
        if held_at := state[tenant]["held_at"]:
            raise OperationRefused(
                f"{tenant} is on hold already, by {state[tenant]['operator']} since {held_at:%Y-%m-%d}:"
                f" {state[tenant]['reason']}"
            )
    return _change_holds(connection, _HOLD, "held", tenants, author)


def release(connection: Connection, tenants: Sequence[str], author: Author) -> list[Row]:
    """Release the tenants from hold, all or none; returns their drafts. As hold()."""
    state = _state(connection, tenants)
    if free := [tenant for tenant in tenants if not state[tenant]["held_at"]]:
        raise OperationRefused(f"{', '.join(free)} is not on hold")
    return _change_holds(connection, _RELEASE, "released", tenants, author)


def _state(connection: Connection, tenants: Sequence[str]) -> dict[str, RowMapping]:
    if not tenants:
        raise OperationRefused("no tenant is named: give at least one id, like pilot")
    rows = connection.exec_driver_sql(_STATE, {"tenants": list(tenants)}).mappings()
    state = {row["tenant_id"]: row for row in rows}
    if unknown := [repr(tenant) for tenant in tenants if tenant not in state]:
        raise OperationRefused(f"no tenant {', '.join(unknown)}: the table tenants lists them all")
    return state


def _change_holds(
    connection: Connection, statement: str, event: str, tenants: Sequence[str], author: Author
) -> list[Row]:
    parameters = {
        "tenants": sorted(set(tenants)),
        "event": event,
        "operator": author.operator,
        "reason": author.reason,
        "run": author.run_id,
    }
    connection.exec_driver_sql(statement, parameters)
    connection.exec_driver_sql(_EVENT, parameters)
    return [dict(row) for row in connection.exec_driver_sql(_DRAFTS_OF, parameters).mappings()]


_SET_SERIES = """
    insert into billing.number_series (prefix)
    select %(prefix)s where not exists (select from billing.tenant_invoices where invoice_number is not null)
    on conflict do nothing
"""


def set_number_series(connection: Connection, prefix: str) -> None:
    """Have this database's invoice numbers begin with a prefix like SYD instead of INV. Raises OperationRefused.

    The transaction must be database.exclusive_transaction(): no month gives numbers meanwhile.
    """
    if not re.fullmatch(r"[A-Z]{2,8}[0-9]{0,4}", prefix, re.ASCII):
        raise OperationRefused(
            f"{prefix!r} is no prefix: write 2 to 8 capitals, and up to 4 digits after them, like SYD"
        )
    if not connection.exec_driver_sql(_SET_SERIES, {"prefix": prefix}).rowcount:
        now = connection.exec_driver_sql("select billing.number_prefix()").scalar_one()
        raise OperationRefused(f"numbers begin with {now}: that is settled once, before the first invoice has a number")


def on_hold(connection: Connection) -> Series:
    """The tenants on hold."""
    return bulk.read(connection, "select tenant_id from billing.tenant_holds", pa.schema([("tenant_id", TEXT)]), {})[
        "tenant_id"
    ]


_ACCEPT = """
    insert into billing.usage_acceptances
        (period_start, deployment_id, resource_kind, usage_cutoff, frozen_records, remaining_records, operator, reason,
         run_id)
    select period_start, %(deployment)s, %(kind)s, usage_cutoff, %(frozen)s, %(remaining)s, %(operator)s, %(reason)s,
           %(run)s
    from billing.billing_months where period_start = %(month)s
"""


def accept_vanished(connection: Connection, month: BillingMonth, counted: Counted, author: Author) -> pd.DataFrame:
    """Accept as lost the month's frozen usage that is not in what was counted now; returns it, as usage.VANISHED.

    The next month end counts what is left. The transaction must hold the month's lock.
    """
    refuse_partial_view(connection)
    vanished = usage.vanished(connection, month, counted)
    for row in vanished.to_dict("records"):
        connection.exec_driver_sql(
            _ACCEPT,
            {
                "month": month.start,
                "deployment": row["deployment_id"],
                "kind": row["resource_kind"],
                "frozen": row["frozen_records"],
                "remaining": row["remaining_records"],
                "operator": author.operator,
                "reason": author.reason,
                "run": author.run_id,
            },
        )
    return vanished
