"""The channel, and a real process on it, as an operator and a supervisor see them: the test is both."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.worker import start

TIMEOUT_SECONDS = 60


class Peer:
    """Who has connected to the channel, and introduced itself."""

    def __init__(self, listener: socket.socket) -> None:
        self._link, _ = listener.accept()
        self._link.settimeout(TIMEOUT_SECONDS)
        self._reader, self._heard = FrameReader(), list[Frame]()
        self.hello = self.hear()

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """Send a frame."""
        self._link.sendall(encode(frame, data))

    def hear(self) -> Frame:
        """Give what it says next. Fails where it ends instead."""
        while not self._heard:
            data = self._link.recv(1 << 16)
            assert data, "it has ended"
            self._heard = self._reader.feed(data)
        return self._heard.pop(0)

    def close(self) -> None:
        """Hang up."""
        self._link.close()


def listen(channel: Path) -> socket.socket:
    """Open a channel, as an operator does."""
    channel.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(channel))
    listener.listen()
    listener.settimeout(TIMEOUT_SECONDS)
    return listener


def start_worker(order: Mapping[str, Any]) -> "subprocess.Popen[str]":
    """Start a fresh process for an order, as a supervisor does; it prints to the test."""
    process = subprocess.Popen(
        [sys.executable, "-P", start.__file__, "worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({**order, "memory_group": None, "supervisor_pid": os.getpid()}))
    process.stdin.close()
    process.stdin = None  # so that communicate leaves it alone
    return process
