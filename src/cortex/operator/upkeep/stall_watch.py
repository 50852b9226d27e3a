"""Looks at every Job now and then, and says of one without progress since when, and why."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from cortex.domain.identity import batch_id
from cortex.domain.job import Job, JobStatus
from cortex.domain.timing import Timer
from cortex.enqueuing.events import Progress
from cortex.operator.joblog import append_line
from cortex.operator.jobs import Jobs
from cortex.operator.run.job_run import JobRun
from cortex.operator.run.workers import Phase, WorkerView
from cortex.operator.upkeep.stall import Busy, Facts, explain, instant, span
from cortex.storage.ledger import WorkerRecord
from cortex.storage.pages import PageContent, read_page

_LONGEST_LOOK_SECONDS: Final = 1.0
_MOST_PAGES_READ: Final = 128  # whenever somebody asks: where the disk is full, all wait that have something to store
_NOT_READY: Final = frozenset({"pending", "building"})


@dataclass(slots=True)
class _Seen:
    """What was seen of a Job, and when it was something new."""

    at_ns: int
    told: int = 0  # Batches that have ended in Leases that are over
    finished: dict[str, int] = field(default_factory=dict)  # Batches ended, by Worker, as their pages say
    enqueued: Progress | None = None
    told_ns: int | None = None  # since when it did not go on, as its log says


@dataclass(slots=True, kw_only=True)
class StallWatch:
    """See the module. All methods are called from the operator's thread."""

    jobs: Jobs
    stall_seconds: float
    now_ns: Callable[[], int]
    call_later: Timer
    is_draining: Callable[[], bool] = lambda: False
    exporting: Callable[[Job], str | None] = lambda _: None  # how far its results are that are being written
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def start(self) -> None:
        """Look from now on."""
        self.call_later(min(self.stall_seconds / 4, _LONGEST_LOOK_SECONDS), self.start)
        self.look()

    def look(self) -> None:
        """See what has gone on since the last time, and tell the log of a Job once when it does not, or does again."""
        in_progress = {*self.jobs.runs, *self.jobs.enqueuing.in_progress}
        self._seen = {job_id: seen for job_id, seen in self._seen.items() if job_id in in_progress}
        for job_id in in_progress:
            self._take_notice(job_id)
            self._tell(job_id)

    def reason(self, job: Job) -> str | None:
        """Say what a Job waits for; None while it goes on, or is over."""
        if job.is_final:
            return None
        if self.is_draining():
            return "the operator is about to stop; the next one goes on with the job"
        if job.status is JobStatus.PAUSED:
            return f"it is paused; `cortex resume {job.api_name} {job.id}` goes on with it"
        if trouble := self.jobs.troubles.of(job.id) or self.jobs.enqueuing.troubles.of(job.id):
            since = f"for {span(self.now_ns() - trouble.since_ns)}, since {instant(trouble.since_ns)}"
            return f"something has been failing {since}, and is tried again: {trouble.message}"
        if waits := self._waits_for_room(job.id):
            return waits
        stall = self._stall(job.id)
        return stall[1] if stall else None

    def _waits_for_room(self, job_id: str) -> str | None:
        """Say of a Job whose results find no room that they do not, and since when."""
        run = self.jobs.runs.get(job_id)
        leases = islice(run.dispatch.leases(), _MOST_PAGES_READ) if run else ()
        pages = [read_page(run.folder, lease.worker) for lease in leases] if run else []
        waiting = [(page.no_room_since_ns, page.is_copy) for page in pages if page.no_room_since_ns is not None]
        if not waiting:
            return None
        since_ns, is_elsewhere = min(waiting)
        whose = "the disk of a worker's machine" if is_elsewhere else "the operator's disk"
        return f"{whose} is full: results wait for room since {instant(since_ns)}, and nothing is lost"

    def _take_notice(self, job_id: str) -> None:
        seen = self._seen.setdefault(job_id, _Seen(self.now_ns()))
        run = self.jobs.runs.get(job_id)
        if run is None:
            progress = self.jobs.enqueuing.progress(job_id)
            if progress != seen.enqueued:
                seen.at_ns, seen.enqueued = self.now_ns(), progress
            return
        if run.batches_told > seen.told:  # thousands of Workers tell of something every second: no page is read
            seen.at_ns, seen.told = self.now_ns(), run.batches_told
            return
        finished = {worker: read_page(run.folder, worker).finished for worker in _ready(run)}
        if run.job.status is not JobStatus.RUNNING or any(
            count > seen.finished.get(worker, 0) for worker, count in finished.items()
        ):
            seen.at_ns = self.now_ns()
        seen.finished |= finished

    def _tell(self, job_id: str) -> None:
        seen, stall, log = self._seen[job_id], self._stall(job_id), self.jobs.folder(job_id).log
        since_ns = stall[0] if stall else None
        if seen.told_ns is not None and since_ns != seen.told_ns:
            append_line(log, f"the job goes on, after {span(self.now_ns() - seen.told_ns)}")
            seen.told_ns = None
        if stall is not None and seen.told_ns is None:
            seen.told_ns, text = stall
            append_line(log, text)

    def _stall(self, job_id: str) -> tuple[int, str] | None:
        """Give since when a Job does not go on, and why; None while it does."""
        seen, run = self._seen.get(job_id), self.jobs.runs.get(job_id)
        if seen is None or self._is_recent(seen.at_ns):
            return None
        if run is None:
            progress = seen.enqueued
            return (seen.at_ns, _enqueuing(progress, self.now_ns() - seen.at_ns)) if progress else None
        if run.is_ending and self.exporting(run.job):
            return None  # how that goes, it says itself
        facts = self._facts(run, seen.at_ns)
        return None if self._is_recent(facts.since_ns) else (facts.since_ns, explain(facts))

    def _is_recent(self, at_ns: int) -> bool:
        return self.now_ns() - at_ns < self.stall_seconds * 1e9

    def _facts(self, run: JobRun, since_ns: int) -> Facts:
        batches = list(_batches(run))
        records = {record.worker: record for record in self.jobs.ledger.workers(run.job.id)}
        starts = [
            _start(view, records[worker], since_ns)
            for worker, view in run.workers.items()
            if view.phase is Phase.INITIALIZING and worker in records
        ]
        return Facts(
            now_ns=self.now_ns(),
            since_ns=max([since_ns, *(busy.since_ns for busy in batches)]),
            is_ending=run.is_ending,
            hook=_hook(run, since_ns) if run.is_in_hook else None,
            batches=batches,
            starts=starts,
            imports=sum(
                view.phase is Phase.PENDING and self.jobs.engine.has_place(worker)
                for worker, view in run.workers.items()
            ),
            lost=len(run.missing),
            environment=None if run.is_prepared else self._environment(run),
            shortage=run.roll_call().shortage,
            next_attempt_at_ns=run.attempts.backoff.next_at_ns,
        )

    def _environment(self, run: JobRun) -> str | None:
        version = self.jobs.ledger.version(run.job.api_id)
        state = self.jobs.preparation.state(version) if version else {}
        return f"{state['status']}: {state['message']}" if state.get("status") in _NOT_READY else None


def _ready(run: JobRun) -> Iterable[str]:
    return [worker for worker, view in run.workers.items() if view.phase is Phase.READY]


def _batches(run: JobRun) -> Iterable[Busy]:
    for lease in run.dispatch.leases():
        page = read_page(run.folder, lease.worker)
        if page.current is not None and lease.first <= page.current < lease.end:
            view = run.workers.get(lease.worker)
            pid, node = (view.pid, view.node) if view else (None, None)
            yield Busy(what=_name(run, page), pid=pid, node=node, since_ns=page.started_at_ns)


def _name(run: JobRun, page: PageContent) -> str:
    name = f"batch {batch_id(run.job.names_batches, page.current or 0)}"
    return name if page.part is None else f"{page.part.text} of {name}"


def _start(view: WorkerView, record: WorkerRecord, since_ns: int) -> Busy:
    what = "the start of a predictor (import and `__init__`)"
    started_at_ns = int(record.process_started_at * 1e9) or since_ns  # of one elsewhere it is not known
    return Busy(what=what, pid=view.pid, node=view.node, since_ns=started_at_ns)


def _hook(run: JobRun, since_ns: int) -> Busy:
    ready = [(view.pid, view.node) for view in run.workers.values() if view.phase is Phase.READY]
    pid, node = next(iter(ready), (None, None))
    return Busy(what="`on_job_complete`", pid=pid, node=node, since_ns=since_ns)


def _enqueuing(progress: Progress, nanoseconds: int) -> str:
    so_far = f"{progress.files} files are listed and {progress.batches} batches enqueued so far"
    if not progress.files:
        so_far = "no file is listed yet; its storage has not answered, or other jobs come first"
    return f"enqueuing has not gone on for {span(nanoseconds)}: {so_far}"
