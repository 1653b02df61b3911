"""Invoices by e-mail: the message with the PDF, and the mail server that takes it.

Belongs here: what is sent, in which order of steps, and what the server's answer means. Does not: the outbox
(storage/emails.py).

An invoice is never delivered and still revisable, and no tenant gets one twice. So `sending` and the delivery are
committed in one transaction, before the message leaves. If the process dies after that, nobody knows whether it left:
it becomes uncertain, and only an operator sends it again. The price is an invoice that is locked although its e-mail
never arrived. To pay it seldom, the server has to greet us before anything is committed: one that is down locks
nothing.
"""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import Connection, Engine

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import delivery, files
from arcadia_pipelines.documents.content import Content, NoDocument, content_of
from arcadia_pipelines.documents.page import page
from arcadia_pipelines.errors import ArcadiaError
from arcadia_pipelines.storage import database, documents, emails
from arcadia_pipelines.storage.operations import OperationRefused

_SECONDS = 30  # for each answer of the server


class MailServerError(ArcadiaError):
    """The mail server cannot be reached, or does not let us in. Nothing was sent."""


class Outcome(NamedTuple):
    """What became of an e-mail, and what the server said."""

    state: str
    said: str


class MailServer:
    """A session at the mail server of ARCADIA_SMTP_URL, opened when it is needed.

    smtp://user:password@host:587 uses TLS if the server offers it, and gives no password without; smtps:// begins with
    it.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._session: smtplib.SMTP | None = None

    def __enter__(self) -> "MailServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session, if there is one."""
        if self._session:
            with suppress(smtplib.SMTPException, OSError):
                self._session.quit()
            self._session.close()
            self._session = None

    def greet(self) -> smtplib.SMTP:
        """The session, ready for a message. Raises MailServerError."""
        try:
            if self._session:
                with suppress(smtplib.SMTPException, OSError):
                    if self._session.noop()[0] == 250:
                        return self._session
                self.close()
            self._session = self._opened()
        except (smtplib.SMTPException, OSError) as error:
            self._session = None
            raise MailServerError(f"the mail server of ARCADIA_SMTP_URL does not let us send: {error}") from error
        return self._session

    def send(self, message: EmailMessage) -> Outcome:
        """Send it. Before the message itself, a lost connection leaves it pending; from then on, uncertain.

        Raises MailServerError if the server takes nothing from this sender: no message has left then.
        """
        session, sender = self.greet(), message["From"].addresses[0].addr_spec
        try:
            code, said = session.mail(sender)
            if code >= 400:
                raise MailServerError(f"the mail server takes nothing from {sender}: {_answered(code, said).said}")
            code, said = session.rcpt(message["To"].addresses[0].addr_spec)
            if code >= 400:
                with suppress(smtplib.SMTPException, OSError):
                    session.rset()
                return _answered(code, said)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            return Outcome("pending", f"the connection was lost before the message left: {error}")
        try:
            return _answered(*session.data(message.as_bytes(policy=SMTP)))
        except smtplib.SMTPDataError as error:
            return _answered(error.smtp_code, error.smtp_error)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            return Outcome("uncertain", f"the server had not answered when the connection was lost: {error}")

    def _opened(self) -> smtplib.SMTP:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "smtps":
            context = ssl.create_default_context()
            session: smtplib.SMTP = smtplib.SMTP_SSL(host, port or 465, timeout=_SECONDS, context=context)
        else:
            session = smtplib.SMTP(host, port or 587, timeout=_SECONDS)
        try:
            self._introduce(session)
        except BaseException:
            session.close()
            raise
        return session

    def _introduce(self, session: smtplib.SMTP) -> None:
        """Say who we are, in TLS if there is any, and log in if there is a login."""
        session.ehlo()
        if self._url.scheme == "smtp":
            if session.has_extn("starttls"):
                session.starttls(context=ssl.create_default_context())
                session.ehlo()
            elif self._url.username:
                raise smtplib.SMTPException("it offers no TLS, and a password is not given without")
        if self._url.username:
            session.login(unquote(self._url.username), unquote(self._url.password or ""))


def _answered(code: int, said: bytes | str) -> Outcome:
    """What the server's answer makes of an e-mail: taken, not now, or not at all."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    state = "sent" if code < 300 else "refused" if code >= 500 else "pending"
    return Outcome(state, f"{code} {' '.join(text.split())}")


def send_month(on: Engine, server: MailServer, month: BillingMonth) -> Iterator[Outcome]:
    """Send the month's pending e-mails, and yield what became of each; one that stays pending is not tried twice.

    Raises MailServerError, and OperationRefused if another run sends.
    """
    with database.transaction(on) as alone:
        emails.take_lock(alone)
        with database.transaction(on) as connection:
            emails.leave_uncertain(connection)
        after: emails.Email | None = None
        while True:
            server.greet()
            with database.beside_month(on, month) as connection:  # no revision comes between the body and the PDF
                email = emails.next_pending(connection, month, after)
                if email is None:
                    return
                message, outcome = _deliver(connection, email)
            if message:
                outcome = _send(on, server, email, message)
            after = email
            yield outcome


def _send(on: Engine, server: MailServer, email: emails.Email, message: EmailMessage) -> Outcome:
    """Send it, and note what became of it. Raises MailServerError, and then it is pending as before."""
    try:
        outcome = server.send(message)
    except MailServerError as error:
        with database.transaction(on) as connection:
            emails.become(connection, email, "pending", str(error))
        raise
    with database.transaction(on) as connection:
        emails.become(connection, email, *outcome)
    return outcome


def _deliver(connection: Connection, email: emails.Email) -> tuple[EmailMessage | None, Outcome]:
    """The message, whose invoice is delivered and which is `sending` once this is committed; or why there is none."""
    try:
        [row] = documents.content(connection, [email.invoice_id])
        content = content_of(row)
        if content.cancels and email.document_state != "void":
            raise OperationRefused(f"{content.cancels} was voided before it was sent")
        addressed = _addressed(content, email)
        [delivered] = delivery.deliver(connection, [email.invoice_id], email.author)
    except (NoDocument, OperationRefused, ValueError) as error:
        outcome = Outcome("refused", str(error))
        emails.become(connection, email, *outcome)
        return None, outcome
    emails.sending(connection, email, delivered.content.revision)
    addressed.add_attachment(
        delivered.document, maintype="application", subtype="pdf", filename=files.name_of(delivered.content)
    )
    return addressed, Outcome("sending", "")


def _addressed(content: Content, email: emails.Email) -> EmailMessage:
    """The message without its attachment. Raises ValueError for an address that is none."""
    supplier, said = content.supplier, page(content)
    if not email.recipient.isascii():
        raise ValueError(f"{email.recipient!r} is not an address that every mail server takes")
    message = EmailMessage()
    message["From"] = Address(" ".join(supplier.legal_name.split()), addr_spec=supplier.email)
    message["To"] = Address(addr_spec=email.recipient)
    message["Subject"] = f"{said['title']} {content.number} from {' '.join(supplier.legal_name.split())}"
    message["Message-ID"] = email.message_id
    what, amount, when = said["owed"]
    message.set_content(
        f"{' '.join(content.buyer.name.split())},\n\n"
        f"your {said['title'].lower()} {content.number} is attached.\n\n"
        f"{what}: AUD {amount}, {when}\n\n"
        f"{' '.join(supplier.legal_name.split())}\n{supplier.email}\n"
    )
    return message
