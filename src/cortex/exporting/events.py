"""What an exporting process is asked for, and what it tells: one JSON object a line."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

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

    parent: int  # the process that asks; without it, nothing is done
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

LAST_WORDS: Final = (Checked, Refused, Written, WritingFailed, Verified)

_NAMES: Final[Mapping[type[Any], str]] = {
    Checked: "checked",
    Refused: "refused",
    FileWritten: "file",
    Troubled: "troubled",
    Written: "written",
    WritingFailed: "failed",
    Verified: "verified",
}
_TYPES: Final = {name: kind for kind, name in _NAMES.items()}


def write_request(request: Request) -> bytes:
    """Give a request as a JSON object."""
    return msgspec.json.encode(request)


def read_request(text: bytes) -> Request:
    """Read what `write_request` gave."""
    return msgspec.json.decode(text, type=Request)


def write_event(event: Event) -> bytes:
    """Give an event as a line."""
    return msgspec.json.encode({"event": _NAMES[type(event)], **asdict(event)}) + b"\n"


def read_event(line: bytes) -> Event:
    """Read what `write_event` gave."""
    plain = msgspec.json.decode(line)
    event: Event = msgspec.convert(plain, _TYPES[plain.pop("event")])
    return event
