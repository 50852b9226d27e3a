"""W7: answers over HTTP, from an idle operator and from one that is at work.

The status of a job is asked for a hundred times a second: of an idle operator, while a large job is dispatched, while
that and four clients submit jobs of one batch as fast as they are answered, and while many keys in S3 are listed and
enqueued. Each has an operator of its own, since more is submitted than can be run.
"""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.bare_submit import running_bare_submit
from benchmarks.http_load import HttpLoad
from benchmarks.load import Load, numbers
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import Spread
from benchmarks.service import GOING_ON, NOTHING, Service, items_of, lines_of, running_service
from benchmarks.synthetic_s3 import running_s3

PAUSE_SECONDS = 0.01
CONNECTIONS = 4
ONE_BATCH = json.dumps({"workers": 1, **items_of([1])})
MUST_MS = 100.0
P50, P99, RATE = "status p50 ms", "status p99 ms", "submissions/s"
IDLE, RUNNING, BUSY = "idle", "a job is dispatched", "a job is dispatched, others are submitted"
LISTING, SUBMITTED, BARE = "keys in S3 are enqueued", "jobs are submitted", "(bare durable submits)"

Figures = dict[str, float]


def run(report: Report, options: Options) -> None:
    """Take all situations in turn, round by round."""
    report.title(f"W7 HTTP: a status a hundred times a second, submissions on {CONNECTIONS} connections")
    seconds = 2.0 if options.is_quick else 5.0
    load = numbers(options.folder, options.batches(6_000_000, 2_000_000))
    keys = options.batches(2_000_000, 500_000)
    rounds = [one_round(options.folder, seconds, load, keys) for _ in range(options.rounds)]
    rows = [
        {"while": name, **{key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]}}
        for name in rounds[0]
    ]
    report.figures("medians of the rounds", rows)
    for name in (IDLE, RUNNING, BUSY, LISTING):
        p99 = Spread.of([each[name][P99] for each in rounds])
        report.verdict(7, f"W7 p99 of a status, ms: {name}", p99, MUST_MS, at_least=False)


def one_round(folder: Path, seconds: float, load: Load, keys: int) -> dict[str, Figures]:
    """Give the figures of each situation."""
    found = {}
    with running_service(folder, NOTHING) as service:
        job = service.submit(items_of([1]))
        service.wait(job)
        found[IDLE] = status_times(service, job, seconds, expects_work=False)
    with running_bare_submit(Path(mkdtemp(dir=folder))) as address:
        found[BARE] = submission_rate(submitting(address, seconds), seconds)
    with running_service(folder, NOTHING) as service:
        found[SUBMITTED] = submission_rate(submitting(service.process.address, seconds), seconds)
    with running_job(folder, load) as (service, job):
        found[RUNNING] = status_times(service, job, seconds)
    with running_job(folder, load) as (service, job):
        others = submitting(service.process.address, seconds)
        found[BUSY] = status_times(service, job, seconds) | submission_rate(others, seconds)
    with running_s3(keys, 100) as env, running_service(folder, NOTHING, env=env) as service:
        job = service.submit({"file_path_lister": {"s3_paths": ["s3://bucket/data/"], "batch_size": 10}})
        found[LISTING] = status_times(service, job, seconds)
    return found


@contextmanager
def running_job(folder: Path, load: Load) -> Iterator[tuple[Service, str]]:
    """Run an operator with a job whose batches are being dispatched."""
    with running_service(folder, NOTHING) as service:
        job = service.submit(lines_of(load))
        while service.status(job)["status"] == "status_enqueuing":
            time.sleep(0.05)
        yield service, job


def submitting(address: str, seconds: float) -> HttpLoad:
    """Begin to submit jobs as fast as they are answered."""
    return HttpLoad(address, seconds, CONNECTIONS, 0, "POST", "/api", ONE_BATCH)


def submission_rate(load: HttpLoad, seconds: float) -> Figures:
    """Give how many were answered in a second, and how late."""
    times = load.times()
    return {RATE: len(times) / seconds, "submission p99 ms": p99_ms(times)}


def status_times(service: Service, job: str, seconds: float, *, expects_work: bool = True) -> Figures:
    """Ask for the status of a job again and again."""
    times = HttpLoad(service.process.address, seconds, 1, PAUSE_SECONDS, "GET", f"/api/{job}").times()
    if expects_work and service.status(job)["status"] not in GOING_ON:
        raise RuntimeError("the job ended while its status was asked for: it must be larger on this machine")
    return {P50: 1000 * statistics.median(times), P99: p99_ms(times)}


def p99_ms(times: list[float]) -> float:
    """Give the 99th percentile in milliseconds."""
    return 1000 * statistics.quantiles(times, n=100)[98]
