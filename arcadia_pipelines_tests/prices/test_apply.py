"""A price book applied to a real database: what is written, what is refused, and that it comes back as it was."""

import hashlib
from decimal import Decimal
from typing import Any

import hypothesis
import psycopg
import pytest
import yaml
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month.projection import project
from arcadia_pipelines.prices import apply as applying
from arcadia_pipelines.prices import stored, text
from arcadia_pipelines.prices.book import PriceBook
from arcadia_pipelines.prices.changes import PricesRefused
from arcadia_pipelines.prices.text import InvalidPrices
from arcadia_pipelines.storage import database, migrations
from arcadia_pipelines_tests.world import World, uid

LIST = """
plans:
  studio:
    name: Studio
    price_aud: 50.00
    rates:
      droplet_hours: {included: 1488, unit: hour, unit_price_aud: 0.01}
addons:
  storage_50gb: {name: storage_50gb, price_aud: 7.50}
"""
"""What world.pilot() sells."""


def book(written: str) -> PriceBook:
    """The book, which has no fault."""
    reading = text.read(written.encode())
    assert reading.book, reading.faults
    return reading.book


def apply(world: World, written: str, since: str = "2026-05") -> list[str]:
    """Apply the book, as the command does; what was changed."""
    month, wanted = BillingMonth.parse(since), book(written)
    with database.exclusive_transaction(database.engine(world.url)) as connection:
        found = applying.differences(connection, wanted, month)
        if found:
            applying.apply(connection, found, wanted, written.encode(), month, "robyn", "because")
        return [change.what for change in found]


def in_effect(world: World, month: str) -> PriceBook:
    """The book in effect in the month."""
    with database.snapshot(database.engine(world.url)) as connection:
        return stored.in_effect(connection, BillingMonth.parse(month))


def test_a_changed_price_is_written_from_its_month_on_and_earlier_months_keep_theirs(world: World) -> None:
    """50.00 becomes 59.00 in May; April is invoiced as before, 70.64, and May at 59.00."""
    world.pilot()
    assert apply(world, LIST.replace("50.00", "59.00")) == ["price of plan studio"]
    assert world.query("select effective_from::text, base_price_cents from cloud.plan_prices order by 1") == [
        ("2026-01-01", 5000),
        ("2026-05-01", 5900),
    ]
    for month in ("2026-04", "2026-05"):
        world.publish(month)
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.lines("pilot", "2026-05")[0] == ("Plan: studio", 5900)


@pytest.mark.usefixtures("pilots_april")
def test_a_book_that_is_in_effect_already_writes_nothing(world: World) -> None:
    assert apply(world, LIST, "2026-04") == []
    assert world.query("select count(*) from billing.price_books") == [(0,)]


def test_what_was_applied_is_on_record_with_the_file_and_stays(world: World) -> None:
    world.pilot()
    written = LIST.replace("7.50", "8.00")
    apply(world, written)
    [(since, sha256, kept, changes, who, why)] = world.query(
        "select effective_from::text, sha256, book, changes, operator, reason from billing.price_books"
    )
    assert (since, who, why) == ("2026-05-01", "robyn", "because")
    assert (kept, sha256) == (written, hashlib.sha256(written.encode()).hexdigest())
    assert changes == [
        {
            "table": "addon_prices",
            "what": "price of addon storage_50gb",
            "before": {"price_aud": "7.50"},
            "after": {"price_aud": "8.00"},
        }
    ]
    with pytest.raises(psycopg.errors.RaiseException):
        world.query("delete from billing.price_books")


def test_a_new_plan_with_tiers_can_be_quoted_from_its_month_on(world: World) -> None:
    """20 builds: 10 at 5 c and 10 at 3 c, 80 c, on a base of 9.00."""
    world.pilot()
    new = book(LIST).model_dump(mode="json", exclude_defaults=True)
    new["plans"]["tiny"] = {
        "name": "Tiny",
        "price_aud": "9.00",
        "rates": {
            "builds": {
                "unit": "build",
                "model": "graduated",
                "tiers": [{"up_to": "10", "unit_price_aud": "0.05"}, {"unit_price_aud": "0.03"}],
            }
        },
    }
    new["addons"]["backups"] = {"name": "Backups"}
    assert apply(world, yaml.safe_dump(new), "2026-06") == [
        "plan tiny",
        "price of plan tiny",
        "rate of plan tiny for builds",
        "addon backups",
    ]
    with database.snapshot(database.engine(world.url)) as connection:
        june = BillingMonth.parse("2026-06")
        _, lines = project(connection, june, "tiny", [], {"builds": Decimal(20)})
    assert list(lines["amount_cents"]) == [900, 50, 30, 98]


OWN = (
    LIST
    + """
tenants:
  pilot:
    plans:
      studio:
        price_aud: 40.00
        rates:
          droplet_hours: {included: 2000, unit: hour, model: volume, tiers: [{unit_price_aud: 0.02}]}
    addons:
      storage_50gb: {price_aud: 5.00}
    discounts:
      - {description: Welcome, percent: 10, starts_on: 2026-05-01}
      - {description: Later, amount_aud: 5, starts_on: 2026-09-01}
    commitments:
      - {minimum_aud: 100, starts_on: 2026-05-01}
"""
)


def test_a_tenants_own_prices_give_the_lists_back_when_they_leave_the_book(world: World) -> None:
    """From July on prices are of null, what has begun ends on 1 July, and a discount that has not begun is gone."""
    world.pilot()
    apply(world, OWN)
    assert in_effect(world, "2026-05") == _identified(world, OWN)
    apply(world, LIST, "2026-07")
    assert in_effect(world, "2026-07") == book(LIST)
    assert in_effect(world, "2026-06").tenants["pilot"].plans["studio"].price_aud == 40
    assert world.query("select base_price_cents from cloud.tenant_plan_prices order by effective_from") == [
        (4000,),
        (None,),
    ]
    assert world.query("select description, ends_on::text from cloud.discounts") == [("Welcome", "2026-07-01")]
    assert world.query("select ends_on::text from cloud.commitments") == [("2026-07-01",)]
    world.use("web", "droplet_hours", 2160, "2026-07-15")
    world.publish("2026-07")
    assert ("Overage: droplet_hours", 672) in world.lines("pilot", "2026-07")


def _identified(world: World, written: str) -> PriceBook:
    """The book with the ids that its terms have in the database: read once more, they change nothing."""
    assert apply(world, written) == []
    return in_effect(world, "2026-05")


def test_a_rate_that_is_changed_twice_in_a_month_has_the_tiers_of_the_last_time(world: World) -> None:
    world.pilot()
    apply(world, OWN)
    changed = OWN.replace("tiers: [{unit_price_aud: 0.02}]", "tiers: [{up_to: 9, flat_aud: 1}, {flat_aud: 2}]")
    assert apply(world, changed) == ["pilot's rate of plan studio for droplet_hours"]
    assert world.query("select up_to, unit_price_cents, flat_cents from cloud.tenant_rate_tiers order by 1") == [
        (9, 0, 100),
        (None, 0, 200),
    ]


@pytest.mark.usefixtures("pilots_april")
@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (("50.00", "59.00"), "the price of plan studio would change from 2026-04 on, and 2026-04 is invoiced to pilot"),
        (("plans:\n  studio:", "plans:\n  studio2:"), "the plan studio is not in the book, and a plan is not deleted"),
        (("price_aud: 7.50", ""), "the price of addon storage_50gb is not in the book, and a price stays until"),
        (
            ("droplet_hours: {", "hours: {"),
            "the rate of plan studio for droplet_hours is not in the book, and a rate stays",
        ),
        (("addons:", "tenants: {nobody: {}}\naddons:"), "tenants.nobody is no tenant of the platform"),
        (("    price_aud: 50", "    proration: daily\n    price_aud: 50"), "the plan studio would change from 2026-04"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(world: World, change: tuple[str, str], refusal: str) -> None:
    with pytest.raises(PricesRefused, match=refusal):
        apply(world, LIST.replace(*change), "2026-04")
    assert in_effect(world, "2026-04") == book(LIST)


def test_proration_has_no_month_so_that_no_invoiced_plan_changes_it(world: World) -> None:
    """A plan that nobody was billed for may."""
    world.pilot()
    world.plan("small", 100)
    with_small = LIST.replace("addons:", "  small: {name: Small, price_aud: 1}\naddons:")
    world.publish("2026-04")
    daily = with_small.replace("name: Small,", "name: Small, proration: daily,")
    assert apply(world, daily, "2026-06") == ["plan small"]
    with pytest.raises(PricesRefused, match="the proration of plan studio has no month from which it counts"):
        apply(world, daily.replace("name: Studio", "name: Studio\n    proration: daily"), "2026-06")


def test_only_the_months_of_whom_a_change_concerns_count_as_invoiced(world: World) -> None:
    """April is invoiced to the pilot: another tenant's discount from April on is no change to that."""
    world.pilot()
    world.tenant("nova")
    world.publish("2026-04")
    discount = "{description: Sorry, amount_aud: 5, starts_on: 2026-04-01}"
    terms = LIST + "tenants:\n  {}:\n    discounts:\n      - " + discount + "\n"
    assert len(apply(world, terms.replace("{}:", "nova:", 1), "2026-05")) == 1
    with pytest.raises(PricesRefused, match="would change from 2026-04 on, and 2026-04 is invoiced to pilot"):
        apply(world, terms.replace("{}:", "pilot:", 1), "2026-05")


def test_a_discount_may_end_after_what_is_invoiced_and_not_before(world: World) -> None:
    """From March on; April is invoiced: it can end with April, and not with March."""
    world.pilot()
    terms = LIST + "tenants:\n  pilot:\n    discounts:\n      - {description: a, percent: 5, starts_on: 2026-03-01%s}\n"
    apply(world, terms % "", "2026-03")
    world.publish("2026-04")
    with pytest.raises(PricesRefused, match=r"pilot's discount .* would change from 2026-04 on"):
        apply(world, terms % ", ends_on: 2026-04-01", "2026-03")
    assert len(apply(world, terms % ", ends_on: 2026-05-01", "2026-03")) == 1


def test_a_discount_stays_with_its_tenant(world: World) -> None:
    """Its id under another tenant would take it away from the first, with all that it was."""
    world.pilot()
    world.tenant("nova")
    terms = LIST + "tenants:\n  %s:\n    discounts:\n      - {description: a, percent: 5, starts_on: 2026-05-01%s}\n"
    apply(world, terms % ("pilot", ""))
    [(identity,)] = world.query("select id::text from cloud.discounts")
    with pytest.raises(PricesRefused, match="is of tenant pilot: leave its id out of the book"):
        apply(world, terms % ("nova", f", id: {identity}"))


def test_an_addon_that_is_new_does_not_make_a_plan_of_the_same_code_new(world: World) -> None:
    """The plan's price stays what April's invoices have."""
    world.pilot()
    world.publish("2026-04")
    with_addon = LIST + "  studio: {name: Studio, price_aud: 1.00}\n"
    with pytest.raises(PricesRefused, match="the price of plan studio would change from 2026-04 on"):
        apply(world, with_addon.replace("50.00", "59.00"), "2026-04")
    assert apply(world, with_addon, "2026-04") == ["addon studio", "price of addon studio"]


def test_prices_of_later_months_stand_and_are_named(world: World) -> None:
    world.pilot()
    world.plan("studio", 6000, since="2026-08-01")
    with database.snapshot(database.engine(world.url)) as connection:
        assert applying.later(connection, BillingMonth.parse("2026-05")) == [("plan studio", "2026-08")]
        assert applying.later(connection, BillingMonth.parse("2026-08")) == []


def test_the_sql_for_a_platform_does_what_applying_does(world: World) -> None:
    """Where the tables are somebody else's they are not written; the printed SQL, run there, makes the book be."""
    world.pilot()
    world.query("comment on schema cloud is 'The platform of somebody else'")
    wanted, month = book(OWN), BillingMonth.parse("2026-05")
    with database.snapshot(database.engine(world.url)) as connection:
        assert not applying.is_ours(connection)
        sql = applying.as_sql(connection, applying.differences(connection, wanted, month), month)
    with psycopg.connect(world.url, autocommit=True) as platform:
        platform.execute(sql.encode())
    assert apply(world, OWN) == []


def test_a_view_in_the_place_of_a_table_is_a_platforms_own(world: World) -> None:
    with database.transaction(database.engine(world.url)) as connection:
        assert applying.is_ours(connection)
        connection.exec_driver_sql("alter table cloud.commitments rename to kept")
        connection.exec_driver_sql("create view cloud.commitments as select * from cloud.kept")
        assert not applying.is_ours(connection)
        connection.rollback()


def test_prices_in_the_database_that_no_book_may_have_are_named(world: World) -> None:
    world.pilot()
    world.query("update cloud.plan_rates set charge_model = 'volume'")
    with pytest.raises(InvalidPrices, match=r"plans.studio.rates.droplet_hours is volume, and has no tiers: correct"):
        in_effect(world, "2026-04")


def test_kinds_that_nobody_meters_and_strangers_are_found(world: World) -> None:
    world.pilot()
    strangers = (
        "tenants:\n  nobody: {}\n  pilot:\n    commitments:\n"
        f"      - {{minimum_aud: 1, starts_on: 2026-01-01, deployment: {uid('gone')}}}\n"
    )
    wanted = book(LIST.replace("addons:", "      egress_gb: {unit: GB, unit_price_aud: 1}\naddons:") + strangers)
    with database.snapshot(database.engine(world.url)) as connection:
        assert [path for path, _ in stored.unmetered(connection, wanted)] == [("plans", "studio", "rates", "egress_gb")]
        assert stored.strangers(connection, wanted) == [
            (("tenants", "nobody"), "is no tenant of the platform"),
            (("tenants", "pilot", "commitments", 0, "deployment"), "is no deployment of the platform"),
        ]


# Whatever a book says, the database says it back.


def test_the_samples_book_applied_to_an_empty_database_is_exported_from_there_again(
    sample: World, server_url: str, empty_url: str
) -> None:
    """Each month of the year, whose prices change in June, July and August."""
    migrations.migrate(database.engine(empty_url))
    empty = World(empty_url)
    empty.tenant("wombat-retail")  # whose own price, discount and commitment are in the book
    for month in ("2026-01", "2026-06", "2026-07", "2026-08"):
        exported = text.write(in_effect(sample, month), "")
        apply(empty, exported, month)
        assert text.write(in_effect(empty, month), "") == exported


def amounts(places: int, below: int = 10_000) -> st.SearchStrategy[str]:
    return st.decimals(0, below, places=places).map(lambda number: f"{number:f}")


QUANTITIES = st.decimals(1, 10**6, places=6).map(lambda number: f"{number:f}")
FIRSTS = st.builds("{}-{:02}-01".format, st.integers(2020, 2030), st.integers(1, 12))


@st.composite
def rates(draw: st.DrawFn) -> dict[str, Any]:
    rate: dict[str, Any] = {"unit": draw(st.sampled_from(["hour", "GB", "1", "null", "yes: no"]))}
    rate |= {
        "included": draw(QUANTITIES),
        "model": draw(st.sampled_from(["per_unit", "package", "graduated", "volume"])),
    }
    if draw(st.booleans()):
        rate["maximum_aud"] = draw(amounts(2))
    if rate["model"] in ("graduated", "volume"):
        bounds = sorted(draw(st.sets(st.integers(1, 1000), max_size=3)))
        rate["tiers"] = [
            {
                "unit_price_aud": draw(amounts(10)),
                "flat_aud": draw(amounts(2)),
                **({"up_to": str(bound)} if bound else {}),
            }
            for bound in [*bounds, None]
        ]
        return rate
    rate["unit_price_aud"] = draw(amounts(10))
    if rate["model"] == "package":
        rate["package_size"] = draw(QUANTITIES)
    else:
        rate["pooled"] = draw(st.sampled_from(["true", "false"]))
    return rate


@st.composite
def terms(draw: st.DrawFn, more: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    term = {"starts_on": draw(FIRSTS), **{name: draw(strategy) for name, strategy in more.items()}}
    return {name: value for name, value in term.items() if value is not None}


CODES = st.sampled_from(["a", "b c", "1", "null", "x.y", "größe", "- z"])
KINDS = st.dictionaries(st.sampled_from(["droplet_hours", "egress_gb", "2"]), rates(), max_size=2)
DISCOUNTS = st.lists(
    terms({"description": st.text("ab '\n:#", min_size=1), "percent": amounts(4, 100),
           "line_kind": st.sampled_from([None, "addon", "overage"])}),
    max_size=3, unique_by=str,
)  # fmt: skip
COMMITMENTS = st.lists(terms({"minimum_aud": amounts(2)}), max_size=1)


@st.composite
def books(draw: st.DrawFn) -> dict[str, Any]:
    """A price book without a fault, as text would have it."""
    named = {"name": st.text("Aa '", min_size=1), "price_aud": amounts(2)}
    plans = draw(st.dictionaries(CODES, st.fixed_dictionaries(named | {"rates": KINDS})))
    addons = draw(st.dictionaries(CODES, st.fixed_dictionaries(named)))
    own = {
        "plans": st.dictionaries(st.sampled_from(sorted(plans) or [""]),
                                 st.fixed_dictionaries({"rates": KINDS}, optional={"price_aud": amounts(2)})),
        "addons": st.dictionaries(st.sampled_from(sorted(addons) or [""]),
                                  st.fixed_dictionaries({"price_aud": amounts(2)})),
    }  # fmt: skip
    of_tenant = {name: strategy for name, strategy in own.items() if {"plans": plans, "addons": addons}[name]}
    tenant = st.fixed_dictionaries(of_tenant | {"discounts": DISCOUNTS, "commitments": COMMITMENTS})
    return {"plans": plans, "addons": addons, "tenants": {name: draw(tenant) for name in ("nova", "pilot")}}


@pytest.mark.long
def test_a_book_applied_after_any_other_is_what_is_exported_then(world: World) -> None:
    """Two books, one after the other, the second with all that the first sells; both come back to the letter."""
    world.tenant("nova")
    world.tenant("pilot")
    first_month, second_month = BillingMonth.parse("2026-01"), BillingMonth.parse("2026-02")

    def comes_back(connection: Connection, wanted: PriceBook, month: BillingMonth) -> None:
        found = applying.differences(connection, wanted, month)
        if found:
            applying.apply(connection, found, wanted, b"", month, "robyn", "because")
        exported = text.write(stored.in_effect(connection, month), "")
        again = book(exported)
        assert applying.differences(connection, again, month) == []
        assert again == stored.in_effect(connection, month)

    @hypothesis.settings(max_examples=8, database=None, phases=[hypothesis.Phase.generate])
    @hypothesis.given(first=books(), second=books())
    def each(first: dict[str, Any], second: dict[str, Any]) -> None:
        sold = {
            kind: {
                code: {**part, **second[kind].get(code, {})} for code, part in {**first[kind], **second[kind]}.items()
            }
            for kind in ("plans", "addons")
        }
        for code, plan in sold["plans"].items():
            plan["rates"] = {**first["plans"].get(code, {}).get("rates", {}), **plan["rates"]}
        with database.transaction(database.engine(world.url)) as connection:
            comes_back(connection, book(yaml.safe_dump(first)), first_month)
            comes_back(connection, book(yaml.safe_dump({**sold, "tenants": second["tenants"]})), second_month)
            connection.rollback()

    each()
