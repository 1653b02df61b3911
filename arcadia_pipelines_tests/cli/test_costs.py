"""`arcadia costs`: bills and rates brought in on the command line, and what it says of them."""

import datetime as dt
from pathlib import Path

import psycopg
import pytest

from arcadia_pipelines_tests import command_line
from arcadia_pipelines_tests.command_line import Call, contents, refused
from arcadia_pipelines_tests.costs.test_digitalocean import Provider
from arcadia_pipelines_tests.costs.test_digitalocean import provider as serve_provider
from arcadia_pipelines_tests.world import World

provider = serve_provider

HEADER = "product,resource_uuid,description,amount,start_time,end_time,project_name\n"
WEB = "Droplets,d-1,web-1,6.43,2026-04-01T00:00:00Z,2026-05-01T00:00:00Z,web\n"
CI = "App Platform,d-2,ci,1.00,2026-04-01T00:00:00Z,2026-05-01T00:00:00Z,internal\n"
RATES = "Series ID,FXRUSD\n31-Dec-2025,0.6600\n30-Apr-2026,0.5000\n29-May-2026,0.6200\n12-Jun-2026,0.6600\n"


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    """April's bill: 6.43 of web's project, 1.00 of nobody's; 7.43 in all."""
    file = tmp_path / "april.csv"
    file.write_text(HEADER + WEB + CI)
    return file


@pytest.fixture
def pilot(pilots_april: World) -> World:
    """The pilot's April, invoiced."""
    return pilots_april


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def said(answer: command_line.Answer) -> str:
    """What a call that worked says, in one line."""
    assert (answer.code, answer.err) == (0, "")
    return " ".join(answer.out.split())


def test_a_bill_is_imported_and_set_beside_the_revenue(pilot: World, arcadia: Call, bill: Path) -> None:
    """7.43 USD at 0.5 are 14.86 AUD, 12.86 of them web's; then what is missing is named."""
    answer = said(arcadia("costs", "import", str(bill)))
    assert answer == (
        "the bill of 2026-04 is new: 2 items, 7.43 USD, revision 1 not reconciled: the bill's own total is not known;"
        " no rate of exchange unmapped products: App Platform. Add them to billing.product_kinds"
    )
    answer = said(arcadia("costs", "rate", "2026-04", "0.5", "--source", "our bank"))
    assert answer == "2026-04: 0.5 USD for one AUD rates new or changed: 1; known before: 0"
    answer = said(arcadia("costs", "import", str(bill), "--total", "$7.43"))
    assert answer.startswith(
        "the bill of 2026-04 is unchanged: 2 items, 7.43 USD, revision 1 at 0.500000 USD for one AUD it is 14.86 AUD:"
        " 12.86 of deployments, 2.00 unallocated reconciled"
    )
    [row] = arcadia("costs", "show", "--json").json()["rows"]
    assert (row["revenue_cents"], row["cost_cents"], row["margin_percent"]) == (6422, 1486, "76.86")
    shown = said(arcadia("costs", "show", "2026-04"))
    assert "pilot │ web │ 64.22 │ 12.86 │ 51.36 │ 79.98" in shown
    assert "unallocated │ 0.00 │ 2.00 │ -2.00" in shown


@pytest.mark.long
def test_an_imported_bill_is_in_dagsters_catalogue_and_where_that_fails_it_is_imported_and_a_warning_says_so(
    pilot: World, arcadia: Call, bill: Path
) -> None:
    said(arcadia("costs", "import", str(bill)))
    events = "from dagster.event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    [[asset, partition, event]] = pilot.query(f"select asset_key, partition, event {events}")
    assert (asset, partition) == ('["cloud_invoices"]', "2026-04-01")
    assert "7.43 USD, revision 1" in event
    assert "imported: new" in event
    pilot.query("alter table dagster.event_logs rename to gone")
    answer = arcadia("costs", "import", str(bill), "--total", "7.43")
    assert answer.code == 0
    assert "the bill of 2026-04 is unchanged" in answer.out
    assert answer.err.startswith("warning: the bill is stored, but Dagster's catalogue lacks it: ")


def test_a_restated_bill_says_what_moved(pilot: World, arcadia: Call, bill: Path) -> None:
    """web-1 is 1.00 dearer."""
    arcadia("costs", "import", str(bill))
    bill.write_text((HEADER + WEB + CI).replace("6.43", "7.43"))
    document = arcadia("costs", "import", str(bill), "--json").json()
    assert (document["outcome"], document["revision"]) == ("restated", 2)
    assert document["moved"] == [
        {"product": "Droplets", "resource": "d-1", "before_cents": 643, "after_cents": 743, "difference_cents": 100}
    ]
    bill.write_text(HEADER + WEB + CI)
    assert "Droplets │ d-1 │ 7.43 │ 6.43 │ -1.00" in said(arcadia("costs", "import", str(bill)))


def test_the_reserve_banks_table_sets_the_rates_of_months_that_are_over(
    pilot: World, arcadia: Call, bill: Path, tmp_path: Path
) -> None:
    """Not December 2025, which is before the first month; the bill of April is converted at once."""
    arcadia("costs", "import", str(bill), "--total", "7.43")
    file = tmp_path / "f11.csv"
    file.write_text(RATES + "29-May-2099,0.9\n")
    answer = said(arcadia("costs", "rates", str(file)))
    assert answer == (
        "2026-04: 0.5000 USD for one AUD 2026-05: 0.6200 USD for one AUD 2026-06: 0.6600 USD for one AUD"
        " 2026-06: its last rate is of 2026-06-12, not of its end: is the file whole? The month is not reconciled until"
        " it has its last rate"
        " rates new or changed: 3; known before: 0"
    )
    assert pilot.query("select cost_cents, reconciled from cost_vs_revenue_by_month") == [(1486, True)]
    assert said(arcadia("costs", "rates", str(file))).endswith("rates new or changed: 0; known before: 3")
    answer = said(arcadia("costs", "rate", "2026-04", "0.6", "--source", "our bank"))
    assert answer.startswith("2026-04: 0.6 USD for one AUD, was 0.500000")
    assert pilot.query("select cost_cents, reconciled from cost_vs_revenue_by_month") == [(1238, True)]
    assert pilot.query("select source from billing.fx_rates order by period_start") == [
        ("our bank",),
        ("f11.csv",),
        ("f11.csv",),
    ]


def test_a_bill_is_fetched_from_the_provider(pilot: World, arcadia: Call, provider: Provider) -> None:
    """The same words as for one that is imported."""
    assert said(arcadia("costs", "fetch", "2026-04", ARCADIA_DIGITALOCEAN_TOKEN="a-token-of-ours")).startswith(
        "the bill of 2026-04 is new: 4 items, 19.79 USD, revision 1 not reconciled: no rate of exchange"
    )


def test_bad_calls_get_one_line_and_change_nothing(pilot: World, arcadia: Call, bill: Path, tmp_path: Path) -> None:
    """Whatever is wrong: the message says what and where, and not a row is written."""
    arcadia("costs", "import", str(bill))
    broken, rates, empty = tmp_path / "broken.csv", tmp_path / "rates.csv", tmp_path / "empty.csv"
    broken.write_text(HEADER + WEB.replace("6.43", "lots"))
    rates.write_text("Series ID,FXRUSD\n29-May-2099,0.9\n")
    empty.write_text("")
    running = tmp_path / "running.csv"
    running.write_text(HEADER + WEB.replace("2026-04-01", f"{_today():%Y-%m-01}").replace("2026-05-01T00:00:00Z", ""))
    early = tmp_path / "early.csv"
    early.write_text((HEADER + WEB).replace("2026-04", "2025-04").replace("2026-05", "2025-05"))
    before = contents(pilot.url)
    for call, words in {
        ("import", str(broken)): ["broken.csv is not imported: item 1: amount 'lots'"],
        ("import", str(empty)): ["empty.csv is not imported: it lacks the columns"],
        ("import", str(bill), "--total", "7.44"): ["items sum to 7.43 USD, its total is 7.44"],
        ("import", str(bill), "--total", "much"): ["--total: 'much' is not an amount"],
        ("import", str(bill), "--month", "2025-12"): ["2 of 2 items of usage are not of 2025-12"],
        ("import", str(bill), "--month", "2026-05"): [
            "are not of 2026-05, but of 2026-04: give the month that it bills"
        ],
        ("import", str(early)): ["bills are accepted for months from 2026-01 that have ended"],
        ("import", str(bill), "--month", "2099-04"): ["item 1: start_time"],
        ("import", str(running)): ["that have ended"],
        ("import", str(tmp_path / "nowhere.csv")): ["nowhere.csv", "does not exist"],
        ("import", str(tmp_path)): ["is a directory"],
        ("import",): ["FILE"],
        ("fetch", "2026-04"): ["ARCADIA_DIGITALOCEAN_TOKEN is not set"],
        ("rates", str(rates)): ["rates.csv has no rate of a month from 2026-01 on that is over"],
        ("rates", str(bill)): ["april.csv is not imported: it has no series FXRUSD"],
        ("rate", "2026-04", "0", "--source", "us"): ["'0' is not a rate"],
        ("rate", "2026-04", "0.66"): ["--source"],
        ("rate", "2026-04", "0.66", "--source", " "): ["--source is empty"],
        ("rate", "April", "0.66", "--source", "us"): ["'April' is not a month"],
        ("rate", "2026-04", "0.66", "--source", "us", "--reason", " "): ["--reason is empty"],
        ("show", "2025-01"): ["there is nothing of 2025-01"],
    }.items():
        refused(arcadia("costs", *call), *words)
    assert contents(pilot.url) == before


@pytest.mark.long
def test_a_bill_is_one_months_only(pilot: World, arcadia: Call, tmp_path: Path) -> None:
    """April's, without dates, is not May's too, whatever its order and its total; with May's dates it is."""
    file = tmp_path / "undated.csv"
    file.write_text("product,description,amount\nDroplets,web-1,6.43\nDroplets,web-2,6.43\nTotal,,12.86\n")
    said(arcadia("costs", "import", str(file), "--month", "2026-04"))
    refusal = "2026-04 has the same bill already, from undated.csv"
    refused(arcadia("costs", "import", str(file), "--month", "2026-05"), "undated.csv is not imported", refusal)
    again = tmp_path / "again.csv"
    again.write_text("product,amount,description\nDroplets,$6.43,web-2\n\nDroplets, 6.430,web-1\n")
    refused(arcadia("costs", "import", str(again), "--month", "2026-05", "--total", "12.86"), refusal)
    assert pilot.query("select period_start::text, item_count from billing.cloud_invoices") == [("2026-04-01", 2)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        pilot.query(
            "insert into billing.cloud_invoices (period_start, total_cents, total_from, item_count, content_sha256,"
            " items_sha256) select '2026-05-01', 0, 'sum', 0, content_sha256, items_sha256 from billing.cloud_invoices"
        )
    dated = tmp_path / "may.csv"
    dated.write_text("product,description,amount,start_time\nDroplets,web-1,6.43,2026-05-01\nDroplets,web-2,6.43,\n")
    assert "the bill of 2026-05 is new: 2 items" in said(arcadia("costs", "import", str(dated)))
    # What was imported before hashes were kept is known by its document.
    pilot.query("update billing.cloud_invoices set items_sha256 = null")
    refused(arcadia("costs", "import", str(file), "--month", "2026-06"), refusal)
    assert "is unchanged" in said(arcadia("costs", "import", str(file), "--month", "2026-04"))
    refused(arcadia("costs", "import", str(again), "--month", "2026-06"), refusal)


def test_an_item_of_another_month_is_on_one_bill(pilot: World, arcadia: Call, bill: Path, tmp_path: Path) -> None:
    """May's bill corrects April, and does not bill April's web-1 again; April's bill may come again."""
    said(arcadia("costs", "import", str(bill)))
    may = (WEB + CI).replace("2026-05", "2026-06").replace("2026-04", "2026-05")
    file = tmp_path / "may.csv"
    file.write_text(HEADER + may + WEB)
    twice = "may.csv is not imported: its item 3, 'web-1', is on the bill of 2026-04 already"
    refused(arcadia("costs", "import", str(file), "--month", "2026-05"), twice)
    file.write_text(HEADER + may + WEB.replace("6.43", "0.43"))
    assert "is new: 3 items" in said(arcadia("costs", "import", str(file), "--month", "2026-05"))
    assert "is unchanged" in said(arcadia("costs", "import", str(file), "--month", "2026-05"))
    assert "is unchanged" in said(arcadia("costs", "import", str(bill)))


def test_a_rate_that_cannot_be_is_refused_unless_a_reason_is_given(pilot: World, arcadia: Call, bill: Path) -> None:
    """Outside 0.3 to 1.5, or more than a quarter from the month before's; the reason is kept with it, and shown."""
    said(arcadia("costs", "import", str(bill), "--total", "7.43"))

    def rate(month: str, text: str, *more: str) -> command_line.Answer:
        return arcadia("costs", "rate", month, text, "--source", "us", *more)

    refused(rate("2026-04", "66.12"), "2026-04: 66.12 is not between 0.3 and 1.5. A rate is US dollars for one")
    refused(rate("2026-04", "1.500001"), "1.500001 is not between")
    refused(rate("2026-04", "0.299999"), "0.299999 is not between")
    assert pilot.query("select * from billing.fx_rates") == []
    said(rate("2026-03", "0.6"))
    refused(rate("2026-04", "0.449999"), "2026-04: 0.449999 is more than 25 % from 0.6, the rate of 2026-03")
    refused(rate("2026-04", "1.45"), "2026-04: 1.45 is more than 25 % from 0.6, the rate of 2026-03")
    refused(rate("2026-02", "1.45"), "2026-02: 1.45 is more than 25 % from 0.6, the rate of 2026-03")  # none before it
    refused(
        rate("2026-06", "1.45"), "2026-06: 1.45 is more than 25 % from 0.6, the rate of 2026-03"
    )  # the last one known
    said(rate("2026-04", "0.45"))
    said(rate("2026-04", "0.75"))
    answer = said(rate("2026-04", "0.25", "--reason", " the crash of April "))
    assert answer.startswith(
        "2026-04: 0.25 USD for one AUD, was 0.750000 2026-04: 0.25 is not between 0.3 and 1.5;"
        " accepted: the crash of April"
    )
    assert said(rate("2026-04", "0.25")) == "rates new or changed: 0; known before: 1"
    shown = said(arcadia("costs", "show"))
    assert "2026-04 has a rate of exchange that looked wrong; accepted: the crash of April" in shown
    assert "is not reconciled" not in shown
    [row] = arcadia("costs", "show", "--json").json()["rows"]
    assert (row["cost_cents"], row["rate_reason"], row["reconciled"]) == (2972, "the crash of April", True)
    said(rate("2026-04", "0.5"))  # and the reason goes with what it was given for
    assert pilot.query("select reason from billing.fx_rates") == [(None,), (None,)]


def test_a_file_of_rates_that_cannot_be_is_refused_unless_a_reason_is_given(
    pilot: World, arcadia: Call, tmp_path: Path
) -> None:
    """Compared with its own month before, also one that is not taken; what is known is not asked for again."""
    file = tmp_path / "f11.csv"

    def rates(text: str, *more: str) -> command_line.Answer:
        file.write_text(f"Series ID,FXRUSD\n{text}")
        return arcadia("costs", "rates", str(file), *more)

    refused(rates("30-Apr-2026,61.20\n29-May-2026,0.66\n"), "2026-04: 61.2 is not between 0.3 and 1.5")
    refused(
        rates("31-Dec-2025,0.66\n30-Jan-2026,0.49\n"), "2026-01: 0.49 is more than 25 % from 0.66, the rate of 2025-12"
    )
    inverted = "".join(f"28-{month}-2026,1.5123\n" for month in ("Jan", "Feb", "Mar", "Apr", "May"))
    refused(rates(inverted), "2026-03: 1.5123 is not between 0.3 and 1.5; and 2 more")
    assert pilot.query("select * from billing.fx_rates") == []
    crash = "31-Mar-2026,0.66\n30-Apr-2026,0.40\n29-May-2026,0.42\n"
    answer = said(rates(crash, "--reason", "it crashed"))
    assert (
        "2026-04: 0.4 is more than 25 % from 0.66, the rate of 2026-03; accepted: it crashed 2026-05: 0.42 USD"
        in answer
    )
    assert said(rates(crash)) == "rates new or changed: 0; known before: 3"
    assert pilot.query("select reason from billing.fx_rates order by period_start") == [
        (None,),
        ("it crashed",),
        (None,),
    ]


def test_a_month_is_not_reconciled_while_its_file_ends_before_it_does(
    pilot: World, arcadia: Call, bill: Path, tmp_path: Path
) -> None:
    """Until the file goes on, if only to say that there was no rate on the 30th, or the rate is set by hand."""
    said(arcadia("costs", "import", str(bill), "--total", "7.43"))
    file = tmp_path / "f11.csv"

    def rates(text: str) -> str:
        file.write_text(f"Series ID,FXRUSD\n{text}")
        return said(arcadia("costs", "rates", str(file)))

    points = "select open_points from cost_vs_revenue_by_month"
    early = [("the rate of exchange is in doubt: it is of 2026-04-29 and not of the month's end",)]
    assert "2026-04: its last rate is of 2026-04-29, not of its end" in rates("28-Apr-2026,0.66\n29-Apr-2026,0.6605\n")
    assert pilot.query(points) == early
    answer = rates("29-Apr-2026,0.6605\n30-Apr-2026,n.a.\n")
    assert answer.endswith(
        "rates new or changed: 1; known before: 0 f11.csv has days without a number: 2026-04-30 (n.a.)"
    )
    assert pilot.query(points) == [("",)]
    rates("29-Apr-2026,0.6605\n")
    assert pilot.query(points) == early
    said(arcadia("costs", "rate", "2026-04", "0.6605", "--source", "our bank"))
    assert pilot.query(points) == [("",)]
