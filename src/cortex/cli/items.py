"""The items of a job from a file of JSON lines: `cortex submit --items`."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from cortex.clients.local_files import absolute
from cortex.domain.batch import MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from cortex.domain.errors import InvalidSubmission

_BOM: Final = b"\xef\xbb\xbf"
_SHOWN_PROBLEMS: Final = 10
_HINT: Final = 'each line holds one item as JSON, such as {"id": 1}, "text" or 3'


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What a file of JSON lines holds."""

    count: int
    json: bytes | None  # all items as one JSON list; None where that is too much for a request


@contextmanager
def items_file(name: str) -> Iterator[Path]:
    """Give the file of this name; what comes from stdin (`-`) is kept in one as long as it is needed."""
    if name != "-":
        yield Path(absolute(name))
        return
    with tempfile.NamedTemporaryFile(prefix="items-", suffix=".jsonl") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        yield Path(kept.name)


def read_items(path: Path, name: str) -> Items:
    """Check every line of a file. Raises InvalidSubmission, which names the file as `name`, its bad lines and why."""
    try:
        with path.open("rb") as file:
            items = _read(file, "stdin" if name == "-" else name)
    except OSError as error:
        hint = "`--lines` takes URLs and folders" if "://" in name or path.is_dir() else _HINT
        raise InvalidSubmission(f"`{name}` cannot be read: {error.strerror}", hint=hint) from error
    if not items.count:
        raise InvalidSubmission(f"`{name}` holds no items", hint=_HINT)
    return items


def _read(file: BinaryIO, name: str) -> Items:
    lines: list[bytes] | None = []
    count = size_bytes = 0
    problems: list[str] = []
    for number, line in _lines(file):
        if problem := _problem(line):
            problems.append(f"{name}:{number}: {problem}")
            if len(problems) == _SHOWN_PROBLEMS:
                break
            continue
        count += 1
        size_bytes += len(line) + len(",")
        if size_bytes >= MAX_REQUEST_BYTES:
            lines = None
        if lines is not None:
            lines.append(line)
    if problems:
        raise InvalidSubmission("\n".join(problems), hint=_HINT)
    return Items(count=count, json=None if lines is None else b"[" + b",".join(lines) + b"]")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give the lines that are not blank, with their numbers."""
    for first in islice(file, 1):
        if text := first.removeprefix(_BOM).strip():
            yield 1, text
    for number, line in enumerate(file, 2):
        if text := line.strip():
            yield number, text


def _problem(line: bytes) -> str | None:
    try:
        line.decode()
        msgspec.json.decode(line, type=msgspec.Raw)  # only looked through, as the operator does
    except UnicodeDecodeError:
        return "is not UTF-8"
    except RecursionError:
        return "is nested too deeply"
    except msgspec.DecodeError as error:
        text = str(error).removeprefix("JSON is malformed: ")
        return f"is not JSON: {'ends too early' if text == 'Input data was truncated' else text}"
    size_bytes = len(msgspec.json.format(line, indent=-1)) if len(line) + 2 >= MAX_BATCH_BYTES else 0
    if size_bytes + len("[]") >= MAX_BATCH_BYTES:
        return f"has {size_bytes} bytes as compact JSON; an item must have less than {MAX_BATCH_BYTES} (256 KiB)"
    return None
