"""Random stories of operators and Workers: whatever happens, the promises of operator/run/dispatch.py hold.

The Workers here take the steps of worker/life.py one by one, on the same pages and files, so a story can stop one, end
one or end the operator between any two of them.
"""

import itertools
import os
import struct
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cortex.domain.batch import BatchState, EntryKind, Page
from cortex.domain.isolation import MAX_DEATHS
from cortex.domain.lease import Lease, Pace, token
from cortex.operator.run.dispatch import Dispatch
from cortex.storage.attempts import AttemptReader
from cortex.storage.pages import create_page
from cortex.storage.results import read_failures, read_rows
from cortex.storage.segments import States
from job_files import append_entry, job_of, make_job

SEGMENTS = (7, 1, 16)
TOTAL = sum(SEGMENTS)
HOW_BATCHES_END = [BatchState.SUCCEEDED_WITH_ROWS, BatchState.SUCCEEDED, BatchState.FAILED]
ATTEMPTS = 3


def raises_before_its_last_attempt(batch: int) -> bool:
    return batch % 4 == 2


class Step(Enum):
    """What a Worker did last."""

    WAITS = auto()  # for a frame
    BETWEEN = auto()  # two Batches
    NAMED = auto()  # the next Batch on its page, and has not looked at the limit
    RUNS = auto()  # predict
    WROTE = auto()  # what predict returned, and has not stored the byte
    RAISED = auto()  # and has written that down; the byte stays as it is
    LEAVES = auto()  # the Lease, and has not cleared its page
    SPEAKS = auto()  # has said that the Lease is over; nobody has heard it yet


@dataclass
class SimulatedWorker:
    """One Worker process, as far as its steps can be seen."""

    name: str
    page: int
    step: Step = Step.WAITS
    is_alive: bool = True
    must_introduce_itself: bool = False  # its operator is gone
    frame: Lease | None = None  # sent to it, not read yet
    lease: Lease | None = None
    batch: int = 0
    finished: int = 0
    attempt: int = 1

    def word(self, word: int) -> int:
        """Read a word of the page."""
        return int(struct.unpack("@Q", os.pread(self.page, 8, 8 * word))[0])

    def set_word(self, word: int, value: int) -> None:
        """Write a word of the page."""
        os.pwrite(self.page, struct.pack("@Q", value), 8 * word)

    @property
    def running(self) -> int | None:
        """The Batch that predict has begun and whose byte is not stored."""
        return self.batch if self.is_alive and self.step in (Step.RUNS, Step.WROTE) else None


@dataclass
class Ledger:
    """What the operator writes down: it outlives it."""

    deaths: Counter[int] = field(default_factory=Counter)
    epoch: int = 1


class Stories(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def submit(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.folder, self.segments = make_job(Path(self.directory.name), *SEGMENTS)
        self.names = itertools.count()
        self.workers: dict[str, SimulatedWorker] = {}
        self.ledger = Ledger()
        self.runs: Counter[int] = Counter()
        self.ended: dict[int, int] = {}
        self.raises: Counter[int] = Counter()
        self.attempts_of_leases: dict[int, int] = {}
        self.begin_operator()
        self.start_worker()
        self.start_worker()
        self.feed()
        self.run_on(self.workers["worker-0"], 20)
        self.hear_from(self.workers["worker-0"])  # now it is known that a Batch is cheap, and Leases grow
        self.feed()

    def begin_operator(self) -> None:
        """Begin the life of an operator; Workers of the earlier one are missing until found or gone."""
        counter = itertools.count(1)
        epoch = self.ledger.epoch
        self.dispatch = Dispatch(
            job_of(self.segments, workers=1),
            self.folder,
            self.segments,
            next_token=lambda: token(epoch, next(counter)),
            singles=[],
        )
        self.reader = AttemptReader(self.folder, "worker")
        self.raised: Counter[int] = Counter()
        self.waiting: set[int] = set()
        self.noted: dict[str, list[int]] = {}
        for index in self.folder.workers.glob("*.index"):
            self.read_raised(index.stem)
        self.noted.clear()
        self.dispatch.lease_alone(self.ledger.deaths)
        self.missing = set(self.workers)
        self.is_paused = False
        self.taken_back: Lease | None = None
        self.fill_when_all_are_found()

    def read_raised(self, worker: str) -> list[int]:
        batches = [attempt.batch for attempt in self.reader.read_worker(worker)]
        self.raised.update(batches)
        self.dispatch.lease_alone(batches)
        self.noted.setdefault(worker, []).extend(batches)
        return self.noted[worker]

    def settle(self, raised: list[int]) -> None:
        """Let what raised in a Lease that has ended, or was cut short, wait for its next attempt."""
        for batch in [each for each in raised if self.dispatch.is_queued_alone(each)]:
            self.dispatch.hold(batch)
            self.waiting.add(batch)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        """One that raised has waited long enough."""
        batch = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.discard(batch)
        self.dispatch.wake(batch)

    def fill_when_all_are_found(self) -> None:
        if not self.missing:
            self.dispatch.fill()

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.tell_to_the_end()
            self.check_the_end()
            for worker in self.workers.values():
                os.close(worker.page)
            self.directory.cleanup()

    # The steps of Workers

    @rule()
    def start_worker(self) -> None:
        if len(self.workers) < 4:
            name = f"worker-{next(self.names)}"
            create_page(self.folder, name)
            self.workers[name] = SimulatedWorker(name, os.open(self.folder.page(name), os.O_RDWR))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), steps=st.integers(1, 4))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """Let one Worker take a few steps."""
        self.run_on(self.pick(data), steps)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Let one Worker do all of its Lease."""
        self.run_on(self.pick(data), 4 * TOTAL)

    def run_on(self, worker: SimulatedWorker, steps: int) -> None:
        for _ in range(steps):
            self.take_step(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.pick(data).is_alive = False

    def pick(self, data: st.DataObject) -> SimulatedWorker:
        return self.workers[data.draw(st.sampled_from(sorted(self.workers)))]

    def take_step(self, worker: SimulatedWorker) -> None:
        if not worker.is_alive:
            return
        match worker.step:
            case Step.WAITS if worker.frame is not None:
                worker.lease, worker.frame = worker.frame, None
                worker.batch, worker.finished = worker.lease.first, 0
                worker.attempt = self.attempts_of_leases[worker.lease.token]
                worker.step = Step.BETWEEN
            case Step.BETWEEN if worker.lease is not None and worker.batch == worker.lease.end:
                worker.step = Step.LEAVES
            case Step.BETWEEN:
                worker.set_word(Page.CURRENT, worker.batch + 1)
                worker.step = Step.NAMED
            case Step.NAMED if worker.batch >= worker.word(Page.LIMIT):
                worker.step = Step.LEAVES
            case Step.NAMED:
                self.begin(worker)
            case Step.RUNS:
                self.write(worker)
            case Step.WROTE:
                self.store(worker)
            case Step.RAISED:
                worker.batch += 1
                worker.step = Step.BETWEEN
            case Step.LEAVES:
                worker.set_word(Page.CURRENT, 0)
                worker.step = Step.SPEAKS

    def begin(self, worker: SimulatedWorker) -> None:
        batch = worker.batch
        others = [other.name for other in self.workers.values() if other is not worker and other.running == batch]
        assert others == [], f"batch {batch} runs twice at a time"
        assert self.state(batch) is BatchState.OPEN, f"batch {batch} has ended and is run again"
        self.runs[batch] += 1
        worker.step = Step.RUNS

    def write(self, worker: SimulatedWorker) -> None:
        assert worker.lease is not None
        if raises_before_its_last_attempt(worker.batch) and worker.attempt < ATTEMPTS:
            self.append(worker, b'{"type":"E"}\n', EntryKind.FAILURE)
            self.raises[worker.batch] += 1
            worker.step = Step.RAISED
            return
        state = HOW_BATCHES_END[worker.batch % 3]
        if state is BatchState.SUCCEEDED_WITH_ROWS:
            self.append(worker, f"{worker.batch}\n".encode(), EntryKind.ROWS)
        elif state is BatchState.FAILED:
            self.append(worker, b'{"type":"E"}\n', EntryKind.FAILURE)
        worker.step = Step.WROTE

    def append(self, worker: SimulatedWorker, data: bytes, kind: EntryKind) -> None:
        assert worker.lease is not None
        append_entry(self.folder, worker.name, worker.batch, data, token=worker.lease.token, kind=kind)

    def store(self, worker: SimulatedWorker) -> None:
        assert self.state(worker.batch) is BatchState.OPEN, f"batch {worker.batch} ends twice"
        self.states_of(worker.batch).store(worker.batch, HOW_BATCHES_END[worker.batch % 3])
        worker.finished += 1
        worker.batch += 1
        worker.step = Step.BETWEEN

    def states_of(self, batch: int) -> States:
        return States(self.folder, next(segment for segment in self.segments if batch < segment.end))

    def state(self, batch: int) -> BatchState:
        return BatchState(self.states_of(batch).read(batch, batch + 1)[0])

    def all_states(self) -> list[BatchState]:
        return [BatchState(byte) for segment in self.segments for byte in States(self.folder, segment).read()]

    # What the operator hears and does

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), seconds=st.sampled_from([1e-6, 0.02, 10.0]))
    def hear(self, data: st.DataObject, seconds: float) -> None:
        """Hear what one Worker has to say, if anything."""
        self.hear_from(self.pick(data), seconds)

    def hear_from(self, worker: SimulatedWorker, seconds: float = 1e-6) -> None:
        if not worker.is_alive:
            self.hear_exit(worker)
        elif worker.must_introduce_itself:
            self.hear_introduction(worker)
        elif worker.step is Step.SPEAKS:
            assert worker.lease is not None
            pace = Pace(batches=worker.finished, seconds=seconds * worker.finished)
            raised = self.read_raised(worker.name)
            self.dispatch.end_lease(worker.name, worker.lease.token, pace)
            self.settle(raised)
            del self.noted[worker.name]
            worker.step, worker.lease = Step.WAITS, None

    def hear_introduction(self, worker: SimulatedWorker) -> None:
        """Hear a Worker of the earlier operator: from itself when it has no Lease, from its supervisor while it has."""
        if worker.name in self.missing:
            self.missing.discard(worker.name)
            self.dispatch.adopt(worker.name)
            self.fill_when_all_are_found()
        if worker.step in (Step.WAITS, Step.SPEAKS) and worker.frame is None:
            raised = self.read_raised(worker.name)
            self.dispatch.release(worker.name)
            self.settle(raised)
            del self.noted[worker.name]
            worker.must_introduce_itself = False
            worker.step, worker.lease = Step.WAITS, None

    def hear_exit(self, worker: SimulatedWorker) -> None:
        """Hear that a Worker is gone; its supervisor saw it."""
        if was_missing := worker.name in self.missing:
            self.missing.discard(worker.name)
            self.dispatch.adopt(worker.name)
        suspect = self.dispatch.open_in(worker.name)
        self.check_suspect(worker, suspect)
        raised = self.read_raised(worker.name)
        guilty = [suspect] if suspect is not None and suspect not in raised else []
        self.ledger.deaths.update(guilty)
        self.dispatch.lease_alone(guilty)
        self.dispatch.release(worker.name)
        self.settle(raised)
        for batch in guilty:
            if self.ledger.deaths[batch] == MAX_DEATHS:
                self.dispatch.give_up(batch)
        os.close(worker.page)
        del self.workers[worker.name]
        if was_missing:
            self.fill_when_all_are_found()

    def check_suspect(self, worker: SimulatedWorker, suspect: int | None) -> None:
        """Only the Batch that the Worker was in pays for its death, and it always does."""
        if worker.step in (Step.RUNS, Step.WROTE):
            assert suspect == worker.batch
        elif worker.step in (Step.NAMED, Step.RAISED, Step.BETWEEN, Step.LEAVES):
            # On the page; whether predict had begun is known to nobody, but for what has raised before it.
            assert suspect in (None, worker.batch) or self.raises[suspect]
        else:
            assert suspect is None

    @rule()
    def feed(self) -> None:
        """Lease to all who wait."""
        for worker in self.workers.values():
            self.lease_to(worker)

    def lease_to(self, worker: SimulatedWorker) -> None:
        is_waiting = worker.step is Step.WAITS and worker.frame is None and not worker.must_introduce_itself
        if not is_waiting or self.missing or self.is_paused or self.dispatch.held_by(worker.name):
            return
        lease = self.dispatch.lease(worker.name)
        if lease is None:
            return
        covered = range(lease.first, lease.end)
        assert all(self.state(batch) is BatchState.OPEN for batch in covered)
        assert lease.count == 1 or not any(batch in self.ledger.deaths or self.raised[batch] for batch in covered)
        assert not self.waiting.intersection(covered)
        self.attempts_of_leases[lease.token] = min(self.raised[lease.first] + 1, ATTEMPTS)
        worker.frame = lease

    @precondition(lambda self: not self.missing)
    @rule()
    def take_back(self) -> None:
        self.taken_back = next(iter(self.dispatch.unstarted(1)), None)
        if self.taken_back is not None:
            self.dispatch.take_back(self.taken_back)

    @precondition(lambda self: self.taken_back)
    @rule()
    def shorten(self) -> None:
        assert self.taken_back is not None
        raised = self.read_raised(self.taken_back.worker)
        self.dispatch.shorten(self.taken_back)
        self.settle(raised)
        self.taken_back = None

    @rule()
    def pause(self) -> None:
        """The operator is about to end: it hands out nothing more."""
        self.is_paused = True
        self.dispatch.take_back_all()

    @rule(reads_frames=st.booleans())
    def restart_operator(self, reads_frames: bool) -> None:
        """The operator is killed; a frame that was on its way has arrived or is lost."""
        for worker in self.workers.values():
            worker.must_introduce_itself = True
            if not reads_frames:
                worker.frame = None
        self.ledger.epoch += 1
        self.begin_operator()

    # What holds at any time

    @invariant()
    def the_counts_add_up_and_follow_the_bytes(self) -> None:
        counts = self.dispatch.counts({})
        states = Counter(self.all_states())
        assert TOTAL == counts.total
        assert states[BatchState.OPEN] == counts.in_flight + counts.in_queue
        assert states[BatchState.FAILED] + states[BatchState.GIVEN_UP] == counts.failed
        if not self.missing:
            assert self.dispatch.queued + len(self.waiting) == counts.in_queue
            assert not self.dispatch.is_done or not states[BatchState.OPEN]

    @invariant()
    def a_batch_is_leased_to_one_worker_at_a_time(self) -> None:
        leases = [lease for name in self.workers if (lease := self.dispatch.held_by(name)) is not None]
        covered = Counter(batch for lease in leases for batch in range(lease.first, lease.end))
        assert max(covered.values(), default=1) == 1

    @invariant()
    def what_runs_is_leased_to_who_runs_it(self) -> None:
        for worker in self.workers.values():
            if worker.running is not None and worker.name not in self.missing:
                lease = self.dispatch.held_by(worker.name)
                assert lease is not None
                assert lease.first <= worker.running < lease.end

    @invariant()
    def an_ending_never_changes(self) -> None:
        for batch, state in enumerate(self.all_states()):
            assert self.ended.setdefault(batch, state) == state or self.ended[batch] is BatchState.OPEN
            self.ended[batch] = state

    # The end of every story

    def tell_to_the_end(self) -> None:
        """Let everybody do what is left, with nothing more going wrong."""
        if self.is_paused:
            self.restart_operator(reads_frames=True)
        for _ in range(50 * TOTAL):
            self.start_worker()
            for batch in self.waiting:
                self.dispatch.wake(batch)
            self.waiting.clear()
            for worker in list(self.workers.values()):
                self.hear_from(worker)
            for worker in self.workers.values():
                self.lease_to(worker)
                self.take_step(worker)
            if not self.missing and self.dispatch.is_done:
                return
        raise AssertionError("the job does not come to its end")

    def check_the_end(self) -> None:
        """Nothing is lost, nothing appears twice, and only Batches in which Workers died pay."""
        states = self.all_states()
        given_up = [batch for batch, state in enumerate(states) if state is BatchState.GIVEN_UP]
        assert given_up == [batch for batch in range(TOTAL) if self.ledger.deaths[batch] >= MAX_DEATHS]
        as_they_should = [
            BatchState.GIVEN_UP if batch in given_up else HOW_BATCHES_END[batch % 3] for batch in range(TOTAL)
        ]
        assert as_they_should == states
        with_rows = [batch for batch, state in enumerate(states) if state is BatchState.SUCCEEDED_WITH_ROWS]
        assert "".join(f"{batch}\n" for batch in with_rows).encode() == b"".join(read_rows(self.folder, self.segments))
        failed = [batch for batch, state in enumerate(states) if state is BatchState.FAILED]
        assert failed == [batch for batch, _ in read_failures(self.folder, self.segments)]
        for batch in range(TOTAL):
            assert self.runs[batch] <= 1 + self.ledger.deaths[batch] + self.raised[batch], "run again for nothing"
            has_raised = self.raises[batch] == (ATTEMPTS - 1) * raises_before_its_last_attempt(batch)
            assert has_raised or batch in given_up


TestStories = Stories.TestCase
TestStories.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
