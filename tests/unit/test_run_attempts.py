"""What becomes of a batch whose attempt has failed, driven event by event."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import ENTRY, BatchState, EntryKind, Page, ResultEntry
from cortex.domain.ending import Exit
from cortex.domain.errors import Conflict
from cortex.domain.frame import Frame
from cortex.domain.isolation import DeathKind, Part
from cortex.domain.job import JobStatus, SegmentRange
from cortex.domain.policy import MaxFailures, OnFailedBatch, Policy, Retries
from cortex.operator.run.singles import Singles
from cortex.operator.upkeep.recovery import give_up
from cortex.storage.segments import SegmentDamaged, States
from job_story import JOB, Peer, Story

THREE = Policy(retries=Retries(attempts=3, backoff_seconds=1.0))
AT_ONCE = Policy(retries=Retries(attempts=3, backoff_seconds=0.0))
ISOLATING = Policy(on_failed_batch=OnFailedBatch.ISOLATE)
KILLED = Exit(status=-9)


class Attempting(Story):
    """One job and one worker, told of what predict does in each batch."""

    def begin(self) -> Peer:
        (self.worker,) = self.engine.ordered[-1:]
        self.started(self.worker)
        self.peer = self.ready(self.worker, has_hook=False)
        return self.peer

    @property
    def lease(self) -> Frame:
        frame = self.peer.heard[-1]
        assert frame["type"] == "lease"
        return frame

    def states(self) -> list[BatchState]:
        return [BatchState(byte) for byte in States(self.folder, self.segments[0]).read()]

    def raise_in(self, batch: int, token: int, *, items: int = 1) -> None:
        """Write what a worker leaves of an attempt that raised."""
        with self.folder.index(self.worker).open("ab") as index:
            index.write(ENTRY.pack(*ResultEntry(batch, token, 0, 0, items, EntryKind.FAILURE, zlib.crc32(b""))))

    def run_lease(self, *, raising: Sequence[int] = (), final: bool = False) -> None:
        """Do what a worker does with its lease, in which predict raises in some batches."""
        lease = self.lease
        failed = 0
        for batch in range(lease["first"], lease["end"]):
            if batch in raising:
                self.raise_in(batch, lease["token"])
                failed += final
            if batch not in raising or final:
                state = BatchState.FAILED if batch in raising else BatchState.SUCCEEDED
                States(self.folder, self.segments[0]).store(batch, state)
        finished = lease["end"] - lease["first"] - (0 if final else len(raising))
        frame = {"type": "lease_ended", "token": lease["token"], "finished": finished, "seconds": 1, "failed": failed}
        self.run.worker_says(self.worker, frame)

    def die_in(self, batch: int, part: Part | None = None, ending: Exit = KILLED) -> None:
        """Let the worker die in a batch; the next one is ready at once."""
        self.write_page(self.worker, Page.CURRENT, batch + 1)
        if part:
            self.write_page(self.worker, Page.PART_FIRST, part.first)
            self.write_page(self.worker, Page.PART_END, part.end)
        self.run.worker_drained(self.worker)
        self.run.worker_exited(self.worker, ending)

    def ring(self) -> None:
        """Let every timer that is set now ring."""
        timers, self.later[:] = list(self.later), []
        for timer in timers:
            timer()

    def log(self) -> str:
        return self.folder.log.read_text()

    @property
    def status(self) -> JobStatus:
        job = self.ledger.job(JOB)
        assert job is not None
        return job.status


def begun(root: Path, **what: Any) -> Attempting:
    """Begin a story whose worker has its first lease."""
    story = Attempting(root, **what)
    story.begin()
    return story


def test_a_batch_that_raised_waits_for_its_backoff_and_is_then_leased_alone_as_its_next_attempt(tmp_path: Path):
    story = begun(tmp_path, batches=2, policy=THREE)

    story.run_lease(raising=[0])
    assert 1 == story.lease["first"]
    story.run_lease()

    assert [BatchState.OPEN, BatchState.SUCCEEDED] == story.states()
    assert (1, 1) == (story.run.attempts.counts().in_queue, story.run.attempts.counts().succeeded)
    leases = story.peer.said.count("lease")
    story.ring()
    assert leases == story.peer.said.count("lease")  # it is not the time yet

    story.now_ns += 10**9
    story.ring()
    assert (0, 1, 2) == (story.lease["first"], story.lease["end"], story.lease["attempt"])


def test_without_a_backoff_a_batch_is_tried_again_at_once(tmp_path: Path):
    story = begun(tmp_path, batches=1, policy=AT_ONCE)

    story.run_lease(raising=[0])
    story.run_lease(raising=[0])

    assert (0, 3) == (story.lease["first"], story.lease["attempt"])
    story.run_lease(raising=[0], final=True)
    assert "finish" == story.peer.said[-1]
    assert [BatchState.FAILED] == story.states()


def test_a_new_operator_counts_the_attempts_of_the_earlier_one(tmp_path: Path):
    story = begun(tmp_path, batches=1, policy=THREE)
    story.run_lease(raising=[0])

    worker = story.worker
    story.operator()
    story.run.worker_connected(worker, Peer(), {"type": "hello", "phase": "ready", "has_hook": False})
    story.started(worker)

    peer = story.ready(worker, has_hook=False)
    assert (0, 2) == (peer.heard[-1]["first"], peer.heard[-1]["attempt"])


def test_what_raised_before_its_worker_died_has_had_its_attempt_and_nothing_else_has(tmp_path: Path):
    story = begun(tmp_path, batches=1, policy=AT_ONCE)
    story.raise_in(0, story.lease["token"])

    story.die_in(0)

    assert not story.ledger.deaths(JOB)
    story.begin()
    assert 2 == story.lease["attempt"]


def test_a_worker_whose_batch_takes_too_long_is_ended_and_the_batch_has_had_an_attempt(tmp_path: Path):
    policy = Policy(batch_timeout_seconds=2.0, retries=Retries(attempts=2, backoff_seconds=0.0))
    story = Attempting(tmp_path, batches=1, policy=policy)

    def take_too_long() -> None:
        story.begin()
        story.write_page(story.worker, Page.CURRENT, 1)
        story.write_page(story.worker, Page.STARTED_AT_NS, story.now_ns)
        story.now_ns += 2 * 10**9
        story.ring()
        assert story.worker not in story.engine.stopped  # not more than it may
        story.now_ns += 1
        story.ring()
        assert story.engine.stopped[story.worker]
        story.die_in(0)

    take_too_long()
    assert [BatchState.OPEN] == story.states()
    assert "predict took longer than 2 seconds (batch_timeout) while it processed" in story.log()
    assert "it is tried again, alone (attempt 2 of 2)" in story.log()

    take_too_long()
    assert [BatchState.GIVEN_UP] == story.states()
    (death,) = story.ledger.deaths(JOB)
    assert (0, 2, DeathKind.TIMED_OUT) == (death.deaths, death.timeouts, death.kind)
    story.run.worker_drained(story.engine.ordered[-1])
    story.begin()
    story.leave(story.worker)
    assert JobStatus.COMPLETED_WITH_FAILURES == story.status


def test_a_worker_that_is_cut_off_is_not_ended_for_a_batch_that_it_may_have_ended_since(tmp_path: Path):
    story = begun(tmp_path, batches=2, policy=Policy(batch_timeout_seconds=2.0))
    story.write_page(story.worker, Page.CURRENT, 1)
    story.write_page(story.worker, Page.STARTED_AT_NS, story.now_ns)
    story.now_ns += 3 * 10**9
    stopped = []
    for is_cut_off in (True, False):
        story.write_page(story.worker, Page.IS_CUT_OFF, is_cut_off)
        story.ring()
        stopped.append(story.worker in story.engine.stopped)

    assert stopped == [False, True]


def test_a_batch_that_began_while_its_worker_was_being_ended_pays_nothing(tmp_path: Path):
    story = begun(tmp_path, batches=2, policy=Policy(batch_timeout_seconds=2.0))
    story.run_lease()
    story.write_page(story.worker, Page.CURRENT, 2)
    story.write_page(story.worker, Page.STARTED_AT_NS, story.now_ns)
    story.now_ns += 3 * 10**9
    story.ring()
    assert story.engine.stopped[story.worker]

    story.die_in(1, Part(0, 1))  # which is another call of predict

    assert not story.ledger.deaths(JOB)
    assert "it goes back to the queue" in story.log()


def test_the_batch_that_kills_its_worker_is_split_after_three_deaths_down_to_the_guilty_item(tmp_path: Path):
    story = Attempting(tmp_path, batches=1, batch_size=4, policy=ISOLATING)
    for _ in range(3):
        story.begin()
        assert "parts" not in story.lease
        story.die_in(0)

    story.begin()
    halves = [{"first": 0, "end": 2, "given_up": None}, {"first": 2, "end": 4, "given_up": None}]
    assert halves == story.lease["parts"]
    story.die_in(0, Part(2, 4))
    story.begin()
    story.die_in(0, Part(3, 4))
    story.begin()

    assert [(0, 2), (2, 3), (3, 4)] == [(part["first"], part["end"]) for part in story.lease["parts"]]
    assert [None, None, "WorkerDied"] == [
        part["given_up"] and part["given_up"]["type"] for part in story.lease["parts"]
    ]


def test_a_job_is_stopped_once_more_batches_have_failed_than_it_allows(tmp_path: Path):
    story = begun(tmp_path, batches=5, policy=Policy(max_failures=MaxFailures(count=1)))

    story.run_lease(raising=[0], final=True)
    assert JobStatus.RUNNING == story.status
    story.run_lease(raising=[1], final=True)

    assert JobStatus.STOPPING == story.status
    story.leave(story.worker)
    job = story.ledger.job(JOB)
    assert job is not None
    assert (JobStatus.STOPPED, "2 of 5 batches have failed, more than `max_failures` (1) allows") == (
        job.status,
        job.status_reason,
    )


def test_a_job_whose_last_batch_is_one_failure_too_many_is_stopped_before_its_hook(tmp_path: Path):
    story = Attempting(tmp_path, batches=1, policy=Policy(max_failures=MaxFailures(percent=50.0)))
    (story.worker,) = story.engine.ordered
    story.started(story.worker)
    story.peer = story.ready(story.worker, has_hook=True)

    story.run_lease(raising=[0], final=True)

    assert "run_hook" not in story.peer.said
    assert JobStatus.STOPPING == story.status


def test_a_paused_job_ends_what_has_begun_and_then_its_workers_and_goes_on_with_new_ones(tmp_path: Path):
    story = Attempting(tmp_path, batches=3)
    peer = story.begin()
    worker = story.worker

    story.run.pause()
    story.run.go_on()
    assert "finish" not in peer.said
    assert worker not in story.engine.stopped
    story.run_lease()

    assert "finish" == peer.said[-1]
    story.leave(worker)
    assert JobStatus.PAUSED == story.status
    assert [worker] == story.engine.ordered
    assert not story.ended

    story.run.resume()
    story.run.go_on()
    assert JobStatus.RUNNING == story.status
    assert 2 == len(story.engine.ordered)
    story.begin()
    assert 1 == story.lease["first"]


def test_the_death_of_a_worker_is_charged_in_a_paused_job_too(tmp_path: Path):
    story = begun(tmp_path, batches=3)
    story.run.pause()
    story.run.go_on()

    story.die_in(0)

    (death,) = story.ledger.deaths(JOB)
    assert (0, 1) == (death.batch, death.deaths)


def test_a_job_whose_batches_have_all_ended_cannot_be_paused(tmp_path: Path):
    story = begun(tmp_path, batches=1)
    story.run_lease()

    with pytest.raises(Conflict, match="nothing left to pause"):
        story.run.pause()


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(lambda story: story.run.stop(), id="stopped"),
        pytest.param(lambda story: story.run.drain(), id="the operator ends"),
    ],
)
def test_nobody_pays_for_a_worker_that_is_ended_with_its_job(tmp_path: Path, leave: Callable[[Attempting], None]):
    story = begun(tmp_path, batches=1)
    leave(story)

    story.die_in(0)

    assert not story.ledger.deaths(JOB)


def test_what_failed_before_a_worker_died_counts_for_the_failures_that_a_job_allows(tmp_path: Path):
    story = begun(tmp_path, batches=3, policy=Policy(max_failures=MaxFailures(count=0)))
    States(story.folder, story.segments[0]).store(story.lease["first"], BatchState.FAILED)

    story.leave(story.worker, status=1)

    assert JobStatus.STOPPED == story.status


def test_a_job_whose_batch_raised_at_last_has_no_worker_error_though_a_worker_died_in_it(tmp_path: Path):
    policy = Policy(batch_timeout_seconds=2.0, retries=Retries(attempts=2, backoff_seconds=0.0))
    story = begun(tmp_path, batches=1, policy=policy)
    story.write_page(story.worker, Page.CURRENT, 1)
    story.write_page(story.worker, Page.STARTED_AT_NS, story.now_ns)
    story.now_ns += 3 * 10**9
    story.ring()
    story.die_in(0)
    story.begin()
    story.die_in(0)
    story.begin()

    story.run_lease(raising=[0], final=True)
    story.leave(story.worker)

    assert JobStatus.COMPLETED_WITH_FAILURES == story.status


def test_a_retry_that_began_while_its_worker_was_being_ended_pays_nothing(tmp_path: Path):
    policy = Policy(batch_timeout_seconds=2.0, retries=Retries(attempts=3, backoff_seconds=0.0))
    story = begun(tmp_path, batches=1, policy=policy)
    story.write_page(story.worker, Page.CURRENT, 1)
    story.write_page(story.worker, Page.STARTED_AT_NS, story.now_ns)
    story.now_ns += 3 * 10**9
    story.ring()
    assert story.engine.stopped[story.worker]

    story.run_lease(raising=[0])  # at the last moment
    assert 2 == story.lease["attempt"]
    story.write_page(story.worker, Page.STARTED_AT_NS, story.now_ns)
    story.die_in(0)

    assert not story.ledger.deaths(JOB)


def test_the_items_of_a_batch_that_ends_in_part_are_not_counted_as_its_attempt_before_had_them(tmp_path: Path):
    retries = Retries(attempts=2, backoff_seconds=0.0)
    policy = Policy(retries=retries, on_failed_batch=OnFailedBatch.ISOLATE)
    story = begun(tmp_path, batches=1, batch_size=4, policy=policy)
    story.raise_in(0, story.lease["token"], items=4)
    story.run.worker_says(
        story.worker, {"type": "lease_ended", "token": story.lease["token"], "finished": 0, "seconds": 1}
    )
    assert 2 == story.lease["attempt"]

    story.raise_in(0, story.lease["token"], items=1)
    States(story.folder, story.segments[0]).store(0, BatchState.FAILED_IN_PART)
    before = story.run.attempts.counts()
    story.run.worker_says(
        story.worker, {"type": "lease_ended", "token": story.lease["token"], "finished": 1, "seconds": 1, "failed": 1}
    )
    after = story.run.attempts.counts()

    assert (0, 0) == (before.succeeded_items, before.failed_items)
    assert (3, 1) == (after.succeeded_items, after.failed_items)


def test_the_items_of_a_batch_that_ends_in_part_as_a_new_operator_begins_are_all_counted(tmp_path: Path):
    story = begun(tmp_path, batches=1, batch_size=4, policy=ISOLATING)
    story.raise_in(0, story.lease["token"], items=1)

    worker = story.worker
    story.operator()  # it sees the entry before the byte
    States(story.folder, story.segments[0]).store(0, BatchState.FAILED_IN_PART)
    story.started(worker)
    story.ready(worker, has_hook=False)

    counts = story.run.attempts.counts()
    assert (3, 1) == (counts.succeeded_items, counts.failed_items)


def test_a_batch_that_could_not_be_given_up_at_first_is_given_up_when_that_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    story = Attempting(tmp_path, batches=1)
    for _ in range(2):
        story.begin()
        story.die_in(0)
    story.begin()

    with monkeypatch.context() as patch:
        patch.setattr(story.run.dispatch, "give_up", lambda _: (_ for _ in ()).throw(OSError("too many open files")))
        with pytest.raises(OSError, match="too many"):
            story.die_in(0)
    story.run.worker_exited(story.worker, KILLED)

    assert [BatchState.GIVEN_UP] == story.states()


def test_a_lease_that_its_worker_cannot_be_told_of_is_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    story = begun(tmp_path, batches=2)

    def damaged(_: int) -> Frame:
        raise SegmentDamaged("what was kept is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(story.run.attempts.accounts, "extras", damaged)
        for _ in range(2):  # seen twice, so it will not pass
            with pytest.raises(SegmentDamaged):
                story.run_lease()
    assert not story.run.dispatch.has_leases


def test_a_job_whose_workers_are_still_looked_for_can_be_paused(tmp_path: Path):
    story = begun(tmp_path, batches=2)
    story.operator()

    story.run.pause()

    assert JobStatus.PAUSED == story.status


def test_a_predictor_that_raises_because_it_is_ended_for_a_pause_does_not_end_the_job(tmp_path: Path):
    story = Attempting(tmp_path, batches=2)
    (worker,) = story.engine.ordered
    story.started(worker)
    peer = Peer()
    story.run.worker_connected(worker, peer, {"type": "hello", "phase": "initializing", "has_hook": False})
    story.run.pause()
    story.run.go_on()

    story.run.worker_says(worker, {"type": "init_failed", "error": "KeyboardInterrupt"})
    story.leave(worker, status=1)
    story.run.resume()
    story.run.go_on()

    assert "end" == peer.said[-1]
    assert JobStatus.RUNNING == story.status
    assert 2 == len(story.engine.ordered)


def test_of_many_scattered_batches_that_raise_each_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    story = Attempting(tmp_path, batches=200, policy=THREE)
    states = States(story.folder, story.segments[0])
    for batch in range(0, 200, 2):
        states.store(batch, BatchState.SUCCEEDED)
    story.operator()
    story.begin()
    cuts: list[int] = []
    cut = Singles.cut

    def counting(self: Singles, segment: SegmentRange, ranges: Sequence[tuple[int, int]]) -> object:
        cuts.append(len(ranges))
        return cut(self, segment, ranges)

    monkeypatch.setattr(Singles, "cut", counting)
    for batch in range(1, 200, 2):
        story.run_lease(raising=[batch])

    assert 100 == len(story.run.attempts.accounts._raised)
    assert 200 >= sum(cuts)


def test_the_items_of_a_job_that_is_given_up_are_counted_too(tmp_path: Path):
    story = begun(tmp_path, batches=2, batch_size=4, policy=ISOLATING)
    story.raise_in(0, story.lease["token"], items=1)
    States(story.folder, story.segments[0]).store(0, BatchState.FAILED_IN_PART)

    job = give_up(story.ledger, JOB, story.folder, SegmentDamaged("a segment is cut short"), at_ns=5)

    assert job is not None
    assert job.final_counts is not None
    assert (3, 1) == (job.final_counts.succeeded_items, job.final_counts.failed_items)
