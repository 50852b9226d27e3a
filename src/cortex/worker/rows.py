"""What predict returned, as JSON lines, and where a Worker keeps it until the Job's results are read."""

import errno
import os
from pathlib import Path
from typing import Any, Final

from cortex.domain.batch import ENTRY, EntryKind
from cortex.domain.checksum import crc32
from cortex.predictor import json_values
from cortex.worker.kernel import begin_write_back, write_all

MAX_ENTRY_BYTES: Final = 2**32 - 1
"""More has no room in an entry."""

_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024
"""After so many, the kernel is asked to begin writing: the sync at the end of the Job finds little left to do."""


class NotJson(Exception):
    """What predict returned cannot be written as JSON."""


def decode(payload: bytes) -> list[Any]:
    """Turn the payload of a Batch into the list that predict gets."""
    items: list[Any] = json_values.read(payload)
    return items


def encode(value: Any, payload_length: int) -> tuple[bytes, int]:
    """Turn what predict returned into JSON lines, and count them.

    A list (tuple, array) as long as the payload is one row an item; anything else is one row. Raises NotJson.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    rows = value if isinstance(value, list | tuple) and len(value) == payload_length else [value]
    try:
        return json_values.write_lines(rows), len(rows)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(
            f"predict returned a value that is not JSON: {error}."
            " Return None, or a JSON value such as a list with one row per item"
        ) from error


class RowsFile:
    """The append-only file of one Worker's rows, and its index.

    Promise: when `append` returns, bytes and entry are in the page cache, so the Batch's state byte may be stored.
    """

    def __init__(self, rows: Path, index: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._rows = os.open(rows, flags, 0o600)
        self._index = os.open(index, flags, 0o600)
        self._end = self._written_back = os.fstat(self._rows).st_size
        self._index_end = os.fstat(self._index).st_size

    def append(self, batch: int, token: int, kind: EntryKind, data: bytes, rows: int) -> None:
        """Keep what a Batch returned. Raises OSError, for example when the disk is full, and keeps nothing then."""
        if len(data) > MAX_ENTRY_BYTES:
            raise OSError(errno.EFBIG, f"a batch may leave {MAX_ENTRY_BYTES} bytes, this one would leave {len(data)}")
        entry = ENTRY.pack(batch, token, self._end, len(data), rows, kind, crc32(data))
        try:
            write_all(self._rows, data)
            write_all(self._index, entry)
        except OSError:
            os.ftruncate(self._rows, self._end)
            os.ftruncate(self._index, self._index_end)
            raise
        self._end += len(data)
        self._index_end += ENTRY.size
        if self._end - self._written_back >= _WRITE_BACK_BYTES:
            begin_write_back(self._rows, self._written_back, self._end)
            self._written_back = self._end

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._rows)
        os.close(self._index)
