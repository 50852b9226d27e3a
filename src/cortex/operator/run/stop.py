"""Stopping a Job before its end."""

from dataclasses import dataclass
from typing import Final

from cortex.domain.job import Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.operator.joblog import append_line
from cortex.operator.run.surroundings import Surroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a Job is to stop before its end, and what it will be then."""

    ending: JobStatus = JobStatus.STOPPED
    reason: str | None = None  # None where somebody has asked for it

    def record(self, job: Job, folder: JobFolder, around: Surroundings) -> Job:
        """Record that a Job is to stop."""
        job = around.ledger.move(
            job.id, JobStatus.STOPPING, at_ns=around.now_ns(), ending=self.ending, reason=self.reason
        )
        why = "received a request to stop the job" if self.reason is None else f"stopping the job: {self.reason}"
        append_line(folder.log, f"{why}, cleaning up...")
        return job


BY_REQUEST: Final = Stop()
