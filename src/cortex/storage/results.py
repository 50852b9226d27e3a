"""The results of a Job, read from the Workers' parts.

A Batch's result is visible when its state byte says so. Of two entries for one Batch (its Worker died between entry
and byte) the one with the higher token counts; an entry whose checksum does not fit its bytes was cut short by a
power failure and counts as absent.
"""

import heapq
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import ENTRY_FIELDS, BatchState, EntryKind, ResultEntry
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.segments import States

_MAX_OPEN_PARTS: Final = 64
_ENTRIES_AT_ONCE: Final = 65536
_FAILED_AT_ONCE: Final = 100_000
_ENTRY_TYPE: Final = np.dtype(ENTRY_FIELDS)
_KINDS: Final = {BatchState.SUCCEEDED_WITH_ROWS: EntryKind.ROWS, BatchState.FAILED: EntryKind.FAILURE}


class ResultDamaged(Exception):
    """A Batch has succeeded with rows, but they cannot be read."""


def read_rows(
    folder: JobFolder, segments: Sequence[SegmentRange], first: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """Give the rows of every Batch from `first` (to `end`) that has succeeded: JSON lines, in input order, by Batch.

    Raises ResultDamaged when rows that must be there are not.
    """
    for segment in segments:
        begin, stop = _overlap(segment, first, end)
        for batch, data in _read(folder, segment, BatchState.SUCCEEDED_WITH_ROWS, begin, stop):
            if data is None:
                raise ResultDamaged(f"the rows of batch {batch} are damaged")
            yield data


def read_failures(folder: JobFolder, segments: Sequence[SegmentRange]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give number and failure (type, message, traceback) of every Batch in which predict raised, in input order."""
    for segment in segments:
        for batch, data in _read(folder, segment, BatchState.FAILED, segment.first, segment.end):
            if data is not None:
                yield batch, json.loads(data)


def read_failed(
    folder: JobFolder, segment: SegmentRange, first: int, end: int
) -> Iterator[tuple[int, BatchState, dict[str, Any] | None]]:
    """Give number, state and failure of every failed Batch of a Segment, in input order, in little memory.

    One that was given up has no failure, and neither has one whose failure could not be stored.
    """
    failed, given_up = _failed(folder, segment, first, end)
    groups = np.split(failed, range(_FAILED_AT_ONCE, len(failed), _FAILED_AT_ONCE))
    raised = (
        (batch, BatchState.FAILED, None if data is None else json.loads(data))
        for group in groups
        for batch, data in _read_batches(folder, group, EntryKind.FAILURE)
    )
    yield from heapq.merge(raised, ((int(batch), BatchState.GIVEN_UP, None) for batch in given_up), key=itemgetter(0))


def failed_batches(folder: JobFolder, segment: SegmentRange, first: int, end: int) -> Iterator[int]:
    """Give the number of every failed Batch of a Segment, in input order; nothing else is read."""
    yield from map(int, np.sort(np.concatenate(_failed(folder, segment, first, end))))


def _failed(
    folder: JobFolder, segment: SegmentRange, first: int, end: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Give the Batches in which predict raised, and those that were given up, as of one moment."""
    begin, stop = _overlap(segment, first, end)
    states = np.frombuffer(States(folder, segment).read(begin, stop) if begin < stop else b"", np.uint8)
    return np.flatnonzero(states == BatchState.FAILED) + begin, np.flatnonzero(states == BatchState.GIVEN_UP) + begin


def read_endings(
    folder: JobFolder, segments: Sequence[SegmentRange], first: int, end: int
) -> Iterator[tuple[int, BatchState, ResultEntry | None]]:
    """Give number, state and result entry of every Batch that has ended, in input order; nothing else is read."""
    for segment in segments:
        begin, stop = _overlap(segment, first, end)
        if begin >= stop:
            continue
        states = States(folder, segment).read(begin, stop)
        entries, _ = _entries(sorted(folder.workers.glob("*.index")), list(EntryKind), begin, stop)
        starts = np.searchsorted(entries["batch"], np.arange(begin, stop), "left").tolist()
        for batch, state, start in zip(range(begin, stop), map(BatchState, states), starts, strict=True):
            if state is not BatchState.OPEN:
                is_there = start < len(entries) and entries[start]["batch"] == batch and state in _KINDS
                yield batch, state, ResultEntry(*entries[start].item()) if is_there else None


def batches_without_rows(folder: JobFolder, segment: SegmentRange) -> list[int]:
    """Give the Batches that have succeeded with rows, but whose rows did not reach the disk before a power cut."""
    read = _read(folder, segment, BatchState.SUCCEEDED_WITH_ROWS, segment.first, segment.end)
    return [batch for batch, data in read if data is None]


def _overlap(segment: SegmentRange, first: int, end: int | None) -> tuple[int, int]:
    """Give which of the Batches from `first` (to `end`) a Segment holds: none where that is not below its end."""
    return max(first, segment.first), segment.end if end is None else min(end, segment.end)


def _read(
    folder: JobFolder, segment: SegmentRange, state: BatchState, first: int, end: int
) -> Iterator[tuple[int, bytes | None]]:
    """Give what each Batch in this state left; None where no entry is intact."""
    if first >= end:
        return
    states = np.frombuffer(States(folder, segment).read(first, end), np.uint8)
    yield from _read_batches(folder, np.flatnonzero(states == state) + first, _KINDS[state])


def _read_batches(
    folder: JobFolder, wanted: npt.NDArray[np.intp], kind: EntryKind
) -> Iterator[tuple[int, bytes | None]]:
    """Give what these Batches, which have ended, left; None where no entry is intact."""
    if not len(wanted):
        return
    # The states were read first, so every Batch that is wanted has its entry by now.
    indexes = sorted(folder.workers.glob("*.index"))
    entries, parts = _entries(indexes, [kind], int(wanted[0]), int(wanted[-1]) + 1)
    starts = np.searchsorted(entries["batch"], wanted, "left").tolist()
    ends = np.searchsorted(entries["batch"], wanted, "right").tolist()
    with _OpenParts(indexes) as open_parts:
        for batch, start, stop in zip(wanted.tolist(), starts, ends, strict=True):
            found = ((open_parts.file(parts[at]), ResultEntry(*entries[at].item())) for at in range(start, stop))
            candidates = (_intact(file, entry) for file, entry in found if file is not None)
            yield batch, next((data for data in candidates if data is not None), None)


def _entries(
    indexes: Sequence[Path], kinds: Sequence[EntryKind], first: int, end: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Give the entries of these Batches and the part of each: by Batch, the highest token first."""
    found, parts = [np.empty(0, _ENTRY_TYPE)], [np.empty(0, np.intp)]
    for number, path in enumerate(indexes):
        with path.open("rb") as file:
            # Block by block: the index of millions of Batches, of which few are wanted, is not to be in memory.
            while len(block := np.fromfile(file, _ENTRY_TYPE, _ENTRIES_AT_ONCE)):
                wanted = (block["batch"] >= first) & (block["batch"] < end)
                if wanted.any():
                    found.append(block[wanted & np.isin(block["kind"], kinds)])
                    parts.append(np.full(len(found[-1]), number, np.intp))
    all_entries, all_parts = np.concatenate(found), np.concatenate(parts)
    highest_token_first = np.iinfo(np.uint64).max - all_entries["token"]
    order = np.lexsort((highest_token_first, all_entries["batch"]))
    return all_entries[order], all_parts[order]


class _OpenParts:
    """The rows files that are being read: a Job may have had more Workers than files may be open."""

    def __init__(self, indexes: Sequence[Path]) -> None:
        self._paths = [index.with_suffix(".rows") for index in indexes]
        self._files: dict[int, BinaryIO | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def file(self, part: int) -> BinaryIO | None:
        """Give the file of a part; None if it is gone."""
        if part not in self._files:
            if len(self._files) >= _MAX_OPEN_PARTS:
                self._close()
            try:
                self._files[part] = self._paths[part].open("rb", buffering=0)
            except FileNotFoundError:
                self._files[part] = None
        return self._files[part]

    def _close(self) -> None:
        for file in self._files.values():
            if file is not None:
                file.close()
        self._files.clear()


def _intact(file: BinaryIO, entry: ResultEntry) -> bytes | None:
    data = os.pread(file.fileno(), entry.length, entry.offset)
    return data if len(data) == entry.length and zlib.crc32(data) == entry.checksum else None
