"""How a Job has ended: it follows from how its Batches and its hook did, and from nothing else."""

from collections.abc import Callable, Sequence
from typing import Final

from cortex.domain.identity import batch_id
from cortex.domain.job import Counts, Job, JobStatus
from cortex.operator.hook import Hook
from cortex.storage.ledger import Death

_GIVE_MORE: Final = "give the workers more `compute.mem`"

Verdict = tuple[JobStatus, str | None]


def verdict(
    job: Job,
    counts: Counts,
    *,
    given_up: Sequence[Death],
    hook: Hook,
    start_error: str | None,
    is_start_out_of_memory: bool,
    first_failure: Callable[[], str | None],
) -> Verdict:
    """Give the final status of a Job that nothing can happen to any more, and why."""
    if job.status is JobStatus.STOPPING:
        return JobStatus.STOPPED, job.status_reason
    if counts.in_queue and is_start_out_of_memory:
        return JobStatus.WORKER_OOM, f"{start_error}; {_GIVE_MORE}"
    if counts.in_queue:
        return JobStatus.WORKER_ERROR, start_error
    for death in sorted(given_up, key=lambda death: not death.out_of_memory):
        status = JobStatus.WORKER_OOM if death.out_of_memory else JobStatus.WORKER_ERROR
        name = batch_id(job.id, death.batch)
        reason = f"{_batches(len(given_up))} given up: batch {name}: its worker {death.cause}"
        return status, f"{reason}; {_GIVE_MORE}, or submit smaller batches" if death.out_of_memory else reason
    if hook.error is not None:
        return JobStatus.WORKER_ERROR, f"on_job_complete failed: {hook.error}"
    if hook.exists is not False and not hook.is_over:
        return JobStatus.WORKER_ERROR, f"on_job_complete could not run: {start_error}"
    if counts.failed:
        first = first_failure()
        reason = f"{counts.failed} of {_batches(counts.total)} failed"
        return JobStatus.COMPLETED_WITH_FAILURES, f"{reason}; the first was {first}" if first else reason
    return JobStatus.SUCCEEDED, None


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"
