"""Jobs on their way from files to Segments: what the enqueuing processes tell is written down, shown and logged."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.events import (
    EnqueuingFailed,
    FileBegun,
    Happening,
    Listed,
    NoRoom,
    Progress,
    Restarted,
    Resume,
    SegmentCut,
)
from cortex.operator.joblog import append_line
from cortex.operator.upkeep.trouble import Troubles
from cortex.storage.files import disk_full, remove_folders
from cortex.storage.ledger import Ledger

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0
_PROGRESS_LINE_SECONDS: Final = 10.0
_NAMED_FILES: Final = 1000
"""So many files are named in a Job's log; of the others its progress lines tell."""


class Enqueuers(Protocol):
    """Who lists and cuts files, outside of this process. Cancelling a call ends what it does at once."""

    async def check(self, source: FileSource, allowed: Sequence[Path] | None = None) -> None:
        """Look whether there is a file to enqueue. Raises InvalidSubmission."""

    def listing(self, source: FileSource, allowed: Sequence[Path] | None = None) -> AsyncGenerator[Listed]:
        """List all files in groups. Raises InvalidSubmission."""

    def enqueue(
        self,
        source: FileSource,
        folder: JobFolder,
        *,
        allowed: Sequence[Path] | None = None,
        resume: Resume | None = None,
    ) -> AsyncGenerator[Happening]:
        """Cut files into the Segments of a Job and tell each one; the last word is Enqueued or EnqueuingFailed."""


@dataclass(slots=True, kw_only=True)
class _Enqueuing:
    """One Job that is being enqueued."""

    task: asyncio.Task[None]
    progress: Progress = field(default_factory=lambda: Progress(files=0, batches=0))


@dataclass(slots=True, kw_only=True)
class JobEnqueuing:
    """See the module. All methods are called from the operator's thread."""

    ledger: Ledger
    enqueuers: Enqueuers
    allowed: tuple[Path, ...] | None  # the folders whose files may be read; None for all
    troubles: Troubles = field(default_factory=Troubles)
    _jobs: dict[str, _Enqueuing] = field(default_factory=dict)

    def begin(self, job: Job, folder: JobFolder, done: Callable[[str | None], None]) -> None:
        """Enqueue a Job, from where an earlier operator was; tell `done` when that is over, or why it has failed."""
        task = asyncio.get_running_loop().create_task(self._enqueue(job, folder, done))
        self._jobs[job.id] = _Enqueuing(task=task)

    def progress(self, job_id: str) -> Progress | None:
        """Say how far a Job is; None for one that is not being enqueued."""
        enqueuing = self._jobs.get(job_id)
        return enqueuing.progress if enqueuing else None

    @property
    def in_progress(self) -> Collection[str]:
        """The ids of the Jobs that are being enqueued."""
        return self._jobs.keys()

    def cancel(self, job_id: str, then: Callable[[], None]) -> None:
        """Give up a Job; tell when nothing is done for it any more."""
        enqueuing = self._jobs.pop(job_id, None)
        if enqueuing is None:
            then()
        else:
            enqueuing.task.add_done_callback(lambda _: then())
            enqueuing.task.cancel()

    async def close(self) -> None:
        """Give up all Jobs; the next operator goes on with them."""
        tasks = [enqueuing.task for enqueuing in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _enqueue(self, job: Job, folder: JobFolder, done: Callable[[str | None], None]) -> None:
        try:
            failure = await self._follow(job, folder)
        except Exception as error:
            logger.exception("enqueuing job %s failed", job.id)
            failure = f"{type(error).__name__}: {error}"
        self._jobs.pop(job.id, None)
        done(failure)
        if job.source is not None and job.source.kind is SourceKind.DELIMITED_FILES:
            await asyncio.to_thread(remove_folders, [folder.uploads])  # nobody reads there any more

    async def _follow(self, job: Job, folder: JobFolder) -> str | None:
        """Write down what is told, to the end; give why it failed."""
        if job.source is None:
            raise ValueError(f"job {job.id} has no files")
        resume = self._resume(job)
        append_line(folder.log, "enqueuing goes on" if resume else "started enqueuing batches to queue")
        # What was uploaded for a Job lies in its own folder.
        allowed = None if self.allowed is None else (*self.allowed, folder.root)
        story = self.enqueuers.enqueue(job.source, folder, allowed=allowed, resume=resume)
        log, trouble = _EnqueuingLog(folder.log), None
        async with aclosing(story) as happenings:
            async for happening in happenings:
                log.tell(happening)
                match happening:
                    case Progress():
                        self._jobs[job.id].progress = happening
                    case SegmentCut():
                        await self._publish(job, happening)
                    case NoRoom():
                        trouble = self.troubles.note(trouble, job.id, disk_full())
                    case EnqueuingFailed(reason=reason):
                        return reason
                if not isinstance(happening, NoRoom | FileBegun):
                    self.troubles.forget(trouble)
                    trouble = None
        return None

    def _resume(self, job: Job) -> Resume | None:
        segments, cursor = self.ledger.segments(job.id), self.ledger.cursor(job.id)
        if not segments or cursor is None:
            return None
        return Resume(number=len(segments), first=segments[-1].end, cursor=cursor)

    async def _publish(self, job: Job, cut: SegmentCut) -> None:
        trouble = None
        while True:
            try:
                self.ledger.publish(job.id, cut.segment, item_count=cut.items, cursor=cut.cursor)
            except ValueError:  # it is published already, or the Job is not enqueued any more
                raise
            except Exception as error:  # a full disk, say: nothing more is cut meanwhile
                logger.exception("a segment of job %s cannot be published; it is tried again", job.id)
                trouble = self.troubles.note(trouble, job.id, error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.troubles.forget(trouble)
                return


def log_partition(job: Job, log: Path) -> None:
    """Say of a Job that came with its items what the log says of others while they are enqueued."""
    append_line(
        log,
        "started enqueuing batches to queue\n"
        f"partitioning {job.item_count} items found in job submission into {job.total_batch_count} batches"
        f" of size {job.batch_size}\n"
        f"completed enqueuing a total of {job.total_batch_count} batches",
    )


@dataclass(slots=True)
class _EnqueuingLog:
    """What the Job's log says of its enqueuing."""

    path: Path
    _named: int = 0
    _last_at: float = field(default_factory=time.monotonic)

    def tell(self, happening: Happening) -> None:
        """Write what users want to know of this."""
        match happening:
            case FileBegun(url=url):
                self._named += 1
                if self._named <= _NAMED_FILES:
                    append_line(self.path, f"enqueuing contents from file {url}")
            case Progress(files=files, batches=batches) if time.monotonic() > self._last_at + _PROGRESS_LINE_SECONDS:
                self._last_at = time.monotonic()
                append_line(self.path, f"listed {files} files, enqueued {batches} batches")
            case Restarted(how=how):
                append_line(self.path, f"the enqueuing process {how}, and is started again")
