"""Rows, which are any JSON, as the columns of a table.

The keys of objects are the columns, in the order in which they first appear; of a row that is no object, all of it is
in the column `output`. Values are looked at as the text that they are: no digit of theirs is lost.
"""

import json
from collections.abc import Iterable, Mapping
from enum import Flag, auto
from typing import Final

import msgspec

OUTPUT: Final = "output"
INPUT: Final = "input"

MAX_COLUMNS: Final = 4096
"""Objects with more different keys than this are no records but dictionaries: a table of them would be mostly empty."""

_LONGEST_INTEGER: Final = 20  # characters of one that 64 bits may hold
_EXACT: Final = 2**53  # up to here a float holds every integer
_MAX_INT64: Final = 2**63 - 1


class Kind(Flag):
    """What values are, one or several; null is of every kind."""

    NULL = 0
    BOOLEAN = auto()
    INTEGER = auto()  # that a float holds, too
    LARGE = auto()  # an integer that 64 bits hold, and no float
    FLOAT = auto()
    STRING = auto()
    OTHER = auto()  # an array, an object, an integer beyond 64 bits


_LETTERS: Final = {
    ord("n"): Kind.NULL,
    ord("t"): Kind.BOOLEAN,
    ord("f"): Kind.BOOLEAN,
    ord('"'): Kind.STRING,
    ord("["): Kind.OTHER,
    ord("{"): Kind.OTHER,
}


def kind_of(value: bytes) -> Kind:
    """Say what a JSON text holds."""
    found = _LETTERS.get(value[0])
    if found is not None:
        return found
    if any(letter in value for letter in b".eE"):
        return Kind.FLOAT
    if len(value) > _LONGEST_INTEGER:
        return Kind.OTHER
    number = int(value)
    if -_EXACT <= number <= _EXACT:
        return Kind.INTEGER
    return Kind.LARGE if -_MAX_INT64 - 1 <= number <= _MAX_INT64 else Kind.OTHER


class Columns:
    """The columns of a Job's rows: they are known once all rows have been looked at."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self._is_too_wide = False

    def look_at(self, rows: Iterable[bytes]) -> None:
        """Take these rows into account."""
        for row in rows:
            for name, value in self.cells(row).items():
                self._kinds[name] = self._kinds.get(name, Kind.NULL) | kind_of(value)
            if len(self._kinds) > MAX_COLUMNS:
                self._is_too_wide = True
                self._kinds = {OUTPUT: Kind.OTHER}

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """What each column holds; there is always one."""
        return self._kinds or {OUTPUT: Kind.NULL}

    @property
    def input_name(self) -> str:
        """What the column of the inputs is called: `input`, unless rows have one of this name."""
        name = INPUT
        while name in self._kinds:
            name = f"_{name}"
        return name

    def cells(self, row: bytes) -> Mapping[str, bytes]:
        """Give the JSON text of each column that a row has."""
        if self._is_too_wide or row[:1] != b"{":
            return {OUTPUT: row}
        try:
            return {name: bytes(value) for name, value in msgspec.json.decode(row, type=dict[str, msgspec.Raw]).items()}
        except msgspec.DecodeError:  # halves of surrogate pairs, which JSON allows
            return {_spelled(name): json.dumps(value).encode() for name, value in json.loads(row).items()}


def read_string(value: bytes) -> str:
    """Give the string that a JSON text holds; half a surrogate pair, which no file can hold, as `\\udXXX`."""
    if b"\\" not in value:
        return value[1:-1].decode()
    return _spelled(json.loads(value))


def _spelled(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
