"""Reading the Batches of a Segment and storing how they ended."""

import mmap
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.checksum import crc32
from cortex.domain.layout import JobFolder
from cortex.worker.source import OpenSource, SourceChanged, as_payload

_READ_BYTES: Final = 256 * 1024  # fits into a CPU's cache
_OFFSETS_AT_ONCE: Final = 8192


class DataDamaged(Exception):
    """The items of a Batch cannot be read any more."""

    def __init__(self) -> None:
        super().__init__("its items on the operator's disk are damaged, and predict was not called; submit them again")


class LeasedSegment:
    """One Segment, as the Worker that holds a Lease in it sees it."""

    def __init__(self, folder: JobFolder, number: int, first: int) -> None:
        self.number = number
        self._first = first
        states = os.open(folder.states(number), os.O_RDWR)
        try:
            self.states = mmap.mmap(states, 0)
        finally:
            os.close(states)
        self._problem: Exception = DataDamaged()
        payload = _open(folder.payload(number))
        self._payload = _open(folder.lines(number)) if payload is None else payload
        self._holds_lines = payload is None
        self._offsets = _open(folder.offsets(number))
        self._size = 0 if self._payload is None else os.fstat(self._payload).st_size
        self._source: OpenSource | None = None
        self._told_problem = folder.problem(number)
        # Opened when it is read, and not before: it lies where its owner has it, and that may not answer.
        self._not_open: JobFolder | None = folder if self._payload is None else None

    def _open_source(self) -> None:
        folder, self._not_open = self._not_open, None
        if folder is None:
            return
        try:
            source = OpenSource(folder.source(self.number), folder.offsets(self.number))
        except SourceChanged as problem:
            self._note(problem)
        except (OSError, ValueError):  # the files that are the operator's
            return
        else:
            self._source, self._size = source, source.facts.size - source.facts.base
            self._note(source.facts.changed)

    def _note(self, problem: SourceChanged) -> None:
        self._problem = SourceChanged(f"{problem}; predict was not called")

    def problem(self) -> Exception:
        """Say why there is no payload for a Batch: on a machine elsewhere, what was told of it."""
        try:
            return SourceChanged(self._told_problem.read_text(encoding="utf-8", errors="surrogateescape"))
        except FileNotFoundError:
            return self._problem

    def close(self) -> None:
        """Let go of the files."""
        self.states.close()
        if self._source is not None:
            self._source.close()
        for file in (self._payload, self._offsets):
            if file is not None:
                os.close(file)

    def index(self, first: int, end: int) -> "tuple[array[int], array[int]]":
        """Give where the items of each Batch of a Lease begin, and where the last ones end, and their checksums.

        Of Batches that have stayed in a file of the user's, there are no checksums. Fewer where the index is damaged.
        """
        first, count = first - self._first, end - first
        return self._numbers(first, count + 1), self._numbers(len(self.states) + 1 + first, count)

    def batches(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Give number and payload (a JSON array) of the Batches of a Lease, reading many of them at a time.

        Where the bytes are not those that were written, or cannot be read, the payload is empty; `problem` says why.
        """
        self._open_source()
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
        are_checked = len(checksums) == len(offsets) - 1  # what stays is not, nor that of an earlier version
        for position in range(len(offsets) - 1):
            begin, end = offsets[position], offsets[position + 1]
            if end > window_start + len(window):
                # At least this Batch, and all that follow in this piece of the index and fit into a window.
                length = max(end - begin, offsets[bisect_right(offsets, begin + _READ_BYTES) - 1] - begin)
                window_start, window = begin, self._read_window(min(length, self._size - begin), begin)
            payload = window[begin - window_start : end - window_start]
            if are_checked and crc32(payload) != checksums[position]:
                payload = b""
            elif self._holds_lines:
                payload = as_payload(payload) if len(payload) == end - begin else b""
            yield self._first + first + position, payload

    def _read_window(self, length: int, offset: int) -> bytes:
        if self._source is None:
            return _pread(self._payload, length, offset)
        try:
            return self._source.read(length, offset)
        except SourceChanged as problem:
            self._note(problem)
            return b""

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
