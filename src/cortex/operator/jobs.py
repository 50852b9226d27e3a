"""All Jobs: submit, stop, and what becomes of them while this operator and the earlier ones live."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count as count_up
from pathlib import Path
from typing import Any, Final, Protocol

from cortex.domain.ending import Exit
from cortex.domain.errors import EnvironmentFailed, JobNotFound, JobNotInProgress
from cortex.domain.frame import Frame
from cortex.domain.identity import job_id, job_id_before
from cortex.domain.job import Counts, Job, JobStatus, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.lease import token
from cortex.engines.engine import Engine, EngineListener
from cortex.operator.dispatch import Dispatch
from cortex.operator.enqueuing import JobEnqueuing, log_partition
from cortex.operator.joblog import append_line
from cortex.operator.recovery import count_what_can_be_read, open_what_was_lost, remove_leftovers
from cortex.operator.run import JobRun, Surroundings, record_stop
from cortex.operator.submission import Submission
from cortex.operator.workers import Connection, RollCall, WorkerSetup
from cortex.storage.files import told_if_full
from cortex.storage.ledger import Ledger, Version, WorkerRecord
from cortex.storage.pages import work_done
from cortex.storage.segments import SegmentDamaged, remove_payload, write_segments

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0

_RETURN_SECONDS: Final = 1.5
"""How long the Workers of an earlier operator have to come back: their supervisor retries every 50 ms."""


class Preparation(Protocol):
    """Who makes the environment of a version ready."""

    def prepare(
        self,
        version: Version,
        log: Callable[[str], None],
        done: Callable[[Path | EnvironmentFailed], None],
    ) -> None:
        """Have it ready; tell the log how it goes and `done`, later, with its interpreter or why there is none."""

    def state(self, version: Version) -> Mapping[str, str]:
        """Say how far the environment of a version is: `status` and `message`."""

    def setup(self, version: Version, python: Path, job: Job) -> WorkerSetup:
        """Give what the Workers of a Job are started with."""


@dataclass(slots=True, kw_only=True)
class Jobs(EngineListener):
    """See the module. All methods are called from the operator's thread."""

    ledger: Ledger
    root: Path
    preparation: Preparation
    now_ns: Callable[[], int]
    call_later: Callable[[float, Callable[[], None]], Callable[[], None]]
    background: Callable[[Callable[[], None], Callable[[], None]], None]
    enqueuing: JobEnqueuing
    recorded: Callable[[Job], None] = lambda _: None  # told of each new Job
    engine: Engine = field(init=False)
    _epoch: int = 0
    _counter: Iterator[int] = field(default_factory=lambda: count_up(1))
    _newest_id: str | None = None
    _runs: dict[str, JobRun] = field(default_factory=dict)
    _when_ended: dict[str, list[Callable[[], None]]] = field(default_factory=dict)

    def folder(self, job: str) -> JobFolder:
        """Give the folder of a Job."""
        return JobFolder(self.root / job)

    @property
    def _around(self) -> Surroundings:
        return Surroundings(
            ledger=self.ledger,
            engine=self.engine,
            now_ns=self.now_ns,
            call_later=self.call_later,
            background=self.background,
        )

    # What users ask for

    def new_job_id(self) -> str:
        """Name the next Job; it sorts before every other one, whatever the clock says."""
        candidate = job_id(self.now_ns())
        if self._newest_id is not None and candidate >= self._newest_id:
            candidate = job_id_before(self._newest_id)
        self._newest_id = candidate
        return candidate

    def write_dataset(self, job: str, submission: Submission) -> list[SegmentRange]:
        """Write the Batches of a submission to the disk. Slow for a large one; may be called from any thread.

        Raises StorageFull.
        """
        with told_if_full():
            return write_segments(self.folder(job), submission.batches)

    def submit(self, job_id_: str, version: Version, submission: Submission, segments: Sequence[SegmentRange]) -> Job:
        """Record a Job whose dataset has been written. When this returns, it may be acknowledged."""
        job = Job(
            id=job_id_,
            api_name=version.api_name,
            api_id=version.api_id,
            workers=submission.workers,
            config=submission.config,
            source=submission.source,
            batch_size=submission.batch_size,
            item_count=submission.item_count,
            total_batch_count=len(submission.batches),
            status=JobStatus.ENQUEUING,
            created_at_ns=self.now_ns(),
        )
        self.ledger.add_job(job, segments, submission.key)
        self._event(self.recorded, job)
        return job

    def enqueue(self, job: Job) -> None:
        """Bring a recorded Job to RUNNING: the work that the submission's answer does not wait for."""
        recorded = self.ledger.job(job.id)
        if recorded is None or recorded.status is not JobStatus.ENQUEUING:  # it was stopped, or deleted, meanwhile
            return
        if job.source is not None:
            self.enqueuing.begin(job, self.folder(job.id), partial(self._event, self._enqueued, job.id))
        else:
            log_partition(job, self.folder(job.id).log)
            self._event(self._begin, job.id)

    def _enqueued(self, job_id_: str, failure: str | None) -> None:
        job = self.ledger.job(job_id_)
        if job is None or job.status is not JobStatus.ENQUEUING:  # it was stopped at the last moment
            return
        log = self.folder(job_id_).log
        if failure is None:
            append_line(log, f"completed enqueuing a total of {job.total_batch_count} batches")
            self._event(self._begin, job_id_)
            return
        append_line(log, f"failed to enqueue all batches: {failure}")
        counts = Counts(in_queue=job.total_batch_count)
        self._ended(
            self.ledger.move(job_id_, JobStatus.ENQUEUE_FAILED, at_ns=self.now_ns(), reason=failure, counts=counts)
        )

    def _begin(self, job_id_: str) -> None:
        job = self.ledger.job(job_id_)
        if job is not None and job.status is JobStatus.ENQUEUING:
            job = self.ledger.move(job_id_, JobStatus.RUNNING, at_ns=self.now_ns())
            append_line(self.folder(job_id_).log, "spinning up workers...")
        if job is not None and job.status is JobStatus.RUNNING and job_id_ not in self._runs:
            self._run(job, missing=set())

    def discard(self, job_id_: str) -> None:
        """Remove the dataset of a submission that is not recorded after all. May be called from any thread."""
        shutil.rmtree(self.folder(job_id_).root, ignore_errors=True)

    def stop(self, job_id_: str, when_ended: Callable[[], None]) -> None:
        """Stop a Job; tell when it has ended. Raises JobNotInProgress when it has ended already."""
        run, job = self._runs.get(job_id_), self.ledger.job(job_id_)
        if job is None or job.is_final or (run is not None and run.is_ending):
            raise JobNotInProgress(f"job `{job_id_}` has already ended")
        if job.status is JobStatus.STOPPING:
            self.watch(job_id_, when_ended)
        elif run is None:
            stopping = record_stop(job, self.folder(job_id_), self._around)
            self.watch(job_id_, when_ended)
            self.enqueuing.cancel(job_id_, partial(self._event, self._run, stopping, set()))
        else:
            run.stop()
            self.watch(job_id_, when_ended)
            self._event(run.go_on, of=run)

    def watch(self, job_id_: str, when_ended: Callable[[], None]) -> None:
        """Tell when a Job has ended; at once if it has."""
        job = self.ledger.job(job_id_)
        if job is None or job.is_final:
            when_ended()
        else:
            self._when_ended.setdefault(job_id_, []).append(when_ended)

    def unwatch(self, job_id_: str, when_ended: Callable[[], None]) -> None:
        """Tell no more."""
        if when_ended in self._when_ended.get(job_id_, []):
            self._when_ended[job_id_].remove(when_ended)

    # What users see

    def job(self, api_name: str, job_id_: str) -> Job:
        """Give a Job of an API. Raises JobNotFound."""
        job = self.ledger.job(job_id_)
        if job is None or job.api_name != api_name:
            hint = f"`cortex get {api_name}` lists its jobs; ended ones are removed in time (--keep-jobs)"
            raise JobNotFound(f"there is no job `{job_id_}` of `{api_name}`", hint=hint)
        return job

    def counts(self, job: Job) -> Counts:
        """Count the Batches of a Job."""
        if job.final_counts is not None:
            return job.final_counts
        run = self._runs.get(job.id)
        return run.dispatch.counts() if run else Counts(in_queue=job.total_batch_count)

    def work_done(self, job: Job) -> tuple[int, float]:
        """Count the Batches that Workers have ended, and the seconds that they spent in them."""
        if job.final_counts is not None:
            return job.final_counts.succeeded + job.final_counts.failed, job.busy_seconds
        return work_done(self.folder(job.id))

    def roll_call(self, job: Job) -> RollCall | None:
        """Tell how far the Workers of a running Job are."""
        run = self._runs.get(job.id)
        return run.roll_call() if run and job.status is JobStatus.RUNNING else None

    # What happens

    def recover(self, boot_id: str) -> None:
        """Begin this operator's epoch and take over what the earlier ones left."""
        self._epoch, machine_restarted = self.ledger.begin_epoch(boot_id)
        self._newest_id = self.ledger.newest_job_id()
        remove_leftovers(self.ledger, self.root)
        for job in self.ledger.jobs_in_progress():
            try:
                self._recover_job(job, machine_restarted=machine_restarted)
            except (OSError, SegmentDamaged) as error:
                self._give_up(job, f"its files are damaged: {error}")
        missing = {worker for run in self._runs.values() for worker in run.missing}
        if missing:
            self.call_later(_RETURN_SECONDS, self._give_up_the_missing)

    def _recover_job(self, job: Job, *, machine_restarted: bool) -> None:
        if machine_restarted:
            open_what_was_lost(self.ledger, job, self.folder(job.id))
        if job.status is JobStatus.ENQUEUING:
            self.enqueue(job)
            return
        records = self.ledger.workers(job.id)
        self._run(job, missing={record.worker for record in records})
        for record in records if machine_restarted else []:
            self.worker_exited(record.worker, Exit(status=None, detail="ended with the machine", is_charged=False))

    def _give_up(self, job: Job, reason: str) -> None:
        """End a Job that nobody can go on with; the others go on."""
        self._runs.pop(job.id, None)
        append_line(self.folder(job.id).log, f"{JobStatus.UNEXPECTED_ERROR.text}: {reason}")
        counts = count_what_can_be_read(self.ledger, job, self.folder(job.id))
        self.ledger.move(job.id, JobStatus.UNEXPECTED_ERROR, at_ns=self.now_ns(), reason=reason, counts=counts)

    def sync(self) -> None:
        """Bring what has ended since the last call to the disk. Slow; to be called from a thread of its own."""
        for run in list(self._runs.values()):
            run.sync()

    def pause(self) -> None:
        """Hand out nothing more, and take back what has not begun: this operator is about to end."""
        for run in self._runs.values():
            run.pause()

    @property
    def is_quiet(self) -> bool:
        """True once no Worker is in a Batch."""
        return all(run.is_quiet for run in self._runs.values())

    @property
    def is_in_a_hook(self) -> bool:
        """True while an on_job_complete runs."""
        return any(run.is_in_hook for run in self._runs.values())

    def workers_ended(self) -> None:
        """Write down that the engine has ended all Workers: the next operator need not look for them."""
        for run in self._runs.values():
            for worker in run.workers:
                self.ledger.end_worker(worker)

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A Worker introduces itself."""
        run = self._run_of(worker)
        if run is None:
            connection.send({"type": "end"})
        else:
            self._event(run.worker_connected, worker, connection, hello, of=run)

    def worker_says(self, worker: str, frame: Frame) -> None:
        """A Worker tells of its life."""
        if run := self._run_of(worker):
            self._event(run.worker_says, worker, frame, of=run)

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        """The connection of a Worker is closed."""
        if run := self._run_of(worker):
            run.worker_disconnected(worker, connection)

    def worker_started(self, worker: str, *, pid: int, process_started_at: float, supervisor: str) -> None:
        """See EngineListener."""
        run = self._run_of(worker)
        if run is None:
            self.engine.stop(worker, at_once=True)
            return
        record = WorkerRecord(
            worker=worker, job_id=run.job.id, supervisor=supervisor, pid=pid, process_started_at=process_started_at
        )
        self._event(run.worker_started, worker, record, of=run)

    def worker_drained(self, worker: str) -> None:
        """See EngineListener."""
        if run := self._run_of(worker):
            self._event(run.worker_drained, worker, of=run)

    def worker_exited(self, worker: str, ending: Exit) -> None:
        """See EngineListener."""
        if run := self._run_of(worker):
            self._event(run.worker_exited, worker, ending, of=run)
        else:
            self._event(self.ledger.end_worker, worker)
        self._maybe_idle()

    def _event(self, handle: Callable[..., None], *facts: Any, of: JobRun | None = None) -> None:
        """Handle what has happened, and if that fails (a full disk, say), again until it does not.

        So what fails here harms one Job, for as long as the cause lasts; what happens to a run that is over is of no
        interest. A handler changes what it holds in memory only after what it writes, so it may be repeated.
        """
        if of is not None and self._runs.get(of.job.id) is not of:
            return
        try:
            handle(*facts)
        except Exception as error:
            name = getattr(handle, "__qualname__", "an event")
            logger.exception("%s failed and is tried again", name, exc_info=error)
            self.call_later(_RETRY_SECONDS, partial(self._event, handle, *facts, of=of))

    def _run_of(self, worker: str) -> JobRun | None:
        return self._runs.get(worker.partition("-")[0])

    def _run(self, job: Job, missing: set[str]) -> None:
        version = self.ledger.version(job.api_id)
        if version is None:
            raise LookupError(f"job {job.id} is of version {job.api_id}, which is not in the ledger")
        folder = self.folder(job.id)
        run = JobRun(
            job=job,
            folder=folder,
            dispatch=Dispatch(
                folder,
                self.ledger.segments(job.id),
                workers=job.workers,
                next_token=lambda: token(self._epoch, next(self._counter)),
                suspects=[death.batch for death in self.ledger.deaths(job.id)],
            ),
            around=self._around,
            ended=self._ended,
            missing=missing,
        )
        self._runs[job.id] = run
        if job.status is JobStatus.STOPPING:
            run.go_on()
        else:
            self._prepare(run, version)

    def _prepare(self, run: JobRun, version: Version) -> None:
        def done(outcome: Path | EnvironmentFailed) -> None:
            if isinstance(outcome, EnvironmentFailed):
                append_line(run.folder.log, str(outcome))
                self._event(run.fail_to_start, outcome.message, of=run)
            else:
                self._event(run.environment_ready, self.preparation.setup(version, outcome, run.job), of=run)

        self.preparation.prepare(version, lambda line: append_line(run.folder.log, line), done)

    def _ended(self, job: Job) -> None:
        if run := self._runs.pop(job.id, None):
            for worker in run.workers:
                self.engine.stop(worker, at_once=False)
        for tell in self._when_ended.pop(job.id, []):
            self._event(tell)
        self._maybe_idle()
        if job.started_at_ns is None:
            self.background(partial(remove_payload, self.folder(job.id)), lambda: None)

    def _maybe_idle(self) -> None:
        if not self._runs:
            self.engine.idle()

    def _give_up_the_missing(self) -> None:
        """Make sure that the Workers which have not come back are gone, and go on without them."""
        for run in list(self._runs.values()):
            for record in self.ledger.workers(run.job.id) if run.missing else []:
                if record.worker in run.missing:
                    self.engine.end_lost(record.worker, pid=record.pid, process_started_at=record.process_started_at)
