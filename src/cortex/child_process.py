"""Processes of the operator's own that are asked on standard input and tell on standard output, a line each.

Slow storage, and what takes memory, does not hold up the operator there.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cortex.domain.ending import Exit

_MAX_LINE_BYTES: Final = 2 * 1024 * 1024


class ChildDied(Exception):
    """A process has ended before its last word."""

    def __init__(self, status: int) -> None:
        self.how = Exit(status=status).cause
        super().__init__(self.how)


async def lines_of(
    module: str, action: str, request: bytes, *, log: Path, is_last: Callable[[bytes], bool]
) -> AsyncGenerator[bytes, None]:
    """Have `python -m MODULE ACTION` do what is requested, and give the lines that it tells, to the last one.

    Its standard error goes to the log. Closing the generator kills the process and reaps it. Raises ChildDied where
    it ends before the last line.
    """
    process = await _start(module, action, log)
    assert process.stdout is not None  # noqa: S101
    is_over = False
    try:
        await _give(process, request)
        # The last line of a process that was killed may be half of one.
        while not is_over and (line := await process.stdout.readline()).endswith(b"\n"):
            is_over = is_last(line)
            yield line
    finally:
        status = await _end(process)
    if not is_over:
        raise ChildDied(status)


def take_standard_output() -> Callable[[bytes], None]:
    """In such a process: give what writes its lines. What libraries print goes to standard error from now on."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def write(line: bytes) -> None:
        output.write(line)
        output.flush()

    return write


async def _start(module: str, action: str, log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, action),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=_MAX_LINE_BYTES,
            process_group=0,  # a Ctrl-C in the operator's terminal is the operator's to handle
        )


async def _give(process: asyncio.subprocess.Process, request: bytes) -> None:
    assert process.stdin is not None  # noqa: S101
    with suppress(BrokenPipeError, ConnectionResetError):  # it died at once; its end will tell
        process.stdin.write(request)
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> int:
    """Kill a process, unless it has ended by itself, and reap it; give its exit status."""
    assert process.stdout is not None  # noqa: S101
    if not process.stdout.at_eof():
        with suppress(ProcessLookupError):
            # Not `process.kill()`: that may reap one that has just ended, and asyncio complains of a child it misses.
            os.kill(process.pid, signal.SIGKILL)
        await process.stdout.read()  # what it has told meanwhile is in the way of its end
    return await process.wait()
