"""The chain of hashes over history: what is done with the guards off is found by the audits, or by a head."""

import hashlib
import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.proof import audit
from arcadia_pipelines.proof.controls import find
from arcadia_pipelines.storage import chain, database
from arcadia_pipelines.storage.ledger import LINES_SHA256
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.databases import copy_of
from arcadia_pipelines_tests.world import World, connect

APRIL = BillingMonth.parse("2026-04")
INVOICE_OF = "(select id from billing.tenant_invoices where tenant_id = '{}' and period_start = '2026-04-01')"
PILOT, ACME = INVOICE_OF.format("pilot"), INVOICE_OF.format("acme")
LINES = "billing.tenant_invoice_lines"


@pytest.fixture(scope="module")
def books(server_url: str, migrated: str) -> Iterator[World]:
    """March to May of the pilot and acme: in April acme's is voided, reopened, issued again, the pilot's is paid."""
    with copy_of(server_url, migrated) as url, World(url).connected() as world:
        world.pilot()
        world.tenant("acme")
        world.deployment("acme", "api", "studio")
        for month in ("2026-03", "2026-04"):
            world.publish(month)
        for act in ("void_invoice", "reopen_invoice"):
            world.done(act, invoices=["INV-202604-00001"])
        world.done("issue_drafts", month="2026-04")
        world.done("mark_invoice_paid", invoices=["INV-202604-00002"])
        world.done("hold_tenant", tenants=["acme"])
        world.publish("2026-05")
        yield world


def heads(world: World) -> dict[str, str]:
    """The head of each chain."""
    return dict(world.query("select chain, encode(sha256, 'hex') from billing.event_heads"))


def found(connection: Connection, month: BillingMonth = APRIL) -> dict[str, list[dict[str, object]]]:
    """What the audits of history and hashes find in the month."""
    names = {
        "content_hash_is_of_the_lines",
        "lines_hash_is_of_the_lines",
        "newest_event_is_the_invoice",
        "every_revision_is_kept",
        "events_are_chained",
        "invoices_are_as_their_events_left_them",
        "numbers_have_no_gap",
    }
    controls = [proved.control for proved in audit.AUDITS if proved.control.name in names]
    rows = {control.name: find(connection, control, month).offenders for control in controls}
    return {name: offenders for name, offenders in rows.items() if offenders}


def test_a_hash_covers_the_one_before_it_the_event_and_the_invoice(world: World) -> None:
    """Two holds worked out by hand, row by row; whoever writes an event in SQL has it chained, as the login it is."""
    world.tenant("pilot")
    world.done("hold_tenant", tenants=["pilot"])
    with connect(world.url) as connection:
        connection.execute(
            "insert into billing.invoice_events (tenant_id, event, operator, reason, run_id)"
            " values ('pilot', 'released', 'somebody', 'a \"reason\"', '')"
        )
    events = world.query("select run_id, extract(epoch from occurred_at)::text, session_login from invoice_events")
    (run, held_at, login), (_, released_at, _) = events
    assert world.query("select session_user::text") == [(login,)]
    rows = [
        f'(1,,,pilot,,held,,,,ada,"asked by the tenant",{run},{held_at},,{login})',
        f'(2,,,pilot,,released,,,,somebody,"a ""reason""","",{released_at},,{login})',
    ]
    expected, before = [], b""
    for row in rows:
        before = hashlib.sha256(before + hashlib.sha256(row.encode()).digest()).digest()
        expected.append(before.hex())
    chained = "select encode(sha256, 'hex') from billing.event_chain where chain = 'tenants' order by place"
    assert [sha256 for (sha256,) in world.query(chained)] == expected
    assert heads(world) == {"tenants": expected[-1]}


@pytest.mark.parametrize(
    "column",
    ["occurred_at = now() - interval '1 second'", "session_login = 'ada'", "session_login = null", "id = 0"],
)
def test_nobody_writes_an_event_of_another_time_or_login_or_before_others(books: World, column: str) -> None:
    """The database says when and who; a number of its own choice that is not the newest is refused too."""
    name, value = column.split(" = ")
    with pytest.raises(psycopg.Error, match=r"an event is of now, and of the login|event 0 is not after the newest"):
        books.query(
            f"insert into billing.invoice_events (tenant_id, event, operator, reason, run_id, {name})"
            f" overriding system value values ('pilot', 'held', 'ada', 'why', 'run', {value})"
        )


def test_two_who_write_at_once_wait_for_each_other(world: World) -> None:
    """The second waits for the first, and its events follow on: places 1 to 4, and every hash fits."""
    insert = (
        "insert into billing.invoice_events (tenant_id, event, operator, reason, run_id)"
        " select 'pilot', 'held', 'ada', 'why', 'run' from generate_series(1, 2)"
    )
    world.query(insert.replace("(1, 2)", "(1, 0)"))  # none: nothing is chained
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with connect(world.url) as first:
        first.execute(insert.encode())
        second = threading.Thread(target=world.query, args=(insert,))
        second.start()
        while world.query(waiting) == [(0,)]:
            assert second.is_alive()
    second.join()
    assert world.query("select place, event_id from billing.event_chain order by 1") == [(n, n) for n in range(1, 5)]
    with database.snapshot(database.engine(world.url)) as connection:
        assert found(connection) == {}
        assert chain.prove(connection, heads(world)["tenants"], None).place == 4


# Each by the superuser with the guards off. Those of `seen` are found by that audit of April.

SEEN: dict[str, tuple[str, str]] = {
    "a paid invoice raised, with its lines, hashes and events": (
        "events_are_chained",
        f"update {LINES} set amount_cents = amount_cents + 1000, unit_price_cents = unit_price_cents + 1000"
        f" where kind = 'plan_base' and invoice_id = {PILOT};"
        f"update {LINES} set amount_cents = amount_cents + 100, unit_price_cents = unit_price_cents + 100"
        f" where kind = 'tax' and invoice_id = {PILOT};"
        "update billing.tenant_invoices set subtotal_cents = subtotal_cents + 1000, tax_cents = tax_cents + 100,"
        f" total_cents = total_cents + 1100, content_sha256 = repeat('0', 64) where id = {PILOT};"
        f"update billing.tenant_invoices set lines_sha256 ="
        f" (select {LINES_SHA256} from {LINES} l where l.invoice_id = {PILOT}) where id = {PILOT};"
        "update billing.invoice_events set total_cents = total_cents + 1100, content_sha256 = repeat('0', 64)"
        f" where invoice_id = {PILOT}",
    ),
    "a void, reopened, issued again that is erased": (
        "events_are_chained",
        f"delete from billing.invoice_events where invoice_id = {ACME} and operator = 'ada'",
    ),
    "the same, with its places": (
        "events_are_chained",
        f"with gone as (delete from billing.invoice_events where invoice_id = {ACME} and operator = 'ada' returning id)"
        " delete from billing.event_chain where event_id in (select id from gone)",
    ),
    "an operator renamed": (
        "events_are_chained",
        "update billing.invoice_events set operator = 'bob' where event = 'paid'",
    ),
    "a reason reworded": (
        "events_are_chained",
        "update billing.invoice_events set reason = 'asked by nobody' where event = 'voided'",
    ),
    "an event put in": (
        "events_are_chained",
        "update billing.event_chain set place = -place - 1 where chain = '2026-04' and place > 2;"
        "update billing.event_chain set place = -place where place < 0;"
        "insert into billing.event_chain select chain, 3, event_id, invoice_sha256, sha256 from billing.event_chain"
        " where chain = '2026-04' and place = 2",
    ),
    "an event beside the chain": (
        "events_are_chained",
        "insert into billing.invoice_events (tenant_id, event, operator, reason, run_id)"
        " values ('pilot', 'held', 'ada', 'why', 'run')",
    ),
    "two events changed for each other": (
        "events_are_chained",
        "update billing.event_chain c set event_id = 7 - event_id where event_id in (3, 4)",
    ),
    "a head that is another": (
        "events_are_chained",
        "update billing.event_heads set sha256 = sha256(sha256) where chain = '2026-04'",
    ),
    "the newest event gone with its place": (
        "events_are_chained",
        "with gone as (delete from billing.invoice_events where event = 'paid' returning id)"
        " delete from billing.event_chain where event_id in (select id from gone)",
    ),
    "the day of issue moved": (
        "invoices_are_as_their_events_left_them",
        f"update billing.tenant_invoices set issued_at = issued_at - interval '1 day' where id = {PILOT}",
    ),
    "the day of payment moved": (
        "invoices_are_as_their_events_left_them",
        f"update billing.tenant_invoices set paid_at = paid_at + interval '1 day' where id = {PILOT}",
    ),
    "the buyer renamed": (
        "invoices_are_as_their_events_left_them",
        f"""update billing.tenant_invoices set meta = meta || '{{"tenant_name": "Other"}}' where id = {PILOT}""",
    ),
    "a hash that is gone": (
        "invoices_are_as_their_events_left_them",
        f"update billing.tenant_invoices set lines_sha256 = null where id = {PILOT}",
    ),
    "a deployment renamed": (
        "lines_hash_is_of_the_lines",
        f"update {LINES} set deployment_name = 'other' where line_no = 1 and invoice_id = {PILOT}",
    ),
}


@pytest.mark.parametrize("attack", SEEN)
def test_what_was_changed_with_the_guards_off_is_seen(books: World, attack: str) -> None:
    """By the audit of April, and by April's head of before: history up to it, or what stands, is not as it was."""
    audit_name, statements = SEEN[attack]
    april = heads(books)["2026-04"]
    with database.engine(books.url).connect() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        assert found(connection) == {}
        assert chain.prove(connection, april, None).event == "paid"
        for statement in statements.split(";"):
            connection.exec_driver_sql(statement)
        assert audit_name in found(connection)
        is_refused = False
        try:
            link = chain.prove(connection, april, APRIL)
            is_refused = bool(link.month and audit.changed(connection, link.month).finding.count)
        except chain.NotProved:
            is_refused = True
        assert is_refused or attack in ("an event beside the chain", "a head that is another")
        connection.rollback()


def test_a_month_erased_with_its_history_is_missed_by_the_month_after_it(books: World) -> None:
    """March, without a row left of it: April's chain follows on a head that is not there; so does May's, by April."""
    before = heads(books)
    with database.engine(books.url).connect() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        for table in ("tenant_invoice_lines", "tenant_invoices", "invoice_events"):
            connection.exec_driver_sql(f"delete from billing.{table} where period_start = '2026-03-01'")
        for table in ("event_chain", "event_heads"):
            connection.exec_driver_sql(f"delete from billing.{table} where chain = '2026-03'")
        [row] = found(connection)["events_are_chained"]
        assert (row["chain"], row["what"]) == ("2026-04", "the history of 2026-03, which this chain continues, is gone")
        for sha256 in (before["2026-04"], before["2026-05"]):
            with pytest.raises(chain.NotProved, match="history of 2026-03, which this chain continues, is gone"):
                chain.prove(connection, sha256, None)
        connection.rollback()


@pytest.mark.long
def test_a_chain_made_anew_is_noticed_only_by_an_earlier_head(books: World, server_url: str, arcadia: Call) -> None:
    """Another operator, and every hash made to fit: no audit finds it. The head that the month end printed does."""
    with copy_of(server_url, books.url.rpartition("/")[2]) as url:
        world, before = World(url), heads(books)
        assert arcadia("audit", "2026-04", "--head", before["2026-04"], ARCADIA_DATABASE_URL=url).code == 0
        world.tamper("update billing.invoice_events set operator = 'bob' where event = 'paid'")
        assert world.finds("events_are_chained", "2026-04")
        told = arcadia("audit", "2026-04", "--head", before["2026-04"], ARCADIA_DATABASE_URL=url)
        refused(told, f"history before {before['2026-04']} was changed: event ", "(paid INV-202604-00002 pilot)")
        world.rewrite()
        assert world.disproved() == []
        told = arcadia("audit", "2026-04", "--head", before["2026-04"], ARCADIA_DATABASE_URL=url)
        refused(told, f"no event of 2026-04 has the hash {before['2026-04']}: the history before it was changed since")
        assert arcadia("audit", "--head", heads(world)["2026-04"], ARCADIA_DATABASE_URL=url).code == 0


@pytest.mark.long
def test_a_head_is_printed_and_proved_on_the_command_line(world: World, arcadia: Call) -> None:
    """By the month end, the audit, and as JSON; later events follow on it; held tenants have one too."""
    world.pilot()
    printed = arcadia("invoice", "2026-04").out
    april = heads(world)["2026-04"]
    assert f"head of 2026-04: {april}" in printed.splitlines()
    assert f"head of 2026-04: {april}" in arcadia("audit").out.splitlines()
    [month] = arcadia("audit", "2026-04", "--json").json()["months"]
    assert (month["month"], month["head"]) == ("2026-04", april)
    world.query("update billing.tenant_invoices set finance_invoice_id = 'F-1', pushed_to_finance_at = now()")
    world.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    world.done("hold_tenant", tenants=["pilot"])
    assert heads(world)["2026-04"] != april
    for arguments in (["2026-04", "--head", april], ["--head", f" {april.upper()}"]):
        told = arcadia("audit", *arguments).out
        assert "is event 1 of 2026-04: issued INV-202604-00001 pilot, by month_end, " in told
        assert told.endswith("Nothing up to it was changed.\n")
    proved = arcadia("audit", "--head", heads(world)["tenants"], "--json").json()
    assert (proved["chain"], proved["place"], proved["event"], proved["operator"]) == ("tenants", 1, "held", "ada")
    refused(arcadia("audit", "2026-03", "--head", april), f"no event of 2026-03 has the hash {april}: ")
    refused(arcadia("audit", "--head", "0" * 64), "no event of any month has the hash 0000")
    refused(arcadia("audit", "--head", "latest"), "'latest' is not a head: a head is 64 hexadecimal digits")
    world.tamper("update billing.tenant_invoices set paid_at = paid_at - interval '1 day'")
    refused(
        arcadia("audit", "--head", april),
        f"the events up to {april} stand, but 1 invoice of 2026-04 changed without one: INV-202604-00001 of pilot",
    )
