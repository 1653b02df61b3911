"""Invoices by e-mail, through a real SMTP server: at most once, whatever it answers."""

import hashlib
import json
import os
import socket
from asyncio import WriteTransport
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import mail
from arcadia_pipelines.proof.controls import CONTROLS, find
from arcadia_pipelines.storage import database, emails
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.documents.test_delivery import SUPPLIER
from arcadia_pipelines_tests.trouble import until_waiting
from arcadia_pipelines_tests.world import World

APRIL = BillingMonth.parse("2026-04")
NUMBER = "INV-202604-00001"
TAKEN, GONE, BUSY, LOST = "250 OK", "550 No such user", "451 Try later", "LOST"


class Mailbox:
    """A mail server's handler: keeps what it takes, and answers as it is told."""

    def __init__(self) -> None:
        self.to_sender, self.to_recipient, self.to_data = TAKEN, TAKEN, TAKEN
        self.taken: list[EmailMessage] = []

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_sender == TAKEN:
            envelope.mail_from = address
        return self.to_sender

    async def handle_RCPT(  # noqa: N802  the names are aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_recipient == TAKEN:
            envelope.rcpt_tos.append(address)
        return self.to_recipient

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.to_data in (TAKEN, LOST):
            assert isinstance(envelope.content, bytes)
            message = message_from_bytes(envelope.content, policy=default)
            assert isinstance(message, EmailMessage)
            self.taken.append(message)
        if self.to_data == LOST:
            assert isinstance(server.transport, WriteTransport)
            server.transport.abort()
        return self.to_data


@contextmanager
def served(box: Mailbox) -> Iterator[str]:
    """The URL of a mail server that is there meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server, which ARCADIA_SMTP_URL names."""
    box = Mailbox()
    with served(box) as url:
        monkeypatch.setenv("ARCADIA_SMTP_URL", url)
        yield box


def with_address(world: World) -> None:
    world.done("set_supplier", **SUPPLIER)
    world.pilot()
    world.query("update cloud.tenants set billing_email = 'accounts@pilot.example'")
    world.publish("2026-04")


BEGINNINGS = {"mailing": with_address}


@pytest.fixture
def mailing(world: World) -> World:
    """A supplier, and the pilot's April, published, with an address to send it to."""
    return world


def send(world: World) -> str:
    return world.done("email_invoices", month="2026-04")


def states(world: World) -> list[tuple[Any, ...]]:
    """Of each e-mail its state, and whether its invoice is delivered."""
    return world.query(
        "select o.state, i.delivered_at is not null from billing.email_outbox o join billing.tenant_invoices i"
        " on i.id = o.invoice_id order by 1"
    )


def offenders(world: World) -> list[tuple[object, object]]:
    [control] = [control for control in CONTROLS if control.name == "emails_reach_their_tenants"]
    with database.transaction(database.engine(world.url)) as connection:
        found = find(connection, control, APRIL).offenders
    return [(one["state"], one["recipient"]) for one in found]


def test_a_months_invoices_go_to_their_tenants_once_and_are_delivered(mailing: World, mailbox: Mailbox) -> None:
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    [message] = mailbox.taken
    assert message["from"] == "Arcadia Cloud Pty Ltd <accounts@arcadia.example>"
    assert message["to"] == "accounts@pilot.example"
    assert message["subject"] == f"Tax invoice {NUMBER} from Arcadia Cloud Pty Ltd"
    [[invoice, sha256]] = mailing.query("select invoice_id, sha256 from billing.documents")
    assert message["message-id"] == f"<{invoice}@arcadia.invoice>"
    [attached] = message.iter_attachments()
    assert attached.get_filename() == f"{NUMBER}.pdf"
    assert hashlib.sha256(attached.get_content()).hexdigest() == sha256
    body = message.get_body()
    assert body
    assert "Amount due: AUD 70.64, by " in body.get_content()
    assert states(mailing) == [("sent", True)]
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"
    assert len(mailbox.taken) == 1
    assert (offenders(mailing), mailing.disproved()) == ([], [])


def test_an_invoice_that_was_sent_and_is_voided_is_followed_by_its_adjustment_note_once(
    mailing: World, mailbox: Mailbox
) -> None:
    send(mailing)
    mailing.done("void_invoice", invoices=[NUMBER])
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    invoice, note = mailbox.taken
    assert note["subject"] == f"Adjustment note {NUMBER}-ADJ from Arcadia Cloud Pty Ltd"
    assert note["message-id"] == invoice["message-id"].replace("@", ".adj@")
    [attached] = note.iter_attachments()
    assert attached.get_filename() == f"{NUMBER}-ADJ.pdf"
    assert mailing.query("select sha256 from billing.documents where state = 'void'") == [
        (hashlib.sha256(attached.get_content()).hexdigest(),)
    ]
    body = note.get_body()
    assert body
    assert f"Credited to you: AUD 70.64, tax invoice {NUMBER} is not to be paid" in body.get_content()
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"
    assert mailing.query("select document_state, state from billing.email_outbox order by 1") == [
        ("issued", "sent"),
        ("void", "sent"),
    ]
    assert (offenders(mailing), mailing.disproved()) == ([], [])


def test_a_note_that_was_given_by_hand_is_not_sent(mailing: World, mailbox: Mailbox) -> None:
    mailing.done("deliver", invoices=[NUMBER])
    mailing.done("void_invoice", invoices=[NUMBER])
    mailing.done("deliver", invoices=[NUMBER])
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"


def test_a_note_waits_until_it_is_known_whether_its_invoice_arrived(mailing: World, mailbox: Mailbox) -> None:
    """Then what became of the note is decided, and no more of the invoice."""
    mailbox.to_data = LOST
    send(mailing)
    mailing.done("void_invoice", invoices=[NUMBER])
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"
    assert offenders(mailing) == [("uncertain", "accounts@pilot.example")]
    mailing.done("settle_email", invoices=[NUMBER], outcome="sent")
    assert send(mailing) == "1 e-mail of 2026-04: 1 uncertain"
    mailing.done("settle_email", invoices=[NUMBER], outcome="again")
    mailbox.to_data = TAKEN
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    assert states(mailing) == [("sent", True), ("sent", True)]
    assert [message["subject"].split(" INV")[0] for message in mailbox.taken] == [
        "Tax invoice",
        "Adjustment note",
        "Adjustment note",
    ]


def test_an_invoice_that_was_not_taken_and_is_voided_is_not_sent_as_if_it_stood(
    mailing: World, mailbox: Mailbox
) -> None:
    """It was delivered before the server said not now: the tenant gets its adjustment note, which says so."""
    mailbox.to_data = BUSY
    send(mailing)
    mailbox.to_data = TAKEN
    mailing.done("void_invoice", invoices=[NUMBER])
    assert send(mailing) == "2 e-mails of 2026-04: 1 refused, 1 sent"
    assert [message["subject"] for message in mailbox.taken] == [
        f"Adjustment note {NUMBER}-ADJ from Arcadia Cloud Pty Ltd"
    ]
    assert offenders(mailing) == []


def test_a_dry_run_sends_nothing_and_without_a_server_nothing_is_sent(
    mailing: World, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, arcadia: Call
) -> None:
    dry = mailing.would("email_invoices", month="2026-04")
    assert dry == "dry run, nothing is written: 1 e-mail of 2026-04 would be sent"
    monkeypatch.delenv("ARCADIA_SMTP_URL")
    by = ("--operator", "ada", "--reason", "month end", "--no-dry-run")
    refused(arcadia("deliver", "--email", "2026-04", *by), "no mail server is configured: set ARCADIA_SMTP_URL")
    refused(arcadia("deliver", NUMBER, "--email", "2026-04", *by), "name invoices")
    assert (mailbox.taken, states(mailing)) == ([], [])


def test_a_month_that_is_written_is_waited_for_so_that_body_and_attachment_are_of_one_revision(
    mailing: World, mailbox: Mailbox
) -> None:
    engine = database.engine(mailing.url)
    with database.transaction(engine) as connection:
        emails.enter(connection, APRIL, Author("ada", "month end", ""))
    with ThreadPoolExecutor(1) as threads, mail.MailServer(os.environ["ARCADIA_SMTP_URL"]) as server:
        with database.month_transaction(engine, APRIL):
            sent = threads.submit(lambda: list(mail.send_month(engine, server, APRIL)))
            until_waiting(mailing, 1, lambda: True if sent.done() else None)
            assert (mailbox.taken, states(mailing)) == ([], [("pending", False)])
        assert [outcome.state for outcome in sent.result()] == ["sent"]
    assert (len(mailbox.taken), states(mailing)) == (1, [("sent", True)])


def test_who_has_no_address_or_was_delivered_by_hand_gets_none(mailing: World, mailbox: Mailbox) -> None:
    mailing.tenant("quoll")
    mailing.deployment("quoll", "quoll-web", "studio")
    mailing.publish("2026-04")
    mailing.done("deliver", invoices=[NUMBER])
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent; no billing_email: quoll"
    assert mailbox.taken == []


def test_a_refused_address_is_a_finding_until_it_is_sent_to_another(mailing: World, mailbox: Mailbox) -> None:
    mailbox.to_recipient = GONE
    assert send(mailing) == "1 e-mail of 2026-04: 1 refused"
    assert (states(mailing), offenders(mailing)) == ([("refused", True)], [("refused", "accounts@pilot.example")])
    mailbox.to_recipient = TAKEN
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"
    decided = {"invoices": [NUMBER], "outcome": "again", "recipient": "ap@pilot.example"}
    assert mailing.done("settle_email", **decided) == "1 e-mail: again"
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    assert [message["to"] for message in mailbox.taken] == ["ap@pilot.example"]
    assert offenders(mailing) == []
    mailing.done("settle_email", invoices=[NUMBER], outcome="bounced")
    assert offenders(mailing) == [("refused", "ap@pilot.example")]


def test_what_the_server_does_not_take_now_is_sent_next_time(mailing: World, mailbox: Mailbox) -> None:
    mailbox.to_data = BUSY
    assert send(mailing) == "1 e-mail of 2026-04: 1 pending"
    mailbox.to_data = TAKEN
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    assert len(mailbox.taken) == 1


def test_an_uncertain_one_is_never_sent_again_by_itself(mailing: World, mailbox: Mailbox) -> None:
    """The server has taken it, and the connection is lost before it says so."""
    mailbox.to_data = LOST
    assert send(mailing) == "1 e-mail of 2026-04: 1 uncertain"
    mailbox.to_data = TAKEN
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"
    assert (len(mailbox.taken), states(mailing)) == (1, [("uncertain", True)])
    assert offenders(mailing) == [("uncertain", "accounts@pilot.example")]
    mailing.done("settle_email", invoices=[NUMBER], outcome="again")
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    first, second = mailbox.taken
    assert first["message-id"] == second["message-id"]
    assert "is sent, not uncertain" in mailing.refused("settle_email", invoices=[NUMBER], outcome="sent")


def test_what_a_dead_run_was_sending_is_uncertain(
    mailing: World, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after `sending` and the delivery are committed, before it knows what the server says."""

    def die(self: mail.MailServer, message: EmailMessage) -> mail.Outcome:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(mail.MailServer, "send", die)
        with pytest.raises(SystemExit):
            send_directly(mailing)
    assert states(mailing) == [("sending", True)]
    assert send(mailing) == "0 e-mails of 2026-04: none was to be sent"
    assert (mailbox.taken, states(mailing)) == ([], [("uncertain", True)])


def send_directly(world: World) -> list[mail.Outcome]:
    """As the job does, without Dagster around it."""
    engine = database.engine(world.url)
    with database.transaction(engine) as connection:
        emails.enter(connection, APRIL, Author("ada", "month end", ""))
    with mail.MailServer(os.environ["ARCADIA_SMTP_URL"]) as server:
        return list(mail.send_month(engine, server, APRIL))


def test_a_server_that_takes_nothing_from_us_stops_the_run_at_the_first_invoice(
    mailing: World, mailbox: Mailbox
) -> None:
    """Its e-mail waits; only it is delivered, for nobody can say so before the sender is named."""
    mailing.tenant("quoll")
    mailing.deployment("quoll", "quoll-web", "studio")
    mailing.query("update cloud.tenants set billing_email = 'accounts@quoll.example' where id = 'quoll'")
    mailing.publish("2026-04")
    mailbox.to_sender = GONE
    said = mailing.refused("email_invoices", month="2026-04")
    assert "the mail server takes nothing from accounts@arcadia.example: 550 No such user" in said
    assert sorted(states(mailing)) == [("pending", False), ("pending", True)]
    mailbox.to_sender = TAKEN
    assert send(mailing) == "2 e-mails of 2026-04: 2 sent"


def test_a_server_that_is_down_delivers_and_locks_nothing(mailing: World, arcadia: Call) -> None:
    by = ("--operator", "ada", "--reason", "month end", "--no-dry-run")
    answer = arcadia("deliver", "--email", "2026-04", *by, ARCADIA_SMTP_URL="smtp://127.0.0.1:1")
    refused(answer, "the mail server of ARCADIA_SMTP_URL does not let us send")
    assert states(mailing) == [("pending", False)]


def test_a_password_is_not_given_to_a_server_without_tls(mailing: World, mailbox: Mailbox, arcadia: Call) -> None:
    url = os.environ["ARCADIA_SMTP_URL"].replace("smtp://", "smtp://ada:hush@")
    by = ("--operator", "ada", "--reason", "month end", "--no-dry-run")
    answer = arcadia("deliver", "--email", "2026-04", *by, ARCADIA_SMTP_URL=url)
    refused(answer, "it offers no TLS, and a password is not given without")
    assert "hush" not in answer.err
    assert states(mailing) == [("pending", False)]


@pytest.mark.parametrize("address", ["nobody", "a@b.example\nBcc: all@world.example", "ü@pilot.example", "a b@c.d"])
def test_an_address_that_is_none_is_refused_and_its_invoice_stays_as_it_was(
    mailing: World, mailbox: Mailbox, address: str
) -> None:
    meta = json.dumps({"billing_email": address})
    mailing.tamper(f"update billing.tenant_invoices set meta = meta || '{meta}'")
    assert send(mailing) == "1 e-mail of 2026-04: 1 refused"
    assert (mailbox.taken, states(mailing)) == ([], [("refused", False)])


def test_two_runs_do_not_send_at_once(mailing: World, mailbox: Mailbox) -> None:
    with database.transaction(database.engine(mailing.url)) as connection:
        emails.take_lock(connection)
        assert "e-mails are being sent by another run" in mailing.refused("email_invoices", month="2026-04")
    assert mailbox.taken == []


def test_an_invoice_that_is_revised_before_it_is_sent_goes_as_it_is_then(mailing: World, mailbox: Mailbox) -> None:
    """4.00 more: 400 hours at 1 c. An e-mail that waits locks nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCADIA_SMTP_URL", "smtp://127.0.0.1:1")
        mailing.refused("email_invoices", month="2026-04")
    mailing.use("web", "droplet_hours", 400, "2026-04-20")
    mailing.publish("2026-04")
    assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
    body = mailbox.taken[0].get_body()
    assert body
    assert "AUD 75.04" in body.get_content()
    assert mailing.query("select revision from billing.email_outbox") == [(2,)]
