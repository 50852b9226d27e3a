"""What the items of a Batch were: the payload of a Segment, as it is read after its Batches have ended."""

import json
import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Final

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.checksum import crc32
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.segments import ItemsChanged, SegmentDamaged, copied_items
from cortex.worker.source import OpenSource, SourceChanged, SourceFile, as_payload

_ITEM: Final = json.JSONDecoder(parse_int=str, parse_float=str)  # where it ends is asked, not what it is
_BETWEEN_ITEMS: Final = re.compile(r"[ \t\r\n,]*")


def read_payload(folder: JobFolder, segment: SegmentRange, batches: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Give number and payload (a JSON array) of these Batches, one at a time. For none of them, nothing is opened.

    Raises SegmentDamaged; ItemsChanged where they were left in a file of the user's that is another one now.
    """
    wanted = iter(batches)
    first = next(wanted, None)
    if first is None:
        return
    try:
        with folder.offsets(segment.number).open("rb") as offsets, _open(folder, segment) as payload:
            for batch in chain([first], wanted):
                position = batch - segment.first
                place = os.pread(offsets.fileno(), 2 * OFFSET_BYTES, OFFSET_BYTES * position)
                begin, end = struct.unpack("<II", place)
                checksum = os.pread(offsets.fileno(), OFFSET_BYTES, OFFSET_BYTES * (segment.count + 1 + position))
                yield batch, payload.read(batch, begin, end, checksum)
    except (FileNotFoundError, struct.error, ValueError) as error:
        raise SegmentDamaged(f"the items of segment {segment.number} are not all there: {error}") from error
    except SourceChanged as error:
        raise ItemsChanged(f"the items of segment {segment.number} cannot be read: {error}") from error


def source_of(folder: JobFolder, segment: SegmentRange) -> SourceFile | None:
    """Give which file the Items of a Segment have stayed in; None where they are copied. Raises SegmentDamaged."""
    try:
        return SourceFile.from_json(folder.source(segment.number).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SegmentDamaged(f"`{folder.source(segment.number)}` is damaged: {error}") from error


@contextmanager
def _open(folder: JobFolder, segment: SegmentRange) -> Iterator["_Payload | _Source"]:
    number = segment.number
    if not folder.source(number).exists():
        path = copied_items(folder, segment)
        with path.open("rb") as items:
            yield _Payload(items, holds_lines=path == folder.lines(number))
    else:
        source = OpenSource(folder.source(number), folder.offsets(number))
        try:
            yield _Source(source)
        finally:
            source.close()


@dataclass(frozen=True, slots=True)
class _Payload:
    """The file of the Batches of a Segment that were copied."""

    file: BinaryIO
    holds_lines: bool

    def read(self, batch: int, begin: int, end: int, checksum: bytes) -> bytes:
        if not begin <= end <= os.fstat(self.file.fileno()).st_size:
            raise SegmentDamaged(f"`{self.file.name}` is cut short")
        data = os.pread(self.file.fileno(), end - begin, begin)
        if checksum and crc32(data) != int.from_bytes(checksum, "little"):
            raise SegmentDamaged(f"the items of batch {batch} in `{self.file.name}` are not what was written")
        return as_payload(data) if self.holds_lines else data


@dataclass(frozen=True, slots=True)
class _Source:
    """The file that the Batches of a Segment have stayed in."""

    file: OpenSource

    def read(self, _batch: int, begin: int, end: int, _checksum: bytes) -> bytes:
        return as_payload(self.file.read(end - begin, begin))


def split_items(payload: bytes) -> list[bytes]:
    """Give the items of a payload, each as it was submitted, to the last digit."""
    text = payload.decode()
    items = []
    place = _next_item(text, text.index("[") + 1)
    while text[place] != "]":
        _, end = _ITEM.raw_decode(text, place)
        items.append(text[place:end].encode())
        place = _next_item(text, end)
    return items


def _next_item(text: str, place: int) -> int:
    between = _BETWEEN_ITEMS.match(text, place)
    return between.end() if between else place
