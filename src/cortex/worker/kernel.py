"""What we ask of the Linux kernel for our processes; elsewhere these do nothing."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_SYNC_FILE_RANGE_WRITE: Final = 2
_FALLOC_KEEP_SIZE: Final = 1
_FALLOC_PUNCH_HOLE: Final = 2
_TASKS: Final = Path("/proc/self/task")


def die_with_parent() -> None:
    """Have this process killed when its parent ends. Check afterwards that the parent has not ended before."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def can_fork(minding: Collection[str] = ()) -> bool:
    """Tell whether a fork of this process is whole: no thread is left that would be missing in it.

    A library whose threads survive forks, as OpenBLAS's do, ends them before each: so fork once, and count again.
    Threads that are named in `minding` are not missing: what has started them, starts them in the fork when it must.
    Raises OSError where there can be no more processes.
    """
    if not _TASKS.is_dir():
        return False
    if len(list(_TASKS.iterdir())) == 1:
        return True
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    names = [(task / "comm").read_text(encoding="utf-8", errors="replace").strip() for task in _TASKS.iterdir()]
    return sum(name not in minding for name in names) == 1


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


def sync_file_system(folder: str | os.PathLike[str]) -> bool:
    """Bring all that was written to a file system, on which this folder lies, to its disk; False where we cannot.

    Raises OSError.
    """
    if sys.platform != "linux":
        return False
    opened = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(opened) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fspath(folder))
    finally:
        os.close(opened)
    return True


def write_all(file: int, data: "bytes | memoryview") -> None:
    """Write all of it, however little the kernel takes at a time. Raises OSError."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


def write_all_at(file: int, data: "bytes | memoryview", offset: int) -> None:
    """Write all of it where it belongs in the file. Raises OSError."""
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def begin_write_back(file: int, first: int, end: int) -> None:
    """Have these bytes of an open file go to the disk soon: whoever syncs it later waits for less. Promises nothing."""
    if sys.platform == "linux":
        begin = getattr(ctypes.CDLL(None), "sync_file_range", None)  # not every C library has it
        if begin is not None:
            offset, length = ctypes.c_int64(first), ctypes.c_int64(end - first)
            begin(file, offset, length, _SYNC_FILE_RANGE_WRITE)


def free_bytes(file: int, first: int, end: int) -> None:
    """Give back the room of these bytes of an open file, which stays as long as it is. Promises nothing."""
    if sys.platform == "linux" and first < end:
        offset, length = ctypes.c_int64(first), ctypes.c_int64(end - first)
        _library().fallocate(file, _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE, offset, length)


def _prctl(option: int, argument: int | bytes) -> None:
    if sys.platform == "linux":
        _library().prctl(option, argument)


@cache
def _library() -> ctypes.CDLL:
    """Open the C library once: a Worker that starts waits for this."""
    return ctypes.CDLL(None)
