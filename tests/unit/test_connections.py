"""Connections that ask nothing, and too many of them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from uvicorn.server import ServerState

from cortex.web import connections
from cortex.web.connections import BoundedConnection, while_connected

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connect(Protocol):
    """Connect to what is served, having sent this before the server looks."""

    async def __call__(self, sent: bytes = b"") -> Streams: ...


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[Connect]:
    """Serve an application on loopback; give what connects to it."""
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: BoundedConnection(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    opened: list[asyncio.StreamWriter] = []

    async def connect(sent: bytes = b"") -> Streams:
        connected = socket.create_connection(server.sockets[0].getsockname())
        connected.sendall(sent)
        streams = await asyncio.open_connection(sock=connected)
        opened.append(streams[1])
        return streams

    try:
        yield connect
    finally:
        for writer in opened:
            writer.close()
        server.close()
        await server.wait_closed()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST[:-2], REQUEST + b"GET / HTTP/1.1\r\nX"])
def test_a_connection_that_does_not_come_to_ask_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_SECONDS", 0.01)

    async def ask() -> bytes:
        async with serving(answer) as connect:
            reader, _ = await connect(sent)
            return await reader.read()  # to its end

    assert asyncio.run(ask()).count(b" 204 ") == sent.count(REQUEST)


def test_a_head_without_an_end_is_refused() -> None:
    async def ask() -> bytes:
        async with serving(answer) as connect:
            reader, _ = await connect(b"GET / HTTP/1.1\r\n" + b"X-Filler: 0123456789\r\n" * 4096)
            return await reader.readline()

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 400 ")


def test_many_requests_with_large_bodies_on_one_connection_are_no_long_head() -> None:
    async def ask() -> bytes:
        async with serving(answer) as connect:
            reader, writer = await connect()
            for _ in range(4):
                writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n" + bytes(50000))
                await writer.drain()
            return b"".join([await reader.readuntil(b"\r\n\r\n") for _ in range(4)])

    assert asyncio.run(ask()).count(b" 204 ") == 4


def test_a_connection_that_waits_for_its_answer_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_SECONDS", 0.01)

    async def ask() -> bytes:
        others_are_gone = asyncio.Event()

        async def answer_late(scope: Any, receive: Any, send: Any) -> None:
            await others_are_gone.wait()
            await answer(scope, receive, send)

        async with serving(answer_late) as connect:
            reader, _ = await connect(REQUEST)
            for _ in range(5):
                idle, _ = await connect()
                await idle.read()
            others_are_gone.set()
            return await reader.readline()

    assert b" 204 " in asyncio.run(ask())


def test_connections_beyond_the_bound_are_cut_off_and_those_within_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "most_connections", lambda: 2)

    async def ask() -> tuple[bytes, bytes]:
        async with serving(answer) as connect:
            (first, writing), _ = await connect(), await connect()
            third, _ = await connect()
            try:
                end = await third.read()
            except ConnectionResetError:
                end = b""
            writing.write(REQUEST)
            return end, await first.readline()

    end, served = asyncio.run(ask())
    assert end == b""
    assert b" 204 " in served


def test_a_connection_that_falls_silent_within_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_SECONDS", 0.01)
    heard: list[bytes] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message["body"])

    async def ask() -> bytes:
        async with serving(listen) as connect:
            reader, _ = await connect(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf")
            return await reader.read()  # to its end

    assert asyncio.run(ask()) == b""
    assert heard == [b"half"]


def test_who_takes_us_for_a_proxy_is_refused() -> None:
    wire = answered(answer, b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n")

    assert b"".join(wire.sent).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("answers", "requests"), [(257, 257), (0, 258)])
def test_who_sends_very_many_requests_ahead_is_cut_off(answers: int, requests: int) -> None:
    wire = answered(answer, REQUEST * requests)

    assert answers == b"".join(wire.sent).count(b" 204 ")
    assert wire.is_cut is (answers == 0)


@pytest.mark.parametrize("cut", [1, 60, 89, 90, 91, 100, None])
def test_a_request_that_may_be_upgraded_is_read_to_its_end_as_any_other(cut: int | None) -> None:
    asked: list[tuple[str, str, bytes]] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body, has_more = body + message["body"], message["more_body"]
        asked.append((scope["method"], scope["path"], body))
        await answer(scope, receive, send)

    head = b"POST /a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
    wire = answered(listen, head % len(REQUEST) + REQUEST + head % 0 + REQUEST, cut=cut)

    assert [("POST", "/a", REQUEST), ("POST", "/a", b""), ("GET", "/", b"")] == asked
    assert 3 == b"".join(wire.sent).count(b" 204 ")


def test_trailers_are_no_headers() -> None:
    headers: list[tuple[bytes, bytes]] = []

    async def read_to_the_end(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        headers.extend(scope["headers"])
        await answer(scope, receive, send)

    async def ask() -> bytes:
        async with serving(read_to_the_end) as connect:
            body = b"1\r\na\r\n0\r\nAuthorization: Bearer key\r\nContent-Type: text/x\r\n\r\n"
            reader, _ = await connect(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            return await reader.readline()

    assert b" 204 " in asyncio.run(ask())
    assert [(b"host", b"h"), (b"transfer-encoding", b"chunked")] == headers


MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("is_cut_off", "unread"),
    [
        (True, [3 * MEGABYTE] + [2 * MEGABYTE] * 5),
        (False, [3 * MEGABYTE] * 4 + [2 * MEGABYTE] * 4),
        (False, [MEGABYTE // 2] * 9),  # of a stream, whose client may well take its time
    ],
)
def test_who_does_not_read_a_long_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, is_cut_off: bool, unread: list[int]
) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_SECONDS", 0)

    async def wait() -> bool:
        wire, looks = Wire(), iter(unread)
        is_over = asyncio.Event()

        def look() -> int:
            size = next(looks, None)
            if size is None:
                is_over.set()
            return size or 0

        def cut() -> None:
            Wire.abort(wire)
            is_over.set()

        monkeypatch.setattr(wire, "get_write_buffer_size", look)
        monkeypatch.setattr(wire, "abort", cut)
        connection = new_connection(answer)
        connection.connection_made(wire)
        connection.data_received(REQUEST[:-2])
        await is_over.wait()
        connection.connection_lost(None)
        return wire.is_cut

    assert asyncio.run(wait()) is is_cut_off


# Work for a client


def requested(*messages: str) -> Request:
    """Make a request whose client sends these messages, and then nothing."""
    coming = iter(messages)

    async def receive() -> Any:
        kind = next(coming, None)
        if kind is None:
            await asyncio.Event().wait()
        return {"type": kind}

    return Request({"type": "http"}, receive)


def test_work_for_a_client_that_leaves_is_cancelled_and_over() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("over")

    async def ask() -> None:
        with pytest.raises(ClientDisconnect):
            await while_connected(requested("http.request", "http.disconnect"), work())
        assert told == ["over"]

    asyncio.run(ask())


def test_a_client_that_stays_is_given_what_the_work_gives() -> None:
    async def work(of: int) -> float:
        await asyncio.sleep(0)
        return 1 / of

    async def ask() -> None:
        assert await while_connected(requested("http.request"), work(2)) == 0.5
        with pytest.raises(ZeroDivisionError):
            await while_connected(requested(), work(0))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(ask())


# What is sent together


class Wire(asyncio.Transport):
    """Remembers what is sent, and in how many goes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.sent_when_closed: list[bytes] | None = None
        self.is_cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.sent_when_closed = self.sent_when_closed or list(self.sent)

    def is_closing(self) -> bool:
        return self.sent_when_closed is not None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        self.is_cut = True
        self.close()


def new_connection(application: Any) -> BoundedConnection:
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    return BoundedConnection(config=config, server_state=ServerState(), app_state={})


def answered(application: Any, request: bytes, wire: Wire | None = None, *, cut: int | None = None) -> Wire:
    """Have a request answered to its end, which may come in two pieces; give what was sent."""
    wire = wire or Wire()

    async def ask() -> Wire:
        connection = new_connection(application)
        connection.connection_made(wire)
        if cut is not None:
            connection.data_received(request[:cut])
            await asyncio.sleep(0)
        connection.data_received(request[cut:])
        while connection.tasks:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # what was written last is sent then
        connection.connection_lost(None)
        return wire

    return asyncio.run(ask())


async def answer_at_length(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"200010")]})
    for part in (b"a" * 5, b"b" * 200_000, b"c" * 5):
        await send({"type": "http.response.body", "body": part, "more_body": part[:1] != b"c"})


def test_the_head_of_an_answer_is_sent_with_its_body() -> None:
    async def greet(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    wire = answered(greet, REQUEST)

    assert [b"hello"] == [each[-5:] for each in wire.sent]


def test_what_is_large_is_sent_at_once_and_in_order() -> None:
    wire = answered(answer_at_length, REQUEST)

    assert [b"a" * 5, b"b" * 200_000, b"c" * 5] == [wire.sent[0][-5:], *wire.sent[1:]]


def test_a_connection_is_closed_behind_its_answer() -> None:
    wire = answered(answer_at_length, REQUEST.replace(b"Host", b"Connection: close\r\nHost"))

    assert b"c" * 5 == wire.sent[-1]
    assert wire.sent == wire.sent_when_closed


def test_nothing_is_sent_to_a_client_that_is_gone() -> None:
    async def answer_to_nobody(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100005")]})
        wire.abort()
        await send({"type": "http.response.body", "body": b"b" * 100_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"c" * 5})

    wire = Wire()
    answered(answer_to_nobody, REQUEST, wire)

    assert [] == wire.sent
