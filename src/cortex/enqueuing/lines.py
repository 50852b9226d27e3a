"""The Items of files with one JSON value a line, from their bytes and without building the values."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Never, Protocol, Self

import msgspec

from cortex.enqueuing.plain import Numbers, plain_line_ends

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
BLOCK_BYTES: Final = 160 * 1024
"""What is best read at a time: it fits into a CPU's cache, and more would take a fresh mapping of memory each time."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_WHITE_SPACE: Final = b" \t\r"
_ONE: Final = msgspec.json.Decoder(msgspec.Raw)


class BadDataset(Exception):
    """The files hold what cannot be enqueued; the message says where, why, and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place between two lines of a file. The offset is one of the decompressed content."""

    offset: int = 0
    line: int = 1  # the number of the line that comes next


class Lines(Protocol):
    """Consecutive whole lines of a file and the Items in them."""

    @property
    def count(self) -> int:
        """How many Items there are."""

    @property
    def line_count(self) -> int:
        """How many lines there are, those without an Item among them."""

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        """Give these Items in groups of so many, each with commas between them; the last group may be short."""

    def number(self, index: int) -> int:
        """Give the line of an Item."""

    def position_after(self, count: int) -> Position:
        """Give the place behind this many Items, at least one; at the end of the file it may be one byte beyond."""

    def head(self, count: int) -> Self:
        """Give what has no more than this many Items, at least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlainLines:
    """Each line is an Item."""

    start: Position
    text: bytes  # without the last newline
    ends: Numbers  # where each line ends

    @property
    def count(self) -> int:
        return len(self.ends)

    @property
    def line_count(self) -> int:
        return len(self.ends)

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        begin = int(self.ends[first - 1]) + 1 if first else 0
        ends = (self.ends[first:end] - begin)[size - 1 :: size].tolist()
        text = self.text[begin : self.ends[end - 1]].replace(b"\n", b",")
        if (end - first) % size:
            ends.append(len(text))
        begins = [0, *(end + 1 for end in ends[:-1])]
        return [text[begin:end] for begin, end in zip(begins, ends, strict=True)]

    def number(self, index: int) -> int:
        return self.start.line + index

    def position_after(self, count: int) -> Position:
        return Position(offset=self.start.offset + int(self.ends[count - 1]) + 1, line=self.start.line + count)

    def head(self, count: int) -> Self:
        ends = self.ends[:count]
        return replace(self, text=self.text[: ends[-1]], ends=ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OtherLines:
    """Some lines are blank, or have white space, or are more than they seem at first sight."""

    start: Position
    text: bytes  # without the last newline
    items: Sequence[bytes]
    numbers: Sequence[int]  # the line of each Item

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def line_count(self) -> int:
        return self.text.count(b"\n") + 1

    def joined(self, first: int, end: int, size: int) -> list[bytes]:
        return [b",".join(self.items[begin : min(begin + size, end)]) for begin in range(first, end, size)]

    def number(self, index: int) -> int:
        return self.numbers[index]

    def position_after(self, count: int) -> Position:
        number = self.numbers[count - 1]
        ended = number + 1 - self.start.line
        length = sum(len(line) + 1 for line in self.text.split(b"\n", ended)[:ended])
        return Position(offset=self.start.offset + length, line=number + 1)

    def head(self, count: int) -> Self:
        return replace(self, items=self.items[:count], numbers=self.numbers[:count])


def read_lines(blocks: Iterable[bytes], url: str, start: Position) -> Iterator[Lines]:
    """Give the lines of a file from a place on, some at a time, in a memory of one block and one line.

    A block has at most MAX_LINE_BYTES. Raises BadDataset at the first line that is neither one JSON value nor blank.
    """
    pieces: list[bytes] = []  # of the line that the last block has not ended
    held = 0
    for block in blocks:
        end = block.rfind(b"\n")
        if held + (len(block) if end < 0 else block.find(b"\n")) > MAX_LINE_BYTES:
            _refuse(url, start.line, f"is longer than {MAX_LINE_BYTES} bytes (8 MiB)")
        if end < 0:
            pieces.append(block)
            held += len(block)
            continue
        text = b"".join([*pieces, block[:end]])
        lines = _check_lines(text, url, start)
        yield lines
        start = Position(offset=start.offset + len(text) + 1, line=start.line + lines.line_count)
        pieces, held = [block[end + 1 :]], len(block) - end - 1
    if held:
        yield _check_lines(b"".join(pieces), url, start)


def _check_lines(text: bytes, url: str, start: Position) -> Lines:
    if start.offset == 0 and text.startswith(BYTE_ORDER_MARK):
        start = Position(offset=len(BYTE_ORDER_MARK), line=start.line)
        text = text[len(BYTE_ORDER_MARK) :]
    ends = plain_line_ends(text)
    if ends is not None and b"\r" not in text:
        return _PlainLines(start=start, text=text, ends=ends)
    if ends is not None:
        items = [line.removesuffix(b"\r") for line in text.split(b"\n")]
        return _OtherLines(start=start, text=text, items=items, numbers=range(start.line, start.line + len(items)))
    stripped = (line.strip(_WHITE_SPACE) for line in text.split(b"\n"))
    numbered = [(number, line) for number, line in enumerate(stripped, start.line) if line]
    for number, line in numbered:
        _check_line(line, url, number)
    return _OtherLines(
        start=start, text=text, items=[line for _, line in numbered], numbers=[number for number, _ in numbered]
    )


def _check_line(line: bytes, url: str, number: int) -> None:
    try:
        line.decode()
        _ONE.decode(line)
    except UnicodeDecodeError as error:
        _refuse(url, number, f"is not UTF-8: the byte 0x{line[error.start]:02x} in column {error.start + 1}")
    except (msgspec.DecodeError, RecursionError):
        _ask_again(line.decode(), url, number)


def _ask_again(line: str, url: str, number: int) -> None:
    """Decide on a line that msgspec refuses: it knows no halves of surrogate pairs, which JSON allows."""
    try:
        _STRICT.decode(line)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            _refuse(url, number, f"holds more than one value: the second begins in column {error.colno}")
        if error.pos >= len(line) or error.msg.startswith("Unterminated string"):
            _refuse(url, number, "ends before its value does")
        _refuse(url, number, f"is not JSON: {error.msg[0].lower()}{error.msg[1:]} in column {error.colno}")
    except ValueError as error:
        _refuse(url, number, f"is not JSON: {error}")
    except RecursionError:
        _refuse(url, number, "is nested too deeply")


def _no_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is no number; write `null`")


_STRICT: Final = json.JSONDecoder(parse_constant=_no_constant)


def _refuse(url: str, number: int, problem: str) -> Never:
    raise BadDataset(f"`{url}`: line {number} {problem}; each line must hold one JSON value") from None
