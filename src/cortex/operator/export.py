"""Jobs whose results are being written to where their users want them, and the check of what a Job has left."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cortex.domain.job import Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.domain.output import Output
from cortex.exporting.events import Ended, Event, FileWritten, Troubled, WritingFailed, Written
from cortex.operator.joblog import append_line
from cortex.operator.manifest import job_facts
from cortex.operator.status import rfc3339
from cortex.storage.ledger import Ledger

logger = logging.getLogger(__name__)


class Exporters(Protocol):
    """Who writes and checks results, outside of this process. Cancelling a call ends what it does at once."""

    async def check(self, output: Output, allowed: Sequence[Path] | None = None) -> None:
        """Look whether results can be written there. Raises InvalidSubmission."""

    async def verify(self, ended: Ended, allowed: Sequence[Path] | None = None) -> Mapping[str, Any]:
        """Check again all that a Job has left. Raises CortexError where that is not possible."""

    def write(
        self, ended: Ended, *, is_success: bool, allowed: Sequence[Path] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Write the results of a Job, and tell of it; the last word is Written or WritingFailed."""


@dataclass(slots=True, kw_only=True)
class _Export:
    """One Job whose results are being written."""

    task: asyncio.Task[str | None]
    trouble: str | None = None
    troubled_at_ns: int | None = None


@dataclass(slots=True, kw_only=True)
class JobExport:
    """See the module. All methods are called from the operator's thread.

    Nothing is remembered over a restart: the Job comes to its end again, and gives the same files.
    """

    ledger: Ledger
    exporters: Exporters
    allowed: tuple[Path, ...] | None  # the folders of this machine that may be used; None for all
    now_ns: Callable[[], int]
    _jobs: dict[str, _Export] = field(default_factory=dict)
    _is_closed: bool = False

    def begin(self, ending: Job, folder: JobFolder, done: Callable[[str | None], None]) -> None:
        """Write the results of a Job, given as it is about to end; tell `done` why that has failed, or None."""
        if self._is_closed:  # the next operator comes to this end again
            return
        task = asyncio.get_running_loop().create_task(self._export(ending, folder))
        self._jobs[ending.id] = _Export(task=task)
        # Told from here, because a task that is cancelled before it begins does nothing at all.
        task.add_done_callback(partial(self._over, ending.id, done))

    def progress(self, job: Job) -> str | None:
        """Say how it stands with the results of a Job; None where they are not being written."""
        export = self._jobs.get(job.id)
        if export is None or job.output is None:
            return None
        if export.trouble is None or export.troubled_at_ns is None:
            return f"writing results to {job.output.folder(job.id)}"
        since = rfc3339(export.troubled_at_ns)
        return f"results cannot be written: {export.trouble}; trying again since {since}"

    def cancel(self, job_id: str) -> None:
        """Write no further; `done` is told that it was given up."""
        if export := self._jobs.get(job_id):
            export.task.cancel("given up")

    async def close(self) -> None:
        """Give up all Jobs, and tell nobody; the next operator begins anew."""
        self._is_closed = True
        tasks = [export.task for export in self._jobs.values()]
        self._jobs.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def verify(self, job: Job, folder: JobFolder) -> Mapping[str, Any]:
        """Check again all that a Job has left. Raises CortexError where that is not possible."""
        return await self.exporters.verify(self._ended(job, folder), self._allowed(folder))

    def _over(self, job_id: str, done: Callable[[str | None], None], task: asyncio.Task[str | None]) -> None:
        if self._jobs.pop(job_id, None) is not None:  # else the operator is about to end
            done("that was given up" if task.cancelled() else task.result())

    async def _export(self, job: Job, folder: JobFolder) -> str | None:
        """Write the results; give why that has failed."""
        try:
            return await self._follow(job, folder)
        except Exception as error:
            logger.exception("writing the results of job %s failed", job.id)
            return f"{type(error).__name__}: {error}"

    async def _follow(self, job: Job, folder: JobFolder) -> str | None:
        """Hear what is told, to the end; give why it failed."""
        if job.output is None:
            raise ValueError(f"job {job.id} has no place for its results")
        url = job.output.folder(job.id)
        append_line(folder.log, f"writing results to {url}")
        is_success = job.status is JobStatus.SUCCEEDED
        story = self.exporters.write(self._ended(job, folder), is_success=is_success, allowed=self._allowed(folder))
        async with aclosing(story) as events:
            async for event in events:
                match event:
                    case Troubled(reason=reason):
                        self._note_trouble(job, folder, reason)
                    case FileWritten():
                        self._forget_trouble(job, folder)
                    case Written(files=files, rows=rows):
                        append_line(folder.log, f"wrote {_count(files, 'file')} ({_count(rows, 'row')}) to {url}")
                    case WritingFailed(reason=reason):
                        append_line(folder.log, f"failed to write results: {reason}")
                        return reason
        return None

    def _note_trouble(self, job: Job, folder: JobFolder, reason: str) -> None:
        export = self._jobs[job.id]
        if export.trouble is None:
            export.troubled_at_ns = self.now_ns()
            append_line(folder.log, f"results cannot be written: {reason}; trying again")
        export.trouble = reason

    def _forget_trouble(self, job: Job, folder: JobFolder) -> None:
        export = self._jobs[job.id]
        if export.trouble is not None:
            append_line(folder.log, "results can be written again")
        export.trouble = export.troubled_at_ns = None

    def _ended(self, job: Job, folder: JobFolder) -> Ended:
        return Ended(
            job=replace(job, config=None),
            folder=str(folder.root),
            segments=self.ledger.segments(job.id),
            deaths=self.ledger.deaths(job.id),
            facts=job_facts(job),
        )

    def _allowed(self, folder: JobFolder) -> tuple[Path, ...] | None:
        # What was uploaded for a Job lies in its own folder.
        return None if self.allowed is None else (*self.allowed, folder.root)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"
