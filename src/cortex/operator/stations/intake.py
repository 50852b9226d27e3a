"""What a station sends of its Worker's files, written into the operator's: rows, the page, and the log.

Where these files lie, the ticket says, and nothing that is sent. What comes of a Job that was removed is dropped.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cortex.domain.batch import Page
from cortex.domain.frame import Frame, FrameError
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket
from cortex.operator.joblog import append_line
from cortex.storage.pages import copy_page, mark_copy, mark_cut_off
from cortex.worker.joblog import WorkerLog, open_log
from cortex.worker.kernel import begin_write_back, write_all_at

_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024
_LONGEST_LINE: Final = 10_000
_WORD_BYTES: Final = 8


class Intake:
    """The files of one Worker. Raises OSError where they take nothing.

    What has come is known as long as its station may come back, on one connection after the other.
    """

    def __init__(self, ticket: Ticket, *, now_ns: Callable[[], int]) -> None:
        """Nothing has come yet."""
        self._ticket = ticket
        self._folder = JobFolder(Path(ticket.folder))
        self._now_ns = now_ns
        self._log_had = 0
        self._log: WorkerLog | None = None
        self._rows: int | None = None
        self._rows_begun = 0  # to go to the disk
        self._started_word = b""
        self._later_by_ns = 0
        self._page = bytes(Page.SIZE)

    def begin(self, station: int) -> bool:
        """Take notice of which station has the page of the Worker; False if it is another than before."""
        try:
            return mark_copy(self._folder, self._ticket.worker, station)
        except FileNotFoundError:
            return True

    def take_page(self, page: bytes, now_ns: int) -> None:
        """Copy the page of the Worker, whose clock says `now_ns`."""
        if len(page) != Page.SIZE or type(now_ns) is not int:
            raise FrameError(f"a page of {len(page)} bytes, of {now_ns}")
        started = page[_WORD_BYTES * Page.STARTED_AT_NS :][:_WORD_BYTES]
        if started != self._started_word:  # of the same call of predict, it is to say the same again
            self._started_word, self._later_by_ns = started, self._now_ns() - now_ns
        self._page = page
        self._copy(_begun_nothing(page) if self._ticket.serves else page)

    def worker_came(self) -> None:
        """The Worker is there. A replica's may begin requests from now on that its page here does not show."""
        if self._ticket.serves:
            self._copy(_begun_nothing(self._page))

    def worker_went(self) -> None:
        """The Worker is gone, says its station: so its page shows what it has begun, and nothing comes after that."""
        if self._ticket.serves:
            self._copy(self._page)

    def _copy(self, page: bytes) -> None:
        with suppress(FileNotFoundError):
            copy_page(self._folder, self._ticket.worker, page, later_by_ns=self._later_by_ns)

    def take_rows(self, rows: bytes, offset: int) -> None:
        """Write rows where they lie in the Worker's own file. May be repeated."""
        if offset < 0:
            raise FrameError(f"rows at {offset}")
        if self._rows is None:
            try:
                self._rows = os.open(
                    self._folder.rows(self._ticket.worker), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
            except FileNotFoundError:
                return
        write_all_at(self._rows, rows, offset)
        end = offset + len(rows)
        if end - self._rows_begun >= _WRITE_BACK_BYTES:
            begin_write_back(self._rows, self._rows_begun, end)
            self._rows_begun = end

    def take_log(self, lines: bytes, offset: int) -> None:
        """Append to the log what the station has of it from an offset on, but for what has come before."""
        if self._log is None:
            ticket = self._ticket
            try:
                self._log = open_log(Path(ticket.log), ticket.log_limit_bytes, rotates=ticket.log_rotates)
            except FileNotFoundError:
                return
        self._log.write(lines[max(0, self._log_had - offset) :])
        self._log_had = max(self._log_had, offset + len(lines))

    def say(self, line: str) -> None:
        """Write a line of the station's own to the log."""
        append_line(Path(self._ticket.log), line[:_LONGEST_LINE])

    def close(self) -> None:
        """Let go of the files, until more comes: nothing is heard of the Worker now."""
        with suppress(FileNotFoundError):
            mark_cut_off(self._folder, self._ticket.worker)
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._rows is not None:
            os.close(self._rows)
            self._rows = None

    def take(self, frame: Frame) -> bool:
        """Take what is for the files; False for anything else."""
        kind = frame["type"]
        if kind == "page":
            self.take_page(frame["data"], frame["now_ns"])
        elif kind == "rows":
            self.take_rows(frame["data"], frame["offset"])
        elif kind == "log":
            self.take_log(frame["data"], frame["offset"])
        elif kind == "say":
            self.say(frame["text"])
        else:
            return False
        return True


def _begun_nothing(page: bytes) -> bytes:
    """Give a page that does not say what its Worker has begun."""
    begin = _WORD_BYTES * Page.CURRENT
    return page[:begin] + bytes(_WORD_BYTES) + page[begin + _WORD_BYTES :]
