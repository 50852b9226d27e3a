"""The supervisor that a station starts: the ordinary one, which ends when the station does."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cortex.worker


def start_supervisor(channel: Path) -> "subprocess.Popen[bytes]":
    """Start it; it looks for an operator on this channel. From the main thread. Raises OSError."""
    script = Path(cortex.worker.__file__).with_name("start.py")
    name = os.urandom(4).hex()
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), "supervisor", str(channel), name, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_group(pid: int) -> None:
    """Kill a process and what it has started in its group, if it is there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, 9)
