"""The provider's bill: what is read of a CSV and of the API's answers, and what is refused."""

import json
from decimal import Decimal
from typing import Any

import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.costs.bill import Bill, InvalidBill, moved
from arcadia_pipelines.costs.bill_api import read_api
from arcadia_pipelines.costs.bill_csv import read_csv

APRIL = BillingMonth.parse("2026-04")
HEADER = (
    "product,resource_id,resource_uuid,group_description,description,amount,duration,duration_unit,start_time,end_time,"
    "project_name,category\n"
)
WEB = "Droplets,11,u-11,,web-1 (s-1vcpu-1gb),6.43,720,Hours,2026-04-01T00:00:00Z,2026-05-01T00:00:00Z,web,iaas\n"
OLDER = """product,group_description,description,hours,start,end,USD,project_name,category
Droplets,,web-1 (s-1vcpu-1gb),720,2026-04-01 00:00:00 +0000,2026-05-01 00:00:00 +0000,$6.43,web,iaas
Droplets,,"db-1, large",7.5,2026-04-30 16:30:00 +0000,2026-05-01 00:00:00 +0000,"$1,006.00",db,iaas
Promotional credit,,Welcome,,,,($3.45),,
Taxes,,GST (10%),,,,0.60,,
"""


def read(text: str, **more: Any) -> Bill:
    return read_csv(text.encode(), "bill.csv", **more)


def column(bill: Bill, name: str) -> list[Any]:
    values = bill.items[name].astype(object)
    return list(values.where(values.notna(), None))


def test_a_csv_of_today_is_read_whole() -> None:
    """Every column, and the month that its items are in."""
    bill = read(HEADER + WEB)
    [item] = bill.items.astype(object).where(bill.items.notna(), None).to_dict("records")
    assert bill.month == APRIL
    assert (bill.total_cents, bill.total_from) == (643, "sum")
    assert {**item, "duration": str(item["duration"]), "started_at": f"{item['started_at']:%F %T}", "ended_at": 0} == {
        "line_no": 1, "kind": "usage", "product": "Droplets", "category": "iaas", "resource_id": "11",
        "resource_uuid": "u-11", "group_description": None, "description": "web-1 (s-1vcpu-1gb)",
        "duration": "720.000000", "duration_unit": "Hours", "started_at": "2026-04-01 00:00:00", "ended_at": 0,
        "project_name": "web", "amount_cents": 643,
    }  # fmt: skip


def test_a_csv_of_older_days_is_read_too() -> None:
    """Dollars and commas, brackets for a minus, hours, items without dates: those are the month's."""
    bill = read(OLDER, total=100958)
    assert column(bill, "amount_cents") == [643, 100600, -345, 60]
    assert column(bill, "kind") == ["usage", "usage", "credit", "tax"]
    assert column(bill, "duration_unit") == ["hours", "hours", None, None]
    assert [f"{at:%m-%d %H:%M}" for at in column(bill, "started_at")] == ["04-01 00:00", "04-30 16:30"] + [
        "04-01 00:00"
    ] * 2
    assert (bill.total_cents, bill.total_from) == (100958, "operator")


def test_a_total_in_the_file_is_the_bills_own() -> None:
    """It is no item."""
    bill = read(HEADER + WEB + "Total,,,,,6.43,,,,,,\n")
    assert (bill.total_cents, bill.total_from, len(bill.items)) == (643, "bill", 1)


def test_the_order_of_the_items_does_not_matter_to_the_hash() -> None:
    """The same bill sent in another order bills the same; a cent more does not."""
    other = WEB.replace("web-1", "web-2").replace("6.43", "6.44")
    assert read(HEADER + WEB + other).sha256 == read(HEADER + other + WEB).sha256
    assert read(HEADER + WEB + other).sha256 != read(HEADER + WEB + WEB).sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the columns amount, description, product"),
        ("a,b\n1,2\n", "lacks the columns amount, description, product"),
        (HEADER, "has no items"),
        (HEADER + "Total,,,,,6.43,,,,,,\n", "has no items"),
        (HEADER + "Droplets,11\n", "line 2 has 2 values"),
        (HEADER + WEB.replace("6.43", "6.435"), "item 1: amount '6.435' is not an amount of dollars and whole cents"),
        (HEADER + WEB + WEB.replace("6.43", "free"), "item 2: amount 'free'"),
        (HEADER + WEB.replace("6.43", "NaN"), "item 1: amount 'NaN'"),
        (HEADER + WEB.replace("6.43", ""), "item 1: amount ''"),
        (HEADER + WEB.replace("720", "many"), "item 1: duration 'many'"),
        (HEADER + WEB.replace("720", "1e3"), "item 1: duration '1e3'"),
        (HEADER + WEB.replace("Droplets", " "), "item 1: product '' is empty"),
        (HEADER + WEB.replace("2026-04-01T00:00:00Z", "yesterday"), "item 1: start_time 'yesterday'"),
        (HEADER + WEB.replace("2026-05-01T", "2026-03-01T"), "item 1 ends before it starts"),
        (HEADER + WEB + WEB.replace("2026-04-01T", "2026-03-01T"), "begin in 2026-03, 2026-04"),
        (HEADER + WEB.replace("2026-04-01T00:00:00Z", ""), "name no dates"),
        (HEADER + WEB + "Total,,,,,6.44,,,,,,\n", "items sum to 6.43 USD, its total is 6.44, a difference of 0.01"),
        (HEADER + WEB + "Total,,,,,6.43,,,,,,\n" * 2, "has 2 rows of product Total"),
        (HEADER + "\n" + WEB + "Droplets\n", "line 4 has 1 values"),
        (HEADER.replace("category", "USD") + WEB, "more than one column amount"),
        (HEADER + WEB.replace("6.43", '"1,50"'), "item 1: amount '1,50'"),
        (HEADER + WEB.replace("6.43", "$$5"), "item 1: amount '$$5'"),
        (HEADER + WEB.replace("6.43", "--5"), "item 1: amount '--5'"),
        (HEADER + WEB + "Grand total,,,,all,6.43,,,,,,\n", "item 2: product 'Grand total' is not a product"),
        (HEADER + WEB + "Total,,,,,all of it,,,,,,\n", "the row Total: 'all of it' is not an amount"),
        (HEADER + WEB.replace("2026-04-01T", "0001-01-01T"), "'0001-01' is not a month"),
        (HEADER + WEB.replace("6.43", "999999999999.99") * 11, "beyond any bill"),
        (HEADER + WEB.replace("web-1", '"web-1'), "not a CSV in UTF-8"),
        (HEADER + WEB.replace("web-1", "web\0"), "not a text file"),
    ],
)
def test_an_invalid_bill_is_refused_and_the_message_says_where(text: str, message: str) -> None:
    """Nothing is guessed, nothing is left out."""
    with pytest.raises(InvalidBill) as refused:
        read(text)
    assert message in str(refused.value)


def test_an_item_without_a_description_is_called_as_its_product() -> None:
    """Bandwidth is billed without a word, and moves under that name when the bill is restated."""
    bandwidth = "Bandwidth,,,,,0.37,,,2026-04-01T00:00:00Z,2026-05-01T00:00:00Z,,iaas\n"
    bill = read(HEADER + WEB + bandwidth)
    assert column(bill, "description") == ["web-1 (s-1vcpu-1gb)", "Bandwidth"]
    [change] = moved(bill.items, read(HEADER + WEB + bandwidth.replace("0.37", "0.40")).items).to_dict("records")
    assert (change["resource"], change["difference_cents"]) == ("Bandwidth", 3)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("213.45277777777778", "213.452778"),
        ("0.00027777777777777778", "0.000278"),
        ("0.0000005", "0.000001"),
        ("0.00000049999999999999999999999999999", "0.000000"),
        ("744.0000000000001", "744.000000"),
        ("-24.0000005", "-24.000001"),
        ("2678400", "2678400.000000"),
    ],
)
def test_a_duration_of_any_decimals_is_rounded_to_six_half_up(text: str, duration: str) -> None:
    """Machines are billed by the second, so hours have no end."""
    assert column(read(HEADER + WEB.replace("720", text)), "duration") == [Decimal(duration)]
    assert column(answered(SUMMARY, {**ITEM, "duration": text}), "duration")[0] == Decimal(duration)


def test_a_duration_that_the_api_sends_as_a_number_is_read() -> None:
    """JSON's numbers are spelled with an exponent when they are small."""
    assert column(answered(SUMMARY, {**ITEM, "duration": 0.00005}), "duration")[0] == Decimal("0.00005")
    assert column(answered(SUMMARY, {**ITEM, "duration": 213.45277777777778}), "duration")[0] == Decimal("213.452778")


LATER = WEB.replace("2026-04-01T", "2026-04-20T").replace("6.43", "2.00")
TOTAL = "Total,,,,,{},,,,,,\n"


@pytest.mark.parametrize(
    ("text", "amounts", "total_from"),
    [
        (HEADER + WEB + HEADER + LATER, [643, 200], "sum"),
        (HEADER + WEB + TOTAL.format("6.43") + "\ufeff" + HEADER + LATER + TOTAL.format("2.00"), [643, 200], "bill"),
        (HEADER + WEB + TOTAL.format("6.43") + HEADER + LATER, [643, 200], "sum"),
        (HEADER + WEB + OLDER, [643, 643, 100600, -345, 60], "sum"),
        (OLDER + "\n" + HEADER.upper() + LATER + HEADER + WEB, [643, 100600, -345, 60, 200, 643], "sum"),
    ],
)
def test_the_invoices_of_a_month_are_one_file_after_another(text: str, amounts: list[int], total_from: str) -> None:
    """Each has its own header, in either spelling, and its own total; the bill states one if each of them does."""
    bill = read(text)
    assert column(bill, "amount_cents") == amounts
    assert (bill.total_cents, bill.total_from, bill.month) == (sum(amounts), total_from, APRIL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + WEB + TOTAL.format("6.43") + HEADER + LATER + TOTAL.format("2.01"), "invoice 2 of bill.csv does not"),
        (HEADER + WEB + TOTAL.format("6.44") + HEADER + LATER + TOTAL.format("1.99"), "its items sum to 6.43 USD, its"),
        (HEADER + WEB + HEADER + WEB, "has one invoice twice, as number 1 and 2"),
        (OLDER + HEADER + LATER + OLDER, "has one invoice twice, as number 1 and 3"),
        (OLDER + OLDER.replace("USD", "EUR"), "item 5: amount 'EUR'"),
        (
            HEADER + WEB + "product,description,amount\nDroplets\n",
            "line 4 has 1 values, and its header names 3 columns",
        ),
    ],
)
def test_of_several_invoices_each_must_add_up_and_be_there_once(text: str, message: str) -> None:
    """What one lacks is not made up by another."""
    with pytest.raises(InvalidBill) as refused:
        read(text)
    assert message in str(refused.value)


MARCH = WEB.replace("2026-05-01T", "2026-04-01T").replace("04-01T00:00:00Z,2026", "03-01T00:00:00Z,2026")
UNTIL = WEB.replace("2026-04-01T00:00:00Z", "")
SINCE = WEB.replace("2026-05-01T00:00:00Z", "")


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (WEB, "04"),
        (SINCE, "04"),
        (UNTIL, "04"),
        (WEB + WEB + MARCH, "04"),
        (WEB + MARCH + MARCH, "03"),
        (WEB.replace("2026-04-01T", "2026-03-15T"), "03 04"),
        (WEB.replace("2026-04-01T", "2026-05-01T"), "05"),
        (UNTIL.replace("2026-05-01T00:00:00Z", ""), "03 04 05"),
        (WEB + HEADER + MARCH, ""),
    ],
    ids=[
        "a month",
        "since",
        "until",
        "one is older",
        "one is newer",
        "across",
        "an instant",
        "undated",
        "two invoices",
    ],
)
def test_a_bill_is_of_the_month_that_is_given_if_its_items_lie_in_it(text: str, taken: str) -> None:
    """Or most of its usage does, for a bill corrects earlier months; of two invoices each."""
    found = []
    for month in ("2026-03", "2026-04", "2026-05"):
        try:
            found.append(str(read(HEADER + text, month=BillingMonth.parse(month)).month)[-2:])
        except InvalidBill as error:
            assert f" not of {month}, but of 2026-" in str(error)  # noqa: PT017  some are taken
    assert " ".join(found) == taken


def test_an_item_that_is_years_away_is_refused() -> None:
    """An instant of 0 would make the month a moment of its time."""
    with pytest.raises(InvalidBill, match=r"item 1: start_time '0001-01-01 .*' is more than a year from 2026-04"):
        read(HEADER + WEB.replace("2026-04-01T", "0001-01-01T"), month=APRIL)


def test_bytes_that_are_not_text_are_refused() -> None:
    """A spreadsheet of its own kind is a zip file."""
    with pytest.raises(InvalidBill, match="not a CSV in UTF-8"):
        read_csv(b"PK\x03\x04\xff\xfe", "bill.xlsx")


def test_a_total_that_contradicts_the_files_is_refused() -> None:
    """The file says 6.43."""
    with pytest.raises(InvalidBill, match=r"states a total of 6\.43, and you state 6\.44"):
        read(HEADER + WEB + "Total,,,,,6.43,,,,,,\n", total=644)


ITEM = {
    "product": "Droplets", "resource_id": "11", "resource_uuid": "u-11", "group_description": "",
    "description": "web-1", "amount": "6.43", "duration": "720", "duration_unit": "Hours",
    "start_time": "2026-04-01T00:00:00Z", "end_time": "2026-05-01T00:00:00Z", "project_name": "web",
}  # fmt: skip
SUMMARY = {
    "invoice_uuid": "22737513-0ea7-4206-8ceb-98a575af7681",
    "billing_period": "2026-04",
    "amount": "5.63",
    "product_charges": {"name": "Product usage charges", "amount": "6.43", "items": []},
    "overages": {"name": "Overages", "amount": "1.20"},
    "taxes": {"name": "Taxes", "amount": "0.50"},
    "credits_and_adjustments": {"name": "Credits & adjustments", "amount": "-2.50"},
}


def answered(summary: dict[str, Any], *items: dict[str, Any]) -> Bill:
    return read_api(APRIL, summary, [{"invoice_items": list(items)}], "https://api.example.com")


def test_what_only_the_summary_lists_becomes_items() -> None:
    """6.43 + 1.20 + 0.50 - 2.50 = 5.63."""
    bill = answered(SUMMARY, ITEM)
    assert column(bill, "product") == ["Droplets", "Overages", "Taxes", "Credits and adjustments"]
    assert column(bill, "kind") == ["usage", "usage", "tax", "credit"]
    assert column(bill, "amount_cents") == [643, 120, 50, -250]
    assert (bill.total_cents, bill.total_from, bill.invoice_uuid) == (563, "bill", SUMMARY["invoice_uuid"])
    assert json.loads(bill.document)[0] == SUMMARY


def test_what_is_an_item_already_is_not_taken_twice() -> None:
    """The same bill, itemised."""
    others = [("Bandwidth", "1.20"), ("Taxes", "0.50"), ("Credits", "-2.50")]
    bill = answered(SUMMARY, ITEM, *({**ITEM, "product": product, "amount": amount} for product, amount in others))
    assert column(bill, "amount_cents") == [643, 120, 50, -250]


def product(name: str, amount: str) -> dict[str, Any]:
    return {**ITEM, "product": name, "amount": amount}


def summed(amount: str, **sections: str) -> dict[str, Any]:
    return {
        **SUMMARY,
        **dict.fromkeys(("product_charges", "overages", "taxes", "credits_and_adjustments")),
        "amount": amount,
        **{name: {"name": name, "amount": cents} for name, cents in sections.items()},
    }


@pytest.mark.parametrize(
    ("items", "summary", "amounts"),
    [
        # The refund of a droplet is among the product charges, the credit is not listed: 18.00 - 5.00.
        (
            [("Droplets", "20.00"), ("Droplets", "-2.00")],
            summed("13.00", product_charges="18.00", credits_and_adjustments="-5.00"),
            [2000, -200, -500],
        ),
        # The same, and the refund has a name that a credit could have.
        (
            [("Droplets", "20.00"), ("Refunds", "-2.00")],
            summed("13.00", product_charges="18.00", credits_and_adjustments="-5.00"),
            [2000, -200, -500],
        ),
        # Two refunds, taxes and overages that stand in the summary alone: 17.00 + 1.20 + 1.32 - 5.00.
        (
            [("Droplets", "20.00"), ("Volumes", "-2.00"), ("Droplets", "-1.00")],
            summed("14.52", product_charges="17.00", overages="1.20", taxes="1.32", credits_and_adjustments="-5.00"),
            [2000, -200, -100, 120, 132, -500],
        ),
        # The credit is listed, under a name of its own, beside a refund: 18.00 - 5.00.
        (
            [("Droplets", "20.00"), ("Droplets", "-2.00"), ("Free trial", "-5.00")],
            summed("13.00", product_charges="18.00", credits_and_adjustments="-5.00"),
            [2000, -200, -500],
        ),
        # Listed in two parts beside a refund of the same name: 18.00 - 5.00.
        (
            [("Droplets", "20.00"), ("Refunds", "-2.00"), ("Credits", "-3.00"), ("Credits", "-2.00")],
            summed("13.00", product_charges="18.00", credits_and_adjustments="-5.00"),
            [2000, -200, -300, -200],
        ),
        # A product that is named as a tax is none: 6.00 + 0.50.
        ([("Tax Software", "6.00")], summed("6.50", product_charges="6.00", taxes="0.50"), [600, 50]),
    ],
)
def test_a_bill_of_the_api_whose_parts_add_up_is_taken(
    items: list[tuple[str, str]], summary: dict[str, Any], amounts: list[int]
) -> None:
    """What of the summary is not among the items is what they lack to the total."""
    bill = answered(summary, *(product(*one) for one in items))
    assert column(bill, "amount_cents") == amounts


@pytest.mark.parametrize(
    ("items", "summary"),
    [
        # A cent of the credit is missing.
        (
            [("Droplets", "20.00"), ("Droplets", "-2.00")],
            summed("13.00", product_charges="18.00", credits_and_adjustments="-4.99"),
        ),
        # An item of 5.00 is lost, as much as the credit: nothing that is listed can be that.
        ([("Droplets", "18.00")], summed("18.00", product_charges="23.00", credits_and_adjustments="-5.00")),
        # An item of 0.50 is lost, as much as the tax, which is listed and not taken twice.
        ([("Droplets", "5.50"), ("Taxes", "0.50")], summed("6.50", product_charges="6.00", taxes="0.50")),
    ],
)
def test_a_bill_of_the_api_that_lacks_an_item_is_refused(items: list[tuple[str, str]], summary: dict[str, Any]) -> None:
    """No section of the summary stands in for it."""
    with pytest.raises(InvalidBill, match="does not add up"):
        answered(summary, *(product(*one) for one in items))


def test_an_answer_that_does_not_add_up_is_refused() -> None:
    """An item is missing."""
    with pytest.raises(InvalidBill, match=r"its items sum to 5\.62 USD, its total is 5\.63"):
        answered(SUMMARY, {**ITEM, "amount": "6.42"})


def test_another_months_answer_is_refused() -> None:
    """The bill says which month it is of."""
    with pytest.raises(InvalidBill, match="is of 2026-03, not of 2026-04"):
        answered({**SUMMARY, "billing_period": "2026-03"}, ITEM)


def test_what_moved_is_told_by_product_and_resource_the_largest_first() -> None:
    """One droplet dearer, one gone, one new, one the same."""
    lines = [WEB.replace("11", str(number)).replace("web-1", f"web-{number}") for number in (11, 12, 13, 14)]
    before = read(HEADER + lines[0] + lines[1] + lines[2])
    after = read(HEADER + lines[0] + lines[1].replace("6.43", "7.00") + lines[3])
    found = moved(before.items, after.items).to_dict("records")
    assert found == [
        {"product": "Droplets", "resource": "u-13", "before_cents": 643, "after_cents": 0, "difference_cents": -643},
        {"product": "Droplets", "resource": "u-14", "before_cents": 0, "after_cents": 643, "difference_cents": 643},
        {"product": "Droplets", "resource": "u-12", "before_cents": 643, "after_cents": 700, "difference_cents": 57},
    ]


@pytest.mark.parametrize(
    ("text", "cents"), [("-$1,234.50", -123450), ("$-3", -300), ("(0.05)", -5), ("12345.6", 1234560), ("1.500", 150)]
)
def test_an_amount_is_read_however_it_is_written(text: str, cents: int) -> None:
    """Signs, brackets, dollars, commas between thousands, zeros at the end."""
    assert column(read(HEADER + WEB.replace("6.43", f'"{text}"')), "amount_cents") == [cents]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("product", ["Droplets"]),
        ("amount", {"usd": 1}),
        ("description", "web\0"),
        ("description", "\ud800"),
        ("amount", True),
    ],
)
def test_an_answer_with_invalid_text_is_refused(field: str, value: Any) -> None:
    """Whatever a proxy or a new version of the API sends."""
    with pytest.raises(InvalidBill):
        answered(SUMMARY, {**ITEM, field: value})


def test_a_summary_without_an_amount_is_named() -> None:
    """Not as an item."""
    with pytest.raises(InvalidBill, match="amount of the summary: '' is not an amount"):
        answered({**SUMMARY, "amount": None}, ITEM)
