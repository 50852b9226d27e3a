"""The result entries of a Job, found in the indexes of its Workers' parts, and the bytes that they are of.

Indexes are read block by block: that of millions of Batches, of which few are wanted, is not to be in memory.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import ENTRY_FIELDS, ResultEntry
from cortex.domain.checksum import crc32
from cortex.domain.layout import JobFolder

_MAX_OPEN_PARTS: Final = 64
_ENTRIES_AT_ONCE: Final = 8192
_ENTRY_TYPE: Final = np.dtype(ENTRY_FIELDS)

Entries = npt.NDArray[Any]
"""Result entries, as an array of the fields of domain.batch.ENTRY."""

Batches = npt.NDArray[np.intp]
"""Numbers of Batches, in ascending order."""


def list_indexes(folder: JobFolder, job_id: str | None = None) -> list[Path]:
    """Give the indexes of all parts, or of those that the Workers of this very Job have written.

    In the folder of a rerun lie the parts of the Jobs before it too.
    """
    return sorted(folder.workers.glob("*.index" if job_id is None else f"{job_id}-*.index"))


def read_blocks(index: Path, first_entry: int = 0) -> Iterator[Entries]:
    """Give the entries of an index from one on, some at a time; one that is not complete yet is left out."""
    with index.open("rb", buffering=0) as file:
        while len(block := _read_block(file, first_entry, _ENTRIES_AT_ONCE)):
            yield block
            first_entry += len(block)


def _read_block(file: BinaryIO, first_entry: int, count: int) -> Entries:
    size = _ENTRY_TYPE.itemsize
    data = os.pread(file.fileno(), count * size, first_entry * size)
    return np.frombuffer(data, _ENTRY_TYPE, len(data) // size)


@dataclass(slots=True)
class _Known:
    entries: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)  # the lowest and the highest Batch of each block


class KnownBlocks:
    """Which Batches lie in each block of the indexes, as far as they were read: the others need not be read again.

    An index only grows, so what is known of a block that is full stays true.
    """

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}

    def near(self, index: Path, lowest: int, highest: int) -> Iterator[Entries]:
        """Give the blocks of an index that may hold entries of Batches from the lowest to the highest."""
        known = self._known.setdefault(index, _Known())
        entries = index.stat().st_size // _ENTRY_TYPE.itemsize
        if entries != known.entries:
            del known.ranges[known.entries // _ENTRIES_AT_ONCE :]  # one that was not full
        numbers = [
            number
            for number in range(-(-entries // _ENTRIES_AT_ONCE))
            if number >= len(known.ranges) or _overlap(known.ranges[number], lowest, highest)
        ]
        if not numbers:
            return
        with index.open("rb", buffering=0) as file:
            for number in numbers:
                first = number * _ENTRIES_AT_ONCE
                block = _read_block(file, first, min(_ENTRIES_AT_ONCE, entries - first))
                known.ranges[number : number + 1] = [(int(block["batch"].min()), int(block["batch"].max()))]
                yield block
        known.entries = entries


def _overlap(known: tuple[int, int], lowest: int, highest: int) -> bool:
    return known[0] <= highest and known[1] >= lowest


def find_entries(
    indexes: Sequence[Path], kinds: Collection[int], wanted: Batches, blocks: KnownBlocks | None = None
) -> tuple[Entries, npt.NDArray[np.intp]]:
    """Give the entries of these Batches and the number of the part of each: by Batch, the highest token first."""
    blocks = blocks or KnownBlocks()
    found, parts = [np.empty(0, _ENTRY_TYPE)], [np.empty(0, np.intp)]
    for number, path in enumerate(indexes if len(wanted) else []):
        for block in blocks.near(path, int(wanted[0]), int(wanted[-1])):
            near = block[(block["batch"] >= wanted[0]) & (block["batch"] <= wanted[-1])]
            batches = near["batch"].astype(np.intp)
            is_wanted = wanted[np.searchsorted(wanted, batches).clip(max=len(wanted) - 1)] == batches
            of_batch = near[is_wanted & np.isin(near["kind"], list(kinds))]
            if len(of_batch):
                found.append(of_batch)
                parts.append(np.full(len(of_batch), number, np.intp))
    all_entries, all_parts = np.concatenate(found), np.concatenate(parts)
    highest_token_first = np.iinfo(np.uint64).max - all_entries["token"]
    order = np.lexsort((highest_token_first, all_entries["batch"]))
    return all_entries[order], all_parts[order]


class OpenParts:
    """The rows files that are being read: a Job may have had more Workers than files may be open."""

    def __init__(self, indexes: Sequence[Path]) -> None:
        self._paths = [index.with_suffix(".rows") for index in indexes]
        self._files: dict[int, BinaryIO | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, part: int, entry: ResultEntry) -> bytes | None:
        """Give the bytes of an entry of a part; None where they are not what was written."""
        data = self.read_range(part, entry.offset, entry.length)
        if data is None or len(data) != entry.length or crc32(data) != entry.checksum:
            return None
        return data

    def read_range(self, part: int, offset: int, length: int) -> bytes | None:
        """Give so many bytes of a part, fewer where there are not so many; None where there is no such part."""
        file = self._file(part)
        return None if file is None else os.pread(file.fileno(), length, offset)

    def _file(self, part: int) -> BinaryIO | None:
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
