"""An invoice's lines in words: the arithmetic, and whether prices, usage and corrections still give the line's amount.

Every amount and price is in dollars.

Belongs here: which facts that facts.py has read are behind which line, and the invoice's sums. Does not: the words of
each kind of line (explanations/), how it looks on a terminal (cli/history.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.proof.explanations import charges
from arcadia_pipelines.proof.explanations.carried import explain_carried
from arcadia_pipelines.proof.explanations.findings import Explanation, Findings, Line, Prices, meta_quantity
from arcadia_pipelines.proof.explanations.terms import explain_by_terms
from arcadia_pipelines.proof.facts import Correction, Entered, Subscription, Term, Usage


def explain(
    invoice: Mapping[str, Any],
    lines: Sequence[Line],
    subscriptions: Sequence[Subscription],
    prices: Prices,
    corrections: Mapping[tuple[str, str], Correction],
    terms: Mapping[str, Term],
    entered: Mapping[str, Entered],
) -> list[Explanation]:
    """Each line explained, in order; the facts are facts.py's of the same names."""
    firsts = _firsts_of_meters(lines)
    owners = _owners(firsts, subscriptions, prices)
    explained = []
    for line in lines:
        found = Explanation(line=line, subscription=owners.get(line["line_no"]))
        if line["kind"] == "overage":
            charges.explain_allowance(found)
        charges.explain_amount(found)
        if line["kind"] in ("plan_base", "addon"):
            code = charges.code_of(line)
            found.price = charges.price_of(line, prices.get((line["kind"], code), ()))
            charges.explain_price(found, invoice, f"{line['kind'].removesuffix('_base')} {code}")
        elif line["kind"] == "overage" and line in firsts:
            charges.explain_usage(found, invoice, prices)
        elif line["kind"] in ("discount", "commitment"):
            found.term = terms.get(str(line["meta"].get(line["kind"])))
            explain_by_terms(found, lines)
        elif line["kind"] in ("adjustment", "credit"):
            meta = line["meta"]
            found.entered = entered.get(meta.get("manual_line", meta.get("grant", "")))
            found.correction = corrections.get((meta.get("corrects", ""), meta.get("invoice_number", "")))
            explain_carried(found)
        explained.append(found)
    return explained


def totals(invoice: Mapping[str, Any], lines: Sequence[Line]) -> Findings:
    """The invoice's own sums beside its lines'."""
    found = Findings()
    tax = sum(line["amount_cents"] for line in lines if line["kind"] == "tax")
    subtotal = sum(line["amount_cents"] for line in lines) - tax
    text = f"The lines sum to {dollars(subtotal)}, and {dollars(tax)} GST: {dollars(subtotal + tax)} AUD"
    if (subtotal, tax) == (invoice["subtotal_cents"], invoice["tax_cents"]):
        found.say(f"{text} in total, as on the invoice.")
    else:
        on_invoice = " + ".join(dollars(invoice[f"{part}_cents"]) for part in ("subtotal", "tax"))
        found.object_to(f"{text}. On the invoice: {on_invoice} = {dollars(invoice['total_cents'])}.")
    if "gst_free_reason" in invoice["meta"]:
        taxed = any(line["kind"] == "tax" for line in lines)
        what = "There is no GST except on its corrections" if taxed else "There is no GST"
        found.say(f"{what}: {invoice['meta']['gst_free_reason']}.")
    if invoice["status"] == "void":
        found.say("The invoice is void: nothing of it is owed.")
    return found


def _owners(lines: Sequence[Line], subscriptions: Sequence[Subscription], prices: Prices) -> dict[int, Subscription]:
    """The subscription that each overage line bills, by line_no.

    A deployment has one, nearly always. After a change of plan it has two, in the order of their lines: of those that
    have no line of the kind yet, the first whose usage, or at least whose rate, is the line's.
    """
    owners, taken = dict[int, Subscription](), set[tuple[object, str]]()
    for line in lines:
        kind = line["resource_kind"]
        left = [
            subscription
            for subscription in subscriptions
            if line["kind"] == "overage"
            and subscription.deployment_id == line["deployment_id"]
            and (subscription.subscription_id, kind) not in taken
        ]
        if left:
            likeness = [_likeness(line, subscription, prices) for subscription in left]
            owners[line["line_no"]] = owner = left[likeness.index(max(likeness))]
            taken.add((owner.subscription_id, kind))
    return owners


def _firsts_of_meters(lines: Sequence[Line]) -> list[Line]:
    """The lines but for the further tiers of a meter, which follow its first one and say the same usage."""
    firsts: list[Line] = []
    before: tuple[object, ...] | None = None
    for line in lines:
        meta = line["meta"]
        meter = (line["deployment_id"], line["resource_kind"], meta.get("used"), meta.get("included"))
        tier = str(meta.get("tier", ""))
        if not tier or meter != before or (tier.startswith("0 to ") and line["unit"] != "flat fee"):
            firsts.append(line)
        before = meter if tier else None
    return firsts


def _likeness(line: Line, subscription: Subscription, prices: Prices) -> tuple[bool, bool]:
    kind = line["resource_kind"]
    used = subscription.usage.get(kind, Usage()).quantity
    return meta_quantity(line, "used") == used, charges.is_billed(line, charges.rate_of(line, subscription, prices))
