"""Reading the Batches of a Segment and storing how they ended."""

import mmap
import os
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
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
        with folder.states(number).open("r+b") as states:
            self.states = mmap.mmap(states.fileno(), 0)
        self._payload = _open(folder.payload(number))
        self._offsets = _open(folder.offsets(number))
        self._size = 0 if self._payload is None else os.fstat(self._payload).st_size

    def close(self) -> None:
        """Let go of the files."""
        self.states.close()
        for file in (self._payload, self._offsets):
            if file is not None:
                os.close(file)

    def batches(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Give number and payload (a JSON array) of the Batches of a Lease, reading a few megabytes at a time.

        Where the bytes are not those that were written, or cannot be read, the payload is empty.
        """
        first -= self._first
        end -= self._first
        while first < end:
            count = min(end - first, _OFFSETS_AT_ONCE)
            offsets = self._numbers(first, count + 1)
            if len(offsets) == count + 1:
                yield from self._read(first, offsets, self._numbers(len(self.states) + 1 + first, count))
            else:
                yield from ((self._first + position, b"") for position in range(first, first + count))
            first += count

    def _read(self, first: int, offsets: "array[int]", checksums: "array[int]") -> Iterator[tuple[int, bytes]]:
        window_start, window = 0, b""
        are_checked = len(checksums) == len(offsets) - 1  # those of an earlier version are not
        for position in range(len(offsets) - 1):
            begin, end = offsets[position], offsets[position + 1]
            if end > window_start + len(window):
                # At least this Batch, and all that follow in this piece of the index as far as the window reaches.
                length = max(end - begin, min(offsets[-1] - begin, _READ_BYTES))
                window_start, window = begin, _pread(self._payload, min(length, self._size - begin), begin)
            payload = window[begin - window_start : end - window_start]
            if are_checked and zlib.crc32(payload) != checksums[position]:
                payload = b""
            yield self._first + first + position, payload

    def _numbers(self, first: int, count: int) -> "array[int]":
        """Give so many numbers of the index; fewer where it is cut short."""
        data = _pread(self._offsets, OFFSET_BYTES * count, OFFSET_BYTES * first)
        return array("I", data[: len(data) // OFFSET_BYTES * OFFSET_BYTES])


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _pread(file: int | None, length: int, offset: int) -> bytes:
    if file is None or length <= 0:
        return b""
    try:
        return os.pread(file, length, offset)
    except OSError:
        return b""
