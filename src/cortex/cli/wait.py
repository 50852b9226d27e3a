"""Wait for a job: `cortex submit --wait`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from cortex.answers import ApiSummary, JobFacts
from cortex.cli.connection import Connection
from cortex.cli.options import talk
from cortex.cli.pace import Pace
from cortex.cli.views import failed_count, has_ended, job_line, status_text, succeeded_count, total_count
from cortex.domain.errors import JobFailed, OperatorUnreachable
from cortex.domain.job import JobStatus

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
QUIET_SECONDS = 5.0

Show = Callable[[JobFacts], None]


def wait_for_job(connection: Connection, api: ApiSummary, job_id: str) -> None:
    """Show the progress of a job until it has ended; raises JobFailed where it has not succeeded."""
    with _display() as show:
        for job in _observe(connection, api, job_id):
            show(job)
    if job["status"] != JobStatus.SUCCEEDED:
        reason = f": {job['status_reason']}" if job.get("status_reason") else ""
        which = f"{api['name']} {job_id}"
        hint = f"`{connection.command(f'logs {which}')}` shows its log"
        if failed_count(job):
            hint += f", `{connection.command(f'failures {which}')}` why batches failed"
        raise JobFailed(f"job `{job_id}` ended: {status_text(job)}{reason}", hint=hint)


class TerseProgress:
    """Writes a line when the status changes or what it waits for, at every tenth, and every five seconds in between.

    The five seconds grow with the job, so that a night's log does not fill up with them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = self._written_at = clock()
        self._stage: tuple[str, int, str] | None = None
        self._pace = Pace(clock)

    def show(self, job: JobFacts) -> None:
        """Write a line about the job, if one is due."""
        now = self._clock()
        done, total = succeeded_count(job) + failed_count(job), total_count(job)
        pace = self._pace.text(job)
        stage = (job["status"], 10 * done // total if total else 0, "" if done else pace)
        quiet_seconds = max(QUIET_SECONDS, (now - self._began_at) / 100)
        if stage != self._stage or now - self._written_at >= quiet_seconds:
            talk(job_line(job) + pace)
            self._stage, self._written_at = stage, now


def _display() -> AbstractContextManager[Show]:
    if not sys.stderr.isatty():
        return nullcontext(TerseProgress().show)
    # Here, because rich takes longer to import than a small job takes to run, and only a terminal needs it.
    from cortex.cli.bar import progress_bar

    return progress_bar()


def _observe(connection: Connection, api: ApiSummary, job_id: str) -> Iterator[JobFacts]:
    """Yield the job again and again, its end included; an operator that is being restarted is waited for."""
    pause = FIRST_PAUSE_SECONDS
    seen_at = time.monotonic()
    while True:
        try:
            job = connection.client.job(api["endpoint"], job_id)["job_status"]
        except OperatorUnreachable as error:
            if time.monotonic() - seen_at > PATIENCE_SECONDS:
                command = connection.command(f"get {api['name']} {job_id}")
                hint = f"the job goes on once the operator is back: `{command}`"
                raise OperatorUnreachable(error.message, hint=hint) from error
        else:
            seen_at = time.monotonic()
            yield job
            if has_ended(job):
                return
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
