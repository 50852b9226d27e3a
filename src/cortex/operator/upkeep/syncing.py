"""Brings to the disk, every second, what has been written since: a power cut costs no more than that."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cortex.domain.errors import StorageFailed
from cortex.operator.jobs import Jobs
from cortex.operator.run.finish import sync_results
from cortex.storage.ledger import UnsyncedFile
from cortex.storage.small_files import sync_unsynced

logger = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Syncing:
    """See the module."""

    jobs: Jobs

    async def keep(self) -> None:
        """Sync again and again, for as long as the operator lives. What fails is done the next time."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await self._sync()
            except (OSError, StorageFailed):
                continue  # the disk has no room, and Jobs tell so
            except Exception:
                logger.exception("what has been written could not be synced; it is tried again")

    async def _sync(self) -> None:
        """Sync the files of small Jobs, and what Jobs in progress have done; the ledger need not keep the former."""
        ledger = self.jobs.ledger
        files = ledger.unsynced()
        await asyncio.to_thread(self._bring_to_disk, files)
        if files:
            ledger.forget_unsynced(files[-1].number)

    def _bring_to_disk(self, files: Sequence[UnsyncedFile]) -> None:
        sync_unsynced(self.jobs.root, files)
        for run in list(self.jobs.runs.values()):
            sync_results(run.folder)
