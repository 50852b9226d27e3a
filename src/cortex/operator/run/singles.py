"""Which Batches of a Job are leased alone, and whose turn it is."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from cortex.domain.job import SegmentRange


class Singles:
    """Batches that something has happened to: a Worker died in them, or an attempt has failed.

    Each is queued, or waits (for the end of its backoff), or is leased, or has ended; only the first two are known
    here.
    """

    def __init__(self) -> None:
        self._marks: dict[int, bytearray] = {}  # of each Segment that has any: one byte a Batch
        self._queue: OrderedDict[int, None] = OrderedDict()
        self._waiting: set[int] = set()

    def __len__(self) -> int:
        """How many are queued."""
        return len(self._queue)

    @property
    def waiting(self) -> Collection[int]:
        """Those that wait."""
        return self._waiting

    def mark(self, segment: SegmentRange, batch: int) -> None:
        """Lease this Batch alone from now on."""
        if segment.number not in self._marks:
            self._marks[segment.number] = bytearray(segment.count)
        self._marks[segment.number][batch - segment.first] = 1

    def cut(self, segment: SegmentRange, ranges: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
        """Take the marked Batches out of ranges of a Segment; give what is left of the ranges, and those Batches."""
        marks = self._marks.get(segment.number)
        if marks is None:
            return list(ranges), []
        rest: list[tuple[int, int]] = []
        singles: list[int] = []
        for first, end in ranges:
            for batch in _positions(marks, first - segment.first, end - segment.first):
                number = batch + segment.first
                singles.append(number)
                if first < number:
                    rest.append((first, number))
                first = number + 1
            if first < end:
                rest.append((first, end))
        return rest, singles

    def put(self, batch: int, *, at_front: bool) -> None:
        """Queue one, unless it waits."""
        if batch not in self._waiting:
            self._queue[batch] = None
            self._queue.move_to_end(batch, last=not at_front)

    def wait(self, batch: int) -> None:
        """Let one that is queued wait until it is put back."""
        self._queue.pop(batch, None)
        self._waiting.add(batch)

    def wake(self, batch: int) -> None:
        """Queue one that has waited."""
        if batch in self._waiting:
            self._waiting.discard(batch)
            self.put(batch, at_front=False)

    def __contains__(self, batch: int) -> bool:
        """Tell whether one is queued."""
        return batch in self._queue

    @property
    def first(self) -> int | None:
        """Whose turn it is."""
        return next(iter(self._queue), None)

    def remove(self, batch: int) -> None:
        """Take one out of the queue: it is leased, or has ended."""
        del self._queue[batch]

    def clear(self) -> None:
        """Forget who is queued."""
        self._queue.clear()


def _positions(marks: bytearray, first: int, end: int) -> Iterator[int]:
    position = marks.find(1, first, end)
    while position >= 0:
        yield position
        position = marks.find(1, position + 1, end)
