"""Counting the Batches of a Job, and the Items in them, from the state bytes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import BatchState
from cortex.domain.job import Counts, Job
from cortex.domain.lease import Lease
from cortex.storage.segments import States

_SUCCEEDED: Final = (BatchState.SUCCEEDED, BatchState.SUCCEEDED_WITH_ROWS)
_FAILED: Final = (BatchState.FAILED, BatchState.GIVEN_UP)


class Tally:
    """Counts again and again, and looks only once at a Segment in which nothing can change any more."""

    def __init__(self, job: Job, segments: Sequence[States]) -> None:
        self._job = job
        self._segments = segments
        self._ended: dict[int, Counts] = {}

    def counts(self, leases: Collection[Lease], failed_items: Mapping[int, int]) -> Counts:
        """Count everything; `failed_items` is as in `count`."""
        return add(self._count(states, leases, failed_items) for states in self._segments)

    def _count(self, states: States, leases: Collection[Lease], failed_items: Mapping[int, int]) -> Counts:
        segment = states.segment
        if segment.number in self._ended:
            return self._ended[segment.number]
        counts = count(self._job, states, [lease for lease in leases if lease.segment == segment.number], failed_items)
        items = self._job.items_of(segment.end - 1) + (segment.count - 1) * self._job.batch_size
        if counts.in_flight + counts.in_queue == 0 and counts.succeeded_items + counts.failed_items == items:
            self._ended[segment.number] = counts
        return counts


def count(
    job: Job, states: States, leases: Iterable[Lease] = (), failed_items: Mapping[int, int] | None = None
) -> Counts:
    """Count the Batches of one Segment, and their Items, from one reading of its bytes.

    `failed_items` says how many Items have failed of each Batch that has FAILED_IN_PART. Where it lacks one, that
    Batch has failed, and its Items are not counted yet.
    """
    read = np.frombuffer(states.read(), np.uint8)
    by_state = np.bincount(read, minlength=len(BatchState))
    first = states.segment.first
    in_flight = sum(
        int(np.count_nonzero(read[lease.first - first : lease.end - first] == BatchState.OPEN)) for lease in leases
    )
    succeeded_items = _items(job, states, read, _SUCCEEDED)
    failed_items_ = _items(job, states, read, _FAILED)
    if by_state[BatchState.FAILED_IN_PART] and failed_items:
        for batch in (np.flatnonzero(read == BatchState.FAILED_IN_PART) + first).tolist():
            if (failed := failed_items.get(batch)) is not None:
                failed_items_ += failed
                succeeded_items += job.items_of(batch) - failed
    return Counts(
        succeeded=int(sum(by_state[state] for state in _SUCCEEDED)),
        failed=int(sum(by_state[state] for state in (*_FAILED, BatchState.FAILED_IN_PART))),
        in_flight=in_flight,
        in_queue=int(by_state[BatchState.OPEN]) - in_flight,
        succeeded_items=succeeded_items,
        failed_items=failed_items_,
    )


def _items(job: Job, states: States, read: npt.NDArray[np.uint8], wanted: Sequence[BatchState]) -> int:
    """Count the Items of the Batches in these states: all Batches are full but perhaps the last one of the Job."""
    batches = sum(int(np.count_nonzero(read == state)) for state in wanted)
    is_last_wanted = bool(batches) and read[-1] in wanted
    missing = job.batch_size - job.items_of(states.segment.end - 1) if is_last_wanted else 0
    return batches * job.batch_size - missing


def add(counts: Iterable[Counts]) -> Counts:
    """Add up the Counts of several Segments."""
    every = list(counts)
    return Counts(
        succeeded=sum(each.succeeded for each in every),
        failed=sum(each.failed for each in every),
        in_flight=sum(each.in_flight for each in every),
        in_queue=sum(each.in_queue for each in every),
        succeeded_items=sum(each.succeeded_items for each in every),
        failed_items=sum(each.failed_items for each in every),
    )
