"""The words of lines that follow from a tenant's terms: discounts and commitments.

Belongs here: working such a line out again from the lines before it. Does not: those lines (charges.py), manual lines
and promotional credit (carried.py).
"""

from collections.abc import Sequence
from decimal import Decimal

from arcadia_pipelines.billing.money import dollars, plain
from arcadia_pipelines.proof.explanations.findings import Explanation, Line, meta_quantity


def explain_by_terms(found: Explanation, lines: Sequence[Line]) -> None:
    """A line of a discount or a commitment."""
    line, meta = found.line, found.line["meta"]
    if line["kind"] == "discount" and "of" in meta and ("percent" in meta or "amount_cents" in meta):
        _explain_discount(found, lines)
    elif line["kind"] == "commitment" and "minimum_cents" in meta:
        _explain_commitment(found, lines)
    else:
        found.object_to(f"the line does not say which {line['kind']} it is")


def _explain_discount(found: Explanation, lines: Sequence[Line]) -> None:
    """What it is off, how much of it, and the row of discounts."""
    line, meta = found.line, found.line["meta"]
    of, percent, cents = meta["of"], meta_quantity(line, "percent"), meta.get("amount_cents", 0)
    owners = ("deployment_id", "deployment_name", "resource_kind")
    alike = [other for other in lines if all(other[name] == line[name] for name in owners)]
    before = [other for other in alike if other["kind"] == "discount" and other["line_no"] < line["line_no"]]
    charged = [other for other in alike if other["kind"] == of]
    charged += [other for other in before if other["meta"].get("of") == of]
    left = sum(other["amount_cents"] for other in charged)
    what = f"{of} {line['resource_kind'] or ''}".rstrip()
    if percent is not None:
        off = -((2 * int(percent * 10**4) * left + 10**6) // (2 * 10**6))
        text = f"{plain(percent)} % of {dollars(left)}, what is left of {what} before it: {dollars(off)} half up"
        (found.say if off == line["amount_cents"] else found.object_to)(text)
    else:
        parts = [other for other in lines if other["meta"].get("discount") == meta.get("discount")]
        whole = -sum(other["amount_cents"] for other in parts)
        text = f"a part of the {dollars(whole)} off, in proportion to {dollars(left)}, what is left of {what} before it"
        (found.say if whole <= cents and -line["amount_cents"] <= left else found.object_to)(text)
    billed = f"{plain(percent)} %" if percent is not None else f"{dollars(cents)} a month at most"
    _explain_term(found, "discount", billed, (percent, None if percent is not None else cents))


def _explain_commitment(found: Explanation, lines: Sequence[Line]) -> None:
    """What is charged without it, what it is in the month, and the row of commitments."""
    line, meta = found.line, found.line["meta"]
    minimum, days = int(meta["minimum_cents"]), str(meta.get("days", ""))
    owed, part = minimum, ""
    if days:
        of, in_all = (int(number) for number in days.split(" of "))
        owed = (2 * minimum * of + in_all) // (2 * in_all)
        part = f"{dollars(owed)} for {days} days, "
    charged = sum(
        other["amount_cents"]
        for other in lines
        if other["line_no"] < line["line_no"]
        and (line["deployment_name"] is None or other["deployment_name"] == line["deployment_name"])
        and (line["deployment_id"] is None or other["deployment_id"] == line["deployment_id"])
    )
    text = f"at least {dollars(minimum)} a month: {part}less {dollars(charged)} charged = {dollars(owed - charged)}"
    (found.say if owed - charged == line["amount_cents"] else found.object_to)(text)
    _explain_term(found, "commitment", f"{dollars(minimum)} a month", (None, minimum))


def _explain_term(found: Explanation, what: str, billed: str, size: tuple[Decimal | None, int | None]) -> None:
    """The row that the line is made from, and whether it is as it was billed."""
    term, own = found.term, found.line["meta"].get(what)
    if term is None:
        found.object_to(f"{what} {own} does not exist any more; billed was {billed}")
        return
    until = "" if term.ends_on is None else f" until before {term.ends_on}"
    text = f"{what} {own}: from {term.starts_on} on{until} ({term.table})"
    if (term.percent, term.cents) == size:
        found.say(text)
    else:
        is_now = f"{plain(term.percent)} %" if term.percent is not None else dollars(int(term.cents or 0))
        found.object_to(f"{text}, {is_now} now; billed was {billed}")
