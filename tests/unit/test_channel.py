"""The operator's channel, over a socket file and over TCP: the same promises for both."""

import asyncio
import contextlib
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.frame import Frame, encode
from cortex.operator import channel as channel_module
from cortex.operator.channel import Connection, channel_secret, listen, listen_on_tcp
from cortex.worker.link import Link, TcpChannel, connect

SECRET = "5ec7e7"
HELLO: Frame = {"type": "hello", "role": "worker", "worker": "w"}


class Heard:
    """Both sides of the channel: keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.changed = asyncio.Event()

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        self._note("connected", worker)
        connection.send({"type": "lease", "token": 1})

    def worker_says(self, worker: str, frame: Frame) -> None:
        self._note("says", worker, frame["type"])

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        self._note("gone", worker)

    def supervisor_connected(self, connection: Connection, hello: Frame) -> None:
        self._note("supervisor")

    def supervisor_says(self, frame: Frame) -> None:
        self._note("supervisor says", frame["type"])

    def supervisor_lost(self, connection: Connection) -> None:
        self._note("supervisor gone")

    async def until(self, event: tuple[Any, ...]) -> None:
        while event not in self.events:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), timeout=30)


Story = Callable[[Heard, Path | TcpChannel], Any]


@contextlib.asynccontextmanager
async def listening(transport: str, folder: Path, heard: Heard) -> AsyncIterator[Path | TcpChannel]:
    if transport == "unix":
        server, channel = await listen(folder / "channel.sock", heard, heard), folder / "channel.sock"
        yield channel
    else:
        server = await listen_on_tcp("127.0.0.1", 0, SECRET, heard, heard)
        yield TcpChannel(host="127.0.0.1", port=server.sockets[0].getsockname()[1], secret=SECRET)
    server.close()
    await server.wait_closed()


@pytest.fixture(params=["unix", "tcp"])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], list[Any]]:
    """Tell a story on a channel; give what the operator has heard."""

    def tell_it(story: Story) -> list[Any]:
        async def run() -> list[Any]:
            heard = Heard()
            async with listening(request.param, tmp_path, heard) as channel:
                await story(heard, channel)
            return heard.events

        return asyncio.run(run())

    return tell_it


def test_a_worker_is_heard_answered_and_known_to_be_gone(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path | TcpChannel) -> None:
        link = await asyncio.to_thread(Link, channel, lambda: HELLO)
        assert {"type": "lease", "token": 1} == await asyncio.to_thread(link.receive)
        link.send({"type": "ready"})
        await heard.until(("says", "w", "ready"))
        link._socket.close()
        await heard.until(("gone", "w"))

    assert [("connected", "w"), ("says", "w", "ready"), ("gone", "w")] == tell(story)


def test_a_supervisor_is_heard_on_the_same_channel(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path | TcpChannel) -> None:
        link = await asyncio.to_thread(Link, channel, lambda: {"type": "hello", "role": "supervisor"})
        link.send({"type": "beat"})
        await heard.until(("supervisor says", "beat"))
        link._socket.close()
        await heard.until(("supervisor gone",))

    assert [("supervisor",), ("supervisor says", "beat"), ("supervisor gone",)] == tell(story)


def test_a_worker_introduces_itself_to_the_next_operator(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path | TcpChannel) -> None:
        link = await asyncio.to_thread(Link, channel, lambda: HELLO)
        await heard.until(("connected", "w"))
        heard.events.clear()
        thread = threading.Thread(target=lambda: [link.receive(), link.receive()])
        thread.start()
        link._socket.shutdown(2)
        await heard.until(("connected", "w"))
        await asyncio.to_thread(thread.join)
        link._socket.close()
        await heard.until(("gone", "w"))

    assert ("connected", "w") in tell(story)


def test_who_does_not_keep_to_the_protocol_is_cut_off(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path | TcpChannel) -> None:
        for words in (b"GET / HTTP/1.1\r\n\r\n", encode({"type": "lease_ended"}), encode({"type": "hello"})):
            peer = await asyncio.to_thread(connect, channel)
            peer.sendall(words)
            await asyncio.to_thread(_wait_for_end, peer)

    assert [] == tell(story)


def _wait_for_end(peer: Any) -> None:
    peer.settimeout(30)
    with contextlib.suppress(ConnectionResetError), peer:
        assert b"" == peer.recv(1)


@pytest.mark.parametrize("told", [{}, {"secret": ""}, {"secret": SECRET[:-1]}, {"secret": "é"}, {"secret": 7}])
def test_who_does_not_know_the_secret_is_cut_off_over_tcp_and_the_operator_hears_nothing_of_it(told: Frame) -> None:
    async def story() -> list[Any]:
        heard = Heard()
        async with listening("tcp", Path(), heard) as channel:
            peer = await asyncio.to_thread(connect, channel)
            peer.sendall(encode({**HELLO, **told}) + encode({"type": "ready"}))
            await asyncio.to_thread(_wait_for_end, peer)
        return heard.events

    assert [] == asyncio.run(story())


@pytest.mark.parametrize("limit", ["_HELLO_SECONDS", "_HELLO_BYTES"])
def test_who_does_not_introduce_itself_over_tcp_is_cut_off(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, limit, 0)

    async def story() -> None:
        async with listening("tcp", Path(), Heard()) as channel:
            peer = await asyncio.to_thread(connect, channel)
            peer.sendall(b"\xff\0\0\0" if limit == "_HELLO_BYTES" else b"")
            await asyncio.to_thread(_wait_for_end, peer)

    asyncio.run(story())


def test_the_secret_is_made_once_and_only_this_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "channel.secret"
    (tmp_path / "channel.new").write_text("half of one")
    secret = channel_secret(path)

    assert 64 == len(secret)
    assert secret == channel_secret(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "channel.secret"
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append((os.fstat(file).st_size, path.exists())))

    channel_secret(path)

    assert [(64, False)] == synced


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(TcpChannel(host="127.0.0.1", port=1, secret=SECRET))


def test_thousands_may_come_before_the_operator_looks(tmp_path: Path) -> None:
    async def story() -> None:
        async with listening("unix", tmp_path, Heard()) as channel:
            with contextlib.ExitStack() as stack:
                for _ in range(500):  # nothing else runs meanwhile; who is refused raises
                    peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                    peer.setblocking(False)
                    peer.connect(str(channel))

    asyncio.run(story())
