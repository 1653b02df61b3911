"""Tryton's JSON-RPC: a session, a call, and what is known after it.

Belongs here: logging in, Tryton's way of writing values, and what its errors mean. Does not: what is asked
(client.py).
"""

import base64
import datetime as dt
import itertools
import json
import threading
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from arcadia_pipelines.finance.client import Answer, FinanceError, Known, call, opened

_UNAUTHORIZED = 401


class CallFailed(FinanceError):
    """A call did not come to a result."""

    def __init__(self, answer: Answer, warning: str = "") -> None:
        super().__init__(answer.error or "", answer.retry_after or 0)
        self.answer = answer
        self.warning = warning
        """The name of the warning that a person would confirm, if it was one."""


def refusal(why: str) -> CallFailed:
    """Tryton cannot take it as things are there; a person has to mend that."""
    return CallFailed(Answer(Known.REFUSED, {}, f"refuses it: {why}"))


class Rpc:
    """Calls Tryton as one user, from many threads; logs in when needed. Close it."""

    def __init__(self, url: str, token: str | None, read_seconds: float, connections: int) -> None:
        """`url` ends with the database's name, `token` is user:password. Raises FinanceError."""
        self._user, colon, self._password = (token or "").partition(":")
        if not (self._user and colon):
            raise FinanceError("ARCADIA_FINANCE_TOKEN is not user:password, as which Tryton is called")
        self._http = opened(f"{url}/rpc/", token, read_seconds, connections)
        self._lock = threading.Lock()
        self._session = ""
        self._ids = itertools.count(1)
        self.context: dict[str, Any] = {"language": "en"}
        """Sent with each call."""

    def close(self) -> None:
        """Log out, if that is to be had, and close the connections."""
        if self._session:
            self._send("common.db.logout", (), self._session)
        self._http.close()

    def read(self, method: str, *parameters: object) -> Any:
        """The result of a call that changes nothing: if it is lost, nothing was done. Raises CallFailed."""
        try:
            return self.change(method, *parameters)
        except CallFailed as failed:
            if failed.answer.known is not Known.NOTHING:
                raise
            raise CallFailed(Answer(Known.NOT_DONE, {}, failed.answer.error, failed.answer.retry_after)) from failed

    def change(self, method: str, *parameters: object, about: Mapping[str, object] | None = None) -> Any:
        """The result of a call, with more context; a session that has ended is made anew, once. Raises CallFailed."""
        sent = (*parameters, {**self.context, **(about or {})})
        session = self._session_but("")
        answer = self._send(method, sent, session)
        if answer.status == _UNAUTHORIZED:  # nothing was done
            answer = self._send(method, sent, self._session_but(session))
        return _result(answer)

    def _session_but(self, ended: str) -> str:
        """The session of all threads, or a new one in place of that which has ended."""
        with self._lock:
            if self._session == ended:
                login = (self._user, {"password": self._password}, "en")
                user, key, *_ = _result(self._send("common.db.login", login))
                self._session = base64.b64encode(f"{self._user}:{user}:{key}".encode()).decode()
            return self._session

    def _send(self, method: str, parameters: Iterable[object], session: str = "") -> Answer:
        request = {"id": next(self._ids), "method": method, "params": list(parameters)}
        headers = {"Authorization": f"Session {session}"} if session else {}
        return call(self._http, "POST", "", json.dumps(request, default=_written), headers, absent=())


def _written(value: object) -> dict[str, Any]:
    match value:
        case Decimal():
            return {"__class__": "Decimal", "decimal": str(value)}
        case dt.date():
            return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
        case _:
            raise TypeError(f"Tryton is sent no {type(value).__name__}")


def _value(written: Any) -> Any:
    """What Tryton wrote, with its decimals and days as ours."""
    match written:
        case {"__class__": "Decimal", "decimal": text}:
            return Decimal(text)
        case {"__class__": "date", "year": year, "month": month, "day": day}:
            return dt.date(year, month, day)
        case dict():
            return {name: _value(value) for name, value in written.items()}
        case list():
            return [_value(value) for value in written]
        case _:
            return written


def _result(answer: Answer) -> Any:
    if answer.known is not Known.DONE:
        raise CallFailed(answer)
    match answer.document:
        case {"error": ["UserError", [message, *rest]]}:
            raise refusal(_sentence(message, *rest[:1]))
        case {"error": ["UserWarning", [name, message, *rest]]}:
            raise CallFailed(refusal(_sentence(message, *rest[:1])).answer, warning=str(name))
        case {"error": ["ConcurrencyException" | "LoginException", *said]}:
            raise CallFailed(Answer(Known.NOT_DONE, {}, f"answered with an error: {said}"))
        case {"error": [said, *_]}:
            raise CallFailed(Answer(Known.NOTHING, {}, f"answered with an error: {_sentence(said)}"))
        case {"result": result}:
            return _value(result)
        case _:
            raise CallFailed(Answer(Known.NOTHING, {}, "answered with what is no result"))


def _sentence(*parts: object) -> str:
    return " ".join(" ".join(str(part).split()) for part in parts if part)[:300]
