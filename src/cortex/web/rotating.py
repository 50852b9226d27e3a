"""Read a log that is rotated while it is read: at a certain size `log` becomes `log.1`, and a new `log` is begun."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_CHUNK_BYTES: Final = 512 * 1024


class RotatingReader:
    """Gives all of a log, the older file first, and then what is appended: each byte once, whenever it is rotated.

    What is read stays open, so that a file can be renamed, or even removed, before it is read to its end.
    """

    def __init__(self, log: Path, older: Path) -> None:
        self._log = log
        self._older = older
        self._files: list[int] = []  # to be read one after the other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()

    def read(self) -> bytes:
        """Give what comes next; nothing if there is no more at the moment."""
        while True:
            if self._files and (chunk := os.read(self._files[0], _CHUNK_BYTES)):
                return chunk
            if len(self._files) > 1:
                os.close(self._files.pop(0))
            elif newer := self._newer():
                # The present one is read again before it is left: it may have grown until it was renamed.
                self._files += newer
            else:
                return b""

    def _newer(self) -> list[int]:
        """Open the files that have come after the one that is read."""
        present = _open(self._log)  # for a moment there is none
        known = {_identity(file) for file in self._files}
        is_known = present is not None and _identity(present) in known
        newer: list[int] = []
        # The other one is opened after this: if this one is renamed in between, it is found to be the same.
        for file in (present,) if is_known else (_open(self._older), present):
            if file is not None and _identity(file) not in known:
                known.add(_identity(file))
                newer.append(file)
            elif file is not None:
                os.close(file)
        return newer


def _open(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _identity(file: int) -> tuple[int, int]:
    """Name a file by what stays when it is renamed; it is nobody else's as long as the file is open."""
    facts = os.fstat(file)
    return facts.st_dev, facts.st_ino
