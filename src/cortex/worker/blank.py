"""Blanks, as their supervisor sees them: processes forked from a Template that wait to be told which Worker to be.

A blank has a socket, down which its order goes, and the pipe that it will print to; the other ends are the
supervisor's, and nobody else has either. It says only that it is born, with its process id. An order may be sent before
that: it lies in the socket until then.

Until it has printed a blank is nobody: however it dies, no Worker has died, and the order goes to a fresh process. The
first thing that a Worker does is to print a line; from then on it is the Worker. It ends by itself when the socket is
closed before there is an order in it.
"""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import Final

from cortex.domain.frame import FrameReader

MAX_ORDER_BYTES: Final = 64 * 1024
"""A longer order might find no room in the socket of a blank that does not read yet."""

_READ_BYTES: Final = 1 << 12


@dataclass(slots=True, eq=False)
class Blank:
    """See the module."""

    name: str  # by which its memory is known, also when it is a Worker
    link: socket.socket
    pipe: int
    pid: int | None = None  # None until it is born
    worker: str | None = None  # whose order it was given
    _reader: FrameReader = field(default_factory=FrameReader)

    def give(self, worker: str, order: bytes) -> None:
        """Send it its order, of at most MAX_ORDER_BYTES. Raises OSError when it is gone; then nobody has the order."""
        self.link.sendall(order)  # it is short, and the socket is empty
        self.worker = worker

    def hear(self) -> bool:
        """Take what it says; False once it has hung up."""
        try:
            data = self.link.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for frame in self._reader.feed(data):
            self.pid = frame["pid"]
        return bool(data)

    def end(self) -> None:
        """Let go of one that has no order, and kill it; if it is not born yet, it will find that nobody is there."""
        self.link.close()
        os.close(self.pipe)
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def open_blank(name: str) -> tuple[Blank, tuple[socket.socket, int]]:
    """Give a blank that is not born yet, and what it is to be born with: its socket and its pipe. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        reading, writing = os.pipe()
    except OSError:
        ours.close()
        theirs.close()
        raise
    ours.setblocking(False)
    os.set_blocking(reading, False)
    return Blank(name, ours, reading), (theirs, writing)
