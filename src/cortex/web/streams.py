"""Results and logs as streams: flat in memory, and following a Job or an API to its end on request."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from starlette.concurrency import iterate_in_threadpool

from cortex.domain.errors import ApiNotFound, DataDamaged, FilesError
from cortex.domain.job import Job, JobStatus
from cortex.exporting.receipt import json_line
from cortex.operator.operator import Operator
from cortex.storage.results import ResultDamaged
from cortex.storage.segments import ItemsChanged, SegmentDamaged
from cortex.web.rotating import RotatingReader

_CHUNK_BYTES: Final = 512 * 1024
_LOOK_AGAIN_SECONDS: Final = 0.2
"""What is not announced is looked for so often."""

_LOOKS_APART_SECONDS: Final = 0.05
"""Short Leases end in quick succession: there is no need to look after each."""

_LOOK_ANYWAY_SECONDS: Final = 1.0
"""Batches end before their Lease does, and some without one."""

_DAMAGED: Final = "`cortex verify` names all that is damaged; `cortex rerun --all` makes the results again"
_SUBMIT: Final = "submit the dataset again: its results so far can be read all the same"


@contextmanager
def _end_of(operator: Operator, job: Job) -> Iterator[asyncio.Event]:
    event = asyncio.Event()
    operator.jobs.watch(job.id, event.set)
    try:
        yield event
    finally:
        operator.jobs.unwatch(job.id, event.set)


@contextmanager
def _news_of(operator: Operator, job: Job) -> Iterator[asyncio.Event]:
    """Give what is set when a Lease of a Job ends, and when the Job does."""
    with _end_of(operator, job) as event:
        operator.followers.add(job.id, event.set)
        try:
            yield event
        finally:
            operator.followers.remove(job.id, event.set)


async def batches(
    operator: Operator, job: Job, read: Callable[[Job, int, int], Iterator[bytes]], *, follow: bool
) -> AsyncIterator[bytes]:
    """Give what the Batches that have ended left, in input order; if following, each once all before it have ended."""
    position, root = 0, operator.jobs.folder(job.id).root
    if follow:
        with _end_of(operator, job) as end_of_job, _news_of(operator, job) as news:
            while not end_of_job.is_set():
                news.clear()
                end = operator.ended_prefix(job, position)
                if end > position:
                    job = operator.ledger.job(job.id) or job  # its total is known only when all is enqueued
                    async for chunk in _chunks(while_there(root, read(job, position, end))):
                        yield chunk
                position = end
                await _wait(end_of_job, _LOOKS_APART_SECONDS)
                await _wait(news, _LOOK_ANYWAY_SECONDS)
    job = operator.ledger.job(job.id) or job
    async for chunk in _chunks(while_there(root, read(job, position, job.total_batch_count))):
        yield chunk


async def manifest(operator: Operator, job: Job, *, follow: bool) -> AsyncIterator[bytes]:
    """Give the manifest of a Job; if following, its inputs once they are listed, and then until the Job has ended.

    Where it meets damage on its way, its last line says so. Raises DataDamaged.
    """
    is_begun = False
    try:
        async for chunk in _manifest(operator, job, follow=follow):
            yield chunk
            is_begun = True
    except DataDamaged as error:
        if is_begun:
            yield json_line("error", {"message": str(error)})
        raise


async def _manifest(operator: Operator, job: Job, *, follow: bool) -> AsyncIterator[bytes]:
    receipt, root = operator.manifest(job), operator.jobs.folder(job.id).root
    if follow:
        with _end_of(operator, job) as end_of_job:
            while job.status is JobStatus.ENQUEUING and not end_of_job.is_set():
                await _wait(end_of_job, _LOOK_AGAIN_SECONDS)
                job = operator.ledger.job(job.id) or job
    async for chunk in _chunks(while_there(root, receipt.head(job))):
        yield chunk
    async for chunk in batches(operator, job, receipt.batches, follow=follow):
        yield chunk
    job = operator.ledger.job(job.id) or job
    async for chunk in _chunks(while_there(root, receipt.tail(job))):
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
            await _wait(end_of_job, _LOOK_AGAIN_SECONDS)


async def api_log(operator: Operator, name: str, *, follow: bool) -> AsyncIterator[bytes]:
    """Give the log of a RealtimeAPI so far; if following, until it is deleted."""
    folder = operator.serving.folder(name)
    with RotatingReader(folder.log, folder.older_log) as reader:
        while True:
            was_last = not follow or not _is_deployed(operator, name)
            while chunk := reader.read():
                yield chunk
            if was_last:
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _is_deployed(operator: Operator, name: str) -> bool:
    try:
        operator.deployments.api(name)
    except ApiNotFound:
        return False
    return True


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _read(path: Path, position: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), _CHUNK_BYTES, position)
    except FileNotFoundError:
        return b""


def while_there(root: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give pieces until their Job is removed, with its folder: that is an end, and no failure. Raises DataDamaged."""
    try:
        yield from pieces
    except Exception as error:
        if not root.exists():
            return
        if isinstance(error, SegmentDamaged | ResultDamaged | FilesError | OSError):
            raise DataDamaged(str(error), hint=_SUBMIT if isinstance(error, ItemsChanged) else _DAMAGED) from error
        raise


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
