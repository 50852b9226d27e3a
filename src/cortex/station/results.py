"""What a Worker has returned, brought to the operator: its rows file and its index, as far as they are complete."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from cortex.domain.batch import ENTRY
from cortex.domain.frame import Message, pieces
from cortex.station.messages import Told
from cortex.worker.kernel import free_bytes


class RowsSink(Protocol):
    """A way for rows to the operator."""

    @property
    def least_bytes(self) -> int:
        """Fewer wait until a Lease ends: others may come."""

    def bring(self, file: int, begin: int, end: int) -> Iterator[Told]:
        """Bring the bytes of an open file between two offsets to the operator: give what that is to be told."""


class ChannelRows:
    """They are sent as they appear."""

    least_bytes = 1

    def bring(self, file: int, begin: int, end: int) -> Iterator[Told]:
        """See RowsSink."""
        return rows_on_channel(file, begin, end)


_FREE_BYTES: Final = 8 * 1024 * 1024
"""Room for rows that the operator has is given back in pieces of so much."""


def rows_on_channel(file: int, begin: int, end: int) -> Iterator[Message]:
    """Send the rows themselves."""
    for offset, length in pieces(begin, end):
        yield {"type": "rows", "offset": offset}, os.pread(file, length, offset)


class Results:
    """The rows file of a Worker and its index.

    An entry of the index is written after its rows, and an append that finds no room is undone. So what entries cover
    stays as it is, and nothing else is told.
    """

    def __init__(self, rows: Path, index: Path) -> None:
        self._rows_path = rows
        self._index_path = index
        self.sink: RowsSink = ChannelRows()
        self._rows: int | None = None
        self._index: int | None = None
        self._told_rows = 0
        self._told = (0, 0)  # how much of index and rows was told with the end of a Lease
        self._known = (0, 0)  # how much of them the operator has
        self._freed = 0

    def news(self) -> Iterator[Told]:
        """Tell the rows that are new."""
        _, rows_end = self._ends()
        if rows_end - self._told_rows >= self.sink.least_bytes:
            yield from self._rows_until(rows_end)

    def again(self, begin: int, end: int) -> Iterator[Message]:
        """Send rows that were told, and that the operator does not have."""
        if self._rows is not None:
            yield from rows_on_channel(self._rows, begin, end)

    def entries(self) -> tuple[int, bytes, Iterator[Told]]:
        """Give the entries that the operator does not have yet, with their offset, and what is to be told before."""
        index_end, rows_end = self._ends()
        at = self._known[0]
        self._told = (index_end, rows_end)
        data = b"" if self._index is None else os.pread(self._index, index_end - at, at)
        return at, data, self._rows_until(rows_end)

    def are_known(self) -> None:
        """The operator has all that was told with `entries`."""
        self._known = self._told
        rows_end = self._known[1]
        if self._rows is not None and rows_end - self._freed >= _FREE_BYTES:
            free_bytes(self._rows, self._freed, rows_end)
            self._freed = rows_end

    def tell_again(self) -> None:
        """What the operator is not known to have, it is told again."""
        self._told_rows = self._known[1]

    def _rows_until(self, end: int) -> Iterator[Told]:
        if self._rows is not None and self._told_rows < end:
            begin, self._told_rows = self._told_rows, end
            yield from self.sink.bring(self._rows, begin, end)

    def _ends(self) -> tuple[int, int]:
        """Give how much there is of the index in whole entries, and of the rows that they cover."""
        if self._index is None or self._rows is None:
            try:
                if self._rows is None:
                    self._rows = os.open(self._rows_path, os.O_RDWR)
                self._index = os.open(self._index_path, os.O_RDONLY)
            except FileNotFoundError:  # it has not been constructed yet
                return 0, 0
        index_end = os.fstat(self._index).st_size // ENTRY.size * ENTRY.size
        if index_end == self._told[0]:
            return self._told
        _, _, offset, length, *_ = ENTRY.unpack(os.pread(self._index, ENTRY.size, index_end - ENTRY.size))
        return index_end, offset + length
