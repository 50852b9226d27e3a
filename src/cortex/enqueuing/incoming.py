"""Large files of lines that come from elsewhere, or are decompressed: written down as they come, and checked there.

One process reads and writes; forks check what is written, with the code that checks files that stay where they are.
Each Segment has a draft, which becomes its file of lines once all of it is checked. What cannot be taken as it is,
from the first line that is not plain on, is for those who copy.
"""

import os
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from cortex.domain.batch import MAX_BATCH_BYTES, MAX_SEGMENT_BATCHES
from cortex.domain.checksum import crc32
from cortex.enqueuing.forks import in_forks
from cortex.enqueuing.in_place import BRACKETS, read_whole_lines
from cortex.enqueuing.lines import BLOCK_BYTES
from cortex.enqueuing.plain import NEWLINE, plain_beginning, plain_line_ends
from cortex.worker.kernel import begin_write_back, write_all

_PIECE_BYTES: Final = 2 * 1024 * 1024  # what is checked by one process at a time
_READ_BYTES: Final = 1024 * 1024  # more than elsewhere: fewer copies between buffers, and hardly anything is done here
_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024

_Order = tuple[int, int, int]
"""The number of a draft, and where in it the Batches that are to be checked begin and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A file that holds the lines of full Batches and nothing else. Its bytes are on the disk."""

    path: Path
    bounds: "array[int]"  # where each Batch begins, and the last one ends
    checksums: "array[int]"


@dataclass(slots=True, kw_only=True, eq=False)
class _Draft:
    number: int
    path: Path
    file: int
    size: int = 0
    written_back: int = 0
    asked: int = 0  # so many bytes are being checked, or have been
    bounds: "array[int]" = field(default_factory=lambda: array("I", [0]))  # of the Batches that are there
    checksums: "array[int]" = field(default_factory=lambda: array("I"))  # of those that have been checked

    def write(self, data: bytes) -> None:
        write_all(self.file, data)
        self.size += len(data)
        if self.size - self.written_back >= _WRITE_BACK_BYTES:
            begin_write_back(self.file, self.written_back, self.size)
            self.written_back = self.size

    def read(self, begin: int) -> Iterator[bytes]:
        """Give all from here on, block by block."""
        while block := os.pread(self.file, BLOCK_BYTES, begin):
            yield block
            begin += len(block)

    def ask(self, count: int) -> Iterator[_Order]:
        """Tell which of the first so many Batches have not been told yet, if there are any."""
        begin, self.asked = self.asked, self.bounds[count]
        if begin < self.asked:
            yield self.number, begin, self.asked

    def remove(self) -> None:
        os.close(self.file)
        self.path.unlink(missing_ok=True)  # what was given has another name


class Incoming:
    """The lines of one file, from where a Batch begins."""

    def __init__(
        self,
        open_content: Callable[[], BinaryIO],
        draft_path: Callable[[int], Path],
        *,
        batch_size: int,
        max_bytes: int,
        piece_bytes: int = _PIECE_BYTES,
    ) -> None:
        """The content is opened when the processes that check are there. A Segment has `max_bytes`, or one Batch."""
        self._open_content = open_content
        self._draft_path = draft_path
        self._batch_size = batch_size
        self._max_bytes = max_bytes
        self._piece_bytes = piece_bytes
        self._content: BinaryIO | None = None
        self._drafts = deque[_Draft]()  # those that were not given yet, in order
        self._begun = 0

    def segments(self) -> Generator[Taken, None, None]:
        """Give one Segment after the other, each as full as it may be, up to the first Batch that cannot be taken.

        Whoever gets one gives its file another name before asking for the next.
        """
        orders = deque[_Order]()

        def told() -> Iterator[_Order]:
            for order in self._write():
                orders.append(order)
                yield order

        with closing(in_forks(partial(_check, self._draft_path, self._batch_size), told())) as results:
            for result in results:
                number, _, end = orders.popleft()
                while self._drafts[0].number < number:
                    yield from self._give()
                draft = self._drafts[0]
                draft.checksums.frombytes(result[:-1])
                if draft.bounds[len(draft.checksums)] < end:
                    break
        if self._drafts and self._drafts[0].checksums:
            self._split(self._drafts[0], len(self._drafts[0].checksums))
            yield from self._give()

    def _give(self) -> Iterator[Taken]:
        draft = self._drafts[0]
        os.fdatasync(draft.file)
        yield Taken(path=draft.path, bounds=draft.bounds, checksums=draft.checksums)
        self._drafts.popleft().remove()

    def rest(self) -> Iterator[bytes]:
        """Give what comes behind the Segments, block by block."""
        while self._drafts:
            yield from self._drafts[0].read(0)
            self._drafts.popleft().remove()
        while self._content is not None and (block := self._content.read(BLOCK_BYTES)):
            yield block

    def close(self) -> None:
        """Leave nothing of what was not given."""
        while self._drafts:
            self._drafts.popleft().remove()
        if self._content is not None:
            self._content.close()

    def _write(self) -> Iterator[_Order]:
        """Write what comes to drafts, and tell what can be checked, until all has come or a Batch is too large."""
        self._content = self._open_content()
        draft = self._begin()
        self._drafts.append(draft)
        lines = 0  # of the Batch that is not whole
        while block := self._content.read(_READ_BYTES):
            newlines = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE)
            ends = newlines[self._batch_size - 1 - lines :: self._batch_size] + (draft.size + 1)
            lines = (lines + len(newlines)) % self._batch_size
            draft.write(block)
            sizes = np.diff(ends, prepend=draft.bounds[-1], append=draft.size)
            too_large = np.flatnonzero(sizes + BRACKETS >= MAX_BATCH_BYTES)
            draft.bounds.frombytes(ends[: too_large[0] if len(too_large) else None].astype("<u4").tobytes())
            while (count := self._fitting(draft)) < len(draft.bounds) - 1:
                yield from draft.ask(count)
                draft = self._split(draft, count)
            if len(too_large):
                break
            if draft.bounds[-1] - draft.asked >= self._piece_bytes:
                yield from draft.ask(count)
        yield from draft.ask(len(draft.bounds) - 1)

    def _fitting(self, draft: _Draft) -> int:
        """Count the Batches of a draft that its Segment has room for."""
        count = bisect_right(draft.bounds, self._max_bytes) - 1
        return min(max(count, 1), MAX_SEGMENT_BATCHES, len(draft.bounds) - 1)

    def _begin(self) -> _Draft:
        path = self._draft_path(self._begun)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        draft = _Draft(number=self._begun, path=path, file=os.open(path, flags, 0o600))
        self._begun += 1
        return draft

    def _split(self, draft: _Draft, count: int) -> _Draft:
        """Move what comes behind so many Batches of a draft to one that follows it."""
        end = draft.bounds[count]
        following = self._begin()
        self._drafts.insert(self._drafts.index(draft) + 1, following)
        for block in draft.read(end):
            following.write(block)
        following.bounds = array("I", (bound - end for bound in draft.bounds[count:]))
        os.ftruncate(draft.file, end)
        draft.size = end
        del draft.bounds[count + 1 :]
        return following


def _check(draft_path: Callable[[int], Path], batch_size: int, order: _Order) -> bytes:
    """Give the checksums of the Batches in a piece of a draft up to the first that is not plain, and one byte more."""
    number, position, end = order
    checksums, checksum, lines, is_plain = array("I"), 0, 0, True
    file = os.open(draft_path(number), os.O_RDONLY | os.O_CLOEXEC)
    try:
        while is_plain and position < end:
            text = read_whole_lines(file, position, end, end)
            ends = plain_line_ends(text)
            is_plain = ends is not None
            ends = plain_beginning(text) if ends is None else ends
            batch_ends = (ends[batch_size - 1 - lines :: batch_size] + 1).tolist()
            lines = (lines + len(ends)) % batch_size
            written = memoryview(text + b"\n")
            for begin, batch_end in pairwise([0, *batch_ends]):
                checksums.append(crc32(written[begin:batch_end], checksum))
                checksum = 0
            checksum = crc32(written[batch_ends[-1] if batch_ends else 0 :], checksum)
            position += len(written)
    finally:
        os.close(file)
    return checksums.tobytes() + b"."
