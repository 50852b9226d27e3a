"""What is said to these processes, and by them."""

from dataclasses import dataclass
from typing import Final

from cortex.child_process.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What such a process is asked for."""

    file: str
    padding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Not the last word."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """The last word."""

    text: str


WORDS: Final = Words[Asked, Told | Last](request=Asked, events={"told": Told, "last": Last}, last=("last",))
