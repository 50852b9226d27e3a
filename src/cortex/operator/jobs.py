"""All Jobs: submit, stop, and what becomes of them while this operator and the earlier ones live."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count as count_up
from pathlib import Path
from typing import Final

from cortex.domain.ending import Exit
from cortex.domain.errors import Conflict, CortexError, JobNotFound, JobNotInProgress
from cortex.domain.identity import job_id, job_id_before
from cortex.domain.isolation import Death
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.domain.lease import token
from cortex.domain.submission_key import SubmissionKey
from cortex.domain.timing import Background, Timer
from cortex.engines.engine import Engine
from cortex.operator.joblog import append_line
from cortex.operator.preparation import Preparation, Prepared
from cortex.operator.run.job_run import JobRun
from cortex.operator.run.stop import BY_REQUEST, Stop
from cortex.operator.run.surroundings import Event, Exports, Surroundings
from cortex.operator.run.workers import RollCall
from cortex.operator.submitting.enqueuing import JobEnqueuing, log_partition
from cortex.operator.submitting.submission import Submission
from cortex.operator.submitting.warm_up import warm_up
from cortex.operator.upkeep.persistence import Persistence
from cortex.operator.upkeep.recovery import give_up, is_damage, open_what_was_lost, remove_leftovers
from cortex.operator.upkeep.trouble import Troubles
from cortex.operator.work import WorkDone
from cortex.operator.worker_events import WorkerEvents
from cortex.storage.files import spread_folders, told_if_full
from cortex.storage.ledger import Ledger, Version
from cortex.storage.segments import SegmentDamaged, remove_payload
from cortex.storage.small_files import Dataset, write_dataset

_BEGINNING: Final = "spinning up workers..."
_RETURN_SECONDS: Final = 1.5
"""How long the Workers of an earlier operator have to come back: their supervisor retries every 50 ms."""


@dataclass(slots=True, kw_only=True)
class Jobs:
    """See the module. All methods are called from the operator's thread."""

    ledger: Ledger
    root: Path
    preparation: Preparation
    now_ns: Callable[[], int]
    call_later: Timer
    background: Background
    enqueuing: JobEnqueuing
    exports: Exports
    recorded: Callable[[Job], None] = lambda _: None  # told of each new Job
    engine: Engine = field(init=False)
    troubles: Troubles = field(default_factory=Troubles)
    _epoch: int = 0
    _counter: Iterator[int] = field(default_factory=lambda: count_up(1))
    _newest_id: str | None = None
    _is_draining: bool = False
    _runs: dict[str, JobRun] = field(default_factory=dict)
    _when_ended: dict[str, list[Callable[[], None]]] = field(default_factory=dict)  # of Jobs in progress
    _work: WorkDone = field(default_factory=WorkDone)
    _event: Event = field(init=False)

    def __post_init__(self) -> None:
        """Let what happens be handled until that succeeds."""
        self._event = Persistence(
            runs=self._runs,
            folder=self.folder,
            give_up=self._give_up,
            troubles=self.troubles,
            call_later=self.call_later,
        ).handle

    @property
    def worker_events(self) -> WorkerEvents:
        """Who is to hear Workers, and what becomes of them."""
        return WorkerEvents(
            runs=self._runs, around=lambda: self._around, event=self._event, maybe_idle=self._maybe_idle
        )

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
            exports=self.exports,
            event=self._event,
        )

    # What users ask for

    def new_job_id(self) -> str:
        """Name the next Job; it sorts before every other one, whatever the clock says."""
        candidate = job_id(self.now_ns())
        if self._newest_id is not None and candidate >= self._newest_id:
            candidate = job_id_before(self._newest_id)
        self._newest_id = candidate
        return candidate

    def write_dataset(self, job: str, submission: Submission) -> Dataset:
        """Write the Batches of a submission to the disk. Slow for a large one; may be called from any thread.

        Raises StorageFull.
        """
        with told_if_full():
            return write_dataset(self.folder(job), submission.batches)

    def submit(self, job_id_: str, version: Version, submission: Submission, dataset: Dataset) -> Job:
        """Record a Job, as running if its dataset has been written. When this returns, it may be acknowledged."""
        job = Job(
            id=job_id_,
            api_name=version.api_name,
            api_id=version.api_id,
            workers=submission.workers,
            workers_min=submission.workers_min,
            config=submission.config,
            source=submission.source,
            policy=submission.policy,
            output=submission.output,
            batch_size=submission.batch_size,
            item_count=submission.item_count,
            total_batch_count=len(submission.batches),
            status=JobStatus.RUNNING if submission.source is None else JobStatus.ENQUEUING,
            created_at_ns=self.now_ns(),
            started_at_ns=self.now_ns() if submission.source is None else None,
        )
        return self.record(job, dataset, submission.key)

    def record(self, job: Job, dataset: Dataset, key: SubmissionKey | None, deaths: Sequence[Death] = ()) -> Job:
        """Record a Job whose folder has been made. When this returns, it may be acknowledged."""
        self.ledger.add_job(job, dataset.segments, key, deaths, dataset.files)
        self._when_ended[job.id] = []
        self._event(self.recorded, job)
        return job

    def enqueue(self, job: Job) -> None:
        """Begin with a recorded Job: enqueue it, unless it has all its Batches, and run it."""
        folder = self.folder(job.id)
        if job.source is None or job.rerun_of is not None:
            if job.rerun_of is None:
                log_partition(job, folder.log)
            if job.status is JobStatus.RUNNING:  # since it was recorded
                append_line(folder.log, _BEGINNING)
            self._event(self._begin, job.id)
        elif (now := self.ledger.job(job.id)) and now.status is JobStatus.ENQUEUING:  # not stopped, or deleted, since
            warm_up(job, folder, self._around, self.preparation)
            self.enqueuing.begin(job, folder, partial(self._event, self._enqueued, job.id))

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
            append_line(self.folder(job_id_).log, _BEGINNING)
        if job is not None and job.status is JobStatus.RUNNING and job_id_ not in self._runs:
            self._run(job, missing=set())

    def discard(self, job_id_: str) -> None:
        """Remove the dataset of a submission that is not recorded after all. May be called from any thread."""
        shutil.rmtree(self.folder(job_id_).root, ignore_errors=True)

    def stop(self, job_id_: str, when_ended: Callable[[], None], stop: Stop = BY_REQUEST) -> None:
        """Stop a Job; tell when it has ended. Raises JobNotInProgress when it has ended already."""
        run, job = self._runs.get(job_id_), self.ledger.job(job_id_)
        if job is None or job.is_final or (run is not None and not run.may_be_stopped):
            raise JobNotInProgress(f"job `{job_id_}` has already ended")
        if job.status is JobStatus.STOPPING:
            self.watch(job_id_, when_ended)
        elif run is None:
            stopping = stop.record(job, self.folder(job_id_), self._around)
            self.watch(job_id_, when_ended)
            self.enqueuing.cancel(job_id_, partial(self._event, self._run, stopping, set()))
        else:
            run.stop(stop)
            self.watch(job_id_, when_ended)
            self.exports.cancel(job_id_)
            self._event(run.go_on, of=run)

    def time_is_over(self, job: Job) -> None:
        """Stop a Job that has taken longer than it may, unless its end is being recorded."""

        def stop() -> None:
            reason = f"it took longer than its timeout of {job.policy.timeout_seconds:g} seconds"
            with suppress(JobNotInProgress):
                self.stop(job.id, lambda: None, Stop(ending=JobStatus.TIMED_OUT, reason=reason))

        self._event(stop)

    def pause_job(self, job_id_: str) -> None:
        """Let a running Job stand still. Raises JobNotInProgress, and Conflict where there is nothing to pause."""
        run = self._runs.get(job_id_)
        if run is None or run.job.status is not JobStatus.RUNNING:
            raise self._unfit(job_id_, "only a running job can be paused")
        run.pause()
        self._event(run.go_on, of=run)

    def resume_job(self, job_id_: str) -> None:
        """Let a paused Job go on. Raises JobNotInProgress, and Conflict where it is not paused."""
        run = self._runs.get(job_id_)
        if run is None or run.job.status is not JobStatus.PAUSED:
            raise self._unfit(job_id_, "only a paused job can be resumed")
        run.resume()
        if run.is_prepared:
            self._event(run.go_on, of=run)
        else:
            self._prepare(run)

    def _unfit(self, job_id_: str, rule: str) -> Conflict:
        job = self.ledger.job(job_id_)
        if job is None or job.is_final:
            return JobNotInProgress(f"job `{job_id_}` has already ended")
        return Conflict(f"job `{job_id_}` is {job.status.text}: {rule}")

    def watch(self, job_id_: str, when_ended: Callable[[], None]) -> None:
        """Tell when a Job has ended; at once if it has."""
        if (waiting := self._when_ended.get(job_id_)) is not None:
            waiting.append(when_ended)
        else:
            when_ended()

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
        if run is None:
            return Counts(in_queue=job.total_batch_count)
        try:
            return run.attempts.counts()
        except SegmentDamaged:  # whoever looks is the first to see it
            if self.troubles.of(job.id) is None:
                self._event(run.attempts.counts, of=run)
            return Counts(in_queue=job.total_batch_count)

    def work_done(self, job: Job) -> tuple[int, float]:
        """Count the Batches that Workers have ended, and the seconds that they spent in them."""
        if not job.is_final and job.id not in self._runs:
            return 0, 0.0
        return self._work.of(job, self.folder(job.id), now_ns=self.now_ns())

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
        spread_folders(self.root)
        for job in self.ledger.jobs_in_progress():
            self._when_ended[job.id] = []
            self._event(self._recover_job, job.id, machine_restarted)

    def _recover_job(self, job_id_: str, machine_restarted: bool) -> None:
        job = self.ledger.job(job_id_)
        if job is None or job.is_final:  # it was stopped before it could be recovered
            return
        try:
            self._go_on_with(job, machine_restarted=machine_restarted)
        except Exception as error:
            if not is_damage(error, self.folder(job.id)):
                raise
            self._give_up(job.id, error)

    def _go_on_with(self, job: Job, *, machine_restarted: bool) -> None:
        if machine_restarted:
            open_what_was_lost(self.ledger, job, self.folder(job.id))
        if job.status is JobStatus.ENQUEUING:
            self.enqueue(job)
            return
        records = self.ledger.workers(job.id)
        run = self._run(job, missing={record.worker for record in records})
        ending = Exit(status=None, detail="ended with the machine", is_charged=False)
        for record in records if machine_restarted else []:
            self.worker_events.worker_exited(record.worker, ending)
        if records:
            seconds = _RETURN_SECONDS if self.engine.may_return() else 0.0
            self.call_later(seconds, partial(self._give_up_the_missing, run))

    def _give_up(self, job_id_: str, error: Exception) -> None:
        """End a Job that nobody can go on with; the others go on."""
        run = self._runs.get(job_id_)
        for worker in run.workers if run else []:
            self.engine.stop(worker, at_once=True)
        if ended := give_up(self.ledger, job_id_, self.folder(job_id_), error, at_ns=self.now_ns()):
            self._ended(ended)

    def drain(self) -> None:
        """Hand out nothing more, and take back what has not begun: this operator is about to end."""
        self._is_draining = True
        for run in self._runs.values():
            run.drain()

    @property
    def runs(self) -> Mapping[str, JobRun]:
        """The Jobs in progress that are not being enqueued, by their ids."""
        return self._runs

    def workers_ended(self) -> None:
        """Write down that the engine has ended all Workers: the next operator need not look for them."""
        for run in self._runs.values():
            for worker in run.workers:
                self.ledger.end_worker(worker)

    def _run(self, job: Job, missing: set[str]) -> JobRun:
        run = JobRun(
            job=job,
            folder=self.folder(job.id),
            around=self._around,
            next_token=lambda: token(self._epoch, next(self._counter)),
            ended=self._ended,
            missing=missing,
        )
        self._runs[job.id] = run
        if self._is_draining:
            run.drain()
        if job.status is JobStatus.RUNNING:
            self._prepare(run)
        else:
            run.go_on()
        return run

    def _prepare(self, run: JobRun) -> None:
        version = self.ledger.version(run.job.api_id)
        if version is None:
            raise LookupError(f"job {run.job.id} is of version {run.job.api_id}, which is not in the ledger")

        def done(outcome: Prepared | CortexError) -> None:
            if isinstance(outcome, CortexError):
                append_line(run.folder.log, str(outcome))
                self._event(run.fail_to_start, outcome.message, of=run)
            else:
                self._event(run.environment_ready, self.preparation.setup(version, outcome, run.job), of=run)

        self.preparation.prepare(version, lambda line: append_line(run.folder.log, line), done)

    def _ended(self, job: Job) -> None:
        self._runs.pop(job.id, None)
        for tell in self._when_ended.pop(job.id, []):
            self._event(tell)
        self._maybe_idle()
        if job.started_at_ns is None:
            self.background(partial(remove_payload, self.folder(job.id)), lambda: None)

    def _maybe_idle(self) -> None:
        if not any(run.workers or run.job.status is not JobStatus.PAUSED for run in self._runs.values()):
            self.engine.idle()

    def _give_up_the_missing(self, run: JobRun) -> None:
        """Make sure that the Workers of a Job which have not come back are gone, and go on without them."""
        for record in self.ledger.workers(run.job.id) if run.missing else []:
            if record.worker in run.missing:
                self.engine.end_lost(record.worker, pid=record.pid, process_started_at=record.process_started_at)
