"""The operator's end of the channel: sockets on which supervisors and Workers speak frames.

Whoever may open the socket file is of our own user. Over TCP anybody may come, so there the first frame holds a
secret that only this user can read; who does not know it is cut off, as is who keeps silent.
"""

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
from pathlib import Path
from typing import Final, Protocol, cast

from cortex.domain.frame import Frame, FrameError, FrameReader, encode
from cortex.storage.files import write_durably
from cortex.worker.link import short_path

logger = logging.getLogger(__name__)

_BACKLOG: Final = 4096
"""How many peers may come at once: after a restart of the operator, every Worker does."""

_HELLO_SECONDS: Final = 10.0
"""How long a peer over TCP has to introduce itself."""

_HELLO_BYTES: Final = 4 * 1024 * 1024
"""How much it may say before: a supervisor introduces itself with all of its Workers."""


class WorkerSide(Protocol):
    """Who hears Workers."""

    def worker_connected(self, worker: str, connection: "Connection", hello: Frame) -> None:
        """A Worker introduces itself."""

    def worker_says(self, worker: str, frame: Frame) -> None:
        """It says something."""

    def worker_disconnected(self, worker: str, connection: "Connection") -> None:
        """Its connection is closed."""


class SupervisorSide(Protocol):
    """Who hears supervisors."""

    def supervisor_connected(self, connection: "Connection", hello: Frame) -> None:
        """A supervisor introduces itself."""

    def supervisor_says(self, frame: Frame) -> None:
        """It says something."""

    def supervisor_lost(self, connection: "Connection") -> None:
        """Its connection is closed."""


class Connection(asyncio.Protocol):
    """One peer. Its first frame is a `hello` that says who it is, with the secret if there is one."""

    def __init__(self, workers: WorkerSide, supervisors: SupervisorSide, *, secret: str | None = None) -> None:
        self._workers = workers
        self._supervisors = supervisors
        self._secret = secret
        self._deadline: asyncio.TimerHandle | None = None
        self._unknown_bytes = 0  # before it has introduced itself
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._role: str | None = None
        self._worker = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # it is that of the loop: uvloop's has no such base
        if self._secret is not None:
            self._deadline = asyncio.get_running_loop().call_later(_HELLO_SECONDS, self._close_if_silent)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. A peer that does not keep to the protocol is cut off; the operator goes on."""
        try:
            if self._role is None:
                self._count_unknown(len(data))
            for frame in self._reader.feed(data):
                self._hear(frame)
        except (FrameError, KeyError, TypeError, ValueError):
            logger.exception("a peer on the channel is cut off")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
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

    def _count_unknown(self, count: int) -> None:
        self._unknown_bytes += count
        if self._secret is not None and self._unknown_bytes > _HELLO_BYTES:
            raise FrameError(f"{self._unknown_bytes} bytes before it has introduced itself")

    def _close_if_silent(self) -> None:
        if self._role is None:
            self.close()

    def _hear(self, frame: Frame) -> None:
        if self._role == "worker":
            self._workers.worker_says(self._worker, frame)
        elif self._role == "supervisor":
            self._supervisors.supervisor_says(frame)
        elif not self._knows_secret(frame):
            raise FrameError("it does not know the secret of this channel")
        elif frame["type"] == "hello" and frame["role"] == "worker":
            self._role, self._worker = "worker", frame["worker"]
            self._workers.worker_connected(self._worker, self, frame)
        elif frame["type"] == "hello" and frame["role"] == "supervisor":
            self._role = "supervisor"
            self._supervisors.supervisor_connected(self, frame)
        else:
            raise FrameError(f"the first frame was `{frame['type']}`")

    def _knows_secret(self, hello: Frame) -> bool:
        if self._secret is None:
            return True
        told = hello.get("secret")
        return isinstance(told, str) and hmac.compare_digest(self._secret.encode(), told.encode())


async def open_channels(
    data: Path, tcp: tuple[str, int] | None, workers: WorkerSide, supervisors: SupervisorSide
) -> list[asyncio.Server]:
    """Listen on the socket file of a data directory, and on a port of this machine where one is given."""
    channels = [await listen(data / "channel.sock", workers, supervisors)]
    if tcp is not None:
        host, port = tcp
        channels.append(await listen_on_tcp(host, port, channel_secret(data / "channel.secret"), workers, supervisors))
    return channels


async def listen(path: Path, workers: WorkerSide, supervisors: SupervisorSide) -> asyncio.Server:
    """Listen on a socket file, which only this user can reach."""
    path.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(short_path(path))
        server = await loop.create_unix_server(lambda: Connection(workers, supervisors), address, backlog=_BACKLOG)
    os.chmod(path, 0o600)  # noqa: PTH101 - a socket file
    return server


async def listen_on_tcp(
    host: str, port: int, secret: str, workers: WorkerSide, supervisors: SupervisorSide
) -> asyncio.Server:
    """Listen on a port; port 0 is any that is free."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Connection(workers, supervisors, secret=secret), host, port, backlog=_BACKLOG
    )


def channel_secret(path: Path) -> str:
    """Give the secret of a data directory's channel, made up once; only this user can read its file.

    It stays the same for all operators, since Workers outlive them.
    """
    if not path.exists():
        new = path.with_suffix(".new")  # an operator that dies here leaves no secret that is cut short
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        write_durably(new, secrets.token_hex(32).encode())  # or a power cut might leave an empty one, which all know
        new.replace(path)
    return path.read_text(encoding="ascii")
