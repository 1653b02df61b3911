"""The views that analysts query, so that the catalogue finds them, their columns and where they come from.

views.json has them as the database does; a test compares the two, and writes the file anew with --write-golden.
"""

import json
from pathlib import Path

import dagster as dg

from arcadia_pipelines.pipeline import tables
from arcadia_pipelines.storage.columns import Column

COMES_FROM = {
    "revenue_by_deployment": ["tenant_invoice_lines", "tenant_invoices"],
    "revenue_by_kind": ["tenant_invoice_lines", "tenant_invoices"],
    "cost_vs_revenue_by_month": ["cloud_invoices", "cost_allocations", "tenant_invoices"],
    "cost_vs_revenue_by_deployment": ["cost_allocations", "cost_vs_revenue_by_month", "revenue_by_deployment"],
    "cost_vs_revenue_by_kind": ["cost_allocations", "cost_vs_revenue_by_month", "revenue_by_kind"],
    "cost_vs_revenue_by_tenant": ["cost_allocations", "cost_vs_revenue_by_month", "tenant_invoices"],
}
"""By view: the tables and views that it selects from."""
FILE = Path(__file__).with_name("views.json")


def _spec(name: str, description: str, columns: list[Column]) -> dg.AssetSpec:
    return dg.AssetSpec(
        name,
        description=description,
        deps=COMES_FROM[name],
        group_name="views",
        kinds={"postgres", "view"},
        owners=["team:finance"],
        metadata={"dagster/table_name": f"billing.{name}", "dagster/column_schema": tables.table_schema(columns)},
    )


VIEWS = [
    _spec(name, view["description"], [Column(column, nullable=True, **of) for column, of in view["columns"].items()])
    for name, view in json.loads(FILE.read_text(encoding="utf-8")).items()
]
