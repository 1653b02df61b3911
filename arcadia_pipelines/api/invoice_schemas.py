"""Invoices, their lines and their history, as the OpenAPI document shows them. See schemas.py.

PostgreSQL writes them as JSON (queries.py) in these shapes; the tests hold it to them.
Belongs here: documents of invoices that exist. Does not: what is invoiced of a revenue (cost_schemas.py).
"""

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arcadia_pipelines.api.schemas import DECIMAL

Status = Literal["draft", "issued", "paid", "void"]
Kind = Literal["plan_base", "addon", "overage", "discount", "commitment", "credit", "adjustment", "tax"]

PILOT: dict[str, Any] = {
    "id": "5b9ab0ad-3ba9-5f0c-9a1e-0d3f1d9e2a10",
    "invoice_number": "INV-202604-00010",
    "tenant_id": "pilot",
    "period": "2026-04",
    "period_start": "2026-04-01",
    "period_end": "2026-05-01",
    "currency": "AUD",
    "subtotal_cents": 6422,
    "tax_cents": 642,
    "total_cents": 7064,
    "status": "issued",
    "issued_at": "2026-05-01T03:00:07.123456+00:00",
    "paid_at": None,
    "finance_invoice_id": None,
    "pushed_to_finance_at": None,
    "delivered_at": None,
    "due_on": "2026-05-15",
    "updated_at": "2026-05-01T03:00:07.123456+00:00",
    "usage_cutoff": "2026-05-01T03:00:01.654321+00:00",
    "revision": 1,
    "content_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "meta": {"tenant_name": "Pilot Studio Pty Ltd", "tenant_abn": "71690944157"},
}
LISTED = (
    "id", "invoice_number", "tenant_id", "period", "currency", "subtotal_cents", "tax_cents", "total_cents", "status",
    "issued_at", "paid_at", "revision",
)  # fmt: skip
"""What a list shows of an invoice as it is; and the tenant's name."""
_SUMMARY = {name: PILOT[name] for name in LISTED} | {"tenant_name": PILOT["meta"]["tenant_name"]}
OVERAGE: dict[str, Any] = {
    "deployment_id": "8c7dd922-ad47-494f-802b-3a1e2e5c1d11",
    "kind": "overage",
    "resource_kind": "droplet_hours",
    "description": "Overage: droplet_hours",
    "qty": "672.000000",
    "unit": "hour",
    "unit_price_cents": "1.00000000",
    "price_per": "1.000000",
    "amount_cents": 672,
    "meta": {"used": "2160.000000", "included": "1488.000000", "effective_from": "2026-01-01"},
}


class Line(BaseModel):
    """What is charged once. `meta` explains it: for overage what was used and included, in `unit`."""

    model_config = ConfigDict(extra="forbid")

    deployment_id: uuid.UUID | None = Field(
        description="null for tax, credits, adjustments and the tenant's commitment, or once it is deleted"
    )
    kind: Kind
    resource_kind: str | None = Field(description="the metered kind of an overage; else null")
    description: str
    qty: str = Field(pattern=DECIMAL)
    unit: str | None
    unit_price_cents: str = Field(pattern=DECIMAL, description="cents AUD ex GST, to 8 decimals")
    price_per: str = Field(
        pattern=DECIMAL, description="how many units that is for: the days of the month for part months, else 1"
    )
    amount_cents: int = Field(
        description="qty x unit_price_cents / price_per, rounded once, half up; ex GST but for tax"
    )
    meta: dict[str, Any]


class InvoiceLine(Line):
    """A line of an invoice."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"line_no": 3, "deployment_name": "pilot-web", **OVERAGE}]}
    )

    line_no: int = Field(ge=1, description="order on the invoice, from 1")
    deployment_name: str | None


class Invoice(BaseModel):
    """An invoice without its lines: one per tenant and month."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [PILOT]})

    id: uuid.UUID = Field(description="the same however often the month is run again")
    invoice_number: str | None
    tenant_id: str
    period: str = Field(description="the calendar month, UTC")
    period_start: dt.date
    period_end: dt.date = Field(description="first day of the next month: the period is half open")
    currency: Literal["AUD"]
    subtotal_cents: int = Field(description="ex GST")
    tax_cents: int = Field(description="GST")
    total_cents: int
    status: Status
    issued_at: dt.datetime | None
    paid_at: dt.datetime | None
    finance_invoice_id: str | None
    pushed_to_finance_at: dt.datetime | None
    delivered_at: dt.datetime | None = Field(description="when its document first went to the tenant")
    due_on: dt.date | None = Field(description="when it is to be paid; null: nobody has entered who sells")
    updated_at: dt.datetime
    usage_cutoff: dt.datetime = Field(description="usage that was known at this instant is billed")
    revision: int = Field(ge=1, description="counts up each time the content is replaced")
    content_sha256: str
    meta: dict[str, Any] = Field(
        description="the tenant's name, ABN, billing_address and billing_email; gst_free_reason where there is no GST"
        " but on corrections"
    )


class InvoiceWithLines(Invoice):
    """An invoice with its lines in order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{**PILOT, "lines": [{"line_no": 3, "deployment_name": "pilot-web", **OVERAGE}]}]
        },
    )

    lines: list[InvoiceLine]


class InvoiceSummary(BaseModel):
    """What a list shows of an invoice; the rest is at its own address."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SUMMARY]})

    id: uuid.UUID = Field(description="the same however often the month is run again")
    invoice_number: str | None
    tenant_id: str
    tenant_name: str | None = Field(description="when it was invoiced")
    period: str = Field(description="the calendar month, UTC")
    currency: Literal["AUD"]
    subtotal_cents: int = Field(description="ex GST")
    tax_cents: int = Field(description="GST")
    total_cents: int
    status: Status
    issued_at: dt.datetime | None
    paid_at: dt.datetime | None
    revision: int = Field(ge=1, description="counts up each time the content is replaced")


class InvoicePage(BaseModel):
    """Invoices, newest month first. `next_cursor` asks for the page after; null on the last."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"items": [_SUMMARY], "next_cursor": None}]}
    )

    items: list[InvoiceSummary]
    next_cursor: str | None


class InvoiceEvent(BaseModel):
    """Something that happened to an invoice."""

    model_config = ConfigDict(extra="forbid")

    id: int
    event: str = Field(examples=["issued", "reissued", "voided", "paid"])
    revision: int
    total_cents: int
    content_sha256: str
    operator: str
    reason: str
    run_id: str
    occurred_at: dt.datetime
    snapshot: dict[str, Any] | None = Field(description="the revision that was replaced, whole; null if none was")


class InvoiceEvents(BaseModel):
    """An invoice's history, oldest first."""

    model_config = ConfigDict(extra="forbid")

    items: list[InvoiceEvent]
