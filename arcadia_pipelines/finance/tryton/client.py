"""Tryton in place of the contract of docs/finance-openapi.yaml: the same calls, the same answers.

An invoice is found by our id, which its description begins with. It is made as a draft, compared with ours to the cent,
and posted. A call may be lost at any step, and may still be carried out once somebody else asks again. So before one is
posted, all other drafts of it are deleted; what nobody sees any more is a draft that nobody posts.

Belongs here: the order of these steps. Does not: an invoice's values (books.py), HTTP and errors (rpc.py).
"""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from arcadia_pipelines.billing.money import dollars
from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.finance.client import READ_SECONDS, UNSET, Answer, FinanceError, Known
from arcadia_pipelines.finance.tryton.books import Books
from arcadia_pipelines.finance.tryton.entry import CANCELLED, DRAFTS, FIELDS, POSTED, Document, Entry, Stamp
from arcadia_pipelines.finance.tryton.rpc import CallFailed, Rpc, refusal
from arcadia_pipelines.settings import Settings

SCHEME = "tryton+"
"""What ARCADIA_FINANCE_URL begins with, if the ledger is Tryton."""
_PAGE = 200
_CONFIRMED = ("invoice_payment_term", "invoice_date_future", "cancel")
"""Warnings that are confirmed: it is due already; it is Tuesday here and Monday there; a closed period's invoice is
cancelled in the running one. Each warning's name ends so."""
_MOST_WARNINGS = 4


class Tryton:
    """Calls Tryton in place of client.Client; one for all threads of a drain. Close it, or use it as a context."""

    def __init__(self, settings: Settings, read_seconds: float = READ_SECONDS, connections: int = 8) -> None:
        if not settings.finance_url:
            raise FinanceError(UNSET)
        url = settings.finance_url.removeprefix(SCHEME)
        self._rpc = Rpc(url, settings.finance_token, read_seconds, connections)
        self._books = Books(self._rpc)
        self._posting = threading.Lock()  # Tryton gives numbers one after the other, and would have us try again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rpc.close()

    def put(self, invoice: UUID, payload: str, etag: str | None) -> Answer:
        """Have the invoice posted: a new one, or in place of the one that is posted, which is `etag`."""
        return _answer(lambda: self._put(json.loads(payload), etag))

    def void(self, invoice: UUID, payload: str) -> Answer:
        """Have the invoice cancelled; again does no harm."""
        return _answer(lambda: self._void(json.loads(payload)))

    def pay(self, invoice: UUID, payload: str) -> Answer:
        """Nothing: payments are recorded in Tryton, with their bank account, and read from there."""
        return Answer(Known.ABSENT, {}, "payments are recorded in Tryton alone")

    def get(self, invoice: UUID) -> Answer:
        """The invoice as it is posted or cancelled; a draft is in nobody's books yet."""
        return _answer(lambda: self._get(invoice))

    def invoices(self, month: BillingMonth) -> Iterator[dict[str, Any]]:
        """All invoices of the month that are posted or cancelled, each in its last revision. Raises FinanceError.

        A draft beside a posted one is listed too: if somebody posted it, the tenant would owe twice.
        """
        entries: dict[str, list[Entry]] = {}
        try:
            for entry in self._listed([["description", "like", f"Arcadia {month} %"]]):
                if entry.stamp:
                    entries.setdefault(entry.stamp.invoice_id, []).append(entry)
        except CallFailed as failed:
            raise FinanceError(f"finance does not say what it has: {failed}") from failed
        for of_one in entries.values():
            posted = [entry for entry in of_one if entry.state in POSTED]
            cancelled = [entry for entry in of_one if entry.state == CANCELLED]
            drafts = [entry for entry in of_one if entry.state in DRAFTS]
            yield from (entry.as_listed() for entry in ([*posted, *drafts] if posted else cancelled[-1:]))

    def summary(self, month: BillingMonth) -> dict[str, Any]:
        """Nothing: Tryton has no summary apart from the list."""
        return {}

    def _put(self, document: Document, etag: str | None) -> Answer:
        entries = self._entries(document)
        posted = [entry for entry in entries if entry.state in POSTED]
        drafts = [entry for entry in entries if entry.state in DRAFTS]
        if len(posted) > 1:
            ids = ", ".join(str(entry.id) for entry in posted)
            raise refusal(f"it is posted {len(posted)} times (ids {ids}): cancel all but one in Tryton")
        if posted and posted[0].has(document):
            self._delete(drafts)
            return _done(posted[0])
        if etag and etag not in [entry.etag for entry in entries]:
            raise refusal(f"the revision that this one follows (id {etag}) is not there")
        if posted and etag != posted[0].etag:
            raise refusal(f"other content is posted (id {posted[0].id})")
        draft = self._draft(document, drafts, len(posted))
        for earlier in posted:
            self._books.require_open(dt.date.fromisoformat(document["issued_on"]))
            self._cancel(earlier)
        return _done(self._post(draft, document))

    def _void(self, document: Document) -> Answer:
        entries = self._entries(document)
        self._delete([entry for entry in entries if entry.state in DRAFTS])
        if all(entry.state in DRAFTS for entry in entries):
            return Answer(Known.ABSENT, {}, "it is not posted there")
        for entry in entries:
            if entry.state in POSTED:
                self._cancel(entry)
        return Answer(Known.DONE, {"status": "void"})

    def _get(self, invoice: UUID) -> Answer:
        entries = [e for e in self._listed([_is_of(str(invoice))]) if e.state not in DRAFTS]
        posted = [entry for entry in entries if entry.state in POSTED]
        if not entries:
            return Answer(Known.ABSENT, {}, "it is not posted there")
        standing = (posted or entries)[-1].as_listed()
        if not posted:  # whatever it was, that is not what stands
            del standing["content_sha256"]
        return Answer(Known.DONE, standing, etag=standing["etag"])

    def _draft(self, document: Document, drafts: Sequence[Entry], posted: int) -> Entry:
        """The only draft of the invoice, which equals it to the cent: one that was left, or a new one."""
        if not any(entry.stamp == Stamp.of(document) for entry in drafts):
            self._rpc.change("model.account.invoice.create", [self._books.invoice(document)])
        entries = self._entries(document)  # somebody's request may have been late
        drafts = [entry for entry in entries if entry.state in DRAFTS]
        same = [entry for entry in drafts if entry.stamp == Stamp.of(document)]
        if not same or sum(entry.state in POSTED for entry in entries) != posted:
            raise _meanwhile("it changed meanwhile")
        self._delete([entry for entry in drafts if entry != same[0]])
        return self._with_our_gst(same[0], document)

    def _with_our_gst(self, draft: Entry, document: Document) -> Entry:
        """The draft, once its GST is ours: Tryton rounds by its own rules. Refuses what differs all the same."""
        untaxed, tax, total = (document[f"{name}_cents"] for name in ("subtotal", "gst", "total"))
        missing = tax - draft.amounts_cents[1]
        if missing and draft.taxes and abs(missing) <= len(draft.lines_cents):
            row, _, amount = max(draft.taxes, key=lambda row: (abs(row[1]), -row[0]))
            self._rpc.change("model.account.invoice.tax.write", [row], {"amount": Decimal(amount + missing).scaleb(-2)})
            [draft] = self._listed([["id", "=", draft.id]])
        if draft.amounts_cents != (untaxed, tax, total):
            there = " + ".join(dollars(cents) for cents in draft.amounts_cents[:2])
            raise refusal(
                f"totals differ: {there} = {dollars(draft.amounts_cents[2])} in Tryton (draft {draft.id}), "
                f"{dollars(untaxed)} + {dollars(tax)} = {dollars(total)} here"
            )
        if not draft.has(document):
            raise refusal(f"the lines of draft {draft.id} were changed in Tryton: delete it there")
        return draft

    def _post(self, draft: Entry, document: Document) -> Entry:
        with self._posting:
            try:
                return self._press("post", draft, POSTED)
            except CallFailed as failed:
                if failed.answer.known is not Known.REFUSED or not (day := self._day_of_last_number(document)):
                    raise
            # Its numbers go up with the days: what comes late is dated so, and booked on its own day all the same.
            self._rpc.change("model.account.invoice.write", [draft.id], {"invoice_date": day})
            return self._press("post", draft, POSTED)

    def _day_of_last_number(self, document: Document) -> dt.date | None:
        """The last day of a numbered invoice, if that is after the day on which this one was issued."""
        issued_on = dt.date.fromisoformat(document["issued_on"])
        domain = [*self._ours, ["number", "!=", None], ["invoice_date", ">", issued_on]]
        order = [["invoice_date", "DESC"]]
        rows = self._rpc.read("model.account.invoice.search_read", domain, 0, 1, order, ["invoice_date"])
        return rows[0]["invoice_date"] if rows else None

    def _cancel(self, posted: Entry) -> None:
        """Cancel it by a move the other way round; by a credit note where the company allows no other way."""
        if posted.state == "paid":
            raise refusal(f"it is paid in Tryton (id {posted.id}): take the payment back there")
        [company] = self._rpc.read("model.company.company.read", [self._books.company], ["cancel_invoice_out"])
        self._press("cancel" if company["cancel_invoice_out"] else "credit", posted, (CANCELLED,))

    def _credit(self, posted: Entry) -> None:
        wizard = "wizard.account.invoice.credit"
        session = self._rpc.change(f"{wizard}.create")[0]
        of_it = {"active_model": "account.invoice", "active_id": posted.id, "active_ids": [posted.id]}
        values = {"start": {"with_refund": True, "invoice_date": None}}
        self._rpc.change(f"{wizard}.execute", session, values, "credit", about=of_it)
        self._rpc.change(f"{wizard}.delete", session)

    def _delete(self, drafts: Sequence[Entry]) -> None:
        """Delete the drafts. One that cannot be was posted meanwhile: then all is read again."""
        ids = [entry.id for entry in drafts]
        validated = [entry.id for entry in drafts if entry.state == "validated"]
        try:
            if validated:
                self._rpc.change("model.account.invoice.draft", validated)
            if ids:
                self._rpc.change("model.account.invoice.delete", ids)
        except CallFailed as failed:
            if failed.answer.known is Known.REFUSED:
                raise _meanwhile(f"a draft cannot be deleted: {failed}") from failed
            raise

    def _press(self, button: str, entry: Entry, states: Sequence[str]) -> Entry:
        """Have the entry come to one of the states. Tryton refuses what was done before, or says nothing."""
        refused = None
        try:
            self._confirming(button, entry)
        except CallFailed as failed:
            if failed.answer.known is not Known.REFUSED:
                raise
            refused = failed
        found = list(self._listed([["id", "=", entry.id]]))
        if found and found[0].state in states:
            return found[0]
        raise refused or _meanwhile(f"{entry.id} is {found[0].state if found else 'gone'}, not {states[0]}")

    def _confirming(self, button: str, entry: Entry) -> None:
        """Press it, and confirm the warnings that say nothing new."""
        for _ in range(_MOST_WARNINGS):
            try:
                if button == "credit":
                    self._credit(entry)
                else:
                    self._rpc.change(f"model.account.invoice.{button}", [entry.id])
                return
            except CallFailed as failed:
                if not failed.warning.endswith(_CONFIRMED):
                    raise
                self._rpc.change("model.res.user.warning.skip", failed.warning)
        raise refusal("Tryton warns again and again")

    def _entries(self, document: Document) -> list[Entry]:
        """All invoices in Tryton that are this one, in any state. Refuses a number that somebody else's has."""
        invoice, number = document["invoice_id"], document["number"]
        found = list(self._listed(["OR", _is_of(invoice), ["reference", "=", number]]))
        for entry in found:
            if not (entry.stamp and entry.stamp.invoice_id == invoice) and entry.state != CANCELLED:
                raise refusal(f"another invoice (id {entry.id}) has the reference {number}: see its description")
        return [entry for entry in found if entry.stamp and entry.stamp.invoice_id == invoice]

    @property
    def _ours(self) -> list[Any]:
        return [["company", "=", self._books.company], ["type", "=", "out"]]

    def _listed(self, domain: list[Any]) -> Iterator[Entry]:
        """Invoices in order of their ids. A copy or a credit note of one has its description, but no reference."""
        last = 0
        while True:
            page = [*self._ours, ["reference", "!=", None], ["id", ">", last], domain]
            rows = self._rpc.read("model.account.invoice.search_read", page, 0, _PAGE, [["id", "ASC"]], [*FIELDS])
            yield from map(Entry.of, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["id"]


def _answer(step: Callable[[], Answer]) -> Answer:
    try:
        return step()
    except CallFailed as failed:
        return failed.answer


def _meanwhile(what: str) -> CallFailed:
    """Somebody else was at work: the same again may succeed."""
    return CallFailed(Answer(Known.NOT_DONE, {}, f"did not do it: {what}"))


def _done(entry: Entry) -> Answer:
    return Answer(Known.DONE, {"finance_invoice_id": str(entry.id)}, etag=entry.etag)


def _is_of(invoice_id: str) -> list[str]:
    return ["description", "like", f"Arcadia % {invoice_id} %"]
