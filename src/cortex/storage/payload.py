"""What the items of a Batch were: the payload of a Segment, as it is read after its Batches have ended."""

import os
import struct
from collections.abc import Iterable, Iterator

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.segments import SegmentDamaged


def read_payload(folder: JobFolder, segment: SegmentRange, batches: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Give number and payload (a JSON array) of these Batches, one at a time. Raises SegmentDamaged."""
    try:
        with folder.offsets(segment.number).open("rb") as offsets, folder.payload(segment.number).open("rb") as payload:
            for batch in batches:
                place = os.pread(offsets.fileno(), 2 * OFFSET_BYTES, OFFSET_BYTES * (batch - segment.first))
                begin, end = struct.unpack("<II", place)
                data = os.pread(payload.fileno(), end - begin, begin)
                if len(data) != end - begin:
                    raise SegmentDamaged(f"`{payload.name}` is cut short")
                yield batch, data
    except (FileNotFoundError, struct.error) as error:
        raise SegmentDamaged(f"the items of segment {segment.number} are not all there: {error}") from error
