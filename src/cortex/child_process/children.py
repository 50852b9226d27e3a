"""The operator's side: starts a process for each call, hears what it tells, and leaves nothing of it."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from cortex.child_process.fork_server import CannotFork, End, ForkServer
from cortex.child_process.words import Event, Request, Words
from cortex.domain.ending import Exit

logger = logging.getLogger(__name__)

_MAX_LINE_BYTES: Final = 2 * 1024 * 1024
_IDLE_SECONDS: Final = 60.0
MOST_AT_ONCE: Final = max(2, os.cpu_count() or 2)
"""Of each kind of call, so many are to be in progress."""

_MOST_DEATHS: Final = 2
"""A fork server that has died so often in a row is not started again before it would have been idle for so long."""


class ChildDied(Exception):
    """A process has ended before its last word."""

    def __init__(self, status: int) -> None:
        self.how = Exit(status=status).cause
        super().__init__(self.how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a process is to do, and where."""

    module: str  # whose `__main__` has a `main`
    action: str  # what that is called with
    request: bytes
    log: Path  # where its standard error goes
    imports: Sequence[str] = ()  # modules that several such calls need, and that leave a process fit to fork


class _Running(Protocol):
    """A process, however it was started."""

    def kill(self) -> None:
        """Send SIGKILL to it and to what it has started; nothing happens where it has ended."""

    async def wait(self) -> End:
        """Wait for its end, and reap it."""


@dataclass(slots=True, kw_only=True)
class Children:
    """All such processes of an operator. Used from one event loop, which never waits for them.

    They are forked from a server, which is started when it is first needed and ends when it was not for a minute.
    Where forking is impossible each is a fresh process, which takes a tenth of a second and more.
    """

    _server: ForkServer | None = None
    _servers: set[ForkServer] = field(default_factory=set)  # with those that are about to end
    _endings: set[asyncio.Task[End]] = field(default_factory=set)
    _calls: int = 0  # in progress
    _end_of_idling: asyncio.TimerHandle | None = None
    _deaths: int = 0  # of servers, in a row
    _fresh_until: float = 0.0  # of the event loop's clock

    async def events(self, words: Words[Request, Event], call: Call) -> AsyncGenerator[Event, None]:
        """Have a process do this, and give what it tells, to the last word.

        Closing the generator before, or cancelling whoever waits for it, kills the process and what that has started,
        and returns when it is gone; after the last word nobody waits for that. Raises ChildDied where it ends before.
        A process that has told nothing, and was lost with the fork server, is started again.
        """
        self._begin()
        try:
            while True:
                has_told = is_over = False
                child = await self._start(call)
                try:
                    await child.give(call.request)
                    # The last line of a process that was killed may be half of one.
                    while not is_over and (line := await child.line()).endswith(b"\n"):
                        event = words.read(line)
                        has_told, is_over = True, words.is_last(event)
                        yield event
                finally:
                    ending = asyncio.create_task(self._end(child))
                    self._endings.add(ending)
                    ending.add_done_callback(self._endings.discard)
                    if not is_over:  # else nobody waits: it does nothing any more
                        end = await asyncio.shield(ending)
                if is_over:
                    return
                if end.is_its_own or has_told:
                    raise ChildDied(end.status)
        finally:
            self._over()

    async def close(self) -> None:
        """End the server, and wait until it has ended. No call is in progress; one that comes later starts another."""
        self._end_server()
        await asyncio.gather(*self._endings)
        for server in list(self._servers):
            await server.wait()

    async def _start(self, call: Call) -> "_Child":
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=_MAX_LINE_BYTES)
        try:
            with theirs, call.log.open("ab") as log:
                running = self._fork(call, theirs, log) or await _start_fresh(call, theirs, log)
        except BaseException:
            writer.close()
            raise
        return _Child(reader=reader, writer=writer, running=running)

    def _fork(self, call: Call, conversation: socket.socket, log: BinaryIO) -> _Running | None:
        if sys.platform != "linux" or asyncio.get_running_loop().time() < self._fresh_until:
            return None
        if self._server is None:
            self._server = ForkServer(log, self._gone)
            self._servers.add(self._server)
        try:
            return self._server.fork(call.module, call.action, call.imports, conversation, log)
        except CannotFork:
            return None

    async def _end(self, child: "_Child") -> End:
        end = await child.end()
        if end.is_its_own:
            self._deaths = 0
        elif self._server is not None and not self._server.can_fork:
            self._start_afresh_for_a_while()
        return end

    def _gone(self, server: ForkServer) -> None:
        self._servers.discard(server)
        if self._server is server:
            self._server = None
        if not server.has_been_ended:
            self._deaths += 1
            if self._deaths >= _MOST_DEATHS:
                self._start_afresh_for_a_while()

    def _start_afresh_for_a_while(self) -> None:
        logger.warning("processes cannot be forked: for a minute, each is started afresh")
        self._deaths = 0
        self._fresh_until = asyncio.get_running_loop().time() + _IDLE_SECONDS

    def _begin(self) -> None:
        self._calls += 1
        if self._end_of_idling is not None:
            self._end_of_idling.cancel()
            self._end_of_idling = None

    def _over(self) -> None:
        self._calls -= 1
        if self._calls == 0:
            self._end_of_idling = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_server)

    def _end_server(self) -> None:
        if self._end_of_idling is not None:
            self._end_of_idling.cancel()
            self._end_of_idling = None
        if self._server is not None:
            self._server.end()
            self._server = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """A process with our end of its conversation."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    running: _Running

    async def give(self, request: bytes) -> None:
        with suppress(OSError):  # it died at once; its end will tell
            self.writer.write(request)
            await self.writer.drain()
            self.writer.write_eof()

    async def line(self) -> bytes:
        """Give the next line; what is no whole line is the end."""
        try:
            return await self.reader.readline()
        except ConnectionError:
            return b""

    async def end(self) -> End:
        """Kill it, unless it has ended by itself, and wait until it is gone, and whoever else holds its end."""
        try:
            if not self.reader.at_eof():
                self.running.kill()
            end = await self.running.wait()
            with suppress(ConnectionError):
                while await self.reader.read(_MAX_LINE_BYTES):
                    pass  # what it has told meanwhile
        finally:
            self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()
        return end


@dataclass(frozen=True, slots=True, kw_only=True)
class _FreshProcess:
    """A process that was not forked."""

    process: asyncio.subprocess.Process

    def kill(self) -> None:
        """See _Running."""
        with suppress(ProcessLookupError):
            # Not `process.kill()`: that may reap one that has just ended, and asyncio complains of a child it misses.
            os.killpg(self.process.pid, signal.SIGKILL)

    async def wait(self) -> End:
        """See _Running."""
        return End(status=await self.process.wait())


async def _start_fresh(call: Call, conversation: socket.socket, log: BinaryIO) -> _Running:
    return _FreshProcess(
        process=await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", call.module, call.action, str(os.getpid())),
            stdin=conversation.fileno(),
            stdout=conversation.fileno(),
            stderr=log,
            start_new_session=True,  # a Ctrl-C in the operator's terminal is the operator's to handle
        )
    )
