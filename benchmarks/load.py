"""The data: files of lines, written once in a run, and the batches that peers get of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

SMALL = tuple(b"[%d.%d,%d.%d,1.%d,0.%d]\n" % (4 + n % 4, n % 10, 2 + n % 3, n % 7, n % 9, n % 5) for n in range(150))
LARGE = b'{"id":%d,"name":"line %07d","text":"the quick brown fox jumps over the lazy dog","values":[0.5,1.25,%d.75]}\n'
BLOCK_LINES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many batches of the lines of a file."""

    path: Path
    batches: int
    batch_size: int
    is_whole: bool = True

    def cut(self, batches: int) -> "Load":
        """Take fewer of its batches, for the slow."""
        return self if batches >= self.batches else replace(self, batches=batches, is_whole=False)

    def lines(self) -> Iterator[bytes]:
        """Give the text of each batch, read as it is asked for."""
        with self.path.open("rb") as file:
            for _ in range(self.batches):
                yield b"".join(islice(file, self.batch_size))

    def items(self) -> list[list[Any]]:
        """Give the items of each batch, all in memory; asked for again, the same."""
        return _items(self)


@lru_cache(maxsize=1)
def _items(load: Load) -> list[list[Any]]:
    return [[orjson.loads(line) for line in text.splitlines()] for text in load.lines()]


def small_lines(folder: Path, batches: int, batch_size: int) -> Load:
    """Write a file of lines of about 18 bytes: the measures of flowers."""
    path = folder / f"small-{batches}.jsonl"
    if not path.exists():
        count = batches * batch_size
        block = b"".join(SMALL)
        with path.open("wb") as file:
            for _ in range(count // len(SMALL)):
                file.write(block)
            file.writelines(SMALL[: count % len(SMALL)])
    return Load(path=path, batches=batches, batch_size=batch_size)


def flowers(folder: Path, batches: int, batch_size: int) -> Load:
    """Write a file of what the forest predicts."""
    path = folder / f"flowers-{batches}.jsonl"
    if not path.exists():
        rows = ([n % 7 / 7, n % 11 / 11, n % 13 / 13, n % 17 / 17] for n in range(batches * batch_size))
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return Load(path=path, batches=batches, batch_size=batch_size)


def large_lines(folder: Path, batches: int, batch_size: int) -> Load:
    """Write a file of lines of about 105 bytes, as orjson would write the objects."""
    path = folder / f"large-{batches}.jsonl"
    if not path.exists():
        with path.open("wb") as file:
            for first in range(0, batches * batch_size, BLOCK_LINES):
                end = min(first + BLOCK_LINES, batches * batch_size)
                file.write(b"".join(LARGE % (n, n, n % 100) for n in range(first, end)))
    return Load(path=path, batches=batches, batch_size=batch_size)


def numbers(folder: Path, batches: int) -> Load:
    """Write a file of one number of ten digits in each line of 13 bytes, for as many batches."""
    path = folder / f"numbers-{batches}.jsonl"
    if not path.exists():
        with path.open("wb") as file:
            for first in range(0, batches, BLOCK_LINES):
                file.write(b"".join(b'"%010d"\n' % n for n in range(first, min(first + BLOCK_LINES, batches))))
    return Load(path=path, batches=batches, batch_size=1)
