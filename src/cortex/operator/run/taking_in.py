"""Taking in what a Worker elsewhere has written under its Lease: into the files that it would have written itself here.

Only what its Lease covers is taken, and only while it is held: that is the fence. In the Worker's index, an entry lies
where it lies there; of one that is not taken, nothing but its place is left. All of this may be repeated.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex.domain.batch import ENTRY, BatchState, EntryKind, ResultEntry
from cortex.domain.frame import Frame, FrameError
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Lease
from cortex.storage.segments import States
from cortex.worker.kernel import write_all_at

logger = logging.getLogger(__name__)

_MOST_NOT_TAKEN: Final = 1_000_000
"""So many entries of a Worker one after the other may be of no Lease that it holds."""

_NO_BATCH: Final = 2**63 - 1
_VOID: Final = ENTRY.pack(*ResultEntry(_NO_BATCH, 0, 0, 0, 0, EntryKind.ROWS, 0))
_KNOWN: Final = bytes(BatchState)
_KINDS: Final = frozenset(EntryKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a Worker has written under one Lease, so far."""

    token: int
    first: int
    states: bytes  # of the Batches from `first` on
    index_at: int  # where in its index these entries lie
    entries: bytes

    @classmethod
    def from_frame(cls, frame: Frame) -> "Written":
        """Read what a station says. Raises FrameError for what no Worker can have written."""
        data, count = frame["data"], frame["states"]
        written = cls(
            token=frame["token"],
            first=frame["first"],
            states=data[:count],
            index_at=frame["index_at"],
            entries=data[count:],
        )
        numbers = (written.token, written.first, written.index_at, count)
        is_whole = len(written.states) == count and not (
            len(written.entries) % ENTRY.size or written.index_at % ENTRY.size
        )
        if not all(type(number) is int and number >= 0 for number in numbers) or not is_whole:
            raise FrameError("what its worker has written is cut short")
        if written.states.translate(None, _KNOWN):
            raise FrameError("its worker has stored states that there are not")
        return written


def take_in(folder: JobFolder, states: States, lease: Lease, written: Written) -> None:
    """Write what was written under a Lease into the files here: the states last. Raises OSError."""
    entries = [ResultEntry(*entry) for entry in ENTRY.iter_unpack(written.entries)]
    rows_bytes = _size(folder.rows(lease.worker))
    without_rows = {entry.batch for entry in entries if _is_of(lease, entry) and not _is_whole(entry, rows_bytes)}
    are_taken = [_is_of(lease, entry) and entry.batch not in without_rows for entry in entries]
    if not _append(folder, lease.worker, written, are_taken):
        return
    first, end = max(lease.first, written.first), min(lease.end, written.first + len(written.states))
    if first < end:
        ended = bytearray(written.states[first - written.first : end - written.first])
        for batch in without_rows.intersection(range(first, end)):  # they run again, or would be damaged for ever
            ended[batch - first] = BatchState.OPEN
        states.store_endings(first, bytes(ended))


def _is_of(lease: Lease, entry: ResultEntry) -> bool:
    return entry.token == lease.token and lease.first <= entry.batch < lease.end


def _is_whole(entry: ResultEntry, rows_bytes: int) -> bool:
    """Tell whether what an entry is of has come, as it must have come before."""
    return entry.kind in _KINDS and entry.offset + entry.length <= rows_bytes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append(folder: JobFolder, worker: str, written: Written, are_taken: list[bool]) -> bool:
    """Append entries to the index, which only grows: what is there of them stays. False where they lie too far off."""
    if not are_taken:
        return True
    index = os.open(folder.index(worker), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        have = os.fstat(index).st_size // ENTRY.size
        gap = written.index_at // ENTRY.size - have
        if gap > _MOST_NOT_TAKEN:
            logger.warning("%s has %d results that were never told, and those after them are not taken", worker, gap)
            return False
        pieces = [_VOID] * gap
        for place in range(max(0, -gap), len(are_taken)):
            taken = written.entries[place * ENTRY.size : (place + 1) * ENTRY.size]
            pieces.append(taken if are_taken[place] else _VOID)
        write_all_at(index, b"".join(pieces), have * ENTRY.size)
    finally:
        os.close(index)
    return True
