"""What one client can take of a process: connections, time for a request to arrive, bytes of a head, requests a minute.

Belongs here: what is counted per process, before a route is known and for each principal. Does not: how long a body may
be and take (observe.py), how many sheets and quotes are made at once (app.py).

Behind a proxy every connection is the proxy's, so none is counted by its address: that is for the proxy to do.
"""

import asyncio
import json
import math
import uuid
from collections import OrderedDict

import uvicorn
from aiolimiter import AsyncLimiter
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from arcadia_pipelines.api import problems
from arcadia_pipelines.api.auth import Principal
from arcadia_pipelines.api.problems import Problem
from arcadia_pipelines.settings import Settings

HEAD_SECONDS = 10.0
"""For a head to arrive whole, from the connection or the answer before; and for what is left of a body nobody read."""
LARGEST_HEAD = 48 * 1024  # bytes of path, query string and headers
MOST_BYTES_OF_HEAD = LARGEST_HEAD + 16 * 1024
"""Of a head that has not ended: more than a whole one of the largest can have, spaces and line ends included."""
MOST_BYTES_BESIDE = 2**20
"""Of what is sent with a body and is none of it: sizes of chunks, and a trailer, which nobody reads."""
MOST_IN_TURN = 100
"""Requests that wait on one connection for the answers before theirs."""
WRITE_SECONDS = 60.0
"""For a client to take what was sent to it, before more is."""
GRACE_SECONDS = 20  # for requests under way when the server is asked to stop
PERIOD_SECONDS = 60.0
MOST_PRINCIPALS = 10_000
"""Whose requests are remembered; of more, those who asked least recently are forgotten, and begin anew."""


class Requests:
    """How many requests each principal has made of late: a leaky bucket, by a clock that is never set back."""

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._buckets: OrderedDict[Principal, AsyncLimiter] = OrderedDict()

    async def count(self, who: Principal) -> None:
        """Count one. Raises Problem if it is one too many."""
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = AsyncLimiter(self._a_minute, PERIOD_SECONDS)
            if len(self._buckets) > MOST_PRINCIPALS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        if not bucket.has_capacity():
            raise Problem(
                "too-many-requests",
                f"{self._a_minute:,} requests a minute are answered to one tenant, or to platform admins together",
                {"Retry-After": str(math.ceil(PERIOD_SECONDS / self._a_minute))},
            )
        await bucket.acquire()  # there is room: it does not wait


def server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """Uvicorn with the application behind Connection. It installs its own handlers of SIGINT and SIGTERM."""

    class Limited(Connection):
        most = settings.api_clients

    config = uvicorn.Config(
        app,
        http=Limited,
        log_config=None,
        access_log=False,  # ours is in JSON, with the request id
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which waits for nobody without end.

    Beyond `most` at a time, requests are said to be of a crowd, which observe.py answers; beyond twice as many, a
    connection is closed at once. A head that is too long is answered 431, one that is too slow 408.
    """

    most: int

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._in_head, self._bytes = False, 0
        super().connection_made(transport)
        if len(self.connections) > 2 * self.most:
            transport.abort()
        self._wait_for_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        _cancel(self._deadline, self._stuck)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio, with a part of a head, of a body, or of several requests."""
        self._bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._bytes > MOST_BYTES_OF_HEAD:
            self._refuse("head-too-large", f"path, query string and headers have at most {LARGEST_HEAD} bytes")
        elif self._bytes > MOST_BYTES_BESIDE:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Called by the parser where a request begins. What came with its first bytes is not counted."""
        super().on_message_begin()
        self._in_head, self._bytes = True, 0
        self.scope["state"]["is_crowded"] = len(self.connections) > self.most

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each header, and each of a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser where a head ends. What is raised here is answered 400."""
        if len(self.pipeline) >= MOST_IN_TURN:
            raise ValueError("too many requests wait their turn")
        self._in_head, self._bytes = False, 0
        _cancel(self._deadline)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser for a part of a body."""
        self._bytes -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Called when the answer is sent: the next request may be there already, waiting its turn."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait_for_a_head()

    def pause_writing(self) -> None:
        """Called by asyncio when the client does not take what is sent."""
        self._stuck = self.loop.call_later(WRITE_SECONDS, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio when it has."""
        _cancel(self._stuck)
        super().resume_writing()

    def _wait_for_a_head(self) -> None:
        _cancel(self._deadline)
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """A part of a head came; or nothing, or what was left of a body, and nobody waits for an answer."""
        if self._in_head:
            self._refuse("too-slow", f"a request's head has to arrive within {HEAD_SECONDS:.0f} s")
        else:
            self.transport.abort()

    def _refuse(self, kind: str, detail: str) -> None:
        body = json.dumps(problems.document(kind, detail, uuid.uuid4().hex)).encode()
        status, title = problems.TITLES[kind]
        head = (
            f"HTTP/1.1 {status} {title}\r\ncontent-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in filter(None, timers):
        timer.cancel()
