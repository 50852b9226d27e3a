"""Run one uv command."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cortex.environments.pip_settings import mask_passwords

_KEPT_LINES = 500


class CommandError(Exception):
    """A uv command ended with an error; the message is what it printed."""


async def run_uv(
    command: Sequence[str | Path],
    *,
    folder: Path,
    variables: Mapping[str, str],
    observe: Callable[[str], None],
) -> None:
    """Run a uv command in a folder and hand each line that it prints to `observe`, passwords hidden.

    Raises `CommandError` with the end of the output. Cancelled, it kills the command and everything that it started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C in the operator's terminal is the operator's to handle
    )
    assert process.stdout is not None  # noqa: S101
    printed: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        async for line in _lines(process.stdout):
            printed.append(line)
            observe(line)
        status = await process.wait()
    except asyncio.CancelledError:
        # The group, not the process: uv runs the build scripts of packages.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if status != 0:
        raise CommandError("\n".join(printed) or f"uv ended with status {status}")


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    rest = b""
    while chunk := await stream.read(64 * 1024):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield mask_passwords(line.decode(errors="replace").rstrip())
    if rest:
        yield mask_passwords(rest.decode(errors="replace").rstrip())
