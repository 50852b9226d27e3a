"""What the runs of Jobs need of the operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.engines.engine import Engine
from cortex.operator.run.backoff import Timer
from cortex.storage.ledger import Ledger

Event = Callable[..., None]
"""Handles what has happened: a handler, its facts, and `of` which run it is; again and again if need be."""


class Exports(Protocol):
    """Who writes the results of Jobs where they want them."""

    def begin(
        self,
        job: Job,
        folder: JobFolder,
        status: JobStatus,
        reason: str | None,
        counts: Counts,
        done: Callable[[str | None], None],
    ) -> None:
        """Write the results of a Job that is about to end like this; tell why that has failed, or None."""

    def cancel(self, job_id: str) -> None:
        """Write no further; `done` is told so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run needs of the operator."""

    ledger: Ledger
    engine: Engine
    now_ns: Callable[[], int]
    call_later: Timer
    background: Callable[[Callable[[], None], Callable[[], None]], None]
    exports: Exports
    event: Event
