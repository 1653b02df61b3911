"""The words of adjustments and credits: manual lines, promotional credit, and corrections of earlier months.

Belongs here: lines that carry what was entered or found elsewhere. Does not: lines that the month itself makes
(charges.py, terms.py).
"""

import datetime as dt

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.proof.explanations.findings import Explanation
from arcadia_pipelines.proof.facts import Entered


def explain_carried(found: Explanation) -> None:
    """An adjustment or a credit: a manual line, promotional credit, or a correction."""
    if "manual_line" in found.line["meta"]:
        _explain_manual_line(found)
    elif "grant" in found.line["meta"]:
        _explain_grant(found)
    else:
        _explain_correction(found)


def _explain_manual_line(found: Explanation) -> None:
    line, entered = found.line, found.entered
    if entered is None or entered.month is None:
        found.object_to(f"the tenant has no manual line {line['meta']['manual_line']}")
        return
    found.say(f"manual line for {entered.month:%B %Y}, {_who(entered)}")
    if entered.amount_cents != line["amount_cents"]:
        found.object_to(f"{dollars(entered.amount_cents)} was entered, {dollars(line['amount_cents'])} is billed")
    if entered.taken_cents not in (0, entered.amount_cents):
        found.object_to(f"the tenant's invoices have {dollars(entered.taken_cents)} of it in all")


def _explain_grant(found: Explanation) -> None:
    meta, entered = found.line["meta"], found.entered
    if entered is None or entered.month is not None:
        found.object_to(f"the tenant has no grant {meta['grant']}")
        return
    until = f"for months that begin before {entered.expires_on}" if entered.expires_on else "without an end"
    found.say(f"promotional credit of {dollars(entered.amount_cents)} {until}, {_who(entered)}")
    found.say(f"{dollars(int(meta['left']))} of it was left after this line")
    if -entered.taken_cents > entered.amount_cents:
        found.object_to(f"the tenant's invoices have taken {dollars(-entered.taken_cents)} of it in all")


def _who(entered: Entered) -> str:
    return f"entered by {entered.operator} on {entered.entered_at:%Y-%m-%d %H:%M} UTC: {entered.reason}"


def _explain_correction(found: Explanation) -> None:
    meta, correction = found.line["meta"], found.correction
    if correction is None:
        found.say("the line does not say which month it corrects")
        return
    month = dt.date.fromisoformat(meta["corrects"])
    found.say(f"corrects {month:%B %Y}, invoice {meta['invoice_number']}, which stays as it is")
    if "taxable" in meta:
        found.say(f"{'with' if meta['taxable'] else 'without'} GST, as what it corrects")
    if correction.billed_cents is None or correction.owed_cents is None:
        found.say("invoice_corrections has no difference for that month any more")
    else:
        found.say(
            f"that month, ex GST: billed {dollars(correction.billed_cents)}, owed {dollars(correction.owed_cents)},"
            f" difference {dollars(correction.difference_cents)} (invoice_corrections)"
        )
    rest = correction.difference_cents - correction.carried_cents
    text = f"the lines that correct it sum to {dollars(correction.carried_cents)}"
    if rest:
        found.object_to(f"{text}, so {dollars(rest)} is for a later invoice")
    else:
        found.say(f"{text}: nothing is left to correct")
