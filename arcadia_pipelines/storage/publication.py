"""Publishing a month: its invoices, their lines and their events in one transaction, chunk by chunk.

Belongs here: carrying out a plan (billing/reconcile.py). Does not: making it, or the invoices that stand (ledger.py).
"""

import datetime as dt
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.invoice import INVOICE_LINES, INVOICES
from arcadia_pipelines.billing.money import COUNT, FLAG, TEXT
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.reconcile import ACTIONS
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.acts import (
    CHANGE_STATUS,
    CHANGES,
    DUE_ON,
    NUMBER,
    RECORD,
    SUPPLIER,
    Author,
    Numbers,
    act_parameters,
    numbers,
)
from arcadia_pipelines.storage.streams import ahead

_LINES = "tenant_invoice_lines"
_CHANGES = pa.schema(
    [
        *(("action", TEXT), ("replaces", FLAG), ("restores", FLAG), ("place", COUNT)),
        *(field for field in INVOICES if field.name != "charges_cents"),
    ]
)
# Fails if somebody has changed one of them since the month was read; whoever wants to from now on waits.
_LOCK_STANDING = "select from billing.tenant_invoices i join changes c on c.id = i.id for update of i"
_ADD = f"""
    insert into billing.tenant_invoices
        (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents, total_cents, status, issued_at,
         invoice_number, content_sha256, lines_sha256, usage_cutoff, run_id, meta, supplier_id, due_on)
    select c.id, tenant_id, %(month)s, %(end)s, subtotal_cents, tax_cents, total_cents,
           case action when 'add' then 'issued' else 'draft' end, case action when 'add' then now() end,
           {NUMBER.format("")}, content_sha256, lines_sha256, %(cutoff)s, %(run)s, meta,
           s.id, (now() at time zone 'UTC')::date + s.payment_terms_days
    from changes c left join {SUPPLIER} s on action = 'add'
    where action in ('add', 'draft')
"""
# The event keeps the replaced revision whole. It is written after the invoice's row has changed.
_REVISE = f"""
    with replaced as materialized (
        select i.id, i.status, jsonb_build_object('invoice', to_jsonb(i), 'lines', coalesce(l.lines, '[]')) as snapshot
        from changes c
        join billing.tenant_invoices i on i.id = c.id
        left join lateral (
            select jsonb_agg(to_jsonb(l) order by l.line_no) as lines
            from billing.tenant_invoice_lines l where l.invoice_id = i.id and l.period_start = %(month)s
        ) l on true
        where c.replaces
    ),
    revised as (
        update billing.tenant_invoices i
        set subtotal_cents = c.subtotal_cents, tax_cents = c.tax_cents, total_cents = c.total_cents,
            content_sha256 = c.content_sha256, lines_sha256 = c.lines_sha256, meta = c.meta, usage_cutoff = %(cutoff)s,
            run_id = %(run)s, revision = i.revision + 1, updated_at = greatest(now(), i.updated_at),
            supplier_id = case when i.issued_at is not null then s.id end,
            due_on = coalesce(i.due_on, case when i.issued_at is not null then {DUE_ON.format("s")} end)
        from changes c
        left join {SUPPLIER} s on true
        where c.replaces and i.id = c.id
        returning i.*
    )
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id, snapshot)
    select i.id, i.invoice_number, i.tenant_id, i.period_start,
           case r.status when 'draft' then 'redrafted' else 'reissued' end, i.revision, i.total_cents,
           i.content_sha256, %(operator)s, %(reason)s, %(run)s, r.snapshot
    from revised i join replaced r on r.id = i.id
    order by i.tenant_id collate "C"
"""
_DROP_REPLACED_LINES = """
    delete from billing.tenant_invoice_lines l using changes c
    where (c.replaces or c.restores) and l.invoice_id = c.id and l.period_start = %(month)s
"""
# PostgreSQL refuses COPY into a table with row-level security, except to its owner.
_NEW_LINES = "create temporary table new_lines (like billing.tenant_invoice_lines including defaults) on commit drop"
_ADD_LINES = "insert into billing.tenant_invoice_lines select * from new_lines"


@dataclass(frozen=True)
class Publication:
    """Which run publishes a month, and up to when its usage counts."""

    month: BillingMonth
    usage_cutoff: dt.datetime
    run_id: str


_SUMMARY_ROWS = 20
_LEAVES = ("frozen", "on_hold", "held_back")

Chunks = Generator[tuple[pd.DataFrame, ...], None, None]
"""For some tenants: the plan (reconcile.plan), the recomputed invoices, and their lines."""


@dataclass(frozen=True)
class Published:
    """What a publication did: invoices by action (reconcile.ACTIONS), and the rows of the plan that people look at."""

    actions: dict[str, int]
    changed: pd.DataFrame
    """The changed invoices with the largest differences, at most 20, largest first."""
    left: pd.DataFrame
    """The rows of the plan whose invoices were left as they are: locked (`frozen`), on hold, held back."""
    owed: pd.DataFrame
    """What the locked invoices that were computed would charge now: tenant_id and charges_cents, differing or not."""

    @property
    def frozen(self) -> pd.DataFrame:
        """The locked invoices that differ from what would be billed now."""
        return self.left[self.left["action"] == "frozen"].reset_index(drop=True)


def publish(connection: Connection, publication: Publication, chunks: Chunks, kept: int = 0) -> Published:
    """Carry out the plans: each chunk is a plan (reconcile.plan), the recomputed invoices, and their lines.

    Nothing else is touched; `kept` invoices are unchanged, and therefore in no plan. The transaction must be
    database.month_at_an_instant(), publishing: then PostgreSQL refuses to change an invoice that was paid, delivered,
    pushed or changed by somebody else since the plan was made, and the step is retried.
    """
    month = publication.month
    connection.exec_driver_sql(CHANGES)
    if months.has_partition(connection, _LINES, month):
        connection.exec_driver_sql(_NEW_LINES)
        return _carry_out(connection, publication, "pg_temp.new_lines", chunks, kept)
    with months.new_partition(connection, _LINES, month) as partition:
        return _carry_out(connection, publication, partition, chunks, kept)


@dataclass(frozen=True)
class _Prepared:
    """A chunk, ready to be written: its plan, and the encoded rows of what changes."""

    plan: pd.DataFrame
    changes: pd.DataFrame
    """The rows of the plan that change an invoice."""
    numbered: int
    """How many of them are issued for the first time."""
    change_rows: bulk.Encoded
    line_rows: bulk.Encoded


def _carry_out(connection: Connection, publication: Publication, into: str, chunks: Chunks, kept: int) -> Published:
    """Chunk by chunk: while PostgreSQL writes one, those after it are computed and prepared.

    The lines are copied `into` a new partition, or into `new_lines` if the month has a partition.
    """
    actions = dict.fromkeys(ACTIONS, 0) | {"keep": kept}
    shown, left, owed = [], [], []
    left_numbers = numbers(connection, publication.month)
    types = bulk.types_of(connection, "pg_temp.changes"), bulk.types_of(connection, into)
    with closing(ahead(_prepared(publication.month, chunks, *types))) as prepared:
        for chunk in prepared:
            for action, count in chunk.plan["action"].value_counts().items():
                actions[str(action)] += int(count)
            left.append(chunk.plan[chunk.plan["action"].isin(_LEAVES)])
            owed.append(chunk.plan[chunk.plan["locked"]][["tenant_id", "charges_cents"]])
            shown.append(_largest(chunk.changes))
            if len(chunk.changes):
                _write_invoices(connection, publication, chunk, left_numbers)
                bulk.copy(connection, into, chunk.line_rows)
                if into == "pg_temp.new_lines":
                    connection.exec_driver_sql(_ADD_LINES)
                    connection.exec_driver_sql("truncate new_lines")
                left_numbers = left_numbers.after(chunk.numbered)
    whole = (pd.concat(rows, ignore_index=True) for rows in (left, owed))
    return Published(actions, _largest(pd.concat(shown)), *whole)


def _prepared(
    month: BillingMonth, chunks: Chunks, change_types: bulk.Types, line_types: bulk.Types
) -> Iterator[_Prepared]:
    with closing(chunks):
        for plan, invoices, lines in chunks:
            yield _prepare(month, plan, invoices, lines, change_types, line_types)


def _prepare(
    month: BillingMonth,
    plan: pd.DataFrame,
    invoices: pd.DataFrame,
    lines: pd.DataFrame,
    change_types: bulk.Types,
    line_types: bulk.Types,
) -> _Prepared:
    writes = plan["action"].isin(["add", "draft"]) | plan["replaces"] | plan["restores"]
    changes = plan[writes | plan["action"].isin(["issue", "void"])]
    written = invoices["tenant_id"].isin(plan[writes]["tenant_id"])
    if not written.all():
        lines = lines[lines["invoice_id"].isin(invoices[written]["id"])]
    foreign = changes[(changes["replaces"] | changes["restores"]) & ~changes["id"].isin(invoices["id"])]
    if len(foreign):  # invoices that another system inserted keep their ids
        ids = foreign.merge(invoices, on="tenant_id", suffixes=("", "_of_ours")).set_index("id_of_ours")["id"]
        lines = lines.assign(invoice_id=lines["invoice_id"].map(ids).fillna(lines["invoice_id"]))
    is_numbered = changes["action"].isin(["add", "issue"]) & changes["invoice_number"].isna()
    columns = changes[["id", "tenant_id", "action", "replaces", "restores"]].assign(
        place=is_numbered.cumsum().where(is_numbered)
    )
    rows = columns.merge(invoices.drop(columns="id"), on="tenant_id", how="left")
    return _Prepared(
        plan,
        changes,
        int(is_numbered.sum()),
        bulk.encode(rows, _CHANGES, change_types),
        months.encode(month, lines, INVOICE_LINES, line_types),
    )


def _largest(plan: pd.DataFrame) -> pd.DataFrame:
    ordered = plan.sort_values("difference_cents", key=abs, ascending=False, kind="stable", ignore_index=True)
    return ordered.head(_SUMMARY_ROWS)


def _write_invoices(connection: Connection, publication: Publication, chunk: _Prepared, left: Numbers) -> None:
    """Write the chunk's invoices and events, but not its new lines; the numbers are taken from those `left`."""
    month, plan = publication.month, chunk.changes
    connection.exec_driver_sql("truncate changes")
    bulk.copy(connection, "pg_temp.changes", chunk.change_rows)
    parameters = {
        **act_parameters(month, Author("month_end", "month end", publication.run_id), left),
        "end": month.end,
        "cutoff": publication.usage_cutoff,
    }
    if plan["standing_sha256"].notna().any():
        connection.exec_driver_sql(_LOCK_STANDING)
    connection.exec_driver_sql(_ADD, parameters)
    if plan["replaces"].any() or plan["restores"].any():
        for statement in (_REVISE, _DROP_REPLACED_LINES):
            connection.exec_driver_sql(statement, parameters)
    if plan["action"].isin(["issue", "void"]).any():
        connection.exec_driver_sql(CHANGE_STATUS, parameters)
    connection.exec_driver_sql(RECORD, parameters)
