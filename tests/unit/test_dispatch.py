import itertools
import os
import struct
from collections import Counter
from pathlib import Path

import pytest

from cortex.domain.batch import BatchState, Page
from cortex.domain.job import Counts, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Lease, Pace
from cortex.operator.run.dispatch import Dispatch, LeaseLost
from cortex.operator.run.tally import count
from cortex.storage.pages import create_page, read_page
from cortex.storage.segments import States
from job_files import job_of, make_job, set_states

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState
CHEAP = 1e-6


def counted(*, succeeded: int = 0, failed: int = 0, in_flight: int = 0, in_queue: int = 0) -> Counts:
    """Count Batches of one Item each."""
    return Counts(
        succeeded=succeeded,
        failed=failed,
        in_flight=in_flight,
        in_queue=in_queue,
        succeeded_items=succeeded,
        failed_items=failed,
    )


class Story:
    """The files of a Job and a Dispatch over them; plays the Workers as far as their words and bytes go."""

    def __init__(self, root: Path, *counts: int, workers: int = 2) -> None:
        self.folder, self.segments = make_job(root, *counts)
        self.workers = workers
        self.tokens = itertools.count(1)
        self.dispatch = self.new_dispatch()
        for worker in ("a", "b", "c"):
            create_page(self.folder, worker)

    def new_dispatch(self, *suspects: int) -> Dispatch:
        """Give the Dispatch of the next operator, which knows nothing yet."""
        return Dispatch(
            job_of(self.segments, workers=self.workers),
            self.folder,
            self.segments,
            next_token=lambda: next(self.tokens),
            singles=suspects,
        )

    def filled(self, *suspects: int) -> Dispatch:
        self.dispatch = self.new_dispatch(*suspects)
        self.dispatch.fill()
        return self.dispatch

    def set_word(self, worker: str, word: int, value: int) -> None:
        with self.folder.page(worker).open("r+b", buffering=0) as page:
            os.pwrite(page.fileno(), struct.pack("@Q", value), 8 * word)

    def name(self, worker: str, batch: int | None) -> None:
        """Let a Worker name on its page the Batch that it is about to begin."""
        self.set_word(worker, Page.CURRENT, 0 if batch is None else batch + 1)

    def store(self, *batches: int, state: BatchState = NOTHING) -> None:
        """End Batches as a Worker does."""
        for batch in batches:
            segment = next(segment for segment in self.segments if batch < segment.end)
            States(self.folder, segment).store(batch, state)

    def limit(self, worker: str) -> int:
        return read_page(self.folder, worker).limit

    def end(self, lease: Lease, *, seconds: float = CHEAP) -> None:
        """Let a Worker run all of its Lease and say so."""
        self.store(*range(lease.first, lease.end))
        self.dispatch.end_lease(lease.worker, lease.token, Pace(batches=lease.count, seconds=seconds))

    def large_lease(self, worker: str) -> Lease:
        """Give a Lease of many Batches, once small ones have told what a Batch costs."""
        while (lease := leased(self.dispatch, worker)).count < 8:
            self.end(lease)
        return lease

    def release(self, worker: str) -> int | None:
        """Let a Worker be gone; give the Batch that it was in."""
        suspect = self.dispatch.open_in(worker)
        self.dispatch.release(worker)
        return suspect

    def drain(self) -> list[tuple[int, int]]:
        """Lease all that is queued, one Lease after the other; give their ranges."""
        ranges = []
        while (lease := self.dispatch.lease("c")) is not None:
            ranges.append((lease.first, lease.end))
            self.end(lease, seconds=1e6)
        return ranges


def leased(dispatch: Dispatch, worker: str) -> Lease:
    lease = dispatch.lease(worker)
    assert lease is not None
    return lease


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path, 20, 30, 50)
    story.dispatch.fill()
    return story


# The queue


def test_every_open_batch_is_queued_and_nothing_else(tmp_path):
    story = Story(tmp_path, 5, 4)
    set_states(story.folder, story.segments[0], [OPEN, ROWS, OPEN, OPEN, FAILED])
    set_states(story.folder, story.segments[1], [GIVEN_UP, OPEN, NOTHING, OPEN])

    dispatch = story.filled()

    assert (dispatch.queued, dispatch.counts({})) == (5, counted(succeeded=2, failed=2, in_queue=5))
    assert [(0, 1), (2, 3), (3, 4), (6, 7), (8, 9)] == story.drain()
    assert dispatch.is_done


def test_a_job_whose_batches_have_all_ended_is_done(tmp_path):
    story = Story(tmp_path, 2)
    story.store(0, 1)

    assert story.filled().is_done
    assert story.dispatch.lease("a") is None


def test_filling_again_changes_nothing(story: Story):
    held = leased(story.dispatch, "a")

    story.dispatch.fill()

    assert held == story.dispatch.held_by("a")
    assert story.dispatch.counts({}) == counted(in_flight=1, in_queue=99)
    assert story.dispatch.queued == 99


def test_batches_are_leased_in_input_order(story: Story):
    ranges = []
    while (lease := story.dispatch.lease("a")) is not None:
        ranges.append((lease.first, lease.end))
        story.end(lease)

    assert list(range(100)) == [batch for first, end in ranges for batch in range(first, end)]
    assert len(ranges) < 50


# Leases


def test_a_lease_is_on_the_page_before_it_is_given(story: Story):
    lease = leased(story.dispatch, "a")

    page = read_page(story.folder, "a")
    assert (lease.token, lease.first, lease.end) == (page.token, page.first, page.limit)
    assert story.dispatch.held_by("a") == lease
    assert story.dispatch.held_by("b") is None


def test_a_lease_lies_in_one_segment(story: Story):
    story.store(*range(13))
    story.filled()

    story.large_lease("a")

    held = story.dispatch.held_by("a")
    assert held is not None
    segment = story.segments[held.segment]
    assert segment.first <= held.first < held.end <= segment.end


def test_a_holder_is_told_where_its_lease_and_its_segment_lie(story: Story):
    story.store(*range(25))
    story.filled()

    lease = leased(story.dispatch, "a")

    assert story.dispatch.frame(lease) == {
        "type": "lease",
        "token": lease.token,
        "segment": 1,
        "segment_first": 20,
        "first": 25,
        "end": 26,
    }


def test_a_batch_is_leased_to_one_worker_at_a_time(story: Story):
    leases = [leased(story.dispatch, worker) for worker in ("a", "b", "c")]

    covered = Counter(batch for lease in leases for batch in range(lease.first, lease.end))
    assert max(covered.values()) == 1
    assert story.dispatch.counts({}) == counted(in_flight=3, in_queue=97)


def test_tokens_grow(story: Story):
    first = leased(story.dispatch, "a")
    story.end(first)

    assert leased(story.dispatch, "a").token > first.token


def test_a_lease_that_ended_leaves_the_page_empty(story: Story):
    lease = leased(story.dispatch, "a")

    story.end(lease)

    page = read_page(story.folder, "a")
    assert (page.token, page.first, page.limit) == (0, 0, 0)
    assert story.dispatch.held_by("a") is None
    assert not story.dispatch.has_leases


def test_what_an_ended_lease_left_open_goes_back_to_the_front(story: Story):
    lease = story.large_lease("a")
    left = [lease.first + 2, lease.end - 1]
    story.store(*(set(range(lease.first, lease.end)) - set(left)))

    story.dispatch.end_lease("a", lease.token, Pace(batches=0, seconds=0.0))

    assert [(left[0], left[0] + 1), (left[1], left[1] + 1), lease.end] == [
        *story.drain()[:2],
        lease.end,
    ]


def test_the_word_of_one_who_holds_no_lease_changes_nothing(story: Story):
    lease = leased(story.dispatch, "a")
    before = story.dispatch.counts({})

    for worker, token in (("b", lease.token), ("a", lease.token + 1), ("a", 0), ("nobody", 1)):
        with pytest.raises(LeaseLost):
            story.dispatch.end_lease(worker, token, Pace(batches=1, seconds=1.0))

    assert lease == story.dispatch.held_by("a")
    assert before == story.dispatch.counts({})


def test_a_word_that_is_repeated_changes_nothing(story: Story):
    lease = leased(story.dispatch, "a")
    story.end(lease)

    with pytest.raises(LeaseLost):
        story.dispatch.end_lease("a", lease.token, Pace(batches=1, seconds=1.0))

    assert story.dispatch.counts({}) == counted(succeeded=1, in_queue=99)


# Deaths


def test_the_batch_that_a_dead_worker_was_in_is_the_suspect(story: Story):
    lease = story.large_lease("a")
    story.store(lease.first)
    story.name("a", lease.first + 1)
    before = story.dispatch.queued

    suspect = story.release("a")

    assert suspect == lease.first + 1
    assert story.dispatch.queued == before + lease.count - 1
    assert story.dispatch.counts({}).in_flight == 0


@pytest.mark.parametrize(
    "current",
    [
        None,  # between two Batches
        0,  # its byte is stored already
    ],
)
def test_with_no_open_batch_on_its_page_a_dead_worker_has_no_suspect(story: Story, current: int | None):
    lease = story.large_lease("a")
    story.store(lease.first)
    story.name("a", None if current is None else lease.first + current)

    assert story.release("a") is None


def test_a_worker_that_held_nothing_leaves_nothing(story: Story):
    before = story.dispatch.counts({})

    assert story.release("a") is None
    assert before == story.dispatch.counts({})


def test_a_suspect_is_leased_alone_from_then_on(story: Story):
    lease = story.large_lease("a")
    middle = lease.first + 3
    story.name("a", middle)

    story.dispatch.lease_alone([middle])
    assert middle == story.release("a")

    ranges = []
    while (next_lease := story.dispatch.lease("b")) is not None:
        ranges.append((next_lease.first, next_lease.end))
        story.end(next_lease)
    assert (middle, middle + 1) in ranges
    assert list(range(lease.first, 100)) == sorted(batch for first, end in ranges for batch in range(first, end))


def test_suspects_of_earlier_operators_are_leased_alone(story: Story):
    story.filled(30, 31, 99)

    ranges = []
    while (lease := story.dispatch.lease("b")) is not None:
        ranges.append((lease.first, lease.end))
        story.end(lease)
    assert {(30, 31), (31, 32), (99, 100)} <= set(ranges)


def test_a_suspect_in_a_larger_range_that_goes_back_is_cut_out(story: Story):
    story.filled(25)
    story.store(*range(20))
    story.dispatch.fill()

    lease = story.large_lease("a")
    story.release("a")

    assert lease.end <= 25 or lease.first > 25
    assert story.dispatch.queued == story.dispatch.counts({}).in_queue


def test_a_batch_that_waits_is_leased_when_it_is_woken_and_not_before(story: Story):
    story.filled(30, 31)
    story.dispatch.hold(30)
    story.dispatch.fill()

    assert 31 == leased(story.dispatch, "a").first
    assert (30, 31) not in story.drain()
    assert not story.dispatch.is_done

    story.store(*(batch for batch in range(100) if batch != 30))
    for worker in ("a", "c"):
        story.dispatch.release(worker)
    assert not story.dispatch.is_done

    story.dispatch.wake(30)
    lease = leased(story.dispatch, "a")
    assert (30, 31) == (lease.first, lease.end)
    story.end(lease)
    assert story.dispatch.is_done


def test_a_batch_that_is_given_up_has_failed_and_is_leased_no_more(story: Story):
    lease = leased(story.dispatch, "a")
    story.name("a", lease.first)
    story.dispatch.lease_alone([lease.first])
    suspect = story.release("a")
    assert suspect is not None

    assert story.dispatch.is_queued_alone(suspect)
    story.dispatch.give_up(suspect)

    assert not story.dispatch.is_queued_alone(suspect)

    assert story.dispatch.counts({}) == counted(failed=1, in_queue=99)
    assert (suspect, suspect + 1) not in story.drain()
    assert story.dispatch.counts({}) == counted(failed=1, succeeded=99)
    assert story.dispatch.is_done


# Taking back


def test_the_lease_with_the_most_unstarted_batches_is_found(story: Story):
    small = leased(story.dispatch, "b")
    large = story.large_lease("a")

    assert [large] == story.dispatch.unstarted(2)

    story.name("a", large.end - 1)
    assert [] == story.dispatch.unstarted(2)
    assert small.count == 1


def test_what_has_not_begun_is_taken_back_and_queued_at_the_front(story: Story):
    lease = story.large_lease("a")
    story.store(lease.first)
    story.name("a", lease.first + 1)

    story.dispatch.take_back(lease)
    story.dispatch.shorten(lease)

    assert story.limit("a") == lease.first + 2
    held = story.dispatch.held_by("a")
    assert held is not None
    assert (held.token, held.first, held.end) == (lease.token, lease.first, lease.first + 2)
    assert leased(story.dispatch, "b").first == lease.first + 2


def test_a_batch_that_was_begun_before_the_limit_was_there_stays_its_workers(story: Story):
    lease = story.large_lease("a")
    story.name("a", lease.first)

    story.dispatch.take_back(lease)
    story.store(lease.first)
    story.name("a", lease.first + 1)  # it had looked at the limit before it was there
    story.dispatch.shorten(lease)

    held = story.dispatch.held_by("a")
    assert held is not None
    assert held.end == lease.first + 2
    assert leased(story.dispatch, "b").first == lease.first + 2


def test_a_lease_that_has_not_begun_keeps_its_first_batch(story: Story):
    lease = story.large_lease("a")

    story.dispatch.take_back(lease)
    assert story.limit("a") == lease.first
    story.dispatch.shorten(lease)

    held = story.dispatch.held_by("a")
    assert held is not None
    assert held.end == lease.first + 1
    assert story.dispatch.counts({}).total == 100


def test_a_lease_that_has_ended_meanwhile_is_not_shortened(story: Story):
    lease = story.large_lease("a")
    story.dispatch.take_back(lease)
    story.end(lease)
    later = leased(story.dispatch, "a")
    before = story.dispatch.queued

    story.dispatch.shorten(lease)

    assert later == story.dispatch.held_by("a")
    assert before == story.dispatch.queued
    assert story.limit("a") == later.end


def test_a_shortened_lease_ends_on_its_holders_word(story: Story):
    lease = story.large_lease("a")
    story.name("a", lease.first)
    story.dispatch.take_back(lease)
    story.dispatch.shorten(lease)
    story.store(lease.first)

    story.dispatch.end_lease("a", lease.token, Pace(batches=1, seconds=1.0))

    assert not story.dispatch.has_leases
    assert story.dispatch.queued == story.dispatch.counts({}).in_queue == 100 - lease.first - 1


def test_all_holders_are_asked_to_begin_nothing(story: Story):
    begun = story.large_lease("a")
    story.name("a", begun.first + 1)
    fresh = leased(story.dispatch, "b")

    story.dispatch.take_back_all()

    assert (begun.first + 2, fresh.first) == (story.limit("a"), story.limit("b"))


def test_taking_back_again_never_gives_what_was_taken(story: Story):
    lease = story.large_lease("a")
    story.name("a", lease.first)
    story.dispatch.take_back(lease)
    story.dispatch.shorten(lease)
    other = leased(story.dispatch, "b")
    story.store(lease.first)
    story.name("a", lease.first + 1)  # it is about to look at the limit

    story.dispatch.take_back_all()

    assert other.first == lease.first + 1
    assert story.limit("a") == lease.first + 1


# The next operator


def test_the_lease_on_the_page_of_a_worker_is_adopted(story: Story):
    lease = story.large_lease("a")
    story.name("a", lease.first)

    story.dispatch = story.new_dispatch()
    story.dispatch.adopt("a")
    story.dispatch.adopt("b")
    story.dispatch.fill()

    assert lease == story.dispatch.held_by("a")
    assert story.dispatch.held_by("b") is None
    assert story.dispatch.counts({}).in_flight == lease.count
    assert story.dispatch.queued == story.dispatch.counts({}).in_queue
    assert leased(story.dispatch, "b").first == lease.end


def test_an_adopted_lease_ends_on_its_holders_word(story: Story):
    lease = story.large_lease("a")
    story.dispatch = story.new_dispatch()
    story.dispatch.adopt("a")
    story.dispatch.fill()

    story.end(lease)

    assert story.dispatch.counts({}) == counted(succeeded=lease.end, in_queue=100 - lease.end)


def test_a_shortened_lease_is_adopted_as_it_is(story: Story):
    lease = story.large_lease("a")
    story.name("a", lease.first + 2)
    story.dispatch.take_back(lease)
    story.dispatch.shorten(lease)
    shortened = story.dispatch.held_by("a")

    story.dispatch = story.new_dispatch()
    story.dispatch.adopt("a")

    assert shortened == story.dispatch.held_by("a")


@pytest.mark.parametrize("begun", [0, 3])
def test_a_batch_that_runs_beyond_the_limit_is_adopted_with_its_lease(story: Story, begun: int):
    """The operator died between asking for a Lease and seeing what came of it; the Worker was a step ahead."""
    lease = story.large_lease("a")
    story.name("a", lease.first + begun - 1 if begun else None)
    story.dispatch.take_back(lease)
    story.name("a", lease.first + begun)
    assert story.limit("a") == lease.first + begun

    story.dispatch = story.new_dispatch()
    story.dispatch.adopt("a")
    story.dispatch.fill()

    held = story.dispatch.held_by("a")
    assert held is not None
    assert (held.token, held.first) == (lease.token, lease.first)
    assert held.end == lease.first + begun + 1
    assert story.release("a") == lease.first + begun


def test_a_worker_whose_page_is_gone_held_nothing(story: Story):
    leased(story.dispatch, "a")
    story.folder.page("a").unlink()

    story.dispatch = story.new_dispatch()
    story.dispatch.adopt("a")
    story.dispatch.fill()

    assert story.dispatch.held_by("a") is None
    assert story.dispatch.queued == 100


# Counts


def test_the_counts_follow_the_bytes_at_every_read(story: Story):
    lease = story.large_lease("a")
    ended = lease.first

    for place, state in enumerate((ROWS, NOTHING, FAILED)):
        story.store(lease.first + place, state=state)

    counts = story.dispatch.counts({})
    assert (counts.succeeded, counts.failed) == (ended + 2, 1)
    assert (counts.in_flight, counts.total) == (lease.count - 3, 100)


def test_a_segment_is_counted_in_one_reading(tmp_path):
    folder, (_, segment) = make_job(tmp_path, 3, 6)
    set_states(folder, segment, [OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, OPEN])

    lease = Lease(token=1, worker="a", segment=1, first=3, end=6)

    assert count(job_of([segment]), States(folder, segment), [lease]) == counted(
        succeeded=2, failed=2, in_flight=1, in_queue=1
    )
    assert count(job_of([segment]), States(folder, segment)) == counted(succeeded=2, failed=2, in_queue=2)


def test_a_job_without_batches_is_done_at_once(tmp_path):
    segments: list[SegmentRange] = []
    dispatch = Dispatch(job_of([]), JobFolder(tmp_path), segments, next_token=lambda: 1)
    dispatch.fill()

    assert dispatch.is_done
    assert dispatch.counts({}) == counted()


def test_of_many_leases_only_some_are_looked_at(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {story.large_lease("a").worker, story.large_lease("b").worker}
    monkeypatch.setattr("cortex.operator.run.dispatch._MOST_PAGES_READ", 1)

    found = [lease.worker for lease in story.dispatch.unstarted(9)]

    assert 1 == len(found)
    assert set(found) < held
