"""What the supervisor writes to the log here, brought to the log that users read."""

import os
from collections.abc import Iterator
from pathlib import Path

from cortex.domain.frame import Message, pieces
from cortex.worker.kernel import free_bytes


class LogTail:
    """The log of a mirror. Offsets are those of all that was ever written: a log that rotates is many files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._begin = 0  # what was written before this file
        self._told = 0
        self._known = 0  # of that, what the operator is known to have

    @property
    def told(self) -> int:
        """How much the operator was told."""
        return self._told

    def news(self) -> Iterator[Message]:
        """Tell what has been written since the last time."""
        yield from self._rest()
        if self._has_rotated():
            yield from self._rest()  # written to the earlier file in the meantime
            self._close()
            yield from self._rest()

    def is_known(self, told: int) -> None:
        """The operator has so much: it need not be kept."""
        if told > self._known:
            if self._file is not None:
                free_bytes(self._file, max(0, self._known - self._begin), told - self._begin)
            self._known = told

    def tell_again(self) -> None:
        """What the operator is not known to have, it is told again."""
        self._told = max(self._known, self._begin)

    def _rest(self) -> Iterator[Message]:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR)
            except FileNotFoundError:
                return
        size = os.fstat(self._file).st_size
        for offset, length in pieces(self._told - self._begin, size):
            data = os.pread(self._file, length, offset)
            self._told += len(data)
            yield {"type": "log", "offset": self._told - len(data)}, data

    def _has_rotated(self) -> bool:
        if self._file is None:
            return False
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file, self._begin = None, self._told
