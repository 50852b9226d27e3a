"""The failed Batches of a Job, as data: why each has failed, and what was in it."""

import json
from collections.abc import Iterator
from typing import Any, Final

from cortex.domain.batch import BatchState
from cortex.domain.identity import batch_id
from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.operator.status import rfc3339
from cortex.storage.ledger import Death, Ledger
from cortex.storage.payload import read_payload
from cortex.storage.results import failed_batches, read_failed

_NOT_STORED: Final = {"type": "Unknown", "message": "what was raised could not be stored; the job's log may have it"}
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")  # between values: inside of strings, JSON has none
_NOT_COUNTED: Final = {"type": "WorkerDied", "message": "its workers died"}


def place_of(job: Job, batch: int) -> dict[str, Any]:
    """Name a Batch, and say which items it holds."""
    first_item = batch * job.batch_size
    items = min(job.batch_size, job.item_count - first_item)
    return {"batch_id": batch_id(job.id, batch), "first_item": first_item, "items": items}


def failure_lines(job: Job, folder: JobFolder, ledger: Ledger, first: int, end: int) -> Iterator[bytes]:
    """Give why each Batch from `first` to `end` has failed that has, as JSON lines in input order, in flat memory."""
    for segment in ledger.segments(job.id):
        deaths: dict[int, Death] | None = None
        for batch, state, failure in read_failed(folder, segment, first, end):
            if deaths is None:  # read after the states, so that what led to them is there
                deaths = {death.batch: death for death in ledger.deaths(job.id)}
            why = _given_up if state is BatchState.GIVEN_UP else _raised
            yield json.dumps(place_of(job, batch) | why(failure, deaths.get(batch))).encode() + b"\n"


def failed_items(job: Job, folder: JobFolder, ledger: Ledger, first: int, end: int) -> Iterator[bytes]:
    """Give the items of the same Batches as they were submitted."""
    for segment in ledger.segments(job.id):
        for batch, payload in read_payload(folder, segment, failed_batches(folder, segment, first, end)):
            items = payload.translate(_LINE_BREAKS)
            yield b'{"batch_id": "%b", "items": %b}\n' % (batch_id(job.id, batch).encode(), items)


def _raised(failure: dict[str, Any] | None, death: Death | None) -> dict[str, Any]:
    """Say what predict raised; what a Worker of an earlier version has not written down is left out."""
    line = {**(failure or _NOT_STORED), "attempts": 1 + (death.deaths if death else 0)}
    if "pid" in line:
        line["worker"] = f"pid-{line.pop('pid')}"  # as the log calls it
    if "at_ns" in line:
        line["time"] = rfc3339(line.pop("at_ns"))
    return line


def _given_up(_: dict[str, Any] | None, death: Death | None) -> dict[str, Any]:
    """Say how the Workers died; an account that a power cut has taken is missing."""
    if death is None:
        return _NOT_COUNTED
    kind = "OutOfMemory" if death.out_of_memory else "WorkerDied"
    return {"type": kind, "message": f"its worker {death.cause}", "attempts": death.deaths}
