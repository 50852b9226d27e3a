"""What an exporting process is asked for, and what it tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cortex.child_process.words import Words
from cortex.domain.isolation import Death
from cortex.domain.job import Job, SegmentRange
from cortex.domain.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A Job with all that its files do not say."""

    job: Job  # without its config, which may hold what JSON libraries do not agree on
    folder: str
    segments: Sequence[SegmentRange]
    deaths: Sequence[Death]
    facts: Mapping[str, Any]  # the Job as its manifest describes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an exporting process is asked for."""

    allowed: Sequence[str] | None  # the folders of this machine that may be used; None for all
    output: Output | None = None  # to be checked
    ended: Ended | None = None  # to be written, or verified
    is_success: bool = False  # whether `_SUCCESS` is written
    part_bytes: int | None = None
    patience_seconds: float = 0.0  # how long a storage that does not answer is asked again


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Results can be written there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Results cannot be written there."""

    message: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWritten:
    """This file is where it belongs."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubled:
    """A file cannot be written at the moment; that is tried again."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """All is written."""

    files: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingFailed:
    """The results cannot be written."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What has been found; see `verify`."""

    findings: Mapping[str, Any]


Event = Checked | Refused | FileWritten | Troubled | Written | WritingFailed | Verified

WORDS: Final = Words[Request, Event](
    request=Request,
    events={
        "checked": Checked,
        "refused": Refused,
        "file": FileWritten,
        "troubled": Troubled,
        "written": Written,
        "failed": WritingFailed,
        "verified": Verified,
    },
    last=("checked", "refused", "written", "failed", "verified"),
)
