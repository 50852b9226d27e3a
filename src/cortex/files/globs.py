"""The globs of `includes` and `excludes`: which URLs a dataset takes.

No library has their meaning, and `re` would need exponential time for patterns like `{a,aa}{a,aa}…`. So a set of
patterns becomes one automaton (its states are the bits of an integer), from which the deterministic one is
made as far as URLs ask for it. Matching takes time in proportion to the URL, whatever the patterns are.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

MAX_PATTERN_CHARACTERS: Final = 1024  # as many as the longest key may have
MAX_PATTERNS_CHARACTERS: Final = 64 * 1024  # of all patterns of a set; keeps a step to microseconds

_MAX_KEPT_MOVES: Final = 50_000
_MAX_KEPT_BITS: Final = 2**28

_Range = tuple[str, str]
_ANYTHING: Final[Sequence[_Range]] = ()
_SLASH: Final[Sequence[_Range]] = (("/", "/"),)


class Globs:
    """Patterns of which any may match: `*` and `?` stop at `/`, `**` does not; `[a-c] [!a-c] {a,b} \\x`.

    A pattern matches a text as a whole, and case counts. May be used from any thread. Raises ValueError for a pattern
    that is not well formed; its message says what is wrong and at which character, counted from 1.
    """

    __slots__ = ("_automaton", "_start")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._automaton = _Automaton()
        for pattern in patterns:
            _Reader(pattern, self._automaton).read()
        self._automaton.finish()
        self._start = _State(self._automaton, self._automaton.closed(1))

    def match(self, text: str) -> bool:
        """Tell whether any of the patterns matches the whole text."""
        state = self._start
        for character in text:
            state = state[character]
        # What has been worked out is kept for the next text, but not without end.
        if self._automaton.is_full:
            self._automaton.forget()
            self._start = _State(self._automaton, self._automaton.closed(1))
        return state.is_final


class _State(dict[str, "_State"]):
    """A state of the deterministic automaton: where each character leads that has been met in it."""

    __slots__ = ("automaton", "bits", "is_final")

    def __init__(self, automaton: "_Automaton", bits: int) -> None:
        super().__init__()
        self.automaton = automaton
        self.bits = bits
        self.is_final = bool(bits & automaton.final)

    def __missing__(self, character: str) -> "_State":
        state = self.automaton.move(self.bits, character)
        self[character] = state
        return state


class _Automaton:
    """What may have been matched so far.

    States are numbered as they are made. Each accepts characters of one kind at most, and with them either stays or
    goes on to the next number; free moves lead to higher numbers only.
    """

    def __init__(self) -> None:
        self.final = 0
        self._accepts: list[tuple[Sequence[_Range], bool] | None] = [None]  # ranges, and whether all *but* these
        self._stays: list[bool] = [False]
        self._free: list[list[int]] = [[]]
        self._closures: list[int] = []
        self._free_bits = 0
        self._states: dict[int, _State] = {}
        self._kinds: dict[str, tuple[int, int]] = {}
        self._kept_moves = 0

    def add(self, *come_from: int) -> int:
        """Make a state that can be reached from these without a character."""
        number = len(self._accepts)
        self._accepts.append(None)
        self._stays.append(False)
        self._free.append([])
        for state in come_from:
            self._free[state].append(number)
        return number

    def accept(self, state: int, ranges: Sequence[_Range], *, negated: bool, stays: bool) -> None:
        """Have a state accept characters in these ranges, or all but these."""
        self._accepts[state] = (ranges, negated)
        self._stays[state] = stays

    def finish(self) -> None:
        """Work out where the free moves lead; no state is added any more."""
        self._closures = [0] * len(self._free)
        for state in reversed(range(len(self._free))):
            closure = 1 << state
            for other in self._free[state]:
                closure |= self._closures[other]
            self._closures[state] = closure
            self._free_bits |= (1 << state) if self._free[state] else 0

    def closed(self, bits: int) -> int:
        """Add the states that can be reached from these without a character."""
        starts = bits & self._free_bits
        while starts:
            lowest = starts & -starts
            reached = self._closures[lowest.bit_length() - 1]
            bits |= reached
            starts &= ~reached
        return bits

    def move(self, bits: int, character: str) -> _State:
        """Give the state after a character."""
        kinds = self._kinds.get(character)
        if kinds is None:
            kinds = self._kinds[character] = self._kinds_of(character)
        staying, going_on = kinds
        bits = self.closed((bits & staying) | (bits & going_on) << 1)
        self._kept_moves += 1
        state = self._states.get(bits)
        if state is None:
            state = self._states[bits] = _State(self, bits)
        return state

    @property
    def is_full(self) -> bool:
        return self._kept_moves > min(_MAX_KEPT_MOVES, _MAX_KEPT_BITS // len(self._accepts))

    def forget(self) -> None:
        """Drop what has been worked out for single characters and states."""
        self._states, self._kinds, self._kept_moves = {}, {}, 0

    def _kinds_of(self, character: str) -> tuple[int, int]:
        """Give the states that stay with a character, and those that go on."""
        accepting = [
            kind is not None and any(low <= character <= high for low, high in kind[0]) != kind[1]
            for kind in self._accepts
        ]
        return (
            _bits(accepts and stays for accepts, stays in zip(accepting, self._stays, strict=True)),
            _bits(accepts and not stays for accepts, stays in zip(accepting, self._stays, strict=True)),
        )


def _bits(flags: Iterable[bool]) -> int:
    # Through text, because setting one bit of an integer copies all of it.
    return int("".join("01"[flag] for flag in flags)[::-1], 2)


class _Reader:
    """Reads one pattern into an automaton."""

    def __init__(self, pattern: str, automaton: _Automaton) -> None:
        self._pattern = pattern
        self._automaton = automaton
        self._at = 0  # the character that is read next
        self._state = automaton.add(0)
        self._braces: list[tuple[int, int, list[int]]] = []  # where it stands, the state before it, ends of its parts

    def read(self) -> None:
        if len(self._pattern) > MAX_PATTERN_CHARACTERS:
            raise ValueError(f"has {len(self._pattern)} characters, must have at most {MAX_PATTERN_CHARACTERS}")
        while self._at < len(self._pattern):
            self._read_one()
        if self._braces:
            raise self._problem(self._braces[-1][0], "`{` is not closed: write `}` at the end, or `\\{`")
        self._automaton.final |= 1 << self._state

    def _read_one(self) -> None:
        at, character = self._at, self._next()
        match character:
            case "*":
                self._state = self._automaton.add(self._state)
                crosses = self._pattern[self._at : self._at + 1] == "*"
                self._at += crosses
                self._automaton.accept(self._state, _ANYTHING if crosses else _SLASH, negated=True, stays=True)
                self._state = self._automaton.add(self._state)
            case "?":
                self._accept(_SLASH, negated=True)
            case "[":
                self._read_class(at)
            case "{":
                self._braces.append((at, self._state, []))
                self._state = self._automaton.add(self._state)
            case "," if self._braces:
                _, before, ends = self._braces[-1]
                ends.append(self._state)
                self._state = self._automaton.add(before)
            case "}":
                if not self._braces:
                    raise self._problem(at, "`}` closes nothing: write `\\}` for the character itself")
                _, _, ends = self._braces.pop()
                self._state = self._automaton.add(*ends, self._state)
            case "\\":
                self._accept(_single(self._escaped(at)))
            case _:
                self._accept(_single(character))

    def _read_class(self, start: int) -> None:
        negated = self._pattern[self._at : self._at + 1] == "!"
        self._at += negated
        ranges = list(self._ranges(start))
        if not ranges:
            raise self._problem(start, f"`{self._pattern[start : self._at]}` names no character")
        self._accept(ranges, negated=negated)

    def _ranges(self, start: int) -> Iterator[_Range]:
        while (low := self._in_class(start)) is not None:
            if self._pattern[self._at : self._at + 1] != "-":
                yield low, low
                continue
            self._at += 1
            high = self._in_class(start)
            if high is None:
                raise self._problem(start, f"the range `{low}-` has no end: write `\\-` for the character itself")
            if high < low:
                raise self._problem(start, f"the range `{low}-{high}` runs backwards")
            yield low, high

    def _in_class(self, start: int) -> str | None:
        """Give the next character of a class, or None at its end."""
        if self._at == len(self._pattern):
            raise self._problem(start, "`[` is not closed: write `]` after the last character, or `\\[`")
        at, character = self._at, self._next()
        if character == "]":
            return None
        return self._escaped(at) if character == "\\" else character

    def _escaped(self, at: int) -> str:
        if self._at == len(self._pattern):
            raise self._problem(at, "`\\` at the end escapes nothing: write `\\\\` for the character itself")
        return self._next()

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _accept(self, ranges: Sequence[_Range], *, negated: bool = False) -> None:
        self._automaton.accept(self._state, ranges, negated=negated, stays=False)
        self._state = self._automaton.add()

    def _problem(self, at: int, what: str) -> ValueError:
        return ValueError(f"character {at + 1}: {what}")


def _single(character: str) -> Sequence[_Range]:
    return ((character, character),)
