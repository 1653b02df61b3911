"""What no validator of single rows looks for: whether FOCUS files of several months, and of both sides, fit together.

`findings(FILES)` takes the CSVs of `arcadia export focus`, named revenue-2026-04.csv or cost-2026-04.csv, and says what
does not fit, one sentence each. `make focus` asks it about the sample year, the tests about months of their own.
"""

import csv
import io
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

CENT = Decimal("0.01")
FORMULA = ("=", "+", "-", "@")


def findings(files):
    rows = [
        {**row, "file": file.name, "side": file.name.partition("-")[0]}
        for file in files
        for row in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline=""))
    ]
    return [f"{check.__name__.replace('_', ' ')}: {what}" for check in CHECKS for what in check(rows)]


def each_row_costs_what_its_price_says_at_most(rows):
    """What is taken off is more at the list's prices, as is what it is taken off."""
    for row in rows:
        effective, contracted, listed = (
            abs(Decimal(row[f"{name}Cost"])) for name in ("Effective", "Contracted", "List")
        )
        if not effective <= contracted <= listed or abs(effective - abs(Decimal(row["BilledCost"]))) > CENT / 2:
            yield f"{named(row)}: billed {row['BilledCost']}, {effective} <= {contracted} <= {listed}"


def each_invoice_is_of_one_account_month_and_file(rows):
    yield from several(rows, ("side", "InvoiceId"), ("BillingAccountId", "BillingPeriodStart", "file"))


def months_follow_each_other(rows):
    for side in ("revenue", "cost"):
        periods = sorted({(r["BillingPeriodStart"], r["BillingPeriodEnd"]) for r in rows if r["side"] == side})
        for (_, end), (start, _) in pairwise(periods):
            if end != start:
                yield f"{side}: {end} is not {start}"


def each_price_is_of_one_sku(rows):
    yield from several([row for row in rows if row["SkuPriceId"]], ("SkuPriceId",), ("SkuId",))


def each_price_keeps_its_id_as_long_as_a_deployment_keeps_its_plans(rows):
    plans = defaultdict(set)
    for row in rows:
        if row["SkuId"].startswith("plan/"):
            plans[row["SubAccountId"], row["BillingPeriodStart"]].add(row["SkuId"])
    supplied = [
        row | {"plans": ", ".join(sorted(plans[row["SubAccountId"], row["BillingPeriodStart"]]))}
        for row in rows
        if row["side"] == "revenue" and row["SkuId"]
    ]
    alone = [row | {"of": row["SkuPriceId"].partition("/")[0]} for row in supplied if "," not in row["plans"]]
    yield from several(alone, ("SubAccountId", "plans", "SkuId", "of"), ("SkuPriceId",))


def each_price_has_one_unit(rows):
    yield from several(
        [row for row in rows if row["side"] == "revenue" and row["SkuPriceId"]], ("SkuPriceId",), ("PricingUnit",)
    )


def a_charge_is_of_its_month_or_corrects_an_earlier_one(rows):
    for row in rows:
        charge, month = (tuple(row[f"{of}Period{end}"] for end in ("Start", "End")) for of in ("Charge", "Billing"))
        corrects, fits = charge[1] <= month[0], charge == month or row["side"] == "cost"
        if not (corrects if row["ChargeClass"] else fits) or charge[0] > charge[1] or charge[1].endswith("23:59:59Z"):
            yield f"{named(row)}: {charge} on an invoice of {month}"


def what_a_tenant_is_charged_anew_it_was_invoiced_before(rows):
    revenue = [row for row in rows if row["side"] == "revenue"]
    months = {row["BillingPeriodStart"] for row in revenue}
    invoiced = {(row["BillingAccountId"], row["BillingPeriodStart"]) for row in revenue}
    for row in revenue:
        corrected = row["ChargePeriodStart"]
        if corrected in months and (row["BillingAccountId"], corrected) not in invoiced:
            yield f"{named(row)}: no invoice of {corrected}"


def gst_is_a_tenth_of_what_it_is_on(rows):
    """By invoice and month of the charge, to the cent that rounding is about."""
    sums = defaultdict(lambda: [Decimal(0), None])
    for row in rows:
        if row["side"] == "revenue":
            both = sums[row["InvoiceId"], row["ChargePeriodStart"], row["ChargeClass"]]
            if row["ChargeCategory"] == "Tax":
                both[1] = (both[1] or 0) + Decimal(row["BilledCost"])
            else:
                both[0] += Decimal(row["BilledCost"])
    for (invoice, start, _), (taxable, tax) in sums.items():
        if tax is not None and abs(tax - taxable / 10) > CENT:
            yield f"{invoice}, {start}: {tax} on {taxable}"


def a_deployment_has_one_tenant_on_both_sides(rows):
    tenants = defaultdict(set)
    for row in rows:
        if row["side"] == "revenue" and row["x_DeploymentId"]:
            tenants[row["x_DeploymentId"], row["BillingPeriodStart"]].add(row["x_TenantId"])
    for row in rows:
        whose = tenants.get((row["x_DeploymentId"], row["BillingPeriodStart"]))
        if row["side"] == "cost" and whose and row["x_TenantId"] not in whose:
            yield f"{named(row)}: {row['x_TenantId']}, and who pays is {', '.join(sorted(whose))}"


def a_credit_is_for_no_service_that_is_used(rows):
    """What is paid back of one is Usage."""
    used = {(row["side"], row["ServiceName"]) for row in rows if row["ChargeCategory"] == "Usage"}
    for row in rows:
        if row["ChargeCategory"] == "Credit" and (row["side"], row["ServiceName"]) in used:
            yield f"{named(row)}: {row['ServiceName']}, {row['ChargeDescription']}"


def no_text_is_a_formula(rows):
    for row in rows:
        for column, cell in row.items():
            if cell.startswith(FORMULA) and not column.endswith(("Cost", "Price", "Quantity", "InAud")):
                yield f"{named(row)}: {column} {cell!r}"


CHECKS = [
    each_row_costs_what_its_price_says_at_most,
    each_invoice_is_of_one_account_month_and_file,
    months_follow_each_other,
    each_price_is_of_one_sku,
    each_price_keeps_its_id_as_long_as_a_deployment_keeps_its_plans,
    each_price_has_one_unit,
    a_charge_is_of_its_month_or_corrects_an_earlier_one,
    what_a_tenant_is_charged_anew_it_was_invoiced_before,
    gst_is_a_tenth_of_what_it_is_on,
    a_deployment_has_one_tenant_on_both_sides,
    a_credit_is_for_no_service_that_is_used,
    no_text_is_a_formula,
]


def several(rows, by, columns):
    """Where rows that are alike in some columns are not in others."""
    found = defaultdict(set)
    for row in rows:
        found[tuple(row[name] for name in by)].add(tuple(row[name] for name in columns))
    for key, values in found.items():
        if len(values) > 1:
            yield f"{' '.join(key)}: {' or '.join(sorted(' '.join(value) for value in values))}"


def named(row):
    return f"{row['file']}, {row['InvoiceId']}, line {row['x_InvoiceLineNumber']}"
