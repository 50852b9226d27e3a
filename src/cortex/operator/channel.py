"""The operator's end of the channel: a socket file on which supervisors and Workers of this machine speak frames.

Whoever may open the socket file is of our own user. Those on other machines come by the door (operator/stations).
"""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Final, Protocol, cast

from cortex.domain.frame import Frame, FrameError, FrameReader, encode
from cortex.engines.engine import Connection, Elsewhere
from cortex.worker.link import short_path

logger = logging.getLogger(__name__)

_BACKLOG: Final = 4096
"""How many peers may come at once: after a restart of the operator, every Worker does."""


class WorkerSide(Protocol):
    """Who hears Workers."""

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A Worker introduces itself."""

    def worker_says(self, worker: str, frame: Frame) -> None:
        """It says something, or its station says what it has written: `written`."""

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        """Its connection is closed."""


class SupervisorSide(Protocol):
    """Who hears supervisors."""

    def supervisor_connected(self, connection: Connection, hello: Frame) -> None:
        """A supervisor introduces itself."""

    def supervisor_says(self, frame: Frame) -> None:
        """It says something."""

    def supervisor_lost(self, connection: Connection) -> None:
        """Its connection is closed."""


class LocalConnection(asyncio.Protocol):
    """One peer. Its first frame is a `hello` that says who it is."""

    def __init__(self, workers: WorkerSide, supervisors: SupervisorSide) -> None:
        self._workers = workers
        self._supervisors = supervisors
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._role: str | None = None
        self._worker = ""

    @property
    def elsewhere(self) -> Elsewhere | None:
        """See Connection."""
        return None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # it is that of the loop: uvloop's has no such base

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. A peer that does not keep to the protocol is cut off; the operator goes on."""
        try:
            for frame in self._reader.feed(data):
                self._hear(frame)
        except (FrameError, KeyError, TypeError, ValueError):
            logger.exception("a peer on the channel is cut off")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._transport = None
        if self._role == "worker":
            self._workers.worker_disconnected(self._worker, self)
        elif self._role == "supervisor":
            self._supervisors.supervisor_lost(self)

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """Send a frame, with its data; it is lost if the peer is gone, and then its leaving is told."""
        if self._transport is not None:
            self._transport.write(encode(frame, data))

    def close(self) -> None:
        """Cut the peer off."""
        if self._transport is not None:
            self._transport.abort()

    def _hear(self, frame: Frame) -> None:
        if self._role == "worker":
            self._workers.worker_says(self._worker, frame)
        elif self._role == "supervisor":
            self._supervisors.supervisor_says(frame)
        elif frame["type"] == "hello" and frame["role"] == "worker":
            self._role, self._worker = "worker", frame["worker"]
            self._workers.worker_connected(self._worker, self, frame)
        elif frame["type"] == "hello" and frame["role"] == "supervisor":
            self._role = "supervisor"
            self._supervisors.supervisor_connected(self, frame)
        else:
            raise FrameError(f"the first frame was `{frame['type']}`")


async def listen(path: Path, workers: WorkerSide, supervisors: SupervisorSide) -> asyncio.Server:
    """Listen on a socket file, which only this user can reach."""
    path.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(short_path(path))
        server = await loop.create_unix_server(lambda: LocalConnection(workers, supervisors), address, backlog=_BACKLOG)
    os.chmod(path, 0o600)  # noqa: PTH101 - a socket file
    return server
