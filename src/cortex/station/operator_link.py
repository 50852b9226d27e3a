"""The connection to the operator, made again and again.

What is to be told is read from files only when there is room to send it, so a slow connection costs no memory: it is
handed over as iterators, which are gone through in order. What a connection was lost with is lost; whoever hears that
the operator is there again tells what it must know.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, Protocol, cast

from cortex.domain.frame import Frame, FrameError, FrameReader, Message, encode
from cortex.domain.silence import BEAT_SECONDS
from cortex.station.messages import Told

_CONNECT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.2
_LAST_WORDS_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.01
_WRITE_BYTES: Final = 256 * 1024
_BUFFER_BYTES: Final = 1024 * 1024


class OperatorSide(Protocol):
    """Who hears the operator."""

    def operator_there(self) -> None:
        """It listens: from now on it can be told things."""

    def operator_says(self, frame: Frame) -> None:
        """It says something."""

    def operator_gone(self) -> None:
        """It was there, and its connection is lost."""

    def beat(self) -> Iterable[Message]:
        """Give what is told each second: also before it is there, when that is all that it is told."""

    def cannot_tell(self, error: OSError) -> None:
        """What was to be told could not be read."""


class OperatorLink(asyncio.Protocol):
    """See the module. It counts as being there when it has said something on this connection."""

    def __init__(
        self, host: str, port: int, *, heartbeat_seconds: float, hello: Callable[[], Frame], side: OperatorSide
    ) -> None:
        self._host = host
        self._port = port
        self._heartbeat_seconds = heartbeat_seconds
        self._hello = hello
        self._side = side
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._reader = FrameReader()
        self._is_there = False
        self._is_full = False
        self._is_writing = False
        self._waiting: deque[Iterator[Told]] = deque()
        self._unknown: asyncio.Future[Iterable[Message]] | None = None  # what is told next, once it is known
        self._beats_unheard = 0
        self._next_beat: asyncio.TimerHandle | None = None

    @property
    def is_there(self) -> bool:
        """True while the operator can be told things."""
        return self._is_there

    async def run(self) -> None:
        """Be connected, until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await loop.create_connection(lambda: self, self._host, self._port)
            except OSError:
                was_there = False
            else:
                was_there = await self._until_lost()
            if not was_there:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _until_lost(self) -> bool:
        """Wait; tell whether the operator was there."""
        await self._lost.wait()
        was_there, self._is_there = self._is_there, False
        if was_there:
            self._side.operator_gone()
        return was_there

    def tell(self, messages: Iterable[Told]) -> None:
        """Tell this after all that is being told; nothing while the operator is not there."""
        if self._is_there and self._transport is not None:
            self._waiting.append(iter(messages))
            self._write()

    async def finish(self) -> None:
        """Wait until the operator has all that it was told and has hung up, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                while self._waiting:
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                if self._transport is not None:
                    # Not `close`: what is unread here would have the kernel drop what is unread there.
                    self._transport.write_eof()
                    await self._lost.wait()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._reader, self._is_full, self._beats_unheard = FrameReader(), False, 0
        self._lost.clear()
        self._transport.write(encode(self._hello()))
        self._beat()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._beats_unheard = 0
        if not self._is_there:
            self._is_there = True
            self._side.operator_there()
        try:
            for frame in self._reader.feed(data):
                self._side.operator_says(frame)
        except FrameError:
            self._cut_off()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = True

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_full = False
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._transport = None
        self._waiting.clear()
        self._unknown = None
        if self._next_beat is not None:
            self._next_beat.cancel()
        self._lost.set()

    def _cut_off(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _beat(self) -> None:
        """Show that we live. An operator that has been silent for so many beats is not there any more."""
        # Beats are counted and no clock is asked: whoever was stopped itself has not listened in the meantime.
        if (self._beats_unheard - 1) * BEAT_SECONDS >= self._heartbeat_seconds:
            self._cut_off()
            return
        self._beats_unheard += 1
        self._next_beat = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)
        if self._is_there and self._unknown is None:
            self.tell(self._side.beat())
        elif self._transport is not None:
            self._transport.writelines([encode(*message) for message in self._side.beat()])

    def _write(self) -> None:
        """Write what waits, as far as there is room."""
        if self._is_writing:  # whoever is asked for a message has told something
            return
        self._is_writing = True
        try:
            while self._waiting and self._unknown is None and not self._is_full and self._transport is not None:
                if ready := self._next():
                    self._transport.write(b"".join(ready))
        finally:
            self._is_writing = False

    def _next(self) -> list[bytes]:
        """Take some of what waits, for one write."""
        ready: list[bytes] = []
        size = 0
        while self._waiting and self._unknown is None and size < _WRITE_BYTES:
            try:
                message = next(self._waiting[0], None)
            except OSError as error:
                message = None
                self._side.cannot_tell(error)
            if message is None:
                self._waiting.popleft()
            elif isinstance(message, asyncio.Future):
                self._unknown = message
                message.add_done_callback(self._known)
            else:
                ready.append(encode(*message))
                size += len(ready[-1])
        return ready

    def _known(self, future: "asyncio.Future[Iterable[Message]]") -> None:
        """Go on, now that it is known what is to be told; nothing, if the connection was lost meanwhile."""
        if future is self._unknown:
            self._unknown = None
            self._waiting.appendleft(iter(future.result()))
            self._write()
