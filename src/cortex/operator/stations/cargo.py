"""What a Lease carries to a Worker elsewhere: the payload of its Batches, which it cannot read here."""

import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.checksum import crc32
from cortex.domain.frame import MAX_FRAME_BYTES, Frame, Message, pieces
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.worker.segment import LeasedSegment
from cortex.worker.source import SourceChanged

MOST_LEASE_BYTES: Final = 4 * 1024 * 1024
"""How much payload a Lease carries, unless it is of a single Batch: so much is read, and sent, in milliseconds."""

_MOST_KEPT_BYTES: Final = MAX_FRAME_BYTES // 2
_MOST_OPEN: Final = 32

Refer = Callable[[int, int, int], dict[str, Any] | None]
"""Says where bytes of a Segment (its number, first and end) are to be read; None where they go with the Lease."""


def fitting(folder: JobFolder, segment: SegmentRange, first: int, end: int, *, most_bytes: int) -> int:
    """Say how many Batches from `first` (to `end`) have at most so much payload together: one at least."""
    position = first - segment.first
    try:
        index = os.open(folder.offsets(segment.number), os.O_RDONLY)
    except FileNotFoundError:  # nothing of them can be read: the Worker that gets them says so
        return end - first
    try:
        data = os.pread(index, OFFSET_BYTES * (end - first + 1), OFFSET_BYTES * position)
    finally:
        os.close(index)
    offsets = array("I", data[: len(data) // OFFSET_BYTES * OFFSET_BYTES])
    if len(offsets) != end - first + 1:
        return end - first
    return max(1, bisect_right(offsets, offsets[0] + most_bytes) - 1)


class Cargo:
    """Packs Leases. The Segments that they are of stay open for a while, since the next ones are often of the same."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, int], LeasedSegment] = OrderedDict()

    def refer(self, folder: JobFolder, lease: Frame, refer: Refer) -> Message | None:
        """Give what a station is to be told of a Lease whose payload is to be read elsewhere; None where it is not."""
        if "kept" in lease:
            return None
        return _refer(self._segment(folder, lease["segment"], lease["segment_first"]), lease, refer)

    def pack(self, folder: JobFolder, lease: Frame) -> Sequence[Message]:
        """Give what a station is to be told of a Lease: what does not fit into its frame, before it. Raises OSError."""
        return _pack(self._segment(folder, lease["segment"], lease["segment_first"]), folder, lease)

    def forget(self, folder: JobFolder) -> None:
        """Let go of the files of a Job: no Worker elsewhere runs it any more."""
        for key in [key for key in self._open if key[0] == folder.root]:
            self._open.pop(key).close()

    def _segment(self, folder: JobFolder, number: int, first: int) -> LeasedSegment:
        key = (folder.root, number)
        if key not in self._open:
            self._open[key] = LeasedSegment(folder, number, first)
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        return self._open[key]


def is_with_its_owner(folder: JobFolder, lease: Frame) -> bool:
    """Tell whether the payload lies in a file of the user's: on a disk, maybe, that is slow, or does not answer."""
    return folder.source(lease["segment"]).exists()


def pack_apart(folder: JobFolder, lease: Frame) -> Sequence[Message]:
    """Do as Cargo.pack does, in any thread. Raises OSError."""
    with closing(LeasedSegment(folder, lease["segment"], lease["segment_first"])) as segment:
        return _pack(segment, folder, lease)


def _pack(segment: LeasedSegment, folder: JobFolder, lease: Frame) -> Sequence[Message]:
    payloads = [payload for _, payload in segment.batches(lease["first"], lease["end"])]
    offsets, checksums = array("I", [0]), array("I", map(crc32, payloads))
    for payload in payloads:
        offsets.append(offsets[-1] + len(payload))
    items, index = b"".join(payloads), offsets.tobytes() + checksums.tobytes()
    told = {**lease, "index": len(index), "payload": {"kind": "inline", "bytes": len(items)}}
    if not all(payloads) and isinstance(problem := segment.problem(), SourceChanged):
        told["problem"] = str(problem)
    kept = _read_kept(folder, lease["kept"]) if "kept" in lease else None
    if kept is not None:
        told["payload"]["kept"] = len(kept)
    before: list[Message] = []
    if len(items) > MOST_LEASE_BYTES:
        piece: Frame = {"type": "payload", "token": lease["token"]}
        before = [(piece, items[begin : begin + length]) for begin, length in pieces(0, len(items))]
        items = b""
    return [*before, (told, index + items + (kept or b""))]


def _refer(segment: LeasedSegment, lease: Frame, refer: Refer) -> Message | None:
    """Give what a station is to be told of a Lease that does not carry its payload; None where it does."""
    offsets, checksums = segment.index(lease["first"], lease["end"])
    if len(offsets) != lease["end"] - lease["first"] + 1:
        return None
    payload = refer(lease["segment"], offsets[0], offsets[-1])
    try:
        index = array("I", (offset - offsets[0] for offset in offsets)).tobytes() + checksums.tobytes()
    except OverflowError:  # it is damaged: who reads the items says so
        return None
    if payload is None:
        return None
    return {**lease, "index": len(index), "payload": payload}, index


def _read_kept(folder: JobFolder, kept: Frame) -> bytes | None:
    """Give the rows that an earlier Job has kept of a Batch; None for so many that all of it is run again."""
    if kept["length"] > _MOST_KEPT_BYTES:
        return None
    try:
        with folder.rows(kept["worker"]).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), kept["length"], kept["offset"])
    except FileNotFoundError:
        return None
    return data if len(data) == kept["length"] else None
