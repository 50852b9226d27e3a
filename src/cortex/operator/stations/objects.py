"""The Segments of Jobs in a storage that operator and stations share: which Leases need not carry their payload.

A Segment is left there by processes (`cortex.depositing`) while Workers elsewhere run the Job, from where they are on;
until a piece of it is there, Leases carry what they are about. Where the operator's data directory lies in the shared
folder itself, nothing is brought anywhere: stations read what is there.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote_from_bytes

from cortex.depositing.events import Done, Event, Failed, Missing, Stored
from cortex.depositing.items import Items, ItemsGone, find_items
from cortex.depositing.pause import Pause
from cortex.depositing.places import PIECE_BYTES, JobPlace, pieces_of
from cortex.domain.layout import JobFolder
from cortex.operator.joblog import append_line

logger = logging.getLogger(__name__)

INLINE_BYTES: Final = 256 * 1024
"""A Lease carries its payload where that has no more than this: to fetch it takes longer."""

_PIECES_PER_CALL: Final = 16
"""After so many, Workers may be elsewhere: what they have passed meanwhile need not be there any more."""

_RETRY_SECONDS: Final = 30.0
_MOST_REMOVALS: Final = 20


class Depositing(Protocol):
    """Who brings things to a shared storage. Cancelling a call ends what it does at once."""

    root: str

    def upload(self, job_id: str, folder: JobFolder, pieces: Sequence[tuple[int, int]]) -> AsyncGenerator[Event, None]:
        """Leave pieces of Segments there, and tell each one; the last word is Done or Failed."""

    async def find(self) -> Sequence[str]:
        """Give the Jobs of which there is something."""

    async def remove(self, jobs: Sequence[str]) -> Event:
        """Remove all that lies there of these Jobs; give Done or Failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The operator's data directory, and where it lies in a folder that all machines see."""

    data: Path
    seen: Path  # by stations

    @classmethod
    def find(cls, data: Path, storage: str) -> "Shared | None":
        """None where it does not lie there."""
        data = data.resolve()
        if not storage.startswith("/") or not data.is_relative_to(Path(storage).resolve()):
            return None
        return cls(data=data, seen=Path(storage, data.relative_to(Path(storage).resolve())))

    def url(self, path: Path) -> str:
        """Give the URL by which stations read a file; one outside is expected to be at the same place for them."""
        resolved = path.resolve()
        if resolved.is_relative_to(self.data):
            path = self.seen / resolved.relative_to(self.data)
        return f"file://{quote_from_bytes(os.fsencode(path))}"


@dataclass(slots=True, kw_only=True)
class _Job:
    """A Job that Workers elsewhere run."""

    folder: JobFolder
    task: asyncio.Task[None] | None = None
    there: set[tuple[int, int]] = field(default_factory=set)  # pieces of Segments
    missing: set[int] = field(default_factory=set)  # Segments whose items are not what they were
    position: tuple[int, int] = (0, 0)  # the furthest piece that a Lease has been about
    has_complained: bool = False
    _items: list[Items | None] = field(default_factory=list)

    def items(self, segment: int) -> Items | None:
        """Give where the bytes of a Segment are; None if they are not there."""
        while len(self._items) <= segment:
            try:
                self._items.append(find_items(self.folder, len(self._items)))
            except ItemsGone:
                self._items.append(None)
        return self._items[segment]

    def next_pieces(self) -> list[tuple[int, int]]:
        """Give the pieces that are to be there next."""
        pieces: list[tuple[int, int]] = []
        segment, number = self.position
        while len(pieces) < _PIECES_PER_CALL and self.folder.states(segment).exists():
            items = None if segment in self.missing else self.items(segment)
            if items is not None:
                count = -(-items.size // PIECE_BYTES)
                pieces += [(segment, piece) for piece in range(number, count) if (segment, piece) not in self.there]
            segment, number = segment + 1, 0
        return pieces[:_PIECES_PER_CALL]


@dataclass(slots=True, kw_only=True)
class Objects:
    """See the module. All methods are called from the operator's thread, in its event loop."""

    depositing: Depositing
    shared: Shared | None
    is_in_progress: Callable[[str], bool]  # a Job of this operator
    monotonic: Callable[[], float] = time.monotonic
    retry_seconds: float = _RETRY_SECONDS
    _jobs: dict[str, _Job] = field(default_factory=dict)
    _pauses: dict[str, Pause] = field(default_factory=dict)  # of Workers that could not read what was there
    _inherited: set[str] = field(default_factory=set)  # Jobs in progress of which earlier operators have left something
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, job_id: str, folder: JobFolder) -> None:
        """Have the Segments of a Job there: a Worker elsewhere is about to run it. May be said of each one."""
        if job_id in self._jobs:
            return
        job = self._jobs[job_id] = _Job(folder=folder)
        if self.shared is None:
            job.task = self._start(self._upload(job_id, job))

    def reference(self, worker: str, job_id: str, segment: int, begin: int, end: int) -> dict[str, Any] | None:
        """Say where a Worker finds these bytes of a Segment, as its Lease does; None where they go with the Lease."""
        job = self._jobs.get(job_id)
        if job is None or end - begin <= INLINE_BYTES or self._is_paused(worker):
            return None
        items = job.items(segment)
        if items is None or end > items.size:
            return None
        told: dict[str, Any] = {"kind": "stored", "bytes": end - begin, "lines": items.are_lines}
        if self.shared is not None:
            told["pieces"] = [(self.shared.url(items.path), items.base + begin, end - begin)]
            if items.source is not None:
                told["facts"] = [items.source.size, items.source.mtime_ns, items.source.inode]
        else:
            wanted = list(pieces_of(begin, end))
            job.position = max(job.position, (segment, wanted[-1][0]))
            if not all((segment, number) in job.there for number, _, _ in wanted):
                return None
            place = JobPlace(self.depositing.root, job_id)
            told["pieces"] = [(place.piece(segment, number), offset, size) for number, offset, size in wanted]
        return told

    def unfetched(self, worker: str, job_id: str, why: str) -> None:
        """A Worker could not read what it was referred to: for a while its Leases carry all that they are about."""
        self._pauses.setdefault(worker, Pause()).begin(self.monotonic())
        self.complain(job_id, why)

    def complain(self, job_id: str, why: str) -> None:
        """Say in a Job's log, once, that the storage cannot be used."""
        job = self._jobs.get(job_id)
        if job is not None and not job.has_complained:
            job.has_complained = True
            append_line(
                job.folder.log, f"the storage (--storage) cannot be used, the operator's channel is instead: {why}"
            )

    def job_ended(self, job_id: str) -> None:
        """Remove what lies there of a Job: nothing of it is leased any more."""
        job = self._jobs.pop(job_id, None)
        for worker in [worker for worker in self._pauses if worker.partition("-")[0] == job_id]:
            del self._pauses[worker]
        if job is not None and job.task is not None:
            job.task.cancel()
        if job is not None or job_id in self._inherited:
            self._inherited.discard(job_id)
            self._start(self._remove([job_id], job.task if job else None))

    def recover(self) -> None:
        """Remove what earlier operators have left of Jobs that are not in progress any more."""
        self._start(self._sweep())

    async def close(self) -> None:
        """End all that is being done."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work at the storage has failed", exc_info=error)

    def _is_paused(self, worker: str) -> bool:
        pause = self._pauses.get(worker)
        return pause is not None and pause.is_on(self.monotonic())

    async def _upload(self, job_id: str, job: _Job) -> None:
        """Bring all that is still to be leased, and try again what fails, until the Job has ended."""
        if not _has_much(job):
            return
        while pieces := job.next_pieces():
            failure: Failed | None = None
            async with aclosing(self.depositing.upload(job_id, job.folder, pieces)) as events:
                async for event in events:
                    match event:
                        case Stored(segment=segment, number=number):
                            job.there.add((segment, number))
                        case Missing(segment=segment):  # who leases it says so
                            job.missing.add(segment)
                        case Failed():
                            failure = event
            if failure is not None:
                self.complain(job_id, failure.reason)
                await asyncio.sleep(self.retry_seconds)

    async def _remove(self, jobs: Sequence[str], after: asyncio.Task[None] | None = None) -> None:
        if after is not None:  # or its process might leave another piece
            await asyncio.wait([after])
        for _ in range(_MOST_REMOVALS):  # what is left then, the next operator removes
            outcome = await self.depositing.remove(jobs)
            if isinstance(outcome, Done):
                return
            logger.warning("what jobs have left in the storage cannot be removed: %s", outcome)
            await asyncio.sleep(self.retry_seconds)

    async def _sweep(self) -> None:
        found = await self.depositing.find()
        # Only now: a Job that is new has been in progress since before there was anything of it.
        ended = [job_id for job_id in found if not self.is_in_progress(job_id)]
        self._inherited.update(set(found) - set(ended))
        if ended:
            await self._remove(ended)


def _has_much(job: _Job) -> bool:
    """Tell whether a Job has so much that a Lease of it might ever refer to something."""
    sizes: Collection[int] = [items.size for items in (job.items(0), job.items(1)) if items is not None]
    return len(sizes) > 1 or max(sizes, default=0) > INLINE_BYTES
