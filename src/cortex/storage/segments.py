"""The Segments of a Job, as the operator writes and reads them.

A Segment is published when its three files are complete; only then may it be leased. State bytes are stored by the
Workers that hold Leases; the operator stores them only for Batches that no Worker holds. They are read with plain
reads, never through a map: a map of a file that was cut short would kill the operator.
"""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence

from cortex.domain.batch import MAX_SEGMENT_BATCHES, MAX_SEGMENT_BYTES, BatchState
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.files import sync_file, write_durably


def write_segments(folder: JobFolder, batches: Iterable[bytes]) -> list[SegmentRange]:
    """Write the payload and index of a Job's Segments, durably; give what they hold.

    Each Batch is its JSON array. Writing again what was written before gives the same files.
    """
    folder.segments.mkdir(parents=True, exist_ok=True)
    folder.workers.mkdir(exist_ok=True)
    segments: list[SegmentRange] = []
    first = 0
    for group in _grouped(batches):
        number = len(segments)
        offsets = array("I", [0])
        end = 0
        for batch in group:
            end += len(batch)
            offsets.append(end)
        write_durably(folder.payload(number), b"".join(group))
        write_durably(folder.offsets(number), offsets.tobytes())
        write_durably(folder.states(number), bytes(len(group)))
        segments.append(SegmentRange(number=number, first=first, count=len(group)))
        first += len(group)
    for directory in (folder.segments, folder.root, folder.root.parent):
        sync_file(directory)
    return segments


def _grouped(batches: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    group: list[bytes] = []
    size = 0
    for batch in batches:
        if group and (len(group) == MAX_SEGMENT_BATCHES or size + len(batch) > MAX_SEGMENT_BYTES):
            yield group
            group, size = [], 0
        group.append(batch)
        size += len(batch)
    if group:
        yield group


class SegmentDamaged(Exception):
    """A Segment's file is missing or cut short."""


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
        return states

    def store(self, batch: int, state: BatchState) -> None:
        """Store the state of a Batch that no Worker holds. OPEN undoes an ending whose rows a power cut has lost."""
        with self.path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes([state]), batch - self.segment.first)

    def open_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """Give the ranges of open Batches between these two."""
        states = self.read(first, end)
        ranges = []
        start = states.find(BatchState.OPEN)
        while start >= 0:
            stop = start + _leading_zeros(states, start)
            ranges.append((first + start, first + stop))
            start = states.find(BatchState.OPEN, stop)
        return ranges


def _leading_zeros(states: bytes, start: int) -> int:
    """Count the zero bytes from here on, in doubling steps: a fresh Segment is one long run of them."""
    length = 64
    while start + length < len(states) and not any(states[start : start + length]):
        length *= 2
    rest = states[start : start + length]
    return len(rest) - len(rest.lstrip(b"\0"))


def ended_prefix(folder: JobFolder, segments: Sequence[SegmentRange], first: int) -> int:
    """Give the number of the first open Batch from `first` on; the number after the last one if there is none."""
    for segment in segments:
        if segment.end > first:
            begin = max(first, segment.first)
            position = States(folder, segment).read(begin).find(BatchState.OPEN)
            if position >= 0:
                return begin + position
    return segments[-1].end if segments else 0
