"""What users see of a Job, in the names of the HTTP API."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cortex.domain.job import Counts, Job
from cortex.domain.policy import MaxFailures, Policy, Retries
from cortex.operator.run.workers import RollCall


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
        **({} if job.workers_min is None else {"workers_min": job.workers_min}),
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
    items = {"succeeded": counts.succeeded_items, "failed": counts.failed_items}
    finished, seconds = work_done
    if finished:
        metrics["avg_time_per_batch"] = seconds / finished
    status = {
        **submitted(job),
        **options(job),
        "batches_per_worker": math.ceil(job.total_batch_count / job.workers),
        "status": job.status.value,
        "status_reason": job.status_reason or (workers.shortage if workers else None),
        "batches_in_queue": counts.in_queue,
        "batches_in_flight": counts.in_flight,
        "batch_metrics": metrics,
        "item_metrics": items,
        "worker_counts": workers.counts if workers else None,
        "workers_now": workers.counts["running"] if workers and job.workers_min is not None else None,
        "start_time": None if job.started_at_ns is None else rfc3339(job.started_at_ns),
        "end_time": None if job.ended_at_ns is None else rfc3339(job.ended_at_ns),
    }
    optional = {"status_reason", "worker_counts", "workers_now", "start_time", "end_time"}
    return {name: value for name, value in status.items() if value is not None or name not in optional}


def options(job: Job) -> dict[str, Any]:
    """Describe what a Job asks for besides its dataset, in the names of a submission; defaults are left out."""
    policy, default = job.policy, Policy()
    asked = {
        "rerun_of": job.rerun_of,
        "retries": _retries(policy.retries) if policy.retries != default.retries else None,
        "batch_timeout": policy.batch_timeout_seconds,
        "timeout": policy.timeout_seconds,
        "max_failures": None if policy.max_failures is None else _as_written(policy.max_failures),
        "on_failed_batch": policy.on_failed_batch.value if policy.isolates else None,
        "results": None if job.output is None else {**asdict(job.output), "path": job.output.folder(job.id)},
    }
    return {name: value for name, value in asked.items() if value is not None}


def _retries(retries: Retries) -> dict[str, Any]:
    return {
        "attempts": retries.attempts,
        "backoff": retries.backoff_seconds,
        "max_backoff": retries.max_backoff_seconds,
        "no_retry": list(retries.no_retry),
    }


def _as_written(limit: MaxFailures) -> int | str:
    return str(limit) if limit.count is None else limit.count


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
