"""Results and logs as streams: flat in memory, and following a Job to its end on request."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from starlette.concurrency import iterate_in_threadpool

from cortex.domain.identity import batch_id
from cortex.domain.job import Job
from cortex.operator.operator import Operator

_CHUNK_BYTES: Final = 256 * 1024
_LOOK_AGAIN_SECONDS: Final = 0.2


@contextmanager
def _end_of(operator: Operator, job: Job) -> Iterator[asyncio.Event]:
    event = asyncio.Event()
    operator.jobs.watch(job.id, event.set)
    try:
        yield event
    finally:
        operator.jobs.unwatch(job.id, event.set)


async def rows(operator: Operator, job: Job, *, follow: bool) -> AsyncIterator[bytes]:
    """Give the rows of what has ended, in input order; if following, each as soon as all before it have ended."""
    position = 0
    if follow:
        with _end_of(operator, job) as end_of_job:
            while not end_of_job.is_set():
                end = operator.ended_prefix(job, position)
                async for chunk in _chunks(operator.rows(job, position, end)):
                    yield chunk
                position = end
                await _wait(end_of_job)
    async for chunk in _chunks(operator.rows(job, position, job.total_batch_count)):
        yield chunk


async def failures(operator: Operator, job: Job) -> AsyncIterator[bytes]:
    """Give what predict raised, Batch by Batch."""
    lines = (
        json.dumps({"batch_id": batch_id(job.id, batch), **failure}).encode() + b"\n"
        for batch, failure in operator.failures(job)
    )
    async for chunk in _chunks(lines):
        yield chunk


async def log(operator: Operator, job: Job, *, follow: bool) -> AsyncIterator[bytes]:
    """Give the Job's log so far; if following, until the Job has ended."""
    path = operator.log(job)
    position = 0
    with _end_of(operator, job) as end_of_job:
        while True:
            was_last = end_of_job.is_set() or not follow
            while chunk := _read(path, position):
                position += len(chunk)
                yield chunk
            if was_last:
                return
            await _wait(end_of_job)


async def _wait(event: asyncio.Event) -> None:
    """Wait until there may be more: what Workers write is not announced, the end of the Job is."""
    try:
        await asyncio.wait_for(event.wait(), _LOOK_AGAIN_SECONDS)
    except TimeoutError:
        return


def _read(path: Path, position: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), _CHUNK_BYTES, position)
    except FileNotFoundError:
        return b""


async def _chunks(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Join pieces to chunks that are worth sending; they are read in a thread."""
    async for chunk in iterate_in_threadpool(_joined(pieces)):
        yield chunk


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
