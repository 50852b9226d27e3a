"""Where in a shared storage things lie: the one place that knows their names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final, Self

from cortex.domain.checksum import crc32
from cortex.storage.files import write_durably

PIECE_BYTES: Final = 8 * 1024 * 1024
"""A Segment lies there in pieces of this size: the first can be read while the others are being written."""

MOST_ROWS_BYTES: Final = 8 * 1024 * 1024
"""So much of a Worker's rows is left there as one file at most."""

_NAME_FILE: Final = "storage.name"
_ROWS: Final = re.compile(r"(\d{1,18})-(\d{1,9})-([0-9a-f]{8})", re.ASCII)


def root_of(storage: str, data: Path) -> str:
    """Give what the names of all that an operator leaves in a storage begin with.

    Several may share one. The operator's own name in it is made up once, and kept in its data directory.
    """
    path = data / _NAME_FILE
    if not path.exists():
        new = path.with_suffix(".new")  # an operator that dies here leaves no name that is cut short
        write_durably(new, token_hex(6).encode())
        new.replace(path)
    return f"{storage.rstrip('/')}/cortex-{path.read_text(encoding='ascii')}"


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where the things of one Job lie."""

    root: str
    job_id: str

    @property
    def base(self) -> str:
        """What the names of all of them begin with."""
        return f"{self.root}/{self.job_id}/"

    def segment(self, segment: int) -> str:
        """What the names of the pieces of a Segment begin with."""
        return f"{self.base}segments/{segment:06}/"

    def piece(self, segment: int, number: int) -> str:
        """Give the name of a piece of a Segment: of its bytes from `number * PIECE_BYTES` on."""
        return piece_of(self.segment(segment), number)

    def rows(self, worker: str, name: "RowsName") -> str:
        """Give the name of a part of a Worker's rows."""
        return f"{self.base}rows/{worker}/{name}"


def piece_of(segment: str, number: int) -> str:
    """Give the name of a piece, after what those of its Segment begin with."""
    return f"{segment}{number:05}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsName:
    """What a part of a Worker's rows is called: by what is in it, so that it may be written again, and checked."""

    offset: int  # where in the Worker's rows it begins
    size: int
    checksum: int  # crc32

    @classmethod
    def of(cls, offset: int, data: bytes) -> Self:
        """Name these bytes."""
        return cls(offset=offset, size=len(data), checksum=crc32(data))

    @classmethod
    def read(cls, name: str) -> Self:
        """Raises ValueError for what is no such name: it may come from a machine that is not ours."""
        match = _ROWS.fullmatch(name)
        if match is None or not 0 < int(match[2]) <= MOST_ROWS_BYTES:
            raise ValueError(f"`{name[:100]}` is no name of rows")
        return cls(offset=int(match[1]), size=int(match[2]), checksum=int(match[3], 16))

    def __str__(self) -> str:
        """Give it as `read` takes it."""
        return f"{self.offset}-{self.size}-{self.checksum:08x}"


def pieces_of(begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Cut a range of a Segment's bytes: give each piece, where in it the range begins, and how many bytes there are."""
    while begin < end:
        number, offset = divmod(begin, PIECE_BYTES)
        size = min(PIECE_BYTES - offset, end - begin)
        yield number, offset, size
        begin += size
