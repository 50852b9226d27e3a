"""Reading the Batches of a Segment and storing how they ended."""

import mmap
import os
from array import array
from collections.abc import Iterator
from typing import Final

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.layout import JobFolder

_READ_BYTES: Final = 4 * 1024 * 1024
_OFFSETS_AT_ONCE: Final = 8192


class LeasedSegment:
    """One Segment, as the Worker that holds a Lease in it sees it."""

    def __init__(self, folder: JobFolder, number: int, first: int) -> None:
        self.number = number
        self._first = first
        self._payload = os.open(folder.payload(number), os.O_RDONLY)
        self._offsets = os.open(folder.offsets(number), os.O_RDONLY)
        with folder.states(number).open("r+b") as states:
            self.states = mmap.mmap(states.fileno(), 0)

    def close(self) -> None:
        """Let go of the files."""
        self.states.close()
        os.close(self._payload)
        os.close(self._offsets)

    def batches(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Give number and payload (a JSON array) of the Batches of a Lease, reading a few megabytes at a time."""
        first -= self._first
        end -= self._first
        while first < end:
            count = min(end - first, _OFFSETS_AT_ONCE)
            offsets = array("I", os.pread(self._offsets, OFFSET_BYTES * (count + 1), OFFSET_BYTES * first))
            yield from self._read(first, offsets)
            first += count

    def _read(self, first: int, offsets: "array[int]") -> Iterator[tuple[int, bytes]]:
        window_start, window = 0, b""
        for position in range(len(offsets) - 1):
            begin, end = offsets[position], offsets[position + 1]
            if end > window_start + len(window):
                # At least this Batch, and all that follow in this piece of the index as far as the window reaches.
                length = max(end - begin, min(offsets[-1] - begin, _READ_BYTES))
                window_start, window = begin, os.pread(self._payload, length, begin)
            yield self._first + first + position, window[begin - window_start : end - window_start]
