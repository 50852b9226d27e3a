"""The receipt of a Job: its inputs, how each Batch has ended, where its rows are, and that it all adds up."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cortex.domain.batch import SUCCESSES, BatchState, ResultEntry
from cortex.domain.identity import batch_id
from cortex.domain.isolation import Death
from cortex.domain.job import Job, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.enqueuing.listing import read_listing
from cortex.storage.attempts import attempts_before
from cortex.storage.results import read_endings


def json_line(kind: str, facts: Mapping[str, Any]) -> bytes:
    """Give one line of a receipt."""
    return json.dumps({"kind": kind, **facts}).encode() + b"\n"


def input_lines(folder: JobFolder) -> Iterator[bytes]:
    """Give each file of the dataset as it was listed; none where the request held the items."""
    if folder.listing.exists():
        for file in read_listing(folder):
            yield json_line("input", {"path": file.url, "size": file.size_bytes, "version": file.version})


def output_lines(folder: JobFolder) -> Iterator[bytes]:
    """Give each file that the results were written to."""
    for file in read_exported(folder.exported):
        if "first_batch" in file:
            yield json_line("output", file)


def read_exported(path: Path) -> Iterator[dict[str, Any]]:
    """Give what is known of each file that was written; nothing where nothing was, or not all yet."""
    try:
        with path.open("rb") as lines:
            yield from map(json.loads, lines)
    except FileNotFoundError:
        return


class Receipt:
    """Gives how Batches have ended, and counts them on the way."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._batches: Counter[str] = Counter()
        self._items: Counter[bool] = Counter()  # that have failed, or have not
        self._rows = 0

    def batch_lines(
        self, job: Job, segments: Sequence[SegmentRange], deaths: Iterable[Death], first: int, end: int
    ) -> Iterator[bytes]:
        """Give how each Batch from `first` to `end` has ended that has, in input order."""
        if first >= end:
            return
        attempts = attempts_before(self._folder, job.id)
        for death in deaths:
            attempts[death.batch] += death.deaths + death.timeouts
        for batch, state, rows, failure in read_endings(self._folder, segments, first, end):
            facts = _facts(job, batch, state, rows, failure)
            facts["attempts"] = max(1, attempts[batch] + (state in SUCCESSES))
            self._count(facts)
            yield json_line("batch", facts)

    def totals(self, job: Job) -> dict[str, Any]:
        """Add up what has been given; the rest is open."""
        succeeded, failed = self._items[False], self._items[True]
        failed_batches = self._batches["failed"] + self._batches["failed_in_part"]
        return {
            "items": job.item_count,
            "succeeded_items": succeeded,
            "failed_items": failed,
            "open_items": job.item_count - succeeded - failed,
            "batches": job.total_batch_count,
            "succeeded": self._batches["succeeded"],
            "failed": failed_batches,
            "open": job.total_batch_count - self._batches.total(),
            "rows": self._rows,
        }

    def _count(self, facts: Mapping[str, Any]) -> None:
        self._batches[facts["status"]] += 1
        self._items[True] += facts["failed_items"]
        self._items[False] += facts["items"] - facts["failed_items"]
        self._rows += facts["rows"]


def _facts(
    job: Job, batch: int, state: BatchState, rows: ResultEntry | None, failure: ResultEntry | None
) -> dict[str, Any]:
    items = job.items_of(batch)
    status, failed_items = "failed", items
    if state in SUCCESSES:
        status, failed_items = "succeeded", 0
    elif state is BatchState.FAILED_IN_PART:
        status, failed_items = "failed_in_part", failure.rows if failure else items
    facts = {
        "batch_id": batch_id(job.names_batches, batch),
        "first_item": batch * job.batch_size,
        "items": items,
        "status": status,
        "attempts": 1,
        "rows": rows.rows if rows else 0,
        "failed_items": failed_items,
    }
    entry = rows or failure
    return facts | ({"bytes": entry.length, "crc32": f"{entry.checksum:08x}"} if entry else {})
