"""The files of a list, of which the next ones are opened while one is read.

What lies far away comes after a while, however small it is: one after the other, a thousand files take a thousand
whiles.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, Final

from cortex.domain.errors import FilesError
from cortex.files.address import read_address
from cortex.files.files import FileInfo

_MOST_FILES: Final = 16
_MOST_BYTES: Final = 16 * 1024 * 1024


class Upcoming:
    """Gives files in the order of a list, and opens each.

    Those are opened early that are far away and have `most_bytes` at most. While another one has its turn, nothing else
    is open.
    """

    def __init__(
        self, open_file: Callable[[FileInfo], BinaryIO], listed: Iterable[FileInfo], *, most_bytes: int
    ) -> None:
        self._open_file = open_file
        self._listed = iter(listed)
        self._most_bytes = most_bytes
        self._waiting = deque[FileInfo]()
        self._opened: dict[str, BinaryIO] = {}
        self._opened_bytes = 0

    def __iter__(self) -> Iterator[FileInfo]:
        """Give the files, once. Each has its turn until the next one is asked for."""
        while True:
            self._look_ahead()
            if not self._waiting:
                return
            yield self._waiting.popleft()

    def open(self, file: FileInfo) -> BinaryIO:
        """Open the file whose turn it is. Raises what opening it raises."""
        early = self._opened.pop(file.url, None)
        if early is None:
            return self._open_file(file)
        self._opened_bytes -= file.size_bytes
        return early

    def close(self) -> None:
        """Let go of what was opened early."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _look_ahead(self) -> None:
        while self._has_room() and (file := next(self._listed, None)) is not None:
            self._waiting.append(file)
            if self._may_be_early(file):
                with suppress(FilesError):  # its turn will tell
                    self._opened[file.url] = self._open_file(file)
                    self._opened_bytes += file.size_bytes

    def _has_room(self) -> bool:
        if not self._waiting:
            return True
        has_room = len(self._waiting) < _MOST_FILES and self._opened_bytes < _MOST_BYTES
        return has_room and self._may_be_early(self._waiting[-1])

    def _may_be_early(self, file: FileInfo) -> bool:
        return file.size_bytes <= self._most_bytes and read_address(file.url).scheme != "file"
