"""The connection to the operator, or to the station that stands for it, which survives the operator."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame, FrameReader, encode

ORPHAN_SECONDS: Final = 30.0
"""How long to wait for an operator to come back before giving up."""

_RETRY_SECONDS: Final = 0.05
_MAX_SOCKET_PATH: Final = 100


class OperatorGone(Exception):
    """No operator came back in time."""


def connect(channel: Path) -> socket.socket:
    """Connect to the operator's channel. Raises OSError when nobody listens."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(channel) as address:
            link.connect(address)
    except OSError:
        link.close()
        raise
    return link


def offer(link: socket.socket, frame: Frame) -> None:
    """Send a small frame, or drop it if the peer has long not read: it may be stopped, and we are not to wait for it.

    Raises OSError when the peer is gone.
    """
    with contextlib.suppress(BlockingIOError):
        link.send(encode(frame), socket.MSG_DONTWAIT)  # so little is never sent in part


class short_path(contextlib.AbstractContextManager[str]):  # noqa: N801 - used like a function
    """An address for a socket file however deep it lies: the kernel takes 107 characters, folders may be longer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _MAX_SOCKET_PATH:
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            os.close(self._folder)


class Link:
    """Frames to and from the operator, blocking.

    When the operator goes away, the link waits for the next one and introduces itself with `hello`, which says all
    that the new operator must know; so a frame that could not be sent is not sent again.

    One thread receives. Others may send by `send_or_lose`, while they hold `sending`: it is held here when the operator
    changes, so what `hello` says is true until the first of them sends to the new one.
    """

    def __init__(self, channel: Path, hello: Callable[[], Frame]) -> None:
        self._channel = channel
        self._hello = hello
        self._reader = FrameReader()
        self._received: list[Frame] = []
        self.sending = threading.Lock()
        self._socket: socket.socket
        self._connect()

    def send(self, frame: Frame) -> None:
        """Send a frame, or introduce ourselves to the next operator instead."""
        try:
            self._socket.sendall(encode(frame))
        except OSError:
            self._reconnect()

    def send_or_lose(self, data: bytes) -> None:
        """Send encoded frames; if the operator is gone, they are lost with it."""
        with contextlib.suppress(OSError):  # whoever receives will find out
            self._socket.sendall(data)

    def receive(self) -> Frame:
        """Wait for the next frame. Raises OperatorGone when no operator came back in time."""
        while not self._received:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            if data:
                self._received = self._reader.feed(data)
            else:
                self._reconnect()
        return self._received.pop(0)

    def wait_for_end(self) -> None:
        """Wait until the operator, which knows by now why this process is of no use, says that it may end."""
        while self.receive()["type"] != "end":
            continue

    def _reconnect(self) -> None:
        with self.sending:
            self._socket.close()
        self._connect()

    def _connect(self) -> None:
        self._reader, self._received = FrameReader(), []
        deadline = time.monotonic() + ORPHAN_SECONDS
        while time.monotonic() < deadline:
            try:
                self._introduce()
            except OSError:
                time.sleep(_RETRY_SECONDS)
            else:
                return
        raise OperatorGone

    def _introduce(self) -> None:
        with self.sending:
            self._socket = connect(self._channel)
            self._socket.sendall(encode(self._hello()))
