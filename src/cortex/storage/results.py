"""The results of a Job, read from the Workers' parts.

What a Batch has left is visible when its state byte says so. Of several entries for one Batch (an attempt has failed
before, or its Worker died between entry and byte) those with the highest token count; an entry whose checksum does
not fit its bytes was cut short by a power failure and counts as absent.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import BatchState, EntryKind, ResultEntry
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.entries import Batches, OpenParts, find_entries, list_indexes
from cortex.storage.segments import States

_FAILED_AT_ONCE: Final = 100_000

_KINDS: Final[Mapping[int, frozenset[int]]] = {
    BatchState.SUCCEEDED_WITH_ROWS: frozenset({EntryKind.ROWS}),
    BatchState.FAILED: frozenset({EntryKind.FAILURE}),
    BatchState.FAILED_IN_PART: frozenset({EntryKind.ROWS, EntryKind.FAILURE}),
}
"""What a Batch in a state has left: entries of these kinds, with the same token."""

_WITH_ROWS: Final = [state for state, kinds in _KINDS.items() if EntryKind.ROWS in kinds]
_WITH_FAILURE: Final = [state for state, kinds in _KINDS.items() if EntryKind.FAILURE in kinds]
_ALL_FAILED: Final = [*_WITH_FAILURE, BatchState.GIVEN_UP]
_ENDINGS: Final = [state for state in BatchState if state is not BatchState.OPEN]

_States = npt.NDArray[np.uint8]
_What = TypeVar("_What")
_Left = tuple[int, BatchState, _What | None, _What | None]
"""Number and state of a Batch, and what its rows and its failure are."""


class ResultDamaged(Exception):
    """A Batch has left rows, but they cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBatch:
    """A Batch that has failed, and how.

    `failures` (type, message, traceback) is one for all of the Batch, or, where it has FAILED_IN_PART, one for each
    Part that has failed, with `part` (its first Item and the one after its last) and `rows_before` (how many of the
    Batch's rows come before it). It is empty where the Batch was given up, and where they could not be stored.
    """

    batch: int
    state: BatchState
    failures: Sequence[dict[str, Any]]
    attempts: int  # of this Job, in which predict has raised


def read_rows(
    folder: JobFolder, segments: Sequence[SegmentRange], first: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """Give the rows that the Batches from `first` (to `end`) have left: JSON lines, in input order, by Batch.

    Those of a Batch that has FAILED_IN_PART are of its good Items. Raises ResultDamaged when rows that must be there
    are not.
    """
    for segment in segments:
        for batch, _, rows, _ in _read(folder, *_in_states(folder, segment, first, end, _WITH_ROWS)):
            if rows is None:
                raise ResultDamaged(f"the rows of batch {batch} are damaged")
            if rows:
                yield rows


def read_failures(folder: JobFolder, segments: Sequence[SegmentRange]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give number and failure of every Batch in which predict raised, in input order: see FailedBatch."""
    for segment in segments:
        for batch, _, _, failure in _read(folder, *_in_states(folder, segment, 0, None, _WITH_FAILURE)):
            for each in _parse(failure):
                yield batch, each


def read_failed(
    folder: JobFolder, segment: SegmentRange, first: int, end: int, *, job_id: str
) -> Iterator[FailedBatch]:
    """Give every failed Batch of a Segment, in input order, in little memory."""
    failed, states = _in_states(folder, segment, first, end, _ALL_FAILED)
    for start in range(0, len(failed), _FAILED_AT_ONCE):
        group = slice(start, start + _FAILED_AT_ONCE)
        read = _read(folder, failed[group], states[group])
        attempts = _count_attempts(folder, failed[group], job_id).tolist()
        for (batch, state, _, failure), count in zip(read, attempts, strict=True):
            yield FailedBatch(batch=batch, state=state, failures=_parse(failure), attempts=count)


def read_endings(
    folder: JobFolder, segments: Sequence[SegmentRange], first: int, end: int
) -> Iterator[tuple[int, BatchState, ResultEntry | None, ResultEntry | None]]:
    """Give every Batch that has ended, in input order: number, state, and the entries of its rows and its failure.

    An entry is None where the state has none; nothing but states and entries is read.
    """
    for segment in segments:
        ended = _in_states(folder, segment, first, end, _ENDINGS)
        yield from _find(list_indexes(folder), *ended, lambda _, entry: entry)


def read_left(
    folder: JobFolder, segment: SegmentRange, *, with_rows_only: bool = False
) -> Iterator[_Left[tuple[ResultEntry, bytes]]]:
    """Give every Batch of a Segment that has ended (or has left rows), in input order, with all that it has left.

    That is number, state, and the entry and the bytes of its rows and of its failure: None where the state has none,
    or where they are not intact.
    """
    batches, states = _in_states(folder, segment, 0, None, _WITH_ROWS if with_rows_only else _ENDINGS)
    indexes = list_indexes(folder)
    with OpenParts(indexes) as open_parts:

        def read(part: int, entry: ResultEntry) -> tuple[ResultEntry, bytes] | None:
            data = open_parts.read(part, entry)
            return None if data is None else (entry, data)

        yield from _find(indexes, batches, states, read)


def batches_without_rows(folder: JobFolder, segment: SegmentRange) -> list[int]:
    """Give the Batches that have left rows, but not all that they left has reached the disk before a power cut."""
    read = _read(folder, *_in_states(folder, segment, 0, None, _WITH_ROWS))
    return [batch for batch, _, rows, _ in read if rows is None]


def _in_states(
    folder: JobFolder, segment: SegmentRange, first: int, end: int | None, wanted: Sequence[int]
) -> tuple[Batches, _States]:
    """Give the Batches of a Segment from `first` (to `end`) in these states, and their states, as of one moment."""
    first, end = max(first, segment.first), segment.end if end is None else min(end, segment.end)
    states = np.frombuffer(States(folder, segment).read(first, end) if first < end else b"", np.uint8)
    places = np.flatnonzero(np.isin(states, wanted))
    return places + first, states[places]


def _read(folder: JobFolder, batches: Batches, states: _States) -> Iterator[_Left[bytes]]:
    """Give the bytes that each of these Batches, which have ended, has left; None where they are not intact."""
    # The states were read first, so every Batch that is wanted has its entries by now.
    indexes = list_indexes(folder)
    with OpenParts(indexes) as open_parts:
        yield from _find(indexes, batches, states, open_parts.read)


def _find(
    indexes: Sequence[Path],
    batches: Batches,
    states: _States,
    read: Callable[[int, ResultEntry], _What | None],
) -> Iterator[_Left[_What]]:
    """Give what each of these Batches has left, as `read` gives it for part and entry; None is what does not count."""
    kinds = {kind for state in np.unique(states).tolist() for kind in _KINDS.get(state, ())}
    entries, parts = find_entries(indexes, list(EntryKind) if kinds else [], batches)
    starts = np.searchsorted(entries["batch"], batches, "left").tolist()
    ends = np.searchsorted(entries["batch"], batches, "right").tolist()
    for batch, state, start, end in zip(batches.tolist(), states.tolist(), starts, ends, strict=True):
        candidates = ((int(parts[at]), ResultEntry(*entries[at].item())) for at in range(start, end))
        yield batch, BatchState(state), *_choose(_KINDS.get(state, frozenset()), candidates, read)


def _choose(
    kinds: Collection[int],
    candidates: Iterable[tuple[int, ResultEntry]],
    read: Callable[[int, ResultEntry], _What | None],
) -> tuple[_What | None, _What | None]:
    """Give rows and failure with the highest token that has left all of these kinds."""
    for _, of_token in groupby(candidates, key=lambda candidate: candidate[1].token):
        wanted = list(of_token)
        if EntryKind.FAILURE not in kinds and any(entry.kind == EntryKind.FAILURE for _, entry in wanted):
            continue  # these rows are of some of the Items only: another attempt had failed in part, a Job before maybe
        wanted = [(part, entry) for part, entry in wanted if entry.kind in kinds]
        found = {entry.kind: what for part, entry in wanted if (what := read(part, entry)) is not None}
        if kinds and found.keys() == kinds:
            return found.get(EntryKind.ROWS), found.get(EntryKind.FAILURE)
    return None, None


def _count_attempts(folder: JobFolder, batches: Batches, job_id: str) -> npt.NDArray[np.intp]:
    """Count the failures that the Workers of this very Job have left of each Batch."""
    entries, _ = find_entries(list_indexes(folder, job_id), [EntryKind.FAILURE], batches)
    numbers = entries["batch"].astype(np.intp)
    return np.searchsorted(numbers, batches, "right") - np.searchsorted(numbers, batches, "left")


def _parse(failure: bytes | None) -> list[dict[str, Any]]:
    return [] if failure is None else [json.loads(line) for line in failure.split(b"\n") if line]
