"""The e-mails that take invoices to their tenants: billing.email_outbox.

Belongs here: which invoice goes where, and what became of it. Does not: the message and the mail server
(documents/mail.py), that the invoice is delivered (documents.py).
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines.storage.operations import OperationRefused

_ADDRESS = "nullif(btrim(i.meta ->> 'billing_email'), '')"
# The note that takes an invoice back waits until somebody has said of the invoice's own e-mail what became of it: of
# each invoice, only the newest e-mail is ever to be decided.
_TO_SEND = """
    i.period_start = %(month)s
    and (i.status in ('issued', 'paid') and i.delivered_at is null
         or i.status = 'void' and i.delivered_at is not null
            and not exists (select from billing.documents d where d.invoice_id = i.id and d.state = 'void')
            and not exists (select from billing.email_outbox o
                            where o.invoice_id = i.id and o.state in ('sending', 'uncertain')))
"""
_ENTER = f"""
    insert into billing.email_outbox
        (invoice_id, document_state, period_start, revision, recipient, message_id, operator, reason, run_id)
    select i.id, s.document_state, i.period_start, i.revision, {_ADDRESS},
           '<' || i.id || case s.document_state when 'void' then '.adj' else '' end || '@arcadia.invoice>',
           %(operator)s, %(reason)s, %(run)s
    from billing.tenant_invoices i
    cross join lateral (select case i.status when 'void' then 'void' else 'issued' end as document_state) s
    where {_TO_SEND} and {_ADDRESS} is not null
    on conflict (invoice_id, document_state) do nothing
"""
_WITHOUT_ADDRESS = f"""
    select i.tenant_id from billing.tenant_invoices i where {_TO_SEND} and {_ADDRESS} is null
    order by i.tenant_id collate "C"
"""
_PENDING = "select count(*) from billing.email_outbox where period_start = %(month)s and state = 'pending'"
_LEFT_SENDING = """
    update billing.email_outbox set state = 'uncertain', said = 'the run that sent it ended before it knew'
    where state = 'sending'
"""
_NEXT = """
    select invoice_id, document_state, recipient, message_id, operator, reason, coalesce(run_id, '') as run_id
    from billing.email_outbox
    where period_start = %(month)s and state = 'pending'
      and (%(after)s::uuid is null or (invoice_id, document_state) > (%(after)s, %(after_state)s))
    order by invoice_id, document_state limit 1 for update skip locked
"""
_SENDING = """
    update billing.email_outbox set state = 'sending', revision = %(revision)s, said = null
    where message_id = %(message_id)s
"""
_BECOMES = "update billing.email_outbox set state = %(state)s, said = %(said)s where message_id = %(message_id)s"
_NEWEST = """
    (o.document_state = 'void' or not exists (select from billing.email_outbox n
                                              where n.invoice_id = o.invoice_id and n.document_state = 'void'))
"""
_STANDING = f"""
    select o.invoice_id as id, coalesce(i.invoice_number, i.id::text) as invoice, o.state
    from billing.email_outbox o join billing.tenant_invoices i on i.id = o.invoice_id
    where o.invoice_id = any(%(ids)s) and {_NEWEST} order by 2 for update of o
"""
_DECIDE = f"""
    update billing.email_outbox o
    set state = %(state)s, recipient = coalesce(%(recipient)s, recipient), operator = %(operator)s, reason = %(reason)s,
        run_id = %(run)s, said = %(said)s
    where invoice_id = any(%(ids)s) and {_NEWEST}
"""
OUTCOMES = {
    "sent": ("sent", ("uncertain",)),
    "again": ("pending", ("uncertain", "refused")),
    "bounced": ("refused", ("sent",)),
}
"""What an operator may decide of an e-mail: what it becomes, and what it must be before."""


@dataclass(frozen=True)
class Email:
    """A document that is to be sent."""

    invoice_id: UUID
    document_state: str
    """issued: the invoice; void: the adjustment note that takes it back."""
    recipient: str
    message_id: str
    operator: str
    reason: str
    run_id: str

    @property
    def author(self) -> Author:
        """Who asked for it."""
        return Author(self.operator, self.reason, self.run_id)


def enter(connection: Connection, month: BillingMonth, author: Author) -> tuple[int, list[str]]:
    """Enter the month's issued and paid invoices that were not delivered yet, and the adjustment notes, each once.

    Returns how many are to be sent, those of before included, and the tenants that have no billing_email.
    """
    parameters = {"month": month.start, "operator": author.operator, "reason": author.reason, "run": author.run_id}
    connection.exec_driver_sql(_ENTER, parameters)
    pending = int(connection.exec_driver_sql(_PENDING, parameters).scalar_one())
    return pending, list(connection.exec_driver_sql(_WITHOUT_ADDRESS, parameters).scalars())


def take_lock(connection: Connection) -> None:
    """Be the only one that sends until the transaction ends. What another left `sending` is uncertain from now on.

    Raises OperationRefused if somebody else sends.
    """
    lock = "select pg_try_advisory_xact_lock(hashtextextended('billing.email_outbox', 0))"
    if not connection.exec_driver_sql(lock).scalar_one():
        raise OperationRefused("e-mails are being sent by another run: wait until it has ended")


def leave_uncertain(connection: Connection) -> int:
    """Say of what a dead run was sending that nobody knows; how many they are. Needs the lock."""
    return connection.exec_driver_sql(_LEFT_SENDING).rowcount


def next_pending(connection: Connection, month: BillingMonth, after: Email | None) -> Email | None:
    """The month's next pending e-mail, locked; None: there is none."""
    passed = {"after": after and after.invoice_id, "after_state": after and after.document_state}
    row = connection.exec_driver_sql(_NEXT, {"month": month.start, **passed}).mappings().one_or_none()
    return None if row is None else Email(**row)


def sending(connection: Connection, email: Email, revision: int) -> None:
    """Say that it is being sent, in the transaction that delivers its invoice."""
    connection.exec_driver_sql(_SENDING, {"message_id": email.message_id, "revision": revision})


def become(connection: Connection, email: Email, state: str, said: str) -> None:
    """Say what became of it."""
    connection.exec_driver_sql(_BECOMES, {"message_id": email.message_id, "state": state, "said": said[:500]})


def decide(
    connection: Connection, invoices: Collection[UUID], outcome: str, recipient: str | None, author: Author
) -> int:
    """Do what an operator has decided of these invoices' newest e-mails (OUTCOMES), of all or none.

    Raises OperationRefused.
    """
    if outcome not in OUTCOMES:
        raise OperationRefused(f"outcome {outcome!r} is none of {', '.join(OUTCOMES)}")
    state, before = OUTCOMES[outcome]
    rows = connection.exec_driver_sql(_STANDING, {"ids": list(invoices)}).mappings().all()
    if len(rows) < len(invoices):
        raise OperationRefused("not all of these invoices were to go by e-mail: see billing.email_outbox")
    for row in rows:
        if row["state"] not in before:
            raise OperationRefused(f"the e-mail of {row['invoice']} is {row['state']}, not {' or '.join(before)}")
    by = {"operator": author.operator, "reason": author.reason, "run": author.run_id}
    decided = {"ids": list(invoices), "state": state, "recipient": recipient, "said": f"{author.operator}: {outcome}"}
    connection.exec_driver_sql(_DECIDE, by | decided)
    return len(rows)
