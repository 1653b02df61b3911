"""Audits: a month's invoices computed a second way, in plain SQL written apart from the engine, and compared.

Belongs here: running them. Does not: what each audit checks (audits/), the checks of a run (controls.py, of which some
are audits too), and running the engine again (replay.py).
"""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import left
from arcadia_pipelines.proof.audits import amounts, carried, entered, records
from arcadia_pipelines.proof.audits.kinds import Audit
from arcadia_pipelines.proof.audits.standing import STANDING
from arcadia_pipelines.proof.control import Control, Finding
from arcadia_pipelines.proof.controls import find, find_each
from arcadia_pipelines.storage import chain, ledger, losses, migrations
from arcadia_pipelines.storage.catalogue import bounds
from arcadia_pipelines.storage.database import refuse_partial_view
from arcadia_pipelines.storage.kinds import CHARGES

AUDITS = [*amounts.AUDITS, *records.AUDITS, *carried.AUDITS, *entered.AUDITS]

# How many rows there are to examine, and which invoices some audits leave out.
_LOOKED_AT = f"""
    with {STANDING},
    lines as (
        select count(*) as lines,
               count(*) filter (where s.by_line and l.kind in {CHARGES}) as supply_lines,
               count(*) filter (where not s.is_void and l.kind in ('credit', 'adjustment')
                                  and not l.meta ?| array['manual_line', 'grant']) as corrections,
               count(*) filter (where not s.is_void and l.meta ?| array['manual_line', 'grant']) as entered
        from billing.tenant_invoice_lines l left join standing s on s.id = l.invoice_id
        where l.period_start = %(month)s
    ),
    usage as (
        select count(*) as usage_rows, coalesce(sum(record_count), 0)::bigint as usage_records
        from billing.metered_usage where period_start = %(month)s
    ),
    quoted as (
        select count(*) as quote_lines from billing.deployment_quote_lines q
        left join standing s on s.tenant_id = q.tenant_id
        where q.period_start = %(month)s and coalesce(s.by_line, true)
    ),
    events as (select count(*) as events from billing.invoice_events where period_start = %(month)s),
    invoices as (
        select count(*) as invoices, count(invoice_number) as numbers,
               count(*) filter (where by_sum) as sums, count(*) filter (where not is_orphaned) as hashes,
               count(lines_sha256) as line_hashes,
               count(*) filter (where is_void) as void, count(*) filter (where is_held and not is_void) as held_back,
               count(*) filter (where by_sum and is_frozen) as frozen,
               count(*) filter (where by_sum and not is_frozen) as deployment_deleted
        from standing
    )
    select *, {len(losses.TELLS_OF)} as tables from lines, usage, quoted, events, invoices
"""
# Not by a query: documents are made again.
_LEFT = Audit(Control(left.NAME, "tenant_invoices", left.DESCRIPTION, query="", remedy=left.REMEDY), "documents")
_LEFT_OUT = ("void", "held_back", "frozen", "deployment_deleted")


@dataclass(frozen=True)
class Proof:
    """The result of an audit: how many rows it examined, and the rows that are wrong."""

    audit: Audit
    looked_at: int
    finding: Finding


@dataclass(frozen=True)
class Report:
    """The audits of a month, and how many invoices are left out of the comparison line by line, by reason."""

    month: BillingMonth
    head: str | None
    """Of the month's chain of events, in hex."""
    proofs: list[Proof]
    left_out: dict[str, int]

    @property
    def differences(self) -> int:
        """Rows found, over all audits."""
        return sum(proof.finding.count for proof in self.proofs)


def months(connection: Connection) -> list[BillingMonth]:
    """The months to audit, oldest first: those that were published, and those of which something is missing.

    Raises StorageError if a whole table of ours is gone.
    """
    migrations.refuse_lost_tables(connection)
    published = ledger.invoiced_months(connection)
    others = (month for month in losses.traced_months(connection) if month not in published)
    return sorted([*published, *(month for month in others if losses.missing(connection, month))])


def run(connection: Connection, month: BillingMonth) -> Report:
    """Audit an invoiced month. The transaction must see one state of the database throughout (database.snapshot)."""
    refuse_partial_view(connection)
    parameters = bounds(month)
    counts = connection.exec_driver_sql(_LOOKED_AT, parameters).mappings().one()
    findings = find_each(connection, [audit.control for audit in AUDITS], month)
    proofs = [Proof(audit, counts[audit.of], found) for audit, found in zip(AUDITS, findings, strict=True)]
    proofs.append(Proof(_LEFT, *left.find(connection, month)))
    return Report(month, chain.head(connection, month), proofs, {why: counts[why] for why in _LEFT_OUT})


def changed(connection: Connection, month: BillingMonth) -> Proof:
    """The first audit that finds invoices or lines changed since their newest event; the first of all if none does."""
    names = ("invoices_are_as_their_events_left_them", "lines_hash_is_of_the_lines")
    proofs = [
        Proof(audit, 0, find(connection, audit.control, month)) for audit in AUDITS if audit.control.name in names
    ]
    return next((proof for proof in proofs if proof.finding.count), proofs[0])
