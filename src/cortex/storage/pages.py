"""The pages of a Job's Workers, as the operator writes and reads them (domain.batch.Page says what is on them)."""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cortex.domain.batch import HookState, Page
from cortex.domain.isolation import Part
from cortex.domain.layout import JobFolder

_WORDS = struct.Struct(f"@{Page.SIZE // 8}Q")
_EMPTY = (0,) * (Page.SIZE // 8)
_LARGEST = 2**64 - 1
_HOOK_STATES = frozenset(HookState)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What a page says at one moment."""

    current: int | None
    finished: int
    busy_seconds: float
    hook: HookState
    started_at_ns: int
    part: Part | None  # None where the whole Batch is in predict
    no_room_since_ns: int | None  # since when what it returned waits for room on the disk
    token: int
    first: int
    limit: int
    is_copy: bool  # of the page that a Worker elsewhere has
    is_cut_off: bool  # of which nothing is heard


def create_page(folder: JobFolder, worker: str) -> None:
    """Make an empty page, in full: a Worker's store into a hole on a full disk would kill it."""
    with folder.page(worker).open("wb") as file:
        file.write(bytes(Page.SIZE))


def remove_empty_page(folder: JobFolder, worker: str) -> None:
    """Remove the page of a Worker that is gone, if nothing was ever written on it."""
    page = folder.page(worker)
    with suppress(FileNotFoundError):
        if not any(page.read_bytes()):
            page.unlink()


def read_page(folder: JobFolder, worker: str) -> PageContent:
    """Read a page; one that is missing or cut short says nothing."""
    words = _read(folder.page(worker))
    return PageContent(
        current=words[Page.CURRENT] - 1 if words[Page.CURRENT] else None,
        finished=words[Page.FINISHED],
        busy_seconds=words[Page.BUSY_NS] / 1e9,
        # A word that nobody has written there says nothing.
        hook=HookState(words[Page.HOOK]) if words[Page.HOOK] in _HOOK_STATES else HookState.NOT_STARTED,
        started_at_ns=words[Page.STARTED_AT_NS],
        part=Part(words[Page.PART_FIRST], words[Page.PART_END]) if words[Page.PART_END] else None,
        no_room_since_ns=words[Page.NO_ROOM_SINCE_NS] or None,
        token=words[Page.TOKEN],
        first=words[Page.FIRST],
        limit=words[Page.LIMIT],
        is_copy=bool(words[Page.COPY_OF]),
        is_cut_off=bool(words[Page.IS_CUT_OFF]),
    )


def write_lease(folder: JobFolder, worker: str, *, token: int, first: int, limit: int) -> None:
    """Write on its page which Lease a Worker is about to get: the next operator reads it there."""
    _write(folder.page(worker), Page.TOKEN, token, first, limit)


def write_limit(folder: JobFolder, worker: str, limit: int) -> None:
    """Take back what a Worker has not begun from `limit` on."""
    _write(folder.page(worker), Page.LIMIT, limit)


def mark_copy(folder: JobFolder, worker: str, station: int) -> bool:
    """Write on a page that it is a copy of the one at a station; False if it is of the one at another station.

    Raises FileNotFoundError: of a Worker that is gone.
    """
    path = folder.page(worker)
    known = _read(path)[Page.COPY_OF]
    if not known:
        _write(path, Page.COPY_OF, station)
    return known in (0, station)


def mark_cut_off(folder: JobFolder, worker: str) -> None:
    """Write on the copy of a page that nothing is heard of its Worker until it is copied again.

    Raises FileNotFoundError: of a Worker that is gone.
    """
    _write(folder.page(worker), Page.IS_CUT_OFF, 1)


def write_hook_started(folder: JobFolder, worker: str) -> None:
    """Write on the copy of a page that the Worker is about to be told to run `on_job_complete`."""
    _write(folder.page(worker), Page.HOOK, HookState.STARTED)


def copy_page(folder: JobFolder, worker: str, page: bytes, *, later_by_ns: int) -> None:
    """Write on the copy of a page what its Worker has written on the page; our clock is ahead by so much.

    That the hook has begun is not taken back. Raises FileNotFoundError: of a Worker that is gone.
    """
    theirs = list(_WORDS.unpack(page))
    for word in (Page.STARTED_AT_NS, Page.NO_ROOM_SINCE_NS):
        theirs[word] = min(max(0, theirs[word] + later_by_ns), _LARGEST) if theirs[word] else 0
    path = folder.page(worker)
    theirs[Page.HOOK] = max(theirs[Page.HOOK], _read(path)[Page.HOOK])
    _write(path, Page.CURRENT, *theirs[Page.CURRENT : Page.TOKEN])
    _write(path, Page.LINES_LEFT_OUT, theirs[Page.LINES_LEFT_OUT], 0)  # and so it is not cut off


def work_done(folder: JobFolder) -> tuple[int, float]:
    """Count the Batches that all Workers of a Job ever ended, and the seconds that they spent in them."""
    try:
        with os.scandir(folder.workers) as entries:
            pages = [_read(entry.path) for entry in entries if entry.name.endswith(".page")]
    except FileNotFoundError:
        pages = []
    return sum(words[Page.FINISHED] for words in pages), sum(words[Page.BUSY_NS] for words in pages) / 1e9


# By the system's calls, because this is much of what a Lease costs the operator.


def _read(path: Path | str) -> tuple[int, ...]:
    try:
        page = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return _EMPTY
    try:
        return _WORDS.unpack(os.pread(page, Page.SIZE, 0).ljust(Page.SIZE, b"\0"))
    finally:
        os.close(page)


def _write(path: Path, first: int, *words: int) -> None:
    page = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(page, struct.pack(f"@{len(words)}Q", *words), 8 * first)
    finally:
        os.close(page)
