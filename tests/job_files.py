"""Files of a Job as Workers and the operator would have written them, without the syncs."""

import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from cortex.domain.batch import ENTRY, BatchState, EntryKind, ResultEntry
from cortex.domain.job import Job, JobStatus, SegmentRange
from cortex.domain.layout import JobFolder


def make_job(root: Path, *counts: int) -> tuple[JobFolder, list[SegmentRange]]:
    """Make a Job with Segments of so many Batches, all of them open; the payload of Batch n is `[n]`."""
    folder = JobFolder(root)
    folder.segments.mkdir(parents=True)
    folder.workers.mkdir()
    segments = []
    first = 0
    for number, count in enumerate(counts):
        payload = [f"[{batch}]".encode() for batch in range(first, first + count)]
        folder.payload(number).write_bytes(b"".join(payload))
        folder.offsets(number).write_bytes(array("I", accumulate(map(len, payload), initial=0)).tobytes())
        folder.states(number).write_bytes(bytes(count))
        segments.append(SegmentRange(number=number, first=first, count=count))
        first += count
    return folder, segments


def set_states(folder: JobFolder, segment: SegmentRange, states: Sequence[BatchState]) -> None:
    """Set the state of every Batch of a Segment."""
    folder.states(segment.number).write_bytes(bytes(states))


def append_entry(
    folder: JobFolder,
    worker: str,
    batch: int,
    data: bytes,
    *,
    token: int = 1,
    kind: EntryKind = EntryKind.ROWS,
    checksum: int | None = None,
) -> None:
    """Append what a Worker's Batch returned to its part, with an entry."""
    with folder.rows(worker).open("ab") as rows:
        offset = rows.tell()
        rows.write(data)
    checksum = zlib.crc32(data) if checksum is None else checksum
    with folder.index(worker).open("ab") as index:
        index.write(ENTRY.pack(*ResultEntry(batch, token, offset, len(data), data.count(b"\n"), kind, checksum)))


def job_of(segments: Sequence[SegmentRange], **fields: Any) -> Job:
    """Give a Job that runs and has these Segments, of Batches of one Item if nothing else is said."""
    total = sum(segment.count for segment in segments)
    usual = {
        "id": "67160ace060e3bfa",
        "api_name": "api",
        "api_id": "v1",
        "workers": 2,
        "config": None,
        "batch_size": 1,
        "item_count": total * fields.get("batch_size", 1),
        "total_batch_count": total,
        "status": JobStatus.RUNNING,
        "created_at_ns": 1,
    }
    return Job(**{**usual, **fields})
