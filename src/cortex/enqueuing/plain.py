"""Plain lines: each is one JSON value and nothing else. Most files have no others, and many are checked at once."""

from bisect import bisect_left
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[Any]

NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_LINES: Final = msgspec.json.Decoder(msgspec.Raw)


def _table(characters: bytes) -> Numbers:
    table = np.zeros(256, bool)
    table[list(characters)] = True
    return table


_NEVER_FIRST: Final = _table(b" \t\r\n]},:")
_NEVER_LAST: Final = _table(b" \t\r\n[{,:")


def plain_line_ends(text: bytes) -> Numbers | None:
    """Give where each line ends (before its newline), or None unless all are plain: one JSON value, maybe a `\\r`.

    The text has no newline behind its last line. It is read as a stream of values with white space between them. A
    newline could then be inside a value only between two of its tokens (in a string it is an error): after `[`, `{`,
    `,` or `:`, or before `]`, `}`, `,` or `:`, white space aside. No line begins or ends so, or with white space; so
    every line holds whole values, at least one. With as many values as lines, each line holds one.

    Whether a line is plain does not depend on the others: it does not matter how a file is cut into texts.
    """
    if not text or text[-1] == NEWLINE or _NEVER_FIRST[text[0]]:
        return None
    characters = np.frombuffer(text, np.uint8)
    newlines = np.flatnonzero(characters == NEWLINE)
    ends = np.append(newlines, len(text))
    if _NEVER_FIRST[characters[newlines + 1]].any() or not _end_well(characters, ends):
        return None
    try:
        if not text.isascii():
            text.decode()  # msgspec does not look at the bytes of strings
        values = _LINES.decode_lines(text)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    return ends if len(values) == len(ends) else None


def _end_well(characters: Numbers, ends: Numbers) -> bool:
    last = characters[ends - 1]
    if not _NEVER_LAST[last].any():
        return True
    # No line begins with a `\r`, so there is something before one that ends a line.
    return not _NEVER_LAST[np.where(last == _RETURN, characters[ends - 2], last)].any()


def plain_beginning(text: bytes) -> Numbers:
    """Give where each line ends that comes before the first one that is not plain."""
    ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == NEWLINE), len(text))
    # Lines are plain or not whatever comes after them, so the beginning can be found by halves.
    count = bisect_left(ends, 1, key=lambda end: plain_line_ends(text[:end]) is None)
    return ends[:count]
