"""The outbox: what is written with an invoice, and that finance is told of each exactly once."""

import hashlib
import json
import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance import outbox as draining
from arcadia_pipelines.finance.client import Client
from arcadia_pipelines.settings import Settings
from arcadia_pipelines.storage import database, outbox
from arcadia_pipelines_tests.finance.receiver import (
    TOKEN,
    Call,
    Receiver,
    Trouble,
    commit_and_504,
    commit_and_drop,
    drop,
    late,
    once,
    saying,
)
from arcadia_pipelines_tests.world import World, publish_pilots_april

APRIL = BillingMonth.parse("2026-04")


def drain(
    engine: Engine, at_once: bool = False, read_seconds: float = 20, month: BillingMonth = APRIL
) -> dict[str, int]:
    """Drain April; rows by the state that they came to."""
    with Client(Settings.from_environment(), read_seconds) as client:
        drained = draining.drain(engine, client, month, at_once)
    return {state.value: count for state, count in drained.rows.items()}


def push(engine: Engine, read_seconds: float = 20, refused: bool = False) -> dict[str, int]:
    """As `arcadia finance push 2026-04`."""
    draining.prepare(engine, APRIL, refused)
    return drain(engine, at_once=True, read_seconds=read_seconds)


def rows(world: World) -> list[tuple[Any, ...]]:
    return world.query("select revision, operation, state from billing.finance_outbox order by id")


def invoice(world: World) -> tuple[Any, ...]:
    return world.query(
        "select revision, status, finance_invoice_id, pushed_to_finance_at is not null from billing.tenant_invoices"
    )[0]


def there(finance: Receiver) -> dict[str, Any]:
    """The one invoice that finance has."""
    [found] = finance.invoices.values()
    return found


def publish_april_with_finance(world: World) -> None:
    """As `april` says; nobody listens yet, and nothing is sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCADIA_FINANCE_URL", "http://127.0.0.1:9")
        patch.setenv("ARCADIA_FINANCE_TOKEN", TOKEN)
        publish_pilots_april(world)


@pytest.fixture
def april(world: World, finance: Receiver) -> World:
    """The pilot's April, invoiced when there is a finance: 64.22, GST 6.42, 70.64."""
    assert finance.calls == []
    return world


BEGINNINGS = {"april": publish_april_with_finance}


def test_an_invoice_is_written_with_its_message_whose_bytes_are_frozen(april: World) -> None:
    [(payload, digest, state)] = april.query("select payload, payload_sha256, state from billing.finance_outbox")
    assert (state, digest) == ("pending", hashlib.sha256(payload.encode()).hexdigest())
    said = json.loads(payload)
    assert [
        tuple(line[name] for name in ("kind", "quantity", "unit_price_cents", "price_per", "amount_cents", "gst_cents"))
        for line in said["lines"]
    ] == [
        ("plan_base", "1.000000", "5000.00000000", "1.000000", 5000, 500),
        ("addon", "1.000000", "750.00000000", "1.000000", 750, 75),
        ("overage", "672.000000", "1.00000000", "1.000000", 672, 67),
    ]
    assert (said["subtotal_cents"], said["gst_cents"], said["total_cents"]) == (6422, 642, 7064)
    assert (said["document"], said["adjusts"], said["currency"]) == ("tax_invoice", [], "AUD")
    assert said["period"] == {"start": "2026-04-01", "end": "2026-05-01"}
    assert said["tenant"] == {"id": "pilot", "name": "Pilot", "abn": None}
    assert [(said["number"], said["revision"])] == april.query(
        "select invoice_number, revision from billing.tenant_invoices"
    )
    with pytest.raises(psycopg.errors.RestrictViolation, match="keeps what it says"):
        april.query("update billing.finance_outbox set payload = '{}'")


def test_nothing_is_written_without_a_finance(pilots_april: World) -> None:
    assert rows(pilots_april) == []


def test_finance_is_told_once_and_the_invoice_is_locked(april: World, finance: Receiver, engine: Engine) -> None:
    assert drain(engine) == {"confirmed": 1}
    assert drain(engine, at_once=True) == {}
    assert invoice(april) == (1, "issued", "F-1", True)
    assert finance.calls == [("PUT", f"/income/v1/invoices/{there(finance)['invoice_id']}")]
    april.use("web", "droplet_hours", 100)
    assert april.publish("2026-04").actions["frozen"] == 1
    assert rows(april) == [(1, "put", "confirmed")]


@pytest.mark.parametrize(
    ("trouble", "then"),
    [
        (drop, ["PUT", "GET", "PUT"]),
        (commit_and_drop, ["PUT", "GET"]),
        (commit_and_504, ["PUT", "GET"]),
        (saying(503), ["PUT", "GET", "PUT"]),
        (saying(408), ["PUT", "PUT"]),
        (saying(429, Retry_After="1"), ["PUT", "PUT"]),
    ],
    ids=["drop", "commit and drop", "commit and 504", "503", "408", "429"],
)
def test_an_outcome_that_is_not_known_is_looked_up_before_anything_is_sent_again(
    april: World, finance: Receiver, engine: Engine, trouble: Trouble, then: list[str]
) -> None:
    finance.trouble = once(trouble)
    assert drain(engine) == {"confirmed": 1}
    assert [method for method, _ in finance.calls] == then
    assert (dict(finance.taken), there(finance)["total_cents"]) == ({there(finance)["invoice_id"]: 1}, 7064)


def test_a_late_answer_is_not_waited_for_and_the_invoice_is_found_there(
    april: World, finance: Receiver, engine: Engine
) -> None:
    finance.trouble = once(late(0.6))
    assert drain(engine, read_seconds=0.2) == {"confirmed": 1}
    assert [method for method, _ in finance.calls] == ["PUT", "GET"]


def test_what_is_not_known_stays_so_until_finance_says(april: World, finance: Receiver, engine: Engine) -> None:
    finance.trouble = commit_and_drop
    assert drain(engine) == {"uncertain": 1}
    assert [method for method, _ in finance.calls] == ["PUT", "GET", "GET"]
    assert april.query("select due_at > now() + interval '20 seconds', last_error from billing.finance_outbox") == [
        (True, "the connection was lost (RemoteProtocolError: Server disconnected without sending a response.)")
    ]
    finance.trouble = Call.do
    assert drain(engine) == {}  # it is not due yet
    assert push(engine) == {"confirmed": 1}
    assert list(finance.taken.values()) == [1]


def test_other_content_under_our_id_is_not_written_over(april: World, finance: Receiver, engine: Engine) -> None:
    def other(call: Call) -> None:
        call.body = {**call.body, "content_sha256": "0" * 64}
        commit_and_drop(call)

    finance.trouble = once(other)
    assert drain(engine) == {"refused": 1}
    assert [method for method, _ in finance.calls] == ["PUT", "GET", "PUT"]
    assert there(finance)["content_sha256"] == "0" * 64


@pytest.mark.parametrize("status", [409, 412, 422])
def test_a_refusal_is_final_until_an_operator_has_it_sent_again(
    april: World, finance: Receiver, engine: Engine, status: int
) -> None:
    finance.trouble = once(saying(status))
    assert drain(engine) == {"refused": 1}
    assert push(engine) == {}
    assert april.query("select last_error from billing.finance_outbox") == [
        (f'answered {status}: {{"error": "the tests say so"}}',)
    ]
    assert invoice(april) == (1, "issued", None, False)
    assert push(engine, refused=True) == {"confirmed": 1}


def first_lost_then_busy(call: Call) -> None:
    if call.method == "GET":
        call.do()
    elif len(call.receiver.bodies) == 1:
        drop(call)
    else:
        saying(429, Retry_After="600")(call)


def test_what_finance_did_not_have_when_it_was_asked_may_still_arrive_there(
    april: World, finance: Receiver, engine: Engine
) -> None:
    finance.trouble = first_lost_then_busy
    assert drain(engine) == {"uncertain": 1}
    assert [method for method, _ in finance.calls] == ["PUT", "GET", "PUT"]


def test_finance_that_asks_for_time_gets_it(april: World, finance: Receiver, engine: Engine) -> None:
    finance.trouble = once(saying(429, Retry_After="3600"))
    assert drain(engine) == {"pending": 1}
    assert len(finance.calls) == 1
    [(minutes,)] = april.query("select extract(epoch from due_at - now()) / 60 from billing.finance_outbox")
    assert 59 < minutes <= 60
    assert drain(engine) == {}
    assert push(engine) == {"confirmed": 1}


def test_a_revision_takes_the_place_of_one_that_was_never_sent(april: World, finance: Receiver, engine: Engine) -> None:
    april.use("web", "droplet_hours", 100)
    april.publish("2026-04")
    assert rows(april) == [(2, "put", "pending")]
    assert drain(engine) == {"confirmed": 1}
    assert (there(finance)["body"]["revision"], there(finance)["total_cents"]) == (2, 7174)  # 65.22 and 6.52


def test_a_revision_made_while_the_one_before_is_on_its_way_follows_it(
    april: World, finance: Receiver, engine: Engine
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def wait(call: Any) -> None:
        call.do()
        arrived.set()
        go_on.wait(60)

    finance.trouble = once(wait)
    told = threading.Thread(target=drain, args=(engine,))
    told.start()
    arrived.wait(60)
    april.use("web", "droplet_hours", 100)
    april.publish("2026-04")  # neither waits nor stops: the invoice is not locked before finance has confirmed it
    assert rows(april) == [(1, "put", "sending"), (2, "put", "pending")]
    go_on.set()
    told.join()
    assert rows(april)[0] == (1, "put", "confirmed")
    push(engine)
    assert rows(april) == [(1, "put", "confirmed"), (2, "put", "confirmed")]
    assert [body["revision"] for body in finance.bodies] == [1, 2]
    assert invoice(april) == (2, "issued", "F-1", True)
    assert (dict(finance.taken), there(finance)["total_cents"]) == ({there(finance)["invoice_id"]: 1}, 7174)


def test_rows_are_not_claimed_while_their_month_is_published(april: World, finance: Receiver, engine: Engine) -> None:
    with database.month_at_an_instant(engine, APRIL, publishes=True):
        told = threading.Thread(target=drain, args=(engine,))
        told.start()
        told.join(0.5)
        assert (told.is_alive(), rows(april)) == (True, [(1, "put", "pending")])
    told.join()
    assert rows(april) == [(1, "put", "confirmed")]


def test_a_row_whose_sender_died_is_looked_up_and_one_that_is_held_is_left_alone(
    april: World, finance: Receiver, engine: Engine
) -> None:
    with database.beside_month(engine, APRIL) as connection:
        since = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
        claimed = outbox.claim(connection, APRIL, since, 10)
    with database.transaction(engine) as connection:
        assert len(outbox.hold(connection, claimed)) == 1
        assert push(engine) == {}  # somebody is sending it
    assert rows(april) == [(1, "put", "sending")]
    assert push(engine) == {"confirmed": 1}  # that one is gone
    assert [method for method, _ in finance.calls] == ["GET", "PUT"]


def test_void_follows_put_and_again_does_no_harm(april: World, finance: Receiver, engine: Engine) -> None:
    april.done("void_invoice", invoices=["INV-202604-00001"])
    assert rows(april) == [(1, "put", "pending"), (1, "void", "pending")]
    finance.trouble = once(commit_and_drop, "POST")
    assert drain(engine) == {"confirmed": 2}
    assert [method for method, _ in finance.calls] == ["PUT", "POST", "GET"]
    assert (there(finance)["status"], invoice(april)) == ("void", (1, "void", "F-1", True))


def test_a_payment_recorded_here_is_told(april: World, finance: Receiver, engine: Engine) -> None:
    april.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    assert drain(engine) == {"confirmed": 2}
    assert there(finance)["status"] == "paid"


def test_where_payments_are_recorded_there_alone_nothing_is_wrong(
    april: World, finance: Receiver, engine: Engine
) -> None:
    finance.knows_payments = False
    april.done("mark_invoice_paid", invoices=["INV-202604-00001"])
    assert drain(engine) == {"confirmed": 2}


def test_what_was_issued_before_there_was_a_finance_is_told_on_an_operators_word(
    pilots_april: World, finance: Receiver, engine: Engine
) -> None:
    assert drain(engine, at_once=True) == {}
    assert push(engine) == {"confirmed": 1}
    assert invoice(pilots_april) == (1, "issued", "F-1", True)


def test_a_held_month_waits_for_an_operator(
    world: World, finance: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCADIA_FINANCE_HOLD", "true")
    world.pilot()
    world.publish("2026-04")
    assert drain(engine) == drain(engine, at_once=True) == {}
    assert push(engine) == {"confirmed": 1}


def test_drafts_are_never_sent(world: World, finance: Receiver, engine: Engine) -> None:
    world.pilot()
    world.done("hold_tenant", tenants=["pilot"])
    world.publish("2026-04")
    assert push(engine) == {}
    world.done("release_tenant", tenants=["pilot"])
    world.done("issue_drafts", month="2026-04")
    assert rows(world) == [(1, "put", "pending")]


def test_a_tenants_second_month_waits_for_its_first(april: World, finance: Receiver, engine: Engine) -> None:
    april.publish("2026-05")
    assert drain(engine, at_once=True, month=BillingMonth.parse("2026-05")) == {}
    assert drain(engine) == {"confirmed": 1}
    assert drain(engine, month=BillingMonth.parse("2026-05")) == {"confirmed": 1}


@pytest.mark.long
def test_a_withdrawn_invoice_is_told_again_once_it_is_revised(april: World, finance: Receiver, engine: Engine) -> None:
    drain(engine)
    finance.invoices.clear()  # taken back there
    april.done("withdraw_from_finance", invoices=["INV-202604-00001"])
    assert push(engine) == {}
    april.use("web", "droplet_hours", 100)
    april.publish("2026-04")
    assert push(engine) == {"confirmed": 1}
    assert invoice(april) == (2, "issued", "F-1", True)
    assert there(finance)["body"]["revision"] == 2


def test_a_void_invoice_that_is_reopened_and_issued_again_is_told_anew(
    april: World, finance: Receiver, engine: Engine
) -> None:
    april.done("void_invoice", invoices=["INV-202604-00001"])
    drain(engine)
    finance.invoices.clear()
    april.done("withdraw_from_finance", invoices=["INV-202604-00001"])
    april.done("reopen_invoice", invoices=["INV-202604-00001"])
    april.done("issue_drafts", month="2026-04")
    assert rows(april) == [(1, "put", "pending")]
    assert drain(engine) == {"confirmed": 1}
    assert there(finance)["status"] == "open"


def test_what_is_on_its_way_is_not_reopened(april: World, finance: Receiver, engine: Engine) -> None:
    finance.trouble = drop
    assert drain(engine) == {"uncertain": 1}
    april.done("void_invoice", invoices=["INV-202604-00001"])
    assert april.refused("reopen_invoice", invoices=["INV-202604-00001"]) == (
        "INV-202604-00001 is on its way to finance, which may have it: run `arcadia finance push` first"
    )


def test_finance_that_is_down_is_not_asked_for_each_invoice(
    world: World, finance: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "_GIVE_UP", 2)
    world.plan("studio", 5000)
    for number in range(20):
        world.tenant(f"t{number:02}")
        world.deployment(f"t{number:02}", f"d{number:02}", "studio")
    world.publish("2026-04")
    monkeypatch.setenv("ARCADIA_FINANCE_URL", "http://127.0.0.1:1")
    with Client(Settings.from_environment()) as client:
        drained = draining.drain(engine, client, APRIL)
    assert drained.stopped.startswith("finance did not take 2 in a row: it cannot be reached (ConnectError")
    tried = world.query("select count(*) filter (where attempts > 0), count(*), min(state) from billing.finance_outbox")
    assert tried[0][0] < tried[0][1] == 20
    monkeypatch.setenv("ARCADIA_FINANCE_URL", finance.url)
    assert push(engine) == {"confirmed": 20}


def test_lines_that_correct_an_invoice_say_which(april: World, finance: Receiver, engine: Engine) -> None:
    drain(engine)
    april.use("web", "droplet_hours", 100)
    april.publish("2026-04")
    april.publish("2026-05")
    drain(engine, month=BillingMonth.parse("2026-05"))
    assert [body["adjusts"] for body in finance.bodies] == [[], ["INV-202604-00001"]]
    assert [(line["kind"], line["gst_cents"]) for line in finance.bodies[1]["lines"]][-1] == ("adjustment", 10)


def test_the_audits_find_nothing_wrong_with_what_was_pushed(april: World, finance: Receiver, engine: Engine) -> None:
    drain(engine)
    assert april.disproved() == []


def test_an_invoice_that_went_to_finance_without_us_is_not_sent(
    pilots_april: World, finance: Receiver, engine: Engine
) -> None:
    pilots_april.query("update billing.tenant_invoices set finance_invoice_id = 'X', pushed_to_finance_at = now()")
    assert push(engine) == {}
    pilots_april.done("void_invoice", invoices=["INV-202604-00001"])
    assert push(engine) == {}


def test_a_database_that_fails_while_a_row_is_on_its_way_loses_nothing(
    april: World, finance: Receiver, engine: Engine
) -> None:
    def cut(call: Call) -> None:
        call.do()
        april.query(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and state = 'idle in transaction'"
        )

    finance.trouble = once(cut)
    with pytest.raises(database.StorageInterrupted):
        drain(engine)
    assert rows(april) == [(1, "put", "sending")]
    assert push(engine) == {"confirmed": 1}
    assert [method for method, _ in finance.calls] == ["PUT", "GET"]


@pytest.mark.long
@pytest.mark.parametrize("first", ["t1", "t2"])
def test_whoever_locks_the_invoices_in_another_order_wins_and_what_finance_said_is_kept(
    world: World, finance: Receiver, engine: Engine, first: str
) -> None:
    """PostgreSQL ends the wait of the drain, which is the first to look for a deadlock; in one of the two orders."""
    world.plan("studio", 5000)
    for tenant in ("t1", "t2"):
        world.tenant(tenant)
        world.deployment(tenant, f"of {tenant}", "studio")
    world.publish("2026-04")
    lock = "select from billing.tenant_invoices where tenant_id = %s for update"
    [[name]] = world.query("select current_database()")
    world.query(f"alter database {name} set deadlock_timeout = '3s'")
    with psycopg.connect(world.url, options="-c deadlock_timeout=1min") as other:

        def wait(call: Call) -> None:
            other.execute(lock, [first])
            call.do()

        finance.trouble = wait
        told = threading.Thread(target=drain, args=(engine,))
        told.start()
        waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        while world.query(waits) == [(0,)]:
            assert told.is_alive()
        other.execute(lock, ["t1" if first == "t2" else "t2"])
        other.commit()
        told.join()
    assert {state for _, _, state in rows(world)} == {"confirmed"}
    assert [method for method, _ in finance.calls] == ["PUT", "PUT"]
    assert world.query("select count(finance_invoice_id) from billing.tenant_invoices") == [(2,)]
