"""The words of lines that follow from prices and usage: plan_base, addon and overage; and every line's arithmetic.

Belongs here: amounts, prices, allowances and usage records. Does not: what a tenant's terms make of them (terms.py).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from arcadia_pipelines.billing import gst
from arcadia_pipelines.billing.money import dollars, exact_dollars, number_of, plain
from arcadia_pipelines.proof.explanations.findings import Explanation, Line, Prices, meta_quantity
from arcadia_pipelines.proof.facts import Price, Subscription, Usage


def code_of(line: Line) -> str:
    """The plan's or the addon's code, of a plan_base or addon line."""
    return str(line["description"]).partition(": ")[2]


def price_of(line: Line, prices: Sequence[Price]) -> Price | None:
    """The one that was billed, if a code is listed twice; else the first."""
    return next((price for price in prices if is_billed(line, price)), next(iter(prices), None))


def rate_of(line: Line, subscription: Subscription, prices: Prices) -> Price | None:
    """The subscription's rate that was billed, if its plan has several of the kind; else the first."""
    return price_of(line, prices.get(("overage", f"{subscription.plan_id}/{line['resource_kind']}"), ()))


def explain_amount(found: Explanation) -> None:
    """The line's arithmetic, and whether it gives the line's amount."""
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


def explain_price(found: Explanation, invoice: Mapping[str, Any], what: str) -> None:
    """The row of the price list, and whether it is the one that was billed."""
    line, price = found.line, found.price
    month = f"{invoice['period_start']:%B %Y}"
    since = line["meta"].get("effective_from")
    billed = _worded(line, line["unit_price_cents"], meta_quantity(line, "included"), since)
    if price is None:
        found.object_to(f"{what} has no price for {month} now; billed was {billed}")
        return
    row = _worded(line, price.unit_price_cents, _allowance(line, price), price.effective_from)
    if is_billed(line, price):
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


def is_billed(line: Line, price: Price | None) -> bool:
    """Whether the line was billed at this price, with its allowance."""
    return price is not None and (price.unit_price_cents, _allowance(line, price), price.effective_from) == (
        line["unit_price_cents"],
        meta_quantity(line, "included"),
        line["meta"].get("effective_from"),
    )


def explain_allowance(found: Explanation) -> None:
    """What was used beyond what is included, and by which rule that is charged."""
    line = found.line
    used, included = meta_quantity(line, "used"), meta_quantity(line, "included")
    if used is None or included is None:
        found.object_to("the line does not say what was used and included")
        return
    text, beyond = f"used {plain(used)} - included {plain(included)}", used - included
    if days := line["meta"].get("days"):
        text += f" ({days} days)"
    if (pooled := meta_quantity(line, "pooled")) is not None:
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


def explain_usage(found: Explanation, invoice: Mapping[str, Any], prices: Prices) -> None:
    """The rate and the records behind an overage line."""
    line, subscription, usage = found.line, found.subscription, found.usage
    if subscription is None or usage is None:
        found.object_to("its subscription no longer exists: neither its rate nor its usage can be found")
        return
    rate, unit = rate_of(line, subscription, prices), line["unit"]
    if _rule(line):  # its price is in the rate's tiers, or the cap; its unit may be a package, a flat fee or the cap
        unit = rate.unit if rate else "units"
    else:
        found.price = rate
        explain_price(found, invoice, f"plan {subscription.plan}")
    _list_records(found, usage, f"received by {invoice['usage_cutoff']:%Y-%m-%d %H:%M}", unit)
    used = meta_quantity(line, "used")
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


def _list_records(found: Explanation, usage: Usage, received: str, unit: str) -> None:
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
        found.say(f"  {recorded_at:%Y-%m-%d %H:%M:%S}  {quantity:>12} {unit}  {record['id']}")
