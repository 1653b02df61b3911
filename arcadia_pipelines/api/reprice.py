"""What if, for platform admins: past months at the prices of a price book, by the engine that invoices them.

Belongs here: the two routes, what they are asked, and their database role. Does not: the computation and the document
(month/reprice.py), price books (prices/).

It reads as the role arcadia_reprice, which may read what a month end reads and write nothing, in a transaction that can
write nothing (sql/migrations/0031_reprice.sql). One is computed at a time in a process, on up to seven connections.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import psycopg
import sqlalchemy.exc
from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.api import schemas
from arcadia_pipelines.api.dependencies import PRIVATE, Admin, AdminBeforeBody, NoParameters, body_names_each_once, turn
from arcadia_pipelines.api.problems import READING, Problem, told
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.exports import sheets
from arcadia_pipelines.month.reprice import NotRepriced, Repriced, by_month, document, records, reprice, together
from arcadia_pipelines.prices import proposed, stored, text
from arcadia_pipelines.prices.book import PriceBook
from arcadia_pipelines.prices.text import Fault
from arcadia_pipelines.storage import costs, database
from arcadia_pipelines.storage.catalogue import UnknownTenant
from arcadia_pipelines.storage.database import PartialView, StorageError

MOST_MONTHS = 24
MOST_AMOUNTS = 50_000
MOST_FAULTS = 100  # told of a price book
STATEMENT_SECONDS = 60
_SHEET = ["month", "tenant_id", "plan", "kind", "before", "after", "difference"]

router = APIRouter(
    prefix="/api/v1",
    tags=["what if, for platform admins"],
    route_class=AdminBeforeBody,
    dependencies=[Depends(body_names_each_once)],
    responses=told("forbidden", "too-slow", "too-large", *READING),
)


class WhatIf(BaseModel):
    """Which months, at which prices."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prices": "plans: {studio: {price_aud: 60}}", "months": "2026-01..2026-04"}]},
    )

    prices: str = Field(description="the whole price book as text, YAML or JSON: `arcadia prices export` writes one")
    months: str = Field(
        pattern=r"^\d{4}-\d{2}(\.\.\d{4}-\d{2})?$", description=f"the first and the last, at most {MOST_MONTHS}, or one"
    )
    tenant: schemas.TenantId | None = Field(None, description="only this tenant")
    amounts: bool = Field(True, strict=True, description="each amount too, and not only the sums")

    @field_validator("months")
    @classmethod
    def _not_too_many(cls, given: str) -> str:
        if (number := len(BillingMonth.parse_range(given))) > MOST_MONTHS:
            raise ValueError(f"{given} is {number} months: at most {MOST_MONTHS} are priced at once")
        return given


class Sides(BaseModel):
    """At the prices in effect, and at the book's, cents AUD ex GST."""

    model_config = ConfigDict(extra="forbid")

    before_cents: int
    after_cents: int
    difference_cents: int


class MonthSides(Sides):
    """A month."""

    month: str
    cost_cents: int | None = Field(description="what it cost, of the tenant if one is asked for; null: not known yet")
    margin_before_cents: int | None = Field(description="null if the cost is not known, or a tenant is left out")
    margin_after_cents: int | None


class TenantSides(Sides):
    """A tenant, over all the months."""

    tenant_id: str


class PlanSides(Sides):
    """A plan, over all the months."""

    plan: str | None = Field(description="null: of no deployment, as a tenant's own commitment is")


class KindSides(Sides):
    """A kind of line, over all the months."""

    kind: str


class AmountSides(BaseModel):
    """What a tenant pays in a month on a plan for a kind of line; the GST is of kind tax."""

    model_config = ConfigDict(extra="forbid")

    period_start: str
    tenant_id: str
    plan: str | None
    kind: str
    before_cents: int
    after_cents: int


class LeftOut(BaseModel):
    """Why a tenant cannot be priced at the book: it is in no amount."""

    model_config = ConfigDict(extra="forbid")

    period_start: str
    tenant_id: str | None
    subscription_id: str | None
    deployment_id: str | None
    resource_kind: str | None
    fault: str
    detail: str


class Outcome(BaseModel):
    """Months at both price lists. Tenants, plans and kinds are sorted: the largest differences come first."""

    model_config = ConfigDict(extra="forbid")

    currency: Literal["AUD"] = "AUD"
    months: list[MonthSides]
    tenants: list[TenantSides]
    plans: list[PlanSides]
    kinds: list[KindSides]
    amounts: list[AmountSides] | None = Field(description="null if not asked for")
    left_out: list[LeftOut]


@router.post("/reprice")
async def reprice_months(request: Request, who: Admin, _: NoParameters, wanted: WhatIf) -> Outcome:
    """What past months would have come to at the prices of a price book, beside what they come to. Nothing is changed.

    Credits, adjustments and corrections are left out, as no price decides them. A book with faults is refused with
    each fault's line.
    """
    async with turn(request.app.state.repricing):
        return Outcome.model_validate(await to_thread.run_sync(_document, request.app.state.engine, wanted))


@router.post(
    "/reprice.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def reprice_months_csv(request: Request, who: Admin, _: NoParameters, wanted: WhatIf) -> Response:
    """Each amount of the same, for spreadsheets, in dollars."""
    async with turn(request.app.state.repricing):
        sheet = await to_thread.run_sync(_sheet, request.app.state.engine, wanted)
    headers = {**PRIVATE, "Content-Disposition": 'attachment; filename="reprice.csv"'}
    return Response(sheet, headers=headers, media_type="text/csv")


def _document(engine: Engine, wanted: WhatIf) -> dict[str, Any]:
    months, repriced = _priced(engine, wanted)
    if wanted.amounts and len(repriced.amounts) > MOST_AMOUNTS:
        raise Problem(
            "invalid-request",
            f"these are {len(repriced.amounts):,} amounts, and at most {MOST_AMOUNTS:,} are answered: take reprice.csv,"
            " fewer months or one tenant, or leave the amounts out (amounts: false)",
        )
    with _reading(engine) as connection:
        sums = by_month(repriced, months, costs.by_month(connection, wanted.tenant))
    return document(repriced, sums, wanted.amounts)


def _sheet(engine: Engine, wanted: WhatIf) -> str:
    _, repriced = _priced(engine, wanted)
    rows = ({**row, **_in_dollars(row)} for row in records(repriced.amounts))
    return sheets.header(_SHEET) + sheets.lines(_SHEET, rows)


def _in_dollars(row: dict[str, Any]) -> dict[str, sheets.Cell]:
    before, after = row["before_cents"], row["after_cents"]
    money = {"before": before, "after": after, "difference": after - before}
    return {"month": row["period_start"][:7]} | {name: sheets.dollars(cents) for name, cents in money.items()}


def _priced(engine: Engine, wanted: WhatIf) -> tuple[list[BillingMonth], Repriced]:
    """The months, and all of them at both price lists. Raises Problem."""
    months, found = BillingMonth.parse_range(wanted.months), []
    rows = proposed.rows(_book(engine, wanted.prices))
    try:
        for month in months:
            with _reading(engine) as connection:
                found.append(reprice(connection, month, rows, wanted.tenant))
    except (NotRepriced, UnknownTenant) as error:
        raise Problem("invalid-request", str(error)) from error
    except PartialView as error:
        raise Problem("unavailable", str(error), {"Retry-After": "60"}) from error
    except StorageError as error:
        if isinstance(getattr(error.__cause__, "orig", error.__cause__), psycopg.errors.QueryCanceled):
            detail = f"a month takes longer than {STATEMENT_SECONDS} s here: name a tenant, or run `arcadia reprice`"
            raise Problem("unavailable", detail, {"Retry-After": "60"}) from error
        raise
    return months, together(found)


def _book(engine: Engine, prices: str) -> PriceBook:
    """The price book. Raises Problem with what is wrong in it, by line."""
    reading = text.read(prices.encode())
    if reading.book is None:
        raise _wrong(reading.faults)
    with _reading(engine) as connection:
        unknown = [reading.fault(path, what) for path, what in stored.strangers(connection, reading.book)]
    if unknown:
        raise _wrong(sorted(unknown))
    return reading.book


def _wrong(faults: list[Fault]) -> Problem:
    told_of = [
        {"where": ".".join(filter(None, ("body.prices", one.where))), "line": one.line, "what": one.what}
        for one in faults[:MOST_FAULTS]
    ]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Problem("invalid-request", f"the price book is wrong in line {faults[0]}{more}", errors=told_of)


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    """A transaction of the role that may read what is priced, and no more. Raises Problem where the API has it not."""
    with database.snapshot(engine) as connection:
        connection.exec_driver_sql(f"set local statement_timeout = '{STATEMENT_SECONDS}s'")
        try:
            connection.exec_driver_sql("set local role arcadia_reprice")
        except sqlalchemy.exc.DBAPIError as error:
            detail = "the API's database login is not of the role arcadia_reprice: grant it (docs/deployment.md)"
            raise Problem("unavailable", detail, {"Retry-After": "60"}) from error
        yield connection
