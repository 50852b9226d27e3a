"""The Items of files with one JSON value a line, from their bytes and without building the values."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Never

import msgspec

MAX_LINE_BYTES: Final = 8 * 1024 * 1024

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_WHITE_SPACE: Final = b" \t\r"
_MANY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: Final = msgspec.json.Decoder(msgspec.Raw)

Item = bytes | msgspec.Raw


class BadDataset(Exception):
    """The files hold what cannot be enqueued; the message says where, why, and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place between two lines of a file. The offset is one of the decompressed content."""

    offset: int = 0
    line: int = 1  # the number of the line that comes next


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Consecutive whole lines of a file and the Items in them."""

    start: Position
    text: bytes  # without the last newline
    items: Sequence[Item]
    numbers: Sequence[int]  # the line of each Item

    def position_after(self, count: int) -> Position:
        """Give the place behind this many Items, at least one; at the end of the file it may be one byte beyond."""
        number = self.numbers[count - 1]
        ended = number + 1 - self.start.line
        length = sum(len(line) + 1 for line in self.text.split(b"\n", ended)[:ended])
        return Position(offset=self.start.offset + length, line=number + 1)


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
        yield _check_lines(text, url, start)
        start = Position(offset=start.offset + len(text) + 1, line=start.line + text.count(b"\n") + 1)
        pieces, held = [block[end + 1 :]], len(block) - end - 1
    if held:
        yield _check_lines(b"".join(pieces), url, start)


def _check_lines(text: bytes, url: str, start: Position) -> Lines:
    if start.offset == 0 and text.startswith(_BYTE_ORDER_MARK):
        start = Position(offset=len(_BYTE_ORDER_MARK), line=start.line)
        text = text[len(_BYTE_ORDER_MARK) :]
    items = _all_at_once(text)
    if items is not None:
        return Lines(start=start, text=text, items=items, numbers=range(start.line, start.line + len(items)))
    stripped = (line.strip(_WHITE_SPACE) for line in text.split(b"\n"))
    numbered = [(number, line) for number, line in enumerate(stripped, start.line) if line]
    for number, line in numbered:
        _check_line(line, url, number)
    return Lines(
        start=start, text=text, items=[line for _, line in numbered], numbers=[number for number, _ in numbered]
    )


def _all_at_once(text: bytes) -> Sequence[Item] | None:
    """Give the value of each line, or None if not every line is certain to be one value.

    As a list with a comma before each newline, n lines must give n elements none of which holds a newline. No element
    ends in a comma, so each of these n - 1 commas then lies between two elements; n elements have no other commas
    between them; so each line is one element. The last condition is needed: `[1`, `2]`, `3,4` are three elements, too.
    """
    try:
        if not text.isascii():
            text.decode()  # msgspec does not look at the bytes of strings
        items = _MANY.decode(b"[" + text.replace(b"\n", b",\n") + b"]")
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    if len(items) != text.count(b"\n") + 1 or b"\n" in b"".join(items):
        return None
    return items


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
