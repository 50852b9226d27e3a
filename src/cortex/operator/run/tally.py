"""Counting the Batches of a Job, and the Items in them, from the state bytes."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from typing import Final

import numpy as np

from cortex.domain.batch import FAILURES, SUCCESSES, BatchState
from cortex.domain.job import Counts, Job
from cortex.domain.lease import Lease
from cortex.storage.segments import States

_FAILED_AS_A_WHOLE: Final = tuple(state for state in FAILURES if state is not BatchState.FAILED_IN_PART)


class Tally:
    """Counts again and again, and reads only those Segments in which something may have changed since the last time.

    State bytes change under a Lease, or by the hand of the operator, and never otherwise: `touch` tells of both. Until
    `begin`, there may be Leases of an earlier operator that nobody knows of yet, and every Segment is read every time.
    """

    def __init__(self, job: Job, segments: Sequence[States]) -> None:
        self._job = job
        self._segments = segments
        self._touched = set(range(len(segments)))
        self._settled: dict[int, Counts] = {}  # of the Segments in which nothing changes
        self._sum = Counts()  # of these
        self._has_begun = False

    def touch(self, segment: int) -> None:
        """Read this Segment again from now on."""
        if settled := self._settled.pop(segment, None):
            self._sum = _plus(self._sum, settled, times=-1)
        self._touched.add(segment)

    def begin(self) -> None:
        """Read every Segment again. From now on all Leases are known. May be repeated."""
        self._has_begun = True
        self._touched.update(self._settled)
        self._settled.clear()
        self._sum = Counts()

    def counts(self, leases: Collection[Lease], failed_items: Mapping[int, int]) -> Counts:
        """Count everything; `failed_items` is as in `count`."""
        leased: defaultdict[int, list[Lease]] = defaultdict(list)
        for lease in leases:
            leased[lease.segment].append(lease)
        changing = []
        for number in sorted(self._touched):
            counts = count(self._job, self._segments[number], leased.get(number, ()), failed_items)
            if self._has_begun and number not in leased and self._has_all_items(counts):
                self._settle(number, counts)
            else:
                changing.append(counts)
        return add([self._sum, *changing])

    def _settle(self, segment: int, counts: Counts) -> None:
        self._touched.discard(segment)
        self._settled[segment] = counts
        self._sum = _plus(self._sum, counts)

    def _has_all_items(self, counts: Counts) -> bool:
        """Tell whether the Items of every ended Batch were counted: only one, the Job's last, has fewer than others."""
        ended = counts.succeeded + counts.failed
        return counts.succeeded_items + counts.failed_items > (ended - 1) * self._job.batch_size


def count(
    job: Job, states: States, leases: Iterable[Lease] = (), failed_items: Mapping[int, int] | None = None
) -> Counts:
    """Count the Batches of one Segment, and their Items, from one reading of its bytes.

    `failed_items` says how many Items have failed of each Batch that has FAILED_IN_PART. Where it lacks one, that
    Batch has failed, and its Items are not counted yet.
    """
    read = np.frombuffer(states.read(), np.uint8)
    # By their values: of an enum, numpy does not know that it fits into a byte, and is ten times as slow.
    batches, uncounted = [0] * len(BatchState), len(read)
    for value in range(len(batches)):
        if uncounted:  # mostly no more than two of the states occur
            batches[value] = int(np.count_nonzero(read == value))
            uncounted -= batches[value]
    first = states.segment.first
    in_flight = sum(
        int(np.count_nonzero(read[lease.first - first : lease.end - first] == BatchState.OPEN.value))
        for lease in leases
    )
    # All Batches are full but perhaps the last one of the Job.
    last, missing = int(read[-1]), job.batch_size - job.items_of(states.segment.end - 1)
    succeeded, failed = (sum(batches[state] for state in group) for group in (SUCCESSES, _FAILED_AS_A_WHOLE))
    succeeded_items = succeeded * job.batch_size - (missing if last in SUCCESSES else 0)
    failed_items_ = failed * job.batch_size - (missing if last in _FAILED_AS_A_WHOLE else 0)
    if batches[BatchState.FAILED_IN_PART] and failed_items:
        for batch in (np.flatnonzero(read == BatchState.FAILED_IN_PART.value) + first).tolist():
            if (failed_of_it := failed_items.get(batch)) is not None:
                failed_items_ += failed_of_it
                succeeded_items += job.items_of(batch) - failed_of_it
    return Counts(
        succeeded=succeeded,
        failed=failed + batches[BatchState.FAILED_IN_PART],
        in_flight=in_flight,
        in_queue=batches[BatchState.OPEN] - in_flight,
        succeeded_items=succeeded_items,
        failed_items=failed_items_,
    )


def add(counts: Iterable[Counts]) -> Counts:
    """Add up the Counts of several Segments."""
    return reduce(_plus, counts, Counts())


def _plus(some: Counts, others: Counts, *, times: int = 1) -> Counts:
    return Counts(
        succeeded=some.succeeded + times * others.succeeded,
        failed=some.failed + times * others.failed,
        in_flight=some.in_flight + times * others.in_flight,
        in_queue=some.in_queue + times * others.in_queue,
        succeeded_items=some.succeeded_items + times * others.succeeded_items,
        failed_items=some.failed_items + times * others.failed_items,
    )
