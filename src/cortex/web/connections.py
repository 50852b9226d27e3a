"""Connections that cannot use up what the operator's Jobs need: they are bounded, and those that ask nothing end."""

import asyncio
import resource
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, cast

from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

_PATIENCE_SECONDS: Final = 30.0
_JOINED_BYTES: Final = 64 * 1024

Given = TypeVar("Given")


class BoundedConnection(H11Protocol):
    """One connection of a client.

    The server closes one that is idle after an answer; this closes one that has never asked, or falls silent before
    the end of what it asks: its client may be gone without a word. Beyond half of the files that this process may
    open, new connections are cut off: the other half is for Jobs.
    """

    _watch: asyncio.TimerHandle | None = None
    _seen: object = None  # the request, if any, that was the latest one when it was last looked at
    _has_heard: bool = False  # anything since then

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
        super().data_received(data)

    def _look(self) -> None:
        cycle = cast("Any", self.cycle)  # None before the first request
        if cycle is None or cycle.response_complete:
            is_over = cycle is self._seen
        else:
            is_over = cycle.more_body and not self._has_heard and not self.flow.read_paused
        if is_over:
            self.transport.close()
            return
        self._seen, self._has_heard = cycle, False
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
            self._send()
            self._transport.write(data)
        elif data:
            if not self._waiting:
                self._loop.call_soon(self._send)
            self._waiting += data

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all else."""
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._waiting:
            data, self._waiting = self._waiting, bytearray()
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
