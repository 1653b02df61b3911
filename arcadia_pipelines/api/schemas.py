"""The documents that go in and out, as the OpenAPI document shows them: what those of several routes are made of.

Cents are integers, quantities and unit prices are strings of exact decimals, instants are UTC.
Belongs here: what may stand in a request, problems, health. Does not: the documents of invoices (invoice_schemas.py),
of quotes and prices (quote_schemas.py), and of costs (cost_schemas.py).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, StringConstraints

from arcadia_pipelines.api.auth import LONGEST_TENANT_ID, is_tenant_id
from arcadia_pipelines.billing.month import BillingMonth, InvalidMonth

DECIMAL = r"^-?\d+(\.\d+)?$"


def _a_month(text: str) -> str:
    try:
        return str(BillingMonth.parse(text))
    except InvalidMonth as error:
        raise ValueError(str(error)) from error


def _a_tenant(text: str) -> str:
    if not is_tenant_id(text):
        raise ValueError("a tenant's id is printable text")
    return text


Period = Annotated[
    str, StringConstraints(pattern=r"^(19|[2-9]\d)\d\d-(0[1-9]|1[0-2])$", max_length=7), AfterValidator(_a_month)
]
TenantId = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TENANT_ID), AfterValidator(_a_tenant)]
Code = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,100}$")]
Quantity = (
    Annotated[StrictInt, Field(ge=0, lt=10**12)]
    | Annotated[StrictStr, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]
)


class InvalidPart(BaseModel):
    """A part of a request that does not make sense."""

    where: str = Field(examples=["query.period"])
    what: str
    line: int | None = Field(None, description="of a price book, from 1; else it is not there")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:arcadia:problem:not-found",
                    "title": "There is no such thing here",
                    "status": 404,
                    "detail": "no invoice of this id",
                    "request_id": "0b6f0c1e5b4f4f7e9a55a3e1c7a3d0aa",
                }
            ]
        }
    )

    type: str = Field(description="what kind of problem, for programs: it stays the same")
    title: str
    status: int
    detail: str = Field(description="what is wrong and what to do, for people")
    request_id: str = Field(description="names the request in our log; also the header X-Request-ID")
    errors: list[InvalidPart] | None = None


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
