"""Batches that were left in a file of the user's: they are read where they lie, as long as the file is unchanged."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from cortex.domain.checksum import crc32

_INDEX_BYTES_AT_ONCE: Final = 1024 * 1024


class SourceChanged(Exception):
    """A file that holds Items of a Job is not what it was when the Job was submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """Which file holds the Batches of a Segment, and what shows that it is the same."""

    path: str  # as Python has it: a byte that is not UTF-8 is half of a surrogate pair
    size: int
    mtime_ns: int
    inode: int
    base: int  # where in it the first Batch begins
    checksum: int = 0  # crc32 of all this and of the Segment's index

    def with_index(self, index: bytes) -> "SourceFile":
        """Give this with the checksum that it has with an index."""
        return replace(self, checksum=crc32(index, self._facts_checksum))

    def is_with(self, index: Path) -> bool:
        """Tell whether nothing of this, nor of the index in a file, is damaged. Raises OSError."""
        checksum = self._facts_checksum
        with index.open("rb") as file:
            while data := file.read(_INDEX_BYTES_AT_ONCE):
                checksum = crc32(data, checksum)
        return checksum == self.checksum

    @property
    def _facts_checksum(self) -> int:
        return crc32(replace(self, checksum=0).to_json())

    def to_json(self) -> bytes:
        """Give this for `from_json`."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "SourceFile":
        """Raises ValueError for what is damaged."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"it names no file: {error}") from error

    def check(self, file: int) -> None:
        """Raise SourceChanged unless this is the file, as it was."""
        now = os.fstat(file)
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (self.size, self.mtime_ns, self.inode):
            raise self.changed

    @property
    def changed(self) -> SourceChanged:
        """What is raised where it is not what it was."""
        return SourceChanged(f"`{self._shown}` has changed since the job was submitted")

    def unreadable(self, error: OSError) -> SourceChanged:
        """Give what is raised where the disk has something against it."""
        return SourceChanged(f"`{self._shown}` cannot be read any more: {error.strerror}")

    def open(self) -> int:
        """Open the file. Raises SourceChanged, also where it cannot be opened any more."""
        try:
            # Not blocking, or a FIFO that has taken the file's place would hold us.
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SourceChanged(f"`{self._shown}` has been removed since the job was submitted") from error
        except OSError as error:
            raise self.unreadable(error) from error
        try:
            self.check(file)
        except BaseException:
            os.close(file)
            raise
        return file

    @property
    def _shown(self) -> str:
        return os.fsencode(self.path).decode(errors="backslashreplace")


class OpenSource:
    """The file of a Segment, open for reading."""

    def __init__(self, record: Path, index: Path) -> None:
        """Raises SourceChanged; OSError or ValueError where what the operator has kept of it is damaged."""
        self.facts = SourceFile.from_json(record.read_bytes())
        if not self.facts.is_with(index):
            raise ValueError(f"`{index}` is not what was written")
        self._file = self.facts.open()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def read(self, length: int, offset: int) -> bytes:
        """Give the lines of Batches, which begin at an offset of the index. Raises SourceChanged."""
        try:
            data = os.pread(self._file, length, self.facts.base + offset)
        except OSError as error:
            raise self.facts.unreadable(error) from error
        self.facts.check(self._file)  # afterwards, so that what has been read is what it was
        return data


def as_payload(lines: bytes) -> bytes:
    """Give the lines of a Batch as a JSON array."""
    return b"[%b]" % lines.removesuffix(b"\n").replace(b"\n", b",")
