"""What a process that looks a model up, and fetches it, is asked for, and what it tells."""

from collections.abc import Sequence
from dataclasses import dataclass

from cortex.child_process.words import Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which model is wanted, and where it is to be kept."""

    predictor_type: str
    url: str
    allowed: Sequence[str] | None  # the folders of this machine whose files may be read; None for all
    models: str  # the folder of all that were fetched
    unfinished: str  # where this one lies until it is whole: on the same disk, and removed by whoever started this


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """The model is being fetched."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The model can be loaded."""

    path: str
    fetched_bytes: int = 0  # now; 0 where it was here
    doubt: str = ""  # why it is not known whether this is still the model's content; empty where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The model cannot be had."""

    reason: str
    hint: str | None = None


Event = Fetching | Here | Failed

WORDS: Words[Request, Event] = Words(
    Request, {"fetching": Fetching, "here": Here, "failed": Failed}, last=("here", "failed")
)
