"""One Job in progress: it hears what Workers do, asks `decide`, and does what is decided.

Everything here runs in the operator's thread; what may take long is handed to `Surroundings.background`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cortex.domain.ending import Exit
from cortex.domain.errors import Conflict
from cortex.domain.frame import Frame
from cortex.domain.job import Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Pace
from cortex.engines.engine import Connection
from cortex.operator.joblog import append_line
from cortex.operator.run.attempts import Attempts, open_attempts
from cortex.operator.run.crew import Crew
from cortex.operator.run.decide import (
    End,
    Facts,
    GiveBack,
    ReleaseIdle,
    ReleaseWorkers,
    StartHook,
    StartWorkers,
    Withdraw,
    decide,
)
from cortex.operator.run.departures import Departures
from cortex.operator.run.dispatch import Dispatch, LeaseLost
from cortex.operator.run.elastic import Elastic
from cortex.operator.run.facts import gather
from cortex.operator.run.feeder import Feeder
from cortex.operator.run.finish import Finish
from cortex.operator.run.hook import Hook
from cortex.operator.run.loss import Loss
from cortex.operator.run.prospects import Prospects
from cortex.operator.run.reclaim import Reclaim
from cortex.operator.run.stop import BY_REQUEST, Stop
from cortex.operator.run.surroundings import Surroundings
from cortex.operator.run.taking_in import Written
from cortex.operator.run.workers import Phase, RollCall, WorkerSetup, WorkerView
from cortex.storage.ledger import WorkerRecord


@dataclass(slots=True, kw_only=True)
class JobRun:
    """See the module."""

    job: Job
    folder: JobFolder
    around: Surroundings
    next_token: Callable[[], int]
    ended: Callable[[Job], None]
    missing: set[str] = field(default_factory=set)  # Workers of an earlier operator that have not been found yet
    attempts: Attempts = field(init=False)
    batches_told: int = 0  # that have ended in Leases that are over
    _crew: Crew = field(init=False)
    _prospects: Prospects = field(default_factory=Prospects)
    _hook: Hook = field(init=False)
    _feeder: Feeder = field(init=False)
    _departures: Departures = field(init=False)
    _elastic: Elastic = field(init=False)
    _is_resumed: bool = False  # what is open is queued
    _all_ended: bool = False  # every Batch has: an ending never changes
    is_ending: bool = False  # all is done and only the record of it is missing
    _is_draining: bool = False

    def __post_init__(self) -> None:
        """Begin, or go on where an earlier operator was."""
        self._crew = Crew(job=self.job, folder=self.folder, engine=self.around.engine)
        self.attempts = open_attempts(
            self.job,
            self.folder,
            self.around,
            next_token=self.next_token,
            woken=lambda: self.around.event(self._feeder.feed, of=self),
        )
        handle = partial(self.around.event, of=self)
        reclaim = Reclaim(attempts=self.attempts, workers=self.workers, call_later=self._later, handle=handle)
        self._feeder = Feeder(self.attempts, self.workers, reclaim, self._may_lease, self._later)
        self._departures = Departures(crew=self._crew, feeder=self._feeder, dispatch=self.dispatch)
        self._elastic = Elastic(crew=self._crew, dispatch=self.dispatch, call_later=self._later, look=self.go_on)
        self.attempts.watch(self._later)
        self._hook = Hook(self.folder, self.job.hook_worker)
        if self._hook.worker is not None and self._hook.worker not in self.missing:
            self._hook.worker_gone("was lost")  # an earlier operator has seen it end
        self._resume()

    @property
    def dispatch(self) -> Dispatch:
        """The queue and the Leases."""
        return self.attempts.dispatch

    @property
    def workers(self) -> dict[str, WorkerView]:
        """The Workers that are not known to be gone."""
        return self._crew.views

    # What happens

    def environment_ready(self, setup: WorkerSetup) -> None:
        """Workers can be started from now on."""
        self._crew.equip(setup, now_ns=self.around.now_ns())
        self.go_on()

    def fail_to_start(self, reason: str) -> None:
        """No Worker of this Job can ever start."""
        self._prospects.environment_failed(reason)
        self.go_on()

    def stop(self, stop: Stop = BY_REQUEST) -> None:
        """Record that the Job is to stop; `go_on` then cuts off what runs, and ends it when all Workers are gone."""
        self.job = stop.record(self.job, self.folder, self.around)

    def pause(self) -> None:
        """Hand out nothing more, let what has begun end, and then the Workers. Raises Conflict where it is too late."""
        if self.is_in_hook or self.is_ending or (self._is_resumed and self.dispatch.is_done):
            raise Conflict(f"job `{self.job.id}` has nothing left to pause: all its batches have ended")
        self.job = self.around.ledger.move(self.job.id, JobStatus.PAUSED, at_ns=self.around.now_ns())
        append_line(self.folder.log, "pausing: batches that have begun go on to their end")
        self._feeder.reclaim.all()

    def resume(self) -> None:
        """Go on after a pause."""
        self.job = self.around.ledger.move(self.job.id, JobStatus.RUNNING, at_ns=self.around.now_ns())
        append_line(self.folder.log, "resuming")
        self._crew.reopen(now_ns=self.around.now_ns())

    @property
    def may_be_stopped(self) -> bool:
        """True until its end is being recorded; writing its results may take long, and comes before."""
        return not self.is_ending or self.job.output is not None

    @property
    def is_prepared(self) -> bool:
        """True once Workers can be started."""
        return self._crew.setup is not None

    def drain(self) -> None:
        """Hand out nothing more, and take back what has not begun: the operator is about to end."""
        self._is_draining = True
        self._feeder.reclaim.all()

    @property
    def is_quiet(self) -> bool:
        """True while no Worker holds a Lease and the hook does not run."""
        return not self.dispatch.has_leases and not self.is_in_hook

    @property
    def is_in_hook(self) -> bool:
        """True from the record of the hook's start to its end."""
        return self._hook.worker is not None and not self._hook.is_over

    def worker_started(self, worker: str, record: WorkerRecord, node: str | None = None) -> None:
        """A Worker's process runs; it may be one that an earlier operator started."""
        if worker in self.missing:
            self._find(worker, Phase.INITIALIZING)
        self._resume()
        view = self.workers.get(worker)
        if view is None:  # ordered by an earlier operator, which died before it was started
            self.around.engine.stop(worker, at_once=True)
            return
        self.around.ledger.add_worker(record)
        view.pid, view.node = record.pid, node
        if view.phase is Phase.PENDING:
            view.phase = Phase.INITIALIZING
        self._changed(worker)
        self.go_on()

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A Worker introduces itself; if it does so again, it holds no Lease: those are ended before."""
        if worker in self.missing:
            self._find(worker, Phase.INITIALIZING)
        if worker in self.workers:
            self.workers[worker].connection = connection
        self.around.event(self._introduced, worker, connection, hello, of=self)

    def _introduced(self, worker: str, connection: Connection, hello: Frame) -> None:
        self._resume()
        view = self.workers.get(worker)
        if view is None:
            connection.send({"type": "end"})
        if view is None or view.connection is not connection:
            return  # it has gone since, or has come anew: this could not be handled before
        self._changed(worker)
        if hello["phase"] == "ready":
            self.attempts.release(worker)
            if worker == self._hook.worker:
                self._hook.look()
                if not self._hook.is_over:  # the earlier operator has recorded it, but not said it
                    connection.send({"type": "run_hook"})
            self._became_ready(worker, hello["has_hook"])
        elif hello["phase"] == "failed":
            self._init_failed(view, connection, hello["error"])
        else:
            self.go_on()

    def _init_failed(self, view: WorkerView, connection: Connection, error: str) -> None:
        if view.phase is not Phase.RELEASED:  # one that was told to end may have raised because of that
            self._prospects.init_raised(error)
        connection.send({"type": "end"})

    def worker_says(self, worker: str, frame: Frame) -> None:
        """A Worker tells of its life."""
        if frame["type"] == "written":
            self._take_in(worker, Written.from_frame(frame))
        view = self.workers.get(worker)
        if view is None or view.connection is None:
            return  # the last words of one that is gone
        if (kind := frame["type"]) == "lease_ended":
            self._lease_ended(worker, frame)
        elif kind == "ready":  # this and the next are said by Workers of earlier versions; others say it in `hello`
            self._became_ready(worker, frame["has_hook"])
        elif kind == "init_failed":
            self._init_failed(view, view.connection, frame["error"])
        elif kind == "hook_ended" and worker == self._hook.worker:
            self._hook.ended(frame["error"])
            self.go_on()

    def _take_in(self, worker: str, written: Written) -> None:
        """Take in what a Worker elsewhere has written; one of an earlier operator may not have spoken before."""
        if worker in self.missing:
            self._find(worker, Phase.READY)
        self.attempts.take_in(worker, written)
        self._resume()

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        """Its connection is closed; that alone says nothing about its process, whose exit will be told."""
        view = self.workers.get(worker)
        if view is not None and view.connection is connection:
            view.connection = None
            self._changed(worker)

    def worker_drained(self, worker: str) -> None:
        """The log has all that it printed."""
        if worker in self.workers:
            self.workers[worker].is_drained = True
            self._changed(worker)
            self.go_on()

    def worker_exited(self, worker: str, ending: Exit) -> None:
        """A Worker is gone for sure: its Lease goes back, and the Batch that it was in pays for it."""
        if worker in self.missing:
            self._find(worker, Phase.READY)
        view = self.workers.get(worker)
        if view is None:  # all of this was done before, but what follows may have failed then
            self.around.ledger.end_worker(worker)
            if self._is_resumed:
                self.attempts.fill()
            else:
                self._resume()
            self.go_on()
            return
        was_in_hook = self.is_in_hook and worker == self._hook.worker
        if was_in_hook:
            self._hook.worker_gone(ending.cause)
        self.attempts.catch_up(worker)
        suspect = self.dispatch.open_in(worker)
        ending = self.attempts.explain(worker, suspect, ending)
        if view.was_let_go(ending, suspect) and not was_in_hook:
            view.phase = Phase.RELEASED  # by the earlier operator
        is_done_for = view.phase is Phase.RELEASED or self.job.status is JobStatus.STOPPING or self._is_draining
        # In the ledger before anything else changes, so that all of this may be repeated.
        death = None if is_done_for else self.attempts.charge(worker, suspect, ending)
        if death is None:
            self.around.ledger.end_worker(worker)
        self.attempts.release(worker)
        self._crew.lose(worker)
        if not is_done_for:
            loss = Loss(view=view, ending=ending, suspect=suspect, death=death, was_in_hook=was_in_hook)
            loss.follow_up(self.attempts, self._prospects)
        self._resume()
        self.go_on()

    # What follows

    def go_on(self) -> None:
        """Do what is to be done now."""
        if not self._is_resumed or self.is_ending or self._is_draining:
            return
        self._stop_if_too_many_failed()
        for action in decide(self._facts()):
            match action:
                case StartWorkers(count):
                    self._crew.order(count, now_ns=self.around.now_ns())
                case StartHook(worker):
                    self._start_hook(worker)
                case ReleaseWorkers(keep):
                    self._departures.release(keep=keep, at_once=self.job.status is JobStatus.STOPPING)
                case ReleaseIdle():
                    self._departures.release_idle()
                case GiveBack(count):
                    self._departures.give_back(count, is_news=self._elastic.is_news)
                case Withdraw(count):
                    self._departures.withdraw(count)
                case End():
                    self._end()
        self._feeder.feed()
        self._elastic.watch()

    def _changed(self, worker: str) -> None:
        """Take notice of how a Worker stands now: it may be one that can be told what to do."""
        self._crew.roster.changed(worker)
        self._feeder.offer(worker)

    def _later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        return self.around.call_later(seconds, partial(self.around.event, call, of=self))

    def _facts(self) -> Facts:
        all_ended = self._have_all_ended()
        return gather(self.job.status, self._crew, self._elastic, self._hook, self._prospects, all_ended=all_ended)

    def _have_all_ended(self) -> bool:
        """Tell whether every Batch has ended: the queue is a view of the bytes, and they have the last word."""
        if not self._all_ended and self.dispatch.is_done:
            if self.attempts.counts().in_queue:
                self.attempts.fill()
            self._all_ended = self.dispatch.is_done
        return self._all_ended

    def _find(self, worker: str, phase: Phase) -> None:
        """Take over a Worker of the earlier operator, with the Lease that its page says it holds."""
        self.dispatch.adopt(worker)
        # One that is in a Batch cannot say so; only one that is ready was ever leased any.
        has_lease = self.dispatch.held_by(worker) is not None
        view = WorkerView(phase=Phase.READY if has_lease else phase, was_found=True)
        self._crew.roster.add(worker, view)
        self.missing.discard(worker)

    def _resume(self) -> None:
        """Queue what is open once all Workers of the earlier operator are found or gone, and not before."""
        if not self.missing and not self._is_resumed:
            self.attempts.fill()
            self._is_resumed = True

    def _became_ready(self, worker: str, has_hook: bool) -> None:
        view = self.workers[worker]
        if view.phase is not Phase.RELEASED:
            view.phase = Phase.READY
        self._changed(worker)
        self._hook.exists = has_hook
        self._prospects.worker_ready()
        self.around.event(self.go_on, of=self)  # if it fails, its Lease is not to be ended again: that may be a new one

    def _lease_ended(self, worker: str, frame: Frame) -> None:
        self._feeder.offer(worker)
        try:
            self.attempts.end_lease(worker, frame["token"], Pace(batches=frame["finished"], seconds=frame["seconds"]))
        except LeaseLost:
            self.go_on()  # it may be that this was told before, and what follows has failed
            return
        self.attempts.failed += frame.get("failed", 0)
        self.batches_told += frame["finished"]
        is_news = frame["finished"] > 0 and self._prospects.batches_ended()
        is_news |= self.dispatch.is_done or self.job.status is JobStatus.PAUSED or self._elastic.surplus > 0
        if is_news or self.attempts.may_be_too_many_failed:
            self.go_on()
        else:
            self._feeder.feed()

    def _stop_if_too_many_failed(self) -> None:
        if self.job.status is JobStatus.RUNNING and self.attempts.may_be_too_many_failed:
            counts, most = self.attempts.counts(), self.job.policy.max_failures
            if most is not None and most.is_exceeded(counts.failed, counts.total):
                failed = f"{counts.failed} of {counts.total} batches have failed"
                self.stop(Stop(reason=f"{failed}, more than `max_failures` ({most}) allows"))

    def _may_lease(self) -> bool:
        return self.job.status is JobStatus.RUNNING and self._is_resumed and not self._is_draining

    def _start_hook(self, worker: str) -> None:
        connection = self.workers[worker].connection
        if connection is None:
            return
        self.around.ledger.start_hook(self.job.id, worker)
        self._hook.worker = worker
        connection.send({"type": "run_hook"})
        self._departures.release(keep=worker, at_once=False)

    def roll_call(self) -> RollCall:
        """Tell how far the Workers are."""
        return self._crew.roll_call(now_ns=self.around.now_ns())

    def _end(self) -> None:
        self.is_ending = True
        Finish(
            job=self.job,
            folder=self.folder,
            around=self.around,
            attempts=self.attempts,
            hook=self._hook,
            start_error=self._prospects.error,
            is_start_out_of_memory=self._prospects.is_out_of_memory,
            event=partial(self.around.event, of=self),
            ended=self.ended,
        ).begin()
