"""What a depositing process is asked for, and what it tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cortex.child_process.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Which rows are to be copied into a file of the operator's."""

    job_id: str
    worker: str
    name: str  # a RowsName
    rows: str  # the path of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a depositing process is asked for."""

    root: str  # see `places.root_of`
    job_id: str = ""
    folder: str = ""  # of the Job whose Segments are to be left there
    pieces: Sequence[tuple[int, int]] = ()  # the number of a Segment, and of a piece of it, in this order
    copies: Sequence[Copy] = ()
    jobs: Sequence[str] = ()  # those to be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A piece of a Segment can be read there."""

    segment: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The items of a Segment are not what they were: nothing more of it will be there."""

    segment: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """These rows are in the operator's file: the copy of this index."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCopied:
    """These rows cannot be had; or, where `is_full` says so, they cannot be written yet."""

    index: int
    reason: str
    is_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """There is something of this Job."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """All of it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It cannot be done, or not all of it."""

    reason: str
    hint: str | None = None


Event = Stored | Missing | Copied | NotCopied | Found | Done | Failed

WORDS: Final = Words[Request, Event](
    request=Request,
    events={
        "stored": Stored,
        "missing": Missing,
        "copied": Copied,
        "not_copied": NotCopied,
        "found": Found,
        "done": Done,
        "failed": Failed,
    },
    last=("done", "failed"),
)
