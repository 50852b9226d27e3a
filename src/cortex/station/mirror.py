"""The mirror of a Job's folder: the files in which supervisor and Worker find and leave what is the operator's.

For each Lease there is a Segment that holds exactly its Batches. The files of the one before go with it.
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cortex.domain.batch import Page
from cortex.domain.frame import Frame, Message
from cortex.domain.layout import JobFolder
from cortex.station.messages import Told
from cortex.station.results import Results, RowsSink
from cortex.worker.kernel import write_all

_KEPT: Final = "kept"
"""The Worker in whose name the mirror has what an earlier Job has kept of a Batch."""


@dataclass(slots=True)
class LeaseHere:
    """The last Lease of the Worker, and its Segment."""

    token: int
    first: int
    end: int
    number: int  # of its Segment
    states: int  # the open file
    is_over: bool = False  # the Worker does nothing more of it


class Mirror:
    """See the module. Raises OSError where its disk does not do what it is asked."""

    def __init__(self, root: Path, worker: str) -> None:
        """Make one in a folder that is there."""
        self.folder = JobFolder(root)
        self.channel = root / "channel"
        self.lease: LeaseHere | None = None
        self._worker = worker
        self.folder.segments.mkdir()
        self.folder.workers.mkdir()
        # In full: a Worker's store into a hole on a full disk would kill it.
        self.folder.page(worker).write_bytes(bytes(Page.SIZE))
        self._page = os.open(self.folder.page(worker), os.O_RDWR)
        self._told_page = bytes(Page.SIZE)
        self._told_outcome: tuple[int, bytes, int] | None = None
        self._results = Results(self.folder.rows(worker), self.folder.index(worker))
        self._pieces: int | None = None  # the payload that comes before its Lease

    @property
    def is_leased(self) -> bool:
        """True while the Worker may be in a Batch."""
        return self.lease is not None and not self.lease.is_over

    # What the operator says

    def take_piece(self, data: "bytes | memoryview") -> None:
        """Keep a piece of the payload of the next Lease."""
        if self._pieces is None:
            self._pieces = _create(self.folder.payload(self._next_number))
        write_all(self._pieces, data)

    def begin(self, lease: Frame, data: bytes, items: bytes = b"") -> Frame:
        """Make the Segment of a Lease, of the data that came with it; give the Lease as the Worker is told of it.

        That the operator gives another one says that it has all that came of the last. `items` are the payload, where
        that came another way.
        """
        payload: Mapping[str, Any] = lease["payload"]
        count = lease["end"] - lease["first"]
        index_bytes: int = lease["index"]
        items_end = len(data) - payload.get("kept", 0)
        told = {name: value for name, value in lease.items() if name not in {"payload", "index", "problem"}}
        number = self._next_number
        with memoryview(data) as view:
            if payload.get("lines"):
                with suppress(FileNotFoundError):
                    os.unlink(self.folder.payload(number))  # noqa: PTH108 - of one that did not come in whole
                _write_file(self.folder.lines(number), items)
            else:
                self.take_piece(items or view[index_bytes:items_end])
            _write_file(self.folder.offsets(number), view[:index_bytes])
            if "kept" in payload:
                _write_file(self.folder.rows(_KEPT), view[items_end:])
                told["kept"] = {**lease["kept"], "worker": _KEPT, "offset": 0}
        self._close_pieces()
        if "problem" in lease:
            self.folder.problem(number).write_text(lease["problem"], encoding="utf-8", errors="surrogateescape")
        states = _create(self.folder.states(number))
        write_all(states, bytes(count))
        self._results.are_known()
        self._forget()
        self.lease = LeaseHere(lease["token"], lease["first"], lease["end"], number, states)
        self._write_page(Page.TOKEN, lease["token"], lease["first"], lease["end"])
        return {**told, "segment": number, "segment_first": lease["first"]}

    def limit(self, token: int, limit: int) -> None:
        """Have the Worker begin no Batch from here on, if it holds this Lease."""
        if self.lease is not None and self.lease.token == token:
            self._write_page(Page.LIMIT, limit)

    # What the operator is told

    def bring_rows_by(self, sink: RowsSink) -> None:
        """Bring rows to the operator another way than over the channel."""
        self._results.sink = sink

    def rows_again(self, begin: int, end: int) -> Iterator[Message]:
        """Send rows that have not come the other way."""
        yield from self._results.again(begin, end)

    def news(self) -> Iterator[Told]:
        """Tell what is new on the page, and rows."""
        yield from self.page(is_new=True)
        yield from self._results.news()

    def page(self, *, is_new: bool = False) -> Iterator[Message]:
        """Tell what the page says; `is_new`: only if it says something else than the last time."""
        page = os.pread(self._page, Page.SIZE, 0)
        if not is_new or page != self._told_page:
            self._told_page = page
            yield {"type": "page", "now_ns": time.time_ns()}, page

    def outcome(self) -> Iterator[Told]:
        """Tell all that has come of the last Lease, unless that has been told."""
        yield from self.page(is_new=True)
        if self.lease is None:
            return
        states = os.pread(self.lease.states, self.lease.end - self.lease.first, 0)  # before their entries and rows
        index_at, entries, rows = self._results.entries()
        outcome = self.lease.token, states, index_at + len(entries)
        if outcome == self._told_outcome:
            return
        self._told_outcome = outcome
        yield from rows
        written = {"token": self.lease.token, "first": self.lease.first, "index_at": index_at, "states": len(states)}
        yield {"type": "written", **written}, states + entries

    def tell_again(self) -> None:
        """Be ready for an operator that may not have heard what was told last."""
        self._told_page, self._told_outcome = b"", None
        self._results.tell_again()
        self._close_pieces()

    # Files

    @property
    def _next_number(self) -> int:
        return 0 if self.lease is None else self.lease.number + 1

    def _close_pieces(self) -> None:
        if self._pieces is not None:
            os.close(self._pieces)
            self._pieces = None

    def _forget(self) -> None:
        """Remove the files of the last Lease."""
        if self.lease is None:
            return
        os.close(self.lease.states)
        for path in (
            self.folder.payload,
            self.folder.lines,
            self.folder.offsets,
            self.folder.states,
            self.folder.problem,
        ):
            with suppress(FileNotFoundError):
                os.unlink(path(self.lease.number))  # noqa: PTH108 - this is much of what a Lease costs here

    def _write_page(self, first: int, *words: int) -> None:
        os.pwrite(self._page, struct.pack(f"@{len(words)}Q", *words), struct.calcsize("@Q") * first)


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _write_file(path: Path, data: "bytes | memoryview") -> None:
    file = _create(path)
    try:
        write_all(file, data)
    finally:
        os.close(file)
