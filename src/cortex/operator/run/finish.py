"""The end of a Job: what it has done comes to the disk, its results go where it wants them, and its status is final."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.operator.failures import failure_lines
from cortex.operator.joblog import append_line
from cortex.operator.run.attempts import Attempts
from cortex.operator.run.hook import Hook
from cortex.operator.run.surroundings import Event, Surroundings
from cortex.operator.run.verdict import verdict
from cortex.operator.upkeep.recovery import give_up
from cortex.storage.files import sync_files
from cortex.storage.ledger import NO_FILES
from cortex.storage.pages import work_done
from cortex.storage.segments import SegmentDamaged
from cortex.storage.small_files import read_results


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """See the module. An operator that dies in the midst of it leaves everything for the next one to do again."""

    job: Job
    folder: JobFolder
    around: Surroundings
    attempts: Attempts
    hook: Hook
    start_error: str | None  # why Workers could not start, or go on
    is_start_out_of_memory: bool
    event: Event  # of this run
    ended: Callable[[Job], None]

    def begin(self) -> None:
        """Go about it; `ended` is told of the Job when it is over."""
        self.event(self._bring_to_disk)

    def _bring_to_disk(self) -> None:
        """Sync what the Job has left, or, where that is small, have it written down with its end."""
        small = read_results(self.folder)
        if small is None:
            self.around.background(lambda: sync_results(self.folder), self._look)
        else:
            self._look(small)

    def _look(self, files: Mapping[str, bytes] = NO_FILES) -> None:
        try:
            self._decide(files)
        except SegmentDamaged as error:
            if ended := give_up(self.around.ledger, self.job.id, self.folder, error, at_ns=self.around.now_ns()):
                self.ended(ended)

    def _decide(self, files: Mapping[str, bytes]) -> None:
        job = self._recorded
        if job.is_final:  # this was recorded before, and what follows has failed
            self.ended(job)
            return
        counts = self.attempts.counts()
        counts = replace(counts, in_queue=counts.in_queue + counts.in_flight, in_flight=0)
        status, reason = verdict(
            job,
            counts,
            given_up=self.attempts.given_up(),
            hook=self.hook,
            start_error=self.start_error,
            is_start_out_of_memory=self.is_start_out_of_memory,
            first_failure=self._first_failure,
        )
        if job.output is None or job.status is JobStatus.STOPPING:
            self._record(status, reason, counts, files)
        else:
            ending = replace(job, status=status, status_reason=reason, final_counts=counts)
            exported = partial(self.event, self._exported, files, status, reason, counts)
            self.around.exports.begin(ending, self.folder, exported)

    @property
    def _recorded(self) -> Job:
        """The Job as it is now: it may be stopped until its end is recorded."""
        return self.around.ledger.job(self.job.id) or self.job

    def _exported(
        self, files: Mapping[str, bytes], status: JobStatus, reason: str | None, counts: Counts, failure: str | None
    ) -> None:
        job = self._recorded
        if job.is_final:
            self.ended(job)
            return
        if job.status is JobStatus.STOPPING:
            status, reason = job.ending or JobStatus.STOPPED, job.status_reason
        elif failure is not None:
            because = "" if reason is None else f" ({status.text}: {reason})"
            status, reason = JobStatus.UNEXPECTED_ERROR, f"the results could not be written: {failure}{because}"
        self._record(status, reason, counts, files)

    def _record(self, status: JobStatus, reason: str | None, counts: Counts, files: Mapping[str, bytes]) -> None:
        if reason is not None:
            append_line(self.folder.log, f"{status.text}: {reason}")
        job = self.around.ledger.move(
            self.job.id,
            status,
            at_ns=self.around.now_ns(),
            reason=reason,
            counts=counts,
            busy_seconds=work_done(self.folder)[1],
            files=files,
        )
        self.ended(job)

    def _first_failure(self) -> str | None:
        for line in failure_lines(self.job, self.folder, self.around.ledger, 0, self.job.total_batch_count):
            failure = json.loads(line)
            return f"batch {failure['batch_id']}: {failure['type']}: {failure['message']}"
        return None


def sync_results(folder: JobFolder) -> None:
    """Bring results and then states to the disk: a state on disk has its result there."""
    sync_files([*folder.workers.glob("*.rows"), *folder.workers.glob("*.index"), folder.workers])
    sync_files(list(folder.segments.glob("*.states")))
