"""The failed Batches of a Job, as data: why each has failed, and what was in it."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import tee
from typing import Any, Final

from cortex.domain.batch import BatchState
from cortex.domain.identity import batch_id, log_name
from cortex.domain.isolation import Death, Part
from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.operator.status import rfc3339
from cortex.storage.ledger import Ledger
from cortex.storage.payload import read_payload, split_items
from cortex.storage.results import FailedBatch, read_failed

_NOT_STORED: Final = {"type": "Unknown", "message": "what was raised could not be stored; the job's log may have it"}
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")  # between values: inside of strings, JSON has none
_NOT_COUNTED: Final = {"type": "WorkerDied", "message": "its workers died"}

_Line = dict[str, Any]


def place_of(job: Job, batch: int, part: Part | None = None) -> _Line:
    """Name a Batch, and say which items it holds, or which of them a Part of it holds."""
    first, end = part or (0, job.items_of(batch))
    name = batch_id(job.names_batches, batch)
    return {"batch_id": name, "first_item": batch * job.batch_size + first, "items": end - first}


def failure_lines(job: Job, folder: JobFolder, ledger: Ledger, first: int, end: int) -> Iterator[bytes]:
    """Give why each Batch from `first` to `end` has failed that has, as JSON lines in input order, in flat memory.

    A Batch that has failed in part has a line for each part.
    """
    for segment in ledger.segments(job.id):
        deaths: Mapping[int, Sequence[Death]] | None = None
        for failed in read_failed(folder, segment, first, end, job_id=job.id):
            if deaths is None:  # read after the states, so that what led to them is there
                deaths = _deaths(ledger, job)
            for line in _lines(job, failed, deaths.get(failed.batch, ())):
                yield json.dumps(line).encode() + b"\n"


def failed_items(job: Job, folder: JobFolder, ledger: Ledger, first: int, end: int) -> Iterator[bytes]:
    """Give the items of the same Batches and parts as they were submitted."""
    for segment in ledger.segments(job.id):
        batches, numbers = tee(read_failed(folder, segment, first, end, job_id=job.id))
        payloads = read_payload(folder, segment, (failed.batch for failed in numbers))
        for failed, (batch, payload) in zip(batches, payloads, strict=True):
            name = batch_id(job.names_batches, batch).encode()
            for items in _failed_parts(failed, payload):
                yield b'{"batch_id": "%b", "items": %b}\n' % (name, items.translate(_LINE_BREAKS))


def _deaths(ledger: Ledger, job: Job) -> Mapping[int, Sequence[Death]]:
    by_batch: defaultdict[int, list[Death]] = defaultdict(list)
    for death in ledger.deaths(job.id):
        by_batch[death.batch].append(death)
    return by_batch


def _lines(job: Job, failed: FailedBatch, deaths: Sequence[Death]) -> Iterator[_Line]:
    charged = sum(death.deaths + death.timeouts for death in deaths)
    if failed.state is BatchState.GIVEN_UP:
        yield place_of(job, failed.batch) | _given_up(deaths, failed.attempts + charged)
        return
    attempts = {"attempts": max(1, failed.attempts) + charged}  # the last may have left nothing, on a full disk
    for failure in failed.failures or [_NOT_STORED]:
        yield place_of(job, failed.batch, _part(failed, failure)) | _raised(failure) | attempts


def _part(failed: FailedBatch, failure: Mapping[str, Any]) -> Part | None:
    is_of_part = failed.state is BatchState.FAILED_IN_PART and "part" in failure
    return Part(*failure["part"]) if is_of_part else None


def _failed_parts(failed: FailedBatch, payload: bytes) -> Iterator[bytes]:
    parts = [part for failure in failed.failures if (part := _part(failed, failure))]
    if not parts:
        yield payload
        return
    items = split_items(payload)
    for first, end in parts:
        yield b"[" + b", ".join(items[first:end]) + b"]"


def _raised(failure: Mapping[str, Any]) -> _Line:
    """Say what predict raised; what a Worker of an earlier version has not written down is left out."""
    line = {
        name: value for name, value in failure.items() if name not in {"part", "rows_before", "pid", "node", "at_ns"}
    }
    if "pid" in failure:
        line["worker"] = log_name(failure["pid"], failure.get("node"))
    if "at_ns" in failure:
        line["time"] = rfc3339(failure["at_ns"])
    return line


def _given_up(deaths: Sequence[Death], attempts: int) -> _Line:
    """Say how the Workers died; an account that a power cut has taken is missing."""
    if not deaths:
        return _NOT_COUNTED
    return {**max(deaths, key=lambda death: death.deaths + death.timeouts).failure, "attempts": attempts}
