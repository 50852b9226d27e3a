"""Where supervisor and Worker find what they take for the operator: a socket file, while there is an operator.

While there is none, nobody listens, so that they notice it as they do on the operator's own machine.
"""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Final, Protocol, cast

from cortex.domain.frame import Frame, FrameError, FrameReader, encode
from cortex.worker.link import short_path

_ROLES: Final = frozenset({"supervisor", "worker"})


class LocalSide(Protocol):
    """Who hears supervisor and Worker; `peer` is which of the two."""

    def local_connected(self, peer: str, hello: Frame) -> None:
        """It introduces itself, perhaps again."""

    def local_says(self, peer: str, frame: Frame) -> None:
        """It says something."""

    def local_closed(self, peer: str) -> None:
        """Its connection is closed, and not by us."""


class LocalChannel:
    """See the module."""

    def __init__(self, path: Path, side: LocalSide) -> None:
        self._path = path
        self._side = side
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._peers: dict[str, _Peer] = {}
        self._unknown: set[_Peer] = set()

    def open(self) -> None:
        """Listen."""
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        with short_path(self._path) as address:
            self._listening.bind(address)
        self._listening.listen()
        self._opening = asyncio.get_running_loop().create_task(self._serve(self._listening))

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.get_running_loop().create_unix_server(lambda: _Peer(self), sock=listening)
        if listening is self._listening:
            self._server = server
        else:
            server.close()

    def close(self) -> None:
        """Listen no more, and cut off whoever is connected; nobody is told of that."""
        self._path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        elif self._listening is not None:
            self._listening.close()
        self._listening = self._server = None
        peers = [*self._peers.values(), *self._unknown]
        self._peers.clear()
        for peer in peers:
            peer.cut_off()

    def has(self, peer: str) -> bool:
        """Tell whether it is connected."""
        return peer in self._peers

    def send(self, peer: str, frame: Frame, data: bytes | None = None) -> None:
        """Send it a frame; lost if it is not connected."""
        if connected := self._peers.get(peer):
            connected.send(frame, data)

    # What peers say

    def came(self, peer: "_Peer") -> None:
        """Somebody has connected."""
        self._unknown.add(peer)

    def hear(self, peer: "_Peer", frame: Frame) -> None:
        """Bring on what somebody says: first of all, who it is. Raises FrameError."""
        if peer.role is not None:
            if self._peers.get(peer.role) is peer:
                self._side.local_says(peer.role, frame)
            return
        if frame["type"] != "hello" or frame.get("role") not in _ROLES:
            raise FrameError(f"the first frame was `{frame['type']}`")
        role = peer.role = cast("str", frame["role"])
        self._unknown.discard(peer)
        if earlier := self._peers.pop(role, None):
            earlier.cut_off()
            self._side.local_closed(role)
        self._peers[role] = peer
        self._side.local_connected(role, frame)

    def went(self, peer: "_Peer") -> None:
        """Somebody has hung up."""
        self._unknown.discard(peer)
        if peer.role is not None and self._peers.get(peer.role) is peer:
            del self._peers[peer.role]
            self._side.local_closed(peer.role)


class _Peer(asyncio.Protocol):
    """Somebody on the channel; `role` is None until it has said who it is."""

    def __init__(self, channel: LocalChannel) -> None:
        self.role: str | None = None
        self._channel = channel
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._channel.came(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            for frame in self._reader.feed(data):
                self._channel.hear(self, frame)
        except FrameError:
            self.cut_off()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._transport = None
        self._channel.went(self)

    def send(self, frame: Frame, data: bytes | None) -> None:
        """Send a frame."""
        if self._transport is not None:
            self._transport.write(encode(frame, data))

    def cut_off(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.abort()
