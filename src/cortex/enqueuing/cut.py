"""Items become Batches: JSON arrays of less than 256 KiB."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from cortex.domain.batch import MAX_BATCH_BYTES
from cortex.domain.source import FileSource
from cortex.enqueuing.lines import BadDataset

Item = bytes | msgspec.Raw

_STRING_OR_SPACE: Final = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[ \t\r\n]++')
_BRACKETS: Final = len("[]") - 1  # a comma is counted with each group, which is one too many


class BatchTooLarge(Exception):
    """Items do not fit into a Batch, as compact JSON."""

    def __init__(self, *, first: int, count: int, size: int) -> None:
        super().__init__(f"a batch of {size} bytes as compact JSON, must be less than {MAX_BATCH_BYTES} (256 KiB)")
        self.first = first  # the index of the first of the Items
        self.count = count


def join_batches(items: Sequence[Item], batch_size: int) -> list[bytes]:
    """Give the Batches of these Items; the last may be short. White space does not count. Raises BatchTooLarge."""
    joined = [b",".join(items[first : first + batch_size]) for first in range(0, len(items), batch_size)]
    return _enclose(joined, batch_size, len(items))


def _enclose(joined: Sequence[bytes], batch_size: int, count: int) -> list[bytes]:
    """Make each group of joined Items, `count` of them in all, a Batch. Raises BatchTooLarge."""
    batches = [b"[%b]" % group for group in joined]
    if max(map(len, batches), default=0) < MAX_BATCH_BYTES:
        return batches
    return [
        batch if len(batch) < MAX_BATCH_BYTES else _compact(batch, first, min(batch_size, count - first))
        for first, batch in zip(range(0, count, batch_size), batches, strict=True)
    ]


def _compact(batch: bytes, first: int, count: int) -> bytes:
    batch = _without_white_space(batch)
    if len(batch) >= MAX_BATCH_BYTES:
        raise BatchTooLarge(first=first, count=count, size=len(batch))
    return batch


def _without_white_space(text: bytes) -> bytes:
    # Not by msgspec: it refuses halves of surrogate pairs, and both it and json recurse.
    return _STRING_OR_SPACE.sub(rb"\1", text)


class Portion(Protocol):
    """Some of the Items of a dataset, in order."""

    @property
    def count(self) -> int:
        """How many Items there are."""

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        """Give these Items in groups of so many, each with commas between them; the last group may be short."""

    def place(self, index: int) -> str:
        """Say where an Item comes from, in a user's words."""

    def cursor_after(self, count: int) -> Mapping[str, Any]:
        """Say where the Items go on after this many, at least one, of these."""


@dataclass(slots=True)
class Cutter:
    """Cuts Items that come in Portions into Batches that do not care about Portions."""

    source: FileSource
    _carried: list[bytes] = field(default_factory=list)  # groups of Items that wait for the rest of their Batch
    _carried_count: int = 0  # of these Items
    _carried_bytes: int = _BRACKETS  # what their Batch would have
    _carried_from: str = ""  # where the first of them comes from

    @property
    def carried(self) -> int:
        """How many Items wait for the rest of their Batch."""
        return self._carried_count

    def cut(self, portion: Portion) -> list[bytes]:
        """Give the Batches that end in this Portion. Raises BadDataset."""
        size, carried = self.source.batch_size, self.carried
        end = (carried + portion.count) // size * size - carried  # where in the Portion the last of them ends
        if end <= 0:
            self._carry(portion, 0)
            return []
        groups, first = list[bytes](), 0
        if carried:
            first = size - carried
            groups = [b",".join([*self._carried, *portion.joined(0, first, first)])]
        if first < end:
            groups += portion.joined(first, end, size)
        try:
            batches = _enclose(groups, size, carried + end)
        except BatchTooLarge as error:
            last = portion.place(error.first + error.count - 1 - carried)
            begin = self._carried_from if error.first < carried else portion.place(error.first - carried)
            raise self._too_large(error, begin, last) from None
        self._carried, self._carried_count, self._carried_bytes = [], 0, _BRACKETS
        self._carry(portion, end)
        return batches

    def finish(self) -> list[bytes]:
        """Give the last Batch, if one has begun."""
        count, carried = self._carried_count, self._carried
        self._carried, self._carried_count = [], 0
        return _enclose([b",".join(carried)], self.source.batch_size, count) if count else []

    def _carry(self, portion: Portion, begin: int) -> None:
        count = portion.count - begin
        if not count:
            return
        if not self._carried:
            self._carried_from = portion.place(begin)
        more = portion.joined(begin, portion.count, count)
        self._carried += more
        self._carried_count += count
        self._carried_bytes += sum(map(len, more)) + len(more)
        if self._carried_bytes >= MAX_BATCH_BYTES:
            self._make_carried_smaller(portion)

    def _make_carried_smaller(self, portion: Portion) -> None:
        """Take out the white space of what is carried; refuse what is too large already: it would not end in memory."""
        try:
            (batch,) = _enclose([b",".join(self._carried)], self._carried_count, self._carried_count)
        except BatchTooLarge as error:
            raise self._too_large(error, self._carried_from, portion.place(portion.count - 1)) from None
        self._carried = list(map(_without_white_space, self._carried))
        self._carried_bytes = len(batch)

    def _too_large(self, error: BatchTooLarge, first: str, last: str) -> BadDataset:
        if error.count == 1:
            return BadDataset(f"{first}: {error}; store the item elsewhere and submit its URL")
        return BadDataset(f"{first} to {last}: {error}; make `{self.source.kind.value}.batch_size` smaller")
