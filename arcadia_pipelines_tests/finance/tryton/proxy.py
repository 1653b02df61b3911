"""What stands between us and Tryton and can be told to misbehave, by the method that is called."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Trouble = Callable[["Call"], None]
"""Done in place of the call, or around it."""


class Dropped(Exception):
    """The connection is closed without an answer."""


class Call:
    """A call of Tryton's: do() has it carried out, once at most."""

    def __init__(self, proxy: "Proxy", path: str, headers: Any, body: bytes) -> None:
        self._proxy, self._path, self._headers, self._body = proxy, path, headers, body
        self.method = str(json.loads(body)["method"]).removeprefix("model.")
        self.status, self.answer = 200, b""

    def do(self) -> None:
        """Have Tryton carry it out; the answer is kept."""
        connection = http.client.HTTPConnection(self._proxy.host, self._proxy.port, timeout=60)
        sent = {name: self._headers[name] for name in ("Content-Type", "Authorization") if self._headers[name]}
        connection.request("POST", self._path, self._body, sent)
        response = connection.getresponse()
        self.status, self.answer = response.status, response.read()
        connection.close()


class Proxy:
    """Passes calls on to Tryton, or does what `trouble` says."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port, self._path = str(parts.hostname), int(parts.port or 0), parts.path
        self.trouble: Trouble = Call.do
        self.methods: list[str] = []
        """What was called, in order."""
        self.url = ""

    def before(self, method: str, act: Callable[[], object]) -> None:
        """Do something when the invoices' method is called first, before it is carried out."""

        def acting(call: Call) -> None:
            act()
            call.do()

        self.trouble = once(acting, method)

    def told(self, *names: str) -> list[str]:
        """Which of the methods of invoices were called, in order."""
        invoices = [method.removeprefix("account.invoice.") for method in self.methods]
        return [name for name in invoices if name in names]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Pass the call on, unless it is to be spoilt."""
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        call = Call(proxy, self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"])))
        proxy.methods.append(call.method)
        try:
            proxy.trouble(call)
        except Dropped:
            self.close_connection = True
            return
        try:
            self.send_response(call.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(call.answer)))
            self.end_headers()
            self.wfile.write(call.answer)
        except OSError:  # whoever asked is gone
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error of ours."""


@contextmanager
def between(url: str) -> Iterator[Proxy]:
    """A proxy before that Tryton, on a port of its own."""
    proxy = Proxy(url)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.proxy = proxy  # type: ignore[attr-defined]
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}{urlsplit(url).path}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def commit_and_drop(call: Call) -> None:
    """Have it done, and close the connection without an answer."""
    call.do()
    raise Dropped


def drop(_: Call) -> None:
    """Close the connection, and do nothing."""
    raise Dropped


def commit_and_504(call: Call) -> None:
    """Have it done, and say that it took too long."""
    call.do()
    call.status, call.answer = 504, b""


def once(trouble: Trouble, method: str) -> Trouble:
    """The trouble for the first call of the invoices' method; then all is well."""
    left = [f"account.invoice.{method}"]

    def troubled(call: Call) -> None:
        if call.method in left:
            left.clear()
            trouble(call)
        else:
            call.do()

    return troubled
