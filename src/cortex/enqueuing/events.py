"""What an enqueuing process is asked for, and what it tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cortex.child_process.words import Words
from cortex.domain.job import SegmentRange
from cortex.domain.source import FileSource

STREAMED_SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Small enough that a restarted enqueuer loses seconds, large enough that a terabyte has 16 thousand Segments."""

IN_PLACE_FROM_BYTES: Final = 16 * 1024 * 1024
"""Files of lines that have as many are not copied Batch by Batch: those of this machine stay where they are, and what
comes from elsewhere, or is decompressed, is written down as it comes. To copy smaller ones takes no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where an enqueuer goes on: after the last Segment that was published, with the cursor that came with it."""

    number: int  # of the next Segment
    first: int  # number of the next Batch
    cursor: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an enqueuing process is asked for."""

    source: FileSource
    allowed: Sequence[str] | None  # the folders whose files may be read; None for all
    folder: str | None = None  # of the Job; where something is enqueued
    resume: Resume | None = None
    segment_bytes: int = STREAMED_SEGMENT_BYTES
    in_place_from_bytes: int = IN_PLACE_FROM_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """There is a file to enqueue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The source cannot be enqueued as it is."""

    message: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Some of the files, in the order in which they are enqueued."""

    urls: Sequence[str]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllListed:
    """All files have been listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBegun:
    """The content of this file comes next."""

    url: str
    number: int = 0  # counted from 0 over the dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """So much has been cut by now, in all."""

    files: int
    batches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCut:
    """A Segment is complete and on the disk. Resume after it with `Resume(number + 1, end, cursor)`."""

    segment: SegmentRange
    items: int
    cursor: Mapping[str, Any]

    @property
    def resume(self) -> Resume:
        """Where to go on after this Segment."""
        return Resume(number=self.segment.number + 1, first=self.segment.end, cursor=self.cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The enqueuer died (how) and goes on after the last Segment."""

    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """The operator's disk is full; it goes on after the last Segment when it has room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """Every Item is in a Segment that was told."""

    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuingFailed:
    """The rest of the files cannot be enqueued."""

    reason: str


Answer = Checked | Refused | Listed | AllListed
Happening = FileBegun | Progress | SegmentCut | Restarted | NoRoom | Enqueued | EnqueuingFailed
Event = Answer | Happening

WORDS: Final = Words[Request, Event](
    request=Request,
    events={
        "checked": Checked,
        "refused": Refused,
        "listed": Listed,
        "listed_all": AllListed,
        "file": FileBegun,
        "progress": Progress,
        "segment": SegmentCut,
        "restarted": Restarted,
        "no_room": NoRoom,
        "done": Enqueued,
        "failed": EnqueuingFailed,
    },
    last=("checked", "refused", "listed_all", "done", "failed"),
)
