"""The month-end job: usage, quotes, lines and invoices of one month, with their checks."""

import dagster as dg

MONTH_END = "month_end"

month_end = dg.define_asset_job(
    MONTH_END,
    selection=dg.AssetSelection.assets("metered_usage", "deployment_quotes", "tenant_invoice_lines", "tenant_invoices"),
    description="Invoice a month. Asked for by a person it is the force path: the month is computed again, unchanged "
    "invoices are left alone, changed ones are revised, paid, void and pushed ones are frozen and reported.",
)
