"""What `cortex get` shows: all APIs, one API, one job. Pure: answers of the operator in, text out."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from cortex.answers import ApiInfo, ApiSummary, JobFacts, JobInfo
from cortex.cli.job_options import job_options
from cortex.cli.serving_views import example_curl, realtime_table, realtime_view, splitter_table, splitter_view
from cortex.cli.tables import facts, table
from cortex.clients.facts import (
    duration,
    enqueuing_text,
    failed_count,
    has_ended,
    status_text,
    succeeded_count,
    total_count,
)
from cortex.clients.times import format_age, format_duration, format_instant, format_short_duration, parse_instant
from cortex.domain.job import JobStatus
from cortex.domain.policy import OnFailedBatch

SHOWN_JOBS = 10

_ALWAYS_SHOWN = {"initializing", "running", "failed", "succeeded"}


def apis_view(apis: Sequence[tuple[str, ApiSummary]], now: datetime, *, with_environments: bool) -> str:
    """List APIs, those of each kind in a table of their own, each with the name of its environment."""
    if not apis:
        return "no apis are deployed"
    realtime = [each for each in apis if "status" in each[1]]
    splitters = [each for each in apis if "apis" in each[1]]
    batch = [each for each in apis if each not in realtime and each not in splitters]
    tables = [(batch, _batch_table), (realtime, realtime_table), (splitters, splitter_table)]
    return "\n\n".join(show(those, now, with_environments=with_environments) for those, show in tables if those)


def api_view(api: ApiInfo, now: datetime) -> str:
    """Show what an API does and its endpoint, and its environment while there is something to say about it."""
    if "status" in api:
        blocks = realtime_view(api, now)
    elif "apis" in api:
        blocks = splitter_view(api, now)
    else:
        blocks = [_jobs_table(api["job_statuses"], now) if api["job_statuses"] else "no submitted jobs"]
    environment = api["environment"]
    if environment["status"] not in {"none", "ready"}:
        blocks.append("\n".join([f"environment: {environment['status']}", *environment["message"].splitlines()]))
    blocks.append(f"endpoint: {api['endpoint']}")
    if "status" in api or "apis" in api:
        blocks.append(example_curl(api["endpoint"]))
    return "\n\n".join(blocks)


def job_view(job: JobInfo, now: datetime) -> str:
    """Show all there is to know about a job."""
    status = job["job_status"]
    heading = [("job id", status["job_id"]), ("status", status_text(status))]
    if status.get("status_reason"):
        heading.append(("reason", status["status_reason"]))
    if "rerun_of" in status:
        heading.append(("rerun of", status["rerun_of"]))
    times = [
        ("start time", _instant(status.get("start_time"))),
        ("end time", _instant(status.get("end_time"))),
        ("duration", format_duration(duration(status, now))),
    ]
    asked = job_options(status)
    blocks = [facts(heading), facts(times), *([facts(asked)] if asked else []), _batch_stats(status)]
    if status.get("on_failed_batch") == OnFailedBatch.ISOLATE:
        blocks.append(_item_stats(status))
    blocks.append(_worker_stats(status))
    return "\n\n".join([*blocks, f"job endpoint: {job['endpoint']}/{status['job_id']}"])


def shown_jobs(jobs: Sequence[JobFacts]) -> list[JobFacts]:
    """Choose the jobs in progress, and the newest others up to ten in all."""
    free = max(0, SHOWN_JOBS - sum(not has_ended(job) for job in jobs))
    newest_ended = [job["job_id"] for job in jobs if has_ended(job)][:free]
    return [job for job in jobs if not has_ended(job) or job["job_id"] in newest_ended]


def _batch_table(apis: Sequence[tuple[str, ApiSummary]], now: datetime, *, with_environments: bool) -> str:
    headers = ["env", "batch api", "running jobs", "latest job id", "last update"]
    rows = [
        [environment, api["name"], api["running_jobs"], _latest_job(api, now), _age(api["last_updated"], now)]
        for environment, api in apis
    ]
    first = 0 if with_environments else 1
    return table(headers[first:], [row[first:] for row in rows])


def _latest_job(api: ApiSummary, now: datetime) -> str:
    latest = api["latest_job"]
    return f"{latest['job_id']} (submitted {_age(latest['created_time'], now)} ago)" if latest else "-"


def _age(instant: str, now: datetime) -> str:
    return format_age(now - parse_instant(instant))


def _instant(text: str | None) -> str:
    return format_instant(parse_instant(text)) if text else "-"


def _jobs_table(jobs: Sequence[JobFacts], now: datetime) -> str:
    shown = shown_jobs(jobs)
    with_failures = any(failed_count(job) for job in shown)
    headers = ["job id", "status", "progress", *(["failed"] if with_failures else []), "start time", "duration"]
    rows = [
        [
            job["job_id"],
            status_text(job),
            f"{succeeded_count(job)}/{total_count(job)}",
            *([failed_count(job)] if with_failures else []),
            _instant(job.get("start_time")),
            format_duration(duration(job, now)),
        ]
        for job in shown
    ]
    text = table(headers, rows)
    hidden = len(jobs) - len(shown)
    return f"{text}\n... and {hidden} earlier (`-o json` shows all)" if hidden else text


def _batch_stats(status: JobFacts) -> str:
    average = status.get("batch_metrics", {}).get("avg_time_per_batch")
    row = [
        total_count(status),
        succeeded_count(status),
        failed_count(status),
        "-" if average is None else format_short_duration(timedelta(seconds=average)),
    ]
    return "batch stats\n" + table(["total", "succeeded", "failed", "avg time per batch"], [row])


def _item_stats(status: JobFacts) -> str:
    items = status.get("item_metrics", {"succeeded": 0, "failed": 0})
    return "item stats\n" + table(["succeeded", "failed"], [[items["succeeded"], items["failed"]]])


def _worker_stats(status: JobFacts) -> str:
    if status["status"] == JobStatus.ENQUEUING:
        waiting = "still enqueuing, workers have not been allocated for this job yet"
        progress = enqueuing_text(status)
        return f"{waiting}\n{progress}" if progress else waiting
    if status["status"] == JobStatus.PAUSED:
        return "no more batches are begun because this job is paused"
    if "worker_counts" not in status:
        return "worker stats are not available because this job is not currently running"
    counts = status["worker_counts"]
    columns = [
        ("pending", counts.get("pending", 0)),
        ("initializing", counts.get("initializing", 0)),
        ("stalled", counts.get("stalled", 0)),
        ("running", counts.get("running", 0)),
        ("failed", counts.get("failed", 0)),
        ("succeeded", counts.get("succeeded", 0)),
    ]
    requested = f"{status['workers_min']}-{status['workers']}" if "workers_min" in status else str(status["workers"])
    shown: list[tuple[str, object]] = [("requested", requested)]
    shown += [each for each in columns if each[0] in _ALWAYS_SHOWN or each[1]]
    return "worker stats\n" + table([name for name, _ in shown], [[count for _, count in shown]])
