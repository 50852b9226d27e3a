"""The operator: everything that can be asked of it, in one place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cortex.configuration import Api
from cortex.domain.api_kind import ApiKind
from cortex.domain.errors import IdempotencyKeyReused, JobNotInProgress
from cortex.domain.job import Job
from cortex.domain.submission_key import SubmissionKey
from cortex.operator.deployments import Deployed, Deployments
from cortex.operator.export import JobExport
from cortex.operator.failures import failed_items, failure_lines
from cortex.operator.followers import Followers
from cortex.operator.jobs import Jobs
from cortex.operator.manifest import Manifest
from cortex.operator.preparation import Preparation
from cortex.operator.status import job_status, rfc3339
from cortex.operator.submitting.datasets import Datasets
from cortex.operator.submitting.rerun import Reruns
from cortex.operator.upkeep.budget import DiskBudget
from cortex.operator.upkeep.draining import Draining
from cortex.operator.upkeep.prune import Prune
from cortex.operator.upkeep.recovery import refuse_older_ledger
from cortex.operator.upkeep.stall_watch import StallWatch
from cortex.operator.worker_events import WorkerRoutes
from cortex.serving.serving import Serving
from cortex.storage.entries import KnownBlocks
from cortex.storage.files import remove_folders
from cortex.storage.ledger import Ledger, Version
from cortex.storage.results import read_rows
from cortex.storage.segments import ended_prefix
from cortex.storage.small_files import write_again


@dataclass(slots=True, kw_only=True)
class Operator:
    """See the module. All methods are called from the operator's thread, except where they say otherwise."""

    ledger: Ledger
    deployments: Deployments
    jobs: Jobs
    serving: Serving
    preparation: Preparation
    datasets: Datasets
    export: JobExport
    reruns: Reruns
    draining: Draining
    stalls: StallWatch
    prune: Prune
    followers: Followers = field(default_factory=Followers)
    budget: DiskBudget | None = None  # None: the data directory may have as much as there is

    @property
    def worker_events(self) -> WorkerRoutes:
        """Who is to hear Workers, and who tells what they say to those who follow."""
        jobs = replace(self.jobs.worker_events, lease_ended=self.followers.lease_ended)
        return WorkerRoutes(jobs=jobs, serving=self.serving)

    def recover(self, boot_id: str) -> None:
        """Go on where the earlier operators ended. Raises StartRefused where the ledger knows less than there is."""
        refuse_older_ledger(self.ledger, self.jobs.root)
        if self.ledger.boot_id() not in (None, boot_id):  # before the epoch begins: else a crash here would hide it
            write_again(self.jobs.root, self.ledger)
        self.deployments.recover()
        self.jobs.recover(boot_id)
        self.serving.recover(self.deployments.all())
        for job in self.ledger.jobs_in_progress():
            self.jobs.recorded(job)

    def check_room(self) -> None:
        """Raise StorageFull where new work would go beyond the disk budget."""
        if self.budget is not None:
            self.budget.check_room()

    def deploy(self, apis: Sequence[Api], project_id: str) -> list[Deployed]:
        """Deploy APIs that have been checked, and begin to make the environments of what is new."""
        deployed = self.deployments.deploy(apis, project_id)
        for one in deployed:
            if one.is_new and one.version.kind == ApiKind.BATCH:
                self.preparation.prepare(one.version, lambda _: None, lambda _: None)
            self.serving.deployed(one.version)
        return deployed

    def delete_api(self, name: str, when_deleted: Callable[[], None]) -> None:
        """Stop the Jobs of an API, then remove it and its history; tell when that is done. Raises ApiNotFound."""
        self.deployments.begin_delete(name)
        try:
            self._delete_api(name, when_deleted)
        except Exception:  # a full disk, say: it is in service again, and may be deleted another time
            self.deployments.end_delete(name)
            raise

    def _delete_api(self, name: str, when_deleted: Callable[[], None]) -> None:
        jobs = [job.id for job in self.ledger.jobs(name) if not job.is_final]
        waiting = {*jobs, name}  # the API itself: its replicas

        def one_ended(job_or_api: str) -> None:
            waiting.discard(job_or_api)
            delete_if_all_ended()

        def delete_if_all_ended() -> None:
            if not waiting:
                folders = [self.jobs.folder(job.id).root for job in self.ledger.jobs(name)]
                self.deployments.delete(name)
                self.jobs.background(lambda: remove_folders(folders), when_deleted)

        self.serving.remove(name, partial(one_ended, name))
        for job_id in jobs:
            try:
                self.jobs.stop(job_id, partial(one_ended, job_id))
            except JobNotInProgress:  # its end is being recorded
                self.jobs.watch(job_id, partial(one_ended, job_id))

    def submitted_before(self, api_name: str, key: SubmissionKey) -> Job | None:
        """Give the Job that this request has become before, as its answer described it.

        Raises IdempotencyKeyReused where it was another request that had this key.
        """
        found = self.ledger.keyed_job(api_name, key.name)
        if found is None:
            return None
        job, earlier = found
        if earlier != key:
            raise IdempotencyKeyReused(
                f"the key `{key.name}` was used for another request before, which is job `{job.id}`",
                hint="use a new key for each job",
            )
        if job.source is None or job.rerun_of is not None:
            return job
        return replace(job, total_batch_count=0)  # what its files gave was not known at first

    def describe_job(self, job: Job) -> dict[str, Any]:
        """Describe where a Job stands, for users."""
        status = job_status(job, self.jobs.counts(job), self.jobs.work_done(job), self.jobs.roll_call(job))
        if job.status_reason is None and (reason := self.stalls.reason(job)):
            status["status_reason"] = reason
        if writing := self.export.progress(job):
            status["status_reason"] = writing
        if progress := self.jobs.enqueuing.progress(job.id):
            # What a restarted enqueuer has not told yet was published before.
            batches = max(progress.batches, job.total_batch_count)
            status["enqueuing"] = {"files_listed": progress.files, "batches_enqueued": batches}
        return status

    def describe_jobs(self, version: Version) -> list[dict[str, Any]]:
        """Describe all Jobs of an API, newest first."""
        return [self.describe_job(job) for job in self.ledger.jobs(version.api_name)]

    def describe_api(self, version: Version) -> dict[str, Any]:
        """Describe an API in the list of all."""
        newest = self.ledger.newest_job(version.api_name)
        latest = {"job_id": newest.id, "created_time": rfc3339(newest.created_at_ns)} if newest else None
        return {
            "name": version.api_name,
            "kind": version.kind,
            "api_id": version.api_id,
            "last_updated": rfc3339(version.deployed_at_ns),
            "running_jobs": self.ledger.count_in_progress(version.api_name),
            "latest_job": latest,
        }

    def row_reader(self) -> Callable[[Job, int, int], Iterator[bytes]]:
        """Give what reads the rows of a Job's Batches, from one to another, that have succeeded, from any thread.

        It is for one Job, and remembers where they lie: it may be asked again and again while the Job runs.
        """
        blocks = KnownBlocks()

        def read(job: Job, first: int, end: int) -> Iterator[bytes]:
            return read_rows(self.jobs.folder(job.id), self.ledger.segments(job.id), first, end, blocks=blocks)

        return read

    def ended_prefix(self, job: Job, first: int) -> int:
        """Give the number of the first Batch, from `first` on, that has not ended; the total if all have."""
        return ended_prefix(self.jobs.folder(job.id), self.ledger.segments(job.id), first)

    def failures(self, job: Job, first: int, end: int) -> Iterator[bytes]:
        """Give why each failed Batch has failed, as JSON lines. May be used from any thread."""
        return failure_lines(job, self.jobs.folder(job.id), self.ledger, first, end)

    def failed_items(self, job: Job, first: int, end: int) -> Iterator[bytes]:
        """Give the items of each failed Batch, as JSON lines. May be used from any thread."""
        return failed_items(job, self.jobs.folder(job.id), self.ledger, first, end)

    def manifest(self, job: Job) -> Manifest:
        """Give the receipt of a Job, to be read."""
        return Manifest(folder=self.jobs.folder(job.id), ledger=self.ledger)

    async def verify(self, job: Job) -> Mapping[str, Any]:
        """Check again all that a Job has left. Raises CortexError where that is not possible."""
        return await self.export.verify(job, self.jobs.folder(job.id))

    def log(self, job: Job) -> Path:
        """Give the log of a Job."""
        return self.jobs.folder(job.id).log
