"""What we ask of the Linux kernel for our processes; elsewhere these do nothing."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36


def die_with_parent() -> None:
    """Have this process killed when its parent ends. Check afterwards that the parent has not ended before."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_process(name: str) -> None:
    """Set the name that `ps` and `top` show, of 15 characters at most."""
    _prctl(_PR_SET_NAME, name.encode())


def join_group(file: str) -> None:
    """Enter a control group through its `cgroup.procs`, with all that this process will start. Raises OSError."""
    opened = os.open(file, os.O_WRONLY)
    try:
        os.write(opened, b"0")
    finally:
        os.close(opened)


def raise_file_limit() -> None:
    """Let this process have as many open files as it may: the usual limit is for programs that need few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _prctl(option: int, argument: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, argument)
