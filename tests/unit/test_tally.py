"""What is counted again, and what is not."""

from pathlib import Path

import pytest

from cortex.domain.batch import BatchState
from cortex.domain.job import Counts
from cortex.domain.lease import Lease
from cortex.operator.run.tally import Tally, add, count
from cortex.storage.segments import States
from job_files import job_of, make_job, set_states

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState


class Counted:
    """Three Segments whose readings are counted; batches of four Items, of which the last one has three."""

    def __init__(self, root: Path) -> None:
        self.folder, self.segments = make_job(root, 4, 4, 2)
        self.job = job_of(self.segments, batch_size=4, item_count=39)
        self.read: list[int] = []
        self.states = [self.counting(States(self.folder, segment)) for segment in self.segments]
        self.tally = Tally(self.job, self.states)

    def counting(self, states: States) -> States:
        read = states.read

        def counted(first: int | None = None, end: int | None = None) -> bytes:
            self.read.append(states.segment.number)
            return read(first, end)

        states.read = counted  # type: ignore[method-assign]
        return states

    def counts(self, *leases: Lease, failed_items: dict[int, int] | None = None) -> Counts:
        """Count, as every count must come out: as that of bytes that are all read again."""
        self.read.clear()
        counts = self.tally.counts(leases, failed_items or {})
        anew = [
            count(
                self.job,
                States(self.folder, segment),
                [lease for lease in leases if lease.segment == segment.number],
                failed_items,
            )
            for segment in self.segments
        ]
        assert add(anew) == counts
        return counts


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    counted = Counted(tmp_path)
    counted.tally.begin()
    return counted


def lease(segment: int, first: int, end: int) -> Lease:
    return Lease(token=1, worker="a", segment=segment, first=first, end=end)


def test_a_segment_is_read_once_while_nothing_changes_in_it(counted: Counted) -> None:
    first = counted.counts()
    assert [0, 1, 2] == counted.read

    assert first == counted.counts()
    assert [] == counted.read


def test_until_all_leases_are_known_everything_is_read_every_time(tmp_path: Path) -> None:
    counted = Counted(tmp_path)

    for _ in range(2):
        counted.counts()
        assert [0, 1, 2] == counted.read


def test_a_segment_with_a_lease_is_read_every_time_and_once_after_it(counted: Counted) -> None:
    counted.counts()
    counted.tally.touch(1)
    set_states(counted.folder, counted.segments[1], [OPEN, ROWS, FAILED, OPEN])

    assert (1, 7) == ((now := counted.counts(lease(1, 4, 7))).in_flight, now.in_queue)
    assert [1] == counted.read
    set_states(counted.folder, counted.segments[1], [ROWS, ROWS, FAILED, OPEN])
    assert (2, 4) == ((now := counted.counts(lease(1, 4, 7))).succeeded, now.failed_items)
    assert [1] == counted.read
    set_states(counted.folder, counted.segments[1], [ROWS, ROWS, FAILED, NOTHING])
    assert 3 == counted.counts().succeeded
    assert [1] == counted.read
    counted.counts()
    assert [] == counted.read


def test_items_that_are_not_known_yet_are_looked_for_again(counted: Counted) -> None:
    set_states(counted.folder, counted.segments[2], [IN_PART, IN_PART])

    assert 1 == counted.counts(failed_items={8: 1}).failed_items
    assert (4, 3) == ((now := counted.counts(failed_items={8: 1, 9: 3})).failed_items, now.succeeded_items)
    assert [2] == counted.read
    counted.counts(failed_items={8: 1, 9: 3})
    assert [] == counted.read


def test_all_is_read_again_where_nobody_knows_what_has_changed(counted: Counted) -> None:
    counted.counts()
    set_states(counted.folder, counted.segments[0], [GIVEN_UP] * 4)
    set_states(counted.folder, counted.segments[2], [ROWS, ROWS])

    counted.tally.begin()

    assert (7, 16) == ((now := counted.counts()).succeeded_items, now.failed_items)
