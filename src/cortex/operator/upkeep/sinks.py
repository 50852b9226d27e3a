"""Where the lines of Jobs' logs go besides: to the operator's stdout, or in parts to a place of `cortex.files`."""

import json
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cortex.files.files import Files
from cortex.operator.status import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOf:
    """Whose log it is."""

    api_name: str
    job_id: str


class LogSink(Protocol):
    """Who takes the logs. Methods are called from one thread, and may block."""

    part_bytes: int
    """At most so much is sent at a time."""

    part_seconds: float
    """Less than that waits so long for more."""

    backlog_bytes: int | None
    """A sink that is slow loses what it is behind by more than this; None: everything waits for it."""

    def send(self, log: LogOf, offset: int, data: bytes) -> None:
        """Take these bytes, which lie here in the log: whole lines, but for a very long one and the very last.

        Raises anything if they cannot be taken; then the same offset comes again, with at least these bytes.
        """

    def tell_dropped(self, log: LogOf, lines: int) -> None:
        """Say that so many lines are left out here."""

    has_places: bool
    """True: what is sent again from the same offset takes its own place, so positions outlive a power cut."""

    @property
    def is_slow(self) -> bool:
        """True when the last bytes took long to be taken."""


@dataclass(slots=True, kw_only=True)
class StdoutSink(LogSink):
    """One JSON object a line: `time` (when the operator read it), `api`, `job_id`, `line`."""

    file: int = 1
    now_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic
    part_bytes: int = 512 * 1024  # a line has at most half of it
    part_seconds: float = 0.0
    backlog_bytes: int | None = 16 * 1024 * 1024
    has_places: bool = False
    slow_seconds: float = 1.0
    _last_seconds: float = 0.0

    def send(self, log: LogOf, offset: int, data: bytes) -> None:  # noqa: ARG002 - a line has no place in stdout
        """See LogSink. Blocks while nobody reads."""
        began_at = self.monotonic()
        time_ = rfc3339(self.now_ns())
        lines = data.decode(errors="replace").removesuffix("\n").split("\n")
        self._write("".join(_json_line(time_, log, line) for line in lines))
        self._last_seconds = self.monotonic() - began_at

    def tell_dropped(self, log: LogOf, lines: int) -> None:
        """See LogSink."""
        line = f"{lines} lines were dropped here: whoever reads the operator's stdout is too slow"
        self._write(_json_line(rfc3339(self.now_ns()), log, line))

    @property
    def is_slow(self) -> bool:
        """See LogSink."""
        return self._last_seconds >= self.slow_seconds

    def _write(self, text: str) -> None:
        # Not through sys.stdout: its lock, held by a write that blocks, would keep the operator from ending.
        rest = memoryview(text.encode())
        while rest:
            try:
                rest = rest[os.write(self.file, rest) :]
            except BlockingIOError:  # who we share it with may have set it so
                select.select([], [self.file], [])


def _json_line(time_: str, log: LogOf, line: str) -> str:
    return json.dumps({"time": time_, "api": log.api_name, "job_id": log.job_id, "line": line}) + "\n"


_MEBIBYTE: Final = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class PartsSink(LogSink):
    """Files `<prefix>/<api>/<job_id>/<offset>.log`: what stands at an offset is the same whenever it is sent."""

    files: Files
    prefix: str
    part_bytes: int = 4 * _MEBIBYTE
    part_seconds: float = 5.0
    backlog_bytes: int | None = None
    has_places: bool = True
    is_slow: bool = False

    def send(self, log: LogOf, offset: int, data: bytes) -> None:
        """See LogSink. A part that is sent again takes its own place."""
        self.files.write(f"{self.prefix.rstrip('/')}/{log.api_name}/{log.job_id}/{offset:012}.log", data)

    def tell_dropped(self, log: LogOf, lines: int) -> None:
        """See LogSink. Nothing is ever dropped."""
