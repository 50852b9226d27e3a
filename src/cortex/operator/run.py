"""One Job in progress: it hears what Workers do, asks `decide`, and does what is decided.

Everything here runs in the operator's thread; what may take long is handed to `Surroundings.background`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.identity import batch_id
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Pace
from cortex.engines.engine import Engine
from cortex.operator.crew import Crew
from cortex.operator.decide import (
    MAX_DEATHS,
    MAX_FAILURES_IN_ROW,
    End,
    Facts,
    ReleaseWorkers,
    StartHook,
    StartWorkers,
    decide,
)
from cortex.operator.dispatch import Dispatch, LeaseLost
from cortex.operator.feeder import Feeder
from cortex.operator.hook import Hook
from cortex.operator.joblog import append_line
from cortex.operator.verdict import verdict
from cortex.operator.workers import Connection, Phase, RollCall, WorkerSetup, WorkerView
from cortex.storage.files import sync_file
from cortex.storage.ledger import Ledger, WorkerRecord
from cortex.storage.pages import work_done
from cortex.storage.results import read_failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run needs of the operator."""

    ledger: Ledger
    engine: Engine
    now_ns: Callable[[], int]
    call_later: Callable[[float, Callable[[], None]], Callable[[], None]]
    background: Callable[[Callable[[], None], Callable[[], None]], None]


def record_stop(job: Job, folder: JobFolder, around: Surroundings) -> Job:
    """Record that a Job is to stop."""
    job = around.ledger.move(job.id, JobStatus.STOPPING, at_ns=around.now_ns())
    append_line(folder.log, "received a request to stop the job, cleaning up...")
    return job


@dataclass(slots=True, kw_only=True)
class JobRun:
    """See the module."""

    job: Job
    folder: JobFolder
    dispatch: Dispatch
    around: Surroundings
    ended: Callable[[Job], None]
    missing: set[str] = field(default_factory=set)  # Workers of an earlier operator that have not been found yet
    _crew: Crew = field(init=False)
    _was_ever_ready: bool = False
    _failures_in_row: int = 0  # Workers that ended outside a Batch, since one was finished
    _is_hopeless: bool = False  # no further Worker is worth a try
    _start_error: str | None = None
    _is_start_out_of_memory: bool = False  # that is what _start_error is about
    _hook: Hook = field(init=False)
    _feeder: Feeder = field(init=False)
    _is_resumed: bool = False  # what is open is queued
    is_ending: bool = False  # all is done and only the record of it is missing
    _is_paused: bool = False

    def __post_init__(self) -> None:
        """Begin, or go on where an earlier operator was."""
        self._crew = Crew(job=self.job, folder=self.folder, engine=self.around.engine)
        self._feeder = Feeder(self.dispatch, self.workers, self._may_lease, self.around.call_later)
        self._hook = Hook(self.folder, self.job.hook_worker)
        if self._hook.worker is not None and self._hook.worker not in self.missing:
            self._hook.worker_gone("was lost")  # an earlier operator has seen it end
        self._resume()

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
        self._is_hopeless = True
        self._start_error = f"no worker could start: {reason}"
        self.go_on()

    def stop(self) -> None:
        """Record that the Job is to stop; `go_on` then cuts off what runs, and ends it when all Workers are gone."""
        self.job = record_stop(self.job, self.folder, self.around)

    def pause(self) -> None:
        """Hand out nothing more, and take back what has not begun."""
        self._is_paused = True
        self.dispatch.take_back_all()

    @property
    def is_quiet(self) -> bool:
        """True while no Worker holds a Lease and the hook does not run."""
        return not self.dispatch.has_leases and not self.is_in_hook

    @property
    def is_in_hook(self) -> bool:
        """True from the record of the hook's start to its end."""
        return self._hook.worker is not None and not self._hook.is_over

    def worker_started(self, worker: str, record: WorkerRecord) -> None:
        """A Worker's process runs; it may be one that an earlier operator started."""
        if worker in self.missing:
            self._find(worker, Phase.INITIALIZING)
        self._resume()
        view = self.workers.get(worker)
        if view is None:  # ordered by an earlier operator, which died before it was started
            self.around.engine.stop(worker, at_once=True)
            return
        self.around.ledger.add_worker(record)
        view.pid = record.pid
        if view.phase is Phase.PENDING:
            view.phase = Phase.INITIALIZING
        self.go_on()

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A Worker introduces itself; if it does so again, it holds no Lease: those are ended before."""
        if worker in self.missing:
            self._find(worker, Phase.INITIALIZING)
        self._resume()
        view = self.workers.get(worker)
        if view is None:
            connection.send({"type": "end"})
            return
        view.connection = connection
        if hello["phase"] == "ready":
            self.dispatch.release(worker)
            if worker == self._hook.worker:
                self._hook.look()
                if not self._hook.is_over:  # the earlier operator has recorded it, but not said it
                    connection.send({"type": "run_hook"})
            self._became_ready(worker, hello["has_hook"])
        elif hello["phase"] == "failed":
            self._init_failed(connection, hello["error"])
        else:
            self.go_on()

    def _init_failed(self, connection: Connection, error: str) -> None:
        self._start_error = f"no worker could start: {error}"
        self._is_hopeless |= not self._was_ever_ready  # what raises in the first Workers raises in all
        connection.send({"type": "end"})

    def worker_says(self, worker: str, frame: Frame) -> None:
        """A Worker tells of its life."""
        view = self.workers.get(worker)
        if view is None or view.connection is None:
            return  # the last words of one that is gone
        kind = frame["type"]
        if kind == "lease_ended":
            self._lease_ended(worker, frame)
        elif kind == "ready":
            self._became_ready(worker, frame["has_hook"])
        elif kind == "init_failed":
            self._init_failed(view.connection, frame["error"])
        elif kind == "hook_ended":
            self._hook.ended(frame["error"])
            self.go_on()

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        """Its connection is closed; that alone says nothing about its process, whose exit will be told."""
        view = self.workers.get(worker)
        if view is not None and view.connection is connection:
            view.connection = None

    def worker_drained(self, worker: str) -> None:
        """The log has all that it printed."""
        if worker in self.workers:
            self.workers[worker].is_drained = True
            self.go_on()

    def worker_exited(self, worker: str, ending: Exit) -> None:
        """A Worker is gone for sure: its Lease goes back, and the Batch that it was in pays for it."""
        self.around.ledger.end_worker(worker)
        if worker in self.missing:
            self._find(worker, Phase.READY)
        view = self.workers.get(worker)
        if view is None:
            return
        was_in_hook = self.is_in_hook and worker == self._hook.worker
        if was_in_hook:
            self._hook.worker_gone(ending.cause)
        suspect = self.dispatch.release(worker)
        self._crew.lose(worker)
        if view.phase is not Phase.RELEASED and self.job.status is JobStatus.RUNNING and not self._is_paused:
            self._died(view, ending, suspect, was_in_hook=was_in_hook)
        self._resume()
        self.go_on()

    # What follows

    def go_on(self) -> None:
        """Do what is to be done now."""
        if not self._is_resumed or self.is_ending or self._is_paused:
            return
        for action in decide(self._facts()):
            match action:
                case StartWorkers(count):
                    self._crew.order(count, now_ns=self.around.now_ns())
                case StartHook(worker):
                    self._start_hook(worker)
                case ReleaseWorkers(keep):
                    self._release(keep)
                case End():
                    self._end()
        self._feeder.feed_all()

    def _facts(self) -> Facts:
        views = self.workers.values()
        is_stopping = self.job.status is JobStatus.STOPPING  # then only those that are gone can do nothing more
        return Facts(
            status=self.job.status,
            can_start=self._crew.setup is not None,
            workers_wanted=self._crew.wanted,
            starting=sum(view.is_starting for view in views),
            ready=tuple(worker for worker, view in self.workers.items() if view.is_waiting),
            live=sum(is_stopping or not view.has_said_all for view in views),
            all_ended=self._have_all_ended(),
            has_hook=self._hook.exists,
            hook_was_started=self._hook.worker is not None,
            hook_is_over=self._hook.is_over,
            is_hopeless=self._is_hopeless,
            unreleased=sum(view.phase is not Phase.RELEASED for view in views),
        )

    def _have_all_ended(self) -> bool:
        """Tell whether every Batch has ended: the queue is a view of the bytes, and they have the last word."""
        if not self.dispatch.is_done:
            return False
        if self.dispatch.counts().in_queue:
            self._fill()
        return self.dispatch.is_done

    def _find(self, worker: str, phase: Phase) -> None:
        """Take over a Worker of the earlier operator, with the Lease that its page says it holds."""
        self.dispatch.adopt(worker)
        # One that is in a Batch cannot say so; only one that is ready was ever leased any.
        has_lease = self.dispatch.held_by(worker) is not None
        self.workers[worker] = WorkerView(phase=Phase.READY if has_lease else phase)
        self.missing.discard(worker)

    def _resume(self) -> None:
        """Queue what is open once all Workers of the earlier operator are found or gone, and not before."""
        if not self.missing and not self._is_resumed:
            self._fill()
            self._is_resumed = True

    def _fill(self) -> None:
        """Queue what is open; what an earlier operator was about to give up, it did not get to."""
        self.dispatch.fill()
        for death in self.around.ledger.deaths(self.job.id):
            if death.deaths >= MAX_DEATHS and self.dispatch.is_queued_alone(death.batch):
                self.dispatch.give_up(death.batch)

    def _became_ready(self, worker: str, has_hook: bool) -> None:
        view = self.workers[worker]
        if view.phase is not Phase.RELEASED:
            view.phase = Phase.READY
        self._hook.exists = has_hook
        self._was_ever_ready = True
        self.go_on()

    def _lease_ended(self, worker: str, frame: Frame) -> None:
        try:
            self.dispatch.end_lease(worker, frame["token"], Pace(batches=frame["finished"], seconds=frame["seconds"]))
        except LeaseLost:
            return
        if frame["finished"]:
            self._failures_in_row = 0
            self._is_hopeless = self._is_start_out_of_memory = False
            self._start_error = None
        if self.dispatch.is_done:
            self.go_on()
        else:
            self._feeder.feed_one(worker)

    def _may_lease(self) -> bool:
        return self.job.status is JobStatus.RUNNING and self._is_resumed and not self._is_paused

    def _died(self, view: WorkerView, ending: Exit, suspect: int | None, *, was_in_hook: bool) -> None:
        """Say what became of a Worker's work; a Batch that it was in pays for it."""
        who = f"worker pid-{view.pid}" if view.pid else "a worker"
        cause = f"{ending.cause}," if ending.is_out_of_memory else ending.cause  # that one is a sentence of its own
        if suspect is not None:
            name = batch_id(self.job.id, suspect)
            consequence = self._charge(suspect, ending) if ending.is_charged else "it goes back to the queue"
            append_line(self.folder.log, f"{who} {cause} while it processed batch {name}: {consequence}")
            return
        when = "between two batches" if view.phase is Phase.READY else "before its predictor was ready"
        when = "in `on_job_complete`" if was_in_hook else when
        append_line(self.folder.log, f"{who} {cause} {when}")
        if ending.is_charged:
            self._failures_in_row += 1
            self._is_hopeless |= self._failures_in_row >= MAX_FAILURES_IN_ROW
            self._is_start_out_of_memory |= ending.is_out_of_memory and self._start_error is None
            self._start_error = self._start_error or f"no worker could go on: the last one {cause} {when}"

    def _charge(self, suspect: int, ending: Exit) -> str:
        death = self.around.ledger.charge_death(
            self.job.id, suspect, cause=ending.cause, out_of_memory=ending.is_out_of_memory
        )
        self.dispatch.suspect(suspect)
        if death.deaths < MAX_DEATHS:
            return f"it is tried again, alone (death {death.deaths} of {MAX_DEATHS})"
        self.dispatch.give_up(suspect)
        return f"it is given up after {MAX_DEATHS} deaths"

    def _start_hook(self, worker: str) -> None:
        connection = self.workers[worker].connection
        if connection is None:
            return
        self.around.ledger.start_hook(self.job.id, worker)
        self._hook.worker = worker
        connection.send({"type": "run_hook"})
        self._release(keep=worker)

    def _release(self, keep: str | None) -> None:
        self._crew.release(keep=keep, at_once=self.job.status is JobStatus.STOPPING)

    def roll_call(self) -> RollCall:
        """Tell how far the Workers are."""
        return self._crew.roll_call(now_ns=self.around.now_ns())

    def _end(self) -> None:
        self.is_ending = True
        self.around.background(self.sync, self._record_end)

    def sync(self) -> None:
        """Bring results and then states to the disk: a state on disk has its result there."""
        workers = self.folder.workers
        for path in [*workers.glob("*.rows"), *workers.glob("*.index"), workers]:
            sync_file(path)
        for path in self.folder.segments.glob("*.states"):
            sync_file(path)

    def _record_end(self) -> None:
        if self.job.is_final:  # recorded before, and what follows has failed
            self.ended(self.job)
            return
        counts = self.dispatch.counts()
        status, reason = verdict(
            self.job,
            counts,
            given_up=[death for death in self.around.ledger.deaths(self.job.id) if death.deaths >= MAX_DEATHS],
            hook=self._hook,
            start_error=self._start_error,
            is_start_out_of_memory=self._is_start_out_of_memory,
            first_failure=self._first_failure,
        )
        if reason is not None:
            append_line(self.folder.log, f"{status.text}: {reason}")
        busy_seconds = work_done(self.folder)[1]
        at_ns = self.around.now_ns()
        counts = Counts(succeeded=counts.succeeded, failed=counts.failed, in_queue=counts.in_queue + counts.in_flight)
        self.job = self.around.ledger.move(
            self.job.id, status, at_ns=at_ns, reason=reason, counts=counts, busy_seconds=busy_seconds
        )
        self.ended(self.job)

    def _first_failure(self) -> str | None:
        for batch, failure in read_failures(self.folder, self.around.ledger.segments(self.job.id)):
            return f"batch {batch_id(self.job.id, batch)}: {failure['type']}: {failure['message']}"
        return None
