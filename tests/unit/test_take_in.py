"""What workers elsewhere have written is taken in under the lease that they hold, and under no other."""

import errno
import os
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import ENTRY, BatchState, EntryKind, HookState, Page, ResultEntry
from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.job import JobStatus
from cortex.domain.policy import MaxFailures, Policy, Retries
from cortex.operator.run import dispatch as dispatch_module
from cortex.operator.run import job_run as job_run_module
from cortex.storage.pages import mark_copy, read_page
from cortex.storage.results import read_failures, read_rows
from cortex.storage.segments import States
from job_story import JOB, Peer, Story

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState
MEGABYTE = 1024 * 1024


class Far:
    """What is different about a worker elsewhere, as far as the operator asks."""

    most_lease_bytes = MEGABYTE

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, Callable[[], None]]] = []

    def settle(self, token: int, limit: int, then: Callable[[], None]) -> None:
        self.asked.append((token, limit, then))


class Abroad(Story):
    """A job whose workers are elsewhere: what each writes, the test sends as its station does."""

    def __init__(self, root: Path, batches: int = 10, **more: Any) -> None:
        super().__init__(root, batches, **more)
        self.far: dict[str, Far] = {}
        self.ends: dict[str, tuple[int, int]] = {}  # of the rows and the index of each worker

    def come(self, worker: str, phase: str = "ready") -> Peer:
        """Have a station come, and its worker introduce itself."""
        mark_copy(self.folder, worker, 1)
        self.far[worker] = Far()
        peer = Peer(self.far[worker])
        self.run.worker_connected(worker, peer, {"type": "hello", "phase": phase, "has_hook": False, "error": None})
        return peer

    def written(self, worker: str, lease: Frame, states: Sequence[int], *, first: int | None = None) -> Frame:
        """Give what a station says of a lease whose batches from its first on have ended so."""
        rows_end, index_end = self.ends.get(worker, (0, 0))
        entries, index_at = b"", index_end
        for batch, state in enumerate(states, start=lease["first"]):
            if state in (ROWS, FAILED, -1):
                data = b"%d\n" % batch if state == ROWS else b'{"type":"E","message":"","traceback":""}\n'
                kind = EntryKind.ROWS if state == ROWS else EntryKind.FAILURE
                with self.folder.rows(worker).open("ab") as file:
                    file.write(data)
                entry = ResultEntry(batch, lease["token"], rows_end, len(data), 1, kind, zlib.crc32(data))
                entries += ENTRY.pack(*entry)
                rows_end += len(data)
        self.ends[worker] = rows_end, index_end + len(entries)
        frame = {"type": "written", "token": lease["token"], "first": lease["first"], "index_at": index_at}
        data = bytes(max(0, state) for state in states) + entries
        return {**frame, "states": len(states), "data": data}

    def end(self, worker: str, lease: Frame, states: Sequence[int]) -> None:
        """Have a worker end its lease so; -1 is an attempt that has raised, and is not the last."""
        self.run.worker_says(worker, self.written(worker, lease, states))
        self.say_ended(worker, lease, states)

    def say_ended(self, worker: str, lease: Frame, states: Sequence[int]) -> None:
        finished, failed = sum(state > 0 for state in states), sum(state == FAILED for state in states)
        ended = {
            "type": "lease_ended",
            "token": lease["token"],
            "finished": finished,
            "failed": failed,
            "seconds": 1e-6,
        }
        self.run.worker_says(worker, ended)

    @property
    def states(self) -> list[BatchState]:
        return [BatchState(byte) for segment in self.segments for byte in States(self.folder, segment).read()]

    @property
    def rows(self) -> bytes:
        return b"".join(read_rows(self.folder, self.segments))

    def first_worker(self) -> str:
        worker: str = self.engine.ordered[0]
        self.started(worker)
        return worker


def count_of(lease: Frame) -> int:
    return int(lease["end"] - lease["first"])


def test_a_job_is_done_by_workers_elsewhere(tmp_path: Path) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    peer = story.come(worker)
    while peer.said[-1] == "lease":
        story.end(worker, peer.heard[-1], [ROWS] * count_of(peer.heard[-1]))
    story.leave(worker)

    assert story.rows == b"".join(b"%d\n" % batch for batch in range(10))
    assert [job.status for job in story.ended] == [JobStatus.SUCCEEDED]


def test_what_is_said_twice_or_late_is_written_once(tmp_path: Path) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    peer = story.come(worker)
    lease = peer.heard[-1]
    written = story.written(worker, lease, [ROWS])
    for _ in range(2):
        story.run.worker_says(worker, written)
    story.say_ended(worker, lease, [ROWS])
    next_lease = peer.heard[-1]
    story.run.worker_says(worker, written)
    story.end(worker, next_lease, [ROWS] * count_of(next_lease))
    story.run.worker_says(worker, written)

    done = 1 + count_of(next_lease)
    assert story.states == [ROWS] * done + [OPEN] * (10 - done)
    assert story.rows == b"".join(b"%d\n" % batch for batch in range(done))


def test_what_a_worker_that_was_given_up_has_written_changes_nothing(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=1, workers=1)
    lost = story.first_worker()
    late = story.written(lost, story.come(lost).heard[-1], [ROWS])
    story.run.worker_exited(lost, Exit(status=None, is_charged=False))
    worker = story.engine.ordered[-1]
    story.started(worker)
    lease = story.come(worker).heard[-1]
    story.run.worker_says(lost, late)
    assert story.states == [OPEN]
    story.end(worker, lease, [NOTHING])
    story.run.worker_says(lost, late)

    assert story.states == [NOTHING]
    assert story.rows == b""


def test_only_what_the_lease_still_covers_is_taken_and_later_entries_lie_where_the_worker_has_them(
    tmp_path: Path,
) -> None:
    story = Abroad(tmp_path, batches=100, workers=2)
    worker = story.first_worker()
    peer = story.come(worker)
    story.end(worker, peer.heard[-1], [ROWS])
    lease = peer.heard[-1]
    assert count_of(lease) > 3
    held = story.run.dispatch.held_by(worker)
    assert held is not None
    story.run.attempts.shorten(held, lease["first"] + 2)
    story.end(worker, lease, [ROWS] * count_of(lease))
    assert story.states.count(ROWS) == 3
    after = peer.heard[-1]
    story.end(worker, after, [ROWS] * count_of(after))

    taken = {0, lease["first"], lease["first"] + 1, *range(after["first"], after["end"])}
    assert story.states == [ROWS if batch in taken else OPEN for batch in range(100)]
    assert story.rows == b"".join(b"%d\n" % batch for batch in sorted(taken))


def test_entries_that_were_never_taken_in_leave_their_place_free(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=2)
    worker = story.first_worker()
    peer = story.come(worker)
    lost = story.written(worker, peer.heard[-1], [FAILED])  # on its way
    again = story.come(worker).heard[-1]
    story.run.worker_says(worker, lost)
    story.end(worker, again, [ROWS])

    assert story.states == [ROWS, OPEN]
    assert story.rows == b"0\n"
    assert list(read_failures(story.folder, story.segments)) == []
    assert story.folder.index(worker).stat().st_size == 2 * ENTRY.size


def test_entries_of_another_lease_are_not_taken_even_where_they_are_of_its_batches(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=1, policy=Policy(retries=Retries(attempts=3, backoff_seconds=0)))
    worker = story.first_worker()
    lost = story.written(worker, story.come(worker).heard[-1], [-1])
    again = story.come(worker).heard[-1]
    written = story.written(worker, again, [-1])
    both = {**written, "index_at": 0, "data": b"\0" + lost["data"][1:] + written["data"][1:]}
    story.run.worker_says(worker, both)
    peer = story.come(worker)

    assert peer.heard[-1]["attempt"] == 2  # the first one was never heard of


def test_a_batch_whose_rows_have_not_come_is_not_taken(tmp_path: Path) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    peer = story.come(worker)
    written = story.written(worker, peer.heard[-1], [ROWS])
    story.folder.rows(worker).write_bytes(b"")
    story.run.worker_says(worker, written)

    assert story.states == [OPEN] * 10


def test_entries_that_lie_far_beyond_all_others_are_not_taken(tmp_path: Path) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    written = story.written(worker, story.come(worker).heard[-1], [ROWS])
    story.run.worker_says(worker, {**written, "index_at": 2**40 * ENTRY.size})

    assert story.states == [OPEN] * 10
    assert story.folder.index(worker).stat().st_size == 0


def test_a_worker_of_the_earlier_operator_is_found_with_its_lease_by_what_it_has_written(tmp_path: Path) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    lease = story.come(worker).heard[-1]
    story.operator()
    story.run.worker_says(worker, story.written(worker, lease, [ROWS]))
    held = story.run.dispatch.held_by(worker)
    peer = story.come(worker)

    assert held is not None
    assert held.token == lease["token"]
    assert story.states == [ROWS] + [OPEN] * 9
    assert peer.said == []  # until its process is known
    story.started(worker)
    assert [frame["first"] for frame in peer.heard] == [1]


def test_what_a_worker_elsewhere_says_that_it_is_in_gives_it_no_more_than_its_lease(tmp_path: Path) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    lease = story.come(worker).heard[-1]
    story.write_page(worker, Page.CURRENT, 1_000)
    story.operator()
    story.run.worker_says(worker, story.written(worker, lease, [ROWS, ROWS]))

    assert [(0, 1)] == [(held.first, held.end) for held in story.run.dispatch.leases()]
    assert story.states == [ROWS] + [OPEN] * 9
    story.run.worker_exited(worker, Exit(status=-9))
    assert 9 == story.run.dispatch.queued


def test_a_worker_of_the_earlier_operator_that_is_gone_has_still_ended_what_it_had_ended(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=2)
    worker = story.first_worker()
    lease = story.come(worker).heard[-1]
    story.operator()
    story.run.worker_says(worker, story.written(worker, lease, [NOTHING]))
    story.write_page(worker, Page.CURRENT, lease["first"] + 1)
    story.run.worker_exited(worker, Exit(status=-9))

    assert story.states == [NOTHING, OPEN]
    assert story.ledger.deaths(JOB) == []


def test_a_batch_that_is_open_on_its_page_pays_for_the_worker_as_it_does_here(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=2)
    worker = story.first_worker()
    lease = story.come(worker).heard[-1]
    story.write_page(worker, Page.CURRENT, lease["first"] + 1)
    story.run.worker_says(worker, story.written(worker, lease, [OPEN]))
    story.run.worker_exited(worker, Exit(status=-9))

    assert [(death.batch, death.deaths) for death in story.ledger.deaths(JOB)] == [(0, 1)]


def test_attempts_that_have_raised_elsewhere_are_counted_and_followed_by_others(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=1, policy=Policy(retries=Retries(attempts=3, backoff_seconds=0)))
    worker = story.first_worker()
    peer = story.come(worker)
    story.end(worker, peer.heard[-1], [-1])
    second = peer.heard[-1]
    story.run.worker_says(worker, story.written(worker, second, [-1]))
    third = story.come(worker)

    assert [second["attempt"], third.heard[-1]["attempt"]] == [2, 3]


def test_failures_elsewhere_end_a_job_that_allows_no_more_of_them(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=10, policy=Policy(max_failures=MaxFailures(count=1)))
    worker = story.first_worker()
    peer = story.come(worker)
    story.end(worker, peer.heard[-1], [FAILED])
    lease = peer.heard[-1]
    story.run.worker_says(worker, story.written(worker, lease, [FAILED]))
    story.come(worker)  # without having said how many

    assert story.run.job.status is JobStatus.STOPPING
    assert story.states.count(FAILED) == 2


def test_a_lease_ends_only_when_what_was_written_under_it_has_found_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Abroad(tmp_path)
    worker = story.first_worker()
    peer = story.come(worker)
    lease = peer.heard[-1]
    take_in = dispatch_module.take_in

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(dispatch_module, "take_in", full)
    written = story.written(worker, lease, [ROWS])
    with pytest.raises(OSError, match="No space"):
        story.run.worker_says(worker, written)
    with pytest.raises(OSError, match="No space"):
        story.say_ended(worker, lease, [ROWS])
    with pytest.raises(OSError, match="No space"):
        story.run.worker_exited(worker, Exit(status=-9))
    monkeypatch.setattr(dispatch_module, "take_in", take_in)
    story.say_ended(worker, lease, [ROWS])  # as it is tried again, in whatever order
    story.run.worker_says(worker, written)

    assert story.states == [ROWS] + [OPEN] * 9
    assert peer.heard[-1]["first"] == 1


def test_a_batch_that_had_ended_does_not_pay_although_that_could_not_be_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Abroad(tmp_path, batches=2)
    worker = story.first_worker()
    lease = story.come(worker).heard[-1]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(dispatch_module, "take_in", full)
        with pytest.raises(OSError, match="No space"):
            story.run.worker_says(worker, story.written(worker, lease, [NOTHING]))
    story.write_page(worker, Page.CURRENT, lease["first"] + 1)
    story.run.worker_exited(worker, Exit(status=-9))

    assert story.states == [NOTHING, OPEN]
    assert story.ledger.deaths(JOB) == []


# Taking back


def two_workers(story: Abroad) -> tuple[str, str]:
    first, second = story.engine.ordered
    for worker in (first, second):
        story.started(worker)
    return first, second


def hoard(story: Abroad) -> tuple[str, Peer, Frame, Peer]:
    """Have one worker hold all that is left, and another one wait."""
    first, second = two_workers(story)
    peer = story.come(first)
    while story.run.dispatch.queued:
        lease = peer.heard[-1]
        if lease["end"] >= 90:
            break
        story.end(first, lease, [NOTHING] * count_of(lease))
    other = story.come(second)
    while other.said[-1:] == ["lease"] and story.run.dispatch.held_by(second):
        story.end(second, other.heard[-1], [NOTHING] * count_of(other.heard[-1]))
    story.later.pop()()  # it has waited long enough
    return first, peer, peer.heard[-1], other


def test_what_a_worker_elsewhere_has_not_begun_is_leased_to_others_once_it_has_seen_the_limit(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=200, workers=2)
    holder, _, lease, other = hoard(story)
    ((token, limit, then),) = story.far[holder].asked
    told_before = len(other.heard)
    assert (token, limit) == (lease["token"], lease["first"])
    assert read_page(story.folder, holder).limit == lease["end"]  # the next operator may not believe otherwise
    story.write_page(holder, Page.CURRENT, lease["first"] + 2)  # it is in its second
    story.run.worker_says(holder, story.written(holder, lease, [NOTHING]))
    then()

    assert read_page(story.folder, holder).limit == lease["first"] + 2
    assert [frame["first"] for frame in other.heard[told_before:]] == [lease["first"] + 2]


def test_a_worker_elsewhere_is_asked_once_until_it_has_answered(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=200, workers=2)
    holder, _, _, _ = hoard(story)
    for _ in range(3):
        story.run.go_on()
        story.later.pop()()
    assert len(story.far[holder].asked) == 1


def test_an_answer_that_comes_when_the_lease_has_ended_changes_nothing(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=200, workers=2)
    holder, _, lease, _ = hoard(story)
    ((_, _, then),) = story.far[holder].asked
    story.end(holder, lease, [NOTHING] * count_of(lease))
    before = read_page(story.folder, holder), story.run.dispatch.held_by(holder)
    then()

    assert (read_page(story.folder, holder), story.run.dispatch.held_by(holder)) == before


@pytest.mark.parametrize("how", ["pause", "drain"])
def test_a_worker_elsewhere_is_told_when_nothing_more_is_to_begin(tmp_path: Path, how: str) -> None:
    story = Abroad(tmp_path, batches=100)
    worker = story.first_worker()
    peer = story.come(worker)
    story.end(worker, peer.heard[-1], [NOTHING])
    lease = peer.heard[-1]
    story.write_page(worker, Page.CURRENT, lease["first"] + 1)
    getattr(story.run, how)()
    ((token, limit, then),) = story.far[worker].asked
    then()

    assert (token, limit) == (lease["token"], lease["first"] + 1)
    assert read_page(story.folder, worker).limit == lease["end"]
    story.end(worker, lease, [NOTHING])
    assert story.run.is_quiet
    assert peer.heard[-1]["type"] in ("lease", "finish")
    assert story.states.count(NOTHING) == 2


def test_a_worker_that_is_not_connected_keeps_its_lease_until_it_comes_back(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=100)
    worker = story.first_worker()
    peer = story.come(worker)
    lease = peer.heard[-1]
    story.run.worker_disconnected(worker, peer)
    story.run.pause()

    assert story.far[worker].asked == []
    assert read_page(story.folder, worker).limit == lease["end"]
    assert not story.run.is_quiet
    story.run.worker_says(worker, story.written(worker, lease, [ROWS]))
    story.come(worker)
    assert story.run.is_quiet
    assert story.states.count(ROWS) == 1


def test_a_lease_of_a_worker_elsewhere_has_no_more_payload_than_is_sent_at_once(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=400, batch_size=100)
    worker = story.first_worker()
    mark_copy(story.folder, worker, 1)
    story.far[worker] = far = Far()
    far.most_lease_bytes = 2000  # type: ignore[misc]
    peer = Peer(far)
    story.run.worker_connected(worker, peer, {"type": "hello", "phase": "ready", "has_hook": False})
    for _ in range(5):
        story.end(worker, peer.heard[-1], [NOTHING] * count_of(peer.heard[-1]))

    sizes = [count_of(frame) for frame in peer.heard]
    payload = story.folder.payload(0).stat().st_size / 400
    assert sizes[0] == 1
    assert 1 < max(sizes) <= 2 * 2000 // payload


def test_the_hook_of_a_worker_elsewhere_is_judged_by_the_copy_of_its_page(tmp_path: Path) -> None:
    story = Abroad(tmp_path, batches=1)
    (worker,) = story.engine.ordered
    story.started(worker)
    mark_copy(story.folder, worker, 1)
    peer = Peer(Far())
    story.run.worker_connected(worker, peer, {"type": "hello", "phase": "ready", "has_hook": True})
    story.end(worker, peer.heard[-1], [NOTHING])
    assert peer.said[-1] == "run_hook"
    story.write_page(worker, Page.HOOK, HookState.STARTED)
    story.run.worker_exited(worker, Exit(status=None, detail="was cut off", is_charged=False))

    assert [job.status for job in story.ended] == [JobStatus.WORKER_ERROR]
    assert story.ended[0].status_reason == "on_job_complete failed: the worker that ran it was cut off"


# What could not be handled when it happened


class Troubled(Abroad):
    """Keeps what has failed, as the operator does until it tries again."""

    def __init__(self, root: Path, **more: Any) -> None:
        self.again: list[Callable[[], None]] = []
        super().__init__(root, **more)

    def event(self, handle: Callable[..., object], *facts: Any, of: Any = None) -> None:
        try:
            handle(*facts)
        except OSError:
            self.again.append(partial(self.event, handle, *facts))

    def come(self, worker: str, phase: str = "ready") -> Peer:
        """Have a worker introduce itself."""
        peer = Peer(Far())
        self.event(self.run.worker_connected, worker, peer, {"type": "hello", "phase": phase, "has_hook": False})
        return peer

    def try_again(self) -> None:
        """Handle all that has failed."""
        again, self.again = self.again, []
        for handle in again:
            handle()


def fail(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_introduction_that_could_not_be_handled_is_void_once_the_worker_has_come_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Troubled(tmp_path)
    (worker,) = story.engine.ordered
    story.started(worker)
    first = story.come(worker)
    monkeypatch.setattr(dispatch_module, "take_in", fail)
    story.event(story.run.worker_says, worker, story.written(worker, first.heard[-1], [ROWS]))
    story.run.worker_disconnected(worker, first)
    second = story.come(worker)
    story.run.worker_disconnected(worker, second)
    monkeypatch.undo()
    third = story.come(worker)
    lease = third.heard[-1]

    story.try_again()
    assert [lease["token"]] == [held.token for held in story.run.dispatch.leases()]
    story.end(worker, lease, [ROWS])

    assert [] == second.heard
    assert ["lease", "lease"] == third.said


def test_what_follows_an_introduction_may_fail_and_the_lease_that_comes_before_it_is_tried_again_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Troubled(tmp_path)
    (worker,) = story.engine.ordered
    story.started(worker)
    monkeypatch.setattr(job_run_module, "decide", fail)
    peer = story.come(worker)
    monkeypatch.undo()
    story.run.go_on()
    lease = peer.heard[-1]

    story.try_again()

    assert ["lease"] == peer.said
    assert [lease["token"]] == [held.token for held in story.run.dispatch.leases()]
