"""The Segments of a Job, as the operator writes and reads them.

A Segment is published when its three files are complete; only then may it be leased. Its Batches are in a payload, or
in a file of the lines that they came in, or stay in a file of the user's, which is named instead. State bytes are
stored by the Workers that hold Leases; the operator stores them only for Batches that no Worker holds. They are read
with plain reads, never through a map: a map of a file that was cut short would kill the operator.
"""

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import BinaryIO, Final, Self

import numpy as np

from cortex.domain.batch import MAX_SEGMENT_BATCHES, MAX_SEGMENT_BYTES, OFFSET_BYTES, BatchState
from cortex.domain.checksum import crc32
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.files import sync_file, write_durably
from cortex.worker.kernel import begin_write_back
from cortex.worker.source import SourceFile

_BATCHES_AT_ONCE: Final = 4096
_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024
_KNOWN: Final = bytes(BatchState)


class SegmentWriter:
    """Writes one Segment after the other, in a memory of a few megabytes.

    What an earlier writer has left of a Segment that was not published is overwritten.
    """

    def __init__(
        self, folder: JobFolder, *, number: int = 0, first: int = 0, max_bytes: int = MAX_SEGMENT_BYTES
    ) -> None:
        """Go on with this Segment and Batch. `max_bytes` of payload are exceeded only by a Batch that is alone."""
        folder.segments.mkdir(parents=True, exist_ok=True)
        folder.workers.mkdir(exist_ok=True)
        self._folder = folder
        self._number = number
        self._first = first
        self._max_bytes = max_bytes
        self._payload: BinaryIO | None = None
        self._written_back = 0  # so much of it
        self._offsets = array("I", [0])
        self._checksums = array("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing of a Segment that is not complete: on a full disk, others need the room."""
        if self._payload is not None:
            with suppress(OSError):  # what cannot be flushed
                self._payload.close()
            self._remove()

    def _remove(self) -> None:
        self._remove_items()
        for path in (self._folder.offsets, self._folder.states):
            path(self._number).unlink(missing_ok=True)

    def _remove_items(self) -> None:
        for path in (self._folder.payload, self._folder.lines, self._folder.source):
            path(self._number).unlink(missing_ok=True)

    @property
    def count(self) -> int:
        """How many Batches the present Segment holds."""
        return len(self._offsets) - 1

    @property
    def next_batch(self) -> int:
        """The number of the Batch that comes next."""
        return self._first + self.count

    def extend(self, batches: Sequence[bytes]) -> int:
        """Write as many of these Batches, in order, as the present Segment has room for; tell how many."""
        room = min(len(batches), MAX_SEGMENT_BATCHES - self.count)
        ends = array("I", accumulate(map(len, batches[:room]), initial=self._offsets[-1]))[1:]
        fitting = bisect_right(ends, self._max_bytes)
        if fitting == 0 and room and not self.count:
            fitting = 1
        if self._payload is None and fitting:
            self._remove_items()
            self._payload = self._folder.payload(self._number).open("wb")
        if self._payload is not None:
            self._payload.write(b"".join(batches[:fitting]))
            self._begin_write_back(self._payload, int(ends[fitting - 1]) if fitting else 0)
        self._offsets.extend(ends[:fitting])
        self._checksums.extend(map(crc32, batches[:fitting]))
        return fitting

    def _begin_write_back(self, payload: BinaryIO, end: int) -> None:
        """Let the kernel begin to write, now and then: the sync at the end finds little left to do."""
        if end - self._written_back >= _WRITE_BACK_BYTES:
            payload.flush()
            begin_write_back(payload.fileno(), self._written_back, end)
            self._written_back = end

    def complete(self) -> SegmentRange | None:
        """Bring the present Segment to the disk and begin the next one; give what it holds, None if that is nothing.

        When this returns, the Segment may be published.
        """
        if self._payload is None:
            return None
        self._payload.flush()
        os.fdatasync(self._payload.fileno())
        self._payload.close()
        segment = self._finish(self.count, _index(self._offsets, self._checksums))
        self._payload, self._written_back = None, 0
        self._offsets, self._checksums = array("I", [0]), array("I")
        return segment

    def refer(self, file: SourceFile, index: bytes) -> SegmentRange:
        """Make a Segment of Batches that stay in a file; the index says where they are in it, behind the base.

        Between complete Segments only. When this returns, it may be published.
        """
        try:
            self._remove_items()
            write_durably(self._folder.source(self._number), file.with_index(index).to_json())
            return self._finish(len(index) // OFFSET_BYTES - 1, index)
        except BaseException:
            self._remove()
            raise

    def take(self, lines: Path, bounds: "array[int]", checksums: "array[int]") -> SegmentRange:
        """Make a Segment of a file in the folder of segments, which holds its Batches as lines and gets another name.

        Its bytes are on the disk. Between complete Segments only. When this returns, it may be published.
        """
        try:
            self._remove_items()
            lines.rename(self._folder.lines(self._number))
            return self._finish(len(checksums), _index(bounds, checksums))
        except BaseException:
            self._remove()
            raise

    def _finish(self, count: int, index: bytes) -> SegmentRange:
        segment = SegmentRange(number=self._number, first=self._first, count=count)
        write_durably(self._folder.offsets(self._number), index)
        write_durably(self._folder.states(self._number), bytes(count))
        sync_file(self._folder.segments)
        self._number, self._first = segment.number + 1, segment.end
        return segment


def index_of(batches: Sequence[bytes]) -> bytes:
    """Give the index of a Segment of these Batches: where each begins, where the last ends, and their checksums."""
    return _index(array("I", accumulate(map(len, batches), initial=0)), array("I", map(crc32, batches)))


def _index(offsets: "array[int]", checksums: "array[int]") -> bytes:
    return offsets.tobytes() + checksums.tobytes()


def write_segments(folder: JobFolder, batches: Iterable[bytes]) -> list[SegmentRange]:
    """Write the payload and index of a Job's Segments, durably; give what they hold.

    Each Batch is its JSON array. Writing again what was written before gives the same files.
    """
    segments: list[SegmentRange | None] = []
    rest = iter(batches)
    with SegmentWriter(folder) as writer:
        while group := list(islice(rest, _BATCHES_AT_ONCE)):
            while group := group[writer.extend(group) :]:
                segments.append(writer.complete())
        segments.append(writer.complete())
    for directory in (folder.root, folder.root.parent):
        sync_file(directory)
    return [segment for segment in segments if segment is not None]


def remove_payload(folder: JobFolder) -> None:
    """Remove the payload of a Job that no Worker will ever read. Slow for a large one."""
    for kind in ("*.payload", "*.lines", "*.draft"):
        for path in folder.segments.glob(kind):
            path.unlink(missing_ok=True)


def copied_items(folder: JobFolder, segment: SegmentRange) -> Path:
    """Give the file of the Job's that holds the Batches of a Segment, where they have not stayed in a user's file."""
    lines = folder.lines(segment.number)
    return lines if lines.exists() else folder.payload(segment.number)


class SegmentDamaged(Exception):
    """A Segment's file is missing or cut short, or what is in it was never written there."""


class ItemsChanged(SegmentDamaged):
    """The Items of a Segment have stayed in a file of the user's, and it is not what it was."""


class States:
    """The state bytes of one Segment."""

    def __init__(self, folder: JobFolder, segment: SegmentRange) -> None:
        self.segment = segment
        self.path = folder.states(segment.number)

    def read(self, first: int | None = None, end: int | None = None) -> bytes:
        """Give the state bytes of these Batches (default: all), as of one moment. Raises SegmentDamaged."""
        first = self.segment.first if first is None else first
        end = self.segment.end if end is None else end
        try:
            with self.path.open("rb", buffering=0) as file:
                states = os.pread(file.fileno(), end - first, first - self.segment.first)
        except FileNotFoundError as error:
            raise SegmentDamaged(f"`{self.path}` is missing") from error
        if len(states) != end - first:
            raise SegmentDamaged(f"`{self.path}` holds fewer states than the segment has batches")
        if states.translate(None, _KNOWN):
            raise SegmentDamaged(f"`{self.path}` holds states that there are not")
        return states

    def store(self, batch: int, state: BatchState) -> None:
        """Store the state of a Batch that no Worker holds. OPEN undoes an ending whose rows a power cut has lost."""
        with self.path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes([state]), batch - self.segment.first)

    def store_endings(self, first: int, states: bytes) -> None:
        """Store how Batches from `first` on have ended, in one go; one that has ended here stays as it is."""
        here = self.read(first, first + len(states))
        merged = bytes(ours or theirs for ours, theirs in zip(here, states, strict=True))
        if merged != here:
            with self.path.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), merged, first - self.segment.first)

    def batches(self, state: BatchState) -> list[int]:
        """Give the Batches in this state, in order: for one that few are in. Raises SegmentDamaged."""
        states, found = self.read(), []
        position = states.find(state)
        while position >= 0:
            found.append(self.segment.first + position)
            position = states.find(state, position + 1)
        return found

    def open_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """Give the ranges of open Batches between these two."""
        states = self.read(first, end)
        if BatchState.OPEN not in states:  # as at the end of most Leases
            return []
        if states == bytes(len(states)):  # as at the beginning
            return [(first, end)]
        is_open = np.frombuffer(states, np.uint8) == BatchState.OPEN.value
        edges: list[int] = (np.flatnonzero(is_open[1:] != is_open[:-1]) + first + 1).tolist()
        edges = [*([first] if is_open[0] else []), *edges, *([end] if is_open[-1] else [])]
        return list(zip(edges[::2], edges[1::2], strict=True))


def ended_prefix(folder: JobFolder, segments: Sequence[SegmentRange], first: int) -> int:
    """Give the number of the first open Batch from `first` on; the number after the last one if there is none."""
    for segment in segments:
        if segment.end > first:
            begin = max(first, segment.first)
            position = States(folder, segment).read(begin).find(BatchState.OPEN)
            if position >= 0:
                return begin + position
    return segments[-1].end if segments else 0
