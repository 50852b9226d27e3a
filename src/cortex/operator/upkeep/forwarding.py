"""Forwards the logs of all Jobs to a sink: each line at least once, whatever becomes of the operator.

What is sent lies in the Job's folder, in a small file that is there as long as there may be more to send. So the next
operator goes on where this one was, also with Jobs that have ended; after a crash only the last part comes again.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.operator.upkeep.sinks import LogOf, LogSink

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 30.0
_HOLD_SECONDS: Final = 600.0
_POSITION_DIGITS: Final = 20


@dataclass(slots=True, kw_only=True)
class _Forwarded:
    """One log that is being forwarded."""

    of: LogOf
    folder: JobFolder
    position: int
    ended_at: float | None = None
    waiting_since: float | None = None  # there is more, but too little to be sent


@dataclass(slots=True, kw_only=True)
class Forwarding:
    """See the module. The methods may be called from any thread, and none of them waits for the sink, but `close`."""

    sink: LogSink
    root: Path  # of the Jobs' folders
    monotonic: Callable[[], float] = time.monotonic
    _logs: dict[str, _Forwarded] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the dict, not of what is in it
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _is_closing: bool = False
    _is_failing: bool = False
    _retry_seconds: float = _FIRST_RETRY_SECONDS
    _retry_at: float = 0.0

    def follow(self, job: Job) -> None:
        """Forward the log of a Job in progress, from where an earlier operator was."""
        folder = JobFolder(self.root / job.id)
        with self._lock:
            self._logs[job.id] = _open(folder, LogOf(api_name=job.api_name, job_id=job.id))

    def job_ended(self, job_id: str) -> None:
        """Say that nothing more comes: the rest is sent soon."""
        with self._lock:
            if log := self._logs.get(job_id):
                log.ended_at = self.monotonic()
        self._wake.set()

    def is_held(self, job_id: str) -> bool:
        """Tell whether a Job's folder is still needed: not for long, and not for a sink that fails."""
        log = self._logs.get(job_id)
        return (
            log is not None
            and log.ended_at is not None
            and not self._is_failing
            and self.monotonic() < log.ended_at + _HOLD_SECONDS
        )

    def start(self) -> None:
        """Begin, in a thread of its own."""
        # A daemon: a reader of stdout that has stopped reading must not keep the operator from ending.
        self._thread = threading.Thread(target=self._go_on, name="log sink", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Send what is there, and end. Blocks, up to this long."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _go_on(self) -> None:
        self.find_left()
        while not self._is_closing:
            if not self.look():
                self._wake.wait(_LOOK_SECONDS)
                self._wake.clear()
        while self.look(is_last=True):
            pass

    def find_left(self) -> None:
        """Find the Jobs that have ended while an earlier operator was still sending."""
        for path in self.root.glob(f"*/{JobFolder(self.root).log_sent.name}"):
            folder, name = JobFolder(path.parent), path.parent.name
            if name.isalnum():  # and not about to be removed
                with self._lock:
                    if name not in self._logs and (log := _read(folder)):
                        log.ended_at = self.monotonic()
                        self._logs[name] = log

    def look(self, *, is_last: bool = False) -> bool:
        """Send one part of each log that has one; tell whether there may be more at once."""
        if self.monotonic() < self._retry_at:
            return False
        is_more = False
        for job_id, log in list(self._logs.items()):
            try:
                is_more |= self._forward(log, is_last=is_last)
            except Exception as error:  # a sink may fail in any way, and none of them may harm a Job
                self._failed(job_id, error)
                return False
        if self._is_failing:
            logger.warning("the log sink takes lines again")
            self._is_failing = False
        self._retry_seconds = _FIRST_RETRY_SECONDS
        return is_more

    def _failed(self, job_id: str, error: Exception) -> None:
        if not self._is_failing:
            logger.warning("the log sink takes no lines; they wait, and it is tried again: %s", error)
        self._is_failing = True
        self._retry_at = self.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY_SECONDS)
        with self._lock:  # the others come first next time: it may be this one alone that fails
            self._logs[job_id] = self._logs.pop(job_id)

    def _forward(self, log: _Forwarded, *, is_last: bool) -> bool:
        has_ended = log.ended_at is not None  # asked before the size: what is there then is all there will be
        size = _size(log.folder.log)
        if size is None and has_ended and not log.folder.root.exists():
            logger.warning("the end of the log of job %s was removed before the log sink took it", log.of.job_id)
        if self._has_dropped(log, size or 0):
            return True
        available = max((size or 0) - log.position, 0)
        if not available:
            if has_ended:
                self._let_go(log)
            return False
        if not (has_ended or is_last or self._is_due(log, available)):
            return False
        part = _cut(log, self.sink.part_bytes, is_all=has_ended)
        if part:
            self.sink.send(log.of, log.position, part)
            self._moved(log, log.position + len(part))
        return bool(part)

    def _is_due(self, log: _Forwarded, available: int) -> bool:
        if log.waiting_since is None:
            log.waiting_since = self.monotonic()
        waited = self.monotonic() - log.waiting_since
        return available >= self.sink.part_bytes or waited >= self.sink.part_seconds

    def _has_dropped(self, log: _Forwarded, size: int) -> bool:
        """Leave lines out that a slow sink is too far behind with."""
        limit = self.sink.backlog_bytes
        if limit is None or not self.sink.is_slow or size - log.position <= limit:
            return False
        lines, end = 0, log.position
        while end < size - limit // 2 and (piece := _cut(log, self.sink.part_bytes, is_all=False, start=end)):
            lines += piece.count(b"\n")
            end += len(piece)
        self.sink.tell_dropped(log.of, lines)
        self._moved(log, end)
        return True

    def _moved(self, log: _Forwarded, position: int) -> None:
        _write_position(log.folder.log_sent, position, is_synced=self.sink.has_places)
        log.position, log.waiting_since = position, None

    def _let_go(self, log: _Forwarded) -> None:
        with suppress(FileNotFoundError):
            log.folder.log_sent.unlink()
        del self._logs[log.of.job_id]


def _open(folder: JobFolder, of: LogOf) -> _Forwarded:
    """Begin with a log, or go on with it."""
    if log := _read(folder):
        return log
    log = _Forwarded(of=of, folder=folder, position=0)
    try:
        folder.root.mkdir(parents=True, exist_ok=True)  # a Job that is cut from files may have none yet
        folder.log_sent.write_text(f"{0:0{_POSITION_DIGITS}}\n{of.api_name}", encoding="utf-8")
    except OSError as error:
        logger.warning("`%s` cannot be written: %s", folder.log_sent, error)
    return log


def _read(folder: JobFolder) -> _Forwarded | None:
    """Give what an earlier operator has written down; None if there is nothing that can be read."""
    try:
        position, _, api_name = folder.log_sent.read_text(encoding="utf-8").partition("\n")
        of = LogOf(api_name=api_name, job_id=folder.root.name)
        # After a power cut the log may be shorter than what was sent of it.
        return _Forwarded(of=of, folder=folder, position=min(int(position), _size(folder.log) or 0))
    except (OSError, ValueError):
        return None


def _write_position(path: Path, position: int, *, is_synced: bool) -> None:
    """Write it over the last one; synced before the next part is sent, so that parts never overlap."""
    with suppress(FileNotFoundError), path.open("r+b", buffering=0) as file:
        file.write(f"{position:0{_POSITION_DIGITS}}".encode())
        if is_synced:
            os.fsync(file.fileno())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _cut(log: _Forwarded, most_bytes: int, *, is_all: bool, start: int | None = None) -> bytes:
    """Read the next lines; a line that is too long is cut, and the last one needs no end if that is all there is."""
    try:
        with log.folder.log.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), most_bytes, log.position if start is None else start)
    except FileNotFoundError:  # the Job was removed
        return b""
    whole = data[: data.rfind(b"\n") + 1]
    return whole or (data if is_all or len(data) == most_bytes else b"")
