"""The result entries of a Job, found in the indexes of its Workers' parts, and the bytes that they are of.

Indexes are read block by block: that of millions of Batches, of which few are wanted, is not to be in memory.
"""

import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import ENTRY_FIELDS, ResultEntry
from cortex.domain.layout import JobFolder

_MAX_OPEN_PARTS: Final = 64
_ENTRIES_AT_ONCE: Final = 65536
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
    with index.open("rb") as file:
        file.seek(first_entry * _ENTRY_TYPE.itemsize)
        while len(block := np.fromfile(file, _ENTRY_TYPE, _ENTRIES_AT_ONCE)):
            yield block


def find_entries(
    indexes: Sequence[Path], kinds: Collection[int], wanted: Batches
) -> tuple[Entries, npt.NDArray[np.intp]]:
    """Give the entries of these Batches and the number of the part of each: by Batch, the highest token first."""
    found, parts = [np.empty(0, _ENTRY_TYPE)], [np.empty(0, np.intp)]
    for number, path in enumerate(indexes if len(wanted) else []):
        for block in read_blocks(path):
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
        file = self._file(part)
        if file is None:
            return None
        data = os.pread(file.fileno(), entry.length, entry.offset)
        return data if len(data) == entry.length and zlib.crc32(data) == entry.checksum else None

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
