"""How many Workers a Job is to have: an elastic one takes what is free, and gives back what others wait for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cortex.domain.timing import Timer
from cortex.operator.joblog import append_line
from cortex.operator.run.crew import Crew
from cortex.operator.run.dispatch import Dispatch

_LOOK_SECONDS: Final = 0.1
"""How often an elastic Job looks whether others wait: nobody tells it."""


@dataclass(slots=True, kw_only=True)
class Elastic:
    """See the module. Of a Job that is not elastic it asks nothing, and looks at nothing."""

    crew: Crew
    dispatch: Dispatch
    call_later: Timer
    look: Callable[[], None]  # has the Job see what is to be done now
    surplus: int = field(default=0, init=False)  # Workers to be given back, when they were last counted
    is_news: bool = field(default=False, init=False)  # they were fewer before
    _is_looking: bool = field(default=False, init=False)

    @property
    def wanted(self) -> int:
        """How many Workers there are to be at once; an elastic Job has no use for more than there are open Batches."""
        wanted = self.crew.wanted
        return max(1, self.dispatch.usable(wanted)) if self.crew.job.workers_min else wanted

    def count_surplus(self) -> int:
        """Count the Workers that are to be given back: never so many that less than the least are left."""
        before, self.surplus = self.surplus, 0
        job = self.crew.job
        if job.workers_min is not None and self.crew.setup is not None and not self.dispatch.is_done:
            least = min(job.workers_min, self.wanted)
            keeps = self.crew.engine.may_keep(job.id, least=least)
            self.surplus = 0 if keeps is None else max(0, self.crew.at_work - keeps)
        self.is_news = self.surplus > before
        if self.is_news:
            who = "1 worker is" if self.surplus == 1 else f"{self.surplus} workers are"
            append_line(self.crew.folder.log, f"{who} given back: others wait for compute")
        return self.surplus

    def watch(self) -> None:
        """Look again in a moment, as long as there are Workers that could be given back, or withdrawn."""
        if self.crew.job.workers_min is not None and self.crew.at_work and not self._is_looking:
            self._is_looking = True
            self.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._is_looking = False
        self.look()
