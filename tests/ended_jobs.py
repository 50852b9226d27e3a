"""Jobs that have ended, as their Workers would have left them, to be exported and verified."""

import json
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from cortex.domain.batch import ENTRY, BatchState, EntryKind, ResultEntry
from cortex.domain.isolation import Death
from cortex.domain.job import Counts, Job, JobStatus, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.output import Output
from cortex.exporting.events import Ended
from job_files import job_of

WORKER = "67160ace060e3bfa-0"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A Batch that has succeeded with rows; of several Items, one row each, or one for all."""

    items: Sequence[Any]
    rows: Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A Batch that has failed as a whole."""

    items: Sequence[Any]
    earlier_attempts: int = 0


@dataclass(frozen=True, kw_only=True)
class FailedInPart:
    """A Batch whose rows are there, but for these ranges of Items: first, end, and how many rows come before."""

    items: Sequence[Any]
    rows: Sequence[Any]
    failed: Sequence[tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Left:
    """A Batch that has left nothing."""

    items: Sequence[Any]
    state: BatchState


Outcome = Rows | Failed | FailedInPart | Left


@dataclass(slots=True)
class _Part:
    folder: JobFolder
    token: int = 0

    def append(self, batch: int, kind: EntryKind, data: bytes, rows: int, *, is_new: bool = True) -> None:
        self.token += is_new
        with self.folder.rows(WORKER).open("ab") as file:
            offset = file.tell()
            file.write(data)
        entry = ResultEntry(batch, self.token, offset, len(data), rows, kind, zlib.crc32(data))
        with self.folder.index(WORKER).open("ab") as index:
            index.write(ENTRY.pack(*entry))


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """Such a Job."""

    job: Job
    folder: JobFolder
    segments: Sequence[SegmentRange]
    deaths: Sequence[Death] = field(default_factory=tuple)

    @property
    def ended(self) -> Ended:
        return Ended(
            job=self.job,
            folder=str(self.folder.root),
            segments=self.segments,
            deaths=self.deaths,
            facts={"job_id": self.job.id, "status": self.job.status.value},
        )


def end_job(
    root: Path, *outcomes: Outcome, output: Output | None = None, per_segment: int = 1000, **fields: Any
) -> EndedJob:
    """Write the files of a Job whose Batches have ended like this; all but the last are of one size."""
    folder = JobFolder(root / "67160ace060e3bfa")
    folder.segments.mkdir(parents=True)
    folder.workers.mkdir()
    part = _Part(folder)
    segments = []
    for first in range(0, len(outcomes), per_segment):
        group = outcomes[first : first + per_segment]
        segment = SegmentRange(number=len(segments), first=first, count=len(group))
        payload = [json.dumps(outcome.items, ensure_ascii=False).encode() for outcome in group]
        folder.payload(segment.number).write_bytes(b"".join(payload))
        offsets, checksums = accumulate(map(len, payload), initial=0), map(zlib.crc32, payload)
        folder.offsets(segment.number).write_bytes(array("I", [*offsets, *checksums]).tobytes())
        states = [_write(part, first + place, outcome) for place, outcome in enumerate(group)]
        folder.states(segment.number).write_bytes(bytes(states))
        segments.append(segment)
    failed = sum(isinstance(outcome, Failed | FailedInPart) for outcome in outcomes) + _given_up(outcomes)
    still_open = sum(isinstance(outcome, Left) and outcome.state is BatchState.OPEN for outcome in outcomes)
    usual: dict[str, Any] = {
        "batch_size": len(outcomes[0].items) if outcomes else 1,
        "item_count": sum(len(outcome.items) for outcome in outcomes),
        "status": JobStatus.COMPLETED_WITH_FAILURES if failed else JobStatus.SUCCEEDED,
        "output": output,
        "final_counts": Counts(
            succeeded=len(outcomes) - failed - still_open,
            failed=failed,
            in_queue=still_open,
        ),
    }
    job = job_of(segments, **{**usual, **fields})
    return EndedJob(job=job, folder=folder, segments=segments)


def with_output(job: EndedJob, output: Output) -> EndedJob:
    """Let its results go somewhere."""
    return replace(job, job=replace(job.job, output=output))


def _given_up(outcomes: Sequence[Outcome]) -> int:
    return sum(isinstance(outcome, Left) and outcome.state is BatchState.GIVEN_UP for outcome in outcomes)


def _write(part: _Part, batch: int, outcome: Outcome) -> BatchState:
    match outcome:
        case Rows():
            part.append(batch, EntryKind.ROWS, _lines(outcome.rows), len(outcome.rows))
            return BatchState.SUCCEEDED_WITH_ROWS
        case Failed():
            for _ in range(outcome.earlier_attempts + 1):
                part.append(batch, EntryKind.FAILURE, _lines([_failure()]), len(outcome.items))
            return BatchState.FAILED
        case FailedInPart():
            part.append(batch, EntryKind.ROWS, _lines(outcome.rows), len(outcome.rows))
            lines = [_failure() | {"part": [first, end], "rows_before": rows} for first, end, rows in outcome.failed]
            failed_items = sum(end - first for first, end, _ in outcome.failed)
            part.append(batch, EntryKind.FAILURE, _lines(lines), failed_items, is_new=False)
            return BatchState.FAILED_IN_PART
        case Left():
            return outcome.state


def _lines(values: Sequence[Any]) -> bytes:
    """Write lines as Workers do; what is bytes is written as it is."""
    texts = (value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode() for value in values)
    return b"".join(text + b"\n" for text in texts)


def _failure() -> dict[str, Any]:
    return {"type": "ValueError", "message": "no", "traceback": "...", "at_ns": 1, "pid": 1}
