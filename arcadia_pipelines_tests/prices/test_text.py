"""A price book as YAML: every fault in its line, exact numbers, and the schema that editors check by."""

from decimal import Decimal
from textwrap import dedent
from typing import Any

import jsonschema
import pytest
import yaml

from arcadia_pipelines.prices import book, text
from arcadia_pipelines.prices.book import PriceBook

STUDIO = """\
plans:
  studio:
    name: Studio
    price_aud: 50.00
    rates:
      droplet_hours: {included: 1488, unit: hour, unit_price_aud: 0.01}
"""


def read(written: str) -> PriceBook:
    """The book, which has no fault."""
    reading = text.read(written.encode())
    assert reading.faults == []
    assert reading.book is not None
    return reading.book


def faults(written: str) -> list[str]:
    """What is wrong with the book, each with its line."""
    reading = text.read(dedent(written).encode())
    assert reading.book is None
    return [str(fault) for fault in reading.faults]


def test_numbers_are_read_as_they_are_written_and_never_as_binary_floats() -> None:
    """0.1 is one tenth, and a price of ten decimals keeps them all."""
    rate = read(STUDIO.replace("0.01", "0.1234567891")).plans["studio"].rates["droplet_hours"]
    assert rate.unit_price_aud == Decimal("0.1234567891")
    assert read(STUDIO).plans["studio"].price_aud == Decimal(50)


def test_what_is_written_is_read_again_as_it_was() -> None:
    prices = read(STUDIO)
    written = text.write(prices, "Prices of May.")
    assert written == dedent("""\
        # yaml-language-server: $schema=price-book.schema.json
        # Prices of May.
        plans:
          studio:
            name: Studio
            price_aud: '50.00'
            rates:
              droplet_hours:
                unit: hour
                included: '1488'
                unit_price_aud: '0.01'
        """)
    assert read(written) == prices


def test_an_empty_file_is_an_empty_book() -> None:
    assert read("") == read("{}") == read("plans:\naddons: ~\n") == PriceBook()
    assert read(text.write(PriceBook(), "")) == PriceBook()


@pytest.mark.parametrize(
    ("rate", "fault"),
    [
        ("included: 5", ": has no unit_price_aud"),
        ("unit_price_aud: -0.01", ".unit_price_aud: -0.01 is below 0"),
        ("unit_price_aud: '1,5'", ".unit_price_aud: '1,5' is not a number: write it like 50.00"),
        ("unit_price_aud: 1e3", ".unit_price_aud: '1e3' is not a number: write it like 50.00"),
        ("unit_price_aud: .nan", ".unit_price_aud: '.nan' is not a number: write it like 50.00"),
        ("unit_price_aud: 100000000", ".unit_price_aud: 100000000 is not below 100,000,000"),
        ("unit_price_aud: 0.00000000001", ".unit_price_aud: 0.00000000001 has more than 10 decimals"),
        ("unit_price_aud: 1, maximum_aud: 0.005", ".maximum_aud: 0.005 has more than 2 decimals"),
        ("model: packages", ".model: 'packages' is none of per_unit, package, graduated or volume"),
        ("unit_price_aud: 1, pooled: yes", ".pooled: 'yes' is neither true nor false"),
        ("model: package, unit_price_aud: 1", ": is by the package, and has no package_size"),
        ("model: package, unit_price_aud: 1, package_size: 0", ".package_size: 0 is not above 0"),
        ("unit_price_aud: 1, package_size: 5", ".package_size: is of no use: the rate is per_unit"),
        ("model: graduated", ": is graduated, and has no tiers"),
        (
            "unit_price_aud: 1, tiers: [{flat_aud: 1}]",
            ".tiers: are of no use: the rate is per_unit, and only graduated and volume ones have tiers",
        ),
        (
            "model: volume, pooled: true, tiers: [{flat_aud: 1}]",
            ".pooled: only per_unit rates can be pooled, and this one is volume",
        ),
        (
            "model: volume, unit_price_aud: 1, tiers: [{flat_aud: 1}]",
            ".unit_price_aud: is of no use beside tiers: the prices of a volume rate are in its tiers",
        ),
    ],
)
def test_a_rate_that_cannot_be_charged_is_a_fault_in_its_line(rate: str, fault: str) -> None:
    written = f"plans:\n  studio:\n    name: Studio\n    rates:\n      builds: {{unit: build, {rate}}}\n"
    assert faults(written) == [f"5: plans.studio.rates.builds{fault}"]


def test_tiers_that_do_not_follow_each_other_are_faults_each_in_its_line() -> None:
    """One that descends, one without an end before the last, and no last one."""
    found = faults("""\
        plans:
          studio:
            name: Studio
            rates:
              builds:
                unit: build
                model: graduated
                tiers:
                  - {up_to: 10, unit_price_aud: 0.05}
                  - {up_to: 5, unit_price_aud: 0.04}
                  - {unit_price_aud: 0.03}
                  - up_to: 20
                    unit_price_aud: 0.02
        """)
    assert found == [
        "10: plans.studio.rates.builds.tiers.2.up_to: 5 is not above 10, where the tier before ends",
        "11: plans.studio.rates.builds.tiers.3: has no up_to, so that no tier can follow: only the last tier has none",
        "12: plans.studio.rates.builds.tiers.4.up_to: no tier holds more than 20: the last tier must have no up_to",
    ]


def test_what_a_tenant_was_promised_is_checked_term_by_term() -> None:
    found = faults("""\
        tenants:
          nova:
            discounts:
              - {description: a, starts_on: 2026-01-01, percent: 100.5}
              - {description: b, starts_on: 2026-01-01, percent: -1}
              - {description: c, starts_on: 2026-01-01, percent: 10, amount_aud: 5}
              - {description: d, starts_on: 2026-01-01}
              - {description: e, starts_on: 2026-01-15, percent: 10}
              - {description: f, starts_on: 2026-03-01, ends_on: 2026-03-01, percent: 10}
            commitments:
              - {minimum_aud: 100, starts_on: 2026-01-01, ends_on: 2026-06-01}
              - {minimum_aud: 200, starts_on: 2026-06-01}
              - minimum_aud: 300
                starts_on: 2026-12-01
        """)
    assert found == [
        "4: tenants.nova.discounts.1.percent: 100.5 is above 100",
        "5: tenants.nova.discounts.2.percent: -1 is below 0",
        "6: tenants.nova.discounts.3: has both of percent and amount_aud: give one",
        "7: tenants.nova.discounts.4: has neither of percent and amount_aud: give one",
        "8: tenants.nova.discounts.5.starts_on: 2026-01-15 is not the first of a month",
        "9: tenants.nova.discounts.6.ends_on: 2026-03-01 is not after starts_on, 2026-03-01",
        "13: tenants.nova.commitments.3: is a second commitment of the tenant as a whole in a month of number 2",
    ]


def test_a_discount_twice_and_an_id_of_two_tenants_are_faults() -> None:
    one = "00000000-0000-0000-0000-000000000001"
    discount = "{description: a, starts_on: 2026-01-01, percent: 10}"
    found = faults(f"tenants:\n  nova:\n    discounts:\n      - {discount}\n      - {discount}\n")
    assert found == ["5: tenants.nova.discounts.2: is number 1 again: if both count, give each an id of its own"]
    named = discount.replace("{", f"{{id: {one}, ")
    assert faults(f"tenants:\n  a:\n    discounts:\n      - {named}\n  b:\n    discounts:\n      - {named}\n") == [
        "7: tenants.b.discounts.1.id: is of tenant a already"
    ]


def test_a_key_that_nobody_knows_names_the_nearest_that_is_known() -> None:
    found = faults("""\
        plan: {}
        plans:
          studio:
            name: Studio
            prise_aud: 50
            rates:
              builds: {unit: build, unit_price_aud: 1, tears: []}
        tenants:
          nova:
            plans:
              studoi: {price_aud: 40}
            colour: red
        """)
    assert found == [
        "1: plan: is no key that is known here: is plans meant?",
        "5: plans.studio.prise_aud: is no key that is known here: is price_aud meant?",
        "7: plans.studio.rates.builds.tears: is no key that is known here: is tiers meant?",
        "11: tenants.nova.plans.studoi: is none of the plans of this book: is studio meant?",
        "12: tenants.nova.colour: is no key that is known here: there are plans, addons, discounts, commitments",
    ]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("plans:\n  a: {name: A}\n  a: {name: B}\n", "3: plans.a: is there twice: first in line 2"),
        ("plans:\n  a: &x {name: A}\n  b: *x\n", "2: anchors and aliases are not read: write it out"),
        ("plans: !!set {a}\n", "1: the tag tag:yaml.org,2002:set is not read: leave it out"),
        ("plans:\n  a: {name: A\n", "3: is not YAML: did not find expected ',' or '}'"),
        ("plans: {}\n---\nplans: {}\n", "2: is not YAML: but found another document"),
        ("plans: [a]\n", "1: plans: must have keys of its own"),
        ("text\n", "1: must have keys of its own"),
        ("plans:\n  a:\n    price_aud: 5\n", "2: plans.a: has no name"),
        ("plans:\n  ? [a]\n  : {name: A}\n", "2: plans: a key is not text"),
    ],
)
def test_what_is_no_such_document_is_a_fault_in_its_line(written: str, fault: str) -> None:
    assert fault in faults(written)


def test_a_file_that_is_not_utf_8_says_so() -> None:
    assert [str(fault) for fault in text.read(b"plans: {}\n# \xff\n").faults] == [
        "2: is not UTF-8: save the file in that encoding"
    ]


def test_a_file_of_a_hundred_thousand_brackets_is_a_fault_and_no_crash() -> None:
    assert [str(fault) for fault in text.read(b"[" * 100_000).faults] == ["1: is nested too deep"]


# The schema.

EVERYTHING: dict[str, Any] = {
    "plans": {
        "studio": {
            "name": "Studio",
            "proration": "daily",
            "price_aud": "50.00",
            "rates": {
                "droplet_hours": {"unit": "hour", "included": "1488", "unit_price_aud": 0.01, "pooled": True},
                "egress_gb": {"unit": "GB", "model": "package", "package_size": "10", "unit_price_aud": "1"},
                "builds": {
                    "unit": "build",
                    "model": "graduated",
                    "tiers": [{"up_to": "5", "flat_aud": "1"}, {"unit_price_aud": "0.05"}],
                    "maximum_aud": "99.50",
                },
            },
        }
    },
    "addons": {"storage_50gb": {"name": "Storage", "price_aud": "7.50"}},
    "tenants": {
        "nova": {
            "plans": {"studio": {"price_aud": "40", "rates": {"egress_gb": {"unit": "GB", "unit_price_aud": "0.1"}}}},
            "addons": {"storage_50gb": {"price_aud": "5"}},
            "discounts": [
                {
                    "id": "00000000-0000-0000-0000-000000000001",
                    "description": "Welcome",
                    "percent": "12.5",
                    "line_kind": "overage",
                    "resource_kind": "egress_gb",
                    "starts_on": "2026-01-01",
                    "ends_on": "2026-07-01",
                },
                {"description": "Sorry", "amount_aud": "20", "starts_on": "2026-02-01"},
            ],
            "commitments": [
                {
                    "minimum_aud": "500.00",
                    "starts_on": "2026-01-01",
                    "deployment": "00000000-0000-0000-0000-000000000002",
                }
            ],
        }
    },
}
"""A book with every key there is."""


def test_the_schema_takes_what_the_checker_takes_with_every_key_that_there_is() -> None:
    jsonschema.Draft202012Validator.check_schema(book.schema())
    jsonschema.validate(EVERYTHING, book.schema())
    read(yaml.safe_dump(EVERYTHING))
    defined = {name for part in _parts() for name in part["properties"]}
    assert {name for name in defined if f"'{name}'" not in str(EVERYTHING)} == set()


def _parts() -> list[dict[str, Any]]:
    schema = book.schema()
    return [schema, *schema["$defs"].values()]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plans", "studio", "price_aud"), "-1"),
        (("plans", "studio", "price_aud"), -1),
        (("plans", "studio", "price_aud"), "50.005"),
        (("plans", "studio", "price_aud"), "100 dollars"),
        (("plans", "studio", "proration"), "monthly"),
        (("plans", "studio", "name"), None),
        (("plans", "studio", "colour"), "red"),
        (("plans", "studio", "rates", "egress_gb", "package_size"), 0),
        (("plans", "studio", "rates", "egress_gb", "model"), "packages"),
        (("tenants", "nova", "discounts", 0, "percent"), 101),
        (("tenants", "nova", "discounts", 0, "starts_on"), "2026-01-15"),
        (("tenants", "nova", "discounts", 0, "line_kind"), "tax"),
        (("tenants", "nova", "commitments", 0, "minimum_aud"), None),
    ],
)
def test_the_schema_refuses_what_the_checker_refuses(path: tuple[str | int, ...], value: object) -> None:
    """Values and keys; what is a rule over several parts, such as tiers that descend, only the checker knows."""
    wrong = yaml.safe_load(yaml.safe_dump(EVERYTHING))
    part = wrong
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    assert not jsonschema.Draft202012Validator(book.schema()).is_valid(wrong)
    assert text.read(yaml.safe_dump(wrong).encode()).book is None
