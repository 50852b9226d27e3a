"""Reruns: a Job that has ended goes on as another one, whose results are the merged ones of both."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import Field

from cortex.configuration.section import Section
from cortex.domain.errors import Conflict, DataDamaged
from cortex.domain.job import Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.domain.rerun import RerunVersion, RerunWhat
from cortex.domain.source import FileSource, SourceKind
from cortex.domain.submission_key import SubmissionKey
from cortex.operator.deployments import Deployments
from cortex.operator.joblog import append_line
from cortex.operator.jobs import Jobs
from cortex.operator.submitting.asked_workers import Workers
from cortex.operator.submitting.request_body import read_body
from cortex.storage.files import told_if_full
from cortex.storage.inherit import Inheritance, Inherited, moved
from cortex.storage.ledger import Ledger, UnsyncedFile
from cortex.storage.segments import ItemsChanged, SegmentDamaged
from cortex.storage.small_files import Dataset, sync_unsynced

_HINT: Final = 'a rerun looks like {"what": "failed", "version": "current", "workers": 2}; each may be left out'


class RerunRequest(Section):
    """What of a job is to be run again, and how."""

    what: RerunWhat = Field(
        default=RerunWhat.FAILED,
        description="`failed`: the batches that have failed, and those that the job did not get to; `all`: every batch;"
        " `hook`: `on_job_complete` alone.",
    )
    version: RerunVersion = Field(
        default=RerunVersion.CURRENT,
        description="With the version of the API that is deployed (`current`), or the job's own (`original`).",
    )
    workers: Workers | None = Field(default=None, description="How many; the default is the job's.")


def read_rerun(body: bytes) -> RerunRequest:
    """Check the body of a request, which may be empty. Raises InvalidRequest, which lists every problem."""
    return read_body(body, RerunRequest, hint=_HINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A Job that is about to be recorded."""

    earlier: Job
    job: Job
    inheritance: Inheritance
    unsynced: Sequence[UnsyncedFile]  # of the earlier Job
    version: RerunVersion

    def make_folder(self) -> None:
        """Make its folder. Slow for a large Job; may be called from any thread.

        Raises SegmentDamaged, or StorageFull.
        """
        with told_if_full():
            sync_unsynced(self.inheritance.earlier.root.parent, self.unsynced)  # what is linked is to be on the disk
            inherited = self.inheritance.take()
        append_line(self.inheritance.folder.log, self._first_line(inherited))

    def _first_line(self, inherited: Inherited) -> str:
        what = self.inheritance.what
        if what is RerunWhat.HOOK:
            return f"rerunning on_job_complete of job {self.earlier.id}"
        if what is RerunWhat.ALL:
            return f"rerunning all {_batches(self.job.total_batch_count)} of job {self.earlier.id}"
        failed = f"{inherited.failed} failed" if inherited.failed else ""
        unfinished = f"{inherited.open} unfinished" if inherited.open else ""
        counted = " and ".join(filter(None, [failed, unfinished]))
        noun = "batch" if inherited.failed + inherited.open == 1 else "batches"
        return f"rerunning {counted} {noun} of job {self.earlier.id}"


@dataclass(slots=True, kw_only=True)
class Reruns:
    """See the module. All methods are called from the operator's thread."""

    ledger: Ledger
    jobs: Jobs
    deployments: Deployments
    _held: Counter[str] = field(default_factory=Counter)

    def is_held(self, job_id: str) -> bool:
        """Tell whether a rerun of this Job is being made, so that its folder is needed."""
        return self._held[job_id] > 0

    @contextmanager
    def begin(self, job: Job, request: RerunRequest) -> Iterator[Rerun]:
        """Check that a Job can be rerun, and hold it while its rerun is made. Raises Conflict.

        Where making it fails, nothing is left of it: raises JobNotFound where the Job was deleted meanwhile,
        DataDamaged where its files are not what they were.
        """
        earlier = self.jobs.job(job.api_name, job.id)
        _check(earlier, request.what)
        rerun = self._rerun(earlier, request)
        self._held[earlier.id] += 1
        try:
            yield rerun
        except BaseException as error:
            self.jobs.discard(rerun.job.id)
            if isinstance(error, SegmentDamaged | FileNotFoundError):
                self.jobs.job(earlier.api_name, earlier.id)
                raise _damaged(earlier, error, request.what) from error
            raise
        finally:
            self._held[earlier.id] -= 1

    def record(self, rerun: Rerun, key: SubmissionKey | None) -> Job:
        """Record a rerun whose folder has been made. When this returns, it may be acknowledged.

        Raises ApiNotFound or JobNotFound where the API or the Job was deleted meanwhile.
        """
        version = self.deployments.api(rerun.earlier.api_name)
        earlier = self.jobs.job(rerun.earlier.api_name, rerun.earlier.id)
        api_id = earlier.api_id if rerun.version is RerunVersion.ORIGINAL else version.api_id
        deaths = self.ledger.deaths(earlier.id) if rerun.inheritance.what is RerunWhat.HOOK else []
        dataset = Dataset(segments=rerun.inheritance.segments)
        return self.jobs.record(replace(rerun.job, api_id=api_id), dataset, key, deaths)

    def _rerun(self, earlier: Job, request: RerunRequest) -> Rerun:
        job_id = self.jobs.new_job_id()
        here, there = self.jobs.folder(job_id), self.jobs.folder(earlier.id)
        job = Job(
            id=job_id,
            api_name=earlier.api_name,
            api_id=earlier.api_id,
            workers=request.workers.max if request.workers else earlier.workers,
            workers_min=request.workers.elastic_min if request.workers else earlier.workers_min,
            config=earlier.config,
            source=_moved(earlier, there, here),
            policy=earlier.policy,
            output=earlier.output,
            rerun_of=earlier.id,
            origin=earlier.names_batches,
            batch_size=earlier.batch_size,
            item_count=earlier.item_count,
            total_batch_count=earlier.total_batch_count,
            status=JobStatus.ENQUEUING,
            created_at_ns=self.jobs.now_ns(),
        )
        inheritance = Inheritance(
            earlier=there,
            folder=here,
            segments=self.ledger.segments(earlier.id),
            what=request.what,
            items_are_files=_has_files_as_items(earlier),
        )
        unsynced = [file for file in self.ledger.unsynced() if file.job_id == earlier.id]
        return Rerun(earlier=earlier, job=job, inheritance=inheritance, unsynced=unsynced, version=request.version)


def _check(job: Job, what: RerunWhat) -> None:
    """Raise Conflict unless there is something to rerun."""
    counts = job.final_counts
    if counts is None:
        hint = "resume it, or stop it" if job.status is JobStatus.PAUSED else "wait until it has ended, or stop it"
        raise Conflict(f"job `{job.id}` is still in progress", hint=hint)
    if job.started_at_ns is None:
        raise Conflict(
            f"job `{job.id}` ended before all of its batches were enqueued: there is nothing to rerun",
            hint="submit it again",
        )
    if what is RerunWhat.HOOK and counts.failed + counts.succeeded < counts.total:
        raise Conflict(
            f"{_batches(counts.in_queue)} of job `{job.id}` did not run, so on_job_complete cannot",
            hint="rerun what has failed; on_job_complete runs after that",
        )
    if what is RerunWhat.FAILED and not counts.failed + counts.in_queue:
        flag = "--all` runs every batch" if job.status is JobStatus.SUCCEEDED else "--hook` runs on_job_complete"
        hint = f"`cortex rerun {job.api_name} {job.id} {flag} again"
        raise Conflict(f"nothing has failed in job `{job.id}`", hint=hint)


def _damaged(job: Job, error: Exception, what: RerunWhat) -> DataDamaged:
    needs_less = f"`cortex rerun {job.api_name} {job.id} --all` needs none of its results; or "
    is_no_help = what is RerunWhat.ALL or isinstance(error, ItemsChanged)
    hint = f"{'' if is_no_help else needs_less}submit its dataset again"
    return DataDamaged(f"job `{job.id}` cannot be rerun: {error}", hint=hint)


def _moved(job: Job, earlier: JobFolder, folder: JobFolder) -> FileSource | None:
    """Give where the files of a dataset are, as seen from the rerun."""
    if job.source is None or not _has_files_as_items(job):
        return job.source
    return replace(job.source, paths=tuple(moved(path, earlier, folder) for path in job.source.paths))


def _has_files_as_items(job: Job) -> bool:
    return job.source is not None and job.source.kind is SourceKind.FILE_PATH_LISTER


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"
