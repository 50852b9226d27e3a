"""Which open Batches of a Job are leased to whom.

The truth is in the state bytes and on the Workers' pages; this is a view of them that a new operator can rebuild.
The promises:

- A Batch is leased to one Worker at a time, and only while its byte is open.
- Whatever ends a Lease (the Worker's word, its death, its coming back without it), what the Lease covered is read
  from the bytes: what is open goes back to the queue at once, at its front.
- A Batch whose Worker died in it, or that has had an attempt, is leased alone from then on.
"""

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nlargest
from operator import itemgetter
from typing import Final

from cortex.domain.batch import BatchState
from cortex.domain.frame import Frame
from cortex.domain.job import Counts, Job, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Lease, Pace, lease_size
from cortex.operator.run.singles import Singles
from cortex.operator.run.taking_in import Written, take_in
from cortex.operator.run.tally import Tally
from cortex.operator.stations.cargo import fitting
from cortex.storage.pages import read_page, write_lease, write_limit
from cortex.storage.segments import States

_MOST_PAGES_READ: Final = 128
"""Of Workers that may hold what others could do; there is a new choice every few milliseconds."""


class LeaseLost(Exception):
    """This Lease is no longer held: what its former holder says about it changes nothing."""


class Dispatch:
    """The queue and the Leases of one running Job."""

    def __init__(
        self,
        job: Job,
        folder: JobFolder,
        segments: Sequence[SegmentRange],
        *,
        next_token: Callable[[], int],
        singles: Iterable[int] = (),
    ) -> None:
        """Know nothing yet of what is open; `singles` are leased alone."""
        self._folder = folder
        self._states = [States(folder, segment) for segment in segments]
        self._firsts = [segment.first for segment in segments]
        self._workers = job.workers
        self._next_token = next_token
        self._queue: deque[tuple[int, int]] = deque()
        self._queued = 0  # in the ranges of the queue
        self._singles = Singles()
        self.lease_alone(singles)
        self._leases: dict[str, Lease] = {}
        self._pace: Pace | None = None
        self._tally = Tally(job, self._states)

    @property
    def queued(self) -> int:
        """How many Batches wait for a Lease."""
        return self._queued + len(self._singles)

    @property
    def is_done(self) -> bool:
        """True once no Batch is queued, leased or waiting: then every Batch has ended."""
        return not (self._queue or self._singles or self._leases or self._singles.waiting)

    def usable(self, most: int) -> int:
        """Count the Workers, up to so many, that there may be Batches for: each open one is for one of them."""
        left = self.queued + len(self._singles.waiting)
        return most if left >= most else min(most, left + sum(lease.count for lease in self._leases.values()))

    @property
    def has_leases(self) -> bool:
        """True while any Worker holds a Lease."""
        return bool(self._leases)

    def fill(self) -> None:
        """Queue every open Batch that no Lease covers and that does not wait, and nothing else."""
        self._tally.begin()
        self._queue.clear()
        self._queued = 0
        self._singles.clear()
        for states in self._states:
            covered = sorted(
                (lease.first, lease.end) for lease in self._leases.values() if lease.segment == states.segment.number
            )
            begin = states.segment.first
            for first, end in [*covered, (states.segment.end, states.segment.end)]:
                if begin < first:
                    self._put(states, states.open_ranges(begin, first))
                begin = max(begin, end)

    def adopt(self, worker: str) -> None:
        """Take over the Lease that a Worker's page says it holds, if any: it was granted by an earlier operator."""
        page = read_page(self._folder, worker)
        # The Batch that it is in may lie beyond a limit that was lowered too late: it is held all the same. On a copy,
        # no limit is lowered too late, and what the Worker says there does not widen its Lease.
        end = max(page.limit, 0 if page.current is None or page.is_copy else page.current + 1)
        if page.token and page.first < end:
            segment = self._states_of(page.first).segment.number
            self._tally.touch(segment)
            self._leases[worker] = Lease(token=page.token, worker=worker, segment=segment, first=page.first, end=end)

    def held_by(self, worker: str) -> Lease | None:
        """Give the Lease that a Worker holds."""
        return self._leases.get(worker)

    def leases(self) -> Collection[Lease]:
        """Give all that are held."""
        return self._leases.values()

    def lease(self, worker: str, *, most_bytes: int | None = None) -> Lease | None:
        """Lease open Batches to a Worker that holds none; None when none are queued. It is on the page already.

        They have at most so many bytes of payload, unless it is a single one.
        """
        first, end = self._next()
        if first == end:
            return None
        segment = self._states_of(first).segment
        if most_bytes is not None:
            end = first + fitting(self._folder, segment, first, end, most_bytes=most_bytes)
        lease = Lease(token=self._next_token(), worker=worker, segment=segment.number, first=first, end=end)
        write_lease(self._folder, worker, token=lease.token, first=first, limit=end)
        # Nothing fails from here on: what could not be written was not leased.
        self._tally.touch(segment.number)
        if first in self._singles:
            self._singles.remove(first)
        else:
            _, range_end = self._queue.popleft()
            if end < range_end:
                self._queue.appendleft((end, range_end))
            self._queued -= end - first
        self._leases[worker] = lease
        return lease

    def _next(self) -> tuple[int, int]:
        """Give which Batches are to be leased next; none where the range is empty."""
        single = self._singles.first
        if single is not None:
            return single, single + 1
        if not self._queue:
            return 0, 0
        first, end = self._queue[0]
        size = lease_size(pace=self._pace, open_batches=self._queued, workers=self._workers)
        return first, min(first + size, end, self._states_of(first).segment.end)

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

    def take_in(self, worker: str, written: Written) -> None:
        """Write down here what a Worker elsewhere has written under the Lease that it holds; of another one, nothing.

        May be repeated.
        """
        lease = self._leases.get(worker)
        if lease is not None and lease.token == written.token:
            take_in(self._folder, self._states_of(lease.first), lease, written)

    def end_lease(self, worker: str, token: int, pace: Pace) -> None:
        """End a Lease on its holder's word; what it left open goes back. Raises LeaseLost."""
        lease = self._leases.get(worker)
        if lease is None or lease.token != token:
            raise LeaseLost
        if pace.batches:
            self._pace = pace
        self.release(worker)

    def open_in(self, worker: str) -> int | None:
        """Give the Batch that a Worker is in, if it holds a Lease of it and it is open."""
        lease, current = self._leases.get(worker), read_page(self._folder, worker).current
        if lease is None or current is None or not lease.first <= current < lease.end:
            return None
        return current if self.state(current) is BatchState.OPEN else None

    def release(self, worker: str) -> None:
        """End whatever a Worker holds: it is gone, or came back without it."""
        lease = self._leases.get(worker)
        if lease is None:
            return
        states = self._states_of(lease.first)
        open_ranges = states.open_ranges(lease.first, lease.end)
        write_lease(self._folder, worker, token=0, first=0, limit=0)
        del self._leases[worker]
        self._put(states, open_ranges, at_front=True)

    def lease_alone(self, batches: Iterable[int]) -> None:
        """Lease these Batches alone from when they are queued again: they are leased now, or nothing is queued yet."""
        for batch in batches:
            self._singles.mark(self._states_of(batch).segment, batch)

    def is_queued_alone(self, batch: int) -> bool:
        """True of a Batch that is open, queued, and leased alone."""
        return batch in self._singles

    def hold(self, batch: int) -> None:
        """Let a Batch that is queued alone wait until `wake`."""
        self._singles.wait(batch)

    def wake(self, batch: int) -> None:
        """Queue a Batch that has waited."""
        self._singles.wake(batch)

    def give_up(self, batch: int) -> None:
        """End a Batch that is queued alone as given up."""
        states = self._states_of(batch)
        self._tally.touch(states.segment.number)
        states.store(batch, BatchState.GIVEN_UP)
        self._singles.remove(batch)

    def state(self, batch: int) -> BatchState:
        """Give how a Batch stands."""
        return BatchState(self._states_of(batch).read(batch, batch + 1)[0])

    def unstarted(self, most: int) -> list[Lease]:
        """Give the Leases with the most Batches that their holders have not begun, at most so many of them.

        Where there are thousands, these are the first among some that are chosen by chance: each is a page to read.
        """
        leases = [lease for lease in self._leases.values() if lease.count > 1]
        if len(leases) > _MOST_PAGES_READ:
            leases = random.sample(leases, _MOST_PAGES_READ)
        counted = [(count, lease) for lease in leases if (count := self._unstarted(lease)) > 0]
        return [lease for _, lease in nlargest(most, counted, key=itemgetter(0))]

    def _unstarted(self, lease: Lease) -> int:
        current = read_page(self._folder, lease.worker).current
        return lease.count if current is None else lease.end - current - 1

    def take_back(self, lease: Lease) -> int | None:
        """Ask the holder, through its page, to begin no further Batch of this Lease; `shorten` sees what came of it.

        Where the page is a copy, nobody would see it there: then it is left as it is, and the limit is given, which the
        holder is to be told. What it has not seen must not stand on the copy: the next operator would believe it.
        """
        page = read_page(self._folder, lease.worker)
        limit = min(lease.first if page.current is None else page.current + 1, page.limit)
        if page.is_copy:
            return limit
        write_limit(self._folder, lease.worker, limit)
        return None

    def take_back_all(self) -> list[tuple[Lease, int]]:
        """Ask every holder to begin no further Batch; give those who are to be told another way, with the limits."""
        limits = [(lease, self.take_back(lease)) for lease in self._leases.values()]
        return [(lease, limit) for lease, limit in limits if limit is not None]

    def shorten(self, lease: Lease, told_limit: int | None = None) -> None:
        """Queue again what the holder of a Lease has not begun; `told_limit` is what it was told, not by the page.

        To be called a moment after `take_back`: by then the holder either has seen the limit, or has named on its
        page the Batch that it began before the limit was there, and that Batch stays its own.
        """
        if self._leases.get(lease.worker) != lease:
            return
        page = read_page(self._folder, lease.worker)
        limit = page.limit if told_limit is None else min(told_limit, page.limit)
        end = max(limit, 0 if page.current is None else page.current + 1, lease.first + 1)
        if end < lease.end:
            self._leases[lease.worker] = replace(lease, end=end)
            write_limit(self._folder, lease.worker, end)
            states = self._states_of(end)
            self._put(states, states.open_ranges(end, lease.end), at_front=True)

    def counts(self, failed_items: Mapping[int, int]) -> Counts:
        """Count the Batches and their Items, from the bytes; `failed_items` is as in tally.count."""
        return self._tally.counts(self._leases.values(), failed_items)

    def _put(self, states: States, ranges: Sequence[tuple[int, int]], *, at_front: bool = False) -> None:
        """Queue these ranges of one Segment, in order."""
        rest, singles = self._singles.cut(states.segment, ranges)
        if at_front:
            self._queue.extendleft(reversed(rest))
        else:
            self._queue.extend(rest)
        self._queued += sum(end - first for first, end in rest)
        for batch in reversed(singles) if at_front else singles:
            self._singles.put(batch, at_front=at_front)

    def _states_of(self, batch: int) -> States:
        return self._states[bisect_right(self._firsts, batch) - 1]
