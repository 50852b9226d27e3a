"""Finding the Items of a Batch that make it fail.

A Batch whose attempts are used up is halved, each half is tried, and so on, down to single Items. Where predict
raises, the Worker does this by itself, within one attempt. Where predict kills the Worker or takes too long, nothing
is left of the attempt but an account in the ledger of the Part that was in predict; what the next Worker is to try
follows from the accounts alone, so it need not be stored.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

MAX_DEATHS: Final = 3
"""What this many Workers died in is given up."""


class DeathKind(StrEnum):
    """Why a Worker died."""

    DIED = "died"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"  # it was killed because predict took too long


class Part(NamedTuple):
    """Consecutive Items of a Batch, counted from its first one; `end` is exclusive."""

    first: int
    end: int

    @property
    def size(self) -> int:
        """How many Items it has."""
        return self.end - self.first

    @property
    def text(self) -> str:
        """The Part in a user's words: `item 3`, or `items 3 to 5`."""
        return f"item {self.first}" if self.size == 1 else f"items {self.first} to {self.end - 1}"

    @property
    def halves(self) -> "tuple[Part, Part]":
        """Both halves of a Part of more than one Item; the first is no smaller."""
        middle = self.first + (self.size + 1) // 2
        return Part(self.first, middle), Part(middle, self.end)

    def contains(self, other: "Part") -> bool:
        """True where every Item of the other one is in this one too."""
        return self.first <= other.first and other.end <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The account of a Part of a Batch (mostly all of it): how often Workers died in it, and how the last one did."""

    batch: int
    part: Part
    deaths: int  # but those for taking too long
    timeouts: int
    cause: str  # to follow the words "its worker"
    kind: DeathKind

    @property
    def failure(self) -> dict[str, str]:
        """The account as users read of it: type and message."""
        return {"type": _FAILURE_TYPES[self.kind], "message": f"its worker {self.cause}"}


_FAILURE_TYPES: Final = {
    DeathKind.DIED: "WorkerDied",
    DeathKind.OUT_OF_MEMORY: "OutOfMemory",
    DeathKind.TIMED_OUT: "BatchTimeout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """A Part to be tried, or, where it is an Item that is given up, the account of what it did."""

    part: Part
    given_up: Death | None = None


def plan(roots: Sequence[Part], deaths: Iterable[Death], *, may_split: bool) -> list[PlannedPart]:
    """Give what is to be tried of a Batch, in the order of its Items.

    `roots` is all of it, or what an earlier Job has left of it. A root is split once `may_split` says that its
    attempts are used up by taking too long, or once it has been the death of MAX_DEATHS Workers; what came of a split
    is split at once. An Item is given up when it has taken too long alone, or has died alone and was in MAX_DEATHS
    deaths with all Parts that it was in.
    """
    accounts = {death.part: death for death in deaths}
    return [planned for root in roots for planned in _plan(root, accounts, is_root=True, before=0, may_split=may_split)]


def _plan(
    part: Part, accounts: Mapping[Part, Death], *, is_root: bool, before: int, may_split: bool
) -> Iterator[PlannedPart]:
    own = accounts.get(part)
    total = before + (own.deaths if own else 0)
    took_too_long = own is not None and own.timeouts > 0 and (may_split or not is_root)
    is_at_fault = own is not None and (not is_root or total >= MAX_DEATHS or took_too_long)
    if part.size == 1:
        is_given_up = own is not None and (total >= MAX_DEATHS or took_too_long)
        yield PlannedPart(part=part, given_up=own if is_given_up else None)
    elif is_at_fault or any(part != other and part.contains(other) for other in accounts):
        for half in part.halves:
            yield from _plan(half, accounts, is_root=False, before=total, may_split=may_split)
    else:
        yield PlannedPart(part=part)
