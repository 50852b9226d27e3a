"""What users see of a Job, in the names of the HTTP API."""

import math
import time
from collections.abc import Mapping
from typing import Any

from cortex.domain.job import Counts, Job
from cortex.operator.workers import RollCall


def rfc3339(instant_ns: int) -> str:
    """Write an instant as RFC 3339 with nanoseconds, in UTC."""
    seconds, nanoseconds = divmod(instant_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"


def submitted(job: Job) -> dict[str, Any]:
    """Describe a Job as the answer to its submission does."""
    return {
        "job_id": job.id,
        "api_name": job.api_name,
        "workers": job.workers,
        "config": job.config,
        "api_id": job.api_id,
        "sqs_url": queue_name(job),
        "total_batch_count": job.total_batch_count,
        "created_time": rfc3339(job.created_at_ns),
    }


def queue_name(job: Job) -> str:
    """Name the queue of a Job."""
    return f"cortex://queues/{job.api_name}/{job.id}"


def job_status(job: Job, counts: Counts, work_done: tuple[int, float], workers: RollCall | None) -> dict[str, Any]:
    """Describe where a Job stands. What does not apply is left out."""
    metrics: dict[str, Any] = {"succeeded": counts.succeeded, "failed": counts.failed}
    finished, seconds = work_done
    if finished:
        metrics["avg_time_per_batch"] = seconds / finished
    status = {
        **submitted(job),
        "batches_per_worker": math.ceil(job.total_batch_count / job.workers),
        "status": job.status.value,
        "status_reason": job.status_reason or (workers.shortage if workers else None),
        "batches_in_queue": counts.in_queue,
        "batches_in_flight": counts.in_flight,
        "batch_metrics": metrics,
        "worker_counts": workers.counts if workers else None,
        "start_time": None if job.started_at_ns is None else rfc3339(job.started_at_ns),
        "end_time": None if job.ended_at_ns is None else rfc3339(job.ended_at_ns),
    }
    optional = {"status_reason", "worker_counts", "start_time", "end_time"}
    return {name: value for name, value in status.items() if value is not None or name not in optional}


def job_spec(job: Job) -> Mapping[str, Any]:
    """Give what a predictor is told of its Job."""
    return {
        "job_id": job.id,
        "api_name": job.api_name,
        "config": job.config,
        "workers": job.workers,
        "total_batch_count": job.total_batch_count,
        "created_time": rfc3339(job.created_at_ns),
        "start_time": rfc3339(job.started_at_ns or job.created_at_ns),
    }
