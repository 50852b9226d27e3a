"""Large files of lines on the operator's own disk stay where they are: what is written is where their Batches begin.

Only plain lines can stay: a Batch of them is their bytes, with commas for the newlines. From the first other line on,
and from the first Batch that may be too large, a file is for those who copy.
"""

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Final

import numpy as np

from cortex.domain.batch import MAX_BATCH_BYTES, MAX_SEGMENT_BATCHES
from cortex.enqueuing.forks import in_forks
from cortex.enqueuing.lines import BLOCK_BYTES
from cortex.enqueuing.plain import Numbers, plain_beginning, plain_line_ends

_PIECE_BYTES: Final = 4 * 1024 * 1024  # what is checked by one process at a time
BRACKETS: Final = len("[]")
"""What a Batch has beyond the bytes of its lines."""


def batches_in_place(
    file: int, size: int, begin: int, *, batch_size: int, max_bytes: int, piece_bytes: int = _PIECE_BYTES
) -> Generator[Numbers, None, None]:
    """Give, for one Segment after the other, where each of its Batches begins, and where the last one ends.

    `file` is an open one of `size` bytes, and a line begins at `begin`. Every Batch is full. A Segment has no more
    than `max_bytes`, unless it is one Batch. Reads on all CPUs, in a flat memory. What cannot be read is for those who
    copy.
    """
    first = begin // piece_bytes
    numbers = range(first, -(-size // piece_bytes))
    pieces = in_forks(partial(_check_piece, file, size, begin, piece_bytes), numbers, len(numbers))
    held = np.array([begin], np.int64)
    with closing(pieces):
        line_ends = _read_pieces(pieces, first * piece_bytes, piece_bytes)
        for ends in _batch_ends(line_ends, begin, batch_size):
            held = np.concatenate([held, ends])
            while (count := _fitting(held, max_bytes)) < len(held) - 1:
                yield held[: count + 1]
                held = held[count:]
    if len(held) > 1:
        yield held


def _fitting(bounds: Numbers, max_bytes: int) -> int:
    """Count the Batches between these bounds that one Segment has room for."""
    count = int(np.searchsorted(bounds, bounds[0] + max_bytes, side="right")) - 1
    return min(max(count, 1), MAX_SEGMENT_BATCHES, len(bounds) - 1)


def _batch_ends(line_ends: Iterable[Numbers], begin: int, batch_size: int) -> Iterator[Numbers]:
    """Give where the Batches end, up to the first one that may be too large."""
    lines = 0  # of the Batch that has begun
    for more in line_ends:
        ends = more[batch_size - 1 - lines :: batch_size]
        lines = (lines + len(more)) % batch_size
        # A newline at the end is counted, because the end of a file may have none.
        is_too_large = np.diff(ends, prepend=begin) + BRACKETS >= MAX_BATCH_BYTES
        if is_too_large.any():
            yield ends[: int(is_too_large.argmax())]
            return
        if len(ends):
            begin = int(ends[-1])
        yield ends


def _read_pieces(pieces: Iterable[bytes], base: int, piece_bytes: int) -> Iterator[Numbers]:
    """Give where the lines end of one piece after the other, up to the first line that is not plain."""
    for piece in pieces:
        yield np.frombuffer(piece, "<u4", count=len(piece) // 4).astype(np.int64) + base
        if not piece[-1]:
            return
        base += piece_bytes


def _check_piece(file: int, size: int, begin: int, piece_bytes: int, number: int) -> bytes:
    """Check the lines that begin in a piece of a file, from a line's beginning on.

    Gives where each plain one ends, from the beginning of the piece, as 4 bytes, and whether all are plain, as one.
    """
    base = number * piece_bytes
    end = min(base + piece_bytes, size)
    found: list[Numbers] = []
    is_plain = True
    try:
        position = begin if base <= begin else _next_line(file, base, end)
        while is_plain and position < end:
            text = read_whole_lines(file, position, end, size)
            ends = plain_line_ends(text)
            is_plain = ends is not None
            ends = plain_beginning(text) if ends is None else ends
            found.append(np.minimum(position + ends + 1, size) - base)
            position += len(text) + 1
    except OSError:
        is_plain = False
    return np.concatenate([np.empty(0), *found]).astype("<u4").tobytes() + bytes([is_plain])


def _next_line(file: int, position: int, end: int) -> int:
    """Give where the first line begins that does not begin before a place; the end, or more, if none does before it."""
    position -= 1  # the newline may be there
    while position < end:
        block = os.pread(file, BLOCK_BYTES, position)
        newline = block.find(b"\n")
        if newline >= 0:
            return position + newline + 1
        position += len(block) or end
    return position


def read_whole_lines(file: int, position: int, end: int, size: int) -> bytes:
    """Give whole lines that begin before an end, without the last newline: at least one, and about a block.

    Nothing at all where the first one is too long for any Batch, or the file ends too early.
    """
    block = os.pread(file, min(BLOCK_BYTES, end - position), position)
    newline = block.rfind(b"\n")
    if newline >= 0 and (newline == len(block) - 1 or position + len(block) < end):
        return block[:newline]
    rest = os.pread(file, MAX_BATCH_BYTES, position + len(block))
    line_end = rest.find(b"\n")
    is_whole = line_end >= 0 or position + len(block) + len(rest) == size
    line = block[newline + 1 :] + (rest if line_end < 0 else rest[:line_end])
    if is_whole and len(line) < MAX_BATCH_BYTES:
        return block[: newline + 1] + line
    return block[: max(newline, 0)]
