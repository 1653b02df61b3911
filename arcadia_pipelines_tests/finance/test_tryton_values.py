"""An invoice as Tryton gets it, and who Tryton is; its books themselves are in tryton/ (`make test-tryton`)."""

from decimal import Decimal

import pytest

from arcadia_pipelines.finance.tryton.books import are_taxed, priced
from arcadia_pipelines.finance.tryton.entry import Stamp
from arcadia_pipelines_tests.command_line import Call
from arcadia_pipelines_tests.world import World


@pytest.mark.parametrize(
    ("quantity", "unit_price_cents", "price_per", "amount_cents", "there"),
    [
        ("672", "1", "1", 672, (672, "0.01", "Storage")),
        ("100", "0.75", "1", 75, (100, "0.0075", "Storage")),
        ("100", "0.744", "1", 74, (1, "0.74", "Storage, 100 at 0.744 c")),  # five decimals, and the amount is rounded
        ("15", "20000", "30", 10000, (1, "100.00", "Storage, 15 at 20000 c for 30")),
        ("0.5", "5", "1", 3, (1, "0.03", "Storage, 0.5 at 5 c")),
        ("1", "-250", "1", -250, (1, "-2.50", "Storage")),
    ],
)
def test_tryton_multiplies_only_what_comes_to_our_amount(
    quantity: str, unit_price_cents: str, price_per: str, amount_cents: int, there: tuple[int, str, str]
) -> None:
    line = {
        "quantity": quantity,
        "unit_price_cents": unit_price_cents,
        "price_per": price_per,
        "amount_cents": amount_cents,
        "description": "Storage",
    }
    assert priced(line) == (Decimal(there[0]), Decimal(there[1]), there[2])


@pytest.mark.parametrize(
    ("amounts_and_gst", "taxed"),
    [
        ([(5000, 500), (1000, 0)], [True, False]),  # a tenth of 10.00 is no nothing: it is free of GST
        ([(5000, 500), (4, 0)], [True, True]),  # a tenth of 4 c is
        ([(-5000, -500), (-4, 0)], [True, True]),
        ([(5000, 0), (4, 0)], [False, False]),
        ([], []),
    ],
)
def test_which_lines_are_taxed_follows_from_their_gst(
    amounts_and_gst: list[tuple[int, int]], taxed: list[bool]
) -> None:
    assert are_taxed([{"amount_cents": amount, "gst_cents": gst} for amount, gst in amounts_and_gst]) == taxed


def test_a_description_says_which_invoice_it_is_and_may_go_on() -> None:
    document = {
        "period": {"start": "2026-04-01"},
        "invoice_id": "0d5e5a3c-8f6e-4a8e-9d50-0f0c3a8f9b11",
        "revision": 2,
        "content_sha256": "ab" * 32,
        "lines": [{"amount_cents": 6422}],
        "gst_cents": 642,
        "total_cents": 7064,
    }
    stamp = Stamp.of(document)
    assert str(stamp).startswith(f"Arcadia 2026-04 0d5e5a3c-8f6e-4a8e-9d50-0f0c3a8f9b11 r2 {'ab' * 32} ")
    assert Stamp.read(f"{stamp} asked by Ada") == stamp
    assert (Stamp.read("Arcadia 2026-04"), Stamp.read(""), Stamp.read(None)) == (None, None, None)
    assert Stamp.of({**document, "total_cents": 7065}).figures != stamp.figures


def test_tryton_is_called_as_a_user_and_not_in_the_clear(pilots_april: World, arcadia: Call) -> None:
    for url, token, why in (
        (
            "tryton+https://tryton.example.com/books",
            "",
            "ARCADIA_FINANCE_TOKEN is not user:password, as which Tryton is",
        ),
        ("tryton+https://tryton.example.com/books", "secret", "ARCADIA_FINANCE_TOKEN is not user:password, as which"),
        (
            "tryton+http://tryton.example.com/books",
            "ada:secret",
            "ARCADIA_FINANCE_URL must be an https address: the tok",
        ),
    ):
        answer = arcadia("finance", "push", ARCADIA_FINANCE_URL=url, ARCADIA_FINANCE_TOKEN=token)
        assert (answer.code, answer.err.startswith(f"arcadia: {why}"), "secret" in answer.err) == (1, True, False)


def test_a_tryton_that_is_down_is_tried_again_later(pilots_april: World, arcadia: Call) -> None:
    url = "tryton+http://127.0.0.1:1/books"
    answer = arcadia("finance", "push", "2026-04", ARCADIA_FINANCE_URL=url, ARCADIA_FINANCE_TOKEN="ada:secret")
    assert answer.out.startswith(
        "0 rows confirmed, 0 refused, 1 still to be told.\nLast error: finance cannot be reached"
    )
