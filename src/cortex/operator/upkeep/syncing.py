"""Brings to the disk, now and then, what has been written since: a power cut costs no more than that."""

from collections.abc import Sequence
from dataclasses import dataclass

from cortex.operator.jobs import Jobs
from cortex.operator.run.finish import sync_results
from cortex.storage.ledger import UnsyncedFile
from cortex.storage.small_files import sync_unsynced


@dataclass(frozen=True, slots=True)
class Syncing:
    """See the module. Begin, sync and end are to be called in this order, again and again."""

    jobs: Jobs

    def begin(self) -> Sequence[UnsyncedFile]:
        """Give the files of small Jobs that are to be synced."""
        return self.jobs.ledger.unsynced()

    def sync(self, files: Sequence[UnsyncedFile]) -> None:
        """Sync these, and what the Jobs in progress have done. Slow: to be called from a thread of its own."""
        sync_unsynced(self.jobs.root, files)
        for run in list(self.jobs.runs.values()):
            sync_results(run.folder)

    def end(self, files: Sequence[UnsyncedFile]) -> None:
        """Have the ledger forget files that have been synced."""
        if files:
            self.jobs.ledger.forget_unsynced(files[-1].number)
