"""What predict returned, as JSON lines, and where a Worker keeps it until the Job's results are read."""

import errno
import json
import math
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from cortex.domain.batch import ENTRY, EntryKind
from cortex.worker.kernel import begin_write_back

orjson: ModuleType | None
try:
    import orjson
except ImportError:  # a user's environment may lack it
    orjson = None

_AS_ROW: Final[int] = 0 if orjson is None else orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
_WITH_ANY_KEYS: Final[int] = 0 if orjson is None else _AS_ROW | orjson.OPT_NON_STR_KEYS  # which takes a fifth longer

MAX_ENTRY_BYTES: Final = 2**32 - 1
"""More has no room in an entry."""

_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_LONG_NUMBER: Final = b"0" * 19
_EVERY_FOURTH: Final = slice(None, None, 4)
_FOURTH_OF_LONG_NUMBER: Final = b"0" * 4
_BEFORE_INTEGER: Final = b"[,:- \t\r\n"

_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024
"""After so many, the kernel is asked to begin writing: the sync at the end of the Job finds little left to do."""


class NotJson(Exception):
    """What predict returned cannot be written as JSON."""


def _lines(rows: Iterable[Any]) -> bytes:
    """Give each row as a line of JSON. Raises TypeError, ValueError or RecursionError where one has no JSON form."""
    if orjson is not None:
        dumps = orjson.dumps
        try:
            return b"".join([dumps(row, None, _AS_ROW) for row in rows])
        except TypeError:  # keys that are no strings, or integers beyond 64 bits, for example
            pass
    return b"".join([_line(row) for row in rows])


def _line(row: Any) -> bytes:
    if orjson is not None:
        with suppress(TypeError):  # what nothing knows is refused below
            fast: bytes = orjson.dumps(row, None, _WITH_ANY_KEYS)
            return fast
    try:
        return _slow_dumps(row) + b"\n"
    except ValueError:  # what is no number in JSON
        return _slow_dumps(_without_nan(row)) + b"\n"


def _slow_dumps(value: Any) -> bytes:
    options: dict[str, Any] = {"separators": (",", ":"), "allow_nan": False, "default": _as_list}
    try:
        return json.dumps(value, **options, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can only escape
        return json.dumps(value, **options).encode()


def _as_list(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _without_nan(value: Any) -> Any:
    """Make NaN and infinities null, as the fast encoder does."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return _without_nan(value.tolist()) if hasattr(value, "tolist") else value


def decode(payload: bytes) -> list[Any]:
    """Turn the payload of a Batch into the list that predict gets."""
    items: list[Any]
    # The fast decoder turns integers beyond 64 bits into floats, and refuses half a surrogate pair.
    if orjson is not None and not _has_long_number(payload):
        try:
            items = orjson.loads(payload)
        except ValueError:
            pass
        else:
            return items
    items = json.loads(payload)
    return items


def _has_long_number(payload: bytes) -> bool:
    """Tell whether an integer of 19 digits may be there: none that is shorter is beyond 64 bits.

    So many digits cover four bytes that are four apart, so most payloads are told by a fourth of their bytes. By fewer
    it is seldom told: decimals such as `[0.5,1.25,99.75]` have three digits that are six apart.
    """
    if _FOURTH_OF_LONG_NUMBER not in payload[_EVERY_FOURTH].translate(_DIGITS_AS_ZEROS):
        return False
    zeros = payload.translate(_DIGITS_AS_ZEROS)
    at = zeros.find(_LONG_NUMBER)
    while at > 0 and payload[at - 1] not in _BEFORE_INTEGER:  # of a fraction, or of a text
        at = zeros.find(_LONG_NUMBER, at + len(_LONG_NUMBER))
    return at >= 0


def encode(value: Any, payload_length: int) -> tuple[bytes, int]:
    """Turn what predict returned into JSON lines, and count them.

    A list (tuple, array) as long as the payload is one row an item; anything else is one row. Raises NotJson.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    rows = value if isinstance(value, list | tuple) and len(value) == payload_length else [value]
    try:
        return _lines(rows), len(rows)
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
        entry = ENTRY.pack(batch, token, self._end, len(data), rows, kind, zlib.crc32(data))
        try:
            _write_all(self._rows, data)
            _write_all(self._index, entry)
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


def _write_all(file: int, data: bytes) -> None:
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])
