"""The results of a Job, read from the Workers' parts.

What a Batch has left is visible when its state byte says so. Of several entries for one Batch (an attempt has failed
before, or its Worker died between entry and byte) those with the highest token count; an entry whose checksum does
not fit its bytes was cut short by a power failure and counts as absent.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import BatchState, EntryKind, ResultEntry
from cortex.domain.checksum import crc32
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.entries import Batches, Entries, KnownBlocks, OpenParts, find_entries, list_indexes
from cortex.storage.segments import States

_FAILED_AT_ONCE: Final = 100_000
_BATCHES_AT_ONCE: Final = 16384
_PIECE_BYTES: Final = 576 * 1024  # a little more than is sent at a time: nothing is joined, and so copied, then

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
_STATES: Final = {state.value: state for state in BatchState}
_NOTHING: Final = frozenset[int]()
_ONLY: Final[Mapping[int, frozenset[int]]] = {kind: frozenset({kind}) for kind in EntryKind}

_States = npt.NDArray[np.uint8]
_Places = npt.NDArray[np.intp]
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
    folder: JobFolder,
    segments: Sequence[SegmentRange],
    first: int = 0,
    end: int | None = None,
    *,
    blocks: KnownBlocks | None = None,
) -> Iterator[bytes]:
    """Give the rows that the Batches from `first` (to `end`) have left: JSON lines, in input order.

    A piece has the rows of one Batch, or of several that lie side by side, up to half a megabyte. Those of a Batch
    that has FAILED_IN_PART are of its good Items. Raises ResultDamaged when rows that must be there are not. Who asks
    again and again keeps what is known of the `blocks`.
    """
    blocks = blocks or KnownBlocks()
    for segment in segments:
        batches, states = _in_states(folder, segment, first, end, _WITH_ROWS)
        indexes = list_indexes(folder)
        with OpenParts(indexes) as open_parts:
            for found in _find(indexes, batches, states, blocks):
                yield from found.rows(open_parts)


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
    blocks = KnownBlocks()
    for segment in segments:
        ended = _in_states(folder, segment, first, end, _ENDINGS)
        for found in _find(list_indexes(folder), *ended, blocks):
            yield from found.left(lambda _, entry: entry)


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

        for found in _find(indexes, batches, states, KnownBlocks()):
            yield from found.left(read)


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
    indexes = list_indexes(folder)
    with OpenParts(indexes) as open_parts:
        for found in _find(indexes, batches, states, KnownBlocks()):
            yield from found.left(open_parts.read)


def _find(indexes: Sequence[Path], batches: Batches, states: _States, blocks: KnownBlocks) -> Iterator["_Found"]:
    """Find all entries of these Batches, some Batches at a time.

    The states must have been read before the indexes are listed: then every Batch that is wanted has its entries.
    """
    for start in range(0, len(batches), _BATCHES_AT_ONCE):
        group = slice(start, start + _BATCHES_AT_ONCE)
        there = np.flatnonzero(np.bincount(states[group]))  # not by `unique`, which imports for 16 ms
        kinds = {kind for state in there.tolist() for kind in _KINDS.get(state, ())}
        entries, parts = find_entries(indexes, list(EntryKind) if kinds else [], batches[group], blocks)
        yield _Found(batches[group], states[group], entries, parts)


class _Found:
    """Some Batches that have ended, in order, and the entries of each of them, the highest token first."""

    def __init__(self, batches: Batches, states: _States, entries: Entries, parts: _Places) -> None:
        numbers = entries["batch"].astype(np.intp)
        self._batches, self._states, self._entries, self._parts = batches, states, entries, parts
        self._starts = np.searchsorted(numbers, batches, "left")
        self._ends = np.searchsorted(numbers, batches, "right")

    def left(
        self, read: Callable[[int, ResultEntry], _What | None], first: int = 0, end: int | None = None
    ) -> Iterator[_Left[_What]]:
        """Give what each of these Batches has left, as `read` gives it for part and entry; None does not count.

        `first` and `end` are places among the Batches.
        """
        places = slice(first, end)
        starts, ends = self._starts[places].tolist(), self._ends[places].tolist()
        base = starts[0]
        entries, parts = self._entries[base : ends[-1]].tolist(), self._parts[base : ends[-1]].tolist()
        candidates = list(zip(parts, map(ResultEntry._make, entries), strict=True))
        batches, states = self._batches[places].tolist(), self._states[places].tolist()
        for batch, state, start, stop in zip(batches, states, starts, ends, strict=True):
            chosen = _choose(_KINDS.get(state, _NOTHING), candidates[start - base : stop - base], read)
            yield batch, _STATES[state], *chosen

    def rows(self, open_parts: OpenParts) -> Iterator[bytes]:
        """Give the rows of these Batches, each of which has left some. Raises ResultDamaged.

        Most have left one entry, whose bytes lie behind those of the Batch before: such are read together.
        """
        is_plain = self._is_plain()
        if not is_plain.any():
            yield from self._rows_of_each(0, len(is_plain), open_parts)
            return
        at = self._starts.clip(max=len(self._entries) - 1)
        entries, parts = self._entries[at], self._parts[at]
        begins, ends = entries["offset"], entries["offset"] + entries["length"]
        is_apart = (parts[1:] != parts[:-1]) | (begins[1:] != ends[:-1])
        is_edge = (is_plain[1:] != is_plain[:-1]) | (is_plain[1:] & is_apart)
        plain = _Plain(parts.tolist(), begins.tolist(), ends.tolist(), entries["checksum"].tolist())
        for first, end in pairwise([0, *(np.flatnonzero(is_edge) + 1).tolist(), len(is_plain)]):
            if is_plain[first]:
                yield from self._rows_together(plain, first, end, open_parts)
            else:
                yield from self._rows_of_each(first, end, open_parts)

    def _is_plain(self) -> npt.NDArray[np.bool_]:
        """Tell which Batches have succeeded and have left a single entry, their rows."""
        is_plain: npt.NDArray[np.bool_] = self._states == BatchState.SUCCEEDED_WITH_ROWS.value
        is_plain &= self._ends - self._starts == 1
        is_plain[is_plain] = self._entries["kind"][self._starts[is_plain]] == EntryKind.ROWS.value
        return is_plain

    def _rows_together(self, plain: "_Plain", first: int, end: int, open_parts: OpenParts) -> Iterator[bytes]:
        while first < end:
            stop = max(first + 1, bisect_right(plain.ends, plain.begins[first] + _PIECE_BYTES, first, end))
            rows = plain.read(first, stop, open_parts)
            if rows is None:
                yield from self._rows_of_each(first, stop, open_parts)
            elif rows:
                yield rows
            first = stop

    def _rows_of_each(self, first: int, end: int, open_parts: OpenParts) -> Iterator[bytes]:
        for batch, _, rows, _ in self.left(open_parts.read, first, end):
            if rows is None:
                raise ResultDamaged(f"the rows of batch {batch} are damaged")
            if rows:
                yield rows


class _Plain(NamedTuple):
    """Where the rows of Batches lie that have left nothing else."""

    parts: list[int]
    begins: list[int]
    ends: list[int]
    checksums: list[int]

    def read(self, first: int, end: int, open_parts: OpenParts) -> bytes | None:
        """Give the rows of Batches that lie side by side; None where not all are what was written."""
        begin, length = self.begins[first], self.ends[end - 1] - self.begins[first]
        rows = open_parts.read_range(self.parts[first], begin, length)
        if rows is None or len(rows) != length:
            return None
        view = memoryview(rows)
        for place in range(first, end):
            if crc32(view[self.begins[place] - begin : self.ends[place] - begin]) != self.checksums[place]:
                return None
        return rows


def _choose(
    kinds: Collection[int],
    candidates: Sequence[tuple[int, ResultEntry]],
    read: Callable[[int, ResultEntry], _What | None],
) -> tuple[_What | None, _What | None]:
    """Give rows and failure with the highest token that has left all of these kinds."""
    if len(candidates) == 1 and kinds == _ONLY.get(candidates[0][1].kind):  # as nearly always
        what = read(*candidates[0])
        return (what, None) if EntryKind.ROWS in kinds else (None, what)
    for _, of_token in groupby(candidates if kinds else (), key=lambda candidate: candidate[1].token):
        wanted = list(of_token)
        if EntryKind.FAILURE not in kinds and any(entry.kind == EntryKind.FAILURE for _, entry in wanted):
            continue  # these rows are of some of the Items only: another attempt had failed in part, a Job before maybe
        wanted = [(part, entry) for part, entry in wanted if entry.kind in kinds]
        found = {entry.kind: what for part, entry in wanted if (what := read(part, entry)) is not None}
        if found.keys() == kinds:
            return found.get(EntryKind.ROWS), found.get(EntryKind.FAILURE)
    return None, None


def _count_attempts(folder: JobFolder, batches: Batches, job_id: str) -> npt.NDArray[np.intp]:
    """Count the failures that the Workers of this very Job have left of each Batch."""
    entries, _ = find_entries(list_indexes(folder, job_id), [EntryKind.FAILURE], batches)
    numbers = entries["batch"].astype(np.intp)
    return np.searchsorted(numbers, batches, "right") - np.searchsorted(numbers, batches, "left")


def _parse(failure: bytes | None) -> list[dict[str, Any]]:
    return [] if failure is None else [json.loads(line) for line in failure.split(b"\n") if line]
