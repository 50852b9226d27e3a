"""What the runs of Jobs need of the operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.domain.timing import Background, Timer
from cortex.engines.engine import Engine
from cortex.storage.ledger import Ledger

Event = Callable[..., None]
"""Handles what has happened: a handler, its facts, and `of` which run it is; again and again if need be."""


class Exports(Protocol):
    """Who writes the results of Jobs where they want them."""

    def begin(self, ending: Job, folder: JobFolder, done: Callable[[str | None], None]) -> None:
        """Write the results of a Job, given as it is about to end; tell why that has failed, or None."""

    def cancel(self, job_id: str) -> None:
        """Write no further; `done` is told so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run needs of the operator."""

    ledger: Ledger
    engine: Engine
    now_ns: Callable[[], int]
    call_later: Timer
    background: Background
    exports: Exports
    event: Event
