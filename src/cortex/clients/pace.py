"""How fast a job goes, and how long it will take."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cortex.answers import JobFacts
from cortex.clients.facts import duration, failed_count, has_ended, succeeded_count, total_count
from cortex.clients.times import format_duration, format_rate
from cortex.domain.job import JobStatus


class Pace:
    """Watches a job from its first look on; the rate is the mean since then, so that it does not flicker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_of_run: tuple[float, int] | None = None

    def text(self, job: JobFacts) -> str:
        """Say `, 19.3 batches/s, 1s left`; before that what is waited for, and of a job that has ended, ` in 4s`."""
        if has_ended(job):
            return f" in {format_duration(duration(job, datetime.now(UTC)))}"
        if job["status"] == JobStatus.PAUSED:
            self._start_of_run = None  # what comes after the pause has a pace of its own
            return ", until it is resumed"
        now = self._clock()
        done = succeeded_count(job) + failed_count(job)
        if self._start_of_run is None:
            self._start_of_run = (now, done)
        began_at, done_before = self._start_of_run
        if done == done_before or now == began_at:
            return "" if done else waiting_text(job)
        rate = (done - done_before) / (now - began_at)
        left = timedelta(seconds=(total_count(job) - done) / rate)
        return f", {format_rate(rate)}, {format_duration(left)} left"


def waiting_text(job: JobFacts) -> str:
    """Say `, 2 workers pending` as long as none runs: their environment is being made, or there is no room."""
    counts = job.get("worker_counts", {})
    if counts.get("running"):
        return ""
    initializing, pending = counts.get("initializing", 0), counts.get("pending", 0)
    count, state = (initializing, "initializing") if initializing else (pending, "pending")
    return f", {count} {'worker' if count == 1 else 'workers'} {state}" if count else ""
