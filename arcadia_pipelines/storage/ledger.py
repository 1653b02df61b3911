"""The invoices as they stand, and publishing a month's: rows, lines and events in one transaction."""

import datetime as dt
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.invoice import INVOICE_LINES, INVOICES
from arcadia_pipelines.billing.money import CENTS, COUNT, FLAG, TEXT, WHOLE
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.billing.reconcile import ACTIONS, EXISTING
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import bulk, months
from arcadia_pipelines.storage.catalogue import BILLED_SUBSCRIPTIONS, bounds
from arcadia_pipelines.storage.streams import Query, ahead

_LINES = "tenant_invoice_lines"
_CHANGES = pa.schema([("action", TEXT), ("replaces", FLAG), ("restores", FLAG), ("place", COUNT), *INVOICES])
CHANGES = """
    create temporary table changes (
        restores boolean not null default false,
        action text, replaces boolean not null default false, id uuid, tenant_id text,
        subtotal_cents bigint, tax_cents bigint, total_cents bigint, content_sha256 text, lines_sha256 text, meta jsonb,
        place bigint
    ) on commit drop
"""
"""What is to become of a month's invoices, for the statements below: one row per invoice that changes.

They find it by its id: the planner, which has not heard of a new month, might go through the whole of it for each.
"""

# Whoever has changed one since the month was read is noticed here, and whoever wants to now waits.
_LOCK_STANDING = "select from billing.tenant_invoices i join changes c on c.id = i.id for update of i"
_PLACE = "(%(last)s + {0}place + width_bucket({0}place, %(taken)s::bigint[]))::text"
NUMBER = f"%(series)s || lpad({_PLACE}, greatest(5, length({_PLACE})), '0')"
"""The number of what is issued for the first time, the `place`-th of the Numbers; null without place.

Takes the table's name with a point, or nothing.
"""
# A number that was ever issued is not issued again, even if its invoice is gone. What another system has put in does
# not count, whatever its form.
_LAST_NUMBER = """
    select coalesce(max(split_part(invoice_number, '-', 3)::bigint), 0) from billing.invoice_events
    where period_start = %(month)s and event = 'issued' and invoice_number ~ %(pattern)s
"""
# In the order of digits, whatever the collation: the index is enough.
_TAKEN = """
    select split_part(invoice_number, '-', 3)::bigint as place from billing.tenant_invoices
    where invoice_number between %(series)s || '00000' and %(series)s || '999999999'
      and invoice_number ~ %(pattern)s and split_part(invoice_number, '-', 3)::bigint > %(last)s
    order by place
"""
_ADD = f"""
    insert into billing.tenant_invoices
        (id, tenant_id, period_start, period_end, subtotal_cents, tax_cents, total_cents, status, issued_at,
         invoice_number, content_sha256, lines_sha256, usage_cutoff, run_id, meta)
    select id, tenant_id, %(month)s, %(end)s, subtotal_cents, tax_cents, total_cents,
           case action when 'add' then 'issued' else 'draft' end, case action when 'add' then now() end,
           {NUMBER.format("")}, content_sha256, lines_sha256, %(cutoff)s, %(run)s, meta
    from changes where action in ('add', 'draft')
"""
# The revision that is replaced is kept whole in the event, which is written once the invoice is the new one.
_REVISE = """
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
            run_id = %(run)s, revision = i.revision + 1, updated_at = greatest(now(), i.updated_at)
        from changes c
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
# PostgreSQL copies nothing into a table that has row security but for its owner.
_NEW_LINES = "create temporary table new_lines (like billing.tenant_invoice_lines including defaults) on commit drop"
_ADD_LINES = "insert into billing.tenant_invoice_lines select * from new_lines"
CHANGE_STATUS = f"""
    update billing.tenant_invoices i
    set status = case c.action when 'issue' then 'issued' when 'void' then 'void' when 'pay' then 'paid'
                               when 'reopen' then 'draft' else i.status end,
        invoice_number = coalesce(i.invoice_number, {NUMBER.format("c.")}),
        issued_at = coalesce(i.issued_at, case c.action when 'issue' then now() end),
        paid_at = case c.action when 'pay' then coalesce(%(paid_at)s, greatest(now(), i.issued_at)) else i.paid_at end,
        finance_invoice_id = case when c.action <> 'withdraw' then i.finance_invoice_id end,
        pushed_to_finance_at = case when c.action <> 'withdraw' then i.pushed_to_finance_at end,
        updated_at = greatest(now(), i.updated_at)
    from changes c
    where c.action in ('issue', 'void', 'pay', 'reopen', 'withdraw') and i.id = c.id
"""
RECORD = """
    insert into billing.invoice_events
        (invoice_id, invoice_number, tenant_id, period_start, event, revision, total_cents, content_sha256, operator,
         reason, run_id)
    select i.id, i.invoice_number, i.tenant_id, i.period_start,
           case c.action when 'add' then 'issued' when 'draft' then 'drafted' when 'issue' then 'issued'
                         when 'void' then 'voided' when 'pay' then 'paid' when 'reopen' then 'reopened'
                         when 'withdraw' then 'withdrawn' else 'rebuilt' end,
           i.revision, i.total_cents, i.content_sha256, %(operator)s, %(reason)s, %(run)s
    from changes c
    join billing.tenant_invoices i on i.id = c.id
    where c.action in ('add', 'draft', 'issue', 'void', 'pay', 'reopen', 'withdraw') or c.restores
    order by i.tenant_id collate "C"
"""
LINES_SHA256 = "billing.sha256_hex(string_agg(billing.line_text(l), chr(30) order by l.line_no))"
"""The lines_sha256 of an invoice, from its lines: an aggregate over rows `l` of tenant_invoice_lines."""
VOIDED_BY_AN_OPERATOR = """
    (i.status = 'void' and coalesce(
        (select e.event = 'voided' and e.operator <> 'month_end' from billing.invoice_events e
         where e.invoice_id = i.id and e.event not in ('rebuilt', 'withdrawn') order by e.id desc limit 1), false))
"""
"""Whether the invoice i is void because somebody decided so, and gave a reason: that needs no attention."""
STANDING = Query(
    f"""
    select i.*, billing.is_locked(i) as locked,
           {VOIDED_BY_AN_OPERATOR} as voided_by_an_operator
    from billing.tenant_invoices i where period_start = %(month)s
    """,
    EXISTING,
)
"""The month's invoices as they stand. Takes `month`."""


@dataclass(frozen=True)
class Author:
    """Who changes invoices, why, and in which Dagster run."""

    operator: str
    reason: str
    run_id: str


@dataclass(frozen=True)
class Publication:
    """Which run publishes a month, and up to when its usage counts."""

    month: BillingMonth
    usage_cutoff: dt.datetime
    run_id: str


@dataclass(frozen=True)
class Numbers:
    """A month's series of numbers: the last that was given, and what somebody else has taken of those after it."""

    last: int
    taken: tuple[int, ...] = ()

    @property
    def places(self) -> list[int]:
        """For each number that is taken, the first place among the free ones that is after it."""
        return [number - self.last - before for before, number in enumerate(self.taken)]

    def after(self, count: int) -> "Numbers":
        """What is left once so many are given."""
        last = self.last + count + sum(place <= count for place in self.places)
        return Numbers(last, tuple(number for number in self.taken if number > last))


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
    """The rows of the plan whose invoices stand otherwise than they would be made: frozen, on hold, held back."""

    @property
    def frozen(self) -> pd.DataFrame:
        """The frozen invoices that differ."""
        return self.left[self.left["action"] == "frozen"].reset_index(drop=True)


def publish(connection: Connection, publication: Publication, chunks: Chunks, kept: int = 0) -> Published:
    """Carry out the plans: each chunk is a plan (reconcile.plan), the recomputed invoices, and their lines.

    Nothing else is touched; `kept` invoices are unchanged, and therefore in no plan. The transaction must be
    database.month_at_an_instant(), publishing: then PostgreSQL refuses to change an invoice that was paid, pushed or
    changed by somebody else since the plan was made, and the step is retried.
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
    """A chunk, ready to be written: what is to be done, and the rows of what changes."""

    plan: pd.DataFrame
    changes: pd.DataFrame
    """The rows of the plan that change an invoice."""
    numbered: int
    """How many of them are issued for the first time."""
    change_rows: bulk.Encoded
    line_rows: bulk.Encoded


def _carry_out(connection: Connection, publication: Publication, into: str, chunks: Chunks, kept: int) -> Published:
    """Chunk by chunk: while PostgreSQL writes one, those after it are computed and prepared.

    The lines are copied `into` a new partition, or for a month that has one into `new_lines`.
    """
    actions = dict.fromkeys(ACTIONS, 0) | {"keep": kept}
    shown, left = [], []
    left_numbers = numbers(connection, publication.month)
    types = bulk.types_of(connection, "pg_temp.changes"), bulk.types_of(connection, into)
    with closing(ahead(_prepared(publication.month, chunks, *types))) as prepared:
        for chunk in prepared:
            for action, count in chunk.plan["action"].value_counts().items():
                actions[str(action)] += int(count)
            left.append(chunk.plan[chunk.plan["action"].isin(_LEAVES)])
            shown.append(_largest(chunk.changes))
            if len(chunk.changes):
                _write_invoices(connection, publication, chunk, left_numbers)
                bulk.copy(connection, into, chunk.line_rows)
                if into == "pg_temp.new_lines":
                    connection.exec_driver_sql(_ADD_LINES)
                    connection.exec_driver_sql("truncate new_lines")
                left_numbers = left_numbers.after(chunk.numbered)
    return Published(actions, _largest(pd.concat(shown)), pd.concat(left, ignore_index=True))


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
    if len(foreign):  # invoices that somebody else has put in, which keep their ids
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
    """Carry out the chunk's plan but for the new lines, and record it; the numbers are those that are `left`."""
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


def numbers(connection: Connection, month: BillingMonth) -> Numbers:
    """The month's series as it stands: INV-YYYYMM-NNNNN."""
    series = _series(month)
    parameters = {"month": month.start, "series": series, "pattern": f"^{series}([0-9]{{5}}|[1-9][0-9]{{5,8}})$"}
    last = int(connection.exec_driver_sql(_LAST_NUMBER, parameters).scalar_one())
    taken = connection.exec_driver_sql(_TAKEN, {**parameters, "last": last}).scalars()
    return Numbers(last, tuple(taken))


def _series(month: BillingMonth) -> str:
    return f"INV-{month.start:%Y%m}-"


def act_parameters(
    month: BillingMonth, author: Author, left: Numbers, paid_at: dt.datetime | None = None
) -> dict[str, object]:
    """What the statements on `changes` take; `left` is numbers() before them."""
    return {
        "last": left.last,
        "taken": left.places,
        "month": month.start,
        "series": _series(month),
        "operator": author.operator,
        "reason": author.reason,
        "run": author.run_id,
        "paid_at": paid_at,
    }


REVENUE = pa.schema(
    [
        ("period_start", TEXT),
        ("resource_kind", TEXT),
        ("plan_base_cents", WHOLE),
        ("addon_cents", WHOLE),
        ("overage_cents", WHOLE),
        ("adjustment_cents", WHOLE),
        ("revenue_cents", WHOLE),
    ]
)
"""One row per month and resource kind, over all tenants, ex GST."""

# As the view revenue_by_kind, but for its tenants, which it would take long to tell apart.
_REVENUE = """
    select period_start, resource_kind, coalesce(sum(cents) filter (where kind = 'plan_base'), 0) as plan_base_cents,
           coalesce(sum(cents) filter (where kind = 'addon'), 0) as addon_cents,
           coalesce(sum(cents) filter (where kind = 'overage'), 0) as overage_cents,
           coalesce(sum(cents) filter (where kind in ('credit', 'adjustment')), 0) as adjustment_cents,
           sum(cents) as revenue_cents
    from (
        select l.period_start, l.kind, coalesce(l.resource_kind, l.kind) as resource_kind, sum(l.amount_cents) as cents
        from billing.tenant_invoice_lines l join billing.tenant_invoices i on i.id = l.invoice_id
        where l.kind <> 'tax' and i.status in ('issued', 'paid')
          and l.period_start >= %(first)s and l.period_start < %(end)s
        group by 1, 2, 3
    ) kinds
    group by 1, 2 order by 1, 2
"""


SUMS = pa.schema([("invoices", COUNT), ("subtotal_cents", WHOLE), ("tax_cents", WHOLE), ("total_cents", WHOLE)])
"""One row: how many invoices there are, and the sums of those that are not void."""

LARGEST = pa.schema(
    [
        ("tenant_id", TEXT),
        ("subtotal_cents", CENTS),
        ("tax_cents", CENTS),
        ("total_cents", CENTS),
        ("status", TEXT),
        ("invoice_number", TEXT),
    ]
)
"""One row per invoice that is not void, largest first."""

_SUMS = """
    select count(*) as invoices, coalesce(sum(subtotal_cents) filter (where status <> 'void'), 0) as subtotal_cents,
           coalesce(sum(tax_cents) filter (where status <> 'void'), 0) as tax_cents,
           coalesce(sum(total_cents) filter (where status <> 'void'), 0) as total_cents
    from billing.tenant_invoices where period_start = %(month)s
"""
_LARGEST = """
    select * from billing.tenant_invoices where period_start = %(month)s and status <> 'void'
    order by total_cents desc, tenant_id collate "C" limit 10
"""


def sums(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The sums of the month's invoices, as SUMS."""
    return bulk.read(connection, _SUMS, SUMS, {"month": month.start})


def largest(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """The month's ten largest invoices, as LARGEST."""
    return bulk.read(connection, _LARGEST, LARGEST, {"month": month.start})


def invoice_count(connection: Connection, month: BillingMonth) -> int:
    """How many invoices the month has, void ones included."""
    query = "select count(*) from billing.tenant_invoices where period_start = %(month)s"
    return int(connection.exec_driver_sql(query, {"month": month.start}).scalar_one())


def revenue_of(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Revenue of the month, as REVENUE."""
    return bulk.read(connection, _REVENUE, REVENUE, {"first": month.start, "end": month.end})


def revenue_before(connection: Connection, month: BillingMonth) -> pd.DataFrame:
    """Revenue of the eleven months before, as REVENUE."""
    first = month.end.replace(year=month.end.year - 1)
    return bulk.read(connection, _REVENUE, REVENUE, {"first": first, "end": month.start})


def line_count(connection: Connection, month: BillingMonth) -> int:
    """How many invoice lines the month has."""
    query = "select count(*) from billing.tenant_invoice_lines where period_start = %(month)s"
    return int(connection.exec_driver_sql(query, {"month": month.start}).scalar_one())


MONTHS_OF = """
    (with recursive months as (
        select min(period_start) as period_start from billing.{0}
        union all
        select (select min(period_start) from billing.{0} where period_start > months.period_start)
        from months where months.period_start is not null
    )
    select period_start from months where period_start is not null)
"""
"""The months of a table with an index that begins with them: one look for each."""
OURS = "lines_sha256 is not null"
"""Whether an invoice was made here, and not put in by another system."""
_PUBLISHED = ("invoice_events", "billed_subscriptions", "invoiced_tenants", "invoice_corrections")
INVOICED_MONTHS = f"""
    select period_start from ({months.ATTACHED}) a where name = '{_LINES}'
    union {" union ".join(map(MONTHS_OF.format, _PUBLISHED))}
    union select period_start from {MONTHS_OF.format("tenant_invoices")} i
    where exists (select from billing.tenant_invoices where period_start = i.period_start and {OURS})
    union select to_date(chain, 'YYYY-MM') from billing.event_heads where chain <> 'tenants'
"""
"""The months whose invoices have been published, be it none, by whatever is left that tells: `period_start`."""


def invoiced_months(connection: Connection) -> list[BillingMonth]:
    """The months whose invoices have been published, be it none, oldest first; whatever has been lost of them since.

    A month that has only invoices of another system is not one.
    """
    return sorted(map(BillingMonth, connection.exec_driver_sql(INVOICED_MONTHS).scalars()))


_WITHOUT_INVOICE = f"""
    select distinct s.tenant_id from ({BILLED_SUBSCRIPTIONS}) s
    where not exists (select from billing.tenant_invoices i
                      where i.tenant_id = s.tenant_id and i.period_start = %(month)s)
    order by 1
"""


def tenants_without_invoice(connection: Connection, month: BillingMonth) -> list[str]:
    """The tenants with a subscription in the month and no invoice, be it void; also those that are held back."""
    found = connection.exec_driver_sql(_WITHOUT_INVOICE, bounds(month))
    return list(found.scalars())


def is_invoiced(connection: Connection, month: BillingMonth) -> bool:
    """Whether the month's invoices have been published, be it none, and whatever has been lost of them since."""
    return month in invoiced_months(connection)


def corrected(connection: Connection, month: BillingMonth) -> list[str]:
    """The tenants whose frozen invoice of the month is known to differ from what would be billed now."""
    query = "select tenant_id from billing.invoice_corrections where period_start = %(month)s"
    return list(connection.exec_driver_sql(query, {"month": month.start}).scalars())


_SHOWN = """
    select id, tenant_id, period_start, period_end, currency, subtotal_cents, tax_cents, total_cents, status, issued_at,
           paid_at, finance_invoice_id, pushed_to_finance_at, inserted_at, updated_at, invoice_number, revision,
           content_sha256, usage_cutoff, run_id, meta
    from billing.tenant_invoices where tenant_id = %(tenant)s and period_start = %(month)s
"""
_SHOWN_LINES = """
    select kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents, deployment_id, deployment_name,
           meta
    from billing.tenant_invoice_lines where invoice_id = %(invoice)s and period_start = %(month)s order by line_no
"""


class NotInvoiced(Exception):
    """There is no such invoice; the message says whether the tenant or the month is missing."""


def invoice_of(connection: Connection, tenant: str, month: BillingMonth) -> dict[str, object]:
    """The tenant's invoice of the month by column name, its lines in order under `lines`. Raises NotInvoiced."""
    parameters = {"tenant": tenant, "month": month.start}
    row = connection.exec_driver_sql(_SHOWN, parameters).mappings().one_or_none()
    if row is None:
        raise NotInvoiced(_why_not(connection, tenant, month))
    lines = connection.exec_driver_sql(_SHOWN_LINES, {**parameters, "invoice": row["id"]}).mappings()
    return {**row, "lines": [dict(line) for line in lines]}


def _why_not(connection: Connection, tenant: str, month: BillingMonth) -> str:
    known = connection.exec_driver_sql("select 1 from cloud.tenants where id = %(tenant)s", {"tenant": tenant}).scalar()
    if known is None:
        return f"no tenant {tenant!r}: see the table tenants for those there are"
    if not is_invoiced(connection, month):
        return why_not_invoiced(month)
    return f"tenant {tenant!r} has no invoice in {month}: nothing to bill, or held back (see quote_faults)"


def why_not_invoiced(month: BillingMonth) -> str:
    """Of a month without invoices: when there will be some, or what to do."""
    first = Settings.from_environment().first_month
    if month < first:
        return f"{month} is never invoiced: the first billing month is {first} (ARCADIA_FIRST_MONTH)"
    if month.end > dt.datetime.now(dt.UTC).date():
        return f"{month} is not over: it will be invoiced on {month.end} at 03:00 UTC"
    return f"{month} is not invoiced yet: run `arcadia invoice {month}`"


def row_versions(connection: Connection, month: BillingMonth) -> set[tuple[str, str, str]]:
    """Every row of the month in our tables as (table, place, writing transaction): equal sets, nothing written."""
    tables = [
        "metered_usage",
        "deployment_quote_lines",
        "unbilled_usage",
        "quote_faults",
        "tenant_invoices",
        "tenant_invoice_lines",
        "invoice_events",
        "billed_subscriptions",
    ]
    union = " union all ".join(
        f"select '{table}', tableoid::text || ctid::text, xmin::text"
        f" from billing.{table} where period_start = %(month)s"
        for table in tables
    )
    return {
        (table, place, writer) for table, place, writer in connection.exec_driver_sql(union, {"month": month.start})
    }
