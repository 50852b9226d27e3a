"""Wait for a job: look at it again and again until it has ended."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from cortex.answers import JobFacts
from cortex.clients.calls import pause
from cortex.clients.facts import failed_count, has_ended, job_line, status_text
from cortex.domain.errors import JobFailed, OperatorUnreachable
from cortex.domain.job import JobStatus

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 30.0

_GROWTH: Final = 1.5


def observe(look: Callable[[], JobFacts], timeout_seconds: float | None = None) -> Iterator[JobFacts]:
    """Give what a look at a job shows, again and again, its end included.

    An operator that is being started anew is waited for half a minute, then OperatorUnreachable is raised. Raises
    TimeoutError where the job has not ended in time; that changes nothing for the job.
    """
    seconds = FIRST_PAUSE_SECONDS
    began_at = seen_at = time.monotonic()
    last = "it was not seen"
    while True:
        try:
            job = look()
        except OperatorUnreachable as error:
            if time.monotonic() - seen_at > PATIENCE_SECONDS:
                raise OperatorUnreachable(error.message, hint="the job goes on once the operator is back") from error
        else:
            seen_at = time.monotonic()
            yield job
            if has_ended(job):
                return
            last = job_line(job)
        left = None if timeout_seconds is None else began_at + timeout_seconds - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"the job has not ended in {timeout_seconds:g} s ({last}); it goes on")
        pause(seconds if left is None else min(seconds, left))
        seconds = min(_GROWTH * seconds, LONGEST_PAUSE_SECONDS)


def check_success(job: JobFacts) -> None:
    """Raise JobFailed for a job that has ended otherwise."""
    if job["status"] == JobStatus.SUCCEEDED:
        return
    reason = f": {job['status_reason']}" if job.get("status_reason") else ""
    hint = "`logs()` of the job gives its log"
    if failed_count(job):
        hint += ", `failures()` why batches failed"
    raise JobFailed(f"job `{job['job_id']}` ended: {status_text(job)}{reason}", hint=hint)
