"""`arcadia audit`, `arcadia replay` and `arcadia rebuild`: that the invoices are right, and lost rows put back."""

from typing import Any

import click
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.money import dollars, number_of, plain
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import ERR, JSON, CommandError, Month, engine, print_table, say, to_json, unit_price
from arcadia_pipelines.proof import audit as audits
from arcadia_pipelines.proof.rebuild import rebuild as rebuild_month
from arcadia_pipelines.proof.replay import Difference, Line, Replay
from arcadia_pipelines.proof.replay import replay as replay_month
from arcadia_pipelines.storage import acts, chain, database, ledger

_LEFT_OUT = {
    "void": "void: nothing is owed",
    "held_back": "of tenants that are held back or on hold (see quote_faults and tenant_holds)",
    "frozen": "paid, delivered or pushed, compared by sum and corrections",
    "deployment_deleted": "with a deleted deployment, compared by sum",
}


@click.command()
@click.argument("month", type=Month(), required=False)
@click.option(
    "--head",
    metavar="HASH",
    help="Prove instead that nothing up to this head, which a month end or an audit printed, changed.",
)
@JSON
def audit(month: BillingMonth | None, head: str | None, as_json: bool) -> None:
    """Work MONTH's invoices out a second way, in plain SQL, and compare; every month unless given.

    A month is what any table tells of: what is missing of one is an error too.

    Exit code 0 if all is as it must be; else 1, and the rows that are not are named. The head of a month's events is
    printed: keep it outside the database, and --head proves later that nobody has rewritten what led to it.
    """
    on = engine()
    if head is not None:
        _prove(on, head, month, as_json)
        return
    with database.snapshot(on) as connection:
        months = audits.months(connection)
    _require(month, months)
    reports = []
    with ERR.status("") as status:
        for audited in [month] if month else months:
            status.update(f"auditing {audited}")
            with database.snapshot(on) as connection:
                reports.append(audits.run(connection, audited))
    if as_json:
        click.echo(to_json({"months": [_as_json(report) for report in reports]}))
    else:
        _print_reports(reports)
    if found := [report for report in reports if report.differences]:
        raise CommandError(
            f"{number_of(sum(report.differences for report in found), 'differences')} in"
            f" {', '.join(str(report.month) for report in found)}: see the rows named above, and what to do"
        )


def _prove(on: Engine, head: str, month: BillingMonth | None, as_json: bool) -> None:
    """Prove history up to the head, and that the month's invoices and lines are as its events left them."""
    with ERR.status("proving history"), database.snapshot(on) as connection:
        link = chain.prove(connection, head, month)
        found = audits.changed(connection, link.month) if link.month else None
    if found and found.finding.count:
        control, rows = found.audit.control, found.finding.offenders
        raise CommandError(
            f"the events up to {head} stand, but {number_of(found.finding.count, 'invoices')} of {link.month}"
            f" changed without one: {rows[0]['invoice_number'] or 'the draft'} of {rows[0]['tenant_id']}"
            f" ({control.name}): see `arcadia audit {link.month}`"
        )
    if as_json:
        click.echo(to_json({**vars(link), "head": head}))
        return
    said = " ".join(filter(None, (link.event, link.invoice_number, link.tenant_id)))
    say(
        f"{head} is event {link.place:,} of {link.chain}: {said}, by {link.operator},"
        f" {link.occurred_at:%Y-%m-%d %H:%M:%S} UTC. Nothing up to it was changed."
    )


@click.command()
@click.argument("month", type=Month())
@click.option("--operator", default="", help="Who asks for it, for the history; the database login unless given.")
@click.option("--reason", default="lost rows", show_default=True, help="Why, for the history.")
@JSON
def rebuild(month: BillingMonth, operator: str, reason: str, as_json: bool) -> None:
    """Put lost invoice lines and lost frozen usage of MONTH back, where hashes and quotes prove them the same.

    Lines come from replaced revisions, the quote lines, the frozen usage, or the usage records up to the invoice's
    cut-off; what cannot be proved is left as it is. Exit code 0 if nothing of the month is missing then; else 1.
    """
    with (
        ERR.status(f"rebuilding {month}"),
        database.month_at_an_instant(engine(), month, publishes=True) as connection,
    ):
        author = acts.Author(operator.strip() or database.login(connection), reason.strip(), "arcadia rebuild")
        parts = rebuild_month(connection, month, author)
    back, left = [part for part in parts if not part.why_not], [part for part in parts if part.why_not]
    if as_json:
        click.echo(to_json({"month": str(month), "rebuilt": list(map(vars, back)), "missing": list(map(vars, left))}))
    elif parts:
        rows = [(part.what, part.tenant_id or "", part.source or "-", part.why_not) for part in parts]
        print_table(("lost", "tenant", "put back from", "still missing"), rows, title=f"Rebuilt, {month}")
    else:
        say(f"nothing of {month} is missing")
    if left:
        raise CommandError(f"{number_of(len(left), 'parts')} of {month} are still missing: restore them from a backup")


@click.command()
@click.argument("month", type=Month())
@JSON
def replay(month: BillingMonth, as_json: bool) -> None:
    """Rebuild MONTH from its frozen usage with the engine, and prove the invoices identical.

    Exit code 0 if every content_sha256 is the same, and that of its lines; else 1, and the first difference is named.
    """
    with ERR.status(f"rebuilding {month}"), database.snapshot(engine()) as connection:
        _require(month, ledger.invoiced_months(connection))
        found = replay_month(connection, month)
    if as_json:
        click.echo(to_json({**vars(found), "month": str(month), "first": found.first and vars(found.first)}))
    else:
        _print_replay(found)
    if found.first:
        others = f"; others that differ: {found.differing - 1:,}" if found.differing > 1 else ""
        raise CommandError(f"{month} is not as rebuilt: {_in_words(found.first)}{others}")


def _require(month: BillingMonth | None, invoiced: list[BillingMonth]) -> None:
    if month and month not in invoiced:
        raise ledger.NotInvoiced(ledger.why_not_invoiced(month))
    if not invoiced:
        raise ledger.NotInvoiced("no month is invoiced yet: run `arcadia invoice` for one")


def _as_json(report: audits.Report) -> dict[str, Any]:
    return {
        "month": str(report.month),
        "head": report.head,
        "differences": report.differences,
        "left_out": report.left_out,
        "audits": [
            {
                "audit": proof.audit.control.name,
                "description": proof.audit.control.description,
                "looked_at": proof.looked_at,
                "of": proof.audit.of,
                "differences": proof.finding.count,
                "rows": proof.finding.offenders,
            }
            for proof in report.proofs
        ],
    }


def _print_reports(reports: list[audits.Report]) -> None:
    first, last = reports[0].month, reports[-1].month
    rows, styles = list[tuple[str, ...]](), dict[int, str]()
    for proofs in zip(*(report.proofs for report in reports), strict=True):
        looked_at = sum(proof.looked_at for proof in proofs)
        differences = sum(proof.finding.count for proof in proofs)
        what = proofs[0].audit
        if differences:
            styles[len(rows)] = "bold"
        rows.append((what.control.name, number_of(looked_at, what.of.replace("_", " ")), f"{differences:,}"))
    title = f"Audit of {first}" + (f" to {last}" if last != first else "")
    numbers = ("looked at", "differences")
    print_table(("audit", *numbers), rows, numbers=numbers, title=title, styles=styles)
    for report in reports:
        if report.head:
            say(f"head of {report.month}: {report.head}")
    for why, words in _LEFT_OUT.items():
        if left_out := sum(report.left_out[why] for report in reports):
            say(f"not compared line by line: {left_out:,} {words}")
    for report in reports:
        for proof in report.proofs:
            if proof.finding.count:
                _print_finding(report.month, proof)


def _print_finding(month: BillingMonth, proof: audits.Proof) -> None:
    control, rows = proof.audit.control, proof.finding.offenders
    shown = f", the first {len(rows)}" if proof.finding.count > len(rows) else ""
    say(f"\n{month} {control.name}: {proof.finding.count:,} found{shown}\n{control.description}\n{control.remedy}")
    for row in rows:
        say("  " + ", ".join(f"{name} {value}" for name, value in row.items() if value is not None))


def _print_replay(found: Replay) -> None:
    invoices = found.identical + found.differing
    verdict = f"different: {found.differing:,}" if found.differing else "all identical"
    say(f"{number_of(invoices, 'invoices')} rebuilt from frozen usage: {verdict}")
    for number, things, where in (
        (found.void, "void invoices", ""),
        (found.held_back, "tenants", ", held back (see quote_faults)"),
        (
            found.corrected,
            "paid, delivered or pushed invoices",
            ", as they were written, different by what is in invoice_corrections, or by no cent",
        ),
    ):
        if number:
            say(f"left out: {number_of(number, things)}{where}")


def _in_words(difference: Difference) -> str:
    """Which invoice, which line, and both sides."""
    invoice = f"{difference.invoice_number or 'the draft'} of tenant {difference.tenant_id}"
    if difference.standing_sha256 is None:
        return f"tenant {difference.tenant_id} has no invoice, and would be billed"
    if difference.rebuilt_sha256 is None:
        return f"{invoice} stands, and would not be there"
    standing, rebuilt = difference.standing, difference.rebuilt
    if standing is None and rebuilt is None and difference.standing_sha256 == difference.rebuilt_sha256:
        return f"{invoice} has the same lines, and is not as its newest event left it: see invoice_events"
    if standing is None and rebuilt is None:
        return f"{invoice} has the same lines and another hash: its GST status or the hash itself was changed"
    sides = [_line(line) if line else "none" for line in (standing, rebuilt)]
    if standing and rebuilt and sides[0] == sides[1]:
        sides = [str(line["meta"]) for line in (standing, rebuilt)]
    number = min(line["line_no"] for line in (standing, rebuilt) if line)
    return f"{invoice}, line {number}: standing {sides[0]}; rebuilt {sides[1]}"


def _line(line: Line) -> str:
    quantity = f"{plain(line['qty'])} {line['unit'] or ''}".rstrip()
    amount = dollars(int(line["amount_cents"]))
    return f"{line['description']}, {quantity} x {unit_price(line)} = {amount}"
