"""Connections that cannot use up what the operator's Jobs need: they are bounded, and those that ask nothing end."""

import asyncio
import resource
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, cast

import httptools
from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_PATIENCE_SECONDS: Final = 30.0
_JOINED_BYTES: Final = 64 * 1024
_MOST_HEAD_BYTES: Final = 64 * 1024
_PATIENCE_WITH_READERS: Final = 4
"""So many times longer is waited for who reads an answer: the kernel takes more of it only once much has been read."""

_MANY_UNREAD_BYTES: Final = 1024 * 1024
"""More than a stream ever has on its way; an answer that is sent in one piece may be as long as 64 MiB."""

_MOST_REQUESTS_AHEAD: Final = 256

Given = TypeVar("Given")


class _TooFarAhead(Exception):
    """Ends the reading of requests."""


class BoundedConnection(HttpToolsProtocol):
    """One connection of a client.

    The server closes one that is idle after an answer; this closes one that has never asked, or falls silent before
    the end of what it asks: its client may be gone without a word. Who sends a head (request line, headers or
    trailers) without an end is refused: the parser would keep all of it. Who does not read a long answer is cut off, or
    sends very many requests before their answers come: we would keep all of that. Beyond half of the files that this
    process may open, so are new connections: the other half is for Jobs.
    """

    _received: bytes = b""  # and not parsed yet
    _parsed: bytes = b""  # last
    _watch: asyncio.TimerHandle | None = None
    _seen: object = None  # the request, if any, that was the latest one when it was last looked at
    _has_heard: bool = False  # anything since then
    _unread_bytes: int = 0  # of answers, when it was last looked at
    _looks_without_reading: int = 0  # in a row, at many of these
    _head_bytes: int = 0  # that have come since the last whole head or piece of a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(cast("asyncio.Transport", _JoiningTransport(transport, self.loop)))
        if len(self.connections) > most_connections():
            transport.abort()
        else:
            self._watch = self.loop.call_later(_PATIENCE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._has_heard = True
        self._head_bytes += len(data)
        self._received = data
        while self._received:
            self._parsed, self._received = self._received, b""
            super().data_received(self._parsed)
        if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        """See httptools."""
        if len(self.pipeline) == _MOST_REQUESTS_AHEAD:
            self.transport.abort()
            raise _TooFarAhead
        self._head_bytes = 0
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.headers = []  # for trailers: nobody has checked them, so they are not to be taken for headers

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._head_bytes = 0
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return True  # what is meant by it, handle_websocket_upgrade says

    def handle_websocket_upgrade(self) -> None:
        """Read a request that may be upgraded to another protocol as one that may not: HTTP is all that is spoken here.

        Some clients ask for that with every first request. The parser takes what comes after its head for the other
        protocol, and not for its body.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("This is no proxy.")
            return
        end_of_head = cast("httptools.HttpParserUpgrade", sys.exception()).args[0]
        first = b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._received = b"\r\n".join([first, *headers, b"", self._parsed[end_of_head:]])
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _look(self) -> None:
        unread_bytes, before = self.transport.get_write_buffer_size(), self._unread_bytes
        self._looks_without_reading += 1
        if not unread_bytes == before > _MANY_UNREAD_BYTES:
            self._looks_without_reading = 0
        elif self._looks_without_reading == _PATIENCE_WITH_READERS:
            self.transport.abort()
            return
        cycle = cast("Any", self.cycle)  # None before the first request
        if cycle is None or cycle.response_complete:
            is_over = cycle is self._seen
        else:
            is_over = cycle.more_body and not self._has_heard and not self.flow.read_paused
        if is_over:
            self.transport.close()  # once all is read
        self._seen, self._has_heard, self._unread_bytes = cycle, False, unread_bytes
        self._watch = self.loop.call_later(_PATIENCE_SECONDS, self._look)


class _JoiningTransport:
    """A transport that sends together what is written in one go: the head of an answer and its body, above all.

    Each sending wakes the client, and costs as much as many an answer. What is large does not wait.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""
        if len(self._waiting) + len(data) > _JOINED_BYTES:
            self._send_waiting()
            self._send(data)
        elif data:
            if not self._waiting:
                self._loop.call_soon(self._send_waiting)
            self._waiting += data

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        self._send_waiting()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all else."""
        return getattr(self._transport, name)

    def _send_waiting(self) -> None:
        if self._waiting:
            data, self._waiting = self._waiting, bytearray()
            self._send(data)

    def _send(self, data: bytes | bytearray) -> None:
        if not self._transport.is_closing():  # else its client is gone, and uvloop's would raise
            self._transport.write(data)


def most_connections() -> float:
    """Give how many connections there may be."""
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if most_files == resource.RLIM_INFINITY else most_files // 2


async def while_connected(request: Request, work: Coroutine[Any, Any, Given]) -> Given:
    """Give what work gives; cancel it where its client, whose request has been read, leaves before.

    Raises ClientDisconnect then. For what may take long and use what others wait for.
    """
    working, leaving = tasks = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
