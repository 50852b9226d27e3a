"""Wait for a job: the operator answers when it has ended, or after a while with how far it is."""

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
LONGEST_UNSEEN_SECONDS = 30.0
PATIENCE_SECONDS = 30.0

_GROWTH: Final = 1.5

Look = Callable[[float], JobFacts]
"""Describes a job, when it has ended or after so many seconds; an earlier operator does so at once."""


def observe(look: Look, timeout_seconds: float | None = None, *, is_shown: bool = True) -> Iterator[JobFacts]:
    """Give what a look at a job shows, again and again, its end included, and that at once.

    Looks become rarer with time, down to one each second; down to one in half a minute where nobody is shown anything.
    An operator that is being started anew is waited for half a minute, then OperatorUnreachable is raised. Raises
    TimeoutError where the job has not ended in time; that changes nothing for the job.
    """
    seconds, next_seconds = 0.0, FIRST_PAUSE_SECONDS
    began_at = time.monotonic()
    lost_at: float | None = None
    last = "it was not seen"
    while True:
        looked_at = time.monotonic()
        try:
            job = look(seconds)
        except OperatorUnreachable as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > PATIENCE_SECONDS:
                raise OperatorUnreachable(error.message, hint="the job goes on once the operator is back") from error
        else:
            lost_at = None
            yield job
            if has_ended(job):
                return
            last = job_line(job)
        pause(max(0.0, looked_at + seconds - time.monotonic()))  # where the look has not taken so long
        left = None if timeout_seconds is None else began_at + timeout_seconds - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"the job has not ended in {timeout_seconds:g} s ({last}); it goes on")
        seconds = next_seconds if left is None else min(next_seconds, left)
        next_seconds = min(_GROWTH * next_seconds, LONGEST_PAUSE_SECONDS if is_shown else LONGEST_UNSEEN_SECONDS)


def check_success(job: JobFacts) -> None:
    """Raise JobFailed for a job that has ended otherwise."""
    if job["status"] == JobStatus.SUCCEEDED:
        return
    reason = f": {job['status_reason']}" if job.get("status_reason") else ""
    hint = "`logs()` of the job gives its log"
    if failed_count(job):
        hint += ", `failures()` why batches failed"
    raise JobFailed(f"job `{job['job_id']}` ended: {status_text(job)}{reason}", hint=hint)
