"""An invoice's lines in words: the arithmetic, and whether prices, usage and corrections still give the line's amount.

Every amount and price is in dollars.

Belongs here: comparing and wording what history.py has read. Does not: how it looks on a terminal
(cli/history.py).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from arcadia_pipelines.billing import gst
from arcadia_pipelines.billing.money import dollars, exact_dollars, number_of, plain
from arcadia_pipelines.proof.history import Correction, Entered, Price, Subscription, Term, Usage

Line = Mapping[str, Any]
"""A line as from history.worked_out."""


@dataclass
class Findings:
    """What was found, in sentences; `disagreements` are the sentences about sums that do not agree."""

    sentences: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A fact."""
        self.sentences.append(text)

    def object_to(self, text: str) -> None:
        """A sum that does not agree."""
        self.sentences.append(text)
        self.disagreements.append(text)


@dataclass
class Explanation(Findings):
    """A line, and the price, subscription, correction, or discount or commitment behind it, if its kind has them."""

    line: Line = field(default_factory=dict)
    price: Price | None = None
    subscription: Subscription | None = None
    correction: Correction | None = None
    term: Term | None = None
    entered: Entered | None = None
    """The manual line or the grant of promotional credit."""

    @property
    def usage(self) -> Usage | None:
        """The records behind an overage line, even if there are none; None without a subscription to look for."""
        if self.subscription is None:
            return None
        return self.subscription.usage.get(self.line["resource_kind"], Usage())


Prices = Mapping[tuple[str, str], Sequence[Price]]


def explain(
    invoice: Mapping[str, Any],
    lines: Sequence[Line],
    subscriptions: Sequence[Subscription],
    prices: Prices,
    corrections: Mapping[tuple[str, str], Correction],
    terms: Mapping[str, Term],
    entered: Mapping[str, Entered],
) -> list[Explanation]:
    """Each line explained, in order; the facts are history.py's of the same names."""
    firsts = _firsts_of_meters(lines)
    owners = _owners(firsts, subscriptions, prices)
    explained = []
    for line in lines:
        found = Explanation(line=line, subscription=owners.get(line["line_no"]))
        if line["kind"] == "overage":
            _explain_allowance(found)
        _explain_amount(found)
        if line["kind"] in ("plan_base", "addon"):
            code = code_of(line)
            found.price = _price(line, prices.get((line["kind"], code), ()))
            _explain_price(found, invoice, f"{line['kind'].removesuffix('_base')} {code}")
        elif line["kind"] == "overage" and line in firsts:
            _explain_usage(found, invoice, prices)
        elif line["kind"] in ("discount", "commitment"):
            found.term = terms.get(str(line["meta"].get(line["kind"])))
            _explain_by_terms(found, lines)
        elif line["kind"] in ("adjustment", "credit"):
            meta = line["meta"]
            found.entered = entered.get(meta.get("manual_line", meta.get("grant", "")))
            found.correction = corrections.get((meta.get("corrects", ""), meta.get("invoice_number", "")))
            _explain_carried(found)
        explained.append(found)
    return explained


def code_of(line: Line) -> str:
    """The plan's or the addon's code, of a plan_base or addon line."""
    return str(line["description"]).partition(": ")[2]


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
    return _meta_quantity(line, "used") == used, _is_billed(line, _rate(line, subscription, prices))


def _price(line: Line, prices: Sequence[Price]) -> Price | None:
    """The one that was billed, if a code is listed twice; else the first."""
    return next((price for price in prices if _is_billed(line, price)), next(iter(prices), None))


def _rate(line: Line, subscription: Subscription, prices: Prices) -> Price | None:
    return _price(line, prices.get(("overage", f"{subscription.plan_id}/{line['resource_kind']}"), ()))


def _explain_amount(found: Explanation) -> None:
    line = found.line
    exact = exact_dollars(line["exact_cents"])
    amount = dollars(int(line["rounded_cents"]))
    if line["kind"] == "tax":
        work = f"{dollars(int(line['taxable_cents']))} taxable x {plain(gst.RATE * 100)} %"
    else:
        quantity = f"{plain(line['qty'])} {line['unit'] or ''}".rstrip()
        per = "" if line["price_per"] == 1 else f" / {plain(line['price_per'])}"
        work = f"{quantity} x {exact_dollars(line['unit_price_cents'])}{per}"
    if line["exact_cents"] == line["rounded_cents"]:
        text = f"{work} = {amount}"
    else:
        text = f"{work} = {exact}, rounded half up to the cent: {amount}"
    if line["rounded_cents"] == line["amount_cents"]:
        found.say(text)
    else:
        found.object_to(f"{text}, but {dollars(line['amount_cents'])} stands on the line")
    noted = line["meta"].get("taxable_cents", line["taxable_cents"])
    if line["kind"] == "tax" and noted != line["taxable_cents"]:
        which = "the lines but tax" if line["taxable_cents"] == line["before_tax_cents"] else "the taxable lines"
        now = dollars(int(line["taxable_cents"]))
        found.object_to(f"{which} sum to {now}; GST was computed on {dollars(noted)}")


def _explain_price(found: Explanation, invoice: Mapping[str, Any], what: str) -> None:
    """The row of the price list, and whether it is the one that was billed."""
    line, price = found.line, found.price
    month = f"{invoice['period_start']:%B %Y}"
    since = line["meta"].get("effective_from")
    billed = _worded(line, line["unit_price_cents"], _meta_quantity(line, "included"), since)
    if price is None:
        found.object_to(f"{what} has no price for {month} now; billed was {billed}")
        return
    row = _worded(line, price.unit_price_cents, _allowance(line, price), price.effective_from)
    if _is_billed(line, price):
        found.say(f"price of {what}: {row} ({price.table})")
    else:
        found.object_to(f"price of {what} for {month}: {row} now ({price.table}); billed was {billed}")


def _worded(line: Line, cents: Decimal, included: Decimal | None, since: object) -> str:
    allowance = "" if included is None else f" beyond {plain(included)}"
    unit = line["unit"] if line["price_per"] == 1 else f"{plain(line['price_per'])} {line['unit']}s"
    return f"{exact_dollars(cents)} per {unit}{allowance}, since {since}"


def _allowance(line: Line, price: Price) -> Decimal | None:
    """What the price includes in the line's month: of a part month so many days' part, half up to 6 decimals."""
    days, _, in_all = str(line["meta"].get("days", "")).partition(" of ")
    if price.included is None or not (days.isdecimal() and in_all.isdecimal() and int(in_all)):
        return price.included
    millionths, of = int(price.included * 10**6) * int(days), int(in_all)
    return Decimal((2 * millionths + of) // (2 * of)).scaleb(-6)


def _is_billed(line: Line, price: Price | None) -> bool:
    return price is not None and (price.unit_price_cents, _allowance(line, price), price.effective_from) == (
        line["unit_price_cents"],
        _meta_quantity(line, "included"),
        line["meta"].get("effective_from"),
    )


def _explain_allowance(found: Explanation) -> None:
    line = found.line
    used, included = _meta_quantity(line, "used"), _meta_quantity(line, "included")
    if used is None or included is None:
        found.object_to("the line does not say what was used and included")
        return
    text, beyond = f"used {plain(used)} - included {plain(included)}", used - included
    if days := line["meta"].get("days"):
        text += f" ({days} days)"
    if (pooled := _meta_quantity(line, "pooled")) is not None:
        text, beyond = f"{text} - {plain(pooled)} that other subscriptions left of theirs", beyond - pooled
    text += f" = {plain(beyond)}"
    if rule := _rule(line):
        found.say(f"{text}, charged {rule}")
        return
    text += f" {line['unit']}"
    if beyond == line["qty"]:
        found.say(text)
    else:
        found.object_to(f"{text}, but {plain(line['qty'])} stands on the line")


def _rule(line: Line) -> str:
    """By which rule usage beyond the allowance is charged, in words; '' if each unit is."""
    model = str(line["meta"].get("model", ""))
    if line["unit"] == "cap":
        return "at most the rate's maximum"
    if model == "package":
        return f"by packages of {line['meta']['package_size']} that are begun"
    return f"as {model}, tier {line['meta']['tier']}" if model else ""


def _explain_usage(found: Explanation, invoice: Mapping[str, Any], prices: Prices) -> None:
    """The rate and the records behind an overage line."""
    line, subscription, usage = found.line, found.subscription, found.usage
    if subscription is None or usage is None:
        found.object_to("its subscription no longer exists: neither its rate nor its usage can be found")
        return
    if not _rule(line):  # else its price is in the rate's tiers, or the cap
        found.price = _rate(line, subscription, prices)
        _explain_price(found, invoice, f"plan {subscription.plan}")
    _list_records(found, usage, f"received by {invoice['usage_cutoff']:%Y-%m-%d %H:%M}")
    used, unit = _meta_quantity(line, "used"), line["unit"]
    total = f"the records sum to {plain(usage.quantity)} {unit}"
    if usage.quantity == used:
        found.say(f"{total}, as billed")
    elif used is not None:
        why = "late usage?" if usage.quantity > used else "were records removed or corrected?"
        found.object_to(f"{total} now, {plain(used)} was billed: {why}")
    if usage.unusable_records:
        found.object_to(f"{usage.unusable_records:,} more cannot be summed: NaN, null, infinity, or 1e12 and more")
    if usage.late_records:
        late = f"{usage.late_records:,} more came later, {plain(usage.late_quantity)} {unit} in sum"
        found.say(f"{late}: not on this invoice")


def _list_records(found: Explanation, usage: Usage, received: str) -> None:
    if not usage.records:
        found.say(f"no usage records {received} UTC")
        return
    span = f"{usage.first_at:%Y-%m-%d %H:%M} to {usage.last_at:%Y-%m-%d %H:%M}"
    found.say(f"{number_of(usage.records, 'usage records')}, {span} UTC, {received}:")
    half = len(usage.shown) // 2
    for number, record in enumerate(usage.shown):
        if number == half and usage.records > len(usage.shown):
            found.say(f"  ... {usage.records - len(usage.shown):,} more ...")
        recorded_at = dt.datetime.fromisoformat(record["recorded_at"])
        quantity = plain(Decimal(record["quantity"]))
        found.say(f"  {recorded_at:%Y-%m-%d %H:%M:%S}  {quantity:>12} {found.line['unit']}  {record['id']}")


def _explain_by_terms(found: Explanation, lines: Sequence[Line]) -> None:
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
    of, percent, cents = meta["of"], _meta_quantity(line, "percent"), meta.get("amount_cents", 0)
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


def _explain_carried(found: Explanation) -> None:
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


def _meta_quantity(line: Line, name: str) -> Decimal | None:
    value = line["meta"].get(name)
    return None if value is None else Decimal(value)
