"""Read what an operator says of a job, or of a RealtimeAPI. Pure: its answer in, counts and texts out."""

from datetime import datetime, timedelta
from typing import Final

from cortex.answers import JobFacts, ServingStatus
from cortex.clients.times import parse_instant
from cortex.domain.job import JobStatus

SERVING_TEXTS: Final = {
    "status_live": "live",
    "status_updating": "updating",
    "status_error": "error",
    "status_oom": "error (out of memory)",
    "status_stalled": "compute unavailable",
}
"""The statuses of a RealtimeAPI as a person says them."""


def serving_text(status: ServingStatus) -> str:
    """Return the name of the status of a RealtimeAPI as a person says it."""
    return SERVING_TEXTS.get(status["status_code"], status["status_code"])  # that of a newer operator is not there


def serving_line(status: ServingStatus) -> str:
    """Say in one line how a RealtimeAPI stands: `updating: 1/2 replicas`."""
    counts = status["replica_counts"]
    requested = counts["requested"]
    replicas = f"{counts['updated']['ready']}/{requested} {'replica' if requested == 1 else 'replicas'}"
    return f"{serving_text(status)}: {replicas}"


def job_line(status: JobFacts) -> str:
    """Say in one line where a job is: `running: 3/10 batches, 1 failed`."""
    if enqueuing := enqueuing_text(status):
        return f"{status_text(status)}: {enqueuing}"
    failed = failed_count(status)
    total = total_count(status)
    text = f"{status_text(status)}: {succeeded_count(status)}/{total} {'batch' if total == 1 else 'batches'}"
    return f"{text}, {failed} failed" if failed else text


def enqueuing_text(status: JobFacts) -> str | None:
    """Say how far the files of a job are enqueued: `listed 3 files, enqueued 10 batches`; None where nobody does."""
    if "enqueuing" not in status:
        return None
    files, batches = status["enqueuing"]["files_listed"], status["enqueuing"]["batches_enqueued"]
    listed = f"listed {files} {'file' if files == 1 else 'files'}"
    return f"{listed}, enqueued {batches} {'batch' if batches == 1 else 'batches'}"


def status_text(status: JobFacts) -> str:
    """Return the name of a job's status as a person says it."""
    try:
        return JobStatus(status["status"]).text
    except ValueError:  # of a newer operator
        return status["status"]


def has_ended(status: JobFacts) -> bool:
    """Whether nothing will change any more."""
    return "end_time" in status


def succeeded_count(status: JobFacts) -> int:
    """Count the batches that succeeded so far."""
    return status["batch_metrics"]["succeeded"] if "batch_metrics" in status else 0


def failed_count(status: JobFacts) -> int:
    """Count the batches that failed so far."""
    return status["batch_metrics"]["failed"] if "batch_metrics" in status else 0


def total_count(status: JobFacts) -> int:
    """Count the batches that are known so far."""
    return status.get("total_batch_count", 0)


def duration(status: JobFacts, now: datetime) -> timedelta:
    """Return the time since the workers started; as long as they have not, since the submission."""
    end = parse_instant(status["end_time"]) if "end_time" in status else now
    return end - parse_instant(status.get("start_time") or status["created_time"])
