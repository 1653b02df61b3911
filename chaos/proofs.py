"""After the storm: whether the invoices are right, whole and numbered, and nothing is left over.

Belongs here: reading the tables and comparing them with what the oracle says and with what was acknowledged while the
storm lasted, and asking `arcadia` for its own proofs. Does not: the rules of the money (oracle.py).
"""

import datetime as dt
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row, tuple_row

from arcadia_pipelines.pipeline.instance import DIED
from chaos import oracle
from chaos.journal import DONE, UNTOLD, Entry
from chaos.stage import Stage

RUNS_END_SECONDS = 420
MOST_NAMED = 10
CHARGES = oracle.ORDER[:5]
"""The kinds of lines that follow from the platform's rows; what is entered, granted and corrected comes after them."""
WARNINGS = {
    "all_usage_is_billed",  # some is of no plan
    "frozen_invoices_agree",
    "no_late_usage_in_the_month_before",
    "no_usage_is_stamped_ahead_of_the_clock",
    "corrections_are_carried",
    "manual_lines_are_carried",
}
"""The checks that may warn of a month that is right, after all that has happened."""

NAME_PAID_BY_OTHERS = ("newest_event_is_the_invoice", "invoices_are_as_their_events_left_them")
"""The audits that name what another program has made paid."""


@dataclass
class Found:
    """What is wrong, and how much was looked at."""

    wrong: list[str] = field(default_factory=list)
    wrong_cents: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, found: Sequence[object]) -> None:
        """Name the first of those that are wrong."""
        self.wrong += [f"{what}: {one}" for one in found[:MOST_NAMED]]
        if len(found) > MOST_NAMED:
            self.wrong.append(f"{what}: {len(found) - MOST_NAMED} more")


def prove(on: Stage, months: Sequence[dt.date], journal: Sequence[Entry]) -> Found:
    """All of it. Each month is run once more, twice; nothing else runs."""
    found = Found()
    found.add("no reason in one line", [f"{e.who}, {e.what}: {e.reason}" for e in journal if e.outcome == UNTOLD])
    count_runs(on, found)
    operate(on, found, "release-tenant", "select tenant_id from billing.tenant_holds order by 1")
    operate(on, found, "reopen-invoice", VOID)
    for month in months:
        run_again(on, month, found)
    before = _versions(on)
    for month in months:
        run_again(on, month, found)
    written = Counter((table, writer) for table, _, writer in _versions(on) - before)
    told = [f"{rows} rows of {table}, in transaction {writer}" for (table, writer), rows in sorted(written.items())]
    found.add("a run with nothing changed wrote", told)
    audit(on, months, found)
    prove_heads(on, journal, found)
    for month in months:
        replay(on, month, found)
    with psycopg.connect(on.url, row_factory=namedtuple_row) as connection:
        connection.execute("set search_path = pg_catalog")
        connection.execute("set transaction isolation level repeatable read")
        ask_the_oracle(connection, months, found)
        found.add("an acknowledged payment or push is lost", lost_payments(connection, journal))
        plain = connection.cursor(row_factory=tuple_row)
        for what, query in LEFT_OVER.items():
            found.add(what, [" ".join(map(str, row)) for row in plain.execute(query.encode())])
    return found


# By the command line.


def wait_for_runs(on: Stage) -> list[str]:
    """Wait until the daemon has ended all runs; those that it has not."""
    unfinished = """
        select status || ' since ' || coalesce(to_timestamp(start_time), create_timestamp) || ': run ' || run_id
        from dagster.runs where status in ('QUEUED', 'STARTING', 'STARTED', 'CANCELING')
    """
    until = time.monotonic() + RUNS_END_SECONDS
    while True:
        with on.connect() as connection:
            has_started = connection.execute("select to_regclass('dagster.runs') is not null").fetchone() == (True,)
            runs = [row for (row,) in connection.execute(unfinished)] if has_started else ["Dagster has no tables"]
        if not runs or time.monotonic() > until:
            return [f"never ended: {run}" for run in runs]
        time.sleep(2)


def count_runs(on: Stage, found: Found) -> None:
    """How the runs of the storm ended, whoever launched them, and how many were reported by others as dead."""
    ends = "select lower(status), count(*) from dagster.runs where pipeline_name = 'month_end' group by 1 order by 1"
    dead = """
        select count(*) from dagster.event_logs
        where dagster_event_type = 'PIPELINE_FAILURE' and position(%s in event) > 0
    """
    with on.connect() as connection:
        for status, number in connection.execute(ends):
            found.counts[f"month ends of the storm: {status}"] = number
        [found.counts["runs that died and were reported"]] = connection.execute(dead, [DIED]).fetchone() or [0]


VOID = "select id::text from billing.tenant_invoices where status = 'void' and finance_invoice_id is null order by 1"


def operate(on: Stage, found: Found, command: str, query: str) -> None:
    """An operator does it to all that the query names, so that everybody is invoiced and compared."""
    with on.connect() as connection:
        names = [name for (name,) in connection.execute(query.encode())]
    if names:
        who = ("--operator", "ada", "--reason", "the storm is over", "--no-dry-run")
        code, _, said = on.arcadia(command, *names, *who)
        found.add(f"{command} is refused", [said] if code else [])
    found.counts[f"afterwards by {command}"] = len(names)


def run_again(on: Stage, month: dt.date, found: Found) -> None:
    """A run by hand goes through, and no check fails but those that may warn."""
    code, out, said = on.arcadia("invoice", f"{month:%Y-%m}", "--json")
    found.add("a month cannot be run", [f"{month:%Y-%m}: {said}"] if code else [])
    failed = {} if code else json.loads(out)["failed_checks"]
    found.add("a check fails", [f"{month:%Y-%m}: {name} {failed[name]}" for name in failed if name not in WARNINGS])
    found.counts["month ends by hand"] += 1


def audit(on: Stage, months: Sequence[dt.date], found: Found) -> None:
    """`arcadia audit` finds nothing but what finance has paid without an event."""
    code, out, said = on.arcadia("audit", "--json")
    if not out:
        found.add("no audit", [said or f"exit code {code}"])
        return
    reports = json.loads(out)["months"]
    found.add("not audited", sorted({f"{month:%Y-%m}" for month in months} - {report["month"] for report in reports}))
    paid = paid_by_others(on)
    for report in reports:
        for proof in report["audits"]:
            expected = paid[report["month"]] if proof["audit"] in NAME_PAID_BY_OTHERS else 0
            found.counts["rows audited"] += proof["looked_at"]
            if proof["differences"] != expected:
                what = f"{report['month']} {proof['audit']}, {proof['differences']} and not {expected}"
                found.add("audit", [f"{what}: {proof['rows'][:3]}"])


def prove_heads(on: Stage, journal: Sequence[Entry], found: Found) -> None:
    """`arcadia audit --head` proves the first and the last head that month ends printed of each month."""
    noted: dict[str, list[str]] = defaultdict(list)
    for entry in journal:
        if isinstance(entry.noted, dict) and entry.outcome == DONE:
            noted[entry.noted["month"]] += entry.noted["heads"]
    paid = paid_by_others(on)
    for month, heads in sorted(noted.items()):
        for head in {*heads[:1], *heads[-1:]}:
            code, _, said = on.arcadia("audit", "--head", head)
            is_expected = f"up to {head} stand, but {paid[month]} invoice" in said if paid[month] else code == 0
            found.add("a head that was printed is not proved", [] if is_expected else [f"{month} {head}: {said}"])
            found.counts["heads proved"] += 1


def paid_by_others(on: Stage) -> Counter[str]:
    """How many invoices of each month another program has made paid: without an event, which `arcadia audit` names."""
    query = """
        select to_char(period_start, 'YYYY-MM') from billing.tenant_invoices i
        where status = 'paid'
          and not exists (select from billing.invoice_events e where e.invoice_id = i.id and e.event = 'paid')
    """
    with on.connect() as connection:
        return Counter(month for (month,) in connection.execute(query))


def replay(on: Stage, month: dt.date, found: Found) -> None:
    """`arcadia replay` finds the invoices identical."""
    code, out, said = on.arcadia("replay", f"{month:%Y-%m}", "--json")
    found.add("replay", [f"{month:%Y-%m}: {said}"] if code else [])
    if out:
        found.counts["invoices replayed"] += json.loads(out)["identical"]


# By the oracle.


@dataclass
class Invoice:
    """One that stands: its charges by what they bill, the cents that it carries of other months, and those entered."""

    row: Any
    charges: Counter[oracle.Line] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    entered: Counter[str] = field(default_factory=Counter)
    """By the id of the manual line, or of the grant."""

    @property
    def is_owed(self) -> bool:
        """Whether somebody has to pay it, or will have."""
        return bool(self.row.status != "void")

    @property
    def is_frozen(self) -> bool:
        """Whether it stays as it is."""
        return self.row.status in ("paid", "void") or self.row.is_pushed

    @property
    def charges_cents(self) -> int:
        """Its plan, addon, overage, discount and commitment lines."""
        return sum(line.cents for line in self.charges.elements())


Invoices = dict[tuple[str, dt.date], Invoice]


def ask_the_oracle(connection: psycopg.Connection[Any], months: Sequence[dt.date], found: Found) -> None:
    """Every tenant's every month, and what is carried from one to the next."""
    platform, gst_free = platform_of(connection)
    invoices = _invoices(connection, found)
    differences = dict[tuple[str, dt.date], int]()
    for month in months:
        owed = oracle.owed(platform, records_of(connection, month), month)
        _compare_unbilled(connection, month, owed, found)
        tenants = {*owed.lines, *(tenant for tenant, of in invoices if of == month)}
        for tenant in sorted(tenants):
            invoice = invoices.get((tenant, month))
            lines = Counter(map(_compared, owed.lines.get(tenant, [])))
            found.counts["tenant-months by the oracle"] += 1
            for wrong, cents in compare(lines, invoice, tenant in gst_free):
                number = invoice.row.invoice_number if invoice else "no invoice"
                found.add("oracle", [f"{month:%Y-%m} {tenant} ({number}): {wrong}"])
                found.wrong_cents += abs(cents)
            if invoice and invoice.is_owed and invoice.is_frozen:
                owed_cents = sum(line.cents for line in lines.elements())
                differences[tenant, month] = owed_cents - invoice.charges_cents
    _compare_corrections(connection, months, invoices, differences, found)
    _compare_entered(connection, months, invoices, found)
    _compare_grants(connection, months, invoices, found)


def compare(lines: Counter[oracle.Line], invoice: Invoice | None, is_free: bool) -> Iterator[tuple[str, int]]:
    """What is wrong with an invoice, and by how many cents."""
    if invoice is None:
        if lines:
            yield "is owed and not invoiced", sum(line.cents for line in lines.elements())
        return
    row = invoice.row
    if lines and not invoice.is_owed and not row.is_pushed:
        yield "is void, and owed", sum(line.cents for line in lines.elements())
    if not invoice.is_frozen:
        for line, times in (lines - invoice.charges).items():
            yield f"lacks {times} x {line}", line.cents * times
        for line, times in (invoice.charges - lines).items():
            yield f"has {times} x {line}", line.cents * times
        if row.status == "draft":
            yield "is a draft, and nobody is on hold", row.total_cents
        if not lines and not invoice.carried and not invoice.entered:
            yield "bills nothing, and is not void", row.total_cents
    subtotal = invoice.charges_cents + sum(invoice.carried.values()) + sum(invoice.entered.values())
    tax = None if is_free else oracle.gst(subtotal)
    if (row.subtotal_cents, row.tax_cents, row.total_cents) != (subtotal, tax or 0, subtotal + (tax or 0)):
        sums = (row.subtotal_cents, row.tax_cents, row.total_cents)
        yield f"sums to {sums}, its lines to {subtotal} and GST {tax}", row.total_cents - subtotal - (tax or 0)
    if row.tax_lines != ([] if tax is None else [tax]):
        yield f"has tax lines {row.tax_lines}, and not {tax}", 0
    if not row.in_order:
        yield "has its lines in no order", 0


def _compared(line: oracle.Line) -> oracle.Line:
    """What the rules say about a line: not what a commitment is called."""
    return line._replace(description="") if line.kind == "commitment" else line


def _compare_entered(
    connection: psycopg.Connection[Any], months: Sequence[dt.date], invoices: Invoices, found: Found
) -> None:
    """What operators entered is billed once, or waits for an invoice that is not locked."""
    billed = Counter[str]()
    for invoice in invoices.values():
        billed.update(invoice.entered if invoice.is_owed else {})
    for line in connection.execute("select *, id::text as name from billing.manual_lines"):
        own, newest = (invoices.get((line.tenant_id, of)) for of in (line.period_start, months[-1]))
        may_wait = own is not None and own.is_frozen and newest is not None and newest.is_frozen
        found.counts["lines entered by hand"] += 1
        if billed[line.name] != line.amount_cents and not (may_wait and not billed[line.name]):
            what = f"{line.period_start:%Y-%m} {line.tenant_id}: {line.amount_cents} c, {billed[line.name]} are billed"
            found.add("a line entered by hand", [what])
            found.wrong_cents += abs(line.amount_cents - billed[line.name])


def _compare_grants(
    connection: psycopg.Connection[Any], months: Sequence[dt.date], invoices: Invoices, found: Found
) -> None:
    """Grants pay no more than there is of them nor than there is to pay, and a tenant's newest invoice all they can."""
    grants = list(connection.execute("select *, id::text as name from billing.credit_grants"))
    taken = Counter[str]()
    for invoice in invoices.values():
        taken.update(invoice.entered if invoice.is_owed else {})
    found.counts["credit grants"] = len(grants)
    found.counts["cents of credit that paid"] = -sum(taken[grant.name] for grant in grants)
    for (tenant, month), invoice in sorted(invoices.items()):
        pays = [g for g in grants if g.tenant_id == tenant and (not g.expires_on or month < g.expires_on)]
        uses = {grant.name for grant in grants if invoice.entered.get(grant.name)}
        left = {grant.name: grant.amount_cents + taken[grant.name] for grant in pays}
        wrong = [f"{name} is expired" for name in uses - left.keys()]
        wrong += [f"{name} has {cents} c left" for name, cents in left.items() if cents < 0]
        subtotal = invoice.row.subtotal_cents
        if uses and subtotal < 0:
            wrong.append(f"credit pays {-subtotal} c more than there is to pay")
        if month == months[-1] and invoice.is_owed and not invoice.is_frozen and subtotal > 0 and any(left.values()):
            wrong.append(f"{subtotal} c are to pay, and {left} is left of the grants")
        found.add("credit", [f"{month:%Y-%m} {tenant}: {what}" for what in wrong])


def _compare_corrections(
    connection: psycopg.Connection[Any],
    months: Sequence[dt.date],
    invoices: Invoices,
    differences: Mapping[tuple[str, dt.date], int],
    found: Found,
) -> None:
    """What frozen invoices bill too little or too much is known, and carried by later ones once; or it waits."""
    query = "select tenant_id, period_start, difference_cents from billing.invoice_corrections"
    known = {
        (tenant, month): cents
        for tenant, month, cents in connection.execute(query)
        if (invoice := invoices.get((tenant, month))) and invoice.is_owed
    }
    carried = Counter[tuple[str, dt.date]]()
    for (tenant, _), invoice in invoices.items():
        for corrects, cents in invoice.carried.items() if invoice.is_owed else ():
            carried[tenant, dt.date.fromisoformat(corrects)] += cents
    for tenant, month in sorted({*differences, *known, *carried}):
        owed, noted, on_others = (sums.get((tenant, month), 0) for sums in (differences, known, carried))
        newest = invoices.get((tenant, months[-1]))
        may_wait = month == months[-1] or (newest is not None and newest.is_frozen)
        found.counts["corrections carried"] += on_others != 0
        found.counts["corrections that wait"] += owed != on_others
        if noted != owed or (on_others != owed and not may_wait):
            what = f"{month:%Y-%m} {tenant}: {owed} c are to be corrected, {noted} are known, {on_others} are carried"
            found.add("corrections", [what])
            found.wrong_cents += abs(owed - (noted if may_wait else on_others))


def _compare_unbilled(connection: psycopg.Connection[Any], month: dt.date, owed: oracle.Owed, found: Found) -> None:
    query = """
        select deployment_id::text, resource_kind, reason, sum(quantity) from billing.unbilled_usage
        where period_start = %s group by 1, 2, 3
    """
    stands = {(d, kind, reason): Fraction(q) for d, kind, reason, q in connection.execute(query, [month])}
    differing = sorted(
        f"{month:%Y-%m} {key}" for key in {*stands, *owed.unbilled} if stands.get(key, 0) != owed.unbilled.get(key, 0)
    )
    found.add("unbilled usage", differing)
    found.counts["rows of unbilled usage"] += len(stands)


def platform_of(connection: psycopg.Connection[Any]) -> tuple[oracle.Platform, set[str]]:
    """The platform's rows, and the tenants that are free of GST; of a connection that gives named tuples."""

    def rows(query: str) -> list[Any]:
        return connection.execute(query.encode()).fetchall()

    def prices(query: str) -> dict[Any, dict[dt.date, Any]]:
        found: dict[Any, dict[dt.date, Any]] = defaultdict(dict)
        for *key, since, price in rows(query):
            found[tuple(key) if key[1:] else key[0]][since] = price
        return found

    subscriptions = """
        select s.id::text, tenant_id, deployment_id::text, code, status, started_at, ended_at
        from cloud.subscriptions s join cloud.plans p on p.id = plan_id
    """
    addons = """
        select subscription_id::text, code, quantity, started_at, ended_at
        from cloud.subscription_addons join cloud.addons a on a.id = addon_id
    """
    plans, addon = "join cloud.plans on id = plan_id", "join cloud.addons on id = addon_id"
    platform = oracle.Platform(
        [oracle.Subscription(*row) for row in rows(subscriptions)],
        [oracle.Addon(*row) for row in rows(addons)],
        prices(f"select code, effective_from, base_price_cents from cloud.plan_prices {plans}"),
        prices(f"select code, effective_from, price_cents from cloud.addon_prices {addon}"),
        _rates(rows, "plan", ()),
        frozenset(code for (code,) in rows("select code from cloud.plans where proration = 'daily'")),
        prices(f"select tenant_id, code, effective_from, base_price_cents from cloud.tenant_plan_prices {plans}"),
        prices(f"select tenant_id, code, effective_from, price_cents from cloud.tenant_addon_prices {addon}"),
        _rates(rows, "tenant", ("tenant_id",)),
        [
            oracle.Discount(*row)
            for row in rows(
                "select id::text, tenant_id, deployment_id::text, line_kind, resource_kind, percent, amount_cents,"
                " starts_on, ends_on, description from cloud.discounts"
            )
        ],
        [
            oracle.Commitment(*row)
            for row in rows(
                "select tenant_id, deployment_id::text, minimum_cents, starts_on, ends_on from cloud.commitments"
            )
        ],
        dict(rows("select id::text, name from cloud.cloud_deployments")),
    )
    return platform, {tenant for (tenant,) in rows("select id from cloud.tenants where gst_free_reason is not null")}


def _rates(rows: Callable[[str], list[Any]], whose: str, more: Sequence[str]) -> dict[Any, dict[dt.date, Any]]:
    """The rates of the list by plan and kind, or tenants' own by tenant, plan and kind; each with its tiers."""
    tiers = defaultdict[tuple[Any, ...], list[oracle.Tier]](list)
    key = ("plan_id", "resource_kind", *more)
    for row in rows(f"select * from cloud.{whose}_rate_tiers"):
        of = (*(getattr(row, name) for name in key), row.effective_from)
        tiers[of].append(oracle.Tier(row.up_to, row.unit_price_cents, row.flat_cents))
    found: dict[Any, dict[dt.date, Any]] = defaultdict(dict)
    for row in rows(f"select code, r.* from cloud.{whose}_rates r join cloud.plans on id = plan_id"):
        rate = oracle.Rate(
            row.included_quantity,
            row.unit,
            row.unit_price_cents,
            row.charge_model,
            row.package_size,
            row.maximum_cents,
            row.pooled,
            tuple(tiers[(*(getattr(row, name) for name in key), row.effective_from)]),
        )
        of = (*(getattr(row, name) for name in more), row.code, row.resource_kind)
        found[of][row.effective_from] = None if row.unit_price_cents is None else rate
    return found


def records_of(connection: psycopg.Connection[Any], month: dt.date) -> Iterator[oracle.Record]:
    """The usage records of a month."""
    query = """
        select deployment_id::text, resource_kind, quantity, recorded_at from cloud.usage_records
        where recorded_at >= %s::timestamp at time zone 'UTC' and recorded_at < %s::timestamp at time zone 'UTC'
    """
    return (oracle.Record(*row) for row in connection.execute(query, [month, oracle.after(month)]))


def _invoices(connection: psycopg.Connection[Any], found: Found) -> Invoices:
    """All invoices, by tenant and month."""
    heads = """
        select i.*, num_nonnulls(finance_invoice_id, pushed_to_finance_at) > 0 as is_pushed,
               array(select amount_cents from billing.tenant_invoice_lines l
                     where l.invoice_id = i.id and kind = 'tax') as tax_lines,
               (select array_agg(line_no order by line_no) = array_agg(n::integer order by n)
                       and coalesce(max(line_no) filter (where kind = 'tax'), max(line_no)) = max(line_no)
                from (select line_no, kind, row_number() over (order by line_no) as n
                      from billing.tenant_invoice_lines l where l.invoice_id = i.id) l) as in_order
        from billing.tenant_invoices i
    """
    lines = "select * from billing.tenant_invoice_lines where kind <> 'tax'"
    by_id = {row.id: Invoice(row) for row in connection.execute(heads)}
    for line in connection.execute(lines):
        invoice = by_id.get(line.invoice_id)
        cents = oracle.half_up(Fraction(line.qty) * Fraction(line.unit_price_cents) / Fraction(line.price_per))
        if invoice is None or line.amount_cents != cents:
            found.add("oracle", [f"line {line.id}: no invoice, or {line.amount_cents} and not {cents}"])
        elif line.kind in CHARGES:
            quantity, price = Fraction(line.qty), Fraction(Decimal(line.unit_price_cents))
            deployment = line.deployment_id and str(line.deployment_id)
            charge = (deployment, line.kind, line.resource_kind, line.description, quantity, line.unit)
            bills = oracle.Line(*charge, price, line.amount_cents, Fraction(line.price_per))
            invoice.charges[_compared(bills)] += 1
        elif "corrects" in line.meta:
            invoice.carried[line.meta["corrects"]] += line.amount_cents
        else:
            invoice.entered[line.meta.get("manual_line") or line.meta["grant"]] += line.amount_cents
    found.counts["invoices"] = len(by_id)
    for status in ("issued", "paid", "void"):
        found.counts[f"invoices {status}"] = sum(invoice.row.status == status for invoice in by_id.values())
    return {(invoice.row.tenant_id, invoice.row.period_start): invoice for invoice in by_id.values()}


def lost_payments(connection: psycopg.Connection[Any], journal: Sequence[Entry]) -> list[str]:
    """Of what finance or an operator was told is paid or pushed: what is not so any more, or bills something else."""
    query = """
        select id::text, status, total_cents, revision, num_nonnulls(finance_invoice_id, pushed_to_finance_at) > 0
        from billing.tenant_invoices
    """
    stands = {invoice: rest for invoice, *rest in connection.execute(query)}
    lost = []
    for entry in journal:
        if entry.outcome == DONE and entry.what in ("payments by SQL", "invoices paid by the job", "pushes by SQL"):
            for was in entry.noted:
                status, cents, revision, is_pushed = stands.get(was["id"], ("gone", 0, 0, False))
                is_so = is_pushed if entry.what == "pushes by SQL" else status == "paid"
                if not is_so or (cents, revision) != (was["total_cents"], was["revision"]):
                    lost.append(f"{entry.what}: {was} is {status}, {cents} c, revision {revision}")
    return lost


# What is left over.

LEFT_OVER = {
    "numbers with a gap": """
        select to_char(period_start, 'YYYY-MM'), count(*), count(distinct invoice_number),
               max(split_part(invoice_number, '-', 3)::integer)
        from billing.tenant_invoices where invoice_number is not null group by period_start
        having count(*) <> max(split_part(invoice_number, '-', 3)::integer)
            or count(*) <> count(distinct invoice_number)
    """,
    "no number": "select id, status from billing.tenant_invoices where invoice_number is null and status <> 'void'",
    "a tenant held back": "select period_start, tenant_id, fault, detail from billing.quote_faults",
    "a lock": """
        select locktype, mode, classid, objid, a.application_name, a.query from pg_locks l
        left join pg_stat_activity a using (pid) where pid <> pg_backend_pid() or locktype = 'advisory'
    """,
    "a connection": """
        select application_name, state, query from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()
    """,
    "a prepared transaction": "select gid, owner from pg_prepared_xacts",
    "a temporary table": "select oid::regclass, reltype from pg_class where relpersistence = 't'",
    "a partition that is attached to nothing": r"""
        select oid::regclass from pg_class
        where relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema', 'dagster', 'cloud')
          and relkind = 'r' and relname ~ '_\d{4}_\d\d$' and not relispartition
    """,
    "a constraint of a partition's making": "select conrelid::regclass from pg_constraint where conname = 'one_month'",
    "an index that is not valid": "select indexrelid::regclass, indrelid::regclass from pg_index where not indisvalid",
}
"""By name: a query for what must not be there."""


def _versions(on: Stage) -> set[tuple[str, ...]]:
    """Every row of ours: its table, its place, and who wrote it; but for what a run notes of itself."""
    with on.connect() as connection:
        tables = connection.execute(
            "select oid::regclass::text from pg_class where relkind = 'r' and relname <> 'passed_controls'"
            " and relnamespace::regnamespace::text !~ '^(pg_.*|information_schema|dagster|cloud)$'"
        ).fetchall()
        union = " union all ".join(f"select '{name}', ctid::text, xmin::text from {name}" for (name,) in tables)
        return {(str(table), str(place), str(writer)) for table, place, writer in connection.execute(union.encode())}
