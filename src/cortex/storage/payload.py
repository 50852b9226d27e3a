"""What the items of a Batch were: the payload of a Segment, as it is read after its Batches have ended."""

import json
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.segments import SegmentDamaged

_ITEM: Final = json.JSONDecoder(parse_int=str, parse_float=str)  # where it ends is asked, not what it is
_BETWEEN_ITEMS: Final = re.compile(r"[ \t\r\n,]*")


def read_payload(folder: JobFolder, segment: SegmentRange, batches: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Give number and payload (a JSON array) of these Batches, one at a time. Raises SegmentDamaged."""
    try:
        with folder.offsets(segment.number).open("rb") as offsets, folder.payload(segment.number).open("rb") as payload:
            for batch in batches:
                position = batch - segment.first
                place = os.pread(offsets.fileno(), 2 * OFFSET_BYTES, OFFSET_BYTES * position)
                begin, end = struct.unpack("<II", place)
                if not begin <= end <= os.fstat(payload.fileno()).st_size:
                    raise SegmentDamaged(f"`{payload.name}` is cut short")
                data = os.pread(payload.fileno(), end - begin, begin)
                checksum = os.pread(offsets.fileno(), OFFSET_BYTES, OFFSET_BYTES * (segment.count + 1 + position))
                if checksum and zlib.crc32(data) != int.from_bytes(checksum, "little"):
                    raise SegmentDamaged(f"the items of batch {batch} in `{payload.name}` are not what was written")
                yield batch, data
    except (FileNotFoundError, struct.error) as error:
        raise SegmentDamaged(f"the items of segment {segment.number} are not all there: {error}") from error


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
