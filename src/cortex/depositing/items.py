"""The bytes of a Segment as they lie on disk: as a payload, as lines, or in a file of the user's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.layout import JobFolder
from cortex.worker.source import SourceChanged, SourceFile


class ItemsGone(Exception):
    """The bytes of a Segment are not what they were, or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Where the bytes of a Segment are."""

    path: Path
    base: int  # where in the file they begin
    size: int
    are_lines: bool  # each Batch is the lines that it came in, not a JSON array
    source: SourceFile | None  # what shows that the file, which is the user's, is the same


def find_items(folder: JobFolder, segment: int) -> Items:
    """Find the bytes of a published Segment. Raises ItemsGone."""
    try:
        size = _size(folder, segment)
        for path, are_lines in ((folder.payload(segment), False), (folder.lines(segment), True)):
            if path.exists():
                return Items(path=path, base=0, size=size, are_lines=are_lines, source=None)
        source = SourceFile.from_json(folder.source(segment).read_bytes())
    except (OSError, ValueError) as error:
        raise ItemsGone(f"the items of segment {segment} cannot be found: {error}") from error
    return Items(path=Path(source.path), base=source.base, size=size, are_lines=True, source=source)


def _size(folder: JobFolder, segment: int) -> int:
    count = folder.states(segment).stat().st_size
    with folder.offsets(segment).open("rb", buffering=0) as offsets:
        end = os.pread(offsets.fileno(), OFFSET_BYTES, OFFSET_BYTES * count)
    if len(end) != OFFSET_BYTES:
        raise ValueError("its index is cut short")
    return int.from_bytes(end, "little")


@contextmanager
def open_items(items: Items) -> Iterator["OpenItems"]:
    """Open the bytes of a Segment. Raises ItemsGone."""
    try:
        file = items.source.open() if items.source else os.open(items.path, os.O_RDONLY)
    except (OSError, SourceChanged) as error:
        raise ItemsGone(str(error)) from error
    try:
        yield OpenItems(items, file)
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class OpenItems:
    """The bytes of a Segment, open for reading from any thread."""

    items: Items
    file: int

    def read(self, offset: int, length: int) -> bytes:
        """Give so many bytes, or as many as there are from there on. Raises ItemsGone."""
        length = min(length, self.items.size - offset)
        data = bytearray()
        try:
            while len(data) < length:
                more = os.pread(self.file, length - len(data), self.items.base + offset + len(data))
                if not more:
                    raise ItemsGone(f"`{self.items.path}` is cut short")
                data += more
            if self.items.source is not None:
                self.items.source.check(self.file)  # afterwards, so that what has been read is what it was
        except (OSError, SourceChanged) as error:
            raise ItemsGone(str(error)) from error
        return bytes(data)
