"""How often predict has raised in the Batches of a Job: each such attempt has left a failure entry.

The attempts of a Job are those that its own Workers have made: a rerun counts anew.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from cortex.domain.batch import EntryKind
from cortex.domain.layout import JobFolder
from cortex.storage.entries import find_entries, list_indexes, read_blocks


class FailedAttempt(NamedTuple):
    """An attempt that has raised."""

    batch: int
    token: int  # of the Lease that it was made under
    items: int  # how many have failed


class AttemptReader:
    """Follows the attempts that fail while a Job runs."""

    def __init__(self, folder: JobFolder, job_id: str) -> None:
        self._folder = folder
        self._job_id = job_id
        self._read: defaultdict[str, int] = defaultdict(int)  # how many entries of each Worker were read

    def read_worker(self, worker: str) -> list[FailedAttempt]:
        """Give the attempts that have failed in this Worker since the last call for it."""
        if not worker.startswith(f"{self._job_id}-"):
            return []
        failed: list[FailedAttempt] = []
        try:
            for block in read_blocks(self._folder.index(worker), self._read[worker]):
                self._read[worker] += len(block)
                failures = block[block["kind"] == EntryKind.FAILURE.value]
                failed += map(FailedAttempt, *(failures[name].tolist() for name in ("batch", "token", "rows")))
        except FileNotFoundError:
            pass  # it has not even begun
        return failed


def attempts_before(folder: JobFolder, job_id: str) -> Counter[int]:
    """Count the attempts that have failed so far, by Batch, in memory only for those Batches that have any."""
    attempts: Counter[int] = Counter()
    for index in list_indexes(folder, job_id):
        for block in read_blocks(index):
            attempts.update(block["batch"][block["kind"] == EntryKind.FAILURE.value].tolist())
    return attempts


def failed_items(folder: JobFolder, batches: Collection[int]) -> dict[int, int]:
    """Count the Items that have failed in these Batches, each of which has failed in part."""
    entries, _ = find_entries(list_indexes(folder), [EntryKind.FAILURE], np.array(sorted(batches), np.intp))
    _, firsts = np.unique(entries["batch"], return_index=True)
    return dict(zip(entries["batch"][firsts].tolist(), entries["rows"][firsts].tolist(), strict=True))
