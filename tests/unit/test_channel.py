"""The operator's channel: a socket file."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.frame import Frame, encode
from cortex.engines.engine import Connection
from cortex.operator.channel import listen
from cortex.worker.link import Link, connect

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


Story = Callable[[Heard, Path], Any]


@contextlib.asynccontextmanager
async def listening(folder: Path, heard: Heard) -> AsyncIterator[Path]:
    server = await listen(folder / "channel.sock", heard, heard)
    yield folder / "channel.sock"
    server.close()
    await server.wait_closed()


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], list[Any]]:
    """Tell a story on a channel; give what the operator has heard."""

    def tell_it(story: Story) -> list[Any]:
        async def run() -> list[Any]:
            heard = Heard()
            async with listening(tmp_path, heard) as channel:
                await story(heard, channel)
            return heard.events

        return asyncio.run(run())

    return tell_it


def test_a_worker_is_heard_answered_and_known_to_be_gone(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path) -> None:
        link = await asyncio.to_thread(Link, channel, lambda: HELLO)
        assert {"type": "lease", "token": 1} == await asyncio.to_thread(link.receive)
        link.send({"type": "ready"})
        await heard.until(("says", "w", "ready"))
        link._socket.close()
        await heard.until(("gone", "w"))

    assert [("connected", "w"), ("says", "w", "ready"), ("gone", "w")] == tell(story)


def test_a_supervisor_is_heard_on_the_same_channel(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path) -> None:
        link = await asyncio.to_thread(Link, channel, lambda: {"type": "hello", "role": "supervisor"})
        link.send({"type": "beat"})
        await heard.until(("supervisor says", "beat"))
        link._socket.close()
        await heard.until(("supervisor gone",))

    assert [("supervisor",), ("supervisor says", "beat"), ("supervisor gone",)] == tell(story)


def test_a_worker_introduces_itself_to_the_next_operator(tell: Callable[[Story], list[Any]]) -> None:
    async def story(heard: Heard, channel: Path) -> None:
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
    async def story(heard: Heard, channel: Path) -> None:
        for words in (b"GET / HTTP/1.1\r\n\r\n", encode({"type": "lease_ended"}), encode({"type": "hello"})):
            peer = await asyncio.to_thread(connect, channel)
            peer.sendall(words)
            await asyncio.to_thread(_wait_for_end, peer)

    assert [] == tell(story)


def _wait_for_end(peer: Any) -> None:
    peer.settimeout(30)
    with contextlib.suppress(ConnectionResetError), peer:
        assert b"" == peer.recv(1)


def test_thousands_may_come_before_the_operator_looks(tmp_path: Path) -> None:
    async def story() -> None:
        async with listening(tmp_path, Heard()) as channel:
            with contextlib.ExitStack() as stack:
                for _ in range(500):  # nothing else runs meanwhile; who is refused raises
                    peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                    peer.setblocking(False)
                    peer.connect(str(channel))

    asyncio.run(story())
