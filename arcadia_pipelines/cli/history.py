"""`arcadia diff` and `arcadia explain`: what changed on an invoice, and where its amounts come from, to be pasted."""

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import click
import pandas as pd
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.money import dollars, plain, price
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.cli.console import (
    JSON,
    OUT,
    CommandError,
    Month,
    document,
    engine,
    heading,
    print_table,
    say,
    taxable_cents,
    to_json,
)
from arcadia_pipelines.proof import compare, explanation, facts, history
from arcadia_pipelines.proof.explanations.findings import Explanation, Findings
from arcadia_pipelines.storage import database, ledger

_HEAD = (
    "id",
    "invoice_number",
    "tenant_id",
    "period_start",
    "period_end",
    "revision",
    "status",
    "usage_cutoff",
    "content_sha256",
    "subtotal_cents",
    "tax_cents",
    "total_cents",
    "meta",
)
Invoice = dict[str, Any]
Change = dict[str, Any]
_SUMS = ("discount", "commitment", "adjustment", "credit")
"""The kinds of lines that are one sum, without a quantity or a price."""
"""A row of compare.CHANGES."""


@click.command()
@click.argument("tenant")
@click.argument("month", type=Month())
@click.option("--from", "since", type=int, metavar="N", help="The earlier revision; unless given, the one before --to.")
@click.option("--to", "until", type=int, metavar="N", help="The later revision; unless given, the one that stands.")
@JSON
def diff(tenant: str, month: BillingMonth, since: int | None, until: int | None, as_json: bool) -> None:
    """Compare two revisions of TENANT's invoice of MONTH: which lines differ, by how much, and why.

    Causes: usage, price, subscription (a plan or an addon came, went or has another quantity), manual line, credit
    (what promotional credit pays), correction, tax (GST follows the taxable sum), and code: the same inputs and
    another amount, so the engine was changed.
    """
    with _reading() as connection:
        standing: Invoice = ledger.invoice_of(connection, tenant, month)
        past = history.replaced(connection, standing["id"])
        later: int = standing["revision"] if until is None else until
        earlier = max((revision for revision in past if revision < later), default=later) if since is None else since
        after = history.invoice_of(connection, tenant, month, later)
        before = history.invoice_of(connection, tenant, month, earlier)
        changes = compare.compare(history.lines_of(connection, before), history.lines_of(connection, after))
    steps = [{"revision": number, **step} for number, step in past.items() if earlier <= number < later]
    unseen = compare.unseen(before["meta"], after["meta"])
    if as_json:
        click.echo(to_json(_diff_document(before, after, steps, changes, unseen)))
    elif earlier == later:
        say(f"{f'revision {later} beside itself' if past else 'only one revision'}: nothing to compare")
    else:
        _print_diff(before, after, steps, _rows(changes), unseen)


@click.command()
@click.argument("invoice_or_line")
@JSON
def explain(invoice_or_line: str, as_json: bool) -> None:
    """Show where the amounts of an invoice come from, or of one line.

    INVOICE_OR_LINE is a number like INV-202604-00010, the id of an invoice, or the id of a line. Each amount is worked
    out again, from the prices and the usage records that are there now. The exit code is 1 if a sum does not agree with
    what was billed.
    """
    with _reading() as connection:
        tenant, month, line_no = history.find(connection, invoice_or_line)
        invoice = ledger.invoice_of(connection, tenant, month)
        lines = facts.worked_out(connection, invoice)
        explained = _explained(connection, invoice, lines, line_no)
    sums = explanation.totals(invoice, lines) if line_no is None else Findings()
    disagreements = [text for found in (*explained, sums) for text in found.disagreements]
    if as_json:
        click.echo(to_json(_explain_document(invoice, explained, sums, not disagreements)))
    else:
        _print_explained(invoice, explained, sums)
    if disagreements:
        sums_do = "1 sum does" if len(disagreements) == 1 else f"{len(disagreements)} sums do"
        where = "disagreements" if as_json else "what is marked !!"
        raise CommandError(f"{sums_do} not agree with what was billed: see {where}")


def _reading() -> AbstractContextManager[Connection]:
    return database.snapshot(engine())


def print_revision(invoice: Invoice) -> None:
    """Below an invoice of history.invoice_of: its content's hash, and what became of the revision."""
    say(f"Content sha256 {invoice['content_sha256']}")
    if invoice["replaced"]:
        say(_replacement({**invoice["replaced"], "revision": invoice["revision"]}))
    else:
        say("This revision stands.")


def _replacement(step: dict[str, Any]) -> str:
    return (
        f"Revision {step['by_revision']} replaced revision {step['revision']} on {step['replaced_at']:%Y-%m-%d %H:%M}"
        f" UTC, by {step['operator']}: {step['reason']} (run {step['run_id']})"
    )


def _diff_document(
    before: Invoice,
    after: Invoice,
    steps: list[dict[str, Any]],
    changes: pd.DataFrame,
    unseen: list[tuple[str, object, object]],
) -> dict[str, Any]:
    return {
        "from": None if before["revision"] == after["revision"] else _head(before),
        "to": _head(after),
        "difference_cents": after["total_cents"] - before["total_cents"],
        "replacements": steps,
        "changes": _rows(changes),
        "meta_changes": [{"name": name, "before": old, "after": new} for name, old, new in unseen],
    }


def _head(invoice: Invoice) -> dict[str, Any]:
    return {name: invoice[name] for name in _HEAD}


def _rows(changes: pd.DataFrame) -> list[Change]:
    rows = changes.astype(object).where(changes.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _print_diff(
    before: Invoice,
    after: Invoice,
    steps: list[dict[str, Any]],
    changes: list[Change],
    unseen: list[tuple[str, object, object]],
) -> None:
    OUT.print(f"\nInvoice {heading(after)}, beside revision {before['revision']}")
    for step in steps:
        say(_replacement(step))
    rows = [
        (
            change["deployment_name"] or "",
            change["description"],
            *("" if cents is None else dollars(cents) for cents in _amounts(change)),
            _signed(change["difference_cents"]),
            change["cause"],
        )
        for change in changes
    ]
    totals = [dollars(invoice["total_cents"]) for invoice in (before, after)]
    sums = [("", "Total, AUD", *totals, _signed(after["total_cents"] - before["total_cents"]), "")]
    styles = {place: "bold red" for place, change in enumerate(changes) if change["cause"] == "code"}
    numbers = (f"rev. {before['revision']}", f"rev. {after['revision']}", "change")
    print_table(("deployment", "line", *numbers, "cause"), rows, numbers=numbers, sums=sums, styles=styles)
    for change in changes:
        say(f"{_name(change)}: {_why(change, before, after)}")
    for name, old, new in unseen:
        say(f"{name}: {'nothing' if old is None else old}, then {'nothing' if new is None else new}")
    same = len(after["lines"]) - sum(change["change"] != "removed" for change in changes)
    say(f"{same} {'line is' if same == 1 else 'lines are'} the same.")


def _name(line: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (line["deployment_name"], line["description"])))


def _amounts(change: Change) -> tuple[int | None, int | None]:
    return change["amount_cents_before"], change["amount_cents_after"]


def _signed(cents: int) -> str:
    return f"{'+' if cents > 0 else ''}{dollars(cents)}"


def _why(change: Change, before: Invoice, after: Invoice) -> str:
    """The change in words: what of the line was something else."""
    if change["cause"] == "code":
        return "the same inputs come to another amount: the engine was changed; have a developer look at it"
    if change["kind"] == "tax" and change["change"] == "changed":
        return f"10 % of {dollars(taxable_cents(before))}, then of {dollars(taxable_cents(after))}"
    if change["change"] == "changed" and change["kind"] in _SUMS:
        return ", then ".join(dollars(cents) for cents in _amounts(change) if cents is not None)
    if change["change"] == "changed":
        return "; ".join(_differing(change)) or "see its amount"
    when, other, invoice = ("after", before, after) if change["change"] == "added" else ("before", after, before)
    return f"{_stood(change, when, invoice)}; not on revision {other['revision']}"


def _stood(change: Change, when: str, invoice: Invoice) -> str:
    """What stood on the only revision that has the line."""
    if change["kind"] == "tax":
        return f"10 % of {dollars(taxable_cents(invoice))}"
    if change["kind"] in _SUMS:
        return dollars(change[f"amount_cents_{when}"])
    quantity = f"{plain(change[f'qty_{when}'])} {change[f'unit_{when}'] or ''}".rstrip()
    used, included = (change[f"{name}_{when}"] for name in ("used", "included"))
    if used is None or included is None:
        return quantity
    return f"used {plain(used)}, included {plain(included)}, {quantity} over"


def _differing(change: Change) -> Iterable[str]:
    unit = change["unit_after"] or ""
    for name, words in (
        ("used", f"used {{}} {unit}"),
        ("included", f"included {{}} {unit}"),
        ("pooled", f"covered by the pool {{}} {unit}"),
        ("days", "days {}"),
        ("unit_price_cents", f"{{}} per {unit}" if unit else "{}"),
        ("effective_from", "price in effect since {}"),
    ):
        old, new = change[f"{name}_before"], change[f"{name}_after"]
        if old != new:
            spelled = price if name == "unit_price_cents" else _plain
            yield words.format(f"{spelled(old)}, then {spelled(new)}")
    if change["kind"] != "overage" and change["qty_before"] != change["qty_after"]:
        yield f"quantity {_plain(change['qty_before'])}, then {_plain(change['qty_after'])}"


def _plain(value: Any) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else plain(value)


def _explained(
    connection: Connection, invoice: Invoice, lines: list[dict[str, Any]], line_no: int | None
) -> list[Explanation]:
    """The invoice's lines explained, or the one line of this number."""
    asked = [line for line in lines if line_no in (None, line["line_no"])]
    deployments = {line["deployment_id"] for line in asked if line["kind"] == "overage" and line["deployment_id"]}
    subscriptions = facts.subscriptions(connection, invoice, deployments)
    prices = facts.prices(connection, BillingMonth(invoice["period_start"]), invoice["tenant_id"])
    corrections = facts.corrections(connection, invoice["tenant_id"])
    terms = facts.terms(connection, invoice["tenant_id"])
    entered = facts.entered(connection, invoice["tenant_id"])
    explained = explanation.explain(invoice, lines, subscriptions, prices, corrections, terms, entered)
    return [found for found in explained if line_no in (None, found.line["line_no"])]


def _explain_document(invoice: Invoice, explained: list[Explanation], sums: Findings, agrees: bool) -> dict[str, Any]:
    lines = document({"lines": [found.line for found in explained]})["lines"]
    return {
        "invoice": _head(invoice),
        "agrees": agrees,
        "explanation": sums.sentences,
        "disagreements": sums.disagreements,
        "lines": [
            {
                "line_no": found.line["line_no"],
                "id": found.line["id"],
                **line,
                "exact_cents": found.line["exact_cents"],
                "price": _fields(found.price),
                "subscription_id": found.subscription and found.subscription.subscription_id,
                "usage": _fields(found.usage if found.line["kind"] == "overage" else None),
                "correction": _fields(found.correction),
                "term": _fields(found.term),
                "entered": _fields(found.entered),
                "explanation": found.sentences,
                "disagreements": found.disagreements,
            }
            for found, line in zip(explained, lines, strict=True)
        ],
    }


def _fields(behind: Any) -> dict[str, Any] | None:
    return None if behind is None else dataclasses.asdict(behind)


def _print_explained(invoice: Invoice, explained: list[Explanation], sums: Findings) -> None:
    OUT.print(f"\nInvoice {heading(invoice)}")
    for found in explained:
        title = f"{found.line['line_no']}. {_name(found.line)}"
        OUT.print(f"\n{title:<80} {dollars(found.line['amount_cents']):>12}", style="bold", soft_wrap=True)
        _print_found(found, "   ")
    OUT.print()
    _print_found(sums, "")
    if not any(found.disagreements for found in (*explained, sums)):
        say("Every sum agrees.")


def _print_found(found: Findings, indent: str) -> None:
    for sentence in found.sentences:
        wrong = sentence in found.disagreements
        OUT.print(f"{indent}{'!! ' if wrong else ''}{sentence}", style="red" if wrong else None, soft_wrap=True)
