"""A reference receiver of the contract (docs/finance-openapi.yaml) over real HTTP, which can be told to misbehave.

Every request is held to the OpenAPI document, and so is every answer.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

from arcadia_pipelines.settings import PROJECT

CONTRACT = yaml.safe_load((PROJECT / "docs" / "finance-openapi.yaml").read_text())
TOKEN = "a-token-of-ours"
PAGE = 400
Trouble = Callable[["Call"], None]
"""Done in place of the receiver's answer, or around it."""


class Dropped(Exception):
    """The connection is closed without an answer."""


class Call:
    """A request, and what the receiver does with it: do() once, at most."""

    def __init__(self, receiver: "Receiver", method: str, path: str, headers: Any, body: bytes) -> None:
        self.receiver, self.method, self.path, self.headers = receiver, method, path, headers
        self.body: Any = json.loads(body) if body else None
        self.status, self.document, self.more = 0, dict[str, Any](), dict[str, str]()
        parts = urlsplit(path)
        self.query = {name: value for name, [value] in parse_qs(parts.query).items()}
        found = re.fullmatch(r"/income/v1/invoices/([0-9a-f-]{36})(/void|/payment)?", parts.path)
        self.invoice = found[1] if found else ""
        self.template = f"/invoices/{{invoice_id}}{found[2] or ''}" if found else parts.path.removeprefix("/income/v1")

    def answer(self, status: int, document: dict[str, Any] | None = None, **headers: str) -> None:
        """Answer this, in place of what was to be answered."""
        self.status, self.document = status, document or {}
        self.more = {name.replace("_", "-"): value for name, value in headers.items()}

    def do(self) -> None:
        """Do what is asked, and have the answer ready."""
        with self.receiver.lock:
            self.receiver.handle(self)


class Receiver:
    """A ledger in memory, by invoice id."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.invoices: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        """Method and path of each request, in order."""
        self.bodies: list[dict[str, Any]] = []
        """Of each PUT."""
        self.taken: Counter[str] = Counter()
        """How often each invoice id was taken as new: one that is counted twice is there twice."""
        self.trouble: Trouble = Call.do
        self.faults: list[str] = []
        """Where a request or an answer is not as the contract says."""
        self.knows_payments = True
        self.url = ""

    def handle(self, call: Call) -> None:
        """The contract, as it is meant."""
        if call.template == "/invoices":
            self._list(call)
        elif call.template == "/summary":
            of_month = self._of(call.query["period"])
            lines = "".join(f"{i['invoice_id']} {i['content_sha256']} {i['status']}\n" for i in of_month)
            total = sum(i["total_cents"] for i in of_month)
            digest = hashlib.sha256(lines.encode()).hexdigest()
            call.answer(200, {"count": len(of_month), "total_cents": total, "hash": digest})
        elif call.method == "PUT":
            self._put(call)
        elif call.invoice not in self.invoices or (call.template.endswith("/payment") and not self.knows_payments):
            call.answer(404, {"error": "not here"})
        else:
            there = self.invoices[call.invoice]
            if call.template.endswith(("/void", "/payment")):
                there["status"] = "void" if call.template.endswith("/void") else "paid"
            call.answer(200, {name: value for name, value in there.items() if name != "body"})

    def _put(self, call: Call) -> None:
        body, there = call.body, self.invoices.get(call.invoice)
        version = f'"{body["revision"]}-{body["content_sha256"][:8]}"'
        if body["subtotal_cents"] + body["gst_cents"] != body["total_cents"] or any(
            sum(line[part] for line in body["lines"]) != body[whole]
            for part, whole in (("amount_cents", "subtotal_cents"), ("gst_cents", "gst_cents"))
        ):
            call.answer(422, {"error": "the totals do not add up"})
        elif there and there["content_sha256"] == body["content_sha256"]:
            call.answer(200, {"finance_invoice_id": there["finance_invoice_id"], "etag": there["etag"]})
        elif call.headers["If-None-Match"] == "*" and there:
            call.answer(409, {"error": "other content is here"})
        elif call.headers["If-Match"] and (not there or there["etag"] != call.headers["If-Match"]):
            call.answer(412, {"error": "another version is here"})
        else:
            self.taken[call.invoice] += not there
            shown = {name: body[name] for name in ("invoice_id", "number", "content_sha256", "total_cents")}
            kept = {"finance_invoice_id": f"F-{len(self.invoices) + 1}", "status": "open", **(there or {})}
            self.invoices[call.invoice] = {**kept, **shown, "etag": version, "body": body}
            document = {"finance_invoice_id": kept["finance_invoice_id"], "etag": version}
            call.answer(200 if there else 201, document, ETag=version)

    def _of(self, period: str) -> list[dict[str, Any]]:
        found = [i for i in self.invoices.values() if i["body"]["period"]["start"] == f"{period}-01"]
        return sorted(found, key=lambda i: str(i["invoice_id"]))

    def _list(self, call: Call) -> None:
        after = [i for i in self._of(call.query["period"]) if i["invoice_id"] > call.query.get("cursor", "")]
        items = [{name: value for name, value in i.items() if name != "body"} for i in after[:PAGE]]
        call.answer(200, {"items": items, "next_cursor": items[-1]["invoice_id"] if len(after) > PAGE else None})

    def check(self, call: Call) -> None:
        """Hold the request, and an answer of ours, to the contract."""
        operation = CONTRACT["paths"].get(call.template, {}).get(call.method.lower())
        if operation is None:
            self.faults.append(f"no {call.method} {call.path}")
            return
        if call.headers["Authorization"] != f"Bearer {TOKEN}":
            self.faults.append(f"{call.method} {call.path} without the token")
        if call.method == "PUT" and bool(call.headers["If-Match"]) == bool(call.headers["If-None-Match"]):
            self.faults.append("neither If-Match nor If-None-Match, or both")
        self._hold("request", call.body, operation.get("requestBody"))

    def check_answer(self, call: Call) -> None:
        """Hold the receiver's own answer to the contract."""
        operation = CONTRACT["paths"][call.template][call.method.lower()]
        described = operation["responses"].get(str(call.status))
        if described and "$ref" in described:
            described = CONTRACT["components"]["responses"][described["$ref"].rpartition("/")[2]]
        self._hold("answer", call.document, described)

    def _hold(self, what: str, document: Any, described: Any) -> None:
        schema = (described or {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None:
            return
        whole = {**schema, "components": CONTRACT["components"]}
        validator = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())
        self.faults += [f"{what}: {error.json_path} {error.message}" for error in validator.iter_errors(document)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        length = int(self.headers["Content-Length"] or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # whoever sent it was killed in the middle: it is no request
            self.close_connection = True
            return
        call = Call(receiver, self.command, self.path, self.headers, body)
        with receiver.lock:
            receiver.calls.append((self.command, self.path))
            if self.command == "PUT":
                receiver.bodies.append(call.body)
            receiver.check(call)
        try:
            receiver.trouble(call)
        except Dropped:
            self.close_connection = True
            return
        if receiver.trouble is Call.do:
            receiver.check_answer(call)
        answer = json.dumps(call.document).encode()
        try:
            self.send_response(call.status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(answer)),
                **call.more,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)
        except OSError:  # whoever asked is gone
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer as the contract says, unless the receiver misbehaves."""
        self._serve()

    do_PUT = do_POST = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error of ours."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver, which listens on a port of its own."""
    receiver = Receiver()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.receiver = receiver  # type: ignore[attr-defined]
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
    assert not receiver.faults, receiver.faults  # no test: pytest does not show what it compares here


def once(trouble: Trouble, only: str = "PUT") -> Trouble:
    """The trouble for the first such request about each invoice; then all is well."""
    had: set[str] = set()

    def troubled(call: Call) -> None:
        with call.receiver.lock:
            first = call.method == only and call.invoice not in had
            if first:
                had.add(call.invoice)
        if first:
            trouble(call)
        else:
            call.do()

    return troubled


def commit_and_drop(call: Call) -> None:
    """Do it, and close the connection without an answer."""
    call.do()
    raise Dropped


def drop(_: Call) -> None:
    """Close the connection, and do nothing."""
    raise Dropped


def commit_and_504(call: Call) -> None:
    """Do it, and say that it took too long."""
    call.do()
    call.answer(504)


def late(seconds: float) -> Trouble:
    """Do it, and answer after this time."""

    def trouble(call: Call) -> None:
        call.do()
        time.sleep(seconds)

    return trouble


def saying(status: int, **headers: str) -> Trouble:
    """Do nothing, and answer this."""
    return lambda call: call.answer(status, {"error": "the tests say so"}, **headers)
