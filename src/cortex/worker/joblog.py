"""The log of a Job or of an API, as a supervisor writes to it: whole lines, and not without end."""

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN_LINE: Final = b":INFO:processing batch "
_LONG_LINE_BYTES: Final = 256 * 1024
"""A line that is longer is cut here."""

_OWN_SHARE: Final = 0.75
"""Our own lines may fill this much of the limit; the rest is kept for what the user prints."""


class WorkerLog(ABC):
    """Where the output of one Worker goes."""

    def __init__(self) -> None:
        self._unfinished = b""

    @property
    @abstractmethod
    def drops_own_lines(self) -> bool:
        """True once lines of our own have found no room."""

    def write(self, data: bytes) -> None:
        """Append the whole lines in `data`; keep an unfinished one for the next call, unless it is very long."""
        lines, newline, rest = (self._unfinished + data).rpartition(b"\n")
        if len(rest) > _LONG_LINE_BYTES:
            lines, newline, rest = lines + newline + rest, b"\n", b""
        self._unfinished = rest
        if newline:
            self._append(lines + newline)

    @abstractmethod
    def close(self, *, left_out: int = 0) -> None:
        """Append what is left. So many of our own lines the Worker has not even written, because they had no room."""

    @abstractmethod
    def _append(self, lines: bytes) -> None:
        """Append whole lines."""


class BoundedLog(WorkerLog):
    """Appends the output of one Worker to the log that all Workers of a Job share.

    Lines of several Workers never mix, and a flood is dropped, not held back: a Worker that prints a gigabyte runs
    on. When it closes, one line says how many lines were dropped.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._limit_bytes = limit_bytes
        self._dropped_own = 0
        self._dropped = 0
        self._after_torn = b""  # what ends a line that was written in part

    @property
    def drops_own_lines(self) -> bool:
        """See WorkerLog."""
        return self._dropped_own > 0

    def close(self, *, left_out: int = 0) -> None:
        """See WorkerLog."""
        if self._unfinished:
            self._append(self._unfinished + b"\n")
        self._dropped_own += left_out
        if self._dropped_own or self._dropped:
            notice = (
                f"the log has reached its limit of {self._limit_bytes} bytes (--log-limit), or the disk is full: "
                f"{self._dropped_own} 'processing batch' lines and {self._dropped} others were dropped\n"
            )
            with suppress(OSError):
                os.write(self._file, notice.encode())
        os.close(self._file)

    def _append(self, lines: bytes) -> None:
        size = os.fstat(self._file).st_size + len(lines)
        if size > self._limit_bytes:
            own = lines.count(_OWN_LINE)
            self._dropped_own += own
            self._dropped += lines.count(b"\n") - own
            return
        if size > self._limit_bytes * _OWN_SHARE:
            kept = [line for line in lines.split(b"\n") if _OWN_LINE not in line]
            self._dropped_own += lines.count(b"\n") + 1 - len(kept)
            lines = b"\n".join(kept)
        lines = self._after_torn + lines
        try:
            written = os.write(self._file, lines)
        except OSError:
            written = 0
        if written < len(lines):  # a full disk: the Worker goes on, its lines are lost
            self._dropped += lines.count(b"\n", written)
            if written:
                self._after_torn = b"" if lines[:written].endswith(b"\n") else b"\n"
        else:
            self._after_torn = b""


class RotatingLog(WorkerLog):
    """Appends the output of one process to the log of an API, which has no end: what is oldest goes.

    When the log is half as large as it may be, it becomes the older log, in place of the one before, and a new one is
    begun. Whoever writes opens it anew each time, so all write to the same, and no line is torn between the two.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        super().__init__()
        self._path = path
        self._older = path.with_name(f"{path.name}.1")
        self._most_bytes = limit_bytes // 2
        self._after_torn = b""
        os.close(self._open())

    @property
    def drops_own_lines(self) -> bool:
        """See WorkerLog."""
        return False

    def close(self, *, left_out: int = 0) -> None:  # noqa: ARG002 - of a process of a replica it is 0
        """See WorkerLog."""
        if self._unfinished:
            self._append(self._unfinished + b"\n")

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _append(self, lines: bytes) -> None:
        with suppress(OSError):  # a full disk, or the API was deleted: the process goes on, its lines are lost
            self._make_room(len(lines))
            file = self._open()
            try:
                lines = self._after_torn + lines
                self._after_torn = b"" if os.write(file, lines) == len(lines) else b"\n"
            finally:
                os.close(file)

    def _make_room(self, wanted_bytes: int) -> None:
        with suppress(FileNotFoundError):
            size = self._path.stat().st_size
            if size and size + wanted_bytes > self._most_bytes:
                self._path.replace(self._older)
                self._after_torn = b""


def open_log(path: Path, limit_bytes: int, *, rotates: bool) -> WorkerLog:
    """Open the log that a Worker's output goes to. Raises OSError."""
    return RotatingLog(path, limit_bytes) if rotates else BoundedLog(path, limit_bytes)
