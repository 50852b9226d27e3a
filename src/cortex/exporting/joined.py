"""The rows of a Job's Batches, in input order, each with the Item that it is of where that is wanted."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from cortex.domain.batch import BatchState
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.payload import read_payload
from cortex.storage.results import ResultDamaged, read_left

_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")  # between values: inside of strings, JSON has none


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """What a Batch gave."""

    batch: int
    data: bytes  # JSON lines
    payload: bytes | None  # a JSON array of its Items; None where inputs are not wanted
    failed: Sequence[tuple[int, int, int]] = ()  # ranges of Items that gave nothing, and how many rows come before

    def lines(self) -> list[bytes]:
        """Give each row."""
        return self.data.split(b"\n")[:-1]

    def joined(self) -> list[tuple[bytes, bytes]]:
        """Give each row after its input.

        That is an Item where between two failed ranges are as many rows as Items, otherwise a list of these Items.
        """
        pairs: list[tuple[bytes, bytes]] = []
        items, rows = _items(self.payload or b"[]"), self.lines()
        item, row = 0, 0
        for first, end, rows_before in [*self.failed, (len(items), len(items), len(rows))]:
            pairs += _join(items[item:first], rows[row:rows_before])
            item, row = end, rows_before
        return pairs

    def split(self, *, has_input: bool) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Give the inputs, none where they are not wanted, and the rows."""
        if not has_input:
            return (), self.lines()
        pairs = self.joined()
        return [given for given, _ in pairs], [row for _, row in pairs]


def read_batches(folder: JobFolder, segments: Iterable[SegmentRange], *, has_input: bool) -> Iterator[BatchRows]:
    """Give the rows of every Batch that has any, in input order.

    Raises ResultDamaged where rows that must be there are not, and SegmentDamaged where Items are not.
    """
    for segment in segments:
        batches = _rows_of(folder, segment)
        yield from _with_payload(folder, segment, batches) if has_input else batches


def _rows_of(folder: JobFolder, segment: SegmentRange) -> Iterator[BatchRows]:
    for batch, state, rows, failure in read_left(folder, segment, with_rows_only=True):
        if rows is None:
            raise ResultDamaged(f"the rows of batch {batch} are damaged")
        if rows[1]:
            failed = _failed_ranges(failure[1]) if state is BatchState.FAILED_IN_PART and failure else ()
            yield BatchRows(batch=batch, data=rows[1], payload=None, failed=failed)


def _failed_ranges(failure: bytes) -> list[tuple[int, int, int]]:
    lines = map(json.loads, failure.splitlines())
    return sorted((*line["part"], line["rows_before"]) for line in lines)


def _with_payload(folder: JobFolder, segment: SegmentRange, batches: Iterator[BatchRows]) -> Iterator[BatchRows]:
    present: list[BatchRows] = []

    def numbers() -> Iterator[int]:
        for batch in batches:
            present[:] = [batch]
            yield batch.batch

    for _, payload in read_payload(folder, segment, numbers()):
        yield replace(present[0], payload=payload.translate(_LINE_BREAKS))


def _items(payload: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in msgspec.json.decode(payload, type=list[msgspec.Raw])]
    except msgspec.DecodeError:  # halves of surrogate pairs, which JSON allows
        return [json.dumps(item).encode() for item in json.loads(payload)]


def _join(items: Sequence[bytes], rows: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    if len(items) == len(rows):
        return list(zip(items, rows, strict=True))
    together = b"[%b]" % b",".join(items)
    return [(together, row) for row in rows]
