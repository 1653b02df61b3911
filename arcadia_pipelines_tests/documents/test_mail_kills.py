"""A month's e-mail whose process dies by SIGKILL: no tenant gets a message twice, and the doubtful one is named."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from arcadia_pipelines_tests.command_line import start
from arcadia_pipelines_tests.documents.test_delivery import SUPPLIER
from arcadia_pipelines_tests.documents.test_mail import Mailbox, offenders, send, served
from arcadia_pipelines_tests.pipeline.test_dead_runs import until
from arcadia_pipelines_tests.world import World

pytestmark = pytest.mark.long

TENANTS = ["pilot", "quoll", "wombat"]
OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


class Deadly(Mailbox):
    """Kills the process that sends to it: at the second message, before its text or once that is taken."""

    def __init__(self, kills_at: str) -> None:
        super().__init__()
        self.kills_at = kills_at
        self.sender: subprocess.Popen[str] | None = None

    def kill(self, at: str) -> None:
        """Kill the process, if this is where; who is killed sees no answer."""
        if self.sender and self.kills_at == at:
            os.kill(self.sender.pid, signal.SIGKILL)
            self.sender.wait()

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.taken:
            self.kill("RCPT")
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        if len(self.taken) == 2:
            self.kill("DATA")
        return answer


def with_three_tenants(world: World) -> None:
    world.done("set_supplier", **SUPPLIER)
    world.pilot()
    for tenant in TENANTS[1:]:
        world.tenant(tenant)
        world.deployment(tenant, f"{tenant}-web", "studio")
    world.query("update cloud.tenants set billing_email = 'accounts@' || id || '.example'")
    world.publish("2026-04")


BEGINNINGS = {"mailing": with_three_tenants}


@pytest.fixture
def mailing(world: World) -> World:
    """A supplier, and April of three tenants, published, with addresses to send it to."""
    return world


@pytest.mark.parametrize(
    ("kills_at", "arrived", "outcome", "sent_then"),
    [
        ("DATA", 3, "sent", "0 e-mails of 2026-04: none was to be sent"),
        ("RCPT", 2, "again", "1 e-mail of 2026-04: 1 sent"),
    ],
)
def test_a_run_that_is_killed_while_it_sends_leaves_one_uncertain_e_mail_and_none_twice(
    mailing: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kills_at: str,
    arrived: int,
    outcome: str,
    sent_then: str,
) -> None:
    """Killed once the server has taken the second message, it has arrived; before its text, it has not.

    Neither the run nor the next one can know. Who looks into the server's log does, and decides.
    """
    box = Deadly(kills_at)
    by = ("--operator", "ada", "--reason", "month end", "--no-dry-run")
    with served(box) as url:
        monkeypatch.setenv("ARCADIA_SMTP_URL", url)
        box.sender = start(
            "arcadia", "deliver", "--email", "2026-04", *by,
            url=mailing.url, folder=tmp_path, ARCADIA_SMTP_URL=url,
        )  # fmt: skip
        box.sender.communicate(timeout=120)
        assert box.sender.returncode == -signal.SIGKILL
        box.kills_at = ""
        until(lambda: mailing.query(OTHERS) == [(0,)])
        assert outbox(mailing) == ["pending", "sending", "sent"]
        assert send(mailing) == "1 e-mail of 2026-04: 1 sent"
        assert outbox(mailing) == ["sent", "sent", "uncertain"]
        assert len(box.taken) == len({message["to"] for message in box.taken}) == arrived
        [(state, recipient)] = offenders(mailing)
        assert state == "uncertain"
        assert (recipient in [message["to"] for message in box.taken]) == (outcome == "sent")
        mailing.done("settle_email", invoices=[number_of(mailing, str(recipient))], outcome=outcome)
        assert send(mailing) == sent_then
    assert sorted(message["to"] for message in box.taken) == [f"accounts@{tenant}.example" for tenant in TENANTS]
    assert outbox(mailing) == ["sent", "sent", "sent"]
    assert (offenders(mailing), mailing.disproved()) == ([], [])


def outbox(world: World) -> list[str]:
    """The states of the e-mails."""
    return [state for (state,) in world.query("select state from billing.email_outbox order by state")]


def number_of(world: World, recipient: str) -> str:
    """The number of the invoice that goes there."""
    [[number]] = world.query(
        "select invoice_number from billing.email_outbox o join billing.tenant_invoices i on i.id = o.invoice_id"
        f" where o.recipient = '{recipient}'"
    )
    return str(number)
