"""What a price book is: its parts, what each may hold, and the JSON schema of all that, which editors read.

Belongs here: the one definition, and the rules that a book can be held to without a database. Does not: YAML and lines
(text.py), what two books differ in (changes.py), the database (stored.py).

Prices are Australian dollars ex GST; quantities are in the rate's unit. Nothing is read as a binary float.
"""

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from arcadia_pipelines.billing.models import MODELS

SCHEMA_FILE = "price-book.schema.json"
"""What the first line of a price book names, for editors; `arcadia prices schema` prints it."""
RULE = "rule"
"""The type of an error that a rule of ours raises; its context has `broken`, a list of Broken."""
Broken = tuple[tuple[str | int, ...], str]
"""Where a rule is broken, below the part that it is a rule of; and what is wrong there."""
_TIERED = ("graduated", "volume")


def _wrong(text: str, **given: object) -> PydanticCustomError:
    """A value that cannot be used; the text has the given values in braces."""
    return PydanticCustomError("value", text, given)


@dataclass(frozen=True)
class _Number:
    """A number from 0 to below this limit, with so many decimals at most, read from its text."""

    decimals: int
    limit: int
    above_zero: bool = False
    inclusive: bool = False
    """Whether it may be the limit itself."""
    shown: int = 0
    """How many decimals are written at least."""

    def read(self, given: object) -> Decimal:
        """The number. Raises PydanticCustomError."""
        if not re.fullmatch(r"-?\d{1,30}(\.\d{1,30})?", str(given), re.ASCII):
            raise _wrong("{given} is not a number: write it like 50.00", given=repr(given))
        number = Decimal(str(given))
        if number < 0 or (self.above_zero and number == 0):
            raise _wrong("{given} is {less}", given=str(given), less="not above 0" if self.above_zero else "below 0")
        if number > self.limit or (number == self.limit and not self.inclusive):
            more = "above" if self.inclusive else "not below"
            raise _wrong("{given} is {more} {limit}", given=str(given), more=more, limit=f"{self.limit:,}")
        if number != round(number, self.decimals):
            raise _wrong("{given} has more than {most} decimals", given=str(given), most=self.decimals)
        return number

    def write(self, number: Decimal) -> str:
        """The number as people write it: 50.00, 0.00744."""
        whole, _, decimals = f"{number:f}".partition(".")
        decimals = decimals.rstrip("0").ljust(self.shown, "0")
        return f"{whole}.{decimals}" if decimals else whole

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        )

    def __get_pydantic_json_schema__(self, core: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        least = "exclusiveMinimum" if self.above_zero else "minimum"
        most = "maximum" if self.inclusive else "exclusiveMaximum"
        pattern = rf"^\d+(\.\d{{1,{self.decimals}}}0*)?$"
        return {"type": ["string", "number"], "pattern": pattern, least: 0, most: self.limit}


def _flag(given: object) -> bool:
    if str(given).lower() not in ("true", "false"):
        raise _wrong("{given} is neither true nor false", given=repr(given))
    return str(given).lower() == "true"


def _first_of_month(given: object) -> dt.date:
    try:
        day = dt.date.fromisoformat(str(given))
    except ValueError as error:
        raise _wrong("{given} is not a day: write it like 2026-12-01", given=repr(given)) from error
    if day.day != 1:
        raise _wrong("{given} is not the first of a month", given=str(given))
    return day


def _id(given: object) -> uuid.UUID:
    try:
        return uuid.UUID(str(given))
    except ValueError as error:
        raise _wrong("{given} is not an id, which is a UUID", given=repr(given)) from error


Amount = Annotated[Decimal, _Number(2, 100_000_000, shown=2)]
UnitPrice = Annotated[Decimal, _Number(10, 100_000_000, shown=2)]
Quantity = Annotated[Decimal, _Number(6, 10**12)]
Bound = Annotated[Decimal, _Number(6, 10**12, above_zero=True)]
Percent = Annotated[Decimal, _Number(4, 100, inclusive=True)]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
FirstOfMonth = Annotated[
    dt.date,
    BeforeValidator(_first_of_month),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])-01$"}),
]
Id = Annotated[uuid.UUID, BeforeValidator(_id), WithJsonSchema({"type": "string", "format": "uuid"})]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Kind = Annotated[Text, Field(description="a resource kind, such as droplet_hours")]
Code = Annotated[Text, Field(description="a code of a plan or an addon")]


class Part(BaseModel):
    """A part of a price book: no keys but these, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _raise(broken: Iterator[Broken] | list[Broken]) -> None:
    if found := list(broken):
        raise PydanticCustomError(RULE, "{first}", {"first": found[0][1], "broken": found})


def _rule(find: Callable[[Any], Iterator[Broken]]) -> AfterValidator:
    """A rule of a part or a list, checked once all of it can be read."""

    def check(part: Any) -> Any:
        _raise(find(part))
        return part

    return AfterValidator(check)


class Tier(Part):
    """A tier of a graduated or volume rate. It begins where the one before ends."""

    up_to: Bound | None = Field(None, description="the most units that it holds, itself included; the last has none")
    unit_price_aud: UnitPrice = Field(Decimal(0), description="of a unit in it, dollars ex GST")
    flat_aud: Amount = Field(Decimal(0), description="charged once when it is entered, dollars ex GST")


def _of_tiers(tiers: list[Tier]) -> Iterator[Broken]:
    reached = Decimal(0)
    for place, tier in enumerate(tiers):
        is_last = place == len(tiers) - 1
        if tier.up_to is None:
            if not is_last:
                yield (place,), "has no up_to, so that no tier can follow: only the last tier has none"
        elif tier.up_to <= reached:
            yield (place, "up_to"), f"{tier.up_to} is not above {reached}, where the tier before ends"
        elif is_last:
            yield (place, "up_to"), f"no tier holds more than {tier.up_to}: the last tier must have no up_to"
        reached = tier.up_to or reached


class Rate(Part):
    """What usage of a resource kind beyond the allowance costs."""

    unit: Text = Field(description="what is counted: hour, GB, ...")
    included: Quantity = Field(Decimal(0), description="the allowance of a month, in unit")
    model: Literal["per_unit", "package", "graduated", "volume"] = Field(
        "per_unit", description="how usage beyond the allowance is charged"
    )
    unit_price_aud: UnitPrice | None = Field(None, description="of a unit, or of a package; dollars ex GST")
    package_size: Bound | None = Field(None, description="how many units a package has")
    tiers: Annotated[list[Tier], _rule(_of_tiers)] = Field([], description="of graduated and volume rates")
    maximum_aud: Amount | None = Field(None, description="the most that a subscription pays a month, dollars ex GST")
    pooled: Flag = Field(False, description="whether a tenant's allowances and usage count together")

    @model_validator(mode="after")
    def _fits_its_model(self) -> Self:
        _raise(self._misfits())
        return self

    def _misfits(self) -> Iterator[Broken]:
        is_tiered = self.model in _TIERED
        if is_tiered and not self.tiers:
            yield (), f"is {self.model}, and has no tiers"
        if is_tiered and self.unit_price_aud is not None:
            yield ("unit_price_aud",), f"is of no use beside tiers: the prices of a {self.model} rate are in its tiers"
        if not is_tiered and self.tiers:
            yield ("tiers",), f"are of no use: the rate is {self.model}, and only graduated and volume ones have tiers"
        if not is_tiered and self.unit_price_aud is None:
            yield (), "has no unit_price_aud"
        if self.model == "package" and self.package_size is None:
            yield (), "is by the package, and has no package_size"
        if self.model != "package" and self.package_size is not None:
            yield ("package_size",), f"is of no use: the rate is {self.model}"
        if self.pooled and self.model != "per_unit":
            yield ("pooled",), f"only per_unit rates can be pooled, and this one is {self.model}"


assert set(MODELS) == set(Rate.model_fields["model"].annotation.__args__)  # type: ignore[union-attr]


class Plan(Part):
    """A plan: what a subscription is to."""

    name: Text
    proration: Literal["none", "daily"] = Field("none", description="what a part month costs: all of it, or its days")
    price_aud: Amount | None = Field(None, description="base price a month, dollars ex GST; without it: not for sale")
    rates: dict[Kind, Rate] = Field({}, description="by resource kind")


class Addon(Part):
    """Something sold beside a plan."""

    name: Text
    price_aud: Amount | None = Field(None, description="of one a month, dollars ex GST; without it: not for sale")


class OwnPlan(Part):
    """A tenant's own prices of a plan, which stand for the list's."""

    price_aud: Amount | None = Field(None, description="base price a month, dollars ex GST")
    rates: dict[Kind, Rate] = Field({}, description="by resource kind; each stands whole for the list's")


class OwnAddon(Part):
    """A tenant's own price of an addon, which stands for the list's."""

    price_aud: Amount = Field(description="of one a month, dollars ex GST")


class Term(Part):
    """What a tenant has been promised, from one month to another."""

    id: Id | None = Field(None, description="as exported; leave it out of a new one")
    deployment: Id | None = Field(None, description="the only deployment that it is for")
    starts_on: FirstOfMonth = Field(description="the first month that it is for, by its first day")
    ends_on: FirstOfMonth | None = Field(None, description="the first month that it is not for any more")

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.ends_on and self.ends_on <= self.starts_on:
            _raise([(("ends_on",), f"{self.ends_on} is not after starts_on, {self.starts_on}")])
        return self

    def key(self, tenant: str) -> uuid.UUID:
        """Its id; if it has none, one that follows from what it says, so that the same file names the same."""
        said = self.model_dump_json(exclude={"id", "ends_on"})
        return self.id or uuid.uuid5(uuid.NAMESPACE_URL, f"arcadia:{type(self).__name__}:{tenant}:{said}")


class Discount(Term):
    """What a tenant is let off."""

    description: Text = Field(description="what it is, as the tenant reads it")
    percent: Percent | None = Field(None, description="of what its lines come to, 0 to 100")
    amount_aud: Amount | None = Field(None, description="how much a month at most, dollars ex GST")
    line_kind: Literal["plan_base", "addon", "overage"] | None = Field(None, description="the only kind of line")
    resource_kind: Kind | None = Field(None, description="the only resource kind")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.percent is None) == (self.amount_aud is None):
            _raise([((), f"has {'neither' if self.percent is None else 'both'} of percent and amount_aud: give one")])
        return self


class Commitment(Term):
    """The least that a tenant pays a month, for a deployment or for all that it has."""

    minimum_aud: Amount = Field(description="after discounts, dollars ex GST")


def _of_discounts(discounts: list[Discount]) -> Iterator[Broken]:
    keys = [discount.key("") for discount in discounts]
    for place, key in enumerate(keys):
        if (first := keys.index(key)) < place:
            yield (place,), f"is number {first + 1} again: if both count, give each an id of its own"


def _of_commitments(commitments: list[Commitment]) -> Iterator[Broken]:
    for place, later in enumerate(commitments):
        for first, earlier in enumerate(commitments[:place]):
            if earlier.id is not None and earlier.id == later.id:
                yield (place, "id"), f"is that of number {first + 1} too"
            elif earlier.deployment == later.deployment and _overlap(earlier, later):
                scope = f"deployment {later.deployment}" if later.deployment else "the tenant as a whole"
                yield (place,), f"is a second commitment of {scope} in a month of number {first + 1}"


def _overlap(one: Term, other: Term) -> bool:
    return one.starts_on < (other.ends_on or dt.date.max) and other.starts_on < (one.ends_on or dt.date.max)


class Tenant(Part):
    """What one tenant pays that others do not."""

    plans: dict[Code, OwnPlan] = Field({}, description="own prices, by the plan's code")
    addons: dict[Code, OwnAddon] = Field({}, description="own prices, by the addon's code")
    discounts: Annotated[list[Discount], _rule(_of_discounts)] = []
    commitments: Annotated[list[Commitment], _rule(_of_commitments)] = []


class PriceBook(Part):
    """A price book of Arcadia: prices in Australian dollars, ex GST."""

    plans: dict[Code, Plan] = Field(default={}, description="by code")
    addons: dict[Code, Addon] = Field(default={}, description="by code")
    tenants: dict[Text, Tenant] = Field(default={}, description="by the tenant's id")

    @model_validator(mode="after")
    def _names_each_term_once(self) -> Self:
        _raise(self._shared_ids())
        return self

    def _shared_ids(self) -> Iterator[Broken]:
        owners: dict[uuid.UUID, str] = {}
        for tenant, own in self.tenants.items():
            for kind in ("discounts", "commitments"):
                for place, term in enumerate(getattr(own, kind)):
                    if term.id and (owner := owners.setdefault(term.id, tenant)) != tenant:
                        yield ("tenants", tenant, kind, place, "id"), f"is of tenant {owner} already"


def schema() -> dict[str, Any]:
    """The JSON schema of a price book, for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **PriceBook.model_json_schema()}
