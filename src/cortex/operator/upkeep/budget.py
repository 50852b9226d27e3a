"""Keeps the data directory within a budget: removes what can be spared, and refuses new work where that is too little.

First goes what nothing needs, then the Jobs that ended first, then the downloaded packages and the environments that
were not used for longest. What is in use is never removed, whatever it takes.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cortex.domain.errors import StorageFull
from cortex.domain.quantity import show_bytes
from cortex.operator.upkeep.prune import Prune, Wanted
from cortex.operator.upkeep.retention import SLICE
from cortex.storage.ledger import Ledger
from cortex.storage.usage import Usage, bytes_freed, bytes_on_disk, measure

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 10.0
_MOST_OF_THE_TIME: Final = 20
"""A look that takes a second is followed by a pause of so many."""


@dataclass(slots=True, kw_only=True)
class DiskBudget:
    """See the module. The methods are called from the operator's thread; what takes long, they do in others."""

    limit_bytes: int
    data: Path  # the data directory
    ledger: Ledger
    prune: Prune
    look_seconds: float = _LOOK_SECONDS
    _known: dict[Path, tuple[object, Usage]] = field(default_factory=dict)  # what has not changed since it was measured
    _used_bytes: int = 0
    _is_full: bool = False

    async def keep(self) -> None:
        """Look every ten seconds, for as long as the operator lives."""
        while True:
            began_at = time.monotonic()
            try:
                await self.look()
            except Exception:
                logger.exception("the disk budget cannot be kept; it is tried again")
            pause = (time.monotonic() - began_at) * _MOST_OF_THE_TIME
            await asyncio.sleep(max(self.look_seconds, pause))

    async def look(self) -> None:
        """Measure the data directory, and make room if it takes too much."""
        in_progress = {job.id for job in self.ledger.jobs_in_progress()}
        self._used_bytes = await asyncio.to_thread(self._measure, in_progress)
        if self._is_over:
            await self._make_room()
        was_full, self._is_full = self._is_full, self._is_over
        if self._is_full and not was_full:
            logger.warning("%s: no new work is taken until it has room", self._standing)
        elif was_full and not self._is_full:
            logger.warning("the data directory has room again: new work is taken")

    def check_room(self) -> None:
        """Raise StorageFull for new work while the data directory takes more than it may."""
        if self._is_full:
            raise StorageFull(
                self._standing,
                hint="wait until jobs have ended, or have the operator started with a larger --disk-budget",
            )

    @property
    def _standing(self) -> str:
        return (
            f"the data directory has {show_bytes(self._used_bytes)}, more than its budget of"
            f" {show_bytes(self.limit_bytes)}, and nothing in it can be removed"
        )

    async def _make_room(self) -> None:
        await self._remove_unneeded()
        while self._is_over and (jobs := self._first_ended()):
            await self._remove_first_ended(jobs)
        if self._is_over:
            await self._remove_environments()

    async def _remove_unneeded(self) -> None:
        for one in await self.prune.prune(Wanted(), is_dry_run=False):
            if one.count:
                self._freed(one.bytes, f"{one.count} {one.kind} that nothing needs")

    async def _remove_first_ended(self, jobs: Sequence[str]) -> None:
        usages = await asyncio.to_thread(self._enough, [self.prune.root / job for job in jobs])
        for job in await self.prune.remove_jobs(jobs[: len(usages)]):
            logger.warning("job %s was removed with its results", job)
        self._freed(bytes_freed(usages), f"the {len(usages)} jobs that ended first")
        self.prune.deployments.remove_unneeded()

    async def _remove_environments(self) -> None:
        """Remove what is not in use, and is installed again when it is needed."""
        found = await self.prune.find(Wanted(all_environments=True))
        gone: list[Usage] = []
        if found.packages and await self.prune.remove_packages():
            gone += found.packages.values()
            self._freed(bytes_freed(gone), "the packages that were downloaded for environments")
        for key in sorted(found.environments, key=found.environments_used_ns.__getitem__):
            if self._is_over and await self.prune.remove_environments({key: found.environments_used_ns[key]}):
                before = bytes_freed(gone)
                gone.append(found.environments[key])
                self._freed(bytes_freed(gone) - before, f"the environment {key}, which was not used for longest")

    @property
    def _is_over(self) -> bool:
        return self._used_bytes > self.limit_bytes

    def _freed(self, freed_bytes: int, what: str) -> None:
        logger.warning(
            "the data directory had %s, its budget is %s: removed %s (%s)",
            *(show_bytes(self._used_bytes), show_bytes(self.limit_bytes), what, show_bytes(freed_bytes)),
        )
        self._used_bytes -= freed_bytes

    def _first_ended(self) -> list[str]:
        """Give some Jobs that may go, first ended first."""
        held = 0
        while True:
            jobs = self.ledger.jobs_ended_before(self.prune.now_ns(), limit=held + SLICE)
            free = [job for job in jobs if not self.prune.is_held(job)]
            if free or len(jobs) < held + SLICE:
                return free
            held = len(jobs)

    def _enough(self, folders: Sequence[Path]) -> list[Usage]:
        """Measure folders, one after the other, until they are enough together."""
        usages: list[Usage] = []
        for folder in folders:
            usages.append(measure(folder))
            if self._used_bytes - bytes_freed(usages) <= self.limit_bytes:
                break
        return usages

    def _measure(self, in_progress: set[str]) -> int:
        """Measure all; what cannot have changed since the last time, from memory. Runs in a thread."""
        known: dict[Path, tuple[object, Usage]] = {}
        usages: list[Usage] = []
        for path, sign in self._pieces(in_progress):
            earlier_sign, usage = self._known.get(path, (None, None))
            if usage is None or sign is None or sign != earlier_sign:
                usage = measure(path)
            if sign is not None:
                known[path] = sign, usage
            usages.append(usage)
        self._known = known
        return bytes_on_disk(usages)

    def _pieces(self, in_progress: set[str]) -> Iterator[tuple[Path, object]]:
        """Give the folders to measure, each with a sign that changes when it does; None where nothing tells."""
        stock = self.prune.stock
        for path in self.data.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError):
                if path == self.prune.root:
                    yield from ((job, None if job.name in in_progress else "ended") for job in path.iterdir())
                elif path == stock.homes:
                    finished = stock.last_used_ns()
                    yield from ((home, "built" if home.name in finished else None) for home in path.iterdir())
                elif path == stock.cache:
                    yield path, tuple((child.name, child.stat().st_mtime_ns) for child in path.iterdir())
                else:
                    yield path, None
