"""A Worker's standard output: the user's prints and our own log lines, in one stream and in order."""

import io
import os
import sys
import time
from threading import get_ident
from typing import BinaryIO, Final

from cortex.domain.identity import log_name

_FLUSH_AFTER_NS: Final = 20_000_000
_SECOND_NS: Final = 1_000_000_000
_LONG_LINE_CHARACTERS: Final = 4096
"""A longer one does not wait for its end."""


class _Lines(io.TextIOWrapper):
    """Text of several threads in whole lines: `print` writes what it is given and the line's end one by one.

    What a thread has begun waits for the end of its line, or until that thread flushes.
    """

    def __init__(self, buffer: BinaryIO) -> None:
        super().__init__(buffer, "utf-8", "backslashreplace", line_buffering=True, write_through=True)
        self._begun: dict[int, str] = {}

    def write(self, text: str, /) -> int:
        """See io.TextIOBase."""
        lines, end, rest = (self._begun.pop(get_ident(), "") + text).rpartition("\n")
        if len(rest) > _LONG_LINE_CHARACTERS:
            lines, end, rest = lines + end + rest, "", ""
        if rest:
            self._begun[get_ident()] = rest
        if lines or end:
            super().write(lines + end)
        return len(text)

    def flush(self) -> None:
        """See io.IOBase."""
        if begun := self._begun.pop(get_ident(), ""):
            super().write(begun)
        super().flush()

    def flush_all(self) -> None:
        """Send out what threads have begun that may be gone, too."""
        for thread in list(self._begun):
            super().write(self._begun.pop(thread, ""))
        super().flush()


class Output:
    """Takes over stdout and stderr of a process.

    The user's lines go out as they end. Ours are cheap: they wait up to 20 ms for company, so a fast Batch costs no
    system call and a slow one shows before it runs.
    """

    def __init__(self) -> None:
        self._buffer = io.BufferedWriter(io.FileIO(1, "w", closefd=False), 64 * 1024)
        self._text = _Lines(self._buffer)
        self._flushed_at_ns = 0
        self._second_at_ns = 0
        self._stamp = ""
        self._origin = ""
        self.node: str | None = None

    def take_over(self, node: str | None = None) -> None:
        """Do so: it may be in a fork of the process that has made this. `node` is where this runs, if elsewhere."""
        sys.stdout = sys.stderr = self._text
        self.node = node
        self._origin = f":cortex:{log_name(os.getpid(), node)}:"

    def log(self, message: str, level: str = "INFO") -> None:
        """Write one line in the layout of our log and let it be seen at once."""
        self.log_at(time.time_ns(), message, level)
        self.flush()

    def log_at(self, now_ns: int, message: str, level: str = "INFO") -> None:
        """Write one line that may wait a moment."""
        rest_ns = now_ns - self._second_at_ns
        if not 0 <= rest_ns < _SECOND_NS:
            second, rest_ns = divmod(now_ns, _SECOND_NS)
            self._second_at_ns = second * _SECOND_NS
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S.", time.gmtime(second))
        self._buffer.write(f"{self._stamp}{rest_ns // 1000:06}{self._origin}{level}:{message}\n".encode())
        if now_ns - self._flushed_at_ns > _FLUSH_AFTER_NS:
            self._flushed_at_ns = now_ns
            self._buffer.flush()

    def flush(self) -> None:
        """Let everything be seen."""
        sys.stdout.flush()
        self._buffer.flush()

    def close(self) -> None:
        """Send out what is left and let go of the pipe, so that its reader knows that no more will come."""
        self.flush()
        self._text.flush_all()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
