"""Which open Batches of a Job are leased to whom.

The truth is in the state bytes and on the Workers' pages; this is a view of them that a new operator can rebuild.
The promises:

- A Batch is leased to one Worker at a time, and only while its byte is open.
- Whatever ends a Lease (the Worker's word, its death, its coming back without it), what the Lease covered is read
  from the bytes: what is open goes back to the queue at once, at its front.
- A Batch whose Worker died in it is leased alone from then on.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from cortex.domain.batch import BatchState
from cortex.domain.frame import Frame
from cortex.domain.job import Counts, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Lease, Pace, lease_size
from cortex.storage.pages import read_page, write_lease, write_limit
from cortex.storage.segments import States


class LeaseLost(Exception):
    """This Lease is no longer held: what its former holder says about it changes nothing."""


class Dispatch:
    """The queue and the Leases of one running Job."""

    def __init__(
        self,
        folder: JobFolder,
        segments: Sequence[SegmentRange],
        *,
        workers: int,
        next_token: Callable[[], int],
        suspects: Iterable[int] = (),
    ) -> None:
        self._folder = folder
        self._states = [States(folder, segment) for segment in segments]
        self._firsts = [segment.first for segment in segments]
        self._workers = workers
        self._next_token = next_token
        self._suspects = set(suspects)
        self._queue: deque[tuple[int, int]] = deque()
        self._queued = 0
        self._leases: dict[str, Lease] = {}
        self._pace: Pace | None = None
        self._ended_segments: dict[int, Counts] = {}

    @property
    def queued(self) -> int:
        """How many Batches wait for a Lease."""
        return self._queued

    @property
    def is_done(self) -> bool:
        """True once no Batch is queued or leased: then every Batch has ended."""
        return not self._queue and not self._leases

    @property
    def has_leases(self) -> bool:
        """True while any Worker holds a Lease."""
        return bool(self._leases)

    def fill(self) -> None:
        """Queue every open Batch that no Lease covers, and nothing else."""
        self._queue.clear()
        self._queued = 0
        for states in self._states:
            covered = sorted(
                (lease.first, lease.end) for lease in self._leases.values() if lease.segment == states.segment.number
            )
            begin = states.segment.first
            for first, end in [*covered, (states.segment.end, states.segment.end)]:
                if begin < first:
                    self._put(states.open_ranges(begin, first))
                begin = max(begin, end)

    def adopt(self, worker: str) -> None:
        """Take over the Lease that a Worker's page says it holds, if any: it was granted by an earlier operator."""
        page = read_page(self._folder, worker)
        # The Batch that it is in may lie beyond a limit that was lowered too late: it is held all the same.
        end = max(page.limit, 0 if page.current is None else page.current + 1)
        if page.token and page.first < end:
            segment = self._states_of(page.first).segment.number
            self._leases[worker] = Lease(token=page.token, worker=worker, segment=segment, first=page.first, end=end)

    def held_by(self, worker: str) -> Lease | None:
        """Give the Lease that a Worker holds."""
        return self._leases.get(worker)

    def lease(self, worker: str) -> Lease | None:
        """Lease open Batches to a Worker that holds none; None when none are queued. It is on the page already."""
        if not self._queue:
            return None
        first, end = self._queue[0]
        segment = self._states_of(first).segment
        size = (
            1
            if first in self._suspects
            else lease_size(pace=self._pace, open_batches=self._queued, workers=self._workers)
        )
        stop = min(first + size, end, segment.end)
        lease = Lease(token=self._next_token(), worker=worker, segment=segment.number, first=first, end=stop)
        write_lease(self._folder, worker, token=lease.token, first=first, limit=stop)
        # Nothing fails from here on: what could not be written was not leased.
        self._queue.popleft()
        if stop < end:
            self._queue.appendleft((stop, end))
        self._queued -= stop - first
        self._leases[worker] = lease
        return lease

    def frame(self, lease: Lease) -> Frame:
        """Write a Lease as its holder is told of it."""
        return {
            "type": "lease",
            "token": lease.token,
            "segment": lease.segment,
            "segment_first": self._states[lease.segment].segment.first,
            "first": lease.first,
            "end": lease.end,
        }

    def end_lease(self, worker: str, token: int, pace: Pace) -> None:
        """End a Lease on its holder's word; what it left open goes back. Raises LeaseLost."""
        lease = self._leases.get(worker)
        if lease is None or lease.token != token:
            raise LeaseLost
        if pace.batches:
            self._pace = pace
        self.release(worker)

    def release(self, worker: str) -> int | None:
        """End whatever a Worker holds: it is gone, or came back without it.

        Gives the Batch that it was in: the suspect, if it is gone. That Batch is leased alone from now on.
        """
        lease = self._leases.get(worker)
        if lease is None:
            return None
        page = read_page(self._folder, worker)
        open_ranges = self._states_of(lease.first).open_ranges(lease.first, lease.end)
        write_lease(self._folder, worker, token=0, first=0, limit=0)
        del self._leases[worker]
        suspect = next((page.current for first, end in open_ranges if page.current in range(first, end)), None)
        self._put(open_ranges, at_front=True)
        return suspect

    def suspect(self, batch: int) -> None:
        """Lease this Batch, which is queued, alone from now on."""
        self._suspects.add(batch)
        ranges = list(self._queue)
        self._queue.clear()
        self._queued = 0
        self._put(ranges)

    def is_queued_alone(self, batch: int) -> bool:
        """True of a suspect that is open."""
        return (batch, batch + 1) in self._queue

    def give_up(self, batch: int) -> None:
        """End a queued Batch as given up."""
        self._states_of(batch).store(batch, BatchState.GIVEN_UP)
        self._queue.remove((batch, batch + 1))
        self._queued -= 1

    def largest_unstarted(self) -> Lease | None:
        """Give the Lease with the most Batches that its holder has not begun; None when there are none."""
        unstarted = [(self._unstarted(lease), lease) for lease in self._leases.values() if lease.count > 1]
        most, lease = max(unstarted, key=lambda pair: pair[0], default=(0, None))
        return lease if most > 0 else None

    def _unstarted(self, lease: Lease) -> int:
        current = read_page(self._folder, lease.worker).current
        return lease.count if current is None else lease.end - current - 1

    def take_back(self, lease: Lease) -> None:
        """Ask the holder, through its page, to begin no further Batch of this Lease; `shorten` sees what came of it."""
        page = read_page(self._folder, lease.worker)
        begun = lease.first if page.current is None else page.current + 1
        write_limit(self._folder, lease.worker, min(begun, page.limit))

    def take_back_all(self) -> None:
        """Ask every holder to begin no further Batch."""
        for lease in self._leases.values():
            self.take_back(lease)

    def shorten(self, lease: Lease) -> None:
        """Queue again what the holder of a Lease has not begun.

        To be called a moment after `take_back`: by then the holder either has seen the limit, or has named on its
        page the Batch that it began before the limit was there, and that Batch stays its own.
        """
        if self._leases.get(lease.worker) != lease:
            return
        page = read_page(self._folder, lease.worker)
        end = max(page.limit, 0 if page.current is None else page.current + 1, lease.first + 1)
        if end < lease.end:
            self._leases[lease.worker] = replace(lease, end=end)
            write_limit(self._folder, lease.worker, end)
            self._put(self._states_of(end).open_ranges(end, lease.end), at_front=True)

    def counts(self) -> Counts:
        """Count the Batches, from their bytes."""
        succeeded = failed = in_flight = in_queue = 0
        for states in self._states:
            number = states.segment.number
            if number in self._ended_segments:
                counts = self._ended_segments[number]
            else:
                counts = count(states, [lease for lease in self._leases.values() if lease.segment == number])
                if counts.in_flight + counts.in_queue == 0:
                    self._ended_segments[number] = counts
            succeeded += counts.succeeded
            failed += counts.failed
            in_flight += counts.in_flight
            in_queue += counts.in_queue
        return Counts(succeeded=succeeded, failed=failed, in_flight=in_flight, in_queue=in_queue)

    def _put(self, ranges: Sequence[tuple[int, int]], *, at_front: bool = False) -> None:
        """Queue these ranges, in order, with every suspect in them as a range of its own."""
        pieces = [piece for first, end in ranges for piece in self._cut(first, end)]
        if at_front:
            self._queue.extendleft(reversed(pieces))
        else:
            self._queue.extend(pieces)
        self._queued += sum(end - first for first, end in pieces)

    def _cut(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        for batch in sorted(batch for batch in self._suspects if first <= batch < end):
            if first < batch:
                yield first, batch
            yield batch, batch + 1
            first = batch + 1
        if first < end:
            yield first, end

    def _states_of(self, batch: int) -> States:
        return self._states[bisect_right(self._firsts, batch) - 1]


def count(states: States, leases: Iterable[Lease] = ()) -> Counts:
    """Count the Batches of one Segment, from one reading of its bytes."""
    read = np.frombuffer(states.read(), np.uint8)
    by_state = np.bincount(read, minlength=len(BatchState))
    first = states.segment.first
    in_flight = sum(
        int(np.count_nonzero(read[lease.first - first : lease.end - first] == BatchState.OPEN)) for lease in leases
    )
    return Counts(
        succeeded=int(by_state[BatchState.SUCCEEDED] + by_state[BatchState.SUCCEEDED_WITH_ROWS]),
        failed=int(by_state[BatchState.FAILED] + by_state[BatchState.GIVEN_UP]),
        in_flight=in_flight,
        in_queue=int(by_state[BatchState.OPEN]) - in_flight,
    )
