"""The fork server, as the operator sees it: one process that imports what children need, and forks them.

They are at the two ends of a socket that keeps messages apart; each message is one frame of `domain.frame`. The
operator asks:

- `fork`, with the number of a call, what is to be imported before, and two file descriptors: the child's end of its
  conversation, which is its standard input and output, and its log, which is its standard error;
- `kill` of a call: the child, and every process that it has started, gets SIGKILL. Of one that has ended it means
  nothing, so that no process is ever hit which has only got its number.

The server says of each message that it was `taken`, at once. It tells of every call exactly once that it has `ended`,
with the status, when the child is reaped and what that had started is killed. Or that it was `refused`: no child can be
forked, because the server has threads, say. It hangs up when the operator does, and dies with it; with the server all
its children die.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO, Final

from cortex.domain.frame import Frame, FrameReader, encode

_READ_BYTES: Final = 1 << 16
_SILENT_SECONDS: Final = 30.0
"""A server that takes no message for so long is stopped, or hangs, and is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a child ended."""

    status: int  # an exit code, negative for a signal
    is_its_own: bool = True  # False where it ended with its server, or never began


class CannotFork(Exception):
    """The server takes no call any more."""


class ForkServer:
    """See the module. To be made, and used, in the thread of a running event loop, which it never blocks."""

    def __init__(self, log: BinaryIO, gone: Callable[["ForkServer"], None]) -> None:
        """Start it; it is not waited for. `gone` is told when it has ended and all its calls know. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._numbers = count()
        self._calls: dict[int, asyncio.Future[End]] = {}
        self._has_ended: asyncio.Future[None] = self._loop.create_future()
        self._reader = FrameReader()
        self._unanswered = 0
        self._silence: asyncio.TimerHandle | None = None  # at the end of which it is killed
        self.has_been_ended = False  # by `end`; else, when it is gone, it has died
        self.can_fork = True
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "cortex.child_process", str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # a Ctrl-C in the operator's terminal is the operator's to handle
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._link = ours
        self._loop.add_reader(ours.fileno(), self._hear)

    def fork(
        self, module: str, action: str, imports: Sequence[str], conversation: socket.socket, log: BinaryIO
    ) -> "ForkedChild":
        """Have a child forked that does an action of a module; both files may be closed then. Raises CannotFork."""
        number = next(self._numbers)
        frame = {"type": "fork", "call": number, "module": module, "action": action, "imports": list(imports)}
        try:
            socket.send_fds(self._link, [encode(frame)], [conversation.fileno(), log.fileno()])
            self._expect_an_answer()
        except OSError as error:  # it is gone, which its end of the link will tell; or it takes nothing in
            raise CannotFork from error
        ended = self._calls[number] = self._loop.create_future()
        return ForkedChild(self, number, ended)

    def send_kill(self, number: int) -> None:
        """Have the child of a call killed."""
        with suppress(OSError):  # it is gone, and so is the child; or it takes nothing in, and is killed in a while
            self._expect_an_answer()  # in any case
            self._link.send(encode({"type": "kill", "call": number}))

    def end(self) -> None:
        """Have it end, with all its children, in its own time."""
        self.has_been_ended = True
        with suppress(OSError):
            self._expect_an_answer()
            self._link.shutdown(socket.SHUT_WR)

    async def wait(self) -> None:
        """Wait until it has ended."""
        await asyncio.wait([self._has_ended])

    def _hear(self) -> None:
        try:
            data = self._link.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        for frame in self._reader.feed(data):
            self._take(frame)
        if not data:
            self._hung_up()

    def _expect_an_answer(self) -> None:
        self._unanswered += 1
        if self._silence is None:
            self._silence = self._loop.call_later(_SILENT_SECONDS, self._process.kill)

    def _is_answered(self) -> None:
        self._unanswered -= 1
        if self._unanswered == 0 and self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _take(self, frame: Frame) -> None:
        if frame["type"] == "taken":
            self._is_answered()
            return
        ended = self._calls.pop(frame["call"])
        if frame["type"] == "ended":
            ended.set_result(End(status=frame["status"]))
        else:
            self.can_fork = False
            ended.set_result(End(status=-signal.SIGKILL, is_its_own=False))

    def _hung_up(self) -> None:
        self._loop.remove_reader(self._link.fileno())
        self._link.close()
        if self._silence is not None:
            self._silence.cancel()
        self._process.kill()  # it is ending already, or what follows would wait for it
        status = self._process.wait()
        for ended in self._calls.values():
            ended.set_result(End(status=status, is_its_own=False))
        self._calls.clear()
        self._has_ended.set_result(None)
        self._gone(self)


class ForkedChild:
    """The process of a call, forked by a server, or about to be."""

    def __init__(self, server: ForkServer, number: int, ended: "asyncio.Future[End]") -> None:
        self._server = server
        self._number = number
        self._ended = ended

    def kill(self) -> None:
        """Send SIGKILL to it and to what it has started."""
        self._server.send_kill(self._number)

    async def wait(self) -> End:
        """Wait for its end. Of one that ended with its server, the status is the server's."""
        await asyncio.wait([self._ended])
        return self._ended.result()
