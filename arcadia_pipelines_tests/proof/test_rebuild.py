"""Lost rows: nothing is computed without them, and those that are proved to be the same are put back.

The attacks are a superuser's: dropped, detached and truncated partitions, triggers switched off.
"""

from collections.abc import Iterator

import dagster as dg
import pytest
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.month import steps
from arcadia_pipelines.proof import audit, rebuild
from arcadia_pipelines.proof.rebuild import Part
from arcadia_pipelines.storage import database, losses
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.months import LostRows
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.pipeline.test_schedules import tick
from arcadia_pipelines_tests.proof.test_audit import ERASED
from arcadia_pipelines_tests.world import World, uid

LINES = "billing.tenant_invoice_lines"
APRIL = f"{LINES}_2026_04"
APRIL_MONTH = BillingMonth.parse("2026-04")
ADA = Author("ada", "a disk failed", "arcadia rebuild")
SEEN = f"""
    select i.invoice_number, l.id, l.line_no, l.deployment_id, l.kind, l.resource_kind, l.description, l.qty, l.unit,
           l.unit_price_cents, l.amount_cents, l.meta, l.deployment_name, l.inserted_at
    from {LINES} l join billing.tenant_invoices i on i.id = l.invoice_id order by l.id
"""


@pytest.fixture(scope="module")
def stored(server_url: str, migrated: str) -> Iterator[str]:
    """The name of a database with March to May: the pilot's March is paid, corrected by April, which is paid too.

    March: 50.00 + 7.50, and 100 h more than the 1,488, found after it was paid: 1.00, on April's invoice. April: 50.00
    + 7.50 + 6.72 + 1.00 = 65.22. Then usage of 200 h comes late for April: 2.00, on May's. acme's April has a second
    revision; zoo is as it was issued.
    """
    with copy_of(server_url, migrated) as url:
        with World(url).connected() as world:
            world.pilot()
            world.use("web", "droplet_hours", 1488, "2026-03-10")
            for tenant in ("acme", "zoo"):
                world.tenant(tenant)
                world.deployment(tenant, f"{tenant}-web", "studio")
            world.publish("2026-03")
            world.done("mark_invoice_paid", invoices=["INV-202603-00002"])
            world.use("web", "droplet_hours", 100, "2026-03-11")
            world.publish("2026-03")
            world.publish("2026-04")
            world.done("mark_invoice_paid", invoices=["INV-202604-00002"])
            world.use("web", "droplet_hours", 200, ingested_at="now")
            world.use("acme-web", "droplet_hours", 1500, ingested_at="now")
            world.publish("2026-04")
            world.publish("2026-05")
        yield url.rpartition("/")[2]


@pytest.fixture
def books(server_url: str, stored: str) -> Iterator[World]:
    """A copy of them, to be damaged."""
    with copy_of(server_url, stored) as url, World(url).connected() as world:
        yield world


def rebuilt(world: World, month: str = "2026-04") -> list[Part]:
    """What a rebuild of the month puts back, and what it does not."""
    of = BillingMonth.parse(month)
    with database.month_at_an_instant(database.engine(world.url), of, publishes=True) as connection:
        return rebuild.rebuild(connection, of, ADA)


@pytest.mark.long
def test_a_dropped_partition_stops_every_month_end_and_is_rebuilt_to_the_byte(books: World) -> None:
    """The pilot's, which has been requoted since, from the records of then; the others' from the quote lines.

    Without its lines a paid invoice would seem to have billed nothing, and the correction that April carries would be
    carried again: nothing is worked out, in no month, until they are back.
    """
    seen, clean = books.query(SEEN), books.disproved()
    corrections = books.query("select * from billing.invoice_corrections order by 1, 2")
    assert clean == []
    books.tamper(f"drop table {APRIL}")
    assert books.finds("nothing_is_missing", "2026-04")
    for month in ("2026-04", "2026-05", "2026-06"):
        error = books.stopped(month)
        assert f"the invoice lines of 2026-04 are lost (there is no partition {APRIL})" in error
        assert "run `arcadia rebuild 2026-04`" in error
    parts = rebuilt(books)
    assert [(part.what, part.source, part.why_not) for part in parts] == [
        ("the lines of INV-202604-00001", "the quote lines", ""),
        ("the lines of INV-202604-00002", "the usage records", ""),
        ("the lines of INV-202604-00003", "the quote lines", ""),
    ]
    assert books.query(SEEN) == seen
    assert books.disproved() == []
    assert [row[0] for row in books.events()][-3:] == ["rebuilt"] * 3
    books.publish("2026-04")
    assert books.query("select * from billing.invoice_corrections order by 1, 2") == corrections
    assert books.query(SEEN) == seen


@pytest.mark.long
def test_what_nothing_proves_is_refused_and_the_rest_is_put_back(books: World) -> None:
    """zoo's deployment has another name by now, and was quoted with it: its lines, as they were read, are nowhere."""
    books.query("update cloud.cloud_deployments set name = 'zoo-site' where id = %s", uid("zoo-web"))
    books.publish("2026-04")
    books.tamper(f"truncate {APRIL}")
    left = [part for part in rebuilt(books) if part.why_not]
    assert [(part.what, part.tenant_id) for part in left] == [
        ("the lines of INV-202604-00003", "zoo"),
        ("2 rows of tenant_invoice_lines", None),
    ]
    assert "no kept revision and no new computation has its lines_sha256" in left[0].why_not
    assert (books.lines("zoo", "2026-04"), len(books.lines("pilot", "2026-04"))) == ([], 5)
    books.query("update cloud.cloud_deployments set name = 'zoo-web' where id = %s", uid("zoo-web"))
    assert [(part.what, part.source, part.why_not) for part in rebuilt(books)] == [
        ("the lines of INV-202604-00003", "the frozen usage", "")
    ]
    assert books.disproved() == []


def test_a_replaced_revision_that_billed_the_same_is_where_lost_lines_come_from(books: World) -> None:
    """acme's third revision is its first again; then usage and quotes change once more, and its price list is gone."""
    gone = "delete from cloud.usage_records where quantity = 1500"
    books.query(gone)
    books.done("accept_vanished_usage", month="2026-04", records=1)
    books.publish("2026-04")
    assert books.invoices("2026-04")["acme"][:2] == ("issued", 3)
    lines = books.lines("acme", "2026-04")
    books.tamper("update billing.tenant_invoices set status = 'paid' where tenant_id = 'acme'")
    books.tamper(
        f"delete from {LINES} where invoice_id in (select id from billing.tenant_invoices"
        " where tenant_id = 'acme' and period_start = '2026-04-01')"
    )
    books.tamper("update cloud.plan_prices set base_price_cents = 1")
    assert [(part.what, part.source) for part in rebuilt(books)] == [
        ("the lines of INV-202604-00001", "a replaced revision")
    ]
    assert books.lines("acme", "2026-04") == lines


@pytest.mark.long
def test_a_run_remakes_an_open_invoices_lost_lines_and_refuses_if_a_locked_one_lost_some(books: World) -> None:
    """Of acme a line is gone, of zoo one is another: both are theirs again, in the same revision, with an event.

    Of the pilot, who has paid, a line is gone: the run stops before it writes. Put back by a rebuild, all is as before.
    """
    seen, before = books.query(SEEN), books.invoices("2026-04")
    books.tamper(f"delete from {LINES} where description = 'Overage: droplet_hours' and amount_cents = 12")
    books.tamper(
        f"update {LINES} l set amount_cents = 1, qty = 2 from billing.tenant_invoices i where i.id = l.invoice_id"
        " and i.tenant_id = 'zoo' and l.period_start = '2026-04-01' and line_no = 1"
    )
    books.publish("2026-04")
    assert (books.invoices("2026-04"), [event[:2] for event in books.events()[-2:]]) == (
        before,
        [("rebuilt", "acme"), ("rebuilt", "zoo")],
    )
    assert [row[:-1] for row in books.query(SEEN)] == [row[:-1] for row in seen]
    events = books.events()
    books.tamper(f"delete from {LINES} where kind = 'adjustment' and period_start = '2026-04-01'")
    books.use("zoo-web", "droplet_hours", 1500, ingested_at="now")
    error = books.stopped("2026-04")
    assert "of INV-202604-00002 are not those that were written" in error
    assert "`arcadia rebuild 2026-04` puts lost lines back" in error
    assert books.query("select count(*) from billing.metered_usage where quantity = 1500") == [(1,)]  # acme's
    error = books.stopped("2026-05")  # which the pilot's correction is on
    assert "of INV-202604-00002 are not those that were written" in error
    assert books.events() == events
    assert [part.source for part in rebuilt(books)] == ["the usage records"]
    assert [row[:-1] for row in books.query(SEEN)] == [row[:-1] for row in seen]
    books.publish("2026-04")
    assert books.invoices("2026-04")["zoo"] == ("issued", 2, 5012, 501, 5513)
    assert books.disproved() == []


def test_a_locked_invoice_keeps_a_line_that_is_not_its_own(books: World) -> None:
    """The database lets nobody take it away: a rebuild says so, and changes nothing."""
    books.tamper(f"update {LINES} set amount_cents = 101 where kind = 'adjustment' and period_start = '2026-04-01'")
    seen = books.query(SEEN)
    [part] = rebuilt(books)
    assert (part.source, part.why_not) == ("", "it is locked, and has a line that is not its own")
    assert books.query(SEEN) == seen


@pytest.mark.long
def test_lost_frozen_usage_is_put_back_from_the_records_that_make_the_same_quotes(books: World) -> None:
    """A run does not count anew what was frozen: of usage that has vanished since, nobody would hear."""
    usage = "select * from billing.metered_usage order by 1, 2, 3"
    frozen = books.query(usage)
    books.tamper("drop table billing.metered_usage_2026_04")
    error = books.stopped("2026-04")
    assert "the frozen usage of 2026-04 is lost: run `arcadia rebuild 2026-04`" in error
    books.use("zoo-web", "droplet_hours", 3, ingested_at="now")  # after the cut-off
    assert [(part.what, part.source) for part in rebuilt(books)] == [("the frozen usage", "the usage records")]
    assert books.query(usage) == frozen
    assert books.disproved() == []
    books.tamper("truncate billing.metered_usage_2026_04")
    books.query("delete from cloud.usage_records where quantity = 1500")
    assert next((part.what, part.source, part.why_not) for part in rebuilt(books)) == (
        "the frozen usage",
        "",
        "the usage records up to its cut-off make other rows",
    )
    assert [row for row in books.query(usage) if str(row[0]) == "2026-04-01"] == []


@pytest.mark.long
def test_lost_quote_lines_come_back_when_the_month_is_run_again(books: World) -> None:
    """They are worked out from the frozen usage, and no invoice is another."""
    quotes = "select * from billing.deployment_quote_lines order by 1, 2, 5"
    before = books.query(quotes), books.invoices("2026-04"), books.events()
    books.tamper("drop table billing.deployment_quote_lines_2026_04")
    [part] = rebuilt(books)
    assert part.what == "the quote lines: there is no partition billing.deployment_quote_lines_2026_04"
    books.publish("2026-04")
    assert (books.query(quotes), books.invoices("2026-04"), books.events()) == before
    assert books.disproved() == []


@pytest.mark.long
def test_a_detached_partition_is_left_to_its_owner(books: World) -> None:
    """Nobody attaches a table that may be anybody's by now; out of the way, its rows are rebuilt."""
    books.tamper(f"alter table {LINES} detach partition {APRIL}")
    with pytest.raises(LostRows, match=r"2026_04 exists, but is not attached to .* rename it out of the way"):
        rebuilt(books)
    books.tamper(f"alter table {APRIL} rename to kept")
    assert {part.why_not for part in rebuilt(books)} == {""}
    assert books.disproved() == []


def begin(connection: Connection) -> None:
    """What a month end does first."""
    steps.freeze(connection, APRIL_MONTH, "run", None)


def test_an_erased_month_is_neither_clean_nor_invoiced_as_if_it_had_never_been(books: World) -> None:
    """Whichever table alone still tells of it: the audit names what is missing, the schedule and a run keep off."""
    engine = database.engine(books.url)
    for table in losses.TELLS_OF:
        if table in ("metered_usage", "deployment_quote_lines", "tenant_invoice_lines"):
            continue
        if books.query(f"select count(*) from billing.{table} where period_start = '2026-04-01'") == [(0,)]:
            continue
        with database.transaction(engine) as connection:
            database.driver(connection).execute("set local session_replication_role = replica")
            database.driver(connection).execute(ERASED.format(table).encode())
            assert APRIL_MONTH in audit.months(connection)
            told = [what for what, _ in losses.missing(connection, APRIL_MONTH)]
            assert "the frozen usage: there is no partition billing.metered_usage_2026_04" in told
            with pytest.raises(LostRows, match="2026-04"):
                begin(connection)
            connection.rollback()
    books.tamper(ERASED.format("nothing"))  # the hashes of its events tell of it
    with database.snapshot(engine) as connection:
        assert APRIL_MONTH in audit.months(connection)
        found = {proof.audit.control.name for proof in audit.run(connection, APRIL_MONTH).proofs if proof.finding.count}
    assert "events_are_chained" in found
    with database.transaction(engine) as connection, pytest.raises(LostRows, match="2026-04"):
        begin(connection)
    skipped = tick(books, "2026-05-01T03:00")
    assert isinstance(skipped, dg.SkipReason)
    assert str(skipped.skip_message).startswith("2026-04 is already invoiced (0 invoices).")


def test_the_command_rebuilds_and_says_what_and_from_where(books: World, arcadia: Call) -> None:
    """A table for people, JSON for programs, the login as the operator; 1 while something is missing."""
    books.tamper(f"drop table {APRIL}")
    audited = arcadia("audit", "2026-04", ARCADIA_DATABASE_URL=books.url)
    assert (audited.code, f"the invoice lines: there is no partition {APRIL}" in audited.out) == (1, True)
    answer = arcadia("rebuild", "2026-04", "--json", ARCADIA_DATABASE_URL=books.url)
    assert answer.code == 0
    assert [part["source"] for part in answer.json()["rebuilt"]] == [
        "the quote lines",
        "the usage records",
        "the quote lines",
    ]
    assert answer.json()["missing"] == []
    login = books.query("select session_user")[0][0]
    assert [event[4] for event in books.events() if event[0] == "rebuilt"] == [login] * 3
    again = arcadia("rebuild", "2026-04", ARCADIA_DATABASE_URL=books.url)
    assert (again.code, again.out) == (0, "nothing of 2026-04 is missing\n")
    books.tamper("drop table billing.unbilled_acceptances")
    for command in (("audit",), ("db", "migrate")):
        refused(
            arcadia(*command, ARCADIA_DATABASE_URL=books.url),
            "has lost billing.unbilled_acceptances (made by 0011_usage_accepted.sql, which is applied): restore from",
        )
